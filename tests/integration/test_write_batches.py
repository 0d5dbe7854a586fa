"""The store's writer over a real index, with the reassembly service's answers in the test's hand."""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
from blake3 import blake3

from simnode.live.link import Link, LinkLost, LinkRefusal
from simnode.live.payloads import INLINE_BYTES
from simnode.live.settings import NodeSettings
from simnode.live.store import placing
from simnode.live.store.kept_segments import TOLD_LATER_BYTES
from simnode.live.store.write_batches import WriteBatches
from simnode.metrics.aggregate import histograms, sums
from simnode.metrics.catalogue import BY_NAME
from simnode.metrics.model import Role
from simnode.metrics.reader import scan_slabs
from simnode.metrics.slab import StatsSlab
from simnode.node.subscriptions import SubscriberCounts, SubscriptionCaps
from simnode.protocol.limits import MIB
from simnode.storage.errors import IndexFailure, OutOfDescriptors, SegmentFailure
from simnode.storage.index import Index
from simnode.storage.rows import SegmentRef, extents_nbytes
from simnode.storage.segment_file import page_range
from simnode.storage.segments import Segment
from tests.support.descriptors import descriptors_left

CODE_HASH = b"h" * 32
LARGE = MIB
STORE_LIMIT = 8 * LARGE


def key(number: int) -> bytes:
    return number.to_bytes(32)


async def turn(times: int = 1) -> None:
    for _ in range(times):
        await asyncio.sleep(0)


class FakeLink(Link):
    """A handler's end: hands out call ids and remembers what came back, and in how many writes."""

    def __init__(self) -> None:
        self.call_id = 0
        self.is_lost = False
        self.queued: list[tuple[int, Any]] = []
        self.writes: list[list[tuple[int, Any]]] = []
        self.told: list[tuple[Any, ...]] = []

    @property
    def queued_bytes(self) -> int:
        return 0

    def cast(self, *message: Any) -> None:
        self.told.append(message)

    def answer(self, call_id: int, result: Any) -> None:
        self.queued.append((call_id, result))

    def refuse(self, call_id: int, refusal: LinkRefusal) -> None:
        self.queued.append((call_id, refusal.code))

    def flush(self) -> None:
        if self.queued:
            self.writes.append(self.queued)
            self.queued = []

    @property
    def answers(self) -> list[tuple[int, Any]]:
        return list(itertools.chain(*self.writes))


