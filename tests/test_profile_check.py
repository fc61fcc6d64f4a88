"""`huifang profile check` on whole deliveries: drafts that load once filled in, and trials that say what a pull would."""

import gzip
import zipfile
from datetime import date
from pathlib import Path

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner, Result

from demo.brokerage import build_extracts
from models.canonical import TABLES
from models.draft import ASK
from models.profile import Profile
from tasks.lake import take_in
from tasks.settings import PROJECT, Settings, read_yaml
from tasks.source import open_delivery

BERKA = PROJECT.parent / "shared" / "data" / "berka"
YEAR_END = date(2025, 12, 31)


def check(home: Path, *words: object) -> Result:
    from cli import app

    environment = {"HUIFANG_HOME": str(home / "home"), "COLUMNS": "100"}
    return CliRunner().invoke(
        app, ["profile", "check", *map(str, words)], env=environment, catch_exceptions=False
    )  # fmt: skip


def shipped(name: str) -> Profile:
    return read_yaml(PROJECT / "profiles" / f"{name}.yaml", Profile)


def extracts_of(inbox: Path) -> list[Path]:
    return sorted(path for path in inbox.iterdir() if path.is_file() and path.suffix not in (".ok", ".ctl"))


@pytest.fixture(scope="module")
def inboxes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    found = {}
    for name in ("canonical", "hundsun", "kingdom"):
        found[name] = tmp_path_factory.mktemp(name) / "inbox"
        build_extracts(found[name], customers=1_000, branches=8, seed=5, year_end=YEAR_END, dialect=name)
    return found


@pytest.fixture(scope="module")
def secrets(inboxes: dict[str, Path]) -> set[str]:
    """Every name, phone, id number and address of the brokerage, and its customers' numbers."""
    customers = pd.read_csv(inboxes["canonical"] / "customers.csv", dtype=str, keep_default_na=False)
    staff = pd.read_csv(inboxes["canonical"] / "staff.csv", dtype=str)
    roster = pd.read_csv(inboxes["canonical"] / "roster.csv", dtype=str)
    found = set(staff["staff_name"]) | set(staff["phone"]) | set(roster["contact_name"]) | set(roster["email"])
    for column in ("customer_id", "customer_name", "phone", "id_no"):
        found |= set(customers[column])
    return {text for text in found if text}


def fill(draft: Path, own: Profile) -> dict:
    """What a person would write into a draft: the meanings that the shipped profile gives to the same codes."""
    content = yaml.safe_load(draft.read_text(encoding="utf-8"))
    for table, declared in content["tables"].items():
        for column, entry in declared["columns"].items():
            if isinstance(entry, dict) and "codes" in entry:
                theirs = own.tables[table].column(column)
                meanings = own.code_table(theirs)
                codes = content.setdefault("codes", {}).setdefault(entry["codes"], {})
                ignored = {code for rule in own.tables[table].ignore_codes for code in rule.codes} | set(theirs.none)
                codes.update({code: meanings[code] for code in [*codes, *meanings] if code not in ignored})
                for code in ignored & set(codes):
                    del codes[code]
                if theirs.none:
                    entry["none"] = list(theirs.none)
        if own.tables[table].ignore_codes:
            declared["ignore_codes"] = [rule.model_dump() for rule in own.tables[table].ignore_codes]
    return content


# ---- drafts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", ["hundsun", "kingdom"])
def test_a_draft_agrees_with_the_shipped_profile_wherever_it_maps_a_column(inboxes, tmp_path, dialect):
    out = tmp_path / "draft.yaml"
    result = check(tmp_path, *extracts_of(inboxes[dialect]), "--out", out)
    assert result.exit_code == 1  # there are codes to fill in
    content, own = yaml.safe_load(out.read_text(encoding="utf-8")), shipped(dialect)
    assert list(content["tables"]) == list(TABLES)
    mapped = 0
    for table, declared in content["tables"].items():
        header = declared.get("form", {}).get("header")
        real = own.tables[table].form.header
        assert (header is None) == (real is None)
        for column, entry in declared["columns"].items():
            source = entry["from"] if isinstance(entry, dict) else entry
            if header is not None:
                source = real[header.index(source)]
            assert source == own.tables[table].column(column).source, (table, column)
            mapped += 1
    assert mapped == {"hundsun": 36, "kingdom": 30}[dialect]
    form = own.form_of("customers")
    assert (content["encoding"], content["delimiter"], content["quote"]) == (form.encoding, form.delimiter, form.quote)


