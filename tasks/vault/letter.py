"""The letter that brings a branch its key: a page made for print, never for mail."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tasks.settings import PROJECT, Settings
from tasks.vault.keys import begin_rotation, branch_password
from tasks.vault.secret import VaultError, write_private


def write_letter(settings: Settings, branch_no: str, branch_name: str, to: Path, *, on: date) -> None:
    """A branch's present key as an HTML page that prints on one sheet of A4; the file is for the service user alone.

    Raises VaultError for another ending or a file that is there, BranchKeyError for a key that cannot be used.
    """
    if to.suffix.lower() not in (".html", ".htm"):
        raise VaultError(f"{to}: a letter is a page to print from a browser; call the file {to.stem}.html")
    if to.exists():
        raise VaultError(f"{to}: is there already; a letter is written once, remove it after printing")
    version = begin_rotation(settings, branch_no) - 1
    environment = Environment(
        loader=FileSystemLoader(PROJECT / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    page = environment.get_template("key_letter.html.j2").render(
        language=settings.language,
        branch_no=branch_no,
        branch_name=branch_name,
        password=branch_password(settings, branch_no),
        version=version,
        on=on,
        sender_name=settings.mail_name,
        return_address=settings.mail_from,
    )
    to.parent.mkdir(parents=True, exist_ok=True)
    write_private(to, page.encode())
