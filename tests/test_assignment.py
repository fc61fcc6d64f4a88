import csv
import itertools
import time
from collections import Counter
from datetime import date, timedelta
from fractions import Fraction
from io import StringIO
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.assignment import (
    CHOSEN,
    AssignmentError,
    active_staff,
    branch_on,
    choose_callers,
    conflicts,
    earliest_call,
    hand_over,
    joined_calls,
    spread_days,
)
from models.calendar import MissingCalendar, official

SCENARIOS = Path(__file__).parent / "scenarios"
CALENDAR = official()
MONDAY = date(2026, 3, 2)
WORKDAYS = CALENDAR.workdays(MONDAY, date(2026, 6, 30))


def table(text: str) -> pd.DataFrame:
    return pd.read_csv(StringIO(text), dtype="str", keep_default_na=False, skipinitialspace=True).map(str.strip)


def dated(text: str) -> pd.DataFrame:
    """A table whose empty dates are missing, as the lake hands them on."""
    found = table(text)
    for column in ("valid_from", "valid_to"):
        found[column] = found[column].replace("", None).astype("datetime64[s]")
    return found


def frame(columns: str, rows: list[tuple]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=columns.split(), dtype="str")


def planned_calls(calls: list[tuple[str, str, str, str]]) -> pd.DataFrame:
    return frame("customer_id branch_no caller caller_id", calls)


def by_customer(found: pd.DataFrame, column: str) -> dict:
    return dict(zip(found["customer_id"], found[column], strict=True))


# ---- scenarios ----------------------------------------------------------------------------------------------


def read_scenarios(name: str) -> dict[str, list[dict[str, str]]]:
    scenarios: dict[str, list[dict[str, str]]] = {}
    with (SCENARIOS / name).open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            scenarios.setdefault(row["scenario"], []).append(row)
    return scenarios


def dates(text: str) -> dict[date, int]:
    pairs = (pair.split("=") for pair in text.split())
    return {date.fromisoformat(day): int(count) for day, count in pairs}


GIVEN, EXPECTED = read_scenarios("spread_input.csv"), read_scenarios("spread_expected.csv")


def test_every_scenario_has_an_expected_row_for_each_of_its_customers():
    def customers(rows):
        return sorted(row["customer_id"] for row in rows)

    assert {name: customers(GIVEN[name]) for name in GIVEN} == {name: customers(EXPECTED[name]) for name in EXPECTED}


@pytest.mark.parametrize("scenario", GIVEN)
def test_a_scenario_of_callers_and_days_comes_out_as_written(scenario):
    rows, head = GIVEN[scenario], GIVEN[scenario][0]
    first, due_workdays = date.fromisoformat(head["first"]), int(head["due_workdays"])
    customers = frame("customer_id branch_no", [(row["customer_id"], row["branch_no"]) for row in rows])
    callers = [
        (staff_id, row["branch_no"] if row["caller"] == "branch" else "HQ")
        for row in rows
        for staff_id in row["callers"].split()
    ]
    barred = [(row["customer_id"], staff_id) for row in rows for staff_id in row["developed_or_served_by"].split()]
    contacts = [(row["customer_id"], row["last_contact_on"]) for row in rows if row["last_contact_on"]]
    earliest = earliest_call(
        customers["customer_id"],
        frame("customer_id contacted_on", contacts),
        CALENDAR,
        window_days=int(head["window_days"] or 0),
        first=first,
        year_end=date(first.year, 12, 31),
    )
    may_be_called = earliest[earliest["reason"] == ""]
    chosen = choose_callers(
        customers[customers["customer_id"].isin(may_be_called["customer_id"])],
        frame("staff_id branch_no", callers).drop_duplicates(),
        frame("customer_id staff_id", barred),
        {},
        caller=head["caller"],
    )
    days = spread_days(
        chosen[["customer_id", "branch_no", "caller", "caller_id"]],
        CALENDAR,
        first=first,
        due_workdays=due_workdays,
        per_workday={row["branch_no"]: int(row["per_workday"]) for row in rows} | {"HQ": int(head["hq_per_workday"])},
        load={(row["branch_no"], day): n for row in rows for day, n in dates(row["booked"]).items()},
        not_before=by_customer(may_be_called, "not_before"),
        year_end=date(first.year, 12, 31),
    )
    reasons = by_customer(earliest, "reason") | by_customer(chosen, "reason")
    found = chosen.drop(columns="reason").merge(days, on="customer_id").set_index("customer_id").to_dict("index")
    for row in EXPECTED[scenario]:
        call = found.get(row["customer_id"], {})
        got = {key: str(call.get(key, "")) for key in ("caller", "caller_id", "call_on", "due_on")}
        got["postponed"] = "yes" if call.get("is_postponed") else ""
        assert got | {"reason": reasons[row["customer_id"]]} == {
            key: row[key] for key in ("caller", "caller_id", "call_on", "due_on", "postponed", "reason")
        }, row["customer_id"]


