"""What may be estimated from completed callbacks, with limits that cover, and what is called not estimable."""

import csv
from fractions import Fraction
from hashlib import sha256
from itertools import groupby
from math import comb, sqrt
from pathlib import Path
from random import Random
from statistics import fmean, pvariance

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.feedback import (
    ASSUMPTIONS,
    REASONS,
    STRATA,
    CountsFault,
    Estimate,
    MixedDraws,
    NotEstimable,
    describe,
    estimate,
    percent,
)
from models.limits import clopper_pearson, upper_limit, wilson
from models.outcomes import VIOLATIONS

SCENARIOS = Path(__file__).parent / "scenarios"


def strata(*rows, draw="base"):
    """Rows of group, stratum, customers, taken, completed, with finding; everybody taken was tried."""
    return pd.DataFrame(
        [(group, key, draw, n, taken, taken, done, found) for group, key, n, taken, done, found in rows],
        columns=list(STRATA.columns),
    )


def read_scenarios():
    with (SCENARIOS / "estimate_input.csv").open(encoding="utf-8", newline="") as file:
        given = {name: list(rows) for name, rows in groupby(csv.DictReader(file), lambda row: row["scenario"])}
    with (SCENARIOS / "estimate_expected.csv").open(encoding="utf-8", newline="") as file:
        expected = {row["scenario"]: row for row in csv.DictReader(file)}
    return given, expected


GIVEN, EXPECTED = read_scenarios()


# ---- scenarios ----------------------------------------------------------------------------------------------


def test_every_scenario_has_its_expected_row():
    assert list(GIVEN) == list(EXPECTED)


@pytest.mark.parametrize("scenario", GIVEN)
def test_a_scenario_comes_out_as_written(scenario):
    rows, expected = GIVEN[scenario], EXPECTED[scenario]
    counts = ("customers", "taken", "attempted", "completed", "with_finding")
    frame = pd.DataFrame(
        [(row["group"], row["stratum"], row["draw"], *(int(row[name]) for name in counts)) for row in rows],
        columns=list(STRATA.columns),
    )
    found = estimate(frame, domain=rows[0]["domain"], made_by=rows[0]["made_by"])
    assert ("estimate" if isinstance(found, Estimate) else found.reason) == expected["result"]
    assert " ".join(getattr(found, "strata", ())) == expected["strata_without_completions"]
    if isinstance(found, NotEstimable) and found.covered is None:
        limit = "" if found.upper is None else f"{100 * found.upper:.4f}"
        assert limit == expected["upper_pct"]
        assert not any(expected[name] for name in ("rate_pct", "lower_pct", "limits", "effective_size", "collapsed"))
        return
    said = found if isinstance(found, Estimate) else found.covered
    shares = {
        "rate_pct": said.rate, "standard_error_pct": said.standard_error, "lower_pct": said.lower, "upper_pct": said.upper,
        "response_pct": said.response_rate, "worst_lower_pct": said.worst_lower, "worst_upper_pct": said.worst_upper,
    }  # fmt: skip
    for name, share in shares.items():
        assert 100 * share == pytest.approx(
            float(expected[name]), abs=0.0051 if name == "response_pct" else 0.000051
        ), name
    assert said.method == expected["limits"]
    size = "" if said.effective_size is None else f"{said.effective_size:.1f}"
    assert size == expected["effective_size"]
    assert " ".join(key for joined in said.collapsed for key in joined.strata) == expected["collapsed"]


# ---- published figures --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "calls", "lower", "upper"),
    [
        (7, 50, 0.05819170033997342, 0.26739600249700846),  # SciPy 1.7 documentation, BinomTestResult.proportion_ci
        (
            4,
            20,
            0.05733399705003284,
            0.4366140029966680,
        ),  # R binom, binom.confint, exact, and the following ones, as in
        (18, 20, 0.6830172859809176, 0.9876514728297052),  # statsmodels/stats/tests/results/results_proportion.py
        (4, 200, 0.005475565879556443, 0.05041360908989634),
        (190, 200, 0.9099724622986486, 0.975765834527891),
        (0, 20, 0, 0.168433470983085),  # R 4.2.2, binom.test, and the following two
        (81, 263, 0.252736745585271, 0.367621922601351),
        (3, 1000, 0.000619099931649572, 0.008742023238478280),
    ],
)
def test_exact_limits_are_those_published(found, calls, lower, upper):
    assert clopper_pearson(found, calls) == pytest.approx((lower, upper), abs=1e-11)


