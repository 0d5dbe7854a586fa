"""Segments and the index between processes that die at the worst moment."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from simnode.storage.cache import SegmentCache
from simnode.storage.errors import SegmentGone
from simnode.storage.index import Index
from simnode.storage.pool import SegmentPool
from simnode.storage.reader import StoredContracts
from simnode.storage.rows import ContractRow, SegmentRef
from simnode.storage.run_directory import RunDirectory, leftovers, sweep_run_directories
from simnode.storage.segments import Segment

MIB = 1 << 20
CONTENT = bytes(range(256)) * 1024

PRELUDE = """
import resource, signal, sys
from pathlib import Path
from simnode.storage.cache import SegmentCache
from simnode.storage.errors import IndexFull, OutOfSpace
from simnode.storage.index import Index
from simnode.storage.pool import SegmentPool
from simnode.storage.reader import StoredContracts
from simnode.storage.rows import ContractRow
from simnode.storage.run_directory import RunDirectory
from simnode.storage.segments import Segment

ROOT, NAME = Path(sys.argv[1]), sys.argv[2]

def reached(what):
    print(what, flush=True)
    assert sys.stdin.readline() == "go on\\n"
"""


class Helper:
    """A process that runs a few lines, stopping wherever they say `reached(…)`."""

    def __init__(self, lines: str, root: Path, name: str, within: tuple[str, ...]) -> None:
        self._process = subprocess.Popen(
            [*within, sys.executable, "-c", PRELUDE + lines, str(root), name],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def wait_for(self, what: str) -> None:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == what + "\n"

    def go_on(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("go on\n")
        self._process.stdin.flush()

    def is_running(self) -> bool:
        return self._process.poll() is None

    def finish(self) -> None:
        """Let it run to its end, which must be a good one."""
        self._process.communicate(timeout=60)
        assert self._process.returncode == 0

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.communicate(timeout=60)


class Start(Protocol):
    def __call__(self, lines: str, *, name: str = "", within: tuple[str, ...] = ()) -> Helper: ...


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts helpers in the test's directory; whoever is still running at its end is killed."""
    started: list[Helper] = []

    def start(lines: str, *, name: str = "", within: tuple[str, ...] = ()) -> Helper:
        started.append(Helper(lines, tmp_path, name, within))
        return started[-1]

    yield start
    for helper in started:
        helper.kill()


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[SegmentPool]:
    pool = SegmentPool(tmp_path, budget_bytes=8 * MIB, free_limit_bytes=8 * MIB)
    yield pool
    pool.check_invariants()


def stored(pool: SegmentPool) -> str:
    name = pool.lease(len(CONTENT), "handler").name
    segment = Segment.open(pool.directory, name, writable=True)
    segment.write(0, CONTENT)
    segment.release_read()
    pool.stored(name, 0, len(CONTENT), len(CONTENT))
    return name


READER = """
cache = SegmentCache(ROOT, 4)
segment = cache.read(NAME)
reached("reading")
sys.exit(bytes(segment.map) != bytes(range(256)) * 1024)
"""


def test_a_reader_of_a_retired_segment_still_reads_the_right_bytes(start: Start, pool: SegmentPool) -> None:
    name = stored(pool)
    reader = start(READER, name=name)
    reader.wait_for("reading")
    pool.retire(name)
    other = Segment.open(pool.directory, pool.lease(len(CONTENT), "handler").name, writable=True)
    other.write(0, b"\xff" * len(CONTENT))
    with pytest.raises(SegmentGone):
        Segment.open(pool.directory, name)
    reader.go_on()
    reader.finish()
    assert pool.figures().unlinked == 1
    pool.tidy()
    assert pool.figures().lingering_bytes == 0


def test_the_lock_of_a_killed_reader_is_gone_and_the_segment_is_recycled(start: Start, pool: SegmentPool) -> None:
    name = stored(pool)
    reader = start(READER, name=name)
    reader.wait_for("reading")
    reader.kill()
    pool.retire(name)
    assert pool.lease(len(CONTENT), "handler").name != name
    figures = pool.figures()
    assert (figures.recycled, figures.unlinked) == (1, 0)


