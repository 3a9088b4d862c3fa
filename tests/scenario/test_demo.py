"""The demonstration, as `make demo` runs it."""

from __future__ import annotations

import asyncio
import re
import sys

import psutil
import pytest

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
