"""The child's life: limits, one request a line in, one report a line out."""

from __future__ import annotations

import json
import os
import resource
import sys
from pathlib import Path

from tasks.sandbox.limits import CPU_SECONDS, MEMORY_BYTES, TooLarge, Unkept
from tasks.sandbox.message import open_message
from tasks.sandbox.scan import NotClean


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    requests = sys.stdin.buffer
    reports = os.fdopen(os.dup(1), "wb")
    # Nothing a library prints may get between the reports.
    os.dup2(2, 1)
    told = json.loads(requests.readline())
    passwords, clamd = told["passwords"], told.get("clamd", "")
    reports.write(b'{"ready": true}\n')
    reports.flush()
    for line in requests:
        request = json.loads(line)
        spent = resource.getrusage(resource.RUSAGE_SELF)
        limit = int(spent.ru_utime + spent.ru_stime) + CPU_SECONDS
        # Only the soft limit: a hard one, once lowered, could not be raised for the next message.
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.getrlimit(resource.RLIMIT_CPU)[1]))
        try:
            report = open_message(
                Path(request["path"]),
                Path(request["out_dir"]),
                passwords,
                own=request.get("passwords", ()),
                clamd=clamd,
            )
        except (TooLarge, MemoryError, RecursionError):
            report = {"error": "too_large"}
        except NotClean as reason:
            report = {"error": str(reason)}
        except Unkept:
            report = {"error": "unkept"}
        reports.write(json.dumps(report, ensure_ascii=True).encode() + b"\n")
        reports.flush()


if __name__ == "__main__":
    main()
