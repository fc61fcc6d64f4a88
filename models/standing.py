"""Where a campaign stands: the figures that status, report, dashboard and mails all show, and how they are counted.

One Standing is counted from the store's rows and handed to everything that shows numbers, so that no two places count
differently. Small frames in, one Standing out; knows no query, no layout and no words of a mail.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import date
from statistics import median
from typing import Any, Literal

import pandas as pd
import pandera.pandas as pa

from models.assignment import STATES, progress
from models.calendar import period
from models.credibility import SIGNALS
from models.feedback import STRATA, Estimate, MadeBy, NotEstimable, estimate

OUTCOMES_OF_MAILS = ("sent", "failed", "bounced", "recalled", "unknown", "in_flight")
VERDICTS = ("accepted", "partly", "rejected", "quarantined", "notice", "held", "duplicate")

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
    """claimed, sent, failed, bounced, recalled, unknown, in_flight"""
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
    estimate: Estimate | NotEstimable
    """The share of the company's customers with a finding, from the base draw of the programme year so far."""
    frame_sha256: str
    plan_sha256: str
    sample_sha256: str
    branches: pd.DataFrame = field(repr=False)
    """One row per branch with base or assignments, sorted by branch_no; see BRANCHES."""
    signals: list[dict[str, Any]] = field(default_factory=list)
    """What makes self-reported rows look odd, by branch: signal, branch_no, rows, callers; the gravest signal first."""
    gaps: list[dict[str, Any]] = field(default_factory=list)
    """What kept lists at headquarters: branch_no, role, code, file, row, detail; see models/roster_findings.py."""
    awaiting: dict[str, int] = field(default_factory=dict)
    """Accepted rows that are kept open, by the kind of evidence they lack, see models/evidence.py; one may lack several."""
    recalls: list[dict[str, Any]] = field(default_factory=list)
    """Mails that went astray: mail, kind, campaign, recipient, persons, data_kinds, is_locked, cause, measures, by, at, request."""
    given_up: list[dict[str, Any]] = field(default_factory=list)
    """Attempts at the draw that were given up: number, public, public_on, by, at (in Shanghai), reason."""

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
                "mails claimed = sent + failed + bounced + recalled + unknown + in flight",
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
    stopped = {str(gap["branch_no"]) for gap in standing.gaps}
    unsent = set(standing.branches.loc[standing.branches["state"] == "not_sent", "branch_no"])
    found = [
        Wait("imbalances", sum(not balance.holds for balance in standing.balances()), "headquarters"),
        Wait("gaps", len(stopped), "headquarters"),
        Wait("not_sent", len(unsent - stopped), "headquarters"),
        Wait("mails_unknown", standing.mails.get("unknown", 0), "headquarters"),
        Wait("mails_failed", standing.mails.get("failed", 0), "headquarters"),
        Wait("mails_bounced", standing.mails.get("bounced", 0), "headquarters"),
        Wait("recalls_unasked", sum(one["request"] != "sent" for one in standing.recalls), "headquarters"),
        Wait("quarantined", standing.messages.get("quarantined", 0), "headquarters"),
        Wait("held", standing.messages.get("held", 0), "headquarters"),
        Wait("silent", int(states.get("silent", 0)), "branch"),
        Wait("overdue", standing.overdue, "branch"),
        Wait("evidence", max(standing.awaiting.values(), default=0), "branch"),
        Wait("rows_rejected", int(standing.branches["rows_rejected"].sum()), "branch"),
        Wait("self_checks", waiting, "operations_director"),
        Wait("final_opinions", sum(standing.case_results.values()) - waiting, "compliance"),
    ]
    return [wait for wait in found if wait.count]


