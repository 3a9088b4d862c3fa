"""PostgreSQL: short transactions, and the guard that keeps network calls out of them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from service import documents
from service.errors import TransactionOpen

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_transaction_open: ContextVar[bool] = ContextVar("transaction_open", default=False)

STATEMENT_TIMEOUT_SECONDS = 15
IDLE_IN_TRANSACTION_SECONDS = 30
POOL_SIZE = 10
POOL_OVERFLOW = 20


def forbid_open_transaction() -> None:
    """Raise `TransactionOpen` when this task, or the one that started it, holds a transaction.

    Every client of another server calls it before it awaits the network: a transaction that
    waits for a stranger holds a connection and its locks for minutes.
    """
    if _transaction_open.get():
        raise TransactionOpen("a network call inside a database transaction")


class Database:
    """The pool of connections of one process."""

    def __init__(self, url: str) -> None:
        self.engine: AsyncEngine = create_async_engine(
            url,
            pool_size=POOL_SIZE,
            max_overflow=POOL_OVERFLOW,
            pool_pre_ping=True,
            json_serializer=documents.to_json,
            json_deserializer=documents.from_json,
            connect_args={
                "server_settings": {
                    "application_name": "eclusa",
                    "timezone": "UTC",
                    "statement_timeout": f"{STATEMENT_TIMEOUT_SECONDS}s",
                    "idle_in_transaction_session_timeout": f"{IDLE_IN_TRANSACTION_SECONDS}s",
                }
            },
        )

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """One short transaction: committed at the end, rolled back on any error."""
        async with self.engine.connect() as connection:
            token = _transaction_open.set(True)
            try:
                async with connection.begin():
                    yield connection
            finally:
                _transaction_open.reset(token)

    async def close(self) -> None:
        """Close all connections."""
        await self.engine.dispose()


async def driver_connection(connection: AsyncConnection) -> Any:
    """The asyncpg connection below, for libraries that speak asyncpg; same transaction.

    SQLAlchemy begins a transaction with its first statement: execute one before.
    """
    raw = await connection.get_raw_connection()
    return raw.driver_connection
