"""Coroutines run up to their first wait: no event loop is needed to say what they do."""

from __future__ import annotations

import types
from collections.abc import Generator

import pytest

from simnode.live.store.begun import begin


class Gone(Exception):
    pass


@types.coroutine
def wait_for(what: str) -> Generator[str, None, None]:
    yield what


def test_what_never_waits_is_finished_at_once() -> None:
    done: list[str] = []

    async def work() -> None:
        done.append("done")

    assert begin(work()) is None
    assert done == ["done"]


def test_what_waits_is_begun_and_the_rest_goes_on_where_it_stopped() -> None:
    done: list[str] = []

    async def work() -> None:
        for name in ("first", "second"):
            done.append(name)
            await wait_for(name)
        done.append("end")

    rest = begin(work())
    assert rest is not None
    assert done == ["first"]
    assert rest.send(None) == "first", "whoever drives it learns what it waits for"
    assert done == ["first"]
    assert rest.send(None) == "second"
    with pytest.raises(StopIteration):
        rest.send(None)
    assert done == ["first", "second", "end"]


def test_failure_of_what_it_waits_for_reaches_the_coroutine() -> None:
    done: list[str] = []

    async def work() -> None:
        try:
            await wait_for("first")
        except Gone:
            await wait_for("second")
        done.append("end")

    rest = begin(work())
    assert rest is not None
    rest.send(None)
    assert rest.throw(Gone()) == "second"
    with pytest.raises(StopIteration):
        rest.send(None)
    assert done == ["end"]


@pytest.mark.parametrize("waits_first", [False, True])
def test_failure_of_the_coroutine_is_the_callers(waits_first: bool) -> None:
    async def work() -> None:
        if waits_first:
            await wait_for("something")
        raise Gone

    if not waits_first:
        with pytest.raises(Gone):
            begin(work())
        return
    rest = begin(work())
    assert rest is not None
    rest.send(None)
    with pytest.raises(Gone):
        rest.send(None)


def test_rest_that_nobody_wants_can_be_closed() -> None:
    done: list[str] = []

    async def work() -> None:
        try:
            await wait_for("ever")
        finally:
            done.append("tidied up")

    rest = begin(work())
    assert rest is not None
    rest.send(None)
    rest.close()
    assert done == ["tidied up"]
