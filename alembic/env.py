"""Runs the migrations over asyncpg, with timeouts that protect a running service."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from alembic import context
from service.tables import Base

if TYPE_CHECKING:
    from sqlalchemy import Connection

LOCK_TIMEOUT = "4s"  # a migration that cannot get its lock fails, instead of queueing everybody
STATEMENT_TIMEOUT = "300s"


def _url() -> str:
    url = context.config.get_main_option("sqlalchemy.url") or os.environ.get("ECLUSA_DATABASE_URL")
    if not url:
        raise SystemExit("ECLUSA_DATABASE_URL is not set")
    return url


def _is_ours(name: str | None, kind: str) -> bool:
    """The queue's own tables are kept by PgQueuer."""
    return not (kind == "table" and name is not None and name.startswith("pgqueuer"))


def _migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        include_name=lambda name, kind, _: _is_ours(name, kind),
        compare_type=True,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


async def _run() -> None:
    engine = create_async_engine(
        _url(),
        poolclass=NullPool,
        connect_args={
            "server_settings": {
                "lock_timeout": LOCK_TIMEOUT,
                "statement_timeout": STATEMENT_TIMEOUT,
                "application_name": "eclusa migrate",
            }
        },
    )
    async with engine.connect() as connection:
        await connection.run_sync(_migrate)
        await connection.commit()
    await engine.dispose()


asyncio.run(_run())
