"""A campaign (期次): one period's issue of a programme year, from the state that is committed to the reserve that moves up.

Knows how a month's state is counted, what each group and stratum is dealt (DRAW 5–7, 9, 10, 12, 17), and the texts that
hashes are taken over. Knows no engine, no store and no clock; tickets and quotients are models.sampling's.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from fractions import Fraction
from math import ceil
from typing import Any

import pandas as pd
import pandera.pandas as pa

from models import CallbackError
from models.calendar import SHANGHAI, Calendar, Period
from models.programme import Capacity, CoverageGoal, Programme, PublicNumber, RateGoal
from models.sampling import MonthPlan, activations, allocate, extend, month_seed, opens, plan_coverage, plan_month

STATUSES = ("completed", "open", "failed", "reopened", "outside")
"""Of a taken customer: the first three by his calls; reopened = failed and in the pool again by an approver's row
(DRAW 10); outside = not in the frame of the plan in force, counted nowhere (DRAW 12)."""

COUNT = pa.Column(int, pa.Check.ge(0), coerce=True)

TAKEN = pa.DataFrameSchema(
    {
        "customer_id": pa.Column(str),
        "group_key": pa.Column(str),  # '' when outside
        "stratum": pa.Column(str),
        "status": pa.Column(str, pa.Check.isin(STATUSES)),
    },
    strict=True,
    unique=["customer_id"],
)

OWED = pa.DataFrameSchema(
    {
        "group_key": pa.Column(str),
        "branch_no": pa.Column(str),
        "eligible": COUNT,
        "goal": COUNT,
        "never_taken": COUNT,
        "reason": pa.Column(str, pa.Check.isin(["", "excluded", "no_customers"])),  # why a marketer has nobody eligible
    },
    strict=True,
    unique=["group_key"],
)

SLICES = pa.DataFrameSchema(
    {
        "group_key": pa.Column(str),
        "stratum": pa.Column(str),
        "customers": pa.Column(int, pa.Check.ge(1), coerce=True),
        "minimum": COUNT,
        "never_taken": COUNT,
    },
    strict=True,
    unique=["group_key", "stratum"],
)

GROUPS = pa.DataFrameSchema(
    {
        "group_key": pa.Column(str),
        "branch_no": pa.Column(str),
        **dict.fromkeys(("eligible", "goal", "completed", "open", "failed", "capacity", "owed", "share", "places", "shortfall"), COUNT),
        "reason": pa.Column(str),
    },
    strict=True,
    unique=["group_key"],
)  # fmt: skip

STRATA = pa.DataFrameSchema(
    {
        "group_key": pa.Column(str),
        "stratum": pa.Column(str),
        **dict.fromkeys(("customers", "minimum", "state", "left", "places", "reserve"), COUNT),
    },
    strict=True,
    unique=["group_key", "stratum"],
)


class RevealError(CallbackError):
    """A public number or a link that cannot be what the plan and the commitment say."""


@dataclass(frozen=True)
class Pace:
    """What a period weighs in the plan of the year, up to the cut-off (DRAW 6), and the workdays it has for calls."""

    weight: int
    weight_left: int
    """From the period's first day to the cut-off, the period included."""
    workdays: int
    """Left in the period on the day of the commitment."""


