"""A synthetic year-end base: the canonical customers table alone, as intake leaves it, by chunks and from a seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from demo.columns import Days, Ints, padded, texts
from models.canonical import CUSTOMERS

BRANCHES = 500
SEGMENTS = {"retail": 0.78, "affluent": 0.12, "high_net_worth": 0.05, "institution": 0.03, "professional": 0.02}
STATUSES = {"active": 0.80, "dormant": 0.12, "suspended": 0.03, "closed": 0.05}
CHUNK = 250_000
"""Customers made at a time; a row group of the file."""
LAST_DAY = 20_453
"""2025-12-31, in days since 1970."""


def write_customers(file: Path, customers: int, seed: int = 2026) -> None:
    """A base of so many customers, sorted by customer_id; branch sizes fall by a power of their rank."""
    branches = min(BRANCHES, customers // 10)
    rng = np.random.default_rng(seed)
    weights = rng.permutation((np.arange(branches) + 3.0) ** -0.8)
    part = file.with_suffix(".part")
    writer = None
    for first in range(0, customers, CHUNK):
        rng = np.random.default_rng([seed, first])
        size = min(CHUNK, customers - first)
        numbers = np.arange(first, first + size, dtype=np.int64)
        status = rng.choice(len(STATUSES), size, p=list(STATUSES.values()))
        open_on = rng.integers(LAST_DAY - 20 * 365, LAST_DAY + 1, size)
        closed_on = np.minimum(open_on + rng.integers(1, 3000, size), LAST_DAY)
        columns = {
            "customer_id": padded(10_000 + numbers * 7 + rng.integers(0, 7, size), 10),
            "customer_name": _coded(rng.integers(0, 2, size), ["某甲", "某乙丙"]),
            "phone": padded(13_000_000_000 + rng.integers(0, 10**9, size), 11),
            "id_no": padded(rng.integers(10**17, 9 * 10**17, size), 18),
            "branch_no": _coded(
                rng.choice(branches, size, p=weights / weights.sum()), [f"{n:04}" for n in range(1, branches + 1)]
            ),
            "segment": _coded(rng.choice(len(SEGMENTS), size, p=list(SEGMENTS.values())), list(SEGMENTS)),
            "risk_level": _coded(rng.integers(0, 5, size), ["C1", "C2", "C3", "C4", "C5"]),
            "status": _coded(status, list(STATUSES)),
            "open_on": Days(open_on).typed(),
            "close_on": Days(closed_on, missing=status != list(STATUSES).index("closed")).typed(),
        }
        table = pa.table({name: columns[name] for name in CUSTOMERS.columns})
        writer = writer or pq.ParquetWriter(part, table.schema, compression="zstd")
        writer.write_table(table)
    if writer:
        writer.close()
        part.rename(file)


def _coded(codes: Ints, words: list[str]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), texts(words)).dictionary_decode()
