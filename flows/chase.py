"""Chase: merge self-checks into their cases, open cases for new findings, ask for self-checks, remind, end what ran out."""

from collections import Counter
from collections.abc import Iterator
from datetime import date, datetime

import pandas as pd
from prefect import flow, get_run_logger

from models import assignment, findings, roster, sheets
from models.calendar import SHANGHAI, Calendar
from models.programme import Programme
from models.tables import Campaign, ProgrammeYear
from tasks import board, lake, lock, mail, outbox, records, vault
from tasks.settings import Settings, read_calendar
from tasks.store import Store, open_store, record

SHOWN_TASKS = 20
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


@flow(name="chase", flow_run_name=board.run_name("chase", "as_of", "campaign"))
def chase_campaigns(
    campaign: str | None = None, as_of: date | None = None, now: datetime | None = None
) -> dict[str, int]:
    """Cases opened and merged, requests and reminders by outcome, calls expired; every drawn campaign when none is named."""
    log, settings = get_run_logger(), Settings()
    now = now or board.run_clock()
    as_of = as_of or now.astimezone(SHANGHAI).date()
    calendar, store = read_calendar(settings), open_store(settings)
    totals: Counter[str] = Counter(
        dict.fromkeys(("merged", "cases", "expired", "claimed", "sent", "failed", "unknown", "gaps"), 0)
    )
    with store.exclusive("chase"):
        with store.begin() as session:
            totals["merged"] = merge_self_checks(session, as_of=as_of)
            totals["cases"] = records.add_cases(
                session, findings.cases_of(records.findings_without_case(session)), opened_on=as_of
            )
            names = [campaign] if campaign else records.drawn_campaigns(session)
            found = [records.campaign_of(session, name)[:2] for name in names]
            if not found:
                log.warning("no campaign has been drawn yet")
            for early in [issued for issued, _ in found if as_of < issued.as_of]:
                log.warning("%s: was drawn for %s, after %s; left alone", early.id, early.as_of, as_of)
            found = [(issued, year) for issued, year in found if as_of >= issued.as_of]
            for issued, year in found:
                if as_of > date(year.year, 12, 31):
                    totals["expired"] += records.expire(
                        session, issued.id, as_of=as_of, reason=f"the programme year {year.year} is over"
                    )
            if totals["merged"] or totals["cases"] or totals["expired"]:
                decided = {key: totals[key] for key in ("merged", "cases", "expired")}
                record(session, actor="flow:chase", action="chase", subject=str(as_of), payload=decided, at=now)
        with outbox.opened(settings, store, run=f"chase {now.isoformat()}", now=now) as out:
            totals["unknown"] += len(out.lost)
            for issued, year in found:
                rules = Programme.model_validate_json(year.plan)
                gaps: list[str] = []
                batches = [
                    (
                        "self_check",
                        ask_self_checks(settings, store, issued, rules, calendar, gaps, as_of=as_of, now=now),
                    )
                ]
                if calendar.is_workday(as_of):
                    batches.append(
                        ("reminder", remind(settings, store, issued, rules, calendar, gaps, as_of=as_of, now=now))
                    )
                else:
                    log.warning("%s: %s is no workday, nobody is reminded", issued.id, as_of)
                for kind, pieces in batches:
                    counts = out.deliver(kind, pieces)
                    totals.update(counts)
                    totals[f"{kind}_sent"] += counts["sent"]
                totals["gaps"] += len(gaps)
    board.publish_counts("chase", "chase", [dict(totals)])
    log.info("%s", dict(totals))
    return dict(totals)


def merge_self_checks(session, *, as_of: date) -> int:  # type: ignore[no-untyped-def]
    """How many self-checks were laid beside their findings, each with the result the rule proposes."""
    waiting = records.self_checks_to_merge(session)
    merges = [
        {"self_check_id": int(row.self_check_id), "case_id": int(row.case_id), "result": findings.merge(str(row.truth))}
        for row in waiting.itertuples()
    ]
    records.add_merges(session, merges, merged_on=as_of)
    return len(merges)


