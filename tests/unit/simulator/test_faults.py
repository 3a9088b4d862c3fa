"""Every fault, over real HTTP: what the client sees, and what the world holds."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from service.simulator import faults
from service.simulator.faults import Fault
from tests.unit.simulator.helpers import Client, OdooFault, arrive, generate, one, until

if TYPE_CHECKING:
    from service.simulator.app import Simulator

PARTNER = 101
SHORT = 0.1


async def rename(client: Client) -> Any:
    """Make the call that the faults of these tests concern."""
    return await client("res.partner", "write", [PARTNER], {"name": "New"})


def renamed(simulator: Simulator) -> bool:
    """Whether the call had its effect."""
    return bool(one(simulator.world, "res.partner", PARTNER)["name"] == "New")


def fault(kind: faults.Kind, **options: Any) -> Fault:
    """Return a fault of the call."""
    return Fault(kind=kind, model="res.partner", method="write", **options)


async def test_slow_call_blocks_no_other(simulator: Simulator, client: Client) -> None:
    """While a slow call computes, others are answered; its effect comes at its end."""
    simulator.add_fault(fault("slow", seconds=0.3))
    slow = asyncio.create_task(rename(client))
    await until(lambda: simulator.world.in_flight == 1)

    count = await client("res.partner", "search_count", [["name", "=", "New"]])

    assert (count, renamed(simulator)) == (0, False)
    assert await slow is True
    assert renamed(simulator)


async def test_slow_call_carries_its_start_as_write_date(
    simulator: Simulator, client: Client
) -> None:
    """A call that committed later may carry an earlier time."""
    clock = simulator.world.clock()
    simulator.world.clock = lambda: clock
    simulator.add_fault(fault("slow", seconds=SHORT))
    slow = asyncio.create_task(rename(client))
    await until(lambda: simulator.world.in_flight == 1)
    simulator.world.clock = lambda: clock.replace(year=2030)

    await slow

    stamp = one(simulator.world, "res.partner", PARTNER)["write_date"]
    assert stamp == clock.strftime("%Y-%m-%d %H:%M:%S")


async def test_client_that_gives_up_changes_nothing(simulator: Simulator) -> None:
    """The server commits although its client is gone."""
    simulator.add_fault(fault("slow", seconds=0.2))
    async with httpx.AsyncClient(base_url=simulator.url, timeout=0.05) as http:
        with pytest.raises(httpx.ReadTimeout):
            await rename(Client(http))

    assert not renamed(simulator)
    await simulator.world.settled()
    assert renamed(simulator)


@pytest.mark.parametrize(
    ("seconds", "after", "at_close"), [(SHORT, 0.0, True), (SHORT, 0.25, False)]
)
async def test_late_success(
    simulator: Simulator, client: Client, seconds: float, after: float, *, at_close: bool
) -> None:
    """The connection is held and closed without an answer; the effect comes when it comes."""
    simulator.add_fault(fault("late_success", seconds=seconds, after=after))

    with pytest.raises(httpx.RemoteProtocolError):
        await rename(client)

    assert renamed(simulator) == at_close
    await simulator.world.settled()
    assert renamed(simulator)


async def test_reply_lost(simulator: Simulator, client: Client) -> None:
    """The effect is committed, and nobody is told."""
    simulator.add_fault(fault("reply_lost"))

    with pytest.raises(httpx.RemoteProtocolError):
        await rename(client)

    assert renamed(simulator)


@pytest.mark.parametrize("code", [502, 503, 504])
@pytest.mark.parametrize("applied", [True, False])
async def test_gateway(simulator: Simulator, client: Client, code: int, *, applied: bool) -> None:
    """A proxy answers a page; behind it the call works or does not."""
    kind = faults.from_text(f"kind=gateway_{code}").kind
    simulator.add_fault(fault(kind, seconds=0.02, applied=applied))

    response = await client.post("res.partner", "write", [PARTNER], {"name": "New"})

    assert (response.status_code, response.headers["content-type"][:9]) == (code, "text/html")
    await simulator.world.settled()
    assert renamed(simulator) == applied


async def test_gateway_with_a_late_effect(simulator: Simulator, client: Client) -> None:
    """The effect can follow the page."""
    simulator.add_fault(fault("gateway_504", seconds=0.0, after=0.2))

    await client.post("res.partner", "write", [PARTNER], {"name": "New"})

    assert not renamed(simulator)
    await simulator.world.settled()
    assert renamed(simulator)


@pytest.mark.parametrize(
    ("kind", "name", "effect"),
    [
        ("fault_after_commit", "odoo.exceptions.UserError", True),
        ("user_error", "odoo.exceptions.UserError", False),
        ("access_error", "odoo.exceptions.AccessError", False),
        ("lock_conflict", "psycopg2.errors.LockNotAvailable", False),
        ("serialization_conflict", "psycopg2.errors.SerializationFailure", False),
    ],
)
async def test_answered_fault(
    simulator: Simulator, client: Client, kind: faults.Kind, name: str, *, effect: bool
) -> None:
    """A fault inside HTTP 200; only one kind of it hides an effect."""
    simulator.add_fault(fault(kind))

    with pytest.raises(OdooFault) as caught:
        await rename(client)

    assert caught.value.name == name
    assert renamed(simulator) == effect


async def test_missing_result(simulator: Simulator, client: Client) -> None:
    """The answer has no `result`, and the effect is there."""
    simulator.add_fault(fault("missing_result"))

    response = await client.post("res.partner", "write", [PARTNER], {"name": "New"})

    assert response.json() == {"jsonrpc": "2.0", "id": 1}
    assert renamed(simulator)


async def test_drop_before(simulator: Simulator, client: Client) -> None:
    """The connection closes before anything happened."""
    simulator.add_fault(fault("drop_before"))

    with pytest.raises(httpx.RemoteProtocolError):
        await rename(client)

    assert not renamed(simulator)


async def test_duplicate_delivery_applies_twice(simulator: Simulator, client: Client) -> None:
    """A network that repeats a request makes two records."""
    simulator.add_fault(Fault(kind="duplicate_delivery", method="create"))
    before = len(simulator.world.records("res.partner"))

    await client("res.partner", "create", {"name": "Twin"})

    assert len(simulator.world.records("res.partner")) == before + 2


async def test_outage_lasts_until_it_is_cleared(simulator: Simulator, client: Client) -> None:
    """Everything is 502, logins too, until the faults are cleared."""
    simulator.add_fault(Fault(kind="unavailable"))
    down = await client.post("res.partner", "search_count", [])

    await client.http.delete("/simulator/faults")

    assert down.status_code == 502
    assert await client("res.partner", "search_count", []) > 0


async def test_outage_of_some_seconds_ends(simulator: Simulator, client: Client) -> None:
    """An outage with a length ends by itself."""
    simulator.add_fault(Fault(kind="unavailable", seconds=SHORT))
    codes: list[int] = []

    async with asyncio.timeout(5):
        while 200 not in codes:
            codes.append((await client.post("res.partner", "search_count", [])).status_code)

    assert codes[0] == 502


async def test_outage_that_refuses_closes_connections(simulator: Simulator, client: Client) -> None:
    """A server that is down says nothing at all."""
    simulator.add_fault(Fault(kind="unavailable", refuse=True))

    with pytest.raises(httpx.RemoteProtocolError):
        await rename(client)


async def test_restart_aborts_what_is_in_flight(simulator: Simulator, client: Client) -> None:
    """A restart rolls back, closes the connection, and serves again."""
    simulator.add_fault(fault("slow", seconds=30))
    waiting = asyncio.create_task(rename(client))
    await until(lambda: simulator.world.in_flight == 1)

    answer = await client.http.post("/simulator/restart")

    assert answer.json() == {"aborted": 1}
    with pytest.raises(httpx.RemoteProtocolError):
        await waiting
    assert not renamed(simulator)
    assert await rename(client) is True


async def test_fault_meets_only_the_calls_it_concerns(simulator: Simulator, client: Client) -> None:
    """Model, method, ids and the number of times decide."""
    simulator.add_fault(fault("user_error", ids=(102,), times=2))

    assert await rename(client) is True
    for _ in range(2):
        with pytest.raises(OdooFault):
            await client("res.partner", "write", [102], {"name": "x"})
    assert await client("res.partner", "write", [102], {"name": "x"}) is True


async def test_fault_finds_its_document_by_key(simulator: Simulator, client: Client) -> None:
    """A fault with an access key meets calls on that document's order, bill or DFe."""
    world = simulator.world
    first, second = arrive(world), arrive(world)
    orders = [generate(world, first), generate(world, second)]
    simulator.add_fault(Fault(kind="user_error", model="purchase.order", key=second.key))

    assert await client("purchase.order", "write", [orders[0]], {"partner_ref": "x"}) is True
    with pytest.raises(OdooFault):
        await client("purchase.order", "write", [orders[1]], {"partner_ref": "x"})


