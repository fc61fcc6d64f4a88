"""Which canonical table a source file is, and which of its columns is which of ours: by known names and by content.

Nothing is mapped on a guess: two columns that fit equally well by content alone are left to a person.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pandera.engines import pandas_engine

from models.canonical import TABLES, allowed_codes, id_column, references
from models.known import NAMES, hinted_table
from models.profile import FileForm, Lookup
from models.textform import plain_name
from models.traits import Column

FITS_ALONE = 0.6
"""Content that is believed without a name, where the file has no names."""
FITS_AGAINST_NAME = 0.9
"""Content that is believed although the column has a name that is not known."""
TOO_CLOSE = 0.05
TABLE_AT_LEAST = 0.62
MANY = 20
"""Different ids that two columns must share at least before they are believed to be the same."""


_ID_NAMES = [NAMES[table][key] for table in TABLES if (key := id_column(table)) is not None]


@dataclass
class Look:
    """What was found out of one source file, or of several of one table with the same columns."""

    files: list[str]
    form: FileForm
    has_header: bool
    columns: list[Column]
    rows: int = 0
    is_whole: bool = True
    """Every row was read."""
    trailer: str = ""
    doubts: list[str] = field(default_factory=list)
    is_ascii: bool = False
    """Nothing but ASCII, as far as the sample goes: any of our encodings reads it."""
    marker: str = ""
    """The name of a file beside it that seems to say that it is whole, with {name} or {stem}."""
    marker_text: str = ""

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]


@dataclass(frozen=True)
class Match:
    """A source column for a canonical one."""

    column: Column
    by: str
    """name | content | both"""
    score: float
    doubt: str = ""


@dataclass
class Matched:
    """A source table with what its columns are."""

    table: str
    look: Look
    matches: dict[str, Match]
    lookups: dict[str, Lookup] = field(default_factory=dict)
    rivals: dict[str, list[str]] = field(default_factory=dict)
    """Canonical columns that several source columns fit equally well by content."""


def find_table(look: Look) -> tuple[str | None, list[str]]:
    """The table of a file, or None; and the tables that it might be."""
    hints = {hinted_table(name) for name in look.files}
    names = {plain_name(name) for name in look.names} if look.has_header else set()
    scores = {}
    for table in TABLES:
        found = match_columns(table, look, {}, is_strict=False).matches
        key = id_column(table)
        if key is not None and (key not in found or (found[key].column.counted and not _own_id(found[key].column))):
            continue
        if table == "customers" and not {"customer_name", "id_no", "phone"} & set(found):
            continue
        if table == "relations" and not {"customer_id", "staff_id"} <= set(found):
            continue
        if table == "roster" and "email" not in found:
            continue
        needed = [name for name, column in TABLES[table].columns.items() if not column.nullable]
        score = sum(found[name].score if name in found else 0.0 for name in needed) / len(needed)
        # Another table's id that this one has no place for.
        own = {known for columns in NAMES[table].values() for known in columns}
        strange = sum(bool(names & set(known) - own) for known in _ID_NAMES)
        scores[table] = score + (0.2 if hints == {table} else 0.0) + 0.01 * len(found) - 0.15 * strange
    likely = sorted((table for table in scores if scores[table] >= TABLE_AT_LEAST), key=lambda table: -scores[table])
    if not likely or (len(likely) > 1 and scores[likely[0]] - scores[likely[1]] < TOO_CLOSE):
        return None, likely
    return likely[0], likely


def match_columns(
    table: str, look: Look, others: Mapping[str, Matched], *, is_strict: bool = True, referring: Sequence[Look] = ()
) -> Matched:
    """The best source column for each canonical column that has one.

    `others` are the tables matched before, whose ids help to find references; `referring` the files whose rows may
    name this table's. Not strict, weak content counts too: enough to tell tables apart, not to map.
    """
    names = NAMES[table]
    found: list[tuple[float, str, Match]] = []
    for column in look.columns:
        plain = plain_name(column.name) if look.has_header else ""
        for name in TABLES[table].columns:
            content = fit(table, name, column, others, referring)
            if plain in names[name]:
                surety = 0.75 - 0.005 * names[name].index(plain)
                if column.counted and not content:
                    doubt = f"the name {column.name} says {name}, its content does not"
                    found.append((surety - 0.3, name, Match(column, "name", surety - 0.3, doubt)))
                else:
                    by = "both" if content >= FITS_ALONE else "name"
                    found.append((surety + 0.25 * content, name, Match(column, by, surety + 0.25 * content)))
            elif content:
                score = content if not look.has_header else 0.3 * content
                if is_strict:
                    if content < (FITS_AGAINST_NAME if look.has_header else FITS_ALONE):
                        continue
                    if allowed_codes(TABLES[table].columns[name]) is not None:
                        continue
                found.append((score, name, Match(column, "content", score)))
    found.sort(key=lambda item: -item[0])
    result = Matched(table, look, {})
    taken: set[str] = set()
    for score, name, match in found:
        if name in result.matches or name in result.rivals or match.column.name in taken:
            continue
        if is_strict and match.by == "content":
            rivals = [
                other.column.name
                for other_score, other_name, other in found
                if other_name == name and other.column.name not in taken and score - other_score < TOO_CLOSE
            ]
            if len(rivals) > 1:
                result.rivals[name] = rivals
                continue
        result.matches[name] = match
        taken.add(match.column.name)
    if is_strict:
        result.lookups = _find_lookups(result, others, taken)
    return result


def fit(table: str, name: str, column: Column, others: Mapping[str, Matched], referring: Sequence[Look] = ()) -> float:
    """How well a column's content fits a canonical column: 0 not at all, 1 beyond doubt."""
    if not column.counted:
        return 0.0
    declared = TABLES[table].columns[name]
    if isinstance(declared.dtype, pandas_engine.DateTime):
        return _fit_date(column, is_end=bool(declared.nullable) and name != "valid_from")
    if isinstance(declared.dtype, pandas_engine.Decimal):
        return 0.8 if column.numbers > 0.95 and column.decimals > 0.5 else 0.3 if column.numbers > 0.95 else 0.0
    if allowed_codes(declared) is not None or name in ("segment", "risk_level"):
        return 0.4 if column.is_codes else 0.0
    if name == id_column(table):
        if not _own_id(column):
            return 0.0
        named = sum(_is_among(column, other) for other in referring)
        return min(0.95, 0.65 + 0.15 * named + (0.06 if column.unique_share == 1 else 0.0))
    if (referred := references(table).get(name)) is not None:
        return _fit_reference(column, referred, others)
    match name:
        case "phone":
            return 1.0 if column.mobiles > 0.8 else 0.5 if column.phones > 0.9 and column.digits < 0.5 else 0.0
        case "id_no":
            return 1.0 if column.checked_ids > 0.8 else 0.2 if column.ids > 0.9 and column.unique_share > 0.8 else 0.0
        case "email":
            return 1.0 if column.emails > 0.9 else 0.0
        case "branch_name":
            offices = column.share(lambda text: "营业部" in text or "分公司" in text)
            return 1.0 if offices > 0.8 and column.unique_share > 0.9 else _fit_words(column)
        case "region":
            return 0.4 if column.unique_share < 0.9 and _fit_words(column) else 0.2 if _fit_words(column) else 0.0
        case _:
            return (
                0.9 if column.person_names > 0.5 and column.hanzi > 0.9 and column.longest < 60 else _fit_words(column)
            )


