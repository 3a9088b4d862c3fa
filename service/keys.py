"""Keys of the HTTP API: shown once, stored as digests."""

from __future__ import annotations

import hashlib
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from sqlalchemy import func, insert, select, update

from service.errors import UnknownName
from service.tables import ApiKeyRow

if TYPE_CHECKING:
    from datetime import datetime

    from service.database import Database

PREFIX = "eclusa_"
KEY_BYTES = 32
REMEMBERED_SECONDS = 5.0
"""A revoked key is refused after so long at the latest."""


@dataclass(frozen=True, kw_only=True)
class Key:
    """A key as it is stored: whose it is, never what it is."""

    id: UUID
    name: str
    created_at: datetime
    revoked_at: datetime | None


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


class Keys:
    """Creates, revokes and recognises keys."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._remembered: dict[str, tuple[float, Key]] = {}

    async def create(self, name: str) -> str:
        """Make a key for the actor `name` and answer its secret, which is not stored."""
        secret = PREFIX + secrets.token_urlsafe(KEY_BYTES)
        async with self._database.transaction() as connection:
            await connection.execute(
                insert(ApiKeyRow).values(
                    id=uuid4(),
                    name=name,
                    digest=_digest(secret),
                    created_at=func.clock_timestamp(),
                )
            )
        return secret

    async def revoke(self, key_id: UUID) -> None:
        """Refuse a key from now on; raises `UnknownName`."""
        async with self._database.transaction() as connection:
            revoked = await connection.execute(
                update(ApiKeyRow)
                .where(ApiKeyRow.id == key_id, ApiKeyRow.revoked_at.is_(None))
                .values(revoked_at=func.clock_timestamp())
            )
        if revoked.rowcount == 0:
            raise UnknownName("key", str(key_id))

    async def list(self) -> list[Key]:
        """All keys, revoked ones too."""
        async with self._database.transaction() as connection:
            rows = await connection.execute(
                select(
                    ApiKeyRow.id, ApiKeyRow.name, ApiKeyRow.created_at, ApiKeyRow.revoked_at
                ).order_by(ApiKeyRow.created_at)
            )
        return [Key(**row._mapping) for row in rows]  # noqa: SLF001  SQLAlchemy's public way

    async def recognise(self, secret: str) -> Key | None:
        """The key of that secret; None when there is none or it was revoked."""
        digest = _digest(secret)
        until, key = self._remembered.get(digest, (0.0, None))
        if key is not None and time.monotonic() < until:
            return key
        async with self._database.transaction() as connection:
            row = (
                await connection.execute(
                    select(
                        ApiKeyRow.id, ApiKeyRow.name, ApiKeyRow.created_at, ApiKeyRow.revoked_at
                    ).where(ApiKeyRow.digest == digest, ApiKeyRow.revoked_at.is_(None))
                )
            ).one_or_none()
        if row is None:
            self._remembered.pop(digest, None)
            return None
        key = Key(**row._mapping)  # noqa: SLF001  SQLAlchemy's public way to a row's names
        self._remembered[digest] = (time.monotonic() + REMEMBERED_SECONDS, key)
        return key
