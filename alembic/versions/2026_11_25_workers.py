"""Workers that show that they live; postings that are canceled or taken out of Odoo again."""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "2026_11_25_workers"
down_revision = "2026_11_24_first"
branch_labels = None
depends_on = None

STATES = "'started', 'unknown', 'done', 'found', 'skipped', 'failed'"


def upgrade() -> None:
    op.create_table(
        "worker",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_worker")),
    )
    op.add_column("posting", sa.Column("worker", sa.Text(), nullable=True))
    op.add_column("posting", sa.Column("intent", sa.Text(), nullable=False, server_default="post"))
    op.alter_column("posting", "intent", server_default=None)
    op.add_column("posting", sa.Column("cancel_requested_by", sa.Text(), nullable=True))
    op.create_check_constraint(
        op.f("ck_posting_intent"), "posting", "intent IN ('post', 'compensate')"
    )
    op.create_index(
        "ix_posting_unfinished",
        "posting",
        ["status"],
        postgresql_where=sa.text("status IN ('pending', 'running', 'waiting')"),
    )
    op.add_column(
        "posting_step", sa.Column("undo", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    op.alter_column("posting_step", "undo", server_default=None)
    _check_states(f"{STATES}, 'undone'")


def downgrade() -> None:
    op.execute("UPDATE posting_step SET state = 'failed' WHERE state = 'undone'")
    _check_states(STATES)
    op.drop_column("posting_step", "undo")
    op.drop_index("ix_posting_unfinished", "posting")
    op.drop_constraint(op.f("ck_posting_intent"), "posting")
    for name in ("cancel_requested_by", "intent", "worker"):
        op.drop_column("posting", name)
    op.drop_table("worker")


def _check_states(states: str) -> None:
    name = op.f("ck_posting_step_state")
    op.drop_constraint(name, "posting_step")
    op.create_check_constraint(name, "posting_step", f"state IN ({states})")
