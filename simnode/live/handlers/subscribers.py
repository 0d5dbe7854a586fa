"""Who in this process wants to hear of which contract. Enters: changes. Leaves: notices to them. Next: `session.py`.

There may be half a million subscriptions here, and a thousand of one contract: whatever goes through
all of them does so in slices.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Protocol

from simnode.live.handlers.backend import Backend
from simnode.live.handlers.notices import Notice
from simnode.live.link import Link, LinkError, LinkLost
from simnode.live.payloads import Payload
from simnode.live.slices import Slices

logger = logging.getLogger(__name__)

INTRODUCED_AT_ONCE = 500
"""Contracts of which a store that has just started is told in one message."""

TOLD_AT_ONCE = 256
"""Subscribers of one contract that hear of a change in one turn of the loop: each takes some 10 µs."""


@dataclass(slots=True)
class Subscription:
    """What a client has been told of a contract.

    Attributes:
        takes_deltas: whether it gave a summary.
        version: of the row it was told last; None until the store has agreed to the subscription.
        newest: version that others were told of while the store was asked.
        seen: version that a GET showed the client last. A row is there before the notice of it comes, so
            this may be ahead of `version`: a delta that leads to it would then be applied twice.
    """

    takes_deltas: bool
    version: int | None = None
    newest: int = 0
    seen: int = 0

    def is_followed_by(self, version: int) -> bool:
        """Whether the client has the state that a delta to this version changes."""
        return self.version is not None and version == self.version + 1 and version > self.seen


class Subscriber(Protocol):
    """A client, as far as subscriptions go."""

    #: contract -> what it was told
    subscriptions: dict[bytes, Subscription]

    def contract_changed(self, contract: bytes, notice: Notice) -> None:
        """The contract has a new state."""

    def failed(self) -> None:
        """A bug of ours, whose exception is being handled, ends the connection."""


@dataclass(slots=True)
class _FanOut:
    """A change that has not been told to everybody.

    Attributes:
        notice: what is told; held.
        remaining: who has not heard of it.
    """

    notice: Notice
    remaining: deque[Subscriber]


class Subscribers:
    """The subscriptions of a handler's clients. The store knows their number, this their names.

    Args:
        backend: of the handler.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._by_contract: dict[bytes, set[Subscriber]] = {}
        #: contracts of which the store has not been told since it started
        self._unintroduced: dict[bytes, None] = {}
        self._introduction: asyncio.Task[None] | None = None
        #: changes that wait for the next turn of the loop to be told on
        self._fan_outs: dict[bytes, _FanOut] = {}

    def begin(self, subscriber: Subscriber, contract: bytes, *, takes_deltas: bool) -> None:
        """Before the store is asked, so that no change falls between its answer and ours."""
        if contract in self._unintroduced:  # the store must not count the new one twice
            told = partial(self._introduced, contract)
            self._backend.store.ask("resubscribe", (self._introducing([contract]),), told)
        subscriber.subscriptions[contract] = Subscription(takes_deltas)
        self._by_contract.setdefault(contract, set()).add(subscriber)

    def agreed(self, subscriber: Subscriber, contract: bytes, version: int) -> None:
        """The store agreed; the client knows this version, and hears of every newer one."""
        subscription = subscriber.subscriptions.get(contract)
        if subscription is None:
            self._backend.store.cast("unsubscribe", [contract])  # the client went while the store was asked
            return
        subscription.version = version
        notice = self._backend.notice_of(contract) if subscription.newest > version else None
        if notice is not None:
            subscriber.contract_changed(contract, notice)
            notice.release()

    def refused(self, subscriber: Subscriber, contract: bytes) -> None:
        """The store did not agree."""
        subscriber.subscriptions.pop(contract, None)
        self._drop(subscriber, contract)

    def gone(self, subscriber: Subscriber) -> None:
        """The client is gone."""
        subscriptions, subscriber.subscriptions = subscriber.subscriptions, {}
        for contract in subscriptions:
            self._drop(subscriber, contract)
        # the store is told of those it has agreed to; of the others when it does (`agreed`)
        contracts = [contract for contract, told in subscriptions.items() if told.version is not None]
        if contracts:
            self._backend.store.cast("unsubscribe", contracts)

    def tell(self, contract: bytes, version: int = 0, delta: Payload | None = None) -> None:
        """Everybody who subscribed hears of the newest state; `delta` is what led to `version`."""
        subscribers = self._by_contract.get(contract)
        notice = self._backend.notice_of(contract, version, delta) if subscribers else None
        if subscribers is None or notice is None:
            return
        waiting = self._fan_outs.pop(contract, None)
        if waiting is None and len(subscribers) <= TOLD_AT_ONCE:
            try:
                for subscriber in list(subscribers):
                    _tell(subscriber, contract, notice)
            finally:
                notice.release()
            return
        remaining: deque[Subscriber] = deque()
        if waiting is not None:  # those who have waited longest hear of this first, and of the older one no more
            remaining += waiting.remaining
            waiting.notice.release()
        first = set(remaining)
        remaining += (subscriber for subscriber in subscribers if subscriber not in first)
        self._fan_outs[contract] = _FanOut(notice, remaining)
        if waiting is None:  # else the next turn goes on with this one
            self._tell_on(contract)

    def tell_now(self, subscriber: Subscriber, contract: bytes) -> None:
        """The subscriber hears of a change that is being told: a reply about the contract follows."""
        fan_out = self._fan_outs.get(contract)
        if fan_out is not None and contract in subscriber.subscriptions:
            subscriber.contract_changed(contract, fan_out.notice)

    def tell_late(self) -> None:
        """Tells of those contracts that could not be read when they changed; call it now and then."""
        untold = self._backend.untold
        for contract in list(untold):
            untold.discard(contract)
            self.tell(contract)

    def introduce(self, store: Link) -> None:
        """A store that has just started learns who is here, and everybody the current state, if it is news."""
        if self._introduction is not None:
            self._introduction.cancel()
            self._introduction = None
        self._unintroduced = dict.fromkeys(self._by_contract)
        if self._unintroduced:
            self._introduction = asyncio.get_running_loop().create_task(self._introduce(store))
            self._introduction.add_done_callback(_log_failure)

    async def _introduce(self, store: Link) -> None:
        slices = Slices()
        while self._unintroduced:
            contracts = list(islice(self._unintroduced, INTRODUCED_AT_ONCE))
            try:
                await store.call("resubscribe", self._introducing(contracts))
            except LinkLost:
                return  # the next one will be told
            for contract in contracts:  # what changed before the store knew of us, nobody here has heard of
                self.tell(contract)
                await slices.step_done()

    def _introduced(self, contract: bytes, result: Any, error: LinkError | None) -> None:
        if error is None:
            self.tell(contract)

    def _introducing(self, contracts: list[bytes]) -> list[tuple[bytes, int]]:
        """These contracts with the number of their subscribers here, for a store that is told of them now."""
        for contract in contracts:
            del self._unintroduced[contract]
        counts = [(contract, self._count_agreed(contract)) for contract in contracts]
        return [(contract, count) for contract, count in counts if count]

    def _count_agreed(self, contract: bytes) -> int:
        # those whom the store before it had not answered yet are about to be refused
        who = self._by_contract[contract]
        return sum(subscriber.subscriptions[contract].version is not None for subscriber in who)

    def _tell_on(self, contract: bytes) -> None:
        """Tells the next of those who have not heard of a change."""
        fan_out = self._fan_outs.get(contract)
        if fan_out is None:
            return
        for _ in range(min(TOLD_AT_ONCE, len(fan_out.remaining))):
            subscriber = fan_out.remaining.popleft()
            if contract in subscriber.subscriptions:  # else it went meanwhile
                _tell(subscriber, contract, fan_out.notice)
        if fan_out.remaining:
            asyncio.get_running_loop().call_soon(self._tell_on, contract)
        else:
            del self._fan_outs[contract]
            fan_out.notice.release()

    def _drop(self, subscriber: Subscriber, contract: bytes) -> None:
        who = self._by_contract.get(contract)
        if who is not None:
            who.discard(subscriber)
            if not who:
                del self._by_contract[contract]
                self._unintroduced.pop(contract, None)


def _tell(subscriber: Subscriber, contract: bytes, notice: Notice) -> None:
    """Tells one of them; a failure costs neither the others their news nor this process its link to the store."""
    try:
        subscriber.contract_changed(contract, notice)
    except Exception:
        subscriber.failed()


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        logger.error("a store could not be introduced", exc_info=task.exception())
