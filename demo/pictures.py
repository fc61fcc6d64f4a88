"""The pictures of the documents, made from a finished demo: `make pictures` (Chromium, LibreOffice, pdftoppm, CJK fonts).

`python -m demo.pictures sheets` makes those of docs/sheets.md alone and `… mails` those of docs/mail.md, for which no
demo is needed. Shows what a reader would see; changes nothing in the demo's home but adds a dashboard server for the time.
"""

from __future__ import annotations

import email
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from email.policy import default
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import openpyxl
import pandas as pd
from PIL import Image
from selenium.webdriver import Chrome
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from demo.specimens import specimens
from models import CallbackError
from models.outcomes import Language
from models.row_code import RowKey, row_code
from models.sheets import SHEETS, Addressee, SheetKind, write_sheet
from tasks.server import prefect_server
from tasks.settings import PROJECT, Settings

IMAGES = PROJECT / "docs" / "img"
SWITCHES = (
    "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-quic",
)  # fmt: skip


class PictureError(CallbackError):
    """A program that makes pictures is missing or failed."""


def main() -> None:
    """Report, dashboard, mail and sheet of the demo below HUIFANG_HOME, as PNG in docs/img."""
    home = Settings().home.resolve()
    reports = sorted((home / "reports").glob("daily_risk*.html"))
    if not reports:
        raise PictureError(f"{home}: no demo has run here; run `make demo` first")
    IMAGES.mkdir(parents=True, exist_ok=True)
    sheet_previews(IMAGES / "sheets")
    mail_previews(IMAGES / "mails")
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        sheet(next(home.glob("callback-sheet-*.xlsx")), IMAGES / "sheet.png", scratch)
        with (
            browser() as driver,
            prefect_server(home, environ=os.environ, log=home / "log" / "prefect-server.log") as api_url,
        ):
            shoot(driver, reports[-1].as_uri(), IMAGES / "report.png", (1280, 1640))
            shoot(driver, mail_page(home, scratch).as_uri(), IMAGES / "mail.png", (820, 960))
            address = api_url.removesuffix("/api")
            artifact = last_artifact(api_url, "standing-daily-risk-2026-03")
            shoot(driver, f"{address}/artifacts/artifact/{artifact}", IMAGES / "dashboard.png", (1400, 1200), "2026-03")
            shoot(driver, f"{address}/runs", IMAGES / "dashboard-runs.png", (1400, 1200), "report")


# ---- the mails -----------------------------------------------------------------------------------------------

MAIL_WIDTH, PHONE_WIDTH = 720, 390
"""A reading pane, and a phone."""
ON_A_PHONE = ("assignment", "feedback_hq", "receipt")


def mail_previews(folder: Path) -> None:
    """Each mail in both languages at the width of a reading pane, as long as it is; some also as a phone shows them."""
    folder.mkdir(parents=True, exist_ok=True)
    languages: tuple[Language, ...] = ("zh_CN", "en")
    with tempfile.TemporaryDirectory() as name, browser() as driver:
        page = Path(name) / "mail.html"
        for language in languages:
            for title, specimen in specimens(language).items():
                page.write_text(specimen.rendered().html, encoding="utf-8")
                shoot_whole(driver, page.as_uri(), folder / f"{title}.{language}.png", MAIL_WIDTH)
                if title in ON_A_PHONE:
                    shoot_whole(driver, page.as_uri(), folder / f"{title}.{language}.phone.png", PHONE_WIDTH)


def shoot_whole(driver: Chrome, url: str, to: Path, width: int) -> None:
    """A page from top to bottom at a width. Raises PictureError when something of it lies beyond the right edge."""
    screen = {"width": width, "height": 400, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    driver.get(url)
    wide, high = driver.execute_script(
        "const page = document.documentElement; return [page.scrollWidth, page.querySelector('table').offsetHeight]"
    )
    if wide > width:
        raise PictureError(f"{to.name}: is {wide} wide in a window of {width}")
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen | {"height": high})
    driver.save_screenshot(str(to))
    with Image.open(to) as picture:
        picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(to, optimize=True)


