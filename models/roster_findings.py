"""What is to be corrected in a roster: each finding with its row, whether it stops mail, and what to write.

Judges a roster as it was written, rejected rows and all (the rows' columns: tasks/lake/written.py). Who is written to
is models/roster.py's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, NamedTuple

import pandas as pd

from models.address import Fault, find_fault
from models.outcomes import Label, Language
from models.roster import (
    HQ,
    STAND_INS,
    Leavers,
    choose_address,
    faults_of,
    leavers,
    plain_name,
    shared_addresses,
)

SOON = timedelta(days=30)
"""So long before a person's last day a successor is asked for."""


class Code(NamedTuple):
    """What is wrong, and what to write in the roster. {meant} is the address that was probably meant."""

    wrong: Label
    write: Label


CODES: Mapping[str, Code] = {
    "no_address": Code(Label("没有填写邮箱地址", "no address"), Label("填写本人的公司邮箱", "write the person's address")),
    "several_addresses": Code(
        Label("一格里写了多个地址", "several addresses in one cell"),
        Label("只留一个地址；另有其人的另起一行", "leave one address; another person gets a row of his own"),
    ),
    "full_width": Code(
        Label("地址含全角字符", "full-width signs in the address"),
        Label("改为半角：{meant}", "write it in half width: {meant}"),
    ),
    "rewritten": Code(
        Label("地址含全角或多余字符，已按半角读取", "full-width or spare signs in the address, read in half width"),
        Label("改为：{meant}", "write {meant}"),
    ),
    "invisible_sign": Code(
        Label("地址含看不见的字符（第{detail}）", "an invisible sign in the address, at place {detail}"),
        Label("重新键入地址：{meant}", "type the address anew: {meant}"),
    ),
    "look_alike": Code(
        Label("地址含形似拉丁字母的其他字母（第{detail}）", "a letter that only looks Latin, at place {detail}"),
        Label("不要粘贴，重新键入地址，并向本人核实", "type the address anew, do not paste it; ask the person"),
    ),
    "foreign_letters": Code(
        Label("@ 之前含非拉丁字符（第{detail}）", "letters before the @ that mail does not carry, at place {detail}"),
        Label("改用只含字母、数字和 . _ - 的公司邮箱", "write an address of letters, digits and . _ - alone"),
    ),
    "foreign_domain": Code(
        Label("域名不是 ASCII 形式", "an international domain"),
        Label("写成 ASCII 形式：{meant}", "write its ASCII form: {meant}"),
    ),
    "with_name": Code(
        Label("地址里带有姓名", "a name stands with the address"), Label("只写地址：{meant}", "write only the address: {meant}")
    ),
    "no_at": Code(Label("地址里没有 @", "no @ in the address"), Label("写成 name@公司域名", "write name@the-company's-domain")),
    "trailing_dot": Code(
        Label("@ 前或末尾多了一个点", "a dot at the end or before the @"), Label("去掉这个点：{meant}", "take the dot away: {meant}")
    ),
    "two_dots": Code(
        Label("地址里有连续的点", "several dots in a row"), Label("只留一个点：{meant}", "leave one dot: {meant}")
    ),
    "bad_syntax": Code(
        Label("不是合格的邮箱地址：{detail}", "not an address: {detail}"), Label("改正地址：{meant}", "correct the address: {meant}")
    ),
    "address_of_two_branches": Code(
        Label("同一地址也登记在营业部 {detail}", "the same address stands for branch {detail} too"),
        Label("每个营业部用各自的地址，否则无法分辨回件", "give each branch its own, or nobody can tell whose its returns are"),
    ),
    "address_of_two_roles": Code(
        Label("同一地址登记在本营业部的多个岗位：{detail}", "the same address in several roles of the branch: {detail}"),
        Label("确认是同一人；升级催办将发给同一人", "make sure it is one person; an escalation reaches the same one"),
    ),
    "address_of_two_people": Code(
        Label("同一岗位、同一地址登记了两个人", "one address for two people in the same role"),
        Label("结束前任的那一行", "end the row of the one who was there before"),
    ),
    "overlap": Code(
        Label("同一岗位当前有两个人", "two people in one role at the same time"),
        Label("给其中一行填写止期 valid_to", "write valid_to in one of the rows"),
    ),
    "person_twice": Code(
        Label("同一人在同一岗位有两个地址", "one person with two addresses in the same role"),
        Label("给不用的那一行填写止期 valid_to", "write valid_to in the row that is not used any more"),
    ),
    "overlap_later": Code(
        Label("自 {detail} 起同一岗位将有两个人", "from {detail} two people will be in one role"),
        Label("给前任的那一行填写止期 valid_to", "write valid_to in the row of the one who goes"),
    ),
    "duplicate_row": Code(
        Label("与第 {detail} 行重复", "the same as row {detail}"), Label("删去其中一行", "remove one of the rows")
    ),
    "missing_role": Code(
        Label("没有登记{role}", "no {role} is named"), Label("新增一行，登记{role}", "add a row that names the {role}")
    ),
    "stand_in": Code(
        Label("没有可用的{role}，由代理人代收", "no usable {role}; the deputy is written to"),
        Label("如有{role}，新增一行", "add a row once there is a {role}"),
    ),
    "expired": Code(
        Label("{role}已于 {detail} 到期，没有接任者", "the {role} ended on {detail}, nobody follows"),
        Label("新增接任者一行，或延长 valid_to", "add a row for the successor, or a later valid_to"),
    ),
    "expires_soon": Code(
        Label("{role}将于 {detail} 到期，没有接任者", "the {role} ends on {detail}, nobody follows"),
        Label("到期前登记接任者", "name the successor before that day"),
    ),
    "not_yet": Code(
        Label("{role}自 {detail} 起才生效", "the {role} begins only on {detail}"),
        Label("登记在此之前的人，或改正 valid_from", "name who it is until then, or correct valid_from"),
    ),
    "left": Code(
        Label("按人员表此人已于 {detail} 离职", "left on {detail} by the staff extract"),
        Label("结束这一行，登记接任者", "end this row and name the successor"),
    ),
    "namesake_left": Code(
        Label("按人员表有同名者已于 {detail} 离职，早于本行起期", "somebody of that name left on {detail}, before this row begins"),
        Label("确认不是同一人", "make sure that it is another person"),
    ),
    "outside_domain": Code(
        Label("不是公司的邮箱域名：{detail}", "outside the company's domains: {detail}"),
        Label(
            "改用公司邮箱，或在 HUIFANG_ROSTER_DOMAINS 中增加该域名",
            "write a company address, or add the domain to HUIFANG_ROSTER_DOMAINS",
        ),
    ),
    "refused": Code(
        Label("邮件服务器已永久拒收该地址", "the mail server refused the address for good"),
        Label("改正地址；若地址无误，请邮箱管理员处理", "correct the address; if it is right, ask whoever runs the mailbox"),
    ),
    "recalled": Code(
        Label("曾误发至所登记的地址，该邮件已召回", "a mail to the address that is named went astray and was recalled"),
        Label(
            "改正地址；若地址确属本岗位，另起一行，valid_from 晚于召回日",
            "name the right address; if it is this one after all, add a row with a valid_from after the day of the recall",
        ),
    ),
    "bad_dates": Code(
        Label("起止日期不能读取或止期早于起期", "dates that cannot be read, or an end before the beginning"),
        Label("按 yyyy-MM-dd 改正 valid_from、valid_to", "correct valid_from and valid_to, as yyyy-MM-dd"),
    ),
    "unknown_branch": Code(
        Label("营业部号不在营业部表中", "a branch that the branches extract does not have"),
        Label("改正 branch_no（含前导零）", "correct branch_no, leading zeros included"),
    ),
    "unknown_role": Code(
        Label("岗位代码无法识别", "a role that is none"),
        Label(
            "写其中之一：operations_director、branch_head、customer_service_manager、deputy；"
            "HQ 行：hq_service、compliance、operations_management",
            "write one of operations_director, branch_head, customer_service_manager, deputy; "
            "for HQ one of hq_service, compliance, operations_management",
        ),
    ),
    "bad_row": Code(
        Label("该行未被接收：{detail}", "the row is not accepted: {detail}"), Label("改正该列", "correct that column")
    ),
    "bad_byte": Code(
        Label("该行不是 UTF-8 编码，无法读取", "the row is not in UTF-8 and cannot be read"),
        Label("把文件另存为“CSV UTF-8（逗号分隔）”", "save the file as CSV UTF-8 (comma delimited)"),
    ),
    "key_damaged": Code(
        Label("营业部密钥缺失或损坏：名单无法加密", "the branch's key is damaged: its lists cannot be locked"),
        Label("从备份恢复，或 huifang keys rotate", "restore it from the backup, or huifang keys rotate"),
    ),
    "too_large": Code(
        Label(
            "名单超过单封邮件的上限，且不能再拆分：{detail}",
            "the list is over what one mail may have and cannot be split further: {detail}",
        ),
        Label("提高 HUIFANG_SHEET_BYTES 或降低 HUIFANG_SHEET_ROWS", "raise HUIFANG_SHEET_BYTES or lower HUIFANG_SHEET_ROWS"),
    ),
}  # fmt: skip
"""The last two are not the roster's: they stop a branch's mail all the same."""

