"""Eclusa's own client of its HTTP API, for the command line and the demonstration."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import httpx
from httpx_sse import aconnect_sse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType

RECONNECTS = 10
"""How often a stream is asked for again while it brings nothing new."""

PAUSE_SECONDS = 0.5
PASSING = (502, 503, 504)
TIMEOUT = httpx.Timeout(30.0, read=60.0)


@dataclass
class ApiError(Exception):
    """The service refused; `problem` is its answer (RFC 9457)."""

    status: int
    problem: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [str(self.problem.get("detail") or f"HTTP {self.status}")]
        lines += [
            f"  {item['field']}: {item['message']}" for item in self.problem.get("errors", [])
        ]
        return "\n".join(lines)


class ApiClient:
    """Calls the service with one key."""

    def __init__(self, url: str, key: str) -> None:
        self._http = httpx.AsyncClient(
            base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=TIMEOUT
        )

    async def __aenter__(self) -> Self:
        """Open."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def call(self, verb: str, path: str, **options: Any) -> Any:
        """One call's JSON answer; raises `ApiError` and httpx's own errors."""
        response = await self._http.request(verb, path, **options)
        if response.is_error:
            raise ApiError(response.status_code, _problem(response))
        return response.json()

    async def rows(self, path: str, **query: Any) -> AsyncIterator[dict[str, Any]]:
        """The objects of an answer that has one a line; raises `ApiError`."""
        headers = {"Accept": "application/x-ndjson"}
        async with self._http.stream("GET", path, params=query, headers=headers) as response:
            if response.is_error:
                await response.aread()
                raise ApiError(response.status_code, _problem(response))
            async for line in response.aiter_lines():
                yield json.loads(line)

    async def follow(self, job_id: str, last: int = 0) -> AsyncIterator[dict[str, Any]]:
        """The events of a job until its end; reconnects and goes on where it was cut off."""
        attempts = 0
        while attempts < RECONNECTS:
            before = last
            try:
                async for event in self._events(job_id, last):
                    last = event["id"]
                    yield event
                    if event["event"] == "end":
                        return
            except _NothingFollows:
                return
            except ApiError as error:
                if error.status not in PASSING:
                    raise
            except httpx.TransportError:
                pass
            attempts = 1 if last > before else attempts + 1
            await asyncio.sleep(PAUSE_SECONDS)
        raise ApiError(503, {"detail": f"the events of job {job_id} cannot be followed"})

    async def _events(self, job_id: str, last: int) -> AsyncIterator[dict[str, Any]]:
        """The events of one connection."""
        path, headers = f"/v1/jobs/{job_id}/events", {"Last-Event-ID": str(last)}
        async with aconnect_sse(self._http, "GET", path, headers=headers) as source:
            if source.response.status_code == httpx.codes.NO_CONTENT:
                raise _NothingFollows
            if source.response.is_error:
                await source.response.aread()
                raise ApiError(source.response.status_code, _problem(source.response))
            async for event in source.aiter_sse():
                if event.data:  # else a keep-alive
                    yield {**json.loads(event.data), "id": int(event.id), "event": event.event}


class _NothingFollows(Exception):
    """The job has ended and all its events are known."""


def _problem(response: httpx.Response) -> dict[str, Any]:
    try:
        content = response.json()
    except ValueError:
        return {"detail": f"HTTP {response.status_code}: {response.text[:200]}"}
    return content if isinstance(content, dict) else {"detail": str(content)}