@pytest.mark.parametrize(
    ("found", "calls", "lower", "upper", "decimals"),
    [
        # Newcombe, Statistics in Medicine 17 (1998), Table I, method 3, as the tests of the R package propint give it.
        (81, 263, 0.2553, 0.3662, 4),
        (15, 148, 0.0624, 0.1605, 4),
        (4, 20, 0.0806576625797981, 0.4160174322518935, 12),  # R binom, binom.confint, wilson, as above
        (18, 20, 0.6989663547715128, 0.972133518786232, 12),
        (4, 200, 0.00780442641634947, 0.05028708690582643, 12),
        (0, 30, 0, 0.11351339, 8),
    ],
)
def test_wilsons_limits_are_those_published(found, calls, lower, upper, decimals):
    assert [round(limit, decimals) for limit in wilson(found / calls, calls)] == [
        round(lower, decimals),
        round(upper, decimals),
    ]


def test_five_of_twenty_five_is_as_in_conovers_table():
    # Conover, Practical Nonparametric Statistics (1999), as influentialpoints.com quotes it: 0.068 to 0.407.
    assert [round(limit, 3) for limit in clopper_pearson(5, 25)] == [0.068, 0.407]


def test_the_share_and_error_of_a_stratified_sample_are_those_of_r_survey():
    # R survey 4.1-1, data(api), svydesign(id=~1, strata=~stype, weights=~pw, data=apistrat, fpc=~fpc):
    # svymean(~awards) and svymean(~sch.wide). Its weights carry two decimals only, hence the tolerance.
    sizes = {"E": (4421, 100), "H": (755, 50), "M": (1018, 50)}
    for counts, rate, error in (
        ({"E": 27, "H": 34, "M": 26}, 0.361063935949, 0.0344059179973),
        ({"E": 9, "H": 24, "M": 15}, 0.172051988584, 0.0243447801131),
    ):
        found = estimate(strata(*(("api", k, *sizes[k], sizes[k][1], n) for k, n in counts.items())), made_by="hq")
        assert found.rate == pytest.approx(rate, abs=1e-8)
        assert found.standard_error == pytest.approx(error, abs=1e-8)


def test_exact_limits_on_an_effective_size_are_korn_and_graubards():
    # R survey 4.1-1, svyciprop(~I(awards == "No"), dstrat, method = "beta"), which widens by (t199 / t197)².
    rate, error = 0.361063935949, 0.0344059179973
    size = rate * (1 - rate) / error**2 * (1.971956544 / 1.972079034) ** 2
    assert clopper_pearson(rate * size, size) == pytest.approx((0.293645216986, 0.43278129852), abs=1e-8)


def test_the_members_of_seven_learned_societies_are_as_in_the_textbook():
    # Lohr, Sampling: Design and Analysis (1999), Example 4.3, Table 4.2; worked in E. Slud's handout Strat.Intro
    # (University of Maryland, STAT 440, 2005): 24.65 %, standard error 0.0071. The book has whole percentages.
    members = (9100, 1950, 5500, 10850, 2100, 5500, 9000)
    mailed = (915, 633, 658, 855, 667, 833, 824)
    returned = (636, 451, 481, 611, 493, 575, 588)
    women_pct = (38, 27, 18, 19, 36, 13, 26)
    rows = [
        ("ACLS", str(k), n, sent, back, round(back * pct / 100))
        for k, (n, sent, back, pct) in enumerate(zip(members, mailed, returned, women_pct, strict=True))
    ]
    found = estimate(strata(*rows), made_by="hq")
    assert found.rate == pytest.approx(0.2465, abs=0.0005)
    assert found.standard_error == pytest.approx(0.007118622, abs=0.00001)
    assert round(found.response_rate, 4) == round(3835 / 5385, 4)


