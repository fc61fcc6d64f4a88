"""The draw: goals, places, tickets and seeds, in integers and exact fractions (the rules are numbered in docs/draw.md).

Knows nothing of callers, dates, other programmes or tables: whoever has the frame, the state and the seed gets the
same sample here, on any engine, or with a page of standard library.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor

import ibis
import ibis.expr.datatypes as dt
from ibis.expr.types import Table

from models import CallbackError

JOINED = "*"
"""The stratum of a group's small segments."""


class DrawError(CallbackError):
    """Sizes, states or counts that no draw can meet."""


@dataclass(frozen=True)
class _Claim:
    """A stratum's claim to the next place: size / (2 * state + 1), larger first, ties to the smaller key."""

    is_filled: bool
    size: int
    state: int
    key: str

    def __lt__(self, other: _Claim) -> bool:
        if self.is_filled != other.is_filled:
            return other.is_filled
        mine = self.size * (2 * other.state + 1)
        theirs = other.size * (2 * self.state + 1)
        return mine > theirs or (mine == theirs and self.key < other.key)


def goal(rate: str, customers: int) -> int:
    """Completed calls owed by a group: ceil(rate × customers), exactly (rule 2).

    >>> goal("0.10", 101), goal("0.07", 100)
    (11, 7)
    """
    exact = Fraction(rate)
    if not 0 <= exact <= 1:
        raise DrawError(f"rate {rate}: must lie between 0 and 1")
    if customers < 0:
        raise DrawError(f"{customers} customers: a count cannot be negative")
    return ceil(exact * customers)


def collapse(sizes: Mapping[str, int], rate: str, minimum: int) -> dict[str, int]:
    """Sizes of a group's strata after its small segments joined the stratum `*` (rule 3).

    Small is fewer than ceil(minimum / rate); segments missing in the result are in `*`.

    >>> collapse({"A": 120, "B": 60, "C": 7}, "0.10", 2)
    {'A': 120, '*': 67}
    """
    _check_counts("segment", sizes)
    if JOINED in sizes:
        raise DrawError(f"a segment is called {JOINED!r}, the name of the joined small ones; rename it in the profile")
    exact = Fraction(rate)
    if not 0 < exact <= 1:
        raise DrawError(f"rate {rate}: must be above 0 and at most 1")
    if minimum < 0:
        raise DrawError(f"minimum {minimum}: a count cannot be negative")
    small = ceil(minimum / exact)
    by_size = sorted(sizes, key=lambda key: (sizes[key], key))
    joined: list[str] = []
    for key in by_size:
        if sizes[key] >= small and (not joined or sum(sizes[k] for k in joined) >= small):
            break
        joined.append(key)
    kept = {key: size for key, size in sizes.items() if key not in joined}
    return {**kept, JOINED: sum(sizes[key] for key in joined)} if joined else kept


def allocate(sizes: Mapping[str, int], total: int, minimum: int = 0) -> dict[str, int]:
    """Places per stratum for a whole year, by Webster's quotients with minima and caps (rule 4).

    Raises DrawError when the minima exceed the total, the total exceeds the sizes, or a number is negative.

    >>> allocate({"a": 53, "b": 24, "c": 23}, 10)
    {'a': 6, 'b': 2, 'c': 2}
    """
    _check_counts("stratum", sizes)
    if total < 0 or minimum < 0:
        raise DrawError(f"total {total}, minimum {minimum}: a count cannot be negative")
    places = {key: min(minimum, size) for key, size in sizes.items()}
    if sum(places.values()) > total:
        raise DrawError(
            f"the minima of {len(sizes)} strata need {sum(places.values())} places, only {total} are to be given"
        )
    dealt = extend(sizes, places, {key: sizes[key] - places[key] for key in sizes}, total - sum(places.values()))
    return {key: places[key] + dealt[key] for key in sizes}


def extend(
    sizes: Mapping[str, int], state: Mapping[str, int], left: Mapping[str, int], count: int, minimum: int = 0
) -> dict[str, int]:
    """Places per stratum for a month, dealt one by one on top of the state (rule 7).

    state: completed + open in this programme year; left: customers never taken this year. A stratum missing in
    either has 0. Strata below their minimum come first. Raises DrawError when count exceeds what is left.

    >>> extend({"A": 60, "B": 30, "C": 5}, {"A": 1, "B": 2, "C": 0}, {"A": 59, "B": 28, "C": 0}, 4)
    {'A': 4, 'B': 0, 'C': 0}
    """
    for noun, counts in (("stratum", sizes), ("state", state), ("left", left)):
        _check_counts(noun, counts)
    strangers = sorted({*state, *left} - {*sizes})
    if strangers:
        raise DrawError(f"state or left names strata without a size: {', '.join(strangers)}")
    if count < 0 or minimum < 0:
        raise DrawError(f"count {count}, minimum {minimum}: a count cannot be negative")
    available = sum(left.values())
    if count > available:
        raise DrawError(f"{count} places were to be dealt, only {available} customers are left")
    dealt = dict.fromkeys(sizes, 0)
    floors = {key: min(minimum, size) for key, size in sizes.items()}

    def claim(key: str) -> _Claim:
        held = state.get(key, 0) + dealt[key]
        return _Claim(held >= floors[key], sizes[key], held, key)

    queue = [claim(key) for key in sizes if left.get(key, 0) > 0]
    heapq.heapify(queue)
    for _ in range(count):
        key = heapq.heappop(queue).key
        dealt[key] += 1
        if dealt[key] < left.get(key, 0):
            heapq.heappush(queue, claim(key))
    return dealt


