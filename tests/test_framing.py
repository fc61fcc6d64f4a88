"""Where a record ends: by Python's own csv module, for any bytes that it can read."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.framing import (
    HeaderError,
    count_records,
    cut,
    filled_records,
    header_names,
    record_ends,
    refuse_line_ends,
    refuse_quotes,
)

CELLS = st.text(st.sampled_from('ab,"\n张 '), max_size=5)
TABLES = st.lists(st.lists(CELLS, min_size=2, max_size=3), min_size=1, max_size=6)


def written(rows: list[list[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


@given(TABLES)
def test_records_are_counted_as_the_csv_module_reads_them(rows: list[list[str]]) -> None:
    data = written(rows)
    assert count_records(data, True) == len(rows) == len(record_ends(data, True))
    assert refuse_quotes(data, ",") is None


@given(TABLES, st.integers(0, 200))
def test_a_cut_never_falls_within_a_field_of_several_lines(rows: list[list[str]], at: int) -> None:
    data = written(rows)
    end = cut(data[:at], True)
    whole = list(csv.reader(io.StringIO(data[:end].decode(), newline="")))
    assert whole == rows[: len(whole)]
    rest = list(csv.reader(io.StringIO(data[end:].decode(), newline="")))
    assert whole + rest == rows


@given(st.lists(st.sampled_from([b"a,b", b"", b'"x\n\ny",1', b"c,d"]), max_size=8), st.sampled_from([b"\n", b"\r\n"]))
def test_empty_lines_are_found_and_counted_but_not_within_quotes(lines: list[bytes], end: bytes) -> None:
    data = b"".join(line + end for line in lines)
    filled = filled_records(data, True)
    expected = [n for n, line in enumerate(lines) if line]
    if filled is None:
        assert expected == list(range(len(lines)))
    else:
        assert list(filled) == expected


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'a,b"c\n', (0, "a quotation mark within a field")),
        (b'x,y\na,"b"c\n', (1, "a quotation mark within a field")),
        (b'x,y\na,"b\n', (1, "a quotation mark that is never closed")),
    ],
)
def test_a_quotation_mark_out_of_place_is_named_by_its_line(data: bytes, said: tuple[int, str]) -> None:
    found = refuse_quotes(data, ",")
    assert found is not None
    assert (found[0], found[1][: len(said[1])]) == said


def test_a_carriage_return_without_its_line_feed_is_refused_unless_quoted() -> None:
    assert refuse_line_ends(b"a,b\r\nc,d\r\n", True) is None
    assert refuse_line_ends(b"a,b\nc\rd,e\n", True) == 1
    assert refuse_line_ends(b'a,"b\rc"\n', True) is None
    assert refuse_line_ends(b'a,"b\rc"\n', False) == 0


def test_a_header_that_cannot_be_read_is_refused() -> None:
    assert header_names("\ufeffA|　B |C\r\n", "|", True, "x.csv") == ["A", "B", "C"]
    with pytest.raises(HeaderError, match=r"x\.csv: no header can be read"):
        header_names('a,"b"c\n', ",", True, "x.csv")
