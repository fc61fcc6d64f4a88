"""What a row or workbook is sent back for, in words: the place, and what to write there."""

from __future__ import annotations

from collections.abc import Sequence

from models.evidence import KINDS, NAMED, EvidenceKind
from models.outcomes import Label, Language
from models.sheets import SHEETS

PROBLEMS: dict[str, Label] = {
    "too_long": Label("文字过长：请控制在 2000 字以内", "the text is too long: keep it within 2,000 signs"),
    "unknown_code": Label(
        "任务编码有误或不在当前任务中：请从派发的原表复制任务编码",
        "the row code is not one of ours: copy it from the sheet you were sent",
    ),
    "other_branch": Label("此任务不属于贵营业部：请删除该行", "this row belongs to another branch: remove it"),
    "other_customer": Label(
        "与任务编码对应的客户不符，可能串行：请按派发的原表核对后重填该行",
        "is not the customer of this row code: compare with the sheet you were sent and fill the row again",
    ),
    "no_identity": Label(
        "缺少客户姓名和联系电话，无法核对：请保留派发表中的这两列",
        "name and phone are missing: keep both columns of the sheet you were sent",
    ),
    "formula": Label("含公式：请改为直接填写的内容", "holds a formula: write the value itself"),
    "missing": Label("未填写：请补填", "is empty: fill it in"),
    "unknown_choice": Label(
        "不是下拉列表中的内容：请从下拉列表中选择", "is not one of the listed words: choose from the list"
    ),
    "not_a_date": Label("不是日期：请按 2026-3-5 的形式填写", "is not a date: write it like 2026-03-05"),
    "date_in_future": Label("晚于今天：请填写实际日期", "lies in the future: write the actual day"),
    "date_too_early": Label("早于任务下发日期：请填写实际日期", "lies before the assignment: write the actual day"),
    "not_a_time": Label("不是时间：请按 14:30 的形式填写", "is not a time: write it like 14:30"),
    "not_a_count": Label(
        "不是次数：请填写 1 至 99 的整数", "is not a number of attempts: write a whole number from 1 to 99"
    ),
    "recusal": Label(
        "回访人是该客户的开发人或服务人员：请由他人重新回访；若只是同名，请写“姓名（工号）”",
        "the caller developed or serves the customer: somebody else must call; if only the name is the same, write name "
        "(staff number)",
    ),
    "unknown_staff": Label(
        "工号不在员工名单中：请填写姓名，或“姓名（工号）”",
        "is a staff number that is not on the staff list: write the name, or name (staff number)",
    ),
    "violation_missing": Label(
        "结果为“成功·疑似违规”时必填：请选择疑似违规类型", "is needed for a suspected violation: choose which"
    ),
    "violation_unexpected": Label(
        "仅在结果为“成功·疑似违规”时填写：请改正回访结果或清空该格",
        "is only for a suspected violation: correct the outcome or empty the cell",
    ),
    "request_unexpected": Label(
        "仅在办理结果为“需总部处理”时填写：请改正办理结果或清空该格",
        "is only for what needs headquarters: correct the result or empty the cell",
    ),
    "remark_missing": Label(
        "结果为“成功·有意见建议”时必填：请写明客户意见", "is needed for an opinion: write what the customer said"
    ),
    "answer_missing": Label(
        "结果为“成功”时五项内容须全部核实：请补填，或将结果改为“部分完成”",
        "is needed for a call that is done: fill it in, or change the outcome to Partly done",
    ),
    "flagged_but_clear": Label(
        "为“已核·有异常”，而结果为“成功·无异常”：请改正其中之一",
        "is Flagged while the outcome is Done · clear: correct one of them",
    ),
    "conflicting_rows": Label(
        "同一任务编码在本次返回中出现多次且内容不同：请只保留正确的一行",
        "comes twice in this return with different content: keep the right row only",
    ),
    "truncated": Label("邮件附件不完整：请重新发送", "the attachment arrived incomplete: send it again"),
    "wrong_password": Label(
        "工作簿无法解密：请使用贵营业部的密码，或不加密返回", "cannot be decrypted: use your branch's password or none"
    ),
    "too_large": Label(
        "工作簿过大或异常：请将填好的表复制到新工作簿后返回",
        "is too large or odd: copy the filled table to a new workbook",
    ),
    "unreadable": Label(
        "工作簿无法读取：请另存为 .xlsx 后重新发送", "cannot be read: save it as .xlsx and send it again"
    ),
    "too_many_parts": Label(
        "附件过多或层层嵌套：请将填好的工作簿直接作为附件返回",
        "holds too many files, or files too deep within each other: attach the filled workbook itself",
    ),
    "archive": Label(
        "不支持 RAR 等压缩格式：请直接附上工作簿，或改用 zip、7z 压缩",
        "is an archive of a kind we cannot open, such as RAR: attach the workbook itself, or a zip or 7z",
    ),
    "partial": Label(
        "邮件被拆分为多封：请关闭邮件拆分，或分成几封各自完整的邮件发送",
        "is one piece of a split message: switch splitting off, or send several messages that are each whole",
    ),
    "forwarded": Label(
        "来自被转发的邮件：请将工作簿直接作为附件返回", "stands in a forwarded message: attach the workbook itself"
    ),
    "locked_ods": Label(
        "该 ODS 工作簿的加密方式无法打开：请另存为 .xlsx（可用贵营业部的密码加密）后重新发送",
        "is an ODS locked in a way that we cannot undo: save it as .xlsx, under your branch's password if you like, and "
        "send it again",
    ),
    "unsupported": Label(
        "不支持该文件格式：请另存为 .xlsx 后重新发送", "is of a kind we cannot read: save it as .xlsx and send it again"
    ),
    "no_rows": Label(
        "没有找到已填写的任务行：请填写派发的工作簿并作为附件返回",
        "no filled row was found: fill the workbook and attach it",
    ),
}
"""Every code a row or workbook is sent back with, and what to do about it; the codes never change their meaning."""


