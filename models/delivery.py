"""What belongs to a delivery and whether it is whole: names, patterns, markers and trailers, what an archive lists.

Text in, values out; where the files lie and how they are read stay out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fnmatch import fnmatchcase

from models import CallbackError
from models.extracts import Expected, SourceFile
from models.profile import Completeness, FileForm, Format

ENTRIES_AT_MOST = 1_000
"""Entries of an archive: a delivery has a handful of files; listing millions of entries is an attack of its own."""
RATIO_AT_MOST = 200
"""Unpacked bytes for each packed one: extracts pack 5 to 30 times; bombs need a thousand."""
ENTRY_BYTES_AT_MOST = 10**12
"""100 million transactions are 7 GB of text."""
ARCHIVE_NAMES = "gb18030"
"""How names in an archive are read that are not marked as UTF-8: open it with this metadata_encoding."""

_PACKED = (".zip", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar", ".tar", ".tgz")
_UNFINISHED = (".part", ".partial", ".tmp", ".temp", ".filepart", ".crdownload", ".swp", "~")
_HASHES = {"md5": 32, "sha256": 64}


class DeliveryError(CallbackError):
    """A delivery is not whole, or is not what its markers and its archive say."""


@dataclass(frozen=True)
class SetAside:
    """A file of the inbox that is not taken in, and why."""

    name: str
    table_name: str
    """Empty when it belongs to no table."""
    sha256: str
    """Empty when it was not read."""
    size_bytes: int
    reason: str


@dataclass(frozen=True)
class Delivery:
    """The files of each table in the order of intake, and those that were left alone."""

    files: Mapping[str, list[SourceFile]]
    set_aside: list[SetAside] = field(default_factory=list)

    def items(self) -> Iterable[tuple[str, list[SourceFile]]]:
        return self.files.items()

    def __getitem__(self, table_name: str) -> list[SourceFile]:
        return self.files[table_name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)


# ---- names --------------------------------------------------------------------------------------------------


def matches(pattern: str, name: str) -> bool:
    """Whether a pattern of files names this one, part by part; ** stands for any folders.

    >>> matches("in/customers*.csv", "in/customers_1.csv"), matches("*.csv", "in/a.csv"), matches("**/*.csv", "a.csv")
    (True, False, True)
    """
    return _match(pattern.split("/"), name.split("/"))


def _match(patterns: Sequence[str], parts: Sequence[str]) -> bool:
    if not patterns or not parts:
        return not parts and all(pattern == "**" for pattern in patterns)
    if patterns[0] == "**":
        return _match(patterns[1:], parts) or _match(patterns, parts[1:])
    return fnmatchcase(parts[0], patterns[0]) and _match(patterns[1:], parts[1:])


def reaches(pattern: str, folder: str) -> bool:
    """Whether a pattern may name files somewhere below this folder.

    >>> reaches("in/*.csv", "in"), reaches("*.csv", "in"), reaches("**/*.csv", "a/b")
    (True, False, True)
    """
    patterns, parts = pattern.split("/"), folder.split("/")
    for place, part in enumerate(parts):
        if place >= len(patterns) - 1:
            return False
        if patterns[place] == "**":
            return True
        if not fnmatchcase(part, patterns[place]):
            return False
    return True


def is_unfinished(name: str) -> bool:
    """Whether a name says that somebody is still writing: hidden, or with the ending of a transfer under way.

    >>> is_unfinished("in/.customers.csv"), is_unfinished("customers.csv.filepart"), is_unfinished("customers.csv")
    (True, True, False)
    """
    base = name.rpartition("/")[2].lower()
    return base.startswith((".", "~")) or base.endswith(_UNFINISHED)


def form_for(form: FileForm, name: str) -> FileForm:
    """The form with its format: what the profile says, else what the name's ending tells, behind .gz and .zip too.

    >>> form_for(FileForm(), "branches.XLSX").format, form_for(FileForm(), "customers.parquet.gz").format
    ('xlsx', 'parquet')
    """
    ending = name.lower()
    for packed in (".gz", ".zip"):
        ending = ending.removesuffix(packed)
    found: Format = "parquet" if ending.endswith(".parquet") else "xlsx" if ending.endswith(".xlsx") else "text"
    return form.model_copy(update={"format": form.format or found})


# ---- completeness -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Claims:
    """What a marker says: the bytes it vouches for, and what the rows must come to."""

    expected: Expected
    size_bytes: int | None = None
    md5: str | None = None
    sha256: str | None = None

    def check_bytes(self, name: str, *, size_bytes: int, md5: str | None, sha256: str) -> None:
        """Raises DeliveryError when the file's bytes are not those the marker vouches for."""
        said = self.expected.said_by
        if self.size_bytes is not None and self.size_bytes != size_bytes:
            raise DeliveryError(
                f"{name}: has {size_bytes:,} bytes, {said} says {self.size_bytes:,}; ask for the file again"
            )
        for kind, claimed, found in (("md5", self.md5, md5), ("sha256", self.sha256, sha256)):
            if claimed is not None and claimed != found:
                raise DeliveryError(f"{name}: its {kind} is not the one {said} says; ask for the file again")


