"""The frame: every customer of the base is eligible or excluded with one coded reason, and the ledger says why.

Functions from Ibis tables to Ibis tables; small tables of counts are pandas. Knows no draw, no calendar, no file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import ibis
import pandas as pd
import pandera.pandas as pa
from ibis.expr.types import StringValue, Table

from models import CallbackError
from models.programme import ChainSeed, CoverageGoal, Programme, RateGoal
from models.sampling import JOINED, allocate, collapse, goal


class FrameError(CallbackError):
    """A base that cannot be frozen."""


@dataclass(frozen=True)
class Base:
    """The canonical tables a frame is made from; staff and relations may be missing where the programme needs none."""

    customers: Table
    staff: Table | None
    relations: Table | None


def require_change(before: Programme, after: Programme, period: str, frozen_as: str = "") -> None:
    """That a plan may take the place of another within a year, from a period on; the same plan always may.

    frozen_as: the programme year that was frozen with the plan before, if one was. Raises FrameError where the draw stops.
    """
    if before.plan_sha256() == after.plan_sha256():
        return
    if after.version <= before.version and frozen_as:
        raise FrameError(
            f"programme {after.programme}: its file (version {after.version}) is not the plan that {frozen_as} was frozen with "
            f"(version {before.version}); put it back as it was, or give the change a higher version and have it approved"
        )
    if after.version <= before.version:
        raise FrameError(
            f"programme {after.programme}: version {after.version} holds from {period} on again, after version {before.version}; "
            "a change within the year needs a higher version"
        )
    if after.goal.kind != before.goal.kind:
        raise FrameError(
            f"programme {after.programme}: goal.kind changes from {before.goal.kind} to {after.goal.kind} with {period}; "
            "write a programme of another name"
        )
    if isinstance(after.seed, ChainSeed) != isinstance(before.seed, ChainSeed):
        raise FrameError(
            f"programme {after.programme}: where seeds come from changes with {period}; it cannot change within the year"
        )


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


def with_staff_phone(customers: Table, staff: Table) -> Table:
    """Customers whose phone is that of a member of staff, once for each: customer_id, valid_from, valid_to.

    Staff of a snapshot that was made without phones have none.
    """
    if "phone" not in staff.columns:
        staff = staff.mutate(phone=ibis.null("string"))
    theirs = staff.select("valid_from", "valid_to", dialled=lambda rows: _dialled(rows.phone))
    ours = customers.select("customer_id", dialled=lambda rows: _dialled(rows.phone))
    return theirs.join(ours, "dialled").select("customer_id", "valid_from", "valid_to")


def _dialled(phone: StringValue) -> StringValue:
    """A phone's digits without the prefix of the country or the trunk: 0086, 086, 86 or 0 before nine digits or more."""
    digits = phone.re_replace("[^0-9]", "").nullif("")
    has_prefix = digits.re_search("^0*(86)?0*[1-9][0-9]{8,}$")
    return has_prefix.ifelse(digits.re_replace("^0*(86)?0*([1-9][0-9]{8,})$", r"\2"), digits)


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


NONE = "-"
"""The stratum key of a customer without the value that strata are made of, such as a risk level.

A value that is itself written so gets one more: `-` becomes `--`, and `--` becomes `---`.
"""


def judge(base: Base, programme: Programme, base_on: date, by_hand: Mapping[str, str] | None = None) -> Table:
    """One row per accepted customer of the base: customer_id, branch_no, segment, group_key, reason (null = eligible).

    segment: the values that the programme's strata are made of, joined by `|`; '' where it has none. by_hand: the
    reason of each customer whom an approver excluded. The first reason that applies stands, in the order: opened
    after the base, closed before it, outside the population, then the file's.
    """
    customers = base.customers
    on = ibis.literal(base_on)
    named: dict[str, list[str]] = {}
    for customer_id, why in (by_hand or {}).items():
        named.setdefault(why, []).append(customer_id)
    reason = ibis.cases(
        (customers.open_on > on, "opened_after_base"),
        ((customers.status == "closed") | (customers.close_on <= on), "closed_before_base"),
        *((~customers[c.column].isin(c.values).fill_null(False), "outside_population") for c in programme.population),
        *(
            (
                customers.customer_id.isin(named.get(e.reason, [""]))
                if e.column is None
                else customers[e.column].isin(e.values).fill_null(False),
                e.reason,
            )
            for e in programme.exclusions
        ),
        else_=ibis.null("string"),
    )
    keys = [_key(customers[trait]) for trait in programme.strata]
    segment = ibis.literal("|").join(keys) if keys else ibis.literal("")
    return customers.select("customer_id", "branch_no", segment=segment, group_key=customers.branch_no, reason=reason)


def _key(value: StringValue) -> StringValue:
    is_like_none = (value != "") & (value.replace(NONE, "") == "")
    return is_like_none.ifelse(value.concat(NONE), value).fill_null(NONE)


def excluded(judged: Table) -> Table:
    """The ledger of exclusions by customer: customer_id, branch_no, reason."""
    return judged.filter(judged.reason.notnull()).select("customer_id", "branch_no", "reason")


