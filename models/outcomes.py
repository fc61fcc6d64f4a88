"""What a branch may answer: the codes of DOMAIN §4 with their words, what they settle, and the questions asked.

Knows no workbook, no row and no storage.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from models import CallbackError

Language = Literal["zh_CN", "en"]


class QuestionnaireError(CallbackError):
    """A questionnaire lacks one of the five legal contents, or asks what no sheet has a column for."""


class Label(NamedTuple):
    """One text in both languages."""

    zh: str
    en: str

    def text(self, language: Language) -> str:
        return self.zh if language == "zh_CN" else self.en


NO_WORDS = Label("", "")


@dataclass(frozen=True)
class Choice:
    """One entry of a dropdown; the note is what the instructions say about it."""

    code: str
    label: Label
    note: Label = NO_WORDS


@dataclass(frozen=True)
class Outcome(Choice):
    """One outcome of DOMAIN §4; partial completes and no_answer fails only under a condition, see `settle`."""

    completes: bool = False
    fails: bool = False
    """The attempt is final without completion: the place passes on to the reserve."""


LEGAL_CONTENTS: dict[str, Label] = {
    "identity": Label("身份核实", "Identity"),
    "account_changes": Label("账户变动", "Account changes"),
    "operated_by_staff": Label("代客操作", "Operated by staff"),
    "risks_disclosed": Label("风险揭示", "Risks disclosed"),
    "full_mandate": Label("全权委托", "Full mandate"),
}

OUTCOMES: dict[str, Outcome] = {
    choice.code: choice
    for choice in (
        Outcome(
            "done_clear",
            Label("成功·无异常", "Done · clear"),
            Label("五项均已核实，未见异常", "all five items answered, nothing unusual"),
            completes=True,
        ),
        Outcome(
            "done_suspect",
            Label("成功·疑似违规", "Done · suspected violation"),
            Label("五项均已核实，并选“疑似违规类型”", "all five items answered; choose the suspected violation"),
            completes=True,
        ),
        Outcome(
            "done_opinion",
            Label("成功·有意见建议", "Done · opinion"),
            Label("五项均已核实，客户意见写入“情况说明”", "all five items answered; write the opinion under Remark"),
            completes=True,
        ),
        Outcome(
            "partial",
            Label("部分完成", "Partly done"),
            Label(
                "客户中途中断；五项未核全的，须再次回访",
                "the customer broke off; unless all five are answered, call again",
            ),
        ),
        Outcome(
            "rebook",
            Label("预约下次", "Call again as agreed"),
            Label("客户约定其他时间，届时再次回访", "the customer named another time; call again then"),
        ),
        Outcome(
            "not_customer",
            Label("非本人接听", "Someone else answered"),
            Label("不得透露回访内容，另择时间再拨", "say nothing of the matter; call again"),
        ),
        Outcome(
            "refused",
            Label("拒访", "Refused"),
            Label("客户明确拒绝，由备选客户递补", "the customer declined; a reserve takes the place"),
            fails=True,
        ),
        Outcome(
            "no_answer",
            Label("无人接听/占线/关机/无法接通", "No answer/busy/switched off"),
            Label("达到规定次数后由备选客户递补", "after the required attempts a reserve takes the place"),
        ),
        Outcome(
            "bad_number",
            Label("空号/停机/改号", "Number not in use"),
            Label("请同时修复客户联系方式；由备选客户递补", "repair the contact data; a reserve takes the place"),
            fails=True,
        ),
        Outcome(
            "left_frame",
            Label("已销户/转休眠", "Closed/dormant"),
            Label("由备选客户递补", "a reserve takes the place"),
            fails=True,
        ),
        Outcome(
            "exempt",
            Label("免扰/投诉中/诉讼", "Exempt/complaint/lawsuit"),
            Label("请在“情况说明”写明原因，由总部审批", "give the reason under Remark; headquarters decides"),
        ),
    )
}


def _choices(*entries: tuple[str, str, str]) -> dict[str, Choice]:
    return {code: Choice(code, Label(zh, en)) for code, zh, en in entries}


CHANNELS = _choices(("phone", "电话", "Phone"), ("visit", "面访", "Visit"))
ANSWERS: dict[str, Choice] = {
    choice.code: choice
    for choice in (
        Choice(
            "clear", Label("已核·无异常", "Clear"), Label("已向客户问清，无异常", "asked and answered, nothing unusual")
        ),
        Choice(
            "flagged",
            Label("已核·有异常", "Flagged"),
            Label("已向客户问清，有异常", "asked and answered, something is wrong"),
        ),
        Choice("not_asked", Label("未核", "Not asked"), Label("没有问到或客户没有回答", "not asked, or not answered")),
    )
}
VIOLATIONS = _choices(
    ("password_known", "获知密码", "Password known to staff"),
    ("trading_for_customer", "代客操作", "Trading for the customer"),
    ("sharing_profit", "分享收益", "Sharing profits"),
    ("promising_return", "承诺收益或赔偿损失", "Promising return or compensation"),
    ("other", "其他", "Other"),
)
FORMS = _choices(("risk_warning", "风险提示", "Risk warning"), ("conduct", "执业行为", "Conduct"))
TRUTHS = _choices(
    ("true", "属实", "True"), ("false", "不属实", "Not true"), ("unverifiable", "无法核实", "Cannot be verified")
)
HOLDINGS = _choices(
    ("match", "相符", "Match"), ("mismatch", "不符", "Mismatch"), ("not_checked", "未核对", "Not checked")
)
INTERVIEWS = _choices(
    ("interviewed", "已访谈", "Interviewed"),
    ("not_needed", "无需访谈", "Not needed"),
    ("not_interviewed", "未访谈", "Not interviewed"),
)

VALIDITIES = _choices(
    ("valid", "成立", "Valid"), ("partly", "部分成立", "Partly valid"), ("invalid", "不成立", "Not valid")
)
RESOLUTIONS = _choices(
    ("answered", "已答复客户", "Customer answered"), ("needs_hq", "需总部处理", "Needs headquarters")
)
REPLIES = _choices(
    ("phone", "电话", "Phone"),
    ("visit", "面访", "Visit"),
    ("letter", "书面", "In writing"),
    ("message", "短信", "Message"),
)

COMPLETING = frozenset(code for code, outcome in OUTCOMES.items() if outcome.completes)


def settle(outcome: str, answers: Mapping[str, str], attempts: int, attempts_required: int) -> tuple[bool, bool]:
    """Whether a row completes its assignment, and whether it ends it without completion (DOMAIN §4).

    >>> settle("no_answer", {}, 3, 3), settle("no_answer", {}, 2, 3), settle("rebook", {}, 9, 3)
    ((False, True), (False, False), (False, False))
    """
    rule = OUTCOMES[outcome]
    if outcome == "no_answer":
        return False, attempts >= attempts_required
    if rule.completes or outcome == "partial":
        return all(answers.get(content, "not_asked") != "not_asked" for content in LEGAL_CONTENTS), False
    return False, rule.fails


@dataclass(frozen=True)
class Questionnaire:
    """What the caller asks, by legal content; a version is never changed, only followed by the next."""

    version: str
    questions: Mapping[str, Label]

    def __post_init__(self) -> None:
        missing = [label.zh for content, label in LEGAL_CONTENTS.items() if content not in self.questions]
        if missing:
            raise QuestionnaireError(
                f"questionnaire {self.version} lacks {'、'.join(missing)}; each legal content needs a question"
            )
        unknown = sorted(set(self.questions) - set(LEGAL_CONTENTS))
        if unknown:
            raise QuestionnaireError(
                f"questionnaire {self.version} asks {', '.join(unknown)}, for which the sheet has no column"
            )


QUESTIONNAIRE = Questionnaire(
    "2026.1",
    {
        "identity": Label(
            "请问您是×××本人吗？联系方式、证件是否有变化？",
            "Are you the account holder? Have your contact or identity data changed?",
        ),
        "account_changes": Label(
            "近期账户的资金、持仓变动是否均由您本人操作、知悉？",
            "Do you know of all recent changes of money and holdings in your account?",
        ),
        "operated_by_staff": Label(
            "是否有我司工作人员知晓您的密码，或替您操作账户？",
            "Does any of our staff know your password or operate your account?",
        ),
        "risks_disclosed": Label(
            "我司是否已向您充分揭示投资风险？", "Have the risks of investing been disclosed to you?"
        ),
        "full_mandate": Label(
            "您是否将账户全权委托给他人，或与他人约定分享收益、承担损失？",
            "Have you given anyone a full mandate, or agreed to share gains or losses?",
        ),
    },
)
