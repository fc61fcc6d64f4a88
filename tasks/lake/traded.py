"""Activity per customer while his transactions stream by: `models.frame.activity`, kept as sums per customer.

Grouping twenty million rows afterwards costs more than reading them did; here each row adds to its customer's place.
Only transactions that refer to customers by their id and come in order can be counted so; `lake.take_in` computes the
expression over the snapshot otherwise, and a test holds both to the same table.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from models.frame import TRADES
from tasks.lake.referred import References

MOST_FEN = 2**62
"""Sums beyond this are left to the engine, whose decimals are wider."""


@dataclass(frozen=True)
class Trades:
    """Which of some accepted rows are trades, with their amounts without sign in fen and their days since 1970."""

    rows: npt.NDArray[np.intp]
    fen: npt.NDArray[np.int64]
    days: npt.NDArray[np.int32]

    @classmethod
    def of(cls, accepted: pa.Table) -> Trades:
        """The trades among accepted transactions in one chunk."""
        kinds = accepted.column("kind").chunk(0)
        is_trade = pc.equal(kinds, TRADES[0])
        for kind in TRADES[1:]:
            is_trade = pc.or_(is_trade, pc.equal(kinds, kind))
        rows = np.flatnonzero(is_trade.to_numpy(zero_copy_only=False))
        amounts = accepted.column("amount_cny").chunk(0)
        # Of 16 bytes a value, low half first; 18 digits fill the low half alone.
        halves = np.frombuffer(amounts.buffers()[1], np.int64)[2 * amounts.offset : 2 * (amounts.offset + len(amounts))]
        days = accepted.column("traded_on").chunk(0).cast(pa.int32()).to_numpy()
        return cls(rows, np.abs(halves[2 * rows]), days[rows])


class Activity:
    """Transactions, trades, turnover and last trade of each customer of a References."""

    def __init__(self, customers: References) -> None:
        size = len(customers.texts)
        self._customers = customers
        self._transactions = np.zeros(size, np.int32)
        self._trades = np.zeros(size, np.int32)
        self._fen = np.zeros(size, np.int64)
        self._last = np.full(size, -(2**31), np.int32)
        self._most = 0
        self.is_exact = True

    def add(self, places: npt.NDArray[np.int64], trades: Trades) -> None:
        """Accepted rows, with the places of their customers."""
        ones = np.ones(len(places), np.int32)  # of the sums' own type: numpy is fifteen times slower otherwise
        np.add.at(self._transactions, places, ones)
        self._most += int(trades.fen.max(initial=0)) * len(trades.fen)
        self.is_exact = self.is_exact and self._most < MOST_FEN
        if not self.is_exact:
            return
        traders = places[trades.rows]
        np.add.at(self._trades, traders, ones[: len(traders)])
        np.add.at(self._fen, traders, trades.fen)
        np.maximum.at(self._last, traders, trades.days)

    def table(self) -> pa.Table:
        """One row per customer with a transaction, by customer_id; the columns of `models.frame.activity`."""
        by_id = self._customers.by_id()
        places = by_id[self._transactions[by_id] > 0]
        trades = self._trades[places]
        fen = np.zeros((len(places), 2), np.int64)
        fen[:, 0] = self._fen[places]
        turnover = pa.Array.from_buffers(pa.decimal128(24, 2), len(places), [None, pa.py_buffer(fen)])
        return pa.table(
            {
                "customer_id": self._customers.texts.take(pa.array(places)),
                "transactions": pa.array(self._transactions[places].astype(np.int64)),
                "trades": pa.array(trades.astype(np.int64)),
                "turnover_cny": turnover,
                "last_traded_on": pa.array(self._last[places], mask=trades == 0).cast(pa.date32()),
            }
        )
