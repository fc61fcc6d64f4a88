"""The calls of a campaign: who makes each and when, who moves up, what is taken back or handed over."""

from collections.abc import Mapping
from datetime import date, datetime

import pandas as pd
from prefect import get_run_logger
from sqlalchemy.orm import Session

from models import assignment, campaign, roster
from models.calendar import Calendar
from models.programme import Programme
from models.tables import AssignmentEnd, AssignmentHandover, Campaign, ProgrammeYear
from tasks import lake, records
from tasks.settings import Settings
from tasks.store import Store, record


def assign_calls(
    session: Session,
    settings: Settings,
    rules: Programme,
    year: ProgrammeYear,
    issued: Campaign,
    chosen: pd.DataFrame,
    calendar: Calendar,
    *,
    as_of: date,
    now: datetime,
    replaces: Mapping[str, int] | None = None,
) -> None:
    """A call with caller, planned day and due date for each chosen customer whom nobody is to call already.

    The selection is over: relations change the caller, a window the date, a hand-over the branch (DRAW 11).
    """
    joined = assignment.joined_calls(
        chosen, records.open_calls_of_others(session, issued, as_of), one_contact=rules.one_contact
    )
    own = chosen[~chosen["customer_id"].isin(joined["customer_id"])].reset_index(drop=True)
    moved = records.handovers(session)
    own["branch_no"] = _standing_in(own["branch_no"], moved, as_of)
    staff, relations = (records.optional_snapshot(session, table, as_of) for table in ("staff", "relations"))
    people = lake.read_staff(settings, staff.path) if staff else pd.DataFrame(columns=STAFF_COLUMNS)
    related = (
        lake.relations_of(settings, relations.path, own["customer_id"])
        if relations and len(own)
        else pd.DataFrame(columns=RELATION_COLUMNS)
    )
    load = records.planned_load(session, as_of)
    year_end = date(year.year, 12, 31)
    earliest = assignment.earliest_call(
        own["customer_id"],
        records.last_contacts(session, as_of) if rules.no_recontact else NO_CONTACTS,
        calendar,
        window_days=rules.no_recontact.days if rules.no_recontact else 0,
        first=as_of,
        year_end=year_end,
    )
    late = set(earliest.loc[earliest["reason"] != "", "customer_id"])
    callers = assignment.active_staff(people, rules.callers, as_of)
    callers["branch_no"] = _standing_in(callers["branch_no"], moved, as_of)
    barred = assignment.conflicts(related if rules.recusal else related.iloc[:0], as_of)
    by_caller = {str(k): int(n) for k, n in load.groupby("caller_id")["calls"].sum().items() if k}
    who = assignment.choose_callers(
        own[~own["customer_id"].isin(late)], callers, barred, by_caller, caller=rules.caller
    )
    per_workday = {str(b): rules.calls_per_workday(str(b)) for b in {*who["branch_no"], roster.HQ}}
    planned = assignment.spread_days(
        who,
        calendar,
        first=as_of,
        due_workdays=rules.due_workdays,
        per_workday=per_workday,
        load={(str(r.branch_no), r.call_on): int(r.calls) for r in _by_day(load).itertuples()},
        not_before={
            str(r.customer_id): r.not_before
            for r in earliest.itertuples()
            if r.reason == "" and r.not_before is not None
        },
        year_end=year_end,
    )
    postponed = int(planned["is_postponed"].sum())
    if postponed:
        get_run_logger().warning("%s: %s calls fall due later, on the first day with capacity", issued.id, postponed)
    new = (
        own[["customer_id", "branch_no", "form", "developer_id"]]
        .merge(who[["customer_id", "caller", "caller_id", "reason"]], on="customer_id", how="left", validate="1:1")
        .merge(planned[["customer_id", "call_on", "due_on"]], on="customer_id", how="left", validate="1:1")
        .rename(columns={"reason": "caller_reason"})
        .fillna({"caller": rules.caller, "caller_id": "", "caller_reason": ""})
    )
    for column, day in (("call_on", None), ("due_on", year_end)):
        new[column] = pd.Series([day if pd.isna(d) else d for d in new[column]], index=new.index, dtype="object")
    calls = records.add_assignments(
        session, issued, assignment.NEW.validate(new), joined, as_of=as_of, now=now, replaces=replaces
    )
    session.add_all(
        AssignmentEnd(
            assignment_id=calls[customer], kind="withdrawn", reason=assignment.NO_RECONTACT_WINDOW, ended_on=as_of,
            decided_by="flow:draw",
        )
        for customer in sorted(late)
    )  # fmt: skip


STAFF_COLUMNS = ["staff_id", "staff_name", "branch_no", "kind", "valid_from", "valid_to"]
RELATION_COLUMNS = ["customer_id", "staff_id", "kind", "valid_from", "valid_to"]
NO_CONTACTS = pd.DataFrame({"customer_id": pd.Series(dtype="str"), "contacted_on": pd.Series(dtype="object")})


def _standing_in(branches: pd.Series, handovers: pd.DataFrame, day: date) -> pd.Series:
    """Each branch, or the one that stands for it on a day."""
    stands_in = assignment.stand_ins(handovers, day)
    return branches.map(lambda branch: stands_in.get(branch, branch)).astype("str")


