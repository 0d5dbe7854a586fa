from __future__ import annotations

from pathlib import Path

import pytest

from simnode.experiments.client_protocol import GetState, PutCuts
from simnode.experiments.payloads import CUTS_OF_A_SIZE, Cut
from simnode.experiments.phase import PhasePlan
from simnode.experiments.scenario import Mode, Operation, Payload
from simnode.protocol.codec.base import Encoding


def plan(operation: Operation, *, repetitions: int = 5, mode: Mode = "lazy") -> PhasePlan:
    cuts = [Cut(path=Path("/f"), offset=at, nbytes=1024, blake3=f"{at:064x}") for at in range(CUTS_OF_A_SIZE)]
    payload = Payload.model_validate({"size": "1 KiB", "repetitions": repetitions})
    return PhasePlan(
        mode=mode,
        encoding=Encoding.NATIVE,
        operation=operation,
        payload=payload,
        cuts=cuts,
        clients=2,
        memory_hz=100,
    )


@pytest.mark.parametrize("repetitions", range(1, 10))
def test_what_is_expected_back_is_what_was_put_last(repetitions: int):
    put = plan(Operation.PUT, repetitions=repetitions).order(1)
    get = plan(Operation.RECV, repetitions=repetitions).order(1)

    assert isinstance(put, PutCuts)
    assert isinstance(get, GetState)
    last = put.cuts[(put.repetitions - 1) % len(put.cuts)]
    assert get.params == put.params
    assert get.blake3 == f"{last[1]:064x}"


def test_each_client_has_a_contract_of_its_own():
    put = plan(Operation.PUT)

    assert put.order(0) != put.order(1)


def test_one_operation_warms_up_before_those_that_count():
    assert plan(Operation.PUT, repetitions=5).operations == 2 * 6


def test_recv_stream_takes_pieces_and_recv_does_not():
    orders = [plan(operation).order(0) for operation in (Operation.RECV, Operation.RECV_STREAM)]

    assert [order.piece_by_piece for order in orders if isinstance(order, GetState)] == [False, True]


def test_before_the_streaming_protocol_nobody_asked_for_chunks():
    modes: tuple[Mode, ...] = ("single", "collected", "lazy", "mapped")

    assert [plan(Operation.RECV, mode=mode).is_streaming for mode in modes] == [False, True, True, True]
