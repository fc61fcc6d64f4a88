"""Whatever a return is wrapped in is taken apart within limits, or refused with advice that a branch can follow."""

from __future__ import annotations

import base64
import io
import os
import random
import struct
import subprocess
import time
import wave
import zipfile
from datetime import date
from email.message import EmailMessage
from pathlib import Path

import pandas as pd
import py7zr
import pytest
import pyzipper
import xlsxwriter
from letters import (
    BRANCH,
    KEY,
    PASSWORD,
    SECOND,
    SHEET,
    accepted,
    bombed,
    expected_calls,
    letter,
    opened,
    settings_for,
)

from models.returns import PROBLEMS, Opened, judge_rows, judge_sender, match_files
from models.row_code import row_code
from models.sheets import CALLBACK
from tasks.mailbox import open_messages

CODE = row_code("assignment", 17, KEY)
OTHER = "b0202@branch.example"


def zipped(*members: tuple[str, bytes], password: str = "", names: str = "") -> bytes:
    """A zip; `names` is the charset in which its names are written without saying so, as on Chinese Windows."""
    file = io.BytesIO()
    if password:
        with pyzipper.AESZipFile(file, "w", pyzipper.ZIP_DEFLATED, encryption=pyzipper.WZ_AES) as archive:
            archive.setpassword(password.encode())
            for name, content in members:
                archive.writestr(name, content)
        return file.getvalue()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, (name, content) in enumerate(members):
            archive.writestr(f"{number:0{len(name.encode(names))}d}" if names else name, content)
    whole = file.getvalue()
    for number, (name, _) in enumerate(members):
        if names:
            whole = whole.replace(f"{number:0{len(name.encode(names))}d}".encode(), name.encode(names))
    return whole


def seven_zipped(*members: tuple[str, bytes], password: str | None = None, hidden: bool = False) -> bytes:
    file = io.BytesIO()
    with py7zr.SevenZipFile(file, "w", password=password, header_encryption=hidden) as archive:
        for name, content in members:
            archive.writestr(content, name)
    return file.getvalue()


def winmail(*attachments: tuple[bytes, bytes]) -> bytes:
    """A winmail.dat as Outlook writes it: short names in the code page of its Windows."""

    def attribute(level: int, number: int, kind: int, data: bytes) -> bytes:
        return struct.pack("<BHHI", level, number, kind, len(data)) + data + struct.pack("<H", sum(data) & 0xFFFF)

    stream = struct.pack("<IH", 0x223E9F78, 1) + attribute(1, 0x9006, 8, struct.pack("<I", 0x10000))
    for name, content in attachments:
        stream += attribute(2, 0x9002, 6, bytes(14)) + attribute(2, 0x8010, 1, name + b"\0")
        stream += attribute(2, 0x800F, 6, content)
    return stream


def forwarding(inner: bytes | EmailMessage, sender: str = BRANCH, encoding: str = "") -> bytes:
    content = bytes(inner)
    head = f"From: {sender}\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n"
    head += "Content-Type: message/rfc822\r\n" + (f"Content-Transfer-Encoding: {encoding}\r\n" if encoding else "")
    body = base64.encodebytes(content) if encoding == "base64" else content
    return head.encode() + b"\r\n" + body + b"\r\n--x--\r\n"


def errors(message: Opened) -> list[str]:
    return [book.error for book in message.workbooks if book.error]


# ---- wrappings


PACKED = [
    ("全部.zip", zipped(("回访登记表.xlsx", SHEET))),
    ("全部.zip", zipped(("回访登记表.xlsx", SHEET), names="gb18030")),
    ("全部.zip", zipped(("回访登记表.xlsx", SHEET), names="utf-8")),
    ("全部.zip", zipped(("回访登记表.xlsx", SHEET), password=PASSWORD)),
    ("全部.zip", zipped(("内.zip", zipped(("回访登记表.xlsx", SHEET))))),
    ("全部.7z", seven_zipped(("a/回访登记表.xlsx", SHEET))),
    ("全部.7z", seven_zipped(("回访登记表.xlsx", SHEET), password=PASSWORD)),
    ("全部.7z", seven_zipped(("回访登记表.xlsx", SHEET), password=PASSWORD, hidden=True)),
    ("全部.zip", zipped(("内.7z", seven_zipped(("回访登记表.xlsx", SHEET))))),
    ("winmail.dat", winmail(("回访登记表.xlsx".encode("gbk"), SHEET))),
    ("winmail.dat", winmail(("全部.zip".encode("gbk"), zipped(("回访登记表.xlsx", SHEET))))),
    ("转发.eml", bytes(letter(("回访登记表.xlsx", SHEET)))),
    ("没有名字", SHEET),
]


