"""kill -9 at bad moments, then the same command again: nobody gets a mail twice, no return is lost."""

import asyncio
import email
import os
import random
import re
import socket
import sqlite3
import threading
import time
from collections import Counter
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiosmtpd.smtp import SMTP
from house import OURS, YEAR_END, House, at, kill_group

pytestmark = pytest.mark.slow

PROGRAMMES = ("daily_risk", "marketer_conduct")
KILLED = (-9, 255)
"""255: the fork server has not heard yet which signal it was."""
SENT_AT, ANSWERED_AT = at("2026-03-02"), at("2026-03-12", "18:15")


class Desk:
    """A mail server's counter that can be told to kill its customer at any step of handing in a mail.

    Steps in their order: CONNECT, EHLO, MAIL, RCPT, DATA (the command), DOT (the message is whole and kept, nothing is
    answered), REPLIED (the answer has been read, its outcome cannot be booked yet), QUIT.
    """

    def __init__(self):
        self.kept, self.refused = [], 0
        self.step, self.left, self.victim = "", 0, None
        self.store, self.puts_off, self.open_claims = None, False, 0

    def arm(self, step, number=1, open_claims=1):
        """open_claims: how many mails the customer has claimed and not settled when it is killed."""
        self.step, self.left, self.open_claims = step, number, open_claims

    def reach(self, step):
        if step == self.step:
            self.left -= 1
            if self.left == 0:
                self.await_claims()
                kill_group(self.victim)
                self.step = ""

    def await_claims(self):
        if self.open_claims <= 1:
            return
        query = "select count(*) from mail where id not in (select mail_id from mail_outcome)"
        for _ in range(2000):
            with closing(sqlite3.connect(f"file:{self.store}?mode=ro", uri=True, timeout=30)) as store:
                if store.execute(query).fetchone()[0] == self.open_claims:
                    return
            time.sleep(0.01)
        raise AssertionError(f"it never had {self.open_claims} claims open")

    async def handle_EHLO(self, server, session, envelope, hostname, lines):
        session.host_name = hostname
        self.reach("EHLO")
        return lines

    async def handle_MAIL(self, server, session, envelope, address, mail_options):
        envelope.mail_from = address
        self.reach("MAIL")
        return "250 OK"

    async def handle_RCPT(self, server, session, envelope, address, rcpt_options):
        self.reach("RCPT")
        if self.puts_off:
            self.refused += 1
            return "451 4.7.1 later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        self.kept.append(email.message_from_bytes(envelope.content)["Message-ID"])
        self.reach("DOT")
        server.has_message = True
        return "250 OK"

    async def handle_QUIT(self, server, session, envelope):
        self.reach("QUIT")
        return "221 Bye"


class Clerk(SMTP):
    """Speaks SMTP for the desk."""

    has_message = False

    def connection_made(self, transport):
        self.event_handler.reach("CONNECT")
        super().connection_made(transport)

    async def push(self, status):
        desk = self.event_handler
        if str(status).startswith("354"):
            desk.reach("DATA")
        if not (self.has_message and desk.step == "REPLIED"):
            self.has_message = False
            await super().push(status)
            return
        with no_one_else_writes(desk.store):
            await super().push(status)
            await asyncio.sleep(0.3)  # it has read the answer by now, and waits for the store to book it
            desk.reach("REPLIED")


@contextmanager
def no_one_else_writes(path):
    with closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as store:
        store.execute("begin immediate")
        yield
        store.execute("rollback")


@contextmanager
def mail_server():
    counter, loop = Desk(), asyncio.new_event_loop()
    server = loop.run_until_complete(
        loop.create_server(lambda: Clerk(counter, hostname="localhost", loop=loop), "127.0.0.1", 0)
    )
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield counter, f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=10)
        server.close()
        loop.close()


