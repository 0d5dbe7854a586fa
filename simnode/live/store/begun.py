"""Coroutines that are run at once, up to their first wait. Next: `write_batches.py`, their user.

Most never wait; for those a task, with its two turns of the event loop, would cost more than the
work itself. (From Python 3.12 on, `asyncio.eager_task_factory` does the same.)
"""

from __future__ import annotations

import types
from collections.abc import Coroutine, Generator
from typing import Any


def begin(coroutine: Coroutine[Any, Any, None]) -> Coroutine[Any, Any, None] | None:
    """Runs a coroutine up to its first wait.

    Returns:
        The rest of it, which somebody has to await; None if it is finished.
    """
    try:
        waits_for = coroutine.send(None)
    except StopIteration:
        return None
    return _rest(coroutine, waits_for)


async def _rest(coroutine: Coroutine[Any, Any, None], waits_for: Any) -> None:
    await _resumed(coroutine, waits_for)


@types.coroutine
def _resumed(coroutine: Coroutine[Any, Any, None], waits_for: Any) -> Generator[Any, Any, None]:
    while True:
        failure: BaseException | None = None
        try:
            yield waits_for
        except BaseException as error:  # a cancellation, too, is the coroutine's to handle
            failure = error
        try:
            waits_for = coroutine.send(None) if failure is None else coroutine.throw(failure)
        except StopIteration:
            return
