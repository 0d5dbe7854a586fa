"""Lines that repeat are counted: no fault floods the log, and no line goes uncounted."""

from __future__ import annotations

import gc
import json
import logging
import re
import weakref
from collections.abc import Iterator

import pytest

from simnode.live.logs import MAX_KINDS, REPEAT_INTERVAL_S, RepeatCounter, formatter

MORE = re.compile(r" … (\d+) times more$")


class Lines(logging.Handler):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


class World:
    """A logger, a counter behind it, and a clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.written = Lines()
        self.counter = RepeatCounter(self.written, now=lambda: self.now)
        self.logger = logging.Logger("simnode.test")
        self.logger.addHandler(self.counter)

    @property
    def lines(self) -> list[str]:
        return self.written.lines

    def counted(self) -> int:
        """How many records the written lines stand for."""
        more = [MORE.search(line) for line in self.lines]
        return sum(int(match[1]) if match else 1 for match in more)


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.counter.close()


def test_line_a_millisecond_is_written_once_an_interval_and_each_is_counted(world: World) -> None:
    for number in range(60_000):
        world.now = number / 1000
        world.logger.error("a batch of %d writes failed: %s", number, "no space")
    assert len(world.lines) <= 1 + 60 / REPEAT_INTERVAL_S
    world.counter.stop()
    assert world.counted() == 60_000
    assert world.lines[0] == "a batch of 0 writes failed: no space"
    assert world.lines[-1].startswith("a batch of 59999 writes failed: no space … ")


def test_first_line_of_each_kind_is_written_at_once(world: World) -> None:
    other = logging.Logger("simnode.other")
    other.addHandler(world.counter)
    for _ in range(2):
        world.logger.error("one")
        world.logger.warning("one")
        world.logger.error("two")
        other.error("one")
    assert world.lines == ["one", "one", "two", "one"]


def test_another_exception_is_another_kind(world: World) -> None:
    for error in (ValueError("a"), KeyError("b"), ValueError("c")):
        try:
            raise error
        except Exception:
            world.logger.exception("a connection failed")
    assert [line.splitlines()[-1] for line in world.lines] == ["ValueError: a", "KeyError: 'b'"]


def test_what_was_counted_is_written_when_its_time_has_come_though_nothing_more_is_logged(world: World) -> None:
    for _ in range(3):
        world.logger.error("out of descriptors")
    world.now = REPEAT_INTERVAL_S - 0.1
    world.counter.write_due()
    assert len(world.lines) == 1
    world.now = REPEAT_INTERVAL_S
    world.counter.write_due()
    assert world.lines[1:] == ["out of descriptors … 2 times more"]


def test_line_that_comes_again_after_a_quiet_interval_is_a_first_one(world: World) -> None:
    for now in (0.0, REPEAT_INTERVAL_S, 3 * REPEAT_INTERVAL_S):
        world.now = now
        world.logger.error("now and then")
    assert world.lines == ["now and then"] * 3


def test_kinds_without_number_take_a_bounded_memory_and_each_line_counts(world: World) -> None:
    """`asyncio` puts addresses into its texts, so each of them is a kind."""
    for number in range(2 * MAX_KINDS):
        for _ in range(2):
            world.logger.error(f"callback at {number:#x} failed")  # noqa: G004
    assert len(world.counter._kinds) == MAX_KINDS
    world.counter.stop()
    assert world.counted() == 4 * MAX_KINDS


def test_nothing_that_a_counted_record_refers_to_is_kept_alive(world: World) -> None:
    """A traceback refers to frames, and they to leases: their memory would be in use until the line is written."""

    class Room:
        pass

    def fail() -> weakref.ref[Room]:
        room = Room()
        try:
            raise ValueError(room)
        except ValueError:
            world.logger.exception("failed in %s", room)
        return weakref.ref(room)

    gc.disable()
    try:
        assert [fail()(), fail()()] == [None, None]
    finally:
        gc.enable()


def test_record_whose_arguments_do_not_fit_is_counted_and_raises_nothing(world: World) -> None:
    world.written.handleError = lambda record: None  # type: ignore[method-assign]
    world.written.emit = lambda record: world.lines.append(str(record.msg))  # type: ignore[method-assign]
    for _ in range(2):
        world.logger.error("%d of %d", 1)
    world.counter.stop()
    assert world.lines[-1].endswith("1 times more")


def test_counted_line_is_json_where_lines_are(world: World) -> None:
    world.written.setFormatter(formatter("store", as_json=True))
    for _ in range(3):
        world.logger.error("no room for %s", "x")
    world.counter.stop()
    assert [json.loads(line)["message"] for line in world.lines] == ["no room for x", "no room for x … 2 times more"]
