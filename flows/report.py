"""Report: where each campaign stands, as one page for headquarters and as mails to branches, headquarters and compliance."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from datetime import date, datetime

import pandas as pd
from prefect import flow, get_run_logger
from sqlalchemy.orm import Session

from models import credibility, roster, sheets
from models import standing as figures
from models.calendar import SHANGHAI, MissingCalendar
from models.programme import CoverageGoal, Programme
from models.standing import Standing
from models.tables import Campaign, ProgrammeYear, Report
from tasks import board, lake, mail, outbox, records, vault
from tasks.records import approvals
from tasks.settings import Settings, read_calendar
from tasks.store import Store, open_store, record

SHOWN = 15
"""Branches or cases a mail lists; the rest is counted."""


@flow(name="report", flow_run_name=board.run_name("report", "as_of", "campaign"))
def report_campaigns(
    campaign: str | None = None, as_of: date | None = None, now: datetime | None = None
) -> dict[str, int]:
    """Reports written and feedback mails by outcome; every drawn campaign when none is named."""
    log, settings = get_run_logger(), Settings()
    now = now or board.run_clock()
    as_of = as_of or now.astimezone(SHANGHAI).date()
    store = open_store(settings)
    totals: Counter[str] = Counter(
        dict.fromkeys(("reports", "claimed", "sent", "failed", "unknown", "gaps", "imbalances"), 0)
    )
    with store.exclusive("report"):
        with store.begin() as session:
            names = [campaign] if campaign else records.drawn_campaigns(session)
            found = [records.campaign_of(session, name)[:2] for name in names]
        with outbox.opened(settings, store, run=f"report {now.isoformat()}", now=now) as out:
            totals["unknown"] += len(out.lost)
            for issued, year in found:
                gaps: list[str] = []
                with store.begin() as session:
                    why = approvals.lacks_approval(session, issued.id)
                if why:
                    log.warning("%s: no summary is mailed: %s; `huifang approve %s`", issued.id, why, issued.id)
                    totals["unapproved"] += 1
                    continue
                with store.begin() as session:
                    before = standing_of(settings, session, issued.id, as_of)
                pieces = build_feedback(settings, store, issued, year, before, gaps, as_of=as_of, now=now)
                counts = out.deliver("feedback", pieces)
                totals.update(counts)
                totals["gaps"] += len(gaps)
        with store.begin() as session:
            everyone = [standing_of(settings, session, name, as_of) for name in records.drawn_campaigns(session)]
        for standing in everyone:
            if standing.campaign not in {issued.id for issued, _ in found}:
                continue
            for unequal in (balance for balance in standing.balances() if not balance.holds):
                log.error(
                    "%s: %s %s: %s is not %s",
                    standing.campaign,
                    unequal.name,
                    unequal.where,
                    unequal.left,
                    unequal.right,
                )
                totals["imbalances"] += 1
            totals["reports"] += keep_report(
                settings, store, standing, [other for other in everyone if other is not standing], now=now
            )
            board.publish_standing(standing, settings.language)
    log.info("%s", dict(totals))
    return dict(totals)


def standing_of(settings: Settings, session, campaign_id: str, as_of: date) -> Standing:  # type: ignore[no-untyped-def]
    """Where a campaign stands on a day, from the store."""
    campaign, year, draw = records.campaign_of(session, campaign_id)
    branches = records.optional_snapshot(session, "branches", as_of) or records.snapshot_by_id(
        session, year.snapshots["branches"]
    )
    rules = Programme.model_validate_json(year.plan)
    calls_year = records.taken_of(session, year.id)
    return figures.stand(
        figures.Facts(
            campaign=campaign.id,
            programme=year.programme,
            title=rules.title.model_dump(),
            period=campaign.period,
            base=year.base,
            eligible=year.eligible,
            waived=year.waived,
            contradictions={k: int(v) for k, v in year.contradictions.items()},
            frame_sha256=year.frame_sha256,
            plan_sha256=year.plan_sha256,
            sample_sha256=draw.sample_sha256,
            branch_names=lake.names_of(settings, branches.path, "branch_no", "branch_name"),
            quota=records.groups_of(session, campaign.id)[["group_key", "branch_no", "eligible", "goal"]],
            draw="coverage" if isinstance(rules.goal, CoverageGoal) else "base",
            caller=rules.caller,
            strata=records.strata_of(session, year.id),
            codes=lake.codes_of(settings, year.frame_path, calls_year["customer_id"]),
            completed=records.calls_completed(session),
            periods=records.periods_of_campaigns(session),
            exclusions=records.exclusions_of(session, year.id),
            eligible_by_branch=lake.counts_of(settings, year.frame_path, "branch_no"),
            groups=records.groups_of(session, campaign.id),
            drawn=records.drawn_of(session, campaign.id),
            calls=records.calls_of(session, campaign.id),
            calls_year=calls_year,
            rows=records.current_rows(session),
            ends=records.ends(session),
            carried=records.items_carried(session, "assignment"),
            findings=records.findings_of(session, campaign.id),
            cases=records.cases_of_campaign(session, campaign.id),
            opinions=records.opinions_of(session, campaign.id),
            mails=records.mails_of(session, campaign.id),
            verdicts=records.verdicts_of(session),
            sightings=records.sightings(session),
            rows_sent_back=records.problem_rows(session, campaign.id),
            signals=signals_of(settings, session, campaign.id),
            gaps=[gap.plain() for found in records.open_gaps(session, campaign.id).values() for gap in found],
            awaiting=records.evidence_awaited(session, campaign.id),
            recalls=records.recalls_of(session, campaign.id),
            given_up=[one.given_up() for one in records.attempts_of(session, campaign.id) if one.aborted],
        ),
        as_of,
    )


def signals_of(settings: Settings, session: Session, campaign_id: str) -> pd.DataFrame:
    """What makes the branches' own rows of a campaign look odd; see models.credibility."""
    calendar = read_calendar(settings)

    def is_workday(day: date) -> bool:
        try:
            return calendar.is_workday(day)
        except MissingCalendar:  # of a year without notice nobody can say that a day was off
            return True

    rows = records.rows_reported(session, campaign_id)
    return credibility.find_signals(
        rows,
        records.recordings(session),
        records.found_by_headquarters(session),
        is_workday,
        records.signatures(session),
        _staff_phones(settings, session, campaign_id, rows),
    )


