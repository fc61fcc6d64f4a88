"""The programme year: a base judged, counted and frozen under a plan, and once more under each approved change of it."""

from datetime import date, datetime
from pathlib import Path

import ibis
from prefect import get_run_logger, task

from models import frame, sampling
from models.calendar import Period
from models.explain import strange_values
from models.programme import Programme, UnknownProgramme, version_on
from models.tables import Campaign, ProgrammeYear
from tasks import lake, records
from tasks.settings import Settings, code_version
from tasks.store import Store, record


@task(name="freeze base", task_run_name="freeze base of {span.name}")
def freeze_year(
    settings: Settings, store: Store, files: list[Programme], programme: str, span: Period, *, now: datetime
) -> tuple[ProgrammeYear, Programme]:
    """The programme year and the plan that hold for a period: committed once, and anew for each approved change (DRAW 12).

    A period that is committed keeps the plan it was committed under, whatever the files say now.
    """
    log = get_run_logger()
    with store.begin() as session:
        known = records.programme_years(session, programme, span.first.year)
        issued = session.get(Campaign, f"{programme}-{span.name}")
        started = [c for year in known[:1] for c in records.campaigns_of_year(session, year.id)]
    if issued is not None:
        year = next(year for year in known if year.id == issued.programme_year_id)
        try:
            is_same = version_on(files, programme, span.first).plan_sha256() == year.plan_sha256
        except UnknownProgramme:
            is_same = False
        if not is_same:
            log.warning(
                "%s: the programme file has changed since; %s keeps the plan it was committed under", year.id, issued.id
            )
        return year, Programme.model_validate_json(year.plan)
    rules = version_on(files, programme, span.first)
    if known:
        last = known[-1]
        frozen = Programme.model_validate_json(last.plan)
        if last.plan_sha256 == rules.plan_sha256():
            return last, rules
        later = [c.id for c in started if c.period > span.name]
        if later:
            raise sampling.DrawError(
                f"{programme}-{span.name}: {', '.join(later)} is drawn already; periods of a programme year are drawn in order"
            )
        frame.require_change(frozen, rules, span.name, frozen_as=last.id)
        log.warning("%s: version %s of the programme takes effect with %s", last.id, rules.version, span.name)
    return _freeze(settings, store, rules, span, known, now=now), rules


def _freeze(
    settings: Settings, store: Store, rules: Programme, span: Period, known: list[ProgrammeYear], *, now: datetime
) -> ProgrammeYear:
    """A base judged by a plan: the first of the year, or the same base once more under a changed plan."""
    strange = strange_values(rules)
    if strange:
        raise frame.FrameError(f"programme {rules.programme}: {strange[0][0]}: {strange[0][1]}")
    year_number, version = span.first.year, len(known) + 1
    year_id = f"{rules.programme}-{year_number}" + (f".{version}" if known else "")
    base_on = date(year_number - 1, 12, 31)
    with store.begin() as session:
        snapshots = {
            table: records.snapshot_by_id(session, known[0].snapshots[table])
            if known and table in known[0].snapshots
            else records.snapshot_of(session, table, base_on, exactly=True)
            for table in rules.needs
            if table not in ("roster", "staff", "relations")
        }
        optional = records.optional_snapshot(session, "transactions", base_on)
        customers = snapshots["customers"]
        waiver = records.waiver_of(session, customers.id)
        by_hand = {
            row.customer_id: row.reason_code
            for row in records.hand_made(session, rules.programme, year_number, "exclude")
            if not known or row.given_at <= known[0].frozen_at
        }
    waived = customers.rejected
    if waived and (waiver is None or waiver.rejected_sha256 != customers.rejected_sha256):
        raise frame.FrameError(
            f"the customers extract of {base_on} has {waived} rejected rows, which would shrink the base silently: have it corrected "
            f"and pull it again, or let an approver waive them with `huifang waive {base_on} --by NAME --reason TEXT`"
        )
    strangers = sorted({*by_hand.values()} - {*rules.hand_reasons()})
    if strangers:
        raise frame.FrameError(
            f"programme {rules.programme}: customers were excluded by hand as {', '.join(strangers)}, "
            "for which its exclusions have no line with by_hand: true"
        )

    con = lake.connect(settings)
    source = lake.open_table(settings, customers.path, con)
    judged = frame.judge(frame.Base(source, None, None), rules, base_on, by_hand)
    if by_hand:
        present = set(source.semi_join(frame.customer_ids(sorted(by_hand)), "customer_id").customer_id.execute())
        if unknown := sorted({*by_hand} - present):
            get_run_logger().warning(
                "%s: %s customers excluded by hand are not in the base: %s",
                year_id,
                len(unknown),
                ", ".join(unknown[:5]),
            )
    counted = frame.count_judged(judged).execute()
    ledger = frame.LEDGER.validate(frame.ledger(counted))
    by_branch = source.group_by("branch_no").aggregate(customers=source.count()).execute()
    total = customers.accepted + waived
    frame.balance(
        ledger,
        {str(b): int(n) for b, n in zip(by_branch["branch_no"], by_branch["customers"], strict=True)},
        waived,
        total,
    )
    plan = frame.plan_year(frame.sizes(counted), rules)
    traded = lake.open_activity(settings, optional.path, con) if optional else None
    kinds = frame.contradictions(source, traded, base_on)

    path = Path("frames") / year_id
    frozen = frame.freeze(judged, ibis.memtable(plan.segments))
    _, frame_sha256 = lake.write_in_order(con, frozen, settings.lake / path / "frame.parquet")
    _, ledger_sha256 = lake.write_in_order(con, frame.excluded(judged), settings.lake / path / "ledger.parquet")
    named = ibis.union(*(t.mutate(kind=ibis.literal(kind)).select("kind", "customer_id") for kind, t in kinds.items()))
    named = lake.write_table(con, named, settings.lake / path / "contradictions.parquet", ["kind", "customer_id"])
    told = named.group_by("kind").aggregate(customers=named.count()).execute()
    year = ProgrammeYear(
        id=year_id,
        programme=rules.programme,
        year=year_number,
        version=version,
        from_period=span.name,
        base_on=base_on,
        snapshots={table: snapshot.id for table, snapshot in snapshots.items()},
        plan=rules.plan(),
        plan_sha256=rules.plan_sha256(),
        frame_path=str(path / "frame.parquet"),
        frame_sha256=frame_sha256,
        ledger_sha256=ledger_sha256,
        base=total,
        eligible=int(ledger.loc[ledger["reason"].isna(), "customers"].sum()),
        waived=waived,
        contradictions={str(k): int(n) for k, n in zip(told["kind"], told["customers"], strict=True)},
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
            payload={"frame": year.frame_sha256, "ledger": year.ledger_sha256, "plan": year.plan_sha256, "base": total},
            at=now,
        )
    get_run_logger().info(
        "%s: base %s, eligible %s, goal %s", year_id, total, year.eligible, int(plan.quota["goal"].sum())
    )
    for kind, customers_found in year.contradictions.items():
        get_run_logger().warning("%s: %s customers are %s; reported, not repaired", year_id, customers_found, kind)
    return year
