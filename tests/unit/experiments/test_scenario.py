from __future__ import annotations

from typing import Any, get_args

import pytest
from pydantic import ValidationError

from simnode.experiments.scenario import Mode, Operation, Scenario, contradictions, format_size
from simnode.live.handlers.response_modes import MODES
from simnode.protocol.limits import MIB

DOCUMENT: dict[str, Any] = {
    "schema": 1,
    "name": "x",
    "title": "X",
    "seed": 1,
    "modes": ["single", "lazy"],
    "payloads": [{"size": "40 MiB", "repetitions": 2}],
}


def limit(**changes: object) -> dict[str, object]:
    return {"name": "t", "kind": "limit", "figure": "node_peak_bytes", "at_most": 1, **changes}


def test_the_modes_of_scenarios_are_those_of_the_node():
    assert set(get_args(Mode)) == set(MODES)


def test_sizes_survive_being_written_and_read_exactly():
    """results.json holds the whole configuration; somebody may want to run it again."""
    scenario = Scenario.model_validate(DOCUMENT)

    written = scenario.model_dump(mode="json", by_alias=True)

    assert written["payloads"][0]["size"] == "40 MiB"
    assert Scenario.model_validate(written) == scenario


@pytest.mark.parametrize(
    ("nbytes", "text"), [(1, "1 B"), (1023, "1023 B"), (65536, "64 KiB"), (41_943_040, "40 MiB"), (1024**4, "1024 GiB")]
)
def test_a_size_is_written_in_the_largest_unit_that_needs_no_fraction(nbytes: int, text: str):
    assert format_size(nbytes) == text


@pytest.mark.parametrize("size", [1048576, 1.5, "0 MiB", "51 MiB", "1 parsec"])
def test_a_size_without_unit_or_beyond_the_protocols_limit_is_refused(size: object):
    with pytest.raises(ValidationError):
        Scenario.model_validate({**DOCUMENT, "payloads": [{"size": size, "repetitions": 1}]})


def test_every_client_of_every_phase_has_a_handler():
    scenario = Scenario.model_validate({**DOCUMENT, "clients": 3, "encodings": ["native", "msgpack"]})

    assert scenario.phases_of_a_mode == 2 * 1 * 3
    assert scenario.handlers == 18


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"modes": ["single", "single"]}, ("modes", 1)),
        ({"encodings": ["native", "native"]}, ("encodings", 1)),
        ({"operations": ["recv", "put"]}, ("operations", 0)),
        ({"payloads": [{"size": "1 MiB", "repetitions": 1}] * 2}, ("payloads", 1, "size")),
        ({"thresholds": [limit(at_most=None)]}, ("thresholds", 0)),
        ({"thresholds": [limit(mode="mapped")]}, ("thresholds", 0, "mode")),
        ({"thresholds": [limit(kind="ratio", to="mapped")]}, ("thresholds", 0, "to")),
        ({"thresholds": [limit(payload="1 MiB")]}, ("thresholds", 0, "payload")),
        ({"operations": ["put"], "thresholds": [limit(operations=["recv"])]}, ("thresholds", 0, "operations")),
    ],
)
def test_a_contradiction_is_found_where_it_is(changes: dict[str, object], where: tuple[str | int, ...]):
    found = list(contradictions(Scenario.model_validate({**DOCUMENT, **changes})))

    assert [place for place, _ in found] == [where]


def test_a_sound_scenario_has_no_contradictions():
    thresholds = [limit(mode="lazy", payload="40 MiB"), limit(kind="ratio", to="single", operations=[Operation.RECV])]

    assert not list(contradictions(Scenario.model_validate({**DOCUMENT, "thresholds": thresholds})))


def test_a_payload_is_at_most_what_a_state_may_be():
    scenario = Scenario.model_validate({**DOCUMENT, "payloads": [{"size": "50 MiB", "repetitions": 1}]})

    assert scenario.payloads[0].size == 50 * MIB
