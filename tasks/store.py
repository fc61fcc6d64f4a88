"""The database: opening it, one transaction each, mutual exclusion, the audit chain and the outbox.

SQLite by default, PostgreSQL by URL. What each flow reads and writes stands in tasks/records/.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, inspect, make_url, select, text
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.orm import Session

from models import CallbackError
from models.tables import Audit
from tasks.settings import PROJECT, Settings, read_secret

log = logging.getLogger(__name__)

LOCKED_SECONDS = 30
"""So long another program may hold an SQLite database before a run ends."""


class StoreError(CallbackError):
    """The database cannot be reached or is not of this version."""


class Busy(CallbackError):
    """Another run holds what this one needs."""


@dataclass(frozen=True)
class Store:
    """One open database."""

    engine: Engine
    home: Path

    @contextmanager
    def begin(self) -> Iterator[Session]:
        """One transaction: all of it, or nothing after an error or a crash.

        Raises StoreError when the database is locked by another program, full, or gone.
        """
        try:
            with Session(self.engine, expire_on_commit=False) as session, session.begin():
                yield session
        except (OperationalError, InterfaceError) as error:
            raise _told(self.engine, error) from None

    @contextmanager
    def begin_unsynced(self) -> Iterator[Session]:
        """One transaction that no crash of the process can lose; on SQLite a loss of power can, whole or not at all.

        Transactions are lost from the newest backwards: a later one of begin() keeps this one too.
        """
        if self.keeps_unsynced:
            with self.begin() as session:
                yield session
            return
        with self.engine.connect() as connection:
            driver = connection.connection.dbapi_connection
            assert driver is not None, "a connection that was just opened"
            # https://sqlite.org/pragma.html#pragma_synchronous: with a write-ahead log NORMAL leaves out the sync of a commit.
            driver.execute("PRAGMA synchronous=NORMAL")
            try:
                with Session(connection, expire_on_commit=False) as session, session.begin():
                    yield session
            finally:
                driver.execute("PRAGMA synchronous=FULL")

    @property
    def keeps_unsynced(self) -> bool:
        """Whether begin_unsynced() syncs all the same."""
        return self.engine.dialect.name != "sqlite"

    @contextmanager
    def exclusive(self, name: str) -> Iterator[None]:
        """Nobody else is inside the same name at the same time; the lock falls with the process, also by kill -9.

        Raises Busy at once when it is held: a scheduled run comes again anyway.
        """
        if self.engine.dialect.name == "postgresql":
            # Without a transaction: servers are set to end those that stand idle, and the lock would fall in mid-run.
            with ExitStack() as held:
                key = zlib.crc32(f"huifang:{name}".encode())
                try:
                    connection = held.enter_context(self.engine.connect())
                    connection = connection.execution_options(isolation_level="AUTOCOMMIT")
                    is_ours = connection.scalar(text("select pg_try_advisory_lock(:key)"), {"key": key})
                except (OperationalError, InterfaceError) as error:
                    raise _told(self.engine, error) from None
                if not is_ours:
                    raise Busy(f"another run is at {name!r}; try again when it has ended")
                try:
                    yield
                finally:
                    try:
                        connection.execute(text("select pg_advisory_unlock(:key)"), {"key": key})
                    except (OperationalError, InterfaceError):  # the server is gone, and the lock with it
                        connection.invalidate()
            return
        path = self.home / "locks" / f"{name}.lock"
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with path.open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Busy(f"another run is at {name!r}; try again when it has ended") from None
            yield


_CURES = {
    "locked": f"another program has held it for {LOCKED_SECONDS} s; end that program",
    "full": "free space on its disk",
    "disk I/O": "free space on its disk, or see to the disk",
    "readonly": "let the service user write there",
}
"""What to do, by what SQLite says; of a server there is but one advice."""


def _told(engine: Engine, error: DBAPIError) -> StoreError:
    """What a database that fails in the middle of a run has to say, and what helps."""
    said = " ".join(str(error.orig).split())[:200]
    cure = "start the server again"
    if engine.dialect.name == "sqlite":
        cure = next((cure for word, cure in _CURES.items() if word in said), "see to its file")
    return StoreError(
        f"database {engine.url.render_as_string(hide_password=True)}: {said}; {cure}, then run again: what was booked "
        "stays, the rest is done then"
    )


def open_store(settings: Settings) -> Store:
    """The store of the settings, with tables made when it is empty.

    Raises StoreError when it cannot be reached, or holds tables of another version than this code.
    """
    store = connect_store(settings)
    try:
        _migrate_when_empty(store.engine)
    except (OperationalError, InterfaceError) as error:
        raise _told(store.engine, error) from None
    return store


def connect_store(settings: Settings) -> Store:
    """The store of the settings, whatever is in it. Raises StoreError when it cannot be reached."""
    try:
        url = make_url(settings.store_url)
    except ArgumentError:
        raise StoreError(
            "HUIFANG_DATABASE_URL: is no database URL; write sqlite:///PATH or postgresql://USER@HOST/NAME"
        ) from None
    if password := read_secret(settings.database_password_file, "HUIFANG_DATABASE_PASSWORD_FILE"):
        url = url.set(password=password.get_secret_value())
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    home = settings.home.resolve()
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StoreError(f"HUIFANG_HOME: {home}: {error.strerror}; name a folder that can be made") from None
    home.chmod(0o700)  # whatever lies in it is for the service user only
    if url.get_backend_name() not in ("sqlite", "postgresql"):
        raise StoreError(f"HUIFANG_DATABASE_URL: {url.drivername} is not supported; use sqlite:///… or postgresql://…")
    engine = create_engine(url, pool_pre_ping=True, hide_parameters=True)
    if engine.dialect.name == "sqlite":
        _prepare_sqlite(engine)
    try:
        engine.connect().close()
    except OperationalError as error:
        shown = url.render_as_string(hide_password=True)
        raise StoreError(
            f"database {shown}: {str(error.orig).strip().splitlines()[0]}; check HUIFANG_DATABASE_URL"
        ) from None
    return Store(engine, home)


def upgrade(engine: Engine, to: str = "head") -> None:
    """Bring the tables to this code's version, or to an earlier one; all of it or nothing."""
    is_sqlite = engine.dialect.name == "sqlite"
    with engine.connect() as connection, _unchecked_references(connection if is_sqlite else None), connection.begin():
        config = _alembic()
        config.attributes["connection"] = connection
        command.upgrade(config, to)
        if is_sqlite:
            broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
            assert not broken, f"the migration leaves {len(broken)} rows that refer to nothing"


