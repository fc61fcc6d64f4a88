#!/usr/bin/env python3
"""Recompute the samples of a programme year from its export, without the product that drew them.

    python3 verify_sample.py [DIR] [--lang en] [--frame-sha256 HEX] [--plan-sha256 HEX] [--k0 HEX] [--state-sha256 HEX]

DIR (the folder of this program when left out) holds plan.json, frame.csv.gz, sample.csv and what plan.json names besides.
Each line says 相符 (same) or 不符 (NOT THE SAME); a difference is shown as `written → recomputed`, – being nothing.
Exit code: 0 all the same, 1 something differs, 2 the export cannot be read to its end and is NOT VERIFIED.
The rules are those of the page "The draw" (docs/draw.md), cited by number; the forms those of `huifang-proof-2`.

An export that somebody rewrote from end to end agrees with itself. Only the hashes that were stored and mailed before
the samples were drawn show that it is the one of that time: compare those printed at the end, or give them as options.

Needs Python 3.9 or later and nothing else; writes nothing. A frame of 10 million customers with 12 months (1.2 million
places, plan.json of 280 MB) took 5 minutes of one processor and 1.2 GB of memory; files are read in pieces.
"""
# `zip(strict=)` came with Python 3.10.
# ruff: noqa: B905

from __future__ import annotations

import argparse
import csv
import heapq
import io
import json
import os
import re
import sys
import zlib
from codecs import getincrementaldecoder
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from fractions import Fraction
from hashlib import sha256
from typing import Any

STATUSES = ("", "completed", "open", "failed", "reopened", "outside")
COMPLETED, OPEN, FAILED, REOPENED, OUTSIDE = range(1, 6)
LAST = b"\xff"  # behind every id: no UTF-8 begins with FF
LINES = {  # what each check is called, in Chinese and in English
    "plan": ("plan.json 的写法及其 sha256", "plan.json: its form and its sha256"),
    "months": ("期次依次为 {n}", "the months in order: {n}"),
    "version": ("方案版本 {n} 的文本及其 SHA-256", "plan version {n}: its text and the text's SHA-256"),
    "state": ("{n} 封存的状态：SHA-256，及其所指方案、抽样框、K0", "{n} sealed state: its SHA-256, and the plan, frame, K0 it names"),
    "taken": ("{n} 已抽名单：有序，前期名单上的都在，已完成的仍为完成", "{n} taken list: sorted, with all of before, completed stays so"),
    "text": ("{n} 内容的 SHA-256", "{n}: SHA-256 of its text"),
    "gzip": ("{n} 的 gzip 字节", "{n}: bytes of the gzip file"),
    "zlib": ("{n} 的 gzip 头与校验和（本机 zlib 压法不同，其余字节未比对）", "{n}: gzip header and checksum (another zlib: no more)"),
    "ledger": ("版本 {n} 台账平衡：底数 = 合格 + 剔除 + 豁免（规则 1）",
        "version {n} ledger: base = eligible + excluded + waived (rule 1)"),
    "quota": ("版本 {n} 配额：目标 = ceil(比例 × 户数)（规则 2）", "version {n} quota: goal = ceil(rate × customers) (rule 2)"),
    "joined": ("版本 {n} 分组与层，小层合并（规则 3）", "version {n} groups and strata, small segments joined (rule 3)"),
    "year": ("版本 {n} 全年名额在各层的分配（规则 4）", "version {n} the year's allocation over the strata (rule 4)"),
    "random": ("{n} 随机种子，无从重算（规则 15）", "{n} random seed: it cannot be recomputed (rule 15)"),
    "link": ("{n} 当月链值哈希得种子链承诺 K0（规则 13、14）", "{n} the month's link hashes to K0 (rules 13, 14)"),
    "public": ("{n} 公开数值：写法相符，是封存或作废之后的下一个（规则 14）",
        "{n} public number: its form, and the next one after sealing or abort (rule 14)"),
    "entered": ("{n} 数值与链值由两人先后录入，均在封存之后（规则 14）",
        "{n} number and link entered by two people, in order, after sealing (rule 14)"),
    "weights": ("{n} 权数：由封存的工作日重算（规则 6）", "{n} weights from the sealed workdays (rule 6)"),
    "capacity": ("{n} 分组的当期能力：方案、工作日与批准（规则 6）", "{n} groups: capacity by plan, workdays, approvals (rule 6)"),
    "by_hand": ("版本 {n} 人工剔除：理由、户数，均不在抽样框内（规则 1）",
        "version {n} excluded by hand: reasons, counts, none in the frame (rule 1)"),
    "seed": ("{n} 种子 = SHA-256(方案|期|链值|公开数值)（规则 14）", "{n} seed = SHA-256(programme|period|link|public number) (rule 14)"),
    "new": ("{n} 名单新增 = 前一期样本 + 依次启用的备选（规则 9）", "{n} newly taken = the sample before + its reserve in order (rule 9)"),
    "coded": ("{n} 名单按抽样框归类，仅抽尽且经批准的层重启失败户（规则 10、12）",
        "{n} list coded by the frame, reopened if exhausted and approved (rules 10, 12)"),
    "developers": ("{n} 有开发人的客户都在抽样框内（规则 17）", "{n} customers with a developer are in the frame (rule 17)"),
    "counts": ("{n} 分组的户数、目标、已完成、在途、失败（规则 2、5）",
        "{n} groups: eligible, goal, completed, open, failed (rules 2, 5)"),
    "owed": ("{n} 分组的应补、份额、名额、缺口及原因（规则 6、17）", "{n} groups: owed, share, places, shortfall, reason (rules 6, 17)"),
    "strata": ("{n} 层的户数、下限、状态、剩余（规则 5）", "{n} strata: customers, minimum, state, left (rule 5)"),
    "places": ("{n} 层的名额与备选（规则 7、9）", "{n} strata: places and reserve (rules 7, 9)"),
    "sample": ("{n} 样本与备选：随机号、次序、SHA-256（规则 8、9）", "{n} sample and reserve: tickets, order, SHA-256 (rules 8, 9)"),
    "rows": ("sample.csv 逐行与重算的 {n} 行一致", "sample.csv row by row: the {n} recomputed rows"),
    "published": ("公布的 {n}", "published {n}"),
}  # fmt: skip

Row = dict[str, Any]
History = dict[bytes, bytearray]  # every customer ever taken: his status in each month's taken list, 0 for none


UNKNOWN_DAYS = (
    "{n} 封存时未记工作日：权数与当期能力照所写，公开数值的日期只核对不早于封存",
    "{n} was sealed without its workdays: weights and capacity are as written, the public number's day is only later",
)


class Broken(Exception):
    """The export cannot be read to its end: what is wrong, in Chinese and in English, and where."""

    def __init__(self, zh: str, en: str, where: str) -> None:
        super().__init__(f"{zh}：{where}", f"{en}: {where}")


class Report:
    """What is printed: a line for each check, in one language; and how many there were, how many not the same."""

    def __init__(self, lang: str) -> None:
        self.column, self.checked, self.wrong = ("zh", "en").index(lang), 0, 0

    def say(self, *words: str, file: Any = None) -> None:
        text = words[self.column % len(words)]
        print("".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text), file=file, flush=True)

    def note(self, zh: str, en: str) -> None:
        """Something to know that is neither the same nor not."""
        self.say(f"        {zh}", f"        {en}")

    def check(self, line: str, wrong: list[str], n: object) -> None:
        """One line of LINES, and the first few of what is wrong; an empty list is the same."""
        self.checked += 1
        self.wrong += bool(wrong)
        verdict = ("不符", "NOT THE SAME") if wrong else ("相符", "same")
        self.say(*(f"{word}  {text.format(n=n)}" for word, text in zip(verdict, LINES[line])))
        for text in wrong[:5]:
            self.say(f"        {text:.240}")
        if len(wrong) > 5:
            self.say(f"        另有 {len(wrong) - 5} 处", f"        and {len(wrong) - 5} more")


