"""`huifang …`: the command line over the flows; knows arguments, exit codes and what a person is shown.

Exit codes: 0 fine, 1 something to look at (said), 2 wrong usage or input.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from models import CallbackError

app = typer.Typer(
    help="huifang 回访: extracts in, samples drawn, callback lists mailed, returns collected, summaries sent.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
run_app = typer.Typer(help="Run one flow now, through Prefect.", no_args_is_help=True)
db_app = typer.Typer(help="The database: version and upgrade.", no_args_is_help=True)
quarantine_app = typer.Typer(help="Messages that were not believed.", no_args_is_help=True)
mail_app = typer.Typer(help="The outbox: what became of each mail.", no_args_is_help=True)
profile_app = typer.Typer(help="Source profiles: draft one for new files, or try one.", no_args_is_help=True)
app.add_typer(run_app, name="run")
app.add_typer(db_app, name="db")
app.add_typer(mail_app, name="mail")
app.add_typer(profile_app, name="profile")
app.add_typer(quarantine_app, name="quarantine")
out, err = Console(), Console(stderr=True)

LOOK_AT = (
    "unreadable",
    "rejected",
    "waiting",
    "shortfall",
    "gaps",
    "failed",
    "unknown",
    "quarantined",
    "held",
    "imbalances",
)
"""Counts of a flow that somebody should look at when they are not zero."""

AsOf = Annotated[
    datetime | None, typer.Option("--as-of", formats=["%Y-%m-%d"], help="Business day; today when not given.")
]
Now = Annotated[
    datetime | None,
    typer.Option(
        "--now",
        formats=["%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M%z", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M"],
        help="The clock, as 2026-03-02T09:00+0800.",
    ),
]
CampaignId = Annotated[
    str | None, typer.Option("--campaign", help="One campaign, such as daily_risk-2026-03; all when not given.")
]


@run_app.command()
def pull(
    profile: Annotated[Path | None, typer.Option(help="Source profile, a YAML file.")] = None,
    inbox: Annotated[str | None, typer.Option(help="Folder or URL the extracts were delivered to.")] = None,
    as_of: AsOf = None,
    roster: Annotated[Path | None, typer.Option(help="Who receives mail for each branch: CSV, see README.")] = None,
    now: Now = None,
) -> None:
    """Take extracts in: rows accepted, ignored by name, rejected with a reason."""
    from models.profile import Profile
    from tasks.settings import Settings, SettingsError, read_yaml

    with _errors():  # what is wrong with the words is said before a server starts
        settings = Settings()
        _guard_demo(settings, inbox)
        given, folder = profile or settings.profile, inbox or settings.inbox
        if given is None or not folder:
            raise SettingsError(
                "pull needs --profile FILE and --inbox DIR-OR-URL (or HUIFANG_PROFILE and HUIFANG_INBOX)"
            )
        read_yaml(given, Profile)
        if "://" not in folder and not Path(folder).is_dir():
            raise SettingsError(f"--inbox {folder}: no such folder")
        if roster is not None and not roster.is_file():
            raise SettingsError(f"--roster {roster}: no such file")

    def start() -> dict[str, int]:
        from flows.pull import pull_extracts

        return pull_extracts(profile=profile, inbox=inbox, as_of=_day(as_of), roster=roster, now=_time(now))

    _run("pull", start)


@run_app.command()
def draw(
    programme: Annotated[str, typer.Option(help="Name of a programme file, such as daily_risk.")],
    period: Annotated[str, typer.Option(help="Month such as 2026-03.")],
    as_of: AsOf = None,
    now: Now = None,
) -> None:
    """Draw one campaign, once; later runs move reserves up for booked failures."""
    from models.calendar import period as read_period
    from models.programme import version_on
    from tasks.settings import Settings, read_calendar, read_programmes

    with _errors():
        settings, span = Settings(), read_period(period)
        read_calendar(settings).require(span.last.year)
        version_on(read_programmes(settings), programme, span.first)

    def start() -> dict[str, int]:
        from flows.draw import draw_sample

        return draw_sample(programme=programme, period=period, as_of=_day(as_of), now=_time(now))

    _run("draw", start)


@run_app.command()
def dispatch(campaign: CampaignId = None, as_of: AsOf = None, now: Now = None) -> None:
    """Mail each branch its callback list; what stands in a mail is not mailed again."""
    _check_campaign(campaign)

    def start() -> dict[str, int]:
        from flows.dispatch import dispatch_lists

        return dispatch_lists(campaign=campaign, as_of=_day(as_of), now=_time(now))

    _run("dispatch", start)


@run_app.command()
def collect(as_of: AsOf = None, now: Now = None) -> None:
    """Fetch returns, judge them row by row, answer with receipts."""

    def start() -> dict[str, int]:
        from flows.collect import collect_returns

        return collect_returns(as_of=_day(as_of), now=_time(now))

    _run("collect", start)


@run_app.command()
def chase(campaign: CampaignId = None, as_of: AsOf = None, now: Now = None) -> None:
    """Open and merge cases, ask for self-checks, remind."""
    _check_campaign(campaign)

    def start() -> dict[str, int]:
        from flows.chase import chase_campaigns

        return chase_campaigns(campaign=campaign, as_of=_day(as_of), now=_time(now))

    _run("chase", start)


@run_app.command()
def report(campaign: CampaignId = None, as_of: AsOf = None, now: Now = None) -> None:
    """Write the report page and mail the month's summaries."""
    _check_campaign(campaign)

    def start() -> dict[str, int]:
        from flows.report import report_campaigns

        return report_campaigns(campaign=campaign, as_of=_day(as_of), now=_time(now))

    _run("report", start)


