"""Postings over HTTP: accepted once, looked at, gone on with; and who may ask at all."""

from __future__ import annotations

import asyncio
import base64
import re
from collections import Counter
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import text

from service import keys
from service.simulator.faults import Fault
from tests.factories.running import DUE, WAIT_SECONDS, Stage, own_servers, problem, running

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATH = "/v1/postings"
GENERATE = "action_gerar_po_dfe"
OPEN_PATH = "/healthz"
STATUSES = {
    "pending",
    "running",
    "waiting",
    "completed",
    "failed",
    "needs_attention",
    "rolled_back",
    "canceled",
}


async def execute(stage: Stage, statement: str, **values: Any) -> None:
    """Change the database behind the service's back."""
    async with stage.runtime.database.transaction() as connection:
        await connection.execute(text(statement), values)


async def get(stage: Stage, path: str, **query: Any) -> dict[str, Any]:
    """What the API answers with 200."""
    response = await stage.client.get(path, params=query)
    assert response.status_code == 200, response.text
    return dict(response.json())


async def pages(stage: Stage, path: str, parameter: str, **query: Any) -> list[list[Any]]:
    """The items of each page of a list, from the first to the last."""
    found: list[list[Any]] = []
    cursor: dict[str, Any] = {}
    while True:
        page = await get(stage, path, **query, **cursor)
        found.append(page["items"])
        if page["next_cursor"] is None:
            return found
        cursor = {parameter: page["next_cursor"]}


async def set_status(stage: Stage, posting_id: str, status: str) -> None:
    """Give a posting a status, however it would come by it."""
    await execute(
        stage, "UPDATE posting SET status = :status WHERE id = :id", status=status, id=posting_id
    )


# -- accepting -----------------------------------------------------------------------------------


async def test_a_document_is_accepted_and_found_at_its_location(idle: Stage) -> None:
    """202, and `Location` leads to the posting, which waits with one job and one audit record."""
    document = idle.arrive()

    response = await idle.client.post(PATH, json={**idle.body(document), "reference": "load 7"})

    assert response.status_code == 202
    posting = response.json()
    del posting["updated_at"]  # the first audit record may be written a microsecond later
    assert response.headers["location"] == f"{PATH}/{posting['id']}"
    found = await get(idle, response.headers["location"])
    assert posting.items() <= found.items()
    wanted = {
        "kind": "freight_cte",
        "connection": "main",
        "document_key": document.key,
        "reference": "load 7",
        "status": "pending",
        "step": 0,
        "total_steps": 16,
        "actor": "tester",
        "ended_at": None,
    }
    assert wanted.items() <= found.items()
    async with idle.runtime.database.transaction() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM pgqueuer")) == 1
        assert await connection.scalar(text("SELECT count(*) FROM audit_record")) == 1


@pytest.mark.parametrize(
    "written",
    [
        pytest.param(lambda xml: xml, id="text"),
        pytest.param(lambda xml: base64.b64encode(xml.encode()).decode(), id="base64"),
        pytest.param(lambda xml: base64.encodebytes(xml.encode()).decode(), id="lines of base64"),
    ],
)
async def test_an_xml_names_its_document(idle: Stage, written: Callable[[str], str]) -> None:
    """Text or base64: the access key is read from it."""
    document = idle.arrive()
    body = {
        "kind": "freight_cte",
        "connection": "main",
        "input": {"xml": written(document.xml), "due_date": DUE},
    }

    response = await idle.client.post(PATH, json=body)

    assert response.status_code == 202
    assert response.json()["document_key"] == document.key


@pytest.mark.parametrize("status", sorted(STATUSES - {"completed", "canceled"}))
async def test_a_document_that_is_live_is_refused_with_its_posting(
    idle: Stage, status: str
) -> None:
    """409 with `posting_id`, in whatever way the document is given; nothing is queued again."""
    document = idle.arrive()
    posting = await idle.post(document)
    await set_status(idle, posting["id"], status)

    for values in ({}, {"xml": document.xml}, {"access_key": f"CTe{document.key}"}):
        response = await idle.client.post(PATH, json=idle.body(document, **values))

        content = problem(response, 409)
        assert (content["code"], content["posting_id"]) == ("posting_live", posting["id"])
    assert len((await get(idle, PATH))["items"]) == 1


