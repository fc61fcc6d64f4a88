"""A programme file: what is called back, why, how often, by whom and by when, as compliance approves it.

Knows the meaning of every key and which version holds on a day; reads no file and draws nothing.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from datetime import date, time
from fractions import Fraction
from hashlib import sha256
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from models import CallbackError
from models.outcomes import QUESTIONNAIRE

TABLES = ("customers", "transactions", "branches", "roster", "staff", "relations")
ROLES = (
    "operations_director",
    "customer_service_manager",
    "deputy",
    "branch_head",
    "compliance",
    "operations_management",
    "hq_service",
)

TableName = Literal["customers", "transactions", "branches", "roster", "staff", "relations"]
StaffKind = Literal["broker", "marketer", "adviser", "caller", "other"]
Role = Literal[
    "operations_director",
    "customer_service_manager",
    "deputy",
    "branch_head",
    "compliance",
    "operations_management",
    "hq_service",
]
Trait = Literal["segment", "risk_level"]
"""What strata may be made of."""


class UnknownProgramme(CallbackError):
    """No programme file of that name holds on that day."""


class DoubledVersion(CallbackError):
    """Two files claim to be the same version of one programme."""


def _is_decimal(value: Any) -> Any:
    # A rate that YAML has read as a float has lost its digits.
    if not isinstance(value, str) or not re.fullmatch(r"[0-9]+(\.[0-9]+)?", value):
        raise ValueError(f'{value!r} is no decimal in quotes; write it as text, like "0.10"')
    return value


def _is_rate(text: str) -> str:
    if not 0 < Fraction(text) <= 1:
        raise ValueError(f"{text!r} must be above 0 and at most 1")
    return text


def _is_weight(text: str) -> str:
    if not 0 < Fraction(text) <= 1000:
        raise ValueError(f"{text!r} must be above 0 and at most 1000")
    return text


Rate = Annotated[str, BeforeValidator(_is_decimal), AfterValidator(_is_rate)]
Weight = Annotated[str, BeforeValidator(_is_decimal), AfterValidator(_is_weight)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Words(_Part):
    """One text in both languages."""

    zh_CN: str = Field(min_length=1)
    en: str = Field(min_length=1)


class Source(_Part):
    """Where a figure comes from, and since when it holds."""

    text: str = Field(min_length=1)
    holds_from: date
    holds_to: date | None = None
    note: str = ""

    @model_validator(mode="after")
    def _in_order(self) -> Source:
        if self.holds_to and self.holds_to < self.holds_from:
            raise ValueError(f"holds_to {self.holds_to} lies before holds_from {self.holds_from}")
        return self


class RateGoal(_Part):
    """Each branch owes ceil(rate × eligible) completed calls a year."""

    kind: Literal["rate"]
    rate: Rate
    counts: Literal["completed"] = "completed"
    """What fills the quota: distinct year-end customers whose callback was completed (DRAW 19)."""
    source: Source


class CoverageGoal(_Part):
    """Each active developer's customers get so many completed calls a year (DRAW 17)."""

    kind: Literal["coverage"]
    calls_per_year: int = Field(ge=1, le=366)
    staff_kinds: tuple[StaffKind, ...] = Field(min_length=1)
    counts: Literal["completed"] = "completed"
    source: Source


class Condition(_Part):
    """A column of the customers and the values that fulfil it."""

    column: Literal["status", "segment", "risk_level"]
    values: tuple[str, ...] = Field(min_length=1)


class Exclusion(_Part):
    """One reason for which a year-end customer is not eligible; the first that applies stands in the ledger.

    Either a column and its values, or `by_hand`: customers whom an approver named before the base was frozen.
    """

    reason: str = Field(pattern=r"^[a-z][a-z_]*$")
    column: Literal["status", "segment", "risk_level"] | None = None
    values: tuple[str, ...] = ()
    by_hand: bool = False
    approved_by: Role = "compliance"
    """Who answers for the reason; for `by_hand`, the role that names the customers."""
    source: Source

    @model_validator(mode="after")
    def _is_one_kind(self) -> Exclusion:
        if self.by_hand and (self.column or self.values):
            raise ValueError("by_hand: true names its customers by hand; leave column and values out")
        if not self.by_hand and not (self.column and self.values):
            raise ValueError("give column and values, or by_hand: true")
        return self