class FakeService:
    """The reassembly service: leases real files; each lease waits for the test unless it `agrees`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.agrees = True
        self.asked: list[asyncio.Future[Any]] = []
        self.leased: list[str] = []
        self.told: list[tuple[Any, ...]] = []
        self.flushes = 0
        self.names = map("1-{:06x}-0.seg".format, itertools.count())

    def call(self, method: str, *args: Any) -> asyncio.Future[Any]:
        assert method == "lease"
        nbytes, address = args
        assert address == "", "a copy is for no client"
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.asked.append(future)
        if self.agrees:
            self.grant(nbytes)
        return future

    def grant(self, nbytes: int = LARGE) -> None:
        """Answers what was asked last."""
        self.leased.append(self.segment(bytes(nbytes)))
        self.asked.pop().set_result([self.leased[-1], nbytes])

    def cast(self, *message: Any) -> None:
        self.told.append(message)

    cast_later = cast

    def flush(self) -> None:
        self.flushes += 1

    def segment(self, content: bytes) -> str:
        """What a handler leases and writes."""
        segment = Segment.create(self.directory, next(self.names), len(content))
        segment.write(0, content)
        return segment.name

    def retired(self) -> list[str]:
        return [name for method, name, *_ in self.told if method == "retire"]

    def stored(self) -> list[str]:
        return [name for method, name, *_ in self.told if method == "stored"]


class Store:
    """A writer and what it writes to."""

    def __init__(self, tmp_path: Path, slab: StatsSlab, *, durable: bool = False) -> None:
        self.run_dir = tmp_path
        settings = NodeSettings(run_dir=tmp_path, data_dir=tmp_path, store_limit_bytes=STORE_LIMIT, durable=durable)
        for directory in (settings.segments_dir, settings.index_dir):
            directory.mkdir()
        self.index = Index(settings.index_dir)
        self.service = FakeService(settings.segments_dir)
        self.subscribers = SubscriberCounts(SubscriptionCaps(per_contract=1))
        self.link = FakeLink()
        self._settings = settings
        self._slab = slab
        self.batches = self.another_writer()

    def another_writer(self) -> WriteBatches:
        """As a process has it that starts over what is there."""
        return WriteBatches(
            self._settings,
            self._slab,
            index=self.index,
            service=self.service,  # type: ignore[arg-type]
            subscribers=self.subscribers,
        )

    def live_segments(self) -> list[list[Any]]:
        """What the reassembly service is told."""
        live, page = self.batches.segments_in_hand(), self.batches.live_segments("", 1)
        while page:
            live += page
            page = self.batches.live_segments(page[-1][0], 1)
        return sorted(live)

    def update_of(self, form: str, number: int, state: Any) -> int:
        """A request of one of the forms that replace the state; the delta is the last byte."""
        if form == "put":
            return self.put(number, state)
        if form == "state":
            return self.update(number, state)
        if form == "state and no delta":
            return self.update(number, state, b"")
        if isinstance(state, bytes):
            return self.update(number, state[:-1], state[-1:])
        name, start, stop = state
        return self.update(number, [name, start, stop - 1], b"x")

    def write(self, method: str, *args: Any, link: FakeLink | None = None) -> int:
        link = link or self.link
        link.call_id += 1
        self.batches.add(link, method, list(args))
        return link.call_id

    def put(self, number: int, state: Any, *, code: Any = b"code", subscribe: bool = False) -> int:
        return self.write("put", key(number), CODE_HASH, b"params", code, state, subscribe)

    def two_parts(self, number: int, *, code_hash: bytes = CODE_HASH) -> int:
        """A PUT that needs a lease: its code has to be copied out of the message."""
        return self.write("put", key(number), code_hash, b"params", self.large(), b"state", False)

    def update(self, number: int, *parts: Any, keeps_current: bool = False) -> int:
        return self.write("update", key(number), CODE_HASH, keeps_current, list(parts))

    def large(self, fill: bytes = b"x", nbytes: int = LARGE) -> list[Any]:
        return [self.service.segment(fill * nbytes), 0, nbytes]

    def state(self, number: int) -> Any:
        row = self.index.get(key(number))
        return None if row is None else (row.version, row.state)

    async def settled(self) -> None:
        """Lets everything be answered that can be, without a clock."""
        async with asyncio.timeout(5):
            for _ in itertools.count():
                if self.batches._turn is None:
                    return
                await asyncio.sleep(0)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    with StatsSlab.open(tmp_path, Role.CONTRACT_STORE, 0, now_s=0.0) as slab:
        store = Store(tmp_path, slab)
        yield store
        await store.batches.close()
        store.index.close()


async def test_small_writes_of_one_turn_are_one_batch_and_one_message_to_each_handler(store: Store) -> None:
    other = FakeLink()
    for number in range(20):
        store.put(number, b"state %d" % number)
    store.write("put", key(99), CODE_HASH, b"", b"code", b"", False, link=other)
    await turn()
    assert store.link.writes == [[(number + 1, [1, None, False, None]) for number in range(20)]]
    assert other.writes == [[(1, [1, None, False, None])]]
    assert store.state(7) == (1, (b"state 7",))
    assert store.state(99) == (1, ())
    assert (store.index.count(), store.index.code(CODE_HASH)) == (21, (b"code",))


async def test_writes_that_change_nothing_or_are_refused_are_no_transaction(store: Store) -> None:
    counted = sums(BY_NAME["simnode_store_commits_total"], scan_slabs(store.run_dir).found)
    store.put(1, b"state")
    await turn()
    store.put(1, b"state")
    store.update(2, b"of no contract")
    await turn(2)
    assert len(store.link.answers) == 3
    found = scan_slabs(store.run_dir).found
    assert sums(BY_NAME["simnode_store_commits_total"], found) == counted | {("ok",): 1.0}
    assert histograms(BY_NAME["simnode_store_commit_batch_writes"], found)[()].total == 1


async def test_a_transaction_counts_the_writes_that_it_committed_together(store: Store) -> None:
    store.put(1, b"state")
    store.put(1, b"state")
    store.put(2, b"another")
    store.update(3, b"of no contract")
    store.write("register_delegate", key(4), CODE_HASH)
    await turn(2)
    batches = histograms(BY_NAME["simnode_store_commit_batch_writes"], scan_slabs(store.run_dir).found)[()]
    assert (sum(batches.counts), batches.total) == (1, 3)


async def test_large_states_are_kept_where_they_are_and_nobody_waits_for_the_service(store: Store) -> None:
    states = [store.large() for _ in range(5)]
    for number, state in enumerate(states):
        store.put(number, state)
    await turn()
    assert store.link.writes == [[(n + 1, [1, state[0], False, None]) for n, state in enumerate(states)]]
    assert store.service.told == [("stored", name, 0, LARGE, LARGE) for name, *_ in states]
    assert store.service.asked == []


async def test_calls_of_a_batch_to_the_service_are_made_together(store: Store) -> None:
    """A round trip for each of them in turn would be the store's speed."""
    store.service.agrees = False
    for number in range(5):
        store.two_parts(number)
    await turn()
    assert len(store.service.asked) == 5
    assert store.link.answers == []
    for _ in range(5):
        store.service.grant()
    await store.settled()
    assert sorted(store.link.answers) == [(number + 1, [1, None, False, None]) for number in range(5)]
    assert len(store.link.writes) == 1


