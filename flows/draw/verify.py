"""Verify: recompute every month of a programme year up to a campaign, and write what a stranger needs to do the same."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any, NamedTuple

import ibis
import pandas as pd
from sqlalchemy.orm import Session

from models import CallbackError, assignment, campaign, frame, sampling
from models.calendar import SHANGHAI, Calendar, MissingCalendar
from models.calendar import period as read_period
from models.programme import ChainSeed, CoverageGoal, Programme
from models.tables import Campaign, Chain, Draw, HandMade, ProgrammeYear, Seed
from tasks import export, lake, records
from tasks.settings import Settings, read_calendar
from tasks.store import Store, find_broken_row, hash_payload


class VerifyError(CallbackError):
    """A row that a verification needs and that is missing from the store."""


class Check(NamedTuple):
    """One thing recomputed: what, whether it is the same (None: it could not be compared), and what was found."""

    name: str
    is_same: bool | None
    found: str


@dataclass(frozen=True)
class Month:
    """A drawn month as the store has it, beside what its verification needs of its year."""

    issued: Campaign
    year: ProgrammeYear
    draw: Draw
    seed: Seed
    rules: Programme
    chain: Chain | None
    """Of the programme year."""
    in_use: Calendar
    label: str


def verify(settings: Settings, store: Store, campaign_id: str) -> list[Check]:
    """Everything recomputed about a campaign and the months before it, in order of period."""
    with store.begin() as session:
        issued, year = _campaign_of(session, campaign_id)
        if year is None:
            return [Check("programme year", False, f"{campaign_id} names {issued.programme_year_id}, which is missing")]
        versions = records.programme_years(session, year.programme, year.year)
        months = _drawn_until(session, year, issued.period)
        chain = records.chain_of(session, year)
        broken = find_broken_row(session)
    con, in_use = lake.connect(settings), read_calendar(settings)
    checks = [Check("audit chain", broken is None, "whole" if broken is None else f"row {broken} is not as written")]
    if months[-1].id != campaign_id or campaign_id != f"{year.programme}-{issued.period}":
        checks.append(Check("programme year", False, f"{campaign_id} is not a month of {year.id}"))
        return checks
    if chain is not None:
        first = versions[0]
        is_same = (chain.frame_sha256, chain.plan_sha256) == (first.frame_sha256, first.plan_sha256)
        checks.append(Check("K₀ committed with this frame and plan", is_same, chain.k0))
    used = {month.programme_year_id for month in months}
    for one in versions:
        if one.id in used:
            label = "" if len(used) == 1 else f"{one.id}: "
            with _told(checks, f"{label}programme year"):
                checks += check_year(settings, store, con, one, label=label)
    if not all(check.is_same for check in checks if check.name.endswith(": frame") or check.name == "frame"):
        return checks
    before: set[str] = set()
    for issued in months:
        label = "" if issued.id == campaign_id else f"{issued.period}: "
        with _told(checks, f"{label}month"):
            with store.begin() as session:
                month = _month_of(session, issued, chain, in_use, label)
                called = set(records.calls_of(session, issued.id)["customer_id"])
            for check in check_month(settings, store, con, month, before):
                checks.append(check)
            before = before | called
    return checks


def _campaign_of(session: Session, campaign_id: str) -> tuple[Campaign, ProgrammeYear | None]:
    if campaign_id not in records.drawn_campaigns(session) or (issued := session.get(Campaign, campaign_id)) is None:
        records.campaign_of(session, campaign_id)  # raises naming those there are
        raise AssertionError("a campaign without a row was never drawn")
    return issued, session.get(ProgrammeYear, issued.programme_year_id)


@contextmanager
def _told(checks: list[Check], name: str) -> Iterator[None]:
    """What stops a recomputation is what it found: a row changed or missing, a file that cannot be read."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 (whatever a forger wrote into the store, the verdict is a line)
        words = str(error).strip().splitlines() or [""]
        checks.append(Check(name, False, f"cannot be recomputed, {type(error).__name__}: {words[0][:300]}"))


def _month_of(session: Session, issued: Campaign, chain: Chain | None, in_use: Calendar, label: str) -> Month:
    year, draw = session.get(ProgrammeYear, issued.programme_year_id), session.get(Draw, issued.id)
    seed = records.seed_of(session, issued.id)
    missing = [
        name for name, row in (("programme year", year), ("row of the draw", draw), ("seed", seed)) if row is None
    ]
    if year is None or draw is None or seed is None:
        raise VerifyError(f"{issued.id}: {', '.join(missing)} missing from the store")
    rules = Programme.model_validate_json(year.plan)
    return Month(issued, year, draw, seed, rules, chain, in_use, label)


