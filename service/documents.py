"""JSON documents as they are stored and hashed: exact, ordered, without binary floats."""

from __future__ import annotations

import json
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID


def _plain(value: object) -> str:
    match value:
        case Decimal():
            return format(value, "f")
        case datetime() | date():
            return value.isoformat()
        case UUID():
            return str(value)
        case Enum():
            return str(value.value)
        case _:
            raise TypeError(f"{type(value).__name__} has no place in a stored document")


def to_json(value: Any) -> str:
    """`value` as one line of JSON with sorted keys; Decimals and dates become text."""
    return json.dumps(
        value,
        default=_plain,
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
        allow_nan=False,
    )


def from_json(text: str | bytes) -> Any:
    """What `to_json` stored; a number with a fraction becomes a Decimal."""
    return json.loads(text, parse_float=Decimal)


def plain(value: Any) -> Any:
    """`value` as it will look when it is read back."""
    return from_json(to_json(value))
