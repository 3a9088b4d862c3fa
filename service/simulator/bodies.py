"""What the control routes take: JSON objects that name fields of a dataclass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def check_names(values: Mapping[str, Any], kind: type[Any]) -> None:
    """Raise ValueError when an object has names that are no fields of `kind`."""
    known = set(kind.__dataclass_fields__)
    unknown = sorted(set(values) - known)
    if unknown:
        raise ValueError(f"unknown {', '.join(unknown)}; known: {', '.join(sorted(known))}")
