"""Worksheets as text, cell by cell, and where their formulas stand; nothing is calculated."""

from __future__ import annotations

import csv
import io
import posixpath
import re
import zipfile
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from xml.parsers.expat import ParserCreate

from python_calamine import CalamineWorkbook, SheetTypeEnum

from tasks.sandbox.archives import open_zip
from tasks.sandbox.limits import (
    MAX_BLANKS,
    MAX_CELLS,
    MAX_COLUMNS,
    MAX_ROWS,
    MAX_SHEETS,
    ZIP_BYTES,
    TooLarge,
)
from tasks.sandbox.text import visible


def read_workbook(content: bytes, kind: str, max_cells: int = MAX_CELLS) -> list[dict[str, Any]]:
    """Every worksheet of a workbook. Raises TooLarge beyond the limits, which hold for all of its sheets together."""
    if kind not in ("xlsx", "ods", "xls"):
        raise NotImplementedError(kind)
    formulas: dict[str, list[tuple[int, int]]] = {}
    if kind != "xls":
        with open_zip(content) as archive:
            formulas = _scan_xlsx(archive) if kind == "xlsx" else _scan_ods(archive)
    book = CalamineWorkbook.from_filelike(io.BytesIO(content))
    sheets = []
    for sheet in book.sheets_metadata:
        if sheet.typ != SheetTypeEnum.WorkSheet:  # a chart sheet has no cells
            continue
        name = sheet.name
        table = book.get_sheet_by_name(name)
        max_cells -= table.total_height * table.total_width
        if table.total_height > MAX_ROWS or table.total_width > MAX_COLUMNS or max_cells < 0:
            raise TooLarge
        rows = [[_cell_text(cell) for cell in row] for row in table.to_python(skip_empty_area=False)]
        sheets.append({"name": name, "rows": rows, "formulas": formulas.get(name, [])})
    return sheets


def read_csv(content: bytes, name: str, max_cells: int = MAX_CELLS) -> list[dict[str, Any]]:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = content.decode("utf-16")
    else:
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = content.decode("gb18030")
    rows: list[list[str | None]] = []
    for row in csv.reader(io.StringIO(text, newline=""), delimiter="\t" if "\t" in text.partition("\n")[0] else ","):
        max_cells -= len(row)
        if len(rows) >= MAX_ROWS or len(row) > MAX_COLUMNS or max_cells < 0:
            raise TooLarge
        rows.append([visible(cell) or None for cell in row])
    return [{"name": visible(Path(name).stem), "rows": rows, "formulas": []}]


def _cell_text(cell: object) -> str | None:
    """A cell as people see it, near enough to be read back: whole floats without .0, dates and times in ISO form."""
    if cell is None or cell == "":
        return None
    if isinstance(cell, bool):
        return str(cell).upper()
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() and abs(cell) < 1e15 else repr(cell)
    if isinstance(cell, datetime):
        return cell.date().isoformat() if cell.time() == time(0) else cell.isoformat(" ", "seconds")
    if isinstance(cell, date):
        return cell.isoformat()
    if isinstance(cell, time):
        return cell.isoformat("seconds")
    if isinstance(cell, timedelta):
        seconds = round(cell.total_seconds())
        return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    return visible(str(cell))


def _scan_xlsx(archive: zipfile.ZipFile) -> dict[str, list[tuple[int, int]]]:
    """Formula cells by sheet name. Raises TooLarge before a reader builds a table from two far corners.

    Reading A1 and XFD1048576 makes calamine abort the process, and openpyxl hang.
    """
    names = set(archive.namelist())
    targets: dict[str, str] = {}
    sheets: list[tuple[str, str]] = []

    def relation(tag: str, attributes: Mapping[str, str]) -> None:
        if tag == "Relationship" and attributes.get("Type", "").endswith("/worksheet"):
            target = attributes.get("Target", "")
            targets[attributes.get("Id", "")] = posixpath.normpath(
                target[1:] if target.startswith("/") else f"xl/{target}"
            )

    def sheet(tag: str, attributes: Mapping[str, str]) -> None:
        if tag == "sheet":
            sheets.append(
                (attributes.get("name", ""), next((v for k, v in attributes.items() if k.endswith(":id")), ""))
            )

    parse_xml(archive, "xl/_rels/workbook.xml.rels", relation)
    parse_xml(archive, "xl/workbook.xml", sheet)
    if len(sheets) > MAX_SHEETS:
        raise TooLarge
    # Sheets may share a part, which a reader reads anew for each.
    sizes = {member.filename: member.file_size for member in archive.infolist()}
    if sum(sizes.get(targets.get(target, ""), 0) for _, target in sheets) > ZIP_BYTES:
        raise TooLarge
    found = {}
    # Sheets no relation names are scanned too: a reader may know another way to them.
    parts = {path: name for name, target in sheets if (path := targets.get(target, ""))}
    for path in sorted(
        entry for entry in names if entry.startswith("xl/worksheets/") and entry.endswith(".xml")
    ) + sorted(path for path in parts if not path.startswith("xl/worksheets/")):
        scan = _CellScan()
        parse_xml(archive, path, scan.start)
        found[parts.get(path, path)] = scan.formulas
    return found


