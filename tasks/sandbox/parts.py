"""Every part of a message, however it is wrapped: kept as a file, unpacked, read if it is a workbook."""

from __future__ import annotations

import email.message
import hashlib
import io
import posixpath
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msoffcrypto
from msoffcrypto.exceptions import InvalidKeyError

from tasks.sandbox.containers import kind_of, open_zip
from tasks.sandbox.headers import file_name_of
from tasks.sandbox.limits import MAX_DEPTH, MAX_PARTS, MAX_WORKBOOKS, TooLarge
from tasks.sandbox.text import visible
from tasks.sandbox.workbooks import read_csv, read_workbook


class Walk:
    """Every part of one message, however deep, each non-text leaf kept as a file."""

    def __init__(self, out_dir: Path, passwords: Sequence[str]) -> None:
        self.out_dir = out_dir
        self.passwords = passwords
        self.defects: set[str] = set()
        self.workbooks: list[dict[str, Any]] = []
        self.files: list[dict[str, Any]] = []

    def take(self, part: email.message.Message, depth: int) -> None:
        if depth > MAX_DEPTH or len(self.files) >= MAX_PARTS:
            self.defects.add("TooManyParts")
            return
        self.defects.update(type(defect).__name__ for defect in part.defects)
        content = part.get_payload()
        if isinstance(content, list):
            nested = part.get_content_type() == "message/rfc822"
            for child in content:
                # compat32 gives messages here; its types allow texts.
                assert isinstance(child, email.message.Message)
                self.take(child, depth + 1 if nested else depth)
            return
        name = file_name_of(part)
        if part.get_content_maintype() == "text" and not name and part.get_content_disposition() != "attachment":
            return
        payload = part.get_payload(decode=True)
        self.defects.update(type(defect).__name__ for defect in part.defects)
        if isinstance(payload, bytes) and payload:
            self.keep(payload, name, part.get_content_type(), depth)

    def keep(self, content: bytes, name: str, media_type: str, depth: int, *, unpack: bool = True) -> None:
        digest = hashlib.sha256(content).hexdigest()
        kind = kind_of(content, name)
        target = self.out_dir / digest
        if not target.exists():
            # Written whole or not at all: a child killed here leaves no half file under a true hash.
            partial = target.with_suffix(".tmp")
            partial.write_bytes(content)
            partial.replace(target)
        self.files.append(
            {
                "part": len(self.files) + 1, "name": name, "media_type": media_type, "size_bytes": len(content),
                "sha256": digest, "path": str(target), "is_workbook": kind not in ("", "zip"), "depth": depth,
            }
        )  # fmt: skip
        if kind == "zip" and unpack:
            self.unpack(content, name, depth)
        elif kind == "unknown":
            self.workbooks.append(_workbook(name, depth, error="unsupported"))
        elif kind not in ("", "zip"):
            self.read(content, name, kind, depth)

    def unpack(self, content: bytes, name: str, depth: int) -> None:
        try:
            with open_zip(content) as archive:
                for member in archive.infolist():
                    if not member.is_dir() and len(self.files) < MAX_PARTS:
                        base = visible(posixpath.basename(member.filename.replace("\\", "/")))
                        self.keep(archive.read(member), base, "application/octet-stream", depth, unpack=False)
        except TooLarge:
            self.workbooks.append(_workbook(name, depth, error="too_large"))
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, OSError, ValueError):
            # RuntimeError is a zip with a password.
            self.workbooks.append(_workbook(name, depth, error="unreadable"))

    def read(self, content: bytes, name: str, kind: str, depth: int) -> None:
        if len(self.workbooks) >= MAX_WORKBOOKS:
            self.defects.add("TooManyParts")
            return
        was_encrypted = False
        try:
            if kind == "ole":
                content, was_encrypted = self.decrypt(content)
                kind = kind_of(content, name) if was_encrypted else "xls"
            sheets = read_csv(content, name) if kind == "csv" else read_workbook(content, kind)
        except TooLarge:
            self.workbooks.append(_workbook(name, depth, was_encrypted, error="too_large"))
        except InvalidKeyError:
            self.workbooks.append(_workbook(name, depth, True, error="wrong_password"))
        except NotImplementedError:
            self.workbooks.append(_workbook(name, depth, was_encrypted, error="unsupported"))
        except (MemoryError, RecursionError):
            self.workbooks.append(_workbook(name, depth, was_encrypted, error="too_large"))
        except Exception as error:  # noqa: BLE001 (four libraries' parsers on hostile bytes: the workbook is lost and named)
            print(f"workbook not read: {type(error).__name__}", file=sys.stderr)  # noqa: T201 (the parent logs it)
            self.workbooks.append(_workbook(name, depth, was_encrypted, error="unreadable"))
        else:
            self.workbooks.append(_workbook(name, depth, was_encrypted, sheets))

    def decrypt(self, content: bytes) -> tuple[bytes, bool]:
        office = msoffcrypto.OfficeFile(io.BytesIO(content))
        if not office.is_encrypted():
            return content, False
        for password in self.passwords:
            clear = io.BytesIO()
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
