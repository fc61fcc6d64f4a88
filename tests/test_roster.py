"""A roster with faults stops the mail of the branches at fault and of nobody else, and says which row and what to write."""

import csv
import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

import pandas as pd
import pytest
from house import House, at

from flows.report import standing_of
from models.address import find_fault
from models.roster import recipient, usable_on
from models.roster_findings import CODES, ROLES, check_roster
from tasks.board import report_page
from tasks.postoffice import folder_of
from tasks.settings import PROJECT, Settings
from tasks.store import open_store

ON = date(2026, 3, 2)
NOW = datetime(2026, 3, 2, 2, tzinfo=UTC)
OPEN = date(2020, 1, 1)
SINCE, UNTIL = "2020-01-01", "2026-02-10"


# ---- one address ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "written",
    [
        "director.0001@branch.example",
        "a@x.local",
        "a+b_c-d%e@mail.bank.example",
        "A@BRANCH.EXAMPLE",
        "a@xn--fiq228c.cn",
    ],
)
def test_an_address_that_a_server_takes_has_no_fault(written):
    assert find_fault(written) is None


@pytest.mark.parametrize(
    ("written", "code", "meant"),
    [
        ("", "no_address", ""),
        ("　", "no_address", ""),
        ("a@b.example;c@b.example", "several_addresses", ""),
        ("a@b.example c@b.example", "several_addresses", ""),
        ("a@b.example、c@b.example", "several_addresses", ""),
        ("a@b.example/c@b.example", "several_addresses", ""),
        ("a@b.example\nc@b.example", "several_addresses", ""),
        ("a＠b.example", "full_width", "a@b.example"),
        ("a﹫b.example", "full_width", "a@b.example"),
        ("ａ@b.example", "full_width", "a@b.example"),
        ("a@b。example", "full_width", "a@b.example"),
        ("a@b.example。", "full_width", "a@b.example"),
        ("a@b.example\u200b", "invisible_sign", "a@b.example"),
        ("\ufeffa@b.example", "invisible_sign", "a@b.example"),
        ("a\u00ad@b.example", "invisible_sign", "a@b.example"),
        ("a\u00a0@b.example", "invisible_sign", "a@b.example"),
        ("a@b.example\u202e", "invisible_sign", "a@b.example"),
        ("dіrector@b.example", "look_alike", ""),
        ("a@bаnk.example", "look_alike", ""),
        ("a@bänk.example", "look_alike", ""),
        ("a@分行.example", "foreign_domain", "a@xn--kbr063k.example"),
        ("张三@b.example", "foreign_letters", ""),
        ("张三 <a@b.example>", "with_name", "a@b.example"),
        ("a.b.example", "no_at", ""),
        ("a@b.example.", "trailing_dot", "a@b.example"),
        ("a.@b.example", "trailing_dot", "a@b.example"),
        ("a..b@b.example", "two_dots", "a.b@b.example"),
        (".a@b.example", "bad_syntax", "a@b.example"),
        ("a@@b.example", "bad_syntax", ""),
        ("a@-b.example", "bad_syntax", ""),
        ("a@b..example", "two_dots", "a@b.example"),
        ("a@b.example,", "bad_syntax", "a@b.example"),
        ("mailto:a@b.example", "bad_syntax", "a@b.example"),
        ("a" * 65 + "@b.example", "bad_syntax", ""),
        ("a@" + "b" * 64 + ".example", "bad_syntax", ""),
        ("a@b.example?bcc=c@d.example", "bad_syntax", ""),
    ],
)
def test_a_broken_address_is_named_with_what_was_meant(written, code, meant):
    found = find_fault(written)
    assert (found.code, found.meant) == (code, meant)


def test_the_sign_at_fault_is_named_with_its_place():
    assert find_fault("dіrector@b.example").detail == "2: U+0456 CYRILLIC SMALL LETTER BYELORUSSIAN-UKRAINIAN I"
    assert find_fault("a@b.example\u200b").detail == "12: U+200B ZERO WIDTH SPACE"


# ---- a roster of one branch -------------------------------------------------------------------------------------------

