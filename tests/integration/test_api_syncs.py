"""Syncs over HTTP: runs by a worker, watched live, canceled, scheduled, and what they mirrored."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from sqlalchemy import text

from service.settings import Settings
from service.simulator.app import SimulatorSettings
from service.simulator.bulk import BulkOptions
from service.simulator.changes import Change
from service.simulator.faults import Fault
from service.sync.runs import NewRun, Runs
from tests.factories.running import Stage, problem, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from service import embedded
    from tests.factories.databases import Databases

pytestmark = pytest.mark.asyncio(loop_scope="module")

LINES = 1_000
LINE = "sale.order.line"
SYNCS = """
[syncs.lines]
title = "Lines of sales orders"
model = "sale.order.line"
fields = ["order_id", "order_id.partner_id.name", "name", "product_uom_qty", "qty_saldo", "tax_id"]
follows = ["order_id.partner_id"]
page_rows = 100

[syncs.partners]
model = "res.partner"
key = "name"
fields = ["name", "x_studio_desconto_contratual"]

[syncs.slow]
model = "crm.tag"
fields = ["name"]
page_rows = 1
"""
RUNS = "/v1/syncs/lines/runs"
WAIT = 30.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(
    servers: embedded.Servers, databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stage]:
    """The API, a worker, and an Odoo with a thousand lines."""
    rows = BulkOptions(sale_lines=LINES, products=20, partners=20)
    options = SimulatorSettings(rows=rows)
    async with databases.fresh() as address:
        settings = Settings(
            database_url=address,
            redis_url=servers.redis_url,
            config=tmp_path_factory.mktemp("stage") / "eclusa.toml",
            heartbeat_seconds=1,
            lock_ttl_seconds=3,
        )
        async with running(settings, simulator=options, more=SYNCS) as made:
            yield made


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def _calm(stage: Stage) -> AsyncIterator[None]:
    """No fault outlives its test."""
    yield
    stage.simulator.world.faults.clear()


async def start(stage: Stage, name: str = "lines", **body: Any) -> dict[str, Any]:
    """A run as it was accepted."""
    response = await stage.client.post(
        f"/v1/syncs/{name}/runs", json={"connection": "main", **body}
    )
    assert response.status_code == 202, response.text
    assert response.headers["Location"] == f"/v1/syncs/{name}/runs/{response.json()['id']}"
    return dict(response.json())


async def ended(stage: Stage, run: dict[str, Any]) -> dict[str, Any]:
    """A run once its events have ended."""
    await stage.all_events(run["id"])
    return await get(stage, f"/v1/syncs/{run['name']}/runs/{run['id']}")


async def sync(stage: Stage, name: str = "lines", **body: Any) -> dict[str, Any]:
    """A run from its beginning to its end."""
    return await ended(stage, await start(stage, name, **body))


async def get(stage: Stage, path: str, **query: Any) -> dict[str, Any]:
    """What the API answers with 200."""
    response = await stage.client.get(path, params=query)
    assert response.status_code == 200, response.text
    return dict(response.json())


def truth(stage: Stage) -> dict[int, tuple[Any, ...]]:
    """What Odoo has, in the shape of a mirrored row."""
    world = stage.simulator.world
    names = {one["id"]: one["name"] for one in world.records("res.partner", [], ["id", "name"])}
    partners = {
        one["id"]: names[one["partner_id"][0]]
        for one in world.records("sale.order", [], ["id", "partner_id"])
    }
    fields = ["id", "order_id", "name", "product_uom_qty", "tax_id"]
    return {
        one["id"]: (
            *one["order_id"],
            partners[one["order_id"][0]],
            one["name"],
            one["product_uom_qty"],
            one["tax_id"],
        )
        for one in world.records(LINE, [], fields)
    }


def shown(row: dict[str, Any]) -> tuple[Any, ...]:
    """A mirrored row of the API in the same shape."""
    return (
        row["order_id"],
        row["order_id_name"],
        row["order_id__partner_id__name"],
        row["name"],
        float(row["product_uom_qty"]),
        row["tax_id"],
    )


async def everything(stage: Stage, name: str = "lines", **query: Any) -> list[dict[str, Any]]:
    """All rows of a mirror, by its pages."""
    rows: list[dict[str, Any]] = []
    cursor: int | None = 0
    while cursor is not None:
        page = await get(
            stage, f"/v1/mirror/{name}", connection="main", limit=300, cursor=cursor, **query
        )
        rows += page["items"]
        cursor = page["next_cursor"]
    return rows


async def test_a_run_is_watched_live_and_mirrors_everything(stage: Stage) -> None:
    """Its events are its pages; progress and run say the same in the end."""
    run = await start(stage, mode="full")

    events = await stage.all_events(run["id"])

    assert [event["id"] for event in events] == list(range(1, len(events) + 1))
    actions = [event["action"] for event in events]
    assert actions == ["start", "claim", "freeze", *["page"] * (LINES // 100), "end"]
    read = [event["step"] for event in events if event["action"] == "page"]
    assert read == list(range(100, LINES + 1, 100))
    assert (events[-1]["event"], events[-1]["status"], events[-1]["percent"]) == (
        "end",
        "completed",
        100,
    )
    now = await get(stage, f"{RUNS}/{run['id']}")
    assert (now["status"], now["read"], now["expected"]) == ("completed", LINES, LINES)
    progress = await get(stage, f"/v1/jobs/{run['id']}/progress")
    assert (progress["status"], progress["percent"]) == ("completed", 100)
    assert {row["id"]: shown(row) for row in await everything(stage)} == truth(stage)
    kept = await get(stage, f"{RUNS}/{run['id']}/events")
    assert [event["action"] for event in kept["items"]] == actions
    assert kept["items"][0]["actor"] == "tester"
    assert kept["items"][-1]["calls"] == now["calls"] > 0


async def test_events_are_replayed_from_any_id_when_redis_has_lost_them(stage: Stage) -> None:
    """They are in PostgreSQL."""
    run = await sync(stage, mode="full")
    await stage.runtime.redis.flushall()

    events = await stage.all_events(run["id"], last=4)

    assert [event["id"] for event in events][:2] == [5, 6]
    assert events[-1]["status"] == "completed"


async def test_what_changed_is_there_after_the_next_run(stage: Stage) -> None:
    """Written, made and deleted lines, and a customer's name, which writes no line."""
    await sync(stage)
    world = stage.simulator.world
    for action, count in (("write", 30), ("copy", 10), ("delete", 20)):
        world.change(Change(action=action, model=LINE, count=count))  # type: ignore[arg-type]
    [order] = world.records("sale.order", [], ["partner_id"])[:1]
    world.execute("res.partner", "write", [order["partner_id"][0]], {"name": "Another Name"})

    run = await sync(stage)

    assert run["status"] == "completed"
    assert run["removed"] > 0
    rows = {row["id"]: shown(row) for row in await everything(stage)}
    assert rows == truth(stage)
    assert "Another Name" in {row[2] for row in rows.values()}


