"""Records with what they lead to, read from a source that takes note of every call."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from service.odoo import errors
from service.odoo.prefetch import Node, Prefetch, Relation
from service.odoo.records import Record

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
ORDER, LINE, PARTNER, PRODUCT, COUNTRY = (
    "sale.order",
    "sale.order.line",
    "res.partner",
    "product.product",
    "res.country",
)

CUSTOMER = Relation(field="partner_id", model=PARTNER, fields=("name",))
SHIPPING = Relation(field="partner_shipping_id", model=PARTNER, fields=("city",))
PRODUCTS = Relation(field="product_id", model=PRODUCT, fields=("default_code",))
LINES = Relation(field="order_line", model=LINE, fields=("name",), relations=(PRODUCTS,))


@dataclass(frozen=True)
class Read:
    """One call as it arrived."""

    model: str
    ids: tuple[int, ...]
    fields: frozenset[str]
    context: Mapping[str, Any] | None


@dataclass
class Source:
    """Rows by model and id. A gate that is not set holds all reads; an error waits for its model.

    `arrived` is released once for each read that has come so far.
    """

    rows: dict[str, dict[int, dict[str, Any]]] = field(default_factory=lambda: defaultdict(dict))
    reads: list[Read] = field(default_factory=list)
    errors: dict[str, Exception] = field(default_factory=dict)
    gate: asyncio.Event | None = None
    arrived: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    def add(self, model: str, record_id: int, **values: Any) -> Record:
        """Put a record there, and answer it as a search would."""
        self.rows[model][record_id] = {"id": record_id, **values}
        return Record(model, self.rows[model][record_id])

    async def read(
        self,
        model: str,
        ids: Sequence[int],
        fields: Sequence[str],
        *,
        context: Mapping[str, Any] | None = None,
    ) -> list[Record]:
        self.reads.append(Read(model, tuple(ids), frozenset(fields), context))
        self.arrived.release()
        if self.gate is not None:
            await self.gate.wait()
        if model in self.errors:
            raise self.errors.pop(model)
        wanted = {"id", *fields}
        return [
            Record(model, {name: row[name] for name in row if name in wanted})
            for one in ids
            if (row := self.rows[model].get(one)) is not None
        ]

    async def search_read(self, *_: Any, **__: Any) -> list[Record]:
        raise AssertionError("a prefetch only reads by id")

    @property
    def asked(self) -> list[tuple[str, tuple[int, ...]]]:
        """Which ids were asked for, read by read, in the order of the models' names."""
        return sorted((read.model, read.ids) for read in self.reads)


@pytest.fixture
def source() -> Source:
    """Two customers in one country, three products, and an order that has no customer."""
    shop = Source()
    shop.add(COUNTRY, 31, name="Brazil")
    shop.add(PARTNER, 1, name="Ana", city="Recife", country_id=[31, "Brazil"])
    shop.add(PARTNER, 2, name="Bia", city="Natal", country_id=[31, "Brazil"])
    for product in (5, 6, 7):
        shop.add(PRODUCT, product, default_code=f"P{product}")
    for line, product in enumerate((5, 6, 5, 7), start=11):
        shop.add(LINE, line, name=f"line {line}", product_id=[product, f"P{product}"])
    return shop


@pytest.fixture
def orders(source: Source) -> list[Record]:
    """Orders, not by id: those of two customers, and one of nobody."""
    return [
        source.add(
            ORDER,
            103,
            partner_id=[2, "Bia"],
            partner_shipping_id=[1, "Ana"],
            order_line=[13, 14],
        ),
        source.add(ORDER, 101, partner_id=[1, "Ana"], partner_shipping_id=False, order_line=[11]),
        source.add(ORDER, 102, partner_id=False, partner_shipping_id=False, order_line=[]),
        source.add(ORDER, 104, partner_id=[1, "Ana"], partner_shipping_id=False, order_line=[12]),
    ]


def codes(node: Node) -> list[str | None]:
    """The codes of an order's products."""
    products = [line.one("product_id") for line in node.many("order_line")]
    return [product.record.text("default_code") if product else None for product in products]


def name(node: Node | None) -> str | None:
    """The name of a record that may not be there."""
    return node.record.text("name") if node else None


