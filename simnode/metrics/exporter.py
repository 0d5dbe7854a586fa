"""The metrics port. Enters: a run directory and an address. Leaves: HTTP on `/metrics`. Next: `collector.py`.

`Exporter` is what the actor MetricsExporter holds: made in its constructor, closed when it drains. It runs threads of
its own and touches no event loop.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from prometheus_client import CollectorRegistry, start_http_server

from simnode.metrics.collector import BuildInfo, MemorySamplers, SlabCollector
from simnode.metrics.memory import (
    PSS_INTERVAL_S,
    RSS_ANON_INTERVAL_S,
    MemorySampler,
    read_pss_bytes,
    read_rss_anon_bytes,
)
from simnode.metrics.reader import LiveProcesses

DEFAULT_PORT = 9509


class MetricsServer:
    """Serves a registry over HTTP, from threads, until it is closed.

    The library negotiates the format (Prometheus text or OpenMetrics) and gzip with who asks.

    Args:
        registry: what to collect at each scrape.
        host: the address to listen on.
        port: 0 for any that is free.

    Raises:
        OSError: the address cannot be listened on.
    """

    def __init__(self, registry: CollectorRegistry, *, host: str = "127.0.0.1", port: int = DEFAULT_PORT) -> None:
        self._server, self._thread = start_http_server(port, addr=host, registry=registry)
        self.host = host
        self.port: int = self._server.server_port

    @property
    def url(self) -> str:
        """Where to scrape."""
        return f"http://{self.host}:{self.port}/metrics"

    def close(self) -> None:
        """Stop listening; scrapes under way end by themselves."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Exporter:
    """Everything that one host exports: memory samplers, the collector, the port.

    Args:
        run_dir: the node's run directory, where its processes keep their slabs.
        build: what runs.
        host: the address to listen on.
        port: 0 for any that is free.
        registry: for metrics of somebody else on the same port; otherwise a new one.
        clock: the monotonic clock that the processes use.

    Raises:
        OSError: the address cannot be listened on.
    """

    def __init__(
        self,
        run_dir: Path,
        *,
        build: BuildInfo,
        host: str = "127.0.0.1",
        port: int = DEFAULT_PORT,
        registry: CollectorRegistry | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        processes = LiveProcesses(run_dir, clock=clock)
        rss_anon = MemorySampler(
            read_rss_anon_bytes,
            processes=processes,
            interval_s=RSS_ANON_INTERVAL_S,
            clock=clock,
            name="rss-anon-sampler",
        )
        pss = MemorySampler(
            read_pss_bytes, processes=processes, interval_s=PSS_INTERVAL_S, clock=clock, name="pss-sampler"
        )
        self._samplers = (rss_anon, pss)
        registry = CollectorRegistry() if registry is None else registry
        memory = MemorySamplers(rss_anon=rss_anon, pss=pss)
        registry.register(SlabCollector(run_dir, build=build, memory=memory, clock=clock))
        self.server = MetricsServer(registry, host=host, port=port)
        for sampler in self._samplers:
            sampler.start()

    def close(self) -> None:
        """Stop listening and sampling."""
        self.server.close()
        for sampler in self._samplers:
            sampler.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
