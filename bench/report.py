"""Figures of a run: medians, ratios of medians, goals; as a table, as JSON, and as a part of docs/benchmarks.md."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

BEGIN, END = "<!-- figures: written by `make bench-docs` -->", "<!-- end of figures -->"
NAMES = {
    "huifang": "huifang: intake + activity", "scan": "DuckDB: typed scan", "pandas": "pandas, by chunks",
    "pandas_whole": "pandas, whole file", "pull": "`huifang run pull`, client",
}  # fmt: skip
HEADER = ("contestant", "wall s", "inner s", "CPU s", "rows/s", "peak MB")


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


def _median(case: dict[str, Any], name: str, what: str) -> float | None:
    values = [each[what] for each in case["rounds"].get(name, []) if what in each]
    return median(values) if values else None


def _rows_of(case: dict[str, Any]) -> int:
    return sum(table["rows"] for table in (case["tables"] or {}).values())


def figures(case: dict[str, Any]) -> list[tuple[str, ...]]:
    """A line per contestant, in the columns of HEADER."""
    lines = []
    for name in case["rounds"]:
        wall = _median(case, name, "wall_seconds")
        inner = _median(case, name, "inner_seconds")
        rows = f"{_rows_of(case) / wall:,.0f}" if wall and name != "scan" else "–"
        lines.append(
            (
                NAMES[name], f"{wall:.2f}", f"{inner:.2f}" if inner is not None else "–",
                f"{_median(case, name, 'cpu_seconds'):.2f}", rows, f"{_median(case, name, 'peak_mb'):,.0f}",
            )
        )  # fmt: skip
    return lines


def goals(cases: list[dict[str, Any]]) -> list[tuple[str, str, str, str]]:
    """What was asked, at which size, what came out, met or not; ratios of medians of one run."""
    found = []
    by_case = {(case["size"], case["format"]): case for case in cases}

    def ratio(case: dict[str, Any], over: str, under: str, what: str) -> float | None:
        above, below = _median(case, over, what), _median(case, under, what)
        return above / below if above and below else None

    for (size, form), case in by_case.items():
        where = f"{size} {form}"
        counts = size in ("M", "L")  # the goals were set for these sizes
        for what, label in (("wall_seconds", "whole process"), ("inner_seconds", "without start and imports"),
                            ("cpu_seconds", "CPU")):  # fmt: skip
            if (value := ratio(case, "huifang", "scan", what)) is not None:
                asked = form == "csv" and what == "wall_seconds"
                found.append((f"huifang ÷ scan, {label}" + (" ≤ 5" if asked else ""), where, f"{value:.2f}",
                              _verdict(value <= 5, counts) if asked else ""))  # fmt: skip
        for contestant in ("pandas", "pandas_whole"):
            if (value := ratio(case, contestant, "huifang", "wall_seconds")) is not None:
                asked = form == "csv"
                found.append((f"{NAMES[contestant]} ÷ huifang" + (" ≥ 3" if asked else ""), where, f"{value:.2f}",
                              _verdict(value >= 3, counts) if asked else ""))  # fmt: skip
        for contestant in ("huifang", "pull"):
            peaks = [each["peak_mb"] for each in case["rounds"].get(contestant, [])]
            if peaks:
                found.append((f"highest memory of {NAMES[contestant]} < 1,000 MB", where, f"{max(peaks):,.0f} MB",
                              _verdict(max(peaks) < 1000, counts)))  # fmt: skip
    if ("M", "parquet") in by_case and ("L", "parquet") in by_case:
        small, large = by_case["M", "parquet"], by_case["L", "parquet"]
        for what, label in (("wall_seconds", "wall"), ("cpu_seconds", "CPU")):
            above, below = _median(large, "huifang", what), _median(small, "huifang", what)
            if above and below:
                value = (above / _rows_of(large)) / (below / _rows_of(small))
                asked = what == "wall_seconds"
                found.append((f"cost per row, L ÷ M, {label}" + (" ≤ 1.2" if asked else ""), "parquet", f"{value:.2f}",
                              _verdict(value <= 1.2, counts=True) if asked else ""))  # fmt: skip
    return found


def _verdict(is_met: bool, counts: bool) -> str:
    word = "met" if is_met else "not met"
    return word if counts else f"({word} at this size)"


def _title(case: dict[str, Any]) -> str:
    tables = case["tables"] or {}
    rows = {name: f"{table['rows']:,} {name}" for name, table in tables.items()}
    big = " + ".join(rows[name] for name in ("customers", "transactions") if name in rows)
    rejected = sum(table["rejected"] for table in tables.values())
    return f"{case['size']}, {case['format']}: {big}, {case['bytes'] / 1e6:,.0f} MB, {rejected:,} rows rejected"


def show(console: Console, run: dict[str, Any]) -> None:
    for case in run["cases"]:
        table = Table(title=_title(case), title_justify="left")
        for name in HEADER:
            table.add_column(name, justify="left" if name == "contestant" else "right")
        for line in figures(case):
            table.add_row(*line)
        console.print(table)
    table = Table(title="ratios of medians, goals", title_justify="left")
    for name in ("what", "size", "found", "goal"):
        table.add_column(name)
    for line in goals(run["cases"]):
        table.add_row(*line)
    console.print(table)
    console.print(_machine(run), soft_wrap=True, highlight=False)


def _machine(run: dict[str, Any]) -> str:
    facts = ", ".join(f"{name} {value}" for name, value in run["machine"].items())
    busy = float(run["machine"]["load before"]) > 0.5
    warning = ". **Other work was running: neither the seconds nor their ratios are to be relied on.**" if busy else ""
    return f"{run['began']}, version {run['code_version']}, medians of {run['repeats']}; {facts}{warning}"


def write_docs(page: Path, runs: list[dict[str, Any]]) -> None:
    """Replaces what stands between the markers of the page."""
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{_markdown(runs)}\n{END}{after}", encoding="utf-8")


def _markdown(runs: list[dict[str, Any]]) -> str:
    lines: list[str] = []
    for run in runs:
        lines += [f"`{run['command']}`  ", _machine(run), ""]
        for case in run["cases"]:
            lines += [f"**{_title(case)}**", "", _row(HEADER), _row(["---", *["---:"] * (len(HEADER) - 1)])]
            lines += [_row(line) for line in figures(case)] + [""]
        lines += [_row(("ratio of medians", "size", "found", "goal")), _row(["---", "---", "---:", "---"])]
        lines += [_row(line) for line in goals(run["cases"])] + [""]
    return "\n".join(lines)


def _row(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"