def marker_of(complete: Completeness, name: str) -> str | None:
    """The file that must lie beside this one; None when none is asked for.

    >>> marker_of(Completeness(marker="{stem}.ctl"), "in/customers.csv.gz")
    'in/customers.ctl'
    """
    if complete.marker is None:
        return None
    folder, slash, base = name.rpartition("/")
    stem = base.partition(".")[0]
    return folder + slash + complete.marker.replace("{name}", base).replace("{stem}", stem)


def marked_by(complete: Completeness, marker: str) -> str | None:
    """The file that a marker is beside, where the marker's name tells it."""
    folder, slash, base = marker.rpartition("/")
    before, found, after = (complete.marker or "").partition("{name}")
    if not found or "{" in before + after or not base.startswith(before) or not base.endswith(after):
        return None
    return folder + slash + base[len(before) : len(base) - len(after)] or None


def read_claims(complete: Completeness, name: str, text: str, said_by: str) -> Claims:
    """What a marker, or a trailer (the file's last line), says of a file.

    `name` is the file's name without folders. ^ and $ in the pattern stand for the bounds of a line. Raises
    DeliveryError when the text says nothing, two different things, or a number in a form that could be read in two ways.
    """
    text = text.removeprefix("\ufeff")
    found: dict[str, str] = {}
    if complete.trailer is not None:
        text = text.rstrip("\r\n")
        line = re.match(complete.trailer.replace("{name}", re.escape(name)), text)
        if line is None:
            raise DeliveryError(
                f"{name}: its last line is no trailer as the profile describes it; is the file cut off?"
            )
        found |= _groups(line)
    if complete.pattern is not None:
        pattern = re.compile(complete.pattern.replace("{name}", re.escape(name)), re.MULTILINE)
        each = [_groups(match) for match in pattern.finditer(text.replace("\r\n", "\n"))]
        if not each:
            raise DeliveryError(f"{said_by}: says nothing of {name} that the profile's pattern finds; ask for it again")
        if any(other != each[0] for other in each):
            raise DeliveryError(f"{said_by}: says different things of {name}; make the profile's pattern name the line")
        found |= each[0]
    if complete.trailer is not None and (wrong := sorted({"bytes", *_HASHES} & set(found))):
        raise DeliveryError(f"{said_by}: a trailer cannot tell {', '.join(wrong)} of the file it is part of; use rows")
    for kind, length in _HASHES.items():
        if kind in found and not re.fullmatch(f"[0-9a-fA-F]{{{length}}}", found[kind]):
            raise DeliveryError(f"{said_by}: {kind} of {name} is not {length} hexadecimal digits")
    rows, size = (_whole(found[key], key, said_by) if key in found else None for key in ("rows", "bytes"))
    totals = {
        key: _plain(value, key, said_by) for key, value in found.items() if key not in ("rows", "bytes", *_HASHES)
    }
    return Claims(
        Expected(rows=rows, totals=totals, said_by=said_by),
        size,
        *(found[kind].lower() if kind in found else None for kind in _HASHES),
    )


