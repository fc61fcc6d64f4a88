"""The draw: goals, places, tickets and seeds, in integers and exact fractions (the rules are numbered in docs/draw.md).

Knows nothing of callers, dates, other programmes or tables: whoever has the frame, the state and the seed gets the
same sample here, on any engine, or with a page of standard library.
"""

from __future__ import annotations

import hashlib
import heapq
import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor, isqrt, lcm
from typing import SupportsIndex

import ibis
import ibis.expr.datatypes as dt
from ibis.expr.types import Table

from models import CallbackError

JOINED = "*"
"""The stratum of a group's small segments."""


class DrawError(CallbackError):
    """Sizes, states or counts that no draw can meet."""


class ChainError(DrawError):
    """A link, commitment or number that belongs to no seed chain."""


def goal(rate: str, customers: int) -> int:
    """Completed calls owed by a group: ceil(rate × customers), exactly (rule 2).

    >>> goal("0.10", 101), goal("0.07", 100)
    (11, 7)
    """
    exact = _decimal("rate", rate)
    if exact > 1:
        raise DrawError(f"rate {rate}: must lie between 0 and 1")
    return ceil(exact * _count("customers", customers))


def collapse(sizes: Mapping[str, int], rate: str, minimum: int) -> dict[str, int]:
    """Sizes of a group's strata after its small segments joined the stratum `*` (rule 3).

    Small is fewer than ceil(minimum / rate); segments missing in the result are in `*`.

    >>> collapse({"A": 120, "B": 60, "C": 7}, "0.10", 2)
    {'A': 120, '*': 67}
    """
    sizes = _counts("segment", sizes)
    if JOINED in sizes:
        raise DrawError(f"a segment is called {JOINED!r}, the name of the joined small ones; rename it in the profile")
    exact = _decimal("rate", rate)
    if not 0 < exact <= 1:
        raise DrawError(f"rate {rate}: must be above 0 and at most 1")
    small = ceil(_count("minimum", minimum) / exact)
    joined: set[str] = set()
    together = 0
    for key in sorted(sizes, key=lambda key: (sizes[key], key)):
        if sizes[key] >= small and (not joined or together >= small):
            break
        joined.add(key)
        together += sizes[key]
    kept = {key: size for key, size in sizes.items() if key not in joined}
    return {**kept, JOINED: together} if joined else kept


def allocate(
    sizes: Mapping[str, int], total: int, minimum: int = 0, *, weights: Mapping[str, str] | None = None
) -> dict[str, int]:
    """Places per stratum for a whole year, by Webster's quotients with minima and caps (rule 4).

    weights: decimal text by stratum, above 0, for the tiers of rule 18; size × weight stands in the quotient, caps and
    minima stay on the size. A stratum without a weight has 1; weights of strata that the group lacks are of no account.
    Counts may be of any type that counts like an int (numpy's too), and come back as ints. Raises DrawError when the
    minima exceed the total, the total exceeds the sizes, a number is negative, or a count is a float or a bool.

    >>> allocate({"a": 53, "b": 24, "c": 23}, 10)
    {'a': 6, 'b': 2, 'c': 2}
    >>> allocate({"a": 53, "b": 24, "c": 23}, 10, weights={"c": "2.5"})
    {'a': 4, 'b': 2, 'c': 4}
    """
    sizes = _counts("stratum", sizes)
    total, minimum = _count("total", total), _count("minimum", minimum)
    places = {key: min(minimum, size) for key, size in sizes.items()}
    if sum(places.values()) > total:
        raise DrawError(
            f"the minima of {len(sizes)} strata need {sum(places.values())} places, only {total} are to be given"
        )
    if total > sum(sizes.values()):
        raise DrawError(f"{total} places were to be given, the strata have only {sum(sizes.values())} customers")
    caps = {key: sizes[key] - places[key] for key in sizes}
    return _add(places, _deal(_claims(sizes, weights), places, caps, total - sum(places.values())))


