"""The verifier of an export says same of what follows the rules, and names what does not.

The exports are built here from the form's page and DRAW.md, by the simplest arithmetic; nothing of the product is used.
"""

import ast
import copy
import gzip
import hashlib
import importlib.util
import io
import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from models import sampling
from models.programme import Programme

PROJECT = Path(__file__).resolve().parents[1]
VERIFIER = next(path for folder in ("models", "tasks/export") if (path := PROJECT / folder / "verify_sample.py").exists())
_spec = importlib.util.spec_from_file_location("verify_sample", VERIFIER)
verifier = importlib.util.module_from_spec(_spec)
sys.modules["verify_sample"] = verifier
_spec.loader.exec_module(verifier)

FRAME = "customer_id,branch_no,group_key,segment,stratum"
DEVELOPERS = "customer_id,developer_id"
SAMPLE = "customer_id,branch_no,group_key,stratum,ticket,rank,kind"


def canonical(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def packed(text: str, **options: Any) -> bytes:
    target = io.BytesIO()
    with gzip.GzipFile(fileobj=target, **{"filename": "", "mode": "wb", "compresslevel": 9, "mtime": 0} | options) as file:
        file.write(text.encode())
    return target.getvalue()


def lines(*rows: str) -> str:
    return "".join(f"{row}\n" for row in rows)


def link(month: int) -> str:
    """The chain's link of a month, 0 being K0."""
    text = digest("the year's secret")
    for _ in range(12 - month):
        text = digest(text)
    return text


# The rules once more, by the plainest arithmetic.


def highest(sizes: dict[str, int], state: dict[str, int], weights: dict[str, str], among: list[str]) -> str:
    return min(among, key=lambda key: (-sizes[key] * Fraction(weights.get(key, "1")) / (2 * state[key] + 1), key))


def year_places(sizes: dict[str, int], total: int, minimum: int) -> dict[str, int]:
    places = {key: min(minimum, size) for key, size in sizes.items()}
    while sum(places.values()) < total:
        places[highest(sizes, places, {}, [key for key in sizes if places[key] < sizes[key]])] += 1
    return places


def month_places(sizes, state, left, count, minimum, weights):
    state, dealt = dict(state), dict.fromkeys(sizes, 0)
    for _ in range(count):
        free = [key for key in sizes if dealt[key] < left[key]]
        key = highest(sizes, state, weights, [key for key in free if state[key] < minimum] or free)
        state[key] += 1
        dealt[key] += 1
    return dealt


def strata_of(sizes: dict[str, int], rate: str, minimum: int) -> dict[str, str]:
    """The stratum of each segment."""
    smallest = ceil(minimum / Fraction(rate))
    joined = [key for key, size in sizes.items() if size < smallest]
    while joined and sum(sizes[key] for key in joined) < smallest and len(joined) < len(sizes):
        joined.append(min((key for key in sizes if key not in joined), key=lambda key: (sizes[key], key)))
    return {key: "*" if key in joined else key for key in sizes}


@dataclass
class Year:
    """An export before its hashes: `doc` is plan.json with each plan and state as an object, `tables` the CSV texts."""

    doc: dict[str, Any]
    tables: dict[str, str]
    sample: str = ""

    def changed(self, change: Callable[["Year"], None]) -> "Year":
        year = copy.deepcopy(self)
        change(year)
        return year

    def sealed(self) -> dict[str, Any]:
        """plan.json with all its hashes, as somebody would write it who forges a whole export."""
        doc = copy.deepcopy(self.doc)
        for version in doc["versions"]:
            version["plan"] = canonical(version["plan"])
            version["plan_sha256"] = digest(version["plan"])
            version["frame_sha256"] = digest(self.tables[version["frame_file"]])
        for month in doc["months"]:
            version, state = doc["versions"][month["version"] - 1], month["state"]
            state |= {name: version[name] for name in ("plan_sha256", "frame_sha256")}
            state["k0"] = doc["chain"]["k0"] if doc["chain"] else ""
            state["developers_sha256"] = digest(self.tables[month["developers_file"]]) if month["developers_file"] else ""
            month["state"] = canonical(state)
            month["state_sha256"] = digest(month["state"])
        return doc | {"sha256": digest(canonical(doc))}

    def write(self, folder: Path) -> Path:
        folder.mkdir(exist_ok=True)
        for name, text in self.tables.items():
            (folder / name).write_bytes(packed(text))
        (folder / "plan.json").write_bytes((canonical(self.sealed()) + "\n").encode())
        (folder / "sample.csv").write_bytes(self.sample.encode())
        return folder


CHAIN = {"kind": "chain", "public": {"name": {"zh_CN": "上证指数", "en": "index"}, "available_at": "15:30:00", "pattern": r"\d+\.\d\d"}}
OFF = {"2026-01-01", "2026-01-02", "2026-05-01", "2026-10-01", "2026-10-02"}
"""The holidays of the year that runs here; 2026-01-04, a Sunday, is worked."""


def workdays(first: str = "2026-01-01", last: str = "2026-12-31") -> list[str]:
    days = [date.fromisoformat(first) + timedelta(days=n) for n in range(366)]
    return [str(d) for d in days if str(d) <= last and str(d) not in OFF and (d.weekday() < 5 or str(d) == "2026-01-04")]


def pace(plan: dict[str, Any], period: str, as_of: str) -> tuple[int, int, int]:
    """Weight of the month, weight left, and workdays left in it on the day of the state."""
    spread = plan.get("monthly_plan", {})
    months = [f"{period[:5]}{n:02}" for n in range(int(period[5:]), 13)]
    cut_off = f"{period[:5]}{spread.get('cut_off', '12-31')}"
    counted = [sum(day[:7] == month and day <= cut_off for day in workdays()) for month in months]
    weights = spread.get("weights")
    if weights:
        counted = [weights[int(month[5:]) - 1] if f"{month}-01" <= cut_off else 0 for month in months]
    begin = as_of if as_of[:7] == period else f"{period}-01"
    return counted[0], sum(counted), sum(day[:7] == period and day >= begin for day in workdays())


def rate_plan(**changes: Any) -> dict[str, Any]:
    plan = {
        "programme": "daily_risk", "goal": {"kind": "rate", "rate": "0.30", "source": {"text": "证监会公告〔2010〕11号"}},
        "strata": ["segment"], "minimum": 2, "reserve": "0.5", "seed": "random", "capacity": 30, "caller": "branch",
        "exclusions": [{"reason": "dormant", "column": "status", "values": ["dormant"]}, {"reason": "suspended", "by_hand": True}],
    }  # fmt: skip
    return plan | changes


def frame_of(branches: dict[str, dict[str, int]], rate: str, minimum: int, skip: tuple[str, ...] = ()) -> str:
    """A frame whose customers are numbered through branches and segments; some are left out."""
    number, rows = 0, []
    for branch, segments in branches.items():
        members = {}
        for segment, size in segments.items():
            members[segment] = [f"{n:04}" for n in range(number + 1, number + size + 1)]
            number += size
        kept = {segment: [c for c in customers if c not in skip] for segment, customers in members.items()}
        strata = strata_of({segment: len(customers) for segment, customers in kept.items()}, rate, minimum)
        rows += [f"{c},{branch},{branch},{segment},{strata[segment]}" for segment in kept for c in kept[segment]]
    return lines(FRAME, *sorted(rows))


class House:
    """A programme year as it runs: months committed, drawn and worked, by the page's words."""

    def __init__(self, programme: str, versions: list[tuple[dict[str, Any], str]], chain: bool = False, fresh: str = ""):
        self.chain = {"links": 12, "k0": link(0)} if chain else None
        self.tables = {"frame.csv.gz" if n == 1 else f"frame-{n}.csv.gz": frame for n, (_, frame) in enumerate(versions, 1)}
        self.frames = [[row.split(",") for row in frame.splitlines()[1:]] for _, frame in versions]
        self.doc: dict[str, Any] = {
            "format": "huifang-proof-2", "programme": programme, "year": 2026, "chain": self.chain, "months": [],
            "versions": [self.version(n, plan) for n, (plan, _) in enumerate(versions, 1)],
        }  # fmt: skip
        self.chance = random.Random(11)
        self.silent: set[str] = set()
        self.fresh = fresh
        self.status: dict[str, str] = {}
        self.under: dict[str, str] = {}
        self.drawn: list[list[str]] = []
        self.sample = ""

    def version(self, number: int, plan: dict[str, Any]) -> dict[str, Any]:
        frame, goal = self.frames[number - 1], plan["goal"]
        ledger = [{"branch_no": "01", "reason": "dormant", "customers": 7}, {"branch_no": "02", "reason": "suspended", "customers": 1}]
        quota, strata = [], []
        for group in sorted({row[2] for row in frame}) if goal["kind"] == "rate" else ():
            rows = [row for row in frame if row[2] == group]
            sizes = {key: sum(row[4] == key for row in rows) for key in sorted({row[4] for row in rows})}
            target = ceil(Fraction(goal["rate"]) * len(rows))
            least = min(plan["minimum"], target)
            quota.append({"group_key": group, "branch_no": group, "eligible": len(rows), "goal": target})
            strata += [
                {"group_key": group, "stratum": key, "customers": sizes[key], "minimum": min(least, sizes[key]), "places": n}
                for key, n in sorted(year_places(sizes, target, least).items())
            ]
        return {
            "version": number, "plan": plan, "frame_file": "frame.csv.gz" if number == 1 else f"frame-{number}.csv.gz",
            "base": len(frame) + 8 + 2, "waived": 2, "ledger": ledger, "quota": quota, "strata": strata,
            "excluded_by_hand": [{"customer_id": "hand1", "reason": "suspended", "approver": "合规甲"}] * ("exclusions" in plan),
        }  # fmt: skip

    def draw(self, period: str, version: int = 1, *, capacity: int | None = None, reopen: tuple[str, ...] = (),
             developers: dict[str, str] | None = None, aborted: int = 0) -> None:  # fmt: skip
        """capacity: of each group, as approvers said; reopen: groups whose strata were reopened by approvers."""
        plan, frame, month = self.doc["versions"][version - 1]["plan"], self.frames[version - 1], int(period[5:])
        goal, as_of, of_plan = plan["goal"], f"{period}-04", plan["capacity"]
        *weights, days_left = pace(plan, period, as_of)
        held = developers or {row[0]: row[2] for row in frame}
        stratum = {row[0]: held[row[0]] if developers else row[4] for row in frame if row[0] in held}
        codes = {c: status if c in {row[0] for row in frame} else "outside" for c, status in self.status.items()}
        attempts: list[dict[str, Any]] = []
        seed = digest(f"fresh {period}{self.fresh}")
        for n in range(1, aborted + 2) if self.chain else ():
            name, public = f"{period}#{n}" if n > 1 else period, f"{3000 + month}.{n}1"
            # The first workday, no weekend, after the commitment in the morning of the 4th, or after the abort at 16:00.
            after = f"{as_of}T09:00" if n == 1 else attempts[-1]["aborted_at"]
            day = next(d for d in workdays() if date.fromisoformat(d).weekday() < 5 and f"{d}T15:30" > after)
            is_last = n > aborted
            attempts.append({
                "attempt": n, "period": name, "public": public, "public_on": day, "public_by": "运营乙",
                "public_at": f"{day}T15:40:00.000000+08:00", "link": link(month) if is_last else "",
                "link_by": "合规甲" if is_last else "", "link_at": f"{day}T15:50:00.000000+08:00" if is_last else "",
                "aborted": "" if is_last else "断电", "aborted_by": "" if is_last else "合规甲",
                "aborted_at": "" if is_last else f"{day}T16:00:00.000000+08:00",
            })  # fmt: skip
            seed = digest(f"{self.doc['programme']}|{name}|{link(month)}|{public}")
        groups, strata, rows, needs = [], [], [], {}
        for group in [*sorted(set(held.values()))] * 2:
            members = [c for c in stratum if held[c] == group]
            counted = [c for c in codes if (self.under if developers else held).get(c) == group]
            completed, is_open, failed = (
                sum(codes[c] in names for c in counted)
                for names in (("completed",), ("open",), ("failed", "reopened"))
            )
            pools = {key: [c for c in members if stratum[c] == key and codes.get(c, "reopened") == "reopened"]
                     for key in sorted({stratum[c] for c in members})}  # fmt: skip
            sizes = {key: sum(stratum[c] == key for c in members) for key in pools}
            left = {key: len(pool) for key, pool in pools.items()}
            done = {key: sum(stratum.get(c) == key and codes[c] in ("completed", "open") for c in counted) for key in pools}
            if developers:
                target, least, done = min(goal["calls_per_year"], len(members)), 0, {group: completed + is_open}
                owed = max(0, goal["calls_per_year"] - completed - is_open)
                wanted = share = max(0, ceil(Fraction(goal["calls_per_year"] * month, 12)) - completed - is_open)
            else:
                target = ceil(Fraction(goal["rate"]) * len(members))
                least, p = min(plan["minimum"], target), Fraction(completed + 10, completed + failed + 20)
                owed = max(0, target - completed - int(is_open * p))
                share = ceil(Fraction(owed * weights[0], weights[1]))
                wanted = min(ceil(share / p), 3 * share)
            if group not in needs:  # the first time round it is asked what each needs, then dealt
                needs[group] = min(wanted, sum(left.values()))
                continue
            bound = capacity if capacity is not None else self.bound(plan, group, needs, days_left)
            places = min(wanted, bound, sum(left.values()))
            reason = "" if places == wanted else "capacity" if bound <= sum(left.values()) else "exhausted"
            groups.append({
                "group_key": group, "branch_no": "01" if developers else group, "eligible": len(members), "goal": target,
                "completed": completed, "open": is_open, "failed": failed, "capacity": bound, "owed": owed,
                "share": share, "places": places, "shortfall": wanted - places, "reason": reason,
            })  # fmt: skip
            for key, n in month_places(sizes, done, left, places, least, plan.get("weights", {})).items():
                reserve = min(left[key] - n, ceil(Fraction(plan["reserve"]) * n))
                strata.append({
                    "group_key": group, "stratum": key, "customers": sizes[key], "minimum": min(least, sizes[key]),
                    "state": done[key], "left": left[key], "places": n, "reserve": reserve,
                })  # fmt: skip
                order = sorted((digest(f"{seed}:{c}"), c) for c in pools[key])[: n + reserve]
                rows += [(group, key, n, [c for _, c in order])]
        if developers:
            groups.append({
                "group_key": "d9", "branch_no": "02", "eligible": 0, "goal": 0, "completed": 0, "open": 0, "failed": 0,
                "capacity": of_plan, "owed": goal["calls_per_year"], "share": ceil(Fraction(goal["calls_per_year"] * month, 12)),
                "places": 0, "shortfall": ceil(Fraction(goal["calls_per_year"] * month, 12)), "reason": "excluded",
            })  # fmt: skip
        branch = {row[0]: row[1] for row in frame}
        written = [
            f"{c},{branch[c]},{group},{key},{digest(f'{seed}:{c}')},{rank},{'sample' if rank <= n else 'reserve'}"
            for group, key, n, order in rows for rank, c in enumerate(order, 1)
        ]  # fmt: skip
        self.sample = lines(SAMPLE, *sorted(written))
        state = {
            "campaign": f"{self.doc['programme']}-{period}", "period": period, "programme_year": f"{self.doc['programme']}-2026",
            "version": version, "as_of": as_of, "calendar_version": "2026.1", "workdays": workdays(), "weight": weights[0],
            "weight_left": weights[1], "groups": groups, "strata": strata, "taken": sorted(map(list, codes.items())),
        }  # fmt: skip
        self.doc["months"].append({
            "campaign": state["campaign"], "period": period, "version": version, "state": state, "attempts": attempts,
            "developers_file": f"developers-{period}.csv.gz" if developers else "", "seed": seed,
            "origin": "chain" if self.chain else "random", "sample_sha256": digest(self.sample),
            "committed_at": f"{as_of}T09:00:00.000000+08:00", "exceptions": [
                {"kind": kind, "group_key": row["group_key"], "stratum": row["stratum"] if kind == "reopen" else "",
                 "calls": capacity or 0, "approver": "合规甲", "reason": "装修"}
                for kind, among in (("capacity", groups if capacity is not None else []),
                                    ("reopen", [row for row in strata if row["group_key"] in reopen]))
                for row in among
            ],
        })  # fmt: skip
        if developers:
            text = lines(DEVELOPERS, *(f"{c},{d}" for c, d in sorted(developers.items())))
            self.tables[f"developers-{period}.csv.gz"] = text
        self.work(rows)

    @staticmethod
    def bound(plan: dict[str, Any], group: str, needs: dict[str, int], days_left: int) -> int:
        """What a group takes on by its plan; headquarters' calls are shared out when they do not suffice."""
        if isinstance(plan["capacity"], int):
            return plan["capacity"]
        calls = plan["capacity"]["branches"].get(group, plan["capacity"]["per_workday"]) * days_left
        if plan["caller"] == "hq" and sum(needs.values()) > calls:
            return year_places(needs, calls, 0)[group]
        return calls

    def work(self, rows: list[tuple[str, str, int, list[str]]]) -> None:
        """Some of what is open gets its outcome; failures bring in the reserve of their stratum, in order."""
        for c in [c for c, status in self.status.items() if status == "open"]:
            self.status[c] = self.chance.choice(["completed", "failed", "open"])
        for group, _, places, order in rows:
            called = list(order[:places])
            for c in called:
                self.status[c] = "failed" if c in self.silent else self.chance.choice(["completed", "failed", "failed", "open"])
                self.under[c] = group
                if self.status[c] == "failed" and len(called) < len(order):
                    called.append(order[len(called)])

    def year(self) -> Year:
        return Year(self.doc | {"campaign": self.doc["months"][-1]["campaign"]}, self.tables, self.sample)


BRANCHES = {"01": {"retail": 140, "vip": 48, "odd": 3}, "02": {"retail": 53, "vip": 4}, "03": {"retail": 9}}


def rate_year(chain: bool = False) -> Year:
    """Months with failures, activations and aborted attempts; a new plan in May; in branch 03 nobody answers until all failed."""
    seed: dict[str, Any] = {"seed": CHAIN} if chain else {}

    def by(*weights: int) -> dict[str, Any]:
        return {"by": "weights", "weights": [*weights], "cut_off": "12-31"}

    first = rate_plan(monthly_plan=by(20, 15, 0, 25, 0, 0, 0, 0, 0, 0, 0, 0), **seed)
    later = rate_plan(
        goal={"kind": "rate", "rate": "0.4"}, weights={"vip": "2.5", "retail": "0.75"}, minimum=3,
        monthly_plan=by(0, 0, 0, 0, 10, 10, 11, 0, 0, 0, 3, 6), **seed,
    )  # fmt: skip
    frames = frame_of(BRANCHES, "0.30", 2), frame_of(BRANCHES, "0.4", 3, skip=tuple(f"{n:04}" for n in range(1, 40)))
    house = House("daily_risk", [(first, frames[0]), (later, frames[1])], chain)
    house.silent = {row[0] for row in house.frames[0] if row[1] == "03"}
    house.draw("2026-01")
    house.draw("2026-02", aborted=1)
    house.draw("2026-04", capacity=9)
    house.draw("2026-05", 2, aborted=2)
    house.draw("2026-06", 2)
    assert {house.status[c] for c in house.silent} == {"failed"}
    house.status |= dict.fromkeys(house.silent, "reopened")
    house.draw("2026-11", 2, reopen=("03",))
    house.status |= {c: "reopened" for c in house.silent if house.status[c] == "failed"}
    house.draw("2026-12", 2, reopen=("03",))
    return house.year()


def workday_year(caller: str) -> Year:
    """Months weighed and bounded by workdays; branches of their own, or one centre for all."""
    capacity = {"per_workday": 1, "branches": {"02": 2} if caller == "branch" else {}}
    plan = rate_plan(goal={"kind": "rate", "rate": "0.9"}, capacity=capacity, caller=caller)
    house = House("daily_risk", [(plan, frame_of(BRANCHES, "0.9", 2))])
    for period in ("2026-01", "2026-10", "2026-11"):
        house.draw(period)
    return house.year()


def plain_year(fresh: str = "") -> Year:
    """One branch without strata for three months, by the plan's own weights of the months."""
    plan = rate_plan(strata=[], minimum=0, monthly_plan={"by": "weights", "weights": [1, 1, 4, *[0] * 9], "cut_off": "12-31"})
    house = House("daily_risk", [(plan, lines(FRAME, *(f"{n:03},7,7,,*" for n in range(40))))], fresh=fresh)
    for period in ("2026-01", "2026-02", "2026-03"):
        house.draw(period)
    return house.year()


def coverage_year(chain: bool = False) -> Year:
    """Months of marketers: called customers change their developer, one marketer has one customer, one has none."""
    plan = {
        "programme": "marketer_conduct", "goal": {"kind": "coverage", "calls_per_year": 6}, "strata": [], "minimum": 0,
        "reserve": "1", "seed": CHAIN if chain else "random", "capacity": 2,
    }  # fmt: skip
    branch = {f"{n:03}": "01" if n < 25 else "02" for n in range(1, 51)}
    house = House("marketer_conduct", [(plan, lines(FRAME, *(f"{c},{b},{b},,*" for c, b in branch.items())))], chain)
    house.silent = {"040"}
    held = {f"{n:03}": "d1" if n <= 20 else "d2" for n in range(1, 29)} | {"040": "d3"}
    for period in ("2026-02", "2026-03", "2026-06", "2026-11"):
        house.draw(period, developers=dict(held), reopen=("d3",) if period == "2026-06" else ())
        held[next(c for c in sorted(house.under) if held.get(c) == house.under[c] == "d1")] = "d2"
        held.pop(next(c for c in sorted(house.under, reverse=True) if held.get(c) == "d2"), None)
        held[f"{30 + int(period[5:]):03}"] = "d1"
        house.status["040"] = "reopened" if period == "2026-03" else house.status["040"]
    return house.year()


YEARS = {
    "rate, random seeds": rate_year(), "rate, chain": rate_year(chain=True), "rate, one stratum": plain_year(),
    "coverage, random seeds": coverage_year(), "coverage, chain": coverage_year(chain=True),
    "workdays, branches": workday_year("branch"), "workdays, one centre": workday_year("hq"),
}  # fmt: skip


def verdict(folder: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str]:
    """The exit code and what was printed."""
    code = verifier.main([str(folder), *options])
    return code, capsys.readouterr().out


def wrong_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(("不符", "NOT THE SAME"))]


