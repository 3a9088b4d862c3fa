"""Syncs without code: a model and its fields in the configuration file make a table and a sync."""

from __future__ import annotations

import difflib
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import BaseModel, ConfigDict, Field

from service.errors import Misconfigured
from service.odoo.prefetch import Relation
from service.sync.definition import Column, Definition, Files

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from service.sync.definition import ColumnKind

NAME = r"^[a-z][a-z0-9_]{0,39}$"
"""Names of syncs are names of tables, and begin the names of others."""

LONGEST_COLUMN = 58

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
LEADS_TO_ONE = ("many2one",)
LEADS = ("many2one", "one2many", "many2many")
ATTRIBUTES = ("type", "relation")

Shape = dict[str, dict[str, Any]]


class FieldsSource(Protocol):
    """Where the fields of a model are told."""

    async def fields_get(self, model: str, attributes: Sequence[str]) -> Shape:
        """The fields by name, each with its attributes."""
        ...


class SyncConfig(BaseModel):
    """One `[syncs.NAME]` table of the configuration file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str | None = Field(default=None, min_length=1)
    model: str = Field(min_length=1, description="an Odoo model, such as res.partner")
    fields: tuple[str, ...] = Field(
        min_length=1, description="of the model, or over many2one fields: order_id.partner_id.name"
    )
    domain: list[Any] = Field(default_factory=list, description="in Odoo's prefix notation")
    key: str = Field(default="id", description="the field by which single rows are asked for")
    follows: tuple[str, ...] = Field(
        default=(), description="ways to related records whose changes count: order_id.partner_id"
    )
    files: tuple[str, ...] = Field(default=(), description="binary fields, kept in NAME_file")
    history: bool = Field(default=False, description="keep every change in NAME_change")
    lookback_minutes: float = Field(
        default=15, gt=0, description="longer than the longest call of this Odoo"
    )
    page_rows: int = Field(default=2_000, ge=1, le=10_000)
    spared_rows: int = Field(
        default=100, ge=0, description="rows that a run may take away, besides a tenth of all"
    )


async def define(name: str, config: SyncConfig, odoo: FieldsSource) -> Definition:
    """The sync, checked against what `fields_get` tells of its models.

    A many2one makes two columns: its id, and `…_name` as Odoo shows it. A field over others makes a
    column `order_id__partner_id__name`. A model that archives also has its `active`. Raises
    `Misconfigured`, which names every field that cannot be mirrored.
    """
    plan = _Plan(name, odoo)
    wanted = [path for path in dict.fromkeys(config.fields) if path not in ALREADY_THERE]
    if "active" in await plan.shape(config.model) and "active" not in wanted:
        wanted.append("active")
    columns = [column for path in wanted for column in await plan.columns(config.model, path)]
    follows = {way: await plan.leads_to(config.model, way) for way in config.follows}
    for file in config.files:
        await plan.check_file(config.model, file)
    if plan.wrong:
        raise Misconfigured("\n".join(plan.wrong))
    try:
        return Definition(
            name=name,
            title=config.title or name.replace("_", " "),
            model=config.model,
            domain=config.domain,
            columns=tuple(columns),
            relations=plan.root.relations(),
            follows=follows,
            files=Files(fields=config.files) if config.files else None,
            key=config.key,
            history=config.history,
            lookback=timedelta(minutes=config.lookback_minutes),
            page=config.page_rows,
            spared=config.spared_rows,
        )
    except ValueError as error:
        raise Misconfigured(f"syncs.{error}") from error


@dataclass
class _Branch:
    """What is read of the records of `model`, and where they lead."""

    model: str = ""
    fields: dict[str, None] = field(default_factory=dict)
    branches: defaultdict[str, _Branch] = field(default_factory=lambda: defaultdict(_Branch))

    def relations(self) -> tuple[Relation, ...]:
        """The branches as relations."""
        return tuple(
            Relation(
                field=name,
                model=branch.model,
                fields=tuple(branch.fields),
                relations=branch.relations(),
            )
            for name, branch in self.branches.items()
        )


class _Plan:
    """Finds the fields of a sync in the models; `wrong` says what cannot be found."""

    def __init__(self, name: str, odoo: FieldsSource) -> None:
        self.root = _Branch()
        self.wrong: list[str] = []
        self._name = name
        self._odoo = odoo
        self._shapes: dict[str, Shape] = {}

    async def shape(self, model: str) -> Shape:
        """The fields of a model."""
        if model not in self._shapes:
            self._shapes[model] = await self._odoo.fields_get(model, ATTRIBUTES)
        return self._shapes[model]

    async def columns(self, model: str, path: str) -> list[Column]:
        """The columns of a field, which is entered among what is read."""
        *way, last = path.split(".")
        model_there = await self._walk("fields", model, path, way, LEADS_TO_ONE)
        if model_there is None:
            return []
        shape = await self.shape(model_there)
        kind = KINDS.get(shape[last]["type"]) if last in shape else None
        if kind is None:
            self._complain("fields", path, _why_not(model_there, last, shape))
            return []
        self._enter(model, way, last)
        name = path.replace(".", "__")
        if len(name) > LONGEST_COLUMN:
            self._complain("fields", path, f"a name of a column may have {LONGEST_COLUMN} letters")
        made = [Column(name=name, field=path, kind=kind)]
        if kind == "ref":
            made.append(Column(name=f"{name}_name", field=path, kind="ref_name"))
        return made

    async def leads_to(self, model: str, path: str) -> str:
        """The model that a way leads to."""
        return await self._walk("follows", model, path, path.split("."), LEADS) or ""

    async def check_file(self, model: str, name: str) -> None:
        """Take note of a field that holds no file."""
        shape = await self.shape(model)
        if name not in shape or shape[name]["type"] != "binary":
            why = f"{name!r} holds no file" if name in shape else _why_not(model, name, shape)
            self._complain("files", name, why)

    async def _walk(
        self, where: str, model: str, path: str, way: Sequence[str], allowed: Sequence[str]
    ) -> str | None:
        """The model at the end of a way, each step of which is a field that leads on."""
        for step in way:
            shape = await self.shape(model)
            if step not in shape:
                self._complain(where, path, _why_not(model, step, shape))
                return None
            if shape[step]["type"] not in allowed:
                one = " to one record" if allowed == LEADS_TO_ONE else ""
                kind = shape[step]["type"]
                self._complain(where, path, f"{step!r} of {model} is a {kind}: no way{one}")
                return None
            model = str(shape[step]["relation"])
        return model

    def _enter(self, model: str, way: Sequence[str], last: str) -> None:
        branch = self.root
        for step in way:
            model = str(self._shapes[model][step]["relation"])
            branch = branch.branches[step]
            branch.model = model
        branch.fields[last] = None

    def _complain(self, where: str, path: str, why: str) -> None:
        way = f"{path}: " if "." in path else ""
        self.wrong.append(f"syncs.{self._name}.{where}: {way}{why}")


def _why_not(model: str, name: str, shape: Shape) -> str:
    if name in shape:
        return f"{name!r} is of the type {shape[name]['type']!r}, which is not mirrored"
    near = difflib.get_close_matches(name, shape, n=3)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return f"{model} has no field {name!r}{hint}"
