"""The metrics port's rules, without a socket: they are those of the clients' port."""

from __future__ import annotations

import logging
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest
from prometheus_client import CollectorRegistry, Gauge

from simnode.metrics.exporter import metrics_app
from simnode.node.hosts import AllowedHosts


@pytest.fixture
def registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    Gauge("answer", "of all", registry=registry).set(42)
    return registry


def ask(app: Any, path: str = "/metrics", **given: str | None) -> tuple[int, dict[str, str], bytes]:
    environ: dict[str, Any] = {"PATH_INFO": path, "HTTP_HOST": "localhost:9509", "SERVER_PROTOCOL": "HTTP/1.1"}
    setup_testing_defaults(environ)
    environ |= given
    for name in [name for name, value in environ.items() if value is None]:
        del environ[name]
    replies: list[tuple[str, dict[str, str]]] = []
    body = b"".join(app(environ, lambda status, headers: replies.append((status, dict(headers)))))
    [(status, headers)] = replies
    return int(status.split()[0]), headers, body


def app(registry: CollectorRegistry, *allowed: str) -> Any:
    return metrics_app(registry, AllowedHosts.of(allowed))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:9509", "[::1]:9509", "LOCALHOST."])
def test_loopback_hosts_are_served(registry: CollectorRegistry, host: str) -> None:
    status, _, body = ask(app(registry), HTTP_HOST=host)

    assert status == 200
    assert b"answer 42.0\n" in body


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"HTTP_HOST": "evil.example"}, 403),
        ({"HTTP_HOST": "10.244.3.17:9509"}, 403),
        ({"HTTP_ORIGIN": "http://evil.example"}, 403),
        ({"HTTP_ORIGIN": "null"}, 403),
        ({"HTTP_ORIGIN": "http://localhost:3000"}, 200),
        ({"HTTP_HOST": "localhost,evil.example"}, 400),
        ({"HTTP_HOST": None}, 400),
        ({"HTTP_HOST": None, "SERVER_PROTOCOL": "HTTP/1.0"}, 200),
        ({"PATH_INFO": "/"}, 404),
        ({"PATH_INFO": "/metrics/"}, 404),
        ({"PATH_INFO": "/", "HTTP_HOST": "evil.example"}, 403),
        ({"REQUEST_METHOD": "POST"}, 405),
        ({"REQUEST_METHOD": "OPTIONS"}, 405),
    ],
)
def test_requests_are_judged_as_on_the_clients_port(
    registry: CollectorRegistry, given: dict[str, str | None], status: int
) -> None:
    found, headers, body = ask(app(registry), **given)

    assert found == status
    assert (b"answer" in body) is (status == 200)
    assert headers.get("Allow") == ("GET, HEAD" if status == 405 else None)


def test_an_option_allows_the_scrapers_network(registry: CollectorRegistry) -> None:
    assert ask(app(registry, "10.0.0.0/8"), HTTP_HOST="10.244.3.17:9509")[0] == 200


@pytest.mark.parametrize("host", ["10.244.3.17:9509", "nonsense:x", None])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_health_is_told_to_everybody(registry: CollectorRegistry, host: str | None, method: str) -> None:
    status, headers, body = ask(
        app(registry), "/healthz", HTTP_HOST=host, HTTP_ORIGIN="http://evil.example", REQUEST_METHOD=method
    )

    assert (status, headers["Content-Length"]) == (200, "3")
    assert body == (b"ok\n" if method == "GET" else b"")


@pytest.mark.parametrize("path", ["/metrics", "/", "/healthz"])
def test_head_is_answered_as_get_without_the_body(registry: CollectorRegistry, path: str) -> None:
    status, headers, body = ask(app(registry), path)

    assert ask(app(registry), path, REQUEST_METHOD="HEAD") == (status, headers, b"")
    assert int(headers["Content-Length"]) == len(body)


def test_a_refused_host_is_logged_once_with_the_option_that_helps(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    strict = app(registry)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert b"--allowed-host node.example " in ask(strict, HTTP_HOST="node.example")[2]

    assert len(caplog.messages) == 1
    assert "--allowed-host node.example " in caplog.messages[0]
