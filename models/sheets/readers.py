"""Who reads a sheet and what he is shown of the customers: full phones only where he calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from models.outcomes import Label
from models.sheets.declared import SHEETS, SheetError, SheetKind

ROLES: Mapping[str, Label] = {
    "operations_director": Label("营运总监", "operations director"),
    "customer_service_manager": Label("客户服务部经理", "customer-service manager"),
    "deputy": Label("代理人", "deputy"),
    "branch_head": Label("营业部负责人", "branch head"),
    "hq_service": Label("总部客服中心", "headquarters' service centre"),
    "operations_management": Label("运营管理部", "operations management"),
    "compliance": Label("合规法务部", "compliance"),
}


@dataclass(frozen=True)
class Addressee:
    """Whose copy of a sheet it is: the reader's role, the mail that brings it, and which of its parts."""

    role: str
    mail_number: str
    part: int = 1
    parts: int = 1


Shown = Literal["full", "masked"]
_BRANCH_CALLS: dict[str, Shown] = {
    "operations_director": "full",
    "customer_service_manager": "full",
    "deputy": "full",
    "branch_head": "full",
    "hq_service": "full",
    "operations_management": "masked",
    "compliance": "masked",
}
PHONES: Mapping[SheetKind, Mapping[str, Shown]] = {
    # Whoever has the list in a branch has the calls made.
    "callback": _BRANCH_CALLS,
    "hq_calls": {"hq_service": "full", "operations_management": "masked", "compliance": "masked"},
    # The branch head signs, the operations director calls again.
    "self_check": _BRANCH_CALLS | {"customer_service_manager": "masked", "deputy": "masked", "branch_head": "masked"},
    # The customer-service manager or the deputy answers the customer.
    "opinion": _BRANCH_CALLS | {"operations_director": "masked", "branch_head": "masked"},
}
"""How a role sees the customers' phones on each sheet: in full where it calls. Names are masked for everybody; identity
numbers and amounts stand on no sheet. A role that is not named gets no sheet."""


def phone_shown(kind: SheetKind, role: str) -> Shown:
    """How a role sees phones on a sheet. Raises SheetError for a role to which the sheet is not shown."""
    shown = PHONES[kind].get(role)
    if shown is None:
        raise SheetError(
            f"{SHEETS[kind].name.zh}: is not declared for the role {role}; address one of {', '.join(PHONES[kind])}, "
            "or add the role to the table PHONES"
        )
    return shown
