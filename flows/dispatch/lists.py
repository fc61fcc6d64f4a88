"""Which calls go to whom, and the locked sheets that carry them."""

from collections.abc import Iterator
from datetime import date, datetime
from typing import NamedTuple

import pandas as pd
from sqlalchemy.orm import Session

from models import roster, sheets
from models.programme import Programme
from models.tables import Campaign, ProgrammeYear
from tasks import board, lake, lock, mail, outbox, records, vault
from tasks.settings import Settings
from tasks.store import Store

Ready = tuple[roster.Recipient, pd.DataFrame]
"""A branch's recipient and the calls to mail to him."""
BYTES_BESIDES, BYTES_OF_ROW = 20_000, 200
"""What a locked sheet has besides its rows, and about what a row takes; measured on 170 and on 1,000 rows."""
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
        elif fault := fault_of_key(settings, str(branch_no)):
            gaps.append((str(branch_no), fault))
        else:
            ready.append((to, mine))
    return ready, gaps


def fault_of_key(settings: Settings, branch_no: str) -> str:
    """Why a branch's lists cannot be locked, or nothing."""
    try:
        vault.branch_password(settings, branch_no)
    except vault.BranchKeyError as error:
        return str(error)
    return ""


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
    """One locked sheet per branch in one mail, or in numbered ones where it is too long; headquarters has a sheet of its own."""
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
        planned = [entry for to, calls in ready for entry in plan_parts(session, settings, issued, to, calls)]
    staff = lake.names_of(settings, staff_snapshot.path, "staff_id", "staff_name") if staff_snapshot else {}
    key, title = vault.row_keys(settings)[0], rules.title.model_dump()[settings.language]

    def order(entry: Planned) -> lock.Order:
        kind = sheet_for(entry.to)
        return lock.Order(
            kind, rows_of(kind, entry.calls, customers, staff, key), vault.branch_password(settings, entry.to.branch_no),
            {
                "campaign": issued.id, "title": title, "branch_no": entry.to.branch_no,
                "branch_name": branches.get(entry.to.branch_no, entry.to.branch_no), "language": settings.language,
                "issued_on": as_of,
                "addressee": sheets.Addressee(
                    entry.to.role, f"{issued.id}/{entry.to.branch_no}-{entry.sequence}", entry.part.number, entry.part.of
                ),
            },
        )  # fmt: skip

    with lock.locksmiths(len(planned)) as smiths:
        for entry, locked in zip(planned, smiths.locked(order(entry) for entry in planned), strict=True):
            to, part = entry.to, entry.part
            if len(locked) > settings.sheet_bytes:
                raise sheets.SheetError(
                    f"{issued.id}: the list of branch {to.branch_no} has {len(locked)} bytes in part {part.number} of "
                    f"{part.of}; raise HUIFANG_SHEET_BYTES or lower HUIFANG_SHEET_ROWS"
                )
            name = "_".join(
                [
                    sheets.SHEETS[sheet_for(to)].name.text(settings.language), title, issued.period, to.branch_no,
                    *([str(entry.supplement)] if entry.supplement else []),
                    *([f"{part.number}-{part.of}"] if part.of > 1 else []),
                ]
            )  # fmt: skip
            words = mail.render(
                "assignment", settings.language, branch_name=branches.get(to.branch_no, to.branch_no), title=title,
                period=issued.period, rows=len(entry.calls), due_on=max(entry.calls["due_on"]),
                supplement=entry.supplement, part=part.number, parts=part.of, attachment_name=f"{name}.xlsx",
                key_place=settings.key_words, return_address=settings.mail_from, sender_name=settings.mail_name,
            )  # fmt: skip
            yield outbox.write(
                settings, "assignment", issued.id, to.branch_no, to.role, entry.sequence, to.email, words, now=now,
                attachments=(mail.Attachment(f"{name}.xlsx", locked, XLSX),),
                items=tuple(("assignment", i) for i in part.calls),
            )  # fmt: skip


class Planned(NamedTuple):
    """One mail with a list, before it is written."""

    to: roster.Recipient
    part: sheets.Part
    calls: pd.DataFrame
    sequence: int
    supplement: int


def sheet_for(to: roster.Recipient) -> sheets.SheetKind:
    """Which sheet a list is written on."""
    return "hq_calls" if to.branch_no == roster.HQ else "callback"


def plan_parts(
    session: Session, settings: Settings, issued: Campaign, to: roster.Recipient, calls: pd.DataFrame
) -> Iterator[Planned]:
    """The mails that bring a branch its calls: one, or numbered ones that a run after a crash numbers alike."""
    days = set(calls["assigned_on"])
    whole = records.calls_assigned(session, issued.id, to.branch_no, days)
    sent = records.lists_sent(session, issued.id, to.branch_no)
    first = outbox.next_sequence(session, "assignment", issued.id, to.branch_no, to.role)
    parts = sheets.parts_needed(
        len(whole), BYTES_BESIDES + len(whole) * BYTES_OF_ROW, max_rows=settings.sheet_rows,
        max_bytes=settings.sheet_bytes,
    )  # fmt: skip
    by_id = calls.set_index("assignment_id", drop=False)
    for place, part in enumerate(sheets.share_out(whole, by_id.index, parts)):
        supplement = sheets.supplement_number(part.share, days, sent)
        yield Planned(to, part, by_id.loc[list(part.calls)], first + place, supplement)


def rows_of(
    kind: sheets.SheetKind, calls: pd.DataFrame, customers: pd.DataFrame, staff: dict[str, str], key: sheets.RowKey
) -> pd.DataFrame:
    """The rows of a list, as its sheet is declared."""
    known, callers = customers.loc[calls["customer_id"]], sheets.staff_words(staff)
    rows = pd.DataFrame(
        {
            "row_code": [sheets.row_code("assignment", int(i), key) for i in calls["assignment_id"]],
            "customer_name": [sheets.mask_name(name) for name in known["customer_name"]],
            "phone": known["phone"].astype(str).to_list(),
            "form": calls["form"].to_list(),
            "due_on": calls["due_on"].to_list(),
            "call_on": [
                due if pd.isna(day) else day for day, due in zip(calls["call_on"], calls["due_on"], strict=True)
            ],
        }
    )
    if kind == "hq_calls":
        return rows
    return rows.assign(
        developer=[staff.get(developer, developer) for developer in calls["developer_id"]],
        planned_caller=[callers.get(caller, caller) for caller in calls["caller_id"]],
    )


def counted(pieces: Iterator[outbox.Piece], total: int, advance: board.Advance) -> Iterator[outbox.Piece]:
    """The pieces, each reported as progress when it is taken."""
    for place, piece in enumerate(pieces, start=1):
        yield piece
        advance(min(place / total, 1))
