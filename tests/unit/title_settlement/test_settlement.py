"""What may be asked for, and by which reference its payments are found again."""

from __future__ import annotations

import re
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from service.errors import InvalidInput
from service.odoo.records import Record
from service.postings.title_settlement import STEPS, TITLE_SETTLEMENT, dialect
from service.postings.title_settlement.profile import SettlementProfile, Side
from service.postings.title_settlement.settlement import (
    SettlementInput,
    admit,
    document_key,
    payment_reference,
)

EXAMPLE = Path(__file__).parents[3] / "eclusa.example.toml"
PROFILE = SettlementProfile.model_validate(
    {
        "odoo_version": 17,
        "companies": [1, 3],
        "receivable": {
            "discount_journals": {"1": 886},
            "agreement_journals": {"1": 885},
            "return_journals": {"1": 879},
            "interest_accounts": {"1": 22778},
            "charges_accounts": {"1": 22768},
        },
    }
)
GIVEN: dict[str, Any] = {
    "direction": "receivable",
    "number": "4711",
    "instalment": 1,
    "reference": "line 1",
    "date": "2026-11-20",
    "journal_id": 10,
    "principal": "100.00",
}


def given(**changes: Any) -> SettlementInput:
    """An input that is right but for the changes."""
    return SettlementInput.model_validate({**GIVEN, **changes})


def refused(profile: SettlementProfile = PROFILE, **changes: Any) -> set[str]:
    """The fields that are wrong."""
    with pytest.raises(InvalidInput) as error:
        admit(given(**changes), profile)
    assert all(problem.message for problem in error.value.problems)
    return {problem.field for problem in error.value.problems}


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        pytest.param({"principal": "0"}, {"principal"}, id="nothing"),
        pytest.param({"principal": "0", "charges": "1"}, {"principal", "charges"}, id="no money"),
        pytest.param({"interest": "1", "charges": "1"}, {"charges"}, id="two differences"),
        pytest.param({"journal_id": None}, {"journal_id"}, id="no journal"),
        pytest.param(
            {"principal": "0", "interest": "1", "journal_id": None},
            {"journal_id"},
            id="no journal for interest",
        ),
        pytest.param(
            {"principal": "0", "discount": "1", "statement_line_id": 7},
            {"statement_line_id"},
            id="a statement without money",
        ),
        pytest.param({"direction": "payable"}, {"direction"}, id="a direction not settled"),
    ],
)
def test_what_cannot_be_settled_is_refused(changes: dict[str, Any], fields: set[str]) -> None:
    """The field is named before anything is written down."""
    assert refused(**changes) == fields


@pytest.mark.parametrize("part", ["discount", "agreement", "returns", "interest", "charges"])
def test_a_part_without_a_place_in_the_profile_is_refused(part: str) -> None:
    """A journal or an account is needed for each."""
    bare = PROFILE.model_copy(update={"receivable": Side()})

    assert refused(bare, **{part: "1"}) == {part}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("principal", "-1"),
        ("principal", "1.001"),
        ("principal", "NaN"),
        ("principal", "1000000000000.00"),
        ("discount", "-0.01"),
        ("number", ""),
        ("number", "47 11"),
        ("number", "4711:1"),
        ("number", "%"),
        ("instalment", -1),
        ("instalment", 1.5),
        ("reference", " "),
        ("reference", "x" * 101),
        ("date", "2026-02-30"),
        ("direction", "both"),
        ("title_id", 0),
        ("journal_id", -1),
        ("amount", "1"),
    ],
)
def test_what_is_no_settlement_is_refused(field: str, value: Any) -> None:
    """Fractions of a cent, negative amounts, numbers that search for anything."""
    with pytest.raises(ValidationError):
        given(**{field: value})


@pytest.mark.parametrize("amount", ["0.1", "0.10", pytest.param(0.1, id="a float")])
def test_an_amount_is_what_was_written(amount: Any) -> None:
    """Never the binary fraction next to it."""
    assert admit(given(principal=amount), PROFILE).principal == Decimal("0.1")


