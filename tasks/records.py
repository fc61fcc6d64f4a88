"""What each flow reads from the store and adds to it; a session comes in, frames and counts go out.

Knows the tables' joins. Decides nothing: states, verdicts and balances are the models'.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any

import pandas as pd
from sqlalchemy import Select, and_, func, insert, select
from sqlalchemy.orm import Session

from models import CallbackError
from models.tables import (
    Assignment,
    AssignmentEnd,
    AssignmentPurpose,
    Campaign,
    CampaignGroup,
    CampaignStratum,
    Case,
    CaseGround,
    CaseMerge,
    Draw,
    DrawnCustomer,
    Evidence,
    Exclusion,
    Finding,
    IntakeTally,
    Mail,
    MailItem,
    MailOutcome,
    Message,
    Opinion,
    ProgrammeYear,
    Pull,
    Quota,
    Report,
    ReturnRow,
    RowProblem,
    Seed,
    SelfCheck,
    Sighting,
    Snapshot,
    SourceFile,
    Stratum,
    Verdict,
    Waiver,
)


class NoSnapshot(CallbackError):
    """A table that was never pulled for the day it is needed of."""


class UnknownCampaign(CallbackError):
    """A campaign that was never drawn."""


def frame(session: Session, query: Select[Any]) -> pd.DataFrame:
    """The rows of a query, with its labels as columns; typed columns even when empty."""
    result = session.execute(query)
    return pd.DataFrame.from_records([tuple(row) for row in result], columns=list(result.keys()))


def _latest(column: Any, by: Any, key: Any) -> Any:
    """Condition: the row holds the highest `by` of its `key` (aliased self-join in a scalar subquery)."""
    other = column.class_.__table__.alias()
    return column == select(func.max(other.c[by.key])).where(other.c[key.key] == key).scalar_subquery()


# ---- pull --------------------------------------------------------------------------------------------------


def find_pull(session: Session, as_of: date, manifest_sha256: str) -> Pull | None:
    """The pull of the same files under the same profile for the same day."""
    return session.scalar(select(Pull).where(Pull.as_of == as_of, Pull.manifest_sha256 == manifest_sha256))


def add_pull(session: Session, pull: Pull, results: Iterable[Any]) -> None:
    """A pull with its snapshots, source files and tallies; results are the lake's IntakeResults."""
    session.add(pull)
    session.flush()
    for result in results:
        snapshot = Snapshot(
            pull_id=pull.id,
            table_name=result.table_name,
            as_of=pull.as_of,
            path=result.path,
            content_sha256=result.content_sha256,
            rejected_sha256=result.rejected_sha256,
            rows=result.rows,
            accepted=result.accepted,
            ignored=result.ignored,
            rejected=result.rejected,
        )
        session.add(snapshot)
        session.flush()
        session.add_all(
            SourceFile(snapshot_id=snapshot.id, name=f.name, sha256=f.sha256, size_bytes=f.size_bytes, rows=f.rows)
            for f in result.files
        )
        session.add_all(
            IntakeTally(
                snapshot_id=snapshot.id,
                verdict=t.verdict,
                rule=t.rule,
                column_name=t.column_name,
                rows=t.rows,
                reason=t.reason,
            )
            for t in result.tallies
        )


def pulls(session: Session, last: int = 5) -> list[dict[str, Any]]:
    """The last pulls, newest first, each with its tables' counts and the rules that ignored or rejected rows."""
    found = []
    for pull in session.scalars(select(Pull).order_by(Pull.id.desc()).limit(last)):
        tables: list[dict[str, Any]] = []
        for snapshot in session.scalars(select(Snapshot).where(Snapshot.pull_id == pull.id).order_by(Snapshot.id)):
            tallies = session.scalars(select(IntakeTally).where(IntakeTally.snapshot_id == snapshot.id)).all()
            tables.append(
                {
                    "table": snapshot.table_name,
                    "rows": snapshot.rows,
                    "accepted": snapshot.accepted,
                    "ignored": snapshot.ignored,
                    "rejected": snapshot.rejected,
                    "ignored_by": {t.rule: t.rows for t in tallies if t.verdict == "ignored"},
                    "rejected_by": {f"{t.column_name}: {t.rule}": t.rows for t in tallies if t.verdict == "rejected"},
                }
            )
        totals: dict[str, int] = {
            key: sum(table[key] for table in tables) for key in ("rows", "accepted", "ignored", "rejected")
        }
        found.append(
            {"pull": pull.id, "as_of": pull.as_of.isoformat(), "profile": pull.profile, **totals, "tables": tables}
        )
    return found


