"""From files in a folder to snapshots in the lake: what is taken in, what is refused, and that it all balances."""

from __future__ import annotations

import csv
import fcntl
import gzip
import hashlib
import io
import os
import stat
from datetime import date
from pathlib import Path

import ibis
import pyarrow.parquet as pq
import pytest

from models.canonical import TABLES
from models.extracts import HeaderError, UnknownCode
from models.profile import Profile
from tasks.lake import (
    FramingError,
    IntakeResult,
    LakeError,
    connect,
    open_table,
    read_rejected,
    take_in,
    text_sha256,
    write_in_order,
    write_table,
)
from tasks.settings import PROJECT, Settings, read_yaml
from tasks.source import SourceError, open_delivery

BERKA = PROJECT.parent / "shared" / "data" / "berka"
CANONICAL = read_yaml(PROJECT / "profiles" / "canonical.yaml", Profile)
YEAR_END = date(2025, 12, 31)

BRANCHES = "branch_no,branch_name,region\n0001,北京路营业部,华北\n0002,南京路营业部,华东\n"
CUSTOMERS = """\
customer_id,customer_name,phone,id_no,branch_no,segment,risk_level,status,open_on,close_on
C001,张三,13800138000,,0001,普通,C3,active,2020-01-31,
C002,李四,,,0002,普通,,dormant,2019-05-01,
C003,"王,五",,,0002,"高净值",,closed,2018-05-01,2024-01-02
"""
ROSTER = "branch_no,role,contact_name,email,valid_from,valid_to\nHQ,compliance,陈六,c@hq.example,2020-01-01,\n"


def profile_of(*tables: str, **changes: object) -> Profile:
    content = CANONICAL.model_dump(by_alias=True, exclude_unset=True) | {"settle_seconds": 0} | changes
    content["tables"] = {name: content["tables"][name] for name in tables}
    return Profile.model_validate(content)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "var", engine_memory="1GB", engine_threads=1)


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    (folder / "branches.csv").write_text(BRANCHES, encoding="utf-8")
    (folder / "customers.csv").write_text(CUSTOMERS, encoding="utf-8")
    return folder


def pull(settings: Settings, profile: Profile, inbox: Path, roster: Path | None = None) -> dict[str, IntakeResult]:
    """Takes in a whole delivery, and holds it against the balance of DESIGN §3.6, in total and per file."""
    results: dict[str, IntakeResult] = {}
    with open_delivery(settings, profile, inbox, roster) as delivery:
        for name, files in delivery.items():
            known = {done: result.path for done, result in results.items()}
            results[name] = take_in(settings, profile, name, files, as_of=YEAR_END, known=known)
    for name, found in results.items():
        assert found.rows == found.accepted + found.ignored + found.rejected
        assert all(f.rows == f.accepted + f.ignored + f.rejected for f in found.files)
        assert sum(f.rows for f in found.files) == found.rows
        for verdict in ("ignored", "rejected"):
            assert sum(t.rows for t in found.tallies if t.verdict == verdict) == getattr(found, verdict)
        accepted = open_table(settings, found.path).to_pandas()
        assert len(accepted) == found.accepted
        TABLES[name].validate(accepted)
        assert len(read_rejected(settings, found.path)) == found.rejected
    return results


def reasons(result: IntakeResult) -> dict[tuple[str, str], int]:
    return {(t.rule, t.column_name): t.rows for t in result.tallies}


def text_hash(header: list[str], rows: list[list[str]]) -> str:
    """The hash of DESIGN §3.5 by the standard library alone."""
    lines = []
    for row in rows:
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(row)
        lines.append((row[0].encode(), line.getvalue().encode()))
    return hashlib.sha256((",".join(header) + "\n").encode() + b"".join(line for _, line in sorted(lines))).hexdigest()


def test_a_snapshots_hash_is_what_the_standard_library_computes(settings: Settings, inbox: Path) -> None:
    taken = pull(settings, profile_of("branches", "customers"), inbox)["customers"]
    header, *rows = csv.reader(io.StringIO(CUSTOMERS))
    assert taken.content_sha256 == text_hash(header, rows)
    assert (taken.rows, taken.accepted) == (3, 3)
    assert (settings.lake / "raw" / taken.files[0].sha256).read_text(encoding="utf-8") == CUSTOMERS


def test_what_lies_in_the_lake_is_the_services_alone(settings: Settings, inbox: Path) -> None:
    pull(settings, profile_of("branches", "customers"), inbox)
    for path in settings.lake.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert not list((settings.lake / ".work").glob("intake-*"))


