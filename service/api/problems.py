"""Errors as RFC 9457 problems; the HTTP status of every class of error stands here."""

from __future__ import annotations

import http
from typing import TYPE_CHECKING, Any
from uuid import UUID

import structlog
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field, ValidationError
from sqlalchemy import exc
from starlette.exceptions import HTTPException

from service import errors
from service.api.bodies import BodyRefused
from service.odoo import errors as odoo

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from fastapi import FastAPI, Request

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"

STATUS: Mapping[type[Exception], int] = {
    errors.KeyRefused: 401,
    errors.RateLimited: 429,
    errors.InsufficientScope: 403,
    errors.ConnectionNotAllowed: 403,
    errors.InvalidInput: 422,
    errors.UnknownName: 404,
    errors.FileKnown: 409,
    errors.IdempotencyKeyReused: 422,
    errors.IdempotencyInProgress: 409,
    errors.AnswerNotKept: 409,
    errors.LivePosting: 409,
    errors.OtherKind: 409,
    errors.WrongStatus: 409,
    errors.LiveRun: 409,
    errors.RunOver: 409,
    errors.StaleVersion: 412,
    errors.Refused: 400,
    errors.LockHeld: 409,
    errors.Unavailable: 503,
    errors.Misconfigured: 500,
    errors.EclusaError: 500,
    exc.SQLAlchemyError: 500,
    exc.TimeoutError: 503,
    exc.DBAPIError: 503,
    exc.DataError: 500,
    exc.IntegrityError: 500,
    exc.ProgrammingError: 500,
    OSError: 503,
    odoo.OdooError: 502,
    odoo.TimedOut: 504,
}
"""Looked up along the class's own order of bases: the most specific entry counts."""

IN_PATH = ("posting", "batch", "run", "schedule", "mirror", "key")
"""What is named in the path of a request; any other name stands in a field of its body."""

FACTS = ("posting_id", "batch_id", "run_id", "scope")
"""What a problem tells of an error besides its sentence, where the error has it."""

IN_PROGRESS_SECONDS = 1
"""When to ask again for the answer to a request that is still being carried out."""

LATER = (429, 503)
RETRY_AFTER: Mapping[str, Any] = {
    "schema": {"type": "integer", "minimum": 1},
    "description": "seconds after which to ask again",
}

MOST_FIELDS = 20
LONGEST_NAME = 200

AN_OBJECT = "must be a JSON object"
A_DATE = "must be a date like 2026-12-31"
AN_ID = "must be an id like 6f1c9a52-33c1-4f0e-9d43-0d6b5f3a7e21"
A_WHOLE_NUMBER = "must be a whole number"
SENTENCES: Mapping[str, str] = {
    "missing": "is missing",
    "extra_forbidden": "is not known here: leave it out, or check how it is written",
    "model_attributes_type": AN_OBJECT,
    "model_type": AN_OBJECT,
    "dict_type": AN_OBJECT,
    "list_type": "must be a list",
    "too_short": "must have {min_length} items or more",
    "too_long": "may have {max_length} items at most",
    "string_type": "must be a text",
    "string_too_short": "must have {min_length} characters or more",
    "string_too_long": "may have {max_length} characters at most",
    "date_type": A_DATE,
    "date_parsing": A_DATE,
    "date_from_datetime_parsing": A_DATE,
    "date_from_datetime_inexact": A_DATE,
    "uuid_type": AN_ID,
    "uuid_parsing": AN_ID,
    "int_type": A_WHOLE_NUMBER,
    "int_parsing": A_WHOLE_NUMBER,
    "int_parsing_size": A_WHOLE_NUMBER + ", and a smaller one",
    "greater_than_equal": "must be {ge} or more",
    "less_than_equal": "must be {le} or less",
    "literal_error": "must be {expected}",
}
"""What validation finds, in words for a person; the rest keeps pydantic's own."""


