"""Reading rows into frames and writing frames as rows; the pieces every file here stands on."""

from __future__ import annotations

from typing import Any

import pandas as pd
from sqlalchemy import Select, func, insert, select
from sqlalchemy.orm import Session


def frame(session: Session, query: Select[Any]) -> pd.DataFrame:
    """The rows of a query, with its labels as columns; typed columns even when empty."""
    result = session.execute(query)
    return pd.DataFrame.from_records([tuple(row) for row in result], columns=list(result.keys()))


def latest(column: Any, by: Any, key: Any) -> Any:
    """Condition: the row holds the highest `by` of its `key` (aliased self-join in a scalar subquery)."""
    other = column.class_.__table__.alias()
    return column == select(func.max(other.c[by.key])).where(other.c[key.key] == key).scalar_subquery()


def insert_rows(session: Session, table: Any, rows: pd.DataFrame, **fixed: Any) -> None:
    if len(rows):
        plain = rows.astype(object).to_dict("records")
        session.execute(insert(table), [{**{str(k): v for k, v in row.items()}, **fixed} for row in plain])
