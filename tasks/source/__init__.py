"""Where extracts come from: a folder, a store behind a URL or a database; finds what is whole, keeps each raw by its hash.

Knows nothing of the rows inside and unpacks nothing; tasks.lake does.
"""

from __future__ import annotations

import glob
import logging
import re
import stat
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from models.canonical import TABLES
from models.delivery import (
    ARCHIVE_NAMES,
    Claims,
    Delivery,
    Entry,
    SetAside,
    check_archive,
    form_for,
    is_unfinished,
    marked_by,
    marker_of,
    matches,
    reaches,
    read_claims,
)
from models.extracts import Expected, SourceFile
from models.profile import CANONICAL_FORM, Completeness, FileForm, Profile
from tasks.settings import Settings
from tasks.source.base import DELAYS, Inbox, Readable, Seen, SourceError, persist
from tasks.source.database import Database, is_database, shown_query
from tasks.source.folder import Folder
from tasks.source.raw import Kept, RawCopies

__all__ = ["Delivery", "SetAside", "SourceError", "open_delivery"]

log = logging.getLogger(__name__)

MARKER_BYTES_AT_MOST = 1 << 20
SAID_AT_MOST = 20
WATCHED_AT_MOST = 3.0
"""Times settle_seconds that a growing file is watched before it is left to the next run."""
_READABLE_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


@contextmanager
def open_delivery(
    settings: Settings,
    profile: Profile,
    inbox: Path | str,
    roster: Path | None = None,
    *,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
    delays: tuple[float, ...] = DELAYS,
) -> Iterator[Delivery]:
    """The files of each table of the profile, by table in the order of intake, kept raw and whole as far as can be told.

    `inbox` is a folder, a URL that fsspec takes (sftp, s3, …) or one of a database. Each file is copied into the lake
    under the hash of its bytes and read from there, so that a file that changes or vanishes meanwhile harms nothing.
    `roster` gives or replaces the table of that name; it is written in our own column names. Raises SourceError or
    DeliveryError when a file is missing, empty, a link, still growing, not what its marker says, or matched by two
    tables. Nothing half-copied stays behind.
    """
    copies = RawCopies(settings.lake / "raw")
    reading = _Reading(copies, profile, clock, sleep, delays)
    files: dict[str, list[SourceFile]] = {}
    set_aside: list[SetAside] = []
    if roster is not None:
        files["roster"] = [reading.read_roster(roster)]
    address = str(inbox)
    if isinstance(inbox, str) and "://" in inbox:
        _refuse_password(inbox)
    if isinstance(inbox, str) and is_database(inbox):
        files |= _read_database(Database(inbox, settings), copies, profile, skip=set(files), delays=delays)
    else:
        place = _open_inbox(address, settings)
        try:
            taken, set_aside = reading.read_inbox(place, skip=set(files))
            files |= taken
        finally:
            place.close()
    for each in set_aside[:SAID_AT_MOST]:
        log.warning("source %s: set aside: %s", each.name, each.reason)
    if len(set_aside) > SAID_AT_MOST:
        log.warning("source: %s more files are set aside", len(set_aside) - SAID_AT_MOST)
    yield Delivery({name: files[name] for name in TABLES if name in files}, set_aside)


def _open_inbox(address: str, settings: Settings) -> Inbox:
    scheme, is_url, path = address.partition("://")
    if not is_url:
        return Folder(Path(address))
    if scheme.lower() in ("file", "local"):
        return Folder(Path(path))
    if "::" in address:
        raise SourceError("HUIFANG_INBOX: a chain of URLs is not taken; name one folder")
    from tasks.source.remote import Remote

    return Remote(address, settings)