def test_a_sheet_counts_whatever_it_is_packed_in(tmp_path: Path) -> None:
    for (name, _), message in zip(PACKED, opened(tmp_path, *(letter(packed) for packed in PACKED)), strict=True):
        assert accepted(message) == [17], name
        assert errors(message) == [], name
        assert name == "没有名字" or [book.name for book in message.workbooks] == ["回访登记表.xlsx"]


def test_a_zip_locked_the_old_way_is_opened_with_the_branchs_password(tmp_path: Path) -> None:
    if not Path("/usr/bin/zip").exists():
        pytest.skip("no zip on this machine (apt install zip)")
    (tmp_path / "a.xlsx").write_bytes(SHEET)
    subprocess.run(["zip", "-q", "-P", "last year's", "old.zip", "a.xlsx"], cwd=tmp_path, check=True)
    (message,) = opened(tmp_path, letter(("old.zip", (tmp_path / "old.zip").read_bytes())))
    assert accepted(message) == [17]


def test_an_archive_locked_with_another_password_is_told_so(tmp_path: Path) -> None:
    packed = [pack(("回访.xlsx", SHEET), password="somebody else's") for pack in (zipped, seven_zipped)]
    found = opened(tmp_path, *(letter(("a", content)) for content in packed))
    assert [errors(message) for message in found] == [["wrong_password"]] * 2


def test_what_a_mac_leaves_in_a_zip_is_no_workbook(tmp_path: Path) -> None:
    packed = zipped(("回访.xlsx", SHEET), ("__MACOSX/._回访.xlsx", b"\0\5\x16\7"), ("~$回访.xlsx", b"\7"))
    (message,) = opened(tmp_path, letter(("a.zip", packed)))
    assert (accepted(message), errors(message)) == ([17], [])


def test_archives_that_cannot_be_opened_and_split_messages_are_refused_with_advice(tmp_path: Path) -> None:
    split = b"From: b0101@branch.example\r\nContent-Type: message/partial; id=1; number=1; total=2\r\n\r\n"
    found = opened(
        tmp_path,
        letter(("回访.rar", b"Rar!\x1a\x07\x01\x00" + bytes(90))),
        letter(("回访.tar.gz", b"\x1f\x8b\x08" + bytes(90))),
        letter(("回访.zip", zipped(("里面.rar", b"Rar!\x1a\x07\x00" + bytes(90))))),
        split + bytes(letter(("a.xlsx", SHEET)))[:3000],
    )
    assert [errors(message) for message in found] == [["archive"]] * 3 + [["partial"]]
    for message in found:
        judged = judge_rows(CALLBACK, message, expected_calls(), [KEY], branch_no="0101", as_of=date(2026, 3, 10))
        assert set(judged.problems["code"]) == set(errors(message)) <= set(PROBLEMS)


def test_a_worksheet_that_cannot_be_read_is_not_left_out_silently_but_a_chart_is(tmp_path: Path) -> None:
    broken = bombed(
        SECOND, b'<worksheet><sheetData><row r="1"><c r="A1" t="s"><v>7</v></c></row></sheetData></worksheet>'
    )
    file = io.BytesIO()
    with xlsxwriter.Workbook(file, {"in_memory": True}) as book:
        book.add_chartsheet().set_chart(chart := book.add_chart({"type": "column"}))
        table = book.add_worksheet("表")
        table.write_column(0, 0, [1, 2])
        chart.add_series({"values": "=表!$A$1:$A$2"})
    first, second = opened(tmp_path, letter(("a.xlsx", broken)), letter(("b.xlsx", file.getvalue())))
    assert errors(first) == ["unreadable"]
    assert [[sheet.name for sheet in book.sheets] for book in second.workbooks] == [["表"]]


