"""The same rules on a real Spark as on DuckDB: every snapshot, frame and sample is the same, byte for byte of its text."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import ibis
import pyarrow.parquet as pq
import pytest
from prefect.logging import disable_run_logger

from demo.brokerage import build_extracts
from flows.draw.month import commit_month, draw_once
from flows.draw.seed import find_seed
from flows.draw.verify import verify
from flows.draw.year import freeze_year
from models.calendar import period
from models.extracts import UnknownCode
from models.framing import FramingError
from models.profile import Profile
from models.tables import Draw, ProgrammeYear, Pull
from tasks import records
from tasks.lake import IntakeResult, LakeError, connect, take_in, text_sha256, write_table
from tasks.settings import PROJECT, Settings, read_calendar, read_programmes, read_yaml
from tasks.source import open_delivery
from tasks.store import open_store

pytestmark = [pytest.mark.slow, pytest.mark.long]

BERKA = PROJECT.parent / "shared" / "data" / "berka"
CANONICAL = read_yaml(PROJECT / "profiles" / "canonical.yaml", Profile)
YEAR_END = date(2025, 12, 31)
NOW = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)
DEFAULTS = """\
spark.executor.memory 640m
spark.sql.shuffle.partitions 5
spark.sql.adaptive.coalescePartitions.enabled false
spark.driver.extraJavaOptions -XX:TieredStopAtLevel=1
spark.executor.extraJavaOptions -XX:TieredStopAtLevel=1
"""
"""Several partitions even for few rows, and Java that starts fast instead of running fast."""


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Spark master and two workers of our own on loopback, where no Python can be had, ended with the tests."""
    if importlib.util.find_spec("pyspark") is None:
        pytest.skip("no Spark here: pip install -r requirements-spark.txt")
    if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        pytest.skip("no Java here: install the package openjdk-17-jre-headless")
    import pyspark

    from tasks.lake import spark

    home, folder = Path(pyspark.__file__).parent, tmp_path_factory.mktemp("spark")
    (folder / "spark-defaults.conf").write_text(DEFAULTS)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {
        "SPARK_HOME": str(home), "SPARK_CONF_DIR": str(folder), "SPARK_LOCAL_IP": "127.0.0.1",
        "PYSPARK_PYTHON": "/no/python/on/a/worker", "SPARK_DAEMON_JAVA_OPTS": "-XX:TieredStopAtLevel=1",
    }  # fmt: skip
    deploy = "org.apache.spark.deploy"
    url, started = f"spark://127.0.0.1:{port}", []
    with pytest.MonkeyPatch.context() as patch, (folder / "log").open("wb") as log:
        for name, value in settings.items():
            patch.setenv(name, value)

        def start(*words: str) -> None:
            command = [str(home / "bin" / "spark-class"), *words]
            started.append(subprocess.Popen(command, cwd=folder, stdout=log, stderr=log))

        try:
            start(f"{deploy}.master.Master", "--host", "127.0.0.1", "--port", str(port), "--webui-port", "0")
            for n in range(2):
                start(f"{deploy}.worker.Worker", "--host", "127.0.0.1", "-c", "1", "-m", "1g", "--webui-port", "0",
                      "-d", str(folder / f"worker-{n}"), url)  # fmt: skip
            _await_port(port, started[0])
            yield url
        finally:
            spark.stop()
            for process in reversed(started):
                process.terminate()
            for process in started:
                process.wait(timeout=30)