@app.command()
def demo(
    customers: Annotated[int, typer.Option(min=1000, help="Customers of the synthetic brokerage.")] = 20_000,
    branches: Annotated[int, typer.Option(min=2, max=900, help="Its branches.")] = 20,
    seed: Annotated[
        int, typer.Option(min=0, help="Chance of the synthetic world; the draw has a seed of its own.")
    ] = 1,
    profile: Annotated[
        str, typer.Option(help="Whose names, codes and files the extracts have: canonical, hundsun, kingdom, berka.")
    ] = "canonical",
    form: Annotated[
        Literal["csv", "parquet"],
        typer.Option("--format", help="parquet: typed, several files a table; canonical only."),
    ] = "csv",
    transactions: Annotated[
        int | None, typer.Option(min=1, help="Transactions in all; about four per customer when not given.")
    ] = None,
    extracts: Annotated[
        Path | None, typer.Option(help="Write the extracts into this new folder and nothing else.")
    ] = None,
) -> None:
    """A whole month at a synthetic brokerage: extracts, draw, mails, branches that answer, report."""
    from demo.campaign import run_demo, write_extracts

    with _errors():
        if extracts is not None:
            write_extracts(
                extracts, customers=customers, branches=branches, seed=seed, profile=profile, form=form,
                transactions=transactions, console=out,
            )  # fmt: skip
            return
        raise typer.Exit(
            run_demo(
                customers=customers, branches=branches, seed=seed, profile=profile, form=form,
                transactions=transactions, console=out,
            )
        )  # fmt: skip


@app.command()
def status(
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object: campaigns, pulls, mails, messages.")
    ] = False,
    as_of: AsOf = None,
) -> None:
    """Where each campaign stands, and what the last pulls took in."""

    from models.calendar import SHANGHAI
    from tasks.settings import Settings
    from tasks.store import open_store

    with _errors():
        settings = Settings()
        store = open_store(settings)
        found = _status(settings, store, _day(as_of) or datetime.now(SHANGHAI).date())
        if as_json:
            print(json.dumps(found, ensure_ascii=False, indent=2))  # noqa: T201
        else:
            _show_status(found)
        if not all(balance["holds"] for campaign in found["campaigns"] for balance in campaign["balances"]):
            raise typer.Exit(1)


@app.command()
def verify(
    campaign: Annotated[str, typer.Argument(help="A drawn campaign, such as daily_risk-2026-03.")],
    export: Annotated[
        Path | None, typer.Option(help="Also write frame, plan, sample and a verifier into this new folder.")
    ] = None,
) -> None:
    """Recompute a campaign and the months before it from what was frozen and committed, and say same or not."""
    from cli_draw import show_verify

    with _errors():
        raise typer.Exit(0 if show_verify(campaign, folder=export, console=out) else 1)


@app.command()
def projection(
    programme: Annotated[str | None, typer.Argument(help="One programme; all of the year when not given.")] = None,
    year: Annotated[int | None, typer.Option(help="Programme year; the business day's when not given.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON list, a programme year each.")] = False,
    as_of: AsOf = None,
) -> None:
    """Where each branch and the company end the year, from the completions so far."""
    from cli_draw import show_projection
    from models.calendar import SHANGHAI

    with _errors():
        day = _day(as_of) or datetime.now(SHANGHAI).date()
        is_fine = show_projection(programme, year or day.year, as_of=day, as_json=as_json, console=out)
        raise typer.Exit(0 if is_fine else 1)


