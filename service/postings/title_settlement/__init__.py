"""Settling a title: the payment of a receivable or a payable, with all that goes with it.

A part that is not asked for leaves its numbers without effect. Principal with interest or charges
(19, 20) comes after discount, agreement and return, since Odoo's wizard writes off whatever is then
left of the title.
"""

from datetime import timedelta

from service.posting.step import Definition, Settle, Step
from service.postings.title_settlement import (
    balance,
    contract,
    interest,
    payment,
    phantom,
    register,
    statement,
    title,
)
from service.postings.title_settlement.columns import COLUMNS
from service.postings.title_settlement.profile import SettlementProfile
from service.postings.title_settlement.settlement import (
    KIND,
    PartName,
    Settlement,
    SettlementFacts,
    SettlementInput,
    admit,
    document_key,
    today,
)
from service.postings.title_settlement.verify import verify

ACTION = Settle(timedelta(seconds=5), timedelta(seconds=300), late_arrival=True)
# Odoo refuses to match what is matched already: that the call comes twice does no harm.
MATCH = Settle(timedelta(seconds=5), timedelta(seconds=180))

_S = Step[Settlement, SettlementProfile, SettlementFacts]


def _part(number: int, part: PartName, title: str) -> tuple[_S, ...]:
    """A payment of its own: created, posted, reconciled."""
    create, post, reconcile, undo = payment.steps_of(part)
    return (
        _S(number=number, name=f"create_{part}", title=f"{title}: create the payment",
           observe=create, undo=undo, settle=ACTION),
        _S(number=number + 1, name=f"post_{part}", title=f"{title}: post the payment",
           observe=post, settle=ACTION),
        _S(number=number + 2, name=f"reconcile_{part}", title=f"{title}: settle the title",
           observe=reconcile, settle=MATCH),
    )  # fmt: skip


STEPS: tuple[_S, ...] = (
    _S(number=1, name="find_title", title="Find the title", observe=title.find),
    _S(number=2, name="open_invoice", title="Year 2000: invoice to draft",
       observe=phantom.open_invoice, undo=phantom.undo_open, settle=ACTION),
    _S(number=3, name="repair_instalments", title="Year 2000: mend the instalments",
       observe=phantom.repair, repeatable=True),
    _S(number=4, name="close_invoice", title="Year 2000: post the invoice",
       observe=phantom.close_invoice, settle=ACTION),
    _S(number=5, name="look_before", title="Look at the title", observe=title.look_before),
    _S(number=6, name="check_balance", title="Check the balance", observe=balance.check),
    *_part(7, "principal", "Principal"),
    *_part(10, "discount", "Discount"),
    *_part(13, "agreement", "Agreement"),
    *_part(16, "returns", "Return"),
    _S(number=19, name="open_register", title="Principal with interest or charges: open the wizard",
       observe=register.prepare, act=register.open_wizard, repeatable=True),
    _S(number=20, name="register_payment", title="Principal with interest or charges: pay",
       observe=register.pay, undo=register.undo_pay, settle=ACTION),
    _S(number=21, name="create_interest", title="Interest alone: create the entry",
       observe=interest.create, undo=interest.undo_create, settle=ACTION),
    _S(number=22, name="post_interest", title="Interest alone: post the entry",
       observe=interest.post, settle=ACTION),
    _S(number=23, name="open_statement", title="Statement: entry to draft",
       observe=statement.open_entry, undo=statement.undo_open, settle=ACTION),
    _S(number=24, name="label_statement", title="Statement: partner and label",
       observe=statement.label, repeatable=True),
    _S(number=25, name="label_statement_items", title="Statement: label of the items",
       observe=statement.label_items, repeatable=True),
    _S(number=26, name="set_statement_account", title="Statement: account",
       observe=statement.set_account, repeatable=True),
    _S(number=27, name="close_statement", title="Statement: post the entry",
       observe=statement.close_entry, settle=ACTION),
    _S(number=28, name="reconcile_statement", title="Statement: match with the payment",
       observe=statement.reconcile, settle=MATCH),
    _S(number=29, name="verify", title="Look at the title again", observe=verify),
)  # fmt: skip

TITLE_SETTLEMENT = Definition(
    kind=KIND,
    title="Settlement of a title",
    input_model=SettlementInput,
    subject_model=Settlement,
    profile_model=SettlementProfile,
    facts_model=SettlementFacts,
    admit=admit,
    document_key=document_key,
    today=today,
    rights={
        title.LINE: ("read", "write"),
        title.MOVE: ("read", "write", "create"),
        title.JOURNAL: ("read",),
        title.PARTIAL: ("read",),
        contract.PARTNER: ("read",),
        payment.PAYMENT: ("read", "write", "create"),
        register.WIZARD: ("read", "write", "create"),
        statement.STATEMENT_LINE: ("read", "write"),
    },
    steps=STEPS,
    columns=COLUMNS,
)
