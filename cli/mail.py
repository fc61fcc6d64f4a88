"""`huifang mail …`: the outbox."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.table import Table

from cli.common import By, CampaignId, Reason, err, errors, out, person
from cli.preview import preview

app = typer.Typer(help="The outbox: what became of each mail.", no_args_is_help=True)
app.command()(preview)

OUTCOMES = "sent, failed, bounced, recalled, unknown or in_flight"


@app.command("list")
def mail_list(
    campaign: CampaignId = None,
    outcome: Annotated[str | None, typer.Option(help=f"{OUTCOMES}; all when not given.")] = None,
) -> None:
    """Every mail with what became of it, and the last notice that came back about it."""
    from models.standing import OUTCOMES_OF_MAILS
    from tasks import records
    from tasks.settings import Settings
    from tasks.store import open_store

    with errors():
        if outcome not in (None, *OUTCOMES_OF_MAILS):
            raise typer.BadParameter(f"--outcome {outcome}: {OUTCOMES}")
        with open_store(Settings()).begin() as session:
            mails = records.mails_of(session, campaign)
            notices = records.notices_of(session)
        said = {int(row.mail_id): f"{row.kind} {row.status}".strip() for row in notices.itertuples()}
        shown = mails if outcome is None else mails[mails["outcome"] == outcome]
        table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
        for column in ("no", "kind", "campaign", "to", "role", "seq", "outcome", "code", "notice"):
            table.add_column(column, overflow="fold")
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
                said.get(int(row.mail_id), ""),
            )
        out.print(table)


@app.command("show")
def mail_show(number: Annotated[int, typer.Argument(help="The mail's number, from `huifang mail list`.")]) -> None:
    """One mail: what was booked about it and by whom, and each notice that came back."""
    from models.calendar import SHANGHAI
    from models.recall import DATA_KINDS
    from models.tables import Mail
    from tasks import records
    from tasks.settings import Settings
    from tasks.store import open_store

    with errors():
        with open_store(Settings()).begin() as session:
            mail = session.get(Mail, number)
            if mail is None:
                raise typer.BadParameter(f"mail {number}: is not there; `huifang mail list` shows those that are")
            history, notices = records.outcomes_of(session, number), records.notices_of(session, number)
            recalls = [one for one in records.recalls_of(session, mail.campaign_id) if one["mail"] == number]
        out.print(f"mail {number}: {mail.kind} of {mail.campaign_id} to {mail.recipient}, {mail.role}", markup=False)
        out.print(f"to {mail.to_address}, {mail.message_id}", markup=False, highlight=False)
        steps = [(mail.claimed_at, f"claimed by {mail.claimed_by}")]
        steps += [(row.at, f"{row.outcome} by {row.decided_by}: {row.detail}") for row in history.itertuples()]
        steps += [
            (row.booked_at, f"notice {row.kind} {row.status}".rstrip() + f", message {row.message_id}")
            for row in notices.itertuples()
        ]
        for moment, said in sorted(steps, key=lambda step: step[0]):
            out.print(f"  {moment.astimezone(SHANGHAI):%Y-%m-%d %H:%M}  {said}", markup=False, highlight=False)
        for one in recalls:
            told = ", ".join(DATA_KINDS[kind].en for kind in one["data_kinds"]) or "nothing about people"
            state = "locked" if one["is_locked"] else "readable"
            out.print(f"recalled by {one['by']}: {one['persons']} persons; {told}; {state}", markup=False)
            out.print(f"  cause: {one['cause']}", markup=False)
            out.print(f"  measures: {one['measures'] or '—'}", markup=False)
            out.print(f"  request to destroy: {one['request'] or 'not written yet'}", markup=False)


@app.command("resolve")
def mail_resolve(
    number: Annotated[int, typer.Argument(help="The mail's number, from `huifang mail list --outcome unknown`.")],
    outcome: Annotated[
        str,
        typer.Option(
            "--as", help="sent (the recipient has it) or failed (he has not, the address is right: it goes again)."
        ),
    ],
    by: Annotated[str, typer.Option(help="Who found out.")],
    reason: Annotated[str, typer.Option(help="How.")],
) -> None:
    """Say what became of an unknown or bounced mail; neither is ever sent again to the same address by itself."""
    from models.tables import Mail
    from tasks import outbox, records
    from tasks.settings import Settings
    from tasks.store import open_store, record

    with errors():
        if outcome not in ("sent", "failed"):
            raise typer.BadParameter(f"--as {outcome}: sent or failed")
        store, who, why, now = open_store(Settings()), person(by), person(reason), datetime.now(UTC)
        with store.exclusive("outbox"), store.begin() as session:
            mail = session.get(Mail, number)
            state = records.outcome_of(session, number) if mail else "not there"
            if mail is None or state not in ("unknown", "in_flight", "bounced"):
                raise typer.BadParameter(f"mail {number}: is {state}, only an unknown or bounced one can be resolved")
            outbox.settle(session, mail, outcome=outcome, by=who, reason=why, now=now)
            record(
                session,
                actor=who,
                action=f"mail {outcome}",
                subject=f"mail {number}",
                payload={"reason": why},
                at=now,
            )
        out.print(f"mail {number} is booked as {outcome}")


@app.command("recall")
def mail_recall(
    number: Annotated[int, typer.Argument(help="The mail's number, from `huifang mail list`.")],
    by: By,
    reason: Annotated[str, typer.Option(help="What happened: the cause that goes on record.")],
    measures: Annotated[str, typer.Option(help="What was done besides, such as a call to the recipient.")] = "",
) -> None:
    """A mail went to the wrong recipient: put it on record, ask him to destroy it, write to him for that branch no more."""
    from flows.recall import book_recall, send_request
    from models.recall import DATA_KINDS
    from models.tables import NOT_DELIVERED
    from tasks import records
    from tasks.settings import Settings
    from tasks.store import Busy, open_store

    with errors():
        settings, now = Settings(), datetime.now(UTC)
        store, who, why = open_store(settings), person(by), person(reason)
        with store.begin() as session:
            known = records.recall_of(session, number)
            is_asked = known is not None and records.request_of(session, known) not in ("", *NOT_DELIVERED)
        if known is None or is_asked:
            booked = book_recall(store, number, by=who, reason=why, measures=" ".join(measures.split()), now=now)
            told = ", ".join(DATA_KINDS[kind].en for kind in booked.data_kinds) or "nothing about people"
            out.print(f"mail {number} is recalled by {who}: {booked.persons} persons, {told}", markup=False)
            locked = (
                "its workbook is locked, and the key was never mailed" if booked.is_locked else "its text was readable"
            )
            out.print(f"{locked}; branch {booked.recipient} is not written to there any more", markup=False)
        else:
            out.print(
                f"mail {number} was recalled by {known.decided_by}; its request to destroy is not out", markup=False
            )
        try:
            state = send_request(settings, store, number, now=now)
        except Busy:
            state = ""
        if state == "sent":
            out.print("the request to destroy is sent; correct the roster, the next run writes to the right address")
        else:
            err.print(
                f"the request to destroy {'is ' + state if state else 'waits'}: "
                f"`huifang mail recall {number} …` tries again; call the recipient meanwhile", markup=False,
            )  # fmt: skip
            raise typer.Exit(1)


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
            outbox.hold_switch(session)
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
