"""Whether an audit chain is as it was written, and which of its records are not.

A record's own hash tells whether its content was changed, and, tried with the numbers that are
free, where it stood. The hash that the next record was sealed after tells whether it was written
anew. The posting knows the last number and hash, so that an end cannot be cut off. Who rewrites a
whole chain and the posting with it leaves no trace here: keep the hash of the head elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from service.posting.audit import GENESIS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from uuid import UUID

    from service.posting.audit import Record

DamageKind = Literal["changed", "rewritten", "moved", "missing", "cut_off", "added", "status"]

MOST_PLACES = 200
"""Numbers that a record is tried with to find where it stood: each costs a hash."""


@dataclass(frozen=True, kw_only=True)
class Head:
    """What the posting says about the end of its chain."""

    seq: int
    hash: str
    status: str


@dataclass(frozen=True, kw_only=True)
class Damage:
    """One record that is not as it was written; `seq` is the number that it was written with."""

    seq: int
    kind: DamageKind
    message: str


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether a posting's chain is whole; if not, every damage that is seen, by number."""

    posting_id: UUID
    records: int
    damages: tuple[Damage, ...]

    @property
    def valid(self) -> bool:
        """Whether everything is as it was written."""
        return not self.damages


def check(posting_id: UUID, records: Sequence[Record], head: Head) -> Verdict:
    """Compare the records of a posting with their own hashes, each other, and the posting."""
    misfits = [record for record in records if record.seal() != record.hash]
    moved = _moved(misfits, records, head)
    changed = [record for record in misfits if record.seq not in moved]
    whole = {record.seq: record for record in records if record not in misfits} | {
        original.seq: original for original in moved.values()
    }
    damages = [
        *(_damage_moved(now, original) for now, original in moved.items()),
        *(_damage(record.seq, "changed", "its content was changed") for record in changed),
        *_missing({*whole, *(record.seq for record in changed)}, head),
        *_rewritten(whole, head),
        *_status(whole, head),
    ]
    damages.sort(key=lambda damage: damage.seq)
    return Verdict(posting_id=posting_id, records=len(records), damages=tuple(damages))


def _damage(seq: int, kind: DamageKind, what: str) -> Damage:
    return Damage(seq=seq, kind=kind, message=f"record {seq}: {what}")


def _damage_moved(now: int, original: Record) -> Damage:
    return _damage(original.seq, "moved", f"it stands as number {now}")


def _moved(
    misfits: Sequence[Record], records: Sequence[Record], head: Head
) -> Mapping[int, Record]:
    """The records that fit under another number: by their present one, as they were written."""
    taken = {record.seq for record in records} - {record.seq for record in misfits}
    free = [seq for seq in range(1, head.seq + 1) if seq not in taken][:MOST_PLACES]
    return {
        record.seq: original
        for record in misfits
        for original in [replace(record, seq=seq) for seq in free]
        if original.seal() == original.hash
    }


def _missing(present: set[int], head: Head) -> Iterator[Damage]:
    last = max((seq for seq in present if seq <= head.seq), default=0)
    for seq in sorted(set(range(1, last + 1)) - present):
        yield _damage(seq, "missing", "it was removed")
    if last < head.seq:
        message = f"cut off: the chain should end with record {head.seq}"
        yield _damage(last + 1, "cut_off", message)
    for seq in sorted(seq for seq in present if seq > head.seq):
        yield _damage(seq, "added", f"the posting knows of {head.seq} records only")


def _rewritten(whole: Mapping[int, Record], head: Head) -> Iterator[Damage]:
    """Records that fit themselves, but not what follows them, or at the beginning what is before.

    A rewritten record is told by its successor; the last one by the posting.
    """
    if 1 in whole and whole[1].previous_hash != GENESIS:
        yield _damage(1, "rewritten", "it does not begin a chain")
    for seq, record in whole.items():
        following = whole.get(seq + 1)
        after = following.previous_hash if following else None
        if seq == head.seq:
            after = head.hash
        if after is not None and record.hash != after:
            teller = "the posting" if seq == head.seq else f"record {seq + 1}"
            yield _damage(seq, "rewritten", f"{teller} was sealed after another one")


def _status(whole: Mapping[int, Record], head: Head) -> Iterator[Damage]:
    last = whole.get(head.seq)
    if last is not None and last.posting_status != head.status:
        message = f"it says {last.posting_status}, and the posting {head.status}"
        yield _damage(head.seq, "status", message)
