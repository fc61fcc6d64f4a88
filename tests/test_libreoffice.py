"""A clerk opens the sheets in LibreOffice, fills and saves them in any form, and the rows are read as they were sent."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import zipfile
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd
import pytest
from openpyxl.worksheet.worksheet import Worksheet

from models.row_code import RowKey, row_code
from models.sheets import SHEETS, Addressee, Sheet, find_rows, write_sheet
from tasks.lock import lock_workbook
from tasks.sandbox.limits import WrongPassword
from tasks.sandbox.locked_ods import unlock_ods
from tasks.sandbox.workbooks import read_csv, read_workbook

pytestmark = pytest.mark.slow

KEY = RowKey(1, b"a secret for the tests")
KINDS = list(SHEETS)
ROLES = {"callback": "operations_director", "hq_calls": "hq_service", "self_check": "operations_director"}
PASSWORD = "ABCD-EFGH-口令-2345"
ANSWERS = {"date": date(2026, 3, 5), "time": "14:30", "count": 2, "files": "录音 1.mp3；签字.pdf", "text": "已核实，=1+1 不是公式"}
CSV_UTF8 = "csv:Text - txt - csv (StarCalc):44,34,76,1,,0,false,true,false,false,false,2"
LIBRARY = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE library:library PUBLIC "-//OpenOffice.org//DTD OfficeDocument 1.0//EN" "library.dtd">
<library:library xmlns:library="http://openoffice.org/2000/library" library:name="Standard" library:readonly="false"
 library:passwordprotected="false"><library:element library:name="Unlock"/></library:library>
"""
MACRO = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE script:module PUBLIC "-//OpenOffice.org//DTD OfficeDocument 1.0//EN" "module.dtd">
<script:module xmlns:script="http://openoffice.org/2000/script" script:name="Unlock" script:language="StarBasic">
Sub Main(source, target, password)
  Dim how(1) As New com.sun.star.beans.PropertyValue
  Dim form(0) As New com.sun.star.beans.PropertyValue
  how(0).Name = "Hidden"
  how(0).Value = True
  how(1).Name = "Password"
  how(1).Value = password
  form(0).Name = "FilterName"
  form(0).Value = "Calc MS Excel 2007 XML"
  On Error Resume Next
  book = StarDesktop.loadComponentFromURL(source, "_blank", 0, how())
  If Not IsNull(book) Then
    If Right(target, 4) = ".ods" Then
      how(0).Name = "FilterName"
      how(0).Value = "calc8"
      book.storeToURL(target, how())
    Else
      book.storeToURL(target, form())
    End If
  End If
  StarDesktop.terminate()
