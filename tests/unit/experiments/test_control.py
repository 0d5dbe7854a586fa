from __future__ import annotations

import pytest

from simnode.experiments.control import Control, control_of
from simnode.experiments.results import HANDLER, Phase
from simnode.experiments.scenario import Figure
from simnode.protocol.codec.base import Encoding
from simnode.protocol.limits import MIB


@pytest.fixture
def of(make_phase):
    """Makes a phase with a peak of the handler in bytes, and a median latency in milliseconds."""

    def of(peak_bytes: int, p50_ms: float) -> Phase:
        phase = make_phase()
        memory = phase.memory.model_copy(update={"peak_over_idle_bytes": {HANDLER: peak_bytes}})
        speed = phase.speed.model_copy(update={"latency_p50_ms": p50_ms})
        return phase.model_copy(update={"memory": memory, "speed": speed})

    return of


@pytest.mark.parametrize(("peak_bytes", "is_chance"), [(40, True), (43, True), (37, True), (44, False), (36, False)])
def test_memory_may_differ_by_as_many_bytes_as_the_puts_do(of, peak_bytes: int, is_chance: bool):
    control = Control((of(1, 1.0), of(4, 1.0), of(2, 1.0)))

    assert control.explains(Figure.HANDLER_PEAK_BYTES, of(peak_bytes, 1.0), of(40, 1.0)) is is_chance


@pytest.mark.parametrize(("p50_ms", "is_chance"), [(100.0, True), (150.0, True), (151.0, False), (60.0, False)])
def test_a_time_may_differ_by_the_factor_that_the_puts_do(of, p50_ms: float, is_chance: bool):
    control = Control((of(1, 10.0), of(1, 15.0)))

    assert control.explains(Figure.LATENCY_P50_MS, of(1, p50_ms), of(1, 100.0)) is is_chance
    assert control.explains(Figure.LATENCY_P50_MS, of(1, 100.0), of(1, p50_ms)) is is_chance


def test_the_control_is_the_puts_of_the_same_size_and_encoding(make_phase):
    puts = [make_phase(mode, "put") for mode in ("single", "mapped")]
    others = [
        make_phase("single", "put", payload_bytes=8 * MIB),
        make_phase("single", "put", encoding=Encoding.MSGPACK),
        make_phase("single"),
    ]

    control = control_of(make_phase(), [*puts, *others])

    assert control is not None
    assert control.phases == tuple(puts)


def test_one_mode_says_nothing_about_chance(make_phase):
    assert control_of(make_phase(), [make_phase("single", "put")]) is None
