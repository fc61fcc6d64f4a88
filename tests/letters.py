"""Returns as branches mail them, built by code, and what the sandbox and the judge make of them."""

from __future__ import annotations

import io
import random
import zipfile
from datetime import date, datetime
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import msoffcrypto.format.ooxml
import openpyxl
import pandas as pd
import xlsxwriter

from models.returns import Opened, judge_rows
from models.row_code import RowKey, row_code
from models.sheets import CALLBACK, write_sheet
from tasks.mailbox import open_messages
from tasks.settings import Settings

KEY = RowKey(1, b"a secret for the tests")
PASSWORD = "营业部0101口令"
BRANCH = "b0101@branch.example"
XLSX = "vnd.openxmlformats-officedocument.spreadsheetml.sheet"


FORMULA = (5, [column.key for column in CALLBACK.columns].index("outcome") + 1)


def filled_sheet() -> bytes:
    rows = pd.DataFrame(
        {
            "row_code": [row_code("assignment", 17, KEY), row_code("assignment", 18, KEY)],
            "customer_name": ["张*", "李*"],
            "phone": ["013800001234", "075583990011"],
            "form": ["risk_warning"] * 2,
            "developer": [""] * 2,
            "due_on": [date(2026, 3, 20)] * 2,
            "call_on": [date(2026, 3, 5)] * 2,
            "planned_caller": ["王芳", ""],
        }
    )
    clear = write_sheet(
        "callback",
        rows,
        campaign="c",
        title="t",
        branch_no="0101",
        branch_name="福田",
        language="zh_CN",
        issued_on=date(2026, 3, 2),
    )
    book = openpyxl.load_workbook(io.BytesIO(clear))
    table = book.worksheets[1]
    answers = [datetime(2026, 3, 5), "14:30", "王芳", "电话", 1, "成功·无异常", *["已核·无异常"] * 5]  # noqa: DTZ001 (a day)
    place = {column.key: number for number, column in enumerate(CALLBACK.columns, start=1)}
    for column, value in enumerate(answers, start=place["called_on"]):
        table.cell(4, column, value)
    table.cell(*FORMULA, "=1+1")
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


SHEET = filled_sheet()


def encrypted(content: bytes, password: str = PASSWORD) -> bytes:
    file = io.BytesIO()
    msoffcrypto.format.ooxml.OOXMLFile(io.BytesIO(content)).encrypt(password, file)
    return file.getvalue()


def letter(*attachments: tuple[str, bytes], sender: str = BRANCH, subject: str = "回访结果") -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = sender, "huifang@hq.example", subject
    message["Message-ID"] = "<1@branch.example>"
    message.set_content("请查收")
    for name, content in attachments:
        message.add_attachment(content, maintype="application", subtype="octet-stream", filename=name)
    return message


def settings_for(home: Path, **more: Any) -> Settings:
    return Settings(home=home, **more)


def opened(home: Path, *messages: bytes | EmailMessage, timeout_seconds: float = 60, clamd: str = "") -> list[Opened]:
    paths = []
    for number, message in enumerate(messages):
        path = home / f"{number}.eml"
        path.write_bytes(bytes(message))
        paths.append(path)
    passwords = {BRANCH: ["last year's", PASSWORD]}
    return list(open_messages(paths, passwords, settings_for(home, clamd=clamd), timeout_seconds=timeout_seconds))


def expected_calls() -> pd.DataFrame:
    """The two calls of SHEET as headquarters expects them."""
    task = {
        "assignment_id": 17,
        "branch_no": "0101",
        "campaign_id": "c",
        "customer_name": "张*",
        "phone": "013800001234",
        "due_on": date(2026, 3, 20),
        "assigned_on": date(2026, 3, 2),
        "attempts_required": 3,
        "related": (),
    }
    return pd.DataFrame([task, task | {"assignment_id": 18, "customer_name": "李*", "phone": "075583990011"}])


def accepted(message: Opened) -> list[int]:
    judgement = judge_rows(CALLBACK, message, expected_calls(), [KEY], branch_no="0101", as_of=date(2026, 3, 10))
    return list(judgement.accepted["assignment_id"])


def bombed(name: str, content: bytes) -> bytes:
    """The sheet with one of its zip members replaced."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(SHEET)) as source, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as target:
        for member in source.namelist():
            target.writestr(member, content if member == name else source.read(member))
    return file.getvalue()


def cells(*places: str) -> bytes:
    rows = "".join(f'<row r="{place.lstrip("ABCDEFX")}"><c r="{place}"><v>1</v></c></row>' for place in places)
    space = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    return f'<worksheet xmlns="{space}"><sheetData>{rows}</sheetData></worksheet>'.encode()


def cells_of(inner: str, count: int, after: str = "") -> bytes:
    space = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    rows = "".join(f"<row>{inner * 100}</row>" for _ in range(count // 100))
    return f'<worksheet xmlns="{space}"><sheetData>{rows}</sheetData>{after}</worksheet>'.encode()


def long_string(signs: int) -> str:
    return f'<c t="inlineStr"><is><t>{"a" * signs}</t></is></c>'


def shared_string_bomb() -> bytes:
    """One text of 32,000 signs that a hundred thousand cells show."""
    text = random.Random(1).randbytes(16_000).hex()  # which does not compress to nothing, as a text of one sign would
    file = io.BytesIO()
    with xlsxwriter.Workbook(file, {"in_memory": True}) as book:
        table = book.add_worksheet()
        for cell in range(100_000):
            table.write_string(cell // 100, cell % 100, text)
    return file.getvalue()


SECOND = "xl/worksheets/sheet2.xml"
HARMLESS = {
    "everything merged": bombed(
        SECOND, cells_of("<c><v>1</v></c>", 100, '<mergeCells><mergeCell ref="A1:XFD1048576"/></mergeCells>')
    ),
    "a link over everything": bombed(
        SECOND,
        cells_of("<c><v>1</v></c>", 100, '<hyperlinks><hyperlink ref="A1:XFD1048576" location="x"/></hyperlinks>'),
    ),
}
BOMBS = {
    "two million cells": bombed(SECOND, cells_of("<c><v>1</v></c>", 2_000_000)),
    "a string of fifty megabytes": bombed(SECOND, cells_of(long_string(500_000), 100)),
    "a string in a hundred thousand cells": shared_string_bomb(),
    "far corners": bombed(SECOND, cells("A1", "XFD1048576")),
    "an endless row number": bombed(SECOND, cells("A99999999999")),
    "a gigabyte of blanks": bombed(SECOND, b" " * (70 << 20)),
    "billion laughs": bombed(
        SECOND, b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;">]><worksheet>&b;</worksheet>'
    ),
    "an outside file": bombed(
        SECOND, b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><worksheet>&a;</worksheet>'
    ),
    "no workbook at all": b"PK\x03\x04" + bytes(500),
    "an OLE head only": bytes.fromhex("D0CF11E0A1B11AE1") + bytes(5000),
}
