"""The quality checks of the picking, decided before it is done. Steps 5 and 6."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.posting.step import Call, Done, Halt, Observation, Pending, write
from service.postings.physical_receipt.expectation import ALREADY_DONE, context, is_done, read
from service.postings.physical_receipt.profile import rounded

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    from service.odoo.records import Record
    from service.postings.physical_receipt.receipt import ReceiptCheck, ReceiptWork

CHECK = "quality.check"
FIELDS = ("display_name", "quality_state", "measure")
OPEN = "none"


async def record_measures(work: ReceiptWork) -> Observation:
    """Step 5: every measured check holds its measure."""
    checks = await _unfinished(work)
    if isinstance(checks, Done):
        return checks
    for check, given in checks:
        before, after = {"measure": _measure(work, check)}, {"measure": given.measure}
        if given.measure is not None and before != after:
            return Pending(write(CHECK, check.id, before, after))
    return Done()


async def decide(work: ReceiptWork) -> Observation:
    """Step 6: every check is decided: passed and failed ones together, measured ones one by one."""
    checks = await _unfinished(work)
    if isinstance(checks, Done):
        return checks
    undecided = [(check, given) for check, given in checks if check.text("quality_state") == OPEN]
    for verdict in ("pass", "fail"):
        if ids := [check.id for check, given in undecided if given.result == verdict]:
            return Pending(_call(work, f"do_{verdict}", ids, verdict))
    for check, given in undecided:
        if given.measure is not None:
            return Pending(_call(work, "do_measure", [check.id], "by its measure"))
    return Done(message=f"{len(checks)} checks")


async def paired(work: ReceiptWork) -> list[tuple[Record, ReceiptCheck]]:
    """The picking's checks with their results; halts unless they belong together."""
    if not work.profile.quality_checks:
        _refuse_unknown(work, [])
        return []
    picking_id = work.subject.picking_id
    checks = await work.odoo.search_read(CHECK, [["picking_id", "=", picking_id]], FIELDS)
    _refuse_unknown(work, checks)
    results = {given.check_id: given for given in work.subject.checks}
    _refuse_open([one for one in checks if one.id not in results])
    pairs = [(check, results[check.id]) for check in checks if check.id in results]
    for check, given in pairs:
        _refuse_decided(work, check, given)
    return pairs


async def _unfinished(work: ReceiptWork) -> list[tuple[Record, ReceiptCheck]] | Done:
    """The checks and their results, unless nothing is to be done for them any more."""
    if is_done(await read(work)):
        return Done(message=ALREADY_DONE)
    return await paired(work) or Done(message="no check is to be decided")


def _call(work: ReceiptWork, method: str, ids: list[int], verdict: str) -> Call:
    return Call(
        model=CHECK,
        method=method,
        args=[ids],
        kwargs={"context": context(work)},
        before={"quality_state": OPEN},
        after={"quality_state": verdict},
    )


def _refuse_unknown(work: ReceiptWork, checks: Sequence[Record]) -> None:
    known = {check.id for check in checks}
    if unknown := [str(one.check_id) for one in work.subject.checks if one.check_id not in known]:
        raise Halt(
            "check_not_found",
            f"The picking has no quality checks with the ids {', '.join(unknown)}. Cancel this "
            "posting and post the receipt anew with the checks that it has.",
        )


def _refuse_open(checks: Sequence[Record]) -> None:
    names = [check.text("display_name") or "" for check in checks if is_open(check)]
    if names:
        raise Halt(
            "check_open",
            f"The receipt has no result for the quality checks {', '.join(names)}. Decide them in "
            "Odoo and resume, or cancel this posting and post the receipt anew with their results.",
        )


def _refuse_decided(work: ReceiptWork, check: Record, given: ReceiptCheck) -> None:
    """What was decided in another way is not decided again."""
    state = check.text("quality_state")
    measured = given.measure is not None
    as_given = _measure(work, check) == given.measure if measured else state == given.result
    if not is_open(check) and not as_given:
        raise Halt(
            "check_decided",
            f"Quality check {check.text('display_name')} is decided in Odoo ({state}), and not as "
            "this receipt says. Set it right in Odoo and resume, or cancel this posting and post "
            "the receipt anew.",
            "needs_attention",
        )


def _measure(work: ReceiptWork, check: Record) -> Decimal:
    return rounded(check.number("measure"), work.profile.measure_decimals)


def is_open(check: Record) -> bool:
    """Whether a check was not decided yet."""
    return check.text("quality_state") == OPEN
