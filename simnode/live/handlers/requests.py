"""What the node does with a client's requests. Enters: `RequestReceived`. Leaves: one answer each. Next: `writes.py`.

A GET is answered here and now, from the index and the mapped segment; a write goes to the store by
reference. Requests about one contract are carried out one after the other, in the order in which
they came, so a GET sees every earlier PUT and UPDATE of its connection; requests about different
contracts overtake each other.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any

from simnode.live.handlers.answers import (
    NOT_AUTHENTICATED,
    PENDING,
    Answer,
    Client,
    Outcome,
    Refusal,
    Step,
    answer_to,
    refusal_by_store,
)
from simnode.live.handlers.backend import Backend
from simnode.live.handlers.reports import Reports
from simnode.live.handlers.stats import EncodingStats, HandlerStats, kind_of
from simnode.live.handlers.subscribers import Subscribers
from simnode.live.handlers.subscribing import ClientSubscriptions
from simnode.live.handlers.writes import Writes, derive
from simnode.live.link import LinkLost, LinkRefusal
from simnode.live.payloads import whole
from simnode.live.pulse import Pulse
from simnode.live.shared_work import Waiter
from simnode.node.delegates import echo
from simnode.node.ledger import REQUEST_OVERHEAD_BYTES
from simnode.protocol.events import RequestReceived
from simnode.protocol.keys import delegate_key
from simnode.protocol.messages.contracts import ContractContainer
from simnode.protocol.messages.error_kinds import (
    MissingContract,
    MissingDelegate,
    RegisterError,
    Unhandled,
)
from simnode.protocol.messages.requests import (
    ApplicationMessages,
    Authenticate,
    ClientRequest,
    Close,
    Disconnect,
    Get,
    NodeQuery,
    Put,
    RegisterDelegate,
    Subscribe,
    UnregisterDelegate,
    Update,
)
from simnode.protocol.messages.responses import DelegateResponse, GetResponse, NotFound, SubscribeResponse

logger = logging.getLogger(__name__)

ALWAYS_ALLOWED = (Authenticate, Disconnect, Close)
"""What a client may ask before it has shown its token."""


def heap_bytes_of(event: RequestReceived) -> int:
    """What a request that waits takes in the heap; its message may lie in a segment, which counts by itself."""
    message = event.message
    return REQUEST_OVERHEAD_BYTES + (len(message.view) if message.origin is None else 0)


class Requests:
    """The requests of one client.

    Args:
        client: who asks.
        backend: what lies behind it.
        subscribers: of the process.
        reports: of the process.
        stats: of the process.
        max_subscriptions: of one client.
    """

    def __init__(
        self,
        client: Client,
        *,
        backend: Backend,
        subscribers: Subscribers,
        reports: Reports,
        stats: HandlerStats,
        max_subscriptions: int,
    ) -> None:
        self._client = client
        self._backend = backend
        self._reports = reports
        #: reports that were asked for
        self._awaited: set[Waiter[Answer]] = set()
        self._all_stats = stats
        self._stats: EncodingStats | None = None
        self._subscriptions = ClientSubscriptions(
            client, backend=backend, subscribers=subscribers, cap=max_subscriptions
        )
        self._writes = Writes(client, backend=backend, subscriptions=self._subscriptions, complete=self._complete)
        #: contracts and delegates that a request is being carried out for, with the requests that wait for it
        self._busy: dict[bytes | None, list[RequestReceived]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_abandoned = False
        #: requests that are not answered yet
        self.in_hand = 0
        #: what they hold in the heap, those apart that are answered at once
        self.held_bytes = 0

    def begin(self, event: RequestReceived) -> None:
        """Carries a request out as soon as its turn comes."""
        self.in_hand += 1
        waiting = self._busy.get(event.subject)
        if waiting is not None:
            self.held_bytes += heap_bytes_of(event)
            waiting.append(event)
        else:
            self._carry_out(event)

    def abandon(self) -> None:
        """The client is gone; writes that are under way are carried out all the same."""
        self._is_abandoned = self._subscriptions.is_over = True
        for waiting in self._busy.values():
            self.held_bytes -= sum(map(heap_bytes_of, waiting))
        self._busy.clear()
        for waiter in self._awaited:
            waiter.cancel()
        self._awaited.clear()

    # ---- order -------------------------------------------------------------------------------

    def _carry_out(self, event: RequestReceived) -> None:
        """Answers at once, or marks its subject busy until the answer is there."""
        try:
            step = self._step(event)
        except Exception as error:
            step = answer_to(kind_of(event.request), error)
        if step is None or type(step) is Answer:
            self._answer(event, step)
            return
        self.held_bytes += heap_bytes_of(event)
        if event.subject is not None:
            self._busy[event.subject] = []
        if step is PENDING:
            return
        assert isinstance(step, Awaitable)
        task = asyncio.get_running_loop().create_task(self._await(event, step))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _await(self, event: RequestReceived, step: Awaitable[Outcome]) -> None:
        try:
            answer = await step
        except Exception as error:
            answer = answer_to(kind_of(event.request), error)
        if isinstance(answer, Answer):
            self._complete(event, answer)

    def _complete(self, event: RequestReceived, answer: Answer) -> None:
        """The answer to a request that took longer; the next one about the same subject may begin."""
        try:
            self.held_bytes -= heap_bytes_of(event)
            if not self._is_abandoned:
                self._answer(event, answer)
            else:
                if answer.stored is not None:
                    answer.stored.release()
                self._client.requests_answered()
            self._carry_on(event.subject)
        except Exception:  # it must not cost the link that the answer came by
            self._client.failed()

    def _carry_on(self, subject: bytes | None) -> None:
        waiting = self._busy.pop(subject, None)
        while waiting:
            event = waiting.pop(0)
            self.held_bytes -= heap_bytes_of(event)
            self._carry_out(event)
            if subject in self._busy:
                self._busy[subject] = waiting
                return

    def _answer(self, event: RequestReceived, answer: Answer | None) -> None:
        client = self._client
        connection = client.connection
        assert connection is not None
        self.in_hand -= 1
        stats = self._stats
        if stats is None:
            stats = self._stats = self._all_stats.of(connection.codec.encoding)
        if answer is None:
            connection.forget(event.ticket)
            is_refused = type(event.request) is Authenticate and not client.is_authorized
            stats.unanswered(event.request, "refused" if is_refused else "ok", event.received_at, Pulse.now())
        else:
            timer = stats.answered(event.request, answer.outcome, event.received_at)
            client.respond(event.ticket, answer.result, timer=timer, encoded=answer.encoded, token=answer.stored)
        client.requests_answered()

    # ---- each request ------------------------------------------------------------------------

    def _step(self, event: RequestReceived) -> Step:
        request = event.request
        if not self._client.is_authorized and not isinstance(request, ALWAYS_ALLOWED):
            raise Refusal(Unhandled(cause=NOT_AUTHENTICATED), outcome="refused")
        match request:
            case Get(subscribe=False):
                return self._get(request)
            case Get():
                return self._subscribe_and_get(request)
            case Put():
                return self._writes.put(event, request)
            case Update():
                return self._writes.update(event, request)
            case Subscribe():
                return self._subscribe(request)
            case RegisterDelegate() | UnregisterDelegate() | ApplicationMessages():
                return self._delegate(request)
            case Authenticate(token=token):
                self._client.authenticate(token)
                return None
            case Disconnect() | Close():
                self._client.close()
                return None
            case _:
                return self._query(event, request)

    def _get(self, request: Get) -> Answer:
        stored = self._backend.contracts.state(request.key, with_code=request.return_contract_code)
        if stored is None:
            return Answer(NotFound(instance_id=request.key), "not_found")
        if self._client.subscriptions:
            subscription = self._client.subscriptions.get(request.key)
            if subscription is not None:
                subscription.seen = stored.version
        contract = None
        if request.return_contract_code:
            contract = ContractContainer(
                data=whole(stored.code), code_hash=stored.key.code, params=whole(stored.params), key=stored.key
            )
        return Answer(GetResponse(key=stored.key, contract=contract, state=whole(stored.state)), "ok", stored)

    async def _subscribe_and_get(self, request: Get) -> Answer:
        try:
            await self._subscriptions.add(request.key, takes_deltas=False)
        except Refusal as refusal:
            if isinstance(refusal.kind, MissingContract):
                return Answer(NotFound(instance_id=request.key), "not_found")
            raise
        return self._get(request)

    async def _subscribe(self, request: Subscribe) -> Answer:
        key = await self._subscriptions.add(request.key, takes_deltas=request.summary is not None)
        return Answer(SubscribeResponse(key=key, subscribed=True))

    async def _delegate(self, request: RegisterDelegate | UnregisterDelegate | ApplicationMessages) -> Answer:
        match request:
            case RegisterDelegate(delegate=delegate):
                key = await derive(delegate_key, delegate.data, delegate.params)
                if key != delegate.key or key.code_hash != delegate.code_hash:
                    raise Refusal(RegisterError(key=delegate.key))
                await self._ask_store("register_delegate", key.key, key.code_hash)
                return Answer(DelegateResponse(key=key, values=()))
            case UnregisterDelegate(key=key):
                await self._ask_store("unregister_delegate", key.key)
                return Answer(DelegateResponse(key=key, values=()))
            case ApplicationMessages(key=key, inbound=inbound):
                if self._backend.index.delegate(key.key) is None:
                    raise Refusal(MissingDelegate(key=key), outcome="not_found")
                return Answer(DelegateResponse(key=key, values=echo(inbound)))

    def _query(self, event: RequestReceived, request: ClientRequest) -> Step:
        assert isinstance(request, NodeQuery)
        connection = self._client.connection
        assert connection is not None
        answer = self._reports.at_once(request)
        if answer is not None:
            return answer
        weight = self._reports.weight_of(request)
        self.in_hand += weight

        def give(answer: Answer) -> None:
            self._awaited.discard(waiter)
            self.in_hand -= weight
            self._complete(event, answer)

        waiter = self._reports.ask(request, connection.codec, give)
        self._awaited.add(waiter)
        return PENDING

    async def _ask_store(self, method: str, *args: Any) -> Any:
        """Calls the store; its refusals become the protocol's errors."""
        try:
            return await self._backend.store.call(method, *args)
        except (LinkLost, LinkRefusal) as error:
            raise refusal_by_store(error, args[0] if args else b"") from error
