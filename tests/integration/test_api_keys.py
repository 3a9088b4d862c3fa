"""Who may do what: every operation of the OpenAPI document, with keys that do not allow it."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import logging
from dataclasses import dataclass
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import pytest_asyncio
import structlog
from sqlalchemy import text

from alembic import command
from service import keys, migrations
from service.database import Database
from service.errors import KeyRefused
from service.keys import DEFAULT_SCOPES, SCOPES, Keys, Scope
from tests.factories.running import WAIT_SECONDS, Stage, problem, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from tests.factories.databases import Databases

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATH = "/v1/keys"
OPEN = "get_health"
ELSEWHERE = "north"
SYNC = "cte"
OF_NO_CONNECTION = {"get_readiness", "list_keys", "list_mirrors", "list_syncs", "get_sync"}
"""Answered to every key that has the scope, with no more than what it reaches."""
FORM = {
    "data": {"kind": "freight_cte", "connection": "main"},
    "files": {"file": ("documents.csv", b"access_key;due_date\n")},
}
CURSOR = """
INSERT INTO sync_cursor (connection, name, value, run_id) VALUES ('main', :name, now(), :run_id)
ON CONFLICT DO NOTHING
"""
HIDDEN: list[tuple[str, str, Scope, dict[str, Any]]] = [
    ("GET", "/openapi.json", "read", {}),
    ("POST", "/v1/postings/batch", "post", FORM),
]
"""What the document does not show, or shows with another operation."""


@dataclass(frozen=True)
class Operation:
    """An operation of the document, with a request about the connection `main`."""

    id: str
    method: str
    path: str
    scopes: list[str]
    request: dict[str, Any]


@pytest_asyncio.fixture(loop_scope="module")
async def operations(idle: Stage) -> AsyncIterator[list[Operation]]:
    """All that need a key, about things that there are."""
    posting = await idle.post()
    batch = await idle.client.post("/v1/postings/batch", json={"items": [idle.body()]})
    run = await idle.client.post(f"/v1/syncs/{SYNC}/runs", json={"connection": "main"})
    cron = {"cron": "*/30 * * * *"}
    await idle.client.put(f"/v1/syncs/{SYNC}/schedule", params={"connection": "main"}, json=cron)
    issued = await idle.runtime.keys.create("of all connections")
    ids = {
        "posting_id": posting["id"],
        "job_id": posting["id"],
        "batch_id": batch.json()["id"],
        "run_id": run.json()["id"],
        "key_id": str(issued.key.id),
        "name": SYNC,
    }
    bodies = {
        "create_posting": idle.body(),
        "plan_posting": idle.body(),
        "create_batch": {"items": [idle.body()]},
        "start_sync_run": {"connection": "main"},
        "set_sync_schedule": cron,
        "prefetch": {
            "connection": "main",
            "model": "res.partner",
            "ids": [1],
            "fields": ["name"],
        },
        "create_key": {"name": "another", "scopes": ["read"], "connections": ["main"]},
    }
    async with idle.runtime.database.transaction() as connection:
        await connection.execute(text(CURSOR), {"name": SYNC, "run_id": ids["run_id"]})
    yield await described(idle, ids, bodies)
    await idle.client.post(f"/v1/syncs/{SYNC}/runs/{ids['run_id']}/cancel")


async def described(stage: Stage, ids: dict[str, str], bodies: dict[str, Any]) -> list[Operation]:
    """The operations of the document, each with what it needs; a new one may need more here."""
    document = (await stage.client.get("/openapi.json")).json()
    found = []
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            request: dict[str, Any] = {}
            if "requestBody" in operation:
                request["json"] = bodies[operation["operationId"]]
            parameters = [(one["in"], one["name"]) for one in operation.get("parameters", [])]
            if ("query", "connection") in parameters:
                request["params"] = {"connection": "main"}
            needed = [scope for one in operation.get("security", []) for scope in one["HTTPBearer"]]
            found.append(
                Operation(
                    operation["operationId"], method.upper(), path.format(**ids), needed, request
                )
            )
    found.sort(key=lambda operation: operation.method == "DELETE")
    return [operation for operation in found if operation.id != OPEN]


async def ask(
    stage: Stage, operation: Operation, secret: str | None, scheme: str = "Bearer"
) -> httpx.Response:
    """The answer, but of an event stream its beginning only."""
    headers = {} if secret is None else {"Authorization": f"{scheme} {secret}"}
    async with (
        httpx.AsyncClient(base_url=stage.url, timeout=WAIT_SECONDS) as client,
        client.stream(
            operation.method, operation.path, headers=headers, **operation.request
        ) as response,
    ):
        if response.headers.get("content-type") != "text/event-stream":
            await response.aread()
        return response


async def secret_of(stage: Stage, **values: Any) -> str:
    """A new key."""
    return (await stage.runtime.keys.create("someone", **values)).secret


async def nothing(_: Stage) -> None:
    """No key."""


async def invented(_: Stage) -> str:
    """A key that nobody made."""
    return f"{keys.PREFIX}{'x' * 43}"


async def revoked(stage: Stage) -> str:
    """A key of all scopes that was revoked."""
    issued = await stage.runtime.keys.create("former", scopes=SCOPES)
    await stage.runtime.keys.revoke(issued.key.id, "tester")
    return issued.secret


async def expired(stage: Stage) -> str:
    """A key of all scopes that was valid until a moment ago."""
    past = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1)
    return await secret_of(stage, scopes=SCOPES, expires_at=past)


# -- every operation -----------------------------------------------------------------------------


async def test_every_operation_names_one_scope(operations: list[Operation]) -> None:
    """In the document, so that a route cannot be forgotten; there are all scopes."""
    needed = {operation.id: operation.scopes for operation in operations}

    assert {name: scopes for name, scopes in needed.items() if len(scopes) != 1} == {}
    assert {scope for [scope] in needed.values()} == set(SCOPES)


@pytest.mark.parametrize(
    ("credentials", "said", "challenge"),
    [
        pytest.param(nothing, "Send an API key", 'Bearer realm="eclusa"', id="no key"),
        pytest.param(invented, "not known", 'error="invalid_token"', id="wrong key"),
        pytest.param(revoked, "was revoked", 'error="invalid_token"', id="revoked"),
        pytest.param(expired, "has expired", 'error="invalid_token"', id="expired"),
    ],
)
async def test_no_operation_answers_without_a_valid_key(
    idle: Stage,
    operations: list[Operation],
    credentials: Callable[[Stage], Awaitable[str | None]],
    said: str,
    challenge: str,
) -> None:
    """401 with the reason, as RFC 6750 words it."""
    secret = await credentials(idle)

    for operation in operations:
        response = await ask(idle, operation, secret)

        assert said in problem(response, 401)["detail"], operation.id
        assert challenge in response.headers["www-authenticate"]
        assert ("error=" in response.headers["www-authenticate"]) == (secret is not None)


async def test_no_operation_answers_a_key_without_its_scope(
    idle: Stage, operations: list[Operation]
) -> None:
    """403 names the scope, for programs and for people; all other scopes do not help."""
    others = {
        scope: await secret_of(idle, scopes=[one for one in DEFAULT_SCOPES if one != scope])
        for scope in SCOPES
    }

    for operation in operations:
        [scope] = operation.scopes
        response = await ask(idle, operation, others[keys_scope(scope)])

        content = problem(response, 403)
        assert (content["code"], content["scope"]) == ("insufficient_scope", scope), operation.id
        assert f"{scope!r}" in content["detail"]
        assert response.headers["www-authenticate"].endswith(
            f'error="insufficient_scope", scope="{scope}"'
        )


def keys_scope(name: str) -> Scope:
    """The scope of that name."""
    [scope] = [one for one in SCOPES if one == name]
    return scope


async def test_no_operation_answers_a_key_of_another_connection(
    idle: Stage, operations: list[Operation]
) -> None:
    """403 for what a request names or leads to; what is of no connection tells of no other."""
    secret = await secret_of(idle, scopes=["admin"], connections=[ELSEWHERE])

    for operation in operations:
        response = await ask(idle, operation, secret)

        if operation.id in OF_NO_CONNECTION:
            assert response.status_code == 200, operation.id
            assert "main" not in response.text
            assert "of all connections" not in response.text
        else:
            assert problem(response, 403)["code"] == "connection_not_allowed", operation.id


async def test_every_operation_answers_a_key_that_allows_it(
    idle: Stage, operations: list[Operation]
) -> None:
    """The same requests with exactly that scope and connection: it was nothing else."""
    allowed = {
        scope: await secret_of(idle, scopes=[scope], connections=["main"]) for scope in SCOPES
    }
    everything = await secret_of(idle, scopes=["admin"])

    for operation in operations:
        [scope] = operation.scopes
        own = allowed[keys_scope(scope)] if scope != "admin" else everything
        response = await ask(idle, operation, own)

        assert response.status_code not in {401, 403, 404, 405, 422}, operation.id


@pytest.mark.parametrize(("method", "path", "scope", "request_"), HIDDEN)
async def test_what_the_document_does_not_show_needs_a_scope_too(
    idle: Stage, method: str, path: str, scope: Scope, request_: dict[str, Any]
) -> None:
    """The document itself, and the form of a batch."""
    operation = Operation("hidden", method, path, [scope], request_)
    others = [one for one in DEFAULT_SCOPES if one != scope]

    without = await ask(idle, operation, await secret_of(idle, scopes=others))
    elsewhere = await ask(
        idle, operation, await secret_of(idle, scopes=[scope], connections=[ELSEWHERE])
    )

    assert problem(without, 403)["scope"] == scope
    assert elsewhere.status_code == (403 if request_ else 200)


# -- connections ---------------------------------------------------------------------------------


async def test_lists_show_what_the_key_reaches(idle: Stage, operations: list[Operation]) -> None:
    """A key of one connection sees its postings and runs, and those of no other."""
    assert operations
    runs = f"/v1/syncs/{SYNC}/runs"
    for path in ("/v1/postings", runs):
        counts = {}
        for connection in ("main", ELSEWHERE):
            own = await secret_of(idle, scopes=["read"], connections=[connection])
            headers = {"Authorization": f"Bearer {own}"}
            page = (await idle.client.get(path, headers=headers)).json()
            counts[connection] = len(page["items"])

        assert counts["main"] >= 1
        assert counts[ELSEWHERE] == 0


async def test_one_document_of_another_connection_refuses_a_batch(idle: Stage) -> None:
    """Nothing of it is posted: it is the key that is wrong, not the item."""
    own = await secret_of(idle, scopes=["post"], connections=["main"])
    items = [idle.body(), {**idle.body(), "connection": ELSEWHERE}]

    response = await idle.client.post(
        "/v1/postings/batch",
        json={"items": items},
        headers={"Authorization": f"Bearer {own}"},
    )

    assert problem(response, 403)["code"] == "connection_not_allowed"
    assert (await idle.client.get("/v1/postings")).json()["items"] == []


async def test_an_admin_of_some_connections_manages_their_keys_only(idle: Stage) -> None:
    """Else it could make itself a key of all connections."""
    admin = await secret_of(idle, scopes=["admin"], connections=["main"])
    headers = {"Authorization": f"Bearer {admin}"}
    wanted = {"name": "helper", "scopes": ["admin"]}

    unlimited = await idle.client.post(PATH, json=wanted, headers=headers)
    limited = await idle.client.post(
        PATH, json={**wanted, "connections": ["main"]}, headers=headers
    )
    listed = (await idle.client.get(PATH, headers=headers)).json()["items"]

    assert problem(unlimited, 403)["code"] == "connection_not_allowed"
    assert limited.status_code == 201
    assert limited.json()["id"] in [item["id"] for item in listed]
    assert {tuple(item["connections"]) for item in listed} == {("main",)}


# -- making, listing, revoking -------------------------------------------------------------------


async def test_a_key_is_made_used_and_revoked(idle: Stage) -> None:
    """It is shown once, works at once, names its actor, and ends at once in the same process."""
    wanted = {
        "name": "back office",
        "scopes": ["read", "post"],
        "connections": ["main"],
        "expires_at": "2999-12-31T00:00:00Z",
    }

    made = await idle.client.post(PATH, json=wanted)

    assert made.status_code == 201
    assert made.headers["cache-control"] == "no-store"
    issued = made.json()
    headers = {"Authorization": f"Bearer {issued['key']}"}
    posted = await idle.client.post("/v1/postings", json=idle.body(), headers=headers)
    assert posted.json()["actor"] == "back office"

    for _ in "twice":
        assert (await idle.client.delete(f"{PATH}/{issued['id']}")).status_code == 204

    problem(await idle.client.get("/v1/postings", headers=headers), 401)
    shown = (await idle.client.get(made.headers["location"])).json()
    assert shown["prefix"] == issued["key"][: len(shown["prefix"])]
    assert {name: shown[name] for name in ("scopes", "connections", "created_by")} == {
        "scopes": ["read", "post"],
        "connections": ["main"],
        "created_by": "tester",
    }
    assert (shown["revoked_by"], shown["expires_at"]) == ("tester", wanted["expires_at"])
    assert shown in (await idle.client.get(PATH)).json()["items"]


@pytest.mark.parametrize(
    ("values", "status", "field"),
    [
        pytest.param({"scopes": []}, 422, "scopes", id="no scope"),
        pytest.param({"scopes": ["all"]}, 422, "scopes.0", id="no such scope"),
        pytest.param({"connections": []}, 422, "connections", id="no connection"),
        pytest.param({"connections": ["nowhere"]}, 404, "connection", id="unknown connection"),
        pytest.param({"expires_at": "2020-01-01T00:00:00Z"}, 422, "expires_at", id="past"),
        pytest.param({"expires_at": "2999-01-01T00:00:00"}, 422, "expires_at", id="no zone"),
    ],
)
async def test_a_wrong_key_is_not_made(
    idle: Stage, values: dict[str, Any], status: int, field: str
) -> None:
    """The field is named."""
    response = await idle.client.post(PATH, json={"name": "x", "scopes": ["read"], **values})

    problem(response, status, field)


async def test_a_key_ends_while_it_is_remembered(idle: Stage) -> None:
    """The API remembers a key no longer than it is valid."""
    soon = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=0.5)
    secret = await secret_of(idle, scopes=["read"], expires_at=soon)
    headers = {"Authorization": f"Bearer {secret}"}
    answers: list[int] = []

    async with asyncio.timeout(keys.REMEMBERED_SECONDS - 1):
        while not answers or answers[-1] == 200:
            answers.append((await idle.client.get("/v1/postings", headers=headers)).status_code)

    assert (answers[0], answers[-1]) == (200, 401)


async def test_keys_of_before_there_were_scopes_have_all_but_admin(databases: Databases) -> None:
    """And where scopes are unknown again, keys that were limited are refused."""
    old = text(
        "INSERT INTO api_key (id, name, digest, created_at)"
        " VALUES (gen_random_uuid(), 'old', 'digest', now())"
    )
    async with databases.fresh() as address:
        config, before = migrations._config(address), "2026_11_26_batch_files"
        database = Database(address)
        await asyncio.to_thread(command.downgrade, config, before)
        async with database.transaction() as connection:
            await connection.execute(old)
        await migrations.migrate(address)
        [key] = await Keys(database).list()
        await Keys(database).create("narrow", scopes=["read"])
        await Keys(database).create("usual")
        await asyncio.to_thread(command.downgrade, config, before)
        async with database.transaction() as connection:
            valid = text("SELECT name FROM api_key WHERE revoked_at IS NULL ORDER BY name")
            left = list(await connection.scalars(valid))
        await migrations.migrate(address)
        await database.close()

    assert (key.name, sorted(key.scopes), key.connections) == ("old", sorted(DEFAULT_SCOPES), None)
    assert left == ["old", "usual"]


# -- the last use --------------------------------------------------------------------------------


async def set_last_use(stage: Stage, key: keys.Key, seconds_ago: int) -> None:
    """Move the last use of a key into the past."""
    statement = (
        "UPDATE api_key SET last_used_at = now() - make_interval(secs => :ago) WHERE id = :id"
    )
    async with stage.runtime.database.transaction() as connection:
        await connection.execute(text(statement), {"ago": seconds_ago, "id": key.id})


async def used(stage: Stage, issued: keys.IssuedKey) -> dt.datetime | None:
    """When a key was last used, after one more use by a process that knows nothing of it."""
    book = Keys(stage.runtime.database)
    await asyncio.gather(*(book.recognise(issued.secret) for _ in range(3)))
    await book.close()
    return (await book.get(issued.key.id)).last_used_at


async def test_the_last_use_is_noted_once_a_minute(idle: Stage) -> None:
    """Not at all within the same minute."""
    issued = await idle.runtime.keys.create("busy")
    assert issued.key.last_used_at is None
    assert await used(idle, issued) is not None

    await set_last_use(idle, issued.key, 50)
    within = (await idle.runtime.keys.get(issued.key.id)).last_used_at
    assert await used(idle, issued) == within

    await set_last_use(idle, issued.key, 61)
    after = (await idle.runtime.keys.get(issued.key.id)).last_used_at
    assert after is not None
    assert (await used(idle, issued) or after) > after


async def test_noting_the_last_use_holds_no_request_up(idle: Stage) -> None:
    """The key is recognised while its row is locked, and its use is noted afterwards."""
    issued = await idle.runtime.keys.create("locked")
    book = Keys(idle.runtime.database)
    async with idle.runtime.database.transaction() as connection:
        locked = text("SELECT 1 FROM api_key WHERE id = :id FOR UPDATE")
        await connection.execute(locked, {"id": issued.key.id})
        async with asyncio.timeout(5):
            assert (await book.recognise(issued.secret)).name == "locked"

    await book.close()
    assert (await book.get(issued.key.id)).last_used_at is not None


# -- what is told of keys ------------------------------------------------------------------------


async def test_no_key_is_in_logs_answers_or_the_database(
    idle: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """A refused one, a used one and a new one; the logs say that one was refused, and why."""
    caplog.set_level(logging.DEBUG)
    refused = await invented(idle)
    with structlog.testing.capture_logs() as logs:
        made = (await idle.client.post(PATH, json={"name": "new", "scopes": ["read"]})).json()
        answers = [
            (await idle.client.get(path, headers={"Authorization": f"Bearer {secret}"})).text
            for secret in (refused, made["key"])
            for path in ("/v1/postings", "/v1/nothing", PATH)
        ]
    async with idle.runtime.database.transaction() as connection:
        rows = (await connection.execute(text("SELECT to_jsonb(api_key) FROM api_key"))).all()

    told = f"{logs} {caplog.text} {answers} {rows} {(await idle.client.get(PATH)).text}"
    for secret in (refused, made["key"], idle.key):
        assert secret not in told
        assert secret.removeprefix(keys.PREFIX) not in told
    assert {"reason": "unknown", "ip": "127.0.0.1", "event": "key_refused"}.items() <= next(
        entry.items() for entry in logs if entry["event"] == "key_refused"
    )
    assert made["key"] not in repr(await idle.runtime.keys.create("printed"))


async def test_a_revoked_key_is_told_from_an_unknown_one(idle: Stage) -> None:
    """By its reason."""
    for make, reason in ((invented, "unknown"), (revoked, "revoked"), (expired, "expired")):
        with pytest.raises(KeyRefused) as refusal:
            await idle.runtime.keys.recognise(await make(idle))

        assert refusal.value.reason == reason


@pytest.mark.parametrize(
    ("trusted", "ip"), [pytest.param(True, "203.0.113.5", id="trusted"), (False, "127.0.0.1")]
)
async def test_the_audit_has_the_callers_address(
    idle: Stage, tmp_path: Path, ip: str, *, trusted: bool
) -> None:
    """That which a trusted proxy tells; that of the peer, when the proxy is not known."""
    networks = (ip_network("127.0.0.0/8"),) if trusted else ()
    changed = {"trusted_proxies": networks, "config": tmp_path / "eclusa.toml"}
    settings = idle.runtime.settings.model_copy(update=changed)
    forwarded = {"X-Forwarded-For": "198.51.100.1, 203.0.113.5"}
    async with running(settings, with_worker=False) as stage:
        posting = await stage.client.post("/v1/postings", json=stage.body(), headers=forwarded)
        path = f"/v1/postings/{posting.json()['id']}"
        await stage.client.post(f"{path}/cancel", headers=forwarded)
        audit = (await stage.client.get(f"{path}/audit")).json()["items"]

    assert [(item["actor"], item["ip"]) for item in audit] == [("tester", ip)] * 2
    assert json.dumps(audit).count("198.51.100.1") == 0
