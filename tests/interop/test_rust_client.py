"""Programs on the reference's own Rust client (`freenet-stdlib`, `WebApi`) against a running node.

The program itself verifies every byte that comes back; here is asserted how it came.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

Client = Callable[..., dict[str, Any]]

# The first test of a session builds the program.
pytestmark = pytest.mark.timeout(1200)

CHUNK_BYTES = 262_144
CHUNK_THRESHOLD_BYTES = 524_288
GET_RESPONSE_OVERHEAD_BYTES = 85
STATE_BYTES = (1 << 10, 700 << 10, 8 << 20, 17 << 20, 50 << 20)
SIZES = ",".join(map(str, STATE_BYTES))
MAX_MESSAGE_BYTES = 100 << 20
WITH_AND_WITHOUT_STREAMING = pytest.mark.parametrize("query", ["", "&streaming=true"], ids=["unchunked", "chunked"])


@WITH_AND_WITHOUT_STREAMING
def test_states_of_all_sizes_return_by_recv(rust_client: Client, node_url: str, query: str) -> None:
    """Unchunked, 17 and 50 MiB are above the client's limit of a frame: only fragments get through."""
    report = rust_client("roundtrip", "--url", node_url + query, "--sizes", SIZES)
    done = [(result["op"], result["state_bytes"]) for result in report["results"]]
    assert done == [(op, state_bytes) for state_bytes in STATE_BYTES for op in ("put", "get")]


def test_large_states_return_by_recv_stream_when_the_client_opted_in(rust_client: Client, node_url: str) -> None:
    url = f"{node_url}&streaming=true"
    report = rust_client("roundtrip", "--url", url, "--sizes", SIZES, "--recv-stream")
    for result in report["results"]:
        if result["op"] == "get" and result["state_bytes"] > CHUNK_THRESHOLD_BYTES:
            total_bytes = result["state_bytes"] + GET_RESPONSE_OVERHEAD_BYTES
            assert result["recv"] == "recv_stream"
            assert result["total_bytes"] == total_bytes
            assert result["chunks"] == math.ceil(total_bytes / CHUNK_BYTES)


@pytest.mark.parametrize("overhead_bytes", [0, GET_RESPONSE_OVERHEAD_BYTES])
def test_the_threshold_counts_the_serialized_message(rust_client: Client, node_url: str, overhead_bytes: int) -> None:
    """A state of exactly the threshold is chunked, one whose whole message is exactly that long is not."""
    url = f"{node_url}&streaming=true"
    size = CHUNK_THRESHOLD_BYTES - overhead_bytes
    report = rust_client("raw-get", "--url", url, "--size", size, "--count", 1)
    assert (report["stream_headers"], report["chunks"]) == ((0, 0) if overhead_bytes else (1, 3))


def test_nobody_is_served_a_stream_header_unasked(rust_client: Client, node_url: str) -> None:
    with pytest.raises(RuntimeError, match="no StreamHeader within 2 s"):
        rust_client("roundtrip", "--url", node_url, "--sizes", 1 << 20, "--recv-stream", "--timeout-s", 2)


@WITH_AND_WITHOUT_STREAMING
def test_a_subscriber_on_a_second_connection_is_notified_of_each_update(
    rust_client: Client, node_url: str, query: str
) -> None:
    report = rust_client("update-subscribe", "--url", node_url + query)
    without, given = report["without_summary"], report["with_summary"]
    updates = ["State", "State", "Delta", "Delta", "StateAndDelta", "StateAndDelta"]
    assert [step["update"] for step in without] == [step["update"] for step in given] == updates
    assert [step["notified_with"] for step in without] == ["State"] * 6
    assert [step["notified_with"] for step in given] == ["State", "State", "Delta", "Delta", "State", "State"]
    assert all(step["summary_is_blake3_of_state"] for step in [*without, *given])


