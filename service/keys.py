"""Keys of the HTTP API: shown once, stored as digests, each with what it allows."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, get_args
from uuid import UUID, uuid4

import structlog
from sqlalchemy import func, insert, or_, select, update

from service.errors import (
    ConnectionNotAllowed,
    DatabaseUnavailable,
    InsufficientScope,
    KeyRefused,
    UnknownName,
)
from service.tables import ApiKeyRow

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from service.database import Database

log = structlog.get_logger()

Scope = Literal["read", "post", "sync", "call", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
DEFAULT_SCOPES: tuple[Scope, ...] = tuple(scope for scope in SCOPES if scope != "admin")

PREFIX = "eclusa_"
KEY_BYTES = 32
SHOWN_CHARACTERS = len(PREFIX) + 6
"""So much of a key stays visible: enough to tell keys apart, and 220 bits too few to guess one."""

REMEMBERED_SECONDS = 5.0
"""A revoked key is refused after so long at the latest."""
USE_NOTED_EVERY = timedelta(minutes=1)


@dataclass(frozen=True, kw_only=True)
class Key:
    """A key as it is stored: whose it is and what it allows, never what it is.

    `prefix` is how the key begins. Without `connections` it reaches all of them, without
    `expires_at` it is valid until it is revoked, without `requests_per_second` it has the rate
    that the process gives to all.
    """

    id: UUID
    name: str
    prefix: str
    scopes: frozenset[Scope]
    connections: frozenset[str] | None
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None
    revoked_by: str | None
    requests_per_second: float | None

    def check_scope(self, scope: str) -> None:
        """Raise `InsufficientScope` unless the key has the scope; `admin` implies all."""
        if self.scopes.isdisjoint((scope, "admin")):
            raise InsufficientScope(scope)

    def reaches(self, connection: str) -> bool:
        """Whether the key may be used for a connection."""
        return self.connections is None or connection in self.connections

    def check_connection(self, connection: str) -> None:
        """Raise `ConnectionNotAllowed` unless the key may be used for the connection."""
        if self.connections is not None and connection not in self.connections:
            raise ConnectionNotAllowed(connection, sorted(self.connections))

    def covers(self, connections: Collection[str] | None) -> bool:
        """Whether the key reaches all of these connections; None stands for all there are."""
        if connections is None:
            return self.connections is None
        return all(self.reaches(connection) for connection in connections)


@dataclass(frozen=True, kw_only=True)
class IssuedKey:
    """A key that was just made, and its secret, which is not stored."""

    key: Key
    secret: str = field(repr=False)


def _digest(secret: str) -> str:
    # A secret is 32 random bytes: there is nothing to guess, so that a slow, salted hash would
    # protect no better and cost its time with every request.
    return hashlib.sha256(secret.encode()).hexdigest()


def _key(row: Any) -> Key:
    values = {name: getattr(row, name) for name in Key.__dataclass_fields__}
    connections = None if row.connections is None else frozenset(row.connections)
    return Key(**{**values, "scopes": frozenset(row.scopes), "connections": connections})


class Keys:
    """Creates, revokes and recognises keys."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._remembered: dict[str, tuple[float, Key]] = {}
        self._finding: dict[str, asyncio.Task[Key]] = {}
        self._noting: dict[UUID, asyncio.Task[None]] = {}

    async def create(
        self,
        name: str,
        *,
        scopes: Collection[Scope] = DEFAULT_SCOPES,
        connections: Collection[str] | None = None,
        expires_at: datetime | None = None,
        requests_per_second: float | None = None,
        actor: str = "eclusa",
    ) -> IssuedKey:
        """Make a key for the caller `name`."""
        secret = PREFIX + secrets.token_urlsafe(KEY_BYTES)
        new = insert(ApiKeyRow).values(
            id=uuid4(),
            name=name,
            prefix=secret[:SHOWN_CHARACTERS],
            digest=_digest(secret),
            scopes=[scope for scope in SCOPES if scope in scopes],
            connections=None if connections is None else sorted(set(connections)),
            created_at=func.clock_timestamp(),
            created_by=actor,
            expires_at=expires_at,
            requests_per_second=requests_per_second,
        )
        async with self._database.transaction() as connection:
            row = (await connection.execute(new.returning(ApiKeyRow))).one()
        return IssuedKey(key=_key(row), secret=secret)

    async def revoke(self, key_id: UUID, actor: str) -> None:
        """Refuse a key from now on; once revoked it stays as it is. Raises `UnknownName`."""
        revoked = (
            update(ApiKeyRow)
            .where(ApiKeyRow.id == key_id)
            .values(
                revoked_at=func.coalesce(ApiKeyRow.revoked_at, func.clock_timestamp()),
                revoked_by=func.coalesce(ApiKeyRow.revoked_by, actor),
            )
        )
        async with self._database.transaction() as connection:
            count = (await connection.execute(revoked)).rowcount
        if count == 0:
            raise UnknownName("key", str(key_id))
        self._remembered = {
            digest: (until, key)
            for digest, (until, key) in self._remembered.items()
            if key.id != key_id
        }

    async def get(self, key_id: UUID) -> Key:
        """One key; raises `UnknownName`."""
        query = select(ApiKeyRow).where(ApiKeyRow.id == key_id)
        async with self._database.transaction() as connection:
            row = (await connection.execute(query)).one_or_none()
        if row is None:
            raise UnknownName("key", str(key_id))
        return _key(row)

    async def list(self) -> list[Key]:
        """All keys, oldest first, revoked ones too."""
        query = select(ApiKeyRow).order_by(ApiKeyRow.created_at, ApiKeyRow.id)
        async with self._database.transaction() as connection:
            return [_key(row) for row in await connection.execute(query)]

    async def recognise(self, secret: str) -> Key:
        """The key of that secret; raises `KeyRefused` when it is unknown, revoked or expired."""
        digest = _digest(secret)
        until, key = self._remembered.get(digest, (0.0, None))
        if key is not None and time.monotonic() < until:
            return key
        finding = self._finding.get(digest)
        if finding is None:  # else all requests of a moment would look for the same key
            finding = asyncio.create_task(self._look_up(digest), name="look for a key")
            self._finding[digest] = finding
            finding.add_done_callback(lambda _: self._finding.pop(digest))
        return await asyncio.shield(finding)

    def remembers(self, secret: str) -> bool:
        """Whether the key was valid here when it was last looked for."""
        return _digest(secret) in self._remembered

    async def _look_up(self, digest: str) -> Key:
        try:
            key, now = await self._find(digest)
        except KeyRefused:
            self._remembered.pop(digest, None)
            raise
        left = REMEMBERED_SECONDS
        if key.expires_at is not None:
            left = min(left, (key.expires_at - now).total_seconds())
        self._remembered[digest] = (time.monotonic() + left, key)
        if key.last_used_at is None or now - key.last_used_at >= USE_NOTED_EVERY:
            self._note_use(key.id)
        return key

    async def close(self) -> None:
        """Wait until all uses are noted."""
        await asyncio.gather(*self._finding.values(), return_exceptions=True)
        await asyncio.gather(*self._noting.values())

    async def _find(self, digest: str) -> tuple[Key, datetime]:
        """The valid key of a digest, and the time of the database; raises `KeyRefused`."""
        query = select(ApiKeyRow, func.clock_timestamp().label("now"))
        async with self._database.transaction() as connection:
            found = await connection.execute(query.where(ApiKeyRow.digest == digest))
            row = found.one_or_none()
        if row is None:
            raise KeyRefused("unknown")
        if row.revoked_at is not None:
            raise KeyRefused("revoked")
        if row.expires_at is not None and row.expires_at <= row.now:
            raise KeyRefused("expired")
        return _key(row), row.now

    def _note_use(self, key_id: UUID) -> None:
        """Have the use of a key written down, while its request goes on."""
        if key_id not in self._noting:
            task = asyncio.create_task(self._write_use(key_id), name="use of a key")
            self._noting[key_id] = task
            task.add_done_callback(lambda _: self._noting.pop(key_id))

    async def _write_use(self, key_id: UUID) -> None:
        now = func.clock_timestamp()
        last = ApiKeyRow.last_used_at
        used = (
            update(ApiKeyRow)
            .where(ApiKeyRow.id == key_id, or_(last.is_(None), last <= now - USE_NOTED_EVERY))
            .values(last_used_at=now)
        )
        try:
            async with self._database.transaction() as connection:
                await connection.execute(used)
        except DatabaseUnavailable:  # the next use is noted
            log.warning("key_use_not_noted", key_id=str(key_id))
