"""Receipts: what became of a return, in words, with a correction sheet where rows are to be sent again."""

from collections import Counter
from collections.abc import Iterator
from datetime import date, datetime
from typing import Any

import pandas as pd
from prefect import get_run_logger

from models import evidence, findings, returns, roster, sheets
from models.calendar import SHANGHAI
from models.outcomes import Label, Language
from models.programme import Programme
from models.tables import Campaign, Message, ProgrammeYear
from tasks import lake, lock, mail, mailbox, outbox, records, vault
from tasks.settings import Settings, read_calendar
from tasks.store import Store

SHOWN_PROBLEMS = 40
"""Rows a receipt lists; the rest is counted."""
CORRECTION = Label("更正表", "Correction")
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


def build_receipts(
    settings: Settings, store: Store, owed: pd.DataFrame, put_off: Counter[str], *, as_of: date, now: datetime
) -> Iterator[outbox.Piece]:
    """One receipt per judged return, to the registered address only, and to each not more than it may have on one day.

    The others are counted in `put_off` by branch: they are owed, and a run of another day sends them.
    """
    if owed.empty:
        return
    log = get_run_logger()
    with store.begin() as session:
        blocked = records.recalled(session)
        valid = lake.usable_contacts(settings, *records.contacts_of(session, as_of), as_of, blocked)
        branches = lake.names_of(
            settings, records.snapshot_of(session, "branches", as_of).path, "branch_no", "branch_name"
        ) | {roster.HQ: settings.mail_name}
        refused = records.refused_addresses(session)
        midnight = now.astimezone(SHANGHAI).replace(hour=0, minute=0, second=0, microsecond=0)
        answered = Counter(records.receipts_since(session, midnight))
    keys = vault.row_keys(settings)
    key, places = keys[0], returned_rows(settings, store, owed, keys)
    due: dict[str, dict[str, date]] = {}
    titles = {c.key: c.label.text(settings.language) for sheet in sheets.SHEETS.values() for c in sheet.columns}
    for judged in owed.itertuples():
        with store.begin() as session:
            campaign = session.get_one(Campaign, judged.campaign_id)
            year = session.get_one(ProgrammeYear, campaign.programme_year_id)
            problems = records.problems_of(session, int(judged.message_id))
            files, open_again = records.brought_by(session, int(judged.message_id))
            kept_open = records.rows_kept_open(session, int(judged.message_id))
            useless = records.files_without_use(session, int(judged.message_id))
            message = session.get_one(Message, int(judged.message_id))
            if campaign.id not in due:
                due[campaign.id] = records.due_by_branch(session, campaign.id)
            kind = records.returned_kind(session, int(judged.message_id))
            role = f"message-{judged.message_id}"
            sequence = outbox.next_sequence(session, "receipt", campaign.id, str(judged.branch_no), role)
        rules = Programme.model_validate_json(year.plan)
        to = roster.recipient(
            valid, str(judged.branch_no), rules.list_to if judged.branch_no != roster.HQ else "hq_service"
        )
        if to is None or to.email in refused:
            log.warning(
                "message %s: no receipt, the roster has no usable %s for %s",
                message.sha256[:12],
                rules.list_to,
                judged.branch_no,
            )
            continue
        if answered[to.email] >= settings.receipts_per_day:
            put_off[str(judged.branch_no)] += 1
            continue
        answered[to.email] += 1
        listed = [
            {
                "sheet": returns.place_words(str(row.sheet), int(row.row), settings.language),
                "row": int(row.row),
                "column": titles.get(row.column_name, row.column_name),
                "task": ""
                if pd.isna(row.assignment_id)
                else sheets.row_code("assignment", int(row.assignment_id), key),
                "code": row.code,
                "advice": returns.problem_message(row.code, settings.language),
            }
            for row in problems.head(SHOWN_PROBLEMS).itertuples()
        ]
        booked = {(row["item_kind"], int(row["item_id"])): row for row in kept_open}
        to_correct = returns.correct_rows(
            problems, booked, places.get(int(judged.message_id), {}), settings.language, key
        )
        sheets_back = correction_sheets(
            settings, store, to_correct, campaign, rules, to, branches.get(to.branch_no, to.branch_no),
            message.sha256[:8], as_of=as_of,
        )  # fmt: skip
        words = mail.render(
            "receipt",
            settings.language,
            branch_name=branches.get(str(judged.branch_no), str(judged.branch_no)),
            title=rules.title.model_dump()[settings.language],
            period=campaign.period,
            sheet=kind,
            received_at=message.first_seen_at,
            reference=message.sha256[:8],
            accepted=int(judged.rows_accepted),
            rejected=int(judged.rows_rejected),
            problems=listed,
            problems_left_off=max(0, len(problems) - SHOWN_PROBLEMS),
            is_late=bool(judged.is_late),
            files=files,
            open_again=open_again,
            awaiting=[awaiting_words(*item, row["awaits"], key, settings.language) for item, row in booked.items()],
            useless=[useless_words(row, key, settings.language) for row in useless.itertuples()],
            attachment_names=[sheet.filename for sheet in sheets_back],
            key_place=settings.key_words,
            due_on=due[campaign.id].get(str(judged.branch_no), due[campaign.id][""]),
            return_address=settings.mail_from,
            sender_name=settings.mail_name,
        )
        yield outbox.write(
            settings, "receipt", campaign.id, str(judged.branch_no), role, sequence, to.email, words, now=now,
            attachments=tuple(sheets_back),
            items=tuple(
                (records.corrected(item), number)
                for item, (ids, _) in (to_correct.items() if sheets_back else ())
                for number in ids
            ),
        )  # fmt: skip


