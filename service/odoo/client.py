"""The client of one Odoo database: typed reads that are repeated, and calls that never are.

A read is repeated on trouble of the network, of a proxy or of a lock, within a `RetryPolicy`.
`execute_kw`, `create` and `write` are sent once: after an error with effect *unknown* the caller
looks at Odoo before it sends anything again.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

import stamina

from service.odoo import errors, records, transport

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from types import TracebackType

T = TypeVar("T")

REPEATED = (errors.Unreachable, errors.TimedOut, errors.GatewayError, errors.LockConflict)


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How often and how long a read is tried; waits grow twofold from `wait_seconds`.

    `total_seconds` bounds all attempts and waits together: the last attempt gets what is left.
    """

    attempts: int = 4
    total_seconds: float = 120.0
    wait_seconds: float = 0.2
    longest_wait_seconds: float = 5.0
    jitter_seconds: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Version:
    """Odoo's version: `series` as in `17.0` or `saas~17.2`, `major` as in 17."""

    text: str
    series: str
    major: int


class Client:
    """One database of one Odoo; implements `records.Caller`.

    `context` is merged below the context of each call. `guard` runs before each wait for the
    network and may refuse by raising. The login happens with the first call that needs it, once for
    all calls that wait for it. `wire` replaces JSON-RPC over HTTP.
    """

    def __init__(
        self,
        connection: transport.Connection,
        *,
        guard: Callable[[], None] = transport.no_guard,
        retry: RetryPolicy | None = None,
        context: Mapping[str, Any] | None = None,
        wire: transport.Transport | None = None,
    ) -> None:
        self.connection = connection
        self._guard = guard
        self._retry = retry or RetryPolicy()
        self._context = dict(context or {})
        self._wire = wire or transport.JsonRpcTransport(connection, guard=guard)
        self._user: int | None = None
        self._logging_in: asyncio.Task[int] | None = None

    def __repr__(self) -> str:
        return f"Client({self.connection.name!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; every later call is `Unreachable`, with effect none."""
        if self._logging_in is not None:
            self._logging_in.cancel()
            await asyncio.wait({self._logging_in})
        await self._wire.close()

    # Calls that may change something: sent once.

    async def execute_kw(
        self,
        model: str,
        method: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any] | None = None,
        *,
        timeout_seconds: float | None = None,
    ) -> Any:
        """Call a method once and answer its result; `None` where Odoo sent none.

        An error before the call was sent has effect none, also when the login fails.
        """
        timeout_seconds = self._deadline(timeout_seconds)
        user = await self._uid(timeout_seconds)
        return await self._execute(
            user, model, method, args, kwargs, timeout_seconds=timeout_seconds
        )

    async def create(
        self,
        model: str,
        values: Mapping[str, Any],
        *,
        context: Mapping[str, Any] | None = None,
        timeout_seconds: float | None = None,
    ) -> int:
        """Create one record and answer its id."""
        answer = await self.execute_kw(
            model, "create", [dict(values)], _with(context), timeout_seconds=timeout_seconds
        )
        return _expect_int(answer, model, "create")

    async def write(
        self,
        model: str,
        ids: Sequence[int],
        values: Mapping[str, Any],
        *,
        context: Mapping[str, Any] | None = None,
        timeout_seconds: float | None = None,
    ) -> None:
        """Write the same values to all records of `ids`."""
        args = [list(ids), dict(values)]
        await self.execute_kw(model, "write", args, _with(context), timeout_seconds=timeout_seconds)

    # Reads: repeated within the policy.

    async def search_read(
        self,
        model: str,
        domain: records.Domain,
        fields: Sequence[str],
        *,
        order: str = "id",
        limit: int | None = None,
        context: Mapping[str, Any] | None = None,
        timeout_seconds: float | None = None,
    ) -> list[records.Record]:
        """Answer the records that match, in `order`."""
        kwargs = {"fields": _named(fields), "order": order, "limit": limit} | _with(context)
        rows = await self._ask(model, "search_read", [domain], kwargs, timeout_seconds)
        return _expect_records(rows, model, "search_read")

    async def read(
        self,
        model: str,
        ids: Sequence[int],
        fields: Sequence[str],
        *,
        context: Mapping[str, Any] | None = None,
        timeout_seconds: float | None = None,
    ) -> list[records.Record]:
        """Answer the records of `ids` that exist, each once, in the order of `ids`."""
        if not ids:
            return []
        wanted = list(dict.fromkeys(ids))
        kwargs = {"fields": _named(fields)} | _with(context)
        rows = await self._ask(model, "read", [wanted], kwargs, timeout_seconds)
        found = {record.id: record for record in _expect_records(rows, model, "read")}
        return [found[record_id] for record_id in wanted if record_id in found]

    async def search(
        self,
        model: str,
        domain: records.Domain,
        *,
        order: str = "id",
        limit: int | None = None,
        context: Mapping[str, Any] | None = None,
        timeout_seconds: float | None = None,
    ) -> list[int]:
        """Answer the ids that match, in `order`."""
        kwargs = {"order": order, "limit": limit} | _with(context)
        answer = await self._ask(model, "search", [domain], kwargs, timeout_seconds)
        if not isinstance(answer, list):
            raise _shape_error(model, "search", "a list of ids")
        return [_expect_int(item, model, "search") for item in answer]

    async def search_count(
        self,
        model: str,
        domain: records.Domain,
        *,
        context: Mapping[str, Any] | None = None,
        timeout_seconds: float | None = None,
    ) -> int:
        """Count the records that match."""
        answer = await self._ask(model, "search_count", [domain], _with(context), timeout_seconds)
        return _expect_int(answer, model, "search_count")

    async def fields_get(
        self,
        model: str,
        attributes: Sequence[str] = ("string", "type", "relation", "required", "readonly"),
        *,
        context: Mapping[str, Any] | None = None,
        timeout_seconds: float | None = None,
    ) -> dict[str, dict[str, Any]]:
        """Answer the fields that the user may see, by name, each with its `attributes`."""
        kwargs = {"attributes": list(attributes)} | _with(context)
        answer = await self._ask(model, "fields_get", [], kwargs, timeout_seconds)
        if not isinstance(answer, dict):
            raise _shape_error(model, "fields_get", "fields by name")
        return answer

    async def ask(
        self,
        model: str,
        method: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any] | None = None,
        *,
        timeout_seconds: float | None = None,
    ) -> Any:
        """Call any other method *that changes nothing*: it may be sent several times."""
        return await self._ask(model, method, args, kwargs, timeout_seconds)

    async def version(self, *, timeout_seconds: float | None = None) -> Version:
        """Answer the server's version; needs no login."""
        answer = await self._service("common", "version", (), timeout_seconds)
        match answer:
            case {"server_version": str() as text, "server_serie": str() as series}:
                major = transport.major_of(series)
                if major is not None:
                    return Version(text=text, series=series, major=major)
        raise _shape_error("common", "version", "a version")

    async def databases(self, *, timeout_seconds: float | None = None) -> list[str]:
        """Answer the server's databases; `AuthenticationFailed` where it keeps them to itself."""
        answer = await self._service("db", "list", (), timeout_seconds)
        if not isinstance(answer, list):
            raise _shape_error("db", "list", "a list of names")
        return [str(name) for name in answer]

    async def authenticate(self, *, timeout_seconds: float | None = None) -> int:
        """Log in, again if need be, and answer the user's id."""
        self._user = None
        return await self._uid(self._deadline(timeout_seconds))

    # How a call is made.

    def _deadline(self, timeout_seconds: float | None) -> float:
        return self.connection.timeout_seconds if timeout_seconds is None else timeout_seconds

    async def _execute(
        self,
        user: int,
        model: str,
        method: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any] | None,
        *,
        timeout_seconds: float,
    ) -> Any:
        connection = self.connection
        named = dict(kwargs or {})
        context = self._context | dict(named.pop("context", None) or {})
        if context:
            named["context"] = context
        call = transport.Call(
            service="object",
            procedure="execute_kw",
            args=(
                connection.database,
                user,
                connection.secret,
                model,
                method,
                list(args),
                named,
            ),
            timeout_seconds=timeout_seconds,
            model=model,
            method=method,
        )
        try:
            return await self._wire.send(call)
        except errors.AuthenticationFailed:
            self._forget(user)
            raise
        except errors.MissingRecord as error:
            # A deleted user is reported as a missing record; logging in anew costs one call.
            if f"res.users({user},)" in error.message:
                self._forget(user)
            raise

    async def _ask(
        self,
        model: str,
        method: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any] | None,
        timeout_seconds: float | None,
    ) -> Any:
        """Read, and once more after a new login when Odoo refused the old one.

        Only reads: a method may itself raise the exception of a refused login, and for a write
        nothing tells that case apart.
        """
        longest = self._deadline(timeout_seconds)

        async def as_user(user: int) -> Any:
            async def once(seconds: float) -> Any:
                return await self._execute(
                    user, model, method, args, kwargs, timeout_seconds=seconds
                )

            return await self._repeated(f"{model}.{method}", once, longest)

        user = await self._uid(longest)
        try:
            return await as_user(user)
        except errors.AuthenticationFailed:
            # `_execute` has forgotten the user, so this logs in again.
            renewed = await self._uid(longest)
        return await as_user(renewed)

    async def _service(
        self,
        service: Literal["common", "db"],
        procedure: str,
        args: Sequence[Any],
        timeout_seconds: float | None,
    ) -> Any:
        async def once(seconds: float) -> Any:
            call = transport.Call(
                service=service,
                procedure=procedure,
                args=args,
                timeout_seconds=seconds,
                model=service,
                method=procedure,
            )
            return await self._wire.send(call)

        return await self._repeated(f"{service}.{procedure}", once, self._deadline(timeout_seconds))

    async def _repeated(
        self, name: str, once: Callable[[float], Awaitable[T]], timeout_seconds: float
    ) -> T:
        policy = self._retry
        clock = asyncio.get_running_loop().time
        end = clock() + policy.total_seconds
        attempts = stamina.retry_context(
            on=REPEATED,
            attempts=policy.attempts,
            timeout=policy.total_seconds,
            wait_initial=policy.wait_seconds,
            wait_max=policy.longest_wait_seconds,
            wait_jitter=policy.jitter_seconds,
        ).with_name(name, (), {})
        async for attempt in attempts:
            with attempt:
                return await once(max(0.0, min(timeout_seconds, end - clock())))
        raise AssertionError("stamina ends with a result or an error")

    # The login.

    def _forget(self, user: int) -> None:
        if self._user == user:
            self._user = None

    async def _uid(self, timeout_seconds: float) -> int:
        """Answer the user's id; all calls that wait for a login share its outcome.

        Also a refusal is shared: each refused login costs the server 0.6 s, and Odoo locks an
        address out after a few.
        """
        if self._user is not None:
            return self._user
        self._guard()
        if self._logging_in is None or self._logging_in.done():
            self._logging_in = asyncio.create_task(self._log_in(), name="odoo_login")
            self._logging_in.add_done_callback(_retrieve)
        login = self._logging_in
        # Waited for, not awaited: a caller who gives up must not take the login from the others.
        await asyncio.wait({login}, timeout=timeout_seconds)
        if not login.done():
            raise errors.TimedOut(
                f"no login within {timeout_seconds:g} s",
                "common",
                "authenticate",
                errors.Effect.NONE,
            )
        if login.cancelled():
            raise errors.Unreachable(
                f"the connection {self.connection.name} is closed",
                "common",
                "authenticate",
                errors.Effect.NONE,
            )
        return login.result()

    async def _log_in(self) -> int:
        connection = self.connection
        args = (connection.database, connection.login, connection.secret, dict[str, Any]())
        answer = await self._service("common", "authenticate", args, None)
        if not answer:
            raise errors.AuthenticationFailed(
                f"Odoo refused the login {connection.login} or its secret",
                "common",
                "authenticate",
                errors.Effect.NONE,
            )
        self._user = _expect_int(answer, "common", "authenticate")
        return self._user


