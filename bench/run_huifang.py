"""The contestant huifang: all that `huifang run pull` does to the files, without Prefect and without the database.

python -m bench.run_huifang INBOX RESULT      (HUIFANG_HOME names a fresh home)
"""

import time

BEGAN = time.perf_counter()

import json  # noqa: E402
import sys  # noqa: E402
from datetime import date  # noqa: E402
from pathlib import Path  # noqa: E402

import pyarrow.compute as pc  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

from models.profile import Profile  # noqa: E402
from tasks import lake, source  # noqa: E402
from tasks.settings import PROJECT, Settings, read_yaml  # noqa: E402

AS_OF = date(2025, 12, 31)


def main(inbox: str, result: Path) -> None:
    imported = time.perf_counter()
    settings = Settings()
    profile = read_yaml(PROJECT / "profiles" / "canonical.yaml", Profile)
    taken: list[lake.IntakeResult] = []
    known: dict[str, str] = {}
    seconds = {}
    with source.open_delivery(settings, profile, inbox, None) as files:
        seconds["delivery"] = time.perf_counter() - imported
        for table, delivered in files.items():
            began = time.perf_counter()
            one = lake.take_in(settings, profile, table, delivered, as_of=AS_OF, known=dict(known))
            known[table] = one.path
            taken.append(one)
            seconds[table] = time.perf_counter() - began
    ended = time.perf_counter()
    tables = {
        one.table_name: {
            "rows": one.rows,
            "accepted": one.accepted,
            "rejected": one.rejected,
            "reasons": {f"{t.column_name}: {t.rule}": t.rows for t in one.tallies if t.verdict == "rejected"},
            "content_sha256": one.content_sha256,
        }
        for one in taken
    }
    tables["transactions"]["activity"] = _sum_up(settings.lake / known["transactions"] / "activity.parquet")
    found = {
        "inner_seconds": ended - imported,
        "import_seconds": imported - BEGAN,
        "steps": seconds,
        "tables": tables,
    }
    result.write_text(json.dumps(found, ensure_ascii=False), encoding="utf-8")


def _sum_up(path: Path) -> dict[str, int]:
    found = pq.read_table(path, columns=["transactions", "trades", "turnover_cny"])
    return {
        "customers": found.num_rows,
        "transactions": pc.sum(found["transactions"]).as_py(),
        "trades": pc.sum(found["trades"]).as_py(),
        "cents": int(pc.sum(found["turnover_cny"]).as_py() * 100),
    }


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
