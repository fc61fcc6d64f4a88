"""Synthetic branches that answer their mail; they hold what a real branch holds, and nothing else.

What a branch is given: its own mail folders (one for each of its roles), the password of its lists (a letter brought
it; here the file keys/branches/{branch_no}.key), and the headquarters address its mail came from. It opens a workbook
with its password, finds the columns by their visible titles and the choices in the cells' dropdowns, fills the rows as
a clerk types, and sends the file back by SMTP. The person who is assigned makes the call; where nobody is, one of its
own callers. What it has answered it writes into its own folder, demo/branches/{branch_no}. It knows no table, no
row-code secret and no programme file. The call centre of headquarters, which calls where nobody at the branch may,
answers its lists like a branch called HQ.

Tempers follow from the seed and the branch number (see TEMPERS), outcomes from the seed and the row.
"""

from __future__ import annotations

import io
import json
import math
import mimetypes
import os
import random
import re
import struct
import subprocess
import sys
import wave
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, time, timedelta, timezone
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from email.utils import format_datetime, parseaddr
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import chinese_calendar
import msoffcrypto
import openpyxl
import yagmail
from msoffcrypto.format.ooxml import OOXMLFile
from openpyxl.worksheet.worksheet import Worksheet

from models import CallbackError
from tasks.postoffice import folder_of

SHANGHAI = timezone(timedelta(hours=8))
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
MAILBOXES = ("director", "manager", "head", "deputy")
"""Before .{branch_no}@branch.example, one for each role of the roster."""
HQ, HQ_ADDRESS = "HQ", "service@hq.example"
CREWLESS = 4
"""Branches that answer within this process; for more, others are started: a workbook costs 0.4 s of CPU."""

TEMPERS = (
    "prompt", "late", "prompt", "broken", "clear", "prompt", "partial", "careless", "prompt", "renamed", "twice",
    "prompt", "silent", "clear", "away", "broken", "prompt", "late", "leaky", "partial",
)  # fmt: skip
"""prompt: answers all rows. late: only after the due date. broken: some wrong cells, put right after the receipt.
clear: returns the file without a password. partial: six rows in ten. careless: one caller is the customer's developer.
renamed: own file name, own workbook, rows sorted anew. twice: sends the same mail twice. silent: never answers.
away: an out-of-office reply comes first. leaky: a copy of the sheet comes from an address nobody registered."""

OUTCOMES = {
    "done_clear": 62,
    "no_answer": 12,
    "refused": 6,
    "done_opinion": 4,
    "bad_number": 4,
    "partial": 3,
    "not_customer": 3,
    "done_suspect": 2,
    "rebook": 3,
    "left_frame": 1,
}
LEGAL = ("identity", "account_changes", "operated_by_staff", "risks_disclosed", "full_mandate")

