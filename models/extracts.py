"""What becomes of each row of an extract: accepted, ignored by a named rule, or rejected with column and reason.

Turns raw text tables into judged ones, as Ibis expressions. Finding, decoding and writing files stay out, and so does
the engine.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any

import ibis
import ibis.expr.types as ir
import pandas as pd
import pandera.pandas as pa
from pandera.engines import pandas_engine

from models import CallbackError
from models.canonical import (
    CHECKED_ID,
    FIRM_CHECKS,
    FIRM_WEIGHTS,
    ID,
    ORPHANS,
    REASONS,
    RESIDENT_CHECKS,
    RESIDENT_WEIGHTS,
    TABLES,
    allowed_codes,
    meta_of,
    references,
)
from models.framing import HeaderError
from models.profile import (
    CANONICAL_FORM,
    ColumnSource,
    DateForm,
    FileForm,
    Filter,
    Lookup,
    Profile,
    TableProfile,
    canonical_table,
)
from models.traits import mask


@dataclass(frozen=True)
class Expected:
    """What a marker, a control file or a trailer says a file holds; None or absent = nothing is said."""

    rows: int | None = None
    totals: Mapping[str, Decimal] = field(default_factory=dict)
    """Sum of a source column over all data rows."""
    said_by: str = ""
    """The file or line that says so, for the error."""


@dataclass(frozen=True)
class SourceFile:
    """One file of a delivery, kept raw."""

    table_name: str
    name: str
    """As found in the inbox; an entry of an archive is archive.zip/entry."""
    sha256: str
    """Of the bytes as they came."""
    size_bytes: int
    path: str
    """The raw copy."""
    form: FileForm = CANONICAL_FORM
    member: str = ""
    """The archive's entry to read, when the raw copy is a zip archive."""
    expected: Expected | None = None
    """What the file beside it said; a trailer is found when the rows are read."""
    is_canonical: bool = False
    """Written in our own names and codes, whatever the profile says."""


# ---- headers ------------------------------------------------------------------------------------------------


def check_header(header: list[str], file: SourceFile, profile: Profile) -> None:
    """Refuses a header with a missing, doubled, empty or unexplained column.

    Raises HeaderError naming the file, the columns and what was found.
    """
    table_name, table = file.table_name, table_profile(profile, file, header)
    where = f"{file.name} ({table_name}, profile {profile.name})"
    needed = table.used_columns() + ([] if file.is_canonical else profile.looked_up_by(table_name))
    found, expected = ", ".join(header), {*needed, *table.ignore_columns} - {"*"}
    missing = [name for name in dict.fromkeys(needed) if name not in header]
    if missing and sum(name in expected for name in header) * 2 < len(expected):
        # A first line that is no header is somebody's row, and is not shown.
        raise HeaderError(
            f"{where}: the header has no column {', '.join(missing)}; found {len(header)} columns, few of which the "
            "profile knows. Is the first line a header? Where files have none, name the columns under form.header"
        )
    if doubled := [name for name, times in Counter(header).items() if times > 1]:
        raise HeaderError(f"{where}: the header names {', '.join(doubled)} more than once; found {found}")
    if missing:
        raise HeaderError(
            f"{where}: the header has no column {', '.join(missing)}; found {found}. "
            f"If the source renamed it, change tables.{table_name} in the profile"
        )
    if gone := [name for name in table.ignore_columns if name != "*" and name not in header]:
        raise HeaderError(f"{where}: ignore_columns names {', '.join(gone)}, which the header lacks; found {found}")
    unexplained = [name for name in header if name not in needed and name not in table.ignore_columns]
    if unexplained and "*" not in table.ignore_columns:
        raise HeaderError(
            f"{where}: the profile says nothing about column {', '.join(unexplained)}; "
            f"map it, or list it under tables.{table_name}.ignore_columns with a reason"
        )


# ---- from raw text to judged rows ---------------------------------------------------------------------------

_BLANKS = " \t\r\n\v\f\u00a0\u3000\ufeff"
_DIRTY = f"^[{_BLANKS}']|[{_BLANKS}]$|[０-９Ａ-Ｚａ-ｚ－／．＋（）＠＿]"
_HALF = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-/.+()@_"
_FULL = "".join(chr(ord(character) + 0xFEE0) for character in _HALF)  # Unicode keeps the two blocks in step

