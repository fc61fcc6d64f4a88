"""A file put into a branch's folder is a return of that branch, once it is whole; whoever may write there is believed."""

from __future__ import annotations

import email
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
from house import House, at
from letters import PASSWORD, SHEET, accepted, encrypted, letter, settings_for

from models.returns import Opened
from tasks.mailbox import Decided, DropMailbox, Letter, MailboxError, mailboxes, open_messages, spool
from tasks.settings import Settings


@pytest.fixture
def drop(tmp_path: Path) -> Path:
    folder = tmp_path / "drop"
    for branch in ("0101", "0202"):
        (folder / branch).mkdir(parents=True)
    return folder


def settings_with(drop: Path, **more: Any) -> Settings:
    return settings_for(drop.parent / "home", drop=drop, **{"drop_quiet_seconds": 0} | more)


def lying(settings: Settings) -> list[tuple[str, str]]:
    """Branch and name of what would be taken."""
    return sorted((found.folder, found.uid.partition(".")[2]) for found in DropMailbox(settings).letters())


def taken(settings: Settings) -> list[tuple[Letter, Opened]]:
    box = DropMailbox(settings)
    found = []
    for one in box.letters():
        path = spool(box, one, settings.spool).path
        (message,) = open_messages([path], {}, settings, own={path: [PASSWORD]})
        found.append((one, message))
    return found


def test_a_file_is_the_return_of_the_branch_whose_folder_it_lies_in(drop: Path) -> None:
    (drop / "0101" / "回访登记表.xlsx").write_bytes(encrypted(SHEET))
    (drop / "0202" / "转发.eml").write_bytes(bytes(letter(("a.xlsx", SHEET), sender="x@evil.example")))
    settings = settings_with(drop)
    (first, sheet), (second, mail) = taken(settings)
    assert (first.source, first.folder, second.folder) == ("drop:drop", "0101", "0202")
    assert [book.name for book in sheet.workbooks] == ["回访登记表.xlsx"]
    assert accepted(sheet) == accepted(mail) == [17]
    assert list(sheet.from_addresses) == list(mail.from_addresses) == [], "nothing inside says who sent it"
    box = DropMailbox(settings)
    box.move(first, "Processed")
    box.move(second, "Quarantine")
    box.move(second, "Quarantine")
    assert lying(settings) == []
    assert box.count_moved() == 2
    assert (drop / "0101" / "Processed" / "回访登记表.xlsx").is_file()


def test_a_file_is_taken_when_it_is_whole(drop: Path) -> None:
    folder = drop / "0101"
    for name in ("a.xlsx", "b.xlsx.part", "c.xlsx.filepart", ".d.xlsx", "~$a.xlsx"):
        (folder / name).write_bytes(SHEET)
    os.utime(folder / "a.xlsx", (0, 0))  # SFTP may keep the time the file had at the branch
    assert lying(settings_with(drop, drop_quiet_seconds=60)) == []
    assert lying(settings_with(drop)) == [("0101", "a.xlsx")]
    assert lying(settings_with(drop, drop_marker=".ok")) == []
    (folder / "a.xlsx.ok").touch()
    marked = settings_with(drop, drop_marker=".ok", drop_quiet_seconds=60)
    assert lying(marked) == [("0101", "a.xlsx")]
    box = DropMailbox(marked)
    (found,) = box.letters()
    box.move(found, "Processed")
    assert {path.name for path in (folder / "Processed").iterdir()} == {"a.xlsx", "a.xlsx.ok"}
    assert box.count_moved() == 1


def test_a_file_that_changes_while_it_is_read_is_left_to_the_next_run(drop: Path) -> None:
    path = drop / "0101" / "a.xlsx"
    path.write_bytes(SHEET[:500])
    settings = settings_with(drop)
    box = DropMailbox(settings)
    (found,) = box.letters()
    path.write_bytes(SHEET)
    with pytest.raises(MailboxError, match="changed while it was read"):
        spool(box, found, settings.spool)
    box.move(found, "Processed")
    assert list(settings.spool.iterdir()) == []
    assert path.exists(), "what was not read is not put away"
    assert [accepted(message) for _, message in taken(settings)] == [[17]]


def test_the_same_bytes_from_two_branches_are_two_returns_and_the_same_name_later_is_another(drop: Path) -> None:
    settings = settings_with(drop)
    for branch in ("0101", "0202"):
        (drop / branch / "a.xlsx").write_bytes(SHEET)
    box = DropMailbox(settings)
    first, second = (spool(box, found, settings.spool).sha256 for found in box.letters())
    assert first != second
    (before, _) = box.letters()
    box.move(before, "Processed")
    time.sleep(0.01)
    (drop / "0101" / "a.xlsx").write_bytes(SHEET)
    after = next(found for found in box.letters() if found.folder == "0101")
    assert after != before
    assert spool(box, after, settings.spool).sha256 == first, "the same upload again is the same return"
    box.move(after, "Processed")
    assert {path.name for path in (drop / "0101" / "Processed").iterdir()} == {"a.xlsx", "a.2.xlsx"}


