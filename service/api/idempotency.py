"""The Idempotency-Key header: a repeated request gets the first one's answer.

A router whose `route_class` is `OnceRoute` takes it on each of its POSTs; nothing else is to be
done there. What was carried out is kept: answers of 2xx and 409. A request that was refused before
anything was done, and one that failed, leave the key free.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, Request, Response
from fastapi.routing import APIRoute

from service import idempotency
from service.api import problems
from service.api.bodies import FORM, BodyRefused, FormRoute, JsonRoute
from service.errors import Refused
from service.idempotency import Answer, Ticket

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping

    from starlette.types import Message, Receive

    Handle = Callable[[Request], Coroutine[Any, Any, Response]]

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
KEPT_HEADERS = ("content-type", "location", "etag")
SECRET = "no-store"  # noqa: S105  a value of Cache-Control
CONFLICT = 409

LONGEST = 255
_QUOTED = re.compile(r'"((?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')
_BARE = re.compile(r"[\x21\x23-\x2b\x2d-\x3a\x3c-\x7e]+")
_BOUNDARY = re.compile(rb'boundary="?([^";,\s]+)', re.IGNORECASE)

PARAMETER: Mapping[str, Any] = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": LONGEST + 2},
    "description": (
        "A name for this request, new for each one, such as a UUID: sent again with the same key "
        "and body it gets the first one's answer, and nothing is done twice. Kept for a day"
    ),
    "example": '"8e03978e-40d5-43dd-bc93-6894a57f9324"',
}
REPLAYED_HEADER: Mapping[str, Any] = {
    "schema": {"type": "string", "enum": ["true"]},
    "description": f"this is the answer to an earlier request with the same {HEADER}",
}


async def ticket(request: Request) -> Ticket | None:
    """The key of a request, with what it asks for; raises `BodyRefused` for a malformed one."""
    given = request.headers.getlist(HEADER)
    if not given:
        return None
    return Ticket(
        owner=request.state.caller.key.id,
        key=_read(given),
        fingerprint=_fingerprint(request, await request.body()),
    )


CurrentTicket = Annotated[Ticket | None, Depends(ticket)]
"""The request's key, for an endpoint that keeps the answer in the transaction of what it does."""


def _read(given: list[str]) -> str:
    """A key, as a string of RFC 9651 or just as it is."""
    text = given[0].strip()
    quoted = _QUOTED.fullmatch(text)
    key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else text
    well_formed = quoted or _BARE.fullmatch(text)
    if len(given) > 1 or not well_formed or not 0 < len(key) <= LONGEST:
        message = f"must be one key of 1 to {LONGEST} visible ASCII characters"
        raise BodyRefused(message, "malformed_key", HEADER.lower())
    return key


def _fingerprint(request: Request, body: bytes) -> str:
    """A digest of what is asked for. The boundary of a form is another each time it is sent."""
    media_type = request.headers.get("content-type", "").encode("latin-1")
    boundary = _BOUNDARY.search(media_type)
    if boundary and media_type.lower().startswith(FORM.encode()):
        body = body.replace(boundary[1], b"")
    target = f"{request.method} {request.url.path}?{request.url.query}\n"
    return hashlib.sha256(target.encode() + body).hexdigest()


def answer_of(response: Response) -> Answer:
    """An answer as it is kept. One that no cache may store is kept without its body."""
    secret = response.headers.get("cache-control") == SECRET
    kept = {name: response.headers[name] for name in KEPT_HEADERS if name in response.headers}
    body = None if secret else bytes(response.body)
    return Answer(status=response.status_code, headers=kept, body=body)


def response_of(answer: Answer) -> Response:
    """A kept answer as it is sent."""
    headers = {**answer.headers, **({REPLAYED: "true"} if answer.replayed else {})}
    return Response(answer.body, answer.status, headers)


def _keeps(status: int) -> bool:
    """Whether something was carried out, or found to be so already."""
    return status // 100 == 2 or status == CONFLICT  # noqa: PLR2004  the class of successes


class _Once(APIRoute):
    """A route whose POST takes an Idempotency-Key."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        if "POST" in (options.get("methods") or ()):
            options |= _described(**options)
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> Handle:
        """The handler, asked once for each key."""
        handle = super().get_route_handler()
        takes_ticket = any(needed.call is ticket for needed in self.dependant.dependencies)
        if "POST" not in (self.methods or ()) or takes_ticket:
            return handle

        async def handle_once(request: Request) -> Response:
            asked = await ticket(request)
            if asked is None:
                return await handle(request)
            body = await request.body()
            again = Request(request.scope, _replaying(body, request.receive))
            return await _once(asked, request.state.runtime.idempotency, lambda: handle(again))

        return handle_once


class OnceRoute(_Once, JsonRoute):
    """A JSON route whose POST takes an Idempotency-Key."""


class OnceFormRoute(_Once, FormRoute):
    """A route of forms whose POST takes an Idempotency-Key."""


def _described(
    *,
    responses: Mapping[int | str, Any] | None = None,
    status_code: int | None = None,
    openapi_extra: Mapping[str, Any] | None = None,
    **_: Any,
) -> dict[str, Any]:
    """What the OpenAPI document says of a POST besides."""
    described = {**problems.responses(CONFLICT, 422), **(responses or {})}
    for status in {status_code or 200, *described}:
        if isinstance(status, int) and _keeps(status):
            before = described.get(status, {})
            headers = {**before.get("headers", {}), REPLAYED: REPLAYED_HEADER}
            described[status] = {**before, "headers": headers}
    extra = dict(openapi_extra or {})
    others = [one for one in extra.get("parameters", []) if one["name"] != HEADER]
    return {
        "responses": described,
        "openapi_extra": {**extra, "parameters": [*others, dict(PARAMETER)]},
    }


def _replaying(body: bytes, receive: Receive) -> Receive:
    """What a request that was read whole still has to say, once more from the beginning."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return waiting.pop() if waiting else await receive()

    return receive_again


async def _once(
    asked: Ticket, records: idempotency.Idempotency, handle: Callable[[], Awaitable[Response]]
) -> Response:
    before = await records.claim(asked)
    if before is not None:
        return response_of(before)
    try:
        async with records.renewing(asked):
            response = await _answered(handle)
    except Exception:
        await records.release(asked)
        raise
    if _keeps(response.status_code):
        await records.settle(asked, answer_of(response))
    else:
        await records.release(asked)
    return response


async def _answered(handle: Callable[[], Awaitable[Response]]) -> Response:
    """An answer, also where it tells that what was asked for is so already."""
    try:
        return await handle()
    except Refused as error:
        if problems.status_of(error) != CONFLICT:
            raise
        return problems.of_error(error)