_DATE_FORMS = {
    # Counters often append a midnight.
    "yyyy-MM-dd": "^[0-9]{4}-[0-9]{2}-[0-9]{2}( 00:00:00([.]0+)?)?$",
    "yyyy/MM/dd": "^[0-9]{4}/[0-9]{2}/[0-9]{2}( 00:00:00([.]0+)?)?$",
    "yyyy.MM.dd": "^[0-9]{4}[.][0-9]{2}[.][0-9]{2}( 00:00:00([.]0+)?)?$",
    "yyyyMMdd": "^[0-9]{8}$",
    "excel": "^[1-9][0-9]{0,5}([.]0+)?$",
}
_EXCEL_ZERO = date(1899, 12, 30)  # their day 60 is 29 February 1900, which never was: days before it lie one later
_NUMBER = "^[+-]?[0-9]{1,16}([.][0-9]{0,2}0*)?$"
_UNITS = {
    # No more decimals than leave whole fen; trailing zeros are harmless.
    "fen": ("^[+-]?[0-9]{1,18}([.]0*)?$", Decimal("0.01")),
    "wan_yuan": ("^[+-]?[0-9]{1,12}([.][0-9]{0,6}0*)?$", Decimal(10_000)),
}
_SPLIT = "\t"


class UnknownCode(CallbackError):
    """The source holds codes that its profile does not know; they are never taken for a default."""


def judge_rows(
    raw: ir.Table,
    header: list[str],
    file_no: int,
    file: SourceFile,
    profile: Profile,
    known: Mapping[str, ir.Table] | None,
) -> ir.Table:
    """One row per row of the file: its canonical values, parsed, with a verdict in `fault`.

    `raw` holds `row_number` (the header is row 1), text columns c0, c1, … in the order of the header and, where a
    byte did not decode, `garbled`; `known` the keys of the tables taken in before (see `keys_of`), or None where
    `raw` brings what `reference_columns` names. `fault` is null for a row without fault, otherwise verdict, rule
    and column, to be read by `split_fault`; `remark` is what is only reported; `unknown:<column>` holds a code the
    profile does not know; `by:<column>` the source columns that other tables look rows up by. Doubled ids are not
    seen here: see `first_rows`.
    """
    table_name = file.table_name
    schema, table = TABLES[table_name], table_profile(profile, file, header)
    rows = canonical_texts(raw, header, file, profile)
    if known is not None:
        for name, referred in references(table_name).items():
            found = reference(known[referred], table.lookups.get(name))
            found = found.rename(lambda field, name=name: f"{name}:{field}")
            rows = rows.left_join(found, rows[f"value:{name}"] == found[f"{name}:ref"]).drop(f"{name}:ref")

    parsed = {
        f"parsed:{name}": _value(rows, name, column, profile, table)
        for name, column in schema.columns.items()
        if name in table.lookups or not _is_text(column)
    }
    rows = rows.mutate(**parsed)  # a layer of its own: each text is parsed once
    values = {
        name: rows[f"parsed:{name}" if f"parsed:{name}" in parsed else f"value:{name}"] for name in schema.columns
    }
    unknown = {f"unknown:{name}": text for name, text in _unknown_codes(rows, schema, table)}
    faults = [
        *_faults_of_columns(rows, schema.columns, values, profile, table),
        *_faults_of_references(rows, table_name, table),
        *_faults_of_rows(schema, values),
    ]
    fault = _first_of(
        [(mask, _fault("ignored", rule, column)) for rule, column, mask in _ignored(rows, table)]
        + ([(rows.garbled, _fault("rejected", "bad_byte", ""))] if "garbled" in rows.columns else [])
        + [(mask, said) for mask, reason, said in faults if reason not in table.report]
    )
    remark = _first_of([(mask, said) for mask, reason, said in faults if reason in table.report])
    by = [column for column in rows.columns if column.startswith("by:")]
    judged = rows.select(
        "row_number",
        *by,
        **values,
        **unknown,
        file_no=ibis.literal(file_no, "int32"),
        fault=fault,
        remark=remark,
    )
    # An ignored row is not read further, so its codes need not be known either.
    ignored = judged.fault.startswith(f"ignored{_SPLIT}").fill_null(False)
    return judged.mutate(**{name: ignored.ifelse(ibis.null("string"), judged[name]) for name in unknown})


