"""Signals about the branches' own results, from rows small enough to read."""

import csv
import io
import json
import sqlite3
from contextlib import closing
from datetime import date, timedelta

import pandas as pd
import pyarrow.parquet as pq
import pytest
from house import House, at
from hypothesis import given, settings
from hypothesis import strategies as st

from models.credibility import BURST_CALLS, FOUND, ROWS, SIGNALS, find_signals
from models.profile import Profile
from tasks import lake
from tasks.settings import PROJECT, Settings, read_yaml
from tasks.source import open_delivery

HONEST = """\
assignment_id,customer_id,branch_no,caller_name,called_on,called_at,outcome,remark
1,0000000001,0101,王芳,2026-03-03,09:05,done_clear,
2,0000000002,0101,王芳,2026-03-03,09:40,done_clear,客户表示满意
3,0000000003,0101,李建国,2026-03-04,21:59,done_suspect,客户称密码由员工保管
4,0000000004,0202,赵敏,2026-03-05,,no_answer,
"""


def rows_of(text: str) -> pd.DataFrame:
    rows = pd.DataFrame(csv.DictReader(io.StringIO(text)))
    rows["assignment_id"] = rows["assignment_id"].astype(int)
    rows["called_on"] = [date.fromisoformat(day) for day in rows["called_on"]]
    return rows


def weekday(day: date) -> bool:
    return day.weekday() < 5


def signals(rows, recordings=(), hq_findings=frozenset(), **more):
    found = find_signals(rows, recordings, hq_findings, weekday, **more)
    return {(r.branch_no, r.caller_name, r.signal): (r.rows, r.reported) for r in found.itertuples()}


def calls(n, *, minutes, caller="王芳", remark="", at=9 * 60):
    """n calls of one caller, one every so many minutes."""
    times = [int(at + place * minutes) for place in range(n)]
    return pd.DataFrame(
        {
            "assignment_id": range(1, n + 1),
            "customer_id": [f"{place:010d}" for place in range(n)],
            "branch_no": "0101",
            "caller_name": caller,
            "called_on": date(2026, 3, 3),
            "called_at": [f"{time // 60 % 24:02d}:{time % 60:02d}" for time in times],
            "outcome": "done_clear",
            "remark": remark,
        }
    )


def test_an_honest_branch_has_no_signal():
    assert signals(rows_of(HONEST), [("aa", 1), ("bb", 2)], {"0000000009"}) == {}


def test_one_recording_for_two_calls_marks_both_and_twice_for_one_call_marks_none():
    found = signals(rows_of(HONEST), [("aa", 1), ("aa", 3), ("bb", 2), ("bb", 2)])
    assert found == {("0101", "王芳", "same_recording"): (1, 2), ("0101", "李建国", "same_recording"): (1, 1)}


def test_one_scanned_signature_for_two_calls_marks_both():
    found = find_signals(rows_of(HONEST), [], frozenset(), weekday, [("aa", 2), ("aa", 3)])
    assert set(found["signal"]) == {"same_scan"}
    assert sorted(found["rows"]) == [1, 1]


@pytest.mark.parametrize(
    ("seconds", "answered", "is_marked"),
    [
        ((19.9,), 5, True),
        ((20,), 5, False),
        ((12, 9), 5, False),
        ((3,), 0, False),
        ((3, None), 5, False),
        ((), 5, False),
    ],
)
def test_a_recording_shorter_than_its_answers_take_is_marked_and_one_of_unknown_length_is_not(
    seconds, answered, is_marked
):
    rows = rows_of(HONEST).assign(answered=answered)
    found = signals(rows, [(f"{n}", 1, lasting) for n, lasting in enumerate(seconds)])
    assert set(found) == ({("0101", "王芳", "short_recording")} if is_marked else set())


@pytest.mark.parametrize(
    ("since", "until", "is_marked"),
    [
        (None, None, True),
        ("2026-03-03", "2026-03-03", True),
        ("2026-03-04", None, False),
        (None, "2026-03-02", False),
    ],
)
def test_a_customer_with_the_phone_of_somebody_who_was_staff_on_the_day_is_marked(since, until, is_marked):
    since, until = (day and date.fromisoformat(day) for day in (since, until))
    found = signals(rows_of(HONEST), staff_phones=[("0000000002", since, until), ("0000000009", None, None)])
    assert found == ({("0101", "王芳", "staff_phone"): (1, 2)} if is_marked else {})


def test_one_row_with_the_phone_of_two_members_of_staff_counts_once():
    held = [("0000000002", None, date(2020, 1, 1)), ("0000000002", date(2021, 1, 1), None), ("0000000002", None, None)]
    assert signals(rows_of(HONEST), staff_phones=held) == {("0101", "王芳", "staff_phone"): (1, 2)}


