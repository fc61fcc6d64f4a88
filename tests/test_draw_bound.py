"""Few tickets are sorted, and the sample is the one that sorting all of them gives."""

from collections import defaultdict

import ibis
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.sampling import draw, ticket

GROUPS = ("0001", "0002", "0003")
STRATA = ("*", "retail", "é")

keys = st.tuples(st.sampled_from(GROUPS), st.sampled_from(STRATA))
dealt = st.dictionaries(keys, st.tuples(st.integers(0, 30), st.integers(0, 15)), min_size=1)


def by_hashlib(customers, taken, places, seed):
    """The drawn rows by sorting every ticket in plain Python."""
    pools = defaultdict(list)
    for customer_id, key in customers.items():
        if customer_id not in taken:
            pools[key].append((ticket(seed, customer_id), customer_id))
    return {
        (customer_id, *key, drawn, rank, "sample" if rank <= sample else "reserve")
        for key, (sample, reserve) in places.items()
        for rank, (drawn, customer_id) in enumerate(sorted(pools[key])[: sample + reserve], start=1)
    }


def by_engine(customers, taken, places, seed, slack):
    frame = pd.DataFrame(
        [(customer_id, group, group, stratum) for customer_id, (group, stratum) in customers.items()],
        columns=["customer_id", "branch_no", "group_key", "stratum"], dtype="str",
    )  # fmt: skip
    gone = pd.DataFrame({"customer_id": sorted(taken)}, dtype="str")
    rows = pd.DataFrame([(*key, *counts) for key, counts in places.items()],
                        columns=["group_key", "stratum", "places", "reserve"])  # fmt: skip
    drawn = draw(
        ibis.memtable(frame, schema=dict.fromkeys(frame.columns, "string")),
        ibis.memtable(gone, schema={"customer_id": "string"}), ibis.memtable(rows), seed, slack=slack,
    )  # fmt: skip
    found = drawn.execute()
    assert list(found.columns) == ["customer_id", "branch_no", "group_key", "stratum", "ticket", "rank", "kind"]
    assert (found["branch_no"] == found["group_key"]).all()
    return set(found.drop(columns="branch_no").itertuples(index=False, name=None)), len(found)


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.dictionaries(keys, st.integers(1, 200)), places=dealt, gone=st.integers(1, 9), seed=st.text(max_size=6),
    slack=st.sampled_from([-9, -1, 0, 1, 6]),
)  # fmt: skip
@example(sizes={}, places={("0001", "*"): (1, 1)}, gone=1, seed="s", slack=6)
@example(sizes={("0001", "*"): 200}, places={("0001", "*"): (0, 0)}, gone=9, seed="s", slack=6)
@example(sizes={("0001", "*"): 200, ("0002", "é"): 1}, places={("0001", "*"): (2, 1)}, gone=9, seed="s", slack=6)
def test_the_same_customers_are_drawn_however_tight_the_bound_is(sizes, places, gone, seed, slack):
    customers = {f"{group}-{key}-{n}": (group, key) for (group, key), size in sizes.items() for n in range(size)}
    taken = {customer_id for n, customer_id in enumerate(customers) if n % 10 >= gone} | {"left the base"}
    expected = by_hashlib(customers, taken, places, seed)
    assert by_engine(customers, taken, places, seed, slack) == (expected, len(expected))


@pytest.mark.parametrize("slack", [-9, 0, 6])
def test_strata_with_too_few_tickets_below_the_bound_are_drawn_like_the_others(slack):
    customers = {f"{n:05}": (GROUPS[n % 3], str(n % 40)) for n in range(12_000)}
    places = {(group, str(s)): (5, 3) for group in GROUPS for s in range(40)}
    below = defaultdict(int)
    for customer_id, key in customers.items():
        below[key] += int(ticket("s", customer_id)[:8], 16) < 8 * 16**8 // 100
    short = [key for key in places if below[key] < 8]
    assert 20 < len(short) < 100, "without slack some strata have enough tickets below the bound, others too few"
    expected = by_hashlib(customers, set(), places, "s")
    assert by_engine(customers, set(), places, "s", slack) == (expected, 120 * 8)
