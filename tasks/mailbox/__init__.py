"""Fetching returns and having them opened: IMAP, Maildir or files on one side, the sandboxed child on the other.

Raw bytes are spooled under their hash before anything is judged; messages are moved, never deleted. Knows no sheet,
roster or store.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tasks.mailbox.base import DESTINATIONS, ConnectionLost, Decided, Destination, Letter, Mailbox, MailboxError
from tasks.mailbox.children import SandboxError, forget_parts, open_messages
from tasks.mailbox.drop import PREFIX, DropMailbox
from tasks.mailbox.folder import FolderMailbox
from tasks.mailbox.imap import ImapMailbox
from tasks.mailbox.maildir import MaildirMailbox
from tasks.mailbox.spool import NotKept, Spooled, spool
from tasks.settings import Settings

__all__ = [
    "DESTINATIONS",
    "PREFIX",
    "ConnectionLost",
    "Decided",
    "Destination",
    "DropMailbox",
    "Letter",
    "Mailbox",
    "MailboxError",
    "NotKept",
    "SandboxError",
    "Spooled",
    "forget_parts",
    "mailboxes",
    "open_mailbox",
    "open_messages",
    "spool",
]


def open_mailbox(settings: Settings) -> Mailbox:
    """The mailbox of `settings.mailbox_url`: maildir:DIR, file:DIR or imaps://user@host[:port]/FOLDER[,FOLDER…]."""
    url = settings.mailbox_url
    scheme, _, rest = url.partition(":")
    if scheme == "maildir" and rest:
        return MaildirMailbox(Path(rest))
    if scheme == "file" and rest:
        return FolderMailbox(Path(rest[2:] if rest.startswith("//") else rest))
    if scheme == "imaps":
        return ImapMailbox(settings)
    raise MailboxError(
        f"HUIFANG_RETURNS_URL: {scheme}: is no kind of mailbox; write maildir:DIR, file:DIR or imaps://user@host/FOLDER"
    )


@contextmanager
def mailboxes(settings: Settings) -> Iterator[list[Mailbox]]:
    """Every place that returns come from: the mailbox, and the drop folder where there is one."""
    with ExitStack() as stack:
        found = [open_mailbox(settings)]
        stack.callback(found[0].close)
        if settings.drop is not None:
            found.append(DropMailbox(settings))
        yield found
