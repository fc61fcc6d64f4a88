"""Names and codes that houses are known to write for our columns: Hundsun-like, Kingdom-like, English, Chinese, pinyin.

A list to recognise columns by, which a person then confirms. Codes of one letter or digit are left out: their meaning
differs from house to house.
"""

from __future__ import annotations

import re

from models.textform import plain_name

_CUSTOMER = (
    "customer_id client_id cust_no cust_id customer_no client_no cust_code customer_code user_code khh khbh khdm "
    "客户号 客户编号 客户代码 客户编码 客户id 客户号码"
)
_BRANCH = (
    "branch_no branch_id branch_code int_org org_no org_code org_id dept_no dept_code yybh yybdm yybbm yyb jgbh jgdm "
    "营业部号 营业部编号 营业部代码 营业部编码 机构号 机构代码 机构编码 机构编号 分支机构代码 分支机构编号 所属营业部 开户营业部 所属机构 "
    "开户机构 分支机构 营业部 网点号"
)
_STAFF = (
    "staff_id broker_code emp_no emp_id employee_id employee_no emp_code broker_id broker_no staff_no ygh ygbh rybh jjrbh gh "
    "工号 员工号 员工工号 员工编号 人员编号 人员代码 经纪人编号 经纪人代码 员工代码"
)
_PHONE = (
    "phone mobile_tel mobile mobile_phone mobile_no cellphone tel telephone phone_no sjhm sjh sj yddh lxdh dh "
    "手机号码 手机号 手机 移动电话 联系电话 电话 电话号码 联系方式"
)
_FROM = (
    "valid_from begin_date start_date from_date effective_date qsrq ksrq sxrq 起始日期 开始日期 生效日期 起期 启用日期"
)
_TO = "valid_to end_date to_date expire_date zzrq jsrq 终止日期 结束日期 失效日期 截止日期 止期 停用日期"

_NAMES: dict[str, dict[str, str]] = {
    "branches": {
        "branch_no": f"{_BRANCH} id",
        "branch_name": "branch_name org_name dept_name yybmc jgmc 营业部名称 机构名称 分支机构名称 网点名称 营业部 name 名称",
        "region": "region branch_area area org_area qy dq pq 区域 地区 片区 大区 所属区域 所在地区",
    },
    "roster": {
        "branch_no": _BRANCH,
        "role": "role position post duty gw zw 岗位 职务 角色 岗位名称",
        "contact_name": "contact_name user_name name full_name lxr lxrxm xm 联系人 姓名 联系人姓名",
        "email": "email e_mail mail email_address e_mail_addr yx dzyx dzyj 邮箱 电子邮箱 邮件 邮箱地址 电子邮件 邮件地址",
        "valid_from": _FROM,
        "valid_to": _TO,
    },
    "staff": {
        "staff_id": f"{_STAFF} id",
        "staff_name": "staff_name broker_name emp_name employee_name ygxm ryxm jjrxm name xm 姓名 员工姓名 人员姓名 经纪人姓名",
        "branch_no": _BRANCH,
        "kind": "kind staff_type broker_type emp_type staff_kind employee_type rylx rylb yglx yglb "
        "人员类型 人员类别 员工类型 员工类别 岗位类别",
        "valid_from": f"{_FROM} entry_date hire_date rzrq 入职日期 任职日期",
        "valid_to": f"{_TO} leave_date quit_date lzrq 离职日期",
        "phone": _PHONE,
    },
    "customers": {
        "customer_id": f"{_CUSTOMER} id",
        "customer_name": "customer_name client_name cust_fname cust_name full_name khxm khmc 客户姓名 客户名称 name xm 姓名 户名",
        "phone": _PHONE,
        "id_no": "id_no id_code cert_no id_number idcard id_card zjhm zjbh zjh sfzh sfzhm 证件号码 证件号 身份证号 身份证号码 证件编号 "
        "身份证件号码",
        "branch_no": _BRANCH,
        "segment": "segment client_group cust_cls cust_class cust_level customer_class khfl khlb khlx khdj khfz 客户分类 客户类别 客户分级 "
        "客户等级 客户类型 客户分层 客户分组",
        "risk_level": "risk_level corp_risk_level risk_rating risk_grade risk_class fxdj fxjb 风险等级 风险承受能力 风险承受能力等级 "
        "风险评级 风险测评等级 风险级别",
        "status": "status client_status cust_status customer_status khzt zt 客户状态 状态 账户状态",
        "open_on": "open_on open_date open_dt opening_date khrq 开户日期 开户日 开户时间",
        "close_on": "close_on cancel_date close_date close_dt closing_date xhrq 销户日期 销户日 销户时间",
    },
    "relations": {
        "customer_id": _CUSTOMER,
        "staff_id": _STAFF,
        "kind": "kind relation_type rel_type relation_kind gxlx gxlb 关系类型 关系类别 关系",
        "valid_from": _FROM,
        "valid_to": _TO,
    },
    "transactions": {
        "transaction_id": "transaction_id trans_id serial_no sno txn_id trade_id trade_no deal_no lsh jylsh lsbh cjbh "
        "流水号 交易流水号 交易编号 成交编号 流水编号 id",
        "customer_id": _CUSTOMER,
        "traded_on": "traded_on trd_date trade_date txn_date trans_date business_date busi_date init_date date jyrq fsrq cjrq ywrq "
        "交易日期 发生日期 成交日期 业务日期 日期",
        "kind": "kind business_flag biz_code trans_type txn_type trade_type business_type type ywlb ywdm jylx jylb ywlx "
        "业务类别 业务代码 交易类型 交易类别 业务类型 业务标志 买卖方向 业务名称",
        "amount_cny": "amount_cny occur_balance occur_amt trade_amount txn_amount trans_amount business_balance amount amt "
        "fsje cjje jyje je "
        "发生金额 交易金额 成交金额 金额",
    },
}  # fmt: skip

