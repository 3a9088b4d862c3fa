"""What the API refuses: the field is named, and nothing is written down or queued."""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
import pytest_asyncio
from sqlalchemy import text

from tests.factories import cte
from tests.factories.running import DUE, Stage, problem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.asyncio(loop_scope="module")

LARGE = 20 * 1024 * 1024
CHUNK = 64 * 1024
DEEP = 100_000
JSON = {"Content-Type": "application/json"}
PATH = "/v1/postings"
KEY = cte.make_key()
NFE_KEY = cte.make_key(model="55")
NFE = f"""<nfeProc xmlns="http://www.portalfiscal.inf.br/nfe" versao="4.00"><NFe>
<infNFe Id="NFe{NFE_KEY}" versao="4.00"><ide><mod>55</mod></ide></infNFe></NFe></nfeProc>"""
CTE_OS = f'<CTeOS xmlns="{cte.NAMESPACE}" versao="4.00"><infCte versao="4.00"/></CTeOS>'
EVENT = f'<procEventoCTe xmlns="{cte.NAMESPACE}" versao="4.00"/>'
ENTITIES = f'<!DOCTYPE CTe [<!ENTITY a "aaaa">]><CTe xmlns="{cte.NAMESPACE}">&a;</CTe>'


@pytest_asyncio.fixture(loop_scope="module")
async def stage(idle: Stage) -> AsyncIterator[Stage]:
    """The API; afterwards there is no posting, no audit record and no job."""
    yield idle
    tables = ("posting", "audit_record", "pgqueuer")
    counts = ", ".join(f"(SELECT count(*) FROM {table})" for table in tables)  # noqa: S608  names
    async with idle.runtime.database.transaction() as connection:
        rows = (await connection.execute(text(f"SELECT {counts}"))).one()
    assert dict(zip(tables, rows, strict=True)) == dict.fromkeys(tables, 0)


def request(**values: Any) -> dict[str, Any]:
    """A request whose input is as given, with a due date; None leaves a value out."""
    given = {"due_date": DUE, **values}
    return {
        "kind": "freight_cte",
        "connection": "main",
        "input": {name: value for name, value in given.items() if value is not None},
    }


def wrong_digit(number: str) -> str:
    """The number with another last digit."""
    return number[:-1] + str((int(number[-1]) + 1) % 10)


def told(content: dict[str, Any]) -> set[tuple[str, str]]:
    """The field and the code of each problem."""
    return {(item["field"], item["code"]) for item in content["errors"]}


@pytest.mark.parametrize(
    ("values", "field", "code"),
    [
        pytest.param({}, "access_key", "missing", id="neither key nor XML"),
        pytest.param(
            {"access_key": wrong_digit(KEY)}, "access_key", "wrong_check_digit", id="digit"
        ),
        pytest.param({"access_key": KEY[:-1]}, "access_key", "wrong_length", id="short key"),
        pytest.param({"access_key": KEY * 2}, "access_key", "string_too_long", id="long key"),
        pytest.param({"access_key": NFE_KEY}, "access_key", "wrong_model", id="key of an NF-e"),
        pytest.param(
            {"access_key": KEY[:-1] + "é"}, "access_key", "invalid_characters", id="letters"
        ),
        pytest.param({"access_key": 35}, "access_key", "string_type", id="a number as the key"),
        pytest.param(
            {"access_key": KEY, "due_date": None}, "due_date", "missing", id="no due date"
        ),
        pytest.param(
            {"access_key": KEY, "due_date": "soon"},
            "due_date",
            "date_from_datetime_parsing",
            id="a word as the due date",
        ),
        pytest.param(
            {"access_key": KEY, "due_date": "2026-02-30"},
            "due_date",
            "date_from_datetime_parsing",
            id="no day of the calendar",
        ),
        pytest.param(
            {"access_key": KEY, "due_date": ["2026-12-31"]},
            "due_date",
            "date_type",
            id="a list as the due date",
        ),
        pytest.param(
            {"access_key": KEY, "carrier_invoice": " "},
            "carrier_invoice",
            "string_too_short",
            id="a blank invoice",
        ),
        pytest.param(
            {"access_key": KEY, "carrier_invoice": "1" * 61},
            "carrier_invoice",
            "string_too_long",
            id="a long invoice",
        ),
        pytest.param(
            {"access_key": KEY, "due": DUE}, "due", "extra_forbidden", id="a name not known"
        ),
        pytest.param({"xml": {"CTe": 1}}, "xml", "string_type", id="an object as the XML"),
    ],
)
async def test_a_wrong_value_is_refused_by_its_field(
    stage: Stage, values: dict[str, Any], field: str, code: str
) -> None:
    """Each value of the input that cannot be right is told with its path and a code."""
    response = await stage.client.post(PATH, json=request(**values))

    assert (f"input.{field}", code) in told(problem(response, 422))


