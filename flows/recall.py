"""Recall: a mail that went to the wrong recipient is recorded, blocked, and its destruction asked for.

Not scheduled: a person says `huifang mail recall`.
"""

from datetime import datetime

from sqlalchemy.orm import Session

from models import recall as rules
from models.calendar import SHANGHAI
from models.programme import Programme
from models.tables import NOT_DELIVERED, Campaign, Mail, MailRecall, ProgrammeYear
from tasks import mail, outbox, records
from tasks.settings import Settings
from tasks.store import Store, record


def book_recall(store: Store, number: int, *, by: str, reason: str, measures: str, now: datetime) -> MailRecall:
    """The record of a recalled mail. From now on it counts as not delivered. Raises RecallRefused.

    Needs no outbox: a run that is sending other mails must not hold it up.
    """
    with store.begin() as session:
        sent = session.get(Mail, number)
        if sent is None:
            raise rules.RecallRefused(f"mail {number}: is not there; `huifang mail list` shows those that are")
        before = records.recall_of(session, number)
        earlier = f"by {before.decided_by} on {before.decided_at.astimezone(SHANGHAI):%Y-%m-%d %H:%M}" if before else ""
        request = records.request_of(session, before) if before else ""
        rules.check_recall(number, sent.kind, records.outcome_of(session, number), earlier, request)
        persons = records.persons_in(session, number)
        kinds = rules.data_kinds(sent.kind, has_sheet=persons > 0)
        booked = MailRecall(
            mail_id=number, recipient=sent.recipient, to_address=sent.to_address, data_kinds=kinds,
            persons=persons, is_locked=rules.is_locked(sent.kind, has_sheet=persons > 0), cause=reason,
            measures=measures, decided_by=by, decided_at=now,
        )  # fmt: skip
        session.add(booked)
        outbox.settle(session, sent, outcome="recalled", by=by, reason=reason, now=now)
        record(
            session, actor=by, action="mail recall", subject=f"mail {number}",
            payload={"reason": reason, "measures": measures, "persons": booked.persons, "data_kinds": kinds}, at=now,
        )  # fmt: skip
        return booked


def send_request(settings: Settings, store: Store, number: int, *, now: datetime) -> str:
    """What became of the request to destroy a recalled mail; one that is out, or may be, is not sent again.

    '' when it waits: all mail is stopped, or the day's limit is reached. Raises Busy while a run holds the outbox.
    """
    with outbox.opened(settings, store, run=f"recall {now.isoformat()}", now=now) as out:
        with store.begin() as session:
            known = records.recall_of(session, number)
            if known is None:
                raise rules.RecallRefused(f"mail {number}: was not recalled")
            state = records.request_of(session, known)
            if state and state not in NOT_DELIVERED:
                return state
            piece = write_request(session, settings, known, now=now)
        # The task's own function: the answer to a leak waits for no server but the mail server.
        outbox.send_all.fn(out, "recall", iter([piece]), 1)
    with store.begin() as session:
        known = records.recall_of(session, number)
        assert known is not None, "records are never removed"
        return records.request_of(session, known)


def write_request(session: Session, settings: Settings, known: MailRecall, *, now: datetime) -> outbox.Piece:
    """The request to destroy, to the address that has the mail, without a word of what the mail says."""
    sent = session.get_one(Mail, known.mail_id)
    campaign = session.get_one(Campaign, sent.campaign_id)
    year = session.get_one(ProgrammeYear, campaign.programme_year_id)
    role = records.request_role(sent.id)
    words = mail.render(
        "recall", settings.language, title=Programme.model_validate_json(year.plan).title.model_dump()[settings.language],
        period=campaign.period, mail_subject=sent.subject, sent_at=sent.claimed_at, number=sent.id,
        is_locked=known.is_locked, return_address=settings.mail_from, sender_name=settings.mail_name,
    )  # fmt: skip
    sequence = outbox.next_sequence(session, "recall", campaign.id, sent.recipient, role)
    return outbox.write(
        settings, "recall", campaign.id, sent.recipient, role, sequence, known.to_address, words, now=now
    )
