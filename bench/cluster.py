"""A Spark of our own on loopback, a master and one worker, for as long as a check needs it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START_SECONDS = 60


@contextmanager
def spark_here(folder: Path) -> Iterator[tuple[str | None, str]]:
    """The address of a running master, or None and why there is none."""
    found = importlib.util.find_spec("pyspark")
    if found is None or found.origin is None:
        yield None, "pyspark is not installed (pip install -r requirements-spark.txt)"
        return
    if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        yield None, "there is no Java (apt-get install openjdk-17-jre-headless)"
        return
    home = Path(found.origin).parent
    environ = {**os.environ, "SPARK_HOME": str(home), "SPARK_LOCAL_IP": "127.0.0.1"}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url, deploy, started = f"spark://127.0.0.1:{port}", "org.apache.spark.deploy", []
    with (folder / "spark.log").open("wb") as log:

        def start(*words: str) -> None:
            command = [str(home / "bin" / "spark-class"), *words]
            started.append(subprocess.Popen(command, cwd=folder, env=environ, stdout=log, stderr=log))

        try:
            start(f"{deploy}.master.Master", "--host", "127.0.0.1", "--port", str(port), "--webui-port", "0")
            start(f"{deploy}.worker.Worker", "--host", "127.0.0.1", "-c", "1", "-m", "2g", "--webui-port", "0",
                  "-d", str(folder / "worker"), url)  # fmt: skip
            is_up = _await_port(port, started[0])
            yield (url, "") if is_up else (None, f"the Spark master does not start within {START_SECONDS} s")
        finally:
            for process in reversed(started):
                process.terminate()
                process.wait(timeout=30)


def _await_port(port: int, process: subprocess.Popen[bytes]) -> bool:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return True
        time.sleep(0.2)
    return False
