"""The mirror of a sync: tables of Odoo's rows, written by COPY and one upsert a page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    Table,
    Text,
    Uuid,
    case,
    column,
    delete,
    exists,
    func,
    inspect,
    literal,
    select,
    table,
    text,
    tuple_,
)
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.schema import CreateColumn, CreateSchema

from service.database import driver_connection
from service.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from uuid import UUID

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
    "texts": ARRAY(Text),
}
STAMPED = ("connection", "id")
_ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(hashtext('eclusa.mirror'))")


@dataclass(frozen=True, kw_only=True)
class File:
    """A file of a record as it is mirrored."""

    id: int
    field: str
    checksum: str
    size: int
    name: str
    media_type: str
    content: bytes
    facts: Mapping[str, Any]


class Mirror:
    """The tables of one sync: rows, and if it has them files and the history of changes.

    Rows belong to a connection each.
    """

    def __init__(self, definition: Definition) -> None:
        metadata = MetaData(schema=SCHEMA)
        key = definition.key_column
        self.key = "id" if key is None else key.name
        self.table = Table(
            definition.name,
            metadata,
            Column("connection", Text, primary_key=True),
            Column("id", BigInteger, primary_key=True, autoincrement=False),
            Column("write_date", DateTime(timezone=True)),
            *(Column(wanted.name, TYPES[wanted.kind]) for wanted in definition.columns),
        )
        if key is not None:
            Index(
                f"ix_{definition.name}_{key.name}", self.table.c.connection, self.table.c[key.name]
            )
        self.files = _files(definition.name, metadata) if definition.files else None
        self.changes = _changes(definition.name, metadata) if definition.history else None

    @property
    def tables(self) -> Iterator[Table]:
        """All tables."""
        yield self.table
        yield from (other for other in (self.files, self.changes) if other is not None)

    async def prepare(self, connection: AsyncConnection) -> None:
        """Make the tables, or add the columns that they do not have yet.

        Raises `Misconfigured` when a column is there with another type. A column that the
        definition has no more is left as it is.
        """
        await connection.execute(_ONE_AT_A_TIME)
        await connection.execute(CreateSchema(SCHEMA, if_not_exists=True))
        for wanted in self.tables:
            await connection.run_sync(_prepare, wanted)

    # -- rows --------------------------------------------------------------------------------

    async def write(
        self, connection: AsyncConnection, rows: Sequence[tuple[Any, ...]], run_id: UUID
    ) -> int:
        """Insert or update rows; answers how many are new or differ from what was there."""
        if not rows:
            return 0
        names = [one.name for one in self.table.columns]
        raw = await driver_connection(connection)
        if self.changes is None and not await self._reached(connection, rows):
            await raw.copy_records_to_table(
                self.table.name, schema_name=SCHEMA, records=rows, columns=names
            )
            return len(rows)
        await connection.execute(
            text(f"CREATE TEMPORARY TABLE staging (LIKE {self.table.fullname}) ON COMMIT DROP")
        )
        await raw.copy_records_to_table("staging", records=rows, columns=names)
        staging = table("staging", *(column(name) for name in names))
        upsert = insert(self.table).from_select(names, select(staging))
        others = [name for name in names if name not in STAMPED]
        upsert = upsert.on_conflict_do_update(
            index_elements=STAMPED,
            set_={name: upsert.excluded[name] for name in others},
            where=func.row(*(self.table.c[name] for name in others)).is_distinct_from(
                func.row(*(upsert.excluded[name] for name in others))
            ),
        )
        if self.changes is None:
            return (await connection.execute(upsert)).rowcount
        # The old rows are those of the statement's snapshot, from before the upsert beside it.
        old = self.table.alias("old")
        written = upsert.returning(self.table).cte("written")
        before, after = _json(old), _json(written)
        changed: Any = (
            select(
                written.c.connection,
                written.c.id,
                case((old.c.id.is_(None), "created"), else_="changed"),
                func.clock_timestamp(),
                literal(run_id, Uuid),
                case((old.c.id.is_not(None), before)),
                after,
            )
            .select_from(written.outerjoin(old, _same(written, old)))
            .where(old.c.id.is_(None) | _unstamped(before).is_distinct_from(_unstamped(after)))
        )
        kept = insert(self.changes).from_select(_CHANGE, changed).cte("kept")
        count = select(func.count()).select_from(written).add_cte(kept)
        return int(await connection.scalar(count) or 0)

    async def _reached(self, connection: AsyncConnection, rows: Sequence[tuple[Any, ...]]) -> bool:
        """Whether the mirror has rows between those ids; where it has none, COPY needs no upsert.

        A first full run is all of that kind, and takes half of PostgreSQL's time so.
        """
        name = rows[0][0]
        first, last = min(row[1] for row in rows), max(row[1] for row in rows)
        own = self.table.c
        among = exists().where(own.connection == name, own.id.between(first, last))
        return bool(await connection.scalar(select(among)))

    async def remove(
        self, connection: AsyncConnection, name: str, ids: Sequence[int], run_id: UUID
    ) -> int:
        """Take rows and their files away; answers how many rows there were."""
        if not ids:
            return 0
        if self.files is not None:
            await connection.execute(delete(self.files).where(_these(self.files, name, ids)))
        gone = delete(self.table).where(_these(self.table, name, ids))
        if self.changes is None:
            return (await connection.execute(gone)).rowcount
        removed = gone.returning(self.table).cte("removed")
        history = select(
            removed.c.connection,
            removed.c.id,
            literal("removed", Text),
            func.clock_timestamp(),
            literal(run_id, Uuid),
            _json(removed),
            text("NULL::jsonb"),
        )
        return (
            await connection.execute(insert(self.changes).from_select(_CHANGE, history))
        ).rowcount

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

    async def ids_of_keys(
        self, connection: AsyncConnection, name: str, keys: Sequence[Any]
    ) -> set[int]:
        """The ids of the rows that have one of these keys."""
        rows = self.table
        query = select(rows.c.id).where(rows.c.connection == name, rows.c[self.key].in_(list(keys)))
        return set(await connection.scalars(query))

    # -- files -------------------------------------------------------------------------------

    async def checksums(
        self, connection: AsyncConnection, name: str, ids: Sequence[int]
    ) -> dict[tuple[int, str], str]:
        """The checksums of the files of some records, by id and field."""
        if self.files is None:
            return {}
        files = self.files.c
        query = select(files.id, files.field, files.checksum).where(_these(self.files, name, ids))
        return {(row.id, row.field): row.checksum for row in await connection.execute(query)}

    async def write_files(
        self,
        connection: AsyncConnection,
        name: str,
        files: Sequence[File],
        gone: Sequence[tuple[int, str]],
    ) -> None:
        """Insert or replace files, and take away those that their records have no more."""
        if self.files is None:
            return
        if gone:
            columns = self.files.c
            which = tuple_(columns.id, columns.field).in_(list(gone))
            await connection.execute(delete(self.files).where(columns.connection == name, which))
        if files:
            upsert = insert(self.files)
            others = [one.name for one in self.files.columns if not one.primary_key]
            await connection.execute(
                upsert.on_conflict_do_update(
                    index_elements=["connection", "id", "field"],
                    set_={one: upsert.excluded[one] for one in others},
                ),
                [{"connection": name, **vars(file)} for file in files],
            )


_CHANGE = ("connection", "id", "operation", "at", "run_id", "before", "after")


def _files(name: str, metadata: MetaData) -> Table:
    return Table(
        f"{name}_file",
        metadata,
        Column("connection", Text, primary_key=True),
        Column("id", BigInteger, primary_key=True, autoincrement=False),
        Column("field", Text, primary_key=True),
        Column("checksum", Text, nullable=False),
        Column("size", Integer, nullable=False),
        Column("name", Text, nullable=False),
        Column("media_type", Text, nullable=False),
        Column("content", LargeBinary, nullable=False),
        Column("facts", JSONB, nullable=False),
    )


def _changes(name: str, metadata: MetaData) -> Table:
    return Table(
        f"{name}_change",
        metadata,
        Column("seq", BigInteger, Identity(), primary_key=True),
        Column("connection", Text, nullable=False),
        Column("id", BigInteger, nullable=False),
        Column("operation", Text, nullable=False),
        Column("at", DateTime(timezone=True), nullable=False),
        Column("run_id", Uuid, nullable=False),
        Column("before", JSONB),
        Column("after", JSONB),
        Index(f"ix_{name}_change_id", "connection", "id"),
    )


def _json(rows: Any) -> Any:
    """A whole row as a JSON object."""
    return func.to_jsonb(text(rows.name), type_=JSONB)


def _unstamped(row: Any) -> Any:
    """A row as JSON without its stamp: when nothing else changed, nothing did."""
    return row.op("-", return_type=JSONB)("write_date")


def _same(one: Any, other: Any) -> Any:
    return (one.c.connection == other.c.connection) & (one.c.id == other.c.id)


def _these(rows: Table, name: str, ids: Sequence[int]) -> Any:
    return (rows.c.connection == name) & rows.c.id.in_(list(ids))


def _prepare(connection: Connection, wanted: Table) -> None:
    inspector = inspect(connection)
    if not inspector.has_table(wanted.name, schema=SCHEMA):
        wanted.create(connection)
        return
    present = {
        found["name"]: found["type"] for found in inspector.get_columns(wanted.name, schema=SCHEMA)
    }
    dialect = connection.dialect
    for one in wanted.columns:
        if one.name not in present:
            clause = CreateColumn(one).compile(dialect=dialect)
            connection.execute(text(f"ALTER TABLE {wanted.fullname} ADD COLUMN {clause}"))
            continue
        there, here = present[one.name].compile(dialect), one.type.compile(dialect)
        if there != here:
            raise Misconfigured(f"{wanted.fullname}.{one.name} is {there} and should be {here}")
