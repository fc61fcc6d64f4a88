"""The child process that opens what strangers send: takes one message apart under limits and reports it as JSON.

Run as `python -m tasks.sandbox`; it may die of what it opens, its parent (tasks/mailbox.py) may not. Knows no
sheet, roster or store, and imports neither Prefect nor pandas, so that a new child costs a fraction of a second.

First line in: {"passwords": {address: [password, …]}}, answered by {"ready": true}. Then one request per line,
{"path", "out_dir"}; one report per line out, in the shape of models.returns.Opened.
"""

from __future__ import annotations

import csv
import email
import email.message
import email.policy
import email.utils
import hashlib
import io
import json
import os
import posixpath
import re
import resource
import sys
import zipfile
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from xml.sax.handler import ContentHandler

import msoffcrypto
from defusedxml.expatreader import create_parser
from msoffcrypto.exceptions import InvalidKeyError
from python_calamine import CalamineError, CalamineWorkbook

MEMORY_BYTES = 2 << 30
CPU_SECONDS = 60
MESSAGE_BYTES = 200 << 20
ZIP_BYTES, ZIP_RATIO, ZIP_MEMBERS, ZIP_MEMBER_BYTES = 100 << 20, 50, 2000, 60 << 20
MAX_ROWS, MAX_COLUMNS, MAX_CELLS = 20_000, 300, 500_000
MAX_DEPTH, MAX_PARTS, MAX_WORKBOOKS = 5, 500, 20
OLE_MAGIC = bytes.fromhex("D0CF11E0A1B11AE1")

# Mail programs label GBK and GB18030 bytes gb2312; only the largest of the three sets reads them all (朱镕基).
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
SPREADSHEETS = (".xls", ".xlsx", ".xlsm", ".xlsb", ".et", ".ods")
_GB_LABEL = re.compile(
    r"(=\?|charset\s*=\s*\"?|\*\d*\*?\s*=\s*\"?)(gb2312|gbk|cp936|x-gbk|gb_2312-80)(?=[?'\";\s]|$)", re.IGNORECASE
)


class TooLarge(Exception):
    """A container beyond the limits; costs its workbook, never the message."""


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    requests = sys.stdin.buffer
    reports = os.fdopen(os.dup(1), "wb")
    # Nothing a library prints may get between the reports.
    os.dup2(2, 1)
    passwords: dict[str, list[str]] = json.loads(requests.readline())["passwords"]
    reports.write(b'{"ready": true}\n')
    reports.flush()
    for line in requests:
        request = json.loads(line)
        spent = resource.getrusage(resource.RUSAGE_SELF)
        limit = int(spent.ru_utime + spent.ru_stime) + CPU_SECONDS
        # Only the soft limit: a hard one, once lowered, could not be raised for the next message.
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.getrlimit(resource.RLIMIT_CPU)[1]))
        try:
            report = open_message(Path(request["path"]), Path(request["out_dir"]), passwords)
        except (MemoryError, RecursionError):
            report = {"error": "too_large"}
        reports.write(json.dumps(report, ensure_ascii=True).encode() + b"\n")
        reports.flush()


