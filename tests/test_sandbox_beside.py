"""What a stranger's file costs is that file: it is named with a reason, in little time, and the sheet beside it counts."""

from __future__ import annotations

import io
import struct
import time
import zipfile
import zlib
from datetime import date
from pathlib import Path

import pytest
from letters import BRANCH, KEY, SHEET, accepted, cells_of, encrypted, expected_calls, letter, opened
from test_odd_kinds import ole
from test_sandbox import errors, nested, seven_zipped, zipped

from models.returns import PROBLEMS, judge_rows
from models.returns.opened import TRUNCATED
from models.sheets import CALLBACK
from tasks.sandbox.limits import CUT_OFF

OWN = ("回访登记表.xlsx", SHEET)


def long_list(entries: int) -> bytes:
    """A zip whose list names one empty file under as many names."""
    name, end = b"0000000", len(b"0000000")
    local = b"PK\3\4" + struct.pack("<5H3I2H", 20, 0, 0, 0, 0, 0, 0, 0, end, 0) + name
    listed = b"".join(
        b"PK\1\2" + struct.pack("<6H3I5H2I", 20, 20, 0, 0, 0, 0, 0, 0, 0, end, 0, 0, 0, 0, 0, 0) + b"%07d" % number
        for number in range(entries)
    )
    return local + listed + b"PK\5\6" + struct.pack("<4H2IH", 0, 0, entries, entries, len(listed), len(local), 0)


def spoilt_zip() -> bytes:
    """A zip whose packed bytes say nothing that can be unpacked."""
    whole = bytearray(zipped(("扫描.bin", SHEET * 2)))
    place = whole.index(b"PK\1\2") // 2
    whole[place : place + 300] = b"\xff" * 300
    return bytes(whole)


def endless_rounds() -> bytes:
    """A 7z that asks for 2^40 rounds of hashing before its password can be tried."""
    whole = bytearray(seven_zipped(OWN, password="x", hidden=True))
    place = whole.index(b"\x24\x06\xf1\x07\x01")
    whole[place + 6] = whole[place + 6] & 0xC0 | 40
    start, size = struct.unpack_from("<QQ", whole, 12)
    struct.pack_into("<I", whole, 28, zlib.crc32(whole[32 + start : 32 + start + size]))
    struct.pack_into("<I", whole, 8, zlib.crc32(whole[12:32]))
    return bytes(whole)


def ods_of(cell: str, tables: int = 1) -> bytes:
    office = "urn:oasis:names:tc:opendocument:xmlns:"
    table = f'<t:table t:name="a"><t:table-row><t:table-cell o:value-type="string">{cell}</t:table-cell></t:table-row></t:table>'
    content = (
        f'<o:document-content xmlns:o="{office}office:1.0" xmlns:t="{office}table:1.0" xmlns:x="{office}text:1.0">'
        f"<o:body><o:spreadsheet>{table * tables}</o:spreadsheet></o:body></o:document-content>"
    )
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet", zipfile.ZIP_STORED)
        archive.writestr("content.xml", content)
    return file.getvalue()


def sheets_of_one_part(count: int, cells: int) -> bytes:
    """A workbook of so many worksheets, all of which are the same part."""
    space = "http://schemas.openxmlformats.org/"
    kind = f"{space}officeDocument/2006/relationships"
    sheets = "".join(f'<sheet name="s{number}" sheetId="{number + 1}" r:id="a"/>' for number in range(count))
    book = f'<workbook xmlns="{space}spreadsheetml/2006/main" xmlns:r="{kind}"><sheets>{sheets}</sheets></workbook>'
    target = f'<Relationship Id="a" Type="{kind}/worksheet" Target="worksheets/sheet1.xml"/>'
    links = f'<Relationships xmlns="{space}package/2006/relationships">{target}</Relationships>'
    whole = zipfile.ZipFile(io.BytesIO(SHEET))
    return zipped(
        *((name, whole.read(name)) for name in ("[Content_Types].xml", "_rels/.rels")),
        ("xl/workbook.xml", book.encode()),
        ("xl/_rels/workbook.xml.rels", links.encode()),
        ("xl/worksheets/sheet1.xml", cells_of("<c><v>1</v></c>", cells)),
    )


def endless_properties() -> bytes:
    """A winmail.dat of 53 bytes that says it holds a property of nine hundred million values."""
    many = struct.pack("<IHH16sIII", 1, 0x1003, 0x8000, bytes(16), 0, 0, 0x340D0003)[:36]
    return struct.pack("<IHBHHI", 0x223E9F78, 1, 1, 0x9003, 6, len(many)) + many + b"\0\0"


