"""`huifang exception, handover`: what an approver decides beside the rules of a draw.

Knows arguments and what a person is shown; the draw applies a decision, and each has a row of the audit chain.
"""

from __future__ import annotations

from datetime import date, datetime

from rich.console import Console
from sqlalchemy.orm import Session

from cli.decisions import DecisionRefused
from models import assignment
from models.programme import CoverageGoal, Programme, version_on
from models.tables import Campaign, HandMade, Handover, ProgrammeYear
from tasks import lake, records
from tasks.settings import Settings, read_programmes
from tasks.store import open_store, record


def give_exception(row: HandMade, *, console: Console) -> None:
    """Let an approver make an exception from the rules by name; the next draw applies it."""
    settings = Settings()
    store = open_store(settings)
    with store.exclusive(f"draw-{row.programme}"), store.begin() as session:
        years = records.programme_years(session, row.programme, row.year)
        for known in records.hand_made(session, row.programme, row.year, row.kind):
            if _subject(known) == _subject(row):
                console.print(f"this is given already, by {known.approver}; nothing changed")
                return
        _check_exception(settings, session, row, years)
        session.add(row)
        session.flush()
        record(
            session, actor=row.approver, action=f"exception {row.kind}", subject=f"{row.programme}-{row.year}",
            payload={"id": row.id, "note": row.note, "period": row.period, "group": row.group_key, "calls": row.calls},
            at=row.given_at,
        )  # fmt: skip
    console.print(f"{row.programme} {row.year}: {row.kind} is given by {row.approver}; the next run of draw applies it")


def _subject(row: HandMade) -> tuple[str, ...]:
    return row.customer_id, row.period, row.group_key, row.stratum


def _check_exception(settings: Settings, session: Session, row: HandMade, years: list[ProgrammeYear]) -> None:
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
        return
    if not years:
        raise DecisionRefused(f"{row.programme} {row.year}: no such programme year is frozen")
    if row.kind == "withdraw":
        taken = records.taken_of(session, years[0].id)
        if row.customer_id not in set(taken["customer_id"]):
            raise DecisionRefused(
                f"customer {row.customer_id}: has no call in {row.programme} {row.year}; only a call can be taken back"
            )
        return
    if row.kind == "reopen" and isinstance(Programme.model_validate_json(years[-1].plan).goal, CoverageGoal):
        raise DecisionRefused(
            f"{row.programme}: covers marketers, whose customers may have another developer by now; "
            "failures are reopened only in programmes with strata"
        )
    if session.get(Campaign, f"{row.programme}-{row.period}") is not None:
        raise DecisionRefused(f"{row.programme}-{row.period}: is committed already; the exception would come too late")
    quota, strata = records.quota_of(session, years[-1].id), records.strata_of(session, years[-1].id)
    groups = set(quota["group_key"])
    if groups and row.group_key not in groups:
        raise DecisionRefused(
            f"{row.group_key!r} is no group of {years[-1].id}; there are {', '.join(sorted(groups)[:20])}"
        )
    known = set(strata.loc[strata["group_key"] == row.group_key, "stratum"])
    if row.kind == "reopen" and known and row.stratum not in known:
        raise DecisionRefused(f"{row.stratum!r} is no stratum of {row.group_key}; there are {', '.join(sorted(known))}")


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
            raise DecisionRefused(
                f"branch {from_branch}: is handed over to {same['to_branch'].iloc[0]} on {valid_from} already"
            )
        row = Handover(
            from_branch=from_branch,
            to_branch=to_branch,
            valid_from=valid_from,
            reason=reason,
            decided_by=by,
            decided_at=now,
        )
        session.add(row)
        session.flush()
        assignment.branch_on(from_branch, records.handovers(session), valid_from)  # raises where they lead in a circle
        record(
            session, actor=by, action="handover", subject=f"branch {from_branch}",
            payload={"to": to_branch, "from": str(valid_from), "reason": reason}, at=now,
        )  # fmt: skip
    console.print(
        f"from {valid_from} {to_branch} stands for {from_branch}; the next run of draw passes open calls over"
    )
