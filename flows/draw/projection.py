"""Projection: where each branch and the company end the programme year, from the completions so far."""

from dataclasses import asdict
from datetime import date
from typing import Any

from flows.draw.month import count_state
from models import campaign, sampling
from models.calendar import Calendar
from models.calendar import period as read_period
from models.programme import Programme
from models.tables import ProgrammeYear
from tasks import records
from tasks.settings import Settings, SettingsError
from tasks.store import Store


def project(
    settings: Settings, store: Store, calendar: Calendar, programme: str | None, year_number: int, *, as_of: date
) -> list[dict[str, Any]]:
    """Each programme year with its company and groups as models.sampling.Projection has them; nothing is stored."""
    with store.begin() as session:
        names = [programme] if programme else records.programmes_of_year(session, year_number)
        years = {name: records.programme_years(session, name, year_number) for name in names}
    missing = [name for name, versions in years.items() if not versions]
    if missing or not years:
        raise SettingsError(
            f"{', '.join(missing) or 'no programme'}: no year {year_number} is frozen yet; the year's first "
            "`huifang run draw --programme NAME --period YYYY-MM` freezes it"
        )
    return [_project_year(settings, store, calendar, versions[-1], as_of) for versions in years.values()]


def _project_year(
    settings: Settings, store: Store, calendar: Calendar, year: ProgrammeYear, as_of: date
) -> dict[str, Any]:
    rules = Programme.model_validate_json(year.plan)
    with store.begin() as session:
        issued = records.campaigns_of_year(session, year.id)
    state = count_state(settings, store, rules, year, as_of=as_of)
    first = int(issued[-1].period[5:7]) + 1 if issued else (as_of.month if as_of.year == year.year else 1)
    cut_off = rules.cut_off(year.year)
    spans = [read_period(f"{year.year}-{month:02}") for month in range(first, cut_off.month + 1)]
    paces = [campaign.pace_of(rules, span, calendar, span.first) for span in spans]
    counted = campaign.count_groups(state.owed, state.slices, state.taken)
    groups = []
    for row in counted.itertuples():
        months = [(pace.weight, rules.capacity_of(str(row.branch_no), pace.workdays)) for pace in paces]
        found = sampling.project_year(
            goal=int(row.goal), completed=int(row.completed), open=int(row.open), failed=int(row.failed),
            left=int(row.left), months=months,
        )  # fmt: skip
        counts = {
            "eligible": int(row.eligible),
            "open": int(row.open),
            "failed": int(row.failed),
            "left": int(row.left),
        }
        groups.append({"group": str(row.group_key), "branch_no": str(row.branch_no), **counts, **asdict(found)})
    whole = {
        name: sum(group[name] for group in groups)
        for name in ("eligible", "goal", "completed", "open", "failed", "left", "expected", "low", "high")
    }
    company = whole | {
        "shortfall": sum(group["shortfall"] for group in groups),
        "verdict": sampling.judge_end(whole["goal"], whole["completed"], whole["low"], whole["high"]),
    }
    return {
        "programme_year": year.id,
        "as_of": as_of.isoformat(),
        "months_left": [span.name for span in spans],
        "company": company,
        "groups": groups,
        "assumption": "expected: calls answered as often as so far, each coming month dealt by rule 6; low and high: "
        "the ends at the 95 % limits of the completion rate",
    }