def snapshot_of(session: Session, table: str, day: date, *, exactly: bool = False) -> Snapshot:
    """The newest snapshot of a table for a day: of that very day, or else the last one before.

    Raises NoSnapshot with the command that makes one.
    """
    of_day = Snapshot.as_of == day if exactly else Snapshot.as_of <= day
    found = session.scalar(
        select(Snapshot)
        .where(Snapshot.table_name == table, of_day)
        .order_by(Snapshot.as_of.desc(), Snapshot.id.desc())
        .limit(1)
    )
    if found is None:
        when = f"of {day}" if exactly else f"of {day} or before"
        raise NoSnapshot(
            f"no snapshot of {table} {when}: run `huifang run pull --profile FILE --inbox DIR --as-of {day}`"
            + (" with the extracts of that day" if table != "roster" else " with --roster FILE")
        )
    return found


def optional_snapshot(session: Session, table: str, day: date) -> Snapshot | None:
    """The newest snapshot of a table of that day or before, or none."""
    try:
        return snapshot_of(session, table, day)
    except NoSnapshot:
        return None


def snapshot_by_id(session: Session, snapshot_id: int) -> Snapshot:
    """A snapshot that a frozen base was made from."""
    return session.get_one(Snapshot, snapshot_id)


def waiver_of(session: Session, snapshot_id: int) -> Waiver | None:
    """The waiver given over a snapshot's rejected rows."""
    return session.scalar(select(Waiver).where(Waiver.snapshot_id == snapshot_id))


# ---- draw --------------------------------------------------------------------------------------------------


def campaign_of(session: Session, campaign_id: str) -> tuple[Campaign, ProgrammeYear, Draw]:
    """A drawn campaign with its programme year. Raises UnknownCampaign naming those there are."""
    campaign = session.get(Campaign, campaign_id)
    drawn = session.get(Draw, campaign_id)
    if campaign is None or drawn is None:
        known = ", ".join(drawn_campaigns(session)) or "none"
        raise UnknownCampaign(f"no campaign {campaign_id!r} has been drawn; drawn are: {known}")
    year = session.get(ProgrammeYear, campaign.programme_year_id)
    assert year is not None, "the foreign key holds"
    return campaign, year, drawn


def drawn_campaigns(session: Session) -> list[str]:
    """Every drawn campaign, by id."""
    return list(session.scalars(select(Draw.campaign_id).order_by(Draw.campaign_id)))


def later_campaigns(session: Session, programme_year_id: str, period: str) -> list[str]:
    """Campaigns of a programme year whose period comes after one."""
    return list(
        session.scalars(
            select(Campaign.id)
            .where(Campaign.programme_year_id == programme_year_id, Campaign.period > period)
            .order_by(Campaign.id)
        )
    )


def add_programme_year(
    session: Session, year: ProgrammeYear, *, ledger: pd.DataFrame, quota: pd.DataFrame, strata: pd.DataFrame
) -> None:
    """A frozen base with its ledger (reason null = eligible, not stored), goals and strata."""
    session.add(year)
    session.flush()
    excluded = ledger[ledger["reason"].notna()]
    _insert(session, Exclusion, excluded, programme_year_id=year.id)
    _insert(session, Quota, quota, programme_year_id=year.id)
    _insert(session, Stratum, strata, programme_year_id=year.id)


def quota_of(session: Session, programme_year_id: str) -> pd.DataFrame:
    """group_key, branch_no, eligible, goal."""
    return frame(
        session,
        select(Quota.group_key, Quota.branch_no, Quota.eligible, Quota.goal)
        .where(Quota.programme_year_id == programme_year_id)
        .order_by(Quota.group_key),
    )


def strata_of(session: Session, programme_year_id: str) -> pd.DataFrame:
    """group_key, stratum, customers, minimum, places."""
    return frame(
        session,
        select(Stratum.group_key, Stratum.stratum, Stratum.customers, Stratum.minimum, Stratum.places)
        .where(Stratum.programme_year_id == programme_year_id)
        .order_by(Stratum.group_key, Stratum.stratum),
    )


def exclusions_of(session: Session, programme_year_id: str) -> pd.DataFrame:
    """branch_no, reason, customers."""
    return frame(
        session,
        select(Exclusion.branch_no, Exclusion.reason, Exclusion.customers).where(
            Exclusion.programme_year_id == programme_year_id
        ),
    )