def _fit_words(column: Column) -> float:
    return 0.4 if max(column.hanzi, column.wordy) > 0.8 and column.emails < 0.1 else 0.0


def _fit_date(column: Column, *, is_end: bool) -> float:
    all_are_none = column.distinct > 0 and len(column.no_days) == column.distinct
    if not column.date_forms and not all_are_none:
        return 0.0
    has_ends = column.no_day_share > 0.02
    if all_are_none:
        return 0.5 if is_end else 0.0
    if column.distinct == 1:
        return 0.1
    return 0.8 if has_ends == is_end else 0.3


def _own_id(column: Column) -> bool:
    return (
        column.ids > 0.98
        and column.unique_share > 0.8
        and not column.date_forms
        and max(column.mobiles, column.checked_ids, column.emails, column.decimals) < 0.5
    )


def _fit_reference(column: Column, referred: str, others: Mapping[str, Matched]) -> float:
    if column.ids < 0.9 or column.date_forms or max(column.mobiles, column.checked_ids, column.decimals) > 0.5:
        return 0.0
    other = others.get(referred)
    key = id_column(referred)
    if other is not None and key in other.matches:
        own = other.matches[key].column
        if _shared(column, own) > 0.9 and column.distinct >= min(MANY, max(2, own.distinct // 2)):
            return 1.0
    return 0.3 if column.distinct > 1 and column.unique_share < 0.98 else 0.1


def _shared(column: Column, own: Column) -> float:
    """Share of a column's rows whose text is an id of another one, lost leading zeros apart."""
    if all(text in own.counts for text in list(column.counts)[:5]):
        return column.share(lambda text: text in own.counts)
    return column.share(lambda text: text.lstrip("0") in own.bare_ids)


def _is_among(column: Column, look: Look) -> bool:
    return any(
        other.distinct > MANY and other.unique_share < 0.999 and not other.date_forms and _shared(other, column) > 0.8
        for other in look.columns
        if other is not column
    )


def _find_lookups(result: Matched, others: Mapping[str, Matched], taken: set[str]) -> dict[str, Lookup]:
    """References that this table carries only as another number, such as an account's."""
    found = {}
    for name, referred in references(result.table).items():
        other, key = others.get(referred), id_column(referred)
        if name in result.matches or other is None or key not in other.matches:
            continue
        for column in result.look.columns:
            if column.name in taken or column.distinct <= MANY or column.date_forms:
                continue
            for own in other.look.columns:
                is_same = result.look.has_header and plain_name(own.name) == plain_name(column.name)
                if own.unique_share > 0.8 and own.ids > 0.98 and is_same and _shared(column, own) > 0.8:
                    found[name] = Lookup(table=referred, source=column.name, key=own.name, value=key)
                    break
            if name in found:
                break
    return found
