"""One month: its state counted and committed, and the one draw from it."""

from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import ibis
import pandas as pd
from prefect import get_run_logger, task

from flows.draw.calls import assign_calls
from models import assignment, campaign, frame, sampling
from models.calendar import Calendar, Period
from models.programme import ChainSeed, CoverageGoal, Programme
from models.tables import Campaign, Draw, ProgrammeYear, Seed
from tasks import lake, records
from tasks.settings import Settings, code_version
from tasks.store import Store, record

STAFF_KINDS = ("broker", "marketer")
"""Who makes a customer *developed*, and his form the conduct form (DOMAIN §1)."""


def commit_month(
    settings: Settings,
    store: Store,
    rules: Programme,
    year: ProgrammeYear,
    span: Period,
    calendar: Calendar,
    *,
    as_of: date,
    now: datetime,
) -> Campaign | None:
    """The state of every stratum and the places it is dealt, committed before a seed exists (DRAW 5–7, 14).

    None while the programme's seeds come from a chain that nobody has committed to.
    """
    campaign_id = f"{rules.programme}-{span.name}"
    with store.begin() as session:
        known = session.get(Campaign, campaign_id)
        if known is not None:
            return known
        chain = records.chain_of(session, year)
        if isinstance(rules.seed, ChainSeed) and chain is None:
            return None
        # A month that is committed and then cannot be drawn would block those after it.
        require_due_days(calendar, rules, span.last if isinstance(rules.seed, ChainSeed) else as_of)
        later = records.later_campaigns(session, year.id, span.name)
        if later:
            raise sampling.DrawError(
                f"{campaign_id}: {', '.join(later)} is drawn already; periods of a programme year are drawn in order"
            )
        waiting = records.undrawn_campaigns(session, year.id, span.name)
        if waiting:
            raise sampling.DrawError(
                f"{campaign_id}: {waiting[0]} is committed and not drawn yet; periods of a programme year are drawn in order"
            )
        approved = [
            (row.group_key, row.stratum)
            for row in records.hand_made(session, rules.programme, year.year, "reopen")
            if row.period == span.name
        ]
        capacities = {
            row.group_key: row.calls
            for row in records.hand_made(session, rules.programme, year.year, "capacity")
            if row.period == span.name
        }
    developers_path = f"campaigns/{campaign_id}/developers.parquet" if isinstance(rules.goal, CoverageGoal) else ""
    state = count_state(settings, store, rules, year, as_of=as_of, developers_path=developers_path)
    taken = campaign.reopen_failures(state.taken, state.slices, approved)
    left = state.slices.set_index(["group_key", "stratum"])["never_taken"].to_dict()
    for group, stratum in approved:
        if left.get((group, stratum)) != 0:
            get_run_logger().warning(
                "%s: the approval to reopen stratum %s of %s has no effect: %s customers were never taken yet",
                campaign_id, stratum, group, left.get((group, stratum), "no such stratum;"),
            )  # fmt: skip
    pace = campaign.pace_of(rules, span, calendar, as_of)
    issue = campaign.deal(rules, state.owed, state.slices, taken, pace, month=span.first.month, capacities=capacities)
    header = {
        "campaign": campaign_id,
        "period": span.name,
        "programme_year": f"{year.programme}-{year.year}",
        "version": year.version,
        "as_of": as_of.isoformat(),
        "calendar_version": calendar.version,
        "workdays": campaign.listed_workdays(rules, span, calendar, as_of, now),
        "plan_sha256": year.plan_sha256,
        "frame_sha256": year.frame_sha256,
        "k0": chain.k0 if chain else "",
        "developers_sha256": state.developers_sha256,
        "weight": pace.weight,
        "weight_left": pace.weight_left,
    }
    text = campaign.state_text(header, issue, taken)
    state_sha256 = campaign.text_sha256(text)
    state_path = f"campaigns/{campaign_id}/state-{state_sha256[:12]}.json"
    lake.write_text(settings, state_path, text)
    issued = Campaign(
        id=campaign_id,
        programme_year_id=year.id,
        period=span.name,
        as_of=as_of,
        calendar_version=calendar.version,
        state_sha256=state_sha256,
        state_path=state_path,
        developers_path=developers_path,
        rows_until=state.rows_until,
        committed_at=now,
    )
    with store.begin() as session:
        records.add_campaign(session, issued, issue.groups, issue.strata)
        record(
            session,
            actor=settings.actor or "flow:draw",
            action="commit",
            subject=campaign_id,
            payload={"state": state_sha256},
            at=now,
        )
    return issued


