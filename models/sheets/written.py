"""A workbook written as it is declared: instructions first, then the table, with colours, dropdowns, hints and locks."""

from __future__ import annotations

import io
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

import pandas as pd
import xlsxwriter
from xlsxwriter.utility import xl_col_to_name

from models.cells import clean_text, mask_name, mask_phone
from models.outcomes import ANSWERS, LEGAL_CONTENTS, NO_WORDS, OUTCOMES, QUESTIONNAIRE, VIOLATIONS, Label, Language
from models.sheets.corrections import PROBLEM, Correction, Written, corrected
from models.sheets.declared import ROWS, SHEETS, Column, Sheet, SheetError, SheetKind
from models.sheets.readers import ROLES, Addressee, phone_shown


def staff_words(staff: Mapping[str, str]) -> dict[str, str]:
    """Each of the staff as sheets name him, by staff number: with the number where another bears the same name.

    >>> staff_words({"0101": "王芳", "0102": "李建国", "0203": "王芳"})
    {'0101': '王芳(0101)', '0102': '李建国', '0203': '王芳(0203)'}
    """
    bearers = Counter(staff.values())
    return {staff_id: f"{name}({staff_id})" if bearers[name] > 1 else name for staff_id, name in staff.items()}


_INK, _LINE = "#1F2D3D", "#B8C2CC"
_HEAD_HQ, _HEAD_BRANCH = "#DDE3EA", "#1F5A8C"
_LOCKED, _REQUIRED, _IF_NEEDED = "#F3F5F7", "#FFF1B8", "#FFFBEB"
_MISSING, _DONE, _IDLE = "#F8B4A6", "#CFE8D5", "#ECEEF0"


