"""Figures of the draw: costs by contestant, goals, and what the same seed draws when something else changes."""

from __future__ import annotations

from typing import Any

from bench.figures import Figures, median_of, verdict

NAMES = {
    "huifang": "huifang: frame + draw", "bare": "huifang, nothing stored", "pandas": "pandas groupby().sample",
    "pandas_categories": "pandas, codes as categories",
    "samplics": "samplics srs_wor", "samplics_sys": "samplics pps_sys",
    "r_sampling": "R sampling::strata", "r_sps": "R sps::sps",
}  # fmt: skip
HEADER = ("contestant", "wall s", "inner s", "CPU s", "peak MB")
MONTHS = {"first": "first month, the base frozen", "later": "seventh month, the base frozen before"}
CHANGES = ("rows shuffled", "older version", "other types")


def tables(run: dict[str, Any]) -> list[Figures]:
    found = [Figures(_title(case), HEADER, _costs(case)) for case in run["cases"]]
    found.append(Figures("ratios of medians, goals", ("what", "size", "found", "goal"), goals(run["cases"])))
    steps = [_steps(case) for case in run["cases"] if "huifang" in case["rounds"]]
    found.append(Figures("huifang, step by step", ("size", "seconds, median round"), steps))
    if run["probes"]:
        lines = [
            (NAMES[line["contestant"]], *(_percent(line[what]) if what in line else "–" for what in CHANGES))
            for line in run["probes"]
        ]
        found.append(
            Figures("same seed again: share of the sample that is drawn again", ("contestant", *CHANGES), lines)
        )
    notes = [(f"skipped: {NAMES.get(name, name)}", reason) for name, reason in run["skipped"].items()]
    found.append(Figures("checked", ("what", "result"), [*(("same sample", text) for text in run["checks"]), *notes]))
    return found


def _title(case: dict[str, Any]) -> str:
    return (
        f"{case['size']}, {MONTHS[case['month']]}: {case['customers']:,} customers, {case['pool']:,} to draw from in "
        f"{case['strata']:,} strata, {case['drawn']:,} drawn, {case['bytes'] / 1e6:,.0f} MB"
    )


def _costs(case: dict[str, Any]) -> list[tuple[str, ...]]:
    lines = [
        (
            NAMES[name], f"{median_of(case, name, 'wall_seconds'):.2f}", f"{median_of(case, name, 'inner_seconds'):.2f}",
            f"{median_of(case, name, 'cpu_seconds'):.2f}", f"{median_of(case, name, 'peak_mb'):,.0f}",
        )
        for name in case["rounds"]
    ]  # fmt: skip
    return lines + [(NAMES[name], f"not finished after {s:.0f} s", "–", "–", "–") for name, s in case["ended"].items()]


def _steps(case: dict[str, Any]) -> tuple[str, str]:
    rounds = sorted(case["rounds"]["huifang"], key=lambda each: each["wall_seconds"])
    middle = rounds[len(rounds) // 2]
    steps = {"start and imports": middle["import_seconds"], **middle["steps"]}
    return f"{case['size']} {case['month']}", ", ".join(f"{name} {seconds:.2f}" for name, seconds in steps.items())


def _percent(part: float | None) -> str:
    return "not finished" if part is None else f"{100 * part:.1f} %"


def goals(cases: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """What was asked, at which size, what came out, met or not; ratios of medians of one run."""
    found: list[tuple[str, ...]] = []
    for case in cases:
        where, is_large = f"{case['size']} {case['month']}", case["customers"] == 10_000_000
        for ours in ("huifang", "bare"):
            for theirs in ("pandas", "pandas_categories"):
                for what, label in (("wall_seconds", "whole process"), ("inner_seconds", "without start and imports")):
                    value = _ratio(case, theirs, ours, what)
                    asked = theirs == "pandas" and what == "wall_seconds"
                    if value is not None:
                        name = f"{NAMES[theirs]} ÷ {NAMES[ours]}, {label}" + (" ≥ 4" if asked else "")
                        found.append((name, where, f"{value:.2f}", verdict(value >= 4, is_large) if asked else ""))
        peaks = [each["peak_mb"] for each in case["rounds"].get("huifang", [])]
        if peaks:
            met = verdict(max(peaks) < 1000, is_large)
            found.append((f"highest memory of {NAMES['huifang']} < 1,000 MB", where, f"{max(peaks):,.0f} MB", met))
        found += _against_packages(case, where)
    return found


def _against_packages(case: dict[str, Any], where: str) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    is_asked_size = case["customers"] == 100_000
    for name in ("samplics", "samplics_sys", "r_sampling", "r_sps"):
        asked = name.startswith("samplics")
        for what, label in (("wall_seconds", "whole process"), ("inner_seconds", "without start and imports")):
            goal = " ≥ 100" if asked and what == "wall_seconds" else ""
            text = f"{NAMES[name]} ÷ {NAMES['huifang']}, {label}{goal}"
            ours, value = median_of(case, "huifang", what), _ratio(case, name, "huifang", what)
            if value is not None:
                found.append((text, where, f"{value:.2f}", verdict(value >= 100, is_asked_size) if goal else ""))
            elif name in case["ended"] and ours:
                least = case["ended"][name] / ours
                met = (verdict(True, is_asked_size) if least >= 100 else "open: it was ended") if goal else ""
                found.append((text, where, f"> {least:.0f}", met))
    return found


def _ratio(case: dict[str, Any], over: str, under: str, what: str) -> float | None:
    above, below = median_of(case, over, what), median_of(case, under, what)
    return above / below if above and below else None