def _first_of(cases: list[tuple[ir.BooleanValue, ir.StringValue]]) -> ir.StringValue:
    return ibis.cases(*cases, else_=ibis.null("string")) if cases else ibis.null("string")


def canonical_texts(raw: ir.Table, header: list[str], file: SourceFile, profile: Profile) -> ir.Table:
    """The texts of a file's rows, cleaned: text:<column> as the source says it, value:<column> as we do.

    Every text is cleaned once, in a layer of its own, so that the engine computes it once.
    """
    schema, table = TABLES[file.table_name], table_profile(profile, file, header)
    free = {name for name, column in schema.columns.items() if meta_of(column, "is_free_text")}

    def tidy(source: str, is_free_text: bool = False) -> ir.StringValue:
        return clean_text(raw[f"c{header.index(source)}"], is_free_text)

    cleaned: dict[str, ir.Value] = {}
    for name in schema.columns:
        if source := table.column(name):
            cleaned[f"text:{name}"] = tidy(source.source, name in free)
    for name, lookup in table.lookups.items():
        cleaned[f"text:{name}"] = tidy(lookup.source)
    for rule in table.filters:
        cleaned[f"filter:{rule.name}"] = tidy(rule.column)
    for column in [] if file.is_canonical else profile.looked_up_by(file.table_name):
        cleaned[f"by:{column}"] = tidy(column)
    carried = [name for name in raw.columns if name in ("row_number", "garbled") or ":" in name]
    rows = raw.select(*carried, **cleaned)
    canonical = {name: _canonical_text(rows, name, column, profile, table) for name, column in schema.columns.items()}
    return rows.mutate(**{f"value:{name}": text for name, text in canonical.items()})


REFERENCE_FIELDS = {"value": "string", "values": "int64", "ignored": "string", "rejected": "boolean"}


def reference_columns(table_name: str) -> dict[str, str]:
    """Name and type of the columns by which rows carry what became of the ids they refer to."""
    return {f"{name}:{field}": kind for name in references(table_name) for field, kind in REFERENCE_FIELDS.items()}


def judge_values(texts: ir.Table, name: str, file: SourceFile, profile: Profile) -> ir.Table:
    """What the rules of one canonical column make of some texts: text, value, and whether no rule objects (is_good).

    For columns of few distinct texts, which are judged once instead of row by row. `texts` has the column `text`.
    """
    schema, table = TABLES[file.table_name], table_profile(profile, file)
    column = schema.columns[name]
    cleaned = clean_text(texts.text, bool(meta_of(column, "is_free_text")))
    rows = texts.select("text", **{f"text:{name}": cleaned})
    rows = rows.mutate(**{f"value:{name}": _canonical_text(rows, name, column, profile, table)})
    value = rows[f"value:{name}"] if _is_text(column) else _value(rows, name, column, profile, table)
    objections = [mask for mask, _, _ in _faults_of_columns(rows, {name: column}, {name: value}, profile, table)]
    objections += [rows[f"text:{name}"].isin(rule.codes) for rule in table.ignore_codes if rule.column == name]
    objections += [text.notnull() for column_name, text in _unknown_codes(rows, schema, table) if column_name == name]
    objected = ibis.or_(*(mask.fill_null(False) for mask in objections)) if objections else ibis.literal(False)
    return rows.select(text=rows.text, value=value, is_good=~objected)


def filter_values(texts: ir.Table, rule: Filter) -> ir.Table:
    """Which texts of a filter's column do not make the filter ignore their rows: text, value (itself), is_good."""
    rows = texts.select("text", **{f"filter:{rule.name}": clean_text(texts.text)})
    return rows.select(text=rows.text, value=rows.text, is_good=~_is_filtered(rows, rule).fill_null(False))


def table_profile(profile: Profile, file: SourceFile, header: list[str] | None = None) -> TableProfile:
    """How a file's table is read: by the profile, or by our own names where the file is canonical.

    An optional column that is not mapped, or that the header lacks, is unknown for every row.
    """
    table = canonical_table(file.table_name) if file.is_canonical else profile.tables[file.table_name]
    return table.as_found(file.table_name, header)