async def test_relations_cost_one_read_each(source: Source, orders: list[Record]) -> None:
    """Four orders with customers, lines and products: three reads, each id once."""
    await Prefetch(source, [CUSTOMER, LINES]).load(orders)

    assert source.asked == [(PRODUCT, (5, 7, 6)), (PARTNER, (2, 1)), (LINE, (13, 14, 11, 12))]


async def test_nodes_are_in_the_given_order_with_what_they_lead_to(
    source: Source, orders: list[Record]
) -> None:
    """A many2one is a node or None, a one2many a tuple in Odoo's own order."""
    graph = await Prefetch(source, [CUSTOMER, LINES]).load(orders)

    assert [node.record.id for node in graph.nodes] == [103, 101, 102, 104]
    assert [name(node.one("partner_id")) for node in graph.nodes] == ["Bia", "Ana", None, "Ana"]
    assert [codes(node) for node in graph.nodes] == [["P5", "P7"], ["P5"], [], ["P6"]]
    assert graph.missing == {}


async def test_a_record_that_several_lead_to_is_one_node(
    source: Source, orders: list[Record]
) -> None:
    """Results are shared, not copied."""
    _, first, _, last = (await Prefetch(source, [CUSTOMER]).load(orders)).nodes

    assert first.one("partner_id") is not None
    assert first.one("partner_id") is last.one("partner_id")


async def test_two_relations_to_a_model_are_one_read_with_all_fields(
    source: Source, orders: list[Record]
) -> None:
    """Customer and shipping address: each partner once, with what either relation wants."""
    country = Relation(field="country_id", model=COUNTRY, fields=("name",))
    customer = Relation(field="partner_id", model=PARTNER, fields=("name",), relations=(country,))

    graph = await Prefetch(source, [customer, SHIPPING]).load(orders)

    partners, countries = source.reads
    assert partners.fields == {"name", "city", "country_id"}
    assert set(partners.ids) == {1, 2}
    assert (countries.model, countries.ids) == (COUNTRY, (31,))
    shipping = graph.nodes[0].one("partner_shipping_id")
    assert shipping is not None
    assert shipping.record.text("city") == "Recife"


async def test_a_field_that_was_not_prefetched_is_a_mistake_of_the_program(
    source: Source, orders: list[Record]
) -> None:
    """Nothing looks empty only because nobody asked for it; nor is one taken for many."""
    node, *_ = (await Prefetch(source, [CUSTOMER, LINES]).load(orders)).nodes

    with pytest.raises(KeyError, match=r"sale\.order\.team_id was not prefetched"):
        node.one("team_id")
    with pytest.raises(TypeError, match="leads to many records"):
        node.one("order_line")
    with pytest.raises(TypeError, match="leads to one record"):
        node.many("partner_id")


def test_a_relation_that_is_there_twice_is_refused(source: Source) -> None:
    """One of them would be lost."""
    with pytest.raises(ValueError, match="partner_id is there twice"):
        Prefetch(source, [CUSTOMER, CUSTOMER])


@pytest.mark.parametrize(
    "shown",
    [
        pytest.param([1, "Ana"], id="id and name"),
        pytest.param([1, False], id="id without a name"),
        pytest.param([1, None], id="id with an empty name"),
        pytest.param(1, id="id alone"),
    ],
)
async def test_a_many2one_is_one_record_however_it_is_shown(source: Source, shown: Any) -> None:
    """A name that is false is no second id."""
    order = source.add(ORDER, 105, partner_id=shown)

    graph = await Prefetch(source, [CUSTOMER]).load([order])

    assert name(graph.nodes[0].one("partner_id")) == "Ana"


@pytest.mark.parametrize("empty", [False, None, 0])
async def test_an_empty_relation_costs_no_read(source: Source, empty: Any) -> None:
    """Nor does a page without records."""
    order = source.add(ORDER, 105, partner_id=empty)
    prefetch = Prefetch(source, [CUSTOMER])

    graph = await prefetch.load([order])
    nothing = await prefetch.load([])

    assert graph.nodes[0].one("partner_id") is None
    assert nothing.nodes == ()
    assert source.reads == []


