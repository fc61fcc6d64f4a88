"""The outbox: every mail of any kind is written, claimed, sent and settled here, and nowhere else.

Claim before send: the row with its Message-ID and its bytes are on disk before the server is spoken to, the outcome
after. A crash in between leaves a claim without outcome, which the next run books as *unknown*; nothing is sent twice
blindly. While one mail is on its way, the next one is made and claimed; it is handed over when the outcome of the one
before stands in the store (docs/decisions/0026). Knows no words of a mail and no recipient's role.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol, cast

import pandas as pd
from prefect import task
from sqlalchemy import Table, func, insert, select, text
from sqlalchemy.orm import Session

from models.calendar import SHANGHAI
from models.tables import NOT_DELIVERED, Mail, MailItem, MailOutcome, MailSwitch
from tasks.mail import Attachment, Delivery, Letter, Post, Rendered, compose, message_id, open_post
from tasks.postoffice import outgoing
from tasks.settings import Settings
from tasks.vault import message_id_key

log = logging.getLogger(__name__)

ITEMS, OUTCOMES = cast(Table, MailItem.__table__), cast(Table, MailOutcome.__table__)
"""Written as plain rows: 170 mapped objects a list cost a run more than handing it over."""
REFUSED_IN_A_ROW = 3
"""So many mails in a row that met the server's own trouble, and it is left alone for this run."""
FIRST_PAUSE_SECONDS = 2.0
"""Before a mail that was put off is tried again; each further pause is twice as long."""


@dataclass(frozen=True)
class Piece:
    """One mail ready to go. items are the assignments or cases it carries."""

    kind: str
    campaign_id: str
    recipient: str
    role: str
    sequence: int
    to_address: str
    subject: str
    message_id: str
    message: bytes
    items: tuple[tuple[str, int], ...] = ()


def write(
    settings: Settings,
    kind: str,
    campaign_id: str,
    recipient: str,
    role: str,
    sequence: int,
    to_address: str,
    words: Rendered,
    *,
    now: datetime,
    attachments: tuple[Attachment, ...] = (),
    items: tuple[tuple[str, int], ...] = (),
) -> Piece:
    """A mail as it will go: its Message-ID follows from its key."""
    sender = settings.mail_from
    own_id = message_id(
        kind, campaign_id, recipient, role, sequence, sender.rpartition("@")[2], message_id_key(settings)
    )
    letter = Letter(to_address, words.subject, words.html, words.text, attachments, own_id, now)
    content = compose(letter, from_address=sender, from_name=settings.mail_name)
    return Piece(kind, campaign_id, recipient, role, sequence, to_address, words.subject, own_id, content, items)


def next_sequence(session: Session, kind: str, campaign_id: str, recipient: str, role: str) -> int:
    """The sequence the next mail of this key has, from 1."""
    last = session.scalar(
        select(func.max(Mail.sequence)).where(
            Mail.kind == kind, Mail.campaign_id == campaign_id, Mail.recipient == recipient, Mail.role == role
        )
    )
    return (last or 0) + 1


