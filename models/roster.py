"""The roster: who receives what for a branch on a day, whom nobody may write to, and where somebody is missing.

Small pandas frames in, addresses out. Knows no mail and no extract; what to tell of a faulty roster stands in
models/roster_findings.py.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from datetime import date
from typing import NamedTuple

import pandas as pd
import pandera.pandas as pa

from models.address import Fault, domain_of, find_fault, is_within

HQ = "HQ"
STAND_INS = {"customer_service_manager": ("deputy",)}
"""Who is written to where the role itself is not filled (DOMAIN §2.5)."""


VALID = pa.DataFrameSchema(
    {"branch_no": pa.Column(str), "role": pa.Column(str), "contact_name": pa.Column(str), "email": pa.Column(str)},
    strict=True,
)

Leavers = Mapping[tuple[str, str], date]
"""The last day of those who have left, by branch and name; see `leavers`."""


class Recipient(NamedTuple):
    """One person on the roster, by branch and the role he is written to in."""

    branch_no: str
    role: str
    email: str


def valid_on(roster: pd.DataFrame, day: date) -> pd.DataFrame:
    """The rows of the roster that hold on a day; see VALID."""
    return VALID.validate(_held_on(roster, day)[list(VALID.columns)])


def usable_on(
    roster: pd.DataFrame, day: date, *, staff: pd.DataFrame | None = None, domains: Collection[str] = ()
) -> pd.DataFrame:
    """Those of them that may be written to; see VALID.

    Left out are addresses that no server takes, that stand for two branches, that lie outside the company's domains
    (none given: any domain will do), and people who have left by the staff extract.
    """
    held = _held_on(roster, day)
    gone = leavers(staff, day)
    shared = shared_addresses(zip(held["branch_no"], held["email"], strict=True))
    good = [
        not faults_of(b, name, email, since, leavers=gone, shared=shared, domains=domains)
        for b, name, email, since in zip(
            held["branch_no"], held["contact_name"], held["email"], held["valid_from"], strict=True
        )
    ]
    rows = held.loc[pd.Series(good, index=held.index, dtype=bool), list(VALID.columns)]
    return VALID.validate(rows.reset_index(drop=True))


def faults_of(
    branch_no: str,
    contact_name: str,
    email: str,
    since: date,
    *,
    leavers: Leavers,
    shared: Mapping[str, Collection[str]],
    domains: Collection[str],
) -> list[Fault]:
    """Why a row that holds may not be written to, the gravest first; a row without a fault has none."""
    if fault := find_fault(email):
        return [fault]
    found = []
    if others := sorted(set(shared.get(email.casefold(), ())) - {branch_no}):
        found.append(Fault("address_of_two_branches", "", ", ".join(others)))
    left = leavers.get((branch_no, plain_name(contact_name)))
    # Whoever was named after his namesake's last day is another person.
    if left is not None and left >= since:
        found.append(Fault("left", "", left.isoformat()))
    if domains and not is_within(domain_of(email), tuple(domains)):
        found.append(Fault("outside_domain", "", domain_of(email)))
    return found


def leavers(staff: pd.DataFrame | None, day: date) -> Leavers:
    """Who has left a branch before a day, with the last day; nobody of whose name somebody is still there."""
    if staff is None:
        return {}
    ends: dict[tuple[str, str], list[date | None]] = defaultdict(list)
    for branch_no, name, end in zip(staff["branch_no"], staff["staff_name"], staff["valid_to"], strict=True):
        ends[str(branch_no), plain_name(str(name))].append(None if pd.isna(end) else end)
    return {
        person: max(days)
        for person, found in ends.items()
        if len(days := [end for end in found if end is not None and end < day]) == len(found)
    }


def shared_addresses(held: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    """Addresses, in small letters, that stand for more than one branch, with the branches: their returns are nobody's."""
    of: dict[str, set[str]] = defaultdict(set)
    for branch_no, email in held:
        of[email.casefold()].add(branch_no)
    return {email: branches for email, branches in of.items() if len(branches) > 1}


def plain_name(name: str) -> str:
    """A name without spaces and in half width, to compare by."""
    return "".join(unicodedata.normalize("NFKC", name).split()).casefold()


def role_at(branch_no: str, role: str) -> str:
    """Who is written to in a role's place: at headquarters, which has none of a branch's roles, its centre."""
    return "hq_service" if branch_no == HQ else role


def recipient(valid: pd.DataFrame, branch_no: str, role: str) -> Recipient | None:
    """Who is written to, or None: nobody holds the role or its stand-in, or two people do and nobody said which."""
    mine = valid[valid["branch_no"] == branch_no]
    email = choose_address(list(zip(mine["role"], mine["email"], strict=True)), role)
    return Recipient(branch_no, role, email) if email else None


def choose_address(held: Collection[tuple[str, str]], role: str) -> str | None:
    """Of a branch's roles and addresses the one that is written to in a role; see `recipient`.

    >>> choose_address([("deputy", "a@b.example"), ("branch_head", "c@b.example")], "customer_service_manager")
    'a@b.example'
    """
    for candidate in (role, *STAND_INS.get(role, ())):
        # One address spelled in two ways is one.
        addresses = {email.casefold(): email for of, email in sorted(held) if of == candidate}
        if addresses:
            return next(iter(addresses.values())) if len(addresses) == 1 else None
    return None


def _held_on(roster: pd.DataFrame, day: date) -> pd.DataFrame:
    begun = pd.Series([value <= day for value in roster["valid_from"]], index=roster.index, dtype=bool)
    over = pd.Series(
        [not pd.isna(value) and value < day for value in roster["valid_to"]], index=roster.index, dtype=bool
    )
    return roster.loc[begun & ~over].reset_index(drop=True)
