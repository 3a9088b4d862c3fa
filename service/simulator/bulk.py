"""Many rows in seconds: partners, products, sales and purchase orders, freight documents.

The same options, seed and `until` make the same rows in a world of the same history.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

from service.simulator import arrivals, bodies, dfe, fiscal, partners
from service.simulator.arrivals import DocumentOptions
from service.simulator.database import STAMPS
from service.simulator.orm import NEW_VERSION
from service.simulator.seed import CITIES, INCOTERMS, PAYMENT_TERMS, TAGS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from service.simulator.arrivals import SeededDocument
    from service.simulator.orm import Environment

PREFIXES = {"plant": "VFB", "south": "VSC", "hub": "VCD", "sister": "VLF"}
FIRST_NUMBER = 2_600_000
SALE_STATES = ("sale",) * 16 + ("draft", "draft", "sent", "cancel")
SALE_TYPES = ("venda",) * 14 + ("bonificacao", "industrializacao", "exportacao", "transf-filial")
PURCHASE_STATES = ("purchase",) * 12 + ("done", "draft", "sent", "to approve", "cancel")
PURCHASE_TYPES = ("compra",) * 10 + ("servico", "importacao", "devolucao", "serv-industrializacao")
GROUPS = {
    "Food": ("Olives", "Palm Hearts", "Pickles"),
    "Packaging": ("Glass", "Lids"),
    "Raw Materials": ("Brine", "Oil"),
}
STREETS = ("Rua das Comportas", "Avenida do Porto", "Rua da Eclusa")
DOCUMENTS = ("ready",) * 44 + ("complement", "complement", "cancelled", "archived", "concluded")
ICMS, PIS, COFINS = 0.12, 0.0165, 0.076
SALES_TAX, PURCHASE_TAX = 1, 2
SALESPEOPLE = 3
WITHOUT_PDF = 20


@dataclass(frozen=True, kw_only=True)
class BulkOptions:
    """How many rows there are to be.

    Orders have `lines_per_order` lines. `products` and `partners` are made beside them when any
    order is. What is made was created and written in the `days` before `until`, which is now
    unless given; create dates rise with the ids, write dates do not.
    """

    sale_lines: int = 0
    purchase_lines: int = 0
    documents: int = 0
    products: int = 500
    partners: int = 500
    lines_per_order: int = 5
    days: float = 90.0
    until: datetime | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        counts = (self.sale_lines, self.purchase_lines, self.documents)
        if min(counts) < 0 or self.days < 0:
            raise ValueError("counts and days are not negative")
        if min(self.products, self.partners, self.lines_per_order) < 1:
            raise ValueError("products, partners and lines_per_order are at least 1")


def from_json(values: Mapping[str, Any]) -> BulkOptions:
    """Read options from a JSON object, `until` as ISO 8601; unknown names are refused."""
    bodies.check_names(values, BulkOptions)
    until = values.get("until")
    moment = datetime.fromisoformat(until) if until else None
    if moment is not None and moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return BulkOptions(**{**values, "until": moment})


class Bulk:
    """One delivery of many rows into a world."""

    def __init__(self, env: Environment, options: BulkOptions, seed: int) -> None:
        self.options = options
        self.seed = seed if options.seed is None else options.seed
        self.until = options.until or env.now
        # What orders refer to was there before the first of them.
        self.env = replace(env, now=self.until - timedelta(days=options.days))
        # The same seed always makes the same rows; nothing here is secret.
        self.chance = random.Random(f"{self.seed}/bulk")  # noqa: S311
        self.new = env.version >= NEW_VERSION

    def rows(self) -> None:
        """Make partners, products and orders."""
        if not self.options.sale_lines and not self.options.purchase_lines:
            return
        self.partners = self._all("res.partner", self._customers())
        self.products = self._all("product.product", self._products(self._categories()))
        self.salespeople = self._all("res.users", self._users())
        self._orders("sale", self.options.sale_lines, self._sale, self._sale_line)
        self._orders("purchase", self.options.purchase_lines, self._purchase, self._purchase_line)

    def documents(self, numbers: Iterator[int]) -> list[SeededDocument]:
        """Make freight documents: most are ready, some complement others, are cancelled or gone."""
        made: list[SeededDocument] = []
        for created, written in self._moments(self.options.documents):
            env = replace(self.env, now=created)
            options = self._document_options(made)
            document = arrivals.receive(env, options, number=next(numbers), seed=self.seed)
            made.append(document)
            for dfe_id in document.dfe_ids:
                env[dfe.DFE].store_quietly(dfe_id, {"write_date": written})
        return made

    def _document_options(self, made: Sequence[SeededDocument]) -> DocumentOptions:
        match self.chance.choice(DOCUMENTS):
            case "complement" if made:
                return DocumentOptions(original_key=self.chance.choice(made).key)
            case "cancelled":
                return DocumentOptions(cancelled=True, status="07")
            case "archived":
                return DocumentOptions(archived=True)
            case "concluded":
                return DocumentOptions(status=dfe.CONCLUDED)
        invoices = self.chance.randrange(1, 4)
        return DocumentOptions(invoices=invoices, pdf=bool(self.chance.randrange(WITHOUT_PDF)))

    def _all(self, model: str, values: Iterator[dict[str, Any]]) -> list[int]:
        return self.env[model].insert_all(values)

    def _moments(self, number: int) -> Iterator[tuple[datetime, datetime]]:
        """Return when things were created, rising, and when each was written last."""
        span = timedelta(days=self.options.days)
        ages = sorted((self.chance.random() for _ in range(number)), reverse=True)
        for age in ages:
            # Most are left alone soon after they were made; some change until the end.
            yield self.until - age * span, self.until - age * span * self.chance.random() ** 0.25

    def _customers(self) -> Iterator[dict[str, Any]]:
        states = list(self.env.seed.state_ids.items())
        for number in self._taken("res.partner", self.options.partners):
            state, state_id = self.chance.choice(states)
            cnpj = fiscal.complete_cnpj(f"{30_000_000 + number:08d}0001")
            yield {
                "name": f"Mercado {number} Ltda",
                "l10n_br_razao_social": f"MERCADO {number} LTDA",
                "is_company": True,
                "vat": fiscal.format_cnpj(cnpj),
                "l10n_br_cnpj": fiscal.format_cnpj(cnpj),
                "l10n_br_municipio_id": state_id,
                "state_id": state_id,
                "city": CITIES[state].name.title(),
                "country_id": partners.BRAZIL,
                "zip": f"{1_000_000 + number * 37:08d}",
                "street": self.chance.choice(STREETS),
                "l10n_br_endereco_bairro": "Centro",
                "l10n_br_endereco_numero": str(self.chance.randrange(1, 3000)),
                "phone": f"+55 11 4000-{number % 10_000:04d}",
                "agendamento": self.chance.choice(("sim", "nao")),
                "x_studio_desconto_contratual": number % 5 == 0,
                "x_studio_desconto": 2.5 if number % 5 == 0 else 0.0,
                "customer_rank": 1,
                "supplier_rank": 1,
            }

    def _taken(self, model: str, number: int) -> range:
        """Return the ids that the next rows will get."""
        first = self.env[model].table.next_id
        return range(first, first + number)

    def _categories(self) -> list[int]:
        categories = self.env["product.category"]
        leaves: list[int] = []
        for group, names in GROUPS.items():
            values = {"name": group, "parent_id": self.env.seed.category_id}
            group_id = categories.insert(values)
            leaves += [categories.insert({"name": one, "parent_id": group_id}) for one in names]
        return leaves

    def _products(self, categories: Sequence[int]) -> Iterator[dict[str, Any]]:
        templates = self.env["product.template"]
        old = {"type": "product", "detailed_type": "product"}
        storable = {"type": "consu", "is_storable": True} if self.new else old
        for number in self._taken("product.product", self.options.products):
            shared = {
                "name": f"Product {number}",
                "default_code": f"4{number:06d}",
                "categ_id": self.chance.choice(categories),
                "list_price": self.chance.randrange(200, 30_000) / 100,
                "weight": self.chance.randrange(100, 20_000) / 1000,
                **storable,
            }
            yield {**shared, "product_tmpl_id": templates.insert(shared)}

    def _users(self) -> Iterator[dict[str, Any]]:
        companies = tuple(one.id for one in self.env.seed.companies.values())
        for number in self._taken("res.users", SALESPEOPLE):
            yield {
                "name": f"Salesperson {number}",
                "login": f"sales{number}",
                "secret": None,
                "roles": frozenset[str](),
                "company_ids": companies,
            }

    def _orders(
        self,
        kind: str,
        lines: int,
        head: Callable[[int], dict[str, Any]],
        line: Callable[[dict[str, Any]], dict[str, Any]],
    ) -> None:
        model, each = f"{kind}.order", self.options.lines_per_order
        numbers = self._taken(model, -(-lines // each))
        orders: dict[int, dict[str, Any]] = {}
        for number, (created, written) in zip(numbers, self._moments(len(numbers)), strict=True):
            stamps = {"create_date": created, "write_date": written, "date_order": created}
            orders[number] = {**head(number), **stamps}
        self._all(model, iter(orders.values()))
        self._all(f"{model}.line", self._lines(orders, lines, line))

    def _lines(
        self,
        orders: Mapping[int, dict[str, Any]],
        lines: int,
        line: Callable[[dict[str, Any]], dict[str, Any]],
    ) -> Iterator[dict[str, Any]]:
        """Return the lines of orders, `lines` in all, with the stamps of their order."""
        places = (number for number in orders for _ in range(self.options.lines_per_order))
        for number in islice(places, lines):
            order = orders[number]
            stamps = {name: order[name] for name in STAMPS}
            yield {**line(order), "order_id": number, **stamps}

    def _sale(self, number: int) -> dict[str, Any]:
        chance = self.chance
        code, company = chance.choice(list(self.env.seed.companies.items()))
        customer = chance.choice(self.partners)
        tags = range(1, len(TAGS) + 1)
        return {
            "name": f"{PREFIXES[code]}{FIRST_NUMBER + number}",
            "state": chance.choice(SALE_STATES),
            "partner_id": customer,
            "partner_invoice_id": customer,
            "partner_shipping_id": chance.choice((customer, chance.choice(self.partners))),
            "company_id": company.id,
            "user_id": chance.choice(self.salespeople),
            "commitment_date": self.until + timedelta(days=chance.randrange(30)),
            "payment_term_id": chance.randrange(1, len(PAYMENT_TERMS) + 1),
            "payment_provider_id": self.env.seed.payment_provider_id,
            "incoterm": chance.choice(list(INCOTERMS)),
            "carrier_id": chance.randrange(1, len(self.env.seed.carriers) + 1),
            "tag_ids": tuple(chance.sample(tags, chance.randrange(3))),
            "l10n_br_pedido_compra": f"PC-{number}" if number % 3 else None,
            "l10n_br_tipo_pedido": chance.choice(SALE_TYPES),
        }

    def _sale_line(self, order: dict[str, Any]) -> dict[str, Any]:
        chance = self.chance
        ordered = float(chance.randrange(1, 200))
        delivered = float(chance.randrange(int(ordered) + 1)) if order["state"] == "sale" else 0.0
        gone = order["state"] == "cancel"
        return {
            **self._product(ordered),
            "product_uom_qty": ordered,
            "qty_delivered": delivered,
            "qty_cancelado": ordered if gone else 0.0,
            "qty_saldo": 0.0 if gone else ordered - delivered,
            "company_id": order["company_id"],
            "tax_ids" if self.new else "tax_id": (SALES_TAX,),
        }

    def _purchase(self, number: int) -> dict[str, Any]:
        chance = self.chance
        state = chance.choice(PURCHASE_STATES)
        return {
            "name": f"C{FIRST_NUMBER + number}",
            # The newer version knows no such state any more.
            "state": "purchase" if self.new and state == "done" else state,
            "partner_id": chance.choice(self.partners),
            "company_id": chance.choice(list(self.env.seed.companies.values())).id,
            "date_planned": self.until + timedelta(days=chance.randrange(30)),
            "payment_term_id": chance.randrange(1, len(PAYMENT_TERMS) + 1),
            "l10n_br_tipo_pedido": chance.choice(PURCHASE_TYPES),
            "note" if self.new else "notes": f"<p>Order {number}</p>" if number % 7 == 0 else None,
        }

    def _purchase_line(self, order: dict[str, Any]) -> dict[str, Any]:
        ordered = float(self.chance.randrange(1, 200))
        received = self.chance.choice((0.0, ordered)) if order["state"] == "purchase" else 0.0
        return {
            **self._product(ordered),
            "product_qty": ordered,
            "qty_received": received,
            "date_planned": order["date_planned"],
            "tax_ids" if self.new else "taxes_id": (PURCHASE_TAX,),
        }

    def _product(self, quantity: float) -> dict[str, Any]:
        product = self.chance.choice(self.products)
        price = self.chance.randrange(200, 30_000) / 100
        total = quantity * price
        return {
            "product_id": product,
            "name": f"[4{product:06d}] Product {product}",
            "product_uom_id" if self.new else "product_uom": self.env.seed.uom_id,
            "price_unit": price,
            "l10n_br_icms_valor": round(total * ICMS, 2),
            "l10n_br_pis_valor": round(total * PIS, 2),
            "l10n_br_cofins_valor": round(total * COFINS, 2),
        }
