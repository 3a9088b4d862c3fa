"""Invoices and bills whose instalments stand open, some of them as wrong as they are in life."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from service.simulator import bills, bodies, reconciliation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.simulator.orm import Environment, Record
    from service.simulator.seed import SeedCompany

LINE = "account.move.line"
DAYS_BETWEEN = timedelta(days=30)
MONEY = frozenset({"discount", "phantom"})


@dataclass(frozen=True, kw_only=True)
class TitleOptions:
    """An invoice (receivable) or a vendor bill (payable), and its instalments.

    number          of the document; None takes the next one
    amounts         one instalment each
    company         the code of a company of the seed
    partner_id      None is the first customer, or the first carrier
    first           the number of the first instalment; 0 is stored as empty, as Odoo does
    instalments     whether instalments have a number at all
    on_items        whether the items know the document's number, or only the entry's name does
    discount        what the document gives away, on a line of its own
    phantom         an instalment of 2000-01-01 that nobody has agreed on
    posted          whether the document counts yet
    """

    direction: Literal["receivable", "payable"] = "receivable"
    number: int | None = None
    amounts: tuple[Decimal, ...] = (Decimal("1000.00"),)
    company: str = "plant"
    partner_id: int | None = None
    first: int = 1
    instalments: bool = True
    on_items: bool = True
    discount: Decimal = Decimal(0)
    phantom: Decimal = Decimal(0)
    posted: bool = True

    @property
    def total(self) -> Decimal:
        """The sum of the goods."""
        return sum(self.amounts, self.discount + self.phantom)


@dataclass(frozen=True, kw_only=True)
class SeededTitle:
    """What was made: the entry, its instalments, and the phantom among them, if there is one."""

    number: int
    move_id: int
    line_ids: tuple[int, ...]
    phantom_id: int | None
    company_id: int
    partner_id: int

    @property
    def line_id(self) -> int:
        """The first instalment."""
        return self.line_ids[0]

    def describe(self) -> dict[str, Any]:
        """Return the title as JSON."""
        return asdict(self)


def from_json(values: Mapping[str, Any]) -> TitleOptions:
    """Read title options from a JSON object, money as text; unknown names are refused."""
    bodies.check_names(values, TitleOptions)
    read: dict[str, Any] = {
        name: Decimal(str(value)) if name in MONEY else value for name, value in values.items()
    }
    if "amounts" in values:
        read["amounts"] = tuple(Decimal(str(amount)) for amount in values["amounts"])
    return TitleOptions(**read)


def issue(env: Environment, options: TitleOptions) -> SeededTitle:
    """Make a document with its instalments."""
    company = env.seed.companies[options.company]
    number = env["account.move"].table.next_id if options.number is None else options.number
    entry = _entry(env, options, company, number)
    accounts, sold = company.accounts, options.direction == "receivable"
    goods = accounts.sales if sold else accounts.purchases
    _add(entry, goods, -options.total, sold=sold, price_unit=float(options.total))
    if options.discount or options.phantom:
        _add(entry, accounts.discounts, options.discount, sold=sold, display_type="discount")
    line_ids = tuple(
        _instalment(entry, options, amount, place) for place, amount in enumerate(options.amounts)
    )
    phantom_id = _phantom(entry, options) if options.phantom else None
    if options.posted:
        bills.post(entry)
    return SeededTitle(
        number=number,
        move_id=entry.id,
        line_ids=line_ids,
        phantom_id=phantom_id,
        company_id=company.id,
        partner_id=entry["partner_id"],
    )


def _entry(env: Environment, options: TitleOptions, company: SeedCompany, number: int) -> Record:
    sold = options.direction == "receivable"
    partner_id = env.seed.customers[0].partner_id if sold else env.seed.carriers[0].partner_id
    journals, day = company.journals, env.now.date()
    entry_id = env["account.move"].insert(
        {
            "name": f"NFe {number:08d}",
            "move_type": "out_invoice" if sold else "in_invoice",
            "partner_id": options.partner_id or partner_id,
            "company_id": company.id,
            "journal_id": journals.sales if sold else journals.purchases,
            "date": day,
            "invoice_date": day,
            "invoice_date_due": day + DAYS_BETWEEN * len(options.amounts),
            "l10n_br_total_nfe": float(options.total),
        }
    )
    return env["account.move"].record(entry_id)


def _instalment(entry: Record, options: TitleOptions, amount: Decimal, place: int) -> int:
    number = (options.first + place) if options.instalments else 0
    return _to_pay(
        entry,
        options,
        amount,
        date_maturity=entry["date"] + DAYS_BETWEEN * (place + 1),
        # Odoo keeps an integer of zero as empty.
        l10n_br_cobranca_parcela=number or None,
    )


def _phantom(entry: Record, options: TitleOptions) -> int:
    return _to_pay(entry, options, options.phantom, date_maturity=bills.PHANTOM_DAY)


def _to_pay(entry: Record, options: TitleOptions, amount: Decimal, **values: Any) -> int:
    sold, accounts = options.direction == "receivable", bills.accounts_of(entry)
    account_id = accounts.receivable if sold else accounts.payable
    number = str(int(entry["name"].split()[-1])) if options.on_items else None
    values |= {"display_type": "payment_term", "x_studio_nf_e": number}
    return _add(entry, account_id, amount, sold=sold, **values)


def _add(entry: Record, account_id: int, amount: Decimal, *, sold: bool, **values: Any) -> int:
    """Add an item; a positive amount is a debit in an invoice and a credit in a bill."""
    return entry.model.env[LINE].insert(
        {
            "move_id": entry.id,
            "account_id": account_id,
            **reconciliation.sides(float(amount if sold else -amount)),
            "name": entry["name"],
            "partner_id": entry["partner_id"],
            "company_id": entry["company_id"],
            **values,
        }
    )
