"""Batches of postings, with a progress of their own."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from alembic import op

revision = "2026_11_26_batches"
down_revision = "2026_11_25_workers"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "batch",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("ip", sa.Text(), nullable=True),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("over", sa.Integer(), nullable=False),
        sa.Column("completed", sa.Integer(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.CheckConstraint(
            '0 <= completed AND completed <= "over" AND "over" <= total',
            name=op.f("ck_batch_counts"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_batch")),
    )
    op.create_table(
        "batch_item",
        sa.Column("batch_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("posting_id", sa.Uuid(), nullable=True),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=True),
        sa.Column("problems", postgresql.JSONB(none_as_null=True), nullable=False),
        sa.CheckConstraint(
            "answer IN ('accepted', 'live', 'completed', 'invalid')",
            name=op.f("ck_batch_item_answer"),
        ),
        sa.ForeignKeyConstraint(
            ["batch_id"],
            ["batch.id"],
            name=op.f("fk_batch_item_batch_id_batch"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["posting_id"],
            ["posting.id"],
            name=op.f("fk_batch_item_posting_id_posting"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("batch_id", "position", name=op.f("pk_batch_item")),
    )
    op.create_index("ix_batch_item_posting_id", "batch_item", ["posting_id"])
    op.create_table(
        "batch_event",
        sa.Column("batch_id", sa.Uuid(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("over", sa.Integer(), nullable=False),
        sa.Column("completed", sa.Integer(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("posting_id", sa.Uuid(), nullable=True),
        sa.Column("document_key", sa.Text(), nullable=True),
        sa.Column("posting_status", sa.Text(), nullable=True),
        sa.Column("code", sa.Text(), nullable=True),
        sa.Column("message", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["batch_id"],
            ["batch.id"],
            name=op.f("fk_batch_event_batch_id_batch"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("batch_id", "seq", name=op.f("pk_batch_event")),
    )


def downgrade() -> None:
    for name in ("batch_event", "batch_item", "batch"):
        op.drop_table(name)
