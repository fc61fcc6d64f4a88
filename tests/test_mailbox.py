"""Returns are fetched once from where they lie, and what strangers send costs one message at most."""

from __future__ import annotations

import base64
import io
import os
import shutil
import ssl
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from imapclient import IMAPClient
from letters import BOMBS, BRANCH, FORMULA, HARMLESS, KEY, SHEET, accepted, encrypted, letter, opened, settings_for

from bench.imap_server import DOVECOT, Dovecot, deliver
from models.row_code import row_code
from tasks.mailbox import (
    ConnectionLost,
    Decided,
    Destination,
    Letter,
    Mailbox,
    MailboxError,
    open_mailbox,
    open_messages,
    spool,
)
from tasks.settings import PROJECT, Settings

# ---- what is opened


def test_a_sheet_is_read_in_clear_and_encrypted_with_its_formulas_and_who_sent_it(tmp_path: Path) -> None:
    clear, locked = opened(tmp_path, letter(("回访.xlsx", SHEET)), letter(("回访.xlsx", encrypted(SHEET))))
    for message in (clear, locked):
        assert (message.from_headers, list(message.from_addresses), list(message.from_defects)) == (1, [BRANCH], [])
        assert message.subject == "回访结果"
        assert [book.name for book in message.workbooks] == ["回访.xlsx"]
        assert FORMULA in message.workbooks[0].sheets[1].formulas
        assert accepted(message) == [17]
    assert [message.workbooks[0].was_encrypted for message in (clear, locked)] == [False, True]


def test_a_sheet_locked_with_a_strangers_password_is_told_so(tmp_path: Path) -> None:
    wrong, stranger = opened(
        tmp_path,
        letter(("a.xlsx", encrypted(SHEET, "?"))),
        letter(("a.xlsx", encrypted(SHEET)), sender="x@evil.example"),
    )
    assert [message.workbooks[0].error for message in (wrong, stranger)] == ["wrong_password"] * 2


