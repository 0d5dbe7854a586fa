"""Delegates of a node. Enters: code and messages. Leaves: keys and messages. Next: `asking.py`."""

from __future__ import annotations

from collections.abc import Iterable

from simnode.client.asking import Asker, BytesLike, blob_of, hash_of
from simnode.protocol.blob import Blob
from simnode.protocol.keys import delegate_key
from simnode.protocol.messages.delegates import (
    ApplicationMessage,
    DelegateContainer,
    DelegateKey,
    InboundDelegateMsg,
    OutboundDelegateMsg,
)
from simnode.protocol.messages.requests import ApplicationMessages, RegisterDelegate, UnregisterDelegate
from simnode.protocol.messages.responses import DelegateResponse, Ok


class Delegates:
    """The delegates of the node at the other end; `client.delegates`.

    ::

        key = await client.delegates.register(code=wasm, cipher=cipher, nonce=nonce)
        (answer,) = await client.delegates.send(key, [b"hello"])
    """

    def __init__(self, asker: Asker) -> None:
        self._asker = asker

    async def register(
        self,
        *,
        code: BytesLike,
        params: BytesLike = b"",
        cipher: bytes,
        nonce: bytes,
        timeout_s: float | None = None,
    ) -> DelegateKey:
        """Registers a delegate and returns its key.

        Args:
            code: its WebAssembly.
            params: its parameters.
            cipher: the key that the node keeps the delegate's secrets with, 32 bytes.
            nonce: that goes with it, 24 bytes.
            timeout_s: seconds without progress; None: the client's.

        Raises:
            DelegateFailed: the node would not have it; else as `Client.put`.
        """
        data, parameters = blob_of(code), blob_of(params)
        key = delegate_key(await hash_of(data), parameters)
        delegate = DelegateContainer(params=parameters, data=data, code_hash=key.code_hash, key=key)
        request = RegisterDelegate(delegate=delegate, cipher=cipher, nonce=nonce)
        await self._asker.ask(request, (DelegateResponse, Ok), timeout_s=timeout_s)
        return key

    async def unregister(self, key: DelegateKey, *, timeout_s: float | None = None) -> None:
        """Removes a delegate."""
        await self._asker.ask(UnregisterDelegate(key=key), (DelegateResponse, Ok), timeout_s=timeout_s)

    async def send(
        self,
        key: DelegateKey,
        messages: Iterable[InboundDelegateMsg | bytes],
        *,
        params: BytesLike = b"",
        timeout_s: float | None = None,
    ) -> tuple[OutboundDelegateMsg, ...]:
        """Sends messages to a delegate and returns what it says to them.

        Args:
            key: the delegate's.
            messages: in order; bytes stand for an `ApplicationMessage` with that payload.
            params: the delegate's parameters.
            timeout_s: seconds without progress; None: the client's.

        Raises:
            DelegateFailed: the node does not know the delegate, or running it failed; else as `Client.put`.
        """
        inbound = tuple(
            ApplicationMessage(payload=Blob(message), context=Blob(), processed=False)
            if isinstance(message, bytes)
            else message
            for message in messages
        )
        request = ApplicationMessages(key=key, params=blob_of(params), inbound=inbound)
        return (await self._asker.ask(request, DelegateResponse, timeout_s=timeout_s)).values
