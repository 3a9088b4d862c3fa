"""What can go wrong with a call to Odoo, as a tree.

OdooError
├── Unreachable              no connection, or it broke before an answer came
├── TimedOut                 no answer within the call's timeout; Odoo goes on working
├── GatewayError             a proxy answered 502, 503 or 504 in Odoo's place
├── UnexpectedAnswer         an answer that is not Odoo's: wrong address, wrong shape
├── UnknownDatabase          the server has no database of that name
├── AuthenticationFailed     login or secret were refused
└── Fault                    Odoo answered with a fault: its transaction was rolled back
    ├── AccessDenied         the user may not do this
    ├── MissingRecord        a record does not exist (any more)
    ├── ValidationFailed     a constraint refused the values
    ├── UserFault            a business rule refused the action
    ├── LockConflict         a row stayed locked beyond Odoo's own retries
    ├── UnknownModel
    ├── UnknownMethod
    ├── InvalidField
    ├── InvalidCall          arguments or values that the method cannot take
    └── ServerFault          any other exception inside Odoo

`effect` tells what the error proves about a write: `NONE` (nothing was, or will be, changed by
this call) or `UNKNOWN` (it may have been applied, or may still be). A fault proves no effect of
its own transaction only: methods that commit halfway exist, so writers look at Odoo again.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Effect(StrEnum):
    """What an error proves about the effect of the call."""

    NONE = "none"
    UNKNOWN = "unknown"


@dataclass
class OdooError(Exception):
    """Base: a call that did not end in a result. `message` may be shown to a person."""

    message: str
    model: str | None = None
    method: str | None = None
    effect: Effect = Effect.UNKNOWN
    code = "odoo_error"

    def __str__(self) -> str:
        where = f"{self.model}.{self.method}: " if self.model and self.method else ""
        return f"{where}{self.message}"


class Unreachable(OdooError):
    """No connection (effect none), or one that broke before the answer (effect unknown)."""

    code = "odoo_unreachable"


class TimedOut(OdooError):
    """No answer within the call's timeout: Odoo goes on working and may still commit."""

    code = "odoo_timeout"


class GatewayError(OdooError):
    """A proxy answered 502, 503 or 504 in Odoo's place."""

    code = "odoo_gateway"


class UnexpectedAnswer(OdooError):
    """The answer is not Odoo's: a wrong address, or a shape that Odoo never sends."""

    code = "odoo_unexpected_answer"


class UnknownDatabase(OdooError):
    """The server has no database of that name."""

    code = "odoo_unknown_database"


class AuthenticationFailed(OdooError):
    """The login or the secret were refused."""

    code = "odoo_authentication_failed"


@dataclass
class Fault(OdooError):
    """Odoo answered with a fault. `exception` is its Python class in Odoo."""

    exception: str = ""
    effect: Effect = Effect.NONE
    code = "odoo_fault"


class AccessDenied(Fault):
    """The user may not do this."""

    code = "odoo_access_denied"


class MissingRecord(Fault):
    """A record does not exist (any more)."""

    code = "odoo_missing_record"


class ValidationFailed(Fault):
    """A constraint refused the values."""

    code = "odoo_validation_failed"


class UserFault(Fault):
    """A business rule refused the action."""

    code = "odoo_user_fault"


class LockConflict(Fault):
    """A row stayed locked beyond Odoo's own retries (20 to 90 s); the same call may succeed."""

    code = "odoo_lock_conflict"


class UnknownModel(Fault):
    """The model does not exist in this database."""

    code = "odoo_unknown_model"


class UnknownMethod(Fault):
    """The model has no such method, or it is private."""

    code = "odoo_unknown_method"


class InvalidField(Fault):
    """The model has no such field."""

    code = "odoo_invalid_field"


class InvalidCall(Fault):
    """The method cannot take these arguments or values."""

    code = "odoo_invalid_call"


class ServerFault(Fault):
    """Any other exception inside Odoo."""

    code = "odoo_server_fault"