def test_a_flipped_bit_in_an_encrypted_sheet_is_not_read(tmp_path: Path) -> None:
    content = bytearray(encrypted(SHEET))
    content[len(content) // 2] ^= 1
    assert opened(tmp_path, letter(("a.xlsx", bytes(content))))[0].workbooks[0].error == "unreadable"


def test_every_attachment_is_kept_even_unnamed_inline_nested_and_zipped(tmp_path: Path) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as members:
        members.writestr("回访登记表.xlsx", SHEET)
        members.writestr("录音.mp3", b"ID3" + bytes(100))
    outer = letter(("全部.zip", archive.getvalue()))
    outer.add_attachment(b"\x89PNG", maintype="image", subtype="png", disposition="inline")
    outer.add_attachment(letter(("旧表.xlsx", SHEET)))
    (message,) = opened(tmp_path, outer)
    assert [file.name for file in message.files] == ["全部.zip", "回访登记表.xlsx", "录音.mp3", "", "旧表.xlsx"]
    assert [(book.name, book.depth) for book in message.workbooks] == [("回访登记表.xlsx", 0), ("旧表.xlsx", 1)]
    for file in message.files:
        assert Path(file.path).stat().st_size == file.size_bytes


def test_gb_bytes_behind_a_gb2312_label_keep_their_characters(tmp_path: Path) -> None:
    name = "朱镕基.csv".encode("gbk")
    text = f"任务编码,客户姓名\n{row_code('assignment', 17, KEY)},朱镕基\n".encode("gbk")
    raw = (
        b"From: b0101@branch.example\r\nSubject: =?gb2312?B?" + base64.b64encode("朱镕基".encode("gbk")) + b"?=\r\n"
        b"MIME-Version: 1.0\r\n"
        b'Content-Type: text/csv; name="' + name + b'"\r\nContent-Disposition: attachment\r\n\r\n' + text
    )
    (message,) = opened(tmp_path, raw)
    assert message.subject == "朱镕基"
    assert message.workbooks[0].name == "朱镕基.csv"
    assert message.workbooks[0].sheets[0].rows[1][1] == "朱镕基"


def test_a_forged_display_name_and_a_second_from_are_reported(tmp_path: Path) -> None:
    forged, double = opened(
        tmp_path,
        b"From: b0101@branch.example <x@evil.example>\r\n\r\nhi",
        b"From: b0101@branch.example\r\nFrom: x@evil.example\r\n\r\nhi",
    )
    assert forged.from_defects
    assert double.from_headers == 2


def test_a_cut_off_message_is_reported_as_truncated(tmp_path: Path) -> None:
    whole = bytes(letter(("a.xlsx", SHEET)))
    (message,) = opened(tmp_path, whole[: len(whole) // 2])
    assert "CloseBoundaryNotFoundDefect" in message.defects
    assert accepted(message) == []


SOFFICE = shutil.which("soffice")


@pytest.mark.skipif(SOFFICE is None, reason="no LibreOffice on this machine (apt install libreoffice-calc)")
def test_a_sheet_saved_by_libreoffice_in_four_formats_still_counts(tmp_path: Path) -> None:
    (tmp_path / "a.xlsx").write_bytes(SHEET)
    csv_of_second_sheet = "csv:Text - txt - csv (StarCalc):44,34,76,1,,0,false,true,false,false,false,2"
    for kind in ("ods", "xls", csv_of_second_sheet):
        subprocess.run(
            [
                str(SOFFICE),
                f"-env:UserInstallation=file://{tmp_path}/office",
                "--headless",
                "--convert-to",
                kind,
                "a.xlsx",
            ],
            cwd=tmp_path,
            capture_output=True,
            timeout=120,
            check=True,
        )
    (tmp_path / "again").mkdir()
    subprocess.run(
        [
            str(SOFFICE),
            f"-env:UserInstallation=file://{tmp_path}/office",
            "--headless",
            "--convert-to",
            "xlsx",
            "--outdir",
            "again",
            "a.ods",
        ],
        cwd=tmp_path,
        capture_output=True,
        timeout=120,
        check=True,
    )
    saved = [tmp_path / "a.ods", tmp_path / "a.xls", *tmp_path.glob("a*.csv"), tmp_path / "again" / "a.xlsx"]
    found = opened(tmp_path, *(letter((path.name, path.read_bytes())) for path in saved))
    assert [accepted(message) for message in found] == [[17]] * 4
    formulas = [any(FORMULA in sheet.formulas for sheet in message.workbooks[0].sheets) for message in found]
    assert formulas == [True, False, False, True], "xls and csv do not tell"


def test_one_child_reads_encrypted_sheets_beyond_its_first_seconds_of_work(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = opened(tmp_path, *[letter(("a.xlsx", encrypted(SHEET)))] * 6)
    assert [accepted(message) for message in found] == [[17]] * 6
    assert caplog.records == [], "no child had to be replaced"


# ---- bombs


def test_a_bomb_costs_its_own_message_only(tmp_path: Path) -> None:
    honest = letter(("a.xlsx", SHEET))
    mails = [message for bomb in BOMBS.values() for message in (letter(("b.xlsx", bomb)), honest)]
    found = opened(tmp_path, *mails)
    assert len(found) == len(mails)
    assert [accepted(message) for message in found[1::2]] == [[17]] * len(BOMBS)
    for name, message in zip(BOMBS, found[::2], strict=True):
        assert accepted(message) == [], name
        assert message.error or [book.error for book in message.workbooks] in (["too_large"], ["unreadable"]), name


def test_what_hangs_other_readers_is_read(tmp_path: Path) -> None:
    for message in opened(tmp_path, *(letter(("b.xlsx", content)) for content in HARMLESS.values())):
        assert [book.error for book in message.workbooks] == [""]


def test_a_message_that_takes_too_long_is_given_up_and_the_next_is_read(tmp_path: Path) -> None:
    fifo = tmp_path / "slow.eml"
    os.mkfifo(fifo)
    good = tmp_path / "good.eml"
    good.write_bytes(bytes(letter(("a.xlsx", SHEET))))
    slow, read = open_messages([fifo, good], {}, settings_for(tmp_path), timeout_seconds=5)
    assert (slow.error, slow.sha256) == ("timeout", "slow")
    assert accepted(read) == [17]


def test_the_child_starts_without_pandas_and_prefect() -> None:
    code = "import sys, tasks.sandbox; print({'pandas', 'prefect', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.stdout == "set()\n"


def test_a_child_that_dies_is_replaced(tmp_path: Path) -> None:
    gone, good = tmp_path / "gone.eml", tmp_path / "good.eml"
    good.write_bytes(bytes(letter(("a.xlsx", SHEET))))
    lost, read = open_messages([gone, good], {}, settings_for(tmp_path))
    assert lost.error == "unreadable"
    assert accepted(read) == [17]


@hypothesis_settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=40), min_size=10, max_size=10))
def test_mutated_messages_are_all_reported(tmp_path: Path, mutations: list[list[tuple[float, int]]]) -> None:
    mails = []
    for changes in mutations:
        raw = bytearray(bytes(letter(("回访.xlsx", SHEET))))
        for place, value in changes:
            raw[int(place * (len(raw) - 1))] = value
        mails.append(bytes(raw))
    assert len(opened(tmp_path, *mails)) == len(mails)


# ---- where returns lie


def test_a_maildir_is_emptied_into_its_subfolders_and_nothing_is_deleted(tmp_path: Path) -> None:
    deliver(tmp_path / "mail", letter(subject="一"), letter(subject="二"), letter(subject="三"))
    settings = settings_for(tmp_path, returns_url=f"maildir:{tmp_path / 'mail'}")
    box = open_mailbox(settings)
    first, second, third = box.letters()
    stored = spool(box, first, settings.spool)
    assert stored.path.read_bytes() == letter(subject="一").as_bytes()
    assert spool(box, first, settings.spool) == stored, "a second call finds the same file"
    assert [path.name for path in settings.spool.iterdir()] == [f"{stored.sha256}.eml"]
    for message, folder in ((first, "Processed"), (second, "Rejected"), (third, "Quarantine")):
        box.move(message, folder)  # type: ignore[arg-type]
    box.move(first, "Processed")
    assert list(box.letters()) == []
    kept = {
        folder: len(list((tmp_path / "mail" / f".{folder}" / "cur").iterdir()))
        for folder in ("Processed", "Rejected", "Quarantine")
    }
    assert kept == {"Processed": 1, "Rejected": 1, "Quarantine": 1}
    box.close()


def put_aside(box: Mailbox, settings: Settings, *folders: Destination) -> list[Decided]:
    """Every letter put into Quarantine, and where a person then says that the first ones go."""
    lying = list(box.letters())
    kept = [spool(box, found, settings.spool) for found in lying]
    for found in lying:
        box.move(found, "Quarantine")
    decided = zip(lying, kept, folders, strict=False)
    return [Decided(found, one.sha256, one.size_bytes, folder) for found, one, folder in decided]


def test_what_a_person_decided_about_leaves_quarantine_and_the_rest_stays(tmp_path: Path) -> None:
    root = tmp_path / "mail"
    deliver(root, letter(subject="一"), letter(subject="二"), letter(subject="三"))
    settings = settings_for(tmp_path, returns_url=f"maildir:{root}")
    box = open_mailbox(settings)
    decided = put_aside(box, settings, "Processed", "Rejected")
    for path in (root / ".Quarantine" / "cur").iterdir():
        path.rename(path.with_name(path.name.replace(":2,S", ":2,RS")))  # somebody answered it in his mail program
    before = box.count_moved()
    for _ in range(2):
        box.clear_quarantine(decided)
        lying = {folder: len(list((root / f".{folder}" / "cur").iterdir())) for folder in ("Processed", "Rejected")}
        assert lying == {"Processed": 1, "Rejected": 1}
        assert len(list((root / ".Quarantine" / "cur").iterdir())) == 1
        assert box.count_moved() == before == 3
    box.clear_quarantine([])
    box.close()


def test_a_folder_of_letters_tells_those_in_quarantine_by_what_they_hold(tmp_path: Path) -> None:
    drop = tmp_path / "drop"
    drop.mkdir()
    settings = settings_for(tmp_path, returns_url=f"file:{drop}")
    box = open_mailbox(settings)
    decided = []
    for subject, folder in (("一", "Processed"), ("二", "Rejected"), ("三", "Quarantine")):
        (drop / "a.eml").write_bytes(letter(subject=subject).as_bytes())
        decided += put_aside(box, settings, folder)  # type: ignore[arg-type]
    for _ in range(2):
        box.clear_quarantine(decided[:2])
        assert [letter(subject="二").as_bytes()] == [path.read_bytes() for path in (drop / "Rejected").iterdir()]
        assert [letter(subject="三").as_bytes()] == [path.read_bytes() for path in (drop / "Quarantine").iterdir()]
        assert box.count_moved() == 3


def test_letters_come_in_the_order_of_arrival_whatever_their_files_are_called(tmp_path: Path) -> None:
    new = tmp_path / "maildir" / "new"
    deliver(tmp_path / "maildir", letter(subject="one"), letter(subject="two"))
    first, second = sorted(new.iterdir())
    os.utime(first, (2_000_000_000, 2_000_000_000))
    os.utime(second, (1_900_000_000, 1_900_000_000))
    box = open_mailbox(settings_for(tmp_path / "home", returns_url=f"maildir:{tmp_path / 'maildir'}"))
    assert [found.uid for found in box.letters()] == [second.name, first.name]
    box.close()


def test_links_and_folders_among_the_letters_are_left_where_they_lie(tmp_path: Path) -> None:
    new = tmp_path / "maildir" / "new"
    deliver(tmp_path / "maildir", letter())
    (tmp_path / "secret").write_text("hush")
    (new / "0000.dangling").symlink_to(tmp_path / "nowhere")
    (new / "0001.link").symlink_to(tmp_path / "secret")
    (new / "0002.folder").mkdir()
    box = open_mailbox(settings_for(tmp_path / "home", returns_url=f"maildir:{tmp_path / 'maildir'}"))
    assert len(list(box.letters())) == 1
    box.close()


def test_control_signs_do_not_get_out_of_the_sandbox(tmp_path: Path) -> None:
    (message,) = opened(tmp_path, letter(("a.csv", "任务编码,情况说明\nx,a\0b\x1b[31m红\n".encode())))
    (table,) = message.workbooks[0].sheets
    assert table.rows[1] == ["x", "ab[31m红"]


def test_a_file_called_workbook_that_is_none_is_said_to_be_unsupported(tmp_path: Path) -> None:
    (message,) = opened(tmp_path, letter(("登记表.xls", b"<html><table></table></html>"), ("a.xlsx", b"MZ\x90")))
    assert [book.error for book in message.workbooks] == ["unsupported", "unsupported"]


def test_a_drop_folder_keeps_two_files_of_the_same_name(tmp_path: Path) -> None:
    drop = tmp_path / "drop"
    drop.mkdir()
    box = open_mailbox(settings_for(tmp_path, returns_url=f"file:{drop}"))
    for subject in ("一", "二"):
        (drop / "a.eml").write_bytes(letter(subject=subject).as_bytes())
        (message,) = box.letters()
        box.move(message, "Processed")
    assert len(list((drop / "Processed").iterdir())) == 2


def test_a_letter_that_is_gone_leaves_nothing_in_the_spool(tmp_path: Path) -> None:
    deliver(tmp_path / "mail", letter())
    settings = settings_for(tmp_path, returns_url=f"maildir:{tmp_path / 'mail'}")
    box = open_mailbox(settings)
    (message,) = box.letters()
    box.move(message, "Processed")
    with pytest.raises(MailboxError, match="gone"):
        spool(box, message, settings.spool)
    assert list(settings.spool.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("pop3://x", "pop3: is no kind"),
        ("file:/nowhere/at/all", "no such folder"),
        ("imaps://host/INBOX", "user or host is missing"),
        ("imaps://u:secret@host/INBOX", "holds a password"),
        ("imaps://u@host/INBOX", "HUIFANG_RETURNS_PASSWORD_FILE is not set"),
    ],
)
def test_a_wrong_mailbox_url_says_what_to_write(tmp_path: Path, url: str, words: str) -> None:
    with pytest.raises(MailboxError, match=words) as error:
        open_mailbox(settings_for(tmp_path, returns_url=url))
    assert "secret" not in str(error.value)