def corners(tables: int) -> bytes:
    """A workbook of the old kind whose worksheets each hold two cells, in the first and in the last corner."""

    def record(number: int, data: bytes = b"") -> bytes:
        return struct.pack("<HH", number, len(data)) + data

    def begin(kind: int) -> bytes:
        return record(0x809, struct.pack("<HHHHII", 0x600, kind, 0, 0, 0, 0))

    cells = (record(0x203, struct.pack("<HHHd", row, column, 0, 1.0)) for row, column in ((0, 0), (65535, 255)))
    table = begin(0x10) + b"".join(cells) + record(0xA)
    start = len(begin(5)) + tables * len(record(0x85, bytes(9))) + len(record(0xA))
    listed = b"".join(record(0x85, struct.pack("<IBBBB", start, 0, 0, 1, 0) + b"s") for _ in range(tables))
    return ole({"Workbook": begin(5) + listed + record(0xA) + table})


def deep_zip(levels: int) -> bytes:
    content = zipped(("a.txt", b"x"))
    for level in range(levels):
        content = zipped(*((f"{level}{number}.zip", content) for number in range(8)))
    return content


FILES = {
    "long list.zip": (long_list(30_000), "too_large"),
    "long list.xlsx": (long_list(30_000), "too_large"),
    "spoilt.zip": (spoilt_zip(), "unreadable"),
    "rounds.7z": (endless_rounds(), "too_large"),
    "rounds.xlsx": (encrypted(SHEET).replace(b'spinCount="100000"', b'spinCount="999999"'), "too_large"),
    "blanks.ods": (ods_of('<x:p><x:s x:c="4000000000"/></x:p>'), "too_large"),
    "tables.ods": (ods_of("<x:p>1</x:p>", 600), "too_large"),
    "commas.csv": ((",".join(["1"] * 299) + "\n").encode() * 1700, "too_large"),
    "one part.xlsx": (sheets_of_one_part(300, 5000), "too_large"),
    "sheets.xlsx": (sheets_of_one_part(600, 100), "too_large"),
    "corners.xls": (corners(9), "too_large"),
    "winmail.dat": (endless_properties(), "too_large"),
    "deep.zip": (deep_zip(3), "too_many_parts"),
    "deep.eml": (nested(9, b"Content-Type: text/plain\r\n\r\nhi", "message/rfc822"), "too_many_parts"),
    "lines.eml": (b"Subject: x\r\n\r\n" + b"\n" * 1_100_000, "too_large"),
}  # fmt: skip


def test_a_file_that_would_cost_too_much_is_named_and_the_sheet_after_it_counts(tmp_path: Path) -> None:
    began = time.monotonic()
    mails = [letter((name, content), OWN) for name, (content, _) in FILES.items()]
    for (name, (_, code)), message in zip(FILES.items(), opened(tmp_path, *mails), strict=True):
        assert (message.error, accepted(message), errors(message)) == ("", [17], [code]), name
        judged = judge_rows(CALLBACK, message, expected_calls(), [KEY], branch_no="0101", as_of=date(2026, 3, 10))
        assert code in set(judged.problems["code"]) & set(PROBLEMS) or any(book.depth for book in message.workbooks), (
            name
        )
    assert time.monotonic() - began < 60


def test_the_cells_of_all_workbooks_of_a_message_are_bounded(tmp_path: Path) -> None:
    table = (",".join(["1"] * 290) + "\n").encode() * 1700
    message = letter(OWN, *((f"{number}.csv", table) for number in range(4)))
    (found,) = opened(tmp_path, message)
    assert (accepted(found), errors(found)) == ([17], ["too_large"] * 2)


# ---- messages


def with_sheet(head: bytes, *more: bytes) -> bytes:
    edge = b"--b\r\n"
    sheet = bytes(letter(OWN)).partition(b"MIME-Version")[2].partition(b"\n")[2]
    whole = b"From: " + BRANCH.encode() + b"\r\n" + head + b"\r\n\r\n" + edge + sheet
    return whole + b"".join(b"\r\n" + edge + part for part in more) + b"\r\n--b--\r\n"


