"""Rehearsal: what a dry run of a year is played on, read from the pulled year-end base; nothing is written."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from fractions import Fraction
from functools import reduce

import ibis
import pandas as pd
from ibis.expr.types import Table
from sqlalchemy import make_url

from models import assignment, campaign, frame
from models.calendar import Calendar
from models.calendar import period as read_period
from models.explain import first_period, in_use_on
from models.outcomes import Label
from models.programme import CoverageGoal, Programme, RateGoal
from models.rehearsal import Month, Rehearsal, RehearsedYear, versions_of_year
from models.tables import ProgrammeYear, Snapshot
from tasks import lake, records
from tasks.settings import Settings
from tasks.store import Store, StoreError, connect_store, version_of

Told = Callable[[str, int, int], None]
"""Is told what is being done, which step it is, and of how many."""


@dataclass(frozen=True)
class Rehearsed:
    """A dry run with what it stands on."""

    programme: str
    year: int
    base_on: date
    versions: dict[str, int]
    """The version that each month is drawn by, by period."""
    base: int
    """Customers of the base, rejected ones included."""
    eligible: int
    excluded: dict[str, int]
    """By reason, those with nobody included."""
    rejected: int
    is_coverage: bool
    played: RehearsedYear
    refusals: list[Label] = field(default_factory=list)
    """What the draw itself would stop at."""
    notes: list[Label] = field(default_factory=list)


def rehearse_year(
    settings: Settings,
    files: Sequence[Programme],
    programme: str,
    year: int,
    calendar: Calendar,
    *,
    of_calls: Fraction,
    given: Programme | None = None,
    told: Told = lambda *_: None,
) -> Rehearsed:
    """A programme year played on the base of the year-end before, by the files as they are today.

    of_calls: the share of calls assumed to be completed; given: a draft that is played while it holds. Raises what the
    draw would raise where nothing can be played: no snapshot, nobody eligible, a change that is refused within a year.
    """
    calendar.require(year)
    versions = versions_of_year(files, programme, year, given)
    store = open_to_read(settings)
    base_on = date(year - 1, 12, 31)
    steps = len(versions) + 1
    told("base", 0, steps)
    ground = _read_ground(settings, store, versions, programme, year, calendar)
    rehearsal = Rehearsal(ground.cells, of_calls, calendar)
    notes = [*ground.notes, *_hidden(files, given, versions), *_late(versions), *_undrawn(versions, year)]
    for at, month in enumerate(ground.months, 1):
        told(month.span.name, at, steps)
        if isinstance(month.rules.goal, RateGoal) and not month.pace.weight_left:
            notes.append(
                Label(
                    f"{month.span.name} 在截止日期 {month.rules.cut_off(year)} 之后，不抽取",
                    f"{month.span.name} lies after the cut-off of {month.rules.cut_off(year)}; it is not drawn",
                )
            )
            continue
        rehearsal.play(month)
    told("", steps, steps)
    first = next(iter(versions.values()))
    return Rehearsed(
        programme=programme,
        year=year,
        base_on=base_on,
        versions={name: rules.version for name, rules in versions.items()},
        base=ground.customers.accepted + ground.customers.rejected,
        eligible=ground.eligible,
        excluded=ground.excluded,
        rejected=ground.customers.rejected,
        is_coverage=isinstance(first.goal, CoverageGoal),
        played=rehearsal.end(),
        refusals=ground.refusals,
        notes=notes,
    )


def open_to_read(settings: Settings) -> Store:
    """The store as it is: an empty one is not made, an old one not upgraded."""
    url = make_url(settings.store_url)
    if (
        url.get_backend_name() == "sqlite"
        and url.database
        and not settings.home.resolve().joinpath(url.database).is_file()
    ):
        raise records.NoSnapshot(
            f"{url.database}: nothing was pulled yet; run `huifang run pull --profile FILE --inbox DIR`"
        )
    store = connect_store(settings)
    present, needed = version_of(store.engine)
    if present is None:
        raise records.NoSnapshot("nothing was pulled yet; run `huifang run pull --profile FILE --inbox DIR`")
    if present != needed:
        raise StoreError(f"the database is at version {present}, this code needs {needed}: run `huifang db upgrade`")
    return store


def frozen_otherwise(settings: Settings, rules: Programme, year: int) -> list[str]:
    """Programme years that were frozen with this version while its file said something else; none without a store."""
    try:
        store = open_to_read(settings)
    except records.NoSnapshot:
        return []
    with store.begin() as session:
        return _edited(records.programme_years(session, rules.programme, year), rules)


def _edited(known: Iterable[ProgrammeYear], rules: Programme) -> list[str]:
    frozen = [(year.id, Programme.model_validate_json(year.plan).version, year.plan_sha256) for year in known]
    return [year_id for year_id, version, plan in frozen if version == rules.version and plan != rules.plan_sha256()]


def _hidden(files: Sequence[Programme], given: Programme | None, versions: dict[str, Programme]) -> Iterable[Label]:
    """Months of which the draft is played although a higher version of the folder holds."""
    if given is None:
        return
    hiding: dict[int, list[str]] = {}
    for name, rules in versions.items():
        used = in_use_on(files, given.programme, read_period(name).first)
        if rules is given and used is not None and used.version > given.version:
            hiding.setdefault(used.version, []).append(name)
    for version, months in hiding.items():
        yield Label(
            f"{'、'.join(months)}：方案目录中的第 {version} 版有效，正式抽取用该版；试算用所给文件（第 {given.version} 版）",
            f"{', '.join(months)}: version {version} of the programmes folder holds, and the draw uses that; the dry run plays "
            f"the given file (version {given.version})",
        )


def _late(versions: dict[str, Programme]) -> Iterable[Label]:
    """Versions that begin within a month and so are first used in the next."""
    for rules in {rules.version: rules for rules in versions.values()}.values():
        if rules.valid_from.day > 1 and first_period(rules) in versions:
            yield Label(
                f"第 {rules.version} 版 valid_from 为 {rules.valid_from}，不是月初，自 {first_period(rules)} 期次起适用",
                f"version {rules.version}: valid_from {rules.valid_from} is within a month; it is first used for "
                f"{first_period(rules)}",
            )


def _undrawn(versions: dict[str, Programme], year: int) -> list[Label]:
    missing = [name for name in (f"{year}-{month:02}" for month in range(1, 13)) if name not in versions]
    if not missing:
        return []
    return [
        Label(
            f"{'、'.join(missing)}：月初无有效版本，不抽取",
            f"{', '.join(missing)}: no version holds on the first of the month; not drawn",
        )
    ]


@dataclass(frozen=True)
class _Ground:
    """The year's base as the plans of its months code it."""

    customers: Snapshot
    cells: pd.DataFrame
    months: list[Month]
    eligible: int
    excluded: dict[str, int]
    refusals: list[Label]
    notes: list[Label]


