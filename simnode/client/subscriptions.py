"""What a client is subscribed to, across connections. Enters: confirmations. Leaves: what to ask for again.

Next: `inbox.py`. A subscription counts from the moment at which its confirmation arrived, whoever
waits for it: the node sends notifications from then on, also when the program has given up waiting.
"""

from __future__ import annotations

from simnode.client.inbox import Inbox
from simnode.protocol.blob import Blob
from simnode.protocol.messages.contracts import ContractKey


class Subscriptions:
    """The subscriptions of one client.

    Args:
        inbox: of the client; told from when on changes are missed, and from when on no longer.
    """

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        #: by instance id; the summary is the last one that was given
        self._summaries: dict[bytes, Blob | None] = {}

    def confirmed(self, key: ContractKey, summary: Blob | None) -> None:
        """The node confirmed a subscription; with a `summary`, it sends deltas."""
        if summary is not None:
            self._summaries[key.instance] = Blob(bytes(summary))  # the user's buffer is his again
        else:
            self._summaries.setdefault(key.instance, None)
        self._inbox.subscribed(key)

    def lost(self) -> None:
        """The connection is gone: nothing is heard of any contract until it is subscribed to again."""
        self._inbox.break_off(self._summaries)

    def refused(self, instance: bytes) -> None:
        """The node does not subscribe to this contract again."""
        self._summaries.pop(instance, None)

    def to_renew(self) -> list[tuple[bytes, Blob | None]]:
        """Instance ids and summaries of all that are to be subscribed to on a new connection."""
        return list(self._summaries.items())
