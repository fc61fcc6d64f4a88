"""What names, markers, trailers and archives say of a delivery."""

from decimal import Decimal

import pytest

from models.delivery import (
    DeliveryError,
    Entry,
    check_archive,
    form_for,
    is_unfinished,
    marked_by,
    marker_of,
    matches,
    reaches,
    read_claims,
    read_expected,
)
from models.profile import Completeness, FileForm


@pytest.mark.parametrize(
    ("pattern", "name", "is_match"),
    [
        ("customers.csv", "customers.csv", True),
        ("customers*.csv", "customers_1.csv", True),
        ("*.csv", "in/customers.csv", False),
        ("in/*.csv", "in/customers.csv", True),
        ("*/c*.csv", "20251231/customers.csv", True),
        ("**/*.csv", "customers.csv", True),
        ("**/*.csv", "a/b/customers.csv", True),
        ("a/**", "a/b/c.csv", True),
        ("Customers.csv", "customers.csv", False),
    ],
)
def test_patterns_name_files_part_by_part(pattern, name, is_match):
    assert matches(pattern, name) is is_match


def test_only_folders_that_a_pattern_can_reach_are_looked_into():
    assert reaches("a/b/*.csv", "a")
    assert reaches("a/b/*.csv", "a/b")
    assert not reaches("a/b/*.csv", "a/c")
    assert not reaches("a/*.csv", "a/b")
    assert reaches("**/x.csv", "deep/er")


@pytest.mark.parametrize("name", [".a.csv", "a.csv.part", "in/a.csv.TMP", "a.csv.filepart", "a.csv~", "~$book.xlsx"])
def test_a_hidden_or_temporary_name_is_still_being_written(name):
    assert is_unfinished(name)
    assert not is_unfinished("apart.csv")


def test_the_ending_tells_the_format_where_the_profile_says_none():
    formats = {
        name: form_for(FileForm(), name).format
        for name in ("a.csv", "a.parquet", "a.XLSX", "a.csv.gz", "a.parquet.gz", "a")
    }
    assert formats == {
        "a.csv": "text", "a.parquet": "parquet", "a.XLSX": "xlsx", "a.csv.gz": "text", "a.parquet.gz": "parquet", "a": "text",
    }  # fmt: skip
    assert form_for(FileForm(format="text"), "a.parquet").format == "text"


def test_a_marker_lies_beside_its_file():
    assert marker_of(Completeness(marker="{name}.ok"), "in/customers.csv.gz") == "in/customers.csv.gz.ok"
    assert marker_of(Completeness(marker="{stem}.ctl"), "in/customers.csv.gz") == "in/customers.ctl"
    assert marker_of(Completeness(marker="done"), "customers.csv") == "done"
    assert marker_of(Completeness(trailer="T"), "customers.csv") is None
    assert marked_by(Completeness(marker="{name}.ok"), "in/customers.csv.ok") == "in/customers.csv"
    assert marked_by(Completeness(marker="{stem}.ctl"), "customers.ctl") is None


CONTROL = Completeness(
    marker="day.ctl", pattern=r"^{name}[|](?P<rows>\d+)[|](?P<bytes>\d+)[|](?P<md5>\w+)[|](?P<AMOUNT>[^|\n]+)$"
)
MD5 = "0123456789abcdefABCDEF0123456789"


