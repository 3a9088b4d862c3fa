"""What is wrong with a document, or with the way to Odoo, before anything is changed there."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

import pytest

from service.simulator.fiscal import complete_cnpj

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.simulator.arrivals import SeededDocument
    from tests.scenario.conftest import Office

DFE = "l10n_br_ciel_it_account.dfe"


@dataclass(frozen=True, kw_only=True)
class Wrong:
    """A document with something wrong in Odoo, how it is told, and what a person does."""

    code: str
    says: str
    mend: Mapping[str, Any]
    status: Literal["failed", "needs_attention"] = "failed"
    options: Mapping[str, Any] = field(default_factory=dict)
    upset: Mapping[str, Any] = field(default_factory=dict)
    by: Literal["xml", "key"] = "xml"


def _status(number: str, code: str, says: str, **more: Any) -> Any:
    wrong = Wrong(
        code=code, says=says, options={"status": number}, mend={"l10n_br_status": "04"}, **more
    )
    return pytest.param(wrong, id=f"status {number}")


AMOUNT = Decimal("812.34")
WRONG = [
    pytest.param(
        Wrong(
            code="dfe_archived",
            says="Restore it there",
            options={"archived": True},
            mend={"active": True},
        ),
        id="archived",
    ),
    _status("01", "dfe_not_ready", "status 01 (draft). Bring it to 04"),
    _status("02", "dfe_not_ready", "status 02 (synchronised). Bring it to 04"),
    _status("03", "dfe_not_ready", "status 03 (acknowledged). Bring it to 04"),
    _status("05", "dfe_without_order", "Set it back to 04", status="needs_attention"),
    _status("06", "dfe_without_order", "Set it back to 04", status="needs_attention"),
    _status("07", "dfe_rejected", "set it back to 04"),
    pytest.param(
        Wrong(
            code="dfe_canceled",
            says="correct the document's situation",
            options={"cancelled": True},
            mend={"l10n_br_situacao_dfe": "AUTORIZADA"},
        ),
        id="cancelled by the carrier",
    ),
    pytest.param(
        Wrong(
            code="dfe_denied",
            says="correct the document's situation",
            upset={"l10n_br_situacao_dfe": "DENEGADA"},
            mend={"l10n_br_situacao_dfe": "AUTORIZADA"},
        ),
        id="denied by the tax authority",
    ),
    pytest.param(
        Wrong(
            code="not_a_cte",
            says="not a freight bill",
            upset={"is_cte": False},
            mend={"is_cte": True},
        ),
        id="not a CTe",
    ),
    pytest.param(
        Wrong(
            code="amount_mismatch",
            status="needs_attention",
            says="The CTe is of R$ 812.34, document",
            options={"amount": AMOUNT, "dfe_total": AMOUNT + 10},
            mend={"nfe_infnfe_total_icmstot_vnf": float(AMOUNT)},
        ),
        id="another amount",
    ),
    pytest.param(
        Wrong(
            code="no_amount",
            says="there is nothing to pay",
            options={"amount": AMOUNT, "dfe_total": Decimal(0)},
            mend={"nfe_infnfe_total_icmstot_vnf": float(AMOUNT)},
            by="key",
        ),
        id="no amount",
    ),
    pytest.param(
        Wrong(
            code="dfe_not_found",
            says="Import the CTe in Odoo",
            upset={"protnfe_infnfe_chnfe": "another key"},
            mend={},
        ),
        id="missing",
    ),
]


@pytest.mark.parametrize("version", [17, 19])
@pytest.mark.parametrize("wrong", WRONG)
async def test_a_wrong_document_stops_before_anything_is_changed(
    office: Office, wrong: Wrong
) -> None:
    """The posting says what is wrong, changes nothing, and completes once it is mended."""
    document = office.document(**wrong.options)
    office.person(DFE, "write", [document.dfe_id], dict(wrong.upset))
    posting_id = await office.post(document, wrong.by)

    posting = await office.run(posting_id)

    assert (posting.status, posting.code, posting.step) == (wrong.status, wrong.code, 0)
    assert wrong.says in (posting.message or "")
    assert "resume" in (posting.message or "")
    assert office.calls() == {}

    key = {"protnfe_infnfe_chnfe": document.key}
    office.person(DFE, "write", [document.dfe_id], {**key, **wrong.mend})

    assert (await office.resume(posting_id)).status == "completed"
    office.assert_posted(document)
    assert len(office.orders(document)) == len(office.bills(document)) == 1


async def test_two_active_documents_of_a_key_need_a_person(office: Office) -> None:
    """Neither is taken until one is archived: which one Odoo returns first is chance."""
    document = office.document(duplicate=True)
    posting_id = await office.post(document)

    posting = await office.run(posting_id)

    assert (posting.status, posting.code) == ("needs_attention", "several_dfes")
    assert "Archive all but one" in (posting.message or "")
    assert office.calls() == {}

    first, second = document.dfe_ids
    office.person(DFE, "write", [first], {"active": False})

    assert (await office.resume(posting_id)).facts["dfe_id"] == second
    office.assert_posted(document)


async def test_a_taker_that_is_not_ours_is_never_guessed(office: Office) -> None:
    """No company is taken in its place; with the company in the profile the posting completes."""
    document = office.document(taker_company="plant")
    posting_id = await office.post(document)
    await office.reconfigure((document.taker_cnpj, complete_cnpj("998877660001")))

    posting = await office.run(posting_id)

    assert (posting.status, posting.code) == ("failed", "unknown_company")
    assert f"The taker {document.taker_cnpj} is none" in (posting.message or "")
    assert office.calls() == {}

    await office.reconfigure()

    assert (await office.resume(posting_id)).status == "completed"
    office.assert_posted(document)


async def test_a_stranger_as_taker_is_named(office: Office) -> None:
    """By key only, the taker is known from Odoo alone."""
    document = office.document(taker_company="unknown")

    posting = await office.run(await office.post(document, "key"))

    assert (posting.status, posting.code) == ("failed", "unknown_company")
    assert document.taker_cnpj in (posting.message or "")
    assert office.calls() == {}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(False, "it has no XML", id="no XML"),
        pytest.param(base64.b64encode(b"<nothing/>").decode(), "cannot be told", id="another XML"),
        pytest.param(base64.b64encode(b"\x89PNG").decode(), "cannot be told", id="no XML at all"),
    ],
)
async def test_a_taker_that_cannot_be_told_asks_for_the_xml(
    office: Office, says: str, *, content: str | bool
) -> None:
    """Odoo has no field for the receiver; without a readable XML nobody knows."""
    document = office.document(taker_code="2", taker_company="plant")
    office.person(DFE, "write", [document.dfe_id], {"l10n_br_xml_dfe": content})
    posting_id = await office.post(document, "key")

    posting = await office.run(posting_id)

    assert (posting.status, posting.code) == ("failed", "unknown_taker")
    assert says in (posting.message or "")
    assert "Attach the CTe's XML" in (posting.message or "")
    assert office.calls() == {}

    xml = base64.b64encode(document.xml.encode()).decode()
    office.person(DFE, "write", [document.dfe_id], {"l10n_br_xml_dfe": xml})

    assert (await office.resume(posting_id)).status == "completed"
    office.assert_posted(document)


async def test_a_cte_of_annulment_is_never_paid(office: Office) -> None:
    """Nothing of Odoo's fields tells the type: by the key, the XML that Odoo keeps is read."""
    document = office.document()
    annulment = document.xml.replace("<tpCTe>0</tpCTe>", "<tpCTe>2</tpCTe>")
    assert annulment != document.xml
    content = base64.b64encode(annulment.encode()).decode()
    office.person(DFE, "write", [document.dfe_id], {"l10n_br_xml_dfe": content})

    posting = await office.run(await office.post(document, "key"))

    assert (posting.status, posting.code, posting.step) == ("failed", "wrong_type", 0)
    assert "type annulment" in (posting.message or "")
    assert office.calls() == {}


