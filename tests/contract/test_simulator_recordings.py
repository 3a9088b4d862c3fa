"""Every recorded JSON-RPC case, replayed against the simulator.

The records that the cases speak of are put into the simulator under their recorded ids. No case
is left out. What is compared: status, media type, presence of `result` and of `error`, the kind
of the result, the fault's code, name and arguments, and its message word by word, except for:

- the number of a posted bill inside a message (`NFe 00000000`), which each database gives itself;
- what a result holds beyond its kind: databases, ids and the details of actions differ.
"""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import httpx
import pytest

from service.simulator.app import Simulator, SimulatorSettings

if TYPE_CHECKING:
    from service.simulator.orm import Environment

Version = Literal[17, 19]
RECORDINGS = Path(__file__).parents[1] / "recordings"
DATABASES: dict[Version, str] = {17: "lab", 19: "n19"}
VERSIONS: tuple[Version, ...] = (17, 19)
BILL_NUMBER = re.compile(r"The entry .+ \(id")


@dataclass(frozen=True, kw_only=True)
class RecordedIds:
    """The ids that the cases of one database use."""

    plain_user: int
    draft_order: int
    busy_partner: int
    bill: int


IDS: dict[Version, RecordedIds] = {
    17: RecordedIds(plain_user=8, draft_order=15, busy_partner=12, bill=29),
    19: RecordedIds(plain_user=7, draft_order=14, busy_partner=11, bill=65),
}


def cases(version: Version) -> list[dict[str, Any]]:
    """Return the recorded cases of a version."""
    text = (RECORDINGS / f"odoo{version}-jsonrpc-cases.json").read_text()
    listed: list[dict[str, Any]] = json.loads(text)
    return listed


def body_of(request: Any) -> bytes:
    """Return the bytes that were sent."""
    if request is None:
        return b""
    if isinstance(request, dict) and set(request) == {"__raw__"}:
        raw: str = request["__raw__"]
        return raw.encode("latin-1")
    return json.dumps(request).encode()


def put_recorded_records(env: Environment, ids: RecordedIds) -> None:
    """Insert users, orders and bills under the ids that the cases use."""
    observer = env.database.tables["res.users"].rows[env.seed.observer_id]
    env["res.users"].insert(dict(observer), ids.plain_user)
    env["res.partner"].insert({"name": "Vendor"}, ids.busy_partner)
    goods = env["product.product"].insert({"name": "Goods", "purchase_method": "receive"})
    states = {1: "draft", 7: "purchase", 11: "purchase", ids.draft_order: "draft"}
    for order_id, state in states.items():
        env["purchase.order"].insert(
            {"name": f"P{order_id:05d}", "partner_id": ids.busy_partner, "state": state}, order_id
        )
        env["purchase.order.line"].insert(
            {"order_id": order_id, "product_id": goods, "price_unit": 10.0}, order_id
        )
    for bill_id, state in ((1, "draft"), (ids.bill, "posted")):
        put_bill(env, bill_id, state, ids.busy_partner)


def put_bill(env: Environment, bill_id: int, state: str, partner_id: int) -> None:
    """Insert a bill of one line that can be posted."""
    day = env.now.date()
    values = {
        "name": f"NFe {bill_id:08d}",
        "move_type": "in_invoice",
        "partner_id": partner_id,
        "journal_id": 10,
        "state": state,
        "invoice_date": day,
        "invoice_date_due": day,
    }
    env["account.move"].insert(values, bill_id)
    env["account.move.line"].insert({"move_id": bill_id, "price_unit": 10.0}, bill_id)


async def replay(version: Version) -> list[httpx.Response]:
    """Send all cases of a version, in their order, to one simulator."""
    settings = SimulatorSettings(
        version=version,
        database=DATABASES[version],
        observer=("plain", "plainplain1"),
        keep_alive=False,
    )
    async with Simulator(settings) as simulator, httpx.AsyncClient() as client:
        put_recorded_records(simulator.world.environment(), IDS[version])
        return [
            await client.request(
                case["http_method"],
                simulator.url + case["path"],
                headers=case["request_headers"],
                content=body_of(case["request"]),
            )
            for case in cases(version)
        ]


@pytest.fixture(scope="module", name="answers")
def replayed_answers() -> dict[Version, list[httpx.Response]]:
    """Return the simulator's answers to all cases."""
    return {version: asyncio.run(replay(version)) for version in VERSIONS}


def kind_of(value: Any) -> Any:
    """Return what kind of result a value is; truth values count as themselves."""
    if isinstance(value, bool):
        return value
    if isinstance(value, list) and value:
        return [kind_of(value[0])]
    return type(value).__name__


