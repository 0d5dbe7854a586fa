"""Whatever a connection, a node and a slow program do, a delta meets the state that it changes."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from simnode.client.inbox import Inbox, Notification
from simnode.protocol.blob import Blob
from simnode.protocol.messages.contracts import ContractKey, Delta, State
from simnode.protocol.messages.responses import UpdateNotification

KEYS = tuple(ContractKey(name * 32, b"c" * 32) for name in (b"a", b"b"))

STEPS = ("delta", "state", "delta", "lose", "connect", "confirm", "take", "take", "ask", "answer", "fail")


class World:
    """A node with two contracts that grow a byte at a time, one client and the program behind it."""

    def __init__(self, room: int) -> None:
        self.inbox = Inbox(max_notification_bytes=room)
        self.states = dict.fromkeys(KEYS, b"")
        #: those of the connection, confirmed or not
        self.subscribed = set(KEYS)
        #: what the program made of its notifications; None after a gap
        self.followed: dict[ContractKey, bytes | None] = dict.fromkeys(KEYS, b"")
        self.asked: bytes | None = None
        self.writes = 0

    def step(self, name: str, key: ContractKey) -> None:
        match name:
            case "delta" | "state":
                self.write(key, as_delta=name == "delta")
            case "lose":
                self.subscribed.clear()
                self.asked = None
                self.inbox.break_off([key.instance for key in KEYS])
            case "connect":  # the subscription holds, its confirmation may be behind notifications
                self.subscribed.add(key)
            case "confirm":
                self.subscribed.add(key)
                self.inbox.subscribed(key)
            case "take":
                self.take()
            case "ask":
                self.asked = self.inbox.next_stale() if self.asked is None else self.asked
            case "fail":
                if self.asked is not None:
                    self.inbox.not_refetched(self.asked)
                    self.asked = None
            case "answer":
                self.answer()
        self.inbox.check_invariants()

    def write(self, key: ContractKey, *, as_delta: bool) -> None:
        self.writes += 1
        delta = bytes([self.writes % 256])
        self.states[key] += delta
        if key in self.subscribed:
            update = Delta(delta=Blob(delta)) if as_delta else State(state=Blob(self.states[key]))
            self.inbox.put_notification(UpdateNotification(key=key, update=update), 1 if as_delta else 10)

    def answer(self) -> None:
        if self.asked is not None:
            (key,) = (key for key in KEYS if key.instance == self.asked)
            assert key in self.subscribed, "what changes before the subscription would be missing"
            self.inbox.put_refetched(key, Blob(self.states[key]), 10)
            self.asked = None

    def take(self) -> bool:
        note = self.inbox.take_notification()
        if note is not None:
            self.apply(note)
        return note is not None

    def catch_up(self) -> None:
        """The program takes all there is, and what is asked for is answered."""
        while self.take():
            pass
        self.step("ask", KEYS[0])
        if self.asked is not None:
            self.step("answer", KEYS[0])
            self.catch_up()

    def apply(self, note: Notification) -> None:
        match note.update:
            case State(state=state):
                self.followed[note.key] = bytes(state)
            case Delta(delta=delta):
                followed = self.followed[note.key]
                assert followed is not None, "a delta came after a gap"
                assert not note.gap
                assert self.states[note.key].startswith(followed + bytes(delta)), "a delta to another state"
                self.followed[note.key] = followed + bytes(delta)
            case None:
                assert note.gap
                self.followed[note.key] = None


@settings(max_examples=1000)
@given(
    room=st.integers(min_value=1, max_value=30),
    steps=st.lists(st.tuples(st.sampled_from(STEPS), st.sampled_from(KEYS)), max_size=60),
)
def test_each_delta_changes_the_state_that_the_program_has(room: int, steps: list[tuple[str, ContractKey]]) -> None:
    world = World(room)
    for name, key in steps:
        world.step(name, key)
    # and once the program has kept up with one more change of each, it is current
    for key in KEYS:
        world.step("confirm", key)
    world.step("fail", KEYS[0])
    for key in KEYS:
        world.step("delta", key)
        world.catch_up()
    assert world.followed == world.states