WRITER = """
segment = Segment.open(ROOT, NAME, writable=True)
segment.write(0, b"half a message")
reached("writing")
segment.write(0, b"too late")
"""


def test_the_leases_of_a_killed_writer_come_back(start: Start, pool: SegmentPool) -> None:
    name = pool.lease(MIB, "handler-1").name
    writer = start(WRITER, name=name)
    writer.wait_for("writing")
    writer.kill()
    (lease,) = pool.leases_of("handler-1")
    pool.release(lease)
    figures = pool.figures()
    assert (figures.reserved_bytes, figures.free_bytes) == (0, MIB)


def test_a_stopped_writer_that_goes_on_after_losing_its_lease_hurts_nobody(start: Start, pool: SegmentPool) -> None:
    name = pool.lease(MIB, "handler-1").name
    writer = start(WRITER, name=name)
    writer.wait_for("writing")
    pool.release(name)
    other = Segment.open(pool.directory, pool.lease(MIB, "handler-2").name, writable=True)
    writer.go_on()
    writer.finish()
    assert bytes(other.map) == bytes(MIB)


def test_a_killed_pool_is_rebuilt_from_its_directory(start: Start, tmp_path: Path) -> None:
    victim = start("""
pool = SegmentPool(ROOT, budget_bytes=1 << 22, free_limit_bytes=1 << 22)
pool.stored(pool.lease(100_000, "handler").name, 70_000, 80_000, 10_000)
pool.lease(200_000, "handler")
reached("leased")
""")
    victim.wait_for("leased")
    victim.kill()
    pool = SegmentPool(tmp_path, budget_bytes=4 * MIB, free_limit_bytes=4 * MIB)
    pool.rebuild()
    kept, leased = pool.orphans
    assert pool.live([kept]) == []
    pool.trim_later(kept, 70_000, 80_000)
    pool.tidy()
    assert pool.adopt(leased, "handler").nbytes == 4 * 65536
    assert pool.figures().stored_bytes <= 4 * 4096
    pool.check_invariants()


def test_a_store_killed_inside_a_batch_leaves_the_old_rows(start: Start, tmp_path: Path) -> None:
    store = start("""
index = Index(ROOT)
with index.write() as batch:
    batch.put_row(ContractRow(b"i" * 32, 1, b"c" * 32, (b"",), (b"old",)))
with index.write() as batch:
    batch.put_row(ContractRow(b"i" * 32, 2, b"c" * 32, (b"",), (b"new",)))
    batch.put_row(ContractRow(b"j" * 32, 1, b"c" * 32, (b"",), (b"new",)))
    reached("written")
""")
    store.wait_for("written")
    store.kill()
    index = Index(tmp_path)
    assert [(row.version, row.state) for row in index.rows()] == [(1, (b"old",))]
    with index.write() as batch:
        batch.put_row(ContractRow(b"i" * 32, 3, b"c" * 32, (b"",), (b"newer",)))
    assert index.count() == 1
    index.close()


def test_the_slot_of_a_killed_reader_is_cleared(start: Start, tmp_path: Path) -> None:
    index = Index(tmp_path)
    reader = start("""
index = Index(ROOT, readonly=True)
assert index.get(b"i" * 32) is None
reached("read")
""")
    reader.wait_for("read")
    assert index.reader_check() == 0
    reader.kill()
    assert index.reader_check() == 1
    index.close()


