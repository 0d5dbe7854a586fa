"""How each row is measured. Enters: a `Bench`. Leaves: samples in its results. Next: `memory.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tests.bench import rows
from tests.bench.bench import Bench
from tests.bench.rows import Row
from tests.bench.works import fairness, memory, small, transfers, update

WORKS: Final[tuple[tuple[Row, Callable[[Bench], None]], ...]] = (
    # memory first, on servers that have done nothing yet, the smallest bound before the larger ones
    (rows.FRAME, memory.frame),
    (rows.MEMORY, memory.memory),
    (rows.UPDATE, update.update),
    (rows.IDLE, memory.idle),
    (rows.CLIENT, transfers.client),
    (rows.RAW, transfers.raw),
    (rows.CPU, transfers.cpu),
    (rows.LATENCY, small.latency),
    (rows.RATE, small.rate),
    (rows.FAIRNESS, fairness.fairness),
    (rows.DURABLE_PUT, small.durable),
)
"""In the order of execution."""
