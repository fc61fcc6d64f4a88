"""Messages, verdicts and accepted rows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import NamedTuple

import pandas as pd
from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from models.returns.frames import rows_of
from models.sheets import CALLBACK, SELF_CHECK
from models.tables import (
    NOT_DELIVERED,
    Assignment,
    Campaign,
    Case,
    Evidence,
    Finding,
    MailItem,
    MailOutcome,
    Message,
    Opinion,
    ReturnRow,
    RowProblem,
    SelfCheck,
    Sighting,
    Verdict,
)
from tasks.records.base import frame, latest
from tasks.records.campaigns import current_branch
from tasks.records.mails import mails_of, not_delivered

IN_LIMIT = 500
"""Values in one comparison; databases end at some thousands."""


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
    """Messages seen and not judged yet, or held to be judged again, in the order they came."""
    judged = select(Verdict.message_id).where(
        latest(Verdict.version, Verdict.version, Verdict.message_id), Verdict.verdict != "held"
    )
    return list(session.scalars(select(Message).where(Message.id.not_in(judged)).order_by(Message.id)))


def next_version(session: Session, message_id: int) -> int:
    """The version the next verdict on a message has, from 1."""
    return (session.scalar(select(func.max(Verdict.version)).where(Verdict.message_id == message_id)) or 0) + 1


class Said(NamedTuple):
    """One verdict on a message: what, why, by whom and when, and where the message's bytes lie."""

    verdict: str
    reason: str
    branch_no: str
    decided_by: str
    decided_at: datetime
    path: str


def verdict_history(session: Session, message_id: int) -> list[Said]:
    """Every verdict on a message, the first one first; none for a message that is not there or not judged."""
    rows = session.execute(
        select(Verdict.verdict, Verdict.reason, Verdict.branch_no, Verdict.decided_by, Verdict.decided_at, Message.path)
        .join(Message, Message.id == Verdict.message_id)
        .where(Verdict.message_id == message_id)
        .order_by(Verdict.version)
    )
    return [Said(*row) for row in rows]


def released(session: Session) -> dict[int, str]:
    """Messages that a person answers for and collect has still to judge: whose return each is, by message id."""
    rows = session.execute(
        select(Verdict.message_id, Verdict.branch_no).where(
            latest(Verdict.version, Verdict.version, Verdict.message_id),
            Verdict.verdict == "held",
            Verdict.reason == "released",
        )
    )
    return {row.message_id: row.branch_no for row in rows}


def dropped(session: Session, prefix: str) -> dict[int, str]:
    """The branch in whose folder each message lay that came by way of a drop folder, by message id; the first one counts."""
    rows = session.execute(
        select(Sighting.message_id, Sighting.folder)
        .where(Sighting.source.startswith(prefix))
        .order_by(Sighting.id.desc())
    )
    return {row.message_id: row.folder for row in rows}


def letters_by_source(session: Session) -> dict[str, int]:
    """How many letters were seen in each mailbox; one seen again because its folder was numbered anew counts once."""
    numbered = (
        select(Sighting.source, Sighting.folder, Sighting.message_id, func.count().label("letters"))
        .group_by(Sighting.source, Sighting.folder, Sighting.message_id, Sighting.uid_validity)
        .subquery()
    )
    each = (
        select(numbered.c.source, func.max(numbered.c.letters).label("letters"))
        .group_by(numbered.c.source, numbered.c.folder, numbered.c.message_id)
        .subquery()
    )
    rows = session.execute(select(each.c.source, func.sum(each.c.letters)).group_by(each.c.source))
    return {str(source): int(letters) for source, letters in rows}


def sightings_to_move(session: Session) -> pd.DataFrame:
    """Where judged messages were seen: source, folder, uid_validity, uid, verdict (of the message)."""
    return frame(
        session,
        select(Sighting.source, Sighting.folder, Sighting.uid_validity, Sighting.uid, Verdict.verdict)
        .join(Verdict, Verdict.message_id == Sighting.message_id)
        .where(latest(Verdict.version, Verdict.version, Verdict.message_id)),
    )


