"""The tables of the store and who writes each; knows no query and opens no connection.

Facts are added, never edited: *sent*, *returned* and *final* are rows, *overdue* is a query, a correction is a
row with a higher version. The unique keys make a second run harmless. Personal data stay in the lake and in the
columns marked so here.
"""

from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Date,
    DateTime,
    Dialect,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class UtcDateTime(TypeDecorator[datetime]):
    """An aware time, kept in UTC; SQLite forgets the zone, so it is put back on reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a time without zone cannot be stored: {value}")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 (SQLAlchemy reads it from the class)
        datetime: UtcDateTime(),
        date: Date(),
        str: String(),
        dict[str, Any]: JSON(),
        list[Any]: JSON(),
    }


Key = BigInteger().with_variant(Integer(), "sqlite")


# ---- written by flows/pull.py ------------------------------------------------------------------------------


class Pull(Base):
    """One intake of one delivery; the same files under the same profile again, after no others, are the same pull."""

    __tablename__ = "pull"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    as_of: Mapped[date]
    profile: Mapped[str]
    profile_sha256: Mapped[str]
    manifest_sha256: Mapped[str]
    code_version: Mapped[str]
    pulled_at: Mapped[datetime]
    supersedes_id: Mapped[int | None] = mapped_column(ForeignKey("pull.id"))
    """The pull of the same day that this corrected delivery takes the place of; both are kept."""
    __table_args__ = (UniqueConstraint("as_of", "supersedes_id"),)


class Snapshot(Base):
    """One canonical table of one pull: immutable Parquet in the lake, with counts that balance."""

    __tablename__ = "snapshot"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    pull_id: Mapped[int] = mapped_column(ForeignKey("pull.id"))
    table_name: Mapped[str]
    as_of: Mapped[date]
    path: Mapped[str]
    """Folder below the lake, holding accepted.parquet, rejected.parquet and reported.parquet."""
    content_sha256: Mapped[str]
    """Of the accepted rows as text (DESIGN §3.5), not of Parquet bytes."""
    rejected_sha256: Mapped[str]
    """Of the rejected row numbers, columns and reasons as text: what a waiver is given over."""
    rows: Mapped[int]
    accepted: Mapped[int]
    ignored: Mapped[int]
    rejected: Mapped[int]
    reported: Mapped[int]
    """Accepted rows that say something odd; no part of the balance."""
    __table_args__ = (UniqueConstraint("pull_id", "table_name"),)


class SourceFile(Base):
    """One file that went into a snapshot, kept raw in the lake under its hash."""

    __tablename__ = "source_file"
    snapshot_id: Mapped[int] = mapped_column(ForeignKey("snapshot.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    sha256: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    rows: Mapped[int]
    accepted: Mapped[int]
    ignored: Mapped[int]
    rejected: Mapped[int]


class SetAside(Base):
    """A file of a delivery that was not read, and why."""

    __tablename__ = "set_aside"
    pull_id: Mapped[int] = mapped_column(ForeignKey("pull.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    table_name: Mapped[str]
    """Empty where no table takes it."""
    sha256: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    reason: Mapped[str] = mapped_column(Text)


class IntakeTally(Base):
    """How many rows of a snapshot one rule ignored, rejected or reported."""

    __tablename__ = "intake_tally"
    snapshot_id: Mapped[int] = mapped_column(ForeignKey("snapshot.id"), primary_key=True)
    verdict: Mapped[str] = mapped_column(primary_key=True)
    """ignored | rejected | reported"""
    rule: Mapped[str] = mapped_column(primary_key=True)
    column_name: Mapped[str] = mapped_column(primary_key=True)
    rows: Mapped[int]
    reason: Mapped[str] = mapped_column(Text)


# ---- written by a person at the command line ---------------------------------------------------------------


class Waiver(Base):
    """An approver lets a year-end base be frozen although rows of its extract were rejected."""

    __tablename__ = "waiver"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    snapshot_id: Mapped[int] = mapped_column(ForeignKey("snapshot.id"), unique=True)
    rejected_sha256: Mapped[str]
    rows: Mapped[int]
    approver: Mapped[str]
    reason: Mapped[str] = mapped_column(Text)
    given_at: Mapped[datetime]


# ---- written by flows/draw.py ------------------------------------------------------------------------------


class ProgrammeYear(Base):
    """One programme on one frozen base under one plan: frame, plan and quota, committed once.

    A programme changed within the year adds a row with the next version (DRAW 12); its campaigns point to the row they
    were drawn under.
    """

    __tablename__ = "programme_year"
    id: Mapped[str] = mapped_column(primary_key=True)
    """daily_risk-2026, and daily_risk-2026.2 for the plan's second version."""
    programme: Mapped[str]
    year: Mapped[int]
    version: Mapped[int] = mapped_column(default=1)
    """1, 2, … within the year."""
    from_period: Mapped[str] = mapped_column(default="")
    """The first period drawn under it; '' in years frozen before versions were kept."""
    base_on: Mapped[date]
    snapshots: Mapped[dict[str, Any]]
    """Snapshot id per canonical table the frame was made from."""
    plan: Mapped[str] = mapped_column(Text)
    plan_sha256: Mapped[str]
    frame_path: Mapped[str]
    frame_sha256: Mapped[str]
    ledger_sha256: Mapped[str] = mapped_column(default="")
    """Of the excluded customers with their reasons as text; '' in years frozen before it was kept."""
    base: Mapped[int]
    """Year-end customers: eligible + excluded by reason + waived."""
    eligible: Mapped[int]
    waived: Mapped[int]
    contradictions: Mapped[dict[str, Any]]
    """Count per kind of contradiction that was reported and not repaired."""
    code_version: Mapped[str]
    frozen_at: Mapped[datetime]
    __table_args__ = (UniqueConstraint("programme", "year", "version"),)


