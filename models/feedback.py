"""Where a campaign stands: the figures that status, report, dashboard and mails all show.

One Standing is computed from the store and handed to everything that shows numbers, so that no two places count
differently. Knows no query, no layout and no words of a mail.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import Literal

import pandas as pd
import pandera.pandas as pa

from models.calendar import period

COUNT = pa.Column(int, pa.Check.ge(0), coerce=True)

BRANCHES = pa.DataFrameSchema(
    {
        "branch_no": pa.Column(str),
        "branch_name": pa.Column(str),
        "base": COUNT,
        "eligible": COUNT,
        "goal": COUNT,  # calls owed for the whole programme year; 0 in a coverage programme, whose groups are marketers
        "drawn": COUNT,
        "reserve": COUNT,
        "assigned": COUNT,
        "attempted": COUNT,  # assignments with at least one accepted row
        "completed": COUNT,
        "open": COUNT,
        "replaced": COUNT,
        "withdrawn": COUNT,
        "expired": COUNT,
        "overdue": COUNT,  # open and past the due date on as_of
        "completed_year": COUNT,  # completed in the programme year so far, all its campaigns
        "findings": COUNT,
        "cases": COUNT,
        "opinions": COUNT,
        "rows_rejected": COUNT,
        "late": COUNT,  # accepted rows that came after the due date
        "state": pa.Column(str, pa.Check.isin(["done", "partly", "silent", "not_sent", "nothing_due"])),
    },
    strict=True,
    unique=["branch_no"],
)


@dataclass(frozen=True)
class Balance:
    """One of the equations of DESIGN §3.6 with its two sides; where is '' for the total."""

    name: str
    where: str
    left: int
    right: int

    @property
    def holds(self) -> bool:
        return self.left == self.right


@dataclass(frozen=True)
class Standing:
    """Where one campaign stands on one day. Counts are customers, calls, mails or messages as named."""

    campaign: str
    programme: str
    title: dict[str, str]
    """The programme's name by language, zh_CN and en."""
    period: str
    as_of: date
    base: int
    eligible: int
    excluded: dict[str, int]
    waived: int
    goal: int
    """Completed calls owed in the programme year."""
    drawn: int
    reserve: int
    assigned: int
    attempted: int
    completed: int
    completed_year: int
    open: int
    replaced: int
    withdrawn: int
    expired: int
    overdue: int
    mails: dict[str, int]
    """claimed, sent, failed, unknown, in_flight"""
    messages: dict[str, int]
    """seen, accepted, partly, rejected, quarantined, notice, held, duplicate"""
    findings: int
    cases: int
    opinions: int
    outcomes: dict[str, int]
    """Current accepted rows by outcome code."""
    violations: dict[str, int]
    """Findings by kind of violation."""
    case_results: dict[str, int]
    """Cases by merged result; 'waiting' has no self-check yet."""
    contradictions: dict[str, int]
    shortfalls: dict[str, int]
    """Places that could not be dealt, by reason."""
    frame_sha256: str
    plan_sha256: str
    sample_sha256: str
    branches: pd.DataFrame = field(repr=False)
    """One row per branch with base or assignments, sorted by branch_no; see BRANCHES."""

    def balances(self) -> list[Balance]:
        """Every equation of this campaign, in total and per branch."""
        found = [
            Balance(
                "base = eligible + excluded + waived",
                "",
                self.base,
                self.eligible + sum(self.excluded.values()) + self.waived,
            ),
            Balance(
                "assigned = completed + open + replaced + withdrawn + expired",
                "",
                self.assigned,
                self.completed + self.open + self.replaced + self.withdrawn + self.expired,
            ),
            Balance(
                "mails claimed = sent + failed + unknown + in flight",
                "",
                self.mails["claimed"],
                sum(n for outcome, n in self.mails.items() if outcome != "claimed"),
            ),
            Balance(
                "messages seen = accepted + partly + rejected + quarantined + notices + held + duplicates",
                "",
                self.messages["seen"],
                sum(n for verdict, n in self.messages.items() if verdict != "seen"),
            ),
        ]
        for row in self.branches.to_dict("records"):
            found.append(
                Balance(
                    "assigned = completed + open + replaced + withdrawn + expired",
                    str(row["branch_no"]),
                    row["assigned"],
                    row["completed"] + row["open"] + row["replaced"] + row["withdrawn"] + row["expired"],
                )
            )
        for column in ("base", "assigned", "completed", "open", "replaced", "findings", "opinions"):
            # A waived row may have had no readable branch, so it stands in the total only.
            whole = getattr(self, column) - (self.waived if column == "base" else 0)
            found.append(Balance(f"Σ branches = total: {column}", "", int(self.branches[column].sum()), whole))
        return found


