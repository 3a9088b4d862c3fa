"""What can be told of a receipt without Odoo: each mistake names its field."""

from __future__ import annotations

import re
import unicodedata
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from service import connections
from service.errors import InvalidInput
from service.postings.physical_receipt import PHYSICAL_RECEIPT
from service.postings.physical_receipt.profile import ReceiptProfile
from service.postings.physical_receipt.receipt import Receipt, today

EXAMPLE = Path(__file__).parents[3] / "eclusa.example.toml"
PROFILE = ReceiptProfile.model_validate(
    {"odoo_version": 17, "companies": [{"company_id": 1, "picking_type_ids": [11]}]}
)
TODAY = today(PROFILE)


def lot(name: str = "A", quantity: Any = 10, **more: Any) -> dict[str, Any]:
    """A lot of a line."""
    return {"name": name, "quantity": quantity, **more}


def line(*lots: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A line of 10 pieces."""
    return {"product_id": 7, "quantity": 10, "lots": lots, **more}


def admitted(*lines: dict[str, Any], **more: Any) -> Receipt:
    """The receipt as it is posted."""
    given = Receipt.model_validate({"picking_id": 27, "lines": lines, **more})
    receipt: Receipt = PHYSICAL_RECEIPT.admit(given, PROFILE)
    return receipt


def problems(*lines: dict[str, Any], **more: Any) -> list[tuple[str, str]]:
    """The fields that are refused, each with its code."""
    with pytest.raises(InvalidInput) as caught:
        admitted(*lines, **more)
    return [(problem.field, problem.code) for problem in caught.value.problems]


def test_a_receipt_is_admitted_as_it_is() -> None:
    """Sums of decimal fractions are exact; a lot may be in several moves."""
    receipt = admitted(
        line(lot("A", "9.9"), lot("B", "0.1"), move_id=1),
        line(lot("A", 10), move_id=2),
        {"product_id": 8, "quantity": 3},
        company_id=1,
        checks=[{"check_id": 1, "result": "fail"}, {"check_id": 2, "measure": "4.25"}],
    )

    assert [lot.quantity for lot in receipt.lines[0].lots] == [Decimal("9.9"), Decimal("0.1")]
    assert PHYSICAL_RECEIPT.document_key(receipt) == "stock.picking,27"
    assert Receipt.model_validate(receipt.model_dump(mode="json")) == receipt


@pytest.mark.parametrize(
    ("lines", "more", "expected"),
    [
        pytest.param(
            [line(lot("A", 6), lot("B", 3))], {}, [("lines.0.lots", "sum_differs")], id="sum below"
        ),
        pytest.param(
            [line(lot("A", "10.01"))], {}, [("lines.0.lots", "sum_differs")], id="sum above"
        ),
        pytest.param(
            [line(lot("A", 5), lot(" A  ", 5))],
            {},
            [("lines.0.lots", "duplicate_lot")],
            id="a lot twice",
        ),
        pytest.param(
            [line(), line()],
            {},
            [("lines.0.move_id", "duplicate_line"), ("lines.1.move_id", "duplicate_line")],
            id="a product twice",
        ),
        pytest.param(
            [line(move_id=1), line()],
            {},
            [("lines.1.move_id", "duplicate_line")],
            id="a product with and without a move",
        ),
        pytest.param(
            [line(move_id=1), line(move_id=1)],
            {},
            [("lines.0.move_id", "duplicate_line"), ("lines.1.move_id", "duplicate_line")],
            id="a move twice",
        ),
        pytest.param(
            [line(lot(expiry=str(TODAY)))],
            {},
            [("lines.0.lots.0.expiry", "expired")],
            id="expires today",
        ),
        pytest.param(
            [line(lot(expiry="2020-02-29"))],
            {},
            [("lines.0.lots.0.expiry", "expired")],
            id="expired",
        ),
        pytest.param(
            [
                line(lot(expiry="2099-01-01"), move_id=1),
                line(lot(expiry="2099-01-02"), move_id=2),
            ],
            {},
            [("lines.1.lots.0.expiry", "expiry_conflict")],
            id="two dates of a lot",
        ),
        pytest.param(
            [line(quantity="10.001")], {}, [("lines.0.quantity", "too_precise")], id="thousandths"
        ),
        pytest.param(
            [line(lot("A", "9.999"), lot("B", "0.001"))],
            {},
            [
                ("lines.0.lots.0.quantity", "too_precise"),
                ("lines.0.lots.1.quantity", "too_precise"),
            ],
            id="thousandths of lots",
        ),
        pytest.param(
            [line()], {"company_id": 5}, [("company_id", "unknown_company")], id="company"
        ),
        pytest.param(
            [line()],
            {"checks": [{"check_id": 1}, {"check_id": 2, "result": "pass", "measure": 1}]},
            [("checks.0", "one_result"), ("checks.1", "one_result")],
            id="no result, or two",
        ),
        pytest.param(
            [line()],
            {"checks": [{"check_id": 1, "result": "pass"}, {"check_id": 1, "result": "fail"}]},
            [("checks.0.check_id", "duplicate_check"), ("checks.1.check_id", "duplicate_check")],
            id="a check twice",
        ),
        pytest.param(
            [line()],
            {"checks": [{"check_id": 1, "measure": "4.255"}]},
            [("checks.0.measure", "too_precise")],
            id="thousandths of a measure",
        ),
    ],
)
def test_a_mistake_names_its_field(
    lines: list[dict[str, Any]], more: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    """Every mistake is told, not the first one only."""
    assert problems(*lines, **more) == expected


def test_tomorrow_is_soon_enough() -> None:
    """Odoo lets a lot expire with the beginning of its day."""
    receipt = admitted(line(lot(expiry=str(TODAY + timedelta(days=1)))))

    assert receipt.lines[0].lots[0].expiry == TODAY + timedelta(days=1)


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({"quantity": 0}, id="nothing"),
        pytest.param({"quantity": -1}, id="less than nothing"),
        pytest.param({"quantity": "NaN"}, id="no number"),
        pytest.param({"quantity": "Infinity"}, id="no end"),
        pytest.param({"product_id": 0}, id="no product"),
        pytest.param({"product_id": 2**31}, id="no id of a database"),
        pytest.param({"lots": [{"name": "A", "quantity": 0}]}, id="nothing of a lot"),
        pytest.param({"lots": [{"name": "  ", "quantity": 10}]}, id="a lot without a name"),
        pytest.param({"lots": [{"name": "A\x00B", "quantity": 10}]}, id="a control character"),
        pytest.param({"lots": [{"name": "A\u200bB", "quantity": 10}]}, id="an invisible character"),
        pytest.param({"lots": [{"name": "A" * 201, "quantity": 10}]}, id="a name without end"),
        pytest.param({"lots": [{"name": "A", "quantity": 10, "expiry": "soon"}]}, id="no date"),
        pytest.param({"tracking": "lot"}, id="an unknown field"),
    ],
)
def test_values_that_mean_nothing_are_refused(values: dict[str, Any]) -> None:
    """They are refused before anything is looked at."""
    with pytest.raises(ValidationError):
        admitted({"product_id": 7, "quantity": 10, **values})


def test_a_name_is_written_in_one_way() -> None:
    """Spaces around it, and how its accents are composed, make no other lot."""
    decomposed = unicodedata.normalize("NFD", "Maçã 105/26")
    receipt = admitted(line(lot(f"  {decomposed} "), quantity=10))

    assert receipt.lines[0].lots[0].name == "Maçã 105/26"


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({"companies": []}, id="no company"),
        pytest.param({"companies": [{"company_id": 1, "picking_type_ids": []}]}, id="no type"),
        pytest.param(
            {
                "companies": [
                    {"company_id": 1, "picking_type_ids": [11]},
                    {"company_id": 1, "picking_type_ids": [12]},
                ]
            },
            id="a company twice",
        ),
        pytest.param(
            {
                "companies": [
                    {"company_id": 1, "picking_type_ids": [11]},
                    {"company_id": 3, "picking_type_ids": [11]},
                ]
            },
            id="a type twice",
        ),
        pytest.param({"odoo_version": 12}, id="an unknown version"),
        pytest.param({"timezone": "Mars/Olympus"}, id="an unknown zone"),
        pytest.param({"quantity_tolerance": -1}, id="a negative tolerance"),
    ],
)
def test_a_profile_that_means_nothing_is_refused(values: dict[str, Any]) -> None:
    """The file is read once; what is wrong with it is told then."""
    with pytest.raises(ValidationError):
        ReceiptProfile.model_validate({**PROFILE.model_dump(), **values})


def test_the_example_of_the_configuration_shows_the_defaults(tmp_path: Path) -> None:
    """What it comments out changes nothing when it is switched on; its times are the step's."""
    text = EXAMPLE.read_text(encoding="utf-8")
    switched_on = tmp_path / "eclusa.toml"
    switched_on.write_text(re.sub(r"(?m)^# (?=\w+ = )", "", text), encoding="utf-8")

    plain, spelled_out = (
        ReceiptProfile.model_validate(
            connections.load(path).connections["main"].profiles[PHYSICAL_RECEIPT.kind]
        )
        for path in (EXAMPLE, switched_on)
    )

    assert plain == spelled_out
    steps = {step.name: step for step in PHYSICAL_RECEIPT.steps}
    assert steps["validate"].timed(plain.timings["validate"]) == steps["validate"]
