"""Collect: fetch what came back, judge whose it is and what counts, keep the evidence, answer with a receipt."""

from collections import Counter
from collections.abc import Collection, Iterator, Set
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
from prefect import flow, get_run_logger, task
from sqlalchemy.orm import Session

from models import CallbackError, evidence, findings, notices, returns, roster, sheets
from models.calendar import SHANGHAI, Calendar
from models.evidence import EvidenceKind
from models.outcomes import Label, Language
from models.programme import Programme
from models.recall import without_recalled
from models.tables import Campaign, MailNotice, Message, ProgrammeYear, Verdict
from tasks import board, lake, lock, mail, mailbox, outbox, records, vault
from tasks.settings import Settings, read_calendar
from tasks.store import Store, open_store, record

SHOWN_PROBLEMS = 40
"""Rows a receipt lists; the rest is counted."""
CORRECTION = Label("更正表", "Correction")
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


class EmptyRoster(CallbackError):
    """Nobody is registered on the day, so nobody could be believed."""


@flow(name="collect", flow_run_name=board.run_name("collect", "as_of"))
def collect_returns(as_of: date | None = None, now: datetime | None = None) -> dict[str, int]:
    """Messages by verdict, rows accepted and sent back, findings, receipts by outcome."""
    log, settings = get_run_logger(), Settings()
    now = now or board.run_clock()
    as_of = as_of or now.astimezone(SHANGHAI).date()
    store = open_store(settings)
    with store.exclusive("collect"):
        seen = fetch_all(settings, store, now=now)
        totals: Counter[str] = Counter(
            dict.fromkeys(
                (
                    *(["accepted", "partly", "rejected", "quarantined", "notice", "held", "duplicate"]),
                    "rows_accepted",
                    "rows_rejected",
                    "findings",
                    "bounced",
                ),
                0,
            )
        )
        totals["seen"], totals["duplicate"], totals["unreadable"] = seen
        with store.begin() as session:
            waiting = records.unjudged(session)
        if waiting:
            with board.progress("collect") as advance:
                for place, counts in enumerate(judge_all(settings, store, waiting, as_of=as_of, now=now), start=1):
                    totals.update(counts)
                    advance(place / len(waiting))
            mailbox.forget_parts(settings)
        totals["unreconciled"] = move_all(settings, store)
        with outbox.opened(settings, store, run=f"collect {now.isoformat()}", now=now) as out:
            with store.begin() as session:
                owed = records.receipts_owed(session)
            put_off: Counter[str] = Counter()
            sent = out.deliver("receipt", build_receipts(settings, store, owed, put_off, as_of=as_of, now=now))
    for branch_no, receipts in sorted(put_off.items()):
        log.warning(
            "branch %s: %s receipts wait for another day, %s have gone to its address today; do two machines answer each other?",
            branch_no, receipts, settings.receipts_per_day,
        )  # fmt: skip
    totals["receipts_put_off"] = put_off.total()
    if sent.get("stopped"):
        totals["stopped"] = sent["stopped"]
    elif sent.get("waiting"):
        totals["mails_waiting"] = sent["waiting"]
    totals.update({"receipts_sent": sent["sent"], "failed": sent["failed"], "unknown": sent["unknown"] + len(out.lost)})
    board.publish_counts("collect", "collect", [dict(totals)])
    log.info("%s", dict(totals))
    return dict(totals)


@task(name="fetch messages", retries=2, retry_delay_seconds=[2, 10])
def fetch_all(settings: Settings, store: Store, *, now: datetime) -> tuple[int, int, int]:
    """Spool and book everything there is: new sightings, those whose bytes were known, and letters not to be had."""
    seen = again = unreadable = 0
    with mailbox.mailboxes(settings) as boxes:
        for box, letter in ((place, found) for place in boxes for found in place.letters()):
            try:
                spooled = mailbox.spool(box, letter, settings.spool)
            except mailbox.ConnectionLost:
                raise
            except mailbox.MailboxError as error:  # one letter that cannot be had must not hold up the others
                get_run_logger().warning("%s; the others are collected", error)
                unreadable += 1
                continue
            with store.begin() as session:
                _, is_new, is_fresh_sighting = records.add_sighting(
                    session,
                    sha256=spooled.sha256,
                    path=str(spooled.path.relative_to(settings.home.resolve())),
                    size_bytes=spooled.size_bytes,
                    source=letter.source,
                    folder=letter.folder,
                    uid_validity=letter.uid_validity,
                    uid=letter.uid,
                    now=now,
                )
            seen += is_fresh_sighting
            again += is_fresh_sighting and not is_new
    return seen, again, unreadable