def _staff_phones(
    settings: Settings, session: Session, campaign_id: str, rows: pd.DataFrame
) -> list[tuple[str, date | None, date | None]]:
    """Customers of the rows whose phone is one of staff, by the newest extract of staff at the last call."""
    staff = None if rows.empty else records.optional_snapshot(session, "staff", max(rows["called_on"]))
    if staff is None:
        return []
    _, year, _ = records.campaign_of(session, campaign_id)
    customers = records.snapshot_by_id(session, year.snapshots["customers"])
    return lake.staff_phones_of(settings, customers.path, staff.path, rows["customer_id"])


def keep_report(settings: Settings, store: Store, standing: Standing, related: list[Standing], *, now: datetime) -> int:
    """1 when a page was written, 0 when one with exactly these figures is there already."""
    figures_sha256 = hashlib.sha256(figures.figures_text([standing, *related]).encode()).hexdigest()
    with store.begin() as session:
        known = records.report_with(session, standing.campaign, figures_sha256)
    if known is not None and (settings.home.resolve() / known.path).is_file():
        get_run_logger().warning(
            "%s: the report with these figures is there already, %s", standing.campaign, known.path
        )
        return 0
    path = board.write_report(
        standing, related=related, written_at=now, language=settings.language, directory=settings.reports
    )
    with store.begin() as session:
        if known is None:
            relative = str(path.relative_to(settings.home.resolve()))
            session.add(
                Report(
                    campaign_id=standing.campaign,
                    as_of=standing.as_of,
                    figures_sha256=figures_sha256,
                    path=relative,
                    written_at=now,
                )
            )
            record(
                session,
                actor="flow:report",
                action="report",
                subject=standing.campaign,
                payload={"figures": figures_sha256},
                at=now,
            )
    return 1