class Attempts(_Part):
    """How often a customer who does not answer is tried before the place passes on."""

    count: int = Field(ge=1, le=20)
    days: int = Field(ge=1, le=20)
    source: Source

    @model_validator(mode="after")
    def _fits(self) -> Attempts:
        if self.days > self.count:
            raise ValueError(
                f"days {self.days} is more than count {self.count}: {self.count} attempts cannot lie on {self.days} days; "
                "lower days or raise count"
            )
        return self


class SelfCheck(_Part):
    """The branch's own check of a suspected violation."""

    workdays: int = Field(ge=1, le=60)
    to: Role
    source: Source


class Reminder(_Part):
    """One reminder, so many workdays after the due date (0 is the due date, negative before it)."""

    workdays_after_due: int = Field(ge=-30, le=60)
    to: Role


class Window(_Part):
    """Nobody is called again within so many days of a contact of any programme; the date moves, never the selection."""

    days: int = Field(ge=1, le=366)
    source: Source


class Capacity(_Part):
    """Calls that a branch (for `caller: hq`, headquarters' centre) takes on per workday; some branches by name."""

    per_workday: int = Field(ge=1, le=100_000)
    branches: dict[str, Annotated[int, Field(ge=1, le=100_000)]] = Field(default_factory=dict)

    def of(self, branch_no: str) -> int:
        """Calls a workday of one branch."""
        return self.branches.get(branch_no, self.per_workday)


class MonthlyPlan(_Part):
    """How what is owed is spread: by workdays, or by a weight for each of the twelve months."""

    by: Literal["workdays", "weights"] = "workdays"
    weights: tuple[Annotated[int, Field(ge=0, le=1000)], ...] = ()
    cut_off: str = Field(default="12-31", pattern=r"^(0[1-9]|1[0-2])-[0-3][0-9]$")
    """Month and day by which the year's goal is to be met."""

    @model_validator(mode="after")
    def _is_whole(self) -> MonthlyPlan:
        date.fromisoformat(f"2025-{self.cut_off}")
        if self.by == "weights" and (len(self.weights) != 12 or not any(self.weights)):
            raise ValueError("weights: give twelve whole numbers, January to December, not all 0")
        if self.by == "workdays" and self.weights:
            raise ValueError("weights stand only with by: weights")
        return self


class PublicNumber(_Part):
    """The number that did not exist when a month was committed, such as an index close (DRAW 14)."""

    name: Words
    available_at: time
    """The time of day in Shanghai from which the number of a day is known."""
    pattern: str = r"[0-9]+(\.[0-9]+)?"
    """What it looks like, as a regular expression over the whole text."""

    @model_validator(mode="after")
    def _compiles(self) -> PublicNumber:
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ValueError(f"pattern {self.pattern!r} is no regular expression: {error}") from None
        return self


class ChainSeed(_Part):
    """Seeds from a committed hash chain and a public number (DRAW 13, 14)."""

    kind: Literal["chain"]
    public: PublicNumber


class Sheet(_Part):
    """What the callback sheet asks."""

    questionnaire: str = "2026.1"

    @model_validator(mode="after")
    def _is_known(self) -> Sheet:
        if self.questionnaire != QUESTIONNAIRE.version:
            raise ValueError(f"questionnaire {self.questionnaire!r} is not known; known is {QUESTIONNAIRE.version!r}")
        return self


class Evidence(_Part):
    """Which files keep an accepted row open until they are here."""

    calls: tuple[Literal["recording", "signature"], ...] = ()
    """Of a completed call: its recording where it was made by phone, the customer's signature where it was a visit."""
    self_check: tuple[Literal["register", "contact", "interview"], ...] = ()
    """Of a self-check: the signed register; recording or signature of the second contact; the record of an interview."""


