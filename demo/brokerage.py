"""A synthetic Chinese brokerage, made from a seed: what nobody publishes.

Alone knows how such a house is distributed: branch sizes, dead accounts, heavy traders, who developed whom, and the
dirt that real extracts carry, planted in exact counts. How a house writes its extracts down is demo/dialects.py;
intake, programmes and mail are unknown here.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from demo.columns import Cents, Days, Ints, Rows, ascii_texts, digits_of, mask_of, padded, texts
from demo.dialects import CANONICAL, DIALECTS, Dialect, DialectError, Written
from models import CallbackError

COLUMNS = {name: list(table.columns) for name, table in CANONICAL.tables.items()}
LOCAL_PARTS = {
    "operations_director": "director",
    "customer_service_manager": "manager",
    "branch_head": "head",
    "deputy": "deputy",
}
HQ_LOCAL_PARTS = {
    "compliance": "compliance",
    "operations_management": "operations",
    "hq_service": "service",
}
FIRST_OF_STAFF = 10**9
"""Where the numbers begin of which phones of staff are made; customers have the lower ones."""
CHUNK = 250_000
"""Customers made at a time."""
SLICE = 262_144
"""Transactions made at a time."""

SURNAMES = [
    *(
        "王李张刘陈杨黄赵吴周徐孙马朱胡郭何林罗高梁郑谢宋唐许邓冯韩曹曾彭萧蔡潘田董袁于余叶蒋杜苏魏程吕丁沈任"
        "姚卢傅钟姜崔谭廖范汪陆金石戴贾韦夏邱方侯邹熊孟秦白江阎薛尹段雷黎史龙陶贺顾毛郝龚邵万钱严"
    ),
    "欧阳", "司马", "诸葛", "上官",
]  # fmt: skip
GIVEN = list(
    "伟芳娜敏静丽强磊军洋勇艳杰娟涛明超秀霞平刚桂英华玉兰红梅建国志文海波宁辉玲婷雪琳佳欣怡俊豪宇轩浩然子"
    "涵梓萱思远嘉诚晓东春晨旭鹏飞翔云龙凤瑞祥荣庆福全安康宏毅博学斌彬清泉柏松竹菊莲蓉蕾薇颖慧智信义仁礼"
)
CITIES = [
    ("上海", "华东"), ("北京", "华北"), ("深圳", "华南"), ("广州", "华南"), ("杭州", "华东"), ("南京", "华东"),
    ("成都", "西南"), ("武汉", "华中"), ("西安", "西北"), ("重庆", "西南"), ("天津", "华北"), ("苏州", "华东"),
    ("长沙", "华中"), ("郑州", "华中"), ("青岛", "华东"), ("沈阳", "东北"), ("大连", "东北"), ("宁波", "华东"),
    ("厦门", "华南"), ("福州", "华南"), ("济南", "华东"), ("合肥", "华东"), ("昆明", "西南"), ("哈尔滨", "东北"),
]  # fmt: skip
ROADS = [
    "人民路",
    "中山路",
    "解放大道",
    "建设路",
    "长江路",
    "和平街",
    "滨江大道",
    "文化路",
    "学院路",
    "新华路",
    "金融街",
    "湖滨路",
    "东风路",
]
TRADES = [
    "贸易",
    "科技",
    "投资管理",
    "实业",
    "机电设备",
    "文化传播",
    "物流",
    "医药",
    "建材",
    "食品",
    "信息技术",
    "置业",
]
REGION_CODES = [
    110101, 110105, 110108, 120101, 130102, 140105, 210102, 210202, 220102, 230102, 310101, 310104, 310115, 320102,
    320106, 320505, 330102, 330106, 330203, 340102, 350102, 350203, 360102, 370102, 370202, 410102, 420102, 420106,
    430102, 440103, 440106, 440304, 440305, 450102, 460105, 500103, 510104, 510107, 530102, 610102,
]  # fmt: skip
PREFIXES = [130, 131, 132, 133, 134, 135, 136, 137, 138, 139, 150, 151, 152, 153, 155, 156, 157, 158, 159, 166,
            173, 175, 176, 177, 178, 180, 181, 182, 183, 184, 185, 186, 187, 188, 189, 190, 191, 193, 198,
            199]  # fmt: skip
SEGMENTS = (("retail", 0.82), ("affluent", 0.12), ("high_net_worth", 0.04), ("institution", 0.02))
INSTITUTION = 3
RISK_LEVELS = ["C1", "C2", "C3", "C4", "C5"]
RELATIONS = (("developer", 0.35), ("server", 0.10))
STATUSES = (("active", 0.80), ("dormant", 0.12), ("suspended", 0.03), ("closed", 0.05))
ACTIVE, DORMANT, _, CLOSED = range(4)
KINDS = (
    ("buy", 0.36),
    ("sell", 0.30),
    ("deposit", 0.12),
    ("withdraw", 0.10),
    ("fee", 0.07),
    ("interest", 0.03),
    ("other", 0.02),
)
RISK_SHARES = {
    "retail": (0.10, 0.24, 0.38, 0.20, 0.08),
    "affluent": (0.04, 0.16, 0.40, 0.28, 0.12),
    "high_net_worth": (0.02, 0.08, 0.34, 0.34, 0.22),
    "institution": (0.02, 0.10, 0.30, 0.34, 0.24),
}

DIRT = {
    "impossible_date": ("transactions", 2_000),
    "unreadable_amount": ("transactions", 4_000),
    "unknown_customer": ("transactions", 2_000),
    "padded_name": ("customers", 1_000),
    "full_width_phone": ("customers", 1_000),
    "dormant_trading": ("customers", 1_000),
    "staff_phone": ("customers", 1_000),
}
"""Kind of dirt: the table it lies in, and one per how many customers. The transactions' kinds spoil a row each, no row
twice; the customers' kinds spoil none: padding and full-width digits are to be normalised, and a dormant customer who
buys is a contradiction to be reported; staff_phone: an active customer bears the phone of somebody who serves his branch."""


class BrokerageError(CallbackError):
    """A brokerage of this size cannot be made."""


@dataclass(frozen=True)
class Extracts:
    """What was written: rows per table (what other dialects add and have ignored among them is not counted), rows
    (dormant_trading: customers) per kind of planted dirt, and the files."""

    rows: dict[str, int]
    planted: dict[str, int]
    files: tuple[Path, ...] = ()

    @property
    def size_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.files)


@dataclass(frozen=True)
class _Order:
    """What was asked for, small enough to be handed to another process."""

    directory: Path
    customers: int
    branches: int
    seed: int
    year_end: date
    transactions: int | None
    dialect: str
    form: Literal["csv", "parquet"]
    chunk_customers: int

    @property
    def planted(self) -> dict[str, int]:
        return {kind: max(2, self.customers // per) for kind, (_, per) in DIRT.items()}

    def share(self, whole: int, start: int, stop: int) -> int:
        """The part of a count that falls on customers start to stop; the parts add up to the whole."""
        return whole * stop // self.customers - whole * start // self.customers


@dataclass(frozen=True)
class _House:
    """What all customers share: the branches' weights, and per branch a slice of its developers and its servers."""

    branch_weights: npt.NDArray[np.float64]
    developers: tuple[Ints, Ints, Ints]
    """Staff rows sorted by branch, first position per branch, count per branch."""
    servers: tuple[Ints, Ints, Ints]
    staff_ids: pa.Array
    staff_from: Ints
    staff_phones: pa.Array


