"""The tables of Eclusa. PostgreSQL is the truth; everything else can be rebuilt from it."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NAMING = {
    "ix": "ix_%(column_0_N_label)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

POSTING_STATUSES = (
    "pending",
    "running",
    "waiting",
    "completed",
    "failed",
    "needs_attention",
    "rolled_back",
    "canceled",
)
STEP_STATES = ("started", "unknown", "done", "found", "skipped", "failed", "undone")
INTENTS = ("post", "compensate")
SYNC_MODES = ("incremental", "full", "keys")
SCHEDULED_MODES = ("incremental", "full")
SYNC_STATUSES = ("pending", "running", "completed", "failed", "canceled")
BATCH_ANSWERS = ("accepted", "live", "completed", "invalid")


def _one_of(column: str, values: tuple[str, ...]) -> str:
    return f"{column} IN ({', '.join(repr(value) for value in values)})"


class Base(DeclarativeBase):
    """Every table: named constraints, times with a zone, documents as JSONB."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {  # noqa: RUF012  SQLAlchemy's own class attribute
        str: Text,
        uuid.UUID: Uuid,
        dt.datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB(none_as_null=True),
        list[str]: JSONB(none_as_null=True),
        list[dict[str, Any]]: JSONB(none_as_null=True),
    }


class PostingRow(Base):
    """One document on its way into Odoo.

    `document_type` and `document_key` tell documents apart; two kinds may post the same documents.

    `fence` rises with every claim; whoever writes must know the present one. `worker` made the
    last claim. `run` counts the times it was started or resumed by a person. `intent` is what a
    worker is to do with it: bring it into Odoo, or take it out again. `cancel_requested_by` asks
    for its end as soon as no call is in doubt. `audit_seq` and `audit_hash` are the head of its
    audit chain, so that the last rows cannot be cut off unseen.
    """

    __tablename__ = "posting"
    __table_args__ = (
        CheckConstraint(_one_of("status", POSTING_STATUSES), name="status"),
        CheckConstraint(_one_of("intent", INTENTS), name="intent"),
        Index(
            "uq_posting_document",
            "connection",
            "document_type",
            "document_key",
            unique=True,
            postgresql_where=text("status <> 'canceled'"),
        ),
        Index("ix_posting_created", "created_at", "id"),
        Index("ix_posting_status_created", "status", "created_at", "id"),
        Index(
            "ix_posting_unfinished",
            "status",
            postgresql_where=text("status IN ('pending', 'running', 'waiting')"),
        ),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    kind: Mapped[str]
    connection: Mapped[str]
    document_type: Mapped[str]
    document_key: Mapped[str]
    reference: Mapped[str | None]
    status: Mapped[str]
    subject: Mapped[dict[str, Any]]
    facts: Mapped[dict[str, Any]]
    step: Mapped[int]
    total_steps: Mapped[int]
    run: Mapped[int]
    fence: Mapped[int] = mapped_column(BigInteger)
    worker: Mapped[str | None]
    intent: Mapped[str]
    cancel_requested_by: Mapped[str | None]
    code: Mapped[str | None]
    message: Mapped[str | None]
    actor: Mapped[str]
    ip: Mapped[str | None]
    audit_seq: Mapped[int]
    audit_hash: Mapped[str]
    created_at: Mapped[dt.datetime]
    updated_at: Mapped[dt.datetime]
    ended_at: Mapped[dt.datetime | None]


class StepRow(Base):
    """The ledger: what was started for a step, and how it ended.

    `state` is `started` from before the call until its outcome is recorded; a row found so by
    another worker is a call in doubt. `settle_until` counts from `sent_at`, across crashes. `undo`:
    the call was meant to undo the step.
    """

    __tablename__ = "posting_step"
    __table_args__ = (CheckConstraint(_one_of("state", STEP_STATES), name="state"),)

    posting_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("posting.id", ondelete="RESTRICT"), primary_key=True
    )
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    name: Mapped[str]
    state: Mapped[str]
    attempt: Mapped[int]
    run: Mapped[int]
    fence: Mapped[int] = mapped_column(BigInteger)
    undo: Mapped[bool]
    call: Mapped[dict[str, Any] | None]
    sent_at: Mapped[dt.datetime | None]
    settle_until: Mapped[dt.datetime | None]
    ended_at: Mapped[dt.datetime | None]
    sent_seq: Mapped[int | None]


