"""The ids that later tables refer to, found by hash: what became of each, for millions of rows at a time.

A join builds its table anew for every block of rows; this is built once, holds ten million ids in some 250 MB, and
compares the texts themselves, so that equal hashes decide nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import duckdb
import ibis
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from models.extracts import reference
from models.profile import Lookup
from tasks.lake.engine import quoted

OTHERS = pa.schema([("key", pa.string()), ("verdict", pa.string()), ("rule", pa.string())])
"""Rows that were not accepted: their id, ignored | rejected, and the rule; source columns they are looked up by follow."""


@dataclass
class References:
    """Ids in the order of their hashes' first bits, with what becomes of a row that refers to one."""

    texts: pa.Array
    starts: npt.NDArray[np.int32]
    """Where the ids of each group of hashes begin; one more than there are groups."""
    tags: npt.NDArray[np.uint32]
    shift: int
    fates: npt.NDArray[np.uint16]
    """Row of `kinds` that an id belongs to."""
    kinds: pa.Table
    """values, ignored, rejected: the few combinations there are."""
    values: pa.Array | None
    """The accepted id where it is not the text itself."""
    rows: npt.NDArray[np.int32]
    """Where each id stood when the index was built: accepted ids first, in their order."""

    def by_id(self) -> npt.NDArray[np.int64]:
        """The places of the ids in the order of the snapshot."""
        places = np.empty(len(self.rows), np.int64)
        places[self.rows] = np.arange(len(self.rows))
        return places

    def find(self, texts: pa.Array, hashes: npt.NDArray[np.uint64]) -> dict[str, pa.Array]:
        """For each text its REFERENCE_FIELDS, by name; null where there is no such id."""
        places = self.place(texts, hashes)
        where = pa.array(places, mask=places < 0)
        fates = pa.array(self.fates).take(where)
        found = {name: self.kinds.column(name).combine_chunks().take(fates) for name in self.kinds.column_names}
        if self.values is not None:
            found["value"] = self.values.take(where)
        else:
            found["value"] = pc.if_else(pc.fill_null(pc.equal(found["values"], 1), False), texts, None)
        return found

    def is_accepted(self, places: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Whether an id found at a place is an accepted one; not where none was found."""
        if self.all_accepted:
            return places >= 0
        good = pc.equal(self.kinds.column("values"), 1).to_numpy()
        return np.asarray((places >= 0) & good[self.fates[places]])

    @cached_property
    def all_accepted(self) -> bool:
        return (
            self.values is None and len(self.fates) > 0 and int(self.fates.min()) == int(self.fates.max()) == ACCEPTED
        )

    def place(self, texts: pa.Array, hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """Where each text stands among the ids, -1 where it does not."""
        group = (hashes >> np.uint64(self.shift)).astype(np.int64)
        at, end = self.starts[group].astype(np.int64), self.starts[group + 1].astype(np.int64)
        tags = hashes.astype(np.uint32)
        found = self._tagged(at, end, tags)
        hit = np.flatnonzero(found >= 0)
        asked = texts if len(hit) == len(texts) else texts.take(pa.array(hit))
        same = pc.fill_null(pc.equal(self.texts.take(pa.array(found[hit])), asked), False)
        for row in hit[~same.to_numpy(zero_copy_only=False)]:  # equal in 32 bits and a group, and yet another text
            found[row] = self._walked(texts[int(row)], int(found[row]) + 1, int(end[row]))
        return found

    def _tagged(
        self, at: npt.NDArray[np.int64], end: npt.NDArray[np.int64], tags: npt.NDArray[np.uint32]
    ) -> npt.NDArray[np.int64]:
        """The first place of each span whose tag is the one asked for, -1 where there is none."""
        found = np.full(len(at), -1, np.int64)
        rows = np.flatnonzero(at < end)
        at, end, tags = at[rows], end[rows], tags[rows]
        while len(rows):
            is_like = self.tags[at] == tags
            found[rows[is_like]] = at[is_like]
            more = np.flatnonzero(~is_like & (at + 1 < end))
            rows, at, end, tags = rows[more], at[more] + 1, end[more], tags[more]
        return found

    def _walked(self, text: pa.Scalar, at: int, end: int) -> int:
        return next((place for place in range(at, end) if self.texts[place].equals(text)), -1)


def build_references(con: duckdb.DuckDBPyConnection, folder: Path, id_column: str, lookup: Lookup | None) -> References:
    """The ids of a snapshot by which rows may refer to it: its own, or a source column's where a lookup says so."""
    if lookup is not None:
        keys = ibis.table(
            {"key": "string", "verdict": "string", "rule": "string", f"by:{lookup.key}": "string"}, name="all_keys"
        )
        by = '"' + f"by:{lookup.key}".replace('"', '""') + '"'
        con.execute(
            f"CREATE OR REPLACE TEMP VIEW all_keys AS SELECT key, verdict, rule, {by} "
            f"FROM read_parquet([{quoted(folder / 'lookups.parquet')}, {quoted(folder / 'others.parquet')}])"
        )
        found = str(ibis.to_sql(reference(keys, lookup), dialect="duckdb", pretty=False))
        rows = con.sql(f"SELECT *, hash(ref) AS h FROM ({found})").to_arrow_table()
        return _index(
            _one(rows, "ref"), _one(rows, "h").to_numpy(), _fates(rows), _kinds(rows), values=_one(rows, "value")
        )
    # An accepted id is one row; what else bore the same id does not matter beside it. Ten million ids are held once.
    accepted = pq.read_table(folder / "accepted.parquet", columns=[id_column]).column(0)
    hashes = np.empty(len(accepted), np.uint64)
    at = 0
    for chunk in accepted.chunks:
        con.register("ids", pa.table({"ref": chunk}))
        hashes[at : at + len(chunk)] = con.sql("SELECT hash(ref) AS h FROM ids").to_arrow_table().column(0).to_numpy()
        at += len(chunk)
        con.unregister("ids")
    keys = ibis.table({"key": "string", "verdict": "string", "rule": "string"}, name="others")
    con.execute(
        f"CREATE OR REPLACE TEMP VIEW others AS "
        f"SELECT key, verdict, rule FROM read_parquet({quoted(folder / 'others.parquet')})"
    )
    lost = str(ibis.to_sql(reference(keys, None), dialect="duckdb", pretty=False))
    rows = con.sql(
        # The few that were lost are what is held; the accepted ones pass by.
        f"SELECT *, hash(ref) AS h FROM ({lost}) ANTI JOIN (SELECT ref FROM "
        f"(SELECT {id_column} AS ref FROM read_parquet({quoted(folder / 'accepted.parquet')})) AS a "
        f"SEMI JOIN (SELECT ref FROM ({lost})) AS b USING (ref)) AS taken USING (ref)"
    ).to_arrow_table()
    texts = pa.concat_arrays([*accepted.chunks, *rows.column("ref").chunks]) if len(accepted) else _one(rows, "ref")
    del accepted
    fates = np.full(len(texts), ACCEPTED, np.uint16)
    fates[len(texts) - rows.num_rows :] = _fates(rows)
    hashes = np.concatenate((hashes, _one(rows, "h").to_numpy())) if rows.num_rows else hashes
    return _index(texts, hashes, fates, _kinds(rows), values=None)


ACCEPTED = 2
"""The fate of an id that one accepted row bears and no other."""


def _fates(rows: pa.Table) -> npt.NDArray[np.uint16]:
    """Of each row of `reference` its row of `_kinds`."""
    rules = _one(rows, "ignored").dictionary_encode()
    ignored = rules.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64) + 1
    times = np.minimum(_one(rows, "values").to_numpy(), 2).astype(np.int64)
    rejected = _one(rows, "rejected").to_numpy(zero_copy_only=False).astype(np.int64)
    return np.asarray((ignored * 3 + times) * 2 + rejected).astype(np.uint16)


