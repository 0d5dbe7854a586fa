"""One client's socket. Enters: a socket. Leaves: messages to a session, bytes to the peer. Next: `session.py`.

The socket is read and written directly from the event loop's readiness callbacks: what `recv_into`
fills is parsed in place, and what `sendmsg` takes has left this process. Handshake, control frames
and close codes are the `websockets` library's (`ServerProtocol`, sans-I/O); data frames are
`frames.FrameReader`'s.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import socket
import struct
import termios
from collections.abc import Callable
from http import HTTPStatus
from typing import Protocol

from websockets.frames import CloseCode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

from simnode.live.frames import FrameReader
from simnode.live.handshake import Accepted, AccessRules, Refused, judge
from simnode.live.writer import FrameWriter, Sent
from simnode.protocol.limits import WHOLE_MESSAGE_SIZE
from simnode.protocol.outbox import OutgoingMessage
from simnode.protocol.reassembly import Sink

MAX_REQUEST_BYTES = 32 * 1024
"""Of the handshake request; the library bounds its lines and headers besides."""

SCRATCH_BYTES = WHOLE_MESSAGE_SIZE + 64 * 1024
"""What is read at once. One buffer serves all connections of a process."""

COPIED_REST_BYTES = 4096
"""The start of a frame that is no longer than this is copied to the front of the next read."""

_NOTHING = bytearray()

HANDSHAKE_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 2.0
PING_INTERVAL_S = 30.0

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

    def room_needed(self, nbytes: int) -> None:
        """Answer with `WebSocket.provide_room`; nothing is read until then."""

    def next_message(self) -> OutgoingMessage | None:
        """The next message for the peer, made now."""

    def message_sent(self, token: object) -> None:
        """The message with this token has left."""

    def sent(self) -> None:
        """The socket took what it could of what is due."""

    def lost(self, reason: str) -> None:
        """The connection is over, whoever ended it; nothing more is called. `reason` is of a closed set."""


class WebSocket:
    """The server's end of one WebSocket.

    Args:
        sock: accepted, non-blocking; owned from now on.
        scratch: the process's read buffer, `SCRATCH_BYTES` long.
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
        application: Callable[[WebSocket], Application],
        rules: AccessRules,
        max_message_bytes: int,
        now: Callable[[], float],
        ended: Callable[[WebSocket], None],
    ) -> None:
        self._sock = sock
        self._fd = sock.fileno()
        self._scratch = scratch
        self._rules = rules
        self._now = now
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._protocol = ServerProtocol(max_size=None, logger=_quiet)
        self._application = application(self)
        self._reader = FrameReader(self, max_message_bytes=max_message_bytes)
        self._writer = FrameWriter(sock, self._application.next_message, self._application.message_sent)
        #: the start of a frame, or of the request, whose rest is still to come
        self._rest = _NOTHING
        self._rest_nbytes = 0
        self._is_open = False
        self._is_lost = False
        self._is_reading = False
        self._waits_for_socket = False
        self._send_is_scheduled = False
        self._ends_after_sending = False
        self._pauses = 0
        self._close_reason = "handshake_failed"
        #: when the connection must have got further, or None
        self.deadline: float | None = now() + HANDSHAKE_TIMEOUT_S
        self._next_ping_at = now() + PING_INTERVAL_S
        #: when the peer last took bytes that were due to it
        self.progress_at = now()
        self._progress_mark = (0, 0)
        self.received_bytes = 0

    # ---- for the handler ---------------------------------------------------------------------

    def start(self) -> None:
        """Begins to read."""
        self._resume_reading()

    def send_soon(self) -> None:
        """Something is due: send it in this turn of the loop, together with what else comes due."""
        if not (self._send_is_scheduled or self._waits_for_socket or self._is_lost):
            self._send_is_scheduled = True
            self._loop.call_soon(self._send)

    def pause(self) -> None:
        """Nothing is received until the matching `resume`; calls nest."""
        self._pauses += 1
        self._reader.blocked = True

    def resume(self) -> None:
        """Undoes one `pause`; what waited in the buffer is received now."""
        self._pauses -= 1
        if not self._pauses and not self._is_lost:
            self._reader.blocked = False
            self._parse_rest()

    def provide_room(self, sink: Sink | None) -> None:
        """Answers `Application.room_needed`."""
        if self._is_lost:
            if sink is not None:
                sink.discard()
            return
        self._reader.provide_room(sink)
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
        self._ends_after_sending = True
        self._protocol.send_close(code, reason)
        self._take_protocol_output(after_everything=True)
        self.deadline = self._now() + CLOSE_TIMEOUT_S

    def abort(self, label: str) -> None:
        """Ends the connection at once. One that never opened keeps its own reason: refusals have other labels."""
        if self._is_open:
            self._close_reason = label
        self._lose()

    def check(self, now: float, *, progress_timeout_s: float) -> None:
        """Pings, and ends a connection that is too late; call it every second or so.

        A peer is judged by the bytes it takes of what is due to it, as seen by the kernel, never by
        a missing pong: the reference client does not pong while its program is not in `recv`.
        """
        if self._is_lost:
            return
        if self.deadline is not None and now >= self.deadline:
            self.abort(self._close_reason)
            return
        in_kernel = self._bytes_in_kernel()
        mark = (self._writer.sent_bytes, in_kernel)
        if mark != self._progress_mark or (not in_kernel and not self._writer.unsent_bytes):
            self._progress_mark = mark
            self.progress_at = now
        elif now - self.progress_at >= progress_timeout_s:
            self.abort("stalled")
            return
        if self._is_open and now >= self._next_ping_at and self._protocol.state is State.OPEN:
            self._next_ping_at = now + PING_INTERVAL_S
            self._protocol.send_ping(b"")
            self._take_protocol_output()

    @property
    def unsent_bytes(self) -> int:
        """Bytes handed out by the application that the socket has not taken."""
        return self._writer.unsent_bytes

    # ---- reading -----------------------------------------------------------------------------

    def _on_readable(self) -> None:
        # what was begun is short: read on behind a copy of it; else read just its rest behind it,
        # so that the next frame starts in the scratch and little is ever moved
        view, filled = self._scratch, self._rest_nbytes
        if filled > COPIED_REST_BYTES:
            view = memoryview(self._rest)
        elif filled:
            view[:filled] = memoryview(self._rest)[:filled]
        try:
            nbytes = self._sock.recv_into(view[filled:])
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._lose()
            return
        if nbytes == 0:
            self._lose()
            return
        self.received_bytes += nbytes
        self._take(view, filled + nbytes)

    def _fail_internally(self) -> None:
        """A bug of ours ends this connection and no other."""
        logger.exception("a connection failed")
        self._reader.close()
        if self._is_open and self._protocol.state is State.OPEN:
            self.close(CloseCode.INTERNAL_ERROR, "internal error", label="internal_error")
        else:
            self.abort("internal_error")

    def _parse_rest(self) -> None:
        self._take(memoryview(self._rest), self._rest_nbytes)
        if not self._is_lost and not self._pauses:
            self._resume_reading()

    def _take(self, view: memoryview, stop: int) -> None:
        start = 0
        try:
            if not self._is_open:
                start = self._take_request(view, stop)
            if self._is_open and not self._is_lost:
                start = self._reader.feed(view, start, stop)
        except Exception:
            self._fail_internally()
            start = stop
        if self._is_lost:
            return
        self._keep_rest(view[start:stop])
        if self._pauses:
            self._pause_reading()

    def _keep_rest(self, rest: memoryview) -> None:
        nbytes = len(rest)
        if not nbytes:
            self._rest, self._rest_nbytes = _NOTHING, 0
            return
        wanted = max(nbytes, self._reader.wanted if self._is_open else MAX_REQUEST_BYTES)
        if rest.obj is not self._rest or nbytes != self._rest_nbytes or wanted > len(self._rest):
            kept = bytearray(wanted)
            kept[:nbytes] = rest
            self._rest, self._rest_nbytes = kept, nbytes

    def _take_request(self, view: memoryview, stop: int) -> int:
        head = bytes(view[: min(stop, MAX_REQUEST_BYTES)])
        end = head.find(b"\r\n\r\n")
        if end < 0:
            if stop >= MAX_REQUEST_BYTES:
                self._reply(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the request is too large\n")
                return stop
            return 0
        # the library gets the request alone: it would take the frames behind it, too
        self._protocol.receive_data(head[: end + 4])
        events = self._protocol.events_received()
        if not events:
            self._answer_no_request()
            return stop
        request = events[0]
        assert isinstance(request, Request)
        self._answer_request(request)
        return end + 4 if self._is_open else stop

    def _answer_no_request(self) -> None:
        """The library has judged these bytes, and answered them if they were too long for it."""
        if not any(self._take_protocol_output()):
            reply = self._protocol.reject(HTTPStatus.BAD_REQUEST, f"{self._protocol.handshake_exc}\n")
            self._writer.add_control(reply.serialize())
        self._end_after_reply()

    def _answer_request(self, request: Request) -> None:
        verdict = judge(request, self._rules)
        if isinstance(verdict, Refused):
            self._close_reason = verdict.label
            self._reply(verdict.status, verdict.text)
            return
        response = self._protocol.accept(request)
        self._protocol.send_response(response)
        self._take_protocol_output()
        if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            self._end_after_reply()
            return
        self._is_open = True
        self._close_reason = "connection_lost"
        self.deadline = None
        self._application.opened(verdict)

    def _reply(self, status: HTTPStatus, text: str) -> None:
        response = self._protocol.reject(status, text)
        if status is HTTPStatus.UPGRADE_REQUIRED:
            response.headers["Upgrade"] = "websocket"
        self._protocol.send_response(response)
        self._take_protocol_output()
        self._end_after_reply()

    def _end_after_reply(self) -> None:
        self._ends_after_sending = True
        self.deadline = self._now() + CLOSE_TIMEOUT_S
        self.send_soon()

    def _resume_reading(self) -> None:
        if not self._is_reading and not self._is_lost:
            self._is_reading = True
            self._loop.add_reader(self._fd, self._on_readable)

    def _pause_reading(self) -> None:
        if self._is_reading:
            self._is_reading = False
            self._loop.remove_reader(self._fd)

    # ---- frames.FrameEvents ------------------------------------------------------------------

    def message_received(self, message: bytes) -> None:
        if not self._ends_after_sending:
            self._application.message_received(message)

    def large_message_received(self, sink: Sink, nbytes: int) -> None:
        if self._ends_after_sending:
            sink.discard()
        else:
            self._application.large_message_received(sink, nbytes)

    def large_message_discarded(self, nbytes: int) -> None:
        if not self._ends_after_sending:
            self._application.large_message_discarded(nbytes)

    def room_needed(self, nbytes: int) -> None:
        self._pauses += 1
        self._application.room_needed(nbytes)

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

    def _take_protocol_output(self, *, after_everything: bool = False) -> list[bytes]:
        output = self._protocol.data_to_send()
        for data in output:
            if data == b"":
                self._writer.end_data()
                self._ends_after_sending = True
                if self.deadline is None:
                    self.deadline = self._now() + CLOSE_TIMEOUT_S
            elif after_everything:
                self._writer.add_last(data)
            else:
                self._writer.add_control(data)
        self.send_soon()
        return output

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
            self._fail_internally()
            return
        self._application.sent()
        if self._is_lost:  # what was received now that there is room for replies may have been its end
            return
        if sent is Sent.BLOCKED:
            if not self._waits_for_socket:
                self._waits_for_socket = True
                self._loop.add_writer(self._fd, self._on_writable)
            return
        if self._waits_for_socket:
            self._waits_for_socket = False
            self._loop.remove_writer(self._fd)
        if sent is Sent.TURN_OVER:
            self.send_soon()
        elif self._ends_after_sending:
            self._half_close()

    def _on_writable(self) -> None:
        self._send()

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
        self._pause_reading()
        if self._waits_for_socket:
            self._waits_for_socket = False
            self._loop.remove_writer(self._fd)
        self._sock.close()
        self._rest, self._rest_nbytes = _NOTHING, 0
        self._reader.close()
        if self._protocol.close_rcvd is not None and self._close_reason == "connection_lost":
            self._close_reason = "peer_closed"
        for token in self._writer.tokens():
            self._application.message_sent(token)
        self._application.lost(self._close_reason)
        self._ended(self)

    def _bytes_in_kernel(self) -> int:
        """Bytes the kernel holds that the peer has not acknowledged (SIOCOUTQ)."""
        buffer = fcntl.ioctl(self._fd, termios.TIOCOUTQ, b"\0\0\0\0")
        (nbytes,) = struct.unpack("i", buffer)
        return int(nbytes)
