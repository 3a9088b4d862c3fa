"""JSON-2, the second protocol of Odoo 19: one URL per method, named arguments, a bearer key."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from service.simulator import errors, invoke
from service.simulator.world import Call

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.simulator.world import World

BEARER = "bearer"
CLASSES = {
    HTTPStatus.BAD_REQUEST: "BadRequest",
    HTTPStatus.UNAUTHORIZED: "Unauthorized",
    HTTPStatus.NOT_FOUND: "NotFound",
    HTTPStatus.UNPROCESSABLE_ENTITY: "UnprocessableEntity",
}
STATUS: Mapping[type[errors.ServerError], HTTPStatus] = {
    errors.MissingError: HTTPStatus.NOT_FOUND,
    errors.AccessError: HTTPStatus.FORBIDDEN,
    errors.AccessDenied: HTTPStatus.FORBIDDEN,
    errors.UserError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.ValidationError: HTTPStatus.UNPROCESSABLE_ENTITY,
}
UNKNOWN_DATABASE_PAGE = (
    "<!DOCTYPE html>\n<title>404 Not Found</title>\n<h1>Not Found</h1>\n"
    "<p>No database is selected and the requested URL was not found in the server-wide "
    "controllers.</p>\n"
)


class RequestError(errors.ServerError):
    """The request itself is wrong; its status is part of what the client is told."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status

    @property
    def name(self) -> str:
        """The class of the web framework."""
        return f"werkzeug.exceptions.{CLASSES[self.status]}"


def status_of(error: errors.ServerError) -> HTTPStatus:
    """Return the status that a refusal is answered with."""
    if isinstance(error, RequestError):
        return error.status
    return STATUS.get(type(error), HTTPStatus.INTERNAL_SERVER_ERROR)


def fault_body(error: errors.ServerError, debug: str) -> dict[str, Any]:
    """Return the answer that carries a refusal."""
    status = [error.status.value] if isinstance(error, RequestError) else []
    return {
        "name": error.name,
        "message": error.message,
        "arguments": [error.message, *status],
        "context": {},
        "debug": debug,
    }


def user_of(world: World, authorization: str) -> int:
    """Return the user that a key belongs to."""
    scheme, _, key = authorization.partition(" ")
    if scheme.lower() != BEARER or not key:
        raise RequestError(
            HTTPStatus.UNAUTHORIZED,
            "User not authenticated, use an API Key with a Bearer Authorization header.",
        )
    user_id = world.api_keys.get(key.strip())
    if user_id is None:
        raise RequestError(HTTPStatus.UNAUTHORIZED, "Invalid apikey")
    return user_id


def read(body: bytes) -> dict[str, Any]:
    """Read the named arguments; a body that is no object has none."""
    if not body:
        return {}
    try:
        values = json.loads(body)
    except ValueError as error:
        message = f"could not parse the body as json: {error}"
        raise RequestError(HTTPStatus.BAD_REQUEST, message) from error
    return values if isinstance(values, dict) else {}


def call_of(world: World, user_id: int, target: tuple[str, str], values: dict[str, Any]) -> Call:
    """Return the call that a request asks for, checked against the method's signature."""
    model, method = target
    named = dict(values)
    ids, context = named.pop("ids", None), named.pop("context", None)
    kind = _check(world, target, named, has_ids=bool(ids))
    if context:
        named["context"] = context
    args = ([*ids] if ids else [],) if kind == "record" else ()
    return Call(model=model, method=method, args=args, kwargs=named, user_id=user_id)


def _check(
    world: World, target: tuple[str, str], named: Mapping[str, Any], *, has_ids: bool
) -> str:
    model_name, method = target
    env = world.environment()
    if model_name not in env:
        raise RequestError(HTTPStatus.NOT_FOUND, f"the model '{model_name}' does not exist")
    try:
        function = invoke.public(env[model_name], method)
    except errors.PythonError as error:
        raise RequestError(HTTPStatus.NOT_FOUND, error.message) from error
    kind: str = function.__dict__["odoo_kind"]
    if kind == "model" and has_ids:
        message = f"cannot call {model_name}.{method} with ids"
        raise RequestError(HTTPStatus.UNPROCESSABLE_ENTITY, message)
    complaint = invoke.complaint(function, [[]] if kind == "record" else [], named)
    if complaint is not None:
        raise RequestError(HTTPStatus.UNPROCESSABLE_ENTITY, complaint)
    return kind