End Sub
</script:module>
"""


@dataclass(frozen=True)
class Office:
    """LibreOffice with a profile of its own."""

    program: str
    profile: Path

    def run(self, *words: str) -> None:
        subprocess.run(
            [self.program, "--headless", "--norestore", f"-env:UserInstallation={self.profile.as_uri()}", *words],
            check=True,
            capture_output=True,
            timeout=180,
            env={"PATH": os.environ["PATH"], "HOME": str(self.profile), "LANG": "C.UTF-8"},
        )

    def saved(self, form: str, files: list[Path], to: Path) -> Path:
        """The folder with files as LibreOffice saves them in another form."""
        self.run("--convert-to", form, "--outdir", str(to), *map(str, files))
        return to

    def unlocked(self, locked: Path, to: Path, password: str) -> Path | None:
        """A locked workbook opened with a password and saved without one, as ods with it; None when it was refused."""
        self.run(f'macro:///Standard.Unlock.Main("{locked.as_uri()}","{to.as_uri()}","{password}")')
        return to if to.exists() else None


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Office:
    program = shutil.which("soffice")
    if program is None:
        pytest.skip("no LibreOffice here: install the package libreoffice-calc-nogui")
    found = Office(program, tmp_path_factory.mktemp("office"))
    (found.profile / "x.csv").write_text("1\n")
    found.saved("xlsx", [found.profile / "x.csv"], found.profile)  # makes the profile, which the macro then goes into
    basic = found.profile / "user" / "basic" / "Standard"
    (basic / "script.xlb").write_text(LIBRARY)
    (basic / "Unlock.xba").write_text(MACRO)
    return found


def rows_of(kind: Any) -> pd.DataFrame:
    numbers = range(1, 31)
    item = SHEETS[kind].item
    rows = {
        "row_code": [row_code(item, number, KEY) for number in numbers],
        "customer_name": ["李*" if number % 3 else "J*** S***" for number in numbers],
        "phone": [f"0138{number:08d}" for number in numbers],
        "form": ["conduct" for _ in numbers],
        "due_on": [date(2026, 3, 20) for _ in numbers],
        "call_on": [date(2026, 3, 9) for _ in numbers],
        "developer": ['=HYPERLINK("http://x.example")' if number % 2 else "镕喆" for number in numbers],
        "planned_caller": ["+1" if number % 2 else "@x" for number in numbers],
        "violation": ["password_known,other" for _ in numbers],
        "stated_on": [date(2026, 3, 5) for _ in numbers],
        "statement": ["-1 客户称👨\u200d👩\u200d👧，密码“已告知”" for _ in numbers],
        "employee": ["李建国(010102)" for _ in numbers],
        "raised_on": [date(2026, 3, 5) for _ in numbers],
        "opinion": ["希望降低佣金，\t第二行\n第三行" for _ in numbers],
    }
    shown = {column.key for column in SHEETS[kind].columns if not column.by_branch}
    return pd.DataFrame({key: values for key, values in rows.items() if key in shown})


def written(kind: Any, language: Any = "zh_CN") -> bytes:
    return write_sheet(
        kind, rows_of(kind), campaign="daily_risk-2026-03", title="日常合规风险提示回访", branch_no="0101",
        branch_name="城东营业部", language=language, issued_on=date(2026, 3, 2),
        addressee=Addressee(ROLES.get(kind, "customer_service_manager"), "daily_risk-2026-03/0101-1"),
    )  # fmt: skip


def answer_of(column: Any) -> Any:
    return next(iter(column.choices.values())).label.zh if column.choices else ANSWERS[column.form]


@pytest.fixture(scope="module")
def saved(office: Office, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders with every sheet filled in and saved by LibreOffice, by form; xls and ods once more as xlsx."""
    folder = tmp_path_factory.mktemp("sheets")
    files = []
    for kind in KINDS:
        book = openpyxl.load_workbook(io.BytesIO(written(kind)))
        for place, column in enumerate(SHEETS[kind].columns, start=1):
            for row in range(4, 34) if column.by_branch else ():
                book.worksheets[1].cell(row, place).value = answer_of(column)
        book.save(folder / f"{kind}.xlsx")
        files.append(folder / f"{kind}.xlsx")
    found = {form: office.saved(form, files, folder / form) for form in ("xlsx", "xls", "ods")}
    found["csv"] = office.saved(CSV_UTF8, files, folder / "csv")
    for form in ("xls", "ods"):
        again = [found[form] / f"{kind}.{form}" for kind in KINDS]
        found[f"{form}-xlsx"] = office.saved("xlsx", again, folder / f"{form}-xlsx")
    return found


def read_back(folder: Path, sheet: Sheet) -> list[dict[str, str]]:
    """The rows of a saved file as the product reads them."""
    [path] = folder.glob(f"{sheet.kind}*")
    form, content = path.suffix[1:], path.read_bytes()
    tables = read_csv(content, path.name) if form == "csv" else read_workbook(content, form)
    table = tables[-1]
    found = find_rows(sheet, table["rows"], frozenset(map(tuple, table["formulas"])), [KEY])
    assert [row.number for row in found] == list(range(1, 31))
    assert all(row.formulas <= {"evidence"} for row in found)
    return [dict(row.cells) for row in found]


