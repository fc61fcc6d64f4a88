"""What a file is by its bytes, and archives opened within the limits."""

from __future__ import annotations

import io
import zipfile

from tasks.sandbox.limits import ZIP_BYTES, ZIP_MEMBER_BYTES, ZIP_MEMBERS, ZIP_RATIO, TooLarge

OLE_MAGIC = bytes.fromhex("D0CF11E0A1B11AE1")
SPREADSHEETS = (".xls", ".xlsx", ".xlsm", ".xlsb", ".et", ".ods")


def kind_of(content: bytes, name: str) -> str:
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


def open_zip(content: bytes) -> zipfile.ZipFile:
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
