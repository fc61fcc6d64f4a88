"""Collect: fetch what came back, judge whose it is and what counts, keep the evidence, answer with a receipt."""

from collections import Counter
from collections.abc import Iterator
from datetime import date, datetime

from prefect import flow, get_run_logger, task

from flows.collect.booked import book_notice, book_return, hold, verdict_of
from flows.collect.expected import expected_rows
from flows.collect.receipts import build_receipts
from models import CallbackError, returns, roster
from models.calendar import SHANGHAI
from models.recall import without_recalled
from models.tables import Message
from tasks import board, lake, mailbox, outbox, records, vault
from tasks.settings import Settings, read_calendar
from tasks.store import Store, open_store, record


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
                    verdict_of(
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