# ---- the sheets ------------------------------------------------------------------------------------------

READERS: dict[SheetKind, str] = {
    "callback": "operations_director",
    "hq_calls": "hq_service",
    "self_check": "operations_director",
    "opinion": "customer_service_manager",
}
CUSTOMERS = ("李*", "王**", "欧***", "南***", "J*** S***", "镕*")
FILLED: dict[str, Any] = {
    "called_on": date(2026, 3, 9), "called_at": "14:30", "caller_name": ("孙丽", "Sun Li"), "channel": "phone",
    "attempts": 1, "outcome": "done_clear", "identity": "clear", "account_changes": "clear", "operated_by_staff": "clear",
    "risks_disclosed": "clear", "full_mandate": "clear", "checked_on": date(2026, 3, 10),
    "checker_name": ("周敏", "Zhou Min"), "truth": "false", "holdings_checked": "match", "interviewed": "interviewed",
    "handling": ("已核对委托记录，客户系误解，已解释", "orders checked; a misunderstanding, explained"), "validity": "valid",
    "handled_on": date(2026, 3, 10), "handler_name": ("周敏", "Zhou Min"), "resolution": "answered",
    "answered_on": date(2026, 3, 11), "answered_by": "phone",
}  # fmt: skip
"""What the first row of a preview is filled with; the second one lacks the last of it."""