# ---- callers ------------------------------------------------------------------------------------------------


def test_a_relation_counts_on_its_first_and_last_day_and_without_an_end_for_ever():
    relations = dated(
        """customer_id,staff_id,kind,valid_from,valid_to
        c1,s1,developer,2026-03-02,2026-03-31
        c1,s1,server,2026-03-10,
        c2,s2,server,2020-01-01,
        """
    )
    assert conflicts(relations, date(2026, 3, 1)).values.tolist() == [["c2", "s2"]]
    assert conflicts(relations, date(2026, 3, 2)).values.tolist() == [["c1", "s1"], ["c2", "s2"]]
    assert len(conflicts(relations[relations["kind"] == "developer"], date(2026, 3, 31))) == 1
    assert len(conflicts(relations[relations["kind"] == "developer"], date(2026, 4, 1))) == 0
    assert len(conflicts(relations.iloc[:0], MONDAY)) == 0


def test_only_staff_of_the_kind_caller_call_and_only_while_they_are_there():
    staff = dated(
        """staff_id,branch_no,kind,valid_from,valid_to
        s1,1001,caller,,
        s2,1001,caller,2026-03-03,
        s3,1001,caller,,2026-03-01
        s4,1001,broker,,
        s5,HQ,caller,2026-03-02,2026-03-02
        """
    )
    assert active_staff(staff, ["caller"], MONDAY).values.tolist() == [["s1", "1001"], ["s5", "HQ"]]


def test_a_branch_without_named_callers_decides_itself():
    chosen = choose_callers(
        frame("customer_id branch_no", [("c1", "1001")]),
        frame("staff_id branch_no", [("s1", "1002")]),
        frame("customer_id staff_id", [("c1", "s1")]),
        {},
    )
    assert chosen.values.tolist() == [["c1", "1001", "branch", "", ""]]


def test_the_least_loaded_caller_takes_the_next_call():
    chosen = choose_callers(
        frame("customer_id branch_no", [(f"c{n}", "1001") for n in range(5)]),
        frame("staff_id branch_no", [("s1", "1001"), ("s2", "1001")]),
        frame("customer_id staff_id", []),
        {"s1": 3, "s9": 7},
    )
    assert Counter(chosen["caller_id"]) == {"s2": 4, "s1": 1}


def test_an_earlier_choice_is_changed_where_the_spread_would_suffer():
    # One by one, a would take s2 and leave b only callers who have a call already, while s3 has none.
    chosen = choose_callers(
        frame("customer_id branch_no", [("a", "1"), ("b", "1")]),
        frame("staff_id branch_no", [("s1", "1"), ("s2", "1"), ("s3", "1"), ("s4", "1")]),
        frame("customer_id staff_id", [("a", "s1"), ("b", "s3")]),
        {"s1": 1, "s4": 1},
    )
    assert by_customer(chosen, "caller_id") == {"a": "s3", "b": "s2"}


STAFF = ["s1", "s2", "s3", "s4"]