async def test_a_second_run_is_refused_with_the_id_of_the_first(stage: Stage) -> None:
    """One run of a sync at a time on a connection."""
    stage.simulator.add_fault(Fault(kind="slow", model=LINE, method="search_read", seconds=1))
    run = await start(stage)

    response = await stage.client.post(RUNS, json={"connection": "main"})

    refused = problem(response, 409)
    assert (refused["code"], refused["run_id"]) == ("sync_running", run["id"])
    assert (await ended(stage, run))["status"] == "completed"


async def test_a_running_run_is_canceled_after_its_page(stage: Stage) -> None:
    """What it wrote stays, the cursor does not move; a run that is over cannot be canceled."""
    await sync(stage)
    state = (await get(stage, "/v1/syncs/lines"))["mirrors"]
    stage.simulator.add_fault(
        Fault(kind="slow", model=LINE, method="search_read", call=4, seconds=1.5)
    )
    run = await start(stage, mode="full")
    async with asyncio.timeout(WAIT):
        async for event in stage.events(run["id"]):
            if event["action"] == "page":
                break

    canceled = await stage.client.post(f"{RUNS}/{run['id']}/cancel")

    assert canceled.status_code == 202
    now = await ended(stage, run)
    assert (now["status"], now["message"]) == ("canceled", "canceled by tester")
    assert 0 < now["read"] < LINES
    assert [one["cursor"] for one in (await get(stage, "/v1/syncs/lines"))["mirrors"]] == [
        one["cursor"] for one in state
    ]
    again = problem(await stage.client.post(f"{RUNS}/{run['id']}/cancel"), 409)
    assert again["code"] == "run_over"
    assert (await sync(stage))["status"] == "completed"


