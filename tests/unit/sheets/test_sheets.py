"""Cells, lines and templates: what is read, and what is refused as it could mean two things."""

from __future__ import annotations

import datetime as dt
import io
import re
import zipfile
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from service import cli
from service.errors import InvalidInput
from service.postings.title_settlement.columns import COLUMNS
from service.postings.title_settlement.settlement import SettlementInput
from service.sheets import lines, table
from service.sheets.column import YES_OR_NO, Column, WrongCell
from tests.factories import sheets

if TYPE_CHECKING:
    from pathlib import Path

    from service.sheets.column import Cell, Kind


def value(kind: Kind, cell: Cell) -> Any:
    """What a cell of a column means."""
    return Column(field="x", kind=kind, words=YES_OR_NO).value(cell)


@pytest.mark.parametrize(
    ("cell", "amount"),
    [
        ("1234.56", "1234.56"),
        ("1.234,56", "1234.56"),
        ("1,234.56", "1234.56"),
        ("1.234.567,8", "1234567.8"),
        ("1,234,567.89", "1234567.89"),
        ("1.234.567", "1234567"),
        ("1234", "1234"),
        ("R$ 10,00", "10.00"),
        ("R$ 10", "10"),
        (" 0,1 ", "0.1"),
        ("-5,00", "-5.00"),
        (Decimal("980.1"), "980.1"),
        (Decimal(980), "980"),
        (Decimal("1E+3"), "1000"),
    ],
)
def test_an_amount_means_one_thing(cell: Cell, amount: str) -> None:
    """Whoever reads it."""
    assert value("amount", cell) == Decimal(amount)


@pytest.mark.parametrize(
    ("cell", "code"),
    [
        ("1.234", "ambiguous_amount"),
        ("1,234", "ambiguous_amount"),
        ("0,123", "ambiguous_amount"),
        ("R$ 12.345", "ambiguous_amount"),
        ("1234,567", "too_many_decimals"),
        ("1.234,567", "too_many_decimals"),
        (Decimal("0.30000000000000004"), "too_many_decimals"),
        ("1.23.456", "too_many_decimals"),
        ("12.34,56", "no_amount"),
        ("1,2,3", "no_amount"),
        ("ten", "no_amount"),
        ("1e3", "no_amount"),
        ("١٢", "no_amount"),
        (dt.datetime(2026, 11, 20), "no_amount"),  # noqa: DTZ001  Excel has no zone
        (True, "no_amount"),
    ],
)
def test_an_amount_that_could_mean_two_things_is_wrong(cell: Cell, code: str) -> None:
    """And so is what is none."""
    with pytest.raises(WrongCell) as wrong:
        value("amount", cell)

    assert wrong.value.code == code


@pytest.mark.parametrize("cell", ["05/06/2026", "5/6/2026", "2026-06-05", " 05/06/2026 "])
def test_the_day_comes_first(cell: Cell) -> None:
    """Where slashes stand, as in Brazil."""
    assert value("date", cell) == dt.date(2026, 6, 5)


@pytest.mark.parametrize(
    ("kind", "cell", "code"),
    [
        ("date", "20/11/26", "no_date"),
        ("date", "11/20/2026", "no_date"),
        ("date", "20.11.2026", "no_date"),
        ("date", Decimal(46_346), "no_date"),
        ("date", dt.datetime(2026, 11, 20, 10), "date_with_time"),  # noqa: DTZ001  as above
        ("whole", "1,0", "no_whole_number"),
        ("whole", Decimal("1.5"), "no_whole_number"),
        ("whole", "9" * 40, "no_whole_number"),
        ("whole", True, "no_whole_number"),
        ("text", dt.datetime(2026, 11, 20), "no_text"),  # noqa: DTZ001  as above
        ("word", "perhaps", "unknown_word"),
    ],
)
def test_a_cell_of_another_kind_is_wrong(kind: Kind, cell: Cell, code: str) -> None:
    """With a reason."""
    with pytest.raises(WrongCell) as wrong:
        value(kind, cell)

    assert wrong.value.code == code


@pytest.mark.parametrize(
    ("kind", "cell", "wanted"),
    [
        ("whole", Decimal("12.0"), 12),
        ("whole", "0012", 12),
        ("text", Decimal(141_787), "141787"),
        ("text", "  a \u00a0 b ", "a b"),
        ("word", "Não", False),
        ("word", True, True),
        ("date", "  ", None),
        ("amount", None, None),
    ],
)
def test_a_cell_is_read_as_its_column_is(kind: Kind, cell: Cell, wanted: object) -> None:
    """An empty one is nothing."""
    assert value(kind, cell) == wanted


