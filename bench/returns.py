"""What collecting a month's returns costs beside imaplib and calamine, which only fetch and read the same bytes.

A brokerage is drawn and its lists are mailed; every branch fills every row; the mails wait on a real IMAP server.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime
from pathlib import Path
from statistics import median
from typing import Any

from bench.figures import Figures
from bench.imap_server import DOVECOT, Dovecot
from bench.measure import ContestantError, describe_machine, run_measured
from demo.brokerage import build_extracts
from tasks.server import client_settings, prefect_server
from tasks.settings import PROJECT, Settings, code_version
from tasks.vault import branch_passwords

PYTHON = sys.executable
CONTESTANTS = ("bare", "huifang", "empty", "beside")
ROWS_PER_RETURN, CUSTOMERS_PER_BRANCH = 170, 1_060
"""So many customers give so many rows a branch in March when every one of them is called within the year."""
AT = ("--as-of", "2026-03-06", "--now", "2026-03-06T09:00+0800")
CREWS = os.cpu_count() or 1
HEADER = ("contestant", "wall s", "inner s", "CPU s", "peak MB")
NAMES = {
    "bare": "imaplib + calamine: fetched and read", "huifang": "`huifang run collect`, client",
    "empty": "the same with an empty mailbox", "beside": "the same with strange mails between the returns",
}  # fmt: skip


def run_returns(
    *, returns: int, forms: Sequence[str], contestants: Sequence[str], repeats: int, data: Path, command: str,
    say: Callable[[str], None], strange: Path | None = None,
) -> dict[str, Any]:  # fmt: skip
    """All rounds; raises ContestantError when one fails or does not find every row.

    strange: a folder of raw mails, one a file, that the contestant `beside` has between the returns: none of them may be
    accepted, and none may keep a return from it.
    """
    if DOVECOT is None:
        raise ContestantError("no dovecot on this machine; make system installs it")
    if unknown := [name for name in contestants if name not in CONTESTANTS]:
        raise ContestantError(f"no contestant {', '.join(unknown)}; there are {', '.join(CONTESTANTS)}")
    contestants = [name for name in contestants if strange is not None or name != "beside"]
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    began, machine = datetime.now(UTC), describe_machine()
    work = data / "returns"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        with prefect_server(work / "server", environ=os.environ, log=work / "server.log") as api_url:
            house = _Mailed(work, api_url, sorted(strange.iterdir()) if strange else [])
            house.prepare(returns, say)
            cases = [house.compete(form, contestants, repeats, say) for form in forms]
    finally:
        shutil.rmtree(work)
    return {
        "benchmark": "returns", "command": command, "began": began.isoformat(timespec="seconds"),
        "code_version": code_version(), "machine": machine, "repeats": repeats, "cases": cases,
    }  # fmt: skip


class _Mailed:
    """A home whose lists are mailed, and one mail server for each round."""

    def __init__(self, work: Path, api_url: str, strange: Sequence[Path]) -> None:
        self.work, self.api_url, self.home, self.strange = work, api_url, work / "home", strange

    def prepare(self, returns: int, say: Callable[[str], None]) -> None:
        say(f"{returns} branches of {CUSTOMERS_PER_BRANCH:,} customers: extracts, draw, lists")
        inbox = self.work / "inbox"
        year_end = date(2025, 12, 31)
        customers = returns * CUSTOMERS_PER_BRANCH
        build_extracts(inbox, customers=customers, branches=returns, seed=1, year_end=year_end, transactions=customers)
        rules = (PROJECT / "programmes" / "daily_risk.yaml").read_text(encoding="utf-8")
        (self.work / "programmes").mkdir()
        rules = re.sub(r'rate: "0\.10"', 'rate: "1.00"', rules)
        (self.work / "programmes" / "daily_risk.yaml").write_text(rules, encoding="utf-8")
        profile = str(PROJECT / "profiles" / "canonical.yaml")
        self.run(
            "pull",
            "--profile",
            profile,
            "--inbox",
            str(inbox),
            "--as-of",
            "2025-12-31",
            "--now",
            "2026-01-05T07:00+0800",
        )
        self.run(
            "draw",
            "--programme",
            "daily_risk",
            "--period",
            "2026-03",
            "--as-of",
            "2026-03-02",
            "--now",
            "2026-03-02T07:30+0800",
        )
        self.run("dispatch", "--as-of", "2026-03-02", "--now", "2026-03-02T09:00+0800")

    def environ(self, home: Path, **more: str) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("HUIFANG_", "PREFECT_"))}
        ours = {
            "HUIFANG_HOME": str(home),
            "HUIFANG_PROGRAMMES": str(self.work / "programmes"),
            "PREFECT_LOGGING_LEVEL": "ERROR",
        }
        return kept | client_settings(self.api_url, home) | ours | more

    def run(self, *words: str) -> None:
        command = [PYTHON, "-m", "cli", "run", *words]
        log = self.work / "said.log"
        run_measured(command, environ=self.environ(self.home), cwd=PROJECT, log=log, exits=(0, 1))

    def compete(self, form: str, names: Sequence[str], repeats: int, say: Callable[[str], None]) -> dict[str, Any]:
        mails = self.work / form
        mails.mkdir()
        say(f"{form}: every branch fills every row")
        crews = [
            subprocess.Popen(
                [PYTHON, "-m", "bench.fill_returns", str(self.home), str(mails), form, str(crew), str(CREWS)],
                cwd=PROJECT, env=self.environ(self.home),
            )
            for crew in range(CREWS)
        ]  # fmt: skip
        ended = [crew.wait() for crew in crews]
        if any(ended):
            raise ContestantError("the branches could not fill their lists; the reason stands above")
        sent = sorted(mails.iterdir())
        rounds: dict[str, list[dict[str, Any]]] = defaultdict(list)
        rows = 0
        for number in range(repeats):
            for name in names:
                found = self.collect(name, {"empty": [], "beside": self.between(sent)}.get(name, sent))
                rows = max(rows, found.get("rows", 0))
                rounds[name].append(found)
                say(f"{form}, round {number + 1}: {name} {found['wall_seconds']:.2f} s")
        for name, each in ((of, one) for of, all_of in rounds.items() for one in all_of):
            expected = 0 if name == "empty" else len(sent)
            if each["mails"] != expected:
                raise ContestantError(f"{name}: {each['mails']} of {expected} returns were read whole")
        size = sum(path.stat().st_size for path in sent)
        return {
            "form": form, "returns": len(sent), "rows": rows, "bytes": size, "strange": len(self.strange),
            "rounds": dict(rounds),
        }  # fmt: skip

    def between(self, sent: Sequence[Path]) -> list[Path]:
        """The returns with the strange mails spread evenly among them."""
        each = max(1, len(sent) // (len(self.strange) + 1))
        mails = list(sent)
        for number, path in enumerate(self.strange):
            mails.insert(min(len(mails), number * (each + 1)), path)
        return mails

    def collect(self, name: str, sent: Sequence[Path]) -> dict[str, Any]:
        """What one contestant took, on a server and a home of its own."""
        folder = Path(subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True).stdout.strip())
        home = self.work / "round"
        folder.chmod(0o755)
        shutil.copytree(self.home, home)
        shutil.rmtree(home / "maildir")
        for place in ("tmp", "new", "cur"):
            (folder / "mail" / place).mkdir(parents=True)
        for number, mail in enumerate(sent):
            shutil.copy(mail, folder / "mail" / "new" / f"{1772000000 + number}.M{number}P1.host")
        try:
            server = Dovecot(folder)
            try:
                if name == "bare":
                    return self._bare(server)
                return self._huifang(server, home)
            finally:
                server.stop()
        finally:
            shutil.rmtree(folder)
            shutil.rmtree(home)

    def _bare(self, server: Dovecot) -> dict[str, Any]:
        passwords, result = self.work / "passwords.json", self.work / "bare.json"
        known = branch_passwords(Settings(home=self.home))
        passwords.write_text(json.dumps({f"director.{no}@branch.example": words[0] for no, words in known.items()}))
        words = [
            str(server.port),
            str(server.folder / "ca.pem"),
            str(server.password_file),
            str(passwords),
            str(result),
        ]
        cost = run_measured(
            [PYTHON, "-m", "bench.bare_returns", *words], environ=self.environ(self.home), cwd=PROJECT,
            log=self.work / "said.log",
        )  # fmt: skip
        return asdict(cost) | json.loads(result.read_text(encoding="utf-8"))

    def _huifang(self, server: Dovecot, home: Path) -> dict[str, Any]:
        environ = self.environ(
            home, HUIFANG_RETURNS_URL=f"{server.url}/INBOX", HUIFANG_RETURNS_PASSWORD_FILE=str(server.password_file),
            HUIFANG_RETURNS_CA_FILE=str(server.folder / "ca.pem"), COLUMNS="200",
        )  # fmt: skip
        log = self.work / "said.log"
        cost = run_measured(
            [PYTHON, "-m", "cli", "run", "collect", *AT], environ=environ, cwd=PROJECT, log=log, exits=(0, 1)
        )
        said = log.read_text(encoding="utf-8")
        found = {
            word: int(number.replace(",", ""))
            for word, number in re.findall(r"(\w+)\W+([\d,]+)\W*$", said, re.MULTILINE)
        }
        named = ("accepted", "partly", "rejected", "quarantined", "notice", "held", "duplicate")
        if found["seen"] != sum(found[verdict] for verdict in named):
            raise ContestantError(f"huifang did not name every mail:\n{said[-2000:]}")
        if found["receipts_sent"] < found["accepted"] or found["unreconciled"]:
            raise ContestantError(
                f"huifang answered {found['receipts_sent']} of {found['accepted']} returns:\n{said[-2000:]}"
            )
        return asdict(cost) | {"mails": found["accepted"], "rows": found["rows_accepted"]}


def tables(run: dict[str, Any]) -> list[Figures]:
    """A table for each form of workbook, and the ratios the goal is about."""
    found, ratios = [], []
    for case in run["cases"]:
        title = (
            f"{case['returns']} returns, {'locked' if case['form'] == 'lock' else 'in clear'}: {case['rows']:,} rows, "
            f"{case['bytes'] / 1e6:,.1f} MB"
        )
        costs = {
            name: {
                what: median(each[what] for each in rounds if what in each)
                for what in rounds[0]
                if what.endswith(("seconds", "mb"))
            }
            for name, rounds in case["rounds"].items()
        }
        if "empty" in costs and "huifang" in costs:
            for what, inner in (("wall_seconds", "inner_seconds"), ("cpu_seconds", "inner_cpu_seconds")):
                costs["huifang"][inner] = costs["huifang"][what] - costs["empty"][what]
        lines = [
            (NAMES[name], f"{cost['wall_seconds']:.2f}", f"{cost['inner_seconds']:.2f}" if "inner_seconds" in cost else "–",
             f"{cost['cpu_seconds']:.2f}", f"{cost['peak_mb']:,.0f}")
            for name, cost in costs.items()
        ]  # fmt: skip
        found.append(Figures(title, HEADER, lines))
        if "inner_cpu_seconds" in costs.get("huifang", {}) and "bare" in costs:
            value = costs["huifang"]["inner_cpu_seconds"] / costs["bare"]["cpu_seconds"]
            ratios.append(("huifang less start ÷ bare, CPU of all cores", case["form"], f"{value:.2f}", ""))
        if {"huifang", "beside"} <= set(costs):
            value = costs["beside"]["wall_seconds"] / costs["huifang"]["wall_seconds"]
            ratios.append((f"with {case['strange']} strange mails ÷ without", case["form"], f"{value:.2f}", ""))
        if {"bare", "huifang"} <= set(costs):
            for what, label in (("wall_seconds", "whole process"), ("inner_seconds", "without start and imports")):
                if what in costs["huifang"]:
                    value = costs["huifang"][what] / costs["bare"][what]
                    goal = "" if what == "wall_seconds" else ("met" if value <= 3 else "not met")
                    ratios.append(
                        (
                            f"huifang ÷ bare, {label}" + ("" if goal == "" else " ≤ 3"),
                            case["form"],
                            f"{value:.2f}",
                            goal,
                        )
                    )
    return [*found, Figures("ratios of medians, goal", ("what", "form", "found", "goal"), ratios)]
