"""Nothing of a draw is mailed before compliance approved it, and nothing at all while mail is stopped."""

import asyncio
import json
import shutil
import sqlite3
import threading
import time
from contextlib import closing, contextmanager
from datetime import UTC, datetime

import pytest
import yaml
from aiosmtpd.smtp import SMTP
from house import House, at, kill_group
from sqlalchemy import text
from test_serve import ask, await_that, deployed, served

from models import approval
from models.tables import Approval, MailSwitch
from tasks import outbox
from tasks.settings import PROJECT
from tasks.store import connect_store, find_broken_row, open_store, upgrade, version_of

pytestmark = pytest.mark.slow
CAMPAIGN = "daily_risk-2026-03"
CHAIN = {
    "kind": "chain",
    "public": {
        "name": {"zh_CN": "上证综指", "en": "SSE close"},
        "available_at": "15:30",
        "pattern": r"[0-9]+\.[0-9]{2}",
    },
}


@pytest.fixture(scope="module")
def drawn(prefect_client, tmp_path_factory):
    """A month of a programme that asks for an approval, drawn by Zhang Wei."""
    folder = tmp_path_factory.mktemp("programmes")
    for file in (PROJECT / "programmes").glob("*.yaml"):
        shutil.copy(file, folder)
    file = folder / "daily_risk.yaml"
    file.write_text(file.read_text(encoding="utf-8") + "\napproval: required\n", encoding="utf-8")
    house = House.build(tmp_path_factory.mktemp("house") / "home", prefect_client, customers=600, branches=4)
    house = house.having(HUIFANG_PROGRAMMES=str(folder))
    house.pull()
    house.having(HUIFANG_ACTOR="Zhang Wei").draw("daily_risk")
    return house


def answering(house):
    """How many have calls to answer: branches, and headquarters where all callers of a branch are barred."""
    return house.rows("select count(distinct case caller when 'hq' then 'HQ' else branch_no end) from assignment")[0][0]


def mailed(house):
    return house.rows("select count(*) from mail where kind = 'assignment'")[0][0]


def test_dispatch_refuses_what_compliance_has_not_approved_and_says_what_is_missing(drawn, tmp_path):
    house = drawn.copy(tmp_path / "home")
    said = house.call("run", "dispatch", *at("2026-03-02"), exits=(1,)).output
    assert "1 unapproved" in said
    house.having(PREFECT_LOGGING_LEVEL="WARNING").run("run", "dispatch", *at("2026-03-02"), exits=(1,))
    assert (
        f"{CAMPAIGN}: nothing is mailed: compliance has not approved it; `huifang approve {CAMPAIGN}`" in house.said()
    )
    house.call("run", "report", *at("2026-04-05"), exits=(1,))
    assert house.count("mail") == 0, "nothing of a draw is mailed, a summary neither"
    waits = json.loads(house.call("status", "--json", exits=(1,)).stdout)["waiting"]
    assert [wait["what"] for one in waits if one["campaign"] == CAMPAIGN for wait in one["waits_for"]] == ["approval"]
    shown = house.call("approve", CAMPAIGN).output
    assert "not approved" in shown
    assert "Zhang Wei" in shown
    house.call("approve", CAMPAIGN, "--by", "Li Na", "--note", "counts looked at")
    house.call("run", "dispatch", *at("2026-03-02"), exits=(0,))
    assert mailed(house) == answering(house) > 0
    late = house.call("approve", CAMPAIGN, "--by", "Li Na", "--withdraw", exits=(2,)).output
    assert "mailed already" in late


@pytest.mark.parametrize("name", ["Zhang Wei", "ＺＨＡＮＧ　ＷＥＩ", "flow:draw"])
def test_whoever_started_the_draw_does_not_approve_it(drawn, name):
    said = drawn.call("approve", CAMPAIGN, "--by", name, exits=(2,)).output
    assert "ApprovalRefused" in said
    assert drawn.count("approval") == 0


@pytest.mark.parametrize(
    "name",
    [
        "zhang  wei", "ZHANGWEI", "Ｚｈａｎｇ Wei", "Zhang\u200bWei", "Zhang\u00a0Wei", "Zhang-Wei", "Zhang·Wei ", "\u202eZhang Wei",
        "flow:draw", "", "   ", "-", "\u200b", "123",
    ],
)  # fmt: skip
def test_a_name_written_otherwise_is_no_second_person_and_a_sign_is_nobody(name):
    with pytest.raises(approval.ApprovalRefused):
        approval.check_approver(CAMPAIGN, name, ["flow:draw", "Zhang Wei"])
    approval.check_approver(CAMPAIGN, "Zhang Weina", ["flow:draw", "Zhang Wei"])


