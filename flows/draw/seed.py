"""A month's seed: random, or from the chain of a programme year and a public number, once both are revealed."""

import secrets
from collections import Counter
from datetime import date, datetime
from typing import Any

from prefect import get_run_logger

from models import campaign, roster
from models.calendar import Period
from models.programme import ChainSeed, Programme
from models.tables import Campaign, ProgrammeYear, Seed
from tasks import lake, mail, outbox, records
from tasks.settings import Settings
from tasks.store import Store, record

WITNESSES = ("compliance", "hq_service")
"""Who is mailed the commitment of a month whose seed comes from a chain."""


def find_seed(store: Store, rules: Programme, issued: Campaign, span: Period, *, now: datetime) -> Seed | None:
    """The campaign's seed: stored before anything is drawn with it, and never made twice (DRAW 14, 15).

    None while a chain's public number or link has not been entered.
    """
    with store.begin() as session:
        known = records.seed_of(session, issued.id)
        if known is not None:
            return known
        match rules.seed:
            case "random":
                seed = Seed(
                    campaign_id=issued.id, attempt=1, seed=secrets.token_hex(32), origin="random", stored_at=now
                )
            case ChainSeed():
                attempt = records.attempts_of(session, issued.id)[-1]
                if not attempt.public or not attempt.link:
                    return None
                chain = records.chain_of(session, session.get_one(ProgrammeYear, issued.programme_year_id))
                assert chain is not None, "a campaign is committed after its chain"
                value = campaign.chain_seed(rules.programme, span, attempt, chain.k0)
                seed = Seed(campaign_id=issued.id, attempt=attempt.number, seed=value, origin="chain", stored_at=now)
        session.add(seed)
        record(session, actor="flow:draw", action="seed", subject=issued.id, payload={"seed": seed.seed}, at=now)
    return seed


def mail_commitment(
    settings: Settings,
    store: Store,
    rules: Programme,
    year: ProgrammeYear,
    issued: Campaign,
    *,
    as_of: date,
    now: datetime,
) -> dict[str, int]:
    """What was committed, mailed to compliance and headquarters: hashes in a mailbox that nobody can date back.

    Mails that did not leave, by why: stopped, waiting, failed, unknown, or gaps of the roster; the next draw mails them.
    """
    log = get_run_logger()
    with store.begin() as session:
        chain = records.chain_of(session, year)
        blocked = records.recalled(session)
        valid = lake.usable_contacts(settings, *records.contacts_of(session, as_of), as_of, blocked)
        mails = records.mails_of(session, issued.id)
        attempts = records.attempts_of(session, issued.id)
    assert chain is not None, "a campaign is committed after its chain"
    number, pieces, kept = len(attempts), [], Counter[str]()
    for role in WITNESSES:
        sequence = outbox.attempt(mails, "commitment", roster.HQ, role, number)
        to = roster.recipient(valid, roster.HQ, role)
        if sequence is None:
            continue
        if to is None:
            log.warning(
                "%s: the roster has no single %s of HQ on %s; the commitment is not mailed to it",
                issued.id,
                role,
                as_of,
            )
            kept["gaps"] += 1
            continue
        words = mail.render(
            "commitment", settings.language, title=rules.title.model_dump()[settings.language], period=issued.period,
            number=number, programme_year=year.id, frame_sha256=year.frame_sha256, plan_sha256=year.plan_sha256,
            k0=chain.k0, state_sha256=issued.state_sha256, committed_at=issued.committed_at,
            public=_public_words(rules, settings.language),
            given_up=[_given_up(one) for one in attempts[:-1]], sender_name=settings.mail_name,
        )  # fmt: skip
        pieces.append(
            outbox.write(settings, "commitment", issued.id, roster.HQ, role, sequence, to.email, words, now=now)
        )
    if pieces:
        with outbox.opened(settings, store, run=f"draw {now.isoformat()}", now=now) as out:
            counts = out.deliver("commitment", iter(pieces), len(pieces))
            kept.update({what: counts.get(what, 0) for what in ("stopped", "failed", "unknown")})
            kept["mails_waiting"] = counts.get("waiting", 0) - counts.get("stopped", 0)
    return {what: n for what, n in kept.items() if n}


def _given_up(attempt: campaign.Attempt) -> dict[str, Any]:
    assert attempt.abort_entry is not None, "an attempt before the last was given up"
    return {
        "number": attempt.number, "public": attempt.public, "public_on": attempt.public_on, "reason": attempt.aborted,
        "by": attempt.abort_entry.by, "at": attempt.abort_entry.at,
    }  # fmt: skip


def _public_words(rules: Programme, language: str) -> str:
    assert isinstance(rules.seed, ChainSeed), "only a chain has a public number"
    return str(rules.seed.public.name.model_dump()[language])