async def test_writes_that_come_meanwhile_are_the_next_batch(store: Store) -> None:
    store.service.agrees = False
    store.two_parts(0)
    await turn(3)
    for number in range(1, 4):
        store.put(number, b"small")
    await turn(3)
    assert store.link.answers == []
    assert store.state(1) is None
    store.service.grant()
    await store.settled()
    assert [[call_id for call_id, _ in write] for write in store.link.writes] == [[1], [2, 3, 4]]


async def test_writes_of_one_contract_keep_their_order_though_the_first_waits(store: Store) -> None:
    store.service.agrees = False
    store.two_parts(0)
    store.update(0, b"second")
    store.put(1, b"another's")
    store.update(0, b" and third", keeps_current=True)
    await turn()
    store.service.grant()
    await store.settled()
    assert store.state(0) == (3, (b"second and third",))
    answers = dict(store.link.answers)
    assert answers[4] == [3, None, blake3(b"second and third").digest()]
    assert store.service.stored() == store.service.leased
    assert store.service.retired() == [], "code is kept for the next contract that has it"


async def test_state_that_is_replaced_in_the_same_batch_is_kept_and_retired(store: Store) -> None:
    name, *_ = store.large()
    store.put(0, [name, 0, LARGE])
    store.update(0, b"second")
    await store.settled()
    assert store.service.told == [("stored", name, 0, LARGE, LARGE), ("retire", name)]


async def test_refused_write_leaves_nothing_and_the_others_are_committed(store: Store) -> None:
    store.service.agrees = False
    kept = store.large()
    store.two_parts(0)
    store.put(1, kept)
    store.put(2, b"small")
    await turn()
    store.service.asked.pop().set_exception(LinkRefusal("no_room", "full"))
    await store.settled()
    answers = [(1, "no_room"), (2, [1, kept[0], False, None]), (3, [1, None, False, None])]
    assert sorted(store.link.answers) == answers
    assert store.state(0) is None
    assert store.service.told == [("stored", kept[0], 0, LARGE, LARGE)]