def pace_of(rules: Programme, span: Period, calendar: Calendar, as_of: date) -> Pace:
    """The pace of a month. Raises DrawError (by plan_month) only later, when nothing of the year is left."""
    cut_off = rules.cut_off(span.first.year)

    def weigh(month: int) -> int:
        first = date(span.first.year, month, 1)
        last = min(cut_off, date(first.year + month // 12, month % 12 + 1, 1) - _DAY)
        if last < first:
            return 0
        return rules.month_weight(month, len(calendar.workdays(first, last)))

    months = range(span.first.month, 13)
    left = [weigh(month) for month in months]
    begin = max(span.first, as_of) if as_of <= span.last else span.first
    return Pace(left[0], sum(left), len(calendar.workdays(begin, span.last)))


_DAY = timedelta(days=1)


def listed_workdays(rules: Programme, span: Period, calendar: Calendar, as_of: date, now: datetime) -> list[str]:
    """The workdays that a month is committed with: every one that its weights, its capacity and its next public number
    rest on, from the earliest of the period's first day, as_of and the day of the commitment to the year's end, or to
    the due date of its calls where that comes later.

    Raises MissingCalendar where a due date lies in a year that is not declared.
    """
    first = min(span.first, as_of, now.astimezone(SHANGHAI).date())
    last = max(date(span.first.year, 12, 31), calendar.add(as_of, rules.due_workdays))
    return [day.isoformat() for day in calendar.workdays(first, last)]


def calendar_of(workdays: Sequence[str], version: str, year: int) -> Calendar:
    """The calendar that a month of a year was committed with; it knows no days off after the last of its list in a later year."""
    listed = {date.fromisoformat(day) for day in workdays}
    first, end = date(min(listed).year, 1, 1), max(*listed, date(year, 12, 31))
    days = [first + timedelta(days=n) for n in range((end - first).days + 1)]
    return Calendar(
        version,
        frozenset(range(first.year, end.year + 1)),
        frozenset(day for day in days if day.weekday() < 5 and day not in listed),
        frozenset(day for day in listed if day.weekday() > 4),
    )


def status_of(calls: pd.DataFrame) -> pd.Series[str]:
    """The status of each customer by his calls of the programme year, indexed by customer_id.

    calls: customer_id, state (see models.assignment.STATES), one row per call. A customer reopened after a failure has
    two: completed goes before open, open before failed.
    """
    order = {"completed": 0, "open": 1}
    rank = calls["state"].map(order).fillna(2).astype(int)
    best = rank.groupby(calls["customer_id"].astype(str)).min()
    return best.map({0: "completed", 1: "open", 2: "failed"}).astype(str)


def code_taken(status: pd.Series[str], codes: pd.DataFrame) -> pd.DataFrame:
    """The taken list (TAKEN): each customer with the group and stratum he is coded under; outside where he has none.

    status: by customer; codes: group_key and stratum by customer.
    """
    taken = pd.DataFrame({"customer_id": status.index.astype("str"), "status": status.to_numpy()})
    taken = taken.merge(codes.rename_axis("customer_id").reset_index(), on="customer_id", how="left")
    taken["status"] = taken["status"].mask(taken["group_key"].isna(), "outside")
    filled = taken.fillna({"group_key": "", "stratum": ""}).astype("str")
    return filled[["customer_id", "group_key", "stratum", "status"]]


def owed_by_plan(quota: pd.DataFrame, strata: pd.DataFrame, taken: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What each branch owes (OWED) and how many of each stratum were never taken (SLICES), under the plan of the year.

    quota: group_key, branch_no, eligible, goal; strata: group_key, stratum, customers, minimum.
    """
    inside = taken[taken["status"] != "outside"]
    gone = inside.groupby(["group_key", "stratum"]).size().rename("gone").reset_index()
    slices = strata.merge(gone, on=["group_key", "stratum"], how="left")
    slices["never_taken"] = slices["customers"] - slices["gone"].fillna(0).astype(int)
    slices = slices[["group_key", "stratum", "customers", "minimum", "never_taken"]]
    never = slices.groupby("group_key")["never_taken"].sum()
    owed = quota.assign(never_taken=quota["group_key"].map(never).fillna(0).astype(int), reason="")
    return owed[["group_key", "branch_no", "eligible", "goal", "never_taken", "reason"]], slices


def slices_of_marketers(owed: pd.DataFrame) -> pd.DataFrame:
    """The strata of a coverage programme (SLICES): each marketer with customers is one (DRAW 17)."""
    held = owed[owed["eligible"] > 0].assign(
        stratum=lambda o: o["group_key"], customers=lambda o: o["eligible"], minimum=0
    )
    return held[["group_key", "stratum", "customers", "minimum", "never_taken"]].reset_index(drop=True)


def reopen_failures(taken: pd.DataFrame, slices: pd.DataFrame, approved: Iterable[tuple[str, str]]) -> pd.DataFrame:
    """The taken list with the failures of exhausted strata reopened, where an approver said so (DRAW 10).

    approved: group_key and stratum of each approval for this period; one for a stratum in which somebody was never
    taken yet has no effect.
    """
    exhausted = slices.loc[slices["never_taken"] == 0, ["group_key", "stratum"]].itertuples(index=False, name=None)
    chosen = {*approved} & {*exhausted}
    keys = list(zip(taken["group_key"], taken["stratum"], strict=True))
    is_back = pd.Series([key in chosen for key in keys], index=taken.index, dtype=bool) & taken["status"].eq("failed")
    return taken.assign(status=taken["status"].mask(is_back, "reopened"))


@dataclass(frozen=True)
class Issue:
    """What a month's groups and strata are dealt; see GROUPS and STRATA."""

    groups: pd.DataFrame
    strata: pd.DataFrame


def deal(
    rules: Programme,
    owed: pd.DataFrame,
    slices: pd.DataFrame,
    taken: pd.DataFrame,
    pace: Pace,
    *,
    month: int,
    capacities: Mapping[str, int] | None = None,
) -> Issue:
    """The places and reserve of a month for every group and stratum (DRAW 5–7, 9, 17).

    owed: see OWED; slices: see SLICES; taken: see TAKEN; capacities: what an approver set for single groups.
    The same input gives the same issue, whatever the order of its rows.
    """
    owed, slices, taken = OWED.validate(owed), SLICES.validate(slices), TAKEN.validate(taken)
    groups, strata = _count(owed, slices, taken)
    groups["capacity"] = [rules.capacity_of(str(branch), pace.workdays) for branch in groups["branch_no"]]
    if rules.caller == "hq" and isinstance(rules.capacity, Capacity):
        # One centre for all: its calls are shared out in proportion to what each group needs.
        centre = rules.capacity.per_workday * pace.workdays
        wanted = deal_counted(rules, groups.assign(capacity=_UNBOUNDED), strata, pace, month=month).groups
        needs = {str(k): int(n) for k, n in zip(wanted["group_key"], wanted["places"], strict=True)}
        parts = allocate(needs, centre) if sum(needs.values()) > centre else dict.fromkeys(needs, centre)
        groups["capacity"] = groups["group_key"].map(parts).astype(int)
    set_by_hand = groups["group_key"].map(dict(capacities or {}))
    groups["capacity"] = set_by_hand.fillna(groups["capacity"]).astype(int)
    return deal_counted(rules, groups, strata, pace, month=month)


def count_groups(owed: pd.DataFrame, slices: pd.DataFrame, taken: pd.DataFrame) -> pd.DataFrame:
    """The state of each group: OWED with completed, open, failed and left (customers who may still be drawn)."""
    groups, strata = _count(OWED.validate(owed), SLICES.validate(slices), TAKEN.validate(taken))
    left = strata.groupby("group_key")["left"].sum()
    return groups.assign(left=groups["group_key"].map(left).fillna(0).astype(int))


def _count(owed: pd.DataFrame, slices: pd.DataFrame, taken: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The state of groups and strata: their columns in GROUPS and STRATA up to what is dealt (DRAW 5)."""
    by_group = taken.groupby(["group_key", "status"]).size().to_dict()
    by_stratum = taken.groupby(["group_key", "stratum", "status"]).size().to_dict()
    groups, strata = owed.drop(columns="never_taken"), slices.drop(columns="never_taken")
    for column, statuses in (("completed", ["completed"]), ("open", ["open"]), ("failed", ["failed", "reopened"])):
        groups[column] = [sum(by_group.get((g, s), 0) for s in statuses) for g in groups["group_key"]]
    keys = list(zip(slices["group_key"], slices["stratum"], strict=True))
    strata["state"] = [sum(by_stratum.get((*key, s), 0) for s in ("completed", "open")) for key in keys]
    strata["left"] = slices["never_taken"] + [by_stratum.get((*key, "reopened"), 0) for key in keys]
    return groups, strata


def deal_counted(rules: Programme, groups: pd.DataFrame, strata: pd.DataFrame, pace: Pace, *, month: int) -> Issue:
    """The places and reserve of a month from its counts: a commitment's own give that commitment again.

    groups: GROUPS without what is dealt (owed, share, places, shortfall); strata: STRATA without places and reserve;
    the reason of a marketer without eligible customers is kept.
    """
    by_group = {str(key): rows for key, rows in strata.groupby("group_key")}
    dealt_groups, dealt_strata = [], []
    for row in groups.sort_values("group_key").itertuples():
        mine = by_group.get(str(row.group_key), strata.iloc[:0])
        sizes, state, left, minimum = (
            {str(k): int(n) for k, n in zip(mine["stratum"], mine[column], strict=True)}
            for column in ("customers", "state", "left", "minimum")
        )
        plan = _plan(rules, row, sum(left.values()), pace, month=month)
        known = row.reason if row.reason in ("excluded", "no_customers") else plan.reason
        dealt_groups.append(
            (
                row.group_key, row.branch_no, row.eligible, row.goal, row.completed, row.open, row.failed, row.capacity,
                plan.owed, plan.share, plan.places, plan.shortfall, known,
            )
        )  # fmt: skip
        places = extend(sizes, state, left, plan.places, max(minimum.values(), default=0), weights=_held(rules, sizes))
        for key in sorted(sizes):
            reserve = min(left[key] - places[key], ceil(Fraction(rules.reserve) * places[key]))
            dealt_strata.append(
                (row.group_key, key, sizes[key], minimum[key], state[key], left[key], places[key], reserve)
            )
    return Issue(
        GROUPS.validate(pd.DataFrame(dealt_groups, columns=list(GROUPS.columns)).astype(_TEXTS)),
        STRATA.validate(
            pd.DataFrame(dealt_strata, columns=list(STRATA.columns)).astype({"group_key": str, "stratum": str})
        ),
    )


_TEXTS = {"group_key": str, "branch_no": str, "reason": str}


def _held(rules: Programme, sizes: Mapping[str, int]) -> dict[str, str]:
    """The weights of the strata that a group has."""
    return {key: weight for key, weight in rules.weights.items() if key in sizes}


def _plan(rules: Programme, row: Any, left: int, pace: Pace, *, month: int) -> MonthPlan:
    match rules.goal:
        case RateGoal():
            return plan_month(
                goal=int(row.goal), completed=int(row.completed), open=int(row.open), failed=int(row.failed),
                workdays=pace.weight, workdays_left=pace.weight_left, capacity=int(row.capacity), left=left,
            )  # fmt: skip
        case CoverageGoal(calls_per_year=calls):
            return plan_coverage(
                per_year=calls, month=month, counted=int(row.completed) + int(row.open), capacity=int(row.capacity),
                left=left,
            )  # fmt: skip


_UNBOUNDED = 10**12


def state_text(header: Mapping[str, object], issue: Issue, taken: pd.DataFrame) -> str:
    """A month's state, counts and taken list as canonical text: what is committed before the seed exists (DRAW 14).

    header: campaign, period, programme_year, version, as_of, calendar_version, workdays, plan_sha256, frame_sha256, k0,
    developers_sha256, weight, weight_left.
    """
    listed = sorted(zip(taken["customer_id"], taken["status"], strict=True), key=lambda pair: pair[0].encode())
    return _canonical(
        {
            **header,
            "groups": issue.groups.sort_values("group_key").to_dict("records"),
            "strata": issue.strata.sort_values(["group_key", "stratum"]).to_dict("records"),
            "taken": [list(pair) for pair in listed],
        }
    )


def blocked(state: str) -> list[str]:
    """Customers of a committed state who may not be drawn: the taken but for the reopened."""
    return [customer_id for customer_id, status in json.loads(state)["taken"] if status != "reopened"]


def old_state_text(groups: pd.DataFrame, strata: pd.DataFrame, taken: Sequence[str]) -> str:
    """The state in the form of version 0.1, which named the taken customers without their status."""
    columns = ["group_key", "completed", "open", "failed", "owed", "share", "places", "shortfall", "reason"]
    return _canonical(
        {
            "groups": groups[columns].sort_values("group_key").to_dict("records"),
            "strata": strata.sort_values(["group_key", "stratum"]).to_dict("records"),
            "taken": sorted(taken),
        }
    )


def sample_text(drawn: pd.DataFrame) -> str:
    """Sample and reserve as canonical text: header, then a line a customer, sorted bytewise by customer."""
    columns = ["customer_id", "branch_no", "group_key", "stratum", "ticket", "rank", "kind"]
    rows = drawn[columns].astype(str).sort_values("customer_id", key=lambda ids: ids.map(lambda i: i.encode()))
    written = rows.apply(lambda column: column.map(_field)).agg(",".join, axis=1) if len(rows) else []
    return "\n".join([",".join(columns), *written]) + "\n"


def text_sha256(text: str) -> str:
    """SHA-256 of a text in UTF-8, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Entry:
    """Who entered something, and when."""

    by: str
    at: datetime


@dataclass(frozen=True)
class Attempt:
    """One attempt at a campaign: what was revealed for it, and why it was given up ('' while it stands)."""

    number: int
    public: str
    public_on: date | None
    link: str
    aborted: str = ""
    public_entry: Entry | None = None
    link_entry: Entry | None = None
    abort_entry: Entry | None = None

    def given_up(self) -> dict[str, Any]:
        """What is told of an attempt that was given up, in texts: number, public, public_on, by, at (in Shanghai), reason."""
        entry = self.abort_entry
        return {
            "number": self.number, "public": self.public, "public_on": str(self.public_on or ""),
            "by": entry.by if entry else "", "at": f"{entry.at.astimezone(SHANGHAI):%Y-%m-%d %H:%M}" if entry else "",
            "reason": self.aborted,
        }  # fmt: skip

    def period(self, period: str) -> str:
        """The period as it goes into the seed: `2026-03`, from the second attempt on `2026-03#2`."""
        return period if self.number == 1 else f"{period}#{self.number}"


def chain_seed(programme: str, span: Period, attempt: Attempt, k0: str) -> str:
    """The seed of an attempt from its public number and link (DRAW 14).

    Raises RevealError unless the link, hashed once for each month of the year so far, gives the commitment.
    """
    check_link(attempt.link, span, k0)
    return month_seed(programme, attempt.period(span.name), attempt.link, attempt.public)


def check_pattern(public: PublicNumber, value: str) -> None:
    """Raise RevealError unless a value looks as the plan says of the public number."""
    if not re.fullmatch(public.pattern, value):
        raise RevealError(
            f"public number {value!r}: the plan says that it looks like {public.pattern}; enter it as published"
        )


def check_public(
    public: PublicNumber, value: str, on: date, after: datetime, now: datetime, calendar: Calendar
) -> None:
    """Raise RevealError unless a value can be the public number of a day that came out after something was committed.

    after: when the month was committed, or its last attempt given up.
    """
    check_pattern(public, value)
    known = datetime.combine(on, public.available_at, tzinfo=SHANGHAI)
    if known <= after:
        raise RevealError(
            f"the public number of {on} was known at {known:%Y-%m-%d %H:%M}, before the commitment of "
            f"{after.astimezone(SHANGHAI):%Y-%m-%d %H:%M}: the month could have been chosen by it; take the next one"
        )
    first = calendar.on_or_after(after.astimezone(SHANGHAI).date())
    # Exchanges are closed on weekends, make-up workdays or not.
    while first.weekday() > 4 or datetime.combine(first, public.available_at, tzinfo=SHANGHAI) <= after:
        first = calendar.add(first, 1)
    if on != first:
        raise RevealError(
            f"the public number of {on} is not the next one: after {after.astimezone(SHANGHAI):%Y-%m-%d %H:%M} that is "
            f"the one of {first}; whoever could choose the day could choose the sample"
        )
    if known > now:
        raise RevealError(
            f"the public number of {on} is not known before {known:%Y-%m-%d %H:%M}; "
            f"it is {now.astimezone(SHANGHAI):%Y-%m-%d %H:%M}"
        )


def check_link(link: str, span: Period, k0: str) -> None:
    """Raise RevealError unless a link is the one of the period's month under the commitment K₀."""
    month = span.first.month
    if not opens(link, month, k0):
        raise RevealError(
            f"period {span.name}: this is not link K{month} of the committed chain: hashed {month} times it does not give "
            f"{k0[:12]}…; look the line K{month} up in the file of the chain"
        )


def check_entries(
    public: PublicNumber, attempts: Sequence[Attempt], committed_at: datetime, calendar: Calendar | None
) -> None:
    """Raise RevealError unless everything entered for a campaign could be entered when it was (DRAW 14).

    Of each attempt: the number looks as the plan says and is the next one after the commitment or the last abort; two
    people entered number and link, the link after the number; none was given up when everybody could tell its seed.
    calendar: none where the workdays of that time are not known any more; then a number's day is only later.
    """
    numbers = [one.public_entry.by for one in attempts if one.public_entry]
    after = committed_at
    for one in attempts:
        name = f"attempt {one.number}"
        if one.public:
            if one.public_on is None or one.public_entry is None:
                raise RevealError(f"{name}: day or person of the public number is missing")
            if calendar is None:
                check_pattern(public, one.public)
                if datetime.combine(one.public_on, public.available_at, tzinfo=SHANGHAI) <= after:
                    raise RevealError(f"{name}: the public number of {one.public_on} was known before")
            else:
                check_public(public, one.public, one.public_on, after, one.public_entry.at, calendar)
        if one.link and (one.link_entry is None or one.public_entry is None):
            raise RevealError(f"{name}: who entered number and link is missing")
        if one.link and one.link_entry and one.public_entry:
            if any(is_same_person(one.link_entry.by, by) for by in numbers):
                raise RevealError(f"{name}: {one.link_entry.by} has entered both number and link")
            if min(one.link_entry.at, one.public_entry.at) < committed_at:
                raise RevealError(f"{name}: something was entered before the commitment")
            if one.link_entry.at < one.public_entry.at and one.number == 1:
                raise RevealError(f"{name}: the link was entered before the public number")
        if one.aborted:
            if one.abort_entry is None or one.abort_entry.at < after:
                raise RevealError(f"{name}: was given up before it began")
            if one.link:
                raise RevealError(f"{name}: was given up when number and link were both known")
            after = one.abort_entry.at


def is_same_person(one: str, other: str) -> bool:
    """Whether two names as entered are one person's, whatever case, width, spaces and signs stand between.

    >>> is_same_person("Zhang Wei", "ＺＨＡＮＧ－wei"), is_same_person("张伟", "张玮")
    (True, False)
    """
    return _bare_name(one) == _bare_name(other)


def _bare_name(name: str) -> str:
    plain = unicodedata.normalize("NFKC", name).casefold()
    # Signs that are not seen between two letters would make another name of the same one.
    return "".join(sign for sign in plain if sign.isalnum()) or plain


def choose_reserves(
    groups: pd.DataFrame, calls: pd.DataFrame, failures: pd.DataFrame, reserve: pd.DataFrame
) -> pd.DataFrame:
    """Which reserve customer takes which failure's place: customer_id, replaces (assignment_id), in that order (DRAW 9).

    groups: group_key, share; calls: group_key, state of every call of the month; failures: assignment_id, group_key,
    stratum, in the order they were booked and without those whose place is taken; reserve: customer_id, group_key,
    stratum, rank of those who have no call yet. A failure whose stratum has no reserve left waits for the next draw.
    """
    waiting: dict[tuple[str, str], list[str]] = {}
    for row in reserve.sort_values("rank", ascending=False).itertuples():
        waiting.setdefault((str(row.group_key), str(row.stratum)), []).append(str(row.customer_id))
    states = calls.groupby(["group_key", "state"]).size().to_dict()
    failed = failures.groupby("group_key").size().to_dict()
    may_move = {
        str(group): activations(
            share=int(share), completed=states.get((group, "completed"), 0), open=states.get((group, "open"), 0),
            waiting=failed.get(group, 0),
        )
        for group, share in zip(groups["group_key"], groups["share"], strict=True)
    }  # fmt: skip
    chosen = []
    for group, stratum, call in failures[["group_key", "stratum", "assignment_id"]].itertuples(index=False):
        ready = waiting.get((str(group), str(stratum)))
        if may_move[str(group)] and ready:
            chosen.append((ready.pop(), int(call)))
            may_move[str(group)] -= 1
    return pd.DataFrame(chosen, columns=["customer_id", "replaces"])


def _field(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(sign in text for sign in ',"\r\n') else text


def _canonical(content: Mapping[str, object]) -> str:
    return json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
