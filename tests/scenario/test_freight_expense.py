"""Expenses of freights: the same steps, a profile of their own, and one posting for each CTe."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import pytest

from service.errors import InvalidInput, LivePosting, OtherKind
from service.postings.freight_expense import FREIGHT_EXPENSE
from service.scene import TIMINGS, freight_profile
from service.simulator.arrivals import DocumentOptions
from service.simulator.seed import default_seed
from tests.factories.running import DUE, Stage, problem, running
from tests.scenario.conftest import ACTOR, DFE, timings
from tests.scenario.test_crash_matrix import LIES, Death, Point, die

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from service.settings import Settings
    from service.simulator.arrivals import SeededDocument
    from service.simulator.faults import Kind
    from tests.scenario.conftest import Office

PATH = "/v1/postings"
EXPENSE = "90210"
KIND = FREIGHT_EXPENSE.kind


@pytest.fixture
async def desk(office: Office) -> AsyncIterator[Office]:
    """Where expenses are posted, into the Odoo of the office."""
    made = replace(office, kind=FREIGHT_EXPENSE)
    made.configure()
    yield made
    await made.close()


def complement(office: Office, **options: Any) -> SeededDocument:
    """A CTe that adds to another one."""
    return office.document(original_key=office.document().key, **options)


async def post(
    desk: Office,
    document: SeededDocument,
    by: Literal["xml", "key"] = "xml",
    *,
    invoice: str | None = None,
    expense: str = EXPENSE,
) -> UUID:
    """Accept an expense as the API does."""
    return await desk.post(document, by, invoice=invoice, expense=expense)


@pytest.mark.parametrize("version", [17, 19])
@pytest.mark.parametrize(
    ("by", "invoice", "text"),
    [("xml", None, f"DESPESA-{EXPENSE}"), ("key", "4711", "FATURA-4711")],
)
async def test_an_expense_is_posted(
    desk: Office, by: Literal["xml", "key"], invoice: str | None, text: str
) -> None:
    """One order and one bill, which refer to the carrier's invoice or else to the expense."""
    document = complement(desk)

    posting = await desk.run(await post(desk, document, by, invoice=invoice))

    assert (posting.status, posting.step, posting.code) == ("completed", 16, None)
    desk.assert_posted(document, text=text)
    assert (await desk.ledger.verify(posting.id)).valid


async def test_an_expense_has_a_product_and_operations_of_its_own(desk: Office) -> None:
    """The profile is that of expenses, whatever that of freights says."""
    template = {"name": "Expenses of freights", "purchase_method": "purchase"}
    product_id = desk.person("product.product", "create", template)
    await desk.reconfigure(
        ("product_id = 29993", f"product_id = {product_id}"),
        ("intrastate_normal = 2122", "intrastate_normal = 2138"),
        ("intrastate_simplified = 2138", "intrastate_simplified = 2122"),
    )
    document = complement(desk, taker_company="plant", carrier_state="SP", simplified=False)

    posting = await desk.run(await post(desk, document))

    line = desk.order_line(document)
    assert posting.status == "completed"
    assert (line["product_id"][0], line["l10n_br_operacao_id"][0]) == (product_id, 2138)


async def test_the_second_expense_has_data_of_its_own(desk: Office) -> None:
    """Several in a row: amount, reference and order are never those of the one before."""
    documents = [complement(desk) for _ in range(3)]
    numbers = [str(9000 + place) for place in range(3)]

    for document, number in zip(documents, numbers, strict=True):
        posting = await desk.run(await post(desk, document, expense=number))
        assert posting.status == "completed"

    for document, number in zip(documents, numbers, strict=True):
        desk.assert_posted(document, text=f"DESPESA-{number}")


# -- which CTe is an expense ---------------------------------------------------------------------


