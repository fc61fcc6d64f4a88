"""The contestant bare: every mail of an IMAP folder fetched with imaplib, every cell of its workbooks read with calamine.

python -m bench.bare_returns PORT CA PASSWORD_FILE PASSWORDS RESULT   (PASSWORDS: a JSON object, by sender's address)

Judges, stores, hashes, moves and answers nothing: the floor under which no collect can come.
"""

import time

BEGAN = time.perf_counter()

import email  # noqa: E402
import imaplib  # noqa: E402
import io  # noqa: E402
import json  # noqa: E402
import ssl  # noqa: E402
import sys  # noqa: E402
from email.utils import parseaddr  # noqa: E402
from pathlib import Path  # noqa: E402

import msoffcrypto  # noqa: E402
from python_calamine import CalamineWorkbook  # noqa: E402

from bench.imap_server import USER  # noqa: E402

imaplib._MAXLINE = 1 << 24


def main(port: str, ca: str, password_file: str, passwords: str, result: Path) -> None:
    imported = time.perf_counter()
    known = json.loads(Path(passwords).read_text(encoding="utf-8"))
    mails = cells = 0
    with imaplib.IMAP4_SSL("localhost", int(port), ssl_context=ssl.create_default_context(cafile=ca)) as server:
        server.login(USER, Path(password_file).read_text(encoding="utf-8").strip())
        server.select("INBOX", readonly=True)
        for number in server.search(None, "ALL")[1][0].split():
            message = email.message_from_bytes(server.fetch(number, "(BODY.PEEK[])")[1][0][1])
            mails += 1
            password = known[parseaddr(message["From"])[1]]
            for part in message.walk():
                if part.get_filename():
                    cells += read(part.get_payload(decode=True), password)
    ended = time.perf_counter()
    found = {"inner_seconds": ended - imported, "import_seconds": imported - BEGAN, "mails": mails, "cells": cells}
    result.write_text(json.dumps(found), encoding="utf-8")


def read(content: bytes, password: str) -> int:
    office = msoffcrypto.OfficeFile(io.BytesIO(content))
    if office.is_encrypted():
        clear = io.BytesIO()
        office.load_key(password=password)
        office.decrypt(clear)
        content = clear.getvalue()
    book = CalamineWorkbook.from_filelike(io.BytesIO(content))
    return sum(len(row) for name in book.sheet_names for row in book.get_sheet_by_name(name).to_python())


if __name__ == "__main__":
    main(*sys.argv[1:5], Path(sys.argv[5]))
