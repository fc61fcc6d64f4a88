"""Some sixty mails and forty workbooks as branches and strangers send them, and ways to spoil them; all made by code."""

from __future__ import annotations

import base64
import email
import email.policy
import html
import io
import random
import zipfile
from collections.abc import Iterator, Mapping
from email.message import Message
from functools import cache

import openpyxl
from letters import BRANCH, KEY, PASSWORD, SHEET, encrypted, letter
from test_sandbox import forwarding, nested, seven_zipped, winmail, zipped

from models.row_code import row_code

HQ, OTHER, STRANGER = "service@hq.example", "b0202@branch.example", "x@evil.example"
CODE = row_code("assignment", 17, KEY)
SOUND = b"ID3\4" + bytes(range(256)) * 8


def _saved(change) -> bytes:
    book = openpyxl.load_workbook(io.BytesIO(SHEET))
    change(book)
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def sheet_rows() -> list[list[str]]:
    table = openpyxl.load_workbook(io.BytesIO(SHEET)).worksheets[1]
    return [["" if cell is None else str(cell) for cell in row] for row in table.iter_rows(values_only=True)]


def _text(sign: str, rows: list[list[str]]) -> str:
    return "\r\n".join(sign.join(row) for row in rows) + "\r\n"


def ods_of(rows: list[list[str]]) -> bytes:
    office = "urn:oasis:names:tc:opendocument:xmlns:"
    cells = "".join(
        "<table:table-row>"
        + "".join(
            f'<table:table-cell office:value-type="string"><text:p>{html.escape(cell)}</text:p></table:table-cell>'
            for cell in row
        )
        + "</table:table-row>"
        for row in rows
    )
    content = (
        f'<office:document-content xmlns:office="{office}office:1.0" xmlns:table="{office}table:1.0" '
        f'xmlns:text="{office}text:1.0" office:version="1.2"><office:body><office:spreadsheet><table:table '
        f'table:name="回访登记表">{cells}</table:table></office:spreadsheet></office:body></office:document-content>'
    )
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr("META-INF/manifest.xml", f'<m:manifest xmlns:m="{office}manifest:1.0"/>')
        archive.writestr("content.xml", content.encode(), zipfile.ZIP_DEFLATED)
    return file.getvalue()


