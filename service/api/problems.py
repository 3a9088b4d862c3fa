"""Errors as RFC 9457 problems; the HTTP status of every class of error stands here."""

from __future__ import annotations

import http
from typing import TYPE_CHECKING, Any
from uuid import UUID

import structlog
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from starlette.exceptions import HTTPException

from service import errors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fastapi import FastAPI, Request

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"

STATUS: Mapping[type[Exception], int] = {
    errors.InvalidInput: 422,
    errors.UnknownName: 404,
    errors.LivePosting: 409,
    errors.WrongStatus: 409,
    errors.Refused: 400,
    errors.LockHeld: 409,
    errors.Unavailable: 503,
    errors.Misconfigured: 500,
    errors.EclusaError: 500,
    SQLAlchemyError: 500,
    DBAPIError: 503,
    OSError: 503,
}
"""Looked up along the class's own order of bases: the most specific entry counts."""


class FieldProblem(BaseModel):
    """One wrong field."""

    field: str = Field(description="its path in the body or the query", examples=["input.due_date"])
    message: str
    code: str = Field(examples=["missing"])


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str = Field(examples=["urn:eclusa:problem:invalid_input"])
    title: str = Field(examples=["Unprocessable Content"])
    status: int = Field(examples=[422])
    detail: str
    code: str = Field(description="stable, for programs", examples=["invalid_input"])
    errors: list[FieldProblem] = Field(default_factory=list)
    posting_id: UUID | None = Field(
        default=None, description="the posting that stands in the way, where there is one"
    )


def status_of(error: Exception) -> int:
    """The HTTP status of an error."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def response(
    status: int,
    code: str,
    detail: str,
    *,
    fields: Sequence[FieldProblem] = (),
    posting_id: UUID | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """A problem as an answer."""
    problem = Problem(
        type=f"urn:eclusa:problem:{code}",
        title=http.HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        code=code,
        errors=list(fields),
        posting_id=posting_id,
    )
    return JSONResponse(
        problem.model_dump(mode="json", exclude_none=True),
        status_code=status,
        media_type=MEDIA_TYPE,
        headers=dict(headers or {}),
    )


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The problems that a route may answer, for its OpenAPI description."""
    described: dict[int | str, dict[str, Any]] = {}
    for status in (401, *statuses, 503):
        described[status] = {
            "description": http.HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
    return described


def _of_eclusa(_: Request, error: Exception) -> JSONResponse:
    status = status_of(error)
    code = error.code if isinstance(error, errors.EclusaError) else "unavailable"
    match error:
        case errors.InvalidInput():
            fields = [FieldProblem(**problem.__dict__) for problem in error.problems]
            return response(status, code, "The input is wrong.", fields=fields)
        case errors.UnknownName() if error.what != "posting":
            field = "kind" if "kind" in error.what else error.what
            fields = [FieldProblem(field=field, message=str(error), code="unknown")]
            return response(status, code, str(error), fields=fields)
        case errors.LivePosting() | errors.WrongStatus():
            return response(status, code, str(error), posting_id=error.posting_id)
        case errors.EclusaError() if status < http.HTTPStatus.INTERNAL_SERVER_ERROR:
            return response(status, code, str(error))
        case _:
            log.error("request_failed", code=code, error=str(error))
            return response(status, code, _public(status), headers=_retry_after(status))


def _public(status: int) -> str:
    if status == http.HTTPStatus.SERVICE_UNAVAILABLE:
        return "A server that Eclusa needs does not answer; try again shortly."
    return "Eclusa failed; its log has the details."


def _retry_after(status: int) -> dict[str, str]:
    return {"Retry-After": "2"} if status == http.HTTPStatus.SERVICE_UNAVAILABLE else {}


def _of_validation(_: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RequestValidationError):
        raise TypeError from error
    fields = [_field(problem) for problem in error.errors()]
    unknown_kind = [field for field in fields if field.field == "kind"]
    if unknown_kind and unknown_kind[0].code in ("literal_error", "union_tag_invalid"):
        return response(404, "not_found", unknown_kind[0].message, fields=unknown_kind)
    return response(422, "invalid_input", "The input is wrong.", fields=fields)


def _field(problem: Mapping[str, Any]) -> FieldProblem:
    place, *path = problem["loc"]
    code = str(problem["type"])
    if code in ("union_tag_invalid", "union_tag_not_found"):
        path = ["kind"]
    elif path and place == "body" and code != "json_invalid":
        path = [part for part in path if not str(part).startswith("tag:")]
    if code == "json_invalid":
        path = []
    name = ".".join(str(part) for part in path) or str(place)
    return FieldProblem(field=name, message=str(problem["msg"]), code=code)


def _of_http(_: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise TypeError from error
    codes = {401: "unauthenticated", 404: "not_found", 405: "method_not_allowed"}
    code = codes.get(error.status_code, "refused")
    return response(error.status_code, code, str(error.detail), headers=error.headers)


def _of_defect(_: Request, error: Exception) -> JSONResponse:
    del error  # logged by the server with its traceback
    return response(500, "internal_error", _public(500))


def register(app: FastAPI) -> None:
    """Answer every error with a problem."""
    for kind in (errors.EclusaError, SQLAlchemyError, OSError):
        app.add_exception_handler(kind, _of_eclusa)
    app.add_exception_handler(RequestValidationError, _of_validation)
    app.add_exception_handler(HTTPException, _of_http)
    app.add_exception_handler(Exception, _of_defect)
