"""The mirrors of the syncs that are ready: rows, files, history, and what is told of them."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from alembic import op

revision = "2026_11_26_mirrors"
down_revision = "2026_11_26_sync_jobs"
branch_labels = None
depends_on = None

SCHEMA = "mirror"
TEXT = sa.Text()
WHOLE = sa.BigInteger()
NUMBER = sa.Numeric()
FLAG = sa.Boolean()
DAY = sa.Date()
TIME = sa.DateTime(timezone=True)
WHOLES = sa.ARRAY(sa.BigInteger())
TEXTS = sa.ARRAY(sa.Text())

CTE = (
    ("access_key", TEXT),
    ("active", FLAG),
    ("status", TEXT),
    ("situation", TEXT),
    ("number", TEXT),
    ("series", TEXT),
    ("issued_at", TIME),
    ("entered_on", DAY),
    ("order_type", TEXT),
    ("total", NUMBER),
    ("freight", NUMBER),
    ("icms", NUMBER),
    ("issuer_id", WHOLE),
    ("issuer_cnpj", TEXT),
    ("issuer_name", TEXT),
    ("issuer_ie", TEXT),
    ("sender_cnpj", TEXT),
    ("dispatcher_cnpj", TEXT),
    ("recipient_cnpj", TEXT),
    ("taker_code", TEXT),
    ("taker_cnpj", TEXT),
    ("taker_is_ours", FLAG),
    ("origin", TEXT),
    ("destination", TEXT),
    ("remarks", TEXT),
    ("invoice_keys", TEXTS),
    ("invoice_numbers", TEXTS),
    ("order_id", WHOLE),
    ("fiscal_order_id", WHOLE),
    ("bill_ids", WHOLES),
    ("xml_name", TEXT),
    ("pdf_name", TEXT),
)
PURCHASE_ORDERS = (
    ("order_id", WHOLE),
    ("order_name", TEXT),
    ("order_type", TEXT),
    ("order_created_at", TIME),
    ("ordered_at", TIME),
    ("order_total", NUMBER),
    ("invoice_status", TEXT),
    ("currency", TEXT),
    ("company_id", WHOLE),
    ("company_name", TEXT),
    ("vendor_id", WHOLE),
    ("vendor_name", TEXT),
    ("vendor_cnpj", TEXT),
    ("document_id", WHOLE),
    ("document_key", TEXT),
    ("document_number", TEXT),
    ("document_series", TEXT),
    ("document_issued_at", TIME),
    ("document_total", NUMBER),
    ("product_id", WHOLE),
    ("product_code", TEXT),
    ("product_name", TEXT),
    ("description", TEXT),
    ("state", TEXT),
    ("planned_at", TIME),
    ("quantity", NUMBER),
    ("received", NUMBER),
    ("open_quantity", NUMBER),
    ("unit", TEXT),
    ("price_unit", NUMBER),
    ("subtotal", NUMBER),
    ("total", NUMBER),
    ("icms", NUMBER),
    ("pis", NUMBER),
    ("cofins", NUMBER),
)
SALES_BACKLOG = (
    ("order_id", WHOLE),
    ("order_name", TEXT),
    ("order_type", TEXT),
    ("customer_order", TEXT),
    ("state", TEXT),
    ("order_created_at", TIME),
    ("ordered_at", TIME),
    ("delivery_at", TIME),
    ("seller", TEXT),
    ("team", TEXT),
    ("payment_term", TEXT),
    ("payment_provider", TEXT),
    ("incoterm", TEXT),
    ("carrier", TEXT),
    ("delivery_note", TEXT),
    ("tags", TEXTS),
    ("customer_id", WHOLE),
    ("customer_name", TEXT),
    ("customer_legal", TEXT),
    ("customer_cnpj", TEXT),
    ("by_appointment", TEXT),
    ("contract_discount", FLAG),
    ("discount_rate", NUMBER),
    ("delivery_name", TEXT),
    ("delivery_cnpj", TEXT),
    ("delivery_street", TEXT),
    ("delivery_number", TEXT),
    ("delivery_district", TEXT),
    ("delivery_zip", TEXT),
    ("delivery_phone", TEXT),
    ("delivery_city", TEXT),
    ("delivery_state", TEXT),
    ("product_id", WHOLE),
    ("product_code", TEXT),
    ("product_name", TEXT),
    ("categories", TEXTS),
    ("unit", TEXT),
    ("quantity", NUMBER),
    ("canceled", NUMBER),
    ("balance", NUMBER),
    ("price_unit", NUMBER),
    ("icms", NUMBER),
    ("icms_st", NUMBER),
    ("pis", NUMBER),
    ("cofins", NUMBER),
)

CTE_LINKED = """
CREATE VIEW mirror.cte_linked AS
SELECT cte.*,
       xml.facts ->> 'type' AS type,
       xml.facts ->> 'completes' AS completes_key,
       original.id AS completes_id
