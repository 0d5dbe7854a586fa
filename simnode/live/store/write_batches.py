"""The only writer of the index. Enters: writes, by reference. Leaves: committed rows, answers. Next: `store.py`.

The writes of one turn of the event loop, or those that came while a batch was under way, are the
next batch (group commit). A batch is *placed* first, each payload where it will stay, and then
committed in one transaction; after that, and in this order, handlers with subscribers are told,
the writers are answered, and what the old rows referred to is retired.

Writes of one subject are placed in the order in which they came; those of different subjects wait
for the reassembly service and for disks side by side.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

from simnode.live.link import Link, LinkClient, LinkLost, LinkRefusal
from simnode.live.settings import NodeSettings
from simnode.live.store.begun import begin
from simnode.live.store.kept_segments import KeptSegments
from simnode.live.store.placing import Placer
from simnode.live.store.row_changes import ENTRY_BYTES, Batch, RowChanges, Write
from simnode.live.store_codes import REFUSED, UNAVAILABLE
from simnode.metrics.slab import StatsSlab
from simnode.node.runtime import UpdateRefused
from simnode.node.subscriptions import SubscriberCounts
from simnode.protocol.limits import MIB
from simnode.storage.errors import IndexFailure, StorageError
from simnode.storage.index import Index

logger = logging.getLogger(__name__)

QUEUED_BYTES = MIB
"""With more than this on its way to a handler, it is told that a contract changed, and not by which delta."""
SEGMENTS_AT_ONCE = 1024
"""Read from the index in one go."""

BATCH_WRITES = 512
"""Writes in one transaction at the most, so that the first of a flood is not answered after the last."""


class WriteBatches:
    """Places, commits, tells and answers; each write is answered exactly once.

    Args:
        settings: of the node.
        slab: this process's stats.
        index: open for writing, and nobody else's to write.
        service: the link to the reassembly service.
        subscribers: who is told.
    """

    def __init__(
        self,
        settings: NodeSettings,
        slab: StatsSlab,
        *,
        index: Index,
        service: LinkClient,
        subscribers: SubscriberCounts,
    ) -> None:
        self._durable = settings.durable
        self._index = index
        self._service = service
        self._subscribers = subscribers
        self._kept = KeptSegments(
            settings.segments_dir,
            service,
            limit_bytes=settings.store_limit_bytes,
            held_bytes=index.totals().segment_nbytes if settings.punches else 0,
            inline_bytes=index.totals().inline_nbytes + ENTRY_BYTES * index.entries(),
            trims=settings.punches,
        )
        if not settings.punches:  # the totals are of pages, and here whole segments count
            refs = index.segments("", SEGMENTS_AT_ONCE)
            while refs:
                self._kept.found(refs)
                refs = index.segments(refs[-1].name, SEGMENTS_AT_ONCE)
        self._placer = Placer(settings.segments_dir, service, self._kept, durable=settings.durable)
        self._changes = RowChanges(index, self._placer, self._kept, subscribers)
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Write] = []
        self._in_hand: list[Write] = []
        #: the call that begins a batch; None when none is under way or about to begin
        self._turn: asyncio.Handle | None = None
        self._task: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store-writer")
        self._commits = {
            outcome: slab.counter("simnode_store_commits_total", outcome=outcome) for outcome in ("ok", "error")
        }
        self._batch_writes = slab.histogram("simnode_store_commit_batch_writes")

    def add(self, link: Link, method: str, args: list[Any]) -> None:
        """The call that `link` is being asked is a write: it is answered when it is committed, or refused."""
        self._waiting.append(Write(link, link.call_id, method, args))
        if self._turn is None:
            self._turn = self._loop.call_soon(self._next)

    def live_segments(self, after: str, at_most: int) -> list[list[Any]]:
        """The next segments that rows refer to, by name: `[name, start, stop]`, or `[name]` where all of it is kept.

        Args:
            after: the last name of the piece before; `""` to begin.
            at_most: how many.
        """
        return [
            [ref.name] if self._kept.capacity_of(ref) else [ref.name, ref.start, ref.stop]
            for ref in self._index.segments(after, at_most)
        ]

    def segments_in_hand(self) -> list[list[Any]]:
        """The segments that rows will refer to if the batch in hand is committed, as `[name]`."""
        return [[ref.name] for write in self._in_hand for ref in write.new_segments]

    def holds(self, names: list[str]) -> list[str]:
        """Which segments rows refer to, or writes that are not committed yet: the others are denied from now on."""
        wanted = {name for writes in (self._in_hand, self._waiting) for write in writes for name in write.segments()}
        held = {name for name in names if name in wanted or self._index.refers_to(name)}
        self._kept.deny(set(names) - held)
        return sorted(held)

    async def close(self) -> None:
        """Stops writing; a commit that has begun is finished."""
        if self._turn is not None:
            self._turn.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._thread.shutdown()

    # ---- one batch after the other -----------------------------------------------------------

    def _next(self) -> None:
        self._in_hand, self._waiting = self._waiting[:BATCH_WRITES], self._waiting[BATCH_WRITES:]
        try:
            rest = begin(self._write(self._in_hand))
        except Exception as error:
            _die_of_a_bug(error)
        if rest is None:
            self._done()
        else:
            self._task = self._loop.create_task(rest)
            self._task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            _die_of_a_bug(error)
        self._done()

    def _done(self) -> None:
        self._in_hand = []
        self._turn = self._loop.call_soon(self._next) if self._waiting else None

    async def _write(self, writes: list[Write]) -> None:
        batch = Batch()
        waiting = self._place(writes, batch)
        if len(waiting) == 1:
            await waiting[0]  # a task less
        elif waiting:
            await asyncio.gather(*waiting)
        if batch.rows or batch.codes or batch.delegates:
            try:
                if self._durable:
                    await self._loop.run_in_executor(self._thread, self._commit, batch)
                else:
                    self._commit(batch)  # microseconds: nothing is synced
            except IndexFailure as failure:
                self._commit_failed(batch, failure)
                return
            self._commits["ok"].inc()
            self._batch_writes.observe(batch.writes)
        self._committed(batch)

    # ---- placing -----------------------------------------------------------------------------

    def _place(self, writes: list[Write], batch: Batch) -> list[Awaitable[None]]:
        """Begins to place the writes; what is left to wait for."""
        #: subject -> the writes that follow one that waits
        queues: dict[bytes, list[Write]] = {}
        waiting: list[Awaitable[None]] = []
        for write in writes:
            queue = queues.get(write.subject) if queues else None
            if queue is not None:
                queue.append(write)
                continue
            rest = begin(self._place_one(write, batch))
            if rest is not None:
                queue = queues[write.subject] = []
                waiting.append(self._place_rest(rest, queue, batch))
        return waiting

    async def _place_rest(self, first: Awaitable[None], following: list[Write], batch: Batch) -> None:
        await first
        for write in following:
            await self._place_one(write, batch)

    async def _place_one(self, write: Write, batch: Batch) -> None:
        try:
            await self._changes.place(write, batch)
        except LinkRefusal as refusal:
            self._refuse(write, refusal)
        except LinkLost:
            self._refuse(write, LinkRefusal(UNAVAILABLE, "the reassembly service is away"))
        except UpdateRefused as error:
            self._refuse(write, LinkRefusal(REFUSED, str(error)))
        except (StorageError, OSError) as failure:  # the disk's, or too few descriptors: no other write's concern
            logger.error("a %s cannot be carried out: %s", write.method, failure)
            self._refuse(write, LinkRefusal(UNAVAILABLE, "the store cannot carry it out now"))

    def _refuse(self, write: Write, refusal: LinkRefusal) -> None:
        write.link.refuse(write.call_id, refusal)
        write.link.flush()
        new_segments, write.new_segments = write.new_segments, []
        self._kept.retire(new_segments)

    # ---- committing --------------------------------------------------------------------------

    def _commit(self, batch: Batch) -> None:
        with self._index.write() as writing:
            for instance, row in batch.rows.items():
                writing.put_row(row, replaces=batch.replaced[instance])
            for code_hash, code in batch.codes.items():
                writing.put_code(code_hash, code)
            for key, delegate in batch.delegates.items():
                if delegate is None:
                    writing.delete_delegate(key)
                else:
                    writing.put_delegate(key, delegate)

    def _commit_failed(self, batch: Batch, failure: IndexFailure) -> None:
        logger.error("a batch of %d writes failed: %s", len(batch.answers), failure)
        self._commits["error"].inc()
        self._changes.forget()
        for link, instance in batch.subscribed:
            self._subscribers.remove([instance], link)
        for write, _ in batch.answers:
            self._refuse(write, LinkRefusal(UNAVAILABLE, "the store cannot write now"))

    def _committed(self, batch: Batch) -> None:
        self._kept.inline_bytes += batch.inline_bytes
        for row, delta in batch.changes:
            for place in self._subscribers.places_of(row.instance):
                assert isinstance(place, Link)
                # a handler that does not listen reads the newest state when it does
                told = delta if place.queued_bytes < QUEUED_BYTES else None
                place.cast("changed", row.instance, row.version, told)
        for write, result in batch.answers:
            write.link.answer(write.call_id, result)
        for link in {write.link for write, _ in batch.answers}:
            link.flush()
        self._kept.retire(batch.old_segments)
        self._kept.tell()


def _die_of_a_bug(error: BaseException) -> NoReturn:
    """A writer that failed leaves clients without answers; a process that died is started again."""
    logger.critical("the writer failed", exc_info=error)
    raise SystemExit(70)