def test_a_filled_draft_takes_in_the_same_rows_as_the_shipped_profile(inboxes, tmp_path):
    out = tmp_path / "draft.yaml"
    check(tmp_path, *extracts_of(inboxes["hundsun"]), "--out", out)
    content, own = fill(out, shipped("hundsun")), shipped("hundsun")
    for declared in content["tables"].values():  # the width is what a person knows
        for column in ("branch_no", "customer_id"):
            if column in declared["columns"] and isinstance(declared["columns"][column], str):
                width = 4 if column == "branch_no" else 10
                declared["columns"][column] = {"from": declared["columns"][column], "width": width}
    accepted = {}
    for name, profile in (("own", own), ("draft", Profile.model_validate(content))):
        settings, known = Settings(home=tmp_path / name), {}
        with open_delivery(settings, profile, inboxes["hundsun"]) as delivery:
            for table, files in delivery.items():
                result = take_in(settings, profile, table, files, as_of=YEAR_END, known=dict(known))
                known[table] = result.path
                accepted.setdefault(table, []).append((result.accepted, result.content_sha256))
    assert list(accepted) == list(TABLES)
    for table, (one, other) in accepted.items():
        assert one[0] == other[0], table
        if table != "customers":  # a person also chose how segments and risk levels are called
            assert one == other, table


@pytest.mark.skipif(not BERKA.is_dir(), reason="no Berka files beside the project")
def test_the_berka_files_give_a_draft_that_loads_once_a_person_has_filled_it_in(tmp_path):
    out = tmp_path / "my_bank.yaml"
    files = [BERKA / f"{name}.csv" for name in ("branches", "staff", "customers", "transactions")]
    result = check(tmp_path, *files, "--out", out)
    assert result.exit_code == 1
    assert str(out) in result.output.replace("\n", "")
    text = out.read_text(encoding="utf-8")
    with pytest.raises(Exception, match=rf"(?s)say where kind come from.*say where status come from.*{ASK}"):
        read_yaml(out, Profile)
    for before, after in (
        ('"VYDAJ": 请确认', '"VYDAJ": withdraw'),
        ('"PRIJEM": 请确认', '"PRIJEM": deposit'),
        ('"VYBER": 请确认', '"VYBER": other'),
        ('# kind: {value: "", reason: ""}', "kind: {value: other, reason: 来源未说明人员类别}"),
        ('# status: {value: "", reason: ""}', "status: {value: active, reason: 文件只含在用账户}"),
    ):
        assert before in text
        text = text.replace(before, after)
    out.write_text(text, encoding="utf-8")
    profile = read_yaml(out, Profile)
    assert profile.name == "my_bank"
    own = shipped("berka")
    for table, declared in profile.tables.items():
        for column in declared.columns:
            theirs = own.tables[table].column(column)
            assert theirs is not None
            assert declared.column(column).source == theirs.source
        assert declared.lookups == own.tables[table].lookups


def test_nothing_personal_is_shown_or_drafted(inboxes, secrets, tmp_path):
    out = tmp_path / "draft.yaml"
    for dialect in ("canonical", "hundsun", "kingdom"):
        shown = check(tmp_path, *extracts_of(inboxes[dialect]), "--out", out).output + out.read_text(encoding="utf-8")
        shown += check(
            tmp_path, *extracts_of(inboxes[dialect]), "--profile", PROJECT / "profiles" / f"{dialect}.yaml"
        ).output
        flat = "".join(shown.split())
        assert not {text for text in secrets if text in flat}
        out.unlink()