def sheet_previews(folder: Path) -> None:
    """Each sheet in both languages as it prints, begun to be filled, and the instructions of the callback sheet."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        for kind in SHEETS:
            for language in ("zh_CN", "en"):
                workbook = scratch / f"{kind}.{language}.xlsx"
                workbook.write_bytes(begun(kind, language))
                pages = print_pages(workbook, scratch, dpi=130)
                with Image.open(pages[1]) as page:
                    page.crop((0, 0, page.width, page.height * 36 // 100)).save(folder / f"{kind}.{language}.png")
                if kind == "callback":
                    shutil.copyfile(pages[0], folder / f"instructions.{language}.png")


def begun(kind: SheetKind, language: Any) -> bytes:
    """A sheet with six invented rows, of which the first is filled and the second nearly so."""
    is_zh, sheet = language == "zh_CN", SHEETS[kind]
    count = len(CUSTOMERS)
    rows = {
        "row_code": [row_code(sheet.item, n, RowKey(1, b"a secret for pictures")) for n in range(17, 17 + count)],
        "customer_name": list(CUSTOMERS),
        "phone": [f"1380000{n:04d}" for n in range(1, count + 1)],
        "form": ["risk_warning", "conduct"] * (count // 2),
        "developer": ["", "李建国" if is_zh else "Li Jianguo"] * (count // 2),
        "due_on": [date(2026, 3, 20)] * count,
        "call_on": [date(2026, 3, 9 + n // 2) for n in range(count)],
        "planned_caller": ["孙丽" if is_zh else "Sun Li", ""] * (count // 2),
        "violation": ["password_known", "sharing_profit,other"] * (count // 2),
        "stated_on": [date(2026, 3, 5)] * count,
        "statement": ["客户称曾将交易密码告知工作人员" if is_zh else "says that staff know the password"] * count,
        "employee": ["", "李建国(010102)" if is_zh else "Li Jianguo (010102)"] * (count // 2),
        "raised_on": [date(2026, 3, 5)] * count,
        "opinion": ["希望降低佣金费率" if is_zh else "asks for lower fees"] * count,
    }
    shown = {column.key for column in sheet.columns if not column.by_branch}
    headquarters = ("客服中心回访组", "Service centre"), "HQ"
    branch = ("城东证券营业部", "East Gate branch"), "0101"
    names, number = headquarters if kind == "hq_calls" else branch
    content = write_sheet(
        kind, pd.DataFrame({key: values for key, values in rows.items() if key in shown}),
        campaign="daily_risk-2026-03", title="日常合规风险提示回访" if is_zh else "Daily risk-warning callbacks",
        branch_no=number, branch_name=names[not is_zh], language=language, issued_on=date(2026, 3, 2),
        addressee=Addressee(READERS[kind], f"daily_risk-2026-03/{number}-1", 1, 2 if kind == "callback" else 1),
    )  # fmt: skip
    book = openpyxl.load_workbook(io.BytesIO(content))
    filled = [column.key for column in sheet.branch_columns if column.key in FILLED]
    for row, keys in ((4, filled), (5, filled[:-2])):
        for place, column in enumerate(sheet.columns, start=1):
            if column.key in keys:
                value = FILLED[column.key]
                value = value[not is_zh] if isinstance(value, tuple) else value
                cell = book.worksheets[1].cell(row, place)
                cell.value = column.choices[value].label.text(language) if column.choices else value
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


@contextmanager
def browser() -> Iterator[Chrome]:
    """A headless Chromium."""
    options = Options()
    options.binary_location = program("chromium")
    for switch in SWITCHES:
        options.add_argument(switch)
    driver = Chrome(options, Service(program("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


def shoot(driver: Chrome, url: str, to: Path, size: tuple[int, int], awaited: str = "") -> None:
    """A page as a reader sees it, once the awaited words stand on it and what fades in has done so."""
    driver.set_window_size(*size)
    driver.get(url)
    if awaited:
        WebDriverWait(driver, 60).until(lambda page: awaited in page.find_element(By.TAG_NAME, "body").text)
        time.sleep(2)
    driver.save_screenshot(str(to))


def last_artifact(api_url: str, key: str) -> str:
    """The id of the newest artifact of a key."""
    question = json.dumps({"artifacts": {"key": {"any_": [key]}}, "sort": "CREATED_DESC", "limit": 1}).encode()
    request = Request(f"{api_url}/artifacts/filter", question, {"Content-Type": "application/json"})  # noqa: S310
    with urlopen(request, timeout=30) as answer:  # noqa: S310
        return str(json.load(answer)[0]["id"])


def mail_page(home: Path, scratch: Path) -> Path:
    """The HTML part of the first list's mail."""
    for path in sorted((home / "outbox").glob("*/assignment-*-1.eml")):
        part = email.message_from_bytes(path.read_bytes(), policy=default).get_body(("html",))
        if part is not None:
            page = scratch / "mail.html"
            page.write_text(part.get_content(), encoding="utf-8")
            return page
    raise PictureError(f"{home / 'outbox'}: no mail with a list")


def sheet(workbook: Path, to: Path, scratch: Path) -> None:
    """The second worksheet of a workbook, as it prints."""
    shutil.copyfile(print_pages(workbook, scratch, dpi=110)[1], to)


def print_pages(workbook: Path, scratch: Path, *, dpi: int) -> list[Path]:
    """A workbook's printed pages, as pictures."""
    command = [
        program("soffice"), "--headless", f"-env:UserInstallation={(scratch / 'office').as_uri()}", "--convert-to",
        "pdf", "--outdir", str(scratch), str(workbook),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=180)  # noqa: S603
    pages = scratch / f"{workbook.stem}-page"
    subprocess.run(  # noqa: S603
        [program("pdftoppm"), "-png", "-r", str(dpi), str(scratch / f"{workbook.stem}.pdf"), str(pages)],
        check=True,
        timeout=60,
    )
    return sorted(scratch.glob(f"{pages.name}*.png"))


def program(name: str) -> str:
    """The path of a program. Raises PictureError naming the package list when it is missing."""
    found = shutil.which(name)
    if found is None:
        raise PictureError(f"{name} is not installed; `make system` installs the packages of system-packages.txt")
    return found


if __name__ == "__main__":
    if sys.argv[1:] == ["sheets"]:
        sheet_previews(IMAGES / "sheets")
    elif sys.argv[1:] == ["mails"]:
        mail_previews(IMAGES / "mails")
    else:
        main()
