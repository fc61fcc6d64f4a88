"""The frame: every customer of the base is eligible or excluded with one coded reason, and the ledger says why.

Functions from Ibis tables to Ibis tables; small tables of counts are pandas. Knows no draw, no calendar, no file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import ibis
import pandas as pd
import pandera.pandas as pa
from ibis.expr.types import Table

from models import CallbackError
from models.programme import CoverageGoal, Programme, RateGoal
from models.sampling import JOINED, allocate, collapse, goal


class FrameError(CallbackError):
    """A base that cannot be frozen."""


@dataclass(frozen=True)
class Base:
    """The canonical tables a frame is made from; staff and relations may be missing where the programme needs none."""

    customers: Table
    staff: Table | None
    relations: Table | None


LEDGER = pa.DataFrameSchema(
    {
        "branch_no": pa.Column(str),
        "reason": pa.Column(str, nullable=True),  # null = eligible
        "customers": pa.Column(int, pa.Check.ge(1), coerce=True),
    },
    strict=True,
    unique=["branch_no", "reason"],
)

SIZES = pa.DataFrameSchema(
    {
        "group_key": pa.Column(str),
        "branch_no": pa.Column(str),
        "segment": pa.Column(str),
        "customers": pa.Column(int, pa.Check.ge(1), coerce=True),
    },
    strict=True,
    unique=["group_key", "segment"],
)

STRATA = pa.DataFrameSchema(
    {
        "group_key": pa.Column(str),
        "stratum": pa.Column(str),
        "customers": pa.Column(int, pa.Check.ge(1), coerce=True),
        "minimum": pa.Column(int, pa.Check.ge(0), coerce=True),
        "places": pa.Column(int, pa.Check.ge(0), coerce=True),
    },
    strict=True,
    unique=["group_key", "stratum"],
)

QUOTA = pa.DataFrameSchema(
    {
        "group_key": pa.Column(str),
        "branch_no": pa.Column(str),
        "eligible": pa.Column(int, pa.Check.ge(1), coerce=True),
        "goal": pa.Column(int, pa.Check.ge(0), coerce=True),
    },
    strict=True,
    unique=["group_key"],
)


def developers(base: Base, staff_kinds: tuple[str, ...], day: date) -> Table:
    """The developer of each customer on a day: customer_id, developer_id; one row per customer that has one.

    Of several the one whose relation began last counts, ties to the smaller staff number; someone who has left on
    that day develops nobody.
    """
    if base.staff is None or base.relations is None:
        return ibis.memtable([], schema={"customer_id": "string", "developer_id": "string"})
    on = ibis.literal(day)
    staff, relations = base.staff, base.relations
    active = staff.filter(
        staff.kind.isin(staff_kinds),
        staff.valid_from.isnull() | (staff.valid_from <= on),
        staff.valid_to.isnull() | (staff.valid_to >= on),
    ).select("staff_id")
    held = relations.filter(
        relations.kind == "developer",
        relations.valid_from <= on,
        relations.valid_to.isnull() | (relations.valid_to >= on),
    ).semi_join(active, "staff_id")
    latest = ibis.window(group_by="customer_id", order_by=[ibis.desc("valid_from"), "staff_id"])
    ranked = held.mutate(place=ibis.row_number().over(latest))
    return ranked.filter(ranked.place == 0).select("customer_id", developer_id=ranked.staff_id)


TRADES = ("buy", "sell")


def activity(transactions: Table) -> Table:
    """One row per customer with a transaction: customer_id, transactions, trades, turnover_cny, last_traded_on.

    Trades are purchases and sales, turnover the sum of their amounts without sign; last_traded_on is the last of them,
    null where there is none.
    """
    is_trade = transactions.kind.isin(TRADES)
    return transactions.group_by("customer_id").aggregate(
        transactions=transactions.count(),
        trades=is_trade.sum().cast("int64"),
        turnover_cny=is_trade.ifelse(transactions.amount_cny.abs(), 0).sum().cast("decimal(24, 2)"),
        last_traded_on=transactions.traded_on.max(where=is_trade),
    )


def judge(base: Base, programme: Programme, base_on: date) -> Table:
    """One row per accepted customer of the base: customer_id, branch_no, segment, group_key, reason (null = eligible)."""
    customers = base.customers
    on = ibis.literal(base_on)
    reason = ibis.cases(
        (customers.open_on > on, "opened_after_base"),
        ((customers.status == "closed") | (customers.close_on <= on), "closed_before_base"),
        *((customers[e.column].isin(e.values), e.reason) for e in programme.exclusions),
        else_=ibis.null("string"),
    )
    if isinstance(programme.goal, CoverageGoal):
        held = developers(base, programme.goal.staff_kinds, base_on)
        joined = customers.mutate(reason=reason).left_join(held, "customer_id")
        return joined.select(
            "customer_id",
            "branch_no",
            "segment",
            group_key=ibis.coalesce(joined.developer_id, ""),
            reason=ibis.coalesce(
                joined.reason, joined.developer_id.isnull().ifelse("no_developer", ibis.null("string"))
            ),
        )
    return customers.select("customer_id", "branch_no", "segment", group_key=customers.branch_no, reason=reason)


def ledger(judged: Table) -> Table:
    """Counts of the ledger: branch_no, reason (null = eligible), customers."""
    return judged.group_by(["branch_no", "reason"]).aggregate(customers=judged.count().cast("int64"))


def sizes(judged: Table) -> Table:
    """Eligible customers by group and segment: group_key, branch_no, segment, customers.

    A developer whose customers lie in several branches is one group; it stands at the branch with the smallest number.
    """
    eligible = judged.filter(judged.reason.isnull())
    counted = eligible.group_by(["group_key", "segment"]).aggregate(customers=eligible.count().cast("int64"))
    homes = eligible.group_by("group_key").aggregate(branch_no=eligible.branch_no.min())
    return counted.inner_join(homes, "group_key").select("group_key", "branch_no", "segment", "customers")


CONTRADICTIONS = {
    "closed_without_date": "状态为销户而无销户日期",
    "active_with_close_date": "状态未销户而销户日期已过",
    "dormant_but_trading": "状态为休眠而本期有买卖",
}
"""What a base may say against itself; reported, never repaired."""


def contradictions(customers: Table, activity: Table | None, base_on: date) -> dict[str, Table]:
    """What a base says against itself, by kind of CONTRADICTIONS: tables of customer_id.

    `activity` as `activity` gives it; None where no transactions came.
    """
    on = ibis.literal(base_on)
    found = {
        "closed_without_date": customers.filter(customers.status == "closed", customers.close_on.isnull()),
        "active_with_close_date": customers.filter(customers.status != "closed", customers.close_on <= on),
    }
    if activity is not None:
        traded = activity.filter(activity.trades > 0)
        found["dormant_but_trading"] = customers.filter(customers.status == "dormant").semi_join(traded, "customer_id")
    return {kind: table.select("customer_id") for kind, table in found.items()}


@dataclass(frozen=True)
class Plan:
    """Goals and strata of a programme year; segments maps each group's segments to their strata."""

    quota: pd.DataFrame
    strata: pd.DataFrame
    segments: pd.DataFrame
    """group_key, segment, stratum"""