def test_a_file_of_ours_needs_nothing_but_a_look(inboxes, tmp_path):
    out = tmp_path / "draft.yaml"
    check(tmp_path, *extracts_of(inboxes["canonical"]), "--out", out)
    profile = read_yaml(out, Profile)
    for table, declared in profile.tables.items():
        assert {c: declared.column(c).source for c in declared.columns} == {c: c for c in TABLES[table].columns}


def test_a_draft_overwrites_nothing(inboxes, tmp_path):
    out = tmp_path / "draft.yaml"
    out.write_text("mine", encoding="utf-8")
    result = check(tmp_path, inboxes["canonical"] / "branches.csv", "--out", out)
    assert result.exit_code == 2
    assert out.read_text(encoding="utf-8") == "mine"


# ---- trials -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", ["canonical", "hundsun", "kingdom"])
def test_a_trial_counts_what_a_pull_counts_and_leaves_nothing_behind(inboxes, tmp_path, dialect, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "tmp").mkdir()
    from tasks.lake import find_files, try_files

    profile = shipped(dialect)
    trials = try_files(Settings(home=tmp_path / "home"), profile, find_files(extracts_of(inboxes[dialect])))
    assert not list((tmp_path / "tmp").iterdir())
    assert not (tmp_path / "home").exists()
    settings, known = Settings(home=tmp_path / "real"), {}
    by_table = {trial.table: trial for trial in trials}
    with open_delivery(settings, profile, inboxes[dialect]) as delivery:
        for table, files in delivery.items():
            result = take_in(settings, profile, table, files, as_of=YEAR_END, known=dict(known))
            known[table] = result.path
            trial = by_table.pop(table)
            assert (trial.rows, trial.accepted) == (result.rows, result.accepted)
            assert {(f.verdict, f.rule, f.column): f.rows for f in trial.findings} == {
                (t.verdict, t.rule, t.column_name): t.rows for t in result.tallies
            }
            assert [*trial.refusals, *trial.unexplained, *trial.missing, *trial.unknown, *trial.notes] == []
    assert not by_table


CUSTOMERS = "customer_id,customer_name,phone,id_no,branch_no,segment,risk_level,status,open_on,close_on\n"
GOOD = "{id},张小三,13812345678,11010519491231002X,0001,普通,,{status},{day},\n"


def customers(path: Path, *rows: str, rest: int = 40) -> Path:
    more = [GOOD.format(id=f"R{n:03}", status="active", day="2020-01-31") for n in range(rest)]
    path.write_text(CUSTOMERS + "".join([*rows, *more]), encoding="utf-8")
    return path


CANONICAL = PROJECT / "profiles" / "canonical.yaml"


def test_everything_fine_is_0_and_needs_no_word(tmp_path):
    result = check(tmp_path, customers(tmp_path / "customers.csv"), "--profile", CANONICAL)
    assert result.exit_code == 0
    assert "没有问题" in result.output
    assert "branches" in result.output  # not compared: not among the files
    assert not (tmp_path / "home").exists()


def test_what_is_wrong_is_told_with_count_first_row_and_shape(tmp_path):
    file = customers(
        tmp_path / "customers.csv",
        GOOD.format(id="C1", status="active", day="31.01.2020"),
        GOOD.format(id="C2", status="active", day="2020-02-30"),
        GOOD.format(id="C3", status="9", day="2020-01-31"),
        GOOD.format(id="C4", status="9", day="2020-01-31"),
        GOOD.format(id="C5", status="active", day="2020-01-31").replace("002X", "0021"),
        GOOD.format(id="C6", status="active", day="2020-01-31").replace("13812345678", "12812345678"),
        GOOD.format(id="R001", status="active", day="2020-01-31"),
    )
    from tasks.lake import find_files, try_files

    (trial,) = try_files(Settings(home=tmp_path / "home"), shipped("canonical"), find_files([file]))
    found = {(f.rule, f.column): (f.rows, f.first_row, f.example) for f in trial.findings}
    assert found == {
        ("bad_date", "open_on"): (1, 2, "99.99.9999"),
        ("impossible_date", "open_on"): (1, 3, "9999-99-99"),
        ("bad_checksum", "id_no"): (1, 6, "9" * 18),
        ("bad_phone", "phone"): (1, 7, "9" * 11),
        ("duplicate_id", "customer_id"): (1, 10, ""),
    }
    assert trial.unknown == {"status": [("9", 2)]}
    assert (trial.rows, trial.accepted, trial.rows_of_unknown) == (47, 40, 2)
    result = check(tmp_path, file, "--profile", CANONICAL)
    assert result.exit_code == 1
    assert "未知代码 status ← status: 9 × 2" in result.output
    assert not any(text in result.output for text in ("张小三", "13812345678", "12812345678", "11010519491231002"))