def taken_of(session: Session, programme_year_id: str, *, before: str | None = None) -> pd.DataFrame:
    """Every call of a programme year: assignment_id, campaign_id, customer_id, branch_no, group_key, stratum, due_on.

    before: only campaigns of earlier periods than that campaign's.
    """
    query = (
        select(
            Assignment.id.label("assignment_id"),
            AssignmentPurpose.campaign_id,
            Assignment.customer_id,
            Assignment.branch_no,
            DrawnCustomer.group_key,
            DrawnCustomer.stratum,
            Assignment.due_on,
        )
        .join(AssignmentPurpose, AssignmentPurpose.assignment_id == Assignment.id)
        .join(Campaign, Campaign.id == AssignmentPurpose.campaign_id)
        .join(
            DrawnCustomer,
            and_(
                DrawnCustomer.campaign_id == AssignmentPurpose.campaign_id,
                DrawnCustomer.customer_id == Assignment.customer_id,
            ),
        )
        .where(Campaign.programme_year_id == programme_year_id)
        .order_by(Assignment.id)
    )
    if before is not None:
        period = session.scalar(select(Campaign.period).where(Campaign.id == before))
        query = query.where(Campaign.period < period)
    return frame(session, query)


def current_rows(session: Session, programme_year_id: str | None = None) -> pd.DataFrame:
    """The current accepted row of each assignment: assignment_id, version, outcome, completes, fails, is_late, booked_on, id."""
    query = select(
        ReturnRow.id,
        ReturnRow.assignment_id,
        ReturnRow.version,
        ReturnRow.outcome,
        ReturnRow.completes,
        ReturnRow.fails,
        ReturnRow.is_late,
        ReturnRow.booked_on,
    ).where(_latest(ReturnRow.version, ReturnRow.version, ReturnRow.assignment_id))
    if programme_year_id is not None:
        serving = (
            select(AssignmentPurpose.assignment_id)
            .join(Campaign, Campaign.id == AssignmentPurpose.campaign_id)
            .where(Campaign.programme_year_id == programme_year_id)
        )
        query = query.where(ReturnRow.assignment_id.in_(serving))
    return frame(session, query.order_by(ReturnRow.id))


def ends(session: Session) -> pd.DataFrame:
    """assignment_id, kind of assignments that ended without a call."""
    return frame(session, select(AssignmentEnd.assignment_id, AssignmentEnd.kind))


def add_campaign(session: Session, campaign: Campaign, groups: pd.DataFrame, strata: pd.DataFrame) -> None:
    """The committed state, counts and places of a period."""
    session.add(campaign)
    session.flush()
    _insert(session, CampaignGroup, groups, campaign_id=campaign.id)
    _insert(session, CampaignStratum, strata, campaign_id=campaign.id)


def groups_of(session: Session, campaign_id: str) -> pd.DataFrame:
    """A campaign's groups as committed; columns of campaign_group."""
    columns = [c for c in CampaignGroup.__table__.columns if c.name != "campaign_id"]
    return frame(
        session, select(*columns).where(CampaignGroup.campaign_id == campaign_id).order_by(CampaignGroup.group_key)
    )


def campaign_strata_of(session: Session, campaign_id: str) -> pd.DataFrame:
    """A campaign's strata as committed; columns of campaign_stratum."""
    columns = [c for c in CampaignStratum.__table__.columns if c.name != "campaign_id"]
    return frame(
        session,
        select(*columns)
        .where(CampaignStratum.campaign_id == campaign_id)
        .order_by(CampaignStratum.group_key, CampaignStratum.stratum),
    )


def seed_of(session: Session, campaign_id: str) -> Seed | None:
    """The seed of a campaign's last attempt."""
    return session.scalar(select(Seed).where(Seed.campaign_id == campaign_id).order_by(Seed.attempt.desc()).limit(1))


def drawn_of(session: Session, campaign_id: str) -> pd.DataFrame:
    """Sample and reserve: the columns of drawn_customer."""
    columns = [c for c in DrawnCustomer.__table__.columns if c.name != "campaign_id"]
    return frame(
        session,
        select(*columns)
        .where(DrawnCustomer.campaign_id == campaign_id)
        .order_by(DrawnCustomer.group_key, DrawnCustomer.stratum, DrawnCustomer.rank),
    )


def add_draw(session: Session, draw: Draw, drawn: pd.DataFrame) -> None:
    """The one draw of a campaign with its sample and reserve."""
    session.add(draw)
    session.flush()
    _insert(session, DrawnCustomer, drawn, campaign_id=draw.campaign_id)


def open_calls_of_others(session: Session, campaign_id: str) -> pd.DataFrame:
    """customer_id, assignment_id, form of calls of other campaigns that nobody has answered or ended."""
    answered = select(ReturnRow.assignment_id).where(ReturnRow.completes | ReturnRow.fails)
    ended = select(AssignmentEnd.assignment_id)
    return frame(
        session,
        select(Assignment.customer_id, Assignment.id.label("assignment_id"), Assignment.form).where(
            Assignment.campaign_id != campaign_id, Assignment.id.not_in(answered), Assignment.id.not_in(ended)
        ),
    )


