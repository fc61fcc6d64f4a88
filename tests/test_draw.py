"""A programme year drawn through the command line: commitments, seeds, changes, exceptions, hand-overs, and its proof."""

import csv
import gzip
import json
import re
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter, defaultdict
from datetime import date, datetime
from email import message_from_bytes, policy

import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from house import House, at

from models.campaign import text_sha256
from models.sampling import ticket
from models.tables import Message
from tasks import records
from tasks.settings import PROJECT, Settings
from tasks.store import hash_payload, open_store

pytestmark = pytest.mark.slow

MONTHS = [f"2026-{month:02}" for month in range(1, 13)]
CHAIN = {
    "kind": "chain",
    "public": {
        "name": {"zh_CN": "上证综指收盘价", "en": "SSE Composite close"},
        "available_at": "15:30",
        "pattern": r"[0-9]+\.[0-9]{2}",
    },
}
CLOSES = {"2026-01-05": "4023.42", "2026-01-06": "4083.67", "2026-02-02": "4015.75", "2026-03-02": "4127.16"}


@pytest.fixture(scope="module")
def pulled(prefect_client, tmp_path_factory):
    house = House.build(tmp_path_factory.mktemp("draws") / "home", prefect_client, customers=1500, branches=5)
    house.pull()
    return house


def programme(house, name, /, file="changed.yaml", **changes):
    """A programme file of the house's own beside the shipped ones, with some keys changed."""
    folder = house.home / "programmes"
    if not folder.exists():
        shutil.copytree(PROJECT / "programmes", folder)
    content = yaml.safe_load((folder / f"{name}.yaml").read_text(encoding="utf-8"))
    (folder / file).write_text(yaml.safe_dump(content | changes, allow_unicode=True), encoding="utf-8")
    return house.having(HUIFANG_PROGRAMMES=str(folder))


def draw(house, period, day=None, *, name="daily_risk", exits=(0, 1)):
    first = day or {"2026-01": "2026-01-04"}.get(period, f"{period}-02")
    return house.call("run", "draw", "--programme", name, "--period", period, *at(first, "07:30"), exits=exits).output


def answer(house, day, outcome_of, *, name="daily_risk"):
    """Every open call of a programme answered as outcome_of(customer, branch) says; None leaves it open."""
    store = open_store(Settings(home=house.home))
    with store.begin() as session:
        year = records.programme_years(session, name, 2026)[0]
        calls = records.taken_of(session, year.id)
        settled = {*records.current_rows(session, year.id)["assignment_id"], *records.ends(session)["assignment_id"]}
        rows = []
        for call in calls[~calls["assignment_id"].isin(settled)].to_dict("records"):
            outcome = outcome_of(call["customer_id"], call["branch_no"])
            if outcome is not None:
                rows.append(
                    {
                        "assignment_id": call["assignment_id"], "sheet": "s", "row": len(rows) + 5, "outcome": outcome,
                        "called_on": date.fromisoformat(day), "called_at": "10:00", "caller_name": "某", "channel": "phone",
                        "attempts": 1, "answers": {}, "violation": "", "remark": "",
                        "completes": outcome.startswith("done"), "fails": not outcome.startswith("done"),
                        "is_late": False, "content_sha256": f"{day}-{call['assignment_id']}",
                    }
                )  # fmt: skip
        message = Message(
            sha256=f"{name}-{day}",
            path="none",
            size_bytes=0,
            first_seen_at=datetime.fromisoformat(f"{day}T18:00+08:00"),
        )
        session.add(message)
        session.flush()
        records.add_return_rows(session, message.id, pd.DataFrame(rows), booked_on=date.fromisoformat(day))
    return len(rows)


def drawn(house, campaign, kind="sample"):
    return [
        row[0]
        for row in house.rows(
            f"select customer_id from drawn_customer where campaign_id = '{campaign}' and kind = '{kind}' order by 1"
        )
    ]


def check_export(house, campaign, folder):
    """The export of a campaign and what its own verifier, run with nothing but Python, says of it."""
    house.call("verify", campaign, "--export", str(folder), exits=(0,))
    assert {"frame.csv.gz", "plan.json", "sample.csv", "verify_sample.py"} <= {path.name for path in folder.iterdir()}
    return subprocess.run(
        [sys.executable, "-I", "-S", "verify_sample.py", "--lang", "en"], cwd=folder, capture_output=True, text=True
    )


# ---- a year --------------------------------------------------------------------------------------------------


def lived(house, months):
    """The months drawn one after the other; customers answer by a rule of their ticket, and failures bring reserves in."""
    for period in months:
        draw(house, period)
        answer(house, f"{period}-10", lambda c, b: "refused" if ticket("fate", c) < "6" else "done_clear")
        draw(house, period, f"{period}-11")  # reserves move up
        answer(house, f"{period}-20", lambda c, b: "refused" if ticket("fate", c) < "6" else "done_clear")
    return house


@pytest.fixture(scope="module")
def spring(pulled, tmp_path_factory):
    return lived(pulled.copy(tmp_path_factory.mktemp("spring") / "home"), MONTHS[:4])


@pytest.fixture(scope="module")
def year(spring, tmp_path_factory):
    return lived(spring.copy(tmp_path_factory.mktemp("year") / "home"), MONTHS[4:])


def test_a_year_ends_at_its_goal_in_every_branch(year):
    (found,) = [c for c in year.status("2026-12-31")["campaigns"] if c["campaign"] == "daily_risk-2026-12"]
    assert found["completed_year"] >= found["goal"]
    for branch in found["branches"]:
        assert branch["completed_year"] >= branch["goal"], branch["branch_no"]
        assert branch["completed_year"] <= branch["goal"] + 3, "rounding up month by month overshoots by a call or two"


def test_nobody_is_drawn_twice_in_a_year_unless_his_reserve_lapsed(year):
    called = year.rows(
        "select p.campaign_id, a.customer_id from assignment_purpose p join assignment a on a.id = p.assignment_id"
    )
    assert max(Counter(customer for _, customer in called).values()) == 1
    samples = [customer for period in MONTHS for customer in drawn(year, f"daily_risk-{period}")]
    assert len(samples) == len(set(samples)) > 100


def test_the_export_of_december_replays_all_twelve_months_without_the_product(year, tmp_path):
    said = check_export(year, "daily_risk-2026-12", tmp_path / "export")
    assert said.returncode == 0, said.stdout + said.stderr
    plan = json.loads((tmp_path / "export" / "plan.json").read_text(encoding="utf-8"))
    assert [month["period"] for month in plan["months"]] == MONTHS
    # The same export comes out byte for byte again.
    again = tmp_path / "again"
    year.call("verify", "daily_risk-2026-12", "--export", str(again), exits=(0,))
    for path in sorted(again.iterdir()):
        assert path.read_bytes() == (tmp_path / "export" / path.name).read_bytes(), path.name


def test_an_export_of_an_earlier_month_holds_nothing_of_later_ones(year, tmp_path):
    said = check_export(year, "daily_risk-2026-03", tmp_path / "export")
    assert said.returncode == 0, said.stdout + said.stderr
    text = (tmp_path / "export" / "plan.json").read_text(encoding="utf-8")
    assert "2026-03" in text
    assert "daily_risk-2026-04" not in text
    assert '"period":"2026-04"' not in text
    with gzip.open(tmp_path / "export" / "frame.csv.gz", "rt", encoding="utf-8") as file:
        frame = {row["customer_id"] for row in csv.DictReader(file)}
    with (tmp_path / "export" / "sample.csv").open(encoding="utf-8") as file:
        assert {row["customer_id"] for row in csv.DictReader(file)} <= frame