def require_due_days(calendar: Calendar, rules: Programme, last: date) -> None:
    """Raise MissingCalendar, naming the file to write, unless calls assigned until a day have due dates."""
    calendar.add(last, rules.due_workdays)


@dataclass(frozen=True)
class State:
    """Where a programme year stands on a day, coded as its plan in force codes (DRAW 5, 12)."""

    taken: pd.DataFrame
    """See models.campaign.TAKEN."""
    owed: pd.DataFrame
    slices: pd.DataFrame
    rows_until: int
    """The last return row that was counted."""
    developers_sha256: str = ""


def count_state(
    settings: Settings,
    store: Store,
    rules: Programme,
    year: ProgrammeYear,
    *,
    as_of: date,
    developers_path: str = "",
) -> State:
    """The state of a programme year from every call and return of it so far.

    developers_path: where a coverage programme keeps the developers of the day in the lake; nowhere when empty.
    """
    with store.begin() as session:
        calls = records.taken_of(session, year.id)
        until = records.last_row(session)
        state = assignment.progress(calls, records.current_rows(session, year.id), records.ends(session), as_of)
    con = lake.connect(settings)
    status = campaign.status_of(calls.assign(state=state["state"]))
    drawn_under = calls.drop_duplicates("customer_id", keep="last").set_index("customer_id")
    if isinstance(rules.goal, CoverageGoal):
        inside = drawn_under
        if year.version > 1:
            inside = drawn_under.loc[drawn_under.index.isin(_codes_of(settings, con, year, list(status.index)).index)]
        taken = campaign.code_taken(status, inside[["group_key", "stratum"]])
        found = find_developers(settings, store, con, rules.goal, year, developers_path, taken, as_of=as_of)
        return State(taken, found.owed, found.slices, until, found.sha256)
    # Under a changed plan who was taken before is coded as its frame codes him (DRAW 12).
    codes = drawn_under if year.version == 1 else _codes_of(settings, con, year, list(status.index))
    taken = campaign.code_taken(status, codes[["group_key", "stratum"]])
    with store.begin() as session:
        quota, strata = records.quota_of(session, year.id), records.strata_of(session, year.id)
    return State(taken, *campaign.owed_by_plan(quota, strata, taken), until)


def _codes_of(settings: Settings, con: ibis.BaseBackend, year: ProgrammeYear, ids: list[str]) -> pd.DataFrame:
    frozen = lake.open_file(settings, year.frame_path, con)
    wanted = frozen.semi_join(frame.customer_ids(ids), "customer_id")
    return wanted.select("customer_id", "group_key", "stratum").execute().set_index("customer_id")


@dataclass(frozen=True)
class Developed:
    """What each active marketer owes, his customers, and the hash of who developed whom."""

    owed: pd.DataFrame
    slices: pd.DataFrame
    sha256: str


def find_developers(
    settings: Settings,
    store: Store,
    con: ibis.BaseBackend,
    goal: CoverageGoal,
    year: ProgrammeYear,
    path: str,
    taken: pd.DataFrame,
    *,
    as_of: date,
) -> Developed:
    """What each active marketer owes and whom he developed on the day, kept in the lake with its hash (DRAW 17).

    A marketer whose customers are all excluded, or who has none, is listed with the reason.
    """
    with store.begin() as session:
        staff_path = records.snapshot_of(session, "staff", as_of).path
        relations_path = records.snapshot_of(session, "relations", as_of).path
    staff, relations = (lake.open_table(settings, p, con) for p in (staff_path, relations_path))
    frozen = lake.open_file(settings, year.frame_path, con)
    developed = frame.developers(frame.Base(frozen, staff, relations), goal.staff_kinds, as_of)
    mine = developed.semi_join(frozen, "customer_id")
    kept = lake.write_table(con, mine, settings.lake / path, ["customer_id"]) if path else lake.keep(con, "mine", mine)
    never = kept.anti_join(frame.customer_ids(list(taken["customer_id"])), "customer_id")
    counts = {
        name: {str(k): int(n) for k, n in table.developer_id.value_counts(name="n").execute().itertuples(index=False)}
        for name, table in (("eligible", kept), ("never_taken", never))
    }
    excluded = lake.open_file(settings, str(Path(year.frame_path).with_name("ledger.parquet")), con)
    with_excluded = set(developed.semi_join(excluded, "customer_id").developer_id.execute())
    active = assignment.active_staff(lake.read_staff(settings, staff_path), goal.staff_kinds, as_of)
    rows = []
    for staff_id, branch_no in zip(active["staff_id"], active["branch_no"], strict=True):
        eligible = counts["eligible"].get(staff_id, 0)
        reason = "" if eligible else "excluded" if staff_id in with_excluded else "no_customers"
        rows.append(
            (staff_id, branch_no, eligible, min(goal.calls_per_year, eligible), counts["never_taken"].get(staff_id, 0), reason)
        )  # fmt: skip
    owed = pd.DataFrame(rows, columns=["group_key", "branch_no", "eligible", "goal", "never_taken", "reason"])
    owed = owed.astype({"group_key": "str", "branch_no": "str", "reason": "str"})
    return Developed(owed, campaign.slices_of_marketers(owed), lake.text_sha256(con, kept))