@dataclass(frozen=True)
class Facts:
    """The rows of the store that say where one campaign stands; the columns of each frame stand in tasks/records/."""

    campaign: str
    programme: str
    title: dict[str, str]
    period: str
    base: int
    eligible: int
    waived: int
    contradictions: dict[str, int]
    frame_sha256: str
    plan_sha256: str
    sample_sha256: str
    branch_names: dict[str, str]
    eligible_by_branch: dict[str, int]
    quota: pd.DataFrame
    draw: Literal["base", "coverage"]
    caller: Literal["branch", "hq"]
    strata: pd.DataFrame
    codes: pd.DataFrame
    """Group and stratum of each customer taken in the year, as the campaign's frame has them."""
    completed: pd.DataFrame
    periods: dict[str, str]
    exclusions: pd.DataFrame
    groups: pd.DataFrame
    drawn: pd.DataFrame
    calls: pd.DataFrame
    calls_year: pd.DataFrame
    rows: pd.DataFrame
    ends: pd.DataFrame
    carried: set[int]
    findings: pd.DataFrame
    cases: pd.DataFrame
    opinions: pd.DataFrame
    mails: pd.DataFrame
    verdicts: pd.DataFrame
    sightings: pd.DataFrame
    rows_sent_back: dict[str, int]
    signals: pd.DataFrame
    """As models.credibility finds them."""
    gaps: list[dict[str, Any]] = field(default_factory=list)
    awaiting: dict[str, int] = field(default_factory=dict)
    recalls: list[dict[str, Any]] = field(default_factory=list)
    given_up: list[dict[str, Any]] = field(default_factory=list)


def stand(facts: Facts, as_of: date) -> Standing:
    """Where the campaign stands on a day."""
    state = progress(facts.calls, facts.rows, facts.ends, as_of)
    # Nobody is late with a call that no mail has carried to him.
    state["is_overdue"] &= state["assignment_id"].isin(facts.carried)
    answered = facts.rows[facts.rows["assignment_id"].isin(facts.calls["assignment_id"])]
    done_year = progress(facts.calls_year.drop_duplicates("assignment_id"), facts.rows, facts.ends, as_of)
    done_ids = set(done_year.loc[done_year["state"] == "completed", "assignment_id"])
    done_calls = facts.calls_year[facts.calls_year["assignment_id"].isin(done_ids)].drop_duplicates("customer_id")
    branches = _branches(facts, state, answered, done_calls)
    count = state["state"].value_counts()
    short = facts.groups[facts.groups["shortfall"] > 0]
    results = facts.cases["result"].astype(object).where(facts.cases["result"].notna(), "waiting")
    return Standing(
        campaign=facts.campaign,
        programme=facts.programme,
        title=facts.title,
        period=facts.period,
        as_of=as_of,
        base=facts.base,
        eligible=facts.eligible,
        excluded=_sums(facts.exclusions, "reason", "customers"),
        waived=facts.waived,
        goal=int(facts.quota["goal"].sum()),
        drawn=int((facts.drawn["kind"] == "sample").sum()),
        reserve=int((facts.drawn["kind"] == "reserve").sum()),
        assigned=len(state),
        attempted=int(state["attempted"].sum()),
        **{name: int(count.get(name, 0)) for name in STATES},
        completed_year=len(done_calls),
        overdue=int(state["is_overdue"].sum()),
        mails=mail_counts(facts.mails),
        messages=message_counts(facts.verdicts, facts.sightings, facts.campaign),
        findings=len(facts.findings),
        cases=len(facts.cases),
        opinions=len(facts.opinions),
        outcomes=_counts(answered["outcome"]),
        violations=_counts(facts.findings["violation"]),
        case_results=_counts(results),
        contradictions=facts.contradictions,
        shortfalls=_sums(short, "reason", "shortfall"),
        estimate=_estimate_year(facts, done_year, as_of),
        frame_sha256=facts.frame_sha256,
        plan_sha256=facts.plan_sha256,
        sample_sha256=facts.sample_sha256,
        branches=branches,
        signals=_signals(facts.signals),
        gaps=facts.gaps,
        awaiting=facts.awaiting,
        recalls=facts.recalls,
        given_up=facts.given_up,
    )