async def test_only_a_complement_is_an_expense(desk: Office) -> None:
    """With the XML it is refused at once, by the key when Odoo's document is read."""
    document = desk.document()

    with pytest.raises(InvalidInput) as refused:
        await post(desk, document)
    posting = await desk.run(await post(desk, document, "key"))

    [wrong] = refused.value.problems
    assert (wrong.field, wrong.code) == ("xml", "wrong_type")
    assert (posting.status, posting.step, posting.code) == ("failed", 0, "wrong_type")
    assert desk.calls() == {}


async def test_a_type_that_cannot_be_read_stops_it(desk: Office) -> None:
    """A person attaches the XML in Odoo, and the posting goes on."""
    document = complement(desk)
    [dfe] = desk.simulator.world.records(DFE, [["id", "=", document.dfe_id]])
    desk.person(DFE, "write", [document.dfe_id], {"l10n_br_xml_dfe": False})
    stopped = await desk.run(await post(desk, document, "key"))
    desk.person(DFE, "write", [document.dfe_id], {"l10n_br_xml_dfe": "bm8gWE1M"})
    unread = await desk.resume(stopped.id)
    desk.person(DFE, "write", [document.dfe_id], {"l10n_br_xml_dfe": dfe["l10n_br_xml_dfe"]})

    posting = await desk.resume(stopped.id)

    assert [one.code for one in (stopped, unread)] == ["unknown_type", "unknown_type"]
    assert posting.status == "completed"
    desk.assert_posted(document, text=f"DESPESA-{EXPENSE}")


async def test_a_deployment_says_which_types_are_expenses(office: Office, desk: Office) -> None:
    """Both kinds have the same rule, with other defaults."""
    every = 'types = ["normal", "complement", "substitute"]'
    await desk.reconfigure(("accept_homologation", f"{every}\naccept_homologation"))
    await office.reconfigure(
        ("accept_homologation", 'types = ["normal", "substitute"]\naccept_homologation')
    )

    posting = await desk.run(await post(desk, desk.document(), "key"))
    with pytest.raises(InvalidInput) as refused:
        await office.post(complement(office))

    assert posting.status == "completed"
    assert [wrong.code for wrong in refused.value.problems] == ["wrong_type"]


# -- troubles and deaths -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "lie", "point"),
    [
        (5, "reply lost", "before the act"),
        (6, "late success", "during it"),
        (7, "502", "after it, before the record"),
        (9, "fault after commit", "during it"),
        (11, "502", "during it"),
        (15, "late success", "after it, before the record"),
        (15, "clean", "before the act"),
    ],
)
async def test_one_order_and_one_bill(desk: Office, number: int, lie: str, point: Point) -> None:
    """Whoever died and whatever was said, as it is for a freight."""
    methods = {
        5: f"{DFE}.pagamento.write",
        6: f"{DFE}.action_gerar_po_dfe",
        7: "purchase.order.write",
        9: "purchase.order.button_confirm",
        11: "purchase.order.action_create_invoice",
        15: "account.move.action_post",
    }
    await desk.reconfigure(times=timings(timeout=0.45, settle=0.6, kind=KIND))
    document = complement(desk)
    model, _, method = methods[number].rpartition(".")
    if (trouble := LIES[lie]) is not None:
        kind: Kind = trouble["kind"]
        more = {name: value for name, value in trouble.items() if name != "kind"}
        desk.trouble(kind, method, model=model, key=document.key, **more)
    posting_id = await post(desk, document)

    await die(desk, posting_id, Death(number, point))
    posting = await desk.run(posting_id)
    if posting.status != "completed":
        assert (posting.code, point) == ("outcome_unknown", "before the act")
        posting = await desk.resume(posting_id)

    await desk.simulator.world.settled()
    assert posting.status == "completed"
    assert (len(desk.orders(document)), len(desk.bills(document))) == (1, 1)
    desk.assert_posted(document, text=f"DESPESA-{EXPENSE}")