def count_judged(judged: Table) -> Table:
    """Customers of the base by all that is counted of them: branch_no, group_key, segment, reason, customers."""
    keys = ["branch_no", "group_key", "segment", "reason"]
    return judged.group_by(keys).aggregate(customers=judged.count().cast("int64"))


def ledger(counted: pd.DataFrame) -> pd.DataFrame:
    """Counts of the ledger: branch_no, reason (null = eligible), customers. counted: as count_judged gives it."""
    return counted.groupby(["branch_no", "reason"], dropna=False)["customers"].sum().reset_index()


def sizes(counted: pd.DataFrame) -> pd.DataFrame:
    """Eligible customers by group and segment: group_key, branch_no, segment, customers; see count_judged."""
    return counted.loc[counted["reason"].isna(), list(SIZES.columns)].reset_index(drop=True)


CONTRADICTIONS = {
    "closed_without_date": "状态为销户而无销户日期",
    "active_with_close_date": "状态未销户而销户日期已过",
    "dormant_but_trading": "状态为休眠而本期有买卖",
    "closed_later": "年末在册，其后销户（仍计入基数）",
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
        "closed_later": customers.filter(customers.status != "closed", customers.close_on > on),
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
    """Goals, joined strata and the year's allocation of every group (rules 2–4). counted: see SIZES.

    A coverage programme has neither goals nor strata before a month is committed: its groups are the developers of
    that day. Raises FrameError when nobody is eligible or a weight names no stratum.
    """
    counted = SIZES.validate(counted)
    quota, strata, segments = [], [], []
    if counted.empty:
        raise FrameError(f"{programme.programme}: nobody is eligible; look at the ledger of exclusions")
    for (group, branch), rows in counted.groupby(["group_key", "branch_no"], sort=True):
        by_segment = {str(k): int(n) for k, n in zip(rows["segment"], rows["customers"], strict=True)}
        eligible = sum(by_segment.values())
        match programme.goal:
            case RateGoal(rate=rate):
                owed = goal(rate, eligible)
                merged = collapse(by_segment, rate, programme.minimum) if programme.strata else {JOINED: eligible}
                minimum = min(programme.minimum, owed)
                places = allocate(merged, owed, minimum)
                quota.append((group, branch, eligible, owed))
                strata += [(group, key, size, min(minimum, size), places[key]) for key, size in merged.items()]
            case CoverageGoal():
                merged = {JOINED: eligible}
        segments += [(group, key, key if key in merged else JOINED) for key in by_segment]
    unknown = sorted(set(programme.weights) - {key for _, key, *_ in strata})
    if unknown and strata:
        raise FrameError(
            f"{programme.programme}: weights name {', '.join(unknown)}, which is no stratum of any branch; "
            f"there are {', '.join(sorted({str(key) for _, key, *_ in strata}))}"
        )
    return Plan(
        QUOTA.validate(pd.DataFrame(quota, columns=list(QUOTA.columns)).astype({"group_key": str, "branch_no": str})),
        STRATA.validate(pd.DataFrame(strata, columns=list(STRATA.columns)).astype({"group_key": str, "stratum": str})),
        pd.DataFrame(segments, columns=["group_key", "segment", "stratum"]),
    )


def freeze(judged: Table, segments: Table) -> Table:
    """The frame: customer_id, branch_no, group_key, segment, stratum of every eligible customer."""
    eligible = judged.filter(judged.reason.isnull())
    return eligible.inner_join(segments, ["group_key", "segment"]).select(
        "customer_id", "branch_no", "group_key", "segment", "stratum"
    )


def drawing_frame(frozen: Table, developers: Table | None) -> Table:
    """Whom a campaign draws from: the frozen frame, in a coverage programme with the month's developers as its groups
    and strata; customer_id, branch_no, group_key, stratum.
    """
    if developers is None:
        return frozen.select("customer_id", "branch_no", "group_key", "stratum")
    joined = frozen.select("customer_id", "branch_no").inner_join(developers, "customer_id")
    return joined.select("customer_id", "branch_no", group_key=joined.developer_id, stratum=joined.developer_id)


def customer_ids(ids: Sequence[str]) -> Table:
    """A few customers as a table of the engine: customer_id."""
    return ibis.memtable(
        pd.DataFrame({"customer_id": pd.Series(list(ids), dtype="str")}), schema={"customer_id": "string"}
    )


def balance(counted: pd.DataFrame, by_branch: Mapping[str, int], waived: int, base: int) -> None:
    """Raise FrameError unless eligible + excluded + waived is the base, in total and per branch (DESIGN §3.6).

    counted: see LEDGER; by_branch: accepted customers of the extract by branch, counted apart. Waived rows stand in
    the total alone, because their branch may be what could not be read.
    """
    total = int(counted["customers"].sum()) + waived
    if total != base:
        raise FrameError(f"the ledger does not balance: base {base}, eligible + excluded + waived {total}")
    found = {str(branch): int(n) for branch, n in counted.groupby("branch_no")["customers"].sum().items()}
    if found != dict(by_branch):
        wrong = sorted(b for b in {*found, *by_branch} if found.get(b, 0) != by_branch.get(b, 0))
        raise FrameError(
            f"the ledger does not balance in branch {wrong[0]}: extract {by_branch.get(wrong[0], 0)}, "
            f"eligible + excluded {found.get(wrong[0], 0)}"
        )
