"""Typed fields: how a value comes in, how it is kept, and how it goes out."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Any, Literal

from service.simulator import errors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from service.simulator.orm import Environment, Record

FieldType = Literal[
    "binary",
    "boolean",
    "char",
    "date",
    "datetime",
    "float",
    "html",
    "integer",
    "json",
    "many2many",
    "many2one",
    "monetary",
    "one2many",
    "selection",
    "text",
]
OnDelete = Literal["cascade", "restrict", "set null"]
Selection = tuple[tuple[str, str], ...]

DATE_FORMAT = "%Y-%m-%d"
DATETIME_FORMAT = "%Y-%m-%d %H:%M:%S"
DATE_LENGTH = 10
DATETIME_LENGTH = 19
KILO = 1024
CENT = Decimal("0.01")
NUMBERS: frozenset[str] = frozenset({"float", "integer", "monetary"})
TO_MANY: frozenset[str] = frozenset({"many2many", "one2many"})
BOTH_VERSIONS = frozenset({17, 19})


@dataclass(frozen=True, kw_only=True)
class Field:
    """One field of a model.

    A field with `compute` is not kept in the table; `searchable` says whether a domain may use it.
    A `one2many` names the `inverse` many2one of its relation. `ondelete` says what becomes of a
    record whose many2one refers to a deleted one. `default` is a value, or a function of the
    environment.
    """

    type: FieldType
    label: str = ""
    relation: str | None = None
    inverse: str | None = None
    required: bool = False
    readonly: bool = False
    searchable: bool = True
    copied: bool = True
    indexed: bool = False
    ondelete: OnDelete | None = None
    selection: Selection = ()
    compute: Callable[[Record], Any] | None = None
    default: Any = None
    versions: frozenset[int] = field(default=BOTH_VERSIONS)

    @property
    def stored(self) -> bool:
        """Whether the table keeps a value of it."""
        return self.compute is None and self.type != "one2many"

    @property
    def on_deletion(self) -> OnDelete:
        """What becomes of the record: a required many2one holds what it refers to."""
        return self.ondelete or ("restrict" if self.required else "set null")

    def default_value(self, env: Environment) -> Any:
        """Return the value a new record gets, already in its stored form."""
        if callable(self.default):
            return self.default(env)
        if self.default is None:
            return {"boolean": False, "many2many": ()}.get(self.type)
        return self.default


def char(label: str = "", **options: Any) -> Field:
    """Return a line of text."""
    return Field(type="char", label=label, **options)


def text(label: str = "", **options: Any) -> Field:
    """Return several lines of text."""
    return Field(type="text", label=label, **options)


def html(label: str = "", **options: Any) -> Field:
    """Return a formatted text."""
    return Field(type="html", label=label, **options)


def binary(label: str = "", **options: Any) -> Field:
    """Return a file in base64."""
    return Field(type="binary", label=label, **options)


def boolean(label: str = "", **options: Any) -> Field:
    """Return a truth value."""
    return Field(type="boolean", label=label, **options)


def integer(label: str = "", **options: Any) -> Field:
    """Return a whole number."""
    return Field(type="integer", label=label, **options)


def floating(label: str = "", **options: Any) -> Field:
    """Return a number with a fraction."""
    return Field(type="float", label=label, **options)


def monetary(label: str = "", **options: Any) -> Field:
    """Return an amount of money."""
    return Field(type="monetary", label=label, **options)


def day(label: str = "", **options: Any) -> Field:
    """Return a date."""
    return Field(type="date", label=label, **options)


def moment(label: str = "", **options: Any) -> Field:
    """Return a UTC date and time."""
    return Field(type="datetime", label=label, **options)


def selection(label: str, *choices: tuple[str, str], **options: Any) -> Field:
    """Return a choice among named values."""
    return Field(type="selection", label=label, selection=choices, **options)


def many2one(relation: str, label: str = "", **options: Any) -> Field:
    """Return a reference to one record."""
    return Field(type="many2one", label=label, relation=relation, **{"indexed": True, **options})


def one2many(relation: str, inverse: str, label: str = "", **options: Any) -> Field:
    """Return the records that refer to this one by `inverse`."""
    return Field(
        type="one2many", label=label, relation=relation, inverse=inverse, copied=False, **options
    )


def many2many(relation: str, label: str = "", **options: Any) -> Field:
    """Return references to several records."""
    return Field(type="many2many", label=label, relation=relation, **options)


def label_of(name: str, definition: Field) -> str:
    """Return the label of a field, made from its name when none was given."""
    return (
        definition.label
        or name.removesuffix("_ids").removesuffix("_id").replace("_", " ").strip().title()
    )


def parse_datetime(value: str) -> datetime:
    """Read `YYYY-MM-DD` or `YYYY-MM-DD HH:MM:SS` as UTC, refusing like Odoo."""
    # Odoo cuts the format to the length of the value; its messages show which part it expected.
    pattern = DATETIME_FORMAT[: max(len(value) - 2, 8)]
    try:
        return datetime.strptime(value, pattern).replace(tzinfo=UTC)
    except ValueError as error:
        raise errors.value_error(str(error)) from error


def parse_date(value: str) -> date:
    """Read `YYYY-MM-DD`, and ignore a time behind it."""
    return parse_datetime(value[:DATE_LENGTH]).date()


def _number(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        class_name = type(error).__name__
        raise errors.PythonError(class_name, str(error)) from error
    if math.isnan(number):
        raise errors.value_error("cannot convert float NaN to integer")
    return number


def rounded(amount: float) -> float:
    """Round to two places as the server rounds money: half up, by the number as it is written."""
    return float(Decimal(repr(amount)).quantize(CENT, ROUND_HALF_UP))


def _choice(model: str, name: str, definition: Field, value: Any) -> str:
    if value not in {key for key, _ in definition.selection}:
        raise errors.value_error(f"Wrong value for {model}.{name}: {value!r}")
    return str(value)


def _reference(value: Any) -> int | None:
    if isinstance(value, list | tuple):
        return _reference(value[0]) if value else None
    if isinstance(value, int) and not isinstance(value, bool):
        return value or None
    return None


CONVERTERS: Mapping[str, Callable[[Any], Any]] = {
    "boolean": bool,
    "integer": lambda value: int(_number(value)),
    "monetary": lambda value: rounded(_number(value)),
    "float": lambda value: round(_number(value), 6),
    "many2one": _reference,
    "date": lambda value: value if isinstance(value, date) else parse_date(str(value)),
    "datetime": lambda value: value if isinstance(value, datetime) else parse_datetime(str(value)),
    "json": lambda value: value,
}


def stored_value(model: str, name: str, definition: Field, value: Any) -> Any:
    """Turn a scalar from a client into what the table keeps; None is empty."""
    kind = definition.type
    if kind != "boolean" and (value is None or value is False):
        return None
    if kind == "selection":
        return _choice(model, name, definition, value)
    return CONVERTERS.get(kind, str)(value)


def wire_value(definition: Field, value: Any) -> Any:
    """Turn a kept scalar into what JSON carries; references are the caller's business."""
    if value is None:
        return (0 if definition.type == "integer" else 0.0) if definition.type in NUMBERS else False
    if definition.type == "datetime":
        return value.isoformat(" ", "seconds")[:DATETIME_LENGTH]
    if definition.type == "date":
        return value.isoformat()
    return value


def human_size(encoded: str | None) -> str | bool:
    """Return the size of a file in base64, in words; false without a file."""
    if not encoded:
        return False
    size = float(len(encoded) * 3 // 4 - encoded[-2:].count("="))
    units = ("bytes", "Kb", "Mb", "Gb")
    place = 0
    while size >= KILO and place < len(units) - 1:
        size, place = size / KILO, place + 1
    return f"{size:0.2f} {units[place]}"
