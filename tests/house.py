"""A small brokerage and its commands, for tests that run whole flows against one Prefect server."""

import copy
import json
import multiprocessing
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from multiprocessing.process import BaseProcess
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any
from unittest import mock

from typer.testing import CliRunner

from cli import app  # before any command: a console keeps the COLUMNS it was made under
from demo.branches import answer
from demo.brokerage import build_extracts
from models.calendar import SHANGHAI
from tasks.postoffice import post_office
from tasks.server import client_settings
from tasks.settings import PROJECT, Settings

CANONICAL = PROJECT / "profiles" / "canonical.yaml"
YEAR_END = ("--as-of", "2025-12-31", "--now", "2026-01-05T07:00+0800")
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["cli", "demo.branches", "demo.brokerage", *(f"flows.{flow}" for flow in ("pull", "draw", "dispatch", "collect"))]
)
OURS = Settings.model_fields["mail_from"].default


def at(day: str, time: str = "09:00") -> tuple[str, ...]:
    """The two options that say when it is."""
    return ("--as-of", day, "--now", f"{day}T{time}+0800")


@dataclass(frozen=True)
class House:
    """A home with the extracts of a brokerage in its inbox, and the Prefect server that its commands use."""

    home: Path
    api_url: str
    settings: Mapping[str, str] = field(default_factory=dict)
    chance: Random = field(default_factory=lambda: Random(6))
    """Makes the seeds of `call`: a sample of 20 drawn by lot may lack whatever a test is about, once in some weeks."""

    @classmethod
    def build(cls, home: Path, api_url: str, *, customers: int, branches: int, seed: int = 3) -> "House":
        build_extracts(home / "inbox", customers=customers, branches=branches, seed=seed, year_end=date(2025, 12, 31))
        return cls(home, api_url)

    def copy(self, home: Path) -> "House":
        """The same brokerage at the same moment, with a life of its own."""
        shutil.copytree(self.home, home, ignore=shutil.ignore_patterns("prefect"))
        return replace(self, home=home, chance=copy.copy(self.chance))

    def having(self, **settings: str) -> "House":
        return replace(self, settings={**self.settings, **settings})

    @property
    def environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("HUIFANG_")}
        ours = {"HUIFANG_HOME": str(self.home), "COLUMNS": "250", "PREFECT_LOGGING_LEVEL": "ERROR"}
        return inherited | client_settings(self.api_url, self.home) | ours | dict(self.settings)

    def start(self, *words: str) -> BaseProcess:
        """A command as a process that leads its own group, so that it can be killed with all its children.

        It is forked from one that has imported the flows already: 6 s of CPU less for each command.
        """
        process = FORKS.Process(target=_command, args=(self.environment, words, str(self.home / "commands.log")))
        process.start()
        return process

    def run(self, *words: str, exits: Sequence[int] = (0, 1)) -> int:
        """The exit code of a command run as a process."""
        process = self.start(*words)
        try:
            process.join(timeout=120)
            code = process.exitcode
        finally:
            kill_group(process)
        assert code in exits, f"huifang {' '.join(words)} ended with {code}:\n{self.said()}"
        return code

    def shell(self, *words: str, exits: Sequence[int] = (0, 1)) -> str:
        """What a command prints that is started as people start it."""
        result = subprocess.run(
            [sys.executable, "-m", "cli", *words],
            env=self.environment,
            cwd=PROJECT,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=180,
        )
        assert result.returncode in exits, f"huifang {' '.join(words)} ended with {result.returncode}:\n{result.stderr}"
        return result.stdout

    def said(self) -> str:
        return (self.home / "commands.log").read_text(encoding="utf-8")[-6000:]

    def call(self, *words: str, exits: Sequence[int] = (0, 1)) -> Any:
        """The result of a command run in this process."""
        seeds = SimpleNamespace(token_hex=lambda n: self.chance.randbytes(n).hex())
        with mock.patch("flows.draw.seed.secrets", seeds):
            result = CliRunner().invoke(app, list(words), env=self.environment, catch_exceptions=False)
        with (self.home / "commands.log").open("a", encoding="utf-8") as log:
            log.write(f"$ huifang {' '.join(words)}\n{result.output}\n")
        assert result.exit_code in exits, f"huifang {' '.join(words)} ended with {result.exit_code}:\n{result.output}"
        return result

    def pull(self) -> Any:
        return self.call("run", "pull", "--profile", str(CANONICAL), "--inbox", str(self.home / "inbox"), *YEAR_END)

    def draw(self, *programmes: str, period: str = "2026-03") -> None:
        for programme in programmes:
            self.call("run", "draw", "--programme", programme, "--period", period, *at(f"{period}-02", "07:30"))

    def answer(self, day: str, *, seed: int = 3) -> dict[str, int]:
        """The branches read their mail and answer it over SMTP into our Maildir."""
        now = datetime.fromisoformat(f"{day}T16:00+08:00").astimezone(SHANGHAI)
        with post_office(self.home / "maildir", OURS) as url:
            return answer(self.home, url, seed=seed, as_of=date.fromisoformat(day), now=now)

    def status(self, day: str = "2026-03-31") -> dict[str, Any]:
        """What `huifang status --json` says; every balance holds."""
        found = json.loads(self.call("status", "--json", "--as-of", day).stdout)
        unequal = [
            (campaign["campaign"], balance)
            for campaign in found["campaigns"]
            for balance in campaign["balances"]
            if not balance["holds"]
        ]
        assert not unequal
        return found

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What stands in the SQLite store; nothing when it is not there yet."""
        path = self.home / "huifang.sqlite"
        if not path.exists():
            return []
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as store:
            try:
                return store.execute(query).fetchall()
            except sqlite3.OperationalError as error:
                if "no such table" in str(error):
                    return []
                raise

    def count(self, table: str) -> int:
        found = self.rows(f"select count(*) from {table}")
        return found[0][0] if found else 0


def kill_group(process: BaseProcess) -> None:
    """kill -9 of a process and of every child it has."""
    for kill in (os.killpg, os.kill):  # the second for one that has not made its group yet
        with suppress(ProcessLookupError):
            kill(process.pid, signal.SIGKILL)
    process.join(timeout=30)


def _command(environment: dict[str, str], words: Sequence[str], log: str) -> None:
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(PROJECT)
    with open(log, "ab", buffering=0) as output:
        output.write(f"$ huifang {' '.join(words)}\n".encode())
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    app(list(words), prog_name="huifang")
