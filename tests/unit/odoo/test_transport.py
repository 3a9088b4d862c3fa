"""What each kind of trouble on the way proves about a call, over real connections."""

from __future__ import annotations

import asyncio
import gzip
import socket
from contextlib import asynccontextmanager, suppress
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import aiohttp
import httpx
import pytest

from service.errors import Misconfigured, TransactionOpen
from service.odoo import errors, transport
from tests.unit.odoo import loopback

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

NONE, UNKNOWN = errors.Effect.NONE, errors.Effect.UNKNOWN


def a_call(*args: Any, timeout_seconds: float = 10, service: transport.Service = "object") -> Any:
    """Build a write, with these positional arguments."""
    return transport.Call(
        service=service,
        procedure="execute_kw",
        args=("lab", 7, loopback.SECRET, "res.partner", "write", list(args), {}),
        timeout_seconds=timeout_seconds,
        model="res.partner",
        method="write",
    )


@asynccontextmanager
async def wired(
    connection: transport.Connection, **more: Any
) -> AsyncIterator[transport.JsonRpcTransport]:
    """Open a transport and close it."""
    wire = transport.JsonRpcTransport(connection, **more)
    try:
        yield wire
    finally:
        await wire.close()


@asynccontextmanager
async def loopback_wire(
    handler: loopback.Handler, **changes: Any
) -> AsyncIterator[tuple[loopback.Loopback, transport.JsonRpcTransport]]:
    """Run a server and a transport to it."""
    async with loopback.serving(handler) as server, wired(server.connection(**changes)) as wire:
        yield server, wire


def at_port(port: int, **changes: Any) -> transport.Connection:
    """Describe a port of loopback as a connection."""
    return loopback.Loopback(port).connection(**changes)


