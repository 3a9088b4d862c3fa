"""A document has one posting, by whichever of the kinds that post such documents."""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "2026_11_26_document_types"
down_revision = "2026_11_26_keys"
branch_labels = None
depends_on = None

RULE = "uq_posting_document"
PRESENT = sa.text("status <> 'canceled'")


def upgrade() -> None:
    op.add_column("posting", sa.Column("document_type", sa.Text(), nullable=True))
    op.execute(
        "UPDATE posting SET document_type = CASE kind WHEN 'freight_cte' THEN 'cte' ELSE kind END"
    )
    op.alter_column("posting", "document_type", nullable=False)
    op.drop_index(RULE, "posting")
    columns = ["connection", "document_type", "document_key"]
    op.create_index(RULE, "posting", columns, unique=True, postgresql_where=PRESENT)


def downgrade() -> None:
    op.drop_index(RULE, "posting")
    columns = ["connection", "kind", "document_key"]
    op.create_index(RULE, "posting", columns, unique=True, postgresql_where=PRESENT)
    op.drop_column("posting", "document_type")
