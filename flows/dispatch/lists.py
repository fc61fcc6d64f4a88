"""Which calls go to whom, and the locked sheets that carry them."""

from collections.abc import Iterator
from datetime import date, datetime

import pandas as pd
from sqlalchemy.orm import Session

from models import roster, sheets
from models.programme import Programme
from models.tables import Campaign, ProgrammeYear
from tasks import board, lake, lock, mail, outbox, records, vault
from tasks.settings import Settings
from tasks.store import Store

BATCH = 60
Ready = tuple[roster.Recipient, pd.DataFrame]
"""A branch's recipient and the calls to mail to him."""
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


def plan_lists(
    session: Session, settings: Settings, issued: Campaign, as_of: date
) -> tuple[list[Ready], list[tuple[str, str]]]:
    """Each branch's recipient with the calls to mail, and the branches that cannot be written to with the reason."""
    calls = records.calls_to_mail(session, issued.id)
    if calls.empty:
        return [], []
    valid = lake.read_roster(settings, records.snapshot_of(session, "roster", as_of).path)
    valid, refused = roster.valid_on(valid, as_of), records.refused_addresses(session)
    year = session.get_one(ProgrammeYear, issued.programme_year_id)
    role = Programme.model_validate_json(year.plan).list_to
    ready, gaps = [], []
    for branch_no, mine in calls.groupby("branch_no", sort=True):
        reader = roster.role_at(str(branch_no), role)
        to = roster.recipient(valid, str(branch_no), reader)
        if to is None:
            gaps.append(
                (str(branch_no), f"the roster has no single {reader} on {as_of}; name one and pull the roster again")
            )
        elif to.email in refused:
            gaps.append(
                (str(branch_no), f"the mail server refused the address of the {reader} for good; correct the roster")
            )
        else:
            ready.append((to, mine))
    return ready, gaps


def build_lists(
    settings: Settings,
    store: Store,
    issued: Campaign,
    rules: Programme,
    ready: list[Ready],
    *,
    as_of: date,
    now: datetime,
) -> Iterator[outbox.Piece]:
    """One locked callback sheet in one mail per branch."""
    if not ready:
        return
    with store.begin() as session:
        year = session.get_one(ProgrammeYear, issued.programme_year_id)
        customers = lake.customers_of(
            settings,
            records.snapshot_by_id(session, year.snapshots["customers"]).path,
            pd.concat([calls["customer_id"] for _, calls in ready]),
        )
        branches = lake.names_of(
            settings, records.snapshot_of(session, "branches", as_of).path, "branch_no", "branch_name"
        ) | {roster.HQ: settings.mail_name}
        staff_snapshot = records.optional_snapshot(session, "staff", as_of)
    staff = lake.names_of(settings, staff_snapshot.path, "staff_id", "staff_name") if staff_snapshot else {}
    callers = sheets.staff_words(staff)
    key, title = vault.row_keys(settings)[0], rules.title.model_dump()[settings.language]
    sheet_name = sheets.SHEETS["callback"].name.text(settings.language)
    for batch in batched(ready, BATCH):
        clear = []
        for to, calls in batch:
            known = customers.loc[calls["customer_id"]]
            rows = pd.DataFrame(
                {
                    "row_code": [sheets.row_code("assignment", int(i), key) for i in calls["assignment_id"]],
                    "customer_name": [sheets.mask_name(name) for name in known["customer_name"]],
                    "phone": known["phone"].astype(str).to_list(),
                    "form": calls["form"].to_list(),
                    "developer": [staff.get(developer, developer) for developer in calls["developer_id"]],
                    "due_on": calls["due_on"].to_list(),
                    "call_on": [
                        due if pd.isna(day) else day for day, due in zip(calls["call_on"], calls["due_on"], strict=True)
                    ],
                    "planned_caller": [callers.get(caller, caller) for caller in calls["caller_id"]],
                }
            )
            content = sheets.write_sheet(
                "callback", rows, campaign=issued.id, title=title, branch_no=to.branch_no,
                branch_name=branches.get(to.branch_no, to.branch_no), language=settings.language, issued_on=as_of,
            )  # fmt: skip
            clear.append((content, vault.branch_password(settings, to.branch_no)))
        for (to, calls), locked in zip(batch, lock.lock_workbooks(clear), strict=True):
            with store.begin() as session:
                sequence = outbox.next_sequence(session, "assignment", issued.id, to.branch_no, to.role)
                supplement = records.lists_sent(session, issued.id, to.branch_no)
            name = f"{sheet_name}_{title}_{issued.period}_{to.branch_no}{f'_{supplement}' if supplement else ''}.xlsx"
            words = mail.render(
                "assignment", settings.language, branch_name=branches.get(to.branch_no, to.branch_no), title=title,
                period=issued.period, rows=len(calls), due_on=max(calls["due_on"]), supplement=supplement,
                attachment_name=name, key_place=settings.key_words, return_address=settings.mail_from,
                sender_name=settings.mail_name,
            )  # fmt: skip
            yield outbox.write(
                settings, "assignment", issued.id, to.branch_no, to.role, sequence, to.email, words, now=now,
                attachments=(mail.Attachment(name, locked, XLSX),),
                items=tuple(("assignment", int(i)) for i in calls["assignment_id"]),
            )  # fmt: skip


def batched(ready: list[Ready], size: int) -> Iterator[list[Ready]]:
    """The branches in lots, so that few sheets are in memory at once."""
    for start in range(0, len(ready), size):
        yield ready[start : start + size]


def counted(pieces: Iterator[outbox.Piece], total: int, advance: board.Advance) -> Iterator[outbox.Piece]:
    """The pieces, each reported as progress when it is taken."""
    for place, piece in enumerate(pieces, start=1):
        yield piece
        advance(place / total)
