"""Routes for tests and demonstrations, beside what Odoo itself answers."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service.simulator import bodies, bulk, changes, errors, faults, receipts, titles
from service.simulator.arrivals import DocumentOptions
from service.simulator.orm import SUPERUSER
from service.simulator.world import Call

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from service.simulator.delivery import Line

AMOUNTS = frozenset({"amount", "dfe_total"})


class BadRequest(Exception):
    """The body or the query cannot be used; answered with status 400 and the reason."""


def document_options(values: dict[str, Any]) -> DocumentOptions:
    """Read document options from a JSON object; unknown names are refused."""
    bodies.check_names(values, DocumentOptions)
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
            ("POST", "/simulator/titles", self.titles),
            ("POST", "/simulator/receipts", self.receipts),
            ("POST", "/simulator/rows", self.rows),
            ("POST", "/simulator/execute", self.execute),
            ("POST", "/simulator/changes", self.change),
            ("POST", "/simulator/schedule", self.schedule),
            ("DELETE", "/simulator/schedule", self.clear_schedule),
            ("POST", "/simulator/transactions", self.begin),
            ("POST", "/simulator/transactions/{id:int}/commit", self.commit),
            ("DELETE", "/simulator/transactions/{id:int}", self.roll_back),
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
        """Return records of a model; `domain` (JSON), `fields` (by comma), `limit` narrow them."""
        asked = request.query_params
        domain, names = json.loads(asked.get("domain", "[]")), asked.get("fields")
        fields = names.split(",") if names else None
        limit = int(asked["limit"]) if "limit" in asked else None
        model = request.path_params["model"]
        return JSONResponse(self.world.records(model, domain, fields, limit))

    async def add_fault(self, request: Request) -> Response:
        """Add one fault, or a list of faults."""
        listed = [faults.from_json(one) for one in await _list(request)]
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

    async def titles(self, request: Request) -> Response:
        """Let an invoice or a bill stand open, or a list of them."""
        listed = [titles.from_json(one) for one in await _list(request)]
        made = [self.world.add_title(one).describe() for one in listed]
        return JSONResponse({"titles": made}, status_code=201)

    async def receipts(self, request: Request) -> Response:
        """Let goods be on their way: one order, or a list of orders."""
        listed = [receipts.from_json(one) for one in await _list(request)]
        made = [self.world.add_receipt(one).describe() for one in listed]
        return JSONResponse({"receipts": made}, status_code=201)

    async def rows(self, request: Request) -> Response:
        """Add many rows."""
        made = self.world.add_rows(bulk.from_json(await _object(request)))
        return JSONResponse({"rows": made}, status_code=201)

    async def execute(self, request: Request) -> Response:
        """Act as a person in Odoo: uncounted, without fault, at once."""
        call = _call(await _object(request))
        result = self.world.execute(call.model, call.method, *call.args, **call.kwargs)
        return JSONResponse({"result": result})

    async def change(self, request: Request) -> Response:
        """Change many records at once: one change, or a list of changes."""
        listed = [changes.change_from_json(one) for one in await _list(request)]
        return JSONResponse({"ids": [self.world.change(one) for one in listed]})

    async def schedule(self, request: Request) -> Response:
        """Let something happen after a call: one thing, or a list."""
        listed = [changes.scheduled_from_json(one) for one in await _list(request)]
        self.world.schedule.waiting += listed
        return JSONResponse({"waiting": len(self.world.schedule.waiting)}, status_code=201)

    async def clear_schedule(self, _: Request) -> Response:
        """Forget what is scheduled."""
        self.world.schedule.waiting.clear()
        return Response(status_code=204)

    async def begin(self, request: Request) -> Response:
        """Begin a transaction that nobody sees until it commits."""
        body = await _object(request)
        begun = self.world.begin(
            calls=[_call(one) for one in body.get("calls", ())],
            changes=[changes.change_from_json(one) for one in body.get("changes", ())],
            age=float(body.get("age", 0)),
            seconds=body.get("seconds"),
        )
        return JSONResponse(begun.describe(), status_code=201)

    async def commit(self, request: Request) -> Response:
        """Commit an open transaction."""
        return JSONResponse(self.world.transactions.commit(request.path_params["id"]).describe())

    async def roll_back(self, request: Request) -> Response:
        """Roll an open transaction back."""
        self.world.transactions.roll_back(request.path_params["id"])
        return Response(status_code=204)

    async def restart(self, _: Request) -> Response:
        """Abort what is in flight and close its connections, as a restart does."""
        aborted = self.world.in_flight
        self.line.restart()
        return JSONResponse({"aborted": aborted})


def _call(body: dict[str, Any]) -> Call:
    for name in ("model", "method"):
        if name not in body:
            raise BadRequest(f"{name} is missing")
    return Call(
        model=body["model"],
        method=body["method"],
        args=body.get("args", ()),
        kwargs=body.get("kwargs", {}),
        user_id=SUPERUSER,
    )


async def _list(request: Request) -> list[Any]:
    body = await request.json()
    return body if isinstance(body, list) else [body]


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
