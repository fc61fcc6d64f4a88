"""How a list that is too long for one mail is shared out over several."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date
from math import ceil
from typing import NamedTuple


class Part(NamedTuple):
    """One of the parts of a list."""

    number: int
    of: int
    share: tuple[int, ...]
    """All calls that fall to it, whether or not they went already."""
    calls: tuple[int, ...]
    """Those that have still to go."""


def share_out(whole: Sequence[int], still_to_go: Collection[int], parts: int) -> list[Part]:
    """The parts of a list that have still to go, each with those of its calls that have; equal shares in the list's order.

    The shares follow from the whole list, so that a run after a crash cuts it as the first one did.

    >>> share_out([1, 2, 3, 4, 5], {4, 5}, 2)
    [Part(number=2, of=2, share=(4, 5), calls=(4, 5))]
    """
    size = ceil(len(whole) / parts)
    cut = [whole[start : start + size] for start in range(0, len(whole), size)]
    wanted = set(still_to_go)
    return [
        Part(number, len(cut), tuple(share), calls)
        for number, share in enumerate(cut, start=1)
        if (calls := tuple(call for call in share if call in wanted))
    ]


def parts_needed(rows: int, size_bytes: int, *, max_rows: int, max_bytes: int) -> int:
    """In how many parts a list of so many rows goes, which as one workbook has so many bytes.

    A tenth is left for what each part has besides its rows.

    >>> parts_needed(170, 25_000, max_rows=100, max_bytes=8_000_000), parts_needed(170, 25_000, max_rows=500, max_bytes=10_000)
    (2, 3)
    """
    return max(1, ceil(rows / max_rows), ceil(size_bytes / (max_bytes * 0.9)))


def supplement_number(
    share: Collection[int], days: Collection[date], sent: Sequence[tuple[date, Collection[int]]]
) -> int:
    """Which supplement a part of a list is, 0 for the month's first list; `sent` are earlier mails' days and calls.

    `share` are all calls that fall to the part. The parts of one list count as one; a mail that brought some of this very
    share, as before a hand-over, was another list.

    >>> from datetime import date
    >>> first, later = date(2026, 3, 2), date(2026, 3, 16)
    >>> supplement_number([3, 4], {first}, [(first, {1, 2})]), supplement_number([9], {later}, [(first, {1}), (first, {3})])
    (0, 1)
    """
    others = {day for day, _ in sent if day not in days}
    same = sum(not set(share).isdisjoint(calls) for day, calls in sent if day in days)
    return len(others) + same
