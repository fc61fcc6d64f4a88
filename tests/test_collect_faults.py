"""Whatever stops a collect, the next one goes on where it ended: no return is lost, none counts twice."""

from __future__ import annotations

import email
import email.policy
import os
import resource
import signal
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from email.message import Message
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple
from urllib.parse import quote

import psycopg
import pytest
from house import FORKS, House, _command, at, kill_group
from letters import letter
from test_crash import booked
from test_mailbox import connected

from bench.imap_server import DOVECOT, Dovecot
from bench.measure import run_measured
from models.row_code import row_code
from tasks.settings import PROJECT, Settings
from tasks.vault import row_keys

COLLECT = ("run", "collect", *at("2026-03-12", "18:15"))


class Moment(NamedTuple):
    """A step of the code: the n-th time that a function of a file begins (call) or has ended (return)."""

    file: str
    function: str
    event: str = "call"
    number: int = 1


def _watched(moment: Moment, pid: int, sign: int, environment: dict[str, str], words: Sequence[str], log: str) -> None:
    """A command that gives somebody a signal at a moment; 0 is its own process group."""
    left = moment.number

    def reach() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.killpg(pid or os.getpid(), sign)

    def inside(frame: FrameType, event: str, _: Any) -> None:
        if event == "return":
            reach()

    def watch(frame: FrameType, event: str, _: Any) -> Callable[..., None] | None:
        if frame.f_code.co_name == moment.function and frame.f_code.co_filename.endswith(moment.file):
            if moment.event == "return":
                return inside
            reach()
        return None

    threading.settrace(watch)
    sys.settrace(watch)
    _command(environment, words, log)


@contextmanager
def watched(
    house: House, moment: Moment, *, pid: int = 0, sign: int = signal.SIGKILL, words: Sequence[str] = COLLECT
) -> Iterator[BaseProcess]:
    process = FORKS.Process(
        target=_watched, args=(moment, pid, sign, house.environment, words, str(house.home / "commands.log"))
    )
    process.start()
    try:
        yield process
    finally:
        kill_group(process)


def killed_in(house: House, moment: Moment) -> None:
    with watched(house, moment) as process:
        process.join(timeout=120)
        assert process.exitcode == -signal.SIGKILL, f"{moment} was not reached:\n{house.said()}"


def receipts(house: House) -> list[str]:
    """The Message-ID of every receipt that arrived at a branch."""
    arrived = [email.message_from_bytes(path.read_bytes()) for path in (house.home / "maildir").glob(".*/new/*")]
    return [mail["Message-ID"] for mail in arrived if mail["Message-ID"].startswith("<receipt")]


def lying(house: House) -> list[Path]:
    return [path for part in ("new", "cur") for path in (house.home / "maildir" / part).iterdir()]


@pytest.fixture(scope="module")
def answered(prefect_client: str, tmp_path_factory: pytest.TempPathFactory) -> House:
    """Lists of two programmes are out; a dozen returns, doubles and strangers lie in the mailbox."""
    house = House.build(tmp_path_factory.mktemp("house") / "home", prefect_client, customers=500, branches=5)
    house.pull()
    house.draw("daily_risk", "marketer_conduct")
    house.call("run", "dispatch", *at("2026-03-02"))
    house.answer("2026-03-12")
    assert len(lying(house)) >= 10
    return house


@pytest.fixture(scope="module")
def calm(answered: House, tmp_path_factory: pytest.TempPathFactory) -> House:
    """The same returns, collected without a fault."""
    house = answered.copy(tmp_path_factory.mktemp("calm") / "home")
    house.call(*COLLECT)
    return house


def same_as(calm: House, house: House) -> None:
    """Everything is booked, and in the folders, as if nothing had happened."""
    found, wanted = booked(house), booked(calm)
    for name in wanted:
        assert found[name] == wanted[name], name
    assert found["rows"]
    assert not lying(house)
    house.status()


# ---- kill -9

