import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import hypothesis
import pytest

from tasks.server import client_context, prefect_server
from tasks.settings import Settings

# How fast a machine is says nothing about what is true.
hypothesis.settings.register_profile("untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("untimed")
os.environ.pop("COLUMNS", None)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Where every part can be had, a skipped test is a failed one."""
    outcome = yield
    report = outcome.get_result()
    if report.skipped and os.environ.get("HUIFANG_NO_SKIPS"):
        report.outcome = "failed"
        report.longrepr = f"skipped where no test may be: {report.longrepr[2]}"


def _postgres_bin() -> Path | None:
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return versions[-1].parent if versions else None


@pytest.fixture(scope="session")
def postgres_url():
    """A PostgreSQL of our own on loopback, ended with the tests."""
    binaries = _postgres_bin()
    if binaries is None:
        pytest.skip("no PostgreSQL here: install the package postgresql")
    # The server refuses to run as root.
    user = pwd.getpwnam("postgres") if os.getuid() == 0 else None
    # A folder beside pytest's own, which every run of pytest closes to others again.
    folder = Path(tempfile.mkdtemp(prefix="huifang-postgres-"))
    data = folder / "data"
    if user is not None:
        os.chown(folder, user.pw_uid, user.pw_gid)
    identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user is not None else {}
    subprocess.run(
        [binaries / "initdb", "-D", data, "-U", "huifang", "--auth=trust", "--encoding=UTF8", "--no-sync"],
        check=True,
        capture_output=True,
        cwd=folder,
        **identity,
    )
    server, port = start_postgres(binaries, data, folder, identity)
    try:
        yield f"postgresql://huifang@127.0.0.1:{port}/postgres"
    finally:
        server.send_signal(signal.SIGINT)  # fast shutdown; SIGTERM would wait for every connection
        server.wait(timeout=30)
        shutil.rmtree(folder, ignore_errors=True)


def start_postgres(binaries: Path, data: Path, folder: Path, identity: dict) -> tuple[subprocess.Popen, int]:
    """A server that answers, and its port; a port that another process took in between is given up for a new one."""
    log = folder / "postgres.log"
    for _ in range(3):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        with log.open("w") as said:
            server = subprocess.Popen(
                [
                    binaries / "postgres",
                    "-D",
                    data,
                    "-p",
                    str(port),
                    "-h",
                    "127.0.0.1",
                    "-k",
                    folder,
                    "-c",
                    "fsync=off",
                ],
                cwd=folder,
                stdout=said,
                stderr=subprocess.STDOUT,
                **identity,
            )
        for _ in range(600):
            ready = subprocess.run([binaries / "pg_isready", "-h", "127.0.0.1", "-p", str(port)], capture_output=True)
            if ready.returncode == 0:
                return server, port
            if server.poll() is not None:
                break
            time.sleep(0.1)
        else:
            server.kill()
            server.wait(timeout=30)
    raise RuntimeError(f"PostgreSQL does not start:\n{log.read_text()}")


@pytest.fixture(params=["sqlite", "postgresql"])
def store_settings(request, tmp_path):
    """Settings with an empty store, once on each database."""
    if request.param == "sqlite":
        return Settings(home=tmp_path / "home")
    url = fresh_database(request.getfixturevalue("postgres_url"), request.node.nodeid)
    return Settings(home=tmp_path / "home", database_url=url)


def fresh_database(postgres_url: str, owner: str) -> str:
    """The address of an empty database that no other test uses."""
    import psycopg

    name = f"t{abs(hash(owner)) % 10**10}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}"')
        connection.execute(f'CREATE DATABASE "{name}"')
    return postgres_url.rpartition("/")[0] + f"/{name}"


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory):
    """The address of one Prefect server for all tests that run flows."""
    home = tmp_path_factory.mktemp("prefect")
    with prefect_server(home, environ=os.environ, log=home / "server.log") as api_url:
        yield api_url


@pytest.fixture(scope="module")
def prefect_client(prefect_api, tmp_path_factory):
    """This process as a client of that server: flows that it runs itself share one."""
    from prefect.logging.configuration import setup_logging

    with client_context(prefect_api, tmp_path_factory.mktemp("client")):
        setup_logging()  # else the first command's output, closed after it, is where Prefect logs to
        yield prefect_api
