"""Lists handed to a real mail server over TLS with a login, beside smtplib sending the same bytes on one connection.

huifang's part is what a run of dispatch does with a list that is written already: the message on disk, the claim with
its 170 calls and the outcome committed in SQLite, one mail after the other. The other does nothing but send.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from bench.figures import Figures, verdict
from bench.measure import ContestantError, describe_machine
from bench.sheets import order_of
from bench.smtp_server import IS_THERE, USER, Postfix
from models.tables import Campaign, ProgrammeYear
from tasks import outbox
from tasks.lock import locksmiths
from tasks.mail import Attachment, render
from tasks.settings import Settings, code_version
from tasks.store import Store, open_store

CONTESTANTS = ("bare", "huifang")
NAMES = {"bare": "smtplib, one connection", "huifang": "huifang: claimed, sent, settled"}
OURS, CAMPAIGN = USER, "daily_risk-2026-03"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
NOW = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)

BARE = """
import json, smtplib, ssl, sys, time
from pathlib import Path
port, ca, user, password_file, folder = sys.argv[1:]
mails = [(path.stem, path.read_bytes()) for path in sorted(Path(folder).iterdir())]
password = Path(password_file).read_text().strip()
began, began_cpu = time.perf_counter(), time.process_time()
with smtplib.SMTP("localhost", int(port), timeout=60) as server:
    server.starttls(context=ssl.create_default_context(cafile=ca))
    server.login(user, password)
    for number, mail in mails:
        server.sendmail(user, [f"director.{number}@branch.example"], mail)
