"""After a scripted session every metric has the value that the script implies, and a script moves each of them.

A metric or a label value that is new fails `test_every_series_is_moved_by_a_script` until a script moves it.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from simnode.metrics.aggregate import sums
from simnode.metrics.catalogue import BY_NAME, CATALOGUE
from simnode.metrics.model import Kind, Role
from simnode.metrics.reader import read_slab
from simnode.metrics.slab import slab_path
from tests.integration.metrics import (
    connection_scripts,
    memory_scripts,
    offline_scripts,
    process_scripts,
    request_scripts,
    stream_scripts,
)
from tests.support.live_node import Timeout, live_node, wait_until
from tests.support.metric_session import TOKEN, MetricSession, Series, every_series, scrape, series

SCRIPTS = (
    *stream_scripts.SCRIPTS,
    *connection_scripts.SCRIPTS,
    *request_scripts.SCRIPTS,
    *memory_scripts.SCRIPTS,
    *process_scripts.SCRIPTS,
)


@dataclass
class Story:
    """What became of each script, which series were moved, and which there were at all."""

    failures: dict[str, BaseException] = field(default_factory=dict)
    moved: set[Series] = field(default_factory=set)
    exported: set[Series] = field(default_factory=set)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """All scripts, run on one node, one after the other; then the node is told to end, with a client connected."""
    story = Story()
    with live_node(
        tokens=[TOKEN],
        handlers=1,
        connections_per_handler=connection_scripts.CONNECTIONS,
        response_mode="lazy",
        progress_timeout_s=connection_scripts.PROGRESS_TIMEOUT_S,
        memory_budget_bytes=request_scripts.MEMORY_BUDGET_BYTES,
        address_share=1.0,
        limits={
            "max_message_bytes": request_scripts.MAX_MESSAGE_BYTES,
            "max_chunk_data_bytes": stream_scripts.MAX_CHUNK_BYTES,
            "max_connection_bytes": stream_scripts.MAX_CONNECTION_BYTES,
            "stream_ttl_s": 4.0,
        },
        caps={"per_client": request_scripts.SUBSCRIPTIONS_PER_CLIENT},
    ) as node:
        session = MetricSession(node)
        for script in SCRIPTS:
            try:
                script(session)
                session.settle()
            except Exception as error:
                story.failures[script.__name__] = error
                session.forget()
        story.exported = _exported(node.metrics_url)
        story.moved = session.moved | _drain(session)
    for name, labels in offline_scripts.run(tmp_path_factory.mktemp("offline")):
        story.moved.add(series(name, **labels))
    return story


def _exported(url: str) -> set[Series]:
    """What there is to scrape, once an exporter that has just started has looked at everything."""
    with contextlib.suppress(Timeout):
        wait_until("all is there", lambda: every_series() <= set(scrape(url)), timeout_s=10)
    return set(scrape(url))


def _drain(session: MetricSession) -> set[Series]:
    """Ends the node and reads the slab of its handler, whose name is gone by then."""
    slab = os.open(slab_path(session.node.run_dir, Role.CONNECTION_HANDLER, 0), os.O_RDONLY)
    closed = BY_NAME["simnode_connections_closed_total"]
    try:
        with session.client() as client:
            client.is_served()
            client.has_ended = True
            before = sums(closed, [read_slab(Path(f"/proc/self/fd/{slab}"))])
            session.node.terminate()
            after = sums(closed, [read_slab(Path(f"/proc/self/fd/{slab}"))])
    finally:
        os.close(slab)
    changed = {labels for labels, value in after.items() if value != before[labels]}
    assert changed == {("drained",)}
    assert after[("drained",)] == 1
    return {series(closed.name, reason="drained")}


@pytest.mark.parametrize("name", [script.__name__ for script in SCRIPTS])
def test_metrics_are_what_the_script_implies(story: Story, name: str) -> None:
    if name in story.failures:
        raise story.failures[name]


def test_every_series_is_moved_by_a_script(story: Story) -> None:
    assert sorted(every_series() - story.moved) == []


def test_what_is_exported_is_the_catalogue(story: Story) -> None:
    (info,) = [metric for metric in CATALOGUE if metric.kind is Kind.INFO]
    assert {key for key in story.exported if key[0] != info.name} == every_series()
    assert sum(key[0] == info.name for key in story.exported) == 1
