"""Where extracts come from: folders, SFTP, an S3-like store, databases; what is whole is kept raw, the rest is refused."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import os
import pwd
import shutil
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from models.delivery import Delivery, DeliveryError
from models.profile import Profile
from tasks.settings import PROJECT, Settings, read_yaml
from tasks.source import SourceError, open_delivery
from tasks.source.raw import RawCopies

CANONICAL = read_yaml(PROJECT / "profiles" / "canonical.yaml", Profile)
BRANCHES = b"branch_no,branch_name,region\n0001,a,b\n"
CUSTOMERS = b"customer_id,customer_name\nC001,x\n"
BIG = os.urandom(1 << 20) * 3


def profile_of(*tables: str, **changes: Any) -> Profile:
    """The canonical profile with some tables; a table's own keys are given under its name."""
    own = {name: changes.pop(name) for name in tables if name in changes}
    content = CANONICAL.model_dump(by_alias=True, exclude_unset=True) | {"settle_seconds": 0} | changes
    content["tables"] = {name: content["tables"][name] | own.get(name, {}) for name in tables}
    return Profile.model_validate(content)


BOTH = profile_of("branches", "customers")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "var")


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    (folder / "branches.csv").write_bytes(BRANCHES)
    (folder / "customers.csv").write_bytes(CUSTOMERS)
    return folder


def deliver(
    settings: Settings, profile: Profile, inbox: Path | str, roster: Path | None = None, **more: Any
) -> Delivery:
    with open_delivery(settings, profile, inbox, roster, **more) as delivery:
        for files in delivery.files.values():
            for file in files:
                assert hashlib.sha256(Path(file.path).read_bytes()).hexdigest() == file.sha256 == Path(file.path).name
        assert not leftovers(settings)
        return delivery


def leftovers(settings: Settings) -> list[Path]:
    return list((settings.lake / "raw").glob(".raw-*"))


def names(delivery: Delivery) -> dict[str, list[str]]:
    return {table: [file.name for file in files] for table, files in delivery.items()}


def refused(settings: Settings, profile: Profile, inbox: Path | str, match: str, **more: Any) -> str:
    with pytest.raises((SourceError, DeliveryError), match=match) as error:
        deliver(settings, profile, inbox, **more)
    assert not leftovers(settings)
    return str(error.value)


# ---- a folder -----------------------------------------------------------------------------------------------


