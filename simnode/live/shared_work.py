"""Work that many ask for, done once. Enters: keys. Leaves: results, to all. Next: `handlers/reports.py`.

An asker is given the result of work that began after the question, so whatever the asker did before
is in it. Only a result that was dear is kept for a while, and given to those who ask later, too.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Awaitable, Callable, Hashable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import TracebackType
from typing import Generic, TypeVar

from simnode.live.slices import Slices

Result = TypeVar("Result")

GIVEN_AT_ONCE = 32
"""Askers who are given a result in one turn of the loop: each may take some 20 µs."""

TURN_POLL_S = 0.02


class NodeTurn:
    """One at a time over all processes of a node, by a lock that a dead process lets go of.

    Args:
        path: of the lock's file, which is made if need be.
    """

    def __init__(self, path: Path) -> None:
        # opened once, so that a process without descriptors left can still take its turn
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._here = asyncio.Lock()

    async def __aenter__(self) -> None:
        await self._here.acquire()
        try:
            while not _locked(self._descriptor):  # noqa: ASYNC110  # nothing tells when another process lets go
                await asyncio.sleep(TURN_POLL_S)
        except BaseException:
            self._here.release()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        self._here.release()

    def close(self) -> None:
        """Lets go for good."""
        os.close(self._descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class Waiter(Generic[Result]):
    """Somebody who asked.

    Args:
        give: is called once with the result, unless `cancel` comes first.
    """

    __slots__ = ("_job", "give")

    def __init__(self, give: Callable[[Result], None], job: _Job[Result]) -> None:
        self.give = give
        self._job = job
        job.waiters[self] = None

    def cancel(self) -> None:
        """Wants the result no more; work that nobody wants ends. Nothing happens if it was given already."""
        waiters = self._job.waiters
        if self in waiters:
            del waiters[self]
            if not waiters:
                self._job.abandon()


class _Job(Generic[Result]):
    def __init__(self, forget: Callable[[_Job[Result]], None]) -> None:
        #: in the order in which they asked
        self.waiters: dict[Waiter[Result], None] = {}
        self.task: asyncio.Task[None] | None = None
        self._forget = forget

    def abandon(self) -> None:
        self._forget(self)  # at once, so that nobody joins it
        if self.task is not None:
            self.task.cancel()


class SharedWork(Generic[Result]):
    """Does work once for all who ask for it before it begins, and keeps what was dear for those who come later.

    Args:
        max_age_s: how long a kept result is given to those who ask, in seconds from when it was made.
        weigh: bytes of a result that is dear enough to be kept; 0 for any other.
        max_kept_bytes: of all kept results; the oldest make room.
        now: the monotonic clock, in seconds.
    """

    def __init__(
        self,
        *,
        max_age_s: float,
        weigh: Callable[[Result], int],
        max_kept_bytes: int,
        now: Callable[[], float],
    ) -> None:
        self._max_age_s = max_age_s
        self._weigh = weigh
        self._max_kept_bytes = max_kept_bytes
        self._now = now
        #: work that has not begun
        self._due: dict[Hashable, _Job[Result]] = {}
        #: when each was made, and the result; the oldest first
        self._kept: dict[Hashable, tuple[float, Result]] = {}
        #: always the sum of their weights
        self.kept_bytes = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def ask(
        self,
        key: Hashable,
        make: Callable[[], Awaitable[Result]],
        turn: AbstractAsyncContextManager[None],
        give: Callable[[Result], None],
    ) -> Waiter[Result]:
        """Asks for a result.

        Args:
            key: of the work; whoever asks with the same one shares it.
            make: does the work; raises nothing.
            turn: is entered while the work is done.
            give: is called with the result, in a later turn of the loop.
        """
        job = self._due.get(key)
        if job is None:
            job = self._due[key] = _Job(lambda job: self._begun(key, job))
            task = asyncio.get_running_loop().create_task(self._do(key, job, make, turn))
            job.task = task
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return Waiter(give, job)

    def forget_old(self) -> None:
        """Drops results that are too old to be given to anybody; call it now and then."""
        for key in [key for key in self._kept if self._young(key) is None]:
            self._drop(key)

    async def close(self) -> None:
        """Ends all work; whoever waits is given nothing."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _do(
        self,
        key: Hashable,
        job: _Job[Result],
        make: Callable[[], Awaitable[Result]],
        turn: AbstractAsyncContextManager[None],
    ) -> None:
        try:
            kept = self._young(key)
            if kept is None:
                async with turn:
                    kept = self._young(key)  # what was under way when this was asked for
                    if kept is None:
                        kept = await self._make(key, job, make)
        finally:
            self._begun(key, job)
        await _give(job, kept)

    async def _make(self, key: Hashable, job: _Job[Result], make: Callable[[], Awaitable[Result]]) -> Result:
        self._begun(key, job)
        result = await make()
        self._keep(key, result)
        return result

    def _keep(self, key: Hashable, result: Result) -> None:
        if key in self._kept:
            self._drop(key)
        nbytes = self._weigh(result)
        if 0 < nbytes <= self._max_kept_bytes:
            while self.kept_bytes + nbytes > self._max_kept_bytes:
                self._drop(next(iter(self._kept)))
            self._kept[key] = (self._now(), result)
            self.kept_bytes += nbytes

    def _drop(self, key: Hashable) -> None:
        _, result = self._kept.pop(key)
        self.kept_bytes -= self._weigh(result)

    def _begun(self, key: Hashable, job: _Job[Result]) -> None:
        """Nobody joins it any more."""
        if self._due.get(key) is job:
            del self._due[key]

    def _young(self, key: Hashable) -> Result | None:
        made_at, result = self._kept.get(key, (0.0, None))
        return result if result is not None and self._now() - made_at < self._max_age_s else None


async def _give(job: _Job[Result], result: Result) -> None:
    """To everybody, in turns, because each may do something with it."""
    slices = Slices()
    given = 0
    while job.waiters:
        waiter = next(iter(job.waiters))
        del job.waiters[waiter]
        waiter.give(result)
        given += 1
        if given % GIVEN_AT_ONCE:
            await slices.step_done()
        else:
            await slices.next_turn()
