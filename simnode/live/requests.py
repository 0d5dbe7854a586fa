"""What the node does with a client's requests. Enters: `RequestReceived`. Leaves: one answer each. Next: `handler.py`.

A GET is answered here and now, from the index and the mapped segment; a write goes to the store by
reference. Requests about one contract are carried out one after the other, in the order in which
they came, so a GET sees every earlier PUT and UPDATE of its connection; requests about different
contracts overtake each other.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from simnode.live import store
from simnode.live.backend import Backend
from simnode.live.link import LinkLost, LinkRefusal
from simnode.live.payloads import INLINE_BYTES, Lease, to_payload, whole
from simnode.live.pulse import Pulse
from simnode.live.stats import HandlerStats, kind_of
from simnode.live.subscribers import Subscriber, Subscribers
from simnode.node.delegates import echo
from simnode.node.runtime import ReplaceRuntime, UpdateRefused, check_state_size
from simnode.protocol.blob import Blob
from simnode.protocol.connection import ServerConnection
from simnode.protocol.events import RequestReceived
from simnode.protocol.keys import code_hash, contract_key, delegate_key
from simnode.protocol.limits import MAX_STATE_SIZE
from simnode.protocol.messages.contracts import ContractContainer, ContractKey
from simnode.protocol.messages.delegates import DelegateKey
from simnode.protocol.messages.error_kinds import (
    ErrorKind,
    MissingContract,
    MissingDelegate,
    NodeUnavailable,
    OperationError,
    PutError,
    RegisterError,
    SubscribeError,
    Unhandled,
    UpdateError,
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
from simnode.protocol.messages.responses import (
    DelegateResponse,
    Err,
    GetResponse,
    HostResult,
    NotFound,
    PutResponse,
    QueryResponse,
    SubscribeResponse,
    UpdateResponse,
)
from simnode.storage.errors import IndexFailure, SegmentGone
from simnode.storage.reader import StoredState

logger = logging.getLogger(__name__)

Key = TypeVar("Key", ContractKey, DelegateKey)

HASHED_HERE_BYTES = 64 * 1024
"""Code up to this long is hashed on the event loop, more in a thread."""

NO_CODE = bytes(32)


class Refusal(Exception):
    """A request that gets an error for its answer."""

    def __init__(self, kind: ErrorKind, *, outcome: str = "error") -> None:
        super().__init__(kind)
        self.kind = kind
        self.outcome = outcome


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request gets. `stored` is held until the last byte has left."""

    result: HostResult
    outcome: str = "ok"
    stored: StoredState | None = None


class Client(Subscriber, Protocol):
    """Who asks: a `session.Session`."""

    connection: ServerConnection | None
    is_authorized: bool

    def respond(self, ticket: object, result: HostResult, *, token: object = None) -> None:
        """Answers a request."""

    def requests_answered(self) -> None:
        """Fewer requests wait than before."""

    def authenticate(self, token: str) -> None:
        """Judges a token."""

    def close(self) -> None:
        """Ends the connection after what is due."""

    def flush_late(self, instance: bytes) -> None:
        """A notification that was put off goes out now."""

    def diagnose(self, query: NodeQuery, subscribers: dict[bytes, int]) -> QueryResponse:
        """Answers a node query."""


