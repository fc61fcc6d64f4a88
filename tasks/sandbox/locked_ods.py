"""OpenDocument spreadsheets with a password: ODF 1.2 part 3 §4.8 (AES-CBC, PBKDF2), and LibreOffice's newer whole package
(AES-GCM, Argon2id).

Knows no row and no limit of a sheet. Must stay out: Blowfish (OpenOffice) and PGP, which are told and refused.
"""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence

from tasks.sandbox.archives import open_zip
from tasks.sandbox.limits import ZIP_MEMBER_BYTES, LockedOds, TooLarge, WrongPassword
from tasks.sandbox.workbooks import parse_xml

PACKAGE, MANIFEST, CONTENT = "encrypted-package", "META-INF/manifest.xml", "content.xml"
MOST_ROUNDS, MOST_KIB, MOST_PASSES, MOST_LANES = 1_000_000, 256 << 10, 16, 16
"""What stretching a password may cost; LibreOffice takes 100,000 rounds, or 64 MiB, 3 passes and 4 lanes."""
CHECKED_BYTES = 1024
"""Of the packed content a checksum is kept, which tells a wrong password."""

Locks = dict[str, Mapping[str, str]]
"""Attributes by element of one entry's encryption-data, without namespaces."""


def unlock_ods(content: bytes, passwords: Sequence[str]) -> bytes | None:
    """The spreadsheet in clear; None where it has no password. Raises WrongPassword, LockedOds, TooLarge."""
    with open_zip(content) as archive:
        found = _find_locks(archive)
        path = PACKAGE if PACKAGE in found else CONTENT
        if not found:
            return None
        if path not in found:
            raise LockedOds
        locked, locks = archive.read(path), found[path]
    for password in passwords:
        packed = _decrypt(locked, locks, password)
        if packed is not None:
            return packed if packed.startswith(b"PK") else _clear(path, _unpack(packed))
    raise WrongPassword


def _find_locks(archive: zipfile.ZipFile) -> dict[str, Locks]:
    """What each locked entry is locked with, by its path."""
    found: dict[str, Locks] = {}
    path = [""]

    def entry(tag: str, attributes: Mapping[str, str]) -> None:
        own = {name.rpartition(":")[2]: value for name, value in attributes.items()}
        if tag == "file-entry":
            path[0] = own.get("full-path", "")
        elif tag == "encryption-data":
            found[path[0]] = {tag: own}
        elif path[0] in found:
            found[path[0]][tag] = own

    if MANIFEST in archive.namelist():
        parse_xml(archive, MANIFEST, entry)
    return found


def _decrypt(locked: bytes, locks: Locks, password: str) -> bytes | None:
    """The packed content; None where the password is another one. Raises LockedOds for what we do not undo."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    cipher = _word(locks, "algorithm", "algorithm-name")
    start = _digest(_word(locks, "start-key-generation", "start-key-generation-name") or "sha1")
    key = _stretch(start(password.encode()).digest(), locks.get("key-derivation", {}))
    iv = base64.b64decode(locks["algorithm"].get("initialisation-vector", ""))
    if cipher == "aes256-gcm":
        try:
            return AESGCM(key).decrypt(iv, locked.removeprefix(iv), None)
        except InvalidTag:
            return None
    if cipher not in ("aes128-cbc", "aes192-cbc", "aes256-cbc"):
        raise LockedOds
    undoing = Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor()
    padded = undoing.update(locked) + undoing.finalize()
    if not padded or not 1 <= padded[-1] <= 16:
        return None
    packed, data = padded[: -padded[-1]], locks["encryption-data"]
    digest = _digest(data.get("checksum-type", ""))
    is_right = digest(packed[:CHECKED_BYTES]).digest() == base64.b64decode(data.get("checksum", ""))
    return packed if is_right else None


def _stretch(start: bytes, how: Mapping[str, str]) -> bytes:
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

    name, salt = how.get("key-derivation-name", "").rpartition("#")[2].lower(), base64.b64decode(how.get("salt", ""))
    size = int(how.get("key-size", "16"))
    if name == "pbkdf2":
        rounds = int(how.get("iteration-count", "0"))
        if not 0 < rounds <= MOST_ROUNDS:
            raise TooLarge
        return hashlib.pbkdf2_hmac("sha1", start, salt, rounds, size)
    if name.rpartition(":")[2] == "argon2id":
        passes, memory, lanes = (int(how.get(f"argon2-{what}", "0")) for what in ("iterations", "memory", "lanes"))
        if passes > MOST_PASSES or memory > MOST_KIB or lanes > MOST_LANES:
            raise TooLarge
        return Argon2id(salt=salt, length=size, iterations=passes, lanes=lanes, memory_cost=memory).derive(start)
    raise LockedOds


def _word(locks: Locks, element: str, attribute: str) -> str:
    """The last part of a name that stands there as a URI, or as OpenOffice once wrote it."""
    return locks.get(element, {}).get(attribute, "").rpartition("#")[2].lower()


def _digest(name: str) -> Callable[[bytes], hashlib._Hash]:
    plain = name.rpartition("#")[2].lower().replace("/", "-").removesuffix("-1k")
    if plain not in ("sha1", "sha256"):
        raise LockedOds
    return hashlib.sha256 if plain == "sha256" else hashlib.sha1


def _unpack(packed: bytes) -> bytes:
    undoing = zlib.decompressobj(-zlib.MAX_WBITS)
    clear = undoing.decompress(packed, ZIP_MEMBER_BYTES)
    if undoing.unconsumed_tail:
        raise TooLarge
    return clear


def _clear(path: str, content: bytes) -> bytes:
    """A spreadsheet of which nothing but the cells is left; a whole package is one already."""
    if path == PACKAGE:
        return content
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr(MANIFEST, '<manifest xmlns="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"/>')
        archive.writestr(CONTENT, content)
    return file.getvalue()
