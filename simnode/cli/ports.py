"""Addresses to listen on. Enters: hosts and ports. Leaves: facts about them. Next: `supervise.py`."""

from __future__ import annotations

import errno
import ipaddress
import socket


class CannotListen(Exception):
    """Nobody can listen there; the text says why and names the option."""


def address_to_listen_on(host: str, port: int, *, host_option: str, port_option: str) -> str:
    """The address that a name or an address stands for, once it is known that this process can listen there.

    A name that has IPv4 and IPv6 addresses stands for the first IPv4 one.

    Raises:
        CannotListen: the name is unknown, the address is not this machine's, or the port is not to be had.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise CannotListen(f"{host_option}: {host!r} is no address or known name: {reason}") from error
    family, _, _, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
    try:
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
    except OSError as error:
        match error.errno:
            case errno.EADDRINUSE:
                reason = (
                    f"port {port} of {host} is in use; choose another with {port_option}, or 0 for any that is free"
                )
            case errno.EACCES:
                reason = f"{port_option}: only root may listen on port {port}; choose one from 1024 on"
            case errno.EADDRNOTAVAIL:
                reason = f"{host_option}: {host} is not an address of this machine"
            case _:
                reason = f"{host_option}: cannot listen on {host}: {error.strerror}"
        raise CannotListen(reason) from error
    return str(address[0])


def port_is_taken(host: str, port: int) -> bool:
    """Whether a process listens there already. Port 0 never is.

    Other errors, such as an address that this machine does not have, are left to whoever listens.
    """
    try:
        address_to_listen_on(host, port, host_option="", port_option="")
    except CannotListen as refusal:
        cause = refusal.__cause__
        return isinstance(cause, OSError) and cause.errno == errno.EADDRINUSE
    return False


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach it."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # a name that only a resolver knows


def reachable_host(host: str) -> str:
    """How a URL on this machine names an address listened on: loopback for all addresses, brackets for IPv6."""
    if host == "0.0.0.0":
        return "127.0.0.1"
    if host == "::":
        return "[::1]"
    return f"[{host}]" if ":" in host else host
