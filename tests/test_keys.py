"""The branches' keys are made, exchanged and printed, and stand nowhere but in their files and letters."""

import logging
import re
from datetime import UTC, datetime

import pytest
from house import House, at

from tasks.settings import Settings
from tasks.vault import (
    BranchKeyError,
    VaultError,
    begin_rotation,
    branch_keys,
    branch_password,
    branch_passwords,
    create_key,
    rotate_key,
    rotations,
    write_letter,
)

KEY = re.compile(r"(?:[2-9A-HJKMNP-Z]{4}-){4}[2-9A-HJKMNP-Z]{4}")
NOW = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path / "home")


def rotate(settings, branch="0101", reason="left"):
    return rotate_key(settings, branch, now=NOW, by="Li Na", reason=reason)


def test_a_key_has_98_bits_in_signs_that_cannot_be_confused_and_is_made_once(settings):
    assert create_key(settings, "0101")
    key = branch_password(settings, "0101")
    assert KEY.fullmatch(key)
    assert not create_key(settings, "0101")
    assert branch_password(settings, "0101") == key
    assert branch_password(settings, "0102") != key
    for path in (settings.keyring / "branches").iterdir():
        assert path.stat().st_mode & 0o077 == 0


def test_after_a_rotation_new_lists_have_the_new_key_and_older_ones_still_open(settings):
    first = branch_password(settings, "0101")
    assert rotate(settings) == 2
    second = branch_password(settings, "0101")
    assert rotate(settings, reason="lost, again") == 3
    third = branch_password(settings, "0101")
    assert len({first, second, third}) == 3
    assert branch_passwords(settings) == {"0101": [third, second, first]}
    assert [(key.branch_no, key.version, key.state) for key in branch_keys(settings, {"0102"})] == [
        ("0101", 3, "ok"), ("0102", 0, "missing"),
    ]  # fmt: skip
    assert [(r.version, r.by, r.reason) for r in rotations(settings)] == [
        (2, "Li Na", "left"),
        (3, "Li Na", "lost, again"),
    ]


def test_more_than_nine_versions_keep_their_order(settings):
    made = [branch_password(settings, "0101")]
    for _ in range(11):
        rotate(settings)
        made.insert(0, branch_password(settings, "0101"))
    assert branch_passwords(settings)["0101"] == made


def test_a_rotation_that_was_cut_short_is_finished_by_the_next_one(settings):
    first = branch_password(settings, "0101")
    folder = settings.keyring / "branches"
    (folder / "former").mkdir()
    (folder / "former" / "0101-1.key").write_text(first)
    assert begin_rotation(settings, "0101") == rotate(settings) == 2
    assert branch_passwords(settings)["0101"] == [branch_password(settings, "0101"), first]


@pytest.mark.parametrize("content", [b"", b" \n", b"\xff\xfe\x00", b"short", b"two lines of\nsomething", b"\x00" * 24])
def test_a_damaged_key_is_an_error_of_its_branch_alone_that_says_what_to_do(settings, content, caplog):
    branch_password(settings, "0101")
    whole = branch_password(settings, "0102")
    (settings.keyring / "branches" / "0101.key").write_bytes(content)
    with pytest.raises(BranchKeyError, match=r"branch 0101: .*0101\.key.*huifang keys rotate"):
        branch_password(settings, "0101")
    with caplog.at_level(logging.WARNING):
        assert branch_passwords(settings) == {"0102": [whole]}
    assert "branch 0101" in caplog.text
    assert [key.state for key in branch_keys(settings, set())] == ["damaged", "ok"]
    rotate(settings)
    assert KEY.fullmatch(branch_password(settings, "0101"))


@pytest.mark.parametrize("branch", ["../vault", "", "a/b", "0101.key"])
def test_a_branch_number_leads_nowhere_else(settings, branch):
    with pytest.raises(BranchKeyError, match="no branch number"):
        create_key(settings, branch)


@pytest.mark.parametrize("language", ["zh_CN", "en"])
def test_a_letter_shows_the_key_and_whose_it_is_and_takes_no_markup_from_a_name(tmp_path, language):
    settings = Settings(home=tmp_path / "home", language=language)
    key, page = branch_password(settings, "0101"), tmp_path / "letters" / "0101.html"
    write_letter(settings, "0101", "城东<script>营业部", page, on=NOW.date())
    words = page.read_text(encoding="utf-8")
    assert words.count(key) == 1
    assert "城东&lt;script&gt;营业部" in words
    assert ("口令函" in words) == (language == "zh_CN")
    assert page.stat().st_mode & 0o077 == 0
    with pytest.raises(VaultError, match="there already"):
        write_letter(settings, "0101", "城东", page, on=NOW.date())
    with pytest.raises(VaultError, match=r"0101\.html"):
        write_letter(settings, "0101", "城东", tmp_path / "0101.pdf", on=NOW.date())


@pytest.mark.slow
def test_keys_by_the_command_line_from_the_first_to_a_return_locked_with_an_old_one(prefect_client, tmp_path):
    house = House.build(tmp_path / "home", prefect_client, customers=300, branches=2)
    house.pull()
    said = [house.call("keys", "create", "--all").output]
    assert "3 keys made" in said[0]
    branches = sorted(path.stem for path in (house.home / "keys" / "branches").glob("*.key"))
    settings = Settings(home=house.home)
    named = branches[0]
    said.append(house.call("keys", "create", "9999", exits=(2,)).output)
    assert "9999" in said[-1]
    house.draw("daily_risk")
    house.call("run", "dispatch", *at("2026-03-02"))
    old = branch_password(settings, named)
    said.append(house.call("keys", "rotate", named, "--by", "Li Na", "--reason", "a clerk left").output)
    assert branch_password(settings, named) != old
    assert house.rows("select actor, action, subject from audit where action = 'rotate key'") == [
        ("Li Na", "rotate key", f"branch {named} key 2")
    ]
    letter = tmp_path / "letter.html"
    said.append(house.call("keys", "letter", named, "--out", str(letter)).output)
    assert branch_password(settings, named) in letter.read_text(encoding="utf-8")
    said.append(house.call("keys", "list").output)
    assert "a clerk left" in said[-1]
    # The branch answers the list it got before, with the key it was locked with.
    current = house.home / "keys" / "branches" / f"{named}.key"
    new = current.read_text(encoding="utf-8")
    current.write_text(old, encoding="utf-8")
    house.answer("2026-03-20")
    current.write_text(new, encoding="utf-8")
    house.call("run", "collect", *at("2026-03-21"))
    assert house.rows(f"select count(*) from verdict where branch_no = '{named}' and rows_accepted > 0") != [(0,)]
    everything = [*said, (house.home / "commands.log").read_text(encoding="utf-8")]
    everything += [path.read_text(errors="replace") for path in house.home.glob("log/*") if path.is_file()]
    for key in (old, new):
        assert not any(key in text for text in everything)
        assert not any(key.encode() in path.read_bytes() for path in house.home.rglob("*.eml"))