def differ(written: Any, recomputed: Any, name: str = "") -> list[str]:
    return [] if written == recomputed else [f"{name} {written} → {recomputed}".strip()]


def differ_rows(written: Iterable[Row], right: Iterable[Row], keys: str, fields: str) -> list[str]:
    """Where rows of the same keys differ in some fields, and rows too many or too few."""
    wrong, rest = [], {tuple(row[key] for key in keys.split()): row for row in right}
    for row in written:
        name = tuple(row[key] for key in keys.split())
        other = rest.pop(name, None)
        if other is None:
            wrong.append(f"{' '.join(name)} → –")
        else:
            wrong += [text for f in fields.split() for text in differ(row[f], other[f], f"{' '.join(name)} {f}:")]
    return wrong + [f"– → {' '.join(name)}" for name in rest]


# 1. The forms of the export: JSON, CSV, gzip


def form(keys: str, **lists: Any) -> Row:
    """The keys of a JSON object, each with its kind behind a colon (text where none is named)."""
    return {**dict((f"{key}:text").split(":")[:2] for key in keys.split()), **lists}


MOMENT = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+08:00"  # in Shanghai; the text sorts as the time does
KINDS = {
    "text": "(?s:.*)", "hash": "[0-9a-f]{64}", "hash?": "([0-9a-f]{64})?", "decimal": r"\d{1,20}(\.\d{1,20})?",
    "month": r"\d{4}-(0[1-9]|1[0-2])", "day": r"\d{4}-\d\d-\d\d", "day?": r"(\d{4}-\d\d-\d\d)?", "format": "huifang-proof-2",
    "frame": r"frame(-\d{1,4})?\.csv\.gz", "developers?": r"(developers-\d{4}-\d\d\.csv\.gz)?", "origin": "random|chain",
    "goal": "rate|coverage", "caller": "branch|hq", "exception": "capacity|reopen", "cut_off": r"\d\d-\d\d",
    "clock": r"\d\d:\d\d:\d\d(\.\d+)?", "moment": MOMENT, "moment?": f"({MOMENT})?",
    "rate": r"0+\.\d{0,20}[1-9]\d{0,20}|0*1(\.0{1,20})?",
}  # fmt: skip
TYPES = {"count": int, "object": dict, "list": list, "none": type(None)}
QUOTA = form("group_key branch_no eligible:count goal:count")
STRATUM = form("group_key stratum customers:count minimum:count places:count")
VERSION = form(
    "version:count plan plan_sha256:hash frame_file:frame frame_sha256:hash base:count waived:count",
    ledger=[form("branch_no reason customers:count")], quota=[QUOTA], strata=[STRATUM],
    excluded_by_hand=[form("customer_id reason approver")],
)  # fmt: skip
MONTH = form(
    "campaign period:month version:count state state_sha256:hash committed_at:moment developers_file:developers?"
    " origin:origin seed:hash sample_sha256:hash",
    exceptions=[form("kind:exception group_key stratum calls:count approver reason")],
    attempts=[form("attempt:count period public public_on:day? public_by public_at:moment? link:hash? link_by"
                   " link_at:moment? aborted aborted_by aborted_at:moment?")],
)  # fmt: skip
PLAN = form(
    "format:format campaign programme year:count sha256:hash",
    versions=[VERSION], months=[MONTH], chain=form("links:count k0:hash"),
)  # fmt: skip
STATE = form(
    "campaign period programme_year version:count as_of:day calendar_version plan_sha256:hash frame_sha256:hash k0:hash?"
    " developers_sha256:hash? weight:count weight_left:count taken:list", workdays=["day"],
    groups=[QUOTA | form("completed:count open:count failed:count capacity:count owed:count share:count places:count"
                         " shortfall:count reason")],
    strata=[STRATUM | form("state:count left:count reserve:count")],
)  # fmt: skip
PROGRAMME = form(
    "programme goal:object strata:list minimum:count reserve:decimal weights:object monthly_plan:object caller:caller",
    exclusions=["object"],
)  # fmt: skip


def check_form(value: Any, wanted: Any, where: str) -> None:
    """Raise Broken naming the place where a value has not its form."""
    if isinstance(wanted, dict) and isinstance(value, dict):
        if set(value) != set(wanted):
            names = ", ".join(sorted(set(value) ^ set(wanted)))
            raise Broken("缺少或多出的键", "keys missing or too many", f"{where}: {names:.200}")
        for key in wanted:
            check_form(value[key], wanted[key], f"{where}.{key}")
    elif isinstance(wanted, list) and isinstance(value, list):
        for n, item in enumerate(value):
            check_form(item, wanted[0], f"{where}[{n}]")
    elif not isinstance(wanted, str) or not is_kind(value, wanted):
        raise Broken("形式不符", "not of its form", f"{where}: {show(value)}, {show(wanted)}")


def is_kind(value: Any, kind: str) -> bool:
    if kind in TYPES:
        return type(value) is TYPES[kind] and not (isinstance(value, int) and value < 0)
    if not isinstance(value, str) or re.fullmatch(KINDS[kind], value, re.ASCII) is None:
        return False
    if kind in ("day", "day?") and value:
        try:
            date.fromisoformat(value)
        except ValueError:
            return False
    return True


def pick(value: Any, wanted: Row, where: str, **absent: Any) -> Row:
    """Some keys of an object that may have others; what they are where absent."""
    check_form(value, "object", where)
    picked = {key: value.get(key, absent.get(key)) for key in wanted}
    check_form(picked, wanted, where)
    return picked


def read_json(text: str, where: str) -> Any:
    """The value of a JSON text; numbers are whole ones of at most 15 digits."""

    def read_number(word: str) -> int:
        if not re.fullmatch("-?[0-9]{1,15}", word):
            raise Broken("不许有这样的数", "no such number may stand here", f"{where}: {word:.40}")
        return int(word)

    try:
        return json.loads(text, parse_float=read_number, parse_constant=read_number, parse_int=read_number)
    except ValueError as error:
        raise Broken("不是 JSON", "no JSON", f"{where}: {error}") from None


def hash_text(text: str | bytes) -> str:
    return sha256(text.encode() if isinstance(text, str) else text).hexdigest()


def hash_canonical(value: Any, end: bytes = b"") -> str:
    """In pieces, never as one text: plan.json of a large year has several 100 MB."""
    hasher = sha256()
    for piece in json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":")).iterencode(value):
        hasher.update(piece.encode())
    hasher.update(end)
    return hasher.hexdigest()


def write_row(fields: Iterable[str]) -> str:
    return ",".join('"' + f.replace('"', '""') + '"' if re.search('[",\r\n]', f) else f for f in fields)


def read_row(line: bytes, count: int, where: str) -> list[str]:
    """So many fields of a CSV row, with no quotes but needed ones."""
    try:
        fields: list[str] = next(csv.reader([line.decode()], strict=True), [])
    except (ValueError, csv.Error) as error:
        raise Broken("不是 CSV", "no CSV", f"{where}: {error}") from None
    if len(fields) != count or write_row(fields).encode() != line:
        raise Broken("列数或引号不对", "columns or quotes are wrong", f"{where}: {show(line)}")
    return fields