def kept_back(settings: Settings, issued: Campaign, fallback: pd.DataFrame) -> list[str]:
    """Customers who may not be drawn: the taken of the committed state but for the reopened."""
    if not issued.state_path:
        return [str(i) for i in fallback["customer_id"]]
    return campaign.blocked(lake.read_text(settings, issued.state_path))


@task(name="draw once", task_run_name="draw once")
def draw_once(
    settings: Settings,
    store: Store,
    rules: Programme,
    year: ProgrammeYear,
    issued: Campaign,
    seed: Seed,
    calendar: Calendar,
    *,
    as_of: date,
    now: datetime,
) -> None:
    """Sample, reserve and assignments of a campaign, in one transaction."""
    with store.begin() as session:
        taken = records.taken_of(session, year.id, before=issued.id)
        places = records.campaign_strata_of(session, issued.id)[["group_key", "stratum", "places", "reserve"]]
        staff = records.optional_snapshot(session, "staff", as_of)
        relations = records.optional_snapshot(session, "relations", as_of)
    con = lake.connect(settings)
    gone = frame.customer_ids(kept_back(settings, issued, taken))
    if issued.developers_path:
        frozen, developers = (lake.open_file(settings, p, con) for p in (year.frame_path, issued.developers_path))
        drawn = sampling.draw(frame.drawing_frame(frozen, developers), gone, ibis.memtable(places), seed.seed)
    else:
        drawn = lake.draw_from(settings, year.frame_path, con, gone, places, seed.seed)
    base = frame.Base(
        drawn,
        lake.open_table(settings, staff.path, con) if staff else None,
        lake.open_table(settings, relations.path, con) if relations else None,
    )
    developed = frame.developers(base, STAFF_KINDS, as_of)
    found = drawn.left_join(developed, "customer_id").drop("customer_id_right").execute()
    found["developer_id"] = found["developer_id"].fillna("").astype(str)
    found["form"] = found["developer_id"].map(lambda developer: "conduct" if developer else "risk_warning")

    sample = found[found["kind"] == "sample"].sort_values(["branch_no", "group_key", "stratum", "rank"])
    _check_filled(issued, sample, places)
    with store.begin() as session:
        draw = Draw(
            campaign_id=issued.id,
            attempt=seed.attempt,
            drawn=len(sample),
            reserve=len(found) - len(sample),
            sample_sha256=campaign.text_sha256(campaign.sample_text(found)),
            code_version=code_version(),
            drawn_at=now,
        )
        records.add_draw(session, draw, found)
        assign_calls(session, settings, rules, year, issued, sample, calendar, as_of=max(as_of, issued.as_of), now=now)
        record(
            session,
            actor=settings.actor or "flow:draw",
            action="draw",
            subject=issued.id,
            payload={"sample": draw.sample_sha256},
            at=now,
        )


def _check_filled(issued: Campaign, sample: pd.DataFrame, places: pd.DataFrame) -> None:
    """Raise DrawError unless every stratum's places have a customer; a sample that is short would never be noticed."""
    keys = ["group_key", "stratum"]
    found = sample.groupby(keys).size()
    short = [
        f"{group} {stratum}: {found.get((group, stratum), 0)} of {count}"
        for group, stratum, count in places[[*keys, "places"]].itertuples(index=False, name=None)
        if found.get((group, stratum), 0) != count
    ]
    if short:
        raise sampling.DrawError(
            f"{issued.id}: the frame in the lake, or the places in the store, are no longer those that were committed: "
            f"{'; '.join(short[:5])}{' …' if len(short) > 5 else ''} customers were found for the places dealt; nothing is "
            "drawn. Restore lake and store from one backup and run the draw again"
        )
