"""Who asks: nothing but `/healthz` is answered without a valid API key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from fastapi.security.utils import get_authorization_scheme_param
from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import Headers

from service.api import problems
from service.api.addresses import client_address
from service.errors import KeyRefused, Unavailable
from service.keys import Key
from service.posting.step import Actor

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from service.runtime import Runtime

log = structlog.get_logger()

OPEN_PATHS = frozenset({"/healthz"})


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who asks, with which key, and from where."""

    key: Key
    ip: str | None

    @property
    def actor(self) -> Actor:
        """The caller as the audit names it."""
        return Actor(name=self.key.name, ip=self.ip)


class Authentication:
    """Asks for the key before anything of a request is looked at, routes and bodies included.

    No route can be forgotten this way, and a stranger learns neither which there are nor makes the
    server read a body. What the key must allow is said by each route.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its caller, or refuse it."""
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            try:
                scope["state"]["caller"] = await _caller(scope)
            except (KeyRefused, SQLAlchemyError, Unavailable, OSError) as error:
                await problems.of_error(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)


async def _caller(scope: Scope) -> Caller:
    """Raise `KeyRefused` unless the request has a valid key."""
    runtime: Runtime = scope["state"]["runtime"]
    headers = Headers(scope=scope)
    peer = scope["client"][0] if scope.get("client") else None
    ip = client_address(peer, headers, runtime.settings.trusted_proxies)
    try:
        return Caller(key=await runtime.keys.recognise(_secret(headers)), ip=ip)
    except KeyRefused as error:
        log.info("key_refused", reason=error.reason, ip=ip)
        raise


def _secret(headers: Headers) -> str:
    scheme, secret = get_authorization_scheme_param(headers.get("authorization"))
    if scheme.lower() != "bearer" or not secret:
        raise KeyRefused("missing")
    return secret
