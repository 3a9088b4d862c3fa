"""Countries, states, cities, companies, partners and users."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from service.simulator import errors, fields, fiscal
from service.simulator.orm import NEW_VERSION, Model, Record, model_method, record_method

if TYPE_CHECKING:
    from collections.abc import Mapping

BRAZIL = 31
CPF_LENGTH = 11


class Country(Model):
    """Countries."""

    model = "res.country"
    title = "Country"
    order = "name"
    own_fields: ClassVar[dict[str, fields.Field]] = {
        "name": fields.char("Country Name", required=True),
        "code": fields.char("Country Code"),
    }


class State(Model):
    """States of a country."""

    model = "res.country.state"
    title = "Country state"
    order = "code"
    own_fields: ClassVar[dict[str, fields.Field]] = {
        "name": fields.char("State Name", required=True),
        "code": fields.char("State Code", required=True),
        "country_id": fields.many2one("res.country", "Country", required=True),
    }

    def display(self, record_id: int) -> str:
        """Return `Name (country code)`."""
        state = self.record(record_id)
        country = state.one("country_id")
        return f"{state['name']} ({country['code'] if country else ''})"


class City(Model):
    """Municipalities with their official code."""

    model = "l10n_br_ciel_it_account.res.municipio"
    title = "Municipality"
    order = "name"
    own_fields: ClassVar[dict[str, fields.Field]] = {
        "name": fields.char("Name", required=True),
        "codigo_ibge": fields.char("IBGE Code"),
        "state_id": fields.many2one("res.country.state", "State"),
    }

    def display(self, record_id: int) -> str:
        """Return `City (UF)`."""
        city = self.record(record_id)
        state = city.one("state_id")
        return f"{city['name']} ({state['code'] if state else ''})"


class Currency(Model):
    """Currencies."""

    model = "res.currency"
    title = "Currency"
    own_fields: ClassVar[dict[str, fields.Field]] = {
        "name": fields.char("Currency", required=True),
        "symbol": fields.char("Symbol", required=True),
        "active": fields.boolean("Active", default=True),
    }


class Company(Model):
    """Companies of the database."""

    model = "res.company"
    title = "Companies"
    own_fields: ClassVar[dict[str, fields.Field]] = {
        "name": fields.char("Company Name", required=True),
        "partner_id": fields.many2one("res.partner", "Partner", required=True),
        "currency_id": fields.many2one("res.currency", "Currency", required=True),
        "country_id": fields.many2one(
            "res.country", "Country", compute=lambda company: _of_partner(company, "country_id")
        ),
        "state_id": fields.many2one(
            "res.country.state",
            "Fed. State",
            compute=lambda company: _of_partner(company, "state_id"),
        ),
        "vat": fields.char("Tax ID", compute=lambda company: _of_partner(company, "vat")),
        "l10n_br_cnpj": fields.char(
            "CNPJ", compute=lambda company: _of_partner(company, "l10n_br_cnpj")
        ),
        "parent_id": fields.many2one("res.company", "Parent Company"),
        "active": fields.boolean("Active", default=True),
        "user_ids": fields.many2many("res.users", "Accepted Users"),
    }


def _of_partner(company: Record, name: str) -> Any:
    partner = company.one("partner_id")
    return partner[name] if partner else None


class Partner(Model):
    """Customers, carriers and the companies' own addresses."""

    model = "res.partner"
    title = "Contact"
    order = "name"
    company_rule = True
    own_fields: ClassVar[dict[str, fields.Field]] = {
        "name": fields.char("Name"),
        "active": fields.boolean("Active", default=True),
        "company_id": fields.many2one("res.company", "Company"),
        "parent_id": fields.many2one("res.partner", "Related Company"),
        "child_ids": fields.one2many("res.partner", "parent_id", "Contact"),
        "company_type": fields.selection(
            "Company Type",
            ("person", "Individual"),
            ("company", "Company"),
            compute=lambda partner: "company" if partner["is_company"] else "person",
            searchable=False,
        ),
        "is_company": fields.boolean("Is a Company"),
        "vat": fields.char("Tax ID", indexed=True),
        "ref": fields.char("Reference"),
        "email": fields.char("Email"),
        "phone": fields.char("Phone"),
        "street": fields.char("Street"),
        "street2": fields.char("Street2"),
        "city": fields.char("City"),
        "zip": fields.char("Zip"),
        "state_id": fields.many2one("res.country.state", "State"),
        "country_id": fields.many2one("res.country", "Country"),
        "supplier_rank": fields.integer("Supplier Rank", default=0),
        "customer_rank": fields.integer("Customer Rank", default=0),
        "l10n_br_cnpj": fields.char("CNPJ"),
        "l10n_br_ie": fields.char("IE"),
        "l10n_br_razao_social": fields.char("Legal Name"),
        "l10n_br_municipio_id": fields.many2one(
            "l10n_br_ciel_it_account.res.municipio", "Municipality"
        ),
        "l10n_br_endereco_bairro": fields.char("District"),
        "l10n_br_endereco_numero": fields.char("Number"),
        "agendamento": fields.selection("Delivery by Appointment", ("sim", "Yes"), ("nao", "No")),
        "x_studio_desconto_contratual": fields.boolean("Contractual Discount"),
        "x_studio_desconto": fields.floating("Discount (%)"),
        "l10n_br_regime_tributario": fields.selection(
            "Tax Regime", ("1", "Simples Nacional"), ("3", "Regime Normal")
        ),
    }

    @record_method
    def write(self, ids: list[int], vals: Any) -> bool:
        """Change partners; a partner cannot be its own ancestor."""
        return super().write(ids, vals)

    def prepare(self, values: dict[str, Any]) -> dict[str, Any]:
        """Take the legal form from the company type."""
        if "company_type" in values:
            values["is_company"] = values.pop("company_type") == "company"
        return values

    def on_created(self, record_id: int) -> None:
        """Check the tax number."""
        self._check_vat(self.record(record_id))

    def on_written(self, record_id: int, values: Mapping[str, Any]) -> None:
        """Check hierarchy and tax number."""
        partner = self.record(record_id)
        if "parent_id" in values:
            self._check_hierarchy(partner)
        if {"vat", "country_id"} & set(values):
            self._check_vat(partner)

    def _check_hierarchy(self, partner: Record) -> None:
        seen: set[int] = set()
        present: Record | None = partner
        while present is not None:
            if present.id in seen:
                raise errors.ValidationError("You cannot create recursive Partner hierarchies.")
            seen.add(present.id)
            present = present.one("parent_id")

    def _check_vat(self, partner: Record) -> None:
        vat = partner["vat"]
        if not vat or partner["country_id"] != BRAZIL:
            return
        plain = fiscal.clean(vat)
        if fiscal.is_cnpj(plain) or (len(plain) == CPF_LENGTH and len(set(plain)) > 1):
            return
        new = self.env.version >= NEW_VERSION
        shown, gap = (plain, "  ") if new else (vat, " ")
        raise errors.ValidationError(
            f"\nThe VAT number [{shown}] for partner [{partner['name']}] does not seem to be valid."
            f"{gap}\nNote: the expected format is either 11 digits for CPF or 14 digits for CNPJ"
        )

    def on_unlinking(self, record_id: int) -> None:
        """Refuse to delete who appears in documents; 19 looks at accounting first."""
        if self.env.version < NEW_VERSION:
            return
        documents = ("account.move", "purchase.order")
        if any(self.env[one].table.referring("partner_id", record_id) for one in documents):
            raise errors.UserError("The partner cannot be deleted because it is used in Accounting")