async def test_a_completed_document_is_answered_and_not_posted_again(working: Stage) -> None:
    """200 with the posting as it is; Odoo is not called and no record is added."""
    document = working.arrive()
    posting = await working.post(document)
    events = await working.finish(posting["id"])
    received = Counter(working.simulator.world.received)

    response = await working.client.post(PATH, json=working.body(document))

    assert response.status_code == 200
    assert (response.json()["id"], response.json()["status"]) == (posting["id"], "completed")
    assert response.headers["location"] == f"{PATH}/{posting['id']}"
    assert (await get(working, f"{PATH}/{posting['id']}/audit"))["items"][-1]["seq"] == len(events)
    assert received == working.simulator.world.received


# -- looking -------------------------------------------------------------------------------------


async def test_a_posting_shows_its_sixteen_steps(working: Stage) -> None:
    """Each with its title and state; the step that is left out says why."""
    posting = await working.post()
    before = await get(working, f"{PATH}/{posting['id']}")
    await working.finish(posting["id"])

    found = await get(working, f"{PATH}/{posting['id']}")

    assert [step["number"] for step in before["steps"]] == list(range(1, 17))
    assert (found["status"], found["step"]) == ("completed", 16)
    assert {step["state"] for step in found["steps"]} == {"found", "done", "skipped"}
    assert all(step["title"] for step in found["steps"])
    assert [step["number"] for step in found["steps"] if step["disabled"]] == [8]
    assert found["facts"]["bill_posted"] is True
    assert found["ended_at"] is not None


async def test_a_stopped_posting_says_why(working: Stage) -> None:
    """A code for programs, a sentence for a person, and which step failed."""
    posting = await working.post(working.arrive(status="07"))
    await working.finish(posting["id"])

    found = await get(working, f"{PATH}/{posting['id']}")

    assert (found["status"], found["code"]) == ("failed", "dfe_rejected")
    assert found["message"]
    assert found["step"] == 0


@pytest.mark.parametrize("name", ["status", "kind", "connection", "document_key", "reference"])
async def test_a_list_is_narrowed_by_each_filter(idle: Stage, name: str) -> None:
    """Only what has the value is listed; a value that nothing has lists nothing."""
    wanted, other = [await idle.post() for _ in range(2)]
    changes = {"status": "failed", "reference": "load 7"}
    value = changes.get(name, f"other {name}")
    await execute(
        idle,
        f"UPDATE posting SET {name} = :value WHERE id = :id",  # noqa: S608  a column's name
        value=value,
        id=wanted["id"],
    )

    listed = (await get(idle, PATH, **{name: value}))["items"]

    assert [posting["id"] for posting in listed] == [wanted["id"]]
    others = (await get(idle, PATH, **{name: other[name]}))["items"] if other[name] else []
    assert wanted["id"] not in {posting["id"] for posting in others}
    absent = "canceled" if name == "status" else "nobody's"
    assert (await get(idle, PATH, **{name: absent}))["items"] == []


async def test_filters_are_joined(idle: Stage) -> None:
    """A posting has to match all of them."""
    postings = [await idle.post() for _ in range(2)]
    await set_status(idle, postings[0]["id"], "failed")

    query = {"status": "failed", "document_key": postings[1]["document_key"]}

    assert (await get(idle, PATH, **query))["items"] == []


@pytest.mark.parametrize("same_moment", [False, True], ids=["one by one", "at the same moment"])
async def test_pages_lose_and_repeat_nothing(idle: Stage, *, same_moment: bool) -> None:
    """Newest first over several pages, also when all were accepted at the same moment."""
    accepted = [(await idle.post())["id"] for _ in range(7)]
    if same_moment:
        await execute(idle, "UPDATE posting SET created_at = '2026-11-24T12:00:00.000001Z'")
        accepted = sorted(accepted)

    found = await pages(idle, PATH, "cursor", limit=3)

    assert [len(page) for page in found] == [3, 3, 1]
    assert [posting["id"] for page in found for posting in page] == accepted[::-1]


