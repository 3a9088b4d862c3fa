"""Posting a freight bill (CTe): from the fiscal document in Odoo to a posted vendor bill.

Sixteen steps. The number 8 is kept and does nothing, so that numbers mean the same in every log.
Taxes (12), header (13), taxes again (14): the header changes how Odoo taxes the bill.
"""

from datetime import timedelta

from service.posting.step import Definition, Settle, Step
from service.postings.freight_cte import bill, dfe, purchase_order
from service.postings.freight_cte.freight import (
    Freight,
    FreightFacts,
    FreightInput,
    admit,
    document_key,
    today,
)
from service.postings.freight_cte.profile import FreightProfile

# A proxy cuts calls at 120 s while Odoo goes on, and generating an order takes 60 to 90 s or more.
GENERATION = Settle(timedelta(seconds=10), timedelta(seconds=600), late_arrival=True)
ACTION = Settle(timedelta(seconds=5), timedelta(seconds=300), late_arrival=True)
# Odoo takes about two minutes for the taxes of a long bill.
TAXES = timedelta(seconds=150)

_F = Step[Freight, FreightProfile, FreightFacts]

STEPS: tuple[_F, ...] = (
    _F(number=1, name="find_document", title="Find the fiscal document", observe=dfe.find),
    _F(number=2, name="prepare_entry", title="Entry date and reference", observe=dfe.prepare_entry,
       repeatable=True),
    _F(number=3, name="set_order_type", title="Order type", observe=dfe.set_order_type,
       repeatable=True),
    _F(number=4, name="set_product", title="Product on the line", observe=dfe.set_product,
       repeatable=True),
    _F(number=5, name="set_due_date", title="Due date", observe=dfe.set_due_date,
       repeatable=True),
    _F(number=6, name="generate_order", title="Generate the order", observe=dfe.generate_order,
       undo=dfe.undo_generate_order, settle=GENERATION),
    _F(number=7, name="configure_order", title="Configure the order",
       observe=purchase_order.configure, repeatable=True),
    _F(number=8, name="order_taxes", title="Taxes of the order", observe=purchase_order.no_taxes,
       disabled="left out: Odoo's tax action on an order sets its amounts to zero"),
    _F(number=9, name="confirm_order", title="Confirm the order", observe=purchase_order.confirm,
       settle=ACTION),
    _F(number=10, name="approve_order", title="Approve the order", observe=purchase_order.approve,
       settle=ACTION),
    _F(number=11, name="create_bill", title="Create the bill", observe=bill.create,
       undo=bill.undo_create, settle=ACTION),
    _F(number=12, name="bill_taxes", title="Taxes of the bill", observe=bill.taxes,
       act=bill.compute_taxes, repeatable=True, required=False, timeout=TAXES),
    _F(number=13, name="configure_bill", title="Configure the bill", observe=bill.configure,
       repeatable=True),
    _F(number=14, name="bill_taxes_again", title="Taxes of the bill again",
       observe=bill.taxes_again, act=bill.compute_taxes_again, repeatable=True, required=False,
       timeout=TAXES),
    _F(number=15, name="post_bill", title="Post the bill", observe=bill.post,
       settle=ACTION),
    _F(number=16, name="verify", title="Verify order and bill", observe=bill.verify),
)  # fmt: skip

FREIGHT_CTE = Definition(
    kind="freight_cte",
    title="Freight bill (CTe)",
    input_model=FreightInput,
    subject_model=Freight,
    profile_model=FreightProfile,
    facts_model=FreightFacts,
    admit=admit,
    document_key=document_key,
    document_type="cte",
    today=today,
    rights={
        dfe.DFE: ("read", "write"),
        dfe.LINE: ("read", "write"),
        dfe.INSTALMENT: ("read", "write"),
        dfe.ORDER: ("read", "write"),
        purchase_order.LINE: ("read", "write"),
        purchase_order.PARTNER: ("read",),
        dfe.BILL: ("read", "write", "create"),
    },
    steps=STEPS,
)
