"""Records: transactions, shapes, commands and rules that every model shares."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from service.simulator import errors
from service.simulator.world import World, registry

if TYPE_CHECKING:
    from service.simulator.orm import Model

RECORDINGS = Path(__file__).parents[2] / "recordings"


def recorded_fields(version: int) -> dict[str, dict[str, dict[str, Any]]]:
    """Return `fields_get` of the models of a real server."""
    text = (RECORDINGS / f"odoo{version}-fields.json").read_text()
    recorded: dict[str, dict[str, dict[str, Any]]] = json.loads(text)
    return recorded


# Fields of modules that the recorded servers do not have: the localisation, delivery, expiry dates.
LOCALISATION = frozenset(
    {
        "agendamento",
        "carrier_id",
        "dfe_id",
        "expiration_date",
        "expiration_time",
        "is_current_approver",
        "payment_provider_id",
        "picking_note",
        "qty_cancelado",
        "qty_saldo",
        "team_id",
        "use_expiration_date",
    }
)


def is_localisation(name: str) -> bool:
    """Whether a field comes from the localisation."""
    return name.startswith(("l10n_br_", "x_studio_")) or name in LOCALISATION


@pytest.mark.parametrize("version", [17, 19])
@pytest.mark.parametrize(
    "model", [model for name, model in registry().items() if name in recorded_fields(17)]
)
def test_fields_are_those_of_the_real_server(model: type[Model], version: int) -> None:
    """Every base field exists in the real model with the same type and relation."""
    recorded = recorded_fields(version)[model.model]
    declared = {
        name: (one.type, one.relation)
        for name, one in model.schema.items()
        if version in one.versions and not is_localisation(name)
    }
    real = {name: (one["type"], one.get("relation")) for name, one in recorded.items()}

    assert {name: real.get(name) for name in declared} == declared


def test_failed_call_leaves_no_trace(world: World) -> None:
    """What a call wrote before it failed is rolled back, lines included."""
    before = world.records("purchase.order")
    values = {
        "partner_id": 101,
        "order_line": [[0, 0, {"name": "x", "price_unit": 1.0}], [0, 0, {"name": "no price"}]],
    }

    with pytest.raises(errors.ValidationError):
        world.execute("purchase.order", "create", values)

    assert world.records("purchase.order") == before
    assert world.records("purchase.order.line") == []


def test_stamps_are_the_start_of_the_transaction() -> None:
    """All records that a call writes carry the time at which the call began."""
    moment = datetime(2026, 11, 24, 10, 0, 0, 123456, tzinfo=UTC)
    world = World(clock=lambda: moment)

    created = world.execute("res.partner", "create", [{"name": "a"}, {"name": "b"}])

    stamps = {row["write_date"] for row in world.records("res.partner", [["id", "in", created]])}
    assert stamps == {"2026-11-24 10:00:00"}


def test_many2one_is_a_pair_or_false(world: World) -> None:
    """A reference is `[id, display name]`, an empty one `false`."""
    partner = world.records("res.partner", [["id", "=", 101]], ["state_id", "parent_id"])[0]

    assert partner["state_id"] == [95, "São Paulo (BR)"]
    assert partner["parent_id"] is False


def test_load_none_gives_bare_ids(world: World) -> None:
    """Without `_classic_read` a reference is an id."""
    read = world.execute("res.partner", "read", [101], ["state_id"], load=None)

    assert read == [{"id": 101, "state_id": 95}]


def test_empty_values_are_false_and_numbers_zero(world: World) -> None:
    """An empty text is `false`, an empty number 0."""
    created = world.execute("res.partner", "create", {"name": "x", "supplier_rank": False})
    read = world.execute("res.partner", "read", [created], ["ref", "supplier_rank", "child_ids"])

    assert read == [{"id": created, "ref": False, "supplier_rank": 0, "child_ids": []}]


def make_order(world: World, *prices: float) -> tuple[int, list[int]]:
    """Return a new order and its lines."""
    lines = [[0, 0, {"name": "x", "price_unit": price}] for price in prices]
    order: int = world.execute("purchase.order", "create", {"partner_id": 101, "order_line": lines})
    read = world.execute("purchase.order", "read", [order], ["order_line"])
    return order, read[0]["order_line"]


def test_line_commands(world: World) -> None:
    """Create, update, delete and clear change the lines of an order."""
    order, (first, second) = make_order(world, 1.0, 2.0)
    commands = [
        [1, first, {"price_unit": 5.0}],
        [2, second],
        [0, 0, {"name": "n", "price_unit": 3}],
    ]

    world.execute("purchase.order", "write", [order], {"order_line": commands})
    total = world.records("purchase.order", [["id", "=", order]], ["amount_total"])[0]
    world.execute("purchase.order", "write", [order], {"order_line": [[5]]})

    assert total["amount_total"] == 8.0
    assert world.records("purchase.order.line") == []


def test_link_commands(world: World) -> None:
    """Link, unlink and set change a many2many."""
    user = world.execute("res.users", "create", {"name": "u", "login": "u"})

    def companies(*commands: list[Any]) -> set[int]:
        world.execute("res.users", "write", [user], {"company_ids": list(commands)})
        read = world.execute("res.users", "read", [user], ["company_ids"])
        return set(read[0]["company_ids"])

    assert companies([4, 3]) == {1, 3}
    assert companies([3, 1]) == {3}
    assert companies([6, 0, [4, 5]]) == {4, 5}
    assert companies([5]) == set()


def test_company_rule_hides_records_of_other_companies(world: World) -> None:
    """A search within one company does not see another's orders; a read of one is refused."""
    user = world.seed.api_user_id
    order = world.execute("purchase.order", "create", {"partner_id": 101, "company_id": 3})
    within: dict[str, Any] = {"context": {"allowed_company_ids": [1]}, "user_id": user}

    assert world.execute("purchase.order", "search", [], **within) == []
    with pytest.raises(errors.AccessError):
        world.execute("purchase.order", "read", [order], ["name"], **within)


def test_needed_record_cannot_be_deleted(world: World) -> None:
    """A vendor with an order stays."""
    make_order(world, 1.0)

    with pytest.raises((errors.ValidationError, errors.UserError)):
        world.execute("res.partner", "unlink", [101])


def test_name_search_finds_by_part_of_the_name(world: World) -> None:
    """`name_search` answers pairs of id and name."""
    assert world.execute("res.partner", "name_search", "araucaria") == [
        [103, "Expresso Araucaria Ltda"]
    ]
