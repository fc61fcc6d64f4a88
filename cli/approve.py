"""`huifang approve`: compliance looks at a draw and lets its lists go out, or takes that back."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from cli.common import Now, errors, moment, out, person


def approve(
    campaign: Annotated[str, typer.Argument(help="A drawn campaign, such as daily_risk-2026-03.")],
    by: Annotated[str | None, typer.Option(help="Who approves, by name; without it the draw is only shown.")] = None,
    note: Annotated[str, typer.Option(help="What was looked at.")] = "",
    sample: Annotated[
        str | None, typer.Option(help="The hash that was looked at, 12 signs or more: refused where another was drawn.")
    ] = None,
    withdraw: Annotated[
        bool, typer.Option("--withdraw", help="Take the approval back, while no list is mailed.")
    ] = False,
    now: Now = None,
) -> None:
    """Look at a draw and let its lists go out, where its programme says approval: required."""
    from flows.approve import decide
    from tasks.settings import Settings
    from tasks.store import open_store

    with errors():
        if by is None:
            if withdraw or note or sample:
                raise typer.BadParameter("--by NAME: who decides? Without it the draw is only shown")
            _show_draw(campaign)
            return
        said = decide(
            open_store(Settings()),
            campaign,
            by=person(by),
            sample=sample,
            note=note,
            withdraw=withdraw,
            now=moment(now),
        )
        out.print(said, markup=False, highlight=False, soft_wrap=True)


def _show_draw(campaign_id: str) -> None:
    """What an approval is asked for: the draw in counts per branch, its hash, who started it, what was decided."""
    from models.calendar import SHANGHAI
    from tasks import records
    from tasks.records import approvals
    from tasks.settings import Settings
    from tasks.store import open_store

    with open_store(Settings()).begin() as session:
        draw = records.campaign_of(session, campaign_id)[2]
        drawn, last = records.drawn_of(session, campaign_id), records.approval_of(session, campaign_id)
        starters = records.starters_of(session, campaign_id)
        is_asked = approvals.asks_for_approval(session, campaign_id)
        changed = approvals.changed_sample(session, campaign_id)
    out.print(f"{campaign_id}: {draw.drawn:,} to call, {draw.reserve:,} in reserve", markup=False, highlight=False)
    table = Table("branch")
    for column in ("to call", "reserve"):
        table.add_column(column, justify="right")
    for branch, mine in drawn.groupby("branch_no", sort=True):
        counts = mine["kind"].value_counts()
        table.add_row(str(branch), f"{counts.get('sample', 0):,}", f"{counts.get('reserve', 0):,}")
    out.print(table)
    lines = [
        f"sample {draw.sample_sha256}",
        f"drawn {draw.drawn_at.astimezone(SHANGHAI):%Y-%m-%d %H:%M} by {', '.join(starters)}",
    ]
    if changed:
        lines.append(f"not as it was drawn: {changed}")
    if not is_asked:
        lines.append("its plan asks for no approval")
    elif last is None:
        lines.append(f"not approved: huifang approve {campaign_id} --sample {draw.sample_sha256[:12]} --by NAME")
    else:
        stands = "" if last.sample_sha256 == draw.sample_sha256 else ", for another sample"
        moment_of = f"{last.decided_at.astimezone(SHANGHAI):%Y-%m-%d %H:%M}"
        lines.append(f"{last.decision} by {last.decided_by} on {moment_of}{stands}: {last.note or '—'}")
    for line in lines:
        out.print(line, markup=False, highlight=False, soft_wrap=True)
