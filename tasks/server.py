"""The Prefect server that a command brings along: how it is started, awaited, tuned and ended.

Knows Prefect's settings by name, and nothing of flows, artifacts or our own store. The server is a child process on
loopback with its own SQLite under `{home}/prefect`; a home that was migrated once starts again in seconds.
"""

from __future__ import annotations

import ctypes
import http.client
import logging
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from models import CallbackError

LOG = logging.getLogger(__name__)
HOST = "127.0.0.1"
PR_SET_PDEATHSIG = 1  # linux/prctl.h

STARTUP_SECONDS = 180
"""A fresh home needs 17 s of migrations on a calm machine of two cores; a loaded one was seen at four times that."""

SHUTDOWN_SECONDS = 20
DRAIN_SECONDS = 10
SETTLE_SECONDS = 1.5
"""A stopping server drops the task runs that it has not written yet, for ever; it writes once a second."""

QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
}
"""Nothing leaves the house. Without the second the server also collides with its own writers at start."""

SERVER = QUIET | {
    # The second interface calls a tracking host from the reader's browser on every page, even with analytics off.
    "PREFECT_SERVER_UI_V2_ENABLED": "false",
    # By default task runs and events are written one per transaction, and the backlog starves other calls for minutes.
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_READ_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL": "1",
    # Run rows are kept for ever otherwise.
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
}

CLIENT = QUIET | {
    # Results pickle whatever a task returned into a readable folder; ours are counts and go to the store.
    "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
    "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
    "PREFECT_TASKS_DEFAULT_NO_CACHE": "true",
    # Cannot be switched off by a variable (30 is the least); inside a process client_context does.
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "60",
    # A flow that finds no server brings one along, which needs 20 s, the default limit, on a loaded machine.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": str(STARTUP_SECONDS),
}


class ServerError(CallbackError):
    """The Prefect server did not come up."""


def client_settings(api_url: str, home: Path) -> dict[str, str]:
    """The variables a process needs, before it imports Prefect, to run flows against the server at api_url."""
    return CLIENT | {
        "PREFECT_HOME": str(prefect_home(home)),
        "PREFECT_API_URL": api_url,
        "PREFECT_UI_URL": api_url.removesuffix("/api"),
        # A proxy of the house must not see, or swallow, calls to loopback.
        "NO_PROXY": f"{HOST},localhost",
        "no_proxy": f"{HOST},localhost",
    }


@contextmanager
def client_context(api_url: str, home: Path) -> Iterator[None]:
    """The same settings within this process, Prefect imported or not, and no heartbeat.

    With a heartbeat every synchronous flow waits up to a second at its end for a sleeping thread. What watches for
    heartbeats is an automation on flows that run alone in a process; here the caller is alive or the flow is not.
    Logs and events still on their way are delivered when the block ends, so leave it before the server's.
    """
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker
    from prefect.settings import (
        PREFECT_API_URL,
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
        PREFECT_HOME,
        PREFECT_RESULTS_DEFAULT_SERIALIZER,
        PREFECT_RESULTS_PERSIST_BY_DEFAULT,
        PREFECT_TASKS_DEFAULT_NO_CACHE,
        PREFECT_UI_URL,
        temporary_settings,
    )

    with temporary_settings(
        {
            PREFECT_HOME: str(prefect_home(home)),
            PREFECT_API_URL: api_url,
            PREFECT_UI_URL: api_url.removesuffix("/api"),
            PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
            PREFECT_RESULTS_PERSIST_BY_DEFAULT: False,
            PREFECT_RESULTS_DEFAULT_SERIALIZER: "json",
            PREFECT_TASKS_DEFAULT_NO_CACHE: True,
        }
    ):
        try:
            yield
        finally:
            APILogWorker.drain_all(timeout=DRAIN_SECONDS, at_exit=False)
            EventsWorker.drain_all(timeout=DRAIN_SECONDS, at_exit=False)


def is_at(api_url: str) -> bool:
    """Whether this process is within a client_context of that server already."""
    if "prefect.settings" not in sys.modules:
        return False
    from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY

    return PREFECT_API_URL.value() == api_url and PREFECT_FLOWS_HEARTBEAT_FREQUENCY.value() is None


