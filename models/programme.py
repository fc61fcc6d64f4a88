"""A programme file: what is called back, why, how often, by whom and by when, as compliance approves it.

Knows the meaning of every key and which version holds on a day; reads no file and draws nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date, time
from fractions import Fraction
from hashlib import sha256
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from models import CallbackError

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
Role = Literal[
    "operations_director",
    "customer_service_manager",
    "deputy",
    "branch_head",
    "compliance",
    "operations_management",
    "hq_service",
]


class UnknownProgramme(CallbackError):
    """No programme file of that name holds on that day."""


def _is_rate(text: str) -> str:
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise ValueError(f'{text!r} is no decimal; write it as text, like "0.10"') from None
    if not 0 < rate <= 1:
        raise ValueError(f"{text!r} must be above 0 and at most 1")
    return text


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


class RateGoal(_Part):
    """Each branch owes ceil(rate × eligible) completed calls a year."""

    kind: Literal["rate"]
    rate: Annotated[str, AfterValidator(_is_rate)]
    source: Source


class CoverageGoal(_Part):
    """Each active developer's customers get so many completed calls a year (DRAW 17)."""

    kind: Literal["coverage"]
    calls_per_year: int = Field(ge=1, le=366)
    staff_kinds: tuple[Literal["broker", "marketer", "adviser", "caller", "other"], ...] = Field(min_length=1)
    source: Source


class Exclusion(_Part):
    """One reason for which a year-end customer is not eligible; the first that applies stands in the ledger."""

    reason: str = Field(pattern=r"^[a-z][a-z_]*$")
    column: Literal["status", "segment", "risk_level"]
    values: tuple[str, ...] = Field(min_length=1)
    source: Source


class Attempts(_Part):
    """How often a customer who does not answer is tried before the place passes on."""

    count: int = Field(ge=1, le=20)
    days: int = Field(ge=1, le=20)
    source: Source


class SelfCheck(_Part):
    """The branch's own check of a suspected violation."""

    workdays: int = Field(ge=1, le=60)
    to: Role
    source: Source


class Reminder(_Part):
    """One reminder, so many workdays after the due date (0 is the due date, negative before it)."""

    workdays_after_due: int = Field(ge=-30, le=60)
    to: Role


class Programme(_Part):
    """One version of one programme file."""

    programme: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    version: int = Field(ge=1)
    title: Words
    valid_from: date
    valid_to: date | None = None
    needs: tuple[TableName, ...] = Field(min_length=1)
    goal: Annotated[RateGoal | CoverageGoal, Field(discriminator="kind")]
    exclusions: tuple[Exclusion, ...]
    strata: tuple[Literal["segment"], ...] = ()
    minimum: int = Field(default=0, ge=0)
    reserve: Annotated[str, AfterValidator(_is_rate)]
    """Share of the month's places that is drawn on top as reserve, kept at headquarters."""
    capacity: int = Field(ge=1)
    """Calls a group can take on in one period."""
    seed: Literal["random"] = "random"
    caller: Literal["branch"] = "branch"
    recusal: bool
    """A customer's developer may not make the call."""
    due_workdays: int = Field(ge=1, le=260)
    closing_hour: time
    attempts: Attempts
    list_to: Role
    self_check: SelfCheck
    reminders: tuple[Reminder, ...]
    feedback_to: Role

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Programme:
        if self.valid_to and self.valid_to < self.valid_from:
            raise ValueError(f"valid_to {self.valid_to} lies before valid_from {self.valid_from}")
        if isinstance(self.goal, CoverageGoal):
            missing = {"staff", "relations"} - set(self.needs)
            if missing:
                raise ValueError(
                    f"goal coverage needs the tables staff and relations; needs lacks {', '.join(sorted(missing))}"
                )
            if self.strata:
                raise ValueError("goal coverage has the developer as its stratum; leave strata empty")
        for table in ("customers", "branches", "roster"):
            if table not in self.needs:
                raise ValueError(f"needs lacks {table}, which every programme reads")
        reasons = [exclusion.reason for exclusion in self.exclusions]
        doubled = sorted({reason for reason in reasons if reasons.count(reason) > 1} | ({*reasons} & {*OWN_REASONS}))
        if doubled:
            raise ValueError(
                f"exclusions: reason {', '.join(doubled)} is used twice or is one of the built-in {', '.join(OWN_REASONS)}"
            )
        return self

    def plan(self) -> str:
        """The programme as canonical text (JSON, sorted keys): what the plan's hash is taken over."""
        return json.dumps(self.model_dump(mode="json"), ensure_ascii=False, sort_keys=True, separators=(",", ":"))

    def plan_sha256(self) -> str:
        """The hash that a programme year stores."""
        return sha256(self.plan().encode()).hexdigest()


OWN_REASONS = ("opened_after_base", "closed_before_base", "no_developer")
"""Exclusions that follow from the base itself and need no line in the file."""


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
