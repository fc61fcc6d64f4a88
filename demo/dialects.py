"""How houses write their extracts down: names, codes, encodings, files, control totals; one dialect per source profile.

Alone knows what stands in each file of each dialect. The rows come from demo/brokerage.py; the profiles that read
these files back stand under profiles/, written by hand against the same description.
"""

from __future__ import annotations

import gzip
import io
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from demo.columns import Cents, Column, Days, Rows, plain, recoded, repeated, texts
from models import CallbackError
from models.profile import DateForm


class DialectError(CallbackError):
    """A dialect that does not exist, or a form it is not written in."""


Source = Callable[[Rows], pa.Array] | str
"""One column of a house's file: from the rows of the canonical table, or the same text in every row, in which {day}
is the day of the extract."""

BATCH = 65_536
"""Rows that become text at a time."""
ADDED_CENTS = 10_000
"""What each transaction is worth that a house adds of its own."""


@dataclass(frozen=True)
class Written:
    """A part of a table: its rows, those among them that a profile does not ignore, the readable amounts, its file."""

    path: Path
    rows: int
    rows_of_ours: int
    total: int


@dataclass(frozen=True)
class TableForm:
    """One table as a house writes it."""

    file: str
    """{day} is the day of the extract. What ends in .gz, .zip or .xlsx is that; an archive holds one file."""
    columns: Mapping[str, Source]
    added: Callable[[pa.Table, int, str], pa.Table] = lambda rows, chunk, day: rows.slice(0, 0)
    """Rows of the house's own that its profile ignores by name, made from the first rows of a chunk."""
    trailer: str = ""
    """The last line, with {rows} and {total}."""
    unit: int = 100
    """Cents of what amounts are counted in."""


@dataclass(frozen=True)
class Dialect:
    """A house's way of writing all of its tables."""

    name: str
    tables: Mapping[str, TableForm]
    encoding: str = "utf-8"
    delimiter: str = ","
    has_header: bool = True
    marker: str = ""
    """File beside each file, such as {name}.ok; a name without {name} is one control file for all."""
    marker_line: str = ""
    """With {name}, {rows} and {total}."""

    @contextmanager
    def open(self, directory: Path, form: str, day: date) -> Iterator[_Delivery]:
        """The files of a delivery, to be filled table by table and part by part."""
        with ExitStack() as stack:
            yield _Delivery(self, directory, form, day, stack)

    def write_part(
        self, directory: Path, form: str, day: date, table: str, number: int, content: Iterator[Rows]
    ) -> Written:
        """Some rows of a big table, in a file of their own that a delivery takes over."""
        path = directory / f"{table}_{number + 1:04d}.{'parquet' if form == 'parquet' else 'part'}"
        own, rows, total = self.tables[table], 0, 0
        with ExitStack() as stack:
            if form == "parquet":
                parquet = None
                for slice_ in content:
                    batch = typed(slice_)
                    parquet = parquet or stack.enter_context(_parquet_file(path, batch.schema))
                    parquet.write_table(batch, row_group_size=max(1, batch.num_rows))
                    rows += batch.num_rows
                return Written(path, rows, rows, 0)
            raw = stack.enter_context(path.open("wb"))
            is_gzip = own.file.endswith(".gz")
            # Members of a gzip file may follow each other: each chunk is one, whoever packed it.
            file = stack.enter_context(_gzip(raw)) if is_gzip else raw
            added = None
            for slice_ in content:
                batch = self.translate(table, slice_, day)
                for start in range(0, batch.num_rows, BATCH):
                    file.write(self.lines(batch.slice(start, BATCH)))
                rows += batch.num_rows
                total += _total(slice_)
                if added is None:
                    added = own.added(batch, number, f"{day:%Y%m%d}")
            if added is not None and added.num_rows:
                file.write(self.lines(added))
        more = added.num_rows if added is not None else 0
        return Written(path, rows + more, rows, total + more * ADDED_CENTS)

    def translate(self, table: str, rows: Rows, day: date) -> pa.Table:
        """Canonical rows in this house's columns, all of them texts or numbers."""
        columns = self.tables[table].columns
        size = len(next(iter(rows.values())))
        found = [
            repeated(source.format(day=f"{day:%Y%m%d}"), size) if isinstance(source, str) else source(rows)
            for source in columns.values()
        ]
        return pa.table([plain(column) for column in found], names=list(columns))

    def lines(self, rows: pa.Table) -> bytes:
        """Rows as delimited text."""
        buffer = io.BytesIO()
        options = pa.csv.WriteOptions(
            include_header=False, quoting_style="none", batch_size=BATCH, delimiter=self.delimiter
        )
        pa.csv.write_csv(rows, buffer, options)
        return self.encode(buffer.getbuffer())

    def encode(self, utf8: bytes | memoryview) -> bytes:
        content = bytes(utf8)
        return content if self.encoding.startswith("utf-8") or content.isascii() else _recode(content, self.encoding)

    def header(self, table: str) -> bytes:
        bom = b"\xef\xbb\xbf" if self.encoding == "utf-8-sig" else b""
        names = self.delimiter.join(self.tables[table].columns) + "\n" if self.has_header else ""
        return bom + self.encode(names.encode())


