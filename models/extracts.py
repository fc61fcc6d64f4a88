"""The canonical tables, the shape of a source profile, and what becomes of each row of an extract.

Knows the columns, codes and forms of every canonical table and turns raw text tables into judged ones, as Ibis
expressions. Finding, decoding and writing files stay out, and so does the engine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import ibis
import ibis.expr.types as ir
import pandas as pd
import pandera.pandas as pa
from pandera.engines import pandas_engine
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from models import CallbackError

# ---- canonical tables ---------------------------------------------------------------------------------------
# The one declaration: pandera validates pandas frames with it, and the masks on the engine are read from it.
# Patterns stay within what Python, RE2 and Java read alike: [0-9] instead of \d, anchored at both ends.

ID = r"^[0-9A-Za-z][0-9A-Za-z_.-]*$"
LINE = r"^[^\x00-\x1f\x7f]+$"
LABEL = r'^[^\x00-\x1f\x7f,"*|]+$'  # stands in keys and hash texts, so nothing that needs quoting


def _id(references: str = "", *, excepted: str = "") -> pa.Column:
    metadata = {"references": references, "excepted": excepted} if references else None
    return pa.Column(str, [pa.Check.str_matches(ID), pa.Check.str_length(1, 40)], metadata=metadata)


def _name(*, nullable: bool = False) -> pa.Column:
    # A name keeps its full-width letters and apostrophes.
    checks = [pa.Check.str_matches(LINE), pa.Check.str_length(1, 120)]
    return pa.Column(str, checks, nullable=nullable, metadata={"is_free_text": True})


def _text(pattern: str, longest: int, *, nullable: bool = False) -> pa.Column:
    return pa.Column(str, [pa.Check.str_matches(pattern), pa.Check.str_length(1, longest)], nullable=nullable)


def _code(*codes: str) -> pa.Column:
    return pa.Column(str, pa.Check.isin(list(codes)))


def _date(*, nullable: bool = False) -> pa.Column:
    # In seconds, as Ibis hands dates to pandas; in nanoseconds the year 9999 does not exist.
    seconds = pandas_engine.DateTime(unit="s")  # type: ignore[call-arg]
    return pa.Column(seconds, pa.Check.ge(pd.Timestamp("1900-01-01")), nullable=nullable)


CUSTOMERS = pa.DataFrameSchema(
    {
        "customer_id": _id(),
        "customer_name": _name(),
        "phone": _text(r"^[0-9+(][0-9 ()+/-]*$", 40, nullable=True),
        "id_no": _text(r"^[0-9A-Za-z()/-]+$", 40, nullable=True),
        "branch_no": _id("branches"),
        "segment": _text(LABEL, 40),
        "risk_level": _text(LABEL, 20, nullable=True),
        "status": _code("active", "dormant", "suspended", "closed"),
        "open_on": _date(),
        "close_on": _date(nullable=True),
    },
    strict=True, unique=["customer_id"],
)  # fmt: skip
TRANSACTIONS = pa.DataFrameSchema(
    {
        "transaction_id": _id(),
        "customer_id": _id("customers"),
        "traded_on": _date(),
        "kind": _code("buy", "sell", "deposit", "withdraw", "fee", "interest", "other"),
        "amount_cny": pa.Column(pandas_engine.Decimal(18, 2)),
    },
    strict=True, unique=["transaction_id"],
)  # fmt: skip
BRANCHES = pa.DataFrameSchema(
    {"branch_no": _id(), "branch_name": _name(), "region": _name(nullable=True)},
    strict=True, unique=["branch_no"],
)  # fmt: skip
ROSTER = pa.DataFrameSchema(
    {
        "branch_no": _id("branches", excepted="HQ"),  # headquarters is on no list of branches
        "role": _code(
            "operations_director", "customer_service_manager", "deputy", "branch_head", "compliance",
            "operations_management", "hq_service",
        ),
        "contact_name": _name(),
        "email": _text(r"^[0-9A-Za-z][0-9A-Za-z._%+-]*@[0-9A-Za-z-]+([.][0-9A-Za-z-]+)+$", 120),
        "valid_from": _date(),
        "valid_to": _date(nullable=True),
    },
    strict=True, unique=["branch_no", "role", "email", "valid_from"],
)  # fmt: skip
STAFF = pa.DataFrameSchema(
    {
        "staff_id": _id(),
        "staff_name": _name(),
        "branch_no": _id("branches", excepted="HQ"),
        "kind": _code("broker", "marketer", "adviser", "caller", "other"),
        "valid_from": _date(nullable=True),
        "valid_to": _date(nullable=True),
    },
    strict=True, unique=["staff_id"],
)  # fmt: skip
RELATIONS = pa.DataFrameSchema(
    {
        "customer_id": _id("customers"),
        "staff_id": _id("staff"),
        "kind": _code("developer", "server"),
        "valid_from": _date(),
        "valid_to": _date(nullable=True),
    },
    strict=True, unique=["customer_id", "staff_id", "kind", "valid_from"],
)  # fmt: skip

TABLES: dict[str, pa.DataFrameSchema] = {
    "branches": BRANCHES,
    "roster": ROSTER,
    "staff": STAFF,
    "customers": CUSTOMERS,
    "relations": RELATIONS,
    "transactions": TRANSACTIONS,
}
"""In the order of intake: a table comes after those whose ids it names."""

REASONS = {
    "bad_byte": "该行含无法解码的字节",
    "missing": "必填项为空",
    "bad_form": "不符合规定格式",
    "bad_length": "长度超出规定",
    "bad_date": "不是约定的日期格式",
    "impossible_date": "日历上不存在的日期",
    "bad_number": "不是两位小数以内的数值",
    "out_of_range": "超出合理范围",
    "duplicate_id": "主键与前面的行重复",
    "unknown_branch": "营业部不在营业部表中",
    "unknown_staff": "人员不在人员表中",
    "orphan": "客户不在客户文件中",
    "branch_not_accepted": "营业部在文件中但未被接收",
    "staff_not_accepted": "人员在文件中但未被接收",
    "customer_not_accepted": "客户在文件中但未被接收",
    "ambiguous_lookup": "对应到多个客户",
}
"""What each reason code says to the people who read the list of rejected rows."""

_ORPHANS = {
    "branches": ("unknown_branch", "branch_not_accepted"),
    "staff": ("unknown_staff", "staff_not_accepted"),
    "customers": ("orphan", "customer_not_accepted"),
}


def references(table_name: str) -> dict[str, str]:
    """Which column of a canonical table must be an accepted id of which other table."""
    columns = TABLES[table_name].columns
    return {name: column.metadata["references"] for name, column in columns.items() if _meta(column, "references")}


def is_referred_to(table_name: str) -> bool:
    """Whether another table names rows of this one."""
    return any(table_name in references(other).values() for other in TABLES)


def id_column(table_name: str) -> str | None:
    """The column that other tables name a row by; None where only several columns together are unique."""
    unique: list[str] = TABLES[table_name].unique
    return unique[0] if len(unique) == 1 else None


def _meta(column: pa.Column, name: str) -> Any:
    return (column.metadata or {}).get(name)


def _allowed_codes(column: pa.Column) -> list[str] | None:
    return next((list(c.statistics["allowed_values"]) for c in column.checks if c.name == "isin"), None)


# ---- the profile of a source system -------------------------------------------------------------------------

DateForm = Literal["yyyy-MM-dd", "yyyyMMdd", "yyyy/MM/dd"]


def _quoted(value: object) -> object:
    if value is None or isinstance(value, str):
        return value
    raise ValueError(f"put it in quotes; YAML does not read {value!r} as text, and makes 01 a 1")


Text = Annotated[str, BeforeValidator(_quoted)]
Codes = dict[Text, str]
Reason = Annotated[str, Field(min_length=1)]
RuleName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class ColumnSource(_Strict):
    """Where a canonical column comes from and how its text is to be read."""

    source: str = Field(alias="from")
    codes: str | Codes | None = None
    """A code table, or the name of one of the profile's."""
    width: int | None = Field(default=None, ge=1, le=40)
    """Digits an id had before a numeric tool ate its leading zeros."""
    none: list[Text] = []
    """Texts that mean: no value."""
    dates: list[DateForm] | None = None
    thousands: str = ""
    """The separator within a number that is to be dropped."""


