"""Pulls, snapshots and waivers: what was taken in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import date
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from models import CallbackError
from models.tables import IntakeTally, Pull, SetAside, Snapshot, SourceFile, Waiver


class NoSnapshot(CallbackError):
    """A table that was never pulled for the day it is needed of."""


def newest_pull(session: Session, as_of: date) -> Pull | None:
    """The pull of a day that stands; another delivery for that day takes its place."""
    return session.scalar(select(Pull).where(Pull.as_of == as_of).order_by(Pull.id.desc()).limit(1))


def same_bytes(session: Session, sha256s: Iterable[str], as_of: date) -> dict[str, tuple[str, date]]:
    """Of some file hashes those that came for another day too: the file's name then, and the day."""
    rows = session.execute(
        select(SourceFile.sha256, SourceFile.name, Snapshot.as_of)
        .join(Snapshot, Snapshot.id == SourceFile.snapshot_id)
        .where(SourceFile.sha256.in_(list(sha256s)), Snapshot.as_of != as_of)
        .order_by(Snapshot.as_of)
    )
    return {sha256: (name, day) for sha256, name, day in rows}


def add_pull(session: Session, pull: Pull, results: Iterable[Any], set_aside: Iterable[Any] = ()) -> None:
    """A pull with its snapshots, source files, tallies and what was set aside; results are the lake's IntakeResults."""
    session.add(pull)
    session.flush()
    session.add_all(
        SetAside(
            pull_id=pull.id, name=f.name, table_name=f.table_name, sha256=f.sha256, size_bytes=f.size_bytes,
            reason=f.reason,
        )
        for f in set_aside
    )  # fmt: skip
    for result in results:
        snapshot = Snapshot(
            pull_id=pull.id,
            table_name=result.table_name,
            as_of=pull.as_of,
            path=result.path,
            content_sha256=result.content_sha256,
            rejected_sha256=result.rejected_sha256,
            rows=result.rows,
            accepted=result.accepted,
            ignored=result.ignored,
            rejected=result.rejected,
            reported=result.reported,
        )
        session.add(snapshot)
        session.flush()
        session.add_all(
            SourceFile(
                snapshot_id=snapshot.id, name=f.name, sha256=f.sha256, size_bytes=f.size_bytes, rows=f.rows,
                accepted=f.accepted, ignored=f.ignored, rejected=f.rejected,
            )
            for f in result.files
        )  # fmt: skip
        session.add_all(
            IntakeTally(
                snapshot_id=snapshot.id,
                verdict=t.verdict,
                rule=t.rule,
                column_name=t.column_name,
                rows=t.rows,
                reason=t.reason,
            )
            for t in result.tallies
        )


def pulls(session: Session, last: int = 5) -> list[dict[str, Any]]:
    """The last pulls, newest first, each with its tables' counts and the rules that ignored or rejected rows."""
    found = []
    for pull in session.scalars(select(Pull).order_by(Pull.id.desc()).limit(last)):
        tables: list[dict[str, Any]] = []
        for snapshot in session.scalars(select(Snapshot).where(Snapshot.pull_id == pull.id).order_by(Snapshot.id)):
            tallies = session.scalars(select(IntakeTally).where(IntakeTally.snapshot_id == snapshot.id)).all()
            files = session.scalars(select(SourceFile).where(SourceFile.snapshot_id == snapshot.id)).all()
            by: dict[str, Counter[str]] = {verdict: Counter() for verdict in ("ignored", "rejected", "reported")}
            for t in tallies:
                by[t.verdict][t.rule if t.verdict == "ignored" else f"{t.column_name}: {t.rule}"] += t.rows
            tables.append(
                {
                    "table": snapshot.table_name,
                    "rows": snapshot.rows,
                    "accepted": snapshot.accepted,
                    "ignored": snapshot.ignored,
                    "rejected": snapshot.rejected,
                    "reported": snapshot.reported,
                    "ignored_by": dict(by["ignored"]),
                    "rejected_by": dict(by["rejected"]),
                    "reported_by": dict(by["reported"]),
                    "reasons": {t.rule: t.reason for t in tallies},
                    "content_sha256": snapshot.content_sha256,
                    "path": snapshot.path,
                    "files": [
                        {
                            key: getattr(file, key)
                            for key in ("name", "sha256", "size_bytes", "rows", "accepted", "ignored", "rejected")
                        }
                        for file in sorted(files, key=lambda f: f.name)
                    ],
                }
            )
        totals: dict[str, int] = {
            key: sum(table[key] for table in tables) for key in ("rows", "accepted", "ignored", "rejected")
        }
        aside = session.scalars(select(SetAside).where(SetAside.pull_id == pull.id).order_by(SetAside.name))
        found.append(
            {
                "pull": pull.id,
                "as_of": pull.as_of.isoformat(),
                "profile": pull.profile,
                "supersedes": pull.supersedes_id,
                **totals,
                "tables": tables,
                "set_aside": [
                    {"name": f.name, "table": f.table_name, "reason": f.reason, "size_bytes": f.size_bytes}
                    for f in aside
                ],
            }
        )
    return found


def snapshot_of(session: Session, table: str, day: date, *, exactly: bool = False) -> Snapshot:
    """The newest snapshot of a table for a day: of that very day, or else the last one before.

    Raises NoSnapshot with the command that makes one.
    """
    of_day = Snapshot.as_of == day if exactly else Snapshot.as_of <= day
    found = session.scalar(
        select(Snapshot)
        .where(Snapshot.table_name == table, of_day)
        .order_by(Snapshot.as_of.desc(), Snapshot.id.desc())
        .limit(1)
    )
    if found is None:
        when = f"of {day}" if exactly else f"of {day} or before"
        raise NoSnapshot(
            f"no snapshot of {table} {when}: run `huifang run pull --profile FILE --inbox DIR --as-of {day}`"
            + (" with the extracts of that day" if table != "roster" else " with --roster FILE")
        )
    return found


def optional_snapshot(session: Session, table: str, day: date) -> Snapshot | None:
    """The newest snapshot of a table of that day or before, or none."""
    try:
        return snapshot_of(session, table, day)
    except NoSnapshot:
        return None


def contacts_of(session: Session, day: date) -> tuple[str, str | None]:
    """Where the roster of a day lies, and the staff whom it may name, if any were pulled."""
    staff = optional_snapshot(session, "staff", day)
    return snapshot_of(session, "roster", day).path, staff.path if staff else None


def snapshot_by_id(session: Session, snapshot_id: int) -> Snapshot:
    """A snapshot that a frozen base was made from."""
    return session.get_one(Snapshot, snapshot_id)


def waiver_of(session: Session, snapshot_id: int) -> Waiver | None:
    """The waiver given over a snapshot's rejected rows."""
    return session.scalar(select(Waiver).where(Waiver.snapshot_id == snapshot_id))
