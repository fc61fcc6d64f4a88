"""Composing and sending, against real SMTP servers on loopback with real TLS."""

from __future__ import annotations

import email
import email.policy
import socket
import ssl
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP
from cryptography import x509
from mail_server import Authority, Counter, scripted, serving
from typer.testing import CliRunner

from cli import app
from tasks.mail import Attachment, Delivery, Letter, MailError, compose, message_id, open_post
from tasks.postoffice import folder_of, post_office
from tasks.settings import Settings, SettingsError

# aiosmtpd warns about a login without STARTTLS; the connection is TLS from its first byte.
pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")

FROM, TO = "huifang@hq.example", "director.0001@branch.example"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
LETTER = Letter(
    to_address=TO,
    subject="【回访任务】北京西城证券营业部：日常合规风险提示回访 2026年3月，96 户，2026年3月31日（周二）前返回",
    html='<p>名单见附件</p><img src="cid:chart">',
    text="名单见附件\n.一行以点开头\n",
    attachments=(Attachment("回访登记表_0001_2026-03.xlsx", b"PK\x03\x04" + bytes(range(256)) * 40, XLSX),),
    message_id=message_id("assignment", "daily_risk-2026-03", "0001", "operations_director", 1, "hq.example"),
    sent_at=datetime(2026, 3, 1, 17, 30, tzinfo=UTC),
    inline=(("chart", b"\x89PNG\r\n\x1a\n"),),
)
NOT_CONNECTED = Delivery("failed", None, "not connected")


def composed(**changes: Any) -> bytes:
    return compose(replace(LETTER, **changes), from_address=FROM, from_name="客服中心回访组")


MESSAGE = composed()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"), "house")


