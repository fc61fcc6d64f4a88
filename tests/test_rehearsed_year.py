"""The months of a dry run, counted by hand and by a second reading of the rules; nothing is read or pulled here."""

from datetime import date
from fractions import Fraction
from math import ceil, floor

import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from models.calendar import official, period
from models.campaign import pace_of
from models.frame import FrameError
from models.programme import Programme, UnknownProgramme
from models.rehearsal import Month, Rehearsal, versions_of_year
from models.sampling import goal
from tasks.settings import PROJECT

DAILY, CONDUCT = (
    yaml.safe_load((PROJECT / "programmes" / f"{name}.yaml").read_text(encoding="utf-8"))
    for name in ("daily_risk", "marketer_conduct")
)
CALENDAR = official()
WORKDAYS = [
    len(CALENDAR.workdays(period(f"2026-{month:02}").first, period(f"2026-{month:02}").last)) for month in range(1, 13)
]
CHAIN = {"kind": "chain", "public": {"name": {"zh_CN": "指数", "en": "index"}, "available_at": "15:30"}}


def programme(base=DAILY, /, **changes):
    return Programme.model_validate(base | changes)


def rated(rate):
    return DAILY["goal"] | {"rate": rate}


def cells(*rows):
    """customers, then group and stratum of each view."""
    views = (len(rows[0]) - 1) // 2
    names = ["customers", *(f"{name}_{view}" for view in range(views) for name in ("group", "stratum"))]
    return pd.DataFrame(list(rows), columns=names)


def owed(*rows):
    """group, branch, eligible, goal, and a reason where there is one."""
    columns = ["group_key", "branch_no", "eligible", "goal", "reason"]
    return pd.DataFrame([(*row, "")[:5] for row in rows], columns=columns).astype(
        {"group_key": "str", "branch_no": "str", "reason": "str"}
    )


def month(number, rules, debts, *, view=0):
    span = period(f"2026-{number:02}")
    first = CALENDAR.on_or_after(span.first)
    return Month(span, rules, pace_of(rules, span, CALENDAR, first), first, view, debts, {})


def play(rules, debts, made, *, completion="0.80", months=range(1, 13)):
    rehearsal = Rehearsal(made, Fraction(completion), CALENDAR)
    for number in months:
        rehearsal.play(month(number, rules, debts))
    return rehearsal.end()


# ---- a second reading of the rules -----------------------------------------------------------------------------


def by_the_page(customers, rate, reserve, capacity, completion):
    """Places, moved up and completed of each month of one branch with one stratum: rules 2, 6 and 9."""
    owes, done, failed, left, told = ceil(Fraction(rate) * customers), 0, 0, customers, []
    for at, days in enumerate(WORKDAYS):
        p = Fraction(done + 10, done + failed + 20)
        share = ceil(Fraction(max(0, owes - done) * days, sum(WORKDAYS[at:])))
        places = min(ceil(share / p), 3 * share, capacity, left)
        waiting, spare, this_month, ring, moved = 0, min(left - places, ceil(Fraction(reserve) * places)), 0, places, 0
        while ring:
            before = done + failed
            completed = floor(Fraction(completion) * (before + ring)) - floor(Fraction(completion) * before)
            done, failed, this_month = done + completed, failed + ring - completed, this_month + completed
            waiting += ring - completed
            left -= ring
            ring = max(0, min(waiting, spare, share - this_month))
            waiting, spare, moved = waiting - ring, spare - ring, moved + ring
        told.append((places, moved, this_month))
    return told


@pytest.mark.parametrize("completion", ["0", "0.25", "0.80", "1"])
@pytest.mark.parametrize(
    ("customers", "rate", "reserve", "capacity"),
    [(1000, "0.10", "0.5", 400), (37, "0.10", "1", 400), (1, "0.10", "0.5", 9), (400, "1", "0.2", 30), (90, "0.5", "0.1", 4)],
)
def test_a_branch_with_one_stratum_goes_through_the_year_as_the_page_says(customers, rate, reserve, capacity, completion):
    rules = programme(goal=rated(rate), strata=[], reserve=reserve, capacity=capacity)
    debts = owed(("0001", "0001", customers, goal(rate, customers)))
    played = play(rules, debts, cells((customers, "0001", "*")), completion=completion)
    found = list(played.months[["places", "moved_up", "completed"]].itertuples(index=False, name=None))
    assert found == by_the_page(customers, rate, reserve, capacity, completion)


@pytest.mark.long
@profile(max_examples=12, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 90), min_size=1, max_size=4),
    completion=st.sampled_from(["0", "0.3", "0.80", "1"]),
    rate=st.sampled_from(["0.10", "0.33", "1"]),
    capacity=st.integers(1, 40),
)
def test_nobody_is_taken_twice_and_every_call_is_completed_or_failed(sizes, completion, rate, capacity):
    rules = programme(goal=rated(rate), capacity=capacity)
    made = cells(*((size, "0001", f"s{n}") for n, size in enumerate(sizes)))
    played = play(rules, owed(("0001", "0001", sum(sizes), goal(rate, sum(sizes)))), made, completion=completion)
    months, (end,) = played.months, played.ends.to_dict("records")
    assert (months["calls"] == months["places"] + months["moved_up"]).all()
    assert (months["calls"] == months["completed"] + months["failed"]).all()
    assert end["calls"] + end["left"] == sum(sizes)
    assert list(months["completed"].cumsum()) == [floor(Fraction(completion) * int(n)) for n in months["calls"].cumsum()]
    assert end["shortfall"] == max(0, end["goal"] - end["completed"])
    assert (months["places"] <= capacity).all()


