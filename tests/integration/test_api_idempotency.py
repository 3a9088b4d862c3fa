"""The Idempotency-Key: repeated requests get the first one's answer, and nothing is done twice."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
import pytest_asyncio
from sqlalchemy import text

from service import idempotency
from service.errors import IdempotencyInProgress
from service.idempotency import Answer, Idempotency, Ticket
from tests.factories import sheets
from tests.factories.running import Stage, problem

if TYPE_CHECKING:
    import httpx

    from service.database import Database

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATH = "/v1/postings"
BATCH = "/v1/postings/batch"
KEYS = "/v1/keys"
RUNS = "/v1/syncs/cte/runs"
REPLAYED = "Idempotency-Replayed"
KEEP = timedelta(hours=1)


def once(key: str | None = None) -> dict[str, str]:
    """The header, with a key of its own."""
    return {"Idempotency-Key": key or str(uuid4())}


def same(first: httpx.Response, second: httpx.Response) -> bool:
    """Whether the second answer is a replay of the first."""
    names = ("location", "content-type", "etag")
    return (
        REPLAYED not in first.headers
        and second.headers.get(REPLAYED) == "true"
        and first.status_code == second.status_code
        and first.content == second.content
        and [first.headers.get(name) for name in names]
        == [second.headers.get(name) for name in names]
    )


async def count(stage: Stage, table: str) -> int:
    """How many rows a table has."""
    async with stage.runtime.database.transaction() as connection:
        return int((await connection.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one())  # noqa: S608  a name of ours


@pytest_asyncio.fixture(loop_scope="module")
async def stage(idle: Stage) -> Stage:
    """The API without a worker, on no postings and no records of keys."""
    async with idle.runtime.database.transaction() as connection:
        await connection.execute(text("TRUNCATE idempotency_record, batch, sync_run CASCADE"))
    return idle


async def test_a_repeated_posting_gets_the_first_answer(stage: Stage) -> None:
    """The same key and body: the same status, Location and body, and one posting."""
    body, headers = stage.body(), once()

    first = await stage.client.post(PATH, json=body, headers=headers)
    second = await stage.client.post(PATH, json=body, headers=headers)

    assert first.status_code == 202
    assert same(first, second)
    assert await count(stage, "posting") == 1


async def test_the_answer_is_as_it_was_when_the_posting_has_gone_on(stage: Stage) -> None:
    """A replay tells what was answered then, not how the posting is now."""
    body, headers = stage.body(), once()
    first = await stage.client.post(PATH, json=body, headers=headers)
    await stage.stop_posting(first.json()["id"])

    second = await stage.client.post(PATH, json=body, headers=headers)

    assert same(first, second)


async def test_a_refusal_by_what_is_there_is_repeated(stage: Stage) -> None:
    """409 with the live posting's id: the key's answer, also once the document is free again."""
    body, headers = stage.body(), once()
    accepted = await stage.client.post(PATH, json=body)
    first = await stage.client.post(PATH, json=body, headers=headers)
    await stage.client.post(f"{PATH}/{accepted.json()['id']}/cancel")

    second = await stage.client.post(PATH, json=body, headers=headers)

    assert problem(first, 409)["posting_id"] == accepted.json()["id"]
    assert same(first, second)
    assert (await stage.client.post(PATH, json=body, headers=once())).status_code == 202


async def test_another_request_under_the_same_key_is_refused(stage: Stage) -> None:
    """A key names one request: another body, path or query is not carried out."""
    headers, body = once(), stage.body()
    await stage.client.post(PATH, json=body, headers=headers)

    for path, other in (
        (PATH, stage.body()),
        (f"{PATH}?x=1", body),
        (BATCH, {"items": [stage.body()]}),
    ):
        response = await stage.client.post(path, json=other, headers=headers)
        assert problem(response, 422)["code"] == "idempotency_key_reused"

    assert await count(stage, "posting") == 1


async def test_a_key_belongs_to_the_api_key(stage: Stage) -> None:
    """Two callers may choose the same key."""
    headers = once()
    other = (await stage.runtime.keys.create("other")).secret
    first = await stage.client.post(PATH, json=stage.body(), headers=headers)

    second = await stage.client.post(
        PATH, json=stage.body(), headers={**headers, "Authorization": f"Bearer {other}"}
    )

    assert (first.status_code, second.status_code) == (202, 202)
    assert REPLAYED not in second.headers


async def test_a_key_in_quotes_is_the_same_key(stage: Stage) -> None:
    """The draft writes it as a string with quotes; many clients leave them out."""
    body, key = stage.body(), f'a"b\\{uuid4()}'
    quoted = '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'
    first = await stage.client.post(PATH, json=body, headers=once(quoted))
    assert same(first, await stage.client.post(PATH, json=body, headers=once(quoted)))

    plain = stage.body()
    first = await stage.client.post(PATH, json=plain, headers=once("plain-key"))
    assert same(first, await stage.client.post(PATH, json=plain, headers=once('"plain-key"')))


@pytest.mark.parametrize(
    "key",
    [
        pytest.param("", id="empty"),
        pytest.param('""', id="empty string"),
        pytest.param('"open', id="no end"),
        pytest.param('"a"b"', id="quote inside"),
        pytest.param("two words", id="blank"),
        pytest.param("a,b", id="list"),
        pytest.param("é", id="no ASCII"),
        pytest.param("x" * 256, id="long"),
    ],
)
@pytest.mark.parametrize("path", [PATH, BATCH], ids=["posting", "batch"])
async def test_a_malformed_key_is_refused(stage: Stage, path: str, key: str) -> None:
    """It is told like any wrong field, and nothing is done."""
    body = stage.body() if path == PATH else {"items": [stage.body()]}
    response = await stage.client.post(
        path, json=body, headers={b"Idempotency-Key": key.encode("latin-1")}
    )

    problem(response, 422, "idempotency-key")
    assert await count(stage, "posting") == 0


async def test_two_keys_at_once_are_refused(stage: Stage) -> None:
    """Which of them would count cannot be told."""
    headers = [("Idempotency-Key", "one"), ("Idempotency-Key", "two")]

    response = await stage.client.post(PATH, json=stage.body(), headers=headers)

    problem(response, 422, "idempotency-key")


async def test_what_was_refused_before_anything_was_done_leaves_the_key_free(stage: Stage) -> None:
    """A caller may mend the request and send it under its key."""
    headers, body = once(), stage.body()
    problem(await stage.client.post(PATH, json={**body, "kind": "x"}, headers=headers), 404)
    problem(await stage.client.post(PATH, json={**body, "more": 1}, headers=headers), 422)

    assert (await stage.client.post(PATH, json=body, headers=headers)).status_code == 202


async def requests(stage: Stage) -> list[tuple[str, Any]]:
    """A path and body for each kind of request that does something."""
    posting = await stage.post()
    stopped = await stage.post()
    await stage.stop_posting(stopped["id"])
    run = await stage.client.post("/v1/syncs/sales_backlog/runs", json={"connection": "main"})
    return [
        (BATCH, {"items": [stage.body(), {"kind": "x"}]}),
        (f"{PATH}/{stopped['id']}/resume", None),
        (f"{PATH}/{posting['id']}/rollback?compensate=true", None),
        (f"{PATH}/{stopped['id']}/cancel", None),
        (RUNS, {"connection": "main"}),
        (f"/v1/syncs/sales_backlog/runs/{run.json()['id']}/cancel", None),
    ]


async def test_every_request_that_does_something_takes_a_key(stage: Stage) -> None:
    """Each is done once; the first two would be refused, or done again, without the key."""
    for path, body in await requests(stage):
        headers = once()
        first = await stage.client.post(path, json=body, headers=headers)
        second = await stage.client.post(path, json=body, headers=headers)

        assert first.status_code // 100 == 2, first.text
        assert same(first, second), path


async def test_a_file_is_the_same_whatever_its_boundary(desk: Stage) -> None:
    """A client draws another boundary for each form; another file is another request."""
    headers, content = once(), sheets.xlsx(sheets.row(1, referência=uuid4().hex))

    async def send(content: bytes, boundary: str) -> httpx.Response:
        media_type = f"multipart/form-data; boundary={boundary}"
        return await desk.client.post(
            BATCH,
            headers={**headers, "Content-Type": media_type},
            data={"kind": "title_settlement", "connection": "main"},
            files={"file": ("titles.xlsx", content)},
        )

    first = await send(content, "one-1")
    second = await send(content, "two-22")
    other = await send(sheets.xlsx(sheets.row(2, referência=uuid4().hex)), "one-1")

    assert first.status_code == 202, first.text
    assert same(first, second)
    assert problem(other, 422)["code"] == "idempotency_key_reused"


async def test_a_new_key_is_shown_once(stage: Stage) -> None:
    """The secret is not kept: the second request is told where the key is that was made."""
    body, headers = {"name": "once", "scopes": ["read"]}, once()
    before = await count(stage, "api_key")
    first = await stage.client.post(KEYS, json=body, headers=headers)

    second = await stage.client.post(KEYS, json=body, headers=headers)

    assert first.status_code == 201
    assert problem(second, 409)["code"] == "idempotency_answer_not_kept"
    assert second.headers["location"] == first.headers["location"]
    assert first.json()["key"] not in second.text
    assert await count(stage, "api_key") == before + 1
    async with stage.runtime.database.transaction() as connection:
        dump = await connection.scalar(
            text("SELECT string_agg(r::text, '') FROM idempotency_record r")
        )
    assert first.json()["key"] not in dump


@pytest.mark.parametrize("path", [PATH, BATCH], ids=["posting", "batch"])
async def test_requests_at_one_moment_are_done_once(stage: Stage, path: str) -> None:
    """One is carried out; the others get its answer, or are told that it is under way."""
    body = stage.body() if path == PATH else {"items": [stage.body()]}
    headers = once()

    answers = await asyncio.gather(
        *(stage.client.post(path, json=body, headers=headers) for _ in range(20))
    )

    fresh = [one for one in answers if one.status_code == 202 and REPLAYED not in one.headers]
    replays = [one for one in answers if one.headers.get(REPLAYED)]
    waiting = [one for one in answers if one.status_code == 409]
    assert len(fresh) == 1
    assert {one.content for one in replays} <= {fresh[0].content}
    assert {problem(one, 409)["code"] for one in waiting} <= {"idempotency_in_progress"}
    assert all(int(one.headers["retry-after"]) >= 1 for one in waiting)
    assert len(fresh) + len(replays) + len(waiting) == 20
    assert await count(stage, "posting") == 1


async def test_a_failure_is_not_kept(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that breaks leaves the key free, and the next request is carried out."""
    posting = await stage.post()
    await stage.stop_posting(posting["id"])
    headers, path = once(), f"{PATH}/{posting['id']}/resume"

    async def broken(*_: Any) -> None:
        raise OSError("gone")

    with monkeypatch.context() as patched:
        patched.setattr(stage.api.ledger, "resume", broken)
        problem(await stage.client.post(path, headers=headers), 503)
    response = await stage.client.post(path, headers=headers)

    assert response.status_code == 202
    assert REPLAYED not in response.headers