def _refuse_password(url: str) -> None:
    """A URL is shown in messages and listings of processes; a password has no business there."""
    try:
        parts = urlsplit(url)
        # What looks like a port before a / may be the start of a password that holds one.
        has_password = parts.password is not None or (
            parts.port is not None and not parts.username and "@" in parts.path
        )
    except ValueError:
        raise SourceError(
            "HUIFANG_INBOX: is no URL; write sftp://USER@HOST/PATH, s3://BUCKET/PREFIX or …://…"
        ) from None
    words = ("password", "passwd", "pwd", "secret", "token", "passphrase")
    given = [text for key, value in parse_qsl(parts.query) for text in (key, *re.findall(r"(\w+)\s*=", value))]
    has_password |= any(word in text.lower() for text in given for word in words)
    if has_password:
        raise SourceError(
            "HUIFANG_INBOX: a password stands in the URL; take it out and give HUIFANG_INBOX_PASSWORD_FILE, the path of "
            "a file that holds it"
        )


def _read_database(
    database: Database, copies: RawCopies, profile: Profile, *, skip: set[str], delays: tuple[float, ...]
) -> dict[str, list[SourceFile]]:
    wanted = {name: profile.tables[name] for name in TABLES if name in profile.tables and name not in skip}
    if missing := [name for name, found in wanted.items() if found.query is None and found.files]:
        raise SourceError(
            f"profile {profile.name}: {', '.join(missing)} have files but no query, and {database.shown} is a database; "
            "add tables.….query"
        )

    def read() -> dict[str, list[SourceFile]]:
        files = {}
        with database.reading() as connection:
            for name, found in wanted.items():
                if found.query is None:
                    continue
                where = f"profile {profile.name}, tables.{name}.query"
                shown = shown_query(found.query)
                kept = copies.keep_written(partial(database.write, connection, found.query, where), shown)
                form = profile.form_of(name).model_copy(
                    update={"format": "parquet", "header": None, "sheet": None, "complete": None}
                )
                files[name] = [_source_file(name, shown, kept, form)]
        return files

    try:
        files = persist(read, database.shown, close=database.close, delays=delays)
    finally:
        database.close()
    if not files and not skip:
        raise SourceError(f"profile {profile.name}: no table has a query, and {database.shown} is a database")
    return files


def _source_file(
    table_name: str, name: str, kept: Kept, form: FileForm, *, member: str = "", expected: Expected | None = None
) -> SourceFile:
    log.info("source %s: %s bytes, sha256 %s", name, kept.size_bytes, kept.sha256[:12])
    return SourceFile(table_name, name, kept.sha256, kept.size_bytes, str(kept.path), form, member, expected)


