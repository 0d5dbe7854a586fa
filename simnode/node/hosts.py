"""Which hosts a node answers to. Enters: options, Host and Origin headers. Leaves: a refusal. Next: `runtime.py`.

Only names and addresses count; a port and a scheme are understood and do not matter. The client API
(`live/sockets/handshake.py`) and the metrics port (`metrics/exporter.py`) have these rules.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, Self
from urllib.parse import urlsplit

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

ANY: Final = "*"
LOOPBACK: Final = ("localhost", "127.0.0.0/8", "::1")
UNDERSTOOD: Final = (
    "give a name (node.example), an address (192.168.1.5), a network (192.168.0.0/16) or * for any host; "
    "one for each --allowed-host"
)

MAX_NAME_LENGTH: Final = 253  # RFC 1035 §2.3.4, without the final dot
MAX_NAMES_TOLD: Final = 64
MAX_SHOWN_LENGTH: Final = 100
MAX_PORT: Final = 65535

_AUTHORITY = re.compile(r"(\[[0-9a-f:.]+(?:%[\w.~-]+)?\]|[^\[\]:/?#@,\s]*)(?::(\d{0,5}))?", re.ASCII | re.IGNORECASE)
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_LABELS = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")


@dataclass(frozen=True, slots=True)
class NotAllowed:
    """A header that names a host which the node does not answer to.

    Attributes:
        header: `Host` or `Origin`.
        value: of the header, as it was sent.
        host: that the value names, normalized; None: it names none.
    """

    header: str
    value: str
    host: str | None

    def __str__(self) -> str:
        """What was refused and which option allows it, in one line."""
        shown = self.value if len(self.value) <= MAX_SHOWN_LENGTH else f"{self.value[:MAX_SHOWN_LENGTH]}…"
        return f"{self.header} {shown!r} is not allowed; {self._help}"

    @property
    def _help(self) -> str:
        # what is no plain name is not repeated as something to type: the peer chose it
        if self.host is None or not is_host(self.host):
            return f"only --allowed-host '{ANY}' allows it"
        address = _address(self.host)
        if address is None:
            return f"--allowed-host {self.host} allows it"
        network = ip_network(f"{address}/{16 if address.version == 4 else 64}", strict=False)
        return f"--allowed-host {address} allows it, and so does a network such as {network}"


@dataclass(frozen=True, slots=True)
class AllowedHosts:
    """The hosts that a node answers to.

    Attributes:
        is_any: whether it answers to all; the other fields do not matter then.
    """

    names: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()
    is_any: bool = False

    @classmethod
    def of(cls, allowed: Iterable[str]) -> Self:
        """Loopback, and what users allow.

        Args:
            allowed: names, addresses, networks in CIDR notation, or `*`. A name or an address may
                come with a scheme, a port, or both.

        Raises:
            ValueError: one of them is none of these (the user's fault); the text says which.
        """
        names: set[str] = set()
        networks: list[Network] = []
        is_any = False
        for text in (*LOOPBACK, *allowed):
            match _parse_allowed(text):
                case str(name) if name == ANY:
                    is_any = True
                case str(name):
                    names.add(name)
                case network:
                    networks.append(network)
        return cls(frozenset(names), tuple(networks), is_any)

    @classmethod
    def listening_on(cls, address: str, allowed: Iterable[str] = ()) -> Self:
        """Loopback, the address listened on unless it stands for all addresses, and what users allow.

        Raises:
            ValueError: an allowed host is not understood (the user's fault).
        """
        found = _address(address)
        own = [] if found is not None and found.is_unspecified else [address]
        return cls.of([*own, *allowed])

    def allows(self, host: str) -> bool:
        """Whether a normalized host is one of them."""
        if self.is_any or host in self.names:
            return True
        address = _address(host)
        return address is not None and any(address in network for network in self.networks)

    def refusal(self, *, host: str | None, origin: str | None) -> NotAllowed | None:
        """What is wrong with the headers of a request, if anything.

        `Host` is checked against DNS rebinding, `Origin` against pages of other sites.

        Args:
            host: the `Host` header; None: the request has none, as HTTP/1.0 allows and browsers never do.
            origin: the `Origin` header; None: no browser sent the request, or it belongs to the same page.

        Raises:
            ValueError: `Host` is not `HOST` or `HOST:PORT` (the peer's fault).
        """
        if host is not None:
            name = host_of_authority(host)
            if not self.allows(name):
                return NotAllowed("Host", host, name)
        if origin is not None:
            page = host_of_origin(origin)
            if not (self.is_any if page is None else self.allows(page)):
                return NotAllowed("Origin", origin, page)
        return None


class NamesTold:
    """Lets each refused host be told once, and no more than `MAX_NAMES_TOLD` of them: a peer chooses the names."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, str], object] = {}

    def line_for(self, refusal: NotAllowed) -> str | None:
        """A line for the log, or None if there is nothing new to tell."""
        key = (refusal.header, refusal.host or "")
        if len(self._told) >= MAX_NAMES_TOLD:
            return None
        mine = object()
        if self._told.setdefault(key, mine) is not mine:  # atomic: threads share this object
            return None
        end = "; no further refused host is logged" if len(self._told) == MAX_NAMES_TOLD else ""
        return f"refused with 403: {refusal}{end}"


def is_host(text: str) -> bool:
    """Whether the text is an address, or could be a DNS name in lower case; one that ends in a number is neither."""
    if _address(text) is not None:
        return True
    is_name = len(text) <= MAX_NAME_LENGTH and _LABELS.fullmatch(text) is not None
    return is_name and not text.rpartition(".")[2].isdigit()


def host_of_authority(text: str) -> str:
    """The host in `HOST` or `HOST:PORT`, normalized: lower case, no final dot, no brackets, one spelling of an address.

    Raises:
        ValueError: the text is neither.
    """
    found = _AUTHORITY.fullmatch(text)
    if found is None or int(found[2] or 0) > MAX_PORT:
        raise ValueError(f"{text!r} is neither HOST nor HOST:PORT")
    return _normalized(found[1])


def host_of_origin(origin: str) -> str | None:
    """The host of the page that `Origin` names, normalized; None for `null` and everything else without a host."""
    try:
        return host_of_authority(urlsplit(origin).netloc) or None
    except ValueError:
        return None


def _parse_allowed(text: str) -> str | Network:
    """A name, `*`, or a network; an address is a network of one.

    Raises:
        ValueError: none of these; the text says what is understood.
    """
    if text == ANY:
        return ANY
    rest = text
    if (scheme := _SCHEME.match(text)) is not None:
        rest = text[scheme.end() :].removesuffix("/")
    elif "/" in text:
        address, _, prefix = text.partition("/")
        try:
            return ip_network(f"{address.removeprefix('[').removesuffix(']')}/{prefix}", strict=False)
        except ValueError as error:
            raise ValueError(f"{text!r} is no network: {error}; {UNDERSTOOD}") from None
    try:
        # an IPv6 address without brackets is no authority
        host = _normalized(rest) if _address(rest) is not None else host_of_authority(rest)
    except ValueError:
        raise ValueError(f"{text!r} is not understood; {UNDERSTOOD}") from None
    address_found = _address(host)
    if address_found is not None:
        return ip_network(address_found)
    if not host.isascii():
        raise ValueError(f"{text!r} is not ASCII; give the name as browsers send it, in its xn-- form")
    if not is_host(host):
        raise ValueError(f"{text!r} is not understood; {UNDERSTOOD}")
    return host


def _normalized(host: str) -> str:
    host = host.lower().removeprefix("[").removesuffix("]")
    address = _address(host)
    return host.removesuffix(".") if address is None else str(address)


def _address(host: str) -> Address | None:
    """The address that the text is, without a zone; an IPv4 address in an IPv6 one is the IPv4 address."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if address.version == 6 else None
    return address if mapped is None else mapped