STEPS = {
    "before anything is fetched": Moment("mailbox/spool.py", "spool"),
    "fetched in part": Moment("mailbox/maildir.py", "fetch", "return", 2),
    "spooled, not booked": Moment("mailbox/spool.py", "spool", "return", 3),
    "in the transaction of a sighting": Moment("records/returns.py", "add_sighting", "return", 4),
    "all fetched, none judged": Moment("flows/collect/__init__.py", "judge_all"),
    "the first one read": Moment("returns/opened.py", "from_report", "return"),
    "judged, nothing booked": Moment("returns/judged.py", "message_verdict", "return"),
    "evidence in the vault, nothing booked": Moment("vault/evidence.py", "keep_evidence", "return"),
    "in the middle of the transaction": Moment("records/returns.py", "add_return_rows", "return", 2),
    "at the end of the transaction": Moment("tasks/store.py", "record", "return", 2),
    "one booked": Moment("flows/collect/booked.py", "book_return", "return", 2),
    "all judged, nothing moved": Moment("flows/collect/__init__.py", "move_all"),
    "some moved": Moment("mailbox/maildir.py", "move", "return", 3),
    "in the middle of a move": Moment("mailbox/maildir.py", "move", "call", 2),
    "all moved": Moment("flows/collect/__init__.py", "move_all", "return"),
    "before a receipt is claimed": Moment("tasks/outbox.py", "write", "return", 2),
    "claimed, not sent": Moment("mail/post.py", "send", "call", 2),
    "sent, not settled": Moment("mail/post.py", "send", "return", 2),
}


def killed_at_each(steps: Sequence[str], answered: House, calm: House, home: Path) -> None:
    house = answered.copy(home)
    came = {path.name for path in lying(house)}
    for step in steps:
        killed_in(house, STEPS[step])
        house.status()
    house.run(*COLLECT)
    arrived = len(receipts(house))
    house.run(*COLLECT)
    assert len(receipts(house)) == arrived
    assert {path.name.split(":")[0] for path in (house.home / "maildir").glob(".[PRQ]*/cur/*")} == came
    same_as(calm, house)
    assert max(Counter(receipts(house)).values()) == 1
    unsettled = [step for step in steps if step in ("claimed, not sent", "sent, not settled")]
    assert house.status()["mails"]["unknown"] == len(unsettled)
    lost = 1 if "claimed, not sent" in steps else 0
    assert arrived == len(booked(calm)["receipts"]) - lost
    assert not list((house.home / "spool").glob("*.tmp"))


@pytest.mark.long
def test_a_collect_killed_between_booking_moving_and_sending_goes_on(
    answered: House, calm: House, tmp_path: Path
) -> None:
    killed_at_each(
        ["at the end of the transaction", "some moved", "sent, not settled"], answered, calm, tmp_path / "home"
    )


@pytest.mark.long
def test_a_collect_killed_at_every_step_loses_no_return_and_books_none_twice(
    answered: House, calm: House, tmp_path: Path
) -> None:
    killed_at_each(list(STEPS), answered, calm, tmp_path / "home")


# ---- two at once, and the database


def wait_until(sign: Callable[[], Any], house: House, *, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not sign():
        assert time.monotonic() < deadline, house.said()
        time.sleep(0.02)


def state_of(process: BaseProcess) -> str:
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]


@contextmanager
def stopped_in(house: House, moment: Moment) -> Iterator[BaseProcess]:
    """A collect that stands still at a moment; it goes on with SIGCONT."""
    with watched(house, moment, sign=signal.SIGSTOP) as process:
        wait_until(lambda: state_of(process) in "TZ", house)
        assert process.exitcode is None, house.said()
        yield process


def go_on(process: BaseProcess, house: House) -> int | None:
    os.killpg(process.pid or 0, signal.SIGCONT)
    process.join(timeout=150)
    assert process.exitcode is not None, house.said()
    return process.exitcode


@pytest.mark.slow
def test_a_second_collector_goes_away_and_the_first_one_ends_its_work(
    answered: House, calm: House, tmp_path: Path
) -> None:
    house = answered.copy(tmp_path / "home")
    with stopped_in(house, STEPS["all fetched, none judged"]) as first:
        house.run(*COLLECT, exits=(1,))
        assert "another run is at 'collect'; try again when it has ended" in house.said()
        assert go_on(first, house) in (0, 1)
    same_as(calm, house)