@pytest.mark.parametrize("name", YEARS)
def test_a_year_that_follows_the_rules_is_the_same_throughout(name, tmp_path, capsys):
    code, text = verdict(YEARS[name].write(tmp_path), capsys)
    assert (code, wrong_lines(text)) == (0, []), text
    assert text.count("相符  ") > 30
    assert f"结论：{text.count('相符  ')} 项全部相符" in text


@pytest.mark.parametrize("name", ["rate, chain", "coverage, random seeds"])
def test_it_runs_in_the_folder_with_nothing_but_the_standard_library(name, tmp_path):
    folder = YEARS[name].write(tmp_path)
    (folder / "verify_sample.py").write_bytes(VERIFIER.read_bytes())
    for words in (["verify_sample.py"], [str(VERIFIER), str(folder), "--lang", "en"]):
        done = subprocess.run([sys.executable, "-I", "-S", *words], cwd=folder, capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
        assert re.search("结论：[0-9]+ 项全部相符|Result: all [0-9]+ checks are the same", done.stdout.decode())


def test_it_imports_the_standard_library_only_and_reads_as_python_3_9():
    tree = ast.parse(VERIFIER.read_text(encoding="utf-8"), feature_version=(3, 9))
    roots = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            roots |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            roots.add(node.module.split(".")[0])
        elif isinstance(node, ast.Name):
            assert node.id not in {"__import__", "exec", "eval", "compile"}
    assert roots <= set(sys.stdlib_module_names)
    assert not roots & {"importlib", "socket", "subprocess", "urllib", "pickle"}


def test_english_is_the_same_line_by_line(tmp_path, capsys):
    folder = rate_year().changed(lambda year: year.tables.update(spare="")).write(tmp_path)
    _, zh = verdict(folder, capsys)
    _, en = verdict(folder, capsys, "--lang", "en")
    assert len(zh.splitlines()) == len(en.splitlines())
    assert zh.count("相符  ") == en.count("same  ")
    names = "合规甲|运营乙|装修|断电"  # as people entered them
    assert not re.search("[\u4e00-\u9fff]", re.sub(names, "", en))


# One changed byte


def flipped(content: bytes, place: int, bits: int) -> bytes:
    return content[:place] + bytes([content[place] ^ bits]) + content[place + 1 :]


def unnoticed(year: Year, folder: Path, places: Callable[[int], range], capsys: pytest.CaptureFixture[str]) -> list[str]:
    """File, place and bit of the flips after which an export still passes as the same."""
    year.write(folder)
    found = []
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        for place in places(len(content)):
            bits = (1, 0x20, 0x80)[place % 3]
            path.write_bytes(flipped(content, place, bits))
            if verdict(folder, capsys)[0] not in (1, 2):
                found.append(f"{path.name}:{place} ^ {bits}")
        path.write_bytes(content)
    assert verdict(folder, capsys)[0] == 0
    return found


EVERYTHING = bool(os.environ.get("HUIFANG_EVERYTHING"))
"""Every byte and every value in the long tests, which takes half an hour; else each 29th byte and 400 values."""


@pytest.mark.parametrize("name", ["rate, one stratum", "coverage, chain"])
def test_one_changed_byte_here_and_there_is_caught(name, tmp_path, capsys):
    assert unnoticed(YEARS[name], tmp_path, lambda size: range(0, size, max(1, size // 25)), capsys) == []


@pytest.mark.long
@pytest.mark.parametrize("name", ["rate, one stratum", "coverage, chain"])
def test_one_changed_byte_anywhere_is_caught(name, tmp_path, capsys):
    assert unnoticed(YEARS[name], tmp_path, lambda size: range(0, size, 1 if EVERYTHING else 29), capsys) == []


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda text: packed(text, mtime=1), 1),
        (lambda text: packed(text, compresslevel=1), 1),
        (lambda text: packed(text, filename="frame.csv"), 2),
        (lambda text: packed(text) + b"\0", 1),
        (lambda text: packed(text) + packed(""), 1),
        (lambda text: packed(text)[:-1], 1),
        (lambda text: packed(text)[:-9], 2),
        (lambda text: packed(text)[:12], 2),
        (lambda text: packed(text)[:5], 2),
        (lambda text: b"", 2),
        (lambda text: text.encode(), 2),
    ],
    ids=["time", "level", "name", "byte behind", "second member", "end cut", "cut", "cut early", "cut head", "empty", "plain"],
)
def test_another_gzip_file_of_the_same_text_is_not_the_same(change, code, tmp_path, capsys):
    year = YEARS["rate, one stratum"]
    folder = year.write(tmp_path)
    (folder / "frame.csv.gz").write_bytes(change(year.tables["frame.csv.gz"]))
    got, text = verdict(folder, capsys)
    assert got == code, text
    assert "frame.csv.gz" in "".join(wrong_lines(text)) + text.splitlines()[-2]


def test_a_text_packed_by_another_zlib_is_the_same_and_the_line_says_what_was_not_compared(tmp_path, capsys):
    year = YEARS["rate, chain"]
    folder = year.write(tmp_path)
    (folder / "frame.csv.gz").write_bytes(packed(year.tables["frame.csv.gz"], compresslevel=1)[:8] + b"\x02\xff" + packed(
        year.tables["frame.csv.gz"], compresslevel=1)[10:])  # fmt: skip
    code, text = verdict(folder, capsys)
    assert code == 0, text
    assert "frame.csv.gz 的 gzip 头与校验和（本机 zlib 压法不同，其余字节未比对）" in text


# Whole exports forged with all their hashes


def state_of(year: Year, month: int) -> dict[str, Any]:
    return year.doc["months"][month]["state"]


def swap_rows(text: str, first: str, second: str, columns: tuple[int, ...]) -> str:
    """A sample text in which two rows have some columns of each other."""
    rows = [row.split(",") for row in text.splitlines()]
    a, b = next(row for row in rows if row[0] == first), next(row for row in rows if row[0] == second)
    for column in columns:
        a[column], b[column] = b[column], a[column]
    return lines(*(",".join(row) for row in [rows[0], *sorted(rows[1:])]))


def rewrite_sample(year: Year, text: str) -> None:
    year.sample = text
    year.doc["months"][-1]["sample_sha256"] = digest(text)


def of_kind(year: Year, kind: str) -> list[str]:
    rows = [row.split(",") for row in year.sample.splitlines()[1:]]
    return [row[0] for row in sorted(rows, key=lambda row: (row[2], row[3], int(row[5]))) if row[6] == kind]


def swap_a_customer(year):
    frame = [row.split(",")[0] for row in year.tables["frame.csv.gz"].splitlines()[1:]]
    taken = {c for c, _ in state_of(year, -1)["taken"]}
    stranger = next(c for c in frame if c not in taken and c not in year.sample)
    chosen = of_kind(year, "sample")[0]
    rows = [row.replace(f"{chosen},", f"{stranger},") for row in year.sample.splitlines()]
    rewrite_sample(year, lines(rows[0], *sorted(rows[1:])))


def swap_two_ranks(year):
    first, second = of_kind(year, "sample")[:2]
    rewrite_sample(year, swap_rows(year.sample, first, second, (5,)))


def swap_sample_and_reserve(year):
    rewrite_sample(year, swap_rows(year.sample, of_kind(year, "sample")[-1], of_kind(year, "reserve")[0], (5, 6)))


def swap_two_of_the_reserve(year):
    first, second = of_kind(year, "reserve")[:2]
    rewrite_sample(year, swap_rows(year.sample, first, second, (5,)))


def change_a_status(year):
    entry = next(entry for entry in state_of(year, 1)["taken"] if entry[1] == "failed")
    entry[1] = "open"


def undo_a_completion(year):
    before = dict(state_of(year, 1)["taken"])
    entry = next(entry for entry in state_of(year, 2)["taken"] if entry[1] == before.get(entry[0]) == "completed")
    entry[1] = "failed"


def reopen_early(year):
    entry = next(entry for entry in state_of(year, 1)["taken"] if entry[1] == "failed")
    entry[1] = "reopened"


def call_one_outside(year):
    state_of(year, 1)["taken"][0][1] = "outside"


def forget_one_taken(year):
    del state_of(year, 2)["taken"][3]


def add_one_taken(year):
    frame = [row.split(",")[0] for row in year.tables["frame.csv.gz"].splitlines()[1:]]
    known = {c for month in year.doc["months"] for c, _ in month["state"]["taken"]}
    for month in year.doc["months"][1:]:
        month["state"]["taken"] = sorted([*month["state"]["taken"], [next(c for c in frame if c not in known), "open"]])


def take_one_before_the_year(year):
    state_of(year, 0)["taken"] = [["001", "completed"]]


def skip_one_of_the_reserve(year):
    """The second of a reserve was called, the first was not."""
    month = year.doc["months"]
    seed = month[0]["seed"]
    row = next(row for row in month[0]["state"]["strata"] if row["reserve"] > 2)
    frame = [line.split(",") for line in year.tables["frame.csv.gz"].splitlines()[1:]]
    order = sorted((digest(f"{seed}:{c[0]}"), c[0]) for c in frame if (c[2], c[4]) == (row["group_key"], row["stratum"]))
    reserve = [c for _, c in order[row["places"] : row["places"] + row["reserve"]]]
    for later in month[1:]:
        later["state"]["taken"] = [entry for entry in later["state"]["taken"] if entry[0] not in reserve]
        later["state"]["taken"] = sorted([*later["state"]["taken"], [reserve[1], "failed"]])


def deal_a_place_more(year):
    row = next(row for row in state_of(year, -1)["strata"] if row["places"])
    row["places"] += 1


def deal_to_another_stratum(year):
    rows = [row for row in state_of(year, 0)["strata"] if row["group_key"] == "01"]
    rows[0]["places"] += 1
    rows[1]["places"] -= 1


def keep_a_larger_reserve(year):
    next(row for row in state_of(year, -1)["strata"] if row["reserve"])["reserve"] += 1


def lower_a_goal(year):
    year.doc["versions"][0]["quota"][0]["goal"] -= 1


def lower_a_goal_in_the_state(year):
    state_of(year, 0)["groups"][0]["goal"] -= 1


def owe_less(year):
    group = next(group for group in state_of(year, 0)["groups"] if group["owed"])
    group["owed"] -= 1


def name_another_reason(year):
    next(group for group in state_of(year, 2)["groups"] if group["reason"])["reason"] = ""


def leave_out_a_group(year):
    del state_of(year, 1)["groups"][0]


def say_a_stratum_twice(year):
    state_of(year, 1)["strata"].append(copy.deepcopy(state_of(year, 1)["strata"][0]))


def leave_fewer(year):
    state_of(year, 1)["strata"][0]["left"] -= 1


def move_a_place_of_the_year(year):
    rows = [row for row in year.doc["versions"][0]["strata"] if row["group_key"] == "01"]
    rows[0]["places"] += 1
    rows[1]["places"] -= 1


def join_no_segment(year):
    frame = year.tables["frame.csv.gz"]
    year.tables["frame.csv.gz"] = frame.replace(",odd,*", ",odd,odd")


def lose_an_excluded_customer(year):
    year.doc["versions"][0]["ledger"][0]["customers"] -= 1


def add_a_customer_to_the_frame(year):
    year.tables["frame.csv.gz"] += "9999,01,01,retail,retail\n"
    year.doc["versions"][0]["base"] += 1


def drop_a_customer_from_the_frame(year):
    *rows, _ = year.tables["frame.csv.gz"].splitlines()
    year.tables["frame.csv.gz"] = lines(*rows)
    year.doc["versions"][0]["base"] -= 1


def drop_the_first_month(year):
    del year.doc["months"][0]


def drop_a_month(year):
    del year.doc["months"][1]


def drop_the_last_month(year):
    del year.doc["months"][-1]


def change_months_round(year):
    months = year.doc["months"]
    months[0], months[1] = months[1], months[0]


def put_in_another_public_number(year):
    year.doc["months"][1]["attempts"][-1]["public"] = "3002.99"


def put_in_another_link(year):
    year.doc["months"][1]["attempts"][-1]["link"] = digest("another")


def put_in_another_link_and_its_seed(year):
    put_in_another_link(year)
    attempt = year.doc["months"][-1]["attempts"][-1]
    attempt["link"] = digest("another")
    year.doc["months"][-1]["seed"] = digest(f"daily_risk|2026-12|{attempt['link']}|{attempt['public']}")


def put_in_a_chosen_seed(year):
    year.doc["months"][-1]["seed"] = digest("until it pleases")


def choose_a_seed_where_the_chain_holds(year):
    year.doc["months"][-1] |= {"seed": digest("until it pleases"), "origin": "random", "attempts": []}


def forget_the_abort(year):
    year.doc["months"][1]["attempts"] = year.doc["months"][1]["attempts"][1:]


def abort_without_a_reason(year):
    year.doc["months"][1]["attempts"][0]["aborted"] = ""


def know_the_public_number_before(year):
    year.doc["months"][0]["attempts"][0]["public_on"] = "2026-01-03"


def try_again_on_the_same_day(year):
    year.doc["months"][1]["attempts"][1]["public_on"] = year.doc["months"][1]["attempts"][0]["public_on"]


def begin_another_chain(year):
    year.doc["chain"]["k0"] = digest("another")


def break_off_the_chain(year):
    year.doc["chain"] = None


def weigh_a_month_otherwise(year):
    state_of(year, 1)["weight"] += 1


def change_the_rate(year):
    year.doc["versions"][0]["plan"]["goal"]["rate"] = "0.29"


def name_another_programme(year):
    year.doc["versions"][0]["plan"]["programme"] = "another"


def count_under_the_developer_of_today(year):
    for n, month in enumerate(year.doc["months"]):
        held = dict(line.split(",") for line in year.tables[month["developers_file"]].splitlines()[1:])
        for group in month["state"]["groups"]:
            codes = [code for c, code in month["state"]["taken"] if held.get(c) == group["group_key"]]
            for code in ("completed", "open", "failed"):
                group[code] = codes.count(code)
        assert n == 0 or held


def give_a_customer_another_developer(year):
    name = year.doc["months"][0]["developers_file"]
    year.tables[name] = year.tables[name].replace("005,d1", "005,d2")


def develop_a_stranger(year):
    name = year.doc["months"][-1]["developers_file"]
    year.tables[name] += "999,d1\n"


def take_on_more(year):
    group = next(group for group in state_of(year, 0)["groups"] if not group["reason"])
    group["capacity"] += 5


def forget_an_approval(year):
    year.doc["months"][2]["exceptions"].pop()


def reopen_without_approval(year):
    year.doc["months"][5]["exceptions"] = []


def share_out_otherwise(year):
    groups = [group for group in state_of(year, 0)["groups"] if group["reason"] == "capacity"]
    groups[0]["capacity"] += 1
    groups[1]["capacity"] -= 1


def forget_a_workday(year):
    state_of(year, 1)["workdays"].remove("2026-11-11")


def stop_the_workdays_early(year):
    state_of(year, 0)["workdays"] = [day for day in state_of(year, 0)["workdays"] if day < "2026-06"]


def choose_the_day_of_the_number(year):
    attempt = year.doc["months"][0]["attempts"][0]
    day = "2026-01-06"
    attempt |= {"public_on": day, "public_at": f"{day}T15:40:00.000000+08:00", "link_at": f"{day}T15:50:00.000000+08:00"}


def take_a_number_of_another_form(year):
    attempt = year.doc["months"][0]["attempts"][0]
    attempt["public"] = "3001.1"
    year.doc["months"][0]["seed"] = digest(f"daily_risk|2026-01|{attempt['link']}|3001.1")


def enter_both_halves_alone(year):
    year.doc["months"][0]["attempts"][0]["link_by"] = " 运营乙 "


def enter_the_link_first(year):
    year.doc["months"][0]["attempts"][0]["link_at"] = "2026-01-04T10:00:00.000000+08:00"


def enter_before_the_commitment(year):
    year.doc["months"][0]["committed_at"] = "2026-01-05T15:45:00.000000+08:00"


def give_up_a_known_seed(year):
    attempt = year.doc["months"][1]["attempts"][0]
    attempt |= {"link": link(2), "link_by": "合规甲", "link_at": attempt["public_at"]}


def keep_a_longer_chain(year):
    year.doc["chain"]["links"] = 24


def draw_one_who_is_excluded_by_hand(year):
    year.doc["versions"][0]["excluded_by_hand"][0]["customer_id"] = "0001"


def exclude_more_than_were_named(year):
    year.doc["versions"][0]["excluded_by_hand"] = []


def excuse_a_marketer(year):
    group = next(group for group in state_of(year, -1)["groups"] if group["reason"] == "capacity")
    group["reason"] = "exhausted"


FORGERIES = [
    ("rate, random seeds", swap_a_customer, "sample rows"),
    ("rate, one stratum", change_a_status, "counts"),
    ("rate, random seeds", change_a_status, "counts"),
    ("rate, random seeds", undo_a_completion, "taken counts"),
    ("rate, random seeds", reopen_early, "coded"),
    ("rate, random seeds", call_one_outside, "coded counts"),
    ("rate, random seeds", forget_one_taken, "taken"),
    ("rate, random seeds", add_one_taken, "new"),
    ("rate, one stratum", take_one_before_the_year, "new"),
    ("rate, random seeds", skip_one_of_the_reserve, "new"),
    ("rate, random seeds", deal_a_place_more, "places sample rows"),
    ("rate, random seeds", deal_to_another_stratum, "places sample"),
    ("rate, random seeds", keep_a_larger_reserve, "places"),
    ("rate, random seeds", lower_a_goal, "quota"),
    ("rate, random seeds", lower_a_goal_in_the_state, "counts"),
    ("rate, random seeds", owe_less, "owed"),
    ("rate, random seeds", name_another_reason, "owed"),
    ("rate, random seeds", leave_out_a_group, "counts owed"),
    ("rate, random seeds", say_a_stratum_twice, "strata places"),
    ("rate, random seeds", leave_fewer, "strata"),
    ("rate, random seeds", move_a_place_of_the_year, "year"),
    ("rate, random seeds", join_no_segment, "joined"),
    ("rate, random seeds", lose_an_excluded_customer, "ledger"),
    ("rate, random seeds", add_a_customer_to_the_frame, "quota counts"),
    ("rate, random seeds", drop_a_customer_from_the_frame, "quota coded"),
    ("rate, random seeds", drop_the_first_month, "new"),
    ("rate, random seeds", drop_a_month, "new"),
    ("rate, random seeds", drop_the_last_month, "months rows"),
    ("rate, random seeds", change_months_round, "months"),
    ("rate, random seeds", change_the_rate, "quota counts"),
    ("rate, random seeds", name_another_programme, "version"),
    ("rate, one stratum", swap_two_ranks, "sample rows"),
    ("rate, one stratum", weigh_a_month_otherwise, "weights owed"),
    ("rate, chain", put_in_another_public_number, "seed"),
    ("rate, chain", put_in_another_link, "link seed"),
    ("rate, chain", put_in_another_link_and_its_seed, "link sample"),
    ("rate, chain", put_in_a_chosen_seed, "seed sample"),
    ("rate, chain", choose_a_seed_where_the_chain_holds, "random sample"),
    ("rate, chain", forget_the_abort, "link seed"),
    ("rate, chain", abort_without_a_reason, "link"),
    ("rate, chain", know_the_public_number_before, "public"),
    ("rate, chain", try_again_on_the_same_day, "public"),
    ("rate, chain", begin_another_chain, "link"),
    ("rate, chain", break_off_the_chain, "link"),
    ("rate, random seeds", take_on_more, "capacity"),
    ("rate, random seeds", forget_an_approval, "capacity"),
    ("rate, random seeds", reopen_without_approval, "coded"),
    ("rate, random seeds", draw_one_who_is_excluded_by_hand, "by_hand"),
    ("rate, random seeds", exclude_more_than_were_named, "by_hand"),
    ("workdays, one centre", share_out_otherwise, "capacity"),
    ("workdays, branches", take_on_more, "capacity"),
    ("workdays, branches", forget_a_workday, "weights"),
    ("workdays, branches", stop_the_workdays_early, "weights"),
    ("rate, chain", choose_the_day_of_the_number, "public"),
    ("rate, chain", take_a_number_of_another_form, "public"),
    ("rate, chain", enter_both_halves_alone, "entered"),
    ("rate, chain", enter_the_link_first, "entered"),
    ("rate, chain", enter_before_the_commitment, "public entered"),
    ("rate, chain", give_up_a_known_seed, "entered"),
    ("rate, chain", keep_a_longer_chain, "link"),
    ("coverage, random seeds", swap_two_ranks, "sample rows"),
    ("coverage, random seeds", swap_sample_and_reserve, "sample rows"),
    ("coverage, random seeds", swap_two_of_the_reserve, "sample rows"),
    ("coverage, random seeds", count_under_the_developer_of_today, "counts"),
    ("coverage, random seeds", give_a_customer_another_developer, "counts strata"),
    ("coverage, random seeds", develop_a_stranger, "developers"),
    ("coverage, random seeds", excuse_a_marketer, "owed"),
]


@pytest.mark.parametrize(("name", "forge", "expected"), FORGERIES, ids=[f"{f.__name__}-{n}" for n, f, _ in FORGERIES])
def test_a_forged_export_with_all_its_hashes_made_anew_is_caught(name, forge, expected, tmp_path, capsys):
    code, text = verdict(YEARS[name].changed(forge).write(tmp_path), capsys)
    assert code == 1, text
    wrong = wrong_lines(text)
    for line in expected.split():
        words = verifier.LINES[line][0].split("{n}")[-1] or verifier.LINES[line][0].split("{n}")[0]
        assert any(words in got for got in wrong), (line, text)


def test_an_attempt_given_up_is_told_with_who_why_and_its_number(tmp_path, capsys):
    folder = YEARS["rate, chain"].write(tmp_path)
    _, zh = verdict(folder, capsys)
    _, en = verdict(folder, capsys, "--lang", "en")
    assert "2026-02 第 1 次已作废：原公开数值 3002.11（2026-02-04）；合规甲 于 2026-02-04T16:00 作废，原因：断电" in zh
    assert "2026-02 attempt 1 given up: public number 3002.11 (2026-02-04); by 合规甲 at 2026-02-04T16:00; reason: 断电" in en


def test_an_approval_is_told_with_who_and_why(tmp_path, capsys):
    _, text = verdict(YEARS["rate, random seeds"].write(tmp_path), capsys)
    assert "01：合规甲 批准当期能力 9，理由：装修" in text
    assert "03 retail：合规甲 批准重启失败户，理由：装修" in text


def test_workdays_are_shown_for_comparison_once_and_for_each_month_that_has_others(tmp_path, capsys):
    year = YEARS["workdays, branches"]
    _, text = verdict(year.write(tmp_path), capsys)
    assert text.count("请对照国务院办公厅放假通知") == 1
    assert "2026-01 所用工作日" in text
    assert "周一至周五放假 05-01 10-01 10-02；周末上班 01-04" in text
    _, text = verdict(year.changed(forget_a_workday).write(tmp_path), capsys)
    assert text.count("请对照国务院办公厅放假通知") == 2
    assert "周一至周五放假 05-01 10-01 10-02 11-11；周末上班 01-04" in text


def test_a_month_sealed_before_workdays_were_is_verified_and_the_line_says_what_was_not(tmp_path, capsys):
    def age(year):
        for month in year.doc["months"]:
            del month["state"]["workdays"]

    code, text = verdict(YEARS["rate, chain"].changed(age).write(tmp_path), capsys)
    assert code == 0, text
    assert "2026-01 封存时未记工作日：权数与当期能力照所写，公开数值的日期只核对不早于封存" in text


def test_an_export_of_the_form_before_names_the_verifier_that_goes_with_it(tmp_path, capsys):
    folder = YEARS["rate, one stratum"].write(tmp_path)
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8")) | {"format": "huifang-proof-1"}
    (folder / "plan.json").write_text(canonical(plan) + "\n", encoding="utf-8")
    code, text = verdict(folder, capsys)
    assert code == 2
    assert "请用该文件夹内原有的 verify_sample.py 核验" in text


def test_what_cannot_be_read_to_its_end_is_not_verified_and_never_a_traceback(tmp_path):
    folder = YEARS["rate, one stratum"].write(tmp_path)
    (folder / "verify_sample.py").write_bytes(VERIFIER.read_bytes())
    frame = (folder / "frame.csv.gz").read_bytes()
    damages: list[Callable[[], Any]] = [
        lambda: (folder / "frame.csv.gz").write_bytes(packed(lines(FRAME, "002,7,7,,*", "001,7,7,,*"))),
        lambda: (folder / "frame.csv.gz").write_bytes(packed(lines("client,branch"))),
        lambda: (folder / "frame.csv.gz").write_bytes(frame[:40]),
        lambda: (folder / "plan.json").write_bytes(b"\xff\xfe"),
        lambda: (folder / "plan.json").unlink(),
    ]
    for damage in damages:
        damage()
        for lang, verdict_words in (("zh_CN", "结论：未能核验"), ("en", "Result: NOT VERIFIED")):
            words = [sys.executable, "-I", "-S", str(folder / "verify_sample.py"), "--lang", lang]
            done = subprocess.run(words, cwd="/", capture_output=True, text=True, check=False)
            assert (done.returncode, done.stderr) == (2, ""), done.stderr
            assert done.stdout.splitlines()[-1].startswith(verdict_words)
            assert "b'" not in done.stdout
            assert "Error" not in done.stdout


def test_its_help_is_in_both_languages(capsys):
    with pytest.raises(SystemExit):
        verifier.main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    for words in ("导出所在文件夹", "folder of the export", "未能核验 / NOT VERIFIED", "显示本说明 / show this text", "zh_CN"):
        assert words in text
    assert "positional arguments" not in text


def test_differing_rows_of_the_sample_are_named(tmp_path, capsys):
    year = YEARS["rate, one stratum"]
    folder = year.write(tmp_path)
    header, first, second, *rest = year.sample.splitlines()
    (folder / "sample.csv").write_text(lines(header, first.replace(",7,7,", ",8,7,"), *rest, "zzz,7,7,*,0,1,sample"), newline="\n")
    code, text = verdict(folder, capsys)
    assert code == 1
    changed = first.replace(",7,7,", ",8,7,")
    assert f"        {first[:3]} row: {changed} → {first}" in text
    assert "        zzz → –" in text
    assert f"        – → {second[:3]}" in text


def test_an_export_rewritten_from_end_to_end_is_caught_by_what_was_published(tmp_path, capsys):
    honest, forged = YEARS["rate, one stratum"].sealed(), plain_year(fresh=" until it pleases")
    folder = forged.write(tmp_path)
    code, text = verdict(folder, capsys)
    assert code == 0
    assert "整套导出若被人前后一致地改写，以上各项仍会相符" in text
    for value in (forged.sealed()["versions"][0]["frame_sha256"], forged.sealed()["months"][-1]["state_sha256"]):
        assert value in text
    published = honest["months"][-1]["state_sha256"]
    code, text = verdict(folder, capsys, "--state-sha256", published)
    assert code == 1
    assert len(wrong_lines(text)) == 1


def test_published_values_are_looked_for_by_their_kind(tmp_path, capsys):
    year = YEARS["rate, chain"]
    folder, sealed = year.write(tmp_path), year.sealed()
    frame, plan = sealed["versions"][0]["frame_sha256"], sealed["versions"][1]["plan_sha256"]
    states = [word for month in sealed["months"] for word in ("--state-sha256", month["state_sha256"])]
    code, text = verdict(
        folder, capsys, "--frame-sha256", frame.upper(), "--plan-sha256", plan, "--k0", link(0), *states
    )
    assert code == 0, text
    assert text.count("已比对") == 3 + len(sealed["months"])
    assert verdict(folder, capsys, "--frame-sha256", plan)[0] == 1
    assert verdict(folder, capsys, "--k0", link(1))[0] == 1
    assert verdict(YEARS["rate, one stratum"].write(tmp_path / "random"), capsys, "--k0", link(0))[0] == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda doc: doc["months"][1].update(state_sha256="0" * 64),
        lambda doc: doc["months"][1].update(state=doc["months"][1]["state"].replace(":", ": ", 1)),
        lambda doc: doc["versions"][0].update(plan_sha256="0" * 64),
        lambda doc: doc["versions"][0].update(frame_sha256="0" * 64),
        lambda doc: doc["versions"][0].update(plan=doc["versions"][0]["plan"] + " "),
        lambda doc: doc["months"][0].update(version=2),
        lambda doc: doc["months"][0].update(version=10**9),
        lambda doc: doc["months"][0].update(campaign="daily_risk-2025-01"),
        lambda doc: doc.update(year=2025),
        lambda doc: doc.update(campaign="daily_risk-2026-12-31"),
    ],
)
def test_names_and_hashes_within_plan_json_agree(change, tmp_path, capsys):
    year = YEARS["rate, chain"]
    folder, doc = year.write(tmp_path), year.sealed()
    del doc["sha256"]
    change(doc)
    doc["sha256"] = digest(canonical(doc))
    (folder / "plan.json").write_text(canonical(doc) + "\n", encoding="utf-8", newline="\n")
    assert verdict(folder, capsys)[0] in (1, 2)


