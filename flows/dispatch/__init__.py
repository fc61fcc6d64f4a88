"""Dispatch: each branch gets its callback list by mail, locked with its own password; what stands in a mail is not mailed again."""

from collections import Counter
from datetime import date, datetime

from prefect import flow, get_run_logger

from flows.dispatch.lists import build_lists, counted, plan_lists, plan_parts
from models.calendar import SHANGHAI
from models.programme import Programme
from models.roster_findings import Finding
from tasks import board, outbox, records
from tasks.records import approvals
from tasks.settings import Settings
from tasks.store import Store, open_store, record


@flow(name="dispatch", flow_run_name=board.run_name("dispatch", "as_of", "campaign"))
def dispatch_lists(
    campaign: str | None = None, as_of: date | None = None, now: datetime | None = None
) -> dict[str, int]:
    """Mails by outcome, calls carried and gaps in the roster; every drawn campaign when none is named."""
    log, settings = get_run_logger(), Settings()
    now = now or board.run_clock()
    as_of = as_of or now.astimezone(SHANGHAI).date()
    store = open_store(settings)
    with store.begin() as session:
        names = [campaign] if campaign else records.drawn_campaigns(session)
        found = [records.campaign_of(session, name)[:2] for name in names]
        if not found:
            log.warning("no campaign has been drawn yet")
        for early in [issued for issued, _ in found if as_of < issued.as_of]:
            log.warning("%s: was drawn for %s, after %s; left alone", early.id, early.as_of, as_of)
        found = [(issued, year) for issued, year in found if as_of >= issued.as_of]
    totals = Counter(dict.fromkeys(("claimed", "sent", "failed", "unknown", "calls", "gaps"), 0))
    with outbox.opened(settings, store, run=f"dispatch {now.isoformat()}", now=now) as out:
        totals["unknown"] += len(out.lost)
        rows = []
        for issued, year in found:
            # An approval is given and withdrawn by whoever holds the outbox, so it cannot change until the lists are out.
            with store.begin() as session:
                why = approvals.lacks_approval(session, issued.id)
            if why:
                log.warning(
                    "%s: nothing is mailed: %s; `huifang approve %s` shows what is asked for", issued.id, why, issued.id
                )
                totals["unapproved"] += 1
                continue
            with store.begin() as session:
                ready, gaps = plan_lists(session, settings, issued, as_of)
                planned = [entry for to, mine in ready for entry in plan_parts(session, settings, issued, to, mine)]
            with board.progress(f"dispatch {issued.id}") as advance:
                pieces = build_lists(
                    settings,
                    store,
                    issued,
                    Programme.model_validate_json(year.plan),
                    planned,
                    gaps,
                    as_of=as_of,
                    now=now,
                )
                counts = out.deliver("assignment", counted(pieces, len(planned), advance), len(planned))
            stopped = {gap.branch_no for gap in gaps}
            mailed = [entry for entry in planned if entry.to.branch_no not in stopped][: counts["claimed"]]
            counts |= {"calls": sum(len(entry.calls) for entry in mailed), "gaps": len(stopped)}
            tell_gaps(store, issued.id, gaps, now)
            if counts.get("waiting"):
                log.warning("%s: %s lists wait for a later run: %s", issued.id, counts["waiting"], out.why_waiting)
            elif not counts["claimed"]:
                log.warning("%s: every list is mailed already or waits for the roster; nothing was sent", issued.id)
            if counts["claimed"]:
                with store.begin() as session:
                    record(
                        session,
                        actor=settings.actor or "flow:dispatch",
                        action="dispatch",
                        subject=issued.id,
                        payload=counts,
                        at=now,
                    )
            rows.append({"campaign": issued.id, **counts})
            for name, n in counts.items():
                totals[name] += n
    board.publish_counts("dispatch", "dispatch", rows)
    log.info("%s", dict(totals))
    return dict(totals)


def tell_gaps(store: Store, campaign_id: str, gaps: list[Finding], now: datetime) -> None:
    """What keeps lists at headquarters becomes headquarters' task, and is said by code and row."""
    log = get_run_logger()
    with store.begin() as session:
        records.add_gaps(session, campaign_id, gaps, now)
    for gap in gaps:
        place = f", row {gap.row} of {gap.file}" if gap.row else ""
        log.warning("%s: branch %s gets no list: %s of its %s%s", campaign_id, gap.branch_no, gap.code, gap.role, place)
    if gaps:
        log.warning(
            "%s: `huifang roster check` says what to write; the next dispatch mails those branches alone", campaign_id
        )
