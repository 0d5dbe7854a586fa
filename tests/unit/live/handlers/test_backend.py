"""Room that was granted and cannot be used: who asked is answered, whatever was raised, and the room goes back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from simnode.live.handlers import backend as backend_module
from simnode.live.handlers.backend import CACHED_MAPPINGS, Backend
from simnode.live.handlers.stats import HandlerStats
from simnode.live.handlers.subscribers import Subscribers, Subscription
from simnode.live.link import Answer, LinkLost, LinkRefusal
from simnode.live.payloads import Lease
from simnode.live.settings import NodeSettings
from simnode.metrics.model import Role
from simnode.metrics.slab import StatsSlab
from simnode.node.ledger import Ledger, Shares
from simnode.protocol.errors import SinkFailed
from simnode.protocol.reassembly import SinkRefused
from simnode.storage.errors import IndexDamaged, OutOfDescriptors, SegmentFailure, SegmentGone
from simnode.storage.segments import Segment
from tests.support.descriptors import descriptors_left

KIB = 1024
NAME = "1-000000-0.seg"
CONTRACT = b"c" * 32


class FakeService:
    """The link to the reassembly service, with its answers in the test's hand."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any, Answer]] = []
        self.told: list[tuple[Any, ...]] = []

    def ask(self, method: str, args: Any, answer: Answer) -> None:
        self.asked.append((method, args, answer))

    def cast(self, *message: Any) -> None:
        self.told.append(message)

    def grants(self, nbytes: int) -> None:
        self.asked.pop()[2]([NAME, nbytes], None)

    def refuses(self, error: LinkLost | LinkRefusal) -> None:
        self.asked.pop()[2](None, error)


class World:
    """A backend between a fake service and a directory of segments."""

    def __init__(self, tmp_path: Path, slab: StatsSlab) -> None:
        settings = NodeSettings(run_dir=tmp_path, data_dir=tmp_path)
        settings.segments_dir.mkdir()
        self.directory = settings.segments_dir
        self.service = FakeService()
        self.account = Ledger(Shares()).open(self, "")
        self.backend = Backend(
            settings,
            "handler-0-0",
            stats=HandlerStats(slab),
            hear_store=lambda *_: None,
            hear_service=lambda *_: None,
            store_up=lambda _: None,
        )
        self.backend._service = self.service  # type: ignore[assignment]
        #: what who asked for room was given
        self.given: list[Lease | SinkRefused] = []

    def segment(self, name: str = NAME, nbytes: int = 64 * KIB) -> None:
        Segment.create(self.directory, name, nbytes)

    def lease(self) -> Lease:
        self.segment()
        self.backend.lease(64 * KIB, self.account, self.given.append)
        self.service.grants(64 * KIB)
        lease = self.given.pop()
        assert isinstance(lease, Lease)
        return lease


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with StatsSlab.open(tmp_path, Role.CONNECTION_HANDLER, 0, now_s=0.0) as slab:
        yield World(tmp_path, slab)


def test_granted_room_for_which_there_is_no_descriptor_is_refused_and_goes_back(world: World) -> None:
    world.segment()
    world.backend.lease(64 * KIB, world.account, world.given.append)
    with descriptors_left(os.getpid()):
        world.service.grants(64 * KIB)
    assert world.given == [SinkRefused("the node has no room for 65536 bytes")]
    assert world.service.told == [("release", NAME)]