@st.composite
def branches_with_conflicts(draw):
    branches = draw(st.lists(st.sampled_from(["1001", "1001", "1001", "1002"]), max_size=6))
    calls = [(f"c{n}", branch) for n, branch in enumerate(branches)]
    staff = [(staff_id, draw(st.sampled_from(["1001"] * 5 + ["HQ", "1002", "1003"]))) for staff_id in STAFF]
    kept_off = st.sets(st.sampled_from([*STAFF, "s9"]), max_size=4)
    barred = [(customer, staff_id) for customer, _ in calls for staff_id in sorted(draw(kept_off))]
    load = draw(st.dictionaries(st.sampled_from(STAFF), st.integers(0, 2)))
    return calls, staff, barred, load


def choose(calls, staff, barred, load, caller="branch"):
    return choose_callers(
        frame("customer_id branch_no", calls),
        frame("staff_id branch_no", staff),
        frame("customer_id staff_id", barred),
        load,
        caller=caller,
    )


@settings(deadline=None)
@given(branches_with_conflicts(), st.sampled_from(["branch", "hq"]), st.randoms(use_true_random=False))
def test_the_choice_does_not_depend_on_the_order_of_rows(given_rows, caller, chance):
    calls, staff, barred, load = given_rows
    expected = choose(calls, staff, barred, load, caller)
    for rows in (calls, staff, barred):
        chance.shuffle(rows)
    pd.testing.assert_frame_equal(choose(calls, staff, barred, load, caller), expected)


@settings(deadline=None)
@given(branches_with_conflicts(), st.sampled_from(["branch", "hq"]))
def test_nobody_calls_whom_he_developed_or_serves_and_headquarters_steps_in_only_where_nobody_is_left(rows, caller):
    calls, staff, barred, load = rows
    chosen = choose(calls, staff, barred, load, caller)
    assert sorted(chosen["customer_id"]) == sorted(customer for customer, _ in calls)
    for call in chosen.to_dict("records"):
        desk = "HQ" if caller == "hq" else call["branch_no"]
        named = {staff_id for staff_id, branch in staff if branch == desk}
        free = {staff_id for staff_id in named if (call["customer_id"], staff_id) not in barred}
        assert call["caller_id"] in (free or {""})
        assert (call["reason"] == "recusal") == bool(named and not free)
        assert call["caller"] == ("hq" if call["reason"] else caller)


@settings(deadline=None)
@given(branches_with_conflicts())
def test_without_conflicts_the_loads_within_a_branch_differ_by_one_at_most(rows):
    calls, staff, _, _ = rows
    given_to = Counter(choose(calls, staff, [], {})["caller_id"])
    for branch in {branch for _, branch in staff}:
        loads = [given_to[staff_id] for staff_id, at in staff if at == branch]
        assert max(loads) - min(loads) <= 1


@settings(deadline=None, max_examples=300)
@given(branches_with_conflicts())
def test_no_other_choice_has_more_even_loads(rows):
    calls, staff, barred, load = rows
    calls = [(customer, "1001") for customer, _ in calls]
    staff = [(staff_id, "1001") for staff_id, _ in staff]
    free = [[s for s, _ in staff if (customer, s) not in barred] for customer, _ in calls]
    chosen = Counter(c for c in choose(calls, staff, barred, load)["caller_id"] if c)

    def unevenness(given_to):
        return sum((load.get(s, 0) + given_to[s]) ** 2 for s, _ in staff)

    every_choice = itertools.product(*(options for options in free if options))
    assert unevenness(chosen) == min(unevenness(Counter(choice)) for choice in every_choice)


# ---- days ---------------------------------------------------------------------------------------------------


def test_calls_beyond_what_capacity_places_run_on_and_fall_due_on_their_day():
    calls = planned_calls([(f"c{n}", "1001", "branch", "") for n in range(7)])
    days = spread_days(
        calls, CALENDAR, first=MONDAY, due_workdays=1, per_workday={"1001": 2}, load={}, not_before={}
    )  # fmt: skip
    assert [str(day) for day in days["call_on"]] == [f"2026-03-0{n}" for n in (2, 2, 3, 3, 4, 4, 5)]
    assert [str(day) for day in days["due_on"]] == [f"2026-03-0{n}" for n in (3, 3, 3, 3, 4, 4, 5)]
    assert days["is_postponed"].sum() == 3