def build_extracts(
    directory: Path,
    *,
    customers: int = 20_000,
    branches: int = 20,
    seed: int = 1,
    year_end: date = date(2025, 12, 31),
    transactions: int | None = None,
    dialect: str = "canonical",
    form: Literal["csv", "parquet"] = "csv",
    workers: int | None = None,
    chunk_customers: int = CHUNK,
    progress: Callable[[int], None] = lambda customers: None,
) -> Extracts:
    """The extracts of a brokerage at one year end, the same bytes for the same arguments but `workers`.

    Transactions are those of the month of year_end: about four per customer, or as many in all as `transactions` says.
    `dialect` is a name of DIALECTS; form parquet (typed, several files a table) is there for the canonical one only.
    Customers come in chunks, each made by one of `workers` processes (as many as there are processors, when not given),
    so memory stays bounded; `progress` is told how many are written. A second call overwrites the files.
    """
    refuse_order(customers=customers, branches=branches, transactions=transactions, dialect=dialect, form=form)
    order = _Order(directory, customers, branches, seed, year_end, transactions, dialect, form, chunk_customers)
    chunks = list(_parts(customers, chunk_customers))
    workers = min(workers or os.cpu_count() or 1, len(chunks))
    directory.mkdir(parents=True, exist_ok=True)
    scratch = directory / ".parts"
    scratch.mkdir(exist_ok=True)
    rows: Counter[str] = Counter(dict.fromkeys(COLUMNS, 0))
    try:
        with ExitStack() as stack:
            writer = stack.enter_context(DIALECTS[dialect].open(directory, form, year_end))
            for table, content in _open_branches(order)[1].items():
                rows[table] += writer.write_table(table, content)
            work = partial(_write_chunk, order, scratch)
            if workers == 1:
                done: Iterator[dict[str, Written]] = map(work, range(len(chunks)))
            else:
                # Threads may be running here, which rules out a fork.
                pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
                stack.callback(pool.shutdown, cancel_futures=True)
                done = pool.map(work, range(len(chunks)))
            for (_, stop), written in zip(chunks, done, strict=True):
                for table, part in written.items():
                    rows[table] += part.rows_of_ours
                    writer.add(table, part)
                progress(stop)
            files = writer.finish()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return Extracts(dict(rows), order.planted, files)


