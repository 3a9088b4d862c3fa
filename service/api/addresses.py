"""The address of whoever asks, also behind proxies: only those that are configured are believed."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from ipaddress import IPv4Network, IPv6Network

    from starlette.datastructures import Headers

    Network = IPv4Network | IPv6Network

Address = IPv4Address | IPv6Address
_FOR = re.compile(r'for="?([^;"]*)"?', re.IGNORECASE)
_PORT = re.compile(r"^(?:\[(?P<six>[^\]]*)\](?::\d+)?|(?P<four>[\d.]+):\d+)$")


def client_address(peer: str | None, headers: Headers, proxies: Collection[Network]) -> str | None:
    """The last address before the trusted proxies; `peer` itself when it is none of them.

    Each proxy adds whom it was asked by, so that only what trusted ones added, counted from the
    right, is known; the rest is whatever the caller wrote. Where X-Forwarded-For and Forwarded
    contradict each other, one of them is not the proxy's, and neither is believed.
    """
    nearest = None if peer is None else _read(peer)
    if nearest is None or not _trusted(nearest, proxies):
        return peer
    ways = (_listed(headers.getlist("x-forwarded-for")), _forwarded(headers.getlist("forwarded")))
    found = {_before_proxies(nearest, way, proxies) for way in ways if way}
    return str(found.pop() if len(found) == 1 else nearest)


def _before_proxies(
    nearest: Address, way: Sequence[Address | None], proxies: Collection[Network]
) -> Address:
    for address in reversed(way):
        if address is None:
            break
        nearest = address
        if not _trusted(address, proxies):
            break
    return nearest


def _listed(lines: Iterable[str]) -> list[Address | None]:
    """The addresses of X-Forwarded-For; None for what is no address."""
    return [_read(item) for line in lines for item in line.split(",")]


def _forwarded(lines: Iterable[str]) -> list[Address | None]:
    """The addresses of Forwarded (RFC 7239); None for an element without one."""
    return [_named(element) for line in lines for element in line.split(",")]


def _named(element: str) -> Address | None:
    pairs = (_FOR.fullmatch(pair.strip()) for pair in element.split(";"))
    names = [pair[1] for pair in pairs if pair]
    return _read(names[0]) if len(names) == 1 else None


def _read(text: str) -> Address | None:
    """An address, with or without a port; one of IPv4 inside IPv6 is that of IPv4."""
    text = text.strip()
    with_port = _PORT.match(text)
    try:
        address = ip_address((with_port["six"] or with_port["four"]) if with_port else text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _trusted(address: Address, proxies: Collection[Network]) -> bool:
    return any(address in network for network in proxies)