def show(found: Any) -> str:
    """What was read, as people read it, shortened."""
    if isinstance(found, bytes):
        return found[:80].decode(errors="backslashreplace")
    return found[:80] if isinstance(found, str) else json.dumps(found, ensure_ascii=False)[:80]


def open_file(folder: str, name: str) -> io.BufferedReader:
    if not os.path.isfile(os.path.join(folder, name)):
        raise Broken("缺少文件", "the file is missing", name)
    return open(os.path.join(folder, name), "rb")


@dataclass
class Table:
    """A gzipped CSV file of the export: its rows, read once and in pieces; after them its hash and what is odd."""

    folder: str
    name: str
    columns: str
    sha256: str = ""
    odd: list[str] = field(default_factory=list)
    is_packed_alike: bool = True

    def read_pieces(self) -> Iterator[bytes]:
        unpack, pack = zlib.decompressobj(-15), zlib.compressobj(9, zlib.DEFLATED, -15)
        decoder = getincrementaldecoder("utf-8")()
        hasher, crc, size, theirs, ours, flips = sha256(), 0, 0, bytearray(), bytearray(), 0
        with open_file(self.folder, self.name) as file:
            # No name, no time, level 9 (2), no operating system (255): what Python's GzipFile writes with mtime=0.
            self.odd += differ(file.read(10).hex(), "1f8b08000000000002ff", "gzip:")
            try:
                while not unpack.eof:
                    data = unpack.unconsumed_tail or file.read(1 << 20)
                    if not data:
                        raise Broken("文件被截断", "the file is cut off", self.name)
                    piece = unpack.decompress(data, 1 << 20)
                    decoder.decode(piece, unpack.eof)
                    hasher.update(piece)
                    crc, size = zlib.crc32(piece, crc), (size + len(piece)) % 2**32
                    if flips <= 8:  # pack the text again and compare
                        theirs += data[: len(data) - len(unpack.unused_data if unpack.eof else unpack.unconsumed_tail)]
                        ours += pack.compress(piece) + (pack.flush() if unpack.eof else b"")
                        n = min(len(theirs), len(ours))
                        flips += sum(map(int.__ne__, theirs[:n], ours[:n])) if theirs[:n] != ours[:n] else 0
                        del theirs[:n], ours[:n]
                    yield piece
            except (zlib.error, UnicodeDecodeError) as error:
                raise Broken("文件已损坏", "the file is damaged", f"{self.name}: {error}") from None
            trailer = unpack.unused_data + file.read(100)
        self.odd += differ(trailer.hex(), (crc.to_bytes(4, "little") + size.to_bytes(4, "little")).hex(), "gzip:")
        if flips <= 8 and len(theirs) == len(ours):  # the same length, a few bytes other: changed by hand
            self.odd += differ(flips, 0, "gzip, bytes:")
        else:
            self.is_packed_alike = False
        self.sha256 = hasher.hexdigest()

    def read_rows(self) -> Iterator[tuple[bytes, bytes]]:
        """The customer and the rest of each row; rows stand sorted bytewise by customer, nobody stands twice."""
        tail, last, number = b"", b"", 0
        for piece in self.read_pieces():
            *lines, tail = (tail + piece).split(b"\n")
            for line in lines:
                number += 1
                if number == 1:
                    if line != self.columns.encode():
                        raise Broken("表头不对", "the header is wrong", f"{self.name}: {show(line)}, {self.columns}")
                    continue
                customer, _, rest = line.partition(b",")
                if line[:1] == b'"':
                    name, *others = read_row(line, self.columns.count(",") + 1, f"{self.name}:{number}")
                    customer, rest = name.encode(), write_row(others).encode()
                if customer <= last:
                    where = f"{self.name}:{number}: {show(line)}"
                    raise Broken("客户重复或未按编号排序", "a customer twice, or not sorted by id", where)
                last = customer
                yield customer, rest
            if len(tail) > 65536:
                raise Broken("行过长", "the line is too long", f"{self.name}:{number + 1}")
        if tail or not number:
            raise Broken("末行不完整", "the last line is not complete", self.name)

    def check_bytes(self, report: Report, right: str) -> None:
        report.check("text", differ(right, self.sha256), self.name)
        report.check("gzip" if self.is_packed_alike else "zlib", self.odd, self.name)


# 2. The plan versions: what their text decides, and the year's quota that follows from their frame (rules 1 to 4)


def ceil(number: Fraction) -> int:
    return -(-number.numerator // number.denominator)


def join_segments(sizes: dict[str, int], rate: Fraction, minimum: int) -> dict[str, int]:
    """Rule 3: sizes of the strata, the small segments joined in `*`."""
    smallest, joined, strata = ceil(minimum / rate), 0, {}
    for size, segment in sorted((size, segment) for segment, size in sizes.items()):
        if size < smallest or 0 < joined < smallest:
            joined += size
        else:
            strata[segment] = size
    return {**strata, "*": joined} if joined else strata


def deal_places(
    sizes: dict[str, int], done: dict[str, int], left: dict[str, int], count: int, minimum: int, weights: dict[str, str]
) -> dict[str, int]:
    """Rule 7: places one by one to the strata of a group. Rule 4 is the same with nothing done and everybody left."""
    scale = 1
    for text in weights.values():
        scale *= Fraction(text).denominator
    worth = {key: int(sizes[key] * Fraction(weights.get(key, "1")) * scale) for key in sorted(sizes)}  # rule 18
    places = dict.fromkeys(worth, 0)
    for _ in range(count):
        best, best_is_below, best_worth, best_part = "", False, -1, 1
        for key, n in places.items():
            if n < left[key]:
                is_below, part = done[key] + n < minimum, 2 * (done[key] + n) + 1
                is_higher = worth[key] * best_part > best_worth * part  # worth / part, compared without fractions
                if best_worth < 0 or is_below > best_is_below or (is_below == best_is_below and is_higher):
                    best, best_is_below, best_worth, best_part = key, is_below, worth[key], part
        if best_worth < 0:
            break
        places[best] += 1
    return places


@dataclass
class Cell:
    """What all of a frame's rows of one branch, group, segment and stratum have in common."""

    branch: str
    group: str
    segment: str
    stratum: str
    size: int = 0
    drawn_from: list[Any] = field(default_factory=list)
    """The stratum from which each month of the version draws these rows; in a month of coverage the developers say."""


@dataclass
class Version:
    """A plan version of the programme year: what its text decides, and what its frame adds up to."""

    row: Row
    is_coverage: bool
    rate: Fraction
    calls: int
    has_strata: bool
    minimum: int
    weights: dict[str, str]
    reserve: Fraction
    origin: str
    month_weights: list[int]
    cut_off: str
    caller: str
    capacity: int
    """Calls that a group takes on in a month, or on each workday where `by_day` is there."""
    by_day: dict[str, int] | None
    """Branches with calls a workday of their own."""
    hand_reasons: set[str]
    public_at: str
    public_pattern: re.Pattern[str] | None
    met: list[str] = field(default_factory=list)
    """Customers of the frame who are excluded by hand."""
    rows: int = 0
    cells: dict[bytes, Cell] = field(default_factory=dict)
    strata: dict[str, dict[str, int]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(int)))
    """Customers by group and stratum."""

    def goal_of(self, group: str) -> int:
        return ceil(self.rate * sum(self.strata[group].values()))  # rule 2

    def minimum_of(self, group: str) -> int:
        return min(self.minimum, self.goal_of(group))  # rule 3