@pytest.mark.parametrize(
    ("xml", "field", "code"),
    [
        pytest.param("<cteProc><CTe>", "xml", "malformed_xml", id="cut off"),
        pytest.param("", "xml", "malformed_xml", id="empty"),
        pytest.param("the freight bill", "xml", "malformed_xml", id="neither XML nor base64"),
        pytest.param(
            base64.b64encode(b"\xff\xfe\x00").decode(), "xml", "malformed_xml", id="other bytes"
        ),
        pytest.param(NFE, "xml", "wrong_document_type", id="NF-e"),
        pytest.param(
            base64.b64encode(NFE.encode()).decode(),
            "xml",
            "wrong_document_type",
            id="NF-e in base64",
        ),
        pytest.param(CTE_OS, "xml", "wrong_document_type", id="CTe-OS"),
        pytest.param(EVENT, "xml", "wrong_document_type", id="event"),
        pytest.param("<html/>", "xml", "wrong_document_type", id="no fiscal document"),
        pytest.param(ENTITIES, "xml", "dtd_forbidden", id="entities"),
        pytest.param("<a>" * 200 + "</a>" * 200, "xml", "too_deep", id="deep"),
        pytest.param(cte.cte_xml() + " " * 2_800_000, "xml", "string_too_long", id="long"),
        pytest.param(
            cte.cte_xml(key=wrong_digit(KEY)), "xml.infCte.Id", "wrong_check_digit", id="key digit"
        ),
        pytest.param(
            cte.cte_xml(recipient=wrong_digit(cte.RECIPIENT)),
            "xml.infCte.dest.CNPJ",
            "wrong_check_digit",
            id="CNPJ digit",
        ),
        pytest.param(
            cte.cte_xml(total="much"), "xml.infCte.vPrest.vTPrest", "invalid_amount", id="amount"
        ),
        pytest.param(cte.cte_xml(type_code="2"), "xml", "annulment", id="annulment"),
        pytest.param(cte.cte_xml(protocol_status="110"), "xml", "not_authorised", id="denied"),
        pytest.param(cte.cte_xml(), "xml", "unknown_company", id="taker"),
    ],
)
async def test_a_wrong_document_is_refused_by_its_place(
    stage: Stage, xml: str, field: str, code: str
) -> None:
    """What is wrong with an XML is told with the element's path, or with the field it came in."""
    response = await stage.client.post(PATH, json=request(xml=xml))

    assert (f"input.{field}", code) in told(problem(response, 422))


async def test_an_unknown_taker_is_told_with_the_known_companies(stage: Stage) -> None:
    """The message has the taker's CNPJ and those of the connection."""
    document = stage.arrive(taker_company="unknown")

    response = await stage.client.post(PATH, json=request(xml=document.xml))

    content = problem(response, 422, "input.xml")
    known = {company.cnpj for company in stage.simulator.world.seed.companies.values()}
    [message] = [item["message"] for item in content["errors"]]
    assert all(cnpj in message for cnpj in {document.taker_cnpj, *known})


async def test_a_key_of_another_document_is_refused(stage: Stage) -> None:
    """Key and XML are of one document, or nothing is posted."""
    document = stage.arrive()

    response = await stage.client.post(PATH, json=request(xml=document.xml, access_key=KEY))

    assert told(problem(response, 422)) == {("input.access_key", "different_key")}


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        pytest.param("kind", None, "missing", id="no kind"),
        pytest.param("connection", None, "missing", id="no connection"),
        pytest.param("connection", 1, "string_type", id="a number as the connection"),
        pytest.param("connection", "x" * 201, "string_too_long", id="a long connection"),
        pytest.param("input", None, "missing", id="no input"),
        pytest.param("input", [], "model_attributes_type", id="a list as the input"),
        pytest.param("input", "xml", "model_attributes_type", id="a text as the input"),
        pytest.param("reference", "x" * 201, "string_too_long", id="a long reference"),
        pytest.param("reference", True, "string_type", id="a truth value as the reference"),
        pytest.param("status", "completed", "extra_forbidden", id="a name not known"),
    ],
)
async def test_a_wrong_request_is_refused_by_its_field(
    stage: Stage, field: str, value: Any, code: str
) -> None:
    """What stands around the input is checked as well."""
    body = {**request(access_key=KEY), field: value}
    if value is None:
        del body[field]

    response = await stage.client.post(PATH, json=body)

    assert told(problem(response, 422)) == {(field, code)}


