"""Brings a database's schema to this version."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path
from typing import TYPE_CHECKING

from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.ext.asyncio import create_async_engine

from alembic import command

if TYPE_CHECKING:
    from sqlalchemy import Connection

ROOT = Path(__file__).resolve().parent.parent


def _config(database_url: str) -> Config:
    config = Config(ROOT / "alembic.ini", stdout=io.StringIO())
    config.set_main_option("sqlalchemy.url", database_url.replace("%", "%%"))
    return config


async def migrate(database_url: str) -> None:
    """Apply every migration that is missing."""
    await asyncio.to_thread(command.upgrade, _config(database_url), "head")


def newest() -> str:
    """The revision that this version of Eclusa needs."""
    head = ScriptDirectory.from_config(_config("")).get_current_head()
    if head is None:
        raise LookupError("no migration was found")
    return head


async def current(database_url: str) -> str | None:
    """The database's revision; None when it was never migrated."""

    def revision(connection: Connection) -> str | None:
        return MigrationContext.configure(connection).get_current_revision()

    engine = create_async_engine(database_url)
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(revision)
    finally:
        await engine.dispose()