@pytest.mark.parametrize(
    "failure",
    [SegmentGone(NAME), SegmentFailure("a broken disk"), OSError(5, "Input/output error"), RuntimeError("a bug")],
)
def test_whatever_is_raised_when_granted_room_is_opened_who_asked_is_answered(
    world: World, failure: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise failure

    monkeypatch.setattr(world.backend.mappings, "open", fail)
    world.backend.lease(64 * KIB, world.account, world.given.append)
    world.service.grants(64 * KIB)
    assert world.given == [SinkRefused("the node has no room for 65536 bytes")]
    assert world.service.told == [("release", NAME)]


def test_mappings_that_nobody_reads_go_before_room_is_refused(world: World) -> None:
    world.segment("stored")
    mappings = world.backend.mappings
    mappings.release(mappings.read("stored"))
    world.segment()
    world.backend.lease(64 * KIB, world.account, world.given.append)
    with descriptors_left(os.getpid()):
        world.service.grants(64 * KIB)
    assert isinstance(world.given[0], Lease)
    assert len(mappings) == 0


@pytest.mark.parametrize("failure", [OutOfDescriptors("none left"), OSError(5, "Input/output error")])
def test_room_that_has_grown_and_cannot_be_mapped_is_refused(
    world: World, failure: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease, which the message is given up with, goes back by itself."""

    def fail(self: Segment, nbytes: int) -> None:
        raise failure

    lease = world.lease()
    monkeypatch.setattr(Segment, "grow", fail)
    world.backend.grow(lease, 128 * KIB, world.given.append)
    world.service.grants(128 * KIB)
    assert world.given == [SinkRefused("the node has no room for 131072 bytes")]
    assert world.service.told == []
    assert lease.is_ours


def test_growing_gives_idle_mappings_up_as_well(world: World) -> None:
    lease = world.lease()
    world.segment("stored")
    mappings = world.backend.mappings
    mappings.release(mappings.read("stored"))
    world.backend.grow(lease, 128 * KIB, world.given.append)
    with descriptors_left(os.getpid()):
        world.service.grants(128 * KIB)
    assert world.given == [lease]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (LinkLost("gone"), "the node's reassembly service is away"),
        (LinkRefusal("no_room", "9 of 9 are in flight"), "the node has no room for 65536 bytes: 9 of 9 are in flight"),
    ],
)
def test_refused_room_says_why(world: World, error: LinkLost | LinkRefusal, reason: str) -> None:
    for ask in (
        lambda nbytes, give: world.backend.lease(nbytes, world.account, give),
        lambda nbytes, give: world.backend.grow(world.lease(), nbytes, give),
    ):
        world.given.clear()
        ask(64 * KIB, world.given.append)
        world.service.refuses(error)
        assert world.given == [SinkRefused(reason)]
        (world.directory / NAME).unlink(missing_ok=True)


def test_lease_that_cannot_be_written_says_so_without_its_name(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(fd: int, data: bytes, offset: int) -> int:
        raise OSError(28, "No space left on device")

    lease = world.lease()
    monkeypatch.setattr(os, "pwrite", fail)
    with pytest.raises(SinkFailed, match=r"^the node cannot store the message$"):
        lease.write(0, b"x")


@pytest.mark.parametrize(
    ("limit", "capacity"), [(1024, 128), (4096, 512), (1 << 20, CACHED_MAPPINGS), (4, 1), (-1, 512)]
)
def test_mappings_take_a_share_of_the_descriptors(limit: int, capacity: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under a limit of 1,024 a full cache of 512 mappings left no descriptor for anybody else."""
    monkeypatch.setattr(backend_module.resource, "getrlimit", lambda _: (limit, limit))
    assert backend_module._affordable_mappings() == capacity


# ---- notifications -------------------------------------------------------------------------------


class Contracts:
    """Stored contracts that cannot be read, for a while or for good."""

    def __init__(self, *outcomes: Exception | Any) -> None:
        self.outcomes = list(outcomes)

    def state(self, contract: bytes) -> Any:
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


class Stored:
    version = 2

    def __init__(self) -> None:
        self.is_released = False

    def release(self) -> None:
        self.is_released = True


class Subscriber:
    def __init__(self, *, is_broken: bool = False) -> None:
        self.subscriptions: dict[bytes, Subscription] = {}
        self.is_broken = is_broken
        self.heard: list[int] = []
        self.failures = 0

    def contract_changed(self, contract: bytes, notice: Any) -> None:
        if self.is_broken:
            raise RuntimeError("a bug of ours")
        self.heard.append(notice.version)

    def failed(self) -> None:
        self.failures += 1


def test_news_that_cannot_be_read_now_is_told_with_a_later_tick(world: World) -> None:
    """Else a subscriber would never hear of the last change before the descriptors ran out."""
    subscribers, subscriber = Subscribers(world.backend), Subscriber()
    subscribers.begin(subscriber, CONTRACT, takes_deltas=False)
    stored = Stored()
    world.backend.contracts = Contracts(OutOfDescriptors("none"), OutOfDescriptors("none"), stored)  # type: ignore[assignment]
    subscribers.tell(CONTRACT, 2)
    for heard in ([], [2], [2]):
        subscribers.tell_late()
        assert subscriber.heard == heard
    assert stored.is_released


@pytest.mark.parametrize("failure", [SegmentGone(NAME), IndexDamaged("a row")])
def test_news_that_is_lost_for_good_is_not_tried_again(world: World, failure: Exception) -> None:
    subscribers = Subscribers(world.backend)
    subscribers.begin(Subscriber(), CONTRACT, takes_deltas=False)
    world.backend.contracts = Contracts(failure)  # type: ignore[assignment]
    subscribers.tell(CONTRACT, 2)
    subscribers.tell_late()
    assert not world.backend.untold


def test_subscriber_that_fails_costs_the_others_nothing(world: World) -> None:
    """It would have cost this process its link to the store, and all its clients their writes."""
    subscribers = Subscribers(world.backend)
    everybody = [Subscriber(), Subscriber(is_broken=True), Subscriber()]
    for subscriber in everybody:
        subscribers.begin(subscriber, CONTRACT, takes_deltas=False)
    stored = Stored()
    world.backend.contracts = Contracts(stored)  # type: ignore[assignment]
    subscribers.tell(CONTRACT, 2)
    assert [(subscriber.heard, subscriber.failures) for subscriber in everybody] == [([2], 0), ([], 1), ([2], 0)]
    assert stored.is_released
