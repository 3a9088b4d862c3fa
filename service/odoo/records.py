"""Records as Odoo sends them, read with types.

Odoo sends `false` for every empty value, a many2one as `[id, name]` or `false`, dates as
`YYYY-MM-DD` and times as `YYYY-MM-DD HH:MM:SS` in UTC. A `Record` turns each into the Python value
that is meant, and refuses a shape that Odoo never sends.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol

from service.odoo.errors import UnexpectedAnswer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Domain = list[Any]
"""A search domain in Odoo's prefix notation: `["|", ["a", "=", 1], ["b", "=", 2]]`."""


@dataclass(frozen=True)
class Record:
    """One record of `model`; `values` are Odoo's own, numbers with a fraction as Decimal."""

    model: str
    values: Mapping[str, Any]

    @property
    def id(self) -> int:
        """The record's id."""
        return int(self.values["id"])

    def _shape_error(self, field: str, wanted: str) -> UnexpectedAnswer:
        found = type(self.values.get(field)).__name__ if field in self.values else "nothing"
        return UnexpectedAnswer(f"{self.model}.{field} should be {wanted}, Odoo sent {found}")

    def _value(self, field: str) -> Any:
        if field not in self.values:
            raise self._shape_error(field, "in the answer")
        return self.values[field]

    def text(self, field: str) -> str | None:
        """Text, selection or date text; None when empty."""
        value = self.values.get(field)
        if type(value) is str and value:  # nearly all: asked first, as pages of rows pass here
            return value
        value = self._value(field)
        if value is False or value is None or value == "":
            return None
        if not isinstance(value, str):
            raise self._shape_error(field, "text")
        return value

    def flag(self, field: str) -> bool:
        """A boolean."""
        value = self._value(field)
        if not isinstance(value, bool):
            raise self._shape_error(field, "true or false")
        return value

    def number(self, field: str) -> Decimal:
        """A float, integer or monetary value as Decimal; empty is zero, as in Odoo."""
        value = self.values.get(field)
        if type(value) is Decimal:
            return value
        value = self._value(field)
        if value is False or value is None:
            return Decimal(0)
        if not isinstance(value, int | Decimal):
            raise self._shape_error(field, "a number")
        return Decimal(value)

    def ref(self, field: str) -> int | None:
        """The id of a many2one; None when empty."""
        value = self._value(field)
        if value is False or value is None:
            return None
        match value:
            case int():
                return value
            case [int() as record_id, *_]:
                return record_id
            case _:
                raise self._shape_error(field, "[id, name] or false")

    def ref_name(self, field: str) -> str | None:
        """The display name of a many2one; None when empty."""
        match self._value(field):
            case [int(), str() as name]:
                return name
            case _:
                return None

    def refs(self, field: str) -> tuple[int, ...]:
        """The ids of a one2many or many2many."""
        value = self._value(field)
        if not isinstance(value, list):
            raise self._shape_error(field, "a list of ids")
        return tuple(int(item) for item in value)

    def day(self, field: str) -> date | None:
        """A date; None when empty."""
        value = self.text(field)
        return None if value is None else date.fromisoformat(value[:10])

    def moment(self, field: str) -> datetime | None:
        """A time, in UTC; None when empty."""
        value = self.text(field)
        return None if value is None else datetime.fromisoformat(f"{value}+00:00")


class Reader(Protocol):
    """What an observation may use of Odoo: reads, and nothing that changes it.

    Every method raises an `OdooError`; a read that failed is never an empty answer.
    """

    async def search_read(
        self,
        model: str,
        domain: Domain,
        fields: Sequence[str],
        *,
        order: str = "id",
        limit: int | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> list[Record]:
        """The records that match, in `order`."""
        ...

    async def read(
        self,
        model: str,
        ids: Sequence[int],
        fields: Sequence[str],
        *,
        context: Mapping[str, Any] | None = None,
    ) -> list[Record]:
        """The records of `ids` that exist, in the order of `ids`; missing ones are left out."""
        ...


class Caller(Reader, Protocol):
    """What an act may use of Odoo: one call that may change it."""

    async def execute_kw(
        self,
        model: str,
        method: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any] | None = None,
        *,
        timeout_seconds: float | None = None,
    ) -> Any:
        """The call's answer; `None` where Odoo sent no result."""
        ...


class OnlyReads:
    """A reader of whatever it is given, also of a caller: nothing can be called through it."""

    __slots__ = ("__reader",)

    def __init__(self, reader: Reader) -> None:
        self.__reader = reader

    async def search_read(
        self,
        model: str,
        domain: Domain,
        fields: Sequence[str],
        *,
        order: str = "id",
        limit: int | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> list[Record]:
        """The records that match, in `order`."""
        return await self.__reader.search_read(
            model, domain, fields, order=order, limit=limit, context=context
        )

    async def read(
        self,
        model: str,
        ids: Sequence[int],
        fields: Sequence[str],
        *,
        context: Mapping[str, Any] | None = None,
    ) -> list[Record]:
        """The records of `ids` that exist, in the order of `ids`."""
        return await self.__reader.read(model, ids, fields, context=context)