def binomial_tail(share: Fraction, found: int, calls: int) -> Fraction:
    """P(X ≤ found), exactly."""
    return sum(comb(calls, k) * share**k * (1 - share) ** (calls - k) for k in range(found + 1))


@given(calls=st.integers(1, 29), data=st.data())
def test_the_one_sided_limit_is_where_the_exact_tail_is_five_percent(calls, data):
    found = data.draw(st.integers(0, calls - 1))
    limit = Fraction(upper_limit(found, calls)).limit_denominator(10**9)
    nudge = Fraction(2, 10**9)
    assert binomial_tail(limit - nudge, found, calls) > Fraction(5, 100) > binomial_tail(limit + nudge, found, calls)


def test_none_of_five_allows_forty_five_percent():
    found = estimate(strata(("0001", "A", 400, 5, 5, 0)), made_by="branch", domain="branch")
    assert (found.reason, found.completed, found.with_finding) == ("few_completions", 5, 0)
    assert found.upper == pytest.approx(1 - 0.05 ** (1 / 5), abs=1e-9)
    assert "5 户、完成 5 户，其中 0 户有疑似违规；比例的 95% 单侧精确上限为 45.1%" in describe(found, "zh_CN")


# ---- what is refused ----------------------------------------------------------------------------------------


def test_coverage_rows_are_not_pooled_into_the_base():
    mixed = pd.concat([strata(("0001", "A", 1000, 100, 90, 3)), strata(("M1", "*", 80, 6, 6, 2), draw="coverage")])
    with pytest.raises(MixedDraws, match="base, coverage together"):
        estimate(mixed, made_by="branch")


def test_counts_that_contradict_each_other_are_named():
    with pytest.raises(CountsFault, match="stratum 0001/B has with_finding 4, more than its completed 3"):
        estimate(strata(("0001", "A", 90, 9, 9, 1), ("0001", "B", 90, 9, 3, 4)), made_by="hq")
    with pytest.raises(CountsFault, match="no stratum at all"):
        estimate(strata(("0001", "A", 90, 9, 9, 1)).iloc[:0], made_by="hq")


def test_a_marketers_covered_customers_say_nothing_about_the_company():
    covered = [("M1", "*", 90, 40, 40, 4), ("M2", "*", 90, 40, 40, 0)]
    for domain in ("company", "branch", "marketer"):
        assert estimate(strata(*covered, draw="coverage"), made_by="branch", domain=domain).reason == "coverage"
    alone = estimate(strata(covered[0], draw="coverage"), made_by="branch", domain="marketer")
    assert alone.rate == 0.1


def test_triggered_calls_are_no_sample_however_many_there_are():
    found = estimate(strata(("0001", "A", 900, 500, 500, 200), draw="triggered"), made_by="hq")
    assert (found.reason, found.upper, found.covered) == ("triggered", None, None)


def test_a_branch_without_completions_is_listed_and_the_others_speak_for_themselves():
    rows = [("0001", "A", 600, 60, 50, 2), ("0001", "B", 300, 30, 1, 0), ("0002", "A", 100, 10, 0, 0)]
    found = estimate(strata(*rows), made_by="branch", silent_periods=["2026-01"])
    assert (found.reason, found.strata) == ("strata_without_completions", ("0002/A",))
    assert found.covered == estimate(strata(*rows[:2]), made_by="branch", silent_periods=["2026-01"])
    assert (found.customers, found.covered.customers) == (1000, 900)
    assert "2026-01" in describe(found, "en")
    assert "strata without one: 1 (0002/A)" in describe(found, "en")
    more = [(f"01{branch:02}", "A", 100, 10, 0, 0) for branch in range(9)]
    assert "0103/A、…）" in describe(estimate(strata(*rows, *more), made_by="branch"), "zh_CN")


@pytest.mark.parametrize(
    ("completed", "reason"), [(0, "nobody_answered"), (1, "few_completions"), (29, "few_completions")]
)
def test_below_thirty_completions_there_is_no_rate(completed, reason):
    found = estimate(strata(("0001", "A", 900, 60, completed, 0)), made_by="hq")
    assert (found.reason, found.completed) == (reason, completed)
    assert isinstance(estimate(strata(("0001", "A", 900, 60, 30, 0)), made_by="hq"), Estimate)


