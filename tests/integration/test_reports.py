"""Node queries over a real index and a store in the test's hand: what is answered, and in how small steps."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from simnode.live.handlers import reports as reports_module
from simnode.live.handlers.answers import INTERNAL_ERROR, UNREADABLE, Answer
from simnode.live.handlers.reports import ENTRIES_AT_ONCE, Reports
from simnode.live.link import LinkLost
from simnode.live.settings import NodeSettings
from simnode.node.diagnostics import NodeView
from simnode.node.subscriptions import SubscriberCounts, SubscriptionCaps
from simnode.protocol.blob import Blob
from simnode.protocol.codec import codec_for
from simnode.protocol.codec.base import Codec, Encoding
from simnode.protocol.keys import encode_base58
from simnode.protocol.messages.contracts import ContractKey
from simnode.protocol.messages.error_kinds import NodeUnavailable, OperationError, Unhandled
from simnode.protocol.messages.requests import (
    NodeQuery,
    QueryConnectedPeers,
    QueryNeighborHostingInfo,
    QueryNodeDiagnostics,
    QuerySubscriptionInfo,
)
from simnode.protocol.messages.responses import (
    ConnectedPeers,
    ContractState,
    Err,
    NeighborHosting,
    NetworkDebug,
    NodeDiagnostics,
)
from simnode.storage.errors import IndexFailure
from simnode.storage.index import Index
from simnode.storage.rows import ContractRow
from tests.support.eventually import eventually

CONTRACTS = [number.to_bytes(32) for number in range(1, 1001)]
ENCODINGS = [Encoding.NATIVE, Encoding.MSGPACK]


class Store:
    """The store's side of the link, which may be lost."""

    def __init__(self) -> None:
        self.counts = SubscriberCounts(SubscriptionCaps())
        self.is_lost = False
        self.calls = 0

    async def call(self, method: str, argument: Any) -> Any:
        self.calls += 1
        if self.is_lost:
            raise LinkLost(method)
        if method == "subscriptions":
            return self.counts.contracts(argument, 10)
        assert method == "subscriber_counts"
        assert len(argument) <= ENTRIES_AT_ONCE
        return [self.counts.count_of(contract) for contract in argument]


class World:
    def __init__(self, tmp_path: Path) -> None:
        self.index = Index(tmp_path / "index")
        with self.index.write() as batch:
            for contract in CONTRACTS:
                batch.put_row(ContractRow(contract, 1, b"c" * 32, (), (contract[-2:] * 2,)))
        self.store = Store()
        settings = NodeSettings(run_dir=tmp_path, data_dir=tmp_path)
        backend: Any = SimpleNamespace(index=self.index, store=self.store)
        self.reports = Reports(backend, settings, self._view)

    def _view(self) -> NodeView:
        return NodeView(
            name="simnode", address="127.0.0.1:7509", uptime_seconds=42, connections=3, contracts=self.index.count()
        )

    async def ask(self, query: NodeQuery, encoding: Encoding = Encoding.NATIVE) -> Any:
        """The answer, as a client decodes it."""
        codec = codec_for(encoding)
        answers: list[Answer] = []
        self.reports.ask(query, codec, answers.append)
        await eventually(lambda: answers)
        return as_sent(answers[0], codec)