def test_reserves_replace_failures_in_the_order_of_their_tickets(year):
    rows = year.rows(
        "select d.campaign_id, d.group_key, d.stratum, d.rank, d.kind, a.id is not null from drawn_customer d "
        "left join assignment a on a.campaign_id = d.campaign_id and a.customer_id = d.customer_id "
        "order by d.campaign_id, d.group_key, d.stratum, d.rank"
    )
    by_stratum = defaultdict(list)
    for campaign, group, stratum, _, kind, is_called in rows:
        assert is_called or kind == "reserve"
        by_stratum[campaign, group, stratum].append(is_called)
    assert any(not all(called) for called in by_stratum.values())
    for key, called in by_stratum.items():
        assert called == sorted(called, reverse=True), f"{key}: a later ticket moved up before an earlier one"
    replaced = year.rows(
        "select count(*), count(distinct replaces_id) from assignment_purpose where replaces_id not null"
    )
    assert replaced[0][0] == replaced[0][1] > 0


TAMPERED = {
    "a return row moved": "update return_row set completes = 1 - completes, fails = 1 - fails where id = 1",
    "an earlier month's rank": "update drawn_customer set rank = rank + 1 where rowid = (select min(rowid) from drawn_customer)",
    "a goal": "update quota set goal = goal + 1 where rowid = (select min(rowid) from quota)",
    "a place of the year": "update stratum set places = places + 1 where rowid = (select min(rowid) from stratum)",
    "a committed share": "update campaign_group set share = share + 1 where rowid = (select max(rowid) from campaign_group)",
    "a count of the ledger": "update exclusion set customers = customers + 1 where rowid = (select min(rowid) from exclusion)",
    "the day of a commitment": "update campaign set as_of = '2026-03-03' where period = '2026-03'",
    "a count of a draw": "update draw set drawn = drawn + 1 where campaign_id = 'daily_risk-2026-02'",
    "a form": "update drawn_customer set form = 'conduct', developer_id = '' where rowid = (select min(rowid) from drawn_customer)",
    "a row of the audit chain gone": "delete from audit where id = 3",
    "who decided a row of the audit chain": "update audit set actor = 'somebody' where id = 3",
    "when a row of the audit chain was written": "update audit set at = datetime(at, '+1 day') where id = 3",
    "an assignment gone": "delete from assignment_purpose where rowid = (select max(rowid) from assignment_purpose)",
}


@pytest.mark.parametrize("change", TAMPERED)
def test_verify_replays_the_months_before_and_finds_one_change_in_any(spring, tmp_path, change):
    house = spring.copy(tmp_path / "home")
    with sqlite3.connect(house.home / "huifang.sqlite") as store:
        assert store.execute(TAMPERED[change]).rowcount == 1
    assert "NOT THE SAME" in house.call("verify", "daily_risk-2026-04", exits=(1,)).output


