"""Headers as people meant them: Chinese charsets under wrong names, and what crashes parsers told as a defect."""

from __future__ import annotations

import base64
import email.errors
import email.message
import email.policy
import posixpath
import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

from tasks.sandbox.limits import HEADER_SIGNS
from tasks.sandbox.text import visible

# Mail programs label GBK and GB18030 bytes gb2312; only the largest of the three sets reads them all (朱镕基).
_GB_NAMES = r"(?:cs|x-)?gb2312|(?:x-)?gbk|(?:cp|ms|windows-)936|gb_2312(?:-80)?|euc-cn|gb18030-20\d\d"
_GB_LABEL = re.compile(rf"(=\?|charset\s*=\s*\"?|\*\d*\*?\s*=\s*\"?)(?:{_GB_NAMES})(?=[?'\";\s]|$)", re.IGNORECASE)
_WORD_RUN = re.compile(r"=\?([^?\s]+)\?[Bb]\?[^?\s]*\?=(?:\s+=\?\1\?[Bb]\?[^?\s]*\?=)+")


def raw_headers(message: email.message.Message, name: str) -> list[str]:
    return [_header_text(value) for key, value in fields(message) if key == name]


def fields(message: email.message.Message) -> Iterator[tuple[str, object]]:
    """Every header with its name as others read it: some take `From :` for a From, which the parser does not."""
    for key, value in message._headers:  # type: ignore[attr-defined]
        yield key.strip(" \t").lower(), value


def _header_text(value: object) -> str:
    """A raw header value as text: 8-bit bytes are UTF-8 or else GB18030, and GB labels mean GB18030."""
    raw = str(value).encode("utf-8", "surrogateescape")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("gb18030", "replace")
    return _WORD_RUN.sub(_joined_words, _GB_LABEL.sub(r"\1gb18030", text[: HEADER_SIGNS + 1]))


def _joined_words(run: re.Match[str]) -> str:
    """Encoded words side by side as one: mail programs break them off in the middle of a character."""
    try:
        raw = b"".join(base64.b64decode(word) for word in re.findall(r"\?[Bb]\?([^?]*)\?=", run[0]))
        text = raw.decode(run[1])
    except (ValueError, LookupError):
        return run[0]
    return f"=?utf-8?B?{base64.b64encode(text.encode()).decode()}?="


def _parsed(name: str, value: str) -> Any:
    """A header through the modern parser, or None where that parser fails: 17 of 1,592 real messages crash it."""
    try:
        return email.policy.default.header_factory(name, re.sub(r"[\r\n]+", " ", value))
    except (ValueError, IndexError, AttributeError, LookupError, TypeError, RecursionError):
        return None


def read_header(message: email.message.Message, name: str) -> str:
    values = raw_headers(message, name)
    if not values:
        return ""
    parsed = _parsed(name, values[0])
    return str(parsed if parsed is not None else values[0])[:1000].encode("utf-8", "replace").decode("utf-8")


def from_addresses(message: email.message.Message) -> tuple[list[str], list[str]]:
    """The addresses of From, and what is wrong with how they are written."""
    return _addresses(raw_headers(message, "from")[:2])


def other_senders(message: email.message.Message) -> tuple[list[str], list[str]]:
    """The addresses of those who sent a message for another (Sender) and who sent it on as it was (Resent-…)."""
    sender, *resent = (raw_headers(message, name) for name in _SENT_BY)
    return _addresses(sender[:2])[0], _addresses([value for values in resent for value in values[:9]])[0]


def header_defects(message: email.message.Message) -> list[str]:
    """What is wrong with the head of a message: lines that are no header, control signs, headers that say two things."""
    found = list(fields(message))
    defects = [type(defect).__name__ for defect in message.defects if isinstance(defect, _OF_HEADS)]
    if any(not _NAME.fullmatch(name) or "\0" in str(value) for name, value in found):
        defects.append("ControlSign")
    content = message.get_payload()
    if any(len(value) > HEADER_SIGNS for name in _SENT_BY for value in raw_headers(message, name)):
        defects.append("HeaderTooLong")
    if _FROM_BELOW.match(content if isinstance(content, str) else message.preamble or ""):
        defects.append("HeaderInBody")
    said = {name: {" ".join(str(value).split()) for own, value in found if own == name} for name in _ONCE}
    return defects + [f"Repeated:{name}" for name in _ONCE if len(said[name]) > 1]


