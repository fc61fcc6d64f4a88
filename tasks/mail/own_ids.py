"""The key under which our Message-IDs are made, so that nobody who has not got a mail can name it.

A notice is believed of the mail whose id it names; from branch and month alone anybody could compute the id.
"""

from __future__ import annotations

import os
import secrets

from tasks.mail.letters import MailError
from tasks.settings import Settings


def id_key(settings: Settings) -> bytes:
    """The key, made on first use and never mailed; two runs at once agree on one. A lost one only ends the likeness of ids."""
    path = settings.keyring / "message-id.key"
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        candidate = path.with_name(f".{path.name}.{os.getpid()}")
        descriptor = os.open(candidate, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as handle:
            handle.write(secrets.token_hex(32))
            handle.flush()
            os.fsync(handle.fileno())
        try:
            os.link(candidate, path)
        except FileExistsError:
            pass
        finally:
            candidate.unlink()
    key = path.read_bytes().strip()
    if not key:
        raise MailError(f"{path}: is empty; restore it from the backup, or remove it to have a new one made")
    return key
