"""The server itself: control routes, the seed, connections, and the command line."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, Literal

import httpx
import pytest

from service.simulator import app, fiscal
from service.simulator.app import Simulator, SimulatorSettings
from tests.unit.simulator.helpers import DFE, Client, until

if TYPE_CHECKING:
    from pathlib import Path


async def test_seed_names_what_a_profile_needs(simulator: Simulator, client: Client) -> None:
    """Every id of the seed exists as a record."""
    seed = (await client.http.get("/simulator/seed")).json()

    for company in seed["companies"]:
        types = [company["picking_type_id"], company["default_picking_type_id"]]
        assert fiscal.is_cnpj(company["cnpj"])
        for record_id in types:
            kind = simulator.world.records("stock.picking.type", [["id", "=", record_id]])[0]
            assert kind["company_id"][0] == company["id"]
        assert set(company["operations"]) == {
            "intrastate_normal",
            "interstate_normal",
            "intrastate_simplified",
            "interstate_simplified",
        }
    assert await client("crm.team", "search_count", [["id", "=", seed["team_id"]]]) == 1
    assert await client("product.product", "search_count", [["id", "=", seed["product_id"]]]) == 1


async def test_documents_arrive_by_route(client: Client) -> None:
    """A posted option set makes documents that a search by key finds."""
    options = {"count": 2, "taker_company": "hub", "dfe_total": "10.50", "status": "07"}

    answer = await client.http.post("/simulator/documents", json=options)

    made = answer.json()["documents"]
    assert (answer.status_code, len(made)) == (201, 2)
    for document in made:
        found = await client(DFE, "search_read", [["protnfe_infnfe_chnfe", "=", document["key"]]])
        assert found[0]["l10n_br_status"] == "07"
        assert found[0]["nfe_infnfe_total_icmstot_vnf"] == 10.5
        assert document["amount"] != document["dfe_total"] == "10.50"


async def test_person_acts_by_route(client: Client) -> None:
    """A person may change a record without being counted."""
    body = {"model": "res.partner", "method": "write", "args": [[101], {"name": "Person"}]}

    answer = await client.http.post("/simulator/execute", json=body)

    records = await client.http.get(
        "/simulator/records/res.partner", params={"domain": '[["id","=",101]]', "fields": "name"}
    )
    assert answer.json() == {"result": True}
    assert records.json() == [{"id": 101, "name": "Person"}]
    state = (await client.http.get("/simulator/state")).json()
    assert "res.partner.write" not in state["received"]


async def test_settings_change_the_version(simulator: Simulator, client: Client) -> None:
    """The same records can be served as another version."""
    body: dict[str, Any] = {"version": 19, "durations": {"button_confirm": 0.5}}

    answer = await client.http.post("/simulator/settings", json=body)

    assert answer.json()["durations"] == {"button_confirm": 0.5}
    faulty = (await client.post("res.partner", "no_such_method", [1])).json()
    assert (simulator.world.version, faulty["error"]["code"]) == (19, 0)


async def test_titles_stand_open(client: Client) -> None:
    """One, or a list of them, each with its instalments."""
    options = [{"direction": "payable", "amounts": ["600.50", 400]}, {"number": 4711}]

    answer = await client.http.post("/simulator/titles", json=options)

    bill, invoice = answer.json()["titles"]
    items = await client.http.get(
        "/simulator/records/account.move.line",
        params={"domain": json.dumps([["id", "in", bill["line_ids"]]])},
    )
    assert answer.status_code == 201
    assert [item["amount_residual"] for item in items.json()] == [-600.5, -400.0]
    assert (invoice["number"], len(invoice["line_ids"])) == (4711, 1)


@pytest.mark.parametrize("version", [17, 19])
async def test_goods_are_on_their_way(
    simulator: Simulator, client: Client, version: Literal[17, 19]
) -> None:
    """Each of a product of its own; their picking is ready."""
    simulator.world.configure({"version": version})
    goods = [{"tracking": "lot", "quantity": "7.5"}, {"tracking": "serial", "quantity": 3}]

    answer = await client.http.post("/simulator/receipts", json={"company": "hub", "goods": goods})

    [receipt] = answer.json()["receipts"]
    pickings = await client.http.get("/simulator/records/stock.picking")
    assert answer.status_code == 201
    assert [(move["quantity"], move["tracking"]) for move in receipt["moves"]] == [
        ("7.5", "lot"),
        ("3", "serial"),
    ]
    assert len({move["product_id"] for move in receipt["moves"]}) == len(goods)
    assert [(one["id"], one["name"], one["state"]) for one in pickings.json()] == [
        (receipt["picking_id"], receipt["name"], "assigned")
    ]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/simulator/faults", {"kind": "boom"}),
        ("/simulator/faults", "not an object"),
        ("/simulator/settings", {"colour": "red"}),
        ("/simulator/settings", {"version": 18}),
        ("/simulator/settings", {"approver": "nobody"}),
        ("/simulator/documents", {"colour": "red"}),
        ("/simulator/documents", {"amount": "much"}),
        ("/simulator/documents", {"carrier_state": "AC"}),
        ("/simulator/titles", {"colour": "red"}),
        ("/simulator/titles", {"amounts": ["much"]}),
        ("/simulator/receipts", {"company": "nowhere"}),
        ("/simulator/receipts", {"goods": [{"colour": "red"}]}),
        ("/simulator/receipts", {"goods": [{"tracking": "by eye"}]}),
        ("/simulator/receipts", {"goods": [{"quantity": 0}]}),
        ("/simulator/execute", {"model": "res.partner"}),
        ("/simulator/execute", {"model": "foo.bar", "method": "read"}),
    ],
)
async def test_wrong_control_body_is_refused(client: Client, path: str, body: object) -> None:
    """A control route says what is wrong, with status 400."""
    answer = await client.http.post(path, json=body)

    assert answer.status_code == 400
    assert answer.json()["error"]["message"]


async def test_server_without_proxy_closes_each_connection() -> None:
    """Without keep-alive every answer is HTTP/1.0 and the connection closes."""
    async with Simulator(SimulatorSettings(keep_alive=False)) as simulator:
        reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port)
        writer.write(b"GET /jsonrpc HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\r\n")
        answer = await reader.read()
        writer.close()

    assert answer.startswith(b"HTTP/1.0 400 Bad Request\r\n")
    assert b"connection: close" in answer.lower()


async def test_stop_does_not_wait_for_held_connections() -> None:
    """A simulator stops at once, whatever its clients wait for."""
    settings = SimulatorSettings(durations={"search_count": 60.0})
    async with httpx.AsyncClient(timeout=30) as http:
        async with Simulator(settings) as simulator:
            http.base_url = httpx.URL(simulator.url)
            waiting = asyncio.create_task(Client(http)("res.partner", "search_count", []))
            await until(lambda: simulator.world.in_flight == 1)
            began = time.monotonic()
        took = time.monotonic() - began
        with pytest.raises(httpx.RemoteProtocolError):
            await waiting

    assert took < 2


async def test_serve_announces_and_stops() -> None:
    """`serve` tells its port and ends when its event is set."""
    stop = asyncio.Event()
    ports: list[int] = []

    def announce(simulator: Simulator) -> None:
        ports.append(simulator.port)
        stop.set()

    await app.serve(SimulatorSettings(), stop=stop, announce=announce)

    assert ports[0] > 0


async def test_command_line_serves_and_stops_on_sigterm(tmp_path: Path) -> None:
    """`python -m service.simulator` prints its address and ends by itself on SIGTERM."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "service.simulator",
        "--port=0",
        "--version=19",
        "--documents=2",
        f"--database={tmp_path.name}",
        "--fault=kind=slow,model=res.partner,method=read,seconds=1",
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    line = (await asyncio.wait_for(process.stdout.readline(), 20)).decode()
    url = line.rpartition(" at ")[2].strip()
    async with httpx.AsyncClient() as http:
        state = (await http.get(f"{url}/simulator/state")).json()
    process.send_signal(signal.SIGTERM)

    assert await asyncio.wait_for(process.wait(), 5) == 0
    assert (state["version"], len(state["documents"]), len(state["faults"])) == (19, 2, 1)


