"""An independent client on npm's `ws` and `flatbuffers`, with hand-written tables of its own, against a running node.

Nothing in it is ours but the knowledge of protocol.md §5: another WebSocket implementation, another
flatbuffers runtime, another language. It compares every byte that comes back; how it came is judged here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pytest
from blake3 import blake3

from simnode.protocol.keys import code_hash, contract_key
from simnode.protocol.limits import CHUNK_SIZE, CHUNK_THRESHOLD, MIB
from tests.support.npm import npm_directory, run_node

# The first test of a session installs the packages.
pytestmark = pytest.mark.timeout(300)

STATE_BYTES = [1024, 700 * 1024, 8 * MIB, 20 * MIB]
STREAMING = pytest.mark.parametrize("streaming", [False, True], ids=["unchunked", "chunked"])

NpmClient = Callable[..., dict[str, Any]]


class RunningNode(Protocol):
    """What the tests here need of `simnode_node`."""

    @property
    def url(self) -> str:
        """`ws://HOST:PORT/v1/contract/command`, without a query."""
        ...


@pytest.fixture(scope="session")
def npm_client() -> NpmClient:
    """Runs a command of `npm_client/client.mjs`; gives what it reports."""
    program: Path = npm_directory() / "client.mjs"
    return lambda command, url, **options: json.loads(run_node(program, command, url, json.dumps(options)))


def with_streaming(node: RunningNode, streaming: bool) -> str:
    """Flatbuffers are the default, so the URL does not ask for them."""
    return f"{node.url}?streaming=true" if streaming else node.url


@STREAMING
@pytest.mark.parametrize("upload", ["whole", "chunked", "reversed"])
def test_states_of_all_sizes_return(
    npm_client: NpmClient, simnode_node: RunningNode, streaming: bool, upload: str
) -> None:
    """Each under the key that its code and parameters give, which the client left to the node."""
    url = with_streaming(simnode_node, streaming)
    report = npm_client("roundtrip", url, sizes=STATE_BYTES, upload=upload)
    assert [result["size"] for result in report["results"]] == STATE_BYTES
    assert report["extensions"] == "", "compression is offered by the client and declined by the node"
    assert report["closeCode"] == 1000
    for result in report["results"]:
        key = contract_key(code_hash(bytes.fromhex(result["code"])), bytes.fromhex(result["parameters"]))
        assert (result["instance"], result["codeHash"]) == (key.instance.hex(), key.code.hex())
        is_chunked = streaming and result["size"] > CHUNK_THRESHOLD
        # a few hundred bytes of tables come with the state and never fill another chunk here
        assert result["downloadChunks"] == (math.ceil((result["size"] + 1) / CHUNK_SIZE) if is_chunked else 0)


@STREAMING
def test_subscribers_are_told_of_updates(npm_client: NpmClient, simnode_node: RunningNode, streaming: bool) -> None:
    size = 3 * CHUNK_SIZE
    report = npm_client("subscribe", with_streaming(simnode_node, streaming), size=size)
    assert report["subscribed"] == [["SubscribeResponse", True]] * 2
    chunks = 4 if streaming else 0
    state, delta = report["steps"]
    assert state["toWhole"] == state["toDeltas"] == ["UpdateNotification", "State", chunks]
    assert delta["toWhole"] == ["UpdateNotification", "State", chunks]
    assert delta["toDeltas"] == ["UpdateNotification", "Delta", 0]
    assert state["answer"] == delta["answer"] == "UpdateResponse"
    new = bytes((at * 7 + 1) % 251 for at in range(size))
    assert state["summary"] == blake3(new).hexdigest()
    assert delta["summary"] == blake3(new + b"and more").hexdigest()


@STREAMING
def test_errors_come_under_the_tag_of_error(npm_client: NpmClient, simnode_node: RunningNode, streaming: bool) -> None:
    """Not under that of Ok, where the reference puts them and its SDK waits for 30 seconds."""
    report = npm_client("errors", with_streaming(simnode_node, streaming))
    beginnings = {
        "get of an unknown contract": None,
        "subscribe to an unknown contract": "client error: missing contract: ",
        "update of an unknown contract": "client error: update error for contract ",
        "put of too large a state": "client error: put error for contract ",
        "a message that is none": "Failed decoding message from client request: ",
        "a chunk of nothing": "client error: unhandled error: stream reassembly error: total_chunks is zero",
    }
    assert report["answers"].keys() == beginnings.keys()
    for what, (kind, message) in report["answers"].items():
        if beginnings[what] is None:
            assert kind == "NotFound"
        else:
            assert kind == "Error", what
            assert message.startswith(beginnings[what])
    assert report["closed"] == {"code": 1000, "reason": ""}