@contextmanager
def prefect_server(home: Path, *, environ: Mapping[str, str], log: Path, port: int | None = None) -> Iterator[str]:
    """The API URL of a Prefect server on loopback, answering; it ends with the block, or with this process.

    Without a port a free one is taken. environ is the environment the server starts from; what decides where it
    keeps its data and whom it calls is overridden. What it prints is appended to log. Linux ends the child when the
    thread that entered the block ends, so enter from the main thread.
    """
    directory = prefect_home(home)
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    log.parent.mkdir(parents=True, exist_ok=True)
    port = _free_port() if port is None else port
    api_url = f"http://{HOST}:{port}/api"
    began = time.monotonic()
    with log.open("ab") as output:
        written = output.tell()
        server = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "prefect", "server", "start", "--host", HOST, "--port", str(port)],
            env=_server_environment(directory, port, environ),
            cwd=directory,  # Prefect reads .env, prefect.toml and pyproject.toml of its working directory
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # ^C is for the command, which ends its flows first and the server last
            preexec_fn=_die_with_parent(),
        )
        try:
            _await_health(server, api_url, log, written)
            LOG.info("Prefect server %d answers at %s after %.1f s", server.pid, api_url, time.monotonic() - began)
            yield api_url
            time.sleep(SETTLE_SECONDS)
        finally:
            _stop(server)


def is_alive(api_url: str) -> bool:
    """Whether a Prefect server answers there now."""
    try:
        with _opener().open(f"{api_url.rstrip('/')}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, ValueError, http.client.HTTPException):  # nobody there, no address, or no HTTP
        return False


def prefect_home(home: Path) -> Path:
    return home.resolve() / "prefect"


def _server_environment(directory: Path, port: int, environ: Mapping[str, str]) -> dict[str, str]:
    # A server that inherits an API URL, a key or a profile name talks to that one, or looks it up in a home without it.
    inherited = {
        name: value
        for name, value in environ.items()
        if name not in {"PREFECT_API_URL", "PREFECT_API_KEY", "PREFECT_PROFILE", "PREFECT_SERVER_UI_SERVE_BASE"}
    }
    return (
        inherited
        | SERVER
        | {
            "PREFECT_HOME": str(directory),
            "PREFECT_SERVER_API_HOST": HOST,
            # The option --port alone leaves an interface that calls port 4200.
            "PREFECT_SERVER_API_PORT": str(port),
            "PREFECT_SERVER_UI_API_URL": f"http://{HOST}:{port}/api",
            "PREFECT_UI_URL": f"http://{HOST}:{port}",
            # The default lets any page open in a browser on this machine drive the API.
            "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": f"http://{HOST}:{port},http://localhost:{port}",
            "PYTHONUNBUFFERED": "1",
        }
    )


def _die_with_parent() -> Callable[[], None] | None:
    """What the child runs before its program: ask Linux for a SIGKILL when the parent is gone, however it went."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None, use_errno=True)  # loaded before the fork: loading takes locks a child may never get
    parent = os.getpid()

    def ask() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # gone between fork and prctl
            os._exit(1)

    return ask


def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return int(listener.getsockname()[1])


def _await_health(server: subprocess.Popen[bytes], api_url: str, log: Path, written: int) -> None:
    deadline = time.monotonic() + STARTUP_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise ServerError(
                f"the Prefect server at {api_url} ended at once with exit code {server.returncode}; "
                f"{log} says\n{_tail(log, written)}"
            )
        # Someone else's server may answer on a port that ours could not get; ours is then about to end.
        is_answering = is_alive(api_url)
        time.sleep(0.1)
        if is_answering and server.poll() is None:
            return
    raise ServerError(
        f"the Prefect server at {api_url} did not answer within {STARTUP_SECONDS} s; try again when the machine "
        f"is less busy; {log} says\n{_tail(log, written)}"
    )


def _tail(log: Path, written: int, lines: int = 15) -> str:
    with log.open("rb") as text:
        text.seek(written)
        said = text.read().decode("utf-8", "replace").splitlines()
    return "\n".join(f"  {line}" for line in [line for line in said if line.strip()][-lines:]) or "  (nothing)"


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()  # does nothing to one that has ended
    try:
        server.wait(SHUTDOWN_SECONDS)
    except subprocess.TimeoutExpired:
        LOG.warning("Prefect server %d did not end within %d s and was killed", server.pid, SHUTDOWN_SECONDS)
        server.kill()
        server.wait()
