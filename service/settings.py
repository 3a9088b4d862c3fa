"""Settings of a process, from `ECLUSA_…` in the environment."""

from __future__ import annotations

from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


def _items(given: Any) -> Any:
    """The items of a text like `10.0.0.0/8, 192.0.2.1`."""
    if not isinstance(given, str):
        return given
    return [item.strip() for item in given.split(",") if item.strip()]


Networks = Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode, BeforeValidator(_items)]


class Settings(BaseSettings):
    """Where the servers are, and how this process behaves."""

    model_config = SettingsConfigDict(env_prefix="ECLUSA_", env_file=".env", extra="ignore")

    database_url: str | None = Field(
        default=None,
        description="PostgreSQL 15 or newer, postgresql+asyncpg://…; without it, the embedded one",
    )
    redis_url: str | None = Field(
        default=None,
        description="Redis 7 or Valkey 8 or newer; without it, the embedded one",
    )
    data_dir: Path = Field(default=Path("var"), description="folder of the embedded servers")
    config: Path = Field(
        default=Path("eclusa.toml"), description="the file of connections and profiles"
    )

    host: str = "127.0.0.1"
    port: int = Field(default=8600, ge=0, le=65535)
    max_body_bytes: int = Field(default=16 * 1024 * 1024, gt=0)
    trusted_proxies: Networks = Field(
        default=(),
        description=(
            "addresses or networks, with commas between them, of the proxies whose "
            "X-Forwarded-For and Forwarded are believed"
        ),
    )
    drain_seconds: float = Field(
        default=20.0, ge=0, description="how long open requests may take when the process stops"
    )

    plan_seconds: float = Field(
        default=30.0,
        gt=0,
        description="how long all reads of Odoo for one plan, or one prefetch, may take",
    )

    worker_concurrency: int = Field(
        default=200, ge=20, description="postings that one worker process works on at a time"
    )
    sync_concurrency: int = Field(
        default=2, ge=1, description="runs of syncs that one worker process works on at a time"
    )
    heartbeat_seconds: float = Field(
        default=4.0, gt=0, description="a worker silent for so long has lost its jobs"
    )
    lock_ttl_seconds: float = Field(default=15.0, gt=0)
    event_ttl_seconds: float = Field(default=3600.0, gt=0)

    idempotency_hours: float = Field(
        default=24.0, gt=0, description="how long the answer to an Idempotency-Key is kept"
    )

    rate_limit_per_second: float = Field(
        default=1_000.0, gt=0, description="requests of one API key, in the long run"
    )
    rate_limit_burst: int = Field(
        default=2_000, ge=1, description="requests of one API key at once"
    )
    refused_keys_per_minute: int = Field(
        default=60, ge=1, description="wrong API keys from one address; so many at once, too"
    )
    requests_at_once: int = Field(
        default=500, ge=1, description="requests that one API process has under way at most"
    )

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "console"] = "json"

    api_url: str = Field(
        default="http://127.0.0.1:8600", description="the service that `eclusa post` talks to"
    )
    api_key: SecretStr | None = Field(default=None, description="the key that it uses")

    @property
    def heartbeat(self) -> timedelta:
        """After which a silent worker's jobs go to another."""
        return timedelta(seconds=self.heartbeat_seconds)

    @property
    def plan_limit(self) -> timedelta:
        """How long a plan may take."""
        return timedelta(seconds=self.plan_seconds)

    @property
    def idempotency_kept(self) -> timedelta:
        """How long the answer to an Idempotency-Key is kept."""
        return timedelta(hours=self.idempotency_hours)

    @property
    def lock_ttl(self) -> timedelta:
        """How long a lock outlives its holder."""
        return timedelta(seconds=self.lock_ttl_seconds)

    @property
    def event_ttl(self) -> timedelta:
        """How long a job's events stay in Redis."""
        return timedelta(seconds=self.event_ttl_seconds)
