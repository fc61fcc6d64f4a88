"""A source profile: how one house's files map to the canonical tables, as its YAML declares it.

Knows every key and what agrees with what; touches no row and reads no file.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from models.canonical import REASONS, REPORTABLE, TABLES, allowed_codes, id_column, is_optional, references

DateForm = Literal["yyyy-MM-dd", "yyyyMMdd", "yyyy/MM/dd", "yyyy.MM.dd", "excel"]
"""excel: the serial number of a day as spreadsheets count them: 1 is 1900-01-01, and 1900 has a 29 February."""
Encoding = Literal["utf-8", "utf-8-sig", "gb18030", "gbk"]
Format = Literal["text", "parquet", "xlsx"]


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


class Completeness(_Strict):
    """What says that a file has come whole, and what it must hold; checked before and after its rows are read."""

    marker: str | None = None
    """A file that must lie beside it, such as "{name}.ok" or "{stem}.ctl": {name} is the file's name, {stem} its part
    before the first dot."""
    trailer: str | None = None
    """A pattern the last line must match; that line is no row."""
    pattern: str | None = None
    """Searched in the marker or the trailer; {name} stands for the file's name. Its named groups are what must be
    true: rows (data rows), bytes, md5, sha256; any other name is a source column whose values must add up to it."""

    @model_validator(mode="after")
    def _says_something(self) -> Completeness:
        if (self.marker is None) == (self.trailer is None):
            raise ValueError("give either marker or trailer")
        if self.marker is not None and ("/" in self.marker or self.marker in ("{name}", "")):
            raise ValueError(f"marker {self.marker!r}: name a file beside the extract, such as {{name}}.ok")
        for pattern in filter(None, (self.trailer, self.pattern)):
            try:
                re.compile(pattern.replace("{name}", "name"))
            except re.error as error:
                raise ValueError(f"{pattern!r} is no pattern: {error}") from None
        return self


class FileForm(_Strict):
    """How files are written; what a table leaves out is as the profile says."""

    format: Format | None = None
    """By the file's ending where nothing is said: .parquet, .xlsx, else text."""
    encoding: Encoding | None = None
    delimiter: str | None = Field(default=None, min_length=1, max_length=1)
    quote: Literal['"', "none"] | None = None
    """none: a quotation mark is a character like any other."""
    header: list[str] | None = Field(default=None, min_length=1)
    """The names of the columns in their order, where the files have no header line."""
    sheet: str | None = None
    """The sheet of a workbook; its first one where nothing is said."""
    complete: Completeness | None = None

    @field_validator("delimiter")
    @classmethod
    def _separates(cls, delimiter: str | None) -> str | None:
        if delimiter is not None and (delimiter in '"\r\n' or ord(delimiter) > 127):
            raise ValueError(f"{delimiter!r} cannot separate columns; use one ASCII character such as , | \\t \\x01")
        return delimiter


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
    decimal: Literal[".", ","] = "."
    unit: Literal["yuan", "fen", "wan_yuan"] = "yuan"
    """What an amount is counted in: 1 yuan = 100 fen, 1 wan_yuan = 10,000 yuan."""


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
    query: str | None = None
    """A SELECT or the name of a table, where the inbox is a database."""
    form: FileForm = FileForm()
    columns: dict[str, str | ColumnSource] = {}
    constants: dict[str, Constant] = {}
    lookups: dict[str, Lookup] = {}
    filters: list[Filter] = []
    ignore_codes: list[IgnoredCodes] = []
    ignore_columns: dict[str, Reason] = {}
    """Source columns that are not used, each with its reason; '*' stands for all others."""
    report: dict[str, Reason] = {}
    """Reasons of REPORTABLE that only report a row, each with why this house's rows are accepted all the same."""

    def column(self, name: str) -> ColumnSource | None:
        found = self.columns.get(name)
        return ColumnSource(source=found) if isinstance(found, str) else found

    def named_rules(self) -> list[Filter | IgnoredCodes]:
        return [*self.filters, *self.ignore_codes]

    def as_found(self, table_name: str, header: Collection[str] | None = None) -> TableProfile:
        """This table with each optional column unknown that it does not map, or whose source a header lacks."""
        ruled = {rule.column for rule in self.ignore_codes}
        absent = [
            name
            for name in TABLES[table_name].columns
            if is_optional(table_name, name) and name not in {*self.constants, *self.lookups, *ruled}
            if (source := self.column(name)) is None or (header is not None and source.source not in header)
        ]
        if not absent:
            return self
        columns = {name: source for name, source in self.columns.items() if name not in absent}
        unknown = {name: Constant(value=None, reason="来源没有这一列") for name in absent}
        return self.model_copy(update={"columns": columns, "constants": self.constants | unknown})

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
    stop_above_rejected_pct: float = Field(default=20, ge=0, le=100)
    """Share of a table's rows that may be rejected; above it the file is not what it should be."""
    warn_above_rejected_pct: float = Field(default=0, ge=0, le=100)
    """Share of a table's rows above which the rejected rows are a warning and not only a count."""
    settle_seconds: float = Field(default=2, ge=0, le=3600)
    """A file that changed less long ago is still growing, unless a marker says that it is whole."""
    encoding: Encoding = "utf-8"
    delimiter: str = Field(default=",", min_length=1, max_length=1)
    quote: Literal['"', "none"] = '"'
    complete: Completeness | None = None
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
        if missing := [name for name in columns if name not in given and not is_optional(table_name, name)]:
            yield f"{where}: say where {', '.join(missing)} come from (columns, constants with a reason, or lookups)"
        for name, column in columns.items():
            allowed = allowed_codes(column)
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
        for reason in table.report:
            if reason not in REPORTABLE:
                yield f"{where}.report: {reason} rejects always; only {', '.join(REPORTABLE)} can be reported instead"
        for rule in table.ignore_codes:
            if rule.column not in table.columns:
                yield f"{where}.ignore_codes.{rule.name}: {rule.column} is not one of this table's columns"

    def code_table(self, source: ColumnSource) -> dict[str, str]:
        """The codes of a column; empty when the source already writes the canonical ones."""
        return self.codes[source.codes] if isinstance(source.codes, str) else source.codes or {}

    def form_of(self, table_name: str) -> FileForm:
        """How a table's files are written, nothing left open but the format that a file's name tells."""
        own = self.tables[table_name].form
        return FileForm(
            format=own.format,
            encoding=own.encoding or self.encoding,
            delimiter=own.delimiter or self.delimiter,
            quote=own.quote or self.quote,
            header=own.header,
            sheet=own.sheet,
            complete=own.complete or self.complete,
        )

    def looked_up_by(self, table_name: str) -> list[str]:
        """Source columns of a table that other tables find its rows by."""
        found = [k.key for t in self.tables.values() for k in t.lookups.values() if k.table == table_name]
        return list(dict.fromkeys(found))

    def ignore_reasons(self) -> dict[str, str]:
        """The reason of each named rule; a table's rows may be ignored by a rule of the table they refer to."""
        return {rule.name: rule.reason for table in self.tables.values() for rule in table.named_rules()}


CANONICAL_FORM = FileForm(encoding="utf-8", delimiter=",", quote='"')
"""How a file in our own names is written."""


def canonical_table(table_name: str) -> TableProfile:
    """A table whose source already uses our column names and codes."""
    return TableProfile(columns={name: name for name in TABLES[table_name].columns})