async def test_pages_stay_whole_while_postings_arrive(idle: Stage) -> None:
    """A posting that is accepted between two pages moves nothing to the next one."""
    accepted = [(await idle.post())["id"] for _ in range(4)]
    first = await get(idle, PATH, limit=2)
    await idle.post()

    second = await get(idle, PATH, limit=2, cursor=first["next_cursor"])

    listed = [posting["id"] for page in (first, second) for posting in page["items"]]
    assert listed == accepted[::-1]
    assert second["next_cursor"] is None


async def test_pages_keep_to_their_filter(idle: Stage) -> None:
    """A cursor goes on within what was asked for."""
    accepted = [(await idle.post())["id"] for _ in range(5)]
    for posting_id in accepted[::2]:
        await set_status(idle, posting_id, "failed")

    found = await pages(idle, PATH, "cursor", limit=2, status="failed")

    assert [posting["id"] for page in found for posting in page] == accepted[::2][::-1]


async def test_an_empty_list_is_one_empty_page(idle: Stage) -> None:
    """There is no cursor to go on with."""
    assert await get(idle, PATH) == {"items": [], "next_cursor": None}


# -- the audit -----------------------------------------------------------------------------------


async def restarted(stage: Stage) -> tuple[str, int]:
    """A posting that was rolled back and resumed several times, and how many records it has."""
    posting_id = (await stage.post())["id"]
    for _ in range(3):
        for action in ("rollback", "resume"):
            response = await stage.client.post(f"{PATH}/{posting_id}/{action}")
            assert response.is_success, response.text
    return posting_id, 7


async def test_audit_pages_lose_and_repeat_nothing(idle: Stage) -> None:
    """Oldest first, from `after` on."""
    posting_id, count = await restarted(idle)

    found = await pages(idle, f"{PATH}/{posting_id}/audit", "after", limit=3)
    rest = await get(idle, f"{PATH}/{posting_id}/audit", after=5)

    assert [[record["seq"] for record in page] for page in found] == [[1, 2, 3], [4, 5, 6], [7]]
    assert [record["seq"] for record in rest["items"]] == list(range(6, count + 1))
    assert (await get(idle, f"{PATH}/{posting_id}/audit", after=count))["items"] == []


async def test_a_full_last_audit_page_has_no_next_one(idle: Stage) -> None:
    """`next_cursor` is only there when there is more."""
    posting_id, count = await restarted(idle)

    page = await get(idle, f"{PATH}/{posting_id}/audit", limit=count)

    assert (len(page["items"]), page["next_cursor"]) == (count, None)


async def test_the_audit_says_who_asked_and_from_where(idle: Stage) -> None:
    """The key's name and the address of whoever accepted, rolled back or resumed."""
    posting_id, _ = await restarted(idle)

    records = (await get(idle, f"{PATH}/{posting_id}/audit", limit=3))["items"]

    assert [record["action"] for record in records] == ["accept", "rollback", "resume"]
    assert {(record["actor"], record["ip"]) for record in records} == {("tester", "127.0.0.1")}


async def test_an_audit_that_was_left_alone_is_valid(working: Stage) -> None:
    """All records of a completed posting follow each other."""
    posting = await working.post()
    events = await working.finish(posting["id"])

    verdict = await get(working, f"{PATH}/{posting['id']}/audit/verify")

    assert verdict == {
        "posting_id": posting["id"],
        "records": len(events),
        "valid": True,
        "damages": [],
    }


async def test_an_audit_that_was_tampered_with_is_broken(idle: Stage) -> None:
    """The verdict names the records that are not as they were written, and what became of them."""
    posting_id, _ = await restarted(idle)
    await execute(idle, "UPDATE audit_record SET message = 'nothing' WHERE seq = 4")
    await execute(idle, "DELETE FROM audit_record WHERE seq = 6")

    verdict = await get(idle, f"{PATH}/{posting_id}/audit/verify")

    assert not verdict["valid"]
    assert [(damage["seq"], damage["kind"]) for damage in verdict["damages"]] == [
        (4, "changed"),
        (6, "missing"),
    ]
    assert "content" in verdict["damages"][0]["message"]


# -- going on ------------------------------------------------------------------------------------


