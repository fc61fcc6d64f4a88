"""`huifang verify, projection, chain, reveal, abort, handover, exception, waive`: arguments of what people decide about a draw."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import click
import typer
import typer.core

from cli.common import AsOf, By, Now, Reason, day_of, errors, moment, out, person

app = typer.Typer()
exception_app = typer.Typer(help="Exceptions from the rules that an approver answers for.", no_args_is_help=True)
app.add_typer(exception_app, name="exception")


class _GiveUnlessNamed(typer.core.TyperGroup):
    """`huifang handover 0003 0007 …` is `huifang handover give 0003 0007 …`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, "--help"):
            args = ["give", *args]
        return super().parse_args(ctx, args)


handover_app = typer.Typer(
    cls=_GiveUnlessNamed, help="That one branch stands for another, which was merged or closed.", no_args_is_help=True
)
app.add_typer(handover_app, name="handover")
Programmed = Annotated[str, typer.Argument(help="Programme, such as daily_risk.")]
Customer = Annotated[str, typer.Argument(help="The customer's id, as in the extract.")]
Months = Annotated[str, typer.Argument(help="Month such as 2026-03, not committed yet.")]
Group = Annotated[str, typer.Argument(help="Branch; in a coverage programme the marketer's staff number.")]


@app.command()
def verify(
    campaign: Annotated[str, typer.Argument(help="A drawn campaign, such as daily_risk-2026-03.")],
    export: Annotated[
        Path | None, typer.Option(help="Also write frame, plan, sample and a verifier into this new folder.")
    ] = None,
) -> None:
    """Recompute a campaign and the months before it from what was frozen and committed, and say same or not."""
    from cli.decisions import show_verify

    with errors():
        raise typer.Exit(0 if show_verify(campaign, folder=export, console=out) else 1)


@app.command()
def projection(
    programme: Annotated[str | None, typer.Argument(help="One programme; all of the year when not given.")] = None,
    year: Annotated[int | None, typer.Option(help="Programme year; the business day's when not given.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON list, a programme year each.")] = False,
    as_of: AsOf = None,
) -> None:
    """Where each branch and the company end the year, from the completions so far."""
    from cli.projection import show_projection
    from models.calendar import SHANGHAI

    with errors():
        day = day_of(as_of) or datetime.now(SHANGHAI).date()
        is_fine = show_projection(programme, year or day.year, as_of=day, as_json=as_json, console=out)
        raise typer.Exit(0 if is_fine else 1)


@app.command()
def chain(
    programme: Annotated[str, typer.Argument(help="A programme with seed: {kind: chain, …}.")],
    year: Annotated[int, typer.Argument(help="Programme year, such as 2026.")],
    out_file: Annotated[Path, typer.Option("--out", help="New file for the links, which compliance keeps elsewhere.")],
    by: By,
    now: Now = None,
) -> None:
    """Make a programme year's chain of seeds and commit to it; once, before the year's first month is committed."""
    from cli.decisions import make_chain

    with errors():
        make_chain(programme, year, file=out_file, by=person(by), now=moment(now), console=out)


@app.command()
def reveal(
    campaign: Annotated[str, typer.Argument(help="A committed campaign, such as daily_risk-2026-03.")],
    by: By,
    public: Annotated[str | None, typer.Option(help="The public number, as published.")] = None,
    on: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="The day whose public number it is.")
    ] = None,
    link: Annotated[
        str | None,
        typer.Option(help="The month's link, 64 hex digits or its whole line; asked for when nothing is given."),
    ] = None,
    link_file: Annotated[
        Path | None, typer.Option(help="A file with the month's link, or with the whole chain: its line is taken.")
    ] = None,
    now: Now = None,
) -> None:
    """Enter the public number of a committed month, then, another person, the link: the next draw has its seed.

    A link on the command line stays in the shell's history: give neither --public nor --link and it is asked for, or use
    --link-file.
    """
    from cli.decisions import reveal as enter

    with errors():
        if link_file is not None:
            if link is not None or public is not None:
                raise typer.BadParameter("--link-file: give it alone, without --link and --public")
            link = _link_in(link_file, campaign)
        elif public is None:
            link = _read_link(link if link is not None else _ask(campaign), campaign, "--link")
        enter(campaign, public=public, on=day_of(on), link=link, by=person(by), now=moment(now), console=out)


_LINK = re.compile(r"(?:K(?P<number>[0-9]{1,2})[ \t:=]+)?(?P<link>[0-9a-f]{64})", re.IGNORECASE)


def _ask(campaign: str) -> str:
    return str(typer.prompt(f"link K{_month(campaign)} of {campaign}, not shown", hide_input=True))


