"""The contestant in plain pandas: a brokerage's extracts judged, written and hashed by one script without huifang.

    python bench/pandas_intake.py INBOX OUT [--result FILE] [--reader chunks|whole]

Knows the canonical tables and the rules that judge their rows, in the way of somebody who knows pandas well: text
columns on Arrow, whole columns at a time, expensive paths only for the values that need them. It may use what huifang
uses, that is that ids usually rise, so that chunks can be written as they come.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

CHUNK = 500_000
DATE, CENTS = pd.ArrowDtype(pa.date32()), pd.ArrowDtype(pa.decimal128(18, 2))

ID = r"[0-9A-Za-z][0-9A-Za-z_.-]*"
NAME = r"[^\x00-\x1f\x7f\x{fffd}]+"
LABEL = r'[^\x00-\x1f\x7f,"*|\x{fffd}]+'
FORMS = {
    "id": (ID, 40),
    "name": (NAME, 120),
    "phone": (r"[0-9+(][0-9 ()+/-]*", 40),
    "id_no": (r"[0-9A-Za-z()/-]+", 40),
    "segment": (LABEL, 40),
    "risk_level": (LABEL, 20),
    "email": (r"[0-9A-Za-z][0-9A-Za-z._%+-]*@[0-9A-Za-z-]+([.][0-9A-Za-z-]+)+", 120),
}
PHONE_DIGITS = r"[+(]?[0-9](?:[ ()+/-]*[0-9]){6,14}[)]?"
MOBILE = r"[^1].*|1[3-9].*|1.{0,9}|1.{11,}"
DAY = r"[0-9]{4}-[0-9]{2}-[0-9]{2}( 00:00:00([.]0+)?)?"
AMOUNT = r"[+-]?[0-9]{1,16}([.][0-9]{0,2}0*)?"
CODES = {
    "role": ["operations_director", "customer_service_manager", "deputy", "branch_head", "compliance",
             "operations_management", "hq_service"],
    "staff": ["broker", "marketer", "adviser", "caller", "other"],
    "status": ["active", "dormant", "suspended", "closed"],
    "relation": ["developer", "server"],
    "trade": ["buy", "sell", "deposit", "withdraw", "fee", "interest", "other"],
}  # fmt: skip

RESIDENT = np.array([7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2])
RESIDENT_CHECKS = np.frombuffer(b"10X98765432", np.uint8)
FIRM = np.array([1, 3, 9, 27, 19, 26, 16, 17, 20, 29, 25, 13, 8, 24, 10, 30, 28])
FIRM_CHECKS = np.frombuffer(b"0123456789ABCDEFGHJKLMNPQRTUWXY", np.uint8)

HALF = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-/.+()@_"
TO_HALF = str.maketrans({chr(ord(character) + 0xFEE0): character for character in HALF})


@dataclass(frozen=True)
class Table:
    """A canonical table: the kind of each column (? = may be empty), what is unique, and what must be in order."""

    columns: dict[str, str]
    unique: list[str]
    refers: dict[str, tuple[str, str]]
    """Column → the table that its ids must be in, and an id that is allowed without being there."""
    in_order: tuple[str, str, str] | None = None


SPAN = ("valid_from", "valid_to", "to_before_from")
TABLES = {
    "branches": Table({"branch_no": "id", "branch_name": "name", "region": "name?"}, ["branch_no"], {}),
    "roster": Table(
        {"branch_no": "id", "role": "code:role", "contact_name": "name", "email": "email", "valid_from": "date",
         "valid_to": "date?"},
        ["branch_no", "role", "email", "valid_from"], {"branch_no": ("branches", "HQ")}, SPAN,
    ),
    "staff": Table(
        {"staff_id": "id", "staff_name": "name", "branch_no": "id", "kind": "code:staff", "valid_from": "date?",
         "valid_to": "date?", "phone": "phone?"},
        ["staff_id"], {"branch_no": ("branches", "HQ")}, SPAN,
    ),
    "customers": Table(
        {"customer_id": "id", "customer_name": "name", "phone": "phone?", "id_no": "id_no?", "branch_no": "id",
         "segment": "segment", "risk_level": "risk_level?", "status": "code:status", "open_on": "date",
         "close_on": "date?"},
        ["customer_id"], {"branch_no": ("branches", "")}, ("open_on", "close_on", "close_before_open"),
    ),
    "relations": Table(
        {"customer_id": "id", "staff_id": "id", "kind": "code:relation", "valid_from": "date", "valid_to": "date?"},
        ["customer_id", "staff_id", "kind", "valid_from"], {"customer_id": ("customers", ""), "staff_id": ("staff", "")},
        SPAN,
    ),
    "transactions": Table(
        {"transaction_id": "id", "customer_id": "id", "traded_on": "date", "kind": "code:trade",
         "amount_cny": "amount"},
        ["transaction_id"], {"customer_id": ("customers", "")},
    ),
}  # fmt: skip
ABSENT = {"branches": "unknown_branch", "staff": "unknown_staff", "customers": "orphan"}
NOT_ACCEPTED = {
    "branches": "branch_not_accepted", "staff": "staff_not_accepted", "customers": "customer_not_accepted",
}  # fmt: skip


# ---- reading ------------------------------------------------------------------------------------------------


def read(path: Path, reader: str) -> Iterator[pd.DataFrame]:
    """The rows of a file by chunks; their index is the row number, the header being row 1."""
    if path.suffix == ".parquet":
        kinds = {pa.string(): pd.StringDtype(na_value=np.nan), pa.date32(): DATE, pa.decimal128(18, 2): CENTS}
        start = 2
        for batch in pq.ParquetFile(path).iter_batches(CHUNK):
            frame = batch.to_pandas(types_mapper=kinds.get)
            frame.index = pd.RangeIndex(start, start + len(frame))
            start += len(frame)
            yield frame
        return
    how = {"dtype": str, "keep_default_na": False, "na_values": [""], "encoding": "utf-8"}
    if reader == "whole":  # on all cores, but it cannot read by chunks
        whole = pd.read_csv(path, engine="pyarrow", **how)
        whole.index = pd.RangeIndex(2, len(whole) + 2)
        for start in range(0, len(whole), CHUNK):
            yield whole.iloc[start : start + CHUNK]
        return
    for frame in pd.read_csv(path, chunksize=CHUNK, encoding_errors="replace", skip_blank_lines=False, **how):
        frame.index += 2
        yield frame


def clean(text: pd.Series, is_free_text: bool) -> pd.Series:
    """Without blanks at either end; ids, numbers and codes in half-width and without Excel's apostrophe."""
    text = text.str.strip()
    if not is_free_text:
        wide = ~text.str.isascii() & text.notna()
        if wide.any():
            text = text.copy()
            text[wide] = text[wide].map(lambda value: value.translate(TO_HALF).strip(" \t\r\n\v\f\u00a0\u3000\ufeff"))
        if text.str.startswith("'").any():
            text = text.str.lstrip("' \t")
    return text.mask(text == "") if (text == "").any() else text


