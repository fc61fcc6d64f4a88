"""What every command shares: arguments, the clock, exit codes, the Prefect server that a flow runs on."""

from __future__ import annotations

import logging
import os
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from models import CallbackError

out, err = Console(), Console(stderr=True)

LOOK_AT = (
    "unreadable",
    "rejected",
    "waiting",
    "shortfall",
    "gaps",
    "failed",
    "unknown",
    "bounced",
    "quarantined",
    "held",
    "imbalances",
    "unapproved",
    "stopped",
    "mails_waiting",
    "receipts_put_off",
)
"""Counts of a flow that somebody should look at when they are not zero."""

AsOf = Annotated[
    datetime | None, typer.Option("--as-of", formats=["%Y-%m-%d"], help="Business day; today when not given.")
]
Now = Annotated[
    datetime | None,
    typer.Option(
        "--now",
        formats=["%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M%z", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M"],
        help="The clock, as 2026-03-02T09:00+0800.",
    ),
]
CampaignId = Annotated[
    str | None, typer.Option("--campaign", help="One campaign, such as daily_risk-2026-03; all when not given.")
]
By = Annotated[str, typer.Option(help="Who decides, by name.")]
Reason = Annotated[str, typer.Option(help="Why.")]


def day_of(value: datetime | None) -> date | None:
    return value.date() if value else None


def time_of(value: datetime | None) -> datetime | None:
    from models.calendar import SHANGHAI

    return value if value is None or value.tzinfo else value.replace(tzinfo=SHANGHAI)


def moment(now: datetime | None) -> datetime:
    return time_of(now) or datetime.now(UTC)


def person(text: str) -> str:
    plain = " ".join(unicodedata.normalize("NFKC", text).split())
    if not plain:
        raise typer.BadParameter("a decision needs a name and a reason")
    return plain


@contextmanager
def errors() -> Iterator[None]:
    """Say what is wrong in one message and leave with 2; only what nobody foresaw shows a traceback."""
    from pydantic import ValidationError

    try:
        yield
    except CallbackError as error:
        err.print(f"[bold red]error[/] {type(error).__name__}:", end=" ")
        err.print(str(error), markup=False, highlight=False)
        # That another run is at it is nothing wrong with the words.
        raise typer.Exit(1 if type(error).__name__ == "Busy" else 2) from None
    except ValidationError as error:
        lines = [f"HUIFANG_{'.'.join(str(part) for part in e['loc']).upper()}: {e['msg']}" for e in error.errors()]
        err.print("settings: " + "; ".join(lines), markup=False)
        raise typer.Exit(2) from None


def check_campaign(campaign: str | None) -> None:
    from tasks import records
    from tasks.settings import Settings
    from tasks.store import open_store

    with errors():
        store = open_store(Settings())
        if campaign is not None:
            with store.begin() as session:
                records.campaign_of(session, campaign)


def guard_demo(settings: Any, inbox: str | None) -> None:
    """Real extracts do not go where a demo lives: the next demo would wipe them."""
    home = settings.home.resolve()
    folder = inbox or settings.inbox
    if folder and (home / "DEMO").exists() and home not in Path(folder).resolve().parents:
        err.print(
            f"{home} holds a demo, which the next `huifang demo` wipes: choose another place for real extracts, "
            "HUIFANG_HOME=var/real huifang run pull …"
        )
        raise typer.Exit(2)


class _Terse(logging.Filter):
    """What we foresaw is said once, by us; a terminal needs neither its traceback nor the states it went through.

    Nor the address of a run on a server that ends with the command, nor counts in the form of the code.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, Mapping):  # how logging keeps a single argument that is one
            record.args = (_in_words(record.args),) if "%(" not in str(record.msg) else record.args
        elif isinstance(record.args, tuple):
            record.args = tuple(_in_words(arg) if isinstance(arg, Mapping) else arg for arg in record.args)
        foreseen = record.exc_info and record.exc_info[0] and issubclass(record.exc_info[0], CallbackError)
        said = record.getMessage()
        return not foreseen and "Finished in state Failed" not in said and not said.startswith("View at http")


def _in_words(counts: Mapping[str, object]) -> str:
    """Counts by name as a person reads them; those of nothing are left out.

    >>> _in_words({"claimed": 0, "sent": 1203, "moved_up": 2})
    'sent 1,203, moved up 2'
    """
    named = [(str(name).replace("_", " "), n) for name, n in counts.items() if n]
    return ", ".join(f"{name} {n:,}" if isinstance(n, int) else f"{name} {n}" for name, n in named) or "nothing to do"


def run(name: str, start: Callable[[], dict[str, int]]) -> None:
    from tasks.settings import Settings

    with errors(), prefect_for(Settings()):
        for logger in (
            "prefect.flow_runs",
            "prefect.task_runs",
        ):  # of the loggers: handlers come and go with Prefect's set-up
            logging.getLogger(logger).addFilter(_Terse())
        counts = start()
        table = Table(title=name, title_justify="left", show_header=False)
        for key, n in counts.items():
            table.add_row(key, f"{n:,}")
        out.print(table)
        found = {key: counts[key] for key in LOOK_AT if counts.get(key)}
    if found:
        err.print("look at: " + ", ".join(f"{n} {key}" for key, n in found.items()))
        raise typer.Exit(1)


@contextmanager
def prefect_for(settings: Any) -> Iterator[None]:
    """A Prefect server for a flow: the one named by PREFECT_API_URL, the one `huifang serve` runs, or one of its own for the time."""
    home = settings.home.resolve()
    from tasks.server import client_settings, is_alive, is_at, prefect_server

    address = home / "prefect-api"
    given = os.environ.get("PREFECT_API_URL") or (
        address.read_text(encoding="ascii").strip() if address.is_file() else ""
    )
    if given and is_at(given):  # the demo's commands share one server and one client
        yield
        return
    if given and is_alive(given):
        os.environ.update(client_settings(given, home))
        from tasks.server import client_context

        with client_context(given, home):
            yield
        return
    with prefect_server(home, environ=os.environ, log=home / "log" / "prefect-server.log") as api_url:
        os.environ.update(client_settings(api_url, home))
        from tasks.server import client_context

        with client_context(api_url, home):
            yield