def test_where_nobody_answers_until_november_the_year_ends_short_and_is_not_stopped():
    rules = programme(strata=[], capacity=40)
    played = play(rules, owed(("0001", "0001", 1000, 100)), cells((1000, "0001", "*")), completion="0")
    assert not played.is_fine
    assert played.ends["shortfall"].tolist() == [100]
    assert played.months["places"].tolist()[-1] == 40


# ---- capacity --------------------------------------------------------------------------------------------------


def test_headquarters_calls_no_more_on_a_workday_than_it_can_and_the_rest_falls_short():
    rules = programme(caller="hq", capacity={"per_workday": 2}, strata=[], due_workdays=30)
    debts = owed(("0001", "0001", 9000, 900), ("0002", "0002", 3000, 300))
    played = play(rules, debts, cells((9000, "0001", "*"), (3000, "0002", "*")))
    by_month = played.months.groupby("period")["places"].sum()
    assert (by_month <= 2 * pd.Series(WORKDAYS, index=by_month.index)).all()
    assert set(played.days["desk"]) == {"HQ"}
    assert played.days["calls"].max() == 2
    assert set(played.months["reason"]) == {"capacity"}
    assert set(played.ends["reason"]) == {"capacity"}


def test_what_the_days_until_the_due_date_cannot_hold_falls_due_later():
    rules = programme(capacity={"per_workday": 3}, strata=[], due_workdays=5)
    played = play(rules, owed(("0001", "0001", 3000, 300)), cells((3000, "0001", "*")))
    assert played.postponed["2026-01"] > 0
    assert played.days["calls"].max() == 3


def test_a_month_of_no_weight_has_no_calls():
    plan = {"by": "weights", "weights": [1, 1, 1, 0, 0, 0, 1, 1, 1, 1, 1, 1]}
    played = play(programme(monthly_plan=plan, strata=[]), owed(("0001", "0001", 1000, 100)), cells((1000, "0001", "*")))
    calls = dict(zip(played.months["period"], played.months["calls"], strict=True))
    assert [calls[f"2026-0{month}"] for month in (4, 5, 6)] == [0, 0, 0]
    assert played.is_fine


# ---- a change within the year ----------------------------------------------------------------------------------


def test_a_plan_changed_in_june_counts_what_was_done_as_it_codes_it():
    first, second = programme(), programme(version=2, valid_from=date(2026, 6, 1), goal=rated("0.20"))
    made = cells((600, "0001", "A", "0001", "A"), (400, "0001", "A", "0001", "C"), (500, "0002", "A", "", ""))
    rehearsal = Rehearsal(made, Fraction(1), CALENDAR)
    before = owed(("0001", "0001", 1000, 100), ("0002", "0002", 500, 50))
    for number in range(1, 6):
        rehearsal.play(month(number, first, before))
    done = rehearsal.end().ends.set_index("group_key")["completed"].to_dict()
    for number in range(6, 13):
        rehearsal.play(month(number, second, owed(("0001", "0001", 1000, 200)), view=1))
    played = rehearsal.end()
    (end,) = played.ends.to_dict("records")
    assert end["group_key"] == "0001"  # the other branch is outside the plan in force
    assert 200 <= end["completed"] <= 201
    later = played.months[played.months["period"] >= "2026-06"]
    assert set(later["group_key"]) == {"0001"}
    assert done["0001"] + later["completed"].sum() == end["completed"]  # nothing is given back, nothing counted anew
    june = later[later["period"] == "2026-06"].iloc[0]
    assert june["share"] == ceil(Fraction((200 - done["0001"]) * WORKDAYS[5], sum(WORKDAYS[5:])))


REFUSED = {
    "an older version that comes back": (
        [programme(), programme(version=2, valid_from=date(2026, 3, 1), valid_to=date(2026, 8, 31))],
        "needs a higher version",
    ),
    "another kind of goal": (
        [
            programme(valid_to=date(2026, 5, 31)),
            programme(CONDUCT, programme="daily_risk", version=2, valid_from=date(2026, 6, 1)),
        ],
        "changes from rate to coverage with 2026-06",
    ),
    "seeds from elsewhere": (
        [programme(), programme(version=2, valid_from=date(2026, 6, 1), seed=CHAIN)],
        "where seeds come from",
    ),
}


@pytest.mark.parametrize("change", REFUSED)
def test_a_change_that_the_draw_refuses_within_the_year_is_refused_before_it(change):
    files, words = REFUSED[change]
    with pytest.raises(FrameError, match=words):
        versions_of_year(files, "daily_risk", 2026)


