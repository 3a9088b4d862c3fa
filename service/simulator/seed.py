"""The invented deployment that a simulator starts with, as values and as rows."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from dataclasses import fields as dataclass_fields
from typing import TYPE_CHECKING, Any

from service.simulator import catalog, fiscal, partners, stock
from service.simulator.documents import City, Party

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from service.simulator.orm import Environment

API_USER = 2
OBSERVER = 8
BRL = 5
HOME_STATE = "SP"
REDISPATCH = 16
INCOTERMS = {
    3: ("FOB", "Free on Board"),
    6: ("CIF", "Cost and Freight"),
    REDISPATCH: ("RED", "Redispatch"),
}
TAGS = ("Urgent", "Pallet", "Appointment", "Export")
PAYMENT_TERMS = ("30 Days", "Immediate", "28/35/42 Days")

CITIES = {
    "SP": City(
        name="SAO PAULO", code="3550308", state="SP", state_code="35", state_name="São Paulo"
    ),
    "MG": City(
        name="BELO HORIZONTE",
        code="3106200",
        state="MG",
        state_code="31",
        state_name="Minas Gerais",
    ),
    "PR": City(name="CURITIBA", code="4106902", state="PR", state_code="41", state_name="Paraná"),
    "RJ": City(
        name="RIO DE JANEIRO",
        code="3304557",
        state="RJ",
        state_code="33",
        state_name="Rio de Janeiro",
    ),
    "SC": City(
        name="JOINVILLE", code="4209102", state="SC", state_code="42", state_name="Santa Catarina"
    ),
}
# What the accounts and journals of each company are called, and of which type they are.
ACCOUNTS = {
    "receivable": ("1120100001", "CLIENTES NACIONAIS", "asset_receivable"),
    "payable": ("2110100001", "FORNECEDORES NACIONAIS", "liability_payable"),
    "bank": ("1110200001", "BANCO CONTA MOVIMENTO", "asset_cash"),
    "suspense": ("1110900001", "TRANSITORIA DE BANCO", "asset_current"),
    "outstanding_receipts": ("1110900002", "RECEBIMENTOS PENDENTES", "asset_current"),
    "outstanding_payments": ("1110900003", "PAGAMENTOS PENDENTES", "asset_current"),
    "sales": ("3110100001", "VENDA DE MERCADORIAS", "income"),
    "purchases": ("4110100001", "COMPRA DE SERVICOS", "expense"),
    "discounts": ("3120100009", "DESCONTOS CONCEDIDOS", "expense"),
    "interest_income": ("3210100001", "JUROS RECEBIDOS", "income_other"),
    "interest_expense": ("4210100001", "JUROS PAGOS", "expense"),
    "charges": ("4210100002", "DESPESAS BANCARIAS", "expense"),
}
RECONCILED = frozenset({"receivable", "payable", "outstanding_receipts", "outstanding_payments"})
JOURNALS = {
    "purchases": ("COM{company}", "Vendor Bills", "purchase"),
    "miscellaneous": ("MISC", "Miscellaneous Operations", "general"),
    "sales": ("VEN{company}", "Customer Invoices", "sale"),
    "bank": ("BNK{company}", "Bank", "bank"),
    "discount": ("DSC{company}", "Discounts", "cash"),
    "agreement": ("ACD{company}", "Commercial Agreements", "cash"),
    "returns": ("DEV{company}", "Returns", "cash"),
}
STATE_IDS = {"MG": 81, "PR": 86, "RJ": 87, "SC": 93, "SP": 95}


@dataclass(frozen=True, kw_only=True)
class Operations:
    """Ids of the four transport operations of a company."""

    intrastate_normal: int
    interstate_normal: int
    intrastate_simplified: int
    interstate_simplified: int


@dataclass(frozen=True, kw_only=True)
class Accounts:
    """Ids of a company's accounts."""

    receivable: int
    payable: int
    bank: int
    suspense: int
    outstanding_receipts: int
    outstanding_payments: int
    sales: int
    purchases: int
    discounts: int
    interest_income: int
    interest_expense: int
    charges: int


@dataclass(frozen=True, kw_only=True)
class Journals:
    """Ids of a company's journals: two of entries, a bank, and one for each part of a title."""

    purchases: int
    miscellaneous: int
    sales: int
    bank: int
    discount: int
    agreement: int
    returns: int


