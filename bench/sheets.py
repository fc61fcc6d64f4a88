"""Lists for many branches: written, locked and mailed, beside XlsxWriter alone making the same calls.

`bare` makes exactly the calls to XlsxWriter that the product made for the same sheet, recorded once and played back: it
writes the same cells, formats, dropdowns and hints, and computes nothing. All steps run turn by turn in one process;
mails go to the embedded server on loopback.
"""

from __future__ import annotations

import io
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd
import xlsxwriter

from bench.figures import Figures, verdict
from bench.measure import ContestantError, describe_machine
from models.row_code import RowKey, row_code
from models.sheets import Addressee, write_sheet, written
from tasks.lock import Order, lock_workbook, locksmiths
from tasks.mail import Attachment, Letter, compose, open_post
from tasks.postoffice import post_office
from tasks.settings import Settings, code_version

STEPS = ("build", "bare", "lock", "send")
PASSWORD = "ABCD-EFGH-JKMN-PQRS-TUVW"
OURS = "huifang@hq.example"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
SURNAMES, GIVEN = "赵钱孙李周吴郑王冯陈", "伟芳娜敏静丽强磊军洋"


def run_sheets(
    *, branches: int, rows: int, repeats: int, data: Path, command: str, say: Callable[[str], None], **_: Any
) -> dict[str, Any]:
    """Seconds of every step, per sheet on one core and for all branches on every core."""
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    began, machine = datetime.now(UTC), describe_machine()
    orders = [order_of(branch, rows) for branch in range(1, min(branches, 25) + 1)]
    first = write_sheet(orders[0].kind, orders[0].rows, **orders[0].words)
    recorded = [record_calls(order) for order in orders]
    if recorded[0].play() != first:
        raise ContestantError("bare: the calls played back write another workbook")
    rounds: dict[str, list[tuple[float, float]]] = {step: [] for step in STEPS}
    with tempfile.TemporaryDirectory(dir=data) as folder:
        settings = Settings(home=Path(folder))
        with post_office(settings.maildir, OURS) as url, open_post(settings, url) as post:
            for turn in range(repeats):
                say(f"round {turn + 1} of {repeats}")
                _, bare = timed(Calls.play, recorded)
                clear, built = timed(build, orders)
                locked, lock = timed(lock_one, clear)
                _, sent = timed(post_one, [(post, turn, place, book) for place, book in enumerate(locked)])
                for step, spent in zip(STEPS, (built, bare, lock, sent), strict=True):
                    rounds[step].append(spent)
    per_sheet = {
        step: [{"wall_seconds": wall / len(orders), "cpu_seconds": cpu / len(orders)} for wall, cpu in found]
        for step, found in rounds.items()
    }
    say(f"{branches} sheets written and locked on every core")
    began_all = time.perf_counter()
    with locksmiths(branches) as smiths:
        made = sum(1 for _ in smiths.locked(order_of(branch, rows) for branch in range(1, branches + 1)))
    if made != branches:
        raise ContestantError(f"{made} of {branches} sheets were made")
    return {
        "benchmark": "sheets", "began": began.isoformat(), "command": command, "code_version": code_version(),
        "repeats": repeats, "machine": machine, "branches": branches, "rows": rows, "bytes": len(first),
        "rounds": per_sheet, "all_seconds": time.perf_counter() - began_all,
    }  # fmt: skip


def tables(run: dict[str, Any]) -> list[Figures]:
    """Milliseconds per sheet and core, and the goals."""

    def median(step: str, what: str) -> float:
        return statistics.median(found[what] for found in run["rounds"][step])

    lines = [
        (step, f"{median(step, 'wall_seconds') * 1000:.1f}", f"{median(step, 'cpu_seconds') * 1000:.1f}")
        for step in run["rounds"]
    ]
    counts, goals = run["branches"] >= 500 and run["rows"] >= 170, []
    for what, label in (("wall_seconds", "wall"), ("cpu_seconds", "CPU")):
        built = median("build", what) / median("bare", what)
        locked = median("lock", what) / (median("build", what) + median("send", what))
        goals.append((f"build ÷ bare, {label} ≤ 1.3", f"{built:.2f}", verdict(built <= 1.3, counts)))
        goals.append((f"lock ÷ (build + send), {label} ≤ 1", f"{locked:.2f}", verdict(locked <= 1, counts)))
    one_core = (median("build", "wall_seconds") + median("lock", "wall_seconds")) * run["branches"]
    goals.append(("all sheets written and locked, every core, start included", f"{run['all_seconds']:.1f} s", ""))
    goals.append(("the same on one core", f"{one_core:.1f} s", ""))
    title = f"{run['branches']} branches × {run['rows']} rows, {run['bytes']:,} bytes each"
    return [
        Figures(title, ("step", "wall ms per sheet", "CPU ms per sheet"), lines),
        Figures("ratios of medians, goals", ("what", "found", "goal"), goals),
    ]