class FieldProblem(BaseModel):
    """One wrong field."""

    field: str = Field(description="its path in the body or the query", examples=["input.due_date"])
    message: str
    code: str = Field(examples=["missing"])
    line: int | None = Field(
        default=None, description="in a file: the number of the line that a person sees, from 1"
    )
    column: str | None = Field(
        default=None, description="in a file: the column, as its header names it"
    )


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
    batch_id: UUID | None = Field(
        default=None, description="the batch that stands in the way, where there is one"
    )
    run_id: UUID | None = Field(
        default=None, description="the run of a sync that stands in the way, where there is one"
    )
    scope: str | None = Field(
        default=None, description="the scope that the key lacks, where it lacks one"
    )


def status_of(error: Exception) -> int:
    """The HTTP status of an error."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


class ProblemResponse(JSONResponse):
    """A problem as an answer."""

    media_type = MEDIA_TYPE


def response(
    status: int,
    code: str,
    detail: str,
    *,
    fields: Sequence[FieldProblem] = (),
    posting_id: UUID | None = None,
    batch_id: UUID | None = None,
    run_id: UUID | None = None,
    scope: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> ProblemResponse:
    """The answer that tells of a problem."""
    problem = Problem(
        type=f"urn:eclusa:problem:{code}",
        title=http.HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        code=code,
        errors=list(fields),
        posting_id=posting_id,
        batch_id=batch_id,
        run_id=run_id,
        scope=scope,
    )
    return ProblemResponse(
        problem.model_dump(mode="json", exclude_none=True),
        status_code=status,
        headers=dict(headers or {}),
    )


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The problems that a route may answer, for its OpenAPI description."""
    described: dict[int | str, dict[str, Any]] = {}
    for status in (401, 403, *statuses, 429, 503):
        described[status] = {
            "description": http.HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        if status in LATER:
            described[status]["headers"] = {"Retry-After": RETRY_AFTER}
    return described


def of_error(error: Exception) -> ProblemResponse:
    """The answer to an error of the service, its database, its Redis or Odoo."""
    status = status_of(error)
    code = _code(error, status)
    match error:
        case errors.InvalidRows():
            return response(status, code, f"{error}.", fields=_fields(error.problems))
        case errors.InvalidInput():
            return _wrong(_fields(error.problems))
        case errors.UnknownName() if error.what not in IN_PATH:
            field = unknown_field(error)
            return _unknown(field.field, field.message)
        case odoo.OdooError():
            return response(status, code, str(error))
        case errors.EclusaError() if status < http.HTTPStatus.INTERNAL_SERVER_ERROR:
            facts = {name: getattr(error, name) for name in FACTS if hasattr(error, name)}
            return response(status, code, str(error), **facts, headers=_headers(error))
        case _:
            log.error("request_failed", code=code, exc_info=error)
            return response(status, code, _public(status), headers=_retry_after(status))


def _headers(error: errors.EclusaError) -> dict[str, str]:
    """What a program does next: when to ask again, where to look, or what key to send.

    The last as RFC 6750 says it; a request without a key is told no error.
    """
    match error:
        case errors.RateLimited():
            return {"Retry-After": str(error.wait_seconds)}
        case errors.IdempotencyInProgress():
            return {"Retry-After": str(IN_PROGRESS_SECONDS)}
        case errors.AnswerNotKept(location=str() as location):
            return {"Location": location}
        case errors.KeyRefused(reason="missing"):
            said = ""
        case errors.KeyRefused():
            said = f', error="invalid_token", error_description="{error}"'
        case errors.InsufficientScope():
            said = f', error="insufficient_scope", scope="{error.scope}"'
        case _:
            return {}
    return {"WWW-Authenticate": f'Bearer realm="eclusa"{said}'}


def unknown_field(error: errors.UnknownName) -> errors.Problem:
    """The field that named what does not exist."""
    field = "kind" if "kind" in error.what else error.what
    return errors.Problem(field, str(error), "unknown")


_CODES = {500: "internal_error", 503: "unavailable"}


def _code(error: Exception, status: int) -> str:
    if isinstance(error, errors.EclusaError | odoo.OdooError):
        return error.code
    return _CODES[status]


def _fields(found: Sequence[errors.Problem]) -> list[FieldProblem]:
    return [FieldProblem(**problem.__dict__) for problem in found]


def _wrong(fields: Sequence[FieldProblem]) -> ProblemResponse:
    return response(422, "invalid_input", "The input is wrong.", fields=fields[:MOST_FIELDS])


def _unknown(field: str, message: str) -> ProblemResponse:
    problem = FieldProblem(field=field, message=message, code="unknown")
    return response(404, "not_found", message, fields=[problem])


def _public(status: int) -> str:
    if status == http.HTTPStatus.SERVICE_UNAVAILABLE:
        return "A server that Eclusa needs does not answer; try again shortly."
    return "Eclusa failed; its log has the details."


def _retry_after(status: int) -> dict[str, str]:
    return {"Retry-After": "2"} if status == http.HTTPStatus.SERVICE_UNAVAILABLE else {}


def _of_validation(error: RequestValidationError) -> ProblemResponse:
    kind = error.body.get("kind") if isinstance(error.body, dict) else None
    for problem in error.errors():
        if problem["type"] == "union_tag_invalid" or (
            problem["type"] == "literal_error" and problem["loc"][-2:] == ("body", "kind")
        ):
            return _of_kind(problem)
    return _wrong([_field(problem, kind) for problem in error.errors()[:MOST_FIELDS]])


def _of_kind(problem: Mapping[str, Any]) -> ProblemResponse:
    """There is no such kind: the input may be right for all that is known of it."""
    context = problem["ctx"]
    given = str(context.get("tag", problem["input"]))[:LONGEST_NAME]
    known = str(context.get("expected_tags") or context["expected"]).replace("'", "")
    return _unknown("kind", str(errors.UnknownName("kind", given, [known])))


def fields_of(error: ValidationError, given: Any) -> list[FieldProblem]:
    """What is wrong with one item of a body, by the names of its own fields."""
    kind = given.get("kind") if isinstance(given, dict) else None
    problems = ({**problem, "loc": ("body", *problem["loc"])} for problem in error.errors())
    return [_field(problem, kind) for problem in problems]


def _field(problem: Mapping[str, Any], kind: Any) -> FieldProblem:
    place, *path = problem["loc"]
    code = str(problem["type"])
    if code == "union_tag_not_found":
        path, code = ["kind"], "missing"
    elif code == "union_tag_invalid":
        path = ["kind"]
    elif place == "body" and len(path) > 1 and path[0] == kind:
        path = path[1:]  # where several kinds are known, each has a place of its own
    name = ".".join(str(part) for part in path) or str(place)
    message = str(problem["msg"])  # holds braces of its own where a pattern does
    if code in SENTENCES:
        message = SENTENCES[code].format(**problem.get("ctx", {}))
    if name == "body" and message == AN_OBJECT:
        message += ", sent with Content-Type: application/json"
    return FieldProblem(field=name[:LONGEST_NAME], message=message, code=code)


def _of_http(error: HTTPException) -> ProblemResponse:
    if isinstance(error, BodyRefused):
        return _wrong([FieldProblem(**error.problem.__dict__)])
    codes = {404: "not_found", 405: "method_not_allowed"}
    code = codes.get(error.status_code, "refused")
    return response(error.status_code, code, str(error.detail), headers=error.headers)


def _of_defect(_: Exception) -> ProblemResponse:
    """The server logs the traceback."""
    return response(500, "internal_error", _public(500))


def register(app: FastAPI) -> None:
    """Answer every error with a problem."""
    answers: Mapping[type[Exception], Callable[[Any], ProblemResponse]] = {
        errors.EclusaError: of_error,
        odoo.OdooError: of_error,
        exc.SQLAlchemyError: of_error,
        OSError: of_error,
        RequestValidationError: _of_validation,
        HTTPException: _of_http,
        Exception: _of_defect,
    }
    for kind, answer in answers.items():
        app.add_exception_handler(kind, _handler(answer))


def _handler(
    answer: Callable[[Any], ProblemResponse],
) -> Callable[[Request, Exception], Awaitable[ProblemResponse]]:
    async def handle(_: Request, error: Exception) -> ProblemResponse:
        return answer(error)

    return handle