def test_files_are_kept_by_hash_for_the_service_alone_in_the_order_of_intake(settings: Settings, inbox: Path) -> None:
    delivery = deliver(settings, profile_of("customers", "branches"), inbox)
    assert list(delivery) == ["branches", "customers"]
    file = delivery["customers"][0]
    assert (file.name, file.size_bytes, file.member, file.expected, file.is_canonical) == (
        "customers.csv", len(CUSTOMERS), "", None, False,
    )  # fmt: skip
    assert (file.form.format, file.form.encoding, file.form.delimiter, file.form.quote) == ("text", "utf-8", ",", '"')
    assert stat.S_IMODE(Path(file.path).stat().st_mode) == 0o600
    for folder in (settings.lake, settings.lake / "raw"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    before = Path(file.path).stat()
    assert deliver(settings, BOTH, str(inbox)).files == delivery.files
    assert Path(file.path).stat().st_mtime_ns == before.st_mtime_ns


def test_the_roster_may_come_from_elsewhere_in_our_own_form(settings: Settings, inbox: Path, tmp_path: Path) -> None:
    roster = tmp_path / "my_roster.csv"
    roster.write_text("branch_no,role\n", encoding="utf-8")
    (inbox / "roster.csv").write_text("theirs\n", encoding="utf-8")
    delivery = deliver(settings, profile_of("branches", "roster", encoding="gb18030"), inbox, roster)
    (file,) = delivery["roster"]
    assert (list(delivery), file.name, file.is_canonical) == (["branches", "roster"], "my_roster.csv", True)
    assert file.form.encoding == "utf-8"
    assert [(each.name, each.reason) for each in delivery.set_aside if "roster" in each.name] == [
        ("roster.csv", "--roster gives another file for its table")
    ]


def test_what_is_missing_empty_a_link_or_no_plain_file_is_refused(
    settings: Settings, inbox: Path, tmp_path: Path
) -> None:
    refused(settings, BOTH, tmp_path / "nowhere", "no such folder")
    outside = tmp_path / "outside"
    outside.mkdir()
    (inbox / "customers.csv").rename(outside / "customers.csv")
    refused(settings, BOTH, inbox, r"no file customers\*\.csv or .* table customers; found branches\.csv")
    (inbox / "customers.csv").symlink_to(outside / "customers.csv")
    refused(settings, BOTH, inbox, r"customers\.csv: is a symbolic link")
    (inbox / "customers.csv").unlink()
    (inbox / "customers.csv").touch()
    refused(settings, BOTH, inbox, r"customers\.csv: is empty")
    (inbox / "customers.csv").unlink()
    os.mkfifo(inbox / "customers.csv")
    refused(settings, BOTH, inbox, "is not a plain file")
    (inbox / "sub").symlink_to(outside)
    refused(
        settings, profile_of("customers", customers={"files": ["sub/customers.csv"]}), inbox, "behind a symbolic link"
    )
    refused(
        settings, profile_of("customers", customers={"files": ["../outside/*.csv"]}), inbox, "leads out of the inbox"
    )


def test_a_folder_swapped_for_a_link_after_the_listing_is_not_followed(
    settings: Settings, inbox: Path, tmp_path: Path
) -> None:
    profile = profile_of("customers", settle_seconds=5, customers={"files": ["day/customers.csv"]})
    (inbox / "day").mkdir()
    (inbox / "customers.csv").rename(inbox / "day" / "customers.csv")

    def swap(_: float) -> None:
        (inbox / "day").rename(tmp_path / "outside")
        (inbox / "day").symlink_to(tmp_path / "outside")

    clock = iter([time.time(), time.time(), time.time(), time.time() + 60, time.time() + 120])
    refused(settings, profile, inbox, "cannot be read|symbolic link", sleep=swap, clock=lambda: next(clock))


def test_a_file_of_two_tables_is_refused(settings: Settings, inbox: Path) -> None:
    refused(
        settings,
        profile_of("branches", "customers", customers={"files": ["*.csv"]}),
        inbox,
        r"branches\.csv: matches the files of both branches and customers",
    )


def test_what_no_table_takes_is_set_aside_by_name(settings: Settings, inbox: Path) -> None:
    (inbox / "in").mkdir()
    (inbox / "notes.txt").write_bytes(b"x" * 7)
    (inbox / "in" / "old.csv").write_bytes(b"y")
    (inbox / "customers_2.csv.filepart").write_bytes(b"half")
    (inbox / ".customers_3.csv").write_bytes(b"half")
    (inbox / "archive").mkdir()
    (inbox / "archive" / "customers.csv").write_bytes(b"not reached")
    profile = profile_of("branches", "customers", customers={"files": ["customers*", "in/c*.csv"]})
    set_aside = {each.name: each for each in deliver(settings, profile, inbox).set_aside}
    assert {name: each.reason for name, each in set_aside.items()} == {
        ".customers_3.csv": "still being written, as its name says; left alone",
        "customers_2.csv.filepart": "still being written, as its name says; left alone",
        "in/old.csv": "no table of profile canonical takes it",
        "notes.txt": "no table of profile canonical takes it",
    }
    assert set_aside["notes.txt"].size_bytes == 7


def test_a_name_that_is_not_utf8_is_read_as_gb18030(settings: Settings, inbox: Path) -> None:
    with open(os.fsencode(inbox) + b"/" + "客户.csv".encode("gb18030"), "wb") as file:
        file.write(CUSTOMERS + b"C002,y\n")
    (inbox / "x\ny.csv").write_bytes(b"x")
    delivery = deliver(settings, profile_of("customers", customers={"files": ["客户.csv"]}), inbox)
    assert names(delivery) == {"customers": ["客户.csv"]}
    assert {each.name: each.reason for each in delivery.set_aside}["x?y.csv"].startswith("its name holds characters")


def test_the_same_bytes_twice_are_loaded_once(settings: Settings, inbox: Path) -> None:
    (inbox / "customers_1.csv").write_bytes(CUSTOMERS + b"C002,y\n")
    (inbox / "customers_2.csv").write_bytes(CUSTOMERS)
    delivery = deliver(settings, BOTH, inbox)
    assert names(delivery)["customers"] == ["customers.csv", "customers_1.csv"]
    (twice,) = delivery.set_aside
    assert (twice.name, twice.table_name, twice.reason) == (
        "customers_2.csv",
        "customers",
        "the same bytes as customers.csv",
    )
    assert twice.sha256 == delivery["customers"][0].sha256


def test_what_a_killed_run_left_behind_is_removed_and_a_living_one_is_left_alone(
    settings: Settings, inbox: Path
) -> None:
    script = (
        "import sys, time; from pathlib import Path; from tasks.source.raw import RawCopies\n"
        "class Slow:\n"
        "    def read(self, size): print('reading', flush=True); time.sleep(60); return b''\n"
        "RawCopies(Path(sys.argv[1])).keep(Slow(), 'slow.csv')"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, settings.lake / "raw"], cwd=PROJECT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        with open_delivery(settings, BOTH, inbox):
            assert len(leftovers(settings)) == 1
    finally:
        process.kill()
        process.wait()
    deliver(settings, BOTH, inbox)


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, inbox: Path) -> None:
    home = tmp_path / "small"
    home.mkdir()
    if os.getuid() != 0 or shutil.which("mount") is None:
        pytest.skip("a file system of its own needs root and mount")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", home], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        settings = Settings(home=home)
        (inbox / "customers.csv").write_bytes(BIG)
        said = refused(settings, BOTH, inbox, r"small.lake.raw: no room for customers\.csv: [0-9,]+ bytes are free")
        assert int(said.split(": ")[2].split()[0].replace(",", "")) > 900_000
        assert len(list((settings.lake / "raw").iterdir())) == 1  # the branches, whole
        database = inbox / "bank.sqlite"
        with closing(sqlite3.connect(database)) as connection, connection:
            connection.execute("create table branches(b)")
            connection.executemany("insert into branches values (?)", [(os.urandom(5000).hex(),) for _ in range(600)])
        refused(
            settings,
            profile_of("branches", branches={"query": "branches"}),
            f"sqlite:///{database}",
            "no room for branches",
        )
    finally:
        subprocess.run(["umount", home], check=True)


