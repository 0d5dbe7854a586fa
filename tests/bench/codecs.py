"""What a message costs each codec: `python -m tests.bench.codecs`. Enters: options. Leaves: a table and JSON.

Microseconds of processor time (not of the clock, which others on the machine would share) and bytes
of memory taken, beside the plain way of the library (`plain_codecs.py`), in turn: A B A B.
"""

from __future__ import annotations

import argparse
import json
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from simnode.protocol.blob import Blob, Rope
from simnode.protocol.codec import codec_for
from simnode.protocol.codec.base import Encoding
from simnode.protocol.limits import CHUNK_SIZE, MIB
from simnode.protocol.messages.contracts import ContractKey
from simnode.protocol.messages.requests import Get
from simnode.protocol.messages.responses import GetResponse
from tests.bench import plain_codecs as plain

ROUNDS = 7
BATCH_SECONDS = 0.05
"""Processor time of one measurement: as many messages as it takes."""

TABLE_WIDTH = 120
"""Of a line of the table, in columns, at the least."""

Way = Callable[[], Any]


@dataclass(slots=True)
class Cost:
    """Of one message, one way.

    Attributes:
        microseconds: one figure a round.
        nbytes: memory that one message takes at its peak, beyond what goes in.
    """

    microseconds: list[float] = field(default_factory=list)
    nbytes: int = 0


@dataclass(slots=True, kw_only=True)
class Contest:
    """The same work, ours and the library's."""

    message: str
    work: str
    encoding: str
    ways: dict[str, Way]
    costs: dict[str, Cost] = field(default_factory=dict)

    def ratio(self) -> float | None:
        """How many times as long as ours the library takes."""
        if "library" not in self.costs:
            return None
        return median(self.costs["library"].microseconds) / median(self.costs["ours"].microseconds)


def contests() -> Iterator[Contest]:
    """Everything that is measured."""
    chunk_data, state, small = bytes(CHUNK_SIZE), bytes(50 * MIB), bytes(256)
    for encoding in Encoding:
        yield from _chunks(encoding, chunk_data)
        yield from _get_responses(encoding, "GetResponse of 50 MiB", state)
        yield from _get_responses(encoding, "GetResponse of 256 bytes", small)
        yield from _gets(encoding)


def _contest(message: str, work: str, encoding: Encoding, ours: Way, **others: Way | None) -> Contest:
    ways = {"ours": ours} | {name: way for name, way in others.items() if way is not None}
    return Contest(message=message, work=work, encoding=encoding.value, ways=ways)


def _chunks(encoding: Encoding, data: bytes) -> Iterator[Contest]:
    codec, rope = codec_for(encoding), Rope([data])

    def encode() -> Rope:
        return codec.encode_result_chunk(stream_id=7, index=3, total=200, data=rope)

    message = bytes(encode())
    build = {Encoding.FLATBUFFERS: plain.build_chunk, Encoding.MSGPACK: plain.pack_chunk}.get(encoding)
    read = {Encoding.FLATBUFFERS: plain.access_chunk, Encoding.MSGPACK: plain.unpack}.get(encoding)
    by_byte = plain.access_chunk_by_byte if encoding is Encoding.FLATBUFFERS else None
    name = "StreamChunk of 256 KiB"
    yield _contest(name, "encode", encoding, encode, library=build and (lambda: build(data)))
    yield _contest(
        name,
        "decode",
        encoding,
        lambda: codec.decode_result(Blob(message)),
        library=read and (lambda: read(message)),
        byte_by_byte=by_byte and (lambda: by_byte(message)),
    )


def _get_responses(encoding: Encoding, name: str, state: bytes) -> Iterator[Contest]:
    codec = codec_for(encoding)
    response = GetResponse(key=ContractKey(plain.INSTANCE, plain.CODE), contract=None, state=Blob(state))
    message = bytes(codec.encode_result(response))
    build = {Encoding.FLATBUFFERS: plain.build_get_response, Encoding.MSGPACK: plain.pack_get_response}.get(encoding)
    read = {Encoding.FLATBUFFERS: plain.access_get_response, Encoding.MSGPACK: plain.unpack}.get(encoding)
    yield _contest(
        name,
        "encode",
        encoding,
        lambda: codec.encode_result(response),
        library=build and (lambda: build(state)),
    )
    yield _contest(
        name,
        "decode",
        encoding,
        lambda: codec.decode_result(Blob(message)),
        library=read and (lambda: read(message)),
    )


