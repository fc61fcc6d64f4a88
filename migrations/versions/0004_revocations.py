"""exceptions and hand-overs may be taken back: revocations, and a turn for what is given anew after one

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    for table_name, known, wanted, columns in (
        (
            "hand_made", "uq_hand_made_subject", "uq_hand_made_subject",
            ["programme", "year", "kind", "customer_id", "period", "group_key", "stratum", "turn"],
        ),
        (
            "handover", "uq_handover_from_branch_valid_from", "uq_handover_from_branch_valid_from_turn",
            ["from_branch", "valid_from", "turn"],
        ),
    ):  # fmt: skip
        with op.batch_alter_table(table_name) as table:
            table.add_column(sa.Column("turn", sa.Integer(), nullable=False, server_default="1"))
        with op.batch_alter_table(table_name) as table:
            table.alter_column("turn", server_default=None)
            table.drop_constraint(op.f(known), type_="unique")
            table.create_unique_constraint(op.f(wanted), columns)
    op.create_table(
        "revocation",
        sa.Column("id", KEY, nullable=False),
        sa.Column("hand_made_id", KEY, nullable=True),
        sa.Column("handover_id", KEY, nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("decided_by", sa.String(), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["hand_made_id"], ["hand_made.id"], name=op.f("fk_revocation_hand_made_id")),
        sa.ForeignKeyConstraint(["handover_id"], ["handover.id"], name=op.f("fk_revocation_handover_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_revocation")),
        sa.UniqueConstraint("hand_made_id", name=op.f("uq_revocation_hand_made_id")),
        sa.UniqueConstraint("handover_id", name=op.f("uq_revocation_handover_id")),
    )
