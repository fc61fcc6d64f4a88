"""Who a message is believed to be from: whole messages as bytes, through the sandbox, before the judge of senders."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from letters import BRANCH, SHEET, letter, opened

from models.returns import REASONS, OwnServer, judge_sender

EVIL = "x@evil.example"
ROSTER = pd.DataFrame(
    [
        {"branch_no": "0101", "role": "operations_director", "email": BRANCH},
        {"branch_no": "0101", "role": "branch_head", "email": "head0101@branch.example"},
        {"branch_no": "0202", "role": "operations_director", "email": "b0202@branch.example"},
        {"branch_no": "0303", "role": "operations_director", "email": "bob@bank.example"},
    ]
)
SERVER = OwnServer(frozenset({"mx.hq.example"}))


def verdicts(home: Path, *heads: str | bytes, server: OwnServer | None = None) -> list[tuple[str, str]]:
    """Verdict and reason of a message with each of the heads; of one that is believed, its branch."""
    raws = [head if isinstance(head, bytes) else head.encode("utf-8", "surrogateescape") for head in heads]
    found = []
    for message in opened(home, *(raw.rstrip(b"\r\n") + b"\r\n\r\nhello\r\n" for raw in raws)):
        sender = judge_sender(message, ROSTER, "huifang@hq.example", server)
        assert sender.verdict != "quarantined" or sender.reason in REASONS
        found.append((sender.verdict, sender.reason or str(sender.branch_no)))
    return found


def told(home: Path, table: dict[str, str], server: OwnServer | None = None) -> dict[str, str]:
    """What the judge says of each head of a table, in the form of the table: a branch or a reason."""
    found = verdicts(home, *table, server=server)
    return dict(zip(table, (reason for _, reason in found), strict=True))


# ---- From

HONEST = [
    f"From: {BRANCH}",
    f"from: <{BRANCH}>",
    f"From:\r\n {BRANCH}",
    "From: B0101@Branch.Example",
    f"From: 福田营业部 <{BRANCH}>",
    f"From: =?utf-8?b?56aP55Sw?= <{BRANCH}>",
    f'From: "=?gb18030?B?uKPM77Gx?=" <{BRANCH}>',  # as QQ and exmail write every name
    f'From: "=?utf-8?Q?=E7=A6=8F?= =?utf-8?Q?=E7=94=B0?=" <{BRANCH}>',
    f'From: "{BRANCH}" <{BRANCH}>',
    f"From: =?utf-8?q?b0101=40branch=2Eexample?= <{BRANCH}>",
    f"From: {BRANCH} (Futian)",
    f'From: "Zhang, San" <{BRANCH}>',
    f'From: "张三@福田" <{BRANCH}>',
    f"From: {BRANCH}\r\nSender: <{BRANCH}>",
    f"From: {BRANCH}\r\nSender: clerk@branch.example",
    f"From: {BRANCH}\r\nResent-From: head0101@branch.example",
    f"From: {BRANCH}\r\nReply-To: {EVIL}",
    f"Mime-Version: 1.0\r\nFrom: {BRANCH}\r\nMIME-Version: 1.0",  # as gateways add one to one
]


def test_an_honest_sender_is_believed_however_his_mail_program_writes_him(tmp_path: Path) -> None:
    assert dict(zip(HONEST, verdicts(tmp_path, *HONEST), strict=True)) == dict.fromkeys(HONEST, ("ok", "0101"))


FORGED = {
    f"From: {BRANCH} <{EVIL}>": "from_defect",
    f"From: {EVIL} <{BRANCH}>": "from_defect",
    f'From: "{BRANCH}" <{EVIL}>': "from_shows_another",
    f'From: "{EVIL}" <{BRANCH}>': "from_shows_another",
    f"From: {BRANCH} ({EVIL})": "from_shows_another",
    f"From: =?utf-8?q?b0101=40branch=2Eexample?= <{EVIL}>": "from_shows_another",
    f"From: =?utf-8?B?YjAxMDFAYnJhbmNoLmV4YW1wbGU=?= <{EVIL}>": "from_shows_another",
    f'From: "=?utf-8?q?b0101=40branch=2Eexample?=" <{EVIL}>': "from_shows_another",
    f"From: =?utf-8?q?Futian_=3Cb0101=40branch=2Eexample=3E?= <{EVIL}>": "from_shows_another",
    f"From: b0101＠branch.example <{EVIL}>": "from_defect",
    f'From: "b0101＠branch．example" <{EVIL}>': "from_shows_another",
    f'From: "a\\"<{BRANCH}>" <{EVIL}>': "from_shows_another",
    "From: =?utf-8?q?b0101=40branch=2Eexample?=": "from_defect",
    "From: =?utf-8?q?b0101?=@branch.example": "from_defect",
    "From: <=?utf-8?q?b0101=40branch.example?=>": "from_defect",
    f"From: Futian: {BRANCH};": "from_group",
    f"From: Futian: {BRANCH}, {EVIL};": "from_group",
    "From: undisclosed-recipients:;": "from_group",
    f"From: {BRANCH}, {EVIL}": "several_from_addresses",
    f"From: {BRANCH}; {EVIL}": "from_defect",
    f"From: {EVIL} {BRANCH}": "from_defect",
    f"From: <{BRANCH}> <{EVIL}>": "from_defect",
    f"From: {BRANCH}\r\n <{EVIL}>": "from_defect",
    f"From: <@evil.example:{BRANCH}>": "from_defect",
    f"From: {BRANCH}\r\nFrom: {EVIL}": "several_from_headers",
    f"From: {BRANCH}\r\nfrom: {BRANCH}": "several_from_headers",
    f"From: {BRANCH}\r\nFrom : {EVIL}": "header_defect",
    f"From: {BRANCH}\r\nFrom : {EVIL}\r\nSubject: x": "header_defect",
    f"From: {BRANCH}\r\nFROM\t: {EVIL}\r\nSubject: x": "header_defect",
    f"From: {BRANCH}\rFrom: {EVIL}": "several_from_headers",
    "Subject: nobody": "no_from",
    "From: ": "no_from",
    f"From: {BRANCH}\0": "from_defect",
    f"From: {EVIL}\0<{BRANCH}>": "from_defect",
    "From: b0101\0@branch.example": "from_defect",
    f"From: \u202e{BRANCH}": "from_defect",
    f"From: {BRANCH}\u200b": "from_shows_another",
    "From: b०101@branch.example": "from_defect",  # a Devanagari zero
    "From: bоb@bank.example": "from_defect",  # a Cyrillic o
    "From: bob@ban\u212a.example": "unknown_sender",  # the sign of Kelvin, whose small letter is k
    'From: "b0101@branch.example"@evil.example': "from_shows_another",
    "From: b0101@branch.example@evil.example": "from_defect",
    "From: b0101@[127.0.0.1]": "unknown_sender",
    f"From: {EVIL}": "unknown_sender",
}


def test_a_forged_sender_is_quarantined_with_the_reason(tmp_path: Path) -> None:
    assert told(tmp_path, FORGED) == FORGED


HEADS = {
    f"From: {BRANCH}\r\nSender: {EVIL}": "other_sender",
    f"From: {BRANCH}\r\nResent-From: {EVIL}": "resent",
    f"From: {BRANCH}\r\nResent-From: b0202@branch.example": "resent",
    f"From: {BRANCH}\r\nResent-Sender: {EVIL}\r\nResent-From: {BRANCH}": "resent",
    f"From: {BRANCH}\r\nSender: {'a' * 5000} <{EVIL}>": "header_defect",
    f"From: {BRANCH}\r\nSubject: a\r\nSubject: b": "header_defect",
    f"From: {BRANCH}\r\nDate: a\r\nDate: b": "header_defect",
    f"From: {BRANCH}\r\nMessage-ID: <a@b>\r\nMessage-ID: <c@d>": "header_defect",
    f"From: {BRANCH}\r\nContent-Type: text/plain\r\nContent-type: multipart/mixed; boundary=x": "header_defect",
    f"From: {BRANCH}\r\nSubject: a\0b": "header_defect",
    f"From: {BRANCH}\r\nX-\x07: a": "header_defect",
    f"From: {BRANCH}\r\nno header at all\r\nSubject: a": "header_defect",
    f" folded: first\r\nFrom: {BRANCH}": "header_defect",
}


def test_a_head_that_can_be_read_in_two_ways_or_was_sent_on_is_quarantined(tmp_path: Path) -> None:
    assert told(tmp_path, HEADS) == HEADS


# ---- Authentication-Results

PASSED = "Authentication-Results: mx.hq.example; dmarc=pass header.from=branch.example"
HOP = "Received: from a by b; Thu, 5 Mar 2026 10:00:00 +0800"


def authenticated(*lines: str, sender: str = BRANCH) -> str:
    return "\r\n".join([*lines, f"From: {sender}"])


GENUINE = [
    authenticated(PASSED, HOP),
    authenticated(HOP, PASSED, HOP),
    authenticated("Return-Path: <b0101@branch.example>", PASSED.replace(";", " 1;")),
    authenticated(PASSED + ";"),
    authenticated(PASSED.upper()),
    authenticated(
        "Authentication-Results:\r\n (one) mx.hq.example (two (three))\r\n\t1;\r\n dmarc (four) = pass (p=none\r\n dis=none)"
        "\r\n header (five) . from = Branch.Example"
    ),
    authenticated(f"{PASSED}; dkim=fail header.d=branch.example; spf=none smtp.mailfrom={EVIL}"),
    authenticated("Authentication-Results: mx.hq.example; dmarc=none; dkim=pass header.d=branch.example header.s=s header.b=a/b+c="),
    authenticated("Authentication-Results: mx.hq.example; dkim=fail header.d=evil.example; dkim=pass header.i=@branch.example"),
    authenticated("Authentication-Results: mx.hq.example; spf=pass smtp.mailfrom=branch.example"),
    authenticated(f"Authentication-Results: mx.hq.example; spf=pass (x) smtp.mailfrom={BRANCH}; dmarc=bestguesspass"),
    authenticated(PASSED, HOP, "Authentication-Results: mx.hq.example; dmarc=fail header.from=branch.example"),
    authenticated(PASSED, "Authentication-Results: elsewhere.example; dmarc=fail header.from=branch.example"),
]  # fmt: skip


def test_a_message_that_our_own_server_found_genuine_is_believed(tmp_path: Path) -> None:
    found = verdicts(tmp_path, *GENUINE, server=SERVER)
    assert dict(zip(GENUINE, found, strict=True)) == dict.fromkeys(GENUINE, ("ok", "0101"))


UNAUTHENTICATED = {
    authenticated(): "auth_missing",
    authenticated(HOP, HOP, PASSED): "auth_missing",  # below the hop at which our server writes
    authenticated(PASSED.replace("mx.hq", "mx.evil")): "auth_missing",
    authenticated(PASSED.replace("mx.hq.example", "mx.hq.example.evil.example")): "auth_missing",
    authenticated(PASSED.replace("mx.hq.example", "(mx.hq.example) evil.example")): "auth_missing",
    authenticated(PASSED.replace(";", " 2;")): "auth_missing",  # a version that nobody knows
    authenticated(PASSED.replace("Authentication", "X-Authentication")): "auth_missing",
    authenticated(PASSED.replace("Authentication", "ARC-Authentication")): "auth_missing",
    authenticated("Authentication-Results: elsewhere.example; none", PASSED): "auth_missing",  # ours is not on top
    authenticated("Authentication-Results: " + "(" * 3000, PASSED): "auth_missing",
    authenticated("Authentication-Results: " + "a" * 5000, PASSED): "auth_missing",
    authenticated("Authentication-Results:", PASSED): "auth_missing",
    authenticated("Authentication-Results: mx.hq.example; none", PASSED): "auth_failed",  # the sender's own below ours
    authenticated("Authentication-Results: mx.hq.example; spf=fail smtp.mailfrom=branch.example", PASSED): "auth_failed",
    authenticated(PASSED.replace("pass", "fail")): "auth_failed",
    authenticated(PASSED.replace("dmarc=pass", "dmarc=fail; dkim=pass header.d=branch.example; x=y")): "auth_failed",
    authenticated(PASSED.replace("from=branch", "from=evil")): "auth_failed",
    authenticated(PASSED.replace(" header.from=branch.example", "")): "auth_failed",
    authenticated(PASSED + " header.from=evil.example"): "auth_failed",
    authenticated(PASSED + "; dmarc=fail header.from=branch.example"): "auth_failed",
    authenticated("Authentication-Results: mx.hq.example; dkim=pass header.d=example"): "auth_failed",
    authenticated("Authentication-Results: mx.hq.example; dkim=pass header.d=evil.example header.i=@branch.example"): "auth_failed",
    authenticated("Authentication-Results: mx.hq.example; spf=pass smtp.helo=branch.example"): "auth_failed",
    authenticated("Authentication-Results: mx.hq.example; dkim=pass (header.d=branch.example) header.d=evil.example"): "auth_failed",
    authenticated(
        'Authentication-Results: mx.hq.example; spf=pass smtp.mailfrom="a; dmarc=pass header.from=branch.example"@evil.example'
    ): "auth_failed",
    authenticated(
        'Authentication-Results: mx.hq.example; spf=fail reason="x; dmarc=pass header.from=branch.example" smtp.mailfrom=evil.example'
    ): "auth_failed",
    authenticated(
        "Authentication-Results: mx.hq.example; spf=fail (x; dmarc=pass\r\n header.from=branch.example) smtp.mailfrom=evil.example"
    ): "auth_failed",
    authenticated(PASSED, sender=EVIL): "unknown_sender",
    authenticated(PASSED, sender=f'"{BRANCH}" <{EVIL}>'): "from_shows_another",
}  # fmt: skip


def test_a_message_that_our_own_server_did_not_vouch_for_is_quarantined_with_the_reason(tmp_path: Path) -> None:
    assert told(tmp_path, UNAUTHENTICATED, SERVER) == UNAUTHENTICATED


def test_without_a_server_of_our_own_nothing_is_asked_for_and_with_more_hops_more_lines_may_stand_above(
    tmp_path: Path,
) -> None:
    deep = authenticated(HOP, HOP, PASSED)
    assert verdicts(tmp_path, deep, authenticated(PASSED.replace("pass", "fail"))) == [("ok", "0101")] * 2
    assert verdicts(tmp_path, deep, server=OwnServer(SERVER.ids, received_above=2)) == [("ok", "0101")]


# ---- mail that no person wrote

AUTOMATIC = {
    "Auto-Submitted: auto-replied": "auto_reply",
    "Auto-Submitted: auto-generated; owner-email=a@b.cn": "auto_reply",
    "X-Auto-Response-Suppress: All": "auto_reply",
    "X-Auto-Response-Suppress: DR, OOF, AutoReply": "auto_reply",
    "X-Autoreply: yes": "auto_reply",
    "Precedence: auto_reply": "bulk",
    "Precedence: Bulk": "bulk",
    "Precedence: list": "bulk",
    "List-Id: <a.b.cn>": "bulk",
    "List-Post: <mailto:a@b.cn>": "bulk",
    "Return-Path: <>": "bounce",
    "Content-Type: multipart/report; boundary=x": "bounce",
    "Subject: 自动回复：回访结果": "auto_reply",
    "Subject: Automatic reply: lists": "auto_reply",
    "Subject: =?utf-8?b?6Ieq5Yqo5Zue5aSN?=": "auto_reply",
    "Auto-Submitted: no": "0101",
    "X-Auto-Response-Suppress: None": "0101",
    "X-Auto-Response-Suppress: DR, RN": "0101",
    "Subject: Re: 自动回复：回访结果": "0101",
    "Precedence: first-class": "0101",
}


def test_what_no_person_wrote_is_a_notice_and_nobodys_return(tmp_path: Path) -> None:
    heads = [f"From: {BRANCH}\r\n{line}" for line in AUTOMATIC]
    found = verdicts(tmp_path, *heads)
    assert dict(zip(AUTOMATIC, (reason for _, reason in found), strict=True)) == AUTOMATIC
    assert {verdict for verdict, reason in found if reason != "0101"} == {"notice"}


@pytest.mark.parametrize("line", ["Auto-Submitted: auto-generated", "X-Auto-Response-Suppress: All", "List-Id: <a.b>"])
def test_what_no_person_wrote_but_carries_a_sheet_waits_for_a_person(tmp_path: Path, line: str) -> None:
    mail = letter(("a.xlsx", SHEET))
    name, _, value = line.partition(": ")
    mail[name] = value
    (message,) = opened(tmp_path, mail)
    sender = judge_sender(message, ROSTER, "huifang@hq.example")
    assert (sender.verdict, sender.reason) == ("quarantined", "automatic_with_workbook")


def test_every_reason_has_words_in_both_languages() -> None:
    for reason in REASONS.values():
        assert reason.zh
        assert reason.en
