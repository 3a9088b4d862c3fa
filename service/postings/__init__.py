"""The catalogue of postings.

An installed package adds its own through the entry point group `eclusa.postings`; each entry point
loads a `service.posting.step.Definition`.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from service.errors import Misconfigured
from service.posting.step import Definition
from service.postings.freight_cte import FREIGHT_CTE
from service.postings.freight_expense import FREIGHT_EXPENSE
from service.postings.physical_receipt import PHYSICAL_RECEIPT
from service.postings.title_settlement import TITLE_SETTLEMENT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.posting.step import AnyDefinition

GROUP = "eclusa.postings"
BUILT_IN: tuple[AnyDefinition, ...] = (
    FREIGHT_CTE,
    FREIGHT_EXPENSE,
    PHYSICAL_RECEIPT,
    TITLE_SETTLEMENT,
)


def catalog() -> Mapping[str, AnyDefinition]:
    """All definitions by kind; raises `Misconfigured` when an installed one is none."""
    definitions: dict[str, AnyDefinition] = {one.kind: one for one in BUILT_IN}
    for entry in entry_points(group=GROUP):
        definition = entry.load()
        if not isinstance(definition, Definition):
            raise Misconfigured(f"the entry point {entry.name} of {GROUP} is no definition")
        if definition.kind in definitions:
            raise Misconfigured(f"two definitions are of the kind {definition.kind!r}")
        definitions[definition.kind] = definition
    return definitions