@contextmanager
def a_door_nobody_opens():
    """The address of a server whose queue is full: whoever connects waits."""
    with ExitStack() as stack:
        door = stack.enter_context(socket.socket())
        door.bind(("127.0.0.1", 0))
        door.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(door.getsockname())
        yield f"smtp://127.0.0.1:{door.getsockname()[1]}"


def killed_at(house, sign, words, *, after=0.0):
    """Start a command, wait for a sign of how far it is, and a little longer, then kill it."""
    process = house.start(*words)
    deadline = time.monotonic() + 120
    try:
        while not sign():
            assert process.is_alive(), f"it ended before the sign:\n{house.said()}"
            assert time.monotonic() < deadline, f"no sign:\n{house.said()}"
            time.sleep(0.002)
        time.sleep(after)
    finally:
        kill_group(process)


def stored_sample(house):
    return house.rows("select campaign_id, customer_id, kind, rank, ticket from drawn_customer order by 1, 2")


@pytest.fixture(scope="module")
def brokerage(prefect_client, tmp_path_factory):
    return House.build(tmp_path_factory.mktemp("house") / "home", prefect_client, customers=1200, branches=9)


@pytest.fixture(scope="module")
def pulled(brokerage, tmp_path_factory):
    house = brokerage.copy(tmp_path_factory.mktemp("pulled") / "home")
    house.pull()
    return house


@pytest.fixture(scope="module")
def drawn(pulled, tmp_path_factory):
    house = pulled.copy(tmp_path_factory.mktemp("drawn") / "home")
    house.draw(*PROGRAMMES)
    return house


@pytest.fixture(scope="module")
def answered(drawn, tmp_path_factory):
    """The lists are out and twelve or so returns lie in the mailbox."""
    house = drawn.copy(tmp_path_factory.mktemp("answered") / "home")
    house.call("run", "dispatch", *SENT_AT, exits=(0,))
    house.answer("2026-03-12")
    assert len(list((house.home / "maildir" / "new").iterdir())) >= 8
    return house


def test_a_pull_killed_midway_takes_the_same_rows_in_once(brokerage, pulled, tmp_path):
    house = brokerage.copy(tmp_path / "home")
    lake = house.home / "lake"
    words = ("run", "pull", "--profile", "profiles/canonical.yaml", "--inbox", str(house.home / "inbox"), *YEAR_END)
    for table in ("branches", "customers"):
        killed_at(house, lambda table=table: (lake / table).is_dir(), words)
        assert house.count("pull") == 0
    assert house.run(*words) == house.pull().exit_code  # some planted rows are rejected: something to look at
    assert house.count("pull") == 1
    assert house.status()["pulls"] == pulled.status()["pulls"]
    assert [path.name for path in (lake / ".work").iterdir()] == ["lock"]


def test_a_draw_killed_midway_still_draws_one_sample_with_the_seed_it_stored(pulled, drawn, tmp_path):
    house = pulled.copy(tmp_path / "home")
    words = ("run", "draw", "--programme", "daily_risk", "--period", "2026-03", *at("2026-03-02", "07:30"))
    killed_at(house, (house.home / "lake" / "frames" / "daily_risk-2026" / "frame.parquet").exists, words)
    assert house.count("draw") == 0
    killed_at(house, lambda: house.count("seed"), words)
    assert house.count("draw") == 0
    seed = house.rows("select seed from seed")
    house.run(*words, exits=(0,))
    assert house.rows("select seed from seed") == seed
    sample = stored_sample(house)
    house.run(*words, exits=(0,))
    assert stored_sample(house) == sample
    house.call("verify", "daily_risk-2026-03", exits=(0,))
    (found,), calm = house.status()["campaigns"], drawn.status()["campaigns"][0]
    for key in ("base", "eligible", "excluded", "goal", "drawn", "reserve", "assigned", "frame_sha256"):
        assert found[key] == calm[key], key