@dataclass(frozen=True)
class _Reading:
    """What reading an inbox needs beside it."""

    copies: RawCopies
    profile: Profile
    clock: Callable[[], float]
    sleep: Callable[[float], None]
    delays: tuple[float, ...]

    def read_roster(self, path: Path) -> SourceFile:
        if not path.is_file() and not path.is_symlink():
            raise SourceError(f"{path}: no such file; --roster names who receives mail for each branch")
        folder = Folder(path.parent)
        name = path.name
        seen = self._settle(folder, {name: _present(folder.see(name), name)})
        kept = self._keep(folder, name, seen[name])
        _check_magic(kept, name, CANONICAL_FORM)
        log.info("source %s: %s bytes, sha256 %s", name, kept.size_bytes, kept.sha256[:12])
        form = form_for(CANONICAL_FORM, name)
        return SourceFile("roster", name, kept.sha256, kept.size_bytes, str(kept.path), form, is_canonical=True)

    def read_inbox(self, inbox: Inbox, *, skip: set[str]) -> tuple[dict[str, list[SourceFile]], list[SetAside]]:
        """The files of each table, and what lies beside them and is not taken."""
        wanted = [name for name in TABLES if name in self.profile.tables and name not in skip]
        patterns = {name: self._patterns(name, inbox) for name in wanted}
        every = [pattern for found in self._all_patterns().values() for pattern in found]
        listed = persist(
            lambda: inbox.list_files(lambda folder: any(reaches(pattern, folder) for pattern in every)),
            inbox.shown, close=inbox.close, delays=self.delays,
        )  # fmt: skip
        unshowable = [_unshowable(name, seen) for name, seen in listed.items() if not name.isprintable()]
        listed = {name: seen for name, seen in listed.items() if name.isprintable()}
        found = {name: self._find(inbox, listed, name, patterns[name]) for name in wanted if patterns[name]}
        if not found and not skip:
            raise SourceError(f"profile {self.profile.name}: no table has files, and {inbox.shown} holds files")
        owners: dict[str, str] = {}
        for table_name, names in found.items():
            for name in names:
                if (other := owners.setdefault(name, table_name)) != table_name:
                    raise SourceError(f"{name}: matches the files of both {other} and {table_name}; change the profile")
        markers = {name: self._marker(name, table_name, listed) for name, table_name in owners.items()}
        growing = {name: listed[name] for name in owners if markers[name] is None and listed[name].kind == "file"}
        settled = {name: listed[name] for name in owners} | self._settle(inbox, growing)
        files: dict[str, list[SourceFile]] = {}
        set_aside = unshowable + self._left_over(listed, {*owners, *filter(None, markers.values())}, skip)
        for table_name, names in found.items():
            taken, doubled = self._take(inbox, table_name, names, settled, markers)
            files[table_name] = taken
            set_aside += doubled
        return files, set_aside

    def _patterns(self, table_name: str, inbox: Inbox) -> list[str]:
        declared = self.profile.tables[table_name]
        where = f"profile {self.profile.name}, tables.{table_name}"
        if declared.query is not None and not declared.files:
            raise SourceError(f"{where}: has a query but no files, and {inbox.shown} is no database; add files")
        for pattern in declared.files:
            if pattern.startswith("/") or ".." in pattern.split("/"):
                raise SourceError(f"{where}.files: {pattern} leads out of the inbox")
        return declared.files

    def _all_patterns(self) -> dict[str, list[str]]:
        return {name: declared.files for name, declared in self.profile.tables.items()}

    def _find(self, inbox: Inbox, listed: Mapping[str, Seen], table_name: str, patterns: list[str]) -> list[str]:
        """The files of a table: each that is named outright, and at least one of those named by patterns."""
        found: dict[str, None] = {}
        for pattern in patterns:
            for name, seen in listed.items():
                if seen.kind == "link" and "**" not in pattern and reaches(pattern, name):
                    raise SourceError(
                        f"{name}: what lies behind a symbolic link is not taken; deliver the files themselves"
                    )
            named = [name for name in sorted(listed) if matches(pattern, name) and not is_unfinished(name)]
            if not named and not glob.has_magic(pattern):
                raise SourceError(_missing(inbox, listed, pattern, table_name))
            found.update(dict.fromkeys(named))
        complete = self.profile.form_of(table_name).complete
        if complete is not None:
            for marker in [marker_of(complete, name) for name in found]:
                found.pop(marker or "", None)
            for name in listed:
                of = marked_by(complete, name)
                if of and of not in listed and any(matches(pattern, of) for pattern in patterns):
                    raise SourceError(f"{of}: has not come, though {name} has; the next run will take them")
        if not found:
            raise SourceError(_missing(inbox, listed, " or ".join(patterns), table_name))
        return list(found)

    def _marker(self, name: str, table_name: str, listed: Mapping[str, Seen]) -> str | None:
        complete = self.profile.form_of(table_name).complete
        marker = marker_of(complete, name) if complete is not None else None
        if marker is not None and marker not in listed:
            raise SourceError(f"{name}: is not complete yet: {marker} has not come; the next run will take it")
        return marker

    def _settle(self, inbox: Inbox, growing: Mapping[str, Seen]) -> dict[str, Seen]:
        """The files as they are once each has been quiet long enough."""
        quiet_for = self.profile.settle_seconds
        began = self.clock()
        since = {
            name: seen.modified_at if seen.modified_at is not None and seen.modified_at <= began else began
            for name, seen in growing.items()
        }
        now_seen = dict(growing)
        while waiting := {name: left for name in since if (left := since[name] + quiet_for - self.clock()) > 0}:
            spent = self.clock() - began
            if spent >= WATCHED_AT_MOST * quiet_for:
                raise SourceError(
                    f"{', '.join(sorted(waiting))}: is still growing; left alone, the next run will take it"
                )
            self.sleep(min(max(waiting.values()), WATCHED_AT_MOST * quiet_for - spent) + 0.01)
            for name in waiting:
                seen = self._see(inbox, name)
                if seen != now_seen[name]:
                    now_seen[name], since[name] = seen, self.clock()
        return now_seen

    def _see(self, inbox: Inbox, name: str) -> Seen:
        seen = persist(lambda: inbox.see(name), f"{inbox.shown}: {name}", close=inbox.close, delays=self.delays)
        return _present(seen, name)

    def _take(
        self,
        inbox: Inbox,
        table_name: str,
        names: list[str],
        seen: Mapping[str, Seen],
        markers: Mapping[str, str | None],
    ) -> tuple[list[SourceFile], list[SetAside]]:
        declared = self.profile.form_of(table_name)
        taken: list[SourceFile] = []
        doubled: list[SetAside] = []
        first: dict[str, str] = {}
        for name in names:
            marker, claims = markers[name], None
            if marker is not None and declared.complete is not None:
                claims = self._read_marker(inbox, marker, name, declared.complete, declared.encoding or "utf-8")
            kept = self._keep(inbox, name, seen[name], md5=claims is not None and claims.md5 is not None)
            if claims is not None:
                claims.check_bytes(name, size_bytes=kept.size_bytes, md5=kept.md5, sha256=kept.sha256)
            if (same := first.setdefault(kept.sha256, name)) != name:
                doubled.append(SetAside(name, table_name, kept.sha256, kept.size_bytes, f"the same bytes as {same}"))
                continue
            form = form_for(declared, name)
            _check_magic(kept, name, form)
            if not name.lower().endswith(".zip"):
                expected = claims.expected if claims is not None else None
                taken.append(_source_file(table_name, name, kept, form, expected=expected))
                continue
            entries = _list_archive(kept, name)
            if claims is not None and len(entries) > 1 and (claims.expected.rows is not None or claims.expected.totals):
                raise SourceError(
                    f"{name}: {marker} tells its rows, but it holds {len(entries)} files; pack each of them by itself"
                )
            for entry in entries:
                taken.append(
                    _source_file(
                        table_name, f"{name}/{entry.name}", kept, form_for(declared, entry.name),
                        member=entry.name, expected=claims.expected if claims is not None else None,
                    )
                )  # fmt: skip
        return taken, doubled

    def _read_marker(self, inbox: Inbox, marker: str, name: str, complete: Completeness, encoding: str) -> Claims:
        def read() -> bytes:
            with inbox.open(marker) as file:
                content = b""
                while len(content) <= MARKER_BYTES_AT_MOST and (block := file.read(MARKER_BYTES_AT_MOST + 1)):
                    content += block
                return content

        content = persist(read, f"{inbox.shown}: {marker}", close=inbox.close, delays=self.delays)
        if len(content) > MARKER_BYTES_AT_MOST:
            raise SourceError(f"{marker}: is longer than {MARKER_BYTES_AT_MOST:,} bytes; a marker is a few lines")
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError as error:
            raise SourceError(
                f"{marker}: is not {encoding} at byte {error.start}; change the encoding in the profile"
            ) from None
        return read_claims(complete, name.rpartition("/")[2], text, marker)

    def _keep(self, inbox: Inbox, name: str, before: Seen, *, md5: bool = False) -> Kept:
        """The raw copy of a file that is the same after copying as it was before."""

        def copy() -> Kept:
            now = _present(inbox.see(name), name)
            if now.size_bytes != before.size_bytes:
                raise SourceError(f"{name}: is still growing; left alone, the next run will take it")
            with inbox.open(name) as file:
                return self.copies.keep(_Unchanged(file, inbox, name, now), name, md5=md5)

        if before.kind == "link":
            raise SourceError(f"{name}: is a symbolic link; deliver the file itself")
        if before.kind == "other":
            raise SourceError(f"{name}: is not a plain file")
        return persist(copy, f"{inbox.shown}: {name}", close=inbox.close, delays=self.delays)

    def _left_over(self, listed: Mapping[str, Seen], used: set[str], skip: set[str]) -> list[SetAside]:
        replaced = [pattern for name in skip for pattern in self._all_patterns().get(name, [])]
        left = []
        for name in sorted(set(listed) - used):
            reason = f"no table of profile {self.profile.name} takes it"
            if is_unfinished(name):
                reason = "still being written, as its name says; left alone"
            elif any(matches(pattern, name) for pattern in replaced):
                reason = "--roster gives another file for its table"
            left.append(SetAside(name, "", "", listed[name].size_bytes, reason))
        return left


