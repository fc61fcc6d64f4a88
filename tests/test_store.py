import hashlib
import subprocess
import sys
import time
from datetime import UTC, date, datetime, timedelta, timezone

import pandas as pd
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from conftest import fresh_database
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError

from models.tables import (
    Assignment,
    AssignmentPurpose,
    Audit,
    Base,
    Campaign,
    DrawnCustomer,
    Mail,
    MailItem,
    MailOutcome,
    Message,
    ProgrammeYear,
    ReturnRow,
    Verdict,
)
from tasks import outbox, records
from tasks.settings import PROJECT, Settings
from tasks.store import Busy, StoreError, connect_store, find_broken_row, open_store, record, upgrade, version_of

NOW = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)


def seed_campaign(session, calls=3):
    session.add(
        ProgrammeYear(
            id="p-2026",
            programme="p",
            year=2026,
            base_on=date(2025, 12, 31),
            snapshots={},
            plan="{}",
            plan_sha256="x",
            frame_path="f",
            frame_sha256="x",
            base=10,
            eligible=10,
            waived=0,
            contradictions={},
            code_version="t",
            frozen_at=NOW,
        )
    )
    session.flush()
    session.add(
        Campaign(
            id="p-2026-03",
            programme_year_id="p-2026",
            period="2026-03",
            as_of=date(2026, 3, 2),
            calendar_version="c",
            state_sha256="x",
            committed_at=NOW,
        )
    )
    session.flush()
    campaign = session.get_one(Campaign, "p-2026-03")
    new = pd.DataFrame(
        {
            "customer_id": [f"{n:04}" for n in range(calls)],
            "branch_no": "0001",
            "form": "risk_warning",
            "developer_id": "",
            "caller": "branch",
            "due_on": [date(2026, 3, 18)] * calls,
        }
    )
    session.add_all(
        DrawnCustomer(
            campaign_id=campaign.id,
            customer_id=f"{n:04}",
            branch_no="0001",
            group_key="0001",
            stratum="*",
            ticket="t",
            rank=n + 1,
            kind="sample",
            form="risk_warning",
            developer_id="",
        )
        for n in range(calls)
    )
    records.add_assignments(
        session, campaign, new, pd.DataFrame(columns=["customer_id", "assignment_id"]), as_of=date(2026, 3, 2), now=NOW
    )


def claim(session, sequence, items=()):
    mail = Mail(
        kind="assignment",
        campaign_id="p-2026-03",
        recipient="0001",
        role="operations_director",
        sequence=sequence,
        to_address="a@b.example",
        subject="s",
        message_id=f"<{sequence}@hq.example>",
        message_sha256="x",
        path="p",
        claimed_at=NOW,
        claimed_by="t",
    )
    session.add(mail)
    session.flush()
    session.add_all(MailItem(mail_id=mail.id, kind="assignment", item_id=i) for i in items)
    return mail


def settle(session, mail, outcome, code=None):
    session.add(MailOutcome(mail_id=mail.id, outcome=outcome, code=code, detail="", decided_by="t", at=NOW))
    session.flush()


def test_migrations_make_exactly_the_tables_the_code_declares(store_settings):
    store = open_store(store_settings)
    with store.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    assert version_of(store.engine)[0] == version_of(store.engine)[1]


def test_a_database_of_another_version_is_refused_with_the_command(store_settings):
    store = open_store(store_settings)
    with store.begin() as session:
        session.execute(text("update alembic_version set version_num = '0000'"))
    with pytest.raises(StoreError, match="huifang db upgrade"):
        open_store(store_settings)


def test_an_unreachable_database_names_the_setting_and_not_the_password(tmp_path):
    with pytest.raises(StoreError, match="HUIFANG_DATABASE_URL") as caught:
        open_store(Settings(home=tmp_path, database_url="postgresql://me:hush@127.0.0.1:1/x"))
    assert "hush" not in str(caught.value)


def test_times_come_back_aware_and_in_utc(store_settings):
    store = open_store(store_settings)
    with store.begin() as session:
        session.add(
            Message(sha256="x", path="p", size_bytes=1, first_seen_at=datetime.fromisoformat("2026-03-02T09:00+08:00"))
        )
    with store.begin() as session:
        found = session.scalar(select(Message.first_seen_at))
    assert found == NOW
    assert found.tzinfo == UTC


