"""The errors of the service, as a tree.

Eclusa
├── Misconfigured            settings or the configuration file are wrong
├── TransactionOpen          a network call was about to wait inside a database transaction
├── Unavailable              a server this process needs does not answer
│   ├── DatabaseUnavailable  PostgreSQL does not answer, or went away during a transaction
│   └── LockUnavailable      Redis does not answer, so no lock can be had: nothing is posted
├── KeyRefused               the API key is missing, unknown, revoked or expired
├── RateLimited              somebody asks too often
├── LockHeld                 another posting holds the document
├── FenceLost                another worker took the posting over
├── RunLost                  another worker took the run of a sync over
└── Refused                  the caller asked for something that cannot be done
    ├── InvalidInput         the input is wrong; names the fields
    │   └── InvalidRows      rows of a file are wrong; names lines and columns
    ├── FileKnown            the file was accepted before
    ├── InsufficientScope    the API key has not the scope that is needed
    ├── ConnectionNotAllowed the API key is for other connections
    ├── UnknownName          a connection, kind, posting or job that does not exist
    ├── IdempotencyKeyReused the Idempotency-Key was given to another request
    ├── IdempotencyInProgress the first request with that key is still being carried out
    ├── AnswerNotKept        the request was carried out, and its answer held a secret
    ├── LivePosting          the document has a live posting already
    ├── LiveRun              the sync runs already on that connection
    └── WrongStatus          the posting's status does not allow it

Errors of Odoo have a tree of their own in `service.odoo.errors`. An error carries facts; the
HTTP status of each class stands in one table, `service.api.errors`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID


class EclusaError(Exception):
    """Base of all errors of the service itself."""

    code = "internal_error"


class Misconfigured(EclusaError):
    """Settings or the configuration file are wrong."""

    code = "misconfigured"


class TransactionOpen(EclusaError):
    """A network call was about to be awaited while a database transaction is open."""

    code = "transaction_open"


class Unavailable(EclusaError):
    """A server this process needs does not answer."""

    code = "unavailable"


class DatabaseUnavailable(Unavailable):
    """PostgreSQL does not answer, or went away during a transaction."""

    code = "database_unavailable"


class LockUnavailable(Unavailable):
    """Redis does not answer, so the lock cannot be had and nothing is posted."""

    code = "lock_unavailable"


KeyTrouble = Literal["missing", "unknown", "revoked", "expired"]
_KEY_TROUBLES: dict[KeyTrouble, str] = {
    "missing": "Send an API key: Authorization: Bearer …",
    "unknown": "This API key is not known.",
    "revoked": "This API key was revoked.",
    "expired": "This API key has expired.",
}


@dataclass
class KeyRefused(EclusaError):
    """The API key is missing, or not valid."""

    reason: KeyTrouble
    code = "unauthenticated"

    def __str__(self) -> str:
        return _KEY_TROUBLES[self.reason]


@dataclass
class RateLimited(EclusaError):
    """Somebody asks too often; `wait_seconds` tells when to ask again."""

    who: str
    wait_seconds: int
    code = "rate_limited"

    def __str__(self) -> str:
        return f"too many requests of {self.who}: try again in {self.wait_seconds} s"


@dataclass
class LockHeld(EclusaError):
    """Another owner holds the lock."""

    key: str
    holder: str
    code = "lock_held"

    def __str__(self) -> str:
        return f"{self.key} is held by {self.holder}"


@dataclass
class FenceLost(EclusaError):
    """Another worker has claimed the posting: this one writes and calls nothing more."""

    posting_id: UUID
    fence: int
    code = "fence_lost"

    def __str__(self) -> str:
        return f"posting {self.posting_id} was taken over (fence {self.fence} is old)"


@dataclass
class RunLost(EclusaError):
    """Another worker has claimed the run of a sync: this one writes nothing more."""

    run_id: UUID
    fence: int
    code = "run_lost"

    def __str__(self) -> str:
        return f"run {self.run_id} was taken over (fence {self.fence} is old)"


@dataclass
class RunCanceled(EclusaError):
    """Somebody asked for the end of a sync's run: its worker writes nothing more of it."""

    run_id: UUID
    by: str
    code = "run_canceled"

    def __str__(self) -> str:
        return f"the end of run {self.run_id} was asked for by {self.by}"


class Refused(EclusaError):
    """The caller asked for something that cannot be done."""

    code = "refused"


