"""What the dashboard is given: artifacts with stable keys, small, about counts; and the server that shows them."""

import base64
import json
import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from test_report import troubled

from tasks import board
from tasks.board import artifacts
from tasks.server import ServerError, client_context, client_settings, is_alive, prefect_server

PROJECT = Path(__file__).resolve().parents[1]


def test_outside_a_run_nothing_is_published_and_nothing_fails(caplog):
    caplog.set_level(logging.DEBUG, logger="tasks.board")
    board.publish_counts("draw", "daily_risk-2026-03", [{"drawn": 3}])
    board.publish_standing(troubled())
    with board.progress("collect") as advance:
        advance(0.5)
    assert [record.levelname for record in caplog.records] == ["DEBUG", "DEBUG"]


def test_without_a_run_there_is_no_clock():
    with pytest.raises(board.NoRun, match="give now"):
        board.run_clock()


def test_keys_are_what_prefect_takes():
    from prefect.client.schemas.actions import ArtifactCreate

    for name in ("dispatch daily_risk-2026-03", "standing-daily_risk-2026-03#2", "intake-2025-12-31", "Ünï 2026Q1"):
        key = board.artifact_key(name)
        assert ArtifactCreate(key=key).key == key


@pytest.mark.parametrize("language", ["zh_CN", "en"])
def test_the_quota_artifact_carries_verdict_figures_and_a_picture(language):
    text = board.standing_markdown(troubled(), language)
    assert "1,093" in text
    assert "211 / 1,093 (19.3%)" in text
    assert ("按已完成的进度不能完成" if language == "zh_CN" else "No, not at the pace of what is completed") in text
    picture = base64.b64decode(text.split("data:image/svg+xml;base64,")[1].split(")")[0]).decode()
    assert picture.startswith("<svg")
    assert "1,093" in picture
    assert "var(" not in picture
    assert len(text.encode()) < board.ARTIFACT_BYTES


def test_the_quota_artifact_names_a_balance_that_does_not_hold():
    assert "✗" not in board.standing_markdown(troubled())
    assert "各营业部之和 = 合计：意见建议 : 4 ≠ 5" in board.standing_markdown(replace(troubled(), opinions=5))


def test_rows_are_left_off_before_an_artifact_is_too_large():
    rows = [{"营业部": "甲" * 100, "n": n} for n in range(1000)]
    kept = artifacts._fitting(rows)
    assert kept == rows[: len(kept)]
    assert len(json.dumps(kept)) <= board.ARTIFACT_BYTES < len(json.dumps(rows[: len(kept) + 1])) + 10


def test_the_client_settings_override_nothing_but_what_a_flow_needs(tmp_path):
    found = client_settings("http://127.0.0.1:4321/api", tmp_path)
    assert found["PREFECT_UI_URL"] == "http://127.0.0.1:4321"
    assert found["PREFECT_HOME"] == str(tmp_path / "prefect")
    assert found["PREFECT_RESULTS_PERSIST_BY_DEFAULT"] == "false"
    assert found["DO_NOT_TRACK"] == "1"


def test_a_port_in_use_is_said_with_what_the_server_said(tmp_path):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(ServerError, match=f"(?s){port}.*ended at once.*already in use"),
            prefect_server(tmp_path, environ=os.environ, log=tmp_path / "log" / "server.log", port=port),
        ):
            pass
    assert not is_alive(f"http://127.0.0.1:{port}/api")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    with prefect_server(home, environ=os.environ, log=home / "server.log") as api_url, client_context(api_url, home):
        yield api_url


@pytest.mark.slow
def test_a_run_publishes_what_the_client_reads_back(server):
    from prefect import flow
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

    seen = {}

    @flow
    def look():
        from prefect.runtime import flow_run

        seen["id"], seen["clock"] = flow_run.id, board.run_clock()
        with board.progress("dispatch daily_risk-2026-03") as advance:
            for n in range(1, 201):
                advance(n / 200)
        board.publish_counts(
            "pull", "intake-2026-03-31", [{"table": "customers", "rows": 9, "rejected_by": {"bad_date": 2}}]
        )
        board.publish_standing(troubled())

    look()
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(seen["id"])
        artifacts = client.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[seen["id"]]))
        )
    assert isinstance(seen["clock"], datetime)
    assert seen["clock"].tzinfo is not None
    assert seen["clock"] == run.expected_start_time
    found = {artifact.key: artifact for artifact in artifacts}
    assert set(found) == {
        "progress-dispatch-daily-risk-2026-03", "pull-intake-2026-03-31", "standing-daily-risk-2026-03",
        "branches-daily-risk-2026-03",
    }  # fmt: skip
    assert float(found["progress-dispatch-daily-risk-2026-03"].data) == 100
    assert json.loads(found["pull-intake-2026-03-31"].data) == [
        {"table": "customers", "rows": 9, "rejected_by": "bad_date 2"}
    ]
    rows = json.loads(found["branches-daily-risk-2026-03"].data)
    assert [row["编号"] for row in rows] == ["0004", "0003", "0002", "0001"]
    assert sum(row["逾期"] for row in rows) == troubled().overdue
    assert found["standing-daily-risk-2026-03"].data == board.standing_markdown(troubled())
    for artifact in artifacts:
        assert len(str(artifact.data).encode()) < board.ARTIFACT_BYTES


@pytest.mark.slow
def test_synchronous_flows_do_not_wait_for_a_heartbeat(server):
    from prefect import flow

    @flow
    def nothing():
        return None

    nothing()
    spans = []
    for _ in range(5):
        began = time.monotonic()
        nothing()
        spans.append(time.monotonic() - began)
    assert min(spans) < 0.9  # with a heartbeat it is 1 s and the run itself


@pytest.mark.slow
def test_the_dashboard_talks_to_its_own_port_and_to_nobody_else(server):
    import urllib.request

    with urllib.request.urlopen(server.removesuffix("/api") + "/ui-settings") as answer:
        told = json.load(answer)
    assert told["api_url"] == server
    assert told["default_ui"] == "v1"


@pytest.mark.slow
def test_the_server_dies_with_a_parent_that_is_killed(server, tmp_path):
    script = (
        "import os, sys, time; from pathlib import Path; from tasks.server import prefect_server\n"
        f"home = Path({str(tmp_path)!r})\n"
        "with prefect_server(home, environ=os.environ, log=home / 'server.log') as url:\n"
        "    print(url, flush=True); time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    url = parent.stdout.readline().strip()
    assert is_alive(url)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    for _ in range(100):
        if not is_alive(url):
            break
        time.sleep(0.05)
    assert not is_alive(url)