# ---- whole or growing ---------------------------------------------------------------------------------------


class Clock:
    """Time that passes only while somebody sleeps; `during` says what happens meanwhile."""

    def __init__(self, during: Callable[[int], None] = lambda _: None) -> None:
        self.now, self.slept, self.during = time.time(), 0, during

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept += 1
        self.during(self.slept)


def test_a_file_that_was_just_written_is_watched_until_it_is_quiet(settings: Settings, inbox: Path) -> None:
    def append(times: int) -> None:
        if times == 1:
            with (inbox / "customers.csv").open("ab") as file:
                file.write(b"C002,y\n")

    clock = Clock(append)
    delivery = deliver(
        settings, profile_of("branches", "customers", settle_seconds=5), inbox, clock=clock, sleep=clock.sleep
    )
    assert delivery["customers"][0].size_bytes == len(CUSTOMERS) + 7
    assert clock.slept == 2
    old = time.time() - 60
    for path in inbox.iterdir():
        os.utime(path, (old, old))
    clock = Clock()
    deliver(settings, profile_of("branches", "customers", settle_seconds=5), inbox, clock=clock, sleep=clock.sleep)
    assert clock.slept == 0


def test_a_file_that_keeps_growing_is_left_to_the_next_run(settings: Settings, inbox: Path) -> None:
    def append(_: int) -> None:
        with (inbox / "customers.csv").open("ab") as file:
            file.write(b"C002,y\n")

    clock = Clock(append)
    profile = profile_of("branches", "customers", settle_seconds=5)
    refused(settings, profile, inbox, r"customers\.csv: is still growing; left alone", clock=clock, sleep=clock.sleep)
    assert 3 <= clock.slept <= 5


@pytest.mark.parametrize("change", ["grows", "vanishes"])
def test_a_file_that_changes_while_it_is_read_is_refused(
    settings: Settings, inbox: Path, change: str, monkeypatch
) -> None:
    (inbox / "customers.csv").write_bytes(BIG)
    keep = RawCopies.keep

    def meanwhile(self: RawCopies, source: Any, name: str, **more: Any) -> Any:
        class Changing:
            def read(self, size: int) -> bytes:
                path = inbox / name
                if name == "customers.csv" and change == "vanishes":
                    path.unlink(missing_ok=True)
                elif name == "customers.csv" and path.stat().st_size == len(BIG):
                    with path.open("ab") as file:
                        file.write(b"more")
                block: bytes = source.read(size)
                return block

        return keep(self, Changing(), name, **more)

    monkeypatch.setattr(RawCopies, "keep", meanwhile)
    said = "has vanished" if change == "vanishes" else "has changed"
    refused(settings, BOTH, inbox, rf"customers\.csv: {said} while it was read")
    assert len(list((settings.lake / "raw").iterdir())) == 1


def test_a_file_waits_for_its_marker(settings: Settings, inbox: Path) -> None:
    profile = profile_of(
        "branches", "customers", settle_seconds=60, customers={"form": {"complete": {"marker": "{name}.ok"}}}
    )
    os.utime(inbox / "branches.csv", (1, 1))
    refused(
        settings, profile, inbox, r"customers\.csv: is not complete yet: customers\.csv\.ok has not come; the next run"
    )
    (inbox / "customers.csv.ok").touch()
    delivery = deliver(settings, profile, inbox)
    assert (names(delivery)["customers"], delivery.set_aside) == (["customers.csv"], [])
    (inbox / "customers_2.csv.ok").touch()
    refused(settings, profile, inbox, r"customers_2\.csv: has not come, though customers_2\.csv\.ok has")


def test_a_marker_is_no_extract_though_the_pattern_takes_it(settings: Settings, inbox: Path) -> None:
    own = {"files": ["customers*"], "form": {"complete": {"marker": "{name}.ok"}}}
    (inbox / "customers.csv.ok").write_bytes(b"ok")
    assert names(deliver(settings, profile_of("customers", customers=own), inbox)) == {"customers": ["customers.csv"]}


