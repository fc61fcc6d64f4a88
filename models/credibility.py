"""What makes a branch's own results look odd: signals that headquarters is shown and that decide nothing.

Rows of accepted returns in, a count per branch, caller and signal out. A signal is a reason to listen to a recording,
never a reason to reject a row: an honest caller can have every one of them. Knows no query and no layout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from datetime import date
from typing import NamedTuple

import pandas as pd
import pandera.pandas as pa

from models.outcomes import Label

SIGNALS: dict[str, Label] = {
    "same_recording": Label("同一录音用于多个任务", "one recording for several calls"),
    "same_scan": Label("同一签字扫描件用于多个任务", "one scanned signature for several calls"),
    "short_recording": Label("录音时长少于所填回答所需", "a recording shorter than its answers take to say"),
    "staff_phone": Label("客户电话与员工电话相同", "a customer's phone that is one of staff"),
    "burst": Label("5 分钟内登记 20 通及以上", "20 calls or more within 5 minutes"),
    "night": Label("22:00 至 7:00 的回访", "calls between 22:00 and 7:00"),
    "off_day": Label("非工作日的回访", "calls outside workdays"),
    "same_remark": Label("情况说明完全相同", "remarks that are word for word the same"),
    "hq_otherwise": Label("自报无异常而总部发现疑似违规", "clear by the branch, a finding by headquarters"),
}
"""Every signal with its words, the gravest first."""

BURST_CALLS, BURST_MINUTES = 20, 5
SECONDS_AN_ANSWER = 4
"""Less for a question and its answer nobody takes."""
NIGHT_FROM, NIGHT_UNTIL = 22 * 60, 7 * 60
SAME_REMARKS, REMARK_LETTERS = 5, 8
"""So many equal remarks of so many letters or more: a short one, such as 已核实, is said by everybody."""

ROWS = pa.DataFrameSchema(
    {
        "assignment_id": pa.Column(int, coerce=True),
        "customer_id": pa.Column(str, coerce=True),
        "branch_no": pa.Column(str, coerce=True),
        "caller_name": pa.Column(str, coerce=True),
        "called_on": pa.Column(object, pa.Check(lambda day: type(day) is date, element_wise=True, error="a date")),
        "called_at": pa.Column(
            str, pa.Check.str_matches(r"^([0-2]?\d:[0-5]\d(:[0-5]\d)?)?$"), coerce=True
        ),  # '' where none was written
        "outcome": pa.Column(str, coerce=True),
        "remark": pa.Column(str, coerce=True),
        "answered": pa.Column(int, pa.Check.ge(0), coerce=True, required=False),  # of the five legal contents
    },
    strict=True,
    unique=["assignment_id"],
)

FOUND = pa.DataFrameSchema(
    {
        "branch_no": pa.Column(str),
        "caller_name": pa.Column(str),
        "signal": pa.Column(str, pa.Check.isin(list(SIGNALS))),
        "rows": pa.Column(int, pa.Check.ge(1), coerce=True),
        "reported": pa.Column(int, pa.Check.ge(1), coerce=True),  # rows of this caller in all
    },
    strict=True,
    unique=["branch_no", "caller_name", "signal"],
)


class Sent(NamedTuple):
    """One file that names its call: the hash of its bytes, and how long it plays, None where that cannot be told."""

    sha256: str
    call: int
    seconds: float | None = None


def find_signals(
    rows: pd.DataFrame,
    recordings: Iterable[tuple[str, int] | Sent],
    hq_findings: AbstractSet[str],
    is_workday: Callable[[date], bool],
    scans: Iterable[tuple[str, int] | Sent] = (),
    staff_phones: Iterable[tuple[str, date | None, date | None]] = (),
) -> pd.DataFrame:
    """How many rows of each caller carry each signal, see FOUND; the gravest signal first, then by branch and caller.

    rows: the current accepted row of each call, see ROWS; recordings and scans: the audio files and the scanned
    signatures that name their call; hq_findings: customers whom headquarters' own call found something about;
    staff_phones: customers whose phone is one of staff, with the first and the last day on which that person is staff,
    None where nobody wrote it.
    """
    rows = ROWS.validate(rows)
    sounds, pictures = ([Sent(*one) for one in files] for files in (recordings, scans))
    marked = {
        "same_recording": rows["assignment_id"].isin(_shared(sounds)),
        "same_scan": rows["assignment_id"].isin(_shared(pictures)),
        "short_recording": _is_short(rows, sounds),
        "staff_phone": _has_staff_phone(rows, staff_phones),
        "burst": _in_burst(rows),
        "night": _minutes(rows).map(lambda minute: minute >= NIGHT_FROM or 0 <= minute < NIGHT_UNTIL),
        "off_day": rows["called_on"].map(lambda day: not is_workday(day)),
        "same_remark": _is_repeated(rows),
        "hq_otherwise": rows["outcome"].eq("done_clear") & rows["customer_id"].isin(hq_findings),
    }
    keys = ["branch_no", "caller_name"]
    reported = rows.groupby(keys).size().rename("reported").reset_index()
    pieces = [
        rows[is_marked.astype(bool)].groupby(keys).size().rename("rows").reset_index().assign(signal=signal)
        for signal, is_marked in marked.items()
    ]
    found = pd.concat(pieces, ignore_index=True).merge(reported, on=keys)
    order = {signal: place for place, signal in enumerate(SIGNALS)}
    found = found.sort_values(
        ["signal", "branch_no", "rows", "caller_name"],
        key=lambda column: column.map(order) if column.name == "signal" else column,
    )
    return FOUND.validate(found[list(FOUND.columns)].reset_index(drop=True))


def _is_short(rows: pd.DataFrame, sounds: Iterable[Sent]) -> pd.Series[bool]:
    """Whether all of a call's recordings together play for less than its answers take; unmeasured ones say nothing."""
    lasting: dict[int, float] = {}
    unmeasured = set()
    for sound in {(one.sha256, one.call): one for one in sounds}.values():
        if sound.seconds is None:
            unmeasured.add(sound.call)
        else:
            lasting[sound.call] = lasting.get(sound.call, 0.0) + sound.seconds
    if "answered" not in rows:
        return pd.Series(False, index=rows.index)
    seconds = rows["assignment_id"].map(lasting)
    return (seconds < SECONDS_AN_ANSWER * rows["answered"]) & ~rows["assignment_id"].isin(unmeasured)


