"""A programme's year rehearsed on the pulled base: the same months as the draw, and nothing stored."""

import csv
import hashlib
import json
import shutil

import pytest
import yaml
from house import House, at
from typer.testing import CliRunner

from models.rehearsal import RehearsalError, read_completion
from tasks.settings import PROJECT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pulled(prefect_client, tmp_path_factory):
    house = House.build(tmp_path_factory.mktemp("rehearsal") / "home", prefect_client, customers=1500, branches=5)
    inbox = house.home / "inbox"
    with (inbox / "customers.csv").open(encoding="utf-8", newline="") as file:
        dormant = next(row["customer_id"] for row in csv.DictReader(file) if row["status"] == "dormant")
    with (inbox / "relations.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["customer_id"] != dormant]
    rows.append(
        {"customer_id": dormant, "staff_id": "777001", "kind": "developer", "valid_from": "2020-01-01", "valid_to": ""}
    )
    with (inbox / "relations.csv").open("w", encoding="utf-8", newline="") as file:
        out = csv.DictWriter(file, list(rows[0]))
        out.writeheader()
        out.writerows(rows)
    with (inbox / "staff.csv").open("a", encoding="utf-8") as file:
        file.write("777001,新人,0001,broker,2020-01-01,,\n777002,新来,0001,broker,2020-01-01,,\n")
    house.pull()
    return house


def rehearse(house, name, *words, exits=(0, 1)):
    result = house.call("programme", "try", name, "--period", "2026", "--json", *words, exits=exits)
    return json.loads(result.stdout)


def shown_page(house, name, *words, language="en"):
    return house.call("programme", "try", name, "--period", "2026", "--language", language, *words, exits=(1,)).output


def everything(house):
    """Each file of the home with its bytes; the log of this test's own commands left out."""
    return {
        str(path.relative_to(house.home)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(house.home.rglob("*"))
        if path.is_file() and path.name != "commands.log" and not path.name.endswith(("-shm", "-wal"))
    }


def test_a_rehearsal_stores_nothing(pulled, tmp_path):
    house = pulled.copy(tmp_path / "home")
    before = everything(house)
    for name in ("daily_risk", "marketer_conduct"):
        rehearse(house, name)
        house.call("programme", "try", name, "--period", "2026")
    assert everything(house) == before
    assert house.count("programme_year") == 0


def test_january_is_rehearsed_as_it_is_drawn(pulled, tmp_path):
    house = pulled.copy(tmp_path / "home")
    months = {
        row["group_key"]: (row["capacity"], row["share"], row["places"], row["shortfall"], row["reason"])
        for row in rehearse(house, "daily_risk")["months"]
        if row["period"] == "2026-01"
    }
    house.call("run", "draw", "--programme", "daily_risk", "--period", "2026-01", *at("2026-01-04", "07:30"))
    drawn = house.rows("select group_key, capacity, share, places, shortfall, reason from campaign_group")
    assert {row[0]: row[1:] for row in drawn} == months


def test_every_branch_meets_its_goal_where_four_of_five_calls_are_completed(pulled):
    found = rehearse(pulled, "daily_risk", exits=(0,))
    assert found["is_fine"]
    assert {end["shortfall"] for end in found["ends"]} == {0}
    for end in found["ends"]:
        assert end["goal"] <= end["completed"] <= end["goal"] + 2
        assert sum(m["calls"] for m in found["months"] if m["group_key"] == end["group_key"]) == end["calls"]
    for month in found["months"]:
        assert month["calls"] == month["completed"] + month["failed"] == month["places"] + month["moved_up"]


def test_a_branch_without_capacity_falls_short_and_the_command_says_so(pulled, tmp_path):
    content = yaml.safe_load((PROJECT / "programmes" / "daily_risk.yaml").read_text(encoding="utf-8"))
    file = tmp_path / "tight.yaml"
    file.write_text(yaml.safe_dump(content | {"version": 2, "capacity": 1}, allow_unicode=True), encoding="utf-8")
    found = rehearse(pulled, "daily_risk", "--file", str(file), exits=(1,))
    assert not found["is_fine"]
    assert {month["reason"] for month in found["months"] if month["shortfall"]} == {"capacity"}
    assert max(month["places"] for month in found["months"]) == 1
    shown = shown_page(pulled, "daily_risk", "--file", str(file))
    assert "capacity" in shown
    assert "something falls short" in shown


def test_marketers_that_cannot_be_covered_are_named_with_the_reason(pulled):
    found = rehearse(pulled, "marketer_conduct", "--completion", "1", exits=(1,))
    reasons = {end["group_key"]: end["reason"] for end in found["ends"] if end["reason"]}
    assert reasons["777001"] == "excluded"
    assert reasons["777002"] == "no_customers"
    shown = shown_page(pulled, "marketer_conduct")
    assert "777001" in shown
    assert "all excluded" in shown


def test_nobody_answering_makes_every_branch_fall_short(pulled):
    found = rehearse(pulled, "daily_risk", "--completion", "0", exits=(1,))
    assert {end["completed"] for end in found["ends"]} == {0}
    assert all(end["shortfall"] == end["goal"] for end in found["ends"])


@pytest.mark.parametrize("text", ["80%", "1.2", "-0.1", "", "nan"])
def test_a_completion_that_is_no_share_is_refused(text):
    with pytest.raises(RehearsalError, match="between 0 and 1"):
        read_completion(text)


def test_wrong_words_end_with_2_and_say_what_to_do(pulled, tmp_path):
    def try_it(*words):
        return pulled.call("programme", "try", *words, exits=(2,)).output

    assert "a whole year" in try_it("daily_risk", "--period", "2026-03")
    assert "2031" in try_it("daily_risk", "--period", "2031")  # no calendar
    assert "2024-12-31" in try_it("daily_risk", "--period", "2025")  # no base
    assert "nightly" in try_it("nightly", "--period", "2026")
    other = tmp_path / "other.yaml"
    shutil.copy(PROJECT / "programmes" / "marketer_conduct.yaml", other)
    assert "is of programme marketer_conduct" in " ".join(
        try_it("daily_risk", "--period", "2026", "--file", str(other)).split()
    )


def test_a_home_without_a_store_is_left_without_one(tmp_path):
    from cli import app

    home = tmp_path / "nothing"
    result = CliRunner().invoke(
        app, ["programme", "try", "daily_risk", "--period", "2026"], env={"HUIFANG_HOME": str(home), "COLUMNS": "200"}
    )
    assert result.exit_code == 2
    assert "huifang run pull" in result.output
    assert not home.exists()


def draft(tmp_path, name="draft.yaml", base="daily_risk", **changes):
    content = yaml.safe_load((PROJECT / "programmes" / f"{base}.yaml").read_text(encoding="utf-8"))
    path = tmp_path / name
    path.write_text(yaml.safe_dump(content | changes, allow_unicode=True), encoding="utf-8")
    return str(path)


def test_a_plan_changed_in_june_is_rehearsed_with_both_versions(pulled, tmp_path):
    goal = {"kind": "rate", "rate": "0.20", "source": {"text": "某规定", "holds_from": "2026-06-01"}}
    file = draft(tmp_path, version=2, valid_from="2026-06-01", goal=goal, strata=["risk_level"])
    now, later = rehearse(pulled, "daily_risk"), rehearse(pulled, "daily_risk", "--file", file)
    assert set(now["versions"].values()) == {1}
    assert [later["versions"][f"2026-{month:02}"] for month in (1, 5, 6, 12)] == [1, 1, 2, 2]
    until_may = [[row for row in found["months"] if row["period"] < "2026-06"] for found in (now, later)]
    assert until_may[0] == until_may[1]
    goals = [sum(end["goal"] for end in found["ends"]) for found in (now, later)]
    assert 1.9 * goals[0] < goals[1] <= 2 * goals[0] + 1
    assert later["is_fine"]


def test_months_after_the_cut_off_are_not_rehearsed(pulled, tmp_path):
    file = draft(tmp_path, monthly_plan={"by": "workdays", "cut_off": "09-15"})
    found = rehearse(pulled, "daily_risk", "--file", file)
    assert max(month["period"] for month in found["months"]) == "2026-09"
    assert [note[:7] for note in found["notes"] if "cut-off" in note] == ["2026-10", "2026-11", "2026-12"]
    assert found["is_fine"]


def test_a_frozen_year_is_rehearsed_by_todays_files_and_says_so(pulled, tmp_path):
    house = pulled.copy(tmp_path / "home")
    before = rehearse(house, "daily_risk")
    house.call("run", "draw", "--programme", "daily_risk", "--period", "2026-01", *at("2026-01-04", "07:30"))
    after = rehearse(house, "daily_risk")
    assert after["months"] == before["months"]
    assert not before["notes"]
    (note,) = after["notes"]
    assert "daily_risk-2026 is frozen" in note
    (changed,) = rehearse(house, "daily_risk", "--file", draft(tmp_path, due_workdays=9))["notes"]
    assert "not the plan that was frozen" in changed


def test_rejected_customers_without_a_waiver_are_said_and_left_out(pulled, tmp_path):
    house = pulled.copy(tmp_path / "home")
    path = house.home / "inbox" / "customers.csv"
    lines = path.read_text(encoding="utf-8").splitlines()
    fields = lines[40].split(",")
    fields[lines[0].split(",").index("open_on")] = "2019-02-31"
    path.write_text("\n".join([*lines[:40], ",".join(fields), *lines[41:]]) + "\n", encoding="utf-8")
    house.pull()
    found = rehearse(house, "daily_risk", exits=(1,))
    assert (found["rejected"], found["base"]) == (1, 1500)
    (said,) = found["would_stop_at"]
    assert "huifang waive 2025-12-31" in said
    house.call("waive", "2025-12-31", "--by", "合规总监", "--reason", "已销户")
    assert not rehearse(house, "daily_risk", exits=(0,))["would_stop_at"]


def test_a_reason_that_excludes_nobody_is_pointed_out(pulled, tmp_path):
    source = {"text": "本公司", "holds_from": "2020-01-01"}
    file = draft(
        tmp_path, exclusions=[{"reason": "vip", "column": "segment", "values": ["very_important"], "source": source}]
    )
    assert "no customer of the base is excluded as vip" in "".join(rehearse(pulled, "daily_risk", "--file", file)["notes"])


def test_each_branch_that_falls_short_is_shown_with_its_months(pulled, tmp_path):
    file = draft(tmp_path, capacity=1)
    shown = shown_page(pulled, "daily_risk", "--file", file)
    found = rehearse(pulled, "daily_risk", "--file", file)
    for branch in {month["branch_no"] for month in found["months"] if month["shortfall"]}:
        short = [month for month in found["months"] if month["branch_no"] == branch and month["shortfall"]]
        line = next(line for line in shown.splitlines() if f" {branch} " in line and "capacity" in line)
        assert " ".join(month["period"][5:] for month in short) in line
        assert f" {sum(month['shortfall'] for month in short)} " in line


def test_the_given_file_is_tried_though_a_higher_version_holds_and_that_is_said(pulled, tmp_path):
    folder = tmp_path / "programmes"
    shutil.copytree(PROJECT / "programmes", folder)
    draft(folder, name="later.yaml", version=3, valid_from="2026-06-01", due_workdays=15)
    house = pulled.having(HUIFANG_PROGRAMMES=str(folder))
    assert {3, 1} == {*rehearse(house, "daily_risk")["versions"].values()}
    file = draft(tmp_path, version=2, due_workdays=9)
    found = rehearse(house, "daily_risk", "--file", file)
    assert {*found["versions"].values()} == {2}
    (note,) = found["notes"]
    assert "2026-06, 2026-07" in note
    assert "version 3 of the programmes folder holds" in note
    too_late = draft(tmp_path, version=4, valid_from="2026-12-02")
    said = house.call("programme", "try", "daily_risk", "--period", "2026", "--file", too_late, exits=(2,)).output
    assert "no month of 2026 begins in it" in " ".join(said.split())


def test_a_version_within_a_month_is_tried_from_the_next_month_on_and_that_is_said(pulled, tmp_path):
    found = rehearse(pulled, "daily_risk", "--file", draft(tmp_path, version=2, valid_from="2026-06-15"))
    assert [found["versions"][f"2026-{month:02}"] for month in (6, 7)] == [1, 2]
    assert any("2026-06-15 is within a month; it is first used for 2026-07" in note for note in found["notes"])


def test_a_file_changed_under_its_version_after_the_year_was_frozen_is_pointed_out(pulled, tmp_path):
    folder = tmp_path / "programmes"
    shutil.copytree(PROJECT / "programmes", folder)
    house = pulled.copy(tmp_path / "home").having(HUIFANG_PROGRAMMES=str(folder))
    house.call("run", "draw", "--programme", "daily_risk", "--period", "2026-01", *at("2026-01-04", "07:30"))
    explain = ("programme", "explain", "daily_risk", "--language", "en", "--on", "2026-02-01")
    assert "changed after" not in house.call(*explain, exits=(0,)).output
    draft(folder, name="daily_risk.yaml", due_workdays=9)
    assert "the content was changed after daily_risk-2026 was frozen with version 1" in " ".join(
        house.call(*explain, exits=(0,)).output.split()
    )
    (stop,) = rehearse(house, "daily_risk", exits=(1,))["would_stop_at"]
    assert "version 1 was changed after daily_risk-2026 was frozen" in stop


@pytest.mark.parametrize("name", ["daily_risk", "marketer_conduct"])
def test_a_page_is_in_one_language(pulled, tmp_path, name):
    file = draft(tmp_path, base=name, capacity=1)
    english = shown_page(pulled, name, "--file", file, language="en")
    assert not [sign for sign in english if "\u4e00" <= sign <= "\u9fff"]
    chinese = shown_page(pulled, name, "--file", file, language="zh_CN")
    words = {"branch", "goal", "done", "short", "company", "shortfalls", "reason", "months", "heaviest", "eligible"}
    assert not words & {*chinese.replace("，", " ").replace("：", " ").split()}