def test_what_the_marker_says_of_the_bytes_is_checked_and_of_the_rows_handed_on(
    settings: Settings, inbox: Path
) -> None:
    complete = {
        "marker": "日.ctl",
        "pattern": r"^{name}\|(?P<rows>\d+)\|(?P<bytes>\d+)\|(?P<md5>\w+)\|(?P<sha256>\w+)\|(?P<金额>[\d.]+)",
    }
    profile = profile_of("customers", encoding="gb18030", complete=complete)
    md5, sha256 = hashlib.md5(CUSTOMERS).hexdigest(), hashlib.sha256(CUSTOMERS).hexdigest()
    good = f"对账\ncustomers.csv|1|{len(CUSTOMERS)}|{md5}|{sha256.upper()}|12.50\n"
    (inbox / "日.ctl").write_bytes(good.encode("gb18030"))
    expected = deliver(settings, profile, inbox)["customers"][0].expected
    assert expected is not None
    assert (expected.rows, {k: str(v) for k, v in expected.totals.items()}, expected.said_by) == (
        1,
        {"金额": "12.50"},
        "日.ctl",
    )
    for wrong, said in (
        (good.replace(f"|{len(CUSTOMERS)}|", "|9|"), "bytes, 日.ctl says 9"),
        (good.replace(md5, "0" * 32), "its md5 is not"),
        (good.replace(sha256.upper(), "0" * 64), "its sha256 is not"),
        ("nothing", "says nothing of customers.csv"),
    ):
        (inbox / "日.ctl").write_bytes(wrong.encode("gb18030"))
        refused(settings, profile, inbox, said)
    (inbox / "日.ctl").write_bytes(b"\xff\xff")
    refused(settings, profile, inbox, "日.ctl: is not gb18030 at byte 0")
    (inbox / "日.ctl").write_bytes(b" " * (2 << 20))
    refused(settings, profile, inbox, "日.ctl: is longer than")


# ---- packed -------------------------------------------------------------------------------------------------


def zip_of(path: Path, entries: dict[str, bytes], **more: Any) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **more) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


ZIPPED = profile_of("customers", customers={"files": ["*.zip", "*.gz", "*.csv"]})


def test_each_entry_of_an_archive_is_a_file_of_its_own(settings: Settings, inbox: Path) -> None:
    (inbox / "customers.csv").unlink()
    (inbox / "branches.csv").unlink()
    zip_of(inbox / "day.zip", {"in/": b"", "in/a.csv": CUSTOMERS, "b.parquet": b"PAR1", "__MACOSX/._a.csv": b"x"})
    found = deliver(settings, ZIPPED, inbox)["customers"]
    assert [(f.name, f.member, f.form.format) for f in found] == [
        ("day.zip/in/a.csv", "in/a.csv", "text"), ("day.zip/b.parquet", "b.parquet", "parquet"),
    ]  # fmt: skip
    assert len({f.path for f in found}) == 1


def test_names_in_an_archive_that_are_not_utf8_are_gb18030(settings: Settings, inbox: Path) -> None:
    path = zip_of(inbox / "customers.zip", {"AAAA.csv": CUSTOMERS})
    path.write_bytes(path.read_bytes().replace(b"AAAA.csv", "客户.csv".encode("gb18030")))
    found = deliver(settings, profile_of("customers", customers={"files": ["*.zip"]}), inbox)["customers"]
    assert [(f.name, f.member) for f in found] == [("customers.zip/客户.csv", "客户.csv")]
    with zipfile.ZipFile(found[0].path, metadata_encoding="gb18030") as archive:
        assert archive.read(found[0].member) == CUSTOMERS


def test_an_archive_that_is_not_what_it_should_be_is_refused(settings: Settings, inbox: Path) -> None:
    (inbox / "branches.csv").unlink()
    (inbox / "customers.csv").unlink()
    path = inbox / "x.zip"
    zip_of(path, {"../../x.csv": b"x"})
    refused(settings, ZIPPED, inbox, r"x\.zip/\.\./\.\./x\.csv: leads out of the archive")
    link = zipfile.ZipInfo("x.csv")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(link, "/etc/passwd")
    refused(settings, ZIPPED, inbox, r"x\.csv: is a link")
    zip_of(path, {"bomb.csv": bytes(50 << 20)})
    refused(settings, ZIPPED, inbox, "more than 200 times")
    zip_of(path, {"x.csv": CUSTOMERS})
    whole = path.read_bytes()
    encrypted = bytearray(whole)
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        encrypted[whole.index(magic) + offset] |= 1
    path.write_bytes(encrypted)
    refused(settings, ZIPPED, inbox, "is encrypted")
    path.write_bytes(whole[:-30])
    refused(settings, ZIPPED, inbox, "damaged zip archive")
    path.write_bytes(CUSTOMERS)
    refused(settings, ZIPPED, inbox, "is no zip archive")
    zip_of(path, {})
    refused(settings, ZIPPED, inbox, "holds no file")
    path.rename(inbox / "x.csv")
    refused(settings, ZIPPED, inbox, "under another name")


def test_gzip_is_told_by_its_bytes_and_its_name_must_not_lie(settings: Settings, inbox: Path) -> None:
    (inbox / "branches.csv").unlink()
    (inbox / "customers.csv").write_bytes(gzip.compress(CUSTOMERS))
    assert deliver(settings, ZIPPED, inbox)["customers"][0].name == "customers.csv"
    (inbox / "customers.csv").rename(inbox / "customers.csv.gz")
    assert deliver(settings, ZIPPED, inbox)["customers"][0].form.format == "text"
    (inbox / "customers.csv.gz").write_bytes(CUSTOMERS)
    refused(settings, ZIPPED, inbox, r"customers\.csv\.gz: is not gzip")


