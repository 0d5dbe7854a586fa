"""What goes out next. Enters: parcels with their places in line. Leaves: messages, one by one. Next: `connection.py`.

Three rules meet here:

- whole messages go before chunks, and chunks of several streams take turns, so a small response
  never waits behind a large one;
- replies that share a *lane* (one contract's key; on flatbuffers also one kind) complete in the
  order of their requests, whichever was ready first;
- a stream without a header has the connection's streams to itself, because the reference client
  drops such a stream 60 s after its first chunk however fast it arrives.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass

from simnode.protocol.blob import Rope
from simnode.protocol.chunking import count_chunks
from simnode.protocol.errors import LocalProtocolError
from simnode.protocol.limits import CHUNK_SIZE, MAX_CHUNKS_PER_BATCH, MAX_CONCURRENT_STREAMS

Lane = Hashable


@dataclass(slots=True, kw_only=True)
class Parcel:
    """A serialized message on its way out.

    Attributes:
        messages: the messages that carry it, made one at a time: itself, or its chunks.
        due_bytes: payload bytes still to be handed out.
        held_bytes: payload bytes it holds in the heap until the last message is out.
        is_stream: whether it goes in chunks.
        header: the StreamHeader that announces it.
        token: the shell's own; comes back with the last message.
    """

    messages: Iterator[Rope]
    due_bytes: int
    held_bytes: int = 0
    is_stream: bool = False
    header: Rope | None = None
    #: whether it had a header, which is gone from `header` once sent
    is_headed: bool = False
    token: object = None

    @property
    def due_chunks(self) -> int:
        """Chunks still to be handed out."""
        return count_chunks(self.due_bytes) if self.is_stream and self.due_bytes else 0


@dataclass(slots=True, eq=False)
class Ticket:
    """A place in line for a reply, taken when the request arrived."""

    lanes: tuple[Lane, ...]
    parcel: Parcel | None = None


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    """One message to send. `token` is the parcel's when this is its last one, else None."""

    data: Rope
    token: object = None