class Constant(_Strict):
    """A value the source does not carry; value null says that it is unknown for every row."""

    value: Annotated[str | None, BeforeValidator(_quoted)]
    reason: Reason


class Filter(_Strict):
    """Rows that are none of ours: ignored, by name."""

    name: RuleName
    column: str
    """A column of the source."""
    any_of: list[Text] | None = Field(default=None, alias="in")
    none_of: list[Text] | None = Field(default=None, alias="not_in")
    reason: Reason

    @model_validator(mode="after")
    def _one_list(self) -> Filter:
        if (self.any_of is None) == (self.none_of is None):
            raise ValueError(f"filter {self.name}: give either in or not_in")
        return self


class IgnoredCodes(_Strict):
    """Codes of a column whose rows are ignored, by name."""

    name: RuleName
    column: str
    """The canonical column; the codes are those of the source."""
    codes: list[Text] = Field(min_length=1)
    reason: Reason


class Lookup(_Strict):
    """An id that the source does not carry, found through a column of another table's source."""

    table: str
    source: str = Field(alias="from")
    key: str
    """The column of the other table's source that holds the same values as `from`."""
    value: str


class TableProfile(_Strict):
    """One canonical table: its files, and each of its columns from a source column, a constant or a lookup."""

    files: list[str] = []
    columns: dict[str, str | ColumnSource] = {}
    constants: dict[str, Constant] = {}
    lookups: dict[str, Lookup] = {}
    filters: list[Filter] = []
    ignore_codes: list[IgnoredCodes] = []
    ignore_columns: dict[str, Reason] = {}
    """Source columns that are not used, each with its reason; '*' stands for all others."""

    def column(self, name: str) -> ColumnSource | None:
        found = self.columns.get(name)
        return ColumnSource(source=found) if isinstance(found, str) else found

    def named_rules(self) -> list[Filter | IgnoredCodes]:
        return [*self.filters, *self.ignore_codes]

    def used_columns(self) -> list[str]:
        """The source columns this table reads, each once."""
        used = [c if isinstance(c, str) else c.source for c in self.columns.values()]
        used += [lookup.source for lookup in self.lookups.values()] + [rule.column for rule in self.filters]
        return list(dict.fromkeys(used))


