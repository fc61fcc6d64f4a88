"""what a delivery held: counts per file, files set aside, the pull that a corrected delivery supersedes

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("pull") as table:
        table.add_column(sa.Column("supersedes_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True))
        # A day's old files may come again after a correction, and are a pull of their own then.
        table.drop_constraint(op.f("uq_pull_as_of_manifest_sha256"), type_="unique")
        table.create_unique_constraint(op.f("uq_pull_as_of_supersedes_id"), ["as_of", "supersedes_id"])
        table.create_foreign_key(op.f("fk_pull_supersedes_id"), "pull", ["supersedes_id"], ["id"])
    with op.batch_alter_table("snapshot") as table:
        table.add_column(sa.Column("reported", sa.Integer(), nullable=False, server_default="0"))
    with op.batch_alter_table("source_file") as table:
        for name in ("accepted", "ignored", "rejected"):
            table.add_column(sa.Column(name, sa.Integer(), nullable=False, server_default="0"))
    # Of files taken in before, only a snapshot of one file tells what became of its rows.
    op.execute(
        "UPDATE source_file SET accepted = (SELECT s.accepted FROM snapshot s WHERE s.id = snapshot_id), "
        "ignored = (SELECT s.ignored FROM snapshot s WHERE s.id = snapshot_id), "
        "rejected = (SELECT s.rejected FROM snapshot s WHERE s.id = snapshot_id) "
        "WHERE (SELECT count(*) FROM source_file f WHERE f.snapshot_id = source_file.snapshot_id) = 1"
    )
    with op.batch_alter_table("snapshot") as table:
        table.alter_column("reported", server_default=None)
    with op.batch_alter_table("source_file") as table:
        for name in ("accepted", "ignored", "rejected"):
            table.alter_column(name, server_default=None)
    op.create_table(
        "set_aside",
        sa.Column("pull_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("table_name", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["pull_id"], ["pull.id"], name=op.f("fk_set_aside_pull_id")),
        sa.PrimaryKeyConstraint("pull_id", "name", name=op.f("pk_set_aside")),
    )
