"""The contestant huifang: a month's frame and draw through the product's functions, without Prefect and the database.

python -m bench.run_draw MONTH CUSTOMERS PREPARED SEED RESULT     (HUIFANG_HOME names a fresh home)

MONTH is `first` (the base judged, planned, frozen, hashed, and the month drawn from it), `bare` (the same without
writing and hashing the frame), `later` (the seventh month: the frame is there, half a year's customers are taken), or
`prepare`, which is no contestant: it writes the places that all contestants are given.
"""

import time

BEGAN = time.perf_counter()

import json  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from contextlib import contextmanager  # noqa: E402
from datetime import date  # noqa: E402
from fractions import Fraction  # noqa: E402
from math import ceil  # noqa: E402
from pathlib import Path  # noqa: E402

# An installation has neither the packages of the tests nor, on one machine, Spark; pandera imports both where they are.
for absent in () if os.environ.get("HUIFANG_ENGINE", "").startswith("spark") else ("hypothesis", "pyspark"):
    sys.modules[absent] = None

import ibis  # noqa: E402
import pandas as pd  # noqa: E402
from ibis.backends.duckdb import Backend  # noqa: E402
from ibis.expr.types import Table  # noqa: E402

from models import frame, sampling  # noqa: E402
from models.programme import Programme, version_on  # noqa: E402
from tasks import lake  # noqa: E402
from tasks.settings import Settings, read_programmes  # noqa: E402

BASE_ON = date(2025, 12, 31)
EXPECTED_COMPLETION = Fraction(4, 5)
MONTHS_TAKEN = 6
NOBODY = pd.DataFrame({"customer_id": pd.Series([], dtype="str")})


def main(month: str, customers: Path, prepared: Path, seed: str, result: Path) -> None:
    imported = time.perf_counter()
    settings, seconds = Settings(), {}
    rules = version_on(read_programmes(settings), "daily_risk", date(2026, 3, 1))
    con = lake.connect(settings)
    found = {"import_seconds": imported - BEGAN, "steps": seconds}
    file = (settings.lake if month == "first" else prepared) / "frame.parquet"
    if month == "later":
        taken = con.read_parquet(str(prepared / "taken.parquet"))
    else:
        taken = ibis.memtable(NOBODY, schema={"customer_id": "string"})
        judged = frame.judge(frame.Base(con.read_parquet(str(customers)), None, None), rules, BASE_ON)
        with timed(seconds, "judged and counted"):
            counted = frame.count_judged(judged).execute()
        with timed(seconds, "ledger and plan"):
            ledger = frame.LEDGER.validate(frame.ledger(counted))
            plan = frame.plan_year(frame.sizes(counted), rules)
        frozen = frame.freeze(judged, ibis.memtable(plan.segments))
    if month in ("first", "prepare"):
        with timed(seconds, "frame written and hashed"):
            frozen, found["frame_sha256"] = lake.write_in_order(con, frozen, file)
    if month == "prepare":
        prepare(con, rules, plan, frozen, prepared)
        found |= {"customers": int(ledger["customers"].sum()), "eligible": int(plan.quota["eligible"].sum())}
    else:
        places = pd.read_csv(prepared / places_file(month), dtype={"group_key": str, "stratum": str})
        with timed(seconds, "draw"):
            if month == "bare":
                drawn = sampling.draw(frozen, taken, ibis.memtable(places), seed).execute()
            else:
                drawn = lake.draw_from(settings, str(file), con, taken, places, seed).execute()
        drawn.to_parquet(result.with_suffix(".parquet"), index=False)
    found["inner_seconds"] = time.perf_counter() - imported
    result.write_text(json.dumps(found), encoding="utf-8")


@contextmanager
def timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds[step] = time.perf_counter() - began


def places_file(month: str) -> str:
    return f"places-{'later' if month == 'later' else 'first'}.csv"


def prepare(con: Backend, rules: Programme, plan: frame.Plan, frozen: Table, folder: Path) -> None:
    """What all contestants are given: both months' places by stratum, who is taken by the later one, small segments."""
    first, half, later = [], [], []
    goals = plan.quota.set_index("group_key")["goal"]
    for group, rows in plan.strata.groupby("group_key"):
        sizes = {str(key): int(n) for key, n in zip(rows["stratum"], rows["customers"], strict=True)}
        month = ceil(int(goals[group]) / (12 * EXPECTED_COMPLETION))
        reserve = Fraction(str(rules.reserve))
        minimum = int(rows["minimum"].max())

        def deal(taken: dict[str, int], count: int) -> dict[str, int]:
            left = {key: sizes[key] - taken.get(key, 0) for key in sizes}  # noqa: B023
            return sampling.extend(sizes, taken, left, min(count, sum(left.values())), minimum)  # noqa: B023

        for found, taken, count in ((first, {}, month), (half, {}, MONTHS_TAKEN * month)):
            found += with_reserve(str(group), sizes, taken, deal(taken, count), reserve)
        taken = {row[1]: row[2] for row in half if row[0] == group}
        later += with_reserve(str(group), sizes, taken, deal(taken, month), reserve)
    columns = ["group_key", "stratum", "places", "reserve"]
    pd.DataFrame(first, columns=columns).to_csv(folder / places_file("first"), index=False)
    pd.DataFrame(later, columns=columns).to_csv(folder / places_file("later"), index=False)
    plan.segments.to_csv(folder / "segments.csv", index=False)
    gone = pd.DataFrame(half, columns=columns).assign(reserve=0)
    nobody = ibis.memtable(NOBODY, schema={"customer_id": "string"})
    drawn = sampling.draw(frozen, nobody, ibis.memtable(gone), "half a year")
    lake.write_table(con, drawn.select("customer_id"), folder / "taken.parquet", ["customer_id"])


def with_reserve(
    group: str, sizes: dict[str, int], taken: dict[str, int], places: dict[str, int], rate: Fraction
) -> list[tuple[str, str, int, int]]:
    return [
        (group, key, n, min(sizes[key] - taken.get(key, 0) - n, ceil(rate * n))) for key, n in sorted(places.items())
    ]


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4], Path(sys.argv[5]))