@pytest.fixture
def refusing_port() -> int:
    """Find a port on which nothing listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class TestConnecting:
    async def test_refused_connection_has_no_effect(self, refusing_port: int) -> None:
        """A refused connection proves that nothing was sent."""
        async with wired(at_port(refusing_port)) as wire:
            with pytest.raises(errors.Unreachable) as caught:
                await wire.send(a_call())

        assert caught.value.effect is NONE
        assert f"127.0.0.1:{refusing_port}" in str(caught.value)

    async def test_connect_timeout_has_no_effect(self) -> None:
        """A host that does not take the connection up in time proves that nothing was sent."""
        with socket.socket() as full, socket.socket() as one, socket.socket() as two:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            # With the queue of the listener filled, the kernel leaves later ones unanswered.
            for filler in (one, two):
                filler.settimeout(0)
                with suppress(BlockingIOError):
                    filler.connect(full.getsockname())
            slow = at_port(full.getsockname()[1], connect_timeout_seconds=0.1)
            async with wired(slow) as wire:
                with pytest.raises(errors.Unreachable) as caught:
                    await wire.send(a_call())

        assert caught.value.effect is NONE

    async def test_failed_tls_has_no_effect(self) -> None:
        """A server that does not speak TLS proves that nothing was sent."""
        async with (
            loopback.speaking_no_tls() as port,
            wired(at_port(port, url=f"https://127.0.0.1:{port}")) as wire,
        ):
            with pytest.raises(errors.Unreachable, match="TLS") as caught:
                await wire.send(a_call())

        assert caught.value.effect is NONE

    async def test_waiting_for_a_free_connection_has_no_effect(self) -> None:
        """A call whose time is up while it waits for a slot was never sent."""
        async with loopback_wire(loopback.hang, max_connections=1) as (server, wire):
            hanging = asyncio.create_task(wire.send(a_call()))
            await server.arrived(1)
            with pytest.raises(errors.TimedOut) as caught:
                await wire.send(a_call(timeout_seconds=0.05))
            hanging.cancel()
            with suppress(asyncio.CancelledError):
                await hanging

        assert caught.value.effect is NONE
        assert len(server.asked) == 1

    async def test_closed_transport_sends_nothing(self) -> None:
        """After the transport was closed a call is unreachable, without effect."""
        async with loopback_wire(loopback.answering(1)) as (server, wire):
            await wire.close()
            with pytest.raises(errors.Unreachable) as caught:
                await wire.send(a_call())

        assert caught.value.effect is NONE
        assert server.asked == []


class TestAfterSending:
    async def test_dropped_connection_has_unknown_effect(self) -> None:
        """A connection that closes after the request proves nothing."""
        async with loopback_wire(loopback.drop) as (server, wire):
            with pytest.raises(errors.Unreachable) as caught:
                await wire.send(a_call())

        assert caught.value.effect is UNKNOWN
        assert len(server.asked) == 1

    async def test_reset_connection_has_unknown_effect(self) -> None:
        """A connection reset after the request proves nothing."""

        async def reset(_: loopback.Asked, reply: loopback.Reply) -> None:
            reply.writer.transport.abort()

        async with loopback_wire(reset) as (_, wire):
            with pytest.raises(errors.Unreachable) as caught:
                await wire.send(a_call())

        assert caught.value.effect is UNKNOWN

    async def test_kept_connection_that_drops_has_unknown_effect(self) -> None:
        """A reused connection that breaks is not silently tried again."""
        handler = loopback.in_turn(loopback.answering(1), loopback.drop)
        async with loopback_wire(handler) as (server, wire):
            await wire.send(a_call())
            with pytest.raises(errors.Unreachable) as caught:
                await wire.send(a_call())

        assert caught.value.effect is UNKNOWN
        assert len(server.asked) == 2

    async def test_half_an_answer_has_unknown_effect(self) -> None:
        """An answer that breaks off proves nothing."""

        async def half(_: loopback.Asked, reply: loopback.Reply) -> None:
            await reply.raw(b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"jsonrpc"')
            await reply.drop()

        async with loopback_wire(half) as (_, wire):
            with pytest.raises(errors.Unreachable) as caught:
                await wire.send(a_call())

        assert caught.value.effect is UNKNOWN

    async def test_answer_that_is_not_http_has_unknown_effect(self) -> None:
        """Bytes that are not HTTP prove nothing."""

        async def garbage(_: loopback.Asked, reply: loopback.Reply) -> None:
            await reply.raw(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")

        async with loopback_wire(garbage) as (_, wire):
            with pytest.raises(errors.Unreachable) as caught:
                await wire.send(a_call())

        assert caught.value.effect is UNKNOWN

    async def test_no_answer_times_out_with_unknown_effect(self) -> None:
        """A call without an answer ends at its own timeout, and may still take effect."""
        async with loopback_wire(loopback.hang) as (_, wire):
            with pytest.raises(errors.TimedOut, match=r"0\.05 s") as caught:
                await wire.send(a_call(timeout_seconds=0.05))

        assert caught.value.effect is UNKNOWN

    async def test_trickling_answer_cannot_extend_the_deadline(self) -> None:
        """An answer that keeps sending bytes ends at the call's deadline all the same."""
        left = asyncio.Event()

        async def trickle(_: loopback.Asked, reply: loopback.Reply) -> None:
            await reply.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n")
            while not left.is_set():
                await reply.raw(b" ")
                with suppress(TimeoutError):
                    await asyncio.wait_for(left.wait(), 0.02)

        async with loopback_wire(trickle) as (_, wire):
            started = asyncio.get_running_loop().time()
            with pytest.raises(errors.TimedOut) as caught:
                await wire.send(a_call(timeout_seconds=0.2))
            left.set()

        assert caught.value.effect is UNKNOWN
        assert asyncio.get_running_loop().time() - started < 2

    async def test_timeout_of_one_call_leaves_the_others_alone(self) -> None:
        """Calls at the same time each have their own timeout."""
        release = asyncio.Event()

        async def later(_: loopback.Asked, reply: loopback.Reply) -> None:
            await release.wait()
            await reply.result(1)

        async with loopback_wire(later) as (_, wire):
            patient = asyncio.create_task(wire.send(a_call()))
            with pytest.raises(errors.TimedOut):
                await wire.send(a_call(timeout_seconds=0.05))
            release.set()

            assert await patient == 1

    async def test_common_service_never_has_an_effect(self) -> None:
        """A login or version that is lost has changed nothing."""
        async with loopback_wire(loopback.drop) as (_, wire):
            with pytest.raises(errors.Unreachable) as caught:
                await wire.send(a_call(service="common"))

        assert caught.value.effect is NONE

    async def test_cancelled_call_gives_its_slot_back(self) -> None:
        """A cancelled call leaves the only connection to the next one."""
        handler = loopback.in_turn(loopback.hang, loopback.answering(1))
        async with loopback_wire(handler, max_connections=1) as (server, wire):
            cancelled = asyncio.create_task(wire.send(a_call()))
            await server.arrived(1)
            cancelled.cancel()

            assert await wire.send(a_call()) == 1


