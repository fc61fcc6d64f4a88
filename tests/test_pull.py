import pytest

from flows.pull import RuinedExtract, refuse_ruin
from models.profile import Profile
from tasks.lake import IntakeResult, SourceCount, Tally
from tasks.settings import PROJECT, read_yaml

PROFILE = read_yaml(PROJECT / "profiles" / "canonical.yaml", Profile)


def taken(table: str, *, accepted: int, rejected: int, ignored: int = 0) -> IntakeResult:
    rows = accepted + rejected + ignored
    return IntakeResult(
        table, "p", "c", "r", rows, accepted, ignored, rejected,
        [Tally("rejected", "bad_byte", "contact_name", rejected, "")] if rejected else [],
        [SourceCount(f"{table}.csv", "s", 1, rows, accepted, ignored, rejected)],
    )  # fmt: skip


def test_a_roster_in_the_wrong_encoding_does_not_become_the_newest():
    with pytest.raises(RuinedExtract, match=r"roster\.csv: none of 19 rows.*bad_byte 19.*encoding utf-8 right"):
        refuse_ruin(taken("roster", accepted=0, rejected=19), PROFILE)


def test_a_file_of_which_most_rows_are_rejected_stops_the_pull():
    with pytest.raises(RuinedExtract, match=r"6,328 of 6,376 rows.*stop_above_rejected_pct"):
        refuse_ruin(taken("customers", accepted=48, rejected=6328), PROFILE)
    refuse_ruin(
        taken("customers", accepted=48, rejected=6328), PROFILE.model_copy(update={"stop_above_rejected_pct": 100})
    )


def test_a_header_alone_stops_the_pull_where_rows_must_be():
    with pytest.raises(RuinedExtract, match="is the delivery complete"):
        refuse_ruin(taken("customers", accepted=0, rejected=0), PROFILE)
    refuse_ruin(taken("transactions", accepted=0, rejected=0), PROFILE)


def test_a_little_dirt_and_much_that_is_ignored_by_name_do_not_stop_it():
    refuse_ruin(taken("customers", accepted=95, rejected=5), PROFILE)
    refuse_ruin(taken("customers", accepted=1, rejected=0, ignored=900), PROFILE)
