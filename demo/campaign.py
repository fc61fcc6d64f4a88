"""The demo: one month at a synthetic brokerage, run with the same commands, mails and sheets its users have.

Knows the order of the month and what to show at the end. The world is demo/brokerage.py and demo/branches.py; nothing
here reaches into the product but through `huifang …`.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import date, datetime
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import Any, Literal

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from typer.testing import CliRunner

from demo.branches import answer
from demo.brokerage import LOCAL_PARTS, Extracts, build_extracts, refuse_order
from demo.dialects import BERKA, CANONICAL
from models import CallbackError
from models.calendar import SHANGHAI
from tasks.postoffice import folder_of, post_office
from tasks.server import client_context, client_settings, prefect_server
from tasks.settings import PROJECT, Settings

MARKER = "DEMO"
PROGRAMMES = ("daily_risk", "marketer_conduct")
PERIOD = "2026-03"
YEAR_END = date(2025, 12, 31)

# What happens on which day of the month; `branches` is the branches' own doing.
MONTH: tuple[tuple[str, str, str], ...] = (
    ("pull", "2025-12-31", "2026-01-05T07:00+0800"),
    ("draw", "2026-03-02", "2026-03-02T07:30+0800"),
    ("dispatch", "2026-03-02", "2026-03-02T09:00+0800"),
    ("branches", "2026-03-12", "2026-03-12T16:00+0800"),
    ("collect", "2026-03-12", "2026-03-12T18:15+0800"),
    ("chase", "2026-03-13", "2026-03-13T09:30+0800"),
    ("branches", "2026-03-18", "2026-03-18T16:00+0800"),
    ("collect", "2026-03-18", "2026-03-18T18:15+0800"),
    ("chase", "2026-03-19", "2026-03-19T09:30+0800"),
    ("branches", "2026-03-24", "2026-03-24T16:00+0800"),
    ("collect", "2026-03-24", "2026-03-24T18:15+0800"),
    ("draw", "2026-03-25", "2026-03-25T07:30+0800"),
    ("dispatch", "2026-03-25", "2026-03-25T09:00+0800"),
    ("chase", "2026-03-25", "2026-03-25T09:30+0800"),
    ("report", "2026-03-31", "2026-03-31T10:00+0800"),
)


MAILS = {
    "claimed": "邮件", "sent": "已送", "failed": "失败", "bounced": "退信", "recalled": "召回", "unknown": "不明", "in_flight": "途中",
}  # fmt: skip
MESSAGES = {
    "seen": "收件", "accepted": "登记", "partly": "部分登记", "rejected": "退回", "quarantined": "隔离", "notice": "通知",
    "held": "待判", "duplicate": "重复",
}  # fmt: skip
RESULTS = {"confirmed": "属实", "contradicted": "不属实", "unverifiable": "无法核实", "waiting": "待自查"}


class DemoError(CallbackError):
    """The demo would destroy something, or one of its steps failed."""


def write_extracts(
    directory: Path, *, customers: int, branches: int, seed: int, profile: str, form: Literal["csv", "parquet"],
    transactions: int | None, console: Console,
) -> None:  # fmt: skip
    """A brokerage's extracts in a folder of their own, what they hold, and the command that takes them in."""
    refuse_order(customers=customers, branches=branches, transactions=transactions, dialect=profile, form=form)
    if directory.exists() and any(directory.iterdir()):
        raise DemoError(f"{directory} holds something already; --extracts names a new or empty folder")
    began = time.monotonic()
    bar = Progress(
        TextColumn("[progress.description]{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,}/{task.total:,}"),
        TimeElapsedColumn(),
        console=console,
    )
    with bar:
        line = bar.add_task("customers", total=customers)
        built = build_extracts(
            directory, customers=customers, branches=branches, seed=seed, year_end=YEAR_END, transactions=transactions,
            dialect=profile, form=form, progress=lambda written: bar.update(line, completed=written),
        )  # fmt: skip
    seconds = time.monotonic() - began
    table = Table(title=f"{profile} · {YEAR_END}", title_justify="left")
    table.add_column("表 table")
    table.add_column("行 rows", justify="right")
    for name, rows in (*built.rows.items(), ("Σ", sum(built.rows.values()))):
        table.add_row(name, f"{rows:,}")
    console.print(table)
    console.print(
        f"{len(built.files)} files, {built.size_bytes:,} bytes, {seconds:.1f} s, "
        f"{sum(built.rows.values()) / seconds:,.0f} rows/s",
        highlight=False,
    )
    home = Settings().home
    # A demo's home takes no extracts from outside.
    words = ["HUIFANG_HOME=var/extracts"] if (home.resolve() / MARKER).exists() else []
    words += ["huifang", *_pull(profile, directory.resolve()), "--as-of", f"{YEAR_END}"]
    console.print(f"take them in:\n  {' '.join(words)}", soft_wrap=True, highlight=False, markup=False)


