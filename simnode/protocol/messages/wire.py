"""The widths that plain Python types do not say. Next: `contracts.py`.

A codec reads these from the annotations of the message classes; everybody else sees `int`,
`float` and `bytes`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated


@dataclass(frozen=True, slots=True)
class Unsigned:
    """An unsigned integer of so many bits."""

    bits: int


@dataclass(frozen=True, slots=True)
class Float:
    """An IEEE 754 number of so many bits."""

    bits: int


@dataclass(frozen=True, slots=True)
class Fixed:
    """A byte string of exactly so many bytes, without a length before it."""

    nbytes: int


@dataclass(frozen=True, slots=True)
class SocketAddress:
    """Text `127.0.0.1:7509` or `[::1]:7509`; octets and a port on the wire."""


U32 = Annotated[int, Unsigned(32)]
U64 = Annotated[int, Unsigned(64)]
F32 = Annotated[float, Float(32)]
H32 = Annotated[bytes, Fixed(32)]
Nonce = Annotated[bytes, Fixed(24)]
Address = Annotated[str, SocketAddress()]