def test_an_approval_can_be_withdrawn_and_is_for_one_sample(drawn, tmp_path):
    house = drawn.copy(tmp_path / "home")
    nothing = house.call("approve", CAMPAIGN, "--by", "Li Na", "--withdraw", exits=(2,)).output
    assert "no approval to withdraw" in nothing
    house.call("approve", CAMPAIGN, "--by", "Li Na")
    assert "already" in house.call("approve", CAMPAIGN, "--by", "Wu Min").output
    house.call("approve", CAMPAIGN, "--by", "Li Na", "--withdraw", "--note", "a branch is missing")
    house.call("run", "dispatch", *at("2026-03-02"), exits=(1,))
    assert mailed(house) == 0
    assert house.rows("select decision, decided_by from approval order by id") == [
        ("approved", "Li Na"), ("withdrawn", "Li Na"),
    ]  # fmt: skip


def test_a_programme_that_asks_for_no_approval_has_none(prefect_client, tmp_path):
    house = House.build(tmp_path / "home", prefect_client, customers=400, branches=2)
    house.pull()
    house.draw("daily_risk")
    said = house.call("approve", CAMPAIGN, "--by", "Li Na", exits=(2,)).output
    assert "asks for no approval" in said
    house.call("mail", "stop", "--by", "Li Na", "--reason", "a wrong roster")
    assert "nothing changed" in house.call("mail", "stop", "--by", "Wu Min", "--reason", "again").output
    said = house.call("run", "dispatch", *at("2026-03-02"), exits=(1,)).output
    assert "stopped" in said
    assert mailed(house) == 0
    assert not list((house.home / "outbox").glob("**/*.eml"))
    status = json.loads(house.call("status", "--json", exits=(1,)).stdout)
    assert (status["mail_stopped"]["by"], status["mail_stopped"]["reason"]) == ("Li Na", "a wrong roster")
    house.call("mail", "go", "--by", "Li Na", "--reason", "roster corrected")
    house.call("run", "dispatch", *at("2026-03-02"), exits=(0,))
    assert mailed(house) == answering(house) > 0
    assert house.rows("select distinct outcome from mail_outcome") == [("sent",)]


def change(house, *statements):
    with closing(sqlite3.connect(house.home / "huifang.sqlite")) as store, store:
        for statement in statements:
            store.execute(statement)


def test_another_programme_goes_on_and_a_sample_that_changed_needs_a_new_approval(drawn, tmp_path):
    house = drawn.copy(tmp_path / "home")
    house.draw("marketer_conduct")
    house.call("approve", CAMPAIGN, "--by", "Li Na")
    change(house, f"update draw set sample_sha256 = '{'0' * 64}' where campaign_id = '{CAMPAIGN}'")
    said = house.call("run", "dispatch", *at("2026-03-02"), exits=(1,)).output
    assert "1 unapproved" in said
    assert house.rows("select distinct campaign_id from mail where kind = 'assignment'") == [
        ("marketer_conduct-2026-03",)
    ]
    assert "for another sample" in house.call("approve", CAMPAIGN).output


@pytest.mark.parametrize(
    "statement",
    [
        "update drawn_customer set branch_no = '0002' where rank = 1 and branch_no = '0001' and kind = 'sample'",
        "update assignment set customer_id = '0000000001x' where id = (select min(id) from assignment)",
    ],
    ids=["sample", "call"],
)
def test_an_approval_counts_for_the_rows_that_are_mailed_not_for_the_hash_beside_them(drawn, tmp_path, statement):
    house = drawn.copy(tmp_path / "home")
    house.call("approve", CAMPAIGN, "--by", "Li Na")
    change(house, "pragma foreign_keys = off", statement)
    assert "1 unapproved" in house.call("run", "dispatch", *at("2026-03-02"), exits=(1,)).output
    assert mailed(house) == 0
    assert "huifang verify" in house.call("status", "--json", exits=(1,)).stdout
    assert "not as it was drawn" in house.call("approve", CAMPAIGN).output
    house.call("approve", CAMPAIGN, "--by", "Li Na", "--withdraw")
    assert "nothing was approved" in house.call("approve", CAMPAIGN, "--by", "Li Na", exits=(2,)).output


