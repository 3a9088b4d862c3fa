"""API keys may have a rate of their own."""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "2026_11_26_key_rates"
down_revision = "2026_11_26_idempotency"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("api_key", sa.Column("requests_per_second", sa.Float(), nullable=True))


def downgrade() -> None:
    op.drop_column("api_key", "requests_per_second")