@contextmanager
def _unchecked_references(connection: Connection | None) -> Iterator[None]:
    """SQLite changes a table by making it anew, which it refuses while rows refer to it; only outside a transaction
    can it be told to look away.
    """
    driver = connection.connection.dbapi_connection if connection is not None else None
    if driver is None:
        yield
        return
    driver.cursor().execute("PRAGMA foreign_keys = OFF")
    try:
        yield
    finally:
        driver.cursor().execute("PRAGMA foreign_keys = ON")


def version_of(engine: Engine) -> tuple[str | None, str]:
    """The revision the database is at, and the one this code needs."""
    head = ScriptDirectory.from_config(_alembic()).get_current_head()
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision(), head or ""


def record(
    session: Session, *, actor: str, action: str, subject: str, payload: Mapping[str, Any], at: datetime
) -> None:
    """Append one decision to the audit chain, in the transaction that carries it out."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("select pg_advisory_xact_lock(:key)"), {"key": zlib.crc32(b"huifang:audit")})
    session.flush()
    last = session.scalar(select(Audit.sha256).order_by(Audit.id.desc()).limit(1)) or _NOTHING
    row = Audit(
        prev_sha256=last, actor=actor, action=action, subject=subject, payload_sha256=hash_payload(payload), at=at
    )
    row.sha256 = _hash_row(row, at.astimezone(UTC))
    session.add(row)


def find_broken_row(session: Session) -> int | None:
    """The id of the first row of the audit chain that is not as it was written, or not behind the row before; None.

    Rows of earlier versions were hashed over their time in the zone it was given in, which the store does not keep.
    """
    before = _NOTHING
    for row in session.scalars(select(Audit).order_by(Audit.id)):
        is_whole = any(_hash_row(row, row.at.astimezone(zone)) == row.sha256 for zone in _ZONES)
        if row.prev_sha256 != before or not is_whole:
            return row.id
        before = row.sha256
    return None


_NOTHING = "0" * 64
_ZONES = (UTC, *(timezone(timedelta(minutes=15 * n)) for n in sorted(range(-48, 57), key=lambda n: (n != 32, n))))
"""UTC, in which times are hashed; then the zones there are, Shanghai's first."""


def _hash_row(row: Audit, at: datetime) -> str:
    line = "\n".join([row.prev_sha256, row.actor, row.action, row.subject, row.payload_sha256, at.isoformat()])
    return hashlib.sha256(line.encode()).hexdigest()


def hash_payload(payload: Mapping[str, Any]) -> str:
    """What a row of the audit chain keeps of a decision."""
    body = json.dumps(payload, ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(body.encode()).hexdigest()


def _prepare_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _: Any) -> None:
        # The driver would begin late and lose a lock race; we begin ourselves below.
        connection.isolation_level = None
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            f"busy_timeout={LOCKED_SECONDS * 1000}",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _migrate_when_empty(engine: Engine) -> None:
    present, needed = version_of(engine)
    if present == needed:
        return
    if present is None and not inspect(engine).get_table_names():
        upgrade(engine)
        return
    raise StoreError(
        f"the database is at version {present or 'unknown'}, this code needs {needed}: run `huifang db upgrade`"
    )


def _alembic() -> Config:
    config = Config()
    config.set_main_option("script_location", str(PROJECT / "migrations"))
    return config
