"""What a mail server wrote about whether a message is from whom it says (RFC 8601); believes none of it."""

from __future__ import annotations

import email.message
from typing import Any

from tasks.sandbox.headers import fields, raw_headers
from tasks.sandbox.limits import HEADER_SIGNS

_HEADER = "authentication-results"


def authentication(message: email.message.Message) -> dict[str, Any] | None:
    """The topmost Authentication-Results, in the shape of models.returns.Authentication; None where there is none.

    Servers write on top of what they were given: whatever stands below may be the sender's own.
    """
    names = [name for name, _ in fields(message)]
    if _HEADER not in names:
        return None
    value = " ".join(raw_headers(message, _HEADER)[0].split())
    report = {
        "authserv_id": "",
        "received_above": names[: names.index(_HEADER)].count("received"),
        "results": [],
        "is_readable": False,
    }
    if len(value) > HEADER_SIGNS:
        return report
    import authres  # only now: every child would pay for it, and few installations ask
    from authres.core import AuthResError

    try:
        # Some servers end with a semicolon, which the standard has between results only.
        parsed = authres.AuthenticationResultsHeader.parse_value(value.rstrip("; "))
    except (AuthResError, RecursionError, ValueError, TypeError, AttributeError):
        return report
    return report | {
        "authserv_id": parsed.authserv_id,
        "results": [
            {
                "method": result.method.lower(),
                "result": result.result.lower(),
                "properties": [[f"{one.type}.{one.name}".lower(), str(one.value)] for one in result.properties],
            }
            for result in parsed.results
        ],
        "is_readable": True,
    }
