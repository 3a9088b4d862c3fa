"""Every recorded answer of Odoo 17 and 19, over real HTTP, has one expected outcome."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import structlog

from service.odoo import client, errors, transport
from tests.unit.odoo import loopback

if TYPE_CHECKING:
    from collections.abc import Iterator

RECORDINGS = Path(__file__).parent.parent / "recordings"
NONE, UNKNOWN = errors.Effect.NONE, errors.Effect.UNKNOWN


@dataclass(frozen=True)
class Answers:
    """The call ends with a result: this value, or any of this type."""

    value: Any


@dataclass(frozen=True)
class Fails:
    """The call ends with an error of exactly this class, with this effect."""

    kind: type[errors.OdooError]
    effect: errors.Effect = NONE


@dataclass(frozen=True)
class Differs:
    """The two versions of Odoo answer differently."""

    on_17: Answers | Fails
    on_19: Answers | Fails


EXPECTED: dict[str, Answers | Fails | Differs] = {
    "version": Answers(dict),
    "login_ok": Answers(2),
    "login_bad_password": Answers(value=False),
    "login_unknown_user": Answers(value=False),
    "login_none_password": Answers(value=False),
    # A login changes nothing; a call that loses its database might have.
    "login_unknown_db": Fails(errors.UnknownDatabase),
    "exec_unknown_db": Fails(errors.UnknownDatabase, UNKNOWN),
    "exec_bad_password": Fails(errors.AuthenticationFailed),
    "exec_uid_false": Fails(errors.AuthenticationFailed),
    "exec_uid_unknown": Fails(errors.MissingRecord),
    "read_missing": Answers([]),
    "read_mixed_missing": Answers([{"id": 1, "name": "My Company (San Francisco)"}]),
    "search_read_missing": Answers([]),
    "write_missing": Fails(errors.MissingRecord),
    "unlink_missing": Fails(errors.MissingRecord),
    "button_confirm_missing": Fails(errors.MissingRecord),
    "access_model_read": Fails(errors.AccessDenied),
    "access_model_create": Fails(errors.AccessDenied),
    "access_model_write": Fails(errors.AccessDenied),
    "access_field_group": Answers([{"id": 2, "login": "admin", "password": ""}]),
    "access_bad_company_context": Fails(errors.AccessDenied),
    "validation_required_missing": Fails(errors.ValidationFailed),
    "validation_required_missing_line": Fails(errors.ValidationFailed),
    "validation_unique_login": Fails(errors.ValidationFailed),
    "validation_fk_bad_partner": Differs(
        Fails(errors.ValidationFailed), Fails(errors.MissingRecord)
    ),
    "validation_python_constraint": Fails(errors.ValidationFailed),
    "validation_vat_br": Fails(errors.ValidationFailed),
    "validation_selection": Fails(errors.InvalidCall),
    "type_bad_float": Fails(errors.InvalidCall),
    "type_bad_date": Fails(errors.InvalidCall),
    "type_iso_T_datetime": Fails(errors.InvalidCall),
    "type_m2o_string": Fails(errors.ValidationFailed),
    "usererror_post_posted": Fails(errors.UserFault),
    "usererror_unlink_posted": Fails(errors.UserFault),
    "usererror_edit_posted": Differs(Fails(errors.ValidationFailed), Fails(errors.UserFault)),
    "usererror_nothing_to_bill": Differs(Fails(errors.UserFault), Answers(dict)),
    "confirm_twice": Answers(value=True),
    "unlink_confirmed_po": Fails(errors.UserFault),
    "unlink_fk_restrict": Differs(Fails(errors.ValidationFailed), Fails(errors.UserFault)),
    "unknown_model": Fails(errors.UnknownModel),
    "unknown_method": Fails(errors.UnknownMethod),
    "private_method": Fails(errors.UnknownMethod),
    "unknown_field_read": Fails(errors.InvalidField),
    "unknown_field_search_read": Fails(errors.InvalidField),
    "unknown_field_domain": Fails(errors.InvalidField),
    "unknown_field_create": Fails(errors.InvalidField),
    "unknown_field_write": Fails(errors.InvalidField),
    "unknown_field_order": Fails(errors.InvalidField),
    # An IndexError may as well be a bug in a module, so 17 says less than 19.
    "bad_domain": Differs(Fails(errors.ServerFault), Fails(errors.InvalidCall)),
    "bad_operator": Fails(errors.InvalidCall),
    "bad_kwargs": Fails(errors.InvalidCall),
    "too_few_args": Fails(errors.InvalidCall),
    "args_not_list": Fails(errors.ServerFault),
    "returns_none_po_button_cancel": Answers(None),
    "returns_none_po_button_draft": Answers({}),
    "returns_none_move_button_draft": Answers(None),
    "returns_false_move_action_post": Answers(value=False),
    "returns_recordset": Differs(Answers(48), Answers([50])),
    "returns_create_list": Differs(Answers([49, 50]), Answers([51, 52])),
    "unknown_service": Fails(errors.ServerFault),
    "unknown_common_method": Fails(errors.ServerFault),
    "object_unknown_method": Differs(Fails(errors.ServerFault), Fails(errors.InvalidCall)),
    "db_list": Answers(["lab", "lab_golden", "n19", "n19_golden"]),
    "http_invalid_json": Fails(errors.UnexpectedAnswer),
    "http_empty_body": Fails(errors.UnexpectedAnswer),
    "http_batch_array": Fails(errors.UnexpectedAnswer),
    "http_params_list": Fails(errors.InvalidCall),
    "http_missing_params": Fails(errors.InvalidCall),
    "http_extra_param": Answers(dict),
    "http_content_type_text": Fails(errors.UnexpectedAnswer),
    "http_content_type_json_charset": Answers(dict),
    "http_get": Fails(errors.UnexpectedAnswer),
    "http_get_json_ct": Fails(errors.UnexpectedAnswer),
    "http_404_json": Fails(errors.UnexpectedAnswer),
    "http_404_plain": Fails(errors.UnexpectedAnswer),
    "http_id_string_no_jsonrpc": Answers(dict),
    "http_no_id": Answers(dict),
    "http_nan": Fails(errors.InvalidCall),
    "http_latin1_bytes": Fails(errors.UnknownDatabase),
    "session_authenticate": Answers(dict),
    "session_authenticate_bad": Fails(errors.AuthenticationFailed),
    "call_kw_no_session": Fails(errors.AuthenticationFailed),
}


def _load(name: str) -> Any:
    return json.loads((RECORDINGS / name).read_text())


CASES: dict[str, dict[str, Any]] = {
    f"{version}-{case['case']}": case
    for version in (17, 19)
    for case in _load(f"odoo{version}-jsonrpc-cases.json")
}


def _expected(name: str) -> Answers | Fails:
    version, _, case = name.partition("-")
    expected = EXPECTED[case]
    if isinstance(expected, Differs):
        return expected.on_17 if version == "17" else expected.on_19
    return expected


def _body(recorded: Any) -> bytes:
    if recorded is None:
        return b""
    if isinstance(recorded, dict) and "__raw__" in recorded:
        return str(recorded["__raw__"]).encode()
    return json.dumps(recorded).encode()


def _params(case: dict[str, Any]) -> dict[str, Any]:
    request = case["request"]
    if isinstance(request, dict) and "__raw__" in request:
        try:
            request = json.loads(request["__raw__"])
        except ValueError:
            return {}
    params = request.get("params") if isinstance(request, dict) else None
    return params if isinstance(params, dict) else {}


def _call(case: dict[str, Any]) -> transport.Call:
    """Describe the recorded request as a call; what is malformed counts as a write."""
    params = _params(case)
    args = params.get("args", [])
    executes = params.get("method") == "execute_kw"
    return transport.Call(
        service=params.get("service", "object"),
        procedure=params.get("method", "execute_kw"),
        args=args,
        timeout_seconds=10,
        model=args[3] if executes else None,
        method=args[4] if executes else None,
    )


def _replay(case: dict[str, Any]) -> loopback.Handler:
    async def answer(_: loopback.Asked, reply: loopback.Reply) -> None:
        await reply.http(
            _body(case["response"]),
            status=case["status"],
            headers=case["response_headers"],
            version="HTTP/1.0",
        )
        if case["response_headers"].get("Connection") == "close":
            await reply.drop()

    return answer


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _check_failure(error: errors.OdooError, expected: Fails) -> None:
    assert (type(error), error.effect) == (expected.kind, expected.effect)
    assert error.message
    for link in _chain(error):
        assert "Traceback" not in f"{link} {link!r}"
        assert loopback.SECRET not in f"{link} {link!r}"


def _check_answer(answer: Any, expected: Answers) -> None:
    if isinstance(expected.value, type):
        assert isinstance(answer, expected.value)
    else:
        assert answer == expected.value
        assert type(answer) is type(expected.value)


def test_every_recorded_case_has_an_expectation() -> None:
    """No recorded case is left without an expectation, and none is expected in vain."""
    assert {name.partition("-")[2] for name in CASES} == set(EXPECTED)
    assert len(CASES) == 2 * len(EXPECTED)


@pytest.mark.parametrize("name", CASES)
async def test_recorded_request_ends_as_expected(name: str) -> None:
    """The recorded request and answer, sent as they were recorded, end in the expected outcome."""
    case, expected = CASES[name], _expected(name)
    call = _call(case)
    async with loopback.serving(_replay(case)) as server:
        wire = transport.JsonRpcTransport(server.connection())
        request = httpx.Request(
            case["http_method"],
            f"http://127.0.0.1:{server.port}{case['path']}",
            headers=case["request_headers"],
            content=_body(case["request"]),
        )
        try:
            response = await wire.exchange(call, request)
            if isinstance(expected, Answers):
                _check_answer(wire.result(call, response), expected)
            else:
                with pytest.raises(errors.OdooError) as caught:
                    wire.result(call, response)
                _check_failure(caught.value, expected)
        finally:
            await wire.close()

    assert [asked.path for asked in server.asked] == [case["path"]]


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, case in CASES.items()
        if case["path"] == "/jsonrpc"
        and _params(case).get("method") == "execute_kw"
        # The client refuses to send these.
        and not name.endswith(("http_nan", "args_not_list"))
    ],
)
async def test_recorded_answer_through_the_client(name: str) -> None:
    """A recorded call made through the client ends alike, and is sent once."""
    case, expected = CASES[name], _expected(name)
    *_, model, method, args, kwargs = _params(case)["args"]
    handler = loopback.in_turn(loopback.answering(2), _replay(case))
    database = _params(case)["args"][0]
    async with loopback.serving(handler) as server:
        connection = server.connection(database=database)
        async with client.Client(connection, retry=loopback.AT_ONCE) as odoo:
            if isinstance(expected, Answers):
                _check_answer(await odoo.execute_kw(model, method, args, kwargs), expected)
            else:
                with pytest.raises(errors.OdooError) as caught:
                    await odoo.execute_kw(model, method, args, kwargs)
                _check_failure(caught.value, expected)
            assert loopback.SECRET not in f"{odoo!r} {odoo} {connection!r} {connection}"

    assert server.methods == ["authenticate", method]


@pytest.mark.parametrize("version", [17, 19])
@pytest.mark.parametrize(
    ("case", "kind"),
    [
        ("login_bad_password", errors.AuthenticationFailed),
        ("login_unknown_user", errors.AuthenticationFailed),
        ("login_none_password", errors.AuthenticationFailed),
        ("login_unknown_db", errors.UnknownDatabase),
    ],
)
async def test_recorded_login_through_the_client(
    version: int, case: str, kind: type[errors.OdooError]
) -> None:
    """A refused login is an error with effect none, though Odoo answers just false."""
    async with loopback.serving(_replay(CASES[f"{version}-{case}"])) as server:
        connection = server.connection(database="nodb")
        async with client.Client(connection, retry=loopback.AT_ONCE) as odoo:
            with pytest.raises(kind) as caught:
                await odoo.execute_kw("res.partner", "write", [[1], {}])

    assert caught.value.effect is NONE
    assert server.methods == ["authenticate"]


@pytest.mark.parametrize("version", [17, 19])
async def test_recorded_version_through_the_client(version: int) -> None:
    """The version is read from both servers."""
    async with (
        loopback.serving(_replay(CASES[f"{version}-version"])) as server,
        client.Client(server.connection()) as odoo,
    ):
        found = await odoo.version()

    assert found == client.Version(text=f"{version}.0", series=f"{version}.0", major=version)


async def test_recorded_lock_conflict() -> None:
    """A lock held beyond Odoo's own retries is a conflict without effect, sent only once."""
    answer = _load("odoo17-lock-conflict.json")

    async def locked(_: loopback.Asked, reply: loopback.Reply) -> None:
        await reply.json(answer)

    async with (
        loopback.serving(loopback.odoo(button_confirm=locked)) as server,
        client.Client(server.connection(), retry=loopback.AT_ONCE) as odoo,
    ):
        with pytest.raises(errors.LockConflict) as caught:
            await odoo.execute_kw("purchase.order", "button_confirm", [[1]])

    _check_failure(caught.value, Fails(errors.LockConflict))
    assert server.methods == ["authenticate", "button_confirm"]


async def test_recorded_traceback_goes_to_the_debug_log_only() -> None:
    """The server's traceback is logged at debug level, and nowhere else."""
    replay = _replay(CASES["17-unknown_method"])
    with structlog.testing.capture_logs() as entries:
        async with (
            loopback.serving(loopback.odoo(no_such_method=replay)) as server,
            client.Client(server.connection()) as odoo,
        ):
            with pytest.raises(errors.UnknownMethod):
                await odoo.execute_kw("res.partner", "no_such_method", [])

    traced = [entry for entry in entries if "Traceback" in str(entry)]
    assert [(entry["event"], entry["log_level"]) for entry in traced] == [("odoo_fault", "debug")]