def clean_text(text: ir.StringValue, is_free_text: bool = False) -> ir.StringValue:
    """Without blanks (also U+3000) at either end; ids, numbers and codes in half-width, without Excel's apostrophe.

    Nothing left is null. The costly path is taken only by values that a cheap pattern finds dirty.
    """
    edge = _BLANKS if is_free_text else f"{_BLANKS}'"
    tidy = text if is_free_text else text.translate(_FULL, _HALF)
    tidy = tidy.re_replace(f"^[{edge}]+|[{_BLANKS}]+$", "")
    return text.re_search(_DIRTY).ifelse(tidy, text).nullif("")


def _canonical_text(
    rows: ir.Table, name: str, column: pa.Column, profile: Profile, table: TableProfile
) -> ir.StringValue:
    """The text of a canonical column: sentinels gone, lost zeros back, codes translated (unknown ones null)."""
    if constant := table.constants.get(name):
        return ibis.null("string") if constant.value is None else ibis.literal(constant.value)
    text = rows[f"text:{name}"]
    source = table.column(name)
    if source is None:
        return text
    if nones := _nones(column, source, profile):
        text = text.isin(nones).ifelse(ibis.null("string"), text)
    if source.width:
        short = text.re_search("^[0-9]+$") & (text.length() < source.width)
        text = short.ifelse(text.lpad(source.width, "0"), text)
    if _is_amount(column):
        text = plain_number(text, source)
    codes = profile.code_table(source) or {code: code for code in allowed_codes(column) or ()}
    if codes:
        text = text.cases(*codes.items(), else_=ibis.null("string"))
    return text


def plain_number(text: ir.StringValue, source: ColumnSource) -> ir.StringValue:
    """A number's text with a point for its decimals and without separators, where these stand as they should.

    A separator at any other place stays, and makes the text no number: 12,34 is not 1234.
    """
    if source.thousands:
        grouped = f"^[+-]?[0-9]{{1,3}}([{_escaped(source.thousands)}][0-9]{{3}})+([{_escaped(source.decimal)}][0-9]*)?$"
        text = text.re_search(grouped).ifelse(text.replace(source.thousands, ""), text)
    if source.decimal != ".":
        text = text.contains(".").ifelse(text.replace(".", "?"), text).replace(source.decimal, ".")
    return text


def _escaped(sign: str) -> str:
    return f"\\{sign}" if sign in "\\]^-" else sign


def _is_amount(column: pa.Column) -> bool:
    return isinstance(column.dtype, pandas_engine.Decimal)


def _is_date(column: pa.Column) -> bool:
    return isinstance(column.dtype, pandas_engine.DateTime)


def _is_text(column: pa.Column) -> bool:
    return not _is_date(column) and not isinstance(column.dtype, pandas_engine.Decimal)


def _nones(column: pa.Column, source: ColumnSource, profile: Profile) -> list[str]:
    return [*source.none, *(profile.sentinels.none if _is_date(column) else [])]


def _value(rows: ir.Table, name: str, column: pa.Column, profile: Profile, table: TableProfile) -> ir.Value:
    """A canonical column in its type; null where the text cannot be read."""
    text = rows[f"{name}:value"] if name in table.lookups else rows[f"value:{name}"]
    if _is_date(column):
        return ibis.cases(
            *((text.re_search(_DATE_FORMS[form]), _day(text, form)) for form in _date_forms(name, profile, table)),
            else_=ibis.null("date"),
        )
    if isinstance(column.dtype, pandas_engine.Decimal):
        kind = f"decimal({column.dtype.precision}, {column.dtype.scale})"
        source = table.column(name)
        unit = source.unit if source else "yuan"
        if unit == "yuan":
            return text.re_search(_NUMBER).ifelse(text.try_cast(kind), ibis.null(kind))
        pattern, factor = _UNITS[unit]
        amount = text.try_cast("decimal(30, 6)") * ibis.literal(factor, "decimal(8, 2)")
        return text.re_search(pattern).ifelse(amount.try_cast(kind), ibis.null(kind))
    return text


def _day(text: ir.StringValue, form: DateForm) -> ir.DateValue:
    if form == "excel":
        days = text.re_extract("^([0-9]+)", 1).try_cast("int64")
        days = (days < 60).ifelse(days + 1, days)
        # A day plus an interval is a time on the engine, though Ibis calls it a day.
        return (ibis.literal(_EXCEL_ZERO) + days.as_interval("D")).cast("timestamp").cast("date")
    return _iso_text(text, form).try_cast("date")


