"""Keys with scopes, connections and an end."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from alembic import op

revision = "2026_11_26_keys"
down_revision = "2026_11_26_batch_files"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
OF_OLD_KEYS = {
    "prefix": "eclusa_",  # all that is known of how they begin
    "scopes": '["read", "post", "sync", "call"]',
    "created_by": "unknown",
}

LIMITED_KEYS_GO = """
    UPDATE api_key SET revoked_at = clock_timestamp()
    WHERE revoked_at IS NULL AND (
        connections IS NOT NULL OR expires_at IS NOT NULL
        OR NOT scopes @> '["read", "post", "sync", "call"]'
    )
"""  # to the version before, every key is one without limits


def upgrade() -> None:
    _add_filled("prefix", sa.Text())
    _add_filled("scopes", JSONB())
    op.add_column("api_key", sa.Column("connections", JSONB(), nullable=True))
    _add_filled("created_by", sa.Text())
    op.add_column("api_key", sa.Column("expires_at", TIME, nullable=True))
    op.add_column("api_key", sa.Column("last_used_at", TIME, nullable=True))
    op.add_column("api_key", sa.Column("revoked_by", sa.Text(), nullable=True))


def downgrade() -> None:
    op.execute(LIMITED_KEYS_GO)
    for name in ("revoked_by", "last_used_at", "expires_at", "connections", *OF_OLD_KEYS):
        op.drop_column("api_key", name)


def _add_filled(name: str, kind: sa.types.TypeEngine[str]) -> None:
    """Add a column that the keys of before need, too."""
    value = OF_OLD_KEYS[name]
    op.add_column("api_key", sa.Column(name, kind, nullable=False, server_default=value))
    op.alter_column("api_key", name, server_default=None)