def as_sent(answer: Answer, codec: Codec) -> Any:
    message = answer.encoded if answer.encoded is not None else codec.encode_result(answer.result)
    return codec.decode_result(Blob(bytes(message)))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    yield world
    await world.reports.close()
    world.index.close()


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many entries are serialized between two looks at the clock."""
    found = [0]
    encode, step_done = reports_module._Entries._append, reports_module.Slices.step_done

    def append(self: Any, data: bytes) -> None:
        found[-1] += 1
        encode(self, data)

    async def look(self: Any) -> None:
        found.append(0)
        await step_done(self)

    monkeypatch.setattr(reports_module._Entries, "_append", append)
    monkeypatch.setattr(reports_module.Slices, "step_done", look)
    return found


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_every_contract_is_hosted(world: World, encoding: Encoding) -> None:
    hosting = await world.ask(QueryNeighborHostingInfo(), encoding)
    assert isinstance(hosting, NeighborHosting)
    assert [entry.contract_key for entry in hosting.my_hosted] == list(map(encode_base58, CONTRACTS))
    assert world.store.calls == 0


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_every_subscription_of_the_node_is_listed(world: World, encoding: Encoding) -> None:
    expected = {}
    for number, contract in enumerate(CONTRACTS[:200]):
        expected[contract] = 1 + number % 3
        world.store.counts.restore(contract, "here", expected[contract])
    info = await world.ask(QuerySubscriptionInfo(), encoding)
    assert isinstance(info, NetworkDebug)
    found = sorted((entry.contract_key, entry.client_id) for entry in info.subscriptions)
    assert found == [(contract, client) for contract, count in expected.items() for client in range(count)]
    everything = await world.ask(QueryNodeDiagnostics(), encoding)
    assert sorted(map(repr, everything.subscriptions)) == sorted(map(repr, info.subscriptions))


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_contracts_that_are_asked_about_are_reported_on_and_unknown_ones_left_out(
    world: World, encoding: Encoding
) -> None:
    world.store.counts.restore(CONTRACTS[7], "here", 5)
    keys = tuple(ContractKey(contract, bytes(32)) for contract in (b"unknown".ljust(32), *CONTRACTS))
    diagnosis = await world.ask(QueryNodeDiagnostics(contract_keys=keys), encoding)
    assert isinstance(diagnosis, NodeDiagnostics)
    states = dict(diagnosis.contract_states)
    assert list(states) == list(map(encode_base58, CONTRACTS))
    assert states[encode_base58(CONTRACTS[7])] == ContractState(subscribers=5, subscriber_peer_ids=(), size_bytes=4)
    assert diagnosis.system_metrics.hosting_contracts == len(CONTRACTS)


@pytest.mark.usefixtures("world")
async def test_no_step_is_longer_than_a_few_entries(world: World, steps: list[int]) -> None:
    """Whatever the number of contracts, and of subscribers of one of them."""
    world.store.counts.restore(CONTRACTS[0], "here", 500)
    keys = tuple(ContractKey(contract, bytes(32)) for contract in CONTRACTS)
    for query in (QueryNeighborHostingInfo(), QuerySubscriptionInfo(), QueryNodeDiagnostics(contract_keys=keys)):
        await world.ask(query)
    assert max(steps) == 1, "one piece of up to ENTRIES_AT_ONCE at a time"
    assert sum(steps) >= 2 * len(CONTRACTS) // ENTRIES_AT_ONCE


async def test_query_that_asks_for_no_list_is_answered_at_once_without_the_store(world: World) -> None:
    peers = world.reports.at_once(QueryConnectedPeers())
    assert peers is not None
    assert peers.result == ConnectedPeers(peers=())
    details = world.reports.at_once(QueryNodeDiagnostics(include_subscriptions=False))
    assert details is not None
    assert isinstance(details.result, NodeDiagnostics)
    assert world.reports.at_once(QueryNodeDiagnostics()) is None


async def test_identical_queries_share_one_answer_and_another_encoding_does_not(world: World) -> None:
    answers: list[Answer] = []
    native, other = codec_for(Encoding.NATIVE), codec_for(Encoding.MSGPACK)
    for codec in (native, native, other):
        world.reports.ask(QueryNeighborHostingInfo(), codec, answers.append)
    await eventually(lambda: len(answers) == 3)
    assert answers[0] is answers[1]
    assert answers[2].encoded != answers[0].encoded


async def test_response_that_is_too_long_is_an_error_that_names_both_sizes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = codec_for(Encoding.NATIVE).encode_result(await world.ask(QueryNeighborHostingInfo()))
    monkeypatch.setattr(reports_module, "MAX_RESPONSE_SIZE", 10_000)
    world.reports._work._max_age_s = 0.0
    answer = await world.ask(QueryNeighborHostingInfo())
    assert isinstance(answer, Err)
    assert isinstance(answer.kind, OperationError)
    assert f"a response of {whole.nbytes} bytes" in answer.kind.cause


async def test_store_that_is_away_is_told_as_such_and_costs_no_later_query(world: World) -> None:
    world.store.is_lost = True
    assert await world.ask(QuerySubscriptionInfo()) == Err(NodeUnavailable())
    world.store.is_lost = False
    assert await world.ask(QuerySubscriptionInfo()) == NetworkDebug(subscriptions=(), connected_peers=())


async def test_what_came_before_the_question_is_in_the_answer(world: World) -> None:
    await world.ask(QuerySubscriptionInfo())
    world.store.counts.add(CONTRACTS[0], "here")
    assert len((await world.ask(QuerySubscriptionInfo())).subscriptions) == 1


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (IndexFailure("/dev/shm/x/data.mdb: MDB_READERS_FULL"), OperationError(cause=UNREADABLE)),
        (RuntimeError("a bug at 0x7f00"), Unhandled(cause=INTERNAL_ERROR)),
    ],
)
async def test_index_that_cannot_be_read_is_told_in_neutral_words(
    world: World, monkeypatch: pytest.MonkeyPatch, failure: Exception, kind: OperationError | Unhandled
) -> None:
    """Paths and exceptions are for the log."""

    async def fail(*_: object) -> None:
        raise failure

    with monkeypatch.context() as patch:
        patch.setattr(world.reports, "_report", fail)
        assert await world.ask(QueryNeighborHostingInfo()) == Err(kind)
