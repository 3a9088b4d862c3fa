"""Rules that several syncs share: conditions on CNPJs and dates, and places written as text."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date

    from service.odoo.records import Domain

_ROOT = re.compile(r"[0-9A-Z]{8}")
_PLACE = re.compile(r"^(?P<city>.*?)\s*\((?P<state>[A-Z]{2})\)$")


def _cnpj_root(given: str) -> str:
    root = re.sub(r"[^0-9A-Z]", "", given.upper())
    if not _ROOT.fullmatch(root):
        raise ValueError("must be the first 8 characters of a CNPJ")
    return root


CnpjRoot = Annotated[str, AfterValidator(_cnpj_root)]
"""The first eight characters of a CNPJ: the company without its branch. Letters are valid."""


def without_roots(field: str, roots: Iterable[str]) -> Domain:
    """A domain that leaves out the CNPJs of some roots, with and without punctuation."""
    domain: Domain = []
    for root in roots:
        written = f"{root[:2]}.{root[2:5]}.{root[5:]}"
        domain += ["!", "|", [field, "=like", f"{root}%"], [field, "=like", f"{written}%"]]
    return domain


def root_of(cnpj: str | None) -> str | None:
    """The root of a CNPJ as it is written anywhere; None when there is none."""
    plain = re.sub(r"[^0-9A-Z]", "", (cnpj or "").upper())
    return plain[:8] or None


def since(field: str, day: date | None) -> Domain:
    """A domain for times from the beginning of a day, in UTC."""
    if day is None:
        return []
    return [[field, ">=", datetime.combine(day, time(), UTC).strftime("%Y-%m-%d %H:%M:%S")]]


def city_of(place: str | None) -> str | None:
    """The city of `City (UF)`; a place that is written otherwise is the city."""
    found = _PLACE.match(place or "")
    return found["city"] if found else place


def state_of(place: str | None) -> str | None:
    """The federal unit of `City (UF)`."""
    found = _PLACE.match(place or "")
    return found["state"] if found else None