TITLES = {
    "row_code": ("任务编码", "Row code"),
    "customer_name": ("客户姓名", "Customer"),
    "developer": ("开发人", "Developer"),
    "due_on": ("截止日期", "Due"),
    "planned_caller": ("安排回访人", "Assigned to"),
    "called_on": ("回访日期", "Called on"),
    "called_at": ("回访时间", "Time"),
    "caller_name": ("回访人", "Caller"),
    "channel": ("回访方式", "By"),
    "attempts": ("尝试次数", "Attempts"),
    "outcome": ("回访结果", "Outcome"),
    "identity": ("身份核实", "Identity"),
    "account_changes": ("账户变动", "Account changes"),
    "operated_by_staff": ("代客操作", "Operated by staff"),
    "risks_disclosed": ("风险揭示", "Risks disclosed"),
    "full_mandate": ("全权委托", "Full mandate"),
    "violation": ("疑似违规类型", "Suspected violation"),
    "remark": ("情况说明", "Remark"),
    "checked_on": ("再次回访日期", "Checked on"),
    "checker_name": ("自查人", "Checked by"),
    "truth": ("客户陈述是否属实", "Is the statement true"),
    "holdings_checked": ("持仓及委托核对", "Holdings and orders"),
    "interviewed": ("员工访谈", "Interview"),
    "handling": ("处理情况", "Handling"),
}
CHOICES = {
    "done_clear": ("成功·无异常", "Done · clear"),
    "done_suspect": ("成功·疑似违规", "Done · suspected violation"),
    "done_opinion": ("成功·有意见建议", "Done · opinion"),
    "partial": ("部分完成", "Partly done"),
    "rebook": ("预约下次", "Call again as agreed"),
    "not_customer": ("非本人接听", "Someone else answered"),
    "refused": ("拒访", "Refused"),
    "no_answer": ("无人接听/占线/关机/无法接通", "No answer/busy/switched off"),
    "bad_number": ("空号/停机/改号", "Number not in use"),
    "left_frame": ("已销户/转休眠", "Closed/dormant"),
    "phone": ("电话", "Phone"),
    "visit": ("面访", "Visit"),
    "clear": ("已核·无异常", "Clear"),
    "flagged": ("已核·有异常", "Flagged"),
    "not_asked": ("未核", "Not asked"),
    "password_known": ("获知密码", "Password known to staff"),
    "trading_for_customer": ("代客操作", "Trading for the customer"),
    "sharing_profit": ("分享收益", "Sharing profits"),
    "promising_return": ("承诺收益或赔偿损失", "Promising return or compensation"),
    "other": ("其他", "Other"),
    "true": ("属实", "True"),
    "false": ("不属实", "Not true"),
    "unverifiable": ("无法核实", "Cannot be verified"),
    "match": ("相符", "Match"),
    "mismatch": ("不符", "Mismatch"),
    "not_checked": ("未核对", "Not checked"),
    "interviewed": ("已访谈", "Interviewed"),
    "not_needed": ("无需访谈", "Not needed"),
}
FLAGGED_BY = {
    "password_known": "operated_by_staff",
    "trading_for_customer": "operated_by_staff",
    "sharing_profit": "full_mandate",
    "promising_return": "risks_disclosed",
    "other": "account_changes",
}
COUNTED = (
    "read", "waiting", "answer", "self_check", "correction", "recordings", "auto_reply", "stranger", "duplicates",
    "rows",
)  # fmt: skip
"""Mails read and mails left for later; letters by kind, twins apart; rows filled."""
STATEMENTS = {
    "password_known": "客户称曾将交易密码告知一名工作人员。",
    "trading_for_customer": "客户称近两个月有几笔委托由工作人员代为下单。",
    "sharing_profit": "客户称与工作人员口头约定盈利部分分成。",
    "promising_return": "客户称开户时被告知可保底收益。",
    "other": "客户称账户有一笔转账不知情，请总部核查。",
}
OPINIONS = (
    "希望降低佣金费率。",
    "建议增加周末投资者讲座。",
    "手机软件登录偏慢，希望改进。",
    "希望营业部电话更容易接通。",
    "建议短信提醒新股申购。",
)
CALLERS = ("周敏", "吴晓东", "郑玉兰", "冯志强", "褚文静", "卫国平", "蒋丽娟", "沈建华", "韩雪梅", "杨海波")


class BranchError(CallbackError):
    """A branch cannot answer: its password does not open the list, or the list has not the columns it knows."""


@dataclass(frozen=True)
class Letter:
    """One mail a branch is about to send; attachments are files in its own folder."""

    kind: str
    """One of COUNTED."""
    sender: str
    sender_name: str
    recipient: str
    subject: str
    text: str
    message_id: str
    in_reply_to: str
    attachments: list[str] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    copies: int = 1
    rows: int = 0


@dataclass(frozen=True)
class Answered:
    """What one branch made of its mail: letters to send, and what is to be remembered of each mail that it has read."""

    branch_no: str
    letters: list[Letter]
    read: dict[str, str]
    faults: dict[str, dict[str, str]]
    """By mail whose list went back with wrong cells: the programme's title, when, and the receipt that was acted on."""


def answer(
    home: Path,
    smtp_url: str,
    *,
    seed: int,
    as_of: date,
    now: datetime,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, int]:
    """What the branches did, as counts; see COUNTED.

    Reads every mail in the branches' folders that has not been answered, in the order of branch numbers; a mail that a
    late branch leaves for later counts as waiting and is looked at again. A second call with no new mail sends nothing.
    Raises BranchError.
    """
    home = home.resolve()
    busy = [branch_no for branch_no in _branches(home) if any(_unread(home, branch_no))]
    counts: Counter[str] = Counter(dict.fromkeys(COUNTED, 0))
    for done, found in enumerate(_answers(home, busy, seed, as_of, now), start=1):
        _send(found.letters, smtp_url, now)
        for letter in found.letters:
            counts[letter.kind] += 1
            counts["rows"] += letter.rows
            counts["duplicates"] += letter.copies - 1
        waiting = sum(verdict == "waiting" for verdict in found.read.values())
        counts["waiting"] += waiting
        counts["read"] += len(found.read) - waiting
        _remember(home, found)
        if progress:
            progress(done, len(busy))
    return dict(counts)


