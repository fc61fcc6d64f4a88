"""A month at a small brokerage through the command line, the Prefect flows and real mail, and what must hold of it."""

import csv
import email
import io
import json
import re
import sqlite3
import time
from collections import Counter
from contextlib import closing
from email.policy import default

import msoffcrypto
import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from house import YEAR_END, House, at
from msoffcrypto.exceptions import InvalidKeyError

from tasks.settings import PROJECT

pytestmark = pytest.mark.slow

PROGRAMMES = ("daily_risk", "marketer_conduct")
CAMPAIGN = "daily_risk-2026-03"
BERKA = PROJECT.parent / "shared" / "data" / "berka"


@pytest.fixture(scope="module")
def brokerage(prefect_client, tmp_path_factory):
    return House.build(tmp_path_factory.mktemp("house") / "home", prefect_client, customers=1200, branches=6)


@pytest.fixture(scope="module")
def pulled(brokerage, tmp_path_factory):
    house = brokerage.copy(tmp_path_factory.mktemp("pulled") / "home")
    house.pull()
    return house


def mails_of(house):
    """Every mail that was handed to the embedded server for somebody else, by address."""
    return {
        path: email.message_from_bytes(path.read_bytes(), policy=default)
        for path in sorted((house.home / "maildir").glob(".*@*/new/*"))
    }


@pytest.fixture(scope="module")
def month(pulled, tmp_path_factory):
    """The whole month, every command given twice, and what the second time changed."""
    house, changed = pulled.copy(tmp_path_factory.mktemp("month") / "home"), []

    def twice(*words):
        house.call(*words)
        before = house.status(), sorted(mails_of(house))
        house.call(*words)
        if (house.status(), sorted(mails_of(house))) != before:
            changed.append(words)

    twice(
        *("run", "pull", "--profile", "profiles/canonical.yaml", "--inbox", str(house.home / "inbox")),
        *YEAR_END,
    )
    for programme in PROGRAMMES:
        twice("run", "draw", "--programme", programme, "--period", "2026-03", *at("2026-03-02", "07:30"))
    twice("run", "dispatch", *at("2026-03-02"))
    for answered, chased in (("2026-03-12", "2026-03-13"), ("2026-03-18", "2026-03-19"), ("2026-03-24", "2026-03-25")):
        house.answer(answered)
        twice("run", "collect", *at(answered, "18:15"))
        twice("run", "chase", *at(chased, "09:30"))
    twice("run", "report", *at("2026-03-31", "10:00"))
    return house, changed


def test_every_figure_of_the_month_balances(month):
    house, _ = month
    found = house.status()  # raises when one of its own balances does not hold
    assert [campaign["campaign"] for campaign in found["campaigns"]] == [f"{name}-2026-03" for name in PROGRAMMES]
    for campaign in found["campaigns"]:
        assert campaign["base"] == 1200 == campaign["eligible"] + sum(campaign["excluded"].values())
        assert campaign["completed"] > 0
        assert campaign["assigned"] == sum(
            campaign[k] for k in ("completed", "open", "replaced", "withdrawn", "expired")
        )
        assert campaign["drawn"] == campaign["assigned"]
        branches = campaign["branches"]
        for key in ("drawn", "reserve", "eligible", "base", "assigned", "completed", "open", "replaced", "findings"):
            assert sum(branch[key] for branch in branches) == campaign[key], key
        assert len(campaign["balances"]) > 4 + len(branches)
    for pull in found["pulls"]:
        for table in pull["tables"]:
            assert table["rows"] == table["accepted"] + table["ignored"] + table["rejected"], table["table"]
            assert sum(table["rejected_by"].values()) >= table["rejected"]
    for counts, whole in ((found["mails"], "claimed"), (found["messages"], "seen")):
        assert counts[whole] == sum(n for name, n in counts.items() if name != whole) > 0
    assert found["mails"]["sent"] == found["mails"]["claimed"] == len(mails_of(house))
    arrived = len(list((house.home / "maildir").glob(".[PRQ]*/cur/*"))) + len(
        list((house.home / "maildir").glob("new/*"))
    )
    assert found["messages"]["seen"] == arrived