def test_a_repeated_pull_finds_the_same_folder_and_changes_nothing(settings: Settings, inbox: Path) -> None:
    first = pull(settings, profile_of("branches", "customers"), inbox)
    before = {path: path.stat().st_mtime_ns for path in settings.lake.rglob("*.parquet")}
    assert pull(settings, profile_of("branches", "customers"), inbox) == first
    assert {path: path.stat().st_mtime_ns for path in settings.lake.rglob("*.parquet")} == before


def test_the_order_of_the_rows_does_not_change_the_content(settings: Settings, inbox: Path) -> None:
    first = pull(settings, profile_of("branches", "customers"), inbox)["customers"]
    header, *rows = CUSTOMERS.splitlines(keepends=True)
    (inbox / "customers.csv").write_text(header + "".join(reversed(rows)), encoding="utf-8")
    again = pull(settings, profile_of("branches", "customers"), inbox)["customers"]
    assert again.content_sha256 == first.content_sha256
    assert again.files[0].sha256 != first.files[0].sha256


def test_equal_accepted_rows_beside_other_rejected_rows_are_another_snapshot(settings: Settings, inbox: Path) -> None:
    first = pull(settings, profile_of("branches", "customers"), inbox)["customers"]
    with (inbox / "customers.csv").open("a", encoding="utf-8") as file:
        file.write("C004,,,,0001,普通,,active,2020-01-31,\n")
    second = pull(settings, profile_of("branches", "customers"), inbox)["customers"]
    assert second.content_sha256 == first.content_sha256
    assert second.path != first.path
    assert len(read_rejected(settings, first.path)) == 0


def test_planted_faults_are_found_exactly_and_pull_their_transactions_along(settings: Settings, inbox: Path) -> None:
    planted = {
        "duplicate": ["C001,张三,,,0001,普通,,active,2020-01-31,"] * 3,
        "branch": [f"B{i:03},张三,,,0404,普通,,active,2020-01-31," for i in range(5)],
        "form": [f"F{i:03},张三,,,0001,普通,,active,31/01/2020," for i in range(4)],
        "day": [f"D{i:03},张三,,,0001,普通,,active,2026-02-30," for i in range(2)],
        "name": [f"N{i:03},　,,,0001,普通,,active,2020-01-31," for i in range(6)],
        "fine": [f"X{i:03},张三,,,０００１,普通,,active,2020-01-31," for i in range(100)],
    }
    rows = [row for group in planted.values() for row in group]
    (inbox / "customers.csv").write_text(CUSTOMERS + "\n".join(rows) + "\n", encoding="utf-8")
    (inbox / "transactions_1.csv").write_text(
        "transaction_id,customer_id,traded_on,kind,amount_cny\n"
        "T1,C001,2026-01-05,buy,10.00\nT2,D000,2026-01-05,buy,10\nT3,N001,2026-01-05,sell,1\n", encoding="utf-8",
    )  # fmt: skip
    (inbox / "transactions_2.csv").write_text(
        "customer_id,transaction_id,traded_on,kind,amount_cny\nNOBODY,T4,2026-01-05,buy,1\nC002,T1,2026-01-05,fee,1\n",
        encoding="utf-8",
    )
    taken = pull(settings, profile_of("branches", "customers", "transactions"), inbox)
    assert reasons(taken["customers"]) == {
        ("duplicate_id", "customer_id"): 3,
        ("unknown_branch", "branch_no"): 5,
        ("bad_date", "open_on"): 4,
        ("impossible_date", "open_on"): 2,
        ("missing", "customer_name"): 6,
    }
    assert taken["customers"].accepted == 103
    assert reasons(taken["transactions"]) == {
        ("customer_not_accepted", "customer_id"): 2,
        ("orphan", "customer_id"): 1,
        ("duplicate_id", "transaction_id"): 1,
    }
    assert [(f.name, f.rows, f.accepted) for f in taken["transactions"].files] == [
        ("transactions_1.csv", 3, 1), ("transactions_2.csv", 2, 0),
    ]  # fmt: skip
    rejected = read_rejected(settings, taken["transactions"].path)
    assert set(map(tuple, rejected[["file", "row_number", "reason", "key"]].to_numpy())) == {
        ("transactions_1.csv", 3, "customer_not_accepted", "T2"),
        ("transactions_1.csv", 4, "customer_not_accepted", "T3"),
        ("transactions_2.csv", 2, "orphan", "T4"),
        ("transactions_2.csv", 3, "duplicate_id", "T1"),
    }


