"""The contestant samplics: the same eligible customers, and a sample of given size from each stratum by its selection.

    python bench/samplics_draw.py PREPARED OUT --seed HEX [--method srs_wor|pps_sys]

Runs in an environment of its own. It is given the frame that is already judged, so it only reads and selects.
`srs_wor` is the same design, simple random within strata; `pps_sys` its systematic one, every customer of size 1.
"""

import time

BEGAN = time.perf_counter()

import argparse  # noqa: E402
import json  # noqa: E402
import warnings  # noqa: E402
from pathlib import Path  # noqa: E402

warnings.simplefilter("ignore")

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from samplics.sampling import SampleSelection  # noqa: E402
from samplics.utils.types import SelectMethod  # noqa: E402


def main() -> None:
    imported = time.perf_counter()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prepared", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", default="0")
    parser.add_argument("--method", choices=["srs_wor", "pps_sys"], default="srs_wor")
    words = parser.parse_args()
    frame = pd.read_parquet(words.prepared / "frame.parquet", columns=["customer_id", "group_key", "stratum"])
    places = pd.read_csv(words.prepared / "places-first.csv", dtype={"group_key": str, "stratum": str})
    keys, sizes = places["group_key"] + "|" + places["stratum"], places["places"] + places["reserve"]
    needed = {key: int(n) for key, n in zip(keys, sizes, strict=True) if n}
    frame["key"] = frame["group_key"] + "|" + frame["stratum"]
    frame = frame[frame["key"].isin(needed.keys())]
    # Its systematic method refuses a stratum that is wanted whole.
    is_whole = (frame.groupby("key")["key"].transform("size") == frame["key"].map(needed)) & (words.method == "pps_sys")
    whole, frame = frame[is_whole], frame[~is_whole]
    needed = {key: n for key, n in needed.items() if key not in set(whole["key"])}
    began = time.perf_counter()
    np.random.seed(int(words.seed[:8], 16))
    chosen = SampleSelection(method=SelectMethod[words.method], strat=True, wr=False).select(
        samp_unit=frame["customer_id"], samp_size=needed, stratum=frame["key"],
        mos=np.ones(len(frame)) if words.method == "pps_sys" else None, to_dataframe=True, sample_only=True,
    )  # fmt: skip
    drawn = time.perf_counter()
    found = chosen[["_samp_unit", "_stratum"]].set_axis(["customer_id", "key"], axis=1).astype("str")
    found = pd.concat([found, whole[["customer_id", "key"]].astype("str")])
    found[["group_key", "stratum"]] = found["key"].str.split("|", n=1, expand=True).to_numpy()
    found[["customer_id", "group_key", "stratum"]].to_parquet(words.out.with_suffix(".parquet"), index=False)
    steps = {"read": began - imported, "select": drawn - began}
    result = {"import_seconds": imported - BEGAN, "inner_seconds": time.perf_counter() - imported, "steps": steps}
    words.out.write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