COLUMNS = (
    "row_number", "file", "branch_no", "role", "contact_name", "email", "email_written", "valid_from", "valid_to",
    "reason", "column",
)  # fmt: skip


def line(role="operations_director", name="张三", email="a@b.example", since=OPEN, until=None, branch="0001", **more):
    return {
        "branch_no": branch, "role": role, "contact_name": name, "email": email, "email_written": email,
        "valid_from": since, "valid_to": until, "reason": "", "column": "",
    } | more  # fmt: skip


def judged(*rows, needed=("operations_director",), staff=(), **more):
    """Code, severity and row of each finding about a roster of one branch."""
    written = pd.DataFrame(
        [{"file": "r.csv", "row_number": n} | row for n, row in enumerate(rows, start=2)], columns=COLUMNS
    )
    people = pd.DataFrame(staff, columns=["branch_no", "staff_name", "valid_to"]).astype(object)
    found = check_roster(
        written, ON, branches={"0001", "0002"}, needed={"0001": needed}, staff=people, **more,
    )  # fmt: skip
    for finding in found:
        for language in ("zh_CN", "en"):
            assert finding.wrong(language)
            assert "{" not in finding.wrong(language) + finding.write(language)
    return [(finding.code, "stops" if finding.stops else "told", finding.row) for finding in found]


def test_a_roster_without_fault_has_no_finding():
    assert judged(line()) == []


@pytest.mark.parametrize(
    ("found", "rows", "more"),
    [
        ([("missing_role", "stops", 0)], [], {}),
        ([("missing_role", "stops", 0)], [line("branch_head")], {}),
        ([("expired", "stops", 2)], [line(until=date(2026, 3, 1))], {}),
        ([], [line(until=ON.replace(year=2027))], {}),
        ([("expires_soon", "told", 2)], [line(until=ON)], {}),
        ([], [line(until=ON), line(name="李四", email="c@b.example", since=date(2026, 3, 3))], {}),
        ([("not_yet", "stops", 2)], [line(since=date(2026, 3, 3))], {}),
        ([("overlap", "stops", 2), ("overlap", "stops", 3)], [line(), line(name="李四", email="c@b.example")], {}),
        ([("person_twice", "stops", 2), ("person_twice", "stops", 3)], [line(), line(email="c@b.example")], {}),
        ([("overlap_later", "told", 3)], [line(), line(name="李四", email="c@b.example", since=date(2026, 4, 1))], {}),
        ([("duplicate_row", "told", 3)], [line(), line(since=date(2021, 1, 1))], {}),
        ([("duplicate_row", "told", 3)], [line(), line()], {}),
        ([("duplicate_row", "told", 3)], [line(), line(email="A@B.example")], {}),
        ([("address_of_two_people", "told", 3)], [line(), line(name="李四", since=date(2021, 1, 1))], {}),
        ([("address_of_two_roles", "told", 2)], [line(), line("branch_head")], {}),
        ([("address_of_two_branches", "stops", 2), ("address_of_two_branches", "told", 3)], [line(), line(branch="0002")], {}),
        ([("left", "stops", 2)], [line()], {"staff": [("0001", "张 三", date(2026, 2, 10))]}),
        ([("namesake_left", "told", 2)], [line()], {"staff": [("0001", "张三", date(2019, 2, 10))]}),
        ([], [line()], {"staff": [("0001", "张三", date(2026, 2, 10)), ("0001", "张三", None)]}),
        ([], [line()], {"staff": [("0002", "张三", date(2026, 2, 10))]}),
        ([], [line()], {"staff": [("0001", "张三", ON)]}),
        # Whoever has left beside his successor stops nothing.
        ([("left", "told", 2)], [line(), line(name="李四", email="c@b.example")], {"staff": [("0001", "张三", date(2026, 2, 1))]}),
        ([("outside_domain", "stops", 2)], [line(email="a@qq.example")], {"domains": ("b.example",)}),
        ([], [line(email="a@mail.b.example")], {"domains": ("b.example",)}),
        ([("refused", "stops", 2)], [line()], {"refused": {"A@b.example"}}),
        ([("rewritten", "told", 2)], [line(email_written="a＠b.example")], {}),
        ([("look_alike", "stops", 2)], [line(email="а@b.example", reason="bad_form", column="email")], {}),
        ([("look_alike", "told", 3)], [line(), line(email="а@b.example", reason="bad_form", column="email")], {}),
        ([("bad_dates", "stops", 2)], [line(until=date(2019, 1, 1))], {}),
        ([("bad_dates", "stops", 2)], [line(since=None, reason="impossible_date", column="valid_from")], {}),
        ([("missing_role", "stops", 0), ("unknown_branch", "told", 2)], [line(branch="1")], {}),
        ([("missing_role", "stops", 0), ("unknown_role", "told", 2)], [line("", reason="missing", column="role")], {}),
        ([("bad_row", "stops", 2)], [line(name="", reason="missing", column="contact_name")], {}),
        ([("bad_byte", "stops", 2)], [line(reason="bad_byte", column="")], {}),
        ([("stand_in", "told", 0)], [line("deputy")], {"needed": ("customer_service_manager",)}),
        # What is over is history.
        ([], [line(), line(name="李四", email="x", until=date(2025, 1, 1), reason="bad_form", column="email")], {}),
        ([], [line(), line(name="李四", email="c@b.example", until=date(2025, 1, 1))], {"refused": {"c@b.example"}}),
    ],
)  # fmt: skip
def test_a_finding_has_its_code_severity_and_row(found, rows, more):
    assert judged(*rows, **more) == found


