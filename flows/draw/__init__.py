"""Draw: freeze the year's base, commit the month's state, find its seed, draw once, assign; later move reserves up."""

import re
from datetime import date, datetime, timedelta

from prefect import flow, get_run_logger

from flows.draw.calls import activate_reserve, hand_over_calls, withdraw_calls
from flows.draw.month import commit_month, draw_once, require_due_days
from flows.draw.seed import find_seed, mail_commitment
from flows.draw.year import freeze_year
from models import sampling
from models.calendar import SHANGHAI
from models.calendar import period as read_period
from models.programme import ChainSeed
from models.tables import Draw
from tasks import board, records
from tasks.settings import Settings, read_calendar, read_programmes
from tasks.store import open_store


@flow(name="draw", flow_run_name=board.run_name("draw", "period", "programme"))
def draw_sample(
    programme: str, period: str | None = None, as_of: date | None = None, now: datetime | None = None
) -> dict[str, int]:
    """Drawn, reserve, assigned and activated of one campaign; it is drawn once, a second run only moves reserves up.

    period: the month of the run where none is given; as_of: the day of the run, or the period's first workday when the
    run lies outside it. Where the seed comes from a chain, a run ends with waiting = 1 until chain, public number and
    link are there.
    """
    log, settings = get_run_logger(), Settings()
    now = now or board.run_clock()
    today = now.astimezone(SHANGHAI).date()
    span, calendar = read_period(period or f"{today:%Y-%m}"), read_calendar(settings)
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}", span.name):
        raise sampling.DrawError(f"period {span.name}: programmes are drawn by the month; write one such as 2026-03")
    calendar.require(span.last.year)
    is_given = as_of is not None
    as_of = as_of or (today if span.first <= today <= span.last else calendar.on_or_after(span.first))
    if not date(span.first.year, 1, 1) - timedelta(days=31) <= as_of <= date(span.first.year, 12, 31):
        raise sampling.DrawError(f"--as-of {as_of}: a month of {span.first.year} is drawn within its year")
    store = open_store(settings)
    with store.exclusive(f"draw-{programme}"):
        year, rules = freeze_year(settings, store, read_programmes(settings), programme, span, now=now)
        name, activated, unmailed = f"{rules.programme}-{span.name}", 0, dict[str, int]()
        issued = commit_month(settings, store, rules, year, span, calendar, as_of=as_of, now=now)
        if issued is None:
            log.warning(
                "%s: frozen; the chain of seeds is not committed yet: huifang chain %s %s --out FILE --by NAME",
                year.id, rules.programme, span.first.year,
            )  # fmt: skip
            return {"drawn": 0, "waiting": 1}
        with store.begin() as session:
            is_drawn = session.get(Draw, issued.id) is not None
        if not is_drawn:
            require_due_days(calendar, rules, max(as_of, issued.as_of))
        seed = find_seed(store, rules, issued, span, now=now)
        if not is_drawn:
            if isinstance(rules.seed, ChainSeed):
                unmailed = mail_commitment(settings, store, rules, year, issued, as_of=as_of, now=now)
            if seed is None:
                log.warning(
                    "%s: committed as %s; waits for the public number and the link: huifang reveal %s …",
                    name, issued.state_sha256[:12], issued.id,
                )  # fmt: skip
                waits = {"waiting": 1, **unmailed}
                board.publish_counts("draw", name, [{"campaign": name, "state": issued.state_sha256, **waits}])
                return {"drawn": 0, **waits}
            draw_once(settings, store, rules, year, issued, seed, calendar, as_of=as_of, now=now)
        else:
            log.warning("campaign %s is drawn already; its sample stays as it is", issued.id)
        with store.begin() as session:
            # A call is taken back on the day it is, never on one before a later month was committed.
            as_of = max(as_of, *(c.as_of for c in records.campaigns_of_year(session, year.id)))
            if is_drawn and not is_given:
                as_of = max(as_of, today)  # nobody is called in the past
            withdrawn = withdraw_calls(session, rules, year, as_of=as_of, now=now)
            handed_over = hand_over_calls(session, year, as_of=as_of, now=now)
        if is_drawn:
            activated = activate_reserve(settings, store, rules, issued, calendar, as_of=as_of, now=now)
        with store.begin() as session:
            drawn, groups = session.get_one(Draw, issued.id), records.groups_of(session, issued.id)
            calls = len(records.calls_of(session, issued.id))
    short = groups[groups["shortfall"] > 0]
    if len(short):
        log.warning(
            "%s: %s places in %s groups could not be dealt: %s",
            issued.id,
            int(short["shortfall"].sum()),
            len(short),
            short.groupby("reason")["shortfall"].sum().to_dict(),
        )
    counts = {
        "drawn": drawn.drawn,
        "reserve": drawn.reserve,
        "assigned": calls,
        "activated": activated,
        "withdrawn": withdrawn,
        "handed_over": handed_over,
        "shortfall": int(groups["shortfall"].sum()),
        **unmailed,
    }
    log.info("%s: %s", issued.id, counts)
    board.publish_counts("draw", name, [{"campaign": name, "base": year.base, "eligible": year.eligible, **counts}])
    return counts