def test_an_upload_that_was_decided_about_leaves_quarantine_with_its_marker(drop: Path) -> None:
    for branch in ("0101", "0202"):
        (drop / branch / "a.xlsx").write_bytes(SHEET)
        (drop / branch / "a.xlsx.ok").touch()
    (drop / "0101" / "Quarantine").mkdir()
    (drop / "0101" / "Quarantine" / "a.xlsx").write_bytes(SHEET)  # of another month, under the same name
    settings = settings_with(drop, drop_marker=".ok")
    box = DropMailbox(settings)
    letters = list(box.letters())
    for found in letters:
        box.move(found, "Quarantine")
    decided = [Decided(found, "", 0, "Processed") for found in letters if found.folder == "0101"]
    for _ in range(2):
        box.clear_quarantine(decided)
        assert {path.name for path in (drop / "0101" / "Processed").iterdir()} == {"a.2.xlsx", "a.2.xlsx.ok"}
        assert {path.name for path in (drop / "0101" / "Quarantine").iterdir()} == {"a.xlsx"}
        assert {path.name for path in (drop / "0202" / "Quarantine").iterdir()} == {"a.xlsx", "a.xlsx.ok"}
        assert box.count_moved() == 3


def test_a_link_in_the_place_of_quarantine_is_not_followed(drop: Path) -> None:
    path, private = drop / "0101" / "a.xlsx", drop.parent / "private"
    path.write_bytes(SHEET)
    box = DropMailbox(settings_with(drop))
    (found,) = box.letters()
    private.mkdir()
    path.rename(private / "a.xlsx")
    (drop / "0101" / "Quarantine").symlink_to(private)
    box.clear_quarantine([Decided(found, "", 0, "Processed")])
    assert [path.name for path in private.iterdir()] == ["a.xlsx"]


def test_links_and_files_of_no_branch_are_left_where_they_lie(drop: Path, caplog: pytest.LogCaptureFixture) -> None:
    (drop / "secret").write_text("hush", encoding="utf-8")
    (drop / "0101" / "a.xlsx").symlink_to(drop / "secret")
    (drop / "0303").symlink_to(drop / "0101")
    os.mkfifo(drop / "0101" / "b.xlsx")
    settings = settings_with(drop)
    assert lying(settings) == []
    assert {record.levelname for record in caplog.records} == {"WARNING"}
    (drop / "0202" / "c.xlsx").write_bytes(SHEET)
    box = DropMailbox(settings)
    (found,) = box.letters()
    (drop / "0202" / "c.xlsx").unlink()
    (drop / "0202" / "c.xlsx").symlink_to(drop / "secret")
    with pytest.raises(MailboxError, match=r"c\.xlsx"):
        spool(box, found, settings.spool)


def test_a_link_in_the_place_of_processed_leads_nowhere(drop: Path) -> None:
    (drop / "0101" / "authorized_keys").write_bytes(SHEET)
    (drop / "private").mkdir()
    (drop / "0101" / "Processed").symlink_to(drop / "private")
    box = DropMailbox(settings_with(drop))
    (found,) = box.letters()
    with pytest.raises(MailboxError, match="to Processed"):
        box.move(found, "Processed")
    assert list((drop / "private").iterdir()) == []


