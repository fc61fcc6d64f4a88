"""What is believed of a return: whose it is, which rows count, and what is wrong with the others.

Judges what the sandbox read out of one message. Knows no mailbox, file, password or table of the store.
"""

from models.returns.callers import Related
from models.returns.corrected import Returned, ToCorrect, correct_rows
from models.returns.evidence import (
    SHEET_OF,
    content_awaiting,
    content_of_booked,
    evidence_missing,
    hold_open,
    match_files,
)
from models.returns.frames import Judgement
from models.returns.judged import Verdict, find_returned, judge_rows, message_verdict
from models.returns.opened import Authentication, File, Opened, OpenedError, Table, Workbook
from models.returns.problems import PROBLEMS, evidence_message, place_words, problem_message
from models.returns.senders import REASONS, OwnServer, Sender, judge_folder, judge_sender

__all__ = [
    "PROBLEMS",
    "REASONS",
    "SHEET_OF",
    "Authentication",
    "File",
    "Judgement",
    "Opened",
    "OpenedError",
    "OwnServer",
    "Related",
    "Returned",
    "Sender",
    "Table",
    "ToCorrect",
    "Verdict",
    "Workbook",
    "content_awaiting",
    "content_of_booked",
    "correct_rows",
    "evidence_message",
    "evidence_missing",
    "find_returned",
    "hold_open",
    "judge_folder",
    "judge_rows",
    "judge_sender",
    "match_files",
    "message_verdict",
    "place_words",
    "problem_message",
]
