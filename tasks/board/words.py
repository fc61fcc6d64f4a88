"""The words and figures of the pages and the dashboard, in one language.

Knows templates, catalogues and how days, counts and shares are written. What is shown stays out.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from io import BytesIO
from typing import Any

from babel.dates import format_date, format_datetime
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.support import NullTranslations, Translations
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from models.calendar import SHANGHAI
from models.canonical import REASONS
from models.feedback import percent as portion
from models.outcomes import OUTCOMES, VIOLATIONS
from models.standing import Balance
from tasks.settings import PROJECT

TEMPLATES = PROJECT / "templates"


class Words:
    """The words of one language: the templates' Chinese, or the catalogues' English for it."""

    def __init__(self, language: str) -> None:
        self.language = language
        self.environment = Environment(
            loader=FileSystemLoader(TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            extensions=["jinja2.ext.i18n"],
            trim_blocks=True,
            lstrip_blocks=True,
        )
        catalogue = _catalogue(language)
        self.environment.install_gettext_translations(catalogue, newstyle=True)  # type: ignore[attr-defined]
        self.environment.filters |= {
            "number": number,
            "percent": percent,
            "whole_percent": whole_percent,
            "period": str,
            "portion": portion,
            "share": share,
            "size": size,
        }
        own = self.environment.get_template("report_words.j2").module
        shared = self.environment.get_template("words.j2").module
        self.codes: dict[str, dict[str, str]] = {
            name: {code: str(text) for code, text in getattr(source, name).items()}
            for source, names in (
                (
                    own,
                    (
                        "mails",
                        "messages",
                        "equations",
                        "columns",
                        "chart",
                        "board",
                        "verdicts",
                        "tables",
                        "fields",
                        "asides",
                    ),
                ),
                (shared, ("states", "results", "reasons", "contradictions", "shortfalls")),
            )
            for name in names
        }
        for name, labels in (("outcomes", OUTCOMES), ("violations", VIOLATIONS)):
            self.codes[name] = {
                code: choice.label.zh if language == "zh_CN" else choice.label.en for code, choice in labels.items()
            }
        self.codes["faults"] = {code: catalogue.gettext(text) for code, text in REASONS.items()}
        self.environment.globals["codes"] = self.codes

    def __getitem__(self, key: str) -> str:
        group, _, code = key.partition(".")
        return self.codes[group][code]

    def named(self, counts: Mapping[str, int], group: str) -> list[tuple[str, str, int]]:
        """Code, name and count; a programme may name reasons of its own, which show as their code."""
        return [(code, self.codes[group].get(code, code), n) for code, n in counts.items()]

    def equation(self, balance: Balance) -> str:
        left, colon, column = balance.name.partition(": ")
        text = self.codes["equations"].get(left, left)
        return text + (self.codes["columns"].get(column, column) if colon else "")

    def day(self, value: Any) -> str:
        form = "y年M月d日" if self.language == "zh_CN" else "d MMMM y"
        return str(format_date(value, form, locale=self.language))

    def moment(self, value: datetime) -> str:
        if value.tzinfo is None:
            raise ValueError("written_at has no zone")
        form = "y年M月d日 HH:mm" if self.language == "zh_CN" else "d MMMM y, HH:mm"
        return str(format_datetime(value, form, tzinfo=SHANGHAI, locale=self.language))


@cache
def words_in(language: str) -> Words:
    return Words(language)


def _catalogue(language: str) -> NullTranslations:
    """The mails' words, for what the codes are called, and the report's own; Chinese is what the templates say."""
    if language == "zh_CN":
        return NullTranslations()
    folder = TEMPLATES / "locale" / language / "LC_MESSAGES"
    found = Translations()
    for name in ("huifang.po", "report.po"):
        with (folder / name).open("rb") as source:
            catalogue = read_po(source, locale=language)
        compiled = BytesIO()
        write_mo(compiled, catalogue)
        compiled.seek(0)
        found.merge(Translations(compiled))
    return found


def number(value: int) -> str:
    return f"{int(value):,}"


def percent(part: int, whole: int) -> str:
    """part of whole to one decimal, never rounded up to a hundred; a dash where there is nothing to divide by."""
    if not whole:
        return "—"
    tenths = (2000 * part + whole) // (2 * whole)
    if part < whole:
        tenths = min(tenths, 999)
    return f"{tenths // 10}.{tenths % 10}%"


def whole_percent(part: int, whole: int) -> str:
    """As percent, but all of it is 100%."""
    return "100%" if whole and part == whole else percent(part, whole)


def share(part: int, whole: int) -> str:
    """As percent, but what is there is never rounded down to nothing.

    >>> share(1, 1000), share(71, 21_606_574), share(0, 7)
    ('0.1%', '<0.1%', '0.0%')
    """
    rounded = percent(part, whole)
    return "<0.1%" if part and rounded == "0.0%" else rounded


def size(size_bytes: int) -> str:
    """A file's size in steps of a thousand.

    >>> size(999), size(1_500), size(999_950), size(2_340_000_000)
    ('999 B', '1.5 kB', '1.0 MB', '2.3 GB')
    """
    if size_bytes < 1000:
        return f"{size_bytes} B"
    tenths, units = (size_bytes + 50) // 100, ["kB", "MB", "GB", "TB"]
    while tenths >= 10_000 and len(units) > 1:
        tenths, units = (tenths + 500) // 1000, units[1:]
    return f"{tenths // 10:,}.{tenths % 10} {units[0]}"
