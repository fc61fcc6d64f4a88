"""What headquarters looks at: the report of a campaign, the page about an intake, and the artifacts of a run.

Knows how figures are drawn, laid out and published; decides nothing, and shows nobody's personal data.
"""

from tasks.board.artifacts import (
    ARTIFACT_BYTES,
    Advance,
    NoRun,
    artifact_key,
    progress,
    publish_counts,
    publish_standing,
    run_clock,
    run_name,
    standing_markdown,
)
from tasks.board.intake import write_intake
from tasks.board.page import report_page, write_report
from tasks.board.words import TEMPLATES, percent

__all__ = [
    "ARTIFACT_BYTES", "TEMPLATES", "Advance", "NoRun", "artifact_key", "percent", "progress", "publish_counts",
    "publish_standing", "report_page", "run_clock", "run_name", "standing_markdown", "write_intake", "write_report",
]  # fmt: skip
