"""`huifang serve` and a work pool: the deployments of prefect.yaml, schedules that fire, and an end without orphans."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import prefect
import pytest
import yaml
from house import House

from tasks.settings import PROJECT

pytestmark = pytest.mark.slow

DEPLOYMENTS = {
    entry["name"]: entry
    for entry in yaml.safe_load((PROJECT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
}


def ask(api_url, path, **body):
    request = urllib.request.Request(
        f"{api_url}/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            # The server says 503 while its database is locked, and asks for another try.
            if error.code != 503 or time.monotonic() > deadline:
                raise
        time.sleep(1)


def await_that(found, seconds, what):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if value := found():
                return value
        except OSError:
            pass
        time.sleep(0.2)
    pytest.fail(f"not within {seconds} s: {what() if callable(what) else what}")


def processes_of(home):
    """Processes that were started with this home, by id."""
    mine = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"HUIFANG_HOME={home}\0".encode() in path.read_bytes() and int(path.parent.name) != os.getpid():
                mine.append((int(path.parent.name), (path.parent / "cmdline").read_bytes().replace(b"\0", b" ")))
        except OSError:
            continue
    return mine


@contextmanager
def served(home):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    api_url = f"http://127.0.0.1:{port}/api"
    home.mkdir(exist_ok=True)
    said = home / "serve.log"
    environment = House(home, api_url).environment
    del environment["PREFECT_API_URL"]
    with said.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "cli", "serve", "--port", str(port)],
            env=environment,
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # A test run in the background of a script ignores SIGINT, and would hand that down.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
    try:
        yield process, api_url, said
    finally:
        for number, _ in processes_of(home):
            os.kill(number, signal.SIGKILL)
        process.wait(timeout=30)


def deployed(api_url):
    found = {row["name"]: row for row in ask(api_url, "deployments/filter", limit=200)}
    return found if set(found) >= set(DEPLOYMENTS) else None


def schedules(rows):
    return {
        name: [(s["schedule"]["cron"], s["schedule"]["timezone"], s["active"]) for s in row["schedules"]]
        for name, row in rows.items()
    }


WANTED = {name: [(s["cron"], s["timezone"], True) for s in entry["schedules"]] for name, entry in DEPLOYMENTS.items()}


def test_every_deployment_names_a_flow_that_can_be_imported_and_keeps_shanghai_time():
    assert len(DEPLOYMENTS) >= 7
    for name, entry in DEPLOYMENTS.items():
        module, _, attribute = entry["entrypoint"].rpartition(".")
        flow = getattr(import_module(module), attribute)
        assert isinstance(flow, prefect.Flow), name
        assert set(entry.get("parameters", {})) <= set(flow.parameters.properties), name
        assert {schedule["timezone"] for schedule in entry["schedules"]} <= {"Asia/Shanghai"}, name
        assert entry["schedules"] or "approve" in entry["tags"], f"{name}: only a person's form has no schedule"


@pytest.mark.parametrize(
    "how", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)], ids=lambda how: how.name
)
def test_serve_schedules_every_flow_runs_one_and_ends_without_orphans(tmp_path, how):
    home = tmp_path / "home"
    with served(home) as (process, api_url, said):
        rows = await_that(lambda: deployed(api_url), 150, said.read_text)
        assert schedules(rows) == WANTED
        for name, entry in DEPLOYMENTS.items():
            assert rows[name]["entrypoint"] == entry["entrypoint"]
            assert rows[name]["parameters"] == entry.get("parameters", {})

        def scheduled():
            body = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}, "limit": 200}
            runs = ask(api_url, "flow_runs/filter", **body)
            return {run["deployment_id"] for run in runs} >= {row["id"] for row in rows.values() if row["schedules"]} and runs

        for run in await_that(scheduled, 90, said.read_text):
            assert run["auto_scheduled"]

        if how is signal.SIGTERM:
            body = {"name": "by hand", "parameters": {"as_of": "2026-03-02"}}
            run = ask(api_url, f"deployments/{rows['returns']['id']}/create_flow_run", **body)

            def ended():
                (now,) = ask(api_url, "flow_runs/filter", flow_runs={"id": {"any_": [run["id"]]}})
                return now["state_type"] in ("COMPLETED", "FAILED", "CRASHED") and now

            now = await_that(ended, 90, said.read_text)
            assert now["state_type"] == "COMPLETED", now["state"]

        assert (home / "prefect-api").read_text(encoding="ascii") == api_url
        assert len(processes_of(home)) >= 2
        process.send_signal(how)
        process.wait(timeout=60)
        await_that(lambda: not processes_of(home), 15, lambda: processes_of(home))
        assert process.returncode in (0, 1, 130), said.read_text(encoding="utf-8")
    assert not (home / "prefect-api").exists()


@pytest.mark.long
def test_prefect_yaml_deploys_every_flow_to_a_work_pool(prefect_api, tmp_path):
    environment = House(tmp_path, prefect_api).environment | {"HUIFANG_CHECKOUT": str(PROJECT)}

    def command(*words):
        result = subprocess.run(
            [sys.executable, "-m", "prefect", "--no-prompt", *words],
            env=environment,
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=180,
        )
        assert result.returncode == 0, result.stdout + result.stderr

    command("work-pool", "create", "operations", "--type", "process")
    command("deploy", "--all")
    rows = deployed(prefect_api)
    assert rows is not None
    assert schedules({name: rows[name] for name in DEPLOYMENTS}) == WANTED
    for name, entry in DEPLOYMENTS.items():
        row = rows[name]
        assert (row["entrypoint"], row["work_pool_name"]) == (entry["entrypoint"], "operations")
        assert row["pull_steps"] == [{"prefect.deployments.steps.set_working_directory": {"directory": str(PROJECT)}}]
