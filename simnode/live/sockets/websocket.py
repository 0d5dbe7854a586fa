"""One client's socket. Enters: a socket. Leaves: messages to a session, bytes to the peer. Next: `session.py`.

The socket is read and written directly from the event loop's readiness callbacks: what `recv_into`
fills is parsed in place, and what `sendmsg` takes has left this process. The handshake (`upgrade.py`),
control frames and close codes are the `websockets` library's (`ServerProtocol`, sans-I/O); data
frames are `frames.FrameReader`'s.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import socket
import struct
import termios
from collections.abc import Callable
from typing import Protocol

from websockets.frames import CloseCode
from websockets.protocol import State
from websockets.server import ServerProtocol

from simnode.live.sockets.frames import FrameReader
from simnode.live.sockets.handshake import Accepted, AccessRules
from simnode.live.sockets.peer_watch import PeerWatch
from simnode.live.sockets.read_buffer import ReadBuffer
from simnode.live.sockets.upgrade import HANDSHAKE_FAILED, MAX_REQUEST_BYTES, answer
from simnode.live.sockets.writer import FrameWriter, Sent
from simnode.protocol.limits import WHOLE_MESSAGE_SIZE
from simnode.protocol.outbox import OutgoingMessage
from simnode.protocol.reassembly import Sink

SCRATCH_BYTES = WHOLE_MESSAGE_SIZE + 64 * 1024
"""What is read at once. One buffer serves all connections of a process."""

HANDSHAKE_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 2.0
"""For a peer that takes none of what is still due to it, or does not end its side."""

PING_INTERVAL_S = 30.0

PIPELINED_READ_BYTES = 16 * 1024
"""Read at once from a connection that sends more requests than one turn takes: the rest waits in the kernel."""

logger = logging.getLogger(__name__)

_quiet = logging.getLogger("simnode.live.websockets")
_quiet.addHandler(logging.NullHandler())
_quiet.propagate = False


class Application(Protocol):
    """The session on top of a socket."""

    def opened(self, accepted: Accepted) -> None:
        """The upgrade is done; messages follow."""

    def message_received(self, message: bytes) -> None:
        """A whole message in the heap."""

    def large_message_received(self, sink: Sink, nbytes: int) -> None:
        """A whole message in the room that was asked for."""

    def large_message_discarded(self, nbytes: int) -> None:
        """A message that had no room went by."""

    def room_needed(self, nbytes: int, sink: Sink | None) -> None:
        """Answer with `WebSocket.provide_room`, as `frames.FrameEvents` says; nothing is read until then."""

    def next_message(self) -> OutgoingMessage | None:
        """The next message for the peer, made now."""

    def message_begun(self, stamp: object) -> None:
        """The kernel has the first byte of the message with this stamp."""

    def message_sent(self, message: OutgoingMessage) -> None:
        """The kernel has the last byte of this message."""

    def message_dropped(self, message: OutgoingMessage) -> None:
        """The connection is over, and this message, which `next_message` gave, has not left whole."""

    def sent(self) -> None:
        """The socket took what it could of what is due."""

    def lost(self, reason: str) -> None:
        """The connection is over, whoever ended it; nothing more is called. `reason` is of a closed set."""


class WebSocket:
    """The server's end of one WebSocket.

    Args:
        sock: accepted, non-blocking; owned from now on.
        scratch: the process's read buffer, `SCRATCH_BYTES` long.
        peer_watch: the process's.
        application: is made for this socket.
        rules: who may connect.
        max_message_bytes: above it the connection closes with 1009.
        now: the process's monotonic clock, in seconds.
        ended: is called once, when the socket is closed.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        scratch: memoryview,
        peer_watch: PeerWatch,
        application: Callable[[WebSocket], Application],
        rules: AccessRules,
        max_message_bytes: int,
        now: Callable[[], float],
        ended: Callable[[WebSocket], None],
    ) -> None:
        self._sock = sock
        self._fd = sock.fileno()
        self._peer_address = _host_of(sock)
        self._buffer = ReadBuffer(scratch)
        self._peer_watch = peer_watch
        self._rules = rules
        self._now = now
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._protocol = ServerProtocol(max_size=None, logger=_quiet)
        self._application = application(self)
        #: `FrameEvents.message_received`: straight to the application, as long as its messages count
        self.message_received = self._application.message_received
        self._reader = FrameReader(self, max_message_bytes=max_message_bytes)
        self._writer = FrameWriter(
            sock, self._application.next_message, self._application.message_begun, self._application.message_sent
        )
        self._is_open = False
        self._is_lost = False
        self._is_reading = False
        self._peer_is_gone = False
        #: what comes due now goes out when what was read is taken
        self._is_taking = False
        self._waits_for_socket = False
        self._send_is_scheduled = False
        self._ends_after_sending = False
        self._pauses = 0
        #: what is kept is taken on in another turn of the loop
        self._is_turn_due = False
        self._reads_little = False
        self._close_reason = HANDSHAKE_FAILED
        #: when the connection must have got further, or None
        self.deadline: float | None = now() + HANDSHAKE_TIMEOUT_S
        self._next_ping_at = now() + PING_INTERVAL_S
        #: when the peer last took bytes that were due to it
        self.progress_at = now()
        #: bytes that the peer's kernel had acknowledged then
        self._acknowledged_bytes = 0
        #: bytes read, over the connection's life
        self.received_bytes = 0

    # ---- for the handler ---------------------------------------------------------------------

    def start(self) -> None:
        """Begins to read."""
        self._peer_watch.add(self._fd, self._on_peer_gone)
        self._resume_reading()

    def send_soon(self) -> None:
        """Something is due: send it in this turn of the loop, together with what else comes due."""
        if not (self._send_is_scheduled or self._is_lost):
            self._send_is_scheduled = True
            if not (self._is_taking or self._waits_for_socket):
                self._loop.call_soon(self._send_scheduled)

    def call_soon(self, callback: Callable[..., object], *args: object) -> None:
        """Calls back in the next turn of the loop."""
        self._loop.call_soon(callback, *args)

    @property
    def peer_address(self) -> str:
        """The remote host as text; empty for a unix socket."""
        return self._peer_address

    def pause(self) -> None:
        """Nothing is received until the matching `resume`; calls nest."""
        self._pauses += 1
        self._reader.blocked = True

    def resume(self) -> None:
        """Undoes one `pause`; what waited in the buffer is received now."""
        self._pauses -= 1
        if self._pauses or self._is_lost:
            return
        self._reader.blocked = False
        if self._is_taking:  # an answer at once: what is being taken goes on
            return
        if self._buffer.kept_bytes:
            self._take(self._buffer.kept, self._buffer.kept_bytes)
            if self._send_is_scheduled:
                self._loop.call_soon(self._send_scheduled)
        if not self._pauses:
            self._resume_reading()

    def provide_room(self, sink: Sink | None) -> None:
        """Answers `Application.room_needed`."""
        try:
            self._reader.provide_room(sink)
        except Exception:  # it must not cost the link that the room came by
            self.fail_internally()
        self.resume()

    def close(self, code: int, reason: str, *, label: str) -> None:
        """Starts the closing handshake after everything due is out.

        Args:
            code: RFC 6455 close code.
            reason: for people, up to 123 bytes.
            label: of the closed set of the metric's reasons.
        """
        if self._is_lost or self._ends_after_sending or self._protocol.state is not State.OPEN:
            return
        self._close_reason = label
        self._ignore_messages()
        self._protocol.send_close(code, reason)
        self._take_protocol_output(after_everything=True)
        self.deadline = self._now() + CLOSE_TIMEOUT_S

    def abort(self, label: str) -> None:
        """Ends the connection at once. One that never opened keeps its own reason: refusals have other labels."""
        if self._is_open:
            self._close_reason = label
        self._lose()

    def fail_internally(self) -> None:
        """A bug of ours, whose exception is being handled, ends this connection and no other."""
        logger.exception("a connection failed")
        self._reader.close()
        if self._is_open and self._protocol.state is State.OPEN:
            self.close(CloseCode.INTERNAL_ERROR, "internal error", label="internal_error")
        else:
            self.abort("internal_error")

    def check(self, now: float, *, progress_timeout_s: float) -> None:
        """Pings, and ends a connection that is too late; call it every second or so.

        A peer is judged by the bytes it takes of what is due to it, as seen by the kernel, never by
        a missing pong: the reference client does not pong while its program is not in `recv`.
        """
        if self._is_lost:
            return
        self._buffer.shrink()
        in_kernel = self._bytes_in_kernel()
        # not what the kernel took: it takes pings and notifications for a dead peer as well
        acknowledged = self._writer.sent_bytes - in_kernel
        has_taken = acknowledged > self._acknowledged_bytes
        self._acknowledged_bytes = acknowledged
        if has_taken or not (in_kernel or self._writer.unsent_bytes):
            if self._ends_after_sending and has_taken:
                self.deadline = now + CLOSE_TIMEOUT_S
            self.progress_at = now
        elif now - self.progress_at >= progress_timeout_s:
            self.abort("stalled")
            return
        if self.deadline is not None and now >= self.deadline:
            self.abort(self._close_reason)
            return
        if self._is_open and now >= self._next_ping_at and self._protocol.state is State.OPEN:
            self._next_ping_at = now + PING_INTERVAL_S
            self._protocol.send_ping(b"")
            self._take_protocol_output()

    def take_whole_up_to(self, nbytes: int) -> None:
        """Takes messages of up to `nbytes` in the heap from now on; larger ones need room."""
        self._reader.take_whole_up_to(nbytes)

    @property
    def is_paused(self) -> bool:
        """Whether nothing is received until a `resume`."""
        return self._pauses > 0

    def give_up_large(self) -> bool:
        """Throws a large message in progress away; see `frames.FrameReader.give_up_large`."""
        return self._reader.give_up_large()

    @property
    def large_bytes(self) -> int:
        """Bytes that have come of a large message in progress."""
        return self._reader.large_bytes

    @property
    def unfinished_bytes(self) -> int:
        """Bytes in the heap of a message that is not whole yet."""
        return self._reader.unfinished_bytes + self._buffer.allocated_bytes

    @property
    def sent_bytes(self) -> int:
        """Bytes that the socket took, over the connection's life."""
        return self._writer.sent_bytes

    @property
    def unsent_bytes(self) -> int:
        """Bytes handed out by the application that the socket has not taken."""
        return self._writer.unsent_bytes

    # ---- reading -----------------------------------------------------------------------------

    def _on_readable(self) -> None:
        if self._pauses:  # only now, because most pauses are over before anything comes
            self._pause_reading()
            return
        if self._is_turn_due:  # what was read before comes first
            return
        buffer = self._buffer
        view = room = buffer.scratch
        kept = buffer.kept_bytes
        if kept:
            view = buffer.with_kept()
            room = view[kept:]
        if self._reads_little:
            self._reads_little = False
            room = room[:PIPELINED_READ_BYTES]
        try:
            nbytes = self._sock.recv_into(room)
        except BlockingIOError:
            if self._peer_is_gone:  # an answer took its error, and nothing is left to read
                self._lose()
            return
        except OSError:
            self._lose()
            return
        if nbytes == 0:
            self._lose()
            return
        # this call may have been the only one for a reset behind what was read: `PeerWatch` tells of it
        self.received_bytes += nbytes
        self._take(view, kept + nbytes)
        if self._send_is_scheduled and not self._waits_for_socket:
            self._send()  # here, because another turn of the loop costs as much as sending

    def _on_peer_gone(self) -> None:
        """Takes what the peer sent before it was gone, unless that has to wait for something, and ends."""
        if self._is_lost:
            return
        self._peer_is_gone = True
        self._pause_reading()
        if self._pauses:
            self._lose()
            return
        self._on_readable()
        self._loop.call_soon(self._on_peer_gone)  # others go first; in the end there is an error to read

    def _take(self, view: memoryview, stop: int) -> None:
        start = 0
        self._is_taking = True
        try:
            if not self._is_open:
                start = self._take_request(view, stop)
            if self._is_open and not self._is_lost:
                start = self._reader.feed(view, start, stop)
        except Exception:
            self.fail_internally()
            start = stop
        self._is_taking = False
        if start == stop or self._is_lost:
            self._buffer.kept_bytes = 0
        else:
            wanted = self._reader.wanted if self._is_open else MAX_REQUEST_BYTES
            self._buffer.keep(view, start, stop, wanted)
            if self._reader.is_turn_over:
                self._reads_little = True
                if not self._is_turn_due:
                    self._is_turn_due = True
                    self._loop.call_soon(self._take_turn)

    def _take_turn(self) -> None:
        """Goes on with what was read, now that the other connections of the process have had their turn."""
        self._is_turn_due = False
        if self._is_lost or self._pauses:  # `resume` takes it
            return
        self._take(self._buffer.kept, self._buffer.kept_bytes)
        if self._send_is_scheduled and not self._waits_for_socket:
            self._send()

    def _take_request(self, view: memoryview, stop: int) -> int:
        reply = answer(self._protocol, bytes(view[: min(stop, MAX_REQUEST_BYTES)]), self._rules)
        if reply is None:
            return 0
        self._writer.add_control(reply.data)
        if reply.accepted is None:
            self._close_reason = reply.label
            self._end_after_reply()
            return stop
        self._is_open = True
        self._close_reason = "connection_lost"
        self.deadline = None
        self.send_soon()
        self._application.opened(reply.accepted)
        return reply.taken

    def _end_after_reply(self) -> None:
        self._ignore_messages()
        self.deadline = self._now() + CLOSE_TIMEOUT_S
        self.send_soon()

    def _resume_reading(self) -> None:
        if not (self._is_reading or self._is_lost or self._peer_is_gone):
            self._is_reading = True
            self._loop.add_reader(self._fd, self._on_readable)

    def _pause_reading(self) -> None:
        if self._is_reading:
            self._is_reading = False
            self._loop.remove_reader(self._fd)

    # ---- frames.FrameEvents ------------------------------------------------------------------

    def _ignore_messages(self) -> None:
        """Everything due goes out, nothing more comes in."""
        self._ends_after_sending = True
        self.message_received = _ignore

    def large_message_received(self, sink: Sink, nbytes: int) -> None:
        if self._ends_after_sending:
            sink.discard()
        else:
            self._application.large_message_received(sink, nbytes)

    def large_message_discarded(self, nbytes: int) -> None:
        if not self._ends_after_sending:
            self._application.large_message_discarded(nbytes)

    def room_needed(self, nbytes: int, sink: Sink | None) -> None:
        self._pauses += 1
        self._application.room_needed(nbytes, sink)

    def control_received(self, frame: bytes) -> None:
        self._protocol.receive_data(frame)
        self._protocol.events_received()
        if self._protocol.parser_exc is not None:
            self._close_reason = "protocol_error"
        self._take_protocol_output()

    def violation(self, code: CloseCode, reason: str) -> None:
        self._close_reason = "too_big" if code is CloseCode.MESSAGE_TOO_BIG else "protocol_error"
        self._protocol.fail(code, reason)
        self._take_protocol_output()

    # ---- writing -----------------------------------------------------------------------------

    def _take_protocol_output(self, *, after_everything: bool = False) -> None:
        for data in self._protocol.data_to_send():
            if data == b"":
                self._writer.end_data()
                self._ignore_messages()
                if self.deadline is None:
                    self.deadline = self._now() + CLOSE_TIMEOUT_S
            elif after_everything:
                self._writer.add_last(data)
            else:
                self._writer.add_control(data)
        self.send_soon()

    def _send_scheduled(self) -> None:
        # else it went out with what came due later, or will when the socket has room
        if self._send_is_scheduled and not self._waits_for_socket:
            self._send()

    def _send(self) -> None:
        self._send_is_scheduled = False
        if self._is_lost:
            return
        try:
            sent = self._writer.send()
        except OSError:
            self._lose()
            return
        except Exception:
            self.fail_internally()
            return
        if sent is Sent.EVERYTHING and self._waits_for_socket:
            self._waits_for_socket = False
            self._loop.remove_writer(self._fd)
            if self._send_is_scheduled:
                self._loop.call_soon(self._send_scheduled)
        self._application.sent()
        if self._is_lost:  # what was received now that there is room for replies may have been its end
            return
        if sent is Sent.EVERYTHING:
            if self._ends_after_sending and not self._send_is_scheduled:
                self._half_close()
        elif not self._waits_for_socket:
            if sent is Sent.TURN_OVER:
                self.send_soon()
            else:  # until everything is out, whatever ends its turns: each change costs system calls
                self._waits_for_socket = True
                self._loop.add_writer(self._fd, self._send)

    def _half_close(self) -> None:
        """Everything is out: say so, and wait for the peer's end until `deadline`."""
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._lose()

    def _lose(self) -> None:
        if self._is_lost:
            return
        self._is_lost = True
        self._peer_watch.remove(self._fd)
        self._pause_reading()
        if self._waits_for_socket:
            self._waits_for_socket = False
            self._loop.remove_writer(self._fd)
        self._sock.close()
        self._buffer.clear()
        self._reader.close()
        if self._protocol.close_rcvd is not None and self._close_reason == "connection_lost":
            self._close_reason = "peer_closed"
        for message in self._writer.unsent_messages():
            self._application.message_dropped(message)
        self._application.lost(self._close_reason)
        self._ended(self)

    def _bytes_in_kernel(self) -> int:
        """Bytes the kernel holds that the peer has not acknowledged (SIOCOUTQ)."""
        buffer = fcntl.ioctl(self._fd, termios.TIOCOUTQ, b"\0\0\0\0")
        (nbytes,) = struct.unpack("i", buffer)
        return int(nbytes)


def _host_of(sock: socket.socket) -> str:
    try:
        name = sock.getpeername()
    except OSError:  # reset before it got here
        return ""
    return str(name[0]) if isinstance(name, tuple) else ""


def _ignore(message: bytes) -> None:
    """A message that came too late."""