def test_audit_rows_are_chained_and_a_changed_one_breaks_the_chain(store_settings):
    store = open_store(store_settings)
    for n in range(3):
        with store.begin() as session:
            record(session, actor="a", action="b", subject=str(n), payload={"n": n}, at=NOW)
    with store.begin() as session:
        rows = session.scalars(select(Audit).order_by(Audit.id)).all()
    before = "0" * 64
    for row in rows:
        line = "\n".join([before, row.actor, row.action, row.subject, row.payload_sha256, row.at.isoformat()])
        assert row.prev_sha256 == before
        assert row.sha256 == hashlib.sha256(line.encode()).hexdigest()
        before = row.sha256


def test_each_row_of_the_audit_chain_is_hashed_again_whatever_zone_its_time_was_given_in(store_settings):
    store = open_store(store_settings)
    for hours in (0, 8, -5):
        with store.begin() as session:
            at = NOW.astimezone(timezone(timedelta(hours=hours)))
            record(session, actor="a", action="b", subject=str(hours), payload={}, at=at)
    with store.begin() as session:
        # A row of version 0.1, whose hash was taken over its time as it was given.
        last = session.scalar(select(Audit.sha256).order_by(Audit.id.desc()).limit(1))
        at = datetime(2026, 3, 2, 9, 0, 0, 5, tzinfo=timezone(timedelta(hours=8)))
        old = Audit(prev_sha256=last, actor="a", action="b", subject="c", payload_sha256="d", at=at)
        old.sha256 = hashlib.sha256("\n".join([last, "a", "b", "c", "d", at.isoformat()]).encode()).hexdigest()
        session.add(old)
    with store.begin() as session:
        assert find_broken_row(session) is None
    for column, value in (("actor", "z"), ("subject", "z"), ("payload_sha256", "z"), ("action", "z")):
        with store.begin() as session:
            row = session.scalars(select(Audit).order_by(Audit.id).offset(1).limit(1)).one()
            kept = getattr(row, column)
            setattr(row, column, value)
            session.flush()
            assert find_broken_row(session) == row.id
            setattr(row, column, kept)


def test_a_customer_is_assigned_once_in_a_campaign(store_settings):
    store = open_store(store_settings)
    with store.begin() as session:
        seed_campaign(session)
    with pytest.raises(IntegrityError), store.begin() as session:
        session.add(
            Assignment(
                campaign_id="p-2026-03",
                customer_id="0001",
                branch_no="0001",
                caller="branch",
                form="conduct",
                developer_id="",
                due_on=date(2026, 3, 18),
                calendar_version="c",
                assigned_on=date(2026, 3, 2),
                assigned_at=NOW,
            )
        )


def test_calls_in_a_sent_or_unknown_mail_are_not_mailed_again_and_failed_ones_are(store_settings):
    store = open_store(store_settings)
    with store.begin() as session:
        seed_campaign(session)
    with store.begin() as session:
        ids = list(records.calls_to_mail(session, "p-2026-03")["assignment_id"])
        for sequence, (item, outcome) in enumerate(zip(ids, ["sent", "unknown", "failed"], strict=True), start=1):
            settle(session, claim(session, sequence, [item]), outcome)
    with store.begin() as session:
        assert list(records.calls_to_mail(session, "p-2026-03")["assignment_id"]) == [ids[2]]
        assert records.items_carried(session, "assignment") == set(ids[:2])


def test_a_claim_without_outcome_becomes_unknown_once(store_settings):
    store = open_store(store_settings)
    with store.begin() as session:
        seed_campaign(session)
        claim(session, 1)
    with store.begin() as session:
        assert outbox.book_lost(session, NOW, is_line_known=False) == (["assignment p-2026-03 0001 #1"], [])
    with store.begin() as session:
        assert outbox.book_lost(session, NOW, is_line_known=False) == ([], [])
        assert list(records.mails_of(session)["outcome"]) == ["unknown"]


def test_the_last_day_of_a_branch_is_that_of_the_calls_it_answers(store_settings):
    store = open_store(store_settings)
    with store.begin() as session:
        seed_campaign(session)
    with store.begin() as session:
        first, second, third = session.scalars(select(Assignment).order_by(Assignment.id))
        first.due_on, second.caller, second.due_on = date(2026, 3, 20), "hq", date(2026, 3, 25)
        third.branch_no = "0002"
    with store.begin() as session:
        assert records.due_by_branch(session, "p-2026-03") == {
            "0001": date(2026, 3, 20), "0002": date(2026, 3, 18), "HQ": date(2026, 3, 25), "": date(2026, 3, 25)
        }  # fmt: skip


