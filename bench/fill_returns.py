"""Honest branches: every list in a home's Maildir filled, row by row, and written as a mail ready for an IMAP server.

python -m bench.fill_returns HOME MAILS lock|clear CREW CREWS
"""

from __future__ import annotations

import email
import email.policy
import io
import re
import sys
from datetime import datetime
from email.message import EmailMessage
from email.utils import parseaddr
from pathlib import Path

import msoffcrypto.format.ooxml
import openpyxl

from models.outcomes import LEGAL_CONTENTS
from models.sheets import CALLBACK
from tasks.settings import Settings
from tasks.vault import branch_passwords

FILLED = {
    "called_on": datetime(2026, 3, 5), "called_at": "14:30", "channel": "电话", "attempts": 1,  # noqa: DTZ001 (a day)
    "outcome": "成功·无异常",
}  # fmt: skip
CHECKED = "已核·无异常"


def main(home: Path, mails: Path, form: str, crew: int, crews: int) -> None:
    settings = Settings(home=home)
    passwords = branch_passwords(settings)
    lists = sorted(path for path in settings.maildir.glob(".*/new/*"))
    for number, path in enumerate(lists):
        if number % crews == crew:
            mail = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
            address = parseaddr(str(mail["To"]))[1]
            branch = re.search(r"\d{4}", address)
            books = [part for part in mail.iter_attachments() if str(part.get_filename()).endswith(".xlsx")]
            if branch and books:
                reply = answer(books[0].get_content(), passwords[branch[0]][0], address, form == "lock")
                (mails / f"{number:05d}.eml").write_bytes(reply.as_bytes())


def answer(locked: bytes, password: str, address: str, is_locked: bool) -> EmailMessage:
    clear, filled = io.BytesIO(), io.BytesIO()
    office = msoffcrypto.OfficeFile(io.BytesIO(locked))
    office.load_key(password=password)
    office.decrypt(clear)
    book = openpyxl.load_workbook(clear)
    titles = {label: column for column in CALLBACK.columns for label in column.label}
    for table in book.worksheets:
        rows = list(table.iter_rows())
        header = next((row for row in rows if sum(_title(cell) in titles for cell in row) > 5), None)
        if header is None:
            continue
        places = {titles[_title(cell)].key: cell.column for cell in header if _title(cell) in titles}
        for row in range(header[0].row + 1, table.max_row + 1):
            if table.cell(row, places["row_code"]).value:
                caller = table.cell(row, places["planned_caller"]).value or "王芳"
                for key, column in places.items():
                    if key in FILLED or key == "caller_name":
                        table.cell(row, column, FILLED.get(key, caller))
                    elif key in LEGAL_CONTENTS:
                        table.cell(row, column, CHECKED)
    book.save(filled)
    content = filled.getvalue()
    if is_locked:
        locked_again = io.BytesIO()
        msoffcrypto.format.ooxml.OOXMLFile(filled).encrypt(password, locked_again)
        content = locked_again.getvalue()
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = address, Settings().mail_from, "回访登记表"
    message["Message-ID"] = f"<{abs(hash(content))}@branch.example>"
    message.set_content("请查收")
    message.add_attachment(content, "application", "octet-stream", filename="回访登记表.xlsx")
    return message


def _title(cell) -> str:
    return str(cell.value or "").rstrip("*").strip()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