class Outbox:
    """The outgoing side of one connection."""

    def __init__(self) -> None:
        #: by lane, every ticket that has not been sent whole, in the order of their turns
        self._lanes: dict[Lane, deque[Ticket]] = {}
        #: whole messages whose turn has come
        self._whole: deque[Ticket] = deque()
        #: streams under way, the next to send first; at most `MAX_CONCURRENT_STREAMS`
        self._active: deque[Ticket] = deque()
        #: streams whose turn has come but that must wait for room
        self._waiting: deque[Ticket] = deque()
        self._whole_in_a_row = 0
        #: payload bytes and chunks due to the peer and not yet handed out
        self.due_bytes = 0
        self.due_chunks = 0
        #: payload bytes that ready replies hold in the heap
        self.held_bytes = 0

    def __bool__(self) -> bool:
        return bool(self._whole or self._active or self._waiting)

    def open(self, lanes: tuple[Lane, ...]) -> Ticket:
        """Takes a place in line; `fill` or `withdraw` it later."""
        ticket = Ticket(lanes)
        for lane in lanes:
            self._lanes.setdefault(lane, deque()).append(ticket)
        return ticket

    def fill(self, ticket: Ticket, parcel: Parcel) -> None:
        """The reply is there; it goes out when its turn comes.

        Raises:
            LocalProtocolError: the ticket was used before (the caller's fault).
        """
        if ticket.parcel is not None:
            raise LocalProtocolError("a reply was sent twice for one request")
        ticket.parcel = parcel
        self.due_bytes += parcel.due_bytes
        self.due_chunks += parcel.due_chunks
        self.held_bytes += parcel.held_bytes
        if self._has_turn(ticket):
            self._make_ready(ticket)

    def insert(self, lanes: tuple[Lane, ...], parcel: Parcel) -> None:
        """A message nobody asked for (a notification): after the replies that are ready, before those that are not."""
        ticket = Ticket(lanes)
        for lane in lanes:
            line = self._lanes.setdefault(lane, deque())
            at = next((at for at, other in enumerate(line) if other.parcel is None), len(line))
            line.insert(at, ticket)
        self.fill(ticket, parcel)

    def withdraw(self, ticket: Ticket) -> None:
        """Gives a place back: the request gets no reply."""
        if ticket.parcel is not None:
            raise LocalProtocolError("a reply that is under way cannot be withdrawn")
        self._leave(ticket)

    def next_message(self) -> OutgoingMessage | None:
        """The next message to send, made now; None when nothing is due."""
        if self._whole and (self._whole_in_a_row < MAX_CHUNKS_PER_BATCH or not self._active):
            self._whole_in_a_row += 1
            return self._send_whole(self._whole.popleft())
        self._whole_in_a_row = 0
        if self._active:
            return self._send_piece(self._active.popleft())
        return None

    def tokens(self) -> list[object]:
        """The tokens of everything that was not sent whole; for a connection that is gone."""
        return [ticket.parcel.token for ticket in self._tickets() if ticket.parcel is not None]

    def check_invariants(self) -> None:
        """Asserts what the attributes promise; for tests."""
        parcels = [ticket.parcel for ticket in self._tickets() if ticket.parcel is not None]
        assert self.due_bytes == sum(parcel.due_bytes for parcel in parcels)
        assert self.due_chunks == sum(parcel.due_chunks for parcel in parcels)
        assert self.held_bytes == sum(parcel.held_bytes for parcel in parcels)
        assert len(self._active) <= MAX_CONCURRENT_STREAMS
        assert sum(not ticket.parcel.is_headed for ticket in self._active if ticket.parcel is not None) <= 1
        assert all(self._lanes.values()), "an empty lane is forgotten"

    # ---- inside ------------------------------------------------------------------------------

    def _tickets(self) -> list[Ticket]:
        queued = [*self._whole, *self._active, *self._waiting]
        in_lanes = [ticket for line in self._lanes.values() for ticket in line]
        return list({id(ticket): ticket for ticket in (*queued, *in_lanes)}.values())

    def _has_turn(self, ticket: Ticket) -> bool:
        return all(self._lanes[lane][0] is ticket for lane in ticket.lanes)

    def _make_ready(self, ticket: Ticket) -> None:
        assert ticket.parcel is not None
        if ticket.parcel.is_stream:
            self._waiting.append(ticket)
            self._activate()
        else:
            self._whole.append(ticket)

    def _activate(self) -> None:
        """Starts waiting streams in order while there is room; a stream without a header counts for all of it."""
        while self._waiting and len(self._active) < MAX_CONCURRENT_STREAMS:
            if any(not _parcel(ticket).is_headed for ticket in self._active):
                return
            if not _parcel(self._waiting[0]).is_headed and self._active:
                return
            self._active.append(self._waiting.popleft())

    def _send_whole(self, ticket: Ticket) -> OutgoingMessage:
        data = next(_parcel(ticket).messages)
        return self._hand_out(ticket, data, _parcel(ticket).due_bytes, is_last=True)

    def _send_piece(self, ticket: Ticket) -> OutgoingMessage:
        parcel = _parcel(ticket)
        if parcel.header is not None:
            header, parcel.header = parcel.header, None
            self._active.append(ticket)
            return OutgoingMessage(header)
        data = next(parcel.messages)
        nbytes = min(CHUNK_SIZE, parcel.due_bytes)
        is_last = nbytes == parcel.due_bytes
        if not is_last:
            self._active.append(ticket)
        return self._hand_out(ticket, data, nbytes, is_last=is_last)

    def _hand_out(self, ticket: Ticket, data: Rope, nbytes: int, *, is_last: bool) -> OutgoingMessage:
        parcel = _parcel(ticket)
        self.due_bytes -= nbytes
        self.due_chunks -= parcel.due_chunks
        parcel.due_bytes -= nbytes
        self.due_chunks += parcel.due_chunks
        if not is_last:
            return OutgoingMessage(data)
        self.held_bytes -= parcel.held_bytes
        self._leave(ticket)
        if parcel.is_stream:
            self._activate()
        return OutgoingMessage(data, parcel.token)

    def _leave(self, ticket: Ticket) -> None:
        for lane in ticket.lanes:
            line = self._lanes[lane]
            line.remove(ticket)
            if not line:
                del self._lanes[lane]
        heads = {id(self._lanes[lane][0]): self._lanes[lane][0] for lane in ticket.lanes if lane in self._lanes}
        for head in heads.values():
            if head.parcel is not None and self._has_turn(head) and not self._is_queued(head):
                self._make_ready(head)

    def _is_queued(self, ticket: Ticket) -> bool:
        return ticket in self._whole or ticket in self._active or ticket in self._waiting


def _parcel(ticket: Ticket) -> Parcel:
    assert ticket.parcel is not None, "only tickets with a parcel are queued"
    return ticket.parcel
