from __future__ import annotations

import pytest

from simnode.experiments.scenario import Limit, Operation, Ratio
from simnode.experiments.thresholds import judge
from simnode.protocol.limits import MIB


def limit(**fields: object) -> Limit:
    return Limit.model_validate({"name": "t", "kind": "limit", "figure": "handler_peak_bytes", **fields})


def ratio(**fields: object) -> Ratio:
    return Ratio.model_validate(
        {"name": "t", "kind": "ratio", "figure": "handler_peak_bytes", "mode": "mapped", "to": "single", **fields}
    )


@pytest.fixture
def phases(make_phase):
    return [make_phase("single"), make_phase("mapped"), make_phase("mapped", Operation.PUT)]


@pytest.mark.parametrize(
    ("bounds", "passed"),
    [
        ({"at_most": 4 * MIB}, True),
        ({"at_most": 4 * MIB - 1}, False),
        ({"at_least": MIB}, True),
        ({"at_least": MIB + 1}, False),
        ({"at_least": MIB, "at_most": 2 * MIB}, False),
        ({"at_most": MIB, "mode": "mapped"}, True),
        ({"at_most": MIB, "operations": ["put"]}, True),
        ({"at_most": 4 * MIB, "payload": "1 MiB"}, True),
    ],
)
def test_a_limit_holds_when_every_phase_it_is_about_is_within(phases, bounds: dict[str, object], passed: bool):
    assert judge(limit(**bounds), phases).passed is passed


def test_the_verdict_names_the_worst_phase(phases):
    verdict = judge(limit(at_most=MIB), phases)

    assert (verdict.worst, verdict.where) == (4 * MIB, "single, 1 MiB, recv")


@pytest.mark.parametrize(("bounds", "passed"), [({"at_most": 0.25}, True), ({"at_most": 0.24}, False)])
def test_a_ratio_compares_with_the_other_mode(phases, bounds: dict[str, float], passed: bool):
    verdict = judge(ratio(**bounds), phases)

    assert (verdict.worst, verdict.to, verdict.passed) == (0.25, "single", passed)


def test_a_threshold_that_nothing_was_measured_for_fails(make_phase):
    """Else a scenario could pass by measuring nothing."""
    for threshold in (ratio(at_most=9), limit(at_most=9, mode="lazy")):
        verdict = judge(threshold, [make_phase("mapped")])

        assert (verdict.passed, verdict.worst, verdict.where) == (False, None, "no such phase")
