"""What lies in Microsoft's old containers: which program wrote one, and the attachments of a message that Outlook saved."""

from __future__ import annotations

import io
import posixpath
from collections.abc import Iterator

import olefile

from tasks.sandbox.text import visible

# MS-OXMSG §2.2: PidTagAttachDataBinary, an attached message; PidTagAttachLongFilename and PidTagAttachFilename, in UTF-16
# or in the code page of their Windows.
_DATA, _MESSAGE = "__substg1.0_37010102", "__substg1.0_3701000D"
_NAMES = ("__substg1.0_3707001F", "__substg1.0_3704001F", "__substg1.0_3707001E", "__substg1.0_3704001E")


def kind_of_ole(content: bytes) -> str:
    """What an OLE file is: msg, '' for a text document or a presentation, ole for a workbook and for what cannot be told."""
    try:
        with olefile.OleFileIO(io.BytesIO(content)) as container:
            names = {entry[0] for entry in container.listdir()}
    except Exception:  # noqa: BLE001 (a parser on hostile bytes: opening it as a workbook will tell what is wrong)
        return "ole"
    if "__properties_version1.0" in names:
        return "msg"
    # A locked document of today's Word lies in EncryptedPackage, as a locked workbook does.
    return "" if names & {"WordDocument", "PowerPoint Document"} else "ole"


def unpack_msg(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Each attachment of a message that Outlook saved: its name and its bytes, also those of messages in it."""
    with olefile.OleFileIO(io.BytesIO(content)) as container:
        folders = {tuple(entry[:-1]) for entry in container.listdir() if entry[-1] == _DATA}
        for folder in sorted(folder for folder in folders if all(_is_folder(part) for part in folder)):
            yield _name_of(container, folder), container.openstream([*folder, _DATA]).read()


def _is_folder(name: str) -> bool:
    return name == _MESSAGE or name.startswith("__attach_version1.0_")


def _name_of(container: olefile.OleFileIO, folder: tuple[str, ...]) -> str:
    for stream in _NAMES:
        if container.exists([*folder, stream]):
            raw = container.openstream([*folder, stream]).read()
            name = raw.decode("utf-16-le" if stream.endswith("F") else "gb18030", "replace").strip("\0")
            return visible(posixpath.basename(name.replace("\\", "/")))[:200]
    return ""
