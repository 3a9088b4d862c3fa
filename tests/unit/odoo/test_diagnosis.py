"""What a person is told about a connection that does or does not work."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from service.errors import TransactionOpen
from service.odoo import client
from tests.unit.odoo import loopback

VERSION_17 = {"server_version": "17.0", "server_serie": "17.0"}
VERSION_19 = {"server_version": "19.0", "server_serie": "19.0"}


def an_odoo(**methods: loopback.Handler) -> loopback.Handler:
    """Behave like a healthy Odoo 17, apart from these methods."""
    healthy: dict[str, Any] = {
        "version": loopback.answering(VERSION_17),
        "list": loopback.answering(["lab"]),
        "check_access_rights": loopback.answering(value=True),
        "has_access": loopback.answering(value=True),
    }
    return loopback.odoo(**(healthy | methods))


async def findings(
    handler: loopback.Handler, rights: Any = None, **changes: Any
) -> list[tuple[str, bool, str]]:
    """Diagnose a client of a server with this behaviour."""
    async with (
        loopback.serving(handler) as server,
        client.Client(server.connection(**changes), retry=loopback.AT_ONCE) as odoo,
    ):
        found = await client.diagnose(odoo, rights)
    assert loopback.SECRET not in str(found)
    return [(finding.check, finding.ok, finding.message) for finding in found]


async def test_healthy_connection() -> None:
    """A connection that works has only good findings, from the address to the rights."""
    found = await findings(an_odoo(), {"res.partner": ["read", "create"]})

    assert [(check, ok) for check, ok, _ in found] == [
        ("address", True),
        ("odoo", True),
        ("database", True),
        ("login", True),
        ("rights", True),
        ("rights", True),
    ]
    assert found[1][2] == "Odoo 17.0 answers"
    assert found[-1][2] == "robot may create res.partner"


@pytest.mark.parametrize(
    ("methods", "check", "words"),
    [
        pytest.param({"version": loopback.drop}, "address", "broke", id="breaks"),
        pytest.param({"version": loopback.status(404)}, "odoo", "no Odoo", id="not an Odoo"),
        pytest.param(
            {"list": loopback.answering(["a", "b"])}, "database", "has: a, b", id="no database"
        ),
        pytest.param(
            {"authenticate": loopback.answering(value=False)}, "login", "robot", id="bad login"
        ),
        pytest.param({"authenticate": loopback.status(502)}, "login", "502", id="login lost"),
        pytest.param(
            {
                "list": loopback.failing("odoo.exceptions.AccessDenied"),
                "authenticate": loopback.failing(
                    "psycopg2.OperationalError", 'FATAL:  database "lab" does not exist'
                ),
            },
            "database",
            "no database lab",
            id="no database, not listed",
        ),
        pytest.param(
            {"check_access_rights": loopback.answering(value=False)},
            "rights",
            "may not write res.partner",
            id="no right",
        ),
        pytest.param(
            {
                "check_access_rights": loopback.failing(
                    "odoo.exceptions.UserError", "Object res.partner doesn't exist"
                )
            },
            "rights",
            "is its module installed",
            id="no model",
        ),
        pytest.param(
            {"check_access_rights": loopback.failing("builtins.KeyError")},
            "rights",
            "write res.partner",
            id="rights not told",
        ),
    ],
)
async def test_first_failure_ends_the_list(
    methods: dict[str, loopback.Handler], check: str, words: str
) -> None:
    """The list ends with what is wrong, in words that name it; all before it is well."""
    *before, last = await findings(an_odoo(**methods), {"res.partner": ["write"]})

    assert last[:2] == (check, False)
    assert words in last[2]
    assert all(ok for _, ok, _ in before)


async def test_refused_connection() -> None:
    """An address that refuses is the only finding."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    url = f"http://127.0.0.1:{port}"

    [(check, ok, message)] = await findings(an_odoo(), url=url)

    assert (check, ok) == ("address", False)
    assert f"127.0.0.1:{port}" in message


async def test_failed_tls() -> None:
    """A server that does not speak TLS fails the check of TLS."""
    async with loopback.speaking_no_tls() as port:
        url = f"https://127.0.0.1:{port}"

        [(check, ok, _)] = await findings(an_odoo(), url=url)

    assert (check, ok) == ("tls", False)


async def test_databases_that_are_not_listed_are_left_to_the_login() -> None:
    """A server that keeps its databases to itself can still be well."""
    hidden = loopback.failing("odoo.exceptions.AccessDenied")

    found = await findings(an_odoo(list=hidden))

    assert [(check, ok) for check, ok, _ in found] == [
        ("address", True),
        ("odoo", True),
        ("login", True),
    ]


async def test_rights_are_asked_in_the_words_of_the_version() -> None:
    """From Odoo 18 on another method tells the rights."""
    old = loopback.failing("builtins.AttributeError")
    handler = an_odoo(version=loopback.answering(VERSION_19), check_access_rights=old)

    *_, last = await findings(handler, {"res.partner": ["write"]})

    assert last == ("rights", True, "robot may write res.partner")


async def test_guard_may_refuse_the_diagnosis() -> None:
    """What the guard raises is no finding."""

    def refuse() -> None:
        raise TransactionOpen("a transaction is open")

    async with (
        loopback.serving(an_odoo()) as server,
        client.Client(server.connection(), guard=refuse) as odoo,
    ):
        with pytest.raises(TransactionOpen):
            await client.diagnose(odoo)