@dataclass(frozen=True)
class _Unchanged:
    """A file's bytes to the end, where it must still be the file that was seen."""

    file: Readable
    inbox: Inbox
    name: str
    before: Seen

    def read(self, size: int, /) -> bytes:
        block = self.file.read(size)
        if not block and (after := self.inbox.see(self.name)) != self.before:
            what = "has vanished" if after is None else "has changed"
            raise SourceError(f"{self.name}: {what} while it was read; the next run will take it")
        return block


def _unshowable(name: str, seen: Seen) -> SetAside:
    shown = "".join(letter if letter.isprintable() else "?" for letter in name)
    return SetAside(shown, "", "", seen.size_bytes, "its name holds characters that cannot be shown; have it renamed")


def _present(seen: Seen | None, name: str) -> Seen:
    if seen is None:
        raise SourceError(f"{name}: has vanished; the next run will look again")
    return seen


def _missing(inbox: Inbox, listed: Mapping[str, Seen], wanted: str, table_name: str) -> str:
    names = sorted(listed)
    shown = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    return f"{inbox.shown}: no file {wanted} for table {table_name}; found {shown or 'nothing'}"


def _check_magic(kept: Kept, name: str, form: FileForm) -> None:
    """What a file's name says of its packing and what its first bytes say must agree; gzip is told by its bytes alone."""
    with kept.path.open("rb") as raw:
        start = raw.read(4)
    is_zip = start in (b"PK\x03\x04", b"PK\x05\x06")
    ending = name.lower()
    if ending.endswith(".gz") and start[:2] != b"\x1f\x8b":
        raise SourceError(f"{name}: is not gzip; deliver it again or drop .gz from its name")
    if ending.endswith(".zip") and not is_zip:
        raise SourceError(f"{name}: is no zip archive; deliver it again or name it as what it is")
    if is_zip and not ending.endswith(".zip") and form.format != "xlsx":
        raise SourceError(f"{name}: is a zip archive or a workbook under another name; name it .zip or .xlsx")


def _list_archive(kept: Kept, name: str) -> list[Entry]:
    try:
        with zipfile.ZipFile(kept.path, metadata_encoding=ARCHIVE_NAMES) as archive:
            found = archive.infolist()
    except (zipfile.BadZipFile, UnicodeDecodeError, NotImplementedError, ValueError, OSError) as error:
        raise SourceError(f"{name}: is a damaged zip archive ({type(error).__name__}); ask for it again") from None
    return check_archive(
        name,
        kept.size_bytes,
        [
            Entry(
                # What follows a NUL is cut off the filename, and may be what another program goes by.
                info.filename if "\0" not in info.orig_filename else info.orig_filename,
                info.file_size,
                is_folder=info.is_dir(),
                is_link=info.create_system == 3 and stat.S_ISLNK(info.external_attr >> 16),
                is_encrypted=bool(info.flag_bits & 0x1),
                is_readable=info.compress_type in _READABLE_METHODS,
            )
            for info in found
        ],
    )
