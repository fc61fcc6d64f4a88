"""Evidence: which file belongs to which row, what keeps a row open, and the correction sheet that goes back and comes back."""

import email
import io
import math
import wave
import zipfile
from datetime import date
from email.message import EmailMessage
from email.policy import default

import msoffcrypto
import openpyxl
import pytest
import yaml
from house import House, at
from letters import FORMULA, KEY, SHEET, expected_calls, letter, opened
from msoffcrypto.format.ooxml import OOXMLFile
from PIL import Image
from test_notices import dsn

from models.evidence import KINDS, NAMED, SCANS, file_fault, file_kind, names_written, still_missing
from models.programme import Programme
from models.returns import evidence_missing, judge_rows, match_files
from models.row_code import row_code
from models.sheets import CALLBACK, HQ_CALLS, OPINION, SELF_CHECK
from tasks.settings import PROJECT, Settings
from tasks.vault import branch_password, read_evidence

ASKED = {"calls": ["recording", "signature"], "self_check": ["register", "contact", "interview"]}
CODE = row_code("assignment", 17, KEY)
OTHER = row_code("assignment", 18, KEY)


def sound(seconds=3.0, *, pitch=0.3):
    file = io.BytesIO()
    with wave.open(file, "wb") as recording:
        recording.setnchannels(1)
        recording.setsampwidth(1)
        recording.setframerate(4000)
        recording.writeframes(bytes(128 + int(60 * math.sin(n * pitch)) for n in range(int(4000 * seconds))))
    return file.getvalue()


def silence(seconds=3.0):
    return sound(seconds, pitch=0)


def scan(*, blank=False):
    picture, file = Image.new("L", (60, 40), 255), io.BytesIO()
    if not blank:
        picture.paste(30, (10, 10, 50, 14))
    picture.save(file, "PNG")
    return file.getvalue()