FROM mirror.cte
LEFT JOIN mirror.cte_file xml
       ON xml.connection = cte.connection AND xml.id = cte.id AND xml.field = 'l10n_br_xml_dfe'
LEFT JOIN LATERAL (
    SELECT id FROM mirror.cte found
    WHERE found.connection = cte.connection AND found.access_key = xml.facts ->> 'completes'
    ORDER BY found.active DESC, found.id
    LIMIT 1
) original ON true
"""
SALES_BACKLOG_PRODUCT = """
CREATE VIEW mirror.sales_backlog_product AS
SELECT connection,
       min(id) AS id,
       max(write_date) AS write_date,
       order_id,
       order_name,
       product_id,
       product_code,
       count(*) AS lines,
       sum(quantity) AS quantity,
       sum(balance) AS balance,
       sum(canceled) AS canceled,
       CASE WHEN sum(quantity) <> 0
            THEN round(sum(quantity * price_unit) / sum(quantity), 6)
            ELSE max(price_unit) END AS price_unit
FROM mirror.sales_backlog
GROUP BY connection, order_id, order_name, product_id, product_code
"""
SALES_BACKLOG_MOVEMENT = """
CREATE VIEW mirror.sales_backlog_movement AS
SELECT moved.*,
       CASE WHEN operation = 'created' THEN 'new'
            WHEN operation = 'removed' THEN 'removed'
            WHEN balance_after - balance_before > 0.01 THEN 'increase'
            WHEN balance_before - balance_after > 0.01 THEN 'reduction'
            ELSE 'other' END AS movement
FROM (
    SELECT seq, connection, id, operation, at, run_id,
           coalesce(after ->> 'order_name', before ->> 'order_name') AS order_name,
           coalesce(after ->> 'product_code', before ->> 'product_code') AS product_code,
           (before ->> 'balance')::numeric AS balance_before,
           (after ->> 'balance')::numeric AS balance_after
    FROM mirror.sales_backlog_change
) moved
"""


def upgrade() -> None:
    op.execute("CREATE SCHEMA IF NOT EXISTS mirror")
    _rows("cte", CTE)
    op.create_index("ix_cte_access_key", "cte", ["connection", "access_key"], schema=SCHEMA)
    _files("cte")
    _rows("purchase_orders", PURCHASE_ORDERS)
    _changes("purchase_orders")
    _rows("sales_backlog", SALES_BACKLOG)
    _changes("sales_backlog")
    for view in (CTE_LINKED, SALES_BACKLOG_PRODUCT, SALES_BACKLOG_MOVEMENT):
        op.execute(view)


def downgrade() -> None:
    for view in ("sales_backlog_movement", "sales_backlog_product", "cte_linked"):
        op.execute(f"DROP VIEW mirror.{view}")
    for name in (
        "sales_backlog_change",
        "sales_backlog",
        "purchase_orders_change",
        "purchase_orders",
        "cte_file",
        "cte",
    ):
        op.drop_table(name, schema=SCHEMA)


def _rows(name: str, columns: tuple[tuple[str, sa.types.TypeEngine[Any]], ...]) -> None:
    op.create_table(
        name,
        sa.Column("connection", TEXT, nullable=False),
        sa.Column("id", WHOLE, autoincrement=False, nullable=False),
        sa.Column("write_date", TIME, nullable=True),
        *(sa.Column(column, kind, nullable=True) for column, kind in columns),
        sa.PrimaryKeyConstraint("connection", "id"),
        schema=SCHEMA,
    )


def _files(name: str) -> None:
    op.create_table(
        f"{name}_file",
        sa.Column("connection", TEXT, nullable=False),
        sa.Column("id", WHOLE, autoincrement=False, nullable=False),
        sa.Column("field", TEXT, nullable=False),
        sa.Column("checksum", TEXT, nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("media_type", TEXT, nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("facts", JSONB(), nullable=False),
        sa.PrimaryKeyConstraint("connection", "id", "field"),
        schema=SCHEMA,
    )


def _changes(name: str) -> None:
    op.create_table(
        f"{name}_change",
        sa.Column("seq", WHOLE, sa.Identity(), nullable=False),
        sa.Column("connection", TEXT, nullable=False),
        sa.Column("id", WHOLE, nullable=False),
        sa.Column("operation", TEXT, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("before", JSONB(), nullable=True),
        sa.Column("after", JSONB(), nullable=True),
        sa.PrimaryKeyConstraint("seq"),
        schema=SCHEMA,
    )
    op.create_index(f"ix_{name}_change_id", f"{name}_change", ["connection", "id"], schema=SCHEMA)
