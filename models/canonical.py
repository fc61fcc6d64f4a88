"""The canonical tables after intake: columns, codes and forms, declared once.

Knows what a valid row is; how a source writes it stands in models/profile.py, what becomes of a row in models/extracts.py.
"""

from __future__ import annotations

import re
from typing import Any

import pandas as pd
import pandera.pandas as pa
from pandera import extensions
from pandera.engines import pandas_engine

# The one declaration: pandera validates pandas frames with it, and the masks on the engine are read from it.
# Patterns stay within what Python, RE2 and Java read alike: [0-9] instead of \d, anchored at both ends.

ID = r"^[0-9A-Za-z][0-9A-Za-z_.-]*$"
LINE = r"^[^\x00-\x1f\x7f]+$"
LABEL = r'^[^\x00-\x1f\x7f,"*|]+$'  # stands in keys and hash texts, so nothing that needs quoting


# 18-character numbers that begin with 17 digits: a person's (GB 11643) or a firm's (GB 32100). Others carry no check
# character, or one that we do not know. An area code is never judged: districts are renamed and merged.
CHECKED_ID = r"^[0-9]{17}[0-9A-Za-z]$"
RESIDENT_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
RESIDENT_CHECKS = "10X98765432"
FIRM_WEIGHTS = (1, 3, 9, 27, 19, 26, 16, 17, 20, 29, 25, 13, 8, 24, 10, 30, 28)
FIRM_CHECKS = "0123456789ABCDEFGHJKLMNPQRTUWXY"

PHONE = r"^[0-9+(][0-9 ()+/-]*$"
PHONE_DIGITS = r"^[+(]?[0-9](?:[ ()+/-]*[0-9]){6,14}[)]?$"  # seven of a town, fifteen of the world (E.164)
MOBILE = r"^(?:[^1].*|1[3-9][0-9]{9}|1[0-9]{0,7}|1[0-9]*[^0-9].*)$"  # nine digits and more from 1 on are a mobile, 13… to 19…


def has_checksum(id_no: str) -> bool:
    """Whether the last character of a CHECKED_ID is what its digits ask for; any other number passes.

    >>> has_checksum("11010519491231002X"), has_checksum("110105194912310021"), has_checksum("H10359701")
    (True, False, True)
    """
    if not re.fullmatch(CHECKED_ID, id_no):
        return True
    digits, last = [int(digit) for digit in id_no[:17]], id_no[17].upper()
    resident = sum(d * w for d, w in zip(digits, RESIDENT_WEIGHTS, strict=True)) % 11
    firm = -sum(d * w for d, w in zip(digits, FIRM_WEIGHTS, strict=True)) % 31
    return last in (RESIDENT_CHECKS[resident], FIRM_CHECKS[firm])


def _register_checks() -> None:
    # pandera keeps its own list of checks; a module that is read twice must not register twice.
    if "has_checksum" in pa.Check.REGISTERED_CUSTOM_CHECKS:
        return

    @extensions.register_check_method()  # type: ignore[untyped-decorator]
    def has_checksum(ids: pd.Series) -> pd.Series:
        return ids.map(globals()["has_checksum"])

    @extensions.register_check_method(statistics=["later", "earlier"])  # type: ignore[untyped-decorator]
    def not_before(rows: pd.DataFrame, later: str, earlier: str) -> pd.Series:
        return ~(rows[later] < rows[earlier])


_register_checks()


def _in_order(earlier: str, later: str, reason: str) -> pa.Check:
    check: pa.Check = pa.Check.not_before(later=later, earlier=earlier, error=reason)
    return check


def _id(references: str = "", *, excepted: str = "") -> pa.Column:
    metadata = {"references": references, "excepted": excepted} if references else None
    return pa.Column(str, [pa.Check.str_matches(ID), pa.Check.str_length(1, 40)], metadata=metadata)


def _name(*, nullable: bool = False) -> pa.Column:
    # A name keeps its full-width letters and apostrophes.
    checks = [pa.Check.str_matches(LINE), pa.Check.str_length(1, 120)]
    return pa.Column(str, checks, nullable=nullable, metadata={"is_free_text": True})


def _text(pattern: str, longest: int, *, nullable: bool = False) -> pa.Column:
    return pa.Column(str, [pa.Check.str_matches(pattern), pa.Check.str_length(1, longest)], nullable=nullable)


def _phone(*, required: bool = True) -> pa.Column:
    checks = [
        pa.Check.str_matches(PHONE), pa.Check.str_length(1, 40),
        pa.Check.str_matches(PHONE_DIGITS, error="bad_phone"), pa.Check.str_matches(MOBILE, error="bad_phone"),
    ]  # fmt: skip
    return pa.Column(str, checks, nullable=True, required=required)


def _code(*codes: str) -> pa.Column:
    return pa.Column(str, pa.Check.isin(list(codes)))


def _date(*, nullable: bool = False) -> pa.Column:
    # In seconds, as Ibis hands dates to pandas; in nanoseconds the year 9999 does not exist.
    seconds = pandas_engine.DateTime(unit="s")  # type: ignore[call-arg]
    return pa.Column(seconds, pa.Check.ge(pd.Timestamp("1900-01-01")), nullable=nullable)