def open_message(path: Path, out_dir: Path, passwords: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """One message taken apart; its files are written below out_dir under their hashes."""
    if path.stat().st_size > MESSAGE_BYTES:
        return {"error": "too_large"}
    with path.open("rb") as file:
        message = email.message_from_binary_file(file, policy=email.policy.compat32)
    addresses, defects = _from_addresses(message)
    out_dir.mkdir(parents=True, exist_ok=True)
    tried = ("", *(address.casefold() for address in addresses))  # "": whoever wrote it
    walk = _Walk(out_dir, [password for address in tried for password in passwords.get(address, ())])
    walk.take(message, 0)
    return {
        "from_headers": len(_raw_headers(message, "from")),
        "from_addresses": addresses,
        "from_defects": defects,
        "message_id": _header(message, "message-id"),
        "subject": _header(message, "subject"),
        "auto_submitted": _header(message, "auto-submitted").partition(";")[0].strip()
        or ("auto-replied" if _raw_headers(message, "x-autoreply") or _raw_headers(message, "x-autorespond") else ""),
        "precedence": _header(message, "precedence").strip(),
        "is_list": bool(_raw_headers(message, "list-id") or _raw_headers(message, "list-unsubscribe")),
        "is_report": message.get_content_type() in ("multipart/report", "message/delivery-status"),
        "is_null_return_path": any(value.strip() == "<>" for value in _raw_headers(message, "return-path")),
        "defects": sorted(walk.defects),
        "workbooks": walk.workbooks,
        "files": walk.files,
        "error": "",
    }


# ---- headers ---------------------------------------------------------------------------------------------


def _raw_headers(message: email.message.Message, name: str) -> list[str]:
    return [_text(value) for key, value in message._headers if key.lower() == name]  # type: ignore[attr-defined]


def _text(value: object) -> str:
    """A raw header value as text: 8-bit bytes are UTF-8 or else GB18030, and GB labels mean GB18030."""
    raw = str(value).encode("utf-8", "surrogateescape")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("gb18030", "replace")
    return _GB_LABEL.sub(r"\1gb18030", text)


def _visible(text: str) -> str:
    """A text without control signs and lone surrogates: a database refuses NUL, a terminal obeys ESC."""
    return _CONTROLS.sub("", text).encode("utf-8", "replace").decode("utf-8")


def _parsed(name: str, value: str) -> Any:
    """A header through the modern parser, or None where that parser fails: 17 of 1,592 real messages crash it."""
    try:
        return email.policy.default.header_factory(name, re.sub(r"[\r\n]+", " ", value))
    except (ValueError, IndexError, AttributeError, LookupError, TypeError, RecursionError):
        return None


def _header(message: email.message.Message, name: str) -> str:
    values = _raw_headers(message, name)
    if not values:
        return ""
    parsed = _parsed(name, values[0])
    return str(parsed if parsed is not None else values[0])[:1000].encode("utf-8", "replace").decode("utf-8")


def _from_addresses(message: email.message.Message) -> tuple[list[str], list[str]]:
    addresses: list[str] = []
    defects: list[str] = []
    for value in _raw_headers(message, "from"):
        parsed = _parsed("From", value)
        if parsed is None:
            defects.append("HeaderCrash")
            continue
        defects.extend(type(defect).__name__ for defect in parsed.defects)
        try:
            addresses.extend(address.addr_spec for address in parsed.addresses if address.addr_spec)
        except (AttributeError, ValueError, IndexError):
            defects.append("HeaderCrash")
    return addresses, defects


def _file_name(part: email.message.Message) -> str:
    for header, parameter in (("content-disposition", "filename"), ("content-type", "name")):
        for value in _raw_headers(part, header):
            parsed = _parsed(header, value)
            name = parsed.params.get(parameter) if parsed is not None else None
            if name:
                return _visible(posixpath.basename(str(name).replace("\\", "/"))[:200])
    return ""


# ---- parts -----------------------------------------------------------------------------------------------


class _Walk:
    """Every part of one message, however deep, each non-text leaf kept as a file."""

    def __init__(self, out_dir: Path, passwords: Sequence[str]) -> None:
        self.out_dir = out_dir
        self.passwords = passwords
        self.defects: set[str] = set()
        self.workbooks: list[dict[str, Any]] = []
        self.files: list[dict[str, Any]] = []

    def take(self, part: email.message.Message, depth: int) -> None:
        if depth > MAX_DEPTH or len(self.files) >= MAX_PARTS:
            self.defects.add("TooManyParts")
            return
        self.defects.update(type(defect).__name__ for defect in part.defects)
        content = part.get_payload()
        if isinstance(content, list):
            nested = part.get_content_type() == "message/rfc822"
            for child in content:
                # compat32 gives messages here; its types allow texts.
                assert isinstance(child, email.message.Message)
                self.take(child, depth + 1 if nested else depth)
            return
        name = _file_name(part)
        if part.get_content_maintype() == "text" and not name and part.get_content_disposition() != "attachment":
            return
        payload = part.get_payload(decode=True)
        self.defects.update(type(defect).__name__ for defect in part.defects)
        if isinstance(payload, bytes) and payload:
            self.keep(payload, name, part.get_content_type(), depth)

    def keep(self, content: bytes, name: str, media_type: str, depth: int, *, unpack: bool = True) -> None:
        digest = hashlib.sha256(content).hexdigest()
        kind = _container(content, name)
        target = self.out_dir / digest
        if not target.exists():
            # Written whole or not at all: a child killed here leaves no half file under a true hash.
            partial = target.with_suffix(".tmp")
            partial.write_bytes(content)
            partial.replace(target)
        self.files.append(
            {
                "part": len(self.files) + 1, "name": name, "media_type": media_type, "size_bytes": len(content),
                "sha256": digest, "path": str(target), "is_workbook": kind not in ("", "zip"), "depth": depth,
            }
        )  # fmt: skip
        if kind == "zip" and unpack:
            self.unpack(content, name, depth)
        elif kind == "unknown":
            self.workbooks.append(_workbook(name, depth, error="unsupported"))
        elif kind not in ("", "zip"):
            self.read(content, name, kind, depth)

    def unpack(self, content: bytes, name: str, depth: int) -> None:
        try:
            with _checked_zip(content) as archive:
                for member in archive.infolist():
                    if not member.is_dir() and len(self.files) < MAX_PARTS:
                        base = _visible(posixpath.basename(member.filename.replace("\\", "/")))
                        self.keep(archive.read(member), base, "application/octet-stream", depth, unpack=False)
        except TooLarge:
            self.workbooks.append(_workbook(name, depth, error="too_large"))
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, OSError, ValueError):
            # RuntimeError is a zip with a password.
            self.workbooks.append(_workbook(name, depth, error="unreadable"))

    def read(self, content: bytes, name: str, kind: str, depth: int) -> None:
        if len(self.workbooks) >= MAX_WORKBOOKS:
            self.defects.add("TooManyParts")
            return
        was_encrypted = False
        try:
            if kind == "ole":
                content, was_encrypted = self.decrypt(content)
                kind = _container(content, name) if was_encrypted else "xls"
            sheets = _read_csv(content, name) if kind == "csv" else _read_workbook(content, kind)
        except TooLarge:
            self.workbooks.append(_workbook(name, depth, was_encrypted, error="too_large"))
        except InvalidKeyError:
            self.workbooks.append(_workbook(name, depth, True, error="wrong_password"))
        except NotImplementedError:
            self.workbooks.append(_workbook(name, depth, was_encrypted, error="unsupported"))
        except (MemoryError, RecursionError):
            self.workbooks.append(_workbook(name, depth, was_encrypted, error="too_large"))
        except Exception as error:  # noqa: BLE001 (four libraries' parsers on hostile bytes: the workbook is lost and named)
            print(f"workbook not read: {type(error).__name__}", file=sys.stderr)  # noqa: T201 (the parent logs it)
            self.workbooks.append(_workbook(name, depth, was_encrypted, error="unreadable"))
        else:
            self.workbooks.append(_workbook(name, depth, was_encrypted, sheets))

    def decrypt(self, content: bytes) -> tuple[bytes, bool]:
        office = msoffcrypto.OfficeFile(io.BytesIO(content))
        if not office.is_encrypted():
            return content, False
        for password in self.passwords:
            clear = io.BytesIO()
            office.load_key(password=password)
            try:
                # Without verify_integrity a flipped bit passes silently.
                office.decrypt(clear, verify_integrity=True)
            except InvalidKeyError as error:
                # Only now is it worth another 100,000 rounds of hashing to tell a wrong password from changed content.
                try:
                    office.load_key(password=password, verify_password=True)
                except InvalidKeyError:
                    continue
                raise ValueError("the right password, but the content was changed on its way") from error
            return clear.getvalue(), True
        raise InvalidKeyError("no password of this sender opens it")