def test_an_unknown_key_is_answered_as_the_client_expects(rust_client: Client, node_url: str) -> None:
    report = rust_client("get-unknown", "--url", node_url)
    assert report["get"] == "NotFound"
    assert report["subscribe_error"] == "MissingContract"
    assert report["update_error"] == "Update"


def test_eight_uploads_may_interleave_on_one_connection_in_any_order(rust_client: Client, node_url: str) -> None:
    report = rust_client("interleaved", "--url", node_url, "--streams", 8)
    assert report["chunks_each"] == 13


@WITH_AND_WITHOUT_STREAMING
def test_eight_connections_upload_and_download_at_once(rust_client: Client, node_url: str, query: str) -> None:
    report = rust_client("concurrent-uploads", 8, "--url", node_url + query, "--contracts", 2)
    assert [len(connection["get_seconds"]) for connection in report["per_connection"]] == [2] * 8


@pytest.mark.parametrize(("requests", "state_bytes"), [(200, 1000), (12, 1 << 20)])
def test_requests_may_be_pipelined(rust_client: Client, node_url: str, requests: int, state_bytes: int) -> None:
    """Twelve large replies are more than the eight streams that the client can keep apart."""
    url = f"{node_url}&streaming=true"
    report = rust_client("pipelined", requests, "--url", url, "--size", state_bytes)
    assert report["requests"] == requests


@pytest.mark.parametrize(
    ("kind", "answer"), [("put", "put error for contract"), ("undecodable", "error while deserializing")]
)
def test_a_hundred_megabytes_in_one_frame_are_answered(
    rust_client: Client, node_url: str, kind: str, answer: str
) -> None:
    """The PUT's state is over 50 MiB; both are refused by an answer, and the connection lives on."""
    report = rust_client("raw-frame", "--url", node_url, "--kind", kind, "--size", 100_000_000)
    assert (report["outcome"], report["survived"]) == ("answered", True)
    assert answer in report["answer"]


def test_a_message_over_the_limit_is_closed_with_1009(rust_client: Client, node_url: str) -> None:
    report = rust_client("raw-frame", "--url", node_url, "--size", MAX_MESSAGE_BYTES + 1)
    assert (report["outcome"], report["close_code"]) == ("closed", 1009)


def test_clients_that_never_read_disturb_nobody(rust_client: Client, node_url: str) -> None:
    rust_client("stall", "--url", node_url, "--connections", 4, "--seconds", 1)
    assert rust_client("get-unknown", "--url", node_url)["get"] == "NotFound"


@pytest.mark.parametrize("op", ["put", "get", "update"])
def test_the_bench_driver_measures_the_real_client(rust_client: Client, node_url: str, op: str) -> None:
    report = rust_client("bench", "--url", node_url, "--op", op, "--size", 1 << 20, "--count", 3, "--streaming")
    assert len(report["seconds"]) == report["latency"]["n"] == 3
    assert report["median_mb_per_s"] > 0


@pytest.mark.parametrize("command", ["raw-put", "raw-get"])
def test_the_raw_driver_measures_large_states(rust_client: Client, node_url: str, command: str) -> None:
    url = f"{node_url}&streaming=true"
    report = rust_client(command, "--url", url, "--size", 1 << 20, "--count", 3)
    assert report["count"] == 3


@pytest.mark.parametrize("op", ["get", "put"])
def test_the_raw_driver_measures_small_operations(rust_client: Client, node_url: str, op: str) -> None:
    report = rust_client("bench-small", "--url", node_url, "--op", op, "--connections", 4, "--seconds", 0.3)
    assert report["ops"] == report["latency"]["n"] > 0


@pytest.mark.parametrize("connection", [[], ["--other-connection"]], ids=["same", "other"])
def test_small_gets_are_answered_beside_a_large_stream(
    rust_client: Client, node_url: str, connection: list[str]
) -> None:
    report = rust_client("raw-fairness", "--url", node_url, "--seconds", 0.5, *connection)
    assert report["small_get_latency"]["n"] > 0
