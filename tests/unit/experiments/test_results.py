from __future__ import annotations

import json

import pytest

from simnode.experiments.results import CLIENT, HANDLER, Results
from simnode.experiments.scenario import Figure


def test_results_survive_being_written_and_read(results):
    assert Results.model_validate_json(results.to_json()) == results


def test_results_hold_the_seed_the_schema_and_the_whole_configuration(results):
    written = json.loads(results.to_json())

    assert (written["schema_version"], written["seed"]) == (1, 7)
    assert written["scenario"]["sampling"] == {"memory_hz": 100}, "defaults too"


@pytest.mark.parametrize("figure", Figure)
def test_every_figure_has_a_value(make_phase, figure: Figure):
    assert make_phase().figure(figure) >= 0


@pytest.mark.parametrize(
    ("client_s", "handler_s", "who"),
    [(0.5, 0.5, None), (0.95, 0.5, "client"), (0.5, 0.95, "handler"), (0.95, 0.99, "handler")],
)
def test_the_load_generator_says_when_it_was_the_bottleneck(make_phase, client_s: float, handler_s: float, who: str):
    assert make_phase(cpu_seconds={CLIENT: client_s, HANDLER: handler_s}).bottleneck == who


def test_the_other_roles_are_neither_the_handler_nor_the_client(make_phase):
    assert make_phase().other_roles_peak_bytes == 4096
