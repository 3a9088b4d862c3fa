"""A source that changes while it is read: many changes, late commits, and pages that fail."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from service.simulator import errors
from service.simulator.bulk import BulkOptions
from service.simulator.changes import Change, Scheduled, scheduled_from_json
from service.simulator.faults import Fault
from service.simulator.world import Call, World
from tests.unit.simulator.helpers import OdooFault, until

if TYPE_CHECKING:
    from service.simulator.app import Simulator
    from tests.unit.simulator.helpers import Client

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
BEFORE, LATER = NOW - timedelta(days=1), NOW + timedelta(hours=1)
LINE = "sale.order.line"
PARTNER = "res.partner"
LINES = 100
ROWS = BulkOptions(sale_lines=LINES, partners=20, products=20)


@pytest.fixture
def source() -> World:
    """Return a world of 100 lines, made before; its clock stands still."""
    world = World(clock=lambda: BEFORE)
    world.add_rows(ROWS)
    world.clock = lambda: NOW
    return world


def stamped(world: World, model: str) -> set[int]:
    """Return the ids of the rows that were written now or later."""
    return set(world.execute(model, "search", [["write_date", ">=", "2026-11-24 12:00:00"]]))


# Changes.


def test_some_rows_change(source: World) -> None:
    """As many as asked for get another value and the present stamp; their orders are stamped."""
    before = {row["id"]: row["qty_saldo"] for row in source.records(LINE)}

    ids = source.change(Change(action="write", model=LINE, count=10))

    after = {row["id"]: row["qty_saldo"] for row in source.records(LINE)}
    assert len(set(ids)) == 10
    assert {one for one in after if after[one] != before[one]} == set(ids) == stamped(source, LINE)
    orders = {row["order_id"][0] for row in source.records(LINE, [["id", "in", ids]])}
    assert stamped(source, "sale.order") == orders


def test_drawing_goes_on_with_the_seed() -> None:
    """The same changes draw the same rows in the same order, each change others."""
    drawn = []
    for _ in range(2):
        world = World(clock=lambda: NOW)
        world.add_rows(ROWS)
        change = Change(action="write", model=LINE, count=5)
        drawn.append([world.change(change), world.change(change)])

    assert drawn[0] == drawn[1]
    assert drawn[0][0] != drawn[0][1]


def test_values_are_written_to_what_matches(source: World) -> None:
    """A domain chooses, values are written; a text that varies changes without values."""
    cancelled = Change(
        action="write", model="sale.order", domain=[["id", "<=", 3]], values={"state": "cancel"}
    )

    assert source.change(cancelled) == [1, 2, 3]
    source.change(Change(action="write", model=PARTNER, ids=(101,)))

    assert {row["state"] for row in source.records("sale.order", [["id", "<=", 3]])} == {"cancel"}
    name = source.records(PARTNER, [["id", "=", 101]])[0]["name"]
    assert name.startswith("Transportes Corredeira Ltda #")


def test_archived_rows_are_hidden(source: World) -> None:
    """Archived rows vanish from a search, unless it asks for them or for all."""
    domain = [["id", ">", 106]]
    ids = source.change(Change(action="archive", model=PARTNER, count=4, domain=domain))

    def found(*conditions: list[Any], **context: Any) -> int:
        searched = [*domain, *conditions]
        return len(source.execute(PARTNER, "search", searched, context=context))

    assert (len(ids), found(), found(active_test=False)) == (4, 16, 20)
    assert (found(["active", "=", False]), found(["active", "in", [True, False]])) == (4, 20)
    assert found(["write_date", ">=", "2026-11-24 12:00:00"], active_test=False) == 4
    source.change(Change(action="unarchive", model=PARTNER, ids=tuple(ids)))
    assert found() == 20


def test_deletion_asks_no_rule(source: World) -> None:
    """Confirmed orders go with their lines; what others hold stays."""
    source.change(Change(action="delete", model="sale.order", ids=(1, 2)))

    assert len(source.records(LINE)) == LINES - 10
    product = source.records(LINE)[0]["product_id"][0]
    with pytest.raises(errors.ValidationError):
        source.change(Change(action="delete", model="product.product", ids=(product,)))
    assert source.records("product.product", [["id", "=", product]])


def test_rows_are_made(source: World) -> None:
    """New rows hold the values given; copies hold what their originals held."""
    made = source.change(Change(action="create", model="crm.tag", count=3, values={"name": "New"}))
    copies = source.change(Change(action="copy", model=LINE, count=4, values={"qty_saldo": 7}))

    assert [row["name"] for row in source.records("crm.tag", [["id", "in", made]])] == ["New"] * 3
    rows = source.records(LINE, [["id", "in", copies]])
    assert [row["qty_saldo"] for row in rows] == [7.0] * 4
    assert min(copies) > LINES


def test_change_that_fails_changes_nothing(source: World) -> None:
    """A change is one transaction."""
    with pytest.raises(errors.MissingError):
        source.change(Change(action="write", model=LINE, ids=(1, 7777)))

    assert stamped(source, LINE) == set()


async def test_changes_by_route(client: Client) -> None:
    """A list of changes is carried out in order; a wrong one says what is wrong."""
    changes = [
        {"action": "write", "model": PARTNER, "ids": [101], "values": {"name": "x"}},
        {"action": "delete", "model": "crm.tag", "count": 2},
    ]

    answer = (await client.http.post("/simulator/changes", json=changes)).json()
    wrong = [
        (await client.http.post("/simulator/changes", json=body)).json()["error"]["message"]
        for body in ({"action": "boom", "model": PARTNER}, {"model": PARTNER}, {"colour": 1})
    ]

    assert (answer["ids"][0], len(answer["ids"][1])) == ([101], 2)
    assert "archive" in wrong[0]
    assert (wrong[1], wrong[2][:14]) == ("action is missing", "unknown colour")


# Late commits.


def test_late_commit_has_the_stamp_of_its_start(source: World) -> None:
    """Nothing is seen before the commit; then there are an older stamp and a lower id."""
    write = Call(model=PARTNER, method="write", args=[[101], {"name": "Late"}], user_id=1)
    create = Call(model=PARTNER, method="create", args=[{"name": "Late, too"}], user_id=1)
    begun = source.begin(calls=[write, create])
    hidden = source.records(PARTNER, [["name", "like", "Late"]])
    source.clock = lambda: LATER
    early: int = source.execute(PARTNER, "create", {"name": "Early"})

    source.transactions.commit(begun.id)

    rows = source.records(PARTNER, [["name", "like", "Late"]], ["write_date"])
    late = begun.results[1]
    assert hidden == []
    assert [row["id"] for row in rows] == [101, late]
    assert {row["write_date"] for row in rows} == {"2026-11-24 12:00:00"}
    assert late < early


def test_transaction_may_have_begun_long_ago(source: World) -> None:
    """A transaction of many changed rows is as old as asked."""
    change = Change(action="write", model=LINE, count=3)
    begun = source.begin(changes=[change], age=600)

    source.transactions.commit(begun.id)

    changed = source.records(LINE, [["id", "in", begun.results[0]]])
    assert {row["write_date"] for row in changed} == {"2026-11-24 11:50:00"}


def test_rolled_back_transaction_leaves_a_gap(source: World) -> None:
    """What is rolled back was never there, and its ids are not given again."""
    create = Call(model=PARTNER, method="create", args=[{"name": "Never"}], user_id=1)
    begun = source.begin(calls=[create])

    source.transactions.roll_back(begun.id)

    assert source.records(PARTNER, [["name", "=", "Never"]]) == []
    assert source.execute(PARTNER, "create", {"name": "x"}) == begun.results[0] + 1
    with pytest.raises(ValueError, match="not open"):
        source.transactions.commit(begun.id)


def test_failed_call_opens_no_transaction(source: World) -> None:
    """A transaction whose call fails is not there."""
    wrong = Call(model=PARTNER, method="write", args=[[7777], {"name": "x"}], user_id=1)
    good = Call(model=PARTNER, method="write", args=[[101], {"name": "x"}], user_id=1)

    with pytest.raises(errors.MissingError):
        source.begin(calls=[good, wrong])

    assert source.transactions.open == {}
    assert stamped(source, PARTNER) == set()


def test_second_of_two_writers_is_refused(source: World) -> None:
    """A commit over a row that has changed since is a serialization failure, as a whole."""
    change = Change(action="write", model=PARTNER, ids=(101, 102))
    begun = source.begin(changes=[change])
    source.execute(PARTNER, "unlink", [102])

    with pytest.raises(errors.DatabaseError):
        source.transactions.commit(begun.id)

    assert stamped(source, PARTNER) == set()


async def test_transaction_by_route(simulator: Simulator, client: Client) -> None:
    """Begin, look, commit; or begin and roll back."""
    body = {
        "calls": [{"model": PARTNER, "method": "write", "args": [[101], {"name": "Late"}]}],
        "changes": [{"action": "archive", "model": PARTNER, "ids": [102]}],
        "age": 60,
    }
    url = "/simulator/transactions"

    begun = (await client.http.post(url, json=body)).json()
    other = (await client.http.post(url, json={"changes": body["changes"]})).json()
    await client.http.delete(f"{url}/{other['id']}")
    listed = (await client.http.get("/simulator/state")).json()["transactions"]
    before = await client(PARTNER, "search_count", [["name", "=", "Late"]])
    committed = await client.http.post(f"{url}/{begun['id']}/commit")
    again = await client.http.post(f"{url}/{begun['id']}/commit")

    assert (begun["results"], listed) == ([True, [102]], [begun])
    assert (before, committed.status_code, again.status_code) == (0, 200, 400)
    assert await client(PARTNER, "search_count", [["name", "=", "Late"]]) == 1
    assert len(simulator.world.transactions.open) == 0


async def test_commit_by_itself(simulator: Simulator, client: Client) -> None:
    """A transaction with a length commits when it is over."""
    body = {"changes": [{"action": "archive", "model": PARTNER, "ids": [102]}], "seconds": 0.05}
    await client.http.post("/simulator/transactions", json=body)
    before = await client(PARTNER, "search_count", [["id", "=", 102]])

    await simulator.world.settled()

    assert before == 1
    assert await client(PARTNER, "search_count", [["id", "=", 102]]) == 0


async def test_restart_rolls_open_transactions_back(simulator: Simulator, client: Client) -> None:
    """A restart ends what is open, and nothing of it is applied."""
    body = {"changes": [{"action": "archive", "model": PARTNER, "ids": [102]}], "seconds": 30}
    await client.http.post("/simulator/transactions", json=body)

    await client.http.post("/simulator/restart")

    await until(lambda: simulator.world.in_flight == 0)
    assert simulator.world.transactions.open == {}
    assert await client(PARTNER, "search_count", [["id", "=", 102]]) == 1


# While pages are read.


async def page(client: Client, after: int, limit: int = 2) -> list[int]:
    """Read a page by its key; return the ids."""
    domain = [["id", ">", after], ["id", ">=", 101], ["id", "<=", 106]]
    rows = await client(PARTNER, "search_read", domain, ["name"], limit=limit, order="id")
    return [row["id"] for row in rows]


async def test_rows_go_between_two_pages(simulator: Simulator, client: Client) -> None:
    """What is scheduled happens after the named page was made, and before the next."""
    deletion = Change(action="delete", model=PARTNER, ids=(104,))
    simulator.world.schedule.waiting.append(Scheduled(model=PARTNER, call=2, change=deletion))
    simulator.world.execute("delivery.carrier", "unlink", [4])

    pages = [await page(client, after, limit=1) for after in (101, 102, 103)]

    assert pages == [[102], [103], [105]]
    assert simulator.world.schedule.waiting == []


async def test_late_commit_between_two_pages(simulator: Simulator, client: Client) -> None:
    """A transaction can commit after a page that should have held its row."""
    archive = Change(action="archive", model=PARTNER, ids=(101,))
    begun = simulator.world.begin(changes=[archive])
    scheduled = {"model": PARTNER, "commit": begun.id}
    answer = await client.http.post("/simulator/schedule", json=[scheduled])

    pages = [await page(client, 100), await page(client, 100)]

    assert answer.json() == {"waiting": 1}
    assert pages == [[101, 102], [102, 103]]


async def test_schedule_counts_the_calls_it_names(simulator: Simulator, client: Client) -> None:
    """Other methods and models are not counted, nor are calls that a fault kept away."""
    change = Change(action="write", model="crm.tag", ids=(1,), values={"name": "Done"})
    simulator.world.schedule.waiting.append(Scheduled(model=PARTNER, call=2, change=change))
    simulator.add_fault(Fault(kind="user_error", model=PARTNER))

    def done() -> bool:
        return bool(simulator.world.records("crm.tag", [["name", "=", "Done"]]))

    with pytest.raises(OdooFault):
        await page(client, 100)
    await page(client, 100)
    await client(PARTNER, "search_count", [])
    await client("crm.tag", "search_read", [])
    assert not done()

    await page(client, 102)
    assert done()


async def test_scheduled_failure_is_told_by_the_state(client: Client) -> None:
    """What fails between two pages disturbs no page."""
    change = {"action": "delete", "model": PARTNER, "ids": [7777]}
    body = {"model": PARTNER, "method": "*", "change": change}
    await client.http.post("/simulator/schedule", json=body)

    assert await page(client, 100) == [101, 102]
    state = (await client.http.get("/simulator/state")).json()
    assert (state["scheduled"], len(state["failed"])) == ([], 1)


async def test_schedule_is_cleared(simulator: Simulator, client: Client) -> None:
    """What is scheduled can be forgotten."""
    change = {"action": "delete", "model": "crm.tag", "ids": [1]}
    await client.http.post("/simulator/schedule", json={"model": PARTNER, "change": change})

    await client.http.delete("/simulator/schedule")

    assert simulator.world.schedule.waiting == []


@pytest.mark.parametrize(
    "values",
    [{"model": PARTNER}, {"model": PARTNER, "call": 0, "commit": 1}, {"commit": 1}, {"colour": 1}],
)
def test_wrong_schedule_is_refused(values: dict[str, Any]) -> None:
    """What would never happen, or is not known, is refused."""
    with pytest.raises(ValueError, match=r"\w"):
        scheduled_from_json(values)


async def test_third_page_fails(simulator: Simulator, client: Client) -> None:
    """A fault can wait for the k-th call; faults for other calls count along."""
    simulator.add_fault(Fault(kind="user_error", model=PARTNER, method="search_read", call=3))
    simulator.add_fault(Fault(kind="access_error", model=PARTNER, call=4, times=2))
    outcomes: list[str] = []
    for _ in range(6):
        try:
            outcomes.append(str(len(await page(client, 100))))
        except OdooFault as fault:
            outcomes.append(fault.name.rpartition(".")[2])

    assert outcomes == ["2", "2", "UserError", "AccessError", "AccessError", "2"]


@pytest.mark.parametrize(("rows", "left"), [(None, 3), (1, 1), (0, 0), (99, 6)])
async def test_truncated_answer(
    simulator: Simulator, client: Client, rows: int | None, left: int
) -> None:
    """Rows are missing at the end, and nothing tells of it; the next answer is whole."""
    simulator.add_fault(Fault(kind="truncated", model=PARTNER, rows=rows))

    cut, whole = await page(client, 100, limit=6), await page(client, 100, limit=6)

    assert cut == whole[:left]
    assert len(whole) == 6
