"""Who asks: nothing but `/healthz` is answered without a valid API key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi.security.utils import get_authorization_scheme_param
from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import Headers

from service.api import problems
from service.errors import Unavailable
from service.posting.step import Actor

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from service.runtime import Runtime

OPEN_PATHS = frozenset({"/healthz"})


class Authentication:
    """Asks for the key before anything of a request is looked at, routes and bodies included.

    No route can be forgotten this way, and a stranger learns neither which there are nor makes the
    server read a body.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its actor, or refuse it."""
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            try:
                actor = await _actor(scope)
            except (SQLAlchemyError, Unavailable, OSError) as error:
                await problems.of_error(error)(scope, receive, send)
                return
            if actor is None:
                await _refusal()(scope, receive, send)
                return
            scope["state"]["actor"] = actor
        await self._app(scope, receive, send)


async def _actor(scope: Scope) -> Actor | None:
    runtime: Runtime = scope["state"]["runtime"]
    scheme, secret = get_authorization_scheme_param(Headers(scope=scope).get("authorization"))
    key = await runtime.keys.recognise(secret) if scheme.lower() == "bearer" and secret else None
    client = scope.get("client")
    return Actor(name=key.name, ip=client[0] if client else None) if key else None


def _refusal() -> problems.ProblemResponse:
    return problems.response(
        401,
        "unauthenticated",
        "Send a valid API key: Authorization: Bearer …",
        headers={"WWW-Authenticate": "Bearer"},
    )
