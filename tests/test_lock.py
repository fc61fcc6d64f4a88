"""Sheets are locked as strongly as the library locks them, many side by side, and open with their own password alone."""

import io
import re
import subprocess
import sys
import zipfile
from datetime import date

import msoffcrypto
import olefile
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.row_code import RowKey, row_code
from models.sheets import Addressee, SheetError, write_sheet
from tasks.lock import LIBRARY_STRETCH, LockError, Order, lock_workbook, locksmiths, stretch_password, write_locked

KEY = RowKey(1, b"a secret for the tests")


def order(number: int, role: str = "operations_director") -> Order:
    rows = pd.DataFrame(
        {
            "row_code": [row_code("assignment", number, KEY)],
            "customer_name": "李*",
            "phone": "13800000000",
            "form": "conduct",
            "developer": "",
            "due_on": date(2026, 3, 20),
            "call_on": date(2026, 3, 9),
            "planned_caller": "",
        }
    )
    words = {
        "campaign": "c", "title": "t", "branch_no": f"{number:04d}", "branch_name": "城东", "language": "zh_CN",
        "issued_on": date(2026, 3, 2), "addressee": Addressee(role, f"c/{number:04d}-1"),
    }  # fmt: skip
    return Order("callback", rows, f"password-{number}", words)


CLEAR = write_sheet("callback", order(1).rows, **order(1).words)


def unlocked(content: bytes, password: str) -> bytes:
    office, clear = msoffcrypto.OfficeFile(io.BytesIO(content)), io.BytesIO()
    office.load_key(password=password, verify_password=True)
    office.decrypt(clear, verify_integrity=True)
    return clear.getvalue()


@settings(max_examples=30, deadline=None)
@given(st.text(max_size=30), st.binary(min_size=16, max_size=16), st.integers(0, 300))
def test_the_rounds_of_hashing_come_to_what_the_library_comes_to(password: str, salt: bytes, rounds: int) -> None:
    for algorithm in ("SHA512", "SHA256"):
        assert (
            stretch_password(password, salt, algorithm, rounds).digest()
            == LIBRARY_STRETCH(password, salt, algorithm, rounds).digest()
        )


def test_a_locked_workbook_is_aes_256_with_100_000_rounds_of_sha_512_and_salts_of_its_own() -> None:
    locked = [lock_workbook(CLEAR, "ABCD-口令") for _ in range(2)]
    said = [olefile.OleFileIO(io.BytesIO(one)).openstream("EncryptionInfo").read().decode("latin-1") for one in locked]
    for words in said:
        assert 'spinCount="100000"' in words
        assert set(re.findall(r'keyBits="(\d+)"', words)) == {"256"}
        assert set(re.findall(r'hashAlgorithm="(\w+)"', words)) == {"SHA512"}
    assert len({salt for words in said for salt in re.findall(r'saltValue="([^"]+)"', words)}) == 4
    assert unlocked(locked[0], "ABCD-口令") == CLEAR
    for wrong in ("ABCD-口", "abcd-口令", "", " ABCD-口令"):
        with pytest.raises((msoffcrypto.exceptions.InvalidKeyError, msoffcrypto.exceptions.DecryptionError)):
            unlocked(locked[0], wrong)


def test_the_library_alone_opens_what_we_locked() -> None:
    program = "import io,sys,msoffcrypto\no=msoffcrypto.OfficeFile(io.BytesIO(sys.stdin.buffer.read()))\n" \
              "o.load_key(password='p-1234-5678')\nb=io.BytesIO()\no.decrypt(b)\nsys.stdout.buffer.write(b.getvalue())"  # fmt: skip
    locked = lock_workbook(CLEAR, "p-1234-5678")
    done = subprocess.run([sys.executable, "-c", program], input=locked, capture_output=True, check=True)
    assert done.stdout == CLEAR


@pytest.mark.parametrize("count", [3, 20])
def test_sheets_come_back_in_order_each_under_its_own_password(count: int) -> None:
    with locksmiths(count) as smiths:
        made = list(smiths.locked(order(number) for number in range(1, count + 1)))
    assert len(made) == count
    for number in (1, 2, count):
        assert f"c/{number:04d}-1".encode() in zipfile.ZipFile(
            io.BytesIO(unlocked(made[number - 1], f"password-{number}"))
        ).read("docProps/custom.xml")


@pytest.mark.parametrize("count", [3, 20])
def test_an_order_that_cannot_be_written_says_why_and_no_child_stays(count: int) -> None:
    with locksmiths(count) as smiths:
        children = list(smiths._children)
        with pytest.raises(SheetError, match="intern"):
            list(smiths.locked(order(number, "intern" if number == 2 else "deputy") for number in range(1, count + 1)))
    assert all(child.poll() is not None for child in children)


def test_a_child_that_dies_is_an_error_and_nothing_hangs() -> None:
    with locksmiths(20) as smiths:
        for child in smiths._children:
            child.kill()
        with pytest.raises(LockError, match="run the flow again"):
            list(smiths.locked(order(number) for number in range(1, 21)))


def test_an_order_shows_no_password_and_a_failure_no_cell() -> None:
    assert "password-7" not in repr(order(7))
    bad = order(7)
    bad.rows["phone"] = 13800000000
    with locksmiths(20) as smiths, pytest.raises(LockError) as failed:
        list(smiths.locked([bad] * 20))
    assert "138" not in str(failed.value)
    assert write_locked(order(7))[:4] == b"\xd0\xcf\x11\xe0"
