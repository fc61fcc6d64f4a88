"""The page about an intake: what came, whether it balances, what was rejected and why, what was left aside.

Counts nothing but the two sides of its equations. Of a row it shows its place, its reason and its id, never its content.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.canonical import TABLES
from models.frame import CONTRADICTIONS
from models.standing import Balance
from tasks.board.page import keep_page
from tasks.board.words import Words, words_in

if TYPE_CHECKING:
    import pandas as pd

LOG = logging.getLogger(__name__)

VERDICTS = ("accepted", "ignored", "rejected")
LISTED_ROWS = 500
"""Rows of a table's list, and files set aside, that the page shows at most."""

LISTED_FILES = 20
"""More files than these are folded away."""

NAMED_REASONS = 5


def write_intake(
    pull: Mapping[str, Any],
    *,
    rejected: Mapping[str, pd.DataFrame],
    reported: Mapping[str, pd.DataFrame],
    written_at: datetime,
    language: str,
    directory: Path,
) -> Path:
    """The path of one self-contained HTML page about a pull; the same counts, rows and time give the same bytes.

    `pull` is one of tasks.records.pulls; `rejected` and `reported` hold by table the first rows of the snapshot's lists
    (row_number, file, column, reason, key), of which the page shows LISTED_ROWS. The name carries day, pull, time and
    hash, so no page ever replaces another one.
    """
    page = intake_page(pull, rejected=rejected, reported=reported, written_at=written_at, language=language)
    path = keep_page(page, f"intake_{pull['as_of']}_{pull['pull']}", written_at, directory)
    LOG.info("pull %s: page of %d bytes, %d tables", pull["pull"], len(page.encode("utf-8")), len(pull["tables"]))
    return path


def intake_page(
    pull: Mapping[str, Any],
    *,
    rejected: Mapping[str, pd.DataFrame],
    reported: Mapping[str, pd.DataFrame],
    written_at: datetime,
    language: str,
) -> str:
    """The page as text; see write_intake."""
    words, tables = words_in(language), pull["tables"]
    named = words.codes["tables"]
    found = _reasons(tables, "reported_by", words)
    files = [
        {**file, "table": table["table"], "is_even": file["rows"] == sum(file[name] for name in VERDICTS)}
        for table in tables
        for file in table["files"]
    ]
    totals = list(_balances_of_pull(pull))
    by_table = {
        table["table"]: list(_balances_of_table(table, named.get(table["table"], table["table"]))) for table in tables
    }
    by_place = [balance for balances in by_table.values() for balance in balances]
    return words.environment.get_template("report_intake.html.j2").render(
        language=language,
        pull=pull,
        as_of=words.day(date.fromisoformat(pull["as_of"])),
        written_at=words.moment(written_at),
        files=files,
        uneven=sum(not file["is_even"] for file in files),
        reported=sum(table["reported"] for table in tables),
        absent=[name for name in TABLES if name not in by_table],
        known=len(TABLES),
        without_rows=[table["table"] for table in tables if not table["rows"]],
        holding={name: all(balance.holds for balance in balances) for name, balances in by_table.items()},
        rejected_by=_reasons(tables, "rejected_by", words),
        reported_by=[one for one in found if one["code"] not in CONTRADICTIONS],
        contradicting=[one for one in found if one["code"] in CONTRADICTIONS],
        ignored_by=[
            {"table": table["table"], "rule": rule, "reason": _said(table, rule, words), "rows": rows}
            for table in tables
            for rule, rows in _most(table["ignored_by"])
        ],
        lists=[
            (verdict, found)
            for verdict, frames in (("rejected", rejected), ("reported", reported))
            if (found := _lists(tables, verdict, frames, words))
        ],
        set_aside=[{**file, "reason": _aside(file["reason"], words)} for file in pull["set_aside"][:LISTED_ROWS]],
        named_reasons=NAMED_REASONS,
        listed_files=LISTED_FILES,
        totals=totals,
        by_place=by_place,
        broken=[balance for balance in (*totals, *by_place) if not balance.holds],
        equation=words.equation,
    )


def _balances_of_pull(pull: Mapping[str, Any]) -> Iterator[Balance]:
    yield Balance("rows = accepted + ignored + rejected", "", pull["rows"], sum(pull[name] for name in VERDICTS))
    for name in ("rows", *VERDICTS):
        yield Balance(f"Σ tables = total: {name}", "", sum(table[name] for table in pull["tables"]), pull[name])


def _balances_of_table(table: Mapping[str, Any], where: str) -> Iterator[Balance]:
    yield Balance("rows = accepted + ignored + rejected", where, table["rows"], sum(table[name] for name in VERDICTS))
    for name in ("rows", *VERDICTS):
        yield Balance(f"Σ files = table: {name}", where, sum(file[name] for file in table["files"]), table[name])
    for name in ("ignored", "rejected", "reported"):
        # Contradictions are found in the snapshot, not in its rows as they came: a customer may have several.
        counted = sum(
            n for reason, n in table[f"{name}_by"].items() if reason.rpartition(": ")[2] not in CONTRADICTIONS
        )
        yield Balance(f"Σ reasons = table: {name}", where, counted, table[name])
    for file in table["files"]:
        counted = sum(file[name] for name in VERDICTS)
        yield Balance("rows = accepted + ignored + rejected", file["name"], file["rows"], counted)


def _most(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _reasons(tables: Sequence[Mapping[str, Any]], which: str, words: Words) -> list[dict[str, Any]]:
    """Table, column, reason and rows, the most frequent first."""
    found = []
    for table in tables:
        for column_and_reason, rows in _most(table[which]):
            column, _, code = column_and_reason.rpartition(": ")
            reason = _said(table, code, words)
            found.append({"table": table["table"], "column": column, "code": code, "reason": reason, "rows": rows})
    return sorted(found, key=lambda reason: -reason["rows"])


def _said(table: Mapping[str, Any], code: str, words: Words) -> str:
    """What a reason code says, or a rule of the profile in the profile's own words."""
    known = words.codes["faults"] | words.codes["contradictions"]
    said: str = known.get(code) or table["reasons"].get(code) or code
    return said


def _lists(
    tables: Sequence[Mapping[str, Any]], verdict: str, frames: Mapping[str, pd.DataFrame], words: Words
) -> list[dict[str, Any]]:
    """By table with such rows: how many there are in all, where the whole list lies, and the first of them."""
    found = []
    for table in tables:
        if not table[verdict]:
            continue
        frame = frames.get(table["table"])
        rows = [] if frame is None else frame.head(LISTED_ROWS).to_dict("records")
        found.append(
            {
                "table": table["table"],
                "all": table[verdict],
                "place": f"{table['path']}/{verdict}.parquet",
                "rows": [
                    {
                        "row_number": row["row_number"],
                        "file": row["file"],
                        "column": row["column"] or "",
                        "reason": _said(table, row["reason"], words),
                        "key": row["key"] if isinstance(row["key"], str) else "",
                    }
                    for row in rows
                ],
            }
        )
    return found


def _aside(reason: str, words: Words) -> str:
    """Why a file was set aside, in the page's language where tasks.source says it in one of its known sentences."""
    for sentence, text in words.codes["asides"].items():
        form = re.escape(sentence).replace(r"\{name\}", "(?P<name>.+)")
        if found := re.fullmatch(form, reason):
            return text.format(**found.groupdict())
    return reason
