import pytest

from simnode.live.heap import INTERVAL_S, QUIET_BYTES, WORTH_BYTES, Heap, anonymous_bytes, malloc_trim


class Process:
    def __init__(self) -> None:
        self.nbytes = 100 << 20
        self.trimmed = 0
        self.heap = Heap(lambda: self.nbytes, self.trim)
        self.now_s = 0.0

    def trim(self) -> None:
        self.trimmed += 1

    def ticks(self, number: int) -> int:
        """Lets time pass; how often memory was given back meanwhile."""
        before = self.trimmed
        for _ in range(number):
            self.now_s += 0.5
            self.heap.tidy(self.now_s)
        return self.trimmed - before


@pytest.fixture
def process() -> Process:
    process = Process()
    assert process.ticks(2) == 0
    return process


def test_a_burst_that_is_over_is_given_back(process: Process) -> None:
    process.nbytes += WORTH_BYTES
    assert process.ticks(2) == 1


def test_little_is_not_worth_it(process: Process) -> None:
    process.nbytes += WORTH_BYTES - 1
    assert process.ticks(20) == 0


def test_a_busy_process_is_left_alone(process: Process) -> None:
    process.nbytes += WORTH_BYTES
    for _ in range(10):
        process.nbytes += QUIET_BYTES + 1
        assert process.ticks(1) == 0


def test_what_is_in_use_is_tried_again_only_now_and_then(process: Process) -> None:
    """It may be free by then without the process being smaller."""
    process.nbytes += WORTH_BYTES
    assert process.ticks(int(2 * 10 * INTERVAL_S)) in (9, 10)


def test_a_process_that_shrinks_has_a_new_base(process: Process) -> None:
    process.nbytes -= WORTH_BYTES
    process.ticks(2)
    process.nbytes += WORTH_BYTES
    assert process.ticks(2) == 1


def test_the_real_figures_are_there() -> None:
    malloc_trim()
    assert anonymous_bytes() > 1 << 20
