"""The rules of the draw, each by its examples, its errors and what must hold of any input (docs/draw.md).

What other people published stands in test_published.py, a whole year against a second programmer in test_year.py,
and what a compliance officer wrote down in scenarios/.
"""

import csv
import doctest
import hashlib
import itertools
import time
from collections import Counter
from fractions import Fraction
from pathlib import Path
from statistics import NormalDist

import ibis
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import CallbackError, sampling
from models.sampling import (
    ChainError,
    DrawError,
    activations,
    allocate,
    choose_by_size,
    collapse,
    draw,
    extend,
    goal,
    make_chain,
    month_seed,
    opens,
    plan_coverage,
    plan_month,
    project_year,
    sequential_poisson,
    ticket,
)

SCENARIOS = Path(__file__).parent / "scenarios"
RULES = ("collapse", "allocate", "places", "extend", "months")

sizes = st.dictionaries(st.text("ABCDEFGH", min_size=1, max_size=2), st.integers(0, 60), min_size=1, max_size=8)
decimals = st.sampled_from(["1", "0.5", "2", "3.25", "0.001", "17", "1.10"])


def _walk(strata, state, left, count, minimum=0, weights=None):
    """Rule 7 place by place, in the words of the page."""
    state, left, dealt = dict(state), dict(left), dict.fromkeys(strata, 0)
    for _ in range(count):
        open_strata = [k for k in strata if left[k]]
        low = [k for k in open_strata if state[k] < min(minimum, strata[k])]
        weighed = {k: strata[k] * Fraction((weights or {}).get(k, "1")) for k in strata}
        key = min(low or open_strata, key=lambda k: (-weighed[k] / (2 * state[k] + 1), k))
        state[key], left[key], dealt[key] = state[key] + 1, left[key] - 1, dealt[key] + 1
    return dealt


@st.composite
def months(draw):
    """Sizes, state, left, count, minimum and weights of some month, as uneven as failures and new plans make them."""
    strata = draw(sizes)
    state = {key: draw(st.integers(0, 12)) for key in strata}
    left = {key: draw(st.integers(0, 25)) for key in strata}
    weights = draw(st.none() | st.dictionaries(st.sampled_from([*strata, "elsewhere"]), decimals))
    return strata, state, left, draw(st.integers(0, sum(left.values()))), draw(st.integers(0, 4)), weights


@pytest.mark.parametrize(
    ("rate", "customers", "expected"), [("0.10", 101, 11), ("0.07", 100, 7), ("0.10", 0, 0), ("1", 3, 3), ("0", 9, 0)]
)
def test_goal_is_the_exact_ceiling(rate, customers, expected):
    assert goal(rate, customers) == expected


@given(st.integers(0, 10**30), st.integers(1, 4), st.data())
def test_a_goal_is_the_least_count_that_reaches_the_rate(customers, digits, data):
    tenths = data.draw(st.integers(0, 10**digits))
    rate = f"{tenths // 10**digits}.{tenths % 10**digits:0{digits}}"
    owed = goal(rate, customers)
    assert owed * 10**digits >= tenths * customers > (owed - 1) * 10**digits or owed == 0 == tenths * customers


@pytest.mark.parametrize("rate", [0.1, Fraction(1, 10), "1/10", "10%", "1e-1", ".1", " 0.10", "-0.1", "０.1", "", None])
def test_a_rate_that_is_no_decimal_text_is_refused(rate):
    with pytest.raises(DrawError, match="write it as text"):
        goal(rate, 100)
    with pytest.raises(DrawError, match="write it as text"):
        collapse({"A": 5}, rate, 1)


def test_a_rate_outside_its_limits_is_refused():
    with pytest.raises(DrawError, match=r"1\.01"):
        goal("1.01", 100)
    with pytest.raises(DrawError, match="at most 1"):
        collapse({"A": 5}, "2", 1)
    with pytest.raises(DrawError, match="above 0"):
        collapse({"A": 5}, "0.00", 1)


def test_small_segments_join_until_the_joined_stratum_is_large_enough():
    assert collapse({"A": 120, "B": 60, "C": 7}, "0.10", 2) == {"A": 120, "*": 67}
    assert collapse({"A": 120, "B": 60, "C": 7, "D": 13}, "0.10", 2) == {"A": 120, "B": 60, "*": 20}
    assert collapse({"A": 5, "B": 3}, "0.10", 2) == {"*": 8}
    assert collapse({"A": 1}, "0.10", 0) == {"A": 1}
    assert collapse({"A": 20, "B": 19}, "0.10", 2) == {"*": 39}
    assert collapse({"A": 4, "B": 1, "C": 1, "D": 0}, "1", 2) == {"A": 4, "*": 2}
    assert collapse({}, "0.10", 2) == {}


def test_a_segment_named_like_the_joined_stratum_is_refused():
    with pytest.raises(DrawError, match="rename it"):
        collapse({"*": 4}, "0.10", 1)


@given(sizes, st.sampled_from(["0.05", "0.10", "0.3", "1"]), st.integers(0, 5))
def test_joined_strata_keep_every_customer_and_their_minima_always_fit(segments, rate, minimum):
    strata = collapse(segments, rate, minimum)
    assert sum(strata.values()) == sum(segments.values())
    assert all(segments[key] == size for key, size in strata.items() if key != "*")
    owed = goal(rate, sum(strata.values()))
    assert sum(allocate(strata, owed, min(minimum, owed)).values()) == owed


def test_the_page_s_allocations_come_out():
    strata = {"a": 53, "b": 24, "c": 23}
    assert allocate(strata, 10) == {"a": 6, "b": 2, "c": 2}
    assert allocate(strata, 10, 3) == {"a": 4, "b": 3, "c": 3}


