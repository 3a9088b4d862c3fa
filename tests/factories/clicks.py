"""A client process that sends one request many times at one moment, each time over its own line.

It reads one JSON object from its standard input (`urls`, `key`, `count`, `body`), connects, says
`ready`, and sends when the next line comes. Then it prints all answers: status and body of each.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from typing import Any

import httpx

TIMEOUT_SECONDS = 30


async def send(order: dict[str, Any]) -> list[tuple[int, Any]]:
    """Send as ordered; the answers."""
    urls = list(itertools.islice(itertools.cycle(order["urls"]), order["count"]))
    client = httpx.AsyncClient(
        headers={"Authorization": f"Bearer {order['key']}"},
        timeout=TIMEOUT_SECONDS,
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=None),
    )
    async with client:
        await asyncio.gather(*(client.get(f"{url}/healthz") for url in urls))
        say("ready")
        await asyncio.to_thread(sys.stdin.readline)
        answers = await asyncio.gather(
            *(client.post(f"{url}/v1/postings", json=order["body"]) for url in urls)
        )
    return [(answer.status_code, answer.json()) for answer in answers]


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    say(json.dumps(asyncio.run(send(json.loads(sys.stdin.readline())))))