def test_every_code_has_words_in_both_languages_and_every_role_a_name():
    for code in CODES.values():
        for label in code:
            assert label.zh != label.en
    assert set(ROLES) > {"operations_director", "customer_service_manager", "deputy", "branch_head"}


def test_whom_a_finding_stops_nobody_writes_to():
    rows = pd.DataFrame(
        [
            line(email="a..b@b.example"),
            line("branch_head", name="李四", email="same@b.example"),
            line("branch_head", branch="0002", email="SAME@b.example"),
            line("deputy", name="王五", email="d@b.example"),
            line("compliance", email="c@elsewhere.example", branch="HQ"),
        ]
    )
    staff = pd.DataFrame([("0001", "王五", date(2026, 2, 10))], columns=["branch_no", "staff_name", "valid_to"])
    assert len(usable_on(rows, ON)) == 2
    assert len(usable_on(rows, ON, staff=staff)) == 1
    assert usable_on(rows, ON, staff=staff, domains=("b.example",)).empty
    assert recipient(usable_on(rows, ON), "0001", "customer_service_manager").email == "d@b.example"


# ---- many branches through the product --------------------------------------------------------------------------------

Rows = list[dict[str, str]]


class Break(NamedTuple):
    """One way in which a branch's operations director is written wrongly: the code, and what is done to the row."""

    code: str
    change: Callable[[dict[str, str], Rows], None]


def address(change: Callable[[str], str]) -> Callable[[dict[str, str], Rows], None]:
    return lambda row, rows: row.update(email=change(row["email"]))


def other(row: dict[str, str], rows: Rows, **more: str) -> None:
    rows.insert(rows.index(row) + 1, row | more)


