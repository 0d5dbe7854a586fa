"""The process that owns the contracts. Enters: writes, by reference. Leaves: rows, answers. Next: `session.py`.

The only writer of the index. Writes queue up while a batch is being committed and go into the next
one together (group commit). A batch is *placed* first, each payload where it will stay, and then
committed in one transaction; after that, and in this order, handlers with subscribers are told,
the writers are answered, and what the old rows referred to is retired.

Link methods of handlers: `hello(slot)`, `put(instance, code_hash, params, code, state, subscribe)`,
`update(instance, code_hash, keeps_current, parts)`, `subscribe(instance)`, `unsubscribe([instance])`
cast, `resubscribe([[instance, count]])` cast, `register_delegate(key, code_hash)`,
`unregister_delegate(key)`, `subscriptions()`. Handlers get `changed(instance, version, delta)`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from blake3 import blake3

from simnode.live.link import Link, LinkClient, LinkLost, LinkRefusal, LinkServer
from simnode.live.payloads import Payload, payload_nbytes
from simnode.live.placing import Placer, compare, feed_hash
from simnode.live.pulse import Pulse
from simnode.live.settings import NodeSettings
from simnode.metrics.slab import StatsSlab
from simnode.node.runtime import UpdateRefused, check_state_size
from simnode.node.subscriptions import SubscriberCounts, SubscriptionRefused
from simnode.storage.directory_lock import DirectoryLock
from simnode.storage.errors import IndexFailure
from simnode.storage.index import Index
from simnode.storage.rows import ContractRow, Extents, extents_nbytes, segment_names

logger = logging.getLogger(__name__)

MISSING = "missing"
REFUSED = "refused"
UNAVAILABLE = "unavailable"

BATCH_WRITES = 512
"""Writes in one transaction at the most, so that the first of a flood is not answered after the last."""

REMEMBERED_HASHES = 1024
"""States whose running BLAKE3 is kept, so that a delta costs a hash of the delta."""


@dataclass(slots=True, eq=False)
class Write:
    """A write that waits for its batch."""

    link: Link
    method: str
    args: list[Any]
    answer: asyncio.Future[Any]


@dataclass(slots=True)
class Change:
    """A row that subscribers hear of; `delta` is what was appended, when the change was that."""

    row: ContractRow
    delta: Payload | None = None


class ContractStore:
    """Keeps contracts, counts subscribers and tells them.

    Args:
        settings: of the node.
        slab: this process's stats.
    """

    def __init__(self, settings: NodeSettings, slab: StatsSlab) -> None:
        self._settings = settings
        self._index: Index | None = None
        self._server = LinkServer(settings.socket_path("store"), self._handle, self._lost)
        self._service = LinkClient(settings.socket_path("reassembly"), self._handle, self._greet_service)
        self._segments_dir = settings.segments_dir
        self._placer = Placer(self._segments_dir, self._service, durable=settings.durable)
        self._subscribers = SubscriberCounts(settings.caps)
        self._queue: asyncio.Queue[Write] = asyncio.Queue()
        self._batch = _Batch()
        #: whether handlers may have died since the table of readers was looked through
        self._has_lost_readers = True
        #: segments of the batch in hand, and of the queue: not to be freed with their dead handler
        self._in_hand: set[str] = set()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store-writer")
        self._writer: asyncio.Task[None] | None = None
        #: instance -> (version, running hash of its state)
        self._hashes: OrderedDict[bytes, tuple[int, Any]] = OrderedDict()
        self._contracts = 0
        self._stored_bytes = 0
        self._pulse = Pulse(slab, self._tick)
        self._commits = {
            outcome: slab.counter("simnode_store_commits_total", outcome=outcome) for outcome in ("ok", "error")
        }
        self._batch_writes = slab.histogram("simnode_store_commit_batch_writes")
        self._contracts_gauge = slab.gauge("simnode_store_contracts")
        self._bytes_gauge = slab.gauge("simnode_store_bytes")
        self._subscriptions_gauge = slab.gauge("simnode_store_subscriptions")

    async def start(self) -> None:
        """Opens the index, counts what is in it, and listens."""
        self._lock = DirectoryLock(self._settings.index_dir)
        self._index = Index(
            self._settings.index_dir,
            durable=self._settings.durable,
            max_readers=self._settings.max_index_readers,
        )
        for row in self._index.rows():
            self._contracts += 1
            self._stored_bytes += row.state_nbytes + extents_nbytes(row.params)
        self._service.start()
        await self._service.wait_up()
        self._writer = asyncio.get_running_loop().create_task(self._write_batches())
        self._writer.add_done_callback(_die_of_a_bug)
        await self._server.start()
        self._pulse.start()

    async def drain(self) -> None:
        """Stops serving once the batch in hand is committed."""
        self._pulse.stop()
        await self._server.close()
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.gather(self._writer, return_exceptions=True)
        await self._service.close()
        self._thread.shutdown()
        if self._index is not None:
            self._index.close()
            self._lock.close()

    # ---- links -------------------------------------------------------------------------------

    def _greet_service(self, link: Link) -> None:
        assert self._index is not None
        # what the batch in hand was placed in as well: it may be committed before this is read
        live = self._index.segment_names() | set(self._batch.new_segments)
        call = link.call("store_hello", sorted(live))
        call.add_done_callback(_report_lost_segments)

    def _handle(self, link: Link, method: str, args: list[Any]) -> Any:
        match method, args:
            case (("put" | "update" | "register_delegate" | "unregister_delegate"), _):
                return self._enqueue(link, method, args)
            case "subscribe", [instance]:
                return self._subscribe(link, instance)
            case "unsubscribe", [instances]:
                self._subscribers.remove(instances, link)
            case "resubscribe", [counts]:
                for instance, count in counts:
                    self._subscribers.restore(instance, link, count)
            case "subscriptions", []:
                return [[instance, count] for instance, count in self._subscribers.contracts()]
            case "hello", [slot]:
                link.peer = slot
            case "holds", [names]:
                return self._holds(names)
            case _:
                raise AssertionError(f"no such call: {method}")
        return None

    def _lost(self, link: Link) -> None:
        self._subscribers.drop_place(link)
        self._has_lost_readers = True  # the process may take a moment longer to die than its link

    def _subscribe(self, link: Link, instance: bytes) -> list[Any]:
        assert self._index is not None
        row = self._index.get(instance)
        if row is None:
            raise LinkRefusal(MISSING, "no such contract")
        try:
            self._subscribers.add(instance, link)
        except SubscriptionRefused as refusal:
            raise LinkRefusal(REFUSED, str(refusal)) from refusal
        return [row.code_hash, row.version]

    def _holds(self, names: list[str]) -> list[str]:
        """Which segments rows refer to, or will after the writes that are here already."""
        assert self._index is not None
        return sorted(set(names) & (self._in_hand | self._index.segment_names()))

    # ---- writes ------------------------------------------------------------------------------

    def _enqueue(self, link: Link, method: str, args: list[Any]) -> asyncio.Future[Any]:
        write = Write(link, method, args, asyncio.get_running_loop().create_future())
        self._in_hand.update(_segments_of(write))
        self._queue.put_nowait(write)
        return write.answer

    async def _write_batches(self) -> None:
        while True:
            batch = [await self._queue.get()]
            while len(batch) < BATCH_WRITES and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            await self._write_batch(batch)
            for write in batch:
                self._in_hand.difference_update(_segments_of(write))

    async def _write_batch(self, batch: list[Write]) -> None:
        """Places, commits, tells and answers; each write is answered exactly once."""
        placed = self._batch = _Batch()
        for write in batch:
            mark = len(placed.new_segments)
            try:
                await self._place(write, placed)
            except (LinkRefusal, LinkLost, UpdateRefused) as error:
                write.answer.set_exception(_refusal(error))
                self._retire(placed.new_segments[mark:])
                del placed.new_segments[mark:]
        try:
            await self._commit(placed)
        except IndexFailure as failure:
            logger.error("a batch of %d writes failed: %s", len(batch), failure)
            self._commits["error"].inc()
            self._retire(placed.new_segments)
            self._hashes.clear()  # their versions will mean other states
            for link, instance in placed.subscribed:
                self._subscribers.remove([instance], link)
            for write, _ in placed.answers:
                write.answer.set_exception(LinkRefusal(UNAVAILABLE, str(failure)))
            return
        self._commits["ok"].inc()
        self._batch_writes.observe(len(batch))
        self._contracts += placed.new_contracts
        self._stored_bytes += placed.new_bytes
        for change in placed.changes:
            self._tell(change)
        for write, result in placed.answers:
            write.answer.set_result(result)
        self._retire(placed.old_segments)

    def _retire(self, names: list[str]) -> None:
        self._placer.forget(names)
        for name in names:
            self._service.cast("retire", name)

    async def _commit(self, placed: _Batch) -> None:
        if not (placed.rows or placed.codes or placed.delegates):
            return
        if self._settings.durable:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._commit_now, placed)
        else:
            self._commit_now(placed)  # microseconds: nothing is synced

    def _commit_now(self, placed: _Batch) -> None:
        assert self._index is not None
        with self._index.write() as writing:
            for row in placed.rows.values():
                writing.put_row(row)
            for code_hash, code in placed.codes.items():
                writing.put_code(code_hash, code)
            for key, delegate in placed.delegates.items():
                if delegate is None:
                    writing.delete_delegate(key)
                else:
                    writing.put_delegate(key, delegate)

    async def _place(self, write: Write, placed: _Batch) -> None:
        result: list[Any] | None = None
        match write.method, write.args:
            case "put", [instance, code_hash, params, code, state, subscribe]:
                result = await self._place_put(write.link, placed, instance, code_hash, params, code, state, subscribe)
            case "update", [instance, code_hash, keeps_current, parts]:
                result = await self._place_update(placed, instance, code_hash, keeps_current, parts)
            case "register_delegate", [key, code_hash]:
                placed.delegates[key] = code_hash
            case "unregister_delegate", [key]:
                placed.delegates[key] = None
            case _:
                raise AssertionError(write.method)
        placed.answers.append((write, result))

    async def _place_put(
        self,
        link: Link,
        placed: _Batch,
        instance: bytes,
        code_hash: bytes,
        params: Payload,
        code: Payload,
        state: Payload,
        subscribe: bool,
    ) -> list[Any]:
        """A new contract, or a State update of a known one. Result: `[version, adopted, subscribed, why not]`."""
        check_state_size(payload_nbytes(state))
        current = self._current(instance, placed)
        if current is None:
            assert self._index is not None
            # the state last: once its segment is stored, whatever else came in it may be trimmed away
            own_params = await self._placer.copy([params], placed)
            is_new_code = code_hash not in placed.codes and self._index.code(code_hash) is None
            own_code = await self._placer.copy([code], placed) if is_new_code else ()
            extents, adopted = await self._placer.place([state], placed)
            if is_new_code:
                placed.codes[code_hash] = own_code
                placed.new_bytes += payload_nbytes(code)
            row = ContractRow(instance, 1, code_hash, own_params, extents)
            placed.rows[instance] = row
            placed.new_contracts += 1
            placed.new_bytes += row.state_nbytes + payload_nbytes(params)
        else:
            row, adopted = await self._replace(current, [state], placed)
        subscribed, why_not = subscribe, None
        if subscribe:
            try:
                self._subscribers.add(instance, link)
            except SubscriptionRefused as refusal:
                subscribed, why_not = False, str(refusal)
            else:
                placed.subscribed.append((link, instance))
        return [row.version, adopted, subscribed, why_not]

    async def _place_update(
        self, placed: _Batch, instance: bytes, code_hash: bytes, keeps_current: bool, parts: list[Payload]
    ) -> list[Any]:
        """Result: `[version, adopted, summary]`; the summary is BLAKE3 of the new state."""
        current = self._current(instance, placed)
        if current is None or current.code_hash != code_hash:
            raise LinkRefusal(MISSING, "no such contract")
        nbytes = sum(map(payload_nbytes, parts))
        check_state_size(nbytes + (current.state_nbytes if keeps_current else 0))
        if keeps_current:
            row, adopted = await self._append(current, parts, placed)
        else:
            row, adopted = await self._replace(current, parts, placed)
        return [row.version, adopted, await self._summarize(row, parts if keeps_current else None)]

    async def _replace(
        self, current: ContractRow, parts: list[Payload], placed: _Batch
    ) -> tuple[ContractRow, str | None]:
        nbytes = sum(map(payload_nbytes, parts))
        if len(parts) == 1 and nbytes == current.state_nbytes:
            if await self._placer.run(nbytes, compare, self._segments_dir, current.state, parts[0]):
                return current, None  # nothing changed, so nobody is told
        extents, adopted = await self._placer.place(parts, placed)
        return self._change(current, extents, None, placed), adopted

    async def _append(
        self, current: ContractRow, parts: list[Payload], placed: _Batch
    ) -> tuple[ContractRow, str | None]:
        (delta,) = parts
        if not payload_nbytes(delta):
            return current, None
        extents, told = await self._placer.append(current.state, delta, placed)
        return self._change(current, extents, told, placed), None

    def _change(self, current: ContractRow, extents: Extents, delta: Payload | None, placed: _Batch) -> ContractRow:
        row = ContractRow(current.instance, current.version + 1, current.code_hash, current.params, extents)
        kept = set(segment_names(extents))
        placed.old_segments += [name for name in segment_names(current.state) if name not in kept]
        placed.rows[row.instance] = row
        placed.changes.append(Change(row, delta))
        placed.new_bytes += row.state_nbytes - current.state_nbytes
        return row

    def _current(self, instance: bytes, placed: _Batch) -> ContractRow | None:
        assert self._index is not None
        return placed.rows.get(instance) or self._index.get(instance)

    async def _summarize(self, row: ContractRow, appended: list[Payload] | None) -> bytes:
        remembered = self._hashes.pop(row.instance, None)
        if remembered is not None and remembered[0] == row.version:
            state_hash = remembered[1]
        elif appended is not None and remembered is not None and remembered[0] == row.version - 1:
            state_hash = remembered[1]
            nbytes = sum(map(payload_nbytes, appended))
            await self._placer.run(nbytes, feed_hash, self._segments_dir, state_hash, appended)
        else:
            state_hash = blake3()
            payloads = [
                extent if isinstance(extent, bytes) else [extent.name, extent.start, extent.stop]
                for extent in row.state
            ]
            await self._placer.run(row.state_nbytes, feed_hash, self._segments_dir, state_hash, payloads)
        self._hashes[row.instance] = (row.version, state_hash)
        if len(self._hashes) > REMEMBERED_HASHES:
            self._hashes.popitem(last=False)
        digest: bytes = state_hash.digest()
        return digest

    def _tell(self, change: Change) -> None:
        row = change.row
        for place in self._subscribers.places_of(row.instance):
            assert isinstance(place, Link)
            place.cast("changed", row.instance, row.version, change.delta)

    def _tick(self, now_s: float) -> None:
        self._contracts_gauge.set(self._contracts)
        self._bytes_gauge.set(self._stored_bytes)
        self._subscriptions_gauge.set(self._subscribers.total)
        if self._has_lost_readers and self._index is not None:
            self._has_lost_readers = False
            self._index.reader_check()  # else the slots of dead handlers would fill LMDB's table of readers


class _Batch:
    """What one transaction will write, and what follows when it has."""

    def __init__(self) -> None:
        self.rows: dict[bytes, ContractRow] = {}
        self.codes: dict[bytes, Extents] = {}
        self.delegates: dict[bytes, bytes | None] = {}
        self.changes: list[Change] = []
        self.answers: list[tuple[Write, Any]] = []
        self.subscribed: list[tuple[Link, bytes]] = []
        self.new_contracts = 0
        self.new_bytes = 0
        #: stored for this batch: retired if it fails
        self.new_segments: list[str] = []
        #: retired when it is committed
        self.old_segments: list[str] = []


def _refusal(error: Exception) -> LinkRefusal:
    """Why a write could not be placed, as its handler is told."""
    match error:
        case LinkRefusal():
            return error
        case LinkLost():
            return LinkRefusal(UNAVAILABLE, "the reassembly service is away")
        case _:
            return LinkRefusal(REFUSED, str(error))


def _segments_of(write: Write) -> list[str]:
    """The segments that a write refers to."""
    payloads = write.args[2:5] if write.method == "put" else write.args[3] if write.method == "update" else []
    return [payload[0] for payload in payloads if isinstance(payload, list)]


def _report_lost_segments(call: asyncio.Future[Any]) -> None:
    if call.cancelled() or call.exception() is not None:
        return  # the link went again; the next greeting tells
    for name in call.result():
        logger.error("segment %s is gone: the contracts in it cannot be read", name)


def _die_of_a_bug(task: asyncio.Task[None]) -> None:
    """A writer that failed leaves clients without answers; a process that died is started again."""
    if not task.cancelled() and task.exception() is not None:
        logger.critical("the writer failed", exc_info=task.exception())
        asyncio.get_running_loop().call_soon(_exit_at_once)


def _exit_at_once() -> None:
    raise SystemExit(70)