def _drawn_until(session: Session, year: ProgrammeYear, period: str) -> list[Campaign]:
    drawn = set(records.drawn_campaigns(session))
    return [c for c in records.campaigns_of_year(session, year.id) if c.period <= period and c.id in drawn]


def check_year(settings: Settings, store: Store, con: Any, year: ProgrammeYear, *, label: str) -> list[Check]:
    """Plan, frame, ledger, goals and strata of a programme year under one plan."""
    with store.begin() as session:
        quota, strata = records.quota_of(session, year.id), records.strata_of(session, year.id)
        exclusions = records.exclusions_of(session, year.id)
    plan_sha256 = campaign.text_sha256(year.plan)
    found = [Check(f"{label}plan", plan_sha256 == year.plan_sha256, plan_sha256)]
    try:
        frozen = lake.open_file(settings, year.frame_path, con)
        frame_sha256 = lake.text_sha256(con, frozen)
    except Exception as error:  # noqa: BLE001 (each engine has its own word for a damaged file)
        return [*found, Check(f"{label}frame", False, f"unreadable: {error}")]
    found.append(Check(f"{label}frame", frame_sha256 == year.frame_sha256, frame_sha256))
    if frame_sha256 != year.frame_sha256:
        return found
    if year.ledger_sha256:
        try:
            ledger = lake.open_file(settings, _beside(year, "ledger"), con)
            ledger_sha256 = lake.text_sha256(con, ledger)
            counted = ledger.group_by(["branch_no", "reason"]).aggregate(customers=ledger.count()).execute()
        except Exception as error:  # noqa: BLE001
            return [*found, Check(f"{label}ledger", False, f"unreadable: {error}")]
        keys = ["branch_no", "reason"]
        same_counts = (
            counted.set_index(keys)["customers"].astype(int).to_dict()
            == exclusions.set_index(keys)["customers"].astype(int).to_dict()
        )
        whole = year.eligible + int(exclusions["customers"].sum()) + year.waived
        found.append(Check(f"{label}ledger", ledger_sha256 == year.ledger_sha256 and same_counts, ledger_sha256))
        found.append(
            Check(f"{label}base = eligible + excluded + waived", whole == year.base, f"{year.base} and {whole}")
        )
    rules = Programme.model_validate_json(year.plan)
    if isinstance(rules.goal, CoverageGoal) or "segment" not in frozen.columns:
        counted = frozen.group_by(["group_key", "stratum"]).aggregate(customers=frozen.count()).execute()
        held = strata.merge(counted, on=["group_key", "stratum"], how="left", suffixes=("", "_frame"))
        is_same = bool((held["customers"] == held["customers_frame"]).all())
        found.append(Check(f"{label}sizes of strata", is_same, f"{len(held)} strata"))
        return found
    sizes = frozen.group_by(["group_key", "branch_no", "segment"]).aggregate(customers=frozen.count()).execute()
    again = frame.plan_year(sizes, rules)
    same_quota = _rows(again.quota) == _rows(quota)
    same_strata = _rows(again.strata) == _rows(strata)
    eligible = int(again.quota["eligible"].sum()) == year.eligible
    found.append(Check(f"{label}goals", same_quota and eligible, f"{len(quota)} groups"))
    found.append(Check(f"{label}strata and the year's places", same_strata, f"{len(strata)} strata"))
    return found


def _beside(year: ProgrammeYear, name: str) -> str:
    return str(Path(year.frame_path).with_name(f"{name}.parquet"))


def _rows(table: pd.DataFrame) -> list[tuple[Any, ...]]:
    return sorted(tuple(row) for row in table.astype(object).itertuples(index=False))