@pytest.mark.parametrize(("field", "known"), [("connection", "main"), ("kind", "freight_cte")])
async def test_an_unknown_name_is_told_with_the_known_ones(
    stage: Stage, field: str, known: str
) -> None:
    """A connection or a kind that does not exist is 404 and lists those that do."""
    response = await stage.client.post(PATH, json={**request(access_key=KEY), field: "nope"})

    content = problem(response, 404, field)
    assert f"known: {known}" in content["detail"]
    assert "'nope'" in content["detail"]


def nested(opening: str, closing: str) -> str:
    """A JSON document far deeper than any reader goes."""
    return opening * DEEP + "1" + closing * DEEP


@pytest.mark.parametrize(
    ("body", "field", "code"),
    [
        pytest.param("", "body", "missing", id="nothing"),
        pytest.param("{", "body", "json_invalid", id="cut off"),
        pytest.param("{'kind': 1}", "body", "json_invalid", id="Python"),
        pytest.param("kind=freight_cte", "body", "json_invalid", id="a form"),
        pytest.param('{"input": NaN}', "body", "json_invalid", id="no number"),
        pytest.param(f'{{"input": {"1" * 5000}}}', "body", "json_invalid", id="long number"),
        pytest.param('{"reference": "\x00"}', "body", "json_invalid", id="NUL itself"),
        pytest.param(b'{"reference": "\xe9"}', "body", "invalid_utf8", id="Latin-1"),
        pytest.param(b'{"reference": "\xed\xa0\x80"}', "body", "invalid_utf8", id="surrogate"),
        pytest.param('{"kind": 1}'.encode("utf-16"), "body", "invalid_utf8", id="UTF-16"),
        pytest.param(nested("[", "]"), "body", "too_deep", id="deep list"),
        pytest.param(nested('{"input":', "}"), "body", "too_deep", id="deep object"),
        pytest.param("[]", "body", "model_attributes_type", id="list"),
        pytest.param("null", "body", "model_attributes_type", id="null"),
        pytest.param('"text"', "body", "model_attributes_type", id="text"),
    ],
)
async def test_a_body_that_is_no_json_object_is_refused(
    stage: Stage, body: str | bytes, field: str, code: str
) -> None:
    """What cannot be read is told as a problem with the body."""
    response = await stage.client.post(PATH, content=body, headers=JSON)

    assert told(problem(response, 422)) == {(field, code)}


@pytest.mark.parametrize("media_type", [None, "text/plain", "application/xml"])
async def test_a_body_of_another_media_type_is_refused(
    stage: Stage, media_type: str | None
) -> None:
    """The answer tells which Content-Type is wanted."""
    headers = {"Content-Type": media_type} if media_type else {}

    content = problem(
        await stage.client.post(PATH, content=json.dumps(request(access_key=KEY)), headers=headers),
        422,
        "body",
    )

    assert "application/json" in content["errors"][0]["message"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        pytest.param({"reference": "a\x00b"}, "reference", id="reference"),
        pytest.param({"connection": "\x00"}, "connection", id="connection"),
        pytest.param({"input": {"carrier_invoice": "\x00"}}, "input.carrier_invoice", id="input"),
        pytest.param({"input": {"xml": ["", "\x00"]}}, "input.xml.1", id="list"),
        pytest.param({"input": {"\x00": 1}}, "input", id="name"),
        pytest.param({"reference": "\ud83d"}, "reference", id="half a character"),
    ],
)
async def test_a_text_that_cannot_be_stored_is_refused(
    stage: Stage, body: dict[str, Any], field: str
) -> None:
    """NUL and halves of surrogate pairs are told with the field that holds them."""
    content = json.dumps({**request(access_key=KEY), **body})

    response = await stage.client.post(PATH, content=content, headers=JSON)

    assert told(problem(response, 422)) == {(field, "unstorable_text")}


async def chunks(size: int) -> AsyncIterator[bytes]:
    """A body of no announced length."""
    yield b'{"reference": "'
    for _ in range(size // CHUNK):
        yield b"x" * CHUNK
    yield b'"}'


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "chunked"])
async def test_a_body_of_20_mb_is_refused(stage: Stage, *, announced: bool) -> None:
    """The limit holds whether or not a Content-Length tells, and the connection goes on."""
    body = b'{"reference": "' + b"x" * LARGE + b'"}' if announced else chunks(LARGE)

    content = problem(await stage.client.post(PATH, content=body, headers=JSON), 413, "body")

    assert str(stage.runtime.settings.max_body_bytes) in content["detail"]
    assert (await stage.client.get(PATH)).status_code == 200