@dataclass(frozen=True)
class Problem:
    """One wrong field: its path (`input.due_date`), and what is wrong with it.

    In a file, `line` is the number that a person sees and `column` the name in its header.
    """

    field: str
    message: str
    code: str = "invalid"
    line: int | None = None
    column: str | None = None


@dataclass
class InvalidInput(Refused):
    """The input is wrong; `problems` names each field."""

    problems: Sequence[Problem]
    code = "invalid_input"

    def __str__(self) -> str:
        return "; ".join(f"{problem.field}: {problem.message}" for problem in self.problems)


@dataclass
class InvalidRows(InvalidInput):
    """Rows of a file are wrong, and nothing of it was taken; every one of them is named."""

    rows: int = 0
    code = "invalid_rows"

    def __str__(self) -> str:
        lines = {problem.line for problem in self.problems}
        return f"{len(lines)} of {self.rows} rows are wrong: nothing was posted"


@dataclass
class FileKnown(Refused):
    """The same file was accepted before."""

    batch_id: UUID
    code = "file_known"

    def __str__(self) -> str:
        return f"this file was accepted before as batch {self.batch_id}: send it with again=true"


@dataclass
class InsufficientScope(Refused):
    """The API key has not the scope that is needed."""

    scope: str
    code = "insufficient_scope"

    def __str__(self) -> str:
        return f"this needs an API key with the scope {self.scope!r}"


@dataclass
class ConnectionNotAllowed(Refused):
    """The API key is for other connections; `allowed` lists them."""

    connection: str
    allowed: Sequence[str]
    code = "connection_not_allowed"

    def __str__(self) -> str:
        allowed = ", ".join(self.allowed)
        return f"this API key is not for the connection {self.connection!r}, but for {allowed}"


@dataclass
class UnknownName(Refused):
    """What was named does not exist; `known` lists what does, where a list helps."""

    what: str
    name: str
    known: Sequence[str] = field(default=())
    code = "not_found"

    def __str__(self) -> str:
        known = f"; known: {', '.join(self.known)}" if self.known else ""
        return f"there is no {self.what} {self.name!r}{known}"


@dataclass
class IdempotencyKeyReused(Refused):
    """The Idempotency-Key was given to another request before."""

    key: str
    code = "idempotency_key_reused"

    def __str__(self) -> str:
        return f"the Idempotency-Key {self.key!r} was given to another request: take a new one"


@dataclass
class IdempotencyInProgress(Refused):
    """The first request with this Idempotency-Key is still being carried out."""

    key: str
    code = "idempotency_in_progress"

    def __str__(self) -> str:
        return f"the request with the Idempotency-Key {self.key!r} is still being carried out"


@dataclass
class AnswerNotKept(Refused):
    """The request was carried out; its answer held a secret, and is not repeated."""

    key: str
    location: str | None
    code = "idempotency_answer_not_kept"

    def __str__(self) -> str:
        made = f" what it made is {self.location};" if self.location else ""
        return (
            f"the request with the Idempotency-Key {self.key!r} was carried out;{made} its answer "
            "held a secret, which is told once and kept nowhere"
        )


@dataclass
class LivePosting(Refused):
    """The document has a live posting already."""

    posting_id: UUID
    status: str
    code = "posting_live"

    def __str__(self) -> str:
        return f"this document is being posted already by {self.posting_id} ({self.status})"


@dataclass
class OtherKind(Refused):
    """The document has a posting of another kind."""

    posting_id: UUID
    kind: str
    status: str
    code = "posted_as_other_kind"

    def __str__(self) -> str:
        return f"this document is posted as {self.kind} by {self.posting_id} ({self.status})"


@dataclass
class LiveRun(Refused):
    """The sync runs already on that connection."""

    run_id: UUID
    status: str
    code = "sync_running"

    def __str__(self) -> str:
        return f"this sync runs already on that connection: {self.run_id} ({self.status})"


@dataclass
class StaleVersion(Refused):
    """Somebody else changed it meanwhile."""

    present: int
    code = "stale_version"

    def __str__(self) -> str:
        return f"it was changed meanwhile: its version is {self.present}"


@dataclass
class RunOver(Refused):
    """The sync's run has ended."""

    run_id: UUID
    status: str
    code = "run_over"

    def __str__(self) -> str:
        return f"run {self.run_id} is over: {self.status}"


@dataclass
class WrongStatus(Refused):
    """The posting's status does not allow what was asked."""

    posting_id: UUID
    status: str
    wanted: str
    code = "wrong_status"

    def __str__(self) -> str:
        return f"posting {self.posting_id} is {self.status}: {self.wanted}"
