"""Addresses to listen on. Enters: hosts and ports. Leaves: facts about them. Next: `supervise.py`."""

from __future__ import annotations

import errno
import ipaddress
import socket


def port_is_taken(host: str, port: int) -> bool:
    """Whether somebody listens there already. Port 0 never is.

    Other errors, such as an address that this machine does not have, are left to whoever listens.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
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