def test_calls_that_run_into_a_year_without_a_calendar_stop_the_plan():
    calls = planned_calls([(f"c{n}", "1001", "branch", "") for n in range(30)])
    with pytest.raises(MissingCalendar, match="2027"):
        spread_days(
            calls, CALENDAR, first=date(2026, 12, 21), due_workdays=5, per_workday={"1001": 1}, load={}, not_before={}
        )


def test_a_date_moved_towards_the_year_s_end_needs_no_calendar_of_the_next():
    calls = planned_calls([("c1", "1001", "branch", "")])
    days = spread_days(
        calls,
        CALENDAR,
        first=date(2026, 9, 1),
        due_workdays=12,
        per_workday={"1001": 1},
        load={},
        not_before={"c1": date(2026, 12, 28)},
        year_end=date(2026, 12, 31),
    )
    assert (str(days["call_on"][0]), str(days["due_on"][0])) == ("2026-12-28", "2026-12-31")


@pytest.mark.parametrize("capacity", [{}, {"1001": 0}])
def test_a_branch_without_capacity_is_named(capacity):
    calls = planned_calls([("c1", "1001", "branch", "")])
    with pytest.raises(AssignmentError, match=r"1001: 1 calls and a capacity of 0"):
        spread_days(calls, CALENDAR, first=MONDAY, due_workdays=3, per_workday=capacity, load={}, not_before={})


@st.composite
def plans(draw, most_calls=30, most_days=6, most_capacity=5):
    number = draw(st.integers(0, most_calls))
    calls = [
        (
            f"c{n:02}",
            draw(st.sampled_from(["1001", "1002"])),
            draw(st.sampled_from(["branch", "hq"])),
            draw(st.sampled_from(["", "s1", "s2"])),
        )
        for n in range(number)
    ]
    later = st.integers(-2, most_days).map(lambda n: MONDAY + timedelta(days=n))
    return {
        "calls": calls,
        "first": draw(st.sampled_from([MONDAY, date(2026, 2, 28), date(2026, 3, 1)])),
        "due_workdays": draw(st.integers(1, most_days)),
        "per_workday": {desk: draw(st.integers(1, most_capacity)) for desk in ("1001", "1002", "HQ")},
        "load": draw(
            st.dictionaries(
                st.tuples(st.sampled_from(["1001", "1002", "HQ"]), st.sampled_from(WORKDAYS[:most_days])),
                st.integers(0, most_capacity + 1),
            )
        ),
        "not_before": draw(st.dictionaries(st.sampled_from([c[0] for c in calls] or ["c"]), later)),
    }


def spread(plan):
    return spread_days(planned_calls(plan["calls"]), CALENDAR, **{key: plan[key] for key in plan if key != "calls"})


def windows(plan):
    """For each customer the desk, the first and the last day on which a call is in time, worked out by hand."""
    found = {}
    start = CALENDAR.on_or_after(plan["first"])
    for customer, branch, caller, _ in plan["calls"]:
        opens = CALENDAR.on_or_after(max(start, plan["not_before"].get(customer, start)))
        moved = CALENDAR.elapsed(start, opens)
        found[customer] = (
            "HQ" if caller == "hq" else branch,
            opens,
            CALENDAR.add(CALENDAR.add(plan["first"], plan["due_workdays"]), moved),
        )
    return found


@settings(deadline=None)
@given(plans(), st.randoms(use_true_random=False))
def test_the_plan_does_not_depend_on_the_order_of_rows(plan, chance):
    expected = spread(plan)
    chance.shuffle(plan["calls"])
    pd.testing.assert_frame_equal(spread(plan), expected)


