"""One table from many files, blocks and orders: always the same snapshot, and every row counted once."""

from __future__ import annotations

import gzip
import random
import zipfile
from datetime import date
from pathlib import Path

import ibis
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from demo.brokerage import build_extracts
from models.canonical import TABLES
from models.frame import activity
from models.framing import FramingError, HeaderError
from models.profile import Profile
from tasks.lake import IntakeResult, connect, open_activity, open_table, read_rejected, rows, take_in
from tasks.settings import PROJECT, Settings, read_yaml
from tasks.source import SourceError, open_delivery

CANONICAL = read_yaml(PROJECT / "profiles" / "canonical.yaml", Profile)
YEAR_END = date(2025, 12, 31)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "var", engine_memory="1GB")


@pytest.fixture(scope="module")
def extracts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("house")
    build_extracts(folder, customers=1_200, branches=6, seed=5, year_end=YEAR_END)
    return folder


ENOUGH = ("branches", "customers", "transactions")


def pull(settings: Settings, inbox: Path, only: tuple[str, ...] = ENOUGH, **changes: object) -> dict[str, IntakeResult]:
    content = CANONICAL.model_dump(by_alias=True, exclude_unset=True) | {"settle_seconds": 0} | changes
    profile = Profile.model_validate(content | {"tables": {t: content["tables"][t] for t in only}})
    results: dict[str, IntakeResult] = {}
    with open_delivery(settings, profile, inbox) as delivery:
        for name, files in delivery.items():
            known = {done: result.path for done, result in results.items()}
            results[name] = take_in(settings, profile, name, files, as_of=YEAR_END, known=known)
    return results


def copied(source: Path, to: Path) -> Path:
    to.mkdir()
    for file in source.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    return to


def said(results: dict[str, IntakeResult]) -> dict[str, object]:
    """What must not depend on blocks, files or order."""
    return {
        name: (r.content_sha256, r.rows, r.accepted, r.ignored, r.rejected, r.tallies) for name, r in results.items()
    }


