"""What endpoints need, each in one word."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from service.api.stream import Draining
from service.posting.step import Actor
from service.runtime import Runtime

_bearer = HTTPBearer(auto_error=False, description="an API key, made by `eclusa keys create`")


def _runtime(request: Request) -> Runtime:
    runtime: Runtime = request.state.runtime
    return runtime


def _draining(request: Request) -> Draining:
    draining: Draining = request.app.state.draining
    return draining


CurrentRuntime = Annotated[Runtime, Depends(_runtime)]
CurrentDraining = Annotated[Draining, Depends(_draining)]


async def _actor(
    request: Request,
    runtime: CurrentRuntime,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Actor:
    key = await runtime.keys.recognise(credentials.credentials) if credentials else None
    if key is None:
        raise HTTPException(
            401,
            "Send a valid API key: Authorization: Bearer …",
            headers={"WWW-Authenticate": "Bearer"},
        )
    return Actor(name=key.name, ip=request.client.host if request.client else None)


CurrentActor = Annotated[Actor, Depends(_actor)]