def hold_switch(session: Session) -> None:
    """Until the transaction ends nobody stops mail or lets it out: what is claimed was claimed before a stop, or not at all.

    SQLite has one writer at a time anyway.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("select pg_advisory_xact_lock(:key)"), {"key": zlib.crc32(b"huifang:mail_switch")})


def last_switch(session: Session) -> MailSwitch | None:
    """The last word about whether mail goes out; None when nobody ever stopped it."""
    return session.scalar(select(MailSwitch).order_by(MailSwitch.id.desc()).limit(1))


ATTEMPTS = 100
"""A mail that is due once has its own number times this, plus the attempt: a failed one may go again under a new key."""


def attempt(mails: pd.DataFrame, kind: str, recipient: str, role: str, number: int) -> int | None:
    """The sequence under which a mail that is due once goes now, or None when it went or may have gone.

    mails: as tasks/records/'s mails_of; number: what the mail is about, such as 202603 for a month.
    """
    mine = mails[(mails["kind"] == kind) & (mails["recipient"] == recipient) & (mails["role"] == role)]
    mine = mine[mine["sequence"] // ATTEMPTS == number]
    if (~mine["outcome"].isin(NOT_DELIVERED)).any():
        return None
    return number * ATTEMPTS + len(mine) + 1


BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def book_lost(session: Session, now: datetime, *, is_line_known: bool) -> tuple[list[str], list[str]]:
    """Claims without an outcome are booked; keys of those that are *unknown* now, and of those never handed over.

    Call only while holding the outbox. is_line_known: whether no outcome can have been lost. Then of the claims that one
    run left open only the first was on the line, and those after it *failed*: the next run sends them again.
    """
    lost = session.scalars(
        select(Mail).where(~select(MailOutcome.id).where(MailOutcome.mail_id == Mail.id).exists()).order_by(Mail.id)
    ).all()
    unknown: list[str] = []
    unspoken: list[str] = []
    for mail in lost:
        was_on_the_line = not is_line_known or mail.claimed_by != lost[0].claimed_by or mail is lost[0]
        session.add(
            MailOutcome(
                mail_id=mail.id,
                outcome="unknown" if was_on_the_line else "failed",
                code=None,
                decided_by="outbox",
                at=now,
                detail="the run ended between claim and outcome"
                if was_on_the_line
                else "the run ended before its turn",
            )
        )
        key = f"{mail.kind} {mail.campaign_id} {mail.recipient} #{mail.sequence}"
        (unknown if was_on_the_line else unspoken).append(key)
    return unknown, unspoken


def _boot_note(settings: Settings) -> tuple[Path, str]:
    """Where the last run's start of the machine is kept, and this one's; '' where the machine does not tell."""
    boot = BOOT_ID.read_text(encoding="ascii") if BOOT_ID.exists() else ""
    return settings.home.resolve() / "locks" / "outbox.boot", boot


def _is_line_known(settings: Settings, store: Keeper) -> bool:
    """Whether every outcome that was booked is still there: the machine has not restarted since, or its store syncs them."""
    note, boot = _boot_note(settings)
    return store.keeps_unsynced or (boot != "" and note.exists() and note.read_text(encoding="ascii") == boot)


def _note_boot(settings: Settings) -> None:
    """What later runs compare with. Only when no claim of an earlier start of the machine is open any more."""
    note, boot = _boot_note(settings)
    note.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    note.write_text(boot, encoding="ascii")


class Keeper(Protocol):
    """What keeps the rows: tasks/store.py's store."""

    def begin(self) -> AbstractContextManager[Session]: ...
    def begin_unsynced(self) -> AbstractContextManager[Session]: ...
    @property
    def keeps_unsynced(self) -> bool: ...
    def exclusive(self, name: str) -> AbstractContextManager[None]: ...


