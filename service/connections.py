"""The configuration file: connections to Odoo databases, and a profile per kind of posting."""

from __future__ import annotations

import os
import tomllib
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from service.database import forbid_open_transaction
from service.errors import Misconfigured, UnknownName
from service.odoo import json2
from service.odoo.client import Client
from service.odoo.transport import Connection
from service.posting.step import Deployment
from service.sync import generic
from service.sync.engine import Deployment as SyncDeployment
from service.sync.generic import SyncConfig

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from service.posting.step import AnyDefinition, Operation, Profile
    from service.sync.ready import ReadySync


def _http_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an address like https://odoo.example.com")
    if parts.username or parts.password:
        raise ValueError("must not contain a login: give it as `login` and `secret`")
    return text.rstrip("/")


class ConnectionConfig(BaseModel):
    """One `[connections.NAME]` table of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Annotated[str, AfterValidator(_http_url)]
    database: str = Field(min_length=1)
    login: str = Field(min_length=1)
    secret: str | None = Field(default=None, min_length=1, repr=False)
    secret_env: str | None = Field(default=None, min_length=1)
    protocol: json2.Protocol = "jsonrpc"
    timeout_seconds: float = Field(default=90, gt=0)
    connect_timeout_seconds: float = Field(default=10, gt=0)
    max_connections: int = Field(default=64, ge=1)
    verify_tls: bool = True
    profiles: dict[str, dict[str, Any]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_secret(self) -> ConnectionConfig:
        if (self.secret is None) == (self.secret_env is None):
            raise ValueError("give either `secret`, or `secret_env` naming a variable")
        return self

    def connection(self, name: str) -> Connection:
        """The client's view; raises `Misconfigured` when the secret's variable is not set."""
        secret = self.secret or os.environ.get(self.secret_env or "")
        if not secret:
            raise Misconfigured(
                f"connections.{name}.secret_env: the variable {self.secret_env} is not set"
            )
        return Connection(
            name=name,
            url=self.url,
            database=self.database,
            login=self.login,
            secret=secret,
            timeout_seconds=self.timeout_seconds,
            connect_timeout_seconds=self.connect_timeout_seconds,
            max_connections=self.max_connections,
            verify_tls=self.verify_tls,
        )


class ConfigFile(BaseModel):
    """The whole file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    connections: dict[str, ConnectionConfig] = Field(default_factory=dict)
    syncs: dict[Annotated[str, Field(pattern=generic.NAME)], dict[str, Any]] = Field(
        default_factory=dict
    )


@dataclass(frozen=True, kw_only=True)
class Sync:
    """A sync as it is configured."""

    name: str
    title: str
    model: str
    options: BaseModel


NONE_READY: Mapping[str, ReadySync] = MappingProxyType({})


def _problems(error: ValidationError, prefix: str = "") -> str:
    lines = (
        f"{prefix}{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
        for problem in error.errors()
    )
    return "\n".join(lines)


def load(path: Path) -> ConfigFile:
    """Read the file; one that does not exist has no connections.

    Raises `Misconfigured` with a line for each problem.
    """
    if not path.exists():
        return ConfigFile()
    try:
        return ConfigFile.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Misconfigured(f"{path}: {error}") from error
    except ValidationError as error:
        raise Misconfigured(f"{path}:\n{_problems(error)}") from error