@cache
def workbooks() -> Mapping[str, bytes]:
    """Workbooks and tables by name, filled well, oddly and wrongly."""
    rows = sheet_rows()
    found = {"原样.xlsx": SHEET, "加密.xlsx": encrypted(SHEET), "旧口令.xlsx": encrypted(SHEET, "last year's")}
    found["别家口令.xlsx"] = encrypted(SHEET, "?")
    changes = {
        "插列": lambda book: book.worksheets[1].insert_cols(3),
        "插行": lambda book: book.worksheets[1].insert_rows(2, 5),
        "删表头": lambda book: book.worksheets[1].delete_rows(3),
        "删列": lambda book: book.worksheets[1].delete_cols(2),
        "加表": lambda book: book.create_sheet("统计").append(["合计", 2]),
        "改表名": lambda book: setattr(book.worksheets[1], "title", "Sheet1"),
        "隐藏": lambda book: setattr(book.worksheets[1], "sheet_state", "veryHidden"),
        "合并": lambda book: book.worksheets[1].merge_cells("A1:F1"),
        "错误值": lambda book: book.worksheets[1].cell(4, 12, "#N/A"),
        "数字": lambda book: book.worksheets[1].cell(4, 3, 13800001234),
        "浮点": lambda book: book.worksheets[1].cell(4, 3, 1.3800001234e10),
        "日期文字": lambda book: book.worksheets[1].cell(4, 9, "2026年3月5日"),
        "超长": lambda book: book.worksheets[1].cell(4, 20, "长" * 32_000),
        "控制符": lambda book: book.worksheets[1].cell(4, 20, "a_x0007_b\tc\nd"),
        "公式": lambda book: book.worksheets[1].cell(4, 14, '=HYPERLINK("http://x","y")'),
        "只有说明": lambda book: book.remove(book.worksheets[1]),
        "千行": lambda book: [book.worksheets[1].append([CODE, "张*"]) for _ in range(1000)],
        "重复行": lambda book: [book.worksheets[1].append([cell or None for cell in rows[3]]) for _ in range(3)],
        "全角": lambda book: book.worksheets[1].cell(4, 1, CODE.translate({n: n + 0xFEE0 for n in range(33, 127)})),
        "远处": lambda book: book.worksheets[1].cell(15_000, 200, "x"),
    }
    found |= {f"{name}.xlsx": _saved(change) for name, change in changes.items()}
    for charset in ("utf-8", "utf-8-sig", "gb18030", "utf-16", "big5"):
        found[f"{charset}.csv"] = _text(",", rows).encode(charset, "replace")
    found |= {"制表符.tsv": _text("\t", rows).encode(), "分号.csv": _text(";", rows).encode("gb18030")}
    found |= {"空.csv": b"\n", "零.csv": b"\0" * 500, "引号.csv": b'"a,b\n' * 200, "表.ods": ods_of(rows)}
    found |= {
        "网页.xls": b"<html><table><tr><td>1</td></tr></table></html>",
        "假.xls": bytes.fromhex("D0CF11E0A1B11AE1") * 99,
    }
    found |= {"坏.xlsx": SHEET[: len(SHEET) // 2], "尾.xlsx": SHEET + b"\0" * 100, "头.xlsx": b"\r\n" + SHEET}
    return found


@cache
def mails() -> Mapping[str, bytes]:
    """Mails by name: one for each workbook, the ways to wrap them, evidence, notices, forgeries."""
    sheet = ("回访登记表.xlsx", SHEET)
    found: dict[str, Message | bytes] = {f"表 {name}": letter((name, content)) for name, content in workbooks().items()}
    found |= {
        "zip": letter(("全部.zip", zipped(sheet, (f"{CODE}.mp3", SOUND)))),
        "zip gbk": letter(("全部.zip", zipped(sheet, names="gb18030"))),
        "zip 加密": letter(("全部.zip", zipped(sheet, password=PASSWORD))),
        "zip zip": letter(("全部.zip", zipped(("内.zip", zipped(sheet))))),
        "7z": letter(("全部.7z", seven_zipped(sheet))),
        "7z 加密": letter(("全部.7z", seven_zipped(sheet, password=PASSWORD, hidden=True))),
        "winmail": letter(("winmail.dat", winmail(("回访登记表.xlsx".encode("gbk"), SHEET), (b"a.mp3", SOUND)))),
        "rar": letter(("全部.rar", b"Rar!\x1a\x07\x01\x00" + bytes(99))),
        "转发": forwarding(letter(sheet, sender="clerk@home.example")),
        "转发 base64": forwarding(letter(sheet), encoding="base64"),
        "转发 他人": forwarding(letter(sheet), sender=OTHER),
        "转发 总部": forwarding(letter(sheet), sender=HQ),
        "eml": letter(("转发.eml", bytes(letter(sheet)))),
        "层层": nested(4, bytes(letter(sheet)), "message/rfc822"),
        "录音": letter((f"{CODE}.mp3", SOUND), (f"{CODE} 扫描.pdf", b"%PDF-1.7\n" + bytes(99))),
        "无码录音": letter(("录音.amr", b"#!AMR\n" + bytes(99))),
        "空邮件": letter(),
        "多份": letter(*[(f"{n}.xlsx", SHEET) for n in range(4)]),
        "他家": letter(sheet, sender=OTHER),
        "陌生人": letter(sheet, sender=STRANGER),
        "总部": letter(sheet, sender=HQ),
        "冒名": letter(sheet, sender=f'"{BRANCH}" <{STRANGER}>'),
        "两个发件人": b"From: x@evil.example\r\n" + bytes(letter(sheet)),
        "没有发件人": b"Subject: x\r\n\r\nhi",
        "自动回复": b"Auto-Submitted: auto-replied\r\n" + bytes(letter()),
        "自动带表": b"Auto-Submitted: auto-replied\r\n" + bytes(letter(sheet)),
        "群发": b"List-Id: <x>\r\nPrecedence: bulk\r\n" + bytes(letter()),
        "退信": b"From: mailer-daemon@x.example\r\nReturn-Path: <>\r\nContent-Type: multipart/report; boundary=x\r\n\r\n--x--",
        "自己": letter(sender="huifang@hq.example"),
        "分段": b"From: b0101@branch.example\r\nContent-Type: message/partial; id=1; number=1\r\n\r\n" + bytes(letter(sheet)),
        "截断": bytes(letter(sheet))[: len(SHEET) // 2],
        "空": b"",
        "只有换行": b"\r\n" * 50,
        "乱码": random.Random(1).randbytes(3000),
        "没有结构": b"From: b0101@branch.example\r\nContent-Type: multipart/mixed\r\n\r\nno boundary",
        "未知编码": b"From: b0101@branch.example\r\nSubject: =?x-none?B?xxx?=\r\nContent-Transfer-Encoding: x\r\n"
        b"Content-Type: application/x; name*=none''%ff%fe.xlsx\r\n\r\n" + SHEET[:300],
    }  # fmt: skip
    return {name: bytes(mail) for name, mail in found.items()}


# ---- spoiling

_TOKENS = (
    b"\0", b"\xff\xff\xff\xff", b"\r\n", b"\r\n\r\n", b"--", b"=?gb2312?B?", b"?=", b"From: ", b"Content-Type: message/rfc822\r\n",
    b"Content-Transfer-Encoding: base64\r\n", b"filename*0*=gbk''%", b"boundary=", b'"', b"(" * 200, b"<" * 200, b"=" * 99,
    b"PK\x03\x04", b"PK\x01\x02", b"7z\xbc\xaf\x27\x1c", b"<!DOCTYPE x [", b"&#x0;", b"A99999999999", b"\xe9\x95\x95", b"\x95\x95",
)  # fmt: skip


def spoil(content: bytes, chance: random.Random) -> bytes:
    """The bytes with a few of them changed, lost, doubled, moved or replaced by what parsers trip over."""
    raw = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        place, length = chance.randrange(len(raw) + 1), int(chance.paretovariate(0.7))
        kind = chance.randrange(6)
        if kind == 0 and place < len(raw):
            raw[place] ^= 1 << chance.randrange(8)
        elif kind == 1:
            del raw[place : place + length]
        elif kind == 2:
            raw[place:place] = raw[place : place + min(length, 5000)]
        elif kind == 3:
            raw[place:place] = chance.choice(_TOKENS)
        elif kind == 4:
            raw[place : place + 4] = chance.randbytes(4)
        elif kind == 5 and chance.random() < 0.2:
            del raw[place:]
    return bytes(raw)


def _spoil_inside(content: bytes, chance: random.Random) -> bytes:
    """A zip of which one member was spoilt before it was packed: its checksum holds."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as source:
            names = source.namelist()
            victim = chance.choice(names)
            file = io.BytesIO()
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as target:
                for name in dict.fromkeys(names):
                    member = source.read(name)
                    target.writestr(name, spoil(member, chance) if name == victim else member)
            return file.getvalue()
    except (zipfile.BadZipFile, IndexError, RuntimeError, NotImplementedError, KeyError, ValueError):
        return spoil(content, chance)


def spoilt_mails(count: int, seed: int) -> Iterator[bytes]:
    """So many mails of the corpus, spoilt from the outside or in what they carry; the same for the same seed."""
    chance, known = random.Random(seed), list(mails().values())
    for _ in range(count):
        raw = chance.choice(known)
        if chance.random() < 0.5:
            message = email.message_from_bytes(raw, policy=email.policy.compat32)
            leaves = [part for part in message.walk() if not part.is_multipart() and part.get_filename()]
            if leaves:
                leaf = chance.choice(leaves)
                content = leaf.get_payload(decode=True) or b""
                how = _spoil_inside if content.startswith(b"PK") and chance.random() < 0.7 else spoil
                del leaf["Content-Transfer-Encoding"]
                leaf["Content-Transfer-Encoding"] = "base64"
                leaf.set_payload(base64.encodebytes(how(content, chance)).decode())
                try:
                    yield message.as_bytes()
                    continue
                except (UnicodeError, KeyError, LookupError):
                    pass  # some of the corpus cannot be written back by the library that read it
        yield spoil(raw, chance)
