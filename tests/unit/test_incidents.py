"""The page of incidents is whole, and every test that it names exists."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "incidents.md"
NUMBERS = range(1, 58)
ROW = re.compile(r"^\| (\d+) \| (.+) \| (.+) \|$", re.MULTILINE)
TEST = re.compile(r"`(tests/[^`]+)::(\w+)`")
REASONS = ("cannot happen: ", "no concern: ")


def rows() -> list[tuple[int, str, str]]:
    """Number, incident, and what keeps it out."""
    found = ROW.findall(PAGE.read_text(encoding="utf-8"))
    return [(int(number), incident, answer) for number, incident, answer in found]


@cache
def names_in(path: str) -> frozenset[str]:
    """The names of a file's tests, of the file itself and of its classes."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return frozenset(
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
    )


def test_no_incident_is_missing() -> None:
    """They are numbered from 1 without gaps, and none is told twice."""
    assert [number for number, _, _ in rows()] == list(NUMBERS)
    incidents = [incident for _, incident, _ in rows()]
    assert len(set(incidents)) == len(incidents)


@pytest.mark.parametrize("number", NUMBERS)
def test_an_incident_is_answered_by_tests_that_exist_or_by_a_reason(number: int) -> None:
    """A test that was renamed or removed is missed here."""
    [answer] = [answer for given, _, answer in rows() if given == number]
    named = TEST.findall(answer)

    missing = [f"{path}::{name}" for path, name in named if name not in names_in(path)]

    assert missing == []
    assert named or answer.startswith(REASONS)
    assert answer.count("::") == len(named), "a test is not named as `path::name`"
