"""Lists reach whoever calls: on the right sheet, in numbered mails where they are long, each branch for itself."""

import email
import io
import random
import re
import sqlite3
from collections import Counter
from email.policy import default

import msoffcrypto
import openpyxl
import pytest
from house import House, at

from tasks.settings import PROJECT, Settings
from tasks.vault import branch_password

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def drawn(prefect_client, tmp_path_factory):
    house = House.build(tmp_path_factory.mktemp("house") / "home", prefect_client, customers=900, branches=3)
    house.pull()
    house.draw("daily_risk")
    return house


ANSWERING = "case caller when 'hq' then 'HQ' else branch_no end"
"""Who gets a call's list: its branch, or headquarters where all of the branch's callers are barred."""


def mails(house, kind="assignment"):
    """Subject, file name and workbook of every list that went, by recipient and sequence."""
    settings, found = Settings(home=house.home), {}
    for recipient, sequence, path in house.rows(f"select recipient, sequence, path from mail where kind = '{kind}'"):
        message = email.message_from_bytes((house.home / path).read_bytes(), policy=default)
        [part] = message.iter_attachments()
        office, clear = msoffcrypto.OfficeFile(io.BytesIO(part.get_content())), io.BytesIO()
        office.load_key(password=branch_password(settings, recipient))
        office.decrypt(clear, verify_integrity=True)
        found[recipient, sequence] = (message["Subject"], part.get_filename(), openpyxl.load_workbook(clear))
    return found


def codes(book):
    return [row[0] for row in book.worksheets[1].iter_rows(min_row=4, values_only=True) if row[0]]


def carried(house):
    return house.rows(
        "select m.recipient, m.sequence, i.item_id from mail m join mail_item i on i.mail_id = m.id order by 1, 2, 3"
    )


