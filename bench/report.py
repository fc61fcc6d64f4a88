"""Figures of a run: medians, ratios of medians, goals; as a table, as JSON, and as a part of docs/benchmarks.md."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import draw_figures, mail, returns, sheets
from bench.figures import Figures, median_of, verdict

BEGIN = {
    "intake": "<!-- figures: written by `make bench-docs` -->",
    "draw": "<!-- figures of the draw: written by `make bench-docs` -->",
    "returns": "<!-- figures of returns: written by `make bench-docs` -->",
    "sheets": "<!-- figures of sheets: written by `make bench-docs` -->",
    "mail": "<!-- figures of mail: written by `make bench-docs` -->",
}
END = "<!-- end of figures -->"
NAMES = {
    "huifang": "huifang: intake + activity", "scan": "DuckDB: typed scan", "pandas": "pandas, by chunks",
    "pandas_whole": "pandas, whole file", "pull": "`huifang run pull`, client",
}  # fmt: skip
HEADER = ("contestant", "wall s", "inner s", "CPU s", "rows/s", "peak MB")
NUMBERS = (*HEADER[1:], "found", *draw_figures.CHANGES)


def write_run(data: Path, run: dict[str, Any]) -> Path:
    stamp = datetime.fromisoformat(run["began"]).strftime("%Y%m%dT%H%M%S")
    path = data / f"{run['benchmark']}-{stamp}.json"
    path.write_text(json.dumps(run, ensure_ascii=False, indent=1), encoding="utf-8")
    return path


def read_run(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def newest(data: Path) -> list[Path]:
    return sorted(data.glob("*-*T*.json"))[-1:]


def _rows_of(case: dict[str, Any]) -> int:
    return sum(table["rows"] for table in (case["tables"] or {}).values())


def figures(case: dict[str, Any]) -> list[tuple[str, ...]]:
    """A line per contestant, in the columns of HEADER."""
    lines = []
    for name in case["rounds"]:
        wall = median_of(case, name, "wall_seconds")
        inner = median_of(case, name, "inner_seconds")
        rows = f"{_rows_of(case) / wall:,.0f}" if wall and name != "scan" else "–"
        lines.append(
            (
                NAMES[name], f"{wall:.2f}", f"{inner:.2f}" if inner is not None else "–",
                f"{median_of(case, name, 'cpu_seconds'):.2f}", rows, f"{median_of(case, name, 'peak_mb'):,.0f}",
            )
        )  # fmt: skip
    return lines


def goals(cases: list[dict[str, Any]]) -> list[tuple[str, str, str, str]]:
    """What was asked, at which size, what came out, met or not; ratios of medians of one run."""
    found = []
    by_case = {(case["size"], case["format"]): case for case in cases}

    def ratio(case: dict[str, Any], over: str, under: str, what: str) -> float | None:
        above, below = median_of(case, over, what), median_of(case, under, what)
        return above / below if above and below else None

    for (size, form), case in by_case.items():
        where = f"{size} {form}"
        counts = size in ("M", "L")  # the goals were set for these sizes
        for what, label in (("wall_seconds", "whole process"), ("inner_seconds", "without start and imports"),
                            ("cpu_seconds", "CPU")):  # fmt: skip
            if (value := ratio(case, "huifang", "scan", what)) is not None:
                asked = form == "csv" and what == "wall_seconds"
                found.append((f"huifang ÷ scan, {label}" + (" ≤ 5" if asked else ""), where, f"{value:.2f}",
                              verdict(value <= 5, counts) if asked else ""))  # fmt: skip
        for contestant in ("pandas", "pandas_whole"):
            if (value := ratio(case, contestant, "huifang", "wall_seconds")) is not None:
                asked = form == "csv"
                found.append((f"{NAMES[contestant]} ÷ huifang" + (" ≥ 3" if asked else ""), where, f"{value:.2f}",
                              verdict(value >= 3, counts) if asked else ""))  # fmt: skip
        for contestant in ("huifang", "pull"):
            peaks = [each["peak_mb"] for each in case["rounds"].get(contestant, [])]
            if peaks:
                found.append((f"highest memory of {NAMES[contestant]} < 1,000 MB", where, f"{max(peaks):,.0f} MB",
                              verdict(max(peaks) < 1000, counts)))  # fmt: skip
    if ("M", "parquet") in by_case and ("L", "parquet") in by_case:
        small, large = by_case["M", "parquet"], by_case["L", "parquet"]
        for what, label in (("wall_seconds", "wall"), ("cpu_seconds", "CPU")):
            above, below = median_of(large, "huifang", what), median_of(small, "huifang", what)
            if above and below:
                value = (above / _rows_of(large)) / (below / _rows_of(small))
                asked = what == "wall_seconds"
                found.append((f"cost per row, L ÷ M, {label}" + (" ≤ 1.2" if asked else ""), "parquet", f"{value:.2f}",
                              verdict(value <= 1.2, counts=True) if asked else ""))  # fmt: skip
    return found


def _title(case: dict[str, Any]) -> str:
    tables = case["tables"] or {}
    rows = {name: f"{table['rows']:,} {name}" for name, table in tables.items()}
    big = " + ".join(rows[name] for name in ("customers", "transactions") if name in rows)
    rejected = sum(table["rejected"] for table in tables.values())
    return f"{case['size']}, {case['format']}: {big}, {case['bytes'] / 1e6:,.0f} MB, {rejected:,} rows rejected"


def _tables(run: dict[str, Any]) -> list[Figures]:
    if run["benchmark"] == "draw":
        return draw_figures.tables(run)
    if run["benchmark"] == "mail":
        return mail.tables(run)
    if run["benchmark"] == "sheets":
        return sheets.tables(run)
    if run["benchmark"] == "returns":
        return returns.tables(run)
    found = [Figures(_title(case), HEADER, figures(case)) for case in run["cases"]]
    return [*found, Figures("ratios of medians, goals", ("what", "size", "found", "goal"), goals(run["cases"]))]


def show(console: Console, run: dict[str, Any]) -> None:
    for each in _tables(run):
        table = Table(title=each.title, title_justify="left")
        for name in each.header:
            table.add_column(name, justify="right" if name in NUMBERS else "left")
        for line in each.lines:
            table.add_row(*line)
        console.print(table)
    console.print(_machine(run), soft_wrap=True, highlight=False)


def _machine(run: dict[str, Any]) -> str:
    facts = ", ".join(f"{name} {value}" for name, value in run["machine"].items())
    busy = float(run["machine"]["load before"]) > 0.5
    warning = ". **Other work was running: neither the seconds nor their ratios are to be relied on.**" if busy else ""
    return f"{run['began']}, version {run['code_version']}, medians of {run['repeats']}; {facts}{warning}"


def write_docs(page: Path, runs: list[dict[str, Any]]) -> None:
    """Replaces what stands between the markers of each benchmark that was run."""
    text = page.read_text(encoding="utf-8")
    for benchmark, begin in BEGIN.items():
        if mine := [run for run in runs if run["benchmark"] == benchmark]:
            before, _, rest = text.partition(begin)
            _, _, after = rest.partition(END)
            text = f"{before}{begin}\n\n{_markdown(mine)}\n{END}{after}"
    page.write_text(text, encoding="utf-8")


def _markdown(runs: list[dict[str, Any]]) -> str:
    lines: list[str] = []
    for run in runs:
        lines += [f"`{run['command']}`  ", _machine(run), ""]
        for table in _tables(run):
            lines += [f"**{table.title}**", "", _row(table.header)]
            lines += [_row("---:" if name in NUMBERS else "---" for name in table.header)]
            lines += [_row(line) for line in table.lines] + [""]
    return "\n".join(lines)


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
