"""The pictures of the documents, made from a finished demo: `make pictures` (Chromium, LibreOffice, pdftoppm, CJK fonts).

Shows what a reader would see; changes nothing in the demo's home but adds a dashboard server for the time.
"""

from __future__ import annotations

import email
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.policy import default
from pathlib import Path
from urllib.request import Request, urlopen

from selenium.webdriver import Chrome
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from models import CallbackError
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
    office = program("soffice")
    command = [
        office,
        "--headless",
        f"-env:UserInstallation={(scratch / 'office').as_uri()}",
        "--convert-to",
        "pdf",
        "--outdir",
    ]
    subprocess.run([*command, str(scratch), str(workbook)], check=True, capture_output=True, timeout=180)  # noqa: S603
    pages = scratch / "page"
    subprocess.run(  # noqa: S603
        [program("pdftoppm"), "-png", "-r", "110", str(scratch / f"{workbook.stem}.pdf"), str(pages)],
        check=True,
        timeout=60,
    )
    shutil.copyfile(sorted(scratch.glob("page*.png"))[1], to)


def program(name: str) -> str:
    """The path of a program. Raises PictureError naming the package list when it is missing."""
    found = shutil.which(name)
    if found is None:
        raise PictureError(f"{name} is not installed; `make system` installs the packages of system-packages.txt")
    return found


if __name__ == "__main__":
    main()
