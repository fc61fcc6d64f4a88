"""Assignments: one customer to be called by someone by a date, what it serves, and how far it has come.

Knows which drawn customer becomes a call of his own and which joins an open one, who may make it and on which day, who
takes it over when a branch closes, and the five states of the balance. Knows neither mails nor workbooks, and has no
say in who is drawn: a relation changes the caller, a window the date (DRAW 11).
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections import Counter, defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

import numpy as np
import pandas as pd
import pandera.pandas as pa

from models import CallbackError
from models.calendar import Calendar
from models.roster import HQ

STATES = ("completed", "open", "replaced", "withdrawn", "expired")
"""Every assignment is in exactly one; *replaced* means failed, its place has passed to the reserve or the next draw."""

RECUSAL = "recusal"
"""Why headquarters calls: every caller of the branch developed or serves the customer."""
NO_RECONTACT_WINDOW = "no_recontact_window"
"""Why nobody calls: the customer may not be contacted again before the programme year is over."""


class AssignmentError(CallbackError):
    """Capacities or hand-overs with which no call can be given to anybody."""


NEW = pa.DataFrameSchema(
    {
        "customer_id": pa.Column(str),
        "branch_no": pa.Column(str),
        "form": pa.Column(str, pa.Check.isin(["risk_warning", "conduct"])),
        "developer_id": pa.Column(str),
        "caller": pa.Column(str, pa.Check.isin(["branch", "hq"])),
        "caller_id": pa.Column(str),
        "caller_reason": pa.Column(str, pa.Check.isin(["", RECUSAL])),
        "call_on": pa.Column("object", nullable=True),  # missing where the no-recontact window outlasts the year
        "due_on": pa.Column("object"),
    },
    strict=True,
    unique=["customer_id"],
)
"""A new assignment, one per drawn customer whom nobody is to call already."""

PROGRESS = pa.DataFrameSchema(
    {
        "assignment_id": pa.Column(int),
        "branch_no": pa.Column(str),
        "state": pa.Column(str, pa.Check.isin(STATES)),
        "attempted": pa.Column(bool),
        "is_overdue": pa.Column(bool),
    },
    strict=True,
    unique=["assignment_id"],
)

CONFLICTS = pa.DataFrameSchema(
    {"customer_id": pa.Column(str), "staff_id": pa.Column(str)}, strict=True, unique=["customer_id", "staff_id"]
)

CALLERS = pa.DataFrameSchema(
    {
        "staff_id": pa.Column(str),
        "branch_no": pa.Column(str),  # HQ for headquarters' own
    },
    strict=True,
    unique=["staff_id"],
)

CHOSEN = pa.DataFrameSchema(
    {
        "customer_id": pa.Column(str),
        "branch_no": pa.Column(str),
        "caller": pa.Column(str, pa.Check.isin(["branch", "hq"])),
        "caller_id": pa.Column(str),  # '' where the branch or headquarters decides; the return is checked
        "reason": pa.Column(str, pa.Check.isin(["", RECUSAL])),
    },
    strict=True,
    unique=["customer_id"],
)

EARLIEST = pa.DataFrameSchema(
    {
        "customer_id": pa.Column(str),
        "not_before": pa.Column("object", nullable=True),  # missing where there is a reason
        "reason": pa.Column(str, pa.Check.isin(["", NO_RECONTACT_WINDOW])),
    },
    strict=True,
    unique=["customer_id"],
)

PLANNED = pa.DataFrameSchema(
    {
        "customer_id": pa.Column(str),
        "call_on": pa.Column("object"),
        "due_on": pa.Column("object"),
        "is_postponed": pa.Column(bool),  # capacity did not reach: the due date was moved to the planned day
    },
    strict=True,
    unique=["customer_id"],
)

HANDOVERS = pa.DataFrameSchema(
    {"from_branch": pa.Column(str), "to_branch": pa.Column(str), "valid_from": pa.Column("datetime64[s]")},
    strict=True,
)

HANDED_OVER = pa.DataFrameSchema(
    {"assignment_id": pa.Column(int), "from_branch": pa.Column(str), "to_branch": pa.Column(str)},
    strict=True,
    unique=["assignment_id"],
)


def joined_calls(drawn: pd.DataFrame, open_calls: pd.DataFrame, *, one_contact: bool = True) -> pd.DataFrame:
    """Drawn customers whom somebody is already to call: customer_id, assignment_id (one contact serves several purposes).

    open_calls: customer_id, assignment_id, form of open assignments of other campaigns. A call joins only one whose
    form fits, and the oldest of several: the same form, or the conduct form, which contains the risk-warning questions.
    Nobody joins where the programme does not say one_contact.
    """
    both = drawn[["customer_id", "form"]].merge(open_calls, on="customer_id", how="inner", suffixes=("", "_open"))
    fits = both["form"].eq(both["form_open"]) | both["form_open"].eq("conduct")
    oldest = both[fits & one_contact].sort_values("assignment_id").drop_duplicates("customer_id")
    return oldest[["customer_id", "assignment_id"]].reset_index(drop=True)


def progress(assignments: pd.DataFrame, rows: pd.DataFrame, ends: pd.DataFrame, as_of: date) -> pd.DataFrame:
    """The state of each assignment on a day; see PROGRESS.

    assignments: assignment_id, branch_no, due_on; rows: the current accepted row of each assignment that has one
    (assignment_id, completes, fails); ends: assignment_id, kind.
    """
    found = (
        assignments[["assignment_id", "branch_no", "due_on"]]
        .merge(rows[["assignment_id", "completes", "fails"]], on="assignment_id", how="left")
        .merge(ends[["assignment_id", "kind"]], on="assignment_id", how="left")
    )
    completes, fails = found["completes"].eq(True), found["fails"].eq(True)
    state = pd.Series("open", index=found.index, dtype="str")
    state = state.mask(fails, "replaced")
    state = state.mask(found["kind"].notna(), found["kind"])
    state = state.mask(completes, "completed")
    due = pd.Series([day < as_of for day in found["due_on"]], index=found.index, dtype=bool)
    return PROGRESS.validate(
        pd.DataFrame(
            {
                "assignment_id": found["assignment_id"].astype(int),
                "branch_no": found["branch_no"].astype(str),
                "state": state.astype(str),
                "attempted": found["completes"].notna(),
                "is_overdue": state.eq("open") & due,
            }
        )
    )


def conflicts(relations: pd.DataFrame, day: date) -> pd.DataFrame:
    """Who developed or serves whom on a day, both ends included, an open end for ever; see CONFLICTS.

    relations: customer_id, staff_id, valid_from, valid_to.
    """
    held = relations.loc[_holds(relations, day), ["customer_id", "staff_id"]].astype("str").drop_duplicates()
    return CONFLICTS.validate(held.sort_values(["customer_id", "staff_id"], ignore_index=True))


def active_staff(staff: pd.DataFrame, kinds: Sequence[str], day: date) -> pd.DataFrame:
    """Staff of some kinds who are there on a day, both ends included; see CALLERS.

    staff: staff_id, branch_no, kind, valid_from, valid_to; a missing date sets no limit.
    """
    named = staff.loc[_holds(staff, day) & staff["kind"].isin(list(kinds)), ["staff_id", "branch_no"]].astype("str")
    return CALLERS.validate(named.sort_values("staff_id", ignore_index=True))


def choose_callers(
    calls: pd.DataFrame,
    callers: pd.DataFrame,
    conflicts: pd.DataFrame,
    load: Mapping[str, int],
    *,
    caller: Literal["branch", "hq"] = "branch",
) -> pd.DataFrame:
    """Who makes each new call, in order of customer; see CHOSEN. The order of rows in the frames has no influence.

    calls: customer_id, branch_no; callers: CALLERS; conflicts: CONFLICTS; load: open calls by staff id, none when
    missing; caller: who calls in this programme. Within a branch, and within headquarters, calls are spread as evenly
    over the callers' loads as the conflicts allow. Where all of a branch's callers are in conflict headquarters calls,
    with the reason RECUSAL; a branch or headquarters without named callers decides itself.
    """
    named: dict[str, list[str]] = defaultdict(list)
    for staff_id, branch_no in zip(callers["staff_id"], callers["branch_no"], strict=True):
        named[branch_no].append(staff_id)
    barred: dict[str, set[str]] = defaultdict(set)
    for customer_id, staff_id in zip(conflicts["customer_id"], conflicts["staff_id"], strict=True):
        barred[customer_id].add(staff_id)
    by_desk: dict[str, list[str]] = defaultdict(list)
    for customer_id, branch_no in zip(calls["customer_id"], calls["branch_no"], strict=True):
        by_desk[HQ if caller == "hq" else branch_no].append(customer_id)

    chosen: dict[str, str] = {}
    recused: set[str] = set()
    for desk, customers in by_desk.items():
        staff = frozenset(named[desk])
        kept_off = {customer: staff.intersection(barred.get(customer, ())) for customer in customers}
        recused.update(customer for customer in customers if staff and kept_off[customer] == staff)
        free = {customer: off for customer, off in kept_off.items() if off != staff}
        chosen |= _share_out(free, {staff_id: load.get(staff_id, 0) for staff_id in sorted(staff)})
    found = calls[["customer_id", "branch_no"]].astype("str").sort_values("customer_id", ignore_index=True)
    is_recused = found["customer_id"].isin(recused)
    found["caller"] = pd.Series(caller, index=found.index, dtype="str").mask(is_recused, "hq")
    caller_ids = [chosen.get(customer_id, "") for customer_id in found["customer_id"]]
    found["caller_id"] = pd.Series(caller_ids, index=found.index, dtype="str")
    found["reason"] = pd.Series("", index=found.index, dtype="str").mask(is_recused, RECUSAL)
    return CHOSEN.validate(found)


def _share_out(kept_off: Mapping[str, frozenset[str]], load: dict[str, int]) -> dict[str, str]:
    """A caller for each customer; no other choice has more even loads.

    An optimal semi-matching, built call by call along the path to the least loaded caller who can be reached by
    changing earlier choices (Harvey, Ladner, Lovász, Tamir: Semi-matchings for bipartite graphs and load balancing,
    Journal of Algorithms 59, 2006). load grows with the calls.
    """
    bound = sorted((c for c in kept_off if kept_off[c]), key=lambda c: (-len(kept_off[c]), c))
    held: dict[str, dict[frozenset[str], list[str]]] = {staff_id: defaultdict(list) for staff_id in load}
    for customer in bound:
        off = kept_off[customer]
        takes, came = _find_way([staff_id for staff_id in load if staff_id not in off], held, load)
        load[takes] += 1
        while (step := came[takes]) is not None:
            gives, pattern = step
            held[takes][pattern].append(held[gives][pattern].pop())
            takes = gives
        held[takes][off].append(customer)
    given = {c: staff_id for staff_id, by_pattern in held.items() for who in by_pattern.values() for c in who}
    if load:
        queue_by_load = [(calls, staff_id) for staff_id, calls in load.items()]
        heapq.heapify(queue_by_load)
        for customer in sorted(c for c in kept_off if not kept_off[c]):
            calls, staff_id = queue_by_load[0]
            given[customer] = staff_id
            heapq.heapreplace(queue_by_load, (calls + 1, staff_id))
    return given


def _find_way(
    free: list[str], held: Mapping[str, Mapping[frozenset[str], list[str]]], load: Mapping[str, int]
) -> tuple[str, dict[str, tuple[str, frozenset[str]] | None]]:
    """The least loaded caller who can be reached from the free ones, and from whom, with which calls, each was reached."""
    came: dict[str, tuple[str, frozenset[str]] | None] = dict.fromkeys(free)
    nearest, lowest = min(free, key=lambda s: (load[s], s)), min(load.values())
    if load[nearest] == lowest:
        return nearest, came
    queue = deque(free)
    while queue:
        gives = queue.popleft()
        for kept_off in (kept_off for kept_off, customers in held[gives].items() if customers):
            for other in (s for s in load if s not in came and s not in kept_off):
                came[other] = (gives, kept_off)
                if load[other] == lowest:
                    return other, came
                queue.append(other)
    return min(came, key=lambda s: (load[s], came[s] is not None, s)), came


def earliest_call(
    customers: pd.Series[str],
    last_contacts: pd.DataFrame,
    calendar: Calendar,
    *,
    window_days: int,
    first: date,
    year_end: date,
) -> pd.DataFrame:
    """The workday from which each customer may be called, in order of customer; see EARLIEST.

    last_contacts: customer_id, contacted_on of any programme; the last one counts. The window, in calendar days, moves
    the date and nothing else: it ends on the contact's day + window_days. A window that ends after the programme
    year's last workday gives the reason NO_RECONTACT_WINDOW and no date: the call is booked as non-response.
    """
    span = calendar.workdays(first, year_end)
    last = span[-1] if span else year_end
    contacted = pd.DataFrame(
        {
            "customer_id": last_contacts["customer_id"].astype("str"),
            "contacted_on": last_contacts["contacted_on"].astype("datetime64[s]"),
        }
    )
    ends = contacted.groupby("customer_id")["contacted_on"].max() + timedelta(days=window_days)
    found = pd.DataFrame({"customer_id": customers.astype("str").sort_values(ignore_index=True)})
    window_end = ends.reindex(found["customer_id"]).reset_index(drop=True)
    outlasts = window_end > pd.Timestamp(max(last, first))
    start = calendar.on_or_after(first)
    opens = {
        end: calendar.on_or_after(max(end.date(), start)) for end in window_end[~outlasts & window_end.notna()].unique()
    }
    dates = [None if late else opens.get(end, start) for late, end in zip(outlasts, window_end, strict=True)]
    found["not_before"] = pd.Series(dates, index=found.index, dtype="object")
    found["reason"] = pd.Series("", index=found.index, dtype="str").mask(outlasts, NO_RECONTACT_WINDOW)
    return EARLIEST.validate(found)


def spread_days(
    calls: pd.DataFrame,
    calendar: Calendar,
    *,
    first: date,
    due_workdays: int,
    per_workday: Mapping[str, int],
    load: Mapping[tuple[str, date], int],
    not_before: Mapping[str, date],
    year_end: date | None = None,
) -> pd.DataFrame:
    """The planned workday and the due date of each call, in order of customer; see PLANNED.

    calls: customer_id, branch_no, caller, caller_id; first: day 0; per_workday: calls that a branch, and HQ, can make on
    a workday; load: calls planned before, by branch or HQ and day; not_before: by customer, first when missing; it moves
    the due date by as many workdays, though not past the last workday until year_end, where one is given.

    Each day's calls are as level as capacity, load and dates allow, earlier days first. What capacity cannot place by its
    due date is planned on the next free workdays, those longest waiting first, and falls due there. Headquarters' days
    are dealt over the branches, and a branch's over its callers: among calls that may begin on the same day each has had
    its proportional share after every day, to within one call. Raises AssignmentError for a missing or empty capacity,
    MissingCalendar when the days run into an undeclared year.
    """
    days = _Workdays(calendar, calendar.on_or_after(first))
    due = days.number(calendar.add(first, due_workdays))
    limit = max(due, len(calendar.workdays(first, year_end)) - 1) if year_end else None

    booked: dict[str, dict[date, int]] = defaultdict(dict)
    for (desk, day), count in load.items():
        booked[desk][day] = count
    by_desk: dict[str, list[tuple[int, str, str]]] = defaultdict(list)
    columns = (calls[name] for name in ("customer_id", "branch_no", "caller", "caller_id"))
    for customer_id, branch_no, caller, caller_id in zip(*columns, strict=True):
        opens = days.number(not_before.get(customer_id, first))
        desk, turn = (HQ, branch_no) if caller == "hq" else (branch_no, caller_id)
        by_desk[desk].append((opens, turn, customer_id))

    planned: list[tuple[str, date, date, bool]] = []
    for desk, waiting in by_desk.items():
        capacity = per_workday.get(desk, 0)
        if capacity < 1:
            raise AssignmentError(
                f"{desk}: {len(waiting)} calls and a capacity of {capacity} per workday; "
                f"give {desk} a capacity of at least 1 in the programme file"
            )
        opening = Counter(opens for opens, _, _ in waiting)
        falls_due = {o: max(o, o + due if limit is None else min(o + due, limit)) for o in opening}
        slots = _level(opening, falls_due, days, capacity, booked[desk])
        for (opens, customer_id), slot in zip(_in_turn(waiting), slots, strict=True):
            is_postponed = slot > falls_due[opens]
            planned.append((customer_id, days[slot], days[max(slot, falls_due[opens])], is_postponed))
    found = pd.DataFrame(planned, columns=["customer_id", "call_on", "due_on", "is_postponed"])
    found = found.astype({"customer_id": "str", "call_on": "object", "due_on": "object", "is_postponed": "bool"})
    return PLANNED.validate(found.sort_values("customer_id", ignore_index=True))


@dataclass
class _Workdays:
    """The workdays from a first one on, numbered from 0; listed as far as they are asked for."""

    calendar: Calendar
    first: date

    def __post_init__(self) -> None:
        self._days = [self.first]

    def __getitem__(self, number: int) -> date:
        while len(self._days) <= number:
            self._days.append(self.calendar.add(self._days[-1], 1))
        return self._days[number]

    def number(self, day: date) -> int:
        """The number of the first workday that is not before day."""
        while self._days[-1] < day:
            self._days.append(self.calendar.add(self._days[-1], 1))
        return bisect_left(self._days, day)


def _level(
    opening: Mapping[int, int], falls_due: Mapping[int, int], days: _Workdays, capacity: int, booked: Mapping[date, int]
) -> list[int]:
    """The numbers of the days on which calls are made, ascending, one for each call in order of opening.

    opening: calls by the number of the day from which they may be made; falls_due: by the same number. Calls in this
    order fit a plan exactly when after each day at least those due, and at most those that may have been made, lie
    behind. Among the days that leave such a plan possible the least busy takes the next call, so that no other plan has
    more level days. Where capacity falls short, as many as can be made are due.
    """
    ends: Counter[int] = Counter()
    for opens, count in opening.items():
        ends[falls_due[opens]] += count
    total, open_by_now, due_by_now, at_most = sum(opening.values()), 0, 0, 0
    most: list[int] = []
    least, busy = [0], []
    while at_most < total or len(most) <= max(ends):
        number = len(most)
        busy.append(booked.get(days[number], 0))
        open_by_now += opening.get(number, 0)
        due_by_now += ends[number]
        at_most = min(open_by_now, at_most + max(0, capacity - busy[-1]))
        most.append(at_most)
        least.append(min(due_by_now, at_most))

    made: list[int] = []
    room_after, ahead_before = np.array(most), -np.array(least)
    queue = [(calls, number) for number, calls in enumerate(busy) if calls < capacity]
    heapq.heapify(queue)
    while len(made) < total:
        calls, number = heapq.heappop(queue)
        if room_after[number:].min() + ahead_before[: number + 1].min() > 0:
            made.append(number)
            room_after[number:] -= 1
            ahead_before[number + 1 :] += 1
            if calls + 1 < capacity:
                heapq.heappush(queue, (calls + 1, number))
    return sorted(made)


def _in_turn(waiting: Sequence[tuple[int, str, str]]) -> list[tuple[int, str]]:
    """Opening and customer of each call, in the order of the days to be given; waiting: opening, whose turn, customer."""
    by_opening: dict[int, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for opens, turn, customer_id in sorted(waiting):
        by_opening[opens][turn].append(customer_id)
    order = []
    for opens, by_turn in by_opening.items():
        own = {turn: iter(customers) for turn, customers in by_turn.items()}
        turns = _deal_turns({turn: len(customers) for turn, customers in by_turn.items()})
        order += [(opens, next(own[turn])) for turn in turns]
    return order


def _deal_turns(counts: Mapping[str, int]) -> list[str]:
    """Each name as often as it is counted, so that every beginning of the list has its share to within one.

    Of a name's q turns among n the i-th lies between places (i − 1)·n / q and i·n / q; of those that may come the one
    that must come first is next (Baruah, Cohen, Plaxton, Varvel: Proportionate progress, Algorithmica 15, 1996).
    Webster's quotients would bunch the many names with one turn in the middle.

    >>> "".join(_deal_turns({"a": 4, "b": 1, "c": 1}))
    'aabaac'
    """
    total = sum(counts.values())
    begins: dict[int, list[tuple[int, str]]] = defaultdict(list)
    for name, count in counts.items():
        for turn in range(count):
            begins[turn * total // count].append((-(-(turn + 1) * total // count), name))
    order: list[str] = []
    waiting: list[tuple[int, str]] = []
    for place in range(total):
        for turn_and_name in begins.pop(place, ()):
            heapq.heappush(waiting, turn_and_name)
        order.append(heapq.heappop(waiting)[1])
    return order


def hand_over(calls: pd.DataFrame, handovers: pd.DataFrame, day: date) -> pd.DataFrame:
    """The open calls that another branch takes over on a day, from whom and to whom; see HANDED_OVER.

    calls: assignment_id, branch_no, state; one that is not open stays where it was. handovers: see branch_on. A second
    call with the new branches finds nothing.
    """
    standing = stand_ins(handovers, day)
    moving = calls.loc[calls["state"].eq("open") & calls["branch_no"].isin(standing), ["assignment_id", "branch_no"]]
    moved = pd.DataFrame(
        {
            "assignment_id": moving["assignment_id"].astype(int),
            "from_branch": moving["branch_no"].astype("str"),
            "to_branch": moving["branch_no"].map(standing).astype("str"),
        }
    )
    return HANDED_OVER.validate(moved.sort_values("assignment_id", ignore_index=True))


def branch_on(branch_no: str, handovers: pd.DataFrame, day: date) -> str:
    """The branch that stands for a branch on a day: itself, or where its hand-overs up to that day lead.

    handovers: from_branch, to_branch, valid_from (included); of several hand-overs of a branch the last one holds.
    Raises AssignmentError when they lead in a circle, or when a branch has two on one day.
    """
    return stand_ins(handovers, day).get(branch_no, branch_no)


def stand_ins(handovers: pd.DataFrame, day: date) -> dict[str, str]:
    """Which branch stands for each branch that was handed over by a day; see branch_on."""
    known = HANDOVERS.validate(
        handovers[["from_branch", "to_branch", "valid_from"]]
        .astype({"from_branch": "str", "to_branch": "str", "valid_from": "datetime64[s]"})
        .drop_duplicates()
        .sort_values(["valid_from", "from_branch", "to_branch"], ignore_index=True)
    )
    doubled = known[known.duplicated(["from_branch", "valid_from"], keep=False)]
    if len(doubled):
        branch, begins = doubled["from_branch"].iloc[0], doubled["valid_from"].iloc[0]
        named = ", ".join(
            doubled.loc[doubled["from_branch"].eq(branch) & doubled["valid_from"].eq(begins), "to_branch"]
        )
        raise AssignmentError(f"branch {branch} is handed over on {begins:%Y-%m-%d} to {named}; keep one of them")
    holding = known[known["valid_from"] <= pd.Timestamp(day)]
    takes_over = dict(zip(holding["from_branch"], holding["to_branch"], strict=True))
    if circle := _circle_in(takes_over):
        raise AssignmentError(
            f"hand-overs on {day} lead in a circle: {' → '.join(circle)}; take out the hand-over of the branch that is still "
            "open: `huifang handover list`, `huifang handover revoke NUMBER`"
        )

    def follow(branch_no: str) -> str:
        while branch_no in takes_over:
            branch_no = takes_over[branch_no]
        return branch_no

    return {branch_no: follow(branch_no) for branch_no in sorted(takes_over)}


def find_circle(handovers: pd.DataFrame, day: date) -> list[str]:
    """The branches of a circle in which the hand-overs by a day lead, the first once more at its end; none where all end.

    handovers: see branch_on.
    """
    holding = handovers[handovers["valid_from"].astype("datetime64[s]") <= pd.Timestamp(day)]
    holding = holding.sort_values("valid_from", kind="stable")
    return _circle_in(dict(zip(holding["from_branch"].astype(str), holding["to_branch"].astype(str), strict=True)))


def _circle_in(takes_over: Mapping[str, str]) -> list[str]:
    for branch_no in sorted(takes_over):
        path = [branch_no]
        while path[-1] in takes_over:
            path.append(takes_over[path[-1]])
            if path[-1] in path[:-1]:
                return path[path.index(path[-1]) :]
    return []


def _holds(rows: pd.DataFrame, day: date) -> pd.Series[bool]:
    begins, ends = rows["valid_from"].astype("datetime64[s]"), rows["valid_to"].astype("datetime64[s]")
    on = pd.Timestamp(day)
    return (begins.isna() | begins.le(on)) & (ends.isna() | ends.ge(on))
