"""Outgoing messages onto a socket. Enters: messages. Leaves: bytes, at the peer's pace. Next: `websocket.py`.

`sendmsg` copies from the mapped segment into the socket's buffer and no further: when it returns,
the bytes may be overwritten. A transport would keep views of its own until it drained, and what
was written over them then reached the peer (measured; `DECISIONS.md`).
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable, Iterator
from enum import Enum

from simnode.live.sockets.frames import BINARY, CONT, PIECE_BYTES, PONG, frame_header
from simnode.protocol.blob import Buffer, Rope
from simnode.protocol.outbox import OutgoingMessage

GATHERED_BYTES = PIECE_BYTES
"""Small messages are sent together up to about so many bytes."""

GATHERED_PARTS = 256
"""And so many pieces: far below the kernel's IOV_MAX of 1,024."""

JOINED_BYTES = 16 * 1024
"""Up to so many bytes are copied together: `send` of one piece is cheaper than `sendmsg` of a few."""

TURN_BYTES = 4 * PIECE_BYTES
"""After so many bytes a connection lets the others of its process go first."""

QUEUED_CONTROL_FRAMES = 64
"""Pongs beyond so many replace each other."""

_PONG = 0x80 | PONG


class Sent(Enum):
    """Why `FrameWriter.send` stopped."""

    EVERYTHING = "everything"
    BLOCKED = "the socket takes no more"
    TURN_OVER = "others go first"