class Programme(_Part):
    """One version of one programme file."""

    programme: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    version: int = Field(ge=1)
    title: Words
    valid_from: date
    valid_to: date | None = None
    rules: tuple[Source, ...] = ()
    """The texts that the programme carries out, with their dates."""
    needs: tuple[TableName, ...] = Field(min_length=1)
    base: Literal["year_end"] = "year_end"
    """Whose customers count: all of last year-end's extract, frozen once."""
    population: tuple[Condition, ...] = ()
    """Whom the programme is about; others stand in the ledger as `outside_population`. Empty is everyone."""
    goal: Annotated[RateGoal | CoverageGoal, Field(discriminator="kind")]
    exclusions: tuple[Exclusion, ...]
    strata: tuple[Trait, ...] = ()
    minimum: int = Field(default=0, ge=0)
    weights: dict[str, Weight] = Field(default_factory=dict)
    """Risk tiers: a stratum's customers count so many times when places are dealt; 1 where none is named (DRAW 18)."""
    monthly_plan: MonthlyPlan = MonthlyPlan()
    reserve: Rate
    """Share of the month's places that is drawn on top as reserve, kept at headquarters."""
    capacity: Annotated[int, Field(ge=1)] | Capacity
    """Calls a group takes on: a number in one period, or per workday."""
    seed: Literal["random"] | ChainSeed = "random"
    caller: Literal["branch", "hq"] = "branch"
    callers: tuple[StaffKind, ...] = ("caller",)
    """Which staff make the calls, where the extract of staff names any."""
    recusal: bool
    """Nobody calls a customer whom he developed or serves."""
    one_contact: bool = True
    """A customer whom another programme is calling is called once for both."""
    no_recontact: Window | None = None
    due_workdays: int = Field(ge=1, le=260)
    closing_hour: time
    approval: Literal["none", "required"] = "none"
    """Whether compliance approves each draw before anything of it is mailed; never whoever started the draw."""
    attempts: Attempts
    sheet: Sheet = Sheet()
    evidence: Evidence = Evidence()
    """Which files a row needs besides its cells; without them it stays open."""
    list_to: Role
    self_check: SelfCheck
    reminders: tuple[Reminder, ...]
    feedback_to: Role

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Programme:
        if self.valid_to and self.valid_to < self.valid_from:
            raise ValueError(f"valid_to {self.valid_to} lies before valid_from {self.valid_from}")
        for table in ("customers", "branches", "roster"):
            if table not in self.needs:
                raise ValueError(f"needs lacks {table}, which every programme reads")
        if isinstance(self.goal, CoverageGoal):
            missing = {"staff", "relations"} - set(self.needs)
            if missing:
                raise ValueError(
                    f"goal coverage needs the tables staff and relations; needs lacks {', '.join(sorted(missing))}"
                )
            if self.strata or self.weights:
                raise ValueError("goal coverage has the developer as its stratum; leave strata and weights empty")
            if self.minimum:
                raise ValueError("goal coverage asks for calls per marketer; minimum stays 0")
            if self.monthly_plan.by == "weights":
                raise ValueError("goal coverage goes up by a twelfth each month; leave monthly_plan out")
            if isinstance(self.capacity, Capacity) and self.capacity.branches:
                raise ValueError("goal coverage has marketers as its groups; capacity.branches cannot name branches")
        if self.weights and not self.strata:
            raise ValueError("weights need strata")
        reasons = Counter(exclusion.reason for exclusion in self.exclusions)
        doubled = sorted(reason for reason, n in reasons.items() if n > 1 or reason in OWN_REASONS)
        if doubled:
            raise ValueError(
                f"exclusions: reason {', '.join(doubled)} is used twice or is one of the built-in {', '.join(OWN_REASONS)}"
            )
        for name in ("needs", "strata"):
            twice = sorted(key for key, n in Counter(getattr(self, name)).items() if n > 1)
            if twice:
                raise ValueError(f"{name} names {', '.join(twice)} twice")
        return self

    def plan(self) -> str:
        """The programme as canonical text (JSON, sorted keys): what the plan's hash is taken over.

        Keys that were added to the form later and stand at their default are left out, so that a plan keeps its hash
        when the product is upgraded.
        """
        plain = self.model_dump(mode="json")
        for key, default in _LATER_KEYS.items():
            if plain[key] == default:
                del plain[key]
        plain["exclusions"] = [
            {k: v for k, v in e.items() if (k, v) not in (("by_hand", False), ("approved_by", "compliance"))}
            for e in plain["exclusions"]
        ]
        if plain["goal"]["counts"] == "completed":
            del plain["goal"]["counts"]
        return json.dumps(plain, ensure_ascii=False, sort_keys=True, separators=(",", ":"))

    def plan_sha256(self) -> str:
        """The hash that a programme year stores."""
        return sha256(self.plan().encode()).hexdigest()

    def month_weight(self, month: int, workdays: int) -> int:
        """What a month weighs in the plan of the year: its workdays, or the file's own weight (DRAW 6)."""
        return workdays if self.monthly_plan.by == "workdays" else self.monthly_plan.weights[month - 1]

    def cut_off(self, year: int) -> date:
        """The day by which the goal of a programme year is to be met."""
        return date.fromisoformat(f"{year}-{self.monthly_plan.cut_off}")

    def capacity_of(self, branch_no: str, workdays: int) -> int:
        """Calls that a group at a branch takes on in a period of so many workdays."""
        if isinstance(self.capacity, Capacity):
            return self.capacity.of(branch_no) * workdays
        return self.capacity

    def calls_per_workday(self, branch_no: str) -> int:
        """Calls that a branch, or `HQ`, makes on one workday; a capacity per period sets no bound on a day."""
        if not isinstance(self.capacity, Capacity) or (branch_no == "HQ") != (self.caller == "hq"):
            return UNBOUNDED
        return self.capacity.of(branch_no)

    def hand_reasons(self) -> tuple[str, ...]:
        """Reasons for which an approver may exclude customers by name before the base is frozen."""
        return tuple(exclusion.reason for exclusion in self.exclusions if exclusion.by_hand)


