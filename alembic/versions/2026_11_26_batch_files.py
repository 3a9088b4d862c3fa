"""Batches that came in a file know its digest."""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "2026_11_26_batch_files"
down_revision = "2026_11_26_mirrors"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("batch", sa.Column("file_sha256", sa.Text(), nullable=True))
    op.create_index(
        "ix_batch_file_sha256",
        "batch",
        ["file_sha256"],
        postgresql_where=sa.text("file_sha256 IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_batch_file_sha256", table_name="batch")
    op.drop_column("batch", "file_sha256")