def _month(campaign: str) -> int:
    found = re.search(r"-[0-9]{4}-(0[1-9]|1[0-2])$", campaign)
    if found is None:
        raise typer.BadParameter(f"{campaign}: write a campaign such as daily_risk-2026-03")
    return int(found[1])


def _read_link(text: str, campaign: str, where: str) -> str:
    """The link of a campaign's month, bare or with its number as it stands in the file of the chain."""
    found = _LINK.fullmatch(text.strip())
    if found is None:
        raise typer.BadParameter(f"{where}: this is no link; give 64 hex digits, or the line K{_month(campaign)} of the file")
    if found["number"] and int(found["number"]) != _month(campaign):
        raise typer.BadParameter(f"{where}: this is K{found['number']}; {campaign} takes K{_month(campaign)}")
    return found["link"].lower()


def _link_in(file: Path, campaign: str) -> str:
    """The link of a campaign's month from a file with it alone, or from the file of the chain."""
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"--link-file {file}: cannot be read: {error}") from None
    lines = [line for line in lines if line and not line.startswith("#")]
    mine = [line for line in lines if re.match(rf"K{_month(campaign)}[ \t:=]", line, re.IGNORECASE)]
    chosen = mine or lines
    if len(chosen) != 1:
        raise typer.BadParameter(f"--link-file {file}: holds {len(chosen)} lines and none is K{_month(campaign)}")
    return _read_link(chosen[0], campaign, f"--link-file {file}")


@app.command()
def abort(
    campaign: Annotated[str, typer.Argument(help="A committed campaign that is not drawn.")],
    by: By,
    reason: Reason,
    now: Now = None,
) -> None:
    """Give up the attempt at a month before its draw; the next attempt takes the next public number."""
    from cli.decisions import abort as give_up

    with errors():
        give_up(campaign, by=person(by), reason=person(reason), now=moment(now), console=out)


@handover_app.command("give")
def handover_give(
    from_branch: Annotated[str, typer.Argument(help="The branch that was merged or closed.")],
    to_branch: Annotated[str, typer.Argument(help="The branch that stands for it.")],
    valid_from: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="First day.")],
    by: By,
    reason: Reason,
    now: Now = None,
) -> None:
    """Let one branch stand for another: the next draw passes its open calls over, each with a row of its own."""
    from cli.exceptions import hand_over

    with errors():
        hand_over(
            from_branch, to_branch, valid_from=valid_from.date(), by=person(by), reason=person(reason),
            now=moment(now), console=out,
        )  # fmt: skip


@handover_app.command("list")
def handover_list(as_json: Annotated[bool, typer.Option("--json", help="One JSON list.")] = False) -> None:
    """Every hand-over: who decided it, why, whether calls have passed by it, and whether it was taken back."""
    from cli.exceptions import list_handovers

    with errors():
        list_handovers(as_json=as_json, console=out)


@handover_app.command("revoke")
def handover_revoke(
    number: Annotated[int, typer.Argument(help="As `huifang handover list` shows it.")],
    by: By,
    reason: Reason,
    passed_calls_stay: Annotated[
        bool, typer.Option("--passed-calls-stay", help="Calls that have passed stay; it ends for calls to come.")
    ] = False,
    now: Now = None,
) -> None:
    """Take a mistaken hand-over back; the row stays and is listed as revoked."""
    from cli.exceptions import revoke_handover

    with errors():
        revoke_handover(
            number, by=person(by), reason=person(reason), passed_calls_stay=passed_calls_stay, now=moment(now),
            console=out,
        )  # fmt: skip


@exception_app.command("list")
def exception_list(
    programme: Annotated[str | None, typer.Argument(help="One programme; all when not given.")] = None,
    year: Annotated[int | None, typer.Argument(help="One programme year.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON list.")] = False,
) -> None:
    """Every exception: who gave it, why, what has used it, and whether it was taken back."""
    from cli.exceptions import list_exceptions

    with errors():
        list_exceptions(programme, year, as_json=as_json, console=out)


@exception_app.command("revoke")
def exception_revoke(
    number: Annotated[int, typer.Argument(help="As `huifang exception list` shows it.")],
    by: By,
    reason: Reason,
    now: Now = None,
) -> None:
    """Take an exception back that no month has used yet; the row stays and is listed as revoked."""
    from cli.exceptions import revoke_exception

    with errors():
        revoke_exception(number, by=person(by), reason=person(reason), now=moment(now), console=out)


