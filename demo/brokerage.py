"""A synthetic Chinese brokerage as canonical CSV extracts; what nobody publishes, made from a seed.

Alone knows how such a house is distributed: branch sizes, dead accounts, heavy traders, who developed whom, and the
dirt that real extracts carry, planted in exact counts. Knows nothing of intake, programmes or mail.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from models import CallbackError

Ints = npt.NDArray[np.int64]

COLUMNS = {
    "customers": [
        "customer_id",
        "customer_name",
        "phone",
        "id_no",
        "branch_no",
        "segment",
        "risk_level",
        "status",
        "open_on",
        "close_on",
    ],
    "transactions": ["transaction_id", "customer_id", "traded_on", "kind", "amount_cny"],
    "branches": ["branch_no", "branch_name", "region"],
    "roster": ["branch_no", "role", "contact_name", "email", "valid_from", "valid_to"],
    "staff": ["staff_id", "staff_name", "branch_no", "kind", "valid_from", "valid_to"],
    "relations": ["customer_id", "staff_id", "kind", "valid_from", "valid_to"],
}
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
CHUNK = 250_000

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
}
"""Kind of dirt: the table it lies in, and one per how many customers. The transactions' kinds spoil a row each, no row
twice; the customers' kinds spoil none: padding and full-width digits are to be normalised, and a dormant customer who
buys is a contradiction to be reported."""


class BrokerageError(CallbackError):
    """A brokerage of this size cannot be made."""


@dataclass(frozen=True)
class Extracts:
    """What was written: rows per table, and rows (dormant_trading: customers) per kind of planted dirt."""

    rows: dict[str, int]
    planted: dict[str, int]


@dataclass(frozen=True)
class _House:
    """What all customers share: the branches' weights, and per branch a slice of its developers and its servers."""

    branch_weights: npt.NDArray[np.float64]
    developers: tuple[Ints, Ints, Ints]
    """Staff rows sorted by branch, first position per branch, count per branch."""
    servers: tuple[Ints, Ints, Ints]
    staff_ids: pa.Array
    staff_from: Ints


