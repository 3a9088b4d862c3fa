"""Reading mirrors: rows by conditions, in pages or all of them, as JSON made by PostgreSQL."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Date,
    DateTime,
    Integer,
    Numeric,
    Text,
    any_,
    cast,
    column,
    func,
    inspect,
    literal,
    select,
    table,
    text,
)

from service.errors import InvalidInput, Problem, UnknownName
from service.sync.mirror import SCHEMA

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from sqlalchemy import ColumnElement, Connection, TableClause
    from sqlalchemy.ext.asyncio import AsyncConnection
    from sqlalchemy.types import TypeEngine

    from service.database import Database

Operator = Literal["eq", "ne", "lt", "le", "gt", "ge", "like", "in", "has", "null"]
STREAM_PAGE = 2_000
MOST_CONDITIONS = 20
INTERNAL = ("_file", "_change")
"""Endings of the tables that belong to a mirror: reached by its name and what they hold."""


@dataclass(frozen=True)
class Condition:
    """One condition on a column. `in` takes values between commas, `null` true or false."""

    column: str
    operator: Operator
    value: str


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which rows of a mirror are wanted, of one connection, above an id."""

    name: str
    connection: str
    conditions: Sequence[Condition] = ()
    after: int = 0


class Row(NamedTuple):
    """A row of a mirror: its id, and all of it as a JSON object."""

    id: int
    json: str


def read_conditions(given: Sequence[str]) -> list[Condition]:
    """Conditions from texts such as `price_unit:ge:10`; raises `InvalidInput`."""
    conditions: list[Condition] = []
    problems: list[Problem] = []
    for number, one in enumerate(given):
        name, operator, value = (*one.split(":", 2), "", "")[:3]
        if operator in COMPARISONS:
            conditions.append(Condition(name, operator, value))  # type: ignore[arg-type]  # of COMPARISONS
            continue
        known = ", ".join(COMPARISONS)
        message = f"must be column:operator:value, with one of the operators {known}"
        problems.append(Problem(f"where.{number}", message, "invalid_condition"))
    if problems:
        raise InvalidInput(problems)
    return conditions