@settings(deadline=None)
@given(plans())
def test_every_call_has_one_workday_within_capacity_not_before_it_may_be_made_and_falls_due_with_its_window(plan):
    found, window, used = spread(plan), windows(plan), Counter()
    assert list(found["customer_id"]) == sorted(window)
    for call in found.to_dict("records"):
        desk, opens, due = window[call["customer_id"]]
        used[desk, call["call_on"]] += 1
        assert CALENDAR.is_workday(call["call_on"])
        assert call["call_on"] >= opens
        assert call["due_on"] == max(due, call["call_on"])
        assert call["is_postponed"] == (call["call_on"] > due)
    for (desk, day), calls in used.items():
        assert calls + plan["load"].get((desk, day), 0) <= plan["per_workday"][desk]


@settings(deadline=None)
@given(plans(most_capacity=8))
def test_nothing_is_postponed_where_every_span_of_days_has_room_for_what_must_lie_in_it(plan):
    found, window = spread(plan), windows(plan)
    postponed = {window[c][0] for c in found.loc[found["is_postponed"], "customer_id"]}
    for desk in ("1001", "1002", "HQ"):
        mine = [(opens, due) for at, opens, due in window.values() if at == desk]
        room = {
            day: max(0, plan["per_workday"][desk] - plan["load"].get((desk, day), 0))
            for day in CALENDAR.workdays(date(2026, 2, 28), date(2026, 4, 30))
        }
        fits = all(
            sum(1 for o, d in mine if opens <= o and d <= due)
            <= sum(n for day, n in room.items() if opens <= day <= due)
            for opens in {o for o, _ in mine}
            for due in {d for _, d in mine}
        )
        assert (desk not in postponed) == fits


@settings(deadline=None)
@given(plans(most_calls=5, most_days=3, most_capacity=4))
def test_no_other_plan_that_is_in_time_has_more_level_days(plan):
    plan["calls"] = [(customer, "1001", "branch", "") for customer, *_ in plan["calls"]]
    found, window = spread(plan), windows(plan)
    if found["is_postponed"].any():
        return
    options = [CALENDAR.workdays(opens, due) for _, opens, due in window.values()]
    days = sorted({day for option in options for day in option})
    booked = {day: plan["load"].get(("1001", day), 0) for day in days}

    def unevenness(made):
        return sum((booked[day] + made[day]) ** 2 for day in days)

    every_plan = (Counter(choice) for choice in itertools.product(*options))
    capacity = plan["per_workday"]["1001"]
    in_capacity = (made for made in every_plan if all(booked[day] + n <= capacity for day, n in made.items()))
    assert unevenness(Counter(found["call_on"])) == min(unevenness(made) for made in in_capacity)


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from(["1001", "1002", "1003", "1004", "1005", "1006"]), st.integers(1, 25), min_size=1),
    st.integers(1, 12),
    st.integers(1, 9),
)
def test_after_every_day_each_branch_has_had_its_share_of_headquarters_to_within_one_call(sizes, due, capacity):
    calls = [(f"{branch}-{n}", branch, "hq", "") for branch, count in sizes.items() for n in range(count)]
    assert_shares(calls, "branch_no", due, {"HQ": capacity})


def test_a_heavy_branch_neither_starves_nor_crowds_out_three_hundred_small_ones():
    calls = [(f"heavy-{n}", "0000", "hq", "") for n in range(300)]
    calls += [(f"small-{n}", f"{n + 1:04}", "hq", "") for n in range(300)]
    assert_shares(calls, "branch_no", 12, {"HQ": 50})


def test_each_caller_of_a_branch_has_his_share_of_every_day():
    calls = [(f"c{n}", "1001", "branch", "s1" if n < 40 else "s2") for n in range(60)]
    assert_shares(calls, "caller_id", 12, {"1001": 10})


def assert_shares(calls, whose, due_workdays, capacity):
    given_calls = planned_calls(calls)
    found = spread_days(
        given_calls, CALENDAR, first=MONDAY, due_workdays=due_workdays, per_workday=capacity, load={}, not_before={}
    ).merge(given_calls, on="customer_id")
    wanted = Counter(given_calls[whose])
    had: Counter = Counter()
    for _, day in found.sort_values("call_on").groupby("call_on"):
        had.update(day[whose])
        for name, count in wanted.items():
            assert abs(had[name] - Fraction(count * had.total(), len(calls))) < 1