def _await_port(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        assert process.poll() is None, "the Spark master ended at once"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise AssertionError("the Spark master does not open its port")


def pull(settings: Settings, profile: Profile, inbox: Path) -> dict[str, IntakeResult]:
    results: dict[str, IntakeResult] = {}
    with open_delivery(settings, profile, str(inbox)) as delivery:
        for name, files in delivery.items():
            known = {done: result.path for done, result in results.items()}
            results[name] = take_in(settings, profile, name, files, as_of=YEAR_END, known=known)
    return results


def both(tmp_path: Path, master: str, profile: Profile, inbox: Path) -> tuple[dict[str, IntakeResult], list[Settings]]:
    """What both engines found, which is the same, and where each keeps it."""
    engines = [Settings(home=tmp_path / name, engine=engine) for name, engine in (("d", "duckdb"), ("s", master))]
    ours, theirs = (pull(settings, profile, inbox) for settings in engines)
    assert theirs == ours
    for result in ours.values():
        mine, other = (settings.lake / result.path for settings in engines)
        assert sorted(f.name for f in other.iterdir()) == sorted(f.name for f in mine.iterdir())
        for file in mine.iterdir():
            left, right = pq.read_table(file), pq.read_table(other / file.name)
            assert right.schema.names == left.schema.names, file
            assert right.to_pylist() == left.to_pylist(), file
        assert {f.stat().st_mode & 0o777 for f in other.iterdir()} == {0o600}
    for settings in engines:
        assert not list((settings.lake / ".work").glob("intake-*"))
        assert not list((settings.home / "tmp").glob("spark-????????"))
    return ours, engines


BRANCHES = "branch_no,branch_name,region\n0001,北京路营业部,华北\n0002,南京路营业部,\n0003,,华东\n"
ROSTER = '''\
branch_no,role,contact_name,email,valid_from,valid_to
HQ,compliance,陈六,c@hq.example,2020-01-01,
0002,branch_head,"钱,七",q@x.example,2020-01-01,
0002,branch_head,"赵""八""",a@x.example,2020-01-01,2025-01-01
0002,branch_head,赵八,a@x.example,2020-01-01,2024-01-01
0404,branch_head,孙九,s@x.example,2020-01-01,
'''
STAFF = """\
staff_id,staff_name,branch_no,kind,valid_from,valid_to,phone
S01,王芳,0002,caller,2020-01-01,,１３８００１３８０００
S02,李建国,HQ,broker,,2020-12-31,
S03,赵敏,0002,adviser,,,12800138000
"""
CUSTOMERS = "customer_id,customer_name,phone,id_no,branch_no,segment,risk_level,status,open_on,close_on\n"
TRANSACTIONS = "transaction_id,customer_id,traded_on,kind,amount_cny\n"
PLAIN = "{},张三,13800138000,11010519491231002X,0001,普通,C3,active,{},\n"


def dirty_house(inbox: Path, encoding: str) -> None:
    """Files whose rows have every fault there is, and texts that engines read apart."""
    inbox.mkdir()
    names = ["王,五", '说"好"', "　全角　空格　", "O’Neill", "'撇号", "ＡＢＣ", "亅", "🐉龙", "　", "x" * 121, "制\t表"]
    ids = [
        "C１００",
        "C101\u2028",
        "C102\u0085",
        "'C103",
        " C104 ",
        "c-105",
        "C_106",
        ".C107",
        "C108\u00a0",
        "编号",
        "C" * 41,
        "C109 x",
    ]
    days = ["2020-02-29", "2021-02-29", "2020/02/29", "20200229", "2020.02.29", "43890", "60", "1", "999999", "2020-2-9",
            "2020-02-29 00:00:00.000", "２０２０-０２-２９", "1899-12-31", "9999-12-31", "0000-01-01", "2020-13-01",
            "2020-02-29\u2028", "31/01/2020", ""]  # fmt: skip
    phones = [
        "01088886666",
        "（010）8888 6666",
        "12800138000",
        "1380013800",
        "138-0013-8000",
        "电话",
        "１３８００１３８０００",
    ]
    numbers = ["110105194912310021", "91110000100000000A", "11010519491231002x", "H10359701", "G(1)/2", "1 2"]
    lines = [PLAIN.format(f"D{n:03}", day) for n, day in enumerate(days)]
    lines += [PLAIN.format(key, "2020-01-31") for key in ids]
    lines += [PLAIN.format(f"N{n:03}", "2020-01-31").replace("张三", quoted(name)) for n, name in enumerate(names)]
    lines += [PLAIN.format(f"P{n:03}", "2020-01-31").replace("13800138000", p) for n, p in enumerate(phones)]
    lines += [PLAIN.format(f"I{n:03}", "2020-01-31").replace("11010519491231002X", i) for n, i in enumerate(numbers)]
    lines += [
        PLAIN.format(f"B{n:03}", "2020-01-31").replace("0001", b) for n, b in enumerate(["", "0003", "0404", "００02"])
    ]
    lines += [f"S{n:03},张三,,,0002,{s},,closed,2020-01-31,{c}\n" for n, (s, c) in enumerate(
        [("普通", "2020-01-30"), ("普通", "2020-01-31"), ("a|b", ""), ("*", ""), ("é", "2031-01-01")])]  # fmt: skip
    lines += [PLAIN.format(f"D{n:03}", "2019-01-31") for n in (0, 4, 11)] * 2
    content = (CUSTOMERS + "".join(reversed(lines))).encode(encoding)
    (inbox / "customers.csv").write_bytes(
        content + PLAIN.format("G001", "2020-01-31").encode(encoding).replace(b"C3", b"C\xff")
    )
    amounts = ["1", "1.0", "-0.10", "+5.5", "1.230", "1.234", "0.00", "1e3", "", "9999999999999999.99", "12345678901234567",
               "１２.５", ".5", "5.", "1,000", "--1", "00012.30"]  # fmt: skip
    first = [f"T{n:04},D000,2026-01-05,buy,{quoted(amount)}\n" for n, amount in enumerate(amounts)]
    first += [
        f"U{n:04},{owner},2026-01-06,sell,3.5\n"
        for n, owner in enumerate(["NOBODY", "D001", "B002", "G001", "D000", "", "N003"])
    ]
    second = [f"T{n:04},N000,2026-01-0{n + 1},sell,7\n" for n in range(5)] + ["T9999,D000,2026-01-31,fee,0.01\n"]
    (inbox / "transactions_1.csv").write_bytes((TRANSACTIONS + "".join(first)).encode(encoding))
    (inbox / "transactions_2.csv").write_bytes((TRANSACTIONS + "".join(second)).encode(encoding))
    (inbox / "transactions_3.csv").write_bytes(TRANSACTIONS.encode(encoding))
    (inbox / "branches.csv").write_bytes(BRANCHES.encode(encoding))
    (inbox / "roster.csv").write_bytes(ROSTER.encode(encoding))
    (inbox / "staff_1.csv").write_bytes(STAFF.encode(encoding))
    without = "".join(line.rpartition(",")[0] + "\n" for line in STAFF.replace("S0", "S1").splitlines())
    (inbox / "staff_2.csv").write_bytes(without.encode(encoding))


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if '"' in text or "," in text else text


def dirty_profile(encoding: str) -> Profile:
    content = CANONICAL.model_dump(by_alias=True, exclude_unset=True)
    content |= {"encoding": encoding, "dates": ["yyyy-MM-dd", "yyyy/MM/dd", "yyyy.MM.dd", "yyyyMMdd", "excel"]}
    wanted = ("branches", "roster", "staff", "customers", "transactions")
    content["tables"] = {name: content["tables"][name] for name in wanted}
    content["tables"]["customers"]["report"] = dict.fromkeys(("bad_phone", "bad_checksum"), "到期前补正")
    return Profile.model_validate(content)


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030"])
def test_every_fault_is_found_alike_by_both_engines(tmp_path: Path, master: str, encoding: str) -> None:
    dirty_house(tmp_path / "inbox", encoding)
    found, engines = both(tmp_path, master, dirty_profile(encoding), tmp_path / "inbox")
    rules = {t.rule for result in found.values() for t in result.tallies}
    assert rules >= {
        "bad_byte", "missing", "bad_form", "bad_length", "bad_date", "impossible_date", "bad_number", "out_of_range",
        "bad_checksum", "bad_phone", "close_before_open", "duplicate_id", "unknown_branch", "orphan",
        "branch_not_accepted", "customer_not_accepted",
    }  # fmt: skip
    assert found["customers"].reported > 0
    assert [(file.accepted, file.rejected) for file in found["staff"].files] == [(2, 1), (3, 0)]
    if encoding == "gb18030":
        return
    # A snapshot of either engine can be referred to from the other.
    known = {name: result.path for name, result in found.items()}
    for here, other in zip(engines, reversed(engines), strict=True):
        mixed = here.model_copy(update={"engine": other.engine})
        with open_delivery(mixed, dirty_profile(encoding), str(tmp_path / "inbox")) as files:
            again = take_in(
                mixed, dirty_profile(encoding), "transactions", files["transactions"], as_of=YEAR_END, known=known
            )
        assert again == found["transactions"]


@pytest.mark.skipif(not BERKA.is_dir(), reason=f"the real bank's files are not at {BERKA}")
def test_a_real_bank_whose_transactions_name_accounts_gives_the_same_snapshots(tmp_path: Path, master: str) -> None:
    found, _ = both(tmp_path, master, read_yaml(PROJECT / "profiles" / "berka.yaml", Profile), BERKA)
    assert (found["transactions"].accepted, found["transactions"].ignored) == (48451, 651)


@pytest.mark.parametrize("dialect", ["hundsun", "kingdom"])
def test_a_counters_own_files_give_the_same_snapshots(tmp_path: Path, master: str, dialect: str) -> None:
    build_extracts(tmp_path / "inbox", customers=300, branches=3, seed=5, year_end=YEAR_END, dialect=dialect)
    profile = read_yaml(PROJECT / "profiles" / f"{dialect}.yaml", Profile)
    found, _ = both(tmp_path, master, profile, tmp_path / "inbox")
    assert found["transactions"].accepted > 0


def test_a_file_that_is_refused_is_refused_in_the_same_words(tmp_path: Path, master: str) -> None:
    inbox, said = tmp_path / "inbox", []
    dirty_house(inbox, "utf-8")
    for path, wrong, kind in (
        ("customers.csv", CUSTOMERS + "C1,张三\n", FramingError),
        ("customers.csv", CUSTOMERS + PLAIN.format("C1", "2020-01-31").replace("active", "Active"), UnknownCode),
    ):
        (inbox / path).write_text(wrong, encoding="utf-8")
        for engine in ("duckdb", master):
            settings = Settings(home=tmp_path / engine.partition(":")[0], engine=engine)
            with pytest.raises(kind) as refused:
                pull(settings, dirty_profile("utf-8"), inbox)
            said.append(str(refused.value))
            assert not (settings.lake / "customers").exists()
            assert not list((settings.lake / ".work").glob("intake-*"))
    assert said[0] == said[1]
    assert said[2] == said[3]


def test_the_same_frame_is_frozen_and_the_same_sample_drawn(
    tmp_path: Path, master: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.draw.seed.secrets.token_hex", lambda n: "5eed" * (n // 2))
    build_extracts(tmp_path / "inbox", customers=3_000, branches=12, seed=5, year_end=YEAR_END)
    found, engines = both(tmp_path, master, CANONICAL, tmp_path / "inbox")
    assert found["transactions"].rejected > 0
    frozen: dict[str, list[tuple[object, ...]]] = {}
    for settings in engines:
        store = open_store(settings)
        with store.begin() as session:
            stamp = {"profile_sha256": "x", "manifest_sha256": "x", "code_version": "t", "pulled_at": NOW}
            records.add_pull(session, Pull(as_of=YEAR_END, profile="canonical", **stamp), list(found.values()))
        for programme in ("daily_risk", "marketer_conduct"):
            span, calendar, day = period("2026-03"), read_calendar(settings), date(2026, 3, 2)
            with disable_run_logger():
                year, rules = freeze_year.fn(settings, store, read_programmes(settings), programme, span, now=NOW)
            campaign = commit_month(settings, store, rules, year, span, calendar, as_of=day, now=NOW)
            assert campaign is not None
            seed = find_seed(store, rules, campaign, span, now=NOW)
            assert seed is not None
            with disable_run_logger():
                draw_once.fn(settings, store, rules, year, campaign, seed, calendar, as_of=day, now=NOW)
            with store.begin() as session:
                year, drawn = session.get_one(ProgrammeYear, year.id), session.get_one(Draw, campaign.id)
                said = (
                    year.frame_sha256, year.base, year.eligible, year.contradictions, campaign.state_sha256,
                    drawn.sample_sha256, drawn.drawn, drawn.reserve,
                )  # fmt: skip
            assert drawn.drawn > 0
            frozen.setdefault(programme, []).append(said)
    for ours, theirs in frozen.values():
        assert theirs == ours
    # What one engine drew, the other verifies.
    mixed = engines[0].model_copy(update={"engine": master})
    assert [check for check in verify(mixed, open_store(mixed), "daily_risk-2026-03") if not check.is_same] == []


def test_texts_are_hashed_and_written_alike(tmp_path: Path, master: str) -> None:
    columns = {
        "k": ["b", "a", "B", "é", "龙", "🐉", "~"],
        "t": ['说"好"', "x,y", "one\ntwo", "back\\slash", None, "r\rr", "'"],
        "n": [2, None, 1, 3, -4, 5, 6],
    }
    seen = []
    for engine in ("duckdb", master):
        settings = Settings(home=tmp_path / engine.partition(":")[0], engine=engine)
        con = connect(settings)
        frame = ibis.memtable(columns, schema={"k": "string", "t": "string", "n": "int64"})
        frame = frame.mutate(d=(frame.n / 4).cast("decimal(9, 2)"), on=ibis.literal(date(2026, 1, 31)))
        written = write_table(con, frame, settings.lake / "frames" / "f.parquet", ["k"])
        empty = text_sha256(con, frame.limit(0))
        seen.append((text_sha256(con, frame), text_sha256(con, written, is_sorted=True), empty))
    assert seen[0] == seen[1]
    assert seen[0][0] == seen[0][1]
    left, right = (pq.read_table(path).to_pylist() for path in sorted(tmp_path.glob("*/lake/frames/f.parquet")))
    assert left == right


def test_a_master_that_does_not_answer_is_named_with_what_to_do(tmp_path: Path, master: str) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        gone = f"spark://127.0.0.1:{probe.getsockname()[1]}"
    from tasks.lake import spark

    spark.stop()
    with pytest.raises(LakeError, match=rf"HUIFANG_ENGINE={gone}: no master answers within .*HUIFANG_ENGINE=duckdb"):
        connect(Settings(home=tmp_path, engine=gone))
    with pytest.raises(LakeError, match="write it as spark://HOST:PORT"):
        connect(Settings(home=tmp_path, engine="spark://somewhere"))