class WorkerRow(Base):
    """A worker process, and when it last showed that it lives, by the database's clock."""

    __tablename__ = "worker"

    id: Mapped[str] = mapped_column(primary_key=True)
    started_at: Mapped[dt.datetime]
    seen_at: Mapped[dt.datetime]


class AuditRow(Base):
    """One thing that happened to a posting. Rows are only ever added.

    `hash` covers the row and the `previous_hash`; `settles` is the `seq` of an earlier row whose
    outcome was unknown and is known by this one.
    """

    __tablename__ = "audit_record"
    __table_args__ = (
        CheckConstraint(_one_of("status", ("success", "warning", "error")), name="status"),
        Index("uq_audit_record_posting_id_seq", "posting_id", "seq", unique=True),
        Index("ix_audit_record_at", "at", "id"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    posting_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("posting.id", ondelete="RESTRICT"))
    seq: Mapped[int]
    at: Mapped[dt.datetime]
    run: Mapped[int]
    fence: Mapped[int] = mapped_column(BigInteger)
    step: Mapped[int]
    step_name: Mapped[str]
    action: Mapped[str]
    status: Mapped[str]
    posting_status: Mapped[str]
    attempt: Mapped[int]
    model: Mapped[str | None]
    method: Mapped[str | None]
    message: Mapped[str]
    code: Mapped[str | None]
    before: Mapped[dict[str, Any] | None]
    after: Mapped[dict[str, Any] | None]
    changed_fields: Mapped[list[str] | None]
    context: Mapped[dict[str, Any] | None]
    error: Mapped[dict[str, Any] | None]
    odoo_ids: Mapped[dict[str, Any] | None]
    duration_ms: Mapped[int | None]
    settles: Mapped[int | None]
    actor: Mapped[str]
    ip: Mapped[str | None]
    previous_hash: Mapped[str]
    hash: Mapped[str]


class BatchRow(Base):
    """Documents that were accepted together: `over` of the `total` items are, `completed` are well.

    `seq` is the number of its last event; whoever raises it holds the row's lock.
    """

    __tablename__ = "batch"
    __table_args__ = (
        CheckConstraint(
            '0 <= completed AND completed <= "over" AND "over" <= total', name="counts"
        ),
        Index(
            "ix_batch_file_sha256", "file_sha256", postgresql_where=text("file_sha256 IS NOT NULL")
        ),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    reference: Mapped[str | None]
    file_sha256: Mapped[str | None]
    actor: Mapped[str]
    ip: Mapped[str | None]
    total: Mapped[int]
    over: Mapped[int]
    completed: Mapped[int]
    seq: Mapped[int]
    created_at: Mapped[dt.datetime]
    updated_at: Mapped[dt.datetime]


class BatchItemRow(Base):
    """One item of a batch, in the caller's order, and the posting of its document."""

    __tablename__ = "batch_item"
    __table_args__ = (
        CheckConstraint(_one_of("answer", BATCH_ANSWERS), name="answer"),
        Index("ix_batch_item_posting_id", "posting_id"),
    )

    batch_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("batch.id", ondelete="RESTRICT"), primary_key=True
    )
    position: Mapped[int] = mapped_column(Integer, primary_key=True)
    posting_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("posting.id", ondelete="RESTRICT")
    )
    answer: Mapped[str]
    reference: Mapped[str | None]
    problems: Mapped[list[dict[str, Any]]]


class BatchEventRow(Base):
    """One event of a batch: what became of one of its postings, and how far it is with that."""

    __tablename__ = "batch_event"

    batch_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("batch.id", ondelete="RESTRICT"), primary_key=True
    )
    seq: Mapped[int] = mapped_column(Integer, primary_key=True)
    at: Mapped[dt.datetime]
    over: Mapped[int]
    completed: Mapped[int]
    total: Mapped[int]
    posting_id: Mapped[uuid.UUID | None]
    document_key: Mapped[str | None]
    posting_status: Mapped[str | None]
    code: Mapped[str | None]
    message: Mapped[str]