@dataclass(frozen=True)
class Crash:
    """Where a dispatch is killed: the claims it leaves open, and the mails the server has of that run.

    Of two open claims the second was made while the first was on the line, and is known not to have been handed over.
    """

    at: str
    in_flight: int
    handed_over: int


EVERY_LIST_LEFT = -1
BEFORE_THE_SERVER = (
    Crash("BUILDING", 0, 0), Crash("CLAIMING", 0, 0), Crash("CLAIMED", 1, 0),
)  # fmt: skip
AT_THE_SERVER = (
    Crash("CONNECT", 1, 0), Crash("EHLO", 1, 0), Crash("MAIL", 1, 0), Crash("RCPT", 1, 0), Crash("DATA", 1, 0),
    Crash("DOT", 1, 1), Crash("REPLIED", 1, 1),
)  # fmt: skip
AFTERWARDS = (
    Crash("THE NEXT ONE CLAIMED", 2, 3), Crash("PUT OFF", 1, 0), Crash("BETWEEN TWO MAILS", 0, 1), Crash("QUIT", 0, EVERY_LIST_LEFT),
)  # fmt: skip



def crash(house, counter, at):
    """A dispatch, killed at that step."""
    words, mails = ("run", "dispatch", *SENT_AT), house.count("mail")
    if at == "BUILDING":
        killed_at(house, lambda: locksmiths_of(house), words)
    elif at == "CLAIMING":
        # The claim's transaction writes the message into a file; a pipe that nobody reads holds it there.
        pipes = [
            house.home / "outbox" / campaign / f"assignment-{branch}-operations_director-1.eml"
            for campaign, branch in house.rows("select distinct campaign_id, branch_no from assignment")
        ]
        for pipe in pipes:
            pipe.parent.mkdir(parents=True, exist_ok=True)
            os.mkfifo(pipe)
        killed_at(house, lambda: is_held(house), words)
        for pipe in pipes:
            pipe.unlink()
    elif at == "CLAIMED":
        with a_door_nobody_opens() as url:
            killed_at(house.having(HUIFANG_SMTP_URL=url), lambda: house.count("mail") > mails, words)
    elif at == "PUT OFF":
        counter.puts_off, before = True, counter.refused
        killed_at(house, lambda: counter.refused > before, words, after=0.3)
        counter.puts_off = False
    elif at == "BETWEEN TWO MAILS":
        sent = "select count(*) from mail_outcome where outcome = 'sent'"
        before = house.rows(sent)
        killed_at(house.having(HUIFANG_MAILS_PER_MINUTE="2"), lambda: house.rows(sent) != before, words, after=0.3)
    else:
        counter.arm(*(("DOT", 3, 2) if at == "THE NEXT ONE CLAIMED" else (at,)))
        counter.victim = process = house.start(*words)
        process.join(timeout=120)
        assert process.exitcode in KILLED, house.said()