def add_assignments(
    session: Session,
    campaign: Campaign,
    new: pd.DataFrame,
    joined: pd.DataFrame,
    *,
    as_of: date,
    now: datetime,
    replaces: Mapping[str, int] | None = None,
) -> None:
    """New calls, and the purposes they and the joined calls serve; replaces: failed call by the customer who takes its place."""
    served: list[tuple[int, str]] = [
        (int(row["assignment_id"]), str(row["customer_id"])) for row in joined.to_dict("records")
    ]
    calls = [
        Assignment(
            campaign_id=campaign.id,
            caller="branch",
            calendar_version=campaign.calendar_version,
            assigned_on=as_of,
            assigned_at=now,
            **{str(k): v for k, v in row.items()},
        )
        for row in new.to_dict("records")
    ]
    session.add_all(calls)
    session.flush()
    served += [(call.id, call.customer_id) for call in calls]
    session.add_all(
        AssignmentPurpose(campaign_id=campaign.id, assignment_id=call, replaces_id=(replaces or {}).get(customer))
        for call, customer in served
    )


def replaced_ids(session: Session, campaign_id: str) -> set[int]:
    """Failed calls of a campaign whose place another has taken."""
    taken = select(AssignmentPurpose.replaces_id).where(AssignmentPurpose.campaign_id == campaign_id)
    return {i for i in session.scalars(taken) if i is not None}


# ---- dispatch ----------------------------------------------------------------------------------------------


def calls_to_mail(session: Session, campaign_id: str) -> pd.DataFrame:
    """Calls a campaign's sheets have still to carry: none that stand in a mail sent, unknown or in flight, none answered or ended.

    assignment_id, customer_id, branch_no, form, developer_id, due_on.
    """
    return frame(
        session,
        select(
            Assignment.id.label("assignment_id"),
            Assignment.customer_id,
            Assignment.branch_no,
            Assignment.form,
            Assignment.developer_id,
            Assignment.due_on,
        )
        .where(
            Assignment.campaign_id == campaign_id,
            Assignment.id.not_in(_carried("assignment")),
            Assignment.id.not_in(select(ReturnRow.assignment_id)),
            Assignment.id.not_in(select(AssignmentEnd.assignment_id)),
        )
        .order_by(Assignment.branch_no, Assignment.id),
    )


def lists_sent(session: Session, campaign_id: str, branch_no: str) -> int:
    """How many lists of a campaign a branch has been sent, or may have been."""
    mails = mails_of(session, campaign_id)
    mine = (mails["kind"] == "assignment") & (mails["recipient"] == branch_no) & (mails["outcome"] != "failed")
    return int(mine.sum())


def _carried(item_kind: str) -> Select[Any]:
    """Items of a kind that stand in a mail whose last outcome is not *failed*."""
    failed = select(MailOutcome.mail_id).where(
        _latest(MailOutcome.id, MailOutcome.id, MailOutcome.mail_id), MailOutcome.outcome == "failed"
    )
    return select(MailItem.item_id).where(MailItem.kind == item_kind, MailItem.mail_id.not_in(failed))


def refused_addresses(session: Session) -> set[str]:
    """Addresses whose last mail the server refused for good (5xx): not tried again before the roster changes."""
    last = frame(
        session,
        select(Mail.to_address, MailOutcome.outcome, MailOutcome.code)
        .join(MailOutcome, MailOutcome.mail_id == Mail.id)
        .order_by(MailOutcome.id),
    ).drop_duplicates("to_address", keep="last")
    return set(last.loc[(last["outcome"] == "failed") & (last["code"].fillna(0) >= 500), "to_address"])


def mails_of(session: Session, campaign_id: str | None = None) -> pd.DataFrame:
    """Every mail with its current outcome: mail_id, kind, campaign_id, recipient, role, sequence, outcome, code, at, path, message_id.

    outcome 'in_flight' has none yet.
    """
    current = select(MailOutcome).where(_latest(MailOutcome.id, MailOutcome.id, MailOutcome.mail_id)).subquery()
    query = select(
        Mail.id.label("mail_id"),
        Mail.kind,
        Mail.campaign_id,
        Mail.recipient,
        Mail.role,
        Mail.sequence,
        func.coalesce(current.c.outcome, "in_flight").label("outcome"),
        current.c.code,
        current.c.at,
        Mail.path,
        Mail.message_id,
        Mail.to_address,
    ).outerjoin(current, current.c.mail_id == Mail.id)
    if campaign_id is not None:
        query = query.where(Mail.campaign_id == campaign_id)
    return frame(session, query.order_by(Mail.id))


# ---- collect -----------------------------------------------------------------------------------------------