# ---- messages in messages


def test_a_clerks_letter_passed_on_by_the_branch_counts_as_the_branchs(tmp_path: Path) -> None:
    clerk = letter(("回访.xlsx", SHEET), sender="clerk@home.example")
    for message in opened(tmp_path, forwarding(clerk), forwarding(clerk, encoding="base64")):
        assert [(book.name, book.depth) for book in message.workbooks] == [("回访.xlsx", 1)]
        assert list(message.from_addresses) == [BRANCH]
        assert accepted(message) == [17]


def test_an_old_return_passed_on_by_another_branch_or_by_headquarters_is_no_new_one(tmp_path: Path) -> None:
    (message,) = opened(tmp_path, forwarding(letter(("回访.xlsx", SHEET)), sender=OTHER))
    for branch, code in (("0202", "other_branch"), ("HQ", "forwarded")):
        judged = judge_rows(CALLBACK, message, expected_calls(), [KEY], branch_no=branch, as_of=date(2026, 3, 10))
        assert judged.accepted.empty
        assert set(judged.problems["code"]) == {code}


def test_the_sheet_that_is_attached_counts_before_the_one_in_the_letter_below(tmp_path: Path) -> None:
    old = letter(("旧.csv", f"任务编码,客户姓名,回访结果\n{CODE},张*,错\n".encode()), ("b.rar", b"Rar!\x1a\x07\x00"))
    reply = letter(("新.xlsx", SHEET))
    reply.add_attachment(old)
    (message,) = opened(tmp_path, reply)
    assert [book.depth for book in message.workbooks] == [0, 1, 1]
    judged = judge_rows(CALLBACK, message, expected_calls(), [KEY], branch_no="0101", as_of=date(2026, 3, 10))
    assert list(judged.accepted["assignment_id"]) == [17]
    assert "archive" not in set(judged.problems["code"])


# ---- evidence


def recording() -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setparams((1, 2, 8000, 80, "NONE", ""))
        sound.writeframes(bytes(160))
    return file.getvalue()


EVIDENCE = [
    (b"%PDF-1.7\n", "application/pdf"),
    (b"\r\n%PDF-1.4\n", "application/pdf"),
    (b"\xff\xd8\xff\xe0\0\x10JFIF\0", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"ID3\4\0\0", "audio/mpeg"),
    (b"\xff\xfb\x90\x64" + bytes(40), "audio/mpeg"),
    (b"\xff\xf3\x48\xc4" + bytes(40), "audio/mpeg"),
    (recording(), "audio/wav"),
    (b"#!AMR\n\x3c", "audio/amr"),
    (b"\0\0\0\x20ftypM4A \0\0\0\0", "audio/mp4"),
    (b"\0\0\0\x18ftypmp42\0\0\0\0", "video/mp4"),
    (b"\x02#!SILK_V3", "audio/silk"),
    (b"just text", "application/octet-stream"),
    (b"\xff\xfe\x31\0\x32\0", "application/octet-stream"),
]


def test_scans_and_recordings_are_known_by_their_bytes(tmp_path: Path) -> None:
    found = opened(tmp_path, *(letter((f"{CODE}.bin", content)) for content, _ in EVIDENCE))
    assert [message.files[0].media_type for message in found] == [media_type for _, media_type in EVIDENCE]
    for message in found:
        assert not message.files[0].is_workbook
        assert match_files(message, [KEY]) == {1: ("assignment", 17)}