async def test_a_resumed_posting_goes_on_to_its_end(working: Stage) -> None:
    """202, a second run, and the work that stopped is done."""
    working.simulator.add_fault(Fault(kind="user_error", method=GENERATE))
    posting = await working.post()
    await working.finish(posting["id"])
    assert (await get(working, f"{PATH}/{posting['id']}"))["status"] == "failed"

    response = await working.client.post(f"{PATH}/{posting['id']}/resume")
    await working.finish(posting["id"])

    assert response.status_code == 202
    assert (response.json()["run"], response.json()["code"]) == (2, None)
    found = await get(working, f"{PATH}/{posting['id']}")
    assert (found["status"], found["run"]) == ("completed", 2)


async def test_a_rolled_back_posting_keeps_its_documents_place(working: Stage) -> None:
    """Its facts are gone and its document is still refused; resumed, it completes."""
    working.simulator.add_fault(Fault(kind="user_error", method=GENERATE))
    document = working.arrive()
    posting = await working.post(document)
    await working.finish(posting["id"])

    response = await working.client.post(f"{PATH}/{posting['id']}/rollback")

    assert response.status_code == 200
    found = {name: response.json()[name] for name in ("status", "step", "facts")}
    assert found == {"status": "rolled_back", "step": 0, "facts": {}}
    problem(await working.client.post(PATH, json=working.body(document)), 409)
    await working.client.post(f"{PATH}/{posting['id']}/resume")
    await working.finish(posting["id"])
    assert (await get(working, f"{PATH}/{posting['id']}"))["status"] == "completed"


@pytest.mark.parametrize(
    ("action", "allowed"),
    [
        ("resume", {"failed", "needs_attention", "waiting", "rolled_back"}),
        ("rollback", {"pending", "failed", "needs_attention", "waiting"}),
    ],
)
async def test_a_status_allows_what_is_described_and_no_more(
    idle: Stage, action: str, allowed: set[str]
) -> None:
    """Any other status is 409 `wrong_status` with the posting's id, and nothing is recorded."""
    posting = await idle.post()
    path = f"{PATH}/{posting['id']}"
    for status in sorted(STATUSES - allowed):
        await set_status(idle, posting["id"], status)

        content = problem(await idle.client.post(f"{path}/{action}"), 409)

        assert (content["code"], content["posting_id"]) == ("wrong_status", posting["id"])
        assert f"is {status}" in content["detail"]
    assert len((await get(idle, f"{path}/audit"))["items"]) == 1
    for status in sorted(allowed):
        await set_status(idle, posting["id"], status)

        assert (await idle.client.post(f"{path}/{action}")).is_success


async def test_many_who_resume_at_once_start_one_run(idle: Stage) -> None:
    """A double click resumes once; the others are told that it is not stopped any more."""
    posting = await idle.post()
    await idle.stop_posting(posting["id"])

    answers = await asyncio.gather(
        *(idle.client.post(f"{PATH}/{posting['id']}/resume") for _ in range(8))
    )

    assert sorted(answer.status_code for answer in answers) == [202] + [409] * 7
    assert (await get(idle, f"{PATH}/{posting['id']}"))["run"] == 2


# -- who may ask ---------------------------------------------------------------------------------


async def revoked_key(stage: Stage) -> str:
    """A key that was revoked."""
    issued = await stage.runtime.keys.create("former")
    await stage.runtime.keys.revoke(issued.key.id, "tester")
    return f"Bearer {issued.secret}"


async def no_key(_: Stage) -> str | None:
    """Nothing."""
    return None


async def wrong_key(_: Stage) -> str:
    """A key that nobody made."""
    return f"Bearer {keys.PREFIX}{'x' * 43}"


async def other_scheme(stage: Stage) -> str:
    """A valid key, in another scheme."""
    return f"Basic {stage.key}"


async def bare_key(stage: Stage) -> str:
    """A valid key without its scheme."""
    return stage.key


async def half_key(stage: Stage) -> str:
    """The beginning of a valid key."""
    return f"Bearer {stage.key[:-1]}"


async def every_route(stage: Stage) -> list[tuple[str, str]]:
    """Method and path of all routes that need a key: described ones, the description, none."""
    document = await get(stage, "/openapi.json")
    described = [
        (method.upper(), re.sub(r"{\w+}", str(uuid4()), path))
        for path, methods in document["paths"].items()
        for method in methods
        if path != OPEN_PATH
    ]
    assert len(described) == sum(map(len, document["paths"].values())) - 1
    assert len(described) >= 10
    return [*described, ("GET", "/openapi.json"), ("GET", "/docs"), ("PUT", PATH), ("GET", "/")]