def write_sheet(
    kind: SheetKind,
    rows: pd.DataFrame,
    *,
    campaign: str,
    title: str,
    branch_no: str,
    branch_name: str,
    language: Language,
    issued_on: date,
    addressee: Addressee | None = None,
    correction: Correction | None = None,
) -> bytes:
    """The workbook of one branch in clear: instructions first, then the table.

    `rows` are the frame declared for the kind, such as CALLBACK_ROWS, and keep their order. Names are masked here once
    more, phones as PHONES says for the addressee's role. Every copy that leaves the house has an addressee, who stands
    in its heading, in its printed header and in the property huifang_copy. The same arguments give the same bytes.
    With a `correction` it is a correction sheet: the same, with what was written and what is wrong.
    Raises SheetError for a role to which the sheet is not shown.
    """
    sheet = SHEETS[kind] if correction is None else corrected(SHEETS[kind])
    rows = ROWS[kind].validate(rows)
    if correction is not None:
        rows = rows.assign(problem=[correction.problems[code] for code in rows["row_code"]])
    branch_name, title = clean_text(branch_name, 60), clean_text(title, 60)
    if rows.empty:
        raise SheetError(
            f"{sheet.name.zh} {campaign} of branch {branch_no} has no row; a branch without rows gets no sheet"
        )
    file = io.BytesIO()
    # A customer called "=HYPERLINK(…)" must stay a text.
    book = xlsxwriter.Workbook(
        file, {"in_memory": True, "strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False}
    )
    name = sheet.name.text(language)
    book.set_properties(
        {
            "title": f"{name} {campaign} {branch_no}",
            "comments": f"{kind} questionnaire {QUESTIONNAIRE.version}",
            "created": datetime(issued_on.year, issued_on.month, issued_on.day, tzinfo=UTC).replace(tzinfo=None),
        }
    )
    left, right = (" (", ")") if language == "en" else ("（", "）")
    own = f"{branch_name}{left}{branch_no}{right}"
    marked = f"{name}{left}{Label('更正', 'correction').text(language)}{right}" if correction is not None else name
    heading = f"{marked} · {title} · {own}"
    copy = ""
    if addressee is not None:
        if phone_shown(kind, addressee.role) == "masked":
            rows = rows.assign(phone=[mask_phone(phone) for phone in rows["phone"]])
        copy = _copy_words(addressee, own, issued_on, language)
        book.set_custom_property("huifang_copy", copy)
        if addressee.parts > 1:
            heading += f" {addressee.part}/{addressee.parts}"
    dues = sorted(set(rows["due_on"]))
    due = f"{dues[0]:%Y-%m-%d}" + (f" ~ {dues[-1]:%Y-%m-%d}" if len(dues) > 1 else "")
    _write_instructions(
        book,
        sheet,
        language,
        heading=heading,
        campaign=campaign,
        due=due,
        issued_on=issued_on,
        count=len(rows),
        copy=copy,
        is_correction=correction is not None,
    )
    _write_table(
        book, sheet, rows, language, heading=heading, campaign=campaign, due=due, copy=copy, correction=correction
    )
    book.close()
    return file.getvalue()


def _copy_words(addressee: Addressee, own: str, issued_on: date, language: Language) -> str:
    """Whose copy it is, in one line."""
    role = ROLES[addressee.role].text(language)
    part = f" {addressee.part}/{addressee.parts}" if addressee.parts > 1 else ""
    return Label(
        f"仅供 {own}{role} 使用　{issued_on:%Y-%m-%d}　邮件 {addressee.mail_number}{part}",
        f"Copy of {own}, {role}   {issued_on:%Y-%m-%d}   mail {addressee.mail_number}{part}",
    ).text(language)


def _style(book: Any, **more: Any) -> Any:
    base = {"font_name": "Microsoft YaHei", "font_size": 10, "font_color": _INK, "valign": "vcenter"}
    return book.add_format(base | more)


_ABOUT: dict[SheetKind, tuple[Label, ...]] = {
    "callback": (
        Label(
            "请在截止日期前完成回访，并在第二张工作表中填写黄色单元格。一行一名客户。",
            "Call before the due date and fill the yellow cells of the second worksheet. One row, one customer.",
        ),
        Label(
            "填写：日期、时间、回访人、方式、次数、结果；结果为“成功”时五项内容须全部核实。",
            "Fill date, time, caller, channel, attempts and outcome; a call that is done needs all five items.",
        ),
        Label(
            "安排：灰色的“计划日期”“安排回访人”是本任务的安排，请由该人在当日回访；安排回访人为空的，由贵部自行指定。",
            "Plan: “Planned” and “Assigned to” say who calls, and on which day. Where nobody is named, you choose.",
        ),
        Label(
            "回避：该客户的开发人、回访当日的服务人员不得担任回访人；其他人可代安排的人回访。只是同名的，请写“姓名（工号）”或工号。",
            "Recusal: nobody calls who developed the customer, or serves him on that day; anybody else may stand in for "
            "the person assigned. If only the name is the same, write name (staff number) or the staff number.",
        ),
        Label(
            "变红的单元格表示按所选结果还须填写；任务编码变绿表示该行已填齐。",
            "A red cell is still needed for the outcome chosen; a green row code says that the row is complete.",
        ),
    ),
    "hq_calls": (
        Label(
            "请在计划日期回访，并在第二张工作表中填写黄色单元格。一行一名客户，含全部营业部由总部回访的客户。",
            "Call on the planned day and fill the yellow cells of the second worksheet. One row, one customer, of all "
            "branches for which headquarters calls.",
        ),
        Label(
            "填写：日期、时间、回访人、方式、次数、结果；结果为“成功”时五项内容须全部核实。",
            "Fill date, time, caller, channel, attempts and outcome; a call that is done needs all five items.",
        ),
        Label(
            "变红的单元格表示按所选结果还须填写；任务编码变绿表示该行已填齐。",
            "A red cell is still needed for the outcome chosen; a green row code says that the row is complete.",
        ),
    ),
    "opinion": (
        Label(
            "请在截止日期前判断每条意见建议是否成立、处理并答复客户，在第二张工作表中填写黄色单元格。",
            "Before the due date judge each opinion, deal with it, answer the customer, and fill the yellow cells of the "
            "second worksheet.",
        ),
        Label(
            "已答复客户的，填写答复日期和方式；营业部不能解决的，选“需总部处理”并写明事项，由总部继续办理。",
            "Where the customer was answered, say when and how; what the branch cannot settle needs headquarters: say "
            "what is asked.",
        ),
        Label(
            "变红的单元格表示还须填写；任务编码变绿表示该行已填齐。",
            "A red cell is still needed; a green row code says that the row is complete.",
        ),
    ),
    "self_check": (
        Label(
            "请在截止日期前再次回访客户、核对持仓与委托、访谈相关员工，并填写第二张工作表的黄色单元格。",
            "Before the due date call again, check holdings and orders, interview the employee, fill the yellow cells.",
        ),
        Label(
            "佐证：回访登记表扫描件（营运总监签字）；电话回访附录音，面访附客户签字；访谈记录须三方签字。",
            "Evidence: the register signed by the operations director; a call's recording or a visit's signature; "
            "an interview record with three signatures.",
        ),
        Label(
            "文件名中写上任务编码，我们即可自动归档；录音可另发邮件。",
            "Put the row code into each file name; recordings may come in separate mails.",
        ),
        Label(
            "变红的单元格表示还须填写；任务编码变绿表示该行已填齐。",
            "A red cell is still needed; a green row code says that the row is complete.",
        ),
    ),
}
_CORRECTING = (
    Label(
        "本表只列须改正或补佐证的行。最后一列“需改正”写明原表中的位置和应填内容；红色单元格须重填，其余已按贵部所填带出，请核对。",
        "Only rows to correct, or without their evidence, stand here. The last column says where it stood and what to "
        "write; red cells are to be filled anew, the others hold what you wrote: check them.",
    ),
    Label(
        "只缺佐证的行无须改动：将文件名以任务编码开头（或在“佐证文件名”列写明文件名），与本表一并或单独发回即可。",
        "A row that lacks evidence only stays as it is: begin the file's name with the row code, or write the name into "
        "“Evidence files”, and send the file, with this sheet or without.",
    ),
)
_RETURNING = (
    Label(
        "直接回复派发邮件，附上本工作簿；加密或不加密均可。可分批返回，已填的行先计入，空行视为未回访。",
        "Reply to the mail with this workbook attached, encrypted or not. Filled rows count, empty rows stay open.",
    ),
    Label("更正：改正后再次返回即可，以最后一次为准。", "To correct a row, return it again; the last version counts."),
    Label(
        "请勿修改任务编码、姓名、电话；系统按任务编码识别每一行，与编码不符的行会退回。请勿在填写格中使用公式。",
        "Leave row code, name and phone as they are: rows are known by their code. No formulas in the cells you fill.",
    ),
    Label(
        "本表含客户个人信息，仅限承办人使用，不得转发，用后按规定销毁。",
        "This workbook holds personal data: for those who make the calls only; never forward it, destroy it after use.",
    ),
)


def _write_instructions(
    book: Any,
    sheet: Sheet,
    language: Language,
    *,
    heading: str,
    campaign: str,
    due: str,
    issued_on: date,
    count: int,
    copy: str,
    is_correction: bool,
) -> None:
    page = book.add_worksheet(Label("填写说明", "Instructions").text(language))
    page.hide_gridlines(2)
    page.set_column(0, 0, 28)
    page.set_column(1, 1, 92)
    section = _style(book, bold=True, font_size=11, font_color="#FFFFFF", bg_color=_HEAD_BRANCH)
    term = _style(book, bold=True, indent=1, border=1, border_color=_LINE, bg_color=_LOCKED, text_wrap=True)
    text = _style(book, indent=1, border=1, border_color=_LINE, text_wrap=True)
    page.set_row(0, 30)
    page.merge_range(0, 0, 0, 1, "", _style(book, bold=True, font_size=15))
    page.write_string(0, 0, heading, _style(book, bold=True, font_size=15))
    at = 1

    def lines(title: Label, entries: Sequence[tuple[str, str]]) -> None:
        nonlocal at
        at += 1
        page.set_row(at, 20)
        page.merge_range(at, 0, at, 1, "", section)
        page.write_string(at, 0, title.text(language), section)
        for left, right in entries:
            at += 1
            # A Chinese character is two columns wide; a line of the second column holds about 90 of them at this size.
            width = sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in right)
            page.set_row(at, 20 * (1 + width // 108))
            page.write_string(at, 0, left, term)
            page.write_string(at, 1, right, text)
        at += 1

    about = (*(_CORRECTING if is_correction else ()), *_ABOUT[sheet.kind])
    numbered = [(str(n), label.text(language)) for n, label in enumerate(about, start=1)]
    lines(
        Label("任务", "Task"),
        [
            (Label("期次", "Campaign").text(language), campaign),
            (Label("下发日期", "Issued").text(language), f"{issued_on:%Y-%m-%d}"),
            (Label("截止日期", "Due").text(language), due),
            (Label("条数", "Rows").text(language), str(count)),
            *([(Label("收件", "Copy").text(language), copy)] if copy else []),
        ],
    )
    lines(Label("如何填写", "What to fill"), numbered)
    lines(
        Label("如何返回", "How to return"),
        [(str(n), label.text(language)) for n, label in enumerate(_RETURNING, start=1)],
    )
    if sheet.item == "assignment":
        lines(
            Label("回访结果的含义", "What each outcome means"),
            [(c.label.text(language), c.note.text(language)) for c in OUTCOMES.values()],
        )
        lines(
            Label(
                f"五项必核内容（问卷 {QUESTIONNAIRE.version}）",
                f"The five items (questionnaire {QUESTIONNAIRE.version})",
            ),
            [
                (label.text(language), QUESTIONNAIRE.questions[content].text(language))
                for content, label in LEGAL_CONTENTS.items()
            ],
        )
        lines(
            Label("五项内容的填法", "How to answer them"),
            [(c.label.text(language), c.note.text(language)) for c in ANSWERS.values()],
        )
    else:
        lines(
            Label("各列的填法", "The columns"),
            [
                (
                    column.label.text(language),
                    " / ".join(choice.label.text(language) for choice in column.choices.values())
                    or column.hint.text(language),
                )
                for column in sheet.branch_columns
                if column.choices or column.hint.zh
            ],
        )
    page.set_paper(9)
    page.set_portrait()
    page.fit_to_pages(1, 0)
    page.set_margins(0.5, 0.5, 0.6, 0.6)
    page.protect("", {"format_columns": True, "format_rows": True})


def _write_table(
    book: Any,
    sheet: Sheet,
    rows: pd.DataFrame,
    language: Language,
    *,
    heading: str,
    campaign: str,
    due: str,
    copy: str,
    correction: Correction | None = None,
) -> None:
    page = book.add_worksheet(sheet.name.text(language))
    last_column, first, last = len(sheet.columns) - 1, 3, 2 + len(rows)
    letter = {column.key: xl_col_to_name(place) for place, column in enumerate(sheet.columns)}
    bold = _style(book, bold=True, font_size=14)
    page.set_row(0, 28)
    page.merge_range(0, 0, 0, last_column, "", bold)
    page.write_string(0, 0, heading, bold)
    small = _style(book, font_size=9, font_color="#5B6B7B")
    page.set_row(1, 18)
    progress = letter[sheet.progress]
    pale = Label("浅黄：视所选结果填写；", "pale yellow: as the result asks; ") if sheet.deciding else NO_WORDS
    words = Label(
        f"{campaign}　截止 {due}　带 * 深黄：必填；{pale.zh}灰色：总部已填，请勿改动　　已填 ",
        f"{campaign}   due {due}   * yellow: required; {pale.en}grey: leave as it is   filled ",
    ).text(language)
    quoted = words.replace('"', '""')
    middle = last_column - last_column // 2 if copy else last_column
    page.merge_range(1, 0, 1, middle, "", small)
    if copy:
        owned = _style(book, font_size=9, bold=True, font_color="#8A3B12", align="right")
        page.merge_range(1, middle + 1, 1, last_column, "", owned)
        page.write_string(1, middle + 1, copy, owned)
    written = {} if correction is None else correction.written
    done = sum(sheet.progress in written.get(code, {}) for code in rows["row_code"])
    page.write_formula(
        1,
        0,
        f'="{quoted}"&COUNTA({progress}{first + 1}:{progress}{last + 1})&" / {len(rows)}"',
        small,
        f"{words}{done} / {len(rows)}",
    )
    head: dict[str, Any] = {"bold": True, "border": 1, "border_color": _LINE, "text_wrap": True, "align": "center"}
    head_hq = _style(book, bg_color=_HEAD_HQ, **head)
    head_branch = _style(book, bg_color=_HEAD_BRANCH, **head | {"font_color": "#FFFFFF"})
    page.set_row(2, 36)
    cell: dict[str, Any] = {"border": 1, "border_color": _LINE, "text_wrap": True}
    number_format = {"date": "yyyy-mm-dd", "time": "hh:mm", "count": "0"}
    for place, column in enumerate(sheet.columns):
        centred = column.form in ("date", "time", "count") or column.key in ("row_code", "phone")
        style = _style(
            book,
            **cell,
            locked=not column.by_branch,
            align="center" if centred else "left",
            indent=0 if centred else 1,
            bg_color=(_REQUIRED if column.required else _IF_NEEDED) if column.by_branch else _LOCKED,
            num_format=number_format.get(column.form, "@"),
            **({"font_name": "Consolas", "font_size": 9} if column.key == "row_code" else {}),
        )
        red = _style(book, **cell, locked=False, bg_color=_MISSING, num_format=number_format.get(column.form, "@"))
        page.set_column(place, place, column.width)
        star = "*" if column.required else ""
        page.write_string(2, place, column.label.text(language) + star, head_branch if column.by_branch else head_hq)
        if column.by_branch:
            for row, code in enumerate(rows["row_code"], start=first):
                is_blamed = correction is not None and column.key in correction.blamed.get(code, ())
                shown = red if is_blamed else style
                value = None if correction is None else correction.written.get(code, {}).get(column.key)
                _write_filled(page, row, place, column, value, language, shown)
            _add_validation(page, column, language, first, last, place)
            continue
        if column.form == "cues":
            for row in range(first, last + 1):
                page.write_formula(row, place, _cue_formula(column, sheet, letter, row + 1, language), style, "")
            continue
        if column.key not in rows:
            for row in range(first, last + 1):
                page.write_blank(row, place, None, style)
            continue
        for row, value in enumerate(rows[column.key], start=first):
            if column.form == "date":
                page.write_datetime(row, place, datetime(value.year, value.month, value.day), style)  # noqa: DTZ001 (a day)
            else:
                page.write_string(row, place, _shown(column, value, language), style)
    for row in range(first, last + 1):
        tall = 30 if sheet.item == "assignment" else 48
        lines = 0 if correction is None else _lines(rows["problem"].iloc[row - first])
        page.set_row(row, max(tall, 15 * lines + 6))
    _add_hints(book, page, sheet, language, letter, first, last)
    page.freeze_panes(first, 2)
    page.autofilter(2, 0, last, last_column)
    # Sorting is refused: a result column sorted alone cannot be told from an honest one.
    page.protect("", {"autofilter": True, "format_columns": True, "format_rows": True, "sort": False})
    page.set_landscape()
    page.set_paper(9)
    page.fit_to_pages(1, 0)
    page.set_margins(0.3, 0.3, 0.45, 0.5)
    page.repeat_rows(2)
    page.print_area(0, 0, last, last_column)
    if copy:
        # & starts a code there, and not every reader takes && for the sign.
        page.set_header(f"&L&8 {copy.replace('&', '＆')}"[:250])
    page.set_footer(
        Label(
            "&L&8含客户个人信息，仅限承办人使用&R&8第 &P 页，共 &N 页",
            "&L&8Personal data: for the callers only&R&8Page &P of &N",
        ).text(language)
    )


def _lines(problem: str) -> int:
    """How many lines the column of problems needs for a text."""
    half_widths = PROBLEM.width * 0.9
    return sum(
        1 + int(sum(2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in line) // half_widths)
        for line in problem.split("\n")
    )


def _write_filled(
    page: Any, row: int, place: int, column: Column, value: Written | None, language: Language, style: Any
) -> None:
    """A cell of the branch: empty, or with what it wrote there before."""
    match value:
        case None:
            page.write_blank(row, place, None, style)
        case date():
            page.write_datetime(row, place, datetime(value.year, value.month, value.day), style)  # noqa: DTZ001 (a day)
        case int():
            page.write_number(row, place, value, style)
        case str() if column.choices:
            page.write_string(row, place, column.choices[value].label.text(language), style)
        case str():
            page.write_string(row, place, clean_text(value, 2000), style)


def _shown(column: Column, value: str, language: Language) -> str:
    match column.key:
        case "problem":
            return value  # headquarters' own words, a line for each problem
        case "developer":
            return clean_text(value, 40) or Label("无", "none").text(language)
        case "customer_name":
            return mask_name(value)
        case "violation":
            glue = Label("、", ", ").text(language)
            return glue.join(VIOLATIONS[code].label.text(language) for code in value.split(","))
    return column.choices[value].label.text(language) if column.choices else clean_text(value, 500)


def _cue_formula(column: Column, sheet: Sheet, letter: Mapping[str, str], row: int, language: Language) -> str:
    """What the row asks for besides its cells, as the sheet works it out while it is filled."""
    said = []
    for cue in column.cues:
        choice = sheet.column(cue.column).choices[cue.code].label.text(language)
        said.append(f'IF(${letter[cue.column]}{row}="{choice}","{cue.words.text(language)}","")')
    return "=" + "&".join(said)


def _add_validation(page: Any, column: Column, language: Language, first: int, last: int, place: int) -> None:
    rule: dict[str, Any] = {"validate": "any"}
    if column.choices:
        source = [choice.label.text(language) for choice in column.choices.values()]
        if len(",".join(source)) > 255 or any("," in entry for entry in source):
            raise SheetError(f"column {column.key}: Excel takes no dropdown with commas or of more than 255 characters")
        rule = {
            "validate": "list",
            "source": source,
            "error_title": Label("请从下拉列表中选择", "Choose from the list").text(language),
            "error_message": Label(
                "只能选择列表中的内容，补充说明请写在说明列。",
                "Only the listed words; put remarks into the last column.",
            ).text(language),
        }
    elif column.form == "date":
        rule = {
            "validate": "date",
            "criteria": ">=",
            "value": date(2000, 1, 1),
            "error_type": "warning",
            "error_title": Label("日期", "Date").text(language),
            "error_message": Label("请按 2026-3-5 的形式填写日期。", "Write the date like 2026-03-05.").text(language),
        }
    elif column.form == "count":
        rule = {
            "validate": "integer",
            "criteria": "between",
            "minimum": 1,
            "maximum": 99,
            "error_title": Label("次数", "Attempts").text(language),
            "error_message": Label("请填写 1 至 99 的整数。", "A whole number from 1 to 99.").text(language),
        }
    if column.hint.zh:
        # Excel shows at most 32 characters of a title.
        rule |= {"input_title": column.label.text(language)[:32], "input_message": column.hint.text(language)}
    page.data_validation(first, place, last, place, rule)


def _add_hints(
    book: Any, page: Any, sheet: Sheet, language: Language, letter: Mapping[str, str], first: int, last: int
) -> None:
    missing, done = book.add_format({"bg_color": _MISSING}), book.add_format({"bg_color": _DONE, "bold": True})
    idle = book.add_format({"bg_color": _IDLE})
    row = first + 1
    branch = sheet.answer_columns
    started = f"COUNTA(${letter[branch[0].key]}{row}:${letter[branch[-1].key]}{row})>0"
    decided = f"${letter[sheet.deciding]}{row}" if sheet.deciding else ""
    decisions = sheet.column(sheet.deciding).choices if sheet.deciding else {}
    not_asked = ANSWERS["not_asked"].label.text(language)
    complete = []

    def add(key: str, formula: str, style: Any) -> None:
        place = f"{letter[key]}{row}:{letter[key]}{last + 1}"
        page.conditional_format(place, {"type": "formula", "criteria": f"={formula}", "format": style})

    for column in branch:
        here = f"${letter[column.key]}{row}"
        empty = f'OR(TRIM({here})="",{here}="{not_asked}")' if column.choices is ANSWERS else f'TRIM({here})=""'
        if column.required:
            add(column.key, f"AND({started},{empty})", missing)
            complete.append(f"NOT({empty})")
        if column.required_for:
            chosen = ",".join(
                f'{decided}="{decisions[code].label.text(language)}"' for code in sorted(column.required_for)
            )
            add(column.key, f"AND(OR({chosen}),{empty})", missing)
            complete.append(f"NOT(AND(OR({chosen}),{empty}))")
            if column.is_exclusive:
                add(column.key, f'AND({decided}<>"",NOT(OR({chosen})))', idle)
    if "developer" in letter:
        caller, developer = f"${letter['caller_name']}{row}", f"${letter['developer']}{row}"
        add("caller_name", f'AND({caller}<>"",{caller}={developer})', missing)
        complete.append(f"{caller}<>{developer}")
    add("row_code", f"AND({','.join(complete)})", done)
