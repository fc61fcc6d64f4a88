"""A stranger's text as it may be stored and shown."""

from __future__ import annotations

import re

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def visible(text: str) -> str:
    """A text without control signs and lone surrogates: a database refuses NUL, a terminal obeys ESC."""
    return _CONTROLS.sub("", text).encode("utf-8", "replace").decode("utf-8")
