"""kill -9 at bad moments, then the same command again: nobody gets a mail twice, no return is lost."""

import asyncio
import email
import random
import re
import threading
import time
from collections import Counter
from contextlib import contextmanager

import pytest
from aiosmtpd.smtp import SMTP
from house import OURS, YEAR_END, House, at, kill_group

pytestmark = pytest.mark.slow

PROGRAMMES = ("daily_risk", "marketer_conduct")
SENT_AT, ANSWERED_AT = at("2026-03-02"), at("2026-03-12", "18:15")


class Desk:
    """A mail server's counter that can be told to kill its customer in the middle of handing in a mail."""

    def __init__(self):
        self.kept = []
        self.step, self.left, self.victim = "", 0, None

    def arm(self, step, number):
        self.step, self.left = step, number

    def _reach(self, step):
        if step == self.step:
            self.left -= 1
            if self.left == 0:
                kill_group(self.victim)
                self.step = ""

    async def handle_RCPT(self, server, session, envelope, address, rcpt_options):
        envelope.rcpt_tos.append(address)
        self._reach("RCPT")
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        self.kept.append(email.message_from_bytes(envelope.content)["Message-ID"])
        self._reach("DATA")
        return "250 OK"


@contextmanager
def mail_server():
    counter, loop = Desk(), asyncio.new_event_loop()
    server = loop.run_until_complete(
        loop.create_server(lambda: SMTP(counter, hostname="localhost", loop=loop), "127.0.0.1", 0)
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
    return House.build(tmp_path_factory.mktemp("house") / "home", prefect_client, customers=1200, branches=6)


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
    left = [path.name for path in (lake / ".work").iterdir()]
    assert not left


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


@pytest.mark.long
def test_a_dispatch_killed_at_any_step_mails_no_list_twice_and_names_what_it_does_not_know(drawn, tmp_path):
    lists = "select m.message_id, m.campaign_id, m.recipient from mail m where m.kind = 'assignment'"
    with mail_server() as (counter, url):
        house = drawn.copy(tmp_path / "home").having(HUIFANG_SMTP_URL=url)
        wanted = set(house.rows("select distinct campaign_id, branch_no from assignment"))
        assert len(wanted) >= 8

        for crash, (step, number) in enumerate((("RCPT", 2), ("DATA", 2), ("RCPT", 1)), start=1):
            counter.arm(step, number)
            counter.victim = process = house.start("run", "dispatch", *SENT_AT)
            process.join(timeout=120)
            assert process.exitcode == -9, house.said()
            in_flight = sum(campaign["mails"]["in_flight"] for campaign in house.status()["campaigns"])
            assert in_flight == 1, f"crash {crash}"
        house.shell("run", "dispatch", *SENT_AT, exits=(1,))  # an unknown mail is something to look at
        assert house.run("run", "dispatch", *SENT_AT) == 0  # and is said once

        assert max(Counter(counter.kept).values()) == 1
        by_id = {message_id: (campaign, branch) for message_id, campaign, branch in house.rows(lists)}
        got = Counter(by_id[message_id] for message_id in counter.kept)
        assert max(got.values()) == 1
        shown = house.call("mail", "list", "--outcome", "unknown").stdout
        unknown = {
            (row[2], row[3]): row[0]
            for row in (re.findall(r"[\w-]+", line) for line in shown.splitlines() if "assignment" in line)
        }
        assert len(unknown) == 3
        assert set(got) | set(unknown) == wanted
        assert len(set(got) & set(unknown)) == 1  # accepted by the server, which was not heard of

        for place, number in unknown.items():
            fate = "sent" if place in got else "failed"
            given = ("--as", fate, "--by", "operations", "--reason", "asked the branch by phone")
            house.call("mail", "resolve", number, *given, exits=(0,))
            refused = house.call("mail", "resolve", number, *given, exits=(2,))
            assert "only an unknown one can be resolved" in refused.output
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
        assert (mails["unknown"], mails["in_flight"], mails["failed"]) == (0, 0, 2)


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
        "receipts": house.rows("select campaign_id, recipient, to_address from mail where kind = 'receipt' "
                               "order by 1, 2, 3"),
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
        for step, number in (("RCPT", 2), ("DATA", 2)):
            counter.arm(step, number)
            counter.victim = process = house.start(*words)
            process.join(timeout=120)
            assert process.exitcode == -9, house.said()
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
