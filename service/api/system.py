"""Is the service up, is it ready, and what can it do."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from service.api import problems
from service.api.dependencies import CurrentRuntime, MayRead
from service.errors import Unavailable
from service.runtime import Runtime

router = APIRouter(tags=["system"])

READY_SECONDS = 3.0
"""A server that answers later is not ready."""


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """Whether every server that is needed answers."""

    ready: bool
    database: str
    redis: str


@router.get("/healthz", operation_id="get_health", summary="Is the process up")
async def get_health() -> Health:
    """Answer without asking anything else, and without a key."""
    return Health()


@router.get(
    "/readyz",
    operation_id="get_readiness",
    summary="Can work be done",
    responses={**problems.responses(), 503: {"model": Readiness, "description": "Not ready"}},
)
async def get_readiness(runtime: CurrentRuntime, _: MayRead, response: Response) -> Readiness:
    """Ask PostgreSQL and Redis."""
    database, redis = await asyncio.gather(_database(runtime), _redis(runtime))
    ready = database == redis == "ok"
    if not ready:
        response.status_code = 503
    return Readiness(ready=ready, database=database, redis=redis)


@router.get("/openapi.json", include_in_schema=False)
async def get_openapi(request: Request, _: MayRead) -> dict[str, Any]:
    """The description of this API."""
    document: dict[str, Any] = request.app.openapi()
    return document


async def _database(runtime: Runtime) -> str:
    try:
        async with asyncio.timeout(READY_SECONDS), runtime.database.transaction() as connection:
            await connection.execute(text("SELECT 1 FROM posting LIMIT 1"))
    except (SQLAlchemyError, Unavailable, OSError) as error:
        return type(error).__name__
    return "ok"


async def _redis(runtime: Runtime) -> str:
    try:
        async with asyncio.timeout(READY_SECONDS):
            await runtime.redis.ping()
    except (RedisError, OSError) as error:
        return type(error).__name__
    return "ok"
