"""`huifang programme list, check, explain, try`: what programme files say, and what a year would come to.

Knows only how it is shown; what a key means stands in models.explain, the dry run in models.rehearsal.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from flows.draw.rehearsal import Rehearsed, Told, frozen_otherwise, rehearse_year
from models import CallbackError
from models.explain import explain, strange_values, timeline
from models.outcomes import Label, Language
from models.programme import Programme, check_versions, version_on
from models.rehearsal import read_completion
from tasks.settings import Settings, SettingsError, programme_files, read_calendar, read_programmes, read_yaml

SHOWN = 40
"""Shortfalls or marketers shown one by one; the rest is a number."""

REASONS = {
    "excluded": Label("客户均已剔除", "all excluded"),
    "no_customers": Label("名下无客户", "no customers"),
    "few_customers": Label("合格客户不足", "too few eligible"),
    "exhausted": Label("已无客户可抽", "exhausted"),
    "capacity": Label("承接能力不足", "capacity"),
    "not_completed": Label("完成率不足", "too few completed"),
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


def _read_with(settings: Settings, name: str, draft: Path | None) -> tuple[list[Programme], Programme | None]:
    """The programmes of the folder, and a draft of one of them, which may lie in the folder or elsewhere."""
    if draft is None:
        return read_programmes(settings), None
    given = read_yaml(draft, Programme)
    if given.programme != name:
        raise SettingsError(f"{draft}: is of programme {given.programme}, not {name}")
    folder = programme_files(settings)
    others = [read_yaml(path, Programme) for path in folder if path.resolve() != draft.resolve()]
    check_versions(others)
    is_in_use = len(others) < len(folder) and not any((o.programme, o.version) == (name, given.version) for o in others)
    return [*others, given] if is_in_use else others, given


def show_explained(
    name: str, *, on: date, language: Language | None, file: Path | None, console: Console, err: Console
) -> None:
    """The version of a programme that holds on a day, or a given file, in plain sentences of at most 100 columns."""
    settings = Settings()
    files, given = _read_with(settings, name, file)
    rules, edited = given or version_on(files, name, on), []
    try:
        edited = frozen_otherwise(settings, rules, on.year)
    except CallbackError as error:
        unread = f"the store cannot be read, so nobody looked whether the file changed since {on.year} was frozen: {error}"
        err.print(unread, markup=False, highlight=False, soft_wrap=True)
    told = explain(files, name, on, language or settings.language, given=given, edited_years=edited)
    for section in told:
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
    name: str,
    year: int,
    *,
    completion: str,
    language: Language | None,
    file: Path | None,
    as_json: bool,
    console: Console,
    err: Console,
) -> bool:
    """Play a programme year on the pulled base and show it; whether nothing falls short. Nothing is stored."""
    settings, share = Settings(), read_completion(completion)
    files, given = _read_with(settings, name, file)
    with _progress(err) as told:
        found = rehearse_year(
            settings, files, name, year, read_calendar(settings), of_calls=share, given=given, told=told
        )
    if as_json:
        print(json.dumps(_plain(found, completion, language or "en"), ensure_ascii=False, indent=2, default=str))  # noqa: T201
    else:
        _Page(found, completion, language or settings.language, console).show()
    return found.played.is_fine and not found.refusals


def _plain(found: Rehearsed, completion: str, language: Language) -> dict[str, Any]:
    plain = {key: value for key, value in asdict(found).items() if key not in ("played", "refusals", "notes")}
    return plain | {
        "completion": completion,
        "is_fine": found.played.is_fine,
        "months": found.played.months.to_dict("records"),
        "ends": found.played.ends.to_dict("records"),
        "postponed": dict(found.played.postponed),
        "unplanned": dict(found.played.unplanned),
        "heaviest_days": found.played.days.nlargest(10, "calls").to_dict("records"),
        "would_stop_at": [label.text(language) for label in found.refusals],
        "notes": [label.text(language) for label in found.notes],
    }


class _Page:
    """A dry run on a terminal, all of it in one language."""

    def __init__(self, found: Rehearsed, completion: str, language: Language, console: Console) -> None:
        self._found, self._completion, self._language, self._console = found, completion, language, console

    def _say(self, zh: str, en: str) -> str:
        return Label(zh, en).text(self._language)

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _reason(self, reason: str) -> str:
        return REASONS[reason].text(self._language) if reason in REASONS else reason

    def _list(self, words: Iterable[str]) -> str:
        return self._say("、", ", ").join(words)

    def show(self) -> None:
        found, played = self._found, self._found.played
        self._show_head()
        self._show_months()
        self._show_shortfalls()
        self._show_ends()
        if len(played.days):
            most = played.days.loc[played.days["calls"].idxmax()]
            house = played.days.groupby("call_on")["calls"].sum()
            desk, most_day, calls = most["desk"], most["call_on"], f"{int(most['calls']):,}"
            day, all_calls = house.idxmax(), f"{int(house.max()):,}"
            self._print(
                self._say(
                    f"最忙的一天：{desk} 在 {most_day} 回访 {calls} 户；全公司在 {day} 回访 {all_calls} 户",
                    f"heaviest day: {desk} on {most_day}, {calls} calls; company on {day}, {all_calls} calls",
                )
            )
        for words, counts in (
            (self._say("因承接能力不足而到期日顺延的回访", "calls that fall due later, for want of capacity"), played.postponed),
            (self._say("本年已无工作日可安排的回访", "calls for which no workday of the year is left"), played.unplanned),
        ):
            named = [f"{period} {n:,}" for period, n in counts.items() if n]
            if named:
                self._print(self._say(f"{words}：{self._list(named)}", f"{words}: {self._list(named)}"))
        if found.played.is_fine:
            self._print(self._say("每月足额，年末均达标", "nothing falls short"))
        else:
            self._print(self._say("有缺额，见上", "something falls short, see above"))

    def _show_head(self) -> None:
        found, share = self._found, self._completion
        versions = self._list(str(v) for v in sorted({*found.versions.values()}))
        excluded = self._list(f"{reason} {n:,}" for reason, n in found.excluded.items() if n) or "0"
        self._print(
            self._say(
                f"{found.programme} {found.year}：第 {versions} 版，基数 {found.base:,}（{found.base_on}），"
                f"合格 {found.eligible:,}，剔除 {excluded}；设回访完成率为 {share}；不存储任何内容",
                f"{found.programme} {found.year}: version {versions}, base {found.base:,} of {found.base_on}, eligible "
                f"{found.eligible:,}, excluded {excluded}; {share} of the calls completed; nothing is stored",
            )
        )
        self._print(
            self._say(
                f"假设：每组的前 n 个回访完成 ⌊{share} × n⌋ 个，其余失败，都在下次抽取前答复；不计免打扰期、其他方案的任务和人工例外",
                f"assumed: of the first n calls of a group ⌊{share} × n⌋ are completed and the rest fails, all before the next "
                "draw; no-recontact windows, other programmes' calls and exceptions by hand are left out",
            )
        )
        for label in found.refusals:
            self._console.print(f"[bold red]{self._say('正式抽取会停止', 'the draw would stop')}[/]:", end=" ")
            self._print(label.text(self._language))
        for label in found.notes:
            self._print(label.text(self._language))

    def _show_months(self) -> None:
        played = self._found.played
        grid = played.months.pivot_table(
            index="branch_no", columns="period", values="calls", aggfunc="sum", fill_value=0
        )
        # Twelve months beside each other leave no room for lines on a terminal of 80 columns.
        title = self._say("回访户数", "calls")
        table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0), pad_edge=False)
        table.add_column(self._say("营业部", "branch"), no_wrap=True)
        ends = (self._say("目标", "goal"), self._say("完成", "done"), self._say("缺", "short"))
        for name in (*(str(period)[5:] for period in grid.columns), "Σ", *ends):
            table.add_column(name, justify="right", no_wrap=True)
        owed = played.ends.groupby("branch_no")[["goal", "completed", "shortfall"]].sum()
        # A branch whose marketers have all left has calls and owes nothing any more.
        for branch, *owes in owed.reindex(grid.index, fill_value=0).itertuples():
            table.add_row(str(branch), *_cells(grid.loc[branch]), *_cells([grid.loc[branch].sum(), *owes]))
        table.add_section()
        whole = [grid.to_numpy().sum(), *owed.sum()]
        table.add_row(self._say("全公司", "company"), *_cells(grid.sum()), *_cells(whole))
        widest = 10 + len(table.columns) * (2 + len(f"{int(grid.to_numpy().sum()):,}"))
        Console(file=self._console.file, width=max(self._console.width, widest)).print(table)

    def _show_shortfalls(self) -> None:
        """Places that capacity or too few customers took away: each branch with its months, the largest first."""
        months = self._found.played.months
        short = months[months["shortfall"] > 0]
        if short.empty:
            return
        table = Table(title=self._say("缺额", "shortfalls"), title_justify="left")
        for zh, en, side in (
            ("营业部", "branch", "left"), ("原因", "reason", "left"), ("月份", "months", "left"),
            ("组数", "groups", "right"), ("户数", "places", "right"),
        ):  # fmt: skip
            table.add_column(self._say(zh, en), justify=side, overflow="fold")  # type: ignore[arg-type]
        by_branch = [
            (str(branch), str(reason), sorted({str(period)[5:] for period in rows["period"]}),
             rows["group_key"].nunique(), int(rows["shortfall"].sum()))
            for (branch, reason), rows in short.groupby(["branch_no", "reason"])
        ]  # fmt: skip
        by_branch.sort(key=lambda row: (-row[4], row[0]))
        for branch, reason, periods, groups, places in by_branch[:SHOWN]:
            table.add_row(branch, self._reason(reason), " ".join(periods), *_cells([groups, places]))
        rest = by_branch[SHOWN:]
        if rest:
            table.add_row(f"+ {len(rest)}", "", "", "", *_cells([sum(row[4] for row in rest)]))
        self._console.print(table)

    def _show_ends(self) -> None:
        """Whoever ends the year with less than he owes, and why."""
        ends = self._found.played.ends
        behind = ends[ends["reason"] != ""]
        if behind.empty:
            return
        title = (
            self._say("不能覆盖的营销人员", "marketers that cannot be covered")
            if self._found.is_coverage
            else self._say("年末未达标", "short of the goal")
        )
        table = Table(title=title, title_justify="left")
        for zh, en in (
            ("对象", "who"), ("营业部", "branch"), ("合格", "eligible"), ("目标", "goal"), ("完成", "completed"),
            ("未抽", "left"), ("原因", "reason"),
        ):  # fmt: skip
            table.add_column(self._say(zh, en), justify="left" if en in ("who", "branch", "reason") else "right")
        for row in behind.head(SHOWN).to_dict("records"):
            table.add_row(
                row["group_key"], row["branch_no"], *_cells([row["eligible"], row["goal"], row["completed"], row["left"]]),
                self._reason(row["reason"]),
            )  # fmt: skip
        if len(behind) > SHOWN:
            table.add_row(f"+ {len(behind) - SHOWN}", *[""] * 6)
        self._console.print(table)


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
