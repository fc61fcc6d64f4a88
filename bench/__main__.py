"""`python -m bench …`: run a benchmark, or write the figures of earlier runs into docs/benchmarks.md."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from rich.console import Console

from bench import draw, intake, mail, returns, sheets
from bench.measure import ContestantError
from bench.report import newest, read_run, show, write_docs, write_run
from tasks.settings import PROJECT


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    taking_in = commands.add_parser("intake", help="extracts in, judged, written, activity per customer")
    taking_in.add_argument("--sizes", default="S", help=f"some of {','.join(intake.SIZES)}, or CUSTOMERS+TRANSACTIONS")
    taking_in.add_argument("--formats", default="csv,parquet", help="csv, parquet; size L is Parquet alone")
    drawing = commands.add_parser("draw", help="a base judged and frozen, a month's sample drawn from it")
    drawing.add_argument("--sizes", default="S", help=f"some of {','.join(draw.SIZES)}, or a number of customers")
    drawing.add_argument("--cap", type=float, default=300, help="seconds after which another contestant is ended")
    drawing.add_argument("--engine-memory", default="", help="HUIFANG_ENGINE_MEMORY, where it is not the default")
    drawing.add_argument(
        "--probes", action=argparse.BooleanOptionalAction, default=True,
        help="at up to 100,000 customers, draw again with rows shuffled, on Spark, and with older versions",
    )  # fmt: skip
    returning = commands.add_parser("returns", help="returns fetched, taken apart, judged, stored and answered")
    returning.add_argument("--returns", type=int, default=25, help="branches, with some 170 rows each")
    returning.add_argument("--forms", default="lock,clear", help="lock, clear: whether their workbooks are locked")
    returning.add_argument("--strange", type=Path, help="a folder of raw mails, for a round with them between the returns")
    mailing = commands.add_parser("sheets", help="lists written, locked and mailed, beside XlsxWriter alone")
    mailing.add_argument("--branches", type=int, default=500)
    mailing.add_argument("--rows", type=int, default=170)
    sending = commands.add_parser("mail", help="lists handed to a Postfix over TLS, beside smtplib alone")
    sending.add_argument("--mails", type=int, default=500)
    sending.add_argument("--rows", type=int, default=170)
    all_parts = (
        (taking_in, intake.CONTESTANTS), (drawing, draw.CONTESTANTS), (returning, returns.CONTESTANTS),
        (mailing, sheets.STEPS), (sending, mail.CONTESTANTS),
    )  # fmt: skip
    for parts, contestants in all_parts:
        parts.add_argument("--contestants", default=",".join(contestants), help="some of them")
        parts.add_argument("--repeats", type=int, default=3)
        parts.add_argument("--data", type=Path, default=Path("var/bench"), help="extracts and figures are kept here")
        parts.add_argument("--write-docs", action="store_true", help="also write the figures into docs/benchmarks.md")
    docs = commands.add_parser("docs", help="write figures of earlier runs into docs/benchmarks.md")
    docs.add_argument("runs", type=Path, nargs="*", help="JSON files of runs; the newest of --data when none is given")
    docs.add_argument("--data", type=Path, default=Path("var/bench"))
    words = parser.parse_args()
    # Where the files lay is nobody's business; what was measured is.
    shown = re.sub(r" --(data[ =][^ ]+|write-docs)", "", f"python -m bench {' '.join(sys.argv[1:])}")
    console, page = Console(), PROJECT / "docs" / "benchmarks.md"
    try:
        if words.command == "docs":
            write_docs(page, [read_run(path) for path in words.runs or newest(words.data)])
            return 0
        given = {
            "contestants": words.contestants.split(","), "repeats": words.repeats,
            "data": words.data.resolve(), "command": shown, "say": console.log,
        }  # fmt: skip
        if words.command == "returns":
            run = returns.run_returns(
                returns=words.returns, forms=words.forms.split(","), strange=words.strange, **given
            )
        elif words.command == "sheets":
            run = sheets.run_sheets(branches=words.branches, rows=words.rows, **given)
        elif words.command == "mail":
            run = mail.run_mail(mails=words.mails, rows=words.rows, **given)
        elif words.command == "draw":
            run = draw.run_draw(
                sizes=words.sizes.split(","), cap_seconds=words.cap, engine_memory=words.engine_memory,
                with_probes=words.probes, **given,
            )
        else:
            run = intake.run_intake(sizes=words.sizes.split(","), formats=words.formats.split(","), **given)
    except ContestantError as error:
        print(error, file=sys.stderr)
        return 1
    path = write_run(words.data, run)
    show(console, run)
    console.print(f"figures: {path}", soft_wrap=True)
    if words.write_docs:
        write_docs(page, [run])
    return 0


if __name__ == "__main__":
    sys.exit(main())
