"""The way of a call through a network that may cut, hold, lose or repeat it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from service.simulator import errors

if TYPE_CHECKING:
    from service.simulator.faults import Fault
    from service.simulator.world import Call, World

GATEWAY_STATUS = {
    "gateway_502": HTTPStatus.BAD_GATEWAY,
    "gateway_503": HTTPStatus.SERVICE_UNAVAILABLE,
    "gateway_504": HTTPStatus.GATEWAY_TIMEOUT,
}
AFTER_COMMIT = "The net weight of the volumes must be greater than zero."
REFUSED = "The operation is not allowed at this moment."
FORBIDDEN = "You are not allowed to perform this operation."


@dataclass(frozen=True)
class Answer:
    """The server's result; without `shown` the answer has no `result` at all."""

    result: Any
    shown: bool = True


@dataclass(frozen=True)
class Page:
    """A page of the proxy in front of the server."""

    status: HTTPStatus


@dataclass(frozen=True)
class Silence:
    """The connection closes and nothing is said."""


Outcome = Answer | Page | Silence


def _cut(result: Any, rows: int | None) -> Any:
    """Leave the first rows of a list, half of it unless told how many; nothing tells of it."""
    if not isinstance(result, list):
        return result
    return result[: len(result) // 2 if rows is None else rows]


class Line:
    """The connection between clients and a world; closing it ends every wait."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._closing = asyncio.Event()

    def close(self) -> None:
        """End all waits and abort what is in flight."""
        self._closing.set()
        self.world.abort()

    def restart(self) -> None:
        """Do what a restart of the server does: abort, close connections, and go on."""
        self._closing.set()
        self._closing = asyncio.Event()
        self.world.abort()

    async def hold(self, seconds: float) -> None:
        """Keep a client waiting."""
        closing = self._closing
        try:
            await asyncio.wait_for(closing.wait(), seconds)
        except TimeoutError:
            return

    def outage(self) -> Outcome | None:
        """Return what every request gets while the server is unavailable."""
        fault = self.world.faults.present_outage(asyncio.get_running_loop().time())
        if fault is None:
            return None
        return Silence() if fault.refuse else Page(HTTPStatus.BAD_GATEWAY)

    async def deliver(self, call: Call) -> Outcome:
        """Carry a call to the world and its answer back, as far as its fault allows."""
        fault = self.world.receive(call)
        try:
            if fault is None:
                return Answer(await self.world.run(call))
            return await self._deliver_with(fault, call)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # The transaction was killed, not this request: its client hears nothing.
            return Silence()

    async def deliver_service(self, service: str, method: str, result: Any) -> Outcome:
        """Carry a call that touches no model; only faults that name the service apply."""
        self.world.received[f"{service}.{method}"] += 1
        named = [one for one in self.world.faults.waiting if one.model == service]
        fault = self.world.faults.take(service, method, (), ()) if named else None
        if fault is None:
            return Answer(result)
        await self.hold(fault.seconds)
        if fault.kind in GATEWAY_STATUS:
            return Page(GATEWAY_STATUS[fault.kind])
        return Answer(result) if fault.kind == "slow" else Silence()

    async def _deliver_with(self, fault: Fault, call: Call) -> Outcome:
        match fault.kind:
            case "slow":
                own = self.world.options.duration(call.model, call.method)
                return Answer(await self.world.run(call, own + fault.seconds))
            case "late_success":
                after = fault.seconds if fault.after is None else fault.after
                self.world.run_later(call, after)
                await self.hold(fault.seconds)
                return Silence()
            case "gateway_502" | "gateway_503" | "gateway_504":
                if fault.applied:
                    self.world.run_later(call, fault.after)
                await self.hold(fault.seconds)
                return Page(GATEWAY_STATUS[fault.kind])
            case _:
                await self.hold(fault.seconds)
        return await self._answer_with(fault, call)

    async def _answer_with(self, fault: Fault, call: Call) -> Outcome:
        match fault.kind:
            case "reply_lost":
                await self.world.run(call)
                return Silence()
            case "missing_result":
                return Answer(await self.world.run(call), shown=False)
            case "truncated":
                return Answer(_cut(await self.world.run(call), fault.rows))
            case "duplicate_delivery":
                await self.world.run(call)
                return Answer(await self.world.run(call))
            case "fault_after_commit":
                await self.world.run(call)
                raise errors.UserError(fault.message or AFTER_COMMIT)
            case "lock_conflict":
                raise errors.DatabaseError.lock_not_available("ir_sequence")
            case "serialization_conflict":
                raise errors.DatabaseError.serialization_failure()
            case "access_error":
                raise errors.AccessError(fault.message or FORBIDDEN)
            case "user_error":
                raise errors.UserError(fault.message or REFUSED)
            case _:
                return Silence()