async def test_what_an_earlier_page_brought_is_not_read_again(
    source: Source, orders: list[Record]
) -> None:
    """The second page asks only for what is new, in one read for each model."""
    prefetch = Prefetch(source, [CUSTOMER, LINES])
    await prefetch.load(orders[1:2])
    source.reads.clear()

    graph = await prefetch.load(orders)

    assert source.asked == [(PRODUCT, (7, 6)), (PARTNER, (2,)), (LINE, (13, 14, 12))]
    assert codes(graph.nodes[1]) == ["P5"]
    await prefetch.load(orders)
    assert len(source.reads) == 3


async def test_many_ids_are_read_in_chunks(source: Source) -> None:
    """No read is longer than Odoo takes."""
    lines = [source.add(LINE, one, product_id=[one, ""]) for one in range(200, 225)]
    for line in lines:
        source.add(PRODUCT, line.id, default_code="")

    graph = await Prefetch(source, [PRODUCTS], chunk=10).load(lines)

    assert [len(read.ids) for read in source.reads] == [10, 10, 5]
    assert [node.one("product_id") is None for node in graph.nodes] == [False] * 25


async def test_the_context_goes_with_every_read(source: Source, orders: list[Record]) -> None:
    """So that archived lines are among those of an order."""
    everything = {"active_test": False}

    await Prefetch(source, [CUSTOMER, LINES], context=everything).load(orders)

    assert [read.context for read in source.reads] == [everything] * 3


async def test_what_odoo_does_not_have_is_reported(source: Source, orders: list[Record]) -> None:
    """By model, with every page that leads there, and without asking again."""
    del source.rows[PARTNER][1]
    del source.rows[LINE][14], source.rows[LINE][12]
    prefetch = Prefetch(source, [CUSTOMER, LINES])

    first = await prefetch.load(orders)
    again = await prefetch.load(orders[3:])

    assert first.missing == {PARTNER: (1,), LINE: (12, 14)}
    assert [name(node.one("partner_id")) for node in first.nodes] == ["Bia", None, None, None]
    assert codes(first.nodes[0]) == ["P5"]
    assert again.missing == {PARTNER: (1,), LINE: (12,)}
    assert len(source.reads) == 3


async def test_the_same_id_that_two_relations_miss_is_reported_once(
    source: Source, orders: list[Record]
) -> None:
    """At different levels, with different fields."""
    parent = Relation(field="parent_id", model=PARTNER, fields=("city",))
    customer = Relation(field="partner_id", model=PARTNER, fields=("name",), relations=(parent,))
    source.rows[PARTNER][2]["parent_id"] = [9, "gone"]
    orders.append(source.add(ORDER, 105, partner_id=[9, "gone"]))

    graph = await Prefetch(source, [customer]).load([orders[0], orders[-1]])

    assert graph.missing == {PARTNER: (9,)}


async def test_a_record_may_lead_to_itself(source: Source) -> None:
    """The relations end where they were said to end, whatever the records do."""
    parent = Relation(field="parent_id", model=PARTNER, fields=("name",))
    twice = Relation(field="parent_id", model=PARTNER, fields=("name",), relations=(parent,))
    itself = source.add(PARTNER, 8, name="Ouroboros", parent_id=[8, "Ouroboros"])

    graph = await Prefetch(source, [twice]).load([itself])

    above = graph.nodes[0].one("parent_id")
    assert above is not None
    assert name(above.one("parent_id")) == "Ouroboros"


async def test_levels_with_the_same_fields_share_what_was_read(source: Source) -> None:
    """A partner that is met as a customer is not read again as a parent."""
    parent = Relation(field="parent_id", model=PARTNER, fields=("name", "parent_id"))
    customer = Relation(field="partner_id", model=PARTNER, fields=("name",), relations=(parent,))
    source.add(PARTNER, 8, name="Above", parent_id=False)
    source.add(PARTNER, 9, name="Below", parent_id=[8, "Above"])
    orders = [source.add(ORDER, one, partner_id=[one, ""]) for one in (8, 9)]

    graph = await Prefetch(source, [customer]).load(orders)

    below = graph.nodes[1].one("partner_id")
    assert below is not None
    assert name(below.one("parent_id")) == "Above"
    assert source.asked == [(PARTNER, (8, 9))]


