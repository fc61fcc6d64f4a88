"""Files of kinds that branches send by mistake: read where a library reads them, else refused with advice, never an error."""

from __future__ import annotations

import base64
import io
import random
import re
import struct
import zipfile
import zlib
from datetime import date
from hashlib import pbkdf2_hmac, sha256
from pathlib import Path

import pytest
from corpus import ods_of, sheet_rows
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from letters import KEY, PASSWORD, SHEET, accepted, encrypted, expected_calls, letter, opened
from test_sandbox import errors, zipped

from models.returns import PROBLEMS, judge_rows, match_files, problem_message
from models.row_code import row_code
from models.sheets import CALLBACK

CODE = row_code("assignment", 17, KEY)
DOCX = zipped(
    ("[Content_Types].xml", b'<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>'),
    ("_rels/.rels", b"<x/>"),
    ("word/document.xml", b"<x/>"),
    ("word/media/scan.png", random.Random(1).randbytes(9000)),
)
FREE, END = 0xFFFFFFFF, 0xFFFFFFFE


def ole(content: dict[str, bytes | dict]) -> bytes:
    """A container of Microsoft's old kind, as MS-CFB describes it: folders and streams by name, each in whole sectors."""
    sectors: list[bytes] = []
    chains: list[int] = []
    entries: list[tuple[str, int, int, int, int, int]] = []  # name, kind, child, right neighbour, first sector, size

    def keep(data: bytes) -> int:
        first = len(sectors)
        sectors.extend(data[place : place + 512].ljust(512, b"\0") for place in range(0, len(data), 512))
        chains.extend([*range(first + 1, len(sectors)), END])
        return first

    def add(name: str, inner: bytes | dict, is_root: bool = False) -> int:
        number = len(entries)
        entries.append((name, 0, FREE, FREE, 0, 0))
        if isinstance(inner, bytes):
            long = inner.ljust(4096, b"\0")  # shorter streams are kept in another way
            entries[number] = (name, 2, FREE, FREE, keep(long), len(long))
            return number
        # Each child hangs on the right of the one before it: a tree that every reader walks.
        children = [add(own, data) for own, data in sorted(inner.items(), key=lambda one: (len(one[0]), one[0]))]
        for child, right in zip(children, [*children[1:], FREE], strict=True):
            entries[child] = (*entries[child][:3], right, *entries[child][4:])
        entries[number] = (name, 5 if is_root else 1, children[0] if children else FREE, FREE, END if is_root else 0, 0)
        return number

    add("Root Entry", content, is_root=True)
    packed = b""
    for name, kind, child, right, first, size in entries:
        label = (name + "\0").encode("utf-16-le")
        links = struct.pack("<III", FREE, right, child) + bytes(36)
        packed += (
            label.ljust(64, b"\0") + struct.pack("<HBB", len(label), kind, 1) + links + struct.pack("<IQ", first, size)
        )
    directory = keep(packed)
    tables = -(-(len(sectors) + 1) // 127)  # the table stands in the table
    table_at = len(sectors)
    fat = struct.pack(f"<{len(chains)}I", *chains) + struct.pack("<I", 0xFFFFFFFD) * tables
    sectors.extend(fat.ljust(512 * tables, b"\xff")[place : place + 512] for place in range(0, 512 * tables, 512))
    head = bytes.fromhex("D0CF11E0A1B11AE1") + bytes(16) + struct.pack("<HHHHH", 0x3E, 3, 0xFFFE, 9, 6) + bytes(10)
    head += struct.pack("<IIIIIIII", tables, directory, 0, 4096, END, 0, END, 0)
    head += struct.pack(f"<{tables}I", *range(table_at, table_at + tables)).ljust(436, b"\xff")
    return head + b"".join(sectors)


def saved_by_outlook(*attachments: tuple[str, bytes], ansi: bool = False, inner: bytes | dict | None = None) -> dict:
    folders: dict[str, bytes | dict] = {
        "__properties_version1.0": bytes(64),
        "__substg1.0_0037001F": "回访".encode("utf-16-le"),
    }
    for number, (name, content) in enumerate(attachments):
        named = (
            {"__substg1.0_3707001E": name.encode("gbk")} if ansi else {"__substg1.0_3707001F": name.encode("utf-16-le")}
        )
        folders[f"__attach_version1.0_#{number:08X}"] = {**named, "__substg1.0_37010102": content}
    if inner is not None:
        folders["__attach_version1.0_#000000FF"] = {"__substg1.0_3701000D": inner}
    return folders


MESSAGES = {
    "回访.msg": ole(saved_by_outlook(("回访登记表.xlsx", SHEET))),
    "old.msg": ole(saved_by_outlook(("回访登记表.xlsx", SHEET), ansi=True)),
    "locked.msg": ole(saved_by_outlook(("回访登记表.xlsx", encrypted(SHEET)))),
    "zipped.msg": ole(saved_by_outlook(("a.zip", zipped(("回访登记表.xlsx", SHEET))))),
    "within.msg": ole(saved_by_outlook(inner=saved_by_outlook(("回访登记表.xlsx", SHEET)))),
    "without its ending": ole(saved_by_outlook(("回访登记表.xlsx", SHEET))),
}


def test_a_message_that_outlook_saved_is_opened_and_is_a_forwarded_one(tmp_path: Path) -> None:
    for (name, _), message in zip(
        MESSAGES.items(), opened(tmp_path, *(letter(one) for one in MESSAGES.items())), strict=True
    ):
        assert accepted(message) == [17], name
        assert [(book.name, book.depth, book.error) for book in message.workbooks] == [("回访登记表.xlsx", 1, "")], name
        judged = judge_rows(CALLBACK, message, expected_calls(), [KEY], branch_no="HQ", as_of=date(2026, 3, 10))
        assert set(judged.problems["code"]) == {"forwarded"}, name


@pytest.mark.parametrize("cut", [600, 1500, 4000])
def test_a_message_of_outlook_that_is_cut_off_brings_no_row_and_no_error(tmp_path: Path, cut: int) -> None:
    (message,) = opened(tmp_path, letter(("a.msg", MESSAGES["回访.msg"][:cut])))
    assert (message.error, accepted(message)) == ("", [])


DOCUMENTS = {
    f"{CODE}_访谈记录.doc": ole({"WordDocument": bytes(4096), "1Table": bytes(4096)}),
    f"{CODE}_访谈记录.wps": ole({"WordDocument": bytes(4096)}),
    f"{CODE}_访谈记录.xls": ole({"WordDocument": bytes(4096)}),  # renamed
    f"{CODE}.ppt": ole({"PowerPoint Document": bytes(4096)}),
    f"{CODE}.docx": DOCX,
    f"{CODE}_locked.docx": encrypted(DOCX),
}


def test_text_documents_are_evidence_and_no_workbooks(tmp_path: Path) -> None:
    for (name, _), message in zip(
        DOCUMENTS.items(), opened(tmp_path, *(letter(one) for one in DOCUMENTS.items())), strict=True
    ):
        assert (message.error, errors(message), [file.name for file in message.files]) == ("", [], [name])
        assert list(match_files(message, [KEY]).values()) == [("assignment", 17)], name


def locked_ods(ods: bytes, password: str, form: str) -> bytes:
    """A spreadsheet locked entry by entry with AES-CBC or Blowfish, as ODF 1.2 has it, or whole with AES-GCM and Argon2id."""
    salt, start = b"0123456789abcdef", sha256(password.encode()).digest()
    iv = bytes(range(12 if form == "gcm" else 16))
    with zipfile.ZipFile(io.BytesIO(ods)) as archive:
        plain = ods if form == "gcm" else archive.read("content.xml")
    packing = zlib.compressobj(wbits=-15)
    packed = packing.compress(plain) + packing.flush()
    path, checksum = "content.xml", ""
    if form == "gcm":
        key = Argon2id(salt=salt, length=32, iterations=3, lanes=4, memory_cost=1024).derive(start)
        path, locked = "encrypted-package", iv + AESGCM(key).encrypt(iv, packed, None)
        how = 'm:key-derivation-name="urn:x:manifest#argon2id" l:argon2-iterations="3" l:argon2-memory="1024" l:argon2-lanes="4"'
    else:
        key = pbkdf2_hmac("sha1", start, salt, 1000, 32)
        cipher = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
        filled = -len(packed) % 16 or 16
        locked = cipher.update(packed + bytes(filled - 1) + bytes([filled])) + cipher.finalize()
        checksum = f'm:checksum-type="urn:x#sha256-1k" m:checksum="{in_base64(sha256(packed[:1024]).digest())}"'
        how = 'm:key-derivation-name="PBKDF2" m:iteration-count="1000"'
    name = {"gcm": "http://x#aes256-gcm", "cbc": "http://x#aes256-cbc", "blowfish": "Blowfish CFB"}[form]
    manifest = (
        '<m:manifest xmlns:m="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0" xmlns:l="urn:x">'
        f'<m:file-entry m:full-path="{path}"><m:encryption-data {checksum}>'
        f'<m:algorithm m:algorithm-name="{name}" m:initialisation-vector="{in_base64(iv)}"/>'
        '<m:start-key-generation m:start-key-generation-name="http://x#sha256" m:key-size="32"/>'
        f'<m:key-derivation {how} m:salt="{in_base64(salt)}" m:key-size="32"/>'
        "</m:encryption-data></m:file-entry></m:manifest>"
    )
    kind = b"application/vnd.oasis.opendocument.spreadsheet"
    return zipped(("mimetype", kind), ("META-INF/manifest.xml", manifest.encode()), (path, locked))


def in_base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


ODS = ods_of(sheet_rows())


@pytest.mark.parametrize("form", ["cbc", "gcm"])
def test_an_ods_locked_with_the_branchs_password_is_read_and_a_changed_bit_is_noticed(form: str, tmp_path: Path) -> None:
    whole = locked_ods(ODS, PASSWORD, form)
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    (last,) = [name for name in members if name in ("content.xml", "encrypted-package")]
    spoilt = bytearray(members[last])
    spoilt[100] ^= 1
    changed = zipped(*((name, bytes(spoilt) if name == last else content) for name, content in members.items()))
    mails = [letter(("回访.ods", whole)), letter(("回访.ods", changed)), letter(("锁.zip", zipped(("a.ods", whole))))]
    right, wrong, inside = opened(tmp_path, *mails)
    assert (accepted(right), accepted(inside), right.workbooks[0].was_encrypted) == ([17], [17], True)
    assert errors(wrong) == ["wrong_password"]


@pytest.mark.parametrize(
    "asked", ['l:argon2-memory="99999999"', 'l:argon2-iterations="99999"', 'l:argon2-memory="x"', 'l:argon2-lanes="0"']
)
def test_an_ods_that_asks_for_the_work_of_hours_costs_nothing_but_itself(asked: str, tmp_path: Path) -> None:
    whole = locked_ods(ODS, PASSWORD, "gcm")
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    named = asked.partition("=")[0]
    manifest = re.sub(rf'{named}="\d+"', asked, members["META-INF/manifest.xml"].decode())
    members["META-INF/manifest.xml"] = manifest.encode()
    bomb, honest = opened(tmp_path, letter(("a.ods", zipped(*members.items()))), letter(("b.ods", whole)))
    assert bomb.error == ""
    assert errors(bomb)[0] in ("too_large", "unreadable")
    assert accepted(honest) == [17]


REFUSED = {
    "回访.ods": (locked_ods(ODS, PASSWORD, "blowfish"), "locked_ods"),
    "another.ods": (locked_ods(ODS, "another's", "cbc"), "wrong_password"),
    "locked.docx": (encrypted(DOCX, "another's"), "wrong_password"),
    "回访.et": (b"\x01\x02\x03" * 100, "unsupported"),
    "回访.xls": (b'<?xml version="1.0"?><Workbook xmlns="urn:schemas-microsoft-com:office:spreadsheet"/>', "unsupported"),
    "wrong.xls": (ole({"Workbook": bytes(4096)}), "unreadable"),
    "回访.xlsb": (zipped(("xl/workbook.bin", b"x")), "unsupported"),
    "locked.zip": (zipped(("回访.xlsx", SHEET), password="another's"), "wrong_password"),
}  # fmt: skip


def test_what_no_library_reads_is_refused_with_advice_in_both_languages(tmp_path: Path) -> None:
    mails = [letter((name, content)) for name, (content, _) in REFUSED.items()]
    for (name, (_, code)), message in zip(REFUSED.items(), opened(tmp_path, *mails), strict=True):
        judged = judge_rows(CALLBACK, message, expected_calls(), [KEY], branch_no="0101", as_of=date(2026, 3, 10))
        assert list(judged.problems["code"]) == [code], name
        assert code in PROBLEMS
        assert "：请" in problem_message(code, "zh_CN")
        assert ": " in problem_message(code, "en") or "use" in problem_message(code, "en")


def test_a_workbook_of_wps_is_read_by_its_bytes(tmp_path: Path) -> None:
    mails = [
        letter(("回访.et", SHEET)),
        letter(("回访.et", encrypted(SHEET))),
        letter(("锁.zip", zipped(("回访.et", SHEET), password=PASSWORD))),
    ]
    assert [accepted(message) for message in opened(tmp_path, *mails)] == [[17]] * 3
