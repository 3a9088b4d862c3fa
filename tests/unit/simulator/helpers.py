"""What the tests of the simulator do again and again."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from service.simulator.arrivals import DocumentOptions

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from service.simulator.arrivals import SeededDocument
    from service.simulator.world import World

DFE = "l10n_br_ciel_it_account.dfe"
DEADLINE_SECONDS = 5.0
DUE_DATE = "2026-12-24"


@dataclass
class OdooFault(Exception):
    """A fault that came back inside HTTP 200."""

    name: str
    message: str


class Client:
    """JSON-RPC in a few lines, with no knowledge of Eclusa's own client."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def post(self, model: str, method: str, *args: Any, **kwargs: Any) -> httpx.Response:
        """Send a call and return the response as it is."""
        params = {
            "service": "object",
            "method": "execute_kw",
            "args": ["eclusa", 2, "admin", model, method, list(args), kwargs],
        }
        body = {"jsonrpc": "2.0", "method": "call", "id": 1, "params": params}
        return await self.http.post("/jsonrpc", json=body)

    async def __call__(self, model: str, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method; a fault is raised, a missing result is None."""
        answer = (await self.post(model, method, *args, **kwargs)).json()
        if "error" in answer:
            data = answer["error"]["data"]
            raise OdooFault(data["name"], data["message"])
        return answer.get("result")


async def until(condition: Callable[[], bool]) -> None:
    """Let other tasks run until the condition holds; fail at the deadline."""
    end = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < end, "the condition did not come true"
        await asyncio.sleep(0)


def arrive(world: World, **options: Any) -> SeededDocument:
    """Let one document arrive."""
    return world.add_documents(DocumentOptions(**options))[0]


def prepare(world: World, document: SeededDocument) -> None:
    """Write what the generation of an order needs."""
    world.execute(DFE, "write", [document.dfe_id], {"l10n_br_tipo_pedido": "servico"})
    head = world.records(DFE, [["id", "=", document.dfe_id]], ["lines_ids", "dups_ids"])[0]
    line = {"product_id": world.seed.product_id, "l10n_br_quantidade": 1.0, "product_uom_id": 1}
    world.execute(f"{DFE}.line", "write", head["lines_ids"], line)
    world.execute(f"{DFE}.pagamento", "write", head["dups_ids"], {"cobr_dup_dvenc": DUE_DATE})


def generate(world: World, document: SeededDocument) -> int:
    """Generate the order of a document as the calling user; return the newest order's id."""
    prepare(world, document)
    api_user = world.seed.api_user_id
    world.execute(DFE, "action_gerar_po_dfe", [document.dfe_id], user_id=api_user)
    found = world.records("purchase.order", [["dfe_id", "=", document.dfe_id]], ["id"])
    order_id: int = found[-1]["id"]
    return order_id


def configure(world: World, order_id: int, company_code: str = "plant") -> None:
    """Move an order to a company with that company's picking type and operation."""
    company = world.seed.companies[company_code]
    operation = company.operations.interstate_normal
    world.execute(
        "purchase.order",
        "write",
        [order_id],
        {
            "company_id": company.id,
            "picking_type_id": company.picking_type_id,
            "team_id": world.seed.team_id,
            "l10n_br_operacao_id": operation,
        },
    )
    lines = world.records("purchase.order", [["id", "=", order_id]], ["order_line"])[0]
    values = {"l10n_br_operacao_id": operation}
    world.execute("purchase.order.line", "write", lines["order_line"], values)


def confirmed_order(world: World, **options: Any) -> int:
    """Return a configured and confirmed order of a new document."""
    document = arrive(world, **options)
    order_id = generate(world, document)
    configure(world, order_id)
    world.execute("purchase.order", "button_confirm", [order_id])
    return order_id


def one(world: World, model: str, record_id: int) -> dict[str, Any]:
    """Return one record as a client reads it."""
    return world.records(model, [["id", "=", record_id]])[0]