@pytest.mark.parametrize("encoding", ["gb18030", "utf-8-sig"])
def test_encodings_lead_to_the_same_content(settings: Settings, inbox: Path, encoding: str) -> None:
    first = pull(settings, profile_of("branches", "customers"), inbox)
    for name, text in (("branches.csv", BRANCHES), ("customers.csv", CUSTOMERS)):
        (inbox / name).write_bytes(text.encode(encoding))
    again = pull(settings, profile_of("branches", "customers", encoding=encoding), inbox)
    assert {n: r.content_sha256 for n, r in again.items()} == {n: r.content_sha256 for n, r in first.items()}
    assert again["customers"].files[0].sha256 != first["customers"].files[0].sha256


def test_gb18030_is_decoded_before_it_is_split(settings: Settings, inbox: Path) -> None:
    # The second byte of 亅 is a vertical bar in GB18030.
    assert "亅".encode("gb18030")[1:] == b"|"
    text = CUSTOMERS.replace('"王,五"', "王亅").replace('"高净值"', "高净值").replace(",", "|")
    (inbox / "customers.csv").write_bytes(text.encode("gb18030"))
    (inbox / "branches.csv").write_bytes(BRANCHES.replace(",", "|").encode("gb18030"))
    taken = pull(settings, profile_of("branches", "customers", encoding="gb18030", delimiter="|"), inbox)["customers"]
    assert taken.accepted == 3
    assert "王亅" in list(open_table(settings, taken.path).to_pandas()["customer_name"])


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030"])
def test_a_byte_that_does_not_decode_rejects_its_row_alone(settings: Settings, inbox: Path, encoding: str) -> None:
    (inbox / "branches.csv").write_bytes(BRANCHES.encode(encoding))
    (inbox / "customers.csv").write_bytes(CUSTOMERS.encode(encoding).replace("李四".encode(encoding), b"\xff\xfe"))
    taken = pull(settings, profile_of("branches", "customers", encoding=encoding), inbox)["customers"]
    assert reasons(taken) == {("bad_byte", ""): 1}
    assert list(read_rejected(settings, taken.path)["row_number"]) == [3]


def test_gzip_is_read_and_a_cut_off_one_refused(settings: Settings, inbox: Path) -> None:
    (inbox / "customers.csv").unlink()
    packed = gzip.compress(CUSTOMERS.encode())
    (inbox / "customers.csv.gz").write_bytes(packed)
    assert pull(settings, profile_of("branches", "customers"), inbox)["customers"].accepted == 3
    (inbox / "customers.csv.gz").write_bytes(packed[:-12])
    with pytest.raises(FramingError, match=r"customers\.csv\.gz: the compressed file is cut off"):
        pull(settings, profile_of("branches", "customers"), inbox)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("C009,张三,,,0001\n", r"customers\.csv: line 5: 5 columns where the header has 10"),
        ("C009,张三,,,0001,普通,,active,2020-01-31,,x\n", r"line 5: 11 columns where the header has 10"),
        ('C009,"张三,,,0001,普通,,active,2020-01-31,\n', r"line 5: a quotation mark that is never closed"),
        ('C009,"张"三,,,0001,普通,,active,2020-01-31,\n', r"line 5: a quotation mark within a field, or text after"),
    ],
)
def test_broken_framing_refuses_the_file_by_line_and_shows_no_data(
    settings: Settings, inbox: Path, row: str, said: str
) -> None:
    (inbox / "customers.csv").write_text(CUSTOMERS + row, encoding="utf-8")
    with pytest.raises(FramingError, match=said) as refused:
        pull(settings, profile_of("branches", "customers"), inbox)
    assert "张" not in str(refused.value)
    assert not (settings.lake / "customers").exists()
    assert not list((settings.lake / ".work").glob("intake-*"))


def test_an_unknown_code_stops_the_intake_and_leaves_nothing_half_loaded(settings: Settings, inbox: Path) -> None:
    (inbox / "customers.csv").write_text(CUSTOMERS.replace("dormant", "Dormant"), encoding="utf-8")
    with pytest.raises(UnknownCode, match=r"customers\.status .*'Dormant' × 1"):
        pull(settings, profile_of("branches", "customers"), inbox)
    assert not (settings.lake / "customers").exists()


def test_a_renamed_header_stops_the_intake(settings: Settings, inbox: Path) -> None:
    (inbox / "customers.csv").write_text(CUSTOMERS.replace("open_on", "OPEN_DATE", 1), encoding="utf-8")
    with pytest.raises(HeaderError, match=r"customers\.csv .*no column open_on; found .*OPEN_DATE"):
        pull(settings, profile_of("branches", "customers"), inbox)


