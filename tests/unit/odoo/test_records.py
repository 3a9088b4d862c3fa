"""How Odoo's values become Python's."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from service.odoo import errors, records


def read(method: str, value: Any) -> Any:
    """Read `value` by one of the methods of a record."""
    record = records.Record("res.partner", {"id": 5, "field": value})
    return getattr(record, method)("field")


@pytest.mark.parametrize(
    ("method", "value", "meant"),
    [
        pytest.param("text", "abc", "abc", id="text"),
        pytest.param("text", False, None, id="text empty"),
        pytest.param("text", None, None, id="text none"),
        pytest.param("text", "", None, id="text of no length"),
        pytest.param("flag", True, True, id="flag set"),
        pytest.param("flag", False, False, id="flag not set"),
        pytest.param("number", 3, Decimal(3), id="whole number"),
        pytest.param("number", Decimal("1.10"), Decimal("1.10"), id="number"),
        pytest.param("number", False, Decimal(0), id="number empty"),
        pytest.param("number", None, Decimal(0), id="number none"),
        pytest.param("ref", [7, "Name"], 7, id="many2one"),
        pytest.param("ref", 7, 7, id="many2one, id alone"),
        pytest.param("ref", False, None, id="many2one empty"),
        pytest.param("ref_name", [7, "Name"], "Name", id="many2one's name"),
        pytest.param("ref_name", False, None, id="many2one's name, empty"),
        pytest.param("refs", [1, 2], (1, 2), id="ids"),
        pytest.param("refs", [], (), id="no ids"),
        pytest.param("day", "2026-01-31", date(2026, 1, 31), id="date"),
        pytest.param("day", "2026-01-31 10:00:00", date(2026, 1, 31), id="date of a time"),
        pytest.param("day", False, None, id="date empty"),
        pytest.param(
            "moment", "2026-01-31 10:05:06", datetime(2026, 1, 31, 10, 5, 6, tzinfo=UTC), id="time"
        ),
        pytest.param("moment", False, None, id="time empty"),
    ],
)
def test_value_is_read_as_meant(method: str, value: Any, meant: Any) -> None:
    """Each value becomes the Python value that is meant, of exactly that type."""
    found = read(method, value)

    assert found == meant
    assert type(found) is type(meant)


@pytest.mark.parametrize(
    ("method", "value"),
    [
        pytest.param("text", 5, id="text"),
        pytest.param("flag", "yes", id="flag"),
        pytest.param("flag", 1, id="flag as number"),
        pytest.param("number", "1.10", id="number as text"),
        pytest.param("ref", "7", id="many2one as text"),
        pytest.param("ref", [], id="many2one of no length"),
        pytest.param("refs", False, id="ids empty"),
        pytest.param("refs", 7, id="ids as one"),
    ],
)
def test_shape_that_odoo_never_sends_is_refused(method: str, value: Any) -> None:
    """A shape that Odoo never sends is an unexpected answer that names the field."""
    with pytest.raises(errors.UnexpectedAnswer, match=r"res\.partner\.field"):
        read(method, value)


@pytest.mark.parametrize("method", ["text", "flag", "number", "ref", "refs", "day", "moment"])
def test_field_that_was_not_read_is_refused(method: str) -> None:
    """A field that is not in the answer is an error, and not an empty value."""
    record = records.Record("res.partner", {"id": 5})

    with pytest.raises(errors.UnexpectedAnswer, match="nothing"):
        getattr(record, method)("field")


def test_id_is_a_number() -> None:
    """The id of a record is read by itself."""
    assert records.Record("res.partner", {"id": 5}).id == 5