def build_feedback(
    settings: Settings,
    store: Store,
    issued: Campaign,
    year: ProgrammeYear,
    standing: Standing,
    gaps: list[str],
    *,
    as_of: date,
    now: datetime,
) -> Iterator[outbox.Piece]:
    """The month's summary to each branch with calls, to headquarters and to compliance; once per campaign and calendar month."""
    log, rules = get_run_logger(), Programme.model_validate_json(year.plan)
    with store.begin() as session:
        mails = records.mails_of(session, issued.id)
        judged = records.verdicts_of(session)
        blocked = records.recalled(session)
        valid = lake.usable_contacts(settings, *records.contacts_of(session, as_of), as_of, blocked)
        cases = records.cases_shown(session, issued.id)
        refused = records.refused_addresses(session)
    median = figures.median_completion(standing)

    letters: list[tuple[str, str, str, dict[str, object]]] = []
    busy = standing.branches[standing.branches["assigned"] > 0]
    unsent = busy[busy["state"] == "not_sent"]
    if len(unsent):
        log.warning("%s: %s branches have not been sent their list and get no summary", issued.id, len(unsent))
    for branch in busy.drop(unsent.index).to_dict("records"):
        facts = {
            "branch": branch,
            "completion": figures.ratio(branch["completed"], branch["assigned"]),
            "median_completion": median,
            "year_completion": figures.ratio(branch["completed_year"], branch["goal"]),
        }
        letters.append((str(branch["branch_no"]), rules.feedback_to, "feedback_branch", facts))
    attention = figures.attention(standing)
    company = {
        "completion": figures.ratio(standing.completed, standing.assigned),
        "median_completion": median,
        "year_completion": figures.ratio(standing.completed_year, standing.goal),
        "states": {str(k): int(v) for k, v in standing.branches["state"].value_counts().items()},
        "silent": int((standing.branches["state"] == "silent").sum()),
        "quarantined": int((judged["verdict"] == "quarantined").sum()),
        "attention": attention[:SHOWN],
        "attention_left_off": max(0, len(attention) - SHOWN),
    }
    letters.append((roster.HQ, "hq_service", "feedback_hq", company))
    key = vault.row_keys(settings)[0]
    names = dict(zip(standing.branches["branch_no"], standing.branches["branch_name"], strict=True))
    listed = [
        {
            "code": sheets.row_code("case", int(row.case_id), key),
            "branch_name": names.get(row.branch_no, row.branch_no),
            "violations": str(row.violations).split(","),
            "result": "waiting" if pd.isna(row.result) else row.result,
        }
        for row in cases.itertuples()
    ]
    letters.append(
        (
            roster.HQ,
            "compliance",
            "feedback_compliance",
            {"cases": listed[:SHOWN], "cases_left_off": max(0, len(listed) - SHOWN)},
        )
    )

    for branch_no, role, template, facts in letters:
        sequence = outbox.attempt(mails, "feedback", branch_no, role, as_of.year * 100 + as_of.month)
        if sequence is None:
            continue
        to = roster.recipient(valid, branch_no, role)
        if to is None or to.email in refused:
            gaps.append(branch_no)
            log.warning("%s: %s has no usable %s for the summary", issued.id, branch_no, role)
            continue
        words = mail.render(template, settings.language, standing=standing, sender_name=settings.mail_name, **facts)
        yield outbox.write(settings, "feedback", issued.id, branch_no, role, sequence, to.email, words, now=now)
