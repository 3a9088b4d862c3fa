"""Fresh, migrated databases: one that was used is emptied, which is much quicker than a copy."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import uuid4

from sqlalchemy import NullPool
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from service import embedded, migrations

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy.ext.asyncio import AsyncConnection

TEMPLATE = "eclusa_template"
SHAPE = """
SELECT string_agg(line, E'\\n' ORDER BY line) FROM (
    SELECT format('%s.%s.%s %s %s %s', table_schema, table_name, column_name, data_type,
                  is_nullable, column_default) AS line
    FROM information_schema.columns WHERE table_schema IN ('public', 'mirror')
    UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname IN ('public', 'mirror')
    UNION ALL
    SELECT pg_get_triggerdef(oid) || tgenabled::text FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL SELECT pg_get_constraintdef(oid) FROM pg_constraint
    UNION ALL SELECT nspname FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_%'
    UNION ALL SELECT prosrc FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    UNION ALL SELECT version_num FROM alembic_version
) AS lines
"""
OTHERS = """
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
EMPTY = """
DO $$
DECLARE command text;
BEGIN
    -- Neither order nor triggers matter when all rows go.
    SET LOCAL session_replication_role = replica;
    FOR command IN
        SELECT format('DELETE FROM %I.%I', schemaname, tablename) FROM pg_tables
        WHERE schemaname IN ('public', 'mirror') AND tablename <> 'alembic_version'
        UNION ALL
        SELECT format('ALTER SEQUENCE %I.%I RESTART', schemaname, sequencename) FROM pg_sequences
        WHERE last_value IS NOT NULL
    LOOP EXECUTE command;
    END LOOP;
END $$
"""


@dataclass
class Databases:
    """The databases of a test process, on the server of `url`."""

    url: str
    _shape: str = ""
    _free: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def fresh(self) -> AsyncIterator[str]:
        """The address of a database as the migrations make it; nobody else has it meanwhile."""
        if not self._shape:
            await self._make_template()
        if self._free:
            address = self._free.pop()
        else:
            address = await embedded.create_database(self.url, f"t_{uuid4().hex}", TEMPLATE)
        yield address
        if await self._empty(address):
            self._free.append(address)
        else:
            await embedded.drop_database(self.url, address.rsplit("/", 1)[1])

    async def _make_template(self) -> None:
        address = await embedded.create_database(self.url, TEMPLATE)
        await migrations.migrate(address)
        async with _connected(address) as connection:
            self._shape = await _shape(connection)

    async def _empty(self, address: str) -> bool:
        """Take all rows away; false when not only rows were changed, or it is not there."""
        try:
            async with _connected(address) as connection:
                await connection.exec_driver_sql(OTHERS)
                if await _shape(connection) != self._shape:
                    return False
                await connection.exec_driver_sql(EMPTY)
        except (OSError, DBAPIError):
            return False
        return True


@asynccontextmanager
async def _connected(address: str) -> AsyncIterator[AsyncConnection]:
    """One transaction on a connection that nothing keeps."""
    engine = create_async_engine(address, poolclass=NullPool)
    async with engine.begin() as connection:
        yield connection


async def _shape(connection: AsyncConnection) -> str:
    return str((await connection.exec_driver_sql(SHAPE)).scalar_one())