def _read_ground(
    settings: Settings,
    store: Store,
    versions: dict[str, Programme],
    programme: str,
    year: int,
    calendar: Calendar,
) -> _Ground:
    base_on = date(year - 1, 12, 31)
    plans = {rules.plan_sha256(): rules for rules in versions.values()}
    order = list(plans)
    with store.begin() as session:
        known = records.programme_years(session, programme, year)
        for rules in plans.values():
            for table in rules.needs:  # every extract that the draw needs is there
                exactly = table not in ("roster", "staff", "relations")
                records.snapshot_of(session, table, base_on if exactly else date(year, 12, 31), exactly=exactly)
        customers = (
            records.snapshot_by_id(session, known[0].snapshots["customers"])
            if known
            else records.snapshot_of(session, "customers", base_on, exactly=True)
        )
        waiver = records.waiver_of(session, customers.id)
        is_waived = waiver is not None and waiver.rejected_sha256 == customers.rejected_sha256
        by_hand = {
            row.customer_id: row.reason_code
            for row in records.hand_made(session, programme, year, "exclude")
            if not known or row.given_at <= known[0].frozen_at
        }
    notes = _frozen_note(known, order)
    refusals = _refusals(programme, customers, base_on, is_waived, by_hand, plans.values())
    refusals += _edits(known, plans.values())
    con = lake.connect(settings)
    source = lake.open_table(settings, customers.path, con)
    judged, counts, yearly = [], [], []
    for number, rules in enumerate(plans.values()):
        reasons = {*rules.hand_reasons()}
        mine = {customer: reason for customer, reason in by_hand.items() if reason in reasons}
        table = frame.judge(frame.Base(source, None, None), rules, base_on, mine)
        judged.append(lake.keep(con, f"judged_{number}", table))
        counts.append(frame.count_judged(judged[-1]).execute())
        yearly.append(frame.plan_year(frame.sizes(counts[-1]), rules))
    ledger = frame.LEDGER.validate(frame.ledger(counts[0]))
    first = next(iter(plans.values()))
    counted = {str(reason): int(n) for reason, n in ledger.groupby("reason")["customers"].sum().items()}
    excluded = counted | {e.reason: 0 for e in first.exclusions if e.reason not in counted}
    notes += [
        Label(
            f"基数中没有客户因 {reason} 被剔除，请核对文件中的取值",
            f"no customer of the base is excluded as {reason}; check the values in the file",
        )
        for reason, n in excluded.items()
        if not n and reason not in first.hand_reasons()
    ]
    if isinstance(first.goal, CoverageGoal):
        cells, months = _by_developer(settings, store, con, judged, versions, order, calendar)
    else:
        cells, months = _by_branch(judged, yearly, versions, order, calendar)
    eligible = int(ledger.loc[ledger["reason"].isna(), "customers"].sum())
    return _Ground(customers, cells, months, eligible, excluded, refusals, notes)


