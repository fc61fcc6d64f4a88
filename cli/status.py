"""`huifang status`: where each campaign stands."""

from __future__ import annotations

import json
from datetime import date, datetime
from typing import Annotated, Any

import typer
from rich.table import Table

from cli.common import AsOf, day_of, err, errors, out


def status(
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="One JSON object: waiting, campaigns, pulls, mails, messages, mail_stopped, recalls."
        ),
    ] = False,
    as_of: AsOf = None,
) -> None:
    """Where each campaign stands, which draws wait and for whom, and what the last pulls took in."""
    from cli.waiting import is_for_a_person
    from models.calendar import SHANGHAI
    from tasks.settings import Settings
    from tasks.store import open_store

    with errors():
        settings = Settings()
        store = open_store(settings)
        found = _status(settings, store, day_of(as_of) or datetime.now(SHANGHAI).date())
        if as_json:
            print(json.dumps(found, ensure_ascii=False, indent=2))  # noqa: T201
        else:
            _show_status(found)
        holds = all(balance["holds"] for campaign in found["campaigns"] for balance in campaign["balances"])
        gaps = any(campaign["gaps"] for campaign in found["campaigns"])
        is_unasked = any(one["request"] != "sent" for one in found["recalls"])
        if not holds or gaps or is_unasked or found["mail_stopped"] or is_for_a_person(found["waiting"]):
            raise typer.Exit(1)


def credibility(
    campaign: Annotated[str, typer.Argument(help="A drawn campaign, such as daily_risk-2026-03.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON list, a signal of a caller each.")] = False,
) -> None:
    """What makes the branches' own results look odd, by branch and caller; shown, never decisive."""
    from cli.credibility import show_credibility

    with errors():
        show_credibility(campaign, as_json=as_json, console=out)


def _status(settings: Any, store: Any, as_of: date) -> dict[str, Any]:
    from dataclasses import asdict

    from cli.waiting import find_waiting
    from flows.report import standing_of
    from models.standing import mail_counts, message_counts
    from tasks import outbox, records

    with store.begin() as session:
        stop = outbox.last_switch(session)
        standings = [standing_of(settings, session, name, as_of) for name in records.drawn_campaigns(session)]
        waiting = find_waiting(session, settings.language)
        pulls = records.pulls(session)
        mails = mail_counts(records.mails_of(session))
        messages = message_counts(records.verdicts_of(session), records.sightings(session))
        recalls = records.recalls_of(session)
    stopped = None
    if stop is not None and stop.is_stopped:
        stopped = {"by": stop.decided_by, "reason": stop.reason, "since": stop.decided_at.isoformat()}
    campaigns = []
    for standing in standings:
        plain = {key: value for key, value in asdict(standing).items() if key != "branches"} | {
            "as_of": standing.as_of.isoformat()
        }
        plain["branches"] = standing.branches.to_dict("records")
        plain["balances"] = [{**asdict(balance), "holds": balance.holds} for balance in standing.balances()]
        campaigns.append(plain)
    return {
        "as_of": as_of.isoformat(), "waiting": waiting, "campaigns": campaigns, "pulls": pulls, "mails": mails, "messages": messages,
        "mail_stopped": stopped, "recalls": recalls,
    }  # fmt: skip


def _show_status(found: dict[str, Any]) -> None:
    from cli.waiting import show_waiting

    for pulled in found["pulls"]:
        table = Table(title=f"pull {pulled['pull']} · {pulled['as_of']} · {pulled['profile']}", title_justify="left")
        for column in ("table", "rows", "accepted", "ignored", "rejected", "by"):
            table.add_column(column, justify="left" if column in ("table", "by") else "right")
        for row in pulled["tables"]:
            reasons = [f"{rule} {n:,}" for by in ("ignored_by", "rejected_by") for rule, n in row[by].items()]
            counts = (f"{row[key]:,}" for key in ("rows", "accepted", "ignored", "rejected"))
            table.add_row(row["table"], *counts, ", ".join(reasons))
        out.print(table)
    if stop := found["mail_stopped"]:
        out.print(f"all mail is stopped by {stop['by']}: {stop['reason']}; `huifang mail go` lets it out", markup=False)
    for one in found["recalls"]:
        state = f"request to destroy {one['request'] or 'not written yet'}"
        said = f"mail {one['mail']} to {one['recipient']} was recalled by {one['by']} on {one['at']}: {one['persons']} persons, {state}"
        out.print(said, markup=False, soft_wrap=True)
    show_waiting(found["waiting"], out)
    if not found["campaigns"] and found["waiting"]:
        return
    if not found["campaigns"]:
        out.print("no campaign has been drawn yet: huifang run draw --programme NAME --period YYYY-MM")
        return
    table = Table(title=f"campaigns, as of {found['as_of']}", title_justify="left")
    table.add_column("")
    for campaign in found["campaigns"]:
        table.add_column(campaign["campaign"], justify="right")
    keys = (
        "base", "eligible", "excluded", "waived", "goal", "drawn", "reserve", "assigned", "completed", "open", "awaiting", "overdue",
        "replaced", "withdrawn", "expired", "completed_year", "mails", "messages", "findings", "cases", "opinions",
    )  # fmt: skip
    for key in keys:
        cells = []
        for campaign in found["campaigns"]:
            value = campaign[key]
            if isinstance(value, dict):
                cells.append("\n".join(f"{name} {n:,}" for name, n in value.items() if n) or "0")
            else:
                cells.append(f"{value:,}")
        table.add_row(key, *cells)
    out.print(table)
    _show_gaps(found["campaigns"])
    unequal = [balance for campaign in found["campaigns"] for balance in campaign["balances"] if not balance["holds"]]
    for balance in unequal:
        err.print(f"does not hold: {balance['name']} {balance['where']}: {balance['left']} against {balance['right']}")
    if not unequal:
        out.print("every balance holds")


def _show_gaps(campaigns: list[dict[str, Any]]) -> None:
    """What keeps lists at headquarters, a branch each."""
    from models.roster_findings import Finding

    shown = [(campaign["campaign"], gap) for campaign in campaigns for gap in campaign["gaps"]]
    if not shown:
        return
    table = Table(title="headquarters: lists that could not go out", title_justify="left")
    for column in ("campaign", "branch", "role", "code", "row", "what to do"):
        table.add_column(column, overflow="fold")
    for campaign_id, gap in shown:
        finding = Finding(gap["code"], True, gap["branch_no"], gap["role"], detail=gap["detail"])
        place = str(gap["row"] or "")
        table.add_row(campaign_id, gap["branch_no"], gap["role"], gap["code"], place, finding.write("en"))
    out.print(table)
    out.print(
        "`huifang roster check` says more; once corrected and pulled, the next dispatch mails those branches alone"
    )
