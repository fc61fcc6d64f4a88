"""What one message comes to is booked in one transaction: a return's rows, evidence and verdict; a notice; that it waits."""

from collections import Counter
from collections.abc import Collection, Set
from datetime import date, datetime
from pathlib import Path

import pandas as pd
from prefect import get_run_logger
from sqlalchemy.orm import Session

from models import evidence, notices, returns, roster, sheets
from models.evidence import EvidenceKind
from models.tables import MailNotice, Message, Verdict
from tasks import outbox, records, vault
from tasks.settings import Settings
from tasks.store import Store, record


def book_notice(
    store: Store, message: Message, opened: returns.Opened, sender: returns.Sender, *, now: datetime
) -> dict[str, int]:
    """What a bounce, a receipt of delivery or an absence reply says, with the mail it is about and what becomes of that."""
    counts: Counter[str] = Counter(notice=1)
    with store.begin() as session:
        # A copy of a mail of ours is no notice about it.
        named = records.mails_named(session, opened.notice.own_ids) if sender.reason != "own_mail" else []
        fates = {one.id: records.outcome_of(session, one.id) for one in named}
        if "in_flight" in fates.values():
            # A run is sending it: what this notice gives it would be overtaken.
            hold(session, message, "mail_in_flight", now=now)
            return {"held": 1}
        readings = [
            notices.read_notice(
                opened.notice, is_daemon=sender.reason == "bounce", sender=sender.address, to_address=one.to_address
            )
            for one in named
        ]
        if sum(reading.kind != "unclear" for reading in readings) > 1:
            readings = [notices.Reading("unclear")] * len(named)
        for one, reading in zip(named, readings, strict=True):
            settled = notices.settle_by(
                reading, outcome=fates[one.id], is_answered=records.is_answered(session, one.id),
                was_delivered=records.was_delivered(session, one.id),
            )  # fmt: skip
            said = MailNotice(
                mail_id=one.id, message_id=message.id, kind=reading.kind, status=reading.status, booked_at=now
            )
            session.add(said)
            if settled is not None:
                reason = ", ".join(filter(None, reading))
                outbox.settle(
                    session, one, outcome=settled.outcome, by="flow:collect", reason=reason, now=now, code=settled.code
                )
                counts[reading.kind] += 1
            get_run_logger().warning(
                "mail %s to %s: %s %s by notice %s; %s", one.id, one.recipient, reading.kind, reading.status,
                message.sha256[:12], f"now {settled.outcome}" if settled else "nothing changed",
            )  # fmt: skip
        campaigns = {one.campaign_id for one in named}
        verdict = verdict_of(
            message, "notice", sender.reason, now=now, version=records.next_version(session, message.id),
            campaign_id=campaigns.pop() if len(campaigns) == 1 else None,
        )  # fmt: skip
        session.add(verdict)
        about = [
            {"mail": one.id, "kind": reading.kind, "status": reading.status}
            for one, reading in zip(named, readings, strict=True)
        ]
        record(
            session, actor="flow:collect", action="notice", subject=message.sha256,
            payload={"reason": sender.reason, "mails": about}, at=now,
        )  # fmt: skip
    return dict(counts)


def settle_proved(
    session: Session, message: Message, branch_no: str, items: list[tuple[str, int]], *, now: datetime
) -> None:
    """A mail that nobody knew to have arrived, or that was said to have bounced, has: its rows came back filled in."""
    for one in records.mails_proved(session, branch_no, items):
        outbox.settle(
            session, one, outcome="sent", by="flow:collect", reason=f"answered by {message.sha256[:12]}", now=now
        )


def hold(session: Session, message: Message, reason: str, *, now: datetime) -> None:
    """Book that a message waits, once for as long as it waits; one that a person has released stays released."""
    history = records.verdict_history(session, message.id)
    if not history or history[-1].verdict != "held":
        session.add(verdict_of(message, "held", reason, now=now, version=records.next_version(session, message.id)))
        record(session, actor="flow:collect", action="held", subject=message.sha256, payload={"reason": reason}, at=now)


