"""Runs of syncs as jobs with events, runs by keys, and schedules."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from alembic import op

revision = "2026_11_26_sync_jobs"
down_revision = "2026_11_26_syncs"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
COUNTS = ("expected", "calls", "missing", "seq")
MODES = {"before": "'incremental', 'full'", "after": "'incremental', 'full', 'keys'"}
STATUSES = {
    "before": "'pending', 'running', 'completed', 'failed'",
    "after": "'pending', 'running', 'completed', 'failed', 'canceled'",
}


def upgrade() -> None:
    for name in COUNTS:
        op.add_column("sync_run", sa.Column(name, sa.Integer(), nullable=False, server_default="0"))
        op.alter_column("sync_run", name, server_default=None)
    op.add_column("sync_run", sa.Column("ip", sa.Text(), nullable=True))
    op.add_column("sync_run", sa.Column("keys", JSONB(), nullable=True))
    op.add_column("sync_run", sa.Column("cancel_requested_by", sa.Text(), nullable=True))
    _allow("after")
    op.create_table(
        "sync_event",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("expected", sa.Integer(), nullable=False),
        sa.Column("pages", sa.Integer(), nullable=False),
        sa.Column("read", sa.Integer(), nullable=False),
        sa.Column("written", sa.Integer(), nullable=False),
        sa.Column("removed", sa.Integer(), nullable=False),
        sa.Column("calls", sa.Integer(), nullable=False),
        sa.Column("code", sa.Text(), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["sync_run.id"],
            name=op.f("fk_sync_event_run_id_sync_run"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("run_id", "seq", name=op.f("pk_sync_event")),
    )
    op.create_table(
        "sync_schedule",
        sa.Column("connection", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("cron", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("next_at", TIME, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.CheckConstraint("mode IN ('incremental', 'full')", name=op.f("ck_sync_schedule_mode")),
        sa.PrimaryKeyConstraint("connection", "name", name=op.f("pk_sync_schedule")),
    )
    op.create_index(
        "ix_sync_schedule_next_at",
        "sync_schedule",
        ["next_at"],
        postgresql_where=sa.text("NOT paused"),
    )


def downgrade() -> None:
    op.drop_table("sync_schedule")
    op.drop_table("sync_event")
    op.execute("DELETE FROM sync_run WHERE mode = 'keys' OR status = 'canceled'")
    _allow("before")
    for name in (*COUNTS, "ip", "keys", "cancel_requested_by"):
        op.drop_column("sync_run", name)


def _allow(which: str) -> None:
    for name, values in (("mode", MODES), ("status", STATUSES)):
        constraint = op.f(f"ck_sync_run_{name}")
        op.drop_constraint(constraint, "sync_run", type_="check")
        op.create_check_constraint(constraint, "sync_run", f"{name} IN ({values[which]})")