@pytest.mark.long
def test_a_month_of_125_000_calls_in_500_branches_takes_seconds():
    number = 125_000
    calls = pd.DataFrame(
        {"customer_id": [f"{n:08}" for n in range(number)], "branch_no": [f"{n % 500:04}" for n in range(number)]}
    )
    callers = [(f"s{n}", f"{n % 500:04}") for n in range(2_000)] + [(f"h{n}", "HQ") for n in range(60)]
    barred = frame("customer_id staff_id", [(f"{n:08}", f"s{n % 500}") for n in range(0, number, 3)])
    contacts = frame(
        "customer_id contacted_on",
        [(f"{n:08}", str(date(2026, 2, 1) + timedelta(days=n % 25))) for n in range(0, number, 2)],
    )
    earliest_args = {"window_days": 30, "first": MONDAY, "year_end": date(2026, 12, 31)}
    for caller, capacity in (("branch", 25), ("hq", 12_000)):
        started = time.process_time()
        chosen = choose_callers(calls, frame("staff_id branch_no", callers), barred, {}, caller=caller)
        earliest = earliest_call(calls["customer_id"], contacts, CALENDAR, **earliest_args)
        days = spread_days(
            chosen,
            CALENDAR,
            first=MONDAY,
            due_workdays=12,
            per_workday=dict.fromkeys({*calls["branch_no"], "HQ"}, capacity),
            load={},
            not_before=by_customer(earliest, "not_before"),
        )
        assert time.process_time() - started < 15
        assert len(days) == len(CHOSEN.validate(chosen)) == number


# ---- windows ------------------------------------------------------------------------------------------------


def contact_dates(*rows: tuple[str, str]) -> pd.DataFrame:
    return frame("customer_id contacted_on", list(rows))


def test_the_last_of_several_contacts_opens_the_window_and_a_holiday_moves_it_on():
    found = earliest_call(
        pd.Series(["c2", "c1", "c3"], dtype="str"),
        contact_dates(("c1", "2026-03-06"), ("c1", "2026-01-05"), ("c2", "2026-01-05"), ("c9", "2026-03-06")),
        CALENDAR,
        window_days=29,
        first=MONDAY,
        year_end=date(2026, 12, 31),
    )
    # 4 April 2026 is the first day of Qingming; offices open again on the 7th.
    assert by_customer(found, "not_before") == {"c1": date(2026, 4, 7), "c2": MONDAY, "c3": MONDAY}
    assert set(found["reason"]) == {""}


def test_a_window_that_outlasts_the_year_is_a_reason_and_needs_no_calendar_of_the_next():
    found = earliest_call(
        pd.Series(["c1", "c2"], dtype="str"),
        contact_dates(("c1", "2026-12-01"), ("c2", "2026-12-02")),
        CALENDAR,
        window_days=30,
        first=date(2026, 12, 7),
        year_end=date(2026, 12, 31),
    )
    assert by_customer(found, "not_before") == {"c1": date(2026, 12, 31), "c2": None}
    assert by_customer(found, "reason") == {"c1": "", "c2": "no_recontact_window"}


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from(["c1", "c2", "c3"]), st.dates(date(2026, 1, 1), date(2026, 12, 31))),
    st.dates(date(2026, 1, 1), date(2026, 12, 31)),
    st.integers(0, 400),
)
def test_nobody_is_called_within_the_window_and_everybody_has_a_date_or_a_reason(contacts, first, window):
    customers = pd.Series(["c3", "c1", "c2"], dtype="str")
    year_end = date(2026, 12, 31)
    found = earliest_call(
        customers,
        contact_dates(*((customer, str(day)) for customer, day in contacts.items())),
        CALENDAR,
        window_days=window,
        first=first,
        year_end=year_end,
    )
    assert list(found["customer_id"]) == sorted(customers)
    for row in found.to_dict("records"):
        contact = contacts.get(row["customer_id"])
        ends = contact + timedelta(days=window) if contact else first
        if ends > year_end:
            assert (row["not_before"], row["reason"]) == (None, "no_recontact_window")
        else:
            assert (row["not_before"], row["reason"]) == (CALENDAR.on_or_after(max(ends, first)), "")


