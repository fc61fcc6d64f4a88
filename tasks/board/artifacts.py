"""What a run shows in the dashboard: its clock and name, progress, counts and the quota so far.

Publishes nothing outside a run, and never stops one: the store and the pages have what the dashboard does not take.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from time import monotonic
from typing import Any

from models import CallbackError
from models.calendar import SHANGHAI
from models.standing import Standing, outlook
from tasks.board.page import STATES, numbered, year_chart
from tasks.board.words import number, percent, words_in

LOG = logging.getLogger(__name__)

ARTIFACT_BYTES = 200_000
"""Larger ones are accepted and make the dashboard slow."""

Advance = Callable[[float], None]
"""Reports how much of a whole is done, from 0 to 1."""


class NoRun(CallbackError):
    """A run's clock was asked for where no flow runs."""


def run_clock() -> datetime:
    """The time for which the running flow was scheduled; for one started by hand, when it was started."""
    if not _in_run():
        raise NoRun("no flow runs here, so there is no clock: give now, a time with its zone")
    from prefect.runtime import flow_run

    return datetime.fromisoformat(flow_run.scheduled_start_time.isoformat())


def run_name(flow_name: str, *parameters: str) -> Callable[[], str]:
    """A maker of readable run names: the parameters that are given, or else the day of the run, and the flow."""

    def name() -> str:
        from prefect.runtime import flow_run

        given = [str(flow_run.parameters[key]) for key in parameters if flow_run.parameters.get(key) is not None]
        day = run_clock().astimezone(SHANGHAI).date()
        return f"{' '.join(given) or day} · {flow_name}"

    return name


@contextmanager
def progress(name: str) -> Iterator[Advance]:
    """A bar in the dashboard for as long as the block lasts; its key is progress- and the name.

    It moves at most once in two seconds: each step is a call to the server, and nobody looks more often.
    """
    artifact = None
    if _in_run():
        from prefect.artifacts import create_progress_artifact

        artifact = _published(
            lambda: create_progress_artifact(progress=0.0, key=artifact_key(f"progress {name}"), description=name)
        )
    shown, shown_at = 0, monotonic()

    def advance(share: float) -> None:
        nonlocal shown, shown_at
        percents = int(min(max(share, 0.0), 1.0) * 100)
        is_soon = monotonic() - shown_at < 2
        if artifact is None or (percents < 100 and is_soon) or percents <= shown:
            return
        from prefect.artifacts import update_progress_artifact

        _published(lambda: update_progress_artifact(artifact, progress=float(percents)))
        shown, shown_at = percents, monotonic()

    yield advance


def publish_counts(flow_name: str, key: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """A table of what went in and came out, under a key that keeps the history of earlier runs; nothing outside a run."""
    named = key if key.startswith(flow_name) else f"{flow_name}-{key}"
    _publish_table(named, [{name: _cell(value) for name, value in row.items()} for row in rows], flow_name)


def publish_standing(standing: Standing, language: str = "zh_CN") -> None:
    """The quota so far as a picture with its figures, and the branches by state; nothing outside a run."""
    if not _in_run():
        LOG.debug("%s: no flow runs here, nothing is published", standing.campaign)
        return
    from prefect.artifacts import create_markdown_artifact

    words = words_in(language)
    page = standing_markdown(standing, language)
    _published(
        lambda: create_markdown_artifact(
            markdown=page, key=artifact_key(f"standing-{standing.campaign}"), description=words["board.standing"]
        )
    )
    order = {state: place for place, state in enumerate(STATES)}
    rows = sorted(
        numbered(standing.branches).to_dict("records"), key=lambda row: (order[row["state"]], -row["overdue"])
    )
    columns = (
        "branch_no",
        "branch_name",
        "assigned",
        "completed",
        "open",
        "overdue",
        "completed_year",
        "goal",
        "findings",
    )
    _publish_table(
        f"branches-{standing.campaign}",
        [
            {
                words["columns.state"]: words[f"states.{row['state']}"],
                **{words[f"columns.{c}"]: row[c] for c in columns},
            }
            for row in rows
        ],
        words["board.branches"],
    )


def standing_markdown(standing: Standing, language: str = "zh_CN") -> str:
    """The artifact about a campaign's quota: the verdict, the chart and the figures."""
    words = words_in(language)
    ahead, broken = outlook(standing), [b for b in standing.balances() if not b.holds]
    states = standing.branches["state"].value_counts()
    chart = year_chart(standing, words)
    figures = [
        *((words[f"columns.{name}"], number(getattr(standing, name))) for name in (
            "base", "eligible", "goal", "completed_year", "drawn", "reserve", "assigned", "attempted", "completed", "open",
            "overdue", "replaced", "withdrawn", "expired", "findings", "cases", "opinions",
        )),
        *((f"{words['columns.branch_name']} · {words[f'states.{state}']}", number(n)) for state, n in states.items()),
        (words["board.balances"], "✓" if not broken else f"✗ {len(broken)}"),
    ]  # fmt: skip
    lines = [
        f"## {standing.title[language]} · {standing.period}",
        f"**{words['board.as_of']}** {standing.as_of} · **{words['verdicts.' + ahead.verdict]}** · "
        f"{number(ahead.completed)} / {number(ahead.goal)} ({percent(ahead.completed, ahead.goal)})",
        f"![{chart.summary}]({chart.picture()})",
        f"| {words['chart.measure']} | {words['board.count']} |\n|---|---:|\n"
        + "\n".join(f"| {name} | {n} |" for name, n in figures),
        *(f"- ✗ {words.equation(b)} {b.where}: {number(b.left)} ≠ {number(b.right)}" for b in broken[:20]),
        f"`sample {standing.sample_sha256}`",
    ]
    return "\n\n".join(lines)


def artifact_key(name: str) -> str:
    """A name as Prefect takes keys: small letters, digits and single dashes.

    >>> artifact_key("dispatch daily_risk-2026-03")
    'dispatch-daily-risk-2026-03'
    """
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _publish_table(key: str, rows: list[dict[str, Any]], description: str) -> None:
    if not _in_run():
        LOG.debug("%s: no flow runs here, nothing is published", key)
        return
    from prefect.artifacts import create_table_artifact

    kept = _fitting(rows)
    if len(kept) < len(rows):
        description += f" (+{len(rows) - len(kept)})"
        LOG.warning("%s: the artifact shows %d of %d rows, the report has all", key, len(kept), len(rows))
    _published(lambda: create_table_artifact(table=kept, key=artifact_key(key), description=description))


def _fitting(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    size = 2
    for place, row in enumerate(rows):
        size += len(json.dumps(row, ensure_ascii=True)) + 2
        if size > ARTIFACT_BYTES:
            return rows[:place]
    return rows


def _cell(value: Any) -> str | int | float:
    if isinstance(value, Mapping):
        return " · ".join(f"{name} {count}" for name, count in value.items())
    return value if isinstance(value, (str, int, float)) else str(value)


def _in_run() -> bool:
    from prefect.context import FlowRunContext, TaskRunContext

    return FlowRunContext.get() is not None or TaskRunContext.get() is not None


def _published(publish: Callable[[], Any]) -> Any:
    """What publishing gives; a dashboard that does not answer must not undo a run whose facts are stored."""
    import httpx

    try:
        return publish()
    except httpx.HTTPError as error:
        LOG.warning(
            "the dashboard did not take an artifact (%s); the store and the report have it", type(error).__name__
        )
        return None