def _by_day(load: pd.DataFrame) -> pd.DataFrame:
    return load.groupby(["branch_no", "call_on"], as_index=False)["calls"].sum()


def withdraw_calls(session: Session, rules: Programme, year: ProgrammeYear, *, as_of: date, now: datetime) -> int:
    """How many open calls of a programme year were taken back because an approver said so (outcome exempt, DOMAIN §4)."""
    given = records.hand_made(session, rules.programme, year.year, "withdraw")
    if not given:
        return 0
    calls = records.taken_of(session, year.id)
    state = assignment.progress(calls, records.current_rows(session, year.id), records.ends(session), as_of)["state"]
    still_open = calls[state.eq("open").to_numpy()].set_index("customer_id")["assignment_id"].to_dict()
    found = [(row, int(still_open[row.customer_id])) for row in given if row.customer_id in still_open]
    for row, assignment_id in found:
        session.add(
            AssignmentEnd(
                assignment_id=assignment_id, kind="withdrawn", reason=f"{row.reason_code}: {row.note}", ended_on=as_of,
                decided_by=row.approver,
            )
        )  # fmt: skip
        record(
            session, actor=row.approver, action="withdraw", subject=f"assignment {assignment_id}",
            payload={"hand_made": row.id, "reason": row.reason_code}, at=now,
        )  # fmt: skip
    return len(found)


def hand_over_calls(session: Session, year: ProgrammeYear, *, as_of: date, now: datetime) -> int:
    """How many open calls of a programme year passed to the branch that stands for theirs now; each with a row of its own."""
    moved = records.handovers(session)
    if moved.empty:
        return 0
    calls = records.taken_of(session, year.id).drop_duplicates("assignment_id").reset_index(drop=True)
    state = assignment.progress(calls, records.current_rows(session, year.id), records.ends(session), as_of)
    passed = assignment.hand_over(state[["assignment_id", "branch_no", "state"]], moved, as_of)
    last = moved[pd.to_datetime(moved["valid_from"]) <= pd.Timestamp(as_of)].drop_duplicates("from_branch", keep="last")
    by_branch = last.set_index("from_branch")["id"].to_dict()
    for row in passed.itertuples():
        session.add(
            AssignmentHandover(
                assignment_id=int(row.assignment_id), handover_id=int(by_branch[row.from_branch]),
                from_branch=row.from_branch, to_branch=row.to_branch, handed_over_on=as_of,
            )
        )  # fmt: skip
    if len(passed):
        pairs = {f"{a} → {b}": int(n) for (a, b), n in passed.groupby(["from_branch", "to_branch"]).size().items()}
        record(session, actor="flow:draw", action="hand over", subject=year.id, payload=pairs, at=now)
    return len(passed)


def activate_reserve(
    settings: Settings,
    store: Store,
    rules: Programme,
    issued: Campaign,
    calendar: Calendar,
    *,
    as_of: date,
    now: datetime,
) -> int:
    """How many reserve customers took the place of booked failures, in the order these were booked (DRAW 9)."""
    with store.begin() as session:
        if records.later_campaigns(session, issued.programme_year_id, issued.period):
            return 0
        calls = records.taken_of(session, issued.programme_year_id)
        calls = calls[calls["campaign_id"] == issued.id].reset_index(drop=True)
        rows, ends = records.current_rows(session, issued.programme_year_id), records.ends(session)
        calls["state"] = assignment.progress(calls, rows, ends, as_of)["state"]
        drawn, groups = records.drawn_of(session, issued.id), records.groups_of(session, issued.id)
        reserve = drawn[(drawn["kind"] == "reserve") & ~drawn["customer_id"].isin(calls["customer_id"])]
        failed = calls[
            calls["state"].isin(["replaced", "withdrawn"])
            & ~calls["assignment_id"].isin(records.replaced_ids(session, issued.id))
        ]
        failed = failed.merge(rows[["assignment_id", "id", "booked_on"]], on="assignment_id", how="left")
        failed = failed.merge(ends[["assignment_id", "ended_on"]], on="assignment_id", how="left")
        failed["booked_on"] = failed["ended_on"].where(failed["ended_on"].notna(), failed["booked_on"])
        failed = failed.sort_values(["booked_on", "id", "assignment_id"], na_position="last")
        chosen = campaign.choose_reserves(groups, calls, failed, reserve)
        if chosen.empty:
            return 0
        taking = drawn.set_index("customer_id").loc[chosen["customer_id"]].reset_index()
        year = session.get_one(ProgrammeYear, issued.programme_year_id)
        replaces = {str(c): int(a) for c, a in zip(chosen["customer_id"], chosen["replaces"], strict=True)}
        assign_calls(session, settings, rules, year, issued, taking, calendar, as_of=as_of, now=now, replaces=replaces)
        record(
            session,
            actor="flow:draw",
            action="activate",
            subject=issued.id,
            payload={"customers": list(chosen["customer_id"])},
            at=now,
        )
    return len(chosen)