def _has_staff_phone(
    rows: pd.DataFrame, staff_phones: Iterable[tuple[str, date | None, date | None]]
) -> pd.Series[bool]:
    """Whether the phone of a call's customer was, on the day of the call, that of somebody of the staff."""
    held: dict[str, list[tuple[date, date]]] = {}
    for customer, since, until in staff_phones:
        held.setdefault(customer, []).append((since or date.min, until or date.max))
    calls = zip(rows["customer_id"], rows["called_on"], strict=True)
    marks = [any(since <= day <= until for since, until in held.get(customer, ())) for customer, day in calls]
    return pd.Series(marks, index=rows.index, dtype=bool)


def _shared(files: Iterable[Sent]) -> set[int]:
    """Calls one of whose files is another call's as well."""
    calls: dict[str, set[int]] = {}
    for sha256, call, _ in files:
        calls.setdefault(sha256, set()).add(call)
    return {call for same in calls.values() if len(same) > 1 for call in same}


def _minutes(rows: pd.DataFrame) -> pd.Series[int]:
    """Minute of the day of each call; -1 where no time was written."""
    return (
        rows["called_at"].map(lambda at: int(at.split(":")[0]) * 60 + int(at.split(":")[1]) if at else -1).astype(int)
    )


def _in_burst(rows: pd.DataFrame) -> pd.Series[bool]:
    """Whether a call stands among so many of the same caller, within so few minutes, that nobody can have made them."""
    timed = rows.assign(minute=_minutes(rows))
    timed = timed[timed["minute"] >= 0]
    inside: set[int] = set()
    for _, mine in timed.groupby(["branch_no", "caller_name", "called_on"]):
        ordered = mine.sort_values("minute")
        minutes, calls = ordered["minute"].to_list(), ordered["assignment_id"].to_list()
        start = 0
        for end, minute in enumerate(minutes):
            while minute - minutes[start] > BURST_MINUTES:
                start += 1
            if end - start + 1 >= BURST_CALLS:
                inside.update(calls[start : end + 1])
    return rows["assignment_id"].isin(inside)


def _is_repeated(rows: pd.DataFrame) -> pd.Series[bool]:
    """Whether a caller wrote a row's remark, blanks aside, in so many rows."""
    plain = rows["remark"].str.replace(r"\s+", "", regex=True)
    times = plain.groupby([rows["branch_no"], rows["caller_name"], plain]).transform("size")
    return (plain.str.len() >= REMARK_LETTERS) & (times >= SAME_REMARKS)
