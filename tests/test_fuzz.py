"""Whatever arrives gets exactly one verdict, in bounded time, and nothing gets out but verdicts."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable
from datetime import date
from email.message import EmailMessage
from pathlib import Path

import pandas as pd
import pytest
from corpus import HQ, OTHER, mails, spoilt_mails, workbooks
from house import House, at
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from letters import BRANCH, KEY, PASSWORD, expected_calls, settings_for

from models.returns import (
    Opened,
    judge_rows,
    judge_sender,
    match_files,
    message_verdict,
)
from models.sheets import CALLBACK, SELF_CHECK
from tasks.mailbox import open_messages

ROSTER = pd.DataFrame(
    [
        {"branch_no": branch, "role": "x", "email": address}
        for branch, address in (("0101", BRANCH), ("0202", OTHER), ("HQ", HQ))
    ]
)
CASES = pd.DataFrame(columns=["case_id", "branch_no", "campaign_id", "customer_name", "phone", "due_on", "opened_on"])
VERDICTS = {"accepted", "partly", "rejected", "quarantined", "notice", "held"}
AS_OF = date(2026, 3, 10)
COUNT = int(os.environ.get("HUIFANG_FUZZ", "1500"))
"""So many spoilt mails in a long run; `HUIFANG_FUZZ=10000` takes some ten minutes where nothing else runs."""


def verdict(message: Opened) -> str:
    """What collect makes of a message, without booking it."""
    sender = judge_sender(message, ROSTER, "huifang@hq.example")
    if sender.branch_no is None:
        return sender.verdict
    rows = [
        judge_rows(CALLBACK, message, expected_calls(), [KEY], branch_no=sender.branch_no, as_of=AS_OF),
        judge_rows(SELF_CHECK, message, CASES, [KEY], branch_no=sender.branch_no, as_of=AS_OF),
    ]
    return message_verdict(rows, files_matched=len(match_files(message, [KEY])))[0]


def verdicts(home: Path, messages: Iterable[bytes], *, longest_seconds: float = 30) -> Counter[str]:
    """How many messages got which verdict, duplicates among them; every one of them got one in time."""
    home.mkdir(exist_ok=True)
    paths, found = [], Counter[str]()
    for raw in messages:
        path = home / f"{hashlib.sha256(raw).hexdigest()}.eml"
        found["duplicate"] += path.exists()
        if not path.exists():
            path.write_bytes(raw)
            paths.append(path)
    passwords = {BRANCH: ["last year's", PASSWORD], OTHER: [PASSWORD], HQ: [PASSWORD]}
    before = time.monotonic()
    for path, message in zip(paths, open_messages(paths, passwords, settings_for(home)), strict=True):
        assert message.sha256 == path.stem
        found[verdict(message)] += 1
        now = time.monotonic()
        assert now - before < longest_seconds, path
        before = now
        path.unlink()
        for file in message.files:
            Path(file.path).unlink(missing_ok=True)
    assert set(found) <= VERDICTS | {"duplicate"}
    return found


def test_the_corpus_is_as_large_as_it_says_and_each_mail_gets_its_verdict(tmp_path: Path) -> None:
    assert len(workbooks()) >= 40
    assert len(mails()) >= 60
    found = verdicts(tmp_path, mails().values())
    assert found.total() == len(mails())
    assert found["accepted"] + found["partly"] > 30
    assert min(found[kind] for kind in ("rejected", "quarantined", "notice")) > 2


def test_spoilt_mails_each_get_one_verdict(tmp_path: Path) -> None:
    assert verdicts(tmp_path, spoilt_mails(150, seed=1)).total() == 150


@pytest.mark.long
def test_thousands_of_spoilt_mails_each_get_one_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    found = verdicts(tmp_path, spoilt_mails(COUNT, seed=2))
    with capsys.disabled():
        shown = ", ".join(f"{count:,} {name}" for name, count in found.most_common())
        sys.stdout.write(f"\n{COUNT:,} spoilt mails in {time.monotonic() - began:,.0f} s: {shown}\n")
    assert found.total() == COUNT
    assert min(found[kind] for kind in VERDICTS - {"held"}) > 0


# ---- messages of any shape

LEAVES = st.builds(
    lambda name, book, disposition: (name, book, disposition),
    st.text(max_size=30), st.sampled_from(sorted(workbooks())), st.sampled_from(["attachment", "inline", ""]),
)  # fmt: skip
SHAPES = st.recursive(
    LEAVES,
    lambda inner: st.tuples(st.sampled_from(["mixed", "report", "rfc822"]), st.lists(inner, max_size=4)),
    max_leaves=8,
)


def built(shape: tuple) -> EmailMessage:
    """A message of that shape; names may be anything that people can write."""
    message = EmailMessage()
    if len(shape) == 3:
        name, book, disposition = shape
        clean = "".join(sign for sign in name if sign.isprintable() and not "\ud800" <= sign <= "\udfff")
        message.set_content(workbooks()[book], "application", "octet-stream", cte="base64")
        if disposition:
            del message["Content-Disposition"]
            message.add_header("Content-Disposition", disposition, filename=clean)
        return message
    kind, inner = shape
    if kind == "rfc822" and inner:
        message.set_content(built(inner[0]))
        return message
    message["MIME-Version"] = "1.0"
    message["Content-Type"] = f"multipart/{'mixed' if kind == 'rfc822' else kind}"
    for part in inner:
        message.attach(built(part))
    return message


@hypothesis_settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(SHAPES, min_size=12, max_size=12), st.sampled_from([BRANCH, OTHER, HQ, "x@evil.example"]))
def test_messages_of_any_shape_each_get_one_verdict(tmp_path: Path, shapes: list[tuple], sender: str) -> None:
    raw = [f"From: {sender}\r\n".encode() + bytes(built(shape)) for shape in shapes]
    assert verdicts(tmp_path, raw).total() == len(raw)


# ---- collected


@pytest.mark.slow
def test_collect_books_each_spoilt_mail_once_and_the_honest_ones_beside_them(
    prefect_client: str, tmp_path: Path
) -> None:
    house = House.build(tmp_path / "home", prefect_client, customers=200, branches=2)
    house.pull()
    house.draw("daily_risk")
    house.call("run", "dispatch", *at("2026-03-02"))
    house.answer("2026-03-20")
    inbox = house.home / "maildir" / "new"
    honest = len(list(inbox.iterdir()))
    director = house.rows("select distinct recipient from mail where kind = 'assignment' and recipient <> 'HQ'")[0][0]
    for number, raw in enumerate(spoilt_mails(40, seed=3)):
        (inbox / f"spoilt{number}").write_bytes(
            raw.replace(BRANCH.encode(), f"director.{director}@branch.example".encode())
        )
    for path in sorted(inbox.glob("spoilt*"))[:2]:
        (inbox / f"{path.name}-again").write_bytes(path.read_bytes())
    house.call("run", "collect", *at("2026-03-21"))
    sightings = house.count("sighting")
    assert sightings == honest + 42
    assert house.rows("select count(*) from message where id not in (select message_id from verdict)") == [(0,)]
    assert house.count("return_row") > 0
    assert [path for path in inbox.iterdir() if path.is_file()] == []
    house.status()
