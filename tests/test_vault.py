"""Evidence is kept locked, piece by piece, and comes back as it was or not at all."""

import os
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from letters import settings_for

from tasks.vault import VaultError, keep_evidence, read_evidence
from tasks.vault.evidence import PIECE_BYTES
from tasks.vault.keys import vault_key


@pytest.mark.parametrize("size", [0, 10, PIECE_BYTES, 2 * PIECE_BYTES + 10])
def test_a_file_comes_back_as_it_was_and_lies_there_locked(tmp_path: Path, size: int) -> None:
    clear, settings = tmp_path / "a.mp3", settings_for(tmp_path / "home")
    clear.write_bytes(os.urandom(size))
    sha256, path = keep_evidence(settings, clear)
    assert read_evidence(settings, path) == clear.read_bytes()
    assert keep_evidence(settings, clear) == (sha256, path)
    (locked,) = (path for path in settings.vault.rglob("*") if path.is_file())
    assert locked.stat().st_mode & 0o077 == 0
    assert not size or clear.read_bytes()[:10] not in locked.read_bytes()


def test_a_file_locked_in_one_piece_by_an_earlier_version_is_read(tmp_path: Path) -> None:
    clear, settings = tmp_path / "a.mp3", settings_for(tmp_path / "home")
    clear.write_bytes(b"a voice" * PIECE_BYTES)
    _, path = keep_evidence(settings, clear)
    (settings.home / path).write_bytes(Fernet(vault_key(settings)).encrypt(clear.read_bytes()))
    assert read_evidence(settings, path) == clear.read_bytes()


@pytest.mark.parametrize("change", ["lost", "turned round", "doubled", "flipped", "cut"])
def test_pieces_that_are_not_those_put_in_are_refused(tmp_path: Path, change: str) -> None:
    clear, settings = tmp_path / "a.mp3", settings_for(tmp_path / "home")
    clear.write_bytes(os.urandom(2 * PIECE_BYTES))
    _, path = keep_evidence(settings, clear)
    locked = settings.home / path
    first, second = locked.read_bytes().splitlines(keepends=True)
    pieces = {
        "lost": first,
        "turned round": second + first,
        "doubled": first + second + second,
        "flipped": first[:500] + bytes([first[500] ^ 1]) + first[501:] + second,
        "cut": first + second[:-100],
    }
    locked.write_bytes(pieces[change])
    with pytest.raises(VaultError, match="restore it from the backup"):
        read_evidence(settings, path)
