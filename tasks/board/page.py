"""The page headquarters reads about a campaign, and its charts.

Knows how figures are drawn and laid out; counts nothing itself beyond what models.standing gives, and shows nobody's
personal data: a Standing holds none.
"""

from __future__ import annotations

import base64
import html
import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from unicodedata import east_asian_width

from markupsafe import Markup

from models.calendar import SHANGHAI
from models.credibility import SIGNALS
from models.evidence import KINDS
from models.feedback import Estimate, clauses
from models.outcomes import OUTCOMES
from models.recall import DATA_KINDS
from models.roster_findings import ROLES, Finding
from models.standing import Outlook, Standing, outlook, waits
from tasks.board.words import Words, number, whole_percent, words_in

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOG = logging.getLogger(__name__)

STATES = ("not_sent", "silent", "partly", "done", "nothing_due")
"""States of a branch, those that need someone first."""

SHOWN = (
    "assigned", "completed", "completed_year", "goal", "open", "overdue", "attempted", "replaced", "withdrawn", "expired",
    "late", "rows_rejected", "findings", "cases", "opinions", "drawn", "reserve", "base", "eligible",
)  # fmt: skip
"""Columns of the table of branches, in its order; the share of the goal follows the goal."""

CHARTED_BRANCHES = 15
CARD_INCHES = 0.9
"""What a chart's card is higher than its drawing."""

CHART_INCHES = 5.2
HALF_WIDTH_INCHES = 0.58 * 10 / 72
"""What half a Chinese character takes at 10 points; wide letters of a Latin font take a little more than half."""

LABEL_HALF_WIDTHS = 36
NAMED_BRANCHES = 5

INK = {
    "#0a0a01": ("--ink", "#1d2730"),
    "#0a0a02": ("--faint", "#5d6873"),
    "#0a0a03": ("--rule", "#c9d1d8"),
    "#0a0a04": ("--done", "#1d6f8f"),
    "#0a0a05": ("--open", "#b9cfda"),
    "#0a0a06": ("--late", "#b4541a"),
    "#0a0a07": ("--other", "#8a929a"),
    "#0a0a08": ("--range", "#cfe3ea"),
}
"""The colours charts are drawn in: each stands for a colour of the page, which knows light from dark, or is made plain."""
TEXT, FAINT, RULE, DONE, OPEN, LATE, OTHER, RANGE = INK


# ---- the report --------------------------------------------------------------------------------------------


def write_report(
    standing: Standing, *, related: Sequence[Standing] = (), written_at: datetime, language: str, directory: Path
) -> Path:
    """The path of one self-contained HTML page about a campaign; the same figures and time give the same bytes.

    The name carries campaign, business day, time and the hash of the page, so no page ever replaces another one.
    """
    page = report_page(standing, related=related, written_at=written_at, language=language)
    path = keep_page(page, f"{standing.campaign}_{standing.as_of}", written_at, directory)
    LOG.info(
        "%s: report of %d bytes, %d branches", standing.campaign, len(page.encode("utf-8")), len(standing.branches)
    )
    return path


def keep_page(page: str, about: str, written_at: datetime, directory: Path) -> Path:
    """The path of a page's file, whose name carries what it is about, the time and the hash of the page."""
    content = page.encode("utf-8")
    stamp = written_at.astimezone(SHANGHAI).strftime("%Y%m%dT%H%M")
    name = f"{about}_{stamp}_{sha256(content).hexdigest()[:8]}.html"
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / re.sub(r"[^A-Za-z0-9._-]", "-", name)
    unfinished = path.with_suffix(".part")
    unfinished.write_bytes(content)
    os.replace(unfinished, path)
    return path


