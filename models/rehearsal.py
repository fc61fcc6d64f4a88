"""A dry run of a programme year: each month dealt by the rules of the draw, answered at an assumed completion rate.

Counts customers instead of drawing them. Knows no engine, no store and no seed; the months' rules are models.campaign's.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from math import ceil, floor
from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pa

from models import CallbackError
from models.assignment import spread_days
from models.calendar import Calendar, MissingCalendar, Period, period
from models.campaign import COUNT, Issue, Pace, deal
from models.explain import in_use_on, with_draft
from models.frame import require_change
from models.programme import Capacity, CoverageGoal, Programme, UnknownProgramme, version_on
from models.roster import HQ
from models.sampling import activations, extend

UNCOVERED = ("excluded", "no_customers", "few_customers", "exhausted", "capacity", "not_completed")
"""Why a marketer is not covered: all his customers are excluded; he has none; he has fewer than asked for; all were
called; capacity did not reach; too many of the calls were not completed."""

OWED = pa.DataFrameSchema(
    {
        "group_key": pa.Column(str),
        "branch_no": pa.Column(str),
        "eligible": COUNT,
        "goal": COUNT,
        "reason": pa.Column(str, pa.Check.isin(["", "excluded", "no_customers"])),
    },
    strict=True,
    unique=["group_key"],
)

MONTHS = pa.DataFrameSchema(
    {
        "period": pa.Column(str),
        "group_key": pa.Column(str),
        "branch_no": pa.Column(str),
        **dict.fromkeys(("capacity", "share", "places", "moved_up", "calls", "completed", "failed", "shortfall"), COUNT),
        "reason": pa.Column(str, pa.Check.isin(["", "excluded", "no_customers", "capacity", "exhausted"])),
    },
    strict=True,
    unique=["period", "group_key"],
)
"""A row per month and group; calls = places + moved_up = completed + failed."""

ENDS = pa.DataFrameSchema(
    {
        "group_key": pa.Column(str),
        "branch_no": pa.Column(str),
        **dict.fromkeys(("eligible", "goal", "calls", "completed", "left", "shortfall"), COUNT),
        "reason": pa.Column(str, pa.Check.isin(["", *UNCOVERED])),
    },
    strict=True,
    unique=["group_key"],
)
"""Where each group of the last month ends; a marketer with a reason is not covered, even where his shortfall is 0."""

DAYS = pa.DataFrameSchema(
    {"desk": pa.Column(str), "call_on": pa.Column("object"), "calls": COUNT}, strict=True, unique=["desk", "call_on"]
)
"""Calls that a branch, or HQ, makes on a workday; reserve that moves up comes on top."""


class RehearsalError(CallbackError):
    """Words with which no year can be rehearsed."""


def read_completion(text: str) -> Fraction:
    """The assumed share of calls that are completed, from decimal text between 0 and 1."""
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", text) or Fraction(text) > 1:
        raise RehearsalError(f"--completion {text}: write a decimal between 0 and 1, such as 0.80")
    return Fraction(text)


def versions_of_year(
    files: Sequence[Programme], name: str, year: int, given: Programme | None = None
) -> dict[str, Programme]:
    """The version that each month of a year is drawn by, by period; a month in which none holds is missing.

    given: a draft, which goes before every other version while it holds. Raises UnknownProgramme when none holds in any
    month, RehearsalError when the draft does not, FrameError for a change that the draw refuses within a year.
    """
    files = with_draft(files, given) if given else files
    found: dict[str, Programme] = {}
    for month in range(1, 13):
        span = period(f"{year}-{month:02}")
        try:
            rules = version_on([given] if given and in_use_on([given], name, span.first) else files, name, span.first)
        except UnknownProgramme:
            if month == 12 and not found:
                raise
            continue
        if found:
            require_change(list(found.values())[-1], rules, span.name)
        found[span.name] = rules
    if given and given not in found.values():
        raise RehearsalError(
            f"version {given.version} of {name} holds from {given.valid_from} to {given.valid_to or '…'}: no month of {year} "
            "begins in it, so there is nothing to try; set valid_from to the first day of the month from which it shall hold"
        )
    return found


@dataclass(frozen=True)
class Month:
    """What a month is drawn by: its plan in force, its pace, and what each group owes."""

    span: Period
    rules: Programme
    pace: Pace
    first: date
    """The day of the draw."""
    view: int
    """How the plan codes the cells; see Rehearsal."""
    owed: pd.DataFrame
    """See OWED."""
    minimum: Mapping[tuple[str, str], int]
    """By group and stratum; 0 where nothing is said."""


@dataclass(frozen=True)
class RehearsedYear:
    """A dry run that is over."""

    months: pd.DataFrame
    """See MONTHS."""
    ends: pd.DataFrame
    """See ENDS."""
    days: pd.DataFrame
    """See DAYS."""
    postponed: Mapping[str, int]
    """By period: calls whose due date moves because no workday before it has capacity."""
    unplanned: Mapping[str, int]
    """By period: calls for which no workday of the year is left."""

    @property
    def is_fine(self) -> bool:
        """Nothing fell short in any month, and every group ends the year with what it owes."""
        return not self.months["shortfall"].any() and not self.ends["reason"].ne("").any()


class Rehearsal:
    """A year that is played month by month.

    cells: customers (how many), and per view group_0, stratum_0, group_1 …: which group and stratum of that view they
    belong to, '' where they are in none. All customers of a cell are alike in every view. of_calls: what share of calls
    is completed: of the first n calls of a group in the year ⌊share × n⌋ are, and the rest fails; every call is answered
    before the next month is drawn.
    """

    def __init__(self, cells: pd.DataFrame, of_calls: Fraction, calendar: Calendar) -> None:
        self._share, self._calendar = of_calls, calendar
        views = [name.removeprefix("group_") for name in cells.columns if str(name).startswith("group_")]
        self._keys = {
            int(view): list(zip(cells[f"group_{view}"].astype(str), cells[f"stratum_{view}"].astype(str), strict=True))
            for view in views
        }
        self._customers = [int(n) for n in cells["customers"]]
        self._never = list(self._customers)
        self._done = [0] * len(self._customers)
        self._calls: dict[tuple[int, str, str], list[int]] = defaultdict(lambda: [0, 0])
        """Completed and failed by cell, and by the group and stratum they were drawn under."""
        self._answered: Counter[str] = Counter()
        self._load: Counter[tuple[str, date]] = Counter()
        self._months: list[pd.DataFrame] = []
        self._last: Month | None = None
        self._postponed: dict[str, int] = {}
        self._unplanned: dict[str, int] = {}

    def play(self, month: Month) -> None:
        """Deal a month from the state, and have its calls answered; months come in order."""
        owed = OWED.validate(month.owed)
        groups = set(owed["group_key"])
        cells_of: dict[tuple[str, str], list[int]] = defaultdict(list)
        for cell, key in enumerate(self._keys[month.view]):
            if key[0] in groups:
                cells_of[key].append(cell)
        never = {key: sum(self._never[cell] for cell in cells) for key, cells in cells_of.items()}
        slices = pd.DataFrame(
            [
                (*key, sum(self._customers[c] for c in cells), month.minimum.get(key, 0), never[key])
                for key, cells in sorted(cells_of.items())
            ],
            columns=["group_key", "stratum", "customers", "minimum", "never_taken"],
        ).astype({"group_key": "str", "stratum": "str"})
        by_group: Counter[str] = Counter()
        for (group, _), count in never.items():
            by_group[group] += count
        owed = owed.assign(never_taken=[by_group[group] for group in owed["group_key"]])
        issue = self._deal(month, owed, slices)
        self._plan_days(month, issue.groups)
        self._months.append(self._answer(month, issue.groups, issue.strata, cells_of))
        self._last = month

    def _deal(self, month: Month, owed: pd.DataFrame, slices: pd.DataFrame) -> Issue:
        """What the month deals to every group; of groups that are alike in all that the rules look at, one is dealt to."""
        coded = self._coded(month)
        stands_for = _alike(month.rules, month.pace, owed, slices, coded)
        chosen = {*stands_for.values()}
        issue = deal(
            month.rules,
            owed[owed["group_key"].isin(chosen)],
            slices[slices["group_key"].isin(chosen)],
            _taken({key: counts for key, counts in coded.items() if key[0] in chosen}),
            month.pace,
            month=month.span.first.month,
        )
        if len(chosen) == len(owed):
            return issue
        pairs = pd.DataFrame({"group_key": list(stands_for), "of": list(stands_for.values())}, dtype="str")
        groups = pairs.merge(issue.groups.rename(columns={"group_key": "of"}).drop(columns="branch_no"), on="of")
        groups = groups.merge(owed[["group_key", "branch_no"]], on="group_key")
        strata = pairs.merge(issue.strata.rename(columns={"group_key": "of"}), on="of")
        # A marketer's one stratum is called like the marketer.
        strata["stratum"] = strata["stratum"].mask(strata["stratum"].eq(strata["of"]), strata["group_key"])
        return Issue(
            groups[issue.groups.columns].sort_values("group_key", ignore_index=True),
            strata[issue.strata.columns].sort_values(["group_key", "stratum"], ignore_index=True),
        )

    def _coded(self, month: Month) -> dict[tuple[str, str], tuple[int, int]]:
        """Completed and failed as the plan in force codes them: a marketer's by whom they were drawn under (DRAW 12, 17)."""
        is_coverage = isinstance(month.rules.goal, CoverageGoal)
        found: dict[tuple[str, str], tuple[int, int]] = {}
        for (cell, group, stratum), (completed, failed) in self._calls.items():
            key = (group, stratum) if is_coverage else self._keys[month.view][cell]
            if key[0]:
                before = found.get(key, (0, 0))
                found[key] = (before[0] + completed, before[1] + failed)
        return found

    def _plan_days(self, month: Month, groups: pd.DataFrame) -> None:
        """Put the month's calls on workdays; the load of earlier months counts."""
        rules, first = month.rules, month.first
        year_end = date(first.year, 12, 31)
        branches = np.repeat(groups["branch_no"].to_numpy(dtype=object), groups["places"].to_numpy(dtype=np.int64))
        calls = pd.DataFrame({"customer_id": np.arange(len(branches)).astype(str), "branch_no": branches})
        calls = calls.assign(caller=rules.caller, caller_id="").astype("str")
        within = max(0, len(self._calendar.workdays(first, year_end)) - 1)
        try:
            planned = spread_days(
                calls,
                self._calendar,
                first=first,
                due_workdays=min(rules.due_workdays, within),
                per_workday={str(b): rules.calls_per_workday(str(b)) for b in {*branches, HQ}},
                load=self._load,
                not_before={},
                year_end=year_end,
            )
        except MissingCalendar:  # what capacity cannot place runs into the next year
            self._unplanned[month.span.name] = len(calls)
            return
        desk = calls.set_index("customer_id")["branch_no"] if rules.caller == "branch" else None
        for customer, day in zip(planned["customer_id"], planned["call_on"], strict=True):
            self._load[HQ if desk is None else str(desk[customer]), day] += 1
        self._postponed[month.span.name] = int(planned["is_postponed"].sum())

    def _answer(
        self, month: Month, groups: pd.DataFrame, strata: pd.DataFrame, cells_of: Mapping[tuple[str, str], list[int]]
    ) -> pd.DataFrame:
        """The month's calls answered, with reserve in the places of failures (DRAW 9); see MONTHS."""
        by_group: dict[str, list[tuple[str, int, int]]] = defaultdict(list)
        ordered = strata.sort_values(["group_key", "stratum"])
        for group, stratum, places, reserve in _rows(ordered, "group_key", "stratum", "places", "reserve"):
            by_group[group].append((stratum, places, reserve))
        calls, completed = [], []
        for group, share in _rows(groups, "group_key", "share"):
            rung = self._ring(group, by_group[group], share)
            for stratum, taken, done in rung:
                self._book(group, stratum, taken, done, cells_of[group, stratum])
            calls.append(sum(taken for _, taken, _ in rung))
            completed.append(sum(done for *_, done in rung))
        found = groups.assign(period=month.span.name, calls=calls, completed=completed)
        found = found.assign(moved_up=found["calls"] - found["places"], failed=found["calls"] - found["completed"])
        return MONTHS.validate(found[list(MONTHS.columns)].astype({"period": "str"}))

    def _ring(self, group: str, strata: Iterable[tuple[str, int, int]], share: int) -> list[tuple[str, int, int]]:
        """Customers taken and calls completed of each stratum of a group."""
        strata = list(strata)
        reserve = {stratum: left for stratum, _, left in strata}
        taken, done = Counter[str](), Counter[str]()
        waiting: list[str] = []
        ringing = [(stratum, places) for stratum, places, _ in strata]
        while ringing:
            for stratum, calls in ringing:
                before = self._answered[group]
                self._answered[group] += calls
                completed = floor(self._share * (before + calls)) - floor(self._share * before)
                taken[stratum] += calls
                done[stratum] += completed
                waiting += [stratum] * (calls - completed)
            may_move = activations(share=share, completed=done.total(), open=0, waiting=len(waiting))
            moving, staying = Counter[str](), []
            for stratum in waiting:
                if may_move and reserve[stratum]:
                    reserve[stratum] -= 1
                    moving[stratum] += 1
                    may_move -= 1
                else:
                    staying.append(stratum)
            waiting, ringing = staying, sorted(moving.items())
        return [(stratum, taken[stratum], done[stratum]) for stratum, *_ in strata if taken[stratum]]

    def _book(self, group: str, stratum: str, taken: int, done: int, cells: Sequence[int]) -> None:
        """Whom the calls of a stratum took: over the year of its cells in proportion to their customers, as chance would
        on average, and so the completed.
        """
        names = {str(cell): cell for cell in cells}
        of_cell, completed = dict.fromkeys(names, taken), dict.fromkeys(names, done)
        if len(cells) > 1:
            sizes = {name: self._customers[cell] for name, cell in names.items()}
            left = {name: self._never[cell] for name, cell in names.items()}
            gone = {name: sizes[name] - left[name] for name in names}
            of_cell = extend(sizes, gone, left, taken)
            if 0 < done < taken:
                called = {name: gone[name] + of_cell[name] for name in names}
                completed = extend(called, {name: self._done[cell] for name, cell in names.items()}, of_cell, done)
            else:
                completed = of_cell if done else dict.fromkeys(names, 0)
        for name, cell in names.items():
            if of_cell[name]:
                self._never[cell] -= of_cell[name]
                self._done[cell] += completed[name]
                counts = self._calls[cell, group, stratum]
                counts[0] += completed[name]
                counts[1] += of_cell[name] - completed[name]

    def end(self) -> RehearsedYear:
        """The year after its last month. Raises RehearsalError when no month was played."""
        if self._last is None:
            raise RehearsalError("no month of the year is drawn: the programme's cut-off lies before its first month")
        months = pd.concat(self._months, ignore_index=True)
        days = pd.DataFrame(
            [(desk, day, calls) for (desk, day), calls in sorted(self._load.items())], columns=list(DAYS.columns)
        )
        return RehearsedYear(
            MONTHS.validate(months),
            self._ends(self._last, months),
            DAYS.validate(days.astype({"desk": "str", "call_on": "object"})),
            self._postponed,
            self._unplanned,
        )

    def _ends(self, last: Month, months: pd.DataFrame) -> pd.DataFrame:
        completed: Counter[str] = Counter()
        for (group, _), (done, _) in self._coded(last).items():
            completed[group] += done
        left: Counter[str] = Counter()
        for cell, (group, _) in enumerate(self._keys[last.view]):
            left[group] += self._never[cell]
        calls = months.groupby("group_key")["calls"].sum().to_dict()
        short = set(months.loc[months["reason"].eq("capacity"), "group_key"])
        rows = []
        for group, branch, eligible, goal, reason in _rows(last.owed, *OWED.columns):
            asked, done = goal, completed[group]
            if isinstance(last.rules.goal, CoverageGoal):
                asked = ceil(Fraction(last.rules.goal.calls_per_year * last.span.first.month, 12))
            if not reason and eligible < asked:
                reason = "few_customers"
            elif not reason and done < asked:
                reason = "exhausted" if not left[group] else "capacity" if group in short else "not_completed"
            short_of = max(0, goal - done)
            rows.append((group, branch, eligible, goal, calls.get(group, 0), done, left[group], short_of, reason))
        found = pd.DataFrame(rows, columns=list(ENDS.columns))
        return ENDS.validate(found.astype(dict.fromkeys(("group_key", "branch_no", "reason"), "str")))


