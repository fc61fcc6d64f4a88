"""Pull: take the day's extracts in, row by row accepted, ignored by name or rejected with a reason."""

import hashlib
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path

from prefect import flow, get_run_logger, task

from models import CallbackError
from models.calendar import SHANGHAI
from models.delivery import Delivery
from models.frame import CONTRADICTIONS
from models.profile import Profile
from models.tables import Pull
from tasks import board, lake, records, source
from tasks.settings import Settings, SettingsError, code_version, read_yaml
from tasks.store import Store, open_store, record

MAY_BE_EMPTY = ("transactions", "relations")
"""Nobody may have traded, and nobody may have been developed."""

MOVING = ("customers", "transactions", "relations")
"""Tables that no two days leave alike: the same bytes again are a stale delivery."""

SHOWN_ROWS = 500
"""Rejected rows of a table that the page lists; all of them lie in the lake."""

HIDDEN = ("files", "reasons", "path", "content_sha256")
"""What is too long for a cell of the dashboard."""

take_in = task(name="take in", task_run_name="take in {table_name}")(lake.take_in)


class RuinedExtract(CallbackError):
    """So little of a file can be used that it is not what it should be."""


@flow(name="pull", flow_run_name=board.run_name("pull", "as_of"))
def pull_extracts(
    profile: Path | None = None,
    inbox: str | None = None,
    as_of: date | None = None,
    roster: Path | None = None,
    now: datetime | None = None,
) -> dict[str, int]:
    """Rows, accepted, ignored and rejected of one intake. The same files for the same day change nothing."""
    log, settings = get_run_logger(), Settings()
    now = now or board.run_clock()
    as_of = as_of or now.astimezone(SHANGHAI).date()
    profile, inbox, roster = profile or settings.profile, inbox or settings.inbox, roster or settings.roster
    if profile is None or not inbox:
        raise SettingsError(
            "pull needs a profile and an inbox: give --profile FILE --inbox DIR-OR-URL, or set HUIFANG_PROFILE and HUIFANG_INBOX"
        )

    store = open_store(settings)
    rules = read_yaml(profile, Profile)
    profile_sha256 = hashlib.sha256(profile.read_bytes()).hexdigest()
    with store.exclusive("pull"), source.open_delivery(settings, rules, inbox, roster) as delivery:
        contents = sorted(f"{table} {f.sha256} {f.member}" for table, files in delivery.items() for f in files)
        manifest_sha256 = hashlib.sha256("\n".join([profile_sha256, *contents]).encode()).hexdigest()
        with store.begin() as session:
            current = records.newest_pull(session, as_of)
            newest = current.id if current is not None else None
            is_known = current is not None and current.manifest_sha256 == manifest_sha256
            stale = records.same_bytes(
                session, (f.sha256 for t in MOVING if t in delivery.files for f in delivery[t]), as_of
            )
        for file in delivery.set_aside:
            log.warning("%s: set aside: %s", file.name, file.reason)
        if newest is not None and is_known:
            log.warning(
                "pull %s of %s: the same files under the same profile are already in; nothing changed", newest, as_of
            )
            return _publish(settings, store, newest, as_of, now)
        for name, day in stale.values():
            log.warning("%s: the same bytes were taken in for %s; is the delivery stale?", name, day)

        results = _take_in_all(settings, rules, delivery, as_of)
        with store.begin() as session:
            pull = Pull(
                as_of=as_of,
                profile=rules.name,
                profile_sha256=profile_sha256,
                manifest_sha256=manifest_sha256,
                code_version=code_version(),
                pulled_at=now,
                supersedes_id=newest,
            )
            records.add_pull(session, pull, results, delivery.set_aside)
            record(
                session,
                actor=settings.actor or "flow:pull",
                action="pull",
                subject=f"{rules.name} {as_of}",
                payload={result.table_name: result.content_sha256 for result in results},
                at=now,
            )
            pull_id = pull.id
    if newest is not None:
        log.warning("pull %s of %s takes the place of pull %s; both are kept", pull_id, as_of, newest)
    return _publish(settings, store, pull_id, as_of, now)


def _take_in_all(settings: Settings, rules: Profile, delivery: Delivery, as_of: date) -> list[lake.IntakeResult]:
    log = get_run_logger()
    results: dict[str, lake.IntakeResult] = {}
    sizes = {table: sum(file.size_bytes for file in files) for table, files in delivery.items()}
    with board.progress("pull") as advance:
        for table, files in delivery.items():
            before = sum(sizes[done] for done in results)

            def tell(share: float, before: int = before, size: int = sizes[table]) -> None:
                advance((before + share * size) / max(1, sum(sizes.values())))

            known = {name: result.path for name, result in results.items()}
            result = take_in(settings, rules, table, files, as_of=as_of, known=known, on_progress=tell)
            refuse_ruin(result, rules)
            if result.rejected * 100 > rules.warn_above_rejected_pct * result.rows:
                log.warning("%s: more than %s %% of the rows are rejected", table, rules.warn_above_rejected_pct)
            results[table] = result
            log.info(
                "%s: %s rows = %s accepted + %s ignored + %s rejected",
                table, result.rows, result.accepted, result.ignored, result.rejected,
            )  # fmt: skip
    if customers := results.get("customers"):
        traded = results.get("transactions")
        counts, file = lake.write_contradictions(settings, customers.path, traded.path if traded else None, as_of)
        found = [lake.Tally("reported", kind, "status", n, CONTRADICTIONS[kind]) for kind, n in sorted(counts.items())]
        results["customers"] = replace(customers, tallies=[*customers.tallies, *found])
        if found:
            log.warning("customers that contradict themselves are named in %s", file.relative_to(settings.lake))
    return list(results.values())


def _publish(settings: Settings, store: Store, pull_id: int, as_of: date, now: datetime) -> dict[str, int]:
    """Shows a pull in the dashboard and as a page; what its rules ignored, rejected or reported, as warnings."""
    log = get_run_logger()
    with store.begin() as session:
        counts = next(p for p in records.pulls(session, last=10**6) if p["pull"] == pull_id)
    shown = [{key: value for key, value in table.items() if key not in HIDDEN} for table in counts["tables"]]
    board.publish_counts("pull", f"intake-{as_of}", shown)
    page = board.write_intake(
        counts,
        rejected={t["table"]: lake.read_rejected(settings, t["path"], SHOWN_ROWS) for t in counts["tables"]},
        reported={t["table"]: lake.read_reported(settings, t["path"], SHOWN_ROWS) for t in counts["tables"]},
        written_at=now,
        language=settings.language,
        directory=settings.reports,
    )
    for table in counts["tables"]:
        for verdict in ("ignored", "rejected", "reported"):
            for rule, rows in table[f"{verdict}_by"].items():
                log.warning("%s: %s rows %s: %s", table["table"], rows, verdict, rule)
    log.info("report of the intake: %s", page)
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