class Exclusion(Base):
    """The ledger of exclusions in counts; the customers themselves stand in the lake beside the frame."""

    __tablename__ = "exclusion"
    programme_year_id: Mapped[str] = mapped_column(ForeignKey("programme_year.id"), primary_key=True)
    branch_no: Mapped[str] = mapped_column(primary_key=True)
    reason: Mapped[str] = mapped_column(primary_key=True)
    customers: Mapped[int]


class Quota(Base):
    """What one group owes in the programme year."""

    __tablename__ = "quota"
    programme_year_id: Mapped[str] = mapped_column(ForeignKey("programme_year.id"), primary_key=True)
    group_key: Mapped[str] = mapped_column(primary_key=True)
    branch_no: Mapped[str]
    eligible: Mapped[int]
    goal: Mapped[int]


class Stratum(Base):
    """One stratum of a group with its share of the year's goal (DRAW 3, 4)."""

    __tablename__ = "stratum"
    programme_year_id: Mapped[str] = mapped_column(ForeignKey("programme_year.id"), primary_key=True)
    group_key: Mapped[str] = mapped_column(primary_key=True)
    stratum: Mapped[str] = mapped_column(primary_key=True)
    customers: Mapped[int]
    minimum: Mapped[int]
    places: Mapped[int]


class Campaign(Base):
    """One period's issue of a programme year, committed before its seed exists (DRAW 14)."""

    __tablename__ = "campaign"
    id: Mapped[str] = mapped_column(primary_key=True)
    programme_year_id: Mapped[str] = mapped_column(ForeignKey("programme_year.id"))
    period: Mapped[str]
    as_of: Mapped[date]
    calendar_version: Mapped[str]
    state_sha256: Mapped[str]
    state_path: Mapped[str] = mapped_column(default="")
    """The committed text below the lake; '' in campaigns committed before it was kept."""
    developers_path: Mapped[str] = mapped_column(default="")
    """Coverage: the developer of each frame customer on the day of the commitment, below the lake."""
    rows_until: Mapped[int] = mapped_column(Key, default=0)
    """The last return row that the state counts."""
    committed_at: Mapped[datetime]
    __table_args__ = (UniqueConstraint("programme_year_id", "period"),)


class CampaignGroup(Base):
    """A group's state and what it owes this period, as committed (DRAW 6)."""

    __tablename__ = "campaign_group"
    campaign_id: Mapped[str] = mapped_column(ForeignKey("campaign.id"), primary_key=True)
    group_key: Mapped[str] = mapped_column(primary_key=True)
    branch_no: Mapped[str] = mapped_column(default="")
    eligible: Mapped[int] = mapped_column(default=0)
    goal: Mapped[int] = mapped_column(default=0)
    completed: Mapped[int]
    open: Mapped[int]
    failed: Mapped[int]
    capacity: Mapped[int] = mapped_column(default=0)
    owed: Mapped[int]
    share: Mapped[int]
    places: Mapped[int]
    shortfall: Mapped[int]
    reason: Mapped[str]
    """Why places fell short: '' | capacity | exhausted; of a marketer without eligible customers: excluded | no_customers."""


