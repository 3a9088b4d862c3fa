"""Syncs without code: a model and its fields in the configuration file make a table and a sync."""

from __future__ import annotations

import difflib
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from service.errors import Misconfigured
from service.sync.definition import Column, Definition

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from service.sync.definition import ColumnKind

NAME = r"^[a-z][a-z0-9_]{0,49}$"
"""Names of syncs are names of tables."""

KINDS: Mapping[str, ColumnKind] = {
    "char": "text",
    "text": "text",
    "html": "text",
    "selection": "text",
    "reference": "text",
    "integer": "integer",
    "many2one_reference": "integer",
    "float": "number",
    "monetary": "number",
    "boolean": "flag",
    "date": "day",
    "datetime": "moment",
    "many2one": "ref",
    "one2many": "refs",
    "many2many": "refs",
}
ALREADY_THERE = ("id", "write_date")


class SyncConfig(BaseModel):
    """One `[syncs.NAME]` table of the configuration file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str = ""
    model: str = Field(min_length=1, description="such as res.partner")
    fields: tuple[str, ...] = Field(min_length=1)
    domain: list[Any] = Field(default_factory=list, description="in Odoo's prefix notation")
    lookback_minutes: float = Field(
        default=15, gt=0, description="longer than the longest call of this Odoo"
    )
    page_rows: int = Field(default=2_000, ge=1, le=10_000)
    spared_rows: int = Field(
        default=100, ge=0, description="rows that a run may take away, besides a tenth of all"
    )


def define(name: str, config: SyncConfig, fields: Mapping[str, Mapping[str, Any]]) -> Definition:
    """The sync, given the model's fields as `fields_get` tells them.

    A many2one makes two columns: its id, and `…_name` as Odoo shows it. A model that archives also
    has its `active`. Raises `Misconfigured`, which names every field that cannot be mirrored.
    """
    wanted = [field for field in dict.fromkeys(config.fields) if field not in ALREADY_THERE]
    if "active" in fields and "active" not in wanted:
        wanted.append("active")
    wrong = [why for field in wanted if (why := _why_not(field, fields))]
    if wrong:
        raise Misconfigured("\n".join(f"syncs.{name}.fields: {why}" for why in wrong))
    columns = tuple(column for field in wanted for column in _columns(field, fields[field]["type"]))
    try:
        return Definition(
            name=name,
            title=config.title or name.replace("_", " "),
            model=config.model,
            domain=config.domain,
            columns=columns,
            lookback=timedelta(minutes=config.lookback_minutes),
            page=config.page_rows,
            spared=config.spared_rows,
        )
    except ValueError as error:
        raise Misconfigured(f"syncs.{error}") from error


def _why_not(field: str, fields: Mapping[str, Mapping[str, Any]]) -> str | None:
    if field not in fields:
        near = difflib.get_close_matches(field, fields, n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        return f"the model has no field {field!r}{hint}"
    kind = fields[field]["type"]
    return None if kind in KINDS else f"{field!r} is of the type {kind!r}, which is not mirrored"


def _columns(field: str, odoo_type: str) -> Iterator[Column]:
    kind = KINDS[odoo_type]
    yield Column(name=field, field=field, kind=kind)
    if kind == "ref":
        yield Column(name=f"{field}_name", field=field, kind="ref_name")
