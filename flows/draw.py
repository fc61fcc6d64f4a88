"""Draw: freeze the year's base, commit the month's state, store its seed, draw once, assign; later move reserves up."""

import hashlib
import re
import secrets
from datetime import date, datetime
from fractions import Fraction
from math import ceil
from pathlib import Path

import ibis
import pandas as pd
from prefect import flow, get_run_logger, task

from models import assignment, frame, sampling
from models.calendar import SHANGHAI, Calendar, Period
from models.calendar import period as read_period
from models.programme import CoverageGoal, Programme, RateGoal, version_on
from models.tables import Campaign, Draw, ProgrammeYear, Seed
from tasks import board, lake, records
from tasks.settings import Settings, SettingsError, code_version, read_calendar, read_programmes
from tasks.store import Store, open_store, record

STAFF_KINDS = ("broker", "marketer")
"""Who makes a customer *developed*, and his form the conduct form (DOMAIN §1)."""


@flow(name="draw", flow_run_name=board.run_name("draw", "period", "programme"))
def draw_sample(
    programme: str, period: str | None = None, as_of: date | None = None, now: datetime | None = None
) -> dict[str, int]:
    """Drawn, reserve, assigned and activated of one campaign; it is drawn once, a second run only moves reserves up.

    period: the month of the run where none is given; as_of: the day of the run, or the period's first workday when the
    run lies outside it.
    """
    log, settings = get_run_logger(), Settings()
    now = now or board.run_clock()
    today = now.astimezone(SHANGHAI).date()
    span, calendar = read_period(period or f"{today:%Y-%m}"), read_calendar(settings)
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}", span.name):
        raise sampling.DrawError(f"period {span.name}: programmes are drawn by the month; write one such as 2026-03")
    calendar.require(span.last.year)
    as_of = as_of or (today if span.first <= today <= span.last else calendar.on_or_after(span.first))
    rules = version_on(read_programmes(settings), programme, span.first)

    store = open_store(settings)
    with store.exclusive(f"draw-{programme}"):
        year = freeze_year(settings, store, rules, span.first.year, now=now)
        campaign = commit_month(store, rules, year, span, calendar, as_of=as_of, now=now)
        seed = keep_seed(store, campaign, now=now)
        with store.begin() as session:
            is_drawn = session.get(Draw, campaign.id) is not None
        if is_drawn:
            log.warning("campaign %s is drawn already; its sample stays as it is", campaign.id)
            activated = activate_reserve(store, rules, campaign, calendar, as_of=as_of, now=now)
        else:
            draw_once(settings, store, rules, year, campaign, seed, calendar, as_of=as_of, now=now)
            activated = 0
        with store.begin() as session:
            drawn, groups = session.get_one(Draw, campaign.id), records.groups_of(session, campaign.id)
            calls = len(records.calls_of(session, campaign.id))
    short = groups[groups["shortfall"] > 0]
    if len(short):
        log.warning(
            "%s: %s places in %s groups could not be dealt: %s",
            campaign.id,
            int(short["shortfall"].sum()),
            len(short),
            short.groupby("reason")["shortfall"].sum().to_dict(),
        )
    counts = {
        "drawn": drawn.drawn,
        "reserve": drawn.reserve,
        "assigned": calls,
        "activated": activated,
        "shortfall": int(groups["shortfall"].sum()),
    }
    log.info("%s: %s", campaign.id, counts)
    board.publish_counts(
        "draw", campaign.id, [{"campaign": campaign.id, "base": year.base, "eligible": year.eligible, **counts}]
    )
    return counts


