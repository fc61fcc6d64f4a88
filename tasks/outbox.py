"""The outbox: every mail of any kind is written, claimed, sent and settled here, and nowhere else.

Claim before send: the row with its Message-ID and its bytes are on disk before the server is spoken to, the outcome
after. A crash in between leaves a claim without outcome, which the next run books as *unknown*; nothing is sent twice
blindly. Knows no words of a mail and no recipient's role.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

import pandas as pd
from prefect import task
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from models.tables import NOT_DELIVERED, Mail, MailItem, MailOutcome, MailSwitch
from tasks.mail import Attachment, Letter, Post, Rendered, compose, message_id, open_post
from tasks.postoffice import outgoing
from tasks.settings import Settings

log = logging.getLogger(__name__)

UNREACHED = 3


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
    own_id = message_id(kind, campaign_id, recipient, role, sequence, sender.rpartition("@")[2])
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


def book_lost(session: Session, now: datetime) -> list[str]:
    """Claims without an outcome become *unknown*; their keys are returned. Call only while holding the outbox."""
    lost = session.scalars(
        select(Mail).where(~select(MailOutcome.id).where(MailOutcome.mail_id == Mail.id).exists())
    ).all()
    for mail in lost:
        session.add(
            MailOutcome(
                mail_id=mail.id,
                outcome="unknown",
                code=None,
                decided_by="outbox",
                at=now,
                detail="the run ended between claim and outcome",
            )
        )
    return [f"{mail.kind} {mail.campaign_id} {mail.recipient} #{mail.sequence}" for mail in lost]


class Keeper(Protocol):
    """What keeps the rows: tasks/store.py's store."""

    def begin(self) -> AbstractContextManager[Session]: ...
    def exclusive(self, name: str) -> AbstractContextManager[None]: ...


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

    def deliver(self, kind: str, pieces: Iterable[Piece]) -> dict[str, int]:
        """Send pieces one after the other; counts by outcome, claimed included."""
        return send_all(self, kind, pieces)


@contextmanager
def opened(settings: Settings, store: Keeper, *, run: str, now: datetime) -> Iterator[Outbox]:
    """The outbox for one run alone, with a way to the mail server; what an earlier run lost is booked and said first."""
    with store.exclusive("outbox"), outgoing(settings) as url, open_post(settings, url) as post:
        with store.begin() as session:
            lost = book_lost(session, now)
        for key in lost:
            log.warning("%s: the last run ended between claim and outcome; booked as unknown, not sent again", key)
        yield Outbox(settings, store, post, run, now, tuple(lost))


@task(name="deliver mails", task_run_name="deliver {kind} mails")
def send_all(outbox: Outbox, kind: str, pieces: Iterable[Piece]) -> dict[str, int]:
    """Claim, send and settle each piece.

    A server that three mails in a row could not even reach is left alone, and so is everything once a person has
    stopped all mail, in the middle of a run too: the rest is neither claimed nor lost, a later run takes it up.
    """
    settings, begin, now = outbox.settings, outbox.store.begin, outbox.now
    counts: Counter[str] = Counter(claimed=0, sent=0, failed=0, unknown=0)
    unreached = 0
    for piece in pieces:
        if unreached == UNREACHED:
            log.error(
                "%s: the mail server could not be reached %s times in a row; the rest waits for the next run",
                kind,
                UNREACHED,
            )
            break
        path = settings.outbox / piece.campaign_id / f"{piece.kind}-{piece.recipient}-{piece.role}-{piece.sequence}.eml"
        with begin() as session:
            stop = last_switch(session)
            if stop is not None and stop.is_stopped:
                counts["stopped"] += 1
                log.warning("%s: all mail is stopped by %s; the rest waits", kind, stop.decided_by)
                break
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
                claimed_at=now,
                claimed_by=outbox.run,
            )
            session.add(mail)
            session.flush()
            session.add_all(MailItem(mail_id=mail.id, kind=item_kind, item_id=item) for item_kind, item in piece.items)
            mail_id = mail.id
        counts["claimed"] += 1
        delivery = outbox.post.send(piece.message, settings.mail_from, piece.to_address)
        with begin() as session:
            session.add(
                MailOutcome(
                    mail_id=mail_id,
                    outcome=delivery.outcome,
                    code=delivery.code,
                    detail=delivery.detail,
                    decided_by="outbox",
                    at=now,
                )
            )
        counts[delivery.outcome] += 1
        unreached = unreached + 1 if delivery.outcome == "failed" and delivery.code is None else 0
        if delivery.outcome != "sent":
            log.warning(
                "%s %s to %s #%s: %s %s",
                kind,
                piece.campaign_id,
                piece.recipient,
                piece.sequence,
                delivery.outcome,
                delivery.detail,
            )
    return dict(counts)


def settle(session: Session, mail: Mail, *, outcome: str, by: str, reason: str, now: datetime) -> None:
    """Book what a person found out about an unknown mail; *failed* lets the next run send it again."""
    session.add(MailOutcome(mail_id=mail.id, outcome=outcome, code=None, detail=reason, decided_by=by, at=now))


def _keep(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
