"""Documents that arrive: valid XML, right check digits, and every option."""

from __future__ import annotations

import base64
from decimal import Decimal
from importlib import resources
from typing import Any

import pytest
from lxml import etree

from service.simulator import arrivals, fiscal
from service.simulator.world import World
from tests.unit.simulator.helpers import DFE, arrive, one

NAMESPACES = {"cte": "http://www.portalfiscal.inf.br/cte"}


@pytest.fixture(scope="module", name="schema")
def official_schema() -> etree.XMLSchema:
    """Return the official schema of an authorised document, signature included."""
    folder = resources.files("nfelib") / "cte" / "schemas" / "v4_0"
    return etree.XMLSchema(etree.parse(str(folder / "procCTe_v4.00.xsd")))


def text_of(xml: str, path: str) -> str | None:
    """Return the text at a path of the document."""
    return etree.fromstring(xml.encode()).findtext(f".//cte:{path}", namespaces=NAMESPACES)


OPTIONS: list[dict[str, Any]] = [
    {},
    *({"taker_code": code} for code in "01234"),
    {"taker_company": "unknown"},
    {"taker_company": "unknown", "taker_code": "0"},
    {"taker_company": "sister"},
    {"alphanumeric": True},
    {"simplified": True, "carrier_state": "SC"},
    {"original_key": "35261117233456000102570010000010011000000017"},
    {"invoices": 0},
    {"invoices": 3},
    {"amount": Decimal("0.50")},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_xml_is_valid(schema: etree.XMLSchema, options: dict[str, Any]) -> None:
    """The XML keeps to the official layout, its signature to the shape of one."""
    document = arrive(World(), **options)

    schema.assertValid(etree.fromstring(document.xml.encode()))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_key_holds_the_carrier_and_its_check_digit(options: dict[str, Any]) -> None:
    """The key embeds model and CNPJ, letters included, and ends with the right digit."""
    document = arrive(World(), **options)

    assert fiscal.is_access_key(document.key)
    assert document.key[6:20] == document.carrier_cnpj
    assert document.key[20:22] == "57"
    assert fiscal.is_cnpj(document.carrier_cnpj)


@pytest.mark.parametrize(
    ("code", "path"),
    [
        ("0", "rem/cte:CNPJ"),
        ("1", "exped/cte:CNPJ"),
        ("2", "receb/cte:CNPJ"),
        ("3", "dest/cte:CNPJ"),
        ("4", "toma4/cte:CNPJ"),
    ],
)
def test_taker_is_the_party_that_the_code_names(code: str, path: str) -> None:
    """The company that pays stands where the taker code points."""
    world = World()

    document = arrive(world, taker_code=code, taker_company="hub")

    assert text_of(document.xml, path) == world.seed.companies["hub"].cnpj == document.taker_cnpj
    assert document.taker_company_id == world.seed.companies["hub"].id


def test_document_of_somebody_else_has_no_company_of_ours() -> None:
    """A taker that is not ours is reported as such."""
    assert arrive(World(), taker_company="unknown").taker_company_id is None


def test_same_seed_makes_the_same_documents() -> None:
    """Two worlds with one seed number agree; another number differs."""
    same = [arrive(World(seed_number=7)).xml for _ in range(2)]

    assert same[0] == same[1] != arrive(World(seed_number=8)).xml


def test_record_agrees_with_its_xml() -> None:
    """The DFe holds the document and its facts."""
    world = World()
    document = arrive(world, invoices=2)

    head = one(world, DFE, document.dfe_id)

    assert base64.b64decode(head["l10n_br_xml_dfe"]).decode() == document.xml
    assert head["nfe_infnfe_total_icmstot_vnf"] == float(document.amount)
    assert text_of(document.xml, "vTPrest") == str(document.amount)
    assert len(head["refs_ids"]) == 2
    assert head["company_id"][0] == document.taker_company_id


def test_options_shape_the_record() -> None:
    """Lines, instalments, cancellation, archive and a duplicate are as asked."""
    world = World()

    document = arrive(world, lines=3, instalments=2, cancelled=True, archived=True, duplicate=True)

    assert len(document.dfe_ids) == 2
    for dfe_id in document.dfe_ids:
        head = one(world, DFE, dfe_id)
        assert (len(head["lines_ids"]), len(head["dups_ids"])) == (3, 2)
        assert (head["l10n_br_situacao_dfe"], head["active"]) == ("CANCELADA", False)
        lines = world.records(f"{DFE}.line", [["dfe_id", "=", dfe_id]], ["det_prod_vuncom"])
        total = sum(Decimal(str(line["det_prod_vuncom"])) for line in lines)
        assert total == document.amount


def test_shares_add_up() -> None:
    """An amount that does not divide evenly loses no cent."""
    assert sum(arrivals.shares(Decimal("100.00"), 3)) == Decimal("100.00")


@pytest.mark.parametrize(
    ("number", "valid"),
    [
        # The example that the tax authority published for the alphanumeric number.
        ("12ABC34501DE35", True),
        ("12.ABC.345/01DE-35", True),
        ("11.222.333/0001-81", True),
        ("11222333000182", False),
        ("12ABC34501DE36", False),
        ("00000000000000", False),
        ("12ABC34501DEAB", False),
        ("123", False),
    ],
)
def test_cnpj(number: str, *, valid: bool) -> None:
    """Check digits hold for digits and letters alike."""
    assert fiscal.is_cnpj(number) == valid
