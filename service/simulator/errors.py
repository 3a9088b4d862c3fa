"""What the simulated server answers when it refuses, under the names that Odoo uses.

ServerError
├── UserError            a business rule says no
├── ValidationError      a value or a constraint says no
├── AccessError          the user may not
├── AccessDenied         the login is wrong
├── MissingError         the record is not there
├── PythonError          the server stumbled over the request (`builtins.ValueError` and the like)
├── DatabaseError        PostgreSQL said no (`psycopg2.OperationalError` and the like)
└── SessionExpired       a route for browsers was called without a session
"""

from __future__ import annotations

from typing import ClassVar


class ServerError(Exception):
    """Base of every refusal: the qualified name of a class of Odoo and a message."""

    qualified_name: ClassVar[str] = "odoo.exceptions.UserError"
    title: ClassVar[str] = "Odoo Server Error"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    @property
    def name(self) -> str:
        """The name that stands in `error.data.name`."""
        return self.qualified_name


class UserError(ServerError):
    """A business rule refuses."""


class ValidationError(ServerError):
    """A constraint refuses."""

    qualified_name = "odoo.exceptions.ValidationError"


class AccessError(ServerError):
    """The user may not do this."""

    qualified_name = "odoo.exceptions.AccessError"


class AccessDenied(ServerError):
    """The login or the password is wrong."""

    qualified_name = "odoo.exceptions.AccessDenied"

    def __init__(self) -> None:
        super().__init__("Access Denied")


class MissingError(ServerError):
    """A record does not exist."""

    qualified_name = "odoo.exceptions.MissingError"

    @classmethod
    def of(cls, model: str, record_id: int, user_id: int) -> MissingError:
        """Return the error that names the record the way Odoo does."""
        record = f"{model}({record_id},)"
        return cls(
            f"Record does not exist or has been deleted.\n(Record: {record}, User: {user_id})"
        )


class PythonError(ServerError):
    """An error of Python itself that reached the client."""

    def __init__(self, class_name: str, message: str) -> None:
        super().__init__(message)
        self.class_name = class_name

    @property
    def name(self) -> str:
        """The name of the built-in class."""
        return f"builtins.{self.class_name}"


class DatabaseError(ServerError):
    """An error of PostgreSQL that reached the client."""

    def __init__(self, class_name: str, message: str) -> None:
        super().__init__(message)
        self.class_name = class_name

    @property
    def name(self) -> str:
        """The name of the driver's class."""
        return f"psycopg2.{self.class_name}"

    @classmethod
    def unknown_database(cls, database: object) -> DatabaseError:
        """Return what PostgreSQL says when nobody has created the database."""
        return cls(
            "OperationalError",
            'connection to server at "127.0.0.1", port 5432 failed: '
            f'FATAL:  database "{database}" does not exist\n',
        )

    @classmethod
    def lock_not_available(cls, relation: str) -> DatabaseError:
        """Return what PostgreSQL says when a row stays locked for too long."""
        return cls(
            "errors.LockNotAvailable",
            f'could not obtain lock on row in relation "{relation}"\n',
        )

    @classmethod
    def serialization_failure(cls) -> DatabaseError:
        """Return what PostgreSQL says when two transactions changed one row."""
        return cls(
            "errors.SerializationFailure",
            "could not serialize access due to concurrent update\n",
        )


class SessionExpired(ServerError):
    """A browser route was called without a session."""

    qualified_name = "odoo.http.SessionExpiredException"
    title = "Odoo Session Expired"

    def __init__(self) -> None:
        super().__init__("Session expired")


def value_error(message: str) -> PythonError:
    """Return a `builtins.ValueError` of the server."""
    return PythonError("ValueError", message)


def type_error(message: str) -> PythonError:
    """Return a `builtins.TypeError` of the server."""
    return PythonError("TypeError", message)