def extend(
    sizes: Mapping[str, int],
    state: Mapping[str, int],
    left: Mapping[str, int],
    count: int,
    minimum: int = 0,
    *,
    weights: Mapping[str, str] | None = None,
) -> dict[str, int]:
    """Places per stratum for a month, dealt one by one on top of the state (rule 7).

    state: completed + open in this programme year; left: customers never taken this year. A stratum missing in
    either has 0; one that is only there must have 0. Strata below min(minimum, size) come first. Counts and weights
    as for allocate. Raises DrawError when count exceeds what is left.

    >>> extend({"A": 60, "B": 30, "C": 5}, {"A": 1, "B": 2, "C": 0}, {"A": 59, "B": 28, "C": 0}, 4)
    {'A': 4, 'B': 0, 'C': 0}
    """
    sizes, state, left = _counts("stratum", sizes), _counts("state", state), _counts("left", left)
    strangers = sorted(key for key in {*state, *left} - {*sizes} if state.get(key) or left.get(key))
    if strangers:
        raise DrawError(f"state or left names strata without a size: {', '.join(strangers)}")
    count, minimum = _count("count", count), _count("minimum", minimum)
    held = {key: state.get(key, 0) for key in sizes}
    caps = {key: left.get(key, 0) for key in sizes}
    if count > sum(caps.values()):
        raise DrawError(f"{count} places were to be dealt, only {sum(caps.values())} customers are left")
    claims = _claims(sizes, weights)
    needs = {key: min(max(0, min(minimum, sizes[key]) - held[key]), caps[key]) for key in sizes}
    first = _deal(claims, held, needs, min(count, sum(needs.values())))
    rest = {key: caps[key] - first[key] for key in sizes}
    return _add(first, _deal(claims, _add(held, first), rest, count - sum(first.values())))


def _claims(sizes: Mapping[str, int], weights: Mapping[str, str] | None) -> dict[str, int]:
    """Size × weight of each stratum, all times the same number so that they are whole."""
    factors = {key: _decimal(f"weight of {key!r}", text) for key, text in (weights or {}).items()}
    for key, factor in factors.items():
        if not factor:
            raise DrawError(f"weight of {key!r}: must be above 0; exclude the stratum by a coded reason instead")
    scale = lcm(*(factor.denominator for factor in factors.values()))
    return {key: int(size * scale * factors.get(key, Fraction(1))) for key, size in sizes.items()}