# ---- judging ------------------------------------------------------------------------------------------------


class Verdicts:
    """The first fault of each row."""

    def __init__(self, rows: int) -> None:
        self.names: list[tuple[str, str]] = [("", "")]
        self.codes = np.zeros(rows, np.int16)

    def reject(self, mask: pd.Series | np.ndarray, column: str, reason: str) -> None:
        mask = np.asarray(mask, dtype=bool)
        if mask.any():
            self.codes[mask & (self.codes == 0)] = len(self.names)
            self.names.append((column, reason))


def judge(raw: pd.DataFrame, name: str, known: dict[str, Ids]) -> tuple[pd.DataFrame, Verdicts]:
    table, verdicts, values = TABLES[name], Verdicts(len(raw)), {}
    for column, kind in table.columns.items():
        kind, is_nullable = kind.rstrip("?"), kind.endswith("?")
        value = raw[column]
        if isinstance(value.dtype, pd.StringDtype):
            text = clean(value, kind == "name")
            is_missing = text.isna()
            if not is_nullable:
                verdicts.reject(is_missing, column, "missing")
            if kind == "date":
                value = read_days(text, verdicts, column)
            elif kind == "amount":
                value = read_amounts(text, verdicts, column)
            elif kind.startswith("code:"):
                strange = ~text.isin(CODES[kind.removeprefix("code:")]) & ~is_missing
                if strange.any():
                    raise SystemExit(f"{name}.{column}: unknown codes {dict(Counter(text[strange]).most_common(10))}")
                value = text
            else:
                check_form(text, is_missing, kind, verdicts, column)
                value = text
        elif not is_nullable:
            verdicts.reject(value.isna(), column, "missing")
        if kind == "date":
            verdicts.reject((value < pd.Timestamp("1900-01-01").date()).fillna(False), column, "out_of_range")
        values[column] = value
    for column, (referred, allowed) in table.refers.items():
        is_lost, is_rejected = known[referred].look_up(values[column])
        is_lost &= (values[column] != allowed).to_numpy() & values[column].notna().to_numpy()
        verdicts.reject(is_lost & is_rejected, column, NOT_ACCEPTED[referred])
        verdicts.reject(is_lost, column, ABSENT[referred])
    if table.in_order:
        earlier, later, reason = table.in_order
        verdicts.reject((values[later] < values[earlier]).fillna(False), later, reason)
    return pd.DataFrame(values), verdicts


