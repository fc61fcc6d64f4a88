"""`huifang credibility`: what makes the branches' own results look odd, by branch and caller."""

from __future__ import annotations

import json

from rich.console import Console
from rich.table import Table

from flows.report import signals_of
from models.credibility import SIGNALS
from tasks import records
from tasks.settings import Settings
from tasks.store import open_store


def show_credibility(campaign_id: str, *, as_json: bool, console: Console) -> None:
    """Every signal of a campaign with its caller, the gravest first; names of staff, so for headquarters' eyes."""
    settings = Settings()
    with open_store(settings).begin() as session:
        records.campaign_of(session, campaign_id)
        found = signals_of(settings, session, campaign_id)
    if as_json:
        print(json.dumps(found.to_dict("records"), ensure_ascii=False, indent=2))  # noqa: T201
        return
    if found.empty:
        console.print(f"{campaign_id}: no signal in the rows that branches returned so far")
        return
    table = Table("signal", "branch", "caller")
    for column in ("rows", "of"):
        table.add_column(column, justify="right")
    for row in found.itertuples():
        words = SIGNALS[str(row.signal)].text(settings.language)
        table.add_row(words, str(row.branch_no), str(row.caller_name), f"{row.rows:,}", f"{row.reported:,}")
    console.print(table)
    console.print("signals are shown and decide nothing: listen to a recording, or call again, before judging anybody")