def add_sighting(
    session: Session,
    *,
    sha256: str,
    path: str,
    size_bytes: int,
    source: str,
    folder: str,
    uid_validity: str,
    uid: str,
    now: datetime,
) -> tuple[int, bool, bool]:
    """Book that a message lies in a mailbox: its id, whether its bytes are new, whether this sighting is new."""
    message = session.scalar(select(Message).where(Message.sha256 == sha256))
    is_new = message is None
    if message is None:
        message = Message(sha256=sha256, path=path, size_bytes=size_bytes, first_seen_at=now)
        session.add(message)
        session.flush()
    known = session.scalar(
        select(Sighting.id).where(
            Sighting.source == source,
            Sighting.folder == folder,
            Sighting.uid_validity == uid_validity,
            Sighting.uid == uid,
        )
    )
    if known is None:
        session.add(
            Sighting(
                message_id=message.id, source=source, folder=folder, uid_validity=uid_validity, uid=uid, seen_at=now
            )
        )
    return message.id, is_new, known is None


def unjudged(session: Session) -> list[Message]:
    """Messages seen and not judged yet, in the order they came."""
    return list(
        session.scalars(select(Message).where(Message.id.not_in(select(Verdict.message_id))).order_by(Message.id))
    )


def sightings_to_move(session: Session) -> pd.DataFrame:
    """Where judged messages were seen: source, folder, uid_validity, uid, verdict (of the message)."""
    return frame(
        session,
        select(Sighting.source, Sighting.folder, Sighting.uid_validity, Sighting.uid, Verdict.verdict)
        .join(Verdict, Verdict.message_id == Sighting.message_id)
        .where(_latest(Verdict.version, Verdict.version, Verdict.message_id)),
    )


def calls_expected(session: Session) -> pd.DataFrame:
    """Calls that returns may answer, of every campaign and branch.

    assignment_id, campaign_id, programme_year_id, customer_id, branch_no, due_on, assigned_on, developer_id.
    """
    return frame(
        session,
        select(
            Assignment.id.label("assignment_id"),
            Assignment.campaign_id,
            Campaign.programme_year_id,
            Assignment.customer_id,
            Assignment.branch_no,
            Assignment.due_on,
            Assignment.assigned_on,
            Assignment.developer_id,
        )
        .join(Campaign, Campaign.id == Assignment.campaign_id)
        .order_by(Assignment.id),
    )


def cases_expected(session: Session) -> pd.DataFrame:
    """Cases that returns may answer: case_id, campaign_id, programme_year_id, customer_id, branch_no,
    opened_on, delivered_at (null before).
    """
    delivered = (
        select(MailItem.item_id.label("case_id"), func.max(MailOutcome.at).label("delivered_at"))
        .join(MailOutcome, MailOutcome.mail_id == MailItem.mail_id)
        .where(MailItem.kind == "case", MailOutcome.outcome == "sent")
        .group_by(MailItem.item_id)
        .subquery()
    )
    return frame(
        session,
        select(
            Case.id.label("case_id"),
            Case.campaign_id,
            Campaign.programme_year_id,
            Case.customer_id,
            Case.branch_no,
            Case.opened_on,
            delivered.c.delivered_at,
        )
        .join(Campaign, Campaign.id == Case.campaign_id)
        .outerjoin(delivered, delivered.c.case_id == Case.id)
        .order_by(Case.id),
    )


def add_return_rows(session: Session, message_id: int, accepted: pd.DataFrame, *, booked_on: date) -> list[ReturnRow]:
    """Accepted rows of a message as new versions; a row with the same content as any version before adds nothing."""
    added = []
    for row in accepted.to_dict("records"):
        assignment_id = int(row["assignment_id"])
        seen = session.execute(
            select(
                func.max(ReturnRow.version), func.count().filter(ReturnRow.content_sha256 == row["content_sha256"])
            ).where(ReturnRow.assignment_id == assignment_id)
        ).one()
        if seen[1]:
            continue
        fresh = ReturnRow(
            message_id=message_id,
            version=(seen[0] or 0) + 1,
            booked_on=booked_on,
            **{str(k): v for k, v in row.items()},
        )
        session.add(fresh)
        session.flush()
        added.append(fresh)
    return added


def add_self_checks(session: Session, message_id: int, accepted: pd.DataFrame, *, booked_on: date) -> int:
    """Accepted self-check rows of a message as new versions; how many were new."""
    added = 0
    for row in accepted.to_dict("records"):
        case_id = int(row["case_id"])
        seen = session.execute(
            select(
                func.max(SelfCheck.version), func.count().filter(SelfCheck.content_sha256 == row["content_sha256"])
            ).where(SelfCheck.case_id == case_id)
        ).one()
        if seen[1]:
            continue
        session.add(
            SelfCheck(
                message_id=message_id,
                version=(seen[0] or 0) + 1,
                booked_on=booked_on,
                **{str(k): v for k, v in row.items()},
            )
        )
        session.flush()
        added += 1
    return added