def judge_all(
    settings: Settings, store: Store, waiting: list[Message], *, as_of: date, now: datetime
) -> Iterator[dict[str, int]]:
    """Each waiting message judged and booked in one transaction of its own: verdict and row counts."""
    log, calendar = get_run_logger(), read_calendar(settings)
    with store.begin() as session:
        contacts, blocked = records.snapshot_of(session, "roster", as_of), records.recalled(session)
    valid = roster.valid_on(without_recalled(lake.read_roster(settings, contacts.path), blocked), as_of)
    if valid.empty:
        raise EmptyRoster(
            f"nobody stands on the roster on {as_of}: every return would look like a stranger's; pull a roster first"
        )
    with store.begin() as session:
        people = records.optional_snapshot(session, "staff", as_of)
    staff = lake.names_of(settings, people.path, "staff_id", "staff_name") if people else {}
    calls, cases = expected_rows(settings, store, calendar, staff, as_of=as_of)
    keys, passwords = vault.row_keys(settings), vault.branch_passwords(settings)
    by_address = {
        str(row.email).casefold(): passwords[str(row.branch_no)]
        for row in valid.itertuples()
        if str(row.branch_no) in passwords
    }
    with store.begin() as session:
        answered_for, dropped_by = records.released(session), records.dropped(session, mailbox.PREFIX)
    own_server = (
        returns.OwnServer(settings.authserv_ids, settings.authserv_received_above) if settings.authserv_ids else None
    )
    home = settings.home.resolve()
    branch_of = {message.id: answered_for.get(message.id) or dropped_by.get(message.id) for message in waiting}
    own = {
        home / message.path: passwords[branch]
        for message in waiting
        if (branch := branch_of[message.id]) and branch in passwords
    }
    paths = [home / message.path for message in waiting]
    for message, opened in zip(waiting, mailbox.open_messages(paths, by_address, settings, own=own), strict=True):
        sender = returns.judge_sender(opened, valid, settings.mail_from, own_server)
        if message.id in answered_for and not opened.error:
            sender = returns.Sender(answered_for[message.id], "ok", "released", sender.address)
        elif message.id in dropped_by and not opened.error:
            sender = returns.judge_folder(dropped_by[message.id], valid)
        if sender.verdict == "held":
            log.warning("message %s: held, %s; the next run looks again", message.sha256[:12], sender.reason)
            with store.begin() as session:
                hold(session, message, sender.reason, now=now)
            yield {"held": 1}
            continue
        if sender.verdict == "notice":
            yield book_notice(store, message, opened, sender, now=now)
            continue
        if sender.branch_no is None:
            with store.begin() as session:
                session.add(
                    _verdict(
                        message,
                        sender.verdict,
                        sender.reason,
                        now=now,
                        version=records.next_version(session, message.id),
                    )
                )
                record(
                    session,
                    actor="flow:collect",
                    action=sender.verdict,
                    subject=message.sha256,
                    payload={"reason": sender.reason},
                    at=now,
                )
            log.warning("message %s: %s, %s", message.sha256[:12], sender.verdict, sender.reason)
            yield {sender.verdict: 1}
            continue
        try:
            counts = book_return(
                settings, store, message, opened, sender.branch_no, calls, cases, keys, staff, as_of=as_of, now=now
            )
        except vault.NotKept as error:
            log.warning("message %s: held, %s", message.sha256[:12], error)
            with store.begin() as session:
                hold(session, message, "unkept", now=now)
            counts = {"held": 1}
        yield counts


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
        verdict = _verdict(
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
        session.add(_verdict(message, "held", reason, now=now, version=records.next_version(session, message.id)))
        record(session, actor="flow:collect", action="held", subject=message.sha256, payload={"reason": reason}, at=now)


def expected_rows(
    settings: Settings, store: Store, calendar: Calendar, staff: dict[str, str], *, as_of: date
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The calls and cases returns may answer, with the names and phones as their sheets show them.

    Staff are names by staff number. A call also says who may not have made it, and both which evidence is asked for.
    """
    with store.begin() as session:
        calls, cases = records.calls_expected(session), records.cases_expected(session)
        years = {
            i: session.get_one(ProgrammeYear, i) for i in {*calls["programme_year_id"], *cases["programme_year_id"]}
        }
        paths = {i: records.snapshot_by_id(session, year.snapshots["customers"]).path for i, year in years.items()}
        relations = records.optional_snapshot(session, "relations", as_of)
    rules = {i: Programme.model_validate_json(year.plan) for i, year in years.items()}
    shown = {}
    for i, path in paths.items():
        ids = pd.concat([frame.loc[frame["programme_year_id"] == i, "customer_id"] for frame in (calls, cases)])
        shown[i] = lake.customers_of(settings, path, ids)
    for rows in (calls, cases):
        pairs = list(zip(rows["programme_year_id"], rows["customer_id"], strict=True))
        rows["customer_name"] = pd.Series(
            [sheets.mask_name(shown[y].at[c, "customer_name"]) for y, c in pairs], dtype="str", index=rows.index
        )
        rows["phone"] = pd.Series([shown[y].at[c, "phone"] or "" for y, c in pairs], dtype="str", index=rows.index)
    calls["attempts_required"] = pd.Series(
        [rules[y].attempts.count for y in calls["programme_year_id"]], dtype="int64", index=calls.index
    )
    calls["related"] = related_to(
        settings, calls, {i for i, rule in rules.items() if rule.recusal}, relations.path if relations else None, staff
    )
    due = [
        findings.self_check_due(sent, calendar, rules[y].self_check.workdays, rules[y].closing_hour)
        if not pd.isna(sent)
        else opened + timedelta(days=rules[y].self_check.workdays)
        for y, sent, opened in zip(cases["programme_year_id"], cases["delivered_at"], cases["opened_on"], strict=True)
    ]
    cases["due_on"] = pd.Series(due, dtype="object", index=cases.index)
    calls["evidence"] = pd.Series(
        [rules[y].evidence.calls for y in calls["programme_year_id"]], dtype="object", index=calls.index
    )
    cases["evidence"] = pd.Series(
        [rules[y].evidence.self_check for y in cases["programme_year_id"]], dtype="object", index=cases.index
    )
    return calls, cases


def related_to(
    settings: Settings, calls: pd.DataFrame, recusing: set[str], path: str | None, staff: dict[str, str]
) -> pd.Series:
    """Of each call, who may not have made it and on which days; nobody where the programme year has no recusal.

    That is who developed the customer at the draw, on any day, and all who developed or served him by the relations.
    """
    is_recusing = calls["programme_year_id"].isin(recusing)
    held: dict[str, list[returns.Related]] = {}
    if path is not None and is_recusing.any():
        for row in lake.relations_of(settings, path, calls.loc[is_recusing, "customer_id"]).itertuples():
            since, until = (
                None if pd.isna(day) else pd.Timestamp(day).date() for day in (row.valid_from, row.valid_to)
            )
            person = returns.Related(str(row.staff_id), staff.get(str(row.staff_id), str(row.staff_id)), since, until)
            held.setdefault(str(row.customer_id), []).append(person)
    found = [
        (*([returns.Related(d, staff.get(d, d))] if d else []), *held.get(customer, ())) if recuses else ()
        for customer, d, recuses in zip(calls["customer_id"], calls["developer_id"], is_recusing, strict=True)
    ]
    return pd.Series(found, index=calls.index, dtype="object")


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
            _verdict(
                message,
                verdict,
                reason,
                branch_no=branch_no,
                campaign_id=_campaign_of(session, called, checked, calls, cases, branch_no, set(matched.values())),
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
        asked, held = asked_of(tasks, sheet, ids), records.evidence_held(session, sheet.item, ids)
        due = dict(zip(tasks[f"{sheet.item}_id"], tasks["due_on"], strict=True))
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


def _campaign_of(  # type: ignore[no-untyped-def]
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
            cases["case_id"].isin({*checked.accepted["case_id"], *checked.problems["case_id"].dropna(), *files["case"]}),
            "campaign_id",
        ],
    ]
    if named:
        return Counter(named).most_common(1)[0][0]
    mails = records.mails_of(session)
    mine = mails.loc[(mails["recipient"] == branch_no) & (mails["kind"] == "assignment"), "campaign_id"]
    return str(mine.iloc[-1]) if len(mine) else None


def _verdict(
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


FOLDERS: dict[str, mailbox.Destination] = {"rejected": "Rejected", "quarantined": "Quarantine"}


def move_all(settings: Settings, store: Store) -> int:
    """Every judged message leaves the inbox for the folder of its verdict; one still there after a crash goes now.

    One that a person released or discarded leaves Quarantine in the same way.

    Returns by how many letters the mailboxes and the store differ afterwards: 0 unless somebody else put letters in, took
    some away or emptied a folder.
    """
    log = get_run_logger()
    with store.begin() as session:
        seen = records.sightings_to_move(session)
        decided = records.letters_decided(session)
        booked = records.letters_by_source(session)
    judged = {(r.source, r.folder, r.uid_validity, r.uid): r.verdict for r in seen.itertuples()}
    differing = 0
    with mailbox.mailboxes(settings) as boxes:
        for box in boxes:
            lying = 0
            for letter in list(box.letters()):
                key = (letter.source, letter.folder, letter.uid_validity, letter.uid)
                verdict = judged.get(key)
                if verdict is None:
                    continue
                if verdict == "held":
                    lying += 1
                    continue
                try:
                    box.move(letter, FOLDERS.get(str(verdict), "Processed"))
                except mailbox.ConnectionLost:
                    raise
                except mailbox.MailboxError as error:
                    log.warning("%s; the next run tries again", error)
                    lying += 1
            try:
                box.clear_quarantine(
                    [
                        mailbox.Decided(
                            mailbox.Letter(r.source, r.folder, r.uid_validity, r.uid), r.sha256, int(r.size_bytes),
                            FOLDERS.get(str(r.verdict), "Processed"),
                        )
                        for r in decided[decided["source"] == box.source].itertuples()
                    ]
                )  # fmt: skip
            except mailbox.ConnectionLost:
                raise
            except mailbox.MailboxError as error:
                log.warning("%s; the next run tries again", error)
            present = lying + box.count_moved()
            if present != booked.get(box.source, 0):
                log.warning(
                    "%s: holds %s letters that were seen, the store has booked %s; somebody moved, removed or added some",
                    box.source,
                    present,
                    booked.get(box.source, 0),
                )
            differing += abs(present - booked.get(box.source, 0))
    return differing


def build_receipts(
    settings: Settings, store: Store, owed: pd.DataFrame, put_off: Counter[str], *, as_of: date, now: datetime
) -> Iterator[outbox.Piece]:
    """One receipt per judged return, to the registered address only, and to each not more than it may have on one day.

    The others are counted in `put_off` by branch: they are owed, and a run of another day sends them.
    """
    if owed.empty:
        return
    log = get_run_logger()
    with store.begin() as session:
        blocked = records.recalled(session)
        valid = lake.usable_contacts(settings, *records.contacts_of(session, as_of), as_of, blocked)
        branches = lake.names_of(
            settings, records.snapshot_of(session, "branches", as_of).path, "branch_no", "branch_name"
        ) | {roster.HQ: settings.mail_name}
        refused = records.refused_addresses(session)
        midnight = now.astimezone(SHANGHAI).replace(hour=0, minute=0, second=0, microsecond=0)
        answered = Counter(records.receipts_since(session, midnight))
    keys = vault.row_keys(settings)
    key, places = keys[0], returned_rows(settings, store, owed, keys)
    titles = {c.key: c.label.text(settings.language) for sheet in sheets.SHEETS.values() for c in sheet.columns}
    for judged in owed.itertuples():
        with store.begin() as session:
            campaign = session.get_one(Campaign, judged.campaign_id)
            year = session.get_one(ProgrammeYear, campaign.programme_year_id)
            problems = records.problems_of(session, int(judged.message_id))
            files, open_again = records.brought_by(session, int(judged.message_id))
            kept_open = records.rows_kept_open(session, int(judged.message_id))
            useless = records.files_without_use(session, int(judged.message_id))
            message = session.get_one(Message, int(judged.message_id))
            due_on = records.due_of(session, campaign.id, str(judged.branch_no))
            kind = records.returned_kind(session, int(judged.message_id))
            role = f"message-{judged.message_id}"
            sequence = outbox.next_sequence(session, "receipt", campaign.id, str(judged.branch_no), role)
        rules = Programme.model_validate_json(year.plan)
        to = roster.recipient(
            valid, str(judged.branch_no), rules.list_to if judged.branch_no != roster.HQ else "hq_service"
        )
        if to is None or to.email in refused:
            log.warning(
                "message %s: no receipt, the roster has no usable %s for %s",
                message.sha256[:12],
                rules.list_to,
                judged.branch_no,
            )
            continue
        if answered[to.email] >= settings.receipts_per_day:
            put_off[str(judged.branch_no)] += 1
            continue
        answered[to.email] += 1
        listed = [
            {
                "sheet": returns.place_words(str(row.sheet), int(row.row), settings.language),
                "row": int(row.row),
                "column": titles.get(row.column_name, row.column_name),
                "task": ""
                if pd.isna(row.assignment_id)
                else sheets.row_code("assignment", int(row.assignment_id), key),
                "code": row.code,
                "advice": returns.problem_message(row.code, settings.language),
            }
            for row in problems.head(SHOWN_PROBLEMS).itertuples()
        ]
        booked = {(row["item_kind"], int(row["item_id"])): row for row in kept_open}
        to_correct = returns.correct_rows(
            problems, booked, places.get(int(judged.message_id), {}), settings.language, key
        )
        sheets_back = correction_sheets(
            settings, store, to_correct, campaign, rules, to, branches.get(to.branch_no, to.branch_no),
            message.sha256[:8], as_of=as_of,
        )  # fmt: skip
        words = mail.render(
            "receipt",
            settings.language,
            branch_name=branches.get(str(judged.branch_no), str(judged.branch_no)),
            title=rules.title.model_dump()[settings.language],
            period=campaign.period,
            sheet=kind,
            received_at=message.first_seen_at,
            reference=message.sha256[:8],
            accepted=int(judged.rows_accepted),
            rejected=int(judged.rows_rejected),
            problems=listed,
            problems_left_off=max(0, len(problems) - SHOWN_PROBLEMS),
            is_late=bool(judged.is_late),
            files=files,
            open_again=open_again,
            awaiting=[awaiting_words(*item, row["awaits"], key, settings.language) for item, row in booked.items()],
            useless=[useless_words(row, key, settings.language) for row in useless.itertuples()],
            attachment_names=[sheet.filename for sheet in sheets_back],
            key_place=settings.key_words,
            due_on=due_on,
            return_address=settings.mail_from,
            sender_name=settings.mail_name,
        )
        yield outbox.write(
            settings, "receipt", campaign.id, str(judged.branch_no), role, sequence, to.email, words, now=now,
            attachments=tuple(sheets_back),
        )  # fmt: skip


def awaiting_words(kind: sheets.ItemKind, item: int, awaits: str, key: sheets.RowKey, language: Language) -> dict[str, Any]:
    """One row that is kept open: its code, which kinds of file are missing, and a name for each."""
    code = sheets.row_code(kind, item, key)
    missing = [each for each in evidence.KINDS if each in awaits.split(",")]
    return {
        "task": code,
        "missing": [evidence.KINDS[each].text(language) for each in missing],
        "names": [f"{code}_{evidence.NAMED[each].text(language)}" for each in missing],
    }


def useless_words(file: Any, key: sheets.RowKey, language: Language) -> dict[str, Any]:
    """One file that is no evidence: its number in the mail, the row it names, and what is wrong with it ('' for no row)."""
    code = sheets.row_code(file.item_kind, int(file.item_id), key) if file.item_kind else ""
    return {
        "part": int(file.part), "task": code, "fault": evidence.FAULTS[file.fault].text(language) if file.fault else "",
    }  # fmt: skip


def returned_rows(
    settings: Settings, store: Store, owed: pd.DataFrame, keys: list[sheets.RowKey]
) -> dict[int, returns.Returned]:
    """Of each message with rows sent back, its rows by place, by message id: it is taken apart once more.

    What was sent back is booked by place and code, never by value; only the message itself has it.
    """
    with store.begin() as session:
        faulty = records.messages_with_problems(session, [int(number) for number in owed["message_id"]])
    owed = owed[owed["message_id"].isin(faulty)]
    if owed.empty:
        return {}
    home, passwords = settings.home.resolve(), vault.branch_passwords(settings)
    paths = [home / path for path in owed["path"]]
    own = {path: passwords.get(str(branch), []) for path, branch in zip(paths, owed["branch_no"], strict=True)}
    found = {}
    for number, opened in zip(owed["message_id"], mailbox.open_messages(paths, {}, settings, own=own), strict=True):
        found[int(number)] = {
            kind: returns.find_returned(sheet, opened, keys) for kind, sheet in returns.SHEET_OF.items()
        }
    mailbox.forget_parts(settings)
    return found


def cases_due(settings: Settings, rules: Programme, listed: pd.DataFrame, cases: pd.DataFrame) -> list[date]:
    """When each listed case is due, by the mail that brought it."""
    calendar, delivered = read_calendar(settings), cases.set_index("case_id")["delivered_at"]
    return [
        findings.self_check_due(delivered[case], calendar, rules.self_check.workdays, rules.closing_hour)
        for case in listed["case_id"]
    ]


def correction_sheets(
    settings: Settings,
    store: Store,
    to_correct: dict[sheets.ItemKind, returns.ToCorrect],
    campaign: Campaign,
    rules: Programme,
    to: roster.Recipient,
    branch_name: str,
    reference: str,
    *,
    as_of: date,
) -> list[mail.Attachment]:
    """The correction sheets that a receipt carries, locked as the lists are; none where no row is to be corrected."""
    if not to_correct:
        return []
    try:
        password = vault.branch_password(settings, to.branch_no)
    except vault.BranchKeyError as error:
        get_run_logger().warning("%s: no correction sheet for branch %s: %s", campaign.id, to.branch_no, error)
        return []
    title, key = rules.title.model_dump()[settings.language], vault.row_keys(settings)[0]
    found = []
    with store.begin() as session:
        people = records.optional_snapshot(session, "staff", as_of)
    staff = lake.names_of(settings, people.path, "staff_id", "staff_name") if people else {}
    for item, (ids, correction) in to_correct.items():
        with store.begin() as session:
            listed = records.calls_listed(session, ids) if item == "assignment" else records.cases_listed(session, ids)
            years = [session.get_one(ProgrammeYear, number) for number in listed["programme_year_id"].unique()]
            paths = [records.snapshot_by_id(session, year.snapshots["customers"]).path for year in years]
            delivered = records.cases_expected(session) if item == "case" else None
        known = pd.concat([lake.customers_of(settings, path, listed["customer_id"]) for path in dict.fromkeys(paths)])
        customers = known[~known.index.duplicated()]
        kind: sheets.SheetKind = (
            "self_check" if item == "case" else "hq_calls" if to.branch_no == roster.HQ else "callback"
        )
        rows = (
            sheets.case_rows(listed, customers, staff, cases_due(settings, rules, listed, delivered), key)
            if delivered is not None
            else sheets.call_rows(kind, listed, customers, staff, key)
        )
        content = sheets.write_sheet(
            kind, rows, campaign=campaign.id, title=title, branch_no=to.branch_no, branch_name=branch_name,
            language=settings.language, issued_on=as_of,
            addressee=sheets.Addressee(to.role, f"{campaign.id}/{to.branch_no}-{reference}"), correction=correction,
        )  # fmt: skip
        words = (CORRECTION.text(settings.language), sheets.SHEETS[kind].name.text(settings.language))
        name = "_".join([*words, title, campaign.period, to.branch_no, reference])
        found.append(mail.Attachment(f"{name}.xlsx", lock.lock_workbook(content, password), XLSX))
    return found
