from __future__ import annotations

from random import Random

import pytest

from simnode.client.exceptions import (
    AuthenticationFailed,
    ClientClosed,
    ClientError,
    ConnectionFailed,
    ConnectionLost,
    HandshakeRefused,
)
from simnode.client.reconnecting import Backoff, is_worth_retrying


def test_waits_grow_up_to_the_longest() -> None:
    backoff = Backoff(initial_s=1.0, factor=2.0, max_s=10.0, jitter=0.0)
    assert [backoff.delay_s(attempt, Random(1)) for attempt in (1, 2, 3, 4, 5, 10_000)] == [1, 2, 4, 8, 10, 10]


def test_jitter_spreads_the_waits_and_only_shortens_them() -> None:
    """A thousand clients of a restarted node must not come back in the same moment."""
    backoff, random = Backoff(initial_s=8.0, jitter=0.5), Random(1)
    delays = [backoff.delay_s(1, random) for _ in range(100)]
    assert all(4.0 <= delay <= 8.0 for delay in delays)
    assert max(delays) - min(delays) > 3.0


def test_attempts_may_be_limited() -> None:
    assert [Backoff(max_attempts=2).allows(attempt) for attempt in (1, 2, 3)] == [True, True, False]
    assert Backoff().allows(10**6)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectionLost(1006), True),
        (ConnectionLost(1001, "going away"), True),
        (ConnectionFailed("refused"), True),
        (HandshakeRefused(503), True),
        (HandshakeRefused(404), False),
        (AuthenticationFailed("no"), False),
        (ClientClosed("closed"), False),
    ],
)
def test_what_will_not_change_is_not_tried_again(error: ClientError, expected: bool) -> None:
    assert is_worth_retrying(error) is expected
