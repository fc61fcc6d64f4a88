"""`huifang keys …`: the branches' keys. A key is shown in a printed letter and nowhere else."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from cli.common import By, Now, Reason, errors, moment, out, person

app = typer.Typer(
    help="The keys that the branches' lists are locked with; never mailed, never shown.", no_args_is_help=True
)
Branch = Annotated[str, typer.Argument(help="The branch's number, such as 0101; HQ for headquarters' call centre.")]


@app.command("list")
def keys_list() -> None:
    """Which branch has a key, of which version, and who rotated it last and why. Ends with 1 where one is missing or damaged."""
    from models.calendar import SHANGHAI
    from tasks import vault
    from tasks.settings import Settings

    with errors():
        settings = Settings()
        found = vault.branch_keys(settings, set(_branches(settings)))
        last = {rotation.branch_no: rotation for rotation in vault.rotations(settings)}
        table = Table("branch", "version", "state", "since", "rotated by", "reason")
        for key in found:
            since = f"{key.made_at.astimezone(SHANGHAI):%Y-%m-%d}" if key.made_at else ""
            by, reason = (last[key.branch_no].by, last[key.branch_no].reason) if key.branch_no in last else ("", "")
            table.add_row(key.branch_no, str(key.version or ""), key.state, since, by, reason)
        out.print(table)
        for key in found:
            if key.state == "damaged":
                out.print(
                    f"{key.branch_no}: its key file is empty or damaged; restore it from the backup, or "
                    f"`huifang keys rotate {key.branch_no}`",
                    markup=False,
                )
        if missing := [key.branch_no for key in found if key.state == "missing"]:
            out.print(
                f"{', '.join(missing)}: no key file; the first list or `huifang keys create` makes one. Where there was "
                "one, restore it from the backup",
                markup=False,
                highlight=False,
            )
        if any(key.state != "ok" for key in found):
            raise typer.Exit(1)


@app.command("create")
def keys_create(
    branches: Annotated[list[str] | None, typer.Argument(help="Branch numbers.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every branch of the branches extract, and HQ.")] = False,
) -> None:
    """Make the first key of branches; one that has a key keeps it."""
    from tasks import vault
    from tasks.settings import Settings
    from tasks.store import open_store

    with errors():
        settings = Settings()
        known = _branches(settings)
        if every and not known:
            raise typer.BadParameter("--all: no branches have been pulled yet; name the branches, or pull them first")
        named = sorted(known) if every else branches or []
        if not named:
            raise typer.BadParameter("name branches, or --all")
        for branch_no in named:
            _check(branch_no, known)
        with open_store(settings).exclusive("keys"):
            made = [branch_no for branch_no in named if vault.create_key(settings, branch_no)]
        out.print(
            f"{len(made)} keys made, {len(named) - len(made)} branches had one; `huifang keys letter` prints each"
        )


@app.command("rotate")
def keys_rotate(branch: Branch, by: By, reason: Reason, now: Now = None) -> None:
    """Give a branch a new key. Lists that are out still open with the one before, and so do returns locked with it."""
    from tasks import vault
    from tasks.settings import Settings
    from tasks.store import open_store, record

    with errors():
        settings, at, who, why = Settings(), moment(now), person(by), person(reason)
        _check(branch, _branches(settings))
        store = open_store(settings)
        with store.exclusive("keys"):
            version = vault.begin_rotation(settings, branch)
            # The row first: after a crash it names a version that the next attempt makes.
            with store.begin() as session:
                record(
                    session, actor=who, action="rotate key", subject=f"branch {branch} key {version}",
                    payload={"reason": why}, at=at,
                )  # fmt: skip
            vault.rotate_key(settings, branch, now=at, by=who, reason=why)
        out.print(
            f"branch {branch} has key {version} from now on, by {who}; `huifang keys letter {branch} --out FILE.html` "
            "writes the letter that brings it"
        )


@app.command("letter")
def keys_letter(
    branch: Branch,
    to: Annotated[
        Path, typer.Option("--out", help="The page to print, such as letter-0101.html; remove it afterwards.")
    ],
) -> None:
    """Write the letter that brings a branch its key, for print and delivery by hand or post."""
    from models.calendar import SHANGHAI
    from tasks import vault
    from tasks.settings import Settings

    with errors():
        settings = Settings()
        known = _branches(settings)
        _check(branch, known)
        vault.write_letter(settings, branch, known.get(branch, branch), to, on=datetime.now(SHANGHAI).date())
        out.print(
            f"{to}: print it, hand it over against a signature, and remove the file", soft_wrap=True, markup=False
        )


def _branches(settings: Any) -> dict[str, str]:
    """Names of the branches by number as they stand today, headquarters among them; empty before the first pull."""
    from models import roster
    from models.calendar import SHANGHAI
    from tasks import lake, records
    from tasks.store import open_store

    with open_store(settings).begin() as session:
        snapshot = records.optional_snapshot(session, "branches", datetime.now(UTC).astimezone(SHANGHAI).date())
    if snapshot is None:
        return {}
    return lake.names_of(settings, snapshot.path, "branch_no", "branch_name") | {roster.HQ: settings.mail_name}


def _check(branch_no: str, known: dict[str, str]) -> None:
    if known and branch_no not in known:
        raise typer.BadParameter(f"branch {branch_no}: is not in the branches extract; `huifang keys list` names those")