@given(sizes, st.data())
def test_webster_equals_a_plain_walk_with_fractions(strata, data):
    minimum, weights = (
        data.draw(st.integers(0, 3)),
        data.draw(st.none() | st.dictionaries(st.sampled_from([*strata]), decimals)),
    )
    places = {key: min(minimum, size) for key, size in strata.items()}
    total = data.draw(st.integers(sum(places.values()), sum(strata.values())))
    more = _walk(
        strata, places, {k: strata[k] - places[k] for k in strata}, total - sum(places.values()), weights=weights
    )
    assert allocate(strata, total, minimum, weights=weights) == {key: places[key] + more[key] for key in strata}


@given(sizes, st.data())
def test_allocations_give_the_total_exactly_within_caps_and_minima(strata, data):
    minimum, weights = (
        data.draw(st.integers(0, 3)),
        data.draw(st.none() | st.dictionaries(st.sampled_from([*strata]), decimals)),
    )
    lowest = sum(min(minimum, n) for n in strata.values())
    total = data.draw(st.integers(lowest, sum(strata.values())))
    places = allocate(strata, total, minimum, weights=weights)
    assert sum(places.values()) == total
    assert all(min(minimum, strata[k]) <= places[k] <= strata[k] for k in strata)


@given(sizes, st.data())
def test_one_place_more_takes_no_place_from_any_stratum(strata, data):
    minimum = data.draw(st.integers(0, 3))
    lowest = sum(min(minimum, n) for n in strata.values())
    total = data.draw(st.integers(lowest, max(lowest, sum(strata.values()) - 1)))
    fewer, more = allocate(strata, total, minimum), allocate(strata, min(total + 1, sum(strata.values())), minimum)
    assert all(more[key] >= fewer[key] for key in strata)


def test_minima_above_the_total_and_totals_above_the_sizes_are_errors():
    ones = {f"s{n:02}": 1 for n in range(56)}
    with pytest.raises(DrawError, match="minima of 56 strata need 56 places, only 6"):
        allocate(ones, 6, 1)
    with pytest.raises(DrawError, match="only 56 customers"):
        allocate(ones, 57)
    with pytest.raises(DrawError, match="negative"):
        allocate({"a": -1}, 0)
    with pytest.raises(DrawError, match="total: -1 is negative"):
        allocate({"a": 1}, -1)
    with pytest.raises(DrawError, match="minimum: -1 is negative"):
        allocate({"a": 1}, 1, -1)


def test_fifty_six_strata_of_one_customer_are_taken_in_the_order_of_their_names():
    ones = {f"s{n:02}": 1 for n in reversed(range(56))}
    assert [key for key, n in sorted(allocate(ones, 6).items()) if n] == [f"s{n:02}" for n in range(6)]
    assert allocate(ones, 56, 1) == allocate(ones, 56) == ones


def test_nothing_is_allocated_to_nobody():
    assert allocate({}, 0) == allocate({}, 0, 5) == {}
    assert extend({}, {}, {}, 0) == {}
    assert allocate({"a": 0, "b": 3}, 0) == {"a": 0, "b": 0}
    assert allocate({"a": 0, "b": 3}, 3, 2) == {"a": 0, "b": 3}
    with pytest.raises(DrawError, match="only 0 customers"):
        allocate({}, 1)


def test_ties_go_by_code_points_and_not_by_language():
    # As UTF-16, or in a Chinese locale, 𠀀 (U+20000) would come before the full-width ～ (U+FF5E).
    assert [k for k, n in allocate({"𠀀": 9, "～": 9, "中": 9}, 2).items() if n] == ["～", "中"]
    assert [k for k, n in allocate({"é": 9, "z": 9, "Z": 9}, 2).items() if n] == ["z", "Z"]
    assert extend({"a": 9, "B": 9}, {}, {"a": 9, "B": 9}, 1) == {"a": 0, "B": 1}