async def test_a_freight_without_xml_in_odoo_is_posted_by_its_key(office: Office) -> None:
    """Where every payable type is posted, the type is not worth stopping for."""
    document = office.document()
    office.person(DFE, "write", [document.dfe_id], {"l10n_br_xml_dfe": False})

    posting = await office.run(await office.post(document, "key"))

    assert posting.status == "completed"
    office.assert_posted(document)


async def test_a_broken_cnpj_in_odoo_is_told(office: Office) -> None:
    """A CNPJ with wrong check digits names nobody."""
    document = office.document(taker_code="3", taker_company="plant")
    broken = {"nfe_infnfe_dest_cnpj": "11.111.111/1111-12"}
    office.person(DFE, "write", [document.dfe_id], broken)

    posting = await office.run(await office.post(document, "key"))

    assert (posting.status, posting.code) == ("failed", "unknown_taker")


@pytest.mark.parametrize(
    ("options", "status", "code"),
    [
        ({"lines": 0}, "failed", "no_line"),
        ({"lines": 2}, "needs_attention", "several_lines"),
        ({"instalments": 0}, "failed", "no_instalment"),
        ({"instalments": 2}, "needs_attention", "several_instalments"),
    ],
    ids=["no line", "several lines", "no instalment", "several instalments"],
)
async def test_a_freight_bill_has_one_line_and_one_instalment(
    office: Office, options: dict[str, int], status: str, code: str
) -> None:
    """Any other number is not posted in part; once there is one of each, it is."""
    document = office.document(**options)
    posting_id = await office.post(document)

    posting = await office.run(posting_id)

    assert (posting.status, posting.code) == (status, code)
    assert f"Document {document.dfe_id} has" in (posting.message or "")
    assert f"{DFE}.action_gerar_po_dfe" not in office.calls()

    _leave_one_of_each(office, document)

    assert (await office.resume(posting_id)).status == "completed"
    office.assert_posted(document)


