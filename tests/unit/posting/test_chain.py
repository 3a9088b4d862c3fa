"""Tampering with an audit chain: what was done to which record is named."""

from __future__ import annotations

import itertools
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from service.posting import audit, chain
from service.posting.audit import Record
from service.posting.step import Actor, Call

POSTING = UUID(int=7)
LENGTH = 6
Damages = list[tuple[int, str]]


def written() -> tuple[list[Record], chain.Head]:
    """A chain as it was written, and what the posting knows of its end."""
    records: list[Record] = []
    head = audit.Head(
        posting_id=POSTING,
        seq=0,
        hash=audit.GENESIS,
        run=1,
        fence=1,
        at=datetime(2026, 11, 24, 12, tzinfo=UTC),
    )
    call = Call(model="res.partner", method="write", args=[[1], {"name": "b"}], after={"name": "b"})
    for number in range(1, LENGTH + 1):
        note = audit.Note(action="done", message=f"step {number}", step=number, call=call)
        record = audit.sealed(head, note, "running", Actor(name="tester", ip="127.0.0.1"))
        at = head.at + timedelta(seconds=1)
        head = replace(head, seq=record.seq, hash=record.hash, at=at)
        records.append(record)
    return records, chain.Head(seq=head.seq, hash=head.hash, status="running")


def found(records: list[Record], head: chain.Head) -> Damages:
    """What is seen, as the ledger hands it over: by number."""
    verdict = chain.check(POSTING, sorted(records, key=lambda record: record.seq), head)
    assert verdict.valid == (not verdict.damages)
    return [(damage.seq, damage.kind) for damage in verdict.damages]


def resealed(record: Record, **changes: Any) -> Record:
    """A record with a hash that fits its changed content."""
    changed = replace(record, **changes)
    return replace(changed, hash=changed.seal())


def test_a_chain_that_was_left_alone_is_whole() -> None:
    """Nothing is seen where nothing was done."""
    assert found(*written()) == []


@pytest.mark.parametrize(
    "name", [field.name for field in fields(Record) if field.name not in {"seq", "posting_id"}]
)
def test_a_change_of_any_field_is_found(name: str) -> None:
    """Every column is covered by the hash, and so is the hash itself."""
    records, head = written()
    value = getattr(records[2], name)
    other: Any = {
        "str": "tampered",
        "int": 99,
        "datetime": datetime(2020, 1, 1, tzinfo=UTC),
        "dict": {"name": "c"},
        "list": ["other"],
        "NoneType": "tampered",
    }[type(value).__name__]
    records[2] = replace(records[2], **{name: other})

    assert found(records, head) == [(3, "changed")]


@pytest.mark.parametrize("number", range(1, LENGTH))
def test_a_removed_record_is_found(number: int) -> None:
    """Its number is missing."""
    records, head = written()
    del records[number - 1]

    assert found(records, head) == [(number, "missing")]


@pytest.mark.parametrize("left", range(LENGTH))
def test_a_cut_off_end_is_found(left: int) -> None:
    """The posting knows how many there were."""
    records, head = written()

    assert found(records[:left], head) == [(left + 1, "cut_off")]


@pytest.mark.parametrize(
    ("one", "other"), list(itertools.combinations(range(1, LENGTH + 1), 2)), ids=str
)
def test_two_records_that_changed_places_are_found(one: int, other: int) -> None:
    """Both are named with the numbers that they were written with."""
    records, head = written()
    records[one - 1] = replace(records[one - 1], seq=other)
    records[other - 1] = replace(records[other - 1], seq=one)

    assert found(records, head) == [(one, "moved"), (other, "moved")]


def test_a_gap_that_was_closed_up_is_found() -> None:
    """The missing one is named, and those that took over the numbers."""
    records, head = written()
    kept = records[:2] + [replace(record, seq=record.seq - 1) for record in records[3:]]

    assert found(kept, head) == [(3, "missing"), (4, "moved"), (5, "moved"), (6, "moved")]


@pytest.mark.parametrize("number", range(1, LENGTH + 1))
def test_a_record_that_was_written_anew_is_found(number: int) -> None:
    """Its own hash fits; what was sealed after it, or the posting, tells."""
    records, head = written()
    records[number - 1] = resealed(records[number - 1], message="something else")

    assert found(records, head) == [(number, "rewritten")]


def test_a_rest_that_was_written_anew_is_found() -> None:
    """A forger who reseals all that follows is told by the posting's hash."""
    records, head = written()
    records[2] = resealed(records[2], message="something else")
    for place in range(3, LENGTH):
        records[place] = resealed(records[place], previous_hash=records[place - 1].hash)

    assert found(records, head) == [(LENGTH, "rewritten")]


def test_a_beginning_that_was_cut_off_and_resealed_is_found() -> None:
    """The first record follows nothing."""
    records, head = written()
    records[0] = resealed(records[0], previous_hash="1" * 64)

    assert found(records, head) == [(1, "rewritten"), (1, "rewritten")]


def test_a_record_that_was_added_is_found() -> None:
    """One that fits the chain is still one that the posting does not know."""
    records, head = written()
    more = resealed(records[-1], seq=LENGTH + 1, previous_hash=records[-1].hash)

    assert found([*records, more], head) == [(LENGTH + 1, "added")]


def test_a_changed_status_of_the_posting_is_found() -> None:
    """The last record says what the posting's status is."""
    records, head = written()

    assert found(records, replace(head, status="completed")) == [(LENGTH, "status")]


def test_a_changed_head_of_the_posting_is_found() -> None:
    """The last record and the posting do not agree."""
    records, head = written()

    assert found(records, replace(head, hash="0" * 64)) == [(LENGTH, "rewritten")]


def test_several_damages_are_all_named() -> None:
    """One damage hides no other."""
    records, head = written()
    records[0] = replace(records[0], message="x")
    records[4] = replace(records[4], actor="somebody")
    del records[2]

    assert found(records, head) == [(1, "changed"), (3, "missing"), (5, "changed")]
