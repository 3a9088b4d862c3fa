"""PostgreSQL: short transactions, and the guard that keeps network calls out of them."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from asyncpg import exceptions
from sqlalchemy import exc
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from service import documents
from service.errors import DatabaseUnavailable, TransactionOpen

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

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


PASSING_STATES = ("08", "40", "53", "57", "25P03")
"""Beginnings of the SQLSTATEs that say nothing about the statement: the connection broke, a
deadlock, too few resources, the server or an administrator ended it, or a timeout did."""

OF_DRIVER = (exceptions.PostgresError, exceptions.InterfaceError)


@contextmanager
def outages() -> Iterator[None]:
    """Turn what a missing or stopping PostgreSQL causes into `DatabaseUnavailable`.

    Nothing is known then about a transaction that was being committed.
    """
    try:
        yield
    except (exc.DBAPIError, exc.TimeoutError, *OF_DRIVER) as error:
        if _passes(error):
            raise DatabaseUnavailable(f"PostgreSQL: {type(error).__name__}") from error
        raise
    except OSError as error:
        raise DatabaseUnavailable(f"PostgreSQL cannot be reached: {error}") from error


def _passes(error: Exception) -> bool:
    if isinstance(error, exc.TimeoutError | exc.InterfaceError | exceptions.InterfaceError):
        return True
    if isinstance(error, exc.DBAPIError) and error.connection_invalidated:
        return True
    state = str(getattr(getattr(error, "orig", error), "sqlstate", None) or "")
    return state.startswith(PASSING_STATES)


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
        """One short transaction: committed at the end, rolled back on any error.

        Raises `DatabaseUnavailable` when PostgreSQL does not answer or goes away.
        """
        with outages():
            async with self._transaction() as connection:
                yield connection

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncConnection]:
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
