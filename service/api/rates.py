"""How much a caller, and this process, may be asked: what is too much is refused with 429.

The fields are those of draft-ietf-httpapi-ratelimit-headers: `RateLimit-Policy` says what the key
may do, `RateLimit` what is left of it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from service.api import problems
from service.api.auth import OPEN_PATHS
from service.errors import RateLimited
from service.rates import Rate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from service.api.auth import Caller
    from service.rates import Quota
    from service.runtime import Runtime
    from service.settings import Settings

OVERLOADED_SECONDS = 1
"""When to try again: a process that holds is through with what it has by then."""


FIELDS: Mapping[str, Any] = {
    "RateLimit": {
        "description": "what is left: r requests at once; all of them after t seconds",
        "schema": {"type": "string"},
        "example": '"key";r=1999;t=1',
    },
    "RateLimit-Policy": {
        "description": "what the API key may do: q requests at once, as many again in w seconds",
        "schema": {"type": "string"},
        "example": '"key";q=2000;w=2',
    },
}
WITHOUT_FIELDS = frozenset({"401", "503"})
"""Answers that may be given before the key is known."""


def describe(document: dict[str, Any]) -> None:
    """Name the fields in an OpenAPI document, in every answer that has them."""
    document["components"]["headers"] = dict(FIELDS)
    for path in document["paths"].keys() - OPEN_PATHS:
        for operation in document["paths"][path].values():
            for status, response in operation["responses"].items():
                if status not in WITHOUT_FIELDS:
                    response["headers"] = response.get("headers", {}) | {
                        name: {"$ref": f"#/components/headers/{name}"} for name in FIELDS
                    }


class RateLimit:
    """Counts the requests of each API key; to be asked after `auth.Authentication`."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._rate = Rate(
            per_second=settings.rate_limit_per_second, burst=settings.rate_limit_burst
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it; either answer says what is left."""
        caller: Caller | None = scope.get("state", {}).get("caller")
        if scope["type"] != "http" or caller is None:
            await self._app(scope, receive, send)
            return
        runtime: Runtime = scope["state"]["runtime"]
        quota = await runtime.rates.take(f"key:{caller.key.id}", self._rate_of(caller))
        fields = _fields(quota)

        async def send_with_fields(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *fields]
            await send(message)

        if quota.granted:
            await self._app(scope, receive, send_with_fields)
        else:
            refusal = problems.of_error(RateLimited("this API key", quota.wait_seconds))
            await refusal(scope, receive, send_with_fields)

    def _rate_of(self, caller: Caller) -> Rate:
        own = caller.key.requests_per_second
        return self._rate if own is None else _own(own)


def _own(per_second: float) -> Rate:
    """The rate of a key that has its own: twice as many at once."""
    return Rate(per_second=per_second, burst=math.ceil(2 * per_second))


def _fields(quota: Quota) -> list[tuple[bytes, bytes]]:
    policy = f'"key";q={quota.rate.burst};w={quota.rate.window_seconds}'
    left = f'"key";r={quota.remaining};t={quota.full_seconds}'
    return [(b"ratelimit-policy", policy.encode()), (b"ratelimit", left.encode())]


class Admission:
    """Lets in so many requests as this process carries out without keeping them waiting.

    A queue that grows makes every answer late, and those that come first are given up by their
    callers. A request has its place until its answer begins, so that event streams take none.
    """

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app = app
        self._most = most
        self._inside = 0
        self._refusal = problems.response(
            429,
            "overloaded",
            "This process has as many requests as it can carry out; try again shortly.",
            headers={"Retry-After": str(OVERLOADED_SECONDS)},
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it before anything of it is looked at."""
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, send)
        elif self._inside >= self._most:
            await self._refusal(scope, receive, send)
        else:
            await self._admit(scope, receive, send)

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._inside += 1
        answered = False

        def leave() -> None:
            nonlocal answered
            self._inside -= not answered
            answered = True

        async def send_and_leave(message: Message) -> None:
            leave()
            await send(message)

        try:
            await self._app(scope, receive, send_and_leave)
        finally:
            leave()
