"""`huifang programme …`: arguments of what is said about programme files."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from cli.common import day_of, err, errors, out

Chosen = Annotated[Literal["zh_CN", "en"] | None, typer.Option(help="HUIFANG_LANGUAGE when not given.")]

app = typer.Typer(help="Programme files: what they say, and what a year would come to.", no_args_is_help=True)


@app.command("list")
def programme_list() -> None:
    """Every programme with its versions and the days each is used on."""
    from cli.programme_pages import show_list

    with errors():
        show_list(out)


@app.command("check")
def programme_check(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Programme files; all of the folder when none is named.")
    ] = None,
) -> None:
    """Read programme files and name every fault with file, line, key and what is allowed."""
    from cli.programme_pages import check

    with errors():
        raise typer.Exit(0 if check(files or [], out, err) else 2)


@app.command("explain")
def programme_explain(
    name: Annotated[str, typer.Argument(help="A programme, such as daily_risk.")],
    on: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="The version that holds on this day; today when not given."),
    ] = None,
    language: Chosen = None,
    file: Annotated[Path | None, typer.Option(help="A programme file to read, whatever version holds.")] = None,
) -> None:
    """Say in plain sentences what a programme will do."""
    from cli.programme_pages import show_explained
    from models.calendar import SHANGHAI

    with errors():
        day = day_of(on) or datetime.now(SHANGHAI).date()
        show_explained(name, on=day, language=language, file=file, console=out, err=err)


@app.command("try")
def programme_try(
    name: Annotated[str, typer.Argument(help="A programme, such as daily_risk.")],
    period: Annotated[str, typer.Option(help="The year, such as 2026.")],
    completion: Annotated[str, typer.Option(help="Assumed share of calls that are completed.")] = "0.80",
    language: Chosen = None,
    file: Annotated[
        Path | None, typer.Option(help="A programme file to try in the months in which it holds, whatever else does.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Play a programme's year on the pulled base: calls per branch and month, shortfalls; nothing is stored."""
    from cli.programme_pages import rehearse

    with errors():
        if not (len(period) == 4 and period.isascii() and period.isdigit()):
            raise typer.BadParameter(f"--period {period}: a dry run is of a whole year, such as 2026")
        is_fine = rehearse(
            name, int(period), completion=completion, language=language, file=file, as_json=as_json, console=out, err=err
        )
        raise typer.Exit(0 if is_fine else 1)
