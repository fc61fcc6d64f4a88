"""`huifang projection`: where each branch and the company end the year, as a person reads it."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

from rich.console import Console
from rich.table import Table

from flows.draw.projection import project
from tasks.settings import Settings, read_calendar
from tasks.store import open_store


def show_projection(programme: str | None, year: int, *, as_of: date, as_json: bool, console: Console) -> bool:
    """Show where each branch and the company end the year; whether nobody is sure to miss the goal."""
    settings = Settings()
    store = open_store(settings)
    found = project(settings, store, read_calendar(settings), programme, year, as_of=as_of)
    for one in found:
        for row in (one["company"], *one["groups"]):
            if not row["completed"] + row["failed"]:  # nobody knows yet how many will be completed
                row.update(dict.fromkeys(("expected", "low", "high", "shortfall")), verdict="no_answer_yet")
    if as_json:
        print(json.dumps(found, ensure_ascii=False, indent=2))  # noqa: T201
    else:
        for one in found:
            _show(one, as_of, console)
    return all(row["verdict"] != "behind" for one in found for row in (one["company"], *one["groups"]))


VERDICTS = {
    "reached": "reached",
    "on_track": "on track",
    "behind": "behind",
    "undecided": "undecided",
    "no_answer_yet": "no answer yet",
}


def _show(one: dict[str, Any], as_of: date, console: Console) -> None:
    """A programme year in columns that a terminal of 80 holds, the company first."""
    title = f"{one['programme_year']}, as of {as_of}"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for name in ("", "goal", "done", "open", "failed", "expected", "from–to", "short", "verdict"):
        table.add_column(name, justify="left" if name in ("", "verdict") else "right", no_wrap=True)
    for row in [one["company"] | {"group": "company"}, *one["groups"]]:
        counts = [f"{row[name]:,}" for name in ("goal", "completed", "open", "failed")]
        ends = ["–"] * 3
        if row["expected"] is not None:
            ends = [f"{row['expected']:,}", f"{row['low']:,}–{row['high']:,}", f"{row['shortfall']:,}"]
        table.add_row(row["group"], *counts, *ends, VERDICTS[row["verdict"]])
    # A wide table is not squeezed: what does not fit is cut by the terminal, never by us.
    widest = max(console.width, console.measure(table).maximum)
    Console(file=console.file, width=widest).print(table)
    console.print(ASSUMED, soft_wrap=True)


ASSUMED = (
    "expected: calls answered as often as so far, each coming month dealt by the rules of the draw; from–to: the ends at "
    "the 95 % limits of the completion rate; short: of the expected end from the goal. –: nobody has answered yet"
)