@task(name="freeze base", task_run_name="freeze base of {year_number}")
def freeze_year(
    settings: Settings, store: Store, rules: Programme, year_number: int, *, now: datetime
) -> ProgrammeYear:
    """The programme year: frame, ledger, goals and strata on last year-end's base, committed once."""
    year_id = f"{rules.programme}-{year_number}"
    with store.begin() as session:
        known = session.get(ProgrammeYear, year_id)
    if known is not None:
        if known.plan_sha256 != rules.plan_sha256():
            raise frame.FrameError(
                f"programme {rules.programme}: its file (version {rules.version}) is not the plan that {year_id} was frozen with; "
                f"put the file back as it was: a plan changed within the year cannot be drawn yet"
            )
        return known

    base_on = date(year_number - 1, 12, 31)
    with store.begin() as session:
        snapshots = {
            table: records.snapshot_of(session, table, base_on, exactly=True)
            for table in rules.needs
            if table != "roster"
        }
        optional = records.optional_snapshot(session, "transactions", base_on)
        customers = snapshots["customers"]
        waiver = records.waiver_of(session, customers.id)
    waived = customers.rejected
    if waived and (waiver is None or waiver.rejected_sha256 != customers.rejected_sha256):
        raise frame.FrameError(
            f"the customers extract of {base_on} has {waived} rejected rows, which would shrink the base silently: have it corrected "
            f"and pull it again, or let an approver waive them with `huifang waive {base_on} --by NAME --reason TEXT`"
        )

    con = lake.connect(settings)
    opened = {table: lake.open_table(settings, snapshot.path, con) for table, snapshot in snapshots.items()}
    base = frame.Base(opened["customers"], opened.get("staff"), opened.get("relations"))
    judged = lake.keep(con, "judged", frame.judge(base, rules, base_on))
    ledger = frame.LEDGER.validate(frame.ledger(judged).execute())
    total = customers.accepted + waived
    frame.balance(ledger, {"rejected": waived}, total)
    plan = frame.plan_year(frame.sizes(judged).execute(), rules)
    traded = lake.open_activity(settings, optional.path, con) if optional else None
    found = {
        kind: int(table.count().execute())
        for kind, table in frame.contradictions(base.customers, traded, base_on).items()
    }

    path = Path("frames") / year_id
    frozen = frame.freeze(judged, ibis.memtable(plan.segments))
    written = lake.write_table(con, frozen, settings.lake / path / "frame.parquet", ["customer_id"])
    lake.write_table(
        con, judged.filter(judged.reason.notnull()), settings.lake / path / "ledger.parquet", ["customer_id"]
    )
    year = ProgrammeYear(
        id=year_id,
        programme=rules.programme,
        year=year_number,
        base_on=base_on,
        snapshots={table: snapshot.id for table, snapshot in snapshots.items()},
        plan=rules.plan(),
        plan_sha256=rules.plan_sha256(),
        frame_path=str(path / "frame.parquet"),
        frame_sha256=lake.text_sha256(con, written, is_sorted=True),
        base=total,
        eligible=int(ledger.loc[ledger["reason"].isna(), "customers"].sum()),
        waived=waived,
        contradictions={kind: n for kind, n in found.items() if n},
        code_version=code_version(),
        frozen_at=now,
    )
    with store.begin() as session:
        records.add_programme_year(session, year, ledger=ledger, quota=plan.quota, strata=plan.strata)
        record(
            session,
            actor=settings.actor or "flow:draw",
            action="freeze",
            subject=year_id,
            payload={"frame": year.frame_sha256, "plan": year.plan_sha256, "base": total},
            at=now,
        )
    get_run_logger().info(
        "%s: base %s, eligible %s, goal %s", year_id, total, year.eligible, int(plan.quota["goal"].sum())
    )
    for kind, customers_found in year.contradictions.items():
        get_run_logger().warning("%s: %s customers are %s; reported, not repaired", year_id, customers_found, kind)
    return year


