"""Scripts: chunks and streams, in and out, with every outcome and every error; backlogs and segments."""

from __future__ import annotations

from collections.abc import Callable

from simnode.protocol.blob import Blob
from simnode.protocol.codec import codec_for
from simnode.protocol.codec.base import Encoding
from simnode.protocol.limits import CHUNK_SIZE, KIB, MAX_CONCURRENT_STREAMS, MIB
from simnode.protocol.messages.contracts import State
from simnode.protocol.messages.requests import StreamChunk, Update
from simnode.protocol.messages.responses import GetResponse
from tests.support.live_node import wait_until
from tests.support.metric_session import CountingClient, MetricSession
from tests.support.wire import chunks_of, get_of

MAX_CHUNK_BYTES = 300_000
MAX_CONNECTION_BYTES = 6 * MIB
IN = {"role": "connection_handler", "slot": "0", "direction": "inbound"}
OUT = {"role": "connection_handler", "slot": "0", "direction": "outbound"}
SERVICE = {"role": "reassembly_service", "slot": "0"}


def chunk(stream_id: int, index: int, total: int, data: bytes = b"piece") -> StreamChunk:
    return StreamChunk(stream_id=stream_id, index=index, total=total, data=Blob(data))


def half_a_stream_waits(session: MetricSession) -> None:
    """The first script: peaks of what nothing has used before are exact."""
    with session.client() as client:
        for index in range(2):
            client.send(chunk(1, index, 4, bytes(CHUNK_SIZE)))
        session.check_peak("simnode_backlog_chunks", "simnode_backlog_{}_chunks", 2, **IN)
        session.check_peak("simnode_backlog_bytes", "simnode_backlog_{}_bytes", 2 * CHUNK_SIZE, **IN)
        session.check("simnode_node_backlog_peak_60s_chunks", 2, direction="inbound")
        session.check("simnode_node_backlog_peak_60s_bytes", 2 * CHUNK_SIZE, direction="inbound")
        session.check_peak("simnode_reserved_bytes", "simnode_reserved_{}_bytes", 4 * CHUNK_SIZE, **SERVICE)
        client.reset()
    session.expect("simnode_streams_total", direction="inbound", outcome="aborted")
    session.check("simnode_backlog_chunks", 0, **IN)
    session.check("simnode_backlog_bytes", 0, **IN)
    session.check("simnode_reserved_bytes", 0, **SERVICE)


def segments_are_those_of_the_directory(session: MetricSession) -> None:
    """The second script: nothing is stored yet."""
    session.check("simnode_segments", 0, state="in_use")
    with session.client() as client:
        key = session.put(client, bytes(MIB)).contract.key
        session.check("simnode_segments", 1, state="in_use")
        client.asks("update", Update(key=key, data=State(state=Blob(b"small"))))
        session.expect_commits()
        session.expect("simnode_store_bytes", len(b"small") - MIB)
        session.check("simnode_segments", 0, state="in_use")
        session.put(client, bytes(100 * KIB))
        session.check("simnode_segments", 1, state="in_use")
    directory = session.node.run_dir / "data" / "segments"
    session.check("simnode_segments", len(session.node.segments()) - 1, state="free")
    allocated = sum(path.stat().st_blocks * 512 for path in directory.glob("*.seg"))
    used = session.check("simnode_segment_bytes", 100 * KIB, 16 * MIB, state="in_use")
    session.check("simnode_segment_bytes", allocated - used, state="free")


def chunked_requests_are_completed(session: MetricSession) -> None:
    for encoding in Encoding:
        with session.client(encoding) as client:
            request = session.new_put(bytes(700 * KIB))
            client.send_chunked(request, 7)
            client.answer()
            session.expect_answered("put", encoding, "ok")
            session.expect("simnode_streams_total", direction="inbound", outcome="completed")
            session.stored(request)


def chunks_that_break_a_rule_are_counted_by_the_rule(session: MetricSession) -> None:
    with session.client() as client:
        refuse(client, "zero_total", chunk(1, 0, 0), "aborted")
        refuse(client, "total_too_large", chunk(2, 0, 257), "aborted")
        refuse(client, "index_out_of_range", chunk(3, 3, 3), None)
        client.send(chunk(4, 0, 3))
        refuse(client, "total_mismatch", chunk(4, 1, 2), "aborted")
        client.send(chunk(4, 2, 3))  # too late, and dropped
        client.send(chunk(5, 0, 2))
        refuse(client, "duplicate_index", chunk(5, 0, 2), None)
        refuse(client, "out_of_budget", chunk(6, 0, 30), "refused")
        client.send(chunk(7, 0, 8))
        for index in range(1, 7):
            client.send(chunk(7, index, 8, bytes(MAX_CHUNK_BYTES)))
        refuse(client, "stream_too_large", chunk(7, 7, 8, bytes(MAX_CHUNK_BYTES)), "aborted")
        refuse(client, "chunk_too_large", chunk(8, 0, 2, bytes(MAX_CHUNK_BYTES + 1)), "aborted")
        nested = client.encode(chunk(10, 0, 1))
        refuse(client, "nested", chunks_of(nested, 9)[0], "completed")
        client.leave()
        session.expect("simnode_streams_total", direction="inbound", outcome="aborted")  # stream 5
    with session.client() as client:
        for stream_id in range(MAX_CONCURRENT_STREAMS):
            client.send(chunk(stream_id, 0, 2))
        refuse(client, "too_many_streams", chunk(99, 0, 2), None)
    session.expect("simnode_streams_total", MAX_CONCURRENT_STREAMS, direction="inbound", outcome="aborted")


