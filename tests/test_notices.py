"""What comes back about a mail is read in every form that providers write, and believed only where it can do no harm."""

import base64
import email
import email.policy
import sqlite3
import time
from contextlib import closing
from datetime import UTC, date, datetime
from email.message import EmailMessage

import pandas as pd
import pytest
from house import House, at
from letters import opened
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from bench.smtp_server import IS_THERE, USER, Postfix
from models.notices import Notice, Reading, read_notice, settle_by
from models.returns import judge_sender
from models.tables import MailNotice, MailRecall, Message
from tasks import outbox, records
from tasks.mail import Letter, Rendered, compose, open_post
from tasks.sandbox.notices import read_notice as take_apart
from tasks.settings import Settings
from tasks.store import connect_store, open_store, upgrade

OURS = "<assignment.e4ed931b22a51fcccc374eef26ac6a7b@hq.example>"
TO = "director.0001@branch.example"


def returned(own_id=OURS, to=TO):
    """The head of a mail of ours, as it is given back."""
    return f"From: huifang@hq.example\nTo: {to}\nSubject: x\nMessage-ID: {own_id}\n"


def dsn(*, own_id=OURS, to=TO, final=None, action="failed", status="5.1.1", back="text/rfc822-headers", more=""):
    """As Postfix writes it (RFC 3464)."""
    return (
        "Return-Path: <>\nFrom: MAILER-DAEMON@mx.branch.example (Mail Delivery System)\nTo: huifang@hq.example\n"
        "Subject: Undelivered Mail Returned to Sender\nAuto-Submitted: auto-replied\nMIME-Version: 1.0\n"
        'Content-Type: multipart/report; report-type=delivery-status; boundary="B"\n\n--B\nContent-Type: text/plain\n\n'
        f"I'm sorry to have to inform you about {to}.\n\n--B\nContent-Type: message/delivery-status\n\n"
        f"Reporting-MTA: dns; mx.branch.example\n\nFinal-Recipient: rfc822; {final or to}\nAction: {action}\n"
        f"Status: {status}\nDiagnostic-Code: smtp; 550 {status} said by the other side\n{more}\n--B\nContent-Type: {back}\n\n"
        f"{returned(own_id, to)}\n\n--B--\n"
    ).encode()


def exchange(*, own_id=OURS, to=TO):
    """An Exchange server's: its report under a transfer encoding, a page for people, only the head given back."""
    report = f"Reporting-MTA: dns;mail.branch.example\n\nFinal-Recipient: RFC822;{to.upper()}\nAction: failed\nStatus: 5.1.10\n"
    page = f"<html><style>p {{ x: 5.0.0 }}</style><p>{to} 找不到收件人</p></html>"
    return (
        "From: Microsoft Outlook <MicrosoftExchange329e71ec88ae4615bbc36ab6ce41109e@branch.example>\n"
        f"To: huifang@hq.example\nSubject: =?gb2312?B?{base64.b64encode('未传递'.encode('gbk')).decode()}?=\n"
        'MIME-Version: 1.0\nContent-Type: multipart/report; report-type=delivery-status; boundary="B"\n\n'
        f"--B\nContent-Type: text/html; charset=utf-8\nContent-Transfer-Encoding: base64\n\n"
        f"{base64.encodebytes(page.encode()).decode()}\n--B\nContent-Type: message/delivery-status\n"
        f"Content-Transfer-Encoding: base64\n\n{base64.encodebytes(report.encode()).decode()}\n--B\n"
        f"Content-Type: text/rfc822-headers\n\n{returned(own_id, to)}\n--B--\n"
    ).encode()


def coremail(reason, *, own_id=OURS, to=TO):
    """NetEase's and other Coremail houses': no report, a Chinese text, the mail attached."""
    words = f"抱歉，您的邮件被退回来了……\n原邮件信息：\n  主  题 x\n  收件人 {to}\n退信原因：\n  {reason}\n"
    back = base64.encodebytes(returned(own_id, to).encode()).decode()
    return (
        "From: Postmaster@163.com\nTo: huifang@hq.example\nSubject: =?GBK?B?z7XNs83L0MU=?=\nMIME-Version: 1.0\n"
        'Content-Type: multipart/mixed; boundary="B"\n\n--B\nContent-Type: text/plain; charset=gb2312\n'
        f"Content-Transfer-Encoding: base64\n\n{base64.encodebytes(words.encode('gbk')).decode()}\n--B\n"
        f'Content-Type: application/octet-stream; name="original.eml"\nContent-Transfer-Encoding: base64\n\n{back}\n--B--\n'
    ).encode()


