"""`huifang profile …`: arguments of what is said about source profiles."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.common import err, errors, out

app = typer.Typer(help="Source profiles: draft one for new files, or try one.", no_args_is_help=True)


@app.callback()
def profile_commands() -> None:
    """Keeps `check` a word of its own while it is the only one."""


@app.command("check")
def profile_check(
    files: Annotated[list[Path], typer.Argument(help="Extract files: delimited text, .gz, .zip, Parquet or .xlsx.")],
    profile: Annotated[
        Path | None, typer.Option(help="Try the files with this profile; without it a profile is drafted.")
    ] = None,
    table: Annotated[
        str | None, typer.Option(help="Which canonical table the files are, where that cannot be told.")
    ] = None,
    out_file: Annotated[Path | None, typer.Option("--out", help="Write the draft into this new file.")] = None,
    rows: Annotated[int, typer.Option(min=0, help="Rows read of each file; 0 = all.")] = 200_000,
) -> None:
    """Draft a profile from files of a new house, or say what a pull with a profile would make of them.

    Reads the files and nothing else; shows counts and shapes, never a name, number or address.
    """
    from cli.profile_pages import check

    with errors():
        raise typer.Exit(check(files, profile=profile, table=table, out=out_file, rows=rows, console=out, err=err))