def refuse_order(*, customers: int, branches: int, transactions: int | None, dialect: str, form: str) -> None:
    """Raises BrokerageError, DialectError for what cannot be made; nothing is written."""
    if not 1 <= branches <= 999 or customers < 10 * branches:
        raise BrokerageError(
            f"{customers} customers in {branches} branches: ask for 1 to 999 branches with 10 customers or more each"
        )
    if dialect not in DIALECTS:
        raise DialectError(f"{dialect} is no dialect; there are {', '.join(DIALECTS)}")
    if form == "parquet" and dialect != CANONICAL.name:
        raise DialectError(f"the dialect {dialect} is written as its house writes it; parquet is for {CANONICAL.name}")
    if transactions is not None and not customers <= transactions <= 300 * customers:
        raise BrokerageError(f"{transactions} transactions of {customers} customers: ask for 1 to 300 per customer")


def _write_chunk(order: _Order, scratch: Path, number: int) -> dict[str, Written]:
    """One chunk of customers with their relations and transactions, in files of its own."""
    start, stop = list(_parts(order.customers, order.chunk_customers))[number]
    dialect: Dialect = DIALECTS[order.dialect]
    dirt = {kind: order.share(n, start, stop) for kind, n in order.planted.items()}
    rng = np.random.default_rng([order.seed, 1, number])
    return {
        table: dialect.write_part(scratch, order.form, order.year_end, table, number, content)
        for table, content in _fill_chunk(rng, order, number, start, stop, dirt)
        if table in dialect.tables
    }


def _parts(rows: int, most: int) -> Iterator[tuple[int, int]]:
    for start in range(0, rows, most):
        stop = min(start + most, rows)
        if 0 < rows - stop < 1_000:  # a rest too small to hold its share of the dirt goes with this part
            yield start, rows
            return
        yield start, stop


def _days(day: date) -> int:
    return (day - date(1970, 1, 1)).days


def _dated(days: list[date | None]) -> Days:
    return Days(np.array([_days(day) if day else 0 for day in days], np.int64), np.array([day is None for day in days]))


def _codes(shares: tuple[tuple[str, float], ...], picks: Ints) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(picks.astype(np.int32)), texts([code for code, _ in shares]))


