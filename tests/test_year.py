"""Twelve months of the draw against a second programmer, who had only the page of rules and wrote `_by_the_page`.

He keeps customers one by one where the project keeps counts, deals places one by one where it deals them at once, and
uses nothing of it. Both play the same made-up branch; every month's figures, customers, reserves and replacements must
be the same.
"""

import hashlib
import random
from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil, floor

import ibis
import pandas as pd
import pytest

from models.sampling import (
    activations,
    allocate,
    collapse,
    draw,
    extend,
    goal,
    make_chain,
    month_seed,
    opens,
    plan_month,
    ticket,
)

LAST_LINK = hashlib.sha256(b"drawn by lot").hexdigest()


@dataclass(frozen=True)
class _Plan:
    """What a version of the programme says; recoded: new names of segments."""

    rate: str
    minimum: int
    weights: dict[str, str]
    recoded: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Branch:
    """A year as it happens to a branch; segment and answers (in how many months, and how) by customer."""

    segment: dict[str, str]
    answers: dict[str, tuple[int, str]]
    plans: dict[int, _Plan]
    workdays: tuple[int, ...]
    capacity: tuple[int, ...]
    reserve: str
    silent_until: int = 0

    def answered_in(self, customer: str, handed: int) -> int:
        return max(handed + self.answers[customer][0], self.silent_until)


def _made_up(seed, *, silent_until=0, june=False, answering=0.6, customers=120):
    chance = random.Random(seed)
    ids = [f"{n:05}" for n in chance.sample(range(100_000), chance.randint(1, customers))]
    names = chance.sample(["普通", "重点", "机构", "A", "a", "𠀀", "～"], chance.randint(1, 5))

    def plan(recoded):
        weights = {name: chance.choice(["0.5", "2", "3.25"]) for name in names if chance.random() < 0.3}
        rate = chance.choice(["0.10", "0.07", "0.25", "0.5", "1"])
        return _Plan(rate, chance.randint(0, 3), weights, recoded)

    plans = {1: plan({})}
    if june:
        plans[6] = plan({name: chance.choice([*names, "新"]) for name in names})
    return _Branch(
        segment={i: chance.choice(names) for i in ids},
        answers={
            i: (chance.choice([0, 0, 0, 1, 2, 5]), "completed" if chance.random() < answering else "failed")
            for i in ids
        },
        plans=plans,
        workdays=tuple(chance.randint(15, 23) for _ in range(12)),
        capacity=tuple(chance.choice([chance.randint(0, 8), 999]) for _ in range(12)),
        reserve=chance.choice(["0.5", "1", "0.2"]),
        silent_until=silent_until,
    )


def _by_the_page(branch):
    def sha(text):
        return hashlib.sha256(text.encode("utf-8")).hexdigest()

    links = [LAST_LINK]
    while len(links) < 13:
        links.insert(0, sha(links[0]))

    story = []
    handed = {}  # customer: (month of the draw, stratum then)
    status = {}
    segment = dict(branch.segment)
    for month in range(1, 13):
        if month in branch.plans:  # 12: T, strata and minima anew; everybody is recoded, nothing is given back
            plan = branch.plans[month]
            segment = {i: plan.recoded.get(s, s) for i, s in segment.items()}
            rate = Fraction(plan.rate)
            T = ceil(rate * len(segment))  # 2
            g = ceil(plan.minimum / rate)  # 3
            people = Counter(segment.values())
            star = {s for s in people if people[s] < g}
            while star and star != set(people) and sum(people[s] for s in star) < g:
                star.add(min(set(people) - star, key=lambda s: (people[s], s)))
            stratum = {i: "*" if s in star else s for i, s in segment.items()}
            minimum = min(plan.minimum, T)
            N = Counter(stratum.values())
            weighed = {h: N[h] * Fraction(plan.weights.get(h, "1")) for h in N}

        completed = [i for i in status if status[i] == "completed"]
        open_ = [i for i in status if status[i] == "open"]
        failed = [i for i in status if status[i] == "failed"]
        p = Fraction(len(completed) + 10, len(completed) + len(failed) + 20)  # 6
        owed = max(0, T - len(completed) - floor(len(open_) * p))
        share = ceil(Fraction(owed * branch.workdays[month - 1], sum(branch.workdays[month - 1 :])))
        never = [i for i in segment if i not in status]
        places = min(ceil(share / p), 3 * share, branch.capacity[month - 1], len(never))

        a = Counter(stratum[i] for i in completed + open_)  # 5, 7
        left = Counter(stratum[i] for i in never)
        dealt = Counter()
        for _ in range(places):
            somebody = [h for h in N if left[h] > 0]
            below = [h for h in somebody if a[h] < min(minimum, N[h])]
            best = max(weighed[h] / (2 * a[h] + 1) for h in below or somebody)
            h = min(h for h in below or somebody if weighed[h] / (2 * a[h] + 1) == best)
            a[h], left[h], dealt[h] = a[h] + 1, left[h] - 1, dealt[h] + 1

        seed = sha(f"daily_risk|2026-{month:02}|{links[month]}|Z{month}")  # 14
        drawn, spare = [], {}
        for h in sorted(N):  # 8, 9
            lots = sorted((sha(f"{seed}:{i}"), i) for i in never if stratum[i] == h)
            drawn += [i for _, i in lots[: dealt[h]]]
            more = ceil(Fraction(branch.reserve) * dealt[h])
            spare[h] = [i for _, i in lots[dealt[h] : dealt[h] + more]]
        story.append((month, owed, share, places, sorted(drawn), {h: list(s) for h, s in spare.items() if s}))

        campaign = set(drawn)
        for i in drawn:
            handed[i], status[i] = month, "open"
        booked = sorted(i for i in status if status[i] == "open" and branch.answered_in(i, handed[i]) == month)
        while booked:
            i = booked.pop(0)
            status[i] = branch.answers[i][1]
            if i not in campaign or status[i] != "failed" or not spare[stratum[i]]:
                continue
            if sum(status[c] != "failed" for c in campaign) < share:
                new = spare[stratum[i]].pop(0)
                campaign.add(new)
                handed[new], status[new] = month, "open"
                story.append((month, i, new))
                if branch.answered_in(new, month) == month:
                    booked.append(new)
    return story, sorted(status.items())


