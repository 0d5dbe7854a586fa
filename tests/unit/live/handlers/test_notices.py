"""One change told to many, and what it costs: a serialization for each form of it that anybody takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from simnode.live.handlers.notices import Notice
from simnode.live.handlers.stats import HandlerStats
from simnode.metrics.layout import layout_of
from simnode.metrics.model import Kind, Role
from simnode.metrics.reader import read_slab
from simnode.metrics.slab import StatsSlab, slab_path
from simnode.protocol.blob import Blob
from simnode.protocol.codec import codec_for
from simnode.protocol.codec.base import Encoding
from simnode.protocol.keys import contract_key
from simnode.protocol.messages.contracts import Delta, State
from simnode.storage.cache import SegmentCache
from simnode.storage.reader import StoredState

HANDLER = Role.CONNECTION_HANDLER
KEY = contract_key(b"c" * 32, b"params")
SUBSCRIBERS = 100

MakeNotice = Callable[[bytes, "bytes | None"], Notice]


@pytest.fixture
def slab(tmp_path: Path) -> Iterator[StatsSlab]:
    with StatsSlab.open(tmp_path, HANDLER, 0, now_s=0.0) as slab:
        yield slab


@pytest.fixture
def make_notice(slab: StatsSlab, tmp_path: Path) -> MakeNotice:
    """A state of version 2, and the delta that led to it."""
    stats = HandlerStats(slab)

    def make(state: bytes, delta: bytes | None) -> Notice:
        stored = StoredState(
            key=KEY, version=2, params=[], state=[Blob(state)], code=[], _cache=SegmentCache(tmp_path, 1)
        )
        return Notice(stored, delta, stats.notifications_encoded)

    return make


def encoded(run_dir: Path) -> dict[str, float]:
    """How often, by encoding, as another process reads it."""
    block = layout_of(HANDLER).block("simnode_notifications_encoded_total", Kind.COUNTER)
    cells = read_slab(slab_path(run_dir, HANDLER, 0)).cells
    return {encoding: cells[cell] for (encoding,), cell in block.cells.items() if cells[cell]}


def test_change_is_encoded_once_for_each_encoding_however_many_subscribe(
    make_notice: MakeNotice, tmp_path: Path
) -> None:
    notice = make_notice(b"state", None)
    codecs = [codec_for(encoding) for encoding in (Encoding.NATIVE, Encoding.MSGPACK)]
    shared = [[notice.encoded_for(codec, as_delta=False) for _ in range(SUBSCRIBERS)] for codec in codecs]
    assert encoded(tmp_path) == {"native": 1, "msgpack": 1}
    assert all(one[1] is several[0][1] for several in shared for one in several), "the same bytes go to all"


def test_every_change_is_encoded_anew(make_notice: MakeNotice, tmp_path: Path) -> None:
    for state in (b"one", b"two", b"three"):
        make_notice(state, None).encoded_for(codec_for(Encoding.FLATBUFFERS), as_delta=False)
    assert encoded(tmp_path) == {"flatbuffers": 3}


def test_encoding_that_nobody_asks_for_is_not_made(make_notice: MakeNotice, tmp_path: Path) -> None:
    make_notice(b"state", b"ate")
    assert encoded(tmp_path) == {}


def test_delta_is_another_form_of_the_change(make_notice: MakeNotice, tmp_path: Path) -> None:
    notice, codec = make_notice(b"old and new", b" and new"), codec_for(Encoding.NATIVE)
    for _ in range(SUBSCRIBERS):
        assert notice.encoded_for(codec, as_delta=True)[0].update == Delta(delta=Blob(b" and new"))
        assert notice.encoded_for(codec, as_delta=False)[0].update == State(state=Blob(b"old and new"))
    assert encoded(tmp_path) == {"native": 2}


def test_who_wants_deltas_shares_the_state_where_there_is_none(make_notice: MakeNotice, tmp_path: Path) -> None:
    notice, codec = make_notice(b"state", None), codec_for(Encoding.NATIVE)
    assert notice.encoded_for(codec, as_delta=True)[1] is notice.encoded_for(codec, as_delta=False)[1]
    assert encoded(tmp_path) == {"native": 1}