class Requests:
    """The requests of one client.

    Args:
        client: who asks.
        backend: what lies behind it.
        subscribers: of the process.
        stats: of the process.
        max_subscriptions: of one client.
    """

    def __init__(
        self,
        client: Client,
        *,
        backend: Backend,
        subscribers: Subscribers,
        stats: HandlerStats,
        max_subscriptions: int,
    ) -> None:
        self._client = client
        self._backend = backend
        self._subscribers = subscribers
        self._stats = stats
        self._max_subscriptions = max_subscriptions
        self._runtime = ReplaceRuntime()
        #: contracts and delegates that a request is being carried out for, with the requests that wait for it
        self._busy: dict[bytes, deque[tuple[RequestReceived, float]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_abandoned = False
        #: requests that are not answered yet
        self.in_hand = 0

    def begin(self, event: RequestReceived) -> None:
        """Carries a request out as soon as its turn comes."""
        received_at = Pulse.now()
        self.in_hand += 1
        subject = event.subject
        if subject is None:
            self._carry_out(event, received_at, None)
            return
        waiting = self._busy.get(subject)
        if waiting is not None:
            waiting.append((event, received_at))
        else:
            self._carry_out(event, received_at, subject)

    def abandon(self) -> None:
        """The client is gone; writes that are under way are carried out all the same."""
        self._is_abandoned = True
        self._busy.clear()

    # ---- order -------------------------------------------------------------------------------

    def _carry_out(self, event: RequestReceived, received_at: float, subject: bytes | None) -> None:
        """Answers at once, or marks its subject busy until the answer is there."""
        try:
            step = self._step(event)
        except Refusal as refusal:
            self._answer(event, received_at, Answer(Err(refusal.kind), refusal.outcome))
            return
        if step is None or isinstance(step, Answer):
            self._answer(event, received_at, step)
            return
        if subject is not None:
            self._busy[subject] = deque()
        task = asyncio.get_running_loop().create_task(self._finish(event, received_at, subject, step))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _finish(
        self, event: RequestReceived, received_at: float, subject: bytes | None, step: Awaitable[Answer]
    ) -> None:
        try:
            answer = await step
        except Refusal as refusal:
            answer = Answer(Err(refusal.kind), refusal.outcome)
        except Exception:
            logger.exception("a %s failed", kind_of(event.request))
            answer = Answer(Err(Unhandled(cause="internal error of the node")), "error")
        if not self._is_abandoned:
            self._answer(event, received_at, answer)
        elif answer.stored is not None:
            answer.stored.release()
        if subject is None:
            return
        waiting = self._busy.pop(subject, None)
        while waiting:
            self._carry_out(*waiting.popleft(), subject)
            if subject in self._busy:
                self._busy[subject] = waiting
                return

    def _answer(self, event: RequestReceived, received_at: float, answer: Answer | None) -> None:
        client = self._client
        connection = client.connection
        assert connection is not None
        self.in_hand -= 1
        kind = kind_of(event.request)
        encoding = connection.codec.encoding
        stats = self._stats
        if answer is None:
            connection.forget(event.ticket)
            stats.requests[kind, encoding.value, "ok"].inc()
        else:
            stats.request_answered(kind, encoding, answer.outcome, Pulse.now() - received_at)
            client.respond(event.ticket, answer.result, token=answer.stored)
        client.requests_answered()

    # ---- each request ------------------------------------------------------------------------

    def _step(self, event: RequestReceived) -> Answer | Awaitable[Answer] | None:
        """An answer, a way to get one, or None where there is none to give."""
        request = event.request
        if not self._client.is_authorized and not isinstance(request, Authenticate | Disconnect | Close):
            raise Refusal(Unhandled(cause="not authenticated: present a valid token first"), outcome="refused")
        match request:
            case Get(subscribe=False):
                return self._get(request)
            case Get():
                return self._subscribe_and_get(request)
            case Put():
                return self._put(event, request)
            case Update():
                return self._update(event, request)
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
                return self._query(request)

    def _get(self, request: Get) -> Answer:
        stored = self._read(request.key, with_code=request.return_contract_code)
        if stored is None:
            return Answer(NotFound(instance_id=request.key), "not_found")
        contract = None
        if request.return_contract_code:
            contract = ContractContainer(
                data=whole(stored.code), code_hash=stored.key.code, params=whole(stored.params), key=stored.key
            )
        return Answer(GetResponse(key=stored.key, contract=contract, state=whole(stored.state)), "ok", stored)

    async def _subscribe_and_get(self, request: Get) -> Answer:
        try:
            await self._add_subscription(request.key, takes_deltas=False)
        except Refusal as refusal:
            if isinstance(refusal.kind, MissingContract):
                return Answer(NotFound(instance_id=request.key), "not_found")
            raise
        return self._get(request)

    async def _subscribe(self, request: Subscribe) -> Answer:
        takes_deltas = request.summary is not None
        key = await self._add_subscription(request.key, takes_deltas=takes_deltas)
        return Answer(SubscribeResponse(key=key, subscribed=True))

    async def _add_subscription(self, contract: bytes, *, takes_deltas: bool) -> ContractKey:
        client = self._client
        subscription = client.subscriptions.get(contract)
        if subscription is not None:
            subscription.takes_deltas = takes_deltas or subscription.takes_deltas
            stored = self._read(contract)
            assert stored is not None, "a contract is never deleted"
            stored.release()
            return stored.key
        self._check_client_cap(contract)
        if self._is_abandoned:
            raise Refusal(SubscribeError(key=ContractKey(contract, NO_CODE), cause="the client is gone"))
        self._subscribers.begin(client, contract, takes_deltas=takes_deltas)
        try:
            code, version = await self._ask_store("subscribe", contract)
        except Refusal as refusal:
            self._subscribers.refused(client, contract)
            match refusal.kind:
                case MissingContract():
                    raise
                case OperationError(cause=cause):
                    raise Refusal(
                        SubscribeError(key=ContractKey(contract, NO_CODE), cause=cause), outcome="refused"
                    ) from refusal
            raise
        self._subscribers.agreed(client, contract, version)
        return ContractKey(contract, code)

    def _check_client_cap(self, contract: bytes) -> None:
        cap = self._max_subscriptions
        if len(self._client.subscriptions) >= cap:
            cause = f"client has {len(self._client.subscriptions)} subscriptions, maximum is {cap}"
            raise Refusal(SubscribeError(key=ContractKey(contract, NO_CODE), cause=cause), outcome="refused")

    async def _put(self, event: RequestReceived, request: Put) -> Answer:
        key = request.contract.key
        try:
            check_state_size(len(request.state))
            if len(request.contract.data) > MAX_STATE_SIZE:
                nbytes = len(request.contract.data)
                raise UpdateRefused(f"code of {nbytes} bytes exceeds the maximum of {MAX_STATE_SIZE} bytes")
            await self._check_key(request.contract)
        except UpdateRefused as refusal:
            raise Refusal(PutError(key=key, cause=str(refusal))) from refusal
        request = await self._in_segment(event.message, request)
        client = self._client
        # nobody would end the subscription of a client that went while its code was hashed
        subscribe = request.subscribe and key.instance not in client.subscriptions and not self._is_abandoned
        if subscribe:
            self._check_client_cap(key.instance)
            self._subscribers.begin(client, key.instance, takes_deltas=False)
        contract = request.contract
        try:
            version, adopted, subscribed, why_not = await self._ask_store(
                "put",
                *(key.instance, key.code, to_payload(contract.params), to_payload(contract.data)),
                *(to_payload(request.state), subscribe),
            )
        except Refusal as refusal:
            if subscribe:
                self._subscribers.refused(client, key.instance)
            if isinstance(refusal.kind, OperationError):
                raise Refusal(PutError(key=key, cause=refusal.kind.cause)) from refusal
            raise
        _settle(request.state, adopted)
        if subscribe and not subscribed:
            self._subscribers.refused(client, key.instance)
            raise Refusal(SubscribeError(key=key, cause=why_not), outcome="refused")
        if subscribe:
            self._subscribers.agreed(client, key.instance, version)
        client.flush_late(key.instance)
        return Answer(PutResponse(key=key))

    async def _check_key(self, contract: ContractContainer) -> None:
        """A key that its code and parameters do not give would let one client write another's contract."""
        key = await _derive(contract_key, contract.data, contract.params)
        if key != contract.key or key.code != contract.code_hash:
            raise UpdateRefused("the key is not the one that the code and the parameters give")

    async def _update(self, event: RequestReceived, request: Update) -> Answer:
        key = request.key
        try:
            self._runtime.plan_update(request.data)
            request = await self._in_segment(event.message, request)
            merge = self._runtime.plan_update(request.data)
        except UpdateRefused as refusal:
            raise Refusal(UpdateError(key=key, cause=str(refusal))) from refusal
        try:
            _, adopted, summary = await self._ask_store(
                "update", key.instance, key.code, merge.keeps_current, [to_payload(part) for part in merge.parts]
            )
        except Refusal as refusal:
            match refusal.kind:
                case MissingContract():
                    cause = "contract not found"
                case OperationError(cause=cause):
                    pass
                case _:
                    raise
            raise Refusal(UpdateError(key=key, cause=cause)) from refusal
        _settle(merge.parts[0], adopted)
        self._client.flush_late(key.instance)
        return Answer(UpdateResponse(key=key, summary=Blob(summary)))

    async def _delegate(self, request: RegisterDelegate | UnregisterDelegate | ApplicationMessages) -> Answer:
        match request:
            case RegisterDelegate(delegate=delegate):
                key = await _derive(delegate_key, delegate.data, delegate.params)
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

    async def _query(self, request: ClientRequest) -> Answer:
        assert isinstance(request, NodeQuery)
        counts = await self._ask_store("subscriptions")
        return Answer(self._client.diagnose(request, {bytes(contract): count for contract, count in counts}))

    # ---- help --------------------------------------------------------------------------------

    def _read(self, contract: bytes, *, with_code: bool = False) -> StoredState | None:
        try:
            return self._backend.contracts.state(contract, with_code=with_code)
        except (IndexFailure, SegmentGone) as failure:
            raise Refusal(OperationError(cause=f"the store cannot be read: {failure}")) from failure

    async def _ask_store(self, method: str, *args: Any) -> Any:
        """Calls the store; its refusals become the protocol's errors."""
        try:
            return await self._backend.store.call(method, *args)
        except LinkLost as lost:
            raise Refusal(NodeUnavailable(), outcome="unavailable") from lost
        except LinkRefusal as refusal:
            match refusal.code:
                case store.MISSING:
                    raise Refusal(MissingContract(key=args[0]), outcome="not_found") from refusal
                case store.UNAVAILABLE:
                    raise Refusal(NodeUnavailable(), outcome="unavailable") from refusal
                case _:
                    raise Refusal(OperationError(cause=str(refusal))) from refusal

    async def _in_segment(self, message: Blob, request: Any) -> Any:
        """The same request with its payloads in a segment, if one is too long to travel inside a link message."""
        if message.origin is not None or len(message) <= INLINE_BYTES:
            return request
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._backend.lease(len(message), future.set_result)
        sink = await future
        if not isinstance(sink, Lease):
            raise Refusal(OperationError(cause=sink.reason))
        sink.write(0, message.view)
        assert self._client.connection is not None
        return self._client.connection.codec.decode_request(sink.finish(len(message)))


async def _derive(make_key: Callable[[bytes, Blob], Key], code: Blob, params: Blob) -> Key:
    """The key that code and parameters give; hashed in a thread if there is much to hash."""
    bare_code, bare_params = Blob(code.view), Blob(params.view)  # without their lease: it must not end in a thread

    def derive() -> Key:
        return make_key(code_hash(bare_code), bare_params)

    if len(code) + len(params) <= HASHED_HERE_BYTES:
        return derive()
    return await asyncio.get_running_loop().run_in_executor(None, derive)


def _settle(part: Blob, adopted: str | None) -> None:
    """The store kept the message's segment, so this process must not give it back."""
    if isinstance(part.origin, Lease) and part.origin.name == adopted:
        part.origin.hand_over()
