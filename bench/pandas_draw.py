"""The contestant in plain pandas: the same customers judged, and a sample of given size drawn from each stratum.

    python bench/pandas_draw.py CUSTOMERS PREPARED OUT --month first|later --seed HEX [--types text|categories]

Reads only the columns that it needs. `text` takes the types that pandas gives a Parquet file; `categories` is for
somebody who knows that branches and segments repeat: they are read as codes, and dates as numbers.
Knows nothing of huifang; the sizes per stratum are those that all contestants are given.
"""

import time

BEGAN = time.perf_counter()

import argparse  # noqa: E402
import datetime  # noqa: E402
import json  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

BASE_ON = datetime.date(2025, 12, 31)
COLUMNS = ["customer_id", "branch_no", "segment", "status", "open_on", "close_on"]
FEW = ["branch_no", "segment", "status"]


def read(file: Path, types: str) -> pd.DataFrame:
    if types == "text":
        return pd.read_parquet(file, columns=COLUMNS)
    return pq.read_table(file, columns=COLUMNS, read_dictionary=FEW).to_pandas(date_as_object=False)


def eligible(customers: pd.DataFrame, types: str) -> pd.DataFrame:
    last = pd.Timestamp(BASE_ON) if types == "categories" else BASE_ON
    is_eligible = (
        (customers["open_on"] <= last)
        & (customers["status"] != "closed")
        & ~(customers["close_on"] <= last)
        & ~customers["status"].isin(["dormant", "suspended"])
    )
    return customers.loc[is_eligible.to_numpy(dtype=bool), ["customer_id", "branch_no", "segment"]]


def join_small(customers: pd.DataFrame, segments: pd.DataFrame) -> pd.DataFrame:
    """The stratum beside each customer: his segment, unless it is small in his branch."""
    joined = segments[segments["segment"] != segments["stratum"]]
    if joined.empty:
        return customers.rename(columns={"segment": "stratum"})
    keys = customers["branch_no"].astype("str") + "|" + customers["segment"].astype("str")
    is_small = keys.isin(joined["group_key"] + "|" + joined["segment"]).to_numpy()
    stratum = customers["segment"]
    if isinstance(stratum.dtype, pd.CategoricalDtype):
        stratum = stratum.cat.add_categories("*")
    return customers.assign(stratum=stratum.mask(is_small, "*"))


def main() -> None:
    imported = time.perf_counter()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("customers", type=Path)
    parser.add_argument("prepared", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--month", choices=["first", "later"], default="first")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--types", choices=["text", "categories"], default="text")
    words = parser.parse_args()
    places = pd.read_csv(words.prepared / f"places-{words.month}.csv", dtype={"group_key": str, "stratum": str})
    sizes = places["places"] + places["reserve"]
    needed = {(g, s): n for g, s, n in zip(places["group_key"], places["stratum"], sizes, strict=True)}
    segments = pd.read_csv(words.prepared / "segments.csv", dtype=str)
    began = time.perf_counter()
    customers = read(words.customers, words.types)
    was_read = time.perf_counter()
    base = join_small(eligible(customers, words.types), segments)
    if words.month == "later":
        taken = pd.read_parquet(words.prepared / "taken.parquet")
        base = base[~base["customer_id"].isin(taken["customer_id"])]
    judged = time.perf_counter()
    chance = np.random.RandomState(int(words.seed[:8], 16))
    strata = base.groupby(["branch_no", "stratum"], observed=True)
    parts = [rows.sample(needed[key], random_state=chance) for key, rows in strata if needed.get(key)]
    sample = pd.concat(parts).rename(columns={"branch_no": "group_key"})
    drawn = time.perf_counter()
    sample = sample[["customer_id", "group_key", "stratum"]].astype("str")
    sample.to_parquet(words.out.with_suffix(".parquet"), index=False)
    steps = {"read": was_read - began, "judged": judged - was_read, "groupby().sample": drawn - judged}
    found = {"import_seconds": imported - BEGAN, "inner_seconds": time.perf_counter() - imported, "steps": steps}
    words.out.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