def zipped(**members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


# ---- which row a file belongs to -----------------------------------------------------------------------------


def named_by_sheet(names, row=4):
    """A sheet whose first call is filled, with file names in the evidence column of a row."""
    book = openpyxl.load_workbook(io.BytesIO(SHEET))
    table = book.worksheets[1]
    table.cell(*FORMULA).value = None
    table.cell(row, [column.key for column in CALLBACK.columns].index("evidence_files") + 1, names)
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def rows_of_files(tmp_path, *attachments):
    [message] = opened(tmp_path, letter(*attachments))
    by_part = match_files(message, [KEY])
    return [by_part.get(file.part) for file in message.files if not file.is_workbook and not file.name.endswith("zip")]


def test_a_file_belongs_to_the_row_whose_code_is_in_its_name_or_else_in_its_nearest_folder(tmp_path):
    packed = zipped(**{
        f"回访/{CODE}/录音.wav": sound(), f"{OTHER}/{CODE}_签字.png": scan(), f"{OTHER}/{CODE}/1.wav": sound(2), "2.wav": sound(1.5),
    })  # fmt: skip
    mine, other = ("assignment", 17), ("assignment", 18)
    assert rows_of_files(tmp_path, (f"{CODE}.wav", sound()), ("新录音.wav", sound(4))) == [mine, None]
    assert rows_of_files(tmp_path, ("证据.zip", packed)) == [mine, mine, mine, None]
    assert rows_of_files(tmp_path, (f"{OTHER}.zip", packed)) == [mine, mine, mine, other]


def test_a_file_belongs_to_the_row_that_names_it_in_the_evidence_column(tmp_path):
    listed = ("回访.xlsx", named_by_sheet("20260305 001.WAV；签字"))
    files = (("20260305001.wav", sound()), ("签字.png", scan()), ("logo.png", scan()))
    assert rows_of_files(tmp_path, listed, *files) == [("assignment", 17)] * 2 + [None]


def test_the_evidence_column_alone_makes_no_row_filled(tmp_path):
    [message] = opened(tmp_path, letter(("回访.xlsx", named_by_sheet("a.wav", row=5))))
    judged = judge_rows(CALLBACK, message, expected_calls(), [KEY], branch_no="0101", as_of=date(2026, 3, 10))
    assert list(judged.accepted["assignment_id"]) == [17]
    assert judged.problems.empty


# ---- what a file is worth --------------------------------------------------------------------------------------


def amr(frames):
    return b"#!AMR\n" + (bytes([0x3C]) + bytes(31)) * frames


FILES = {
    "wav": ("a.wav", sound(3), 3.0, ""),
    "short": ("a.wav", sound(0.2), 0.2, ""),
    "silent": ("a.wav", silence(), 3.0, "silent"),
    "cut wav": ("a.wav", sound()[:20], None, "unreadable"),
    "amr": ("a.amr", amr(150), 3.0, ""),
    "amr without frames": ("a.amr", amr(0), 0.0, ""),
    "mp3": ("a.mp3", (b"\xff\xfb\x90\x00" + bytes(413)) * 100, 2.61, ""),
    "no mp3": ("a.mp3", b"ID3\x03\x00\x00\x00\x00\x00\x00" + b"x" * 4000, None, "unreadable"),
    "png": ("a.png", scan(), None, ""),
    "blank": ("a.png", scan(blank=True), None, "blank"),
    "cut png": ("a.png", scan()[:60], None, "unreadable"),
    "pdf": ("a.pdf", b"%PDF-1.4\n1 0 obj\nstartxref\n9\n%%EOF\n", None, ""),
    "cut pdf": ("a.pdf", b"%PDF-1.4\n1 0 obj\n" + b"x" * 900, None, "unreadable"),
    "text": ("a.docx", b"whatever", None, ""),
}


def test_how_long_a_recording_is_and_what_is_beyond_doubt_no_evidence(tmp_path):
    [message] = opened(tmp_path, letter(*((name, content) for name, content, *_ in FILES.values())))
    found = {
        what: (None if file.seconds is None else round(file.seconds, 2), file.fault)
        for what, file in zip(FILES, message.files, strict=True)
    }
    assert found == {what: tuple(expected) for what, (_, _, *expected) in FILES.items()}


def test_a_recording_of_under_a_second_counts_as_missing_and_one_that_cannot_be_measured_does_not():
    assert file_fault("audio/wav", 900, 0.2, "") == "too_short"
    assert file_fault("audio/silk", 900, None, "") == ""
    assert file_fault("audio/wav", 0, None, "") == "empty"
    assert file_fault("image/png", 900, None, "blank") == "blank"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("language", [0, 1])
def test_a_file_named_as_the_receipt_says_counts_for_what_was_asked(kind, language):
    name = NAMED[kind][language]
    media = "audio/mpeg" if name.endswith("mp3") else "application/pdf"
    assert still_missing([*KINDS], {file_kind(media, f"{CODE}_{name}")}).count(kind) == 0


def test_a_scan_whose_name_does_not_say_what_it_shows_counts_where_one_scan_is_asked_for():
    assert still_missing(["recording", "interview"], {"recording", "scan"}) == ()
    assert still_missing(["register", "interview"], {"scan"}) == ("register", "interview")
    assert set(SCANS) <= set(KINDS)
    assert names_written(" a.WAV、b.png；\nｃ.pdf ") == ("a.wav", "b.png", "c.pdf")


@pytest.mark.parametrize(
    ("sheet", "row", "asked"),
    [
        (CALLBACK, {"channel": "phone", "completes": True}, ["recording"]),
        (HQ_CALLS, {"channel": "visit", "completes": True}, ["signature"]),
        (CALLBACK, {"channel": "phone", "completes": False}, []),
        (SELF_CHECK, {"truth": "false", "interviewed": "interviewed"}, ["contact", "interview", "register"]),
        (SELF_CHECK, {"truth": "false", "interviewed": "not_needed"}, ["contact", "register"]),
        (OPINION, {"answered_by": "phone"}, ["recording"]),
    ],
)
def test_what_a_row_needs_follows_from_what_it_says_and_what_the_programme_asks_for(sheet, row, asked):
    assert sorted(evidence_missing(sheet, row, list(KINDS), set())) == sorted(asked)
    assert evidence_missing(sheet, row, [], set()) == ()


# ---- the programme -------------------------------------------------------------------------------------------------


def plan(**more):
    return Programme.model_validate(
        yaml.safe_load((PROJECT / "programmes" / "daily_risk.yaml").read_text("utf-8")) | more
    )


def test_a_programme_that_asks_for_no_evidence_keeps_its_hash():
    without = yaml.safe_load((PROJECT / "programmes" / "daily_risk.yaml").read_text("utf-8"))
    without.pop("evidence", None)
    bare = Programme.model_validate(without)
    assert '"evidence"' not in bare.plan()
    assert bare.plan_sha256() == plan(evidence={}).plan_sha256() != plan(evidence=ASKED).plan_sha256()


# ---- through the product --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def listed(prefect_client, tmp_path_factory):
    """A month of which evidence is asked; its lists are out."""
    folder = tmp_path_factory.mktemp("programmes")
    for file in (PROJECT / "programmes").glob("*.yaml"):
        told = yaml.safe_load(file.read_text("utf-8"))
        (folder / file.name).write_text(
            yaml.safe_dump(told | ({"evidence": ASKED} if file.stem == "daily_risk" else {}), allow_unicode=True),
            "utf-8",
        )
    house = House.build(tmp_path_factory.mktemp("house") / "home", prefect_client, customers=900, branches=3)
    house = house.having(HUIFANG_PROGRAMMES=str(folder))
    house.pull()
    house.draw("daily_risk")
    house.call("run", "dispatch", *at("2026-03-02"))
    return house


class Clerk:
    """Somebody at a branch: opens what was mailed to it, fills it, sends it and files with it."""

    def __init__(self, house, branch_no=None):
        self.house = house
        [(self.branch_no, self.address, path), *_] = house.rows(
            "select recipient, to_address, path from mail where kind = 'assignment' and recipient <> 'HQ'"
            + (f" and recipient = '{branch_no}'" if branch_no else "") + " order by 1"
        )  # fmt: skip
        self.password = branch_password(Settings(home=house.home), self.branch_no)
        self.sent = 0
        [self.list] = self.books(path)

    def books(self, path):
        """The workbooks of a mail, unlocked."""
        message = email.message_from_bytes((self.house.home / path).read_bytes(), policy=default)
        found = []
        for part in message.iter_attachments():
            office, clear = msoffcrypto.OfficeFile(io.BytesIO(part.get_content())), io.BytesIO()
            office.load_key(password=self.password)
            office.decrypt(clear, verify_integrity=True)
            found.append(openpyxl.load_workbook(clear))
        return found

    def receipt(self):
        """The newest receipt: its text and its workbooks."""
        [(path,)] = self.house.rows(
            f"select path from mail where kind = 'receipt' and recipient = '{self.branch_no}' order by id desc limit 1"
        )
        message = email.message_from_bytes((self.house.home / path).read_bytes(), policy=default)
        return message.get_body(("plain",)).get_content(), self.books(path)

    def send(self, *files):
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = self.address, "huifang@hq.example", "回访结果"
        self.sent += 1
        message["Message-ID"] = f"<{self.branch_no}.{self.sent}.{len(files)}@branch.example>"
        message["Date"] = f"Tue, 10 Mar 2026 10:{self.sent:02d}:00 +0800"
        message.set_content("见附件")
        for name, content in files:
            message.add_attachment(content, maintype="application", subtype="octet-stream", filename=name)
        inbox = self.house.home / "maildir" / "new"
        inbox.mkdir(parents=True, exist_ok=True)
        (inbox / f"{self.branch_no}-{self.sent}").write_bytes(bytes(message))

    def return_book(self, book, *files):
        clear, locked = io.BytesIO(), io.BytesIO()
        book.save(clear)
        OOXMLFile(clear).encrypt(self.password, locked)
        self.send(("回访登记表.xlsx", locked.getvalue()), *files)


def columns(table):
    return {str(cell.value).strip("* "): cell.column for cell in table[3] if cell.value}


def fill(book, rows, **more):
    """Rows 4 and on as calls that are done, with whatever differs."""
    table, place = book.worksheets[1], columns(book.worksheets[1])
    said = {
        "回访日期": "2026-03-05", "回访时间": "14:30", "回访人": "无名氏", "回访方式": "电话", "尝试次数": 1, "回访结果": "成功·无异常",
        **dict.fromkeys(("身份核实", "账户变动", "代客操作", "风险揭示", "全权委托"), "已核·无异常"),
    } | more  # fmt: skip
    for row in rows:
        for title, value in said.items():
            table.cell(row, place[title], value)
    return [str(table.cell(row, 1).value) for row in rows]


def collect(house, day="2026-03-11"):
    house.call("run", "collect", *at(day))


def states(house, codes):
    """Completed or not, what it awaits, and of how many versions, of each row's current version."""
    ids = [int(code[1:6]) for code in codes]
    return [
        house.rows(
            f"select completes, awaits, version from return_row where assignment_id = {i} order by version desc limit 1"
        )[0]
        for i in ids
    ]


def test_a_call_without_its_recording_stays_open_until_the_recording_comes_and_counts_once(listed, tmp_path):
    house = listed.copy(tmp_path / "home")
    clerk = Clerk(house)
    one, other = codes = fill(clerk.list, (4, 5))
    clerk.return_book(clerk.list, (f"{other}_录音.wav", sound()))
    collect(house)
    assert states(house, codes) == [(0, "recording", 1), (1, "", 1)]
    assert house.status()["campaigns"][0]["completed"] == 1
    assert house.status()["campaigns"][0]["awaiting"] == {"recording": 1}
    text, [sheet] = clerk.receipt()
    assert one in text
    assert f"{one}_录音.mp3" in text
    assert other not in text
    assert [row[0].value for row in sheet.worksheets[1].iter_rows(min_row=4)] == [one]

    clerk.send((f"{one} 补.wav", sound(4)))
    collect(house, "2026-03-12")
    assert states(house, codes) == [(1, "", 2), (1, "", 1)]
    found = house.status()["campaigns"][0]
    assert (found["completed"], found["awaiting"]) == (2, {})
    assert clerk.receipt()[1] == []
    # The same sheet once more, and the same recording once more, change nothing.
    clerk.return_book(clerk.list, (f"{one} 补.wav", sound(4)))
    collect(house, "2026-03-13")
    assert states(house, codes) == [(1, "", 2), (1, "", 1)]
    assert house.status()["campaigns"][0]["completed"] == 2
    [(path,)] = house.rows(f"select distinct path from evidence where item_id = {int(one[1:6])}")
    assert sound(4) not in (house.home / path).read_bytes(), "it lies locked"
    assert read_evidence(Settings(home=house.home), path) == sound(4)


def test_a_silent_or_empty_recording_leaves_the_row_open_and_the_receipt_says_why(listed, tmp_path):
    house = listed.copy(tmp_path / "home")
    clerk = Clerk(house)
    codes = fill(clerk.list, (4,))
    clerk.return_book(clerk.list, (f"{codes[0]}.wav", silence()), ("0007.wav", sound()))
    collect(house)
    assert states(house, codes) == [(0, "recording", 1)]
    text, _ = clerk.receipt()
    assert "录音全程无声" in text
    assert "未注明属于哪一行" in text
    for day, sent in (("12", (f"{codes[0]}.mp3", b"")), ("13", (f"{codes[0]}.zip", zipped(**{"录音.mp3": b""})))):
        clerk.send(sent)
        collect(house, f"2026-03-{day}")
        assert states(house, codes) == [(0, "recording", 1)]
        assert "文件为空" in clerk.receipt()[0]
    assert {read_evidence(Settings(home=house.home), path) for (path,) in house.rows(
        "select path from evidence where fault = 'empty'"
    )} == {b""}  # fmt: skip


def test_nobody_closes_another_branch_s_row_with_a_file(listed, tmp_path):
    house = listed.copy(tmp_path / "home")
    clerks = [Clerk(house, branch) for (branch,) in house.rows(
        "select distinct recipient from mail where kind = 'assignment' and recipient <> 'HQ' order by 1 limit 2"
    )]  # fmt: skip
    codes = fill(clerks[0].list, (4,))
    clerks[0].return_book(clerks[0].list)
    clerks[1].send((f"{codes[0]}.wav", sound()))
    collect(house)
    assert states(house, codes) == [(0, "recording", 1)]
    assert house.rows("select item_kind from evidence") == [("",)]


def test_a_correction_sheet_holds_the_wrong_rows_alone_and_is_judged_like_any_return(listed, tmp_path):
    house = listed.copy(tmp_path / "home")
    clerk = Clerk(house)
    good, wrong, open_ = codes = fill(clerk.list, (4, 5, 6))
    fill(clerk.list, (5,), 回访日期="2026-13-41", 情况说明="客户满意")
    clerk.return_book(clerk.list, *((f"{code}.wav", sound(2 + n)) for n, code in enumerate((good, wrong))))
    collect(house)
    assert states(house, (good, open_)) == [(1, "", 1), (0, "recording", 1)]

    text, [sheet] = clerk.receipt()
    assert "更正表" in text
    table, place = sheet.worksheets[1], columns(sheet.worksheets[1])
    rows = {str(row[0].value): row[0].row for row in table.iter_rows(min_row=4) if row[0].value}
    assert list(rows) == [wrong, open_]
    told = str(table.cell(rows[wrong], place["需改正"]).value)
    assert "第 5 行“回访日期”" in told
    assert "2026-3-5" in told
    assert "电话录音" in table.cell(rows[open_], place["需改正"]).value
    assert table.cell(rows[wrong], place["回访日期"]).value is None
    assert table.cell(rows[wrong], place["情况说明"]).value == "客户满意"
    assert table.cell(rows[wrong], place["回访结果"]).value == "成功·无异常"
    assert table.protection.sheet
    assert not table.cell(rows[wrong], place["回访日期"]).protection.locked

    table.cell(rows[wrong], place["回访日期"], "2026-03-06")
    table.cell(rows[open_], place["佐证文件名"], "7号.wav")
    clerk.return_book(sheet, ("7号.wav", sound(6)))
    collect(house, "2026-03-12")
    assert states(house, codes) == [(1, "", 1), (1, "", 1), (1, "", 2)]
    assert house.status()["campaigns"][0]["completed"] == 3
    assert clerk.receipt()[1] == []

    with_sheet, without = (number for (number,) in house.rows("select id from mail where kind = 'receipt' order by id"))
    why = ("--by", "Li Na", "--reason", "the director had moved")
    said = house.call("mail", "recall", str(with_sheet), *why).output
    assert "2 persons, customers' names, masked" in said
    assert "its workbook is locked" in said
    said = house.call("mail", "recall", str(without), *why).output
    assert "0 persons, row codes\n" in said
    assert "its text was readable" in said


def test_rows_that_come_again_while_they_wait_are_told_again_and_their_opinion_is_one(listed, tmp_path):
    house = listed.copy(tmp_path / "home")
    clerk = Clerk(house)
    first, second, odd = fill(clerk.list, (4, 5, 6))
    fill(clerk.list, (4, 5), 回访结果="成功·有意见建议", 情况说明="停车位太少")
    fill(clerk.list, (6,), 回访结果="成功·疑似违规", 疑似违规类型="获知密码", 身份核实="已核·有异常")
    clerk.return_book(clerk.list)
    collect(house)
    clerk.return_book(clerk.list, (f"{first}.wav", sound()), (f"{odd}.wav", sound(3)))
    collect(house, "2026-03-12")
    assert states(house, (first, second, odd)) == [(1, "", 2), (0, "recording", 1), (1, "", 2)]
    text, [sheet] = clerk.receipt()
    assert f"{second}_录音.mp3" in text
    assert [row[0].value for row in sheet.worksheets[1].iter_rows(min_row=4)] == [second]
    assert house.rows("select assignment_id from opinion order by 1") == [(int(first[1:6]),), (int(second[1:6]),)]
    assert house.rows("select assignment_id from finding") == [(int(odd[1:6]),)]


def test_a_self_check_waits_for_its_register_second_contact_and_interview(listed, tmp_path):
    house = listed.copy(tmp_path / "home")
    clerk = Clerk(house)
    [code] = fill(clerk.list, (4,), 回访结果="成功·疑似违规", 疑似违规类型="获知密码", 身份核实="已核·有异常")
    clerk.return_book(clerk.list, (f"{code}.wav", sound()))
    collect(house)
    house.call("run", "chase", *at("2026-03-11", "19:00"))
    [(path,)] = house.rows("select path from mail where kind = 'self_check'")
    [statement] = clerk.books(path)
    said = {
        "再次回访日期": "2026-03-12", "自查人": "赵敏", "客户陈述是否属实": "不属实", "持仓及委托核对": "相符", "员工访谈": "已访谈",
        "处理情况": "经核实系误解",
    }  # fmt: skip
    table, place = statement.worksheets[1], columns(statement.worksheets[1])
    for title, value in said.items():
        table.cell(4, place[title], value)
    case = str(table.cell(4, 1).value)
    clerk.return_book(statement, (f"{case}_登记表.png", scan()))
    collect(house, "2026-03-12")
    assert house.rows("select awaits from self_check") == [("contact,interview",)]
    assert house.status()["campaigns"][0]["awaiting"] == {"contact": 1, "interview": 1}
    assert house.status()["campaigns"][0]["case_results"] == {"waiting": 1}
    text, [sheet] = clerk.receipt()
    assert f"{case}_访谈记录.pdf" in text
    assert sheet.worksheets[1].cell(4, place["处理情况"]).value == said["处理情况"]

    clerk.send((f"{case}.zip", zipped(**{"访谈记录.png": scan(), "再次回访.wav": sound(5)})))
    collect(house, "2026-03-13")
    house.call("run", "chase", *at("2026-03-13", "19:00"))
    assert house.rows("select awaits from self_check order by version") == [("contact,interview",), ("",)]
    assert house.status()["campaigns"][0]["case_results"] == {"contradicted": 1}


def test_a_faulty_statement_is_answered_though_the_mail_that_asked_for_it_has_bounced(listed, tmp_path):
    house = listed.copy(tmp_path / "home")
    clerk = Clerk(house)
    [code] = fill(clerk.list, (4,), 回访结果="成功·疑似违规", 疑似违规类型="获知密码", 身份核实="已核·有异常")
    clerk.return_book(clerk.list, (f"{code}.wav", sound()))
    collect(house)
    house.call("run", "chase", *at("2026-03-11", "19:00"))
    [(path, own_id, to)] = house.rows("select path, message_id, to_address from mail where kind = 'self_check'")
    [statement] = clerk.books(path)
    (house.home / "maildir" / "new" / "late").write_bytes(dsn(own_id=own_id, to=to, status="4.4.7"))
    collect(house, "2026-03-12")
    table, place = statement.worksheets[1], columns(statement.worksheets[1])
    for title, value in {"再次回访日期": "2026-13-41", "自查人": "赵敏", "处理情况": "经核实系误解"}.items():
        table.cell(4, place[title], value)
    clerk.return_book(statement)
    collect(house, "2026-03-13")
    text, [sheet] = clerk.receipt()
    assert "更正表" in text
    assert "贵部返回的自查情况说明表没有可登记的行" in text
    assert sheet.worksheets[1].cell(4, place["处理情况"]).value == "经核实系误解"