def run_demo(
    *, customers: int, branches: int, seed: int, console: Console, profile: str = CANONICAL.name,
    form: Literal["csv", "parquet"] = "csv", transactions: int | None = None,
) -> int:  # fmt: skip
    """Wipe the demo's home, run the month, show what came of it; 0 when every balance holds, else 1."""
    refuse_order(customers=customers, branches=branches, transactions=transactions, dialect=profile, form=form)
    home = Settings().home.resolve()
    _clean(home)
    steps = sum(len(_commands(step, profile, home)) if step != "branches" else 1 for step, _, _ in MONTH) + 2
    bar = Progress(
        TextColumn("[progress.description]{task.description:<28}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
        console=console,
    )
    with bar:
        line = bar.add_task("extracts", total=steps)
        os.environ["PREFECT_LOGGING_LEVEL"] = (
            "ERROR"  # read when Prefect is imported; every warning is in the dashboard
        )
        # Importing the flows takes seconds of one core, and so does the server's start on the other.
        needed = [*dict.fromkeys(f"flows.{step}" for step, _, _ in MONTH if step != "branches"), "matplotlib.figure"]
        imports = Thread(target=lambda: [import_module(name) for name in needed])
        imports.start()
        built = build_extracts(
            home / "inbox", customers=customers, branches=branches, seed=seed, year_end=YEAR_END,
            transactions=transactions, dialect=profile, form=form,
            progress=lambda written: bar.update(line, description=f"extracts {written:,}"),
        )  # fmt: skip
        bar.update(line, advance=1, description="prefect server")
        with (
            prefect_server(home, environ=os.environ, log=home / "log" / "prefect-server.log") as api_url,
            post_office(home / "maildir", Settings().mail_from) as smtp_url,
        ):
            imports.join()
            before = dict(os.environ)
            os.environ.update(client_settings(api_url, home), HUIFANG_SMTP_URL=smtp_url)
            try:
                with client_context(api_url, home):
                    bar.update(line, advance=1)
                    for step, day, clock in MONTH:
                        if step == "branches":
                            bar.update(line, description=f"{day} branches answer")
                            answer(
                                home,
                                smtp_url,
                                seed=seed,
                                as_of=date.fromisoformat(day),
                                now=datetime.fromisoformat(clock).astimezone(SHANGHAI),
                            )
                            bar.advance(line)
                            continue
                        for words in _commands(step, profile, home):
                            bar.update(line, description=f"{day} {step}")
                            _huifang(home, *words, "--as-of", day, "--now", clock)
                            bar.advance(line)
            finally:
                os.environ.clear()
                os.environ.update(before)
        bar.update(line, description="done")
    found = json.loads(_huifang(home, "status", "--json", "--as-of", MONTH[-1][1]))
    return show(found, built, home, console)


def _commands(step: str, profile: str, home: Path) -> list[list[str]]:
    match step:
        case "pull":
            return [_pull(profile, home / "inbox")]
        case "draw":
            # A source that knows no developers has nobody to call about them.
            names = PROGRAMMES[:1] if profile == BERKA.name else PROGRAMMES
            return [["run", "draw", "--programme", name, "--period", PERIOD] for name in names]
        case _:
            return [["run", step]]


def _pull(profile: str, inbox: Path) -> list[str]:
    words = ["run", "pull", "--profile", str(PROJECT / "profiles" / f"{profile}.yaml"), "--inbox", str(inbox)]
    return [*words, "--roster", str(inbox / "contacts" / "roster.csv")] if profile == BERKA.name else words


def _huifang(home: Path, *words: str) -> str:
    """The output of one command; its log goes to a file. Exit code 1 is what the commands say when there is something to look at."""
    from cli import app

    result = CliRunner().invoke(app, list(words), catch_exceptions=False)
    with (home / "log" / "demo.log").open("a", encoding="utf-8") as log:
        log.write(f"$ huifang {' '.join(words)}\n{result.output}\n")
    if result.exit_code not in (0, 1):
        raise DemoError(f"huifang {' '.join(words)} ended with {result.exit_code}:\n{result.output}")
    return result.stdout


def _clean(home: Path) -> None:
    """Everything but Prefect's own home goes, and only where a demo lived."""
    if home.exists() and any(path.name != "prefect" for path in home.iterdir()):
        if not (home / MARKER).exists():
            raise DemoError(
                f"{home} holds something that is no demo, and a demo starts in a clean home: set HUIFANG_HOME to another folder"
            )
        for path in home.iterdir():
            if path.name != "prefect":
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    (home / MARKER).write_text("The next `huifang demo` wipes this folder.\n", encoding="utf-8")
    (home / "log").mkdir(exist_ok=True, mode=0o700)


def show(found: dict[str, Any], built: Extracts, home: Path, console: Console) -> int:
    """The month's counts with their balances, and what is worth opening."""
    console.print()
    pulled = found["pulls"][0]
    table = Table(title=f"提取 intake · {pulled['as_of']}", title_justify="left")
    for column in ("表 table", "行 rows", "接收 accepted", "忽略 ignored", "拒绝 rejected", ""):
        table.add_column(column, justify="left" if column.startswith("表") else "right")
    for row in (
        *pulled["tables"],
        {"table": "Σ", **{k: pulled[k] for k in ("rows", "accepted", "ignored", "rejected")}},
    ):
        table.add_row(
            row["table"],
            *(f"{row[k]:,}" for k in ("rows", "accepted", "ignored", "rejected")),
            _mark(row["rows"] == row["accepted"] + row["ignored"] + row["rejected"]),
        )
    console.print(table)

    campaigns = found["campaigns"]
    table = Table(title=f"期次 campaigns · {PERIOD}", title_justify="left")
    table.add_column("阶段 stage", no_wrap=True)
    for campaign in campaigns:
        table.add_column(campaign["campaign"], justify="right")
    lines: list[tuple[str, Callable[[dict[str, Any]], str]]] = [
        ("年末客户 base", lambda c: f"{c['base']:,}"),
        ("= 应访 eligible", lambda c: f"{c['eligible']:,}"),
        ("+ 剔除 excluded", lambda c: f"{sum(c['excluded'].values()):,}"),
        ("+ 豁免 waived", lambda c: f"{c['waived']:,} {_mark(_holds(c, 'base'))}"),
        ("全年应回访 goal", lambda c: f"{c['goal']:,}"),
        ("抽中 drawn", lambda c: f"{c['drawn']:,}"),
        ("备选 reserve", lambda c: f"{c['reserve']:,}"),
        ("任务 assigned", lambda c: f"{c['assigned']:,}"),
        ("= 完成 completed", lambda c: f"{c['completed']:,}"),
        ("+ 未完成 open", lambda c: f"{c['open']:,}"),
        ("+ 未成 replaced", lambda c: f"{c['replaced']:,}"),
        ("+ 撤回 withdrawn", lambda c: f"{c['withdrawn']:,}"),
        ("+ 过期 expired", lambda c: f"{c['expired']:,} {_mark(_holds(c, 'assigned'))}"),
        ("其中逾期 overdue", lambda c: f"{c['overdue']:,}"),
        *_breakdown("mails", MAILS),
        *_breakdown("messages", MESSAGES),
        ("疑似违规 findings", lambda c: str(c["findings"])),
        ("案件 cases", lambda c: str(c["cases"])),
        *((f"  {word} {key}", lambda c, key=key: str(c["case_results"].get(key, 0))) for key, word in RESULTS.items()),
        ("意见建议 opinions", lambda c: str(c["opinions"])),
    ]
    for name, figure in lines:
        table.add_row(name, *(figure(campaign) for campaign in campaigns))
    console.print(table)
    stray = found["messages"]["seen"] - sum(c["messages"]["seen"] for c in campaigns)
    everything = found["messages"]
    is_whole = everything["seen"] == sum(n for verdict, n in everything.items() if verdict != "seen")
    console.print(
        f"邮箱合计 mailbox: {_parts(everything, 'seen')}{_mark(is_whole)}（不属于任何期次 of no campaign: {stray}）"
    )

    holds = all(balance["holds"] for campaign in campaigns for balance in campaign["balances"])
    branch_no = "0001"
    director = f"{LOCAL_PARTS['operations_director']}.{branch_no}@branch.example"
    sheet = _sheet(
        folder_of(home / "maildir", director),
        home / "keys" / "branches" / f"{branch_no}.key",
        home / f"callback-sheet-{branch_no}.xlsx",
    )
    console.print("值得打开 worth opening")
    for what, path in (
        *(
            ("提取报告 intake" if path.name.startswith("intake_") else "总部报告 HQ report", path)
            for path in sorted((home / "reports").glob("*.html"))
        ),
        ("营业部邮箱 a branch's mails", folder_of(home / "maildir", director) / "new"),
        ("同样的邮件 the same as .eml", home / "outbox"),
        ("回访登记表（已解密的副本） a callback sheet, decrypted copy", sheet),
        ("各营业部口令 each branch's key", home / "keys" / "branches"),
        ("看板 dashboard", "huifang serve → http://127.0.0.1:4200"),
        ("复核抽样 the sample, replayed", "huifang verify daily_risk-2026-03 --export DIR"),
        ("各期次现状 where each campaign stood then", f"huifang status --as-of {MONTH[-1][1]}"),
        ("命令与输出 commands and their output", home / "log" / "demo.log"),
    ):
        console.print(f"  {what}\n    {path}", soft_wrap=True, highlight=False)
    if not holds:
        console.print("[red]a balance does not hold: huifang status --json names it[/]")
    return 0 if holds else 1


def _sheet(folder: Path, key: Path, to: Path) -> Path:
    """The workbook of a branch's first mail, opened with the branch's key as the branch would."""
    import email
    from email.policy import default
    from io import BytesIO

    import msoffcrypto

    for path in sorted((folder / "new").iterdir()):
        message = email.message_from_bytes(path.read_bytes(), policy=default)
        for part in message.iter_attachments():
            locked = msoffcrypto.OfficeFile(BytesIO(part.get_payload(decode=True)))
            locked.load_key(password=key.read_text(encoding="utf-8").strip())
            with to.open("wb") as clear:
                locked.decrypt(clear)
            return to
    raise DemoError(f"{folder}: the branch has no mail with a sheet")


def _breakdown(counts: str, words: dict[str, str]) -> Iterator[tuple[str, Callable[[dict[str, Any]], str]]]:
    """The whole of some counts and its parts, a line each, the last with the mark."""
    whole, *parts = words
    yield f"{words[whole]} {whole}", lambda c: f"{c[counts][whole]:,}"
    for part in parts:
        sign = "=" if part == parts[0] else "+"
        end = (lambda c: " " + _mark(_holds(c, counts))) if part == parts[-1] else (lambda c: "")
        yield f"{sign} {words[part]} {part}", lambda c, part=part, end=end: f"{c[counts][part]:,}{end(c)}"


def _holds(campaign: dict[str, Any], start: str) -> bool:
    return all(b["holds"] for b in campaign["balances"] if b["name"].startswith(start))


def _parts(counts: dict[str, int], whole: str) -> str:
    return f"{counts[whole]} = {'+'.join(str(n) for k, n in counts.items() if k != whole)} "


def _mark(holds: bool) -> str:
    return "[green]✓[/]" if holds else "[red]✗[/]"