# ---- IMAP, against a real Dovecot

def settings_of(server: Dovecot, home: Path, folder: str = "INBOX", **more: Any) -> Settings:
    given = {"returns_password_file": server.password_file, "returns_ca_file": server.folder / "ca.pem"}
    return settings_for(home, returns_url=f"{server.url}/{folder}", **given | more)


@pytest.fixture
def server_folder() -> Iterator[Path]:
    # Below pytest's own folder no other user may look, and a socket's path must be short.
    folder = Path(subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True).stdout.strip())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def dovecot(server_folder: Path) -> Iterator[Dovecot]:
    if DOVECOT is None:
        pytest.skip("no dovecot on this machine (apt install dovecot-imapd)")
    server = Dovecot(server_folder)
    yield server
    server.stop()


def test_imap_gives_the_bytes_that_came_and_moves_each_letter(dovecot: Dovecot, tmp_path: Path) -> None:
    big = letter(("录音.mp3", os.urandom(3 << 20)), subject="大")
    dovecot.deliver(letter(subject="一"), big, letter(subject="三"))
    settings = settings_of(dovecot, tmp_path)
    box = open_mailbox(settings)
    letters = list(box.letters())
    assert len({message.uid_validity for message in letters}) == 1
    sizes = [spool(box, message, settings.spool).size_bytes for message in letters]
    assert sizes[1] > 3 << 20
    for message, folder in zip(letters, ("Processed", "Rejected", "Quarantine"), strict=True):
        box.move(message, folder)  # type: ignore[arg-type]
    box.move(letters[0], "Processed")
    assert list(box.letters()) == []
    box.close()
    for folder in ("Processed", "Rejected", "Quarantine"):
        moved = open_mailbox(settings_of(dovecot, tmp_path, folder))
        assert len(list(moved.letters())) == 1
        moved.close()
    found = {message.subject for message in open_messages(sorted(settings.spool.glob("*.eml")), {}, settings)}
    assert found == {"一", "大", "三"}