def ask_self_checks(
    settings: Settings,
    store: Store,
    issued: Campaign,
    rules: Programme,
    calendar: Calendar,
    gaps: list[str],
    *,
    as_of: date,
    now: datetime,
) -> Iterator[outbox.Piece]:
    """One locked self-check statement per branch with the cases no request has carried yet."""
    log = get_run_logger()
    with store.begin() as session:
        pending = records.cases_to_mail(session, issued.id)
        if pending.empty:
            return
        year = session.get_one(ProgrammeYear, issued.programme_year_id)
        customers = lake.customers_of(
            settings, records.snapshot_by_id(session, year.snapshots["customers"]).path, pending["customer_id"]
        )
        blocked = records.recalled(session)
        valid = lake.usable_contacts(settings, *records.contacts_of(session, as_of), as_of, blocked)
        branches = lake.names_of(
            settings, records.snapshot_of(session, "branches", as_of).path, "branch_no", "branch_name"
        )
        refused = records.refused_addresses(session)
        staff_snapshot = records.optional_snapshot(session, "staff", as_of)
    staff = lake.names_of(settings, staff_snapshot.path, "staff_id", "staff_name") if staff_snapshot else {}
    key, title = vault.row_keys(settings)[0], rules.title.model_dump()[settings.language]
    due_on = findings.self_check_due(now, calendar, rules.self_check.workdays, rules.closing_hour)
    for branch_no, cases in pending.groupby("branch_no", sort=True):
        to = roster.recipient(valid, str(branch_no), rules.self_check.to)
        if to is None or to.email in refused:
            gaps.append(str(branch_no))
            log.warning(
                "%s: branch %s has no usable %s for %s self-checks",
                issued.id,
                branch_no,
                rules.self_check.to,
                len(cases),
            )
            continue
        try:
            password = vault.branch_password(settings, str(branch_no))
        except vault.BranchKeyError as error:
            gaps.append(str(branch_no))
            log.warning("%s: %s", issued.id, error)
            continue
        rows = sheets.case_rows(cases, customers, staff, [due_on] * len(cases), key)
        branch_name = branches.get(str(branch_no), str(branch_no))
        with store.begin() as session:
            sequence = outbox.next_sequence(session, "self_check", issued.id, str(branch_no), to.role)
        content = sheets.write_sheet(
            "self_check",
            rows,
            campaign=issued.id,
            title=title,
            branch_no=str(branch_no),
            branch_name=branch_name,
            language=settings.language,
            issued_on=as_of,
            addressee=sheets.Addressee(to.role, f"{issued.id}/{branch_no}-{sequence}"),
        )
        name = f"{sheets.SHEETS['self_check'].name.text(settings.language)}_{title}_{issued.period}_{branch_no}_{sequence}.xlsx"
        words = mail.render(
            "self_check",
            settings.language,
            branch_name=branch_name,
            title=title,
            period=issued.period,
            cases=len(cases),
            workdays=rules.self_check.workdays,
            due_on=due_on,
            attachment_name=name,
            key_place=settings.key_words,
            return_address=settings.mail_from,
            sender_name=settings.mail_name,
        )
        locked = mail.Attachment(name, lock.lock_workbook(content, password), XLSX)
        yield outbox.write(
            settings,
            "self_check",
            issued.id,
            str(branch_no),
            to.role,
            sequence,
            to.email,
            words,
            now=now,
            attachments=(locked,),
            items=tuple(("case", int(i)) for i in cases["case_id"]),
        )


