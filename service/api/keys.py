"""API keys over HTTP: who may ask for what."""

from __future__ import annotations

import datetime as dt
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, PlainSerializer

from service.api import problems
from service.api.auth import Caller
from service.api.bodies import Text
from service.api.dependencies import CurrentRuntime, MayAdminister
from service.api.idempotency import OnceRoute
from service.errors import ConnectionNotAllowed, InvalidInput, Problem, UnknownName
from service.keys import SCOPES, Key, Scope
from service.runtime import Runtime

router = APIRouter(prefix="/v1/keys", tags=["keys"], route_class=OnceRoute)

MOST_CONNECTIONS = 100
MOST_SELDOM, MOST_OFTEN = 0.01, 100_000
"""Requests of a key in a second."""

ALL = "all connections"

Scopes = Annotated[
    frozenset[Scope],
    PlainSerializer(lambda scopes: [scope for scope in SCOPES if scope in scopes], list[Scope]),
]
Names = Annotated[frozenset[str], PlainSerializer(sorted, list[str])]


class KeyRequest(BaseModel):
    """A key to be made."""

    model_config = ConfigDict(extra="forbid")

    name: Text = Field(
        min_length=1, max_length=200, description="who will use it; the audit's actor"
    )
    scopes: list[Scope] = Field(
        min_length=1,
        max_length=len(SCOPES),
        description="what it is for; admin implies all",
        examples=[["post", "read"]],
    )
    connections: list[Text] | None = Field(
        default=None,
        min_length=1,
        max_length=MOST_CONNECTIONS,
        description="which Odoo it is for; null: all there are",
        examples=[["main"]],
    )
    expires_at: AwareDatetime | None = Field(
        default=None, description="until when it is valid; null: until it is revoked"
    )
    requests_per_second: float | None = Field(
        default=None,
        ge=MOST_SELDOM,
        le=MOST_OFTEN,
        description="how often it may ask; null: as the service is set",
        examples=[50],
    )


class KeyView(BaseModel):
    """A key, without what makes it one."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    name: str
    prefix: str = Field(description="how it begins")
    scopes: Scopes
    connections: Names | None = Field(description="null: all there are")
    created_at: dt.datetime
    created_by: str
    expires_at: dt.datetime | None
    last_used_at: dt.datetime | None = Field(description="exact to a minute")
    revoked_at: dt.datetime | None
    revoked_by: str | None
    requests_per_second: float | None = Field(description="null: as the service is set")


class IssuedKeyView(KeyView):
    """A key that was just made."""

    key: str = Field(description="what to send as the bearer; it is shown here and never again")


class KeyList(BaseModel):
    """Keys, oldest first."""

    items: list[KeyView]


@router.post(
    "",
    status_code=201,
    operation_id="create_key",
    summary="Make an API key",
    responses={
        **problems.responses(404, 413, 422),
        201: {
            "headers": {"Location": {"schema": {"type": "string"}}},
            "description": "Made: this answer alone has the key",
        },
    },
)
async def create_key(
    body: KeyRequest, runtime: CurrentRuntime, caller: MayAdminister, response: Response
) -> IssuedKeyView:
    """Make a key, whose connections are among those of the key that makes it."""
    _check_connections(runtime, caller, body.connections)
    if body.expires_at is not None and body.expires_at <= dt.datetime.now(dt.UTC):
        raise InvalidInput([Problem("expires_at", "must be in the future", "in_the_past")])
    issued = await runtime.keys.create(
        body.name,
        scopes=body.scopes,
        connections=body.connections,
        expires_at=body.expires_at,
        requests_per_second=body.requests_per_second,
        actor=caller.key.name,
    )
    response.headers["Location"] = f"/v1/keys/{issued.key.id}"
    response.headers["Cache-Control"] = "no-store"
    return IssuedKeyView(**KeyView.model_validate(issued.key).model_dump(), key=issued.secret)


@router.get("", operation_id="list_keys", summary="The API keys", responses=problems.responses())
async def list_keys(runtime: CurrentRuntime, caller: MayAdminister) -> KeyList:
    """All keys that the own one may manage, revoked and expired ones too."""
    known = await runtime.keys.list()
    managed = [key for key in known if caller.key.covers(key.connections)]
    return KeyList(items=[KeyView.model_validate(key) for key in managed])


@router.get(
    "/{key_id}",
    operation_id="get_key",
    summary="One API key",
    responses=problems.responses(404, 422),
)
async def get_key(key_id: UUID, runtime: CurrentRuntime, caller: MayAdminister) -> KeyView:
    """What it allows, and when it was last used."""
    return KeyView.model_validate(await _key(runtime, caller, key_id))


@router.delete(
    "/{key_id}",
    status_code=204,
    operation_id="revoke_key",
    summary="Revoke an API key",
    responses=problems.responses(404, 422),
)
async def revoke_key(key_id: UUID, runtime: CurrentRuntime, caller: MayAdminister) -> None:
    """Refuse it from now on: here at once, in other processes within seconds. It stays listed."""
    await _key(runtime, caller, key_id)
    await runtime.keys.revoke(key_id, caller.key.name)


async def _key(runtime: Runtime, caller: Caller, key_id: UUID) -> Key:
    key = await runtime.keys.get(key_id)
    _check_covered(caller, key.connections)
    return key


def _check_connections(runtime: Runtime, caller: Caller, names: list[str] | None) -> None:
    _check_covered(caller, names)
    known = runtime.connections.names
    for name in names or ():
        if name not in known:
            raise UnknownName("connection", name, known)


def _check_covered(caller: Caller, names: list[str] | frozenset[str] | None) -> None:
    """Raise `ConnectionNotAllowed` unless the caller's own key reaches these connections."""
    for name in names or ():
        caller.key.check_connection(name)
    if names is None and caller.key.connections is not None:
        raise ConnectionNotAllowed(ALL, sorted(caller.key.connections))
