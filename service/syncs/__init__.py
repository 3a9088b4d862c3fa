"""The catalogue of syncs that are ready to run.

An installed package adds its own through the entry point group `eclusa.syncs`; each entry point
loads a `service.sync.ready.ReadySync`. The tables of a sync are its package's to make.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from service.errors import Misconfigured
from service.sync.ready import ReadySync
from service.syncs.cte import CTE
from service.syncs.purchase_orders import PURCHASE_ORDERS
from service.syncs.sales_backlog import SALES_BACKLOG

if TYPE_CHECKING:
    from collections.abc import Mapping

GROUP = "eclusa.syncs"

OWN = (CTE, PURCHASE_ORDERS, SALES_BACKLOG)


def catalog() -> Mapping[str, ReadySync]:
    """All ready syncs by name; raises `Misconfigured` when an installed one is none."""
    found = {ready.name: ready for ready in OWN}
    for entry in entry_points(group=GROUP):
        ready = entry.load()
        if not isinstance(ready, ReadySync):
            raise Misconfigured(f"the entry point {entry.name} of {GROUP} is no sync")
        if ready.name in found:
            raise Misconfigured(f"two syncs are named {ready.name!r}")
        found[ready.name] = ready
    return found