def _retrieve(task: asyncio.Task[int]) -> None:
    """Mark the error of a login as seen, for when every caller has given up on it."""
    if not task.cancelled():
        task.exception()


def _with(context: Mapping[str, Any] | None) -> dict[str, Any]:
    return {"context": dict(context)} if context else {}


def _named(fields: Sequence[str]) -> list[str]:
    # To Odoo an empty list means every field, binaries included.
    return list(fields) or ["id"]


def _shape_error(model: str, method: str, wanted: str) -> errors.UnexpectedAnswer:
    return errors.UnexpectedAnswer(f"the answer should be {wanted}", model, method)


def _expect_int(answer: Any, model: str, method: str) -> int:
    if isinstance(answer, bool) or not isinstance(answer, int):
        raise _shape_error(model, method, "a whole number")
    return answer


def _expect_records(answer: Any, model: str, method: str) -> list[records.Record]:
    if not isinstance(answer, list):
        raise _shape_error(model, method, "a list of records")
    for row in answer:
        if not isinstance(row, dict) or not isinstance(row.get("id"), int):
            raise _shape_error(model, method, "a list of records with ids")
    return [records.Record(model, row) for row in answer]


# Finding out what is wrong with a connection.

Operation = Literal["read", "write", "create", "unlink"]

ACCESS_METHOD_CHANGED = 18
"""From this version on, `has_access` replaces `check_access_rights`."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One check of a connection: `message` is a sentence that a person can act on."""

    check: Literal["address", "tls", "odoo", "database", "login", "rights"]
    ok: bool
    message: str