def check_month(settings: Settings, store: Store, con: Any, month: Month, before: set[str]) -> Iterator[Check]:
    """Commitment, seed and sample of one month; before: who was called in earlier months."""
    issued, year, draw, seed, label = month.issued, month.year, month.draw, month.seed, month.label
    with store.begin() as session:
        groups, strata = records.groups_of(session, issued.id), records.campaign_strata_of(session, issued.id)
        earlier = records.taken_of(session, year.id, before=issued.id)
        called = set(records.calls_of(session, issued.id)["customer_id"])
        rows = records.rows_as_of(session, year.id, issued.rows_until)
        ends = records.ends(session)
        stored = records.drawn_of(session, issued.id)
    taken = list(earlier["customer_id"])
    frozen, developers, workdays = lake.open_file(settings, year.frame_path, con), None, list[str]()
    if not issued.state_path:
        state_sha256 = campaign.text_sha256(campaign.old_state_text(groups, strata, taken))
        yield Check(f"{label}state", state_sha256 == issued.state_sha256, state_sha256)
        kept_back, k0 = taken, ""
    else:
        try:
            text = lake.read_text(settings, issued.state_path)
            state = json.loads(text)
        except (lake.LakeError, ValueError) as error:
            yield Check(f"{label}state", False, f"unreadable: {error}")
            return
        state_sha256 = campaign.text_sha256(text)
        yield Check(f"{label}state", state_sha256 == issued.state_sha256, state_sha256)
        kept_back, k0, workdays = campaign.blocked(text), str(state["k0"]), list(state.get("workdays", ()))
        if issued.developers_path:
            try:
                developers = lake.open_file(settings, issued.developers_path, con)
                sha256 = lake.text_sha256(con, developers)
            except Exception as error:  # noqa: BLE001 (each engine has its own word for a damaged file)
                yield Check(f"{label}developers", False, f"unreadable: {error}")
                return
            yield Check(f"{label}developers", sha256 == state["developers_sha256"], sha256)
        yield check_header(state, month)
        yield check_calendar(workdays, month)
        yield from check_counts(store, con, month, state, groups, strata, earlier, frozen, developers)
        yield check_taken(state, earlier, rows, ends, issued, label=label)
    yield from check_seed(store, month, workdays, k0)
    gone, places = frame.customer_ids(kept_back), strata[["group_key", "stratum", "places", "reserve"]]
    again = sampling.draw(frame.drawing_frame(frozen, developers), gone, ibis.memtable(places), seed.seed).execute()
    tickets = all(
        sampling.ticket(seed.seed, str(i)) == t for i, t in zip(again["customer_id"], again["ticket"], strict=True)
    )
    again_sha256 = campaign.text_sha256(campaign.sample_text(again))
    stored_sha256 = campaign.text_sha256(campaign.sample_text(stored))
    yield Check(f"{label}tickets by hashlib", tickets, f"{len(again)} tickets")
    yield Check(f"{label}sample drawn again", again_sha256 == draw.sample_sha256, again_sha256)
    yield Check(f"{label}sample in the store", stored_sha256 == draw.sample_sha256, stored_sha256)
    yield check_calls(again, called, before, taken, label=label)
    yield check_forms(stored, draw, seed, label=label)
    yield check_decisions(store, month)
    yield check_moved_up(store, month)


def check_header(state: dict[str, Any], month: Month) -> Check:
    """What the committed text says of its day, plan, calendar and chain beside the rows of the store."""
    issued, year, chain = month.issued, month.year, month.chain
    told = {
        "campaign": issued.id,
        "period": issued.period,
        "programme_year": f"{year.programme}-{year.year}",
        "version": year.version,
        "as_of": issued.as_of.isoformat(),
        "calendar_version": issued.calendar_version,
        "plan_sha256": year.plan_sha256,
        "frame_sha256": year.frame_sha256,
        "k0": chain.k0 if chain else "",
    }
    wrong = sorted(key for key, value in told.items() if state.get(key) != value)
    return Check(f"{month.label}day, plan, calendar and K₀", not wrong, ", ".join(wrong) or str(issued.as_of))


def check_calendar(workdays: list[str], month: Month) -> Check:
    """The workdays that a month was committed with beside those of the calendar in use.

    Another version of the calendar is no fault of the month; which days it has otherwise is said.
    """
    name, known, now = f"{month.label}workdays", month.issued.calendar_version, month.in_use.version
    if not workdays:
        if known == now:
            return Check(name, True, f"calendar {known}")
        return Check(
            name, None,
            f"the month was committed with calendar {known} and without its workdays; in use is {now}: weights and capacity "
            "are believed, the day of the public number is only known to be later",
        )  # fmt: skip
    first, last = date.fromisoformat(workdays[0]), date.fromisoformat(workdays[-1])
    try:
        others = {day.isoformat() for day in month.in_use.workdays(first, last)} ^ {*workdays}
    except MissingCalendar:
        return Check(name, None, f"the calendar in use, {now}, does not know {first.year} to {last.year} any more")
    if not others:
        return Check(name, True, f"{len(workdays)} from {first} to {last}")
    return Check(
        name, None if known != now else False,
        f"the calendar in use, {now}, differs from the committed {known} on {', '.join(sorted(others)[:5])}: look the notice "
        "of the State Council up; the month is recomputed with the committed workdays",
    )  # fmt: skip


