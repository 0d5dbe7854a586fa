"""The metrics port. Enters: a run directory and an address. Leaves: HTTP on `/metrics`. Next: `collector.py`.

`Exporter` is what the actor MetricsExporter holds: made in its constructor, closed when it drains. It runs threads of
its own and touches no event loop. Host and Origin are checked as on the clients' port: a page whose name was rebound
to this machine could read the metrics otherwise.
"""

from __future__ import annotations

import logging
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable
from http import HTTPStatus
from pathlib import Path
from socketserver import ThreadingMixIn
from types import TracebackType
from typing import Self
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from prometheus_client import CollectorRegistry, make_wsgi_app

from simnode.metrics.collector import BuildInfo, MemorySamplers, SlabCollector
from simnode.metrics.memory import (
    PSS_INTERVAL_S,
    RSS_ANON_INTERVAL_S,
    MemorySampler,
    read_pss_bytes,
    read_rss_anon_bytes,
)
from simnode.metrics.reader import LiveProcesses
from simnode.node.hosts import AllowedHosts, NamesTold

DEFAULT_PORT = 9509
PATH = "/metrics"
HEALTH_PATH = "/healthz"
METHODS = ("GET", "HEAD")
REQUEST_TIMEOUT_S = 10.0
"""For each wait for a part of a request; a peer that sends none keeps a thread no longer."""

logger = logging.getLogger(__name__)


class MetricsServer:
    """Serves a registry over HTTP, from threads, until it is closed.

    The library negotiates the format (Prometheus text or OpenMetrics) and gzip with who asks.

    Args:
        registry: what to collect at each scrape.
        host: the address to listen on, or a name of it.
        port: 0 for any that is free.
        allowed: the hosts that requests may name; None: loopback.

    Raises:
        OSError: the address cannot be listened on.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        host: str = "127.0.0.1",
        port: int = DEFAULT_PORT,
        allowed: AllowedHosts | None = None,
    ) -> None:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        server = _Server6 if family == socket.AF_INET6 else _Server
        self._server = server((str(address[0]), port), _Handler)
        self._server.set_app(metrics_app(registry, AllowedHosts.of(()) if allowed is None else allowed))
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics-server", daemon=True)
        self._thread.start()
        self.host = host
        self.port: int = self._server.server_port

    @property
    def url(self) -> str:
        """Where to scrape."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}{PATH}"

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
        allowed: the hosts that requests may name; None: loopback.
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
        allowed: AllowedHosts | None = None,
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
        self.server = MetricsServer(registry, host=host, port=port, allowed=allowed)
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


def metrics_app(registry: CollectorRegistry, allowed: AllowedHosts) -> WSGIApplication:
    """Answers as the clients' port does, in the same order; HEAD gets no body.

    `/healthz` 200 for everybody, Host and Origin (400, 403), path (404), method (405).
    """
    metrics = make_wsgi_app(registry)
    told = NamesTold()

    def refuse(environ: WSGIEnvironment) -> tuple[HTTPStatus, str] | None:
        path, method = environ.get("PATH_INFO", ""), environ["REQUEST_METHOD"]
        if path != HEALTH_PATH:
            host = environ.get("HTTP_HOST")
            if host is None and environ["SERVER_PROTOCOL"] not in ("HTTP/0.9", "HTTP/1.0"):
                return HTTPStatus.BAD_REQUEST, "a Host header is required"
            try:
                refusal = allowed.refusal(host=host, origin=environ.get("HTTP_ORIGIN"))
            except ValueError as error:
                return HTTPStatus.BAD_REQUEST, str(error)
            if refusal is not None:
                if (line := told.line_for(refusal)) is not None:
                    logger.warning("%s", line)
                return HTTPStatus.FORBIDDEN, str(refusal)
            if path != PATH:
                return HTTPStatus.NOT_FOUND, f"No such path. The metrics are at {PATH}."
        if method not in METHODS:
            return HTTPStatus.METHOD_NOT_ALLOWED, f"{path} takes {' and '.join(METHODS)}."
        return None

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        refused = refuse(environ)
        if refused is None and environ["PATH_INFO"] == PATH:
            status_line, headers, body = _scrape(metrics, environ)
        else:
            status, text = refused or (HTTPStatus.OK, "ok")
            status_line, body = f"{status.value} {status.phrase}", f"{text}\n".encode()
            headers = [("Content-Type", "text/plain; charset=utf-8")]
            if status is HTTPStatus.METHOD_NOT_ALLOWED:
                headers.append(("Allow", ", ".join(METHODS)))
        start_response(status_line, [*headers, ("Content-Length", str(len(body)))])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    return app


def _scrape(metrics: WSGIApplication, environ: WSGIEnvironment) -> tuple[str, list[tuple[str, str]], bytes]:
    """What the library answers to GET; it knows no HEAD."""
    begun: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], _: object = None, /) -> Callable[[bytes], object]:
        begun.append((status, headers))
        return lambda data: None

    body = b"".join(metrics({**environ, "REQUEST_METHOD": "GET"}, start_response))
    [(status, headers)] = begun
    return status, headers, body


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """A peer that goes away or says nothing is its own business; anything else is a fault of ours."""
        is_peers = isinstance(sys.exception(), OSError)
        logger.log(logging.DEBUG if is_peers else logging.ERROR, "a request to %s failed", PATH, exc_info=True)


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = REQUEST_TIMEOUT_S

    def log_message(self, format: str, *args: object) -> None:
        """A scrape is nothing to log."""