def codes(content: bytes) -> list[tuple[int | None, str]]:
    """The lines and codes of what is wrong in the rows of a file."""
    return [
        (problem.line, problem.code)
        for row in table.read(content, COLUMNS)
        for problem in row.problems
    ]


def test_lines_are_numbered_as_a_person_sees_them() -> None:
    """With empty lines, and with cells of several lines."""
    good = sheets.csv(sheets.row())
    header, _, rest = good.partition("\r\n")
    content = f"\r\n{header}\r\n\r\n{rest.replace('extrato', chr(34) + 'a')}".replace(
        "linha 1", 'b\r\nc"'
    )

    found = [line.number for line in lines.read(f"{content}{rest}".encode())]

    assert found == [2, 4, 6]


def test_a_comma_that_is_not_in_quotes_is_told() -> None:
    """The amount would lose its cents, and every cell after it would stand in the wrong column."""
    content = sheets.csv(sheets.row(valor="980,10"), delimiter=",")

    assert codes(content.encode()) == [(2, "cell_count")]


def test_a_line_that_is_cut_short_is_told() -> None:
    """It may lack any cell."""
    content = sheets.csv(sheets.row()) + "a receber;1;1\r\n"

    assert codes(content.encode()) == [(3, "cell_count")]


def test_a_cell_without_a_column_is_told() -> None:
    """It may be an amount that somebody counts on."""
    header = ("", *sheets.HEADER[1:])

    with pytest.raises(InvalidInput) as refused:
        table.read(sheets.xlsx(sheets.row(), header=header), COLUMNS)
    beside = sheets.xlsx([*sheets.row(), None, 20])

    assert refused.value.problems[0].column == "direction"
    assert codes(beside) == [(2, "no_column")]


def edited(pattern: str, replacement: str) -> bytes:
    """A workbook of one row whose sheet is changed below its header."""
    made = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(sheets.xlsx(sheets.row()))) as source,
        zipfile.ZipFile(made, "w") as target,
    ):
        for part in source.infolist():
            text = source.read(part)
            if part.filename == "xl/worksheets/sheet1.xml":
                changed = re.sub(pattern, replacement, text.decode())
                assert changed != text.decode()
                text = changed.encode()
            target.writestr(part, text)
    return made.getvalue()


CELL = '<c r="G2"[^>]*>.*?</c>'


@pytest.mark.parametrize(
    ("cell", "code"),
    [
        ('<c r="G2"><f>A1+1</f></c>', "formula_without_value"),
        ('<c r="G2" t="e"><v>#N/A</v></c>', "error_value"),
        ('<c r="G2"><f>A1+1</f><v>0.30000000000000004</v></c>', "too_many_decimals"),
        ('<c r="G2" t="b"><v>1</v></c>', "no_amount"),
    ],
)
def test_a_cell_without_a_value_is_no_empty_one(cell: str, code: str) -> None:
    """Else a discount that was computed would be left out in silence."""
    assert codes(edited(CELL, cell)) == [(2, code)]


def test_a_formula_has_the_value_that_was_saved() -> None:
    """Seventeen digits of a float are the amount that a person sees."""
    content = edited(CELL, '<c r="G2"><f>A1+1</f><v>980.10000000000002</v></c>')

    [row] = table.read(content, COLUMNS)

    assert row.given["principal"] == Decimal("980.1")


def test_a_row_that_claims_to_be_far_down_is_refused() -> None:
    """A reader would count a billion empty lines."""
    with pytest.raises(InvalidInput) as refused:
        table.read(edited('<row r="2"', '<row r="1000000000"'), COLUMNS)

    assert refused.value.problems[0].code == "too_long"


@pytest.mark.parametrize("name", ["titles.xlsx", "titles.csv"])
def test_a_template_is_a_file_that_is_read(tmp_path: Path, name: str) -> None:
    """Its columns are all known, and its example is right; it replaces no file."""
    path = tmp_path / name
    write = ["post", "--template", str(path), "--kind", "title_settlement"]

    first, second = (CliRunner().invoke(cli.app, write) for _ in range(2))

    assert (first.exit_code, second.exit_code) == (0, 2), first.output
    [row] = table.read(path.read_bytes(), COLUMNS)
    assert not row.problems
    assert SettlementInput.model_validate(row.given).discount == Decimal("20.00")


def test_every_field_of_the_input_has_a_column() -> None:
    """What can be sent as JSON can be sent as a file."""
    assert [column.field for column in COLUMNS] == list(SettlementInput.model_fields)
    required = {name for name, one in SettlementInput.model_fields.items() if one.is_required()}
    assert {column.field for column in COLUMNS if column.required} == required
