"""`huifang …`: the command line over the flows; knows arguments, exit codes and what a person is shown.

Exit codes: 0 fine, 1 something to look at (said), 2 wrong usage or input. Modules here import what is heavy inside the
command that needs it, so that `huifang --help` is quick.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from cli import approve, draw, flows, keys, mail, profile, programme, quarantine, roster, serve, status

app = typer.Typer(
    help="huifang 回访: extracts in, samples drawn, callback lists mailed, returns collected, summaries sent.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _show_version(is_asked: bool) -> None:
    if is_asked:
        from importlib.metadata import version

        from tasks.settings import code_version

        typer.echo(f"huifang {version('huifang')} ({code_version()})")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Say which version this is.")
    ] = False,
) -> None:
    pass


app.add_typer(flows.app, name="run")
app.command()(flows.demo)
app.command()(status.status)
app.command()(status.credibility)
app.add_typer(draw.app)
app.command()(approve.approve)
app.add_typer(mail.app, name="mail")
app.add_typer(keys.app, name="keys")
app.add_typer(quarantine.app, name="quarantine")
app.add_typer(roster.app, name="roster")
app.add_typer(programme.app, name="programme")
app.add_typer(profile.app, name="profile")
app.add_typer(serve.db_app, name="db")
app.command()(serve.serve)


def main() -> None:
    """The entry point of `huifang`."""
    os.umask(0o077)  # what it writes is for the service user only
    sys.exit(app())
