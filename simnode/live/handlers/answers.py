"""What a request gets. Enters: results and refusals of all kinds. Leaves: `Answer`s. Next: `requests.py`."""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from enum import Enum
from typing import Final, Literal, Protocol

from simnode.live.handlers.stats import ReplyTimer
from simnode.live.handlers.subscribers import Subscriber
from simnode.live.link import FAILED, UNKNOWN_CALL, LinkError, LinkLost
from simnode.live.store_codes import MISSING, UNAVAILABLE
from simnode.node.ledger import Account
from simnode.protocol.blob import Rope
from simnode.protocol.connection import ServerConnection
from simnode.protocol.messages.error_kinds import (
    ErrorKind,
    MissingContract,
    NodeUnavailable,
    OperationError,
    Unhandled,
)
from simnode.protocol.messages.responses import Err, HostResult
from simnode.protocol.record import record
from simnode.storage.errors import StorageError
from simnode.storage.reader import StoredState

logger = logging.getLogger(__name__)

NOT_AUTHENTICATED: Final = "not authenticated: present a valid token first"

INTERNAL_ERROR: Final = "internal error of the node"
"""What a client is told of a bug of ours; the log has the rest."""

UNREADABLE: Final = "the node cannot read what it has stored now"
"""What a client is told when its disk, its memory or its descriptors fail the node; the log has the rest."""


@record(kw_only=False)
class Answer:
    """What a request gets. `stored` is held until the last byte has left; `encoded` is the result, serialized."""

    result: HostResult
    outcome: str = "ok"
    stored: StoredState | None = None
    encoded: Rope | None = None


class Refusal(Exception):
    """A request that gets an error for its answer."""

    def __init__(self, kind: ErrorKind, *, outcome: str = "error") -> None:
        super().__init__(kind)
        self.kind = kind
        self.outcome = outcome

    def answer(self) -> Answer:
        """The error, as an answer."""
        return Answer(Err(self.kind), self.outcome)


class Pending(Enum):
    """What a step gives whose answer is handed in later."""

    PENDING = "pending"


PENDING: Final = Pending.PENDING

Outcome = Answer | Literal[Pending.PENDING] | None
"""An answer, the promise of one, or None where there is none to give."""

Step = Outcome | Awaitable[Outcome]


class Client(Subscriber, Protocol):
    """Who asks: a `session.Session`."""

    connection: ServerConnection | None
    #: what it makes this process hold
    account: Account
    is_authorized: bool

    def respond(
        self,
        ticket: object,
        result: HostResult,
        *,
        timer: ReplyTimer,
        encoded: Rope | None = None,
        token: object = None,
    ) -> None:
        """Answers a request; `timer` runs until the answer's first byte has left."""

    def requests_answered(self) -> None:
        """Fewer requests wait than before."""

    def authenticate(self, token: str) -> None:
        """Judges a token."""

    def close(self) -> None:
        """Ends the connection after what is due."""

    def failed(self) -> None:
        """A bug of ours, whose exception is being handled, ends the connection."""

    def flush_late(self, instance: bytes) -> None:
        """A notification that was put off goes out now."""


def refusal_by_store(error: LinkError, subject: bytes) -> Refusal:
    """The protocol's error for what the store said, or that it is gone.

    Args:
        error: of a call to the store.
        subject: the contract that it was about.
    """
    if isinstance(error, LinkLost) or error.code == UNAVAILABLE:
        return Refusal(NodeUnavailable(), outcome="unavailable")
    if error.code == MISSING:
        return Refusal(MissingContract(key=subject), outcome="not_found")
    if error.code in (FAILED, UNKNOWN_CALL):
        return Refusal(Unhandled(cause=INTERNAL_ERROR))
    return Refusal(OperationError(cause=str(error)))


def answer_to(kind: str, error: Exception) -> Answer:
    """What a request gets that raised while it was carried out: the details of a failure are for the log alone.

    Args:
        kind: of the request, as the metrics name it.
        error: what was raised.
    """
    if isinstance(error, Refusal):
        return error.answer()
    if isinstance(error, StorageError):
        logger.error("a %s cannot be answered: %s: %s", kind, type(error).__name__, error)
        return Answer(Err(OperationError(cause=UNREADABLE)), "error")
    logger.error("a %s failed", kind, exc_info=error)
    return Answer(Err(Unhandled(cause=INTERNAL_ERROR)), "error")
