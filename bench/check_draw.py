"""What the draw must come to, by hashlib and nothing of huifang: `expected-MONTH.json` beside the prepared places.

python -m bench.check_draw CUSTOMERS PREPARED SEED

Parquet is opened with pyarrow; every decision is made in plain Python, a customer at a time.
"""

from __future__ import annotations

import csv
import hashlib
import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import date
from pathlib import Path

import pyarrow.csv as pc
import pyarrow.parquet as pq

BASE_ON = date(2025, 12, 31)
MONTHS = ("first", "later")
FIRST = ("customer_id", "group_key", "stratum")
COLUMNS = ["customer_id", "branch_no", "segment", "status", "open_on", "close_on"]

Key = tuple[str, str]
Row = tuple[str, str, str, str, str, str]
"""customer_id, group_key, stratum, ticket, rank, kind"""


def main(customers: Path, prepared: Path, seed: str) -> None:
    segments = {(group, segment): stratum for group, segment, stratum in rows_of(prepared / "segments.csv")}
    taken = set(pq.read_table(prepared / "taken.parquet")["customer_id"].to_pylist())
    places = {month: places_of(prepared / f"places-{month}.csv") for month in MONTHS}
    pools: dict[str, dict[Key, list[tuple[str, str]]]] = {month: defaultdict(list) for month in MONTHS}
    counts = dict.fromkeys(MONTHS, 0)
    start = hashlib.sha256(f"{seed}:".encode())
    for customer_id, branch, segment in eligible(customers):
        ticket = start.copy()
        ticket.update(customer_id.encode())
        key, drawn = (branch, segments[branch, segment]), (ticket.hexdigest(), customer_id)
        for month in ("first",) if customer_id in taken else MONTHS:
            counts[month] += 1
            pool = pools[month][key]
            pool.append(drawn)
            needed = sum(places[month].get(key, (0, 0)))
            if len(pool) > 4 * needed + 100:
                pool.sort()
                del pool[needed:]
    for month in MONTHS:
        sample = list(draw(pools[month], places[month]))
        expected = {
            "pool": counts[month],
            "sample_sha256": sha256(sample),
            "strata": count(row[1:3] for row in sample),
        }
        (prepared / f"expected-{month}.json").write_text(json.dumps(expected), encoding="utf-8")


def eligible(file: Path) -> Iterator[tuple[str, str, str]]:
    """customer_id, branch_no and segment of who counts in the base."""
    with pq.ParquetFile(file) as customers:
        for batch in customers.iter_batches(50_000, columns=COLUMNS):
            for customer_id, branch, segment, status, open_on, close_on in zip(
                *(column.to_pylist() for column in batch.columns), strict=True
            ):
                if open_on <= BASE_ON and status == "active" and (close_on is None or close_on > BASE_ON):
                    yield customer_id, branch, segment


def draw(pools: dict[Key, list[tuple[str, str]]], places: dict[Key, tuple[int, int]]) -> Iterator[Row]:
    for key, (sample, reserve) in places.items():
        for rank, (ticket, customer_id) in enumerate(sorted(pools[key])[: sample + reserve], start=1):
            yield (customer_id, *key, ticket, str(rank), "sample" if rank <= sample else "reserve")


def rows_of(file: Path) -> Iterator[list[str]]:
    with file.open(encoding="utf-8", newline="") as lines:
        rows = csv.reader(lines)
        next(rows)
        yield from rows


def places_of(file: Path) -> dict[Key, tuple[int, int]]:
    return {(group, stratum): (int(places), int(reserve)) for group, stratum, places, reserve in rows_of(file)}


def sha256(rows: Iterable[Row]) -> str:
    """Of the rows as lines, sorted bytewise."""
    lines = sorted(",".join(row).encode() for row in rows)
    return hashlib.sha256(b"\n".join(lines)).hexdigest()


def count(keys: Iterable[tuple[str, ...]]) -> dict[str, int]:
    found: dict[str, int] = defaultdict(int)
    for key in keys:
        found["|".join(key)] += 1
    return dict(sorted(found.items()))


def read_sample(file: Path) -> list[tuple[str, ...]]:
    """customer_id, group_key, stratum, and ticket, rank and kind where there are such, of one contestant."""
    if file.suffix == ".csv":
        table = pc.read_csv(file, convert_options=pc.ConvertOptions(column_types=dict.fromkeys(FIRST, "string")))
    else:
        table = pq.read_table(file)
    names = [name for name in (*FIRST, "ticket", "rank", "kind") if name in table.column_names]
    return list(zip(*([str(value) for value in table[name].to_pylist()] for name in names), strict=True))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