@pytest.fixture(scope="module")
def certificate(authority: Authority) -> ssl.SSLContext:
    return authority.server(x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1")))


@pytest.fixture
def settings(tmp_path: Path, authority: Authority) -> Settings:
    secret = tmp_path / "password"
    secret.write_text("s3cret word\n")
    return Settings(smtp_password_file=secret, smtp_ca_file=authority.path, smtp_timeout_seconds=5)


def sent_once(settings: Settings, url: str, message: bytes = MESSAGE) -> Delivery:
    with open_post(settings, url) as post:
        return post.send(message, FROM, TO)


# ---- composing ---------------------------------------------------------------------------------------------


def test_a_message_has_exactly_one_of_each_header_and_no_parser_finds_a_defect() -> None:
    message = email.message_from_bytes(MESSAGE, policy=email.policy.default)
    for header in ("From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "X-Auto-Response-Suppress"):
        assert len(message.get_all(header)) == 1
        assert message[header].defects == ()
    assert message["From"].addresses[0].display_name == "客服中心回访组"
    assert [address.addr_spec for address in message["To"].addresses] == [TO]
    assert message["Subject"] == LETTER.subject
    assert message["Message-ID"] == LETTER.message_id
    assert message["Date"].endswith("Mon, 02 Mar 2026 01:30:00 +0800")
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["X-Auto-Response-Suppress"] == "All"
    assert all(part.defects == [] for part in message.walk())
    assert message.get("Cc") is None
    assert message.get("Bcc") is None


def test_text_html_picture_and_attachment_arrive_as_they_were_given() -> None:
    message = email.message_from_bytes(MESSAGE, policy=email.policy.default)
    assert [part.get_content_type() for part in message.walk()] == [
        "multipart/mixed", "multipart/alternative", "text/plain", "multipart/related", "text/html", "image/png", XLSX,
    ]  # fmt: skip
    parts = {part.get_content_type(): part for part in message.walk()}
    assert parts["text/plain"].get_content().replace("\r\n", "\n") == LETTER.text
    assert parts["text/html"].get_content().strip() == LETTER.html
    assert parts["image/png"]["Content-ID"] == "<chart>"
    assert parts["image/png"].get_content() == LETTER.inline[0][1]
    assert parts[XLSX].get_content() == LETTER.attachments[0].content
    assert parts[XLSX].get_filename() == "回访登记表_0001_2026-03.xlsx"
    assert parts[XLSX]["Content-Type"].params["name"] == "0001_2026-03.xlsx"
    assert parts[XLSX].get_content_disposition() == "attachment"


def test_a_message_goes_over_any_server() -> None:
    assert MESSAGE.isascii()
    assert max(map(len, MESSAGE.split(b"\r\n"))) <= 998
    assert b"\n" not in MESSAGE.replace(b"\r\n", b"")


def test_the_same_letter_gives_the_same_bytes_and_the_same_key_the_same_id() -> None:
    assert composed() == MESSAGE
    key = ("assignment", "daily_risk-2026-03", "0001", "operations_director", 1, "hq.example")
    assert message_id(*key) == LETTER.message_id == "<assignment.e4ed931b22a51fcccc374eef26ac6a7b@hq.example>"
    others = {
        message_id("reminder", *key[1:]),
        message_id(*key[:4], 2, "hq.example"),
        message_id(*key[:5], "b.example"),
    }
    assert len(others | {LETTER.message_id}) == 4


@pytest.mark.parametrize(
    "address",
    [
        "",
        " ",
        "a@b.example,c@d.example",
        "a@b.example;c@d.example",
        "a@b.example c@d.example",
        "a@b.example\n",
        "a@b.example\r\nBcc: c@d.example",
        "张三 <a@b.example>",
        "<a@b.example>",
        "张三@b.example",
        "b17@branch.example <evil@x.cn>",
        "a@b..example",
        "a@-b.example",
        "@b.example",
        "a",
    ],
)
def test_anything_but_one_plain_address_is_refused_on_either_side(address: str) -> None:
    with pytest.raises(MailError, match="to address"):
        composed(to_address=address)
    with pytest.raises(MailError, match="from address"):
        compose(LETTER, from_address=address, from_name="回访组")


@pytest.mark.parametrize("breaker", ["\r\nBcc: evil@x.example", "\n", "\r", "\x00", "\u2028", "\x85", "\u202e"])
def test_nothing_can_write_a_header_of_its_own(breaker: str) -> None:
    for changes in (
        {"subject": f"任务{breaker}"},
        {"message_id": f"<a{breaker}@hq.example>"},
        {"to_address": f"{TO}{breaker}"},
        {"attachments": (Attachment(f"名单{breaker}.xlsx", b"x", XLSX),)},
        {"attachments": (Attachment("list.xlsx", b"x", f"{XLSX}{breaker}"),)},
        {"inline": ((f"chart{breaker}", b"x"),)},
    ):
        with pytest.raises(MailError):
            composed(**changes)
    with pytest.raises(MailError, match="from name"):
        compose(LETTER, from_address=FROM, from_name=f"回访组{breaker}")


def test_an_empty_or_nameless_attachment_and_a_time_without_zone_are_refused() -> None:
    for attachment in (
        Attachment("a.xlsx", b"", XLSX),
        Attachment("", b"x", XLSX),
        Attachment("../a.xlsx", b"x", XLSX),
    ):
        with pytest.raises(MailError, match="attachment"):
            composed(attachments=(attachment,))
    with pytest.raises(MailError, match="no media type"):
        composed(attachments=(Attachment("a.xlsx", b"x", "None/None"),))
    with pytest.raises(MailError, match="zone"):
        composed(sent_at=datetime(2026, 3, 1))  # noqa: DTZ001
    with pytest.raises(MailError, match="subject"):
        composed(subject=" ")


# ---- TLS and login -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["smtp+starttls", "smtps"])
def test_a_message_goes_encrypted_and_logged_in_over_one_connection(
    scheme: str, settings: Settings, certificate: ssl.SSLContext
) -> None:
    counter = Counter()
    way = {"starttls": certificate} if scheme == "smtp+starttls" else {"tls": certificate}
    with (
        serving(counter, **way) as port,
        open_post(settings, f"{scheme}://huifang%40hq.example@localhost:{port}") as post,
    ):
        assert [post.send(MESSAGE, FROM, TO) for _ in range(3)] == [Delivery("sent", 250, "accepted")] * 3
    assert counter.kept == [MESSAGE] * 3
    assert counter.logins == 1
    if scheme == "smtp+starttls":
        assert counter.tls == [True] * 3


@pytest.mark.parametrize("scheme", ["smtp+starttls", "smtps"])
def test_an_unknown_authority_and_a_certificate_for_another_host_are_refused(
    scheme: str, settings: Settings, authority: Authority, certificate: ssl.SSLContext, tmp_path: Path
) -> None:
    elsewhere = authority.server(x509.DNSName("mx.evil.example"))
    stranger = Authority(tmp_path, "stranger").server(x509.DNSName("localhost"))
    for wrong in (elsewhere, stranger):
        counter = Counter()
        way = {"starttls": wrong} if scheme == "smtp+starttls" else {"tls": wrong}
        with serving(counter, **way) as port:
            delivery = sent_once(settings, f"{scheme}://huifang@hq.example@localhost:{port}")
        assert delivery == Delivery("failed", None, "not connected: certificate not verified")
        assert (counter.kept, counter.logins) == ([], 0), "no password before the certificate is verified"
    without_ca = settings.model_copy(update={"smtp_ca_file": None})
    with serving(Counter(), starttls=certificate) as port:
        delivery = sent_once(without_ca, f"smtp+starttls://huifang@hq.example@localhost:{port}")
    assert delivery.detail == "not connected: certificate not verified"


@pytest.mark.parametrize("scheme", ["smtp+starttls", "smtps"])
def test_an_expired_certificate_is_refused(scheme: str, settings: Settings, authority: Authority) -> None:
    counter, expired = Counter(), authority.server(x509.DNSName("localhost"), is_expired=True)
    way = {"starttls": expired} if scheme == "smtp+starttls" else {"tls": expired}
    with serving(counter, **way) as port:
        delivery = sent_once(settings, f"{scheme}://huifang@hq.example@localhost:{port}")
    assert delivery == Delivery("failed", None, "not connected: certificate not verified")
    assert not delivery.is_temporary
    assert (counter.kept, counter.logins) == ([], 0)


@pytest.mark.parametrize("user", ["huifang@hq.example@", ""])
def test_a_server_without_starttls_gets_neither_password_nor_message(user: str, settings: Settings) -> None:
    counter = Counter()
    with serving(counter) as port:
        delivery = sent_once(settings, f"smtp+starttls://{user}localhost:{port}")
    assert delivery == Delivery("failed", None, "not connected: STARTTLS or AUTH not offered")
    assert (counter.kept, counter.logins) == ([], 0)


def test_a_server_that_offers_starttls_and_refuses_it_gets_neither_password_nor_message(settings: Settings) -> None:
    heard = []

    def talk(connection: socket.socket, number: int) -> None:
        lines = connection.makefile("rwb")
        lines.write(b"220 here\r\n")
        lines.flush()
        for line in lines:
            command = line.split()[0].upper()
            heard.append(command)
            answers = {b"EHLO": b"250-here\r\n250-AUTH PLAIN LOGIN\r\n250 STARTTLS\r\n", b"STARTTLS": b"454 4.7.0 not now\r\n"}
            lines.write(answers.get(command, b"250 OK\r\n"))
            lines.flush()

    with scripted(talk) as port:
        delivery = sent_once(settings, f"smtp+starttls://huifang@hq.example@localhost:{port}")
    assert (delivery.outcome, delivery.code) == ("failed", None)
    assert set(heard) <= {b"EHLO", b"STARTTLS", b"QUIT"}, "not a word in clear"


def test_a_server_that_speaks_plain_text_on_the_tls_port_gets_nothing(settings: Settings) -> None:
    counter = Counter()
    with serving(counter) as port:
        delivery = sent_once(settings, f"smtps://huifang@hq.example@localhost:{port}")
    assert delivery == Delivery("failed", None, "not connected: no TLS")
    assert (counter.kept, counter.logins, counter.greetings) == ([], 0, 0)


def test_a_refused_login_is_not_tried_again_and_sends_nothing(
    settings: Settings, certificate: ssl.SSLContext, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("guess")
    counter = Counter()
    with (
        serving(counter, starttls=certificate) as port,
        open_post(
            settings.model_copy(update={"smtp_password_file": wrong}),
            f"smtp+starttls://huifang@hq.example@localhost:{port}",
        ) as post,
    ):
        first, tries = post.send(MESSAGE, FROM, TO), counter.logins
        second = post.send(MESSAGE, FROM, TO)
    assert first == second == Delivery("failed", None, "not connected: login refused, 535")
    assert counter.logins == tries >= 1
    assert counter.kept == []


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("smtp://mail.hq.example:25", "plain text to mail.hq.example is refused"),
        ("smtp://10.0.0.1:25", "plain text to 10.0.0.1 is refused"),
        ("smtp://127.0.0.1.evil.example:25", "is refused"),
        ("smtps://user:hunter2@mail.hq.example", "no password in the URL"),
        ("http://127.0.0.1:25", "expected"),
        ("smtp://127.0.0.1:no", "port"),
        ("smtps://mail..example", "host"),
        ("127.0.0.1:25", "expected"),
        ("", "expected"),
    ],
)
def test_a_mail_server_that_must_not_be_used_is_refused_by_name(url: str, why: str, settings: Settings) -> None:
    with pytest.raises(MailError, match=why) as refusal, open_post(settings, url):
        raise AssertionError("opened")
    assert "hunter2" not in str(refusal.value)


def test_a_missing_secret_or_authority_is_said_before_anything_is_sent(settings: Settings, tmp_path: Path) -> None:
    for changes, error in (
        ({"smtp_password_file": None}, MailError),
        ({"smtp_password_file": tmp_path / "none"}, SettingsError),
        ({"smtp_ca_file": tmp_path / "none"}, MailError),
    ):
        with (
            pytest.raises(error, match="HUIFANG_SMTP_"),
            open_post(settings.model_copy(update=changes), "smtps://user@localhost:465"),
        ):
            raise AssertionError("opened")


@pytest.mark.parametrize(
    ("name", "meant"),
    [("HUIFANG_SMPT_URL", "HUIFANG_SMTP_URL"), ("huifang_mail_per_day", "HUIFANG_MAILS_PER_DAY")],
)
def test_a_misspelt_setting_is_refused_before_a_mail_goes_to_the_wrong_server(
    name: str, meant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "smtps://hunter2@mail.example:465")
    result = CliRunner().invoke(app, ["run", "dispatch"])
    assert result.exit_code == 2
    assert f"{name} is no setting: did you mean {meant}?" in result.output
    assert "hunter2" not in result.output


# ---- what becomes of a message -----------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize(("code", "reply"), [(451, "451 4.7.1 try later x@secret.example"), (550, "550 no 张三 here")])
def test_a_refusal_keeps_its_code_and_nothing_of_the_servers_words(
    command: str, code: int, reply: str, settings: Settings
) -> None:
    counter = Counter({command: reply.encode("ascii", "replace").decode()})
    with serving(counter) as port, open_post(settings, f"smtp://127.0.0.1:{port}") as post:
        delivery = post.send(MESSAGE, FROM, TO)
        counter.replies.clear()
        after = post.send(MESSAGE, FROM, TO)
    step = "the end of DATA" if command == "DATA" else command
    assert delivery == Delivery("failed", code, f"refused at {step}" + (", 4.7.1" if code == 451 else ""))
    assert after.outcome == "sent", "one refusal leaves the connection usable"
    assert counter.kept == [MESSAGE]
    assert counter.greetings == 1


@pytest.mark.parametrize(
    ("command", "reply", "is_temporary", "is_of_server", "detail"),
    [
        ("MAIL", "451 4.3.0 busy", True, True, "refused at MAIL, 4.3.0"),
        ("RCPT", "452 4.2.2 mailbox full", True, False, "refused at RCPT, 4.2.2"),
        ("RCPT", "421 4.7.0 closing", True, True, "refused at RCPT, 4.7.0"),
        ("RCPT", "550 5.1.1 unknown", False, False, "refused at RCPT, 5.1.1"),
        ("MAIL", "553 5.7.1 not your address", False, True, "refused at MAIL, 5.7.1"),
        ("RCPT", "550 Connection frequency limited", True, True, "put off at RCPT: too much mail"),
        ("DATA", "550 Ip frequency limited", True, True, "put off at the end of DATA: too much mail"),
        ("DATA", "554 5.5.0 MI:STC", True, True, "put off at the end of DATA: too much mail, 5.5.0"),
        ("DATA", "552 5.3.4 message size exceeds limit", False, False, "refused at the end of DATA, 5.3.4"),
        ("DATA", "554 5.4.6 too many hops", False, False, "refused at the end of DATA, 5.4.6"),
    ],
)
def test_a_refusal_says_whether_it_is_for_now_and_whether_it_meets_the_next_mail_too(
    command: str, reply: str, is_temporary: bool, is_of_server: bool, detail: str, settings: Settings
) -> None:
    with serving(Counter({command: reply})) as port:
        delivery = sent_once(settings, f"smtp://127.0.0.1:{port}")
    assert delivery == Delivery("failed", int(reply[:3]), detail)
    assert (delivery.is_temporary, delivery.is_of_server) == (is_temporary, is_of_server)


def test_a_refusal_in_chinese_of_either_encoding_is_understood(settings: Settings) -> None:
    for encoding in ("utf-8", "gb18030"):

        def talk(connection: socket.socket, number: int, encoding: str = encoding) -> None:
            lines = connection.makefile("rwb")
            lines.write(b"220 here\r\n")
            lines.flush()
            for line in lines:
                no = "550 发送频率过快，请稍后再试\r\n".encode(encoding)
                lines.write(no if line.upper().startswith(b"RCPT") else b"250 OK\r\n")
                lines.flush()

        with scripted(talk) as port:
            delivery = sent_once(settings, f"smtp://127.0.0.1:{port}")
        assert delivery == Delivery("failed", 550, "put off at RCPT: too much mail")
        assert delivery.is_temporary


def test_a_slow_server_that_keeps_answering_is_waited_for(settings: Settings) -> None:
    counter = Counter(slow_seconds=0.3)
    with serving(counter) as port:
        delivery = sent_once(settings.model_copy(update={"smtp_timeout_seconds": 0.8}), f"smtp://127.0.0.1:{port}")
    assert delivery.outcome == "sent", "each answer came within the time that one may take"
    assert counter.kept == [MESSAGE]


def test_a_message_that_the_server_announces_as_too_large_is_refused_before_it_is_sent(settings: Settings) -> None:
    counter = Counter()
    with serving(counter, size_limit_bytes=1000) as port:
        delivery = sent_once(settings, f"smtp://127.0.0.1:{port}")
    assert (delivery.outcome, delivery.code, delivery.is_temporary) == ("failed", 552, False)
    assert counter.kept == []


def test_a_refusal_of_one_recipient_leaves_the_others_mail_alone(settings: Settings) -> None:
    class Choosy(Counter):
        async def handle_RCPT(self, server: SMTP, session: Any, envelope: Any, address: str, options: list[str]) -> str:
            if "gone" in address:
                return "550 5.1.1 unknown"
            return await super().handle_RCPT(server, session, envelope, address, options)

    counter = Choosy()
    with serving(counter) as port, open_post(settings, f"smtp://127.0.0.1:{port}") as post:
        fates = [post.send(MESSAGE, FROM, to) for to in (TO, "gone@branch.example", TO)]
    assert [fate.outcome for fate in fates] == ["sent", "failed", "sent"]
    assert fates[1] == Delivery("failed", 550, "refused at RCPT, 5.1.1")
    assert len(counter.kept) == 2


@pytest.mark.parametrize("command", ["MAIL", "RCPT"])
def test_a_drop_before_data_is_certainly_not_delivered(command: str, settings: Settings) -> None:
    counter = Counter(hang_up_at=command)
    with serving(counter) as port:
        assert sent_once(settings, f"smtp://127.0.0.1:{port}") == NOT_CONNECTED
    assert counter.kept == []


def test_a_drop_after_data_is_unknown_and_the_message_is_there_once(settings: Settings) -> None:
    counter = Counter(hang_up_at="DATA")
    with serving(counter) as port, open_post(settings, f"smtp://127.0.0.1:{port}") as post:
        assert post.send(MESSAGE, FROM, TO) == Delivery("unknown", None, "connection lost after DATA")
        assert counter.kept == [MESSAGE]
        counter.hang_up_at = ""
        assert post.send(composed(text="next"), FROM, TO).outcome == "sent", "the next message gets a new connection"
    assert len(counter.kept) == 2


def test_a_server_silent_after_data_is_unknown_within_the_timeout(settings: Settings) -> None:
    counter = Counter(silent_at="DATA")
    with serving(counter) as port:
        started = time.monotonic()
        delivery = sent_once(settings.model_copy(update={"smtp_timeout_seconds": 0.5}), f"smtp://127.0.0.1:{port}")
    assert delivery == Delivery("unknown", None, "connection lost after DATA")
    assert time.monotonic() - started < 5
    assert counter.kept == [MESSAGE]


@pytest.mark.parametrize("command", ["", "RCPT"])
def test_a_server_silent_before_data_is_not_connected_within_the_timeout(command: str, settings: Settings) -> None:
    patient = settings.model_copy(update={"smtp_timeout_seconds": 0.5})
    started = time.monotonic()
    if command:
        with serving(Counter(silent_at=command)) as port:
            assert sent_once(patient, f"smtp://127.0.0.1:{port}") == NOT_CONNECTED
    else:
        with scripted(lambda connection, number: time.sleep(1)) as port:
            assert sent_once(patient, f"smtp://127.0.0.1:{port}") == NOT_CONNECTED
    assert time.monotonic() - started < 5


def test_a_refusal_of_the_data_command_itself_is_a_failure_and_a_drop_at_it_is_unknown(settings: Settings) -> None:
    def talk(connection: socket.socket, number: int) -> None:
        lines = connection.makefile("rwb")
        lines.write(b"220 here\r\n")
        lines.flush()
        for line in lines:
            command = line[:4].upper()
            if command == b"DATA" and number == 1:
                return
            lines.write({b"DATA": b"554 5.5.1 no valid recipients\r\n"}.get(command, b"250 OK\r\n"))
            lines.flush()
            if command == b"QUIT":
                return

    with scripted(talk) as port:
        url = f"smtp://127.0.0.1:{port}"
        assert sent_once(settings, url) == Delivery("failed", 554, "refused at DATA, 5.5.1")
        assert sent_once(settings, url) == Delivery("unknown", None, "connection lost after DATA")


@pytest.mark.parametrize("farewell", [b"", b"421 4.4.2 idle too long\r\n"])
def test_a_connection_that_the_server_closed_between_two_messages_is_replaced(
    farewell: bytes, settings: Settings
) -> None:
    bodies = []

    def talk(connection: socket.socket, number: int) -> None:
        lines = connection.makefile("rwb")
        lines.write(b"220 here\r\n")
        lines.flush()
        while line := lines.readline():
            if line.upper().startswith(b"DATA"):
                lines.write(b"354 go on\r\n")
                lines.flush()
                body = b""
                while (part := lines.readline()) != b".\r\n":
                    body += part
                bodies.append(body)
                lines.write(b"250 kept\r\n" + (farewell if number == 0 else b""))
                lines.flush()
                if number == 0:
                    return
                continue
            lines.write(b"250 OK\r\n")
            lines.flush()
            if line.upper().startswith(b"QUIT"):
                return

    with scripted(talk) as port, open_post(settings, f"smtp://127.0.0.1:{port}") as post:
        assert post.send(MESSAGE, FROM, TO).outcome == "sent"
        assert post.send(MESSAGE, FROM, TO).outcome == "sent"
    assert len(bodies) == 2


def test_no_server_at_all_is_not_connected_and_a_later_message_tries_again(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with open_post(settings, f"smtp://127.0.0.1:{port}") as post:
        assert post.send(MESSAGE, FROM, TO) == NOT_CONNECTED
        assert post.send(MESSAGE, FROM, TO) == NOT_CONNECTED


def test_threads_that_share_a_post_take_turns(settings: Settings) -> None:
    counter, fates = Counter(), []
    with serving(counter) as port, open_post(settings, f"smtp://127.0.0.1:{port}") as post:
        threads = [
            threading.Thread(target=lambda: fates.extend(post.send(MESSAGE, FROM, TO) for _ in range(5)))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert [fate.outcome for fate in fates] == ["sent"] * 20
    assert counter.kept == [MESSAGE] * 20
    assert counter.greetings == 1


# ---- the embedded post office ------------------------------------------------------------------------------


def test_the_embedded_post_office_keeps_our_mail_in_the_inbox_and_others_in_their_folders(
    settings: Settings, tmp_path: Path
) -> None:
    maildir = tmp_path / "maildir"
    answer = compose(replace(LETTER, to_address=FROM), from_address=TO, from_name="营业部")
    with post_office(maildir, FROM) as url:
        assert url.startswith("smtp://127.0.0.1:")
        with open_post(settings, url) as post:
            assert post.send(MESSAGE, FROM, TO).outcome == "sent"
            assert post.send(answer, TO, FROM.upper()).outcome == "sent"
    assert [path.read_bytes() for path in (maildir / "new").iterdir()] == [answer]
    folder = folder_of(maildir, TO)
    assert folder == maildir / ".director_0001@branch_example"
    assert [path.read_bytes() for path in (folder / "new").iterdir()] == [MESSAGE]
    assert (folder / "maildirfolder").exists()
    assert list(maildir.rglob("tmp/*")) == []
    assert sent_once(settings, url) == NOT_CONNECTED, "it stops with its caller"


def test_the_embedded_post_office_opened_again_keeps_what_was_there(settings: Settings, tmp_path: Path) -> None:
    for _ in range(2):
        with post_office(tmp_path, FROM) as url, open_post(settings, url) as post:
            assert [post.send(MESSAGE, TO, FROM).outcome for _ in range(3)] == ["sent"] * 3
    assert len(list((tmp_path / "new").iterdir())) == 6


def test_no_address_leads_out_of_the_maildir(tmp_path: Path) -> None:
    for address in ("../../etc/passwd@x.example", "a/b@x.example", "..@x", ".@.", "\x00@x"):
        folder = folder_of(tmp_path, address)
        assert folder.parent == tmp_path
        assert set(folder.name[1:]) <= set("abcdefghijklmnopqrstuvwxyz0123456789_@+-")
        assert folder.name[0] == "."
        assert folder.name[1] != "."


def test_a_post_office_that_cannot_write_refuses_the_message_for_now(settings: Settings, tmp_path: Path) -> None:
    with post_office(tmp_path, FROM) as url:
        folder_of(tmp_path, TO).write_text("a file where the folder should be")
        assert sent_once(settings, url) == Delivery("failed", 452, "refused at the end of DATA, 4.3.1")
