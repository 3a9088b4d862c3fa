"""Bodies of requests: what is no JSON, and texts that can be stored nowhere, are refused here."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

from fastapi import Request
from fastapi.routing import APIRoute
from pydantic import AfterValidator
from pydantic_core import PydanticCustomError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from service.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from fastapi import Response
    from starlette.types import Scope

NUL = "\x00"
FORM = "multipart/form-data"
_SUSPICIOUS = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
"""Escapes that may stand for NUL or for half a character; unescaped, neither gets this far."""


class BodyRefused(HTTPException):
    """The body cannot be read; `problem` names the field."""

    def __init__(self, message: str, code: str, field: str = "body") -> None:
        super().__init__(422, message)
        self.problem = Problem(field, message, code)


def read_json(body: bytes) -> Any:
    """The document in a body; raises `BodyRefused`."""
    try:
        text = body.decode("utf-8-sig")
        document = json.loads(text, parse_constant=_no_number)
    except UnicodeDecodeError as error:
        raise BodyRefused(
            f"is not UTF-8: byte {error.start} cannot be read", "invalid_utf8"
        ) from error
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise BodyRefused(f"is not JSON: {error.msg} at {place}", "json_invalid") from error
    except ValueError as error:
        raise BodyRefused("holds a number that is none, or too long", "json_invalid") from error
    except RecursionError as error:
        raise BodyRefused("is nested too deeply", "too_deep") from error
    if _SUSPICIOUS.search(text):
        _check_texts(document)
    return document


def _no_number(name: str) -> NoReturn:
    raise ValueError(name)


def _check_texts(document: Any) -> None:
    for path, text in _texts(document):
        if not storable(text):
            raise BodyRefused(
                "holds the character NUL or half of a surrogate pair, which cannot be stored",
                "unstorable_text",
                ".".join(path) or "body",
            )


def _texts(document: Any) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every text of a document and where it stands; a name belongs to the object that has it."""
    waiting: list[tuple[tuple[str, ...], Any]] = [((), document)]
    while waiting:
        path, value = waiting.pop()
        match value:
            case str():
                yield path, value
            case list():
                waiting += [((*path, str(place)), item) for place, item in enumerate(value)]
            case dict():
                for name, item in value.items():
                    yield path, name
                    waiting.append(((*path, name), item))


def storable(text: str) -> bool:
    """Whether PostgreSQL can store a text, as such and inside a document."""
    try:
        return NUL.encode() not in text.encode()
    except UnicodeEncodeError:
        return False


def _storable(text: str) -> str:
    if not storable(text):
        raise PydanticCustomError("unstorable_text", "holds the character NUL")
    return text


Text = Annotated[str, AfterValidator(_storable)]
"""A text in a query."""


class _JsonRequest(Request):
    async def json(self) -> Any:
        """The body as `read_json` takes it."""
        return read_json(await self.body())


class FormRoute(APIRoute):
    """A route that takes forms, and leaves its path to another one for anything else."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether the request is this route's."""
        media_type = dict(scope["headers"]).get(b"content-type", b"")
        if not media_type.lower().startswith(FORM.encode()):
            return Match.NONE, {}
        return super().matches(scope)


class JsonRoute(APIRoute):
    """A route that reads JSON bodies with `read_json`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler of FastAPI, given another request."""
        handle = super().get_route_handler()

        async def handle_json(request: Request) -> Response:
            return await handle(_JsonRequest(request.scope, request.receive))

        return handle_json