def test_blocks_of_any_size_lead_to_the_same_snapshot(
    settings: Settings, extracts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pull(settings, extracts)
    monkeypatch.setattr(rows, "BLOCK_BYTES", 20_000)
    monkeypatch.setattr(rows, "READ_BYTES", 7_000)
    small = pull(Settings(home=tmp_path / "other"), extracts)
    assert said(small) == said(whole)
    assert {n: r.rejected_sha256 for n, r in small.items()} == {n: r.rejected_sha256 for n, r in whole.items()}


def test_rows_in_any_order_lead_to_the_same_content(
    settings: Settings, extracts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pull(settings, extracts, tuple(TABLES))
    shuffled = copied(extracts, tmp_path / "shuffled")
    for name in ("customers", "transactions", "relations", "staff"):
        header, *lines = (shuffled / f"{name}.csv").read_text(encoding="utf-8").splitlines(keepends=True)
        random.Random(3).shuffle(lines)
        (shuffled / f"{name}.csv").write_text(header + "".join(lines), encoding="utf-8")
    monkeypatch.setattr(rows, "BLOCK_BYTES", 20_000)
    monkeypatch.setattr(rows, "READ_BYTES", 7_000)
    monkeypatch.setattr("tasks.lake.intake.RANGE_ROWS", 700)
    monkeypatch.setattr("tasks.lake.intake.RUN_ROW_GROUP", 100)
    again = pull(Settings(home=tmp_path / "other"), shuffled, tuple(TABLES))
    assert said(again) == said(whole)


def test_activity_counted_while_rows_stream_by_is_the_expression_over_the_snapshot(
    settings: Settings, extracts: Path
) -> None:
    taken = pull(settings, extracts)["transactions"]
    con = connect(settings)
    computed = activity(open_table(settings, taken.path, con)).order_by("customer_id").to_pandas()
    kept = open_activity(settings, taken.path, con).to_pandas()
    pd.testing.assert_frame_equal(kept, computed, check_dtype=False)
    assert len(kept) > 300


def test_an_id_that_comes_again_in_a_later_file_or_block_is_rejected_there(
    settings: Settings, extracts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied(extracts, tmp_path / "doubled")
    header, *lines = (folder / "customers.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "customers.csv").unlink()
    (folder / "customers_1.csv").write_text(header + "".join(lines[:800]) + lines[7], encoding="utf-8")
    (folder / "customers_2.csv").write_text(header + lines[5] + "".join(lines[800:]) + lines[900], encoding="utf-8")
    monkeypatch.setattr(rows, "BLOCK_BYTES", 20_000)
    monkeypatch.setattr(rows, "READ_BYTES", 7_000)
    whole, taken = pull(Settings(home=tmp_path / "other"), extracts)["customers"], pull(settings, folder)["customers"]
    assert (taken.content_sha256, taken.accepted, taken.rejected) == (whole.content_sha256, whole.accepted, 3)
    listed = read_rejected(settings, taken.path)
    assert set(zip(listed["file"], listed["row_number"], listed["reason"], strict=True)) == {
        ("customers_1.csv", 802, "duplicate_id"), ("customers_2.csv", 2, "duplicate_id"),
        ("customers_2.csv", 403, "duplicate_id"),
    }  # fmt: skip
    assert [(f.rows, f.rejected) for f in taken.files] == [(801, 1), (402, 2)]


@pytest.mark.parametrize("packing", ["zip", "gz", "parquet", "mac", "windows", "blank lines", "bar"])
def test_one_table_in_any_packing_is_the_same_table(
    settings: Settings, extracts: Path, tmp_path: Path, packing: str
) -> None:
    folder = copied(extracts, tmp_path / "packed")
    file, changes = folder / "transactions.csv", {}
    data = file.read_bytes()
    if packing == "zip":
        file.unlink()
        with zipfile.ZipFile(folder / "transactions.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("交易.csv", data)
    elif packing == "gz":
        file.unlink()
        (folder / "transactions.csv.gz").write_bytes(gzip.compress(data[:9_999]) + gzip.compress(data[9_999:]))
    elif packing == "parquet":
        file.unlink()
        lines = [line.split(",") for line in data.decode().splitlines()]
        columns = [pa.array(column) for column in zip(*lines[1:], strict=True)]
        pq.write_table(pa.table(columns, names=lines[0]), folder / "transactions.parquet", row_group_size=1_000)
    elif packing == "mac":
        file.write_bytes(data.replace(b"\n", b"\r"))
    elif packing == "windows":
        file.write_bytes(b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n"))
    elif packing == "blank lines":
        file.write_bytes(data.replace(b"\n", b"\n\n", 40) + b"\n\n\n")
    else:
        tables = CANONICAL.model_dump(by_alias=True, exclude_unset=True)["tables"]
        tables["transactions"]["form"] = {"delimiter": "|", "quote": "none"}
        file.write_bytes(data.replace(b",", b"|"))
        changes = {"tables": tables}
    assert (
        said(pull(settings, folder, **changes))["transactions"]
        == said(pull(Settings(home=tmp_path / "other"), extracts))["transactions"]
    )


def test_row_numbers_count_empty_lines_so_that_they_are_those_of_an_editor(settings: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "inbox"
    folder.mkdir()
    (folder / "branches.csv").write_text("branch_no,branch_name,region\n\n0001,甲,\n\n\n,乙,\n\n", encoding="utf-8")
    profile = CANONICAL.model_copy(update={"tables": {"branches": CANONICAL.tables["branches"]}, "settle_seconds": 0})
    with open_delivery(settings, profile, folder) as delivery:
        taken = take_in(settings, profile, "branches", delivery["branches"], as_of=YEAR_END, known={})
    assert (taken.rows, taken.accepted) == (2, 1)
    assert list(read_rejected(settings, taken.path)["row_number"]) == [6]


TRAILER = {"trailer": "^T,", "pattern": r"rows=(?P<rows>[0-9]+),total=(?P<amount_cny>[0-9.]+)"}


@pytest.mark.parametrize(
    ("line", "refusal"),
    [
        ("T,rows=2,total=30.50\n", None),
        ("T,rows=3,total=30.50\n", r"trailer of transactions\.csv says 3 rows, the file has 2"),
        ("T,rows=2,total=30.51\n", r"says 30\.51 in total for amount_cny, the rows add up to 30\.5"),
        ("", r"the last line is not the trailer"),
    ],
)
def test_a_trailer_is_no_row_and_its_counts_and_totals_must_hold(
    settings: Settings, extracts: Path, tmp_path: Path, line: str, refusal: str | None
) -> None:
    folder = copied(extracts, tmp_path / "trailed")
    ids = (extracts / "customers.csv").read_text(encoding="utf-8").splitlines()[1].split(",")[0]
    (folder / "transactions.csv").write_text(
        "transaction_id,customer_id,traded_on,kind,amount_cny\n"
        f"T1,{ids},2025-12-01,buy,10.00\nT2,{ids},2025-12-01,sell,20.50\n" + line, encoding="utf-8",
    )  # fmt: skip
    tables = CANONICAL.model_dump(by_alias=True, exclude_unset=True)["tables"]
    tables["transactions"]["form"] = {"complete": TRAILER}
    if refusal is None:
        assert pull(settings, folder, tables=tables)["transactions"].accepted == 2
        return
    with pytest.raises(FramingError, match=refusal):
        pull(settings, folder, tables=tables)
    assert not (settings.lake / "transactions").exists()
    assert not list((settings.lake / ".work").glob("intake-*"))


def _spoil(folder: Path, how: str) -> None:
    file = folder / "transactions.csv"
    data = file.read_bytes()
    header, rest = data.split(b"\n", 1)
    if how == "columns swapped under their names":
        file.write_bytes(header.replace(b"transaction_id,customer_id", b"customer_id,transaction_id") + b"\n" + rest)
    elif how == "a thousand columns":
        file.write_bytes(data + b"x" + b",x" * 999 + b"\n")
    elif how == "a header missing":
        file.write_bytes(rest)
    elif how == "a header doubled":
        file.write_bytes(header.replace(b"kind", b"traded_on") + b"\n" + rest)
    elif how == "a second header in the middle":
        file.write_bytes(data + header + b"\n")
    elif how == "only zeros":
        file.write_bytes(b"\0" * 5_000)
    elif how == "a bomb":
        file.unlink()
        with zipfile.ZipFile(folder / "transactions.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("transactions.csv", header + b"\n" + b"\n" * 300_000_000)
    elif how == "a path out of the archive":
        file.unlink()
        with zipfile.ZipFile(folder / "transactions.zip", "w") as archive:
            archive.writestr("../transactions.csv", data)
    elif how == "UTF-16":
        file.write_bytes(data.decode().encode("utf-16"))
    elif how == "a workbook that is none":
        file.unlink()
        (folder / "transactions.parquet").write_bytes(b"PAR1 no PAR1")


@pytest.mark.parametrize(
    ("how", "error", "refusal"),
    [
        ("a thousand columns", FramingError, "1000 columns where the header has 5"),
        ("a header missing", HeaderError, r"transactions\.csv .*no column transaction_id"),
        ("a header doubled", HeaderError, "names traded_on more than once"),
        ("only zeros", HeaderError, r"transactions\.csv"),
        ("a bomb", (SourceError, FramingError, Exception), "bomb"),
        ("a path out of the archive", Exception, r"transactions\.zip"),
        ("UTF-16", HeaderError, "UTF-16"),
        ("a workbook that is none", FramingError, "no readable Parquet"),
    ],
)
def test_bad_input_ends_in_a_clear_refusal_and_leaves_nothing_half_loaded(
    settings: Settings, extracts: Path, tmp_path: Path, how: str, error: type[Exception], refusal: str
) -> None:
    folder = copied(extracts, tmp_path / "spoilt")
    _spoil(folder, how)
    with pytest.raises(error, match=refusal):
        pull(settings, folder)
    assert not (settings.lake / "transactions").exists()


@pytest.mark.parametrize("how", ["columns swapped under their names", "a second header in the middle"])
def test_what_can_be_told_by_rows_is_told_by_rows(settings: Settings, extracts: Path, tmp_path: Path, how: str) -> None:
    whole = pull(Settings(home=tmp_path / "other"), extracts)["transactions"]
    folder = copied(extracts, tmp_path / "spoilt")
    _spoil(folder, how)
    if how == "a second header in the middle":
        with pytest.raises(Exception, match=r"unknown code 'kind' × 1"):
            pull(settings, folder)
        return
    taken = pull(settings, folder)["transactions"]
    assert (taken.rows, taken.accepted) == (whole.rows, 0)


def test_a_nul_and_a_bad_byte_reject_their_row_wherever_it_stands(
    settings: Settings, extracts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pull(Settings(home=tmp_path / "other"), extracts)["transactions"]
    folder = copied(extracts, tmp_path / "bytes")
    lines = (folder / "transactions.csv").read_bytes().splitlines(keepends=True)
    good = [
        n for n, line in enumerate(lines) if n and b"-32," not in line and b"1O0" not in line and b",99" not in line
    ]
    lines[good[10]] = lines[good[10]].replace(b",", b"\0,", 1)
    lines[good[-5]] = lines[good[-5]].replace(b",", b"\xff,", 1)
    (folder / "transactions.csv").write_bytes(b"".join(lines))
    monkeypatch.setattr(rows, "BLOCK_BYTES", 20_000)
    monkeypatch.setattr(rows, "READ_BYTES", 7_000)
    taken = pull(settings, folder)["transactions"]
    assert taken.rejected == whole.rejected + 2
    listed = read_rejected(settings, taken.path)
    assert sorted(listed.loc[listed["reason"] == "bad_byte", "row_number"]) == [good[10] + 1, good[-5] + 1]


def test_the_ids_of_ten_thousand_customers_are_each_found_and_no_other(tmp_path: Path) -> None:
    from tasks.lake.proven import hashes_of
    from tasks.lake.referred import OTHERS, build_references

    ids = [f"C{n:06}" for n in range(10_000)]
    pq.write_table(pa.table({"customer_id": ids}), tmp_path / "accepted.parquet")
    others = pa.table(
        [["X1", "X2", "X2", "C000001"], ["rejected", "ignored", "rejected", "rejected"], ["missing", "t", "a", "b"]],
        schema=OTHERS,
    )
    pq.write_table(others, tmp_path / "others.parquet")
    con = ibis.duckdb.connect().con
    known = build_references(con, tmp_path, "customer_id", None)
    asked = pa.array([*ids[::-1], "X1", "X2", "nobody", None, ""])
    found = known.find(asked, hashes_of(con, asked))
    assert found["value"].to_pylist() == [*ids[::-1], None, None, None, None, None]
    assert found["rejected"].to_pylist()[-5:] == [True, True, None, None, None]
    assert found["ignored"].to_pylist()[-5:] == [None, "t", None, None, None]


def test_floats_of_a_typed_table_are_spelled_without_exponent_and_no_number_is_no_value(tmp_path: Path) -> None:
    from tasks.lake.rows import _as_text

    spelled = _as_text(pa.array([12345678901.0, 12345678901.23, 0.5, float("nan"), None, 1e16]))
    assert spelled.to_pylist() == ["12345678901", "12345678901.23", "0.5", None, None, "10000000000000000"]


def test_a_text_column_of_a_typed_table_with_bad_bytes_rejects_those_rows(settings: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "typed"
    folder.mkdir()
    names = pa.array([b"\xe7\x94\xb2", b"\xff\xfe", b"\xe4\xb9\x99"]).cast(pa.binary())
    table = pa.table({"branch_no": ["1", "2", "3"], "branch_name": names.view(pa.string()), "region": ["", "", ""]})
    pq.write_table(table, folder / "branches.parquet")
    content = CANONICAL.model_dump(by_alias=True, exclude_unset=True) | {"settle_seconds": 0}
    content["tables"] = {"branches": content["tables"]["branches"] | {"files": ["branches.parquet"]}}
    profile = Profile.model_validate(content)
    with open_delivery(settings, profile, folder) as delivery:
        taken = take_in(settings, profile, "branches", delivery["branches"], as_of=YEAR_END, known={})
    assert (taken.accepted, taken.rejected) == (2, 1)
    assert list(read_rejected(settings, taken.path)["reason"]) == ["bad_byte"]


def test_utf8_under_a_gb18030_profile_is_refused_and_not_taken_for_other_characters(
    settings: Settings, extracts: Path
) -> None:
    with pytest.raises(FramingError, match=r"is UTF-8, and the profile says gb18030"):
        pull(settings, extracts, encoding="gb18030")


def test_totals_are_read_as_the_profile_spells_numbers(settings: Settings, extracts: Path, tmp_path: Path) -> None:
    folder = copied(extracts, tmp_path / "comma")
    owner = (extracts / "customers.csv").read_text(encoding="utf-8").splitlines()[1].split(",")[0]
    (folder / "transactions.csv").write_text(
        "transaction_id|customer_id|traded_on|kind|amount_cny\n"
        f"T1|{owner}|2025-12-01|buy|1.000,50\nT2|{owner}|2025-12-01|sell|1.000,50\nT,rows=2,total=2001.00\n",
        encoding="utf-8",
    )
    tables = CANONICAL.model_dump(by_alias=True, exclude_unset=True)["tables"]
    tables["transactions"]["form"] = {"complete": TRAILER, "delimiter": "|"}
    tables["transactions"]["columns"]["amount_cny"] = {"from": "amount_cny", "thousands": ".", "decimal": ","}
    assert pull(settings, folder, tables=tables)["transactions"].accepted == 2
