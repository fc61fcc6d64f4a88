"""The folder that an inspector takes home: frame, plan, sample and a verifier that needs nothing of ours.

Knows the form of the export (docs/draw.md) and how its bytes are made; reads no database and recomputes nothing.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from models import CallbackError

FORM = "huifang-proof-2"
"""1 had neither who entered what and when, nor approvals, nor the workdays that a state is committed with."""
VERIFIER = Path(__file__).with_name("verify_sample.py")


class ExportError(CallbackError):
    """A folder that an export cannot be written to."""


def write_export(
    folder: Path, proof: Mapping[str, Any], tables: Mapping[str, Iterable[bytes | memoryview]], sample: str
) -> dict[str, str]:
    """The export in a new folder, whole or not at all; the SHA-256 of each file's bytes by name.

    proof: the content of plan.json without its own hash; tables: the text of each file ending in .csv.gz, in
    pieces; sample: the text of sample.csv. Raises ExportError when the folder is there already.
    """
    if folder.exists():
        raise ExportError(f"--export {folder}: is there already; name a new folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise ExportError(
            f"--export {folder}: {error.strerror}; name a new folder in one that can be written to"
        ) from None
    try:
        for name, pieces in tables.items():
            _write_gzip(made / name, pieces)
        whole = dict(proof, format=FORM)
        whole["sha256"] = hashlib.sha256(_canonical(whole).encode()).hexdigest()
        (made / "plan.json").write_text(_canonical(whole) + "\n", encoding="utf-8", newline="\n")
        (made / "sample.csv").write_text(sample, encoding="utf-8", newline="\n")
        shutil.copyfile(VERIFIER, made / VERIFIER.name)
        hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(made.iterdir())}
        for path in made.iterdir():
            path.chmod(0o600)
        made.chmod(0o700)
        os.replace(made, folder)
    except OSError as error:
        raise ExportError(f"--export {folder}: {error.strerror}") from None
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return hashes


def _write_gzip(path: Path, pieces: Iterable[bytes | memoryview]) -> None:
    # Without a time and a name in its head the same text gives the same bytes.
    with path.open("wb") as raw, gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=raw, mtime=0) as packed:
        for piece in pieces:
            packed.write(piece)


def _canonical(content: Mapping[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
