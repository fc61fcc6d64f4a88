"""What is proven by its bytes is what the rules accept, with the same value: a proof spares work and decides nothing."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.canonical import ID, LABEL, LINE, PHONE, TABLES, has_checksum
from models.extracts import clean_text
from models.proofs import (
    form_of,
    is_amount,
    is_clean,
    is_id,
    is_id_no,
    is_label,
    is_line,
    is_phone,
    is_plain,
    is_whole,
    lay_out,
)

ALPHABET = "0123456789aZ_.-+()/ \t'\u3000\u00a0\ufeff０Ａ张,\"*|\n\x7f1"
TEXTS = st.lists(st.text(st.sampled_from(ALPHABET), max_size=24), min_size=1, max_size=12)
ODD_NUMBERS = ["", "1.", ".5", "-", "--1", "1-2", "1.2.3", "-0.00", "007.50", "1O0.00"]
NUMBERS = st.lists(
    st.one_of(st.from_regex(r"-?[0-9]{1,18}(\.[0-9]{0,3})?", fullmatch=True), st.sampled_from(ODD_NUMBERS)),
    min_size=1, max_size=12,
)  # fmt: skip


def cleaned(texts: list[str]) -> list[str | None]:
    import ibis

    frame = ibis.memtable(pd.DataFrame({"n": range(len(texts)), "t": pd.Series(texts, dtype="str")}))
    plain = frame.mutate(tidy=clean_text(frame.t), free=clean_text(frame.t, True)).order_by("n").to_pandas()
    return [
        (None if pd.isna(a) else a, None if pd.isna(b) else b)
        for a, b in zip(plain["tidy"], plain["free"], strict=True)
    ]  # type: ignore[misc]


@pytest.mark.parametrize(
    ("proof", "pattern", "is_free"),
    [
        (is_id, ID, False),
        (is_label, LABEL, False),
        (is_line, LINE, True),
        (is_phone, PHONE, False),
        (is_clean, "", False),
    ],
    ids=["id", "label", "line", "phone", "clean"],
)
@settings(max_examples=40, deadline=None)
@given(texts=TEXTS)
def test_a_proven_text_is_what_cleaning_leaves_and_passes_its_checks(
    proof: object, pattern: str, is_free: bool, texts: list[str]
) -> None:
    proven = proof(lay_out(pa.array(texts)))  # type: ignore[operator]
    columns = [c for t in TABLES.values() for c in t.columns.values() if form_of(c) is proof]
    for text, is_proven, (tidy, free) in zip(texts, proven, cleaned(texts), strict=True):
        if not is_proven:
            continue
        assert (free if is_free else tidy) == (text or None)
        for column in columns if text else []:
            for check in column.checks:
                if check.name in ("str_matches", "str_length"):
                    assert check(pd.Series([text])).check_passed, (text, check)


@given(st.lists(st.from_regex(r"[0-9]{17}[0-9Xxa]|[0-9]{15}|[A-Z][0-9]{8}", fullmatch=True), min_size=1, max_size=20))
def test_a_proven_number_has_its_check_character(numbers: list[str]) -> None:
    assert list(is_id_no(lay_out(pa.array(numbers)))) == [has_checksum(n) for n in numbers]


@given(NUMBERS)
def test_a_proven_amount_is_read_exactly_and_a_plain_one_is_spelled_so(texts: list[str]) -> None:
    layout = lay_out(pa.array(texts))
    proven = is_amount(layout)
    for text, is_proven in zip(texts, proven, strict=True):
        if is_proven and text:
            assert pd.Series([text]).str.fullmatch(r"[+-]?[0-9]{1,16}([.][0-9]{0,2}0*)?").all(), text
    is_good = proven & (layout.lengths > 0)
    good = [t for t, g in zip(texts, is_good, strict=True) if g]
    if good and is_plain(layout, is_good):
        assert pa.array(good).cast(pa.decimal128(18, 2)).cast(pa.string()).to_pylist() == good


@given(NUMBERS)
def test_a_proven_number_of_fen_is_whole(texts: list[str]) -> None:
    for text, is_proven in zip(texts, is_whole(lay_out(pa.array(texts))), strict=True):
        if is_proven and text:
            assert pd.Series([text]).str.fullmatch(r"-?[0-9]{1,16}").all(), text


def test_a_slice_of_a_column_is_laid_out_as_itself() -> None:
    column = pa.array(["张", "a1", None, "b-2", "_c"]).slice(1)
    assert list(is_id(lay_out(column))) == [True, True, True, False]
