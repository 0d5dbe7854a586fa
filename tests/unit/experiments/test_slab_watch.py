from __future__ import annotations

from pathlib import Path

from simnode.experiments.slab_watch import HandlerSlab
from simnode.metrics.model import Role
from simnode.metrics.slab import StatsSlab


def test_a_handlers_backlog_is_read_while_it_changes(tmp_path: Path):
    with StatsSlab.open(tmp_path, Role.CONNECTION_HANDLER, 3, now_s=1.0) as written:
        backlog = written.peak("simnode_backlog_bytes", direction="outbound")
        inbound = written.peak("simnode_backlog_bytes", direction="inbound")
        materialized = written.peak("simnode_outbound_materialized_bytes")
        with HandlerSlab(tmp_path, 3) as slab:
            assert (slab.connections_opened, slab.backlog_bytes) == (0, 0)

            written.counter("simnode_connections_opened_total").inc()
            inbound.set(9999, 2.0)
            backlog.set(700, 2.0)
            backlog.set(40, 2.1)
            materialized.set(300, 2.0)
            materialized.set(0, 2.1)

            assert slab.connections_opened == 1
            assert (slab.backlog_bytes, slab.backlog_peak_bytes) == (40, 700)
            assert (slab.materialized_bytes, slab.materialized_peak_bytes) == (0, 300)
