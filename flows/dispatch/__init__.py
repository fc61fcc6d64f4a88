"""Dispatch: each branch gets its callback list by mail, locked with its own password; what stands in a mail is not mailed again."""

from datetime import date, datetime

from prefect import flow, get_run_logger

from flows.dispatch.lists import build_lists, counted, plan_lists
from models.calendar import SHANGHAI
from models.programme import Programme
from tasks import board, outbox, records
from tasks.settings import Settings
from tasks.store import open_store, record


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
    totals = {"claimed": 0, "sent": 0, "failed": 0, "unknown": 0, "calls": 0, "gaps": 0}
    with outbox.opened(settings, store, run=f"dispatch {now.isoformat()}", now=now) as out:
        totals["unknown"] += len(out.lost)
        rows = []
        for issued, year in found:
            with store.begin() as session:
                ready, gaps = plan_lists(session, settings, issued, as_of)
            for branch_no, reason in gaps:
                log.warning("%s: branch %s gets no mail: %s", issued.id, branch_no, reason)
            with board.progress(f"dispatch {issued.id}") as advance:
                pieces = build_lists(
                    settings, store, issued, Programme.model_validate_json(year.plan), ready, as_of=as_of, now=now
                )
                counts = out.deliver("assignment", counted(pieces, len(ready), advance))
            counts |= {"calls": sum(len(calls) for _, calls in ready), "gaps": len(gaps)}
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
            else:
                log.warning("%s: every list is mailed already or waits for the roster; nothing was sent", issued.id)
            rows.append({"campaign": issued.id, **counts})
            for name, n in counts.items():
                totals[name] += n
    board.publish_counts("dispatch", "dispatch", rows)
    log.info("%s", totals)
    return totals
