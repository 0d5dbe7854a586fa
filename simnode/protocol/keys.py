"""How keys follow from code and parameters, and their text. Enters: bytes. Leaves: keys. Next: `events.py`."""

from __future__ import annotations

import base58
from blake3 import blake3

from simnode.protocol.blob import Blob, Buffer
from simnode.protocol.errors import ProtocolError
from simnode.protocol.messages.contracts import ContractKey
from simnode.protocol.messages.delegates import DelegateKey

ID_BYTES = 32
"""Bytes of an instance id and of every hash."""

MAX_ID_CHARACTERS = 44
"""Base58 characters that 32 bytes can need; longer text always decodes to more."""

_ALPHABET = frozenset(base58.BITCOIN_ALPHABET.decode())


class InvalidIdText(ProtocolError, ValueError):
    """Text that is no instance id (the fault of whoever wrote it); says why in the reference's words."""


def code_hash(code: Blob | Buffer) -> bytes:
    """BLAKE3 of a contract's or delegate's code, 32 bytes. Reads the buffer where it is."""
    return blake3(_view(code)).digest()


def contract_key(code_hash: bytes, params: Blob | Buffer) -> ContractKey:
    """The key of the contract with this code and these parameters."""
    return ContractKey(_instance(code_hash, params), code_hash)


def delegate_key(code_hash: bytes, params: Blob | Buffer) -> DelegateKey:
    """The key of the delegate with this code and these parameters."""
    return DelegateKey(_instance(code_hash, params), code_hash)


def encode_base58(identifier: bytes) -> str:
    """The text form of an id or hash: base58 in the Bitcoin alphabet."""
    return base58.b58encode(identifier).decode()


def decode_instance_id(text: str) -> bytes:
    """The 32 bytes that `text` stands for. Shorter ids are filled up with zeros on the right, as in the reference.

    Raises:
        InvalidIdText: a character outside the alphabet, or more than 32 bytes.
    """
    for at, character in enumerate(text):
        if character not in _ALPHABET:
            raise InvalidIdText(f"provided string contained invalid character {character!r} at byte {at}")
    decoded = base58.b58decode(text) if len(text) <= MAX_ID_CHARACTERS else None
    if decoded is None or len(decoded) > ID_BYTES:
        raise InvalidIdText("buffer provided to decode base58 encoded string into was too small")
    return decoded.ljust(ID_BYTES, b"\0")


def _instance(code_hash: bytes, params: Blob | Buffer) -> bytes:
    return blake3(code_hash).update(_view(params)).digest()


def _view(value: Blob | Buffer) -> Buffer:
    return value.view if isinstance(value, Blob) else value