def test_a_recording_cut_off_on_its_way_is_sent_back_and_proves_nothing(tmp_path: Path) -> None:
    whole = bytes(letter((f"{CODE}.mp3", b"ID3" + os.urandom(5000))))
    (message,) = opened(tmp_path, whole[: len(whole) // 2])
    assert match_files(message, [KEY]) == {}
    judged = judge_rows(CALLBACK, message, expected_calls(), [KEY], branch_no="0101", as_of=date(2026, 3, 10))
    assert list(judged.problems["code"]) == ["truncated"]


# ---- tables as text


def test_a_table_saved_as_text_is_read_in_every_charset(tmp_path: Path) -> None:
    mails = []
    for charset in ("utf-8", "utf-8-sig", "gb18030", "utf-16"):
        for name, sign in (("表.csv", ","), ("表.tsv", "\t"), ("", ",")):
            text = f"任务编码{sign}客户姓名\n{CODE}{sign}朱镕基\n".encode(charset)
            message = letter()
            message.add_attachment(text, "text", "csv", **({"filename": name} if name else {}))
            mails.append(message)
    for message in opened(tmp_path, *mails):
        assert message.workbooks[0].sheets[0].rows == [["任务编码", "客户姓名"], [CODE, "朱镕基"]]


# ---- charsets


def word(text: str, label: bytes) -> bytes:
    return b"=?" + label + b"?B?" + base64.b64encode(text.encode("gbk")) + b"?="


def test_names_and_subjects_keep_their_characters_under_every_label(tmp_path: Path) -> None:
    mails = []
    for label in (b"gb2312", b"GB2312", b"gbk", b"x-gbk", b"cp936", b"csgb2312", b"gb18030", b"euc-cn"):
        rare = b"=?" + label + b"?B?" + base64.b64encode("喆".encode("gb18030")) + b"?="
        escaped = "".join(f"%{byte:02X}" for byte in "镕喆.bin".encode("gb18030")).encode()
        mails.append(
            b"From: " + rare + b" <b0101@branch.example>\r\nSubject: " + word("朱镕基，陶喆", label)
            + b"\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n"
            b'Content-Type: application/octet-stream;\r\n name="' + word("镕.bin", label) + b'"\r\n\r\nx\r\n--x\r\n'
            b"Content-Type: application/octet-stream\r\nContent-Disposition: attachment;\r\n filename*="
            + label + b"''" + escaped + b"\r\n\r\ny\r\n--x--\r\n"
        )  # fmt: skip
    for message in opened(tmp_path, *mails):
        assert (message.subject, [file.name for file in message.files]) == ("朱镕基，陶喆", ["镕.bin", "镕喆.bin"])
        assert (list(message.from_addresses), list(message.from_defects)) == ([BRANCH], [])


def test_headers_of_raw_bytes_and_words_broken_within_a_character_are_read(tmp_path: Path) -> None:
    mails = []
    for charset in ("utf-8", "gbk"):
        mails.append(
            b"From: b0101@branch.example\r\nSubject: " + "回访结果朱镕基".encode(charset) + b"\r\nMIME-Version: 1.0\r\n"
            b'Content-Type: application/octet-stream; name="' + "录音镕.bin".encode(charset) + b'"\r\n\r\nx'
        )
        whole, label = "回访登记表".encode(charset), charset.encode()
        words = (b"=?" + label + b"?B?" + base64.b64encode(half) + b"?=" for half in (whole[:5], whole[5:]))
        mails.append(b"From: b0101@branch.example\r\nSubject: " + b"\r\n ".join(words) + b"\r\n\r\nx")
    found = opened(tmp_path, *mails)
    assert [message.subject for message in found] == ["回访结果朱镕基", "回访登记表"] * 2
    assert [file.name for message in found for file in message.files] == ["录音镕.bin"] * 2


# ---- bombs


def nested(depth: int, innermost: bytes, kind: str = "multipart/mixed") -> bytes:
    message = innermost
    for level in range(depth):
        if kind == "message/rfc822":
            message = b"From: b0101@branch.example\r\nContent-Type: message/rfc822\r\n\r\n" + message
        else:
            edge = f"b{level}b".encode()
            head = b"From: b0101@branch.example\r\nContent-Type: multipart/mixed; boundary=" + edge
            message = head + b"\r\n\r\n--" + edge + b"\r\n" + message + b"\r\n--" + edge + b"--\r\n"
    return message


def quine_zip(levels: int) -> bytes:
    content = b"0" * 1000
    for _ in range(levels):
        content = zipped(("r.zip", content))
    return content


def big_7z() -> bytes:
    return seven_zipped(("0.csv", bytes(70 << 20)))


def many(parts: int) -> bytes:
    part = b"--x\r\nContent-Type: image/png\r\n\r\n"
    head = b"From: b0101@branch.example\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n"
    return head + b"".join(part + str(number).encode() + b"\r\n" for number in range(parts)) + b"--x--\r\n"


PLAIN = b"Content-Type: text/plain\r\n\r\nhi"
BOMBS = {
    "multiparts a thousand deep": lambda: nested(1000, PLAIN),
    "messages a thousand deep": lambda: nested(1000, PLAIN, "message/rfc822"),
    "messages ten deep": lambda: nested(10, PLAIN, "message/rfc822"),
    "a hundred thousand parts": lambda: many(100_000),
    "a header of ten megabytes": lambda: b"From: " + b"a@b.cn, " * 1_250_000 + b"\r\n\r\nhi",
    "a subject of ten megabytes": lambda: b"From: b0101@branch.example\r\nSubject: " + b"=?gbk?B?u9g=?= " * 700_000 + b"\r\n\r\nx",
    "a hundred thousand headers": lambda: b"From: b0101@branch.example\r\n" * 100_000 + b"\r\nhi",
    "zip in zip in zip": lambda: bytes(letter(("r.zip", quine_zip(6)))),
    "a zip of seventy megabytes": lambda: bytes(letter(("0.zip", zipped(("0.csv", bytes(70 << 20)))))),
    "a 7z of seventy megabytes": lambda: bytes(letter(("0.7z", big_7z()))),
    "twenty zips of ninety megabytes": lambda: bytes(
        letter(*[(f"{n}.zip", zipped(*((f"{m}.bin", random.Random(m).randbytes(9 << 10) * 1000) for m in range(2)))) for n in range(20)])
    ),
    "a zip of three thousand files": lambda: bytes(letter(("0.zip", zipped(*((f"{n}", b"0") for n in range(3000)))))),
    "a file name of a megabyte": lambda: bytes(letter(("a.xlsx", b"MZ"))).replace(b"a.xlsx", b"a" * (1 << 20)),
    "a table of ten million commas": lambda: bytes(letter(("a.csv", b"," * 10_000_000))),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_costs_one_message_for_a_bounded_time_and_says_why(tmp_path: Path, name: str) -> None:
    bomb = BOMBS[name]()
    started = time.monotonic()
    message, honest = opened(tmp_path, bomb, letter(("a.xlsx", SHEET)))
    assert time.monotonic() - started < 70
    assert accepted(honest) == [17]
    assert accepted(message) == []
    roster = pd.DataFrame([{"branch_no": "0101", "role": "x", "email": BRANCH}])
    sender = judge_sender(message, roster, "huifang@hq.example")
    reasons = {message.error, sender.reason, *errors(message)} - {""}
    assert reasons & {
        "too_large", "too_many_parts", "unreadable", "timeout", "from_defect", "several_from_headers", "no_from",
    } or name in ("a subject of ten megabytes", "a file name of a megabyte"), reasons  # fmt: skip


@pytest.mark.long
def test_a_gigabyte_of_base64_costs_one_message(tmp_path: Path) -> None:
    path, good = tmp_path / "big.eml", tmp_path / "good.eml"
    with path.open("wb") as file:
        file.write(b"From: b0101@branch.example\r\nContent-Transfer-Encoding: base64\r\n\r\n")
        block = (b"QUFB" * 19 + b"\r\n") * 10_000
        while file.tell() < 1 << 30:
            file.write(block)
    good.write_bytes(bytes(letter(("a.xlsx", SHEET))))
    large, read = open_messages([path, good], {}, settings_for(tmp_path))
    path.unlink()
    assert (large.error, accepted(read)) == ("too_large", [17])


def test_a_disk_that_takes_no_file_holds_the_message_back(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    settings.spool.mkdir()
    (settings.spool / "parts").symlink_to("/proc")
    (message,) = opened(tmp_path, letter(("a.xlsx", SHEET)))
    assert message.error == "unkept"
    assert judge_sender(message, pd.DataFrame(columns=["email", "branch_no"]), "x").verdict == "held"