By = Annotated[str, typer.Option(help="Who decides, by name.")]
Reason = Annotated[str, typer.Option(help="Why.")]


@app.command()
def chain(
    programme: Annotated[str, typer.Argument(help="A programme with seed: {kind: chain, …}.")],
    year: Annotated[int, typer.Argument(help="Programme year, such as 2026.")],
    out_file: Annotated[Path, typer.Option("--out", help="New file for the links, which compliance keeps elsewhere.")],
    by: By,
    now: Now = None,
) -> None:
    """Make a programme year's chain of seeds and commit to it; once, before the year's first month is committed."""
    from cli_draw import make_chain

    with _errors():
        make_chain(programme, year, file=out_file, by=_person(by), now=_moment(now), console=out)


@app.command()
def reveal(
    campaign: Annotated[str, typer.Argument(help="A committed campaign, such as daily_risk-2026-03.")],
    by: By,
    public: Annotated[str | None, typer.Option(help="The public number, as published.")] = None,
    on: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="The day whose public number it is.")
    ] = None,
    link: Annotated[str | None, typer.Option(help="The month's link of the chain, 64 hex digits.")] = None,
    now: Now = None,
) -> None:
    """Enter the public number of a committed month, then, another person, the link: the next draw has its seed."""
    from cli_draw import reveal as enter

    with _errors():
        enter(campaign, public=public, on=_day(on), link=link, by=_person(by), now=_moment(now), console=out)


@app.command()
def abort(
    campaign: Annotated[str, typer.Argument(help="A committed campaign that is not drawn.")],
    by: By,
    reason: Reason,
    now: Now = None,
) -> None:
    """Give up the attempt at a month before its draw; the next attempt takes the next public number."""
    from cli_draw import abort as give_up

    with _errors():
        give_up(campaign, by=_person(by), reason=_person(reason), now=_moment(now), console=out)


@app.command()
def handover(
    from_branch: Annotated[str, typer.Argument(help="The branch that was merged or closed.")],
    to_branch: Annotated[str, typer.Argument(help="The branch that stands for it.")],
    valid_from: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="First day.")],
    by: By,
    reason: Reason,
    now: Now = None,
) -> None:
    """Let one branch stand for another: the next draw passes its open calls over, each with a row of its own."""
    from cli_draw import hand_over

    with _errors():
        hand_over(
            from_branch, to_branch, valid_from=valid_from.date(), by=_person(by), reason=_person(reason),
            now=_moment(now), console=out,
        )  # fmt: skip


exception_app = typer.Typer(help="Exceptions from the rules that an approver answers for.", no_args_is_help=True)
app.add_typer(exception_app, name="exception")
Programmed = Annotated[str, typer.Argument(help="Programme, such as daily_risk.")]
Customer = Annotated[str, typer.Argument(help="The customer's id, as in the extract.")]
Months = Annotated[str, typer.Argument(help="Month such as 2026-03, not committed yet.")]
Group = Annotated[str, typer.Argument(help="Branch; in a coverage programme the marketer's staff number.")]


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
    calls: Annotated[int, typer.Option(min=0, help="Calls that the group takes on in the month.")],
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
    from cli_draw import give_exception
    from models.calendar import period as read_period
    from models.tables import HandMade

    with _errors():
        if "period" in subject:
            span = read_period(subject["period"])
            if not re.fullmatch(r"[0-9]{4}-[0-9]{2}", span.name):
                raise typer.BadParameter(
                    f"period {span.name}: programmes are drawn by the month; write one such as 2026-03"
                )
            year = span.first.year
        blank = {"customer_id": "", "period": "", "group_key": "", "stratum": "", "calls": 0, "reason_code": ""}
        row = HandMade(
            programme=programme, year=year, kind=kind, note=_person(note), approver=_person(by), given_at=_moment(now),
            **(blank | subject),
        )  # fmt: skip
        give_exception(row, console=out)


def _person(text: str) -> str:
    plain = " ".join(unicodedata.normalize("NFKC", text).split())
    if not plain:
        raise typer.BadParameter("a decision needs a name and a reason")
    return plain


def _moment(now: datetime | None) -> datetime:
    return _time(now) or datetime.now(UTC)


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

    with _errors():
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


