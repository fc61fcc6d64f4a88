"""`huifang quarantine …`: messages that were not believed."""

from __future__ import annotations

from datetime import UTC, datetime
from email.errors import HeaderParseError
from pathlib import Path
from typing import Annotated

import typer

from cli.common import By, errors, out, person

app = typer.Typer(help="Messages that were not believed.", no_args_is_help=True)
Number = Annotated[int, typer.Argument(help="The message's number, from `huifang quarantine list`.")]


@app.command("list")
def quarantine_list() -> None:
    """Every message that was not believed, with the reason and where its bytes lie."""
    from models.returns import REASONS
    from tasks import records
    from tasks.settings import Settings
    from tasks.store import open_store

    with errors():
        with open_store(Settings()).begin() as session:
            judged = records.verdicts_of(session)
        waiting = judged[judged["verdict"] == "quarantined"]
        if waiting.empty:
            out.print("no message is quarantined")
        for row in waiting.itertuples():
            said = _headers(Settings().home / str(row.path))
            reason = REASONS.get(str(row.reason))
            why = f"{row.reason}: {reason.text(Settings().language)}" if reason else str(row.reason)
            out.print(f"{row.message_id}  {why}  {row.path}\n    {said}", soft_wrap=True, highlight=False, markup=False)


def _headers(path: Path) -> str:
    """Who wrote a spooled message, when and about what, as far as its headers say; nothing else of it is looked at."""
    from email.parser import BytesHeaderParser

    with path.open("rb") as message:
        headers = BytesHeaderParser().parsebytes(message.read(1 << 16))
    return "  ".join(_plain(" ".join(_decoded(headers.get(name, "—")).split())) for name in ("From", "Date", "Subject"))


def _decoded(header: str) -> str:
    """A header in the signs it stands for; as it was written where it says no charset that is known, or breaks it."""
    from email.header import decode_header, make_header

    try:
        return str(make_header(decode_header(header)))
    except (HeaderParseError, LookupError, UnicodeError):
        return str(header)


@app.command("show")
def quarantine_show(number: Number) -> None:
    """What a message holds, as far as it can be told without believing it: headers, parts by kind and size, verdicts so far."""
    from rich.table import Table

    from models.calendar import SHANGHAI
    from tasks import mailbox, records, vault
    from tasks.settings import Settings
    from tasks.store import open_store

    with errors():
        settings = Settings()
        with open_store(settings).begin() as session:
            history = records.verdict_history(session, number)
        if not history:
            raise typer.BadParameter(f"message {number}: is not there; `huifang quarantine list` names those that are")
        path = settings.home.resolve() / history[-1].path
        out.print(_headers(path), soft_wrap=True, highlight=False, markup=False)
        for said in history:
            moment = f"{said.decided_at.astimezone(SHANGHAI):%Y-%m-%d %H:%M}"
            out.print(f"{moment}  {said.verdict}  {said.reason}  {said.decided_by}", highlight=False, markup=False)
        anyone = {"": [key for keys in vault.branch_passwords(settings).values() for key in keys]}
        opened = next(iter(mailbox.open_messages([path], anyone, settings)))
        if opened.error:
            out.print(f"cannot be taken apart: {opened.error}")
        table = Table("part", "name", "kind", "bytes", "depth")
        for file in opened.files:
            table.add_row(str(file.part), _plain(file.name), file.media_type, f"{file.size_bytes:,}", str(file.depth))
        out.print(table)
        for book in opened.workbooks:
            rows = sum(len(sheet.rows) for sheet in book.sheets)
            out.print(f"workbook {_plain(book.name)}: {book.error or f'{rows} rows'}", highlight=False, markup=False)


@app.command("retry")
def quarantine_retry(
    number: Number,
    by: By,
    reason: Annotated[str, typer.Option(help="What has changed, such as a corrected roster.")],
) -> None:
    """Have the next collect judge a quarantined message again, by the same rules."""
    with errors():
        _decide(number, "held", "retry", by=by, why=reason)
        out.print(f"message {number} is held; the next collect judges it again")


@app.command("release")
def quarantine_release(
    number: Number,
    branch: Annotated[str, typer.Option(help="The branch whose return it is, such as 0101.")],
    by: By,
    reason: Annotated[str, typer.Option(help="How it was made sure that the branch sent it, such as a call back.")],
) -> None:
    """Answer for a message: the next collect takes it as this branch's, row for row by the same rules."""
    from models.calendar import SHANGHAI
    from tasks import lake, records
    from tasks.settings import Settings
    from tasks.store import open_store

    with errors():
        settings = Settings()
        with open_store(settings).begin() as session:
            snapshot = records.snapshot_of(session, "branches", datetime.now(SHANGHAI).date())
        known = lake.names_of(settings, snapshot.path, "branch_no", "branch_name")
        if branch not in known:
            raise typer.BadParameter(f"--branch {branch}: is not in the branches extract of {snapshot.as_of}")
        _decide(number, "held", "released", by=by, why=reason, branch_no=branch)
        out.print(
            f"message {number} is released as a return of branch {branch} by {by}; the next collect judges its rows, "
            "and its receipt goes to the branch's registered address"
        )


@app.command("discard")
def quarantine_discard(
    number: Number, by: By, reason: Annotated[str, typer.Option(help="Why it is nobody's return.")]
) -> None:
    """Say that a message is no return: it is booked as rejected, answered to nobody, and its bytes are kept."""
    with errors():
        _decide(number, "rejected", "discarded", by=by, why=reason)
        out.print(f"message {number} is discarded by {by}; the next collect moves it to the folder Rejected")


def _decide(number: int, verdict: str, reason: str, *, by: str, why: str, branch_no: str = "") -> None:
    """Book what a person decides about a quarantined message, with a row of the audit chain."""
    from models.tables import Verdict
    from tasks import records
    from tasks.settings import Settings
    from tasks.store import open_store, record

    store, now = open_store(Settings()), datetime.now(UTC)
    who, why = person(by), person(why)
    with store.exclusive("collect"), store.begin() as session:
        history = records.verdict_history(session, number)
        state = history[-1].verdict if history else "not there"
        if state != "quarantined":
            raise typer.BadParameter(f"message {number}: is {state}; only a quarantined one can be decided about")
        session.add(
            Verdict(
                message_id=number, version=records.next_version(session, number), verdict=verdict, reason=reason,
                branch_no=branch_no, campaign_id=None, rows_accepted=0, rows_rejected=0, is_late=False, decided_by=who,
                decided_at=now,
            )
        )  # fmt: skip
        record(
            session, actor=who, action=reason, subject=f"message {number}",
            payload={"reason": why, "branch": branch_no}, at=now,
        )  # fmt: skip


def _plain(text: str) -> str:
    """A stranger's text as it can be shown: signs that steer a terminal are question marks."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)[:100]