def _date_forms(name: str, profile: Profile, table: TableProfile) -> list[DateForm]:
    source = table.column(name)
    if source is None:
        return ["yyyy-MM-dd"]
    return source.dates or profile.dates


def _iso_text(text: ir.StringValue, form: DateForm) -> ir.StringValue:
    if form == "yyyyMMdd":
        return text.left(4) + "-" + text.substr(4, 2) + "-" + text.substr(6, 2)
    iso = text.left(10)
    separator = {"yyyy/MM/dd": "/", "yyyy.MM.dd": "."}.get(form)
    return iso.replace(separator, "-") if separator else iso


def _fault(verdict: str, rule: str, column: str) -> ir.StringScalar:
    return ibis.literal(_SPLIT.join([verdict, rule, column]))


def split_fault(fault: str) -> tuple[str, str, str]:
    """Verdict (ignored | rejected), rule or reason code, and column of a `fault`."""
    verdict, rule, column = fault.split(_SPLIT)
    return verdict, rule, column


DUPLICATE = _SPLIT.join(["rejected", "duplicate_id"]) + _SPLIT


def _ignored(rows: ir.Table, table: TableProfile) -> Iterator[tuple[str, str, ir.BooleanValue]]:
    for rule in table.filters:
        yield rule.name, rule.column, _is_filtered(rows, rule)
    for ignored in table.ignore_codes:
        yield ignored.name, ignored.column, rows[f"text:{ignored.column}"].isin(ignored.codes)


def _is_filtered(rows: ir.Table, rule: Filter) -> ir.BooleanValue:
    text = rows[f"filter:{rule.name}"]
    if rule.any_of is not None:
        return text.isin(rule.any_of)
    return text.notin(rule.none_of) | text.isnull()


def _unknown_codes(
    rows: ir.Table, schema: pa.DataFrameSchema, table: TableProfile
) -> Iterator[tuple[str, ir.StringValue]]:
    for name, column in schema.columns.items():
        allowed, source = allowed_codes(column), table.column(name)
        if allowed is None or source is None or f"text:{name}" not in rows.columns:
            continue
        strange = rows[f"text:{name}"].notnull() & rows[f"value:{name}"].isnull()
        if source.none:
            strange = strange & rows[f"text:{name}"].notin(source.none)
        yield name, strange.ifelse(rows[f"text:{name}"], ibis.null("string"))


Fault = tuple[ir.BooleanValue, str, ir.StringValue]
"""The rows it holds for, the reason code, and what stands in `fault`."""


def _rejected(mask: ir.BooleanValue, reason: str, column: str) -> Fault:
    return mask, reason, _fault("rejected", reason, column)


def _faults_of_columns(
    rows: ir.Table,
    columns: Mapping[str, pa.Column],
    values: Mapping[str, ir.Value],
    profile: Profile,
    table: TableProfile,
) -> Iterator[Fault]:
    for name, column in columns.items():
        text, value = rows[f"value:{name}"], values[name]
        if not column.nullable:
            yield _rejected(text.isnull(), "missing", name)
        if name in table.lookups:
            continue  # the value found is an accepted id; what was not found is told by the reference
        if _is_date(column):
            lost = text.notnull() & value.isnull()
            has_form = ibis.or_(*(text.re_search(_DATE_FORMS[f]) for f in _date_forms(name, profile, table)))
            # Only a text that could not be read is looked at again.
            yield _rejected(lost.ifelse(~has_form, ibis.literal(False)), "bad_date", name)
            yield _rejected(lost, "impossible_date", name)
        elif isinstance(column.dtype, pandas_engine.Decimal):
            yield _rejected(text.notnull() & value.isnull(), "bad_number", name)
        for check in column.checks:
            if check.name == "isin" and table.column(name) is not None:
                continue  # the code table leads to allowed codes alone, and what it lacks stops the intake
            reason, mask = _broken(check, value)
            if f"{name}:value" in rows.columns:
                # An id that was found is an accepted one, which passed these checks in its own table.
                mask = rows[f"{name}:value"].isnull().ifelse(mask, ibis.literal(False))
            yield _rejected(mask, reason, name)


def _faults_of_rows(schema: pa.DataFrameSchema, values: Mapping[str, ir.Value]) -> Iterator[Fault]:
    for check in schema.checks:
        if check.name != "not_before":
            raise NotImplementedError(f"no mask is derived from the check {check.name}; add it here")
        later, earlier = check.statistics["later"], check.statistics["earlier"]
        yield _rejected(values[later] < values[earlier], check.error, later)


