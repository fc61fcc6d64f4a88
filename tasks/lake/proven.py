"""The rows of a block that are accepted beyond doubt, without a pass of the engine over every value.

Columns of many different texts (ids, names, numbers) are proven by their bytes (`models.proofs`); columns of few are
judged once per text by the very rules (`models.extracts.judge_values`) and looked up from then on. A row of which one
value is not proven goes through all rules, so this decides nothing: it only spares work.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import duckdb
import ibis
import numpy as np
import numpy.typing as npt
import pandera.pandas as pandera
import pyarrow as pa
import pyarrow.compute as pc
from pandera.engines import pandas_engine

from models.canonical import TABLES
from models.extracts import SourceFile, filter_values, judge_values, table_profile
from models.profile import ColumnSource, Filter, Profile
from models.proofs import Layout, form_of, is_amount, is_clean, is_line, is_plain, is_whole, lay_out
from tasks.lake.referred import References
from tasks.lake.rows import column_bytes

Mask = npt.NDArray[np.bool_]
FEW_TEXTS = 50_000
"""A column with more different texts than this in a block, or than a quarter of its rows, is not looked up by text."""


@dataclass
class Proven:
    """The proven rows of a block in canonical columns, with the text of each column where it is known already."""

    mask: Mask
    columns: dict[str, pa.Array]
    by: dict[str, pa.Array]
    texts: dict[str, pa.Array] = field(default_factory=dict)
    places: dict[str, npt.NDArray[np.int64]] = field(default_factory=dict)
    """Where the ids that a column refers to stand in its References."""


@dataclass
class _Judged:
    """What became of the texts of a column that were met so far."""

    places: dict[str | None, int] = field(default_factory=dict)
    values: list[pa.Array] = field(default_factory=list)
    good: list[Mask] = field(default_factory=list)


class Prover:
    """Proves rows of one file; may be asked by several threads."""

    def __init__(
        self, header: list[str], file: SourceFile, profile: Profile, known: Mapping[str, References], by: list[str]
    ) -> None:
        self._header, self._file, self._profile, self._known, self._by = header, file, profile, known, by
        self._schema, self._table = TABLES[file.table_name], table_profile(profile, file, header)
        self._types = {name: _arrow_type(column) for name, column in self._schema.columns.items()}
        self._met: dict[str, _Judged] = {}
        self._lock = threading.Lock()

    def prove(self, texts: pa.Table, con: duckdb.DuckDBPyConnection) -> Proven | None:
        """The proven rows among the texts of a block; None where a column cannot be proven at all."""
        found = Proven(np.ones(texts.num_rows, bool), {}, {})
        if "garbled" in texts.column_names:
            found.mask &= ~_flat(texts, "garbled").to_numpy(zero_copy_only=False)
        for rule in self._table.filters:
            if not self._prove_few(f"filter:{rule.name}", self._source(texts, rule.column), found, con, rule=rule):
                return None
        for name, column in self._schema.columns.items():
            if constant := self._table.constants.get(name):
                found.columns[name] = pa.repeat(pa.scalar(constant.value, pa.string()), texts.num_rows).cast(
                    self._types[name]
                )
            elif name in self._table.lookups:
                self._prove_lookup(name, self._source(texts, self._table.lookups[name].source), found, con)
            elif not self._prove_column(name, column, texts, found, con):
                return None
        for name in self._by:
            text = self._source(texts, name)
            found.mask &= is_clean(lay_out(text))
            found.by[name] = _or_null(text)
        for check in self._schema.checks:
            ends, begins = found.columns[check.statistics["later"]], found.columns[check.statistics["earlier"]]
            found.mask &= ~pc.fill_null(pc.less(ends, begins), False).to_numpy(zero_copy_only=False)
        return found

    def _source(self, texts: pa.Table, name: str) -> pa.Array:
        return _flat(texts, f"c{self._header.index(name)}")

    def _prove_column(
        self, name: str, column: pandera.Column, texts: pa.Table, found: Proven, con: duckdb.DuckDBPyConnection
    ) -> bool:
        source = self._table.column(name)
        assert source is not None
        text = self._source(texts, source.source)
        if (proof := self._proof(column, source)) is None:
            return self._prove_few(name, text, found, con)
        layout = lay_out(text)
        mask = proof(layout)
        if not column.nullable:
            mask = mask & (layout.lengths > 0)
        if source.none:
            mask = mask & ~pc.is_in(text, pa.array(source.none, pa.string())).to_numpy(zero_copy_only=False)
        if isinstance(column.dtype, pandas_engine.Decimal):
            found.columns[name] = self._amounts(name, text, mask, source, layout, found)
        else:
            found.columns[name] = _or_null(text) if column.nullable else text
            if proof is not is_line:
                found.texts[name] = text.fill_null("") if text.null_count else text  # nothing in it needs quoting
        if name in self._known:
            found.places[name] = self._known[name].place(text, hashes_of(con, text))
            mask = mask & self._known[name].is_accepted(found.places[name])
        found.mask &= mask
        return True

    def _proof(self, column: pandera.Column, source: ColumnSource) -> Callable[[Layout], Mask] | None:
        """What proves a column of many texts by their bytes; None where the rules must look at each different text."""
        if source.width or source.codes or source.thousands or source.decimal != ".":
            return None
        if isinstance(column.dtype, pandas_engine.Decimal):
            return {"yuan": is_amount, "fen": is_whole}.get(source.unit)
        return form_of(column)

    def _amounts(
        self, name: str, text: pa.Array, mask: Mask, source: ColumnSource, layout: Layout, found: Proven
    ) -> pa.Array:
        shown = text if mask.all() else pc.if_else(pa.array(mask), text, None)
        if source.unit == "fen":
            # The same whole numbers, read as hundredths.
            fen = _or_null(shown).cast(pa.decimal128(18, 0))
            return pa.Array.from_buffers(self._types[name], len(fen), fen.buffers(), fen.null_count, fen.offset)
        if is_plain(layout, mask):
            found.texts[name] = text.fill_null("") if text.null_count else text
        return _or_null(shown).cast(self._types[name])

    def _prove_lookup(self, name: str, text: pa.Array, found: Proven, con: duckdb.DuckDBPyConnection) -> None:
        fields = self._known[name].find(text, hashes_of(con, text))
        is_one = pc.fill_null(pc.equal(fields["values"], 1), False)
        found.mask &= is_clean(lay_out(text)) & is_one.to_numpy(zero_copy_only=False)
        found.columns[name] = fields["value"]

    def _prove_few(
        self, name: str, text: pa.Array, found: Proven, con: duckdb.DuckDBPyConnection, rule: Filter | None = None
    ) -> bool:
        """Whether the column has few enough different texts; each new one is judged by the rules."""
        coded = text.dictionary_encode()
        different = len(coded.dictionary)
        if different > FEW_TEXTS or (len(text) > 4 * FEW_TEXTS and different > len(text) // 4):
            return False
        with self._lock:
            places, values, good = self._look_up(name, coded.dictionary, con, rule)
        found.mask &= good[places][coded.indices.to_numpy()] if different else True
        if rule is None:
            chosen = values.take(pa.array(places))
            found.columns[name] = chosen.take(coded.indices)
            if not pa.types.is_decimal(chosen.type):
                shown = chosen.cast(pa.string()).fill_null("")
                if not any(sign in column_bytes(shown) for sign in (b",", b'"', b"\r", b"\n")):
                    found.texts[name] = shown.take(coded.indices)
        return True

    def _look_up(
        self, name: str, texts: pa.Array, con: duckdb.DuckDBPyConnection, rule: Filter | None
    ) -> tuple[npt.NDArray[np.int64], pa.Array, Mask]:
        met = self._met.setdefault(name, _Judged())
        listed = texts.to_pylist()
        fresh = [text for text in listed if text not in met.places]
        if fresh:
            asked = ibis.table({"text": "string"}, name="fresh")
            judged = filter_values(asked, rule) if rule else judge_values(asked, name, self._file, self._profile)
            con.register("fresh", pa.table({"text": pa.array(fresh, pa.string())}))
            rows = con.execute(str(ibis.to_sql(judged, dialect="duckdb", pretty=False))).to_arrow_table()
            con.unregister("fresh")
            values = _flat(rows, "value").cast(pa.string() if rule else self._types[name])
            good = _flat(rows, "is_good").to_numpy(zero_copy_only=False)
            if name in self._known and rule is None:
                found = self._known[name].find(values, hashes_of(con, values))["value"]
                good = good & found.is_valid().to_numpy(zero_copy_only=False)
            for text in _flat(rows, "text").to_pylist():
                met.places[text] = len(met.places)
            met.values = [pa.concat_arrays([*met.values, values])]
            met.good = [np.concatenate([*met.good, good])]
        return np.array([met.places[text] for text in listed], np.int64), met.values[0], met.good[0]


def _arrow_type(column: pandera.Column) -> pa.DataType:
    if isinstance(column.dtype, pandas_engine.Decimal):
        return pa.decimal128(column.dtype.precision, column.dtype.scale)
    return pa.date32() if isinstance(column.dtype, pandas_engine.DateTime) else pa.string()


def hashes_of(con: duckdb.DuckDBPyConnection, texts: pa.Array) -> npt.NDArray[np.uint64]:
    """The engine's hash of each text, as References are laid out by."""
    con.register("hashed", pa.table({"t": texts}))
    try:
        found: npt.NDArray[np.uint64] = con.sql("SELECT hash(t) AS h FROM hashed").to_arrow_table().column(0).to_numpy()
    finally:
        con.unregister("hashed")
    return found


def _flat(table: pa.Table, name: str) -> pa.Array:
    column = table.column(name)
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _or_null(text: pa.Array) -> pa.Array:
    """A text column with its empty values null."""
    empty = pc.equal(text, "")
    return pc.if_else(empty, None, text) if pc.any(empty).as_py() else text