def _by_tickets(never, strata, places, spare, seed):
    chosen = {"sample": [], "reserve": []}
    for key in places:
        order = sorted((ticket(seed, i), i) for i in never if strata[i] == key)
        chosen["sample"] += [i for _, i in order[: places[key]]]
        chosen["reserve"] += [i for _, i in order[places[key] : places[key] + spare[key]]]
    return chosen


def _by_engine(never, strata, places, spare, seed):
    everybody = pd.DataFrame(
        [(i, "1", "1", key) for i, key in strata.items()],
        columns=["customer_id", "branch_no", "group_key", "stratum"],
    )
    taken = pd.DataFrame({"customer_id": sorted(set(strata) - set(never))}, dtype="str")
    wanted = pd.DataFrame(
        [("1", key, places[key], spare[key]) for key in places], columns=["group_key", "stratum", "places", "reserve"]
    )
    gone = ibis.memtable(taken, schema={"customer_id": "string"})
    found = draw(ibis.memtable(everybody), gone, ibis.memtable(wanted), seed).execute()
    found = found.sort_values(["stratum", "rank"])
    return {kind: list(found.loc[found["kind"] == kind, "customer_id"]) for kind in ("sample", "reserve")}


def _by_the_project(branch, drawing=_by_tickets):
    chain = make_chain(LAST_LINK, 12)
    story, status, handed, strata = [], {}, {}, {}
    for month in range(1, 13):
        if month in branch.plans:
            plan = branch.plans[month]
            named = {i: plan.recoded.get(s, s) for i, s in strata.get("segment", branch.segment).items()}
            sizes = collapse(Counter(named.values()), plan.rate, plan.minimum)
            strata = {"segment": named, "stratum": {i: s if s in sizes else "*" for i, s in named.items()}}
            owed_goal = goal(plan.rate, len(named))
            minimum = min(plan.minimum, owed_goal)
            allocate(sizes, owed_goal, minimum, weights=plan.weights)
        of = strata["stratum"]
        count = {
            kind: Counter(of[i] for i, s in status.items() if s == kind) for kind in ("completed", "open", "failed")
        }
        left = {key: sizes[key] - sum(c[key] for c in count.values()) for key in sizes}
        planned = plan_month(
            goal=owed_goal,
            completed=count["completed"].total(),
            open=count["open"].total(),
            failed=count["failed"].total(),
            workdays=branch.workdays[month - 1],
            workdays_left=sum(branch.workdays[month - 1 :]),
            capacity=branch.capacity[month - 1],
            left=sum(left.values()),
        )
        state = {key: count["completed"][key] + count["open"][key] for key in sizes}
        places = extend(sizes, state, left, planned.places, minimum, weights=plan.weights)
        spare = {key: min(left[key] - n, ceil(Fraction(branch.reserve) * n)) for key, n in places.items()}
        assert opens(chain[month], month, chain[0])
        seed = month_seed("daily_risk", f"2026-{month:02}", chain[month], f"Z{month}")
        chosen = drawing([i for i in of if i not in status], of, places, spare, seed)
        waiting = {key: [i for i in chosen["reserve"] if of[i] == key] for key in sizes}
        reserve = {key: list(ids) for key, ids in waiting.items() if ids}
        story.append((month, planned.owed, planned.share, planned.places, sorted(chosen["sample"]), reserve))

        mine = Counter(open=len(chosen["sample"]))
        campaign = dict.fromkeys(chosen["sample"])
        status |= dict.fromkeys(campaign, "open")
        handed |= dict.fromkeys(campaign, month)
        booked = sorted(i for i, s in status.items() if s == "open" and branch.answered_in(i, handed[i]) == month)
        for customer in booked:
            status[customer] = branch.answers[customer][1]
            if customer not in campaign:
                continue
            mine["open"] -= 1
            mine[status[customer]] += 1
            moves = activations(share=planned.share, completed=mine["completed"], open=mine["open"], waiting=1)
            if status[customer] == "failed" and moves and waiting[of[customer]]:
                new = waiting[of[customer]].pop(0)
                campaign[new], status[new], handed[new] = None, "open", month
                mine["open"] += 1
                story.append((month, customer, new))
                if branch.answered_in(new, month) == month:
                    booked.append(new)
    return story, sorted(status.items())