def test_imap_tells_messages_in_quarantine_by_what_they_hold(dovecot: Dovecot, tmp_path: Path) -> None:
    same = [letter(subject=subject) for subject in ("一", "二", "三")]
    dovecot.deliver(*same, letter(("录音.mp3", os.urandom(3 << 20)), subject="大"))
    settings = settings_of(dovecot, tmp_path)
    box = open_mailbox(settings)
    decided = put_aside(box, settings, "Processed", "Rejected")
    assert len({found.size_bytes for found in decided}) == 1, "only what they hold tells these apart"
    for _ in range(2):
        box.clear_quarantine(decided)
        assert box.count_moved() == 4
    box.close()
    lying = {}
    with connected(dovecot) as client:
        for folder in ("Processed", "Rejected", "Quarantine"):
            client.select_folder(folder)
            lying[folder] = len(client.search())
    assert lying == {"Processed": 1, "Rejected": 1, "Quarantine": 2}


def make_folder(dovecot: Dovecot, name: str) -> None:
    with connected(dovecot) as client:
        client.create_folder(name)


@contextmanager
def connected(dovecot: Dovecot) -> Iterator[IMAPClient]:
    context = ssl.create_default_context(cafile=str(dovecot.folder / "ca.pem"))
    with IMAPClient("localhost", port=dovecot.port, ssl_context=context) as client:
        client.login("collector", "geheim")
        yield client


