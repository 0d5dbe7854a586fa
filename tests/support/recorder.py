"""An application on top of a WebSocket that writes down what it is told. Enters: calls. Leaves: lists."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from simnode.live.sockets.handshake import Accepted
from simnode.live.sockets.websocket import WebSocket
from simnode.protocol.outbox import OutgoingMessage
from simnode.protocol.reassembly import HeapSink, Sink


@dataclass
class Recorder:
    """Gives every large message room at once; a test that wants more overrides it.

    Attributes:
        due: what it has to send, in order.
    """

    opened_with: Accepted | None = None
    messages: list[bytes] = field(default_factory=list)
    due: deque[OutgoingMessage] = field(default_factory=deque)
    lost_because: str | None = None
    websocket: WebSocket | None = None

    def opened(self, accepted: Accepted) -> None:
        self.opened_with = accepted

    def message_received(self, message: bytes) -> None:
        self.messages.append(message)

    def large_message_received(self, sink: Sink, nbytes: int) -> None:
        self.messages.append(bytes(sink.finish(nbytes)))

    def large_message_discarded(self, nbytes: int) -> None:
        raise AssertionError("there was room")

    def room_needed(self, nbytes: int, sink: Sink | None) -> None:
        assert self.websocket is not None
        self.websocket.provide_room(HeapSink(nbytes))

    def next_message(self) -> OutgoingMessage | None:
        return self.due.popleft() if self.due else None

    def message_begun(self, stamp: object) -> None:
        raise AssertionError("no message has a stamp")

    def message_sent(self, message: OutgoingMessage) -> None:
        """Nothing is held."""

    def message_dropped(self, message: OutgoingMessage) -> None:
        self.message_sent(message)

    def sent(self) -> None:
        """Nothing to do."""

    def lost(self, reason: str) -> None:
        assert self.lost_because is None
        self.lost_because = reason