async def test_write_that_needs_a_service_that_is_away_is_refused(store: Store) -> None:
    store.service.agrees = False
    store.two_parts(0)
    await turn()
    store.service.asked.pop().set_exception(LinkLost("gone"))
    await store.settled()
    assert store.link.answers == [(1, "unavailable")]


async def test_what_is_stored_has_a_limit_and_a_state_that_is_replaced_makes_room(store: Store) -> None:
    store.put(0, store.large(nbytes=STORE_LIMIT - LARGE))
    refused = store.put(1, store.large(nbytes=LARGE + 1))
    small = store.put(1, b"small")
    await store.settled()
    store.put(0, b"shorter")
    await store.settled()
    whole = store.put(1, store.large(nbytes=STORE_LIMIT - LARGE))  # the index takes a little, too
    await store.settled()
    answers = dict(store.link.answers)
    assert answers[refused] == "full"
    assert answers[small][0] == 1
    assert answers[whole][0] == 2


async def test_segment_that_was_denied_is_not_kept_though_it_is_there(store: Store) -> None:
    """Its handler died, and the service may free it at any moment."""
    late, wanted, never_sent = store.large(), store.large(), store.large()
    kept = store.large()
    store.put(0, kept)
    await store.settled()
    store.put(1, wanted)
    names = [segment[0] for segment in (late, wanted, never_sent, kept)]
    assert store.batches.holds(names) == sorted([wanted[0], kept[0]])
    refused = store.put(2, late)
    await store.settled()
    assert dict(store.link.answers)[refused] == "lost"
    assert store.state(1) == (1, (SegmentRef(*wanted),))
    assert store.service.stored() == [kept[0], wanted[0]]


async def test_reference_beyond_its_segment_is_refused(store: Store) -> None:
    name, start, stop = store.large()
    refused = store.put(0, [name, start, stop + 1])
    await store.settled()
    assert store.link.answers == [(refused, "lost")]


async def test_update_whose_new_state_cannot_be_read_changes_nothing(store: Store) -> None:
    """Its row used to be in the batch by then, so that a refused write was committed."""
    store.put(0, b"old")
    await store.settled()
    state = store.large()
    (store.service.directory / state[0]).unlink()
    refused = store.update(0, state)
    later = store.update(0, b"!", keeps_current=True)
    await store.settled()
    answers = dict(store.link.answers)
    assert answers[refused] == "lost"
    assert answers[later] == [2, None, blake3(b"old!").digest()]
    assert store.state(0) == (2, (b"old!",))
    assert store.service.told == []


async def test_failed_commit_refuses_every_write_and_undoes_what_came_with_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise IndexFailure("no room")

    with monkeypatch.context() as context:
        context.setattr(store.index, "write", fail)
        state = store.large()
        store.put(0, state, subscribe=True)
        store.put(1, b"small")
        await store.settled()
    assert sorted(store.link.answers) == [(1, "unavailable"), (2, "unavailable")]
    assert store.subscribers.total == 0
    assert store.service.retired() == [state[0]]
    assert (store.index.count(), store.index.totals().nbytes) == (0, 0)
    store.put(1, b"small")
    await store.settled()
    assert store.link.answers[-1] == (3, [1, None, False, None])


async def test_segments_of_writes_are_wanted_until_they_are_answered(store: Store) -> None:
    store.service.agrees = False
    code, second = store.large(), store.large()
    names = sorted([code[0], second[0]])
    store.put(0, b"state", code=code)
    assert store.batches.holds([code[0]]) == [code[0]]
    await turn()
    store.update(0, second, b"tail")
    store.write("register_delegate", key(9), CODE_HASH)
    assert store.batches.holds(names) == names
    assert store.live_segments() == []
    store.service.agrees = True
    store.service.grant()
    await store.settled()
    assert store.batches.holds(names) == [], "both were copied"
    assert store.index.delegate(key(9)) == CODE_HASH


