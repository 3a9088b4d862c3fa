"""An empty sheet to fill in: the header, and one row as an example."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

import openpyxl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.sheets.column import Column


def xlsx(columns: Sequence[Column]) -> bytes:
    """As a workbook; every cell is a text, which is read for sure."""
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("Eclusa")
    for row in _rows(columns):
        sheet.append(row)
    content = io.BytesIO()
    book.save(content)
    return content.getvalue()


def csv_text(columns: Sequence[Column]) -> bytes:
    """As CSV with semicolons and a byte order mark, which Excel opens as it is."""
    content = io.StringIO(newline="")
    csv.writer(content, delimiter=";").writerows(_rows(columns))
    return content.getvalue().encode("utf-8-sig")


def _rows(columns: Sequence[Column]) -> list[list[str]]:
    return [[column.field for column in columns], [column.example for column in columns]]
