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
from service.errors import KeyRefused, RateLimited, Unavailable
from service.keys import Key
from service.posting.step import Actor
from service.rates import Rate

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
            except (KeyRefused, RateLimited, SQLAlchemyError, Unavailable, OSError) as error:
                await problems.of_error(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)


async def _caller(scope: Scope) -> Caller:
    """Raise `KeyRefused` unless the request has a valid key, `RateLimited` after too many others.

    A key that was valid here before is not refused for what else comes from its address.
    """
    runtime: Runtime = scope["state"]["runtime"]
    headers = Headers(scope=scope)
    peer = scope["client"][0] if scope.get("client") else None
    ip = client_address(peer, headers, runtime.settings.trusted_proxies)
    try:
        secret = _secret(headers)
        if not runtime.keys.remembers(secret):
            await _check_address(runtime, ip)
        return Caller(key=await runtime.keys.recognise(secret), ip=ip)
    except KeyRefused as error:
        log.info("key_refused", reason=error.reason, ip=ip)
        if error.reason != "missing":  # which costs nothing, and is no guess
            await runtime.rates.take(_bucket(ip), _refused_keys(runtime))
        raise


async def _check_address(runtime: Runtime, ip: str | None) -> None:
    """Raise `RateLimited` when too many wrong keys came from an address."""
    quota = await runtime.rates.look(_bucket(ip), _refused_keys(runtime))
    if not quota.granted:
        raise RateLimited("an address that sent wrong API keys", quota.wait_seconds)


def _bucket(ip: str | None) -> str:
    return f"refused:{ip}"


def _refused_keys(runtime: Runtime) -> Rate:
    per_minute = runtime.settings.refused_keys_per_minute
    return Rate(per_second=per_minute / 60, burst=per_minute)


def _secret(headers: Headers) -> str:
    scheme, secret = get_authorization_scheme_param(headers.get("authorization"))
    if scheme.lower() != "bearer" or not secret:
        raise KeyRefused("missing")
    return secret