@pytest.mark.parametrize(
    ("n", "minutes", "marked"),
    [(20, 0.25, 20), (19, 0.25, 0), (20, 5 / 19, 20), (20, 1, 0), (40, 0.2, 40)],
)
def test_twenty_calls_in_five_minutes_are_a_burst(n, minutes, marked):
    assert signals(calls(n, minutes=minutes)).get(("0101", "王芳", "burst"), (0, n)) == (marked, n)


def test_a_burst_is_one_caller_s_on_one_day():
    two = calls(20, minutes=0.2)
    two.loc[10:, "caller_name"] = "李建国"
    days = calls(20, minutes=0.2)
    days.loc[10:, "called_on"] = date(2026, 3, 4)
    assert signals(two) == signals(days) == {}


@pytest.mark.parametrize(
    ("at", "is_night"),
    [("03:00", True), ("06:59", True), ("07:00", False), ("21:59", False), ("22:00", True), ("", False)],
)
def test_the_night_begins_at_22_and_ends_at_7(at, is_night):
    rows = rows_of(HONEST).assign(called_at=[at, "09:00", "09:00", ""])
    assert (("0101", "王芳", "night") in signals(rows)) is is_night


def test_a_saturday_is_no_workday():
    rows = rows_of(HONEST).assign(called_on=date(2026, 3, 7))
    assert signals(rows)["0202", "赵敏", "off_day"] == (1, 1)


def test_five_equal_remarks_of_one_caller_are_odd_but_short_ones_are_not():
    assert signals(calls(5, minutes=30, remark="客户身份已核实 无异常情况"))["0101", "王芳", "same_remark"] == (5, 5)
    assert signals(calls(4, minutes=30, remark="客户身份已核实无异常情况")) == {}
    assert signals(calls(9, minutes=30, remark="已核实")) == {}


def test_clear_where_headquarters_found_something_is_shown():
    assert signals(rows_of(HONEST), hq_findings={"0000000001", "0000000003"}) == {
        ("0101", "王芳", "hq_otherwise"): (1, 2)
    }


def test_without_rows_there_is_nothing_to_show():
    empty = ROWS.validate(rows_of(HONEST).iloc[:0])
    assert find_signals(empty, [], frozenset(), weekday).empty


STAFF = """\
staff_id,staff_name,branch_no,kind,valid_from,valid_to,phone
S1,王芳,0101,caller,2020-01-01,,138 0013 8000
S2,李建国,0101,broker,2019-01-01,2020-12-31,(0755)82301234
S3,赵敏,0101,adviser,,,
S4,孙丽,0101,adviser,,,010-88888888-8001
"""
PHONES = {
    "C01": "13800138000", "C02": "+86 138-0013-8000", "C03": "013800138000", "C04": "0086 13800138000",
    "C05": "+86 755 82301234", "C06": "0755-8230 1234", "C07": "82301234", "C08": "13800138001", "C09": "",
    "C10": "010-88888888-8002", "C11": "010 88888888 8001",
}  # fmt: skip


def taken_in(home, staff):
    """A lake with customers of these phones and these staff: its settings, and the path of each snapshot."""
    inbox, known = home / "inbox", {}
    inbox.mkdir(parents=True)
    (inbox / "branches.csv").write_text("branch_no,branch_name,region\n0101,北京路营业部,\n", encoding="utf-8")
    (inbox / "staff.csv").write_text(staff, encoding="utf-8")
    with (inbox / "customers.csv").open("w", encoding="utf-8") as file:
        file.write("customer_id,customer_name,phone,id_no,branch_no,segment,risk_level,status,open_on,close_on\n")
        file.writelines(f"{who},张三,{phone},,0101,普通,,active,2020-01-31,\n" for who, phone in PHONES.items())
    whole = read_yaml(PROJECT / "profiles" / "canonical.yaml", Profile)
    tables = {name: whole.tables[name] for name in ("branches", "staff", "customers")}
    settings, profile = Settings(home=home), whole.model_copy(update={"tables": tables, "settle_seconds": 0})
    with open_delivery(settings, profile, inbox, None) as files:
        for table, delivered in files.items():
            taken = lake.take_in(settings, profile, table, delivered, as_of=date(2025, 12, 31), known=dict(known))
            assert taken.accepted == taken.rows
            known[table] = taken.path
    return settings, known


def test_a_phone_is_the_same_however_it_is_written_and_another_extension_is_another(tmp_path):
    settings, known = taken_in(tmp_path, STAFF)
    everybody = pd.Series(list(PHONES))
    found = lake.staff_phones_of(settings, known["customers"], known["staff"], everybody)
    assert found == [
        *((who, date(2020, 1, 1), None) for who in ("C01", "C02", "C03", "C04")),
        *((who, date(2019, 1, 1), date(2020, 12, 31)) for who in ("C05", "C06")),
        ("C11", None, None),
    ]
    assert lake.staff_phones_of(settings, known["customers"], known["staff"], everybody[1:2]) == found[1:2]