@dataclass(frozen=True, kw_only=True)
class SeedCompany:
    """One company: what a profile needs, and the wrong defaults it must correct."""

    id: int
    code: str
    name: str
    cnpj: str
    partner_id: int
    state: str
    home_state_id: int
    picking_type_id: int
    default_picking_type_id: int
    generic_operation_id: int
    operations: Operations
    accounts: Accounts
    journals: Journals

    @property
    def party(self) -> Party:
        """The company on a document."""
        return Party(name=self.name, cnpj=self.cnpj, ie=_ie(self.id), city=CITIES[self.state])


@dataclass(frozen=True, kw_only=True)
class SeedCarrier:
    """One carrier."""

    partner_id: int
    name: str
    cnpj: str
    state: str
    state_id: int
    simplified: bool

    @property
    def alphanumeric(self) -> bool:
        """Whether the CNPJ holds letters."""
        return not self.cnpj.isdigit()

    @property
    def party(self) -> Party:
        """The carrier on a document."""
        city = CITIES[self.state]
        return Party(name=self.name, cnpj=self.cnpj, ie=_ie(self.partner_id), city=city)


@dataclass(frozen=True, kw_only=True)
class SeedCustomer:
    """One customer."""

    partner_id: int
    name: str
    cnpj: str
    state: str

    @property
    def party(self) -> Party:
        """The customer on a document."""
        city = CITIES[self.state]
        return Party(name=self.name, cnpj=self.cnpj, ie=_ie(self.partner_id), city=city)


@dataclass(frozen=True, kw_only=True)
class Seed:
    """All ids that a deployment profile needs. `companies` is keyed by a short code."""

    companies: Mapping[str, SeedCompany]
    carriers: tuple[SeedCarrier, ...]
    customers: tuple[SeedCustomer, ...]
    outsider: Party
    team_id: int
    payment_provider_id: int
    product_id: int
    product_uom_id: int
    uom_id: int
    category_id: int
    redispatch_incoterm_id: int
    currency_id: int
    state_ids: Mapping[str, int]
    api_user_id: int
    observer_id: int

    @property
    def home(self) -> SeedCompany:
        """The company of the calling user."""
        return next(iter(self.companies.values()))

    def company(self, company_id: int) -> SeedCompany:
        """Return a company by id."""
        return next(one for one in self.companies.values() if one.id == company_id)

    def company_by_cnpj(self, cnpj: str) -> SeedCompany | None:
        """Return the company with this CNPJ, if it is one of ours."""
        plain = fiscal.clean(cnpj)
        return next((one for one in self.companies.values() if one.cnpj == plain), None)

    def describe(self) -> dict[str, Any]:
        """Return the seed as JSON: what a program needs to write a profile."""
        described = asdict(self)
        described["companies"] = [asdict(one) for one in self.companies.values()]
        return described


def _ie(number: int) -> str:
    return f"{110_000_000 + number:09d}"


def _company(number: int, code: str, name: str, cnpj_body: str, state: str) -> SeedCompany:
    first = 2000 + 100 * number
    return SeedCompany(
        id=number,
        code=code,
        name=name,
        cnpj=fiscal.complete_cnpj(cnpj_body),
        partner_id=number,
        state=state,
        home_state_id=STATE_IDS[state],
        picking_type_id=10 * number + 3,
        default_picking_type_id=10 * number + 1,
        generic_operation_id=first,
        operations=Operations(
            intrastate_normal=first + 22,
            interstate_normal=first + 41,
            intrastate_simplified=first + 38,
            interstate_simplified=first + 40,
        ),
        accounts=_accounts(number),
        journals=_journals(number),
    )


def _accounts(number: int) -> Accounts:
    names = (one.name for one in dataclass_fields(Accounts))
    return Accounts(**{name: 20_000 + 100 * number + place for place, name in enumerate(names)})


def _journals(number: int) -> Journals:
    names = (one.name for one in dataclass_fields(Journals))
    return Journals(**{name: 10 * number + place for place, name in enumerate(names)})


def _carrier(
    partner_id: int, name: str, cnpj_body: str, state: str, *, simplified: bool = False
) -> SeedCarrier:
    return SeedCarrier(
        partner_id=partner_id,
        name=name,
        cnpj=fiscal.complete_cnpj(cnpj_body),
        state=state,
        state_id=STATE_IDS[state],
        simplified=simplified,
    )


