"""Records of Odoo with what they lead to, over HTTP: one call for them, and one for each relation.

What is asked for is checked against the fields that the models have, which are remembered for some
minutes; the types of the fields say how their values look in JSON.
"""

from __future__ import annotations

import asyncio
import difflib
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from service import documents
from service.api import problems
from service.api.bodies import JsonRoute
from service.api.dependencies import CurrentRuntime, MayCall
from service.errors import InvalidInput, Problem
from service.odoo import errors
from service.odoo.prefetch import Prefetch, Relation, ids_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from service.odoo.client import Client
    from service.odoo.prefetch import Graph, Node
    from service.odoo.records import Domain, Reader, Record

router = APIRouter(prefix="/v1/prefetch", tags=["odoo"], route_class=JsonRoute)

MOST_RECORDS = 2_000
MOST_FIELDS = 200
MOST_RELATIONS = 50
MOST_LEVELS = 5
MOST_OBJECTS = 100_000
"""So many objects make an answer of some dozen megabytes."""
LARGEST_ID = 2**31 - 1
BY_ID = "id"
ORDER = re.compile(r"(\w+)(?: +(?:asc|desc))?", re.IGNORECASE | re.ASCII)
ALL_RECORDS: Mapping[str, Any] = {"active_test": False}
"""So that archived records are among those that a record leads to."""

FieldName = Annotated[str, Field(min_length=1, max_length=200)]
RecordId = Annotated[int, Field(ge=1, le=LARGEST_ID)]


class RelationRequest(BaseModel):
    """A field that leads to other records, and what is wanted of those."""

    model_config = ConfigDict(extra="forbid")

    field: FieldName = Field(
        description="a many2one, one2many or many2many of the records above",
        examples=["partner_id"],
    )
    model: FieldName | None = Field(
        default=None,
        description="the model that the field is expected to lead to; null: whichever it is",
    )
    fields: list[FieldName] = Field(
        max_length=MOST_FIELDS,
        description="their fields; each also has its id",
        examples=[["name", "vat"]],
    )
    relations: list[RelationRequest] = Field(
        default=[], max_length=MOST_RELATIONS, description="where they lead", examples=[[]]
    )


class PrefetchRequest(BaseModel):
    """Which records are wanted: either those of a search, or some by id."""

    model_config = ConfigDict(extra="forbid")

    connection: str = Field(max_length=200, description="which Odoo", examples=["main"])
    model: FieldName = Field(description="an Odoo model", examples=["purchase.order"])
    domain: list[Any] | None = Field(
        default=None,
        description=(
            "a search, in Odoo's prefix notation. As in Odoo, archived records are left out unless "
            "it mentions `active`"
        ),
        examples=[[["state", "=", "purchase"]]],
    )
    ids: list[RecordId] | None = Field(
        default=None,
        min_length=1,
        max_length=MOST_RECORDS,
        description="some records, in this order",
        examples=[None],
    )
    fields: list[FieldName] = Field(
        max_length=MOST_FIELDS,
        description="their fields; each also has its id",
        examples=[["name", "amount_total"]],
    )
    relations: list[RelationRequest] = Field(
        default=[],
        max_length=MOST_RELATIONS,
        description=f"where they lead: {MOST_RELATIONS} relations in {MOST_LEVELS} levels at most",
    )
    order: str = Field(
        default=BY_ID, max_length=200, description="of a search; pages need the order by id"
    )
    limit: int = Field(default=100, ge=1, le=MOST_RECORDS, description="of a search")
    after_id: int | None = Field(
        default=None, ge=0, le=LARGEST_ID, description="only records with a larger id"
    )


class PrefetchPage(BaseModel):
    """Records with what they lead to."""

    items: list[dict[str, Any]] = Field(
        description=(
            "A many2one is an object or null, a one2many or many2many a list of objects, each with "
            "its `id`. Numbers with a fraction are text, times are RFC 3339 in UTC, what is empty "
            "is null"
        ),
        examples=[
            [
                {
                    "id": 7,
                    "name": "P00007",
                    "amount_total": "1500.0",
                    "partner_id": {"id": 9, "name": "Transportes Aurora", "vat": None},
                }
            ]
        ],
    )
    next_cursor: int | None = Field(
        description="give it as `after_id` for the next page; null: no more, or not by id"
    )
    missing: dict[str, list[int]] = Field(
        description="ids that were named and that Odoo does not have, by model", examples=[{}]
    )
    calls: int = Field(
        description=(
            "calls of Odoo for the records: one, and one for each model of a level of relations; "
            "which fields there are is asked besides, once in some minutes"
        ),
        examples=[2],
    )