def test_a_long_list_goes_in_numbered_mails_and_each_row_stands_in_the_mail_that_brings_it(drawn, tmp_path):
    house = drawn.copy(tmp_path / "home").having(HUIFANG_SHEET_ROWS="4")
    house.call("run", "dispatch", *at("2026-03-02"))
    found = mails(house)
    sizes = dict(house.rows(f"select {ANSWERING}, count(*) from assignment group by 1"))
    assert max(sizes.values()) > 4
    assert {to for to, _ in found} == set(sizes)
    for branch, n in sizes.items():
        mine = {sequence: mail for (to, sequence), mail in found.items() if to == branch}
        parts = -(-n // 4)
        assert len(mine) == parts
        for sequence, (subject, name, book) in mine.items():
            if parts > 1:
                assert subject.endswith(f"({sequence}/{parts})")
                assert name.endswith(f"_{sequence}-{parts}.xlsx")
                assert str(book.worksheets[1]["A1"].value).endswith(f" {sequence}/{parts}")
            assert f"{branch}-{sequence}" in book.custom_doc_props["huifang_copy"].value
            ids = [int(re.match(r"H(\d+)", code)[1]) for code in codes(book)]
            assert ids == [item for to, number, item in carried(house) if (to, number) == (branch, sequence)]
            assert len(ids) <= 4
    assert sum(len(codes(book)) for _, _, book in found.values()) == sum(sizes.values())


def test_a_run_after_a_crash_cuts_the_lists_as_the_first_one_did(drawn, tmp_path):
    whole = drawn.copy(tmp_path / "whole").having(HUIFANG_SHEET_ROWS="4")
    whole.call("run", "dispatch", *at("2026-03-02"))
    half = drawn.copy(tmp_path / "half").having(HUIFANG_SHEET_ROWS="4")
    half.call("run", "dispatch", *at("2026-03-02"))
    # As if the run had ended after the first mail of each branch.
    with sqlite3.connect(half.home / "huifang.sqlite") as store:
        for table in ("mail_item", "mail_outcome"):
            store.execute(f"delete from {table} where mail_id in (select id from mail where sequence > 1)")
        store.execute("delete from mail where sequence > 1")
    half.call("run", "dispatch", *at("2026-03-02"))
    assert carried(half) == carried(whole)
    names = [{key: mail[:2] for key, mail in mails(house).items()} for house in (whole, half)]
    assert names[0] == names[1]


def test_a_damaged_key_stops_the_mail_of_its_branch_alone(drawn, tmp_path):
    house = drawn.copy(tmp_path / "home")
    [damaged, *others] = [branch for (branch,) in house.rows(f"select distinct {ANSWERING} from assignment order by 1")]
    house.call("keys", "create", damaged)
    (house.home / "keys" / "branches" / f"{damaged}.key").write_text("")
    house.call("run", "dispatch", *at("2026-03-02"), exits=(1,))
    assert sorted({to for to, _, _ in carried(house)}) == others
    assert gaps(house) == [(damaged, "key_damaged")]
    house.call("keys", "rotate", damaged, "--by", "Li Na", "--reason", "damaged")
    house.call("run", "dispatch", *at("2026-03-02"), exits=(0,))
    assert damaged in {to for to, _, _ in carried(house)}


def gaps(house, campaign_id="daily_risk-2026-03"):
    [campaign] = [one for one in house.status("2026-03-03")["campaigns"] if one["campaign"] == campaign_id]
    return [(gap["branch_no"], gap["code"]) for gap in campaign["gaps"]]


def test_a_list_over_the_limit_that_cannot_be_split_further_stops_the_mail_of_its_branch_alone(drawn, tmp_path):
    rules = (PROJECT / "programmes" / "daily_risk.yaml").read_text(encoding="utf-8")
    rules = rules.replace('rate: "0.10"', 'rate: "1.00"').replace("programme: daily_risk", "programme: everybody")
    (tmp_path / "everybody.yaml").write_text(rules, encoding="utf-8")
    house = drawn.copy(tmp_path / "home").having(HUIFANG_PROGRAMMES=str(tmp_path), HUIFANG_SHEET_BYTES="50000")
    house.draw("everybody")
    of = "campaign_id = 'everybody-2026-03'"
    sizes = Counter(dict(house.rows(f"select {ANSWERING}, count(*) from assignment where {of} group by 1")))
    [(large, calls), *_] = sizes.most_common()
    chance = random.Random(1)
    with sqlite3.connect(house.home / "huifang.sqlite") as store:
        kept = store.execute(f"select developer_id, caller_id, id from assignment where {of}").fetchall()
        # Names as no estimate expects them.
        odd = [
            (*("".join(chr(chance.randrange(0x4E00, 0x9FA5)) for _ in range(200)) for _ in "12"), i) for *_, i in kept
        ]
        change = f"update assignment set developer_id = ?, caller_id = ? where id = ? and {ANSWERING} = '{large}'"
        store.executemany(change, odd)
    house.call("run", "dispatch", "--campaign", "everybody-2026-03", *at("2026-03-02"), exits=(1,))
    assert Counter(to for to, _, _ in carried(house)) == sizes - Counter({large: calls})
    assert gaps(house, "everybody-2026-03") == [(large, "too_large")]
    assert "HUIFANG_SHEET_BYTES" in house.call("status", "--as-of", "2026-03-02", exits=(1,)).output
    with sqlite3.connect(house.home / "huifang.sqlite") as store:
        store.executemany("update assignment set developer_id = ?, caller_id = ? where id = ?", kept)
    house.call("run", "dispatch", "--campaign", "everybody-2026-03", *at("2026-03-03"), exits=(0,))
    assert Counter(to for to, _, _ in carried(house)) == sizes
    assert gaps(house, "everybody-2026-03") == []


def test_headquarters_gets_one_call_list_over_all_branches_and_its_answers_count(drawn, tmp_path):
    house = drawn.copy(tmp_path / "home")
    with sqlite3.connect(house.home / "huifang.sqlite") as store:
        store.execute("update assignment set caller = 'hq', caller_id = ''")
    house.call("run", "dispatch", *at("2026-03-02"))
    [((to, sequence), (_, name, book))] = mails(house).items()
    assert (to, sequence) == ("HQ", 1)
    assert name.startswith("总部回访名单")
    assert len(codes(book)) == house.count("assignment")
    titles = [cell.value for cell in book.worksheets[1][3]]
    assert "开发人" not in titles
    assert "安排回访人" not in titles
    assert all("*" not in str(row[2]) for row in book.worksheets[1].iter_rows(min_row=4, values_only=True))
    house.answer("2026-03-20")
    house.call("run", "collect", *at("2026-03-21"))
    assert house.count("return_row") == house.count("assignment")


def test_a_self_check_statement_shows_what_the_customer_said_and_whom_it_concerns(drawn, tmp_path):
    house = drawn.copy(tmp_path / "home")
    house.call("run", "dispatch", *at("2026-03-02"))
    house.answer("2026-03-20")
    house.call("run", "collect", *at("2026-03-21"))
    house.call("run", "chase", *at("2026-03-23"))
    found = mails(house, "self_check")
    assert found
    said = house.rows(
        "select c.branch_no, r.remark, a.developer_id from suspect_case c join case_ground g on g.case_id = c.id"
        " join finding f on f.id = g.finding_id join return_row r on r.id = f.return_row_id"
        " join assignment a on a.id = r.assignment_id"
    )
    shown = [
        (branch, statement, bool(employee))
        for (branch, _), (_, _, book) in found.items()
        for (*_, statement, employee) in book.worksheets[1].iter_rows(min_row=4, max_col=8, values_only=True)
    ]
    assert sorted(shown) == sorted((branch, remark, bool(developer)) for branch, remark, developer in said)
    for (branch, sequence), (_, _, book) in found.items():
        copy = book.custom_doc_props["huifang_copy"].value
        assert f"daily_risk-2026-03/{branch}-{sequence}" in copy
        assert "营运总监" in copy