async def test_login_meets_only_faults_that_name_it(simulator: Simulator, client: Client) -> None:
    """A fault for any call does not touch logins; one for `common` does."""
    body = {
        "params": {"service": "common", "method": "login", "args": ["eclusa", "admin", "admin"]}
    }
    simulator.add_fault(Fault(kind="gateway_502"))
    first = await client.http.post("/jsonrpc", json=body)
    simulator.add_fault(Fault(kind="gateway_502", model="common"))
    simulator.world.faults.waiting.reverse()

    second = await client.http.post("/jsonrpc", json=body)

    assert (first.status_code, second.status_code) == (200, 502)


async def test_calls_and_effects_are_counted(simulator: Simulator, client: Client) -> None:
    """Received counts calls, committed those that changed something; persons are not counted."""
    simulator.add_fault(fault("user_error"))
    with pytest.raises(OdooFault):
        await rename(client)
    await rename(client)
    simulator.world.execute("res.partner", "write", [PARTNER], {"name": "Person"})

    state = (await client.http.get("/simulator/state")).json()

    assert state["received"]["res.partner.write"] == 2
    assert state["committed"]["res.partner.write"] == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("kind=slow,seconds=2", Fault(kind="slow", seconds=2)),
        (
            "kind=gateway_502, model=purchase.order, method=button_confirm, applied=false, ids=1+2",
            Fault(
                kind="gateway_502",
                model="purchase.order",
                method="button_confirm",
                applied=False,
                ids=(1, 2),
            ),
        ),
        ("kind=unavailable,refuse=true,times=3", Fault(kind="unavailable", refuse=True, times=3)),
    ],
)
def test_fault_from_text(text: str, expected: Fault) -> None:
    """The command line names a fault by name and value."""
    assert faults.from_text(text) == expected


@pytest.mark.parametrize(
    "text", ["kind=boom", "model=x", "kind=slow,colour=red", "slow", "kind=slow,seconds=-1"]
)
def test_wrong_fault_is_refused(text: str) -> None:
    """Unknown kinds and names, and senseless numbers, are refused."""
    with pytest.raises(ValueError, match=r"\w"):
        faults.from_text(text)
