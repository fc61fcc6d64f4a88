"""What `huifang status` says of a draw that waits: for whom or what a frozen year or a committed month stands still.

Knows the order of a draw (DRAW 13, 14) as it is shown; decides nothing.
"""

from __future__ import annotations

from typing import Any

from rich.console import Console
from sqlalchemy import select
from sqlalchemy.orm import Session

from flows.draw.seed import WITNESSES
from models.calendar import SHANGHAI
from models.outcomes import Language
from models.programme import ChainSeed, Programme, PublicNumber
from models.roster import HQ
from models.tables import NOT_DELIVERED, Campaign, Draw, ProgrammeYear
from tasks import outbox, records
from tasks.records.approvals import lacks_approval


def find_waiting(session: Session, language: Language) -> list[dict[str, Any]]:
    """Each frozen year without a month, each committed month that is not drawn, each draw that lacks its approval."""
    years: dict[tuple[str, int], ProgrammeYear] = {}
    for year in session.scalars(select(ProgrammeYear).order_by(ProgrammeYear.version)):
        years[year.programme, year.year] = year
    found = []
    for key in sorted(years):
        issued = records.campaigns_of_year(session, years[key].id)
        if not any(one.programme_year_id == years[key].id for one in issued):
            found.append(_frozen(session, years[key]))
        found += [_committed(session, one, language) for one in issued if session.get(Draw, one.id) is None]
        found += [_drawn(session, one) for one in issued if session.get(Draw, one.id) and lacks_approval(session, one.id)]
    return found


def _drawn(session: Session, issued: Campaign) -> dict[str, Any]:
    why = lacks_approval(session, issued.id)
    draw = session.get_one(Draw, issued.id)
    return {
        "programme_year": issued.programme_year_id, "campaign": issued.id, "stands": "drawn", "on": _day(draw.drawn_at),
        "attempt": draw.attempt, "waits_for": [_wait("approval", f"{why}: huifang approve {issued.id} --by NAME")],
    }  # fmt: skip


def _frozen(session: Session, year: ProgrammeYear) -> dict[str, Any]:
    rules = Programme.model_validate_json(year.plan)
    waits = []
    if isinstance(rules.seed, ChainSeed) and records.chain_of(session, year) is None:
        waits.append(
            _wait("chain", f"the chain of seeds: huifang chain {year.programme} {year.year} --out FILE --by NAME")
        )
    first = year.from_period or f"{year.year}-MM"
    waits.append(_wait("draw", f"the next draw: huifang run draw --programme {year.programme} --period {first}"))
    return {
        "programme_year": year.id, "campaign": "", "stands": "frozen", "on": _day(year.frozen_at), "attempt": 0,
        "waits_for": waits,
    }  # fmt: skip


def _committed(session: Session, issued: Campaign, language: Language) -> dict[str, Any]:
    year = session.get_one(ProgrammeYear, issued.programme_year_id)
    rules, attempts = Programme.model_validate_json(year.plan), records.attempts_of(session, issued.id)
    current, waits = attempts[-1], []
    if isinstance(rules.seed, ChainSeed) and records.seed_of(session, issued.id) is None:
        waits += _unmailed(session, issued, len(attempts))
        if not current.public:
            waits.append(_wait("public", _public_words(rules.seed.public, issued, current.number, language)))
        if not current.link and not any(one.link for one in attempts):
            month = int(issued.period[5:7])
            waits.append(
                _wait("link", f"link K{month}, from a second person: huifang reveal {issued.id} --link-file FILE --by NAME")
            )
    waits.append(_wait("draw", f"the next draw: huifang run draw --programme {year.programme} --period {issued.period}"))
    return {
        "programme_year": year.id, "campaign": issued.id, "stands": "committed", "on": _day(issued.committed_at),
        "attempt": current.number, "waits_for": waits,
    }  # fmt: skip


def _public_words(public: PublicNumber, issued: Campaign, number: int, language: Language) -> str:
    after = (
        f"the commitment of {issued.committed_at.astimezone(SHANGHAI):%Y-%m-%d %H:%M}"
        if number == 1
        else f"attempt {number - 1} was given up"
    )
    return (
        f"the public number ({public.name.model_dump()[language]}), the first one known after {after}: "
        f"huifang reveal {issued.id} --public NUMBER --on DAY --by NAME"
    )


def _unmailed(session: Session, issued: Campaign, number: int) -> list[dict[str, Any]]:
    """The witnesses whom the commitment of an attempt has not certainly reached."""
    mails = records.mails_of(session, issued.id)
    mine = mails[(mails["kind"] == "commitment") & (mails["recipient"] == HQ)]
    waits, stop = [], outbox.last_switch(session)
    is_stopped = stop is not None and stop.is_stopped
    for role in WITNESSES:
        sent = mine[(mine["role"] == role) & (mine["sequence"] // outbox.ATTEMPTS == number)]
        if sent["outcome"].eq("sent").any():
            continue
        last = sent["outcome"].iloc[-1] if len(sent) else ""
        what = {
            "": "not written yet; the next draw mails it to the one whom the roster names",
            "failed": "refused; correct the roster, the next draw mails it again",
            "bounced": "came back; correct the roster, the next draw mails it again",
            "recalled": "recalled; correct the roster, the next draw mails it again",
            "stopped": "held, all mail is stopped: huifang mail go, then the next draw mails it",
        }.get("stopped" if is_stopped and last in ("", *NOT_DELIVERED) else last, f"{last}; huifang mail list, then huifang mail resolve")
        waits.append(_wait("commitment_mail", f"the commitment's mail to {role}: {what}"))
    return waits


def _wait(what: str, says: str) -> dict[str, Any]:
    return {"what": what, "for_a_person": what != "draw", "says": says}


def _day(at: Any) -> str:
    return f"{at.astimezone(SHANGHAI):%Y-%m-%d}"


def is_for_a_person(waiting: list[dict[str, Any]]) -> bool:
    """Whether somebody has to do something before the next draw can go on."""
    return any(wait["for_a_person"] for one in waiting for wait in one["waits_for"])


def show_waiting(waiting: list[dict[str, Any]], console: Console) -> None:
    for one in waiting:
        attempt = f", attempt {one['attempt']}" if one["attempt"] > 1 else ""
        until = {"frozen": "no month of it is committed yet", "committed": "not drawn yet", "drawn": "not mailed"}[one["stands"]]
        head = f"{one['campaign'] or one['programme_year']}: {one['stands']} on {one['on']}{attempt}, {until}; it waits for"
        console.print(head, markup=False, highlight=False, soft_wrap=True)
        for wait in one["waits_for"]:
            console.print(f"  - {wait['says']}", markup=False, highlight=False, soft_wrap=True)
