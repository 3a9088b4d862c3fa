"""What a key allows, and whose address counts behind proxies."""

from __future__ import annotations

import datetime as dt
from ipaddress import ip_network
from typing import Any
from uuid import UUID

import pytest
from starlette.datastructures import Headers

from service import keys
from service.api.addresses import client_address
from service.errors import ConnectionNotAllowed, InsufficientScope
from service.settings import Settings

PROXIES = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


def key(**values: Any) -> keys.Key:
    """A key that may read on all connections."""
    given: dict[str, Any] = {
        "id": UUID(int=1),
        "name": "tester",
        "prefix": "eclusa_abcdef",
        "scopes": frozenset({"read"}),
        "connections": None,
        "created_at": dt.datetime(2026, 11, 26, tzinfo=dt.UTC),
        "created_by": "tester",
        "expires_at": None,
        "last_used_at": None,
        "revoked_at": None,
        "revoked_by": None,
        "requests_per_second": None,
    }
    return keys.Key(**{**given, **values})


def test_a_key_has_the_scopes_it_was_given() -> None:
    """The error names the one that is missing."""
    reader = key()

    reader.check_scope("read")
    with pytest.raises(InsufficientScope, match="'post'"):
        reader.check_scope("post")


@pytest.mark.parametrize("scope", keys.SCOPES)
def test_admin_implies_all_scopes(scope: keys.Scope) -> None:
    """One scope is enough for everything."""
    key(scopes=frozenset({"admin"})).check_scope(scope)

    assert scope in (*keys.DEFAULT_SCOPES, "admin")


def test_a_key_of_some_connections_reaches_no_other() -> None:
    """The error names those that it is for."""
    limited = key(connections=frozenset({"main", "north"}))

    limited.check_connection("main")
    with pytest.raises(ConnectionNotAllowed, match=r"'south', but for main, north"):
        limited.check_connection("south")
    assert [limited.reaches("north"), limited.reaches("south")] == [True, False]
    assert key().reaches("south")


@pytest.mark.parametrize(
    ("own", "others", "covered"),
    [
        pytest.param(None, None, True, id="all, all"),
        pytest.param(None, {"a"}, True, id="all, some"),
        pytest.param({"a", "b"}, {"a"}, True, id="more"),
        pytest.param({"a"}, {"a", "b"}, False, id="fewer"),
        pytest.param({"a"}, None, False, id="some, all"),
    ],
)
def test_a_key_covers_no_more_than_it_reaches(
    own: set[str] | None, others: set[str] | None, *, covered: bool
) -> None:
    """A key that reaches all connections is covered by one of those only."""
    limited = key(connections=None if own is None else frozenset(own))

    assert limited.covers(others) is covered


@pytest.mark.parametrize(
    ("peer", "headers", "address"),
    [
        pytest.param("192.0.2.1", {}, "192.0.2.1", id="no proxy"),
        pytest.param(
            "192.0.2.1", {"x-forwarded-for": "198.51.100.9"}, "192.0.2.1", id="a stranger's word"
        ),
        pytest.param("10.0.0.1", {}, "10.0.0.1", id="a proxy that says nothing"),
        pytest.param(
            "10.0.0.1", {"x-forwarded-for": "203.0.113.5"}, "203.0.113.5", id="one address"
        ),
        pytest.param(
            "10.0.0.1",
            {"x-forwarded-for": "1.1.1.1, 203.0.113.5, 10.0.0.2"},
            "203.0.113.5",
            id="what the caller wrote himself stands left",
        ),
        pytest.param(
            "10.0.0.1", {"x-forwarded-for": "10.9.9.9, 10.0.0.2"}, "10.9.9.9", id="all trusted"
        ),
        pytest.param(
            "10.0.0.1", {"x-forwarded-for": "1.1.1.1, nobody"}, "10.0.0.1", id="no address"
        ),
        pytest.param(
            "10.0.0.1", {"x-forwarded-for": "203.0.113.5:4711"}, "203.0.113.5", id="a port"
        ),
        pytest.param(
            "10.0.0.1",
            {"x-forwarded-for": "[2001:db8::7]:4711"},
            "2001:db8::7",
            id="a port of IPv6",
        ),
        pytest.param(
            "::ffff:10.0.0.1", {"x-forwarded-for": "2001:db8::7"}, "2001:db8::7", id="mapped IPv4"
        ),
        pytest.param(
            "fd00::1",
            {"forwarded": 'for=1.1.1.1;proto=https, For="[2001:db8::7]:80";by=10.0.0.1'},
            "2001:db8::7",
            id="Forwarded",
        ),
        pytest.param(
            "10.0.0.1", {"forwarded": "for=1.1.1.1, proto=https"}, "10.0.0.1", id="without for"
        ),
        pytest.param(
            "10.0.0.1", {"forwarded": 'for="1.1.1.1, for=203.0.113.5'}, "203.0.113.5", id="a quote"
        ),
        pytest.param(
            "10.0.0.1",
            {"forwarded": "for=1.1.1.1", "x-forwarded-for": "203.0.113.5"},
            "10.0.0.1",
            id="contradiction",
        ),
        pytest.param(
            "10.0.0.1",
            {"forwarded": "for=203.0.113.5", "x-forwarded-for": "1.1.1.1, 203.0.113.5"},
            "203.0.113.5",
            id="both say the same",
        ),
        pytest.param(None, {"x-forwarded-for": "203.0.113.5"}, None, id="no peer"),
    ],
)
def test_only_trusted_proxies_say_who_asks(
    peer: str | None, headers: dict[str, str], address: str | None
) -> None:
    """The rightmost address that is no trusted proxy's."""
    assert client_address(peer, Headers(headers), PROXIES) == address


def test_trusted_proxies_are_listed_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    """By default there is none."""
    assert Settings().trusted_proxies == ()

    monkeypatch.setenv("ECLUSA_TRUSTED_PROXIES", "10.0.0.0/8, 192.0.2.7,fd00::/8")

    named = [str(network) for network in Settings().trusted_proxies]
    assert named == ["10.0.0.0/8", "192.0.2.7/32", "fd00::/8"]
