"""One document, sent two hundred times at one moment by several processes to several APIs."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from tests.factories import clicks
from tests.factories.deployed import ONCE, Paper, body, deployed
from tests.factories.running import WAIT_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from service.settings import Settings
    from tests.factories.deployed import Site

CLIENTS = 4
CLICKS = 50
ONE_LINE_BYTES = 4 * 1024 * 1024


@asynccontextmanager
async def clicker() -> AsyncIterator[asyncio.subprocess.Process]:
    """A client process."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        clicks.__file__,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=ONE_LINE_BYTES,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def say(client: asyncio.subprocess.Process, line: str) -> str:
    """Give a client process a line, and take its next one."""
    assert client.stdin is not None
    assert client.stdout is not None
    client.stdin.write(f"{line}\n".encode())
    return (await asyncio.wait_for(client.stdout.readline(), WAIT_SECONDS)).decode().strip()


async def click(site: Site, request: dict[str, Any]) -> list[tuple[int, Any]]:
    """All answers to one request, sent by all client processes at one moment."""
    order = {"urls": site.urls, "key": site.key, "count": CLICKS, "body": request}
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(clicker()) for _ in range(CLIENTS)]
        words = await asyncio.gather(*(say(client, json.dumps(order)) for client in clients))
        assert set(words) == {"ready"}
        printed = await asyncio.gather(*(say(client, "go") for client in clients))
    return [(status, answer) for line in printed for status, answer in json.loads(line)]


async def test_two_hundred_requests_for_a_document_are_one_posting(
    settings: Settings, tmp_path: Path
) -> None:
    """One is accepted; all others name its posting, as live or as completed."""
    async with deployed(settings, tmp_path, apis=2) as site:
        document = site.arrive()

        answers = await click(site, body(document))
        after = await click(site, body(document)) if await site.ended() else []

        [posting_id] = {answer.get("posting_id") or answer["id"] for _, answer in answers + after}
        counts = Counter(
            (status, answer.get("code") or answer["status"]) for status, answer in answers
        )
        live, over = counts.pop((409, "posting_live"), 0), counts.pop((200, "completed"), 0)
        assert counts == {(202, "pending"): 1}
        assert live + over == CLIENTS * CLICKS - 1
        assert Counter(status for status, _ in after) == {200: CLIENTS * CLICKS}
        assert await site.wrong([Paper(document, posting_id)]) == []
        assert [site.calls()[name] for name in ONCE] == [1, 1, 1, 1]
        async with site.runtime.database.transaction() as connection:
            assert await connection.scalar(text("SELECT count(*) FROM posting")) == 1
            assert await connection.scalar(text("SELECT count(*) FROM pgqueuer")) == 0