def _leave_one_of_each(office: Office, document: SeededDocument) -> None:
    for model in (f"{DFE}.line", f"{DFE}.pagamento"):
        ids = office.person(model, "search", [["dfe_id", "=", document.dfe_id]])
        if not ids:
            office.person(model, "create", {"dfe_id": document.dfe_id})
        office.person(model, "unlink", ids[1:])


@pytest.mark.parametrize("version", [17, 19])
@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        (('secret = "admin"', 'secret = "wrong"'), "odoo_authentication_failed", "login and sec"),
        (('login = "admin"', 'login = "nobody"'), "odoo_authentication_failed", "login and sec"),
        (('database = "eclusa"', 'database = "other"'), "odoo_unknown_database", "database name"),
        (("http://127.0.0.1", "http://127.0.0.2"), "odoo_unreachable", "Check that Odoo runs"),
        (('"\ndatabase', '/elsewhere"\ndatabase'), "odoo_unexpected_answer", "address"),
    ],
    ids=["password", "login", "database", "address", "path"],
)
async def test_a_wrong_connection_is_told(
    office: Office, change: tuple[str, str], code: str, says: str
) -> None:
    """What to check in the configuration is said; corrected, the posting completes."""
    document = office.document()
    await office.reconfigure(change)
    posting_id = await office.post(document)

    posting = await office.run(posting_id)

    assert (posting.status, posting.code) == ("failed", code)
    assert says in (posting.message or "")
    assert office.calls() == {}

    await office.reconfigure()

    assert (await office.resume(posting_id)).status == "completed"
    office.assert_posted(document)


@pytest.mark.parametrize(
    ("refuse", "code"), [(False, "odoo_gateway"), (True, "odoo_unreachable")], ids=["502", "down"]
)
async def test_an_outage_stops_a_posting_and_never_starts_one_anew(
    office: Office, code: str, *, refuse: bool
) -> None:
    """What could not be asked is not taken for missing; later the posting goes on."""
    document = office.document()
    office.generate(document)
    office.trouble("unavailable", refuse=refuse)
    posting_id = await office.post(document)

    posting = await office.run(posting_id)

    assert (posting.status, posting.code) == ("failed", code)
    assert office.calls() == {}

    office.simulator.world.faults.clear()

    assert (await office.resume(posting_id)).status == "completed"
    office.assert_posted(document)
    assert len(office.orders(document)) == 1


async def test_missing_rights_are_named_and_can_be_given(office: Office) -> None:
    """Odoo names the record and the groups; with the rights the posting completes."""
    document = office.document(taker_company="plant")
    await office.reconfigure(
        ('login = "admin"', 'login = "observer"'), ('secret = "admin"', 'secret = "observer"')
    )
    posting_id = await office.post(document)

    posting = await office.run(posting_id)

    assert (posting.status, posting.code) == ("failed", "odoo_access_denied")
    assert "Give the integration's user the right" in (posting.message or "")
    assert "purchase.order" in (posting.message or "")

    world = office.simulator.world
    observer = world.database.tables["res.users"].rows[world.seed.observer_id]
    observer["roles"] = frozenset({"manager"})

    assert (await office.resume(posting_id)).status == "completed"
    office.assert_posted(document)