def test_a_second_run_of_any_flow_changes_nothing_and_mails_nobody(month):
    house, changed = month
    assert not changed
    ids = Counter(message["Message-ID"] for message in mails_of(house).values())
    assert max(ids.values()) == 1


def test_every_drawn_call_stands_in_exactly_one_list(month):
    house, _ = month
    carried = house.rows("select item_id from mail_item where kind = 'assignment' order by 1")
    assert carried == house.rows("select id from assignment order by 1")


def test_no_person_is_named_where_others_read(month, prefect_client):
    house, _ = month
    with (house.home / "inbox" / "customers.csv").open(encoding="utf-8") as file:
        people = list(csv.DictReader(file))
    with (house.home / "inbox" / "staff.csv").open(encoding="utf-8") as file:
        of_staff = {row["phone"] for row in csv.DictReader(file)} - {""}
    assert len(of_staff) > 20
    numbers = of_staff | {row[key].strip() for row in people for key in ("phone", "id_no")} - {""}
    names = {re.sub(r"\s", "", row["customer_name"]) for row in people}
    names = {name for name in names if len(name) >= 3}  # two signs may be a word
    assert len(numbers) > 1500
    assert len(names) > 200

    texts = {f"log {path.name}": path.read_text(encoding="utf-8", errors="replace") for path in
             [house.home / "commands.log", *(house.home / "log").glob("*")]}  # fmt: skip
    texts |= {f"prefect {name}": text for name, text in recorded_by_prefect().items()}
    texts |= {f"status {name}": house.call("status", *name.split()).output for name in ("--json", "")}
    texts["report"] = "".join(path.read_text(encoding="utf-8") for path in (house.home / "reports").glob("*.html"))
    for path, message in mails_of(house).items():
        parts = [part.get_content() for part in message.walk() if part.get_content_maintype() == "text"]
        assert parts
        texts[f"mail {path.parent.parent.name} {message['Subject']}"] = "\n".join(
            [
                str(message["Subject"]),
                str(message["To"]),
                *(part.get_filename() or "" for part in message.walk()),
                *parts,
            ]
        )
    for where, text in texts.items():
        digits = set(re.findall(r"(?<![0-9a-fA-F])\d[\dXx-]{7,}", text))
        assert not digits & numbers, where
        assert not {name for name in names if name in text}, where


def recorded_by_prefect():
    """Parameters, logs and artifacts of every run that the server knows, as text."""
    from prefect.client.orchestration import get_client

    time.sleep(3)  # logs go out every two seconds
    found = {}
    with get_client(sync_client=True) as client:
        for path in ("flow_runs", "logs", "artifacts", "task_runs"):
            rows, offset = [], 0
            while True:
                answer = client._client.post(f"/{path}/filter", json={"offset": offset, "limit": 200})
                answer.raise_for_status()
                page = answer.json()
                rows += page
                offset += len(page)
                if len(page) < 200 or offset > 20_000:
                    break
            assert rows, path
            found[path] = json.dumps(rows, ensure_ascii=False)
    return found


def test_a_list_opens_with_its_branch_s_key_and_with_no_other(month):
    house, _ = month
    keys = {
        path.stem: path.read_text(encoding="utf-8").strip() for path in (house.home / "keys" / "branches").glob("*")
    }
    assert len(set(keys.values())) == len(keys)
    assert set(keys) - {"HQ"} == {f"000{n}" for n in range(1, 7)}
    opened = Counter()
    for path, message in mails_of(house).items():
        for part in message.iter_attachments():
            content = part.get_payload(decode=True)
            folder = path.parent.parent.name
            branch_no = "HQ" if "@hq" in folder else folder.partition("_")[2].partition("@")[0]
            assert not content.startswith(b"PK")
            with pytest.raises(Exception, match="zip"):
                openpyxl.load_workbook(io.BytesIO(content))
            locked = msoffcrypto.OfficeFile(io.BytesIO(content))
            assert locked.is_encrypted()
            if not opened[branch_no]:
                stranger = next(key for other, key in sorted(keys.items()) if other != branch_no)
                with pytest.raises(InvalidKeyError):
                    locked.load_key(password=stranger, verify_password=True)
            locked.load_key(password=keys[branch_no], verify_password=True)
            clear = io.BytesIO()
            locked.decrypt(clear)
            assert openpyxl.load_workbook(clear, read_only=True).sheetnames
            opened[branch_no] += 1
    assert set(opened) == set(keys)