# What cannot be read


@pytest.mark.parametrize("name", ["plan.json", "frame.csv.gz", "frame-2.csv.gz", "sample.csv"])
def test_a_missing_file_is_named(name, tmp_path, capsys):
    folder = YEARS["rate, chain"].write(tmp_path)
    (folder / name).unlink()
    code, text = verdict(folder, capsys)
    assert code == 2
    assert f"缺少文件：{name}" in text
    (folder / name).mkdir()
    assert verdict(folder, capsys)[0] == 2


BROKEN_PLANS = {
    "empty": b"", "null": b"null\n", "list": b"[]\n", "no JSON": b"{\n", "NaN": b'{"format":NaN}\n', "float": b'{"year":1.5}\n',
    "infinity": b'{"year":1e999}\n', "huge": b'{"year":' + b"9" * 100_000 + b"}\n", "deep": b"[" * 100_000, "bytes": b"\xff\xfe",
    "surrogate": b'{"format":"\\ud800"}\n', "strange": b'{"a\x1b[31m":1}\n',
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN_PLANS)
def test_a_plan_that_is_no_plan_is_told_in_words(name, tmp_path, capsys):
    folder = YEARS["rate, one stratum"].write(tmp_path)
    (folder / "plan.json").write_bytes(BROKEN_PLANS[name])
    code, text = verdict(folder, capsys)
    assert code == 2
    assert "导出不完整或读不了" in text
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (lines("customer_id,branch_no", "001,7"), "表头"),
        ("", "末行不完整"),
        (lines(FRAME, "002,7,7,,*", "001,7,7,,*"), "客户重复或未按编号排序"),
        (lines(FRAME, "001,7,7,,*", "001,7,7,,*"), "客户重复或未按编号排序"),
        (lines(FRAME, ",7,7,,*"), "客户重复或未按编号排序"),
        (lines(FRAME, "001,7,7,*"), "列数或引号不对"),
        (lines(FRAME, "001"), "列数或引号不对"),
        (lines(FRAME, '001,"7",7,,*'), "列数或引号不对"),
        (lines(FRAME, '001,"7,7,,*'), "不是 CSV"),
        (lines(FRAME, '"001,7,7,,*'), "不是 CSV"),
        (lines(FRAME, "001,7,7,,*")[:-1], "末行不完整"),
        (lines(FRAME, "001," + "7" * 70_000), "列数或引号不对"),
        (lines(FRAME, *(f"{n:03},7,7,,*" for n in range(90))), "行数多于 base"),
    ],
)
def test_a_frame_that_is_no_frame_is_told_in_words(text, words, tmp_path, capsys):
    year = YEARS["rate, one stratum"].changed(lambda year: year.tables.update({"frame.csv.gz": text}))
    code, printed = verdict(year.write(tmp_path), capsys)
    assert code == 2
    assert words in printed
    assert "frame.csv.gz" in printed