def _coded(codes: list[str]) -> pa.DictionaryArray:
    return texts(codes).dictionary_encode()


def _pick(rng: np.random.Generator, weights: npt.ArrayLike, size: int) -> Ints:
    """Positions drawn by weight; far faster than Generator.choice with p."""
    cumulative = np.cumsum(weights)
    picks: Ints = np.searchsorted(cumulative, rng.random(size) * cumulative[-1], side="right").astype(np.int64)
    return picks


def _scatter(numbers: Ints, size: int, offset: int) -> Ints:
    """Distinct numbers below size that look random: a multiplication modulo size loses nothing when coprime."""
    step = int(size * 0.6180339887) | 1
    while math.gcd(step, size) != 1:
        step += 2
    if int(numbers.max(initial=0)) >= size:
        raise BrokerageError(f"{int(numbers.max()) + 1} customers are more than the {size} numbers there are")
    return (numbers * (step % size) + offset) % size


def _names(rng: np.random.Generator, size: int) -> pa.Array:
    surnames = texts(SURNAMES).take(pa.array(_pick(rng, 1 / (np.arange(len(SURNAMES)) + 4), size)))
    given = texts(GIVEN)
    first, second = (rng.integers(0, len(GIVEN), size) for _ in range(2))
    tail = given.take(pa.array(second, mask=rng.random(size) < 0.2))
    return pc.binary_join_element_wise(surnames, given.take(pa.array(first)), tail.fill_null(""), "")


def _firms(rng: np.random.Generator, size: int, wanted: Ints) -> pa.Array:
    """The names of the wanted of `size` customers."""
    sources = (texts([city for city, _ in CITIES]), texts(GIVEN), texts(GIVEN), texts(TRADES))
    parts = [source.take(pa.array(rng.integers(0, len(source), size)[wanted])) for source in sources]
    return pc.binary_join_element_wise(*parts, pa.scalar("有限公司"), "")


def _id_numbers(numbers: Ints, offset: int, born_from: int, born_to: int) -> tuple[pa.Array, Ints]:
    """Distinct identity numbers with their check character (GB 11643), and the birthdays in them."""
    days = born_to - born_from + 1
    scattered = _scatter(numbers, len(REGION_CODES) * days * 999, offset)
    rest, region = np.divmod(scattered, len(REGION_CODES))
    order, day = np.divmod(rest, days)
    digits = np.hstack([
        digits_of(np.array(REGION_CODES), 6)[region], digits_of(_as_numbers(born_from, born_to), 8)[day],
        digits_of(np.arange(1, 1_000), 3)[order],
    ])  # fmt: skip
    sums = np.zeros(len(numbers), np.int64)
    for column, weight in enumerate([7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2]):
        sums += weight * (digits[:, column] - np.uint8(ord("0")))
    last = np.frombuffer(b"10X98765432", np.uint8)[sums % 11]
    return ascii_texts(np.hstack([digits, last[:, None]])), born_from + day


@lru_cache(maxsize=2)
def _as_numbers(first: int, last: int) -> Ints:
    calendar = np.arange(first, last + 1).astype("datetime64[D]").astype(object)
    return np.array([day.year * 10_000 + day.month * 100 + day.day for day in calendar])


CREDIT_SIGNS = "0123456789ABCDEFGHJKLMNPQRTUWXY"


