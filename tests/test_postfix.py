"""Sending to a real Postfix that asks for TLS and for a login, which Dovecot checks."""

from __future__ import annotations

import email
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from house import House, at

from bench.smtp_server import IS_THERE, PASSWORD, USER, Postfix
from tasks.mail import Delivery, Letter, compose, open_post
from tasks.settings import Settings

pytestmark = pytest.mark.skipif(not IS_THERE, reason="no Postfix and Dovecot here, or not root: make system installs them")
TO = "director.0001@branch.example"


@pytest.fixture(scope="module")
def postfix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postfix]:
    server = Postfix(tmp_path_factory.mktemp("postfix"), settings="message_size_limit = 200000")
    try:
        yield server
    finally:
        server.stop()


def settings_for(server: Postfix, **changes: object) -> Settings:
    given = {"smtp_password_file": server.password_file, "smtp_ca_file": server.ca, "smtp_timeout_seconds": 20}
    return Settings(**given | changes)


def message(number: int, size: int = 100) -> bytes:
    letter = Letter(TO, "回访任务", "<p>名单见附件</p>", "名单见附件\n" * size, (), f"<{number}@hq.example>", datetime.now(UTC))
    return compose(letter, from_address=USER, from_name="客服中心")


def arrived(server: Postfix, mails: int) -> list[email.message.Message]:
    """The mails in the mailbox, when there are so many."""
    for _ in range(300):
        if len(server.mails()) >= mails:
            break
        time.sleep(0.1)
    return [email.message_from_bytes(path.read_bytes()) for path in server.mails()]


def test_mails_arrive_whole_over_starttls_and_over_tls(postfix: Postfix) -> None:
    before = len(postfix.mails())
    for number, url in enumerate((postfix.url, postfix.tls_url), start=1):
        with open_post(settings_for(postfix), url) as post:
            assert post.send(message(number), USER, TO) == Delivery("sent", 250, "accepted")
            assert post.send(message(number + 10), USER, TO).outcome == "sent"
    found = arrived(postfix, before + 4)
    assert {mail["Message-ID"] for mail in found} >= {f"<{n}@hq.example>" for n in (1, 2, 11, 12)}
    assert all(mail["Delivered-To"] == TO for mail in found if mail["Message-ID"] == "<1@hq.example>")


def test_a_message_larger_than_it_takes_is_refused_for_good_and_is_not_the_recipients_fault(postfix: Postfix) -> None:
    with open_post(settings_for(postfix), postfix.url) as post:
        delivery = post.send(message(3, size=30_000), USER, TO)
    assert (delivery.outcome, delivery.code, delivery.is_temporary) == ("failed", 552, False)
    assert delivery.detail == "refused at MAIL, 5.3.4"


@pytest.mark.long
def test_a_dispatch_brings_each_list_once(postfix: Postfix, prefect_client: str, tmp_path: Path) -> None:
    before = len(postfix.mails())
    house = House.build(tmp_path / "home", prefect_client, customers=600, branches=4).having(
        HUIFANG_SMTP_URL=postfix.url, HUIFANG_SMTP_CA_FILE=str(postfix.ca), HUIFANG_MAIL_FROM=USER,
        HUIFANG_SMTP_PASSWORD_FILE=str(postfix.password_file), HUIFANG_MAILS_PER_DAY="3",
    )  # fmt: skip
    house.pull()
    house.draw("daily_risk")
    assert "waiting" in house.call("run", "dispatch", *at("2026-03-02"), exits=(1,)).output
    assert house.count("mail") == 3
    house.call("run", "dispatch", *at("2026-03-03"), exits=(0,))
    house.call("run", "dispatch", *at("2026-03-03"), exits=(0,))
    sent = house.rows("select message_id, to_address from mail where kind = 'assignment'")
    found = arrived(postfix, before + len(sent))
    lists = sorted((mail["Message-ID"], mail["Delivered-To"]) for mail in found if "assignment" in mail["Message-ID"])
    assert lists == sorted(sent)
    assert len(lists) >= 4
    assert house.rows("select distinct outcome from mail_outcome") == [("sent",)]


def test_a_wrong_password_an_unknown_authority_and_no_login_send_nothing(postfix: Postfix, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text(PASSWORD[::-1])
    before = len(postfix.mails())
    anonymous = postfix.url.replace(USER.replace("@", "%40") + "@", "")
    for settings, url, fate in (
        (settings_for(postfix, smtp_password_file=wrong), postfix.url, "not connected: login refused, 535"),
        (settings_for(postfix, smtp_ca_file=None), postfix.url, "not connected: certificate not verified"),
        (settings_for(postfix, smtp_ca_file=None), postfix.tls_url, "not connected: certificate not verified"),
        (settings_for(postfix), anonymous, "refused at RCPT, 5.7.1"),
    ):
        with open_post(settings, url) as post:
            delivery = post.send(message(99), USER, TO)
        assert (delivery.outcome, delivery.detail) == ("failed", fate)
    assert len(postfix.mails()) == before