def plan_year(counted: pd.DataFrame, programme: Programme) -> Plan:
    """Goals, joined strata and the year's allocation of every group (rules 2–4). counted: see SIZES."""
    counted = SIZES.validate(counted)
    quota, strata, segments = [], [], []
    for (group, branch), rows in counted.groupby(["group_key", "branch_no"], sort=True):
        by_segment = {str(k): int(n) for k, n in zip(rows["segment"], rows["customers"], strict=True)}
        eligible = sum(by_segment.values())
        match programme.goal:
            case RateGoal(rate=rate):
                owed = goal(rate, eligible)
                merged = collapse(by_segment, rate, programme.minimum) if programme.strata else {JOINED: eligible}
            case CoverageGoal(calls_per_year=calls):
                owed, merged = min(calls, eligible), {JOINED: eligible}
        minimum = min(programme.minimum, owed)
        places = allocate(merged, owed, minimum)
        quota.append((group, branch, eligible, owed))
        strata += [(group, key, size, min(minimum, size), places[key]) for key, size in merged.items()]
        segments += [(group, key, key if key in merged else JOINED) for key in by_segment]
    if not quota:
        raise FrameError(f"{programme.programme}: nobody is eligible; look at the ledger of exclusions")
    return Plan(
        QUOTA.validate(pd.DataFrame(quota, columns=list(QUOTA.columns))),
        STRATA.validate(pd.DataFrame(strata, columns=list(STRATA.columns))),
        pd.DataFrame(segments, columns=["group_key", "segment", "stratum"]),
    )


def freeze(judged: Table, segments: Table) -> Table:
    """The frame: customer_id, branch_no, group_key, stratum of every eligible customer."""
    eligible = judged.filter(judged.reason.isnull())
    return eligible.inner_join(segments, ["group_key", "segment"]).select(
        "customer_id", "branch_no", "group_key", "stratum"
    )


def state_text(groups: pd.DataFrame, strata: pd.DataFrame, taken: list[str]) -> str:
    """The state, counts and taken list of a month as canonical text: what is committed before the seed exists."""
    return json.dumps(
        {
            "groups": groups.sort_values("group_key").to_dict("records"),
            "strata": strata.sort_values(["group_key", "stratum"]).to_dict("records"),
            "taken": sorted(taken),
        },
        ensure_ascii=False,
        sort_keys=True,
        separators=(",", ":"),
    )


def sample_text(drawn: pd.DataFrame) -> str:
    """Sample and reserve as canonical text: header, then a line a customer, sorted bytewise by customer."""
    columns = ["customer_id", "branch_no", "group_key", "stratum", "ticket", "rank", "kind"]
    rows = drawn[columns].astype(str).sort_values("customer_id", key=lambda ids: ids.map(lambda i: i.encode()))
    return "\n".join([",".join(columns), *rows.agg(",".join, axis=1)]) + "\n" if len(rows) else ",".join(columns) + "\n"


def balance(counted: pd.DataFrame, waived: Mapping[str, int], base: int) -> None:
    """Raise FrameError unless eligible + excluded + waived is the base (DESIGN §3.6)."""
    total = int(counted["customers"].sum()) + sum(waived.values())
    if total != base:
        raise FrameError(f"the ledger does not balance: base {base}, eligible + excluded + waived {total}")