def check_form(text: pd.Series, is_missing: pd.Series, kind: str, verdicts: Verdicts, column: str) -> None:
    pattern, longest = FORMS[kind]
    verdicts.reject(~text.str.fullmatch(pattern) & ~is_missing, column, "bad_form")
    verdicts.reject(text.str.len() > longest, column, "bad_length")
    if kind == "phone":
        fits = text.str.fullmatch(PHONE_DIGITS) & text.str.fullmatch(MOBILE)
        verdicts.reject(~fits & ~is_missing, column, "bad_phone")
    elif kind == "id_no":
        checked = text.str.fullmatch("[0-9]{17}[0-9A-Za-z]").to_numpy(dtype=bool)
        wrong = np.zeros(len(text), bool)
        wrong[checked] = ~has_checksum(text[checked])
        verdicts.reject(wrong, column, "bad_checksum")


def has_checksum(ids: pd.Series) -> np.ndarray:
    """Whether the last character is the one that the 17 digits before it ask for, of a person or of a firm."""
    characters = ids.str.upper().to_numpy(dtype="S18").view(np.uint8).reshape(-1, 18)
    digits = characters[:, :17].astype(np.int32) - ord("0")
    last = characters[:, 17]
    return (last == RESIDENT_CHECKS[digits @ RESIDENT % 11]) | (last == FIRM_CHECKS[-(digits @ FIRM) % 31])


def read_days(text: pd.Series, verdicts: Verdicts, column: str) -> pd.Series:
    is_odd = (text.str.len() != 10).to_numpy() & text.notna().to_numpy()
    if is_odd.any():  # counters often append a midnight
        text = text.mask(is_odd & text.str.fullmatch(DAY).to_numpy(dtype=bool), text.str.slice(0, 10))
        is_odd = (text.str.len() != 10).to_numpy() & text.notna().to_numpy()
    days = pd.to_datetime(text.mask(is_odd) if is_odd.any() else text, format="%Y-%m-%d", errors="coerce")
    lost = days.isna().to_numpy() & text.notna().to_numpy()
    if lost.any():
        has_form = np.zeros(len(text), bool)
        has_form[lost] = text[lost].str.fullmatch(DAY)
        verdicts.reject(lost & ~has_form, column, "bad_date")
        verdicts.reject(lost, column, "impossible_date")
    return days.astype(DATE)


def read_amounts(text: pd.Series, verdicts: Verdicts, column: str) -> pd.Series:
    is_number = text.str.fullmatch(AMOUNT).to_numpy(dtype=bool)
    verdicts.reject(~is_number & text.notna().to_numpy(), column, "bad_number")
    if is_number.all():
        return text.astype(CENTS)
    return text[is_number].astype(CENTS).reindex(text.index)


class Ids:
    """The ids of a table that others refer to."""

    def __init__(self, accepted: list[pd.Series], rejected: list[pd.Series]) -> None:
        self.accepted = pd.Index(pd.concat(accepted))
        self.rejected = pd.Index(pd.concat(rejected)) if rejected else None

    def look_up(self, ids: pd.Series) -> tuple[np.ndarray, np.ndarray]:
        """Which are no accepted ids, and which of all were rejected; each distinct id is looked up once."""
        codes, distinct = pd.factorize(ids)
        is_lost = np.append(self.accepted.get_indexer(distinct) < 0, True)
        is_rejected = np.zeros(len(is_lost), bool)
        if self.rejected is not None and is_lost[:-1].any():
            is_rejected[:-1] = distinct.isin(self.rejected)
        return is_lost[codes], is_rejected[codes]


# ---- writing ------------------------------------------------------------------------------------------------