# ---- a branch's own things ---------------------------------------------------------------------------------


def temper_of(branch_no: str, seed: int) -> str:
    """How a branch answers; every 20 consecutive branch numbers hold each entry of TEMPERS once. Headquarters is prompt."""
    if branch_no == HQ:
        return "prompt"
    number = int(branch_no) if branch_no.isdecimal() else int(sha256(branch_no.encode()).hexdigest()[:8], 16)
    return TEMPERS[(number * 7 + seed) % len(TEMPERS)]


def _branches(home: Path) -> list[str]:
    return sorted(path.stem for path in (home / "keys" / "branches").glob("*.key"))


def _desk(home: Path, branch_no: str) -> Path:
    return home / "demo" / "branches" / branch_no


def _memory(home: Path, branch_no: str) -> dict[str, Any]:
    path = _desk(home, branch_no) / "answered.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"read": {}, "faults": {}}


def _remember(home: Path, found: Answered) -> None:
    memory = _memory(home, found.branch_no)
    memory["read"] |= {key: verdict for key, verdict in found.read.items() if verdict != "waiting"}
    memory["faults"] = found.faults
    path = _desk(home, found.branch_no) / "answered.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(memory, indent=1, sort_keys=True), encoding="utf-8")
    draft.replace(path)


def _mails(home: Path, branch_no: str) -> Iterator[tuple[str, str, Path]]:
    """Key, address and file of each mail of a branch, by arrival."""
    addresses = [f"{local}.{branch_no}@branch.example" for local in MAILBOXES] if branch_no != HQ else [HQ_ADDRESS]
    for address in addresses:
        folder = folder_of(home / "maildir", address)
        files = [path for part in ("new", "cur") for path in (folder / part).glob("*")]
        for path in sorted(files, key=lambda path: (path.stat().st_mtime_ns, path.name)):
            yield f"{re.split('[.@]', address)[0]}/{path.name.split(':')[0]}", address, path


def _unread(home: Path, branch_no: str) -> Iterator[tuple[str, str, Path]]:
    read = _memory(home, branch_no)["read"]
    return (mail for mail in _mails(home, branch_no) if mail[0] not in read)


# ---- several branches at once ------------------------------------------------------------------------------


def _answers(home: Path, branches: list[str], seed: int, as_of: date, now: datetime) -> Iterator[Answered]:
    """Each branch's answers, in the order of branches; spread over processes when they are many."""
    if len(branches) <= CREWLESS:
        yield from (_answer_branch(home, branch_no, seed, as_of, now) for branch_no in branches)
        return
    crews = min(os.cpu_count() or 1, 4)
    order = {"home": str(home), "seed": seed, "as_of": as_of.isoformat(), "now": now.isoformat()}
    running = []
    try:
        for crew in range(crews):
            clerk = subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", "demo.branches", json.dumps(order | {"branches": branches[crew::crews]})],
                cwd=Path(__file__).resolve().parents[1],
                stdout=subprocess.PIPE,
                text=True,
                encoding="utf-8",
            )
            running.append(clerk)
        for turn, branch_no in enumerate(branches):
            clerk = running[turn % crews]
            line = clerk.stdout.readline() if clerk.stdout else ""
            if not line:
                raise BranchError(f"branch {branch_no}: could not answer its mail; the reason stands above")
            found = json.loads(line)
            yield Answered(**found | {"letters": [Letter(**letter) for letter in found["letters"]]})
    finally:
        for clerk in running:
            clerk.kill()  # does nothing to one that has ended
            clerk.communicate()


