"""What the client sends, how often, and as whom."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from service.errors import TransactionOpen
from service.odoo import client, errors, records
from tests.unit.odoo import loopback

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Reading = Callable[[client.Client], Awaitable[Any]]

ROWS = [{"id": 2, "name": "b"}, {"id": 1, "name": "a"}]

READS: list[Any] = [
    pytest.param("search_read", lambda odoo: odoo.search_read("m", [], ["name"]), ROWS),
    pytest.param("read", lambda odoo: odoo.read("m", [1, 2], ["name"]), ROWS),
    pytest.param("search", lambda odoo: odoo.search("m", []), [2, 1]),
    pytest.param("search_count", lambda odoo: odoo.search_count("m", []), 2),
    pytest.param("fields_get", lambda odoo: odoo.fields_get("m"), {"name": {"type": "char"}}),
    pytest.param("name_get", lambda odoo: odoo.ask("m", "name_get", [[1]]), [[1, "a"]]),
]
WRITES: list[Any] = [
    pytest.param("button_confirm", lambda odoo: odoo.execute_kw("m", "button_confirm", [[1]])),
    pytest.param("create", lambda odoo: odoo.create("m", {"name": "x"})),
    pytest.param("write", lambda odoo: odoo.write("m", [1], {"name": "x"})),
    # By its name a read, but the caller said that it may change something.
    pytest.param("read", lambda odoo: odoo.execute_kw("m", "read", [[1]])),
]
TROUBLE: list[Any] = [
    pytest.param(loopback.drop, errors.Unreachable, id="dropped"),
    pytest.param(loopback.status(502), errors.GatewayError, id="502"),
    pytest.param(loopback.status(503), errors.GatewayError, id="503"),
    pytest.param(
        loopback.failing("psycopg2.errors.LockNotAvailable"), errors.LockConflict, id="lock"
    ),
]


@asynccontextmanager
async def connected(
    handler: loopback.Handler, **options: Any
) -> AsyncIterator[tuple[loopback.Loopback, client.Client]]:
    """Run a server and a client to it that does not wait between attempts."""
    options = {"retry": loopback.AT_ONCE} | options
    async with (
        loopback.serving(handler) as server,
        client.Client(server.connection(), **options) as odoo,
    ):
        yield server, odoo


class TestRepeating:
    @pytest.mark.parametrize(("trouble", "kind"), TROUBLE)
    @pytest.mark.parametrize(("method", "reading", "answer"), READS)
    async def test_read_is_repeated(
        self,
        method: str,
        reading: Reading,
        answer: Any,
        trouble: loopback.Handler,
        kind: type[errors.OdooError],
    ) -> None:
        """A read goes on after trouble of the network, a proxy or a lock."""
        del kind
        handler = loopback.in_turn(trouble, trouble, loopback.answering(answer))
        async with connected(loopback.odoo(**{method: handler})) as (server, odoo):
            assert await reading(odoo)

        assert server.methods == ["authenticate", method, method, method]

    @pytest.mark.parametrize(("trouble", "kind"), TROUBLE)
    @pytest.mark.parametrize(("method", "writing"), WRITES)
    async def test_write_is_never_repeated(
        self,
        method: str,
        writing: Reading,
        trouble: loopback.Handler,
        kind: type[errors.OdooError],
    ) -> None:
        """A call that may change something reaches the server once, whatever happens to it."""
        async with connected(loopback.odoo(**{method: trouble})) as (server, odoo):
            with pytest.raises(kind):
                await writing(odoo)

        assert server.methods == ["authenticate", method]

    async def test_write_that_times_out_is_never_repeated(self) -> None:
        """A write without an answer is sent once, and its effect is unknown."""
        async with connected(loopback.odoo(write=loopback.hang)) as (server, odoo):
            with pytest.raises(errors.TimedOut) as caught:
                await odoo.write("m", [1], {}, timeout_seconds=0.05)

        assert caught.value.effect is errors.Effect.UNKNOWN
        assert server.methods == ["authenticate", "write"]

    async def test_attempts_are_bounded(self) -> None:
        """A read gives up after the attempts of its policy, with the last error."""
        async with connected(loopback.odoo(read=loopback.drop)) as (server, odoo):
            with pytest.raises(errors.Unreachable):
                await odoo.read("m", [1], ["name"])

        assert server.methods.count("read") == 3

    async def test_total_time_is_bounded(self) -> None:
        """A read gives up when its total time is over, however many attempts are left."""
        policy = client.RetryPolicy(
            attempts=1_000_000,
            total_seconds=0.3,
            wait_seconds=0,
            longest_wait_seconds=0,
            jitter_seconds=0,
        )
        async with connected(loopback.odoo(read=loopback.hang), retry=policy) as (_, odoo):
            await odoo.authenticate()
            started = asyncio.get_running_loop().time()
            with pytest.raises(errors.TimedOut):
                await odoo.read("m", [1], ["name"], timeout_seconds=0.1)

        assert asyncio.get_running_loop().time() - started < 2

    async def test_business_fault_is_not_repeated(self) -> None:
        """What Odoo refuses once it refuses again, so a read is not repeated."""
        handler = loopback.odoo(read=loopback.failing("odoo.exceptions.AccessError"))
        async with connected(handler) as (server, odoo):
            with pytest.raises(errors.AccessDenied):
                await odoo.read("m", [1], ["name"])

        assert server.methods.count("read") == 1

    async def test_version_and_login_are_repeated(self) -> None:
        """The version and the login change nothing, so they are repeated too."""
        version = {"server_version": "saas~17.2+e", "server_serie": "saas~17.2"}
        handler = loopback.odoo(
            version=loopback.in_turn(loopback.drop, loopback.answering(version)),
            authenticate=loopback.in_turn(loopback.drop, loopback.answering(7)),
        )
        async with connected(handler) as (server, odoo):
            found = await odoo.version()
            user = await odoo.authenticate()

        assert found == client.Version(text="saas~17.2+e", series="saas~17.2", major=17)
        assert user == 7
        assert server.methods == ["version", "version", "authenticate", "authenticate"]

    async def test_guard_is_asked_before_each_attempt(self) -> None:
        """The guard is asked before each request, the repeated ones and the login included."""
        order: list[str] = []

        async def dropping(_: loopback.Asked, reply: loopback.Reply) -> None:
            order.append("call")
            await reply.drop()

        async def login(_: loopback.Asked, reply: loopback.Reply) -> None:
            order.append("call")
            await reply.result(7)

        handler = loopback.odoo(read=dropping, authenticate=login)
        async with connected(handler, guard=lambda: order.append("guard")) as (_, odoo):
            with pytest.raises(errors.Unreachable):
                await odoo.read("m", [1], ["name"])

        before = [order[at - 1] for at, event in enumerate(order) if event == "call"]
        assert before == ["guard"] * 4

    async def test_refusal_of_the_guard_is_final(self) -> None:
        """What the guard raises is not repeated, and nothing is sent."""
        asked: list[int] = []

        def refuse() -> None:
            asked.append(1)
            raise TransactionOpen("a transaction is open")

        async with connected(loopback.odoo(), guard=refuse) as (server, odoo):
            with pytest.raises(TransactionOpen):
                await odoo.read("m", [1], ["name"])

        assert server.asked == []
        assert len(asked) == 1


class TestLogin:
    async def test_calls_at_once_log_in_once(self) -> None:
        """Calls that start together share one login."""
        handler = loopback.odoo(search_count=loopback.answering(3))
        async with connected(handler) as (server, odoo):
            counts = await asyncio.gather(*(odoo.search_count("m", []) for _ in range(20)))

        assert counts == [3] * 20
        assert server.methods.count("authenticate") == 1

    async def test_calls_at_once_share_a_refusal(self) -> None:
        """A refused login is asked for once, and every call that waited for it fails."""
        handler = loopback.odoo(authenticate=loopback.answering(value=False))
        async with connected(handler) as (server, odoo):
            outcomes = await asyncio.gather(
                *(odoo.write("m", [1], {}) for _ in range(20)), return_exceptions=True
            )

        assert {type(outcome) for outcome in outcomes} == {errors.AuthenticationFailed}
        assert server.methods == ["authenticate"]

    async def test_caller_that_gives_up_leaves_the_login_to_others(self) -> None:
        """A cancelled caller does not end the login that others wait for."""
        release = asyncio.Event()

        async def slow(_: loopback.Asked, reply: loopback.Reply) -> None:
            await release.wait()
            await reply.result(7)

        handler = loopback.odoo(authenticate=slow, search_count=loopback.answering(3))
        async with connected(handler) as (server, odoo):
            first = asyncio.create_task(odoo.search_count("m", []))
            await server.arrived(1)
            second = asyncio.create_task(odoo.search_count("m", []))
            first.cancel()
            with suppress(asyncio.CancelledError):
                await first
            release.set()

            assert await second == 3

        assert server.methods == ["authenticate", "search_count"]

    async def test_write_whose_login_hangs_has_no_effect(self) -> None:
        """A write that never got past the login was not sent."""
        async with connected(loopback.odoo(authenticate=loopback.hang)) as (server, odoo):
            with pytest.raises(errors.TimedOut) as caught:
                await odoo.write("m", [1], {}, timeout_seconds=0.05)

        assert caught.value.effect is errors.Effect.NONE
        assert server.methods == ["authenticate"]

    async def test_write_whose_login_is_lost_has_no_effect(self) -> None:
        """A connection that breaks during the login proves that the write was not sent."""
        async with connected(loopback.odoo(authenticate=loopback.drop)) as (server, odoo):
            with pytest.raises(errors.Unreachable) as caught:
                await odoo.write("m", [1], {})

        assert caught.value.effect is errors.Effect.NONE
        assert set(server.methods) == {"authenticate"}

    async def test_refused_read_logs_in_again(self) -> None:
        """A read that Odoo refuses as not logged in is sent once more, as the new user."""
        handler = loopback.odoo(
            authenticate=loopback.in_turn(loopback.answering(7), loopback.answering(8)),
            search_count=loopback.in_turn(
                loopback.failing("odoo.exceptions.AccessDenied"), loopback.answering(3)
            ),
        )
        async with connected(handler) as (server, odoo):
            assert await odoo.search_count("m", []) == 3

        assert server.methods == ["authenticate", "search_count"] * 2
        assert [asked.params["args"][1] for asked in server.asked[1::2]] == [7, 8]

    async def test_read_refused_twice_fails(self) -> None:
        """A read that is refused also after a new login fails, and is not sent a third time."""
        handler = loopback.odoo(search_count=loopback.failing("odoo.exceptions.AccessDenied"))
        async with connected(handler) as (server, odoo):
            with pytest.raises(errors.AuthenticationFailed):
                await odoo.search_count("m", [])

        assert server.methods == ["authenticate", "search_count"] * 2

    async def test_refused_login_is_not_tried_again(self) -> None:
        """A login that Odoo refuses for good is asked for once by a read."""
        handler = loopback.odoo(authenticate=loopback.answering(value=False))
        async with connected(handler) as (server, odoo):
            with pytest.raises(errors.AuthenticationFailed):
                await odoo.search_count("m", [])

        assert server.methods == ["authenticate"]

    async def test_refused_write_is_left_to_the_caller(self) -> None:
        """A refused write is sent once; the call after it logs in again."""
        handler = loopback.odoo(
            write=loopback.in_turn(
                loopback.failing("odoo.exceptions.AccessDenied"), loopback.answering(value=True)
            )
        )
        async with connected(handler) as (server, odoo):
            with pytest.raises(errors.AuthenticationFailed) as caught:
                await odoo.write("m", [1], {})
            await odoo.write("m", [1], {})

        assert caught.value.effect is errors.Effect.NONE
        assert server.methods == ["authenticate", "write"] * 2

    async def test_deleted_user_is_forgotten(self) -> None:
        """When the own user is the missing record, the next call logs in again."""
        gone = loopback.failing(
            "odoo.exceptions.MissingError", "No existe\n(Registro: res.users(7,), Usuario: 7)"
        )
        handler = loopback.odoo(write=loopback.in_turn(gone, loopback.answering(value=True)))
        async with connected(handler) as (server, odoo):
            with pytest.raises(errors.MissingRecord):
                await odoo.write("m", [1], {})
            await odoo.write("m", [1], {})

        assert server.methods == ["authenticate", "write"] * 2

    async def test_close_ends_a_login(self) -> None:
        """Closing does not wait for a login that hangs."""
        async with connected(loopback.odoo(authenticate=loopback.hang)) as (server, odoo):
            waiting = asyncio.create_task(odoo.search_count("m", []))
            await server.arrived(1)
            await odoo.close()
            with pytest.raises(errors.Unreachable) as caught:
                await waiting

        assert caught.value.effect is errors.Effect.NONE


class TestCalls:
    async def test_read_keeps_the_order_of_ids(self) -> None:
        """Records come in the order of the ids, each once, without those that are missing."""
        handler = loopback.odoo(read=loopback.answering(ROWS))
        async with connected(handler) as (server, odoo):
            found = await odoo.read("m", [1, 9, 2, 1], ["name"])

        assert found == [records.Record("m", ROWS[1]), records.Record("m", ROWS[0])]
        assert server.asked[1].params["args"][5:] == [[[1, 9, 2]], {"fields": ["name"]}]

    async def test_read_of_nothing_asks_nothing(self) -> None:
        """Reading no ids needs no call."""
        async with connected(loopback.odoo()) as (server, odoo):
            assert await odoo.read("m", [], ["name"]) == []

        assert server.asked == []

    async def test_no_fields_means_the_id_alone(self) -> None:
        """Asking for no fields does not fetch every field."""
        handler = loopback.odoo(search_read=loopback.answering([]))
        async with connected(handler) as (server, odoo):
            await odoo.search_read("m", [["a", "=", 1]], [], limit=5)

        assert server.asked[1].params["args"][5:] == [
            [[["a", "=", 1]]],
            {"fields": ["id"], "order": "id", "limit": 5},
        ]

    async def test_contexts_are_merged(self) -> None:
        """The context of a call goes over the client's, key by key."""
        handler = loopback.odoo(
            search_count=loopback.answering(0), go=loopback.answering(value=True)
        )
        base = {"lang": "pt_BR", "tz": "UTC"}
        async with connected(handler, context=base) as (server, odoo):
            await odoo.search_count("m", [], context={"lang": "en_US", "active_test": False})
            await odoo.execute_kw("m", "go", [[1]], {"context": {"tz": "X"}, "a": 1})

        assert [asked.params["args"][6] for asked in server.asked[1:]] == [
            {"context": {"lang": "en_US", "tz": "UTC", "active_test": False}},
            {"context": {"lang": "pt_BR", "tz": "X"}, "a": 1},
        ]

    async def test_write_and_create_send_values(self) -> None:
        """Values are sent as given, and a new record's id comes back."""
        handler = loopback.odoo(create=loopback.answering(9), write=loopback.answering(value=True))
        async with connected(handler) as (server, odoo):
            created = await odoo.create("m", {"amount": Decimal("1.10")})
            await odoo.write("m", [created], {"name": "x"})

        assert created == 9
        assert [asked.params["args"][5] for asked in server.asked[1:]] == [
            [{"amount": 1.1}],
            [[9], {"name": "x"}],
        ]

    @pytest.mark.parametrize(("method", "reading", "answer"), READS[:-1])
    async def test_shape_that_odoo_never_sends(
        self, method: str, reading: Reading, answer: Any
    ) -> None:
        """An answer of another shape is unexpected, and never an empty list."""
        del answer
        handler = loopback.odoo(**{method: loopback.answering(value=False)})
        async with connected(handler) as (_, odoo):
            with pytest.raises(errors.UnexpectedAnswer):
                await reading(odoo)

    async def test_record_without_id_is_unexpected(self) -> None:
        """A row without an id is no record."""
        handler = loopback.odoo(search_read=loopback.answering([{"name": "x"}]))
        async with connected(handler) as (_, odoo):
            with pytest.raises(errors.UnexpectedAnswer):
                await odoo.search_read("m", [], ["name"])

    async def test_created_id_of_another_shape_has_unknown_effect(self) -> None:
        """A create that answers something else may have created a record."""
        async with connected(loopback.odoo(create=loopback.answering([9]))) as (_, odoo):
            with pytest.raises(errors.UnexpectedAnswer) as caught:
                await odoo.create("m", {})

        assert caught.value.effect is errors.Effect.UNKNOWN

    async def test_version_of_another_shape_is_unexpected(self) -> None:
        """A version that cannot be read is not Odoo's."""
        async with connected(loopback.odoo(version=loopback.answering({}))) as (_, odoo):
            with pytest.raises(errors.UnexpectedAnswer):
                await odoo.version()
