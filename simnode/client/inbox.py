"""What arrived and was not taken yet. Enters: results, streams and notifications. Leaves: the same. Next: `streams.py`.

Three queues with three rules about memory:

- *owed* results answer the user's own `send()`: never dropped; while many of their bytes lie
  here unread, the session stops reading (see `session.py`);
- *notifications* come unasked, so they get `max_notification_bytes` and no more. When a new one
  does not fit, the oldest lose their content: a later State of the same contract takes over (`gap`
  says that something is missing before it), or else an empty notification stays in its place.
  So the user always learns that a contract changed, and memory stays bounded however slow he is;
- *unsolicited* results that answer nobody: the newest `MAX_UNSOLICITED` are kept for `recv()`.

What the notifications of one contract promise: each delta changes the state that the notifications
before it lead to. Once versions may be missing (the connection was lost, content was dropped), the
contract is *broken off*: its deltas are dropped until a whole State has come. The user is told with
an empty notification, and if deltas were dropped, the State is asked for (`next_stale`) when he has
taken that. Every method is called in the order in which things arrived on the wire.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from simnode.client.exceptions import ClientError
from simnode.client.streams import ResponseStream
from simnode.protocol.blob import Blob
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
            restored and changes made meanwhile are unknown: `get()` the state to be current now. The next
            update of this contract is a whole `State` in any case.
        gap: earlier updates of this contract may be missing. It is never set with a delta: a delta
            changes the state that the earlier notifications lead to.
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


@dataclass(slots=True)
class _Break:
    """Versions of a contract may be missing, so a delta can no longer be applied.

    Attributes:
        is_announced: whether the user was told, or will be when he takes what lies here.
        is_stale: whether a delta was dropped since, so that only a State of ours makes it current.
    """

    is_announced: bool = False
    is_stale: bool = False


Owed = HostResult | ResponseStream | ClientError


def _ignore() -> None:
    """Until somebody wants to know."""


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
        #: contracts whose deltas are dropped until a State comes, by instance id
        self._broken: dict[bytes, _Break] = {}
        #: broken contracts whose State is to be asked for, in the order in which that became so
        self._stale: OrderedDict[bytes, None] = OrderedDict()
        #: the State that was asked for last, while it lies here: one at a time, or they would evict each other
        self._refetched: _Note | None = None
        #: called when `next_stale` may have something
        self.on_stale: Callable[[], None] = _ignore
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
        broken = self._broken.get(message.key.instance) if self._broken else None
        if broken is None:
            self._put_note(_Note(message.key, message.update, False, nbytes, self._take_number()))
        elif isinstance(message.update, State):
            self._put_state(message.key, message.update, nbytes)
        else:
            broken.is_stale = True
            if not broken.is_announced:
                self._announce(message.key, broken)
            self._ask_if_stale(message.key.instance)

    def break_off(self, instances: Iterable[bytes]) -> None:
        """The connection is gone: changes of these contracts are missed until they are subscribed to again.

        What came before stays. The user is told by `subscribed`, or with the next change.
        """
        for instance in instances:
            self._broken[instance] = _Break()
            self._stale.pop(instance, None)

    def subscribed(self, key: ContractKey) -> None:
        """The node confirmed a subscription: from here on no change is missed."""
        broken = self._broken.get(key.instance)
        if broken is not None and not broken.is_announced:
            self._announce(key, broken)

    def next_stale(self) -> bytes | None:
        """A contract whose State is to be asked for and given to `put_refetched`; None when there is none."""
        if self._refetched is not None or not self._stale:
            return None
        return self._stale.popitem(last=False)[0]

    def put_refetched(self, key: ContractKey, state: Blob, nbytes: int) -> None:
        """The State that `next_stale` asked for: later deltas change it."""
        if key.instance in self._broken:  # else a State came by itself
            self._refetched = self._put_state(key, State(state=state), nbytes)

    def not_refetched(self, instance: bytes) -> None:
        """The State that `next_stale` asked for could not be had; it is asked for again."""
        self._ask_if_stale(instance)

    def take_notification(self) -> Notification | None:
        """The oldest notification; None when there is none."""
        if not self._notes:
            return None
        note = next(iter(self._notes.values()))
        self._remove_note(note)
        if self._broken:
            self._ask_if_stale(note.key.instance)
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
            for note in line:
                assert not note.gap or note.update is None or isinstance(note.update, State), "no delta bridges a gap"
                assert note.update is not None or note.key.instance in self._broken
        for instance in self._stale:
            assert self._broken[instance].is_stale
            assert instance not in self._lines

    # ---- inside ------------------------------------------------------------------------------

    def _take_number(self) -> int:
        number = self._next_number
        self._next_number += 1
        return number

    def _put_note(self, note: _Note) -> None:
        self._lines.setdefault(note.key.instance, deque()).append(note)
        self._notes[note.number] = note
        if note.update is not None:
            self._full[note.number] = note
        self.notification_bytes += note.nbytes
        while self.notification_bytes > self._max_notification_bytes and len(self._full) > 1:
            self._empty(next(iter(self._full.values())))

    def _put_state(self, key: ContractKey, state: State, nbytes: int) -> _Note:
        """A whole State of a contract that is broken off: it is followed again."""
        del self._broken[key.instance]
        self._stale.pop(key.instance, None)
        self._drop([note for note in self._lines.get(key.instance, ()) if note.update is None])
        note = _Note(key, state, True, nbytes, self._take_number())
        self._put_note(note)
        return note

    def _announce(self, key: ContractKey, broken: _Break) -> None:
        """An empty note in place of all that lie here of this contract: they lead to no state that counts."""
        broken.is_announced = True
        self._drop(list(self._lines.get(key.instance, ())))
        self._put_note(_Note(key, None, True, 0, self._take_number()))

    def _empty(self, note: _Note) -> None:
        """Makes room: this note goes, and with it the deltas up to the next State, which takes over."""
        _, *later = self._lines[note.key.instance]
        after = next((at for at, other in enumerate(later) if isinstance(other.update, State)), len(later))
        self._drop(later[:after])
        if after < len(later):
            later[after].gap = True
            self._drop([note])
            return
        self.notification_bytes -= note.nbytes
        note.update, note.gap, note.nbytes = None, True, 0
        del self._full[note.number]
        self._forget_refetched(note)
        if note.key.instance not in self._broken:  # else the connection was lost, and `subscribed` is to come
            self._broken[note.key.instance] = _Break(is_announced=True, is_stale=after > 0)

    def _ask_if_stale(self, instance: bytes) -> None:
        """Asks for the State once the user has taken all that lies here of the contract: he may be slow."""
        broken = self._broken.get(instance)
        if broken is not None and broken.is_stale and instance not in self._lines:
            self._stale[instance] = None
            self.on_stale()

    def _drop(self, notes: Iterable[_Note]) -> None:
        for note in notes:
            self._remove_note(note)

    def _remove_note(self, note: _Note) -> None:
        del self._notes[note.number]
        self._full.pop(note.number, None)
        self.notification_bytes -= note.nbytes
        line = self._lines[note.key.instance]
        line.remove(note)
        if not line:
            del self._lines[note.key.instance]
        self._forget_refetched(note)

    def _forget_refetched(self, note: _Note) -> None:
        if note is self._refetched:
            self._refetched = None
            self.on_stale()