def read_version(report: Report, plan: Row, number: int) -> Version:
    row, where = plan["versions"][number - 1], f"plan.json.versions[{number - 1}].plan"
    text = read_json(row["plan"], where)
    terms = pick(text, PROGRAMME, where, weights={}, monthly_plan={}, caller="branch", exclusions=[])
    check_form(list(terms["weights"].values()), ["decimal"], f"{where}.weights")
    spread = form("cut_off:cut_off", weights=["count"])
    monthly = pick(terms["monthly_plan"], spread, f"{where}.monthly_plan", weights=[], cut_off="12-31")
    month_weights = monthly["weights"]
    capacity, by_day = text.get("capacity"), None
    if isinstance(capacity, dict):
        of_day = pick(capacity, form("per_workday:count branches:object"), f"{where}.capacity", branches={})
        capacity, by_day = of_day["per_workday"], of_day["branches"]
        check_form(list(by_day.values()), ["count"], f"{where}.capacity.branches")
    check_form(capacity, "count", f"{where}.capacity")
    is_coverage = pick(terms["goal"], form("kind:goal"), f"{where}.goal")["kind"] == "coverage"
    goal = pick(terms["goal"], form("calls_per_year:count" if is_coverage else "rate:rate"), f"{where}.goal")
    if len(month_weights) not in (0, 12):
        raise Broken("不是十二个月", "not twelve months", f"{where}.monthly_plan.weights")
    wrong = differ(row["plan_sha256"], hash_text(row["plan"])) + differ(row["version"], number, "version:")
    wrong += differ(hash_canonical(text), row["plan_sha256"], "JSON:")
    wrong += differ(terms["programme"], plan["programme"], "programme:")
    report.check("version", wrong, number)
    return Version(
        row, is_coverage, Fraction(goal.get("rate", 1)), goal.get("calls_per_year", 0),
        bool(terms["strata"]) and not is_coverage, terms["minimum"], terms["weights"], Fraction(terms["reserve"]),
        "random" if text.get("seed") == "random" else "chain", month_weights, monthly["cut_off"], terms["caller"], capacity,
        by_day, {str(one["reason"]) for one in terms["exclusions"] if one.get("by_hand") is True and "reason" in one},
        *read_public(text, f"{where}.seed"),
    )  # fmt: skip


def read_public(text: Row, where: str) -> tuple[str, re.Pattern[str] | None]:
    """From when a day's public number is known, and what it looks like; nothing where seeds are random."""
    if text.get("seed") == "random":
        return "", None
    source = pick(text.get("seed"), form("public:object"), where)["public"]
    public = pick(source, form("available_at:clock pattern"), f"{where}.public", pattern=r"[0-9]+(\.[0-9]+)?")
    try:
        return public["available_at"][:8], re.compile(public["pattern"])
    except (re.error, OverflowError) as error:
        raise Broken("不是正则表达式", "no regular expression", f"{where}.public.pattern: {error}") from None


def check_quota(report: Report, version: Version) -> None:
    row, number = version.row, version.row["version"]
    keys = [(line["branch_no"], line["reason"]) for line in row["ledger"]]
    excluded = sum(line["customers"] for line in row["ledger"])
    wrong = differ(row["base"], version.rows + excluded + row["waived"], "base:")
    wrong += ["ledger: sorted, once each"] * (keys != sorted(set(keys)) or not all(map(all, keys)))
    wrong += [f"{line['branch_no']} {line['reason']}: 0" for line in row["ledger"] if not line["customers"]]
    report.check("ledger", wrong, number)
    named = [line["reason"] for line in row["excluded_by_hand"]]
    wrong = [f"{customer} → –" for customer in version.met]
    wrong += [f"{reason}: no reason by hand" for reason in sorted({*named} - version.hand_reasons)]
    for reason in sorted(version.hand_reasons):
        counted = sum(line["customers"] for line in row["ledger"] if line["reason"] == reason)
        wrong += [f"{reason}: {counted} > {named.count(reason)}"] * (counted > named.count(reason))
    report.check("by_hand", wrong, f"{number} ({len(named)})")
    segments: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    wrong, quota, strata = [], [], []
    for text, cell in version.cells.items():
        segments[cell.group][cell.segment] += cell.size
        is_right = (
            cell.stratum in (cell.segment, "*") if version.has_strata else (cell.segment, cell.stratum) == ("", "*")
        )
        wrong += [text.decode()] * (not cell.branch or cell.branch != cell.group or not is_right)
    for group, sizes in sorted(version.strata.items() if not version.is_coverage else ()):
        goal, minimum = version.goal_of(group), version.minimum_of(group)
        quota.append({"group_key": group, "branch_no": group, "eligible": sum(sizes.values()), "goal": goal})
        if version.has_strata:
            right = join_segments(segments[group], version.rate, version.minimum)
            wrong += differ(dict(sorted(sizes.items())), dict(sorted(right.items())), group)
        least = {key: min(minimum, size) for key, size in sizes.items()}
        wrong += [f"{group}: Σ minimum > {goal}"] * (sum(least.values()) > goal)
        for key, places in deal_places(sizes, dict.fromkeys(sizes, 0), sizes, goal, minimum, {}).items():
            names = {"group_key": group, "stratum": key, "customers": sizes[key]}
            strata.append({**names, "minimum": least[key], "places": places})
    report.check("joined", wrong, number)
    wrong = differ_rows(row["quota"], quota, "group_key", "branch_no eligible goal")
    report.check("quota", wrong or ["sorted"] * (row["quota"] != quota), number)
    wrong = differ_rows(row["strata"], strata, "group_key stratum", "customers minimum places")
    report.check("year", wrong or ["sorted"] * (row["strata"] != strata), number)


# 3. The months: what was committed of each, and the strata from which it draws


@dataclass
class Stratum:
    """The part of a group from which a month draws, and the smallest tickets met so far."""

    places: int = 0
    wanted: int = 0  # places and reserve
    size: int = 0
    counts: list[int] = field(default_factory=lambda: [0] * len(STATUSES))  # taken customers by status
    limit: bytes = b""  # greater tickets are not wanted
    kept: list[tuple[bytes, bytes, Cell]] = field(default_factory=list)  # ticket, customer

    def keep(self, ticket: bytes, customer: bytes, cell: Cell) -> None:
        self.kept.append((ticket, customer, cell))
        if len(self.kept) >= 2 * self.wanted + 16:
            self.shorten()
            self.limit = self.kept[-1][0]

    def shorten(self) -> None:
        """Rule 8: the smallest (ticket, customer), in this order."""
        self.kept.sort(key=lambda drawn: drawn[:2])
        del self.kept[self.wanted :]


class Month:
    """A drawn month: its state, and its strata as the frame (for coverage: the developers) fills them."""

    def __init__(
        self, index: int, row: Row, state: Row, version: Version, new: set[bytes], developers: Table | None
    ) -> None:
        self.index, self.row, self.state, self.version, self.developers = index, row, state, version, developers
        self.period, self.number, self.prefix = row["period"], int(row["period"][5:]), f"{row['seed']}:".encode()
        self.days: list[str] = state["workdays"]
        self.exceptions = row["exceptions"]
        self.new = new  # those on its taken list who are not on the list before
        self.asked = {(line["group_key"], line["stratum"]): line for line in state["strata"]}
        self.strata: dict[tuple[str, str], Stratum] = {}  # by group and stratum
        self.found = [0] * len(STATUSES)  # customers of the taken list who are in the frame, by status
        self.strangers: list[str] = []
        if developers:
            self.rows, self.names = developers.read_rows(), dict[bytes, str]()
            self.read_developer()

    def stratum_of(self, group: str, name: str) -> Stratum:
        if (group, name) not in self.strata:
            line = self.asked.get((group, name), {"places": 0, "reserve": 0})
            wanted = line["places"] + line["reserve"]
            self.strata[group, name] = Stratum(line["places"], wanted, limit=LAST * 32 if wanted else b"")
        return self.strata[group, name]

    def read_developer(self) -> None:
        self.customer, developer = next(self.rows, (LAST, b""))
        if developer not in self.names and self.customer != LAST:
            (self.names[developer],) = read_row(developer, 1, f"developers {show(self.customer)}")
        self.developer = self.names.get(developer, "")

    def find_developer(self, customer: bytes) -> Stratum | None:
        """The stratum of the frame's next customer in a month of coverage; none where he has no developer."""
        while self.customer < customer:
            self.strangers += [f"{self.customer.decode()} → –"] * (len(self.strangers) < 1000)
            self.read_developer()
        if self.customer != customer or customer == LAST:
            return None
        stratum = self.stratum_of(self.developer, self.developer)
        stratum.size += 1
        self.read_developer()
        return stratum


