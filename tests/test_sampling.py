import hashlib
from fractions import Fraction

import ibis
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.sampling import (
    DrawError,
    activations,
    allocate,
    collapse,
    draw,
    extend,
    goal,
    month_seed,
    plan_coverage,
    plan_month,
    ticket,
)

sizes = st.dictionaries(st.text("ABCDEFGH", min_size=1, max_size=2), st.integers(0, 60), min_size=1, max_size=8)


@pytest.mark.parametrize(
    ("rate", "customers", "expected"), [("0.10", 101, 11), ("0.07", 100, 7), ("0.10", 0, 0), ("1", 3, 3)]
)
def test_goal_is_the_exact_ceiling(rate, customers, expected):
    assert goal(rate, customers) == expected


def test_small_segments_join_until_the_joined_stratum_is_large_enough():
    assert collapse({"A": 120, "B": 60, "C": 7}, "0.10", 2) == {"A": 120, "*": 67}
    assert collapse({"A": 120, "B": 60, "C": 7, "D": 13}, "0.10", 2) == {"A": 120, "B": 60, "*": 20}
    assert collapse({"A": 5, "B": 3}, "0.10", 2) == {"*": 8}
    assert collapse({"A": 1}, "0.10", 0) == {"A": 1}


def test_a_segment_named_like_the_joined_stratum_is_refused():
    with pytest.raises(DrawError, match="rename it"):
        collapse({"*": 4}, "0.10", 1)


@given(sizes, st.data())
def test_webster_equals_a_plain_walk_with_fractions(strata, data):
    total = data.draw(st.integers(0, sum(strata.values())))
    places = dict.fromkeys(strata, 0)
    for _ in range(total):
        open_strata = [k for k in strata if places[k] < strata[k]]
        places[min(open_strata, key=lambda k: (-Fraction(strata[k], 2 * places[k] + 1), k))] += 1
    assert allocate(strata, total) == places


def test_the_page_s_allocations_come_out():
    strata = {"a": 53, "b": 24, "c": 23}
    assert allocate(strata, 10) == {"a": 6, "b": 2, "c": 2}
    assert allocate(strata, 10, 3) == {"a": 4, "b": 3, "c": 3}


def test_minima_above_the_total_and_totals_above_the_sizes_are_errors():
    ones = {f"s{n:02}": 1 for n in range(56)}
    with pytest.raises(DrawError, match="minima"):
        allocate(ones, 6, 1)
    with pytest.raises(DrawError, match="left"):
        allocate(ones, 57)
    with pytest.raises(DrawError, match="negative"):
        allocate({"a": -1}, 0)


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


@given(sizes, st.data())
def test_allocations_give_the_total_exactly_within_caps_and_minima(strata, data):
    minimum = data.draw(st.integers(0, 3))
    lowest = sum(min(minimum, n) for n in strata.values())
    total = data.draw(st.integers(lowest, sum(strata.values())))
    places = allocate(strata, total, minimum)
    assert sum(places.values()) == total
    assert all(min(minimum, strata[k]) <= places[k] <= strata[k] for k in strata)


@given(sizes, st.integers(1, 5))
def test_months_without_failures_walk_to_the_year_s_allocation(strata, months):
    total = sum(strata.values()) // 2
    state = dict.fromkeys(strata, 0)
    for month in range(1, months + 1):
        left = {key: strata[key] - state[key] for key in strata}
        dealt = extend(strata, state, left, total * month // months - sum(state.values()))
        state = {key: state[key] + dealt[key] for key in strata}
    assert state == allocate(strata, total)


def test_a_silent_branch_is_asked_for_three_shares_at_most():
    plan = plan_month(goal=100, completed=0, open=0, failed=220, workdays=20, workdays_left=40, capacity=999, left=700)
    assert (plan.owed, plan.share, plan.places) == (100, 50, 150)


def test_what_capacity_or_the_frame_cannot_give_is_a_listed_shortfall():
    tight = plan_month(goal=100, completed=0, open=0, failed=0, workdays=20, workdays_left=20, capacity=50, left=700)
    assert (tight.places, tight.shortfall, tight.reason) == (50, 150, "capacity")
    empty = plan_month(goal=100, completed=0, open=0, failed=0, workdays=20, workdays_left=20, capacity=500, left=30)
    assert (empty.places, empty.shortfall, empty.reason) == (30, 170, "exhausted")


def test_coverage_tops_up_to_what_the_month_asks_for():
    assert plan_coverage(per_year=6, month=3, counted=1, capacity=9, left=9).places == 1
    short = plan_coverage(per_year=6, month=12, counted=0, capacity=9, left=2)
    assert (short.places, short.shortfall, short.reason) == (2, 4, "exhausted")


def test_reserves_move_up_only_while_the_share_is_in_danger():
    assert activations(share=10, completed=4, open=3, waiting=5) == 3
    assert activations(share=10, completed=4, open=9, waiting=5) == 0
    assert activations(share=10, completed=0, open=0, waiting=2) == 2


def test_a_ticket_is_what_sha256sum_prints():
    assert ticket("s", "0001") == hashlib.sha256(b"s:0001").hexdigest()
    assert ticket("s", "0001").startswith("dfdcde01")
    assert month_seed("p", "2026-03", "k", "z") == hashlib.sha256(b"p|2026-03|k|z").hexdigest()


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
