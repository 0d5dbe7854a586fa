"""A node whose index has 30,000 contracts: what asks for all of them holds nobody up."""

from __future__ import annotations

import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from simnode.protocol.keys import encode_base58
from simnode.protocol.messages.contracts import ContractKey
from simnode.protocol.messages.requests import QueryNeighborHostingInfo, Subscribe
from simnode.protocol.messages.responses import NeighborHosting, SubscribeResponse
from simnode.storage.index import Index
from simnode.storage.rows import ContractRow
from tests.support.live_node import LiveNode, live_node
from tests.support.wire import FrameClient, get_of

CONTRACTS = 30_000
QUERIES = 60
CODE_HASH = b"c" * 32


def key(number: int) -> ContractKey:
    return ContractKey(number.to_bytes(32), CODE_HASH)


@pytest.fixture(scope="module")
def large_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveNode]:
    data_dir: Path = tmp_path_factory.mktemp("data")
    index = Index(data_dir / "index")
    with index.write() as batch:
        batch.put_code(CODE_HASH, (b"code",))
        for number in range(CONTRACTS):
            batch.put_row(ContractRow(key(number).instance, 1, CODE_HASH, (), (b"state",)), replaces=None)
    index.close()
    with live_node(data_dir=str(data_dir), handlers=1) as node:
        yield node


def is_readable(client: FrameClient) -> bool:
    return bool(select.select([client.sock], [], [], 0)[0])


def test_queries_for_all_contracts_leave_another_client_its_turns(large_node: LiveNode) -> None:
    """840 bytes of them used to keep a handler from everything else until it was killed for it."""
    with FrameClient(large_node.url) as asker, FrameClient(large_node.url) as other:
        for _ in range(QUERIES):
            asker.send(QueryNeighborHostingInfo())
        gets = 0
        while not is_readable(asker):
            assert bytes(other.got(key(gets)).state) == b"state"
            gets += 1
        assert gets >= 10, "GETs had their turns while the answer was made"
        answers = {asker.message().data for _ in range(QUERIES)}
        assert len(answers) == 1, "one answer for all"
        hosting = asker.decode(answers.pop())
        assert isinstance(hosting, NeighborHosting)
        assert [entry.contract_key for entry in hosting.my_hosted] == [
            encode_base58(key(number).instance) for number in range(CONTRACTS)
        ]


def test_answers_keep_the_order_of_requests_of_one_contract(large_node: LiveNode) -> None:
    """A long query between two requests delays neither, and is answered exactly once."""
    with FrameClient(large_node.url) as client:
        client.send(Subscribe(key=key(1).instance, summary=None))
        client.send(QueryNeighborHostingInfo())
        client.send(get_of(key(1)))
        answers = [client.answer() for _ in range(3)]
        kinds = [type(answer).__name__ for answer in answers]
        assert sorted(kinds) == ["GetResponse", "NeighborHosting", "SubscribeResponse"]
        assert kinds.index("SubscribeResponse") < kinds.index("GetResponse")
        assert answers[0] == SubscribeResponse(key=key(1), subscribed=True)


def test_client_that_goes_while_its_answer_is_made_leaves_nothing_behind(large_node: LiveNode) -> None:
    with FrameClient(large_node.url) as client:
        for _ in range(QUERIES):
            client.send(QueryNeighborHostingInfo())
    with FrameClient(large_node.url) as client:
        assert isinstance(client.ask(QueryNeighborHostingInfo()), NeighborHosting)
        assert large_node.pid_of("connection_handler-0")


def test_ls_lists_more_contracts_than_one_question_may_name(large_node: LiveNode) -> None:
    import json
    import subprocess
    import sys

    command = [sys.executable, "-m", "simnode", "ls", "--json", "--url", large_node.url]
    listed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=100)
    contracts = json.loads(listed.stdout)
    assert len(contracts) == CONTRACTS
    assert {contract["bytes"] for contract in contracts} == {5}


def test_store_counts_as_many_after_a_restart(large_node: LiveNode) -> None:
    assert large_node.metric("simnode_store_contracts") == CONTRACTS
    assert large_node.metric("simnode_store_bytes") == CONTRACTS * len(b"state") + len(b"code")
