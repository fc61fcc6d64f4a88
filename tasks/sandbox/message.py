"""One message taken apart: who wrote it, what kind of mail it is, and everything it carries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.sandbox.authentication import authentication
from tasks.sandbox.headers import (
    automatic_word,
    from_addresses,
    header_defects,
    is_of_list,
    other_senders,
    raw_headers,
    read_header,
)
from tasks.sandbox.limits import MESSAGE_BYTES
from tasks.sandbox.long_parts import LongParts
from tasks.sandbox.notices import read_notice
from tasks.sandbox.parts import Walk
from tasks.sandbox.scan import check_clean


def open_message(
    path: Path, out_dir: Path, passwords: Mapping[str, Sequence[str]], *, own: Sequence[str] = (), clamd: str = ""
) -> dict[str, Any]:
    """One message taken apart; its files are written below out_dir under their hashes.

    `passwords` are by sender's address; those under '' and those of `own` are tried whoever wrote it.
    """
    if path.stat().st_size > MESSAGE_BYTES:
        return {"error": "too_large"}
    with path.open("rb") as file:
        check_clean(file, clamd)
    long_parts = LongParts(path)
    message = long_parts.parse()
    addresses, defects = from_addresses(message)
    senders, resenders = other_senders(message)
    out_dir.mkdir(parents=True, exist_ok=True)
    tried = ("", *(address.casefold() for address in addresses))  # "": whoever wrote it
    known = [*own, *(password for address in tried for password in passwords.get(address, ()))]
    walk = Walk(out_dir, list(dict.fromkeys(known)), clamd)
    walk.take_whole(message, long_parts)
    return {
        "from_headers": len(raw_headers(message, "from")),
        "from_addresses": addresses,
        "from_defects": defects,
        "message_id": read_header(message, "message-id"),
        "subject": read_header(message, "subject"),
        "sender_addresses": senders,
        "resent_addresses": resenders,
        "header_defects": header_defects(message),
        "authentication": authentication(message),
        "auto_submitted": automatic_word(message),
        "precedence": read_header(message, "precedence").strip(),
        "is_list": is_of_list(message),
        "is_report": message.get_content_type() in ("multipart/report", "message/delivery-status"),
        "is_null_return_path": any(value.strip() == "<>" for value in raw_headers(message, "return-path")),
        "defects": sorted(walk.defects),
        "workbooks": walk.workbooks,
        "files": walk.files,
        "notice": read_notice(message),
        "error": "",
    }