class SyncRunRow(Base):
    """One run of a sync on a connection: its window, how far it is, and what it has found.

    `after_id` is the last id whose page is in the mirror, saved in that page's transaction. The
    window is `[window_from, window_to)` on `write_date`; without a beginning it is everything.
    `keys`: the run is about these rows only. `expected` is how many rows Odoo counted when the
    window was fixed, `missing` how many related records it did not have. `seq` is the number of
    the last event.
    """

    __tablename__ = "sync_run"
    __table_args__ = (
        CheckConstraint(_one_of("mode", SYNC_MODES), name="mode"),
        CheckConstraint(_one_of("status", SYNC_STATUSES), name="status"),
        Index(
            "uq_sync_run_live",
            "connection",
            "name",
            unique=True,
            postgresql_where=text("status IN ('pending', 'running')"),
        ),
        Index("ix_sync_run_name_created", "name", "created_at"),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    connection: Mapped[str]
    name: Mapped[str]
    mode: Mapped[str]
    status: Mapped[str]
    accept_removals: Mapped[bool]
    fence: Mapped[int] = mapped_column(BigInteger)
    worker: Mapped[str | None]
    window_from: Mapped[dt.datetime | None]
    window_to: Mapped[dt.datetime | None]
    after_id: Mapped[int] = mapped_column(BigInteger)
    pages: Mapped[int]
    read: Mapped[int]
    written: Mapped[int]
    removed: Mapped[int]
    cursor_before: Mapped[dt.datetime | None]
    code: Mapped[str | None]
    message: Mapped[str | None]
    actor: Mapped[str]
    ip: Mapped[str | None]
    keys: Mapped[list[str] | None]
    expected: Mapped[int]
    calls: Mapped[int]
    missing: Mapped[int]
    seq: Mapped[int]
    cancel_requested_by: Mapped[str | None]
    created_at: Mapped[dt.datetime]
    updated_at: Mapped[dt.datetime]
    ended_at: Mapped[dt.datetime | None]


class SyncEventRow(Base):
    """One event of a run: what was done, and how far the run was then."""

    __tablename__ = "sync_event"

    run_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("sync_run.id", ondelete="CASCADE"), primary_key=True
    )
    seq: Mapped[int] = mapped_column(Integer, primary_key=True)
    at: Mapped[dt.datetime]
    action: Mapped[str]
    status: Mapped[str]
    actor: Mapped[str]
    expected: Mapped[int]
    pages: Mapped[int]
    read: Mapped[int]
    written: Mapped[int]
    removed: Mapped[int]
    calls: Mapped[int]
    code: Mapped[str | None]
    message: Mapped[str | None]


class SyncScheduleRow(Base):
    """When a sync runs by itself on a connection: a cron expression in UTC.

    `next_at` is when it is due; whoever starts it moves that on. `version` rises with every change
    by a person.
    """

    __tablename__ = "sync_schedule"
    __table_args__ = (
        CheckConstraint(_one_of("mode", SCHEDULED_MODES), name="mode"),
        Index("ix_sync_schedule_next_at", "next_at", postgresql_where=text("NOT paused")),
    )

    connection: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    cron: Mapped[str]
    mode: Mapped[str]
    paused: Mapped[bool]
    next_at: Mapped[dt.datetime]
    version: Mapped[int]
    actor: Mapped[str]
    updated_at: Mapped[dt.datetime]


class SyncCursorRow(Base):
    """Up to which `write_date` the rows of a connection are in the mirror of a sync."""

    __tablename__ = "sync_cursor"

    connection: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[dt.datetime]
    run_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("sync_run.id", ondelete="RESTRICT"))


class ApiKeyRow(Base):
    """A key of the HTTP API: its SHA-256 digest, how it begins, and what it allows.

    Without `connections` it is for all of them. `last_used_at` is exact to a minute.
    """

    __tablename__ = "api_key"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    prefix: Mapped[str]
    digest: Mapped[str] = mapped_column(unique=True)
    scopes: Mapped[list[str]]
    connections: Mapped[list[str] | None]
    created_at: Mapped[dt.datetime]
    created_by: Mapped[str]
    expires_at: Mapped[dt.datetime | None]
    last_used_at: Mapped[dt.datetime | None]
    revoked_at: Mapped[dt.datetime | None]
    revoked_by: Mapped[str | None]
    requests_per_second: Mapped[float | None]


class IdempotencyRow(Base):
    """A key that a caller gave to a request, and how that was answered.

    `owner` is the API key. Without `status` it is still being carried out, by whoever has `claim`,
    and free again after `claimed_until`. Without `body` the answer held what is not kept.
    """

    __tablename__ = "idempotency_record"
    __table_args__ = (Index("ix_idempotency_record_expires_at", "expires_at"),)

    owner: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[str]
    claim: Mapped[uuid.UUID]
    claimed_until: Mapped[dt.datetime]
    expires_at: Mapped[dt.datetime]
    status: Mapped[int | None]
    headers: Mapped[dict[str, Any]]
    body: Mapped[bytes | None] = mapped_column(LargeBinary)