def _frozen_note(known: list[ProgrammeYear], plans: list[str]) -> list[Label]:
    if not known:
        return []
    is_same = known[-1].plan_sha256 in plans
    return [
        Label(
            f"{known[-1].id} 的基数已冻结；试算仍从年初算起，按今天的方案文件"
            f"（{'与冻结时相同' if is_same else '与冻结时不同'}），不计已有的回访",
            f"{known[-1].id} is frozen; the dry run starts with the year all the same, by today's files "
            f"({'the plan that was frozen' if is_same else 'not the plan that was frozen'}), without the calls so far",
        )
    ]


def _refusals(
    programme: str,
    customers: Snapshot,
    base_on: date,
    is_waived: bool,
    by_hand: dict[str, str],
    plans: Iterable[Programme],
) -> list[Label]:
    found = []
    if customers.rejected and not is_waived:
        found.append(
            Label(
                f"{base_on} 的客户提取文件有 {customers.rejected} 行被拒收且未豁免，正式抽取会停止：请更正后重新提取，"
                f"或由审批人执行 huifang waive {base_on}；试算未计这些客户",
                f"the customers extract of {base_on} has {customers.rejected} rejected rows without a waiver, and the draw would stop: "
                f"have it corrected and pull it again, or `huifang waive {base_on}`; the dry run leaves them out",
            )
        )
    reasons = {reason for rules in plans for reason in rules.hand_reasons()}
    strangers = sorted({*by_hand.values()} - reasons)
    if strangers:
        named = ", ".join(strangers)
        found.append(
            Label(
                f"已有客户以 {named} 逐户剔除，而方案中没有该项 by_hand: true 的剔除原因，正式抽取会停止；试算仍计这些客户",
                f"customers were excluded by hand as {named}, for which the programme has no line with by_hand: true, and the draw "
                "would stop; the dry run counts them",
            )
        )
    return found


