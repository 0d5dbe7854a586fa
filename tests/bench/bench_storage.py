"""What segments and the index cost. Run: `python tests/bench/bench_storage.py DIRECTORY` (say, /dev/shm)."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from simnode.storage.cache import SegmentCache
from simnode.storage.index import Index
from simnode.storage.pool import SegmentPool
from simnode.storage.reader import StoredContracts, StoredState
from simnode.storage.rows import ContractRow, Extent, SegmentRef
from simnode.storage.segments import Segment

MIB = 1 << 20
GIB = 1 << 30
MESSAGE_BYTES = 50 * MIB
PIECE = b"x" * (256 * 1024)
ROUNDS = 5


def best_us(call: Callable[[], object], number: int) -> float:
    """The best of several rounds, because the machine is shared; microseconds a call."""
    best = float("inf")
    for _ in range(ROUNDS):
        start = perf_counter()
        for _ in range(number):
            call()
        best = min(best, perf_counter() - start)
    return best / number * 1e6


def show(what: str, value: float, unit: str) -> None:
    print(f"{what:<58}{value:>10.2f} {unit}")


def bench_writing(pool: SegmentPool) -> None:
    def through_map(segment: Segment) -> None:
        for at in range(0, MESSAGE_BYTES, len(PIECE)):
            segment.map[at : at + len(PIECE)] = PIECE

    def by_call(segment: Segment) -> None:
        for at in range(0, MESSAGE_BYTES, len(PIECE)):
            segment.write(at, PIECE)

    def rate(write: Callable[[Segment], None], *, fresh: bool) -> tuple[float, float]:
        if not fresh:
            pool.release(pool.lease(MESSAGE_BYTES, "warm").name)
        start = perf_counter()
        lease = pool.lease(MESSAGE_BYTES, "bench")
        leased = perf_counter()
        segment = Segment.open(pool.directory, lease.name, writable=True)
        write(segment)
        written = perf_counter()
        if not fresh:
            segment.release_read()  # a segment that is still held is unlinked
        pool.release(lease.name)
        segment.close()
        pool.tidy()
        return (leased - start) * 1e6, MESSAGE_BYTES / (written - leased) / 1e9

    for fresh in (True, False):
        pages = "new" if fresh else "recycled"
        for name, write in (("map", through_map), ("Segment.write", by_call)):
            rounds = [rate(write, fresh=fresh) for _ in range(ROUNDS)]
            show(f"50 MiB into {pages} pages, {name}", max(gb_s for _, gb_s in rounds), "GB/s")
            show(f"    lease of them ({pages})", min(us for us, _ in rounds), "µs")


def bench_pool(pool: SegmentPool) -> None:
    def lease_and_release() -> None:
        pool.release(pool.lease(MIB, "bench").name)

    def whole_life() -> None:
        name = pool.lease(MIB, "bench").name
        pool.stored(name, 100, MIB - 100, MIB // 2)
        pool.retire(name)

    show("lease + release, 1 MiB", best_us(lease_and_release, 2000), "µs")
    show("lease + stored + retire, 1 MiB", best_us(whole_life, 2000), "µs")


def bench_index(root: Path, pool: SegmentPool) -> None:
    index = Index(root / "index")
    name = pool.lease(MIB, "bench").name
    pool.stored(name, 0, MIB, MIB)
    small, medium, large = b"s" * 32, b"m" * 32, b"l" * 32
    states: dict[bytes, Extent] = {small: bytes(256), medium: bytes(64 * 1024), large: SegmentRef(name, 0, MIB)}

    def write() -> None:
        with index.write() as batch:
            batch.put_row(ContractRow(small, 1, b"c" * 32, (b"params",), (bytes(256),)))

    with index.write() as batch:
        for number in range(10_000):
            batch.put_row(ContractRow(number.to_bytes(32, "big"), 1, b"c" * 32, (b"params",), (bytes(256),)))
        for instance, extent in states.items():
            batch.put_row(ContractRow(instance, 1, b"c" * 32, (b"params",), (extent,)))
    contracts = StoredContracts(index, SegmentCache(pool.directory, 4))

    def read(instance: bytes) -> None:
        stored = contracts.state(instance)
        assert isinstance(stored, StoredState)
        stored.release()

    show("Index.get, 256 bytes inline", best_us(lambda: index.get(small), 20_000), "µs")
    show("Index.get, 64 KiB inline", best_us(lambda: index.get(medium), 5_000), "µs")
    show("StoredContracts.state + release, 256 bytes inline", best_us(lambda: read(small), 20_000), "µs")
    show("StoredContracts.state + release, a segment", best_us(lambda: read(large), 5_000), "µs")
    show("Index.write, one row, not durable", best_us(write, 2_000), "µs")
    index.close()


def main(parent: str) -> None:
    with tempfile.TemporaryDirectory(dir=parent) as directory:
        root = Path(directory)
        (root / "segments").mkdir()
        pool = SegmentPool(root / "segments", budget_bytes=GIB, free_limit_bytes=GIB)
        bench_writing(pool)
        bench_pool(pool)
        bench_index(root, pool)


if __name__ == "__main__":
    main(sys.argv[1])
