"""`huifang profile check`: what was found in files nobody has described yet, or what a pull would make of them.

Knows only how it is shown; the looks and rules stand in models/draft.py and tasks/lake.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from models import CallbackError
from models.draft import Draft, draft_profile
from models.matching import Look
from models.profile import Profile
from tasks.lake import OnProgress, Trial, find_files, read_look, try_files
from tasks.settings import Settings, SettingsError, read_yaml

SHOWN = 12
"""Lines of one kind; the rest is a number."""

_WORDS = {
    "file": "文件",
    "is": "看来是",
    "rows": "行数",
    "form": "写法",
    "no header": "无列名行",
    "header": "有列名行",
    "unknown": "不能辨认",
    "might be": "也许是",
    "first rows only": "只读开头",
    "column": "列",
    "from": "来源列",
    "by": "依据",
    "shape": "形如",
    "empty": "空",
    "different": "不同值",
    "name": "列名",
    "content": "内容",
    "both": "列名和内容",
    "lookup": "经查找",
    "no column": "没有这一列",
    "gap": "缺口",
    "fill in": "载入前须填",
    "to look at": "请核对",
    "draft": "草稿已写到",
    "not used": "未用到的列",
    "give --out": "要得到草稿，请加 --out 文件名.yaml",
    "loads": "草稿可以载入",
    "does not load": "填好缺口之前草稿不能载入",
    "accepted": "接收",
    "ignored": "忽略",
    "rejected": "拒收",
    "reported": "提示",
    "verdict": "结论",
    "rule": "规则",
    "first row": "首行",
    "reason": "原因",
    "missing": "文件中缺少",
    "unexplained": "配置没有说明的列",
    "pull stops": "pull 会停在",
    "unknown code": "未知代码",
    "not compared": "未比对（不在这些文件中或未读完）",
    "padded": "补回前导零",
    "blanked": "视为没有",
    "fine": "没有问题",
    "note": "注意",
    "mapped": "已对应",
    "none": "不属于任何表",
    "check": "检查",
    "no table": "认不出任何一张表，请用 --table 指明",
}

_ENGLISH = {
    "is": "table",
    "none": "no table",
    "no column": "not found, may be empty",
    "give --out": "for the draft add --out NAME.yaml",
    "no table": "no file's table could be told; name it with --table",
    "fill in": "to fill in before the draft loads",
    "draft": "draft written to",
    "loads": "it loads",
    "does not load": "it does not load before the gaps are filled",
    "pull stops": "a pull stops at",
    "unexplained": "columns the profile says nothing of",
    "missing": "columns the file lacks",
    "not compared": "not compared (not among the files or not read whole)",
    "padded": "lost zeros given back",
    "blanked": "taken for no value",
    "not used": "columns without a use",
    "mapped": "mapped",
}
"""Where the word itself would not do."""


def check(
    files: list[Path],
    *,
    profile: Path | None,
    table: str | None,
    out: Path | None,
    rows: int,
    console: Console,
    err: Console,
) -> int:
    """The exit code: 0 everything is fine, 1 something to look at. Raises CallbackError on wrong input."""
    settings = Settings()
    show = _Show(console, settings.language)
    if profile is not None:
        if out is not None:
            raise SettingsError("--out goes with a draft; leave it out, or leave --profile out")
        rules = read_yaml(profile, Profile)
        with _progress(err) as on_progress:
            trials = try_files(settings, rules, find_files(files), table=table, rows=rows, on_progress=on_progress)
        show.trials(rules, trials)
        return 0 if all(trial.is_fine for trial in trials) else 1
    if out is not None and out.exists():
        raise SettingsError(f"--out {out}: is there already; a draft overwrites nothing")
    with _progress(err) as on_progress:
        looks = [read_look(found, rows, on_progress) for found in find_files(files)]
    draft = draft_profile(looks, table, name=_plain_stem(out))
    show.looks(draft, looks)
    if out is not None and draft.tables:
        try:
            out.write_text(draft.yaml, encoding="utf-8")
        except OSError as error:
            raise SettingsError(f"--out {out}: {error.strerror}") from None
    show.draft(draft, out, _loads(out) if draft.tables else None)
    return 0 if draft.is_fine else 1


def _plain_stem(out: Path | None) -> str:
    stem = "".join(sign if sign.isascii() and sign.isalnum() else "_" for sign in out.stem.lower()) if out else ""
    return stem if stem[:1].isalpha() else "new_house"


def _loads(out: Path | None) -> bool | None:
    if out is None:
        return None
    try:
        read_yaml(out, Profile)
    except CallbackError:
        return False
    return True


@contextmanager
def _progress(err: Console) -> Iterator[OnProgress]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        tasks: dict[str, Any] = {}

        def told(name: str, share: float) -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(name, total=1.0)
            progress.update(tasks[name], completed=share)

        yield told


class _Show:
    """Tables that fit 100 columns, in one language."""

    def __init__(self, console: Console, language: str) -> None:
        self._console, self._language = console, language

    def _word(self, word: str) -> str:
        return _WORDS[word] if self._language == "zh_CN" else _ENGLISH.get(word, word)

    def _table(self, title: str, *columns: str, right: tuple[str, ...] = ()) -> Table:
        table = Table(title=title, title_justify="left", title_style="bold")
        for column in columns:
            table.add_column(self._word(column), justify="right" if column in right else "left", overflow="fold")
        return table

    def _lines(self, heading: str, lines: list[str]) -> None:
        if lines:
            self._console.print(f"[bold]{self._word(heading)}[/]")
        for line in lines[:SHOWN]:
            self._console.print(f"  - {line}", markup=False, highlight=False)
        if len(lines) > SHOWN:
            self._console.print(f"  … +{len(lines) - SHOWN}", markup=False)

    # ---- a draft --------------------------------------------------------------------------------------------

    def looks(self, draft: Draft, looks: list[Look]) -> None:
        table = self._table(self._word("check"), "file", "is", "rows", "form", right=("rows",))
        owner = {name: each for each, matched in draft.tables.items() for name in matched.look.files}
        for look in looks:
            is_what = owner.get(look.files[0]) or self._word("unknown")
            for each, likely in draft.unknown:
                if each is look:
                    is_what = self._word("unknown") + (
                        f" ({self._word('might be')} {', '.join(likely)})" if likely else ""
                    )
            table.add_row(", ".join(look.files), is_what, self._rows(look.rows, look.is_whole), self._form(look))
        self._console.print(table)
        for matched in draft.tables.values():
            self._matched(matched)
        for look, _ in draft.unknown:
            self._unknown(look)

    def _rows(self, rows: int, is_whole: bool) -> str:
        return f"{rows:,}" + ("" if is_whole else f" ({self._word('first rows only')})")

    def _form(self, look: Look) -> str:
        form = look.form
        if form.format not in (None, "text"):
            said = [str(form.format)]
        else:
            encoding = "ASCII" if look.is_ascii else str(form.encoding)
            said = [encoding, repr(form.delimiter), f"quote {form.quote}"]
        return ", ".join([*said, self._word("header" if look.has_header else "no header")])

    def _matched(self, matched: Any) -> None:
        from models.canonical import TABLES

        title = f"{matched.table} ← {', '.join(matched.look.files)}"
        table = self._table(title, "column", "from", "by", "empty", "different", "shape", right=("empty", "different"))
        for name in TABLES[matched.table].columns:
            if (match := matched.matches.get(name)) is not None:
                found = match.column
                table.add_row(
                    name, found.name, self._word(match.by), f"{found.empty:,}", f"{found.distinct:,}", found.shape()
                )
            elif (lookup := matched.lookups.get(name)) is not None:
                table.add_row(name, f"{lookup.source} → {lookup.table}.{lookup.key}", self._word("lookup"), "", "", "")
            else:
                is_gap = not TABLES[matched.table].columns[name].nullable
                table.add_row(name, "—", self._word("gap" if is_gap else "no column"), "", "", "")
        self._console.print(table)
        used = {match.column.name for match in matched.matches.values()}
        if left := [column.name for column in matched.look.columns if column.name not in used]:
            self._console.print(f"{self._word('not used')}: {', '.join(left)}", markup=False, highlight=False)

    def _unknown(self, look: Look) -> None:
        table = self._table(
            f"? ← {', '.join(look.files)}", "from", "empty", "different", "shape", right=("empty", "different")
        )
        for column in look.columns:
            table.add_row(column.name, f"{column.empty:,}", f"{column.distinct:,}", column.shape())
        self._console.print(table)

    def draft(self, draft: Draft, out: Path | None, loads: bool | None) -> None:
        self._lines("fill in", [f"{gap.where}: {gap.why}" for gap in draft.gaps])
        self._lines("to look at", draft.doubts)
        if out is None or not draft.tables:
            self._console.print(self._word("give --out" if draft.tables else "no table"), markup=False)
            return
        said = self._word("loads" if loads else "does not load")
        self._console.print(f"{self._word('draft')} {out}; {said}", markup=False, highlight=False)

    # ---- a trial --------------------------------------------------------------------------------------------

    def trials(self, profile: Profile, trials: list[Trial]) -> None:
        counts = ("rows", "accepted", "ignored", "rejected", "reported", "unknown code")
        table = self._table(f"{self._word('check')} · {profile.name}", "file", "is", *counts, right=counts)
        for trial in trials:
            cells = (
                trial.accepted,
                *(trial.count(v) for v in ("ignored", "rejected", "reported")),
                trial.rows_of_unknown,
            )
            rows = self._rows(trial.rows, trial.is_whole)
            table.add_row(trial.name, trial.table or self._word("none"), rows, *(f"{n:,}" for n in cells))
        self._console.print(table)
        for trial in trials:
            self._trial(trial)

    def _trial(self, trial: Trial) -> None:
        self._console.print(f"[bold]{trial.name}[/]" + (f" → {trial.table}" if trial.table else ""), highlight=False)
        if trial.is_fine:
            self._console.print(f"  {self._word('fine')}", markup=False)
        mapped = [f"{name} ← {source}" if name != source else name for name, source in trial.mapped.items()]
        said = [
            ("mapped", ", ".join(mapped)),
            ("missing", ", ".join(trial.missing)),
            ("unexplained", ", ".join(trial.unexplained)),
            ("padded", ", ".join(f"{name} × {n:,}" for name, n in trial.padded.items())),
            ("blanked", ", ".join(f"{name} × {n:,}" for name, n in trial.blanked.items())),
            ("not compared", ", ".join(trial.not_compared)),
        ]
        for word, text in said:
            if text:
                self._console.print(f"  {self._word(word)}: {text}", markup=False, highlight=False)
        for word, lines in (("pull stops", trial.refusals), ("note", trial.notes)):
            for line in lines:
                self._console.print(f"  {self._word(word)}: {line}", markup=False, highlight=False)
        for name, codes in trial.unknown.items():
            listed = ", ".join(f"{code} × {times:,}" for code, times in codes[:SHOWN])
            more = f", … +{len(codes) - SHOWN}" if len(codes) > SHOWN else ""
            self._console.print(
                f"  {self._word('pull stops')}: {self._word('unknown code')} {name} ← {trial.mapped.get(name, '')}: {listed}{more}",
                markup=False, highlight=False,
            )  # fmt: skip
        if trial.findings:
            table = self._table(
                "", "verdict", "rule", "column", "rows", "first row", "shape", "reason", right=("rows", "first row")
            )
            for found in trial.findings:
                table.add_row(
                    self._word(found.verdict), found.rule, found.column, f"{found.rows:,}", f"{found.first_row:,}",
                    found.example, found.reason,
                )  # fmt: skip
            self._console.print(table)
