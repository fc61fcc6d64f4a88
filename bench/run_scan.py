"""The physical floor: DuckDB reads transactions and customers in their types and looks at every value; writes nothing.

python -m bench.run_scan INBOX RESULT
"""

import json
import sys
import time
from pathlib import Path

import duckdb

TYPES = {
    "customers": {
        "customer_id": "VARCHAR", "customer_name": "VARCHAR", "phone": "VARCHAR", "id_no": "VARCHAR",
        "branch_no": "VARCHAR", "segment": "VARCHAR", "risk_level": "VARCHAR", "status": "VARCHAR",
        "open_on": "DATE", "close_on": "DATE",
    },
    "transactions": {
        "transaction_id": "VARCHAR", "customer_id": "VARCHAR", "traded_on": "DATE", "kind": "VARCHAR",
        "amount_cny": "DECIMAL(18, 2)",
    },
}  # fmt: skip
SUMS = {"VARCHAR": "sum(strlen({}))", "DATE": "sum({} - DATE '1900-01-01')", "DECIMAL": "sum({})"}


def main(inbox: Path, result: Path) -> None:
    began = time.perf_counter()
    con = duckdb.connect(config={"threads": 2})
    con.execute("SET enable_progress_bar = false")
    rows = {}
    for table, types in TYPES.items():
        # Of a Parquet file the largest value is known without reading it, so each column is summed up.
        looked_at = ", ".join(SUMS[kind.partition("(")[0]].format(column) for column, kind in types.items())
        if any(inbox.glob(f"{table}*.parquet")):
            source = f"read_parquet('{inbox}/{table}*.parquet')"
        else:
            columns = ", ".join(f"'{column}': '{kind}'" for column, kind in types.items())
            # A row whose date or amount cannot be read would stop the scan; it is left out instead.
            source = (
                f"read_csv('{inbox}/{table}*.csv', columns = {{{columns}}}, header = true, delim = ',', "
                "auto_detect = false, ignore_errors = true)"
            )
        rows[table] = con.execute(f"SELECT count(*), {looked_at} FROM {source}").fetchone()[0]
    found = {"inner_seconds": time.perf_counter() - began, "rows": rows}
    result.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
