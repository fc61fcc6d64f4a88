"""`huifang approve`: compliance looks at a draw and lets its lists go out, or takes that back."""

from __future__ import annotations

from datetime import datetime

from rich.console import Console
from rich.table import Table

from flows.approve import decide
from models.calendar import SHANGHAI
from models.programme import Programme
from tasks import records
from tasks.settings import Settings
from tasks.store import open_store


def show_draw(campaign_id: str, *, console: Console) -> None:
    """What an approval is asked for: the draw in counts per branch, its hash, who started it, what was decided."""
    with open_store(Settings()).begin() as session:
        _, year, draw = records.campaign_of(session, campaign_id)
        drawn, last = records.drawn_of(session, campaign_id), records.approval_of(session, campaign_id)
        starters = records.starters_of(session, campaign_id)
    table = Table(
        "branch", title=f"{campaign_id}: {draw.drawn:,} to call, {draw.reserve:,} in reserve", title_justify="left"
    )
    for column in ("to call", "reserve"):
        table.add_column(column, justify="right")
    for branch, mine in drawn.groupby("branch_no", sort=True):
        counts = mine["kind"].value_counts()
        table.add_row(str(branch), f"{counts.get('sample', 0):,}", f"{counts.get('reserve', 0):,}")
    console.print(table)
    asked = Programme.model_validate_json(year.plan).approval == "required"
    console.print(f"sample {draw.sample_sha256}", highlight=False)
    console.print(
        f"drawn {draw.drawn_at.astimezone(SHANGHAI):%Y-%m-%d %H:%M} by {', '.join(starters)}", highlight=False
    )
    if not asked:
        console.print("its plan asks for no approval")
    elif last is None:
        console.print(f"not approved: huifang approve {campaign_id} --by NAME")
    else:
        stands = "" if last.sample_sha256 == draw.sample_sha256 else ", for another sample"
        moment = f"{last.decided_at.astimezone(SHANGHAI):%Y-%m-%d %H:%M}"
        console.print(f"{last.decision} by {last.decided_by} on {moment}{stands}: {last.note or '—'}", markup=False)


def approve(campaign_id: str, *, by: str, note: str, withdraw: bool, now: datetime, console: Console) -> None:
    """Book the decision; see flows.approve.decide."""
    store = open_store(Settings())
    said = decide(store, campaign_id, by=by, sample=None, note=note, withdraw=withdraw, now=now)
    console.print(said, highlight=False)