BREAKS: dict[str, Break] = {
    "full-width @": Break("full_width", address(lambda a: a.replace("@", "﹫"))),
    "a Cyrillic letter": Break("look_alike", address(lambda a: a.replace("o", "о", 1))),
    "an invisible sign": Break("invisible_sign", address(lambda a: a.replace("@", "\u200b@"))),
    "two addresses in one cell": Break("several_addresses", address(lambda a: f"{a};deputy@branch.example")),
    "a trailing dot": Break("trailing_dot", address(lambda a: a + ".")),
    "a Chinese domain": Break("foreign_domain", address(lambda a: a.split("@")[0] + "@分行.example")),
    "a Chinese local part": Break("foreign_letters", address(lambda a: "营运@" + a.split("@")[1])),
    "a name beside it": Break("with_name", address(lambda a: f"张三 <{a}>")),
    "no @": Break("no_at", address(lambda a: a.replace("@", "."))),
    "an empty cell": Break("no_address", address(lambda a: "")),
    "two dots in a row": Break("two_dots", address(lambda a: a.replace(".", "..", 1))),
    "an address of two branches": Break("address_of_two_branches", address(lambda a: "shared@branch.example")),
    "the other of the two": Break("address_of_two_branches", address(lambda a: "shared@branch.example")),
    "no row at all": Break("missing_role", lambda row, rows: rows.remove(row)),
    "a period that is over": Break("expired", lambda row, rows: row.update(valid_to="2026-02-28")),
    "a period that begins later": Break("not_yet", lambda row, rows: row.update(valid_from="2026-03-16")),
    "somebody who left": Break("left", lambda row, rows: row.update(contact_name="离任者")),
    "two people at once": Break(
        "overlap", lambda row, rows: other(row, rows, contact_name="后来者", email="later@branch.example")
    ),
    "one person twice": Break("person_twice", lambda row, rows: other(row, rows, email="again@branch.example")),
    "a stranger's domain": Break("outside_domain", address(lambda a: a.replace("branch.example", "brnach.example"))),
}
PROFILE = """
name: roster_only
description: branches and roster
tables:
  branches:
    files: [branches.csv]
    columns: {branch_no: branch_no, branch_name: branch_name, region: region}
"""


class Seen(NamedTuple):
    """What the product showed before and after the correction."""

    branches: list[str]
    broken: dict[str, str]
    """Break by branch."""
    rows: dict[str, list[int]]
    """Rows of the file that a broken branch's director stands in."""
    checked: dict[str, Any]
    check_exit: int
    first: Counter[str]
    again: Counter[str]
    last: Counter[str]
    gaps: dict[str, list[dict[str, Any]]]
    gaps_after: dict[str, list[dict[str, Any]]]
    gap_rows: tuple[int, int]
    delivered: Counter[str]
    page: str
    house: House


