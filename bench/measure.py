"""One process measured from outside: seconds from its start to its end, CPU seconds, peak memory with its children.

Linux only, from /proc. The measuring process must stay small: until a child has become its own program, the two
share their memory.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

SAMPLE_SECONDS = 0.05
MB = 1e6


@dataclass(frozen=True)
class Cost:
    """What one process took."""

    wall_seconds: float
    cpu_seconds: float
    """Of the process and the children it waited for."""
    peak_mb: float
    """The process's own highest resident memory, and the highest sum of its children's; 1 MB = 1,000,000 bytes."""


class ContestantError(RuntimeError):
    """A contestant failed, or came to another result."""


class NotFinishedError(ContestantError):
    """A contestant was ended because it took too long."""


def run_measured(
    words: Sequence[str], *, environ: Mapping[str, str], cwd: Path, log: Path, exits: Sequence[int] = (0,),
    cap_seconds: float | None = None,
) -> Cost:  # fmt: skip
    """The cost of a command, which prints into `log`.

    Raises ContestantError on another exit code, NotFinishedError when it was ended after `cap_seconds`.
    """
    with log.open("wb") as output:
        began = time.perf_counter()
        child = subprocess.Popen(
            words, env=dict(environ), cwd=cwd, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        own = below = 0
        seen: set[int] = set()
        while True:
            pid, status, usage = os.wait4(child.pid, os.WNOHANG)
            if pid:
                break
            own = max(own, _status_kb(child.pid, "VmHWM"))
            pids = _descendants(child.pid)
            # In the instant before it runs its own program, a child shows its parent's memory.
            below = max(below, sum(_status_kb(each, "VmRSS") for each in pids if each in seen))
            seen = set(pids)
            if cap_seconds is not None and time.perf_counter() - began > cap_seconds:
                child.kill()
                child.wait()
                raise NotFinishedError(f"{' '.join(words)} was ended after {cap_seconds:.0f} s")
            time.sleep(SAMPLE_SECONDS)
        wall = time.perf_counter() - began
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode not in exits:
        said = log.read_text(encoding="utf-8", errors="replace")[-3000:]
        raise ContestantError(f"{' '.join(words)} ended with {child.returncode}:\n{said}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, (own + below) * 1024 / MB)


def _status_kb(pid: int, name: str) -> int:
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1])
    except (FileNotFoundError, ProcessLookupError):
        pass
    return 0


def _descendants(root: int) -> list[int]:
    found: list[int] = []
    waiting = [root]
    while waiting:
        pid = waiting.pop()
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                children = [int(each) for each in task.read_text().split()]
            except (FileNotFoundError, ProcessLookupError):
                continue
            found += children
            waiting += children
    return found


def warm(files: Sequence[Path]) -> None:
    """Reads files once, so that no contestant pays for the disk."""
    for file in files:
        with file.open("rb", buffering=0) as content:
            while content.read(1 << 24):
                pass


def describe_machine() -> dict[str, str]:
    """Processor, cores, memory, and versions that the figures depend on."""
    cpu = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.machine(),
    )
    memory = next((int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal:")), 0)
    return {
        "processor": cpu,
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory / 2**20:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        **{name: version(name) for name in ("duckdb", "pandas", "pyarrow", "numpy", "prefect")},
        "load before": f"{os.getloadavg()[0]:.1f}",
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text(encoding="utf-8").splitlines()


PYTHON = sys.executable