async def diagnose(
    client: Client, rights: Mapping[str, Sequence[Operation]] | None = None
) -> list[Finding]:
    """Check a connection from the address to the rights, up to the first failure.

    `rights` names the operations that are wanted on each model; all of them are checked. Raises
    what the guard raises, and no `OdooError`.
    """
    return await _Diagnosis(client).run(rights or {})


class _Diagnosis:
    def __init__(self, client: Client) -> None:
        self._client = client
        self._connection = client.connection
        self._findings: list[Finding] = []

    def _found(
        self,
        check: Literal["address", "tls", "odoo", "database", "login", "rights"],
        message: str,
        *,
        ok: bool = True,
    ) -> None:
        self._findings.append(Finding(check=check, ok=ok, message=message))

    async def run(self, rights: Mapping[str, Sequence[Operation]]) -> list[Finding]:
        major = await self._odoo()
        if major is not None and await self._database() and await self._login():
            for model, operations in rights.items():
                for operation in operations:
                    await self._right(model, operation, major)
        return self._findings

    async def _odoo(self) -> int | None:
        """Answer the version's number; any answer proves address and TLS."""
        connection = self._connection
        try:
            version = await self._client.version()
        except errors.Unreachable as error:
            if transport.failed_tls(error):
                self._found("tls", f"{error.message}: check certificate and scheme", ok=False)
            else:
                self._found("address", f"{error.message}: check URL, DNS and firewalls", ok=False)
            return None
        except errors.OdooError as error:
            self._found("address", f"{connection.place} accepts connections")
            self._found("odoo", f"{error.message}; the URL is {connection.address}", ok=False)
            return None
        self._found("address", f"{connection.place} accepts connections")
        if connection.address.scheme == "https":
            verified = "its certificate is trusted" if connection.verify_tls else "not verified"
            self._found("tls", f"the connection is encrypted; {verified}")
        self._found("odoo", f"Odoo {version.text} answers")
        return version.major

    async def _database(self) -> bool:
        name = self._connection.database
        try:
            known = await self._client.databases()
        except errors.OdooError:
            # Listing is switched off on many servers; the login will tell.
            return True
        if name in known:
            self._found("database", f"the database {name} exists")
            return True
        listed = ", ".join(known) or "none"
        self._found("database", f"there is no database {name}; the server has: {listed}", ok=False)
        return False

    async def _login(self) -> bool:
        connection = self._connection
        try:
            user = await self._client.authenticate()
        except errors.UnknownDatabase:
            message = f"there is no database {connection.database} on this server"
            self._found("database", message, ok=False)
            return False
        except errors.AuthenticationFailed:
            message = f"Odoo refused the login {connection.login}: check the login and the secret"
            self._found("login", message, ok=False)
            return False
        except errors.OdooError as error:
            self._found("login", error.message, ok=False)
            return False
        self._found("login", f"{connection.login} is user {user}")
        return True

    async def _right(self, model: str, operation: Operation, major: int) -> None:
        method, args = "check_access_rights", list[Any]([operation, False])
        if major >= ACCESS_METHOD_CHANGED:
            method, args = "has_access", [[], operation]
        login = self._connection.login
        try:
            allowed = await self._client.ask(model, method, args)
        except errors.UnknownModel:
            message = f"{model} does not exist: is its module installed?"
            self._found("rights", message, ok=False)
        except errors.OdooError as error:
            self._found("rights", f"{operation} {model}: {error.message}", ok=False)
        else:
            verb = "may" if allowed else "may not"
            self._found("rights", f"{login} {verb} {operation} {model}", ok=bool(allowed))