ROLES: Mapping[str, Label] = {
    "operations_director": Label("营运总监", "operations director"),
    "customer_service_manager": Label("客户服务部经理", "customer-service manager"),
    "deputy": Label("代理人", "deputy"),
    "branch_head": Label("营业部负责人", "branch head"),
    "compliance": Label("合规法务部", "compliance"),
    "operations_management": Label("运营管理部", "operations management"),
    "hq_service": Label("总部客服中心", "headquarters' service centre"),
}
"""The roles a roster may name."""

HQ_ROLES = ("hq_service", "compliance")
"""Whom headquarters is written to in, whatever the programmes say."""


@dataclass(frozen=True)
class Finding:
    """One thing to correct. file and row (the header is row 1) are '' and 0 where no row is at fault."""

    code: str
    stops: bool
    """Whether the mails to this role of this branch stay; otherwise it is only told."""
    branch_no: str
    role: str
    file: str = ""
    row: int = 0
    email: str = ""
    meant: str = ""
    detail: str = ""

    def wrong(self, language: Language) -> str:
        return self._said(CODES[self.code].wrong, language)

    def write(self, language: Language) -> str:
        return self._said(CODES[self.code].write, language)

    def plain(self) -> dict[str, Any]:
        """For figures and pages: no address in it."""
        return {
            "branch_no": self.branch_no, "role": self.role, "code": self.code, "file": self.file, "row": self.row,
            "detail": self.detail,
        }  # fmt: skip

    def _said(self, label: Label, language: Language) -> str:
        role = ROLES[self.role].text(language) if self.role in ROLES else self.role
        said = label.text(language).format(meant=self.meant, detail=self.detail, role=role)
        # Where nobody can tell what was meant, the sentence ends before it; so it does where there is nothing to add.
        return said.rstrip(" :：、，,")