def test_columns_that_are_missing_or_unexplained_are_named(tmp_path):
    file = customers(tmp_path / "customers.csv")
    text = file.read_text(encoding="utf-8").replace("open_on", "opened", 1)
    file.write_text(text, encoding="utf-8")
    result = check(tmp_path, file, "--profile", CANONICAL)
    assert result.exit_code == 1
    assert "文件中缺少: open_on" in result.output
    assert "配置没有说明的列: opened" in result.output


@pytest.mark.parametrize("known", [True, False])
def test_staff_without_phones_are_fine_whether_the_profile_knows_the_column_or_not(tmp_path, known):
    file, profile = tmp_path / "staff.csv", tmp_path / "canonical.yaml"
    file.write_text(
        "staff_id,staff_name,branch_no,kind,valid_from,valid_to\nS1,王小芳,0001,caller,2020-01-01,\n", encoding="utf-8"
    )
    lines = CANONICAL.read_text(encoding="utf-8").splitlines(keepends=True)
    staff = next(n for n, line in enumerate(lines) if line.startswith("  staff:"))
    phone = next(n for n, line in enumerate(lines) if n > staff and line.startswith("      phone:"))
    profile.write_text("".join(lines[:phone] + lines[phone + (not known) :]), encoding="utf-8")
    result = check(tmp_path, file, "--profile", profile)
    assert result.exit_code == 0
    assert "没有问题" in result.output
    file.write_text(
        "staff_id,staff_name,branch_no,kind,valid_from,valid_to,phone\nS1,王小芳,0001,caller,2020-01-01,,12812345678\n",
        encoding="utf-8",
    )
    result = check(tmp_path, file, "--profile", profile)
    assert result.exit_code == 1
    assert ("bad_phone" if known else "配置没有说明的列: phone") in result.output
    assert "12812345678" not in result.output


def test_a_file_without_the_header_that_the_profile_expects_shows_no_row_as_one(tmp_path):
    file = customers(tmp_path / "customers.csv")
    file.write_text(file.read_text(encoding="utf-8").partition("\n")[2], encoding="utf-8")
    result = check(tmp_path, file, "--profile", CANONICAL)
    assert result.exit_code == 1
    assert "looks like data" in result.output.replace("\n", " ")
    assert not any(text in result.output for text in ("张小三", "13812345678", "11010519491231002X"))


def test_names_in_a_column_of_codes_are_not_shown_as_codes(tmp_path):
    rows = [GOOD.format(id=f"C{n}", status=name, day="2020-01-31") for n, name in enumerate(["李四", "王五"] * 6)]
    result = check(tmp_path, customers(tmp_path / "customers.csv", *rows), "--profile", CANONICAL)
    assert "汉汉 × 6" in result.output
    assert "李四" not in result.output


def test_ids_of_a_table_that_was_not_read_whole_are_no_orphans(inboxes, tmp_path):
    files = [inboxes["canonical"] / f"{name}.csv" for name in ("branches", "customers", "transactions")]
    whole = check(tmp_path, *files, "--profile", CANONICAL)
    assert "orphan" in whole.output
    few = check(tmp_path, *files, "--profile", CANONICAL, "--rows", "50")
    assert "orphan" not in few.output
    assert "只读开头" in few.output


