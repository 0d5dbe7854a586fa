"""What a place in line costs as lines grow: it must not. `PYTHONPATH=. python tests/bench/outbox_lines.py`."""

import time
from collections.abc import Callable

from simnode.protocol.blob import Rope
from simnode.protocol.limits import CHUNK_SIZE
from simnode.protocol.outbox import Outbox, Parcel

KEY = ("key", 0)
MESSAGE = Rope([b"x"])


def reply() -> Parcel:
    return Parcel(messages=iter((MESSAGE,)), due_bytes=1)


def pipelined(outbox: Outbox, count: int) -> None:
    """Replies about one contract, each filled in turn."""
    tickets = [outbox.open((KEY,)) for _ in range(count)]
    for ticket in tickets:
        outbox.fill(ticket, reply())


def notified_behind_a_stream(outbox: Outbox, count: int) -> None:
    """Notifications about a contract whose large state is on its way out."""
    outbox.insert(KEY, Parcel(messages=iter([MESSAGE] * 4), due_bytes=4 * CHUNK_SIZE, is_stream=True))
    for _ in range(count):
        outbox.insert(KEY, reply())


def answered_backwards(outbox: Outbox, count: int) -> None:
    """Replies of one kind about different contracts, the last one ready first."""
    tickets = [outbox.open((("key", number), ("kind", 0))) for number in range(count)]
    for ticket in reversed(tickets):
        outbox.fill(ticket, reply())


def microseconds_each(scene: Callable[[Outbox, int], None], count: int) -> float:
    outbox = Outbox()
    start = time.perf_counter()
    scene(outbox, count)
    while outbox.next_message():
        pass
    return (time.perf_counter() - start) / count * 1e6


if __name__ == "__main__":
    for scene in (pipelined, notified_behind_a_stream, answered_backwards):
        costs = ", ".join(f"{count}: {microseconds_each(scene, count):.1f} µs" for count in (1_000, 10_000, 50_000))
        print(f"{scene.__name__}: {costs}")