def test_bytes_that_are_no_utf_8_are_told_in_words(tmp_path, capsys):
    folder = YEARS["rate, one stratum"].write(tmp_path)
    target = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=target, mtime=0) as file:
        file.write(FRAME.encode() + b"\n\xff\xfe,7,7,,*\n")
    (folder / "frame.csv.gz").write_bytes(target.getvalue())
    code, text = verdict(folder, capsys)
    assert code == 2
    assert "文件已损坏：frame.csv.gz" in text


def test_a_file_that_unpacks_to_a_thousand_times_its_size_is_read_in_pieces(tmp_path, capsys):
    folder = YEARS["rate, one stratum"].write(tmp_path)
    (folder / "frame.csv.gz").write_bytes(packed(f"{FRAME}\n" + "0" * 50_000_000))
    code, text = verdict(folder, capsys)
    assert code == 2
    assert "过长" in text


STRANGE = [None, True, -1, 10**14, 10**30, 1.5, "", "x", "2026-13", "é\u0000", [], {}, [[]], {"": 1}, ["a", "b"]]


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(deeper for key, item in items for deeper in paths(item, (*path, key)))]


def put(value: Any, path: tuple[Any, ...], item: Any) -> None:
    *way, last = path
    for key in way:
        value = value[key]
    value[last] = item


