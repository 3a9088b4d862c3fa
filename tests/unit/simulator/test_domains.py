"""Search domains, operator by operator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from service.simulator import errors

if TYPE_CHECKING:
    from service.simulator.world import World

NAMES = {
    1: {"name": "Alpha", "ref": "a-1", "supplier_rank": 1, "active": True},
    2: {"name": "beta", "ref": "b_2", "supplier_rank": 2, "active": True},
    3: {"name": "Beta Two", "supplier_rank": 3, "active": True, "parent_id": 2},
    4: {"name": "Gamma", "ref": "g%4", "active": False, "parent_id": 3},
}
BASE = 1000


@pytest.fixture
def people(world: World) -> World:
    """Return a world with four partners more: ids from 1001."""
    partners = world.environment()["res.partner"]
    for number, values in NAMES.items():
        parent = values.get("parent_id")
        linked = {**values, "parent_id": BASE + int(str(parent))} if parent else values
        partners.insert({**linked, "city": "Test"}, BASE + number)
    return world


def search(world: World, domain: list[Any], **kwargs: Any) -> list[int]:
    """Return the numbers of the partners of this test that match."""
    everything = ["&", ["city", "=", "Test"], *(domain or [[1, "=", 1]])]
    found: list[int] = world.execute("res.partner", "search", everything, **kwargs)
    return [one - BASE for one in found]


@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        ([["name", "=", "Alpha"]], {1}),
        ([["name", "=", "alpha"]], set()),
        ([["name", "!=", "Alpha"]], {2, 3}),
        ([["ref", "!=", "a-1"]], {2, 3}),
        ([["ref", "=", False]], {3}),
        ([["ref", "!=", False]], {1, 2}),
        ([["supplier_rank", "<", 2]], {1}),
        ([["supplier_rank", "<=", 2]], {1, 2}),
        ([["supplier_rank", ">", 2]], {3}),
        ([["supplier_rank", ">=", 2]], {2, 3}),
        ([["supplier_rank", "in", [1, 3]]], {1, 3}),
        ([["supplier_rank", "not in", [1, 3]]], {2}),
        ([["ref", "in", ["a-1", False]]], {1, 3}),
        ([["name", "like", "eta"]], {2, 3}),
        ([["name", "like", "Beta"]], {3}),
        ([["name", "ilike", "BETA"]], {2, 3}),
        ([["name", "not like", "Beta"]], {1, 2}),
        ([["name", "not ilike", "beta"]], {1}),
        ([["name", "=like", "B%"]], {3}),
        ([["name", "=ilike", "b%"]], {2, 3}),
        ([["ref", "like", "b\\_2"]], {2}),
        ([["ref", "=like", "a_1"]], {1}),
        ([["id", "child_of", [BASE + 2]]], {2, 3}),
        ([["id", "parent_of", [BASE + 3]]], {2, 3}),
        ([["parent_id", "=", BASE + 2]], {3}),
        ([["parent_id", "=", False]], {1, 2}),
        ([["parent_id", "!=", False]], {3}),
        ([["parent_id", "ilike", "bet"]], {3}),
        ([["parent_id.name", "=", "beta"]], {3}),
        ([["child_ids", "=", False]], {1, 3}),
        ([["child_ids.name", "ilike", "two"]], {2}),
        ([["parent_id", "any", [["name", "=", "beta"]]]], {3}),
        (["|", ["name", "=", "Alpha"], ["name", "=", "beta"]], {1, 2}),
        (["!", ["name", "=", "Alpha"]], {2, 3}),
        (["!", "|", ["name", "=", "Alpha"], ["name", "=", "beta"]], {3}),
        (["&", ["name", "ilike", "beta"], "!", ["ref", "=", False]], {2}),
        ([["active", "=", False]], {4}),
        ([["active", "in", [True, False]]], {1, 2, 3, 4}),
        ([["name", "=?", False]], {1, 2, 3}),
        ([[0, "=", 1]], set()),
    ],
)
def test_operator(people: World, domain: list[Any], expected: set[int]) -> None:
    """An operator selects what the real server selects."""
    prefixed = ["&"] * (len([one for one in domain if isinstance(one, list)]) - 1)
    shaped = domain if isinstance(domain[0], str) else [*prefixed, *domain]

    assert set(search(people, shaped)) == expected


def test_active_test_context_shows_archived_records(people: World) -> None:
    """With `active_test` false the archived partner is found."""
    assert set(search(people, [], context={"active_test": False})) == {1, 2, 3, 4}


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("supplier_rank desc", [3, 2, 1]),
        ("supplier_rank", [1, 2, 3]),
        ("ref, id desc", [1, 2, 3]),
        ("ref desc, id desc", [3, 2, 1]),
        ("city, supplier_rank desc", [3, 2, 1]),
    ],
)
def test_order(people: World, order: str, expected: list[int]) -> None:
    """Records come in the order asked for, empty values after the others, or first descending."""
    assert search(people, [], order=order) == expected


def test_limit_and_offset_cut_after_sorting(people: World) -> None:
    """A page is cut out of the sorted list."""
    assert search(people, [], order="id", limit=1, offset=1) == [2]


@pytest.mark.parametrize(
    ("text", "operator", "found"),
    [
        ("2026-11-24", ">=", True),
        ("2026-11-24", ">", False),
        ("2026-11-24", "<=", True),
        ("2026-11-24 10:00:00", ">=", True),
        ("2026-11-24 10:00:01", ">=", False),
        ("2026-11-24 10:00:00", "=", True),
    ],
)
def test_datetime_comparison(world: World, text: str, operator: str, *, found: bool) -> None:
    """A date alone means the start of the day, or its end for `>` and `<=`."""
    order = world.environment()["purchase.order"].insert({"partner_id": 101})
    world.execute("purchase.order", "write", [order], {"date_planned": "2026-11-24 10:00:00"})
    domain = ["&", ["id", "=", order], ["date_planned", operator, text]]

    assert bool(world.execute("purchase.order", "search", domain)) == found


def test_missing_operand_is_refused(world: World) -> None:
    """A prefix without operands is an error, not an empty list."""
    with pytest.raises(errors.PythonError):
        world.execute("res.partner", "search", ["&", ["name", "=", "x"]])