def _workbook(
    name: str, depth: int, was_encrypted: bool = False, sheets: Sequence[dict[str, Any]] = (), error: str = ""
) -> dict[str, Any]:
    return {"name": name, "sheets": list(sheets), "was_encrypted": was_encrypted, "depth": depth, "error": error}


def _container(content: bytes, name: str) -> str:
    """What a file is by its bytes: xlsx | xlsb | ods | ole | csv | zip | '' (no container we look into)."""
    if content.startswith(OLE_MAGIC):
        return "ole" if not name.lower().endswith((".doc", ".ppt", ".msg")) else ""
    if content.startswith(b"PK"):
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                names = set(archive.namelist()[: ZIP_MEMBERS + 1])
                kind = (
                    archive.read("mimetype")[:60]
                    if "mimetype" in names and archive.getinfo("mimetype").file_size < 100
                    else b""
                )
        except (zipfile.BadZipFile, OSError, ValueError, RuntimeError, NotImplementedError, EOFError, KeyError):
            return "zip"
        if "xl/workbook.bin" in names:
            return "xlsb"
        if any(entry.startswith("xl/") for entry in names):
            return "xlsx"
        if kind == b"application/vnd.oasis.opendocument.spreadsheet":
            return "ods"
        return "" if "word/document.xml" in names or kind else "zip"
    if name.lower().endswith(SPREADSHEETS):
        return "unknown"
    return "csv" if name.lower().endswith(".csv") else ""