def _credit_codes(numbers: Ints, offset: int) -> pa.Array:
    """Distinct unified social credit codes of firms (GB 32100), the organisation code's check (GB 11714) in them."""
    signs = np.frombuffer(CREDIT_SIGNS.encode(), np.uint8)
    values = np.empty((len(numbers), 17), np.int64)
    values[:, :2] = 9, 1
    values[:, 2:8] = digits_of(np.array(REGION_CODES), 6)[numbers % len(REGION_CODES)] - ord("0")
    # Codes given since 2015 begin with MA.
    values[:, 8:10] = CREDIT_SIGNS.index("M"), CREDIT_SIGNS.index("A")
    rest = _scatter(numbers, len(CREDIT_SIGNS) ** 6, offset)
    for column in range(15, 9, -1):
        rest, values[:, column] = np.divmod(rest, len(CREDIT_SIGNS))
    # GB 11714 counts A = 10 to Z = 35, leaving no letter out.
    plain = np.array([int(sign, 36) for sign in CREDIT_SIGNS])
    sums = plain[values[:, 8:16]] @ np.array([3, 7, 9, 10, 5, 8, 4, 2]) % 11
    values[:, 16] = np.array([CREDIT_SIGNS.index(sign) for sign in "0X987654321"])[sums]
    weights = np.array([1, 3, 9, 27, 19, 26, 16, 17, 20, 29, 25, 13, 8, 24, 10, 30, 28])
    checks = -(values @ weights) % len(CREDIT_SIGNS)
    return ascii_texts(signs[np.hstack([values, checks[:, None]])])