def refuse(client: CountingClient, kind: str, last: StreamChunk, outcome: str | None) -> None:
    """Sends a chunk that is answered with an error, after which its stream, if it is gone, has an outcome."""
    client.send(last)
    client.answer()
    client.session.expect("simnode_reassembly_errors_total", kind=kind)
    if outcome is not None:
        client.session.expect("simnode_streams_total", direction="inbound", outcome=outcome)


def a_stream_that_is_left_alone_expires(session: MetricSession) -> None:
    with session.client() as client:
        client.send(chunk(1, 0, 2))
        client.answer()
        session.expect("simnode_reassembly_errors_total", kind="expired")
        session.expect("simnode_streams_total", direction="inbound", outcome="expired")


def chunked_answers_are_completed(session: MetricSession) -> None:
    for encoding in Encoding:
        with session.client(encoding, "streaming=true") as client:
            key = session.put(client, bytes(MIB)).contract.key
            client.asks("get", get_of(key))


STREAMED_BYTES = 6 * MIB - 64 * KIB


def an_answer_that_is_not_read_is_a_backlog_until_it_is_aborted(session: MetricSession) -> None:
    """In the mode `lazy`, which copies the whole answer into the heap."""
    with session.client() as writer:
        key = session.put(writer, bytes(STREAMED_BYTES)).contract.key
    answer = codec_for(Encoding.NATIVE).encode_result(
        GetResponse(key=key, contract=None, state=Blob(bytes(STREAMED_BYTES)))
    )
    chunks = -(-answer.nbytes // CHUNK_SIZE)
    session.settle()
    with session.client(query="streaming=true", receive_buffer_bytes=4096) as client:
        held = {"role": "connection_handler", "slot": "0"}
        client.send(get_of(key))
        session.expect_answered("get", Encoding.NATIVE, "ok")
        session.check_peak(
            "simnode_outbound_materialized_bytes", "simnode_outbound_materialized_{}_bytes", answer.nbytes, **held
        )
        most = answer.nbytes + chunks * KIB  # envelopes and frame headers of what the socket was offered
        for name, low, high in (("chunks", 1, chunks), ("bytes", CHUNK_SIZE, most)):
            session.check(f"simnode_backlog_{name}", low, high, **OUT)
        # noted as soon as the answer is made, before the socket has taken any of it
        session.check("simnode_backlog_peak_60s_chunks", chunks, **OUT)
        session.check("simnode_backlog_peak_life_chunks", chunks, **OUT)
        session.check("simnode_node_backlog_peak_60s_chunks", chunks, direction="outbound")
        for name in ("peak_60s", "peak_life"):
            session.check(f"simnode_backlog_{name}_bytes", answer.nbytes, most, **OUT)
        session.check("simnode_node_backlog_peak_60s_bytes", answer.nbytes, most, direction="outbound")
        _wait_for_standstill(session)
        client.reset()
    session.expect("simnode_streams_total", direction="outbound", outcome="aborted")
    # the header is out, and so many chunks as the kernels' buffers hold
    session.expect_between("simnode_messages_total", 1, chunks, direction="outbound")
    session.expect_between("simnode_chunks_total", 1, chunks - 1, direction="outbound")
    session.expect_between("simnode_payload_bytes_total", CHUNK_SIZE, answer.nbytes, direction="outbound")
    session.check("simnode_backlog_chunks", 0, **OUT)
    session.check("simnode_backlog_bytes", 0, **OUT)
    session.check("simnode_outbound_materialized_bytes", 0, **held)


def _wait_for_standstill(session: MetricSession) -> None:
    """Waits until the kernels' buffers are full, so that no count changes any more."""
    seen: list[float] = []

    def is_still() -> bool:
        seen.append(session.value("simnode_backlog_bytes", **OUT))
        return len(seen) > 3 and len(set(seen[-3:])) == 1

    wait_until("the kernels' buffers are full", is_still, timeout_s=5)


SCRIPTS: tuple[Callable[[MetricSession], None], ...] = (
    half_a_stream_waits,
    segments_are_those_of_the_directory,
    chunked_requests_are_completed,
    chunks_that_break_a_rule_are_counted_by_the_rule,
    a_stream_that_is_left_alone_expires,
    chunked_answers_are_completed,
    an_answer_that_is_not_read_is_a_backlog_until_it_is_aborted,
)
