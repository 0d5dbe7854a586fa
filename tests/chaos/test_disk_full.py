"""A full disk, as a process sees it that may write no further: clients hear of it in neutral words, the log once."""

from __future__ import annotations

import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from simnode.protocol.limits import KIB, MIB
from simnode.protocol.messages.error_kinds import NodeUnavailable
from simnode.protocol.messages.responses import Err, PutResponse
from tests.support.live_node import LiveNode, live_node
from tests.support.vectors import counting_bytes
from tests.support.wire import FrameClient, put_of

WRITES = 300
A_BATCH_FAILED = re.compile(r" a batch of \d+ writes failed: .*?(?: … (\d+) times more)?$", re.MULTILINE)


@contextmanager
def full_disk(pid: int) -> Iterator[None]:
    """For the block, files of the process do not grow: `RLIMIT_FSIZE`, which stands for ENOSPC in `NO_ROOM`."""
    soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (KIB, hard))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))


def test_message_that_there_is_no_space_for_is_refused_in_neutral_words(node: LiveNode) -> None:
    request = put_of(counting_bytes(17 * MIB), params=b"no space")
    with FrameClient(node.url) as client:
        with full_disk(node.pid_of("reassembly_service-0")):
            in_one_frame = client.ask(request)
            client.send_chunked(request, 3)
            in_chunks = client.answer()
        for answer in (in_one_frame, in_chunks):
            assert isinstance(answer, Err)
        assert "no space left" in str(in_chunks)
        assert client.ask(request) == PutResponse(key=request.contract.key)


def test_writes_on_a_full_disk_are_refused_and_the_log_counts_them(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with live_node(log=log) as node, FrameClient(node.url) as client:
        with full_disk(node.pid_of("contract_store-0")):
            answers = [client.ask(put_of(b"x" * KIB, params=b"%d" % number)) for number in range(WRITES)]
        assert answers == [Err(NodeUnavailable())] * WRITES
        assert isinstance(client.ask(put_of(b"x", params=b"again")), PutResponse)
        assert node.terminate() == 0
    lines = [int(match[1] or 1) for match in A_BATCH_FAILED.finditer(log.read_text())]
    assert sum(lines) == WRITES
    assert len(lines) < WRITES / 10