def _edits(known: list[ProgrammeYear], plans: Iterable[Programme]) -> list[Label]:
    return [
        Label(
            f"{year_id} 冻结之后，第 {rules.version} 版的内容被改动而版次未变，正式抽取会停止：请恢复原文，"
            "或将改动写成更高的版次并报批",
            f"version {rules.version} was changed after {year_id} was frozen with it, and the draw would stop: put the file back "
            "as it was, or give the change a higher version and have it approved",
        )
        for rules in plans
        for year_id in _edited(known, rules)
    ]


# ---- a share of each branch ----------------------------------------------------------------------------------


def _by_branch(
    judged: list[Table], yearly: list[frame.Plan], versions: dict[str, Programme], order: list[str], calendar: Calendar
) -> tuple[pd.DataFrame, list[Month]]:
    """The eligible customers by branch and stratum, under each plan of the year."""
    coded = [
        table.select(
            "customer_id",
            **{
                f"group_{n}": table.reason.isnull().ifelse(table.group_key, ""),
                f"segment_{n}": table.reason.isnull().ifelse(table.segment, ""),
            },
        )
        for n, table in enumerate(judged)
    ]
    cells = _count(coded)
    for number, plan in enumerate(yearly):
        group, segment, stratum = f"group_{number}", f"segment_{number}", f"stratum_{number}"
        names = plan.segments.set_axis([group, segment, stratum], axis=1)
        cells = cells.merge(names, on=[group, segment], how="left").drop(columns=segment)
        cells[stratum] = cells[stratum].fillna("")
    keys = [name for name in cells.columns if name != "customers"]
    cells = cells.groupby(keys, as_index=False)["customers"].sum()
    months = []
    for name, rules in versions.items():
        view = order.index(rules.plan_sha256())
        plan = yearly[view]
        least = zip(plan.strata["group_key"], plan.strata["stratum"], plan.strata["minimum"], strict=True)
        months.append(
            _month(
                name,
                rules,
                calendar,
                view,
                plan.quota.assign(reason=""),
                {(str(g), str(s)): int(n) for g, s, n in least},
            )
        )
    return cells, months


def _count(coded: list[Table]) -> pd.DataFrame:
    """How many customers are coded alike in all tables; those in no group of any are left out."""
    whole = reduce(lambda left, right: left.inner_join(right, "customer_id"), coded)
    keys = [name for name in whole.columns if name != "customer_id"]
    somewhere = reduce(lambda a, b: a | b, [whole[name] != "" for name in keys if name.startswith("group_")])
    kept = whole.filter(somewhere)
    counted = kept.group_by(keys).aggregate(customers=kept.count().cast("int64")).execute()
    return counted.sort_values(keys, ignore_index=True)


def _month(
    name: str,
    rules: Programme,
    calendar: Calendar,
    view: int,
    owed: pd.DataFrame,
    minimum: dict[tuple[str, str], int] | None = None,
) -> Month:
    span = read_period(name)
    first = calendar.on_or_after(span.first)
    return Month(
        span=span,
        rules=rules,
        pace=campaign.pace_of(rules, span, calendar, first),
        first=first,
        view=view,
        owed=owed[["group_key", "branch_no", "eligible", "goal", "reason"]],
        minimum=minimum or {},
    )


# ---- so many customers of each marketer ----------------------------------------------------------------------


@dataclass(frozen=True)
class _Day:
    """What says who develops whom on a day; two days with the same are alike."""

    staff: str
    relations: str
    turn: date
    """The last day until then on which somebody began or ended."""
    kinds: tuple[str, ...]


