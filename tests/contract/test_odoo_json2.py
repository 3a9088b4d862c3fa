"""Every recorded answer of Odoo 19 to JSON-2, over real HTTP, has one expected outcome."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from service.odoo import client, errors, json2, transport
from tests.unit.odoo import loopback

if TYPE_CHECKING:
    from collections.abc import Mapping

RECORDING = Path(__file__).parents[1] / "recordings" / "odoo19-json2-cases.json"
CASES: dict[str, dict[str, Any]] = {
    case["case"]: case for case in json.loads(RECORDING.read_text())
}
OUTCOMES: Mapping[str, Any] = {
    "ok_search_read": CASES["ok_search_read"]["response"],
    "ok_read_ids": [{"id": 1, "name": "My Company (San Francisco)"}],
    "read_missing": [],
    "write_missing": errors.MissingRecord,
    "no_key": errors.AuthenticationFailed,
    "bad_key": errors.AuthenticationFailed,
    "password_as_key": errors.AuthenticationFailed,
    "unknown_model": errors.UnknownModel,
    "unknown_method": errors.UnknownMethod,
    "private_method": errors.UnknownMethod,
    "unknown_field": errors.InvalidField,
    "unknown_arg": errors.InvalidCall,
    "missing_arg": errors.InvalidCall,
    "user_error": errors.UserFault,
    "validation_error": errors.ValidationFailed,
    "value_error": errors.InvalidCall,
    "none_result": None,
    "invalid_json": errors.InvalidCall,
    "empty_body": errors.InvalidCall,
    "list_body": errors.InvalidCall,
    # Only a GET is told so; the client posts.
    "get": errors.ServerFault,
    "bad_ct": errors.UnexpectedAnswer,
    "no_db_header": 48,
    "bad_db_header": errors.UnknownDatabase,
    "method_model_with_ids": errors.InvalidCall,
}
"""A class of errors, always with effect none, or the result."""

UNSENDABLE = {
    "no_key",
    "invalid_json",
    "empty_body",
    "list_body",
    "get",
    "bad_ct",
    "no_db_header",
    "method_model_with_ids",
}
"""Requests that the client cannot be made to send."""


@dataclass(frozen=True)
class Sent:
    """A recorded request, as a call of the client."""

    model: str
    method: str
    args: list[Any]
    kwargs: dict[str, Any]


def _sent(case: dict[str, Any]) -> Sent:
    *_, model, method = case["path"].split("/")
    body = case["request"]
    named = dict(body) if isinstance(body, dict) and "__raw__" not in body else {}
    args = [named.pop("ids")] if "ids" in named else []
    return Sent(model, method, args, named)


def _call(sent: Sent) -> transport.Call:
    return transport.Call(
        service="object",
        procedure="execute_kw",
        args=("n19", 2, loopback.SECRET, sent.model, sent.method, sent.args, sent.kwargs),
        timeout_seconds=10,
        model=sent.model,
        method=sent.method,
    )


def _bytes(recorded: Any) -> bytes:
    if recorded is None:
        return b""
    if isinstance(recorded, dict) and "__raw__" in recorded:
        return str(recorded["__raw__"]).encode()
    return json.dumps(recorded).encode()


def _replay(case: dict[str, Any]) -> loopback.Handler:
    recorded = case["response"]
    body = b"null" if recorded is None else _bytes(recorded)

    async def answer(_: loopback.Asked, reply: loopback.Reply) -> None:
        headers = case["response_headers"]
        await reply.http(body, status=case["status"], headers=headers, version="HTTP/1.0")
        await reply.drop()

    return answer


def _check(error: BaseException, kind: type[errors.OdooError]) -> None:
    assert isinstance(error, errors.OdooError)
    assert (type(error), error.effect) == (kind, errors.Effect.NONE)
    assert error.message
    link: BaseException | None = error
    while link is not None:
        assert "Traceback" not in f"{link} {link!r}"
        assert loopback.SECRET not in f"{link} {link!r}"
        link = link.__cause__ or link.__context__


def test_every_recorded_case_has_an_outcome() -> None:
    """No recorded case is left without an outcome, and none is expected in vain."""
    assert set(CASES) == set(OUTCOMES)


@pytest.mark.parametrize("name", CASES)
async def test_recorded_request_ends_as_expected(name: str) -> None:
    """The recorded request and answer, sent as they were recorded, end in the outcome."""
    case, outcome = CASES[name], OUTCOMES[name]
    call = _call(_sent(case))
    async with loopback.serving(_replay(case)) as server:
        rpc = transport.JsonRpcTransport(server.connection())
        wire = json2.Json2Transport(rpc)
        request = httpx.Request(
            case["http_method"],
            f"http://127.0.0.1:{server.port}{case['path']}",
            headers=case["request_headers"],
            content=_bytes(case["request"]),
        )
        try:
            response = await rpc.exchange(call, request)
            if isinstance(outcome, type):
                with pytest.raises(errors.OdooError) as caught:
                    wire.result(call, response)
                _check(caught.value, outcome)
            else:
                assert wire.result(call, response) == outcome
        finally:
            await wire.close()


@pytest.mark.parametrize("name", [name for name in CASES if name not in UNSENDABLE])
async def test_recorded_answer_through_the_client(name: str) -> None:
    """The client sends what was recorded, once, and its call ends in the outcome."""
    case, outcome = CASES[name], OUTCOMES[name]
    sent = _sent(case)
    handler = loopback.in_turn(loopback.uid, loopback.login, _replay(case))
    async with loopback.serving(handler) as server:
        connection = server.connection(database="n19")
        wire = json2.choose("json2", connection, guard=transport.no_guard)
        async with client.Client(connection, retry=loopback.AT_ONCE, wire=wire) as odoo:
            if isinstance(outcome, type):
                with pytest.raises(errors.OdooError) as caught:
                    await odoo.execute_kw(sent.model, sent.method, sent.args, sent.kwargs)
                _check(caught.value, outcome)
            else:
                assert (
                    await odoo.execute_kw(sent.model, sent.method, sent.args, sent.kwargs)
                    == outcome
                )

    *_, asked = server.asked
    assert (asked.http_method, asked.path) == ("POST", case["path"])
    assert json.loads(asked.body) == case["request"]
    assert asked.headers["authorization"] == f"bearer {loopback.SECRET}"
    assert asked.headers["x-odoo-database"] == "n19"
