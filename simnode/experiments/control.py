"""How much is chance. Enters: the puts of all modes. Leaves: what differs by more than they do. Next: `figures.py`.

A mode is a way to answer: it changes nothing about a put. So the puts of one size are the same work,
done as often as there are modes, and by what they differ, other figures may differ by chance.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from simnode.experiments.results import Phase
from simnode.experiments.scenario import Figure, Operation


@dataclass(frozen=True, slots=True)
class Control:
    """The puts of one size, in every mode.

    Attributes:
        phases: one at least.
    """

    phases: tuple[Phase, ...]

    def explains(self, figure: Figure, one: Phase, other: Phase) -> bool:
        """Whether two phases differ in a figure by no more than puts do: bytes by as many, times by the same factor."""
        values = [phase.figure(figure) for phase in self.phases]
        low, high = min(values), max(values)
        a, b = one.figure(figure), other.figure(figure)
        if figure is Figure.LATENCY_P50_MS:
            return max(a, b) * low <= min(a, b) * high
        return abs(a - b) <= high - low


def control_of(phase: Phase, phases: Iterable[Phase]) -> Control | None:
    """The puts of a phase's size and encoding; None with fewer than two modes, which say nothing about chance."""
    puts = tuple(
        other
        for other in phases
        if other.operation is Operation.PUT
        and (other.encoding, other.payload_bytes) == (phase.encoding, phase.payload_bytes)
    )
    return Control(puts) if len(puts) > 1 else None