def read_expected(complete: Completeness, name: str, text: str, said_by: str) -> Expected:
    """What a marker or a trailer says that the rows of a file come to; see read_claims.

    >>> read_expected(Completeness(trailer=r"T[|](?P<rows>[0-9]+)"), "customers.txt", "T|12", "its last line").rows
    12
    """
    return read_claims(complete, name, text, said_by).expected


def _groups(match: re.Match[str]) -> dict[str, str]:
    return {key: value for key, value in match.groupdict().items() if value is not None}


def _whole(value: str, key: str, said_by: str) -> int:
    if not re.fullmatch("[0-9]{1,18}", value):
        raise DeliveryError(
            f"{said_by}: {key} is no plain number; change the pattern, or have it written in digits only"
        )
    return int(value)


def _plain(value: str, key: str, said_by: str) -> Decimal:
    if not re.fullmatch("[+-]?[0-9]{1,30}([.][0-9]{1,10})?", value):
        raise DeliveryError(f"{said_by}: the total of {key} is no plain number; have it written without separators")
    return Decimal(value)


# ---- archives -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """What an archive declares of one entry."""

    name: str
    size_bytes: int
    is_folder: bool = False
    is_link: bool = False
    is_encrypted: bool = False
    is_readable: bool = True
    """Packed by a method that can be unpacked here."""


def check_archive(archive: str, size_bytes: int, entries: Sequence[Entry]) -> list[Entry]:
    """The entries of an archive that are files of the delivery, in the archive's order.

    Raises DeliveryError for an entry that leads elsewhere, is locked, doubled or packed twice, for a bomb, and when
    nothing is left. What an entry really holds is only known when it is read; mind its declared size there.
    """
    if len(entries) > ENTRIES_AT_MOST:
        raise DeliveryError(f"{archive}: has {len(entries):,} entries; at most {ENTRIES_AT_MOST:,} are read")
    kept: dict[str, Entry] = {}
    for entry in entries:
        shown = f"{archive}/{entry.name.replace(chr(0), '?')}"
        parts = re.split(r"[/\\]", entry.name)
        if parts[0] == "" or ".." in parts or re.match("[A-Za-z]:", entry.name) or "\0" in entry.name:
            raise DeliveryError(f"{shown}: leads out of the archive; nothing of it is taken")
        if entry.is_link:
            raise DeliveryError(f"{shown}: is a link; pack the file itself")
        if entry.is_encrypted:
            raise DeliveryError(f"{shown}: is encrypted; deliver it without a password")
        if entry.size_bytes > ENTRY_BYTES_AT_MOST:
            raise DeliveryError(f"{shown}: declares {entry.size_bytes:,} bytes; an archive bomb is not unpacked")
        if entry.is_folder or "__MACOSX" in parts or parts[-1] == ".DS_Store":
            continue
        if not entry.is_readable:
            raise DeliveryError(f"{shown}: is packed by a method that cannot be unpacked here; pack it by deflate")
        if entry.name.lower().endswith(_PACKED):
            raise DeliveryError(f"{shown}: is an archive within an archive; pack the files themselves")
        if entry.size_bytes == 0:
            raise DeliveryError(f"{shown}: is empty; ask for the file again")
        if entry.name in kept:
            raise DeliveryError(f"{shown}: is in the archive twice; which one holds?")
        kept[entry.name] = entry
    if (total := sum(entry.size_bytes for entry in entries)) > RATIO_AT_MOST * size_bytes:
        raise DeliveryError(
            f"{archive}: would grow from {size_bytes:,} to {total:,} bytes, more than {RATIO_AT_MOST} times; "
            "an archive bomb is not unpacked"
        )
    if not kept:
        raise DeliveryError(f"{archive}: holds no file; ask for it again")
    return list(kept.values())