@pytest.mark.parametrize("form", ["xlsx", "xls", "ods", "csv", "xls-xlsx", "ods-xlsx"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_row_comes_back_as_it_was_sent_and_filled(saved: dict[str, Path], kind: Any, form: str) -> None:
    sheet = SHEETS[kind]
    rows = read_back(saved[form], sheet)
    sent = pd.DataFrame(table_rows(written(kind)), columns=[column.key for column in sheet.columns])
    for place, row in enumerate(rows):
        for column in sheet.columns:
            said = row[column.key]
            match column.form:
                case "cues":
                    continue
                case "text" | "files" if column.by_branch:
                    assert said == ANSWERS[column.form]
                case "text":
                    assert said == (sent.at[place, column.key] or ""), column.key
                case _:
                    assert column.understands(said), (column.key, said)
    assert {row["row_code"] for row in rows} == {row_code(sheet.item, number, KEY) for number in range(1, 31)}


def table_rows(content: bytes) -> list[list[Any]]:
    book = openpyxl.load_workbook(io.BytesIO(content))
    return [list(row) for row in book.worksheets[1].iter_rows(min_row=4, values_only=True)]


def lists_of(table: Worksheet) -> set[tuple[str, ...]]:
    return {
        tuple(str(rule.formula1).strip('"').split(","))
        for rule in table.data_validations.dataValidation
        if rule.type == "list"
    }


@pytest.mark.parametrize("form", ["xlsx", "xls-xlsx", "ods-xlsx"])
@pytest.mark.parametrize("kind", KINDS)
def test_dropdowns_locks_and_whose_copy_it_is_are_kept(saved: dict[str, Path], kind: Any, form: str) -> None:
    sheet = SHEETS[kind]
    book = openpyxl.load_workbook(saved[form] / f"{kind}.xlsx")
    table = book.worksheets[1]
    declared = {
        tuple(choice.label.zh for choice in column.choices.values())
        for column in sheet.branch_columns
        if column.choices
    }
    assert lists_of(table) == declared
    assert table.protection.sheet
    assert [cell.protection.locked for cell in table[4]] == [not column.by_branch for column in sheet.columns]
    assert "城东营业部" in book.custom_doc_props["huifang_copy"].value
    assert any("城东营业部" in str(cell.value) for cell in table[2] if cell.value)
    assert table.protection.sort, "openpyxl's sort=True means that sorting is locked"


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_cues_say_follows_what_was_chosen(saved: dict[str, Path], kind: Any) -> None:
    sheet = SHEETS[kind]
    words = {row["evidence"] for row in read_back(saved["ods"], sheet)}
    [said] = words
    expected = [
        cue.words.zh for cue in sheet.column("evidence").cues if answer_of(sheet.column(cue.column)) ==
        sheet.column(cue.column).choices[cue.code].label.zh
    ]  # fmt: skip
    assert expected
    assert all(part in said for part in expected)


def test_a_locked_sheet_saved_as_a_locked_ods_is_read_with_its_key_and_with_no_other(office: Office, tmp_path: Path) -> None:
    locked = tmp_path / "locked.xlsx"
    locked.write_bytes(lock_workbook(written("callback"), PASSWORD))
    saved = office.unlocked(locked, tmp_path / "saved.ods", PASSWORD)
    assert saved is not None
    with pytest.raises(WrongPassword):
        unlock_ods(saved.read_bytes(), [PASSWORD.lower()])
    clear = unlock_ods(saved.read_bytes(), ["", PASSWORD])
    assert clear is not None
    tables = read_workbook(clear, "ods")
    found = [row for table in tables for row in find_rows(SHEETS["callback"], table["rows"], table["formulas"], [KEY])]
    assert [row.number for row in found] == list(range(1, 31))


@pytest.mark.parametrize("language", ["zh_CN", "en"])
def test_a_locked_sheet_opens_with_its_key_and_with_no_other(office: Office, tmp_path: Path, language: Any) -> None:
    locked = tmp_path / "locked.xlsx"
    locked.write_bytes(lock_workbook(written("callback", language), PASSWORD))
    assert not zipfile.is_zipfile(locked)
    assert office.unlocked(locked, tmp_path / "without.xlsx", "") is None
    assert office.unlocked(locked, tmp_path / "wrong.xlsx", PASSWORD.lower()) is None
    opened = office.unlocked(locked, tmp_path / "right.xlsx", PASSWORD)
    assert opened is not None
    assert [row[0] for row in table_rows(opened.read_bytes())] == [row_code("assignment", n, KEY) for n in range(1, 31)]


def test_a_sheet_that_libreoffice_unlocked_and_saved_is_read_though_it_comes_back_in_clear(
    office: Office, tmp_path: Path
) -> None:
    (tmp_path / "locked.xlsx").write_bytes(lock_workbook(written("self_check"), PASSWORD))
    opened = office.unlocked(tmp_path / "locked.xlsx", tmp_path / "self_check.xlsx", PASSWORD)
    assert opened is not None
    assert zipfile.is_zipfile(opened)
    assert len(read_back(tmp_path, SHEETS["self_check"])) == 30