def _main(order: dict[str, Any]) -> None:
    home, as_of, now = Path(order["home"]), date.fromisoformat(order["as_of"]), datetime.fromisoformat(order["now"])
    for branch_no in order["branches"]:
        found = _answer_branch(home, branch_no, order["seed"], as_of, now)
        sys.stdout.write(json.dumps(asdict(found)) + "\n")
        sys.stdout.flush()


# ---- reading mail ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _List:
    """A sheet as a branch has it open: the workbook, its table, and where each column stands."""

    file_name: str
    book: openpyxl.Workbook
    table: Worksheet
    header_row: int
    columns: dict[str, int]
    rows: list[int]

    @property
    def kind(self) -> str:
        return "self_check" if "truth" in self.columns else "answer"

    def cell(self, row: int, key: str) -> Any:
        return self.table.cell(row, self.columns[key])

    @property
    def title(self) -> str:
        """The programme's name out of the sheet's heading."""
        return str(self.table.cell(1, 1).value).split("·")[1].strip()

    def due_on(self) -> date:
        dues = [self.cell(row, "due_on").value for row in self.rows]
        return max(due.date() if isinstance(due, datetime) else due for due in dues)

    def choose(self, row: int, key: str, code: str) -> None:
        """Pick from the cell's dropdown, as a clerk does."""
        cell = self.cell(row, key)
        offered = [
            option
            for rule in self.table.data_validations.dataValidation
            if rule.type == "list" and cell.coordinate in rule.sqref
            for option in str(rule.formula1).strip('"').split(",")
        ]
        picked = next((option for option in offered if option in CHOICES[code]), None)
        if picked is None:
            raise BranchError(
                f"{self.file_name}: the dropdown of {TITLES[key][0]} in row {cell.row} offers "
                f"{' | '.join(offered) or 'nothing'}, not {CHOICES[code][0]}"
            )
        cell.value = picked


def _answer_branch(home: Path, branch_no: str, seed: int, as_of: date, now: datetime) -> Answered:
    temper = temper_of(branch_no, seed)
    faults = _memory(home, branch_no)["faults"]
    files = {key: (address, path) for key, address, path in _mails(home, branch_no)}
    found = Answered(branch_no, [], {}, faults)
    for key, address, path in list(_unread(home, branch_no)):
        mail = _read_mail(path)
        desk = _Desk(home, branch_no, address, temper, seed, as_of, now, mail, key)
        book = desk.open_list()
        if temper == "silent":
            found.read[key] = "ignored"
        elif book is None:
            found.read[key] = "read"
            for first_key, fault in faults.items():
                if not fault["corrected_by"] and _names_rows(mail, fault["title"]):
                    # The clerk leaves the receipt's correction sheet aside and opens the list once more.
                    first_address, first_path = files[first_key]
                    then = date.fromisoformat(fault["as_of"]), datetime.fromisoformat(fault["now"])
                    first = _Desk(
                        home, branch_no, first_address, temper, seed, *then, _read_mail(first_path), first_key, key
                    )
                    again = first.open_list()
                    if again is None:
                        raise BranchError(f"branch {branch_no}: the list to put right is gone from {first_path}")
                    found.letters.extend(first.fill(again, is_faulty=False))
                    fault["corrected_by"] = key
                    found.read[key] = "corrected"
        elif temper == "late" and as_of <= book.due_on():
            found.read[key] = "waiting"
        else:
            is_first = book.kind == "answer" and all(fault["title"] != book.title for fault in faults.values())
            is_faulty = temper == "broken" and is_first
            found.letters.extend(desk.fill(book, is_faulty=is_faulty))
            found.read[key] = "answered"
            if is_faulty:
                faults[key] = {
                    "title": book.title,
                    "as_of": as_of.isoformat(),
                    "now": now.isoformat(),
                    "corrected_by": "",
                }
    return found


def _names_rows(mail: EmailMessage, title: str) -> bool:
    """Whether a mail says of a programme's sheet that some of its rows must be put right."""
    text = f"{mail['Subject']}\n{mail.get_body(('plain', 'html')).get_content()}"
    return title in text and re.search(r"第\s*\d+\s*行|row\s*\d+", text) is not None


def _read_mail(path: Path) -> EmailMessage:
    return BytesParser(EmailMessage, policy=policy.default).parsebytes(path.read_bytes())


