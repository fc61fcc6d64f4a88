"""What is kept under lock: branch keys, the row-code keys, and evidence files encrypted by content hash.

Knows where secrets lie and how evidence is locked; knows no mail, no row and no branch's address. Keys never leave
the keys folder but as an argument, and in a letter that is written for print.
"""

from tasks.vault.evidence import NotKept, keep_evidence, read_evidence
from tasks.vault.keys import (
    BranchKey,
    BranchKeyError,
    Rotation,
    begin_rotation,
    branch_keys,
    branch_password,
    branch_passwords,
    create_key,
    message_id_key,
    rotate_key,
    rotations,
    row_keys,
)
from tasks.vault.letter import write_letter
from tasks.vault.secret import VaultError

__all__ = [
    "BranchKey",
    "BranchKeyError",
    "NotKept",
    "Rotation",
    "VaultError",
    "begin_rotation",
    "branch_keys",
    "branch_password",
    "branch_passwords",
    "create_key",
    "keep_evidence",
    "message_id_key",
    "read_evidence",
    "rotate_key",
    "rotations",
    "row_keys",
    "write_letter",
]
