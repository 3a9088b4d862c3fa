"""The syncs that are ready: their tables, what reaches their rows, files and history."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

import pytest
from sqlalchemy import inspect, text

from service import syncs
from service.simulator.arrivals import DocumentOptions
from service.simulator.bulk import BulkOptions
from service.sync.mirror import SCHEMA, Mirror
from service.syncs import cte, purchase_orders, sales_backlog
from service.syncs.rules import root_of
from tests.factories.syncing import Syncing, syncing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy import Connection

    from service.database import Database

ROWS = BulkOptions(sale_lines=300, purchase_lines=300, documents=40, products=30, partners=30)
SHORT = timedelta(seconds=1)
ATTACHMENT = "ir.attachment"


@pytest.fixture(params=[17, 19])
async def version(request: pytest.FixtureRequest) -> Literal[17, 19]:
    """Both versions of Odoo."""
    found: Literal[17, 19] = request.param
    return found


@pytest.fixture
async def source(database: Database, version: Literal[17, 19]) -> AsyncIterator[Syncing]:
    """Orders, lines and freight bills, and nothing mirrored of them."""
    async with syncing(database, rows=ROWS, version=version) as made:
        yield made


def of(source: Syncing, name: str, version: int, **options: Any) -> Syncing:
    """One of the ready syncs on a source."""
    ready = syncs.catalog()[name]
    definition = ready.define(ready.options(**options), version)
    return replace(source, definition=replace(definition, lookback=SHORT, page=100))


async def rows(stage: Syncing, query: str, **values: Any) -> list[dict[str, Any]]:
    """What a query of the mirror answers."""
    async with stage.database.transaction() as connection:
        return [dict(row) for row in (await connection.execute(text(query), values)).mappings()]


async def completed(stage: Syncing, mode: Any = "incremental", **more: Any) -> Any:
    """A run that must complete, after which mirror and source are equal."""
    run = await stage.sync(mode, **more)
    assert run.status == "completed", run.message
    assert await stage.equal()
    return run


@pytest.mark.parametrize("name", sorted(syncs.catalog()))
async def test_the_migrations_made_what_is_mirrored(database: Database, name: str) -> None:
    """Nothing is left to be added, whatever the version: tables, columns and types."""
    ready = syncs.catalog()[name]

    def columns(connection: Connection) -> dict[str, Any]:
        found = inspect(connection)
        return {
            table: {
                one["name"]: one["type"].compile(connection.dialect)
                for one in found.get_columns(table, schema=SCHEMA)
            }
            for table in found.get_table_names(schema=SCHEMA)
        }

    async with database.transaction() as connection:
        before = await connection.run_sync(columns)
        for major in (17, 19):
            mirror = Mirror(ready.define(ready.options(), major))
            await mirror.prepare(connection)
            wanted = {
                table.name: {
                    one.name: one.type.compile(connection.dialect) for one in table.columns
                }
                for table in mirror.tables
            }
            assert wanted.items() <= before.items()
        assert await connection.run_sync(columns) == before


@pytest.mark.parametrize("name", sorted(syncs.catalog()))
async def test_a_first_run_mirrors_everything(
    source: Syncing, name: str, version: Literal[17, 19]
) -> None:
    """Every row with what it leads to; the next run finds nothing to write."""
    stage = of(source, name, version)

    first = await completed(stage)
    second = await completed(stage)

    assert first.read == first.written > 10
    assert (second.written, second.removed) == (0, 0)


# -- purchase orders -----------------------------------------------------------------------------


async def a_purchase(stage: Syncing) -> dict[str, Any]:
    """One mirrored line of a purchase order that is confirmed."""
    query = "SELECT * FROM mirror.purchase_orders WHERE state = 'purchase' ORDER BY id LIMIT 1"
    return (await rows(stage, query))[0]


async def test_what_a_purchase_line_shows_reaches_it(
    source: Syncing, version: Literal[17, 19]
) -> None:
    """A new name of the vendor, a new code of the product: no line was written in Odoo."""
    stage = of(source, purchase_orders.NAME, version)
    await completed(stage)
    line = await a_purchase(stage)
    world = stage.simulator.world
    world.execute("res.partner", "write", [line["vendor_id"]], {"name": "New Name"})
    world.execute("product.product", "write", [line["product_id"]], {"default_code": "NEW"})

    run = await completed(stage)

    assert run.written < ROWS.purchase_lines
    [now] = await rows(stage, "SELECT * FROM mirror.purchase_orders WHERE id = :id", id=line["id"])
    assert (now["vendor_name"], now["product_code"]) == ("New Name", "NEW")


async def test_a_canceled_purchase_is_so_on_evidence(
    source: Syncing, version: Literal[17, 19]
) -> None:
    """The order says so; what is open of it is nothing. The history has before and after."""
    stage = of(source, purchase_orders.NAME, version)
    first = await completed(stage)
    line = await a_purchase(stage)
    stage.simulator.world.execute("purchase.order", "button_cancel", [line["order_id"]])

    run = await completed(stage)

    changes = await rows(
        stage,
        "SELECT operation, run_id, before->>'state' AS before, after->>'state' AS after,"
        " after->>'open_quantity' AS open"
        " FROM mirror.purchase_orders_change WHERE id = :id ORDER BY seq",
        id=line["id"],
    )
    told = [(one["operation"], one["run_id"], one["before"], one["after"]) for one in changes]
    assert told == [
        ("created", first.id, None, "purchase"),
        ("changed", run.id, "purchase", "cancel"),
    ]
    assert changes[-1]["open"] == "0"


async def test_two_lines_of_the_same_product_are_two_rows(
    source: Syncing, version: Literal[17, 19]
) -> None:
    """A line is known by its id."""
    stage = of(source, purchase_orders.NAME, version)
    await completed(stage)
    line = await a_purchase(stage)
    made = stage.simulator.world.execute("purchase.order.line", "copy", [line["id"]])
    copied = made[0] if isinstance(made, list) else made

    await completed(stage)

    same = await rows(
        stage,
        "SELECT id FROM mirror.purchase_orders WHERE order_id = :order AND product_id = :product",
        order=line["order_id"],
        product=line["product_id"],
    )
    assert {line["id"], copied} <= {row["id"] for row in same}


async def test_vendors_of_ones_own_group_are_left_out(
    source: Syncing, version: Literal[17, 19]
) -> None:
    """By the root of their CNPJ, however it is written."""
    everything = of(source, purchase_orders.NAME, version)
    await completed(everything)
    line = await a_purchase(everything)
    root = root_of(line["vendor_cnpj"])
    less = of(source, purchase_orders.NAME, version, own_cnpj_roots=(root,))

    run = await completed(less, "full", accept_removals=True)

    assert run.removed > 0
    left = await rows(less, "SELECT DISTINCT vendor_cnpj FROM mirror.purchase_orders")
    assert line["vendor_cnpj"] not in {row["vendor_cnpj"] for row in left}
    removed = await rows(
        less, "SELECT * FROM mirror.purchase_orders_change WHERE operation = 'removed'"
    )
    assert len(removed) == run.removed
    assert all(row["before"] and row["after"] is None for row in removed)


# -- sales backlog -------------------------------------------------------------------------------


async def a_sale(stage: Syncing) -> dict[str, Any]:
    """One mirrored line of a sales order with something to be delivered."""
    query = (
        "SELECT * FROM mirror.sales_backlog WHERE state = 'sale' AND balance > 1"
        " ORDER BY id LIMIT 1"
    )
    return (await rows(stage, query))[0]


async def test_what_a_sales_line_shows_reaches_it(
    source: Syncing, version: Literal[17, 19]
) -> None:
    """Order, customer, tag and category: none of them writes the line."""
    stage = of(source, sales_backlog.NAME, version)
    await completed(stage)
    line = await a_sale(stage)
    world = stage.simulator.world
    [tag] = world.execute("crm.tag", "search", [], limit=1)
    world.execute("sale.order", "write", [line["order_id"]], {"tag_ids": [(6, 0, [tag])]})
    await completed(stage)
    world.execute("crm.tag", "write", [tag], {"name": "Renamed"})
    world.execute("res.partner", "write", [line["customer_id"]], {"name": "New Name"})

    await completed(stage)

    [now] = await rows(stage, "SELECT * FROM mirror.sales_backlog WHERE id = :id", id=line["id"])
    assert (now["tags"], now["customer_name"]) == (["Renamed"], "New Name")


async def test_movements_of_the_backlog_are_told(source: Syncing, version: Literal[17, 19]) -> None:
    """New, reduction, increase, a change of something else, and removed."""
    stage = of(source, sales_backlog.NAME, version)
    await completed(stage)
    line = await a_sale(stage)
    world = stage.simulator.world
    balance = float(line["balance"])
    for values in (
        {"qty_saldo": balance - 1},
        {"qty_saldo": balance - 1.005},
        {"qty_saldo": balance + 5},
    ):
        world.execute("sale.order.line", "write", [line["id"]], values)
        await completed(stage)
    world.execute("sale.order.line", "unlink", [line["id"]])
    await completed(stage)

    told = await rows(
        stage,
        "SELECT movement FROM mirror.sales_backlog_movement WHERE id = :id ORDER BY seq",
        id=line["id"],
    )

    assert [row["movement"] for row in told] == ["new", "reduction", "other", "increase", "removed"]


async def test_lines_of_the_same_product_are_added_up(
    source: Syncing, version: Literal[17, 19]
) -> None:
    """One row for an order and a product, with quantities and balances of all its lines."""
    stage = of(source, sales_backlog.NAME, version)
    await completed(stage)
    line = await a_sale(stage)
    stage.simulator.world.execute("sale.order.line", "copy", [line["id"]])
    await completed(stage)

    [added] = await rows(
        stage,
        "SELECT * FROM mirror.sales_backlog_product"
        " WHERE order_id = :order AND product_id = :product",
        order=line["order_id"],
        product=line["product_id"],
    )

    own = await rows(
        stage,
        "SELECT * FROM mirror.sales_backlog WHERE order_id = :order AND product_id = :product",
        order=line["order_id"],
        product=line["product_id"],
    )
    assert added["lines"] == len(own) >= 2
    assert added["quantity"] == sum(row["quantity"] for row in own)
    assert added["balance"] == sum(row["balance"] for row in own)


async def test_a_vanished_order_takes_its_lines_with_it(
    source: Syncing, version: Literal[17, 19]
) -> None:
    """Odoo, asked for each id, has none of them."""
    stage = of(source, sales_backlog.NAME, version)
    await completed(stage)
    line = await a_sale(stage)
    query = "SELECT id FROM mirror.sales_backlog WHERE order_id = :order"
    own = await rows(stage, query, order=line["order_id"])
    stage.simulator.world.execute("sale.order", "unlink", [line["order_id"]])

    run = await completed(stage)

    assert run.removed == len(own) > 0
    assert await rows(stage, query, order=line["order_id"]) == []


# -- freight bills -------------------------------------------------------------------------------


def files_of(stage: Syncing) -> dict[tuple[int, str], bytes]:
    """What Odoo has of files, by record and field."""
    found = stage.simulator.world.records(
        ATTACHMENT,
        [["res_model", "=", cte.MODEL], ["res_field", "in", [cte.XML, cte.PDF]]],
        ["id", "res_id", "res_field", "datas"],
    )
    return {
        (one["res_id"], one["res_field"]): base64.b64decode(one["datas"] or "") for one in found
    }


async def mirrored_files(stage: Syncing) -> dict[tuple[int, str], bytes]:
    """What the mirror has of files."""
    found = await rows(stage, "SELECT id, field, content FROM mirror.cte_file")
    return {(one["id"], one["field"]): one["content"] for one in found}


def reads(stage: Syncing) -> int:
    """How often files were read."""
    return stage.simulator.world.received.get(f"{ATTACHMENT}.read", 0)


async def test_files_are_fetched_when_their_checksum_changed(
    source: Syncing, version: Literal[17, 19]
) -> None:
    """All at first, then only the one that is another; a field that was emptied has none."""
    stage = of(source, cte.NAME, version)
    await completed(stage)
    world, bills = stage.simulator.world, sorted(await stage.mirrored())
    assert await mirrored_files(stage) == files_of(stage)
    assert reads(stage) > 0
    before = reads(stage)

    world.execute(cte.MODEL, "write", [bills[0]], {"l10n_br_data_entrada": "2026-11-01"})
    await completed(stage)
    assert reads(stage) == before

    other = base64.b64encode(b"<another/>").decode()
    world.execute(cte.MODEL, "write", [bills[1]], {cte.XML: other})
    with_pdf = next(one for one, field in files_of(stage) if field == cte.PDF)
    world.execute(cte.MODEL, "write", [with_pdf], {cte.PDF: False})
    await completed(stage)

    assert reads(stage) == before + 1
    mirrored = await mirrored_files(stage)
    assert mirrored == files_of(stage)
    assert mirrored[bills[1], cte.XML] == b"<another/>"
    assert (with_pdf, cte.PDF) not in mirrored


async def test_a_complementary_bill_is_linked_to_its_original(
    source: Syncing, version: Literal[17, 19]
) -> None:
    """By the key in its XML, in whatever order they come."""
    world = source.simulator.world
    [original] = world.add_documents(DocumentOptions())
    [completing] = world.add_documents(DocumentOptions())
    xml = (
        '<CTe xmlns="http://www.portalfiscal.inf.br/cte"><infCte><ide><tpCTe>1</tpCTe></ide>'
        f"<infCteComp><chCTe>{original.key}</chCTe></infCteComp></infCte></CTe>"
    )
    encoded = base64.b64encode(xml.encode()).decode()
    world.execute(cte.MODEL, "write", [completing.dfe_id], {cte.XML: encoded})
    stage = of(source, cte.NAME, version)

    await completed(stage)

    [linked] = await rows(
        stage, "SELECT * FROM mirror.cte_linked WHERE id = :id", id=completing.dfe_id
    )
    assert (linked["type"], linked["completes_key"]) == ("complement", original.key)
    assert linked["completes_id"] == original.dfe_id
    [plain] = await rows(
        stage, "SELECT * FROM mirror.cte_linked WHERE id = :id", id=original.dfe_id
    )
    assert (plain["type"], plain["completes_id"]) == ("normal", None)


async def test_single_bills_are_asked_for_by_key(source: Syncing, version: Literal[17, 19]) -> None:
    """What changed of them is there, what is gone is gone, nothing else is touched."""
    stage = of(source, cte.NAME, version)
    await completed(stage)
    world = stage.simulator.world
    changed, gone, other = await rows(
        stage, "SELECT id, access_key FROM mirror.cte ORDER BY id LIMIT 3"
    )
    cursor = await stage.runs.cursor("main", cte.NAME)
    world.execute(cte.MODEL, "write", [changed["id"]], {"l10n_br_data_entrada": "2026-11-02"})
    world.execute(cte.MODEL, "write", [other["id"]], {"l10n_br_data_entrada": "2026-11-03"})
    world.execute(cte.MODEL, "unlink", [gone["id"]])

    keys = [changed["access_key"], gone["access_key"], "0" * 44]
    run = await stage.sync("keys", keys=keys)

    assert (run.status, run.read, run.written, run.removed) == ("completed", 1, 1, 1)
    assert await stage.runs.cursor("main", cte.NAME) == cursor
    mirrored = await rows(stage, "SELECT id, entered_on::text AS day FROM mirror.cte")
    days = {row["id"]: row["day"] for row in mirrored}
    assert days[changed["id"]] == "2026-11-02"
    assert days[other["id"]] != "2026-11-03"
    assert gone["id"] not in days
    await completed(stage)


async def test_an_archived_bill_stays_and_says_so(
    source: Syncing, version: Literal[17, 19]
) -> None:
    """Archived is not gone."""
    stage = of(source, cte.NAME, version)
    await completed(stage)
    bill = min(await stage.mirrored())
    stage.simulator.world.execute(cte.MODEL, "write", [bill], {"active": False})

    run = await completed(stage)

    assert run.removed == 0
    [row] = await rows(stage, "SELECT active FROM mirror.cte WHERE id = :id", id=bill)
    assert row["active"] is False