def _broken(check: pa.Check, value: ir.Value) -> tuple[str, ir.BooleanValue]:
    """The reason code and the mask of the rows that break one of pandera's checks; its `error` names another reason."""
    statistics: dict[str, Any] = check.statistics or {}
    match check.name:
        case "str_matches":
            return _reason(check, "bad_form"), ~value.re_search(statistics["pattern"])
        case "isin":
            return "unknown_code", value.notin(statistics["allowed_values"])
        case "str_length":
            shortest, longest = statistics["min_value"], statistics["max_value"]
            return "bad_length", ~value.length().between(shortest, longest)
        case "greater_than_or_equal_to":
            least = statistics["min_value"]
            return "out_of_range", value < (ibis.literal(least.date()) if isinstance(least, pd.Timestamp) else least)
        case "has_checksum":
            return _reason(check, "bad_checksum"), value.re_search(CHECKED_ID).ifelse(
                ~_has_checksum(value), ibis.literal(False)
            )
    raise NotImplementedError(f"no mask is derived from the check {check.name}; add it here")


def _reason(check: pa.Check, otherwise: str) -> str:
    return check.error if check.error in REASONS else otherwise  # pandera fills `error` with a sentence of its own


def _has_checksum(text: ir.StringValue) -> ir.BooleanValue:
    characters = [text.left(i + 1).right(1).ascii_str() for i in range(17)]
    last = text.right(1).upper()
    resident = ibis.literal(RESIDENT_CHECKS).substr(_weighed(characters, RESIDENT_WEIGHTS) % 11, 1)
    firm = ibis.literal(FIRM_CHECKS).substr((31 - _weighed(characters, FIRM_WEIGHTS) % 31) % 31, 1)
    return (last == resident).ifelse(ibis.literal(True), last == firm)


def _weighed(characters: list[ir.IntegerValue], weights: tuple[int, ...]) -> ir.IntegerValue:
    """The weighted sum of digits, given as their character codes."""
    total = characters[0] * weights[0] - ord("0") * sum(weights)
    for character, weight in zip(characters[1:], weights[1:], strict=True):
        total = total + character * weight
    return total


def _faults_of_references(rows: ir.Table, table_name: str, table: TableProfile) -> Iterator[Fault]:
    for name, referred in references(table_name).items():
        excepted = meta_of(TABLES[table_name].columns[name], "excepted")
        text, value = rows[f"value:{name}"], rows[f"{name}:value"]
        lost = text.notnull() & value.isnull() & ((text != excepted) if excepted else ibis.literal(True))
        absent, not_accepted = ORPHANS[referred]
        if name in table.lookups:
            yield _rejected(rows[f"{name}:values"] > 1, "ambiguous_lookup", name)
        # A rejected owner weighs more than an ignored one beside him: his rows would be ours, were he in order.
        yield _rejected(lost & rows[f"{name}:rejected"].fill_null(False), not_accepted, name)
        # What belongs to a customer who is none of ours is none of ours either, and by the same name.
        rule = rows[f"{name}:ignored"]
        yield lost & rule.notnull(), "", ibis.literal(f"ignored{_SPLIT}") + rule + f"{_SPLIT}{name}"
        yield _rejected(lost, absent, name)


# ---- doubled ids, keys, unknown codes -----------------------------------------------------------------------


def first_rows(judged: ir.Table, table_name: str) -> ir.Table:
    """Of each id that more than one row without fault has: the file and row where it came first."""
    key: list[str] = TABLES[table_name].unique
    rows = judged.filter(judged.fault.isnull())
    place = rows.file_no.cast("int64") * 2**40 + rows.row_number
    counted = rows.group_by(key).aggregate(first_place=place.min(), times=rows.count())
    return counted.filter(counted.times > 1).drop("times")


def reject_doubled(judged: ir.Table, firsts: ir.Table, table_name: str) -> ir.Table:
    """Judged rows with each later row of a doubled id rejected as duplicate_id, unless it had a fault already.

    Which of the rows is right cannot be known here; the first is kept so that the table stays whole, and the
    rejected others make it visible.
    """
    key: list[str] = TABLES[table_name].unique
    joined = judged.left_join(firsts, key)
    place = joined.file_no.cast("int64") * 2**40 + joined.row_number
    doubled = joined.fault.isnull() & (place > joined.first_place)
    fault = doubled.ifelse(ibis.literal(f"{DUPLICATE}{key[0]}"), joined.fault)
    return joined.select(*(fault.name("fault") if name == "fault" else joined[name] for name in judged.columns))