def test_the_form_of_the_dashboard_approves_by_the_same_rules(drawn, tmp_path, monkeypatch):
    from flows.approve import approve_draw

    house = drawn.copy(tmp_path / "home")
    for name, value in house.environment.items():
        monkeypatch.setenv(name, value)
    (sample,) = house.rows("select sample_sha256 from draw")[0]
    for by, given, why in (
        ("ｚｈａｎｇ wei", sample, "started the draw"),
        (" ", sample, "no person's name"),
        ("Li Na", sample[:11], "is not the sample that was drawn"),
        ("Li Na", "0" * 64, "is not the sample that was drawn"),
        ("Li Na", "", "is not the sample that was drawn"),
    ):
        with pytest.raises(approval.ApprovalRefused, match=why):
            approve_draw(campaign=CAMPAIGN, approver=by, sample_sha256=given)
    assert house.count("approval") == 0
    said = approve_draw(
        campaign=CAMPAIGN, approver=" Ｌｉ  Na", sample_sha256=f" {sample[:12]} ", note="counts looked at"
    )
    assert "approved by Li Na" in said
    assert "already" in approve_draw(campaign=CAMPAIGN, approver="Wu Min", sample_sha256=sample.upper())
    assert house.rows("select decision, decided_by, note, sample_sha256 from approval") == [
        ("approved", "Li Na", "counts looked at", sample)
    ]
    house.call("run", "dispatch", *at("2026-03-02"), exits=(0,))


@pytest.mark.long
def test_the_deployment_of_the_form_books_an_approval_or_fails_with_its_reason(drawn, tmp_path):
    house = drawn.copy(tmp_path / "home")
    (sample,) = house.rows("select sample_sha256 from draw")[0]
    with served(house.home) as (_, api_url, said):
        rows = await_that(lambda: deployed(api_url), 150, said.read_text)
        for by, fate in (("Zhang Wei", "FAILED"), ("Li Na", "COMPLETED")):
            parameters = {"campaign": CAMPAIGN, "approver": by, "sample_sha256": sample[:12]}
            run = ask(api_url, f"deployments/{rows['approval']['id']}/create_flow_run", parameters=parameters)

            def ended(run=run):
                found = ask(api_url, "flow_runs/filter", flow_runs={"id": {"any_": [run["id"]]}})[0]["state"]
                return found if found["type"] in ("COMPLETED", "FAILED", "CRASHED") else None

            state = await_that(ended, 120, said.read_text)
            assert state["type"] == fate, state["message"]
            assert fate == "COMPLETED" or "started the draw" in state["message"]
    assert house.rows("select decision, decided_by from approval") == [("approved", "Li Na")]


def test_an_approval_is_for_one_campaign_of_one_programme(drawn, tmp_path):
    house = drawn.copy(tmp_path / "home")
    folder = tmp_path / "programmes"
    shutil.copytree(house.environment["HUIFANG_PROGRAMMES"], folder)
    other = folder / "marketer_conduct.yaml"
    other.write_text(other.read_text(encoding="utf-8") + "\napproval: required\n", encoding="utf-8")
    house = house.having(HUIFANG_PROGRAMMES=str(folder), HUIFANG_ACTOR="Zhang Wei")
    house.draw("marketer_conduct")
    (sample,) = house.rows(f"select sample_sha256 from draw where campaign_id = '{CAMPAIGN}'")[0]
    refused = house.call("approve", "marketer_conduct-2026-03", "--by", "Li Na", "--sample", sample, exits=(2,)).output
    assert "is not the sample that was drawn" in " ".join(refused.split())
    house.call("approve", CAMPAIGN, "--by", "Li Na", "--sample", sample)
    said = house.call("run", "dispatch", *at("2026-03-02"), exits=(1,)).output
    assert "1 unapproved" in said
    assert house.rows("select distinct campaign_id from mail") == [(CAMPAIGN,)]


@pytest.mark.long
def test_an_approval_killed_at_any_moment_is_booked_with_its_audit_row_or_not_at_all(drawn, tmp_path):
    house = drawn.copy(tmp_path / "home")
    words = ("approve", CAMPAIGN, "--by", "Li Na")
    lock = house.home / "locks" / "outbox.lock"
    for after in (0.0, 0.01, 0.05, 0.2):
        lock.unlink(missing_ok=True)
        process = house.start(*words)
        deadline = time.monotonic() + 120
        while process.is_alive() and not lock.exists():
            assert time.monotonic() < deadline, house.said()
            time.sleep(0.001)
        time.sleep(after)
        kill_group(process)
        audited = house.rows("select count(*) from audit where action = 'approved'")[0][0]
        assert house.count("approval") == audited <= 1
    house.call(*words)
    house.call(*words)
    assert house.rows("select decision from approval") == [("approved",)]
    assert house.rows("select count(*) from audit where action = 'approved'") == [(1,)]


# ---- stop ------------------------------------------------------------------------------------------------


