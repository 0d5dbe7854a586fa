"""One client's subscriptions, as it asks for them. Enters: contracts. Leaves: what the store agreed to.

Next: `subscribers.py`, which knows those of the whole process.
"""

from __future__ import annotations

from simnode.live.handlers.answers import Client, Refusal, refusal_by_store
from simnode.live.handlers.backend import Backend
from simnode.live.handlers.subscribers import Subscribers
from simnode.live.link import LinkError, LinkLost, LinkRefusal
from simnode.protocol.messages.contracts import ContractKey
from simnode.protocol.messages.error_kinds import OperationError, SubscribeError

NO_CODE = bytes(32)


class ClientSubscriptions:
    """The subscriptions of one client.

    Args:
        client: whose.
        backend: what lies behind it.
        subscribers: of the process.
        cap: how many the client may have.
    """

    def __init__(self, client: Client, *, backend: Backend, subscribers: Subscribers, cap: int) -> None:
        self._client = client
        self._backend = backend
        self._subscribers = subscribers
        self._cap = cap
        #: the client is gone: nobody would end a subscription that begins now
        self.is_over = False

    def is_wanted(self, contract: bytes) -> bool:
        """Whether a subscription to it would be a new one, of a client that is still there."""
        return contract not in self._client.subscriptions and not self.is_over

    def begin(self, contract: bytes, *, takes_deltas: bool) -> None:
        """Before the store is asked; `agreed` or `refused` must follow.

        Raises:
            Refusal: the client has as many as it may have.
        """
        number = len(self._client.subscriptions)
        if number >= self._cap:
            cause = f"client has {number} subscriptions, maximum is {self._cap}"
            raise refused(ContractKey(contract, NO_CODE), cause)
        self._subscribers.begin(self._client, contract, takes_deltas=takes_deltas)

    def agreed(self, contract: bytes, version: int) -> None:
        """The store agreed; the client knows this version."""
        self._subscribers.agreed(self._client, contract, version)

    def refused(self, contract: bytes) -> None:
        """The store did not agree."""
        self._subscribers.refused(self._client, contract)

    async def add(self, contract: bytes, *, takes_deltas: bool) -> ContractKey:
        """Subscribes; a second time changes nothing but that deltas are taken from now on, if so.

        Raises:
            Refusal: there is no such contract, there are too many subscriptions, or the store is away.
        """
        subscription = self._client.subscriptions.get(contract)
        if subscription is not None:
            subscription.takes_deltas = takes_deltas or subscription.takes_deltas
            row = self._backend.index.get(contract)
            assert row is not None, "a contract is never deleted"
            return ContractKey(contract, row.code_hash)
        if self.is_over:
            raise refused(ContractKey(contract, NO_CODE), "the client is gone")
        self.begin(contract, takes_deltas=takes_deltas)
        try:
            code, version = await self._backend.store.call("subscribe", contract)
        except (LinkLost, LinkRefusal) as error:
            self.refused(contract)
            raise _refused_by_store(contract, error) from error
        self.agreed(contract, version)
        return ContractKey(contract, code)


def _refused_by_store(contract: bytes, error: LinkError) -> Refusal:
    refusal = refusal_by_store(error, contract)
    if isinstance(refusal.kind, OperationError):
        return refused(ContractKey(contract, NO_CODE), refusal.kind.cause)
    return refusal


def refused(key: ContractKey, cause: str) -> Refusal:
    """A subscription that is not to be had."""
    return Refusal(SubscribeError(key=key, cause=cause), outcome="refused")