print(json.dumps({"wall_seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - began_cpu}))
"""


def run_mail(
    *, mails: int, rows: int, repeats: int, data: Path, command: str, say: Callable[[str], None], **_: Any
) -> dict[str, Any]:
    """Seconds of every round, for all mails together."""
    if not IS_THERE:
        raise ContestantError("no Postfix on this machine, or not root: `make system` installs it")
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    began, machine = datetime.now(UTC), describe_machine()
    different = min(mails, 25)
    say(f"{different} lists of {rows} rows are written and locked; {mails} mails carry them")
    with locksmiths(different) as smiths:
        made = list(smiths.locked(order_of(branch, rows) for branch in range(1, different + 1)))
    books = [made[place % different] for place in range(mails)]
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in CONTESTANTS}
    with tempfile.TemporaryDirectory(prefix="huifang-bench-") as folder:
        work = Path(folder)
        (work / "server").mkdir()
        server = Postfix(work / "server", settings="virtual_transport = discard:")
        try:
            for turn in range(repeats):
                pieces = pieces_of(books, turn, rows, work)
                for name in CONTESTANTS if turn % 2 == 0 else CONTESTANTS[::-1]:
                    cost = send_bare(server, pieces, work / f"{turn}") if name == "bare" else send_ours(server, pieces, work)
                    rounds[name].append(cost)
                    await_empty(server)
                    say(f"round {turn + 1} of {repeats}: {NAMES[name]} {mails / cost['wall_seconds']:.1f} mails a second")
        finally:
            server.stop()
    return {
        "benchmark": "mail", "began": began.isoformat(timespec="seconds"), "command": command,
        "code_version": code_version(), "repeats": repeats, "machine": machine, "mails": mails, "rows": rows,
        "bytes": statistics.median(len(piece.message) for piece in pieces), "rounds": rounds,
    }  # fmt: skip


def tables(run: dict[str, Any]) -> list[Figures]:
    """Milliseconds a mail, mails a second, and the goal."""

    def median(name: str, what: str) -> float:
        return statistics.median(found[what] for found in run["rounds"][name]) / run["mails"]

    lines = [
        (
            NAMES[name], f"{median(name, 'wall_seconds') * 1000:.1f}", f"{median(name, 'cpu_seconds') * 1000:.1f}",
            f"{1 / median(name, 'wall_seconds'):.1f}",
        )
        for name in run["rounds"]
    ]  # fmt: skip
    rate = median("bare", "wall_seconds") / median("huifang", "wall_seconds")
    pairs = zip(run["rounds"]["bare"], run["rounds"]["huifang"], strict=True)
    turns = ", ".join(f"{bare['wall_seconds'] / ours['wall_seconds']:.2f}" for bare, ours in pairs)
    goals = [
        ("huifang's rate ÷ smtplib's ≥ 0.9", f"{rate:.2f}", verdict(rate >= 0.9, run["mails"] >= 500)),
        ("the same round by round", turns, ""),
    ]
    title = f"{run['mails']} mails with a list of {run['rows']} rows, {run['bytes']:,.0f} bytes each"
    return [
        Figures(title, ("contestant", "wall ms a mail", "CPU ms a mail", "mails a second"), lines),
        Figures("ratio of medians, goal", ("what", "found", "goal"), goals),
    ]


def pieces_of(books: list[bytes], turn: int, rows: int, work: Path) -> list[outbox.Piece]:
    """The mails of a round, as dispatch writes them; each round has ids of its own."""
    settings = Settings(home=work / "unused", mail_from=OURS)
    found = []
    for place, book in enumerate(books, start=1):
        words = render(
            "assignment", "zh_CN", branch_name=f"第{place}证券营业部", title="日常合规风险提示回访", period="2026-03", rows=rows,
            due_on=date(2026, 3, 31), supplement=0, part=1, parts=1, attachment_name="回访登记表.xlsx",
            key_place=settings.key_words, evidence=(), return_address=OURS, sender_name=settings.mail_name,
        )  # fmt: skip
        found.append(
            outbox.write(
                settings, "assignment", CAMPAIGN, f"{place:04d}", "operations_director", turn + 1,
                f"director.{place:04d}@branch.example", words, now=NOW,
                attachments=(Attachment("回访登记表.xlsx", book, XLSX),),
                items=tuple(("assignment", place * 100_000 + row) for row in range(rows)),
            )
        )  # fmt: skip
    return found


def send_bare(server: Postfix, pieces: list[outbox.Piece], folder: Path) -> dict[str, float]:
    folder.mkdir()
    for piece in pieces:
        (folder / f"{piece.recipient}.eml").write_bytes(piece.message)
    done = subprocess.run(
        [sys.executable, "-c", BARE, str(server.port), str(server.ca), USER, str(server.password_file), str(folder)],
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    if done.returncode:
        raise ContestantError(f"bare: {done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout)
    return found


def send_ours(server: Postfix, pieces: list[outbox.Piece], work: Path) -> dict[str, float]:
    """The product's own way from the first claim to the last outcome, in a home of its own."""
    home = Path(tempfile.mkdtemp(dir=work))
    settings = Settings(
        home=home, mail_from=OURS, smtp_url=server.url, smtp_password_file=server.password_file, smtp_ca_file=server.ca
    )
    store = prepared(settings)
    began, began_cpu = time.perf_counter(), time.process_time()
    with outbox.opened(settings, store, run="bench", now=NOW) as out:
        counts = outbox.send_all.fn(out, "assignment", iter(pieces), len(pieces))
    cost = {"wall_seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - began_cpu}
    store.engine.dispose()
    if counts["sent"] != len(pieces):
        raise ContestantError(f"huifang: {counts}")
    return cost


def prepared(settings: Settings) -> Store:
    """An empty store with the campaign that the mails belong to."""
    store = open_store(settings)
    with store.begin() as session:
        session.add(
            ProgrammeYear(
                id="daily_risk-2026", programme="daily_risk", year=2026, base_on=date(2025, 12, 31), snapshots={},
                plan="{}", plan_sha256="", frame_path="", frame_sha256="", base=0, eligible=0, waived=0,
                contradictions={}, code_version="", frozen_at=NOW,
            )
        )  # fmt: skip
        session.flush()
        session.add(
            Campaign(
                id=CAMPAIGN, programme_year_id="daily_risk-2026", period="2026-03", as_of=date(2026, 3, 2),
                calendar_version="", state_sha256="", committed_at=NOW,
            )
        )  # fmt: skip
    return store


def await_empty(server: Postfix) -> None:
    """Until the server has got rid of what it took, so that no contestant pays for the one before."""
    queues = [server.folder / "queue" / name for name in ("maildrop", "incoming", "active", "deferred")]
    for _ in range(600):
        if not any(files for queue in queues for _, _, files in os.walk(queue)):
            return
        time.sleep(0.1)
    raise ContestantError("the mail server does not empty its queue")