def _alike(
    rules: Programme,
    pace: Pace,
    owed: pd.DataFrame,
    slices: pd.DataFrame,
    coded: Mapping[tuple[str, str], tuple[int, int]],
) -> dict[str, str]:
    """For each group the first one that is like it in every number that its places follow from, itself or another.

    coded: completed and failed by group and stratum. Where headquarters' one capacity is shared out, every group has a
    say in the places of all, so nobody stands for another.
    """
    groups = [str(group) for group in owed["group_key"]]
    if rules.caller == "hq" and isinstance(rules.capacity, Capacity):
        return {group: group for group in groups}
    answered: dict[str, list[tuple[str, int, int]]] = defaultdict(list)
    for (group, stratum), counts in sorted(coded.items()):
        answered[group].append(("" if stratum == group else stratum, *counts))
    parts: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
    for group, stratum, *numbers in _rows(slices, "group_key", "stratum", "customers", "minimum", "never_taken"):
        parts[group].append(("" if stratum == group else stratum, *numbers))
    first: dict[tuple[Any, ...], str] = {}
    stands_for = {}
    for group, branch, *numbers in _rows(owed, "group_key", "branch_no", "eligible", "goal", "never_taken", "reason"):
        capacity = rules.capacity_of(branch, pace.workdays)
        looks = (capacity, *numbers, tuple(parts[group]), tuple(answered[group]))
        stands_for[group] = first.setdefault(looks, group)
    return stands_for


def _taken(coded: Mapping[tuple[str, str], tuple[int, int]]) -> pd.DataFrame:
    """Taken customers by what they are coded as: completed and failed of each group and stratum."""
    rows = [
        (*key, status, count)
        for key, counts in sorted(coded.items())
        for status, count in zip(("completed", "failed"), counts, strict=True)
        if count
    ]
    times = np.array([row[3] for row in rows], dtype=np.int64)
    columns = {
        name: pd.Series(np.repeat(np.array([row[n] for row in rows], dtype=object), times), dtype="str")
        for n, name in enumerate(("group_key", "stratum", "status"))
    }
    # The rules count rows; who the customers are makes no difference.
    return pd.DataFrame({"customer_id": pd.Series(np.arange(times.sum()).astype(str), dtype="str"), **columns})


def _rows(table: pd.DataFrame, *columns: str) -> Iterator[tuple[Any, ...]]:
    """The values of some columns row by row, counts as plain numbers."""
    return zip(*(table[name].tolist() for name in columns), strict=True)