def test_by_name_the_branch_stands_before_the_first_underline(drop: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("0101_回访登记表.xlsx", "回访登记表.xlsx"):
        (drop / name).write_bytes(SHEET)
    settings = settings_with(drop, drop_by="name")
    assert lying(settings) == [("0101", "0101_回访登记表.xlsx")]
    assert "does not begin with BRANCH_" in caplog.text
    box = DropMailbox(settings)
    (found,) = box.letters()
    box.move(found, "Rejected")
    assert [path.name for path in (drop / "Rejected").iterdir()] == ["0101_回访登记表.xlsx"]


def test_a_drop_folder_that_is_not_there_says_so(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, drop=tmp_path / "nowhere")
    with pytest.raises(MailboxError, match="HUIFANG_DROP"), mailboxes(settings):
        pass


# ---- collected


@pytest.fixture(scope="module")
def returned(prefect_client: str, tmp_path_factory: pytest.TempPathFactory) -> House:
    """A month whose lists came back by mail, not collected yet."""
    house = House.build(tmp_path_factory.mktemp("house") / "home", prefect_client, customers=600, branches=6)
    house.pull()
    house.draw("daily_risk")
    house.call("run", "dispatch", *at("2026-03-02"))
    house.answer("2026-03-20")
    return house


def uploads(house: House, drop: Path) -> dict[str, str]:
    """Every locked workbook a director mailed, put into the folder of the branch instead: verdicts to expect, by branch."""
    expected = {}
    for path in sorted((house.home / "maildir" / "new").iterdir()):
        mail = email.message_from_bytes(path.read_bytes())
        found = re.search(r"director\.(\d{4})@branch", str(mail["From"]))
        books = [part for part in mail.walk() if (part.get_filename() or "").endswith(".xlsx")]
        path.unlink()
        if found and books:
            expected[found[1]] = books[0].get_payload(decode=True)
    for branch, content in expected.items():
        (drop / branch).mkdir(parents=True, exist_ok=True)
        (drop / branch / "回访登记表.xlsx").write_bytes(content)
    return expected


def counts_of(house: House, day: str) -> dict[str, int]:
    shown = re.findall(r"(\w+)\W+(\d+)", house.call("run", "collect", *at(day)).output)
    return {name: int(number) for name, number in shown}


@pytest.mark.slow
def test_collect_believes_the_folder_puts_the_file_away_and_answers_to_the_registered_address(
    returned: House, tmp_path: Path
) -> None:
    drop = tmp_path / "drop"
    house = returned.copy(tmp_path / "home").having(HUIFANG_DROP=str(drop), HUIFANG_DROP_QUIET_SECONDS="0")
    branches = uploads(house, drop)
    assert len(branches) > 2
    (drop / "9999").mkdir()
    first = next(iter(branches))
    (drop / "9999" / "回访登记表.xlsx").write_bytes((drop / first / "回访登记表.xlsx").read_bytes())
    counts = counts_of(house, "2026-03-21")
    verdicts = dict(house.rows("select s.folder, v.verdict from verdict v join sighting s using (message_id)"))
    assert verdicts.pop("9999") == "quarantined"
    assert set(verdicts) == set(branches)
    assert set(verdicts.values()) <= {"accepted", "partly"}
    assert counts["receipts_sent"] == len(branches)
    assert counts["unreconciled"] == 0
    assert house.count("return_row") > 10
    assert (drop / "9999" / "Quarantine" / "回访登记表.xlsx").is_file()
    assert list((house.home / "spool" / "parts").iterdir()) == [], "no clear copy of what was taken apart stays behind"
    assert [path for path in drop.glob("*/*") if path.is_file()] == []
    again = counts_of(house, "2026-03-22")
    assert (again["seen"], again["unreconciled"]) == (0, 0)


@pytest.mark.slow
def test_a_letter_that_somebody_removes_is_missed_by_the_next_run(returned: House, tmp_path: Path) -> None:
    house = returned.copy(tmp_path / "home")
    assert counts_of(house, "2026-03-21")["unreconciled"] == 0
    next((house.home / "maildir" / ".Processed" / "cur").iterdir()).unlink()
    assert counts_of(house, "2026-03-22")["unreconciled"] == 1


@pytest.mark.slow
def test_while_the_scanner_is_down_returns_are_held_and_taken_when_it_is_back(returned: House, tmp_path: Path) -> None:
    house = returned.copy(tmp_path / "home")
    down = counts_of(house.having(HUIFANG_CLAMD=f"unix:{tmp_path}/none"), "2026-03-21")
    assert down["held"] == down["seen"] - down["duplicate"] > 0
    assert counts_of(house.having(HUIFANG_CLAMD=f"unix:{tmp_path}/none"), "2026-03-21")["held"] == down["held"]
    assert house.count("verdict") == down["held"], "waiting longer for the same is no news"
    assert down["unreconciled"] == 0
    back = counts_of(house, "2026-03-22")
    assert (back["held"], back["unreconciled"]) == (0, 0)
    assert house.count("return_row") > 10


@pytest.mark.slow
def test_what_a_person_released_stays_released_while_the_scanner_is_down(returned: House, tmp_path: Path) -> None:
    house = returned.copy(tmp_path / "home")
    inbox = house.home / "maildir" / "new"
    mails = {path: email.message_from_bytes(path.read_bytes()) for path in inbox.iterdir()}
    path, mail = next((path, mail) for path, mail in mails.items() if "director" in str(mail["From"]))
    branch = re.search(r"\d{4}", str(mail["From"]))[0]
    for other in mails:
        other.unlink()
    mail.replace_header("From", "home@elsewhere.example")
    path.write_bytes(mail.as_bytes())
    house.call("run", "collect", *at("2026-03-21"))
    house.call("quarantine", "release", "1", "--branch", branch, "--by", "Li Na", "--reason", "called back")
    house.having(HUIFANG_CLAMD=f"unix:{tmp_path}/none").call("run", "collect", *at("2026-03-22"))
    house.call("run", "collect", *at("2026-03-23"))
    verdicts = house.rows("select verdict, reason from verdict order by version")
    assert verdicts[:2] == [("quarantined", "unknown_sender"), ("held", "released")]
    assert (verdicts[-1][0], len(verdicts)) in (("accepted", 3), ("partly", 3))
