"""Who in this process wants to hear of which contract. Enters: changes. Leaves: notices to them. Next: `session.py`."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

from simnode.live.handlers.backend import Backend
from simnode.live.handlers.notices import Notice
from simnode.live.link import Link
from simnode.live.payloads import Payload


@dataclass(slots=True)
class Subscription:
    """What a client has been told of a contract.

    Attributes:
        takes_deltas: whether it gave a summary.
        version: of the row it was told last; None until the store has agreed to the subscription.
        newest: version that others were told of while the store was asked.
    """

    takes_deltas: bool
    version: int | None = None
    newest: int = 0


class Subscriber(Protocol):
    """A client, as far as subscriptions go."""

    #: contract -> what it was told
    subscriptions: dict[bytes, Subscription]

    def contract_changed(self, contract: bytes, notice: Notice) -> None:
        """The contract has a new state."""

    def failed(self) -> None:
        """A bug of ours, whose exception is being handled, ends the connection."""


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
        try:
            for subscriber in list(subscribers):
                try:
                    subscriber.contract_changed(contract, notice)
                except Exception:  # it must not cost the others their news, nor this process its link to the store
                    subscriber.failed()
        finally:
            notice.release()

    def tell_late(self) -> None:
        """Tells of those contracts that could not be read when they changed; call it now and then."""
        untold = self._backend.untold
        for contract in list(untold):
            untold.discard(contract)
            self.tell(contract)

    def introduce(self, store: Link) -> None:
        """A store that has just started learns who is here, and everybody the current state, if it is news."""
        if not self._by_contract:
            return
        store.cast("resubscribe", [[contract, len(who)] for contract, who in self._by_contract.items()])
        for contract in list(self._by_contract):
            asyncio.get_running_loop().call_soon(self.tell, contract)

    def _drop(self, subscriber: Subscriber, contract: bytes) -> None:
        who = self._by_contract.get(contract)
        if who is not None:
            who.discard(subscriber)
            if not who:
                del self._by_contract[contract]
