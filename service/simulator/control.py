"""Routes for tests and demonstrations, beside what Odoo itself answers."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service.simulator import errors, faults
from service.simulator.arrivals import DocumentOptions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from service.simulator.delivery import Line

AMOUNTS = frozenset({"amount", "dfe_total"})


class BadRequest(Exception):
    """The body or the query cannot be used; answered with status 400 and the reason."""


def document_options(values: dict[str, Any]) -> DocumentOptions:
    """Read document options from a JSON object; unknown names are refused."""
    known = set(DocumentOptions.__dataclass_fields__)
    unknown = sorted(set(values) - known)
    if unknown:
        raise ValueError(f"unknown {', '.join(unknown)}; known: {', '.join(sorted(known))}")
    read: dict[str, Any] = {
        name: Decimal(str(value)) if name in AMOUNTS and value is not None else value
        for name, value in values.items()
    }
    return DocumentOptions(**read)


class Control:
    """The control routes of one simulator."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.world = line.world

    def routes(self) -> list[Route]:
        """Return the routes under `/simulator`."""
        table: tuple[tuple[str, str, Callable[[Request], Awaitable[Response]]], ...] = (
            ("GET", "/simulator/seed", self.seed),
            ("GET", "/simulator/state", self.state),
            ("GET", "/simulator/records/{model}", self.records),
            ("POST", "/simulator/faults", self.add_fault),
            ("DELETE", "/simulator/faults", self.clear_faults),
            ("POST", "/simulator/settings", self.settings),
            ("POST", "/simulator/documents", self.documents),
            ("POST", "/simulator/execute", self.execute),
            ("POST", "/simulator/restart", self.restart),
        )
        return [Route(path, _guarded(run), methods=[method]) for method, path, run in table]

    async def seed(self, _: Request) -> Response:
        """Return the ids that a profile needs."""
        return JSONResponse({"version": self.world.version, **self.world.seed.describe()})

    async def state(self, _: Request) -> Response:
        """Return calls, effects, waiting faults and the outcome of each document."""
        return JSONResponse(self.world.state())

    async def records(self, request: Request) -> Response:
        """Return records of a model; `domain` (JSON) and `fields` (by comma) narrow them."""
        domain = json.loads(request.query_params.get("domain", "[]"))
        names = request.query_params.get("fields")
        fields = names.split(",") if names else None
        return JSONResponse(self.world.records(request.path_params["model"], domain, fields))

    async def add_fault(self, request: Request) -> Response:
        """Add one fault, or a list of faults."""
        body = await request.json()
        listed = [faults.from_json(one) for one in (body if isinstance(body, list) else [body])]
        now = asyncio.get_running_loop().time()
        for fault in listed:
            self.world.faults.add(fault, now)
        return JSONResponse({"waiting": len(self.world.faults.waiting)}, status_code=201)

    async def clear_faults(self, _: Request) -> Response:
        """Forget all faults, outages included."""
        self.world.faults.clear()
        return Response(status_code=204)

    async def settings(self, request: Request) -> Response:
        """Change durations, approval, linking or the version."""
        self.world.configure(await _object(request))
        return JSONResponse(self.world.state()["options"])

    async def documents(self, request: Request) -> Response:
        """Let more documents arrive."""
        made = self.world.add_documents(document_options(await _object(request)))
        return JSONResponse({"documents": [one.describe() for one in made]}, status_code=201)

    async def execute(self, request: Request) -> Response:
        """Act as a person in Odoo: uncounted, without fault, at once."""
        body = await _object(request)
        for name in ("model", "method"):
            if name not in body:
                raise BadRequest(f"{name} is missing")
        result = self.world.execute(
            body["model"], body["method"], *body.get("args", ()), **body.get("kwargs", {})
        )
        return JSONResponse({"result": result})

    async def restart(self, _: Request) -> Response:
        """Abort what is in flight and close its connections, as a restart does."""
        aborted = self.world.in_flight
        self.line.restart()
        return JSONResponse({"aborted": aborted})


async def _object(request: Request) -> dict[str, Any]:
    body = await request.body()
    value = json.loads(body) if body else {}
    if not isinstance(value, dict):
        raise BadRequest("the body is not a JSON object")
    return value


def _guarded(
    run: Callable[[Request], Awaitable[Response]],
) -> Callable[[Request], Awaitable[Response]]:
    async def guarded(request: Request) -> Response:
        try:
            return await run(request)
        except errors.ServerError as error:
            detail = {"name": error.name, "message": error.message}
            return JSONResponse({"error": detail}, status_code=400)
        except (BadRequest, ValueError, TypeError, KeyError, InvalidOperation) as error:
            detail = {"name": "bad_request", "message": str(error)}
            return JSONResponse({"error": detail}, status_code=400)

    return guarded