def lines_of(rows: pd.DataFrame, kinds: dict[str, str]) -> pd.Series:
    """Each row as text; a name with a comma or a quotation mark stands in quotes, nothing else may hold them."""
    line = None
    for column in rows:
        text = rows[column]
        if not isinstance(text.dtype, pd.StringDtype):
            text = text.astype(pd.ArrowDtype(pa.string())).astype(str)
        elif kinds[column].startswith("name") and (special := text.str.contains('[,"]')).any():
            text = text.copy()
            text[special] = '"' + text[special].str.replace('"', '""', regex=False) + '"'
        if text.hasnans:
            text = text.fillna("")
        line = text if line is None else line + "," + text
    return line


class Snapshot:
    """The accepted rows of a table as sorted Parquet and their hash, written as they come while their ids rise."""

    def __init__(self, name: str, path: Path) -> None:
        self.name, self.path, self.table = name, path, TABLES[name]
        kinds = {"date": pa.date32(), "amount": pa.decimal128(18, 2)}
        self.schema = pa.schema(
            [(column, kinds.get(kind.rstrip("?"), pa.string())) for column, kind in self.table.columns.items()]
        )
        self.writer: pq.ParquetWriter | None = None
        self.digest = hashlib.sha256()
        self.last = ""
        self.later: list[pd.DataFrame] = []
        self.ids: list[pd.Series] = []
        self._start()

    def _start(self) -> None:
        self.writer = pq.ParquetWriter(self.path, self.schema, compression="zstd")
        self.digest = hashlib.sha256((",".join(self.table.columns) + "\n").encode())

    def add(self, rows: pd.DataFrame, file: str) -> None:
        if not len(rows):
            return
        if self.later or not self._rises(rows[self.table.unique[0]]):
            self.later.append(rows.assign(_file=file))
            return
        self._write(rows, lines_of(rows, self.table.columns))

    def _rises(self, ids: pd.Series) -> bool:
        if len(self.table.unique) > 1 or not ids.iloc[0] > self.last:
            return False
        if not (ids.array[1:] > ids.array[:-1]).all():
            return False
        self.last = ids.iloc[-1]
        return True

    def _write(self, rows: pd.DataFrame, lines: pd.Series) -> None:
        self.writer.write_table(pa.Table.from_pandas(rows, self.schema, preserve_index=False))
        self.digest.update(lines.str.cat(sep="\n").encode())
        self.digest.update(b"\n")
        if self.name in ABSENT:
            self.ids.append(rows[self.table.unique[0]])

    def finish(self) -> pd.DataFrame | None:
        """Puts the rows in order; those whose id had come before, as rejected ones."""
        self.writer.close()
        if not self.later:
            return None
        first = pd.concat(read(self.path, "")) if pq.read_metadata(self.path).num_rows else None
        rows = pd.concat([first, *self.later]).rename_axis("row_number").reset_index()
        key = self.table.unique[0]
        is_doubled = rows.duplicated(self.table.unique)
        doubled = rows.loc[is_doubled, ["row_number", "_file", key]].rename(columns={"_file": "file", key: "key"})
        rows = rows.loc[~is_doubled, list(self.table.columns)]
        rows = rows.assign(_line=lines_of(rows, self.table.columns)).sort_values([rows.columns[0], "_line"])
        self.ids.clear()
        self._start()
        for start in range(0, len(rows), CHUNK):
            part = rows.iloc[start : start + CHUNK]
            self._write(part.drop(columns="_line"), part["_line"])
        self.writer.close()
        return doubled.assign(column=key, reason="duplicate_id") if len(doubled) else None


