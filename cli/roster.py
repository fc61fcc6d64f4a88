"""`huifang roster check`: what is to be corrected in the roster, and whose mail it stops."""

from __future__ import annotations

import json
from collections.abc import Collection
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from cli.common import AsOf, day_of, err, errors, out
from models.outcomes import Label

if TYPE_CHECKING:
    from models.outcomes import Language
    from models.roster_findings import Finding

app = typer.Typer(help="Who receives mail for each branch.", no_args_is_help=True)


@app.callback()
def roster() -> None:
    pass


@app.command()
def check(
    as_of: AsOf = None,
    file: Annotated[
        Path | None,
        typer.Option("--roster", help="A roster that is not pulled yet, as CSV; else the newest pulled one."),
    ] = None,
    language: Annotated[str | None, typer.Option(help="zh_CN or en; the setting's when not given.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object: as_of, roster, stopped, findings.")] = False,
) -> None:
    """Judge addresses, periods, roles and people of the roster; each finding says which row, and what to write.

    Ends with 1 when a finding stops a mail. The same checks run before any mail is sent.
    """
    from models.calendar import SHANGHAI
    from tasks.settings import Settings

    with errors():
        settings = Settings()
        day = day_of(as_of) or datetime.now(SHANGHAI).date()
        if language not in (None, "zh_CN", "en"):
            raise typer.BadParameter(f"--language {language}: zh_CN or en")
        words: Language = settings.language if language is None else "en" if language == "en" else "zh_CN"
        of, findings = _check(settings, day, file)
        if as_json:
            print(json.dumps(_plain(day, of, findings, words), ensure_ascii=False, indent=2))  # noqa: T201
        else:
            _show(day, of, findings, words)
        if any(finding.stops for finding in findings):
            raise typer.Exit(1)


def _check(settings: Any, day: date, file: Path | None) -> tuple[str, list[Finding]]:
    """Which roster was looked at, and what is to be corrected in it."""
    from models.roster import HQ
    from models.roster_findings import HQ_ROLES, check_roster
    from tasks import lake, records
    from tasks.settings import read_programmes
    from tasks.store import open_store

    written = lake.read_roster_file(settings, file) if file else None
    with open_store(settings).begin() as session:
        contacts = records.snapshot_of(session, "roster", day) if file is None else None
        branches = records.optional_snapshot(session, "branches", day)
        staff = records.optional_snapshot(session, "staff", day)
        refused = records.refused_addresses(session)
    if written is None:
        assert contacts is not None
        written = lake.read_written_roster(settings, contacts.path)
    if branches:
        known = set(lake.names_of(settings, branches.path, "branch_no", "branch_name"))
    else:
        known = set(written["branch_no"].dropna().astype(str).str.strip()) - {"", HQ}
        err.print("no branches extract is pulled yet: branch numbers are not compared with it", markup=False)
    roles = _roles_written_to(read_programmes(settings))
    needed: dict[str, Collection[str]] = dict.fromkeys(known, roles) | {HQ: HQ_ROLES}
    findings = check_roster(
        written, day, branches=known, needed=needed, staff=lake.read_staff(settings, staff.path) if staff else None,
        domains=settings.company_domains, refused=refused,
    )  # fmt: skip
    return (file.name if file else f"the roster pulled for {contacts.as_of}" if contacts else ""), findings


def _roles_written_to(programmes: list[Any]) -> set[str]:
    """The roles of a branch that some programme mails to."""
    return {
        role
        for rules in programmes
        for role in (rules.list_to, rules.self_check.to, rules.feedback_to, *(one.to for one in rules.reminders))
    }


def _plain(day: date, of: str, findings: list[Finding], language: Language) -> dict[str, Any]:
    return {
        "as_of": day.isoformat(),
        "roster": of,
        "stopped": sorted({finding.branch_no for finding in findings if finding.stops}),
        "findings": [
            {
                "code": finding.code, "severity": "stops" if finding.stops else "told", "branch_no": finding.branch_no,
                "role": finding.role, "file": finding.file, "row": finding.row or None, "email": finding.email,
                "wrong": finding.wrong(language), "write": finding.write(language),
            }
            for finding in findings
        ],
    }  # fmt: skip


HEADS = (
    Label("后果", "so"), Label("营业部", "branch"), Label("岗位", "role"), Label("行", "row"),
    Label("问题和怎样填写", "what is wrong, and what to write"),
)  # fmt: skip
STOPS, TOLD = Label("阻断", "stops"), Label("提示", "told")


def _show(day: date, of: str, findings: list[Finding], language: Language) -> None:
    from models.roster_findings import ROLES

    stopped = sorted({finding.branch_no for finding in findings if finding.stops})
    if findings:
        table = Table(title=f"{of}, as of {day}", title_justify="left")
        for column in HEADS:
            table.add_column(column.text(language), overflow="fold")
        for finding in findings:
            said = (f"{finding.code} {_seen(finding.email)}".strip(), finding.wrong(language), finding.write(language))
            table.add_row(
                Text(STOPS.text(language), "bold red") if finding.stops else Text(TOLD.text(language)),
                Text(finding.branch_no), Text(ROLES[finding.role].text(language) if finding.role in ROLES else ""),
                Text(str(finding.row) if finding.row else ""), Text("\n".join((*said[:2], f"→ {said[2]}"))),
            )  # fmt: skip
        out.print(table)
    if stopped:
        err.print(
            f"look at: mail of {len(stopped)} branches is stopped: {', '.join(stopped)}", markup=False, soft_wrap=True
        )
    else:
        out.print(f"{of}, as of {day}: stops no mail", markup=False, highlight=False)


def _seen(address: str) -> str:
    r"""An address with what nobody can see in it made visible.

    >>> _seen("a\u200b@b.example")
    'a\\u200b@b.example'
    """
    return "".join(sign if sign.isprintable() else f"\\u{ord(sign):04x}" for sign in address)