def _deal(claims: Mapping[str, int], state: Mapping[str, int], caps: Mapping[str, int], count: int) -> dict[str, int]:
    """Each of `count` places to the highest claim / (2 × state + 1) still below its cap, ties to the smaller key.

    Whatever lies above some quotient is dealt before what lies below it, so all of it is dealt at once; a quotient is
    sought that leaves at most one place a stratum to be dealt singly.
    """
    dealt = dict.fromkeys(claims, 0)
    takers = [key for key in claims if claims[key] > 0 and caps[key] > 0]
    wanted = min(count, sum(caps[key] for key in takers))

    def above(cut: Fraction) -> dict[str, int]:
        # claim / (2a + 1) > p / q holds for the first (m + 1) // 2 states a, where m = (claim × q - 1) // p
        odd = {key: (claims[key] * cut.denominator - 1) // cut.numerator for key in takers}
        return {key: min(max(0, (odd[key] + 1) // 2 - state[key]), caps[key]) for key in takers}

    low, high = Fraction(0), Fraction(max((claims[key] for key in takers), default=1))
    while wanted - sum(dealt.values()) > len(takers):
        middle = (low + high) / 2
        tried = above(middle)
        if sum(tried.values()) > wanted:
            low = middle
        else:
            high = middle
            dealt |= tried

    def quotient(key: str) -> tuple[Fraction, str]:
        return (-Fraction(claims[key], 2 * (state[key] + dealt[key]) + 1), key)

    queue = [quotient(key) for key in takers if dealt[key] < caps[key]]
    heapq.heapify(queue)
    for _ in range(wanted - sum(dealt.values())):
        _, key = heapq.heappop(queue)
        dealt[key] += 1
        if dealt[key] < caps[key]:
            heapq.heappush(queue, quotient(key))
    # Strata of size 0 tie at the quotient 0, whatever their state.
    for key in sorted(key for key in claims if claims[key] == 0):
        dealt[key] = min(caps[key], count - sum(dealt.values()))
    return dealt


def _add(places: Mapping[str, int], more: Mapping[str, int]) -> dict[str, int]:
    return {key: places[key] + more[key] for key in places}


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
    goal, completed, still = _count("goal", goal), _count("completed", completed), _count("open", open)
    return _plan(
        goal=goal,
        completed=completed,
        still=still,
        completion=_completion(completed, _count("failed", failed)),
        workdays=_count("workdays", workdays),
        workdays_left=_count("workdays left", workdays_left),
        capacity=_count("capacity", capacity),
        left=_count("left", left),
    )


def _completion(completed: int, failed: int) -> Fraction:
    return Fraction(completed + 10, completed + failed + 20)


def _plan(
    *,
    goal: int,
    completed: int,
    still: int,
    completion: Fraction,
    workdays: int,
    workdays_left: int,
    capacity: int,
    left: int,
) -> MonthPlan:
    """Rule 6 with the completion rate given; still: open calls. At the rate 0 only the threefold share limits."""
    if workdays_left < workdays or workdays_left == 0:
        raise DrawError(
            f"{workdays} workdays of {workdays_left} left to the cut-off: the period lies outside the programme year"
        )
    owed = max(0, goal - completed - floor(still * completion))
    share = ceil(Fraction(owed * workdays, workdays_left))
    wanted = min(ceil(share / completion), 3 * share) if completion else 3 * share
    places = min(wanted, capacity, left)
    reason = "" if places == wanted else "capacity" if capacity <= left else "exhausted"
    return MonthPlan(owed, share, places, wanted - places, reason)


def plan_coverage(*, per_year: int, month: int, counted: int, capacity: int, left: int) -> MonthPlan:
    """Places of one marketer for a month: what k calls a year ask for by now, less what counted (rule 17).

    month: 1 to 12.

    >>> plan_coverage(per_year=6, month=3, counted=0, capacity=99, left=99).places
    2
    """
    per_year, month, counted = _count("calls a year", per_year), _count("month", month), _count("counted", counted)
    capacity, left = _count("capacity", capacity), _count("left", left)
    if not 1 <= month <= 12:
        raise DrawError(f"month {month}: must be 1 to 12")
    share = max(0, ceil(Fraction(per_year * month, 12)) - counted)
    places = min(share, capacity, left)
    reason = "" if places == share else "capacity" if capacity <= left else "exhausted"
    return MonthPlan(max(0, per_year - counted), share, places, share - places, reason)


@dataclass(frozen=True)
class Projection:
    """Where a group ends the programme year; counts of completed calls."""

    goal: int
    completed: int
    """So far."""
    expected: int
    low: int
    high: int
    shortfall: int
    """Of the expected end from the goal."""
    verdict: str
    """reached | on_track (even the low end reaches the goal) | behind (even the high end misses it) | undecided."""


def project_year(
    *, goal: int, completed: int, open: int, failed: int, left: int, months: Sequence[tuple[int, int]]
) -> Projection:
    """The end of a group's programme year from what is completed so far (rule 6 carried on month by month).

    months: workdays and capacity of each period still to be drawn, in order; none when the last one is drawn.
    Assumed: every call handed out is answered by the year's end, and is completed at the same rate as those answered
    so far; each month is dealt by rule 6, with that rate in place of p; nobody leaves; reserve is not counted apart, as
    it takes failures' places within the month. Expected is the end at p of rule 6. Low and high are the ends at the
    Wilson 95 % limits of completed of completed + failed, widened to take in p; before the first answer they are what
    is certain and what capacity or the customers left allow. None passes completed + open + left.

    >>> project_year(goal=100, completed=45, open=5, failed=15, left=500, months=[(20, 40), (22, 40)])
    Projection(goal=100, completed=45, expected=101, low=98, high=101, shortfall=0, verdict='undecided')
    """
    goal, completed, still = _count("goal", goal), _count("completed", completed), _count("open", open)
    failed, left = _count("failed", failed), _count("left", left)
    ahead = [(_count("workdays", days), _count("capacity", capacity)) for days, capacity in months]

    def end(rate: Fraction) -> int:
        handed, available = still, left
        for at, (days, capacity) in enumerate(ahead):
            planned = _plan(
                goal=goal,
                completed=completed,
                still=handed,
                completion=rate,
                workdays=days,
                workdays_left=sum(days for days, _ in ahead[at:]),
                capacity=capacity,
                left=available,
            )
            handed, available = handed + planned.places, available - planned.places
        return completed + floor(handed * rate)

    usual = _completion(completed, failed)
    expected = end(usual)
    if completed + failed:
        lower, upper = _wilson(completed, completed + failed)
        # Rounding up to whole calls lets a course end a call or two above the one at a better rate.
        low, high = min(expected, end(min(lower, usual))), max(expected, end(max(upper, usual)))
    else:
        low, high = completed, completed + still + min(left, sum(capacity for _, capacity in ahead))
    verdict = judge_end(goal, completed, low, high)
    return Projection(goal, completed, expected, low, high, max(0, goal - expected), verdict)


def judge_end(goal: int, completed: int, low: int, high: int) -> str:
    """The verdict of a projection from what is completed and both ends of the year; see Projection."""
    if completed >= goal:
        return "reached"
    if low >= goal:
        return "on_track"
    return "behind" if high < goal else "undecided"


_Z = Fraction("1.959964")
"""The 97.5 % point of the standard normal distribution, to six decimals, so that every machine has the same limits."""


def _wilson(successes: int, trials: int) -> tuple[Fraction, Fraction]:
    """Wilson's 95 % limits of a proportion (E. B. Wilson, JASA 22, 1927), the root to twelve decimals."""
    centre, square = Fraction(successes, trials) + _Z**2 / (2 * trials), 1 + _Z**2 / trials
    spread = Fraction(successes * (trials - successes), trials**3) + _Z**2 / (4 * trials**2)
    root = Fraction(isqrt(floor(spread * 10**24)), 10**12)
    low, high = (centre - _Z * root) / square, (centre + _Z * root) / square
    return (low if successes else Fraction(0)), (high if successes < trials else Fraction(1))


def ticket(seed: str, customer_id: str) -> str:
    """The random number of a customer under a seed, as 64 hex digits (rule 8).

    >>> ticket("s", "0001")[:8]
    'dfdcde01'
    """
    return hashlib.sha256(f"{seed}:{customer_id}".encode()).hexdigest()


def month_seed(programme: str, period: str, link: str, public: str) -> str:
    """The seed of one period from the revealed link of the chain and the public number (rule 14)."""
    return hashlib.sha256(f"{programme}|{period}|{link}|{public}".encode()).hexdigest()


def make_chain(last: str, links: int) -> tuple[str, ...]:
    """The seed chain K0 … Kn of a programme year, n = links, from its random last link (rule 13).

    K0 is committed at the year's start; Km is revealed in month m. Links are 64 lower-case hex digits, and it is their
    text that is hashed. Raises ChainError for anything else.

    >>> [link[:4] for link in make_chain("00" * 32, 2)]
    ['6325', '60e0', '0000']
    """
    if _count("links", links) < 1:
        raise ChainError("a chain needs at least one link to reveal")
    chain = [_link("last link", last)]
    for _ in range(links):
        chain.append(hashlib.sha256(chain[-1].encode()).hexdigest())
    return tuple(reversed(chain))


def opens(link: str, number: int, commitment: str) -> bool:
    """Whether a revealed link is number `number` of the committed chain: hashed that often, it is K0 (rule 14).

    >>> chain = make_chain("00" * 32, 12)
    >>> opens(chain[3], 3, chain[0]), opens(chain[3], 4, chain[0])
    (True, False)
    """
    hashed = _link("link", link)
    for _ in range(_count("number of the link", number)):
        hashed = hashlib.sha256(hashed.encode()).hexdigest()
    return hashed == _link("commitment", commitment)


def _link(noun: str, text: str) -> str:
    if not isinstance(text, str) or not re.fullmatch("[0-9a-f]{64}", text):
        raise ChainError(f"{noun}: 64 lower-case hex digits are needed; copy it as it was written down")
    return text


@dataclass(frozen=True)
class Chosen:
    """One customer of a single draw by size."""

    customer_id: str
    ticket: str
    is_certain: bool
    probability: Fraction
    """Of being drawn, as aimed at: exact for the certain, approximate for the others (Ohlsson 1998)."""


def sequential_poisson(sizes: Mapping[str, int], count: int, seed: str) -> list[Chosen]:
    """A single draw of `count` customers with probabilities about proportional to size (rule 18; Ohlsson 1998).

    sizes: by customer id; whoever has size 0 is never drawn. Certain is whoever's count × size reaches the sum of the
    sizes, again and again among those who remain. Then the smallest u / size are drawn, u being the first 52 bits of
    the ticket; ties go to the smaller ticket, then to the smaller id. Certain ones come first, each part in that order.
    Raises DrawError when fewer than `count` customers have a size above 0.

    >>> [(c.customer_id, c.is_certain, str(c.probability)) for c in sequential_poisson({"a": 8, "b": 1, "c": 2}, 2, "s")]
    [('a', True, '1'), ('c', False, '2/3')]
    """
    return choose_by_size(sizes, count, {customer: ticket(seed, customer) for customer in sizes})


def choose_by_size(sizes: Mapping[str, int], count: int, tickets: Mapping[str, str]) -> list[Chosen]:
    """The draw of sequential_poisson with the tickets given: 64 hex digits by customer id."""
    sizes = _counts("customer", sizes)
    count = _count("count", count)
    places, total = count, sum(sizes.values())
    by_size = sorted((key for key in sizes if sizes[key]), key=lambda key: -sizes[key])
    if count > len(by_size):
        raise DrawError(f"{count} customers were to be drawn, only {len(by_size)} have a size above 0")
    certain: set[str] = set()
    while places:
        # Whoever is certain is among the largest; several of one round are judged by the same sum.
        round_ = []
        for key in by_size[len(certain) :]:
            if places * sizes[key] < total:
                break
            round_.append(key)
        if not round_:
            break
        certain.update(round_)
        places, total = places - len(round_), total - sum(sizes[key] for key in round_)

    def order(key: str) -> tuple[Fraction, str, str]:
        return Fraction(int(tickets[key][:13], 16), sizes[key]), tickets[key], key

    some = heapq.nsmallest(places, (key for key in by_size if key not in certain), key=order)
    return [Chosen(key, tickets[key], True, Fraction(1)) for key in sorted(certain, key=order)] + [
        Chosen(key, tickets[key], False, Fraction(places * sizes[key], total)) for key in some
    ]


@ibis.udf.scalar.builtin(name="sha256", signature=((dt.string,), dt.string))  # type: ignore[untyped-decorator]
def _sha256(text: str) -> str:  # type: ignore[empty-body]
    """DuckDB's own; another engine brings the name of its function."""


@ibis.udf.scalar.builtin(name="hex", signature=((dt.int64,), dt.string))  # type: ignore[untyped-decorator]
def _hex(number: int) -> str:  # type: ignore[empty-body]
    """Upper-case digits without leading zeros; DuckDB and Spark call it alike."""


_STRATUM = ("group_key", "stratum")


def draw(frame: Table, taken: Table, places: Table, seed: str, *, slack: int | None = 6) -> Table:
    """The sample and reserve of one period: the smallest tickets of each stratum among the never taken (rules 8, 9).

    frame: customer_id, branch_no, group_key, stratum; taken: customer_id; places: group_key, stratum, places, reserve.
    One row per drawn customer with ticket, rank (1 … within the stratum) and kind (sample, then reserve).

    Only tickets below a bound are sorted, one that `slack` standard deviations more than needed should stay below;
    a stratum in which fewer do is sorted whole; without slack all tickets are. The same customers are drawn either way.
    """
    pool = frame.anti_join(taken, "customer_id")
    if slack is None:
        return _rank_tickets(_give_tickets(pool.inner_join(_wanted(places), _STRATUM), seed))
    bounds = _bound_tickets(pool, places, slack)
    below = _give_tickets(pool.inner_join(bounds, _STRATUM), seed)
    below = below.filter(below.ticket < below.bound)
    counted = below.group_by(*_STRATUM, "needed", "left").aggregate(below=below.count())
    # Of a filter on the tickets of the rest DuckDB makes a join that hashes everybody again.
    enough = counted.filter(counted.below >= ibis.least(counted.needed, counted.left)).select(_STRATUM)
    rest = _give_tickets(pool.inner_join(bounds.anti_join(enough, _STRATUM), _STRATUM), seed)
    return _rank_tickets(below.semi_join(enough, _STRATUM).union(rest))


def _rank_tickets(candidates: Table) -> Table:
    order = ibis.window(group_by=_STRATUM, order_by=["ticket", "customer_id"])
    ranked = candidates.mutate(rank=(ibis.row_number().over(order) + 1).cast("int64"))
    chosen = ranked.filter(ranked["rank"] <= ranked.needed)
    kind = (chosen["rank"] <= chosen.places).ifelse("sample", "reserve")
    return chosen.select("customer_id", "branch_no", "group_key", "stratum", "ticket", "rank", kind=kind)


def _give_tickets(customers: Table, seed: str) -> Table:
    return customers.mutate(ticket=_sha256(ibis.literal(f"{seed}:") + customers.customer_id))


def _wanted(places: Table) -> Table:
    needed = (places.places + places.reserve).cast("int64")
    return places.select(*_STRATUM, "places", needed=needed).filter(needed > 0)


def _bound_tickets(pool: Table, places: Table, slack: int) -> Table:
    """The strata to draw from: group_key, stratum, places, needed, left and a bound of the tickets worth sorting."""
    left = pool.group_by(_STRATUM).aggregate(left=pool.count().cast("int64"))
    strata = _wanted(places).inner_join(left, _STRATUM)
    strata = strata.mutate(expected=strata.needed + slack * (strata.needed.sqrt().ceil().cast("int64") + 4))
    digits = _hex(strata.expected * 16**8 // strata.left).lower().lpad(8, "0")
    # Tickets are evenly spread over hex texts, every one of which is below "g".
    bound = (strata.expected < strata.left).ifelse(digits, "g")
    return strata.select(*_STRATUM, "places", "needed", "left", bound=bound)


def ticket_bound(needed: int, left: int, slack: int = 6) -> int:
    """Below which first 32 bits of their tickets more than enough of a stratum should stay, as in draw; 2³² for all.

    >>> ticket_bound(100, 4096) / 2**32 * 4096, ticket_bound(100, 150) == 2**32
    (184.0, True)
    """
    expected = needed + slack * (isqrt(max(0, needed - 1)) + 5)
    return expected * 2**32 // left if expected < left else 2**32


def activations(*, share: int, completed: int, open: int, waiting: int) -> int:
    """How many reserve tickets a group's booked failures activate now (rule 9).

    share: of the month; completed, open: of the month's campaign; waiting: failures without a replacement yet.

    >>> activations(share=10, completed=4, open=3, waiting=5), activations(share=10, completed=4, open=9, waiting=5)
    (3, 0)
    """
    share, done = _count("share", share), _count("completed", completed) + _count("open", open)
    return max(0, min(_count("waiting", waiting), share - done))


def _count(noun: str, value: SupportsIndex) -> int:
    """A count as a plain int: numpy's would overflow in the products, and a float would no longer be exact."""
    try:
        count = operator.index(value)
    except TypeError:
        raise DrawError(f"{noun}: {value!r} is no whole number") from None
    if isinstance(value, bool):
        raise DrawError(f"{noun}: {value!r} is no whole number")
    if count < 0:
        raise DrawError(f"{noun}: {count} is negative")
    return count


def _counts(noun: str, counts: Mapping[str, int]) -> dict[str, int]:
    for key in counts:
        if not isinstance(key, str):
            raise DrawError(f"{noun} {key!r}: names are text, as ties go by their code points; write it as text")
    return {key: _count(f"{noun} {key!r}", count) for key, count in counts.items()}


def _decimal(noun: str, text: str) -> Fraction:
    if not isinstance(text, str) or not re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        raise DrawError(f'{noun} {text!r}: no decimal; write it as text, like "0.10"')
    return Fraction(text)