@mail_app.command("list")
def mail_list(
    campaign: CampaignId = None,
    outcome: Annotated[str | None, typer.Option(help="sent, failed, unknown or in_flight; all when not given.")] = None,
) -> None:
    """Every mail with what became of it."""
    from tasks import records
    from tasks.settings import Settings
    from tasks.store import open_store

    with _errors():
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


@mail_app.command("resolve")
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

    with _errors():
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


@quarantine_app.command("list")
def quarantine_list() -> None:
    """Every message that was not believed, with the reason and where its bytes lie."""
    from tasks import records
    from tasks.settings import Settings
    from tasks.store import open_store

    with _errors():
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


@quarantine_app.command("retry")
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

    with _errors():
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


programme_app = typer.Typer(help="Programme files: what they say, and what a year would come to.", no_args_is_help=True)
app.add_typer(programme_app, name="programme")


@programme_app.command("list")
def programme_list() -> None:
    """Every programme with its versions and the days each is used on."""
    from cli_programme import show_list

    with _errors():
        show_list(out)


@programme_app.command("check")
def programme_check(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Programme files; all of the folder when none is named.")
    ] = None,
) -> None:
    """Read programme files and name every fault with file, line, key and what is allowed."""
    from cli_programme import check

    with _errors():
        raise typer.Exit(0 if check(files or [], out, err) else 2)


@programme_app.command("explain")
def programme_explain(
    name: Annotated[str, typer.Argument(help="A programme, such as daily_risk.")],
    on: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="The version that holds on this day; today when not given."),
    ] = None,
    language: Annotated[Literal["zh_CN", "en"] | None, typer.Option(help="HUIFANG_LANGUAGE when not given.")] = None,
    file: Annotated[Path | None, typer.Option(help="A programme file to read in place of its version.")] = None,
) -> None:
    """Say in plain sentences what a programme will do."""
    from cli_programme import show_explained
    from models.calendar import SHANGHAI

    with _errors():
        day = _day(on) or datetime.now(SHANGHAI).date()
        show_explained(name, on=day, language=language, file=file, console=out)