def test_readers_see_whole_states_while_the_store_replaces_them(start: Start, tmp_path: Path) -> None:
    """Each state is one repeated byte: its version. A recycled segment under a reader would show two."""
    segments = tmp_path / "segments"
    segments.mkdir()
    index = Index(tmp_path / "index")
    pool = SegmentPool(segments, budget_bytes=8 * MIB, free_limit_bytes=8 * MIB)

    def replace(version: int, before: str | None) -> str:
        name = pool.lease(MIB // 4, "handler").name
        segment = Segment.open(segments, name, writable=True)
        segment.write(0, bytes([version % 256]) * (MIB // 4))
        segment.release_read()
        pool.stored(name, 0, MIB // 4, MIB // 4)
        with index.write() as batch:
            batch.put_row(ContractRow(b"i" * 32, version, b"c" * 32, (b"",), (SegmentRef(name, 0, MIB // 4),)))
        if before is not None:
            pool.retire(before)
        return name

    name = replace(0, None)
    readers = [
        start("""
contracts = StoredContracts(Index(ROOT / "index", readonly=True), SegmentCache(ROOT / "segments", 2))
reached("ready")
seen = set()
while len(seen) < 100:
    stored = contracts.state(b"i" * 32)
    content = bytes(stored.state[0])
    assert content == bytes([stored.version % 256]) * len(content), stored.version
    seen.add(stored.version)
    stored.release()
""")
        for _ in range(2)
    ]
    for reader in readers:
        reader.wait_for("ready")
        reader.go_on()
    version = 0
    while any(reader.is_running() for reader in readers):
        version += 1
        name = replace(version, name)
        pool.tidy()
    for reader in readers:
        reader.finish()
    assert pool.figures().recycled > 0
    contracts = StoredContracts(index, SegmentCache(segments, 2))
    last = contracts.state(b"i" * 32)
    assert last is not None
    assert last.version == version
    last.release()
    pool.tidy()
    assert pool.figures().lingering_bytes == 0
    pool.check_invariants()
    index.close()


def test_the_run_directory_of_a_killed_node_is_swept_and_that_of_a_living_one_is_not(
    start: Start, tmp_path: Path
) -> None:
    alive = RunDirectory.create(tmp_path, "alive")
    node = start("""
run = RunDirectory.create(ROOT, "killed")
(run.path / "a.seg").write_bytes(bytes(100_000))
reached("running")
""")
    node.wait_for("running")
    assert leftovers(tmp_path) == []
    node.kill()
    (leftover,) = sweep_run_directories(tmp_path)
    assert leftover.path.name == "killed"
    assert leftover.nbytes >= 100_000
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["alive"]
    alive.close()


FULL = """
index = Index(ROOT / "index")
pool = SegmentPool(ROOT, budget_bytes=1 << 30, free_limit_bytes=0)

def put(count):
    with index.write() as batch:
        for at in range(count):
            batch.put_row(ContractRow(at.to_bytes(32, "big"), 1, b"c" * 32, (b"",), (bytes(60_000),)))

names = []
try:
    while True:
        names.append(pool.lease(1 << 20, "handler").name)
        Segment.open(ROOT, names[-1], writable=True).write(0, b"x" * (1 << 20))
except OutOfSpace:
    pool.check_invariants()
try:
    put(100)
except IndexFull:
    pass
else:
    sys.exit("a batch beyond the end of the filesystem")
"""


def test_a_file_size_limit_is_no_room_and_not_a_signal(start: Start) -> None:
    start("""
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 19, 1 << 19))
pool = SegmentPool(ROOT, budget_bytes=1 << 30, free_limit_bytes=1 << 30)
try:
    pool.lease(1 << 20, "handler")
except OutOfSpace:
    pool.check_invariants()
    pool.lease(1 << 19, "handler")
else:
    sys.exit("a lease beyond the limit")
""").finish()


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None, reason="a small tmpfs takes root and a mount namespace"
)
def test_a_full_tmpfs_refuses_leases_and_batches_and_kills_nobody(start: Start, tmp_path: Path) -> None:
    """With a sparse file, or LMDB's writemap, the writer would get SIGBUS."""
    mount = f"mount -t tmpfs -o size=8m none {tmp_path}"
    lines = """
assert index.count() == 0
for name in names[:2]:
    pool.release(name)
put(1)
assert index.count() == 1
"""
    within = ("unshare", "-m", "sh", "-c", f'{mount} && exec "$@"', "sh")
    start(FULL + lines, within=within).finish()
