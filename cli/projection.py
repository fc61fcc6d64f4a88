"""`huifang projection`: where each branch and the company end the year, as a person reads it."""

from __future__ import annotations

import json
from datetime import date

from rich.console import Console
from rich.table import Table

from flows.draw.projection import project
from tasks.settings import Settings, read_calendar
from tasks.store import open_store


def show_projection(programme: str | None, year: int, *, as_of: date, as_json: bool, console: Console) -> bool:
    """Show where each branch and the company end the year; whether every group is expected to reach its goal."""
    settings = Settings()
    store = open_store(settings)
    found = project(settings, store, read_calendar(settings), programme, year, as_of=as_of)
    if as_json:
        print(json.dumps(found, ensure_ascii=False, indent=2))  # noqa: T201
        return all(one["company"]["verdict"] != "behind" for one in found)
    for one in found:
        table = Table(title=f"{one['programme_year']}, as of {as_of}", title_justify="left")
        for column in (
            "group",
            "goal",
            "completed",
            "open",
            "failed",
            "expected",
            "low",
            "high",
            "shortfall",
            "verdict",
        ):
            table.add_column(column, justify="left" if column in ("group", "verdict") else "right")
        for row in [one["company"] | {"group": "company"}, *one["groups"]]:
            cells = [row[str(column.header)] for column in table.columns]
            table.add_row(*(cell if isinstance(cell, str) else f"{cell:,}" for cell in cells))
        console.print(table)
        console.print(one["assumption"], soft_wrap=True)
    return all(row["verdict"] != "behind" for one in found for row in [one["company"], *one["groups"]])
