"""The workbooks, declared once, used both ways: written for a branch, found again in a return.

Knows columns, dropdowns, colours and words of the sheets. Must stay out: whether an answer is believed
(models/returns/), passwords, files and mail.
"""

from models.cells import clean_text, mask_name, mask_phone
from models.outcomes import (
    ANSWERS,
    CHANNELS,
    FORMS,
    HOLDINGS,
    INTERVIEWS,
    LEGAL_CONTENTS,
    OUTCOMES,
    QUESTIONNAIRE,
    TRUTHS,
    VIOLATIONS,
    Choice,
    Label,
    Language,
    Outcome,
    Questionnaire,
    QuestionnaireError,
    settle,
)
from models.row_code import ItemKind, RowKey, find_code, find_code_shape, row_code
from models.sheets.corrections import Correction, Written, understood
from models.sheets.declared import (
    CALLBACK,
    CALLBACK_ROWS,
    HQ_CALL_ROWS,
    HQ_CALLS,
    OPINION,
    OPINION_ROWS,
    SELF_CHECK,
    SELF_CHECK_ROWS,
    SHEETS,
    Column,
    Sheet,
    SheetError,
    SheetKind,
)
from models.sheets.found import FoundRow, find_rows
from models.sheets.parts import Part, parts_needed, share_out, supplement_number
from models.sheets.readers import PHONES, ROLES, Addressee, phone_shown
from models.sheets.rows import call_rows, case_rows
from models.sheets.written import staff_words, write_sheet

__all__ = [
    "ANSWERS",
    "CALLBACK",
    "CALLBACK_ROWS",
    "CHANNELS",
    "FORMS",
    "HOLDINGS",
    "HQ_CALLS",
    "HQ_CALL_ROWS",
    "INTERVIEWS",
    "LEGAL_CONTENTS",
    "OPINION",
    "OPINION_ROWS",
    "OUTCOMES",
    "PHONES",
    "QUESTIONNAIRE",
    "ROLES",
    "SELF_CHECK",
    "SELF_CHECK_ROWS",
    "SHEETS",
    "TRUTHS",
    "VIOLATIONS",
    "Addressee",
    "Choice",
    "Column",
    "Correction",
    "FoundRow",
    "ItemKind",
    "Label",
    "Language",
    "Outcome",
    "Part",
    "Questionnaire",
    "QuestionnaireError",
    "RowKey",
    "Sheet",
    "SheetError",
    "SheetKind",
    "Written",
    "call_rows",
    "case_rows",
    "clean_text",
    "find_code",
    "find_code_shape",
    "find_rows",
    "mask_name",
    "mask_phone",
    "parts_needed",
    "phone_shown",
    "row_code",
    "settle",
    "share_out",
    "staff_words",
    "supplement_number",
    "understood",
    "write_sheet",
]
