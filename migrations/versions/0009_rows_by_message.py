"""rows by the message that brought them, files by the row they are for: what a receipt asks of the store

Revision ID: 0009
Revises: 0008
"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_return_row_message_id", "return_row", ["message_id"])
    op.create_index("ix_self_check_message_id", "self_check", ["message_id"])
    op.create_index("ix_evidence_item_id", "evidence", ["item_id"])
