"""Sheets of settlements, as people make them."""

from __future__ import annotations

import io
from typing import Any

import openpyxl

HEADER = ("tipo", "NF", "parcela", "referência", "data", "diário", "valor", "desconto")


def row(number: int = 1, **values: Any) -> list[Any]:
    """A row that is right, but for `values` by the name of their column."""
    given = {
        "tipo": "a receber",
        "NF": 140_000 + number,
        "parcela": 1,
        "referência": f"extrato linha {number}",
        "data": "20/11/2026",
        "diário": 12,
        "valor": 980.10,
        "desconto": None,
        **values,
    }
    return [given[name] for name in HEADER]


def xlsx(*rows: list[Any], header: tuple[Any, ...] = HEADER) -> bytes:
    """A workbook of one sheet."""
    book = openpyxl.Workbook()
    sheet = book.worksheets[0]
    for cells in (header, *rows):
        sheet.append(list(cells))
    content = io.BytesIO()
    book.save(content)
    return content.getvalue()


def csv(*rows: list[Any], delimiter: str = ";", header: tuple[Any, ...] = HEADER) -> str:
    """The same as text; amounts as they are given."""
    texts = [["" if cell is None else str(cell) for cell in cells] for cells in (header, *rows)]
    return "".join(delimiter.join(cells) + "\r\n" for cells in texts)