def check_forms(stored: pd.DataFrame, draw: Draw, seed: Seed, *, label: str) -> Check:
    """How many were drawn, by which attempt, and that the form is conduct where somebody developed the customer."""
    counts = (int(stored["kind"].eq("sample").sum()), int(stored["kind"].eq("reserve").sum()))
    forms = stored["form"].eq("conduct") == stored["developer_id"].ne("")
    is_same = counts == (draw.drawn, draw.reserve) and bool(forms.all()) and draw.attempt == seed.attempt
    return Check(f"{label}counts, attempt and forms", is_same, f"{counts[0]} + {counts[1]}")


def check_decisions(store: Store, month: Month) -> Check:
    """Commitment, entries, seed and draw, and the approvers' rows that applied, as the audit chain kept them."""
    issued = month.issued
    with store.begin() as session:
        said = records.decisions_on(session, issued.id)
        given = records.decisions_on(session, f"{month.year.programme}-{month.year.year}")
        attempts = records.attempts_of(session, issued.id)
        applied = _exceptions_of(session, month)
    expected = {
        "commit": [{"state": issued.state_sha256}],
        "seed": [{"seed": month.seed.seed}],
        "draw": [{"sample": month.draw.sample_sha256}],
        "abort": [{"attempt": one.number, "reason": one.aborted} for one in attempts if one.aborted],
        "reveal public": [
            {"attempt": one.number, "value": one.public, "on": str(one.public_on)} for one in attempts if one.public
        ],
    }
    # A second seed or draw of one campaign is as wrong as a missing one.
    wrong = [
        action
        for action, payloads in expected.items()
        if [payload for _, told, payload in said if told == action] != [hash_payload(one) for one in payloads]
    ]
    committed = next((place for place, action, _ in said if action == "commit"), 0)
    told = {(action, payload) for place, action, payload in given if place < committed}
    wrong += [
        f"exception {row.kind} of {row.group_key}"
        for row in applied
        if (f"exception {row.kind}", hash_payload(_audited(row))) not in told
    ]
    found = ", ".join(wrong) + " otherwise" if wrong else f"{len(said)} rows"
    return Check(f"{month.label}audit rows", not wrong, found)


def check_moved_up(store: Store, month: Month) -> Check:
    """The reserves with a call are those of whom the audit chain says, run by run, that they took a failure's place."""
    name = f"{month.label}reserves moved up"
    with store.begin() as session:
        moved = records.moved_up(session, month.issued.id)
        told = [p for _, action, p in records.decisions_on(session, month.issued.id) if action == "activate"]
    if any(is_joined for _, is_joined in moved):
        return Check(name, None, "one is served by the call of another programme, whose order is not kept")
    left = [customer for customer, _ in moved]
    for payload in told:
        ends = range(1, len(left) + 1)
        end = next((end for end in ends if hash_payload({"customers": left[:end]}) == payload), None)
        if end is None:
            return Check(name, False, f"{len(moved)} calls, otherwise than they were assigned")
        left = left[end:]
    return Check(name, not left, f"{len(moved)} in {len(told)} runs" if not left else f"{len(left)} without a run")


def _exceptions_of(session: Session, month: Month) -> list[HandMade]:
    """The approvers' rows that applied to a month: a group's capacity, a stratum's reopened failures."""
    name, year = month.year.programme, month.year.year
    return [
        row
        for kind in ("capacity", "reopen")
        for row in records.hand_made(session, name, year, kind)
        if row.period == month.issued.period
    ]


def _audited(row: HandMade) -> dict[str, Any]:
    return {"id": row.id, "note": row.note, "period": row.period, "group": row.group_key, "calls": row.calls}


