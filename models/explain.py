"""A programme read back in plain sentences, in Chinese or English, as compliance would write it in a memo.

Knows what each key means to people. Decides nothing: what it says, the draw does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from fractions import Fraction
from math import ceil
from typing import Any

from pydantic import BaseModel

from models.canonical import CUSTOMERS, allowed_codes
from models.evidence import KINDS, EvidenceKind
from models.outcomes import Label, Language
from models.programme import (
    Capacity,
    ChainSeed,
    CoverageGoal,
    Exclusion,
    Programme,
    RateGoal,
    Reminder,
    Source,
    UnknownProgramme,
    version_on,
)
from models.sampling import goal as goal_of

ROLES = {
    "operations_director": Label("营运总监", "operations director"),
    "customer_service_manager": Label("客户服务部经理", "customer-service manager"),
    "deputy": Label("副职", "deputy"),
    "branch_head": Label("营业部负责人", "branch head"),
    "compliance": Label("合规法务部", "compliance & legal"),
    "operations_management": Label("运营管理部", "operations management"),
    "hq_service": Label("客服中心", "customer-service centre"),
}
STAFF_KINDS = {
    "broker": Label("经纪人", "brokers"),
    "marketer": Label("员工制营销人员", "staff marketers"),
    "adviser": Label("投资顾问", "advisers"),
    "caller": Label("回访人员", "callers"),
    "other": Label("其他员工", "other staff"),
}
TABLES = {
    "customers": Label("客户", "customers"),
    "transactions": Label("交易流水", "transactions"),
    "branches": Label("营业部", "branches"),
    "roster": Label("收件人名册", "roster"),
    "staff": Label("员工", "staff"),
    "relations": Label("客户与员工关系", "relations"),
}
EVIDENCE_ASKED: dict[EvidenceKind, Label] = {
    "recording": Label("电话回访的录音", "of a phone call its recording"),
    "signature": Label("面访的客户签字扫描件", "of a visit a scan with the customer's signature"),
    "contact": Label("再次回访的录音或客户签字扫描件", "the second call's recording or the customer's signature"),
    "interview": Label("三方签字的访谈记录扫描件", "of an interview its record with three signatures"),
    "register": Label("营运总监签字的登记表扫描件", "the register signed by the operations director"),
}
COLUMNS = {
    "status": Label("客户状态", "status"),
    "segment": Label("客户类别", "segment"),
    "risk_level": Label("风险等级", "risk level"),
}
STATUSES = {
    "active": Label("正常", "active"),
    "dormant": Label("休眠", "dormant"),
    "suspended": Label("中止交易", "suspended"),
    "closed": Label("销户", "closed"),
}


@dataclass(frozen=True)
class Section:
    """One heading and the sentences below it."""

    title: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Span:
    """From when to when one version is the one that is used; None where no version holds."""

    first: date
    last: date | None
    version: int | None


def timeline(versions: Sequence[Programme], name: str) -> list[Span]:
    """Which version of a programme is used when, from the first day of any to the last of all."""
    mine = [version for version in versions if version.programme == name]
    ends = {v.valid_to + timedelta(days=1) for v in mine if v.valid_to}
    turns = sorted({v.valid_from for v in mine} | ends)
    found: list[Span] = []
    for at, first in enumerate(turns):
        last = turns[at + 1] - timedelta(days=1) if at + 1 < len(turns) else None
        try:
            used = version_on(mine, name, first).version
        except UnknownProgramme:
            used = None
        if found and found[-1].version == used:
            found[-1] = Span(found[-1].first, last, used)
        else:
            found.append(Span(first, last, used))
    return found if not found or found[-1].version is not None else found[:-1]


def strange_values(rules: Programme) -> list[tuple[str, str]]:
    """Key and fault of each value that no customer can have, so that a condition would be met by nobody."""
    allowed = allowed_codes(CUSTOMERS.columns["status"]) or []
    named = [(f"exclusions.{n}.values", e.column, e.values) for n, e in enumerate(rules.exclusions)]
    named += [(f"population.{n}.values", c.column, c.values) for n, c in enumerate(rules.population)]
    return [
        (key, f"{value!r} is no status of a customer; allowed: {', '.join(allowed)}")
        for key, column, values in named
        for value in values
        if column == "status" and value not in allowed
    ]


def explain(
    versions: Sequence[Programme],
    name: str,
    day: date,
    language: Language,
    *,
    given: Programme | None = None,
    edited_years: Sequence[str] = (),
) -> list[Section]:
    """What the version of a programme that holds on a day will do, or a given one whatever holds.

    edited_years: the programme years that were frozen with this version and other content. Raises UnknownProgramme
    naming what there is when no version holds and none is given.
    """
    rules = given or version_on(versions, name, day)
    tell = _Tell(rules, language)
    about = [
        *tell.title(timeline(with_draft(versions, rules), name), day),
        *tell.in_use(in_use_on(versions, name, day), day),
        *tell.changes(edited_years),
    ]
    parts = [
        (Label("本方案", "The programme"), iter(about)),
        (Label("依据", "Rules carried out"), tell.texts()),
        (Label("回访对象", "Whom it is about"), tell.frame()),
        (Label("配额", "Quota"), tell.quota()),
        (Label("分层", "Strata"), tell.strata()),
        (Label("每月抽取", "Each month"), tell.months()),
        (Label("随机种子", "Seed"), tell.seed()),
        (Label("由谁回访", "Who calls"), tell.callers()),
        (Label("期限与要求", "Deadlines and calls"), tell.calls()),
        (Label("邮件、催办与反馈", "Mails, reminders and feedback"), tell.mails()),
        (Label("按默认值执行的项目", "Keys at their defaults"), tell.defaults()),
    ]
    return [
        Section(_number(number, language) + title.text(language), tuple(lines))
        for number, (title, lines) in enumerate(parts, 1)
    ]


def with_draft(versions: Sequence[Programme], draft: Programme) -> list[Programme]:
    """The versions with a draft in place of the one that it says it is."""
    mine = (draft.programme, draft.version)
    return [*(one for one in versions if (one.programme, one.version) != mine), draft]


def in_use_on(versions: Sequence[Programme], name: str, day: date) -> Programme | None:
    """The version that the draw uses on a day; None where none holds."""
    try:
        return version_on(versions, name, day)
    except UnknownProgramme:
        return None


def first_period(rules: Programme) -> str:
    """The first month that a version may be drawn by: it has to hold on the month's first day."""
    first = rules.valid_from
    if first.day > 1:
        first = date(first.year + first.month // 12, first.month % 12 + 1, 1)
    return f"{first:%Y-%m}"


_NUMERALS = "一二三四五六七八九十"


def _number(number: int, language: Language) -> str:
    if language == "en":
        return f"{number}. "
    return (_NUMERALS[number - 1] if number <= 10 else f"十{_NUMERALS[number - 11]}") + "、"


class _Tell:
    """The sentences about one version in one language."""

    def __init__(self, rules: Programme, language: Language) -> None:
        self._rules, self._language = rules, language
        self._is_chinese = language == "zh_CN"
        self._is_coverage = isinstance(rules.goal, CoverageGoal)

    def _say(self, zh: str, en: str) -> str:
        return zh if self._is_chinese else en

    def _word(self, words: Mapping[str, Label], code: str) -> str:
        return words[code].text(self._language)

    def _list(self, words: Sequence[str]) -> str:
        return "、".join(words) if self._is_chinese else ", ".join(words)

    def _source(self, source: Source) -> str:
        """Where a figure comes from and how long it holds; the text stands as the file has it."""
        until = (
            self._say(f"至 {source.holds_to} 止", f"until {source.holds_to}")
            if source.holds_to
            else self._say("未定截止日期", "no end named")
        )
        note = (
            self._say(f"说明：{_plain(source.note)}。", f" Note: {_plain(source.note)}.")
            if source.note
            else ""
        )
        return self._say(
            f"出处：{_plain(source.text)}（{source.holds_from} 起施行，{until}）。{note}",
            f"Source: {_plain(source.text)} (from {source.holds_from}, {until}).{note}",
        )

    # ---- sections -------------------------------------------------------------------------------------------

    def title(self, spans: Sequence[Span], day: date) -> Iterator[str]:
        rules = self._rules
        until = (
            self._say(f"至 {rules.valid_to} 止", f"until {rules.valid_to}")
            if rules.valid_to
            else self._say("未定截止日期", "no end named")
        )
        yield self._say(
            f"《{rules.title.zh_CN}》（{rules.programme}）第 {rules.version} 版，{rules.valid_from} 起施行，{until}。",
            f"{rules.title.en} ({rules.programme}), version {rules.version}, from {rules.valid_from}, {until}.",
        )
        if len(spans) > 1:
            said = [self._span(span) for span in spans]
            yield self._say(
                f"各版适用期间：{'；'.join(said)}。同日有数版有效的，适用版次最高者。",
                f"Which version is used when: {'; '.join(said)}. Where several hold on a day, the highest is used.",
            )
            yield self._say(
                "每一期次适用当月 1 日有效的版本。年中换版的，从换版后的首个期次起重算配额、分层和每层最少户数；"
                "此前的回访结果继续计入，已抽取的客户不退回。",
                "Each campaign uses the version that holds on the first day of its month. After a change within the year "
                "quota, strata and minima are made anew from the next campaign on; results so far count, nobody drawn is given back.",
            )

    def in_use(self, used: Programme | None, day: date) -> Iterator[str]:
        """Whether the draw uses the version that is told about."""
        number = self._rules.version
        if used is None:
            yield self._say(
                f"以下为所给文件的内容；{day} 没有任何版本有效，抽取不会使用它。",
                f"What follows is the given file. No version holds on {day}, so the draw does not use it then.",
            )
        elif used.version != number:
            yield self._say(
                f"以下为所给文件（第 {number} 版）的内容；{day} 实际适用的是方案目录中的第 {used.version} 版。",
                f"What follows is the given file (version {number}). On {day} the draw uses version {used.version} of the "
                "programmes folder.",
            )
        elif used.plan_sha256() != self._rules.plan_sha256():
            yield self._say(
                f"以下为所给文件的内容；方案目录中的第 {number} 版（{day} 适用）内容与此不同。",
                f"What follows is the given file. Version {number} in the programmes folder, which the draw uses on {day}, "
                "says something else.",
            )
        else:
            yield self._say(f"以下为 {day} 适用的内容。", f"This is what holds on {day}.")

    def changes(self, edited_years: Sequence[str]) -> Iterator[str]:
        """What a person who changed the file may not expect."""
        rules = self._rules
        if rules.valid_from.day > 1:
            yield self._say(
                f"valid_from 为 {rules.valid_from}，不是月初：每一期次适用当月 1 日有效的版本，"
                f"本版最早自 {first_period(rules)} 期次起适用。",
                f"valid_from is {rules.valid_from}, within a month. A campaign uses what holds on the first of its month, so the "
                f"first one drawn by this version is {first_period(rules)}.",
            )
        for year in edited_years:
            yield self._say(
                f"注意：{year} 冻结之后，第 {rules.version} 版的内容被改动而版次未变，抽取将拒绝新的期次。请恢复原文，"
                "或将改动写成更高的版次并报批。",
                f"Note: the content was changed after {year} was frozen with version {rules.version}, and the draw refuses new "
                "months. Put the file back as it was, or give the change a higher version and have it approved.",
            )

    def _span(self, span: Span) -> str:
        what = (
            self._say(f"适用第 {span.version} 版", f"version {span.version}")
            if span.version
            else self._say("无有效版本", "no version holds")
        )
        when = (
            self._say(f"{span.first} 至 {span.last}", f"{span.first} to {span.last}")
            if span.last
            else self._say(f"{span.first} 起", f"from {span.first}")
        )
        return self._say(f"{when}{what}", f"{when}: {what}")

    def texts(self) -> Iterator[str]:
        for number, text in enumerate(self._rules.rules, 1):
            until = self._say(f"，至 {text.holds_to} 止", f" to {text.holds_to}") if text.holds_to else ""
            note = self._say(f"：{_plain(text.note)}", f": {_plain(text.note)}") if text.note else ""
            yield self._say(
                f"（{number}）{_plain(text.text)}（{text.holds_from} 起施行{until}）{note}。",
                f"({number}) {_plain(text.text)} (from {text.holds_from}{until}){note}.",
            )
        if not self._rules.rules:
            yield self._say(
                "文件未列出所依据的规定；各项数字的出处见以下各条。",
                "The file names no texts; the source of each figure stands beside it below.",
            )

    def frame(self) -> Iterator[str]:
        rules = self._rules
        yield self._say(
            "以上年末（12 月 31 日）提取文件中的全部客户为基数。基数在年度首次抽取时冻结一次，年末以后离开的客户仍计入分母。",
            "The base is every customer in the extract of last year-end (31 December). It is frozen once, at the year's first "
            "draw; customers who leave later stay in the denominator.",
        )
        yield self._say(
            "年末以后开户、年末以前销户的客户不属于基数内的合格客户。",
            "Customers opened after the year-end or closed before it are not eligible.",
        )
        for condition in rules.population:
            column, values = self._condition(condition.column, condition.values)
            yield self._say(
                f"仅针对{column}为{values}的客户，其余客户在剔除台账中记为“不属方案对象”（outside_population）。",
                f"Only customers whose {column} is {values}; the others stand in the ledger of exclusions as outside_population.",
            )
        for number, exclusion in enumerate(rules.exclusions, 1):
            yield self._exclusion(number, exclusion)
        if not rules.exclusions:
            yield self._say("除此之外不剔除任何客户。", "Nobody else is excluded.")
        else:
            yield self._say(
                "同一客户适用数项的，按以上顺序记入先适用的一项；剔除台账须与提取文件逐户相符，否则不冻结基数。",
                "Where several apply, the first in this order stands in the ledger of exclusions, which must balance with the extract "
                "to the customer before the base is frozen.",
            )
        yield self._say(
            "客户提取文件有拒收行的，须经审批人豁免并记入台账，方可冻结基数。",
            "With rejected rows in the customers extract the base is frozen only with an approver's waiver, which stands in the ledger.",
        )
        tables = self._list([self._word(TABLES, table) for table in rules.needs])
        yield self._say(f"所需提取文件：{tables}。", f"Extracts needed: {tables}.")

    def _condition(self, column: str, values: Sequence[str]) -> tuple[str, str]:
        known = STATUSES if column == "status" else {}
        words = [known[v].text(self._language) if v in known else _plain(v) for v in values]
        quoted = "".join(f"“{word}”" for word in words) if self._is_chinese else " or ".join(words)
        return self._word(COLUMNS, column), quoted

    def _exclusion(self, number: int, exclusion: Exclusion) -> str:
        by = self._word(ROLES, exclusion.approved_by)
        reason = exclusion.reason
        if exclusion.by_hand:
            return self._say(
                f"剔除（{number}）{reason}：由{by}在基数冻结前逐户指定的客户。{self._source(exclusion.source)}",
                f"Excluded ({number}), {reason}: customers whom {by} names one by one before the base is frozen. "
                f"{self._source(exclusion.source)}",
            )
        assert exclusion.column, "the file's shape says that a column or by_hand is given"
        column, values = self._condition(exclusion.column, exclusion.values)
        return self._say(
            f"剔除（{number}）{reason}：{column}为{values}的客户，由{by}负责审批。{self._source(exclusion.source)}",
            f"Excluded ({number}), {reason}: customers whose {column} is {values}; {by} answers for it. {self._source(exclusion.source)}",
        )

    def quota(self) -> Iterator[str]:
        goal = self._rules.goal
        match goal:
            case RateGoal(rate=rate):
                example = goal_of(rate, 101)
                yield self._say(
                    f"每家营业部每年须完成的回访数，为其合格客户数的 {_percent(rate)}，逐家向上取整"
                    f"（例如合格客户 101 户，须完成 {example} 户）。",
                    f"Each branch owes completed callbacks of {_percent(rate)} of its eligible customers a year, rounded up branch by "
                    f"branch (101 eligible customers: {example}).",
                )
            case CoverageGoal(calls_per_year=calls, staff_kinds=kinds):
                who = self._list([self._word(STAFF_KINDS, kind) for kind in kinds])
                march = ceil(Fraction(calls * 3, 12))
                yield self._say(
                    f"每名在岗的{who}，每年须有其开发的客户 {calls} 户完成回访；"
                    f"合格的开发客户不足 {calls} 户的，以实有户数为限，并列入缺口。",
                    f"Of each active developer ({who}), {calls} customers he developed are to be completed a year; who has fewer "
                    "eligible ones owes those, and is listed as a shortfall.",
                )
                yield self._say(
                    f"到第 m 个月累计应完成 {calls} × m ÷ 12 户，向上取整（三月底 {march} 户）；已完成和在办的不足此数的，当月补抽。",
                    f"By month m he owes {calls} × m / 12, rounded up ({march} by the end of March); what completed and open calls lack "
                    "is drawn that month.",
                )
                yield self._say(
                    "开发人以抽取当日的开发关系为准；有数名开发人的，以关系开始最晚者为准。本方案的回访不抵减其他方案的配额，分开报告。",
                    "The developer is the one of the day of the draw; of several the one whose relation began last. These calls take "
                    "nothing off another programme's quota and are reported apart.",
                )
        yield self._source(goal.source)
        yield self._say(
            "只计已完成的回访：五项法定内容均已核实，以回访日期为准；同一客户一年只计一次。拒访、无人接听等不计。",
            "Only completed callbacks count: all five legal contents answered, dated by the call; a customer counts once a year. "
            "Refusals, calls without an answer and the like do not.",
        )

    def strata(self) -> Iterator[str]:
        rules = self._rules
        if self._is_coverage:
            yield self._say(
                "每名营销人员的开发客户为一层，层内不再细分。",
                "The customers of one developer are one stratum; it is not divided further.",
            )
        elif not rules.strata:
            yield self._say("不分层：每家营业部的合格客户为一层。", "No strata: the eligible customers of a branch are one.")
        else:
            traits = self._list([self._word(COLUMNS, trait) for trait in rules.strata])
            assert isinstance(rules.goal, RateGoal), "coverage has no strata of its own"
            small = ceil(rules.minimum / Fraction(rules.goal.rate))
            joined = self._say(
                f"；不足 {small} 户的并入“*”层，仍不足的再并入次小的一层" if small > 1 else "",
                f"; those with fewer than {small} customers join the stratum *, which takes in the next smallest while it is smaller itself"
                if small > 1
                else "",
            )
            yield self._say(
                f"每家营业部内按{traits}分层{joined}。", f"Within a branch by {traits}{joined}."
            )
        if rules.minimum:
            yield self._say(
                f"每层每年至少 {rules.minimum} 户（不超过该营业部的配额）；其余名额逐个分配，"
                "每次给“户数 ÷（2 × 已有名额 + 1）”最高的一层。",
                f"Each stratum has at least {rules.minimum} a year (never more than the branch's quota); the other places "
                "are dealt one by one to the stratum with the highest customers / (2 × places + 1).",
            )
        elif not self._is_coverage:
            yield self._say(
                "名额逐个分配，每次给“户数 ÷（2 × 已有名额 + 1）”最高的一层；不设每层最少户数。",
                "Places are dealt one by one to the stratum with the highest customers / (2 × places + 1); there is no "
                "minimum.",
            )
        if rules.weights:
            named = [
                self._say(f"“{_plain(key)}”一户计 {weight} 户", f"{_plain(key)} counts {weight} times")
                for key, weight in rules.weights.items()
            ]
            yield self._say(
                f"分配名额时按风险加权：{'、'.join(named)}，其他层不加权。",
                f"Weighted by risk when places are dealt: {', '.join(named)}; other strata count once.",
            )

    def months(self) -> Iterator[str]:
        rules = self._rules
        if not self._is_coverage:
            month, day = (int(part) for part in rules.monthly_plan.cut_off.split("-"))
            spread = self._say("按工作日数", "by workdays")
            if rules.monthly_plan.by == "weights":
                weights = rules.monthly_plan.weights
                spread = self._say(
                    "按各月权重（" + "、".join(f"{n} 月 {w}" for n, w in enumerate(weights, 1)) + "）",
                    "by weights (" + ", ".join(f"{name} {w}" for name, w in zip(_MONTHS, weights, strict=True)) + ")",
                )
            yield self._say(
                f"全年配额{spread}摊到各月，须在 {month} 月 {day} 日前完成；上月多做或少做的，从下月起按余下的摊算。",
                f"The year's quota is spread over the months {spread} and is due by {day} {_MONTHS[month - 1]}; what a month does more or "
                "less is spread over the rest.",
            )
            yield self._say(
                "当月名额 = 当月应完成数 ÷ 该营业部迄今的完成率，最多为应完成数的 3 倍。",
                "Places of a month = what is to be completed in it / the branch's completion rate so far, at most three times as many.",
            )
        yield self._say(
            "每层内从本年未抽取过的客户中，取随机号最小者；随机号为“种子:客户号”的 SHA-256 值，任何人可以重算。",
            "In each stratum those with the smallest tickets among the customers not yet taken this year are drawn; a ticket is the "
            "SHA-256 of `seed:customer id`, which anybody can recompute.",
        )
        yield self._say(
            f"备选为当月名额的 {_percent(rules.reserve)}（逐层向上取整），由总部保管，启用前不寄出；回访失败的，按登记先后由同层备选递补，"
            "到下次抽取时未启用的备选作废。",
            f"The reserve is {_percent(rules.reserve)} of the month's places (rounded up stratum by stratum), kept at headquarters and not "
            "mailed before use; failures bring in the next of their stratum in the order they are booked, and what is left lapses at "
            "the next draw.",
        )
        yield self._capacity()
        yield self._say(
            "因承接能力或客户不足未能安排的名额，列为缺口并注明原因，仍须在后续期次补足。",
            "Places that capacity or too few customers take away are listed as shortfalls with their reason and stay owed.",
        )

    def _capacity(self) -> str:
        rules, capacity = self._rules, self._rules.capacity
        if rules.caller == "hq":
            who = self._say("总部客服中心", "Headquarters' centre")
        elif self._is_coverage:
            who = self._say("每名营销人员", "Each developer")
        else:
            who = self._say("每家营业部", "Each branch")
        if not isinstance(capacity, Capacity):
            group = self._say("每名营销人员", "Each developer") if self._is_coverage else self._say("每家营业部", "Each branch")
            return self._say(f"{group}每期最多承接 {capacity} 户。", f"{group} takes on at most {capacity} calls in a campaign.")
        named = [
            self._say(f"{branch} 为 {calls} 户", f"{branch} {calls}") for branch, calls in sorted(capacity.branches.items())
        ]
        others = self._say(f"，其中{'、'.join(named)}", f", except {', '.join(named)}") if named else ""
        return self._say(
            f"{who}每个工作日最多承接 {capacity.per_workday} 户{others}。",
            f"{who} takes on at most {capacity.per_workday} calls a workday{others}.",
        )

    def seed(self) -> Iterator[str]:
        seed = self._rules.seed
        if not isinstance(seed, ChainSeed):
            yield self._say(
                "随机（random）：每期先存定当月状态与名额，再由系统新生成一个种子（64 位十六进制），存档后方可抽取；"
                "每期只抽一次，不得重抽。",
                "Random: each campaign's state and places are committed first, then a fresh seed of 64 hex digits is made "
                "and stored before anything is drawn with it; there is one draw and no second attempt.",
            )
            yield self._say(
                "任何人事先都无法推知当月名单；至于总部是否只生成过一个种子，以审计记录为凭，不能由外部证明。",
                "Nobody can foresee a month's calls. That headquarters made no more than one seed stands in the audit "
                "chain; a stranger has no proof of it.",
            )
            return
        public = seed.public
        yield self._say(
            "种子链（chain）：年初由合规法务部随机生成一条种子链，公布其承诺值 K₀，各月链值由其另行保管。",
            "Chain: at the start of the year compliance makes a random chain of seeds, commits to K₀ and keeps the links.",
        )
        yield self._say(
            "每期依次：存定当月状态与名额；取事先不存在的公开数字；由另一人揭示当月链值；两者合成当月种子；抽取。",
            "Each campaign in this order: state and places are committed; a public number appears that did not exist "
            "before; another person reveals the month's link; both together make the seed; the draw.",
        )
        yield self._say(
            f"公开数字：{_plain(public.name.zh_CN)}，当日 {public.available_at:%H:%M} 起可知，写法须符合 {public.pattern}。",
            f"Public number: {_plain(public.name.en)}, known from {public.available_at:%H:%M} of its day, written as "
            f"{public.pattern}.",
        )
        yield self._say(
            "作废须留有记录，重做须用下一个公开数字。任何人可据 K₀、链值和公开数字复核种子。",
            "An attempt that is given up stays reported, and the next takes the next public number. Anybody can check the "
            "seed from K₀, link and number.",
        )

    def callers(self) -> Iterator[str]:
        rules = self._rules
        if rules.caller == "hq":
            yield self._say(
                "由总部客服中心统一回访，营业部只收当月结果。",
                "Headquarters' centre calls; branches get the month's results.",
            )
        else:
            yield self._say(
                "由客户所在营业部回访，每家营业部按期收到本部的回访登记表。",
                "The customer's branch calls; each branch gets its own callback sheet.",
            )
        kinds = self._list([self._word(STAFF_KINDS, kind) for kind in rules.callers])
        yield self._say(
            f"员工提取文件中列有{kinds}的，任务在其间均匀分派到人；未列的，由{'客服中心' if rules.caller == 'hq' else '营业部'}自行安排。",
            f"Where the extract of staff names {kinds}, calls are spread evenly over them; else "
            f"{'the centre' if rules.caller == 'hq' else 'the branch'} decides itself.",
        )
        if rules.recusal:
            yield self._say(
                "回避：任何人不得回访由其开发或服务的客户，派发时和回访当日各核一次；营业部无人可派的，改由总部客服中心回访。",
                "Recusal: nobody calls a customer whom he developed or serves, checked when assigned and at the call's "
                "date; where a branch has nobody else, headquarters calls.",
            )
        else:
            yield self._say("本方案不要求回避。", "The programme asks for no recusal.")
        if rules.one_contact:
            yield self._say(
                "一次联系：客户正由其他方案回访、且所用问卷相容的，不重复致电，一次回访兼顾各方案。抽取本身不受影响。",
                "One contact: a customer whom another programme is calling with a form that fits is called once for both. "
                "Who is drawn does not change.",
            )
        else:
            yield self._say(
                "不合并联系：其他方案正在回访的客户照常另行致电。",
                "No merged contacts: a customer whom another programme is calling is called all the same.",
            )
        if rules.no_recontact:
            days = rules.no_recontact.days
            yield self._say(
                f"免打扰期：任何方案联系过的客户 {days} 天内不再致电；只推迟日期，不改变抽取；"
                f"顺延超出本年的，记为未能回访并注明原因。{self._source(rules.no_recontact.source)}",
                f"No recontact: nobody is called within {days} days of a contact of any programme. It moves the date, never "
                "the selection; a window that outlasts the year is booked as non-response with its reason. "
                f"{self._source(rules.no_recontact.source)}",
            )
        else:
            yield self._say("未设免打扰期。", "There is no no-recontact window.")

    def calls(self) -> Iterator[str]:
        rules = self._rules
        yield self._say(
            f"任务自抽取之日起 {rules.due_workdays} 个工作日内完成并返回；在期限内均匀安排到各工作日。",
            f"Calls fall due {rules.due_workdays} workdays after the day of the draw, and are spread evenly over the workdays until then.",
        )
        yield self._say(
            f"{rules.closing_hour:%H:%M} 以后送达的邮件，以下一工作日为送达日；期限一律按工作日历（含调休）计算。",
            f"A mail delivered after {rules.closing_hour:%H:%M} counts from the next workday; all deadlines are in official "
            "workdays, make-up days included.",
        )
        yield self._say(
            f"无人接听的，至少在 {rules.attempts.days} 个不同日期、不同时段共拨打 {rules.attempts.count} 次，仍未接通的由备选递补。"
            f"{self._source(rules.attempts.source)}",
            f"Who does not answer is tried {rules.attempts.count} times on at least {rules.attempts.days} days, in different "
            f"time bands, before a reserve takes the place. {self._source(rules.attempts.source)}",
        )
        yield self._say(
            f"使用 {rules.sheet.questionnaire} 版问卷；抽取当日有开发人的客户用执业行为问卷，无开发人的用风险提示问卷。",
            f"Questionnaire {rules.sheet.questionnaire}; customers with a developer on the day of the draw get the conduct "
            "form, the others the risk-warning form.",
        )
        yield from self._evidence()

    def _evidence(self) -> Iterator[str]:
        """Which files keep a row open; nothing where none are asked for."""
        asked = self._rules.evidence
        parts: tuple[tuple[tuple[EvidenceKind, ...], Label], ...] = (
            (asked.calls, Label("已完成的回访", "A completed call")),
            (asked.self_check, Label("自查", "A self-check")),
        )
        for kinds, what in parts:
            if not kinds:
                continue
            words = [EVIDENCE_ASKED[kind] for kind in KINDS if kind in kinds]
            yield self._say(
                f"{what.zh}须附佐证：{'；'.join(word.zh for word in words)}。佐证未到的，已填内容照收，但不计完成，直至佐证补齐。",
                f"{what.en} needs evidence: {'; '.join(word.en for word in words)}. Until it is here the answers are kept and the "
                "row stays open.",
            )

    def mails(self) -> Iterator[str]:
        rules = self._rules
        to, check = self._word(ROLES, rules.list_to), rules.self_check
        yield self._say(f"回访登记表寄给：{to}。", f"Callback sheets go to the {to}.")
        if rules.approval == "required":
            yield self._say(
                "每期样本须经合规法务部批准后方可寄出；启动抽取的人不得批准。",
                "Nothing of a draw is mailed before compliance has approved its sample; not by whoever started the draw.",
            )
        yield self._say(
            f"疑似违规：转{self._word(ROLES, check.to)}自查，自送达之日起 {check.workdays} 个工作日内返回。{self._source(check.source)}",
            f"Suspected violations go to the {self._word(ROLES, check.to)} for self-check, due {check.workdays} workdays after delivery. "
            f"{self._source(check.source)}",
        )
        for reminder in sorted(rules.reminders, key=lambda each: each.workdays_after_due):
            yield self._reminder(reminder)
        if not rules.reminders:
            yield self._say("不催办。", "There are no reminders.")
        feedback = self._word(ROLES, rules.feedback_to)
        stand_in = (
            self._say("（未设的，寄其指定的副职）", " (or the deputy the branch named)")
            if rules.feedback_to == "customer_service_manager"
            else ""
        )
        yield self._say(f"每月反馈寄给：{feedback}{stand_in}。", f"The month's feedback goes to the {feedback}{stand_in}.")

    def _reminder(self, reminder: Reminder) -> str:
        to, days = self._word(ROLES, reminder.to), reminder.workdays_after_due
        if days == 0:
            return self._say(f"催办：到期当日，寄{to}。", f"Reminder: on the due date, to the {to}.")
        if days < 0:
            return self._say(
                f"催办：到期前 {-days} 个工作日，寄{to}。", f"Reminder: {_days(-days)} before the due date, to the {to}."
            )
        return self._say(
            f"催办：逾期 {days} 个工作日仍未返回的，寄{to}。", f"Reminder: {_days(days)} after the due date, to the {to}."
        )

    def defaults(self) -> Iterator[str]:
        left_out = default_keys(self._rules)
        if not left_out:
            yield self._say("无：各项均已在文件中写明。", "None: the file says everything.")
        for key, value in left_out.items():
            yield self._say(f"{key}：{value or '无'}", f"{key}: {value or 'none'}")


_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip


def default_keys(rules: Programme) -> dict[str, str]:
    """The keys that a file leaves out, with the value that then holds, as the file would write it; '' is nothing."""
    return dict(_left_out(rules, ""))


def _left_out(part: BaseModel, above: str) -> Iterator[tuple[str, str]]:
    if isinstance(part, Source):  # a text without end or note has nothing to say of them
        return
    for name in type(part).model_fields:
        value = getattr(part, name)
        if name not in part.model_fields_set:
            if (type(part).__name__, name) not in _IDLE:
                yield above + name, _written(value)
        elif isinstance(value, BaseModel):
            yield from _left_out(value, f"{above}{name}.")
        elif isinstance(value, tuple):
            for number, entry in enumerate(value):
                if isinstance(entry, BaseModel):
                    yield from _left_out(entry, f"{above}{name}.{number}.")


_IDLE = {
    ("Exclusion", "column"), ("Exclusion", "values"), ("Exclusion", "by_hand"), ("MonthlyPlan", "weights"),
}  # fmt: skip
"""Keys of which one excludes the other."""


def _written(value: Any) -> str:
    if value in (None, (), {}):
        return ""
    match value:
        case bool():
            return str(value).lower()
        case tuple():
            return f"[{', '.join(map(str, value))}]"
        case BaseModel():
            shown = [f"{name}: {_written(each)}" for name, each in value if _written(each)]
            return "{" + ", ".join(shown) + "}" if shown else ""
    return str(value)


def _percent(rate: str) -> str:
    """A rate as people say it.

    >>> _percent("0.10"), _percent("0.075"), _percent("1")
    ('10%', '7.5%', '100%')
    """
    whole, _, part = rate.partition(".")
    digits = whole + part.ljust(2, "0")
    cut = len(whole) + 2
    number = digits[:cut].lstrip("0") or "0"
    rest = digits[cut:].rstrip("0")
    return f"{number}.{rest}%" if rest else f"{number}%"


def _days(days: int) -> str:
    return f"{days} workday{'s' if days != 1 else ''}"


def _plain(text: str) -> str:
    """A text of the file as one line that ends without a stop of its own."""
    return " ".join(text.split()).rstrip("。.")