@pytest.mark.long
def test_a_database_that_somebody_else_writes_to_is_named_and_the_next_run_ends_the_work(
    answered: House, calm: House, tmp_path: Path
) -> None:
    house = answered.copy(tmp_path / "home")
    with (
        stopped_in(house, STEPS["one booked"]) as process,
        closing(sqlite3.connect(house.home / "huifang.sqlite", isolation_level=None)) as other,
    ):
        other.execute("begin immediate")
        assert go_on(process, house) == 2
        assert "database is locked; another program has held it for 30 s" in " ".join(house.said().split())
        assert "Traceback" not in house.said()
    house.run(*COLLECT)
    same_as(calm, house)


@pytest.mark.long
def test_a_database_server_that_goes_away_is_named_and_the_next_run_ends_the_work(
    prefect_client: str, postgres_url: str, tmp_path: Path
) -> None:
    base = postgres_url.rpartition("/")[0]

    def command(*words: str) -> None:
        with psycopg.connect(postgres_url, autocommit=True) as server:
            for each in words:
                server.execute(each)

    command("drop database if exists collected", "create database collected")
    built = House.build(tmp_path / "home", prefect_client, customers=500, branches=5)
    house = built.having(HUIFANG_DATABASE_URL=f"{base}/collected")
    house.pull()
    house.draw("daily_risk", "marketer_conduct")
    house.call("run", "dispatch", *at("2026-03-02"))
    house.answer("2026-03-12")
    came = len(lying(house))
    for step in ("spooled, not booked", "one booked", "all moved"):
        with stopped_in(house, STEPS[step]) as process:
            command(
                "alter database collected allow_connections false",
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = 'collected'",
            )
            assert go_on(process, house) == 2, step
            assert "start the server again, then run again" in " ".join(house.said().split()), step
            assert "Traceback" not in house.said(), step
        command("alter database collected allow_connections true")
    house.run(*COLLECT)
    assert not lying(house)
    with psycopg.connect(f"{base}/collected") as store:

        def count(query: str) -> int:
            found = store.execute(query).fetchone()
            return found[0] if found else 0

        assert count("select count(*) from sighting") == came
        assert count("select count(*) from message where id not in (select message_id from verdict)") == 0
        # Drawn on its own, this house has other customers than the one of the other tests.
        assert count("select count(*) from return_row") == count("select sum(rows_accepted) from verdict") > 0
        assert count("select count(*) from mail where kind = 'receipt'") == len(receipts(house))


# ---- the disk