def breaking(house: House, folder, *, branches: int) -> Seen:
    inbox = house.home / "inbox"
    folder.mkdir()
    for file in (PROJECT / "programmes").glob("*.yaml"):
        # Of every branch somebody is to be called in the month.
        (folder / file.name).write_text(
            file.read_text(encoding="utf-8").replace('rate: "0.10"', 'rate: "1.00"'), encoding="utf-8"
        )
    house = house.having(
        HUIFANG_PROGRAMMES=str(folder), HUIFANG_ROSTER_DOMAINS="branch.example, hq.example", HUIFANG_LANGUAGE="en"
    )
    right = read(inbox / "roster.csv")
    chosen = sorted({row["branch_no"] for row in right if row["branch_no"] != "HQ"})[:: branches // 20][:20]
    broken = dict(zip(chosen, BREAKS, strict=True))
    wrong = [dict(row) for row in right]
    for branch_no, name in broken.items():
        directors = [row for row in wrong if (row["branch_no"], row["role"]) == (branch_no, "operations_director")]
        for former in directors[:-1]:
            wrong.remove(former)
        BREAKS[name].change(directors[-1], wrong)
    write(inbox / "roster.csv", wrong)
    places: dict[str, list[int]] = {branch_no: [] for branch_no in broken}
    for number, row in enumerate(wrong, start=2):
        if row["branch_no"] in broken and row["role"] == "operations_director":
            places[row["branch_no"]].append(number)
    leaver = next(branch_no for branch_no, name in broken.items() if name == "somebody who left")
    with (inbox / "staff.csv").open("a", encoding="utf-8") as staff:
        staff.write(f"L00001,离任者,{leaver},other,{SINCE},{UNTIL},\n")

    house.pull()
    house.draw("daily_risk")
    answered = house.call("roster", "check", *("--as-of", "2026-03-02"), "--json")
    house.call("run", "dispatch", *at("2026-03-02"), exits=(1,))
    first = recipients(house)
    gaps, stored = gaps_of(house), house.count("dispatch_gap")
    settings = Settings(home=house.home)
    with open_store(settings).begin() as session:
        standing = standing_of(settings, session, "daily_risk-2026-03", ON)
    shown = report_page(standing, written_at=NOW, language="en")
    house.call("run", "dispatch", *at("2026-03-02", "11:00"), exits=(1,))
    again, stored_again = recipients(house), house.count("dispatch_gap")

    pull_roster(house, right, "2026-03-03")
    house.call("run", "dispatch", *at("2026-03-03"), exits=(0,))
    last = recipients(house)
    delivered = Counter(dict.fromkeys(first, 0))
    for branch_no, to_address in house.rows("select recipient, to_address from mail where kind = 'assignment'"):
        delivered[branch_no] = len(list((folder_of(house.home / "maildir", to_address) / "new").iterdir()))
    numbers = sorted({row["branch_no"] for row in right} - {"HQ"})
    return Seen(
        numbers, broken, places, json.loads(answered.stdout), answered.exit_code, first, again, last, gaps,
        gaps_of(house, "2026-03-03"), (stored, stored_again), delivered, shown, house,
    )  # fmt: skip


def pull_roster(house: House, rows: Rows, day: str) -> None:
    """A corrected roster is pulled with the branches that it names."""
    (house.home / "corrected").mkdir(exist_ok=True)
    (house.home / "corrected" / "branches.csv").write_bytes((house.home / "inbox" / "branches.csv").read_bytes())
    (house.home / "roster_only.yaml").write_text(PROFILE, encoding="utf-8")
    file = house.home / ("roster_right.csv" if day == "2026-03-03" else f"roster_{day}.csv")
    write(file, rows)
    house.call(
        "run", "pull", "--profile", str(house.home / "roster_only.yaml"), "--inbox", str(house.home / "corrected"),
        "--roster", str(file), *at(day),
    )  # fmt: skip


def read(path) -> Rows:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write(path, rows: Rows) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def recipients(house: House) -> Counter[str]:
    """Lists by branch, without headquarters' own."""
    found = house.rows("select recipient from mail where kind = 'assignment' and recipient <> 'HQ'")
    return Counter(branch_no for (branch_no,) in found)


def gaps_of(house: House, day: str = "2026-03-02") -> dict[str, list[dict[str, Any]]]:
    [campaign] = house.status(day)["campaigns"]
    found: dict[str, list[dict[str, Any]]] = {}
    for gap in campaign["gaps"]:
        found.setdefault(gap["branch_no"], []).append(gap)
    return found


@pytest.fixture(scope="module")
def seen(prefect_client, tmp_path_factory):
    folder = tmp_path_factory.mktemp("roster")
    house = House.build(folder / "home", prefect_client, customers=1300, branches=30)
    with pytest.MonkeyPatch.context() as chance:
        chance.setattr("flows.draw.seed.secrets.token_hex", lambda n: "5eed" * (n // 2))
        return breaking(house, folder / "programmes", branches=30)


@pytest.mark.slow
@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_roster_stops_its_branch_which_is_named_with_code_and_row(seen, name):
    [branch_no] = [branch for branch, of in seen.broken.items() if of == name]
    stopping = [f for f in seen.checked["findings"] if f["branch_no"] == branch_no and f["severity"] == "stops"]
    assert {f["code"] for f in stopping} == {BREAKS[name].code}
    assert [f["row"] for f in stopping if f["row"]] == seen.rows[branch_no]
    assert {(gap["code"], gap["role"]) for gap in seen.gaps[branch_no]} == {(BREAKS[name].code, "operations_director")}
    assert seen.first[branch_no] == 0
    assert seen.last[branch_no] == 1
    assert branch_no not in seen.gaps_after


@pytest.mark.slow
def test_every_other_branch_gets_its_list_once_and_a_correction_mails_the_broken_ones_alone(seen):
    check_counts(seen)


def check_counts(seen: Seen) -> None:
    whole = set(seen.branches) - set(seen.broken)
    assert seen.first == Counter(whole)
    assert seen.again == seen.first
    assert seen.last == Counter(seen.branches)
    assert {branch_no: seen.delivered[branch_no] for branch_no in seen.branches} == dict.fromkeys(seen.branches, 1)
    assert seen.check_exit == 1
    assert seen.checked["stopped"] == sorted(seen.broken)
    assert sorted(seen.gaps) == sorted(seen.broken)
    assert seen.gaps_after == {}
    # A second run that finds the same adds nothing.
    assert seen.gap_rows[0] == seen.gap_rows[1] > 0


@pytest.mark.slow
def test_the_report_page_names_the_branches_without_list_and_what_to_write(seen):
    for branch_no in seen.broken:
        assert f'data-gap="{branch_no}"' in seen.page
    assert "take the dot away" in seen.page
    assert seen.page.count("data-gap=") == sum(len(gaps) for gaps in seen.gaps.values())


@pytest.mark.slow
def test_on_a_terminal_the_check_shows_a_table_and_ends_well_once_all_is_right(seen):
    house = seen.house
    shown = house.call("roster", "check", *("--as-of", "2026-03-02"), exits=(1,))
    assert "\\u200b" in shown.output
    assert "\u200b" not in shown.output
    assert "look at: mail of 20 branches is stopped" in shown.output
    assert "stops no mail" in house.call("roster", "check", *("--as-of", "2026-03-03"), exits=(0,)).output
    chinese = house.having(HUIFANG_LANGUAGE="zh_CN").call("roster", "check", *("--as-of", "2026-03-02"), exits=(1,))
    assert "去掉这个点" in chinese.output


@pytest.mark.slow
def test_a_roster_can_be_checked_before_it_is_pulled(seen):
    house = seen.house
    before = house.count("pull")
    wrong, right = house.home / "inbox" / "roster.csv", house.home / "roster_right.csv"
    found = json.loads(
        house.call("roster", "check", "--roster", str(wrong), *("--as-of", "2026-03-02"), "--json", exits=(1,)).stdout
    )
    assert found["stopped"] == sorted(seen.broken)
    assert found["findings"] == seen.checked["findings"]
    house.call("roster", "check", "--roster", str(right), *("--as-of", "2026-03-02"), exits=(0,))
    assert house.count("pull") == before


@pytest.mark.slow
def test_a_first_roster_is_checked_in_a_home_that_has_nothing_yet(seen, tmp_path):
    fresh = seen.house.having(HUIFANG_HOME=str(tmp_path / "home"))
    chinese = tmp_path / "gb18030.csv"
    right = seen.house.home / "roster_right.csv"
    found = fresh.call("roster", "check", "--roster", str(right), *("--as-of", "2026-03-02"), exits=(0,))
    assert "no branches extract is pulled yet" in found.output
    chinese.write_bytes(right.read_text("utf-8").encode("gb18030"))
    found = fresh.call("roster", "check", "--roster", str(chinese), *("--as-of", "2026-03-02"), "--json", exits=(1,))
    assert "CSV UTF-8" in json.loads(found.stdout)["findings"][0]["write"]


@pytest.mark.slow
def test_summaries_too_stay_from_whoever_left_and_reach_everybody_else(seen):
    house = seen.house
    rows = read(house.home / "roster_right.csv")
    leaver = next(branch_no for branch_no, name in seen.broken.items() if name == "somebody who left")
    for row in rows:
        if (row["branch_no"], row["role"]) in ((leaver, "customer_service_manager"), (leaver, "deputy")):
            row["contact_name"] = "离任者"
    pull_roster(house, rows, "2026-03-04")
    house.call("run", "report", *at("2026-03-04"), exits=(1,))
    written = Counter(
        to for (to,) in house.rows("select recipient from mail where kind = 'feedback' and recipient <> 'HQ'")
    )
    assert written == Counter(set(seen.branches) - {leaver})


@pytest.mark.slow
@pytest.mark.long
def test_of_500_branches_20_with_broken_rosters_wait_and_480_get_their_lists(prefect_client, tmp_path):
    house = House.build(tmp_path / "home", prefect_client, customers=30_000, branches=500)
    with pytest.MonkeyPatch.context() as chance:
        chance.setattr("flows.draw.seed.secrets.token_hex", lambda n: "5eed" * (n // 2))
        seen = breaking(house, tmp_path / "programmes", branches=500)
    assert len(seen.branches) == 500
    assert len(seen.broken) == 20
    check_counts(seen)
    for branch_no, name in seen.broken.items():
        assert {gap["code"] for gap in seen.gaps[branch_no]} == {BREAKS[name].code}
