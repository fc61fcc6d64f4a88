"""evidence: what a file is, how long it plays, why it does not count; what a row still awaits

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("evidence", sa.Column("kind", sa.String(), nullable=False, server_default=""))
    op.add_column("evidence", sa.Column("seconds", sa.Float(), nullable=True))
    op.add_column("evidence", sa.Column("fault", sa.String(), nullable=False, server_default=""))
    # What a scan shows was told by its name, which is not kept: one of before counts as any scan.
    op.execute(
        "UPDATE evidence SET kind = CASE"
        " WHEN media_type LIKE 'audio/%' OR media_type = 'video/mp4' THEN 'recording'"
        " WHEN media_type LIKE 'image/%' OR media_type = 'application/pdf' THEN 'scan'"
        " ELSE '' END"
    )
    op.add_column("return_row", sa.Column("awaits", sa.String(), nullable=False, server_default=""))
    op.add_column("self_check", sa.Column("awaits", sa.String(), nullable=False, server_default=""))
