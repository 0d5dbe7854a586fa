"""Every input that a fuzzer or a golden vector ever found worth keeping, through the same checks, without atheris."""

from __future__ import annotations

import pytest

from tests.fuzz import saved
from tests.fuzz.targets import TARGETS

MAX_CORPUS_BYTES = 300_000


@pytest.mark.parametrize("name", TARGETS)
def test_the_seeds_hold(name: str) -> None:
    seeds = list(TARGETS[name].seeds())
    assert len(seeds) > 40
    for seed in seeds:
        TARGETS[name].check_thoroughly(seed)


@pytest.mark.parametrize("name", TARGETS)
def test_the_saved_inputs_hold(name: str) -> None:
    inputs = saved.load(name)
    assert inputs, "nothing is saved: python -m tests.fuzz.run --save"
    for data in inputs:
        TARGETS[name].check_thoroughly(data)


def test_the_saved_corpus_is_small() -> None:
    assert sum(path.stat().st_size for path in saved.CORPUS.iterdir()) < MAX_CORPUS_BYTES


def test_every_file_of_the_corpus_is_some_targets() -> None:
    assert {path.stem for path in saved.CORPUS.iterdir()} == set(TARGETS)