def read_month(folder: str, report: Report, plan: Row, index: int, versions: list[Version], history: History) -> Month:
    """The state committed for a month; its taken list goes into the history."""
    row, where = plan["months"][index], f"plan.json.months[{index}].state"
    state, period, programme = read_json(row["state"], where), row["period"], plan["programme"]
    is_old = isinstance(state, dict) and "workdays" not in state  # months sealed by version 0.1 of the product
    check_form(state, {key: kind for key, kind in STATE.items() if not (is_old and key == "workdays")}, where)
    version = versions[min(max(row["version"], 1), len(versions)) - 1]
    has_k0 = plan["chain"] and (version.origin == "chain" or state["k0"])
    right = {
        "campaign": f"{programme}-{period}", "programme_year": f"{programme}-{plan['year']}", "period": period,
        "version": version.row["version"], "plan_sha256": version.row["plan_sha256"],
        "frame_sha256": version.row["frame_sha256"], "k0": plan["chain"]["k0"] if has_k0 else "",
    }  # fmt: skip
    wrong = differ(row["state_sha256"], hash_text(row["state"]))
    wrong += differ(hash_canonical(state), row["state_sha256"], "JSON:")
    wrong += [text for key in right for text in differ(state[key], right[key], f"{key}:")]
    wrong += differ([row["campaign"], row["version"]], [right["campaign"], right["version"]])
    for text in (row["developers_file"], state["developers_sha256"]):
        wrong += differ(bool(text), version.is_coverage, "developers:")
    wrong += ["workdays: []"] * (state.get("workdays") == [])  # left empty they would pass for those of an old month
    report.check("state", wrong, period)
    state.setdefault("workdays", [])
    wrong, last, still, new = [], b"", 0, set()
    for entry in state["taken"]:
        if not (isinstance(entry, list) and len(entry) == 2 and type(entry[0]) is str and entry[1] in STATUSES[1:]):
            raise Broken("形式不符", "not of its form", f"{where}.taken: {show(entry)}")
        customer, status = entry[0].encode(), STATUSES.index(entry[1])
        wrong += [f"{entry[0]}: sorted, once each"] * (customer <= last)
        last = customer
        past = history.get(customer)
        if past is None:
            past = history[customer] = bytearray(len(plan["months"]))
        if index and past[index - 1]:
            still += 1
        else:
            new.add(customer)
        if status not in (COMPLETED, OUTSIDE) and COMPLETED in past:
            wrong.append(f"{entry[0]}: {entry[1]} → completed")
        past[index] = status
    if index and still != sum(1 for past in history.values() if past[index - 1]):
        wrong += [f"– → {c.decode()}" for c, past in history.items() if past[index - 1] and not past[index]]
    report.check("taken", wrong, f"{period} ({len(state['taken'])})")
    state["taken"] = row["state"] = ""  # the largest texts of the export
    if version.is_coverage and not row["developers_file"]:
        raise Broken("缺开发人文件", "no developers_file", f"plan.json.months[{index}]")
    developers = Table(folder, row["developers_file"], "customer_id,developer_id") if version.is_coverage else None
    return Month(index, row, state, version, new, developers)


def read_frame(folder: str, report: Report, version: Version, months: list[Month], history: History) -> None:
    """Read the frame of a version once, and draw all its months with their seeds on the way (rule 8)."""
    table = Table(folder, version.row["frame_file"], "customer_id,branch_no,group_key,segment,stratum")
    cells, is_coverage, rows = version.cells, version.is_coverage, 0
    by_hand = {line["customer_id"].encode() for line in version.row["excluded_by_hand"]}
    for customer, rest in table.read_rows():
        cell = cells.get(rest)
        if cell is None:
            branch, group, segment, name = read_row(rest, 4, f"{table.name}: {show(customer)}")
            cell = cells[rest] = Cell(branch, group, segment, name)
            cell.drawn_from = [None if is_coverage else month.stratum_of(group, name) for month in months]
        cell.size += 1
        rows += 1
        if customer in by_hand:
            version.met.append(customer.decode())
        if rows % 500_000 == 0:
            report.say(f"{table.name}：已读 {rows} 户", f"{table.name}: {rows} customers read", file=sys.stderr)
        if rows > version.row["base"]:
            raise Broken("行数多于 base", "more rows than base", table.name)
        past = history.get(customer)
        for month, stratum in zip(months, cell.drawn_from):
            if is_coverage:
                stratum = month.find_developer(customer)
            if past is not None:
                status = past[month.index]
                month.found[status] += 1
                if stratum:
                    stratum.counts[status] += 1
                if status and status != REOPENED:
                    continue
            if stratum:
                ticket = sha256(month.prefix + customer).digest()
                if ticket <= stratum.limit:
                    stratum.keep(ticket, customer, cell)
    version.rows = rows
    for cell in cells.values():
        version.strata[cell.group][cell.stratum] += cell.size
        for stratum in cell.drawn_from if not is_coverage else ():
            stratum.size += cell.size
    for month in months:
        if is_coverage:
            month.find_developer(LAST)
        for stratum in month.strata.values():
            stratum.shorten()
    table.check_bytes(report, version.row["frame_sha256"])


# 4. Each month: the seed, what is owed, dealt and drawn (rules 5 to 9, 12 to 15, 17)


def next_day(days: list[str], after: str, known_at: str) -> str:
    """Rule 14: the day of the next public number after a moment: the first workday, no weekend, on which it came later."""
    for day in days:
        if day >= after[:10] and date.fromisoformat(day).weekday() < 5 and moment_of(day, known_at) > after:
            return day
    return ""


def moment_of(day: str, clock: str) -> str:
    return f"{day}T{clock}.000000+08:00"


def person(name: str) -> str:
    """Names that differ in case or spaces only are one person's."""
    return "".join(name.split()).casefold()