class User(Model):
    """Who may call."""

    model = "res.users"
    title = "User"
    order = "name, login"
    own_fields: ClassVar[dict[str, fields.Field]] = {
        "name": fields.char("Name", required=True),
        "login": fields.char("Login", required=True),
        # Clients may set it; nobody reads it back.
        "password": fields.char("Password", compute=lambda _: "", searchable=False),
        "active": fields.boolean("Active", default=True),
        "partner_id": fields.many2one("res.partner", "Related Partner"),
        "company_id": fields.many2one(
            "res.company", "Company", required=True, default=lambda env: env.company_id
        ),
        "company_ids": fields.many2many(
            "res.company", "Companies", default=lambda env: (env.company_id,)
        ),
        "email": fields.char("Email"),
        "tz": fields.char("Timezone"),
        "lang": fields.char("Language"),
    }

    def on_created(self, record_id: int) -> None:
        """Refuse a second user with the same login, and give no rights yet."""
        login = self.value(record_id, "login")
        same = [one for one, row in self.table.rows.items() if row.get("login") == login]
        if len(same) > 1:
            raise errors.ValidationError(
                "The operation cannot be completed: You can not have two users with the same login!"
            )
        self.store(record_id, {"roles": frozenset(), "secret": None})

    @model_method
    def context_get(self) -> dict[str, Any]:
        """Return the caller's language and time zone, which clients send with their calls."""
        user = self.record(self.env.user_id)
        return {"lang": user["lang"] or "en_US", "tz": user["tz"] or False, "uid": user.id}


MODELS: tuple[type[Model], ...] = (Country, State, City, Currency, Company, Partner, User)