class _Row(NamedTuple):
    file: str
    row: int
    branch_no: str
    role: str
    name: str
    email: str
    written: str
    begins: date | None
    ends: date | None
    reason: str
    column: str

    def holds_on(self, day: date) -> bool:
        return self.begins is not None and self.begins <= day and not self.is_over(day)

    def is_over(self, day: date) -> bool:
        # Of an end before the beginning nobody knows which of the two is wrong.
        return self.ends is not None and self.ends < day and (self.begins is None or self.begins <= self.ends)

    def overlaps(self, other: _Row) -> date | None:
        """The first day on which both hold."""
        assert self.begins is not None
        assert other.begins is not None
        first = max(self.begins, other.begins)
        return None if self.is_over(first) or other.is_over(first) else first


def check_roster(
    written: pd.DataFrame,
    on: date,
    *,
    branches: Collection[str],
    needed: Mapping[str, Collection[str]],
    staff: pd.DataFrame | None = None,
    domains: Collection[str] = (),
    refused: Collection[str] = (),
) -> list[Finding]:
    """What is to be corrected in a roster as it was written, what stops mail first, then by branch, role and row.

    `branches` are those that there are, `needed` the roles in which a branch (or HQ) is written to; `refused` addresses
    that the mail server took for good. A row that is over is history and not judged, unless nobody follows.
    """
    rows, rejected = _sort_out(_rows_of(written), {*branches, HQ})
    held = [row for row in rows if row.holds_on(on)]
    gone = leavers(staff, on)
    faults = _faults_of_held(held, gone, domains, {address.casefold() for address in refused})
    of_branch: dict[str, _Branch] = defaultdict(lambda: _Branch([], []))
    for row in rows:
        of_branch[row.branch_no].rows.append(row)
    for row, fault in rejected:
        of_branch[row.branch_no].rejected.append((row, fault))
    found: dict[Finding, None] = {}
    for branch_no in sorted(needed):
        for role in sorted(needed[branch_no]):
            found |= dict.fromkeys(_stops(of_branch[branch_no], faults, branch_no, role, on))
    told = [_finding(row, fault, stops=False) for row, of_row in faults.items() for fault in of_row]
    told += [_finding(row, fault, stops=False) for row, fault in rejected if not row.is_over(on)]
    told += _told_of_rows(rows, faults, gone, on)
    said = {(f.code, f.branch_no, f.role, f.file, f.row) for f in found}
    found |= dict.fromkeys(f for f in told if (f.code, f.branch_no, f.role, f.file, f.row) not in said)
    return sorted(found, key=lambda f: (not f.stops, f.branch_no, f.role, f.file, f.row, f.code))