HEAVY = {
    "a type of a million parameters": with_sheet(b'Content-Type: multipart/mixed; boundary="b"' + b";" * 1_000_000),
    "a type of quotes": with_sheet(b'Content-Type: multipart/mixed; boundary="b"; x="' + b';\\"' * 100_000),
    "a name in a hundred thousand pieces": with_sheet(
        b"Content-Type: multipart/mixed; boundary=b",
        b"Content-Type: text/plain"
        + b"".join(b";\r\n name*%d*=%%41" % piece for piece in range(100_000))
        + b"\r\n\r\nx",
    ),
}


PIECES = {
    "of a part": with_sheet(
        b"Content-Type: multipart/mixed; boundary=b",
        b"Content-Type: text/plain; charset*=a; charset*0*=b\r\n\r\nx",
        b"Content-Type: text/plain; name=a.txt; x*=utf-8''a; x*1=b\r\nContent-Disposition: attachment; x*; x*0=c\r\n\r\nx",
    ),
    "beside the boundary": with_sheet(b"Content-Type: multipart/mixed; x*=a; x*0*=b; boundary=b"),
}


def test_pieces_of_a_parameter_that_contradict_each_other_cost_no_more_than_that_parameter(tmp_path: Path) -> None:
    parts, edge = opened(tmp_path, *PIECES.values())
    assert (parts.error, accepted(parts), errors(parts)) == ("", [17], [])
    assert (edge.error, edge.workbooks) == ("", [])


def test_a_header_of_any_length_is_read_in_time(tmp_path: Path) -> None:
    began = time.monotonic()
    for name, message in zip(HEAVY, opened(tmp_path, *HEAVY.values()), strict=True):
        assert (message.error, accepted(message), errors(message)) == ("", [17], []), name
    assert time.monotonic() - began < 30


def test_a_message_of_more_parts_or_lines_than_a_return_has_is_refused_in_time(tmp_path: Path) -> None:
    head = b"Content-Type: multipart/mixed; boundary=b"
    texts, lines, deep = opened(
        tmp_path,
        with_sheet(head, *[b"\r\nx"] * 5000),
        with_sheet(head, b"\r\n" + b"\n" * 1_100_000),
        nested(200, b"\r\n" + b"x\r\n" * 400_000),
    )
    assert (texts.error, accepted(texts), errors(texts)) == ("", [17], ["too_many_parts"])
    assert (lines.error, deep.error) == ("too_large", "too_large")


def test_scans_and_recordings_that_take_long_to_measure_are_kept_unmeasured(tmp_path: Path) -> None:
    file = b"fLaC" + b"\1\0\0\0" * 5_000_000
    (message,) = opened(tmp_path, letter(("录音.flac", file), OWN))
    assert (message.error, accepted(message)) == ("", [17])
    assert next((file.size_bytes, file.seconds, file.fault) for file in message.files) == (len(file), None, "")


@pytest.mark.parametrize("encoding", [b"base64", b"quoted-printable"])
def test_an_attached_letter_under_an_encoding_it_does_not_keep_to_costs_itself(tmp_path: Path, encoding: bytes) -> None:
    attached = b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: " + encoding + b"\r\n\r\n"
    mails = [
        with_sheet(b"Content-Type: multipart/mixed; boundary=b", attached + "回访".encode(charset) + b"=\xff\r\n")
        for charset in ("utf-8", "gb18030")
    ]
    for message in opened(tmp_path, *mails):
        assert (message.error, accepted(message)) == ("", [17])


CLERK = bytes(letter(("旧.xlsx", SHEET), ("录音.mp3", b"ID3" + bytes(3000)), sender="clerk@home.example"))


@pytest.mark.parametrize("cut", [CLERK[:-30], CLERK[: len(CLERK) // 2], CLERK.replace(b"boundary=", b"boundary=x")])
def test_a_letter_that_is_cut_off_brings_nothing_and_takes_nothing_from_the_sheet_beside_it(
    tmp_path: Path, cut: bytes
) -> None:
    beside, alone = opened(tmp_path, letter(("转发.eml", cut), OWN), letter(("转发.eml", cut)))
    assert accepted(beside) == [17]
    judged = judge_rows(CALLBACK, beside, expected_calls(), [KEY], branch_no="0101", as_of=date(2026, 3, 10))
    assert "truncated" not in set(judged.problems["code"])
    assert accepted(alone) == []
    assert set(errors(alone)) <= {"truncated"}
    assert all(file.fault for message in (beside, alone) for file in message.files if file.depth)
    assert CUT_OFF == TRUNCATED
