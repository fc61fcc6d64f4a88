"""Which calls go to whom, and the locked sheets that carry them."""

from collections.abc import Iterable, Iterator
from datetime import date, datetime
from itertools import groupby
from typing import NamedTuple

import pandas as pd
from sqlalchemy.orm import Session

from models import roster, sheets
from models.programme import Programme
from models.recall import without_recalled
from models.roster_findings import Finding, check_roster
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
) -> tuple[list[Ready], list[Finding]]:
    """Each branch's recipient with the calls to mail, and what keeps the others' lists at headquarters."""
    calls = records.calls_to_mail(session, issued.id)
    if calls.empty:
        return [], []
    year = session.get_one(ProgrammeYear, issued.programme_year_id)
    role = Programme.model_validate_json(year.plan).list_to
    readers = {str(branch_no): roster.role_at(str(branch_no), role) for branch_no in calls["branch_no"].unique()}
    contacts = records.snapshot_of(session, "roster", as_of)
    branches = records.snapshot_of(session, "branches", as_of)
    staff_snapshot = records.optional_snapshot(session, "staff", as_of)
    staff = lake.read_staff(settings, staff_snapshot.path) if staff_snapshot else None
    refused = records.refused_addresses(session)
    blocked = records.recalled(session)
    usable = roster.usable_on(
        without_recalled(lake.read_roster(settings, contacts.path), blocked), as_of, staff=staff,
        domains=settings.company_domains,
    )  # fmt: skip
    usable = usable[~usable["email"].isin(refused)]
    recipients = {branch_no: roster.recipient(usable, branch_no, reader) for branch_no, reader in readers.items()}
    missing = {branch_no: (readers[branch_no],) for branch_no, to in recipients.items() if to is None}
    gaps = check_roster(
        lake.read_written_roster(settings, contacts.path), as_of,
        branches=set(lake.names_of(settings, branches.path, "branch_no", "branch_name")), needed=missing, staff=staff,
        domains=settings.company_domains, refused=refused,
    ) if missing else []  # fmt: skip
    gaps = [gap for gap in gaps if gap.stops]
    ready: list[Ready] = []
    for branch_no, mine in calls.groupby("branch_no", sort=True):
        to = recipients[str(branch_no)]
        if to is None:
            if not any(gap.branch_no == branch_no for gap in gaps):
                why = "recalled" if any(branch_no == branch for branch, _ in blocked) else "missing_role"
                gaps.append(Finding(why, True, str(branch_no), readers[str(branch_no)]))
        elif fault := fault_of_key(settings, str(branch_no)):
            gaps.append(Finding("key_damaged", True, str(branch_no), to.role, detail=fault))
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


class Planned(NamedTuple):
    """One mail with a list, before it is written."""

    to: roster.Recipient
    part: sheets.Part
    calls: pd.DataFrame
    sequence: int
    supplement: int


def build_lists(
    settings: Settings,
    store: Store,
    issued: Campaign,
    rules: Programme,
    planned: list[Planned],
    gaps: list[Finding],
    *,
    as_of: date,
    now: datetime,
) -> Iterator[outbox.Piece]:
    """One locked sheet per planned mail; headquarters has a sheet of its own.

    A branch of which one part is over the limit gets none, and is added to the gaps.
    """
    if not planned:
        return
    with store.begin() as session:
        year = session.get_one(ProgrammeYear, issued.programme_year_id)
        customers = lake.customers_of(
            settings,
            records.snapshot_by_id(session, year.snapshots["customers"]).path,
            pd.concat([entry.calls["customer_id"] for entry in planned]),
        )
        branches = lake.names_of(
            settings, records.snapshot_of(session, "branches", as_of).path, "branch_no", "branch_name"
        ) | {roster.HQ: settings.mail_name}
        staff_snapshot = records.optional_snapshot(session, "staff", as_of)
    staff = lake.names_of(settings, staff_snapshot.path, "staff_id", "staff_name") if staff_snapshot else {}
    key, title = vault.row_keys(settings)[0], rules.title.model_dump()[settings.language]

    def order(entry: Planned) -> lock.Order:
        kind = sheet_for(entry.to)
        return lock.Order(
            kind, sheets.call_rows(kind, entry.calls, customers, staff, key), vault.branch_password(settings, entry.to.branch_no),
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
        locked = zip(planned, smiths.locked(order(entry) for entry in planned), strict=True)
        for entry, content in whole_lists(locked, settings.sheet_bytes, gaps):
            to, part = entry.to, entry.part
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
                key_place=settings.key_words, evidence=rules.evidence.calls, return_address=settings.mail_from,
                sender_name=settings.mail_name,
            )  # fmt: skip
            yield outbox.write(
                settings, "assignment", issued.id, to.branch_no, to.role, entry.sequence, to.email, words, now=now,
                attachments=(mail.Attachment(f"{name}.xlsx", content, XLSX),),
                items=tuple(("assignment", i) for i in part.calls),
            )  # fmt: skip


def whole_lists(
    locked: Iterable[tuple[Planned, bytes]], max_bytes: int, gaps: list[Finding]
) -> Iterator[tuple[Planned, bytes]]:
    """The parts of each branch's list when all of them are within the limit; a list over it is added to the gaps."""
    for to, found in groupby(locked, key=lambda one: one[0].to):
        parts = list(found)
        entry, content = max(parts, key=lambda one: len(one[1]))
        if len(content) <= max_bytes:
            yield from parts
            continue
        said = f"{len(content):,} > {max_bytes:,} B, {entry.part.number}/{entry.part.of}"
        gaps.append(Finding("too_large", True, to.branch_no, to.role, detail=said))


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


def counted(pieces: Iterator[outbox.Piece], total: int, advance: board.Advance) -> Iterator[outbox.Piece]:
    """The pieces, each reported as progress when it is taken."""
    for place, piece in enumerate(pieces, start=1):
        yield piece
        advance(min(place / total, 1))