async def test_a_failed_run_says_why(stage: Stage) -> None:
    """A page that fails deletes nothing, and nobody is told of a success."""
    await sync(stage)
    stage.simulator.world.change(Change(action="delete", model=LINE, count=5))
    before = await everything(stage)
    stage.simulator.add_fault(Fault(kind="access_error", model=LINE, method="search_read", call=2))

    run = await start(stage, mode="full")
    events = await stage.all_events(run["id"])

    assert (events[-1]["status"], events[-1]["outcome"]) == ("failed", "error")
    now = await get(stage, f"{RUNS}/{run['id']}")
    assert (now["status"], now["code"], now["removed"]) == ("failed", "odoo_access_denied", 0)
    assert now["message"]
    assert await everything(stage) == before
    stage.simulator.world.faults.clear()
    assert (await sync(stage))["removed"] == 5


async def test_single_rows_are_read_by_their_key(stage: Stage) -> None:
    """The key is the sync's own; it goes with the mode."""
    await sync(stage, "partners")
    [partner, other] = (await everything(stage, "partners"))[:2]
    world = stage.simulator.world
    for one in (partner, other):
        world.execute("res.partner", "write", [one["id"]], {"x_studio_desconto_contratual": True})

    run = await sync(stage, "partners", mode="keys", keys=[partner["name"]])

    assert run["read"] >= 1
    rows = {
        row["id"]: row["x_studio_desconto_contratual"]
        for row in await everything(stage, "partners")
    }
    assert (rows[partner["id"]], rows[other["id"]]) == (True, False)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"mode": "keys"}, "keys"),
        ({"keys": ["1"]}, "keys"),
        ({"mode": "keys", "keys": []}, "keys"),
        ({"mode": "all"}, "mode"),
        ({"connection": 7}, "connection"),
        ({"accept_removals": "perhaps"}, "accept_removals"),
        ({"page": 3}, "page"),
    ],
)
async def test_a_wrong_request_is_told_by_field(
    stage: Stage, body: dict[str, Any], field: str
) -> None:
    """Nothing is started."""
    response = await stage.client.post(RUNS, json={"connection": "main", **body})
    problem(response, 422, field)


async def test_unknown_names_are_told_with_the_known_ones(stage: Stage) -> None:
    """Sync, connection, mirror, and a run of another sync."""
    unknown = await stage.client.post("/v1/syncs/orders/runs", json={"connection": "main"})
    assert "cte, lines, partners" in problem(unknown, 404)["detail"]
    nowhere = await stage.client.post(RUNS, json={"connection": "test"})
    assert "known: main" in problem(nowhere, 404)["detail"]
    run = await sync(stage)
    problem(await stage.client.get(f"/v1/syncs/partners/runs/{run['id']}"), 404)
    mirror = await stage.client.get("/v1/mirror/orders", params={"connection": "main"})
    assert "lines" in problem(mirror, 404)["detail"]


async def test_syncs_tell_how_far_their_mirrors_are(stage: Stage) -> None:
    """Those of the file and those that are ready, with model and lag."""
    await sync(stage)

    found = {one["name"]: one for one in (await get(stage, "/v1/syncs"))["items"]}

    assert {"cte", "lines", "partners", "purchase_orders", "sales_backlog"} <= found.keys()
    assert found["lines"]["model"] == LINE
    [mirror] = found["lines"]["mirrors"]
    assert mirror["connection"] == "main"
    assert mirror["lag_seconds"] >= 0
    assert found["sales_backlog"]["mirrors"] == []