def qq(reason="收件人邮箱地址不存在，邮件无法送达。 550 Mailbox not found", *, own_id=OURS, to=TO):
    """QQ's: a page only, and the mail as it came."""
    page = f"<html><body><h1>退信提醒</h1><td>无法发送到 {to}</td><p>{reason}</p></body></html>"
    return (
        "From: =?utf-8?B?" + base64.b64encode("QQ邮箱管理员".encode()).decode() + "?= <PostMaster@qq.com>\n"
        "To: huifang@hq.example\nSubject: =?utf-8?B?" + base64.b64encode("来自qq.com的退信".encode()).decode() + "?=\n"
        'MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="B"\n\n--B\nContent-Type: text/html; charset=utf-8\n'
        f"Content-Transfer-Encoding: base64\n\n{base64.encodebytes(page.encode()).decode()}\n--B\n"
        f"Content-Type: message/rfc822\n\n{returned(own_id, to)}\n正文\n--B--\n"
    ).encode()


def qmail(*, own_id=OURS, to=TO):
    """One text, with what was sent below a line."""
    return (
        "Return-Path: <>\nFrom: MAILER-DAEMON@mail.branch.example\nTo: huifang@hq.example\nSubject: failure notice\n\n"
        "Hi. This is the qmail-send program. I'm afraid I wasn't able to deliver your message.\n"
        f"This is a permanent error; I've given up. Sorry it didn't work out.\n\n<{to}>:\n"
        f"Sorry, no mailbox here by that name. (#5.1.1)\n\n--- Below this line is a copy of the message.\n\n{returned(own_id, to)}"
    ).encode()


def exim(*, own_id=OURS, to=TO, waits=False):
    about = (
        "Warning: message has been delayed, delivery attempts will continue to try."
        if waits
        else "A message could not be delivered."
    )
    failed = "" if waits else f"X-Failed-Recipients: {to}\n"
    return (
        (
            f"Return-path: <>\n{failed}From: Mail Delivery System <Mailer-Daemon@mx.example>\nTo: huifang@hq.example\nSubject: x\n\n"
            f"{about}\n\n  {to}\n    host mx.branch.example: 550 unrouteable\n\n------ This is a copy ------\n\n{returned(own_id, to)}"
        )
        .encode()
        .replace(b"550 unrouteable", b"421 busy" if waits else b"550 unrouteable")
    )


def absence(*, own_id=OURS, sender=TO, subject="自动回复: 回访名单", automatic="", path=""):
    head = f"Return-Path: {path}\n" if path else ""
    head += f"Auto-Submitted: {automatic}\n" if automatic else ""
    encoded = base64.b64encode(subject.encode()).decode()
    return (
        f"{head}From: {sender}\nTo: huifang@hq.example\nSubject: =?utf-8?B?{encoded}?=\nIn-Reply-To: {own_id}\n"
        "Message-ID: <1@branch.example>\n\nI am away. The letter could not be delivered in person: 550 5.1.1.\n"
    ).encode()


def read_receipt(disposition="displayed", *, own_id=OURS, to=TO):
    """RFC 8098: somebody's program says that he has opened it."""
    return (
        f"From: {to}\nTo: huifang@hq.example\nSubject: read\nMIME-Version: 1.0\n"
        'Content-Type: multipart/report; report-type=disposition-notification; boundary="B"\n\n--B\n'
        "Content-Type: text/plain\n\nread\n\n--B\nContent-Type: message/disposition-notification\n\n"
        f"Final-Recipient: rfc822;{to}\nOriginal-Message-ID: {own_id}\n"
        f"Disposition: manual-action/MDN-sent-manually; {disposition}\n\n--B--\n"
    ).encode()