@pytest.mark.parametrize(
    "credentials", [no_key, wrong_key, revoked_key, other_scheme, bare_key, half_key]
)
async def test_no_route_answers_without_a_valid_key(
    idle: Stage, credentials: Callable[[Stage], Awaitable[str | None]]
) -> None:
    """401 from every route of the OpenAPI document, and from paths that are none."""
    given = await credentials(idle)
    routes = await every_route(idle)
    async with httpx.AsyncClient(
        base_url=idle.url, headers={"Authorization": given} if given else {}
    ) as stranger:
        for method, path in routes:
            response = await stranger.request(method, path, content=b"{")

            assert problem(response, 401)["code"] == "unauthenticated", path
            assert response.headers["www-authenticate"].startswith('Bearer realm="eclusa"')


async def test_every_described_route_answers_with_a_key(idle: Stage) -> None:
    """The same walk with a key meets no 401."""
    answers = {
        path: (await idle.client.request(method, path, content=b"{")).status_code
        for method, path in await every_route(idle)
    }

    assert 401 not in answers.values()


async def test_health_is_told_to_anybody(idle: Stage) -> None:
    """It is the only open route, and says no more than that the process is up."""
    async with httpx.AsyncClient(base_url=idle.url) as stranger:
        response = await stranger.get(OPEN_PATH)

    assert (response.status_code, response.json()) == (200, {"status": "ok"})


async def test_a_key_in_use_is_refused_soon_after_it_is_revoked(
    idle: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The API remembers a key for moments only."""
    monkeypatch.setattr(keys, "REMEMBERED_SECONDS", 0.2)
    issued = await idle.runtime.keys.create("leaving")
    headers = {"Authorization": f"Bearer {issued.secret}"}
    assert (await idle.client.get(PATH, headers=headers)).status_code == 200

    await idle.runtime.keys.revoke(issued.key.id, "tester")

    async with asyncio.timeout(WAIT_SECONDS):
        while (await idle.client.get(PATH, headers=headers)).status_code == 200:  # noqa: ASYNC110  polled
            await asyncio.sleep(0.02)
    problem(await idle.client.get(PATH, headers=headers), 401)


# -- readiness -----------------------------------------------------------------------------------


async def test_a_service_whose_servers_answer_is_ready(idle: Stage) -> None:
    """200, and a word for each server."""
    assert await get(idle, "/readyz") == {"ready": True, "database": "ok", "redis": "ok"}


async def test_a_service_without_redis_is_not_ready(tmp_path: Path) -> None:
    """503 names Redis; documents are accepted all the same, and it is ready again afterwards."""
    async with (
        own_servers(tmp_path) as (servers, settings),
        running(settings, with_worker=False) as stage,
    ):
        await servers.stop_redis()

        response = await stage.client.get("/readyz")
        posting = await stage.post()

        assert response.status_code == 503
        content = response.json()
        assert (content["ready"], content["database"]) == (False, "ok")
        assert content["redis"] != "ok"
        assert posting["status"] == "pending"
        await servers.start_redis()
        assert (await get(stage, "/readyz"))["ready"] is True


async def test_a_service_without_postgresql_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503 with `Retry-After` and without an inside; the process itself is healthy."""
    monkeypatch.setattr(keys, "REMEMBERED_SECONDS", 60)
    async with (
        own_servers(tmp_path) as (servers, settings),
        running(settings, with_worker=False) as stage,
    ):
        assert (await get(stage, "/readyz"))["ready"] is True
        await servers.stop_postgres()

        ready = await stage.client.get("/readyz")
        known = await stage.client.get(PATH)
        unknown = await stage.client.get(PATH, headers={"Authorization": "Bearer x"})
        healthy = await stage.client.get(OPEN_PATH)

        assert (ready.status_code, ready.json()["redis"]) == (503, "ok")
        assert ready.json()["database"] != "ok"
        for response in (known, unknown):
            problem(response, 503)
            assert response.headers["retry-after"]
        assert healthy.status_code == 200
        await servers.start_postgres()
        assert (await get(stage, PATH))["items"] == []
