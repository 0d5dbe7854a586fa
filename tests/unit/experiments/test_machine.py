from __future__ import annotations

from simnode.experiments.machine import CpuMeter, this_machine, versions


def test_the_machine_and_the_versions_are_known():
    machine = this_machine()

    assert machine.cores >= 1
    assert machine.memory_bytes > 2**28
    assert machine.cpu
    assert {"python", "simnode", "ray", "websockets"} <= set(versions())


def test_the_share_of_others_is_a_share_and_our_own_work_is_no_part_of_it():
    meter = CpuMeter()

    sum(range(100_000))

    assert 0.0 <= meter.share_of_others() <= 1.0