@dataclass(frozen=True)
class FieldShape:
    """A field as its model has it; `relation` is the model that it leads to, if any."""

    type: str
    relation: str | None = None

    @property
    def leads_to_one(self) -> bool:
        """Whether it leads to one record."""
        return self.type == "many2one"

    @property
    def leads_on(self) -> bool:
        """Whether it leads to other records."""
        return self.leads_to_one or self.type in {"one2many", "many2many"}


Shape = Mapping[str, FieldShape]


class Shapes:
    """The fields of models, remembered for each connection."""

    def __init__(self, seconds: float = 300.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._known: dict[tuple[str, str], tuple[float, Shape]] = {}

    async def of(self, odoo: Client, model: str) -> Shape:
        """The fields of a model by name; raises an `OdooError`."""
        key = (odoo.connection.name, model)
        until, shape = self._known.get(key, (0.0, {}))
        if until <= self._clock():
            fields = await odoo.fields_get(model, ["type", "relation"])
            shape = {
                name: FieldShape(one["type"], one.get("relation") or None)
                for name, one in fields.items()
            }
            self._known[key] = (self._clock() + self._seconds, shape)
        return shape


async def _shapes(request: Request) -> Shapes:
    shapes: Shapes = request.app.state.shapes
    return shapes


KnownShapes = Annotated[Shapes, Depends(_shapes)]


@router.post(
    "",
    operation_id="prefetch",
    summary="Records of Odoo with what they lead to",
    response_model=PrefetchPage,
    responses=problems.responses(404, 413, 422, 502, 504),
)
async def prefetch(
    body: PrefetchRequest, runtime: CurrentRuntime, shapes: KnownShapes, caller: MayCall
) -> Response:
    """Read records and their relations, in one call for each relation and one more.

    A record that several lead to is read once and shown with each of them.
    """
    caller.key.check_connection(body.connection)
    odoo = runtime.connections.client(body.connection)
    limit = runtime.settings.plan_limit.total_seconds()
    try:
        async with asyncio.timeout(limit):
            view = await _check(body, odoo, shapes)
            found = await _read(body, view, odoo)
    except TimeoutError as error:
        raise errors.TimedOut(f"Odoo was too slow for this within {limit:g} s") from error
    content = await asyncio.to_thread(_encode, found, view)
    return Response(content, media_type="application/json")


# -- what is asked for ---------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class View:
    """What is wanted of the records of a model: fields with their types, and where they lead."""

    model: str
    shape: Shape
    fields: Sequence[str]
    views: Mapping[str, View]

    @property
    def relations(self) -> tuple[Relation, ...]:
        """Where the records lead."""
        return tuple(
            Relation(
                field=name, model=view.model, fields=tuple(view.fields), relations=view.relations
            )
            for name, view in self.views.items()
        )


async def _check(body: PrefetchRequest, odoo: Client, shapes: Shapes) -> View:
    """What is wanted, which can be had; raises `InvalidInput`, which names each wrong field."""
    wrong = [*_wrong_bounds(body.relations), *_wrong_choice(body)]
    if wrong:
        raise InvalidInput(wrong)
    checked = _Checked(odoo, shapes)
    try:
        view = await checked.view(body.model, body)
    except errors.UnknownModel as error:
        message = f"Odoo has no model {body.model!r}"
        raise InvalidInput([Problem("model", message, "unknown_model")]) from error
    checked.wrong += _wrong_order(body.order, view)
    if checked.wrong:
        raise InvalidInput(checked.wrong)
    return view


class _Checked:
    """Finds the fields of a request in the models; `wrong` says what cannot be found."""

    def __init__(self, odoo: Client, shapes: Shapes) -> None:
        self.wrong: list[Problem] = []
        self._odoo = odoo
        self._shapes = shapes

    async def view(
        self, model: str, wanted: PrefetchRequest | RelationRequest, place: str = ""
    ) -> View:
        """What is wanted of a model, at its place in the body."""
        shape = await self._shapes.of(self._odoo, model)
        for number, name in enumerate(wanted.fields):
            if name not in shape:
                self._complain(f"{place}fields.{number}", *_no_field(model, name, shape))
        views: dict[str, View] = {}
        for number, relation in enumerate(wanted.relations):
            there = f"{place}relations.{number}."
            if self._leads_on(model, relation, shape, there, views):
                following = str(shape[relation.field].relation)
                views[relation.field] = await self.view(following, relation, there)
        fields = [name for name in dict.fromkeys(wanted.fields) if name not in views]
        return View(model=model, shape=shape, fields=fields, views=views)

    def _leads_on(
        self,
        model: str,
        relation: RelationRequest,
        shape: Shape,
        place: str,
        known: Mapping[str, View],
    ) -> bool:
        """Whether a relation can be followed; takes note when not."""
        name = relation.field
        if name not in shape:
            self._complain(f"{place}field", *_no_field(model, name, shape))
        elif not shape[name].leads_on:
            message = f"{model}.{name} is a {shape[name].type}, which leads to no record"
            self._complain(f"{place}field", message, "no_relation")
        elif relation.model not in {None, shape[name].relation}:
            message = f"{model}.{name} leads to {shape[name].relation}"
            self._complain(f"{place}model", message, "wrong_model")
        elif name in known:
            self._complain(f"{place}field", "is there twice", "duplicate")
        else:
            return True
        return False

    def _complain(self, field: str, message: str, code: str) -> None:
        self.wrong.append(Problem(field, message, code))


def _no_field(model: str, name: str, shape: Shape) -> tuple[str, str]:
    near = difflib.get_close_matches(name, shape, n=3)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return f"{model} has no field {name!r}{hint}", "unknown_field"


def _wrong_bounds(relations: Sequence[RelationRequest]) -> Iterator[Problem]:
    """Too many relations, or too many levels of them."""
    count, levels = 0, 0
    while relations:
        count += len(relations)
        levels += 1
        relations = [below for relation in relations for below in relation.relations]
    if count > MOST_RELATIONS:
        message = f"may be {MOST_RELATIONS} at most, those of relations included; these are {count}"
        yield Problem("relations", message, "too_long")
    if levels > MOST_LEVELS:
        message = f"may have {MOST_LEVELS} levels at most; these have {levels}"
        yield Problem("relations", message, "too_deep")


def _wrong_choice(body: PrefetchRequest) -> Iterator[Problem]:
    """What does not go together."""
    if (body.domain is None) == (body.ids is None):
        yield Problem("domain", "give either domain or ids", "domain_or_ids")
    if body.domain is not None and not _well_formed(body.domain):
        message = "must be conditions like [field, operator, value], with & | ! in front of them"
        yield Problem("domain", message, "invalid_domain")
    if body.ids is not None and body.order != BY_ID:
        yield Problem("order", "goes with a domain: records by id keep their order", "only_domain")
    if body.after_id is not None and (body.ids is not None or body.order != BY_ID):
        yield Problem("after_id", "goes with a domain and the order by id", "only_by_id")


def _well_formed(domain: Domain) -> bool:
    """Whether a domain is one in prefix notation; what it says is left to Odoo."""
    open_places = 0
    for item in domain:
        open_places = open_places or 1  # conditions side by side must all hold
        match item:
            case "&" | "|":
                open_places += 1
            case "!":
                pass
            case [str() | int(), str(), _]:
                open_places -= 1
            case _:
                return False
    return open_places == 0


def _wrong_order(order: str, view: View) -> Iterator[Problem]:
    for part in order.split(","):
        named = ORDER.fullmatch(part.strip())
        if named is None:
            message = "must be names of fields between commas, each with asc or desc or neither"
            yield Problem("order", message, "invalid_order")
        elif named[1] not in view.shape:
            yield Problem("order", *_no_field(view.model, named[1], view.shape))


# -- reading -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Found:
    """What was read of Odoo."""

    graph: Graph
    missing: Mapping[str, Sequence[int]]
    next_cursor: int | None
    calls: int


class _Counted:
    """A reader whose calls are counted, and whose records may not be too many."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._records = 0
        self.calls = 0

    async def search_read(
        self,
        model: str,
        domain: Domain,
        fields: Sequence[str],
        *,
        order: str = BY_ID,
        limit: int | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> list[Record]:
        self.calls += 1
        return await self._reader.search_read(
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
        self._records += len(ids)
        if self._records > MOST_OBJECTS:
            raise _too_many()
        self.calls += 1
        return await self._reader.read(model, ids, fields, context=context)


def _too_many() -> InvalidInput:
    message = f"these records lead to more than {MOST_OBJECTS} others: ask for fewer at a time"
    return InvalidInput([Problem("relations", message, "too_many_records")])


async def _read(body: PrefetchRequest, view: View, odoo: Reader) -> Found:
    """The records and what they lead to; raises an `OdooError`."""
    counted = _Counted(odoo)
    records, next_cursor = await _records(body, view, counted)
    graph = await Prefetch(counted, view.relations, context=ALL_RECORDS).load(records)
    lost = {*(body.ids or ())} - {record.id for record in records}
    missing = {**graph.missing, body.model: [*graph.missing.get(body.model, ()), *lost]}
    return Found(
        graph=graph,
        missing={model: sorted({*ids}) for model, ids in missing.items() if ids},
        next_cursor=next_cursor,
        calls=counted.calls,
    )


async def _records(
    body: PrefetchRequest, view: View, odoo: Reader
) -> tuple[list[Record], int | None]:
    """The records themselves, and the id after which there are more."""
    fields = [*view.fields, *view.views]
    if body.ids is not None:
        return await odoo.read(body.model, body.ids, fields, context=ALL_RECORDS), None
    try:
        found = await odoo.search_read(
            body.model,
            _domain(body, view),
            fields,
            order=body.order,
            limit=body.limit + 1,
            context=ALL_RECORDS,
        )
    except (errors.InvalidField, errors.InvalidCall) as error:
        message = f"Odoo refuses this search: {error.message}"
        raise InvalidInput([Problem("domain", message, "refused_search")]) from error
    records = found[: body.limit]
    more = len(found) > body.limit and body.order == BY_ID
    return records, records[-1].id if more else None


def _domain(body: PrefetchRequest, view: View) -> Domain:
    """The search, with what Odoo itself would add to it if lines were not to be seen archived."""
    domain: Domain = list(body.domain or ())
    if "active" in view.shape and not any(_names_active(item) for item in domain):
        domain.append(["active", "=", True])
    if body.after_id is not None:
        domain.append(["id", ">", body.after_id])
    return domain


def _names_active(item: Any) -> bool:
    return isinstance(item, list) and item[0] == "active"


# -- the answer ----------------------------------------------------------------------------------


def _encode(found: Found, view: View) -> bytes:
    shown = _Shown()
    return msgspec.json.encode(
        {
            "items": [shown.item(node, view) for node in found.graph.nodes],
            "next_cursor": found.next_cursor,
            "missing": found.missing,
            "calls": found.calls,
        }
    )


class _Shown:
    """Objects of one answer. Records that lead to each other could make it endlessly long."""

    def __init__(self) -> None:
        self._objects = 0

    def item(self, node: Node, view: View) -> dict[str, Any]:
        """A record as a JSON object; raises `InvalidInput` when there are too many."""
        self._objects += 1
        if self._objects > MOST_OBJECTS:
            raise _too_many()
        shown: dict[str, Any] = {"id": node.record.id}
        for name in view.fields:
            shown[name] = _value(node.record, name, view.shape[name].type)
        for name, below in view.views.items():
            shown[name] = self._below(node, name, below, one=view.shape[name].leads_to_one)
        return shown

    def _below(self, node: Node, name: str, view: View, *, one: bool) -> Any:
        if not one:
            return [self.item(each, view) for each in node.many(name)]
        following = node.one(name)
        return None if following is None else self.item(following, view)


def _value(record: Record, name: str, kind: str) -> Any:  # noqa: PLR0911  one line for a type
    """A value as it looks in JSON, by the type of its field."""
    match kind:
        case "boolean":
            return record.flag(name)
        case "integer":
            return int(record.number(name))
        case "float" | "monetary":
            return format(record.number(name), "f")
        case "date":
            return record.day(name)
        case "datetime":
            return record.moment(name)
        case "many2one":
            one = record.ref(name)
            return None if one is None else {"id": one, "display_name": record.ref_name(name)}
        case "one2many" | "many2many":
            return [{"id": one} for one in ids_of(record, name)]
        case "char" | "text" | "html" | "selection" | "reference" | "binary":
            return record.text(name)
        case _:
            return documents.plain(record.values.get(name)) or None
