"""A profile drafted from looks at a new house's files: what could be found out, and what a person must still say.

Looks in, YAML out; reading files stays out, and so does how columns are recognised (models/matching.py).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandera.pandas as pa
from pandera.engines import pandas_engine

from models import CallbackError
from models.canonical import TABLES, allowed_codes, id_column, references
from models.known import MEANINGS
from models.matching import Look, Matched, find_table, fit, match_columns
from models.profile import DateForm
from models.traits import Column, is_private, show_code

ASK = "请确认"
"""Stands where a person must write what a code means; no canonical code, so that a profile that holds it does not load."""
_LEVELS = {"C1", "C2", "C3", "C4", "C5"}
_LABELS = ("segment", "risk_level")
"""Columns whose values are words of the house."""


class DraftError(CallbackError):
    """The files give nothing to draft a profile from."""


@dataclass(frozen=True)
class Gap:
    """What a person must fill in before the profile loads."""

    where: str
    why: str


@dataclass
class Draft:
    """A profile as YAML, and what is to be done before it can be used."""

    yaml: str
    tables: dict[str, Matched]
    gaps: list[Gap] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    """What a person should look at, though the profile loads without it."""
    unknown: list[tuple[Look, list[str]]] = field(default_factory=list)
    """Files of no table that could be told, with the tables that they might be."""

    @property
    def is_fine(self) -> bool:
        return not (self.gaps or self.doubts or self.unknown)


def draft_profile(looks: Sequence[Look], table: str | None = None, name: str = "new_house") -> Draft:
    """A profile for the files; `table` says which one they all are, where that cannot be told. Raises DraftError."""
    if table is not None and table not in TABLES:
        raise DraftError(f"--table {table}: no such table; there are {', '.join(TABLES)}")
    by_table: dict[str, Look] = {}
    unknown, doubts = [], []
    for look in looks:
        found, likely = (table, []) if table is not None else find_table(look)
        if found is None:
            unknown.append((look, likely))
        elif found not in by_table:
            by_table[found] = look
        elif by_table[found].names == look.names:
            by_table[found] = _joined(by_table[found], look)
        else:
            doubts.append(
                f"{', '.join(look.files)} and {', '.join(by_table[found].files)} both look like {found} but have "
                f"different columns; only the latter is drafted"
            )
    matched: dict[str, Matched] = {}
    for owner in TABLES:
        if owner in by_table:
            referring = [look for other, look in by_table.items() if owner in references(other).values()]
            matched[owner] = match_columns(owner, by_table[owner], matched, referring=referring)
    writing = _Writing(matched, name)
    draft = Draft(writing.yaml(), matched, writing.gaps, doubts + writing.doubts, unknown)
    for table_name, each in matched.items():
        if not each.look.rows:
            draft.doubts.append(f"{table_name}: no row was read; date forms, codes and units are not known")
    for look in looks:
        draft.doubts += [f"{', '.join(look.files)}: {doubt}" for doubt in look.doubts]
    return draft


def _joined(first: Look, second: Look) -> Look:
    columns = []
    for one, two in zip(first.columns, second.columns, strict=True):
        column = Column(one.name, one.rows, one.empty, dict(one.counts), one.uncounted)
        column.add(dict(two.counts) | {"": two.empty})
        column.rows, column.uncounted = column.rows + two.uncounted, column.uncounted + two.uncounted
        columns.append(column)
    return Look(
        [*first.files, *second.files], first.form, first.has_header, columns, first.rows + second.rows,
        first.is_whole and second.is_whole, first.trailer or second.trailer, [*first.doubts, *second.doubts],
        first.is_ascii and second.is_ascii, first.marker, "",
    )  # fmt: skip


class _Writing:
    """The YAML of a draft, and what it leaves open."""

    def __init__(self, matched: Mapping[str, Matched], name: str) -> None:
        self._matched, self._name = matched, name
        self.gaps: list[Gap] = []
        self.doubts: list[str] = []
        self._codes: list[str] = []
        self._widths = self._find_widths()
        texts = [m.look for m in matched.values() if _is_text(m.look)]
        # A file of plain ASCII says nothing of the encoding: it is that of the others.
        encodings = Counter(look.form.encoding for look in texts if not look.is_ascii)
        encoding = encodings.most_common(1)[0][0] if encodings else "utf-8"
        forms: Counter[tuple[str, str]] = Counter()
        for look in texts:
            forms[look.form.delimiter or ",", look.form.quote or '"'] += 1
        self._form = (encoding or "utf-8", *(forms.most_common(1)[0][0] if forms else (",", '"')))
        self._dates = self._find_dates()

    def yaml(self) -> str:
        tables = [line for table, matched in self._matched.items() for line in self._table(table, matched)]
        none: Counter[str] = Counter()
        for _, _, column in self._dated():
            none.update({text: column.counts[text] for text in column.no_days})
        encoding, delimiter, quote = self._form
        lines = [
            f"# 草稿：由 huifang profile check 写成。凡“{ASK}”处须由熟悉该系统的人核对；“缺口”填好之前本文件不能载入。",
            "# Drafted by huifang profile check. A person who knows the source confirms each 请确认;",
            "# the file does not load before each 缺口 (gap) is filled. Codes are never guessed.",
            f"name: {self._name}",
            f'description: "{ASK}：哪家公司、哪个系统的导出"',
            f"encoding: {encoding}",
            f"delimiter: {_text(delimiter, quoted=True)}",
            *(["quote: none"] if quote == "none" else []),
            f"dates: [{', '.join(self._dates or ['yyyy-MM-dd'])}]",
        ]
        if none:
            seen = "，".join(f"{text} × {times:,}" for text, times in none.most_common())
            listed = ", ".join(_text(text, quoted=True) for text in sorted(none))
            lines += ["sentinels:", f"  # 日期列中表示“没有”的写法及行数：{seen}", f"  none: [{listed}]"]
        if self._codes:
            lines += ["", "codes:", *self._codes]
        lines += ["", "tables:" if tables else "tables: {}", *tables]
        absent = [table for table in TABLES if table not in self._matched]
        if absent:
            lines += ["", f"  # 这些表没有文件：{', '.join(absent)}。花名册 roster 可用 --roster 另给。"]
        return "\n".join(lines) + "\n"

    # ---- what holds for the whole profile -------------------------------------------------------------------

    def _dated(self) -> list[tuple[str, str, Column]]:
        return [
            (table, name, match.column)
            for table, matched in self._matched.items()
            for name, match in matched.matches.items()
            if isinstance(TABLES[table].columns[name].dtype, pandas_engine.DateTime)
        ]

    def _find_dates(self) -> list[DateForm]:
        counts: Counter[tuple[DateForm, ...]] = Counter()
        for table, _, column in self._dated():
            if column.date_forms and _is_text(self._matched[table].look):
                counts[tuple(column.date_forms)] += column.counted
        if not counts:
            for _, _, column in self._dated():
                if column.date_forms:
                    counts[tuple(column.date_forms)] += column.counted
        return list(counts.most_common(1)[0][0]) if counts else []

    def _find_widths(self) -> dict[str, int]:
        """The width of ids that one file writes with leading zeros and another without."""
        widths = {}
        for referred in TABLES:
            padded: set[int] = set()
            columns = self._columns_of_ids(referred)
            for column in columns:
                lengths = {len(text) for text in list(column.counts)[:2_000] if text.isdigit()}
                if column.digits > 0.9 and len(lengths) == 1 and any(t.startswith("0") for t in column.counts):
                    padded |= lengths
            if len(padded) == 1 and any(_is_shorter(column, *padded) for column in columns):
                widths[referred] = padded.pop()
        return widths

    def _columns_of_ids(self, referred: str) -> list[Column]:
        found = []
        for table, matched in self._matched.items():
            names = [name for name, other in references(table).items() if other == referred]
            if table == referred and (key := id_column(table)):
                names.append(key)
            found += [matched.matches[name].column for name in names if name in matched.matches]
        return found

    # ---- one table ------------------------------------------------------------------------------------------

    def _table(self, table: str, matched: Matched) -> list[str]:
        look = matched.look
        patterns = list(dict.fromkeys(_pattern(name) for name in look.files))
        read = f"{look.rows:,} 行" + ("" if look.is_whole else "（只读了开头部分）")
        lines = [f"  {table}:", f"    # {', '.join(look.files)}：{read}"]
        lines += [f"    files: [{', '.join(_text(pattern, quoted=True) for pattern in patterns)}]"]
        lines += self._form_lines(table, matched)
        columns, constants = [], []
        for name, declared in TABLES[table].columns.items():
            where = f"tables.{table}.{name}"
            if name in matched.matches:
                columns += self._column(table, name, declared, matched)
            elif name in matched.lookups:
                continue
            elif declared.nullable:
                likely = [] if matched.look.has_header else self._likely(name, matched)
                why = f"未辨认出，可能是 {'、'.join(likely)}" if likely else "来源没有这一列"
                if likely:
                    self.doubts.append(f"{table}.{name}: left empty, but it may be {', '.join(likely)}")
                constants += [f'      {name}: {{value: null, reason: "{ASK}：{why}"}}']
            else:
                why, said = self._why_missing(name, declared, matched)
                self.gaps.append(Gap(where, said))
                constants += [
                    f"      # 缺口 {name}：{why}",
                    f'      # {name}: {{value: "", reason: ""}}',
                ]
        lines += ["    columns:", *columns] if columns else ["    columns: {}"]
        if any(not line.lstrip().startswith("#") for line in constants):
            lines += ["    constants:", *constants]
        elif constants:
            lines += ["    # constants:", *constants]
        if matched.lookups:
            lines += ["    lookups:"]
            for name, lookup in matched.lookups.items():
                lines += self._lookup(table, name, matched)
                lines += [
                    f"      {name}: {{table: {lookup.table}, from: {_text(lookup.source)}, key: {_text(lookup.key)}, "
                    f"value: {lookup.value}}}"
                ]
        return lines + self._ignored(table, matched)

    def _form_lines(self, table: str, matched: Matched) -> list[str]:
        look, lines = matched.look, []
        if _is_text(look):
            encoding, delimiter, quote = look.form.encoding, look.form.delimiter or ",", look.form.quote or '"'
            if encoding != self._form[0] and not look.is_ascii:
                lines.append(f"      encoding: {encoding}")
            if delimiter != self._form[1]:
                lines.append(f"      delimiter: {_text(delimiter, quoted=True)}")
            if quote != self._form[2]:
                lines.append(f"      quote: {_text(quote, quoted=True)}")
        elif look.form.format is not None and not all(
            name.lower().removesuffix(".zip").endswith(look.form.format) for name in look.files
        ):
            lines.append(f"      format: {look.form.format}")
        if not look.has_header:
            lines.append(f"      # 文件没有列名行，列名是按次序编的；{ASK}后可改成真名（columns 中一并改）。")
            lines.append(f"      header: [{', '.join(_text(name) for name in look.names)}]")
        if look.trailer:
            lines += self._trailer(table, look)
        elif look.marker:
            lines += self._marker(look)
        return ["    form:", *lines] if lines else []

    def _trailer(self, table: str, look: Look) -> list[str]:
        """The last line as a pattern: the number that is the number of rows becomes the group rows."""
        delimiter = look.form.delimiter or ","
        cells = look.trailer.split(delimiter)
        said = next((n for n, cell in enumerate(cells) if cell.strip() == str(look.rows)), None)
        parts = []
        for n, cell in enumerate(cells):
            shape = (
                re.sub("[0-9]+", lambda found: "[0-9]+", re.escape(cell))
                if re.search("[0-9]", cell)
                else re.escape(cell)
            )
            if n and n != said and (not re.search("[0-9]", cell) or is_private(cell)):
                shape = f"[^{re.escape(delimiter)}]*"
            parts.append("(?P<rows>[0-9]+)" if n == said else shape)
        pattern = "^" + re.escape(delimiter).join(parts) + "$"
        if said is None:
            self.doubts.append(f"{table}: the last line is no row, and no number in it is the number of rows")
        return [
            f"      # 末行不是数据，看似合计行。{ASK}：各数的含义；金额合计可写成 (?P<来源列名>…) 一并核对。",
            "      complete:",
            f"        trailer: {_text(pattern, quoted=True)}",
            *([f"        pattern: {_text(pattern, quoted=True)}"] if said is not None else []),
        ]

    @staticmethod
    def _marker(look: Look) -> list[str]:
        """The file beside, and the line of it that tells the number of rows."""
        lines = [f"      # 旁边有 {look.marker.replace('{name}', '同名')} 文件，{ASK}：它写出后数据文件才完整。"]
        lines += ["      complete:", f"        marker: {_text(look.marker, quoted=True)}"]
        for line in look.marker_text.splitlines():
            numbers = re.split(r"([0-9]+)", line.replace(look.files[0], "{name}"))
            if look.is_whole and str(look.rows) in numbers:
                said = numbers.index(str(look.rows))
                parts = [
                    "(?P<rows>[0-9]+)" if n == said else "[0-9]+" if n % 2 else re.escape(part)
                    for n, part in enumerate(numbers)
                ]
                pattern = "^" + "".join(parts).replace(re.escape("{name}"), "{name}") + "$"
                lines.append(f"        pattern: {_text(pattern, quoted=True)}")
                break
        return lines

    def _why_missing(self, name: str, declared: pa.Column, matched: Matched) -> tuple[str, str]:
        """Why a column has no source: for the file, and for the screen."""
        if rivals := matched.rivals.get(name):
            return f"{' 与 '.join(rivals)} 内容都像，请选定一列", f"{' and '.join(rivals)} look alike; choose one"
        likely = self._likely(name, matched)
        allowed = allowed_codes(declared)
        chinese, english = "来源没有可辨认的列", "no source column was recognised"
        if likely:
            chinese += f"，可能是 {'、'.join(likely)}"
            english += f"; it may be {', '.join(likely)}"
        if allowed:
            chinese += f"；若为常量，可选 {', '.join(allowed)}，并写明理由"
            english += f"; a constant must be one of {', '.join(allowed)}"
        return chinese, english

    @staticmethod
    def _likely(name: str, matched: Matched) -> list[str]:
        """Source columns without a use whose content could be a canonical column's."""
        used = {match.column.name for match in matched.matches.values()}
        left = [column for column in matched.look.columns if column.name not in used and column.distinct > 1]
        return [column.name for column in left if fit(matched.table, name, column, {}) > 0.2][:8]

    def _column(self, table: str, name: str, declared: pa.Column, matched: Matched) -> list[str]:
        match = matched.matches[name]
        column, more, notes = match.column, [], []
        if match.by == "content":
            notes.append(f"{ASK}：按内容认出，形如 {column.shape()}")
        if match.doubt:
            notes.append(f"{ASK}：列名像，内容不像，形如 {column.shape()}")
            self.doubts.append(f"{table}.{name}: {match.doubt}")
        if allowed_codes(declared) is not None or name in _LABELS:
            more += self._code_column(table, name, declared, column, notes)
        elif isinstance(declared.dtype, pandas_engine.DateTime):
            if column.date_forms and set(column.date_forms) - set(self._dates):
                forms = column.date_forms + (["yyyy-MM-dd"] if "excel" in column.date_forms else [])
                more.append(f"dates: [{', '.join(dict.fromkeys(forms))}]")
            if not column.date_forms and column.counted and len(column.no_days) < column.distinct:
                self.gaps.append(Gap(f"tables.{table}.columns.{name}", "the form of its days is not one that is known"))
                more.append(f"dates: [{ASK}]")
                notes.append(f"缺口：日期写法不识别，形如 {column.shape()}")
        elif isinstance(declared.dtype, pandas_engine.Decimal):
            more += self._amount(table, name, column, notes)
        elif (owner := references(table).get(name) or (table if name == id_column(table) else None)) is not None:
            more += self._width(owner, column, notes)
        if column.nothing and name not in _LABELS:
            if not declared.nullable:
                notes.append(f"{ASK}：{sum(column.counts[t] for t in column.nothing):,} 行写作空值，将被拒收")
            more.append(f"none: [{', '.join(_text(text, quoted=True) for text in column.nothing)}]")
        if name == id_column(table) and column.counted and (doubled := column.counted - column.distinct):
            notes.append(f"{ASK}：{doubled:,} 行的主键重复；若一人多户，请用 filters 只取一户")
            self.doubts.append(f"{table}.{name}: {doubled:,} rows repeat an id")
        source = _text(column.name)
        value = f"{{from: {source}, {', '.join(more)}}}" if more else source
        return [f"      {name}: {value}" + (f"   # {'；'.join(notes)}" if notes else "")]

    def _width(self, owner: str, column: Column, notes: list[str]) -> list[str]:
        if (width := self._widths.get(owner)) is not None:
            notes.append(f"另一文件中有前导零，补足 {width} 位")
            return [f"width: {width}"]
        if (lost := column.lost_width()) is not None and not any(
            other.ids and not other.lost_width() for other in self._columns_of_ids(owner)
        ):
            notes.append(f"{ASK}：长短不一，前导零是否已丢？若是，加 width（现最长 {lost} 位）")
        return []

    def _amount(self, table: str, name: str, column: Column, notes: list[str]) -> list[str]:
        more = []
        texts = [text for text in list(column.counts)[:5_000] if re.fullmatch(r"[+-]?[0-9.,]+", text)]
        if any(re.search(",[0-9]{3}", text) for text in texts) and any("." in text for text in texts):
            more.append('thousands: ","')
        elif any(re.search(",[0-9]{1,2}$", text) for text in texts) and not any("." in text for text in texts):
            more.append('decimal: ","')
        decimals = max(
            (len(re.split("[.,]", text)[-1].rstrip("0")) for text in texts if re.search("[.,]", text)), default=0
        )
        if column.decimals < 0.01 or decimals > 2:
            more.append(f"unit: {ASK}")
            whole = "全是整数，是元还是分" if column.counted else "没有数据可看，是元还是分"
            why = whole if column.decimals < 0.01 else f"小数多至 {decimals} 位，是元还是万元"
            notes.append(f"缺口：{why}？填 yuan、fen 或 wan_yuan")
            self.gaps.append(
                Gap(f"tables.{table}.columns.{name}.unit", "yuan, fen or wan_yuan? the digits do not tell")
            )
        else:
            notes.append(f"{ASK}：单位当作元")
        return more

    def _code_column(self, table: str, name: str, declared: pa.Column, column: Column, notes: list[str]) -> list[str]:
        allowed, place = allowed_codes(declared), f"tables.{table}.columns.{name}"
        if not column.counted:
            notes.append(f"{ASK}：全部为空")
            return []
        if not column.is_codes:
            self.gaps.append(
                Gap(place, f"{column.name} has {column.distinct:,} different texts; is it a column of codes?")
            )
            notes.append(f"缺口：有 {column.distinct:,} 种取值，不像代码列")
            return [f"codes: {ASK}_{table}_{name}"]
        ordered = sorted(column.counts.items(), key=lambda item: (-item[1], item[0]))
        if allowed is None:
            if all(len(code) > 2 or not code.isascii() for code in column.counts) or set(column.counts) <= _LEVELS:
                notes.append(f"{ASK}：取值照用：" + "，".join(f"{code} × {times:,}" for code, times in ordered))
                return []
            shown = ", ".join(f"{show_code(code, is_code_column=True)} × {times:,}" for code, times in ordered)
            self.gaps.append(Gap(f"codes.{table}_{name}", f"what the codes of {column.name} mean to us: {shown}"))
            self._codes.append(f"  # 缺口：{column.name} 的代码各写我们的叫法（次序可能与我们相反，如 A 为激进）")
            self._codes.append(f"  {table}_{name}:")
            self._codes += [f"    {_text(code, quoted=True)}:   # 缺口，{times:,} 行" for code, times in ordered]
            return [f"codes: {table}_{name}"]
        meanings = MEANINGS[table, name]
        if set(column.counts) <= set(allowed):
            return []
        open_codes = []
        self._codes.append(f"  # {column.name}；可选 {', '.join(allowed)}")
        self._codes.append(f"  {table}_{name}:")
        for code, times in ordered:
            means = code if code in allowed else meanings.get(code.lower(), ASK)
            self._codes.append(f"    {_text(code, quoted=True)}: {means}   # {times:,} 行")
            if means == ASK:
                open_codes.append(f"{show_code(code, is_code_column=True, words=meanings)} × {times:,}")
        if open_codes:
            self.gaps.append(
                Gap(f"codes.{table}_{name}", f"what the codes of {column.name} mean: {', '.join(open_codes)}")
            )
        return [f"codes: {table}_{name}"]

    def _lookup(self, table: str, name: str, matched: Matched) -> list[str]:
        lookup = matched.lookups[name]
        other = next(c for c in self._matched[lookup.table].look.columns if c.name == lookup.key)
        doubled = other.counted - other.distinct
        if not doubled:
            return [f"      # {ASK}：经 {lookup.table} 的 {lookup.key} 找到"]
        self.doubts.append(f"{table}.{name}: {lookup.key} stands in {doubled:,} rows of {lookup.table} a second time")
        return [
            f"      # {ASK}：{lookup.key} 在 {lookup.table} 中有 {doubled:,} 行重复，须用 filters 只留所有人，否则这些行被拒收"
        ]

    def _ignored(self, table: str, matched: Matched) -> list[str]:
        looked_up = {k.key for m in self._matched.values() for k in m.lookups.values() if k.table == table}
        looked_up |= {lookup.source for lookup in matched.lookups.values()}
        used = {match.column.name for match in matched.matches.values()} | looked_up
        left = [column for column in matched.look.columns if column.name not in used]
        lines = ["    ignore_columns:"] if left else []
        for column in left:
            what = "全部为空" if not column.counted else f"{column.distinct:,} 种取值，形如 {column.shape()}"
            reason = f"{ASK}：未识别，暂不使用（{what}）"
            seen = ""
            if column.is_codes and column.distinct > 1:
                ordered = sorted(column.counts.items(), key=lambda item: (-item[1], item[0]))
                seen = "   # " + "，".join(
                    f"{show_code(code, is_code_column=True)} × {n:,}" for code, n in ordered[:20]
                )
            lines.append(f"      {_text(column.name)}: {_text(reason, quoted=True)}{seen}")
        return lines


def _is_text(look: Look) -> bool:
    return look.form.format in (None, "text")


def _is_shorter(column: Column, width: int) -> bool:
    return column.digits > 0.9 and any(len(text) < width for text in list(column.counts)[:2_000])


def _pattern(name: str) -> str:
    """A pattern for the files of other days: what looks like a day or a running number is left open.

    >>> _pattern("client_20251231.txt"), _pattern("part_0001.csv"), _pattern("KD_ORG.xlsx")
    ('client_*.txt', 'part_*.csv', 'KD_ORG.xlsx')
    """
    return re.sub(r"[0-9]{4}([-_.]?[0-9]{2}){0,2}[0-9]*", "*", name.replace("[", "?").replace("]", "?"))


_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}


def _text(text: str, *, quoted: bool = False) -> str:
    """A text as YAML reads it back."""
    if not quoted and re.fullmatch(r"[A-Za-z_\u3400-\u9fff][\w\u3400-\u9fff]*", text) and text.lower() not in _WORDS:
        return text
    return "".join(
        sign if sign.isprintable() else f"\\u{ord(sign):04x}" if ord(sign) < 65_536 else f"\\U{ord(sign):08x}"
        for sign in json.dumps(text, ensure_ascii=False)
    )