# ---- one contact --------------------------------------------------------------------------------------------

DRAWN = table(
    """customer_id,form
    c1,risk_warning
    c2,risk_warning
    c3,conduct
    c4,conduct
    c5,risk_warning
    """
)
OPEN_CALLS = table(
    """customer_id,assignment_id,form
    c1,7,risk_warning
    c1,3,conduct
    c2,4,conduct
    c3,5,risk_warning
    c4,6,conduct
    """
).astype({"assignment_id": int})


def test_a_call_joins_the_oldest_whose_form_holds_its_questions():
    assert joined_calls(DRAWN, OPEN_CALLS).values.tolist() == [["c1", 3], ["c2", 4], ["c4", 6]]


def test_nobody_joins_where_the_programme_does_not_ask_for_one_contact():
    assert joined_calls(DRAWN, OPEN_CALLS, one_contact=False).empty


# ---- hand-overs ---------------------------------------------------------------------------------------------

HANDOVERS = table(
    """from_branch,to_branch,valid_from
    1001,1002,2026-03-02
    1002,1003,2026-06-01
    1005,1006,2026-01-05
    1005,1007,2026-03-02
    """
)
HANDED = table(
    """assignment_id,branch_no,state
    1,1001,open
    2,1001,completed
    3,1002,open
    4,1004,open
    5,1001,expired
    """
).astype({"assignment_id": int})


@pytest.mark.parametrize(
    ("branch", "day", "stands"),
    [
        ("1001", "2026-03-01", "1001"),
        ("1001", "2026-03-02", "1002"),
        ("1001", "2026-06-01", "1003"),
        ("1004", "2026-06-01", "1004"),
        ("1005", "2026-03-01", "1006"),
        ("1005", "2026-03-02", "1007"),
    ],
)
def test_the_branch_that_stands_for_another_is_found_by_date(branch, day, stands):
    assert branch_on(branch, HANDOVERS, date.fromisoformat(day)) == stands


def test_open_calls_go_to_the_branch_at_the_end_of_the_chain_and_the_others_stay():
    assert hand_over(HANDED, HANDOVERS, MONDAY).values.tolist() == [[1, "1001", "1002"]]
    later = hand_over(HANDED, HANDOVERS, date(2026, 6, 1))
    assert later.values.tolist() == [[1, "1001", "1003"], [3, "1002", "1003"]]
    moved = HANDED.assign(branch_no=HANDED["branch_no"].mask(HANDED["state"] == "open", "1003"))
    assert hand_over(moved, HANDOVERS, date(2026, 6, 1)).empty
    assert hand_over(HANDED, HANDOVERS.iloc[:0], MONDAY).empty


def test_hand_overs_that_lead_in_a_circle_name_its_branches():
    circle = table("from_branch,to_branch,valid_from\n1,2,2026-01-05\n2,3,2026-02-02\n3,2,2026-03-02\n")
    assert branch_on("1", circle, date(2026, 3, 1)) == "3"
    with pytest.raises(AssignmentError, match=r"circle: 2 → 3 → 2; take out"):
        branch_on("1", circle, MONDAY)
    with pytest.raises(AssignmentError, match=r"2 → 3 → 2"):
        hand_over(HANDED, circle, MONDAY)


def test_two_hand_overs_of_a_branch_on_one_day_are_refused():
    twice = table("from_branch,to_branch,valid_from\n1,2,2026-01-05\n1,3,2026-01-05\n")
    with pytest.raises(AssignmentError, match=r"branch 1 is handed over on 2026-01-05 to 2, 3"):
        branch_on("1", twice, MONDAY)