def test_an_address_refused_for_good_is_known_until_a_later_mail_gets_through(store_settings):
    store = open_store(store_settings)
    with store.begin() as session:
        seed_campaign(session)
        settle(session, claim(session, 1), "failed", 550)
    with store.begin() as session:
        assert records.refused_addresses(session) == {"a@b.example"}
        settle(session, claim(session, 2), "sent", 250)
    with store.begin() as session:
        assert records.refused_addresses(session) == set()


def returned(assignment_id, content, **more):
    return {
        "assignment_id": assignment_id,
        "sheet": "s",
        "row": 4,
        "outcome": "done_clear",
        "called_on": date(2026, 3, 5),
        "called_at": "10:00",
        "caller_name": "x",
        "channel": "phone",
        "attempts": 1,
        "answers": {},
        "violation": "",
        "remark": "",
        "completes": True,
        "fails": False,
        "is_late": False,
        "content_sha256": content,
        **more,
    }


def test_a_row_that_comes_by_several_paths_counts_once_and_a_later_version_supersedes(store_settings):
    store = open_store(store_settings)
    with store.begin() as session:
        seed_campaign(session)
        session.add_all(Message(sha256=str(n), path="p", size_bytes=1, first_seen_at=NOW) for n in range(3))
        session.flush()
        call = session.scalars(select(Assignment.id)).first()
        first = pd.DataFrame([returned(call, "a", completes=False, outcome="rebook")])
        assert len(records.add_return_rows(session, 1, first, booked_on=date(2026, 3, 6))) == 1
        assert records.add_return_rows(session, 2, first, booked_on=date(2026, 3, 6)) == []
        records.add_return_rows(session, 3, pd.DataFrame([returned(call, "b")]), booked_on=date(2026, 3, 7))
    with store.begin() as session:
        current = records.current_rows(session)
        assert list(current["outcome"]) == ["done_clear"]
        assert list(current["version"]) == [2]
        assert len(session.scalars(select(ReturnRow)).all()) == 2


def test_two_runs_cannot_be_inside_the_same_name(store_settings):
    store, other = open_store(store_settings), open_store(store_settings)
    with store.exclusive("outbox"):
        with pytest.raises(Busy, match="another run"), other.exclusive("outbox"):
            pass
        with other.exclusive("collect"):
            pass
    with other.exclusive("outbox"):
        pass


def test_a_long_run_keeps_its_lock_where_the_server_ends_idle_transactions(request, postgres_url, tmp_path):
    url = fresh_database(postgres_url, request.node.nodeid)
    home, options = tmp_path / "home", "options=-c%20idle_in_transaction_session_timeout%3D2000"
    open_store(Settings(home=home, database_url=url))
    store = open_store(Settings(home=home, database_url=f"{url}?{options}"))
    with store.exclusive("idle"):
        time.sleep(4)
        with pytest.raises(Busy), store.exclusive("idle"):
            pass
    with store.exclusive("idle"):
        pass


def test_a_lock_falls_with_a_killed_process(store_settings):
    code = (
        "import os, sys, signal; from tasks.settings import Settings; from tasks.store import open_store\n"
        "store = open_store(Settings())\n"
        "with store.exclusive('outbox'):\n    print('in', flush=True); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {
        "HUIFANG_HOME": str(store_settings.home),
        "HUIFANG_DATABASE_URL": store_settings.database_url,
        "PATH": "/usr/bin:/bin",
    }
    open_store(store_settings)
    child = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, env=environment, capture_output=True, text=True)
    assert (child.stdout.strip(), child.returncode) == ("in", -9), child.stderr
    with open_store(store_settings).exclusive("outbox"):
        pass


def test_purposes_of_a_campaign_keep_which_failed_call_was_replaced(store_settings):
    store = open_store(store_settings)
    with store.begin() as session:
        seed_campaign(session)
        campaign = session.get_one(Campaign, "p-2026-03")
        failed = session.scalars(select(Assignment.id)).first()
        new = pd.DataFrame(
            {
                "customer_id": ["0009"],
                "branch_no": ["0001"],
                "form": ["conduct"],
                "developer_id": ["s"],
                "caller": ["branch"],
                "due_on": [date(2026, 3, 30)],
            }
        )
        none = pd.DataFrame(columns=["customer_id", "assignment_id"])
        records.add_assignments(
            session, campaign, new, none, as_of=date(2026, 3, 10), now=NOW, replaces={"0009": failed}
        )
    with store.begin() as session:
        assert records.replaced_ids(session, "p-2026-03") == {failed}
        assert (
            session.scalar(select(AssignmentPurpose.replaces_id).where(AssignmentPurpose.replaces_id.is_not(None)))
            == failed
        )