def remind(
    settings: Settings,
    store: Store,
    issued: Campaign,
    rules: Programme,
    calendar: Calendar,
    gaps: list[str],
    *,
    as_of: date,
    now: datetime,
) -> Iterator[outbox.Piece]:
    """One reminder per branch, due date and stage: the last stage reached that nobody was written to about."""
    log = get_run_logger()
    with store.begin() as session:
        calls = records.calls_of(session, issued.id)
        # A call that another campaign's sheet carries is that campaign's to remind of.
        calls = calls[calls["carried_by"] == issued.id].assign(branch_no=lambda c: c["answered_by"])
        calls = calls[calls["assignment_id"].isin(records.items_carried(session, "assignment"))]
        if calls.empty:
            return
        calls = calls.reset_index(drop=True)
        state = assignment.progress(calls, records.current_rows(session), records.ends(session), as_of)
        calls = calls.assign(state=state["state"], attempted=state["attempted"])
        cases = records.cases_due(session, issued.id)
        mails = records.mails_of(session, issued.id)
        verdicts, sent_back = records.last_verdicts(session, issued.id), records.problem_rows(session, issued.id)
        blocked = records.recalled(session)
        valid = lake.usable_contacts(settings, *records.contacts_of(session, as_of), as_of, blocked)
        branches = lake.names_of(
            settings, records.snapshot_of(session, "branches", as_of).path, "branch_no", "branch_name"
        ) | {roster.HQ: settings.mail_name}
        refused = records.refused_addresses(session)
    cases["due_on"] = pd.Series(
        [
            findings.self_check_due(sent, calendar, rules.self_check.workdays, rules.closing_hour)
            for sent in cases["delivered_at"]
        ],
        dtype="object",
        index=cases.index,
    )
    key = vault.row_keys(settings)[0]
    owed = [
        ("call", str(b), d, rows)
        for (b, d), rows in calls[calls["state"] == "open"].groupby(["branch_no", "due_on"], sort=True)
    ]
    owed += [("case", str(b), d, rows) for (b, d), rows in cases.groupby(["branch_no", "due_on"], sort=True)]
    for kind, branch_no, due_on, rows in owed:
        reached = [
            (n, r)
            for n, r in enumerate(rules.reminders, start=1)
            if _days_after(calendar, due_on, as_of) >= r.workdays_after_due
        ]
        if not reached:
            continue
        number, stage = reached[-1]
        # The number says which due date and which stage, so that nobody is reminded of the same twice.
        about = int(due_on.strftime("%y%m%d")) * 100 + number * 10 + (kind == "case")
        sequence = outbox.attempt(mails, "reminder", branch_no, roster.role_at(branch_no, stage.to), about)
        if sequence is None:
            continue
        to = roster.recipient(valid, branch_no, roster.role_at(branch_no, stage.to))
        if to is None or to.email in refused:
            gaps.append(branch_no)
            log.warning("%s: branch %s has no usable %s to remind", issued.id, branch_no, stage.to)
            continue
        mine = calls[(calls["branch_no"] == branch_no) & (calls["due_on"] == due_on)]
        codes = [sheets.row_code("assignment", int(i), key) for i in mine.loc[mine["state"] == "open", "assignment_id"]]
        verdict = verdicts.get(branch_no)
        words = mail.render(
            "reminder",
            settings.language,
            branch_name=branches.get(branch_no, branch_no),
            title=rules.title.model_dump()[settings.language],
            period=issued.period,
            number=number,
            assigned=len(mine),
            completed=int((mine["state"] == "completed").sum()),
            state="self_check"
            if kind == "case"
            else "rejected"
            if verdict == "rejected"
            else "partly"
            if verdict
            else "silent",
            open=int((mine["state"] == "open").sum()),
            failed=int((~mine["state"].isin(["open", "completed"])).sum()),
            tasks=codes[:SHOWN_TASKS],
            tasks_left_off=max(0, len(codes) - SHOWN_TASKS),
            rows_rejected=sent_back.get(branch_no, 0),
            cases_overdue=len(rows) if kind == "case" else 0,
            due_on=due_on,
            is_overdue=due_on < as_of,
            return_address=settings.mail_from,
            sender_name=settings.mail_name,
        )
        yield outbox.write(settings, "reminder", issued.id, branch_no, to.role, sequence, to.email, words, now=now)


def _days_after(calendar: Calendar, due_on: date, as_of: date) -> int:
    return calendar.elapsed(due_on, as_of) if as_of >= due_on else -calendar.elapsed(as_of, due_on)
