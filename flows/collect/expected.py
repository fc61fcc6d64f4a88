"""The calls and cases that returns may answer."""

from datetime import date

import pandas as pd

from models import findings, returns, sheets
from models.calendar import Calendar
from models.programme import Programme
from models.tables import ProgrammeYear
from tasks import lake, records
from tasks.settings import Settings
from tasks.store import Store


def expected_rows(
    settings: Settings, store: Store, calendar: Calendar, staff: dict[str, str], *, as_of: date
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The calls and cases returns may answer, with the names and phones as their sheets show them.

    Staff are names by staff number. A call also says who may not have made it, and both which evidence is asked for.
    """
    with store.begin() as session:
        calls, cases = records.calls_expected(session), records.cases_expected(session)
        years = {
            i: session.get_one(ProgrammeYear, i) for i in {*calls["programme_year_id"], *cases["programme_year_id"]}
        }
        paths = {i: records.snapshot_by_id(session, year.snapshots["customers"]).path for i, year in years.items()}
        relations = records.optional_snapshot(session, "relations", as_of)
    rules = {i: Programme.model_validate_json(year.plan) for i, year in years.items()}
    shown = {}
    for i, path in paths.items():
        ids = pd.concat([frame.loc[frame["programme_year_id"] == i, "customer_id"] for frame in (calls, cases)])
        shown[i] = lake.customers_of(settings, path, ids)
    for rows in (calls, cases):
        pairs = list(zip(rows["programme_year_id"], rows["customer_id"], strict=True))
        rows["customer_name"] = pd.Series(
            [sheets.mask_name(shown[y].at[c, "customer_name"]) for y, c in pairs], dtype="str", index=rows.index
        )
        rows["phone"] = pd.Series([shown[y].at[c, "phone"] or "" for y, c in pairs], dtype="str", index=rows.index)
    calls["attempts_required"] = pd.Series(
        [rules[y].attempts.count for y in calls["programme_year_id"]], dtype="int64", index=calls.index
    )
    calls["related"] = related_to(
        settings, calls, {i for i, rule in rules.items() if rule.recusal}, relations.path if relations else None, staff
    )
    due = [
        findings.case_due(sent, opened, calendar, rules[y].self_check.workdays, rules[y].closing_hour)
        for y, sent, opened in zip(cases["programme_year_id"], cases["delivered_at"], cases["opened_on"], strict=True)
    ]
    cases["due_on"] = pd.Series(due, dtype="object", index=cases.index)
    calls["evidence"] = pd.Series(
        [rules[y].evidence.calls for y in calls["programme_year_id"]], dtype="object", index=calls.index
    )
    cases["evidence"] = pd.Series(
        [rules[y].evidence.self_check for y in cases["programme_year_id"]], dtype="object", index=cases.index
    )
    return calls, cases


def related_to(
    settings: Settings, calls: pd.DataFrame, recusing: set[str], path: str | None, staff: dict[str, str]
) -> pd.Series:
    """Of each call, who may not have made it and on which days; nobody where the programme year has no recusal.

    That is who developed the customer at the draw, on any day, and all who developed or served him by the relations.
    """
    is_recusing = calls["programme_year_id"].isin(recusing)
    held: dict[str, list[returns.Related]] = {}
    if path is not None and is_recusing.any():
        for row in lake.relations_of(settings, path, calls.loc[is_recusing, "customer_id"]).itertuples():
            since, until = (
                None if pd.isna(day) else pd.Timestamp(day).date() for day in (row.valid_from, row.valid_to)
            )
            person = returns.Related(str(row.staff_id), staff.get(str(row.staff_id), str(row.staff_id)), since, until)
            held.setdefault(str(row.customer_id), []).append(person)
    found = [
        (*([returns.Related(d, staff.get(d, d))] if d else []), *held.get(customer, ())) if recuses else ()
        for customer, d, recuses in zip(calls["customer_id"], calls["developer_id"], is_recusing, strict=True)
    ]
    return pd.Series(found, index=calls.index, dtype="object")