def check_seed(report: Report, plan: Row, month: Month) -> None:
    row, period, version = month.row, month.period, month.version
    wrong = differ(row["origin"], version.origin, "origin:")
    if row["origin"] == "random" or version.public_pattern is None:
        report.check("random", wrong + differ(len(row["attempts"]), 0, "attempts:"), period)
        return
    links, seed, after, known_at = plan["chain"] or {"links": 0, "k0": "–"}, "–", row["committed_at"], version.public_at
    wrong += differ(links["links"], 12, "links:")
    numbers, entered, given_up = [], [], []
    by_number = {person(attempt["public_by"]) for attempt in row["attempts"] if attempt["public"]}
    for n, attempt in enumerate(row["attempts"], 1):
        name, is_last, day = f"{period}#{n}" if n > 1 else period, n == len(row["attempts"]), attempt["public_on"]
        public_at, link_at, aborted_at = attempt["public_at"], attempt["link_at"], attempt["aborted_at"]
        wrong += differ(f"{attempt['attempt']} {attempt['period']}", f"{n} {name}")
        wrong += differ(not attempt["aborted"], is_last, f"{name} aborted:")
        if is_last or attempt["link"]:
            hashed = attempt["link"]
            for _ in range(month.number):
                hashed = hash_text(hashed)
            wrong += differ(links["k0"], hashed, f"{name} K0:")
        numbers += [f"{name} public: –"] * (is_last and not (attempt["public"] and day))
        if attempt["public"] and day:
            if not version.public_pattern.fullmatch(attempt["public"]):
                numbers.append(f"{name} public: {attempt['public']} → {version.public_pattern.pattern}")
            right = next_day(month.days, after, known_at)
            if right:
                numbers += differ(day, right, f"{name} public_on:")
            elif moment_of(day, known_at) <= after:
                numbers.append(f"{name} public_on: {day} → later than {after}")
            entered += [f"{name} public_at: {public_at}"] * (public_at < max(after, moment_of(day, known_at)))
            entered += [f"{name} public_by: –"] * (not attempt["public_by"])
        if attempt["link"]:
            entered += [f"{name} link_by: {attempt['link_by']}"] * (person(attempt["link_by"]) in {"", *by_number})
            entered += [f"{name} link_at: {link_at}"] * (link_at < (public_at if n == 1 else row["committed_at"]))
            entered += [f"{name} aborted: both halves were known"] * (attempt["aborted"] != "")
        if attempt["aborted"]:
            entered += [f"{name} aborted_at: {aborted_at} < {after}"] * (not attempt["aborted_by"] or aborted_at < after)
            after = max(after, aborted_at)
            given_up.append((n, attempt))
        seed = hash_text(f"{plan['programme']}|{name}|{attempt['link']}|{attempt['public']}")
    report.check("link", wrong, f"{period} ({len(row['attempts'])})")
    report.check("public", numbers, period)
    report.check("entered", entered, period)
    for n, attempt in given_up:
        number, day, by, at, why = (attempt[k] for k in ("public", "public_on", "aborted_by", "aborted_at", "aborted"))
        report.note(
            f"{period} 第 {n} 次已作废：原公开数值 {number or '未录入'}（{day or '–'}）；{by} 于 {at[:16]} 作废，原因：{why}",
            f"{period} attempt {n} given up: public number {number or 'none'} ({day or '–'}); by {by} at {at[:16]}; reason: {why}",
        )
    report.check("seed", differ(row["seed"], seed), period)


def weigh(month: Month) -> tuple[int, int, int]:
    """Rule 6: weight of the month, weight from it to the cut-off, workdays left in it on the day of the state."""
    version, period, as_of = month.version, month.period, month.state["as_of"]
    left = []
    for number in range(month.number, 13):
        first = f"{period[:5]}{number:02}-01"
        last = min(f"{first[:8]}31", f"{period[:5]}{version.cut_off}")
        days = sum(first <= day <= last for day in month.days)
        left.append(0 if last < first else version.month_weights[number - 1] if version.month_weights else days)
    begin = as_of if f"{period}-01" <= as_of <= f"{period}-31" else f"{period}-01"
    return left[0], sum(left), sum(begin <= day <= f"{period}-31" for day in month.days)


def share_out(needs: dict[str, int], total: int) -> dict[str, int]:
    """Rule 6: a centre's calls over groups that need more, by Webster; as rule 4 with a minimum of 0, for many groups."""
    parts = dict.fromkeys(needs, 0)
    queue = [(-Fraction(need), group) for group, need in needs.items() if need]
    heapq.heapify(queue)
    for _ in range(min(total, sum(needs.values()))):
        _, group = heapq.heappop(queue)
        parts[group] += 1
        if parts[group] < needs[group]:
            heapq.heappush(queue, (-Fraction(needs[group], 2 * parts[group] + 1), group))
    return parts


def capacities_of(month: Month, branches: dict[str, str], needs: dict[str, int]) -> dict[str, int]:
    """Rule 6: what each group takes on: by the plan and the workdays left, or as an approver said.

    branches: of each group; needs: the places it would get if nothing but its customers bounded them.
    """
    version, (_, _, workdays) = month.version, weigh(month)
    if version.by_day is None:
        found = dict.fromkeys(needs, version.capacity)
    elif version.caller == "hq":
        centre = version.capacity * workdays
        found = share_out(needs, centre) if sum(needs.values()) > centre else dict.fromkeys(needs, centre)
    else:
        found = {group: version.by_day.get(branches[group], version.capacity) * workdays for group in needs}
    by_hand = {row["group_key"]: row["calls"] for row in month.exceptions if row["kind"] == "capacity"}
    return {group: by_hand.get(group, found[group]) for group in needs}


def follow_taken(earlier: Month, month: Month, history: History, drawn_under: dict[bytes, str]) -> list[str]:
    """Rule 9: newly taken are the sample of the month before, and of each stratum's reserve the first ones in order."""
    wrong, drawn, never = [], set(), bytes(12)
    for (group, _), stratum in earlier.strata.items():
        customers, places = [customer for _, customer, _ in stratum.kept], stratum.places
        drawn.update(customers)
        called = max((n for n, customer in enumerate(customers, 1) if customer in month.new), default=0)
        for n, customer in enumerate(customers, 1):
            status = history.get(customer, never)[month.index]
            wrong += [f"– → {customer.decode()}"] * (n <= max(called, places) and not status)
            # A reopened one of the reserve stands on the list anyhow; another status shows that he was called again.
            if n <= places or customer in month.new or status not in (0, REOPENED):
                drawn_under[customer] = group
    return wrong + [f"{customer.decode()} → –" for customer in sorted(month.new - drawn)]