@pytest.mark.slow
def test_a_full_disk_costs_no_return_and_says_what_helps(answered: House, calm: House, tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk: the system refuses to write, for root as well."""
    house = answered.copy(tmp_path / "home")
    sender = house.rows("select to_address from mail where recipient <> 'HQ'")[0][0]
    too_long = letter(("a.mp3", b"ID3" + os.urandom(6 << 20)), sender=sender, subject="too long for the spool")
    # As long in the spool as it is in truth, and a third longer in the vault.
    head = f"From: {sender}\nContent-Type: audio/mpeg; name=b.mp3\nContent-Disposition: attachment\n\nID3"
    in_clear = head.encode() + b"a line of sound\n" * (4 << 16)
    new = house.home / "maildir" / "new"
    (new / "1").write_bytes(bytes(too_long))
    (new / "2").write_bytes(in_clear)
    limit = 5 << 20
    process = FORKS.Process(target=_limited, args=(limit, house.environment, COLLECT, str(house.home / "commands.log")))
    process.start()
    try:
        process.join(timeout=120)
        said = " ".join(house.said().split())
        assert process.exitcode == 1, said
    finally:
        kill_group(process)
    assert "spool: File too large; free space there" in said
    assert "vault: File too large; free space there" in said
    assert "Traceback" not in said
    assert [path.name for path in sorted(lying(house))] == ["1", "2"]
    assert house.rows("select reason from verdict where verdict = 'held'") == [("unkept",)]
    assert booked(house)["rows"] == booked(calm)["rows"]
    house.run(*COLLECT)
    assert not lying(house)
    assert house.count("evidence") == calm.count("evidence") + 2
    house.status()


def _limited(limit: int, environment: dict[str, str], words: Sequence[str], log: str) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    _command(environment, words, log)


@pytest.mark.long
def test_a_recording_of_fifty_megabytes_costs_less_than_fifty_megabytes_of_memory(
    answered: House, tmp_path: Path
) -> None:
    sender, task = answered.rows(
        "select m.to_address, i.item_id from mail m join mail_item i on i.mail_id = m.id "
        "where m.recipient <> 'HQ' and i.kind = 'assignment'"
    )[0]
    peaks = []
    for size in (5_000, 50_000_000):
        house = answered.copy(tmp_path / str(size))
        name = f"{row_code('assignment', task, row_keys(Settings(home=house.home))[0])}_录音.mp3"
        sound = letter((name, b"ID3" + os.urandom(size)), sender=sender)
        (house.home / "maildir" / "new" / "1").write_bytes(bytes(sound))
        command = [sys.executable, "-m", "cli", *COLLECT]
        cost = run_measured(
            command, environ=house.environment, cwd=PROJECT, log=house.home / "said.log", exits=(0, 1), cap_seconds=240
        )
        assert house.rows(f"select size_bytes from evidence where size_bytes = {size + 3}"), "it was kept"
        peaks.append(cost.peak_mb)
    assert peaks[1] - peaks[0] < 50


# ---- the way a letter takes


@pytest.fixture
def imap() -> Iterator[Dovecot]:
    if DOVECOT is None:
        pytest.skip("no dovecot on this machine (apt install dovecot-imapd)")
    # Below pytest's own folder no other user may look, and a socket's path must be short.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        server = Dovecot(Path(folder))
        yield server
        server.stop()


def on_a_server(house: House, server: Dovecot, folder: str = "INBOX") -> House:
    """The house with its returns on an IMAP server, in the order they came."""
    for number, path in enumerate(sorted(lying(house), key=lambda path: path.stat().st_mtime_ns)):
        content = path.read_bytes()
        path.unlink()
        if folder == "INBOX":
            target = server.maildir / "new" / f"{1772000000 + number}.M{number}P1.host"
            target.write_bytes(content)
            target.chmod(0o644)
        else:
            with connected(server) as client:
                client.append(folder, content)
    return house.having(
        HUIFANG_RETURNS_URL=f"{server.url}/{quote(folder)}",
        HUIFANG_RETURNS_PASSWORD_FILE=str(server.password_file),
        HUIFANG_RETURNS_CA_FILE=str(server.folder / "ca.pem"),
    )


def counts_as(calm: House, house: House) -> None:
    """The same rows count as if the letters had come by way of the Maildir."""
    found, wanted = booked(house), booked(calm)
    for name in ("rows", "findings", "opinions", "evidence", "receipts"):
        assert found[name] == wanted[name], name
    house.status()


@pytest.mark.slow
def test_a_server_killed_in_the_middle_of_a_letter_and_back_again_costs_a_pause(
    imap: Dovecot, answered: House, calm: House, tmp_path: Path
) -> None:
    house = answered.copy(tmp_path / "home")
    long = letter(("a.wav", os.urandom(3 << 20)), sender="x@evil.example")
    (house.home / "maildir" / "new" / "1").write_bytes(bytes(long))
    house = on_a_server(house, imap)
    # Of the last letter, which comes in five slices, the second has come.
    at_second = Moment("imapclient/imapclient.py", "fetch", "return", len(calm.rows("select id from sighting")) + 2)
    with watched(house, at_second, pid=imap.process.pid) as process:
        wait_until(lambda: imap.process.poll() is not None or not process.is_alive(), house)
        assert process.is_alive(), house.said()
        imap.start()
        process.join(timeout=120)
        assert process.exitcode == 1, house.said()  # strangers are something to look at
    counts_as(calm, house)
    assert len(list((imap.maildir / ".Quarantine").glob("[cn]*/*"))) == 3
    assert len(list((house.home / "spool").glob("*.eml"))) == house.count("message")


@pytest.mark.long
def test_a_server_that_stays_away_is_named_and_the_next_run_ends_the_work(
    imap: Dovecot, answered: House, calm: House, tmp_path: Path
) -> None:
    house = on_a_server(answered.copy(tmp_path / "home"), imap)
    for moment in (Moment("mailbox/imap.py", "fetch", "return", 3), Moment("mailbox/imap.py", "move", "return", 3)):
        with watched(house, moment, pid=imap.process.pid) as process:
            process.join(timeout=150)
            assert process.exitcode == 2, house.said()
        assert "imaps:" in house.said()
        assert "Traceback" not in house.said()
        imap.stop()
        imap.start()
    house.run(*COLLECT)
    counts_as(calm, house)


@pytest.mark.long
def test_a_folder_made_anew_with_the_same_letters_counts_none_of_them_again(
    imap: Dovecot, answered: House, calm: House, tmp_path: Path
) -> None:
    folder = "回访"
    home = answered.copy(tmp_path / "home")
    raw = [path.read_bytes() for path in sorted(lying(home), key=lambda path: path.stat().st_mtime_ns)]
    with connected(imap) as client:
        client.create_folder(folder)
    house = on_a_server(home, imap, folder)
    house.call(*COLLECT)
    counts_as(calm, house)
    judged = house.count("verdict")
    with connected(imap) as client:
        client.delete_folder(folder)
        client.create_folder(folder)
        for each in raw:
            client.append(folder, each)
    house.call(*COLLECT)
    counts_as(calm, house)
    assert house.count("verdict") == judged
    assert house.count("sighting") == 2 * len(raw)
    with connected(imap) as client:
        assert client.select_folder(folder)[b"EXISTS"] == 0


@pytest.mark.slow
def test_a_return_that_comes_over_three_paths_counts_once(imap: Dovecot, answered: House, tmp_path: Path) -> None:
    house = answered.copy(tmp_path / "home")
    sent = {path: email.message_from_bytes(path.read_bytes()) for path in lying(house)}
    mine = next(path for path, mail in sent.items() if "director" in str(mail["From"]) and _book(mail) is not None)
    raw, mail, book = mine.read_bytes(), sent[mine], _book(sent[mine])
    assert book is not None
    for path in lying(house):
        path.unlink()
    branch = str(mail["From"]).partition("director.")[2][:4]
    once = house.copy(tmp_path / "once")
    (once.home / "maildir" / "new" / "1").write_bytes(raw)
    once.call(*COLLECT)
    assert once.count("return_row") > 0

    forwarded = letter(sender=str(mail["From"]))
    forwarded.add_attachment(email.message_from_bytes(raw, policy=email.policy.default))
    relayed = b"Received: from elsewhere by here\r\n" + raw
    for number, each in enumerate((raw, relayed, bytes(forwarded)), start=1):
        (house.home / "maildir" / "new" / str(number)).write_bytes(each)
    drop = house.home / "drop" / branch
    drop.mkdir(parents=True)
    (drop / "回访登记表.xlsx").write_bytes(book)
    house = on_a_server(house, imap).having(HUIFANG_DROP=str(drop.parent), HUIFANG_DROP_QUIET_SECONDS="0")
    house.call(*COLLECT)
    assert house.count("sighting") == 4
    assert booked(house)["rows"] == booked(once)["rows"]
    assert Counter(house.rows("select verdict from verdict")) == {("accepted",): 1, ("duplicate",): 3}
    assert len(booked(house)["receipts"]) == 1


def _book(mail: Message) -> bytes | None:
    for part in mail.walk():
        if str(part.get_filename()).endswith(".xlsx"):
            content = part.get_payload(decode=True)
            return content if isinstance(content, bytes) else None
    return None
