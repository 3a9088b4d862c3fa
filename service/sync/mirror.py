"""The mirror of a sync: a table of Odoo's rows, written by COPY and one upsert a page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    MetaData,
    Numeric,
    Table,
    Text,
    column,
    delete,
    func,
    inspect,
    select,
    table,
    text,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.schema import CreateColumn, CreateSchema

from service.database import driver_connection
from service.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection
    from sqlalchemy.types import TypeEngine

    from service.sync.definition import ColumnKind, Definition

SCHEMA = "mirror"
TYPES: Mapping[ColumnKind, TypeEngine[Any]] = {
    "text": Text(),
    "integer": BigInteger(),
    "number": Numeric(),
    "flag": Boolean(),
    "day": Date(),
    "moment": DateTime(timezone=True),
    "ref": BigInteger(),
    "ref_name": Text(),
    "refs": ARRAY(BigInteger),
}
_ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(hashtext('eclusa.mirror'))")


class Mirror:
    """The table of one sync. Its rows belong to a connection each."""

    def __init__(self, definition: Definition) -> None:
        self.table = Table(
            definition.name,
            MetaData(schema=SCHEMA),
            Column("connection", Text, primary_key=True),
            Column("id", BigInteger, primary_key=True, autoincrement=False),
            Column("write_date", DateTime(timezone=True)),
            *(Column(wanted.name, TYPES[wanted.kind]) for wanted in definition.columns),
        )

    async def prepare(self, connection: AsyncConnection) -> None:
        """Make the table, or add the columns that it does not have yet.

        Raises `Misconfigured` when a column is there with another type. A column that the
        definition has no more is left as it is.
        """
        await connection.execute(_ONE_AT_A_TIME)
        await connection.execute(CreateSchema(SCHEMA, if_not_exists=True))
        await connection.run_sync(self._prepare)

    def _prepare(self, connection: Connection) -> None:
        inspector = inspect(connection)
        if not inspector.has_table(self.table.name, schema=SCHEMA):
            self.table.create(connection)
            return
        present = {
            found["name"]: found["type"]
            for found in inspector.get_columns(self.table.name, schema=SCHEMA)
        }
        dialect = connection.dialect
        for wanted in self.table.columns:
            if wanted.name not in present:
                clause = CreateColumn(wanted).compile(dialect=dialect)
                connection.execute(text(f"ALTER TABLE {self.table.fullname} ADD COLUMN {clause}"))
                continue
            there, here = present[wanted.name].compile(dialect), wanted.type.compile(dialect)
            if there != here:
                raise Misconfigured(
                    f"{self.table.fullname}.{wanted.name} is {there} and should be {here}"
                )

    async def write(self, connection: AsyncConnection, rows: Sequence[tuple[Any, ...]]) -> int:
        """Insert or update rows; answers how many are new or differ from what was there."""
        if not rows:
            return 0
        names = [one.name for one in self.table.columns]
        staging = table("staging", *(column(name) for name in names))
        await connection.execute(
            text(f"CREATE TEMPORARY TABLE staging (LIKE {self.table.fullname}) ON COMMIT DROP")
        )
        raw = await driver_connection(connection)
        await raw.copy_records_to_table("staging", records=rows, columns=names)
        upsert = insert(self.table).from_select(names, select(staging))
        others = [name for name in names if name not in {"connection", "id"}]
        result = await connection.execute(
            upsert.on_conflict_do_update(
                index_elements=["connection", "id"],
                set_={name: upsert.excluded[name] for name in others},
                where=func.row(*(self.table.c[name] for name in others)).is_distinct_from(
                    func.row(*(upsert.excluded[name] for name in others))
                ),
            )
        )
        return result.rowcount

    async def count(self, connection: AsyncConnection, name: str) -> int:
        """How many rows of a connection there are."""
        query = select(func.count()).where(self.table.c.connection == name)
        return int(await connection.scalar(query) or 0)

    async def ids(
        self, connection: AsyncConnection, name: str, *, after: int, until: int | None
    ) -> set[int]:
        """The ids above `after` up to `until`, without it all above."""
        query = select(self.table.c.id).where(
            self.table.c.connection == name, self.table.c.id > after
        )
        if until is not None:
            query = query.where(self.table.c.id <= until)
        return set(await connection.scalars(query))

    async def remove(self, connection: AsyncConnection, name: str, ids: Sequence[int]) -> int:
        """Take rows away; answers how many there were."""
        if not ids:
            return 0
        gone = delete(self.table).where(
            self.table.c.connection == name, self.table.c.id.in_(list(ids))
        )
        return (await connection.execute(gone)).rowcount
