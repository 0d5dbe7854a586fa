"""PUT and UPDATE. Enters: requests. Leaves: writes for the store, by reference, and their answers. Next: `store.py`.

A write whose payloads can travel as they are goes to the store in the turn of the loop in which its
last byte came, and its answer to the client in the turn in which the store's came: no task, no
future. Only what must be hashed in a thread, or moved into a segment first, takes a coroutine.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from simnode.live.handlers.answers import (
    INTERNAL_ERROR,
    PENDING,
    Answer,
    Client,
    Outcome,
    Refusal,
    Step,
    refusal_by_store,
)
from simnode.live.handlers.backend import Backend
from simnode.live.handlers.subscribing import ClientSubscriptions, refused
from simnode.live.link import LinkError, LinkLost
from simnode.live.payloads import INLINE_BYTES, Lease, to_payload
from simnode.node.runtime import Merge, ReplaceRuntime, UpdateRefused, check_state_size
from simnode.protocol.blob import Blob
from simnode.protocol.errors import SinkFailed
from simnode.protocol.events import RequestReceived
from simnode.protocol.keys import code_hash, contract_key
from simnode.protocol.limits import MAX_STATE_SIZE
from simnode.protocol.messages.contracts import ContractContainer, ContractKey
from simnode.protocol.messages.delegates import DelegateKey
from simnode.protocol.messages.error_kinds import MissingContract, OperationError, PutError, Unhandled, UpdateError
from simnode.protocol.messages.requests import Put, Update
from simnode.protocol.messages.responses import Err, PutResponse, UpdateResponse

logger = logging.getLogger(__name__)

Key = TypeVar("Key", ContractKey, DelegateKey)

HASHED_HERE_BYTES = 64 * 1024
"""Code up to this long is hashed on the event loop, more in a thread."""


class Writes:
    """The writes of one client.

    Args:
        client: who asks.
        backend: what lies behind it.
        subscriptions: of the client.
        complete: is given the answer of a request whose step was `PENDING`.
    """

    def __init__(
        self,
        client: Client,
        *,
        backend: Backend,
        subscriptions: ClientSubscriptions,
        complete: Callable[[RequestReceived, Answer], None],
    ) -> None:
        self._client = client
        self._backend = backend
        self._subscriptions = subscriptions
        self._complete = complete
        self._runtime = ReplaceRuntime()

    # ---- PUT ---------------------------------------------------------------------------------

    def put(self, event: RequestReceived, request: Put) -> Step:
        """Stores a contract.

        Raises:
            Refusal: it is too large, or not what its key says.
        """
        contract = request.contract
        code_nbytes = len(contract.data)
        try:
            check_state_size(len(request.state))
            if code_nbytes > MAX_STATE_SIZE:
                raise UpdateRefused(f"code of {code_nbytes} bytes exceeds the maximum of {MAX_STATE_SIZE} bytes")
            if code_nbytes + len(contract.params) > HASHED_HERE_BYTES or not _travels(event):
                return self._prepare_put(event, request)
            _check_key(contract, contract_key(code_hash(contract.data), contract.params))
        except UpdateRefused as refusal:
            raise Refusal(PutError(key=contract.key, cause=str(refusal))) from refusal
        return self._send_put(event, request)

    async def _prepare_put(self, event: RequestReceived, request: Put) -> Outcome:
        contract = request.contract
        try:
            _check_key(contract, await derive(contract_key, contract.data, contract.params))
        except UpdateRefused as refusal:
            raise Refusal(PutError(key=contract.key, cause=str(refusal))) from refusal
        return self._send_put(event, await self._in_segment(event, request))

    def _send_put(self, event: RequestReceived, request: Put) -> Outcome:
        contract, key = request.contract, request.contract.key
        # nobody would end the subscription of a client that went while its code was hashed
        subscribe = request.subscribe and self._subscriptions.is_wanted(key.instance)
        if subscribe:
            self._subscriptions.begin(key.instance, takes_deltas=False)
        params, code, state = to_payload(contract.params), to_payload(contract.data), to_payload(request.state)
        self._backend.store.ask(
            "put",
            (key.instance, key.code, params, code, state, subscribe),
            partial(self._answered, event, partial(self._put_answer, request, subscribe)),
        )
        return PENDING

    def _put_answer(self, request: Put, subscribe: bool, result: Any, error: LinkError | None) -> Answer:
        key = request.contract.key
        if error is not None:
            _doubt(request.state, error)
            if subscribe:
                self._subscriptions.refused(key.instance)
            refusal = refusal_by_store(error, key.instance)
            if isinstance(refusal.kind, OperationError):
                refusal = Refusal(PutError(key=key, cause=refusal.kind.cause))
            return refusal.answer()
        version, adopted, subscribed, why_not = result
        _settle(request.state, adopted)
        if subscribe:
            if not subscribed:
                self._subscriptions.refused(key.instance)
                return refused(key, why_not).answer()
            self._subscriptions.agreed(key.instance, version)
        self._client.flush_late(key.instance)
        return Answer(PutResponse(key=key))

    # ---- UPDATE ------------------------------------------------------------------------------

    def update(self, event: RequestReceived, request: Update) -> Step:
        """Changes a contract's state.

        Raises:
            Refusal: the update is none that the runtime knows, or too large.
        """
        merge = self._plan(request)
        return self._send_update(event, request, merge) if _travels(event) else self._prepare_update(event, request)

    async def _prepare_update(self, event: RequestReceived, request: Update) -> Outcome:
        request = await self._in_segment(event, request)
        return self._send_update(event, request, self._plan(request))

    def _plan(self, request: Update) -> Merge:
        try:
            return self._runtime.plan_update(request.data)
        except UpdateRefused as refusal:
            raise Refusal(UpdateError(key=request.key, cause=str(refusal))) from refusal

    def _send_update(self, event: RequestReceived, request: Update, merge: Merge) -> Outcome:
        key = request.key
        self._backend.store.ask(
            "update",
            (key.instance, key.code, merge.keeps_current, [to_payload(part) for part in merge.parts]),
            partial(self._answered, event, partial(self._update_answer, key, merge)),
        )
        return PENDING

    def _update_answer(self, key: ContractKey, merge: Merge, result: Any, error: LinkError | None) -> Answer:
        if error is not None:
            _doubt(merge.parts[0], error)
            refusal = refusal_by_store(error, key.instance)
            if isinstance(refusal.kind, MissingContract):
                refusal = Refusal(UpdateError(key=key, cause="contract not found"), outcome=refusal.outcome)
            elif isinstance(refusal.kind, OperationError):
                refusal = Refusal(UpdateError(key=key, cause=refusal.kind.cause))
            return refusal.answer()
        _, adopted, summary = result
        _settle(merge.parts[0], adopted)
        self._client.flush_late(key.instance)
        return Answer(UpdateResponse(key=key, summary=Blob(summary)))

    # ---- both --------------------------------------------------------------------------------

    def _answered(
        self,
        event: RequestReceived,
        make: Callable[[Any, LinkError | None], Answer],
        result: Any,
        error: LinkError | None,
    ) -> None:
        """The store has answered, or is gone."""
        try:
            answer = make(result, error)
        except Exception:  # a bug of ours costs this request, not the link to the store
            logger.exception("the answer to a write failed")
            answer = Answer(Err(Unhandled(cause=INTERNAL_ERROR)), "error")
        self._complete(event, answer)

    async def _in_segment(self, event: RequestReceived, request: Any) -> Any:
        """The same request with its payloads in a segment, if one is too long to travel inside a link message."""
        if _travels(event):
            return request
        message = event.message
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._backend.lease(len(message), self._client.account, future.set_result)
        sink = await future
        if not isinstance(sink, Lease):
            raise Refusal(OperationError(cause=sink.reason))
        try:
            sink.write(0, message.view)
        except SinkFailed as failure:
            raise Refusal(OperationError(cause=str(failure))) from failure
        assert self._client.connection is not None
        return self._client.connection.codec.decode_request(sink.finish(len(message)))


def _travels(event: RequestReceived) -> bool:
    """Whether the request's payloads can go to the store as they are: in a segment already, or short."""
    message = event.message
    return message.origin is not None or len(message.view) <= INLINE_BYTES