class Sentinels(_Strict):
    """Texts that source systems write where they mean something else."""

    none: list[Text] = []
    """In date columns: no date."""


class Profile(_Strict):
    """How one source system's files become the canonical tables: names, codes, encoding, forms. No code."""

    name: RuleName
    description: str
    encoding: Literal["utf-8", "utf-8-sig", "gb18030"] = "utf-8"
    delimiter: str = Field(default=",", min_length=1, max_length=1)
    dates: list[DateForm] = ["yyyy-MM-dd"]
    sentinels: Sentinels = Sentinels()
    codes: dict[str, Codes] = {}
    """Code tables: source code → canonical code."""
    tables: dict[str, TableProfile]

    @model_validator(mode="after")
    def _fits_the_tables(self) -> Profile:
        faults = [fault for name, table in self.tables.items() for fault in self._faults(name, table)]
        names = Counter(rule.name for table in self.tables.values() for rule in table.named_rules())
        faults += [f"more than one rule is named {name}" for name, times in names.items() if times > 1]
        faults += [f"no rule can be named {name}; that is a reason for rejecting" for name in names if name in REASONS]
        if faults:
            raise ValueError("; ".join(faults))
        return self

    def _faults(self, table_name: str, table: TableProfile) -> Iterator[str]:
        where = f"tables.{table_name}"
        if table_name not in TABLES:
            yield f"{where}: no such table; there are {', '.join(TABLES)}"
            return
        columns = TABLES[table_name].columns
        given = Counter([*table.columns, *table.constants, *table.lookups])
        for name in given:
            if name not in columns:
                yield f"{where}: no column {name}; there are {', '.join(columns)}"
            elif given[name] > 1:
                yield f"{where}: {name} is given more than once in columns, constants, lookups"
        if missing := [name for name in columns if name not in given]:
            yield f"{where}: say where {', '.join(missing)} come from (columns, constants with a reason, or lookups)"
        for name, column in columns.items():
            allowed = _allowed_codes(column)
            source = table.column(name)
            if source and isinstance(source.codes, str) and source.codes not in self.codes:
                yield f"{where}.columns.{name}: there is no code table codes.{source.codes}"
            elif source and allowed:
                wrong = sorted(set(self.code_table(source).values()) - set(allowed))
                if wrong:
                    yield f"{where}.columns.{name}: codes lead to {', '.join(wrong)}; allowed are {', '.join(allowed)}"
            constant = table.constants.get(name)
            if constant and constant.value is None and not column.nullable:
                yield f"{where}.constants.{name}: null is not allowed here"
            if constant and constant.value is not None and allowed and constant.value not in allowed:
                yield f"{where}.constants.{name}: {constant.value} is not one of {', '.join(allowed)}"
        for name, lookup in table.lookups.items():
            if references(table_name).get(name) != lookup.table or lookup.table not in self.tables:
                yield f"{where}.lookups.{name}: cannot be looked up in {lookup.table}"
            elif lookup.value != id_column(lookup.table):
                yield f"{where}.lookups.{name}: value must be {id_column(lookup.table)}"
        for rule in table.ignore_codes:
            if rule.column not in table.columns:
                yield f"{where}.ignore_codes.{rule.name}: {rule.column} is not one of this table's columns"

    def code_table(self, source: ColumnSource) -> dict[str, str]:
        """The codes of a column; empty when the source already writes the canonical ones."""
        return self.codes[source.codes] if isinstance(source.codes, str) else source.codes or {}

    def looked_up_by(self, table_name: str) -> list[str]:
        """Source columns of a table that other tables find its rows by."""
        found = [k.key for t in self.tables.values() for k in t.lookups.values() if k.table == table_name]
        return list(dict.fromkeys(found))

    def ignore_reasons(self) -> dict[str, str]:
        """The reason of each named rule; a table's rows may be ignored by a rule of the table they refer to."""
        return {rule.name: rule.reason for table in self.tables.values() for rule in table.named_rules()}