def report_page(standing: Standing, *, related: Sequence[Standing] = (), written_at: datetime, language: str) -> str:
    """The page as text; see write_report."""
    words = words_in(language)
    found = standing.balances()
    estimate = standing.estimate
    said, *beside = clauses(estimate, "zh_CN" if language == "zh_CN" else "en")
    charts = [
        year_chart(standing, words),
        branch_chart(standing, words),
        outcome_chart(standing, words),
        *([violation_chart(standing, words)] if standing.violations else []),
    ]
    branches = numbered(standing.branches)
    place = {no: at for at, no in enumerate(branches["branch_no"])}
    late = _most(branches[branches["overdue"] > 0], "overdue")
    clusters = _most(branches[branches["findings"] > 0], "findings")
    empty = [name for name in SHOWN if not branches[name].any()]
    return words.environment.get_template("report.html.j2").render(
        language=language,
        s=standing,
        title=standing.title[language],
        as_of=words.day(standing.as_of),
        written_at=words.moment(written_at),
        outlook=outlook(standing),
        late=[_plain(row) for row in late.to_dict("records")],
        clusters=[_plain(row) for row in clusters.to_dict("records")],
        named=NAMED_BRANCHES,
        states={state: int((standing.branches["state"] == state).sum()) for state in STATES},
        waits=waits(standing),
        awaiting=[
            (label.text("zh_CN" if language == "zh_CN" else "en"), standing.awaiting[kind])
            for kind, label in KINDS.items()
            if kind in standing.awaiting
        ],
        said=said,
        beside=beside,
        estimated=estimate if isinstance(estimate, Estimate) else estimate.covered,
        charts=[[(chart, chart.inline()) for chart in column] for column in _columns(charts)],
        branches=[_plain(row) for row in branches.to_dict("records")],
        shown=[name for name in SHOWN if name not in empty],
        empty=empty,
        outcomes=words.named(standing.outcomes, "outcomes"),
        violations=words.named(_worst_first(standing.violations), "violations"),
        signals=_signals(standing, "zh_CN" if language == "zh_CN" else "en"),
        gaps=_gaps(standing, "zh_CN" if language == "zh_CN" else "en"),
        recalls=_recalls(standing, "zh_CN" if language == "zh_CN" else "en"),
        results=words.named(standing.case_results, "results"),
        excluded=words.named(standing.excluded, "reasons"),
        shortfalls=words.named(standing.shortfalls, "shortfalls"),
        contradictions=words.named(standing.contradictions, "contradictions"),
        mails=words.named(standing.mails, "mails"),
        messages=words.named(standing.messages, "messages"),
        related=list(related),
        totals=[b for b in found if not b.where],
        by_branch=sorted((b for b in found if b.where), key=lambda b: place[b.where]),
        broken=[b for b in found if not b.holds],
        equation=words.equation,
    )


def numbered(branches: pd.DataFrame) -> pd.DataFrame:
    """By branch number: as numbers when all of them are digits, else as texts."""
    numbers = branches["branch_no"]
    if numbers.str.fullmatch(r"[0-9]+").all():
        order = sorted(range(len(numbers)), key=lambda at: (int(numbers.iloc[at]), numbers.iloc[at]))
    else:
        order = sorted(range(len(numbers)), key=lambda at: str(numbers.iloc[at]))
    return branches.iloc[order]


def _signals(standing: Standing, language: Literal["zh_CN", "en"]) -> list[dict[str, Any]]:
    """What makes self-reported rows look odd, with the words of the signal and the branch's name."""
    names = dict(zip(standing.branches["branch_no"], standing.branches["branch_name"], strict=True))
    return [
        {**row, "name": SIGNALS[row["signal"]].text(language), "branch_name": names.get(row["branch_no"], "")}
        for row in standing.signals
    ]


def _recalls(standing: Standing, language: Literal["zh_CN", "en"]) -> list[dict[str, Any]]:
    """The mails that went astray, with the kinds of data in words."""
    return [
        {**one, "kinds": [DATA_KINDS[kind].text(language) for kind in one["data_kinds"]]} for one in standing.recalls
    ]


def _gaps(standing: Standing, language: Literal["zh_CN", "en"]) -> list[dict[str, Any]]:
    """What kept lists at headquarters, with what is wrong and what to do, and the branch's name."""
    names = dict(zip(standing.branches["branch_no"], standing.branches["branch_name"], strict=True))
    found = []
    for gap in standing.gaps:
        finding = Finding(
            gap["code"], True, gap["branch_no"], gap["role"], gap["file"], gap["row"], detail=gap["detail"]
        )
        role = ROLES[finding.role].text(language) if finding.role in ROLES else finding.role
        said = {"wrong": finding.wrong(language), "write": finding.write(language), "role_name": role}
        found.append(gap | said | {"branch_name": names.get(finding.branch_no, "")})
    return found