class CampaignStratum(Base):
    """A stratum's state as committed, and the places and reserve it was dealt (DRAW 5, 7, 9)."""

    __tablename__ = "campaign_stratum"
    campaign_id: Mapped[str] = mapped_column(ForeignKey("campaign.id"), primary_key=True)
    group_key: Mapped[str] = mapped_column(primary_key=True)
    stratum: Mapped[str] = mapped_column(primary_key=True)
    customers: Mapped[int]
    minimum: Mapped[int]
    state: Mapped[int]
    left: Mapped[int]
    places: Mapped[int]
    reserve: Mapped[int]


class Chain(Base):
    """The commitment to a programme year's chain of seeds, made before the first month (DRAW 13)."""

    __tablename__ = "chain"
    programme_year_id: Mapped[str] = mapped_column(ForeignKey("programme_year.id"), primary_key=True)
    """The year's first version."""
    links: Mapped[int]
    k0: Mapped[str]
    frame_sha256: Mapped[str]
    plan_sha256: Mapped[str]
    committed_by: Mapped[str]
    committed_at: Mapped[datetime]


class Reveal(Base):
    """The public number, or the link of the chain, as a person entered it for one attempt at a campaign (DRAW 14)."""

    __tablename__ = "reveal"
    campaign_id: Mapped[str] = mapped_column(ForeignKey("campaign.id"), primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    """public | link"""
    value: Mapped[str]
    public_on: Mapped[date | None]
    """The day whose number it is."""
    revealed_by: Mapped[str]
    revealed_at: Mapped[datetime]


class Abort(Base):
    """An attempt at a campaign that was given up before its draw, and why; the next attempt needs the next public number."""

    __tablename__ = "abort"
    campaign_id: Mapped[str] = mapped_column(ForeignKey("campaign.id"), primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    reason: Mapped[str] = mapped_column(Text)
    decided_by: Mapped[str]
    decided_at: Mapped[datetime]


class HandMade(Base):
    """An exception from the rules that an approver answers for; the draw applies it and never another."""

    __tablename__ = "hand_made"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    programme: Mapped[str]
    year: Mapped[int]
    kind: Mapped[str]
    """exclude | withdraw | capacity | reopen"""
    customer_id: Mapped[str] = mapped_column(default="")
    """exclude, withdraw: whom."""
    period: Mapped[str] = mapped_column(default="")
    """capacity, reopen: in which period."""
    group_key: Mapped[str] = mapped_column(default="")
    stratum: Mapped[str] = mapped_column(default="")
    calls: Mapped[int] = mapped_column(default=0)
    """capacity: calls that the group takes on in the period."""
    reason_code: Mapped[str] = mapped_column(default="")
    """exclude: one of the programme's reasons given by hand; withdraw: exempt, …"""
    note: Mapped[str] = mapped_column(Text)
    approver: Mapped[str]
    given_at: Mapped[datetime]
    __table_args__ = (
        UniqueConstraint(
            "programme", "year", "kind", "customer_id", "period", "group_key", "stratum", name="uq_hand_made_subject"
        ),
    )


class Handover(Base):
    """That one branch stands for another from a day on, because it was merged or closed."""

    __tablename__ = "handover"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    from_branch: Mapped[str]
    to_branch: Mapped[str]
    valid_from: Mapped[date]
    reason: Mapped[str] = mapped_column(Text)
    decided_by: Mapped[str]
    decided_at: Mapped[datetime]
    __table_args__ = (UniqueConstraint("from_branch", "valid_from"),)


class AssignmentHandover(Base):
    """That a call under way passed to another branch; the row with the highest hand-over counts."""

    __tablename__ = "assignment_handover"
    assignment_id: Mapped[int] = mapped_column(ForeignKey("assignment.id"), primary_key=True)
    handover_id: Mapped[int] = mapped_column(ForeignKey("handover.id"), primary_key=True)
    from_branch: Mapped[str]
    to_branch: Mapped[str]
    handed_over_on: Mapped[date]


class Seed(Base):
    """The seed of one attempt at a campaign, stored before anything is drawn with it."""

    __tablename__ = "seed"
    campaign_id: Mapped[str] = mapped_column(ForeignKey("campaign.id"), primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    seed: Mapped[str]
    origin: Mapped[str]
    """random | chain"""
    stored_at: Mapped[datetime]


class Draw(Base):
    """That a campaign was drawn, once, and the hash of what came out."""

    __tablename__ = "draw"
    campaign_id: Mapped[str] = mapped_column(ForeignKey("campaign.id"), primary_key=True)
    attempt: Mapped[int]
    sample_sha256: Mapped[str]
    drawn: Mapped[int]
    reserve: Mapped[int]
    code_version: Mapped[str]
    drawn_at: Mapped[datetime]


class DrawnCustomer(Base):
    """One customer of a campaign's sample or reserve."""

    __tablename__ = "drawn_customer"
    campaign_id: Mapped[str] = mapped_column(ForeignKey("campaign.id"), primary_key=True)
    customer_id: Mapped[str] = mapped_column(primary_key=True)
    branch_no: Mapped[str]
    group_key: Mapped[str]
    stratum: Mapped[str]
    ticket: Mapped[str]
    rank: Mapped[int]
    """1 … within its stratum, sample first, reserve after."""
    kind: Mapped[str]
    """sample | reserve"""
    form: Mapped[str]
    """risk_warning | conduct, frozen at the draw"""
    developer_id: Mapped[str]
    """Staff who developed the customer at the draw; '' when nobody did."""


class Assignment(Base):
    """One customer to be called by someone by a date."""

    __tablename__ = "assignment"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    campaign_id: Mapped[str] = mapped_column(ForeignKey("campaign.id"))
    """The campaign whose sheet carries it; what it serves stands in assignment_purpose."""
    customer_id: Mapped[str] = mapped_column(index=True)
    branch_no: Mapped[str]
    caller: Mapped[str]
    """branch | hq"""
    caller_id: Mapped[str] = mapped_column(default="")
    """Staff who is to call; '' leaves it to the branch."""
    caller_reason: Mapped[str] = mapped_column(default="")
    """Why headquarters calls: '' | recusal."""
    call_on: Mapped[date | None]
    """The workday it is planned for."""
    form: Mapped[str]
    developer_id: Mapped[str]
    due_on: Mapped[date]
    calendar_version: Mapped[str]
    assigned_on: Mapped[date]
    assigned_at: Mapped[datetime]
    __table_args__ = (UniqueConstraint("campaign_id", "customer_id"),)


class AssignmentPurpose(Base):
    """That a call serves a campaign; one contact may serve several."""

    __tablename__ = "assignment_purpose"
    campaign_id: Mapped[str] = mapped_column(ForeignKey("campaign.id"), primary_key=True)
    assignment_id: Mapped[int] = mapped_column(ForeignKey("assignment.id"), primary_key=True)
    replaces_id: Mapped[int | None] = mapped_column(ForeignKey("assignment.id"))
    """The failed call of this campaign whose place this one takes."""
    __table_args__ = (UniqueConstraint("campaign_id", "replaces_id"),)


# ---- the outbox, written through tasks/store.py by every flow that mails -----------------------------------


class Mail(Base):
    """The claim of one mail of any kind, committed before the mail server is spoken to."""

    __tablename__ = "mail"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    kind: Mapped[str]
    """assignment | self_check | reminder | receipt | correction | feedback | recall"""
    campaign_id: Mapped[str] = mapped_column(ForeignKey("campaign.id"))
    recipient: Mapped[str]
    """Branch number, or HQ."""
    role: Mapped[str]
    sequence: Mapped[int] = mapped_column(BigInteger)
    to_address: Mapped[str]
    subject: Mapped[str]
    message_id: Mapped[str] = mapped_column(unique=True)
    message_sha256: Mapped[str]
    path: Mapped[str]
    """The message as it was handed to the server, below HUIFANG_HOME."""
    claimed_at: Mapped[datetime]
    claimed_by: Mapped[str]
    __table_args__ = (UniqueConstraint("kind", "campaign_id", "recipient", "role", "sequence"),)


class MailItem(Base):
    """One assignment or case that a mail carries."""

    __tablename__ = "mail_item"
    mail_id: Mapped[int] = mapped_column(ForeignKey("mail.id"), primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    """assignment | case"""
    item_id: Mapped[int] = mapped_column(Key, primary_key=True, index=True)


class MailOutcome(Base):
    """What became of a claimed mail; the row with the highest id counts, none means in flight."""

    __tablename__ = "mail_outcome"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    mail_id: Mapped[int] = mapped_column(ForeignKey("mail.id"), index=True)
    outcome: Mapped[str]
    """sent | failed | unknown"""
    code: Mapped[int | None]
    """SMTP reply code where there was one: 4xx may be tried again, 5xx not before the address changes."""
    detail: Mapped[str] = mapped_column(Text)
    decided_by: Mapped[str]
    at: Mapped[datetime]


# ---- written by flows/collect.py ---------------------------------------------------------------------------


class Message(Base):
    """One message, by the hash of its bytes, spooled before anything is judged."""

    __tablename__ = "message"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    sha256: Mapped[str] = mapped_column(unique=True)
    path: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    first_seen_at: Mapped[datetime]


class Sighting(Base):
    """One message lying in one mailbox; a second sighting of the same bytes is a duplicate."""

    __tablename__ = "sighting"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    message_id: Mapped[int] = mapped_column(ForeignKey("message.id"), index=True)
    source: Mapped[str]
    folder: Mapped[str]
    uid_validity: Mapped[str]
    uid: Mapped[str]
    seen_at: Mapped[datetime]
    __table_args__ = (UniqueConstraint("source", "folder", "uid_validity", "uid"),)


class Verdict(Base):
    """What was decided about a message; the highest version counts."""

    __tablename__ = "verdict"
    message_id: Mapped[int] = mapped_column(ForeignKey("message.id"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    verdict: Mapped[str]
    """accepted | partly | rejected | quarantined | notice | held | duplicate"""
    reason: Mapped[str]
    branch_no: Mapped[str]
    campaign_id: Mapped[str | None] = mapped_column(ForeignKey("campaign.id"))
    rows_accepted: Mapped[int]
    rows_rejected: Mapped[int]
    is_late: Mapped[bool]
    decided_by: Mapped[str]
    decided_at: Mapped[datetime]


class ReturnRow(Base):
    """One accepted row of a returned callback sheet; per assignment the highest version counts."""

    __tablename__ = "return_row"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    message_id: Mapped[int] = mapped_column(ForeignKey("message.id"))
    assignment_id: Mapped[int] = mapped_column(ForeignKey("assignment.id"))
    version: Mapped[int]
    sheet: Mapped[str]
    row: Mapped[int]
    outcome: Mapped[str]
    called_on: Mapped[date]
    called_at: Mapped[str]
    caller_name: Mapped[str]
    channel: Mapped[str]
    attempts: Mapped[int]
    answers: Mapped[dict[str, Any]]
    """Answer code per legal content: clear | flagged | not_asked."""
    violation: Mapped[str]
    remark: Mapped[str] = mapped_column(Text)
    """Free text of the branch: personal."""
    completes: Mapped[bool]
    fails: Mapped[bool]
    """The attempt is final without completion: the place passes on."""
    is_late: Mapped[bool]
    content_sha256: Mapped[str]
    booked_on: Mapped[date]
    __table_args__ = (
        UniqueConstraint("assignment_id", "version"),
        UniqueConstraint("assignment_id", "content_sha256"),
    )


class RowProblem(Base):
    """One row that was sent back, by place and code, never by value."""

    __tablename__ = "row_problem"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    message_id: Mapped[int] = mapped_column(ForeignKey("message.id"), index=True)
    sheet: Mapped[str]
    row: Mapped[int]
    column_name: Mapped[str]
    code: Mapped[str]
    assignment_id: Mapped[int | None]


class Finding(Base):
    """A suspected violation stated in one accepted row."""

    __tablename__ = "finding"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    return_row_id: Mapped[int] = mapped_column(ForeignKey("return_row.id"), unique=True)
    assignment_id: Mapped[int] = mapped_column(ForeignKey("assignment.id"))
    campaign_id: Mapped[str] = mapped_column(ForeignKey("campaign.id"))
    customer_id: Mapped[str]
    branch_no: Mapped[str]
    violation: Mapped[str]
    found_on: Mapped[date]


class Opinion(Base):
    """An opinion or suggestion of a customer stated in one accepted row."""

    __tablename__ = "opinion"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    return_row_id: Mapped[int] = mapped_column(ForeignKey("return_row.id"), unique=True)
    assignment_id: Mapped[int] = mapped_column(ForeignKey("assignment.id"))
    campaign_id: Mapped[str] = mapped_column(ForeignKey("campaign.id"))
    branch_no: Mapped[str]
    raised_on: Mapped[date]


class Evidence(Base):
    """One file that came with a return, kept encrypted in the vault under the hash of its clear bytes."""

    __tablename__ = "evidence"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    message_id: Mapped[int] = mapped_column(ForeignKey("message.id"))
    part: Mapped[int]
    sha256: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    media_type: Mapped[str]
    item_kind: Mapped[str]
    """assignment | case | '' when no row code was found in its name"""
    item_id: Mapped[int | None]
    path: Mapped[str]
    __table_args__ = (UniqueConstraint("message_id", "part"),)


class SelfCheck(Base):
    """One accepted row of a returned self-check statement; per case the highest version counts."""

    __tablename__ = "self_check"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    message_id: Mapped[int] = mapped_column(ForeignKey("message.id"))
    case_id: Mapped[int] = mapped_column(ForeignKey("suspect_case.id"))
    version: Mapped[int]
    sheet: Mapped[str]
    row: Mapped[int]
    truth: Mapped[str]
    """true | false | unverifiable: the branch's judgement of the customer's statement"""
    holdings_checked: Mapped[str]
    interviewed: Mapped[str]
    handling: Mapped[str] = mapped_column(Text)
    checked_on: Mapped[date]
    checker_name: Mapped[str]
    is_late: Mapped[bool]
    content_sha256: Mapped[str]
    booked_on: Mapped[date]
    __table_args__ = (UniqueConstraint("case_id", "version"), UniqueConstraint("case_id", "content_sha256"))


# ---- written by flows/chase.py -----------------------------------------------------------------------------


class Case(Base):
    """All findings about one customer in one campaign: one case with its grounds."""

    __tablename__ = "suspect_case"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    campaign_id: Mapped[str] = mapped_column(ForeignKey("campaign.id"))
    customer_id: Mapped[str]
    branch_no: Mapped[str]
    form: Mapped[str]
    opened_on: Mapped[date]
    __table_args__ = (UniqueConstraint("campaign_id", "customer_id"),)


class CaseGround(Base):
    """One finding as a ground of a case."""

    __tablename__ = "case_ground"
    finding_id: Mapped[int] = mapped_column(ForeignKey("finding.id"), primary_key=True)
    case_id: Mapped[int] = mapped_column(ForeignKey("suspect_case.id"), index=True)


class CaseMerge(Base):
    """Finding and self-check side by side, with the result the rule table proposes; a person decides later."""

    __tablename__ = "case_merge"
    self_check_id: Mapped[int] = mapped_column(ForeignKey("self_check.id"), primary_key=True)
    case_id: Mapped[int] = mapped_column(ForeignKey("suspect_case.id"), index=True)
    result: Mapped[str]
    """confirmed | contradicted | unverifiable"""
    merged_on: Mapped[date]


class AssignmentEnd(Base):
    """An assignment that ended without a call: taken back by a decision, or run out with its programme year."""

    __tablename__ = "assignment_end"
    assignment_id: Mapped[int] = mapped_column(ForeignKey("assignment.id"), primary_key=True)
    kind: Mapped[str]
    """withdrawn | expired"""
    reason: Mapped[str] = mapped_column(Text)
    ended_on: Mapped[date]
    decided_by: Mapped[str]
    """flow:chase where it ran out, flow:draw where an approver withdrew it."""


# ---- written by flows/report.py ----------------------------------------------------------------------------


class Report(Base):
    """One HTML report, by the hash of the figures it shows."""

    __tablename__ = "report"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    campaign_id: Mapped[str] = mapped_column(ForeignKey("campaign.id"))
    as_of: Mapped[date]
    figures_sha256: Mapped[str]
    path: Mapped[str]
    written_at: Mapped[datetime]
    __table_args__ = (UniqueConstraint("campaign_id", "figures_sha256"),)


# ---- the audit chain, written through tasks/store.py -------------------------------------------------------


class Audit(Base):
    """One decision of a person or a flow, chained by hash to the one before."""

    __tablename__ = "audit"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    prev_sha256: Mapped[str] = mapped_column(unique=True)
    sha256: Mapped[str] = mapped_column(unique=True)
    actor: Mapped[str]
    action: Mapped[str]
    subject: Mapped[str]
    payload_sha256: Mapped[str]
    at: Mapped[datetime]