def default_seed() -> Seed:
    """Return the invented deployment: four companies, six carriers, two customers."""
    companies = (
        _company(1, "plant", "JACARANDA ALIMENTOS LTDA MATRIZ", "172334560001", "SP"),
        _company(3, "south", "JACARANDA ALIMENTOS LTDA SUL", "172334560002", "SC"),
        _company(4, "hub", "JACARANDA ALIMENTOS LTDA DISTRIBUICAO", "172334560003", "SP"),
        _company(5, "sister", "IPE CONSERVAS LTDA", "4KX7B2C90001", "SP"),
    )
    carriers = (
        _carrier(101, "TRANSPORTES CORREDEIRA LTDA", "314159260001", "SP"),
        _carrier(102, "RODOVIARIO SERRA DA CANASTRA SA", "271828180001", "MG"),
        _carrier(103, "EXPRESSO ARAUCARIA LTDA", "161803390001", "PR"),
        _carrier(104, "IRMAOS PEREIRA FRETES ME", "141421350001", "SP", simplified=True),
        _carrier(105, "LITORAL CARGAS ME", "173205080001", "SC", simplified=True),
        _carrier(106, "GUANABARA LOGISTICA LTDA", "7QH3M1V50001", "RJ"),
    )
    customers = (
        SeedCustomer(
            partner_id=51,
            name="SUPERMERCADOS JATOBA LTDA",
            cnpj=fiscal.complete_cnpj("577215660001"),
            state="SP",
        ),
        SeedCustomer(
            partner_id=52,
            name="EMPORIO SUCUPIRA SA",
            cnpj=fiscal.complete_cnpj("693147180001"),
            state="RJ",
        ),
    )
    return Seed(
        companies={one.code: one for one in companies},
        carriers=carriers,
        customers=customers,
        outsider=Party(
            name="COMERCIAL OUTRO DONO LTDA",
            cnpj=fiscal.complete_cnpj("223606790001"),
            ie=_ie(999),
            city=CITIES["PR"],
        ),
        team_id=119,
        payment_provider_id=30,
        product_id=29993,
        product_uom_id=1,
        uom_id=1,
        category_id=1,
        redispatch_incoterm_id=REDISPATCH,
        currency_id=BRL,
        state_ids=STATE_IDS,
        api_user_id=API_USER,
        observer_id=OBSERVER,
    )


def plant(env: Environment, *, login: str, password: str, observer: tuple[str, str]) -> None:
    """Insert the seed's rows."""
    _plant_places(env)
    for company in env.seed.companies.values():
        _plant_company(env, company)
    for carrier in env.seed.carriers:
        _plant_carrier(env, carrier)
    for customer in env.seed.customers:
        _plant_partner(env, customer.partner_id, customer.party, customer_rank=1)
    stock.plant(env)
    _plant_catalog(env)
    _plant_sales(env)
    _plant_users(env, (login, password), observer)


def _inserter(env: Environment) -> Callable[..., int]:
    def insert(model: str, record_id: int, **values: Any) -> int:
        return env[model].insert(values, record_id)

    return insert


def _plant_places(env: Environment) -> None:
    insert = _inserter(env)
    insert("res.country", partners.BRAZIL, name="Brazil", code="BR")
    insert("res.currency", BRL, name="BRL", symbol="R$")
    for state, state_id in env.seed.state_ids.items():
        city = CITIES[state]
        insert(
            "res.country.state",
            state_id,
            name=city.state_name,
            code=state,
            country_id=partners.BRAZIL,
        )
        insert(
            "l10n_br_ciel_it_account.res.municipio",
            state_id,
            name=city.name.title(),
            codigo_ibge=city.code,
            state_id=state_id,
        )


def _plant_partner(env: Environment, partner_id: int, party: Party, **values: Any) -> None:
    state_id = env.seed.state_ids[party.city.state]
    formatted = fiscal.format_cnpj(party.cnpj)
    env["res.partner"].insert(
        {
            "name": party.name.title(),
            "l10n_br_razao_social": party.name,
            "is_company": True,
            "vat": formatted,
            "l10n_br_cnpj": formatted,
            "l10n_br_ie": party.ie,
            "city": party.city.name.title(),
            "state_id": state_id,
            "l10n_br_municipio_id": state_id,
            "country_id": partners.BRAZIL,
            **values,
        },
        partner_id,
    )


