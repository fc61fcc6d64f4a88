"""the draw's proof: plan versions, chain, reveals, aborts, exceptions by hand, hand-overs, callers and planned days

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _add("programme_year", version=(sa.Integer(), "1"), from_period=(sa.String(), ""), ledger_sha256=(sa.String(), ""))
    with op.batch_alter_table("programme_year") as table:
        table.drop_constraint(op.f("uq_programme_year_programme_year"), type_="unique")
        table.create_unique_constraint(
            op.f("uq_programme_year_programme_year_version"), ["programme", "year", "version"]
        )
    _add("campaign", state_path=(sa.String(), ""), developers_path=(sa.String(), ""), rows_until=(KEY, "0"))
    _add(
        "campaign_group",
        branch_no=(sa.String(), ""), eligible=(sa.Integer(), "0"), goal=(sa.Integer(), "0"), capacity=(sa.Integer(), "0"),
    )  # fmt: skip
    for column in ("branch_no", "eligible", "goal"):
        op.execute(
            f"UPDATE campaign_group SET {column} = (SELECT q.{column} FROM quota q JOIN campaign c "  # noqa: S608
            "ON c.programme_year_id = q.programme_year_id "
            "WHERE c.id = campaign_group.campaign_id AND q.group_key = campaign_group.group_key)"
        )
    _add("assignment", caller_id=(sa.String(), ""), caller_reason=(sa.String(), ""))
    with op.batch_alter_table("assignment") as table:
        table.add_column(sa.Column("call_on", sa.Date(), nullable=True))
    op.create_table(
        "chain",
        sa.Column("programme_year_id", sa.String(), nullable=False),
        sa.Column("links", sa.Integer(), nullable=False),
        sa.Column("k0", sa.String(), nullable=False),
        sa.Column("frame_sha256", sa.String(), nullable=False),
        sa.Column("plan_sha256", sa.String(), nullable=False),
        sa.Column("committed_by", sa.String(), nullable=False),
        sa.Column("committed_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["programme_year_id"], ["programme_year.id"], name=op.f("fk_chain_programme_year_id")),
        sa.PrimaryKeyConstraint("programme_year_id", name=op.f("pk_chain")),
    )
    op.create_table(
        "reveal",
        sa.Column("campaign_id", sa.String(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("value", sa.String(), nullable=False),
        sa.Column("public_on", sa.Date(), nullable=True),
        sa.Column("revealed_by", sa.String(), nullable=False),
        sa.Column("revealed_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaign.id"], name=op.f("fk_reveal_campaign_id")),
        sa.PrimaryKeyConstraint("campaign_id", "attempt", "kind", name=op.f("pk_reveal")),
    )
    op.create_table(
        "abort",
        sa.Column("campaign_id", sa.String(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("decided_by", sa.String(), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaign.id"], name=op.f("fk_abort_campaign_id")),
        sa.PrimaryKeyConstraint("campaign_id", "attempt", name=op.f("pk_abort")),
    )
    op.create_table(
        "hand_made",
        sa.Column("id", KEY, nullable=False),
        sa.Column("programme", sa.String(), nullable=False),
        sa.Column("year", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("customer_id", sa.String(), nullable=False),
        sa.Column("period", sa.String(), nullable=False),
        sa.Column("group_key", sa.String(), nullable=False),
        sa.Column("stratum", sa.String(), nullable=False),
        sa.Column("calls", sa.Integer(), nullable=False),
        sa.Column("reason_code", sa.String(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("approver", sa.String(), nullable=False),
        sa.Column("given_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hand_made")),
        sa.UniqueConstraint(
            "programme", "year", "kind", "customer_id", "period", "group_key", "stratum",
            name=op.f("uq_hand_made_subject"),
        ),
    )  # fmt: skip
    op.create_table(
        "handover",
        sa.Column("id", KEY, nullable=False),
        sa.Column("from_branch", sa.String(), nullable=False),
        sa.Column("to_branch", sa.String(), nullable=False),
        sa.Column("valid_from", sa.Date(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("decided_by", sa.String(), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_handover")),
        sa.UniqueConstraint("from_branch", "valid_from", name=op.f("uq_handover_from_branch_valid_from")),
    )
    op.create_table(
        "assignment_handover",
        sa.Column("assignment_id", KEY, nullable=False),
        sa.Column("handover_id", KEY, nullable=False),
        sa.Column("from_branch", sa.String(), nullable=False),
        sa.Column("to_branch", sa.String(), nullable=False),
        sa.Column("handed_over_on", sa.Date(), nullable=False),
        sa.ForeignKeyConstraint(["assignment_id"], ["assignment.id"], name=op.f("fk_assignment_handover_assignment_id")),
        sa.ForeignKeyConstraint(["handover_id"], ["handover.id"], name=op.f("fk_assignment_handover_handover_id")),
        sa.PrimaryKeyConstraint("assignment_id", "handover_id", name=op.f("pk_assignment_handover")),
    )


def _add(table_name: str, **columns: tuple[sa.types.TypeEngine, str]) -> None:
    """New columns that are never null; rows that are there get the given value."""
    with op.batch_alter_table(table_name) as table:
        for name, (kind, value) in columns.items():
            table.add_column(sa.Column(name, kind, nullable=False, server_default=value))
    with op.batch_alter_table(table_name) as table:
        for name in columns:
            table.alter_column(name, server_default=None)
