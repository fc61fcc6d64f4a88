"""What a file is by its bytes; a name is believed only where bytes cannot tell."""

from __future__ import annotations

import io
import zipfile

from tasks.sandbox.archives import check_directory
from tasks.sandbox.limits import ZIP_MEMBERS
from tasks.sandbox.outlook import kind_of_ole

OLE_MAGIC = bytes.fromhex("D0CF11E0A1B11AE1")
TNEF_MAGIC = bytes.fromhex("789F3E22")
SPREADSHEETS = (".xls", ".xlsx", ".xlsm", ".xlsb", ".et", ".ods")
TABLES = ("text/csv", "text/tab-separated-values")
_ARCHIVES = (b"Rar!\x1a\x07", b"\x1f\x8b\x08", b"\xfd7zXZ\x00", b"BZh", b"MSCF", b"**ACE**", b"(\xb5/\xfd")
_SIGNATURES = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF8", "image/gif"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"ID3", "audio/mpeg"),
    (b"#!AMR", "audio/amr"),
    (b"#!SILK_V3", "audio/silk"),
    (b"\x02#!SILK_V3", "audio/silk"),  # as WeChat writes its voice messages
    (b"OggS", "audio/ogg"),
    (b"fLaC", "audio/flac"),
)


def kind_of(content: bytes, name: str, media_type: str = "") -> str:
    """The container a file is: xlsx | xlsb | ods | ole | csv | zip | 7z | tnef | msg | mail | refused | unknown, '' for none.

    refused is an archive that nothing here opens, unknown a file that only its name calls a workbook.
    """
    name = name.lower()
    if content.startswith(OLE_MAGIC):
        return kind_of_ole(content)
    if content.startswith(b"PK"):
        return _kind_of_zip(content)
    if content.startswith(b"7z\xbc\xaf\x27\x1c"):
        return "7z"
    if content.startswith(TNEF_MAGIC):
        return "tnef"
    if content.startswith(_ARCHIVES) or content[257:262] == b"ustar":
        return "refused"
    if name.endswith(".eml") or media_type == "message/rfc822":
        return "mail"
    if name.endswith(SPREADSHEETS):
        return "unknown"
    return "csv" if name.endswith((".csv", ".tsv")) or (media_type in TABLES and not name) else ""


def media_type_of(content: bytes, name: str) -> str:
    """The media type of a scan or a recording by its first bytes; '' for what they do not tell.

    >>> media_type_of(b"#!AMR\\n" + bytes(9), "scan.pdf"), media_type_of(b"hello", "scan.pdf")
    ('audio/amr', '')
    """
    head = content[:1024]
    for magic, media_type in _SIGNATURES:
        if head.startswith(magic):
            return media_type
    if head.startswith(b"RIFF") and head[8:12] == b"WAVE":
        return "audio/wav"
    if head[4:8] == b"ftyp":
        if head[8:12] in (b"heic", b"heix", b"mif1"):
            return "image/heic"
        # Telephones give recordings the brands of films.
        return "audio/mp4" if head[8:11] == b"M4A" or name.lower().endswith((".m4a", ".aac")) else "video/mp4"
    if _begins_with_mp3_frame(head):
        return "audio/mpeg"
    # Scanners and mail programs put lines before a PDF's head; readers look for it in the first kilobyte.
    return "application/pdf" if b"%PDF-" in head else ""


def _begins_with_mp3_frame(head: bytes) -> bool:
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return False
    version, layer, bitrate, rate = head[1] >> 3 & 3, head[1] >> 1 & 3, head[2] >> 4, head[2] >> 2 & 3
    return version != 1 and layer == 1 and bitrate not in (0, 15) and rate != 3


def _kind_of_zip(content: bytes) -> str:
    try:
        check_directory(content)
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = set(archive.namelist()[: ZIP_MEMBERS + 1])
            is_marked = "mimetype" in names and archive.getinfo("mimetype").file_size < 100
            mark = archive.read("mimetype")[:60] if is_marked else b""
    except Exception:  # noqa: BLE001 (a parser on hostile bytes: opening it as a zip will tell what is wrong)
        return "zip"
    if "xl/workbook.bin" in names:
        return "xlsb"
    if any(entry.startswith("xl/") for entry in names):
        return "xlsx"
    if mark == b"application/vnd.oasis.opendocument.spreadsheet":
        return "ods"
    return "" if "word/document.xml" in names or mark else "zip"
