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
from enum import Enum

from simnode.protocol.blob import Rope
from simnode.protocol.chunking import count_chunks
from simnode.protocol.errors import LocalProtocolError
from simnode.protocol.limits import CHUNK_SIZE, MAX_CHUNKS_PER_BATCH, MAX_CONCURRENT_STREAMS
from simnode.protocol.record import record

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
        stamp: the shell's own; comes back with the first message.
    """

    messages: Iterator[Rope]
    due_bytes: int
    held_bytes: int = 0
    #: whether it is one message of up to `CHUNK_THRESHOLD`
    is_short: bool = False
    is_stream: bool = False
    header: Rope | None = None
    #: whether it had a header, which is gone from `header` once sent
    is_headed: bool = False
    token: object = None
    stamp: object = None

    @property
    def due_chunks(self) -> int:
        """Chunks still to be handed out."""
        return count_chunks(self.due_bytes) if self.is_stream and self.due_bytes else 0


class TicketState(Enum):
    """`OPEN` → `FILLED` → `QUEUED` → `CLOSED`; a withdrawn one goes from `OPEN` to `CLOSED`."""

    OPEN = "has no reply yet"
    FILLED = "has its reply and waits for its turn"
    QUEUED = "has its turn"
    CLOSED = "is done with"


@dataclass(slots=True, eq=False)
class Ticket:
    """A place in line for a reply, taken when the request arrived."""

    lines: tuple[_Line, ...]
    #: there from `FILLED` to `QUEUED`; a closed ticket holds on to no payload, whoever holds the ticket
    parcel: Parcel | None = None
    state: TicketState = TicketState.OPEN

    def close(self) -> None:
        self.state = TicketState.CLOSED
        self.parcel = None


class _Line:
    """The tickets of one lane that were not sent whole, in the order of their turns.

    In two parts, so that a notification finds its place at once however long the line is.
    """

    __slots__ = ("lane", "rest", "settled")

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        # lists, not deques: most lines see one ticket in their life, and a long one is moved at memory speed
        #: those with a parcel, up to the first one without
        self.settled: list[Ticket] = []
        #: from the first one without a parcel on
        self.rest: list[Ticket] = []

    @property
    def head(self) -> Ticket | None:
        """Whose turn it is; None when nobody is in line."""
        if self.settled:
            return self.settled[0]
        return self.rest[0] if self.rest else None

    def settle(self) -> None:
        """Moves the boundary to where it belongs, after a ticket of `rest` was filled or left."""
        rest = self.rest
        settled = 0
        while settled < len(rest) and rest[settled].state is not TicketState.OPEN:
            settled += 1
        if settled:
            self.settled += rest[:settled]
            del rest[:settled]

    def leave(self, ticket: Ticket) -> None:
        """`ticket` is the head, or is still open."""
        if self.settled and self.settled[0] is ticket:
            del self.settled[0]
        else:
            self.rest.remove(ticket)
            self.settle()


@record(kw_only=False)
class OutgoingMessage:
    """One message to send.

    Attributes:
        token: the parcel's when this is its last message, else None.
        stamp: the parcel's when this is its first message, else None.
        is_chunk: whether it is a StreamChunk.
        ends_stream: whether it is the last chunk of a stream.
        held_bytes: the parcel's when this is its last message, else 0: freed when this is sent.
    """

    data: Rope
    token: object = None
    stamp: object = None
    is_chunk: bool = False
    ends_stream: bool = False
    held_bytes: int = 0


class Outbox:
    """The outgoing side of one connection."""

    def __init__(self) -> None:
        #: by lane; an empty line is forgotten
        self._lines: dict[Lane, _Line] = {}
        #: whole messages whose turn has come
        self._whole: deque[Ticket] = deque()
        #: streams under way, the next to send first; at most `MAX_CONCURRENT_STREAMS`
        self._active: deque[Ticket] = deque()
        #: streams whose turn has come but that must wait for room
        self._waiting: deque[Ticket] = deque()
        self._whole_in_a_row = 0
        self._is_closed = False
        #: payload bytes and chunks due to the peer and not yet handed out
        self.due_bytes = 0
        self.due_chunks = 0
        #: payload bytes that ready replies hold in the heap
        self.held_bytes = 0
        #: of these, those of short messages
        self.short_held_bytes = 0

    def __bool__(self) -> bool:
        return bool(self._whole or self._active or self._waiting)

    @property
    def streams(self) -> int:
        """Chunked messages whose turn has come and that are not sent whole."""
        return len(self._active) + len(self._waiting)

    def open(self, lanes: tuple[Lane, ...]) -> Ticket:
        """Takes a place in line; `fill` or `withdraw` it later."""
        if len(lanes) == 1:  # of nearly every request
            line = self._line(lanes[0])
            ticket = Ticket((line,))
            line.rest.append(ticket)
            return ticket
        ticket = Ticket(tuple([self._line(lane) for lane in lanes]))
        for line in ticket.lines:
            line.rest.append(ticket)
        return ticket

    def fill(self, ticket: Ticket, parcel: Parcel) -> None:
        """The reply is there; it goes out when its turn comes.

        Raises:
            LocalProtocolError: the ticket was filled or withdrawn before, or the outbox is closed
                (the caller's fault; the parcel and its token stay the caller's).
        """
        self._accept(ticket, parcel)
        for line in ticket.lines:
            line.settle()
        self._queue_in_turn(ticket)

    def insert(self, lane: Lane | None, parcel: Parcel) -> None:
        """A message nobody asked for (a notification): after the replies that are ready, before those that are not.

        It takes one lane at most: in two it might find itself before a reply in one and behind it in the other.

        Raises:
            LocalProtocolError: the outbox is closed (the caller's fault).
        """
        ticket = Ticket(())
        self._accept(ticket, parcel)
        if lane is not None:
            line = self._line(lane)
            ticket.lines = (line,)
            line.settled.append(ticket)
        self._queue_in_turn(ticket)

    def withdraw(self, ticket: Ticket) -> None:
        """Gives a place back: the request gets no reply.

        Raises:
            LocalProtocolError: the ticket was filled or withdrawn before (the caller's fault).
        """
        if ticket.state is not TicketState.OPEN:
            raise LocalProtocolError(f"a request that {ticket.state.value} was withdrawn")
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

    def close(self) -> list[object]:
        """Throws everything away, for a connection that is gone; returns the tokens that did not come back yet."""
        tickets = self._tickets()
        tokens = [ticket.parcel.token for ticket in tickets if ticket.parcel is not None]
        for ticket in tickets:
            ticket.close()
        self._is_closed = True
        for queue in (self._lines, self._whole, self._active, self._waiting):
            queue.clear()
        self.due_bytes = self.due_chunks = self.held_bytes = self.short_held_bytes = 0
        return [token for token in tokens if token is not None]

    def check_invariants(self) -> None:
        """Asserts what the attributes promise; for tests."""
        tickets = self._tickets()
        parcels = [ticket.parcel for ticket in tickets if ticket.parcel is not None]
        assert self.due_bytes == sum(parcel.due_bytes for parcel in parcels)
        assert self.due_chunks == sum(parcel.due_chunks for parcel in parcels)
        assert self.held_bytes == sum(parcel.held_bytes for parcel in parcels)
        assert self.short_held_bytes == sum(parcel.held_bytes for parcel in parcels if parcel.is_short)
        queued = {*self._whole, *self._active, *self._waiting}
        assert len(queued) == len(self._whole) + len(self._active) + len(self._waiting), "nothing is queued twice"
        for ticket in tickets:
            assert (ticket.state is TicketState.QUEUED) == (ticket in queued)
            assert (ticket.state is TicketState.OPEN) == (ticket.parcel is None)
            assert ticket.state is not TicketState.FILLED or not self._has_turn(ticket), "a turn that came is taken"
            assert ticket.state is not TicketState.QUEUED or self._has_turn(ticket), "nobody overtakes in a lane"
        assert len(self._active) <= MAX_CONCURRENT_STREAMS
        assert len(self._active) == 1 or all(_parcel(ticket).is_headed for ticket in self._active)
        assert self._active or not self._waiting, "no stream waits for nothing"
        for line in self._lines.values():
            assert line.head is not None, "an empty line is forgotten"
            assert all(ticket.state is not TicketState.OPEN for ticket in line.settled)
            assert not line.rest or line.rest[0].state is TicketState.OPEN

    # ---- inside ------------------------------------------------------------------------------

    def _accept(self, ticket: Ticket, parcel: Parcel) -> None:
        if self._is_closed:
            raise LocalProtocolError("nothing can be sent on a connection that is lost")
        if ticket.state is not TicketState.OPEN:
            raise LocalProtocolError(f"a request that {ticket.state.value} got a reply")
        ticket.parcel, ticket.state = parcel, TicketState.FILLED
        self.due_bytes += parcel.due_bytes
        self.held_bytes += parcel.held_bytes
        if parcel.is_short:
            self.short_held_bytes += parcel.held_bytes
        self.due_chunks += parcel.due_chunks

    def _line(self, lane: Lane) -> _Line:
        line = self._lines.get(lane)
        if line is None:
            line = self._lines[lane] = _Line(lane)
        return line

    def _tickets(self) -> list[Ticket]:
        in_lines = [ticket for line in self._lines.values() for ticket in (*line.settled, *line.rest)]
        return list(dict.fromkeys((*self._whole, *self._active, *self._waiting, *in_lines)))

    def _has_turn(self, ticket: Ticket) -> bool:
        for line in ticket.lines:  # not `all(…)`: this runs for every reply
            if line.head is not ticket:
                return False
        return True

    def _queue_in_turn(self, ticket: Ticket) -> None:
        """Queues `ticket` if it is filled, its turn has come and it is not queued yet."""
        if ticket.state is not TicketState.FILLED or not self._has_turn(ticket):
            return
        ticket.state = TicketState.QUEUED
        if _parcel(ticket).is_stream:
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
        parcel = _parcel(ticket)
        data = next(parcel.messages)
        self.due_bytes -= parcel.due_bytes
        self.held_bytes -= parcel.held_bytes
        if parcel.is_short:
            self.short_held_bytes -= parcel.held_bytes
        self._leave(ticket)
        return OutgoingMessage(data, parcel.token, parcel.stamp, held_bytes=parcel.held_bytes)

    def _send_piece(self, ticket: Ticket) -> OutgoingMessage:
        parcel = _parcel(ticket)
        stamp, parcel.stamp = parcel.stamp, None
        if parcel.header is not None:
            header, parcel.header = parcel.header, None
            self._active.append(ticket)
            return OutgoingMessage(header, stamp=stamp)
        data = next(parcel.messages)
        nbytes = min(CHUNK_SIZE, parcel.due_bytes)
        self.due_bytes -= nbytes
        self.due_chunks -= parcel.due_chunks
        parcel.due_bytes -= nbytes
        self.due_chunks += parcel.due_chunks
        if parcel.due_bytes:
            self._active.append(ticket)
            return OutgoingMessage(data, stamp=stamp, is_chunk=True)
        self.held_bytes -= parcel.held_bytes
        self._leave(ticket)
        self._activate()
        return OutgoingMessage(data, parcel.token, stamp, is_chunk=True, ends_stream=True, held_bytes=parcel.held_bytes)

    def _leave(self, ticket: Ticket) -> None:
        ticket.close()
        for line in ticket.lines:
            line.leave(ticket)
            if line.head is None:
                del self._lines[line.lane]
        for line in ticket.lines:
            head = line.head
            if head is not None:
                self._queue_in_turn(head)


def _parcel(ticket: Ticket) -> Parcel:
    assert ticket.parcel is not None, "only tickets with a parcel are queued"
    return ticket.parcel