def canonical_table(table_name: str) -> TableProfile:
    """A table whose source already uses our column names and codes."""
    return TableProfile(columns={name: name for name in TABLES[table_name].columns})


@dataclass(frozen=True)
class SourceFile:
    """One file of a delivery, readable as UTF-8 text."""

    table_name: str
    name: str
    """As found in the inbox."""
    sha256: str
    """Of the bytes as they came."""
    size_bytes: int
    text_path: str
    """Decoded and decompressed; the raw copy itself where neither was needed."""
    has_bad_bytes: bool = False
    """Some bytes did not decode; they stand as U+FFFD, and the rows that hold one are rejected."""
    is_canonical: bool = False
    """Written in our own names and codes, whatever the profile says."""


# ---- headers ------------------------------------------------------------------------------------------------


class HeaderError(CallbackError):
    """The header of a file is not the one its profile describes."""


def check_header(header: list[str], file: SourceFile, profile: Profile) -> None:
    """Refuses a header with a missing, doubled, empty or unexplained column.

    Raises HeaderError naming the file, the columns and what was found.
    """
    table_name, table = file.table_name, table_profile(profile, file)
    where, found = f"{file.name} ({table_name}, profile {profile.name})", ", ".join(header)
    needed = table.used_columns() + ([] if file.is_canonical else profile.looked_up_by(table_name))
    if doubled := [name for name, times in Counter(header).items() if times > 1]:
        raise HeaderError(f"{where}: the header names {', '.join(doubled)} more than once; found {found}")
    if missing := [name for name in dict.fromkeys(needed) if name not in header]:
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
    "yyyyMMdd": "^[0-9]{8}$",
}
_NUMBER = "^[+-]?[0-9]{1,16}([.][0-9]{0,2}0*)?$"
_SPLIT = "\t"


class UnknownCode(CallbackError):
    """The source holds codes that its profile does not know; they are never taken for a default."""


