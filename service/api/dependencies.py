"""What endpoints need, each in one word."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Path, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer, SecurityScopes

from service.api.auth import Caller
from service.api.stream import Draining
from service.keys import Scope
from service.runtime import Runtime
from service.sync.generic import NAME

_bearer = HTTPBearer(
    auto_error=False,
    description=(
        "An API key, made by `eclusa keys create` or `create_key`. Each operation names the scope "
        "that the key must have; `admin` implies all. A key may be limited to some connections."
    ),
)


# All of these are coroutines: FastAPI runs plain functions in threads, which costs more than what
# they do.


async def _runtime(request: Request) -> Runtime:
    runtime: Runtime = request.state.runtime
    return runtime


async def _draining(request: Request) -> Draining:
    draining: Draining = request.app.state.draining
    return draining


async def _allowed(
    request: Request,
    needed: SecurityScopes,
    _: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Caller:
    """The caller that `service.api.auth` recognised; raises `InsufficientScope`.

    `_bearer` is for the OpenAPI document.
    """
    caller: Caller = request.state.caller
    for scope in needed.scopes:
        caller.key.check_scope(scope)
    return caller


def _needs(scope: Scope) -> Any:
    return Security(_allowed, scopes=[scope])


SyncName = Annotated[str, Path(pattern=NAME, description="the sync's name", examples=["cte"])]
CurrentRuntime = Annotated[Runtime, Depends(_runtime)]
CurrentDraining = Annotated[Draining, Depends(_draining)]

# Every route but /healthz has exactly one of these, which is the scope that it asks for.
MayRead = Annotated[Caller, _needs("read")]
MayPost = Annotated[Caller, _needs("post")]
MaySync = Annotated[Caller, _needs("sync")]
MayCall = Annotated[Caller, _needs("call")]
MayAdminister = Annotated[Caller, _needs("admin")]
