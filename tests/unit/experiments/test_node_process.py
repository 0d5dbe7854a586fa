from __future__ import annotations

from pathlib import Path

from simnode.experiments.node_process import NodeAddress, NodePlan

PLAN = NodePlan(response_mode="lazy", handlers=9, memory_budget_bytes=1 << 30, free_segments_bytes=1 << 27)


def test_a_plan_and_an_address_survive_the_pipe():
    address = NodeAddress(url="ws://127.0.0.1:1", run_dir=Path("/run/x"))

    assert NodePlan.from_line(PLAN.to_line()) == PLAN
    assert NodeAddress.from_line(address.to_line()) == address


def test_each_connection_has_a_handler_of_its_own_and_every_port_is_free():
    settings = PLAN.settings(Path("/run/x"))

    assert (settings.handlers, settings.connections_per_handler) == (9, 1)
    assert (settings.port, settings.metrics_port) == (0, 0)
    assert settings.response_mode == "lazy"
    assert settings.data_dir.is_relative_to(settings.run_dir), "in memory"