@lru_cache(maxsize=1)
def _open_branches(order: _Order) -> tuple[_House, dict[str, Rows]]:
    """The branches with their people: everything but customers."""
    rng, branches, year_end = np.random.default_rng([order.seed, 0]), order.branches, order.year_end
    numbers = [f"{n:04d}" for n in range(1, branches + 1)]
    places = [CITIES[n % len(CITIES)] for n in range(branches)]
    roads = [ROADS[(n + n // len(CITIES)) % len(ROADS)] for n in range(branches)]
    more = ["" if n < len(CITIES) * len(ROADS) else f"第{n // (len(CITIES) * len(ROADS)) + 1}" for n in range(branches)]
    names = [f"{city}{road}{ordinal}证券营业部" for (city, _), road, ordinal in zip(places, roads, more, strict=True)]
    tables: dict[str, Rows] = {
        "branches": {
            "branch_no": texts(numbers), "branch_name": texts(names), "region": texts([region for _, region in places])
        }
    }  # fmt: skip

    staff: list[tuple[str, str, str, str, date, date | None]] = []
    roster: list[tuple[str, str, str, str, date, date | None]] = []
    developers: list[list[int]] = []
    servers: list[list[int]] = []
    began = year_end - timedelta(days=21 * 365)
    for n, branch_no in enumerate(numbers):
        size = int(rng.integers(3, 9))
        kinds = [
            "marketer" if n % 3 else "broker",
            "caller",
            "adviser",
            "broker",
            "caller",
            "marketer",
            "other",
            "adviser",
        ][:size]
        people = _distinct_names(rng, size + 5)
        developers.append([])
        servers.append([])
        for k, kind in enumerate(kinds):
            since = began + timedelta(days=int(rng.integers(0, 19 * 365)))
            left = since + timedelta(days=int(rng.integers(90, 700))) if kind == "other" else None
            if kind in ("broker", "marketer"):
                developers[-1].append(len(staff))
            # The first caller serves some customers too; where a branch has no second one, headquarters must call those.
            if kind in ("adviser", "marketer") or k == kinds.index("caller"):
                servers[-1].append(len(staff))
            staff.append((f"{branch_no}{k + 1:02d}", people[k], branch_no, kind, since, left))
        changed = date(year_end.year - 1, 6, 30)
        for r, (role, local) in enumerate(LOCAL_PARTS.items()):
            if role == "deputy" and n % 5 == 4:
                continue
            since = began
            if role == "operations_director" and n % 10 == 6:
                roster.append(
                    (branch_no, role, people[size + 4], f"former.{local}.{branch_no}@branch.example", began, changed)
                )
                since = changed + timedelta(days=1)
            roster.append((branch_no, role, people[size + r], f"{local}.{branch_no}@branch.example", since, None))
    for (role, local), name in zip(HQ_LOCAL_PARTS.items(), _distinct_names(rng, len(HQ_LOCAL_PARTS)), strict=True):
        roster.append(("HQ", role, name, f"{local}@hq.example", began, None))
    ids, called, of_branch, kinds_of, since_of, until = (list(column) for column in zip(*staff, strict=True))
    tables["staff"] = {
        "staff_id": texts(ids), "staff_name": texts(called), "branch_no": texts(of_branch), "kind": _coded(kinds_of),
        "valid_from": _dated(since_of), "valid_to": _dated(until), "phone": _phones(FIRST_OF_STAFF + np.arange(len(ids)), order.seed),
    }  # fmt: skip
    of_branch, roles, called, emails, since_of, until = (list(column) for column in zip(*roster, strict=True))
    tables["roster"] = {
        "branch_no": texts(of_branch), "role": _coded(roles), "contact_name": texts(called), "email": texts(emails),
        "valid_from": _dated(since_of), "valid_to": _dated(until),
    }  # fmt: skip

    weights = rng.permutation((np.arange(branches) + 3.0) ** -0.8) * rng.uniform(0.8, 1.25, branches)
    house = _House(
        weights,
        _by_branch(developers),
        _by_branch(servers),
        texts(ids),
        np.array([_days(since) for *_, since, _ in staff]),
        tables["staff"]["phone"],
    )
    return house, tables


def _phones(numbers: Ints, seed: int) -> pa.Array:
    """Distinct mobile numbers."""
    scattered = _scatter(numbers, len(PREFIXES) * 10**8, seed * 104_729)
    return padded(np.array(PREFIXES)[scattered // 10**8] * 10**8 + scattered % 10**8, 11)


def _distinct_names(rng: np.random.Generator, size: int) -> list[str]:
    found = dict.fromkeys(_names(rng, size).to_pylist())
    while len(found) < size:
        found |= dict.fromkeys(_names(rng, 1).to_pylist())
    return list(found)


def _by_branch(members: list[list[int]]) -> tuple[Ints, Ints, Ints]:
    counts = np.array([len(group) for group in members], np.int64)
    return np.array([row for group in members for row in group], np.int64), np.cumsum(counts) - counts, counts


def _fill_chunk(
    rng: np.random.Generator, order: _Order, number: int, start: int, stop: int, dirt: dict[str, int]
) -> Iterator[tuple[str, Iterator[Rows]]]:
    """Customers number start to stop, their relations, their transactions; each table's rows in slices, in this order."""
    house, seed, year_end = _open_branches(order)[0], order.seed, order.year_end
    size = stop - start
    numbers = np.arange(start, stop, dtype=np.int64)
    end = _days(year_end)
    last_workday = int(np.busday_offset(np.datetime64(year_end), 0, roll="backward").astype(np.int64))

    branch = _pick(rng, house.branch_weights, size)
    segment = _pick(rng, [share for _, share in SEGMENTS], size)
    status = _pick(rng, [share for _, share in STATUSES], size)
    dormant_traders = _mark_first(rng, status, DORMANT, dirt["dormant_trading"])
    id_numbers, born = _id_numbers(numbers, seed * 7_919, end - 80 * 365, end - 22 * 366)
    earliest = np.maximum(end - 20 * 365, born + 18 * 366)
    # Dormant: no trade for 3 years.
    latest = np.array([last_workday, end - 3 * 366, last_workday, end - 60])[status]
    open_on = earliest + (rng.random(size) * (latest - earliest + 1)).astype(np.int64)
    close_on = open_on + 1 + (rng.random(size) * (end - 1 - open_on)).astype(np.int64)

    customer_ids = padded(10_000 + numbers * 7 + rng.integers(0, 7, size), 10)
    is_firm = segment == INSTITUTION
    firms = np.flatnonzero(is_firm)
    firm_names = _firms(rng, size, firms)
    customer_names = pc.replace_with_mask(_names(rng, size), pa.array(is_firm), firm_names)
    id_numbers = pc.replace_with_mask(id_numbers, pa.array(is_firm), _credit_codes(numbers[firms], seed * 15_485_863))
    spaced = rng.permutation(size)[: dirt["padded_name"]]
    before, after = np.zeros((2, size), np.int64)
    before[spaced[::2]], after[spaced[1::2]] = 1, 1
    spaced.sort()
    wide_space = texts(["", "\u3000"])
    names = [wide_space.take(pa.array(before[spaced])), customer_names.take(pa.array(spaced))]
    names = pc.binary_join_element_wise(*names, wide_space.take(pa.array(after[spaced])), "")
    customer_names = pc.replace_with_mask(customer_names, pa.array(mask_of(size, spaced)), names)
    phones = _phones(numbers, seed)
    widened = np.sort(rng.permutation(size)[: dirt["full_width_phone"]])
    full_width = str.maketrans("0123456789", "０１２３４５６７８９")
    wide = [text.translate(full_width) for text in phones.take(pa.array(widened)).to_pylist()]
    phones = pc.replace_with_mask(phones, pa.array(mask_of(size, widened)), texts(wide))
    plain = np.setdiff1d(np.flatnonzero((status == ACTIVE) & ~is_firm), widened)
    reached = plain[np.linspace(0, len(plain), dirt["staff_phone"], endpoint=False, dtype=np.int64)]
    servers, first, count = house.servers
    theirs = servers[first[branch[reached]] + np.arange(len(reached)) % count[branch[reached]]]
    theirs_phones = house.staff_phones.take(pa.array(theirs))
    phones = pc.replace_with_mask(phones, pa.array(mask_of(size, reached)), theirs_phones)
    risk = np.empty(size, np.int32)
    for code, (name, _) in enumerate(SEGMENTS):
        risk[segment == code] = _pick(rng, RISK_SHARES[name], int((segment == code).sum()))
    branch_nos = pa.DictionaryArray.from_arrays(
        pa.array(branch.astype(np.int32)), padded(np.arange(1, len(house.branch_weights) + 1), 4)
    )
    rated = pa.array(risk, mask=rng.random(size) < 0.01)
    yield "customers", iter([{
        "customer_id": customer_ids, "customer_name": customer_names, "phone": phones, "id_no": id_numbers,
        "branch_no": branch_nos, "segment": _codes(SEGMENTS, segment),
        "risk_level": pa.DictionaryArray.from_arrays(rated, texts(RISK_LEVELS)),
        "status": _codes(STATUSES, status), "open_on": Days(open_on),
        "close_on": Days(close_on, missing=status != CLOSED),
    }])  # fmt: skip
    del customer_names, id_numbers, phones, born
    until = np.where(status == CLOSED, close_on, end)
    yield "relations", iter([_relate(rng, house, customer_ids, branch, open_on, until)])
    wealth = np.array([9.2, 11.0, 12.6, 13.0])[segment]
    goal = None if order.transactions is None else order.share(order.transactions, start, stop)
    yield (
        "transactions",
        _trade(rng, customer_ids, status, open_on, wealth, dormant_traders, dirt, year_end, last_workday, number, goal),
    )


def _mark_first(rng: np.random.Generator, status: Ints, wanted: int, count: int) -> Ints:
    """Exactly count customers of the wanted status; where chance left too few, some become so."""
    found = np.flatnonzero(status == wanted)
    if len(found) < count:
        others = np.flatnonzero(status != wanted)
        status[others[: count - len(found)]] = wanted
        found = np.flatnonzero(status == wanted)
    return np.sort(rng.permutation(found)[:count])


def _relate(
    rng: np.random.Generator, house: _House, customer_ids: pa.Array, branch: Ints, open_on: Ints, until: Ints
) -> Rows:
    """Who developed and who serves whom, of the customer's own branch; about one relation in fourteen has ended."""
    size = len(branch)
    found = []
    for kind, (staff, first, count), share in (
        (0, house.developers, RELATIONS[0][1]),
        (1, house.servers, RELATIONS[1][1]),
    ):
        rows = np.flatnonzero((rng.random(size) < share) & (count[branch] > 0))
        at = branch[rows]
        chosen = staff[first[at] + (rng.random(len(rows)) * count[at]).astype(np.int64)]
        since = np.maximum(open_on[rows], house.staff_from[chosen])
        ended = since + 1 + (rng.random(len(rows)) * np.maximum(until[rows] - since - 1, 0)).astype(np.int64)
        is_open = (rng.random(len(rows)) >= 0.08) | (ended >= until[rows])
        found.append((rows, chosen, np.full(len(rows), kind), since, ended, is_open))
    rows, chosen, kinds, since, ended, is_open = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return {
        "customer_id": customer_ids.take(pa.array(rows)), "staff_id": house.staff_ids.take(pa.array(chosen)),
        "kind": _codes(RELATIONS, kinds), "valid_from": Days(since), "valid_to": Days(ended, missing=is_open),
    }  # fmt: skip


def _trade(
    rng: np.random.Generator, customer_ids: pa.Array, status: Ints, open_on: Ints, wealth: npt.NDArray[np.float64],
    dormant_traders: Ints, dirt: dict[str, int], year_end: date, last_workday: int, number: int, goal: int | None,
) -> Iterator[Rows]:  # fmt: skip
    """The month's transactions: about five per active customer or the goal in all, heavy-tailed, two per dormant trader."""
    weights = np.where(status == ACTIVE, np.minimum(np.exp(rng.normal(0.95, 1.2, len(status))), 4_000), 0)
    counts = weights.astype(np.int64)
    planted = ("impossible_date", "unreadable_amount", "unknown_customer")
    spoilt = sum(dirt[kind] for kind in planted)
    if goal is not None:
        # Who trades not at all stays so; the others share the goal by their weights, to the last one.
        shares = np.cumsum(np.where(counts > 0, weights, 0) if counts.any() else status == ACTIVE, dtype=np.float64)
        bounds = (shares * ((goal - 2 * len(dormant_traders)) / shares[-1])).astype(np.int64)
        bounds[shares == shares[-1]] = goal - 2 * len(dormant_traders)
        counts = np.diff(bounds, prepend=0)
    elif counts.sum() < spoilt:
        counts[np.flatnonzero(status == ACTIVE)[0]] += spoilt
    regular = int(counts.sum())
    customer = np.concatenate([np.repeat(np.arange(len(counts)), counts), np.repeat(dormant_traders, 2)])

    month_start = np.datetime64(year_end.replace(day=1))
    workdays = np.arange(month_start, np.datetime64(last_workday, "D") + 1)
    workdays = workdays[np.is_busday(workdays)].astype(np.int64)
    opened = np.busday_offset(open_on.astype("datetime64[D]"), 0, roll="forward").astype(np.int64)
    # Each chunk of customers numbers its transactions on its own, from a hundred million on.
    first_id = year_end.year * 10**12 + year_end.month * 10**10 + number * 10**8 + 1
    for start, stop in _parts(len(customer), SLICE):
        size, ordinary = stop - start, min(stop, regular) - min(start, regular)
        whose = customer[start:stop]
        traded_on = np.maximum(workdays[rng.integers(0, len(workdays), size)], opened[whose])
        kind = _pick(rng, [share for _, share in KINDS], size)
        kind[ordinary:] = 0
        scale = np.array([0.0, 0.0, 0.4, 0.3, -6.0, -5.5, -2.0])[kind]
        cents = np.clip(np.exp(rng.normal(wealth[whose] + scale, 1.1)) * 100, 1, 10**13).astype(np.int64)

        bounds = [dirt[kind] * min(stop, regular) // regular - dirt[kind] * min(start, regular) // regular
                  for kind in planted]  # fmt: skip
        bad_dates, bad_amounts, strangers = np.split(rng.permutation(ordinary)[: sum(bounds)], np.cumsum(bounds[:-1]))
        owners = customer_ids.take(pa.array(whose))
        unknown = padded(9_900_000_000 + (number * 10**6 + start + np.sort(strangers)) % 10**8, 10)
        owners = pc.replace_with_mask(owners, pa.array(mask_of(size, strangers)), unknown)
        yield {
            "transaction_id": padded(first_id + np.arange(start, stop), 16), "customer_id": owners,
            "traded_on": Days(traded_on, impossible=bad_dates), "kind": _codes(KINDS, kind),
            "amount_cny": Cents(cents, unreadable=bad_amounts),
        }  # fmt: skip