class Connections:
    """The configured connections: their profiles, checked, and their clients, opened at need."""

    def __init__(
        self,
        config: ConfigFile,
        definitions: Mapping[str, AnyDefinition],
        ready: Mapping[str, ReadySync] = NONE_READY,
    ) -> None:
        self._config = config
        self._definitions = definitions
        self._ready = ready
        self._syncs = {
            name: _sync(name, ready.get(name), config.syncs.get(name, {}))
            for name in sorted({*ready, *config.syncs})
        }
        self._profiles = {
            (name, kind): self._profile(name, kind, values)
            for name, connection in config.connections.items()
            for kind, values in connection.profiles.items()
        }
        self._clients: dict[str, Client] = {}
        self._stack = AsyncExitStack()

    @property
    def names(self) -> list[str]:
        """The names of all connections."""
        return sorted(self._config.connections)

    def profile(self, name: str, kind: str) -> Profile:
        """The profile of a kind on a connection; raises `UnknownName`."""
        if name not in self._config.connections:
            raise UnknownName("connection", name, self.names)
        profile = self._profiles.get((name, kind))
        if profile is None:
            known = sorted(other for owner, other in self._profiles if owner == name)
            raise UnknownName(f"profile on connection {name!r} for the kind", kind, known)
        return profile

    def client(self, name: str) -> Client:
        """The client of a connection; raises `UnknownName` and `Misconfigured`."""
        if name not in self._config.connections:
            raise UnknownName("connection", name, self.names)
        if name not in self._clients:
            config = self._config.connections[name]
            connection = config.connection(name)
            wire = json2.choose(config.protocol, connection, guard=forbid_open_transaction)
            client = Client(connection, guard=forbid_open_transaction, wire=wire)
            self._clients[name] = client
            self._stack.push_async_callback(client.close)
        return self._clients[name]

    @property
    def syncs(self) -> Mapping[str, Sync]:
        """All syncs, those that are ready and those of the file, by name."""
        return self._syncs

    def sync(self, name: str) -> Sync:
        """One sync; raises `UnknownName`."""
        if name not in self._syncs:
            raise UnknownName("sync", name, sorted(self._syncs))
        return self._syncs[name]

    async def deploy_sync(self, name: str, sync: str) -> SyncDeployment:
        """A sync, checked against the Odoo that it reads.

        Raises `UnknownName`, `Misconfigured` and an `OdooError`.
        """
        wanted = self.sync(sync)
        odoo = self.client(name)
        if isinstance(wanted.options, SyncConfig):
            definition = await generic.define(sync, wanted.options, odoo)
        else:
            version = await odoo.version()
            definition = self._ready[sync].define(wanted.options, version.major)
        return SyncDeployment(definition=definition, odoo=odoo)

    def rights(self, name: str) -> dict[str, list[Operation]]:
        """What the user of a connection must be allowed to, for all kinds that it has."""
        wanted: dict[str, list[Operation]] = {}
        for owner, kind in self._profiles:
            for model, operations in (
                self._definitions[kind].rights.items() if owner == name else ()
            ):
                known = wanted.setdefault(model, [])
                known += [operation for operation in operations if operation not in known]
        return wanted

    async def deploy(self, name: str, kind: str) -> Deployment:
        """Where a posting of that kind goes."""
        return Deployment(connection=name, odoo=self.client(name), profile=self.profile(name, kind))

    async def close(self) -> None:
        """Close all clients."""
        await self._stack.aclose()

    def _profile(self, name: str, kind: str, values: Mapping[str, Any]) -> Profile:
        where = f"connections.{name}.profiles.{kind}"
        definition = self._definitions.get(kind)
        if definition is None:
            raise Misconfigured(
                f"{where}: there is no such kind; known: {', '.join(sorted(self._definitions))}"
            )
        try:
            profile: Profile = definition.profile_model.model_validate(values)
        except ValidationError as error:
            raise Misconfigured(_problems(error, prefix=f"{where}.")) from error
        unknown = set(profile.timings) - {step.name for step in definition.steps}
        if unknown:
            raise Misconfigured(f"{where}.timings: no step is named {', '.join(sorted(unknown))}")
        for step in definition.steps:
            try:
                step.timed(profile.timings.get(step.name))
            except ValueError as error:
                raise Misconfigured(f"{where}.timings.{step.name}: {error}") from error
        return profile


def _sync(name: str, ready: ReadySync | None, values: Mapping[str, Any]) -> Sync:
    model = SyncConfig if ready is None else ready.options
    try:
        options = model.model_validate(values)
    except ValidationError as error:
        raise Misconfigured(_problems(error, prefix=f"syncs.{name}.")) from error
    if ready is not None:
        return Sync(name=name, title=ready.title, model=ready.model, options=options)
    config = SyncConfig.model_validate(values)
    title = config.title or name.replace("_", " ")
    return Sync(name=name, title=title, model=config.model, options=config)
