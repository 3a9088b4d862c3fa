"""What a posting would do, over HTTP: reads of Odoo, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from service import documents
from service.api import problems
from service.api.bodies import JsonRoute
from service.api.dependencies import CurrentRuntime, MayPost
from service.api.postings import DEFINITIONS, PostingRequest, Status, admit
from service.errors import OtherKind
from service.posting.plan import Outcome, plan

router = APIRouter(prefix="/v1/postings", tags=["postings"], route_class=JsonRoute)


def _plain(values: Mapping[str, Any]) -> Any:
    return documents.plain(dict(values))


Values = Annotated[dict[str, Any], BeforeValidator(_plain)]
"""Fields as the audit shows them."""


class CallView(BaseModel):
    """A call that would be made."""

    model_config = ConfigDict(from_attributes=True)

    model: str
    method: str
    ids: list[int] = Field(description="the records it would be called on")
    before: Values
    after: Values


class PlannedStepView(BaseModel):
    """What would become of one step."""

    model_config = ConfigDict(from_attributes=True)

    number: int
    name: str
    title: str
    outcome: Outcome = Field(
        description="depends: an earlier step would change what this one sees, or is blocked"
    )
    code: str | None = Field(
        description="what stops it, for programs; with depends, as Odoo looks now"
    )
    message: str | None
    call: CallView | None = Field(description="the one call that it would make next")
    depends_on: int | None = Field(description="the number of that earlier step")


class PlanView(BaseModel):
    """What a posting would do."""

    kind: str
    connection: str
    document_key: str
    posting_id: UUID | None = Field(description="the document's posting, where it has one")
    posting_status: Status | None
    steps: list[PlannedStepView]


@router.post(
    "/plan",
    operation_id="plan_posting",
    summary="What posting a document would do",
    responses=problems.responses(404, 409, 413, 422, 502, 504),
)
async def plan_posting(body: PostingRequest, runtime: CurrentRuntime, caller: MayPost) -> PlanView:
    """Look at Odoo as every step would; nothing is written, neither there nor here.

    Of a document that has a posting, what that one has found counts as known.
    """
    caller.key.check_connection(body.connection)
    definition = DEFINITIONS[body.kind]
    deployment = await runtime.connections.deploy(body.connection, body.kind)
    subject = await asyncio.to_thread(admit, definition, body.input, deployment.profile)
    key = definition.document_key(subject)
    posting = await runtime.ledger.of_document(body.connection, definition.document_type, key)
    if posting is not None and posting.kind != body.kind:
        raise OtherKind(posting.id, posting.kind, posting.status)
    steps = await plan(
        definition,
        odoo=deployment.odoo,
        subject=subject,
        profile=deployment.profile,
        facts=posting.facts if posting else {},
        limit=runtime.settings.plan_limit,
    )
    return PlanView.model_validate(
        {
            "kind": body.kind,
            "connection": body.connection,
            "document_key": key,
            "posting_id": posting.id if posting else None,
            "posting_status": posting.status if posting else None,
            "steps": steps,
        }
    )
