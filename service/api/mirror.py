"""Mirrors over HTTP: what was synced, in pages or as one stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from pydantic import BaseModel, Field
from starlette.responses import StreamingResponse

from service.api import problems
from service.api.bodies import Text
from service.api.dependencies import CurrentRuntime, MayRead, SyncName
from service.sync.rows import MOST_CONDITIONS, Wanted, read_conditions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from service.sync.rows import Row

router = APIRouter(prefix="/v1/mirror", tags=["mirror"])

MOST_ROWS = 2_000
LARGEST_ID = 2**63 - 1
NDJSON = "application/x-ndjson"


class RowPage(BaseModel):
    """Rows of a mirror, by id."""

    items: list[dict[str, Any]] = Field(
        description="numbers with a fraction are text, times are RFC 3339 in UTC"
    )
    next_cursor: int | None = Field(description="give it as `cursor` for the next page")


class MirrorList(BaseModel):
    """The mirrors that there are."""

    items: list[str]


_CONDITIONS = (
    "`column:operator:value`, all of which must hold. Operators: eq, ne, lt, le, gt, ge; like, "
    "with % for any letters; in, with commas between values; has, for an item of a list; null, "
    "with true or false."
)
_ROWS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": f"A page, or with `Accept: {NDJSON}` all rows, one a line",
        "content": {NDJSON: {"schema": {"type": "string"}}},
    }
}


@router.get("", operation_id="list_mirrors", summary="The mirrors", responses=problems.responses())
async def list_mirrors(runtime: CurrentRuntime, _: MayRead) -> MirrorList:
    """The names of all mirrors: those of the syncs that ran once."""
    return MirrorList(items=await runtime.rows.names())


@router.get(
    "/{name}",
    operation_id="list_mirror_rows",
    summary="Rows of a mirror",
    response_model=RowPage,
    responses={**problems.responses(404, 422), **_ROWS},
)
async def list_mirror_rows(
    name: SyncName,
    connection: Annotated[str, Query(max_length=200, examples=["main"])],
    runtime: CurrentRuntime,
    caller: MayRead,
    where: Annotated[
        list[Text] | None,
        Query(max_length=MOST_CONDITIONS, description=_CONDITIONS, examples=[["id:ge:1"]]),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_ROWS)] = 200,
    cursor: Annotated[int, Query(ge=0, le=LARGEST_ID)] = 0,
    accept: Annotated[str, Header(include_in_schema=False)] = "",
) -> Response:
    """By id, in pages; as NDJSON everything above `cursor` in one stream, and no `limit`.

    The stream is read page by page: a row that is written meanwhile may be seen before or after.
    """
    caller.key.check_connection(connection)
    wanted = Wanted(
        name=name, connection=connection, conditions=read_conditions(where or ()), after=cursor
    )
    if NDJSON in accept:
        pages = runtime.rows.all(wanted)
        first: list[Row] = await anext(pages, [])
        return StreamingResponse(_lines(first, pages), media_type=NDJSON)
    rows = await runtime.rows.page(wanted, limit + 1)
    shown = ",".join(row.json for row in rows[:limit])
    following = str(rows[limit - 1].id) if len(rows) > limit else "null"
    body = f'{{"items":[{shown}],"next_cursor":{following}}}'
    return Response(body, media_type="application/json")


async def _lines(first: list[Row], pages: AsyncIterator[list[Row]]) -> AsyncIterator[str]:
    page = first
    while page:
        yield "".join(f"{row.json}\n" for row in page)
        page = await anext(pages, [])
