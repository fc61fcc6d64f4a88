"""Every part of a message, however it is wrapped: kept as a file, unpacked, read if it is a workbook."""

from __future__ import annotations

import base64
import binascii
import email
import email.message
import hashlib
import io
import os
import quopri
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msoffcrypto
from msoffcrypto.exceptions import InvalidKeyError

from tasks.sandbox.archives import unpack_7z, unpack_tnef, unpack_zip
from tasks.sandbox.headers import file_name_of
from tasks.sandbox.kinds import TABLES, kind_of, media_type_of
from tasks.sandbox.limits import (
    CUT_OFF,
    MAX_CELLS,
    MAX_DEPTH,
    MAX_LEVEL,
    MAX_PARTS,
    MAX_SEEN_PARTS,
    MAX_SPINS,
    MAX_WORKBOOKS,
    MEASURE_SECONDS,
    MESSAGE_CELLS,
    UNPACKED_BYTES,
    LockedOds,
    TooLarge,
    TooMany,
    Unkept,
    WrongPassword,
)
from tasks.sandbox.locked_ods import unlock_ods
from tasks.sandbox.long_parts import LongContent, LongParts, parse_whole
from tasks.sandbox.media import measure
from tasks.sandbox.outlook import unpack_msg
from tasks.sandbox.patience import apart, at_most
from tasks.sandbox.scan import NotClean, check_clean
from tasks.sandbox.workbooks import read_csv, read_workbook