async def test_runs_are_listed_newest_first_in_pages(stage: Stage) -> None:
    """By sync, and by status."""
    made = [(await sync(stage))["id"] for _ in range(3)]

    first = await get(stage, RUNS, limit=2)
    second = await get(stage, RUNS, limit=2, cursor=first["next_cursor"])

    listed = [run["id"] for run in first["items"] + second["items"]]
    assert listed[:3] == made[::-1]
    completed = await get(stage, RUNS, status="completed", connection="main")
    assert {run["status"] for run in completed["items"]} == {"completed"}
    problem(await stage.client.get(RUNS, params={"cursor": "x"}), 422, "cursor")


# -- mirrors -------------------------------------------------------------------------------------


async def test_a_mirror_is_streamed_as_lines(stage: Stage) -> None:
    """Everything, one row a line, by id, whatever the page."""
    await sync(stage)
    lines: list[dict[str, Any]] = []
    headers = {"Accept": "application/x-ndjson"}
    async with stage.client.stream(
        "GET", "/v1/mirror/lines", params={"connection": "main"}, headers=headers
    ) as response:
        assert response.headers["content-type"] == "application/x-ndjson"
        lines = [json.loads(line) async for line in response.aiter_lines()]

    assert lines == await everything(stage)
    assert [row["id"] for row in lines] == sorted(truth(stage))


@pytest.mark.parametrize(
    ("where", "holds"),
    [
        (["id:le:10"], lambda row: row["id"] <= 10),
        (["product_uom_qty:ge:100"], lambda row: float(row["product_uom_qty"]) >= 100),
        (["name:like:%Product 3"], lambda row: row["name"].endswith("Product 3")),
        (["order_id:in:1,2"], lambda row: row["order_id"] in {1, 2}),
        (["tax_id:has:1"], lambda row: 1 in row["tax_id"]),
        (["order_id:ne:1", "id:lt:8"], lambda row: row["order_id"] != 1 and row["id"] < 8),
        (["name:null:true"], lambda row: row["name"] is None),
        (["write_date:gt:2000-01-01T00:00:00Z", "id:eq:3"], lambda row: row["id"] == 3),
    ],
)
async def test_rows_are_found_by_conditions(stage: Stage, where: list[str], holds: Any) -> None:
    """All of them must hold."""
    await sync(stage)

    found = await everything(stage, where=where)

    assert found == [row for row in await everything(stage) if holds(row)]


@pytest.mark.parametrize(
    "condition",
    [
        "nothing",
        "id",
        "id:about:3",
        "colour:eq:red",
        "id:eq:three",
        "id:eq:9223372036854775808",
        "product_uom_qty:gt:much",
        "write_date:ge:yesterday",
        "tax_id:eq:1",
        "name:has:x",
        "id:like:3",
        "name:null:maybe",
        "id:in:1,x",
    ],
)
async def test_a_condition_that_makes_no_sense_is_told(stage: Stage, condition: str) -> None:
    """By its place among the conditions."""
    await sync(stage)
    response = await stage.client.get(
        "/v1/mirror/lines", params={"connection": "main", "where": ["id:ge:1", condition]}
    )
    problem(response, 422, "where.1")


# -- schedules -----------------------------------------------------------------------------------

SCHEDULE = "/v1/syncs/slow/schedule"
MAIN = {"connection": "main"}


async def put(stage: Stage, headers: dict[str, str] | None = None, **body: Any) -> Any:
    """A schedule, put."""
    return await stage.client.put(SCHEDULE, params=MAIN, json=body, headers=headers)