FORMS = {
    "Postfix": (dsn(), Reading("bounced", "5.1.1")),
    "Postfix, the mail whole": (dsn(back="message/rfc822"), Reading("bounced", "5.1.1")),
    "Postfix, given up after days": (dsn(status="4.4.1"), Reading("bounced", "4.4.1")),
    "Postfix, waiting": (dsn(action="delayed", status="4.4.1"), Reading("delayed", "4.4.1")),
    "Postfix, delivered": (dsn(action="delivered", status="2.0.0"), Reading("delivered", "2.0.0")),
    "handed on to where nobody reports": (dsn(action="relayed", status="2.0.0"), Reading("unclear", "2.0.0")),
    "bounced behind a forwarding": (dsn(final="private@elsewhere.example"), Reading("unclear")),
    "failed with a status of success": (dsn(status="2.0.0"), Reading("unclear", "2.0.0")),
    "Exchange": (exchange(), Reading("bounced", "5.1.10")),
    "NetEase, nobody": (coremail("对方邮箱不存在"), Reading("bounced", "5.1.1")),
    "NetEase, a server's words": (
        coremail("英文说明:SMTP error, RCPT TO: 552 5.2.2 mailbox full"),
        Reading("bounced", "5.2.2"),
    ),
    "NetEase, no reason": (coremail("Can not connect to branch.example"), Reading("bounced")),
    "QQ": (qq(), Reading("bounced", "5.1.1")),
    "QQ, content refused": (qq("邮件内容被拒收 554 rejected"), Reading("bounced", "5.0.0")),
    "qmail": (qmail(), Reading("bounced", "5.1.1")),
    "Exim": (exim(), Reading("bounced", "5.0.0")),
    "Exim, waiting": (exim(waits=True), Reading("delayed")),
    "absence, Exchange": (absence(automatic="auto-generated", subject="Automatic reply: x"), Reading("auto_reply")),
    "absence, QQ": (absence(), Reading("auto_reply")),
    "absence, empty return path": (absence(path="<>", automatic="auto-replied"), Reading("auto_reply")),
    "absence of somebody else": (absence(sender="other@branch.example"), Reading("unclear")),
    "read": (read_receipt(), Reading("delivered")),
    "deleted unread": (read_receipt("deleted"), Reading("unclear")),
}


@pytest.fixture(scope="module")
def taken_apart(tmp_path_factory):
    """Each form as the sandbox reports it."""
    return dict(zip(FORMS, opened(tmp_path_factory.mktemp("mails"), *(raw for raw, _ in FORMS.values())), strict=True))


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_notice_names_its_mail_and_says_what_became_of_it(taken_apart, form):
    message = taken_apart[form]
    sender = judge_sender(message, pd.DataFrame({"email": [TO], "branch_no": ["0001"]}), "huifang@hq.example")
    assert sender.verdict == "notice"
    assert list(message.notice.own_ids) == [OURS]
    reading = read_notice(
        message.notice, is_daemon=sender.reason == "bounce", sender=sender.address, to_address=TO.upper()
    )
    assert reading == FORMS[form][1]


def apart(raw):
    return Notice.from_report(take_apart(email.message_from_bytes(raw, policy=email.policy.compat32)))


@pytest.mark.parametrize("raw", [coremail("对方邮箱不存在"), qq(), qmail(), dsn(), exchange(), exim()])
def test_a_notice_about_another_recipient_says_nothing_of_the_mail(raw):
    for other in ("director.0002@branch.example", "tor.0001@branch.example", "director.0001@branch.example.cn"):
        assert read_notice(apart(raw), is_daemon=True, sender="x@y", to_address=other).kind == "unclear"


def test_a_report_that_contradicts_itself_says_nothing():
    both = dsn(more=f"\nFinal-Recipient: rfc822; {TO}\nAction: delivered\nStatus: 2.0.0\n")
    assert len(apart(both).reports) == 2
    assert read_notice(apart(both), is_daemon=True, sender="x@y", to_address=TO) == Reading("unclear")


def test_what_a_notice_costs_is_bounded():
    many = "".join(f"\nFinal-Recipient: rfc822; x{n}@y.example\nAction: failed\nStatus: 5.0.0\n" for n in range(300))
    notice = apart(dsn(more=many))
    assert len(notice.reports) == 50
    deep = EmailMessage()
    deep.set_content(f"{OURS} " * 5000 + "<" * 100_000)
    for _ in range(30):
        outer = EmailMessage()
        outer.set_content("x")
        outer.add_attachment(deep)
        deep = outer
    assert len(apart(deep.as_bytes()).words) <= 20_000