def awaiting_words(
    kind: sheets.ItemKind, item: int, awaits: str, key: sheets.RowKey, language: Language
) -> dict[str, Any]:
    """One row that is kept open: its code, which kinds of file are missing, and a name for each."""
    code = sheets.row_code(kind, item, key)
    missing = [each for each in evidence.KINDS if each in awaits.split(",")]
    return {
        "task": code,
        "missing": [evidence.KINDS[each].text(language) for each in missing],
        "names": [f"{code}_{evidence.NAMED[each].text(language)}" for each in missing],
    }


def useless_words(file: Any, key: sheets.RowKey, language: Language) -> dict[str, Any]:
    """One file that is no evidence: its number in the mail, the row it names, and what is wrong with it ('' for no row)."""
    code = sheets.row_code(file.item_kind, int(file.item_id), key) if file.item_kind else ""
    return {
        "part": int(file.part), "task": code, "fault": evidence.FAULTS[file.fault].text(language) if file.fault else "",
    }  # fmt: skip


def returned_rows(
    settings: Settings, store: Store, owed: pd.DataFrame, keys: list[sheets.RowKey]
) -> dict[int, returns.Returned]:
    """Of each message with rows sent back, its rows by place, by message id: it is taken apart once more.

    What was sent back is booked by place and code, never by value; only the message itself has it.
    """
    with store.begin() as session:
        faulty = records.messages_with_problems(session, [int(number) for number in owed["message_id"]])
    owed = owed[owed["message_id"].isin(faulty)]
    if owed.empty:
        return {}
    home, passwords = settings.home.resolve(), vault.branch_passwords(settings)
    paths = [home / path for path in owed["path"]]
    own = {path: passwords.get(str(branch), []) for path, branch in zip(paths, owed["branch_no"], strict=True)}
    found = {}
    for number, opened in zip(owed["message_id"], mailbox.open_messages(paths, {}, settings, own=own), strict=True):
        found[int(number)] = {
            kind: returns.find_returned(sheet, opened, keys) for kind, sheet in returns.SHEET_OF.items()
        }
    mailbox.forget_parts(settings)
    return found


def cases_due(settings: Settings, rules: Programme, listed: pd.DataFrame, cases: pd.DataFrame) -> list[date]:
    """When each listed case is due, by the mail that brought it; that mail may have bounced since."""
    calendar, known = read_calendar(settings), cases.set_index("case_id").loc[listed["case_id"]]
    return [
        findings.case_due(delivered, opened, calendar, rules.self_check.workdays, rules.closing_hour)
        for delivered, opened in zip(known["delivered_at"], known["opened_on"], strict=True)
    ]


def correction_sheets(
    settings: Settings,
    store: Store,
    to_correct: dict[sheets.ItemKind, returns.ToCorrect],
    campaign: Campaign,
    rules: Programme,
    to: roster.Recipient,
    branch_name: str,
    reference: str,
    *,
    as_of: date,
) -> list[mail.Attachment]:
    """The correction sheets that a receipt carries, locked as the lists are; none where no row is to be corrected."""
    if not to_correct:
        return []
    try:
        password = vault.branch_password(settings, to.branch_no)
    except vault.BranchKeyError as error:
        get_run_logger().warning("%s: no correction sheet for branch %s: %s", campaign.id, to.branch_no, error)
        return []
    title, key = rules.title.model_dump()[settings.language], vault.row_keys(settings)[0]
    found = []
    with store.begin() as session:
        people = records.optional_snapshot(session, "staff", as_of)
    staff = lake.names_of(settings, people.path, "staff_id", "staff_name") if people else {}
    for item, (ids, correction) in to_correct.items():
        with store.begin() as session:
            listed = records.calls_listed(session, ids) if item == "assignment" else records.cases_listed(session, ids)
            years = [session.get_one(ProgrammeYear, number) for number in listed["programme_year_id"].unique()]
            paths = [records.snapshot_by_id(session, year.snapshots["customers"]).path for year in years]
            delivered = records.cases_expected(session) if item == "case" else None
        known = pd.concat([lake.customers_of(settings, path, listed["customer_id"]) for path in dict.fromkeys(paths)])
        customers = known[~known.index.duplicated()]
        kind: sheets.SheetKind = (
            "self_check" if item == "case" else "hq_calls" if to.branch_no == roster.HQ else "callback"
        )
        rows = (
            sheets.case_rows(listed, customers, staff, cases_due(settings, rules, listed, delivered), key)
            if delivered is not None
            else sheets.call_rows(kind, listed, customers, staff, key)
        )
        content = sheets.write_sheet(
            kind, rows, campaign=campaign.id, title=title, branch_no=to.branch_no, branch_name=branch_name,
            language=settings.language, issued_on=as_of,
            addressee=sheets.Addressee(to.role, f"{campaign.id}/{to.branch_no}-{reference}"), correction=correction,
        )  # fmt: skip
        words = (CORRECTION.text(settings.language), sheets.SHEETS[kind].name.text(settings.language))
        name = "_".join([*words, title, campaign.period, to.branch_no, reference])
        found.append(mail.Attachment(f"{name}.xlsx", lock.lock_workbook(content, password), XLSX))
    return found
