"""How items of entries settle each other, and come apart again."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from service.simulator import errors
from service.simulator.titles import TitleOptions
from tests.unit.simulator.helpers import one
from tests.unit.simulator.test_payments import LINE, MOVE, PAYMENT, pay, title

if TYPE_CHECKING:
    from service.simulator.titles import SeededTitle
    from service.simulator.world import World

SEEN = ["amount_residual", "reconciled", "matching_number"]


def posted(world: World, owed: SeededTitle, amount: float, **more: Any) -> int:
    """Post a payment; return the item that settles titles."""
    payment_id = pay(world, owed, amount, **more)
    world.execute(PAYMENT, "action_post", [payment_id])
    domain = [["payment_id", "=", payment_id], ["account_type", "=", "asset_receivable"]]
    [found] = world.records(LINE, domain, ["id"])
    line_id: int = found["id"]
    return line_id


def seen(world: World, line_id: int) -> tuple[Any, ...]:
    """What an item shows of what settles it."""
    record = one(world, LINE, line_id)
    return tuple(record[name] for name in SEEN)


def test_a_part_leaves_a_residual(world: World) -> None:
    """The smaller item is used up; the larger one keeps its rest."""
    owed = title(world)
    paid = posted(world, owed, 400)

    assert world.execute(LINE, "reconcile", [owed.line_id, paid]) is None

    assert seen(world, owed.line_id) == (600.0, False, "P1")
    assert seen(world, paid) == (0.0, True, "P1")
    [partial] = world.records("account.partial.reconcile")
    assert (partial["debit_move_id"][0], partial["credit_move_id"][0]) == (owed.line_id, paid)
    assert partial["amount"] == 400.0
    assert one(world, LINE, owed.line_id)["matched_credit_ids"] == [partial["id"]]
    assert one(world, LINE, paid)["matched_debit_ids"] == [partial["id"]]


def test_the_last_part_closes_the_title(world: World) -> None:
    """All that settle each other get one number."""
    owed = title(world)
    first, second = posted(world, owed, 400), posted(world, owed, 600)

    world.execute(LINE, "reconcile", [owed.line_id, first])
    world.execute(LINE, "reconcile", [owed.line_id, second])

    [full] = world.records("account.full.reconcile")
    assert {seen(world, line) for line in (owed.line_id, first, second)} == {
        (0.0, True, str(full["id"]))
    }
    assert set(full["reconciled_line_ids"]) == {owed.line_id, first, second}
    assert len(full["partial_reconcile_ids"]) == 2
    assert one(world, MOVE, owed.move_id)["payment_state"] == "paid"


def test_more_than_is_owed_leaves_the_payment_open(world: World) -> None:
    """Nothing is matched beyond the title."""
    owed = title(world)
    paid = posted(world, owed, 1100)

    world.execute(LINE, "reconcile", [owed.line_id, paid])

    assert seen(world, owed.line_id)[:2] == (0.0, True)
    assert seen(world, paid)[:2] == (-100.0, False)


def test_cents_are_exact(world: World) -> None:
    """Ten times ten cents is one real."""
    owed = title(world, "1.00")

    for _ in range(10):
        world.execute(LINE, "reconcile", [owed.line_id, posted(world, owed, 0.1)])

    assert seen(world, owed.line_id)[:2] == (0.0, True)


def test_what_is_reconciled_is_refused(world: World) -> None:
    """The same call again is a fault, although all is well."""
    owed = title(world)
    paid = posted(world, owed, 1000)
    world.execute(LINE, "reconcile", [owed.line_id, paid])

    with pytest.raises(errors.UserError, match="already reconciled"):
        world.execute(LINE, "reconcile", [owed.line_id, paid])

    assert len(world.records("account.partial.reconcile")) == 1


def test_a_partial_match_repeated_takes_nothing_more(world: World) -> None:
    """The payment is used up, so the fault comes before anything is matched."""
    owed = title(world)
    paid = posted(world, owed, 400)
    world.execute(LINE, "reconcile", [owed.line_id, paid])

    with pytest.raises(errors.UserError, match="already reconciled"):
        world.execute(LINE, "reconcile", [owed.line_id, paid])

    assert seen(world, owed.line_id)[0] == 600.0


def test_drafts_are_refused(world: World) -> None:
    """Only what is posted settles."""
    owed = title(world, posted=False)
    paid = posted(world, owed, 400)

    with pytest.raises(errors.UserError, match="only reconcile posted"):
        world.execute(LINE, "reconcile", [owed.line_id, paid])


def test_items_of_two_accounts_are_refused(world: World) -> None:
    """A receivable of one company is not settled by a payment in another one."""
    owed = title(world)
    south = world.seed.companies["south"]
    paid = posted(world, owed, 400, company_id=south.id, journal_id=south.journals.bank)

    with pytest.raises(errors.UserError, match="not from the same account"):
        world.execute(LINE, "reconcile", [owed.line_id, paid])


def test_an_account_that_is_not_for_it_is_refused(world: World) -> None:
    """Income is not reconciled."""
    owed = title(world)
    [income] = world.records(
        LINE, [["move_id", "=", owed.move_id], ["account_type", "=", "income"]]
    )

    with pytest.raises(errors.UserError, match="does not allow reconciliation"):
        world.execute(LINE, "reconcile", [income["id"]])


def test_an_invoice_in_draft_loses_what_settled_it(world: World) -> None:
    """Taking it back to draft takes its matches apart, of all its instalments."""
    owed = world.add_title(TitleOptions(amounts=(Decimal(300), Decimal(700))))
    paid = posted(world, owed, 1000)
    world.execute(LINE, "reconcile", [*owed.line_ids, paid])
    assert one(world, MOVE, owed.move_id)["payment_state"] == "paid"

    world.execute(MOVE, "button_draft", [owed.move_id])
    world.execute(MOVE, "action_post", [owed.move_id])

    assert seen(world, paid) == (-1000.0, False, False)
    assert [seen(world, line)[0] for line in owed.line_ids] == [300.0, 700.0]
    assert world.records("account.full.reconcile") == []
    assert one(world, MOVE, owed.move_id)["payment_state"] == "not_paid"


def test_a_match_taken_apart_leaves_the_others(world: World) -> None:
    """Only the item that was named comes out."""
    owed = title(world)
    first, second = posted(world, owed, 400), posted(world, owed, 600)
    world.execute(LINE, "reconcile", [owed.line_id, first, second])

    world.execute(LINE, "remove_move_reconcile", [second])

    assert seen(world, owed.line_id)[:2] == (600.0, False)
    assert seen(world, first)[:2] == (0.0, True)
    assert seen(world, second)[:2] == (-600.0, False)


def test_an_integer_of_zero_is_stored_as_empty(world: World) -> None:
    """A search for instalment 0 finds nothing, one for 0 or empty does."""
    owed = world.add_title(TitleOptions(first=0))

    def found(operator: str, value: Any) -> list[int]:
        domain = [["id", "=", owed.line_id], ["l10n_br_cobranca_parcela", operator, value]]
        ids: list[int] = world.execute(LINE, "search", domain)
        return ids

    assert found("=", 0) == []
    assert found("in", [0, False]) == [owed.line_id]


def test_an_entry_that_is_not_balanced_is_refused(world: World) -> None:
    """Debits are credits, in what is made and in what is changed."""
    accounts, journals = world.seed.home.accounts, world.seed.home.journals
    debit = {"account_id": accounts.bank, "debit": 10.0, "name": "x"}
    credit = {"account_id": accounts.interest_income, "credit": 9.0, "name": "x"}
    values = {"journal_id": journals.miscellaneous, "line_ids": [[0, 0, debit], [0, 0, credit]]}

    with pytest.raises(errors.UserError, match="not balanced"):
        world.execute(MOVE, "create", values)


def test_instalments_change_together_or_not_at_all(world: World) -> None:
    """One item alone would unbalance a draft; several in one write do not."""
    owed = world.add_title(TitleOptions(amounts=(Decimal(300), Decimal(700)), posted=False))
    first, second = owed.line_ids

    with pytest.raises(errors.UserError, match="not balanced"):
        world.execute(LINE, "write", [first], {"debit": 400.0})
    commands = [[1, first, {"debit": 400.0}], [1, second, {"debit": 600.0}]]
    world.execute(MOVE, "write", [owed.move_id], {"line_ids": commands})

    assert [one(world, LINE, line)["debit"] for line in owed.line_ids] == [400.0, 600.0]


def test_amounts_of_a_posted_entry_hold(world: World) -> None:
    """Neither the items nor the entry let them be changed."""
    owed = title(world)
    commands = [[1, owed.line_id, {"debit": 1.0}]]

    with pytest.raises(errors.UserError):
        world.execute(LINE, "write", [owed.line_id], {"debit": 1.0})
    with pytest.raises(errors.ServerError):
        world.execute(MOVE, "write", [owed.move_id], {"line_ids": commands})
