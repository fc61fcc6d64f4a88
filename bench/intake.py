"""Intake and activity of one brokerage's extracts: huifang, DuckDB's bare scan, and plain pandas, turn by turn.

Every contestant is a process of its own with an empty folder to write to; all that give a result must give the same.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.measure import PYTHON, ContestantError, describe_machine, run_measured, warm
from tasks.server import prefect_server
from tasks.settings import PROJECT, code_version

SIZES = {"S": (200_000, 2_000_000), "M": (2_000_000, 20_000_000), "L": (10_000_000, 100_000_000)}
BRANCHES = 500
CONTESTANTS = ("huifang", "scan", "pandas", "pandas_whole", "pull")
"""pandas reads by chunks, pandas_whole a whole CSV at once on all cores; pull is the command with its Prefect client."""
LARGEST_OF_PANDAS = 50_000_000


def run_intake(
    *, sizes: Sequence[str], formats: Sequence[str], contestants: Sequence[str], repeats: int, data: Path,
    command: str, say: Callable[[str], None],
) -> dict[str, Any]:  # fmt: skip
    """All rounds of all cases; raises ContestantError when one fails or comes to another result."""
    if strange := [name for name in contestants if name not in CONTESTANTS]:
        raise ContestantError(f"no contestant {', '.join(strange)}; there are {', '.join(CONTESTANTS)}")
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    began, machine, cases = datetime.now(UTC), describe_machine(), []
    with ExitStack() as stack:
        api_url = ""
        if "pull" in contestants:
            say("Prefect server: starting, apart from what is measured")
            home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="prefect-", dir=data)))
            api_url = stack.enter_context(prefect_server(home, environ=os.environ, log=home / "server.log"))
        for size in sizes:
            customers, transactions = _numbers(size)
            for form in formats:
                if size == "L" and form == "csv":
                    continue
                inbox = make_extracts(data, customers, transactions, form, say)
                turn = [name for name in contestants if _takes_part(name, form, transactions)]
                cases.append(_run_case(size, form, inbox, turn, repeats, data, api_url, say))
    return {
        "benchmark": "intake", "command": command, "began": began.isoformat(timespec="seconds"),
        "code_version": code_version(), "machine": machine, "repeats": repeats, "cases": cases,
    }  # fmt: skip


def _numbers(size: str) -> tuple[int, int]:
    if size in SIZES:
        return SIZES[size]
    if found := re.fullmatch(r"([0-9]+)[+]([0-9]+)", size):
        return int(found[1]), int(found[2])
    raise ContestantError(f"--sizes {size}: give some of {', '.join(SIZES)}, or CUSTOMERS+TRANSACTIONS")


def _takes_part(name: str, form: str, transactions: int) -> bool:
    if name == "pandas_whole":
        return form == "csv" and transactions <= LARGEST_OF_PANDAS
    return name != "pandas" or transactions <= LARGEST_OF_PANDAS


def make_extracts(data: Path, customers: int, transactions: int, form: str, say: Callable[[str], None]) -> Path:
    """The extracts of a size, written once and kept."""
    inbox = data / f"extracts-{customers}-{transactions}-{form}"
    if not inbox.is_dir():
        say(f"{inbox.name}: generating")
        made = data / f"{inbox.name}.part"
        shutil.rmtree(made, ignore_errors=True)
        subprocess.run(
            [PYTHON, "-m", "cli", "demo", "--customers", str(customers), "--branches", str(min(BRANCHES, customers // 10)),
             "--transactions", str(transactions), "--extracts", str(made), "--format", form],
            cwd=PROJECT, check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        made.rename(inbox)
    return inbox


def _run_case(
    size: str, form: str, inbox: Path, turn: Sequence[str], repeats: int, data: Path, api_url: str,
    say: Callable[[str], None],
) -> dict[str, Any]:  # fmt: skip
    files = sorted(path for path in inbox.iterdir() if path.is_file())
    warm(files)
    rounds: dict[str, list[dict[str, Any]]] = defaultdict(list)
    agreed: dict[str, Any] | None = None
    for number in range(repeats):
        for name in turn:
            with _fresh_folder(data) as folder:
                cost, result = _run_one(name, inbox, folder, api_url)
            say(f"{size} {form} {number + 1}/{repeats} {name}: {cost['wall_seconds']:.2f} s, {cost['peak_mb']:.0f} MB")
            rounds[name].append(cost)
            if "tables" in result:
                if agreed is None:
                    agreed = result["tables"]
                _require_equal(name, result["tables"], agreed)
    return {
        "size": size, "format": form, "bytes": sum(path.stat().st_size for path in files),
        "tables": agreed, "rounds": dict(rounds),
    }  # fmt: skip


@contextmanager
def _fresh_folder(data: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="run-", dir=data) as folder:
        yield Path(folder)


def _run_one(name: str, inbox: Path, folder: Path, api_url: str) -> tuple[dict[str, Any], dict[str, Any]]:
    result, home, log = folder / "result.json", folder / "home", folder / "said.log"
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("HUIFANG_", "PREFECT_"))}
    environ |= {"HUIFANG_HOME": str(home)}
    exits = (0,)
    if name == "huifang":
        words = [PYTHON, "-m", "bench.run_huifang", str(inbox), str(result)]
    elif name == "scan":
        words = [PYTHON, "-m", "bench.run_scan", str(inbox), str(result)]
    elif name == "pull":
        environ |= {"PREFECT_API_URL": api_url}
        words = [PYTHON, "-m", "cli", "run", "pull", "--profile", str(PROJECT / "profiles" / "canonical.yaml"),
                 "--inbox", str(inbox), "--as-of", "2025-12-31"]  # fmt: skip
        exits = (0, 1)  # 1 says that rows were rejected
    else:
        reader = "whole" if name == "pandas_whole" else "chunks"
        words = [PYTHON, str(PROJECT / "bench" / "pandas_intake.py"), str(inbox), str(folder / "out"),
                 "--result", str(result), "--reader", reader]  # fmt: skip
    cost = run_measured(words, environ=environ, cwd=PROJECT, log=log, exits=exits)
    if name == "pull":
        if not any((home / "lake").glob("transactions/*/*/activity.parquet")):
            said = log.read_text(encoding="utf-8", errors="replace")[-3000:]
            raise ContestantError(f"pull left no activity:\n{said}")
        return asdict(cost), {}
    found = json.loads(result.read_text(encoding="utf-8"))
    measured = {key: found[key] for key in ("inner_seconds", "import_seconds", "steps") if key in found}
    return asdict(cost) | measured, found


def _require_equal(name: str, found: dict[str, Any], agreed: dict[str, Any]) -> None:
    for table, counts in agreed.items():
        for what, value in counts.items():
            if found[table][what] != value:
                raise ContestantError(
                    f"{name} comes to another result than the first contestant: {table}.{what} is {found[table][what]}, not {value}"
                )