class TestHttp:
    @pytest.mark.parametrize(
        ("status", "kind", "effect"),
        [
            pytest.param(502, errors.GatewayError, UNKNOWN, id="bad gateway"),
            pytest.param(503, errors.GatewayError, UNKNOWN, id="unavailable"),
            pytest.param(504, errors.GatewayError, UNKNOWN, id="gateway timeout"),
            pytest.param(500, errors.UnexpectedAnswer, UNKNOWN, id="server error"),
            pytest.param(403, errors.UnexpectedAnswer, UNKNOWN, id="firewall"),
            pytest.param(408, errors.UnexpectedAnswer, UNKNOWN, id="request timeout"),
            pytest.param(400, errors.UnexpectedAnswer, NONE, id="bad request"),
            pytest.param(401, errors.UnexpectedAnswer, NONE, id="unauthorized"),
            pytest.param(404, errors.UnexpectedAnswer, NONE, id="not found"),
            pytest.param(413, errors.UnexpectedAnswer, NONE, id="too large"),
            pytest.param(429, errors.UnexpectedAnswer, NONE, id="too many"),
        ],
    )
    async def test_status_decides(
        self, status: int, kind: type[errors.OdooError], effect: errors.Effect
    ) -> None:
        """An HTTP status proves no effect where it is decided before a method can run."""
        async with loopback_wire(loopback.status(status)) as (_, wire):
            with pytest.raises(kind, match=str(status)) as caught:
                await wire.send(a_call())

        assert caught.value.effect is effect

    async def test_redirect_is_not_followed(self) -> None:
        """A redirect names the new address, and the secret is not sent there."""
        moved = loopback.status(301, Location="https://new.example/jsonrpc?token=1")
        async with loopback_wire(moved) as (server, wire):
            with pytest.raises(errors.UnexpectedAnswer, match=r"new\.example/jsonrpc$") as caught:
                await wire.send(a_call())

        assert caught.value.effect is NONE
        assert len(server.asked) == 1

    async def test_http_10_answer_that_closes(self) -> None:
        """An HTTP/1.0 answer without a length ends with the connection."""

        async def old(_: loopback.Asked, reply: loopback.Reply) -> None:
            await reply.raw(b'HTTP/1.0 200 OK\r\n\r\n{"jsonrpc": "2.0", "result": [1]}')
            await reply.drop()

        async with loopback_wire(old) as (server, wire):
            assert await wire.send(a_call()) == [1]
            assert await wire.send(a_call()) == [1]

        assert len(server.asked) == 2

    async def test_compressed_answer(self) -> None:
        """An answer compressed by a proxy is read."""
        packed = gzip.compress(b'{"jsonrpc": "2.0", "result": [1]}')

        async def compressed(_: loopback.Asked, reply: loopback.Reply) -> None:
            await reply.http(packed, headers={"Content-Encoding": "gzip"})

        async with loopback_wire(compressed) as (_, wire):
            assert await wire.send(a_call()) == [1]

    async def test_cookies_are_not_kept(self) -> None:
        """Odoo's session cookie is not sent back."""

        async def cookie(_: loopback.Asked, reply: loopback.Reply) -> None:
            body = b'{"jsonrpc": "2.0", "result": 1}'
            await reply.http(body, headers={"Set-Cookie": "session_id=abc; Path=/"})

        async with loopback.serving(cookie) as server:
            # Cookie jars leave numeric addresses out.
            named = server.connection(url=f"http://localhost:{server.port}")
            async with wired(named) as wire:
                await wire.send(a_call())
                await wire.send(a_call())

        assert [asked.headers.get("cookie") for asked in server.asked] == [None, None]

    async def test_path_of_the_url_is_kept(self) -> None:
        """An Odoo behind a path is called there, and credentials are only in the body."""
        async with loopback.serving(loopback.answering(1)) as server:
            url = f"http://127.0.0.1:{server.port}/erp/"
            async with wired(server.connection(url=url)) as wire:
                await wire.send(a_call())

        assert server.asked[0].path == "/erp/jsonrpc"
        assert "authorization" not in server.asked[0].headers