class Activity:
    """What each customer did."""

    def __init__(self) -> None:
        self.parts: list[pd.DataFrame] = []

    def add(self, rows: pd.DataFrame) -> None:
        is_trade = rows["kind"].isin(["buy", "sell"])
        part = pd.DataFrame(
            {
                "customer_id": rows["customer_id"],
                "trades": is_trade.astype("int64"),
                "cents": (rows["amount_cny"].abs() * 100).astype("int64[pyarrow]").astype("int64").where(is_trade, 0),
                "last_traded_on": rows["traded_on"]
                .astype("timestamp[s][pyarrow]")
                .astype("datetime64[s]")
                .where(is_trade),
            }
        )
        self.parts.append(
            part.groupby("customer_id", sort=False).agg(
                transactions=("trades", "size"), trades=("trades", "sum"), cents=("cents", "sum"),
                last_traded_on=("last_traded_on", "max"),
            )
        )  # fmt: skip

    def write(self, path: Path) -> dict[str, object]:
        whole = pd.concat(self.parts).groupby(level=0, sort=True)
        found = whole.agg({"transactions": "sum", "trades": "sum", "cents": "sum", "last_traded_on": "max"})
        found = found.reset_index()
        cents = int(found["cents"].sum())
        amounts = found.pop("cents").astype(pd.ArrowDtype(pa.decimal128(19, 0))) * Decimal("0.01")
        found.insert(3, "turnover_cny", amounts.astype(pd.ArrowDtype(pa.decimal128(24, 2))))
        found["last_traded_on"] = found["last_traded_on"].astype(DATE)
        found.to_parquet(path, compression="zstd", index=False)
        return {
            "customers": len(found), "transactions": int(found["transactions"].sum()),
            "trades": int(found["trades"].sum()), "cents": cents,
        }  # fmt: skip


# ---- the whole ----------------------------------------------------------------------------------------------


def keep_raw(path: Path, out: Path) -> None:
    """A copy of a source file under the hash of its bytes."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    shutil.copyfile(path, out / "raw" / sha256)


def take_in(name: str, files: list[Path], out: Path, known: dict[str, Ids], reader: str) -> dict[str, object]:
    folder = out / name
    folder.mkdir(parents=True)
    table, snapshot, activity = TABLES[name], Snapshot(name, folder / "accepted.parquet"), Activity()
    key = table.unique[0]
    bad: list[pd.DataFrame] = []
    rows = 0
    for path in files:
        for raw in read(path, reader):
            rows += len(raw)
            judged, verdicts = judge(raw, name, known)
            is_bad = verdicts.codes > 0
            if is_bad.any():
                found = judged.loc[is_bad, [key]].rename(columns={key: "key"})
                found["key"] = found["key"].where(found["key"].str.fullmatch(ID))
                said = [verdicts.names[code] for code in verdicts.codes[is_bad]]
                found.insert(0, "reason", [reason for _, reason in said])
                found.insert(0, "column", [column for column, _ in said])
                found.insert(0, "file", path.name)
                bad.append(found.rename_axis("row_number").reset_index())
                judged = judged[~is_bad]
            snapshot.add(judged, path.name)
            if name == "transactions" and not snapshot.later:
                activity.add(judged)
    doubled = snapshot.finish()
    if doubled is not None:
        bad.append(doubled)
    if name == "transactions" and snapshot.later:
        activity = Activity()
        for judged in read(snapshot.path, reader):
            activity.add(judged)
    rejected = pd.concat(bad) if bad else pd.DataFrame(columns=["row_number", "file", "column", "reason", "key"])
    rejected.sort_values(["file", "row_number"]).to_parquet(folder / "rejected.parquet", compression="zstd")
    if name in ABSENT:
        ids = [found["key"].dropna().astype(str) for found in bad]
        known[name] = Ids(snapshot.ids, ids)
    counts = Counter(zip(rejected["column"], rejected["reason"], strict=True))
    result: dict[str, object] = {
        "rows": rows, "accepted": rows - len(rejected), "rejected": len(rejected),
        "reasons": {f"{column}: {reason}": n for (column, reason), n in sorted(counts.items())},
        "content_sha256": snapshot.digest.hexdigest(),
    }  # fmt: skip
    if name == "transactions":
        result["activity"] = activity.write(folder / "activity.parquet")
    return result


def main() -> None:
    began = time.perf_counter()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inbox", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--result", type=Path)
    parser.add_argument("--reader", choices=["chunks", "whole"], default="chunks")
    words = parser.parse_args()
    (words.out / "raw").mkdir(parents=True)
    known: dict[str, Ids] = {}
    tables = {}
    for name in TABLES:
        files = sorted([*words.inbox.glob(f"{name}*.csv"), *words.inbox.glob(f"{name}*.parquet")])
        if not files:
            sys.exit(f"{words.inbox}: no file for {name}")
        for path in files:
            keep_raw(path, words.out)
        tables[name] = take_in(name, files, words.out, known, words.reader)
    result = {"inner_seconds": time.perf_counter() - began, "tables": tables}
    text = json.dumps(result, ensure_ascii=False, indent=1)
    if words.result:
        words.result.write_text(text, encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