def test_a_charset_that_is_no_name_does_not_stop_the_reading():
    odd = dsn().replace(b"text/plain", b'text/plain; charset="\0"').replace(b"I'm sorry", b"\xff sorry")
    assert read_notice(apart(odd), is_daemon=True, sender="x@y", to_address=TO) == Reading("bounced", "5.1.1")


@pytest.mark.skipif(not IS_THERE, reason="no Postfix and Dovecot here, or not root: make system installs them")
def test_what_a_real_postfix_sends_back_is_read(tmp_path):
    gone = f"transport_maps = inline:{{ {{{TO} = error:5.1.1 nobody of that name}} }}\nsmtpd_reject_unlisted_recipient = no"
    letter = Letter(TO, "回访任务", "<p>名单见附件</p>", "名单见附件\n", (), OURS, datetime.now(UTC))
    server = Postfix(tmp_path, settings=gone)
    try:
        settings = Settings(smtp_password_file=server.password_file, smtp_ca_file=server.ca, smtp_timeout_seconds=20)
        with open_post(settings, server.url) as post:
            sent = post.send(compose(letter, from_address=USER, from_name="客服中心"), USER, TO)
            assert sent.outcome == "sent", "it is refused only afterwards"
        deadline = time.monotonic() + 30
        while not server.mails() and time.monotonic() < deadline:
            time.sleep(0.1)
        [path] = server.mails()
        notice = apart(path.read_bytes())
    finally:
        server.stop()
    assert list(notice.own_ids) == [OURS]
    assert read_notice(notice, is_daemon=True, sender="x@y", to_address=TO) == Reading("bounced", "5.1.1")


def test_nobody_can_compute_the_message_id_of_a_mail_that_he_has_not_got(tmp_path):
    def written(home, sequence=1):
        settings = Settings(home=tmp_path / home)
        words, now = Rendered("x", "<p>x</p>", "x"), datetime(2026, 3, 2, tzinfo=UTC)
        key = ("assignment", "daily_risk-2026-03", "0001", "operations_director", sequence)
        return outbox.write(settings, *key, TO, words, now=now).message_id

    assert written("one") == written("one") != written("other")
    assert written("one") != written("one", 2)
    assert list(apart(dsn(own_id=written("one"))).own_ids) == [written("one")]
    assert (tmp_path / "one" / "keys" / "message-id.key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("kind", "status", "outcome", "facts", "becomes"),
    [
        ("bounced", "5.1.1", "sent", {}, ("bounced", 550)),
        ("bounced", "", "unknown", {}, ("bounced", 550)),
        ("bounced", "4.4.1", "sent", {}, ("bounced", None)),
        ("bounced", "5.1.1", "sent", {"is_answered": True}, None),
        ("bounced", "5.1.1", "sent", {"was_delivered": True}, None),
        ("bounced", "5.1.1", "failed", {}, None),
        ("bounced", "5.1.1", "recalled", {}, None),
        ("delivered", "2.0.0", "unknown", {}, ("sent", None)),
        ("delivered", "2.0.0", "recalled", {}, None),
        ("delivered", "2.0.0", "failed", {}, None),
        ("auto_reply", "", "unknown", {}, None),
        ("delayed", "4.4.1", "sent", {}, None),
        ("unclear", "5.1.1", "sent", {}, None),
    ],
)
def test_a_notice_changes_only_what_it_can_know(kind, status, outcome, facts, becomes):
    given = {"is_answered": False, "was_delivered": False} | facts
    assert settle_by(Reading(kind, status), outcome=outcome, **given) == becomes


@pytest.fixture(scope="module")
def mailed(prefect_client, tmp_path_factory):
    """A month whose lists are out."""
    house = House.build(tmp_path_factory.mktemp("house") / "home", prefect_client, customers=600, branches=4)
    house.pull()
    house.draw("daily_risk")
    house.call("run", "dispatch", *at("2026-03-02"))
    return house


def lists(house):
    """Number, recipient, address and Message-ID of each list."""
    return house.rows("select id, recipient, to_address, message_id from mail where kind = 'assignment' order by id")