# ---- strata with fewer than 2 completions -------------------------------------------------------------------


def joined(*rows):
    return [one.strata for one in estimate(strata(*rows), made_by="hq").collapsed]


def test_a_sparse_stratum_joins_the_smallest_other_of_its_group():
    big = ("0001", "A", 500, 50, 40, 2)
    assert joined(big, ("0001", "B", 90, 9, 1, 0), ("0001", "C", 80, 8, 8, 0)) == [("0001/B", "0001/C")]
    assert joined(big, ("0001", "C", 80, 8, 8, 0), ("0001", "B", 80, 9, 8, 0), ("0001", "D", 70, 1, 0, 0)) == [
        ("0001/B", "0001/D")
    ]  # a tie goes to the smaller key
    assert joined(big, ("0001", "B", 20, 2, 1, 0), ("0001", "C", 30, 3, 0, 0), ("0001", "D", 99, 9, 9, 0)) == [
        ("0001/B", "0001/C", "0001/D")
    ]
    assert joined(("0001", "A", 9000, 40, 1, 0), ("0001", "B", 90, 40, 40, 2), ("0002", "A", 5, 5, 5, 0)) == [
        ("0001/A", "0001/B")
    ]


def test_a_group_with_one_completion_joins_another_and_one_with_none_does_not():
    rows = [
        ("0001", "A", 500, 50, 40, 2),
        ("0001", "B", 70, 7, 7, 0),
        ("0002", "A", 90, 9, 1, 1),
        ("0003", "A", 80, 8, 0, 0),
    ]
    found = estimate(strata(*rows), made_by="branch")
    assert found.strata == ("0003/A",)
    assert [one.strata for one in found.covered.collapsed] == [("0001/B", "0002/A")]
    assert found.covered.rate == pytest.approx((500 * 2 / 40 + 160 * 1 / 8) / 660, abs=1e-9)


# ---- properties ---------------------------------------------------------------------------------------------


@st.composite
def any_strata(draw):
    rows = []
    for at in range(draw(st.integers(1, 6))):
        customers = draw(st.integers(40, 3000))
        taken = draw(st.integers(31, customers))
        completed = draw(st.integers(0 if at else 30, taken))
        found = draw(st.integers(0, completed))
        rows.append(
            (draw(st.sampled_from(["0001", "0002"])) if at else "0001", f"S{at}", customers, taken, completed, found)
        )
    return rows


@given(rows=any_strata(), limits=st.sampled_from(["wilson", "clopper_pearson"]), order=st.randoms())
def test_an_estimate_lies_between_its_limits_and_its_worst_cases_and_knows_no_order(rows, limits, order):
    found = estimate(strata(*rows), made_by="hq", limits=limits)
    shuffled = order.sample(rows, len(rows))
    assert estimate(strata(*shuffled), made_by="hq", limits=limits) == found
    said = found if isinstance(found, Estimate) else found.covered
    assert 0 <= said.lower <= said.rate + 1e-9
    assert said.rate <= said.upper + 1e-9 <= 1 + 1e-8
    assert said.worst_lower <= said.rate + 1e-9
    assert said.rate <= said.worst_upper + 1e-9
    assert said.assumption in ASSUMPTIONS
    if said.effective_size is not None:
        unequal = sum((n / said.customers) ** 2 * (1 - done / n) / done for _, _, n, _, done, _ in rows if done)
        if not said.collapsed and said.method != "kish_upper" and unequal:
            assert said.effective_size <= 1 / unequal + 1e-6


@given(rows=any_strata())
def test_clear_and_with_finding_are_each_others_mirror(rows):
    mirrored = [(g, s, n, taken, done, done - found) for g, s, n, taken, done, found in rows]
    this, that = (estimate(strata(*each), made_by="hq") for each in (rows, mirrored))
    this, that = (found if isinstance(found, Estimate) else found.covered for found in (this, that))
    assert this.rate + that.rate == pytest.approx(1, abs=1e-8)
    assert this.standard_error == that.standard_error
    assert this.worst_lower + that.worst_upper == pytest.approx(1, abs=1e-8)
    if this.method == that.method == "wilson":
        assert this.lower + that.upper == pytest.approx(1, abs=1e-8)


