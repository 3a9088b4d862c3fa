"""Batches over HTTP: each item answered by itself, one progress, one failure stops no other."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from tests.factories.running import Stage, problem

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATH = "/v1/postings/batch"
DFE = "l10n_br_ciel_it_account.dfe"
MOST = 1_000


async def send(stage: Stage, *items: Any, reference: str | None = None) -> dict[str, Any]:
    """A batch as it was accepted."""
    response = await stage.client.post(PATH, json={"reference": reference, "items": list(items)})
    assert response.status_code == 202, response.text
    return dict(response.json())


async def get(stage: Stage, path: str, **query: Any) -> dict[str, Any]:
    """What the API answers with 200."""
    response = await stage.client.get(path, params=query)
    assert response.status_code == 200, response.text
    return dict(response.json())


async def scalar(stage: Stage, query: str, **values: Any) -> Any:
    """One value of the database."""
    async with stage.runtime.database.transaction() as connection:
        return await connection.scalar(text(query), values)


def answers(batch: dict[str, Any]) -> list[str]:
    """How the items were answered, in their order."""
    return [item["answer"] for item in batch["items"]]


def live_orders(stage: Stage, key: str) -> int:
    """How many orders a document has in Odoo."""
    outcome = stage.simulator.world.outcomes()[key]
    return sum(order["state"] != "cancel" for order in outcome["orders"])


async def test_each_item_is_answered_by_itself(idle: Stage) -> None:
    """New, twice in the batch, live, wrong in a field, of no kind, for no Odoo, and no object."""
    live = idle.arrive()
    known = await idle.post(live)
    new = idle.arrive()
    postings_before = await scalar(idle, "SELECT count(*) FROM posting")

    batch = await send(
        idle,
        {**idle.body(new), "reference": "load 1"},
        idle.body(new),
        idle.body(live),
        {**idle.body(due_date="soon"), "reference": "load 4"},
        {**idle.body(), "kind": "letter"},
        {**idle.body(), "connection": "moon"},
        7,
        reference="Tuesday",
    )

    assert answers(batch) == ["accepted", "live", "live"] + ["invalid"] * 4
    assert batch["answers"] == {"accepted": 1, "live": 2, "invalid": 4}
    items = batch["items"]
    assert [item["position"] for item in items] == list(range(7))
    assert items[0]["posting_id"] == items[1]["posting_id"]
    assert items[2]["posting_id"] == known["id"]
    assert (items[0]["document_key"], items[0]["status"]) == (new.key, "pending")
    assert [item["reference"] for item in items][:4] == ["load 1", None, None, "load 4"]
    named = [{found["field"] for found in item["problems"]} for item in items[3:]]
    assert named == [{"input.due_date"}, {"kind"}, {"connection"}, {"body"}]
    assert "main" in items[5]["problems"][0]["message"]
    assert (batch["reference"], batch["status"], batch["total"], batch["over"]) == (
        "Tuesday",
        "running",
        7,
        4,
    )
    assert await scalar(idle, "SELECT count(*) FROM posting") == postings_before + 1
    first = await get(idle, f"{PATH}/{batch['id']}/items", limit=3)
    rest = await get(idle, f"{PATH}/{batch['id']}/items", after=first["next_cursor"])
    assert first["items"] + rest["items"] == items
    assert rest["next_cursor"] is None


@pytest.mark.parametrize(
    ("items", "field"),
    [
        pytest.param([], "items", id="none"),
        pytest.param([{}] * (MOST + 1), "items", id="too many"),
        pytest.param("all", "items", id="no list"),
        pytest.param([{}, {"kind": "freight_cte"}], "items.1.input", id="nothing valid"),
    ],
)
async def test_a_batch_without_anything_to_post_leaves_no_row(
    idle: Stage, items: Any, field: str
) -> None:
    """422 that names the fields."""
    before = await scalar(idle, "SELECT count(*) FROM batch")

    problem(await idle.client.post(PATH, json={"items": items}), 422, field)

    assert await scalar(idle, "SELECT count(*) FROM batch") == before


async def test_an_unknown_batch_is_not_found(idle: Stage) -> None:
    """On every route that names one."""
    for path in ("", "/items"):
        problem(await idle.client.get(f"{PATH}/{uuid4()}{path}"), 404)


async def test_a_thousand_documents_are_accepted_at_once(idle: Stage) -> None:
    """Each has its posting, its job and the beginning of its audit."""
    documents = [idle.arrive() for _ in range(MOST)]

    batch = await send(idle, *(idle.body(document) for document in documents))

    assert batch["answers"] == {"accepted": MOST}
    assert [item["document_key"] for item in batch["items"]] == [one.key for one in documents]
    records = await scalar(
        idle,
        "SELECT count(*) FROM audit_record JOIN batch_item USING (posting_id) WHERE batch_id = :id",
        id=batch["id"],
    )
    jobs = await scalar(
        idle,
        "SELECT count(*) FROM pgqueuer JOIN batch_item"
        " ON payload = convert_to(posting_id::text, 'UTF8') WHERE batch_id = :id",
        id=batch["id"],
    )
    assert (records, jobs) == (MOST, MOST)
    assert (await idle.runtime.ledger.verify(UUID(batch["items"][7]["posting_id"]))).valid


async def test_batches_that_share_documents_do_not_wait_in_a_circle(idle: Stage) -> None:
    """Sent at the same time in opposite orders: one posting for each document."""
    bodies = [idle.body() for _ in range(100)]

    batches = await asyncio.gather(
        *(send(idle, *(bodies if turn % 2 else bodies[::-1])) for turn in range(6))
    )

    counts = [batch["answers"] for batch in batches]
    assert sum(count.get("accepted", 0) for count in counts) == len(bodies)
    assert all(sum(count.values()) == len(bodies) for count in counts)
    ids = {item["posting_id"] for batch in batches for item in batch["items"]}
    assert len(ids) == len(bodies)


async def test_one_failure_stops_no_other(working: Stage) -> None:
    """The batch stops with its last item; once the failed one is mended, it is completed."""
    good = [working.arrive() for _ in range(3)]
    bad = working.arrive(status="07")

    batch = await send(working, *(working.body(document) for document in [*good, bad]))
    events = await working.all_events(batch["id"])

    assert [event["id"] for event in events] == list(range(1, len(events) + 1))
    assert (events[0]["action"], events[-1]["event"]) == ("accept", "end")
    assert [event["step"] for event in events] == [0, 1, 2, 3, 4]
    assert events[-1]["percent"] == 100
    assert sorted(event["action"] for event in events[1:]) == ["completed"] * 3 + ["failed"]
    [failed] = [event for event in events if event["action"] == "failed"]
    assert (failed["step_name"], failed["outcome"]) == (bad.key, "warning")
    assert failed["code"]
    stopped = await get(working, f"{PATH}/{batch['id']}")
    assert (stopped["status"], stopped["over"], stopped["completed"]) == ("stopped", 4, 3)
    assert [live_orders(working, document.key) for document in good] == [1, 1, 1]
    missing = await working.client.get(
        f"/v1/jobs/{batch['id']}/events", headers={"Last-Event-ID": str(events[-1]["id"])}
    )
    assert missing.status_code == 204

    working.simulator.world.execute(DFE, "write", [bad.dfe_id], {"l10n_br_status": "04"})
    resumed = await working.client.post(f"/v1/postings/{failed['posting_id']}/resume")
    assert resumed.status_code == 202
    more = await working.all_events(batch["id"], last=events[-1]["id"])

    assert [event["action"] for event in more] == ["pending", "completed"]
    assert [event["status"] for event in more] == ["running", "completed"]
    ended = await get(working, f"{PATH}/{batch['id']}")
    assert (ended["status"], ended["completed"]) == ("completed", 4)
    progress = await get(working, f"/v1/jobs/{batch['id']}/progress")
    assert (progress["status"], progress["step"], progress["total_steps"]) == ("completed", 4, 4)


async def test_a_batch_of_completed_documents_is_over_at_once(working: Stage) -> None:
    """It has one event, which is its end."""
    document = working.arrive()
    posting = await working.post(document)
    await working.finish(posting["id"])

    batch = await send(working, working.body(document))

    assert answers(batch) == ["completed"]
    assert (batch["status"], batch["completed"]) == ("completed", 1)
    [event] = await working.all_events(batch["id"])
    assert (event["event"], event["percent"]) == ("end", 100)