def book_return(
    settings: Settings,
    store: Store,
    message: Message,
    opened: returns.Opened,
    branch_no: str,
    calls: pd.DataFrame,
    cases: pd.DataFrame,
    keys: list[sheets.RowKey],
    staff: dict[str, str],
    *,
    as_of: date,
    now: datetime,
) -> dict[str, int]:
    """One believed message: its rows, findings, evidence and verdict, all or nothing."""
    called = returns.judge_rows(
        sheets.CALLBACK, opened, calls, keys, branch_no=branch_no, as_of=as_of, staff=staff, language=settings.language
    )
    checked = returns.judge_rows(
        sheets.SELF_CHECK, opened, cases, keys, branch_no=branch_no, as_of=as_of, language=settings.language
    )
    matched = own_files(returns.match_files(opened, keys), calls, cases, branch_no)
    verdict, reason = returns.message_verdict([called, checked], files_matched=len(matched))
    kept = [
        (file, *vault.keep_evidence(settings, Path(file.path)), matched.get(file.part, ("", None)))
        for file in opened.files
        if not file.is_workbook
    ]
    with store.begin() as session:
        new_evidence = 0
        for file, sha256, path, (kind, item) in kept:
            new_evidence += records.add_evidence(
                session,
                message_id=message.id,
                part=file.part,
                sha256=sha256,
                size_bytes=file.size_bytes,
                media_type=file.media_type,
                item_kind=kind,
                item_id=item,
                path=path,
                kind=evidence.file_kind(file.media_type, file.name),
                seconds=file.seconds,
                fault=evidence.file_fault(file.media_type, file.size_bytes, file.seconds, file.fault),
            )
        session.flush()
        complete_calls, complete_checks = (
            keep_open(session, judged.accepted, sheet, tasks)
            for judged, sheet, tasks in ((called, sheets.CALLBACK, calls), (checked, sheets.SELF_CHECK, cases))
        )
        added = records.add_return_rows(session, message.id, complete_calls, booked_on=as_of)
        new_checks = records.add_self_checks(session, message.id, complete_checks, booked_on=as_of)
        close_rows(session, message.id, set(matched.values()), calls, cases, as_of=as_of)
        records.add_problems(session, message.id, called.problems)
        records.add_problems(session, message.id, checked.problems)
        found = records.open_findings(session, added, found_on=as_of)
        items = [("assignment", int(i)) for i in called.accepted["assignment_id"]]
        items += [("case", int(i)) for i in checked.accepted["case_id"]]
        settle_proved(session, message, branch_no, items, now=now)
        accepted = len(called.accepted) + len(checked.accepted)
        rejected = called.rows_rejected + checked.rows_rejected
        if accepted and not rejected and not added and not new_checks and not new_evidence:
            verdict, reason = "duplicate", "nothing_new"
        late = bool(called.accepted["is_late"].any() or checked.accepted["is_late"].any())
        session.add(
            verdict_of(
                message,
                verdict,
                reason,
                branch_no=branch_no,
                campaign_id=campaign_of(session, called, checked, calls, cases, branch_no, set(matched.values())),
                accepted=accepted,
                rejected=rejected,
                is_late=late,
                now=now,
                version=records.next_version(session, message.id),
            )
        )
        record(
            session,
            actor="flow:collect",
            action=verdict,
            subject=message.sha256,
            payload={"branch": branch_no, "accepted": accepted, "rejected": rejected},
            at=now,
        )
    get_run_logger().info(
        "message %s of branch %s: %s, %s rows accepted, %s sent back",
        message.sha256[:12],
        branch_no,
        verdict,
        accepted,
        rejected,
    )
    return {verdict: 1, "rows_accepted": accepted, "rows_rejected": rejected, "findings": found}


def own_files(
    matched: dict[int, tuple[sheets.ItemKind, int]], calls: pd.DataFrame, cases: pd.DataFrame, branch_no: str
) -> dict[int, tuple[sheets.ItemKind, int]]:
    """The files that name a row which the sender may answer."""
    own = set()
    for kind, tasks in (("assignment", calls), ("case", cases)):
        named = tasks[tasks[f"{kind}_id"].isin({item for of, item in matched.values() if of == kind})]
        theirs = named if branch_no == roster.HQ else named[named["branch_no"] == branch_no]
        own |= {(kind, int(item)) for item in theirs[f"{kind}_id"]}
    return {part: item for part, item in matched.items() if item in own}