@exception_app.command("exclude")
def exception_exclude(
    programme: Programmed,
    year: Annotated[int, typer.Argument(help="Programme year that is not frozen yet.")],
    customer: Customer,
    code: Annotated[str, typer.Option("--reason-code", help="A reason of the programme with by_hand: true.")],
    by: By,
    reason: Reason,
    now: Now = None,
) -> None:
    """Leave a customer out of next year's base, under a reason that the programme allows to be given by hand."""
    _give("exclude", programme, year, by, reason, now, customer_id=customer, reason_code=code)


@exception_app.command("withdraw")
def exception_withdraw(
    programme: Programmed,
    year: Annotated[int, typer.Argument(help="Programme year.")],
    customer: Customer,
    by: By,
    reason: Reason,
    code: Annotated[str, typer.Option("--reason-code", help="Such as exempt, complaint, litigation.")] = "exempt",
    now: Now = None,
) -> None:
    """Take a customer's open call back; he stays in the denominator, a reserve takes the place."""
    _give("withdraw", programme, year, by, reason, now, customer_id=customer, reason_code=code)


@exception_app.command("capacity")
def exception_capacity(
    programme: Programmed,
    period: Months,
    group: Group,
    calls: Annotated[int, typer.Option(min=0, max=100_000, help="Calls that the group takes on in the month.")],
    by: By,
    reason: Reason,
    now: Now = None,
) -> None:
    """Let a group take on more or fewer calls in one month than the programme says."""
    _give("capacity", programme, 0, by, reason, now, period=period, group_key=group, calls=calls)


@exception_app.command("reopen")
def exception_reopen(
    programme: Programmed,
    period: Months,
    group: Group,
    stratum: Annotated[str, typer.Argument(help="A stratum in which nobody is left.")],
    by: By,
    reason: Reason,
    now: Now = None,
) -> None:
    """Let a month draw from the failures of an exhausted stratum once more, in ticket order."""
    _give("reopen", programme, 0, by, reason, now, period=period, group_key=group, stratum=stratum)


def _give(kind: str, programme: str, year: int, by: str, note: str, now: datetime | None, **subject: Any) -> None:
    from cli.exceptions import give_exception
    from models.calendar import period as read_period
    from models.tables import HandMade

    with errors():
        if "reason_code" in subject:
            subject["reason_code"] = " ".join(subject["reason_code"].split())
            if not subject["reason_code"]:
                raise typer.BadParameter("--reason-code: name the reason, such as exempt, complaint, litigation")
        if "period" in subject:
            span = read_period(subject["period"])
            if not re.fullmatch(r"[0-9]{4}-[0-9]{2}", span.name):
                raise typer.BadParameter(
                    f"period {span.name}: programmes are drawn by the month; write one such as 2026-03"
                )
            year = span.first.year
        blank = {"customer_id": "", "period": "", "group_key": "", "stratum": "", "calls": 0, "reason_code": ""}
        row = HandMade(
            programme=programme, year=year, kind=kind, note=person(note), approver=person(by), given_at=moment(now),
            **(blank | subject),
        )  # fmt: skip
        give_exception(row, console=out)


@app.command()
def waive(
    day: Annotated[datetime, typer.Argument(formats=["%Y-%m-%d"], help="The year end, such as 2025-12-31.")],
    by: Annotated[str, typer.Option(help="The approver's name.")],
    reason: Annotated[str, typer.Option(help="Why the rejected customers may be left out.")],
) -> None:
    """Let a year-end base be frozen although rows of its customers extract were rejected; the waiver stands in the ledger."""
    from models.tables import Waiver
    from tasks import records
    from tasks.settings import Settings
    from tasks.store import open_store, record

    with errors():
        settings, now = Settings(), datetime.now(UTC)
        if not by.strip() or not reason.strip():
            raise typer.BadParameter("a waiver needs a name and a reason")
        with open_store(settings).begin() as session:
            snapshot = records.snapshot_of(session, "customers", day.date(), exactly=True)
            if snapshot.rejected == 0:
                out.print(f"the customers extract of {day:%Y-%m-%d} has no rejected row; nothing to waive")
                return
            if records.waiver_of(session, snapshot.id) is not None:
                out.print("these rows are waived already; nothing changed")
                return
            session.add(
                Waiver(
                    snapshot_id=snapshot.id,
                    rejected_sha256=snapshot.rejected_sha256,
                    rows=snapshot.rejected,
                    approver=by,
                    reason=reason,
                    given_at=now,
                )
            )
            record(
                session,
                actor=by,
                action="waive",
                subject=f"customers {day:%Y-%m-%d}",
                payload={"rejected": snapshot.rejected_sha256},
                at=now,
            )
        out.print(f"{snapshot.rejected} rejected rows of {day:%Y-%m-%d} are waived by {by}")
