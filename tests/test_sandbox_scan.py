"""Nothing is opened that clamd finds infected, under whatever lock it came; while clamd is down nothing is opened at all."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from letters import BRANCH, SHEET, accepted, bombed, encrypted, letter, opened
from pydantic import ValidationError
from test_sandbox import seven_zipped, zipped

from models.returns import Opened, judge_sender
from tasks.settings import Settings

CLAMD = shutil.which("clamd") or shutil.which("clamd", path="/usr/sbin:/usr/local/sbin")
# A signature of our own, so that no real virus and no download is needed.
MARK = b"a sign that only the tests of huifang write"
ROSTER = pd.DataFrame([{"branch_no": "0101", "role": "x", "email": BRANCH}])


@pytest.fixture(scope="module")
def clamd() -> Iterator[dict[str, str]]:
    """A real clamd with one signature: its addresses by kind."""
    if CLAMD is None:
        pytest.skip("no clamd on this machine (apt install clamav-daemon)")
    folder = Path(subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True).stdout.strip())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    (folder / "db").mkdir()
    (folder / "db" / "own.ndb").write_text(f"Test.Huifang:0:*:{MARK.hex()}\n", encoding="ascii")
    owner = "root" if os.getuid() == 0 else os.environ.get("USER", "nobody")
    (folder / "clamd.conf").write_text(
        f"DatabaseDirectory {folder}/db\nLocalSocket {folder}/socket\nTCPSocket {port}\nTCPAddr 127.0.0.1\n"
        f"Foreground yes\nUser {owner}\nStreamMaxLength 2M\nLogFile {folder}/log\n",
        encoding="utf-8",
    )
    process = subprocess.Popen([CLAMD, "-c", str(folder / "clamd.conf")], stdout=subprocess.DEVNULL)
    try:
        for _ in range(200):
            if (folder / "socket").exists():
                break
            assert process.poll() is None, (folder / "log").read_text()
            time.sleep(0.1)
        yield {"unix": f"unix:{folder}/socket", "tcp": f"tcp://127.0.0.1:{port}"}
    finally:
        process.kill()
        process.wait(10)
        shutil.rmtree(folder)


def verdict(message: Opened) -> tuple[str, str]:
    sender = judge_sender(message, ROSTER, "huifang@hq.example")
    return sender.verdict, sender.reason


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_an_infected_message_is_quarantined_unopened_and_the_next_is_read(
    clamd: dict[str, str], tmp_path: Path, kind: str
) -> None:
    bad, good = opened(tmp_path, letter(("a.bin", MARK)), letter(("a.xlsx", encrypted(SHEET))), clamd=clamd[kind])
    assert verdict(bad) == ("quarantined", "infected")
    assert (list(bad.files), bad.subject) == ([], "")
    assert accepted(good) == [17]


def test_what_is_under_our_lock_is_scanned_when_it_is_unlocked(clamd: dict[str, str], tmp_path: Path) -> None:
    packed = [
        ("a.xlsx", encrypted(bombed("docProps/app.xml", MARK))),
        ("a.zip", zipped(("a.bin", MARK), password="last year's")),
        ("a.7z", seven_zipped(("a.bin", MARK), password="last year's")),
        ("b.zip", zipped(("a.bin", MARK), password="somebody else's")),
    ]
    found = opened(tmp_path, *(letter(one) for one in packed), clamd=clamd["unix"])
    assert [verdict(message) for message in found] == [("quarantined", "infected")] * 3 + [("ok", "")]
    assert [book.error for book in found[3].workbooks] == ["wrong_password"], "what nobody can open harms nobody"


def test_a_message_larger_than_clamd_takes_is_quarantined_with_that_reason(
    clamd: dict[str, str], tmp_path: Path
) -> None:
    large, small = opened(
        tmp_path, letter(("a.wav", os.urandom(9 << 20))), letter(("a.xlsx", SHEET)), clamd=clamd["unix"]
    )
    assert verdict(large) == ("quarantined", "unscannable")
    assert accepted(small) == [17]


def test_while_clamd_is_down_a_message_is_held(tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        for address in (f"unix:{tmp_path}/none", f"tcp://127.0.0.1:{nobody.getsockname()[1]}"):
            (message,) = opened(tmp_path, letter(("a.xlsx", SHEET)), clamd=address)
            assert verdict(message) == ("held", "unscanned")


@pytest.mark.parametrize("address", ["127.0.0.1:3310", "tcp://127.0.0.1", "unix:relative", "http://x:1"])
def test_an_address_that_is_none_of_clamds_is_refused(tmp_path: Path, address: str) -> None:
    with pytest.raises(ValidationError, match="clamd"):
        Settings(home=tmp_path, clamd=address)