YEARS = {
    "as usual": {},
    "a branch of a handful": {"customers": 6},
    "nobody answers until November": {"silent_until": 11},
    "nobody answers at all": {"silent_until": 13},
    "every call fails": {"answering": 0},
    "every call is completed": {"answering": 1},
    "the programme changes in June": {"june": True},
    "nobody answers until November and the programme changes in June": {"silent_until": 11, "june": True},
}


@pytest.mark.parametrize("kind", YEARS)
def test_a_year_comes_out_as_the_second_programmer_worked_it_out(kind):
    for seed in range(60):
        branch = _made_up(f"{kind}-{seed}", **YEARS[kind])
        assert _by_the_project(branch) == _by_the_page(branch), (kind, seed)


@pytest.mark.long
@pytest.mark.parametrize("kind", YEARS)
def test_a_year_drawn_on_the_engine_comes_out_the_same(kind):
    for seed in range(2):
        branch = _made_up(f"engine-{kind}-{seed}", **YEARS[kind])
        assert _by_the_project(branch, _by_engine) == _by_the_page(branch), (kind, seed)


@pytest.mark.parametrize("kind", YEARS)
def test_nobody_is_called_twice_in_a_year(kind):
    for seed in range(20):
        branch = _made_up(f"twice-{kind}-{seed}", **YEARS[kind])
        story, status = _by_the_project(branch)
        called = [i for entry in story if len(entry) == 6 for i in entry[4]]
        called += [entry[2] for entry in story if len(entry) == 3]
        assert sorted(called) == [i for i, _ in status]
        assert set(called) <= set(branch.segment)


def _large(answers):
    ids = [f"{n:05}" for n in range(2_000)]
    return _Branch(
        segment={i: "普通" if n % 5 else "重点" for n, i in enumerate(ids)},
        answers=dict.fromkeys(ids, answers),
        plans={1: _Plan("0.10", 2, {})},
        workdays=(20,) * 12,
        capacity=(999,) * 12,
        reserve="0.5",
    )


def test_a_branch_whose_calls_all_fail_still_has_customers_at_the_end():
    story, status = _by_the_project(_large((1, "failed")))
    months = [entry for entry in story if len(entry) == 6]
    assert all(share <= places <= 3 * share for _, _, share, places, _, _ in months)
    assert len(status) < 2_000
    assert months[-1][2] > 190  # nearly all that was owed in January is still owed


def test_a_branch_that_answers_in_november_reaches_its_goal():
    branch = _large((0, "completed"))
    late = _Branch(**{**branch.__dict__, "silent_until": 11})
    story, status = _by_the_project(late)
    handed_by_october = sum(len(entry[4]) for entry in story if len(entry) == 6 and entry[0] < 11)
    assert handed_by_october < 400  # open calls count half, so no more are handed out than twice the goal
    assert Counter(s for _, s in status)["completed"] >= 200