def test_imap_takes_several_folders_and_knows_when_one_was_made_anew(dovecot: Dovecot, tmp_path: Path) -> None:
    name = "其他文件夹/回访, 三月"
    make_folder(dovecot, name)
    settings = settings_of(dovecot, tmp_path, f"INBOX,{quote(name, safe='')}")
    with connected(dovecot) as client:
        for folder, subject in (("INBOX", "一"), (name, "二"), (name, "三")):
            client.append(folder, letter(subject=subject).as_bytes())
        box = open_mailbox(settings)
        letters = list(box.letters())
        assert [found.folder for found in letters] == ["INBOX", name, name]
        for found in reversed(letters):
            spool(box, found, settings.spool)
        box.move(letters[1], "Processed")
        box.move(letters[0], "Rejected")
        assert (box.count_moved(), len(list(box.letters()))) == (2, 1)
        box.close()
        assert {path.read_bytes().count(b"Subject") for path in settings.spool.glob("*.eml")} == {1}
        client.delete_folder(name)
        client.create_folder(name)
        client.append(name, letter(subject="四").as_bytes())
    box = open_mailbox(settings)
    (new,) = box.letters()
    assert new.uid_validity != letters[2].uid_validity
    with pytest.raises(MailboxError, match="made anew"):
        spool(box, letters[2], settings.spool)
    with pytest.raises(MailboxError, match="made anew"):
        box.move(letters[2], "Processed")
    spool(box, new, settings.spool)
    box.close()