async def test_command_line_refuses_a_wrong_fault() -> None:
    """A fault that does not exist ends the command with status 2 and the known kinds."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "service.simulator",
        "--fault=kind=boom",
        stderr=asyncio.subprocess.PIPE,
    )
    _, complaint = await asyncio.wait_for(process.communicate(), 20)

    assert process.returncode == 2
    assert b"late_success" in complaint


async def test_senseless_argument_is_answered_as_python_says(client: Client) -> None:
    """An argument of a wrong type comes back as a fault, not as a broken server."""
    answer = await client.post("res.partner", "read", [101], fields=5)

    assert answer.status_code == 200
    assert answer.json()["error"]["data"]["name"] == "builtins.TypeError"


async def test_key_takes_the_place_of_the_password(simulator: Simulator, client: Client) -> None:
    """A call with a key of the user works like one with the password."""
    key = simulator.settings.api_key
    args = ["eclusa", 2, key, "res.partner", "search_count", []]
    body = {"params": {"service": "object", "method": "execute", "args": args}}

    assert (await client.http.post("/jsonrpc", json=body)).json()["result"] > 0


async def test_json2_is_unknown_to_version_17(client: Client) -> None:
    """The older server has no such route."""
    answer = await client.http.post("/json/2/res.partner/search", json={"domain": []})

    assert answer.status_code == 404
