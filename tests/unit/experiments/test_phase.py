from __future__ import annotations

from pathlib import Path

import pytest

from simnode.experiments.client_protocol import GetState, PutCuts
from simnode.experiments.payloads import CUTS_OF_A_SIZE, Cut
from simnode.experiments.phase import TURNS, PhasePlan
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
    puts = plan(Operation.PUT, repetitions=repetitions)
    gets = plan(Operation.RECV, repetitions=repetitions)
    put = puts.order(1, puts.turns[-1])
    assert isinstance(put, PutCuts)
    last = put.cuts[(put.repetitions - 1) % len(put.cuts)]

    for turn in gets.turns:
        get = gets.order(1, turn)
        assert isinstance(get, GetState)
        assert get.params == put.params
        assert get.blake3 == f"{last[1]:064x}"


@pytest.mark.parametrize("repetitions", [1, 5, 11, 12, 30, 100])
def test_turns_are_all_operations_in_order_and_about_as_long_as_each_other(repetitions: int):
    turns = plan(Operation.PUT, repetitions=repetitions).turns

    assert [operation for turn in turns for operation in turn] == list(range(1 + repetitions))
    assert len(turns) == min(TURNS, 1 + repetitions)
    assert max(map(len, turns)) - min(map(len, turns)) <= 1


def test_puts_go_on_with_the_next_cut_where_the_turn_before_ended():
    puts = plan(Operation.PUT, repetitions=29)
    orders = [puts.order(0, turn) for turn in puts.turns]

    put = [order.cuts[at % len(order.cuts)] for order in orders for at in range(order.repetitions)]  # type: ignore[union-attr]
    assert [offset for _, offset, _ in put] == [at % CUTS_OF_A_SIZE for at in range(30)]


def test_each_client_has_a_contract_of_its_own():
    put = plan(Operation.PUT)

    assert put.order(0, put.turns[0]) != put.order(1, put.turns[0])


def test_one_operation_warms_up_before_those_that_count():
    assert plan(Operation.PUT, repetitions=5).operations == 2 * 6


def test_recv_stream_takes_pieces_and_recv_does_not():
    orders = [plan(operation).order(0, range(1)) for operation in (Operation.RECV, Operation.RECV_STREAM)]

    assert [order.piece_by_piece for order in orders if isinstance(order, GetState)] == [False, True]


def test_before_the_streaming_protocol_nobody_asked_for_chunks():
    modes: tuple[Mode, ...] = ("single", "collected", "lazy", "mapped")

    assert [plan(Operation.RECV, mode=mode).is_streaming for mode in modes] == [False, True, True, True]