def _plant_company(env: Environment, company: SeedCompany) -> None:
    insert = _inserter(env)
    _plant_partner(env, company.partner_id, company.party)
    insert(
        "res.company",
        company.id,
        name=company.name.title(),
        partner_id=company.partner_id,
        currency_id=BRL,
        user_ids=(API_USER,),
    )
    kinds = ((company.default_picking_type_id, "Receipts", 1),)
    for type_id, name, sequence in (*kinds, (company.picking_type_id, "Freight Receipts", 5)):
        insert("stock.picking.type", type_id, name=name, sequence=sequence, company_id=company.id)
    _plant_accounts(env, company)
    _plant_journals(env, company)
    _plant_operations(env, company)


def _plant_accounts(env: Environment, company: SeedCompany) -> None:
    for name, account_id in asdict(company.accounts).items():
        code, label, kind = ACCOUNTS[name]
        env["account.account"].insert(
            {
                "code": code,
                "name": label,
                "account_type": kind,
                "reconcile": name in RECONCILED,
                "company_id": company.id,
            },
            account_id,
        )


def _plant_journals(env: Environment, company: SeedCompany) -> None:
    for name, journal_id in asdict(company.journals).items():
        code, label, kind = JOURNALS[name]
        money = kind in {"bank", "cash"}
        account_id = company.accounts.bank if name == "bank" else company.accounts.discounts
        env["account.journal"].insert(
            {
                "name": label,
                "code": code.format(company=company.id),
                "type": kind,
                "company_id": company.id,
                "default_account_id": account_id if money else None,
                "suspense_account_id": company.accounts.suspense if money else None,
            },
            journal_id,
        )


def _plant_operations(env: Environment, company: SeedCompany) -> None:
    insert = _inserter(env)
    insert(
        catalog.OPERATION_MODEL,
        company.generic_operation_id,
        name="Service Acquisition",
        company_id=company.id,
        l10n_br_transporte=False,
    )
    for name, operation_id in asdict(company.operations).items():
        reach, _, regime = name.partition("_")
        insert(
            catalog.OPERATION_MODEL,
            operation_id,
            name=f"Freight {reach} {regime}",
            company_id=company.id,
            l10n_br_transporte=True,
            l10n_br_destino_operacao="1" if reach == "intrastate" else "2",
            l10n_br_regime_tributario="3" if regime == "normal" else "1",
        )


def _plant_carrier(env: Environment, carrier: SeedCarrier) -> None:
    regime = "1" if carrier.simplified else "3"
    party = carrier.party
    _plant_partner(
        env, carrier.partner_id, party, supplier_rank=1, l10n_br_regime_tributario=regime
    )


def _plant_catalog(env: Environment) -> None:
    insert, seed = _inserter(env), env.seed
    insert("uom.uom", seed.uom_id, name="Units")
    insert("crm.team", seed.team_id, name="Freight Purchases")
    insert("payment.provider", seed.payment_provider_id, name="Bank Transfer", code="transfer")
    insert("product.category", seed.category_id, name="All")
    for number, name in enumerate(PAYMENT_TERMS, start=1):
        insert("account.payment.term", number, name=name)
    insert(
        "product.product",
        seed.product_id,
        name="Freight Service",
        default_code="800000025",
        type="service",
        detailed_type="service",
        purchase_method="purchase",
        uom_id=seed.uom_id,
    )


def _plant_sales(env: Environment) -> None:
    insert = _inserter(env)
    for number, name in enumerate(TAGS, start=1):
        insert("crm.tag", number, name=name, color=number)
    for incoterm_id, (code, name) in INCOTERMS.items():
        insert("account.incoterms", incoterm_id, code=code, name=name)
    for carrier in env.seed.carriers:
        env["delivery.carrier"].insert(
            {"name": carrier.name.title(), "l10n_br_partner_id": carrier.partner_id}
        )
    for kind in ("sale", "purchase"):
        env["account.tax"].insert({"name": "ICMS 12%", "amount": 12.0, "type_tax_use": kind})


def _plant_users(env: Environment, api: tuple[str, str], observer: tuple[str, str]) -> None:
    companies = tuple(one.id for one in env.seed.companies.values())
    home = env.seed.home.id
    rows = (
        (1, "System", "__system__", None, companies, frozenset({"manager"})),
        (API_USER, "Integration", *api, companies, frozenset({"manager"})),
        (OBSERVER, "Observer", *observer, (home,), frozenset[str]()),
    )
    for user_id, name, login, secret, allowed, roles in rows:
        env["res.users"].insert(
            {
                "name": name,
                "login": login,
                "secret": secret,
                "roles": roles,
                "company_id": home,
                "company_ids": allowed,
                "partner_id": env.seed.home.partner_id,
            },
            user_id,
        )
