"""`huifang chain, reveal, abort, verify`: the seeds of a draw that people enter, and its proof.

Knows arguments and what a person is shown; what is allowed is decided in models.campaign and written with a row of the
audit chain.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import date, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table
from sqlalchemy import select
from sqlalchemy.orm import Session

from flows.draw.verify import export_proof
from flows.draw.verify import verify as recompute
from models import CallbackError, campaign, sampling
from models.calendar import period as read_period
from models.programme import ChainSeed, Programme
from models.tables import Abort, Campaign, Chain, Draw, ProgrammeYear, Reveal
from tasks import outbox, records
from tasks.settings import Settings, read_calendar
from tasks.store import Store, open_store, record


class DecisionRefused(CallbackError):
    """What a person wants to enter contradicts the plan, the commitment or what was entered before."""


MONTHS = 12


def make_chain(programme: str, year_number: int, *, file: Path, by: str, now: datetime, console: Console) -> None:
    """Make a programme year's chain of seeds, write its links into a file for compliance, and commit to K₀ (DRAW 13)."""
    settings = Settings()
    store = open_store(settings)
    with store.exclusive(f"draw-{programme}"):
        with store.begin() as session:
            years = records.programme_years(session, programme, year_number)
            if not years:
                raise DecisionRefused(
                    f"{programme} {year_number}: the base is not frozen yet; run the draw of the year's first month first"
                )
            if not isinstance(Programme.model_validate_json(years[0].plan).seed, ChainSeed):
                raise DecisionRefused(
                    f"{years[0].id}: its plan has seed: random; a chain needs seed: {{kind: chain, …}}"
                )
            if session.get(Chain, years[0].id) is not None:
                raise DecisionRefused(f"{years[0].id}: a chain is committed already; there is one a year")
        links = sampling.make_chain(secrets.token_hex(32), MONTHS)
        # The file first: a commitment whose links nobody has would end the programme year.
        _write_links(file, years[0].id, links)
        with store.begin() as session:
            session.add(
                Chain(
                    programme_year_id=years[0].id, links=MONTHS, k0=links[0], frame_sha256=years[0].frame_sha256,
                    plan_sha256=years[0].plan_sha256, committed_by=by, committed_at=now,
                )
            )  # fmt: skip
            record(
                session, actor=by, action="chain", subject=years[0].id,
                payload={"k0": links[0], "frame": years[0].frame_sha256, "plan": years[0].plan_sha256}, at=now,
            )  # fmt: skip
    console.print(f"{years[0].id}: committed to K0 {links[0]}", soft_wrap=True)
    console.print(
        f"the links are in {file}: compliance keeps it away from this machine and reveals one line a month",
        soft_wrap=True,
    )


def _write_links(file: Path, year_id: str, links: tuple[str, ...]) -> None:
    lines = [f"# {year_id}: K0 is public; K1 to K{len(links) - 1} are secret until their month"]
    lines += [f"K{number} {link}" for number, link in enumerate(links)]
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise DecisionRefused(f"--out {file}: {error.strerror}; name a new file in a folder that is there") from None
    with os.fdopen(handle, "w", encoding="ascii") as out:
        out.write("\n".join(lines) + "\n")
        out.flush()
        os.fsync(out.fileno())


def reveal(
    campaign_id: str, *, public: str | None, on: date | None, link: str | None, by: str, now: datetime, console: Console
) -> None:
    """Enter the public number of a committed month, or compliance's link of the chain; two people (DRAW 14)."""
    if (public is None) == (link is None):
        raise DecisionRefused(
            "enter one thing at a time: --public NUMBER --on DAY, or the link, which is asked for, or --link-file FILE"
        )
    store = open_store(Settings())
    with _alone(store, campaign_id), store.begin() as session:
        issued, rules, chain = _open_chain(session, campaign_id)
        current = records.attempts_of(session, campaign_id)[-1]
        entered = list(session.scalars(select(Reveal).where(Reveal.campaign_id == campaign_id)))
        given = {row.kind: row for row in entered if row.attempt == current.number}
        kind, value = ("public", public) if public is not None else ("link", link)
        assert value is not None, "one of the two is given"
        value = value.strip() if kind == "public" else value.strip().lower()
        if kind in given:
            if given[kind].value == value:
                console.print(f"{campaign_id}: {kind} is entered already; nothing changed")
                return
            raise DecisionRefused(
                f"{campaign_id}: attempt {current.number} has another {kind} already, entered by {given[kind].revealed_by}; "
                "a wrong entry is given up with `huifang abort`, and the next public number taken"
            )
        if any(campaign.is_same_person(by, row.revealed_by) for row in entered if row.kind != kind):
            raise DecisionRefused(f"{campaign_id}: {by} has entered the other half; a second person enters this one")
        if kind == "public":
            assert isinstance(rules.seed, ChainSeed), "checked above"
            if on is None:
                raise DecisionRefused("--on DAY: of which day is the public number?")
            _require_mailed(session, campaign_id, current.number)
            after = max([issued.committed_at, *(row.decided_at for row in _aborts(session, campaign_id))])
            campaign.check_public(rules.seed.public, value, on, after, now, read_calendar(Settings()))
        else:
            if not current.public:
                raise DecisionRefused(
                    f"{campaign_id}: the public number is not entered yet; the link stays secret until it is there"
                )
            if current.link:
                console.print(f"{campaign_id}: the link is known since an earlier attempt; nothing changed")
                return
            campaign.check_link(value, read_period(issued.period), chain.k0)
        session.add(
            Reveal(
                campaign_id=campaign_id, attempt=current.number, kind=kind, value=value, public_on=on, revealed_by=by,
                revealed_at=now,
            )
        )  # fmt: skip
        record(
            session, actor=by, action=f"reveal {kind}", subject=campaign_id,
            payload={"attempt": current.number, "value": value, "on": str(on or "")}, at=now,
        )  # fmt: skip
        is_whole = kind == "link" or bool(current.link)
    console.print(
        f"{campaign_id}: {kind} entered by {by}; "
        + (
            "the next run of draw draws"
            if is_whole
            else f"now another person enters the link: huifang reveal {campaign_id} --by NAME asks for it"
        )
    )