def mail_counts(mails: pd.DataFrame) -> dict[str, int]:
    """claimed and its parts by outcome."""
    count = mails["outcome"].value_counts()
    return {"claimed": len(mails), **{name: int(count.get(name, 0)) for name in OUTCOMES_OF_MAILS}}


def message_counts(verdicts: pd.DataFrame, sightings: pd.DataFrame, campaign: str | None = None) -> dict[str, int]:
    """seen and its parts by verdict, of one campaign's messages, or of all when none is named.

    Seen are sightings; each sighting of bytes that lay there before is a duplicate.
    """
    judged = verdicts if campaign is None else verdicts[verdicts["campaign_id"] == campaign]
    seen = sightings[sightings["message_id"].isin(judged["message_id"])] if campaign is not None else sightings
    again = int(seen["message_id"].duplicated().sum())
    count = judged["verdict"].value_counts()
    found = {"seen": len(seen), **{name: int(count.get(name, 0)) for name in VERDICTS}}
    found["held"] += len(set(seen["message_id"]) - set(judged["message_id"]))
    found["duplicate"] += again
    return found


def figures_text(standings: list[Standing]) -> str:
    """Every figure of some standings as canonical text: what a report's hash is taken over."""
    plain = [
        {
            **{key: value for key, value in asdict(standing).items() if key != "branches"},
            "branches": standing.branches.to_dict("records"),
        }
        for standing in standings
    ]
    return json.dumps(plain, ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=str)


def ratio(part: int, whole: int) -> float | None:
    """part / whole, or None where there is nothing to divide by."""
    return part / whole if whole else None


def median_completion(standing: Standing) -> float | None:
    """The median over branches with calls of completed / assigned."""
    busy = standing.branches[standing.branches["assigned"] > 0]
    return float(median(busy["completed"] / busy["assigned"])) if len(busy) else None


def attention(standing: Standing) -> list[dict[str, Any]]:
    """Branches to look at, worst first: lists not sent, silent ones, overdue calls, rows sent back."""
    rows = standing.branches
    order = rows["state"].map({"not_sent": 0, "silent": 1}).fillna(2)
    troubled = rows[(order < 2) | (rows["overdue"] > 0) | (rows["rows_rejected"] > 0)]
    # A Series given to a frame without rows gives it rows.
    ranked = troubled.assign(order=order[troubled.index]).sort_values(
        ["order", "overdue", "rows_rejected", "branch_no"], ascending=[True, False, False, True]
    )
    return [{str(k): v for k, v in row.items()} for row in ranked.drop(columns="order").to_dict("records")]


def _branches(facts: Facts, state: pd.DataFrame, answered: pd.DataFrame, done_calls: pd.DataFrame) -> pd.DataFrame:
    known = {*facts.eligible_by_branch, *facts.exclusions["branch_no"], *facts.calls["branch_no"]}
    table = pd.DataFrame({"branch_no": sorted(known)})
    table["branch_name"] = [facts.branch_names.get(branch, branch) for branch in table["branch_no"]]
    sample, reserve = (facts.drawn[facts.drawn["kind"] == kind] for kind in ("sample", "reserve"))
    carried = facts.calls[facts.calls["assignment_id"].isin(facts.carried)]
    late = facts.calls[facts.calls["assignment_id"].isin(answered.loc[answered["is_late"], "assignment_id"])]
    eligible = table["branch_no"].map(facts.eligible_by_branch).fillna(0).astype(int)
    per_branch = {
        "base": eligible + _per(table, facts.exclusions, "customers"),
        "eligible": eligible,
        # The groups of a coverage programme are marketers, whose goals belong to no single branch.
        "goal": _per(table, facts.quota[facts.quota["group_key"] == facts.quota["branch_no"]], "goal"),
        "drawn": _per(table, sample),
        "reserve": _per(table, reserve),
        "assigned": _per(table, state),
        "attempted": _per(table, state[state["attempted"]]),
        **{name: _per(table, state[state["state"] == name]) for name in STATES},
        "overdue": _per(table, state[state["is_overdue"]]),
        "completed_year": _per(table, done_calls),
        "findings": _per(table, facts.findings),
        "cases": _per(table, facts.cases),
        "opinions": _per(table, facts.opinions),
        "rows_rejected": table["branch_no"].map(facts.rows_sent_back).fillna(0).astype(int),
        "late": _per(table, late),
    }
    table = table.assign(**per_branch)
    sent = _per(table, carried)
    table["state"] = "partly"
    table.loc[table["open"] == 0, "state"] = "done"
    table.loc[(table["attempted"] == 0) & (table["open"] > 0), "state"] = "silent"
    table.loc[(sent == 0) & (table["open"] > 0) & (table["attempted"] == 0), "state"] = "not_sent"
    table.loc[table["assigned"] == 0, "state"] = "nothing_due"
    return BRANCHES.validate(table[list(BRANCHES.columns)])