def test_an_encoding_that_is_not_the_profiles_is_told(tmp_path):
    file = customers(tmp_path / "customers.csv")
    file.write_bytes(file.read_text(encoding="utf-8").encode("gb18030"))
    result = check(tmp_path, file, "--profile", CANONICAL)
    assert result.exit_code == 1
    assert "looks like gb18030" in result.output


def test_a_missing_marker_is_told(inboxes, tmp_path):
    name = "client_20251231.txt"
    (tmp_path / name).write_bytes((inboxes["hundsun"] / name).read_bytes())
    result = check(tmp_path, tmp_path / name, "--profile", PROJECT / "profiles" / "hundsun.yaml")
    assert result.exit_code == 1
    assert f"{name}.ok" in result.output.replace("\n", "")


@pytest.mark.parametrize("dialect", ["hundsun", "kingdom"])
def test_markers_among_the_files_are_no_tables(inboxes, tmp_path, dialect):
    everything = sorted(inboxes[dialect].iterdir())
    result = check(tmp_path, *everything, "--profile", PROJECT / "profiles" / f"{dialect}.yaml", "--rows", "300")
    assert "不属于任何表" not in result.output


def test_a_file_of_no_table_drafts_nothing_until_its_table_is_named(tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n1,x\n2,y\n", encoding="utf-8")
    result = check(tmp_path, tmp_path / "x.csv", "--out", tmp_path / "draft.yaml")
    assert result.exit_code == 1
    assert not (tmp_path / "draft.yaml").exists()
    check(tmp_path, tmp_path / "x.csv", "--out", tmp_path / "draft.yaml", "--table", "branches")
    assert list(yaml.safe_load((tmp_path / "draft.yaml").read_text(encoding="utf-8"))["tables"]) == ["branches"]


def test_gzip_zip_parquet_and_workbooks_are_looked_at_like_text(tmp_path):
    file = customers(tmp_path / "customers.csv")
    frame = pd.read_csv(file, dtype=str)
    (tmp_path / "customers_1.csv.gz").write_bytes(gzip.compress(file.read_bytes()))
    with zipfile.ZipFile(tmp_path / "customers_2.zip", "w") as archive:
        archive.write(file, "customers_2.csv")
    frame.to_parquet(tmp_path / "customers_3.parquet")
    frame.to_excel(tmp_path / "customers_4.xlsx", index=False)
    for name in ("customers_1.csv.gz", "customers_2.zip", "customers_3.parquet", "customers_4.xlsx"):
        result = check(tmp_path, tmp_path / name, "--out", tmp_path / f"{name}.yaml")
        assert "customers" in result.output
        assert read_yaml(tmp_path / f"{name}.yaml", Profile).tables["customers"].columns["phone"] == "phone"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_bytes("a,b\n1,2\n".encode("utf-16")), "UTF-16"),
        (lambda path: path.write_bytes(bytes(range(256)) * 9), "no text"),
        (lambda path: path.write_bytes(b"PK\x03\x04 cut off"), "damaged zip"),
        (lambda path: path.write_bytes(gzip.compress(b"a,b\n" * 9_000)[:40]), "damaged"),
    ],
)
@pytest.mark.parametrize("words", [(), ("--profile", CANONICAL)])
def test_wrong_input_is_told_in_one_line_and_ends_with_2(tmp_path, make, said, words):
    make(tmp_path / "x.csv")
    result = check(tmp_path, tmp_path / "x.csv", *words)
    assert result.exit_code == 2
    assert said in result.output.replace("\n", " ")
    assert "Traceback" not in result.output


def test_it_speaks_english_where_that_is_set(tmp_path, monkeypatch):
    monkeypatch.setenv("HUIFANG_LANGUAGE", "en")
    result = check(tmp_path, customers(tmp_path / "customers.csv"), "--profile", CANONICAL)
    assert "fine" in result.output
    assert "没有问题" not in result.output