def fault_of(answer: Any) -> dict[str, Any] | None:
    """Return what a client learns of a fault, without the traceback and a bill's number."""
    if not isinstance(answer, dict) or "error" not in answer:
        return None
    error = answer["error"]
    data = error["data"]
    texts = [BILL_NUMBER.sub("The entry N (id", text) for text in data["arguments"]]
    return {
        "code": error["code"],
        "title": error["message"],
        "name": data["name"],
        "message": BILL_NUMBER.sub("The entry N (id", data["message"]),
        "arguments": texts,
        "keys": set(data),
    }


def media_type(headers: Any) -> str:
    """Return the media type without its parameters."""
    content_type: str = headers["Content-Type"]
    return content_type.partition(";")[0]


@pytest.mark.parametrize(
    ("version", "place"),
    [
        pytest.param(version, place, id=f"{version}-{case['case']}")
        for version in VERSIONS
        for place, case in enumerate(cases(version))
    ],
)
def test_simulator_answers_as_recorded(
    answers: dict[Version, list[httpx.Response]], version: Version, place: int
) -> None:
    """A recorded request gets the recorded kind of answer."""
    case = cases(version)[place]
    response = answers[version][place]

    assert response.status_code == case["status"]
    assert media_type(response.headers) == media_type(case["response_headers"])
    assert response.headers["Connection"] == case["response_headers"]["Connection"]
    assert response.http_version == "HTTP/1.0"
    recorded = case["response"]
    if "__raw__" in recorded:
        assert response.text.lower()[:40] == recorded["__raw__"].lower()[:40]
        return
    answer = response.json()
    assert answer["id"] == recorded["id"]
    assert set(answer) == set(recorded)
    assert fault_of(answer) == fault_of(recorded)
    assert kind_of(answer.get("result")) == kind_of(recorded.get("result"))


def test_lock_conflict_has_the_recorded_words() -> None:
    """The fault of a row that stayed locked is the recorded one."""
    recorded = json.loads((RECORDINGS / "odoo17-lock-conflict.json").read_text())

    answer = asyncio.run(answer_with_lock_conflict())

    assert fault_of(answer) == fault_of(recorded)


async def answer_with_lock_conflict() -> Any:
    """Return the answer to a write that meets a lock."""
    async with Simulator() as simulator, httpx.AsyncClient(base_url=simulator.url) as client:
        await client.post("/simulator/faults", json={"kind": "lock_conflict"})
        response = await client.post(
            "/jsonrpc",
            json={
                "jsonrpc": "2.0",
                "id": 7,
                "params": {
                    "service": "object",
                    "method": "execute",
                    "args": ["eclusa", 2, "admin", "res.partner", "write", [1], {"ref": "x"}],
                },
            },
        )
        return response.json()


def json2_cases() -> list[dict[str, Any]]:
    """Return the recorded cases of JSON-2."""
    listed: list[dict[str, Any]] = json.loads((RECORDINGS / "odoo19-json2-cases.json").read_text())
    return listed


async def replay_json2() -> list[httpx.Response]:
    """Send all cases of JSON-2, in their order, to one simulator."""
    settings = SimulatorSettings(version=19, database="n19", keep_alive=False)
    async with Simulator(settings) as simulator, httpx.AsyncClient() as client:
        put_recorded_records(simulator.world.environment(), IDS[19])
        responses: list[httpx.Response] = []
        for case in json2_cases():
            headers = {
                name: value.replace("<api-key>", settings.api_key)
                for name, value in case["request_headers"].items()
            }
            url, body = simulator.url + case["path"], body_of(case["request"])
            sent = client.request(case["http_method"], url, headers=headers, content=body)
            responses.append(await sent)
        return responses


@pytest.fixture(scope="module", name="json2_answers")
def replayed_json2_answers() -> list[httpx.Response]:
    """Return the simulator's answers to all cases of JSON-2."""
    return asyncio.run(replay_json2())


@pytest.mark.parametrize(
    "place", [pytest.param(place, id=case["case"]) for place, case in enumerate(json2_cases())]
)
def test_simulator_answers_json2_as_recorded(
    json2_answers: list[httpx.Response], place: int
) -> None:
    """A recorded JSON-2 request gets the recorded status and kind of answer."""
    case = json2_cases()[place]
    response, recorded = json2_answers[place], case["response"]

    assert response.status_code == case["status"]
    assert media_type(response.headers) == media_type(case["response_headers"])
    if isinstance(recorded, dict) and "__raw__" in recorded:
        assert response.text.lower()[:40] == recorded["__raw__"].lower()[:40]
        return
    answer = response.json()
    if case["status"] == httpx.codes.OK:
        assert kind_of(answer) == kind_of(recorded)
        return
    for one in (answer, recorded):
        one["debug"] = ""
        one["message"] = BILL_NUMBER.sub("The entry N (id", one["message"])
        one["arguments"][0] = BILL_NUMBER.sub("The entry N (id", one["arguments"][0])
    assert answer == recorded
