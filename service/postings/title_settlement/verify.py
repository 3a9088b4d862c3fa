"""The last look: what was asked for is there and nothing else, and what it has changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.posting.step import Done, Halt, Observation
from service.postings.title_settlement import interest, payment, register, title

if TYPE_CHECKING:
    from service.postings.title_settlement.settlement import SettlementWork


async def verify(work: SettlementWork) -> Observation:
    """Step 29: every part is settled still; title and document as they are now."""
    observations = [
        *[await payment.reconcile(work, part) for part in payment.PARTS],
        await register.pay(work),
        await interest.post(work),
    ]
    if not all(isinstance(one, Done) for one in observations):
        raise Halt(
            "undone_meanwhile",
            "A payment was taken back in Odoo while the posting ended. Resume it.",
        )
    facts = await title.look_after(work)
    left = facts["after"]["title.amount_residual"]
    return Done(facts, f"R$ {left} of title {work.facts.title_id} are left")
