"""What a message says of mails of ours: ids in our form, delivery reports, read receipts, its own words."""

from __future__ import annotations

import base64
import email
import email.message
import html
import re
from typing import Any

from tasks.sandbox.headers import raw_headers
from tasks.sandbox.text import visible

# The form in which tasks/mail/letters.py writes every Message-ID.
_OWN_ID = re.compile(r"(?<![a-z_])[a-z_]{3,40}\.[0-9a-f]{32}@[A-Za-z0-9.-]{1,200}(?=>|[^A-Za-z0-9.-]|$)")
_TAG = re.compile(r"<[^<>@]*>")
_DISPOSITION = re.compile(r";\s*([A-Za-z-]+)")
MAX_IDS, MAX_REPORTS, MAX_LEAVES = 20, 50, 60
LEAF_SIGNS, WORDS_SIGNS = 400_000, 20_000


def read_notice(message: email.message.Message) -> dict[str, Any]:
    """models.notices.Notice, as far as the limits go; nothing in it is believed yet."""
    found = _Found()
    found.visit(message, is_returned=False, depth=0)
    return {
        "own_ids": list(found.ids)[:MAX_IDS],
        "reports": found.reports[:MAX_REPORTS],
        "disposition": found.disposition,
        "disposition_of": found.disposition_of,
        "failed_recipients": [
            visible(one.strip())[:254]
            for value in raw_headers(message, "x-failed-recipients")[:3]
            for one in value[:4096].split(",")[:MAX_REPORTS]
        ],
        "words": visible("\n".join(found.words))[:WORDS_SIGNS],
    }


class _Found:
    def __init__(self) -> None:
        self.ids: dict[str, None] = {}
        self.reports: list[dict[str, str]] = []
        self.disposition = self.disposition_of = ""
        self.words: list[str] = []
        self.leaves = 0

    def visit(self, part: email.message.Message, *, is_returned: bool, depth: int) -> None:
        if depth > 12:
            return
        for _, value in part._headers[:200]:  # type: ignore[attr-defined]
            self.note_ids(str(value)[:4096])
        media_type, content = part.get_content_type(), _payload_of(part)
        if isinstance(content, list):
            if media_type == "message/delivery-status":
                self.take_reports(_decoded(part, content))
            if media_type == "message/disposition-notification":
                self.take_receipt(content)
            for child in content:
                if isinstance(child, email.message.Message):
                    inside = is_returned or media_type == "message/rfc822"
                    self.visit(child, is_returned=inside, depth=depth + 1)
            return
        self.leaves += 1
        if self.leaves > MAX_LEAVES or not isinstance(content, str) or len(content) > LEAF_SIGNS:
            return
        is_text = part.get_content_maintype() == "text"
        if not (is_text or media_type.startswith("message/") or media_type == "application/octet-stream"):
            return
        text = _text_of(part)
        self.note_ids(text)
        if media_type == "message/disposition-notification":
            self.take_receipt([email.message_from_string(text)])
        elif is_text and media_type != "text/rfc822-headers" and not is_returned:
            self.words.append(html.unescape(_TAG.sub(" ", text)) if media_type == "text/html" else text)

    def note_ids(self, text: str) -> None:
        for found in _OWN_ID.finditer(text):
            if len(self.ids) < MAX_IDS:
                self.ids[f"<{found[0].rstrip('.-')}>"] = None

    def take_reports(self, blocks: list[Any]) -> None:
        for block in blocks:
            if isinstance(block, email.message.Message) and block.get("final-recipient") is not None:
                fields = ("action", "status", "final-recipient")
                action, status, final = (visible(" ".join(str(block.get(name, "")).split()))[:300] for name in fields)
                self.reports.append({"action": action, "status": status, "final": final})

    def take_receipt(self, blocks: list[Any]) -> None:
        for block in blocks:
            if isinstance(block, email.message.Message) and (said := block.get("disposition")) is not None:
                kind = _DISPOSITION.search(str(said)[:300])
                self.disposition = kind[1].casefold() if kind else "unreadable"
                self.disposition_of = visible(" ".join(str(block.get("final-recipient", "")).split()))[:300]


def _payload_of(part: email.message.Message, *, is_decoded: bool = False) -> Any:
    """What a part holds; nothing where its charset is no name at all, which the parser trips over."""
    try:
        return part.get_payload(decode=True) if is_decoded else part.get_payload()
    except ValueError:
        return b"" if is_decoded else ""


def _decoded(part: email.message.Message, blocks: list[Any]) -> list[Any]:
    """The blocks of a delivery report; Exchange puts them under base64, which the standard forbids."""
    if str(part.get("content-transfer-encoding", "")).strip().lower() != "base64":
        return blocks
    lines = "".join(str(_payload_of(block)) for block in blocks if isinstance(block, email.message.Message))
    try:
        clear = base64.b64decode(lines[:LEAF_SIGNS]).decode("utf-8", "replace")
    except ValueError:
        return []
    return [email.message_from_string(block) for block in re.split(r"\r?\n\r?\n", clear)[:MAX_REPORTS]]


def _text_of(part: email.message.Message) -> str:
    raw = _payload_of(part, is_decoded=True)
    if not isinstance(raw, bytes):
        return ""
    declared = str(part.get_param("charset") or "").strip().lower()
    for charset in (*(["gb18030"] if declared.startswith(("gb", "x-gb", "cp936")) else []), declared, "utf-8"):
        try:
            return raw.decode(charset or "ascii")
        except (LookupError, UnicodeDecodeError, ValueError):
            continue
    return raw.decode("gb18030", "replace")
