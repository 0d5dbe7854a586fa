"""When to try again, and what the user hears of it. Enters: nothing. Leaves: delays, events. Next: `dialing.py`."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from simnode.client.exceptions import AuthenticationFailed, ClientClosed, ClientError, HandshakeRefused


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How long to wait before each attempt: longer each time, and not all clients at the same moment.

    Attributes:
        initial_s: before the first attempt, in seconds.
        factor: by how much each wait is longer than the one before.
        max_s: the longest wait, in seconds.
        jitter: the share of each wait that is random, from 0 to 1.
        max_attempts: attempts after one loss; None: until it works or the client is closed.
    """

    initial_s: float = 0.25
    factor: float = 2.0
    max_s: float = 30.0
    jitter: float = 0.5
    max_attempts: int | None = None

    def allows(self, attempt: int) -> bool:
        """Whether there is to be an attempt of this number."""
        return self.max_attempts is None or attempt <= self.max_attempts

    def delay_s(self, attempt: int, random: Random) -> float:
        """Seconds to wait before `attempt`, which counts from 1."""
        exponent = min(attempt - 1, 64)  # keeps the power finite
        longest = min(self.max_s, self.initial_s * self.factor**exponent)
        return longest * (1 - self.jitter * random.random())


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """The connection ended without our wish; every request under way failed with `error`."""

    error: ClientError


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrying:
    """Attempt number `attempt` to connect again starts in `delay_s` seconds; `error` is what failed last."""

    attempt: int
    delay_s: float
    error: ClientError


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """A connection is there again, after `attempts` attempts; resubscribing starts now."""

    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionLost:
    """A contract could not be subscribed to again; there will be no notifications of it.

    Attributes:
        instance: the contract's instance id.
        error: why.
    """

    instance: bytes
    error: ClientError


@dataclass(frozen=True, slots=True, kw_only=True)
class GaveUp:
    """There will be no further attempt; everything fails with `error` from now on."""

    error: ClientError


ConnectionEvent = Lost | Retrying | Restored | SubscriptionLost | GaveUp


def is_worth_retrying(error: ClientError) -> bool:
    """Whether the same address and token may work later."""
    if isinstance(error, HandshakeRefused):
        return not error.is_permanent
    return not isinstance(error, AuthenticationFailed | ClientClosed)