@dataclass(frozen=True)
class Outlook:
    """Whether the year's goal will be met: this period's calls prorated over the calendar days left after it.

    low counts what is completed, high also the open calls that are not overdue, as if all of them completed. Both end
    at the goal, because later draws shrink as it comes near; only what is completed already can exceed it.
    """

    verdict: Literal["no_goal", "reached", "on_track", "undecided", "behind"]
    goal: int
    completed: int
    remaining: int
    low: int
    high: int
    days_left: int
    """Days of the year after the period."""


def outlook(standing: Standing) -> Outlook:
    """The year's outlook from one campaign; never more than the goal or the eligible customers, unless it is done."""
    this = period(standing.period.partition("#")[0])
    length, left = (this.last - this.first).days + 1, (date(this.last.year, 12, 31) - this.last).days

    def at_years_end(more: int) -> int:
        reached = standing.completed_year + more + (standing.completed + more) * left // length
        return max(min(reached, standing.goal, standing.eligible), standing.completed_year)

    low, high = at_years_end(0), at_years_end(max(0, standing.open - standing.overdue))
    verdict: Literal["no_goal", "reached", "on_track", "undecided", "behind"]
    if standing.goal == 0:
        verdict = "no_goal"
    elif standing.completed_year >= standing.goal:
        verdict = "reached"
    elif low >= standing.goal:
        verdict = "on_track"
    else:
        verdict = "undecided" if high >= standing.goal else "behind"
    remaining = max(0, standing.goal - standing.completed_year)
    return Outlook(verdict, standing.goal, standing.completed_year, remaining, low, high, left)


@dataclass(frozen=True)
class Wait:
    """So many things of one kind that wait for one party."""

    kind: str
    count: int
    who: Literal["headquarters", "branch", "operations_director", "compliance"]


def waits(standing: Standing) -> list[Wait]:
    """What waits for whom, headquarters first; kinds with nothing waiting are left out.

    Opinions are registered and sent to nobody, so they are a figure and wait for no one.
    """
    states = standing.branches["state"].value_counts()
    waiting = standing.case_results.get("waiting", 0)
    found = [
        Wait("imbalances", sum(not balance.holds for balance in standing.balances()), "headquarters"),
        Wait("not_sent", int(states.get("not_sent", 0)), "headquarters"),
        Wait("mails_unknown", standing.mails.get("unknown", 0), "headquarters"),
        Wait("mails_failed", standing.mails.get("failed", 0), "headquarters"),
        Wait("quarantined", standing.messages.get("quarantined", 0), "headquarters"),
        Wait("held", standing.messages.get("held", 0), "headquarters"),
        Wait("silent", int(states.get("silent", 0)), "branch"),
        Wait("overdue", standing.overdue, "branch"),
        Wait("rows_rejected", int(standing.branches["rows_rejected"].sum()), "branch"),
        Wait("self_checks", waiting, "operations_director"),
        Wait("final_opinions", sum(standing.case_results.values()) - waiting, "compliance"),
    ]
    return [wait for wait in found if wait.count]
