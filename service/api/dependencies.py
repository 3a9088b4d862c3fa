"""What endpoints need, each in one word."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from service.api.stream import Draining
from service.posting.step import Actor
from service.runtime import Runtime
from service.sync.generic import NAME

_bearer = HTTPBearer(auto_error=False, description="an API key, made by `eclusa keys create`")


def _runtime(request: Request) -> Runtime:
    runtime: Runtime = request.state.runtime
    return runtime


def _draining(request: Request) -> Draining:
    draining: Draining = request.app.state.draining
    return draining


def _actor(
    request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Actor:
    """The actor that `service.api.auth` recognised; `_bearer` is for the OpenAPI document."""
    actor: Actor = request.state.actor
    return actor


SyncName = Annotated[str, Path(pattern=NAME, description="the sync's name", examples=["cte"])]
CurrentRuntime = Annotated[Runtime, Depends(_runtime)]
CurrentDraining = Annotated[Draining, Depends(_draining)]
CurrentActor = Annotated[Actor, Depends(_actor)]