def check_strange_values(year: Year, count: int, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = year.write(folder)
    chance = random.Random(5)
    places = [path for path in paths(year.doc) if path and not {"source", "public", "capacity", "branch_no"} & {path[-1], *path[4:6]}]
    for path in places if count > len(places) else chance.sample(places, count):
        for item in STRANGE if count > len(places) else chance.sample(STRANGE, 3):
            changed = copy.deepcopy(year)
            put(changed.doc, path, item)
            if changed.doc == year.doc:
                continue
            try:
                content = canonical(changed.sealed())
            except (TypeError, KeyError, AttributeError, IndexError):
                content = canonical(changed.doc)
            (folder / "plan.json").write_bytes((content + "\n").encode())
            code, text = verdict(folder, capsys)
            assert code in (0, 1, 2)
            assert code or path[-1] in HARMLESS or "plan" in path or path[3:5] == ("groups", 3), (path, item, text)


HARMLESS = {
    "as_of", "calendar_version", "aborted", "reason", "approver", "calls", "public_by", "link_by", "aborted_by", "public_at",
    "link_at", "aborted_at", "committed_at", "customer_id", "excluded_by_hand",
}  # fmt: skip
"""What may be another value without the draw being another; the hashes of states and plans were published."""


@pytest.mark.parametrize("name", ["rate, chain", "coverage, chain", "rate, one stratum"])
def test_a_strange_value_anywhere_is_told_in_words(name, tmp_path, capsys):
    check_strange_values(YEARS[name], 120, tmp_path, capsys)


@pytest.mark.long
@pytest.mark.parametrize("name", ["coverage, chain", "rate, one stratum"])
def test_every_strange_value_everywhere_is_told_in_words(name, tmp_path, capsys):
    check_strange_values(YEARS[name], 10**6 if EVERYTHING else 400, tmp_path, capsys)


# Rows, pieces, rules


def test_rows_are_read_across_pieces_and_quotes(tmp_path):
    rows = [f"{n:07},0{n % 7},0{n % 7},零售,零售" for n in range(60_000)] + ['"a,""b""","x,y","x,y",,*']
    (tmp_path / "frame.csv.gz").write_bytes(packed(lines(FRAME, *rows)))
    table = verifier.Table(str(tmp_path), "frame.csv.gz", FRAME)
    read = list(table.read_rows())
    assert [b",".join(row).decode() for row in read[:-1]] == rows[:-1]
    assert read[-1] == (b'a,"b"', b'"x,y","x,y",,*')
    assert (table.odd, table.is_packed_alike, table.sha256) == ([], True, digest(lines(FRAME, *rows)))


def test_the_examples_of_the_page_come_out():
    ceiling, deal = verifier.ceil, verifier.deal_places
    assert (ceiling(Fraction("0.10") * 101), ceiling(Fraction("0.07") * 100)) == (11, 7)
    assert verifier.join_segments({"A": 120, "B": 60, "C": 7}, Fraction("0.10"), 2) == {"A": 120, "*": 67}
    year = {"a": 53, "b": 24, "c": 23}
    nothing = dict.fromkeys(year, 0)
    assert list(deal(year, nothing, year, 10, 0, {}).values()) == [6, 2, 2]
    assert list(deal(year, nothing, year, 10, 3, {}).values()) == [4, 3, 3]
    sizes, state = {"a": 60, "b": 30, "c": 10}, {"a": 0, "b": 0, "c": 0}
    for total, expected in ((1, [1, 0, 0]), (3, [1, 1, 1]), (6, [3, 2, 1]), (10, [6, 3, 1])):
        dealt = deal(sizes, state, sizes, total - sum(state.values()), 1, {})
        state = {key: state[key] + dealt[key] for key in state}
        assert list(state.values()) == expected
    assert deal({"A": 60, "B": 30, "C": 5}, {"A": 1, "B": 2, "C": 0}, {"A": 59, "B": 28, "C": 0}, 4, 1, {}) == {"A": 4, "B": 0, "C": 0}


SIZES = st.dictionaries(st.sampled_from("abcdefgh*"), st.integers(1, 60), min_size=1, max_size=6)


@settings(max_examples=150, deadline=None)
@given(sizes=SIZES, rate=st.sampled_from(["0.05", "0.1", "0.3", "1"]), minimum=st.integers(0, 4), data=st.data())
def test_the_product_and_the_verifier_come_to_the_same_arithmetic(sizes, rate, minimum, data):
    segments = {key: size for key, size in sizes.items() if key != "*"} or {"a": 5}
    joined = verifier.join_segments(segments, Fraction(rate), minimum)
    assert dict(sampling.collapse(segments, rate, minimum)) == joined
    assert sum(joined.values()) == sum(segments.values())
    total = data.draw(st.integers(sum(min(minimum, size) for size in sizes.values()), sum(sizes.values())))
    nothing = dict.fromkeys(sizes, 0)
    assert dict(sampling.allocate(sizes, total, minimum)) == verifier.deal_places(sizes, nothing, sizes, total, minimum, {})
    state = {key: data.draw(st.integers(0, size)) for key, size in sizes.items()}
    left = {key: data.draw(st.integers(0, sizes[key] - state[key])) for key in sizes}
    count = data.draw(st.integers(0, sum(left.values())))
    expected = verifier.deal_places(sizes, state, left, count, minimum, {})
    assert dict(sampling.extend(sizes, state, left, count, minimum)) == expected
    assert month_places(sizes, state, left, count, minimum, {}) == expected


def test_the_product_and_the_verifier_come_to_the_same_tickets_and_seeds():
    assert sampling.ticket("s", "0001") == digest("s:0001")
    assert sampling.month_seed("daily_risk", "2026-01#2", link(1), "3250.41") == digest(f"daily_risk|2026-01#2|{link(1)}|3250.41")


@pytest.mark.parametrize("path", sorted((PROJECT / "programmes").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_text_of_each_programme_file_is_understood(path):
    programme = Programme.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    row = {"version": 1, "plan": programme.plan(), "plan_sha256": programme.plan_sha256()}
    report = verifier.Report("zh")
    version = verifier.read_version(report, {"programme": programme.programme, "versions": [row]}, 1)
    assert report.wrong == 0
    assert version.is_coverage == (programme.goal.kind == "coverage")
    assert version.reserve == Fraction(programme.reserve)
    assert version.origin == ("random" if programme.seed == "random" else "chain")