def add_problems(session: Session, message_id: int, problems: pd.DataFrame) -> None:
    """Rows sent back, by place and code."""
    for row in problems.to_dict("records"):
        item = row.get("assignment_id")
        session.add(
            RowProblem(
                message_id=message_id,
                sheet=row["sheet"],
                row=int(row["row"]),
                column_name=row["column_name"],
                code=row["code"],
                assignment_id=None if item is None or pd.isna(item) else int(item),
            )
        )


def open_findings(session: Session, rows: Sequence[ReturnRow], *, found_on: date) -> int:
    """Findings and opinions that newly accepted rows state; how many findings."""
    count = 0
    for row in rows:
        assignment = session.get_one(Assignment, row.assignment_id)
        if row.outcome == "done_suspect":
            session.add(
                Finding(
                    return_row_id=row.id,
                    assignment_id=assignment.id,
                    campaign_id=assignment.campaign_id,
                    customer_id=assignment.customer_id,
                    branch_no=assignment.branch_no,
                    violation=row.violation,
                    found_on=found_on,
                )
            )
            count += 1
        if row.outcome == "done_opinion":
            session.add(
                Opinion(
                    return_row_id=row.id,
                    assignment_id=assignment.id,
                    campaign_id=assignment.campaign_id,
                    branch_no=assignment.branch_no,
                    raised_on=found_on,
                )
            )
    return count


def verdicts_of(session: Session) -> pd.DataFrame:
    """The current verdict of each message: message_id, verdict, reason, branch_no, campaign_id, rows_accepted,
    rows_rejected, is_late, path.
    """
    return frame(
        session,
        select(
            Verdict.message_id,
            Verdict.verdict,
            Verdict.reason,
            Verdict.branch_no,
            Verdict.campaign_id,
            Verdict.rows_accepted,
            Verdict.rows_rejected,
            Verdict.is_late,
            Message.path,
        )
        .join(Message, Message.id == Verdict.message_id)
        .where(_latest(Verdict.version, Verdict.version, Verdict.message_id))
        .order_by(Verdict.message_id),
    )


def sightings(session: Session) -> pd.DataFrame:
    """message_id of every sighting."""
    return frame(session, select(Sighting.id, Sighting.message_id).order_by(Sighting.id))


def receipts_owed(session: Session) -> pd.DataFrame:
    """Judged returns of known branches that have no receipt yet (a failed one counts as none): verdict columns."""
    mails = mails_of(session)
    done = mails.loc[(mails["kind"] == "receipt") & (mails["outcome"] != "failed")]
    judged = verdicts_of(session)
    judged = judged[judged["verdict"].isin(["accepted", "partly", "rejected"]) & judged["campaign_id"].notna()]
    answered = {(r.recipient, r.campaign_id, r.role) for r in done.itertuples()}
    owed = [(r.branch_no, r.campaign_id, f"message-{r.message_id}") not in answered for r in judged.itertuples()]
    return judged[pd.Series(owed, index=judged.index, dtype=bool)]


def due_of(session: Session, campaign_id: str, branch_no: str) -> date:
    """The last due date of a branch's calls in a campaign; the campaign's own last one where it has none."""
    mine = session.scalar(
        select(func.max(Assignment.due_on)).where(
            Assignment.campaign_id == campaign_id, Assignment.branch_no == branch_no
        )
    )
    found = mine or session.scalar(select(func.max(Assignment.due_on)).where(Assignment.campaign_id == campaign_id))
    assert found is not None, "a drawn campaign has calls"
    return found


def returned_kind(session: Session, message_id: int) -> str:
    """What a judged message brought: self_check when it has rows of that sheet and none of the callback sheet."""
    calls = session.scalar(select(func.count()).select_from(ReturnRow).where(ReturnRow.message_id == message_id))
    checks = session.scalar(select(func.count()).select_from(SelfCheck).where(SelfCheck.message_id == message_id))
    return "self_check" if checks and not calls else "callback_sheet"


def problems_of(session: Session, message_id: int) -> pd.DataFrame:
    """sheet, row, column_name, code of the rows of a message that were sent back."""
    return frame(
        session,
        select(RowProblem.sheet, RowProblem.row, RowProblem.column_name, RowProblem.code)
        .where(RowProblem.message_id == message_id)
        .order_by(RowProblem.id),
    )


# ---- chase -------------------------------------------------------------------------------------------------