def fates(house):
    """What became of each list, by its number."""
    return dict(
        house.rows(
            "select mail_id, outcome from mail_outcome o where id = (select max(id) from mail_outcome p"
            " where p.mail_id = o.mail_id) and mail_id in (select id from mail where kind = 'assignment')"
        )
    )


def receive(house, *notices):
    for number, raw in enumerate(notices):
        (house.home / "maildir" / "new" / f"notice-{number}.eml").write_bytes(raw)


@pytest.mark.slow
def test_a_list_that_bounced_is_not_delivered_and_goes_again_when_a_person_says_so(mailed, tmp_path):
    house = mailed.copy(tmp_path / "home")
    (first, branch, to, own_id), (second, _, to_2, id_2), (third, _, _, id_3), *_ = lists(house)
    receive(
        house, dsn(own_id=own_id, to=to), dsn(own_id=id_2, to=to_2, action="delayed", status="4.4.1"),
        dsn(own_id=id_3, to=to_2), absence(own_id=id_2, sender=to_2),
    )  # fmt: skip
    said = house.call("run", "collect", *at("2026-03-03"), exits=(1,)).output
    assert "1 bounced" in said
    assert fates(house) == {number: "bounced" if number == first else "sent" for number, *_ in lists(house)}
    assert set(house.rows("select mail_id, kind, status from mail_notice")) == {
        (first, "bounced", "5.1.1"), (second, "delayed", "4.4.1"), (second, "auto_reply", ""), (third, "unclear", ""),
    }  # fmt: skip
    campaign = house.status("2026-03-03")["campaigns"][0]
    assert campaign["mails"]["bounced"] == 1
    assert campaign["messages"]["notice"] == 4
    states = {row["branch_no"]: row["state"] for row in campaign["branches"]}
    assert states[branch] == "not_sent"
    house.call("run", "dispatch", *at("2026-03-03"), exits=(1,))
    assert len(lists(house)) == len(fates(house)) == len(lists(mailed)), "a dead address is not written to again"
    shown = house.call("mail", "list", "--outcome", "bounced").output
    assert "bounced 5.1.1" in shown
    nameless = ("mail", "resolve", str(first), "--as", "failed", "--by", " ", "--reason", "")
    assert "a name and a reason" in house.call(*nameless, exits=(2,)).output
    house.call(
        "mail", "resolve", str(first), "--as", "failed", "--by", "Li Na", "--reason", "the mailbox is open again"
    )
    house.call("run", "dispatch", *at("2026-03-04"), exits=(0,))
    again = lists(house)[-1]
    assert again[1] == branch
    assert fates(house)[again[0]] == "sent"
    story = house.call("mail", "show", str(first)).output
    assert [word for word in ("sent by outbox", "bounced by flow:collect", "failed by Li Na") if word in story] == [
        "sent by outbox", "bounced by flow:collect", "failed by Li Na",
    ]  # fmt: skip


@pytest.mark.slow
def test_a_notice_that_overtakes_its_mail_waits_until_the_mail_is_settled(mailed, tmp_path):
    house = mailed.copy(tmp_path / "home")
    (first, _, to, own_id), *_ = lists(house)
    with closing(sqlite3.connect(house.home / "huifang.sqlite")) as store, store:
        store.execute("delete from mail_outcome where mail_id = ?", (first,))
    receive(house, dsn(own_id=own_id, to=to))
    house.call("run", "collect", *at("2026-03-03"), exits=(1,))
    assert house.rows("select verdict, reason from verdict") == [("held", "mail_in_flight")]
    assert (fates(house)[first], house.count("mail_notice")) == ("unknown", 0)
    house.call("run", "collect", *at("2026-03-04"), exits=(1,))
    assert (fates(house)[first], house.count("mail_notice")) == ("bounced", 1)


