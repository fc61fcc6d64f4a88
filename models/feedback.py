"""Where a campaign stands: the figures that status, report, dashboard and mails all show.

One Standing is computed from the store and handed to everything that shows numbers, so that no two places count
differently. Knows no query, no layout and no words of a mail.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date

import pandas as pd
import pandera.pandas as pa

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