_PLACE = re.compile(r"([A-Z]{1,7})(\d{1,12})")


class _CellScan:
    """Places of the cells of one worksheet that hold anything."""

    def __init__(self) -> None:
        self.row = self.column = self.filled = 0
        self.formulas: list[tuple[int, int]] = []

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        if tag == "row":
            self.row, self.column = _whole(attributes.get("r"), self.row + 1), 0
        elif tag == "c":
            place = _PLACE.fullmatch(attributes.get("r", "").upper())
            if place:
                self.column = 0
                for letter in place[1]:
                    self.column = self.column * 26 + ord(letter) - 64
                self.row = int(place[2])
            else:
                self.column += 1
        elif tag in ("v", "f", "is", "t") and self.row:
            self.filled += 1
            # Formats painted down to row 1,048,576 are honest; contents there are not.
            if self.row > MAX_ROWS or self.column > MAX_COLUMNS or self.filled > 2 * MAX_CELLS:
                raise TooLarge
            if tag == "f":
                self.formulas.append((self.row, self.column))


def _scan_ods(archive: zipfile.ZipFile) -> dict[str, list[tuple[int, int]]]:
    """Formula cells by sheet name, as `_scan_xlsx`, for an OpenDocument spreadsheet."""
    scan = _OdsScan()
    parse_xml(archive, "content.xml", scan.start)
    return scan.formulas


class _OdsScan:
    """Places of the cells of one OpenDocument spreadsheet; rows and cells may stand for many like them."""

    def __init__(self) -> None:
        self.table = ""
        self.row = self.column = self.tables = 0
        self.next_row = 1
        self.formulas: dict[str, list[tuple[int, int]]] = {}

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        own = {name.rpartition(":")[2]: value for name, value in attributes.items()}
        if tag == "table":
            self.tables += 1
            if self.tables > MAX_SHEETS:
                raise TooLarge
            self.table, self.row, self.column, self.next_row = own.get("name", ""), 0, 0, 1
            self.formulas.setdefault(self.table, [])
        elif tag == "table-row":
            self.row, self.column = self.next_row, 0
            self.next_row = self.row + _whole(own.get("number-rows-repeated"), 1)
        elif tag == "s" and _whole(own.get("c"), 1) > MAX_BLANKS:
            raise TooLarge
        elif tag in ("table-cell", "covered-table-cell"):
            first = self.column + 1
            self.column += _whole(own.get("number-columns-repeated"), 1)
            if "value-type" in own or "formula" in own:
                if self.next_row - 1 > MAX_ROWS or self.column > MAX_COLUMNS:
                    raise TooLarge
                if "formula" in own:
                    self.formulas.setdefault(self.table, []).append((self.row, first))


def _whole(text: str | None, default: int) -> int:
    return int(text) if text and re.fullmatch(r"\d{1,12}", text) else default


def _refuse(*_: object) -> None:
    raise ValueError("a document type, which no workbook has and every bomb of entities needs")


def parse_xml(archive: zipfile.ZipFile, path: str, start: Any) -> None:
    """Calls start(tag, attributes) for each element of a member, the tag without its prefix."""

    def open_element(name: str, attributes: dict[str, str]) -> None:
        start(name.rpartition(":")[2], attributes)

    parser = ParserCreate()
    parser.StartElementHandler = open_element
    parser.StartDoctypeDeclHandler = _refuse
    with archive.open(path) as part:
        while block := part.read(1 << 16):
            parser.Parse(block, False)
    parser.Parse(b"", True)