class TestAnswers:
    @pytest.mark.parametrize(
        "body",
        [
            pytest.param(b"", id="empty"),
            pytest.param(b"<html>Log in</html>", id="a page"),
            pytest.param(b"{}", id="another service"),
            pytest.param(b"[1]", id="not an object"),
            pytest.param(b'{"jsonrpc": "2.0", "result": NaN}', id="not a number"),
            pytest.param(b'{"jsonrpc": "2.0", "result": "\xff"}', id="not UTF-8"),
            pytest.param(b'{"jsonrpc": "2.0", "error": "no"}', id="fault without data"),
            pytest.param(b'{"jsonrpc": "2.0", "error": {"data": {}}}', id="fault without name"),
        ],
    )
    async def test_answer_that_is_not_odoos(self, body: bytes) -> None:
        """An answer in another shape is unexpected, and proves nothing."""

        async def answer(_: loopback.Asked, reply: loopback.Reply) -> None:
            await reply.http(body)

        async with loopback_wire(answer) as (_, wire):
            with pytest.raises(errors.UnexpectedAnswer) as caught:
                await wire.send(a_call())

        assert caught.value.effect is UNKNOWN

    async def test_missing_result_is_none(self) -> None:
        """Odoo leaves the result out for a method that returns nothing."""

        async def nothing(_: loopback.Asked, reply: loopback.Reply) -> None:
            await reply.json({"jsonrpc": "2.0", "id": 1})

        async with loopback_wire(nothing) as (_, wire):
            assert await wire.send(a_call()) is None

    async def test_decimals_survive_both_ways(self) -> None:
        """An amount goes out and comes back with every digit it had."""
        amount = Decimal("1718.910000000000000000001")

        async def echo(asked: loopback.Asked, reply: loopback.Reply) -> None:
            sent = asked.body.partition(b'{"amount":')[2].partition(b"}")[0]
            await reply.http(b'{"jsonrpc": "2.0", "result": {"amount": ' + sent + b"}}")

        async with loopback_wire(echo) as (_, wire):
            assert await wire.send(a_call({"amount": amount})) == {"amount": amount}

    async def test_whole_numbers_stay_whole(self) -> None:
        """Ids come back as int, and amounts that Odoo writes with a point as Decimal."""
        async with loopback_wire(loopback.answering([1, 1.0])) as (_, wire):
            answer = await wire.send(a_call())

        assert [type(item) for item in answer] == [int, Decimal]


class TestFaults:
    @pytest.mark.parametrize(
        ("name", "kind", "effect"),
        [
            pytest.param("odoo.exceptions.RedirectWarning", errors.UserFault, NONE),
            pytest.param("odoo.exceptions.LockError", errors.LockConflict, NONE),
            pytest.param("psycopg2.errors.SerializationFailure", errors.LockConflict, NONE),
            pytest.param("psycopg2.errors.DeadlockDetected", errors.LockConflict, NONE),
            pytest.param("psycopg2.errors.UniqueViolation", errors.ValidationFailed, NONE),
            pytest.param("psycopg2.errors.UndefinedColumn", errors.ServerFault, NONE),
            pytest.param("psycopg2.OperationalError", errors.ServerFault, UNKNOWN),
            pytest.param("psycopg2.InterfaceError", errors.ServerFault, UNKNOWN),
            pytest.param("psycopg2.errors.AdminShutdown", errors.ServerFault, UNKNOWN),
            pytest.param("builtins.AttributeError", errors.ServerFault, NONE),
            pytest.param("builtins.KeyError", errors.ServerFault, NONE),
            pytest.param("builtins.TypeError", errors.ServerFault, NONE),
            pytest.param("odoo.addons.foo.models.bar.Strange", errors.ServerFault, NONE),
        ],
        ids=lambda value: value if isinstance(value, str) and "." in value else "",
    )
    def test_class_follows_from_the_name(
        self, name: str, kind: type[errors.Fault], effect: errors.Effect
    ) -> None:
        """The name of Odoo's exception decides class and effect, in any language."""
        error = transport.fault(a_call(), name, "mensagem qualquer")

        assert isinstance(error, errors.Fault)
        assert (type(error), error.effect, error.exception) == (kind, effect, name)
        assert str(error) == "res.partner.write: mensagem qualquer"

    async def test_long_secret_is_taken_out_of_messages(self) -> None:
        """A fault that repeats the secret does not carry it on."""
        fault = loopback.failing("builtins.ValueError", f"bad value {loopback.SECRET}")
        async with loopback_wire(fault) as (_, wire):
            with pytest.raises(errors.InvalidCall) as caught:
                await wire.send(a_call())

        assert caught.value.message == "bad value ***"

    def test_secret_is_in_no_repr(self) -> None:
        """Neither the connection nor a call shows the secret."""
        assert loopback.SECRET not in f"{at_port(80)!r} {at_port(80)} {a_call()!r} {a_call()}"