# ---- URLs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "sftp://bank:s3cr3t@host.example/in",
        "sftp://bank:s3/cr3t@host.example/in",
        "postgresql://bank:s3cr3t@host.example/bank",
        "postgresql://bank@host.example/bank?password=s3cr3t",
        "mssql+pyodbc:///?odbc_connect=SERVER%3Dx%3BPWD%3Ds3cr3t",
        "sftp://bank:12/s3cr3t@host.example/in",
        "s3://KEY:s3cr3t@bucket/prefix",
    ],
)
def test_a_password_in_the_address_is_refused_and_not_repeated(settings: Settings, url: str) -> None:
    said = refused(settings, BOTH, url, "HUIFANG_INBOX: (a password stands in the URL|is no URL)")
    assert "s3cr3t" not in said
    assert "cr3t" not in said


def test_any_folder_that_fsspec_reaches_is_an_inbox(settings: Settings) -> None:
    import fsspec

    store = fsspec.filesystem("memory")
    try:
        store.pipe({"/day/branches.csv": BRANCHES, "/day/sub/customers_1.csv": CUSTOMERS, "/day/readme.txt": b"hello"})
        profile = profile_of("branches", "customers", customers={"files": ["*/customers*.csv"]})
        delivery = deliver(settings, profile, "memory://day")
        assert names(delivery) == {"branches": ["branches.csv"], "customers": ["sub/customers_1.csv"]}
        assert [each.name for each in delivery.set_aside] == ["readme.txt"]
        refused(settings, profile, "memory://nowhere", "no such folder")
        refused(settings, profile, "nosuch://day", "nosuch")
        refused(settings, profile, "simplecache::memory://day", "chain of URLs")
    finally:
        store.rm("/day", recursive=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """An sshd of our own on loopback."""

    def __init__(self, folder: Path, inbox: Path) -> None:
        self.folder, self.inbox, self.port = folder, inbox, free_port()
        for name in ("host_key", "user_key", "other_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
        public = (folder / "host_key.pub").read_text().split()[:2]
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {' '.join(public)}\n")
        (folder / "authorized_keys").write_text((folder / "user_key.pub").read_text())
        (folder / "config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {folder}/host_key\nPidFile {folder}/pid\n"
            f"AuthorizedKeysFile {folder}/authorized_keys\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n"
            "PermitRootLogin prohibit-password\nSubsystem sftp internal-sftp\nMaxStartups 100\n"
        )
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        Path("/run/sshd").mkdir(exist_ok=True)
        self.process = subprocess.Popen(
            ["/usr/sbin/sshd", "-D", "-e", "-f", self.folder / "config"], stderr=(self.folder / "log").open("ab")
        )
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError((self.folder / "log").read_text())

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
            self.process = None

    def cut_off(self) -> None:
        """Ends the connections, not the server."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        assert children
        for child in children:
            os.kill(int(child), signal.SIGKILL)

    def settings(self, home: Path, **more: Any) -> Settings:
        own = {"inbox_key_file": self.folder / "user_key", "inbox_known_hosts_file": self.folder / "known_hosts"}
        return Settings(home=home, **{**own, **more})

    @property
    def url(self) -> str:
        return f"sftp://{pwd.getpwuid(os.getuid()).pw_name}@127.0.0.1:{self.port}{self.inbox}"


@pytest.fixture
def server(tmp_path: Path, inbox: Path) -> Iterator[Server]:
    if not Path("/usr/sbin/sshd").exists() or os.getuid() != 0:
        pytest.skip("no SSH server can be started here: install openssh-server and be root")
    folder = tmp_path / "ssh"
    folder.mkdir()
    server = Server(folder, inbox)
    try:
        yield server
    finally:
        server.stop()


def test_extracts_come_over_sftp(server: Server, tmp_path: Path, inbox: Path) -> None:
    big = os.urandom(3 << 20) * 30  # more than is asked for ahead at once
    (inbox / "customers.csv").write_bytes(big)
    (inbox / "in").mkdir()
    (inbox / "in" / "customers_2.csv").write_bytes(CUSTOMERS)
    (inbox / "readme").write_bytes(b"hello")
    settings = server.settings(tmp_path / "var")
    profile = profile_of("branches", "customers", customers={"files": ["customers.csv", "in/*.csv"]})
    delivery = deliver(settings, profile, server.url)
    assert names(delivery) == {"branches": ["branches.csv"], "customers": ["customers.csv", "in/customers_2.csv"]}
    assert delivery["customers"][0].sha256 == hashlib.sha256(big).hexdigest()
    assert [each.name for each in delivery.set_aside] == ["readme"]
    (inbox / "in" / "customers_2.csv").unlink()
    (inbox / "in" / "customers_2.csv").symlink_to("/etc/passwd")
    refused(settings, profile, server.url, r"in/customers_2\.csv: is a symbolic link")
    refused(settings, profile, server.url + "/nowhere", "no such folder")
    with open(os.fsencode(inbox) + b"/" + "客户.csv".encode("gb18030"), "wb") as file:
        file.write(CUSTOMERS)
    refused(settings, profile, server.url, "a file's name is not UTF-8")


def test_an_unknown_or_changed_host_key_is_refused_at_once(server: Server, tmp_path: Path) -> None:
    known = server.folder / "known_hosts"
    refused(
        server.settings(tmp_path, inbox_known_hosts_file=None), BOTH, server.url, "set HUIFANG_INBOX_KNOWN_HOSTS_FILE"
    )
    good = known.read_text()
    known.write_text("")
    refused(
        server.settings(tmp_path), BOTH, server.url, r"ssh-ed25519 SHA256:.* is not in HUIFANG_INBOX_KNOWN_HOSTS_FILE"
    )
    assert known.read_text() == ""
    other = (server.folder / "other_key.pub").read_text().split()[1]
    known.write_text(good.replace(good.split()[2], other))
    refused(server.settings(tmp_path), BOTH, server.url, "its host key has changed")
    known.write_text(good)
    refused(
        server.settings(tmp_path, inbox_key_file=server.folder / "other_key"),
        BOTH,
        server.url,
        "does not let root in; check",
    )
    refused(
        server.settings(tmp_path, inbox_key_file=None),
        BOTH,
        server.url,
        "needs a user in the URL and HUIFANG_INBOX_KEY_FILE",
    )
    refused(server.settings(tmp_path, inbox_key_file=tmp_path / "none"), BOTH, server.url, "none: no such file")


def test_a_server_that_is_away_is_tried_again(server: Server, tmp_path: Path) -> None:
    settings = server.settings(tmp_path / "var")
    server.stop()
    began = time.monotonic()
    refused(settings, BOTH, server.url, r"cannot be reached.*tried 3 times", delays=(0.2, 0.4))
    assert time.monotonic() - began >= 0.6


@pytest.mark.parametrize("change", ["shrinks", "vanishes", "grows", "is cut off"])
def test_what_happens_to_a_file_on_the_server_is_noticed(
    server: Server, tmp_path: Path, inbox: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = os.urandom(1 << 20) * 40
    (inbox / "customers.csv").write_bytes(content)
    settings = server.settings(tmp_path / "var")
    keep, done = RawCopies.keep, []

    def meanwhile(self: RawCopies, source: Any, name: str, **more: Any) -> Any:
        class Changing:
            def read(self, size: int) -> bytes:
                block: bytes = source.read(size)
                if name == "customers.csv" and not done:
                    done.append(name)
                    if change == "vanishes":
                        (inbox / name).unlink()
                    elif change == "is cut off":
                        server.cut_off()
                    else:
                        os.truncate(inbox / name, len(content) // 2 if change == "shrinks" else len(content) + 5)
                return block

        return keep(self, Changing(), name, **more)

    monkeypatch.setattr(RawCopies, "keep", meanwhile)
    if change == "is cut off":
        delivery = deliver(settings, BOTH, server.url, delays=(0.1,))
        assert delivery["customers"][0].sha256 == hashlib.sha256(content).hexdigest()
    else:
        said = {"shrinks": "has changed|cannot be read", "grows": "has changed", "vanishes": "has vanished"}[change]
        refused(settings, BOTH, server.url, said, delays=(0.1,))


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[tuple[str, Settings]]:
    pytest.importorskip("s3fs", reason="no s3fs here: pip install huifang[s3]")
    moto = pytest.importorskip("moto.server", reason="no moto server here: pip install moto[s3] flask flask-cors")
    import s3fs

    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        _, port = server.get_host_and_port()
        secret = tmp_path / "secret"
        secret.write_text("s3cr3t\n")
        endpoint = f"http://127.0.0.1:{port}"
        store = s3fs.S3FileSystem(key="KEY", secret="s3cr3t", endpoint_url=endpoint, skip_instance_cache=True)
        if not store.exists("bank"):
            store.mkdir("bank")
        store.pipe({"bank/day/branches.csv": BRANCHES, "bank/day/in/customers.csv": BIG * 10, "bank/day/readme": b"x"})
        yield (
            "s3://KEY@bank/day",
            Settings(home=tmp_path / "var", inbox_endpoint_url=endpoint, inbox_password_file=secret),
        )
    finally:
        server.stop()


def test_extracts_come_from_an_s3_like_store(bucket: tuple[str, Settings]) -> None:
    url, settings = bucket
    profile = profile_of("branches", "customers", customers={"files": ["in/*.csv"]})
    delivery = deliver(settings, profile, url)
    assert names(delivery) == {"branches": ["branches.csv"], "customers": ["in/customers.csv"]}
    assert delivery["customers"][0].size_bytes == len(BIG) * 10
    assert [each.name for each in delivery.set_aside] == ["readme"]
    refused(settings, profile, "s3://KEY@nobank/day", "no such folder")
    refused(settings, profile, "s3://bank/day", "give both the access key")


def test_an_object_that_is_written_anew_while_it_is_read_is_refused(bucket: tuple[str, Settings], monkeypatch) -> None:
    import s3fs

    url, settings = bucket
    profile = profile_of("customers", customers={"files": ["in/*.csv"]})
    store = s3fs.S3FileSystem(
        key="KEY", secret="s3cr3t", endpoint_url=settings.inbox_endpoint_url, skip_instance_cache=True
    )
    keep = RawCopies.keep

    def meanwhile(self: RawCopies, source: Any, name: str, **more: Any) -> Any:
        class Changing:
            def read(self, size: int) -> bytes:
                block: bytes = source.read(size)
                if block:
                    store.pipe("bank/day/in/customers.csv", bytes(len(BIG) * 10))
                return block

        return keep(self, Changing(), name, **more)

    monkeypatch.setattr(RawCopies, "keep", meanwhile)
    refused(settings, profile, url, "has changed", delays=())


# ---- databases ----------------------------------------------------------------------------------------------


def rows_of(delivery: Delivery, table: str) -> list[tuple[str | None, ...]]:
    (file,) = delivery[table]
    found = pq.read_table(file.path)
    assert set(map(str, found.schema.types)) == {"string"}
    return list(zip(*(column.to_pylist() for column in found.columns), strict=True))


@pytest.fixture
def bank(tmp_path: Path) -> str:
    path = tmp_path / "bank.sqlite"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            'create table "customers" (id text, "name.full" text, opened date, balance real, is_vip boolean)'
        )
        connection.executemany(
            "insert into customers values (?, ?, ?, ?, ?)",
            [
                ("0001", "张三", "2020-01-31", 12.5, True),
                ("0002", None, "2020-02-01", 1e-7, False),
                ("0003", "", None, 5.0, None),
            ],
        )
    return f"sqlite:///{path}"


def test_a_table_of_a_database_is_kept_as_parquet_of_text(settings: Settings, bank: str) -> None:
    profile = profile_of("customers", complete={"marker": "{name}.ok"}, customers={"query": "customers", "files": []})
    delivery = deliver(settings, profile, bank)
    assert rows_of(delivery, "customers") == [
        ("0001", "张三", "2020-01-31", "12.5", "1"), ("0002", None, "2020-02-01", "0.0000001", "0"), ("0003", "", None, "5", None),
    ]  # fmt: skip
    (file,) = delivery["customers"]
    assert (file.name, file.form.format, file.form.complete, file.expected) == ("customers", "parquet", None, None)
    assert pq.read_schema(file.path).names == ["id", "name.full", "opened", "balance", "is_vip"]
    assert deliver(settings, profile, bank)["customers"] == delivery["customers"]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("nowhere", r"nowhere: no such table: nowhere; check profile canonical, tables\.customers\.query"),
        ("delete from customers", "is neither a SELECT nor the name of a table"),
        ("with x as (select 1) delete from customers", "attempt to write a readonly database"),
        ("select id, id from customers", "brings id more than once"),
        ("select x'00ff' as b", "column b holds bytes, which has no spelling as text; cast it"),
        ("select 1e300 as b", "column b holds a floating-point number too big to be exact"),
        ("select cast(x'ff' as text) as b", "Could not decode to UTF-8"),
    ],
)
def test_a_query_that_cannot_be_told_as_text_is_refused(settings: Settings, bank: str, query: str, said: str) -> None:
    refused(settings, profile_of("customers", customers={"query": query}), bank, said)
    with closing(sqlite3.connect(bank.removeprefix("sqlite:///"))) as connection:
        assert connection.execute("select count(*) from customers").fetchone() == (3,)


def test_a_floating_point_number_is_written_in_digits(settings: Settings, bank: str) -> None:
    query = "select * from (values (-0.0), (1e15), (1e-7), (0.1), (-2.0), (0.1 + 0.2), (1e400 - 1e400))"
    delivery = deliver(settings, profile_of("customers", customers={"query": query}), bank)
    written = [row[0] for row in rows_of(delivery, "customers")]
    assert written == ["0", "1000000000000000", "0.0000001", "0.1", "-2", "0.30000000000000004", None]


def test_a_database_and_a_profile_of_files_do_not_fit(
    settings: Settings, bank: str, inbox: Path, tmp_path: Path
) -> None:
    refused(settings, BOTH, bank, "branches, customers have files but no query")
    refused(settings, profile_of("customers", customers={"query": "c", "files": []}), inbox, "has a query but no files")
    refused(settings, BOTH, f"sqlite:///{tmp_path}/none.sqlite", "no such file")
    assert not (tmp_path / "none.sqlite").exists()


def test_postgresql_is_read_in_one_snapshot_that_cannot_write(
    settings: Settings, postgres_url: str, tmp_path: Path
) -> None:
    import psycopg

    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("drop schema if exists crm cascade")
        connection.execute("create schema crm")
        connection.execute(
            "create table crm.customers (id char(6), opened date, seen timestamp, moved timestamptz, amount numeric(18,4), "
            "is_vip boolean, n bigint, code uuid, f double precision, t text)"
        )
        connection.execute(
            "insert into crm.customers values ('0001', '2025-12-31', '2025-12-31 09:30', '2025-12-30 16:00+00', 1234.5000, "
            "true, 9007199254740993, '00000000-0000-0000-0000-000000000001', 0.1, 'a:b 50%')"
        )
        connection.execute("insert into crm.customers (t) values (null)")
        connection.execute(
            "create table crm.big as select g::text as id, repeat('x', 200) as t from generate_series(1, 250000) g"
        )
        connection.execute("create function crm.spoil() returns int language sql as 'delete from crm.big; select 1'")
    profile = profile_of("customers", customers={"query": "crm.customers"})
    found = rows_of(deliver(settings, profile, postgres_url), "customers")
    assert found == [
        (
            "0001  ", "2025-12-31", "2025-12-31 09:30:00", "2025-12-31 00:00:00", "1234.5000", "1", "9007199254740993",
            "00000000-0000-0000-0000-000000000001", "0.1", "a:b 50%",
        ),
        (None,) * 10,
    ]  # fmt: skip
    query = "SELECT id,\n t FROM crm.customers WHERE t LIKE '%50\\%%' AND t <> ' :x' AND n::text <> '';"
    delivery = deliver(settings, profile_of("customers", customers={"query": query}), postgres_url)
    assert rows_of(delivery, "customers") == [("0001  ", "a:b 50%")]
    assert delivery["customers"][0].name.startswith("SELECT id, t FROM crm.customers")
    big = deliver(settings, profile_of("customers", customers={"query": "crm.big"}), postgres_url)["customers"][0]
    assert pq.ParquetFile(big.path).metadata.num_rows == 250_000
    assert pq.ParquetFile(big.path).metadata.num_row_groups == 3
    for query, said in (
        ("select crm.spoil()", "cannot execute DELETE in a read-only transaction"),
        ("crm.nowhere", 'relation "crm.nowhere" does not exist'),
        ("select t::int from crm.customers", r"\(22P02\): a value does not fit its type"),
        ("select 'NaN'::numeric as n", "column n holds a number that is none"),
        ("select 1 as a; delete from crm.big", "check profile canonical"),
        ("select 1 as a; commit; delete from crm.big", "check profile canonical"),
        ("select 1 as a; rollback; begin read write; delete from crm.big; commit; select 1", "check profile canonical"),
    ):
        said = refused(settings, profile_of("customers", customers={"query": query}), postgres_url, said)
        assert "50%" not in said
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("select count(*) from crm.big").fetchone() == (250_000,)
    wrong = postgres_url.rpartition("/")[0] + "/nobank"
    refused(settings, profile, wrong, 'database "nobank" does not exist', delays=(60,))
    password = tmp_path / "password"
    password.write_text("s3cr3t")
    own = settings.model_copy(update={"inbox_password_file": password})
    dead = f"postgresql://huifang@127.0.0.1:{free_port()}/postgres"
    assert "s3cr3t" not in refused(own, profile, dead, r"refused.*tried 2 times", delays=(0.1,))


def test_a_connection_that_breaks_within_a_query_is_made_anew(
    settings: Settings, postgres_url: str, monkeypatch
) -> None:
    import psycopg

    from tasks.source import database

    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("drop table if exists lines")
        connection.execute(
            "create table lines as select g::text as id, repeat('x', 200) as t from generate_series(1, 100000) g"
        )
    texts, killed = database._texts, []

    def meanwhile(cells: Any, column: str, name: str) -> Any:
        if not killed:
            with psycopg.connect(postgres_url, autocommit=True) as connection:
                killed.append(
                    connection.execute(
                        "select count(pg_terminate_backend(pid)) from pg_stat_activity "
                        "where state = 'idle in transaction'"
                    ).fetchone()
                )
        return texts(cells, column, name)

    monkeypatch.setattr(database, "_texts", meanwhile)
    delivery = deliver(settings, profile_of("customers", customers={"query": "lines"}), postgres_url, delays=(0.1,))
    assert killed == [(1,)]
    assert len(rows_of(delivery, "customers")) == 100_000


# ---- the copy itself ----------------------------------------------------------------------------------------


def test_an_error_of_the_source_leaves_nothing_behind(tmp_path: Path) -> None:
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() == 0:
                return super().read(size)
            raise OSError(errno.EIO, "Input/output error")

    copies = RawCopies(tmp_path / "raw")
    with pytest.raises(OSError, match="Input/output"):
        copies.keep(Failing(BIG), "x.csv")
    assert not list((tmp_path / "raw").iterdir())
    kept = copies.keep(io.BytesIO(BIG), "x.csv", md5=True)
    assert (kept.md5, kept.size_bytes) == (hashlib.md5(BIG).hexdigest(), len(BIG))
