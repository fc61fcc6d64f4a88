"""What may be estimated from a year's completed callbacks, with limits and assumption beside it (rules 20, 21).

Counts per stratum in, an Estimate or a NotEstimable out, and the sentence that has to stand beside either. Knows no
query and no layout, and withholds no small count: who may see which figure is decided where it is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from math import fsum, sqrt
from typing import Any, Literal

import pandas as pd
import pandera.pandas as pa

from models import CallbackError
from models.limits import clopper_pearson, upper_limit, wilson
from models.outcomes import VIOLATIONS, Label, Language

COUNT = pa.Column(int, pa.Check.ge(0), coerce=True)

STRATA = pa.DataFrameSchema(
    {
        "group_key": pa.Column(str),
        "stratum": pa.Column(str),
        "draw": pa.Column(str, pa.Check.isin(["base", "coverage", "triggered"])),
        "customers": pa.Column(int, pa.Check.ge(1), coerce=True),  # eligible at year end; leaving later counts
        "taken": COUNT,  # drawn and handed out so far, the open ones too
        "attempted": COUNT,
        "completed": COUNT,
        "with_finding": COUNT,  # completed customers with at least one finding, not findings
    },
    strict=True,
    unique=["group_key", "stratum", "draw"],
)

FEWEST = 30
"""Completions below which a rate is not called one (rule 21)."""

Draw = Literal["base", "coverage", "triggered"]
Domain = Literal["company", "branch", "marketer"]
MadeBy = Literal["branch", "hq", "both"]
Method = Literal["wilson", "clopper_pearson", "kish_upper", "census"]
Reason = Literal[
    "few_completions", "strata_without_completions", "nobody_answered", "nothing_taken", "coverage", "triggered"
]


class MixedDraws(CallbackError):
    """Rows of the base draw together with rows that were chosen otherwise."""


class CountsFault(CallbackError):
    """Counts of a stratum that contradict each other."""


ASSUMPTION = "missing_at_random_within_stratum"

ASSUMPTIONS = {
    ASSUMPTION: Label(
        "假定同一层内未完成回访的客户与已完成的客户情况相同（层内随机缺失）",
        "assuming that within a stratum the customers not reached are like those who were (missing at random within "
        "the stratum)",
    ),
}

REASONS: dict[Reason, Label] = {
    "few_completions": Label(f"完成回访不足 {FEWEST} 户", f"fewer than {FEWEST} completed callbacks"),
    "strata_without_completions": Label("有的层没有完成的回访", "strata without a completed callback"),
    "nobody_answered": Label("没有一户完成回访", "nobody's callback was completed"),
    "nothing_taken": Label("尚未抽取客户", "no customer has been drawn yet"),
    "coverage": Label(
        "按营销人员覆盖抽取的回访不代表公司的全体客户",
        "callbacks drawn to cover marketers do not stand for all customers of the company",
    ),
    "triggered": Label(
        "由事件、投诉或嫌疑引起的回访不是随机样本",
        "callbacks triggered by events, complaints or suspicion are no random sample",
    ),
}


@dataclass(frozen=True)
class Collapsed:
    """Strata that were taken together because one of them had fewer than 2 completions; each as `group/stratum`."""

    strata: tuple[str, ...]


@dataclass(frozen=True)
class Estimate:
    """The share of customers with a finding; shares and sizes are rounded to 9 decimals, so equal counts give equal text."""

    domain: Domain
    violation: str
    """Code of the kind of finding; '' for any."""
    rate: float
    standard_error: float
    lower: float
    upper: float
    confidence: str
    """Of both limits together; of the upper one alone where the method is kish_upper, whose lower limit is 0."""
    method: Method
    effective_size: float | None
    """Calls of a simple random sample that would say as much; None where everybody was completed."""
    customers: int
    taken: int
    attempted: int
    completed: int
    with_finding: int
    response_rate: float
    """completed / taken; an open call counts as not answered yet."""
    worst_lower: float
    """As if every customer taken and not completed were clear."""
    worst_upper: float
    """As if every customer taken and not completed had a finding."""
    made_by: MadeBy
    """What branches find is *reported*: their bias about themselves lies outside the standard error."""
    collapsed: tuple[Collapsed, ...] = ()
    silent_periods: tuple[str, ...] = ()
    """Periods with calls of which none was completed: about them alone nothing can be estimated."""
    assumption: str = ASSUMPTION

    @property
    def is_reported(self) -> bool:
        return self.made_by != "hq"


@dataclass(frozen=True)
class NotEstimable:
    """Why no rate is given, and what can be said instead."""

    domain: Domain
    violation: str
    reason: Reason
    customers: int
    taken: int
    attempted: int
    completed: int
    with_finding: int
    upper: float | None
    """Exact one-sided upper limit of the share, from the count of completions; None where they are no random sample."""
    confidence: str
    made_by: MadeBy
    strata: tuple[str, ...] = ()
    """Strata without completions, each as `group/stratum`."""
    covered: Estimate | None = None
    """What may be said of the customers of the other strata."""
    silent_periods: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Cell:
    """A stratum, or several taken together."""

    group: str
    names: tuple[str, ...]
    customers: int
    taken: int
    attempted: int
    completed: int
    with_finding: int

    @property
    def place(self) -> tuple[int, tuple[str, ...]]:
        return self.customers, self.names

    def joined(self, other: _Cell) -> _Cell:
        return _Cell(
            min(self.group, other.group),
            tuple(sorted(self.names + other.names)),
            self.customers + other.customers,
            self.taken + other.taken,
            self.attempted + other.attempted,
            self.completed + other.completed,
            self.with_finding + other.with_finding,
        )


def estimate(
    strata: pd.DataFrame,
    *,
    made_by: MadeBy,
    domain: Domain = "company",
    violation: str = "",
    silent_periods: Sequence[str] = (),
    limits: Literal["wilson", "clopper_pearson"] = "wilson",
    confidence: str = "0.95",
) -> Estimate | NotEstimable:
    """The share of a domain's customers with a finding, or why there is none.

    strata: see STRATA; one row per stratum, all of one draw, `with_finding` of the kind in question. A domain that
    cuts through strata brings its own customers and counts in each. The rate is Σ (N_h / N)·ȳ_h over the strata, its
    variance Σ (N_h / N)²·(1 − n_h / N_h)·ȳ_h(1 − ȳ_h) / (n_h − 1): completions are taken as drawn from the stratum
    without replacement, so the finite population correction is over the completions. Limits stand on the effective
    size p(1 − p) / v, which is never taken as larger than the same calls give at equal rates,
    1 / Σ (N_h / N)²(1 − n_h / N_h) / n_h: a variance that was estimated from a finding or two in a small stratum is
    too small (docs/decisions/0014). Without a finding they stand on Kish's 1 / Σ (N_h / N)² / n_h.

    A stratum with fewer than 2 completions is taken together with the smallest other stratum of its group (ties by
    key); a group with one completion in all with the smallest other stratum that has any. Raises MixedDraws when the
    rows are not all of one draw, CountsFault when counts contradict each other.
    """
    rows = _check_strata(strata)
    cells = [
        _Cell(
            str(row["group_key"]),
            (f"{row['group_key']}/{row['stratum']}",),
            *(int(row[name]) for name in ("customers", "taken", "attempted", "completed", "with_finding")),
        )
        for row in rows.to_dict("records")
    ]
    draw: Draw = rows["draw"].iloc[0]
    counts = {
        name: sum(getattr(cell, name) for cell in cells)
        for name in ("customers", "taken", "attempted", "completed", "with_finding")
    }
    about: dict[str, Any] = {
        "domain": domain,
        "violation": violation,
        "confidence": confidence,
        "made_by": made_by,
        "silent_periods": tuple(silent_periods),
    }

    def refuse(reason: Reason, upper: float | None = None, **more: Any) -> NotEstimable:
        return NotEstimable(reason=reason, upper=upper, **counts, **about, **more)

    if draw == "triggered":
        return refuse("triggered")
    if draw == "coverage" and (domain != "marketer" or rows["group_key"].nunique() > 1):
        return refuse("coverage")
    if not counts["taken"]:
        return refuse("nothing_taken")
    if not counts["completed"]:
        return refuse("nobody_answered")
    if counts["completed"] < FEWEST:
        return refuse("few_completions", upper_limit(counts["with_finding"], counts["completed"], confidence))
    joined, silent = _join_sparse(cells)
    covered = _estimate_cells(joined, cells, limits, about)
    if not silent:
        return covered
    return refuse("strata_without_completions", strata=tuple(sorted(cell.names[0] for cell in silent)), covered=covered)


def describe(found: Estimate | NotEstimable, language: Language) -> str:
    """The sentence that stands beside a figure: zh_CN or en."""
    said = clauses(found, language)
    return "；".join(said) + "。" if language == "zh_CN" else "; ".join(said) + "."


def clauses(found: Estimate | NotEstimable, language: Language) -> list[str]:
    """The parts of that sentence, the figure or the refusal first, for where they stand one below the other."""
    return _say_estimate(found, language) if isinstance(found, Estimate) else _say_refusal(found, language)


def _check_strata(strata: pd.DataFrame) -> pd.DataFrame:
    rows = STRATA.validate(strata).sort_values(["group_key", "stratum", "draw"])
    if rows.empty:
        raise CountsFault("estimate: no stratum at all; the frozen strata of the programme year are missing")
    draws = sorted(set(rows["draw"]))
    if len(draws) > 1:
        raise MixedDraws(
            f"estimate: rows of the draws {', '.join(draws)} together; completions that were not drawn alike are not "
            "pooled (rule 21): give each draw on its own"
        )
    order = ["customers", "taken", "attempted", "completed", "with_finding"]
    for more, fewer in pairwise(order):
        wrong = rows[rows[fewer] > rows[more]]
        if len(wrong):
            row = wrong.iloc[0]
            raise CountsFault(
                f"estimate: stratum {row['group_key']}/{row['stratum']} has {fewer} {row[fewer]}, more than its {more} "
                f"{row[more]}; count them from the same calls"
            )
    return rows


def _join_sparse(cells: Sequence[_Cell]) -> tuple[list[_Cell], list[_Cell]]:
    """Cells with at least 2 completions each, and the strata of groups without any."""
    groups: dict[str, list[_Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.group, []).append(cell)
    silent = [cell for group in groups.values() if not any(c.completed for c in group) for cell in group]
    answered = [_join_until_two(group) for group in groups.values() if any(c.completed for c in group)]
    return _join_until_two([cell for group in answered for cell in group]), silent


def _join_until_two(cells: Sequence[_Cell]) -> list[_Cell]:
    kept = list(cells)
    while len(kept) > 1 and (sparse := [cell for cell in kept if cell.completed < 2]):
        least = min(sparse, key=lambda cell: cell.place)
        kept.remove(least)
        other = min(kept, key=lambda cell: cell.place)
        kept.remove(other)
        kept.append(least.joined(other))
    return kept


def _estimate_cells(
    joined: Sequence[_Cell], cells: Sequence[_Cell], limits: Literal["wilson", "clopper_pearson"], about: dict[str, Any]
) -> Estimate:
    covered = {name for cell in joined for name in cell.names}
    mine = [cell for cell in cells if cell.names[0] in covered]
    customers, taken, completed, found = (
        sum(getattr(cell, name) for cell in mine) for name in ("customers", "taken", "completed", "with_finding")
    )
    shares = [(cell.customers / customers, cell) for cell in joined]
    rate = fsum(share * cell.with_finding / cell.completed for share, cell in shares)
    left = [1 - cell.completed / cell.customers for cell in joined]
    spread = [cell.with_finding * (cell.completed - cell.with_finding) for cell in joined]
    variance = fsum(
        share**2 * rest * s / (cell.completed**2 * (cell.completed - 1))
        for (share, cell), rest, s in zip(shares, left, spread, strict=True)
    )
    equal = fsum(share**2 * rest / cell.completed for (share, cell), rest in zip(shares, left, strict=True))
    method: Method
    size: float | None
    if completed == customers:
        method, size, (lower, upper) = "census", None, (rate, rate)
    elif not found:
        method, size = "kish_upper", 1 / fsum(share**2 / cell.completed for share, cell in shares)
        lower, upper = 0.0, upper_limit(0, size, about["confidence"])
    else:
        method, size = limits, 1 / equal
        if variance > 0:
            size = min(size, rate * (1 - rate) / variance)
        confidence = about["confidence"]
        lower, upper = (
            wilson(rate, size, confidence) if limits == "wilson" else clopper_pearson(rate * size, size, confidence)
        )
    return Estimate(
        rate=round(rate, 9),
        standard_error=round(sqrt(variance), 9),
        lower=round(lower, 9),
        upper=round(upper, 9),
        method=method,
        effective_size=None if size is None else round(size, 9),
        customers=customers,
        taken=taken,
        attempted=sum(cell.attempted for cell in mine),
        completed=completed,
        with_finding=found,
        response_rate=round(completed / taken, 9),
        worst_lower=round(fsum(share * cell.with_finding / cell.taken for share, cell in shares), 9),
        worst_upper=round(
            fsum(share * (cell.with_finding + cell.taken - cell.completed) / cell.taken for share, cell in shares), 9
        ),
        collapsed=tuple(Collapsed(cell.names) for cell in sorted(joined, key=lambda c: c.names) if len(cell.names) > 1),
        **about,
    )


# ---- words -------------------------------------------------------------------------------------------------

DOMAINS: dict[Domain, Label] = {
    "company": Label("全公司应访客户", "all eligible customers of the company"),
    "branch": Label("该营业部应访客户", "the branch's eligible customers"),
    "marketer": Label("该营销人员的应访客户", "the marketer's eligible customers"),
}

METHODS: dict[Method, Label] = {
    "wilson": Label("Wilson 置信区间", "Wilson limits"),
    "clopper_pearson": Label("Clopper–Pearson 置信区间", "Clopper–Pearson limits"),
    "kish_upper": Label("单侧上限（Kish 有效样本量）", "one-sided upper limit on Kish's effective size"),
    "census": Label("全部完成，无抽样误差", "everybody completed, no sampling error"),
}

MAKERS: dict[MadeBy, Label] = {
    "branch": Label("由营业部回访", "called by branches"),
    "hq": Label("由总部回访", "called by headquarters"),
    "both": Label("由营业部和总部回访", "called by branches and headquarters"),
}

SELF_REPORT = Label("，自报的偏差不在上述误差之内", ", and the bias of reports about oneself lies outside these limits")

NAMED = 5
"""Strata without completions that are named in words; all stand in the figures."""


def percent(share: float) -> str:
    """A share as people read it; below 1 % with two decimals, and never rounded down to nothing or up to all.

    >>> percent(0.4507), percent(0.0032), percent(0.00001), percent(0.99999), percent(0)
    ('45.1%', '0.32%', '<0.01%', '>99.9%', '0%')
    """
    if share in (0, 1):
        return f"{share:.0%}"
    if share < 0.00005:
        return "<0.01%"
    if share > 0.9995:
        return ">99.9%"
    return f"{share:.2%}" if share < 0.00995 else f"{share:.1%}"


def _say_estimate(found: Estimate, language: Language, subject: Label | None = None) -> list[str]:
    level = _level(found.confidence)
    kind, whose = _kind(found.violation), subject or DOMAINS[found.domain]
    reported = Label("自报", ", as branches report it") if found.is_reported else Label("", "")
    rate, lower, upper = (percent(share) for share in (found.rate, found.lower, found.upper))
    shown = Label(
        f"{level} {METHODS[found.method].zh} {lower} 至 {upper}",
        f"{level} {METHODS[found.method].en} {lower} to {upper}",
    )
    if found.method == "kish_upper":
        shown = Label(f"{level} {METHODS['kish_upper'].zh} {upper}", f"{level} {METHODS['kish_upper'].en} {upper}")
    elif found.method == "census":
        shown = METHODS["census"]
    reply, low, high = (percent(share) for share in (found.response_rate, found.worst_lower, found.worst_upper))
    said = [
        Label(
            f"{whose.zh}中有{kind.zh}的{reported.zh}比例估计为 {rate}（{shown.zh}）",
            f"of {whose.en} an estimated {rate} have {kind.en}{reported.en} ({shown.en})",
        ),
        Label(
            f"已抽取 {found.taken:,} 户、完成 {found.completed:,} 户（应答率 {reply}），"
            f"其中 {found.with_finding:,} 户有{kind.zh}",
            f"{found.taken:,} drawn, {found.completed:,} completed (response rate {reply}), "
            f"{found.with_finding:,} of them with a finding",
        ),
        ASSUMPTIONS[found.assumption],
        Label(
            f"最坏情形：未完成者（含尚未返回）全部无异常为 {low}，全部有发现为 {high}",
            f"worst cases: {low} if everyone not completed (or not returned yet) is clear, {high} if everyone has a finding",
        ),
        _joined(MAKERS[found.made_by], SELF_REPORT) if found.is_reported else MAKERS[found.made_by],
    ]
    if found.collapsed:
        n = sum(len(one.strata) for one in found.collapsed)
        said.append(
            Label(f"因完成不足 2 户而合并的层：{n} 个", f"strata taken together for want of 2 completions: {n}")
        )
    return [one.text(language) for one in (*said, *_silent(found.silent_periods))]


def _say_refusal(found: NotEstimable, language: Language) -> list[str]:
    kind, level = _kind(found.violation), _level(found.confidence)
    said = [
        Label(f"不可估计：{REASONS[found.reason].zh}", f"not estimable: {REASONS[found.reason].en}"),
        Label(
            f"已抽取 {found.taken:,} 户、完成 {found.completed:,} 户，其中 {found.with_finding:,} 户有{kind.zh}",
            f"{found.taken:,} drawn, {found.completed:,} completed, {found.with_finding:,} of them with {kind.en}",
        ),
    ]
    if found.upper is not None:
        limit = percent(found.upper)
        said.append(
            Label(
                f"比例的 {level} 单侧精确上限为 {limit}",
                f"the exact one-sided {level} upper limit of the share is {limit}",
            )
        )
    if found.covered is not None:
        share = percent(found.covered.customers / found.customers)
        n, rest = len(found.strata), ["…"] if len(found.strata) > NAMED else []
        names = [*found.strata[:NAMED], *rest]
        said.append(
            Label(f"没有完成回访的层：{n} 个（{'、'.join(names)}）", f"strata without one: {n} ({', '.join(names)})")
        )
        others = Label(
            f"其余各层的客户（占应访客户 {share}）", f"the customers of the other strata ({share} of the eligible)"
        )
        return [*(one.text(language) for one in said), *_say_estimate(found.covered, language, others)]
    said.append(MAKERS[found.made_by])
    return [one.text(language) for one in (*said, *_silent(found.silent_periods))]


def _joined(one: Label, other: Label) -> Label:
    return Label(one.zh + other.zh, one.en + other.en)


def _silent(periods: Sequence[str]) -> list[Label]:
    if not periods:
        return []
    return [
        Label(
            f"{'、'.join(periods)} 无人完成，仅就这些期次不可估计",
            f"nobody's callback was completed in {', '.join(periods)}: of these alone nothing can be estimated",
        )
    ]


def _kind(violation: str) -> Label:
    if not violation:
        return Label("疑似违规", "a suspected violation")
    label = VIOLATIONS[violation].label if violation in VIOLATIONS else Label(violation, violation)
    return Label(f"疑似违规“{label.zh}”", f"a suspected violation ({label.en})")


def _level(confidence: str) -> str:
    return f"{float(Fraction(confidence) * 100):g}%"