def test_a_server_killed_in_the_middle_of_a_message_leaves_nothing_half_fetched(
    dovecot: Dovecot, tmp_path: Path
) -> None:
    dovecot.deliver(letter(("录音.mp3", os.urandom(3 << 20))))
    settings = settings_of(dovecot, tmp_path)
    box = open_mailbox(settings)
    (found,) = box.letters()

    class Cut:
        """The mailbox, on a server that dies after the first block."""

        def fetch(self, which: Letter, to: BinaryIO) -> None:
            class Killing(io.BytesIO):
                def write(self, block: Any) -> int:
                    dovecot.stop()
                    return to.write(block)

            box.fetch(which, Killing())

    with pytest.raises(ConnectionLost, match="localhost"):
        spool(Cut(), found, settings.spool)  # type: ignore[arg-type]
    assert list(settings.spool.iterdir()) == []
    box.close()


FETCH = """
import resource, sys
from pathlib import Path
from tasks.mailbox import open_mailbox, spool
from tasks.settings import Settings
box = open_mailbox(Settings())
(found,) = box.letters()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
size = spool(box, found, Path(sys.argv[1])).size_bytes
print(size >> 20, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


def test_a_message_of_fifty_megabytes_is_fetched_in_slices(dovecot: Dovecot, tmp_path: Path) -> None:
    dovecot.deliver(letter(("录音.wav", os.urandom(37 << 20))))
    given = settings_of(dovecot, tmp_path)
    environment = {
        **os.environ, "HUIFANG_HOME": str(tmp_path), "HUIFANG_RETURNS_URL": given.returns_url,
        "HUIFANG_RETURNS_PASSWORD_FILE": str(given.returns_password_file),
        "HUIFANG_RETURNS_CA_FILE": str(given.returns_ca_file),
    }  # fmt: skip
    command = [sys.executable, "-c", FETCH, str(tmp_path / "spool")]
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=True)
    size, grown = map(int, done.stdout.split())
    assert size >= 50
    assert grown < 50, "megabytes of memory"


def test_a_server_with_an_unknown_ca_or_a_wrong_password_is_refused(dovecot: Dovecot, tmp_path: Path) -> None:
    with pytest.raises(MailboxError, match="CERTIFICATE_VERIFY_FAILED"):
        open_mailbox(settings_of(dovecot, tmp_path, returns_ca_file=None))
    wrong = tmp_path / "wrong"
    wrong.write_text("nein", encoding="utf-8")
    with pytest.raises(MailboxError, match="check user, password"):
        open_mailbox(settings_of(dovecot, tmp_path, returns_password_file=wrong))
    with pytest.raises(MailboxError, match="check user, password and folder"):
        open_mailbox(settings_of(dovecot, tmp_path, "Nowhere"))


@pytest.mark.skipif(DOVECOT is None, reason="no dovecot on this machine (apt install dovecot-imapd)")
def test_a_server_with_a_certificate_for_another_host_is_refused(server_folder: Path, tmp_path: Path) -> None:
    server = Dovecot(server_folder, host="mx.evil.example")
    try:
        with pytest.raises(MailboxError, match="CERTIFICATE_VERIFY_FAILED"):
            open_mailbox(settings_of(server, tmp_path))
    finally:
        server.stop()
    assert ssl.create_default_context().check_hostname


def test_a_server_that_goes_away_is_an_error_with_the_place_and_loses_nothing(dovecot: Dovecot, tmp_path: Path) -> None:
    dovecot.deliver(letter())
    settings = settings_of(dovecot, tmp_path)
    box = open_mailbox(settings)
    (message,) = box.letters()
    dovecot.stop()
    with pytest.raises(MailboxError, match="localhost"):
        spool(box, message, settings.spool)
    box.close()
    assert list(settings.spool.iterdir()) == []
    assert len(list((dovecot.maildir / "cur").iterdir())) + len(list((dovecot.maildir / "new").iterdir())) == 1