@pytest.mark.parametrize("where", [0, LARGE // 2, LARGE - 1])
async def test_large_state_that_differs_anywhere_is_another(store: Store, where: int) -> None:
    """Only its ends are compared at first."""
    store.put(0, store.large(), subscribe=True)
    content = bytearray(b"x" * LARGE)
    content[where] ^= 1
    await store.settled()
    store.put(0, [store.service.segment(bytes(content)), 0, LARGE])
    await store.settled()
    assert store.state(0)[0] == 2
    assert store.link.told == [("changed", key(0), 2, None)]


async def test_state_that_changes_nothing_is_not_told_and_keeps_its_version(store: Store) -> None:
    for state in (store.large(), store.large()):
        store.put(0, state, subscribe=store.subscribers.total == 0)
        await store.settled()
    small = [store.service.segment(b"....small..."), 4, 9]
    for payload in (b"small", b"small", small, small):
        store.put(1, payload)
        await store.settled()
    assert [result[:2] for _, result in store.link.answers[1:]] == [[1, None]] * 5
    assert store.link.told == []
    assert len(store.service.stored()) == 1


FORMS = ["put", "state", "state and no delta", "state and delta"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("nbytes", [1, 100, 60_000, 100_000, LARGE])
async def test_no_form_of_an_update_that_changes_nothing_is_told(store: Store, form: str, nbytes: int) -> None:
    def state() -> Any:
        return b"x" * nbytes if nbytes <= INLINE_BYTES else store.large(nbytes=nbytes)

    store.put(0, state(), subscribe=True)
    await store.settled()
    stored = store.service.stored()
    for _ in range(2):
        store.update_of(form, 0, state())
        await store.settled()
    store.update(0, b"", keeps_current=True)
    await store.settled()
    assert [result[0] for _, result in store.link.answers] == [1] * 4
    assert store.link.told == []
    assert store.service.stored() == stored


@pytest.mark.parametrize("nbytes", [100, 60_000, LARGE])
@pytest.mark.parametrize("where", [0, -1])
async def test_state_and_delta_that_differ_in_one_byte_are_told(store: Store, nbytes: int, where: int) -> None:
    content = bytearray(b"x" * nbytes)
    store.put(0, bytes(content) if nbytes <= INLINE_BYTES else store.large(nbytes=nbytes), subscribe=True)
    await store.settled()
    content[where] ^= 1
    whole = bytes(content)
    state: Any = whole[:-1]
    if nbytes > INLINE_BYTES:
        state = [store.service.segment(whole), 0, nbytes - 1]
    store.update(0, state, whole[-1:])
    await store.settled()
    assert store.link.told == [("changed", key(0), 2, None)]
    assert store.link.answers[-1][1][2] == blake3(whole).digest()


async def test_state_with_an_empty_delta_is_kept_where_it_is(store: Store) -> None:
    """It used to be copied, because it came in two parts."""
    store.put(0, b"old")
    await store.settled()
    state = store.large()
    store.update(0, state, b"")
    await store.settled()
    assert store.link.answers[-1][1][1] == state[0]
    assert store.service.asked == []


async def test_figures_are_the_same_after_a_restart(store: Store) -> None:
    """Of states, parameters and codes, small and large, of contracts that changed in every way."""
    await every_kind_of_write(store)
    totals, live = store.index.totals(), store.live_segments()
    held = sum(page_range(start, stop)[1] - page_range(start, stop)[0] for _, start, stop in live)
    assert totals.segment_nbytes == held == store.batches._kept.held_bytes
    expected = 0
    for row in store.index.rows():
        expected += row.state_nbytes + extents_nbytes(row.params)
    expected += sum(extents_nbytes(code) for _, code in store.index.codes())
    assert totals.nbytes == expected
    assert store.another_writer()._kept.held_bytes == store.batches._kept.held_bytes
    store.index.recount(lambda number: None)
    assert (store.index.totals(), store.live_segments()) == (totals, live)


async def every_kind_of_write(store: Store) -> None:
    store.put(0, b"small")
    store.put(1, store.large(), code=store.large(b"c", nbytes=100_000))
    store.write("put", key(2), b"other code".ljust(32), store.large(b"p", nbytes=70_000), b"code", store.large(), False)
    await store.settled()
    store.put(0, b"other")
    store.update(0, b"in the same batch", keeps_current=True)
    store.update(1, b"small now")
    store.update(2, b"large", b"before")
    store.update(2, store.large(nbytes=70_001))
    refused = store.update(3, b"unknown contract")
    await store.settled()
    assert dict(store.link.answers)[refused] == "missing"


async def test_subscriber_that_is_gone_before_its_write_is_placed_is_not_counted(store: Store) -> None:
    """Nobody would ever take it off again."""
    store.put(0, b"state", subscribe=True)
    store.link.is_lost = True
    await store.settled()
    assert store.subscribers.total == 0


async def test_large_state_that_nobody_hears_of_is_not_compared(store: Store) -> None:
    """It would take reading both."""
    first, second = store.large(), store.large()
    for state in (first, second):
        store.put(0, state)
        await store.settled()
    assert store.state(0) == (2, (SegmentRef(*second),))
    assert store.service.retired() == [first[0]]


async def test_code_that_two_new_contracts_bring_at_once_is_kept_once(store: Store) -> None:
    code = store.large(b"c")
    for number in range(2):
        store.put(number, b"state", code=code)
    await store.settled()
    (extent,) = store.index.code(CODE_HASH) or ()
    assert isinstance(extent, SegmentRef)
    first, second = store.service.leased
    assert (extent.name, store.service.retired()) in [(first, [second]), (second, [first])]
    assert store.index.totals().nbytes == LARGE + 2 * len(b"state" + b"params")


async def test_service_hears_at_once_of_much(store: Store) -> None:
    flushes = []
    for nbytes in (LARGE, TOLD_LATER_BYTES, 100_000, LARGE):
        store.put(0, store.large(nbytes=nbytes))
        await store.settled()
        flushes.append(store.service.flushes)
    assert flushes == [0, 1, 2, 2], "the third is short, and what it replaced is not"
    assert len(store.service.retired()) == 3


async def test_live_segments_are_those_of_rows_and_of_the_batch_in_hand(store: Store) -> None:
    """Of a state that may grow all is needed, though its row refers to the beginning only."""
    name, *_ = store.large()
    store.put(0, [name, 100, LARGE - 100])
    store.put(1, b"x" * 60_000)
    await store.settled()
    store.update(1, b"y" * 60_000, keeps_current=True)
    await store.settled()
    store.service.agrees = False
    state = store.large()
    store.put(2, state)
    store.two_parts(3, code_hash=b"another code")
    await turn()
    assert store.state(2) is None, "the batch waits"
    (growing,) = store.service.leased
    assert store.live_segments() == sorted([[name, 100, LARGE - 100], [growing], [state[0]]])


async def test_subscription_beyond_the_cap_is_told_with_the_answer(store: Store) -> None:
    store.put(0, b"state", subscribe=True)
    store.put(0, b"state", subscribe=True)
    await store.settled()
    (_, first), (_, second) = store.link.answers
    assert (first[2], second[2]) == (True, False)
    assert "maximum" in second[3]


async def test_batch_that_waits_ends_with_the_store(store: Store) -> None:
    store.service.agrees = False
    store.two_parts(0)
    await turn(3)
    await store.batches.close()
    store.put(1, b"late")
    await turn(3)
    assert store.link.answers == []
    assert store.state(1) is None


async def test_what_lies_in_the_index_counts_against_the_limit(store: Store) -> None:
    """Small states, parameters, codes and delegates are held as well as large ones; and after a restart, too."""
    state, held = bytes(60_000), 0
    for number in itertools.count():
        put = store.put(number, state)
        await store.settled()
        if dict(store.link.answers)[put] == "full":
            break
        held += len(state)
    assert STORE_LIMIT - 2 * len(state) < held <= STORE_LIMIT
    delegates = [store.write("register_delegate", number.to_bytes(32, "big"), bytes(32)) for number in range(500)]
    store.write("unregister_delegate", bytes(32))
    await store.settled()
    answers = dict(store.link.answers)
    assert 0 < [answers[delegate] for delegate in delegates].count("full") < len(delegates)
    store.put(0, state[1:])
    store.put(0, state[2:])
    await store.settled()
    inline_bytes = store.batches._kept.inline_bytes
    assert store.another_writer()._kept.inline_bytes == inline_bytes
    assert inline_bytes <= STORE_LIMIT


# ---- machines that do not suffice ----------------------------------------------------------------


def failing(error: Exception) -> Callable[..., NoReturn]:
    def fail(*_: object, **__: object) -> NoReturn:
        raise error

    return fail


@pytest.mark.parametrize(
    "failure",
    [OutOfDescriptors("none left"), SegmentFailure("a broken disk"), OSError(errno.EIO, "Input/output error")],
)
async def test_write_that_the_machine_fails_is_refused_and_the_others_of_its_batch_are_written(
    store: Store, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    """It used to end the store, and with it the answers to everybody's writes."""
    monkeypatch.setattr(placing.Segment, "open", failing(failure))
    copied = store.two_parts(0)
    small = store.put(1, b"small")
    await store.settled()
    assert sorted(store.link.answers) == [(copied, "unavailable"), (small, [1, None, False, None])]
    assert store.state(0) is None
    assert store.service.told == [("release", store.service.leased[0])]
    monkeypatch.undo()
    again = store.two_parts(0)
    await store.settled()
    assert store.link.answers[-1] == (again, [1, None, False, None])


async def test_writes_are_refused_without_descriptors_and_carried_out_once_there_are_some(store: Store) -> None:
    store.service.agrees = False
    put = store.two_parts(1)
    await turn(3)
    store.service.grant()
    with descriptors_left(os.getpid()):
        await store.settled()
    assert store.link.answers == [(put, "unavailable")]
    assert store.service.told == [("release", store.service.leased[0])]
    store.service.agrees = True
    again = store.two_parts(1)
    await store.settled()
    assert store.link.answers[-1] == (again, [1, None, False, None])


@pytest.mark.parametrize("is_copied", [False, True])
async def test_disk_that_fails_costs_the_write_that_met_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_copied: bool
) -> None:
    with StatsSlab.open(tmp_path, Role.CONTRACT_STORE, 0, now_s=0.0) as slab:
        store = Store(tmp_path, slab, durable=True)
        state = store.large()
        with monkeypatch.context() as patch:
            patch.setattr(placing.Segment, "sync", failing(SegmentFailure("Input/output error")))
            failed = store.two_parts(0) if is_copied else store.put(0, state)
            await store.settled()
        assert store.link.answers == [(failed, "unavailable")]
        written = store.put(0, b"small")
        await store.settled()
        assert store.link.answers[-1] == (written, [1, None, False, None])
        await store.batches.close()
        store.index.close()


async def test_index_that_cannot_be_read_costs_the_write_that_met_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(store.index, "get", failing(IndexFailure("MDB_READERS_FULL")))
        failed = store.put(0, b"small")
        await store.settled()
    written = store.put(0, b"small")
    await store.settled()
    assert store.link.answers == [(failed, "unavailable"), (written, [1, None, False, None])]
