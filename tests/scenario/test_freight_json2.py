"""Freight bills over JSON-2: the same calls, the same outcome, and the same care in trouble."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import pytest

from service.scene import API_KEY, SECRET
from tests.scenario.test_freight_clean import CALLS

if TYPE_CHECKING:
    from tests.scenario.conftest import Office

LOGIN_CALLS = {"res.users.context_get"}


@pytest.fixture
def version() -> Literal[17, 19]:
    """The first version that has JSON-2."""
    return 19


@pytest.fixture
async def by_key(office: Office) -> Office:
    """An office whose connection speaks JSON-2."""
    await office.reconfigure(
        (f'secret = "{SECRET}"', f'secret = "{API_KEY}"'),
        ('protocol = "jsonrpc"', 'protocol = "json2"'),
    )
    return office


async def test_a_clean_posting_makes_each_call_once(by_key: Office) -> None:
    """All 16 steps, with the calls of JSON-RPC and no login by password."""
    document = by_key.document()

    posting = await by_key.post_and_run(document)

    assert (posting.status, posting.step, posting.code) == ("completed", 16, None)
    by_key.assert_posted(document)
    calls = {name: count for name, count in by_key.calls().items() if name not in LOGIN_CALLS}
    assert calls == CALLS
    assert by_key.simulator.world.received["common.authenticate"] == 0


@pytest.mark.parametrize(
    ("method", "trouble"),
    [
        pytest.param("action_gerar_po_dfe", {"kind": "reply_lost"}, id="reply lost"),
        pytest.param("button_confirm", {"kind": "gateway_502", "after": 0.2}, id="cut by a proxy"),
        pytest.param(
            "action_create_invoice", {"kind": "missing_result"}, id="nothing in the answer"
        ),
        pytest.param("action_post", {"kind": "fault_after_commit"}, id="fault after commit"),
    ],
)
async def test_a_call_in_doubt_is_settled_by_looking(
    by_key: Office, method: str, trouble: dict[str, Any]
) -> None:
    """One order and one bill in the end, and the call in trouble was made once."""
    document = by_key.document()
    by_key.trouble(method=method, **trouble)

    posting = await by_key.post_and_run(document)

    assert (posting.status, posting.code) == ("completed", None)
    by_key.assert_posted(document)
    assert [count for name, count in by_key.calls().items() if name.endswith(f".{method}")] == [1]
    assert (await by_key.ledger.verify(posting.id)).valid


async def test_a_secret_that_is_no_key_stops_the_posting(office: Office) -> None:
    """JSON-2 takes no password: nothing is changed, and a mended connection resumes."""
    await office.reconfigure(('protocol = "jsonrpc"', 'protocol = "json2"'))
    document = office.document()
    stopped = await office.post_and_run(document)
    calls = office.calls()
    await office.reconfigure(
        (f'secret = "{SECRET}"', f'secret = "{API_KEY}"'),
        ('protocol = "jsonrpc"', 'protocol = "auto"'),
    )

    posting = await office.resume(stopped.id)

    assert (stopped.status, stopped.code) == ("failed", "odoo_authentication_failed")
    assert calls == {}
    assert posting.status == "completed"
    office.assert_posted(document)
