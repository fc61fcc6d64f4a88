"""Asking clamd about bytes; knows no message."""

from __future__ import annotations

from typing import BinaryIO

from clamav_client.clamd import BufferTooLongError, ClamdError, ClamdNetworkSocket, ClamdUnixSocket

TIMEOUT_SECONDS = 60


class NotClean(Exception):
    """Why a message is not opened: infected | unscanned (clamd is down) | unscannable (larger than clamd takes)."""


def check_clean(content: BinaryIO, address: str) -> None:
    """Raise NotClean unless clamd at tcp://HOST:PORT or unix:PATH finds nothing; without an address nothing is asked."""
    if not address:
        return
    scheme, _, rest = address.partition(":")
    if scheme == "unix":
        clamd: ClamdNetworkSocket = ClamdUnixSocket(path=rest, timeout=TIMEOUT_SECONDS)
    else:
        host, _, port = rest.removeprefix("//").rpartition(":")
        clamd = ClamdNetworkSocket(host=host, port=int(port), timeout=TIMEOUT_SECONDS)
    try:
        answer = clamd.instream(content)
    except BufferTooLongError:
        raise NotClean("unscannable") from None
    except (ClamdError, OSError) as error:
        # At its limit clamd hangs up while we write: told from one that is gone by whether it still answers.
        is_hung_up = isinstance(error, BrokenPipeError | ConnectionResetError)
        raise NotClean("unscannable" if is_hung_up and _answers(clamd) else "unscanned") from None
    state = answer.get("stream", ("ERROR", ""))[0]
    if state != "OK":
        raise NotClean("infected" if state == "FOUND" else "unscanned")


def _answers(clamd: ClamdNetworkSocket) -> bool:
    try:
        return clamd.ping() == "PONG"
    except (ClamdError, OSError):
        return False