NAMES: dict[str, dict[str, list[str]]] = {
    table: {
        column: list(dict.fromkeys(plain_name(name) for name in names.split())) for column, names in columns.items()
    }
    for table, columns in _NAMES.items()
}
"""Per table and canonical column the names of sources as `plain_name` writes them, the surest first."""

ALL_NAMES = frozenset(name for columns in NAMES.values() for names in columns.values() for name in names)

_MEANINGS: dict[tuple[str, str], dict[str, str]] = {
    ("customers", "status"): {
        "active": "正常 active normal 在用",
        "dormant": "休眠 dormant",
        "suspended": "冻结 挂失 中止 不合格 suspended frozen 锁定",
        "closed": "销户 已销户 closed cancelled",
    },
    ("transactions", "kind"): {
        "buy": "买入 证券买入 buy 买",
        "sell": "卖出 证券卖出 sell 卖",
        "deposit": "存入 银行转存 银证转入 转入 deposit",
        "withdraw": "取出 银行转取 银证转出 转出 withdraw withdrawal",
        "fee": "费用 fee 手续费",
        "interest": "利息 利息归本 结息 interest",
        "other": "other 其他",
    },
    ("staff", "kind"): {
        "broker": "经纪人 证券经纪人 broker",
        "marketer": "营销人员 marketer",
        "adviser": "投资顾问 投顾 adviser advisor",
        "caller": "回访人员 客服人员 caller",
        "other": "other 其他",
    },
    ("relations", "kind"): {"developer": "开发 开发关系 developer", "server": "服务 服务关系 server"},
    ("roster", "role"): {
        "operations_director": "营运总监 operations_director",
        "customer_service_manager": "客户服务部经理 customer_service_manager",
        "deputy": "副职 deputy",
        "branch_head": "营业部负责人 branch_head",
        "compliance": "合规法务部 compliance",
        "operations_management": "运营管理部 operations_management",
        "hq_service": "客服中心 hq_service",
    },
}

MEANINGS: dict[tuple[str, str], dict[str, str]] = {
    place: {word: ours for ours, words in codes.items() for word in words.split()} for place, codes in _MEANINGS.items()
}
"""Per table and column the codes whose words say what they mean."""

_HINTS = (
    ("relations", r"(client|cust|kh).*(broker|emp|staff|rel|jjr)|relation|关系"),
    ("roster", r"contact|roster|联系|通讯录|花名册"),
    ("transactions", r"jour|trade|trans|txn|trd|流水|交易|成交|lsh?b?\b"),
    ("staff", r"broker|emp|staff|人员|员工|经纪人"),
    ("branches", r"branch|org|yyb|dept|营业部|机构"),
    ("customers", r"client|cust|客户|khxx"),
)


def hinted_table(file_name: str) -> str | None:
    """The table that a file's name points to.

    >>> hinted_table("KD_CUST_EMP_REL.txt"), hinted_table("client_20251231.txt"), hinted_table("x.csv")
    ('relations', 'customers', None)
    """
    name = file_name.lower()
    return next((table for table, pattern in _HINTS if re.search(pattern, name)), None)