# -- one CTe, both kinds -------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["freight", "expense"])
async def test_a_cte_is_posted_as_one_of_both(office: Office, desk: Office, first: str) -> None:
    """Waiting, or completed: the other kind is refused, and names the posting."""
    document = complement(office)
    posting_id = await (office.post(document) if first == "freight" else post(desk, document))
    place = office if first == "freight" else desk

    async def other() -> UUID:
        return await (post(desk, document) if first == "freight" else office.post(document))

    with pytest.raises(OtherKind) as waiting:
        await other()
    completed = await place.run(posting_id)
    with pytest.raises(OtherKind) as posted:
        await other()

    assert [one.value.posting_id for one in (waiting, posted)] == [posting_id, posting_id]
    assert posted.value.kind == completed.kind
    assert (len(office.orders(document)), len(office.bills(document))) == (1, 1)


async def test_both_kinds_at_once_make_one_posting(office: Office, desk: Office) -> None:
    """Whichever comes first."""
    document = complement(office)

    answers = await asyncio.gather(
        *(office.post(document) for _ in range(3)),
        *(post(desk, document) for _ in range(3)),
        return_exceptions=True,
    )

    refused = [answer for answer in answers if isinstance(answer, (LivePosting, OtherKind))]
    [accepted] = [answer for answer in answers if answer not in refused]
    assert {one.posting_id for one in refused} == {accepted}


async def test_a_canceled_freight_may_become_an_expense(office: Office, desk: Office) -> None:
    """It goes on with the order that is there, and makes no second one."""
    document = complement(office)
    office.trouble("user_error", "button_confirm", key=document.key)
    stopped = await office.run(await office.post(document))
    await office.ledger.cancel(stopped.id, ACTOR)

    posting = await desk.run(await post(desk, document))

    assert (stopped.status, posting.status) == ("failed", "completed")
    assert (len(office.orders(document)), len(office.bills(document))) == (1, 1)
    assert office.order(document)["partner_ref"] == f"DESPESA-{EXPENSE}"


# -- over HTTP -----------------------------------------------------------------------------------


@pytest.fixture
async def stage(settings: Settings) -> AsyncIterator[Stage]:
    """The API and a simulated Odoo, for both kinds."""
    profile = freight_profile(default_seed().describe(), KIND)
    async with running(settings, with_worker=False, timings=TIMINGS + profile) as stage:
        yield stage


async def test_the_other_kind_is_refused_over_http(stage: Stage) -> None:
    """409 with the posting, also for a plan; an item of a batch is invalid and says so."""
    world = stage.simulator.world
    [original] = world.add_documents(DocumentOptions())
    [document] = world.add_documents(DocumentOptions(original_key=original.key))
    freight = stage.body(document)
    values = {"access_key": document.key, "due_date": DUE, "expense": EXPENSE}
    expense = {"kind": KIND, "connection": "main", "input": values}
    planned = await stage.client.post(f"{PATH}/plan", json=expense)
    accepted = await stage.client.post(PATH, json=expense)
    assert accepted.status_code == 202, accepted.text
    posting_id = accepted.json()["id"]

    refusals = [
        problem(await stage.client.post(path, json=freight), 409) for path in (PATH, f"{PATH}/plan")
    ]
    batch = await stage.client.post(f"{PATH}/batch", json={"items": [freight, expense]})
    missing = await stage.client.post(PATH, json={**expense, "input": {**values, "expense": " "}})

    assert planned.json()["steps"][0]["outcome"] == "done"
    assert [(one["code"], one["posting_id"]) for one in refusals] == [
        ("posted_as_other_kind", posting_id)
    ] * 2
    other, same = batch.json()["items"]
    assert (other["answer"], same["answer"]) == ("invalid", "live")
    assert [wrong["code"] for wrong in other["problems"]] == ["posted_as_other_kind"]
    assert re.search(posting_id, other["problems"][0]["message"])
    problem(missing, 422, "input.expense")