def order_of(branch: int, rows: int) -> Order:
    """The callback list of one synthetic branch."""
    key, first = RowKey(1, b"a secret for the benchmark"), branch * 100_000
    frame = pd.DataFrame(
        {
            "row_code": [row_code("assignment", first + n, key) for n in range(rows)],
            "customer_name": [f"{SURNAMES[(branch + n) % 10]}*" for n in range(rows)],
            "phone": [f"138{(branch * 7919 + n * 104729) % 10**8:08d}" for n in range(rows)],
            "form": ["conduct" if n % 3 else "risk_warning" for n in range(rows)],
            "developer": [f"{SURNAMES[n % 10]}{GIVEN[(n * 3 + branch) % 10]}" if n % 3 else "" for n in range(rows)],
            "due_on": [date(2026, 3, 20)] * rows,
            "call_on": [date(2026, 3, 2 + n % 18) for n in range(rows)],
            "planned_caller": [f"{SURNAMES[n % 10]}{GIVEN[n % 7]}({branch:04d}{n % 10:02d})" for n in range(rows)],
        }
    )
    words = {
        "campaign": "daily_risk-2026-03", "title": "日常合规风险提示回访", "branch_no": f"{branch:04d}",
        "branch_name": f"第{branch}证券营业部", "language": "zh_CN", "issued_on": date(2026, 3, 2),
        "addressee": Addressee("operations_director", f"daily_risk-2026-03/{branch:04d}-1"),
    }  # fmt: skip
    return Order("callback", frame, PASSWORD, words)


def build(order: Order) -> bytes:
    return write_sheet(order.kind, order.rows, **order.words)


def lock_one(book: bytes) -> bytes:
    return lock_workbook(book, PASSWORD)


def post_one(what: tuple[Any, int, int, bytes]) -> None:
    post, turn, place, book = what
    letter = Letter(
        f"director.{place:04d}@branch.example", "回访任务", "<p>名单见附件。</p>", "名单见附件。",
        (Attachment("回访登记表.xlsx", book, XLSX),), f"<b{turn}.{place}@hq.example>", datetime.now(UTC),
    )  # fmt: skip
    delivery = post.send(compose(letter, from_address=OURS, from_name="客服中心"), OURS, letter.to_address)
    if delivery.outcome != "sent":
        raise ContestantError(f"a mail was not sent: {delivery.detail}")


def timed(work: Callable[[Any], Any], each: Sequence[Any]) -> tuple[list[Any], tuple[float, float]]:
    """What came of each, and the seconds that all took: by the clock, and of CPU."""
    began, began_cpu = time.perf_counter(), time.process_time()
    found = [work(one) for one in each]
    return found, (time.perf_counter() - began, time.process_time() - began_cpu)


# ---- XlsxWriter alone --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reference:
    """What an earlier call gave, by its number; 0 is the workbook."""

    number: int


class Recorder:
    """Stands for a workbook, a worksheet or a format, and writes down what is asked of it."""

    def __init__(self, real: Any, number: int, calls: Calls) -> None:
        self._real, self._number, self._calls = real, number, calls

    def __getattr__(self, name: str) -> Any:
        def call(*words: Any, **named: Any) -> Any:
            return self._calls.note(self._number, self._real, name, words, named)

        return call


class Calls:
    """The calls one sheet makes to XlsxWriter, in order."""

    def __init__(self) -> None:
        self.options: dict[str, Any] = {}
        self._noted: list[tuple[int, str, tuple[Any, ...], dict[str, Any]]] = []

    def note(self, number: int, real: Any, name: str, words: tuple[Any, ...], named: dict[str, Any]) -> Any:
        self._noted.append((number, name, *self._each((words, named), lambda one: Reference(one._number), Recorder)))
        given = getattr(real, name)(*self._each(words, lambda one: one._real, Recorder),
                                    **self._each(named, lambda one: one._real, Recorder))  # fmt: skip
        return Recorder(given, len(self._noted), self) if name in ("add_worksheet", "add_format") else given

    def play(self) -> bytes:
        """The same workbook, by XlsxWriter alone."""
        file = io.BytesIO()
        things: dict[int, Any] = {0: xlsxwriter.Workbook(file, self.options)}
        for number, (of, name, words, named) in enumerate(self._noted, start=1):
            if name in ("write_string", "write_blank", "write_datetime", "write_formula"):
                # Most calls are these: nothing in them but the last words may be a format.
                words = tuple(things[one.number] if type(one) is Reference else one for one in words)
            else:
                words, named = self._each((words, named), lambda one: things[one.number], Reference)
            given = getattr(things[of], name)(*words, **named)
            if name in ("add_worksheet", "add_format"):
                things[number] = given
        return file.getvalue()

    def _each(self, value: Any, change: Callable[[Any], Any], kind: type) -> Any:
        if isinstance(value, kind):
            return change(value)
        if isinstance(value, (tuple, list)):
            return type(value)(self._each(one, change, kind) for one in value)
        if isinstance(value, dict):
            return {key: self._each(one, change, kind) for key, one in value.items()}
        return value


def record_calls(order: Order) -> Calls:
    """What the product asks of XlsxWriter for a sheet."""
    calls = Calls()
    real = xlsxwriter.Workbook

    def workbook(file: Any, options: dict[str, Any]) -> Recorder:
        calls.options = dict(options)
        return Recorder(real(file, options), 0, calls)

    with mock.patch.object(written.xlsxwriter, "Workbook", workbook):
        build(order)
    return calls