# ---- simulations --------------------------------------------------------------------------------------------

POPULATION = {  # customers, of these with a finding, taken, share that answers
    "A": (2400, 48, 192, 0.85),
    "B": (900, 45, 135, 0.70),
    "C": (500, 40, 125, 0.60),
    "D": (200, 24, 100, 0.90),
}


def draw_and_call(seed: int) -> pd.DataFrame:
    """One year: the smallest tickets of each stratum are taken (rule 8), and some of them answer, whatever they would say."""
    rows = []
    for key, (customers, guilty, taken, answers) in POPULATION.items():
        tickets = sorted((sha256(f"{seed}:{key}{i:04d}".encode()).digest(), i) for i in range(customers))
        done = [i for ticket, i in tickets[:taken] if sha256(ticket).digest()[0] < 256 * answers]
        rows.append(("0001", key, customers, taken, len(done), sum(i < guilty for i in done)))
    return strata(*rows)


@pytest.mark.long
def test_over_four_hundred_draws_the_estimate_is_unbiased_and_its_limits_cover():
    truth = sum(guilty for _, guilty, _, _ in POPULATION.values()) / sum(n for n, _, _, _ in POPULATION.values())
    found = [estimate(draw_and_call(seed), made_by="hq") for seed in range(400)]
    rates = [one.rate for one in found]
    noise = sqrt(pvariance(rates) / len(rates))
    assert abs(fmean(rates) - truth) < 3 * noise
    assert fmean(one.standard_error**2 for one in found) == pytest.approx(pvariance(rates), rel=0.2)
    covering = fmean(one.lower <= truth <= one.upper for one in found)
    assert 0.93 <= covering <= 0.99
    # The unweighted share of the same calls is not what the customers are like.
    unweighted = [one.with_finding / one.completed for one in found]
    assert fmean(unweighted) - truth > 20 * noise


def test_pooling_coverage_rows_says_four_point_seven_for_three_point_seven_percent():
    # 50 marketers developed 2,000 of 10,000 customers; of theirs 8.5 % have a finding, of the others 2.5 %.
    guilty = {*range(170), *range(2000, 2200)}
    truth, base, pooled = len(guilty) / 10_000, [], []
    for seed in range(200):
        chance = Random(seed)
        taken = chance.sample(range(10_000), 1000)
        covered = {
            customer
            for marketer in range(50)
            for customer in chance.sample(range(40 * marketer, 40 * marketer + 40), 6)
        }
        both = {*taken, *covered}
        for calls, into in ((taken, base), (both, pooled)):
            into.append(
                estimate(
                    strata(("0001", "*", 10_000, len(calls), len(calls), len(guilty & {*calls}))), made_by="branch"
                ).rate
            )
    noise = sqrt(pvariance(base) / len(base))
    assert truth == 0.037
    assert abs(fmean(base) - truth) < 3 * noise
    assert round(fmean(pooled), 3) == 0.047
    assert fmean(pooled) - truth > 10 * noise


def test_an_effective_size_from_the_variance_alone_would_miss_the_truth_half_the_time():
    # docs/decisions/0014: a large branch with few calls and findings, a small one that was called much.
    large, small, chance = (9900, 99, 70), (100, 30, 50), Random(14)
    truth, plain, ours, runs = 129 / 10_000, 0, 0, 300
    for _ in range(runs):
        a, b = (sum(i < guilty for i in chance.sample(range(n), calls)) for n, guilty, calls in (large, small))
        found = estimate(strata(("0001", "A", 9900, 70, 70, a), ("0002", "A", 100, 50, 50, b)), made_by="hq")
        ours += found.lower <= truth <= found.upper
        lower, upper = wilson(found.rate, found.rate * (1 - found.rate) / found.standard_error**2)
        plain += lower <= truth <= upper
    assert plain / runs < 0.6
    assert ours / runs >= 0.93


# ---- words --------------------------------------------------------------------------------------------------