class Rows:
    """Reads the mirrors of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, wanted: Wanted, limit: int) -> list[Row]:
        """Rows by id.

        Numbers with a fraction are text, times RFC 3339 in UTC. Raises `UnknownName` when there is
        no such mirror, and `InvalidInput` for a condition that makes no sense.
        """
        async with self._database.transaction() as connection:
            source = await _reflect(connection, wanted.name)
            rows = await connection.execute(_query(source, wanted, wanted.after, limit))
        return [Row(*row) for row in rows]

    async def all(self, wanted: Wanted) -> AsyncIterator[list[Row]]:
        """All rows, page by page: no transaction outlives a page, and no row comes twice.

        Raises as `page` does.
        """
        async with self._database.transaction() as connection:
            source = await _reflect(connection, wanted.name)
            query = _query(source, wanted, wanted.after, STREAM_PAGE)
            found = [Row(*row) for row in await connection.execute(query)]
        while found:
            yield found
            if len(found) < STREAM_PAGE:
                return
            query = _query(source, wanted, found[-1].id, STREAM_PAGE)
            async with self._database.transaction() as connection:
                found = [Row(*row) for row in await connection.execute(query)]

    async def names(self) -> list[str]:
        """The mirrors that there are."""
        async with self._database.transaction() as connection:
            return await connection.run_sync(_names)


def _names(connection: Connection) -> list[str]:
    names = inspect(connection).get_table_names(schema=SCHEMA)
    return sorted(name for name in names if not name.endswith(INTERNAL))


async def _reflect(connection: AsyncConnection, name: str) -> TableClause:
    """The mirror as it is in the database, with the types of its columns."""

    def look(sync: Connection) -> TableClause:
        names = _names(sync)
        if name not in names:
            raise UnknownName("mirror", name, names)
        found = inspect(sync).get_columns(name, schema=SCHEMA)
        columns = (column(one["name"], one["type"]) for one in found)
        return table(name, *columns, schema=SCHEMA)

    return await connection.run_sync(look)


def _query(source: TableClause, wanted: Wanted, after: int, limit: int) -> Any:
    rows = (
        select(*(_shown(one) for one in source.columns if one.name != "connection"))
        .where(source.c.connection == wanted.connection, source.c.id > after)
        .where(*_conditions(source, wanted.conditions))
        .order_by(source.c.id)
        .limit(limit)
        .subquery("shown")
    )
    as_json = cast(func.row_to_json(text("shown")), Text).label("json")
    return select(rows.c.id, as_json).order_by(rows.c.id)


def _shown(one: ColumnElement[Any]) -> Any:
    """A column as it looks in JSON."""
    match one.type:
        case Numeric():
            return cast(one, Text).label(one.key)
        case DateTime():
            return func.to_char(one, 'YYYY-MM-DD"T"HH24:MI:SS"Z"').label(one.key)
        case _:
            return one


# -- conditions ----------------------------------------------------------------------------------


def _conditions(source: TableClause, wanted: Sequence[Condition]) -> list[ColumnElement[bool]]:
    made: list[ColumnElement[bool]] = []
    problems: list[Problem] = []
    for number, condition in enumerate(wanted):
        try:
            made.append(_condition(source, condition))
        except ValueError as error:
            problems.append(Problem(f"where.{number}", str(error), "invalid_condition"))
    if problems:
        raise InvalidInput(problems)
    return made


def _condition(source: TableClause, condition: Condition) -> ColumnElement[bool]:
    if condition.column not in source.c:
        raise ValueError(f"the mirror has no column {condition.column!r}")
    one = source.c[condition.column]
    is_array = isinstance(one.type, ARRAY)
    if is_array != (condition.operator == "has") and condition.operator != "null":
        wanted = "has, or null" if is_array else "another operator than has"
        raise ValueError(f"{condition.column}: use {wanted}")
    if condition.operator == "like" and not isinstance(one.type, Text):
        raise ValueError(f"{condition.column} is no text")
    return COMPARISONS[condition.operator](one, condition.value)


def _value(kind: TypeEngine[Any], given: str) -> Any:
    """A value of a column's type; raises `ValueError` in words."""
    try:
        match kind:
            case Boolean():
                return _flag(given)
            case BigInteger() | Integer():
                return _whole(given)
            case Numeric():
                return Decimal(given)
            case DateTime():
                at = datetime.fromisoformat(given)
                return at.replace(tzinfo=at.tzinfo or UTC)
            case Date():
                return date.fromisoformat(given)
            case _:
                return given
    except (ValueError, InvalidOperation) as error:
        raise ValueError(f"{given!r} is no {WORDS.get(type(kind).__name__, 'value')}") from error


WORDS: Mapping[str, str] = {
    "BOOLEAN": "true or false",
    "BIGINT": "whole number",
    "INTEGER": "whole number",
    "NUMERIC": "number",
    "TIMESTAMP": "time like 2026-12-31T12:00:00Z",
    "DATE": "date like 2026-12-31",
}


def _whole(given: str) -> int:
    number = int(given)
    if not -(2**63) <= number < 2**63:
        raise ValueError(given)
    return number


def _flag(given: str) -> bool:
    if given not in {"true", "false"}:
        raise ValueError(given)
    return given == "true"


def _null(one: ColumnElement[Any], given: str) -> ColumnElement[bool]:
    if given not in {"true", "false"}:
        raise ValueError(f"{given!r} is no true or false")
    return one.is_(None) if given == "true" else one.is_not(None)


COMPARISONS: Mapping[str, Callable[[ColumnElement[Any], str], ColumnElement[bool]]] = {
    "eq": lambda one, given: one == _value(one.type, given),
    "ne": lambda one, given: one.is_distinct_from(_value(one.type, given)),
    "lt": lambda one, given: one < _value(one.type, given),
    "le": lambda one, given: one <= _value(one.type, given),
    "gt": lambda one, given: one > _value(one.type, given),
    "ge": lambda one, given: one >= _value(one.type, given),
    "like": lambda one, given: one.ilike(given),
    "in": lambda one, given: one.in_([_value(one.type, item) for item in given.split(",")]),
    "has": lambda one, given: literal(_value(_item(one), given)) == any_(one),
    "null": _null,
}
"""What each operator means; each raises `ValueError` for a value of the wrong kind."""


def _item(one: ColumnElement[Any]) -> TypeEngine[Any]:
    item: TypeEngine[Any] = one.type.item_type  # type: ignore[attr-defined]  # only of arrays
    return item
