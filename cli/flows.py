"""`huifang run …`: one flow now, and `huifang demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from cli.common import AsOf, CampaignId, Now, check_campaign, day_of, errors, guard_demo, out, run, time_of

app = typer.Typer(help="Run one flow now, through Prefect.", no_args_is_help=True)


@app.command()
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

    with errors():  # what is wrong with the words is said before a server starts
        settings = Settings()
        guard_demo(settings, inbox)
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

        return pull_extracts(profile=profile, inbox=inbox, as_of=day_of(as_of), roster=roster, now=time_of(now))

    run("pull", start)


@app.command()
def draw(
    programme: Annotated[str, typer.Option(help="Name of a programme file, such as daily_risk.")],
    period: Annotated[str, typer.Option(help="Month such as 2026-03.")],
    as_of: AsOf = None,
    now: Now = None,
) -> None:
    """Draw one campaign, once; later runs move reserves up for booked failures."""
    from models.calendar import period as read_period
    from models.programme import version_on
    from models.tables import Campaign
    from tasks.settings import Settings, read_calendar, read_programmes
    from tasks.store import open_store

    with errors():
        settings, span = Settings(), read_period(period)
        read_calendar(settings).require(span.last.year)
        with open_store(settings).begin() as session:
            is_committed = session.get(Campaign, f"{programme}-{span.name}") is not None
        if not is_committed:  # else the plan it was committed under holds, whatever the files say now
            version_on(read_programmes(settings), programme, span.first)

    def start() -> dict[str, int]:
        from flows.draw import draw_sample

        return draw_sample(programme=programme, period=period, as_of=day_of(as_of), now=time_of(now))

    run("draw", start)


@app.command()
def dispatch(campaign: CampaignId = None, as_of: AsOf = None, now: Now = None) -> None:
    """Mail each branch its callback list; what stands in a mail is not mailed again."""
    check_campaign(campaign)

    def start() -> dict[str, int]:
        from flows.dispatch import dispatch_lists

        return dispatch_lists(campaign=campaign, as_of=day_of(as_of), now=time_of(now))

    run("dispatch", start)


@app.command()
def collect(as_of: AsOf = None, now: Now = None) -> None:
    """Fetch returns, judge them row by row, answer with receipts."""

    def start() -> dict[str, int]:
        from flows.collect import collect_returns

        return collect_returns(as_of=day_of(as_of), now=time_of(now))

    run("collect", start)


@app.command()
def chase(campaign: CampaignId = None, as_of: AsOf = None, now: Now = None) -> None:
    """Open and merge cases, ask for self-checks, remind."""
    check_campaign(campaign)

    def start() -> dict[str, int]:
        from flows.chase import chase_campaigns

        return chase_campaigns(campaign=campaign, as_of=day_of(as_of), now=time_of(now))

    run("chase", start)


@app.command()
def report(campaign: CampaignId = None, as_of: AsOf = None, now: Now = None) -> None:
    """Write the report page and mail the month's summaries."""
    check_campaign(campaign)

    def start() -> dict[str, int]:
        from flows.report import report_campaigns

        return report_campaigns(campaign=campaign, as_of=day_of(as_of), now=time_of(now))

    run("report", start)


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

    with errors():
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