# -- claims ----------------------------------------------------------------------------------------


def new_ticket(**values: Any) -> Ticket:
    """A request with a key."""
    return Ticket(**{"owner": uuid4(), "key": "k", "fingerprint": "f", **values})


ANSWER = Answer(status=202, headers={"location": "/x"}, body=b"{}")


@pytest.fixture
def brief(stage: Stage) -> Idempotency:
    """Claims that last 50 ms."""
    return Idempotency(stage.runtime.database, keep=KEEP, lease=timedelta(milliseconds=50))


async def until_free(records: Idempotency, ticket: Ticket) -> Answer | None:
    """Claim a key as soon as it is free."""
    async with asyncio.timeout(5):
        while True:
            try:
                return await records.claim(ticket)
            except IdempotencyInProgress:
                await asyncio.sleep(0.01)


async def test_the_key_of_a_killed_process_is_free_after_its_lease(brief: Idempotency) -> None:
    """Nobody settles the claim: another request gets it, and the late answer does not count."""
    first = new_ticket()
    await brief.claim(first)
    second = new_ticket(owner=first.owner)
    with pytest.raises(IdempotencyInProgress):
        await brief.claim(second)

    assert await until_free(brief, second) is None

    await brief.settle(first, Answer(status=200, headers={}, body=b"late"))
    await brief.release(first)
    await brief.settle(second, ANSWER)
    third = await brief.claim(new_ticket(owner=first.owner))
    assert third == Answer(status=202, headers={"location": "/x"}, body=b"{}", replayed=True)


async def test_a_request_that_takes_long_keeps_its_key(brief: Idempotency) -> None:
    """The lease is renewed while it is carried out."""
    first = new_ticket()
    await brief.claim(first)

    async with brief.renewing(first):
        for _ in range(15):
            with pytest.raises(IdempotencyInProgress):
                await brief.claim(new_ticket(owner=first.owner))
            await asyncio.sleep(0.01)


async def test_answers_are_forgotten_when_their_time_is_over(stage: Stage) -> None:
    """The key is free from then on, and the record is removed."""
    database: Database = stage.runtime.database
    past = Idempotency(database, keep=timedelta(0))
    kept, over = new_ticket(), new_ticket()
    await Idempotency(database, keep=KEEP).claim(kept)
    await past.claim(over)
    await past.settle(over, ANSWER)

    assert await past.claim(new_ticket(owner=over.owner)) is None
    async with database.transaction() as connection:
        assert await idempotency.forget_expired(connection) == 1
    assert await count(stage, "idempotency_record") == 1