def test_what_branches_find_is_called_reported_and_what_headquarters_find_is_not():
    rows = strata(("0001", "A", 1000, 100, 80, 2))
    for made_by, is_reported in (("branch", True), ("both", True), ("hq", False)):
        found = estimate(rows, made_by=made_by)
        assert found.is_reported is is_reported
        assert ("自报" in describe(found, "zh_CN")) is is_reported
        assert ("report" in describe(found, "en")) is is_reported


def test_the_sentence_has_limits_response_assumption_and_worst_cases_beside_the_number():
    found = estimate(
        strata(("0001", "A", 1000, 100, 80, 2), ("0001", "B", 500, 50, 1, 0), ("0001", "C", 30, 3, 3, 0)),
        made_by="branch",
        violation="password_known",
        silent_periods=["2026-01", "2026-02"],
    )
    assert describe(found, "zh_CN") == (
        "全公司应访客户中有疑似违规“获知密码”的自报比例估计为 1.6%（95% Wilson 置信区间 0.16% 至 14.5%）；"
        "已抽取 153 户、完成 84 户（应答率 54.9%），其中 2 户有疑似违规“获知密码”；"
        "假定同一层内未完成回访的客户与已完成的客户情况相同（层内随机缺失）；"
        "最坏情形：未完成者（含尚未返回）全部无异常为 1.3%，全部有发现为 46.4%；由营业部回访，自报的偏差不在上述误差之内；"
        "因完成不足 2 户而合并的层：2 个；2026-01、2026-02 无人完成，仅就这些期次不可估计。"
    )
    assert describe(found, "en") == (
        "of all eligible customers of the company an estimated 1.6% have a suspected violation (Password known to staff), as "
        "branches report it (95% Wilson limits 0.16% to 14.5%); 153 drawn, 84 completed (response rate 54.9%), 2 of them with a "
        "finding; assuming that within a stratum the customers not reached are like those who were (missing at random within "
        "the stratum); worst cases: 1.3% if everyone not completed (or not returned yet) is clear, 46.4% if everyone has a "
        "finding; called by branches, and the bias of reports about oneself lies outside these limits; strata taken together "
        "for want of 2 completions: 2; nobody's callback was completed in 2026-01, 2026-02: of these alone nothing can be estimated."
    )


def test_every_refusal_says_not_estimable_and_why_in_both_languages():
    refused = [
        estimate(strata(("0001", "A", 900, 60, 20, 0)), made_by="hq"),
        estimate(strata(("0001", "A", 900, 60, 0, 0)), made_by="hq"),
        estimate(strata(("0001", "A", 900, 0, 0, 0)), made_by="hq"),
        estimate(strata(("0001", "A", 900, 60, 60, 0), draw="coverage"), made_by="hq"),
        estimate(strata(("0001", "A", 900, 60, 60, 0), draw="triggered"), made_by="hq"),
        estimate(strata(("0001", "A", 900, 60, 60, 0), ("0002", "A", 9, 6, 0, 0)), made_by="hq"),
    ]
    assert {found.reason for found in refused} == set(REASONS)
    for found in refused:
        assert describe(found, "zh_CN").startswith(f"不可估计：{REASONS[found.reason].zh}；")
        assert describe(found, "en").startswith(f"not estimable: {REASONS[found.reason].en}; ")
        assert not any("\u2e80" <= letter <= "\uffef" for letter in describe(found, "en"))


@pytest.mark.parametrize("violation", ["", *VIOLATIONS])
def test_a_kind_without_finding_has_an_upper_limit_on_kishs_size(violation):
    rows = strata(("0001", "A", 900, 90, 60, 0), ("0001", "B", 100, 90, 60, 0))
    found = estimate(rows, made_by="hq", violation=violation)
    assert (found.method, found.rate, found.lower) == ("kish_upper", 0, 0)
    assert found.effective_size == pytest.approx(1 / (0.81 / 60 + 0.01 / 60), abs=1e-6)
    assert found.upper == pytest.approx(1 - 0.05 ** (1 / found.effective_size), abs=1e-9)
    assert percent(found.upper) in describe(found, "en")
