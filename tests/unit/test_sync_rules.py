"""The rules of the syncs that are ready, each by a table of what comes in and what comes out."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from service.odoo.prefetch import Node, Prefetch, Relation
from service.odoo.records import Record
from service.syncs import cte, purchase_orders, rules, sales_backlog

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

KEY = "35261112345678000195550010000012341000012349"


class Shelf:
    """Related records by model and id."""

    def __init__(self, records: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> None:
        self._records = records

    async def read(
        self,
        model: str,
        ids: Sequence[int],
        fields: Sequence[str],
        *,
        context: Mapping[str, Any] | None = None,
    ) -> list[Record]:
        """The records that there are."""
        assert fields
        assert context is None
        there = self._records.get(model, {})
        return [Record(model, {"id": one, **there[one]}) for one in ids if one in there]

    async def search_read(self, *_: Any, **__: Any) -> list[Record]:
        """Nothing is searched here."""
        raise AssertionError


async def node(
    values: Mapping[str, Any],
    relations: Sequence[Relation],
    records: Mapping[str, Mapping[int, Mapping[str, Any]]],
) -> Node:
    """A record with what it leads to."""
    graph = await Prefetch(Shelf(records), relations).load([Record("a.model", {"id": 1, **values})])
    return graph.nodes[0]


@pytest.mark.parametrize(
    ("place", "city", "state"),
    [
        ("Campinas (SP)", "Campinas", "SP"),
        ("Embu (Guaçu) (SP)", "Embu (Guaçu)", "SP"),
        ("Campinas", "Campinas", None),
        ("Campinas (São Paulo)", "Campinas (São Paulo)", None),
        ("", "", None),
        (None, None, None),
    ],
)
def test_a_place_is_split(place: str | None, city: str | None, state: str | None) -> None:
    """`City (UF)`; what is written otherwise is the city."""
    assert (rules.city_of(place), rules.state_of(place)) == (city, state)


@pytest.mark.parametrize(
    ("given", "root"),
    [
        ("12.345.678/0001-95", "12345678"),
        ("12345678000195", "12345678"),
        ("ab.123.c45/0001-00", "AB123C45"),
        ("", None),
        (None, None),
    ],
)
def test_the_root_of_a_cnpj(given: str | None, root: str | None) -> None:
    """Its first eight characters, letters too, however it is written."""
    assert rules.root_of(given) == root


def test_roots_are_left_out_however_they_are_written() -> None:
    """With punctuation and without."""
    assert rules.without_roots("cnpj", ["12345678"]) == [
        "!",
        "|",
        ["cnpj", "=like", "12345678%"],
        ["cnpj", "=like", "12.345.678%"],
    ]


@pytest.mark.parametrize("given", ["1234567", "123456789", "12 34", "äöü45678"])
def test_a_root_that_is_none_is_refused(given: str) -> None:
    """Eight letters and digits, or nothing is left out by mistake."""
    with pytest.raises(ValidationError, match="first 8 characters of a CNPJ"):
        purchase_orders.Options(own_cnpj_roots=(given,))


@pytest.mark.parametrize(
    ("ordered", "received", "canceled", "left"),
    [
        ("10", "0", False, "10"),
        ("10", "4.5", False, "5.5"),
        ("10", "12", False, "0"),
        ("10", "4", True, "0"),
    ],
)
def test_what_is_still_to_come(ordered: str, received: str, left: str, *, canceled: bool) -> None:
    """Never less than nothing, and nothing of a canceled order."""
    open_quantity = purchase_orders.open_quantity(
        Decimal(ordered), Decimal(received), canceled=canceled
    )
    assert open_quantity == Decimal(left)


@pytest.mark.parametrize(
    ("major", "field"), [(17, "product_id.detailed_type"), (19, "product_id.is_storable")]
)
def test_goods_are_told_by_version(major: int, field: str) -> None:
    """The newer Odoo has another field for it."""
    domain = purchase_orders.domain(purchase_orders.Options(since=date(2026, 1, 2)), major)
    assert field in [leaf[0] for leaf in domain]
    assert ["order_id.create_date", ">=", "2026-01-02 00:00:00"] in domain


@pytest.mark.parametrize(
    ("state", "saldo", "balance"),
    [("sale", "7.5", "7.5"), ("draft", "3", "3"), ("cancel", "7.5", "0"), (None, "1", "1")],
)
def test_the_balance_is_odoos(state: str | None, saldo: str, balance: str) -> None:
    """Odoo took the canceled quantity from it already; a canceled order owes nothing."""
    assert sales_backlog.balance(Decimal(saldo), state) == Decimal(balance)


@pytest.mark.parametrize(
    ("prefixes", "tail"),
    [
        ((), []),
        (("VSC",), [["order_id.name", "=like", "VSC%"]]),
        (
            ("VSC", "VCD", "VFB"),
            [
                "|",
                "|",
                ["order_id.name", "=like", "VSC%"],
                ["order_id.name", "=like", "VCD%"],
                ["order_id.name", "=like", "VFB%"],
            ],
        ),
    ],
)
def test_beginnings_of_numbers_are_alternatives(prefixes: tuple[str, ...], tail: list[Any]) -> None:
    """The prefix notation joins them with one `|` fewer than there are."""
    domain = sales_backlog.domain(sales_backlog.Options(order_prefixes=prefixes))
    assert domain[2:] == tail


ORDER = (
    Relation(field="incoterm", model="account.incoterms", fields=("code",)),
    Relation(field="partner_shipping_id", model="res.partner", fields=("name",)),
    Relation(
        field="carrier_id",
        model="delivery.carrier",
        fields=("name",),
        relations=(Relation(field="l10n_br_partner_id", model="res.partner", fields=("name",)),),
    ),
)


@pytest.mark.parametrize(
    ("incoterm", "carrier", "carriers_partner", "expected"),
    [
        ("CIF", 1, 20, "Customer"),
        ("RED", 1, 20, "Carrier"),
        ("RED", 1, False, "Customer"),
        ("RED", False, 20, "Customer"),
        (None, 1, 20, "Customer"),
    ],
)
async def test_redispatched_goods_go_to_the_carrier(
    incoterm: str | None, carrier: Any, carriers_partner: Any, expected: str
) -> None:
    """As far as the carrier is known; any other goods go to the delivery address."""
    order = await node(
        {
            "incoterm": [5, "x"] if incoterm else False,
            "carrier_id": [1, "x"] if carrier else False,
            "partner_shipping_id": [10, "x"],
        },
        ORDER,
        {
            "account.incoterms": {5: {"code": incoterm}},
            "res.partner": {10: {"name": "Customer"}, 20: {"name": "Carrier"}},
            "delivery.carrier": {
                1: {
                    "name": "c",
                    "l10n_br_partner_id": [carriers_partner, "x"] if carriers_partner else False,
                }
            },
        },
    )

    partner = sales_backlog.delivery_partner(order)

    assert partner is not None
    assert partner.record.text("name") == expected


@pytest.mark.parametrize(
    ("levels", "chain"),
    [(1, ["c1"]), (2, ["c2", "c1"]), (3, ["c3", "c2", "c1"]), (5, ["c3", "c2", "c1"])],
)
async def test_the_category_chain_is_read_from_above(levels: int, chain: list[str]) -> None:
    """Three levels at most, the uppermost first."""
    categories = {
        number: {
            "name": f"c{number}",
            "parent_id": [number + 1, "x"] if number < levels else False,
        }
        for number in range(1, levels + 1)
    }
    product = await node(
        {"categ_id": [1, "x"]},
        sales_backlog.define(sales_backlog.Options(), 17).relations[1].relations,
        {"product.category": categories},
    )

    assert sales_backlog.category_chain(product) == chain


def test_a_line_without_product_has_no_category() -> None:
    """Nor does a note."""
    assert sales_backlog.category_chain(None) == []


@pytest.mark.parametrize(
    ("key", "number"),
    [(KEY, "1234"), (KEY[:43], None), ("", None), (KEY[:25] + "A" * 9 + KEY[34:], None)],
)
def test_the_number_in_an_access_key(key: str, number: str | None) -> None:
    """The nine digits of its place, without leading zeros."""
    assert cte.invoice_number(key) == number


@pytest.mark.parametrize(
    ("code", "cnpj"),
    [
        ("0", "sender"),
        ("1", "dispatcher"),
        ("3", "recipient"),
        ("2", None),
        ("4", None),
        (False, None),
    ],
)
def test_who_takes_the_freight(code: Any, cnpj: str | None) -> None:
    """By the layout's code; no guess where Odoo has no field."""
    record = Record(
        cte.MODEL,
        {
            "id": 1,
            "cte_infcte_ide_toma3_toma": code,
            "nfe_infnfe_rem_cnpj": "sender",
            "nfe_infnfe_exped_cnpj": "dispatcher",
            "nfe_infnfe_dest_cnpj": "recipient",
        },
    )
    assert cte.taker_cnpj(record) == cnpj


XML = '<CTe xmlns="http://www.portalfiscal.inf.br/cte"><infCte><ide><tpCTe>{}</tpCTe></ide>{}</infCte></CTe>'
COMPLETES = f"<infCteComp><chCTe>{KEY}</chCTe></infCteComp>"
BOMB = b'<!DOCTYPE a [<!ENTITY b "c"><!ENTITY d "&b;&b;">]><a>&d;</a>'


@pytest.mark.parametrize(
    ("content", "facts"),
    [
        (XML.format(0, "").encode(), {"type": "normal"}),
        (XML.format(1, COMPLETES).encode(), {"type": "complement", "completes": KEY}),
        (XML.format(3, "").encode("utf-16"), {"type": "substitute"}),
        (XML.format(7, "").encode(), {}),
        (b"<nothing/>", {}),
        (b"%PDF-1.4", {}),
        (b"", {}),
        (BOMB, {}),
    ],
)
def test_what_only_the_xml_tells(content: bytes, facts: dict[str, str]) -> None:
    """Type, and which bill it completes; a file that is no CTe tells nothing."""
    assert cte.facts(cte.XML, content) == facts
    assert cte.facts(cte.PDF, content) == {}
