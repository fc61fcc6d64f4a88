"""How much mail goes out and when: limits by the minute and the day, and servers that put mail off."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP
from mail_server import Counter, serving
from sqlalchemy import select

from models.tables import Campaign, Mail, MailOutcome, MailSwitch, ProgrammeYear
from tasks import outbox, records
from tasks.mail import Rendered
from tasks.settings import Settings
from tasks.store import Store, connect_store, open_store

NOW = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)
WORDS = Rendered("回访任务", "<p>名单见附件</p>", "名单见附件")


class Clock:
    """A clock that goes on only while somebody waits, and remembers for how long."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.waits: list[float] = []
        self.then: Callable[[], None] = lambda: None

    def read(self) -> float:
        return self.seconds

    def wait(self, seconds: float) -> None:
        self.waits.append(round(seconds, 3))
        self.seconds += seconds
        self.then()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one campaign and no mail."""
    home = tmp_path_factory.mktemp("store") / "home"
    found = open_store(Settings(home=home))
    add_campaign(found)
    found.engine.dispose()
    return home


def add_campaign(store: Store) -> None:
    with store.begin() as session:
        session.add(
            ProgrammeYear(
                id="p-2026", programme="p", year=2026, base_on=date(2025, 12, 31), snapshots={}, plan="{}",
                plan_sha256="x", frame_path="f", frame_sha256="x", base=1, eligible=1, waived=0, contradictions={},
                code_version="t", frozen_at=NOW,
            )
        )  # fmt: skip
        session.flush()
        session.add(
            Campaign(
                id="p-2026-03", programme_year_id="p-2026", period="2026-03", as_of=date(2026, 3, 2),
                calendar_version="c", state_sha256="x", committed_at=NOW,
            )
        )  # fmt: skip


@pytest.fixture
def store(home: Path, tmp_path: Path) -> Store:
    shutil.copytree(home, tmp_path / "home")
    return connect_store(Settings(home=tmp_path / "home"))


class Office:
    """Runs that send reminders, one after the other, over one mail server."""

    def __init__(self, store: Store, counter: Counter, port: int) -> None:
        self.store, self.counter, self.clock = store, counter, Clock()
        self.url = f"smtp://127.0.0.1:{port}"
        self.made = 0

    def send(self, mails: int, *, now: datetime = NOW, planned: bool = True, **limits: Any) -> dict[str, int]:
        settings = Settings(home=self.store.home, smtp_url=self.url, smtp_timeout_seconds=60, **limits)
        clock = self.clock
        with outbox.opened(settings, self.store, run="t", now=now, clock=clock.read, wait=clock.wait) as out:
            pieces = self.pieces(settings, mails, now)
            counts = outbox.send_all.fn(out, "reminder", pieces, mails if planned else None)
            self.why = out.why_waiting
        return counts

    def pieces(self, settings: Settings, mails: int, now: datetime) -> Iterator[outbox.Piece]:
        for branch in range(mails):
            with self.store.begin() as session:
                number = outbox.next_sequence(session, "reminder", "p-2026-03", f"{branch:04d}", "branch_head")
            self.made += 1
            yield outbox.write(
                settings, "reminder", "p-2026-03", f"{branch:04d}", "branch_head", number,
                f"head.{branch:04d}@branch.example", WORDS, now=now,
            )  # fmt: skip

    def outcomes(self) -> list[tuple[str, int | None]]:
        with self.store.begin() as session:
            rows = session.execute(select(MailOutcome.outcome, MailOutcome.code).order_by(MailOutcome.id))
            return [(outcome, code) for outcome, code in rows]

    def claims(self) -> int:
        with self.store.begin() as session:
            return len(session.scalars(select(Mail.id)).all())


@contextmanager
def office(store: Store, counter: Counter | None = None) -> Iterator[Office]:
    counter = counter or Counter()
    with serving(counter) as port:
        yield Office(store, counter, port)


class PutOff(Counter):
    """Answers the first so many RCPTs with a refusal, or all of those to one address."""

    def __init__(self, reply: str, times: int = 10**9, only: str = "") -> None:
        super().__init__()
        self.reply, self.times, self.only = reply, times, only

    async def handle_RCPT(self, server: SMTP, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        if self.times > 0 and self.only in address:
            self.times -= 1
            self.offers.append(address)
            return self.reply
        return await super().handle_RCPT(server, session, envelope, address, options)


# ---- limits ------------------------------------------------------------------------------------------------


def test_without_a_limit_nobody_waits(store: Store) -> None:
    with office(store) as desk:
        assert desk.send(5)["sent"] == 5
    assert desk.clock.waits == []


def test_so_many_a_minute_are_spread_evenly_and_one_connection_carries_them(store: Store) -> None:
    with office(store) as desk:
        assert desk.send(5, mails_per_minute=20) == {"claimed": 5, "sent": 5, "failed": 0, "unknown": 0}
    assert desk.clock.waits == [3, 3, 3, 3]
    assert desk.counter.greetings == 1


def test_a_mail_that_is_tried_again_counts_for_the_minute_too(store: Store) -> None:
    with office(store, PutOff("451 4.7.1 later", times=2)) as desk:
        assert desk.send(2, mails_per_minute=6)["sent"] == 2
    assert len(desk.counter.offers) == 4
    assert desk.clock.seconds >= 30, "four tries are 30 seconds apart in all"


def test_what_is_over_the_limit_of_a_day_is_neither_made_nor_claimed_and_goes_the_day_after(store: Store) -> None:
    with office(store) as desk:
        first = desk.send(5, mails_per_day=3)
        assert (first["sent"], first["waiting"]) == (3, 2)
        assert "HUIFANG_MAILS_PER_DAY=3" in desk.why
        assert (desk.claims(), desk.made) == (3, 3)
        again = desk.send(2, mails_per_day=3, now=NOW + timedelta(hours=14, minutes=59))
        assert (again["sent"], again["waiting"], desk.made) == (0, 2, 3), "the same day in Shanghai"
        after_midnight = desk.send(2, mails_per_day=3, now=NOW + timedelta(hours=15))
        assert (after_midnight["sent"], after_midnight.get("waiting")) == (2, None)
    assert [outcome for outcome, _ in desk.outcomes()] == ["sent"] * 5


def test_a_run_that_does_not_know_how_many_there_are_counts_those_that_wait(store: Store) -> None:
    with office(store) as desk:
        assert desk.send(5, mails_per_day=2, planned=False)["waiting"] == 3
        assert desk.claims() == 2


def test_mail_that_never_reached_the_server_leaves_the_day_its_place(store: Store) -> None:
    with office(store) as desk:
        desk.url, url = "smtp://127.0.0.1:1", desk.url
        down = desk.send(5, mails_per_day=4, mail_retry_seconds=0)
        assert (down["failed"], down["waiting"]) == (3, 2)
        desk.url = url
        up = desk.send(5, mails_per_day=4)
        assert (up["sent"], up["waiting"]) == (4, 1)


def test_mail_stopped_while_a_run_waits_for_its_turn_is_not_claimed(store: Store) -> None:
    with office(store) as desk:

        def stop() -> None:
            with store.begin() as session:
                session.add(MailSwitch(is_stopped=True, reason="wrong roster", decided_by="Li Na", decided_at=NOW))

        desk.clock.then = stop
        counts = desk.send(3, mails_per_minute=30)
    assert (counts["sent"], counts["stopped"], counts["waiting"]) == (1, 2, 2)
    assert "Li Na" in desk.why
    assert desk.claims() == 1


# ---- servers that put mail off -----------------------------------------------------------------------------


def test_a_mail_put_off_is_tried_again_with_growing_pauses_under_one_claim(store: Store) -> None:
    with office(store, PutOff("451 4.7.1 later", times=3)) as desk:
        assert desk.send(1)["sent"] == 1
    assert desk.clock.waits == [2, 4, 8]
    assert desk.outcomes() == [("sent", 250)]
    assert desk.claims() == 1
    assert len(desk.counter.kept) == 1


def test_a_mail_put_off_to_the_end_fails_for_now_and_the_next_run_sends_it(store: Store) -> None:
    with office(store, PutOff("450 4.2.0 greylisted", times=5)) as desk:
        assert desk.send(1, mail_retry_seconds=30)["failed"] == 1
        assert desk.clock.waits == [2, 4, 8, 16], "not longer than the setting allows"
        assert desk.send(1)["sent"] == 1
    assert desk.outcomes() == [("failed", 450), ("sent", 250)]
    with store.begin() as session:
        assert records.refused_addresses(session) == set()


def test_no_retries_where_the_setting_says_none(store: Store) -> None:
    with office(store, PutOff("450 4.2.0 greylisted")) as desk:
        desk.send(1, mail_retry_seconds=0)
    assert desk.clock.waits == []
    assert len(desk.counter.offers) == 1


def test_five_hundred_that_are_put_off_alike_cost_one_patience(store: Store) -> None:
    with office(store, PutOff("450 4.2.0 greylisted")) as desk:
        assert desk.send(20)["failed"] == 20
    assert sum(desk.clock.waits) == 30
    assert len(desk.counter.offers) == 4 + 20


def test_after_one_that_was_put_off_in_vain_and_one_that_was_sent_there_is_patience_again(store: Store) -> None:
    with office(store, PutOff("450 4.2.2 full", only="head.0001@")) as desk:
        assert desk.send(3) == {"claimed": 3, "sent": 2, "failed": 1, "unknown": 0}
        assert desk.send(3)["sent"] == 2
    assert desk.clock.waits == [2, 4, 8, 16] * 2


def test_a_server_that_says_too_much_with_a_lasting_code_is_left_alone_and_blocks_no_address(store: Store) -> None:
    with office(store, PutOff("550 Connection frequency limited")) as desk:
        counts = desk.send(10)
        assert (counts["failed"], counts["waiting"]) == (3, 7)
        assert "3 times in a row" in desk.why
        with store.begin() as session:
            assert records.refused_addresses(session) == set()
        desk.counter.times = 0
        assert desk.send(10)["sent"] == 10
    assert desk.outcomes()[:3] == [("failed", 550)] * 3


def test_a_lasting_refusal_of_the_recipient_marks_the_address_at_once(store: Store) -> None:
    with office(store, PutOff("550 5.1.1 no such user", only="head.0001@")) as desk:
        assert desk.send(3)["failed"] == 1
        assert desk.clock.waits == []
    with store.begin() as session:
        assert records.refused_addresses(session) == {"head.0001@branch.example"}


def test_a_refusal_of_the_sender_is_nobodys_address_and_ends_the_run(store: Store) -> None:
    with office(store, Counter({"MAIL": "553 5.7.1 not your address"})) as desk:
        counts = desk.send(6)
        assert (counts["failed"], counts["waiting"]) == (3, 3)
        with store.begin() as session:
            assert records.refused_addresses(session) == set()
        desk.counter.replies.clear()
        assert desk.send(6)["sent"] == 6, "as soon as the setting is right"


def test_a_line_dropped_before_the_data_is_tried_again_and_one_behind_it_never(store: Store) -> None:
    class Dropping(Counter):
        drops = 2

        async def handle_RCPT(self, server: SMTP, session: Any, envelope: Any, address: str, options: list[str]) -> str:
            if self.drops:
                self.drops -= 1
                server.transport.abort()
            return await super().handle_RCPT(server, session, envelope, address, options)

    with office(store, Dropping()) as desk:
        assert desk.send(1)["sent"] == 1
        assert desk.clock.waits == [2, 4]
        desk.counter.hang_up_at = "DATA"
        desk.clock.waits.clear()
        assert desk.send(1)["unknown"] == 1
        assert desk.clock.waits == []
    assert len(desk.counter.kept) == 2
    assert desk.outcomes() == [("sent", 250), ("unknown", None)]


def test_mail_stopped_while_one_that_was_put_off_waits_is_not_tried_again(store: Store) -> None:
    with office(store, PutOff("450 4.2.0 greylisted")) as desk:

        def stop() -> None:
            with store.begin() as session:
                session.add(MailSwitch(is_stopped=True, reason="wrong roster", decided_by="Li Na", decided_at=NOW))

        desk.clock.then = stop
        counts = desk.send(3)
    assert (counts["failed"], counts["stopped"], counts["waiting"]) == (1, 2, 2)
    assert len(desk.counter.offers) == 1
    assert desk.outcomes() == [("failed", 450)]


# ---- one mail ahead ----------------------------------------------------------------------------------------


def test_the_next_mail_is_claimed_while_one_is_on_its_way_and_handed_over_after_its_outcome_is_booked(
    store: Store,
) -> None:
    class Watching(Counter):
        seen: list[tuple[int, int]] = []  # noqa: RUF012 (of this one test)

        async def handle_RCPT(self, server: SMTP, session: Any, envelope: Any, address: str, options: list[str]) -> str:
            with connect_store(Settings(home=store.home)).begin() as reading:
                booked = len(reading.scalars(select(MailOutcome.id)).all())
                self.seen.append((int(address[5:9]), booked))
            return await super().handle_RCPT(server, session, envelope, address, options)

    with office(store, Watching()) as desk:
        assert desk.send(6)["sent"] == 6
    assert Watching.seen == [(n, n) for n in range(6)], "all outcomes before it stood in the store"


def test_mail_stopped_while_one_is_on_its_way_holds_the_one_that_was_claimed_ahead(store: Store) -> None:
    class Stopping(Counter):
        async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:
            if len(self.kept) == 1:
                for _ in range(2000):
                    with store.begin() as writing:
                        if len(writing.scalars(select(Mail.id)).all()) == 3:
                            writing.add(
                                MailSwitch(is_stopped=True, reason="wrong roster", decided_by="Li Na", decided_at=NOW)
                            )
                            break
                    await asyncio.sleep(0.01)
            return await super().handle_DATA(server, session, envelope)

    with office(store, Stopping()) as desk:
        counts = desk.send(5)
    assert (counts["sent"], counts["failed"], counts["stopped"], counts["waiting"]) == (2, 1, 3, 2)
    assert len(desk.counter.kept) == 2
    assert desk.outcomes()[2] == ("failed", None)


def test_a_fault_in_the_next_mail_leaves_the_one_on_its_way_with_its_outcome(store: Store) -> None:
    with office(store) as desk:
        whole = desk.pieces

        def broken(settings: Settings, mails: int, now: datetime) -> Iterator[outbox.Piece]:
            yield from whole(settings, 2, now)
            raise ValueError("a list too long")

        desk.pieces = broken
        with pytest.raises(ValueError, match="a list too long"):
            desk.send(3)
    assert desk.outcomes() == [("sent", 250)] * 2


def claimed_and_left(store: Store, mails: int) -> None:
    """What a run leaves that was killed with so many claims open."""
    with store.begin() as session:
        for place in range(mails):
            session.add(
                Mail(
                    kind="reminder", campaign_id="p-2026-03", recipient=f"{place:04d}", role="branch_head", sequence=1,
                    to_address=f"head.{place:04d}@branch.example", subject="", message_id=f"<{place}@hq.example>",
                    message_sha256="", path="", claimed_at=NOW, claimed_by="killed",
                )
            )  # fmt: skip


def test_of_two_claims_left_open_the_first_is_unknown_and_the_second_was_never_handed_over(store: Store) -> None:
    with office(store) as desk:
        desk.send(0)  # a run on this machine since it was started
    claimed_and_left(store, 2)
    with office(store) as desk:
        assert desk.send(0)["claimed"] == 0
    assert desk.outcomes() == [("unknown", None), ("failed", None)]


def test_of_two_claims_left_open_before_the_machine_restarted_both_are_unknown(store: Store) -> None:
    with office(store) as desk:
        desk.send(0)
    (store.home / "locks" / "outbox.boot").write_text("another start\n")
    claimed_and_left(store, 2)
    with office(store) as desk:
        desk.send(0)
    assert desk.outcomes() == [("unknown", None)] * 2


def test_an_outcome_without_a_sync_of_its_own_is_there_for_the_next_run_and_later_ones_are_synced(
    store_settings: Settings,
) -> None:
    found = open_store(store_settings)
    add_campaign(found)
    claimed_and_left(found, 1)
    with found.begin_unsynced() as session:
        mail = session.scalars(select(Mail)).one()
        session.add(
            MailOutcome(mail_id=mail.id, outcome="sent", code=250, detail="", decided_by="outbox", at=NOW)
        )

    def fall() -> None:
        with found.begin_unsynced() as session:
            session.add(MailSwitch(is_stopped=True, reason="", decided_by="nobody", decided_at=NOW))
            session.flush()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fall()
    with connect_store(store_settings).begin() as session:
        assert session.scalars(select(MailOutcome.outcome)).all() == ["sent"]
        assert session.scalars(select(MailSwitch.id)).all() == []
    if found.engine.dialect.name == "sqlite":
        with found.engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2, "FULL again"
    else:
        assert found.keeps_unsynced


def test_the_store_that_syncs_every_outcome_tells_by_the_order_alone(store_settings: Settings) -> None:
    found = open_store(store_settings)
    add_campaign(found)
    claimed_and_left(found, 2)
    with found.begin() as session:
        unknown, unspoken = outbox.book_lost(session, NOW, is_line_known=found.keeps_unsynced)
    assert (len(unknown), len(unspoken)) == ((2, 0) if found.engine.dialect.name == "sqlite" else (1, 1))
