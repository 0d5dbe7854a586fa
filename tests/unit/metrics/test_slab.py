from __future__ import annotations

from pathlib import Path

import pytest

from simnode.metrics.catalogue import BY_NAME
from simnode.metrics.layout import UnknownMetricError, layout_of
from simnode.metrics.model import Role
from simnode.metrics.reader import read_slab
from simnode.metrics.slab import SlabInUseError, StatsSlab, slab_bytes, slab_path

HANDLER = Role.CONNECTION_HANDLER
PUT = {"kind": "put", "encoding": "native", "outcome": "ok"}


def cell(run_dir: Path, name: str, **labels: str) -> float:
    """One value of handler 0, as another process reads it."""
    block = layout_of(HANDLER).block(name, BY_NAME[name].kind)
    return read_slab(slab_path(run_dir, HANDLER, 0)).cells[block.cell(labels)]


def test_new_slab_is_allocated_in_full_and_all_zero(tmp_path: Path) -> None:
    with StatsSlab.open(tmp_path, HANDLER, 0, now_s=1000.0):
        stat = slab_path(tmp_path, HANDLER, 0).stat()
        assert stat.st_size == slab_bytes(layout_of(HANDLER))
        assert stat.st_blocks * 512 >= stat.st_size
        assert cell(tmp_path, "simnode_requests_total", **PUT) == 0
        assert [path.name for path in (tmp_path / "slabs").iterdir()] == ["connection_handler-0.slab"]


def test_reader_sees_what_the_process_counts_while_it_runs(tmp_path: Path) -> None:
    with StatsSlab.open(tmp_path, HANDLER, 0, now_s=1000.0) as slab:
        slab.counter("simnode_requests_total", **PUT).inc()
        slab.gauge("simnode_connections_open").set(3)
        assert cell(tmp_path, "simnode_requests_total", **PUT) == 1
        assert cell(tmp_path, "simnode_connections_open") == 3


def test_family_of_counters_has_a_handle_for_every_combination(tmp_path: Path) -> None:
    with StatsSlab.open(tmp_path, HANDLER, 0, now_s=1000.0) as slab:
        requests = slab.counters("simnode_requests_total")
        assert set(requests) == set(BY_NAME["simnode_requests_total"].combinations)
        requests["put", "native", "ok"].inc(5)
        assert cell(tmp_path, "simnode_requests_total", **PUT) == 5


def test_family_of_histograms_has_a_handle_for_every_combination(tmp_path: Path) -> None:
    with StatsSlab.open(tmp_path, HANDLER, 0, now_s=1000.0) as slab:
        slab.histograms("simnode_request_duration_seconds")["get", "msgpack"].observe(0.000_05)
        assert cell(tmp_path, "simnode_request_duration_seconds", kind="get", encoding="msgpack") == 1


def test_misspelt_label_fails_when_the_handle_is_taken(tmp_path: Path) -> None:
    with StatsSlab.open(tmp_path, HANDLER, 0, now_s=1000.0) as slab, pytest.raises(UnknownMetricError):
        slab.peak("simnode_backlog_bytes", direction="sideways")


def test_restarted_process_goes_on_counting_and_begins_its_gauges_at_zero(tmp_path: Path) -> None:
    with StatsSlab.open(tmp_path, HANDLER, 0, now_s=1000.0) as first:
        first.counter("simnode_requests_total", **PUT).inc(10)
        first.histogram("simnode_request_duration_seconds", kind="put", encoding="native").observe(0.000_01)
        first.gauge("simnode_connections_open").set(3)
        first.peak("simnode_backlog_bytes", direction="inbound").set(500, 1000.5)
        first.heartbeat(1001.0)
    with StatsSlab.open(tmp_path, HANDLER, 0, now_s=1002.0) as second:
        second.counter("simnode_requests_total", **PUT).inc()
        second.histogram("simnode_request_duration_seconds", kind="put", encoding="native").observe(0.000_01)
        backlog = second.peak("simnode_backlog_bytes", direction="inbound")
        assert cell(tmp_path, "simnode_requests_total", **PUT) == 11
        assert cell(tmp_path, "simnode_request_duration_seconds", kind="put", encoding="native") == 2
        assert cell(tmp_path, "simnode_connections_open") == 0
        assert cell(tmp_path, "simnode_backlog_bytes", direction="inbound") == 0
        backlog.add(20, 1002.5)
        assert cell(tmp_path, "simnode_backlog_bytes", direction="inbound") == 20
    assert read_slab(slab_path(tmp_path, HANDLER, 0)).incarnation == 2


def test_slot_of_a_living_process_is_refused(tmp_path: Path) -> None:
    with (
        StatsSlab.open(tmp_path, HANDLER, 0, now_s=1000.0),
        pytest.raises(SlabInUseError, match=r"connection_handler-0\.slab"),
    ):
        StatsSlab.open(tmp_path, HANDLER, 0, now_s=1000.0)


def test_slab_of_another_version_is_replaced_by_a_new_file(tmp_path: Path) -> None:
    """A new file, not the old one rewritten: an exporter that has the old one mapped is left alone."""
    path = slab_path(tmp_path, HANDLER, 0)
    with StatsSlab.open(tmp_path, HANDLER, 0, now_s=1000.0) as old:
        old.counter("simnode_connections_opened_total").inc(9)
    content = bytearray(path.read_bytes())
    content[8] ^= 0xFF  # the fingerprint
    path.write_bytes(content)
    inode = path.stat().st_ino
    with StatsSlab.open(tmp_path, HANDLER, 0, now_s=1001.0):
        assert path.stat().st_ino != inode
        assert cell(tmp_path, "simnode_connections_opened_total") == 0
        assert read_slab(path).incarnation == 1


def test_truncated_slab_is_replaced(tmp_path: Path) -> None:
    path = slab_path(tmp_path, HANDLER, 0)
    path.parent.mkdir()
    path.write_bytes(b"")
    with StatsSlab.open(tmp_path, HANDLER, 0, now_s=1000.0):
        assert path.stat().st_size == slab_bytes(layout_of(HANDLER))


def test_handles_of_a_closed_slab_raise(tmp_path: Path) -> None:
    with StatsSlab.open(tmp_path, HANDLER, 0, now_s=1000.0) as slab:
        counter = slab.counter("simnode_connections_opened_total")
    with pytest.raises(ValueError, match="released"):
        counter.inc()