def _recode(content: bytes, encoding: str) -> bytes:
    return content.decode().encode(encoding)


def _gzip(file: IO[bytes]) -> gzip.GzipFile:
    return gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=file, mtime=0)


def _packed(path: Path, content: bytes) -> bytes:
    return gzip.compress(content, mtime=0) if path.suffix == ".gz" else content


def _total(rows: Rows) -> int:
    return sum(column.total() for column in rows.values() if isinstance(column, Cents))


def typed(rows: Rows) -> pa.Table:
    """Canonical rows in the types of the canonical table: texts, date32, decimal(18, 2)."""
    return pa.table({
        name: column.typed() if isinstance(column, Days | Cents) else column for name, column in rows.items()
    })  # fmt: skip


def _parquet_file(path: Path, schema: pa.Schema) -> pa.parquet.ParquetWriter:
    # Rows lie by customer, so ids compress better without a dictionary. The schema of Arrow is left out, so that codes
    # are plain strings to every reader.
    various = ("transaction_id", "customer_id", "customer_name", "phone", "id_no")
    return pa.parquet.ParquetWriter(
        path, schema, compression="zstd", compression_level=1, store_schema=False,
        use_dictionary=[name for name in schema.names if name not in various],
    )  # fmt: skip


@dataclass
class _Table:
    path: Path
    file: IO[bytes] | None = None
    parts: list[Path] = field(default_factory=list)
    rows: int = 0
    total: int = 0