def mails(*rows):
    columns = ["kind", "recipient", "role", "sequence", "outcome"]
    return pd.DataFrame([("feedback", "0001", "deputy", *row) for row in rows], columns=columns)


def test_a_mail_due_once_goes_once_and_after_a_failure_again_under_a_new_key():
    about = ("feedback", "0001", "deputy", 202603)
    assert outbox.attempt(mails(), *about) == 20260301
    assert outbox.attempt(mails((20260301, "failed")), *about) == 20260302
    assert outbox.attempt(mails((20260301, "failed"), (20260302, "sent")), *about) is None
    assert outbox.attempt(mails((20260301, "unknown")), *about) is None
    assert outbox.attempt(mails((20260301, "in_flight")), *about) is None
    assert outbox.attempt(mails((20260201, "sent")), *about) == 20260301


def test_a_held_message_is_judged_again_and_any_other_verdict_stands(store_settings):
    store = open_store(store_settings)

    def verdict(session, version, name):
        session.add(
            Verdict(
                message_id=1, version=version, verdict=name, reason="", branch_no="", campaign_id=None, rows_accepted=0, rows_rejected=0,
                is_late=False, decided_by="t", decided_at=NOW,
            )
        )  # fmt: skip
        session.flush()

    with store.begin() as session:
        session.add(Message(sha256="x", path="p", size_bytes=1, first_seen_at=NOW))
        session.flush()
        assert len(records.unjudged(session)) == 1
        verdict(session, records.next_version(session, 1), "quarantined")
        assert records.unjudged(session) == []
        verdict(session, records.next_version(session, 1), "held")
        assert len(records.unjudged(session)) == 1
        verdict(session, records.next_version(session, 1), "accepted")
        assert records.unjudged(session) == []
        assert records.next_version(session, 1) == 4


def test_a_campaign_committed_before_states_were_kept_keeps_its_groups_through_the_migration(store_settings):
    engine = connect_store(store_settings).engine
    upgrade(engine, to="0002")
    rows = {
        "programme_year": {
            "id": "p-2026", "programme": "p", "year": 2026, "base_on": "2025-12-31", "snapshots": "{}", "plan": "{}", "plan_sha256": "x",
            "frame_path": "f", "frame_sha256": "y", "base": 10, "eligible": 9, "waived": 0, "contradictions": "{}", "code_version": "0.1",
            "frozen_at": "2026-01-02 00:00:00",
        },
        "quota": {"programme_year_id": "p-2026", "group_key": "0001", "branch_no": "0001", "eligible": 9, "goal": 1},
        "campaign": {
            "id": "p-2026-03", "programme_year_id": "p-2026", "period": "2026-03", "as_of": "2026-03-02", "calendar_version": "c",
            "state_sha256": "z", "committed_at": "2026-03-02 00:00:00",
        },
        "campaign_group": {
            "campaign_id": "p-2026-03", "group_key": "0001", "completed": 0, "open": 0, "failed": 0, "owed": 1, "share": 1, "places": 2,
            "shortfall": 0, "reason": "",
        },
        "assignment": {
            "id": 1, "campaign_id": "p-2026-03", "customer_id": "c1", "branch_no": "0001", "caller": "branch", "form": "conduct",
            "developer_id": "s", "due_on": "2026-03-18", "calendar_version": "c", "assigned_on": "2026-03-02",
            "assigned_at": "2026-03-02 00:00:00",
        },
    }  # fmt: skip
    with engine.begin() as connection:
        for table, row in rows.items():
            names = ", ".join(row)
            connection.execute(text(f"INSERT INTO {table} ({names}) VALUES ({', '.join(':' + n for n in row)})"), row)
    upgrade(engine)
    with open_store(store_settings).begin() as session:
        groups = records.groups_of(session, "p-2026-03").to_dict("records")
        assert [(g["branch_no"], g["eligible"], g["goal"], g["places"]) for g in groups] == [("0001", 9, 1, 2)]
        (year,) = records.programme_years(session, "p", 2026)
        assert (year.version, year.ledger_sha256) == (1, "")
        call = session.get_one(Assignment, 1)
        assert (call.caller_id, call.call_on, call.caller_reason) == ("", None, "")