class _Desk:
    """A clerk's desk with one mail on it."""

    def __init__(
        self,
        home: Path,
        branch_no: str,
        address: str,
        temper: str,
        seed: int,
        as_of: date,
        now: datetime,
        mail: EmailMessage,
        key: str,
        receipt: str = "",
    ) -> None:
        """receipt: the mail that asked for a list to be put right; empty for a first answer."""
        self.home, self.branch_no, self.address, self.temper, self.mail = home, branch_no, address, temper, mail
        self.seed, self.as_of, self.now = seed, as_of, now.astimezone(SHANGHAI)
        self.desk_name = "总部客服中心" if branch_no == HQ else f"营业部{branch_no}"
        self.is_correction = bool(receipt)
        sent = mail["Date"].datetime if mail["Date"] else now
        self.received_on = sent.astimezone(SHANGHAI).date()
        self.mark = sha256(f"{branch_no}|{key}|{mail['Message-ID']}|{receipt}".encode()).hexdigest()[:20]
        self.chance = random.Random(f"{seed}|{branch_no}")  # noqa: S311 (a story, not a secret)
        self.callers = self.chance.sample(CALLERS, 3)
        self.date_form = self.chance.choice(
            ["cell", "cell", "cell", "%Y-%m-%d", "%Y.%m.%d", "%Y年%m月%d日", "%Y/%m/%d"]
        )

    def open_list(self) -> _List | None:
        """The first attached workbook with a table to fill; None when the mail brings none."""
        for part in self.mail.iter_attachments():
            name = part.get_filename() or ""
            if name.lower().endswith(".xlsx"):
                book = openpyxl.load_workbook(io.BytesIO(self._unlock(part.get_content(), name)))
                if found := _find_table(book, name):
                    return found
        return None

    def _unlock(self, content: bytes, name: str) -> bytes:
        office = msoffcrypto.OfficeFile(io.BytesIO(content))
        if not office.is_encrypted():
            return content
        password = (self.home / "keys" / "branches" / f"{self.branch_no}.key").read_text(encoding="utf-8").strip()
        opened = io.BytesIO()
        try:
            office.load_key(password=password)
            office.decrypt(opened)
        except (msoffcrypto.exceptions.InvalidKeyError, msoffcrypto.exceptions.DecryptionError) as error:
            raise BranchError(f"branch {self.branch_no}: its password does not open {name}: {error}") from error
        return opened.getvalue()

    # ---- filling -------------------------------------------------------------------------------------------

    def fill(self, book: _List, *, is_faulty: bool) -> list[Letter]:
        """The letters that return a list."""
        rows = book.rows
        if self.temper == "partial" and book.kind == "answer":
            rows = rows[: max(1, len(rows) * 6 // 10)]
        evidence: list[tuple[str, bytes]] = []
        for place, row in enumerate(rows):
            evidence += self._call(book, row, place) if book.kind == "answer" else self._check(book, row)
        if book.kind == "answer" and self.temper == "careless":
            self._err_in_caller(book, rows)
        if is_faulty:
            self._break_cells(book, rows)
        sheet = self._keep(*self._save(book))
        files = [self._keep(name, content) for name, content in evidence]
        kind = "correction" if self.is_correction else book.kind
        letters = [self._letter(kind, [sheet, *files], rows=len(rows), copies=2 if self.temper == "twice" else 1)]
        if book.kind == "self_check" and self.temper in ("clear", "twice"):
            # Recordings are large: some branches send them in a mail of their own.
            recordings = [path for path in files if path.endswith(".wav")]
            letters = [
                self._letter(kind, [path for path in (sheet, *files) if path not in recordings], rows=len(rows)),
                self._letter("recordings", recordings),
            ]
        if self.temper == "leaky" and book.kind == "answer":
            letters.append(self._letter("stranger", [sheet], sender=f"xiaozhang.{self.branch_no}@mailbox.example"))
        if self.temper == "away" and book.kind == "answer":
            letters.insert(0, self._letter("auto_reply", []))
        return letters

    def _call(self, book: _List, row: int, place: int) -> list[tuple[str, bytes]]:
        """One row of the callback sheet; recordings or signatures of the calls that headquarters will ask about."""
        code = str(book.cell(row, "row_code").value)
        # Only the number: what follows is a check that differs between two houses made from the same seed.
        chance = random.Random(f"{self.seed}|{self.branch_no}|{code.split('-')[0]}")  # noqa: S311
        outcome = chance.choices(list(OUTCOMES), list(OUTCOMES.values()))[0]
        if place == 0 and self.branch_no.endswith("1"):
            outcome = "done_suspect"
        is_done = outcome.startswith("done")
        channel = "visit" if is_done and chance.random() < 0.05 else "phone"
        # Headquarters' own list names no developer: nobody there is one.
        developer = str(book.cell(row, "developer").value or "") if "developer" in book.columns else ""
        self._write_day(book, row, "called_on", called_on := self._workday(chance))
        book.cell(row, "called_at").value = self._time(chance, called_on)
        own_choice = chance.choice([name for name in self.callers if name != developer])
        planned = book.cell(row, "planned_caller").value if "planned_caller" in book.columns else None
        book.cell(row, "caller_name").value = planned or own_choice
        book.choose(row, "channel", channel)
        attempts = {"no_answer": 3 if chance.random() < 0.85 else 2, "refused": 1, "bad_number": 1, "left_frame": 1}
        book.cell(row, "attempts").value = attempts.get(outcome) or chance.choice([1, 1, 1, 2, 2, 3])
        book.choose(row, "outcome", outcome)
        answers = dict.fromkeys(LEGAL, "clear") if is_done else {}
        if outcome == "partial":
            asked = chance.randint(1, 4)
            answers = {content: "clear" if n < asked else "not_asked" for n, content in enumerate(LEGAL)}
        remark = {"rebook": "客户约定两日后下午再联系。", "partial": "客户有事先挂断，约定另行补充。"}.get(outcome, "")
        if outcome == "done_suspect":
            violation = chance.choice(list(FLAGGED_BY))
            answers[FLAGGED_BY[violation]] = "flagged"
            book.choose(row, "violation", violation)
            remark = STATEMENTS[violation]
        elif outcome == "done_opinion":
            remark = chance.choice(OPINIONS)
        for content, given in answers.items():
            book.choose(row, content, given)
        if remark:
            book.cell(row, "remark").value = remark
        if channel == "visit":
            return [(f"{code}_客户签字.png", _scan(chance))]
        if outcome in ("done_suspect", "done_opinion"):
            return [(f"{code}_回访录音.wav", _recording(chance))]
        return []

    def _check(self, book: _List, row: int) -> list[tuple[str, bytes]]:
        """One row of the self-check statement with its evidence: register, recording and interview."""
        code = str(book.cell(row, "row_code").value)
        chance = random.Random(f"{self.seed}|{self.branch_no}|{code.split('-')[0]}")  # noqa: S311
        truth = chance.choices(["true", "false", "unverifiable"], [35, 45, 20])[0]
        self._write_day(book, row, "checked_on", self._workday(chance))
        book.cell(row, "checker_name").value = self.callers[0]
        book.choose(row, "truth", truth)
        book.choose(row, "holdings_checked", "mismatch" if truth == "true" and chance.random() < 0.5 else "match")
        book.choose(row, "interviewed", "interviewed")
        book.cell(row, "handling").value = {
            "true": "经再次回访及员工访谈，客户陈述属实；已对当事员工停止客户服务并提请合规处理。",
            "false": "经再次回访，客户确认系误解；调取委托记录及设备信息核对，未发现异常。",
            "unverifiable": "客户未能提供时间与人员，委托记录无法印证；已提示客户修改密码并持续关注。",
        }[truth]
        return [
            (f"{code}_回访登记表扫描件.pdf", _document(code)),
            (f"{code}_再次回访录音.wav", _recording(chance)),
            (f"{code}_访谈记录.png", _scan(chance)),
        ]

    def _workday(self, chance: random.Random) -> date:
        """A workday after the list came and before today; today where there is none."""
        between = (self.as_of - self.received_on).days
        days = [day for n in range(1, between) if _is_workday(day := self.received_on + timedelta(days=n))]
        if self.temper == "late":
            days = days[-3:]
        return chance.choice(days) if days else max(self.received_on, self.as_of)

    def _time(self, chance: random.Random, day: date) -> time | str:
        """Within office hours, and not in the future."""
        minutes = [*range(9 * 60, 11 * 60 + 30), *range(13 * 60 + 30, 17 * 60 + 30)]
        if day >= self.now.date():
            minutes = [m for m in minutes if m < self.now.hour * 60 + self.now.minute] or [9 * 60]
        picked = chance.choice(minutes)
        at = time(picked // 60, picked % 60)
        return at if self.date_form == "cell" else chance.choice([f"{at:%H:%M}", f"{at.hour}：{at.minute:02d}"])

    def _write_day(self, book: _List, row: int, key: str, day: date) -> None:
        book.cell(row, key).value = day if self.date_form == "cell" else day.strftime(self.date_form)

    # ---- what goes wrong -----------------------------------------------------------------------------------

    def _break_cells(self, book: _List, rows: list[int]) -> None:
        """One fault in each of up to five rows, the way they really come."""
        for row, fault in zip(rows, ("formula", "impossible_date", "name", "missing", "free_text"), strict=False):
            if fault == "formula":
                book.cell(row, "outcome").value = f'="{CHOICES["done_clear"][0]}"'
            elif fault == "impossible_date":
                book.cell(row, "called_on").value = f"{self.as_of.year}-02-30"
            elif fault == "name":
                book.cell(row, "customer_name").value = "诸葛**"
            elif fault == "missing":
                book.cell(row, "caller_name").value = None
            else:
                book.cell(row, "outcome").value = "打通了，没什么问题"

    def _err_in_caller(self, book: _List, rows: list[int]) -> None:
        for row in rows:
            developer = str(book.cell(row, "developer").value or "")
            if developer not in ("", "无", "none"):
                book.cell(row, "caller_name").value = developer
                return

    # ---- returning -----------------------------------------------------------------------------------------

    def _save(self, book: _List) -> tuple[str, bytes]:
        """The file's name and bytes as they go back: locked again, or in clear."""
        name = f"{Path(book.file_name).stem}{'-更正' if self.is_correction else ''}.xlsx"
        filled = book.book
        if self.temper == "renamed":
            name, filled = f"营业部{self.branch_no}回访（最终版）新.xlsx", _sorted_anew(book)
        clear = io.BytesIO()
        filled.save(clear)
        if self.temper == "clear":
            return name, clear.getvalue()
        password = (self.home / "keys" / "branches" / f"{self.branch_no}.key").read_text(encoding="utf-8").strip()
        locked = io.BytesIO()
        OOXMLFile(clear).encrypt(password, locked)
        return name, locked.getvalue()

    def _keep(self, name: str, content: bytes) -> str:
        path = _desk(self.home, self.branch_no) / "sent" / self.mark / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return str(path)

    def _letter(self, kind: str, attachments: list[str], *, sender: str = "", rows: int = 0, copies: int = 1) -> Letter:
        recipient = parseaddr(str(self.mail["Reply-To"] or self.mail["From"]))[1]
        subject = " ".join(str(self.mail["Subject"]).split())
        headers = {}
        if kind == "auto_reply":
            subject, text = f"自动回复：{subject}", "本人外出参会，邮件由同事代为查收，返回后回复。"
            headers = {"Auto-Submitted": "auto-replied"}
        elif kind == "stranger":
            text = "领导好，营业部邮箱今天登录不上，先用我个人邮箱把登记表发过来。"
        elif kind == "recordings":
            subject, text = f"回复：{subject}（录音）", "录音文件较大，单独发送，请查收。"
        else:
            words = {
                "answer": "回访登记表已填好",
                "self_check": "自查情况说明表及佐证材料",
                "correction": "已按回执更正",
            }
            subject = f"回复：{subject}"
            text = f"您好，{words[kind]}，见附件。\n\n{self.desk_name} {self.callers[0]}"
        return Letter(
            kind,
            sender or self.address,
            "小张" if sender else self.desk_name,
            recipient,
            subject,
            text,
            f"<{self.mark}.{kind}@{(sender or self.address).partition('@')[2]}>",
            str(self.mail["Message-ID"]),
            attachments,
            headers,
            copies,
            rows,
        )


def _find_table(book: openpyxl.Workbook, file_name: str) -> _List | None:
    """The worksheet with a column called 任务编码 and one to fill; the columns by the titles a reader sees."""
    keys = {title.casefold(): key for key, titles in TITLES.items() for title in titles}
    for page in book.worksheets:
        for row in page.iter_rows():
            titles = {str(cell.value).strip(" *＊\n").casefold(): cell.column for cell in row if cell.value}
            if not {"需改正", "to correct"}.isdisjoint(titles):
                return None  # a correction sheet: this clerk would rather open the list once more
            columns = {keys[title]: place for title, place in titles.items() if title in keys}
            if "row_code" in columns and ("outcome" in columns or "truth" in columns):
                wanted = set(TITLES) & set(columns)
                first = row[0].row
                codes = [n for n in range(first + 1, page.max_row + 1) if page.cell(n, columns["row_code"]).value]
                return _List(file_name, book, page, first, {key: columns[key] for key in wanted}, codes)
    return None


def _sorted_anew(book: _List) -> openpyxl.Workbook:
    """The table copied into a new workbook behind a column of running numbers, rows by outcome."""
    copied = openpyxl.Workbook()
    page = copied.active
    page.title = "Sheet1"
    width = max(book.columns.values())
    page.append(["序号", *(book.table.cell(book.header_row, place).value for place in range(1, width + 1))])
    progress = "outcome" if "outcome" in book.columns else "truth"
    ordered = sorted(book.rows, key=lambda row: (str(book.cell(row, progress).value or ""), -row))
    for number, row in enumerate(ordered, start=1):
        page.append([number, *(book.table.cell(row, place).value for place in range(1, width + 1))])
    return copied


def _is_workday(day: date) -> bool:
    try:
        return bool(chinese_calendar.is_workday(day))
    except NotImplementedError:  # a year whose holidays are not announced yet: the branch works Monday to Friday
        return day.weekday() < 5


# ---- small files that look like evidence -------------------------------------------------------------------


def _recording(chance: random.Random) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(1)
        sound.setframerate(400)
        pitch = chance.uniform(0.1, 0.6)
        sound.writeframes(bytes(128 + int(60 * math.sin(n * pitch)) for n in range(chance.randint(8_400, 14_000))))
    return file.getvalue()


def _scan(chance: random.Random) -> bytes:
    """A grey PNG of 64 by 16 with a scribble on it."""
    lines = [bytearray([255] * 64) for _ in range(16)]
    for x in range(4, 60):
        lines[8 + round(5 * math.sin(x * chance.uniform(0.2, 0.5)))][x] = 40

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    pixels = zlib.compress(b"".join(b"\0" + bytes(line) for line in lines))
    head = struct.pack(">IIBBBBB", 64, 16, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def _document(code: str) -> bytes:
    """A PDF of one page that shows a row code."""
    drawn = f"BT /F1 14 Tf 40 100 Td ({code} signed) Tj ET".encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 300 200] /Contents 4 0 R "
        b"/Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(drawn), drawn),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    file, places = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, start=1):
        places.append(len(file))
        file += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    head = b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    tail = b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, len(file))
    return file + head + table + tail


# ---- sending -----------------------------------------------------------------------------------------------


def _send(letters: Iterable[Letter], smtp_url: str, now: datetime) -> None:
    """Hand letters to the mail server one after the other, each from its sender; a twin is the same bytes again."""
    mimetypes.add_type(XLSX, ".xlsx")  # unknown to Python's own table: yagmail would write None/None
    server = urlsplit(smtp_url)
    for letter in letters:
        client = yagmail.Client(
            {letter.sender: letter.sender_name},
            "-",
            host=server.hostname or "127.0.0.1",
            port=server.port,
            smtp_ssl=False,
            smtp_starttls=False,
            smtp_skip_login=True,
            timeout=30,
        )
        headers = {
            "Date": format_datetime(now),
            "In-Reply-To": letter.in_reply_to,
            "References": letter.in_reply_to,
            **letter.headers,
        }
        with closing(client):
            _, message = client.send(
                letter.recipient,
                letter.subject,
                [yagmail.raw(letter.text)],
                letter.attachments,
                preview_only=True,
                headers=headers,
                prettify_html=False,
                message_id=letter.message_id,
            )
            for _ in range(letter.copies):
                refused = client.smtp.sendmail(letter.sender, [letter.recipient], message)
                if refused:
                    raise BranchError(f"{letter.sender}: the mail server refused {letter.message_id}: {refused}")


if __name__ == "__main__":
    _main(json.loads(sys.argv[1]))
