"""The demonstration of syncs: Odoo's rows in a mirror, first all of them, then what changed.

Lines of sales orders are mirrored with fields of their orders, customers and products, and contacts
besides. Then rows are changed, deleted and archived, also some that only others refer to, and the
syncs run again. In the end every row of the mirror is compared with Odoo's.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from service.scene import CONNECTION, DemoFailed, open_scene

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.console import Console


LINE = "sale.order.line"
ORDER = "sale.order"
PARTNER = "res.partner"
PRODUCT = "product.product"
LINES = "order_lines"
PARTNERS = "partners"
CHANGED, DELETED, ARCHIVED = 500, 50, 20
RENAMED = 5
SYNCS = f"""
[syncs.{LINES}]
title = "Lines of sales orders"
model = "{LINE}"
fields = [
  "order_id", "order_id.state", "order_id.partner_id.name", "product_id.default_code",
  "name", "product_uom_qty", "qty_saldo", "price_unit",
]
follows = ["order_id", "order_id.partner_id", "product_id"]

[syncs.{PARTNERS}]
title = "Contacts"
model = "{PARTNER}"
fields = ["name", "l10n_br_cnpj", "city", "customer_rank"]
"""


@dataclass
class Tally:
    """What the runs of the demonstration came to."""

    calls: int = 0
    rows: int = 0
    wrong: list[str] = field(default_factory=list)


class SyncDemo:
    """Runs the demonstration once, with so many lines."""

    def __init__(self, console: Console, *, lines: int) -> None:
        self._console = console
        self._lines = lines
        self._tally = Tally()

    async def run(self) -> int:
        """Run it and answer the exit code: 0 when mirror and source are equal."""
        options = ("--documents", "0", "--sale-lines", str(self._lines))
        async with open_scene(self._console, tables=_tables, simulator=options) as self._scene:
            await self._scene.start_worker()
            await self._sync("full")
            await self._change()
            await self._sync("incremental")
            await self._compare()
        return self._report()

    # -- the play ----------------------------------------------------------------------------

    async def _sync(self, mode: str) -> None:
        for name in (LINES, PARTNERS):
            begun = time.monotonic()
            run = await self._follow(name, mode)
            took = time.monotonic() - begun
            if run["status"] != "completed":
                raise DemoFailed(f"{name}, {mode}: {run['status']} {run['code']}: {run['message']}")
            self._tally.calls += run["calls"]
            self._print(
                f"{name}, {mode}: {run['read']} rows read, {run['written']} written, "
                f"{run['removed']} removed, {run['calls']} calls, {took:.1f} s"
            )

    async def _follow(self, name: str, mode: str) -> dict[str, Any]:
        path = f"/v1/syncs/{name}/runs"
        body = {"connection": CONNECTION, "mode": mode}
        run = await self._scene.api.call("POST", path, json=body)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        shown = Progress(*columns, console=self._console, transient=True)
        with shown:
            task = shown.add_task(f"{name}, {mode}", total=None)
            async for event in self._scene.api.follow(run["id"]):
                shown.update(task, completed=event["step"], total=event["total_steps"] or None)
        ended: dict[str, Any] = await self._scene.api.call("GET", f"{path}/{run['id']}")
        return ended

    async def _change(self) -> None:
        """Change, delete and archive, and rename what the lines only refer to."""
        self._scene.say(
            f"in Odoo: {CHANGED} lines changed, {DELETED} deleted, {ARCHIVED} contacts archived, "
            f"{RENAMED} customers renamed"
        )
        changes = [
            {"action": "write", "model": LINE, "count": CHANGED},
            {"action": "delete", "model": LINE, "count": DELETED},
            {"action": "archive", "model": PARTNER, "count": ARCHIVED},
        ]
        made = await self._scene.tell_odoo("changes", changes)
        if [len(ids) for ids in made["ids"]] != [CHANGED, DELETED, ARCHIVED]:
            raise DemoFailed("the simulator did not change what it was told to")
        customers = await self._records(ORDER, ["partner_id"], limit=RENAMED)
        for order in customers:
            partner_id, name = order["partner_id"]
            args = [[partner_id], {"name": f"{name} (renamed)"}]
            call = {"model": PARTNER, "method": "write", "args": args}
            await self._scene.tell_odoo("execute", call)

    # -- every row ---------------------------------------------------------------------------

    async def _compare(self) -> None:
        self._scene.say("comparing every row")
        for name, truth in ((LINES, self._lines_truth), (PARTNERS, self._partners_truth)):
            mirrored = {row["id"]: _plain(row) for row in await self._mirrored(name)}
            source = await truth()
            self._tally.rows += len(mirrored)
            self._tally.wrong += list(_differences(name, mirrored, source))

    async def _mirrored(self, name: str) -> list[dict[str, Any]]:
        rows = self._scene.api.rows(f"/v1/mirror/{name}", connection=CONNECTION)
        return [row async for row in rows]

    async def _lines_truth(self) -> dict[int, dict[str, Any]]:
        partners = {one["id"]: one for one in await self._records(PARTNER, ["name"])}
        products = {one["id"]: one for one in await self._records(PRODUCT, ["default_code"])}
        orders = {one["id"]: one for one in await self._records(ORDER, ["partner_id", "state"])}
        own = ["order_id", "product_id", "name", "product_uom_qty", "qty_saldo", "price_unit"]
        truth = {}
        for line in await self._records(LINE, [*own, "write_date"]):
            order = orders[line["order_id"][0]]
            truth[line["id"]] = {
                "id": line["id"],
                "write_date": _rfc3339(line["write_date"]),
                "order_id": line["order_id"][0],
                "order_id_name": line["order_id"][1],
                "order_id__state": order["state"],
                "order_id__partner_id__name": partners[order["partner_id"][0]]["name"],
                "product_id__default_code": products[line["product_id"][0]]["default_code"],
                **{name: _number(line[name]) for name in own[3:]},
                "name": line["name"],
            }
        return truth

    async def _partners_truth(self) -> dict[int, dict[str, Any]]:
        own = ["name", "l10n_br_cnpj", "city", "customer_rank", "active"]
        return {
            one["id"]: {
                "id": one["id"],
                "write_date": _rfc3339(one["write_date"]),
                **{name: _empty(one[name], name) for name in own},
            }
            for one in await self._records(PARTNER, [*own, "write_date"])
        }

    async def _records(
        self, model: str, fields: Sequence[str], limit: int | None = None
    ) -> list[dict[str, Any]]:
        query = {"fields": ",".join(["id", *fields]), **({"limit": limit} if limit else {})}
        found: list[dict[str, Any]] = await self._scene.ask_odoo(f"records/{model}", **query)
        return found

    # -- what it shows -----------------------------------------------------------------------

    def _report(self) -> int:
        tally = self._tally
        for wrong in tally.wrong[:20]:
            self._print(wrong)
        if tally.wrong:
            kinds = Counter(wrong.split(":")[0] for wrong in tally.wrong)
            told = ", ".join(f"{count} in {name}" for name, count in kinds.items())
            self._print(f"sync-demo: mirror differs from source: {told}, {tally.calls} calls")
            return 1
        self._print(f"sync-demo: mirror equals source, {tally.rows} rows, {tally.calls} calls")
        return 0

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def _tables(_: object) -> str:
    return SYNCS


def _differences(
    name: str, mirrored: Mapping[int, Mapping[str, Any]], source: Mapping[int, Mapping[str, Any]]
) -> Iterator[str]:
    for record_id in sorted(mirrored.keys() | source.keys()):
        here, there = mirrored.get(record_id), source.get(record_id)
        if here != there:
            yield f"{name}: {record_id}: mirrored {json.dumps(here)}, in Odoo {json.dumps(there)}"


NUMBERS = ("product_uom_qty", "qty_saldo", "price_unit")


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """A mirrored row with numbers written as the source's are."""
    return {name: _number(value) if name in NUMBERS else value for name, value in row.items()}


def _number(value: Any) -> Any:
    return value if isinstance(value, bool) else f"{Decimal(str(value)).normalize():f}"


def _empty(value: Any, name: str) -> Any:
    return None if value is False and name != "active" else value


def _rfc3339(stamp: str) -> str:
    return f"{stamp.replace(' ', 'T')}Z"