def _kinds(rows: pa.Table) -> pa.Table:
    names = [None, *_one(rows, "ignored").dictionary_encode().dictionary.to_pylist()]
    every = range(len(names) * 6)
    return pa.table(
        {
            "values": pa.array([n // 2 % 3 for n in every], pa.int64()),
            "ignored": pa.array([names[n // 6] for n in every], pa.string()),
            "rejected": pa.array([n % 2 == 1 for n in every], pa.bool_()),
        }
    )


def _index(
    texts: pa.Array,
    hashes: npt.NDArray[np.uint64],
    fates: npt.NDArray[np.uint16],
    kinds: pa.Table,
    values: pa.Array | None,
) -> References:
    shift = 64 - max(1, len(texts).bit_length() - 1)
    order = np.argsort(hashes).astype(np.int32)
    tags = hashes.astype(np.uint32)[order]
    counts = np.bincount(hashes >> np.uint64(shift), minlength=2 ** (64 - shift))
    del hashes
    starts = np.zeros(len(counts) + 1, np.int32)
    np.cumsum(counts, out=starts[1:])
    del counts
    where = pa.array(order)
    return References(
        texts=texts.take(where),
        starts=starts,
        tags=tags,
        shift=shift,
        rows=order,
        fates=fates[order],
        kinds=kinds,
        values=values.take(where) if values is not None else None,
    )


def _one(table: pa.Table, name: str) -> pa.Array:
    column = table.column(name)
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
