"""The benchmark's contestants do the same work; a tiny brokerage shows it."""

import json
import re
import subprocess
import sys

import pytest

from bench.draw import require
from bench.measure import ContestantError, NotFinishedError, run_measured
from bench.report import BEGIN, END, write_docs
from tasks.settings import PROJECT

RULED = {
    "branches.csv": "branch_no,branch_name,region\n0001,\"上海,人民路\",华东\n0002,北京,\nbad no,广州,华南\n",
    "roster.csv": (
        "branch_no,role,contact_name,email,valid_from,valid_to\n"
        "0001,deputy,王芳,b@x.example,2020-01-01,\n0001,deputy,李雷,a@x.example,2020-01-01,\n"
        "HQ,compliance,张三,c@x.example,2020-01-01,2019-01-01\n0009,deputy,李四,d@x.example,2020-01-01,\n"
    ),
    "staff.csv": (
        "staff_id,staff_name,branch_no,kind,valid_from,valid_to,phone\n"
        "s1,赵,0001,broker,,,13800138001\ns1,钱,0002,caller,,,\ns3,孙,0002,caller,,,12800138000\n"
    ),
    "customers.csv": (
        "customer_id,customer_name,phone,id_no,branch_no,segment,risk_level,status,open_on,close_on\n"
        "c3,  孙 ,１３８００１３８０００,11010519491231002X,0001,retail,C1,active,2020-02-29,\n"
        "c1,周,13800138000,110105194912310021,0001,retail,C1,active,2020-01-01,\n"
        "c2,吴,12345678901,,0002,retail,,active,2020-01-01 00:00:00,\n"
        "c4,郑,,,0001,retail,C1,closed,2020-01-02,2020-01-01\n"
        "c5,冯,,,bad no,retail,C1,active,2020-01-01,\n"
        "c3,陈,,,0001,retail,C1,active,2020-01-01,\n"
        "c6,褚,,,0002,retail,C1,active,1899-12-31,\n"
        "c7,卫,,,0002,,C1,active,2021-02-29,\n"
        "c8,蒋,,,0002,retail,C1,dormant,2021-02-28,\n"
    ),
    "relations.csv": (
        "customer_id,staff_id,kind,valid_from,valid_to\nc8,s1,server,2020-01-01,\nc3,s1,developer,2020-01-01,\n"
        "c8,s1,server,2020-01-01,\nc9,s1,server,2020-01-01,\nc8,s2,server,2020-01-01,\n"
    ),
    "transactions.csv": (
        "transaction_id,customer_id,traded_on,kind,amount_cny\n"
        "t2,c3,2025-01-03,buy,5\nt1,c3,2025-01-02,sell,-7.5\nt3,c8,20250102,fee,1\nt4,c8,2025-01-02,fee,1.234\n"
        "t2,c8,2025-01-04,buy,9\nt5,c1,2025-01-04,buy,9\nt6,c9,2025-01-04,buy,9\nt7,c8,2025-01-04,deposit,0.10\n"
    ),
}  # fmt: skip
"""A row or more for most reasons; ids that do not rise, one that comes twice, and a field in quotes."""


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], cwd=PROJECT, capture_output=True, text=True, encoding="utf-8", timeout=300
    )


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_every_contestant_works_and_all_agree(tmp_path, form):
    done = run(
        "-m", "bench", "intake", "--sizes", "2000+20000", "--formats", form, "--repeats", "1", "--data", str(tmp_path)
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (figures,) = tmp_path.glob("intake-*.json")
    (case,) = json.loads(figures.read_text(encoding="utf-8"))["cases"]
    others = {"pandas_whole"} if form == "csv" else set()
    assert set(case["rounds"]) == {"huifang", "scan", "pandas", "pull"} | others
    assert case["tables"]["customers"]["rows"] == 2000
    assert case["tables"]["transactions"]["activity"]["customers"] > 0
    costs = [each for rounds in case["rounds"].values() for each in rounds]
    assert all(each["wall_seconds"] > 0 and each["cpu_seconds"] > 0 and each["peak_mb"] > 20 for each in costs)
    assert not [left for left in tmp_path.iterdir() if left.name.startswith(("run-", "prefect-"))]


@pytest.mark.slow
def test_pandas_and_huifang_reject_the_same_rows_for_the_same_reasons(tmp_path):
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    for name, text in RULED.items():
        (inbox / name).write_text(text, encoding="utf-8")
    ours, theirs = tmp_path / "ours.json", tmp_path / "theirs.json"
    done = run("-c", "import os, runpy, sys; os.environ['HUIFANG_HOME'] = sys.argv[3];"
               "runpy.run_module('bench.run_huifang', run_name='__main__', alter_sys=True)",
               str(inbox), str(ours), str(tmp_path / "home"))  # fmt: skip
    assert done.returncode == 0, done.stderr
    done = run("bench/pandas_intake.py", str(inbox), str(tmp_path / "out"), "--result", str(theirs))
    assert done.returncode == 0, done.stderr
    found = json.loads(ours.read_text(encoding="utf-8"))["tables"]
    assert json.loads(theirs.read_text(encoding="utf-8"))["tables"] == found
    assert found["customers"]["accepted"] == 2
    assert len(found["customers"]["reasons"]) == 7


@pytest.mark.long
@pytest.mark.slow
def test_huifang_draws_what_hashlib_draws_and_the_others_as_many_from_each_stratum(tmp_path):
    names = ["huifang", "bare", "pandas", "pandas_categories", "r_sampling", "r_sps"]
    done = run(
        "-m", "bench", "draw", "--sizes", "2000", "--repeats", "1", "--no-probes", "--contestants", ",".join(names),
        "--data", str(tmp_path),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (figures,) = tmp_path.glob("draw-*.json")
    found = json.loads(figures.read_text(encoding="utf-8"))
    first, later = found["cases"]
    assert set(first["rounds"]) | set(found["skipped"]) == set(names)
    assert set(found["skipped"]) <= {"r_sampling", "r_sps"}
    assert all(f"SKIPPED {name}" in done.stdout for name in found["skipped"])
    assert set(later["rounds"]) == {"huifang", "pandas", "pandas_categories"}
    assert first["customers"] == 2000
    assert first["pool"] > later["pool"] > first["drawn"] > 0
    assert "ratios of medians, goals" in done.stdout
    assert not [left for left in tmp_path.iterdir() if left.name.startswith("run-")]


@pytest.mark.long
@pytest.mark.slow
def test_rows_in_another_order_and_another_engine_draw_the_same_customers(tmp_path):
    done = run(
        "-m", "bench", "draw", "--sizes", "1000", "--repeats", "1", "--contestants", "huifang", "--data", str(tmp_path)
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (figures,) = tmp_path.glob("draw-*.json")
    found = json.loads(figures.read_text(encoding="utf-8"))
    assert found["probes"] == [{"contestant": "huifang", "rows shuffled": 1.0}]
    assert [check for check in found["checks"] if "Spark" in check]


@pytest.mark.parametrize(
    ("sample", "said"),
    [({"1|a": 2}, "1|b: None, not 1"), ({"1|a": 2, "1|b": 2}, "1|b: 2, not 1"), ({"1|a": 2, "1|b": 1}, None)],
)
def test_a_contestant_who_draws_another_number_is_an_error_that_names_the_stratum(sample, said):
    if said is None:
        require("pandas", "the counts per stratum", sample, {"1|a": 2, "1|b": 1})
    else:
        with pytest.raises(ContestantError, match=re.escape(f"pandas comes to another result: the counts per stratum is {said}")):
            require("pandas", "the counts per stratum", sample, {"1|a": 2, "1|b": 1})


def test_a_contestant_who_takes_too_long_is_ended(tmp_path):
    words = [sys.executable, "-c", "import time; print('begun', flush=True); time.sleep(60)"]
    with pytest.raises(NotFinishedError, match="was ended after 1 s"):
        run_measured(words, environ={}, cwd=tmp_path, log=tmp_path / "log", cap_seconds=1)
    assert (tmp_path / "log").read_text() == "begun\n"


def test_the_figures_of_the_draw_say_what_was_met_and_replace_only_their_own_part_of_the_page(tmp_path):
    cost = {"cpu_seconds": 1.0, "import_seconds": 0.5, "steps": {"draw": 2.5}}
    rounds = {
        "huifang": [cost | {"wall_seconds": 3.0, "inner_seconds": 2.5, "peak_mb": 1200.0}],
        "pandas": [cost | {"wall_seconds": 12.6, "inner_seconds": 12.0, "peak_mb": 3000.0}],
    }
    case = {
        "size": "L", "month": "later", "customers": 10_000_000, "pool": 8_000_000, "strata": 2500, "drawn": 125_000,
        "bytes": 1_000_000, "rounds": rounds, "ended": {"samplics": 300.0},
    }  # fmt: skip
    ran = {
        "benchmark": "draw", "command": "python -m bench draw", "began": "2026-11-22T00:00:00+00:00", "code_version": "x",
        "machine": {"load before": "0.1"}, "repeats": 1, "cases": [case], "skipped": {"r_sps": "not there"},
        "checks": ["equal"], "probes": [{"contestant": "pandas", "rows shuffled": 0.05, "older version": None}],
    }  # fmt: skip
    page = tmp_path / "page.md"
    page.write_text(f"a\n{BEGIN['intake']}\nintake\n{END}\nb\n{BEGIN['draw']}\nold\n{END}\nc\n", encoding="utf-8")
    write_docs(page, [ran])
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"a\n{BEGIN['intake']}\nintake\n{END}\nb\n{BEGIN['draw']}\n")
    assert text.endswith(f"{END}\nc\n")
    assert "old" not in text.replace("older version", "")
    assert "| pandas groupby().sample ÷ huifang: frame + draw, whole process ≥ 4 | L later | 4.20 | met |" in text
    assert "| highest memory of huifang: frame + draw < 1,000 MB | L later | 1,200 MB | not met |" in text
    assert "| samplics srs_wor | not finished after 300 s | – | – | – |" in text
    assert "| pandas groupby().sample | 5.0 % | not finished | – |" in text
    assert "| skipped: R sps::sps | not there |" in text


@pytest.mark.long
@pytest.mark.slow
def test_every_return_is_read_by_both_contestants_and_answered_by_huifang(tmp_path):
    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "1").write_bytes(b"From: a@evil.example\r\nFrom: b@evil.example\r\n\r\nhello\r\n")
    (strange / "2").write_bytes(bytes(range(256)) * 8)
    done = run(
        "-m", "bench", "returns", "--returns", "2", "--forms", "lock", "--repeats", "1", "--data", str(tmp_path / "data"),
        "--strange", str(strange),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "2 returns, locked" in done.stdout
    assert "with 2 strange mails ÷ without" in done.stdout


@pytest.mark.long
@pytest.mark.slow
def test_both_contestants_hand_every_mail_to_the_same_server(tmp_path):
    done = run("-m", "bench", "mail", "--mails", "12", "--rows", "20", "--repeats", "1", "--data", str(tmp_path))
    assert done.returncode == 0, done.stderr
    (figures,) = tmp_path.glob("mail-*.json")
    rounds = json.loads(figures.read_text(encoding="utf-8"))["rounds"]
    assert {name: len(each) for name, each in rounds.items()} == {"bare": 1, "huifang": 1}
    assert "huifang's rate ÷ smtplib's ≥ 0.9" in done.stdout
