"""Names for positional arguments: JSON-2 takes the records as `ids`, and all others by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from service.odoo import errors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

RESERVED = frozenset({"ids"})


@dataclass(frozen=True, kw_only=True)
class Signature:
    """A method's parameters in their order, after the records where it is called `on_records`."""

    on_records: bool
    parameters: tuple[str, ...] = ()


def _on_model(*parameters: str) -> Signature:
    return Signature(on_records=False, parameters=parameters)


def _on_records(*parameters: str) -> Signature:
    return Signature(on_records=True, parameters=parameters)


SIGNATURES: Mapping[str, Signature] = {
    "context_get": _on_model(),
    "create": _on_model("vals_list"),
    "fields_get": _on_model("allfields", "attributes"),
    "name_search": _on_model("name"),
    "search": _on_model("domain", "offset", "limit", "order"),
    "search_count": _on_model("domain", "limit"),
    "search_read": _on_model("domain", "fields", "offset", "limit", "order"),
    "button_approve": _on_records("force"),
    "copy": _on_records("default"),
    "has_access": _on_records("operation"),
    "read": _on_records("fields", "load"),
    "unlink": _on_records(),
    "write": _on_records("vals"),
}
"""Methods that every model of Odoo 19 has, or that are called here, by name.

Overrides keep the names of the parameters. Where one does not, Odoo refuses the call before the
method runs.
"""


def named(
    model: str, method: str, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """Name all arguments of a call.

    A method without a signature here may be given records, at least one, and nothing else in order:
    should it not be called on records, Odoo refuses before the method runs. Raises `InvalidCall`
    with effect none.
    """

    def refuse(reason: str) -> errors.InvalidCall:
        return errors.InvalidCall(reason, model, method, errors.Effect.NONE)

    if taken := RESERVED & set(kwargs):
        raise refuse(f"over JSON-2 no argument may be named {', '.join(sorted(taken))}")
    if not args:
        return dict(kwargs)
    signature = SIGNATURES.get(method)
    if signature is None:
        if len(args) > 1 or not _listed(args[0]):
            raise refuse("JSON-2 takes arguments by name: give all but the records by name")
        signature = _on_records()
    records: dict[str, Any] = {}
    rest = list(args)
    if signature.on_records:
        ids = _listed(rest.pop(0))
        if ids is None:
            raise refuse("the first argument must be the id of a record, or a list of ids")
        records = {"ids": ids}
    if len(rest) > len(signature.parameters):
        raise refuse(f"more than {len(signature.parameters)} arguments: give the others by name")
    positional = dict(zip(signature.parameters, rest, strict=False))
    if twice := positional.keys() & kwargs.keys():
        raise refuse(f"given in order and by name: {', '.join(sorted(twice))}")
    return records | positional | dict(kwargs)


def _listed(records: Any) -> list[int] | None:
    """The ids of records, given as one or as many; None when they are none."""
    listed = list(records) if isinstance(records, list | tuple) else [records]
    if all(isinstance(one, int) and not isinstance(one, bool) for one in listed):
        return listed
    return None