class Traffic:
    """How much may go out now: by the minute, by the day, and while the server takes it. Lives as long as a run.

    By the minute mails are spread evenly, so that the edge between two runs carries no burst. clock and wait are the
    machine's own, whatever day the run is for.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        out_today: int = 0,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self._gap_seconds = 60 / settings.mails_per_minute if settings.mails_per_minute else 0.0
        self._left_today = max(settings.mails_per_day - out_today, 0) if settings.mails_per_day else None
        self._retry_seconds = settings.mail_retry_seconds
        self._clock, self._wait = clock, wait
        self._next_at = clock()
        self._said_at = clock()
        self._in_a_row = 0
        self._is_patient = True
        self._is_flowing = False
        self.per_day = settings.mails_per_day
        self.stopped_by = ""

    def why_closed(self) -> str:
        """Why nothing more goes out in this run; '' while it does."""
        if self.stopped_by:
            return f"all mail is stopped by {self.stopped_by}; `huifang mail go` lets it out"
        if self._left_today == 0:
            return f"HUIFANG_MAILS_PER_DAY={self.per_day} are out; a run of another day sends them"
        if self._in_a_row >= REFUSED_IN_A_ROW:
            return f"the mail server refused or could not be reached {REFUSED_IN_A_ROW} times in a row; the next run sends them"
        return ""

    def may_go_ahead(self) -> bool:
        """Whether the next mail may be claimed while one is on its way: it will certainly be its turn afterwards."""
        return self._is_flowing and not self._gap_seconds and (self._left_today is None or self._left_today > 1)

    def minutes_for(self, mails: int) -> float:
        """How long so many mails take at least."""
        return mails * self._gap_seconds / 60

    def await_turn(self) -> None:
        """Wait until the next message may be handed over."""
        if self._gap_seconds:
            pause = self._next_at - self._clock()
            if pause > 0:
                self._wait(pause)
            self._next_at = self._clock() + self._gap_seconds

    def is_time_to_say(self) -> bool:
        """Whether a minute has passed since somebody was told how far it is."""
        is_due = self._clock() - self._said_at >= 60
        if is_due:
            self._said_at = self._clock()
        return is_due

    def pauses(self) -> Iterator[float]:
        """The pauses between the tries of one mail, in seconds; each is over when the next is asked for.

        A mail that waited in vain is the last to be waited for until another one was sent: five hundred that are put
        off alike cost a run one patience, not five hundred.
        """
        spent, pause = 0.0, FIRST_PAUSE_SECONDS
        while self._is_patient and spent + pause <= self._retry_seconds:
            self._wait(pause)
            yield pause
            spent, pause = spent + pause, pause * 2

    def note(self, delivery: Delivery) -> None:
        """What became of a mail, after its last try."""
        self._in_a_row = self._in_a_row + 1 if delivery.is_of_server else 0
        self._is_flowing = delivery.outcome == "sent"
        self._is_patient = delivery.outcome == "sent" or (self._is_patient and not delivery.is_temporary)
        if self._left_today and has_reached(delivery.outcome, delivery.code):
            self._left_today -= 1


def has_reached(outcome: str, code: int | None) -> bool:
    """Whether the mail server had to do with a mail: what never reached it does not count for the day.

    >>> has_reached("failed", None), has_reached("failed", 451), has_reached("unknown", None)
    (False, True, True)
    """
    return outcome != "failed" or code is not None


def count_of_day(session: Session, now: datetime) -> int:
    """Mails claimed on the day of `now` in Shanghai that reached the mail server, or may have."""
    midnight = now.astimezone(SHANGHAI).replace(hour=0, minute=0, second=0, microsecond=0)
    missed = select(MailOutcome.mail_id).where(
        MailOutcome.decided_by == "outbox", MailOutcome.outcome == "failed", MailOutcome.code.is_(None)
    )
    found = session.scalar(
        select(func.count(Mail.id)).where(
            Mail.claimed_at >= midnight, Mail.claimed_at < midnight + timedelta(days=1), Mail.id.not_in(missed)
        )
    )
    return found or 0


@dataclass(frozen=True)
class Outbox:
    """The outbox while one run holds it."""

    settings: Settings
    store: Keeper
    post: Post
    run: str
    now: datetime
    lost: tuple[str, ...]
    """Keys of the claims that an earlier run left without outcome, now booked as unknown."""
    traffic: Traffic

    @property
    def why_waiting(self) -> str:
        """Why mails of this run wait; '' when none does."""
        return self.traffic.why_closed()

    def deliver(self, kind: str, pieces: Iterable[Piece], planned: int | None = None) -> dict[str, int]:
        """Send pieces one after the other; counts by outcome, claimed and waiting included.

        planned: how many there are, where that is known without making them; else those that wait are made and counted.
        """
        return send_all(self, kind, pieces, planned)


@contextmanager
def opened(
    settings: Settings,
    store: Keeper,
    *,
    run: str,
    now: datetime,
    clock: Callable[[], float] = time.monotonic,
    wait: Callable[[float], None] = time.sleep,
) -> Iterator[Outbox]:
    """The outbox for one run alone, with a way to the mail server; what an earlier run lost is booked and said first."""
    with store.exclusive("outbox"), outgoing(settings) as url, open_post(settings, url) as post:
        with store.begin() as session:
            lost, unspoken = book_lost(session, now, is_line_known=_is_line_known(settings, store))
            out_today = count_of_day(session, now) if settings.mails_per_day else 0
        _note_boot(settings)
        for key in lost:
            log.warning("%s: the last run ended between claim and outcome; booked as unknown, not sent again", key)
        for key in unspoken:
            log.warning("%s: the last run ended before its turn; it is sent again", key)
        traffic = Traffic(settings, out_today=out_today, clock=clock, wait=wait)
        yield Outbox(settings, store, post, run, now, tuple(lost), traffic)


@task(name="deliver mails", task_run_name="deliver {kind} mails")
def send_all(outbox: Outbox, kind: str, pieces: Iterable[Piece], planned: int | None = None) -> dict[str, int]:
    """Claim, send and settle each piece.

    What the limits leave over, what a server in trouble would refuse, and everything once a person has stopped all mail,
    in the middle of a run too, is neither claimed nor lost: it waits, and a later run takes it up.
    """
    traffic = outbox.traffic
    counts: Counter[str] = Counter(claimed=0, sent=0, failed=0, unknown=0)
    left = iter(pieces)
    taken = 0
    if planned and traffic.minutes_for(planned) >= 1:
        log.info("%s: %s mails, %.0f minutes at the least", kind, planned, traffic.minutes_for(planned))

    def claim_next() -> tuple[Piece, int] | None:
        nonlocal taken
        piece = next(left, None)
        if piece is None:
            return None
        taken += 1
        traffic.await_turn()
        mail_id, traffic.stopped_by = _claim(outbox, piece)
        if traffic.stopped_by:
            return None
        counts["claimed"] += 1
        return piece, mail_id

    def settle_own(piece: Piece, mail_id: int, delivery: Delivery) -> None:
        traffic.stopped_by = _settle_own(outbox, mail_id, delivery) or traffic.stopped_by
        counts[delivery.outcome] += 1
        traffic.note(delivery)
        if delivery.outcome != "sent":
            key = f"{kind} {piece.campaign_id} to {piece.recipient} #{piece.sequence}"
            log.warning("%s: %s %s", key, delivery.outcome, delivery.detail)

    ahead = None
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="post") as line:
        while not traffic.why_closed() and (claim := ahead or claim_next()) is not None:
            (piece, mail_id), ahead = claim, None
            first_try = line.submit(outbox.post.send, piece.message, outbox.settings.mail_from, piece.to_address)
            try:
                ahead = claim_next() if traffic.may_go_ahead() else None
            finally:
                settle_own(piece, mail_id, _hand_over(outbox, piece, first_try.result()))
            if traffic.is_time_to_say():
                log.info("%s: %s%s mails are out", kind, counts["sent"], f" of {planned}" if planned else "")
    if ahead is not None:
        settle_own(*ahead, HELD)
    if why := traffic.why_closed():
        counts["waiting"] = (planned if planned is not None else taken + sum(1 for _ in left)) - counts["claimed"]
        if traffic.stopped_by:
            counts["stopped"] = counts["waiting"] + (ahead is not None)
        if counts["waiting"]:
            log.warning("%s: %s mails wait: %s", kind, counts["waiting"], why)
    return {name: n for name, n in counts.items() if n or name not in ("stopped", "waiting")}


HELD = Delivery("failed", None, "held: all mail was stopped before its turn")


def _claim(outbox: Outbox, piece: Piece) -> tuple[int, str]:
    """The number of the claim, which is on disk with the message before this returns; or who has stopped all mail."""
    settings = outbox.settings
    path = settings.outbox / piece.campaign_id / f"{piece.kind}-{piece.recipient}-{piece.role}-{piece.sequence}.eml"
    with outbox.store.begin() as session:
        hold_switch(session)
        if stopped_by := _stopped_by(session):
            return 0, stopped_by
        _keep(path, piece.message)
        mail = Mail(
            kind=piece.kind,
            campaign_id=piece.campaign_id,
            recipient=piece.recipient,
            role=piece.role,
            sequence=piece.sequence,
            to_address=piece.to_address,
            subject=piece.subject,
            message_id=piece.message_id,
            message_sha256=hashlib.sha256(piece.message).hexdigest(),
            path=str(path.relative_to(settings.home.resolve())),
            claimed_at=outbox.now,
            claimed_by=outbox.run,
        )
        session.add(mail)
        session.flush()
        rows = [{"mail_id": mail.id, "kind": item_kind, "item_id": item} for item_kind, item in piece.items]
        if rows:
            session.execute(insert(ITEMS), rows)
        return mail.id, ""


def _hand_over(outbox: Outbox, piece: Piece, delivery: Delivery) -> Delivery:
    """The fate of one claimed mail after its last try, the first of which came to `delivery`.

    Only what is certainly not delivered is tried again.
    """
    if not delivery.is_temporary:
        return delivery
    for _ in outbox.traffic.pauses():
        with outbox.store.begin() as session:
            if _stopped_by(session):
                return delivery
        outbox.traffic.await_turn()
        delivery = outbox.post.send(piece.message, outbox.settings.mail_from, piece.to_address)
        if not delivery.is_temporary:
            break
    return delivery


def _settle_own(outbox: Outbox, mail_id: int, delivery: Delivery) -> str:
    """Book an outcome; who has stopped all mail meanwhile, or nothing.

    Where it is lost with the machine's power, the claim stays and is *unknown*.
    """
    row = {
        "mail_id": mail_id, "outcome": delivery.outcome, "code": delivery.code, "detail": delivery.detail,
        "decided_by": "outbox", "at": outbox.now,
    }  # fmt: skip
    with outbox.store.begin_unsynced() as session:
        session.execute(insert(OUTCOMES), row)
        return _stopped_by(session)


def _stopped_by(session: Session) -> str:
    last = select(MailSwitch.is_stopped, MailSwitch.decided_by).order_by(MailSwitch.id.desc()).limit(1)
    found = session.execute(last).first()
    return found.decided_by if found is not None and found.is_stopped else ""


def settle(
    session: Session, mail: Mail, *, outcome: str, by: str, reason: str, now: datetime, code: int | None = None
) -> None:
    """Book what a person, a notice or a return says of a mail; what is *failed* then goes again with the next run."""
    session.add(MailOutcome(mail_id=mail.id, outcome=outcome, code=code, detail=reason, decided_by=by, at=now))


def _keep(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
