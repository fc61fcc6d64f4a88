"""Words: the templates of every mail in the two languages, and how figures, days and periods are written in them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from io import BytesIO
from typing import Any

import css_inline
from babel import Locale
from babel.dates import format_date, format_datetime
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_decimal, format_percent
from babel.support import NullTranslations, Translations
from jinja2 import (
    Environment,
    FileSystemLoader,
    StrictUndefined,
    TemplateError,
    TemplateNotFound,
    Undefined,
    select_autoescape,
)
from markupsafe import Markup

from models import CallbackError
from tasks.mail.letters import SHANGHAI, is_control
from tasks.settings import PROJECT

TEMPLATES = PROJECT / "templates"
LANGUAGES = ("zh_CN", "en")
SUBJECT_SIGNS = 200
"""A subject's length; the longest of our own has about 150."""
FACT_SIGNS = 1_000
"""How much of one text from outside a mail shows."""


class TemplateFault(CallbackError):
    """A template is missing, or names a fact that it was not given."""


@dataclass(frozen=True)
class Rendered:
    subject: str
    html: str
    text: str


class Words:
    """The words of one language: zh_CN as the templates have them, en through templates/locale.

    Called with a Chinese text that stands in the catalogue, it gives that text's translation.
    """

    def __init__(self, language: str) -> None:
        if language not in LANGUAGES:
            raise TemplateFault(f"language {language!r}: there are {', '.join(LANGUAGES)}")
        self.language = language
        self._locale = Locale.parse(language)
        self._translations = _catalogue(language)
        self._environment = Environment(
            loader=FileSystemLoader(TEMPLATES),
            autoescape=select_autoescape(enabled_extensions=("html.j2",), default=False),
            undefined=StrictUndefined,
            extensions=["jinja2.ext.i18n", "jinja2.ext.do"],
            finalize=_one_line,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        self._environment.install_gettext_translations(self._translations, newstyle=True)  # type: ignore[attr-defined]
        self._environment.globals["language"] = language
        for write in (self.number, self.percent, self.bar, self.day, self.moment, self.period):
            self._environment.filters[write.__name__] = _given(write)
        self._inliner = css_inline.CSSInliner(load_remote_stylesheets=False, keep_at_rules=True)

    def __call__(self, text: str) -> str:
        return str(self._translations.gettext(text))

    def render(self, name: str, /, **facts: Any) -> Rendered:
        """One mail's subject, HTML and plain text; the head of each template lists the facts that it needs.

        Every mail needs `title` (the programme's name), `period` (its code) and `sender_name`; the feedback mails take
        the first two from `standing`, a models.standing.Standing. No fact may be personal. A text longer than FACT_SIGNS
        is cut, a long subject loses its middle. TemplateFault names a missing fact or template.
        """
        facts = {key: _cut(value) for key, value in facts.items()}
        try:
            page = self._environment.get_template(f"{name}.subject.j2").render(facts)
            subject = _shorten(" ".join(_one_line(page).split()))
            html = self._environment.get_template(f"{name}.html.j2").render(facts, subject=subject)
            text = self._environment.get_template(f"{name}.txt.j2").render(facts, subject=subject)
        except TemplateNotFound as error:
            raise TemplateFault(f"templates/{error.name}: no such template") from None
        except TemplateError as error:
            raise TemplateFault(f"templates/{name}.*.j2: {error.message}") from None
        return Rendered(subject, self._inliner.inline(html), re.sub(r"\n{3,}", "\n\n", text).strip() + "\n")

    def number(self, value: int) -> str:
        return str(format_decimal(int(value), locale=self._locale))

    def percent(self, ratio: float | None) -> str:
        """A ratio to one decimal of a percent; a dash where there was nothing to divide by."""
        return "—" if ratio is None else str(format_percent(ratio, format="#,##0.0%", locale=self._locale))

    def bar(self, ratio: float) -> int:
        """A ratio's length in whole percents, from 1 to 100, so that little is still seen."""
        return min(max(round(ratio * 100), 1), 100)

    def day(self, value: date) -> str:
        form = "y年M月d日（EEE）" if self.language == "zh_CN" else "EEE, d MMM y"
        return str(format_date(value, form, locale=self._locale))

    def moment(self, value: datetime) -> str:
        """A time of day in Shanghai, to the minute."""
        if value.tzinfo is None:
            raise TemplateFault("a time without zone cannot be shown")
        form = "y年M月d日 HH:mm" if self.language == "zh_CN" else "d MMM y, HH:mm 'CST (UTC+8)'"
        return str(format_datetime(value.astimezone(SHANGHAI), form, locale=self._locale))

    def period(self, code: str) -> str:
        """A period's code in words: 2026-03, 2026-03a, 2026-03-05, 2026Q1 or 2026."""
        found = re.fullmatch(r"(\d{4})(?:Q([1-4])|-(\d\d)(?:([abc])|-(\d\d))?)?", code)
        if not found:
            raise TemplateFault(f"period {code!r}: expected such as 2026-03, 2026-03a, 2026-03-05, 2026Q1 or 2026")
        year, quarter, month, third, day_of_month = found.groups()
        if day_of_month:
            return self.day(date(int(year), int(month), int(day_of_month)))
        chinese = self.language == "zh_CN"
        if quarter:
            return f"{year}年第{'一二三四'[int(quarter) - 1]}季度" if chinese else f"Q{quarter} {year}"
        if not month:
            return f"{year}年" if chinese else year
        name = str(format_date(date(int(year), int(month), 1), "y年M月" if chinese else "MMMM y", locale=self._locale))
        if not third:
            return name
        if chinese:
            return name + {"a": "上旬", "b": "中旬", "c": "下旬"}[third]
        return f"{name}, {({'a': 'days 1–10', 'b': 'days 11–20', 'c': 'from day 21'})[third]}"


def render(name: str, language: str, /, **facts: Any) -> Rendered:
    """One mail in one language; see Words.render."""
    return _words(language).render(name, **facts)


@cache
def _words(language: str) -> Words:
    return Words(language)


def _catalogue(language: str) -> NullTranslations:
    if language == "zh_CN":
        return NullTranslations()
    path = TEMPLATES / "locale" / language / "LC_MESSAGES" / "huifang.po"
    with path.open("rb") as source:
        catalog = read_po(source, locale=language)
    compiled = BytesIO()
    write_mo(compiled, catalog)
    compiled.seek(0)
    return Translations(compiled)


def _cut(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= FACT_SIGNS else value[: FACT_SIGNS - 1] + "…"
    if isinstance(value, Mapping):
        return {key: _cut(inner) for key, inner in value.items()}
    return [_cut(inner) for inner in value] if isinstance(value, list | tuple) else value


def _shorten(subject: str) -> str:
    """A subject with its head and its tail, where due day and part stand; nothing in it is taken for an encoded word."""
    subject, tail = subject.replace("=?", "= ?"), SUBJECT_SIGNS // 3
    return subject if len(subject) <= SUBJECT_SIGNS else f"{subject[: SUBJECT_SIGNS - tail - 1]}…{subject[-tail:]}"


def _given(write: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def write_given(value: Any) -> Any:
        if isinstance(value, Undefined):
            str(value)  # StrictUndefined raises, and names the fact
        return write(value)

    return write_given


def _one_line(value: Any) -> Any:
    """A fact without line breaks and control characters, so that a branch's name cannot write lines of its own."""
    if isinstance(value, Markup):  # a piece of a page: its own line breaks are only spaces there
        return Markup("".join(" " if is_control(c) and c != "\n" else c for c in value))  # noqa: S704 (escaped already)
    if isinstance(value, str):
        return "".join(" " if is_control(c) else c for c in value)
    return value
