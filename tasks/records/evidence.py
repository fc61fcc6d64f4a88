"""Evidence that came with returns, and the rows that wait for some."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any

import pandas as pd
from sqlalchemy import and_, distinct, func, or_, select
from sqlalchemy.orm import Session

from models.credibility import Sent
from models.row_code import ItemKind
from models.tables import Assignment, AssignmentEnd, Campaign, Case, Evidence, ReturnRow, RowProblem, SelfCheck, Verdict
from tasks.records.base import frame, latest

IN_LIMIT = 500
"""Values in one comparison; databases end at some thousands."""


def add_evidence(session: Session, **values: Any) -> int:
    """Book one evidence file of a message; 1 when its bytes are new for its row, 0 when they came before."""
    known = session.scalar(
        select(func.count())
        .select_from(Evidence)
        .where(
            Evidence.sha256 == values["sha256"],
            Evidence.item_kind == values["item_kind"],
            Evidence.item_id == values["item_id"],
        )
    )
    session.add(Evidence(**values))
    return 0 if known else 1


def files_without_use(session: Session, message_id: int) -> pd.DataFrame:
    """Files of a message that are no evidence: part, item_kind, item_id, kind, fault ('' where they only name no row).

    A picture without words in its name and without a row is left out: signatures of mails are such.
    """
    return frame(
        session,
        select(Evidence.part, Evidence.item_kind, Evidence.item_id, Evidence.kind, Evidence.fault)
        .where(
            Evidence.message_id == message_id,
            or_(
                and_(Evidence.item_kind != "", Evidence.fault != ""),
                and_(
                    Evidence.item_kind == "",
                    or_(Evidence.kind.not_in(["", "scan"]), Evidence.media_type == "application/pdf"),
                ),
            ),
        )
        .order_by(Evidence.part),
    )


def evidence_held(session: Session, kind: ItemKind, ids: Collection[int]) -> dict[int, set[str]]:
    """What came for each of some tasks and is not faulty: kinds of evidence by task."""
    found: dict[int, set[str]] = {}
    for some in _in_pieces(ids):
        rows = session.execute(
            select(Evidence.item_id, Evidence.kind)
            .where(Evidence.item_kind == kind, Evidence.item_id.in_(some), Evidence.fault == "")
            .distinct()
        )
        for item_id, what in rows:
            found.setdefault(item_id, set()).add(what)
    return found


def rows_awaiting(session: Session, kind: ItemKind, ids: Collection[int]) -> list[ReturnRow] | list[SelfCheck]:
    """The current rows of some tasks that await evidence."""
    if kind == "case":
        newest = latest(SelfCheck.version, SelfCheck.version, SelfCheck.case_id)
        return list(
            session.scalars(select(SelfCheck).where(SelfCheck.case_id.in_(list(ids)), newest, SelfCheck.awaits != ""))
        )
    newest = latest(ReturnRow.version, ReturnRow.version, ReturnRow.assignment_id)
    return list(
        session.scalars(select(ReturnRow).where(ReturnRow.assignment_id.in_(list(ids)), newest, ReturnRow.awaits != ""))
    )


def add_version(session: Session, row: ReturnRow | SelfCheck, **changed: Any) -> None:
    """A booked row again, as its next version with what has changed."""
    values = {
        column.key: getattr(row, column.key) for column in row.__table__.columns if column.key not in ("id", "version")
    }
    session.add(type(row)(**values | changed, version=row.version + 1))
    session.flush()


def rows_kept_open(session: Session, message_id: int) -> list[dict[str, Any]]:
    """Of the rows a message brought, or brought evidence for, those that still await some: item_kind, item_id and what is booked.

    A row that came again unchanged is booked with an earlier message: then all that the branch's campaign still awaits
    is named.
    """
    judged = session.scalars(
        select(Verdict).where(Verdict.message_id == message_id).order_by(Verdict.version.desc()).limit(1)
    ).one()
    booked = sum(
        session.scalar(select(func.count(distinct(item))).where(item_of == message_id)) or 0
        for item, item_of in (
            (ReturnRow.assignment_id, ReturnRow.message_id), (SelfCheck.case_id, SelfCheck.message_id),
        )
    )  # fmt: skip
    theirs = {
        "assignment": select(Assignment.id).where(
            Assignment.campaign_id == judged.campaign_id, Assignment.branch_no == judged.branch_no
        ),
        "case": select(Case.id).where(Case.campaign_id == judged.campaign_id, Case.branch_no == judged.branch_no),
    }
    found = []
    for kind, table, item in (
        ("assignment", ReturnRow, ReturnRow.assignment_id),
        ("case", SelfCheck, SelfCheck.case_id),
    ):
        here = select(item).where(table.message_id == message_id)
        named = select(Evidence.item_id).where(Evidence.message_id == message_id, Evidence.item_kind == kind)
        is_meant = or_(item.in_(here), item.in_(named))
        if judged.rows_accepted > booked:
            is_meant = or_(is_meant, item.in_(theirs[kind]))
        query = (
            select(table).where(latest(table.version, table.version, item), table.awaits != "", is_meant).order_by(item)
        )
        found += [
            {column.key: getattr(row, column.key) for column in row.__table__.columns}
            | {"item_kind": kind, "item_id": getattr(row, item.key)}
            for row in session.scalars(query)
        ]
    return found


def evidence_awaited(session: Session, campaign_id: str) -> dict[str, int]:
    """Rows and self-checks of a campaign that are kept open, by the kind of evidence they lack; one may lack several."""
    ended = select(AssignmentEnd.assignment_id)
    calls = (
        select(ReturnRow.awaits)
        .join(Assignment, Assignment.id == ReturnRow.assignment_id)
        .where(
            Assignment.campaign_id == campaign_id,
            ReturnRow.awaits != "",
            latest(ReturnRow.version, ReturnRow.version, ReturnRow.assignment_id),
            Assignment.id.not_in(ended),
        )
    )
    checks = (
        select(SelfCheck.awaits)
        .join(Case, Case.id == SelfCheck.case_id)
        .where(
            Case.campaign_id == campaign_id,
            SelfCheck.awaits != "",
            latest(SelfCheck.version, SelfCheck.version, SelfCheck.case_id),
        )
    )
    return dict(Counter(kind for query in (calls, checks) for row in session.scalars(query) for kind in row.split(",")))


def messages_with_problems(session: Session, ids: Collection[int]) -> set[int]:
    """Those of some messages of which a row was sent back."""
    return {
        number
        for some in _in_pieces(ids)
        for number in session.scalars(
            select(RowProblem.message_id).where(RowProblem.message_id.in_(some), RowProblem.row > 0).distinct()
        )
    }


def calls_listed(session: Session, ids: Collection[int]) -> pd.DataFrame:
    """Some calls as a list shows them: assignment_id, programme_year_id, customer_id, form, developer_id, due_on, call_on,
    caller_id.
    """
    return frame(
        session,
        select(
            Assignment.id.label("assignment_id"),
            Campaign.programme_year_id,
            Assignment.customer_id,
            Assignment.form,
            Assignment.developer_id,
            Assignment.due_on,
            Assignment.call_on,
            Assignment.caller_id,
        )
        .join(Campaign, Campaign.id == Assignment.campaign_id)
        .where(Assignment.id.in_(list(ids)))
        .order_by(Assignment.id),
    )


def recordings(session: Session) -> list[Sent]:
    """Every recording that names its call, of every campaign."""
    return _sent(session, ["recording"])


def signatures(session: Session) -> list[Sent]:
    """Every scan of a signature that names its call, of every campaign."""
    return _sent(session, ["signature", "scan"])


def _sent(session: Session, kinds: Collection[str]) -> list[Sent]:
    rows = session.execute(
        select(Evidence.sha256, Evidence.item_id, Evidence.seconds).where(
            Evidence.item_kind == "assignment", Evidence.kind.in_(kinds)
        )
    )
    return [Sent(*row) for row in rows]


def _in_pieces(ids: Collection[int]) -> Iterator[list[int]]:
    whole = list(ids)
    for start in range(0, len(whole), IN_LIMIT):
        yield whole[start : start + IN_LIMIT]