async def test_a_schedule_is_made_changed_and_removed(stage: Stage) -> None:
    """With a version, so that two people do not undo each other's change."""
    problem(await stage.client.get(SCHEDULE, params=MAIN), 404)

    made = await put(stage, {"If-Match": '"0"'}, cron="*/30 * * * *")
    assert (made.status_code, made.headers["etag"]) == (200, '"1"')
    due = dt.datetime.fromisoformat(made.json()["next_at"])
    assert due.minute in {0, 30}
    assert due > dt.datetime.now(dt.UTC)

    changed = await put(stage, {"If-Match": '"1"'}, cron="0 3 * * *", mode="full", paused=True)
    assert (changed.json()["mode"], changed.json()["paused"]) == ("full", True)
    stale = problem(await put(stage, {"If-Match": '"1"'}, cron="0 4 * * *"), 412)
    assert stale["code"] == "stale_version"
    seen = await stage.client.get(SCHEDULE, params=MAIN)
    assert (seen.json()["cron"], seen.headers["etag"]) == ("0 3 * * *", '"2"')
    listed = {one["name"]: one for one in (await get(stage, "/v1/syncs"))["items"]}
    assert [one["cron"] for one in listed["slow"]["schedules"]] == ["0 3 * * *"]

    assert (await stage.client.delete(SCHEDULE, params=MAIN)).status_code == 204
    problem(await stage.client.delete(SCHEDULE, params=MAIN), 404)


@pytest.mark.parametrize("cron", ["", "hourly", "* * * *", "61 * * * *", "* * * * * *", "@daily"])
async def test_a_cron_that_is_none_is_refused(stage: Stage, cron: str) -> None:
    """With what it should look like."""
    problem(await put(stage, cron=cron), 422, "cron")


async def make_due(stage: Stage, ago: dt.timedelta) -> None:
    """Let a schedule have been due some time ago."""
    async with stage.runtime.database.transaction() as connection:
        await connection.execute(
            text("UPDATE sync_schedule SET next_at = clock_timestamp() - CAST(:ago AS interval)"),
            {"ago": ago},
        )


async def slow_runs(stage: Stage) -> list[dict[str, Any]]:
    """The runs of the scheduled sync, newest first."""
    return list((await get(stage, "/v1/syncs/slow/runs"))["items"])


async def test_what_is_due_is_started_once(stage: Stage) -> None:
    """Hours that passed unheard make one run; one that is paused makes none."""
    await put(stage, cron="* * * * *")
    await make_due(stage, dt.timedelta(hours=5))

    started = await asyncio.gather(*(stage.runtime.schedules.start_due() for _ in range(5)))

    assert sum(started) == 1
    [run, *_] = await slow_runs(stage)
    assert (run["actor"], run["mode"]) == ("schedule", "incremental")
    assert (await ended(stage, run))["status"] == "completed"
    await put(stage, cron="* * * * *", paused=True)
    await make_due(stage, dt.timedelta(hours=5))
    assert await stage.runtime.schedules.start_due() == 0
    await stage.client.delete(SCHEDULE, params=MAIN)


async def test_a_sync_that_still_runs_is_not_started_twice(stage: Stage) -> None:
    """It is due again at the next time of its cron."""
    stage.simulator.add_fault(
        Fault(kind="slow", model="crm.tag", method="search_read", seconds=1.5)
    )
    run = await start(stage, "slow")
    await put(stage, cron="* * * * *")
    await make_due(stage, dt.timedelta(seconds=1))

    assert await stage.runtime.schedules.start_due() == 0

    assert (await slow_runs(stage))[0]["id"] == run["id"]
    schedule = await stage.client.get(SCHEDULE, params=MAIN)
    assert dt.datetime.fromisoformat(schedule.json()["next_at"]) > dt.datetime.now(dt.UTC)
    assert (await ended(stage, run))["status"] == "completed"
    await stage.client.delete(SCHEDULE, params=MAIN)


async def test_the_queue_asks_for_what_is_due_every_minute(stage: Stage) -> None:
    """The worker has registered it with PgQueuer, once for all workers."""
    async with stage.runtime.database.transaction() as connection:
        found = await connection.execute(
            text("SELECT expression, entrypoint FROM pgqueuer_schedules")
        )
        assert [tuple(row) for row in found] == [("* * * * *", "syncs_due")]


async def test_a_run_without_a_job_is_found_again(stage: Stage) -> None:
    """As when PostgreSQL went away while the queue wrote the end of a job."""

    async def nothing(*_: Any, **__: Any) -> None:
        """No job, and nobody is told."""

    runs = Runs(stage.runtime.database, nothing, nothing)
    run = await runs.start(NewRun(connection="main", name="slow", mode="full", actor="tester"))

    events = await stage.all_events(str(run.id))

    assert events[-1]["status"] == "completed"
