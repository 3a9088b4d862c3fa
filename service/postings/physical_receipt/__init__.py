"""Receiving goods: from a picking that expects them to stock, lot by lot.

Everything that is written can be compared with what Odoo shows, so that a step that is repeated
changes nothing. The picking is validated last, and once.
"""

from datetime import timedelta

from service.posting.step import Definition, Settle, Step
from service.postings.physical_receipt import checks, expectation, lines, lots, picking
from service.postings.physical_receipt.profile import ReceiptProfile
from service.postings.physical_receipt.receipt import (
    MOST_CHECKS,
    MOST_LOTS,
    Receipt,
    ReceiptFacts,
    admit,
    document_key,
    today,
)

LINES = Settle(timedelta(seconds=5), timedelta(seconds=300), late_arrival=True)
# A validation usually takes 80 to 100 s; some were seen to end after a quarter of an hour.
VALIDATION = Settle(timedelta(seconds=10), timedelta(seconds=1800), late_arrival=True)

_R = Step[Receipt, ReceiptProfile, ReceiptFacts]

STEPS: tuple[_R, ...] = (
    _R(number=1, name="find_picking", title="Find the picking", observe=picking.find),
    _R(number=2, name="create_lots", title="Create lots", observe=lots.create),
    _R(number=3, name="set_expiry", title="Expiry of lots", observe=lots.set_expiry,
       repeatable=True, most_calls=MOST_LOTS),
    _R(number=4, name="fill_lines", title="Lots and quantities", observe=lines.fill,
       settle=LINES),
    _R(number=5, name="record_measures", title="Measures of quality checks",
       observe=checks.record_measures, repeatable=True, most_calls=MOST_CHECKS),
    _R(number=6, name="decide_checks", title="Decide quality checks", observe=checks.decide,
       repeatable=True, most_calls=MOST_CHECKS + 2),
    _R(number=7, name="validate", title="Validate the picking", observe=picking.validate,
       act=picking.press, undo=picking.undo_validate, settle=VALIDATION),
    _R(number=8, name="verify", title="Verify stock", observe=picking.verify),
)  # fmt: skip

PHYSICAL_RECEIPT = Definition(
    kind="physical_receipt",
    title="Physical receipt of goods",
    input_model=Receipt,
    subject_model=Receipt,
    profile_model=ReceiptProfile,
    facts_model=ReceiptFacts,
    admit=admit,
    document_key=document_key,
    today=today,
    rights={
        expectation.PICKING: ("read", "write"),
        expectation.MOVE: ("read", "write"),
        lines.LINE: ("read", "write", "create", "unlink"),
        lots.LOT: ("read", "write", "create"),
        checks.CHECK: ("read", "write"),
    },
    steps=STEPS,
)