# ---- verify ------------------------------------------------------------------------------------------------


def test_verify_finds_the_same_sample_again(month):
    house, _ = month
    for programme in PROGRAMMES:
        result = house.call("verify", f"{programme}-2026-03", exits=(0,))
        assert "NOT THE SAME" not in result.output


def edit_store(house, statement):
    with closing(sqlite3.connect(house.home / "huifang.sqlite")) as store:
        assert store.execute(statement).rowcount == 1
        store.commit()


def edit_frame(house):
    path = house.home / "lake" / "frames" / "daily_risk-2026" / "frame.parquet"
    table = pq.read_table(path)
    values = table.column("customer_id").to_pylist()
    values[7] = values[7][:-1] + ("0" if values[7][-1] != "0" else "1")
    place = table.column_names.index("customer_id")
    pq.write_table(table.set_column(place, table.schema.field(place), pa.array(values)), path)


def spoil_frame(house):
    path = house.home / "lake" / "frames" / "daily_risk-2026" / "frame.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0x01
    path.write_bytes(content)


CHANGES = {
    "a value of the frame": edit_frame,
    "a byte of the frame's file": spoil_frame,
    "the seed": lambda house: edit_store(
        house,
        "update seed set seed = case substr(seed, 1, 1) when 'a' then 'b' else 'a' end || substr(seed, 2) "
        f"where campaign_id = '{CAMPAIGN}'",
    ),
    "a drawn customer's rank": lambda house: edit_store(
        house,
        "update drawn_customer set rank = rank + 1 where rowid = "
        f"(select max(rowid) from drawn_customer where campaign_id = '{CAMPAIGN}')",
    ),
    "a drawn customer gone": lambda house: edit_store(
        house,
        "delete from drawn_customer where rowid = (select max(d.rowid) from drawn_customer d "
        f"where campaign_id = '{CAMPAIGN}' and kind = 'reserve')",
    ),
    "a place more": lambda house: edit_store(
        house,
        "update campaign_stratum set places = places + 1 where rowid = "
        f"(select min(rowid) from campaign_stratum where campaign_id = '{CAMPAIGN}')",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_verify_says_not_the_same_after_one_change(month, tmp_path, change):
    house = month[0].copy(tmp_path / "home")
    CHANGES[change](house)
    assert "NOT THE SAME" in house.call("verify", CAMPAIGN, exits=(1,)).output


# ---- exit codes --------------------------------------------------------------------------------------------

BAD_PROFILE = "name: broken\ndates: [yyyy-MM-dd]\ntables: {customers: {files: [customers.csv], colums: {}}}\n"
WRONG = {
    "no such profile": (
        ("run", "pull", "--profile", "{home}/nowhere.yaml", "--inbox", "{home}/inbox"),
        ("nowhere.yaml", "no such file"),
    ),
    "profile is no YAML": (
        ("run", "pull", "--profile", "{home}/torn.yaml", "--inbox", "{home}/inbox"),
        ("torn.yaml", "line", "not YAML"),
    ),
    "profile with an unknown key": (
        ("run", "pull", "--profile", "{home}/bad.yaml", "--inbox", "{home}/inbox"),
        ("bad.yaml", "colums"),
    ),
    "no such inbox": (
        ("run", "pull", "--profile", "profiles/canonical.yaml", "--inbox", "{home}/nowhere"),
        ("nowhere", "no such folder"),
    ),
    "no such roster": (
        (
            *("run", "pull", "--profile", "profiles/canonical.yaml", "--inbox", "{home}/inbox"),
            *("--roster", "{home}/nobody.csv"),
        ),
        ("nobody.csv", "no such file"),
    ),
    "an extract that was not delivered": (
        ("run", "pull", "--profile", "profiles/canonical.yaml", "--inbox", "{home}/empty"),
        ("empty",),
    ),
    "unknown programme": (
        ("run", "draw", "--programme", "nightly_risk", "--period", "2026-03"),
        ("nightly_risk", "daily_risk"),
    ),
    "no period": (("run", "draw", "--programme", "daily_risk", "--period", "2026-13"), ("2026-13",)),
    "unknown campaign to dispatch": (
        ("run", "dispatch", "--campaign", "daily_risk-2026-09"),
        ("daily_risk-2026-09", "none"),
    ),
    "unknown campaign to verify": (("verify", "daily_risk-2026-09"), ("daily_risk-2026-09",)),
    "a year without a calendar": (
        ("run", "draw", "--programme", "daily_risk", "--period", "2027-01"),
        ("MissingCalendar", "2027", "calendars/2027.yaml"),
    ),
    "no such outcome": (("mail", "list", "--outcome", "lost"), ("lost",)),
    "no programme given": (("run", "draw", "--period", "2026-03"), ("--programme",)),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_usage_or_input_ends_with_2_and_says_what(pulled, wrong):
    home = pulled.home
    (home / "bad.yaml").write_text(BAD_PROFILE, encoding="utf-8")
    (home / "torn.yaml").write_text("name: [torn\nencoding: utf-8\n", encoding="utf-8")
    (home / "empty").mkdir(exist_ok=True)
    words, said = WRONG[wrong]
    output = pulled.call(*(word.format(home=home) for word in words), exits=(2,)).output
    plain = re.sub(r"\s+", "", output)
    for word in said:
        assert re.sub(r"\s+", "", word) in plain, output
    assert "Traceback" not in output


def test_a_pull_with_rejected_rows_ends_with_1_and_one_without_with_0(brokerage, tmp_path):
    house = brokerage.copy(tmp_path / "home")
    assert house.pull().exit_code == 1  # the planted transactions
    (house.home / "inbox" / "transactions.csv").write_text(
        (brokerage.home / "inbox" / "transactions.csv").read_text(encoding="utf-8").splitlines(keepends=True)[0],
        encoding="utf-8",
    )
    assert house.pull().exit_code == 0
    assert house.call("status").exit_code == 0


def test_the_overlay_of_operations_makes_2027_a_year_with_workdays(pulled, tmp_path):
    house = pulled.copy(tmp_path / "home")
    draw = ("run", "draw", "--programme", "daily_risk", "--period", "2027-01")
    missing = house.call(*draw, exits=(2,)).output
    assert "MissingCalendar" in missing
    (house.home / "calendars").mkdir()
    (house.home / "calendars" / "2027.yaml").write_text(
        "year: 2027\nsource: 国办发明电〔2026〕0 号（测试）\nholidays: [2027-01-01]\nworkdays: []\n", encoding="utf-8"
    )
    after = house.call(*draw, exits=(2,)).output  # the calendar is there; the extracts of its year end are not
    assert "MissingCalendar" not in after
    assert "2026-12-31" in after


# ---- year end ----------------------------------------------------------------------------------------------


def test_a_rejected_customer_stops_the_draw_until_an_approver_waives_him(brokerage, tmp_path):
    house = brokerage.copy(tmp_path / "home")
    path = house.home / "inbox" / "customers.csv"
    lines = path.read_text(encoding="utf-8").splitlines()
    place = lines[0].split(",").index("open_on")
    fields = lines[40].split(",")
    fields[place] = "2019-02-31"
    lines[40] = ",".join(fields)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")

    assert house.pull().exit_code == 1
    draw = ("run", "draw", "--programme", "daily_risk", "--period", "2026-03", *at("2026-03-02", "07:30"))
    assert "huifang waive 2025-12-31" in house.call(*draw, exits=(2,)).output
    assert not house.status()["campaigns"]
    waive = ("waive", "2025-12-31", "--by", "合规总监", "--reason", "开户日期录入错误，已销户")
    house.call(*waive, exits=(0,))
    assert "already" in house.call(*waive, exits=(0,)).output
    house.call(*draw, exits=(0,))
    (found,) = house.status()["campaigns"]
    assert (found["base"], found["waived"]) == (1200, 1)
    assert found["base"] == found["eligible"] + sum(found["excluded"].values()) + found["waived"]
    assert house.count("waiver") == 1


# ---- other houses ------------------------------------------------------------------------------------------


@pytest.mark.long
def test_the_same_month_on_postgresql_deals_the_same_places(brokerage, month, postgres_url, tmp_path):
    import psycopg

    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS campaign")
        connection.execute("CREATE DATABASE campaign")
    url = postgres_url.rpartition("/")[0] + "/campaign"
    house = brokerage.copy(tmp_path / "home").having(HUIFANG_DATABASE_URL=url)
    house.pull()
    house.draw(*PROGRAMMES)
    house.call("run", "dispatch", *at("2026-03-02"), exits=(0,))
    found, sent = house.status("2026-03-02"), sorted(mails_of(house))
    house.pull()
    house.draw(*PROGRAMMES)
    house.call("run", "dispatch", *at("2026-03-02"), exits=(0,))
    assert house.status("2026-03-02") == found
    assert sorted(mails_of(house)) == sent
    assert not (house.home / "huifang.sqlite").exists()
    for ours, other in zip(found["campaigns"], month[0].status("2026-03-02")["campaigns"], strict=True):
        for key in ("base", "eligible", "excluded", "goal", "drawn", "reserve", "frame_sha256", "plan_sha256"):
            assert ours[key] == other[key], key
        house.call("verify", ours["campaign"], exits=(0,))
    house.answer("2026-03-12")
    house.call("run", "collect", *at("2026-03-12", "18:15"))
    house.call("run", "chase", *at("2026-03-13", "09:30"))
    house.call("run", "report", *at("2026-03-31", "10:00"))
    assert sum(campaign["completed"] for campaign in house.status()["campaigns"]) > 0


@pytest.mark.skipif(not BERKA.is_dir(), reason=f"the bank's files are not at {BERKA}")
def test_a_real_bank_s_files_come_in_by_name_and_its_branches_get_lists(prefect_client, tmp_path):
    house = House(tmp_path / "home", prefect_client)
    house.home.mkdir()
    with (BERKA / "branches.csv").open(encoding="utf-8") as file:
        branches = [row["branch_id"] for row in csv.DictReader(file)]
    roster = house.home / "roster.csv"
    roster.write_text(
        "branch_no,role,contact_name,email,valid_from,valid_to\n"
        + "".join(f"{b},operations_director,联系人,director{b}@bank.example,2025-01-01,\n" for b in branches[1:]),
        encoding="utf-8",
    )
    house.call(
        *("run", "pull", "--profile", "profiles/berka.yaml", "--inbox", str(BERKA), "--roster", str(roster)),
        *YEAR_END,
        exits=(0,),
    )
    (pull,) = house.status()["pulls"]
    tables = {table["table"]: table for table in pull["tables"]}
    customers, transactions = tables["customers"], tables["transactions"]
    assert (customers["accepted"], customers["ignored"], customers["rejected"]) == (4500, 869, 0)
    assert customers["ignored_by"] == {"authorised_person": 869}
    assert transactions["ignored_by"] == {"undocumented_type": 651}
    assert transactions["rows"] == 49102 == transactions["accepted"] + 651

    house.draw("daily_risk")
    gaps = house.call("run", "dispatch", *at("2026-03-02")).output
    assert re.search(r"\b1\b", gaps)  # the branch that the roster leaves out
    (found,) = house.status()["campaigns"]
    assert found["base"] == found["eligible"] == 4500
    assert found["goal"] >= 450
    assert found["mails"]["sent"] == found["mails"]["claimed"] == len(mails_of(house))
    reached = {branch["branch_no"] for branch in found["branches"] if branch["assigned"]} - {branches[0]}
    assert len(mails_of(house)) == len(reached)
    assert {branch["state"] for branch in found["branches"] if branch["branch_no"] == branches[0]} == {"not_sent"}
    house.call("verify", CAMPAIGN, exits=(0,))
