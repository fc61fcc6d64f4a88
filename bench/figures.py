"""A table of figures, and what its cells are made of: medians, verdicts."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Figures:
    """A table: its title, its columns, a tuple of texts per line."""

    title: str
    header: tuple[str, ...]
    lines: list[tuple[str, ...]]


def median_of(case: dict[str, Any], name: str, what: str) -> float | None:
    """Over the rounds of one contestant; None where it has none."""
    values = [each[what] for each in case["rounds"].get(name, []) if what in each]
    return median(values) if values else None


def verdict(is_met: bool, counts: bool) -> str:
    word = "met" if is_met else "not met"
    return word if counts else f"({word} at this size)"