@contextmanager
def _alone(store: Store, campaign_id: str) -> Iterator[None]:
    """Nobody draws the programme meanwhile: a draw that has read an entry is not overtaken by another one."""
    with store.begin() as session:
        issued = session.get(Campaign, campaign_id)
        year = session.get(ProgrammeYear, issued.programme_year_id) if issued else None
    # A campaign that is not there is refused by the reader.
    with store.exclusive(f"draw-{year.programme}") if year else nullcontext():
        yield


def _require_mailed(session: Session, campaign_id: str, number: int) -> None:
    """Raise DecisionRefused unless the commitment of an attempt has left for a witness's mailbox."""
    mails = records.mails_of(session, campaign_id)
    mine = mails[(mails["kind"] == "commitment") & (mails["sequence"] // outbox.ATTEMPTS == number)]
    if not mine["outcome"].eq("sent").any():
        stop = outbox.last_switch(session)
        is_stopped = "All mail is stopped: `huifang mail go` first. " if stop is not None and stop.is_stopped else ""
        became = ", ".join(f"{mail.role}: {mail.outcome}" for mail in mine.itertuples()) or "none was written"
        raise DecisionRefused(
            f"{campaign_id}: the commitment of attempt {number} has not been mailed to compliance or headquarters "
            f"({became}); a number that comes before it proves nothing. {is_stopped}Run `huifang run draw` for the period again, which "
            "mails it; where it is still not sent, look at HUIFANG_SMTP_URL and at compliance and hq_service of HQ in the roster"
        )


def _aborts(session: Session, campaign_id: str) -> list[Abort]:
    return list(session.scalars(select(Abort).where(Abort.campaign_id == campaign_id)))


def _open_chain(session: Session, campaign_id: str) -> tuple[Campaign, Programme, Chain]:
    """A committed campaign that is not drawn, whose seed comes from a chain."""
    issued = session.get(Campaign, campaign_id)
    if issued is None:
        raise DecisionRefused(f"{campaign_id}: is not committed; `huifang run draw` commits a month")
    year = session.get_one(ProgrammeYear, issued.programme_year_id)
    rules, chain = Programme.model_validate_json(year.plan), records.chain_of(session, year)
    if not isinstance(rules.seed, ChainSeed) or chain is None:
        raise DecisionRefused(f"{campaign_id}: its seed is random; there is nothing to reveal")
    if session.get(Draw, campaign_id) is not None:
        raise DecisionRefused(f"{campaign_id}: is drawn already; a month is drawn once")
    return issued, rules, chain


def abort(campaign_id: str, *, by: str, reason: str, now: datetime, console: Console) -> None:
    """Give up the attempt at a month before its draw; it stays reported, and the next attempt takes the next public number."""
    store = open_store(Settings())
    with _alone(store, campaign_id), store.begin() as session:
        _open_chain(session, campaign_id)
        current = records.attempts_of(session, campaign_id)[-1]
        if not current.public:
            raise DecisionRefused(
                f"{campaign_id}: nothing is entered for attempt {current.number}; there is nothing to give up"
            )
        if current.link:
            raise DecisionRefused(
                f"{campaign_id}: number and link are both entered, everybody can tell the seed; the next run of draw draws with it"
            )
        if records.seed_of(session, campaign_id) is not None:
            raise DecisionRefused(f"{campaign_id}: its seed is stored; the next run of draw draws with it")
        session.add(
            Abort(campaign_id=campaign_id, attempt=current.number, reason=reason, decided_by=by, decided_at=now)
        )
        record(
            session, actor=by, action="abort", subject=campaign_id,
            payload={"attempt": current.number, "reason": reason}, at=now,
        )  # fmt: skip
    console.print(
        f"{campaign_id}: attempt {current.number} is given up; attempt {current.number + 1} waits for the next public number"
    )


def show_verify(campaign_id: str, *, folder: Path | None, console: Console) -> bool:
    """Recompute a campaign and the months before it, and write the export; whether everything is the same."""
    settings = Settings()
    store = open_store(settings)
    checks = recompute(settings, store, campaign_id)
    table = Table(title=f"verify {campaign_id}")
    for column in ("what", "same", "found"):
        table.add_column(column, overflow="fold")
    verdicts = {True: "same", False: "NOT THE SAME", None: "NOT COMPARED"}
    for check in checks:
        table.add_row(check.name, verdicts[check.is_same], check.found)
    console.print(table)
    is_same = all(check.is_same is not False for check in checks)
    left = sum(check.is_same is None for check in checks)
    rest = f"; {left} could not be compared, see above" if left else ""
    console.print(f"{campaign_id}: {'same' if is_same else 'NOT THE SAME'}{rest}")
    if folder is not None:
        hashes = export_proof(settings, store, campaign_id, folder)
        listed = Table(title=f"export in {folder}", title_justify="left", show_header=False)
        for name, sha256 in hashes.items():
            listed.add_row(name, sha256)
        console.print(listed)
        console.print(f"check it without huifang: cd {folder} && python3 verify_sample.py", soft_wrap=True)
    return is_same