class Counter:
    """A mail server's counter; whatever is to happen while a mail is handed in happens before it is taken."""

    def __init__(self):
        self.kept, self.at, self.what = [], 0, None

    async def handle_DATA(self, server, session, envelope):
        self.kept.append(envelope.rcpt_tos[0])
        if len(self.kept) == self.at:
            await asyncio.get_running_loop().run_in_executor(None, self.what)
        return "250 OK"


@contextmanager
def mail_server():
    counter, loop = Counter(), asyncio.new_event_loop()
    server = loop.run_until_complete(
        loop.create_server(lambda: SMTP(counter, hostname="localhost", loop=loop), "127.0.0.1", 0)
    )
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield counter, f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=30)
        server.close()
        loop.close()


def test_a_stop_in_the_middle_of_a_dispatch_lets_nothing_be_claimed_after_it(drawn, tmp_path):
    with mail_server() as (counter, url):
        house = drawn.copy(tmp_path / "home").having(HUIFANG_SMTP_URL=url, HUIFANG_SMTP_TIMEOUT_SECONDS="120")
        house.call("approve", CAMPAIGN, "--by", "Li Na")
        lists = answering(house)
        assert lists >= 3
        counter.at, counter.what = 2, lambda: house.run("mail", "stop", "--by", "Li Na", "--reason", "a wrong key")
        said = house.call("run", "dispatch", *at("2026-03-02"), exits=(1,)).output
        assert f"{lists - 2} stopped" in said
        assert len(counter.kept) == 2, "the mail that was under way when it was stopped is the last"
        assert house.rows("select count(*) from mail_outcome where outcome = 'sent'") == [(2,)]
        assert mailed(house) <= 3, "of those that wait, at most the one claimed ahead has a row"
        house.call("mail", "go", "--by", "Li Na", "--reason", "key printed anew")
        house.call("run", "dispatch", *at("2026-03-02"), exits=(0,))
    assert len(counter.kept) == len(set(counter.kept)) == lists
    assert house.rows("select count(*) from mail_outcome where outcome = 'sent'") == [(lists,)]
    assert house.rows("select count(*) from mail_item i join assignment a on a.id = i.item_id") >= [(house.count("assignment"),)]


def held(house, *words):
    """How many mails a run says are stopped; it claims none."""
    before = house.count("mail")
    said = house.call("run", *words, exits=(1,)).output
    assert house.count("mail") == before
    row = next(line for line in said.splitlines() if "stopped" in line and "look at" not in line)
    return int("".join(sign for sign in row if sign.isdigit()))


@pytest.mark.long
def test_a_stop_holds_receipts_self_checks_reminders_and_summaries_and_go_lets_each_out_once(drawn, tmp_path):
    house = drawn.copy(tmp_path / "home")
    house.call("approve", CAMPAIGN, "--by", "Li Na")
    house.call("run", "dispatch", *at("2026-03-02"), exits=(0,))
    house.answer("2026-03-12")
    house.call("mail", "stop", "--by", "Li Na", "--reason", "a wrong roster")
    runs = (("collect", *at("2026-03-13")), ("chase", *at("2026-03-30")), ("report", *at("2026-04-05")))
    waiting = [held(house, *words) for words in runs]
    assert all(waiting)
    house.call("mail", "go", "--by", "Li Na", "--reason", "roster corrected")
    for words, count in zip(runs, waiting, strict=True):
        before = house.count("mail")
        house.call("run", *words)
        assert house.count("mail") - before == count
        house.call("run", *words)
        assert house.count("mail") - before == count
    kinds = {kind for (kind,) in house.rows("select distinct kind from mail")}
    assert kinds >= {"assignment", "receipt", "reminder", "feedback"}


