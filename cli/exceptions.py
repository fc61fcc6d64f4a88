"""`huifang exception, handover`: what an approver decides beside the rules of a draw, and takes back.

Knows arguments and what a person is shown; the draw applies a decision, and each has a row of the audit chain.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import Any

import pandas as pd
from rich.console import Console
from sqlalchemy import select
from sqlalchemy.orm import Session

from cli.decisions import DecisionRefused
from models import assignment
from models.calendar import SHANGHAI
from models.calendar import period as read_period
from models.programme import CoverageGoal, Programme, version_on
from models.tables import (
    Assignment,
    AssignmentEnd,
    AssignmentHandover,
    Campaign,
    DrawnCustomer,
    HandMade,
    Handover,
    ProgrammeYear,
    Revocation,
)
from tasks import lake, records
from tasks.settings import Settings, read_programmes
from tasks.store import Store, open_store, record


@dataclass(frozen=True)
class Decision:
    """An exception or a hand-over as it is listed."""

    number: int
    kind: str
    about: str
    """daily_risk 2026, or daily_risk-2026-04; '' of a hand-over."""
    what: str
    given_on: str
    by: str
    reason: str
    stands: str
    """open | used | revoked"""
    because: str
    """What used it, or who revoked it and why."""


# ---- exceptions ----------------------------------------------------------------------------------------------


def give_exception(row: HandMade, *, console: Console) -> None:
    """Let an approver make an exception from the rules by name; the next draw applies it."""
    settings = Settings()
    store = open_store(settings)
    with store.exclusive(f"draw-{row.programme}"), store.begin() as session:
        years = records.programme_years(session, row.programme, row.year)
        for known in records.hand_made(session, row.programme, row.year, row.kind):
            if _subject(known) != _subject(row):
                continue
            if (known.calls, known.reason_code, known.note) != (row.calls, row.reason_code, row.note):
                raise DecisionRefused(
                    f"exception {known.id}, by {known.approver}, says already: {_what(known)} ({known.note}). Two cannot hold at "
                    f"once: `huifang exception revoke {known.id} --by NAME --reason TEXT`, then give this one"
                )
            say(console, f"exception {known.id} says this already, by {known.approver}; nothing changed")
            return
        follows = _check_exception(settings, session, row, years)
        row.turn = 1 + len([old for old in _of_subject(session, row) if _subject(old) == _subject(row)])
        session.add(row)
        session.flush()
        record(
            session, actor=row.approver, action=f"exception {row.kind}", subject=f"{row.programme}-{row.year}",
            payload={"id": row.id, "note": row.note, "period": row.period, "group": row.group_key, "calls": row.calls},
            at=row.given_at,
        )  # fmt: skip
        number, what = row.id, _what(row)
        told = f"{row.programme} {row.year}", row.approver, row.note
    say(console, f"exception {number} in {told[0]}: {what}. Decided by {told[1]}: {told[2]}")
    say(console, f"{follows} Until then it can be taken back: huifang exception revoke {number} --by NAME --reason TEXT")


def say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _subject(row: HandMade) -> tuple[str, ...]:
    return row.customer_id, row.period, row.group_key, row.stratum


def _of_subject(session: Session, row: HandMade) -> list[HandMade]:
    """Every exception of the same programme year and kind, revoked ones included."""
    same = (HandMade.programme == row.programme, HandMade.year == row.year, HandMade.kind == row.kind)
    return list(session.scalars(select(HandMade).where(*same)))


def _what(row: HandMade) -> str:
    """What an exception says."""
    match row.kind:
        case "exclude":
            return f"customer {row.customer_id} is left out of the base as {row.reason_code}"
        case "withdraw":
            return f"the open call of customer {row.customer_id} is taken back as {row.reason_code}"
        case "capacity":
            return f"{row.group_key} takes on {row.calls} calls in {row.period}"
        case _:
            return f"{row.period} draws the failures of stratum {row.stratum} of {row.group_key} once more"


def _check_exception(settings: Settings, session: Session, row: HandMade, years: list[ProgrammeYear]) -> str:
    """What will follow from an exception; raises DecisionRefused where it cannot be given."""
    if row.kind == "exclude":
        if years:
            raise DecisionRefused(
                f"{years[0].id}: the base is frozen; nobody leaves it any more. An open call is taken back with "
                "`huifang exception withdraw`"
            )
        allowed = version_on(read_programmes(settings), row.programme, date(row.year, 1, 1)).hand_reasons()
        if row.reason_code not in allowed:
            raise DecisionRefused(
                f"--reason-code {row.reason_code}: programme {row.programme} lets customers be excluded by hand for "
                f"{', '.join(allowed) or 'no reason; give its exclusions a line with by_hand: true'}"
            )
        return f"The first draw of {row.year} freezes the base without this customer."
    if not years:
        raise DecisionRefused(f"{row.programme} {row.year}: no such programme year is frozen")
    if row.kind == "withdraw":
        calls = records.taken_of(session, years[0].id)
        mine = calls[calls["customer_id"] == row.customer_id].reset_index(drop=True)
        if mine.empty:
            raise DecisionRefused(
                f"customer {row.customer_id}: has no call in {row.programme} {row.year}; only a call can be taken back"
            )
        states = assignment.progress(
            mine, records.current_rows(session, years[0].id), records.ends(session), row.given_at.date()
        )["state"]
        if "open" not in set(states):
            return f"His call is {states.iloc[-1]} already, so nothing follows unless he is called again."
        campaign = mine.loc[states.eq("open").to_numpy(), "campaign_id"].iloc[-1]
        return (
            f"The next run of draw takes back his call of {campaign}; a reserve takes the place where the month's share "
            "still lacks one."
        )
    rules = Programme.model_validate_json(years[-1].plan)
    if row.kind == "reopen" and isinstance(rules.goal, CoverageGoal):
        raise DecisionRefused(
            f"{row.programme}: covers marketers, whose customers may have another developer by now; "
            "failures are reopened only in programmes with strata"
        )
    if session.get(Campaign, f"{row.programme}-{row.period}") is not None:
        raise DecisionRefused(f"{row.programme}-{row.period}: is committed already; the exception would come too late")
    if isinstance(rules.goal, CoverageGoal):
        _check_marketer(settings, session, row, rules.goal)
    else:
        groups = set(records.quota_of(session, years[-1].id)["group_key"])
        if row.group_key not in groups:
            raise DecisionRefused(
                f"{row.group_key!r} is no group of {years[-1].id}; there are {', '.join(sorted(groups)[:20])}"
            )
    strata = records.strata_of(session, years[-1].id)
    known = set(strata.loc[strata["group_key"] == row.group_key, "stratum"])
    if row.kind == "reopen" and known and row.stratum not in known:
        raise DecisionRefused(f"{row.stratum!r} is no stratum of {row.group_key}; there are {', '.join(sorted(known))}")
    return f"The draw that commits {row.programme}-{row.period} uses it."


def _check_marketer(settings: Settings, session: Session, row: HandMade, goal: CoverageGoal) -> None:
    day = read_period(row.period).last
    snapshot = records.snapshot_of(session, "staff", day)
    staff = lake.read_staff(settings, snapshot.path)
    mine = staff[staff["staff_id"].astype(str).eq(row.group_key)]
    if mine.empty or not mine["kind"].isin(list(goal.staff_kinds)).any():
        raise DecisionRefused(
            f"{row.group_key!r}: the staff extract of {snapshot.as_of} has no {' or '.join(goal.staff_kinds)} with this number; "
            "write it as the extract does, with its zeros"
        )


def revoke_exception(number: int, *, by: str, reason: str, now: datetime, console: Console) -> None:
    """Take an exception back, as long as no month has used it; the row stays and is listed as revoked."""
    store = open_store(Settings())
    row = _exception(store, number)
    with store.exclusive(f"draw-{row.programme}"), store.begin() as session:
        row = session.get_one(HandMade, number)
        _check_not_revoked(session, Revocation.hand_made_id, number, "exception")
        used = _used(session, row)
        if used:
            raise DecisionRefused(f"exception {number}: {_what(row)}: it cannot be taken back, {used}")
        session.add(Revocation(hand_made_id=number, reason=reason, decided_by=by, decided_at=now))
        record(
            session, actor=by, action="revoke exception", subject=f"{row.programme}-{row.year}",
            payload={"id": number, "reason": reason}, at=now,
        )  # fmt: skip
        what, about = _what(row), f"{row.programme} {row.year}"
    say(console, f"exception {number} in {about} is taken back by {by}: {reason}")
    say(console, f"It said that {what}; no draw applies it any more.")


def _exception(store: Store, number: int) -> HandMade:
    with store.begin() as session:
        row = session.get(HandMade, number)
        if row is None:
            raise DecisionRefused(f"exception {number}: there is none of this number; `huifang exception list` shows them")
        session.expunge(row)
    return row


def _check_not_revoked(session: Session, column: Any, number: int, word: str) -> None:
    known = session.scalar(select(Revocation).where(column == number))
    if known is not None:
        raise DecisionRefused(
            f"{word} {number}: was taken back already, by {known.decided_by} on {_day(known.decided_at)}: {known.reason}"
        )


def _used(session: Session, row: HandMade) -> str:
    """What has used an exception; '' while nothing has."""
    if row.kind == "exclude":
        years = records.programme_years(session, row.programme, row.year)
        return f"{years[0].id} is frozen with it" if years else ""
    if row.kind == "withdraw":
        ended = session.scalar(
            select(AssignmentEnd.ended_on)
            .join(Assignment, Assignment.id == AssignmentEnd.assignment_id)
            .where(
                Assignment.customer_id == row.customer_id,
                AssignmentEnd.kind == "withdrawn",
                AssignmentEnd.decided_by == row.approver,
                AssignmentEnd.reason == f"{row.reason_code}: {row.note}",
            )
        )
        return f"the call was taken back on {ended}" if ended else ""
    campaign = f"{row.programme}-{row.period}"
    return f"{campaign} is committed with it" if session.get(Campaign, campaign) is not None else ""


def list_exceptions(programme: str | None, year: int | None, *, as_json: bool, console: Console) -> None:
    """Every exception with who gave it, why, and whether it is used or taken back."""
    query = select(HandMade).order_by(HandMade.id)
    if programme is not None:
        query = query.where(HandMade.programme == programme)
    if year is not None:
        query = query.where(HandMade.year == year)
    with open_store(Settings()).begin() as session:
        revoked = _revocations(session, Revocation.hand_made_id)
        found = [
            Decision(
                row.id, row.kind, f"{row.programme}-{row.period}" if row.period else f"{row.programme} {row.year}",
                _what(row), _day(row.given_at), row.approver, row.note,
                *_standing(revoked.get(row.id), _used(session, row)),
            )
            for row in session.scalars(query)
        ]  # fmt: skip
    _show(found, "exception", as_json=as_json, console=console)


def _revocations(session: Session, column: Any) -> dict[int, Revocation]:
    return {getattr(row, column.key): row for row in session.scalars(select(Revocation).where(column.is_not(None)))}


def _standing(revoked: Revocation | None, used: str) -> tuple[str, str]:
    if revoked is not None:
        because = f"by {revoked.decided_by} on {_day(revoked.decided_at)}: {revoked.reason}"
        return "revoked", f"{because}; before that {used}" if used else because
    return ("used", used) if used else ("open", "")


def _day(at: datetime) -> str:
    return f"{at.astimezone(SHANGHAI):%Y-%m-%d}"


def _show(found: list[Decision], word: str, *, as_json: bool, console: Console) -> None:
    if as_json:
        print(json.dumps([asdict(one) for one in found], ensure_ascii=False, indent=2))  # noqa: T201
        return
    if not found:
        say(console, f"no {word} is given")
    for one in found:
        stands = {"open": "not used yet", "used": "used", "revoked": "revoked"}[one.stands]
        about = f" {one.about}" if one.about else ""
        say(console, f"{word} {one.number}{about}: {one.what}")
        say(console, f"    given by {one.by} on {one.given_on}: {one.reason}")
        say(console, f"    {stands}{': ' + one.because if one.because else ''}")


# ---- hand-overs ----------------------------------------------------------------------------------------------


def hand_over(
    from_branch: str, to_branch: str, *, valid_from: date, by: str, reason: str, now: datetime, console: Console
) -> None:
    """Let one branch stand for another from a day on; the next draw passes its open calls and new ones over."""
    settings = Settings()
    store = open_store(settings)
    with store.exclusive("handover"), store.begin() as session:
        known = records.handovers(session)
        snapshot = records.snapshot_of(session, "branches", valid_from)
        names = lake.names_of(settings, snapshot.path, "branch_no", "branch_name")
        for branch in (from_branch, to_branch):
            if branch not in names:
                raise DecisionRefused(f"branch {branch!r}: is not in the branches extract of {snapshot.as_of}")
        if from_branch == to_branch:
            raise DecisionRefused(f"branch {from_branch}: cannot stand for itself")
        same = known[(known["from_branch"] == from_branch) & (known["valid_from"] == valid_from)]
        if len(same):
            number = int(same["id"].iloc[0])
            raise DecisionRefused(
                f"branch {from_branch}: is handed over to {same['to_branch'].iloc[0]} on {valid_from} already, hand-over {number}; "
                f"a wrong one is taken back with `huifang handover revoke {number} --by NAME --reason TEXT`"
            )
        _check_circle(known, from_branch, to_branch, valid_from)
        turns = session.scalars(
            select(Handover.id).where(Handover.from_branch == from_branch, Handover.valid_from == valid_from)
        ).all()
        row = Handover(
            from_branch=from_branch,
            to_branch=to_branch,
            valid_from=valid_from,
            turn=len(turns) + 1,
            reason=reason,
            decided_by=by,
            decided_at=now,
        )
        session.add(row)
        session.flush()
        record(
            session, actor=by, action="handover", subject=f"branch {from_branch}",
            payload={"to": to_branch, "from": str(valid_from), "reason": reason}, at=now,
        )  # fmt: skip
        number = row.id
        leads_to = assignment.branch_on(from_branch, records.handovers(session), valid_from)
    onward = "" if leads_to == to_branch else f", and {leads_to} for that one"
    say(
        console,
        f"hand-over {number}: from {valid_from} on {to_branch} ({names[to_branch]}) stands for {from_branch} "
        f"({names[from_branch]}){onward}. Decided by {by}: {reason}",
    )
    say(
        console,
        f"Draws from that day on pass open calls over and give new ones to {leads_to}; the quota stays with {from_branch}. Until "
        f"then it can be taken back: huifang handover revoke {number} --by NAME --reason TEXT",
    )


def _check_circle(known: pd.DataFrame, from_branch: str, to_branch: str, valid_from: date) -> None:
    """Raise DecisionRefused where a hand-over and those there are lead in a circle, on its first day or a later one."""
    new = {"id": 0, "from_branch": from_branch, "to_branch": to_branch, "valid_from": valid_from}
    both = pd.concat([known, pd.DataFrame([new])], ignore_index=True)
    for day in sorted(day for day in {*both["valid_from"]} if day >= valid_from):
        path = assignment.find_circle(both, day)
        if not path:
            continue
        holding = both[(both["valid_from"] <= day) & both["from_branch"].isin(path) & (both["id"] > 0)]
        holding = holding.sort_values("valid_from").drop_duplicates("from_branch", keep="last")
        holding = holding[holding["from_branch"] != from_branch]
        named = ", ".join(
            f"hand-over {row.id} ({row.from_branch} to {row.to_branch} from {row.valid_from})" for row in holding.itertuples()
        )
        raise DecisionRefused(
            f"{from_branch} to {to_branch} from {valid_from} on would lead in a circle: {' → '.join(path)} on {day}, because of "
            f"{named}. If that one is wrong, `huifang handover revoke NUMBER --by NAME --reason TEXT` first; nothing is stored"
        )


def revoke_handover(
    number: int, *, by: str, reason: str, passed_calls_stay: bool, now: datetime, console: Console
) -> None:
    """Take a hand-over back: as if it had not been, or from now on where calls have passed by it."""
    store = open_store(Settings())
    with store.exclusive("handover"), store.begin() as session:
        row = session.get(Handover, number)
        if row is None:
            raise DecisionRefused(f"hand-over {number}: there is none of this number; `huifang handover list` shows them")
        _check_not_revoked(session, Revocation.handover_id, number, "hand-over")
        passed = _count_passed(session, row)
        if passed and not passed_calls_stay:
            raise DecisionRefused(
                f"hand-over {number}: {passed} calls have passed from {row.from_branch} to {row.to_branch} by it, and whoever has "
                "them is at work. To end it for calls to come and leave those where they are, add --passed-calls-stay"
            )
        session.add(Revocation(handover_id=number, reason=reason, decided_by=by, decided_at=now))
        record(
            session, actor=by, action="revoke handover", subject=f"branch {row.from_branch}",
            payload={"id": number, "reason": reason, "passed": passed}, at=now,
        )  # fmt: skip
        what = f"{row.from_branch} to {row.to_branch} from {row.valid_from} on"
        follows = f"New calls go to {row.from_branch} again, by the next draw"
    say(console, f"hand-over {number} ({what}) is taken back by {by}: {reason}")
    say(console, follows + (f"; the {passed} calls that have passed stay where they are." if passed else "."))


def _count_passed(session: Session, row: Handover) -> int:
    """Calls that lie with another branch than they would without a hand-over."""
    others = records.handovers(session)
    others = others[others["id"] != row.id]
    mine = {"id": row.id, "from_branch": row.from_branch, "to_branch": row.to_branch, "valid_from": row.valid_from}
    both = pd.concat([others, pd.DataFrame([mine])], ignore_index=True)
    passed = session.execute(
        select(
            AssignmentHandover.from_branch, AssignmentHandover.to_branch, AssignmentHandover.handed_over_on
        ).where(AssignmentHandover.handed_over_on >= row.valid_from)
    ).all()
    assigned = session.execute(
        select(DrawnCustomer.branch_no, Assignment.branch_no, Assignment.assigned_on)
        .join(
            DrawnCustomer,
            (DrawnCustomer.campaign_id == Assignment.campaign_id)
            & (DrawnCustomer.customer_id == Assignment.customer_id),
        )
        .where(Assignment.assigned_on >= row.valid_from, DrawnCustomer.branch_no != Assignment.branch_no)
    ).all()
    standing: dict[tuple[str, date], tuple[str, str]] = {}
    found = 0
    for origin, lies_with, day in (tuple(each) for each in (*passed, *assigned)):
        if (origin, day) not in standing:
            standing[origin, day] = (
                assignment.branch_on(origin, both, day),
                assignment.branch_on(origin, others, day),
            )
        by_it, without = standing[origin, day]
        found += by_it == lies_with != without
    return found


def list_handovers(*, as_json: bool, console: Console) -> None:
    """Every hand-over with who decided it, why, and whether calls have passed by it."""
    with open_store(Settings()).begin() as session:
        revoked = _revocations(session, Revocation.handover_id)
        found = []
        for row in session.scalars(select(Handover).order_by(Handover.id)):
            passed = _count_passed(session, row)
            used = f"{passed} calls have passed" if passed else ""
            found.append(
                Decision(
                    row.id, "handover", "", f"{row.to_branch} stands for {row.from_branch} from {row.valid_from} on",
                    _day(row.decided_at), row.decided_by, row.reason, *_standing(revoked.get(row.id), used),
                )
            )  # fmt: skip
    _show(found, "hand-over", as_json=as_json, console=console)