@pytest.mark.slow
def test_what_came_back_filled_in_has_arrived_whatever_notices_say(mailed, tmp_path):
    house = mailed.copy(tmp_path / "home")
    (first, _, to, own_id), (second, _, to_2, id_2), (third, *_), *_ = lists(house)
    with closing(sqlite3.connect(house.home / "huifang.sqlite")) as store, store:
        for number in (second, third):
            store.execute("update mail_outcome set outcome = 'unknown' where mail_id = ?", (number,))
    receive(house, dsn(own_id=own_id, to=to), dsn(own_id=id_2, to=to_2, action="delivered", status="2.0.0"))
    house.call("run", "collect", *at("2026-03-03"), exits=(1,))
    assert (fates(house)[first], fates(house)[second], fates(house)[third]) == ("bounced", "sent", "unknown")
    house.answer("2026-03-20")
    house.call("run", "collect", *at("2026-03-21"))
    answered = {
        number
        for (number,) in house.rows(
            "select distinct i.mail_id from mail_item i join return_row r on r.assignment_id = i.item_id"
            " where i.kind = 'assignment'"
        )
    }
    assert answered >= {first, third}, "the branches of this seed answer"
    assert set(fates(house).values()) == {"sent"}
    receive(house, dsn(own_id=own_id, to=to, status="5.2.1"))
    house.call("run", "collect", *at("2026-03-22"))
    assert set(fates(house).values()) == {"sent"}, "a forged bounce cannot take back what was answered"


def test_a_store_of_the_version_before_takes_notices_and_recalls(store_settings):
    engine = connect_store(store_settings).engine
    upgrade(engine, to="0005")
    now = datetime(2026, 3, 2, 9, tzinfo=UTC)
    year = {
        "id": "p-2026", "programme": "p", "year": 2026, "version": 1, "from_period": "", "base_on": "2025-12-31", "snapshots": "{}",
        "plan": "{}", "plan_sha256": "x", "frame_path": "f", "frame_sha256": "y", "ledger_sha256": "", "base": 10, "eligible": 9,
        "waived": 0, "contradictions": "{}", "code_version": "0.1", "frozen_at": "2026-01-02 00:00:00",
    }  # fmt: skip
    campaign = {
        "id": "p-2026-03", "programme_year_id": "p-2026", "period": "2026-03", "as_of": "2026-03-02", "calendar_version": "c",
        "state_sha256": "z", "committed_at": "2026-03-02 00:00:00", "state_path": "", "developers_path": "", "rows_until": 0,
    }  # fmt: skip
    mail = {
        "id": 1, "kind": "assignment", "campaign_id": "p-2026-03", "recipient": "0001", "role": "operations_director",
        "sequence": 1, "to_address": TO, "subject": "x", "message_id": OURS, "message_sha256": "z", "path": "p",
        "claimed_at": "2026-03-02 01:00:00", "claimed_by": "dispatch",
    }  # fmt: skip
    with engine.begin() as connection:
        for table, row in (("programme_year", year), ("campaign", campaign), ("mail", mail)):
            names = ", ".join(row)
            connection.execute(text(f"INSERT INTO {table} ({names}) VALUES ({', '.join(':' + n for n in row)})"), row)
    upgrade(engine)
    store = open_store(store_settings)
    with store.begin() as session:
        [ours] = records.mails_named(session, [OURS, "<assignment.0@hq.example>"])
        assert records.outcome_of(session, 1) == "in_flight"
        message = Message(sha256="n", path="n", size_bytes=1, first_seen_at=now)
        session.add(message)
        session.flush()
        session.add(MailNotice(mail_id=1, message_id=message.id, kind="delivered", status="2.0.0", booked_at=now))
        outbox.settle(session, ours, outcome="bounced", by="t", reason="bounced, 5.1.1", now=now, code=550)
    with store.begin() as session:
        assert records.refused_addresses(session) == {TO}
        assert (records.was_delivered(session, 1), records.is_answered(session, 1)) == (True, False)
        session.add(
            MailRecall(
                mail_id=1, recipient="0001", to_address=TO.upper(), data_kinds=["phone"], persons=3, is_locked=True, cause="c",
                measures="", decided_by="Li Na", decided_at=now,
            )
        )  # fmt: skip
    with store.begin() as session:
        assert records.recalled(session) == {("0001", TO): date(2026, 3, 2)}
        [one] = records.recalls_of(session, "p-2026-03")
        assert (one["mail"], one["persons"], one["data_kinds"], one["request"]) == (1, 3, ["phone"], "")
        assert list(records.notices_of(session, 1)["kind"]) == ["delivered"]
    with pytest.raises(IntegrityError), store.begin() as session:
        session.add(MailNotice(mail_id=1, message_id=1, kind="bounced", status="", booked_at=now))