CUSTOMERS = pa.DataFrameSchema(
    {
        "customer_id": _id(),
        "customer_name": _name(),
        "phone": _phone(),
        "id_no": pa.Column(
            str,
            [
                pa.Check.str_matches(r"^[0-9A-Za-z()/-]+$"), pa.Check.str_length(1, 40),
                pa.Check.has_checksum(error="bad_checksum"),
            ],
            nullable=True,
        ),
        "branch_no": _id("branches"),
        "segment": _text(LABEL, 40),
        "risk_level": _text(LABEL, 20, nullable=True),
        "status": _code("active", "dormant", "suspended", "closed"),
        "open_on": _date(),
        "close_on": _date(nullable=True),
    },
    checks=_in_order("open_on", "close_on", "close_before_open"),
    strict=True, unique=["customer_id"],
)  # fmt: skip
TRANSACTIONS = pa.DataFrameSchema(
    {
        "transaction_id": _id(),
        "customer_id": _id("customers"),
        "traded_on": _date(),
        "kind": _code("buy", "sell", "deposit", "withdraw", "fee", "interest", "other"),
        "amount_cny": pa.Column(pandas_engine.Decimal(18, 2)),
    },
    strict=True, unique=["transaction_id"],
)  # fmt: skip
BRANCHES = pa.DataFrameSchema(
    {"branch_no": _id(), "branch_name": _name(), "region": _name(nullable=True)},
    strict=True, unique=["branch_no"],
)  # fmt: skip
ROSTER = pa.DataFrameSchema(
    {
        "branch_no": _id("branches", excepted="HQ"),  # headquarters is on no list of branches
        "role": _code(
            "operations_director", "customer_service_manager", "deputy", "branch_head", "compliance",
            "operations_management", "hq_service",
        ),
        "contact_name": _name(),
        "email": _text(r"^[0-9A-Za-z][0-9A-Za-z._%+-]*@[0-9A-Za-z-]+([.][0-9A-Za-z-]+)+$", 120),
        "valid_from": _date(),
        "valid_to": _date(nullable=True),
    },
    checks=_in_order("valid_from", "valid_to", "to_before_from"),
    strict=True, unique=["branch_no", "role", "email", "valid_from"],
)  # fmt: skip
STAFF = pa.DataFrameSchema(
    {
        "staff_id": _id(),
        "staff_name": _name(),
        "branch_no": _id("branches", excepted="HQ"),
        "kind": _code("broker", "marketer", "adviser", "caller", "other"),
        "valid_from": _date(nullable=True),
        "valid_to": _date(nullable=True),
        "phone": _phone(required=False),
    },
    checks=_in_order("valid_from", "valid_to", "to_before_from"),
    strict=True, unique=["staff_id"],
)  # fmt: skip
RELATIONS = pa.DataFrameSchema(
    {
        "customer_id": _id("customers"),
        "staff_id": _id("staff"),
        "kind": _code("developer", "server"),
        "valid_from": _date(),
        "valid_to": _date(nullable=True),
    },
    checks=_in_order("valid_from", "valid_to", "to_before_from"),
    strict=True, unique=["customer_id", "staff_id", "kind", "valid_from"],
)  # fmt: skip

TABLES: dict[str, pa.DataFrameSchema] = {
    "branches": BRANCHES,
    "roster": ROSTER,
    "staff": STAFF,
    "customers": CUSTOMERS,
    "relations": RELATIONS,
    "transactions": TRANSACTIONS,
}
"""In the order of intake: a table comes after those whose ids it names."""

REASONS = {
    "bad_byte": "该行含无法解码的字节",
    "missing": "必填项为空",
    "bad_form": "不符合规定格式",
    "bad_length": "长度超出规定",
    "bad_date": "不是约定的日期格式",
    "impossible_date": "日历上不存在的日期",
    "bad_number": "不是两位小数以内的数值",
    "out_of_range": "超出合理范围",
    "bad_checksum": "证件号码校验位不符",
    "bad_phone": "不像电话号码（位数或号段不对）",
    "close_before_open": "销户日期早于开户日期",
    "to_before_from": "止期早于起期",
    "duplicate_id": "主键与前面的行重复",
    "unknown_branch": "营业部不在营业部表中",
    "unknown_staff": "人员不在人员表中",
    "orphan": "客户不在客户文件中",
    "branch_not_accepted": "营业部在文件中但未被接收",
    "staff_not_accepted": "人员在文件中但未被接收",
    "customer_not_accepted": "客户在文件中但未被接收",
    "ambiguous_lookup": "对应到多个客户",
}
"""What each reason code says to the people who read the list of rejected rows."""

REPORTABLE = ("bad_checksum", "close_before_open", "bad_phone")
"""Reasons that a profile may have reported instead of rejected for: the row can be used all the same."""

ORPHANS = {
    "branches": ("unknown_branch", "branch_not_accepted"),
    "staff": ("unknown_staff", "staff_not_accepted"),
    "customers": ("orphan", "customer_not_accepted"),
}


def references(table_name: str) -> dict[str, str]:
    """Which column of a canonical table must be an accepted id of which other table."""
    columns = TABLES[table_name].columns
    return {name: column.metadata["references"] for name, column in columns.items() if meta_of(column, "references")}


def is_referred_to(table_name: str) -> bool:
    """Whether another table names rows of this one."""
    return any(table_name in references(other).values() for other in TABLES)


def id_column(table_name: str) -> str | None:
    """The column that other tables name a row by; None where only several columns together are unique."""
    unique: list[str] = TABLES[table_name].unique
    return unique[0] if len(unique) == 1 else None


def is_optional(table_name: str, name: str) -> bool:
    """Whether a profile may leave a column out, and a file that is read by a profile with it may lack it."""
    return not TABLES[table_name].columns[name].required


def meta_of(column: pa.Column, name: str) -> Any:
    """A note a column's declaration carries, or None."""
    return (column.metadata or {}).get(name)


def allowed_codes(column: pa.Column) -> list[str] | None:
    """The codes a column may hold, or None where it is no code."""
    return next((list(c.statistics["allowed_values"]) for c in column.checks if c.name == "isin"), None)