@pytest.mark.parametrize(
    ("number", "plain"),
    [("000004711", "4711"), ("4711", "4711"), ("A-0042", "A-0042"), ("0", "0")],
)
def test_leading_zeros_of_a_number_do_not_count(number: str, plain: str) -> None:
    """Those of anything else do."""
    assert admit(given(number=number), PROFILE).number == plain


@pytest.mark.parametrize(
    "changes",
    [
        {"number": "4712"},
        {"instalment": 2},
        {"reference": "line 2"},
    ],
)
def test_another_title_or_reference_is_another_settlement(changes: dict[str, Any]) -> None:
    """Its payments have other references too."""
    one, other = admit(given(), PROFILE), admit(given(**changes), PROFILE)

    assert document_key(one) != document_key(other)
    assert payment_reference(one, "principal") != payment_reference(other, "principal")


def test_amounts_do_not_make_another_settlement() -> None:
    """Sent again with other amounts, it is the same one."""
    one, other = admit(given(), PROFILE), admit(given(principal="90", discount="10"), PROFILE)

    assert document_key(one) == document_key(other)
    assert payment_reference(one, "principal") == payment_reference(other, "principal")


def test_references_are_fixed() -> None:
    """Payments in Odoo are found by them for ever: they may not change with the code."""
    settlement = admit(given(), PROFILE)

    assert payment_reference(settlement, "principal") == "NF 4711/1 principal 1820B4E9AD6A4928"
    assert payment_reference(settlement, "register") == "NF 4711/1 register 3F6591B58F6DA329"


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({"receivable": None}, id="no direction"),
        pytest.param({"companies": []}, id="no company"),
        pytest.param({"companies": [1, 1]}, id="a company twice"),
        pytest.param({"odoo_version": 16}, id="an old version"),
        pytest.param({"timezone": "Mars/Base"}, id="no time zone"),
        pytest.param({"amount_tolerance": "-1"}, id="a negative tolerance"),
        pytest.param({"receivable": {"journals": {}}}, id="an unknown name"),
    ],
)
def test_a_profile_that_is_wrong_is_refused(values: dict[str, Any]) -> None:
    """When the file is read, and not in the middle of a settlement."""
    with pytest.raises(ValidationError):
        SettlementProfile.model_validate({**PROFILE.model_dump(), **values})


@pytest.mark.parametrize(
    ("version", "state", "meaning"),
    [
        (17, "draft", "draft"),
        (17, "posted", "posted"),
        (17, "cancel", "canceled"),
        (17, "in_process", None),
        (18, "in_process", "posted"),
        (19, "draft", "draft"),
        (19, "in_process", "posted"),
        (19, "paid", "posted"),
        (19, "canceled", "canceled"),
        (19, "rejected", None),
        (19, "posted", None),
    ],
)
def test_each_version_has_its_own_states(version: int, state: str, meaning: str | None) -> None:
    """A state that the version does not know is judged by a person."""
    payment = Record("account.payment", {"id": 1, "state": state})

    assert dialect.of(version).state(payment) == meaning


def test_what_pays_is_never_repeated_blindly() -> None:
    """Steps that make, post or pay something end in doubt with a person, not with a second call."""
    paying = ("create_", "post_", "register_", "open_invoice", "close_", "open_statement")
    steps = [step for step in STEPS if step.name.startswith(paying)]

    assert len(steps) == 15
    assert all(step.settle.late_arrival and not step.repeatable for step in steps)


def test_numbers_keep_their_meaning() -> None:
    """The audit of a deployment tells steps by their numbers."""
    names = {step.number: step.name for step in TITLE_SETTLEMENT.steps}

    assert (names[7], names[10], names[20], names[29]) == (
        "create_principal",
        "create_discount",
        "register_payment",
        "verify",
    )


def test_the_example_of_the_configuration_shows_the_defaults() -> None:
    """What it comments out is what holds without it."""
    text = EXAMPLE.read_text(encoding="utf-8")
    switched_on = re.sub(r"(?m)^# (?=\w+ = )", "", text)

    shown, spelled_out = (
        SettlementProfile.model_validate(
            tomllib.loads(content)["connections"]["main"]["profiles"]["title_settlement"]
        )
        for content in (text, switched_on)
    )

    assert shown == spelled_out
    assert set(SettlementProfile.model_fields) - set(spelled_out.model_fields_set) == {"timings"}