def locksmiths_of(house):
    """Whether children that write and lock the sheets of this house are at work."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if b"tasks.lock" in path.read_bytes() and str(house.home) in path.with_name("environ").read_text():
                return True
    return False


def is_held(house):
    """Whether somebody writes to the store for so long that it is no accident."""
    for _ in range(10):
        try:
            with closing(sqlite3.connect(house.home / "huifang.sqlite", timeout=0, isolation_level=None)) as store:
                store.execute("begin immediate")
                store.execute("rollback")
        except sqlite3.OperationalError:
            time.sleep(0.05)
            continue
        return False
    return True


def dispatch_through(crashes, house, counter):
    """A dispatch killed at each of these steps, then one that is left alone: nobody got a list twice, and whoever got none is named."""
    lists = "select m.message_id, m.campaign_id, m.recipient from mail m where m.kind = 'assignment'"
    wanted = set(
        house.rows("select distinct campaign_id, case caller when 'hq' then 'HQ' else branch_no end from assignment")
    )
    counter.store = house.home / "huifang.sqlite"
    heard = []
    for one in crashes:
        kept, rest = len(counter.kept), len(wanted) - len(carried_lists(house))
        crash(house, counter, one.at)
        in_flight = sum(campaign["mails"]["in_flight"] for campaign in house.status()["campaigns"])
        assert in_flight == one.in_flight, one
        handed_over = len(counter.kept) - kept
        assert handed_over == (rest if one.handed_over == EVERY_LIST_LEFT else one.handed_over), one
        if one.in_flight and handed_over:
            heard.append(one.at)
    house.run("run", "dispatch", *SENT_AT, exits=(0, 1))
    assert house.run("run", "dispatch", *SENT_AT) == 0, "what is unknown is said once"

    assert max(Counter(counter.kept).values()) == 1
    by_id = {message_id: (campaign, branch) for message_id, campaign, branch in house.rows(lists)}
    got = Counter(by_id[message_id] for message_id in counter.kept)
    assert max(got.values()) == 1
    shown = house.call("mail", "list", "--outcome", "unknown").stdout
    unknown = {
        (row[2], row[3]): row[0]
        for row in (re.findall(r"[\w-]+", line) for line in shown.splitlines() if "assignment" in line)
    }
    assert len(unknown) == sum(min(one.in_flight, 1) for one in crashes), "what was only claimed ahead is sent again"
    assert set(got) | set(unknown) == wanted
    assert len(set(got) & set(unknown)) == len(heard), "accepted by the server, which was not heard of"
    return wanted, got, unknown


def carried_lists(house):
    """Lists that stand in a mail sent or unknown; those of one that failed are due again."""
    return house.rows(
        "select distinct campaign_id, recipient from mail where kind = 'assignment' and id not in "
        "(select mail_id from mail_outcome where outcome = 'failed')"
    )


def test_a_dispatch_killed_before_and_after_the_server_has_the_mail_sends_no_list_twice(drawn, tmp_path):
    with mail_server() as (counter, url):
        house = drawn.copy(tmp_path / "home").having(HUIFANG_SMTP_URL=url)
        dispatch_through((Crash("RCPT", 1, 0), Crash("REPLIED", 1, 1)), house, counter)


@pytest.mark.long
def test_a_dispatch_killed_at_every_step_mails_no_list_twice_and_names_what_it_does_not_know(drawn, tmp_path):
    lists = "select m.message_id, m.campaign_id, m.recipient from mail m where m.kind = 'assignment'"
    with mail_server() as (counter, url):
        house = drawn.copy(tmp_path / "home").having(HUIFANG_SMTP_URL=url)
        table = (*BEFORE_THE_SERVER, *AT_THE_SERVER, *AFTERWARDS)
        wanted, got, unknown = dispatch_through(table, house, counter)

        for place, number in unknown.items():
            fate = "sent" if place in got else "failed"
            given = ("--as", fate, "--by", "operations", "--reason", "asked the branch by phone")
            house.call("mail", "resolve", number, *given, exits=(0,))
            refused = house.call("mail", "resolve", number, *given, exits=(2,))
            assert "only an unknown or bounced one can be resolved" in refused.output
        assert house.run("run", "dispatch", *SENT_AT) == 0
        assert house.run("run", "dispatch", *SENT_AT) == 0

        by_id = {message_id: (campaign, branch) for message_id, campaign, branch in house.rows(lists)}
        assert Counter(by_id[message_id] for message_id in counter.kept) == dict.fromkeys(wanted, 1)
        carried = house.rows(
            "select i.item_id from mail_item i where i.mail_id not in "
            "(select mail_id from mail_outcome where outcome = 'failed') and i.kind = 'assignment'"
        )
        assert sorted(carried) == sorted(house.rows("select id from assignment"))
        mails = house.status()["mails"]
        assert (mails["unknown"], mails["in_flight"]) == (0, 0)
        claimed_ahead = sum(one.in_flight > 1 for one in table)
        assert mails["failed"] == len(set(unknown) - set(got)) + claimed_ahead


def booked(house):
    """Everything that a collect books, in words that do not depend on how often it was begun."""
    return {
        "verdicts": house.rows(
            "select m.sha256, v.version, v.verdict, v.reason, v.branch_no, v.campaign_id, v.rows_accepted, "
            "v.rows_rejected, v.is_late from verdict v join message m on m.id = v.message_id order by 1, 2"
        ),
        "sightings": house.rows("select uid, m.sha256 from sighting s join message m on m.id = s.message_id order by 1"),
        "rows": house.rows("select assignment_id, version, content_sha256, outcome from return_row order by 1, 2"),
        "findings": house.rows("select assignment_id, violation from finding order by 1, 2"),
        "opinions": house.rows("select assignment_id from opinion order by 1"),
        "problems": house.rows("select m.sha256, p.row, p.column_name, p.code from row_problem p "
                               "join message m on m.id = p.message_id order by 1, 2, 3, 4"),
        "evidence": house.rows("select m.sha256, e.part, e.sha256, e.item_kind, e.item_id from evidence e "
                               "join message m on m.id = e.message_id order by 1, 2"),
        "receipts": house.rows("select campaign_id, recipient, to_address from mail where kind = 'receipt' and id not in "
                               "(select mail_id from mail_outcome where outcome = 'failed') order by 1, 2, 3"),
        "folders": sorted(
            (folder, path.name.split(":")[0])
            for folder in (".Processed", ".Rejected", ".Quarantine")
            for path in (house.home / "maildir" / folder).glob("*/*")
        ),
    }  # fmt: skip


@pytest.mark.long
def test_a_collect_killed_again_and_again_loses_no_return_and_books_none_twice(answered, tmp_path):
    calm, chance = answered.copy(tmp_path / "calm"), random.Random(20260312)
    calm.call("run", "collect", *ANSWERED_AT)

    with mail_server() as (counter, url):
        house = answered.copy(tmp_path / "home").having(HUIFANG_SMTP_URL=url)
        maildir = house.home / "maildir"
        came = {path.name for path in (maildir / "new").iterdir()}
        words = ("run", "collect", *ANSWERED_AT)
        signs = (
            lambda: house.count("sighting") >= 3,
            lambda: house.count("verdict") >= 1,
            lambda: house.count("verdict") >= len(came) // 2,
            lambda: len(list(maildir.glob(".Processed/cur/*"))) >= 2,
        )
        for sign in signs:
            killed_at(house, sign, words, after=chance.uniform(0, 0.03))
            house.status()
        for step, number in (("RCPT", 2), ("DOT", 2)):
            counter.arm(step, number)
            counter.victim = process = house.start(*words)
            process.join(timeout=120)
            assert process.exitcode in KILLED, house.said()
            house.status()
        house.run(*words)
        handed_over = len(counter.kept)
        house.run(*words)
        assert len(counter.kept) == handed_over

    assert not list((maildir / "new").iterdir())
    assert not list((maildir / "cur").iterdir())
    assert {path.name.split(":")[0] for path in maildir.glob(".[PRQ]*/*/*")} == came
    found, wanted = booked(house), booked(calm)
    for name in wanted:
        assert found[name] == wanted[name], name
    assert found["rows"]
    assert max(Counter(counter.kept).values()) == 1
    unknown = house.status()["mails"]["unknown"]
    assert unknown == 2
    assert len(counter.kept) == len(wanted["receipts"]) - 1  # one of the two was accepted by the server
    of_calm, of_ours = calm.status(), house.status()
    for before, after in zip(of_calm["campaigns"], of_ours["campaigns"], strict=True):
        assert {k: v for k, v in before.items() if k not in ("mails", "balances")} == {
            k: v for k, v in after.items() if k not in ("mails", "balances")
        }
    assert of_calm["messages"] == of_ours["messages"]
    assert OURS not in [row[2] for row in found["receipts"]]