def _most(branches: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """The largest counts first, equal ones in the order they had."""
    return branches.sort_values(list(columns), ascending=False, kind="stable")


def _worst_first(violations: Mapping[str, int]) -> dict[str, int]:
    """The most frequent kind first; 'other' last, however many."""
    return dict(sorted(violations.items(), key=lambda item: (item[0] == "other", -item[1])))


def _columns(charts: Sequence[Chart]) -> tuple[list[Chart], list[Chart]]:
    """The charts in two columns, each chart under the shorter one, so that a short card leaves no hole beside a tall one."""
    columns: tuple[list[Chart], list[Chart]] = ([], [])
    for chart in charts:
        min(columns, key=lambda column: sum(other.inches + CARD_INCHES for other in column)).append(chart)
    return columns


def _plain(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(key): value for key, value in row.items()}


# ---- charts ------------------------------------------------------------------------------------------------


@dataclass
class Chart:
    """One drawing with its words and the same numbers as rows.

    Texts are drawn as marks and put in afterwards: what is measured is then the same on a machine without a Chinese
    font, and the reader's browser chooses one.
    """

    key: str
    title: str
    summary: str
    head: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    texts: list[str] = field(default_factory=list)
    svg: str = ""
    inches: float = 0.0

    def mark(self, text: str) -> str:
        self.texts.append(text)
        return f"@{len(self.texts) - 1:03d}@".ljust(_width(text), "_")

    def finish(self, figure: Figure) -> Chart:
        import matplotlib as mpl

        self.inches = float(figure.get_figheight())
        drawn = StringIO()
        with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": self.key}):
            figure.savefig(
                drawn, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
            )
        svg = re.sub(r"<metadata>.*?</metadata>", "", drawn.getvalue(), flags=re.DOTALL)
        svg = svg[svg.index("<svg") :]
        svg = re.sub(r"font: ([0-9.]+px) [^;\"]*", r"font-size: \1", svg)
        svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
        svg = re.sub(r"(id=\"|href=\"#|url\(#)", rf"\g<1>{self.key}-", svg)
        self.svg = re.sub(r"@(\d{3})@_*", lambda found: html.escape(self.texts[int(found[1])]), svg)
        return self

    def inline(self) -> Markup:
        """For the page: its colours, its font, named for those who do not see it."""
        size = re.search(r'viewBox="([^"]+)"', self.svg)
        assert size is not None
        svg = self.svg
        for drawn, (name, _) in INK.items():
            svg = svg.replace(drawn, f"var({name})")
        opening = (
            f'<svg viewBox="{size[1]}" role="img" aria-labelledby="{self.key}-title {self.key}-desc">'
            f'<title id="{self.key}-title">{html.escape(self.title)}</title>'
            f'<desc id="{self.key}-desc">{html.escape(self.summary)}</desc>'
        )
        return Markup(re.sub(r"<svg[^>]*>", lambda _: opening, svg, count=1))  # noqa: S704 (every text is escaped above)

    def picture(self) -> str:
        """For the dashboard: a data URI on white, since its pages show no inline drawing."""
        svg = self.svg
        for drawn, (_, colour) in INK.items():
            svg = svg.replace(drawn, colour)
        style = "<style>text{font-family:'PingFang SC','Microsoft YaHei','Noto Sans CJK SC',sans-serif}</style>"
        paper = '<rect width="100%" height="100%" fill="#ffffff"/>'
        svg = re.sub(r"(<svg[^>]*>)", lambda found: found[1] + style + paper, svg, count=1)
        return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def year_chart(standing: Standing, words: Words) -> Chart:
    """Completed this year against the goal, with the range of the projection."""
    ahead: Outlook = outlook(standing)
    chart = Chart(
        "year",
        words["chart.year"],
        words["chart.year_summary"].format(
            completed=number(ahead.completed), goal=number(ahead.goal), low=number(ahead.low), high=number(ahead.high)
        ),
        (words["chart.measure"], words["chart.calls"]),
        [
            (words["chart.completed_year"], ahead.completed),
            (words["chart.goal"], ahead.goal),
            (words["chart.low"], ahead.low),
            (words["chart.high"], ahead.high),
        ],
    )
    figure, axes = _canvas(1.45)
    reach = max(ahead.goal, ahead.high, 1) * 1.08
    axes.barh(0, ahead.high, height=0.62, color=RANGE)
    axes.barh(0, ahead.low, height=0.62, color=OPEN)
    axes.barh(0, ahead.completed, height=0.34, color=DONE)
    axes.plot([ahead.goal, ahead.goal], [-0.48, 0.48], color=LATE, linewidth=2.2, solid_capstyle="butt")
    axes.set_xlim(0, reach)
    axes.set_ylim(-1.25, 1.0)
    aside: dict[str, Any] = {"ha": "right"} if ahead.goal > reach / 2 else {"ha": "left"}
    axes.text(ahead.goal, 0.62, chart.mark(f"{words['chart.goal']} {number(ahead.goal)}"), color=LATE, **aside)
    axes.text(0, 0.62, chart.mark(f"{words['chart.completed_year']} {number(ahead.completed)}"), color=DONE, ha="left")
    if ahead.goal:
        said = words["chart.reach" if ahead.low == ahead.high else "chart.range"].format(
            low=number(ahead.low), high=number(ahead.high),
            low_share=whole_percent(ahead.low, ahead.goal), high_share=whole_percent(ahead.high, ahead.goal),
        )  # fmt: skip
        axes.text(0, -0.85, chart.mark(said), color=FAINT)
    axes.axis("off")
    return chart.finish(figure)


def branch_chart(standing: Standing, words: Words) -> Chart:
    """The branches with most overdue, then most open calls, and what became of their calls."""
    busy = standing.branches[standing.branches["assigned"] > 0]
    busy = _most(numbered(busy), "overdue", "open")
    worst = busy.head(CHARTED_BRANCHES)
    parts = [
        ("completed", DONE, busy["completed"]),
        ("open", OPEN, busy["open"] - busy["overdue"]),
        ("overdue", LATE, busy["overdue"]),
        ("other", OTHER, busy["replaced"] + busy["withdrawn"] + busy["expired"]),
    ]
    title = words["chart.branches" if len(worst) == len(busy) else "chart.branches_most"]
    chart = Chart(
        "branches",
        title.format(shown=len(worst)),
        words["chart.branches_summary"].format(shown=len(worst), branches=len(busy), overdue=number(standing.overdue)),
        (words["chart.branch"], *(words[f"chart.{name}"] for name, _, _ in parts)),
        [
            (f"{no} {name}", *(int(values.iloc[at]) for _, _, values in parts))
            for at, (no, name) in enumerate(zip(busy["branch_no"], busy["branch_name"], strict=True))
        ],
    )
    names = [_short(str(row[0])) for row in chart.rows[: len(worst)]]
    figure, axes = _canvas(0.85 + 0.30 * max(len(worst), 1), legend=0.5, names=names)
    places = range(len(worst))
    before = worst["assigned"] * 0
    for name, colour, counts in parts:
        values = counts.head(len(worst))
        axes.barh(places, values, left=before, height=0.62, color=colour, label=chart.mark(words[f"chart.{name}"]))
        before = before + values
    axes.set_yticks(list(places), [chart.mark(name) for name in names])
    axes.invert_yaxis()
    _quiet(axes)
    figure.legend(
        *axes.get_legend_handles_labels(), loc="upper left", bbox_to_anchor=(0.0, 1.0), ncols=2, frameon=False, handlelength=1,
        labelcolor=FAINT, columnspacing=2.0, borderaxespad=0.2,
    )  # fmt: skip
    return chart.finish(figure)


def outcome_chart(standing: Standing, words: Words) -> Chart:
    """Accepted rows by outcome, in the order of the rule book."""
    return _bars(
        "outcomes",
        words["chart.outcomes"],
        words["chart.rows"],
        [(words.codes["outcomes"][code], n) for code in OUTCOMES if (n := standing.outcomes.get(code, 0))],
        words,
        DONE,
    )


def violation_chart(standing: Standing, words: Words) -> Chart:
    """Findings by kind of violation."""
    return _bars(
        "violations",
        words["chart.violations"],
        words["chart.findings"],
        [(words.codes["violations"].get(code, code), n) for code, n in _worst_first(standing.violations).items()],
        words,
        LATE,
    )


def _bars(key: str, title: str, unit: str, counts: list[tuple[str, int]], words: Words, colour: str) -> Chart:
    said = words["chart.and"].join(f"{name} {number(n)}" for name, n in counts) or words["chart.none"]
    chart = Chart(key, title, f"{unit}{words['chart.colon']}{said}", (title, unit), list(counts))
    figure, axes = _canvas(0.35 + 0.32 * max(len(counts), 1), names=[name for name, _ in counts], legend=0.02)
    values = [n for _, n in counts]
    axes.barh(range(len(values)), values, height=0.6, color=colour)
    for place, n in enumerate(values):
        axes.text(n + max(values) * 0.015, place, chart.mark(number(n)), va="center", color=TEXT)
    axes.set_yticks(range(len(values)), [chart.mark(name) for name, _ in counts])
    axes.set_xlim(0, max(values, default=1) * 1.15)
    axes.invert_yaxis()
    _quiet(axes)
    axes.set_xticks([])
    return chart.finish(figure)


def _canvas(height: float, *, names: Sequence[str] = (), legend: float = 0.36) -> tuple[Figure, Axes]:
    """A drawing with room at its left for the names of bars and, where there are names, for so many inches of legend."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(CHART_INCHES, height))
    if not names:
        return figure, figure.add_axes((0.01, 0.02, 0.98, 0.96))
    left = min(max(map(_width, names)) * HALF_WIDTH_INCHES / CHART_INCHES + 0.03, 0.6)
    return figure, figure.add_axes((left, 0.3 / height, 0.98 - left, 1 - (0.3 + legend) / height))


def _short(text: str) -> str:
    if _width(text) <= LABEL_HALF_WIDTHS:
        return text
    while _width(text) >= LABEL_HALF_WIDTHS:
        text = text[:-1]
    return text + "…"


def _width(text: str) -> int:
    """Half-widths a text takes: a Chinese character is as wide as two letters."""
    return sum(2 if east_asian_width(letter) in "WFA" else 1 for letter in text)


def _quiet(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)
    axes.spines["left"].set_color(RULE)
    axes.tick_params(axis="y", length=0, labelcolor=TEXT)
    axes.tick_params(axis="x", length=0, labelcolor=FAINT)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