class TestOutgoing:
    @pytest.mark.parametrize(
        ("value", "sent"),
        [
            pytest.param(None, None, id="none"),
            pytest.param(True, True, id="flag"),
            pytest.param(1.5, 1.5, id="float"),
            pytest.param((1, [2]), [1, [2]], id="tuple"),
            pytest.param({"a": (1,)}, {"a": [1]}, id="mapping"),
            pytest.param(date(2026, 1, 31), "2026-01-31", id="date"),
            pytest.param(
                datetime(2026, 1, 31, 10, 5, tzinfo=UTC), "2026-01-31 10:05:00", id="time"
            ),
            pytest.param(
                datetime(2026, 1, 31, 22, 0, tzinfo=timezone(timedelta(hours=-3))),
                "2026-02-01 01:00:00",
                id="time elsewhere",
            ),
        ],
    )
    def test_value_as_odoo_takes_it(self, value: Any, sent: Any) -> None:
        """Values become what Odoo takes, times in UTC."""
        assert transport.outgoing(value) == sent

    @pytest.mark.parametrize(
        "value",
        [
            pytest.param(float("nan"), id="float NaN"),
            pytest.param(float("-inf"), id="infinity"),
            pytest.param(Decimal("NaN"), id="Decimal NaN"),
            pytest.param(Decimal("sNaN"), id="signalling NaN"),
            pytest.param(Decimal("Infinity"), id="Decimal infinity"),
            pytest.param(datetime(2026, 1, 31), id="time without a zone"),  # noqa: DTZ001
            pytest.param(b"bytes", id="bytes"),
            pytest.param({1, 2}, id="set"),
            pytest.param("\ud800", id="half a character"),
        ],
    )
    async def test_value_that_cannot_be_sent(self, value: Any) -> None:
        """A value without a JSON form is refused before anything is sent."""
        async with loopback_wire(loopback.answering(1)) as (server, wire):
            with pytest.raises(errors.InvalidCall) as caught:
                await wire.send(a_call([{"x": value}]))

        assert caught.value.effect is NONE
        assert server.asked == []


class TestGuard:
    async def test_guard_runs_before_each_call(self) -> None:
        """The guard is asked before each request reaches the network."""
        order: list[str] = []

        async def answer(_: loopback.Asked, reply: loopback.Reply) -> None:
            order.append("call")
            await reply.result(1)

        async with (
            loopback.serving(answer) as server,
            wired(server.connection(), guard=lambda: order.append("guard")) as wire,
        ):
            await wire.send(a_call())
            await wire.send(a_call())

        assert order == ["guard", "call", "guard", "call"]

    async def test_guard_may_refuse(self) -> None:
        """What the guard raises reaches the caller, and nothing is sent."""

        def refuse() -> None:
            raise TransactionOpen("a transaction is open")

        async with (
            loopback.serving(loopback.answering(1)) as server,
            wired(server.connection(), guard=refuse) as wire,
        ):
            with pytest.raises(TransactionOpen):
                await wire.send(a_call())

        assert server.asked == []


def _caused(outer: Exception, cause: Exception) -> Exception:
    outer.__cause__ = cause
    return outer


KEY: Any = type("Key", (), {"host": "odoo", "port": 443, "ssl": True, "is_ssl": True})()