def automatic_word(message: email.message.Message) -> str:
    """What a message says of having been sent by no person: its Auto-Submitted, or what programs write instead of it."""
    if said := read_header(message, "auto-submitted").partition(";")[0].strip():
        return said
    names = {name for name, _ in fields(message)}
    if not names.isdisjoint(_ANSWERING):
        return "auto-replied"
    # Exchange: which automatic answers a message wants to be spared.
    spared = {word.strip().casefold() for word in read_header(message, "x-auto-response-suppress").split(",")}
    return "auto-generated" if spared & {"all", "oof", "autoreply"} else ""


def is_of_list(message: email.message.Message) -> bool:
    """Whether a mailing list sent it on: one of the List- headers of RFC 2369 and RFC 2919."""
    return any(name.startswith("list-") for name, _ in fields(message))


def _addresses(values: Sequence[str]) -> tuple[list[str], list[str]]:
    addresses: list[str] = []
    defects: list[str] = []
    for value in values:
        if len(value) > HEADER_SIGNS:
            defects.append("HeaderTooLong")
            continue
        value = _QUOTED_WORDS.sub(r" \1 ", value)
        parsed = _parsed("From", value)
        if parsed is None:
            defects.append("HeaderCrash")
            continue
        defects.extend(type(defect).__name__ for defect in parsed.defects)
        try:
            found = [address.addr_spec for address in parsed.addresses if address.addr_spec]
            defects.extend("Group" for group in parsed.groups if group.display_name is not None)
        except (AttributeError, ValueError, IndexError):
            defects.append("HeaderCrash")
            continue
        addresses.extend(found)
        shown = unicodedata.normalize("NFKC", str(_parsed("Subject", value) or value))
        if any(another.casefold() != address.casefold() for another in _ADDRESS.findall(shown) for address in found):
            defects.append("AnotherAddress")
    return addresses, defects


_ANSWERING = {"x-autoreply", "x-auto-reply", "x-autorespond", "x-autoresponder", "x-mail-autoreply", "x-autogenerated"}
_SENT_BY = ("sender", "resent-from", "resent-sender")
# Headers that a message has once at most (RFC 5322 §3.6, RFC 2045 §3): of two, every reader takes another one.
_ONCE = (
    "date", "sender", "message-id", "subject", "mime-version", "content-type", "content-transfer-encoding",
)  # fmt: skip
_OF_HEADS = (
    email.errors.FirstHeaderLineIsContinuationDefect,
    email.errors.MisplacedEnvelopeHeaderDefect,
    email.errors.MissingHeaderBodySeparatorDefect,
)
_NAME = re.compile(r"[!-9;-~]+")
# The parser takes such a line, where it is the last of the head, for the first one of the body.
_FROM_BELOW = re.compile(r"From[ \t]+:", re.IGNORECASE)
# QQ and exmail quote the words in which they encode a name, which the standard forbids.
_QUOTED_WORDS = re.compile(r"\"\s*((?:=\?[^?\s\"]+\?[BbQq]\?[^?\s\"]*\?=\s*)+)\"")
_ADDRESS = re.compile(r"[^\s<>()\[\]\"',;:@]+@[\w-]+(?:\.[\w-]+)+")


def file_name_of(part: email.message.Message) -> str:
    for header, parameter in (("content-disposition", "filename"), ("content-type", "name")):
        for value in raw_headers(part, header):
            parsed = _parsed(header, value)
            name = parsed.params.get(parameter) if parsed is not None else None
            if name:
                return visible(posixpath.basename(str(name).replace("\\", "/"))[:200])
    return ""