def test_a_control_file_of_several_files_is_read_by_the_files_name():
    text = f"old_customers.csv|1|1|{MD5}|1\r\ncustomers.csv|12|340|{MD5}|-1234.50\r\nbranches.csv|2|9|{MD5}|0\r\n"
    claims = read_claims(CONTROL, "customers.csv", text, "day.ctl")
    assert (claims.expected.rows, claims.expected.totals) == (12, {"AMOUNT": Decimal("-1234.50")})
    assert claims.expected.said_by == "day.ctl"
    assert (claims.size_bytes, claims.md5, claims.sha256) == (340, MD5.lower(), None)
    with pytest.raises(DeliveryError, match=r"customers\.csv: has 341 bytes, day\.ctl says 340"):
        claims.check_bytes("customers.csv", size_bytes=341, md5=MD5.lower(), sha256="")
    with pytest.raises(DeliveryError, match=r"customers\.csv: its md5 is not the one day\.ctl says"):
        claims.check_bytes("customers.csv", size_bytes=340, md5="0" * 32, sha256="")
    claims.check_bytes("customers.csv", size_bytes=340, md5=MD5.lower(), sha256="")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f"staff.csv|1|1|{MD5}|1", r"day\.ctl: says nothing of customers\.csv"),
        (f"customers.csv|1|1|{MD5}|1\ncustomers.csv|2|1|{MD5}|1", "says different things of customers"),
        (f"customers.csv|1|1|{MD5}|1,234.00", "the total of AMOUNT is no plain number"),
        (f"customers.csv|1|1|{MD5}|1e5", "the total of AMOUNT is no plain number"),
        (f"customers.csv|１|1|{MD5}|1", "rows is no plain number"),
        ("customers.csv|1|1|abc|1", "md5 of customers.csv is not 32 hexadecimal digits"),
    ],
)
def test_a_control_file_that_can_be_read_in_two_ways_is_refused(line, said):
    with pytest.raises(DeliveryError, match=said):
        read_claims(CONTROL, "customers.csv", line, "day.ctl")


def test_a_trailer_tells_rows_and_totals_of_the_file_it_ends():
    trailer = Completeness(trailer=r"T\|", pattern=r"\|(?P<rows>\d+)\|(?P<AMOUNT>[\d.]+)")
    expected = read_expected(trailer, "t.txt", "T|3|10.50\r\n", "its last line")
    assert (expected.rows, expected.totals, expected.said_by) == (3, {"AMOUNT": Decimal("10.50")}, "its last line")
    with pytest.raises(DeliveryError, match=r"t\.txt: its last line is no trailer") as refused:
        read_expected(trailer, "t.txt", "C009,张三", "its last line")
    assert "张" not in str(refused.value)
    with pytest.raises(DeliveryError, match="a trailer cannot tell bytes"):
        read_expected(Completeness(trailer=r"T\|(?P<bytes>\d+)"), "t.txt", "T|3", "its last line")


def test_a_marker_without_a_pattern_says_only_that_the_file_is_there():
    claims = read_claims(Completeness(marker="{name}.ok"), "a.csv", "", "a.csv.ok")
    assert (claims.expected.rows, claims.expected.totals, claims.size_bytes) == (None, {}, None)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (Entry("../../etc/passwd", 1), "leads out of the archive"),
        (Entry("a/../../b", 1), "leads out of the archive"),
        (Entry("..\\b", 1), "leads out of the archive"),
        (Entry("/etc/passwd", 1), "leads out of the archive"),
        (Entry("C:\\b.csv", 1), "leads out of the archive"),
        (Entry("a.csv\0.exe", 1), "leads out of the archive"),
        (Entry("a.csv", 1, is_link=True), "is a link"),
        (Entry("a.csv", 1, is_encrypted=True), "is encrypted"),
        (Entry("a.csv", 2 * 10**12), "archive bomb"),
        (Entry("a.csv", 201 * 1000), "more than 200 times"),
        (Entry("a.csv", 0), "is empty"),
        (Entry("a.csv", 1, is_readable=False), "pack it by deflate"),
        (Entry("a.zip", 1), "archive within an archive"),
        (Entry("b/c.csv", 1), "in the archive twice"),
    ],
)
def test_an_archive_with_one_bad_entry_is_refused_whole(entry, said):
    with pytest.raises(DeliveryError, match=rf"^x\.zip.*{said}"):
        check_archive("x.zip", 1000, [Entry("b/c.csv", 10), entry])


def test_an_archive_gives_its_files_and_nothing_else():
    entries = [
        Entry("in/", 0, is_folder=True),
        Entry("__MACOSX/in/._a.csv", 5),
        Entry("in/a.csv", 5),
        Entry(".DS_Store", 5),
    ]
    assert [entry.name for entry in check_archive("x.zip", 100, entries)] == ["in/a.csv"]
    with pytest.raises(DeliveryError, match="holds no file"):
        check_archive("x.zip", 100, entries[:2])
    with pytest.raises(DeliveryError, match="1,001 entries"):
        check_archive("x.zip", 10**6, [Entry(f"{n}.csv", 1) for n in range(1001)])
