"""The limit on the size of a request's body."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.api import problems

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


class _TooLarge(Exception):
    pass


class BodyLimit:
    """Refuses a body above `most_bytes` before it is read whole.

    The connection stays open: the server discards the rest of the body, so that a client that
    sends all of it before it reads gets the answer and not a reset.
    """

    def __init__(self, app: ASGIApp, most_bytes: int) -> None:
        self._app = app
        self._most_bytes = most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, counting its body."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if not announced.isdigit() or int(announced) > self._most_bytes:
            await self._refuse(scope, receive, send)
            return
        read = 0
        begun = False

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._most_bytes:
                raise _TooLarge
            return message

        async def watched(message: Message) -> None:
            """Pass the answer on, unless it only says that the body could not be read."""
            nonlocal begun
            if begun or read <= self._most_bytes:
                begun = True
                await send(message)

        try:
            await self._app(scope, counted, watched)
        except _TooLarge:
            if begun:
                raise
        if not begun:
            await self._refuse(scope, receive, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = f"may have {self._most_bytes} bytes at most"
        field = problems.FieldProblem(field="body", message=message, code="too_large")
        refusal = problems.response(413, "too_large", f"The body {message}.", fields=[field])
        await refusal(scope, receive, send)