@pytest.mark.parametrize(
    ("query", "field"),
    [
        pytest.param({"status": "done"}, "status", id="status"),
        pytest.param({"limit": "0"}, "limit", id="limit of nothing"),
        pytest.param({"limit": "201"}, "limit", id="large limit"),
        pytest.param({"limit": "many"}, "limit", id="limit in words"),
        pytest.param({"kind": "\x00"}, "kind", id="NUL in the kind"),
        pytest.param({"connection": "\x00"}, "connection", id="NUL in the connection"),
        pytest.param({"document_key": "\x00"}, "document_key", id="NUL in the document key"),
        pytest.param({"reference": "\x00"}, "reference", id="NUL in the reference"),
    ],
)
async def test_a_wrong_query_is_refused_by_its_parameter(
    stage: Stage, query: dict[str, str], field: str
) -> None:
    """A list that was asked for wrongly is not answered as an empty one."""
    response = await stage.client.get(PATH, params=query)

    problem(response, 422, field)


def cursor(*parts: str) -> str:
    """A cursor as the service writes it, of other parts."""
    return base64.urlsafe_b64encode("|".join(parts).encode()).decode()


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("", id="empty"),
        pytest.param("next", id="no base64"),
        pytest.param("é", id="no ASCII"),
        pytest.param("gICA", id="no UTF-8"),
        pytest.param(cursor("2026-11-24T12:00:00+00:00"), id="no id"),
        pytest.param(cursor("2026-11-24T12:00:00+00:00", "1"), id="wrong id"),
        pytest.param(cursor("yesterday", str(uuid4())), id="wrong time"),
        pytest.param(cursor("0001-01-01T00:00:00+14:00", str(uuid4())), id="before all times"),
        pytest.param(cursor("2026-11-24", str(uuid4()), "x"), id="a third part"),
    ],
)
async def test_a_cursor_that_was_not_given_is_refused(stage: Stage, value: str) -> None:
    """A cursor is what the service answered, and nothing else."""
    response = await stage.client.get(PATH, params={"cursor": value})

    assert told(problem(response, 422)) == {("cursor", "invalid_cursor")}


@pytest.mark.parametrize(
    ("value", "code"),
    [
        pytest.param("-1", "greater_than_equal", id="negative"),
        pytest.param(str(2**31), "less_than_equal", id="large"),
        pytest.param("9" * 5000, "int_parsing_size", id="huge"),
        pytest.param("last", "int_parsing", id="word"),
    ],
)
async def test_a_wrong_last_event_id_is_refused(stage: Stage, value: str, code: str) -> None:
    """The header is checked before anything is streamed."""
    response = await stage.client.get(
        f"/v1/jobs/{uuid4()}/events", headers={"Last-Event-ID": value}
    )

    assert told(problem(response, 422)) == {("last-event-id", code)}


BODIES = {
    ("post", "/v1/syncs/{name}/runs"): {"connection": "main"},
    ("put", "/v1/syncs/{name}/schedule"): {"cron": "*/30 * * * *"},
}
GOOD_NAME = "cte"


@pytest.mark.parametrize(
    ("wrong_id", "wrong_name", "status"),
    [
        pytest.param(str(uuid4()), "no_such_name", 404, id="unknown"),
        pytest.param("7", "7", 422, id="malformed"),
        pytest.param("%00", "%00", 422, id="NUL"),
    ],
)
async def test_a_wrong_id_is_refused_by_every_route(
    stage: Stage, wrong_id: str, wrong_name: str, status: int
) -> None:
    """An unknown id is 404 with a problem; what is no id is told with the parameter's name."""
    document = (await stage.client.get("/openapi.json")).json()
    places = [
        (method, path, name)
        for path, methods in document["paths"].items()
        for method in methods
        for name in re.findall(r"{(\w+)}", path)
    ]
    assert len(places) >= 15

    for method, path, name in places:
        wrong = wrong_name if name == "name" else wrong_id
        address = path.replace(f"{{{name}}}", wrong).replace("{name}", GOOD_NAME)
        response = await stage.client.request(
            method,
            re.sub(r"{\w+}", str(uuid4()), address),
            params={"connection": "main"},
            json=BODIES.get((method, path)),
        )

        problem(response, status, *([name] if status == 422 else []))


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        pytest.param("GET", "/v1/nothing", 404, "not_found", id="no such path"),
        pytest.param("GET", "/v1/postings/", 404, "not_found", id="a slash too many"),
        pytest.param("DELETE", "/v1/postings", 405, "method_not_allowed", id="no such method"),
    ],
)
async def test_a_wrong_address_is_a_problem(
    stage: Stage, method: str, path: str, status: int, code: str
) -> None:
    """Also what no route answers is told as a problem."""
    assert problem(await stage.client.request(method, path), status)["code"] == code