def _checked_zip(content: bytes) -> zipfile.ZipFile:
    """A zip within the limits; names without UTF-8 flag are GB18030, as Chinese Windows writes them."""
    archive = zipfile.ZipFile(io.BytesIO(content), metadata_encoding="gb18030")
    members = archive.infolist()
    names = [member.filename for member in members]
    total = sum(member.file_size for member in members)
    if (
        len(members) > ZIP_MEMBERS
        or total > ZIP_BYTES
        or any(member.file_size > ZIP_MEMBER_BYTES for member in members)
        or len(names) != len(set(names))
        # Small files of nothing but blanks are honest and compress well.
        or (total > 1 << 20 and total > ZIP_RATIO * len(content))
    ):
        raise TooLarge
    return archive


# ---- workbooks -------------------------------------------------------------------------------------------


def _read_workbook(content: bytes, kind: str) -> list[dict[str, Any]]:
    if kind not in ("xlsx", "ods", "xls"):
        raise NotImplementedError(kind)
    formulas: dict[str, list[tuple[int, int]]] = {}
    if kind != "xls":
        with _checked_zip(content) as archive:
            formulas = _scan_xlsx(archive) if kind == "xlsx" else _scan_ods(archive)
    book = CalamineWorkbook.from_filelike(io.BytesIO(content))
    sheets = []
    for name in book.sheet_names:
        try:
            table = book.get_sheet_by_name(name)
        except CalamineError:
            # A chart sheet has no cells.
            continue
        if (
            table.total_height > MAX_ROWS
            or table.total_width > MAX_COLUMNS
            or table.total_height * table.total_width > MAX_CELLS
        ):
            raise TooLarge
        rows = [[_cell_text(cell) for cell in row] for row in table.to_python(skip_empty_area=False)]
        sheets.append({"name": name, "rows": rows, "formulas": formulas.get(name, [])})
    return sheets


def _read_csv(content: bytes, name: str) -> list[dict[str, Any]]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("gb18030")
    rows: list[list[str | None]] = []
    for row in csv.reader(io.StringIO(text, newline=""), delimiter="\t" if "\t" in text.partition("\n")[0] else ","):
        if len(rows) >= MAX_ROWS or len(row) > MAX_COLUMNS:
            raise TooLarge
        rows.append([_visible(cell) or None for cell in row])
    return [{"name": _visible(Path(name).stem), "rows": rows, "formulas": []}]


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
    return _visible(str(cell))


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

    _parse(archive, "xl/_rels/workbook.xml.rels", relation)
    _parse(archive, "xl/workbook.xml", sheet)
    found = {}
    # Sheets no relation names are scanned too: a reader may know another way to them.
    parts = {path: name for name, target in sheets if (path := targets.get(target, ""))}
    for path in sorted(
        entry for entry in names if entry.startswith("xl/worksheets/") and entry.endswith(".xml")
    ) + sorted(path for path in parts if not path.startswith("xl/worksheets/")):
        scan = _CellScan()
        _parse(archive, path, scan.start)
        found[parts.get(path, path)] = scan.formulas
    return found


class _CellScan:
    """Places of the cells of one worksheet that hold anything."""

    def __init__(self) -> None:
        self.row = self.column = self.filled = 0
        self.formulas: list[tuple[int, int]] = []

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        if tag == "row":
            self.row, self.column = _whole(attributes.get("r"), self.row + 1), 0
        elif tag == "c":
            place = re.fullmatch(r"([A-Z]{1,7})(\d{1,12})", attributes.get("r", "").upper())
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
    _parse(archive, "content.xml", scan.start)
    return scan.formulas


class _OdsScan:
    """Places of the cells of one OpenDocument spreadsheet; rows and cells may stand for many like them."""

    def __init__(self) -> None:
        self.table = ""
        self.row = self.column = 0
        self.next_row = 1
        self.formulas: dict[str, list[tuple[int, int]]] = {}

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        own = {name.rpartition(":")[2]: value for name, value in attributes.items()}
        if tag == "table":
            self.table, self.row, self.column, self.next_row = own.get("name", ""), 0, 0, 1
            self.formulas.setdefault(self.table, [])
        elif tag == "table-row":
            self.row, self.column = self.next_row, 0
            self.next_row = self.row + _whole(own.get("number-rows-repeated"), 1)
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


class _Starts(ContentHandler):
    def __init__(self, start: Any) -> None:
        super().__init__()
        self._start = start

    def startElement(self, name: str, attrs: Any) -> None:
        self._start(name.rpartition(":")[2], dict(attrs.items()))


def _parse(archive: zipfile.ZipFile, path: str, start: Any) -> None:
    parser = create_parser()
    parser.setContentHandler(_Starts(start))
    with archive.open(path) as part:
        while block := part.read(1 << 16):
            parser.feed(block)
    parser.close()


if __name__ == "__main__":
    main()