def findings_without_case(session: Session) -> pd.DataFrame:
    """finding_id, campaign_id, customer_id, branch_no, form."""
    return frame(
        session,
        select(
            Finding.id.label("finding_id"), Finding.campaign_id, Finding.customer_id, Finding.branch_no, Assignment.form
        )
        .join(Assignment, Assignment.id == Finding.assignment_id)
        .where(Finding.id.not_in(select(CaseGround.finding_id))),
    )


def add_cases(session: Session, cases: pd.DataFrame, *, opened_on: date) -> int:
    """Cases with their grounds; a customer's open case of the same campaign takes a new ground. How many are new."""
    new = 0
    for row in cases.to_dict("records"):
        case = session.scalar(
            select(Case).where(Case.campaign_id == row["campaign_id"], Case.customer_id == row["customer_id"])
        )
        if case is None:
            case = Case(
                campaign_id=row["campaign_id"],
                customer_id=row["customer_id"],
                branch_no=row["branch_no"],
                form=row["form"],
                opened_on=opened_on,
            )
            session.add(case)
            session.flush()
            new += 1
        session.add_all(CaseGround(finding_id=int(finding), case_id=case.id) for finding in row["finding_ids"])
    return new


def cases_to_mail(session: Session, campaign_id: str) -> pd.DataFrame:
    """Cases no self-check request has carried yet: case_id, customer_id, branch_no, form, stated_on, violation (of all grounds)."""
    found = frame(
        session,
        select(
            Case.id.label("case_id"),
            Case.customer_id,
            Case.branch_no,
            Case.form,
            Finding.violation,
            ReturnRow.called_on.label("stated_on"),
            Finding.id.label("finding_id"),
        )
        .join(CaseGround, CaseGround.case_id == Case.id)
        .join(Finding, Finding.id == CaseGround.finding_id)
        .join(ReturnRow, ReturnRow.id == Finding.return_row_id)
        .where(Case.campaign_id == campaign_id, Case.id.not_in(_carried("case")))
        .order_by(Case.branch_no, Case.id, Finding.id),
    )
    if found.empty:
        return found.drop(columns="finding_id")
    return (
        found.groupby(["branch_no", "case_id"], sort=True)
        .agg(
            customer_id=("customer_id", "last"),
            form=("form", "last"),
            stated_on=("stated_on", "last"),
            violation=("violation", lambda grounds: ",".join(dict.fromkeys(grounds))),
        )
        .reset_index()
    )


def self_checks_to_merge(session: Session) -> pd.DataFrame:
    """Current self-checks without a merged result: self_check_id, case_id, truth."""
    return frame(
        session,
        select(SelfCheck.id.label("self_check_id"), SelfCheck.case_id, SelfCheck.truth).where(
            _latest(SelfCheck.version, SelfCheck.version, SelfCheck.case_id),
            SelfCheck.id.not_in(select(CaseMerge.self_check_id)),
        ),
    )


def add_merges(session: Session, merges: Iterable[Mapping[str, Any]], *, merged_on: date) -> None:
    """Merged results."""
    session.add_all(CaseMerge(merged_on=merged_on, **merge) for merge in merges)


def cases_due(session: Session, campaign_id: str) -> pd.DataFrame:
    """Cases asked about and without a self-check: case_id, branch_no, delivered_at."""
    return frame(
        session,
        select(Case.id.label("case_id"), Case.branch_no, func.max(MailOutcome.at).label("delivered_at"))
        .join(MailItem, and_(MailItem.item_id == Case.id, MailItem.kind == "case"))
        .join(MailOutcome, MailOutcome.mail_id == MailItem.mail_id)
        .where(
            Case.campaign_id == campaign_id, MailOutcome.outcome == "sent", Case.id.not_in(select(SelfCheck.case_id))
        )
        .group_by(Case.id, Case.branch_no)
        .order_by(Case.id),
    )


def cases_of_campaign(session: Session, campaign_id: str) -> pd.DataFrame:
    """case_id, branch_no, opened_on, has_self_check, result (null while it waits)."""
    answered = select(SelfCheck.case_id, func.max(SelfCheck.id).label("last_id")).group_by(SelfCheck.case_id).subquery()
    return frame(
        session,
        select(
            Case.id.label("case_id"),
            Case.branch_no,
            Case.opened_on,
            answered.c.last_id.is_not(None).label("has_self_check"),
            CaseMerge.result,
        )
        .outerjoin(answered, answered.c.case_id == Case.id)
        .outerjoin(CaseMerge, CaseMerge.self_check_id == answered.c.last_id)
        .where(Case.campaign_id == campaign_id)
        .order_by(Case.id),
    )