def _estimate_year(facts: Facts, done_year: pd.DataFrame, as_of: date) -> Estimate | NotEstimable:
    """done_year: the progress of every call of the year; a customer of several calls counts once."""
    completed = facts.completed[facts.completed["assignment_id"].isin(done_year["assignment_id"])]
    found = completed.loc[completed["violation"] != "", "assignment_id"]
    calls = facts.calls_year.merge(done_year[["assignment_id", "state", "attempted"]], on="assignment_id")
    calls["completed"] = calls["state"] == "completed"
    calls["with_finding"] = calls["completed"] & calls["assignment_id"].isin(found)
    marks = ["attempted", "completed", "with_finding"]
    customers = calls.groupby("customer_id")[marks].any().assign(taken=True).reset_index()
    callers = set(completed["caller"])
    made_by: MadeBy = facts.caller if not callers else "both" if len(callers) > 1 else callers.pop()
    is_over = calls["due_on"].map(lambda due: due < as_of).groupby(calls["campaign_id"]).all()
    is_silent = is_over & ~calls.groupby("campaign_id")["completed"].any()
    silent = sorted(facts.periods[campaign] for campaign in is_silent[is_silent].index)
    if facts.draw == "base":
        counted = (
            customers.merge(facts.codes, on="customer_id").groupby(["group_key", "stratum"])[["taken", *marks]].sum()
        )
        rows = facts.strata[["group_key", "stratum", "customers"]].merge(
            counted.reset_index(), on=["group_key", "stratum"], how="left"
        )
    else:
        rows = (
            customers[["taken", *marks]].sum().to_frame().T.assign(group_key="", stratum="*", customers=facts.eligible)
        )
    rows = rows.fillna(dict.fromkeys(["taken", *marks], 0)).assign(draw=facts.draw)
    return estimate(rows[list(STRATA.columns)], made_by=made_by, silent_periods=silent)


def _per(table: pd.DataFrame, rows: pd.DataFrame, amount: str | None = None) -> pd.Series[int]:
    grouped = rows.groupby("branch_no")
    found = grouped[amount].sum() if amount else grouped.size()
    return table["branch_no"].map(found).fillna(0).astype(int)


def _signals(found: pd.DataFrame) -> list[dict[str, Any]]:
    """The signals by branch, without the callers' names."""
    if found.empty:
        return []
    grouped = found.groupby(["signal", "branch_no"]).agg(rows=("rows", "sum"), callers=("caller_name", "nunique"))
    rows = [
        {"signal": str(signal), "branch_no": str(branch), "rows": int(n), "callers": int(callers)}
        for (signal, branch), n, callers in zip(grouped.index, grouped["rows"], grouped["callers"], strict=True)
    ]
    order = list(SIGNALS)
    return sorted(rows, key=lambda row: (order.index(row["signal"]), -row["rows"], row["branch_no"]))


def _counts(values: pd.Series[Any]) -> dict[str, int]:
    return {str(key): int(n) for key, n in values.value_counts().sort_index().items()}


def _sums(rows: pd.DataFrame, key: str, amount: str) -> dict[str, int]:
    return {str(k): int(n) for k, n in rows.groupby(key)[amount].sum().items()}
