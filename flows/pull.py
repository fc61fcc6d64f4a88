"""Pull: take the day's extracts in, row by row accepted, ignored by name or rejected with a reason."""

import hashlib
from datetime import date, datetime
from pathlib import Path

from prefect import flow, get_run_logger, task

from models import CallbackError
from models.calendar import SHANGHAI
from models.profile import Profile
from models.tables import Pull
from tasks import board, lake, records, source
from tasks.settings import Settings, SettingsError, code_version, read_yaml
from tasks.store import open_store, record

MAY_BE_EMPTY = ("transactions", "relations")
"""Nobody may have traded, and nobody may have been developed."""

take_in = task(name="take in", task_run_name="take in {table_name}")(lake.take_in)


class RuinedExtract(CallbackError):
    """So little of a file can be used that it is not what it should be."""


@flow(name="pull", flow_run_name=board.run_name("pull", "as_of"))
def pull_extracts(
    profile: Path | None = None,
    inbox: Path | None = None,
    as_of: date | None = None,
    roster: Path | None = None,
    now: datetime | None = None,
) -> dict[str, int]:
    """Rows, accepted, ignored and rejected of one intake. The same files for the same day change nothing."""
    log, settings = get_run_logger(), Settings()
    now = now or board.run_clock()
    as_of = as_of or now.astimezone(SHANGHAI).date()
    profile, inbox, roster = profile or settings.profile, inbox or settings.inbox, roster or settings.roster
    if profile is None or inbox is None:
        raise SettingsError(
            "pull needs a profile and an inbox: give --profile FILE --inbox DIR, or set HUIFANG_PROFILE and HUIFANG_INBOX"
        )

    store = open_store(settings)
    rules = read_yaml(profile, Profile)
    profile_sha256 = hashlib.sha256(profile.read_bytes()).hexdigest()
    with store.exclusive("pull"), source.open_delivery(settings, rules, inbox, roster) as files:
        manifest = "\n".join(
            [profile_sha256, *sorted(f"{table} {f.name} {f.sha256}" for table, found in files.items() for f in found)]
        )
        manifest_sha256 = hashlib.sha256(manifest.encode()).hexdigest()
        with store.begin() as session:
            known_pull = records.find_pull(session, as_of, manifest_sha256)
        if known_pull is not None:
            log.warning(
                "pull %s of %s: the same files under the same profile are already in; nothing changed",
                known_pull.id,
                as_of,
            )
            with store.begin() as session:
                counts = next(p for p in records.pulls(session, last=10**6) if p["pull"] == known_pull.id)
            board.publish_counts("pull", f"intake-{as_of}", counts["tables"])
            return {key: counts[key] for key in ("rows", "accepted", "ignored", "rejected")}

        results: list[lake.IntakeResult] = []
        known: dict[str, str] = {}
        with board.progress("pull") as advance:
            for place, (table, delivered) in enumerate(files.items(), start=1):
                result = take_in(settings, rules, table, delivered, as_of=as_of, known=dict(known))
                refuse_ruin(result, rules)
                known[table] = result.path
                results.append(result)
                log.info(
                    "%s: %s rows = %s accepted + %s ignored + %s rejected",
                    table,
                    result.rows,
                    result.accepted,
                    result.ignored,
                    result.rejected,
                )
                advance(place / len(files))

        with store.begin() as session:
            pull = Pull(
                as_of=as_of,
                profile=rules.name,
                profile_sha256=profile_sha256,
                manifest_sha256=manifest_sha256,
                code_version=code_version(),
                pulled_at=now,
            )
            records.add_pull(session, pull, results)
            record(
                session,
                actor=settings.actor or "flow:pull",
                action="pull",
                subject=f"{rules.name} {as_of}",
                payload={result.table_name: result.content_sha256 for result in results},
                at=now,
            )
        with store.begin() as session:
            counts = records.pulls(session, last=1)[0]
    board.publish_counts("pull", f"intake-{as_of}", counts["tables"])
    for table in counts["tables"]:
        for rule, rows in (*table["ignored_by"].items(), *table["rejected_by"].items()):
            log.warning("%s: %s rows %s", table["table"], rows, rule)
    return {key: counts[key] for key in ("rows", "accepted", "ignored", "rejected")}


def refuse_ruin(result: lake.IntakeResult, rules: Profile) -> None:
    """Raise RuinedExtract when a table that must have rows has none, or more are rejected than the profile allows.

    Nothing of the pull is recorded then: yesterday's roster is better than one in the wrong encoding.
    """
    why = ", ".join(
        f"{t.column_name}: {t.rule} {t.rows:,}"
        for t in sorted(result.tallies, key=lambda t: -t.rows)[:3]
        if t.verdict == "rejected"
    )
    if result.accepted == 0 and result.table_name not in MAY_BE_EMPTY:
        raise RuinedExtract(
            f"{', '.join(f.name for f in result.files)}: none of {result.rows:,} rows of {result.table_name} can be used"
            + (f" ({why}); is the encoding {rules.encoding} right?" if why else "; is the delivery complete?")
        )
    if result.rejected * 100 > rules.stop_above_rejected_pct * result.rows:
        raise RuinedExtract(
            f"{', '.join(f.name for f in result.files)}: {result.rejected:,} of {result.rows:,} rows of {result.table_name} are rejected "
            f"({why}), more than the {rules.stop_above_rejected_pct} % of stop_above_rejected_pct; is the encoding {rules.encoding} right?"
        )
