"""The roster: who receives what for a branch on a day, and where somebody is missing.

Small pandas frames in, addresses out. Knows no mail and no extract.
"""

from __future__ import annotations

from datetime import date
from typing import NamedTuple

import pandas as pd
import pandera.pandas as pa

HQ = "HQ"
STAND_INS = {"customer_service_manager": ("deputy",)}
"""Who is written to where the role itself is not filled (DOMAIN §2.5)."""


VALID = pa.DataFrameSchema(
    {"branch_no": pa.Column(str), "role": pa.Column(str), "contact_name": pa.Column(str), "email": pa.Column(str)},
    strict=True,
)


class Recipient(NamedTuple):
    """One person on the roster, by branch and the role he is written to in."""

    branch_no: str
    role: str
    email: str


def valid_on(roster: pd.DataFrame, day: date) -> pd.DataFrame:
    """The rows of the roster that hold on a day; see VALID."""
    begun = pd.Series([value <= day for value in roster["valid_from"]], index=roster.index, dtype=bool)
    over = pd.Series(
        [not pd.isna(value) and value < day for value in roster["valid_to"]], index=roster.index, dtype=bool
    )
    return VALID.validate(roster.loc[begun & ~over, list(VALID.columns)].reset_index(drop=True))


def role_at(branch_no: str, role: str) -> str:
    """Who is written to in a role's place: at headquarters, which has none of a branch's roles, its centre."""
    return "hq_service" if branch_no == HQ else role


def recipient(valid: pd.DataFrame, branch_no: str, role: str) -> Recipient | None:
    """Who is written to, or None: nobody holds the role or its stand-in, or two people do and nobody said which."""
    mine = valid[valid["branch_no"] == branch_no]
    for candidate in (role, *STAND_INS.get(role, ())):
        addresses = sorted(set(mine.loc[mine["role"] == candidate, "email"]))
        if len(addresses) == 1:
            return Recipient(branch_no, role, addresses[0])
        if addresses:
            return None
    return None