def judge_rows(
    raw: ir.Table,
    header: list[str],
    file_no: int,
    file: SourceFile,
    profile: Profile,
    known: Mapping[str, ir.Table],
) -> ir.Table:
    """One row per row of the file: its canonical values, parsed, with a verdict in `fault`.

    `raw` holds `row_number` (the header is row 1) and text columns c0, c1, … in the order of the header; `known`
    the keys of the tables taken in before (see `keys_of`). `fault` is null for a row without fault, otherwise
    verdict, rule and column, to be read by `split_fault`; `unknown:<column>` holds a code the profile does not
    know; `by:<column>` the source columns that other tables look rows up by. Doubled ids are not seen here:
    see `first_rows`.
    """
    table_name = file.table_name
    schema, table = TABLES[table_name], table_profile(profile, file)
    # Every text is cleaned once, in a layer of its own, so that the engine computes it once.
    free = {name for name, column in schema.columns.items() if _meta(column, "is_free_text")}
    cleaned: dict[str, ir.Value] = {}
    for name in schema.columns:
        if source := table.column(name):
            cleaned[f"text:{name}"] = clean_text(_raw_column(raw, header, source.source), name in free)
    for name, lookup in table.lookups.items():
        cleaned[f"text:{name}"] = clean_text(_raw_column(raw, header, lookup.source))
    for rule in table.filters:
        cleaned[f"filter:{rule.name}"] = clean_text(_raw_column(raw, header, rule.column))
    looked_up_by = [] if file.is_canonical else profile.looked_up_by(table_name)
    for column in looked_up_by:
        cleaned[f"by:{column}"] = clean_text(_raw_column(raw, header, column))
    garbled: ir.BooleanValue = ibis.literal(False)
    if file.has_bad_bytes:
        for i in range(len(header)):
            garbled = garbled | raw[f"c{i}"].contains("\ufffd").fill_null(False)
    rows = raw.select(row_number=raw.row_number, file_no=ibis.literal(file_no, "int32"), garbled=garbled, **cleaned)
    canonical = {name: _canonical_text(rows, name, column, profile, table) for name, column in schema.columns.items()}
    rows = rows.mutate(**{f"value:{name}": text for name, text in canonical.items()})

    for name, referred in references(table_name).items():
        found = _reference(known[referred], table.lookups.get(name))
        found = found.rename(lambda field, name=name: f"{name}:{field}")
        rows = rows.left_join(found, rows[f"value:{name}"] == found[f"{name}:ref"]).drop(f"{name}:ref")

    values = {name: _value(rows, name, column, profile, table) for name, column in schema.columns.items()}
    unknown = {f"unknown:{name}": text for name, text in _unknown_codes(rows, schema, table)}
    fault = ibis.cases(
        *((mask, _fault("ignored", rule, column)) for rule, column, mask in _ignored(rows, table)),
        (rows.garbled, _fault("rejected", "bad_byte", "")),
        *_faults_of_columns(rows, schema, values, profile, table),
        *_faults_of_references(rows, table_name, table),
        else_=ibis.null("string"),
    )
    judged = rows.select("row_number", "file_no", *(f"by:{c}" for c in looked_up_by), **values, **unknown, fault=fault)
    # An ignored row is not read further, so its codes need not be known either.
    ignored = judged.fault.startswith(f"ignored{_SPLIT}").fill_null(False)
    return judged.mutate(**{name: ignored.ifelse(ibis.null("string"), judged[name]) for name in unknown})


def table_profile(profile: Profile, file: SourceFile) -> TableProfile:
    """How a file's table is read: by the profile, or by our own names where the file is canonical."""
    return canonical_table(file.table_name) if file.is_canonical else profile.tables[file.table_name]


def clean_text(text: ir.StringValue, is_free_text: bool = False) -> ir.StringValue:
    """Without blanks (also U+3000) at either end; ids, numbers and codes in half-width, without Excel's apostrophe.

    Nothing left is null. The costly path is taken only by values that a cheap pattern finds dirty.
    """
    edge = _BLANKS if is_free_text else f"{_BLANKS}'"
    tidy = text if is_free_text else text.translate(_FULL, _HALF)
    tidy = tidy.re_replace(f"^[{edge}]+|[{_BLANKS}]+$", "")
    return text.re_search(_DIRTY).ifelse(tidy, text).nullif("")


def _raw_column(raw: ir.Table, header: list[str], name: str) -> ir.StringValue:
    return raw[f"c{header.index(name)}"]


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
    if source.thousands:
        text = text.replace(source.thousands, "")
    if codes := profile.code_table(source):
        text = text.cases(*codes.items(), else_=ibis.null("string"))
    return text


def _is_date(column: pa.Column) -> bool:
    return isinstance(column.dtype, pandas_engine.DateTime)


