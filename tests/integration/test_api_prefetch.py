"""Records with what they lead to over HTTP, from a simulated Odoo that counts its calls."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from service.api import prefetch
from service.api.prefetch import FieldShape, Shapes
from service.simulator.bulk import BulkOptions
from service.simulator.changes import Change, Scheduled
from service.simulator.faults import Fault
from tests.factories.running import Stage, own_servers, problem, running

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATH = "/v1/prefetch"
ORDER, LINE, PARTNER, PRODUCT = (
    "sale.order",
    "sale.order.line",
    "res.partner",
    "product.product",
)
PRODUCTS = {"field": "product_id", "fields": ["default_code"]}
LINES = {"field": "order_line", "fields": ["product_uom_qty"], "relations": [PRODUCTS]}
CUSTOMER = {"field": "partner_id", "model": PARTNER, "fields": ["name", "vat"]}
READ_METHODS = {"search_read", "read", "fields_get"}


@pytest.fixture
def shop(idle: Stage) -> Stage:
    """Thirty orders of some customers."""
    if not idle.simulator.world.records(ORDER):
        rows = BulkOptions(sale_lines=90, lines_per_order=3, products=12, partners=8)
        idle.simulator.world.add_rows(rows)
    return idle


def asking(**values: Any) -> dict[str, Any]:
    """A request for orders with customers and lines, unless it says otherwise."""
    body = {
        "connection": "main",
        "model": ORDER,
        "domain": [],
        "fields": ["name"],
        "relations": [CUSTOMER, LINES],
        **values,
    }
    return {name: value for name, value in body.items() if value is not None}


async def ask(stage: Stage, **values: Any) -> dict[str, Any]:
    """The answer to a request that is right."""
    response = await stage.client.post(PATH, json=asking(**values))
    assert response.status_code == 200, response.text
    return dict(response.json())


def rows(stage: Stage, model: str, fields: Sequence[str]) -> dict[int, dict[str, Any]]:
    """What Odoo really has of a model, by id."""
    return {one["id"]: one for one in stage.simulator.world.records(model, [], ["id", *fields])}


def add(stage: Stage, model: str, **values: Any) -> int:
    """A new record, made as by a person."""
    return int(stage.simulator.world.execute(model, "create", values))


async def test_relations_cost_one_call_each(shop: Stage) -> None:
    """Thirty orders, their customers, lines and products: four calls, as Odoo counts them."""
    await ask(shop)
    before = shop.simulator.world.received.copy()

    answer = await ask(shop)

    assert len(answer["items"]) == 30
    assert answer["calls"] == 4
    assert shop.simulator.world.received - before == Counter(
        {f"{ORDER}.search_read": 1, f"{PARTNER}.read": 1, f"{LINE}.read": 1, f"{PRODUCT}.read": 1}
    )


async def test_two_relations_to_a_model_share_a_call(shop: Stage) -> None:
    """Customer and shipping address are read at once, each shown with its own fields."""
    shipping = {"field": "partner_shipping_id", "fields": ["city"]}

    answer = await ask(shop, relations=[CUSTOMER, shipping])

    assert answer["calls"] == 2
    first = answer["items"][0]
    assert first["partner_id"].keys() == {"id", "name", "vat"}
    assert first["partner_shipping_id"].keys() == {"id", "city"}


async def test_objects_are_nested_as_odoo_has_them(shop: Stage) -> None:
    """Every order, customer, line and product equals what the simulator holds."""
    orders = rows(shop, ORDER, ["name", "partner_id", "order_line"])
    partners = rows(shop, PARTNER, ["name", "vat"])
    lines = rows(shop, LINE, ["product_uom_qty", "product_id"])
    products = rows(shop, PRODUCT, ["default_code"])

    answer = await ask(shop)

    assert answer["items"] == [
        {
            "id": order["id"],
            "name": order["name"],
            "partner_id": partners[order["partner_id"][0]],
            "order_line": [
                {
                    "id": line,
                    "product_uom_qty": str(lines[line]["product_uom_qty"]),
                    "product_id": products[lines[line]["product_id"][0]],
                }
                for line in order["order_line"]
            ],
        }
        for order in orders.values()
    ]
    assert answer["missing"] == {}


async def test_values_look_as_their_types_say(shop: Stage) -> None:
    """Empty is null, a boolean stays false, and what leads on shows at least its id."""
    parent = add(shop, PARTNER, name="Above")
    child = add(shop, PARTNER, name="Below", parent_id=parent)
    fields = [
        "name",
        "vat",
        "is_company",
        "customer_rank",
        "x_studio_desconto",
        "create_date",
        "agendamento",
        "parent_id",
        "child_ids",
    ]

    answer = await ask(
        shop, model=PARTNER, domain=None, ids=[parent, child], fields=fields, relations=[]
    )

    above, below = answer["items"]
    created = rows(shop, PARTNER, ["create_date"])[parent]["create_date"]
    assert above == {
        "id": parent,
        "name": "Above",
        "vat": None,
        "is_company": False,
        "customer_rank": 0,
        "x_studio_desconto": "0.0",
        "create_date": created.replace(" ", "T") + "Z",
        "agendamento": None,
        "parent_id": None,
        "child_ids": [{"id": child}],
    }
    assert below["parent_id"] == {"id": parent, "display_name": "Above"}


async def test_dates_have_no_time(shop: Stage) -> None:
    """A date is one, whatever the zone of the reader."""
    document = shop.arrive()
    shop.simulator.world.change(
        Change(
            action="write",
            model="l10n_br_ciel_it_account.dfe",
            ids=(document.dfe_id,),
            values={"l10n_br_data_entrada": "2026-07-14"},
        )
    )

    answer = await ask(
        shop,
        model="l10n_br_ciel_it_account.dfe",
        domain=[["id", "=", document.dfe_id]],
        fields=["l10n_br_data_entrada"],
        relations=[],
    )

    assert [item["l10n_br_data_entrada"] for item in answer["items"]] == ["2026-07-14"]


async def test_an_empty_many2one_is_null(shop: Stage) -> None:
    """And costs no call when it is empty in all records."""
    team = {"field": "team_id", "fields": ["name"]}

    answer = await ask(shop, domain=[["team_id", "=", False]], relations=[team])

    assert answer["items"]
    assert {item["team_id"] for item in answer["items"]} == {None}
    assert answer["calls"] == 1


async def test_pages_go_on_where_the_last_one_ended(shop: Stage) -> None:
    """All orders once, in order of id, also when the last page is full."""
    pages = [await ask(shop, limit=10)]
    while (cursor := pages[-1]["next_cursor"]) is not None:
        pages.append(await ask(shop, limit=10, after_id=cursor))

    assert [len(page["items"]) for page in pages] == [10, 10, 10]
    assert [item["id"] for page in pages for item in page["items"]] == list(rows(shop, ORDER, []))


async def test_another_order_has_no_next_page(shop: Stage) -> None:
    """The first ones, and no cursor that would mean something else."""
    names = sorted((one["name"] for one in rows(shop, ORDER, ["name"]).values()), reverse=True)

    answer = await ask(shop, order="name desc, id", limit=5)

    assert [item["name"] for item in answer["items"]] == names[:5]
    assert answer["next_cursor"] is None


async def test_records_by_id_come_in_their_order_and_missing_ones_are_named(shop: Stage) -> None:
    """Those that are not there are no empty objects, and are not forgotten."""
    first, second = list(rows(shop, ORDER, []))[:2]

    answer = await ask(shop, domain=None, ids=[second, 999_999, first])

    assert [item["id"] for item in answer["items"]] == [second, first]
    assert answer["missing"] == {ORDER: [999_999]}
    assert answer["calls"] == 4


async def test_what_is_deleted_meanwhile_is_named_as_missing(shop: Stage) -> None:
    """Between the order and its lines somebody deletes a line."""
    order = next(iter(rows(shop, ORDER, ["order_line"]).values()))
    line = add(shop, LINE, order_id=order["id"], product_id=next(iter(rows(shop, PRODUCT, []))))
    deletion = Change(action="delete", model=LINE, ids=(line,))
    shop.simulator.world.schedule.waiting.append(Scheduled(model=ORDER, change=deletion))

    answer = await ask(shop, domain=[["id", "=", order["id"]]])

    [item] = answer["items"]
    assert [one["id"] for one in item["order_line"]] == order["order_line"]
    assert answer["missing"] == {LINE: [line]}


async def test_archived_records_are_seen_where_records_lead_to_them(shop: Stage) -> None:
    """On every level. A search leaves them out as Odoo does, unless it asks for them."""
    parent = add(shop, PARTNER, name="Parent")
    child = add(shop, PARTNER, name="Child", parent_id=parent, active=False)
    grandchild = add(shop, PARTNER, name="Grandchild", parent_id=child, active=False)
    grandchildren = {"field": "child_ids", "fields": ["active"]}
    children = {"field": "child_ids", "fields": ["active"], "relations": [grandchildren]}
    family = ["id", "in", [parent, child]]

    async def found(*more: Any) -> list[dict[str, Any]]:
        answer = await ask(
            shop, model=PARTNER, domain=[family, *more], fields=[], relations=[children]
        )
        return list(answer["items"])

    below = [{"id": grandchild, "active": False}]
    assert await found() == [
        {"id": parent, "child_ids": [{"id": child, "active": False, "child_ids": below}]}
    ]
    assert [item["id"] for item in await found(["active", "=", False])] == [child]
    assert len(await found(["active", "in", [True, False]])) == 2


@pytest.mark.parametrize(
    ("values", "field", "code", "words"),
    [
        pytest.param(
            {"fields": ["name", "partner"]},
            "fields.1",
            "unknown_field",
            "did you mean partner_id",
            id="field",
        ),
        pytest.param(
            {"relations": [{**CUSTOMER, "fields": ["vat", "nmae"]}]},
            "relations.0.fields.1",
            "unknown_field",
            "did you mean name",
            id="field of a relation",
        ),
        pytest.param(
            {"relations": [CUSTOMER, {**LINES, "relations": [{"field": "nope", "fields": []}]}]},
            "relations.1.relations.0.field",
            "unknown_field",
            "sale.order.line has no field 'nope'",
            id="relation of a relation",
        ),
        pytest.param(
            {"relations": [{"field": "name", "fields": []}]},
            "relations.0.field",
            "no_relation",
            "sale.order.name is a char",
            id="no relation",
        ),
        pytest.param(
            {"relations": [{**CUSTOMER, "model": "res.users"}]},
            "relations.0.model",
            "wrong_model",
            "leads to res.partner",
            id="another model",
        ),
        pytest.param(
            {"relations": [CUSTOMER, CUSTOMER]},
            "relations.1.field",
            "duplicate",
            "twice",
            id="relation twice",
        ),
        pytest.param(
            {"model": "sale.ordr"}, "model", "unknown_model", "sale.ordr", id="unknown model"
        ),
        pytest.param({"order": "nmae desc"}, "order", "unknown_field", "name", id="order"),
        pytest.param({"order": "name; drop"}, "order", "invalid_order", "asc", id="order's form"),
        pytest.param(
            {"domain": [["nope", "=", 1]]}, "domain", "refused_search", "nope", id="domain's field"
        ),
        pytest.param(
            {"domain": ["name", "=", "x"]}, "domain", "invalid_domain", "value]", id="domain's form"
        ),
        pytest.param(
            {"domain": ["|", ["name", "=", "x"]]},
            "domain",
            "invalid_domain",
            "in front",
            id="domain without its end",
        ),
        pytest.param({"ids": [1]}, "domain", "domain_or_ids", "either", id="domain and ids"),
        pytest.param({"domain": None}, "domain", "domain_or_ids", "either", id="neither"),
        pytest.param(
            {"domain": None, "ids": [1], "order": "name"},
            "order",
            "only_domain",
            "domain",
            id="order of ids",
        ),
        pytest.param(
            {"order": "name", "after_id": 5}, "after_id", "only_by_id", "by id", id="other pages"
        ),
        pytest.param({"limit": 2_001}, "limit", "less_than_equal", "2000", id="limit"),
        pytest.param(
            {"colour": "red"}, "colour", "extra_forbidden", "not known", id="unknown name"
        ),
    ],
)
async def test_bad_input_is_named(
    shop: Stage, values: dict[str, Any], field: str, code: str, words: str
) -> None:
    """By its place in the body, with a code and a sentence; nothing is read then."""
    response = await shop.client.post(PATH, json=asking(**values))

    content = problem(response, 422, field)
    [found] = [item for item in content["errors"] if item["field"] == field]
    assert found["code"] == code
    assert words in found["message"]


async def test_all_wrong_fields_are_named_at_once(shop: Stage) -> None:
    """So that nobody has to guess what comes after the first."""
    wrong = [{**CUSTOMER, "fields": ["nmae"]}, {"field": "order_lines", "fields": []}]

    response = await shop.client.post(PATH, json=asking(fields=["nope"], relations=wrong))

    problem(response, 422, "fields.0", "relations.0.fields.0", "relations.1.field")


def levels(count: int) -> list[dict[str, Any]]:
    """Parents of parents, so many times."""
    below = levels(count - 1) if count > 1 else []
    return [{"field": "parent_id", "fields": ["name"], "relations": below}]


async def test_relations_have_limits(shop: Stage) -> None:
    """Five levels and fifty relations, also when they are spread over the levels."""
    deepest = await ask(shop, model=PARTNER, relations=levels(5))
    deeper = await shop.client.post(PATH, json=asking(model=PARTNER, relations=levels(6)))
    child = {"field": "child_ids", "fields": [], "relations": [CUSTOMER] * 50}
    wider = await shop.client.post(PATH, json=asking(model=PARTNER, relations=[child]))
    endless = await shop.client.post(PATH, json=asking(model=PARTNER, relations=levels(200)))

    assert deepest["items"]
    assert problem(deeper, 422, "relations")["errors"][0]["code"] == "too_deep"
    assert "these are 51" in problem(wider, 422, "relations")["errors"][0]["message"]
    problem(endless, 422)


async def test_an_answer_that_would_not_end_is_refused(shop: Stage) -> None:
    """Sixty contacts of one company, each with the company and all its contacts, and so on."""
    company = add(shop, PARTNER, name="Company")
    for number in range(60):
        add(shop, PARTNER, name=f"Contact {number}", parent_id=company)
    nested: list[dict[str, Any]] = []
    for field in ("child_ids", "parent_id", "child_ids", "parent_id", "child_ids"):
        nested = [{"field": field, "fields": [], "relations": nested}]

    response = await shop.client.post(
        PATH, json=asking(model=PARTNER, domain=None, ids=[company], fields=[], relations=nested)
    )

    assert problem(response, 422, "relations")["errors"][0]["code"] == "too_many_records"


async def test_records_without_end_are_not_read(
    shop: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused before Odoo is asked for them."""
    monkeypatch.setattr(prefetch, "MOST_OBJECTS", 50)
    before = shop.simulator.world.received.copy()

    response = await shop.client.post(PATH, json=asking(relations=[LINES]))

    problem(response, 422, "relations")
    calls = shop.simulator.world.received - before
    assert calls[f"{LINE}.read"] == 0
    assert calls[f"{ORDER}.search_read"] == 1


