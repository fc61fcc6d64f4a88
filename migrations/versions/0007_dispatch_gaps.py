"""why a branch did not get its list

Revision ID: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "dispatch_gap",
        sa.Column("id", KEY, nullable=False),
        sa.Column("campaign_id", sa.String(), nullable=False),
        sa.Column("branch_no", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("code", sa.String(), nullable=False),
        sa.Column("file", sa.String(), nullable=False),
        sa.Column("row_number", sa.BigInteger(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("found_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaign.id"], name=op.f("fk_dispatch_gap_campaign_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dispatch_gap")),
    )
    op.create_index(op.f("ix_dispatch_gap_campaign_id"), "dispatch_gap", ["campaign_id"])
