"""JSON-2: named arguments, the login, what went wrong, and the choice of the protocol."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from service.odoo import client, errors, json2, signatures, transport
from service.simulator.app import DEMO_KEY, Simulator, SimulatorSettings
from tests.unit.odoo import loopback

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    import httpx

NONE, UNKNOWN = errors.Effect.NONE, errors.Effect.UNKNOWN


def over(connection: transport.Connection, protocol: json2.Protocol = "json2") -> client.Client:
    """A client that speaks a protocol."""
    wire = json2.choose(protocol, connection, guard=transport.no_guard)
    return client.Client(connection, retry=loopback.AT_ONCE, wire=wire)


def of(simulator: Simulator, **changes: Any) -> transport.Connection:
    """A simulator as a connection, by its key."""
    values: dict[str, Any] = {
        "name": "lab",
        "url": simulator.url,
        "database": "eclusa",
        "login": "admin",
        "secret": DEMO_KEY,
    }
    return transport.Connection(**(values | changes))


class Noting(transport.JsonRpcTransport):
    """Connections that note the paths they are asked for."""

    def __init__(self, connection: transport.Connection) -> None:
        super().__init__(connection)
        self.paths: list[str] = []

    async def exchange(self, call: transport.Call, request: httpx.Request) -> httpx.Response:
        """Note the path, and go on."""
        self.paths.append(request.url.path)
        return await super().exchange(call, request)


def over_json2(*handlers: loopback.Handler) -> loopback.Handler:
    """Accept the login over JSON-2, then behave like each handler in turn."""
    return loopback.in_turn(loopback.uid, loopback.login, *handlers)


@pytest.mark.parametrize(
    ("method", "args", "kwargs", "expected"),
    [
        ("write", [[1, 2], {"ref": "x"}], {}, {"ids": [1, 2], "vals": {"ref": "x"}}),
        (
            "write",
            [3, {}],
            {"context": {"lang": "a"}},
            {"ids": [3], "vals": {}, "context": {"lang": "a"}},
        ),
        ("create", [{"name": "x"}], {}, {"vals_list": {"name": "x"}}),
        (
            "search_read",
            [[], ["name"]],
            {"limit": 2},
            {"domain": [], "fields": ["name"], "limit": 2},
        ),
        ("read", [[]], {"fields": ["name"]}, {"ids": [], "fields": ["name"]}),
        ("has_access", [[], "read"], {}, {"ids": [], "operation": "read"}),
        ("fields_get", [], {"attributes": ["type"]}, {"attributes": ["type"]}),
        ("action_of_a_module", [[5]], {"note": "x"}, {"ids": [5], "note": "x"}),
        ("named_only", [], {"day": "2026-01-01"}, {"day": "2026-01-01"}),
    ],
)
def test_arguments_get_names(
    method: str, args: list[Any], kwargs: dict[str, Any], expected: Mapping[str, Any]
) -> None:
    """The records become `ids`, everything else the parameter at its place."""
    assert signatures.named("res.partner", method, args, kwargs) == expected


@pytest.mark.parametrize(
    ("method", "args", "kwargs"),
    [
        pytest.param("action_of_a_module", [[5], "x"], {}, id="unknown place"),
        pytest.param("action_of_a_module", [["a"]], {}, id="not records"),
        pytest.param("action_of_a_module", [[]], {}, id="perhaps not records"),
        pytest.param("action_of_a_module", [True], {}, id="true is no record"),
        pytest.param("write", ["x", {}], {}, id="no id"),
        pytest.param("write", [[1], {}, 3], {}, id="one too many"),
        pytest.param("write", [[1], {}], {"vals": {}}, id="twice"),
        pytest.param("write", [[1]], {"ids": [2]}, id="other records by name"),
    ],
)
async def test_what_has_no_name_is_not_sent(
    method: str, args: list[Any], kwargs: dict[str, Any]
) -> None:
    """A call that cannot be put into names is refused, with effect none, before it is sent."""
    async with (
        loopback.serving(over_json2(loopback.hang)) as server,
        over(server.connection()) as odoo,
    ):
        with pytest.raises(errors.InvalidCall) as caught:
            await odoo.execute_kw("res.partner", method, args, kwargs)

    assert caught.value.effect is NONE
    assert [asked.path.rpartition("/")[2] for asked in server.asked] == ["context_get", "read"]


async def test_a_created_record_is_one_id() -> None:
    """The values of one record are answered by its id, those of several by a list, as before."""
    async with Simulator(SimulatorSettings(version=19)) as simulator, over(of(simulator)) as odoo:
        one = await odoo.create("res.partner", {"name": "One"})
        several = await odoo.execute_kw("res.partner", "create", [[{"name": "Two"}]])

        assert isinstance(one, int)
        assert [type(record_id) for record_id in several] == [int]


async def test_the_same_surface_over_both_protocols() -> None:
    """Whatever a client asks, both protocols answer the same."""
    async with (
        Simulator(SimulatorSettings(version=19)) as simulator,
        over(of(simulator)) as named,
        over(of(simulator), "jsonrpc") as positional,
    ):
        partners = await positional.search("res.partner", [], limit=3)
        await named.write("res.partner", partners[:1], {"ref": "seen"})
        questions: list[Callable[[client.Client], Awaitable[Any]]] = [
            lambda odoo: odoo.version(),
            lambda odoo: odoo.authenticate(),
            lambda odoo: odoo.databases(),
            lambda odoo: odoo.search("res.partner", [], limit=3),
            lambda odoo: odoo.search_count("res.partner", [["id", ">", 1]]),
            lambda odoo: odoo.search_read("res.partner", [], ["name", "ref"], limit=3),
            lambda odoo: odoo.read("res.partner", partners, ["ref", "country_id", "write_date"]),
            lambda odoo: odoo.fields_get("res.partner"),
            lambda odoo: odoo.ask("res.partner", "has_access", [[], "read"]),
        ]
        for question in questions:
            assert await question(named) == await question(positional)


@pytest.mark.parametrize(
    ("handler", "kind", "effect"),
    [
        pytest.param(loopback.status(502), errors.GatewayError, UNKNOWN, id="proxy"),
        pytest.param(loopback.status(404), errors.UnexpectedAnswer, NONE, id="no such route"),
        pytest.param(loopback.status(500), errors.UnexpectedAnswer, UNKNOWN, id="page"),
        pytest.param(loopback.status(200), errors.UnexpectedAnswer, UNKNOWN, id="no json"),
        pytest.param(loopback.drop, errors.Unreachable, UNKNOWN, id="reply lost"),
        pytest.param(loopback.hang, errors.TimedOut, UNKNOWN, id="slow"),
    ],
)
async def test_a_write_in_trouble_is_as_unknown_as_over_json_rpc(
    handler: loopback.Handler, kind: type[errors.OdooError], effect: errors.Effect
) -> None:
    """What no fault of Odoo answers may have been applied; it is sent once."""
    async with (
        loopback.serving(over_json2(handler)) as server,
        over(server.connection()) as odoo,
    ):
        with pytest.raises(kind) as caught:
            await odoo.execute_kw("res.partner", "write", [[1], {}], timeout_seconds=0.5)

    assert (type(caught.value), caught.value.effect) == (kind, effect)
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("status", "name", "kind", "effect"),
    [
        (409, "odoo.exceptions.LockError", errors.LockConflict, NONE),
        (403, "odoo.exceptions.AccessError", errors.AccessDenied, NONE),
        (500, "psycopg2.errors.AdminShutdown", errors.ServerFault, UNKNOWN),
        (503, "psycopg2.OperationalError", errors.ServerFault, UNKNOWN),
        (500, "builtins.ZeroDivisionError", errors.ServerFault, NONE),
    ],
)
async def test_the_named_exception_decides_not_the_status(
    status: int, name: str, kind: type[errors.OdooError], effect: errors.Effect
) -> None:
    """An exception means what it means over JSON-RPC, whatever status carries it."""

    async def fault(_: loopback.Asked, reply: loopback.Reply) -> None:
        body = {"name": name, "message": "no", "arguments": [], "context": {}, "debug": "x"}
        await reply.http(json.dumps(body).encode(), status=status)

    async with (
        loopback.serving(over_json2(fault)) as server,
        over(server.connection()) as odoo,
    ):
        with pytest.raises(errors.OdooError) as caught:
            await odoo.execute_kw("res.partner", "write", [[1], {}])

    assert (type(caught.value), caught.value.effect) == (kind, effect)


async def test_a_key_of_another_user_is_refused() -> None:
    """The key must be one of the login, as over JSON-RPC: else another user would have acted."""
    async with (
        Simulator(SimulatorSettings(version=19)) as simulator,
        over(of(simulator, login="observer")) as odoo,
    ):
        with pytest.raises(errors.AuthenticationFailed, match="not one of observer") as caught:
            await odoo.execute_kw("res.partner", "write", [[1], {"ref": "x"}])

        assert caught.value.effect is NONE
        assert simulator.world.received["res.partner.write"] == 0


@pytest.mark.parametrize(
    ("version", "secret", "spoken"),
    [
        pytest.param(19, DEMO_KEY, "/json/2/res.partner/search_count", id="key"),
        pytest.param(19, "admin", "/jsonrpc", id="password"),
        pytest.param(17, DEMO_KEY, "/jsonrpc", id="old"),
    ],
)
async def test_auto_takes_the_newest_that_the_secret_opens(
    version: Any, secret: str, spoken: str
) -> None:
    """JSON-2 from 19 on when the secret is a key that it takes, else JSON-RPC."""
    async with Simulator(SimulatorSettings(version=version)) as simulator:
        rpc = Noting(of(simulator, secret=secret))
        wire = json2.NewestTransport(rpc)
        async with client.Client(rpc.connection, wire=wire) as odoo:
            assert await odoo.search_count("res.partner", []) > 0
            assert await odoo.search_count("res.partner", []) > 0

        assert rpc.paths[-2:] == [spoken, spoken]
        assert simulator.world.received["common.version"] == 1


async def test_auto_falls_back_where_a_proxy_hides_json2() -> None:
    """A proxy that lets only `/jsonrpc` through is no reason to fail."""
    version = loopback.answering({"server_version": "19.0", "server_serie": "19.0"})
    handler = loopback.in_turn(version, loopback.status(404), loopback.answering(7))
    async with (
        loopback.serving(handler) as server,
        over(server.connection(), "auto") as odoo,
    ):
        assert await odoo.authenticate() == 7
        assert await odoo.execute_kw("res.partner", "search_count", [[]]) == 7

    assert [asked.path for asked in server.asked] == [
        "/jsonrpc",
        "/json/2/res.users/context_get",
        "/jsonrpc",
        "/jsonrpc",
    ]


async def test_a_path_in_front_is_kept_and_names_are_quoted() -> None:
    """The address may have a path; a name with a slash stays one part of it."""
    async with loopback.serving(over_json2(loopback.status(404))) as server:
        address = f"http://127.0.0.1:{server.port}/odoo/"
        async with over(server.connection(url=address)) as odoo:
            with pytest.raises(errors.UnexpectedAnswer):
                await odoo.execute_kw("a/b", "c?d", [])

    assert server.asked[-1].path == "/odoo/json/2/a%2Fb/c%3Fd"