def check_counts(
    store: Store,
    con: Any,
    month: Month,
    state: dict[str, Any],
    groups: pd.DataFrame,
    strata: pd.DataFrame,
    earlier: pd.DataFrame,
    frozen: Any,
    developers: Any,
) -> Iterator[Check]:
    """Weights, capacity, states and places of a month, dealt again from plan, workdays, frame, taken list and approvals."""
    label, rules, span = month.label, month.rules, read_period(state["period"])
    told_groups = pd.DataFrame(state["groups"], columns=list(campaign.GROUPS.columns))
    told_strata = pd.DataFrame(state["strata"], columns=list(campaign.STRATA.columns))
    is_told = _rows(told_groups) == _rows(groups[list(campaign.GROUPS.columns)])
    is_told &= _rows(told_strata) == _rows(strata[list(campaign.STRATA.columns)])
    yield Check(f"{label}counts in the store", is_told, f"{len(groups)} groups, {len(strata)} strata")

    with store.begin() as session:
        applied = _exceptions_of(session, month)
        quota, held = records.quota_of(session, month.year.id), records.strata_of(session, month.year.id)
    weights = (int(state["weight"]), int(state["weight_left"]))
    calendar = _calendar_of(list(state.get("workdays", ())), month)
    pace = campaign.pace_of(rules, span, calendar, month.issued.as_of) if calendar else None
    capacities = {row.group_key: row.calls for row in applied if row.kind == "capacity"}
    approved = [(row.group_key, row.stratum) for row in applied if row.kind == "reopen"]
    if pace is None:
        # Without the workdays of that time the written weights and capacities stand for those that follow from them.
        pace = campaign.Pace(*weights, 0)
        capacities = {str(k): int(n) for k, n in zip(told_groups["group_key"], told_groups["capacity"], strict=True)}
    else:
        found = f"{pace.weight} of {pace.weight_left}, {pace.workdays} workdays left"
        yield Check(f"{label}weights", weights == (pace.weight, pace.weight_left), found)

    listed = pd.DataFrame(state["taken"], columns=["customer_id", "status"]).astype("str")
    plain = listed.assign(status=listed["status"].replace({"reopened": "failed"}))
    inside = frozen.semi_join(frame.customer_ids(list(listed["customer_id"])), "customer_id")
    codes = inside.select("customer_id", "group_key", "stratum").execute().set_index("customer_id")
    if isinstance(rules.goal, CoverageGoal):
        drawn_under = earlier.drop_duplicates("customer_id", keep="last").set_index("customer_id")
        codes = drawn_under.loc[drawn_under.index.isin(codes.index), ["group_key", "stratum"]]
        owed, slices = _owed_by_developer(con, rules.goal, groups, developers, frozen, list(listed["customer_id"]))
        taken = campaign.code_taken(plain.set_index("customer_id")["status"], codes)
    else:
        taken = campaign.code_taken(plain.set_index("customer_id")["status"], codes)
        owed, slices = campaign.owed_by_plan(quota, held, taken)
    taken = campaign.reopen_failures(taken, slices, approved)
    outside = {*taken.loc[taken["status"] == "outside", "customer_id"]}
    reopened = {*taken.loc[taken["status"] == "reopened", "customer_id"]}
    wrong = outside ^ {*listed.loc[listed["status"] == "outside", "customer_id"]}
    wrong |= reopened ^ {*listed.loc[listed["status"] == "reopened", "customer_id"]}
    yield Check(
        f"{label}coded by the frame, reopened by approval", not wrong,
        f"{len(outside)} outside, {len(reopened)} reopened" + (f", {len(wrong)} otherwise" if wrong else ""),
    )  # fmt: skip
    again = campaign.deal(rules, owed, slices, taken, pace, month=span.first.month, capacities=capacities)
    for name, table, right, columns in (
        ("completed, open and failed", told_groups, again.groups, ["eligible", "goal", "completed", "open", "failed"]),
        ("state and left of strata", told_strata, again.strata, ["stratum", "customers", "minimum", "state", "left"]),
        ("capacity", told_groups, again.groups, ["branch_no", "capacity"]),
        ("owed, share and shortfall", told_groups, again.groups, ["owed", "share", "places", "shortfall", "reason"]),
        ("places dealt again", told_strata, again.strata, ["stratum", "places", "reserve"]),
    ):
        keyed = ["group_key", *columns]
        others = {row[0] for row in {*_rows(table[keyed])} ^ {*_rows(right[keyed])}}
        whole = f"{int(right['places'].sum())} places" if "places" in columns else f"{len(right)} rows"
        if name == "capacity" and applied:
            whole += "".join(f"; {r.group_key}: {r.calls} by {r.approver}" for r in applied if r.kind == "capacity")
        if name == "capacity" and calendar is None:
            continue
        yield Check(
            f"{label}{name}", not others, whole if not others else f"otherwise: {', '.join(sorted(others)[:5])}"
        )