def commit_month(
    store: Store, rules: Programme, year: ProgrammeYear, span: Period, calendar: Calendar, *, as_of: date, now: datetime
) -> Campaign:
    """The state of every stratum and the places it is dealt, committed before a seed exists (DRAW 5–7, 14)."""
    campaign_id = f"{rules.programme}-{span.name}"
    with store.begin() as session:
        known = session.get(Campaign, campaign_id)
        if known is not None:
            return known
        quota, strata = records.quota_of(session, year.id), records.strata_of(session, year.id)
        later = records.later_campaigns(session, year.id, span.name)
        if later:
            raise sampling.DrawError(
                f"{campaign_id}: {', '.join(later)} is drawn already; periods of a programme year are drawn in order"
            )
        taken = records.taken_of(session, year.id)
        state = assignment.progress(taken, records.current_rows(session, year.id), records.ends(session), as_of)
        groups, dealt = deal_places(rules, quota, strata, taken.assign(state=state["state"]), span, calendar)
        campaign = Campaign(
            id=campaign_id,
            programme_year_id=year.id,
            period=span.name,
            as_of=as_of,
            calendar_version=calendar.version,
            state_sha256=hashlib.sha256(
                frame.state_text(groups, dealt, list(taken["customer_id"])).encode()
            ).hexdigest(),
            committed_at=now,
        )
        records.add_campaign(session, campaign, groups, dealt)
        record(
            session,
            actor="flow:draw",
            action="commit",
            subject=campaign_id,
            payload={"state": campaign.state_sha256},
            at=now,
        )
    return campaign


