"""Who in this process wants to hear of which contract. Enters: changes. Leaves: notices to them. Next: `session.py`."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Protocol

from simnode.live.handlers.backend import Backend
from simnode.live.handlers.notices import Notice
from simnode.live.link import Link, LinkError
from simnode.live.payloads import Payload


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


class Subscribers:
    """The subscriptions of a handler's clients. The store knows their number, this their names.

    Args:
        backend: of the handler.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._by_contract: dict[bytes, set[Subscriber]] = {}

    def begin(self, subscriber: Subscriber, contract: bytes, *, takes_deltas: bool) -> None:
        """Before the store is asked, so that no change falls between its answer and ours."""
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
        for subscriber in list(subscribers):
            subscriber.contract_changed(contract, notice)
        notice.release()

    def introduce(self, store: Link) -> None:
        """A store that has just started learns who is here, and everybody the current state, if it is news.

        Not before the store has answered: what it commits until then it tells others only.
        """
        if self._by_contract:
            counts = [[contract, self._count_agreed(contract, who)] for contract, who in self._by_contract.items()]
            store.ask("resubscribe", [[entry for entry in counts if entry[1]]], self._introduced)

    def _introduced(self, result: Any, error: LinkError | None) -> None:
        if error is None:  # else that store is gone, too, and the next one is told
            for contract in list(self._by_contract):
                asyncio.get_running_loop().call_soon(self.tell, contract)

    def _count_agreed(self, contract: bytes, who: set[Subscriber]) -> int:
        # those whom the store before it had not answered yet are about to be refused
        return sum(subscriber.subscriptions[contract].version is not None for subscriber in who)

    def _drop(self, subscriber: Subscriber, contract: bytes) -> None:
        who = self._by_contract.get(contract)
        if who is not None:
            who.discard(subscriber)
            if not who:
                del self._by_contract[contract]