def _by_developer(
    settings: Settings,
    store: Store,
    con: ibis.BaseBackend,
    judged: list[Table],
    versions: dict[str, Programme],
    order: list[str],
    calendar: Calendar,
) -> tuple[pd.DataFrame, list[Month]]:
    """The eligible customers by the developer of each month's day, and what every active marketer owes (DRAW 17)."""
    firsts = {name: calendar.on_or_after(read_period(name).first) for name in versions}
    days: dict[str, _Day] = {}
    with store.begin() as session:
        found = {
            name: (records.snapshot_of(session, "staff", day).path, records.snapshot_of(session, "relations", day).path)
            for name, day in firsts.items()
        }
    turns = {paths: _turns(settings, con, *paths) for paths in dict.fromkeys(found.values())}
    for name, paths in found.items():
        goal = versions[name].goal
        assert isinstance(goal, CoverageGoal), "a year keeps its kind of goal"
        passed = [turn for turn in turns[paths] if turn <= firsts[name]]
        days[name] = _Day(*paths, max(passed, default=date.min), goal.staff_kinds)
    different = list(dict.fromkeys(days.values()))
    views = list(
        dict.fromkeys((order.index(versions[name].plan_sha256()), different.index(days[name])) for name in days)
    )

    asked = {day: firsts[name] for name, day in reversed(days.items())}
    developers = []
    for number, day in enumerate(different):
        staff, relations = (lake.open_table(settings, path, con) for path in (day.staff, day.relations))
        known = frame.developers(frame.Base(judged[0], staff, relations), day.kinds, asked[day])
        developers.append(lake.keep(con, f"developers_{number}", known))
    coded = []
    for number, (plan, day_number) in enumerate(views):
        both = judged[plan].left_join(developers[day_number], "customer_id")
        developer = both.developer_id.fill_null("")
        coded.append(
            both.select(
                "customer_id",
                **{
                    f"group_{number}": developer,
                    f"eligible_{number}": both.reason.isnull(),
                },
            )
        )
    cells = _count(coded)
    excluded, eligible = {}, {}
    for number in range(len(views)):
        group, is_eligible = cells[f"group_{number}"], cells.pop(f"eligible_{number}").astype(bool)
        excluded[number] = set(group[~is_eligible])
        cells[f"group_{number}"] = group.where(is_eligible, "")
        cells[f"stratum_{number}"] = cells[f"group_{number}"]
        eligible[number] = cells.groupby(f"group_{number}")["customers"].sum().to_dict()
    months = []
    for name, rules in versions.items():
        view = views.index((order.index(rules.plan_sha256()), different.index(days[name])))
        assert isinstance(rules.goal, CoverageGoal), "a year keeps its kind of goal"
        people = lake.read_staff(settings, days[name].staff)
        active = assignment.active_staff(people, rules.goal.staff_kinds, firsts[name])
        months.append(_month(name, rules, calendar, view, _owed(active, rules.goal, eligible[view], excluded[view])))
    return cells, months


def _owed(active: pd.DataFrame, goal: CoverageGoal, eligible: dict[str, int], excluded: set[str]) -> pd.DataFrame:
    counts = [eligible.get(staff_id, 0) for staff_id in active["staff_id"]]
    return pd.DataFrame(
        {
            "group_key": active["staff_id"],
            "branch_no": active["branch_no"],
            "eligible": counts,
            "goal": [min(goal.calls_per_year, count) for count in counts],
            "reason": [
                "" if count else "excluded" if staff_id in excluded else "no_customers"
                for staff_id, count in zip(active["staff_id"], counts, strict=True)
            ],
        }
    ).astype({"reason": "str"})


def _turns(settings: Settings, con: ibis.BaseBackend, staff: str, relations: str) -> list[date]:
    """Days on which somebody of the staff or a relation begins, or is the first day over."""
    people = lake.read_staff(settings, staff)
    held = lake.open_table(settings, relations, con)
    held = held.filter(held.kind == "developer")
    begins = {*people["valid_from"].dropna(), *_days(held, "valid_from")}
    ends = {*people["valid_to"].dropna(), *_days(held, "valid_to")}
    return sorted(begins | {day + timedelta(days=1) for day in ends})


def _days(table: Table, column: str) -> set[date]:
    found = table.filter(table[column].notnull()).select(day=table[column].cast("date")).distinct().execute()
    return set(pd.to_datetime(found["day"]).dt.date)