def deal_places(
    rules: Programme, quota: pd.DataFrame, strata: pd.DataFrame, taken: pd.DataFrame, span: Period, calendar: Calendar
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The month's groups and strata as they are committed; taken: group_key, stratum, state of every call of the year."""
    month_days = len(calendar.workdays(span.first, span.last))
    days_left = len(calendar.workdays(span.first, date(span.first.year, 12, 31)))
    by_stratum = taken.groupby(["group_key", "stratum", "state"]).size().to_dict()
    groups, dealt = [], []
    for owed in quota.itertuples():
        mine = strata[strata["group_key"] == owed.group_key]
        sizes = {str(r.stratum): int(r.customers) for r in mine.itertuples()}
        count = {s: {k: int(by_stratum.get((owed.group_key, k, s), 0)) for k in sizes} for s in assignment.STATES}
        state = {k: count["completed"][k] + count["open"][k] for k in sizes}
        left = {k: sizes[k] - sum(count[s][k] for s in assignment.STATES) for k in sizes}
        completed, still_open = sum(count["completed"].values()), sum(count["open"].values())
        failed = sum(sum(count[s].values()) for s in ("replaced", "withdrawn", "expired"))
        capacity, available = rules.capacity, sum(left.values())
        match rules.goal:
            case RateGoal():
                plan = sampling.plan_month(
                    goal=int(owed.goal),
                    completed=completed,
                    open=still_open,
                    failed=failed,
                    workdays=month_days,
                    workdays_left=days_left,
                    capacity=capacity,
                    left=available,
                )
            case CoverageGoal(calls_per_year=calls):
                plan = sampling.plan_coverage(
                    per_year=calls,
                    month=span.last.month,
                    counted=completed + still_open,
                    capacity=capacity,
                    left=available,
                )
        groups.append(
            (
                owed.group_key,
                completed,
                still_open,
                failed,
                plan.owed,
                plan.share,
                plan.places,
                plan.shortfall,
                plan.reason,
            )
        )
        minimum = int(mine["minimum"].max())
        places = sampling.extend(sizes, state, left, plan.places, minimum)
        for k in sizes:
            reserve = min(left[k] - places[k], ceil(Fraction(rules.reserve) * places[k]))
            dealt.append(
                (
                    owed.group_key,
                    k,
                    sizes[k],
                    int(mine.loc[mine["stratum"] == k, "minimum"].iloc[0]),
                    state[k],
                    left[k],
                    places[k],
                    reserve,
                )
            )
    return (
        pd.DataFrame(
            groups,
            columns=["group_key", "completed", "open", "failed", "owed", "share", "places", "shortfall", "reason"],
        ),
        pd.DataFrame(
            dealt, columns=["group_key", "stratum", "customers", "minimum", "state", "left", "places", "reserve"]
        ),
    )


def keep_seed(store: Store, campaign: Campaign, *, now: datetime) -> Seed:
    """The campaign's seed: stored before anything is drawn with it, and never made twice (DRAW 15)."""
    with store.begin() as session:
        known = records.seed_of(session, campaign.id)
        if known is not None:
            return known
        seed = Seed(campaign_id=campaign.id, attempt=1, seed=secrets.token_hex(32), origin="random", stored_at=now)
        session.add(seed)
        record(session, actor="flow:draw", action="seed", subject=campaign.id, payload={"seed": seed.seed}, at=now)
    return seed


@task(name="draw once", task_run_name="draw once")
def draw_once(
    settings: Settings,
    store: Store,
    rules: Programme,
    year: ProgrammeYear,
    campaign: Campaign,
    seed: Seed,
    calendar: Calendar,
    *,
    as_of: date,
    now: datetime,
) -> None:
    """Sample, reserve and assignments of a campaign, in one transaction."""
    with store.begin() as session:
        taken = list(records.taken_of(session, year.id)["customer_id"])
        places = records.campaign_strata_of(session, campaign.id)[["group_key", "stratum", "places", "reserve"]]
        staff = records.optional_snapshot(session, "staff", as_of)
        relations = records.optional_snapshot(session, "relations", as_of)
    con = lake.connect(settings)
    drawn = sampling.draw(
        lake.open_file(settings, year.frame_path, con),
        ibis.memtable(pd.DataFrame({"customer_id": pd.Series(taken, dtype="str")}), schema={"customer_id": "string"}),
        ibis.memtable(places),
        seed.seed,
    )
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
    due_on = calendar.add(max(as_of, campaign.as_of), rules.due_workdays)
    with store.begin() as session:
        joined = assignment.joined_calls(sample, records.open_calls_of_others(session, campaign, as_of))
        new = assignment.assign(sample[~sample["customer_id"].isin(joined["customer_id"])], due_on=due_on)
        draw = Draw(
            campaign_id=campaign.id,
            attempt=seed.attempt,
            drawn=len(sample),
            reserve=len(found) - len(sample),
            sample_sha256=hashlib.sha256(frame.sample_text(found).encode()).hexdigest(),
            code_version=code_version(),
            drawn_at=now,
        )
        records.add_draw(session, draw, found)
        records.add_assignments(session, campaign, new, joined, as_of=as_of, now=now)
        record(
            session,
            actor="flow:draw",
            action="draw",
            subject=campaign.id,
            payload={"sample": draw.sample_sha256},
            at=now,
        )


def activate_reserve(
    store: Store, rules: Programme, campaign: Campaign, calendar: Calendar, *, as_of: date, now: datetime
) -> int:
    """How many reserve customers took the place of booked failures, in the order these were booked (DRAW 9)."""
    with store.begin() as session:
        if records.later_campaigns(session, campaign.programme_year_id, campaign.period):
            return 0
        calls = records.taken_of(session, campaign.programme_year_id)
        calls = calls[calls["campaign_id"] == campaign.id]
        rows = records.current_rows(session, campaign.programme_year_id)
        calls = calls.assign(state=assignment.progress(calls, rows, records.ends(session), as_of)["state"].to_numpy())
        drawn, groups = records.drawn_of(session, campaign.id), records.groups_of(session, campaign.id)
        reserve = drawn[(drawn["kind"] == "reserve") & ~drawn["customer_id"].isin(calls["customer_id"])]
        failures = calls[
            (calls["state"] == "replaced") & ~calls["assignment_id"].isin(records.replaced_ids(session, campaign.id))
        ]
        failures = failures.merge(rows[["assignment_id", "id"]], on="assignment_id").sort_values("id")

        chosen: list[str] = []
        replaces: dict[str, int] = {}
        for group in groups.itertuples():
            state = calls.loc[calls["group_key"] == group.group_key, "state"].value_counts()
            waiting = failures[failures["group_key"] == group.group_key]
            count = sampling.activations(
                share=int(group.share),
                completed=int(state.get("completed", 0)),
                open=int(state.get("open", 0)),
                waiting=len(waiting),
            )
            for failure in waiting.itertuples():
                same = reserve[
                    (reserve["group_key"] == failure.group_key)
                    & (reserve["stratum"] == failure.stratum)
                    & ~reserve["customer_id"].isin(chosen)
                ].sort_values("rank")
                if count == 0 or same.empty:
                    continue
                customer = str(same["customer_id"].iloc[0])
                chosen.append(customer)
                replaces[customer] = int(failure.assignment_id)
                count -= 1
        if not chosen:
            return 0
        taking = drawn[drawn["customer_id"].isin(chosen)]
        joined = assignment.joined_calls(taking, records.open_calls_of_others(session, campaign, as_of))
        new = assignment.assign(
            taking[~taking["customer_id"].isin(joined["customer_id"])], due_on=calendar.add(as_of, rules.due_workdays)
        )
        records.add_assignments(session, campaign, new, joined, as_of=as_of, now=now, replaces=replaces)
        record(
            session,
            actor="flow:draw",
            action="activate",
            subject=campaign.id,
            payload={"customers": sorted(chosen)},
            at=now,
        )
    return len(chosen)


def verify(settings: Settings, store: Store, campaign_id: str) -> list[tuple[str, bool, str]]:
    """Each thing recomputed about a campaign: its name, whether it is the same, and what was found."""
    with store.begin() as session:
        campaign, year, draw = records.campaign_of(session, campaign_id)
        groups, strata = records.groups_of(session, campaign_id), records.campaign_strata_of(session, campaign_id)
        taken = list(records.taken_of(session, year.id, before=campaign_id)["customer_id"])
        stored, seed = records.drawn_of(session, campaign_id), records.seed_of(session, campaign_id)
        quota, year_strata = records.quota_of(session, year.id), records.strata_of(session, year.id)
    if seed is None:
        raise SettingsError(f"{campaign_id}: its seed is missing from the store")
    con = lake.connect(settings)
    frozen = lake.open_file(settings, year.frame_path, con)
    plan_sha256 = hashlib.sha256(year.plan.encode()).hexdigest()
    try:
        frame_sha256 = lake.text_sha256(con, frozen)
    except Exception as error:  # noqa: BLE001 (each engine has its own word for a damaged file)
        return [("plan", plan_sha256 == year.plan_sha256, plan_sha256), ("frame", False, f"unreadable: {error}")]
    state_sha256 = hashlib.sha256(frame.state_text(groups, strata, taken).encode()).hexdigest()
    again = sampling.draw(
        frozen,
        ibis.memtable(pd.DataFrame({"customer_id": pd.Series(taken, dtype="str")}), schema={"customer_id": "string"}),
        ibis.memtable(strata[["group_key", "stratum", "places", "reserve"]]),
        seed.seed,
    ).execute()
    counted = frozen.group_by(["group_key", "stratum"]).aggregate(customers=frozen.count()).execute()
    held = year_strata.merge(counted, on=["group_key", "stratum"], how="outer", suffixes=("", "_frame"))
    tickets = all(
        sampling.ticket(seed.seed, str(i)) == t for i, t in zip(again["customer_id"], again["ticket"], strict=True)
    )
    again_sha256 = hashlib.sha256(frame.sample_text(again).encode()).hexdigest()
    stored_sha256 = hashlib.sha256(frame.sample_text(stored).encode()).hexdigest()
    return [
        ("plan", plan_sha256 == year.plan_sha256, plan_sha256),
        ("frame", frame_sha256 == year.frame_sha256, frame_sha256),
        (
            "sizes of strata",
            bool((held["customers"] == held["customers_frame"]).all())
            and int(quota["eligible"].sum()) == year.eligible,
            f"{len(held)} strata",
        ),
        ("state", state_sha256 == campaign.state_sha256, state_sha256),
        ("tickets by hashlib", tickets, f"{len(again)} tickets"),
        ("sample drawn again", again_sha256 == draw.sample_sha256, again_sha256),
        ("sample in the store", stored_sha256 == draw.sample_sha256, stored_sha256),
    ]
