"""A worker that stands still in the middle of four calls, long enough for another one to take over.

What it knew is old when it goes on: it must call nothing and write nothing.
"""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import text

from service.simulator.faults import Fault
from tests.factories.deployed import history, timings, wrong
from tests.factories.processes import command
from tests.factories.running import WAIT_SECONDS, Stage, running

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from service.settings import Settings

PAUSE_SECONDS = 30.0
HEARTBEAT_SECONDS = 4.0
LOCK_TTL_SECONDS = 15.0
SLOW_SECONDS = 6.0
"""Long enough that the other worker comes while Odoo still works on the call."""

OVERLAP_SECONDS = 30.0
"""So long the other worker's last call takes, so that it is in it when the first one wakes."""

CALLED = {
    6: "action_gerar_po_dfe",
    9: "button_confirm",
    11: "action_create_invoice",
    15: "action_post",
}
"""The steps that the worker is stopped in, one posting in each."""


async def reach(stage: Stage, posting_id: str, wanted: str) -> None:
    """Wait until the last audit record of a posting is of a step and action, such as `6 start`."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            last = (await stage.runtime.ledger.history(UUID(posting_id)))[-1]
            if f"{last.step} {last.action}" == wanted:
                return
            await asyncio.sleep(0.02)


async def shows_life(stage: Stage, process: asyncio.subprocess.Process) -> None:
    """Wait until a worker process has shown that it lives, twice from now on."""
    query = text("SELECT seen_at FROM worker WHERE id LIKE '%:' || :pid || '-%'")
    seen: set[Any] = set()
    async with asyncio.timeout(WAIT_SECONDS):
        while len(seen) < 3:
            async with stage.runtime.database.transaction() as connection:
                seen.add(await connection.scalar(query, {"pid": str(process.pid)}))
            await asyncio.sleep(0.02)


def check_who_did_what(
    audit: Sequence[Mapping[str, Any]], step: int, first_pid: int, second_pid: int
) -> None:
    """The first worker called up to `step`, the second one settled that call and made the rest."""
    claims = [(one["fence"], one["message"]) for one in audit if one["action"] == "claim"]
    assert [fence for fence, _ in claims] == [1, 2]
    assert claims[0][1].startswith("claimed by ")
    assert claims[1][1].startswith("taken over by ")
    assert f":{first_pid}-" in claims[0][1]
    assert f":{second_pid}-" in claims[1][1]
    called: dict[int, list[int]] = {
        fence: [one["step"] for one in audit if one["action"] == "start" and one["fence"] == fence]
        for fence in (1, 2)
    }
    assert called[1][-1] == step
    assert all(number > step for number in called[2])
    [sent] = [one for one in audit if one["action"] == "start" and one["step"] == step]
    [settled] = [one for one in audit if one["action"] == "settle"]
    assert (sent["fence"], sent["method"]) == (1, CALLED[step])
    assert (settled["fence"], settled["step"], settled["settles"]) == (2, step, sent["seq"])


async def test_a_worker_paused_in_four_calls_does_nothing_when_it_wakes(
    settings: Settings, tmp_path: Path
) -> None:
    """Its four postings are completed by another worker, the last one under its eyes."""
    settings = settings.model_copy(
        update={"heartbeat_seconds": HEARTBEAT_SECONDS, "lock_ttl_seconds": LOCK_TTL_SECONDS}
    )
    loop = asyncio.get_running_loop()
    times = timings(timeout=60, settle=90)
    async with running(settings, with_worker=False, timings=times) as stage:
        received = stage.simulator.world.received
        documents = {step: stage.arrive() for step in CALLED}
        for step, document in documents.items():
            stage.simulator.add_fault(
                Fault(kind="slow", method=CALLED[step], key=document.key, seconds=SLOW_SECONDS)
            )
        last = Fault(kind="slow", method=CALLED[15], key=documents[6].key, seconds=OVERLAP_SECONDS)
        stage.simulator.add_fault(last)
        async with command(settings, tmp_path / "first.log", "worker") as first:
            postings = {
                step: (await stage.post(document))["id"] for step, document in documents.items()
            }
            for step, posting_id in postings.items():
                await reach(stage, posting_id, f"{step} start")
            assert stage.simulator.world.in_flight == len(CALLED)
            first.send_signal(signal.SIGSTOP)
            paused_at = loop.time()

            async with command(settings, tmp_path / "second.log", "worker") as second:
                for step, posting_id in postings.items():
                    await reach(stage, posting_id, "15 start" if step == 6 else "0 complete")
                await asyncio.sleep(paused_at + PAUSE_SECONDS - loop.time())
                before = Counter(received)
                audits = {one: await history(stage.client, one) for one in postings.values()}

                first.send_signal(signal.SIGCONT)
                await shows_life(stage, first)
                first.send_signal(signal.SIGTERM)
                assert await asyncio.wait_for(first.wait(), WAIT_SECONDS) == 0

                assert received == before
                for posting_id, known in audits.items():
                    assert await history(stage.client, posting_id) == known
                await stage.finish(postings[6])

        found = {step: await history(stage.client, one) for step, one in postings.items()}
        for step, document in documents.items():
            assert await wrong(stage.client, stage.simulator, document, postings[step]) == []
            check_who_did_what(found[step].audit, step, first.pid, second.pid)
        intents = Counter(
            f"{one['model']}.{one['method']}"
            for posting in found.values()
            for one in posting.audit
            if one["action"] == "start"
        )
        assert {name: received[name] for name in intents} == intents
