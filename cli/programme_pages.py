"""`huifang programme list, check, explain, try`: what programme files say, and what a year would come to.

Knows only how it is shown; what a key means stands in models.explain, the dry run in models.rehearsal.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from flows.draw.rehearsal import Rehearsed, Told, rehearse_year
from models import CallbackError
from models.explain import explain, strange_values, timeline
from models.outcomes import Language
from models.programme import Programme, check_versions
from models.rehearsal import read_completion
from tasks.settings import Settings, SettingsError, programme_files, read_calendar, read_programmes, read_yaml

SHOWN = 40
"""Shortfalls or marketers shown one by one; the rest is a number."""

REASONS = {
    "excluded": "客户均已剔除 all excluded",
    "no_customers": "名下无客户 no customers",
    "few_customers": "合格客户不足 too few eligible",
    "exhausted": "已无客户可抽 exhausted",
    "capacity": "承接能力不足 capacity",
    "not_completed": "完成率不足 too few completed",
}


def show_list(console: Console) -> None:
    """Every programme with its versions, the days each is used on, and its file."""
    settings = Settings()
    files = {path: read_yaml(path, Programme) for path in sorted(settings.programmes.glob("*.yaml"))}
    check_versions(list(files.values()))
    table = Table(title=f"programmes in {settings.programmes}", title_justify="left")
    for column in ("programme", "version", "title", "used from", "to", "file"):
        table.add_column(column, overflow="fold")
    for name in sorted({rules.programme for rules in files.values()}):
        mine = {rules.version: (path, rules) for path, rules in files.items() if rules.programme == name}
        for span in timeline(list(files.values()), name):
            if span.version is None:
                table.add_row(name, "–", "", str(span.first), str(span.last or ""), "no version holds")
                continue
            path, rules = mine[span.version]
            title = rules.title.model_dump()[settings.language]
            table.add_row(name, str(span.version), title, str(span.first), str(span.last or "…"), path.name)
    console.print(table)


def check(paths: Sequence[Path], console: Console, err: Console) -> bool:
    """Read programme files, all of the folder when none is named; whether every one can be used."""
    settings = Settings()
    named = list(paths) or sorted(settings.programmes.glob("*.yaml"))
    if not named:
        raise SettingsError(f"HUIFANG_PROGRAMMES: {settings.programmes} holds no .yaml file")
    found: dict[Path, Programme] = {}
    faults = []
    for path in named:
        try:
            rules = read_yaml(path, Programme)
        except CallbackError as error:
            faults.append(str(error))
            continue
        found[path] = rules
        faults += [f"{path}: {key}: {fault}" for key, fault in strange_values(rules)]
        console.print(f"{path}: {rules.programme} version {rules.version}, {rules.plan_sha256()[:12]}", soft_wrap=True)
    faults += _doubled(found)
    if not paths:
        faults += [
            f"{path}: is not read; call it {path.stem}.yaml" for path in sorted(settings.programmes.glob("*.yml"))
        ]
    for fault in faults:
        err.print(fault, markup=False, highlight=False, soft_wrap=True)
    return not faults


def _doubled(found: Mapping[Path, Programme]) -> list[str]:
    """Which files claim to be the same version of one programme."""
    holders: dict[tuple[str, int], list[str]] = {}
    for path, rules in found.items():
        holders.setdefault((rules.programme, rules.version), []).append(path.name)
    return [
        f"{' and '.join(names)}: both are version {version} of {programme}; give the later one a higher version"
        for (programme, version), names in holders.items()
        if len(names) > 1
    ]


def _files_with(settings: Settings, name: str, draft: Path | None) -> list[Programme]:
    """The programmes in use, with a draft in place of the version that it says it is."""
    if draft is None:
        return read_programmes(settings)
    given = read_yaml(draft, Programme)
    if given.programme != name:
        raise SettingsError(f"{draft}: is of programme {given.programme}, not {name}")
    others = [read_yaml(path, Programme) for path in programme_files(settings) if path.resolve() != draft.resolve()]
    check_versions(others)
    return [one for one in others if (one.programme, one.version) != (name, given.version)] + [given]


def show_explained(name: str, *, on: date, language: Language | None, file: Path | None, console: Console) -> None:
    """The version of a programme that holds on a day, in plain sentences of at most 100 columns."""
    settings = Settings()
    for section in explain(_files_with(settings, name, file), name, on, language or settings.language):
        console.print(f"[bold]{section.title}[/]", highlight=False)
        for sentence in section.lines:
            first, *rest = _wrap(sentence, min(console.width, 100) - 6, console)
            for line in (f"  · {first}", *(f"    {line}" for line in rest)):
                console.print(line, markup=False, highlight=False, soft_wrap=True)


CLOSING = "，。；：、）》”！？"


def _wrap(sentence: str, columns: int, console: Console) -> list[str]:
    """A sentence in lines, a Chinese sign taking two columns; none begins with a closing sign."""
    lines = [line.plain.rstrip() for line in Text(sentence).wrap(console, columns)]
    for at in range(1, len(lines)):
        while lines[at][:1] and lines[at][0] in CLOSING:
            lines[at - 1], lines[at] = lines[at - 1] + lines[at][0], lines[at][1:]
    return [line for line in lines if line]


def rehearse(
    name: str, year: int, *, completion: str, file: Path | None, as_json: bool, console: Console, err: Console
) -> bool:
    """Play a programme year on the pulled base and show it; whether nothing falls short. Nothing is stored."""
    settings, share = Settings(), read_completion(completion)
    files = _files_with(settings, name, file)
    with _progress(err) as told:
        found = rehearse_year(settings, files, name, year, read_calendar(settings), of_calls=share, told=told)
    if as_json:
        print(json.dumps(_plain(found, completion), ensure_ascii=False, indent=2, default=str))  # noqa: T201
    else:
        _show(found, completion, settings.language, console)
    return found.played.is_fine and not found.refusals


def _plain(found: Rehearsed, completion: str) -> dict[str, Any]:
    plain = {key: value for key, value in asdict(found).items() if key not in ("played", "refusals", "notes")}
    return plain | {
        "completion": completion,
        "is_fine": found.played.is_fine,
        "months": found.played.months.to_dict("records"),
        "ends": found.played.ends.to_dict("records"),
        "postponed": dict(found.played.postponed),
        "unplanned": dict(found.played.unplanned),
        "heaviest_days": found.played.days.nlargest(10, "calls").to_dict("records"),
        "would_stop_at": [label.en for label in found.refusals],
        "notes": [label.en for label in found.notes],
    }


def _show(found: Rehearsed, completion: str, language: Language, console: Console) -> None:
    played = found.played
    versions = ", ".join(str(v) for v in sorted({*found.versions.values()}))
    excluded = ", ".join(f"{reason} {n:,}" for reason, n in found.excluded.items() if n) or "0"
    console.print(
        f"{found.programme} {found.year}: version {versions}, base {found.base:,} of {found.base_on}, "
        f"eligible {found.eligible:,}, excluded {excluded}; {completion} of the calls completed; nothing is stored",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    console.print(
        f"假设：每组的前 n 个回访完成 ⌊{completion} × n⌋ 个，其余失败，都在下次抽取前答复；不计免打扰期、其他方案的任务和人工例外"
        if language == "zh_CN"
        else f"assumed: of the first n calls of a group ⌊{completion} × n⌋ are completed and the rest fails, all before the next "
        "draw; no-recontact windows, other programmes' calls and exceptions by hand are left out",
        markup=False, highlight=False, soft_wrap=True,
    )  # fmt: skip
    for label in found.refusals:
        console.print(f"[bold red]{'正式抽取会停止' if language == 'zh_CN' else 'the draw would stop'}[/]:", end=" ")
        console.print(label.text(language), markup=False, highlight=False, soft_wrap=True)
    for label in found.notes:
        console.print(label.text(language), markup=False, highlight=False, soft_wrap=True)

    months = played.months
    grid = months.pivot_table(index="branch_no", columns="period", values="calls", aggfunc="sum", fill_value=0)
    # Twelve months beside each other leave no room for lines on a terminal of 80 columns.
    table = Table(title="回访户数 calls", title_justify="left", box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("branch", no_wrap=True)
    for name in (*(str(period)[5:] for period in grid.columns), "Σ", "goal", "done", "short"):
        table.add_column(name, justify="right", no_wrap=True)
    ends = played.ends.groupby("branch_no")[["goal", "completed", "shortfall"]].sum()
    # A branch whose marketers have all left has calls and owes nothing any more.
    for branch, *owed in ends.reindex(grid.index, fill_value=0).itertuples():
        table.add_row(str(branch), *_cells(grid.loc[branch]), *_cells([grid.loc[branch].sum(), *owed]))
    table.add_section()
    table.add_row("company", *_cells(grid.sum()), *_cells([grid.to_numpy().sum(), *ends.sum()]))
    widest = 10 + len(table.columns) * (2 + len(f"{int(grid.to_numpy().sum()):,}"))
    Console(file=console.file, width=max(console.width, widest)).print(table)

    _show_shortfalls(months, console)
    behind = played.ends[played.ends["reason"] != ""]
    if len(behind):
        title = (
            "不能覆盖的营销人员 marketers that cannot be covered"
            if found.is_coverage
            else "年末未达标 short of the goal"
        )
        table = Table(title=title, title_justify="left")
        for name in ("who", "branch", "eligible", "goal", "completed", "left", "reason"):
            table.add_column(name, justify="left" if name in ("who", "branch", "reason") else "right")
        for row in behind.head(SHOWN).to_dict("records"):
            table.add_row(
                row["group_key"], row["branch_no"], *_cells([row["eligible"], row["goal"], row["completed"], row["left"]]),
                REASONS.get(row["reason"], row["reason"]),
            )  # fmt: skip
        if len(behind) > SHOWN:
            table.add_row(f"+ {len(behind) - SHOWN}", *[""] * 6)
        console.print(table)
    if len(played.days):
        most = played.days.loc[played.days["calls"].idxmax()]
        house = played.days.groupby("call_on")["calls"].sum()
        console.print(
            f"heaviest day: {most['desk']} on {most['call_on']}, {int(most['calls']):,} calls; "
            f"company on {house.idxmax()}, {int(house.max()):,} calls",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
    for name, counts in (
        ("fall due later, for want of capacity", played.postponed),
        ("find no workday", played.unplanned),
    ):
        told = ", ".join(f"{period} {n:,}" for period, n in counts.items() if n)
        if told:
            console.print(f"calls that {name}: {told}", highlight=False, soft_wrap=True)
    console.print(
        "每月按期足额、年末均达标 nothing falls short" if played.is_fine else "有缺额，见上 something falls short"
    )


def _show_shortfalls(months: pd.DataFrame, console: Console) -> None:
    """Places that capacity or too few customers took away: each branch with its months, the largest first."""
    short = months[months["shortfall"] > 0]
    if short.empty:
        return
    table = Table(title="缺额 shortfalls", title_justify="left")
    for name in ("branch", "reason", "months", "groups", "places"):
        table.add_column(name, justify="right" if name in ("groups", "places") else "left", overflow="fold")
    by_branch = [
        (str(branch), str(reason), sorted({str(period)[5:] for period in rows["period"]}), rows["group_key"].nunique(),
         int(rows["shortfall"].sum()))
        for (branch, reason), rows in short.groupby(["branch_no", "reason"])
    ]  # fmt: skip
    by_branch.sort(key=lambda row: (-row[4], row[0]))
    for branch, reason, periods, groups, places in by_branch[:SHOWN]:
        table.add_row(branch, REASONS.get(reason, reason), " ".join(periods), *_cells([groups, places]))
    rest = by_branch[SHOWN:]
    if rest:
        table.add_row(f"+ {len(rest)}", "", "", "", *_cells([sum(row[4] for row in rest)]))
    console.print(table)


def _cells(values: Any) -> list[str]:
    return [f"{int(value):,}" for value in values]


@contextmanager
def _progress(console: Console) -> Iterator[Told]:
    """A bar on a terminal; nothing where nobody watches."""
    if not console.is_terminal:
        yield lambda *_: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None)

        def told(what: str, at: int, steps: int) -> None:
            bar.update(task, description=what, completed=at, total=steps)

        yield told
