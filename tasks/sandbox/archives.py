"""Archives opened within the limits: zip, 7z, and the winmail.dat of Outlook."""

from __future__ import annotations

import io
import lzma
import posixpath
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

from tasks.sandbox.limits import (
    LIST_SECONDS,
    MAX_CYCLES,
    SLOW_BYTES,
    ZIP_BYTES,
    ZIP_MEMBER_BYTES,
    ZIP_MEMBERS,
    ZIP_RATIO,
    TooLarge,
    WrongPassword,
)
from tasks.sandbox.patience import at_most
from tasks.sandbox.text import visible

_AES = 99
# The method, the length of its properties, and the first of them (7-Zip, DOC/Methods.txt).
_AES_7Z = rb"\x24\x06\xf1\x07\x01.(.)"
_ENTRY = b"PK\x01\x02"
# What file managers leave beside the files they pack.
_LITTER = ("__MACOSX/", "._", "~$", "Thumbs.db", ".DS_Store", "desktop.ini")


def open_zip(content: bytes) -> zipfile.ZipFile:
    """A zip within the limits, with its names as people wrote them.

    A name without UTF-8 flag is UTF-8 all the same (macOS) or GB18030 (Chinese Windows).
    """
    archive = _with_names(content)
    members = archive.infolist()
    _check_sizes([(member.filename, member.file_size) for member in members], len(content))
    return archive


def unpack_zip(content: bytes, passwords: Sequence[str]) -> Iterator[tuple[str, bytes, bool]]:
    """Each member of a zip: its path, its bytes, and whether it was locked. Raises WrongPassword, TooLarge."""
    with open_zip(content) as plain:
        members = [member for member in plain.infolist() if not member.is_dir() and not _is_litter(member.filename)]
        locked = [member for member in members if member.flag_bits & 1]
        # The old encryption is undone in Python, two megabytes a second.
        if sum(member.file_size for member in locked if member.compress_type != _AES) > SLOW_BYTES:
            raise TooLarge
        for member in members:
            if not member.flag_bits & 1:
                yield _path(member.filename), plain.read(member), False
        if any(member.compress_type == _AES for member in locked):
            import pyzipper  # only now: few archives are locked, and every child would pay for it

            with pyzipper.AESZipFile(io.BytesIO(content)) as archive:
                by_place = {member.header_offset: member for member in archive.infolist()}
                for member in locked:
                    yield _path(member.filename), _unlock(archive, by_place[member.header_offset], passwords), True
        else:
            for member in locked:
                yield _path(member.filename), _unlock(plain, member, passwords), True


def unpack_7z(content: bytes, passwords: Sequence[str]) -> Iterator[tuple[str, bytes, bool]]:
    """Each member of a 7z, as `unpack_zip`."""
    import py7zr  # ten packages that few messages need
    from py7zr.exceptions import ArchiveError, PasswordRequired

    _check_cycles(content)
    for password in (None, *passwords):
        try:
            with at_most(LIST_SECONDS):
                archive = py7zr.SevenZipFile(io.BytesIO(content), password=password, max_extract_size=ZIP_BYTES)
            with archive:
                # Where names are in clear, how they are locked stands in a list that was packed until now.
                for coder in _coders(archive):
                    _check_cycles(coder)
                is_locked = archive.needs_password()
                entries = archive.list()
                _check_sizes([(entry.filename, entry.uncompressed or 0) for entry in entries], len(content))
                if is_locked and password is None:
                    continue
                factory = py7zr.io.BytesIOFactory(ZIP_MEMBER_BYTES)
                archive.extractall(factory=factory)
        except PasswordRequired:
            continue
        except py7zr.exceptions.DecompressionBombError:
            raise TooLarge from None
        except (ArchiveError, lzma.LZMAError, zlib.error, ValueError, EOFError, OSError, KeyError, TypeError):
            if password is None:
                raise ValueError("no 7z that can be read") from None
            continue  # a wrong password shows itself as broken content
        for name, product in factory.products.items():
            if not _is_litter(name):
                product.seek(0)
                yield _path(name), product.read(), is_locked
        return
    raise WrongPassword


def unpack_tnef(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Each attachment of a winmail.dat: its name and its bytes."""
    from tnefparse import TNEF
    from tnefparse.properties import MAPI_ATTACH_LONG_FILENAME

    with at_most(LIST_SECONDS):
        attachments = TNEF(content, do_checksum=False).attachments
    for attachment in attachments:
        long_names = [entry.data for entry in attachment.mapi_attrs if entry.name == MAPI_ATTACH_LONG_FILENAME]
        # Its own name property takes every short name for UTF-8.
        name = long_names[0] if long_names else attachment._name
        if isinstance(name, bytes):
            try:
                name = name.decode("utf-8")
            except UnicodeDecodeError:
                name = name.decode("gb18030", "replace")
        data = attachment.data
        yield _path(str(name).strip("\0")), data if isinstance(data, bytes) else b"".join(data)


def _with_names(content: bytes) -> zipfile.ZipFile:
    check_directory(content)
    for encoding in ("utf-8", "gb18030"):
        try:
            return zipfile.ZipFile(io.BytesIO(content), metadata_encoding=encoding)
        except UnicodeDecodeError:
            continue
    return zipfile.ZipFile(io.BytesIO(content))


def _check_cycles(content: bytes) -> None:
    """Raise TooLarge where the key of a 7z asks for more hashing than any program does: up to 2 to the 62nd rounds."""
    for place in re.finditer(_AES_7Z, content, re.DOTALL):
        if MAX_CYCLES < place[1][0] & 63 < 63:
            raise TooLarge


def _coders(archive: Any) -> Iterator[bytes]:
    """How each packed stream of an opened 7z is locked, as it stands in its list."""
    streams = archive.header.main_streams
    for folder in streams.unpackinfo.folders if streams is not None else ():
        for coder in folder.coders:
            properties = coder["properties"] or b""
            yield coder["method"] + bytes([len(properties) & 255]) + properties


def check_directory(content: bytes) -> None:
    """Raise TooLarge where listing a zip would take long: the library reads every entry before it can be asked how many."""
    # A zip in the zip that is not packed anew counts too.
    if content.count(_ENTRY) > 10 * ZIP_MEMBERS:
        raise TooLarge


def _check_sizes(members: Sequence[tuple[str, int]], packed_bytes: int) -> None:
    total = sum(size for _, size in members)
    if (
        len(members) > ZIP_MEMBERS
        or total > ZIP_BYTES
        or any(size > ZIP_MEMBER_BYTES for _, size in members)
        or len({name for name, _ in members}) != len(members)
        # Small files of nothing but blanks are honest and compress well.
        or (total > 1 << 20 and total > ZIP_RATIO * packed_bytes)
    ):
        raise TooLarge


def _unlock(archive: zipfile.ZipFile, member: zipfile.ZipInfo, passwords: Sequence[str]) -> bytes:
    for password in passwords:
        for encoding in ("utf-8", "gb18030"):
            try:
                return archive.read(member, pwd=password.encode(encoding))
            except (RuntimeError, zipfile.BadZipFile, zlib.error, EOFError):
                # One in 256 wrong passwords passes the old check; then the content is broken.
                if password.isascii():
                    break
    raise WrongPassword


def _is_litter(path: str) -> bool:
    return path.startswith(_LITTER[0]) or posixpath.basename(path.replace("\\", "/")).startswith(_LITTER[1:])


def _path(path: str) -> str:
    """Where a member lies in its archive, its folders parted by strokes."""
    return visible(path.replace("\\", "/"))[-400:]
