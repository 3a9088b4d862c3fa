"""Server-sent events: made into bytes once per process, however many listen."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import structlog
from starlette.responses import Response

from service import events

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.types import Receive, Scope, Send

log = structlog.get_logger()

KEEP_ALIVE_SECONDS = 15.0
STALLED_SECONDS = 30.0
"""A client that takes nothing for so long is disconnected."""

FAREWELL_SECONDS = 1.0
MEDIA_TYPE = "text/event-stream"
RETRY = b"retry: 1000\n\n"
KEEP_ALIVE = b": keep-alive\n\n"


class Draining(asyncio.Event):
    """Set when the server is told to stop: open streams end, and clients reconnect elsewhere."""


def encode(event: events.Event) -> bytes:
    """An event as the lines of a stream."""
    return f"id: {event.id}\nevent: {event.type}\ndata: {event.text}\n\n".encode()


class EventStream(Response):
    """Streams events until they end, the client goes, or the server drains.

    A listener that is too slow is disconnected; it goes on with Last-Event-ID.
    """

    media_type = MEDIA_TYPE

    def __init__(self, told: AsyncGenerator[events.Event], draining: Draining) -> None:
        self.status_code = 200
        self.background = None
        self.body = b""
        self.init_headers({"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._told = told
        self._draining = draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        del scope
        headers = [pair for pair in self.raw_headers if pair[0] != b"content-length"]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        sending = asyncio.create_task(self._send_all(send), name="event stream")
        leaving = asyncio.create_task(_disconnected(receive), name="event stream disconnect")
        draining = asyncio.create_task(_drained(self._draining), name="event stream drain")
        tasks = {sending, leaving, draining}
        try:
            while not (await asyncio.wait(tasks, timeout=KEEP_ALIVE_SECONDS, return_when=ANY))[0]:
                with contextlib.suppress(TimeoutError):
                    await _chunk(send, KEEP_ALIVE, FAREWELL_SECONDS)
            left = leaving.done()
        finally:
            await events.end(*tasks)
        _tell_trouble(sending)
        if not left:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FAREWELL_SECONDS):
                    await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_all(self, send: Send) -> None:
        async with contextlib.aclosing(self._told) as told:
            await _chunk(send, RETRY, STALLED_SECONDS)
            async for event in told:
                await _chunk(send, encode(event), STALLED_SECONDS)


ANY = asyncio.FIRST_COMPLETED


def _tell_trouble(sending: asyncio.Task[None]) -> None:
    """Log why a stream ended early; its client goes on with Last-Event-ID, perhaps elsewhere."""
    error = None if sending.cancelled() else sending.exception()
    if isinstance(error, events.SlowListener | TimeoutError):
        log.warning("event_listener_too_slow")
    elif error is not None:
        log.error("event_stream_broke", exc_info=error)


async def _chunk(send: Send, body: bytes, seconds: float) -> None:
    async with asyncio.timeout(seconds):
        await send({"type": "http.response.body", "body": body, "more_body": True})


async def _drained(draining: Draining) -> None:
    await draining.wait()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
