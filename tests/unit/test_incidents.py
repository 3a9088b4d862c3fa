"""The table of incidents names tests that exist, and leaves no incident without an answer."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROW = re.compile(r"^\| (\d+) \| (.+?) \| (.+) \|$", re.MULTILINE)
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
REASONS = ("Not there yet: ", "Cannot occur: ", "Does not concern Eclusa: ")
COUNT = 57


def rows() -> list[tuple[int, str]]:
    """Number and answer of each incident."""
    text = (ROOT / "docs" / "incidents.md").read_text(encoding="utf-8")
    return [(int(number), answer) for number, _, answer in ROW.findall(text)]


def defined_in(path: str) -> set[str]:
    """The names of the tests that a file defines."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(tree) if isinstance(node, functions)}


def test_every_incident_is_there() -> None:
    """Numbered from 1 without a gap."""
    assert [number for number, _ in rows()] == list(range(1, COUNT + 1))


def test_every_incident_has_a_test_or_a_reason() -> None:
    """Nothing is left unanswered."""
    unanswered = [
        number
        for number, answer in rows()
        if not NAMED.search(answer) and not answer.startswith(REASONS)
    ]

    assert unanswered == []


def test_every_named_test_exists() -> None:
    """A renamed test is renamed in the table too."""
    named = {pair for _, answer in rows() for pair in NAMED.findall(answer)}
    missing = [f"{path}::{name}" for path, name in sorted(named) if name not in defined_in(path)]

    assert len(named) > COUNT // 2
    assert missing == []