def test_staff_without_phones_share_none_also_in_a_snapshot_from_before_there_were_any(tmp_path):
    without = "".join(line.rpartition(",")[0] + "\n" for line in STAFF.splitlines())
    settings, known = taken_in(tmp_path, without)
    everybody, file = pd.Series(list(PHONES)), settings.lake / known["staff"] / "accepted.parquet"
    assert lake.staff_phones_of(settings, known["customers"], known["staff"], everybody) == []
    people = lake.read_staff(settings, known["staff"])
    file.chmod(0o600)
    pq.write_table(pq.read_table(file).drop_columns("phone"), file)
    assert lake.staff_phones_of(settings, known["customers"], known["staff"], everybody) == []
    pd.testing.assert_frame_equal(lake.read_staff(settings, known["staff"]), people)
    assert lake.names_of(settings, known["staff"], "staff_id", "staff_name")["S1"] == "王芳"


def give_phone_of_staff(inbox, branch_no):
    """All customers of a branch with the phone of one of its callers: that phone."""
    staff = pd.read_csv(inbox / "staff.csv", dtype=str, keep_default_na=False)
    (phone, *_) = staff.loc[staff["branch_no"].eq(branch_no) & staff["kind"].eq("caller"), "phone"]
    customers = pd.read_csv(inbox / "customers.csv", dtype=str, keep_default_na=False)
    customers.loc[customers["branch_no"] == branch_no, "phone"] = f"+86 {phone}"
    customers.to_csv(inbox / "customers.csv", index=False)
    return phone


def test_headquarters_sees_signals_by_caller_in_a_command_and_by_branch_on_the_page(prefect_client, tmp_path):
    house = House.build(tmp_path / "home", prefect_client, customers=600, branches=4)
    phone = give_phone_of_staff(house.home / "inbox", "0001")
    house.pull()
    house.draw("daily_risk")
    house.call("run", "dispatch", *at("2026-03-02"))
    house.answer("2026-03-20")
    house.call("run", "collect", *at("2026-03-21"))
    clean = json.loads(house.call("credibility", "daily_risk-2026-03", "--json").output)
    with closing(sqlite3.connect(house.home / "huifang.sqlite")) as store, store:
        (call, branch) = store.execute(
            "select assignment_id, branch_no from return_row r join assignment a on a.id = r.assignment_id"
        ).fetchone()
        store.execute("update return_row set called_at = '03:00' where assignment_id = ?", (call,))
    shared = [signal for signal in clean if (signal["signal"], signal["branch_no"]) == ("staff_phone", "0001")]
    assert sum(signal["rows"] for signal in shared) == sum(signal["reported"] for signal in shared) > 1
    found = json.loads(house.call("credibility", "daily_risk-2026-03", "--json").output)
    (night,) = [signal for signal in found if signal["signal"] == "night"]
    assert [signal for signal in found if signal is not night] == clean
    assert (night["branch_no"], night["rows"]) == (branch, 1)
    shown = house.call("credibility", "daily_risk-2026-03").output
    assert night["caller_name"] in shown
    assert SIGNALS["staff_phone"].zh in shown
    house.call("run", "report", "--campaign", "daily_risk-2026-03", *at("2026-03-31"))
    (page,) = (house.home / "reports").glob("daily_risk-2026-03*.html")
    text = page.read_text(encoding="utf-8")
    assert SIGNALS["night"].zh in text
    assert SIGNALS["staff_phone"].zh in text
    assert night["caller_name"] not in text
    log = (house.home / "commands.log").read_text(encoding="utf-8")
    assert not any(phone in said for said in (text, shown, json.dumps(clean), log))


@settings(deadline=None, max_examples=20)
@given(st.lists(st.tuples(st.integers(0, 1439), st.sampled_from("ab"), st.integers(0, 6)), max_size=60), st.randoms())
def test_signals_do_not_depend_on_the_order_of_rows_and_count_no_row_twice(made, chance):
    rows = pd.DataFrame(
        [
            (n, f"{n:010d}", "0101", who, date(2026, 3, 2) + timedelta(days=day), f"{at // 60:02d}:{at % 60:02d}", "done_clear", "", 5)
            for n, (at, who, day) in enumerate(made)
        ],
        columns=list(ROWS.columns),
    )  # fmt: skip
    rows = ROWS.validate(
        rows.astype(
            {"caller_name": str, "customer_id": str, "branch_no": str, "called_at": str, "outcome": str, "remark": str}
        )
    )
    shuffled = rows.sample(frac=1, random_state=chance.randrange(2**32))
    found = find_signals(rows, [], frozenset(), weekday)
    pd.testing.assert_frame_equal(found, find_signals(shuffled, [], frozenset(), weekday))
    assert (found["rows"] <= found["reported"]).all()
    assert set(found["signal"]) <= set(SIGNALS)
    assert list(found.columns) == list(FOUND.columns)
    if len(rows) < BURST_CALLS:
        assert "burst" not in set(found["signal"])