def _calendar_of(workdays: list[str], month: Month) -> Calendar | None:
    """The calendar a month was committed with; None where only its version is known and another one is in use."""
    if workdays:
        return campaign.calendar_of(workdays, month.issued.calendar_version, month.year.year)
    return month.in_use if month.issued.calendar_version == month.in_use.version else None


def _owed_by_developer(
    con: Any, goal: CoverageGoal, groups: pd.DataFrame, developers: Any, frozen: Any, taken: list[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What each marketer owes by who developed whom at the commitment; the staff of that day is told by the groups."""
    mine = developers.semi_join(frozen, "customer_id")
    never = mine.anti_join(frame.customer_ids(taken), "customer_id")
    count = {
        name: {str(k): int(n) for k, n in table.developer_id.value_counts(name="n").execute().itertuples(index=False)}
        for name, table in (("eligible", mine), ("never_taken", never))
    }
    known = groups.set_index("group_key")
    keys = sorted({*known.index} | {*count["eligible"]})
    reasons = known["reason"].where(known["reason"].isin(["excluded", "no_customers"]), "").to_dict()
    branches = known["branch_no"].to_dict()
    owed = pd.DataFrame(
        [
            (
                key, branches.get(key, ""), count["eligible"].get(key, 0),
                min(goal.calls_per_year, count["eligible"].get(key, 0)), count["never_taken"].get(key, 0),
                "" if count["eligible"].get(key) else reasons.get(key, ""),
            )
            for key in keys
        ],
        columns=["group_key", "branch_no", "eligible", "goal", "never_taken", "reason"],
    ).astype({"group_key": "str", "branch_no": "str", "reason": "str"})  # fmt: skip
    return owed, campaign.slices_of_marketers(owed)


def check_taken(
    state: dict[str, Any],
    earlier: pd.DataFrame,
    rows: pd.DataFrame,
    ends: pd.DataFrame,
    issued: Campaign,
    *,
    label: str,
) -> Check:
    """The committed taken list beside the calls and returns of the store as they stood at the commitment."""
    told = {customer: "failed" if status == "reopened" else status for customer, status in state["taken"]}

    def status_with(ended: pd.Series) -> pd.Series:
        state = assignment.progress(earlier, rows, ends[ended], issued.as_of)["state"]
        return campaign.status_of(earlier.assign(state=state.to_numpy()))

    # An end of the very day may have come before the commitment or after it.
    ended_on, day = pd.to_datetime(ends["ended_on"]), pd.Timestamp(issued.as_of)
    before, after = status_with(ended_on < day), status_with(ended_on <= day)
    wrong = [
        customer
        for customer, status in told.items()
        if status != "outside" and status not in (before.get(customer), after.get(customer))
    ]
    missing = set(before.index) ^ set(told)
    return Check(
        f"{label}taken list beside calls and returns", not wrong and not missing,
        f"{len(told)} customers" + (f", {len(wrong)} with another status" if wrong else "")
        + (f", {len(missing)} missing or too many" if missing else ""),
    )  # fmt: skip


def check_seed(store: Store, month: Month, workdays: list[str], k0: str) -> Iterator[Check]:
    """The seed: one row, and where it comes from a chain, entered by the rules and made again from link and number."""
    issued, seed, chain, label = month.issued, month.seed, month.chain, month.label
    source = month.rules.seed
    if not isinstance(source, ChainSeed) or seed.origin != "chain":
        is_same = len(seed.seed) > 0 and seed.attempt == 1 and (source, seed.origin) == ("random", "random")
        yield Check(f"{label}seed", is_same, f"{seed.origin}, stored {seed.stored_at:%Y-%m-%d %H:%M}")
        return
    with store.begin() as session:
        attempts = records.attempts_of(session, issued.id)
    attempt = attempts[-1]
    for one in attempts:
        if one.aborted and one.abort_entry:
            number = f"{one.public} of {one.public_on}" if one.public else "no number"
            yield Check(
                f"{label}attempt {one.number} given up", True,
                f"{number}; by {one.abort_entry.by}, {one.abort_entry.at.astimezone(SHANGHAI):%Y-%m-%d %H:%M}: {one.aborted}",
            )  # fmt: skip
    if chain is None:
        yield Check(f"{label}seed", False, "the commitment K₀ is missing")
        return
    calendar = _calendar_of(workdays, month)
    last = max((one.public_on for one in attempts if one.public_on), default=issued.as_of)
    if workdays and last > date.fromisoformat(workdays[-1]):
        calendar = None  # the committed workdays do not reach that far
    try:
        campaign.check_entries(source.public, attempts, issued.committed_at, calendar)
    except CallbackError as error:
        # A notice that was corrected after the commitment moves the next day on which there is a number.
        is_by_now = calendar is not month.in_use and _are_entered(source, attempts, issued, month.in_use)
        other = f"; by the calendar in use, {month.in_use.version}, they are" if is_by_now else ""
        yield Check(
            f"{label}public number and link entered by the rules", None if is_by_now else False, f"{error}{other}"
        )
    else:
        entered = [one for one in (attempt.public_entry, attempt.link_entry) if one]
        told = ", ".join(f"{one.by} {one.at.astimezone(SHANGHAI):%Y-%m-%d %H:%M}" for one in entered)
        yield Check(f"{label}public number and link entered by the rules", len(entered) == 2, told)
    is_long = chain.links == 12 and read_period(issued.period).first.month <= chain.links
    yield Check(f"{label}links of the chain", is_long, str(chain.links))
    if chain.k0 != k0:
        found = f"the month was committed under K₀ {k0[:12]}…, the store has {chain.k0[:12]}…"
        yield Check(f"{label}seed", False, found)
        return
    try:
        again = campaign.chain_seed(month.year.programme, read_period(issued.period), attempt, chain.k0)
    except CallbackError as error:
        yield Check(f"{label}seed", False, str(error))
        return
    is_same = again == seed.seed and attempt.number == seed.attempt
    yield Check(f"{label}seed of K₀, link and public number", is_same, again)


def _are_entered(source: ChainSeed, attempts: list[campaign.Attempt], issued: Campaign, calendar: Calendar) -> bool:
    try:
        campaign.check_entries(source.public, attempts, issued.committed_at, calendar)
    except CallbackError:
        return False
    return True


def check_calls(again: pd.DataFrame, called: set[str], before: set[str], taken: list[str], *, label: str) -> Check:
    """Who is called: the whole sample, and of the reserve in each stratum those with the smallest tickets."""
    sample = set(again.loc[again["kind"] == "sample", "customer_id"])
    reserve = again[again["kind"] == "reserve"].sort_values("rank")
    moved_up = reserve["customer_id"].isin(called)
    # In each stratum nobody who moved up stands behind one who did not.
    skipped = (~moved_up).groupby([reserve["group_key"], reserve["stratum"]]).cumsum().gt(0) & moved_up
    strangers = called - set(again["customer_id"])
    is_same = sample <= called and not skipped.any() and not strangers and before == set(taken)
    return Check(
        f"{label}calls = sample + reserve in order", is_same, f"{len(sample)} + {int(moved_up.sum())} customers"
    )


def export_proof(settings: Settings, store: Store, campaign_id: str, folder: Path) -> dict[str, str]:
    """The files that a stranger needs to replay a campaign without the product; their hashes by name.

    Holds revealed months only: every month up to the campaign's, with link and public number.
    """
    with store.begin() as session:
        issued, year = _campaign_of(session, campaign_id)
        if year is None:
            raise VerifyError(
                f"{campaign_id}: names {issued.programme_year_id}, which is missing; nothing can be exported"
            )
        months = _drawn_until(session, year, issued.period)
        versions = [
            one
            for one in records.programme_years(session, year.programme, year.year)
            if any(month.programme_year_id == one.id for month in months)
        ]
        chain = records.chain_of(session, year)
        told_versions = [_version_told(session, one, is_last=one.id == year.id) for one in versions]
        in_use = read_calendar(settings)
        whole = [_month_of(session, month, chain, in_use, "") for month in months]
        told_months = [_month_told(session, settings, month) for month in whole]
        sample = campaign.sample_text(records.drawn_of(session, campaign_id))
    old = [one.id for one in versions if not one.ledger_sha256] + [m.id for m in months if not m.state_path]
    if old:
        raise export.ExportError(
            f"{campaign_id}: {', '.join(old)} was frozen or committed by a version that kept no segments and states; "
            "`huifang verify` checks it, an export cannot be made of it"
        )
    proof = {
        "campaign": campaign_id,
        "programme": year.programme,
        "year": year.year,
        "versions": told_versions,
        "chain": {"links": chain.links, "k0": chain.k0} if chain else None,
        "months": told_months,
    }
    con = lake.connect(settings)
    paths = {told["frame_file"]: one.frame_path for told, one in zip(told_versions, versions, strict=True)}
    paths |= {
        told["developers_file"]: month.developers_path
        for told, month in zip(told_months, months, strict=True)
        if month.developers_path
    }
    try:
        tables = {
            name: lake.text_pieces(con, lake.open_file(settings, path, con), is_sorted=True)
            for name, path in paths.items()
        }
        return export.write_export(folder, proof, tables, sample)
    except CallbackError:
        raise
    except Exception as error:  # each engine has its own word for a damaged file
        words = str(error).strip().splitlines() or [""]
        raise VerifyError(f"{campaign_id}: cannot be read from the lake, nothing is exported: {words[0]}") from error


def _version_told(session: Session, year: ProgrammeYear, *, is_last: bool) -> dict[str, Any]:
    return {
        "version": year.version,
        "plan": year.plan,
        "plan_sha256": year.plan_sha256,
        "frame_file": "frame.csv.gz" if is_last else f"frame-{year.version}.csv.gz",
        "frame_sha256": year.frame_sha256,
        "base": year.base,
        "waived": year.waived,
        "ledger": _plain(records.exclusions_of(session, year.id), ["branch_no", "reason", "customers"]),
        "quota": _plain(records.quota_of(session, year.id), ["group_key", "branch_no", "eligible", "goal"]),
        "strata": _plain(
            records.strata_of(session, year.id), ["group_key", "stratum", "customers", "minimum", "places"]
        ),
        "excluded_by_hand": [
            {"customer_id": row.customer_id, "reason": row.reason_code, "approver": row.approver}
            for row in records.hand_made(session, year.programme, year.year, "exclude")
        ],
    }


def _plain(table: pd.DataFrame, columns: list[str]) -> list[dict[str, Any]]:
    ordered = table[columns].astype(object).sort_values(columns[:2])
    return [{str(k): v if isinstance(v, str) else int(v) for k, v in row.items()} for row in ordered.to_dict("records")]


def _month_told(session: Session, settings: Settings, month: Month) -> dict[str, Any]:
    issued, seed = month.issued, month.seed
    attempts = records.attempts_of(session, issued.id) if seed.origin == "chain" else []
    return {
        "campaign": issued.id,
        "period": issued.period,
        "version": month.year.version,
        "state": lake.read_text(settings, issued.state_path) if issued.state_path else "",
        "state_sha256": issued.state_sha256,
        "committed_at": _moment(issued.committed_at),
        "developers_file": f"developers-{issued.period}.csv.gz" if issued.developers_path else "",
        "exceptions": [
            {
                "kind": row.kind, "group_key": row.group_key, "stratum": row.stratum, "calls": row.calls,
                "approver": row.approver, "reason": row.note,
            }
            for row in _exceptions_of(session, month)
        ],
        "attempts": [
            {
                "attempt": one.number,
                "period": one.period(issued.period),
                "public": one.public,
                "public_on": one.public_on.isoformat() if one.public_on else "",
                "link": one.link,
                "aborted": one.aborted,
                **_entry("public", one.public_entry),
                **_entry("link", one.link_entry),
                **_entry("aborted", one.abort_entry),
            }
            for one in attempts
        ],
        "origin": seed.origin,
        "seed": seed.seed,
        "sample_sha256": month.draw.sample_sha256,
    }  # fmt: skip


def _entry(name: str, entry: campaign.Entry | None) -> dict[str, str]:
    return {f"{name}_by": entry.by if entry else "", f"{name}_at": _moment(entry.at) if entry else ""}


def _moment(at: datetime) -> str:
    """A time in Shanghai, always of the same width, so that its text sorts as the time does."""
    return at.astimezone(SHANGHAI).isoformat(timespec="microseconds")