def _check_key(contract: ContractContainer, derived: ContractKey) -> None:
    """A key that its code and parameters do not give would let one client write another's contract."""
    key = contract.key
    if derived.instance != key.instance or derived.code != key.code or derived.code != contract.code_hash:
        raise UpdateRefused("the key is not the one that the code and the parameters give")


async def derive(make_key: Callable[[bytes, Blob], Key], code: Blob, params: Blob) -> Key:
    """The key that code and parameters give; hashed in a thread if there is much to hash."""
    bare_code, bare_params = Blob(code.view), Blob(params.view)  # without their lease: it must not end in a thread

    def make() -> Key:
        return make_key(code_hash(bare_code), bare_params)

    if len(code) + len(params) <= HASHED_HERE_BYTES:
        return make()
    return await asyncio.get_running_loop().run_in_executor(None, make)


def _doubt(part: Blob, error: LinkError) -> None:
    """The store is gone and may have kept the message's segment, so nobody must be given it until that is known."""
    if isinstance(error, LinkLost) and error.may_have_heard and isinstance(part.origin, Lease):
        part.origin.doubt()


def _settle(part: Blob, adopted: str | None) -> None:
    """The store kept the message's segment, so this process must not give it back."""
    if isinstance(part.origin, Lease) and part.origin.name == adopted:
        part.origin.hand_over()
