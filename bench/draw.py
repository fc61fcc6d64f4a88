"""A month's frame and draw: huifang beside pandas, samplics and R, turn by turn; and where each of them fails.

Every contestant is a process of its own and is given the same places per stratum. What huifang draws must be what
hashlib comes to, customer by customer; the others must draw as many from each stratum.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv
import pyarrow.parquet as pq

from bench.check_draw import count, read_sample, sha256
from bench.cluster import spark_here
from bench.measure import PYTHON, ContestantError, NotFinishedError, describe_machine, run_measured, warm
from bench.population import write_customers
from tasks.settings import PROJECT, code_version

SIZES = {"S": 100_000, "M": 1_000_000, "L": 10_000_000}
CONTESTANTS = (
    "huifang", "bare", "pandas", "pandas_categories", "samplics", "samplics_sys", "r_sampling", "r_sps",
)  # fmt: skip
"""bare writes and hashes no frame; pandas_categories reads codes as codes; samplics_sys selects systematically."""
IN_LATER_MONTH = ("huifang", "pandas", "pandas_categories")
LARGEST_OF_PACKAGES = 1_000_000
LARGEST_OF_PROBES = 100_000
SEED = "5eed" * 16
ENVIRONMENTS = {
    "samplics": ("samplics==0.6.1", "pyarrow"),
    "pandas-1.5": ("pandas==1.5.3", "numpy<2", "pyarrow<19"),
}
"""Beside the extracts, made once: samplics wants versions of its own, and pandas is asked how it drew years ago."""


@dataclass(frozen=True)
class Peers:
    """What is installed of others, and why the rest is not."""

    pythons: dict[str, str]
    r_libraries: str
    versions: dict[str, str]
    skipped: dict[str, str] = field(default_factory=dict)


def run_draw(
    *, sizes: Sequence[str], contestants: Sequence[str], repeats: int, data: Path, cap_seconds: float,
    engine_memory: str, with_probes: bool, command: str, say: Callable[[str], None],
) -> dict[str, Any]:  # fmt: skip
    """All rounds of all cases; raises ContestantError when one fails or comes to another result."""
    if strange := [name for name in contestants if name not in CONTESTANTS]:
        raise ContestantError(f"no contestant {', '.join(strange)}; there are {', '.join(CONTESTANTS)}")
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    peers = find_peers(data, contestants, with_probes, say)
    turn = [name for name in contestants if name not in peers.skipped]
    began, machine = datetime.now(UTC), describe_machine()
    cases, checks, probes = [], [], []
    for size in sorted(sizes, key=number_of):
        customers = number_of(size)
        file = make_customers(data, customers, say)
        with fresh_folder(data) as prepared:
            run = Contest(file, prepared, data, peers, cap_seconds, engine_memory)
            known = run.prepare(say)
            warm([file, prepared / "frame.parquet", prepared / "taken.parquet"])
            packages = customers <= LARGEST_OF_PACKAGES
            for month in ("first", "later"):
                names = [n for n in turn if packages or not n.startswith(("samplics", "r_"))]
                names = [n for n in names if month == "first" or n in IN_LATER_MONTH]
                cases.append(run.compete(size, month, names, repeats, say) | known)
            checks.append(f"{customers:,} customers: huifang's samples of both months are those of hashlib, row by row")
            if with_probes and not probes and customers <= LARGEST_OF_PROBES:
                checks.append(run.check_spark(say))
                probes = run.probe(turn, say)
    return {
        "benchmark": "draw", "command": command, "began": began.isoformat(timespec="seconds"),
        "code_version": code_version(), "machine": machine | peers.versions, "repeats": repeats, "cases": cases,
        "skipped": peers.skipped, "checks": checks, "probes": probes,
    }  # fmt: skip


def number_of(size: str) -> int:
    if size in SIZES:
        return SIZES[size]
    if size.isdecimal() and int(size) >= 1000:
        return int(size)
    raise ContestantError(f"--sizes {size}: give some of {', '.join(SIZES)}, or a number of customers from 1000 on")


def make_customers(data: Path, customers: int, say: Callable[[str], None]) -> Path:
    """The base of a size, written once and kept."""
    file = data / f"customers-{customers}.parquet"
    if not file.is_file():
        say(f"{file.name}: generating")
        write_customers(file, customers)
    return file


@contextmanager
def fresh_folder(data: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="run-", dir=data) as folder:
        yield Path(folder)


# ---- others -------------------------------------------------------------------------------------------------


def find_peers(data: Path, contestants: Sequence[str], with_probes: bool, say: Callable[[str], None]) -> Peers:
    """Environments and packages of the contestants; each that is missing is named with its reason."""
    peers = Peers({}, os.pathsep.join(filter(None, [str(data / "r-lib"), os.environ.get("R_LIBS", "")])), {})
    wanted = {"samplics"} if any(name.startswith("samplics") for name in contestants) else set()
    wanted |= {"pandas-1.5"} if with_probes and any(name.startswith("pandas") for name in contestants) else set()
    for name in sorted(wanted):
        try:
            peers.pythons[name] = make_environment(data / f"env-{name}", ENVIRONMENTS[name], say)
        except subprocess.CalledProcessError as error:
            reason = f"pip install {' '.join(ENVIRONMENTS[name])} failed: {error.stderr.strip().splitlines()[-1]}"
            peers.skipped.update(dict.fromkeys((name, f"{name}_sys") if name == "samplics" else (name,), reason))
    if "samplics" in peers.pythons:
        peers.versions["samplics"] = ENVIRONMENTS["samplics"][0].partition("==")[2]
    for contestant, package, hint in (
        ("r_sampling", "sampling", "apt-get install r-base-core r-cran-sampling"),
        ("r_sps", "sps", "Debian does not package it; install.packages('sps') where CRAN can be reached"),
    ):
        if contestant in contestants:
            found = find_r_package(package, peers.r_libraries)
            if found is None:
                peers.skipped[contestant] = f"R's package {package} is not installed ({hint})"
            else:
                peers.versions.update(zip(("R", f"R {package}"), found, strict=True))
    for name, reason in peers.skipped.items():
        say(f"SKIPPED {name}: {reason}")
    return peers


def make_environment(folder: Path, requirements: Sequence[str], say: Callable[[str], None]) -> str:
    """The Python of a virtual environment with these packages, made where it is missing."""
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        say(f"{folder.name}: installing {' '.join(requirements)}")
        shutil.rmtree(folder, ignore_errors=True)
        for words in ([PYTHON, "-m", "venv", str(folder)],
                      [str(python), "-m", "pip", "install", "-q", *requirements]):  # fmt: skip
            subprocess.run(words, check=True, capture_output=True, text=True)
        (folder / "ready").touch()
    return str(python)


def find_r_package(package: str, libraries: str) -> tuple[str, str] | None:
    """The versions of R and of a package of its, where both are there."""
    if shutil.which("Rscript") is None:
        return None
    asked = f'cat(format(getRversion()), format(packageVersion("{package}")))'
    done = subprocess.run(
        ["Rscript", "-e", asked], env={**os.environ, "R_LIBS": libraries}, capture_output=True, text=True
    )
    if done.returncode:
        return None
    r, version = done.stdout.split()
    return r, version


# ---- one size -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Contest:
    """The contestants on one base, which lies in `customers`, with what all are given in `prepared`."""

    customers: Path
    prepared: Path
    data: Path
    peers: Peers
    cap_seconds: float
    engine_memory: str

    def prepare(self, say: Callable[[str], None]) -> dict[str, Any]:
        """Writes places and taken customers, and what hashlib draws from them; counts of the base."""
        say(f"{self.customers.name}: preparing places, and what hashlib draws")
        with fresh_folder(self.data) as folder:
            result = self.prepared / "prepared.json"
            given = [str(self.customers), str(self.prepared), SEED]
            for words in (["bench.run_draw", "prepare", *given, str(result)], ["bench.check_draw", *given]):
                run_measured(
                    [PYTHON, "-m", *words], environ=self._environ(folder), cwd=PROJECT, log=folder / "said.log"
                )
        self._write_eligible(self.prepared)
        found = json.loads(result.read_text(encoding="utf-8"))
        return {name: found[name] for name in ("customers", "eligible")}

    def _write_eligible(self, prepared: Path) -> None:
        """The frame as text, for R."""
        if any(name.startswith("R ") for name in self.peers.versions):
            with pq.ParquetFile(prepared / "frame.parquet") as frame:
                if frame.metadata.num_rows <= LARGEST_OF_PACKAGES:
                    rows = frame.read(columns=["customer_id", "group_key", "stratum"])
                    pcsv.write_csv(rows, prepared / "eligible.csv", pcsv.WriteOptions(quoting_style="none"))

    def _environ(self, folder: Path, engine: str = "duckdb") -> dict[str, str]:
        environ = {key: value for key, value in os.environ.items() if not key.startswith(("HUIFANG_", "PREFECT_"))}
        environ |= {"HUIFANG_HOME": str(folder / "home"), "HUIFANG_ENGINE": engine}
        return environ | ({"HUIFANG_ENGINE_MEMORY": self.engine_memory} if self.engine_memory else {})

    def _words(self, name: str, month: str, result: Path) -> list[str]:
        bench, prepared = PROJECT / "bench", str(self.prepared)
        if name in ("huifang", "bare"):
            month = "bare" if name == "bare" else month
            return [PYTHON, "-m", "bench.run_draw", month, str(self.customers), prepared, SEED, str(result)]
        if name.startswith("pandas"):
            python = self.peers.pythons["pandas-1.5"] if name.endswith("-1.5") else PYTHON
            types = "categories" if "categories" in name else "text"
            return [python, str(bench / "pandas_draw.py"), str(self.customers), prepared, str(result),
                    "--month", month, "--seed", SEED, "--types", types]  # fmt: skip
        if name.startswith("samplics"):
            method = "pps_sys" if name == "samplics_sys" else "srs_wor"
            return [self.peers.pythons["samplics"], str(bench / "samplics_draw.py"), prepared, str(result),
                    "--seed", SEED, "--method", method]  # fmt: skip
        package, _, kind = name.removeprefix("r_").partition("-")
        return ["Rscript", str(bench / "r_draw.R"), f"{prepared}/eligible.csv", f"{prepared}/places-first.csv",
                str(result.with_suffix(".csv")), package, SEED, *filter(None, [kind])]  # fmt: skip

    def draw(
        self, name: str, month: str, folder: Path, engine: str = "duckdb"
    ) -> tuple[dict[str, Any], list[tuple[str, ...]]]:
        """What one run of a contestant cost, and its sample."""
        result = folder / f"{name}.json"
        capped = None if name in ("huifang", "bare") else self.cap_seconds
        environ = self._environ(folder, engine) | {"R_LIBS": self.peers.r_libraries}
        log = folder / "said.log"
        cost = run_measured(self._words(name, month, result), environ=environ, cwd=PROJECT, log=log, cap_seconds=capped)
        if name.startswith("r_"):
            steps = json.loads(log.read_text(encoding="utf-8").splitlines()[-1])
            found = {"inner_seconds": sum(steps.values()), "steps": steps}
            return asdict(cost) | found, read_sample(result.with_suffix(".csv"))
        found = json.loads(result.read_text(encoding="utf-8"))
        return asdict(cost) | found, read_sample(result.with_suffix(".parquet"))

    def compete(
        self, size: str, month: str, names: Sequence[str], repeats: int, say: Callable[[str], None]
    ) -> dict[str, Any]:
        """All rounds of a month; who is not finished after the cap is left out of the following rounds."""
        expected = json.loads((self.prepared / f"expected-{month}.json").read_text(encoding="utf-8"))
        frame_sha256 = json.loads((self.prepared / "prepared.json").read_text(encoding="utf-8"))["frame_sha256"]
        rounds: dict[str, list[dict[str, Any]]] = defaultdict(list)
        ended: dict[str, float] = {}
        for number in range(repeats):
            for name in names:
                if name in ended:
                    continue
                place = f"{size} {month} {number + 1}/{repeats} {name}"
                with fresh_folder(self.data) as folder:
                    try:
                        cost, sample = self.draw(name, month, folder)
                    except NotFinishedError:
                        ended[name] = self.cap_seconds
                        say(f"{place}: NOT FINISHED after {self.cap_seconds:.0f} s")
                        continue
                say(f"{place}: {cost['wall_seconds']:.2f} s, {cost['peak_mb']:.0f} MB")
                if name in ("huifang", "bare"):
                    require(name, "the sample of hashlib", sha256(sample), expected["sample_sha256"])
                    require(name, "the frame", cost.get("frame_sha256", frame_sha256), frame_sha256)
                require(name, "the counts per stratum", count(row[1:3] for row in sample), expected["strata"])
                rounds[name].append(cost)
        return {
            "size": size, "month": month, "pool": expected["pool"], "drawn": sum(expected["strata"].values()),
            "strata": len(expected["strata"]), "bytes": self.customers.stat().st_size, "rounds": dict(rounds),
            "ended": ended,
        }  # fmt: skip

    def check_spark(self, say: Callable[[str], None]) -> str:
        """Whether Spark comes to the same sample, or why it was not asked."""
        expected = json.loads((self.prepared / "expected-first.json").read_text(encoding="utf-8"))
        with fresh_folder(self.data) as folder, spark_here(folder) as (url, reason):
            if url is None:
                say(f"SKIPPED Spark: {reason}")
                return f"Spark was not asked: {reason}"
            say(f"{self.customers.name}: the same on Spark")
            cost, sample = self.draw("huifang", "first", folder, engine=url)
            require("huifang on Spark", "the sample of hashlib", sha256(sample), expected["sample_sha256"])
            prepared = json.loads((self.prepared / "prepared.json").read_text(encoding="utf-8"))
            require("huifang on Spark", "the frame", cost["frame_sha256"], prepared["frame_sha256"])
        return f"{expected['pool']:,} eligible customers: Spark comes to the same frame and the same sample as hashlib"

    # ---- where each fails ---------------------------------------------------------------------------------

    def probe(self, names: Sequence[str], say: Callable[[str], None]) -> list[dict[str, Any]]:
        """How much of each sample is drawn again, with the same seed, when something else changes."""
        found = []
        with fresh_folder(self.data) as folder:
            shuffled = Contest(
                shuffle(self.customers, folder / "customers.parquet"), self._shuffle_prepared(folder / "prepared"),
                self.data, self.peers, self.cap_seconds, self.engine_memory,
            )  # fmt: skip
            for name in (n for n in names if n != "bare"):
                first = self._ids(self, name)
                if first is None:
                    continue
                say(f"{self.customers.name}: the same seed again, {name}")
                line = {"contestant": name, "rows shuffled": share(first, self._ids(shuffled, name))}
                if other := self._as_of_old(name):
                    line["older version"] = share(first, self._ids(self, other))
                if name == "pandas" and "pandas_categories" in names:
                    line["other types"] = share(first, self._ids(self, "pandas_categories"))
                found.append(line)
        return found

    def _as_of_old(self, name: str) -> str:
        """The contestant as it was some years ago, where that can be had; R keeps its former way beside the new one."""
        if name.startswith("pandas"):
            return f"{name}-1.5" if "pandas-1.5" in self.peers.pythons else ""
        return f"{name}-Rounding" if name.startswith("r_") else ""

    def _ids(self, contest: Contest, name: str) -> set[str] | None:
        with fresh_folder(self.data) as folder:
            try:
                return {row[0] for row in contest.draw(name, "first", folder)[1]}
            except NotFinishedError:
                return None

    def _shuffle_prepared(self, folder: Path) -> Path:
        folder.mkdir()
        for file in self.prepared.glob("*.csv"):
            shutil.copy(file, folder)
        shuffle(self.prepared / "frame.parquet", folder / "frame.parquet")
        self._write_eligible(folder)
        return folder


def shuffle(file: Path, to: Path) -> Path:
    """The same rows in another order: that of a hash of their number."""
    rows = pq.read_table(file)
    order = pc.sort_indices(pa.array([(n * 2_654_435_761) % 4_294_967_296 for n in range(rows.num_rows)]))
    pq.write_table(rows.take(order), to)
    return to


def share(first: set[str], again: set[str] | None) -> float | None:
    return None if again is None else len(first & again) / len(first)


def require(name: str, what: str, found: Any, expected: Any) -> None:
    if found != expected:
        if isinstance(found, Mapping):
            key = next(key for key in {*found, *expected} if found.get(key) != expected.get(key))
            found, expected = f"{key}: {found.get(key)}", f"{key}: {expected.get(key)}"
        raise ContestantError(f"{name} comes to another result: {what} is {found}, not {expected}")