def test_a_file_that_is_missing_empty_or_a_link_is_refused(settings: Settings, inbox: Path, tmp_path: Path) -> None:
    profile = profile_of("branches", "customers")
    (inbox / "customers.csv").rename(tmp_path / "elsewhere.csv")
    with pytest.raises(SourceError, match=r"no file customers\*\.csv or .* table customers; found branches\.csv"):
        pull(settings, profile, inbox)
    (inbox / "customers.csv").symlink_to(tmp_path / "elsewhere.csv")
    with pytest.raises(SourceError, match=r"customers\.csv: is a symbolic link"):
        pull(settings, profile, inbox)
    (inbox / "customers.csv").unlink()
    (inbox / "customers.csv").touch()
    with pytest.raises(SourceError, match=r"customers\.csv: is empty"):
        pull(settings, profile, inbox)
    (inbox / "customers.csv").unlink()
    (tmp_path / "outside").mkdir()
    (tmp_path / "elsewhere.csv").rename(tmp_path / "outside" / "customers.csv")
    (inbox / "sub").symlink_to(tmp_path / "outside")
    changed = profile.model_dump(by_alias=True, exclude_unset=True)
    changed["tables"]["customers"]["files"] = ["sub/customers.csv"]
    with pytest.raises(SourceError, match="behind a symbolic link"):
        pull(settings, Profile.model_validate(changed), inbox)
    os.mkfifo(inbox / "customers.csv")
    with pytest.raises(SourceError, match="is not a plain file"):
        pull(settings, profile, inbox)


def test_a_line_too_long_refuses_the_file(settings: Settings, inbox: Path) -> None:
    with (inbox / "customers.csv").open("a", encoding="utf-8") as file:
        file.write("C009," + "x" * 3_000_000 + ",,,0001,普通,,active,2020-01-31,\n")
    taken = pull(settings, profile_of("branches", "customers"), inbox)["customers"]
    assert reasons(taken) == {("bad_length", "customer_name"): 1}
    with (inbox / "customers.csv").open("a", encoding="utf-8") as file:
        file.write("C010," + "x" * 40_000_000)
    with pytest.raises(FramingError, match=r"customers\.csv: line 6: a line longer than [0-9]+ MB"):
        pull(settings, profile_of("branches", "customers"), inbox)


def test_the_roster_may_come_from_elsewhere_in_our_own_format(settings: Settings, inbox: Path, tmp_path: Path) -> None:
    roster = tmp_path / "my_roster.csv"
    roster.write_bytes(("\ufeff" + ROSTER + "0404,branch_head,钱七,q@x.example,2020-01-01,\n").encode())
    taken = pull(settings, profile_of("branches", "customers"), inbox, roster)["roster"]
    assert (taken.accepted, reasons(taken)) == (1, {("unknown_branch", "branch_no"): 1})
    assert taken.files[0].name == "my_roster.csv"


def test_a_table_cannot_be_taken_in_before_those_it_refers_to(settings: Settings, inbox: Path) -> None:
    profile = profile_of("branches", "customers")
    with (
        open_delivery(settings, profile, inbox) as delivery,
        pytest.raises(
            LakeError, match="customers refers to branches: the profile canonical must list those tables too"
        ),
    ):
        take_in(settings, profile, "customers", delivery["customers"], as_of=YEAR_END, known={})


def test_what_a_killed_run_left_behind_is_removed(settings: Settings, inbox: Path) -> None:
    work = settings.lake / ".work"
    for name in ("intake-killed", "intake-killed-before-it-was-locked", "intake-alive"):
        (work / name).mkdir(parents=True)
        (work / name / "judged-0.parquet").write_bytes(b"half")
        if "before" not in name:
            (work / name / "lock").touch()
    with (work / "intake-alive" / "lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        pull(settings, profile_of("branches"), inbox)
        assert [left.name for left in work.glob("intake-*")] == ["intake-alive"]
    pull(settings, profile_of("branches"), inbox)
    assert not list(work.glob("intake-*"))


def test_the_text_hash_quotes_sorts_bytewise_and_takes_null_for_empty(settings: Settings) -> None:
    con = connect(settings)
    rows = [["b", '说"好"', "2"], ["a", "x,y", ""], ["B", "one\ntwo", "1"], ["é", "", "3"]]
    columns = {"k": [r[0] for r in rows], "t": [r[1] or None for r in rows], "n": [2, None, 1, 3]}
    frame = ibis.memtable(columns, schema={"k": "string", "t": "string", "n": "int64"})
    assert text_sha256(con, frame) == text_hash(["k", "t", "n"], rows)
    written = write_table(con, frame, settings.lake / "frames" / "f.parquet", ["k"])
    assert text_sha256(con, written, is_sorted=True) == text_hash(["k", "t", "n"], rows)
    with pytest.raises(TypeError, match="n: a float"):
        text_sha256(con, frame.mutate(n=frame.n / 2))
    assert text_sha256(con, frame.limit(0)) == hashlib.sha256(b"k,t,n\n").hexdigest()


def test_another_engine_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="HUIFANG_ENGINE=polars: only duckdb and spark://HOST:PORT"):
        connect(Settings(home=tmp_path, engine="polars"))