class FrameWriter:
    """The outgoing side of one connection.

    Args:
        sock: connected and non-blocking.
        next_message: makes the next message, or None; asked only when the socket can take it.
        begun: is called with the stamp of each message that has one, when the kernel has its first byte.
        sent: is called with each message when the kernel has its last byte.
    """

    __slots__ = (
        "_begun",
        "_begun_message",
        "_control",
        "_cut_begins_at",
        "_cut_message",
        "_fragments",
        "_fragments_left",
        "_is_exhausted",
        "_last",
        "_messages",
        "_next_message",
        "_offered_bytes",
        "_parts",
        "_sent",
        "_sock",
        "sent_bytes",
    )

    def __init__(
        self,
        sock: socket.socket,
        next_message: Callable[[], OutgoingMessage | None],
        begun: Callable[[object], None],
        sent: Callable[[OutgoingMessage], None],
    ) -> None:
        self._sock = sock
        self._next_message = next_message
        self._begun = begun
        self._sent = sent
        #: whole control frames (and the handshake's reply), which may go between any two frames
        self._control: deque[bytes] = deque()
        #: whole control frames that wait until nothing else is due
        self._last: deque[bytes] = deque()
        #: the rest of a large message that goes out in fragments
        self._fragments: Iterator[tuple[Rope, bool]] | None = None
        #: that message, until its last fragment is in `_parts`, and the bytes that leave before it
        self._cut_message: OutgoingMessage | None = None
        self._cut_begins_at = 0
        #: of which `begun` was told, and `sent` was not yet
        self._begun_message: OutgoingMessage | None = None
        #: what the socket was offered and has not taken
        self._parts: list[Buffer] = []
        #: whether `next_message` had nothing more behind `_parts`
        self._is_exhausted = False
        #: the messages that end in `_parts`, each with the bytes that leave before its first byte, and up to its last
        self._messages: list[tuple[int, int, OutgoingMessage]] = []
        #: bytes in `_parts`
        self._offered_bytes = 0
        #: payload bytes of `_fragments` that are not in `_parts` yet
        self._fragments_left = 0
        #: bytes the socket took, over the connection's life
        self.sent_bytes = 0

    def add_control(self, data: bytes) -> None:
        """Queues bytes that go out as they are, before the next data frame.

        Of many pongs that wait only the first and the newest are kept (RFC 6455 §5.5.3 allows it): a
        peer that pings and never reads would fill the heap.
        """
        if len(self._control) >= QUEUED_CONTROL_FRAMES and self._control[-1][0] == data[0] == _PONG:
            self._control[-1] = data
        else:
            self._control.append(data)

    def add_last(self, data: bytes) -> None:
        """Queues bytes that go out once nothing else is due: a close frame."""
        self._last.append(data)

    def end_data(self) -> None:
        """No data frame begins after this: RFC 6455 allows none behind a close frame."""
        self._fragments = None
        self._fragments_left = 0
        self._next_message = _nothing

    def send(self) -> Sent:
        """Sends until there is nothing more, the socket is full or it is somebody else's turn.

        Raises:
            OSError: the connection is gone.
        """
        before = self.sent_bytes
        self._is_exhausted = False  # what was true before the socket was full may not be any more
        while self._parts or self._gather():
            try:
                if self._offered_bytes <= JOINED_BYTES:
                    nbytes = self._sock.send(b"".join(self._parts))
                else:
                    nbytes = self._sock.sendmsg(self._parts)
            except (BlockingIOError, InterruptedError):
                return Sent.BLOCKED
            self.sent_bytes += nbytes
            self._offered_bytes -= nbytes
            if self._offered_bytes:
                self._take_off(nbytes)
                self._tell_of_some()
            else:
                self._parts.clear()
                self._tell_of_all()
                if self._is_exhausted and not self._control:
                    break
            if self.sent_bytes - before >= TURN_BYTES:
                return Sent.TURN_OVER
        return Sent.EVERYTHING

    @property
    def unsent_bytes(self) -> int:
        """Bytes that were handed out by `next_message` and that the socket has not taken."""
        return self._offered_bytes + self._fragments_left

    def unsent_messages(self) -> list[OutgoingMessage]:
        """The messages that `next_message` handed out and that the socket has not taken whole."""
        messages = [message for _, _, message in self._messages]
        return messages if self._cut_message is None else [*messages, self._cut_message]

    # ---- inside ------------------------------------------------------------------------------

    def _gather(self) -> bool:
        self._is_exhausted = False
        while self._offered_bytes < GATHERED_BYTES and len(self._parts) < GATHERED_PARTS:
            if self._control:
                self._add(self._control.popleft())
                continue
            if self._fragments is not None:
                data, is_last = next(self._fragments)
                self._fragments_left -= len(data)
                self._add_frame(CONT, data, fin=is_last)
                if is_last:
                    assert self._cut_message is not None
                    end = self.sent_bytes + self._offered_bytes
                    self._messages.append((self._cut_begins_at, end, self._cut_message))
                    self._fragments = self._cut_message = None
                continue
            message = self._next_message()
            if message is None:
                if not self._last:
                    self._is_exhausted = True
                    break
                self._add(self._last.popleft())
                continue
            begin = self.sent_bytes + self._offered_bytes
            if message.data.nbytes <= PIECE_BYTES + GATHERED_BYTES:
                self._add_frame(BINARY, message.data, fin=True)
                self._messages.append((begin, self.sent_bytes + self._offered_bytes, message))
            else:
                self._cut_message, self._cut_begins_at = message, begin
                self._begin_fragments(message.data)
        return bool(self._parts)

    def _begin_fragments(self, message: Rope) -> None:
        # one message, so that a client without chunks gets what it always got; in fragments, so
        # that no frame exceeds the reference client's 16 MiB and pings go between
        pieces = _marking_last(message.cut(PIECE_BYTES))
        first, is_last = next(pieces)
        self._fragments = pieces
        self._fragments_left = len(message) - len(first)
        self._add_frame(BINARY, first, fin=is_last)

    def _add_frame(self, opcode: int, data: Rope, *, fin: bool) -> None:
        header = frame_header(opcode, data.nbytes, fin=fin)
        self._parts.append(header)
        self._parts += data.parts
        self._offered_bytes += len(header) + data.nbytes

    def _add(self, data: bytes) -> None:
        self._parts.append(data)
        self._offered_bytes += len(data)

    def _take_off(self, nbytes: int) -> None:
        parts = self._parts
        taken = 0
        while nbytes >= len(parts[taken]):
            nbytes -= len(parts[taken])
            taken += 1
        del parts[:taken]
        if nbytes:
            parts[0] = memoryview(parts[0])[nbytes:]

    def _tell_of_all(self) -> None:
        """Everything in `_parts` is out."""
        messages, self._messages = self._messages, []
        for _, _, message in messages:
            if message.stamp is not None and message is not self._begun_message:
                self._begun(message.stamp)
            self._sent(message)
        if messages:
            self._begun_message = None  # whatever it held must not wait for the next one
        if self._cut_message is not None:
            self._tell_of_first_byte(self._cut_message)

    def _tell_of_some(self) -> None:
        """A part of `_parts` is out, up to `sent_bytes`."""
        messages = self._messages
        while messages and messages[0][0] < self.sent_bytes:
            _, end, message = messages[0]
            self._tell_of_first_byte(message)
            if end > self.sent_bytes:
                return
            del messages[0]
            self._begun_message = None
            self._sent(message)
        if not messages and self._cut_message is not None and self._cut_begins_at < self.sent_bytes:
            self._tell_of_first_byte(self._cut_message)

    def _tell_of_first_byte(self, message: OutgoingMessage) -> None:
        if message is not self._begun_message:
            self._begun_message = message
            if message.stamp is not None:
                self._begun(message.stamp)


def _nothing() -> None:
    """No message, ever."""


def _marking_last(pieces: Iterator[Rope]) -> Iterator[tuple[Rope, bool]]:
    piece = next(pieces)
    for following in pieces:
        yield piece, False
        piece = following
    yield piece, True
