"""Below HTTP: closing a connection without an answer, and answering as HTTP/1.0."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    import asyncio

    from starlette.types import Receive, Scope, Send

CLOSE = "simulator.close"
NEW_LINE, OLD_LINE = b"HTTP/1.1 ", b"HTTP/1.0 "


class ClosableProtocol(HttpToolsProtocol):
    """Lets the application close the connection of a request through its scope."""

    def on_headers_complete(self) -> None:
        """Add the means to close before the application starts."""
        self.scope["extensions"] = {CLOSE: cast("dict[object, object]", {"close": self._hang_up})}
        super().on_headers_complete()

    def _hang_up(self) -> None:
        self.transport.close()


class OldTransport:
    """A transport whose answers say HTTP/1.0, as a server without a proxy does."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write, changing the version in a status line."""
        if data.startswith(NEW_LINE):
            data = OLD_LINE + data[len(NEW_LINE) :]
        self._transport.write(data)


class OneAnswerProtocol(ClosableProtocol):
    """Answers one request as HTTP/1.0 and closes."""

    def connection_made(  # type: ignore[override]  # as uvicorn's own signature
        self, transport: asyncio.Transport
    ) -> None:
        """Put the old status line between the protocol and its transport."""
        super().connection_made(cast("asyncio.Transport", OldTransport(transport)))


class HangUp(Response):
    """No answer: the connection closes."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - nothing is sent
        """Close, and wait until the server has noticed, so that it sends nothing either."""
        scope["extensions"][CLOSE]["close"]()
        while (await receive())["type"] != "http.disconnect":
            pass