class TestTranslation:
    @pytest.mark.parametrize(
        ("error", "kind", "effect"),
        [
            pytest.param(httpx.ConnectError("x"), errors.Unreachable, NONE, id="connect"),
            pytest.param(httpx.ConnectTimeout("x"), errors.Unreachable, NONE, id="connect timeout"),
            pytest.param(httpx.PoolTimeout("x"), errors.Unreachable, NONE, id="pool timeout"),
            pytest.param(httpx.ReadTimeout("x"), errors.TimedOut, UNKNOWN, id="read timeout"),
            pytest.param(httpx.WriteTimeout("x"), errors.TimedOut, UNKNOWN, id="write timeout"),
            pytest.param(httpx.ReadError("x"), errors.Unreachable, UNKNOWN, id="read"),
            pytest.param(httpx.WriteError("x"), errors.Unreachable, UNKNOWN, id="write"),
            pytest.param(
                httpx.RemoteProtocolError("x"), errors.Unreachable, UNKNOWN, id="protocol"
            ),
            pytest.param(aiohttp.ClientPayloadError("x"), errors.Unreachable, UNKNOWN, id="body"),
            pytest.param(BrokenPipeError("x"), errors.Unreachable, UNKNOWN, id="pipe"),
            pytest.param(
                _caused(httpx.ConnectError("x"), aiohttp.ClientConnectorDNSError(KEY, OSError())),
                errors.Unreachable,
                NONE,
                id="name does not resolve",
            ),
            pytest.param(
                _caused(
                    httpx.ConnectError("x"),
                    aiohttp.ClientConnectorCertificateError(KEY, ValueError("self-signed")),
                ),
                errors.Unreachable,
                NONE,
                id="certificate",
            ),
            pytest.param(
                _caused(httpx.ReadTimeout("x"), aiohttp.SocketTimeoutError()),
                errors.TimedOut,
                UNKNOWN,
                id="socket timeout",
            ),
            pytest.param(
                _caused(httpx.TimeoutException("x"), aiohttp.ConnectionTimeoutError()),
                errors.Unreachable,
                NONE,
                id="connection timeout",
            ),
            # The reason for looking at the cause: these two were sent.
            pytest.param(
                _caused(httpx.ConnectTimeout("x"), aiohttp.ServerDisconnectedError()),
                errors.Unreachable,
                UNKNOWN,
                id="disconnected, mapped wrongly below",
            ),
            pytest.param(
                _caused(httpx.ConnectTimeout("x"), aiohttp.ClientOSError(104, "reset")),
                errors.Unreachable,
                UNKNOWN,
                id="reset, mapped wrongly below",
            ),
        ],
    )
    async def test_each_error_below_http(
        self, error: Exception, kind: type[errors.OdooError], effect: errors.Effect
    ) -> None:
        """Each error of the libraries below becomes one of Odoo's, with an honest effect."""

        def fail(_: httpx.Request) -> httpx.Response:
            raise error

        async with wired(at_port(80), lower=httpx.MockTransport(fail)) as wire:
            with pytest.raises(kind) as caught:
                await wire.send(a_call())

        assert caught.value.effect is effect
        assert caught.value.__cause__ is error


async def test_each_phase_has_its_own_timeout() -> None:
    """Resolving and connecting are bounded apart from the rest of the call."""
    seen: list[Any] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.extensions["timeout"])
        return httpx.Response(200, json={"jsonrpc": "2.0", "result": 1})

    connection = at_port(80, connect_timeout_seconds=2.0)
    async with wired(connection, lower=httpx.MockTransport(answer)) as wire:
        await wire.send(a_call(timeout_seconds=7))

    assert seen == [{"pool": 2.0, "connect": 2.0, "read": 7, "write": 7}]


class TestConnection:
    @pytest.mark.parametrize(
        "url",
        [
            pytest.param("odoo.example", id="no scheme"),
            pytest.param("ftp://odoo.example", id="not HTTP"),
            pytest.param("http://", id="no host"),
            pytest.param("http://me:secret@odoo.example", id="credentials"),
            pytest.param("http://odoo.example:port", id="not a port"),
        ],
    )
    def test_wrong_url_is_refused(self, url: str) -> None:
        """A URL that cannot work is refused, without repeating it."""
        with pytest.raises(Misconfigured, match="lab") as caught:
            at_port(1, url=url)

        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize(
        ("url", "place"),
        [
            ("http://odoo.example", "odoo.example:80"),
            ("https://odoo.example/erp/?a=b", "odoo.example:443"),
            ("http://odoo.example:8069", "odoo.example:8069"),
        ],
    )
    def test_place_names_the_port(self, url: str, place: str) -> None:
        """The place is the host with its port, also where the URL leaves it out."""
        assert at_port(1, url=url).place == place