def build_extracts(
    directory: Path, *, customers: int = 20_000, branches: int = 20, seed: int = 1, year_end: date = date(2025, 12, 31)
) -> Extracts:
    """Six CSV files of a brokerage at one year end, the same bytes for the same arguments.

    UTF-8, comma, canonical column names, no quoting needed. Transactions are those of the month of year_end. Memory
    stays bounded: customers come in chunks of CHUNK. A second call overwrites the files.
    """
    if not 1 <= branches <= 999 or customers < 10 * branches:
        raise BrokerageError(
            f"{customers} customers in {branches} branches: ask for 1 to 999 branches with 10 customers or more each"
        )
    directory.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, 0])
    house, small_tables = _open_branches(rng, branches, year_end)
    planted = {kind: max(2, customers // per) for kind, (_, per) in DIRT.items()}
    rows = dict.fromkeys(COLUMNS, 0)
    with ExitStack() as stack:
        files = {
            table: stack.enter_context(_CsvFile(directory / f"{table}.csv", columns))
            for table, columns in COLUMNS.items()
        }
        for table, columns in small_tables.items():
            rows[table] += files[table].write(columns)
        for number, (start, stop) in enumerate(_chunks(customers)):
            dirt = {kind: n * stop // customers - n * start // customers for kind, n in planted.items()}
            chunk = _fill_chunk(
                np.random.default_rng([seed, 1, number]), house, start, stop, seed, year_end, dirt, rows["transactions"]
            )
            for table, columns in chunk.items():
                rows[table] += files[table].write(columns)
    return Extracts(rows, planted)


class _CsvFile:
    """One delimited file written column-wise; pyarrow quotes its own header, so that line is ours."""

    def __init__(self, path: Path, columns: list[str]) -> None:
        self._columns = columns
        self._path = path

    def __enter__(self) -> _CsvFile:
        self._file = self._path.open("wb")
        self._file.write((",".join(self._columns) + "\n").encode())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, columns: list[pa.Array]) -> int:
        batch = pa.table(columns, names=self._columns)
        pa.csv.write_csv(
            batch, self._file, pa.csv.WriteOptions(include_header=False, quoting_style="none", batch_size=65_536)
        )
        return int(batch.num_rows)


def _chunks(customers: int) -> Iterator[tuple[int, int]]:
    for start in range(0, customers, CHUNK):
        stop = min(start + CHUNK, customers)
        if 0 < customers - stop < 1_000:  # a rest too small to hold its share of the dirt goes with this chunk
            yield start, customers
            return
        yield start, stop


def _days(day: date) -> int:
    return (day - date(1970, 1, 1)).days


def _texts(values: list[str | None] | list[str]) -> pa.Array:
    return pa.array(values, pa.string())


def _dates(days: Ints, missing: npt.NDArray[np.bool_] | None = None) -> pa.Array:
    """ISO dates of days since 1970; empty where missing."""
    first, last = int(days.min(initial=0)), int(days.max(initial=0))
    calendar = _texts(np.arange(first, last + 1).astype("datetime64[D]").astype(str).tolist())
    return calendar.take(pa.array(days - first, mask=missing))


def _codes(shares: tuple[tuple[str, float], ...], picks: Ints) -> pa.Array:
    return _texts([code for code, _ in shares]).take(pa.array(picks))


def _pick(rng: np.random.Generator, weights: npt.ArrayLike, size: int) -> Ints:
    """Positions drawn by weight; far faster than Generator.choice with p."""
    cumulative = np.cumsum(weights)
    return np.searchsorted(cumulative, rng.random(size) * cumulative[-1], side="right").astype(np.int64)


def _scatter(numbers: Ints, size: int, offset: int) -> Ints:
    """Distinct numbers below size that look random: a multiplication modulo size loses nothing when coprime."""
    step = int(size * 0.6180339887) | 1
    while math.gcd(step, size) != 1:
        step += 2
    if int(numbers.max()) >= size:
        raise BrokerageError(f"{int(numbers.max()) + 1} customers are more than the {size} numbers there are")
    return (numbers * (step % size) + offset) % size


def _digits(numbers: Ints, width: int) -> npt.NDArray[np.uint8]:
    digits = np.empty((len(numbers), width), np.uint8)
    for column in range(width - 1, -1, -1):
        rest = numbers // 10
        digits[:, column] = numbers - rest * 10
        numbers = rest
    return digits


def _ascii(characters: npt.NDArray[np.uint8]) -> pa.Array:
    """One text per row of a matrix of ASCII codes."""
    length, width = characters.shape
    offsets = np.arange(0, (length + 1) * width, width, dtype=np.int32)
    return pa.StringArray.from_buffers(length, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(characters)))


def _padded(numbers: Ints, width: int) -> pa.Array:
    return _ascii(_digits(numbers, width) + ord("0"))


def _names(rng: np.random.Generator, size: int) -> pa.Array:
    surnames = _texts(SURNAMES).take(pa.array(_pick(rng, 1 / (np.arange(len(SURNAMES)) + 4), size)))
    given = _texts(GIVEN)
    first, second = (rng.integers(0, len(GIVEN), size) for _ in range(2))
    tail = given.take(pa.array(second, mask=rng.random(size) < 0.2))
    return pc.binary_join_element_wise(surnames, given.take(pa.array(first)), tail.fill_null(""), "")


def _firms(rng: np.random.Generator, size: int) -> pa.Array:
    given = _texts(GIVEN)
    cities = _texts([city for city, _ in CITIES])
    parts = [
        source.take(pa.array(rng.integers(0, len(source), size))) for source in (cities, given, given, _texts(TRADES))
    ]
    return pc.binary_join_element_wise(*parts, _texts(["有限公司"] * size), "")


def _id_numbers(numbers: Ints, offset: int, born_from: int, born_to: int) -> tuple[pa.Array, Ints]:
    """Distinct identity numbers with their check character (GB 11643), and the birthdays in them."""
    days = born_to - born_from + 1
    scattered = _scatter(numbers, len(REGION_CODES) * days * 999, offset)
    region = np.array(REGION_CODES)[scattered % len(REGION_CODES)]
    born = born_from + scattered // len(REGION_CODES) % days
    order = 1 + scattered // (len(REGION_CODES) * days)
    calendar = np.arange(born_from, born_to + 1).astype("datetime64[D]").astype(object)
    as_numbers = np.array([d.year * 10_000 + d.month * 100 + d.day for d in calendar])
    digits = np.hstack([_digits(region, 6), _digits(as_numbers[born - born_from], 8), _digits(order, 3)])
    checks = digits.astype(np.int64) @ np.array([7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2]) % 11
    last = np.frombuffer(b"10X98765432", np.uint8)[checks]
    return _ascii(np.hstack([digits + ord("0"), last[:, None]]).astype(np.uint8)), born


def _open_branches(rng: np.random.Generator, branches: int, year_end: date) -> tuple[_House, dict[str, list[pa.Array]]]:
    """The branches with their people: everything but customers."""
    numbers = [f"{n:04d}" for n in range(1, branches + 1)]
    places = [CITIES[n % len(CITIES)] for n in range(branches)]
    roads = [ROADS[(n + n // len(CITIES)) % len(ROADS)] for n in range(branches)]
    more = ["" if n < len(CITIES) * len(ROADS) else f"第{n // (len(CITIES) * len(ROADS)) + 1}" for n in range(branches)]
    names = [f"{city}{road}{ordinal}证券营业部" for (city, _), road, ordinal in zip(places, roads, more, strict=True)]
    tables: dict[str, list[pa.Array]] = {
        "branches": [_texts(numbers), _texts(names), _texts([region for _, region in places])]
    }

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
            if kind in ("adviser", "marketer"):
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
    tables["staff"] = [
        _texts([str(value) if value else None for value in column]) for column in zip(*staff, strict=True)
    ]
    tables["roster"] = [
        _texts([str(value) if value else None for value in column]) for column in zip(*roster, strict=True)
    ]

    weights = rng.permutation((np.arange(branches) + 3.0) ** -0.8) * rng.uniform(0.8, 1.25, branches)
    house = _House(
        weights,
        _by_branch(developers),
        _by_branch(servers),
        tables["staff"][0],
        np.array([_days(since) for *_, since, _ in staff]),
    )
    return house, tables


def _distinct_names(rng: np.random.Generator, size: int) -> list[str]:
    found = dict.fromkeys(_names(rng, size).to_pylist())
    while len(found) < size:
        found |= dict.fromkeys(_names(rng, 1).to_pylist())
    return list(found)


def _by_branch(members: list[list[int]]) -> tuple[Ints, Ints, Ints]:
    counts = np.array([len(group) for group in members], np.int64)
    return np.array([row for group in members for row in group], np.int64), np.cumsum(counts) - counts, counts


def _fill_chunk(
    rng: np.random.Generator,
    house: _House,
    start: int,
    stop: int,
    seed: int,
    year_end: date,
    dirt: dict[str, int],
    transactions: int,
) -> dict[str, list[pa.Array]]:
    """Customers number start to stop with their relations and transactions."""
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
    latest = np.choose(status, [last_workday, end - 3 * 366, last_workday, end - 60])  # dormant: no trade for 3 years
    open_on = earliest + (rng.random(size) * (latest - earliest + 1)).astype(np.int64)
    close_on = open_on + 1 + (rng.random(size) * (end - 1 - open_on)).astype(np.int64)

    customer_ids = _padded(10_000 + numbers * 7 + rng.integers(0, 7, size), 10)
    is_firm = segment == INSTITUTION
    customer_names = pc.if_else(pa.array(is_firm), _firms(rng, size), _names(rng, size))
    padding = rng.permutation(size)[: dirt["padded_name"]]
    before, after = np.zeros((2, size), np.int64)
    before[padding[::2]], after[padding[1::2]] = 1, 1
    space = _texts(["", "\u3000"])
    customer_names = pc.binary_join_element_wise(
        space.take(pa.array(before)), customer_names, space.take(pa.array(after)), ""
    )
    phone_numbers = _scatter(numbers, len(PREFIXES) * 10**8, seed * 104_729)
    phones = _padded(np.array(PREFIXES)[phone_numbers // 10**8] * 10**8 + phone_numbers % 10**8, 11)
    widened = np.sort(rng.permutation(size)[: dirt["full_width_phone"]])
    full_width = str.maketrans("0123456789", "０１２３４５６７８９")
    wide = [text.translate(full_width) for text in phones.take(pa.array(widened)).to_pylist()]
    phones = pc.replace_with_mask(phones, pa.array(_mask(size, widened)), _texts(wide))
    risk = np.empty(size, np.int64)
    for code, (name, _) in enumerate(SEGMENTS):
        risk[segment == code] = _pick(rng, RISK_SHARES[name], int((segment == code).sum()))
    branch_texts = _padded(branch + 1, 4)
    tables = {
        "customers": [
            customer_ids, customer_names, phones,
            pc.if_else(pa.array(is_firm), pa.scalar(None, pa.string()), id_numbers),
            branch_texts, _codes(SEGMENTS, segment),
            _texts(["C1", "C2", "C3", "C4", "C5"]).take(pa.array(risk, mask=rng.random(size) < 0.01)),
            _codes(STATUSES, status), _dates(open_on), _dates(close_on, missing=status != CLOSED),
        ],
    }  # fmt: skip
    tables["relations"] = _relate(rng, house, customer_ids, branch, open_on, np.where(status == CLOSED, close_on, end))
    wealth = np.array([9.2, 11.0, 12.6, 13.0])[segment]
    tables["transactions"] = _trade(
        rng, customer_ids, status, open_on, wealth, dormant_traders, dirt, year_end, last_workday, transactions
    )
    return tables


def _mask(size: int, positions: Ints) -> npt.NDArray[np.bool_]:
    mask = np.zeros(size, np.bool_)
    mask[positions] = True
    return mask


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
) -> list[pa.Array]:
    """Who developed and who serves whom, of the customer's own branch; about one relation in fourteen has ended."""
    size = len(branch)
    found: list[list[pa.Array]] = []
    for kind, (staff, first, count), share in (("developer", house.developers, 0.35), ("server", house.servers, 0.10)):
        rows = np.flatnonzero((rng.random(size) < share) & (count[branch] > 0))
        at = branch[rows]
        chosen = staff[first[at] + (rng.random(len(rows)) * count[at]).astype(np.int64)]
        since = np.maximum(open_on[rows], house.staff_from[chosen])
        ended = since + 1 + (rng.random(len(rows)) * np.maximum(until[rows] - since - 1, 0)).astype(np.int64)
        is_open = (rng.random(len(rows)) >= 0.08) | (ended >= until[rows])
        found.append([
            customer_ids.take(pa.array(rows)), house.staff_ids.take(pa.array(chosen)), _texts([kind] * len(rows)),
            _dates(since), _dates(ended, missing=is_open),
        ])  # fmt: skip
    return [pa.concat_arrays(parts) for parts in zip(*found, strict=True)]


def _trade(
    rng: np.random.Generator, customer_ids: pa.Array, status: Ints, open_on: Ints, wealth: npt.NDArray[np.float64],
    dormant_traders: Ints, dirt: dict[str, int], year_end: date, last_workday: int, written: int,
) -> list[pa.Array]:  # fmt: skip
    """The month's transactions: about five per active customer, heavy-tailed, and two per dormant trader."""
    counts = np.where(status == ACTIVE, np.minimum(np.exp(rng.normal(0.95, 1.2, len(status))), 4_000), 0).astype(
        np.int64
    )
    spoilt = dirt["impossible_date"] + dirt["unreadable_amount"] + dirt["unknown_customer"]
    if counts.sum() < spoilt:
        counts[np.flatnonzero(status == ACTIVE)[0]] += spoilt
    customer = np.repeat(np.arange(len(counts)), counts)
    regular = len(customer)
    customer = np.concatenate([customer, np.repeat(dormant_traders, 2)])
    size = len(customer)

    month_start = np.datetime64(year_end.replace(day=1))
    workdays = np.arange(month_start, np.datetime64(last_workday, "D") + 1)
    workdays = workdays[np.is_busday(workdays)].astype(np.int64)
    opened = np.busday_offset(open_on.astype("datetime64[D]"), 0, roll="forward").astype(np.int64)
    traded_on = np.maximum(workdays[rng.integers(0, len(workdays), size)], opened[customer])
    kind = _pick(rng, [share for _, share in KINDS], size)
    kind[regular:] = 0
    scale = np.array([0.0, 0.0, 0.4, 0.3, -6.0, -5.5, -2.0])[kind]
    cents = np.clip(np.exp(rng.normal(wealth[customer] + scale, 1.1)) * 100, 1, 10**13).astype(np.int64)

    bad_dates, bad_amounts, strangers = np.split(
        rng.permutation(regular)[:spoilt], np.cumsum([dirt["impossible_date"], dirt["unreadable_amount"]])
    )
    dates = _dates(traded_on)
    dates = pc.if_else(pa.array(_mask(size, bad_dates)), f"{year_end:%Y-%m}-32", dates)
    hundredths = _texts([f"{n:02d}" for n in range(100)]).take(pa.array(cents % 100))
    amounts = pc.binary_join_element_wise(pa.array(cents // 100).cast(pa.string()), hundredths, ".")
    amounts = pc.if_else(pa.array(_mask(size, bad_amounts)), "1O0.00", amounts)
    owners = customer_ids.take(pa.array(customer))
    unknown = _padded(9_900_000_000 + written + np.sort(strangers), 10)
    owners = pc.replace_with_mask(owners, pa.array(_mask(size, strangers)), unknown)
    ids = _padded(year_end.year * 10**12 + year_end.month * 10**10 + written + 1 + np.arange(size), 16)
    return [ids, owners, dates, _codes(KINDS, kind), amounts]