def forge_state(house, campaign, change, tables=()):
    """A committed month rewritten with its hash, and the tables beside it, as somebody does who has lake and store."""
    with sqlite3.connect(house.home / "huifang.sqlite") as store:
        (path,) = store.execute("select state_path from campaign where id = ?", [campaign]).fetchone()
        state = json.loads((house.home / "lake" / path).read_text(encoding="utf-8"))
        change(state)
        text = json.dumps(state, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        (house.home / "lake" / path).write_text(text, encoding="utf-8")
        store.execute("update campaign set state_sha256 = ? where id = ?", [text_sha256(text), campaign])
        for statement in tables:
            assert store.execute(statement, [campaign]).rowcount == 1


def wrong_checks(house, campaign):
    said = house.call("verify", campaign, exits=(1,)).output
    return [line.split("│")[1].strip() for line in said.splitlines() if "│ NOT THE SAME" in line]


def test_verify_recomputes_the_weights_of_a_month_from_its_workdays(spring, tmp_path):
    house = spring.copy(tmp_path / "home")

    def change(state):
        state["weight"], state["weight_left"] = 2 * state["weight"], 2 * state["weight_left"]

    forge_state(house, "daily_risk-2026-04", change)
    assert "weights" in wrong_checks(house, "daily_risk-2026-04")


def test_verify_recomputes_the_capacity_of_a_group_from_plan_workdays_and_approvals(spring, tmp_path):
    house = spring.copy(tmp_path / "home")

    def change(state):
        state["groups"][0]["capacity"] += 1

    table = "update campaign_group set capacity = capacity + 1 where campaign_id = ? and group_key = '0001'"
    forge_state(house, "daily_risk-2026-04", change, [table])
    assert "capacity" in wrong_checks(house, "daily_risk-2026-04")


def test_verify_recomputes_state_and_left_of_a_stratum_from_frame_and_taken_list(spring, tmp_path):
    house = spring.copy(tmp_path / "home")
    name = {}

    def change(state):
        row = max(state["strata"], key=lambda row: row["left"])
        row["left"] += 1
        name.update(row)

    change_table = (
        "update campaign_stratum set left = left + 1 where campaign_id = ? and "
        "(group_key, stratum) = (select group_key, stratum from campaign_stratum where campaign_id = "
        "'daily_risk-2026-04' order by left desc, group_key, stratum limit 1)"
    )
    forge_state(house, "daily_risk-2026-04", change, [change_table])
    assert "state and left of strata" in wrong_checks(house, "daily_risk-2026-04")


def test_another_calendar_in_use_is_said_and_the_month_is_recomputed_with_its_own(spring, tmp_path):
    house = spring.copy(tmp_path / "home")
    (house.home / "calendars").mkdir()
    (house.home / "calendars" / "2026.yaml").write_text(
        "year: 2026\nsource: 国办发明电〔2026〕0号\nholidays: [2026-04-30]\n", encoding="utf-8"
    )
    said = re.sub(r"[\s│]+", " ", house.call("verify", "daily_risk-2026-04", exits=(0,)).output)
    assert "NOT COMPARED the calendar in use" in said
    assert "look the notice of the State Council up" in said
    assert "2026-04-30" in said
    assert "same; 4 could not be compared" in said


def test_a_month_committed_without_its_workdays_is_verified_by_the_calendar_in_use_or_says_what_it_believes(
    pulled, tmp_path
):
    house = pulled.copy(tmp_path / "home")
    draw(house, "2026-03")
    forge_state(house, "daily_risk-2026-03", lambda state: state.pop("workdays"))
    with sqlite3.connect(house.home / "huifang.sqlite") as store:
        (state,) = store.execute("select state_sha256 from campaign").fetchone()
        # The chain is written anew as well, as if the month had been committed so.
        rows = store.execute("select id, actor, action, subject, payload_sha256, at from audit order by id").fetchall()
        before = "0" * 64
        for number, actor, action, subject, payload, day in rows:
            if action == "commit":
                payload = hash_payload({"state": state})
            line = "\n".join([before, actor, action, subject, payload, f"{day.replace(' ', 'T')[:19]}+00:00"])
            own = text_sha256(line)
            store.execute(
                "update audit set prev_sha256 = ?, sha256 = ?, payload_sha256 = ? where id = ?",
                [before, own, payload, number],
            )
            before = own
    house.call("verify", "daily_risk-2026-03", exits=(0,))
    said = check_export(house, "daily_risk-2026-03", tmp_path / "export")
    assert said.returncode == 0, said.stdout + said.stderr
    assert "2026-03 was sealed without its workdays" in said.stdout
    (house.home / "calendars").mkdir()
    (house.home / "calendars" / "2026.yaml").write_text(
        "year: 2026\nsource: 国办发明电〔2026〕0号\nholidays: [2026-04-30]\n", encoding="utf-8"
    )
    shown = re.sub(r"\s+", " ", house.call("verify", "daily_risk-2026-03", exits=(0,)).output)
    assert "NOT COMPARED │ the month was committed with calendar" in shown
    assert "same; 1 could not be compared" in shown


DAMAGED = {
    "the month names another year": "update campaign set programme_year_id = 'nobody-2026' where period = '2026-02'",
    "the campaign names another year": "update campaign set programme_year_id = 'nobody-2026' where period = '2026-04'",
    "the year has another name": "update programme_year set id = 'daily_risk-2025'",
    "the year is gone": "delete from programme_year",
    "a plan that is none": "update programme_year set plan = '{}'",
    "a kind of end that is none": "insert into assignment_end (assignment_id, kind, reason, ended_on, decided_by) "
    "select min(assignment_id), 'vanished', 'x', '2026-01-02', 'x' from return_row where fails",
    "a seed is gone": "delete from seed where campaign_id = 'daily_risk-2026-04'",
    "a seed of an earlier month is gone": "delete from seed where campaign_id = 'daily_risk-2026-03'",
    "the groups of a month are gone": "delete from campaign_group where campaign_id = 'daily_risk-2026-04'",
    "the strata of a month are gone": "delete from campaign_stratum where campaign_id = 'daily_risk-2026-04'",
    "the sample of a month is gone": "delete from drawn_customer where campaign_id = 'daily_risk-2026-02'",
    "the goals are gone": "delete from quota",
    "a kind of drawn customer that is none": "update drawn_customer set kind = 'x' where campaign_id = 'daily_risk-2026-02'",
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_verify_says_of_a_damaged_store_what_is_not_the_same_and_does_not_fall(spring, tmp_path, damage):
    house = spring.copy(tmp_path / "home")
    with sqlite3.connect(house.home / "huifang.sqlite") as store:
        assert store.execute(DAMAGED[damage]).rowcount > 0
    assert "daily_risk-2026-04: NOT THE SAME" in house.call("verify", "daily_risk-2026-04", exits=(1,)).output


def test_an_export_of_a_damaged_lake_or_store_is_refused_in_words(year, tmp_path):
    house = year.copy(tmp_path / "home")
    frame = house.home / "lake" / "frames" / "daily_risk-2026" / "frame.parquet"
    whole = frame.read_bytes()
    frame.write_bytes(whole[: len(whole) // 2])
    words = ("verify", "daily_risk-2026-12", "--export", str(tmp_path / "export"))
    said = re.sub(r"\s+", " ", house.call(*words, exits=(2,)).output)
    assert "NOT THE SAME" in said
    assert "nothing is exported" in said
    assert not (tmp_path / "export").exists()
    frame.write_bytes(whole)
    with sqlite3.connect(house.home / "huifang.sqlite") as store:
        store.execute("delete from programme_year")
    assert "nothing can be exported" in re.sub(r"\s+", " ", house.call(*words, exits=(2,)).output)


# ---- chain ---------------------------------------------------------------------------------------------------


@pytest.fixture
def chained(pulled, tmp_path):
    return programme(pulled.copy(tmp_path / "home"), "daily_risk", file="daily_risk.yaml", seed=CHAIN)


def reveal(house, campaign, *words, now="2026-01-05T16:00+0800", exits=(0,)):
    return house.call("reveal", campaign, *words, "--now", now, exits=exits).output


def mails_of(house, attempt):
    """The texts of the commitment mails of one attempt, as they went out."""
    paths = house.rows(f"select path from mail where kind = 'commitment' and sequence / 100 = {attempt}")
    assert len(paths) == 2
    messages = [message_from_bytes((house.home / path).read_bytes(), policy=policy.default) for (path,) in paths]
    return [message.get_body(("plain",)).get_content() for message in messages]


def links_of(house, *, now="2026-01-04T09:00+0800"):
    file = house.home / "links.txt"
    house.call("chain", "daily_risk", "2026", "--out", str(file), "--by", "合规甲", "--now", now, exits=(0,))
    return dict(line.split() for line in file.read_text(encoding="ascii").splitlines() if not line.startswith("#"))


def test_a_month_with_a_chain_is_committed_revealed_by_two_and_drawn_once(chained, tmp_path):
    campaign = "daily_risk-2026-01"
    assert "1 waiting" in draw(chained, "2026-01", exits=(1,))
    assert chained.count("programme_year") == 1
    assert chained.count("campaign") == 0
    links = links_of(chained)
    assert (chained.home / "links.txt").stat().st_mode & 0o077 == 0
    assert set(links) == {f"K{n}" for n in range(13)}
    assert "1 waiting" in draw(chained, "2026-01", exits=(1,))
    assert chained.count("campaign") == 1
    assert chained.count("seed") == chained.count("draw") == 0

    early = reveal(chained, campaign, "--link", links["K1"], "--by", "合规甲", exits=(2,))
    assert "the public number is not entered yet" in re.sub(r"\s+", " ", early)
    for words, now, why in (
        (("--public", "4023", "--on", "2026-01-05"), "2026-01-05T16:00+0800", "looks like"),
        (("--public", "4023.42", "--on", "2026-01-05"), "2026-01-05T15:00+0800", "not known before"),
        (("--public", "4023.42", "--on", "2025-12-31"), "2026-01-05T16:00+0800", "before the commitment"),
        (("--public", "4083.67", "--on", "2026-01-06"), "2026-01-06T16:00+0800", "is not the next one"),
        (("--public", "4023.42"), "2026-01-05T16:00+0800", "of which day"),
    ):
        said = reveal(chained, campaign, *words, "--by", "运营乙", now=now, exits=(2,))
        assert why in re.sub(r"\s+", " ", said)
    reveal(chained, campaign, "--public", "4023.42", "--on", "2026-01-05", "--by", "运营乙")
    assert "second person" in reveal(chained, campaign, "--link", links["K1"], "--by", "运营乙", exits=(2,))
    assert "second person" in reveal(chained, campaign, "--link", links["K1"], "--by", " 运营乙　", exits=(2,))
    assert "not link K1" in reveal(chained, campaign, "--link", links["K2"], "--by", "合规甲", exits=(2,))
    assert "1 waiting" in draw(chained, "2026-01", exits=(1,))
    reveal(chained, campaign, "--link", links["K1"], "--by", "合规甲")
    draw(chained, "2026-01", exits=(0,))
    assert chained.count("draw") == 1
    sample = drawn(chained, campaign)
    draw(chained, "2026-01", exits=(0,))
    assert drawn(chained, campaign) == sample
    assert "drawn already" in reveal(
        chained, campaign, "--public", "1.00", "--on", "2026-01-06", "--by", "x", exits=(2,)
    )

    said = check_export(chained, campaign, tmp_path / "export")
    assert said.returncode == 0, said.stdout + said.stderr
    text = (tmp_path / "export" / "plan.json").read_text(encoding="utf-8")
    assert links["K1"] in text
    assert links["K2"] not in text
    kinds = Counter(kind for (kind,) in chained.rows("select kind from mail"))
    assert kinds == {"commitment": 2}


def test_a_wrong_public_number_is_given_up_in_the_open_and_the_next_one_taken(chained, tmp_path):
    campaign = "daily_risk-2026-01"
    draw(chained, "2026-01", exits=(1,))
    links = links_of(chained)
    draw(chained, "2026-01", exits=(1,))
    assert "nothing is entered" in chained.call("abort", campaign, "--by", "合规甲", "--reason", "x", exits=(2,)).output
    reveal(chained, campaign, "--public", "4032.24", "--on", "2026-01-05", "--by", "运营乙")
    give_up = ("abort", campaign, "--by", "合规甲", "--reason", "录入有误", "--now", "2026-01-05T17:00+0800")
    chained.call(*give_up, exits=(0,))
    unsent = reveal(chained, campaign, "--public", "4083.67", "--on", "2026-01-06", "--by", "运营乙",
                    now="2026-01-06T16:00+0800", exits=(2,))  # fmt: skip
    assert "attempt 2 has not been mailed" in re.sub(r"\s+", " ", unsent)
    draw(chained, "2026-01", "2026-01-06", exits=(1,))
    first, second = (mails_of(chained, number) for number in (1, 2))
    assert all("公开数值尚未产生" in text and "作废" not in text for text in first)
    for text in second:
        assert "公开数值尚未产生" not in text
        assert "4032.24" in text
        assert "合规甲 于 2026年1月5日 17:00 作废，原因：录入有误" in text
    again = ("--public", "4023.42", "--on", "2026-01-05", "--by", "运营乙")
    assert "before the commitment" in re.sub(
        r"\s+", " ", reveal(chained, campaign, *again, now="2026-01-05T17:30+0800", exits=(2,))
    )
    next_one = ("--public", "4083.67", "--on", "2026-01-06", "--by", "运营乙")
    reveal(chained, campaign, *next_one, now="2026-01-06T16:00+0800")
    reveal(chained, campaign, "--link", links["K1"], "--by", "合规甲", now="2026-01-06T16:10+0800")
    draw(chained, "2026-01", exits=(0,))
    said = check_export(chained, campaign, tmp_path / "export")
    assert said.returncode == 0, said.stdout + said.stderr
    (month,) = json.loads((tmp_path / "export" / "plan.json").read_text(encoding="utf-8"))["months"]
    assert [attempt["period"] for attempt in month["attempts"]] == ["2026-01", "2026-01#2"]
    assert month["attempts"][0]["aborted"] == "录入有误"
    assert (
        "2026-01 attempt 1 given up: public number 4032.24 (2026-01-05); by 合规甲 at 2026-01-05T17:00" in said.stdout
    )
    shown = re.sub(r"\s+", " ", chained.call("verify", campaign, exits=(0,)).output)
    assert "attempt 1 given up │ same │ 4032.24 of 2026-01-05; by 合规甲, 2026-01-05 17:00: 录入有误" in shown


def test_a_notice_corrected_after_the_commitment_is_no_forgery_and_is_said(chained):
    campaign = "daily_risk-2026-01"
    draw(chained, "2026-01", exits=(1,))
    links = links_of(chained)
    draw(chained, "2026-01", exits=(1,))
    (chained.home / "calendars").mkdir()
    (chained.home / "calendars" / "2026.yaml").write_text(
        "year: 2026\nsource: 国办发明电〔2026〕0号\nholidays: [2026-01-01, 2026-01-02, 2026-01-05]\n", encoding="utf-8"
    )
    later = "2026-01-06T16:00+0800"
    reveal(chained, campaign, "--public", "4083.67", "--on", "2026-01-06", "--by", "运营乙", now=later)
    reveal(chained, campaign, "--link", links["K1"], "--by", "合规甲", now=later)
    draw(chained, "2026-01", "2026-01-06", exits=(0,))
    said = re.sub(r"\s+", " ", chained.call("verify", campaign, exits=(0,)).output)
    assert "entered by the rules │ NOT COMPARED │ the public number of 2026-01-06 is not the next one" in said
    assert "by the calendar in use" in said


def test_a_public_number_waits_for_the_mail_of_the_commitment(chained):
    draw(chained, "2026-01", exits=(1,))
    links_of(chained)
    deaf = chained.having(HUIFANG_SMTP_URL="smtp://127.0.0.1:9", HUIFANG_MAIL_RETRY_SECONDS="0")
    draw(deaf, "2026-01", exits=(1,))
    words = ("--public", "4023.42", "--on", "2026-01-05", "--by", "运营乙")
    said = re.sub(r"\s+", " ", reveal(chained, "daily_risk-2026-01", *words, exits=(2,)))
    assert "the commitment of attempt 1 has not been mailed to compliance or headquarters" in said
    assert "Run `huifang run draw` for the period again" in said
    draw(chained, "2026-01", exits=(1,))
    reveal(chained, "daily_risk-2026-01", *words)


def test_nobody_reveals_or_gives_up_while_a_draw_runs(chained):
    campaign = "daily_risk-2026-01"
    draw(chained, "2026-01", exits=(1,))
    links_of(chained)
    draw(chained, "2026-01", exits=(1,))
    words = ("--public", "4023.42", "--on", "2026-01-05", "--by", "运营乙")
    with open_store(Settings(home=chained.home)).exclusive("draw-daily_risk"):
        busy = reveal(chained, campaign, *words, exits=(1, 2, 3, 75))
        assert "another run is at 'draw-daily_risk'" in re.sub(r"\s+", " ", busy)
    reveal(chained, campaign, *words)
    with open_store(Settings(home=chained.home)).exclusive("draw-daily_risk"):
        busy = chained.call("abort", campaign, "--by", "合规甲", "--reason", "x", exits=(1, 2, 3, 75)).output
        assert "another run is at 'draw-daily_risk'" in re.sub(r"\s+", " ", busy)
    assert chained.count("abort") == 0


def test_a_sample_smaller_than_the_places_dealt_is_never_drawn(chained):
    campaign = "daily_risk-2026-01"
    draw(chained, "2026-01", exits=(1,))
    links = links_of(chained)
    draw(chained, "2026-01", exits=(1,))
    reveal(chained, campaign, "--public", "4023.42", "--on", "2026-01-05", "--by", "运营乙")
    reveal(chained, campaign, "--link", links["K1"], "--by", "合规甲")
    with sqlite3.connect(chained.home / "huifang.sqlite") as store:
        store.execute("update campaign_stratum set places = places + 5000 where group_key = '0001'")
    said = re.sub(r"\s+", " ", draw(chained, "2026-01", exits=(2,)))
    assert "customers were found for the places dealt; nothing is drawn" in said
    assert chained.count("draw") == chained.count("assignment") == 0


REWRITTEN = {
    "the public number": "update reveal set value = '4023.43' where kind = 'public'",
    "the link": "update reveal set value = '0' || substr(value, 2) where kind = 'link'",
    "the commitment": "update chain set k0 = '0' || substr(k0, 2)",
    "the seed": "update seed set seed = '0' || substr(seed, 2)",
    "the day of the number": "update reveal set public_on = '2026-01-06' where kind = 'public'",
    "who entered the number": "update reveal set revealed_by = '合规甲' where kind = 'public'",
    "when the link was entered": "update reveal set revealed_at = '2026-01-04 00:30:00.000000' where kind = 'link'",
    "the length of the chain": "update chain set links = 24",
    "the time of the commitment": "update campaign set committed_at = '2026-01-05 07:45:00.000000'",
}


@pytest.fixture(scope="module")
def revealed(pulled, tmp_path_factory):
    """January of a chain, drawn after number and link were entered."""
    house = pulled.copy(tmp_path_factory.mktemp("revealed") / "home")
    house = programme(house, "daily_risk", file="daily_risk.yaml", seed=CHAIN)
    draw(house, "2026-01", exits=(1,))
    links = links_of(house)
    draw(house, "2026-01", exits=(1,))
    reveal(house, "daily_risk-2026-01", "--public", "4023.42", "--on", "2026-01-05", "--by", "运营乙")
    reveal(house, "daily_risk-2026-01", "--link", links["K1"], "--by", "合规甲")
    draw(house, "2026-01", exits=(0,))
    house.call("verify", "daily_risk-2026-01", exits=(0,))
    return house


@pytest.mark.parametrize("change", REWRITTEN)
def test_verify_finds_one_changed_sign_of_what_a_seed_is_made_of(revealed, tmp_path, change):
    house = revealed.copy(tmp_path / "home")
    column, tail = re.search(r"set (\w+) = (.*)", REWRITTEN[change]).groups()
    # A sign that is 0 already would not change.
    other = f"case substr({column}, 1, 1) when '0' then '1' else '0' end ||"
    statement = REWRITTEN[change].replace(tail, tail.replace("'0' ||", other))
    with sqlite3.connect(house.home / "huifang.sqlite") as store:
        assert store.execute(statement).rowcount == 1
    found = wrong_checks(house, "daily_risk-2026-01")
    expected = {
        "the day of the number": "public number and link entered by the rules",
        "who entered the number": "public number and link entered by the rules",
        "when the link was entered": "public number and link entered by the rules",
        "the time of the commitment": "public number and link entered by the rules",
        "the length of the chain": "links of the chain",
    }
    assert found
    assert expected.get(change, found[0]) in found


# ---- changes of the programme --------------------------------------------------------------------------------


def test_a_programme_changed_in_june_goes_on_from_what_was_done(pulled, tmp_path):
    house = pulled.copy(tmp_path / "home")
    house = programme(house, "daily_risk", file="daily_risk_2.yaml", version=2, valid_from=date(2026, 6, 1),
                      goal={"kind": "rate", "rate": "0.20", "source": {"text": "加严", "holds_from": date(2026, 6, 1)}},
                      strata=["segment", "risk_level"])  # fmt: skip
    for period in ("2026-04", "2026-05"):
        draw(house, period)
        answer(house, f"{period}-10", lambda c, b: "refused" if ticket("fate", c) < "3" else "done_clear")
    before = house.status("2026-05-31")["campaigns"][-1]
    draw(house, "2026-06")
    assert house.rows("select id, version, from_period from programme_year order by version") == [
        ("daily_risk-2026", 1, "2026-04"),
        ("daily_risk-2026.2", 2, "2026-06"),
    ]
    after = house.status("2026-06-02")["campaigns"][-1]
    assert after["goal"] > before["goal"] * 1.9
    assert after["completed_year"] == before["completed_year"] > 0
    assert after["drawn"] > before["drawn"]
    early = {*drawn(house, "daily_risk-2026-04"), *drawn(house, "daily_risk-2026-05")}
    assert not early & {*drawn(house, "daily_risk-2026-06")}
    strata = {
        row[0] for row in house.rows("select stratum from campaign_stratum where campaign_id = 'daily_risk-2026-06'")
    }
    assert any("|" in stratum for stratum in strata)
    # May keeps the plan it was drawn under.
    draw(house, "2026-05", "2026-06-03")
    said = check_export(house, "daily_risk-2026-06", tmp_path / "export")
    assert said.returncode == 0, said.stdout + said.stderr
    assert (tmp_path / "export" / "frame-1.csv.gz").is_file()
    house.call("verify", "daily_risk-2026-05", exits=(0,))


def test_a_risk_tier_with_twice_the_weight_gets_places_before_the_others(pulled, tmp_path):
    shares = {}
    for weights in ({}, {"C4": "3"}):
        house = programme(
            pulled.copy(tmp_path / str(len(weights))), "daily_risk", file="daily_risk.yaml", strata=["risk_level"],
            minimum=0, weights=weights, goal={"kind": "rate", "rate": "0.30", "source": {"text": "x", "holds_from": date(2020, 1, 1)}},
        )  # fmt: skip
        draw(house, "2026-03")
        rows = house.rows("select stratum, sum(places), sum(customers) from campaign_stratum group by 1")
        shares[bool(weights)] = {stratum: places / customers for stratum, places, customers in rows}
        said = check_export(house, "daily_risk-2026-03", tmp_path / f"export{len(weights)}")
        assert said.returncode == 0, said.stdout + said.stderr
    assert shares[True]["C4"] > 1.8 * shares[False]["C4"]
    assert shares[True]["C2"] < shares[False]["C2"]


def test_a_file_changed_without_a_higher_version_is_refused_for_the_next_month_only(pulled, tmp_path):
    house = pulled.copy(tmp_path / "home")
    draw(house, "2026-03")
    house = programme(house, "daily_risk", file="daily_risk.yaml", capacity=1)
    draw(house, "2026-03", "2026-03-03", exits=(0,))
    said = re.sub(r"\s+", " ", draw(house, "2026-04", exits=(2,)))
    assert "higher version" in said
    assert house.count("campaign") == 1


def test_a_status_that_no_customer_can_have_stops_the_freeze(pulled, tmp_path):
    exclusions = [
        {
            "reason": "dormant",
            "column": "status",
            "values": ["Dormant"],
            "source": {"text": "x", "holds_from": date(2020, 1, 1)},
        }
    ]
    house = programme(pulled.copy(tmp_path / "home"), "daily_risk", file="daily_risk.yaml", exclusions=exclusions)
    assert "'Dormant' is no status" in re.sub(r"\s+", " ", draw(house, "2026-03", exits=(2,)))
    assert house.count("programme_year") == 0


@pytest.mark.parametrize("is_gone", [True, False], ids=["file removed", "version that ended"])
def test_a_committed_month_goes_on_when_its_programme_file_no_longer_holds(pulled, tmp_path, is_gone):
    house = programme(pulled.copy(tmp_path / "home"), "daily_risk", file="daily_risk.yaml")
    draw(house, "2026-03")
    answer(house, "2026-03-05", lambda c, b: "refused" if b == "0001" else None)
    if is_gone:
        (house.home / "programmes" / "daily_risk.yaml").unlink()
    else:
        programme(house, "daily_risk", file="daily_risk.yaml", valid_to=date(2026, 2, 28))
    calls = house.count("assignment")
    draw(house, "2026-03", "2026-03-06", exits=(0,))
    assert house.count("assignment") >= calls
    assert "programme 'daily_risk'" in draw(house, "2026-04", exits=(2,))
    house.call("verify", "daily_risk-2026-03", exits=(0,))


def test_december_is_committed_only_when_its_due_days_are_known(pulled, tmp_path):
    house = pulled.copy(tmp_path / "home")
    said = re.sub(r"\s+", " ", draw(house, "2026-12", "2026-12-28", exits=(2,)))
    assert "calendars/2027.yaml" in said
    assert house.count("campaign") == house.count("seed") == 0
    (house.home / "calendars").mkdir()
    (house.home / "calendars" / "2027.yaml").write_text(
        "year: 2027\nsource: 国办发明电〔2026〕0号\nholidays: [2027-01-01]\n", encoding="utf-8"
    )
    draw(house, "2026-12", "2026-12-28")
    assert house.count("draw") == 1
    said = check_export(house, "daily_risk-2026-12", tmp_path / "export")
    assert said.returncode == 0, said.stdout + said.stderr


def test_months_are_drawn_in_order(pulled, tmp_path):
    house = pulled.copy(tmp_path / "home")
    draw(house, "2026-04")
    assert "in order" in draw(house, "2026-03", exits=(2,))


# ---- coverage ------------------------------------------------------------------------------------------------


def with_marketers(house):
    """A marketer with one customer who is dormant, and one without any."""
    inbox = house.home / "inbox"
    with (inbox / "customers.csv").open(encoding="utf-8", newline="") as file:
        dormant = next(row for row in csv.DictReader(file) if row["status"] == "dormant")
    with (inbox / "relations.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["customer_id"] != dormant["customer_id"]]
    with (inbox / "relations.csv").open("w", encoding="utf-8", newline="") as file:
        out = csv.DictWriter(file, list(rows[0]))
        out.writeheader()
        out.writerows(rows)
        out.writerow(
            {"customer_id": dormant["customer_id"], "staff_id": "777001", "kind": "developer", "valid_from": "2020-01-01",
             "valid_to": ""}
        )  # fmt: skip
    with (inbox / "staff.csv").open("a", encoding="utf-8") as file:
        for staff_id in ("777001", "777002"):
            file.write(f"{staff_id},新人{staff_id[-1]},0001,broker,2020-01-01,,\n")
    house.pull()
    return house


def test_marketers_who_cannot_be_covered_are_listed_with_the_reason(pulled, tmp_path):
    house = with_marketers(pulled.copy(tmp_path / "home"))
    said = draw(house, "2026-03", name="marketer_conduct", exits=(1,))
    assert "look at" in said
    groups = {
        row[0]: row[1:]
        for row in house.rows("select group_key, eligible, share, places, shortfall, reason from campaign_group")
    }
    assert groups["777001"] == (0, 2, 0, 2, "excluded")
    assert groups["777002"] == (0, 2, 0, 2, "no_customers")
    (found,) = house.status("2026-03-02")["campaigns"]
    assert found["shortfalls"].keys() >= {"excluded", "no_customers"}
    said = check_export(house, "marketer_conduct-2026-03", tmp_path / "export")
    assert said.returncode == 0, said.stdout + said.stderr


def test_failures_are_not_reopened_in_a_programme_that_covers_marketers(pulled, tmp_path):
    house = pulled.copy(tmp_path / "home")
    draw(house, "2026-03", name="marketer_conduct")
    ((marketer,),) = house.rows("select min(group_key) from campaign_group")
    words = (
        "exception",
        "reopen",
        "marketer_conduct",
        "2026-04",
        marketer,
        marketer,
        "--by",
        "合规甲",
        "--reason",
        "x",
    )
    said = re.sub(r"\s+", " ", house.call(*words, exits=(2,)).output)
    assert "failures are reopened only in programmes with strata" in said
    assert house.count("hand_made") == 0


def test_a_developer_who_changes_after_the_base_counts_where_he_is_at_the_draw(pulled, tmp_path):
    house = pulled.copy(tmp_path / "home")
    draw(house, "2026-03", name="marketer_conduct")
    answer(house, "2026-03-10", lambda c, b: "done_clear", name="marketer_conduct")
    inbox = house.home / "inbox"
    with (inbox / "relations.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    developers = Counter(row["staff_id"] for row in rows if row["kind"] == "developer" and not row["valid_to"])
    old = developers.most_common(1)[0][0]
    moved = [row for row in rows if row["staff_id"] == old and row["kind"] == "developer" and not row["valid_to"]]
    for row in moved:
        row["valid_to"] = "2026-03-31"
    with (inbox / "staff.csv").open("a", encoding="utf-8") as file:
        file.write("777003,接手人,0001,broker,2020-01-01,,\n")
    with (inbox / "relations.csv").open("w", encoding="utf-8", newline="") as file:
        out = csv.DictWriter(file, list(rows[0]))
        out.writeheader()
        out.writerows(rows)
        out.writerows(row | {"staff_id": "777003", "valid_from": "2026-04-01", "valid_to": ""} for row in moved)
    house.call(
        *("run", "pull", "--profile", str(PROJECT / "profiles" / "canonical.yaml"), "--inbox", str(inbox)),
        *at("2026-04-01", "07:00"),
    )
    draw(house, "2026-04", "2026-04-02", name="marketer_conduct")
    groups = {
        row[0]: row[1:]
        for row in house.rows(
            "select group_key, completed, eligible, share from campaign_group where campaign_id = 'marketer_conduct-2026-04'"
        )
    }
    assert groups["777003"][0] == 0
    assert groups["777003"][2] == 2  # ⌈6 × 4 / 12⌉, none counted yet
    assert groups[old][1] == 0
    called = {*drawn(house, "marketer_conduct-2026-03"), *drawn(house, "marketer_conduct-2026-04")}
    assert len(called) == len(drawn(house, "marketer_conduct-2026-03")) + len(drawn(house, "marketer_conduct-2026-04"))
    said = check_export(house, "marketer_conduct-2026-04", tmp_path / "export")
    assert said.returncode == 0, said.stdout + said.stderr


# ---- exceptions and hand-overs -------------------------------------------------------------------------------


def test_an_approver_withdraws_calls_and_a_reserve_takes_the_place_that_the_share_lacks(pulled, tmp_path):
    house = pulled.copy(tmp_path / "home")
    draw(house, "2026-03")
    ((share, places),) = house.rows("select share, places from campaign_group where group_key = '0001'")
    sample = house.rows(
        "select customer_id from drawn_customer where branch_no = '0001' and kind = 'sample' order by 1"
    )
    assert places == len(sample) > share > 0
    for (customer,) in sample[: places - share + 1]:
        words = ("exception", "withdraw", "daily_risk", "2026", customer, "--by", "合规甲", "--reason", "诉讼中")
        house.call(*words, exits=(0,))
    assert "already" in house.call(*words, exits=(0,)).output
    stranger = ("exception", "withdraw", "daily_risk", "2026", "nobody", "--by", "合规甲", "--reason", "x")
    assert "has no call" in house.call(*stranger, exits=(2,)).output
    draw(house, "2026-03", "2026-03-03")
    (found,) = house.status("2026-03-03")["campaigns"]
    assert found["withdrawn"] == places - share + 1
    assert found["eligible"] == sum(branch["eligible"] for branch in found["branches"])
    assert house.rows("select count(*) from assignment_purpose where replaces_id is not null") == [(1,)]
    assert {row[0] for row in house.rows("select decided_by from assignment_end")} == {"合规甲"}
    before = house.count("assignment")
    draw(house, "2026-03", "2026-03-04")
    assert house.count("assignment") == before
    house.call("verify", "daily_risk-2026-03", exits=(0,))


def test_capacity_set_by_an_approver_holds_for_its_month_and_branch(pulled, tmp_path):
    house = pulled.copy(tmp_path / "home")
    draw(house, "2026-02")
    late = (
        "exception",
        "capacity",
        "daily_risk",
        "2026-02",
        "0001",
        "--calls",
        "1",
        "--by",
        "合规甲",
        "--reason",
        "装修",
    )
    assert "too late" in house.call(*late, exits=(2,)).output
    house.call(
        "exception",
        "capacity",
        "daily_risk",
        "2026-03",
        "0001",
        "--calls",
        "1",
        "--by",
        "合规甲",
        "--reason",
        "装修",
        exits=(0,),
    )
    draw(house, "2026-03", exits=(1,))
    rows = house.rows(
        "select capacity, places, reason from campaign_group where campaign_id = 'daily_risk-2026-03' and group_key = '0001'"
    )
    assert rows == [(1, 1, "capacity")]
    said = check_export(house, "daily_risk-2026-03", tmp_path / "export")
    assert said.returncode == 0, said.stdout + said.stderr
    assert "0001: 合规甲 approved a capacity of 1; reason: 装修" in said.stdout
    with sqlite3.connect(house.home / "huifang.sqlite") as store:
        store.execute("update hand_made set calls = 2")
    assert {"capacity", "audit rows"} <= {*wrong_checks(house, "daily_risk-2026-03")}


def test_customers_excluded_by_hand_stand_in_the_ledger_and_only_before_the_base_is_frozen(pulled, tmp_path):
    house = pulled.copy(tmp_path / "home")
    content = yaml.safe_load((PROJECT / "programmes" / "daily_risk.yaml").read_text(encoding="utf-8"))
    by_hand = {"reason": "litigation", "by_hand": True, "source": {"text": "本公司", "holds_from": date(2020, 1, 1)}}
    house = programme(house, "daily_risk", file="daily_risk.yaml", exclusions=[*content["exclusions"], by_hand])
    with (house.home / "inbox" / "customers.csv").open(encoding="utf-8", newline="") as file:
        active = [row["customer_id"] for row in csv.DictReader(file) if row["status"] == "active"][:2]
    give = ("exception", "exclude", "daily_risk", "2026")
    words = ("--reason-code", "litigation", "--by", "合规甲", "--reason", "诉讼", "--now", "2026-01-03T09:00+0800")
    house.call(*give, active[0], *words, exits=(0,))
    draw(house, "2026-03")
    (found,) = house.status("2026-03-02")["campaigns"]
    assert found["excluded"]["litigation"] == 1
    assert found["base"] == found["eligible"] + sum(found["excluded"].values())
    assert "frozen" in house.call(*give, active[1], *words, exits=(2,)).output
    said = check_export(house, "daily_risk-2026-03", tmp_path / "export")
    assert said.returncode == 0, said.stdout + said.stderr
    assert active[0] in (tmp_path / "export" / "plan.json").read_text(encoding="utf-8")


def test_an_exhausted_stratum_reopens_its_failures_only_with_an_approver(pulled, tmp_path):
    house = pulled.copy(tmp_path / "home")
    everybody = {"kind": "rate", "rate": "1", "source": {"text": "全部", "holds_from": date(2020, 1, 1)}}
    house = programme(house, "daily_risk", file="daily_risk.yaml", strata=[], capacity=9999, goal=everybody)
    for day in ("2026-10-09", "2026-11-02"):
        draw(house, day[:7], day)
        answer(house, f"{day[:7]}-20", lambda c, b: "refused" if ticket("fate", c) < "8" else "done_clear")
    left = dict(house.rows(
        "select s.group_key, s.customers - count(p.assignment_id) from stratum s "
        "left join drawn_customer d on d.group_key = s.group_key "
        "left join assignment a on a.customer_id = d.customer_id and a.campaign_id = d.campaign_id "
        "left join assignment_purpose p on p.assignment_id = a.id group by 1"
    ))  # fmt: skip
    empty = sorted(group for group, count in left.items() if count == 0)
    assert len(empty) > 1, left
    for group in (empty[0], empty[0]):
        house.call(
            "exception", "reopen", "daily_risk", "2026-12", group, "*", "--by", "合规甲", "--reason", "再试", exits=(0,)
        )
    failed = {
        row[0]
        for row in house.rows(
            "select a.customer_id from assignment a join return_row r on r.assignment_id = a.id "
            f"where r.fails and a.branch_no = '{empty[0]}'"
        )
    }
    draw(house, "2026-12", exits=(1,))  # the other branches have nobody left
    places = {row[0]: row[1:] for row in house.rows(
        "select group_key, places, reason from campaign_group where campaign_id = 'daily_risk-2026-12'"
    )}  # fmt: skip
    assert places[empty[1]] == (0, "exhausted")
    again = house.rows(
        "select customer_id from drawn_customer where campaign_id = 'daily_risk-2026-12' and kind = 'sample' "
        f"and group_key = '{empty[0]}' order by ticket"
    )
    assert len(again) == places[empty[0]][0] > 0
    assert {row[0] for row in again} <= failed
    (seed,) = house.rows("select seed from seed where campaign_id = 'daily_risk-2026-12'")[0]
    in_order = sorted(failed, key=lambda customer: ticket(seed, customer))
    assert [row[0] for row in again] == in_order[: len(again)]
    said = check_export(house, "daily_risk-2026-12", tmp_path / "export")
    assert said.returncode == 0, said.stdout + said.stderr
    house.call("verify", "daily_risk-2026-12", exits=(0,))


def test_an_approval_to_reopen_has_no_effect_where_somebody_was_never_taken(pulled, tmp_path):
    house = pulled.copy(tmp_path / "home")
    draw(house, "2026-03")
    answer(house, "2026-03-10", lambda c, b: "refused")
    house.call(
        "exception",
        "reopen",
        "daily_risk",
        "2026-04",
        "0001",
        "retail",
        "--by",
        "合规甲",
        "--reason",
        "x",
        exits=(0, 2),
    )
    draw(house, "2026-04", exits=(0,))
    assert not {*drawn(house, "daily_risk-2026-04")} & {*drawn(house, "daily_risk-2026-03")}


def test_a_window_between_contacts_moves_the_day_and_never_the_selection(pulled, tmp_path):
    free, kept = pulled.copy(tmp_path / "free"), pulled.copy(tmp_path / "kept")
    kept = programme(kept, "marketer_conduct", file="marketer_conduct.yaml",
                     no_recontact={"days": 60, "source": {"text": "x", "holds_from": date(2020, 1, 1)}})  # fmt: skip
    for house in (free, kept):
        draw(house, "2026-03")
        answer(house, "2026-03-20", lambda c, b: "done_clear")
        draw(house, "2026-04", name="marketer_conduct")
    contacted = {
        row[0] for row in kept.rows("select customer_id from assignment where campaign_id = 'daily_risk-2026-03'")
    }
    planned = dict(
        kept.rows("select customer_id, call_on from assignment where campaign_id = 'marketer_conduct-2026-04'")
    )
    due = dict(kept.rows("select customer_id, due_on from assignment where campaign_id = 'marketer_conduct-2026-04'"))
    assert planned.keys() == set(drawn(kept, "marketer_conduct-2026-04"))
    for customer, day in planned.items():
        assert day >= ("2026-05-19" if customer in contacted else "2026-04-02")
        assert day <= due[customer]
        assert customer in contacted or day <= "2026-04-30"
    places = "select sum(places) from campaign_group where campaign_id = 'marketer_conduct-2026-04'"
    assert kept.rows(places) == free.rows(places)


def test_a_window_that_outlasts_the_year_is_non_response_with_its_reason(pulled, tmp_path):
    house = programme(pulled.copy(tmp_path / "home"), "marketer_conduct", file="marketer_conduct.yaml",
                      no_recontact={"days": 366, "source": {"text": "x", "holds_from": date(2020, 1, 1)}})  # fmt: skip
    whole = programme(house, "daily_risk", file="daily_risk.yaml", capacity=9999,
                      goal={"kind": "rate", "rate": "1", "source": {"text": "x", "holds_from": date(2020, 1, 1)}})  # fmt: skip
    draw(whole, "2026-11")
    answer(whole, "2026-11-20", lambda c, b: "done_clear")
    draw(whole, "2026-12", name="marketer_conduct", exits=(0, 1))
    ends = whole.rows(
        "select e.reason, e.kind, a.call_on from assignment_end e join assignment a on a.id = e.assignment_id "
        "where a.campaign_id = 'marketer_conduct-2026-12'"
    )
    assert len(ends) > 5
    assert {*ends} == {("no_recontact_window", "withdrawn", None)}
    whole.status("2026-12-02")  # its balances hold
    whole.call("verify", "marketer_conduct-2026-12", exits=(0,))


def test_headquarters_calls_for_every_branch_within_the_capacity_of_its_centre(pulled, tmp_path):
    house = programme(pulled.copy(tmp_path / "home"), "daily_risk", file="daily_risk.yaml", caller="hq",
                      capacity={"per_workday": 1})  # fmt: skip
    said = draw(house, "2026-03", exits=(1,))
    assert "shortfall" in said
    groups = house.rows("select group_key, capacity, places, shortfall, reason from campaign_group order by 1")
    workdays = 22  # of March 2026, all left on its second
    assert sum(row[1] for row in groups) == sum(row[2] for row in groups) == workdays
    assert all(row[2] > 0 for row in groups), "a heavy branch does not starve the others"
    assert {row[4] for row in groups} == {"capacity"}
    calls = house.rows("select caller, call_on from assignment")
    assert {row[0] for row in calls} == {"hq"}
    assert max(Counter(day for _, day in calls).values()) == 1
    house.call("run", "dispatch", *at("2026-03-02"), exits=(0,))
    assert house.rows("select recipient, role from mail") == [("HQ", "hq_service")]
    said = check_export(house, "daily_risk-2026-03", tmp_path / "export")
    assert said.returncode == 0, said.stdout + said.stderr


def test_a_merged_branch_hands_its_open_calls_and_its_future_ones_over(pulled, tmp_path):
    house = pulled.copy(tmp_path / "home")
    draw(house, "2026-03")
    house.call("run", "dispatch", *at("2026-03-02"), exits=(0,))
    done = answer(
        house, "2026-03-06", lambda c, b: "done_clear" if b == "0002" and c < "K" and ticket("x", c) < "8" else None
    )
    before = {row[0]: row[1] for row in house.rows("select branch_no, count(*) from assignment group by 1")}
    hand = ("handover", "0002", "0004", "--from", "2026-03-09", "--by", "运营乙", "--reason", "合并")
    house.call(*hand, exits=(0,))
    assert "already" in house.call(*hand, exits=(2,)).output
    back = ("handover", "0004", "0002", "--from", "2026-03-10", "--by", "运营乙", "--reason", "x")
    assert "circle" in house.call(*back, exits=(2,)).output
    draw(house, "2026-03", "2026-03-09")
    moved = house.rows("select from_branch, to_branch, count(*) from assignment_handover group by 1, 2")
    assert moved == [("0002", "0004", before["0002"] - done)]
    (found,) = house.status("2026-03-09")["campaigns"]
    by_branch = {branch["branch_no"]: branch for branch in found["branches"]}
    assert by_branch["0002"]["open"] == 0
    assert by_branch["0002"]["assigned"] == done
    assert by_branch["0004"]["assigned"] == before["0004"] + before["0002"] - done
    mails = house.count("mail")
    house.call("run", "dispatch", *at("2026-03-09"), exits=(0,))
    assert house.count("mail") == mails + 1
    assert house.rows("select recipient from mail order by id desc limit 1") == [("0004",)]
    draw(house, "2026-04")
    april = house.rows(
        "select distinct a.branch_no, d.branch_no from assignment a join drawn_customer d on d.campaign_id = a.campaign_id "
        "and d.customer_id = a.customer_id where a.campaign_id = 'daily_risk-2026-04' and d.branch_no = '0002'"
    )
    assert april == [("0004", "0002")]
    house.call("verify", "daily_risk-2026-04", exits=(0,))


# ---- the ledger and the projection ---------------------------------------------------------------------------


def test_the_ledger_lies_in_the_lake_customer_by_customer_and_balances(pulled, tmp_path):
    house = pulled.copy(tmp_path / "home")
    draw(house, "2026-03")
    folder = house.home / "lake" / "frames" / "daily_risk-2026"
    frame, ledger = (pq.read_table(folder / f"{name}.parquet").to_pylist() for name in ("frame", "ledger"))
    ids = [row["customer_id"] for row in (*frame, *ledger)]
    assert len(ids) == len(set(ids)) == 1500
    assert all(row["reason"] for row in ledger)
    named = Counter(row["kind"] for row in pq.read_table(folder / "contradictions.parquet").to_pylist())
    (found,) = house.status("2026-03-02")["campaigns"]
    assert dict(named) == found["contradictions"]


def test_the_projection_says_who_will_miss_the_goal(year, pulled, tmp_path):
    found = json.loads(year.call("projection", "daily_risk", "--json", "--as-of", "2026-12-31").stdout)
    (whole,) = found
    assert whole["company"]["verdict"] == "reached"
    house = pulled.copy(tmp_path / "home")
    draw(house, "2026-11")
    answer(house, "2026-11-20", lambda c, b: "refused" if b == "0001" else "done_clear")
    result = house.call("projection", "daily_risk", "--json", "--as-of", "2026-11-30", exits=(1,))
    (whole,) = json.loads(result.stdout)
    by_group = {group["group"]: group for group in whole["groups"]}
    assert by_group["0001"]["completed"] == 0
    assert by_group["0001"]["verdict"] in ("behind", "undecided")
    assert by_group["0001"]["expected"] > 0, "nobody has answered yet, but a month is left"
    assert by_group["0002"]["verdict"] == "reached"
    assert whole["company"]["completed"] == sum(group["completed"] for group in whole["groups"])


def test_a_plan_for_a_call_has_a_person_and_a_workday(pulled, tmp_path):
    house = pulled.copy(tmp_path / "home")
    draw(house, "2026-03")
    rows = house.rows("select caller, caller_id, call_on, due_on from assignment")
    days = Counter(row[2] for row in rows)
    assert all(date.fromisoformat(day).weekday() < 5 for day in days)
    assert all(row[2] <= row[3] for row in rows)
    assert len(days) > 5
    related = set(house.rows("select a.customer_id, a.caller_id from assignment a where a.caller_id <> ''"))
    with (house.home / "inbox" / "relations.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["valid_from"] <= "2026-03-02" and not row["valid_to"]:
                assert (row["customer_id"], row["staff_id"]) not in related
