"""Quality checks: decided by a button or by a measure, and asked for before goods are moved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from service.simulator import errors
from tests.factories.goods import PICKING, product, receipt
from tests.unit.simulator.helpers import one

if TYPE_CHECKING:
    from service.simulator.world import World

CHECK = "quality.check"


def check(world: World, **values: Any) -> int:
    """Return a new check."""
    made: int = world.execute(CHECK, "create", {"company_id": world.seed.home.id, **values})
    return made


@pytest.mark.parametrize(("button", "state"), [("do_pass", "pass"), ("do_fail", "fail")])
def test_a_button_decides_several_checks(world: World, button: str, state: str) -> None:
    """The checks have their state, and say when and by whom."""
    ids = [check(world), check(world)]

    world.execute(CHECK, button, ids)

    decided = [one(world, CHECK, record_id) for record_id in ids]
    assert [found["quality_state"] for found in decided] == [state, state]
    assert all(found["control_date"] and found["user_id"] for found in decided)


@pytest.mark.parametrize(
    ("measure", "state"), [(4.0, "fail"), (4.5, "pass"), (5.5, "pass"), (5.6, "fail")]
)
def test_a_measure_passes_within_its_tolerance(world: World, measure: float, state: str) -> None:
    """Both ends of the tolerance are allowed."""
    made = check(world, test_type="measure", tolerance_min=4.5, tolerance_max=5.5)
    world.execute(CHECK, "write", [made], {"measure": measure})

    world.execute(CHECK, "do_measure", [made])

    assert one(world, CHECK, made)["quality_state"] == state


def test_a_measure_is_of_one_check(world: World) -> None:
    """Several at once are refused."""
    with pytest.raises(errors.PythonError, match="Expected singleton"):
        world.execute(CHECK, "do_measure", [check(world), check(world)])


def test_an_open_check_is_asked_for_before_goods_are_moved(world: World) -> None:
    """The wizard comes until the check is decided, whatever the decision."""
    picking = receipt(world, (product(world), 1))
    made = check(world, picking_id=picking)

    assert (
        world.execute(PICKING, "button_validate", [picking])["res_model"] == "quality.check.wizard"
    )
    world.execute(CHECK, "do_fail", [made])

    assert world.execute(PICKING, "button_validate", [picking]) is True