@programme_app.command("try")
def programme_try(
    name: Annotated[str, typer.Argument(help="A programme, such as daily_risk.")],
    period: Annotated[str, typer.Option(help="The year, such as 2026.")],
    completion: Annotated[str, typer.Option(help="Assumed share of calls that are completed.")] = "0.80",
    file: Annotated[Path | None, typer.Option(help="A programme file to try in place of its version.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Play a programme's year on the pulled base: calls per branch and month, shortfalls; nothing is stored."""
    from cli_programme import rehearse

    with _errors():
        if not (len(period) == 4 and period.isascii() and period.isdigit()):
            raise typer.BadParameter(f"--period {period}: a dry run is of a whole year, such as 2026")
        is_fine = rehearse(name, int(period), completion=completion, file=file, as_json=as_json, console=out, err=err)
        raise typer.Exit(0 if is_fine else 1)


@profile_app.callback()
def profile_commands() -> None:
    """Keeps `check` a word of its own while it is the only one."""


@profile_app.command("check")
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
    from cli_profile import check

    with _errors():
        raise typer.Exit(check(files, profile=profile, table=table, out=out_file, rows=rows, console=out, err=err))


@db_app.command("upgrade")
def db_upgrade() -> None:
    """Bring the database to this version's tables."""
    from tasks.settings import Settings
    from tasks.store import connect_store, upgrade, version_of

    with _errors():
        engine = connect_store(Settings()).engine
        before, head = version_of(engine)
        upgrade(engine)
        out.print(f"database: {before or 'empty'} → {head}")


@db_app.command("version")
def db_version() -> None:
    """The database's version and the one this code needs."""
    from tasks.settings import Settings
    from tasks.store import connect_store, version_of

    with _errors():
        present, head = version_of(connect_store(Settings()).engine)
        out.print(f"database: {present or 'empty'}, needed: {head}")
        raise typer.Exit(0 if present == head else 1)


@app.command()
def serve(
    port: Annotated[int, typer.Option(min=1024, max=65535, help="Port of the dashboard on 127.0.0.1.")] = 4200,
) -> None:
    """Start the Prefect server and serve every flow on its schedule, until Ctrl-C."""
    from tasks.server import client_settings, prefect_server
    from tasks.settings import Settings

    with _errors():
        settings = Settings()
        from tasks.store import open_store

        open_store(settings)
        with prefect_server(
            settings.home.resolve(),
            environ=os.environ,
            log=settings.home.resolve() / "log" / "prefect-server.log",
            port=port,
        ) as api_url:
            os.environ.update(client_settings(api_url, settings.home.resolve()))
            address = settings.home.resolve() / "prefect-api"
            address.write_text(api_url, encoding="ascii")
            try:
                _serve_flows(settings, api_url)
            finally:
                address.unlink(missing_ok=True)


def _serve_flows(settings: Any, api_url: str) -> None:
    from prefect import serve as serve_deployments

    from tasks import postoffice

    with postoffice.outgoing(settings) as smtp_url:
        os.environ["HUIFANG_SMTP_URL"] = smtp_url
        out.print(
            f"dashboard {api_url.removesuffix('/api')}",
            f"mail out {smtp_url}",
            f"home {settings.home.resolve()}",
            sep="\n",
        )
        serve_deployments(*_deployments(), limit=2, print_starting_message=True)


def _deployments() -> list[Any]:
    """The deployments of prefect.yaml for one process: the same names, parameters and schedules as on a work pool."""
    from importlib import import_module

    import yaml
    from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
    from prefect.client.schemas.schedules import CronSchedule
    from prefect.deployments.runner import EntrypointType

    from tasks.settings import PROJECT

    found = []
    for entry in yaml.safe_load((PROJECT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]:
        module, _, name = entry["entrypoint"].rpartition(".")
        limit = entry["concurrency_limit"]
        found.append(
            getattr(import_module(module), name).to_deployment(
                entry["name"],
                description=entry["description"],
                parameters=entry.get("parameters", {}),
                tags=entry["tags"],
                schedules=[CronSchedule(cron=s["cron"], timezone=s["timezone"]) for s in entry["schedules"]],
                concurrency_limit=ConcurrencyLimitConfig(
                    limit=limit["limit"], collision_strategy=ConcurrencyLimitStrategy(limit["collision_strategy"])
                ),
                entrypoint_type=EntrypointType.MODULE_PATH,
            )
        )
    return found


def _check_campaign(campaign: str | None) -> None:
    from tasks import records
    from tasks.settings import Settings
    from tasks.store import open_store

    with _errors():
        store = open_store(Settings())
        if campaign is not None:
            with store.begin() as session:
                records.campaign_of(session, campaign)


class _Terse(logging.Filter):
    """What we foresaw is said once, by us; a terminal needs neither its traceback nor the states it went through."""

    def filter(self, record: logging.LogRecord) -> bool:
        foreseen = record.exc_info and record.exc_info[0] and issubclass(record.exc_info[0], CallbackError)
        return not foreseen and "Finished in state Failed" not in record.getMessage()


def _run(name: str, start: Callable[[], dict[str, int]]) -> None:
    from tasks.settings import Settings

    with _errors(), _prefect(Settings()):
        for logger in (
            "prefect.flow_runs",
            "prefect.task_runs",
        ):  # of the loggers: handlers come and go with Prefect's set-up
            logging.getLogger(logger).addFilter(_Terse())
        counts = start()
        table = Table(title=name, title_justify="left", show_header=False)
        for key, n in counts.items():
            table.add_row(key, f"{n:,}")
        out.print(table)
        found = {key: counts[key] for key in LOOK_AT if counts.get(key)}
    if found:
        err.print("look at: " + ", ".join(f"{n} {key}" for key, n in found.items()))
        raise typer.Exit(1)


@contextmanager
def _prefect(settings: Any) -> Iterator[None]:
    """A Prefect server for a flow: the one named by PREFECT_API_URL, the one `huifang serve` runs, or one of its own for the time."""
    home = settings.home.resolve()
    from tasks.server import client_settings, is_alive, is_at, prefect_server

    address = home / "prefect-api"
    given = os.environ.get("PREFECT_API_URL") or (
        address.read_text(encoding="ascii").strip() if address.is_file() else ""
    )
    if given and is_at(given):  # the demo's commands share one server and one client
        yield
        return
    if given and is_alive(given):
        os.environ.update(client_settings(given, home))
        from tasks.server import client_context

        with client_context(given, home):
            yield
        return
    with prefect_server(home, environ=os.environ, log=home / "log" / "prefect-server.log") as api_url:
        os.environ.update(client_settings(api_url, home))
        from tasks.server import client_context

        with client_context(api_url, home):
            yield


def _status(settings: Any, store: Any, as_of: date) -> dict[str, Any]:
    from dataclasses import asdict

    from flows.report import standing_of
    from models.standing import mail_counts, message_counts
    from tasks import records

    with store.begin() as session:
        standings = [standing_of(settings, session, name, as_of) for name in records.drawn_campaigns(session)]
        pulls = records.pulls(session)
        mails = mail_counts(records.mails_of(session))
        messages = message_counts(records.verdicts_of(session), records.sightings(session))
    campaigns = []
    for standing in standings:
        plain = {key: value for key, value in asdict(standing).items() if key != "branches"} | {
            "as_of": standing.as_of.isoformat()
        }
        plain["branches"] = standing.branches.to_dict("records")
        plain["balances"] = [{**asdict(balance), "holds": balance.holds} for balance in standing.balances()]
        campaigns.append(plain)
    return {
        "as_of": as_of.isoformat(), "campaigns": campaigns, "pulls": pulls, "mails": mails, "messages": messages,
    }  # fmt: skip


def _show_status(found: dict[str, Any]) -> None:
    for pulled in found["pulls"]:
        table = Table(title=f"pull {pulled['pull']} · {pulled['as_of']} · {pulled['profile']}", title_justify="left")
        for column in ("table", "rows", "accepted", "ignored", "rejected", "by"):
            table.add_column(column, justify="left" if column in ("table", "by") else "right")
        for row in pulled["tables"]:
            reasons = [f"{rule} {n:,}" for by in ("ignored_by", "rejected_by") for rule, n in row[by].items()]
            counts = (f"{row[key]:,}" for key in ("rows", "accepted", "ignored", "rejected"))
            table.add_row(row["table"], *counts, ", ".join(reasons))
        out.print(table)
    if not found["campaigns"]:
        out.print("no campaign has been drawn yet: huifang run draw --programme NAME --period YYYY-MM")
        return
    table = Table(title=f"campaigns, as of {found['as_of']}", title_justify="left")
    table.add_column("")
    for campaign in found["campaigns"]:
        table.add_column(campaign["campaign"], justify="right")
    keys = (
        "base", "eligible", "excluded", "waived", "goal", "drawn", "reserve", "assigned", "completed", "open", "overdue",
        "replaced", "withdrawn", "expired", "completed_year", "mails", "messages", "findings", "cases", "opinions",
    )  # fmt: skip
    for key in keys:
        cells = []
        for campaign in found["campaigns"]:
            value = campaign[key]
            if isinstance(value, dict):
                cells.append("\n".join(f"{name} {n:,}" for name, n in value.items() if n) or "0")
            else:
                cells.append(f"{value:,}")
        table.add_row(key, *cells)
    out.print(table)
    unequal = [balance for campaign in found["campaigns"] for balance in campaign["balances"] if not balance["holds"]]
    for balance in unequal:
        err.print(f"does not hold: {balance['name']} {balance['where']}: {balance['left']} against {balance['right']}")
    if not unequal:
        out.print("every balance holds")


def _guard_demo(settings: Any, inbox: str | None) -> None:
    """Real extracts do not go where a demo lives: the next demo would wipe them."""
    home = settings.home.resolve()
    folder = inbox or settings.inbox
    if folder and (home / "DEMO").exists() and home not in Path(folder).resolve().parents:
        err.print(
            f"{home} holds a demo, which the next `huifang demo` wipes: choose another place for real extracts, "
            "HUIFANG_HOME=var/real huifang run pull …"
        )
        raise typer.Exit(2)


def _day(value: datetime | None) -> date | None:
    return value.date() if value else None


def _time(value: datetime | None) -> datetime | None:
    from models.calendar import SHANGHAI

    return value if value is None or value.tzinfo else value.replace(tzinfo=SHANGHAI)


@contextmanager
def _errors() -> Iterator[None]:
    """Say what is wrong in one message and leave with 2; only what nobody foresaw shows a traceback."""
    from pydantic import ValidationError

    try:
        yield
    except CallbackError as error:
        err.print(f"[bold red]error[/] {type(error).__name__}:", end=" ")
        err.print(str(error), markup=False, highlight=False)
        # That another run is at it is nothing wrong with the words.
        raise typer.Exit(1 if type(error).__name__ == "Busy" else 2) from None
    except ValidationError as error:
        lines = [f"HUIFANG_{'.'.join(str(part) for part in e['loc']).upper()}: {e['msg']}" for e in error.errors()]
        err.print("settings: " + "; ".join(lines), markup=False)
        raise typer.Exit(2) from None


def main() -> None:
    """The entry point of `huifang`."""
    os.umask(0o077)  # what it writes is for the service user only
    sys.exit(app())


if __name__ == "__main__":
    main()