class Walk:
    """Every part of one message, however deep, each non-text leaf kept as a file.

    `depth` counts messages within messages, `level` wrappings of any kind.
    """

    def __init__(self, out_dir: Path, passwords: Sequence[str], clamd: str = "") -> None:
        self.out_dir = out_dir
        self.passwords = passwords
        self.clamd = clamd
        self.unpacked_bytes = 0
        self.seen_parts = 0
        self.is_left = False
        self.cells_left = MESSAGE_CELLS
        self.measuring_left: float = MEASURE_SECONDS
        self.defects: set[str] = set()
        self.workbooks: list[dict[str, Any]] = []
        self.files: list[dict[str, Any]] = []
        self.folders: tuple[str, ...] = ()
        """The archives and the folders in them that are being looked into."""

    def take_whole(self, message: email.message.Message, long_parts: LongParts) -> None:
        """The message and all it carries; beyond the limits what was found is left standing beside the refusal."""
        self.long_parts = long_parts
        try:
            self.take(message, 0, 0)
        except TooMany:
            self.defects.add("TooManyParts")
            self.workbooks.append(_workbook("", 0, error="too_many_parts"))

    def take(self, part: email.message.Message, depth: int, level: int) -> None:
        self.seen_parts += 1
        if self.seen_parts > MAX_SEEN_PARTS:
            raise TooMany
        self.defects.update(type(defect).__name__ for defect in part.defects)
        media_type = part.get_content_type()
        if media_type == "message/partial":
            self.workbooks.append(_workbook(file_name_of(part), depth, error="partial"))
            return
        content = part.get_payload()
        if isinstance(content, list):
            if media_type == "message/rfc822" and (decoded := self._decoded(part, content)) is not None:
                self.take_mail(decoded, depth, level)
                return
            for child in content:
                # compat32 gives messages here; its types allow texts.
                assert isinstance(child, email.message.Message)
                try:
                    self._go_deeper(depth, child, level, is_message=media_type == "message/rfc822")
                except (TooMany, NotClean, Unkept, RecursionError, MemoryError):
                    raise
                except Exception as fault:  # noqa: BLE001 (a parser on hostile bytes: the part is lost and named)
                    self.workbooks.append(_workbook("", depth, error=self._unreadable(fault)))
            return
        name = file_name_of(part)
        is_attached = name or part.get_content_disposition() == "attachment" or media_type in TABLES
        if part.get_content_maintype() == "text" and not is_attached:
            return
        payload = self.long_parts.content_of(part)
        self.defects.update(type(defect).__name__ for defect in part.defects)
        if isinstance(payload, LongContent):
            self.keep_long(payload, name, media_type, depth, level)
        elif payload:
            self.keep(payload, name, media_type, depth, level)
        elif name:
            self.keep_empty(name, depth)

    def _go_deeper(self, depth: int, message: email.message.Message, level: int, *, is_message: bool) -> None:
        if not is_message:
            self.take(message, depth, level)
            return
        if depth >= MAX_DEPTH:
            self._leave("", depth)
            return
        # A letter that is cut off was so before it was passed on, unless the message around it is cut off too.
        around, self.defects = self.defects, set()
        books, files = len(self.workbooks), len(self.files)
        try:
            self.take(message, depth + 1, level)
        finally:
            within, self.defects = self.defects, around
            self.defects |= within - CUT_OFF
            if not within.isdisjoint(CUT_OFF):
                for book in self.workbooks[books:]:
                    book.update(sheets=[], error="truncated")
                for file in self.files[files:]:
                    file["fault"] = file["fault"] or "unreadable"

    def _leave(self, name: str, depth: int) -> None:
        """What lies deeper within each other than a return has is named and left; what stands beside it is looked at."""
        if not self.is_left:  # told once: there may be hundreds
            self.is_left = True
            self.workbooks.append(_workbook(name, depth, error="too_many_parts"))

    def take_mail(self, content: bytes, depth: int, level: int) -> None:
        """A message that came as a file."""
        try:
            message = parse_whole(content)
        except (TooLarge, MemoryError, RecursionError):
            self.workbooks.append(_workbook("", depth + 1, error="too_large"))
            return
        self._go_deeper(depth, message, level, is_message=True)

    def keep(self, content: bytes, name: str, media_type: str, depth: int, level: int) -> None:
        kind = kind_of(content, name, media_type)
        if kind == "tnef":
            self.unpack(kind, content, name, depth, level)
            return
        if kind == "mail":
            self.take_mail(content, depth, level)
            return
        if kind == "msg":
            if depth >= MAX_DEPTH:
                self._leave(name, depth)
                return
            self.unpack(kind, content, name, depth + 1, level)
            return
        self._add_file(content, name, media_type_of(content, name) or media_type, kind, depth)
        if kind in ("zip", "7z"):
            self.unpack(kind, content, name, depth, level)
        elif kind in ("refused", "unknown"):
            self.workbooks.append(_workbook(name, depth, error="archive" if kind == "refused" else "unsupported"))
        elif kind:
            self.read(content, name, kind, depth)

    def keep_long(self, content: LongContent, name: str, media_type: str, depth: int, level: int) -> None:
        """As `keep`; only what must be opened is read into memory."""
        kind = "zip" if content.head.startswith(b"PK") else kind_of(content.head, name, media_type)
        if not kind:
            self._add_file(content, name, media_type_of(content.head, name) or media_type, kind, depth)
            return
        whole = io.BytesIO()
        content.write_to(whole)
        self.keep(whole.getvalue(), name, media_type, depth, level)

    def keep_empty(self, name: str, depth: int) -> None:
        """A file without a byte, whatever it calls itself: it can only be told to whoever sent it."""
        self._add_file(b"", name, "application/x-empty", "", depth)

    def _add_file(self, content: bytes | LongContent, name: str, media_type: str, kind: str, depth: int) -> None:
        if len(self.files) >= MAX_PARTS:
            raise TooMany
        # Written whole or not at all: a child killed here leaves no half file under a true hash.
        partial = self.out_dir / f"{len(self.files)}.{os.getpid()}.tmp"
        try:
            with partial.open("wb") as file:
                if isinstance(content, bytes):
                    digest, size = hashlib.sha256(content).hexdigest(), len(content)
                    file.write(content)
                else:
                    digest, size = content.write_to(file)
            target = self.out_dir / digest
            partial.replace(target)
            seconds, fault = (None, "") if kind else self._measure(target, media_type)
        except OSError:
            partial.unlink(missing_ok=True)
            raise Unkept from None
        self.files.append(
            {
                "part": len(self.files) + 1, "name": name, "media_type": media_type,
                "size_bytes": size, "sha256": digest, "path": str(target),
                "is_workbook": kind not in ("", "zip", "7z", "refused"), "depth": depth,
                "folders": list(self.folders), "seconds": seconds, "fault": fault,
            }
        )  # fmt: skip

    def _measure(self, path: Path, media_type: str) -> tuple[float | None, str]:
        """As `measure`, for as long as a message may take: what comes after that is not measured."""
        if self.measuring_left <= 0:
            return None, ""
        began = time.process_time()
        try:
            with at_most(self.measuring_left):
                return measure(path, media_type)
        except TooLarge:
            return None, ""
        finally:
            self.measuring_left -= time.process_time() - began

    def unpack(self, kind: str, content: bytes, name: str, depth: int, level: int) -> None:
        if level >= MAX_LEVEL:
            self._leave(name, depth)
            return
        error, above = "", self.folders
        try:
            for path, inner, was_locked in self._members(kind, content):
                *folders, member = path.split("/")
                member = member[:200]
                self.folders = (*above, name, *folders)
                self._weigh(inner)
                if was_locked:
                    # The scanner saw only the locked archive.
                    check_clean(io.BytesIO(inner), self.clamd)
                if inner:
                    self.keep(inner, member, "application/octet-stream", depth, level + 1)
                elif member:
                    self.keep_empty(member, depth)
        except (TooMany, NotClean, Unkept):
            raise
        except (TooLarge, MemoryError, RecursionError):
            error = "too_large"
        except WrongPassword:
            error = "wrong_password"
        except Exception as fault:  # noqa: BLE001 (four libraries' parsers on hostile bytes: the archive is lost and named)
            error = self._unreadable(fault)
        finally:
            self.folders = above
        if error:
            self.workbooks.append(_workbook(name, depth, error=error))

    def _weigh(self, inner: bytes) -> None:
        self.unpacked_bytes += len(inner)
        if self.unpacked_bytes > UNPACKED_BYTES:
            raise TooLarge

    def _members(self, kind: str, content: bytes) -> Iterator[tuple[str, bytes, bool]]:
        if kind == "zip":
            yield from unpack_zip(content, self.passwords)
        elif kind == "7z":
            yield from unpack_7z(content, self.passwords)
        else:
            unpack = unpack_msg if kind == "msg" else unpack_tnef
            yield from ((name, inner, False) for name, inner in unpack(content))

    def read(self, content: bytes, name: str, kind: str, depth: int) -> None:
        if len(self.workbooks) >= MAX_WORKBOOKS:
            raise TooMany
        was_encrypted = False
        try:
            if kind == "ole":
                content, was_encrypted = self.decrypt(content)
                kind = kind_of(content, name) if was_encrypted else "xls"
                kind = "xls" if kind == "ole" else kind
                if was_encrypted and not kind:
                    return  # a text document: evidence, and kept as it came
            elif kind == "ods":
                unlocked = unlock_ods(content, self.passwords)
                content, was_encrypted = (content, False) if unlocked is None else (unlocked, True)
            if was_encrypted:
                # The scanner saw only the locked workbook.
                check_clean(io.BytesIO(content), self.clamd)
            room = min(MAX_CELLS, self.cells_left)
            if kind == "csv":
                sheets = read_csv(content, name, room)
            elif kind == "xls":
                # Nothing looks through the old kind before its reader does, which some such files kill.
                sheets = apart(read_workbook, content, kind, room)
            else:
                sheets = read_workbook(content, kind, room)
            self.cells_left -= sum(len(row) for sheet in sheets for row in sheet["rows"])
        except NotClean:
            raise
        except (InvalidKeyError, WrongPassword):
            self.workbooks.append(_workbook(name, depth, True, error="wrong_password"))
        except LockedOds:
            self.workbooks.append(_workbook(name, depth, True, error="locked_ods"))
        except NotImplementedError:
            self.workbooks.append(_workbook(name, depth, was_encrypted, error="unsupported"))
        except (TooLarge, MemoryError, RecursionError):
            self.workbooks.append(_workbook(name, depth, was_encrypted, error="too_large"))
        except Exception as fault:  # noqa: BLE001 (four libraries' parsers on hostile bytes: the workbook is lost and named)
            self.workbooks.append(_workbook(name, depth, was_encrypted, error=self._unreadable(fault)))
        else:
            self.workbooks.append(_workbook(name, depth, was_encrypted, sheets))

    def _unreadable(self, fault: Exception) -> str:
        print(f"not read: {type(fault).__name__}", file=sys.stderr)  # noqa: T201 (for whoever runs the child by hand)
        return "unreadable"

    def _decoded(self, part: email.message.Message, content: list[Any]) -> bytes | None:
        """The bytes of an attached message under a transfer encoding, which the standard forbids and mail programs write."""
        encoding = str(part.get("content-transfer-encoding", "")).strip().lower()
        text = content[0]._payload if len(content) == 1 else None  # get_payload would replace 8-bit signs
        if encoding not in ("base64", "quoted-printable") or not isinstance(text, str):
            return None
        raw = self.long_parts.restore(text).encode("ascii", "surrogateescape")
        if encoding == "quoted-printable":
            return quopri.decodestring(raw)
        try:
            return base64.b64decode(raw)
        except binascii.Error:
            return None

    def decrypt(self, content: bytes) -> tuple[bytes, bool]:
        office = msoffcrypto.OfficeFile(io.BytesIO(content))
        if not office.is_encrypted():
            return content, False
        if office.format == "ooxml" and int(office.info.get("spinValue", 0)) > MAX_SPINS:
            raise TooLarge
        for password in self.passwords:
            clear = io.BytesIO()
            if office.format != "ooxml":
                try:
                    office.load_key(password=password)
                except InvalidKeyError:
                    continue
                office.decrypt(clear)
                return clear.getvalue(), True
            office.load_key(password=password)
            try:
                # Without verify_integrity a flipped bit passes silently.
                office.decrypt(clear, verify_integrity=True)
            except InvalidKeyError as error:
                # Only now is it worth another 100,000 rounds of hashing to tell a wrong password from changed content.
                try:
                    office.load_key(password=password, verify_password=True)
                except InvalidKeyError:
                    continue
                raise ValueError("the right password, but the content was changed on its way") from error
            return clear.getvalue(), True
        raise InvalidKeyError("no password of this sender opens it")


def _workbook(
    name: str, depth: int, was_encrypted: bool = False, sheets: Sequence[dict[str, Any]] = (), error: str = ""
) -> dict[str, Any]:
    return {"name": name, "sheets": list(sheets), "was_encrypted": was_encrypted, "depth": depth, "error": error}