def keep_open(session: Session, accepted: pd.DataFrame, sheet: sheets.Sheet, tasks: pd.DataFrame) -> pd.DataFrame:
    """Accepted rows with what they await; those whose evidence is missing do not complete."""
    ids = [int(item) for item in accepted[f"{sheet.item}_id"]]
    held = records.evidence_held(session, sheet.item, ids)
    return returns.hold_open(accepted, sheet, asked_of(tasks, sheet, ids), held)


def asked_of(tasks: pd.DataFrame, sheet: sheets.Sheet, ids: Collection[int]) -> dict[int, tuple[EvidenceKind, ...]]:
    """Which evidence the programmes of some tasks ask for."""
    mine = tasks[tasks[f"{sheet.item}_id"].isin(set(ids))]
    return dict(zip(mine[f"{sheet.item}_id"].astype(int), mine["evidence"], strict=True))


def close_rows(
    session: Session,
    message_id: int,
    items: Set[tuple[sheets.ItemKind, int]],
    calls: pd.DataFrame,
    cases: pd.DataFrame,
    *,
    as_of: date,
) -> None:
    """Rows that waited for what has come now are booked again with it; with all of it they complete."""
    for sheet, tasks in ((sheets.CALLBACK, calls), (sheets.SELF_CHECK, cases)):
        ids = {item for kind, item in items if kind == sheet.item}
        if not ids:
            continue
        mine = tasks[tasks[f"{sheet.item}_id"].isin(ids)]
        asked, held = asked_of(mine, sheet, ids), records.evidence_held(session, sheet.item, ids)
        due = dict(zip(mine[f"{sheet.item}_id"], mine["due_on"], strict=True))
        for row in records.rows_awaiting(session, sheet.item, ids):
            item = int(getattr(row, f"{sheet.item}_id"))
            said = {column.key: getattr(row, column.key) for column in row.__table__.columns}
            if sheet is sheets.CALLBACK:
                said["completes"] = True
            missing = ",".join(returns.evidence_missing(sheet, said, asked.get(item, ()), held.get(item, set())))
            if missing == row.awaits:
                continue
            content = returns.content_of_booked(sheet, item, said)
            records.add_version(
                session,
                row,
                message_id=message_id,
                booked_on=as_of,
                is_late=as_of > due[item],
                awaits=missing,
                content_sha256=returns.content_awaiting(content, missing),
                **({"completes": not missing} if sheet is sheets.CALLBACK else {}),
            )


def campaign_of(  # type: ignore[no-untyped-def]
    session,
    called,
    checked,
    calls: pd.DataFrame,
    cases: pd.DataFrame,
    branch_no: str,
    items: Set[tuple[sheets.ItemKind, int]],
) -> str | None:
    """The campaign most rows and files of a message belong to, or else the last one whose list the branch was sent."""
    files = {kind: {item for of, item in items if of == kind} for kind in ("assignment", "case")}
    named = [
        *calls.loc[
            calls["assignment_id"].isin(
                {*called.accepted["assignment_id"], *called.problems["assignment_id"].dropna(), *files["assignment"]}
            ),
            "campaign_id",
        ],
        *cases.loc[
            cases["case_id"].isin(
                {*checked.accepted["case_id"], *checked.problems["case_id"].dropna(), *files["case"]}
            ),
            "campaign_id",
        ],
    ]
    if named:
        return Counter(named).most_common(1)[0][0]
    return records.last_list_to(session, branch_no)


def verdict_of(
    message: Message,
    verdict: str,
    reason: str,
    *,
    now: datetime,
    branch_no: str = "",
    campaign_id: str | None = None,
    accepted: int = 0,
    rejected: int = 0,
    is_late: bool = False,
    version: int,
) -> Verdict:
    return Verdict(
        message_id=message.id,
        version=version,
        verdict=verdict,
        reason=reason,
        branch_no=branch_no,
        campaign_id=campaign_id,
        rows_accepted=accepted,
        rows_rejected=rejected,
        is_late=is_late,
        decided_by="flow:collect",
        decided_at=now,
    )