class _Branch(NamedTuple):
    """One branch's rows: those that count, and those that the intake rejects with the fault."""

    rows: list[_Row]
    rejected: list[tuple[_Row, Fault]]


def _rows_of(written: pd.DataFrame) -> list[_Row]:
    columns = (
        "file", "row_number", "branch_no", "role", "contact_name", "email", "email_written", "valid_from", "valid_to",
        "reason", "column",
    )  # fmt: skip
    plain = written[list(columns)].astype(object)
    return [_Row(*row) for row in plain.where(plain.notna(), None).itertuples(index=False, name=None)]


def _sort_out(rows: Sequence[_Row], branches: Collection[str]) -> tuple[list[_Row], list[tuple[_Row, Fault]]]:
    """The rows that count, and those that the intake rejects with the fault."""
    good: list[_Row] = []
    bad: list[tuple[_Row, Fault]] = []
    seen: dict[tuple[Any, ...], _Row] = {}
    for row in rows:
        key = (row.branch_no, row.role, row.email, row.begins)
        if row.column == "email":
            fault = Fault("no_address") if not row.written.strip() else find_fault(row.written.strip())
            bad.append((row, fault or Fault("bad_syntax", "", row.reason)))
        elif row.column in ("valid_from", "valid_to"):
            bad.append((row, Fault("bad_dates")))
        elif row.column == "role" or (not row.reason and row.role not in ROLES):
            bad.append((row, Fault("unknown_role")))
        elif row.reason and row.reason != "to_before_from":
            if row.reason == "bad_byte":
                bad.append((row, Fault("bad_byte")))
            else:
                bad.append((row, Fault("bad_row", "", f"{row.column} {row.reason}".strip())))
        elif row.branch_no not in branches:
            bad.append((row, Fault("unknown_branch")))
        elif row.begins is None or (row.ends is not None and row.ends < row.begins):
            bad.append((row, Fault("bad_dates")))
        elif key in seen:
            bad.append((row, Fault("duplicate_row", "", str(seen[key].row))))
        else:
            seen[key] = row
            good.append(row)
    return good, bad


def _faults_of_held(
    held: Sequence[_Row], gone: Leavers, domains: Collection[str], refused: Collection[str]
) -> dict[_Row, list[Fault]]:
    shared = shared_addresses((row.branch_no, row.email) for row in held)
    found = {}
    for row in held:
        assert row.begins is not None
        found[row] = faults_of(
            row.branch_no, row.name, row.email, row.begins, leavers=gone, shared=shared, domains=domains
        )
        if row.email.casefold() in refused:
            found[row].append(Fault("refused"))
    return found