def _nones(column: pa.Column, source: ColumnSource, profile: Profile) -> list[str]:
    return [*source.none, *(profile.sentinels.none if _is_date(column) else [])]


def _value(rows: ir.Table, name: str, column: pa.Column, profile: Profile, table: TableProfile) -> ir.Value:
    """A canonical column in its type; null where the text cannot be read."""
    text = rows[f"{name}:value"] if name in table.lookups else rows[f"value:{name}"]
    if _is_date(column):
        return ibis.cases(
            *(
                (text.re_search(_DATE_FORMS[form]), _iso_text(text, form).try_cast("date"))
                for form in _date_forms(name, profile, table)
            ),
            else_=ibis.null("date"),
        )
    if isinstance(column.dtype, pandas_engine.Decimal):
        kind = f"decimal({column.dtype.precision}, {column.dtype.scale})"
        return text.re_search(_NUMBER).ifelse(text.try_cast(kind), ibis.null(kind))
    return text


def _date_forms(name: str, profile: Profile, table: TableProfile) -> list[DateForm]:
    source = table.column(name)
    if source is None:
        return ["yyyy-MM-dd"]
    return source.dates or profile.dates


def _iso_text(text: ir.StringValue, form: DateForm) -> ir.StringValue:
    if form == "yyyyMMdd":
        return text.substr(0, 4) + "-" + text.substr(4, 2) + "-" + text.substr(6, 2)
    return text.substr(0, 10).replace("/", "-") if form == "yyyy/MM/dd" else text.substr(0, 10)


def _fault(verdict: str, rule: str, column: str) -> ir.StringScalar:
    return ibis.literal(_SPLIT.join([verdict, rule, column]))


def split_fault(fault: str) -> tuple[str, str, str]:
    """Verdict (ignored | rejected), rule or reason code, and column of a `fault`."""
    verdict, rule, column = fault.split(_SPLIT)
    return verdict, rule, column


DUPLICATE = _SPLIT.join(["rejected", "duplicate_id"]) + _SPLIT


def _ignored(rows: ir.Table, table: TableProfile) -> Iterator[tuple[str, str, ir.BooleanValue]]:
    for rule in table.filters:
        text = rows[f"filter:{rule.name}"]
        if rule.any_of is not None:
            yield rule.name, rule.column, text.isin(rule.any_of)
        else:
            yield rule.name, rule.column, text.notin(rule.none_of) | text.isnull()
    for ignored in table.ignore_codes:
        yield ignored.name, ignored.column, rows[f"text:{ignored.column}"].isin(ignored.codes)


def _unknown_codes(
    rows: ir.Table, schema: pa.DataFrameSchema, table: TableProfile
) -> Iterator[tuple[str, ir.StringValue]]:
    for name, column in schema.columns.items():
        allowed, source = _allowed_codes(column), table.column(name)
        if allowed is None or source is None:
            continue
        text, value = rows[f"text:{name}"], rows[f"value:{name}"]
        strange = text.notnull() & (value.isnull() | value.notin(allowed))
        if source.none:
            strange = strange & text.notin(source.none)
        yield name, strange.ifelse(text, ibis.null("string"))


def _faults_of_columns(
    rows: ir.Table, schema: pa.DataFrameSchema, values: Mapping[str, ir.Value], profile: Profile, table: TableProfile
) -> Iterator[tuple[ir.BooleanValue, ir.StringScalar]]:
    for name, column in schema.columns.items():
        text, value = rows[f"value:{name}"], values[name]
        if not column.nullable:
            yield text.isnull(), _fault("rejected", "missing", name)
        if name in table.lookups:
            continue  # the value found is an accepted id; what was not found is told by the reference
        if _is_date(column):
            has_form = ibis.or_(*(text.re_search(_DATE_FORMS[f]) for f in _date_forms(name, profile, table)))
            yield text.notnull() & ~has_form, _fault("rejected", "bad_date", name)
            yield text.notnull() & value.isnull(), _fault("rejected", "impossible_date", name)
        elif isinstance(column.dtype, pandas_engine.Decimal):
            yield text.notnull() & value.isnull(), _fault("rejected", "bad_number", name)
        for check in column.checks:
            reason, mask = _broken(check, value)
            yield mask, _fault("rejected", reason, name)