@dataclass(frozen=True)
class MonthPlan:
    """What a group owes in one period (rule 6); counts of customers."""

    owed: int
    share: int
    places: int
    shortfall: int
    reason: str
    """Why places fall short of what the share needs: '' | capacity | exhausted."""


def plan_month(
    *, goal: int, completed: int, open: int, failed: int, workdays: int, workdays_left: int, capacity: int, left: int
) -> MonthPlan:
    """Places of a group for a month from its state in the programme year (rule 6).

    workdays: of the period; workdays_left: from the period's first day to the cut-off, the period included.

    >>> plan_month(goal=100, completed=0, open=0, failed=220, workdays=20, workdays_left=40, capacity=999, left=700).places
    150
    """
    if workdays < 0 or workdays_left < workdays or workdays_left == 0:
        raise DrawError(
            f"{workdays} workdays of {workdays_left} left to the cut-off: the period lies outside the programme year"
        )
    completion = Fraction(completed + 10, completed + failed + 20)
    owed = max(0, goal - completed - floor(open * completion))
    share = ceil(Fraction(owed * workdays, workdays_left))
    wanted = min(ceil(share / completion), 3 * share)
    places = min(wanted, capacity, left)
    reason = "" if places == wanted else "capacity" if capacity <= left else "exhausted"
    return MonthPlan(owed, share, places, wanted - places, reason)


def plan_coverage(*, per_year: int, month: int, counted: int, capacity: int, left: int) -> MonthPlan:
    """Places of one marketer for a month: what k calls a year ask for by now, less what counted (rule 17).

    >>> plan_coverage(per_year=6, month=3, counted=0, capacity=99, left=99).places
    2
    """
    share = max(0, ceil(Fraction(per_year * month, 12)) - counted)
    places = min(share, capacity, left)
    reason = "" if places == share else "capacity" if capacity <= left else "exhausted"
    return MonthPlan(max(0, per_year - counted), share, places, share - places, reason)


def ticket(seed: str, customer_id: str) -> str:
    """The random number of a customer under a seed, as 64 hex digits (rule 8).

    >>> ticket("s", "0001")[:8]
    'dfdcde01'
    """
    return hashlib.sha256(f"{seed}:{customer_id}".encode()).hexdigest()


def month_seed(programme: str, period: str, link: str, public: str) -> str:
    """The seed of one period from the revealed link of the chain and the public number (rule 14)."""
    return hashlib.sha256(f"{programme}|{period}|{link}|{public}".encode()).hexdigest()


@ibis.udf.scalar.builtin(name="sha256", signature=((dt.string,), dt.string))  # type: ignore[untyped-decorator]
def _sha256(text: str) -> str:  # type: ignore[empty-body]
    """DuckDB's own; another engine brings the name of its function."""


def draw(frame: Table, taken: Table, places: Table, seed: str) -> Table:
    """The sample and reserve of one period: the smallest tickets of each stratum among the never taken (rules 8, 9).

    frame: customer_id, branch_no, group_key, stratum; taken: customer_id; places: group_key, stratum, places, reserve.
    One row per drawn customer with ticket, rank (1 … within the stratum) and kind (sample, then reserve).
    """
    pool = frame.anti_join(taken, "customer_id")
    ticketed = pool.mutate(ticket=_sha256(ibis.literal(f"{seed}:") + pool.customer_id))
    order = ibis.window(group_by=["group_key", "stratum"], order_by=["ticket", "customer_id"])
    ranked = ticketed.mutate(rank=(ibis.row_number().over(order) + 1).cast("int64"))
    joined = ranked.inner_join(places, ["group_key", "stratum"])
    chosen = joined.filter(joined["rank"] <= joined["places"] + joined["reserve"])
    kind = (chosen["rank"] <= chosen["places"]).ifelse("sample", "reserve")
    return chosen.select("customer_id", "branch_no", "group_key", "stratum", "ticket", "rank", kind=kind)


def activations(*, share: int, completed: int, open: int, waiting: int) -> int:
    """How many reserve tickets a group's booked failures activate now (rule 9).

    share: of the month; completed, open: of the month's campaign; waiting: failures without a replacement yet.

    >>> activations(share=10, completed=4, open=3, waiting=5), activations(share=10, completed=4, open=9, waiting=5)
    (3, 0)
    """
    return max(0, min(waiting, share - completed - open))


def _check_counts(noun: str, counts: Mapping[str, int]) -> None:
    for key, count in counts.items():
        if count < 0:
            raise DrawError(f"{noun} {key!r}: {count} is negative")
