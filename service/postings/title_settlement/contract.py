"""The discount of a contract: a part of every document of a customer, so nobody has to state it.

Net, charges and discount are the document's face. The title says whether the discount was taken off
when the document was issued; if it was not, it is booked like any other one.
"""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Any

from service.posting.step import Halt
from service.postings.title_settlement import payment, title
from service.postings.title_settlement.settlement import known

if TYPE_CHECKING:
    from service.postings.title_settlement.settlement import Purpose, SettlementWork

PARTNER = "res.partner"
RATE = "x_studio_desconto"
FACE = "l10n_br_total_nfe"
CENT = Decimal("0.01")
WHOLE = {"percent": Decimal(100), "fraction": Decimal(1)}
"""How a rate that gives everything away is written."""


async def split(work: SettlementWork, balance: Decimal) -> dict[str, Any]:
    """The facts of the discount: how much it is, and whether the title has it already.

    Once a payment was made they stay as they are, whatever becomes of the contract.
    """
    purposes: tuple[Purpose, ...] = ("principal", "discount", "register")
    made = any(getattr(work.facts, payment.fact_of(one)) is not None for one in purposes)
    if made and work.facts.contractual_discount is not None:
        return {}
    face = await _face(work)
    discount = (face * await _rate(work)).quantize(CENT, ROUND_HALF_UP)
    _check_net(work, face, discount)
    embedded = _is_embedded(work, balance, face, discount)
    return {"contractual_discount": discount, "discount_embedded": embedded}


async def _face(work: SettlementWork) -> Decimal:
    """The total of the document, of which the title is the only one."""
    move_id = known(work.facts.move_id)
    if await title.phantoms(work, move_id):
        raise Halt(
            "phantom_came_back",
            f"The document of {work.subject.name} has an instalment of 2000-01-01, which may be "
            "the discount of the contract. Mend it in Odoo, then resume.",
            "needs_attention",
        )
    titles = await work.odoo.search_read(
        title.LINE,
        [
            ["move_id", "=", move_id],
            ["account_type", "=", title.ACCOUNT_TYPE[work.subject.direction]],
            [title.OWED[work.subject.direction], ">", 0],
        ],
        ("debit",),
    )
    if len(titles) != 1:
        raise Halt(
            "contract_of_instalments",
            f"The document of {work.subject.name} has {len(titles)} instalments, and the contract "
            "does not say how they share its discount. Cancel this posting and send it with the "
            "discount of this one.",
        )
    [move] = await work.odoo.read(title.MOVE, [move_id], (FACE,))
    return move.number(FACE)


async def _rate(work: SettlementWork) -> Decimal:
    """The part of a document that the contract gives away."""
    [partner] = await work.odoo.read(PARTNER, [known(work.facts.partner_id)], ("name", RATE))
    written = partner.number(RATE)
    rate = written / WHOLE[work.profile.contract_rate]
    if not 0 < rate < 1:
        raise Halt(
            "no_contract",
            f"{partner.text('name')} has {written} as the {work.profile.contract_rate} of its "
            f"contract ({RATE}), which is no discount. Correct it in Odoo and resume, or cancel "
            "this posting and send it with the discount itself.",
        )
    return rate


def _check_net(work: SettlementWork, face: Decimal, discount: Decimal) -> None:
    """What the caller says that was paid is what the contract leaves."""
    net = face - discount - work.subject.charges
    if abs(work.subject.principal - net) > work.profile.contract_tolerance:
        raise Halt(
            "contract_net_differs",
            f"R$ {work.subject.principal} are paid of {work.subject.name}; by the contract they "
            f"would be R$ {net}: R$ {face}, less R$ {discount} of discount and R$ "
            f"{work.subject.charges} of charges. Correct the contract in Odoo and resume, or "
            "cancel this posting and send it with the discount itself.",
        )


def _is_embedded(work: SettlementWork, balance: Decimal, face: Decimal, discount: Decimal) -> bool:
    """Whether the title is net of the discount; halts where it is neither that nor the face."""
    above_net, below_face = abs(balance - (face - discount)), abs(face - balance)
    if min(above_net, below_face) > work.profile.contract_tolerance:
        raise Halt(
            "contract_balance_differs",
            f"Of {work.subject.name} R$ {balance} are open, which is neither its face (R$ {face}) "
            f"nor its face without the discount (R$ {face - discount}). See in Odoo what has "
            "settled it, then cancel this posting and send the right amounts.",
        )
    return above_net < below_face