class _Delivery:
    """The files of one delivery while they are written."""

    def __init__(self, dialect: Dialect, directory: Path, form: str, day: date, stack: ExitStack) -> None:
        self._dialect, self._directory, self._form, self._day, self._stack = dialect, directory, form, day, stack
        self._tables: dict[str, _Table] = {}

    def write_table(self, table: str, rows: Rows) -> int:
        """A small table as a whole."""
        own = self._own(table)
        if self._form == "parquet":
            self._clear(own.path, f"{table}*.parquet")
            batch = typed(rows)
            with _parquet_file(own.path, batch.schema) as parquet:
                parquet.write_table(batch)
            own.parts.append(own.path)
        elif own.path.suffix == ".xlsx":
            batch = self._dialect.translate(table, rows, self._day)
            _write_workbook(own.path, batch, self._day)
        else:
            batch = self._dialect.translate(table, rows, self._day)
            self._file(table).write(_packed(own.path, self._dialect.lines(batch)))
        own.rows += batch.num_rows
        return int(batch.num_rows)

    def add(self, table: str, part: Written) -> None:
        """The next part of a big table; its file is used up."""
        own = self._own(table)
        if self._form == "parquet":
            if not own.parts:
                self._clear(own.path, f"{table}*.parquet")
            own.parts.append(part.path.replace(self._directory / part.path.name))
        else:
            file = self._file(table)
            with part.path.open("rb") as source:
                shutil.copyfileobj(source, file, 1 << 20)
            part.path.unlink()
        own.rows += part.rows
        own.total += part.total

    def finish(self) -> tuple[Path, ...]:
        """Trailers and control files, written last as a house does; all files of the delivery."""
        if self._form == "parquet":
            return tuple(path for own in self._tables.values() for path in own.parts)
        found: list[Path] = []
        marked: dict[Path, list[str]] = {}
        for table, own in self._tables.items():
            form = self._dialect.tables[table]
            if form.trailer:
                line = form.trailer.format(rows=own.rows, total=_amount(own.total, form.unit)) + "\n"
                self._file(table).write(_packed(own.path, self._dialect.encode(line.encode())))
            if own.file is not None:
                own.file.close()
            found.append(own.path)
            if self._dialect.marker and not form.trailer:
                total = _amount(own.total, form.unit) if own.total else ""
                marker = self._directory / self._dialect.marker.format(name=own.path.name)
                line = self._dialect.marker_line.format(name=own.path.name, rows=own.rows, total=total)
                marked.setdefault(marker, []).append(line)
        self._stack.close()
        for path, lines in marked.items():
            path.write_text("".join(f"{line}\n" for line in lines), encoding="ascii")
        return (*found, *marked)

    def _own(self, table: str) -> _Table:
        if table not in self._tables:
            name = f"{table}.parquet" if self._form == "parquet" else self._named(table)
            self._tables[table] = _Table(self._directory / name)
        return self._tables[table]

    def _named(self, table: str) -> str:
        return self._dialect.tables[table].file.format(day=f"{self._day:%Y%m%d}")

    def _file(self, table: str) -> IO[bytes]:
        own = self._own(table)
        if own.file is not None:
            return own.file
        own.path.parent.mkdir(exist_ok=True)
        file: IO[bytes] = self._stack.enter_context(own.path.open("wb"))
        if own.path.suffix == ".zip":
            archive = self._stack.enter_context(zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1))
            day = self._day
            entry = zipfile.ZipInfo(f"{own.path.stem}.txt", (day.year, day.month, day.day, 20, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            file = self._stack.enter_context(archive.open(entry, "w", force_zip64=True))
        own.file = file
        file.write(_packed(own.path, self._dialect.header(table)))
        return file

    def _clear(self, path: Path, pattern: str) -> None:
        """Parts of an earlier, larger delivery would be read with this one."""
        for old in path.parent.glob(pattern):
            old.unlink()


def _amount(cents: int, unit: int) -> str:
    return f"{cents // 100}.{cents % 100:02d}" if unit == 100 else str(cents)


def _write_workbook(path: Path, rows: pa.Table, day: date) -> None:
    import xlsxwriter

    with xlsxwriter.Workbook(path) as book:
        book.set_properties({"created": datetime.combine(day, datetime.min.time(), UTC)})
        sheet = book.add_worksheet("Sheet1")
        for at, name in enumerate(rows.column_names):
            sheet.write_string(0, at, name)
            for row, value in enumerate(rows[name].to_pylist(), start=1):
                # What a clerk types in, a spreadsheet takes for a number where it can.
                if isinstance(value, int) or (value and value.isdigit() and value[0] != "0"):
                    sheet.write_number(row, at, int(value))
                elif value is not None:
                    sheet.write_string(row, at, value)


# ---- columns ------------------------------------------------------------------------------------------------


def same(name: str) -> Source:
    return lambda rows: _text(rows[name])


def _text(column: Column) -> pa.Array:
    if isinstance(column, Days):
        return column.text()
    return column.yuan() if isinstance(column, Cents) else column


def char(name: str, width: int) -> Source:
    """A CHAR column: blanks behind, as databases hand it out."""
    return lambda rows: pc.utf8_rpad(plain(rows[name]).fill_null(""), width)


def eaten(name: str) -> Source:
    """An id that went through a numeric tool: its leading zeros are gone."""
    return lambda rows: pc.utf8_ltrim(plain(rows[name]), "0")


def dated(name: str, form: DateForm, none: str = "") -> Source:
    return lambda rows: _days(rows, name).text(form, none)


def serial(name: str) -> Source:
    return lambda rows: _days(rows, name).serial()


def _days(rows: Rows, name: str) -> Days:
    column = rows[name]
    if not isinstance(column, Days):
        raise TypeError(f"{name} holds no dates")
    return column


def coded(name: str, none: str | None = None, **codes: str) -> Source:
    """Codes of ours in the house's; several, parted by blanks, take turns."""
    own = {ours: theirs.split() for ours, theirs in codes.items()}
    return lambda rows: recoded(rows[name], own, none)


def fen(name: str) -> Source:
    return lambda rows: _cents(rows, name).fen()


def _cents(rows: Rows, name: str) -> Cents:
    column = rows[name]
    if not isinstance(column, Cents):
        raise TypeError(f"{name} holds no amounts")
    return column


def by_code(name: str, default: str, **values: str) -> Source:
    """A second column of the house that goes with a code of ours."""

    def source(rows: Rows) -> pa.Array:
        column: pa.DictionaryArray = rows[name]
        return recoded(column, {code: [values.get(code, default)] for code in column.dictionary.to_pylist()})

    return source


def prefixed(prefix: str, name: str) -> Source:
    return lambda rows: pc.binary_join_element_wise(pa.scalar(prefix), plain(rows[name]), "")


def balance(name: str, in_fen: bool = False) -> Source:
    """What was left on the account: made up, from the amount's own digits."""

    def source(rows: Rows) -> pa.Array:
        left = Cents(_cents(rows, name).cents * 7_919 % 100_000_007)
        return left.fen() if in_fen else left.yuan()

    return source


def _replaced(rows: pa.Table, **columns: list[str]) -> pa.Table:
    for name, values in columns.items():
        rows = rows.set_column(rows.column_names.index(name), name, texts(values))
    return rows


# ---- the dialects -------------------------------------------------------------------------------------------

CANONICAL = Dialect(
    "canonical",
    {
        table: TableForm(f"{table}.csv", {name: same(name) for name in names})
        for table, names in {
            "customers": [
                "customer_id", "customer_name", "phone", "id_no", "branch_no", "segment", "risk_level", "status",
                "open_on", "close_on",
            ],
            "transactions": ["transaction_id", "customer_id", "traded_on", "kind", "amount_cny"],
            "branches": ["branch_no", "branch_name", "region"],
            "roster": ["branch_no", "role", "contact_name", "email", "valid_from", "valid_to"],
            "staff": ["staff_id", "staff_name", "branch_no", "kind", "valid_from", "valid_to", "phone"],
            "relations": ["customer_id", "staff_id", "kind", "valid_from", "valid_to"],
        }.items()
    },
)  # fmt: skip

ROLES = {
    "operations_director": "营运总监", "customer_service_manager": "客户服务部经理", "deputy": "副职", "branch_head": "营业部负责人",
    "compliance": "合规法务部", "operations_management": "运营管理部", "hq_service": "客服中心",
}  # fmt: skip
OPEN_END = "29991231"


def _test_clients(rows: pa.Table, chunk: int, day: str) -> pa.Table:
    few = rows.slice(0, 3)
    size = few.num_rows
    ids = [f"09990{chunk:03d}{n:02d}" for n in range(size)]
    return _replaced(
        few, client_id=ids, fund_account=[f"8{i}" for i in ids], client_name=["内部测试户".ljust(20)] * size,
        client_status=["9"] * size, open_date=["20150105"] * size, cancel_date=["0"] * size,
    )  # fmt: skip


def _test_entries(rows: pa.Table, chunk: int, day: str) -> pa.Table:
    few = rows.slice(0, 3)
    size = few.num_rows
    ids = [f"09990{chunk:03d}{n:02d}" for n in range(size)]
    return _replaced(
        few, serial_no=[f"99{chunk:06d}{n:08d}" for n in range(size)], client_id=ids,
        fund_account=[f"8{i}" for i in ids], init_date=[day] * size, occur_balance=["100.00"] * size,
    )  # fmt: skip


HUNDSUN = Dialect(
    "hundsun",
    {
        "branches": TableForm(
            "allbranch_{day}.txt",
            {
                "branch_no": eaten("branch_no"), "branch_name": char("branch_name", 24), "branch_area": same("region"),
                "company_no": "1",
            },
        ),
        "roster": TableForm(
            "branchcontact_{day}.txt",
            {
                "branch_no": eaten("branch_no"), "position": coded("role", **ROLES), "user_name": same("contact_name"),
                "e_mail": same("email"), "begin_date": dated("valid_from", "yyyyMMdd"),
                "end_date": dated("valid_to", "yyyyMMdd", OPEN_END),
            },
        ),
        "staff": TableForm(
            "broker_{day}.txt",
            {
                "broker_code": same("staff_id"), "broker_name": char("staff_name", 10), "branch_no": eaten("branch_no"),
                "broker_type": coded("kind", broker="0", marketer="1", adviser="2", caller="3", other="9"),
                "begin_date": dated("valid_from", "yyyyMMdd"), "end_date": dated("valid_to", "yyyyMMdd", "0"),
                "certificate_no": prefixed("S1090", "staff_id"), "mobile_tel": char("phone", 16),
            },
        ),
        "customers": TableForm(
            "client_{day}.txt",
            {
                "init_date": "{day}", "client_id": same("customer_id"),
                "fund_account": prefixed("8", "customer_id"), "client_name": char("customer_name", 20),
                "organ_flag": by_code("segment", "0", institution="1"),
                "client_group": coded("segment", retail="0", affluent="1", high_net_worth="2", institution="3"),
                "id_kind": by_code("segment", "0", institution="P"), "id_no": char("id_no", 20),
                "nationality": "CHN", "mobile_tel": char("phone", 16), "branch_no": eaten("branch_no"),
                "client_status": coded("status", active="0", dormant="4", suspended="1 2 5", closed="3"),
                "corp_risk_level": coded("risk_level", "0", C1="1", C2="2", C3="3", C4="4", C5="5"),
                "open_date": dated("open_on", "yyyyMMdd"), "cancel_date": dated("close_on", "yyyyMMdd", "0"),
                "position_str": prefixed("0001", "customer_id"),
            },
            added=_test_clients,
        ),
        "relations": TableForm(
            "clientbroker_{day}.txt",
            {
                "init_date": "{day}", "client_id": same("customer_id"), "broker_code": same("staff_id"),
                "relation_type": coded("kind", developer="1", server="2"),
                "begin_date": dated("valid_from", "yyyyMMdd"), "end_date": dated("valid_to", "yyyyMMdd", OPEN_END),
            },
        ),
        "transactions": TableForm(
            "hisfundjour_{day}.txt.gz",
            {
                "init_date": dated("traded_on", "yyyyMMdd"), "serial_no": same("transaction_id"),
                "client_id": same("customer_id"), "fund_account": prefixed("8", "customer_id"),
                "money_type": "0",
                "business_flag": coded(
                    "kind", buy="4002", sell="4001", deposit="2041", withdraw="2042", fee="4103", interest="2141",
                    other="2999",
                ),
                "occur_balance": same("amount_cny"), "post_balance": balance("amount_cny"),
            },
            added=_test_entries,
            trailer="TRAILER|{rows}|{total}",
        ),
    },
    encoding="gb18030",
    delimiter="|",
    marker="{name}.ok",
    marker_line="{name} rows={rows}",
)  # fmt: skip


def _second_accounts(rows: pa.Table, chunk: int, day: str) -> pa.Table:
    few = rows.slice(0, 20)
    numbers = [f"7{chunk:04d}{n:05d}" for n in range(few.num_rows)]
    return _replaced(few, CUACCT_CODE=numbers, CUACCT_ATTR=["1"] * few.num_rows)


KINGDOM = Dialect(
    "kingdom",
    {
        "branches": TableForm(
            "KD_ORG.xlsx",
            {"INT_ORG": eaten("branch_no"), "ORG_NAME": same("branch_name"), "REGION": same("region"), "ORG_TYPE": "2"},
        ),
        "roster": TableForm(
            "KD_ORG_CONTACT.xlsx",
            {
                "INT_ORG": eaten("branch_no"), "POST": coded("role", **ROLES), "USER_NAME": same("contact_name"),
                "EMAIL": same("email"), "BEGIN_DATE": serial("valid_from"), "END_DATE": serial("valid_to"),
            },
        ),
        "staff": TableForm(
            "KD_EMP.xlsx",
            {
                "EMP_NO": same("staff_id"), "EMP_NAME": same("staff_name"), "INT_ORG": eaten("branch_no"),
                "EMP_TYPE": coded("kind", broker="B", marketer="M", adviser="A", caller="C", other="Z"),
                "ENTRY_DATE": serial("valid_from"), "LEAVE_DATE": serial("valid_to"), "POSITION": "一般员工",
                "MOBILE_TEL": same("phone"),
            },
        ),
        "customers": TableForm(
            "KD_CUST_BASE.txt",
            {
                "CUST_NO": eaten("customer_id"), "CUST_FNAME": same("customer_name"),
                "CUST_CLS": coded("segment", retail="R", affluent="F", high_net_worth="H", institution="I"),
                "ID_TYPE": by_code("segment", "00", institution="20"), "ID_CODE": same("id_no"),
                "CITIZENSHIP": "CHN", "MOBILE_TEL": same("phone"), "INT_ORG": eaten("branch_no"),
                "CUST_STATUS": coded("status", active="0A", dormant="0a", suspended="1F 1f", closed="9C"),
                # From the boldest to the most careful: the other way round than ours.
                "RISK_RATING": coded("risk_level", "", C5="A", C4="B", C3="C", C2="D", C1="E"),
                "OPEN_DATE": dated("open_on", "yyyy/MM/dd"), "CLOSE_DATE": dated("close_on", "yyyy/MM/dd", "1900/01/01"),
                "CUACCT_CODE": prefixed("3", "customer_id"), "CUACCT_ATTR": "0", "OCCU_TYPE": "0A",
            },
            added=_second_accounts,
        ),
        "relations": TableForm(
            "KD_CUST_EMP_REL.txt",
            {
                "CUST_NO": eaten("customer_id"), "EMP_NO": same("staff_id"),
                "REL_TYPE": coded("kind", developer="K", server="k"),
                "BEGIN_DATE": dated("valid_from", "yyyy.MM.dd"), "END_DATE": dated("valid_to", "yyyy.MM.dd", "9999.12.31"),
            },
        ),
        "transactions": TableForm(
            "KD_CUST_TRADE.zip",
            {
                "TRD_DATE": dated("traded_on", "yyyy-MM-dd"), "SNO": same("transaction_id"),
                "CUST_NO": eaten("customer_id"), "CUACCT_CODE": prefixed("3", "customer_id"), "CURRENCY": "0",
                "BIZ_CODE": coded(
                    "kind", buy="0B", sell="0S", deposit="0D", withdraw="0W", fee="0F", interest="0I", other="0b 0s"
                ),
                "OCCUR_AMT": fen("amount_cny"), "BALANCE_AMT": balance("amount_cny", in_fen=True),
            },
            unit=1,
        ),
    },
    encoding="utf-8-sig",
    delimiter="\x01",
    has_header=False,
    marker="KD_EXTRACT.ctl",
    marker_line="{name}|{rows}|{total}",
)  # fmt: skip


def _authorised(rows: pa.Table, chunk: int, day: str) -> pa.Table:
    few = rows.slice(0, 10)
    numbers = [f"D{chunk:04d}{n:05d}" for n in range(few.num_rows)]
    return _replaced(few, customer_id=numbers, role=["DISPONENT"] * few.num_rows)


BERKA = Dialect(
    "berka",
    {
        "branches": TableForm(
            "branches.csv",
            {
                "branch_id": same("branch_no"), "branch_name": same("branch_name"), "region": same("region"),
                "inhabitants": "120000", "avg_salary": "9000",
            },
        ),
        # Kept apart, for --roster: this source names nobody who receives mail.
        "roster": TableForm("contacts/roster.csv", CANONICAL.tables["roster"].columns),
        "staff": TableForm(
            "staff.csv",
            {
                "staff_id": same("staff_id"), "name": same("staff_name"), "branch_id": same("branch_no"),
                "calls": "0", "mean_seconds": "0",
            },
        ),
        "customers": TableForm(
            "customers.csv",
            {
                "customer_id": same("customer_id"), "account_id": prefixed("A", "customer_id"), "role": "OWNER",
                "name": same("customer_name"), "sex": "", "birth_date": "", "phone": same("phone"),
                "email": "", "id_no": same("id_no"), "branch_id": same("branch_no"),
                "home_district_id": "1", "open_date": same("open_on"), "frequency": "POPLATEK MESICNE",
                "card": "", "loan_status": "", "loan_amount": "", "segment": same("segment"),
                "transaction_count": "0", "last_transaction_date": "", "turnover": "0",
            },
            added=_authorised,
        ),
        "transactions": TableForm(
            "transactions.csv",
            {
                "trans_id": same("transaction_id"), "account_id": prefixed("A", "customer_id"),
                "date": same("traded_on"),
                # All that is neither paid in nor paid out is of the type whose sense nobody knows.
                "type": by_code("kind", "VYBER", deposit="PRIJEM", withdraw="VYDAJ"),
                "operation": "", "amount": same("amount_cny"), "balance": balance("amount_cny"),
                "k_symbol": "", "bank": "", "account": "",
            },
        ),
    },
)  # fmt: skip

DIALECTS: Mapping[str, Dialect] = {d.name: d for d in (CANONICAL, HUNDSUN, KINGDOM, BERKA)}