def accepted_rows(judged: ir.Table, table_name: str) -> ir.Table:
    """The rows without fault, in the columns of the canonical table."""
    return judged.filter(judged.fault.isnull()).select(*TABLES[table_name].columns)


def rejected_rows(judged: ir.Table, files: list[str], table_name: str) -> ir.Table:
    """The rejected rows: place, column, reason code and, where it has the form of an id, the id."""
    rows = judged.filter(judged.fault.startswith(f"rejected{_SPLIT}"))
    named = rows.file_no.cases(*enumerate(files), else_=ibis.null("string")) if files else ibis.null("string")
    return rows.select(
        row_number=rows.row_number,
        file=named,
        column=rows.fault.split(_SPLIT)[2],
        reason=rows.fault.split(_SPLIT)[1],
        key=_safe_key(rows, table_name),
    )


def keys_of(judged: ir.Table, table_name: str) -> ir.Table:
    """What later tables need of every row: its id, what became of it, and the columns it is looked up by."""
    key = _safe_key(judged, table_name)
    by = [column for column in judged.columns if column.startswith("by:")]
    parts = judged.fault.split(_SPLIT)
    rows = judged.select(
        *by, key=key, verdict=parts[0].fill_null("accepted"), rule=parts[1].fill_null(""),
    )  # fmt: skip
    return rows.select("key", "verdict", "rule", *by)


def _safe_key(rows: ir.Table, table_name: str) -> ir.StringValue:
    """A row's id; null where it does not look like one: in a shifted row it could be anything, also a name."""
    key = rows[TABLES[table_name].unique[0]]
    return (key.re_search(ID) & (key.length() <= 40)).ifelse(key, ibis.null("string"))


def reference(keys: ir.Table, lookup: Lookup | None) -> ir.Table:
    """One row per value that a table may be referred to by: ref, and the REFERENCE_FIELDS.

    value is the accepted id, values how many there are, ignored the rule and rejected whether a row was.
    """
    ref = keys[f"by:{lookup.key}"] if lookup else keys.key
    keys = keys.mutate(ref=ref).filter(ref.notnull())
    accepted = keys.verdict == "accepted"
    return keys.group_by("ref").aggregate(
        value=keys.key.min(where=accepted),
        values=keys.key.nunique(where=accepted),
        ignored=keys.rule.min(where=keys.verdict == "ignored"),
        rejected=(keys.verdict == "rejected").any(),
    )


_LOOKS_LIKE_A_CODE = re.compile("[0-9A-Za-z_-]{1,4}|[A-Za-z_-]{1,12}")


def refuse_unknown_codes(
    table_name: str, column_name: str, counts: Mapping[str, int], profile: Profile, table: TableProfile
) -> None:
    """Raises UnknownCode that names table, column, codes with counts, and what to write in the profile."""
    if not counts:
        return
    source, allowed = table.column(column_name), allowed_codes(TABLES[table_name].columns[column_name])
    if source is None or allowed is None:
        raise TypeError(f"{table_name}.{column_name} is no mapped code column")
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    # A column that is no code column at all holds names or numbers of people: then shapes are shown.
    has_few = len(most) <= 20 and sum(counts.values()) >= 10 * len(most)
    shown = [code if has_few or _LOOKS_LIKE_A_CODE.fullmatch(code) else mask(code) for code, _ in most]
    listed = ", ".join(f"{code[:12]!r} × {times}" for code, (_, times) in zip(shown[:10], most, strict=False))
    more = f" and {len(most) - 10} more" if len(most) > 10 else ""
    here = f"tables.{table_name}.columns.{column_name}.codes"
    place = f"codes.{source.codes}" if isinstance(source.codes, str) else here
    raise UnknownCode(
        f"{table_name}.{column_name} (source column {source.source}): unknown code {listed}{more}. "
        f'In profile {profile.name} write under {place} what each means, such as "{shown[0][:12]}": {allowed[0]} '
        f"(allowed: {', '.join(allowed)}), or ignore its rows by name under tables.{table_name}.ignore_codes"
    )
