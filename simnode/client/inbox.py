"""What arrived and was not taken yet. Enters: results, streams and notifications. Leaves: the same. Next: `streams.py`.

Three queues with three rules about memory:

- *owed* results answer the user's own `send()`: never dropped; while many of their bytes lie
  here unread, the session stops reading (see `session.py`);
- *notifications* come unasked, so they get `max_notification_bytes` and no more. When a new one
  does not fit, the oldest lose their content: a later notification of the same contract takes
  over (`gap` says that something is missing before it), or else an empty one stays in its place.
  So the user always learns that a contract changed, and memory stays bounded however slow he is;
- *unsolicited* results that answer nobody: the newest `MAX_UNSOLICITED` are kept for `recv()`.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass

from simnode.client.exceptions import ClientError
from simnode.client.streams import ResponseStream
from simnode.protocol.limits import MIB
from simnode.protocol.messages.contracts import ContractKey, State, UpdateData
from simnode.protocol.messages.responses import HostResult, UpdateNotification

MAX_UNSOLICITED = 64
"""Results that nobody asked for, kept for `recv()`; a program that never calls it loses the oldest."""

DEFAULT_NOTIFICATION_BYTES = 64 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """A contract changed.

    Attributes:
        key: which.
        update: how; None when the content was dropped for lack of room, or when the connection was
            restored and nobody knows what happened meanwhile: `get()` the state to be current.
        gap: earlier updates of this contract may be missing. Harmless before a whole `State`.
    """

    key: ContractKey
    update: UpdateData | None
    gap: bool = False

    @property
    def is_current(self) -> bool:
        """Whether somebody who applied all notifications so far, and this one, has the newest state."""
        return isinstance(self.update, State) or (self.update is not None and not self.gap)


@dataclass(slots=True, eq=False)
class _Note:
    key: ContractKey
    update: UpdateData | None
    gap: bool
    nbytes: int
    number: int


Owed = HostResult | ResponseStream | ClientError


class Inbox:
    """Everything that waits for the user, over all connections of one client.

    Args:
        max_notification_bytes: what the notifications may hold; a single larger one is still kept.
    """

    def __init__(self, max_notification_bytes: int = DEFAULT_NOTIFICATION_BYTES) -> None:
        self._max_notification_bytes = max_notification_bytes
        #: (number, result, bytes)
        self._owed: deque[tuple[int, Owed, int]] = deque()
        self._unsolicited: deque[tuple[int, HostResult]] = deque(maxlen=MAX_UNSOLICITED)
        #: by number, hence oldest first
        self._notes: OrderedDict[int, _Note] = OrderedDict()
        #: those of them that have content
        self._full: OrderedDict[int, _Note] = OrderedDict()
        #: all by instance id, oldest first; only the last one of a line can be empty, and then it is alone
        self._lines: dict[bytes, deque[_Note]] = {}
        self._next_number = 0
        #: bytes of the owed results; a stream counts its own
        self.owed_bytes = 0
        #: bytes of the messages that the notifications keep alive
        self.notification_bytes = 0
        #: coroutines that wait in `recv()` or `recv_stream()`
        self.receivers = 0

    def put_owed(self, result: Owed, nbytes: int = 0) -> None:
        """The answer to a request of `send()`, or why there is none."""
        self._owed.append((self._take_number(), result, nbytes))
        self.owed_bytes += nbytes

    def put_unsolicited(self, result: HostResult) -> None:
        """A result that answers nobody."""
        self._unsolicited.append((self._take_number(), result))

    def put_notification(self, message: UpdateNotification, nbytes: int) -> None:
        """A contract changed; `nbytes` is what the whole message holds in memory."""
        self._put_note(_Note(message.key, message.update, False, nbytes, self._take_number()))

    def put_gap(self, key: ContractKey) -> None:
        """A contract may have changed, nobody knows how often."""
        self._put_note(_Note(key, None, True, 0, self._take_number()))

    def take_notification(self) -> Notification | None:
        """The oldest notification; None when there is none."""
        if not self._notes:
            return None
        note = next(iter(self._notes.values()))
        self._remove_note(note)
        return Notification(key=note.key, update=note.update, gap=note.gap)

    def take_stream(self) -> ResponseStream | None:
        """The oldest announced stream, past everything else."""
        for at, (_, result, _) in enumerate(self._owed):
            if isinstance(result, ResponseStream):
                del self._owed[at]
                return result
        return None

    def take(self) -> Owed | Notification | None:
        """Whatever came first."""
        owed = self._owed[0][0] if self._owed else None
        unsolicited = self._unsolicited[0][0] if self._unsolicited else None
        noted = next(iter(self._notes)) if self._notes else None
        first = min((number for number in (owed, unsolicited, noted) if number is not None), default=None)
        if first is None:
            return None
        if first == noted:
            return self.take_notification()
        if first == unsolicited:
            return self._unsolicited.popleft()[1]
        _, result, nbytes = self._owed.popleft()
        self.owed_bytes -= nbytes
        return result

    def check_invariants(self) -> None:
        """Asserts what the attributes promise; for tests."""
        assert self.notification_bytes == sum(note.nbytes for note in self._notes.values())
        assert self.owed_bytes == sum(nbytes for _, _, nbytes in self._owed)
        assert sorted(self._notes) == sorted(note.number for line in self._lines.values() for note in line)
        assert list(self._full) == [number for number, note in self._notes.items() if note.update is not None]
        for line in self._lines.values():
            assert line, "an empty line is forgotten"
            assert len(line) == 1 or all(note.update is not None for note in line)

    # ---- inside ------------------------------------------------------------------------------

    def _take_number(self) -> int:
        number = self._next_number
        self._next_number += 1
        return number

    def _put_note(self, note: _Note) -> None:
        line = self._lines.setdefault(note.key.instance, deque())
        if note.update is None:
            superseded = list(line)  # whoever gets the state anew needs nothing older
        else:
            superseded = [older for older in list(line)[-1:] if older.update is None]
        for older in superseded:
            note.gap = True
            self._remove_note(older)
        self._lines.setdefault(note.key.instance, line).append(note)
        self._notes[note.number] = note
        if note.update is not None:
            self._full[note.number] = note
        self.notification_bytes += note.nbytes
        while self.notification_bytes > self._max_notification_bytes and len(self._full) > 1:
            self._empty(next(iter(self._full.values())))

    def _empty(self, note: _Note) -> None:
        line = self._lines[note.key.instance]
        if len(line) > 1:
            line[1].gap = True
            self._remove_note(note)
        else:
            self.notification_bytes -= note.nbytes
            note.update, note.gap, note.nbytes = None, True, 0
            del self._full[note.number]

    def _remove_note(self, note: _Note) -> None:
        del self._notes[note.number]
        self._full.pop(note.number, None)
        self.notification_bytes -= note.nbytes
        line = self._lines[note.key.instance]
        line.remove(note)
        if not line:
            del self._lines[note.key.instance]