def calls_of(session: Session, campaign_id: str) -> pd.DataFrame:
    """Every call that serves a campaign: assignment_id, customer_id, branch_no, due_on, carried_by."""
    return frame(
        session,
        select(
            Assignment.id.label("assignment_id"),
            Assignment.customer_id,
            Assignment.branch_no,
            Assignment.due_on,
            Assignment.campaign_id.label("carried_by"),
        )
        .join(AssignmentPurpose, AssignmentPurpose.assignment_id == Assignment.id)
        .where(AssignmentPurpose.campaign_id == campaign_id)
        .order_by(Assignment.id),
    )


def items_carried(session: Session, item_kind: str) -> set[int]:
    """Assignments or cases that stand in a mail sent, unknown or in flight."""
    return set(session.scalars(_carried(item_kind)))


def last_verdicts(session: Session, campaign_id: str) -> dict[str, str]:
    """The verdict of each branch's last return in a campaign."""
    judged = verdicts_of(session)
    mine = judged[(judged["campaign_id"] == campaign_id) & judged["verdict"].isin(["accepted", "partly", "rejected"])]
    return {str(r.branch_no): str(r.verdict) for r in mine.itertuples()}


def problem_rows(session: Session, campaign_id: str) -> dict[str, int]:
    """Rows of calls sent back to each branch and not accepted since."""
    accepted = select(ReturnRow.assignment_id)
    found = session.execute(
        select(Assignment.branch_no, func.count(RowProblem.assignment_id.distinct()))
        .join(Assignment, Assignment.id == RowProblem.assignment_id)
        .where(Assignment.campaign_id == campaign_id, RowProblem.assignment_id.not_in(accepted))
        .group_by(Assignment.branch_no)
    )
    return dict(found.tuples().all())


def expire(session: Session, campaign_id: str, *, as_of: date, reason: str) -> int:
    """End every call of a campaign that is still open; how many."""
    settled = select(ReturnRow.assignment_id).where(ReturnRow.completes | ReturnRow.fails)
    still_open = session.scalars(
        select(Assignment.id).where(
            Assignment.campaign_id == campaign_id,
            Assignment.id.not_in(settled),
            Assignment.id.not_in(select(AssignmentEnd.assignment_id)),
        )
    ).all()
    session.add_all(
        AssignmentEnd(assignment_id=i, kind="expired", reason=reason, ended_on=as_of, decided_by="flow:chase")
        for i in still_open
    )
    return len(still_open)


# ---- report ------------------------------------------------------------------------------------------------


def findings_of(session: Session, campaign_id: str) -> pd.DataFrame:
    """finding_id, branch_no, violation."""
    return frame(
        session,
        select(Finding.id.label("finding_id"), Finding.branch_no, Finding.violation).where(
            Finding.campaign_id == campaign_id
        ),
    )


def cases_shown(session: Session, campaign_id: str) -> pd.DataFrame:
    """case_id, branch_no, violations (of all grounds, joined by commas), result (null while it waits)."""
    cases = cases_of_campaign(session, campaign_id)[["case_id", "branch_no", "result"]]
    grounds = frame(
        session,
        select(CaseGround.case_id, Finding.violation)
        .join(Finding, Finding.id == CaseGround.finding_id)
        .where(Finding.campaign_id == campaign_id)
        .order_by(Finding.id),
    )
    joined = grounds.groupby("case_id")["violation"].agg(lambda v: ",".join(dict.fromkeys(v))).rename("violations")
    return cases.merge(joined, on="case_id", how="left")


def opinions_of(session: Session, campaign_id: str) -> pd.DataFrame:
    """opinion_id, branch_no."""
    return frame(
        session, select(Opinion.id.label("opinion_id"), Opinion.branch_no).where(Opinion.campaign_id == campaign_id)
    )


def report_with(session: Session, campaign_id: str, figures_sha256: str) -> Report | None:
    """The report that shows exactly these figures."""
    return session.scalar(
        select(Report).where(Report.campaign_id == campaign_id, Report.figures_sha256 == figures_sha256)
    )


def add_evidence(session: Session, **values: Any) -> int:
    """Book one evidence file of a message; 1 when its bytes are new for its row, 0 when they came before."""
    known = session.scalar(
        select(func.count())
        .select_from(Evidence)
        .where(
            Evidence.sha256 == values["sha256"],
            Evidence.item_kind == values["item_kind"],
            Evidence.item_id == values["item_id"],
        )
    )
    session.add(Evidence(**values))
    return 0 if known else 1


def _insert(session: Session, table: Any, rows: pd.DataFrame, **fixed: Any) -> None:
    if len(rows):
        plain = rows.astype(object).to_dict("records")
        session.execute(insert(table), [{**{str(k): v for k, v in row.items()}, **fixed} for row in plain])