def test_counts_beyond_every_machine_word_stay_exact():
    huge = 10**40
    assert allocate({"a": huge, "b": huge + 2}, huge) == {"a": huge // 2, "b": huge // 2}
    assert allocate({"a": 2 * huge + 1, "b": 1}, huge) == {"a": huge, "b": 0}
    assert allocate({"a": 3 * huge, "b": huge}, 4 * huge) == {"a": 3 * huge, "b": huge}


def test_numbers_of_numpy_count_like_any_other_and_do_not_overflow():
    strata = {"a": 4 * 10**18, "b": 3 * 10**18, "c": 1}
    typed = {key: np.int64(size) for key, size in strata.items()}
    assert allocate(typed, np.int64(10**18), np.int32(1)) == allocate(strata, 10**18, 1)
    got = extend(typed, {"a": np.int8(7)}, {"a": np.uint64(5), "b": np.int64(9)}, np.int16(9), np.int64(2))
    assert got == extend(strata, {"a": 7}, {"a": 5, "b": 9}, 9, 2)
    assert {type(n) for n in got.values()} == {int}


@pytest.mark.parametrize("wrong", [2.0, 2.5, "2", True, None, np.float64(2), np.bool_(True), Fraction(2), float("nan")])
def test_a_count_that_is_no_whole_number_is_refused(wrong):
    for call in (
        lambda: allocate({"a": 5}, wrong),
        lambda: allocate({"a": 5}, 2, wrong),
        lambda: allocate({"a": wrong}, 0),
        lambda: extend({"a": 5}, {"a": wrong}, {"a": 5}, 1),
        lambda: extend({"a": 5}, {}, {"a": wrong}, 1),
        lambda: collapse({"a": wrong}, "0.10", 1),
        lambda: goal("0.10", wrong),
        lambda: activations(share=wrong, completed=0, open=0, waiting=0),
        lambda: plan_coverage(per_year=6, month=wrong, counted=0, capacity=9, left=9),
        lambda: choose_by_size({"a": wrong}, 1, {}),
    ):
        with pytest.raises(DrawError, match="no whole number"):
            call()


def test_strata_with_names_that_are_no_text_are_refused():
    with pytest.raises(DrawError, match="write it as text"):
        allocate({1: 5, 2: 5}, 3)


@settings(max_examples=400)
@given(months())
def test_a_month_equals_a_plain_walk_place_by_place(month):
    strata, state, left, count, minimum, weights = month
    assert extend(strata, state, left, count, minimum, weights=weights) == _walk(
        strata, state, left, count, minimum, weights
    )


@given(months())
def test_a_month_deals_all_its_places_and_none_to_who_is_not_left(month):
    strata, state, left, count, minimum, weights = month
    dealt = extend(strata, state, left, count, minimum, weights=weights)
    assert sum(dealt.values()) == count
    assert all(0 <= dealt[key] <= left[key] for key in strata)


@given(months(), st.randoms(use_true_random=False))
def test_the_order_in_which_strata_are_named_changes_nothing(month, chance):
    strata, state, left, count, minimum, weights = month
    keys = list(strata)
    chance.shuffle(keys)
    shuffled = ({key: counts[key] for key in keys} for counts in (strata, state, left))
    assert extend(*shuffled, count, minimum, weights=weights) == extend(
        strata, state, left, count, minimum, weights=weights
    )


@given(months(), st.integers(0, 30))
def test_dealing_in_two_parts_deals_the_same_as_at_once(month, split):
    strata, state, left, count, minimum, weights = month
    first = extend(strata, state, left, min(split, count), minimum, weights=weights)
    state_then = {key: state[key] + first[key] for key in strata}
    left_then = {key: left[key] - first[key] for key in strata}
    second = extend(strata, state_then, left_then, count - min(split, count), minimum, weights=weights)
    assert {key: first[key] + second[key] for key in strata} == extend(
        strata, state, left, count, minimum, weights=weights
    )


def test_places_extend_the_state_month_by_month():
    strata, state, seen = {"a": 60, "b": 30, "c": 10}, {"a": 0, "b": 0, "c": 0}, []
    for cumulative in (1, 3, 6, 10):
        left = {key: strata[key] - state[key] for key in strata}
        dealt = extend(strata, state, left, cumulative - sum(state.values()), 1)
        state = {key: state[key] + dealt[key] for key in strata}
        seen.append("/".join(str(n) for n in state.values()))
    assert seen == ["1/0/0", "1/1/1", "3/2/1", "6/3/1"]


def test_an_exhausted_stratum_gets_no_place():
    assert extend({"A": 60, "B": 30, "C": 5}, {"A": 1, "B": 2}, {"A": 59, "B": 28}, 4) == {"A": 4, "B": 0, "C": 0}


def test_a_stratum_missing_in_state_or_left_has_none_there():
    assert extend({"A": 9, "B": 9}, {}, {"B": 2}, 2) == {"A": 0, "B": 2}
    with pytest.raises(DrawError, match="only 2 customers are left"):
        extend({"A": 9, "B": 9}, {}, {"B": 2}, 3)


def test_a_stratum_that_only_the_state_knows_is_an_error_unless_it_is_empty():
    with pytest.raises(DrawError, match="without a size: old"):
        extend({"A": 9}, {"old": 1}, {"A": 9}, 1)
    with pytest.raises(DrawError, match="without a size: old"):
        extend({"A": 9}, {}, {"A": 9, "old": 1}, 1)
    assert extend({"A": 9}, {"old": 0}, {"A": 9, "old": 0}, 1) == {"A": 1}


def test_a_minimum_that_nobody_is_left_for_holds_up_no_other_stratum():
    assert extend({"A": 9, "B": 9, "C": 90}, {}, {"A": 1, "C": 80}, 4, 3) == {"A": 1, "B": 0, "C": 3}


def test_strata_that_have_become_empty_come_last_and_by_name():
    assert extend({"A": 0, "B": 0, "C": 5}, {"C": 90}, {"A": 2, "B": 2, "C": 1}, 4) == {"A": 2, "B": 1, "C": 1}


@given(sizes, st.integers(1, 5))
def test_months_without_failures_walk_to_the_year_s_allocation(strata, count):
    total = sum(strata.values()) // 2
    state = dict.fromkeys(strata, 0)
    for month in range(1, count + 1):
        left = {key: strata[key] - state[key] for key in strata}
        dealt = extend(strata, state, left, total * month // count - sum(state.values()))
        state = {key: state[key] + dealt[key] for key in strata}
    assert state == allocate(strata, total)


@given(st.data())
def test_a_year_of_failures_and_new_plans_never_deals_less_than_nothing(data):
    strata = data.draw(st.dictionaries(st.sampled_from("ABCD"), st.integers(1, 30), min_size=1))
    taken, state = dict.fromkeys("ABCD", 0), dict.fromkeys("ABCD", 0)
    for _ in range(12):
        if data.draw(st.integers(0, 4)) == 0:
            strata = {k: max(taken[k], data.draw(st.integers(1, 30))) for k in strata}
        weights = data.draw(st.none() | st.dictionaries(st.sampled_from("ABCD"), decimals))
        state = {k: state[k] - data.draw(st.integers(0, state[k])) for k in state}
        left = {k: strata[k] - taken[k] for k in strata}
        count = data.draw(st.integers(0, min(10, sum(left.values()))))
        dealt = extend(strata, {k: state[k] for k in strata}, left, count, 1, weights=weights)
        assert sum(dealt.values()) == count
        for k in strata:
            assert 0 <= dealt[k] <= left[k]
            taken[k], state[k] = taken[k] + dealt[k], state[k] + dealt[k]
    assert all(taken[k] <= strata[k] for k in strata)


def test_a_hundred_thousand_places_are_dealt_at_once():
    strata = {"A": 500_000, "B": 300_000, "C": 150_000, "D": 40_000, "E": 10_000}
    began = time.perf_counter()
    for _ in range(100):
        dealt = extend(strata, {}, strata, 100_000, 50)
    assert time.perf_counter() - began < 2  # place by place, these hundred took twenty seconds
    assert dealt == {"A": 50_000, "B": 30_000, "C": 15_000, "D": 4_000, "E": 1_000}


def test_a_weight_stands_in_the_quotient_while_caps_and_minima_stay_on_the_size():
    strata = {"low": 90, "high": 10}
    assert allocate(strata, 20, weights={"high": "9"}) == {"low": 10, "high": 10}
    assert allocate(strata, 40, weights={"high": "9"}) == {"low": 30, "high": 10}
    assert allocate({"low": 90, "high": 2}, 20, 5, weights={"low": "100"}) == {"low": 18, "high": 2}


@given(months(), st.sampled_from(["3", "0.25", "10.5"]))
def test_weights_that_are_all_the_same_change_nothing(month, weight):
    strata, state, left, count, minimum, _ = month
    plain = extend(strata, state, left, count, minimum)
    assert extend(strata, state, left, count, minimum, weights=dict.fromkeys(strata, weight)) == plain
    assert extend(strata, state, left, count, minimum, weights={}) == plain
    assert extend(strata, state, left, count, minimum, weights={"elsewhere": weight}) == plain


@pytest.mark.parametrize("weight", ["0", "0.00", "-1", "", "1/3", 2, 1.5, None])
def test_a_weight_that_is_no_decimal_above_zero_is_refused(weight):
    with pytest.raises(DrawError, match="weight of 'a'"):
        allocate({"a": 5, "b": 5}, 3, weights={"a": weight})
    with pytest.raises(DrawError, match="weight of 'a'"):
        extend({"a": 5, "b": 5}, {}, {"b": 5}, 3, weights={"a": weight})


def test_a_silent_branch_is_asked_for_three_shares_at_most():
    plan = plan_month(goal=100, completed=0, open=0, failed=220, workdays=20, workdays_left=40, capacity=999, left=700)
    assert (plan.owed, plan.share, plan.places) == (100, 50, 150)


def test_what_capacity_or_the_frame_cannot_give_is_a_listed_shortfall():
    tight = plan_month(goal=100, completed=0, open=0, failed=0, workdays=20, workdays_left=20, capacity=50, left=700)
    assert (tight.places, tight.shortfall, tight.reason) == (50, 150, "capacity")
    empty = plan_month(goal=100, completed=0, open=0, failed=0, workdays=20, workdays_left=20, capacity=500, left=30)
    assert (empty.places, empty.shortfall, empty.reason) == (30, 170, "exhausted")


def test_a_month_without_workdays_owes_nothing_and_one_outside_the_year_is_refused():
    given = {"goal": 100, "completed": 0, "open": 0, "failed": 0, "capacity": 50, "left": 700}
    assert plan_month(**given, workdays=0, workdays_left=20).places == 0
    for days, days_left in ((21, 20), (0, 0)):
        with pytest.raises(DrawError, match="outside the programme year"):
            plan_month(**given, workdays=days, workdays_left=days_left)


@pytest.mark.parametrize(
    "name", ["goal", "completed", "open", "failed", "workdays", "workdays_left", "capacity", "left"]
)
def test_a_month_s_counts_cannot_be_negative(name):
    counts = dict.fromkeys(("goal", "completed", "open", "failed", "workdays", "capacity", "left"), 2)
    with pytest.raises(DrawError, match=f"{name.replace('_', ' ')}: -1 is negative"):
        plan_month(**{**counts, "workdays_left": 9, name: -1})


@given(*[st.integers(0, 300)] * 6, st.integers(1, 22), st.integers(0, 200))
def test_a_month_s_plan_is_the_page_s_formula(owed_goal, completed, still, failed, capacity, left, days, later):
    plan = plan_month(
        goal=owed_goal, completed=completed, open=still, failed=failed,
        workdays=days, workdays_left=days + later, capacity=capacity, left=left,
    )  # fmt: skip
    ours, of = completed + 10, completed + failed + 20
    owed = max(0, owed_goal - completed - still * ours // of)
    share = -(-owed * days // (days + later))
    wanted = min(-(-share * of // ours), 3 * share)
    assert (plan.owed, plan.share, plan.places) == (owed, share, min(wanted, capacity, left))
    assert plan.places + plan.shortfall == wanted
    assert (plan.reason == "") == (plan.shortfall == 0)


def test_coverage_tops_up_to_what_the_month_asks_for():
    assert plan_coverage(per_year=6, month=3, counted=1, capacity=9, left=9).places == 1
    short = plan_coverage(per_year=6, month=12, counted=0, capacity=9, left=2)
    assert (short.places, short.shortfall, short.reason) == (2, 4, "exhausted")
    assert plan_coverage(per_year=6, month=2, counted=5, capacity=9, left=9).places == 0
    # A marketer whose only customer is excluded.
    alone = plan_coverage(per_year=6, month=1, counted=0, capacity=9, left=0)
    assert (alone.places, alone.shortfall, alone.reason) == (0, 1, "exhausted")
    with pytest.raises(DrawError, match="month 13"):
        plan_coverage(per_year=6, month=13, counted=0, capacity=9, left=9)


def test_reserves_move_up_only_while_the_share_is_in_danger():
    assert activations(share=10, completed=4, open=3, waiting=5) == 3
    assert activations(share=10, completed=4, open=9, waiting=5) == 0
    assert activations(share=10, completed=0, open=0, waiting=2) == 2


def test_a_year_on_course_ends_at_its_goal():
    year = project_year(goal=100, completed=40, open=10, failed=10, left=500, months=[(20, 50)] * 6)
    assert (year.completed, year.shortfall, year.verdict) == (40, 0, "on_track")
    assert 100 <= year.low <= year.expected <= year.high <= 102


def test_a_year_without_capacity_ends_behind():
    year = project_year(goal=100, completed=45, open=0, failed=15, left=500, months=[(20, 10), (22, 10)])
    # p = 55/80, 20 places: 45 + ⌊20 × 55/80⌋.
    assert (year.expected, year.shortfall, year.verdict) == (58, 42, "behind")
    assert 45 <= year.low <= 58 <= year.high <= 65


def test_a_goal_between_the_limits_is_undecided():
    year = project_year(goal=100, completed=60, open=0, failed=20, left=500, months=[(20, 26), (22, 27)])
    assert year.low < 100 <= year.high
    assert year.verdict == "undecided"
    # The usual rate reaches the goal, its lower limit does not.
    close = project_year(goal=100, completed=45, open=5, failed=15, left=500, months=[(20, 40), (22, 40)])
    assert (close.low, close.expected, close.verdict) == (98, 101, "undecided")


def test_a_goal_that_is_reached_needs_no_forecast():
    year = project_year(goal=100, completed=103, open=7, failed=50, left=500, months=[(20, 10)])
    assert (year.completed, year.shortfall, year.verdict) == (103, 0, "reached")
    assert project_year(goal=0, completed=0, open=0, failed=0, left=0, months=[]).verdict == "reached"


def test_before_the_first_answer_only_what_cannot_be_exceeded_is_known():
    year = project_year(goal=100, completed=0, open=40, failed=0, left=900, months=[(20, 30)] * 2)
    assert (year.low, year.high, year.verdict) == (0, 100, "undecided")
    short = project_year(goal=100, completed=0, open=40, failed=0, left=50, months=[(20, 30)] * 2)
    assert (short.low, short.high, short.verdict) == (0, 90, "behind")


def test_a_branch_that_nobody_answers_is_behind_and_divides_by_nothing():
    year = project_year(goal=100, completed=0, open=0, failed=220, left=700, months=[(20, 999), (20, 999)])
    assert (year.low, year.verdict) == (0, "behind")
    assert year.completed == 0


@given(*[st.integers(0, 120)] * 5, st.lists(st.tuples(st.integers(1, 23), st.integers(0, 60)), max_size=12))
def test_no_projection_passes_the_customers_or_undoes_a_completion(owed, completed, still, failed, left, ahead):
    year = project_year(goal=owed, completed=completed, open=still, failed=failed, left=left, months=ahead)
    assert completed == year.completed <= year.low <= year.expected <= year.high <= completed + still + left
    assert year.shortfall == max(0, owed - year.expected)
    assert (year.verdict == "reached") == (completed >= owed)
    assert (year.verdict == "on_track") == (year.low >= owed > completed)
    assert (year.verdict == "behind") == (year.high < owed)


@given(*[st.integers(0, 120)] * 5, st.integers(1, 23), st.integers(0, 60))
def test_the_expected_end_deals_its_months_by_the_month_s_own_rule(
    owed, completed, still, failed, left, days, capacity
):
    counts = {"goal": owed, "completed": completed, "failed": failed}
    first = plan_month(
        **counts, open=still, workdays=days, workdays_left=days + 20, capacity=capacity, left=left
    ).places
    second = plan_month(
        **counts, open=still + first, workdays=20, workdays_left=20, capacity=capacity, left=left - first
    ).places
    year = project_year(**counts, open=still, left=left, months=[(days, capacity), (20, capacity)])
    assert year.expected == completed + (still + first + second) * (completed + 10) // (completed + failed + 20)


@pytest.mark.parametrize(("completed", "failed"), [(0, 1), (0, 220), (1, 2), (45, 15), (7, 0), (12_345, 55_545)])
def test_the_limits_of_a_projection_are_wilson_s(completed, failed):
    answered, z = completed + failed, NormalDist().inv_cdf(0.975)
    rate, usual = completed / answered, (completed + 10) / (answered + 20)
    centre, spread = rate + z * z / 2 / answered, z * (rate * (1 - rate) / answered + z * z / 4 / answered**2) ** 0.5
    low, high = (centre - spread) / (1 + z * z / answered), (centre + spread) / (1 + z * z / answered)
    # A million places in one month, far below what is owed: the end shows the rate to six digits.
    year = project_year(
        goal=10**8, completed=completed, open=0, failed=failed, left=10**6, months=[(20, 10**6)]
    )  # fmt: skip
    assert (year.low - completed) / 10**6 == pytest.approx(min(low, usual), abs=2e-6)
    assert (year.high - completed) / 10**6 == pytest.approx(max(high, usual), abs=2e-6)


def test_a_ticket_is_what_sha256sum_prints():
    assert ticket("s", "0001") == hashlib.sha256(b"s:0001").hexdigest()
    assert ticket("s", "0001").startswith("dfdcde01")
    assert ticket("s", "客户1") == hashlib.sha256("s:客户1".encode()).hexdigest()
    assert month_seed("p", "2026-03", "k", "z") == hashlib.sha256(b"p|2026-03|k|z").hexdigest()


def test_every_link_of_a_chain_opens_its_commitment_and_no_other_number():
    chain = make_chain("ab" * 32, 12)
    assert len(chain) == 13
    assert chain[12] == "ab" * 32
    assert all(chain[m - 1] == hashlib.sha256(chain[m].encode()).hexdigest() for m in range(1, 13))
    for m, n in itertools.product(range(13), repeat=2):
        assert opens(chain[m], n, chain[0]) == (m == n)


@pytest.mark.parametrize(
    "wrong", ["", "AB" * 32, "ab" * 31, "ab" * 33, "ab" * 31 + "g0", "ab" * 32 + "\n", b"ab" * 32, None]
)
def test_what_is_no_link_is_refused_with_what_one_looks_like(wrong):
    good = "ab" * 32
    for call in (lambda: make_chain(wrong, 12), lambda: opens(wrong, 1, good), lambda: opens(good, 1, wrong)):
        with pytest.raises(ChainError, match="64 lower-case hex digits"):
            call()


def test_a_chain_without_a_link_and_a_number_below_zero_are_refused():
    with pytest.raises(ChainError, match="at least one link"):
        make_chain("ab" * 32, 0)
    with pytest.raises(DrawError, match="negative"):
        opens("ab" * 32, -1, "ab" * 32)
    assert issubclass(ChainError, DrawError)
    assert issubclass(DrawError, CallbackError)


def test_a_single_draw_takes_the_certain_and_then_the_smallest_ticket_by_size():
    weights = {"a": 50, "b": 3, "c": 3, "d": 2, "e": 2}
    drawn = sequential_poisson(weights, 3, "seed")
    order = sorted("bcde", key=lambda k: (Fraction(int(ticket("seed", k)[:13], 16), weights[k]), ticket("seed", k)))
    assert [c.customer_id for c in drawn] == ["a", *order[:2]]
    assert [c.is_certain for c in drawn] == [True, False, False]
    assert [c.ticket for c in drawn] == [ticket("seed", c.customer_id) for c in drawn]
    assert drawn[0].probability == 1
    assert {c.customer_id: c.probability for c in drawn[1:]} == {k: Fraction(2 * weights[k], 10) for k in order[:2]}


def test_certain_ones_are_sought_again_among_those_who_remain():
    # 4 × 20 < 100 + 20 + 5: only the largest is certain at first, and then 3 × 20 ≥ 25 is too.
    weights = {"a": 100, "b": 20, "c": 1, "d": 1, "e": 1, "f": 1, "g": 1}
    assert {c.customer_id for c in sequential_poisson(weights, 4, "s") if c.is_certain} == {"a", "b"}


def test_everybody_with_a_size_is_certain_where_everybody_is_drawn():
    drawn = sequential_poisson({"a": 1, "b": 7, "c": 2, "none": 0}, 3, "s")
    assert sorted(c.customer_id for c in drawn) == ["a", "b", "c"]
    assert all(c.is_certain and c.probability == 1 for c in drawn)
    assert sequential_poisson({"a": 1}, 0, "s") == sequential_poisson({}, 0, "s") == []
    with pytest.raises(DrawError, match="only 3 have a size above 0"):
        sequential_poisson({"a": 1, "b": 7, "c": 2, "none": 0}, 4, "s")


def test_equal_quotients_go_to_the_smaller_ticket_and_equal_tickets_to_the_smaller_id():
    one, two = "1".zfill(13) + "f" * 51, "2".zfill(13) + "0" * 51
    assert [c.customer_id for c in choose_by_size({"a": 2, "b": 1, "c": 1}, 1, {"a": two, "b": one, "c": two})] == ["b"]
    later = "1".zfill(13) + "0" * 51
    assert [c.customer_id for c in choose_by_size({"a": 1, "b": 1}, 1, {"a": one, "b": later})] == ["b"]
    assert [c.customer_id for c in choose_by_size({"𠀀": 1, "～": 1}, 1, {"𠀀": one, "～": one})] == ["～"]


def test_the_first_thirteen_hex_digits_of_a_ticket_are_divided_and_no_further_one():
    thirteenth = {"a": "3".zfill(13) + "f" * 51, "b": "1".zfill(13) + "0" * 51}
    assert [c.customer_id for c in choose_by_size({"a": 4, "b": 1, "c": 4}, 1, {**thirteenth, "c": "f" * 64})] == ["a"]
    fourteenth = {"a": "f".zfill(14) + "0" * 50, "b": "1".zfill(14) + "0" * 50}
    sizes_of_three = {"a": 99, "b": 1, "c": 99}
    assert [c.customer_id for c in choose_by_size(sizes_of_three, 1, {**fourteenth, "c": "f" * 64})] == ["b"]


def test_quotients_closer_than_a_float_can_tell_are_told_apart():
    # u / w differ in the 30th digit.
    big = 10**15
    tickets = {"a": f"{2**51:013x}" + "0" * 51, "b": f"{2**51 + 1:013x}" + "0" * 51}
    closer = {"a": big, "b": big + Fraction(big, 2**51).__ceil__()}
    assert Fraction(2**51, closer["a"]) > Fraction(2**51 + 1, closer["b"])
    assert [c.customer_id for c in choose_by_size(closer, 1, tickets)] == ["b"]


@given(st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.integers(0, 1000), max_size=12), st.data())
def test_single_draws_give_their_count_and_probabilities_that_add_up_to_it(weights, data):
    count = data.draw(st.integers(0, sum(1 for size in weights.values() if size)))
    everyone = choose_by_size(weights, count, {key: ticket("s", key) for key in weights})
    assert len({c.customer_id for c in everyone}) == count
    certain = sum(c.is_certain for c in everyone)
    remaining = sum(
        size for key, size in weights.items() if key not in {c.customer_id for c in everyone if c.is_certain}
    )
    for c in everyone:
        assert 0 < c.probability <= 1
        assert c.is_certain == (c.probability == 1)
        if not c.is_certain:
            assert c.probability == Fraction((count - certain) * weights[c.customer_id], remaining)
    backwards = dict(reversed(weights.items()))
    assert sequential_poisson(backwards, count, "s") == everyone


def _chi_square(counts, cells, draws):
    expected = Fraction(draws, cells)
    assert len(counts) <= cells
    return float(sum((n - expected) ** 2 / expected for n in counts.values()) + (cells - len(counts)) * expected)


def _order(seed, ids):
    return tuple(sorted(ids, key=lambda i: (ticket(seed, i), i)))


def test_every_customer_is_drawn_equally_often():
    ids, draws = [f"{n:04}" for n in range(20)], 6_000
    counts = Counter(i for seed in range(draws) for i in _order(f"year-{seed}", ids)[:5])
    # Of 5 out of 20 the counts hang together; (N − 1) / (N − n) makes Σ (O − E)² / E a chi-square of 19 degrees again.
    statistic = _chi_square(counts, 20, draws * 5) * 19 / 15
    assert 5.407 < statistic < 43.820  # the 0.1 % and 99.9 % points


def test_every_pair_of_customers_is_drawn_equally_often_first():
    ids, draws = [f"{n:04}" for n in range(20)], 6_000
    counts = Counter(frozenset(_order(f"pair-{seed}", ids)[:2]) for seed in range(draws))
    assert 134.565 < _chi_square(counts, 190, draws) < 254.818  # 0.1 % and 99.9 % of 189 degrees


def test_every_sample_of_three_of_six_comes_equally_often():
    ids, draws = [f"6{n}" for n in range(6)], 6_000
    counts = Counter(frozenset(_order(f"set-{seed}", ids)[:3]) for seed in range(draws))
    assert 5.407 < _chi_square(counts, 20, draws) < 43.820  # 0.1 % and 99.9 % of 19 degrees


def test_sample_and_reserve_come_in_every_order_equally_often():
    ids, draws = list("abcde"), 12_000
    counts = Counter(_order(f"reserve-{seed}", ids) for seed in range(draws))
    assert 76.955 < _chi_square(counts, 120, draws) < 172.418  # 0.1 % and 99.9 % of 119 degrees


def test_one_month_s_draw_says_nothing_of_the_next():
    ids, draws = [f"{n}" for n in range(4)], 6_000
    counts = Counter((_order(f"2026-01-{seed}", ids)[0], _order(f"2026-02-{seed}", ids)[0]) for seed in range(draws))
    assert 3.483 < _chi_square(counts, 16, draws) < 37.697  # 0.1 % and 99.9 % of 15 degrees


def test_the_engine_draws_every_sample_and_every_reserve_equally_often():
    # One seed, 3,000 branches of six customers: 3,000 samples of three with a reserve of two.
    rows = [(f"{b:04}{c}", f"{b:04}", f"{b:04}", "*") for b in range(3_000) for c in range(6)]
    frame = pd.DataFrame(rows, columns=["customer_id", "branch_no", "group_key", "stratum"])
    places = pd.DataFrame({"group_key": sorted(set(frame.group_key)), "stratum": "*", "places": 3, "reserve": 2})
    nobody = ibis.memtable([], schema={"customer_id": "string"})
    drawn = draw(ibis.memtable(frame), nobody, ibis.memtable(places), "5eed").execute().sort_values("rank")
    drawn["place"] = drawn.customer_id.str[-1]
    samples, reserves = Counter(), Counter()
    for _, mine in drawn.groupby("group_key"):
        samples[frozenset(mine.loc[mine.kind == "sample", "place"])] += 1
        reserves[tuple(mine.loc[mine.kind == "reserve", "place"])] += 1
    assert 5.407 < _chi_square(samples, 20, 3_000) < 43.820  # 0.1 % and 99.9 % of 19 degrees
    assert 11.0 < _chi_square(reserves, 30, 3_000) < 58.301  # 0.1 % and 99.9 % of 29 degrees


def test_single_draws_come_close_to_the_probabilities_they_aim_at():
    weights, draws = {f"{n}": n for n in range(1, 11)}, 8_000
    counts, aimed = Counter(), {}
    for seed in range(draws):
        for chosen in sequential_poisson(weights, 4, f"size-{seed}"):
            counts[chosen.customer_id] += 1
            aimed[chosen.customer_id] = chosen.probability
    assert aimed == {key: Fraction(4 * size, 55) for key, size in weights.items()}
    # Five standard errors of a frequency are 0.028; Ohlsson's method itself is off by less than 0.01 here.
    assert all(abs(counts[key] / draws - aimed[key]) < 0.03 for key in weights)


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(sampling).attempted > 10
    assert doctest.testmod(sampling).failed == 0


def _page_frame() -> pd.DataFrame:
    ids = [f"{n:04}" for n in range(1, 91)]
    stratum = ["A"] * 60 + ["B"] * 30
    return pd.DataFrame({"customer_id": ids, "branch_no": "1", "group_key": "1", "stratum": stratum})


def test_three_months_of_the_page_s_draw_on_the_engine():
    frame, taken, got = _page_frame(), [], {"A": [], "B": []}
    state = {"A": 0, "B": 0}
    for _ in range(3):
        left = {"A": 60 - state["A"], "B": 30 - state["B"]}
        dealt = extend({"A": 60, "B": 30}, state, left, 3, 1)
        places = pd.DataFrame([{"group_key": "1", "stratum": k, "places": n, "reserve": 0} for k, n in dealt.items()])
        gone = ibis.memtable(pd.DataFrame({"customer_id": taken}, dtype="str"), schema={"customer_id": "string"})
        drawn = draw(ibis.memtable(frame), gone, ibis.memtable(places), "s").execute().sort_values(["stratum", "rank"])
        for key in got:
            got[key].append(" ".join(drawn.loc[drawn.stratum == key, "customer_id"]))
        taken += list(drawn.customer_id)
        state = {key: state[key] + dealt[key] for key in state}
    assert got == {"A": ["0019 0038", "0054 0048", "0018 0051"], "B": ["0076", "0081", "0073"]}


@settings(max_examples=15, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(0, 5), st.integers(0, 4))
def test_the_drawn_customers_do_not_depend_on_row_order_and_match_plain_hashlib(chance, count, reserve):
    frame = _page_frame()
    order = list(frame.index)
    chance.shuffle(order)
    places = pd.DataFrame([{"group_key": "1", "stratum": k, "places": count, "reserve": reserve} for k in "AB"])
    gone = ibis.memtable(pd.DataFrame({"customer_id": ["0019"]}))
    drawn = draw(ibis.memtable(frame.loc[order]), gone, ibis.memtable(places), "seed").execute()
    for key in "AB":
        ids = sorted((ticket("seed", i), i) for i in frame.loc[frame.stratum == key, "customer_id"] if i != "0019")
        mine = drawn[drawn.stratum == key].sort_values("rank")
        assert list(mine.customer_id) == [i for _, i in ids[: count + reserve]]
        assert list(mine.kind) == ["sample"] * count + ["reserve"] * reserve


def _rows(path):
    # A spreadsheet writes a byte order mark before UTF-8.
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def _one(rows, column):
    (value,) = {row[column] for row in rows}
    return value


def _ints(rows, column, key="stratum"):
    return {row[key]: int(row[column]) for row in rows}


def _weights(rows):
    return {row["stratum"]: row["weight"] for row in rows if row["weight"]}


def _collapse(rows):
    joined = collapse(_ints(rows, "customers", "segment"), _one(rows, "rate"), int(_one(rows, "minimum")))
    return [{"stratum": key, "customers": str(n), "error": ""} for key, n in joined.items()]


def _allocate(rows):
    total, minimum = int(_one(rows, "total")), int(_one(rows, "minimum"))
    places = allocate(_ints(rows, "customers"), total, minimum, weights=_weights(rows))
    return [{"stratum": key, "places": str(n), "error": ""} for key, n in places.items()]


def _extend(rows):
    state, left, minimum = _ints(rows, "state"), _ints(rows, "left"), int(_one(rows, "minimum"))
    places = extend(_ints(rows, "customers"), state, left, int(_one(rows, "places")), minimum, weights=_weights(rows))
    return [{"stratum": key, "places": str(n), "error": ""} for key, n in places.items()]


def _places(rows):
    out = []
    for row in rows:
        plan = plan_month(**{key: int(value) for key, value in row.items() if key != "branch"})
        counts = {key: str(getattr(plan, key)) for key in ("owed", "share", "places", "shortfall", "reason")}
        out.append({"branch": row["branch"], **counts})
    return out


def _months(rows):
    out, state, taken = [], Counter(), Counter()
    for month, these in itertools.groupby(rows, key=lambda row: row["month"]):
        mine = list(these)
        strata = _ints(mine, "customers")
        state.subtract(_ints(mine, "failed"))
        left = {key: strata[key] - taken[key] for key in strata}
        before = {key: state[key] for key in strata}
        count, minimum = int(_one(mine, "places")), int(_one(mine, "minimum"))
        dealt = extend(strata, before, left, count, minimum, weights=_weights(mine))
        state.update(dealt)
        taken.update(dealt)
        out += [{"month": month, "stratum": k, "places": str(n), "state": str(state[k])} for k, n in dealt.items()]
    return out


def _cells(row):
    return sorted(row.items())


def _scenarios():
    return sorted(p for rule in RULES for p in SCENARIOS.glob(f"{rule}_*_input.csv"))


@pytest.mark.parametrize("path", _scenarios(), ids=lambda path: path.name.removesuffix("_input.csv"))
def test_a_scenario_comes_out_as_a_compliance_officer_worked_it_out(path):
    rule = {"collapse": _collapse, "allocate": _allocate, "places": _places, "extend": _extend, "months": _months}
    expected = _rows(path.with_name(path.name.replace("_input", "_expected")))
    given, error = _rows(path), expected[0].get("error")
    if error:
        with pytest.raises(DrawError, match=error):
            rule[path.name.partition("_")[0]](given)
    else:
        found, wanted = rule[path.name.partition("_")[0]](given), expected
        assert sorted(found, key=_cells) == sorted(wanted, key=_cells)


def test_no_scenario_lacks_its_other_half():
    halves = {
        half: {p.name.removesuffix(f"_{half}.csv") for r in RULES for p in SCENARIOS.glob(f"{r}_*_{half}.csv")}
        for half in ("input", "expected")
    }
    assert halves["input"] == halves["expected"]
    assert {name.partition("_")[0] for name in halves["input"]} == set(RULES)
