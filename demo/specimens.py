"""Specimens: a mail of every kind and shape, with invented facts in both languages.

For docs/mail.md, for `huifang mail preview`, and for the golden files of the tests. Knows the facts that each template
asks for, which the head of templates/KIND.facts.j2 lists; sends nothing and reads no store.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from types import SimpleNamespace
from typing import Any

import pandas as pd

from models.feedback import STRATA, estimate
from models.outcomes import Language
from models.standing import BRANCHES, Standing
from tasks.mail import TEMPLATES, Rendered, render


@dataclass(frozen=True)
class Specimen:
    """One mail as it could go out: its template, and facts in its language."""

    kind: str
    facts: Mapping[str, Any]
    language: Language

    def rendered(self) -> Rendered:
        return render(self.kind, self.language, **self.facts)


def kinds() -> list[str]:
    """Every kind of mail there is: whatever has a subject among the templates."""
    return sorted(path.name.removesuffix(".subject.j2") for path in TEMPLATES.glob("*.subject.j2"))


def specimens(language: Language) -> dict[str, Specimen]:
    """Mails by name: the kind alone, or the kind, two underlines and what is particular."""
    is_zh = language == "zh_CN"

    def say(zh: str, en: str) -> str:
        return zh if is_zh else en

    sender_name = say("客服中心回访组", "Callback desk, service centre")
    title = say("日常合规风险提示回访", "Daily risk-warning callbacks")

    def file(zh: str, en: str, rest: str) -> str:
        return f"{say(zh, en)}_{title}_2026-03_0001{rest}.xlsx"

    common = {
        "branch_name": say("北京西城证券营业部", "Beijing Xicheng branch"), "title": title, "period": "2026-03",
        "due_on": date(2026, 3, 31), "return_address": "huifang@hq.example", "sender_name": sender_name,
    }  # fmt: skip
    brought = common | {
        "attachment_name": file("回访登记表", "Callback sheet", ""),
        "key_place": say("总部回访组密函", "the sealed letter of the callback desk"),
    }  # fmt: skip
    part = {"part": 1, "parts": 3, "attachment_name": file("回访登记表", "Callback sheet", "_1-3")}
    asked = brought | {"cases": 2, "workdays": 3, "attachment_name": file("自查情况说明表", "Self-check statement", "_1")}
    reminder = common | {
        "number": 1, "assigned": 96, "completed": 81, "open": 9, "failed": 6, "rows_rejected": 4, "cases_overdue": 2,
        "tasks": ["H00007-3M8QX-K2T9P", "H00012-9PZ4R-W6N3H"], "tasks_left_off": 7, "is_overdue": False,
    }  # fmt: skip
    problem = {
        "task": "H00007-3M8QX-K2T9P", "sheet": say("回访登记表", "Callback sheet"), "row": 17, "column": say("回访日期", "Called on"),
        "code": "R07", "advice": say("请填写 2026-3-5 这样的日期", "write a date such as 2026-3-5"),
    }  # fmt: skip
    stranger = problem | {
        "task": "", "row": 21, "column": say("联系电话", "Phone"), "code": "R12",
        "advice": say("与名单不符，请勿改动", "differs from the list; leave it as it was"),
    }  # fmt: skip
    receipt = common | {
        "sheet": "callback_sheet", "received_at": datetime(2026, 3, 30, 1, 5, tzinfo=UTC), "reference": "9f2c41ab",
        "accepted": 81, "rejected": 4, "files": 0, "open_again": 3, "problems": [problem, stranger],
        "problems_left_off": 0, "is_late": False, "awaiting": [], "useless": [], "key_place": brought["key_place"],
        "attachment_names": [file("更正表_回访登记表", "Correction_Callback sheet", "_9f2c4107")],
    }  # fmt: skip
    commitment = {
        "title": title, "period": "2026-01", "number": 1, "programme_year": "daily_risk-2026",
        "frame_sha256": "775a6fefa2be37a072569b4dbdda75e93238f6b382166e2ad1a2bdb213b738ab",
        "plan_sha256": "ec20ed47de684fcbaffb51c89706e074723f14f1f206c28bd7efb34c3ea14885", "k0": "5" * 64,
        "state_sha256": "02d58b0c508d33d9caff1f91f0e62ff0b6a9fa0aa873ca0d1aeed6b2e04e11ab",
        "committed_at": datetime(2026, 1, 4, 0, 0, tzinfo=UTC), "public": say("上证综指收盘价", "SSE Composite close"),
        "given_up": [], "sender_name": sender_name,
    }  # fmt: skip
    given_up = {
        "number": 1, "public": "4032.24", "public_on": date(2026, 1, 5), "reason": say("录入有误", "wrong entry"),
        "by": say("林合规", "Lin Hegui"), "at": datetime(2026, 1, 5, 9, 0, tzinfo=UTC),
    }  # fmt: skip
    recalled = {
        "title": title, "period": "2026-03", "sent_at": datetime(2026, 3, 2, 1, 0, tzinfo=UTC), "number": 17,
        "mail_subject": say(f"【回访名单】北京西城证券营业部：{title} 2026年3月", f"[Callback list] Beijing Xicheng: {title} March 2026"),
        "is_locked": True, "return_address": "huifang@hq.example", "sender_name": sender_name,
    }  # fmt: skip
    another = say(f"【回执】北京西城证券营业部：{title} 2026年3月", f"[Receipt] Beijing Xicheng: {title} March 2026")
    branches = _branches(is_zh=is_zh)
    standing, (mine, silent) = _standing(branches, given_up), branches
    summary = {
        "standing": standing, "branch": mine, "completion": 81 / 96, "median_completion": 0.42,
        "year_completion": 255 / 1101, "sender_name": sender_name,
    }  # fmt: skip
    case = SimpleNamespace(
        code="Z00003-7K3QX-M2T9P", branch_name=mine["branch_name"], violations=["password_known", "other"],
        result="waiting",
    )  # fmt: skip
    confirmed = SimpleNamespace(
        code="Z00004-2R8WD-Q6C1N", branch_name=mine["branch_name"], violations=["sharing_profit"], result="confirmed"
    )
    nothing = {"accepted": 0, "rejected": 0, "open_again": 0, "problems": [], "attachment_names": []}
    lacking = {
        "task": "H00012-9PZ4R-W6N3H", "missing": [say("电话录音", "the recording of the call")],
        "names": [say("H00012-9PZ4R-W6N3H_录音.mp3", "H00012-9PZ4R-W6N3H_recording.mp3")],
    }  # fmt: skip
    useless = [
        {"part": 2, "task": "H00012-9PZ4R-W6N3H", "fault": say("录音不足 1 秒", "the recording has less than a second")},
        {"part": 5, "task": "", "fault": ""},
    ]
    facts: dict[str, Mapping[str, Any]] = {
        "assignment": brought | {"rows": 96, "supplement": 0, "evidence": ["recording", "signature"]},
        "assignment__part": brought | part | {"rows": 400, "supplement": 0, "evidence": ["recording"]},
        "assignment__supplement": brought | {"rows": 4, "supplement": 2, "evidence": []},
        "commitment": commitment,
        "commitment__second": commitment | {"number": 2, "given_up": [given_up]},
        "feedback_branch": summary,
        "feedback_branch__idle": summary
        | {"branch": {k: 0 if isinstance(v, int) else v for k, v in mine.items()} | {"completed_year": 255}}
        | dict.fromkeys(("completion", "median_completion", "year_completion")),
        "feedback_compliance": {
            "standing": standing, "cases": [case, confirmed], "cases_left_off": 1, "sender_name": sender_name,
        },
        "feedback_hq": {
            "standing": standing, "completion": 81 / 192, "year_completion": 510 / 2202, "median_completion": 0.42,
            "states": {"done": 0, "partly": 1, "silent": 1, "not_sent": 0, "nothing_due": 0},
            "attention": [silent, mine], "attention_left_off": 3, "silent": 1, "quarantined": 6,
            "sender_name": sender_name,
        },
        "recall": recalled,
        "recall__readable": recalled | {"is_locked": False, "number": 43, "mail_subject": another},
        "receipt": receipt | {"is_late": True, "due_on": date(2026, 3, 27), "problems_left_off": 12},
        "receipt__clean": receipt | {"rejected": 0, "problems": [], "attachment_names": []},
        "receipt__awaiting": receipt | {"rejected": 0, "problems": [], "awaiting": [lacking], "useless": useless},
        "receipt__evidence": receipt | nothing | {"files": 5},
        "receipt__nothing": receipt | nothing,
        "receipt__rejected": receipt | {"accepted": 0, "open_again": 0, "sheet": "self_check"},
        "reminder": reminder | {"state": "silent", "completed": 0, "open": 96, "failed": 0, "rows_rejected": 0, "tasks_left_off": 94},
        "reminder__partly": reminder | {"state": "partly", "is_overdue": True, "number": 2},
        "reminder__rejected": reminder | {"state": "rejected", "tasks": [], "tasks_left_off": 0},
        "reminder__self_check": reminder | {"state": "self_check", "is_overdue": True},
        "self_check": asked,
    }  # fmt: skip
    return {name: Specimen(name.partition("__")[0], mail, language) for name, mail in facts.items()}


def _branches(*, is_zh: bool) -> list[dict[str, Any]]:
    """A branch that returned a part, and one that returned nothing."""
    mine = {
        "branch_no": "0001", "branch_name": "北京西城证券营业部" if is_zh else "Beijing Xicheng branch", "base": 12345,
        "eligible": 11002, "goal": 1101, "drawn": 96, "reserve": 30, "assigned": 96, "attempted": 90, "completed": 81,
        "open": 9, "replaced": 4, "withdrawn": 1, "expired": 1, "overdue": 3, "completed_year": 255, "findings": 2,
        "cases": 2, "opinions": 5, "rows_rejected": 4, "late": 6, "state": "partly",
    }  # fmt: skip
    silent = mine | {
        "branch_no": "0002", "branch_name": "上海徐汇证券营业部" if is_zh else "Shanghai Xuhui branch", "attempted": 0,
        "completed": 0, "open": 90, "overdue": 90, "state": "silent", "findings": 0, "cases": 0, "opinions": 0,
    }  # fmt: skip
    return [mine, silent]


def _standing(branches: list[dict[str, Any]], given_up: dict[str, Any]) -> Standing:
    counted = [("0101", "*", "base", 22004, 510, 500, 480, 6)]
    return Standing(
        campaign="daily_risk-2026-03", programme="daily_risk",
        title={"zh_CN": "日常合规风险提示回访", "en": "Daily risk-warning callbacks"}, period="2026-03",
        as_of=date(2026, 3, 31), base=24690, eligible=22004,
        excluded={"dormant": 2431, "suspended": 255}, waived=0, goal=2202, drawn=192, reserve=60,
        assigned=192, attempted=90, completed=81, completed_year=510, open=99, replaced=8, withdrawn=2, expired=2,
        overdue=93, mails={"claimed": 44, "sent": 40, "failed": 1, "bounced": 1, "recalled": 0, "unknown": 2, "in_flight": 0},
        messages={
            "seen": 31, "accepted": 22, "partly": 4, "rejected": 1, "quarantined": 2, "notice": 1, "held": 0,
            "duplicate": 1,
        },
        findings=2, cases=2, opinions=5, outcomes={"done_clear": 74, "done_suspect": 2, "done_opinion": 5},
        violations={"password_known": 1, "sharing_profit": 1}, case_results={"confirmed": 1, "waiting": 1},
        contradictions={"dormant_but_trading": 3}, shortfalls={"exhausted": 4},
        estimate=estimate(pd.DataFrame(counted, columns=list(STRATA.columns)), made_by="branch"),
        frame_sha256="a3" * 32, plan_sha256="b7" * 32, sample_sha256="c9" * 32,
        branches=BRANCHES.validate(pd.DataFrame(branches)), given_up=[given_up],
    )  # fmt: skip
