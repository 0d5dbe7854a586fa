"""Whether an experiment passed. Enters: phases and thresholds. Leaves: verdicts. Next: `experiment.py`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from simnode.experiments.figures import counterpart, ratio
from simnode.experiments.results import Phase, Verdict
from simnode.experiments.scenario import Limit, Ratio, format_size


def judge(threshold: Limit | Ratio, phases: Sequence[Phase]) -> Verdict:
    """A threshold holds when every phase that it is about is within its bounds, and there is one."""
    values = list(_values(threshold, phases))
    worst = max(values, key=lambda value: _excess(threshold, value[0]), default=None)
    return Verdict(
        name=threshold.name,
        figure=threshold.figure,
        to=threshold.to if isinstance(threshold, Ratio) else None,
        at_most=threshold.at_most,
        at_least=threshold.at_least,
        worst=None if worst is None else worst[0],
        where="no such phase" if worst is None else describe(worst[1]),
        passed=worst is not None and _excess(threshold, worst[0]) <= 0,
    )


def describe(phase: Phase) -> str:
    """`mapped, 40 MiB, recv_stream`."""
    return f"{phase.mode}, {format_size(phase.payload_bytes)}, {phase.operation}"


def _values(threshold: Limit | Ratio, phases: Sequence[Phase]) -> Iterator[tuple[float, Phase]]:
    for phase in phases:
        if (
            threshold.mode in (None, phase.mode)
            and phase.operation in threshold.operations
            and threshold.payload in (None, phase.payload_bytes)
        ):
            value: float | None = phase.figure(threshold.figure)
            if isinstance(threshold, Ratio):
                other = counterpart(phase, threshold.to, phases)
                value = None if other is None else ratio(phase.figure(threshold.figure), other.figure(threshold.figure))
            if value is not None:
                yield value, phase


def _excess(threshold: Limit | Ratio, value: float) -> float:
    """How far a value is out of bounds; not above 0 when it is within."""
    over = float("-inf") if threshold.at_most is None else value - threshold.at_most
    under = float("-inf") if threshold.at_least is None else threshold.at_least - value
    return max(over, under)