async def test_an_unknown_connection_names_the_known_ones(shop: Stage) -> None:
    """404, as everywhere."""
    response = await shop.client.post(PATH, json=asking(connection="nope"))

    assert "main" in problem(response, 404, "connection")["detail"]


async def test_only_reads_reach_odoo(shop: Stage) -> None:
    """Whatever is asked for."""
    before = shop.simulator.world.received.copy()

    await ask(shop, fields=["name", "tag_ids"], order="name")

    methods = {name.rpartition(".")[2] for name in shop.simulator.world.received - before}
    assert methods <= READ_METHODS


@pytest.mark.parametrize("model", [ORDER, PARTNER])
async def test_denied_access_is_a_problem_and_never_missing(shop: Stage, model: str) -> None:
    """Of the records themselves, and of what they lead to."""
    await ask(shop)
    shop.simulator.add_fault(Fault(kind="access_error", model=model))

    response = await shop.client.post(PATH, json=asking())

    assert problem(response, 502)["code"] == "odoo_access_denied"


async def test_a_slow_odoo_is_a_timeout_and_a_missing_one_unreachable(tmp_path: Path) -> None:
    """504 within the setting's deadline, and 502 when nothing listens."""
    async with own_servers(tmp_path) as (_, settings):
        quick = settings.model_copy(update={"plan_seconds": 0.3})
        async with running(quick, with_worker=False) as stage:
            stage.simulator.add_fault(Fault(kind="slow", method="search_read", seconds=20))
            slow = await stage.client.post(PATH, json=asking())
        async with running(settings, with_worker=False) as stage:
            stage.simulator.add_fault(Fault(kind="unavailable", refuse=True))
            gone = await stage.client.post(PATH, json=asking())

    assert problem(slow, 504)["code"] == "odoo_timeout"
    assert problem(gone, 502)["code"] == "odoo_unreachable"


async def test_fields_are_asked_for_again_after_some_minutes(shop: Stage) -> None:
    """Once until then, for each model."""
    now = [0.0]
    shapes = Shapes(seconds=300, clock=lambda: now[0])
    odoo = shop.api.connections.client("main")
    before = shop.simulator.world.received.copy()

    for now[0] in (0.0, 299.0, 301.0):
        shape = await shapes.of(odoo, ORDER)
        assert shape["partner_id"] == FieldShape("many2one", PARTNER)
    await shapes.of(odoo, PARTNER)

    calls = shop.simulator.world.received - before
    assert (calls[f"{ORDER}.fields_get"], calls[f"{PARTNER}.fields_get"]) == (2, 1)