def _gets(encoding: Encoding) -> Iterator[Contest]:
    codec, request = codec_for(encoding), Get(key=plain.INSTANCE)
    message = bytes(codec.encode_request(request))
    build = {Encoding.FLATBUFFERS: plain.build_get, Encoding.MSGPACK: plain.pack_get}.get(encoding)
    read = {Encoding.FLATBUFFERS: plain.access_get, Encoding.MSGPACK: plain.unpack}.get(encoding)
    yield _contest(
        "GET",
        "encode",
        encoding,
        lambda: codec.encode_request(request),
        library=build and (lambda: build(b"")),
    )
    yield _contest(
        "GET",
        "decode",
        encoding,
        lambda: codec.decode_request(Blob(message)),
        library=read and (lambda: read(message)),
    )


# ---- measuring -----------------------------------------------------------------------------------


def measure(contest: Contest, rounds: int) -> None:
    """Fills in the costs of each way, taking turns."""
    batches = {}
    for name, way in contest.ways.items():
        contest.costs[name] = Cost(nbytes=_memory(way))
        batches[name] = _batch(way)
    for _ in range(rounds):
        for name, way in contest.ways.items():
            contest.costs[name].microseconds.append(1e6 * _seconds(way, batches[name]) / batches[name])


def _memory(way: Way) -> int:
    way()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        way()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return peak - before


def _batch(way: Way) -> int:
    times = 1
    while _seconds(way, times) < BATCH_SECONDS:
        times *= 2
    return times


def _seconds(way: Way, times: int) -> float:
    began = time.process_time()
    for _ in range(times):
        way()
    return time.process_time() - began


# ---- showing -------------------------------------------------------------------------------------


def table(measured: list[Contest]) -> Table:
    """A line for each contest."""
    shown = Table(title="codecs: processor time and memory of one message", title_justify="left")
    for title in ("message", "", "encoding"):
        shown.add_column(title)
    for title in ("ours, µs", "library, µs", "ratio", "ours, bytes", "library, bytes"):
        shown.add_column(title, justify="right")
    for contest in measured:
        ours, library = contest.costs["ours"], contest.costs.get("library")
        ratio = contest.ratio()
        shown.add_row(
            contest.message,
            contest.work,
            contest.encoding,
            f"{median(ours.microseconds):,.2f}",
            f"{median(library.microseconds):,.2f}" if library else "–",
            f"{ratio:,.2f}×" if ratio else "–",
            f"{ours.nbytes:,}",
            f"{library.nbytes:,}" if library else "–",
        )
    by_byte = [contest.costs["byte_by_byte"] for contest in measured if "byte_by_byte" in contest.costs]
    shown.caption = (
        "Medians. Ratio: the library's time to ours. There is no bincode for Python. msgpack's reading is untyped and "
        "in C. Generated flatbuffers code without numpy reads a chunk byte by byte, in "
        f"{median(by_byte[0].microseconds):,.0f} µs."
    )
    shown.caption_justify = "left"
    return shown


def as_json(measured: list[Contest]) -> list[dict[str, Any]]:
    """Every figure of every round."""
    return [
        {
            "message": contest.message,
            "work": contest.work,
            "encoding": contest.encoding,
            "ratio": contest.ratio(),
            "ways": {
                name: {"microseconds": cost.microseconds, "bytes": cost.nbytes} for name, cost in contest.costs.items()
            },
        }
        for contest in measured
    ]


def main() -> None:
    """Measures everything, prints the table and writes `codecs.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="measurements of each figure")
    parser.add_argument("--out", type=Path, default=Path("bench-results"), help="directory for the results")
    options = parser.parse_args()
    measured = []
    for contest in contests():
        measure(contest, options.rounds)
        measured.append(contest)
    console = Console()
    if console.width < TABLE_WIDTH:  # what is no terminal has 80 columns
        console = Console(width=TABLE_WIDTH)
    console.print(table(measured))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "codecs.json").write_text(json.dumps(as_json(measured), indent=1) + "\n")


if __name__ == "__main__":
    main()
