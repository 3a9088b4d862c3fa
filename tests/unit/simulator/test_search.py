"""Searching: what the indexes leave out, and that they leave out nothing that matches."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from service.simulator import domains, errors, search

if TYPE_CHECKING:
    from service.simulator.world import World

LINE = "purchase.order.line"
BEGIN = datetime(2026, 11, 1, tzinfo=UTC)
ORDERS, LINES = 60, 5
COUNT = ORDERS * LINES


def at(order: int) -> str:
    """Return the time at which an order was written."""
    return f"{BEGIN + timedelta(hours=order):%Y-%m-%d %H:%M:%S}"


@pytest.fixture
def stocked(world: World) -> World:
    """Return a world of 60 orders with 5 lines each; each order is an hour later than the last."""
    for place in range(ORDERS):
        env = world.environment(started=BEGIN + timedelta(hours=place))
        order = env["purchase.order"].insert({"partner_id": 101, "name": f"N{place}"})
        for number in range(LINES):
            env[LINE].insert({"order_id": order, "name": "x", "price_unit": float(number)})
    return world


def looked_at(world: World, domain: list[Any], **options: Any) -> int:
    """Return how many lines a search looks at."""
    model = world.environment()[LINE]
    return len(list(search.candidates(model, domains.parse(model, domain), **options)))


@pytest.mark.parametrize(
    "domain",
    [
        [["id", ">", 100]],
        [["id", ">", 100], ["id", "<=", 120], ["write_date", ">=", at(3)]],
        [["id", ">", 7], ["write_date", ">=", at(10)], ["write_date", "<", at(12)]],
        ["|", ["create_date", ">=", at(58)], ["write_date", ">=", at(57)]],
        ["|", ["order_id.name", "in", ["N3", "N5"]], ["order_id.write_date", ">=", at(58)]],
        ["|", ["order_id.name", "=", "N3"], ["price_unit", ">", 3]],
        [["order_id.write_date", ">=", at(2)], ["order_id.write_date", "<", at(4)]],
        ["!", ["write_date", "<", at(40)]],
        [["order_id", "in", [2, 3, 999]], ["price_unit", "!=", 1]],
        [["id", "in", [5, 1, 5, 7000]]],
        [["write_date", ">=", at(50)], ["write_date", "<", False]],
        [["order_id.state", "not in", ["draft"]]],
    ],
)
def test_indexes_change_no_result(stocked: World, domain: list[Any]) -> None:
    """A search finds what asking every record would find, in order of id."""
    model = stocked.environment()[LINE]
    test = domains.parse(model, domain).test(model)

    found = stocked.execute(LINE, "search", domain, order="id")

    assert found == [one for one in sorted(model.table.rows) if test(one)]
    assert stocked.execute(LINE, "search", domain, order="id desc") == found[::-1]
    assert stocked.execute(LINE, "search", domain, order="id", limit=3, offset=1) == found[1:4]


def test_nothing_is_found_where_nothing_is(world: World) -> None:
    """A search of a model without a record, by ids and by an index."""
    assert world.execute(LINE, "search", [["id", "in", [1, 2]]]) == []
    assert world.execute(LINE, "search", ["|", ["order_id", "=", 1], ["id", "in", []]]) == []


def test_window_of_time_is_found_by_its_stamps(stocked: World) -> None:
    """A short window looks at its rows only; a page of a long one goes by id."""
    window = [["write_date", ">=", at(10)], ["write_date", "<", at(11)]]

    assert looked_at(stocked, window) <= 2 * LINES
    assert looked_at(stocked, [["id", ">", 200]], wanted=10) == COUNT - 200


def test_lines_are_found_behind_their_order(stocked: World) -> None:
    """A window on the order names the lines of few orders."""
    assert looked_at(stocked, [["order_id.write_date", ">=", at(58)]]) == 2 * LINES


def test_window_follows_writes_and_deletions(stocked: World) -> None:
    """Rows that were written again are found in the later window only, deleted ones in none."""
    before = [["write_date", ">=", at(0)], ["write_date", "<", at(ORDERS)]]
    moved, gone = [1, 2, 3], [4, 5]
    for _ in range(COUNT):
        stocked.execute(LINE, "write", moved, {"name": "y"})
    stocked.execute(LINE, "unlink", gone)

    late = [["write_date", ">=", at(ORDERS + 1)]]
    expected = [one for one in range(1, COUNT + 1) if one not in {*moved, *gone}]

    assert stocked.execute(LINE, "search", late, order="id") == moved
    assert stocked.execute(LINE, "search", before, order="id") == expected


def test_rolled_back_deletion_is_found_again(stocked: World) -> None:
    """What a failed transaction deleted is where it was."""
    commands = [[2, 7], [0, 0, {"name": "a line without a price"}]]
    with pytest.raises(errors.ValidationError):
        stocked.execute("purchase.order", "write", [2], {"order_line": commands})

    page = stocked.execute(LINE, "search", [["id", ">", 5]], order="id", limit=3)

    assert page == [6, 7, 8]


def test_size_in_place_of_a_file(world: World) -> None:
    """With `bin_size` a file is read as its size in words."""
    dfe = "l10n_br_ciel_it_account.dfe"
    record = world.execute(dfe, "create", {"l10n_br_xml_dfe": "QUJD" * 1024})
    fields = ["l10n_br_xml_dfe", "l10n_br_pdf_dfe"]

    read = world.execute(dfe, "read", [record], fields, context={"bin_size": True})

    assert read == [{"id": record, "l10n_br_xml_dfe": "3.00 Kb", "l10n_br_pdf_dfe": False}]