@pytest.mark.skipif(not BERKA.is_dir(), reason=f"the real bank's files are not at {BERKA}")
def test_a_real_banks_files_are_taken_in_through_its_profile(settings: Settings) -> None:
    taken = pull(settings, read_yaml(PROJECT / "profiles" / "berka.yaml", Profile), BERKA)
    assert {n: (r.rows, r.accepted, r.ignored, r.rejected) for n, r in taken.items()} == {
        "branches": (77, 77, 0, 0),
        "staff": (24, 24, 0, 0),
        "customers": (5369, 4500, 869, 0),
        "transactions": (49102, 48451, 651, 0),
    }
    assert reasons(taken["customers"]) == {("authorised_person", "role"): 869}
    assert reasons(taken["transactions"]) == {("undocumented_type", "kind"): 651}


def test_rows_of_a_rejected_owner_are_rejected_though_an_authorised_person_shares_his_account(
    settings: Settings, tmp_path: Path
) -> None:
    folder = tmp_path / "bank"
    folder.mkdir()
    (folder / "branches.csv").write_text(
        "branch_id,branch_name,region,inhabitants,avg_salary\n1,Praha,Prague,1,1\n", encoding="utf-8"
    )
    (folder / "staff.csv").write_text("staff_id,name,branch_id,calls,mean_seconds\nS1,A,1,1,1\n", encoding="utf-8")
    header = (
        "customer_id,name,sex,birth_date,id_no,phone,email,account_id,role,branch_id,home_district_id,segment,card,"
        "loan_status,loan_amount,frequency,open_date,transaction_count,last_transaction_date,turnover\n"
    )
    line = "{},N,M,1970-01-01,700101,367-171-6840,e,{},{},1,1,basic,,,,F,{},1,2026-01-01,1\n"
    (folder / "customers.csv").write_text(
        header + line.format(1, 10, "OWNER", "2025-02-30") + line.format(2, 10, "DISPONENT", "2025-02-01")
        + line.format(3, 11, "OWNER", "2025-02-01"),
        encoding="utf-8",
    )  # fmt: skip
    (folder / "transactions.csv").write_text(
        "trans_id,account_id,date,type,operation,amount,balance,k_symbol,bank,account\n"
        "1,10,2025-03-01,PRIJEM,,5.0,5.0,,,\n2,11,2025-03-01,PRIJEM,,5.0,5.0,,,\n",
        encoding="utf-8",
    )
    taken = pull(settings, read_yaml(PROJECT / "profiles" / "berka.yaml", Profile), folder)
    assert reasons(taken["transactions"]) == {("customer_not_accepted", "customer_id"): 1}
    assert taken["transactions"].accepted == 1


@pytest.mark.parametrize("ids", [["a", "b", "c"], ["b", "a", "c"], ["a", "b", "b"], ["a,b", 'b"c', "c\nd", "é"], []])
def test_a_table_said_to_come_in_order_is_sorted_where_it_does_not(settings: Settings, ids: list[str]) -> None:
    con = connect(settings)
    notes = [f"{n}, \"{key}\"" if n else None for n, key in enumerate(ids)]
    table = ibis.memtable({"k": ids, "t": notes}, schema={"k": "string", "t": "string"})
    paths = [settings.lake / "frames" / f"{name}.parquet" for name in ("told", "sorted")]
    written, sha256 = write_in_order(con, table, paths[0])
    write_table(con, table, paths[1], ["k"])
    told, by_sort = (pq.read_table(path).sort_by([("k", "ascending"), ("t", "ascending")]) for path in paths)
    assert pq.read_table(paths[0])["k"].to_pylist() == sorted(ids)
    assert told.to_pylist() == by_sort.to_pylist()
    assert sha256 == text_sha256(con, table) == text_sha256(con, written)
    if len(set(ids)) == len(ids):
        assert sha256 == text_hash(["k", "t"], [[k, t or ""] for k, t in zip(ids, notes, strict=True)])
    assert [file.name for file in paths[0].parent.iterdir() if file.name.startswith(".")] == []
