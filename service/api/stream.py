"""Server-sent events: encoded once per process, however many listen."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from starlette.responses import Response

from service import documents
from service.events import SlowListener

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import Receive, Scope, Send

    from service.events import Event

KEEP_ALIVE_SECONDS = 15.0
MEDIA_TYPE = "text/event-stream"
RETRY = b"retry: 1000\n"
KEEP_ALIVE = b": keep-alive\n\n"


class Draining(asyncio.Event):
    """Set when the server is told to stop: open streams end, and clients reconnect elsewhere."""


def encode(event: Event) -> bytes:
    """An event as the lines of a stream."""
    return (
        f"id: {event.id}\nevent: {event.type}\ndata: {documents.to_json(event.data)}\n\n".encode()
    )


class EventStream(Response):
    """Streams events until they end, the client goes, or the server drains.

    A listener that is too slow is disconnected; it goes on with Last-Event-ID.
    """

    media_type = MEDIA_TYPE

    def __init__(self, events: AsyncIterator[Event], draining: Draining) -> None:
        self.status_code = 200
        self.background = None
        self.body = b""
        self.init_headers({"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._events = events
        self._draining = draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        del scope
        headers = [pair for pair in self.raw_headers if pair[0] != b"content-length"]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        tasks = [
            asyncio.create_task(self._send_all(send), name="event stream"),
            asyncio.create_task(_keep_alive(send), name="event stream keep-alive"),
            asyncio.create_task(_disconnected(receive), name="event stream disconnect"),
            asyncio.create_task(self._draining.wait(), name="event stream drain"),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if tasks[2] not in done:
            with contextlib.suppress(OSError):
                await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_all(self, send: Send) -> None:
        await _chunk(send, RETRY)
        with contextlib.suppress(SlowListener):
            async for event in self._events:
                await _chunk(send, encode(event))


async def _chunk(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def _keep_alive(send: Send) -> None:
    while True:
        await asyncio.sleep(KEEP_ALIVE_SECONDS)
        await _chunk(send, KEEP_ALIVE)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
