"""The synthetic branches, on real mail: lists go through the embedded post office, returns are judged as by collect."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from email import policy
from email.parser import BytesParser
from email.utils import parseaddr
from pathlib import Path

import pandas as pd
import pytest

from demo.branches import HQ_ADDRESS, MAILBOXES, BranchError, answer, temper_of
from demo.brokerage import HQ_LOCAL_PARTS, LOCAL_PARTS
from models.returns import Opened, Related, judge_rows, judge_sender, match_files
from models.row_code import RowKey, row_code
from models.sheets import CALLBACK, SELF_CHECK, write_sheet
from tasks.lock import lock_workbook
from tasks.mail import Attachment, Letter, compose, open_post, render
from tasks.postoffice import post_office
from tasks.sandbox import open_message
from tasks.settings import Settings
from tasks.vault import branch_password, branch_passwords

HQ = "huifang@hq.example"
KEY = RowKey(1, b"a secret of headquarters")
ISSUED = datetime(2026, 3, 2, 1, 30, tzinfo=UTC)
DUE = date(2026, 3, 18)
AS_OF, NOW = date(2026, 3, 12), datetime(2026, 3, 12, 9, 0, tzinfo=UTC)
SEED = 3
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


def branch_with(temper: str) -> str:
    return next(f"{n:04d}" for n in range(2, 40) if temper_of(f"{n:04d}", SEED) == temper)


@dataclass
class Headquarters:
    """What headquarters keeps: its lists and what it needs to judge returns."""

    settings: Settings
    url: str
    expected: list[dict]
    sent: int = 0

    def mail(self, branch_no: str, subject: str, text: str, sheet: bytes | None = None, role: str = "director") -> None:
        self.sent += 1
        attachments = (Attachment("list.xlsx", sheet, XLSX),) if sheet else ()
        letter = Letter(
            HQ_ADDRESS if branch_no == "HQ" else f"{role}.{branch_no}@branch.example",
            subject,
            f"<p>{text}</p>",
            text,
            attachments,
            f"<m{self.sent}@hq.example>",
            ISSUED,
        )
        with open_post(self.settings, self.url) as post:
            delivery = post.send(compose(letter, from_address=HQ, from_name="客服中心"), HQ, letter.to_address)
        assert delivery.outcome == "sent"

    def list_of(
        self, branch_no: str, rows: int, *, language: str = "zh_CN", developer: str = "张伟", planned_caller: str = ""
    ) -> bytes:
        start = len(self.expected) + 1
        frame = pd.DataFrame(
            {
                "row_code": [row_code("assignment", start + n, KEY) for n in range(rows)],
                "customer_name": "李**",
                "phone": [f"138{start + n:08d}" for n in range(rows)],
                "form": "conduct",
                "developer": [developer if n % 2 else "" for n in range(rows)],
                "due_on": [DUE] * rows,
                "call_on": [date(2026, 3, 9)] * rows,
                "planned_caller": planned_caller,
            }
        )
        for n, row in enumerate(frame.to_dict("records")):
            self.expected.append(
                {
                    "assignment_id": start + n, "branch_no": branch_no, "campaign_id": "c", "customer_name": "李**",
                    "phone": row["phone"], "due_on": DUE, "assigned_on": ISSUED.date(), "attempts_required": 3,
                    "related": (Related("0101", row["developer"]),) if row["developer"] else (),
                }
            )  # fmt: skip
        sheet = write_sheet(
            "callback", frame, campaign="daily_risk-2026-03", title="日常合规风险提示回访", branch_no=branch_no,
            branch_name=f"营业部{branch_no}", language=language, issued_on=ISSUED.date(),
        )  # fmt: skip
        return lock_workbook(sheet, branch_password(self.settings, branch_no))

    def returns(self) -> list[tuple[str, Opened]]:
        """Sender and content of each mail in our mailbox, as the sandbox takes it apart, by arrival."""
        found = []
        passwords = branch_passwords(self.settings)
        inbox = sorted((self.settings.maildir / "new").iterdir(), key=lambda path: (path.stat().st_mtime_ns, path.name))
        for path in inbox:
            sender = parseaddr(str(BytesParser(policy=policy.default).parsebytes(path.read_bytes())["From"]))[1]
            branch_no = "HQ" if sender == HQ_ADDRESS else re.search(r"\d{4}", sender)[0]
            report = open_message(path, self.settings.home / "out" / path.name, {sender: passwords[branch_no]})
            found.append((sender, Opened.from_report(json.loads(json.dumps(report)))))
        return found

    def judge(self, branch_no: str, opened: Opened, as_of: date = AS_OF):
        return judge_rows(CALLBACK, opened, pd.DataFrame(self.expected), [KEY], branch_no=branch_no, as_of=as_of)

    def answer(self, as_of: date = AS_OF, now: datetime = NOW, progress=None) -> dict[str, int]:
        return answer(self.settings.home, self.url, seed=SEED, as_of=as_of, now=now, progress=progress)


@contextmanager
def headquarters(home: Path) -> Iterator[Headquarters]:
    settings = Settings(home=home)
    with post_office(settings.maildir, HQ) as url:
        yield Headquarters(settings, url, [])


@pytest.fixture
def hq(tmp_path: Path) -> Iterator[Headquarters]:
    with headquarters(tmp_path) as opened:
        yield opened


def test_a_prompt_branch_answers_every_row_so_that_collect_accepts_it(hq):
    branch = branch_with("prompt")
    hq.mail(branch, "名单", "请回访", hq.list_of(branch, 60))
    counts = hq.answer()
    [(sender, opened)] = hq.returns()
    assert sender == f"director.{branch}@branch.example"
    roster = pd.DataFrame([{"branch_no": branch, "role": "operations_director", "email": sender}])
    assert judge_sender(opened, roster, HQ).branch_no == branch
    judged = hq.judge(branch, opened)
    assert judged.problems.empty, judged.problems
    assert len(judged.accepted) == counts["rows"] == 60
    assert opened.workbooks[0].was_encrypted
    days = judged.accepted["called_on"]
    assert days.between(date(2026, 3, 3), date(2026, 3, 11)).all()
    assert all(day.weekday() < 5 for day in days)
    assert judged.accepted["called_at"].between("09:00", "17:30").all()
    assert judged.accepted["outcome"].nunique() > 3
    assert 0.4 < judged.accepted["completes"].mean() < 0.9


def test_recordings_are_named_with_the_row_they_belong_to(hq):
    branch = next(f"{n:03d}1" for n in range(99) if temper_of(f"{n:03d}1", SEED) == "prompt")
    hq.mail(branch, "名单", "请回访", hq.list_of(branch, 20))
    hq.answer()
    [(_, opened)] = hq.returns()
    judged = hq.judge(branch, opened).accepted.set_index("assignment_id")
    assert judged.loc[1, "outcome"] == "done_suspect"  # the first row of every tenth branch
    evidence = match_files(opened, [KEY])
    assert ("assignment", 1) in evidence.values()
    assert len(evidence) == sum(not file.is_workbook for file in opened.files)
    assert all(file.size_bytes > 60 for file in opened.files)


def test_a_branch_answers_what_is_in_its_own_folders_and_nothing_twice(hq):
    here, there = branch_with("prompt"), branch_with("silent")
    for branch in (here, there):
        hq.mail(branch, "名单", "请回访", hq.list_of(branch, 3))
    hq.mail(here, "反馈", "本月情况", role="manager")
    assert hq.answer()["answer"] == 1
    assert [sender for sender, _ in hq.returns()] == [f"director.{here}@branch.example"]
    before = len(hq.returns())
    assert hq.answer()["read"] == 0
    assert len(hq.returns()) == before
    hq.mail(here, "补充名单", "请回访", hq.list_of(here, 2), role="manager")
    assert hq.answer()["rows"] == 2
    assert hq.returns()[-1][0] == f"manager.{here}@branch.example"


def test_a_late_branch_answers_only_after_the_due_date(hq):
    branch = branch_with("late")
    hq.mail(branch, "名单", "请回访", hq.list_of(branch, 4))
    assert hq.answer()["waiting"] == 1
    assert not list((hq.settings.maildir / "new").iterdir())
    late = date(2026, 3, 20)
    assert hq.answer(late, datetime(2026, 3, 20, 9, 0, tzinfo=UTC))["answer"] == 1
    [(_, opened)] = hq.returns()
    judged = hq.judge(branch, opened, late)
    assert judged.problems.empty
    assert judged.accepted["is_late"].all()


def receipt(hq: Headquarters, branch: str, *, accepted: int, problems: list[dict]) -> None:
    words = render(
        "receipt", "zh_CN", branch_name=f"营业部{branch}", title="日常合规风险提示回访", period="2026-03",
        sheet="callback_sheet", received_at=NOW, reference="0f", accepted=accepted, rejected=len(problems),
        problems=[problem | {"sheet": "回访登记表", "task": ""} for problem in problems], problems_left_off=0, is_late=False,
        files=0, open_again=0, awaiting=[], useless=[], attachment_names=[], key_place="",
        due_on=DUE, return_address=HQ, sender_name="客服中心",
    )  # fmt: skip
    hq.mail(branch, words.subject, words.text)


def test_a_broken_branch_corrects_its_cells_after_the_receipt_and_changes_nothing_else(hq):
    branch = branch_with("broken")
    hq.mail(branch, "名单", "请回访", hq.list_of(branch, 8))
    hq.answer()
    [(_, opened)] = hq.returns()
    first = hq.judge(branch, opened)
    assert set(first.problems["code"]) == {"formula", "not_a_date", "other_customer", "missing", "unknown_choice"}
    assert len(first.accepted) == 3
    receipt(hq, branch, accepted=3, problems=[{"row": 4, "column": "回访结果", "code": "formula", "advice": "含公式"}])
    later = date(2026, 3, 16)
    assert hq.answer(later, datetime(2026, 3, 16, 9, 0, tzinfo=UTC))["correction"] == 1
    second = hq.judge(branch, hq.returns()[1][1], later)
    assert second.problems.empty
    assert len(second.accepted) == 8
    assert set(first.accepted["content_sha256"]) < set(second.accepted["content_sha256"])
    receipt(hq, branch, accepted=8, problems=[])
    assert hq.answer()["read"] == 1
    assert len(hq.returns()) == 2


@pytest.mark.parametrize(
    ("temper", "accepted", "is_locked"),
    [("clear", 10, False), ("partial", 6, True), ("renamed", 10, True), ("careless", 9, True)],
)
def test_other_tempers_return_what_they_are_known_for(hq, temper, accepted, is_locked):
    branch = branch_with(temper)
    hq.mail(branch, "名单", "请回访", hq.list_of(branch, 10))
    hq.answer()
    [(_, opened)] = hq.returns()
    judged = hq.judge(branch, opened)
    assert len(judged.accepted) == accepted
    assert set(judged.problems["code"]) == ({"recusal"} if temper == "careless" else set())
    assert opened.workbooks[0].was_encrypted == is_locked
    assert (opened.workbooks[0].name == "list.xlsx") == (temper != "renamed")


def test_a_mail_sent_twice_is_the_same_bytes_twice(hq):
    branch = branch_with("twice")
    hq.mail(branch, "名单", "请回访", hq.list_of(branch, 2))
    assert hq.answer()["duplicates"] == 1
    one, other = (hq.settings.maildir / "new").iterdir()
    assert one.read_bytes() == other.read_bytes()


def test_out_of_office_replies_say_so_and_strangers_write_from_elsewhere(hq):
    for temper in ("away", "leaky"):
        branch = branch_with(temper)
        hq.mail(branch, "名单", "请回访", hq.list_of(branch, 2))
    counts = hq.answer()
    assert (counts["auto_reply"], counts["stranger"], counts["answer"]) == (1, 1, 2)
    roster = pd.DataFrame(
        [
            {"branch_no": branch_with(temper), "role": "x", "email": f"director.{branch_with(temper)}@branch.example"}
            for temper in ("away", "leaky")
        ]
    )
    verdicts = [judge_sender(opened, roster, HQ) for _, opened in hq.returns()]
    assert sorted((v.verdict, v.reason) for v in verdicts) == [
        ("notice", "auto_reply"),
        ("ok", ""),
        ("ok", ""),
        ("quarantined", "unknown_sender"),
    ]


@pytest.mark.parametrize("temper", ["prompt", "clear"])
def test_self_checks_come_back_filled_with_evidence_named_by_case(hq, temper):
    branch = branch_with(temper)
    codes = [row_code("case", number, KEY) for number in (1, 2)]
    frame = pd.DataFrame(
        {
            "row_code": codes, "customer_name": "李**", "phone": "13800000000", "form": "conduct",
            "violation": ["password_known", "sharing_profit,other"], "stated_on": [date(2026, 3, 5)] * 2,
            "due_on": [DUE] * 2,
        }
    )  # fmt: skip
    sheet = write_sheet(
        "self_check", frame, campaign="daily_risk-2026-03", title="日常合规风险提示回访", branch_no=branch,
        branch_name="营业部", language="zh_CN", issued_on=ISSUED.date(),
    )  # fmt: skip
    hq.mail(branch, "自查", "请自查", lock_workbook(sheet, branch_password(hq.settings, branch)))
    counts = hq.answer()
    assert counts["self_check"] == 1
    assert counts.get("recordings", 0) == (temper == "clear")
    expected = pd.DataFrame(
        {
            "case_id": [1, 2], "branch_no": branch, "campaign_id": "c", "customer_name": "李**", "phone": "13800000000",
            "due_on": [DUE] * 2, "opened_on": [ISSUED.date()] * 2,
        }
    )  # fmt: skip
    judged = judge_rows(SELF_CHECK, hq.returns()[0][1], expected, [KEY], branch_no=branch, as_of=AS_OF)
    assert judged.problems.empty
    assert list(judged.accepted["case_id"]) == [1, 2]
    evidence = [item for _, opened in hq.returns() for item in match_files(opened, [KEY]).values()]
    assert sorted(evidence) == [("case", 1)] * 3 + [("case", 2)] * 3


def test_the_mailboxes_are_those_that_the_synthetic_roster_names():
    assert list(MAILBOXES) == [LOCAL_PARTS[role] for role in LOCAL_PARTS]
    assert f"{HQ_LOCAL_PARTS['hq_service']}@hq.example" == HQ_ADDRESS


def test_the_person_whom_the_sheet_names_makes_the_call_but_a_careless_branch_lets_the_developer(hq):
    callers = {}
    for temper in ("prompt", "careless"):
        branch = branch_with(temper)
        hq.mail(branch, "名单", "请回访", hq.list_of(branch, 4, planned_caller="孙丽(010203)"))
        hq.answer()
        [table] = [sheet for sheet in hq.returns()[-1][1].workbooks[0].sheets if sheet.name == "回访登记表"]
        header = [str(title).rstrip("*") for title in table.rows[2]]
        callers[temper] = [row[header.index("回访人")] for row in table.rows[3:7]]
    assert callers == {"prompt": ["孙丽(010203)"] * 4, "careless": ["孙丽(010203)", "张伟", *["孙丽(010203)"] * 2]}


def test_the_call_centre_of_headquarters_answers_its_own_list(hq):
    hq.mail("HQ", "名单", "请回访", hq.list_of("HQ", 3))
    assert hq.answer()["rows"] == 3
    [(_, opened)] = hq.returns()
    roster = pd.DataFrame([{"branch_no": "HQ", "role": "hq_service", "email": HQ_ADDRESS}])
    assert judge_sender(opened, roster, HQ).branch_no == "HQ"
    assert len(hq.judge("HQ", opened).accepted) == 3


def test_an_english_list_is_filled_with_english_words(hq):
    branch = branch_with("prompt")
    hq.mail(branch, "List", "Please call", hq.list_of(branch, 10, language="en"))
    hq.answer()
    [(_, opened)] = hq.returns()
    assert len(hq.judge(branch, opened).accepted) == 10
    assert "Phone" in {cell for sheet in opened.workbooks[0].sheets for row in sheet.rows for cell in row}


@pytest.mark.long
def test_many_branches_answer_side_by_side_and_in_the_same_order_each_time(tmp_path):
    senders, contents = [], []
    for name in ("one", "two"):
        with headquarters(tmp_path / name) as hq:
            steps: list[tuple[int, int]] = []
            for n in range(1, 9):
                hq.mail(f"{n:04d}", "名单", "请回访", hq.list_of(f"{n:04d}", 5))
            hq.answer(progress=lambda done, total, steps=steps: steps.append((done, total)))
            assert steps == [(n, 8) for n in range(1, 9)]
            returns = hq.returns()
            senders.append([sender for sender, _ in returns])
            contents.append([
                hq.judge(re.search(r"\d{4}", sender)[0], opened).accepted[["outcome", "called_on"]].to_csv()
                for sender, opened in returns
            ])  # fmt: skip
    assert senders[0] == senders[1]
    assert contents[0] == contents[1]
    assert len(senders[0]) >= 6


@pytest.mark.parametrize("branches", [1, 6])
def test_a_list_under_another_branchs_password_is_an_error_that_names_the_branch(hq, branches, capfd):
    for n in range(1, branches + 1):
        branch_password(hq.settings, f"{n:04d}")
        hq.mail(f"{n:04d}", "名单", "请回访", hq.list_of("0099", 2))
    with pytest.raises(BranchError, match="branch 0001"):
        hq.answer()
    assert branches == 1 or "password" in capfd.readouterr().err