async def test_the_oldest_records_leave_a_full_cache(source: Source) -> None:
    """They are read again when they are needed, and a page larger than the cache is complete."""
    for one in range(50, 56):
        source.add(PARTNER, one, name=f"partner {one}")
    pages = [
        [source.add(ORDER, one, partner_id=[one, ""]) for one in some]
        for some in ((50, 51), (52,), (51, 52), (50,), (50, 51, 52, 53, 54, 55))
    ]
    prefetch = Prefetch(source, [CUSTOMER], most_cached=2)

    graphs = [await prefetch.load(page) for page in pages]

    assert [read.ids for read in source.reads] == [(50, 51), (52,), (50,), (51, 53, 54, 55)]
    assert [[name(node.one("partner_id")) for node in graph.nodes] for graph in graphs] == [
        [f"partner {record.id}" for record in page] for page in pages
    ]
    assert len(prefetch._cache._kept) == 2


async def test_loads_at_the_same_time_share_their_reads(
    source: Source, orders: list[Record]
) -> None:
    """Each id is asked for once, by whoever came first."""
    source.gate = asyncio.Event()
    prefetch = Prefetch(source, [CUSTOMER])
    loads = [asyncio.create_task(prefetch.load(page)) for page in (orders[1:2], orders, orders)]
    async with asyncio.timeout(5):
        await source.arrived.acquire()
        await source.arrived.acquire()
        source.gate.set()
        graphs = await asyncio.gather(*loads)

    assert source.asked == [(PARTNER, (1,)), (PARTNER, (2,))]
    assert [name(node.one("partner_id")) for node in graphs[2].nodes] == ["Bia", "Ana", None, "Ana"]
    assert prefetch._branches["partner_id"].shelf._reads == {}


async def test_a_failed_read_is_told_to_all_who_wait_and_then_made_again(
    source: Source, orders: list[Record]
) -> None:
    """As the error of Odoo itself, with nothing of it left behind."""
    source.gate = asyncio.Event()
    source.errors[PARTNER] = errors.TimedOut("too slow")
    prefetch = Prefetch(source, [CUSTOMER])
    loads = [asyncio.create_task(prefetch.load(orders)) for _ in range(2)]
    async with asyncio.timeout(5):
        await source.arrived.acquire()
        source.gate.set()
        outcomes = await asyncio.gather(*loads, return_exceptions=True)

    graph = await prefetch.load(orders)

    assert [type(outcome) for outcome in outcomes] == [errors.TimedOut, errors.TimedOut]
    assert name(graph.nodes[0].one("partner_id")) == "Bia"
    assert [read.ids for read in source.reads] == [(2, 1), (2, 1)]


async def test_denied_access_is_an_error_and_never_missing(
    source: Source, orders: list[Record]
) -> None:
    """Also when other reads go well at the same time."""
    source.errors[PARTNER] = errors.AccessDenied("not for you")

    with pytest.raises(errors.AccessDenied, match="not for you"):
        await Prefetch(source, [CUSTOMER, LINES]).load(orders)


async def test_who_gives_up_does_not_take_the_read_from_the_others(
    source: Source, orders: list[Record]
) -> None:
    """A read that is canceled with its own caller is made again by one that waits for it."""
    source.gate = asyncio.Event()
    prefetch = Prefetch(source, [CUSTOMER])
    reader = asyncio.create_task(prefetch.load(orders))
    async with asyncio.timeout(5):
        await source.arrived.acquire()
        patient = asyncio.create_task(prefetch.load(orders))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(prefetch.load(orders), 0.01)
        alone = len(source.reads)
        reader.cancel()
        await source.arrived.acquire()
        source.gate.set()
        graph = await patient

    assert reader.cancelled()
    assert (alone, len(source.reads)) == (1, 2)
    assert name(graph.nodes[0].one("partner_id")) == "Bia"


async def test_the_cause_of_an_error_is_kept(source: Source, orders: list[Record]) -> None:
    """What the network said stays behind what the client says."""
    error = errors.Unreachable("no answer")
    error.__cause__ = ConnectionResetError("reset")
    source.errors[PARTNER] = error

    with pytest.raises(errors.Unreachable) as caught:
        await Prefetch(source, [CUSTOMER]).load(orders)

    assert caught.value is error
    assert isinstance(caught.value.__cause__, ConnectionResetError)
