"""What people write into a cell: choices, dates, times, counts and names, in the forms branches really use.

Knows no sheet and judges nothing: a text is understood or it is None.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from datetime import date, time, timedelta
from functools import lru_cache

from models.outcomes import Choice


def plain(text: str | None) -> str:
    """A text as it is compared: NFKC, case folded, without blanks, dots and quotes.

    >>> plain("　成功 · 无异常 ") == plain("成功•无异常")
    True
    """
    return _plain_short(text) if text and len(text) <= 40 else _plain(text or "")


_BLANKS = re.compile(r"[\s·•・‧∙'\"“”‘’*＊]")


def _plain(text: str) -> str:
    return _BLANKS.sub("", unicodedata.normalize("NFKC", text)).casefold()


# Most cells of a sheet hold one of a dozen words.
_plain_short = lru_cache(maxsize=4096)(_plain)


_UNSEEN = dict.fromkeys(
    (*range(0x200B, 0x2010), *range(0x2028, 0x202F), *range(0x2060, 0x2070), 0xFEFF, 0x061C, 0x00AD)
)
"""Signs that are not seen but turn or hide what stands around them; the joiner of emoji is one of them and stays."""
del _UNSEEN[0x200D]


def clean_text(text: str, limit: int = 200) -> str:
    """A text from outside as a cell shows it: one line, no control or direction signs, no longer than the limit.

    >>> clean_text("张\\u202e三\\x07\\n李四  "), clean_text("很长的名字", 4)
    ('张三 李四', '很长的…')
    """
    if text.isalnum() and len(text) <= limit:
        return text
    seen = "".join(
        " " if sign in "\t\r\n" else "" if unicodedata.category(sign) in ("Cc", "Cs") else sign
        for sign in text.translate(_UNSEEN)
    )
    line = " ".join(seen.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def mask_name(name: str) -> str:
    """A name of which the first character of each word stays; up to three stars stand for the rest.

    >>> mask_name("张三"), mask_name("欧阳娜娜"), mask_name("John Smith"), mask_name("张")
    ('张*', '欧***', 'J*** S***', '张*')
    """
    words = re.sub(
        r"([^\s·]+)", lambda word: word[0][0] + "*" * min(max(1, len(word[0]) - 1), 3), clean_text(name, 400)
    )
    return words[:40].rstrip()


def mask_phone(phone: str) -> str:
    """A phone of which the first three and the last four digits stand, of a short one only the last two.

    >>> mask_phone("13812345678"), mask_phone("010-8888"), mask_phone("")
    ('138****5678', '****88', '')
    """
    digits = re.sub(r"\D", "", unicodedata.normalize("NFKC", phone))
    return f"{digits[:3]}****{digits[-4:]}" if len(digits) >= 10 else f"****{digits[-2:]}" if digits else ""


def choice_words(choices: Mapping[str, Choice]) -> dict[str, str]:
    """Code by every word that means it, as `plain` text: labels, the code, each part of a label with slashes."""
    return {
        plain(word): choice.code
        for choice in choices.values()
        for label in choice.label
        for word in (label, *label.split("/"), choice.code)
    }


def read_choice(words: Mapping[str, str], text: str) -> tuple[str, str] | None:
    """The code of an answer and what was written behind it; None when it is none of the words of `choice_words`.

    >>> from models.outcomes import OUTCOMES
    >>> words = choice_words(OUTCOMES)
    >>> read_choice(words, "关机"), read_choice(words, "C、成功·有意见建议（佣金高）")
    (('no_answer', ''), ('done_opinion', '佣金高'))
    """
    code = words.get(plain(text))
    if code is not None:
        return code, ""
    text = unicodedata.normalize("NFKC", text.strip())
    # A label as questionnaires number their answers: C、 (C) 3. ③
    label = re.match(r"[(]?(?:[A-Za-z]|\d{1,2}|[一二三四五六七八九十])(?:[)]\s*|[、.:]\s*|(?<=\d)(?![\d.:]))", text)
    for answer in filter(None, (text, text[label.end() :] if label else "")):
        if (code := words.get(plain(answer))) is not None:
            return code, ""
        # In English a blank parts words, not an answer from its remark.
        blanks = [] if answer.isascii() else [*re.finditer(r"\s+", answer)][:20]
        ends = [*re.finditer(r"[(:,;、。\n]", answer)][:1] + blanks[::-1]
        for end in ends:
            code = words.get(plain(answer[: end.start()]))
            if code is not None:
                said = answer[end.start() :].lstrip(" \n(:,;、。")
                is_open = "(" in answer[end.start() : len(answer) - len(said)]
                return code, (said.rstrip().removesuffix(")") if is_open else said).strip()
    return None


def read_day(text: str) -> date | None:
    """A date as branches write it, or None.

    >>> [str(read_day(t)) for t in ("2027.1.5", "2026年3月5日", "46086", "20260305", "2026-03-05 00:00:00", "3/5")]
    ['2027-01-05', '2026-03-05', '2026-03-05', '2026-03-05', '2026-03-05', 'None']
    """
    text = unicodedata.normalize("NFKC", text).strip().lstrip("'")
    if re.fullmatch(r"[3-7]\d{4}(\.\d+)?", text):
        return date(1899, 12, 30) + timedelta(days=int(float(text)))
    parts = re.fullmatch(r"(\d{4})(\d{2})(\d{2})", text) or re.match(
        r"(\d{4})\s*[-./年。‐–—]\s*(\d{1,2})\s*[-./月。‐–—]\s*(\d{1,2})\s*日?(?=$|[\sT])", text
    )
    try:
        return date(*map(int, parts.groups())) if parts else None
    except ValueError:
        return None


def read_time(text: str) -> str | None:
    """A time of day as HH:MM, or None.

    >>> [read_time(t) for t in ("14：30", "9点5分", "下午2:30", "0.604166666", "2:30 PM", "14:30:00", "25:00")]
    ['14:30', '09:05', '14:30', '14:30', '14:30', '14:30', None]
    """
    text = unicodedata.normalize("NFKC", text).strip().lstrip("'").upper()
    if re.fullmatch(r"0?\.\d+", text):
        minutes = round(float(text) * 24 * 60) % (24 * 60)
        return f"{minutes // 60:02d}:{minutes % 60:02d}"
    text = re.sub(r"^\d{4}-\d{1,2}-\d{1,2}[T ]", "", text)
    text = re.sub(r"(点|时)半", ":30", text)
    parts = re.fullmatch(
        r"(上午|下午|晚上|AM|PM)?\s*(\d{1,2})\s*[:.点时]\s*(\d{1,2})?\s*分?(?::\d{1,2}(?:\.\d+)?)?\s*(AM|PM)?", text
    )
    if not parts:
        return None
    hour, minute = int(parts[2]), int(parts[3] or 0)
    half = parts[1] or parts[4] or ""
    if half in ("下午", "晚上", "PM") and hour < 12:
        hour += 12
    try:
        return time(hour, minute).strftime("%H:%M")
    except ValueError:
        return None


def read_count(text: str) -> int | None:
    """A small positive whole number such as 3, 3.0 or 3次, or None."""
    parts = re.fullmatch(r"(\d{1,3})(?:\.0*)?\s*次?", unicodedata.normalize("NFKC", text).strip().lstrip("'"))
    return int(parts[1]) if parts and int(parts[1]) > 0 else None