def letters_decided(session: Session) -> pd.DataFrame:
    """Where messages were seen that were quarantined once and are not any more: source, folder, uid_validity, uid, sha256,
    size_bytes, verdict (of the message). Those that wait to be judged again are not among them.
    """
    quarantined = select(Verdict.message_id).where(Verdict.verdict == "quarantined")
    return frame(
        session,
        select(
            Sighting.source,
            Sighting.folder,
            Sighting.uid_validity,
            Sighting.uid,
            Message.sha256,
            Message.size_bytes,
            Verdict.verdict,
        )
        .join(Message, Message.id == Sighting.message_id)
        .join(Verdict, Verdict.message_id == Message.id)
        .where(
            latest(Verdict.version, Verdict.version, Verdict.message_id),
            Verdict.verdict.not_in(("quarantined", "held")),
            Message.id.in_(quarantined),
        )
        .order_by(Sighting.id),
    )


def sightings(session: Session) -> pd.DataFrame:
    """message_id of every sighting."""
    return frame(session, select(Sighting.id, Sighting.message_id).order_by(Sighting.id))


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
        .where(latest(Verdict.version, Verdict.version, Verdict.message_id))
        .order_by(Verdict.message_id),
    )


def calls_expected(session: Session) -> pd.DataFrame:
    """Calls that returns may answer, of every campaign and branch.

    assignment_id, campaign_id, programme_year_id, customer_id, branch_no (where it lies now), due_on, assigned_on, developer_id.
    """
    return frame(
        session,
        select(
            Assignment.id.label("assignment_id"),
            Assignment.campaign_id,
            Campaign.programme_year_id,
            Assignment.customer_id,
            current_branch().label("branch_no"),
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
        .where(MailItem.kind == "case", MailOutcome.outcome == "sent", MailItem.mail_id.not_in(not_delivered()))
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
    rows = rows_of(accepted)
    ids = [int(row["assignment_id"]) for row in rows]
    known: dict[int, tuple[int, set[str]]] = {}
    # A message has at most some hundred rows of ours; asked one by one they were most of what it cost.
    for start in range(0, len(ids), IN_LIMIT):
        versions = select(ReturnRow.assignment_id, ReturnRow.version, ReturnRow.content_sha256).where(
            ReturnRow.assignment_id.in_(ids[start : start + IN_LIMIT])
        )
        for assignment_id, version, content_sha256 in session.execute(versions):
            last, contents = known.setdefault(assignment_id, (0, set()))
            known[assignment_id] = (max(last, version), contents | {content_sha256})
    added = []
    for assignment_id, row in zip(ids, rows, strict=True):
        last, contents = known.get(assignment_id, (0, set()))
        if row["content_sha256"] not in contents:
            added.append(ReturnRow(message_id=message_id, version=last + 1, booked_on=booked_on, **row))
    session.add_all(added)
    session.flush()
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
    booked = [
        {
            "message_id": message_id,
            "sheet": row["sheet"],
            "row": int(row["row"]),
            "column_name": row["column_name"],
            "code": row["code"],
            "assignment_id": None if pd.isna(row.get("assignment_id")) else int(row["assignment_id"]),
        }
        for row in rows_of(problems)
    ]
    if booked:
        session.execute(insert(RowProblem), booked)


def open_findings(session: Session, rows: Sequence[ReturnRow], *, found_on: date) -> int:
    """Findings and opinions that newly accepted rows state, not those that an earlier version has stated; how many findings."""
    count = 0
    for row in rows:
        if row.outcome not in ("done_suspect", "done_opinion") or _is_stated(session, row):
            continue
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


def _is_stated(session: Session, row: ReturnRow) -> bool:
    """Whether an earlier version of a row said the same of the customer, so that only its evidence or its call changed."""
    return (
        session.scalar(
            select(ReturnRow.id)
            .where(
                ReturnRow.assignment_id == row.assignment_id, ReturnRow.version < row.version,
                ReturnRow.outcome == row.outcome, ReturnRow.violation == row.violation, ReturnRow.remark == row.remark,
            )
            .limit(1)
        )
        is not None
    )  # fmt: skip


def receipts_owed(session: Session) -> pd.DataFrame:
    """Judged returns of known branches that have no receipt yet (one that was not delivered counts as none): verdict columns."""
    mails = mails_of(session)
    done = mails.loc[(mails["kind"] == "receipt") & ~mails["outcome"].isin(NOT_DELIVERED)]
    judged = verdicts_of(session)
    judged = judged[judged["verdict"].isin(["accepted", "partly", "rejected"]) & judged["campaign_id"].notna()]
    answered = {(r.recipient, r.campaign_id, r.role) for r in done.itertuples()}
    owed = [(r.branch_no, r.campaign_id, f"message-{r.message_id}") not in answered for r in judged.itertuples()]
    return judged[pd.Series(owed, index=judged.index, dtype=bool)]


def returned_kind(session: Session, message_id: int) -> str:
    """What a judged message brought: self_check when its rows, or all that it was sent back for, are of that sheet alone."""
    calls = session.scalar(select(func.count()).select_from(ReturnRow).where(ReturnRow.message_id == message_id))
    checks = session.scalar(select(func.count()).select_from(SelfCheck).where(SelfCheck.message_id == message_id))
    if not calls and not checks:
        at_fault = set(session.scalars(select(RowProblem.column_name).where(RowProblem.message_id == message_id)))
        of_calls, of_checks = ({column.key for column in sheet.columns} for sheet in (CALLBACK, SELF_CHECK))
        calls, checks = len(at_fault & (of_calls - of_checks)), len(at_fault & (of_checks - of_calls))
    return "self_check" if checks and not calls else "callback_sheet"


def problems_of(session: Session, message_id: int) -> pd.DataFrame:
    """sheet, row, column_name, code, assignment_id (null where no task was recognised) of the rows sent back."""
    return frame(
        session,
        select(RowProblem.sheet, RowProblem.row, RowProblem.column_name, RowProblem.code, RowProblem.assignment_id)
        .where(RowProblem.message_id == message_id)
        .order_by(RowProblem.id),
    )


def brought_by(session: Session, message_id: int) -> tuple[int, int]:
    """What else a message brought: evidence files that count for their task, and accepted rows that need another call."""
    files = session.scalar(
        select(func.count())
        .select_from(Evidence)
        .where(Evidence.message_id == message_id, Evidence.item_kind != "", Evidence.fault == "")
    )
    again = session.scalar(
        select(func.count())
        .select_from(ReturnRow)
        .where(ReturnRow.message_id == message_id, ~ReturnRow.completes, ~ReturnRow.fails, ReturnRow.awaits == "")
    )
    return files or 0, again or 0


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


def rows_reported(session: Session, campaign_id: str) -> pd.DataFrame:
    """The current accepted row of each call of a campaign that a branch made itself: models.credibility's ROWS."""
    found = frame(
        session,
        select(
            ReturnRow.assignment_id,
            Assignment.customer_id,
            current_branch().label("branch_no"),
            ReturnRow.caller_name,
            ReturnRow.called_on,
            ReturnRow.called_at,
            ReturnRow.outcome,
            ReturnRow.remark,
            ReturnRow.answers,
        )
        .join(Assignment, Assignment.id == ReturnRow.assignment_id)
        .where(
            Assignment.campaign_id == campaign_id,
            Assignment.caller == "branch",
            latest(ReturnRow.version, ReturnRow.version, ReturnRow.assignment_id),
        )
        .order_by(ReturnRow.assignment_id),
    )
    answered = [sum(said != "not_asked" for said in answers.values()) for answers in found["answers"]]
    return found.drop(columns="answers").assign(answered=pd.Series(answered, dtype="int64", index=found.index))


def found_by_headquarters(session: Session) -> set[str]:
    """Customers about whom a call that headquarters made itself found something."""
    return set(
        session.scalars(
            select(Finding.customer_id)
            .join(Assignment, Assignment.id == Finding.assignment_id)
            .where(Assignment.caller == "hq")
        )
    )
