"""What the node says of itself. Enters: node queries. Leaves: answers, serialized. Next: `requests.py`, who asks.

Some answers grow with the store: every contract, every subscription. They are made in slices of the
event loop (`slices.py`), one at a time over all handlers of the node, and serialized as they grow, so
that neither a long turn nor a list of all entries comes about. Who asks the same shares the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from functools import partial
from itertools import chain, islice, starmap
from typing import Any, Final

from simnode.live.handlers.answers import Answer, answer_to, refusal_by_store
from simnode.live.handlers.backend import Backend
from simnode.live.link import LinkLost, LinkRefusal
from simnode.live.pulse import Pulse
from simnode.live.settings import NodeSettings
from simnode.live.shared_work import NodeTurn, SharedWork, Waiter
from simnode.live.slices import Slices
from simnode.node.diagnostics import (
    NodeView,
    contract_state,
    diagnose,
    hosted_contract,
    subscriptions_of,
    wants_hosted,
    wants_subscriptions,
)
from simnode.protocol.codec.base import Codec
from simnode.protocol.codec.output import EncodedItems
from simnode.protocol.connection import response_too_large
from simnode.protocol.limits import MAX_RESPONSE_SIZE, MIB
from simnode.protocol.messages.requests import NodeQuery, QueryNodeDiagnostics
from simnode.protocol.messages.responses import Err, NeighborHosting, NetworkDebug, NodeDiagnostics

ENTRIES_AT_ONCE: Final = 64
"""Entries between two looks at the clock: half a millisecond."""

PART_BYTES: Final = 64 * 1024
"""A long answer is kept in parts of this size, so that a chunk of it has few."""

SHORT_BYTES: Final = 64 * 1024
"""An answer up to this long (a thousand entries) is made anew when it is asked for, so it is never out of date."""

MAX_KEPT_BYTES: Final = 64 * MIB
"""Of all answers that are kept for those who ask later."""

ENTRIES_PER_REQUEST: Final = 64
"""A query that names so many contracts counts as one more request: what waits may be held for long."""


class Reports:
    """Answers the node queries of a handler's clients.

    Args:
        backend: of the handler.
        settings: of the node.
        view: what needs no looking for.
    """

    def __init__(self, backend: Backend, settings: NodeSettings, view: Callable[[], NodeView]) -> None:
        self._backend = backend
        self._view = view
        self._work: SharedWork[Answer] = SharedWork(
            max_age_s=settings.report_max_age_s, weigh=_weight_of_kept, max_kept_bytes=MAX_KEPT_BYTES, now=Pulse.now
        )
        #: for answers that grow with the store
        self._node_turn = NodeTurn(settings.run_dir / "reports.lock")
        #: for those that grow with their question, which need not wait behind the others
        self._turn = asyncio.Lock()

    def at_once(self, query: NodeQuery) -> Answer | None:
        """The answer to a query that asks for no list; None if there is something to look for."""
        if wants_hosted(query) or wants_subscriptions(query) or _contracts_of(query):
            return None
        return Answer(diagnose(query, self._view()))

    def weight_of(self, query: NodeQuery) -> int:
        """For how many more requests it counts while it waits."""
        return len(_contracts_of(query)) // ENTRIES_PER_REQUEST

    def ask(self, query: NodeQuery, codec: Codec, give: Callable[[Answer], None]) -> Waiter[Answer]:
        """Asks for the answer, serialized with `codec`; `give` gets it in a later turn of the loop."""
        turn: AbstractAsyncContextManager[None] = self._turn
        if wants_hosted(query) or wants_subscriptions(query):
            turn = self._node_turn
        return self._work.ask((query, codec.encoding), lambda: self._make(query, codec), turn, give)

    @property
    def kept_bytes(self) -> int:
        """Bytes in the heap of answers that are kept for those who ask later."""
        return self._work.kept_bytes

    def forget_old(self) -> None:
        """Gives back what nobody will be given any more; call it now and then."""
        self._work.forget_old()

    async def close(self) -> None:
        """Ends what is under way."""
        await self._work.close()
        self._node_turn.close()

    # ---- making ------------------------------------------------------------------------------

    async def _make(self, query: NodeQuery, codec: Codec) -> Answer:
        """Raises nothing: whoever asked is answered."""
        try:
            return await self._report(query, codec)
        except (LinkLost, LinkRefusal) as error:
            return refusal_by_store(error, b"").answer()
        except Exception as error:
            return answer_to("node_query", error)

    async def _report(self, query: NodeQuery, codec: Codec) -> Answer:
        slices = Slices()
        subscribed = NodeDiagnostics if isinstance(query, QueryNodeDiagnostics) else NetworkDebug
        hosted = _Entries(codec, NeighborHosting, "my_hosted", slices)
        subscriptions = _Entries(codec, subscribed, "subscriptions", slices)
        states = _Entries(codec, NodeDiagnostics, "contract_states", slices)
        if wants_hosted(query):
            await self._list_hosted(hosted)
        if wants_subscriptions(query):
            await self._list_subscriptions(subscriptions)
        await self._list_states(_contracts_of(query), states)
        response = diagnose(
            query, self._view(), hosted=hosted.taken(), subscriptions=subscriptions.taken(), states=states.taken()
        )
        encoded = codec.encode_result(response)
        nbytes = encoded.nbytes + hosted.dropped_bytes + subscriptions.dropped_bytes + states.dropped_bytes
        if nbytes > MAX_RESPONSE_SIZE:
            return Answer(Err(response_too_large(nbytes)), "error")
        return Answer(response, encoded=encoded)

    async def _list_hosted(self, entries: _Entries) -> None:
        last = b""
        while piece := self._backend.index.instances(last, ENTRIES_AT_ONCE):
            await entries.add(map(hosted_contract, piece))
            last = piece[-1]

    async def _list_subscriptions(self, entries: _Entries) -> None:
        shard: int | None = 0
        while shard is not None:
            shard, piece = await self._backend.store.call("subscriptions", shard)
            await entries.add(chain.from_iterable(starmap(subscriptions_of, piece)))

    async def _list_states(self, contracts: list[bytes], entries: _Entries) -> None:
        for at in range(0, len(contracts), ENTRIES_AT_ONCE):
            piece = contracts[at : at + ENTRIES_AT_ONCE]
            rows = [self._backend.index.get(contract) for contract in piece]
            counts = await self._backend.store.call("subscriber_counts", piece)
            await entries.add(
                contract_state(row.instance, row.state_nbytes, count)
                for row, count in zip(rows, counts, strict=True)
                if row is not None
            )


class _Entries:
    """A list in an answer: serialized as it grows, in slices.

    Args:
        codec: of whoever asked.
        response: the class that the list is in.
        field: the list's name there.
        slices: of the whole answer.
    """

    def __init__(self, codec: Codec, response: type[Any], field: str, slices: Slices) -> None:
        self._encode = partial(codec.encode_items, response, field)
        self._slices = slices
        self._parts: list[bytes] = []
        #: the last part, which grows
        self._part = bytearray()
        self._nbytes = 0
        self._count = 0
        #: of a list that is too long for any response, and whose entries are only counted
        self.dropped_bytes = 0

    async def add(self, entries: Iterable[Any]) -> None:
        """These come next."""
        remaining = iter(entries)
        while some := list(islice(remaining, ENTRIES_AT_ONCE)):
            self._count += len(some)
            self._append(self._encode(some))
            await self._slices.step_done()

    def taken(self) -> EncodedItems:
        """The whole list, as it stands in the response."""
        return EncodedItems((*self._parts, bytes(self._part)), self._count)

    def _append(self, data: bytes) -> None:
        self._nbytes += len(data)
        if self._nbytes > MAX_RESPONSE_SIZE:
            self._parts.clear()
            self._part.clear()
            self.dropped_bytes = self._nbytes
            return
        self._part += data
        if len(self._part) >= PART_BYTES:
            self._parts.append(bytes(self._part))
            self._part.clear()


def _contracts_of(query: NodeQuery) -> list[bytes]:
    """The contracts that a query names."""
    return [key.instance for key in query.contract_keys] if isinstance(query, QueryNodeDiagnostics) else []


def _weight_of_kept(answer: Answer) -> int:
    """Bytes of an answer that took long to make; 0 if it did not, or is an error."""
    return answer.encoded.nbytes if answer.encoded is not None and answer.encoded.nbytes > SHORT_BYTES else 0
