"""`huifang quarantine …`: messages that were not believed."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from cli.common import errors, out

app = typer.Typer(help="Messages that were not believed.", no_args_is_help=True)


@app.command("list")
def quarantine_list() -> None:
    """Every message that was not believed, with the reason and where its bytes lie."""
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
            out.print(
                f"{row.message_id}  {row.reason}  {row.path}\n    {said}", soft_wrap=True, highlight=False, markup=False
            )


def _headers(path: Path) -> str:
    """Who wrote a spooled message, when and about what, as far as its headers say; nothing else of it is looked at."""
    from email.parser import BytesHeaderParser

    with path.open("rb") as message:
        headers = BytesHeaderParser().parsebytes(message.read(1 << 16))
    shown = (" ".join(str(headers.get(name, "—")).split())[:100] for name in ("From", "Date", "Subject"))
    return "  ".join("".join(sign if sign.isprintable() else "?" for sign in text) for text in shown)


@app.command("retry")
def quarantine_retry(
    number: Annotated[int, typer.Argument(help="The message's number, from `huifang quarantine list`.")],
    by: Annotated[str, typer.Option(help="Who asks for it.")],
    reason: Annotated[str, typer.Option(help="What has changed, such as a corrected roster.")],
) -> None:
    """Have the next collect judge a quarantined message again, by the same rules."""
    from models.tables import Verdict
    from tasks import records
    from tasks.settings import Settings
    from tasks.store import open_store, record

    with errors():
        store, now = open_store(Settings()), datetime.now(UTC)
        with store.exclusive("collect"), store.begin() as session:
            judged = records.verdicts_of(session)
            state = dict(zip(judged["message_id"], judged["verdict"], strict=True)).get(number)
            if state != "quarantined":
                raise typer.BadParameter(
                    f"message {number}: is {state or 'not there'}, only a quarantined one can be judged again"
                )
            session.add(
                Verdict(
                    message_id=number, version=records.next_version(session, number), verdict="held", reason="retry", branch_no="",
                    campaign_id=None, rows_accepted=0, rows_rejected=0, is_late=False, decided_by=by, decided_at=now,
                )
            )  # fmt: skip
            record(session, actor=by, action="retry", subject=f"message {number}", payload={"reason": reason}, at=now)
        out.print(f"message {number} is held; the next collect judges it again")