def _broken(check: pa.Check, value: ir.Value) -> tuple[str, ir.BooleanValue]:
    """The reason code and the mask of the rows that break one of pandera's built-in checks."""
    statistics: dict[str, Any] = check.statistics or {}
    match check.name:
        case "str_matches":
            return "bad_form", ~value.re_search(statistics["pattern"])
        case "isin":
            return "unknown_code", value.notin(statistics["allowed_values"])
        case "str_length":
            shortest, longest = statistics["min_value"], statistics["max_value"]
            return "bad_length", ~value.length().between(shortest, longest)
        case "greater_than_or_equal_to":
            least = statistics["min_value"]
            return "out_of_range", value < (ibis.literal(least.date()) if isinstance(least, pd.Timestamp) else least)
    raise NotImplementedError(f"no mask is derived from the check {check.name}; add it here")


def _faults_of_references(
    rows: ir.Table, table_name: str, table: TableProfile
) -> Iterator[tuple[ir.BooleanValue, ir.StringValue]]:
    for name, referred in references(table_name).items():
        excepted = _meta(TABLES[table_name].columns[name], "excepted")
        text, value = rows[f"value:{name}"], rows[f"{name}:value"]
        lost = text.notnull() & value.isnull() & ((text != excepted) if excepted else ibis.literal(True))
        absent, not_accepted = _ORPHANS[referred]
        if name in table.lookups:
            yield rows[f"{name}:values"] > 1, _fault("rejected", "ambiguous_lookup", name)
        # What belongs to a customer who is none of ours is none of ours either, and by the same name.
        rule = rows[f"{name}:ignored"]
        yield lost & rule.notnull(), ibis.literal(f"ignored{_SPLIT}") + rule + f"{_SPLIT}{name}"
        yield lost & rows[f"{name}:rejected"].fill_null(False), _fault("rejected", not_accepted, name)
        yield lost, _fault("rejected", absent, name)


# ---- doubled ids, keys, unknown codes -----------------------------------------------------------------------


def first_rows(judged: ir.Table, table_name: str) -> ir.Table:
    """Of each id that occurs more than once among the rows not ignored: the file and row where it came first."""
    key: list[str] = TABLES[table_name].unique
    rows = judged.filter(
        *(judged[name].notnull() for name in key), ~judged.fault.startswith(f"ignored{_SPLIT}").fill_null(False)
    )
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


def _reference(keys: ir.Table, lookup: Lookup | None) -> ir.Table:
    """One row per value that a table may be referred to by: the accepted id, or why there is none."""
    ref = keys[f"by:{lookup.key}"] if lookup else keys.key
    keys = keys.mutate(ref=ref).filter(ref.notnull())
    accepted = keys.verdict == "accepted"
    return keys.group_by("ref").aggregate(
        value=keys.key.min(where=accepted),
        values=keys.key.nunique(where=accepted),
        ignored=keys.rule.min(where=keys.verdict == "ignored"),
        rejected=(keys.verdict == "rejected").any(),
    )


def refuse_unknown_codes(
    table_name: str, column_name: str, counts: Mapping[str, int], profile: Profile, table: TableProfile
) -> None:
    """Raises UnknownCode that names table, column, codes with counts, and what to write in the profile."""
    if not counts:
        return
    source, allowed = table.column(column_name), _allowed_codes(TABLES[table_name].columns[column_name])
    if source is None or allowed is None:
        raise TypeError(f"{table_name}.{column_name} is no mapped code column")
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    # A column that is no code column at all may hold names: a few short examples are enough.
    listed = ", ".join(f"{code[:12]!r} × {times}" for code, times in most[:10])
    more = f" and {len(most) - 10} more" if len(most) > 10 else ""
    here = f"tables.{table_name}.columns.{column_name}.codes"
    place = f"codes.{source.codes}" if isinstance(source.codes, str) else here
    raise UnknownCode(
        f"{table_name}.{column_name} (source column {source.source}): unknown code {listed}{more}. "
        f'In profile {profile.name} write under {place} what each means, such as "{most[0][0][:12]}": {allowed[0]} '
        f"(allowed: {', '.join(allowed)}), or ignore its rows by name under tables.{table_name}.ignore_codes"
    )
