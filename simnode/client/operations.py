"""What a client does with contracts. Enters: payloads and keys. Leaves: keys and states. Next: `receiving.py`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from simnode.client.addresses import KeyLike, instance_of
from simnode.client.asking import Asker, BytesLike, blob_of, hash_of
from simnode.client.link import Link, subscribed_key
from simnode.client.streams import ResponseStream, StateStream
from simnode.protocol.codec import codec_for
from simnode.protocol.keys import contract_key
from simnode.protocol.messages.contracts import (
    ContractContainer,
    ContractKey,
    Delta,
    RelatedContracts,
    State,
    StateAndDelta,
    UpdateData,
)
from simnode.protocol.messages.requests import Get, Put, Subscribe, Update
from simnode.protocol.messages.responses import GetResponse, PutResponse, SubscribeResponse, UpdateResponse


class ContractOperations:
    """The half of `Client` that is about contracts."""

    def __init__(self, link: Link, asker: Asker) -> None:
        self._link = link
        self._asker = asker

    async def put(
        self,
        *,
        code: BytesLike,
        params: BytesLike = b"",
        state: BytesLike,
        related_contracts: RelatedContracts = (),
        subscribe: bool = False,
        blocking_subscribe: bool = False,
        timeout_s: float | None = None,
    ) -> ContractKey:
        """Stores a contract and returns its key.

        `state` may be a `memoryview` or `mmap` of 50 MiB: it is read where it lies, and copied a chunk of
        256 KiB at a time, to be masked and sent. It must not change before the call returns.

        Args:
            code: the contract's WebAssembly.
            params: its parameters; code and parameters together make the key.
            state: its first state. For a known contract this is an update.
            related_contracts: states of contracts that this one refers to.
            subscribe: whether its updates are wanted as notifications.
            blocking_subscribe: whether the answer waits for the subscription.
            timeout_s: seconds without progress; None: the client's.
        """
        data, parameters = blob_of(code), blob_of(params)
        digest = await hash_of(data)
        key = contract_key(digest, parameters)
        request = Put(
            contract=ContractContainer(data=data, code_hash=digest, params=parameters, key=key),
            state=blob_of(state),
            related_contracts=related_contracts,
            subscribe=subscribe,
            blocking_subscribe=blocking_subscribe,
        )
        await self._asker.ask(request, PutResponse, timeout_s=timeout_s)
        return key

    async def get(
        self,
        contract: KeyLike,
        *,
        return_code: bool = False,
        subscribe: bool = False,
        blocking_subscribe: bool = False,
        timeout_s: float | None = None,
    ) -> GetResponse:
        """A contract's state: `.state` (a `Blob`; `bytes(…)` copies it, `.view` does not), `.key`, `.contract`.

        A large answer is put together in one buffer, once. To hold one chunk at a time, see `get_stream`.

        Args:
            contract: its key, its 32-byte instance id, or that id in base58.
            return_code: whether to send its code and parameters along.
            subscribe: whether its updates are wanted as notifications.
            blocking_subscribe: whether the answer waits for the subscription.
            timeout_s: seconds without progress; None: the client's.

        Raises:
            NotFound: the node does not know the contract; else as for all requests.
        """
        request = Get(
            key=instance_of(contract),
            return_contract_code=return_code,
            subscribe=subscribe,
            blocking_subscribe=blocking_subscribe,
        )
        return await self._asker.ask(request, GetResponse, timeout_s=timeout_s)

    @asynccontextmanager
    async def get_stream(self, contract: KeyLike, *, timeout_s: float | None = None) -> AsyncIterator[StateStream]:
        """A contract's state in pieces of up to 256 KiB, as they arrive, with its length known beforehand.

        ::

            async with client.get_stream(key) as stream:
                print(stream.total_bytes)
                async for piece in stream:
                    file.write(piece)

        One piece is held at a time: the connection is not read while a piece lies unread, so do
        not dawdle; while somebody waits for another answer, pieces are collected instead. A node
        that does not stream (`streaming=False`, flatbuffers, a small state) is served by the same
        loop, from memory.

        Raises:
            As `get`; RequestTimeout also when no piece came for `timeout_s`.
        """
        request = Get(key=instance_of(contract))
        response = await self._asker.ask(request, (GetResponse, ResponseStream), timeout_s=timeout_s, wants_stream=True)
        try:
            yield await StateStream.open(response, codec_for(self._link.address.encoding))
        finally:
            if isinstance(response, ResponseStream):
                response.close()

    async def update(
        self,
        contract: ContractKey,
        *,
        state: BytesLike | None = None,
        delta: BytesLike | None = None,
        timeout_s: float | None = None,
    ) -> bytes:
        """Changes a contract's state and returns the summary of the new one.

        Args:
            contract: its full key, as `put` and `get` give it (see `full_key`).
            state: a new state, to replace or be merged with the old one.
            delta: a change to the old state, or to `state` if both are given.
            timeout_s: seconds without progress; None: the client's.

        Raises:
            ValueError: neither `state` nor `delta` is given.
            ContractFailed: the contract is unknown, or refuses the update; else as for all requests.
        """
        request = Update(key=contract, data=_update_of(state, delta))
        response = await self._asker.ask(request, UpdateResponse, timeout_s=timeout_s)
        return bytes(response.summary)

    async def subscribe(
        self, contract: KeyLike, *, summary: BytesLike | None = None, timeout_s: float | None = None
    ) -> ContractKey:
        """Asks for a notification of each update of a contract; see `notifications`.

        The node takes a summary at its word: its first delta changes the state at the time of the
        subscription. Where others write at the same time, `get(…, subscribe=True)` first and subscribe
        with the summary of what it returned then: what changes in between comes as a whole State.

        Args:
            contract: its key, its 32-byte instance id, or that id in base58.
            summary: of the state at hand; with one, changes come as deltas where they were made as deltas.
            timeout_s: seconds without progress; None: the client's.

        Raises:
            NotFound: the node does not know the contract; else as for all requests.
        """
        request = Subscribe(key=instance_of(contract), summary=None if summary is None else blob_of(summary))
        reply = await self._asker.ask(request, (SubscribeResponse, PutResponse), timeout_s=timeout_s)
        return subscribed_key(reply)

    async def full_key(self, contract: KeyLike, *, timeout_s: float | None = None) -> ContractKey:
        """The key of a contract of which only the instance id may be known.

        A `ContractKey` is returned as it is; for an id the node is asked for the contract, whose
        state is thrown away as it arrives.
        """
        if isinstance(contract, ContractKey):
            return contract
        async with self.get_stream(contract, timeout_s=timeout_s) as stream:
            return stream.key


def _update_of(state: BytesLike | None, delta: BytesLike | None) -> UpdateData:
    if state is not None and delta is not None:
        return StateAndDelta(state=blob_of(state), delta=blob_of(delta))
    if state is not None:
        return State(state=blob_of(state))
    if delta is not None:
        return Delta(delta=blob_of(delta))
    raise ValueError("an update needs a state or a delta")