def test_a_stop_during_a_commitment_is_shown_and_after_go_the_next_draw_mails_it(prefect_client, tmp_path):
    folder = tmp_path / "programmes"
    shutil.copytree(PROJECT / "programmes", folder)
    file = folder / "daily_risk.yaml"
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    file.write_text(yaml.safe_dump(content | {"seed": CHAIN}, allow_unicode=True), "utf-8")
    house = House.build(tmp_path / "home", prefect_client, customers=300, branches=2)
    house = house.having(HUIFANG_PROGRAMMES=str(folder))
    house.pull()

    def draw(now):
        words = ("run", "draw", "--programme", "daily_risk", "--period", "2026-01", *at("2026-01-04", now))
        return house.call(*words, exits=(1,)).output

    draw("07:30")
    house.call(
        "chain",
        "daily_risk",
        "2026",
        "--out",
        str(tmp_path / "chain.txt"),
        "--by",
        "Lin",
        "--now",
        "2026-01-04T07:40+0800",
    )
    house.call("mail", "stop", "--by", "Li Na", "--reason", "a wrong roster")
    assert "2 stopped" in draw("08:00")
    assert house.count("mail") == 0
    page = " ".join(house.call("status", "--as-of", "2026-01-05", exits=(1,)).output.split())
    assert page.count("held, all mail is stopped: huifang mail go, then the next draw mails it") == 2
    number = ("reveal", "daily_risk-2026-01", "--public", "4023.42", "--on", "2026-01-05", "--by", "Wu Min")
    later = ("--now", "2026-01-05T16:00+0800")
    assert "All mail is stopped" in house.call(*number, *later, exits=(2,)).output
    house.call("mail", "go", "--by", "Li Na", "--reason", "roster corrected")
    assert "stopped" not in draw("09:00")
    assert house.rows("select kind, role from mail order by role") == [
        ("commitment", "compliance"),
        ("commitment", "hq_service"),
    ]
    house.call(*number, *later)


def test_a_stop_on_postgresql_waits_for_a_claim_that_has_looked_and_no_claim_overtakes_it(postgres_url, tmp_path):
    """READ COMMITTED: without a lock a claim that read the switch before a stop could commit after it."""
    from tasks.settings import Settings

    store = open_store(Settings(home=tmp_path / "home", database_url=fresh_database(postgres_url, "switch")))
    order, is_looking, may_end = [], threading.Event(), threading.Event()

    def claim():
        with store.begin() as session:
            outbox.hold_switch(session)
            assert outbox.last_switch(session) is None
            is_looking.set()
            assert may_end.wait(60)
            order.append("claimed")

    def stop():
        with store.begin() as session:
            outbox.hold_switch(session)
            session.add(MailSwitch(is_stopped=True, reason="r", decided_by="Li Na", decided_at=datetime.now(UTC)))
            order.append("stopped")

    claiming, stopping = threading.Thread(target=claim), threading.Thread(target=stop)
    claiming.start()
    assert is_looking.wait(60)
    stopping.start()
    stopping.join(timeout=0.5)
    assert stopping.is_alive(), "a stop that returns while a claim is under way promises what it does not hold"
    may_end.set()
    claiming.join(timeout=60)
    stopping.join(timeout=60)
    assert order == ["claimed", "stopped"]


def fresh_database(postgres_url, name):
    import psycopg

    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}"')
        connection.execute(f'CREATE DATABASE "{name}"')
    return postgres_url.rpartition("/")[0] + f"/{name}"


def test_a_store_from_before_approvals_keeps_its_draws_and_takes_approvals_and_stops(store_settings):
    store = connect_store(store_settings)
    upgrade(store.engine, to="0004")
    rows = {
        "programme_year": {
            "id": "p-2026", "programme": "p", "year": 2026, "version": 1, "from_period": "", "base_on": "2025-12-31", "snapshots": "{}",
            "plan": "{}", "plan_sha256": "x", "frame_path": "f", "frame_sha256": "y",
            "ledger_sha256": "l", "base": 10, "eligible": 9, "waived": 0,
            "contradictions": "{}", "code_version": "0.1", "frozen_at": "2026-01-02 00:00:00",
        },
        "campaign": {
            "id": "p-2026-03", "programme_year_id": "p-2026", "period": "2026-03", "as_of": "2026-03-02", "calendar_version": "c",
            "state_sha256": "z", "state_path": "", "developers_path": "", "rows_until": 0, "committed_at": "2026-03-02 00:00:00",
        },
    }  # fmt: skip
    with store.begin() as session:
        for table, row in rows.items():
            places = ", ".join(f":{name}" for name in row)
            session.execute(text(f"insert into {table} ({', '.join(row)}) values ({places})"), row)
    upgrade(store.engine)
    assert version_of(store.engine)[0] == version_of(store.engine)[1]
    at_once = datetime(2026, 3, 2, tzinfo=UTC)
    with store.begin() as session:
        assert session.execute(text("select id from campaign")).scalars().all() == ["p-2026-03"]
        session.add(
            Approval(
                campaign_id="p-2026-03", sample_sha256="a" * 64, decision="approved", note="", decided_by="Li Na", decided_at=at_once,
            )
        )  # fmt: skip
        session.add(MailSwitch(is_stopped=True, reason="r", decided_by="Li Na", decided_at=at_once))
    with store.begin() as session:
        stop = outbox.last_switch(session)
        assert stop is not None
        assert stop.is_stopped is True
        assert find_broken_row(session) is None
