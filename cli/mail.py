"""`huifang mail …`: the outbox."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.table import Table

from cli.common import By, CampaignId, Reason, errors, out, person

app = typer.Typer(help="The outbox: what became of each mail.", no_args_is_help=True)


@app.command("list")
def mail_list(
    campaign: CampaignId = None,
    outcome: Annotated[str | None, typer.Option(help="sent, failed, unknown or in_flight; all when not given.")] = None,
) -> None:
    """Every mail with what became of it."""
    from tasks import records
    from tasks.settings import Settings
    from tasks.store import open_store

    with errors():
        if outcome not in (None, "sent", "failed", "unknown", "in_flight"):
            raise typer.BadParameter(f"--outcome {outcome}: sent, failed, unknown or in_flight")
        with open_store(Settings()).begin() as session:
            mails = records.mails_of(session, campaign)
        shown = mails if outcome is None else mails[mails["outcome"] == outcome]
        table = Table()
        for column in ("no", "kind", "campaign", "recipient", "role", "seq", "outcome", "code"):
            table.add_column(column)
        for row in shown.itertuples():
            code = "" if row.code is None or row.code != row.code else str(int(row.code))
            table.add_row(
                str(row.mail_id),
                row.kind,
                row.campaign_id,
                row.recipient,
                row.role,
                str(row.sequence),
                row.outcome,
                code,
            )
        out.print(table)


@app.command("resolve")
def mail_resolve(
    number: Annotated[int, typer.Argument(help="The mail's number, from `huifang mail list --outcome unknown`.")],
    outcome: Annotated[
        str,
        typer.Option("--as", help="sent (the recipient has it) or failed (he has not: the next run sends it again)."),
    ],
    by: Annotated[str, typer.Option(help="Who found out.")],
    reason: Annotated[str, typer.Option(help="How.")],
) -> None:
    """Say what became of an unknown mail; nothing unknown is ever sent again by itself."""
    from models.tables import Mail
    from tasks import outbox, records
    from tasks.settings import Settings
    from tasks.store import open_store, record

    with errors():
        if outcome not in ("sent", "failed"):
            raise typer.BadParameter(f"--as {outcome}: sent or failed")
        store, now = open_store(Settings()), datetime.now(UTC)
        with store.exclusive("outbox"), store.begin() as session:
            mails = records.mails_of(session)
            state = dict(zip(mails["mail_id"], mails["outcome"], strict=True)).get(number)
            if state not in ("unknown", "in_flight"):
                raise typer.BadParameter(
                    f"mail {number}: is {state or 'not there'}, only an unknown one can be resolved"
                )
            mail = session.get_one(Mail, number)
            outbox.settle(session, mail, outcome=outcome, by=by, reason=reason, now=now)
            record(
                session,
                actor=by,
                action=f"mail {outcome}",
                subject=f"mail {number}",
                payload={"reason": reason},
                at=now,
            )
        out.print(f"mail {number} is booked as {outcome}")


@app.command("stop")
def mail_stop(by: By, reason: Reason) -> None:
    """Hold everything not yet sent, of every kind, also in a run that is sending now."""
    _switch(True, by, reason)


@app.command("go")
def mail_go(by: By, reason: Reason) -> None:
    """Let mail out again; the next runs send what was held."""
    _switch(False, by, reason)


def _switch(is_stopped: bool, by: str, reason: str) -> None:
    from models.tables import MailSwitch
    from tasks import outbox
    from tasks.settings import Settings
    from tasks.store import open_store, record

    with errors():
        who, why, now = person(by), person(reason), datetime.now(UTC)
        # Not exclusive: it must work while a run holds the outbox.
        with open_store(Settings()).begin() as session:
            last = outbox.last_switch(session)
            if is_stopped == (last is not None and last.is_stopped):
                out.print(f"mail {'is stopped' if is_stopped else 'goes out'} already; nothing changed")
                return
            session.add(MailSwitch(is_stopped=is_stopped, reason=why, decided_by=who, decided_at=now))
            action = "mail stop" if is_stopped else "mail go"
            record(session, actor=who, action=action, subject="outbox", payload={"reason": why}, at=now)
        if is_stopped:
            out.print(f"all mail is stopped by {who}; `huifang mail go` lets it out again")
        else:
            out.print(f"mail goes out again, by {who}; the next runs send what was held")
