"""The draw from a large frame is the engine's: few tickets reach it, and they are those that hashlib gives."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator

import ibis
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from ibis.backends.duckdb import Backend

from models import sampling
from models.frame import customer_ids, drawing_frame
from tasks.lake import connect, draw_from
from tasks.lake.tickets import first_words, low_rows
from tasks.settings import Settings

SEED = "5eed" * 16
CUSTOMERS = 1_000_000
FRAME = """COPY (SELECT CASE WHEN n % 5000 = 7 THEN repeat('长', 18) || id ELSE id END AS customer_id,
    lpad((n % 20)::VARCHAR, 4, '0') AS branch_no, branch_no AS group_key, 'retail' AS segment,
    CASE WHEN n % 3 = 0 THEN '*' ELSE 'é' END AS stratum
    FROM (SELECT n, lpad(n::VARCHAR, 10, '0') AS id FROM range({}) t(n))) TO '{}' (FORMAT parquet)"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Settings, Backend]]:
    """A lake with a frame of a million customers in 40 strata, some of whose ids are longer than a block."""
    settings = Settings(home=tmp_path_factory.mktemp("home"), engine="duckdb")
    settings.lake.mkdir(parents=True)
    con = connect(settings)
    con.raw_sql(FRAME.format(CUSTOMERS, settings.lake / "frame.parquet"))
    yield settings, con
    con.disconnect()


def test_the_first_words_of_tickets_are_those_of_hashlib_for_ids_of_every_length():
    ids = ["长" * wide + "x" * narrow for wide in range(4) for narrow in range(60)]
    texts = [each.encode() for each in ids]
    offsets = np.concatenate([[0], np.cumsum([len(text) for text in texts])]).astype(np.int32)
    found = first_words(*(np.frombuffer(b, t) for b, t in (
        (SEED.encode(), np.uint8), (offsets.tobytes(), np.int32), (b"".join(texts), np.uint8))))  # fmt: skip
    expected = [int(sampling.ticket(SEED, each)[:8], 16) if len(each.encode()) <= 54 else 0 for each in ids]
    assert found.tolist() == expected


def test_the_low_rows_of_a_frame_are_those_whose_tickets_are_below_the_bound(large):
    settings, _ = large
    bounds = {(f"{n:04}", "é"): n << 26 for n in range(19)} | {("0019", "*"): 2**32}
    low = low_rows(settings.lake / "frame.parquet", SEED, bounds, 2)
    assert low.column_names == ["customer_id", "branch_no", "group_key", "stratum"]
    frame = pq.read_table(settings.lake / "frame.parquet").to_pylist()
    start = hashlib.sha256(f"{SEED}:".encode())

    def is_low(row: dict[str, str]) -> bool:
        bound = bounds.get((row["group_key"], row["stratum"]), 0)
        ticket = start.copy()
        ticket.update(row["customer_id"].encode())
        return bool(bound) and (len(row["customer_id"]) > 20 or int.from_bytes(ticket.digest()[:4]) < bound)

    assert low.column("customer_id").to_pylist() == [row["customer_id"] for row in frame if is_low(row)]


@pytest.mark.parametrize("is_uneven", [False, True])
def test_from_a_large_frame_the_customers_are_drawn_that_the_engine_draws_from_all(large, is_uneven, caplog):
    settings, con = large
    frame = con.read_parquet(str(settings.lake / "frame.parquet"))
    keys = [(f"{n:04}", stratum) for n in range(20) for stratum in ("*", "é")]
    places = pd.DataFrame(
        [(*key, 3 * n, n) for n, key in enumerate(keys)], columns=["group_key", "stratum", "places", "reserve"]
    )
    # Every sixtieth are half of the stratum é of branch 0019, and nobody else.
    taken = customer_ids([f"{n:010}" for n in range(19, CUSTOMERS, 60 if is_uneven else 997)])
    with caplog.at_level(logging.WARNING, "tasks.lake"):
        found = draw_from(settings, "frame.parquet", con, taken, places, SEED).execute()
    assert bool(caplog.records) == is_uneven
    expected = sampling.draw(drawing_frame(frame, None), taken, ibis.memtable(places), SEED).execute()
    assert len(found) == 4 * sum(range(40))
    order = ["group_key", "stratum", "rank"]
    pd.testing.assert_frame_equal(
        found.sort_values(order, ignore_index=True), expected.sort_values(order, ignore_index=True)
    )
