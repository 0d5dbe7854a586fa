"""Requests that wait for their answers, and which answer is whose. Next: `inbox.py`.

Enters: requests as they are queued and sent, results as they arrive, the time. Leaves: the
request that a result answers. No I/O and no clock; `session.py` does the waiting.

How a result finds its request, in this order:

1. A result that names a contract or delegate answers the oldest request of a fitting kind about
   it. Nodes keep the order of replies about one key, so this is exact.
2. On an encoding whose clients match by kind (flatbuffers), a reply that fits nobody's key answers
   the oldest request of its kind; and since the reference sends SubscribeResponse there as
   PutResponse, one that fits no PUT answers a SUBSCRIBE of that contract.
3. A result that names nobody (NodeUnavailable, Unhandled, a node query's response …) answers the
   oldest request of a fitting kind *that was sent whole*: a half-uploaded PUT cannot have caused
   it. Only an error about a chunk goes to the oldest request that was cut into chunks, sent or
   not. With several requests in flight this can blame the wrong one, which nothing on the wire
   could prevent; the right one then times out.
4. What is left answers nobody, and is handed on as such.

A request that was given up (timed out, cancelled) stays in its place as a *tombstone*, so that
its late answer is not taken for the next request's. A tombstone lasts `TOMBSTONE_S`; should the
answer never come, the matching is right again after that.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from simnode.client.answers import Answer, Expectation, answer_in, is_about_a_stream
from simnode.protocol.messages.requests import ClientRequest, Get, Put, Subscribe
from simnode.protocol.messages.responses import Err, HostResult, PutResponse

TOMBSTONE_S = 300.0
"""How long a late answer is still recognised as such."""


@dataclass(slots=True, eq=False, kw_only=True)
class PendingRequest:
    """One request that waits for its answer.

    Attributes:
        expectation: what is known of it.
        destination: where the answer goes; the session's own.
        timeout_s: seconds without progress after which it is given up.
        is_chunked: whether it was cut into chunks.
        progressed_at: when something last moved for it, in seconds on the session's clock.
        is_sent: whether its last byte was handed to the socket.
        is_abandoned: whether nobody waits any more.
    """

    expectation: Expectation
    destination: object
    timeout_s: float
    is_chunked: bool
    progressed_at: float
    is_sent: bool = False
    is_abandoned: bool = False
    #: its place among all requests of the connection
    number: int = field(default=-1)


Lane = tuple[type[ClientRequest], bytes | None]


class PendingRequests:
    """All requests of one connection that wait for their answers.

    Args:
        matches_by_kind: the codec's `replies_match_by_kind`.
    """

    def __init__(self, *, matches_by_kind: bool) -> None:
        self._matches_by_kind = matches_by_kind
        #: by number, hence oldest first
        self._all: OrderedDict[int, PendingRequest] = OrderedDict()
        #: the same by kind and subject, each line oldest first and never empty
        self._lines: dict[Lane, deque[PendingRequest]] = {}
        #: tombstones with the time of their end, the first to end first
        self._tombstones: deque[tuple[float, PendingRequest]] = deque()
        self._next_number = 0

    def __len__(self) -> int:
        return len(self._all)

    def add(self, request: PendingRequest) -> None:
        """A request was queued; requests are added in the order in which they will be asked."""
        request.number = self._next_number
        self._next_number += 1
        self._all[request.number] = request
        self._lines.setdefault(_lane(request), deque()).append(request)

    @property
    def longest_timeout_s(self) -> float:
        """The longest `timeout_s` of those that somebody waits for; 0 when there is none."""
        return max((request.timeout_s for request in self._all.values() if not request.is_abandoned), default=0.0)

    def match(self, result: HostResult, now: float) -> PendingRequest | None:
        """Finds the request that `result` answers and forgets it; None when it answers nobody.

        The answer of an abandoned request is found, too: the caller drops it.
        """
        self._bury(now)
        answer = answer_in(result)
        if answer is None:
            return None
        found = self._find_by_subject(answer)
        if found is None:
            found = self._find_otherwise(result, answer)
        if found is not None:
            self.remove(found)
        return found

    def match_get(self, instance: bytes, now: float) -> PendingRequest | None:
        """Finds the GET whose response a StreamHeader announces, and forgets it."""
        self._bury(now)
        found = self._oldest_of((Get,), instance)
        if found is not None:
            self.remove(found)
        return found

    def match_broken(self, now: float) -> PendingRequest | None:
        """The request to blame for a reply that cannot be read: as for an error that names nobody."""
        self._bury(now)
        found = next((request for request in self._all.values() if request.is_sent), None)
        if found is not None:
            self.remove(found)
        return found

    def abandon(self, request: PendingRequest, now: float) -> None:
        """Nobody waits for this one any more; its place is kept for a while."""
        if not request.is_abandoned and request.number in self._all:
            self._tombstones.append((now + TOMBSTONE_S, request))
        request.is_abandoned = True

    def remove(self, request: PendingRequest) -> None:
        """Forgets a request that was added: it has its answer."""
        del self._all[request.number]
        lane = _lane(request)
        line = self._lines[lane]
        if line[0] is request:
            line.popleft()
        else:
            line.remove(request)
        if not line:
            del self._lines[lane]

    def clear(self) -> list[PendingRequest]:
        """Forgets everything: the connection is gone. Returns those that somebody waits for, oldest first."""
        waiting = [request for request in self._all.values() if not request.is_abandoned]
        self._all.clear()
        self._lines.clear()
        self._tombstones.clear()
        return waiting

    # ---- inside ------------------------------------------------------------------------------

    def _find_by_subject(self, answer: Answer) -> PendingRequest | None:
        if answer.subject is None:
            return None
        found = self._oldest_of(answer.kinds, answer.subject)
        if not answer.includes_subscribers:
            return found
        subscribers = (
            request
            for kind in (Put, Get)
            for request in self._lines.get((kind, answer.subject), ())
            if request.expectation.subscribes
        )
        return _oldest(subscribers if found is None else (found, *subscribers))

    def _find_otherwise(self, result: HostResult, answer: Answer) -> PendingRequest | None:
        if isinstance(result, Err):
            if answer.subject is not None and answer.is_certain:
                return None
            if is_about_a_stream(result.kind):
                return next((request for request in self._all.values() if request.is_chunked), None)
        elif answer.subject is not None:
            if not self._matches_by_kind:
                return None
            if isinstance(result, PutResponse):
                misnamed = self._oldest_of((Subscribe,), answer.subject)
                if misnamed is not None:
                    return misnamed
        return next(
            (request for request in self._all.values() if request.is_sent and answer.fits(request.expectation)), None
        )

    def _oldest_of(self, kinds: Iterable[type[ClientRequest]], subject: bytes) -> PendingRequest | None:
        return _oldest(self._lines[kind, subject][0] for kind in kinds if (kind, subject) in self._lines)

    def _bury(self, now: float) -> None:
        while self._tombstones and self._tombstones[0][0] <= now:
            _, request = self._tombstones.popleft()
            if request.number in self._all:
                self.remove(request)


def _lane(request: PendingRequest) -> Lane:
    return (request.expectation.kind, request.expectation.subject)


def _oldest(requests: Iterable[PendingRequest]) -> PendingRequest | None:
    return min(requests, key=lambda request: request.number, default=None)
