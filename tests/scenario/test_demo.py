"""The demonstrations, as `make demo` and `make sync-demo` run them."""

from __future__ import annotations

import asyncio
import re
import sys

import psutil
import pytest
from rich.console import Console

from service.demos.receipt import ReceiptDemo
from service.demos.settlement import SettlementDemo
from service.sync_demo import LINE, SyncDemo

MOST_SECONDS = 60.0


@pytest.mark.timeout(90)
async def test_the_demonstration_completes_and_leaves_nothing_behind() -> None:
    """Its last line counts at least six completed postings, and no process stays."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "service", "demo", stdout=asyncio.subprocess.PIPE
    )
    seen: dict[int, psutil.Process] = {}

    async def watch() -> None:
        while process.returncode is None:
            for child in psutil.Process(process.pid).children(recursive=True):
                seen.setdefault(child.pid, child)
            await asyncio.sleep(0.2)

    watching = asyncio.create_task(watch())
    output, _ = await asyncio.wait_for(process.communicate(), MOST_SECONDS)
    watching.cancel()

    last = output.decode().splitlines()[-1]
    counted = re.fullmatch(r"demo: (\d+) postings completed, 0 failed, 16/16 steps, [\d.]+ s", last)
    assert counted, last
    assert int(counted[1]) >= 6
    assert process.returncode == 0
    assert seen
    _, alive = psutil.wait_procs(list(seen.values()), timeout=5)
    assert alive == []


class _Receipts(ReceiptDemo):
    """All is as it should be; then somebody has counted the stock of the first receipt."""

    async def judge(self) -> list[list[str]]:
        assert [problems for problems in await super().judge() if problems] == []
        [killed, *_] = self._cases
        [quant, *_] = await self.records("stock.quant", ["product_id", "in", killed.products])
        await self.person("stock.quant", "write", [quant["id"]], {"quantity": 1})
        return await super().judge()


class _Settlements(SettlementDemo):
    """All is as it should be; then the first payment is in draft again."""

    async def judge(self) -> list[list[str]]:
        assert [problems for problems in await super().judge() if problems] == []
        [killed, *_] = self._cases
        [payment, *_] = await self.records("account.payment")
        await self.person("account.move", "button_draft", [payment["move_id"][0]])
        judged = await super().judge()
        await self.person("account.payment", "copy", [payment["id"]])
        found = await self.wrong(killed)
        assert [problem for problem in found if "payments in Odoo in place of" in problem]
        return judged


@pytest.mark.timeout(90)
@pytest.mark.parametrize(
    ("kind", "last", "told"),
    [
        pytest.param(
            _Receipts,
            r"demo: 7 postings completed, 1 failed, 8/8 steps, [\d.]+ s",
            "in stock: 1.0 of",
            id="receipts",
        ),
        pytest.param(
            _Settlements,
            r"demo: 9 postings completed, 1 failed, 29/29 steps, [\d.]+ s",
            "R$ 1000.0 of the title are open in place of R$ 0.00",
            id="settlements",
        ),
    ],
)
async def test_a_demonstration_asks_odoo_what_it_has(
    kind: type[ReceiptDemo | SettlementDemo], last: str, told: str
) -> None:
    """All cases go well through their troubles, and what is changed afterwards is found out."""
    console = Console(record=True, width=400)

    assert await kind(console).run() == 1

    output = console.export_text()
    assert re.fullmatch(last, output.splitlines()[-1])
    assert told in output


class _Meddled(SyncDemo):
    """Somebody writes in Odoo between the last sync and the comparison."""

    async def _compare(self) -> None:
        await self._scene.tell_odoo("changes", {"action": "write", "model": LINE, "count": 3})
        await self._scene.tell_odoo("changes", {"action": "delete", "model": LINE, "count": 1})
        await super()._compare()


@pytest.mark.timeout(90)
@pytest.mark.parametrize(
    ("kind", "code", "last"),
    [
        (SyncDemo, 0, r"sync-demo: mirror equals source, \d+ rows, \d+ calls"),
        (_Meddled, 1, r"sync-demo: mirror differs from source: \d+ in order_lines, \d+ calls"),
    ],
)
async def test_the_demonstration_of_syncs_compares_every_row(
    kind: type[SyncDemo], code: int, last: str
) -> None:
    """It ends with a line that says so, and with an exit code of its own when they differ."""
    console = Console(record=True, width=200)

    assert await kind(console, lines=1_000).run() == code

    assert re.fullmatch(last, console.export_text().splitlines()[-1])