def recompute_state(month: Month, counts: dict[str, list[int]]) -> tuple[list[Row], list[Row]]:
    """The rows `groups` and `strata` of a month; `counts` are the taken customers by group and status."""
    version, state, is_coverage = month.version, month.state, month.version.is_coverage
    written = {row["group_key"]: row for row in state["groups"]}
    strata_of: dict[str, dict[str, Row]] = defaultdict(dict, {group: {} for group in written} if is_coverage else {})
    for (group, name), stratum in month.strata.items():
        done = counts[group] if is_coverage else stratum.counts
        strata_of[group][name] = {
            "group_key": group, "stratum": name, "customers": stratum.size, "state": done[COMPLETED] + done[OPEN],
            "left": stratum.size - sum(stratum.counts[1:]) + stratum.counts[REOPENED],
        }  # fmt: skip
    asked: dict[str, tuple[Row, int]] = {}
    for group, rows in strata_of.items():
        completed, is_open = counts[group][COMPLETED], counts[group][OPEN]
        failed = counts[group][FAILED] + counts[group][REOPENED]
        size, left = (sum(row[f] for row in rows.values()) for f in ("customers", "left"))
        given = written.get(group, {"branch_no": "", "reason": ""})
        if is_coverage:  # rule 17
            goal, owed = min(version.calls, size), max(0, version.calls - completed - is_open)
            wanted = share = max(0, ceil(Fraction(version.calls * month.number, 12)) - completed - is_open)
        else:  # rule 6
            goal, p = version.goal_of(group), Fraction(completed + 10, completed + failed + 20)
            owed = max(0, goal - completed - is_open * p // 1)
            share = ceil(Fraction(owed * state["weight"], state["weight_left"])) if state["weight_left"] else 0
            wanted = min(ceil(share / p), 3 * share)
        known = given["reason"] if not size and given["reason"] in ("no_customers", "excluded") else ""
        asked[group] = ({
            "group_key": group, "branch_no": given["branch_no"] if is_coverage else group, "eligible": size, "goal": goal,
            "completed": completed, "open": is_open, "failed": failed, "owed": owed, "share": share, "reason": known,
            "wanted": wanted,
        }, left)  # fmt: skip
    if month.days:
        needs = {group: min(row["wanted"], left) for group, (row, left) in asked.items()}
        capacity = capacities_of(month, {group: row["branch_no"] for group, (row, _) in asked.items()}, needs)
    else:
        capacity = {group: written[group]["capacity"] if group in written else 0 for group in asked}
    groups, strata = [], []
    for group, (row, left) in asked.items():
        wanted, bound = row.pop("wanted"), capacity[group]
        places = min(wanted, bound, left)
        reason = "" if places == wanted else "capacity" if bound <= left else "exhausted"
        groups.append({
            **row, "capacity": bound, "places": places, "shortfall": wanted - places, "reason": row["reason"] or reason,
        })  # fmt: skip
        rows, minimum = strata_of[group], 0 if is_coverage else version.minimum_of(group)
        sizes, done_of, left_of = ({key: row[f] for key, row in rows.items()} for f in ("customers", "state", "left"))
        for key, n in deal_places(sizes, done_of, left_of, places, minimum, version.weights).items():
            reserve = min(left_of[key] - n, ceil(version.reserve * n))  # rule 9
            strata.append({**rows[key], "minimum": min(minimum, sizes[key]), "places": n, "reserve": reserve})
    return groups, strata


def covers(month: Month) -> bool:
    """Whether the list of workdays reaches from the month's beginning to the year's end; ten days off in a row are too many."""
    first, last = (date.fromisoformat(day) for day in (min(month.days), max(month.days)))
    begin = date.fromisoformat(f"{month.period}-01")
    return (first - begin).days < 10 and (date(begin.year, 12, 31) - last).days < 10


def write_sample(month: Month) -> list[str]:
    """Rules 8 and 9: the lines of a month's sample, header first."""
    rows = []
    for key, stratum in month.strata.items():
        for rank, (ticket, customer, cell) in enumerate(stratum.kept, 1):
            kind = "sample" if rank <= stratum.places else "reserve"
            rows.append((customer, write_row((customer.decode(), cell.branch, *key, ticket.hex(), str(rank), kind))))
    return ["customer_id,branch_no,group_key,stratum,ticket,rank,kind", *(line for _, line in sorted(rows))]


def check_month(report: Report, month: Month, history: History, drawn_under: dict[bytes, str]) -> list[str]:
    """The state and the draw of a month; the lines of its sample."""
    period, state, on_list = month.period, month.state, 0
    counts: dict[str, list[int]] = defaultdict(lambda: [0] * len(STATUSES))
    for customer, past in history.items():
        status = past[month.index]
        on_list += 0 < status < OUTSIDE
        if status and month.version.is_coverage:
            counts[drawn_under.get(customer, "")][status] += 1
    approved = {(row["group_key"], row["stratum"]) for row in month.exceptions if row["kind"] == "reopen"}
    wrong = differ(month.found[OUTSIDE], 0, "outside:") + differ(on_list, sum(month.found[1:OUTSIDE]), "taken:")
    for (group, name), stratum in month.strata.items():
        taken, reopened = sum(stratum.counts[1:]), stratum.counts[REOPENED]
        may_reopen = taken == stratum.size and (group, name) in approved
        wrong += [f"{group} {name} reopened: {reopened} → 0"] * (reopened > 0 and not may_reopen)
        if may_reopen and not month.version.is_coverage:
            wrong += differ(stratum.counts[FAILED], 0, f"{group} {name} failed:")
        if not month.version.is_coverage:
            counts[group] = [a + b for a, b in zip(counts[group], stratum.counts)]
    report.check("coded", wrong, period)
    if month.developers:
        month.developers.check_bytes(report, state["developers_sha256"])
        report.check("developers", month.strangers, period)
    if month.days:
        wrong = differ([state["weight"], state["weight_left"]], list(weigh(month)[:2]))
        wrong += ["workdays: sorted, once each"] * (month.days != sorted({*month.days}))
        wrong += [f"workdays: {month.days[0]} – {month.days[-1]}"] * (not covers(month))
        report.check("weights", wrong, period)
    else:
        report.note(*(text.format(n=period) for text in UNKNOWN_DAYS))
    groups, strata = recompute_state(month, counts)
    for line, rows, right, keys, fields in (
        ("counts", state["groups"], groups, "group_key", "branch_no eligible goal completed open failed"),
        ("capacity", state["groups"], groups, "group_key", "capacity"),
        ("owed", state["groups"], groups, "group_key", "owed share places shortfall reason"),
        ("strata", state["strata"], strata, "group_key stratum", "customers minimum state left"),
        ("places", state["strata"], strata, "group_key stratum", "places reserve"),
    ):
        report.check(line, differ_rows(rows, right, keys, fields), f"{period} ({len(right)})")
        for row in month.exceptions if line == "capacity" else ():
            name, calls = f"{row['group_key']} {row['stratum']}".strip(), row["calls"]
            zh, en = (f"当期能力 {calls}", f"a capacity of {calls}") if row["kind"] == "capacity" else ("重启失败户", "to reopen failures")
            report.note(
                f"{name}：{row['approver']} 批准{zh}，理由：{row['reason']}",
                f"{name}: {row['approver']} approved {en}; reason: {row['reason']}",
            )
    lines = write_sample(month)
    wrong = differ(month.row["sample_sha256"], hash_text("\n".join(lines) + "\n"))
    report.check("sample", wrong, f"{period} ({len(lines) - 1})")
    return lines


# 5. The whole export


def read_plan(folder: str, report: Report) -> Row:
    with open_file(folder, "plan.json") as file:
        raw = file.read()
    try:
        plan: Row = read_json(raw.decode(), "plan.json")
    except UnicodeDecodeError as error:
        raise Broken("不是 UTF-8", "no UTF-8", f"plan.json: {error}") from None
    if isinstance(plan, dict) and plan.get("format") == "huifang-proof-1":
        raise Broken(
            "此为旧格式的导出，请用该文件夹内原有的 verify_sample.py 核验",
            "an export of the form before; use the verify_sample.py that was written with it", "huifang-proof-1",
        )  # fmt: skip
    has_chain = isinstance(plan, dict) and plan.get("chain") is not None
    check_form(plan, PLAN if has_chain else {**PLAN, "chain": "none"}, "plan.json")
    wrong = ["JSON"] * (hash_canonical(plan, b"\n") != hash_text(raw))
    right = hash_canonical({key: value for key, value in plan.items() if key != "sha256"})
    report.check("plan", wrong + differ(plan["sha256"], right), "")
    months = plan["months"]
    if not 1 <= len(months) <= 12 or not plan["versions"]:
        raise Broken("应有一至十二期、至少一个方案版本", "must have 1 to 12 months and a version", "plan.json")
    periods, numbers = [month["period"] for month in months], [month["version"] for month in months]
    wrong = differ(plan["campaign"], months[-1]["campaign"]) + differ(periods, sorted(set(periods)))
    wrong += differ(numbers, sorted(numbers)) + differ({period[:4] for period in periods}, {f"{plan['year']:04}"})
    report.check("months", wrong, ", ".join(periods))
    return plan


def check_sample(folder: str, report: Report, lines: list[str]) -> None:
    right = "\n".join([*lines, ""]).encode()
    with open_file(folder, "sample.csv") as file:
        text = file.read(2 * len(right) + 1000)
    both = text.decode(errors="replace").split("\n"), [*lines, ""]
    rows, recomputed = ([{"id": line.partition(",")[0], "row": line} for line in each] for each in both)
    report.check("rows", (differ_rows(rows, recomputed, "id", "row") or ["order"]) * (text != right), len(lines) - 1)


def say_days(report: Report, months: list[Month]) -> None:
    """The sealed workdays of the first month, and of each later one that has others, for comparison with the notice."""
    first = next((month for month in months if month.days), None)
    for month in months:
        if month.days and first:
            begin, end = max(month.days[0], first.days[0]), min(month.days[-1], first.days[-1])
            lists = ([day for day in each.days if begin <= day <= end] for each in (first, month))
            if month is first or next(lists) != next(lists):
                say_holidays(report, month)


def say_holidays(report: Report, month: Month) -> None:
    """The days on which the sealed workdays differ from Monday to Friday."""
    listed, day, last = {*month.days}, date.fromisoformat(month.days[0]), date.fromisoformat(max(month.days))
    off: list[str] = []
    on: list[str] = []
    while day <= last:
        if (day.weekday() < 5) != (day.isoformat() in listed):
            (off if day.weekday() < 5 else on).append(f"{day:%m-%d}")
        day += timedelta(days=1)
    report.note(
        f"{month.period} 所用工作日，请对照国务院办公厅放假通知：周一至周五放假 {' '.join(off) or '无'}；周末上班 {' '.join(on) or '无'}",
        f"workdays of {month.period}, compare with the State Council's notice: off {' '.join(off) or 'none'}; "
        f"working weekends {' '.join(on) or 'none'}",
    )


def verify(folder: str, published: dict[str, list[str]], report: Report) -> None:
    report.say("一、文件与封存的状态", "I. Files and sealed states")
    plan, history = read_plan(folder, report), History()
    versions = [read_version(report, plan, number + 1) for number in range(len(plan["versions"]))]
    months = [read_month(folder, report, plan, index, versions, history) for index in range(len(plan["months"]))]
    report.say("二、抽样框、台账、配额", "II. Frames, ledgers, quotas")
    for version in versions:
        read_frame(folder, report, version, [month for month in months if month.version is version], history)
        check_quota(report, version)
    report.say("三、逐期重抽", "III. The months, drawn again")
    drawn_under: dict[bytes, str] = {}
    lines: list[str] = []
    for month in months:
        check_seed(report, plan, month)
        wrong = [f"{customer.decode()} → –" for customer in sorted(month.new)]
        if month.index:
            wrong = follow_taken(months[month.index - 1], month, history, drawn_under)
        report.check("new", wrong, f"{month.period} ({len(month.new)})")
        lines = check_month(report, month, history, drawn_under)
    check_sample(folder, report, lines)
    report.say("四、须与此前公布的核对", "IV. To be compared with what was published earlier")
    report.say(
        "整套导出若被人前后一致地改写，以上各项仍会相符。请把下列各值与抽样之前留档、寄出的逐一比对：",
        "If somebody rewrote the whole export consistently, all of the above is still the same."
        " Compare these values with those that were stored and mailed before the draws:",
    )
    say_days(report, months)
    versions_of = [("", "")] if len(versions) == 1 else [(f"版本 {v.row['version']} ", f", version {v.row['version']}") for v in versions]
    values = []
    for name, zh, en in (("frame_sha256", "抽样框", "Frame"), ("plan_sha256", "方案", "Plan")):
        values += [(name, (f"{a}{zh} SHA-256", f"{en} SHA-256{b}"), v.row[name]) for v, (a, b) in zip(versions, versions_of)]
    if plan["chain"]:
        values.append(("k0", ("种子链承诺 K0", "Commitment of the seed chain K0"), plan["chain"]["k0"]))
    for month in months:
        label = (f"{month.period} 状态 SHA-256", f"State of {month.period} SHA-256")
        values.append(("state_sha256", label, month.row["state_sha256"]))
    for name, label, value in values:
        is_compared = value in published[name]
        report.say(*(f"        {text}  {value}{word * is_compared}" for text, word in zip(label, ("  已比对", "  compared"))))
    for name, given in published.items():
        found = {value: label[report.column] for kind, label, value in values if kind == name}
        for value in given:
            report.check("published", [f"{value} → {', '.join(found)}"] * (value not in found), found.get(value, name))
    with open(__file__, "rb") as file:
        own = hash_text(file.read())
    report.say(
        f"        verify_sample.py  {own}（被改过的程序会谎称相符：请取自可信来源，或用 sha256sum 比对）",
        f"        verify_sample.py  {own} (a changed program would lie: take it from a source you trust, or use sha256sum)",
    )


LANGS = {"zh": "zh", "zh_CN": "zh", "en": "en"}
INCOMPLETE = "导出不完整或读不了：", "The export is incomplete or cannot be read: "


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        add_help=False, usage="python3 verify_sample.py [DIR] [--lang zh_CN|en] [--frame-sha256 HEX] [--state-sha256 HEX] …",
        description="按导出的文件重算各期样本，不需要抽样所用的系统。"
        " / Recompute the samples of an export without the product that drew them.",
        epilog="退出码 / exit code: 0 全部相符 / all the same; 1 有不符 / something differs; 2 未能核验 / NOT VERIFIED",
    )  # fmt: skip
    parser._optionals.title = "选项 / options"
    parser._positionals.title = "参数 / arguments"
    own = os.path.dirname(os.path.abspath(__file__))
    parser.add_argument(
        "folder", nargs="?", default=own, metavar="DIR",
        help="导出所在文件夹，不写则为本程序所在的文件夹 / folder of the export; this program's own when left out",
    )  # fmt: skip
    parser.add_argument("-h", "--help", action="help", help="显示本说明 / show this text")
    parser.add_argument("--lang", choices=tuple(LANGS), default="zh", help="语言，默认中文 / language, Chinese when left out")
    for name, word in (("frame-sha256", "抽样框"), ("plan-sha256", "方案"), ("k0", "种子链承诺"), ("state-sha256", "本期状态")):
        parser.add_argument(
            f"--{name}", action="append", default=[], type=str.lower, metavar="HEX",
            help=f"封存通知邮件中的{word} / as in the mail of the sealing; may be given several times",
        )  # fmt: skip
    options = vars(parser.parse_args(arguments))
    folder, report = options.pop("folder"), Report(LANGS[options.pop("lang")])
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    code = 2
    try:
        verify(folder, options, report)
    except Broken as error:
        report.say(*map(str.__add__, INCOMPLETE, error.args))
    except OSError as error:
        report.say(f"读不了文件：{error.filename}：{error.strerror}", f"A file cannot be read: {error.filename}: {error.strerror}")
    except Exception as error:  # noqa: BLE001 (whatever stands in an export, a stranger is never shown a traceback)
        report.say(*(f"{words}{type(error).__name__}: {error}" for words in INCOMPLETE))
    else:
        code = 1 if report.wrong else 0
    checked, wrong = report.checked, report.wrong
    if code == 2:
        report.say(
            f"结论：未能核验（读到为止 {checked} 项，其中 {wrong} 项不符）",
            f"Result: NOT VERIFIED ({checked} checks up to there, {wrong} of them NOT THE SAME)",
        )
    elif wrong:
        report.say(f"结论：{checked} 项中有 {wrong} 项不符", f"Result: {wrong} of {checked} checks are NOT THE SAME")
    else:
        report.say(f"结论：{checked} 项全部相符", f"Result: all {checked} checks are the same")
    return code


if __name__ == "__main__":
    sys.exit(main())
