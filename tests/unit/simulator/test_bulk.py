"""Many rows at once: how many, the same for the same seed, in shape, and by route and command."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from service.simulator import __main__ as command
from service.simulator import fiscal
from service.simulator.bulk import PREFIXES, BulkOptions, from_json
from service.simulator.world import World
from tests.unit.simulator.helpers import DFE

if TYPE_CHECKING:
    from service.simulator.app import Simulator
    from tests.unit.simulator.helpers import Client

UNTIL = datetime(2026, 11, 24, 12, tzinfo=UTC)
SOME = BulkOptions(
    sale_lines=103, purchase_lines=51, documents=40, products=20, partners=30, until=UNTIL
)
MODELS = ("sale.order", "sale.order.line", "purchase.order", "purchase.order.line", DFE)
STAMP = "%Y-%m-%d %H:%M:%S"
# Five times what it takes on a busy machine: a slip into quadratic time is caught, noise is not.
LIMIT_SECONDS = 25.0


def test_counts(world: World) -> None:
    """There are as many lines as asked for, in orders of five; the last order has the rest."""
    made = world.add_rows(SOME)

    wanted = {"sale.order.line": 103, "sale.order": 21, "purchase.order.line": 51, DFE: 40}
    assert {name: made[name] for name in wanted} == wanted
    sizes = [len(row["order_line"]) for row in world.records("sale.order", fields=["order_line"])]
    assert (sizes[:-1], sizes[-1]) == ([5] * 20, 3)


def test_same_seed_same_rows() -> None:
    """A seed makes the same rows again, another seed others; stamps go back from `until`."""
    worlds = [World(clock=lambda: UNTIL, seed_number=number) for number in (1, 1, 2)]
    for world in worlds:
        world.add_rows(SOME)

    first, second, third = ({name: one.records(name) for name in MODELS} for one in worlds)

    assert first == second
    assert all(first[name] != third[name] for name in MODELS)
    oldest = f"{UNTIL - timedelta(days=SOME.days):{STAMP}}"
    for name in MODELS:
        created = [row["create_date"] for row in first[name]]
        assert created == sorted(created)
        for row in first[name]:
            assert oldest <= row["create_date"] <= row["write_date"] <= f"{UNTIL:{STAMP}}"


def test_second_delivery_repeats_no_number(world: World) -> None:
    """Names, product codes and tax numbers stay unique over several deliveries."""
    world.add_rows(SOME)
    world.add_rows(SOME)

    for model, name in (
        ("sale.order", "name"),
        ("purchase.order", "name"),
        ("product.product", "default_code"),
        ("res.users", "login"),
        (DFE, "protnfe_infnfe_chnfe"),
    ):
        values = [row[name] for row in world.records(model, fields=[name])]
        assert len(values) == len(set(values))


def test_rows_are_in_shape(world: World) -> None:
    """References lead to records, selections hold known values, balances are what is left."""
    world.add_rows(SOME)

    for model in (*MODELS, "res.partner", "product.product", "product.category"):
        described = world.execute(model, "fields_get", [], ["type", "relation", "selection"])
        for row in world.records(model):
            for name, one in described.items():
                _check_value(world, row[name], one)
    for line in world.records("sale.order.line"):
        expected = 0.0 if line["qty_cancelado"] else line["product_uom_qty"] - line["qty_delivered"]
        assert line["qty_saldo"] == expected
    names = {row["name"][:3] for row in world.records("sale.order")}
    assert names <= set(PREFIXES.values())
    cnpjs = [row["l10n_br_cnpj"] for row in world.records("res.partner", [["id", ">", 106]])]
    assert all(fiscal.is_cnpj(one) for one in cnpjs)


def _check_value(world: World, value: Any, described: dict[str, Any]) -> None:
    kind = described["type"]
    if kind == "many2one" and value is not False:
        assert value[0] in world.database.tables[described["relation"]].rows
        assert isinstance(value[1], str)
    elif kind in {"one2many", "many2many"}:
        assert set(value) <= set(world.database.tables[described["relation"]].rows)
    elif kind == "selection" and value is not False:
        assert value in [choice[0] for choice in described["selection"]]


def test_documents_are_of_all_kinds(world: World) -> None:
    """Among many documents there are complements, cancelled and archived ones, some without PDF."""
    world.add_rows(BulkOptions(documents=200))
    fields = ["active", "l10n_br_situacao_dfe", "nfe_infnfe_ide_finnfe", "l10n_br_pdf_dfe_fname"]

    rows = world.records(DFE, fields=fields)

    assert {row["active"] for row in rows} == {True, False}
    assert {row["l10n_br_situacao_dfe"] for row in rows} == {"AUTORIZADA", "CANCELADA"}
    assert {row["nfe_infnfe_ide_finnfe"] for row in rows} == {"0", "1"}
    assert {bool(row["l10n_br_pdf_dfe_fname"]) for row in rows} == {True, False}
    keys = set(world.documents)
    complements = [one for one in world.documents.values() if "infCteComp" in one.xml]
    assert complements
    assert all(any(f"<chCTe>{key}" in one.xml for key in keys) for one in complements)


def test_hundred_thousand_lines_take_seconds() -> None:
    """The size of a real backlog is there in seconds, and a page of it in milliseconds."""
    world = World()
    began = time.perf_counter()
    world.add_rows(BulkOptions(sale_lines=100_000))
    seeded = time.perf_counter()
    now = world.clock()
    domain = [
        ["id", ">", 50_000],
        ["write_date", ">=", f"{now - timedelta(days=100):{STAMP}}"],
        ["write_date", "<", f"{now:{STAMP}}"],
    ]

    page = world.execute("sale.order.line", "search", domain, order="id", limit=2000)
    ended = time.perf_counter()

    assert page == list(range(50_001, 52_001))
    assert seeded - began < LIMIT_SECONDS
    assert ended - seeded < LIMIT_SECONDS / 100


async def test_rows_by_route(simulator: Simulator, client: Client) -> None:
    """A posted option set makes rows and tells how many; the source can be read back in parts."""
    body = {"sale_lines": 30, "partners": 5, "products": 5, "until": "2026-11-24T12:00:00Z"}

    answer = await client.http.post("/simulator/rows", json=body)
    part = await client.http.get(
        "/simulator/records/sale.order.line",
        params={"domain": '[["id",">",10]]', "fields": "write_date", "limit": 2},
    )

    assert (answer.status_code, answer.json()["rows"]["sale.order.line"]) == (201, 30)
    assert [row["id"] for row in part.json()] == [11, 12]
    assert all(row["write_date"] <= "2026-11-24 12:00:00" for row in part.json())
    assert len(simulator.world.records("sale.order.line")) == 30


@pytest.mark.parametrize(
    "values",
    [{"colour": 1}, {"sale_lines": -1}, {"products": 0}, {"until": "yesterday"}, {"days": -1}],
)
def test_wrong_options_are_refused(values: dict[str, Any]) -> None:
    """Unknown names and senseless numbers are refused."""
    with pytest.raises(ValueError, match=r"\w"):
        from_json(values)


def test_command_line_names_how_many() -> None:
    """The command takes the numbers of lines."""
    arguments = command.parser().parse_args(["--sale-lines", "10", "--purchase-lines", "20"])

    assert command.settings_of(arguments).rows == BulkOptions(sale_lines=10, purchase_lines=20)