def problem_message(code: str, language: Language, *, sheet: str = "", row: int = 0, column_name: str = "") -> str:
    """One sentence that names the place and what to write; never a value.

    >>> problem_message("missing", "zh_CN", sheet="回访登记表", row=12, column_name="called_on")
    '工作表“回访登记表”第 12 行“回访日期”：未填写：请补填'
    """
    titles = {column.key: column.label for declared in SHEETS.values() for column in declared.columns}
    title = titles[column_name].text(language) if column_name in titles else column_name
    if language == "zh_CN":
        place = (
            (f"工作表“{sheet}”" if sheet else "") + (f"第 {row} 行" if row else "") + (f"“{title}”" if title else "")
        )
        return f"{place}：{PROBLEMS[code].zh}" if place else PROBLEMS[code].zh
    place = ", ".join(
        filter(None, (f"sheet “{sheet}”" if sheet else "", f"row {row}" if row else "", f"“{title}”" if title else ""))
    )
    return f"{place}: {PROBLEMS[code].en}" if place else PROBLEMS[code].en


def place_words(sheet: str, row: int, language: Language) -> str:
    """Where a problem stands, in words: attachments and worksheets by number unless the name is one of ours.

    >>> place_words("#2 / #1", 7, "zh_CN"), place_words("#1", 0, "en"), place_words("回访登记表", 7, "zh_CN")
    ('附件 2，第 1 张工作表', 'attachment 1', '回访登记表')
    """
    attachment, table = ("附件 %s", "第 %s 张工作表") if language == "zh_CN" else ("attachment %s", "worksheet %s")
    *book, place = sheet.split(" / ")
    if place.startswith("#"):
        place = (table if row else attachment) % place[1:]
    return ("，" if language == "zh_CN" else ", ").join([*(attachment % part[1:] for part in book), place])


def evidence_message(kinds: Sequence[EvidenceKind], code: str, language: Language) -> str:
    """Which evidence a row lacks, and how to name the file.

    >>> evidence_message(["recording"], "H00017-8QZRN-C83SX", "en")
    'evidence is missing: the recording of the call; name the file H00017-8QZRN-C83SX_recording.mp3'
    """
    glue = "、" if language == "zh_CN" else ", "
    what = glue.join(KINDS[kind].text(language) for kind in kinds)
    named = glue.join(f"{code}_{NAMED[kind].text(language)}" for kind in kinds)
    return Label(f"缺少佐证：{what}；文件请命名为 {named}", f"evidence is missing: {what}; name the file {named}").text(
        language
    )