def test_each_month_has_the_version_of_its_first_day_and_one_without_is_left_out():
    files = [
        programme(valid_from=date(2026, 2, 15), valid_to=date(2026, 10, 31)),
        programme(version=2, valid_from=date(2026, 6, 2)),
    ]
    used = {name: rules.version for name, rules in versions_of_year(files, "daily_risk", 2026).items()}
    assert list(used) == [f"2026-{number:02}" for number in range(3, 13)]
    assert [used[name] for name in ("2026-06", "2026-07", "2026-11")] == [1, 2, 2]
    with pytest.raises(UnknownProgramme, match="does not hold"):
        versions_of_year(files, "daily_risk", 2025)


# ---- marketers -------------------------------------------------------------------------------------------------


def test_every_reason_why_a_marketer_is_not_covered_is_told_apart():
    rules = programme(CONDUCT, capacity=1, reserve="0.5")
    people = {"one": 1, "six": 6, "many": 60}
    debts = owed(
        *((name, "0001", size, min(6, size)) for name, size in people.items()),
        ("shut", "0001", 0, 0, "excluded"),
        ("new", "0001", 0, 0, "no_customers"),
    )
    made = cells(*((size, name, name) for name, size in people.items()))
    reasons = {
        completion: play(rules, debts, made, completion=completion).ends.set_index("group_key")["reason"].to_dict()
        for completion in ("1", "0.5", "0")
    }
    fixed = {"one": "few_customers", "shut": "excluded", "new": "no_customers"}
    assert reasons["1"] == fixed | {"six": "", "many": ""}
    assert reasons["0.5"] == fixed | {"six": "exhausted", "many": ""}
    assert reasons["0"] == fixed | {"six": "exhausted", "many": "capacity"}


def test_a_customer_who_changes_his_developer_counts_for_whoever_he_was_called_for():
    rules = programme(CONDUCT)
    made = cells((8, "s1", "s1", "s2", "s2"), (2, "s1", "s1", "s1", "s1"))
    rehearsal = Rehearsal(made, Fraction(1), CALENDAR)
    for number in range(1, 7):
        rehearsal.play(month(number, rules, owed(("s1", "0001", 10, 6), ("s2", "0001", 0, 0, "no_customers"))))
    for number in range(7, 13):
        rehearsal.play(month(number, rules, owed(("s1", "0001", 2, 2), ("s2", "0001", 8, 6)), view=1))
    ends = rehearsal.end().ends.set_index("group_key")
    assert ends["completed"].to_dict() == {"s1": 4, "s2": 6}  # three each by June; s1 has one customer left, s2 six
    assert ends["reason"].to_dict() == {"s1": "few_customers", "s2": ""}


@pytest.mark.parametrize(("per_year", "completion"), [(6, "0.5"), (2, "1")])
def test_a_marketer_is_dealt_the_same_whether_others_are_like_him_or_not(per_year, completion):
    counts = [(4, 3), (9, 0), (1, 0)]
    rules = programme(CONDUCT, goal=CONDUCT["goal"] | {"calls_per_year": per_year}, capacity=3)
    made, debts = [], []
    for number, (eligible, moving) in enumerate(counts * 2):
        name = f"m{number}"
        made += [(eligible, name, name, name, name), *([(moving, name, name, "", "")] if moving else [])]
        debts.append((name, f"000{number % 3}", eligible + moving, min(per_year, eligible + moving)))

    def ends(rows, owes):
        rehearsal = Rehearsal(cells(*rows), Fraction(completion), CALENDAR)
        for at in (1, 2, 7, 12):
            rehearsal.play(month(at, rules, owed(*owes), view=at // 7))
        found = rehearsal.end()
        return found.months.set_index(["group_key", "period"]), found.ends.set_index("group_key")

    months, all_ends = ends(made, debts)
    for debt in debts:
        own_months, own_ends = ends([row for row in made if row[1] == debt[0]], [debt])
        assert months.loc[[debt[0]]].equals(own_months)
        assert all_ends.loc[[debt[0]]].equals(own_ends)


def test_branches_that_are_alike_are_dealt_alike_and_each_by_its_own_strata():
    rules = programme(minimum=1)
    made = [
        (n, branch, stratum) for branch in ("0001", "0002", "0003") for n, stratum in ((80, "private"), (300, "retail"))
    ]
    made += [(380, "0004", "*")]
    debts = owed(*((branch, branch, 380, 38) for branch in ("0001", "0002", "0003", "0004")))
    found = play(rules, debts, cells(*made)).months
    rest = found.drop(columns=["group_key", "branch_no"]).groupby(found["group_key"])
    first = rest.get_group("0001").reset_index(drop=True)
    for branch in ("0002", "0003"):
        assert rest.get_group(branch).reset_index(drop=True).equals(first)
    assert set(found["branch_no"]) == {"0001", "0002", "0003", "0004"}
    assert found["branch_no"].eq(found["group_key"]).all()