def _finding(row: _Row, fault: Fault, *, stops: bool) -> Finding:
    return Finding(
        fault.code, stops, row.branch_no, row.role, row.file, row.row, row.written or row.email, fault.meant,
        fault.detail,
    )  # fmt: skip


def _stops(
    branch: _Branch, faults: Mapping[_Row, list[Fault]], branch_no: str, role: str, on: date
) -> Iterator[Finding]:
    """What keeps mail from a role of a branch: nothing where there is somebody to write to."""
    candidates = (role, *STAND_INS.get(role, ()))
    mine = [row for row in branch.rows if row.role in candidates]
    usable = [row for row in mine if row in faults and not faults[row]]
    if choose_address([(row.role, row.email) for row in usable], role):
        if not any(row.role == role for row in usable):
            yield Finding("stand_in", False, branch_no, role)
        return
    if usable:
        first = next(candidate for candidate in candidates if any(row.role == candidate for row in usable))
        several = [row for row in usable if row.role == first]
        code = "person_twice" if len({plain_name(row.name) for row in several}) == 1 else "overlap"
        yield from (_finding(row, Fault(code), stops=True) for row in several)
        return
    causes = [_finding(row, fault, stops=True) for row in mine for fault in faults.get(row, [])]
    causes += [
        _finding(row, fault, stops=True)
        for row, fault in branch.rejected
        if row.role in candidates and not row.is_over(on)
    ]
    if not causes:
        later = [row for row in mine if row.begins is not None and row.begins > on]
        over = [row for row in mine if row.is_over(on)]
        if later:
            begins = min(later, key=lambda row: row.begins or date.max)
            causes.append(_finding(begins, Fault("not_yet", "", str(begins.begins)), stops=True))
        elif over:
            last = max(over, key=lambda row: row.ends or date.min)
            causes.append(_finding(last, Fault("expired", "", str(last.ends)), stops=True))
    yield from causes or [Finding("missing_role", True, branch_no, role)]


def _told_of_rows(
    every: Sequence[_Row], faults: Mapping[_Row, list[Fault]], gone: Leavers, on: date
) -> Iterator[Finding]:
    """What is odd about rows that are used or will be."""
    by_role: dict[tuple[str, str], list[_Row]] = defaultdict(list)
    by_address: dict[tuple[str, str], list[_Row]] = defaultdict(list)
    for row in every:
        if row.is_over(on):
            continue
        by_role[row.branch_no, row.role].append(row)
        if row in faults and not faults[row]:
            by_address[row.branch_no, row.email.casefold()].append(row)
            # Spaces at either end are nobody's fault and no server's trouble.
            if row.written.strip() not in ("", row.email):
                yield _finding(row, Fault("rewritten", row.email), stops=False)
            left = gone.get((row.branch_no, plain_name(row.name)))
            if left is not None:
                yield _finding(row, Fault("namesake_left", "", left.isoformat()), stops=False)
    for rows in by_address.values():
        if len(roles := sorted({row.role for row in rows})) > 1 and rows[0].branch_no != HQ:
            yield _finding(rows[0], Fault("address_of_two_roles", "", ", ".join(roles)), stops=False)
    for rows in by_role.values():
        yield from _told_of_role(sorted(rows, key=lambda row: (row.begins or date.min, row.row)), on)


def _told_of_role(rows: Sequence[_Row], on: date) -> Iterator[Finding]:
    """What is odd about the rows of one role that are not over, in the order in which they begin."""
    for place, row in enumerate(rows):
        for other in rows[:place]:
            first = row.overlaps(other)
            if first is None:
                continue
            if row.email.casefold() == other.email.casefold():
                is_same = plain_name(row.name) == plain_name(other.name)
                fault = Fault("duplicate_row", "", str(other.row)) if is_same else Fault("address_of_two_people")
                yield _finding(row, fault, stops=False)
            elif first > on:
                yield _finding(row, Fault("overlap_later", "", first.isoformat()), stops=False)
    last = max(rows, key=lambda row: row.ends or date.max)
    if last.ends is not None and last.ends <= on + SOON and last.holds_on(on):
        yield _finding(last, Fault("expires_soon", "", last.ends.isoformat()), stops=False)
