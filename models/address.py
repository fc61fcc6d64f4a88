"""One mail address as a person wrote it: what is wrong with it, and what was probably meant.

Syntax is email-validator's; this file knows what people and spreadsheets do to addresses. Asks no name server.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

import email_validator
from email_validator import EmailNotValidError, validate_email

# A house's own network may well end in .local or .internal, which the library would refuse.
email_validator.SPECIAL_USE_DOMAIN_NAMES.clear()

SEPARATORS = r"[,;，；、|\s]+|(?<=\w)/(?=[^/@]*@)"
BETWEEN = re.compile(SEPARATORS)
BRACKETED = re.compile(r"^[^<>]*<\s*([^<>]+?)\s*>\s*$")
ENDS = " \t\r\n.,;，；。、<>\"'"
"""What is left over at the ends of an address that was copied out of a sentence."""
SCRIPTS_ALIKE = frozenset({"CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "COPTIC", "LISU"})
"""Scripts with letters that look like Latin ones."""


class Fault(NamedTuple):
    """What is wrong with an address. meant is '' where nobody can tell; detail names the sign at fault."""

    code: str
    meant: str = ""
    detail: str = ""


@lru_cache(maxsize=16_384)
def find_fault(text: str) -> Fault | None:
    """What keeps mail from an address, the gravest first; None for one that a server takes as it stands.

    >>> find_fault("director.0001@branch.example")
    >>> find_fault("director.0001@branch.example.")
    Fault(code='trailing_dot', meant='director.0001@branch.example', detail='')
    >>> find_fault("director．0001＠branch．example")
    Fault(code='full_width', meant='director.0001@branch.example', detail='')
    >>> find_fault("directоr@branch.example").detail
    '7: U+043E CYRILLIC SMALL LETTER O'
    """
    if not text.strip():
        return Fault("no_address")
    if len([part for part in BETWEEN.split(unicodedata.normalize("NFKC", text)) if "@" in part]) > 1:
        return Fault("several_addresses")
    if hidden := [c for c in text if _is_invisible(c)]:
        plain = "".join(c for c in text if not _is_invisible(c)).strip()
        return Fault("invisible_sign", _if_good(plain), _named(text, hidden[0]))
    if bracketed := BRACKETED.match(text):
        return Fault("with_name", _if_good(bracketed[1]))
    if foreign := [c for c in text if not c.isascii()]:
        return _foreign(text, foreign)
    if "@" not in text:
        return Fault("no_at")
    if refused := _refusal(text):
        local, _, domain = text.partition("@")
        if local.endswith(".") or domain.endswith("."):
            return Fault("trailing_dot", _if_good(f"{local.rstrip('.')}@{domain.strip(ENDS)}"))
        if ".." in text:
            return Fault("two_dots", _if_good(re.sub(r"\.{2,}", ".", text)))
        return Fault("bad_syntax", _if_good(text.strip(ENDS).removeprefix("mailto:")), refused)
    return None


def domain_of(address: str) -> str:
    """The domain in small letters, an international one in its ASCII form."""
    return address.rpartition("@")[2].casefold().rstrip(".")


def is_within(domain: str, owned: tuple[str, ...]) -> bool:
    """Whether a domain is one of some, or lies below one.

    >>> is_within("sales.bank.example", ("bank.example",)), is_within("mybank.example", ("bank.example",))
    (True, False)
    """
    return any(domain == own or domain.endswith(f".{own}") for own in owned)


def _foreign(text: str, foreign: list[str]) -> Fault:
    """Signs outside ASCII: wide forms of our own signs, letters that only look like them, an international domain."""
    half = unicodedata.normalize("NFKC", text).replace("。", ".")
    if half.isascii():
        return Fault("full_width", _if_good(half.strip(ENDS)))
    if alike := [c for c in foreign if unicodedata.name(c, "").split(" ")[0] in SCRIPTS_ALIKE]:
        return Fault("look_alike", "", _named(text, alike[0]))
    local, _, domain = half.rpartition("@")
    if not local.isascii() or not domain:
        return Fault("foreign_letters", "", _named(text, foreign[0]))
    if any("LATIN" in unicodedata.name(c, "") for c in foreign):
        return Fault("look_alike", "", _named(text, foreign[0]))
    try:
        spelled = validate_email(half, check_deliverability=False, globally_deliverable=False).ascii_email
    except EmailNotValidError:
        spelled = None
    return Fault("foreign_domain", spelled or "")


def _refusal(text: str) -> str:
    """Why the library refuses an address of ASCII signs; '' when it takes it."""
    try:
        validate_email(text, check_deliverability=False, globally_deliverable=False, strict=True)
    except EmailNotValidError as error:
        return str(error)
    return ""


def _if_good(text: str) -> str:
    return text if text.isascii() and not _refusal(text) else ""


def _is_invisible(sign: str) -> bool:
    # A plain space within is told as bad syntax; U+3000 and NFKC's other spaces look like one and are none.
    return unicodedata.category(sign) in ("Cf", "Cc", "Zs", "Zl", "Zp", "Co") and sign != " "


def _named(text: str, sign: str) -> str:
    return f"{text.index(sign) + 1}: U+{ord(sign):04X} {unicodedata.name(sign, '')}".rstrip()