UNBOUNDED = 10**6
"""More calls than anybody makes on a day."""

_LATER_KEYS: dict[str, Any] = {
    "rules": [],
    "base": "year_end",
    "population": [],
    "weights": {},
    "monthly_plan": {"by": "workdays", "weights": [], "cut_off": "12-31"},
    "callers": ["caller"],
    "one_contact": True,
    "approval": "none",
    "no_recontact": None,
    "sheet": {"questionnaire": "2026.1"},
    "evidence": {"calls": [], "self_check": []},
}

OWN_REASONS = ("opened_after_base", "closed_before_base", "outside_population", "no_developer")
"""Exclusions that follow from the base itself and need no line in the file."""


def check_versions(versions: Sequence[Programme]) -> None:
    """Raise DoubledVersion when two files hold the same version of one programme."""
    count = Counter((version.programme, version.version) for version in versions)
    doubled = sorted(key for key, n in count.items() if n > 1)
    if doubled:
        name, number = doubled[0]
        raise DoubledVersion(f"programme {name}: two files say version {number}; give the later one a higher version")


def version_on(versions: Sequence[Programme], name: str, day: date) -> Programme:
    """The highest version of a programme that holds on a day. Raises UnknownProgramme naming what there is."""
    mine = [version for version in versions if version.programme == name]
    if not mine:
        known = ", ".join(sorted({version.programme for version in versions})) or "none"
        raise UnknownProgramme(f"no programme {name!r}; known are: {known}")
    holding = [v for v in mine if v.valid_from <= day and (v.valid_to is None or day <= v.valid_to)]
    if not holding:
        spans = "; ".join(f"version {v.version} from {v.valid_from} to {v.valid_to or '…'}" for v in mine)
        raise UnknownProgramme(f"programme {name!r} does not hold on {day}: {spans}")
    return max(holding, key=lambda version: version.version)
