"""The guard over every error that a test's client receives would find what it looks for."""

import pytest

from simnode.protocol.messages.error_kinds import OperationError
from simnode.protocol.messages.responses import Err, NotFound
from tests.support.neutral import checked, telltale


@pytest.mark.parametrize(
    "text",
    [
        "no room for 9 bytes in /dev/shm/simnode-0/x/data/segments/",
        "segment 1-00001d-0.seg is gone",
        "no segment 3-0000c8-12",
        "the store cannot be read: MDB_READERS_FULL: Environment maxreaders limit reached",
        "[Errno 24] Too many open files",
        "KeyError: 'x'",
        "<Segment at 0x7fd38144ebd0>",
        "connection_handler-0 (pid 12) is gone",
        "contract_store does not answer",
    ],
)
def test_text_of_this_machine_or_program_is_found(text: str) -> None:
    assert telltale(text) is not None
    with pytest.raises(AssertionError, match="a client is told"):
        checked(Err(OperationError(cause=text)))


@pytest.mark.parametrize(
    "text",
    [
        "the node has no room for 65536 bytes: 65536 bytes wanted, 9 of 9 are in flight",
        "state of 52428801 bytes exceeds the maximum of 52428800 bytes",
        "duplicate chunk index 0 for stream 5",
        "the key is not the one that the code and the parameters give",
        "no room for 9 bytes and/or 10",
    ],
)
def test_text_about_the_request_is_not(text: str) -> None:
    assert telltale(text) is None
    checked(Err(OperationError(cause=text)))


def test_results_that_are_no_errors_pass() -> None:
    result = NotFound(instance_id=bytes(32))
    assert checked(result) is result
