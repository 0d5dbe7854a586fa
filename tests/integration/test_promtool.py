"""The metrics port as Prometheus sees it."""

from __future__ import annotations

import gzip
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest

from simnode.metrics.collector import BuildInfo
from simnode.metrics.exporter import Exporter
from simnode.metrics.model import Role
from tests.support.slabs import BusyNode

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian's package prometheus)"
)
PROMETHEUS_YML = Path(__file__).parents[2] / "deploy" / "prometheus.yml"


def promtool(*arguments: str, stdin: bytes = b"") -> tuple[int, str]:
    """Its exit code, and all that it has to say."""
    done = subprocess.run(
        ["promtool", *arguments], input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30, check=False
    )
    return done.returncode, done.stdout.decode()


@pytest.fixture
def exporter(tmp_path: Path) -> Iterator[Exporter]:
    node = BusyNode(tmp_path, time.monotonic())
    with Exporter(tmp_path, build=BuildInfo(version="0.1.0", python="3.11.7", ray="2.60.0"), port=0) as exporter:
        yield exporter
    node.close()


def scrape(exporter: Exporter, **headers: str) -> tuple[str, bytes]:
    request = Request(exporter.server.url, headers={name.replace("_", "-"): value for name, value in headers.items()})
    with urlopen(request, timeout=10) as response:
        return str(response.headers["Content-Type"]), response.read()


@needs_promtool
def test_promtool_has_nothing_to_say_about_the_metrics(exporter: Exporter) -> None:
    _, text = scrape(exporter)
    assert b"simnode_requests_total{" in text
    assert promtool("check", "metrics", stdin=text) == (0, "")


@needs_promtool
def test_prometheus_accepts_the_configuration_we_ship() -> None:
    code, said = promtool("check", "config", str(PROMETHEUS_YML))
    assert code == 0, said


def test_openmetrics_is_served_to_who_asks_for_it(exporter: Exporter) -> None:
    content_type, text = scrape(exporter, Accept="application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert text.endswith(b"# EOF\n")


def test_gzip_is_served_to_who_asks_for_it(exporter: Exporter) -> None:
    _, plain = scrape(exporter)
    _, packed = scrape(exporter, Accept_Encoding="gzip")
    assert len(packed) < len(plain) / 4
    assert b"simnode_build_info" in gzip.decompress(packed)


def test_own_memory_is_in_the_scrape(exporter: Exporter) -> None:
    """The samplers really read /proc: this process plays all the roles."""
    deadline = time.monotonic() + 10
    values: list[float] = []
    while len(values) < len(Role):
        assert time.monotonic() < deadline, "the sampler never got through the roles"
        lines = scrape(exporter)[1].splitlines()
        values = [float(line.split()[-1]) for line in lines if line.startswith(b"simnode_memory_pss_bytes{")]
    assert min(values) > 1 << 20


@pytest.mark.parametrize(
    ("request_", "status", "body"),
    [
        (b"GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n", b"403", b"--allowed-host evil.example "),
        (b"GET /metrics HTTP/1.1\r\n\r\n", b"400", b"Host"),
        (b"GET /metrics HTTP/1.0\r\n\r\n", b"200", b"simnode_requests_total{"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"404", b"/metrics"),
        (b"GET /healthz HTTP/1.1\r\nHost: 10.244.3.17\r\n\r\n", b"200", b"ok\n"),
        (b"HEAD /healthz HTTP/1.0\r\n\r\n", b"200", None),
        (b"HEAD /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", b"200", None),
        (b"HEAD /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n", b"403", None),
    ],
)
def test_requests_are_judged_by_host_path_and_method(
    exporter: Exporter, request_: bytes, status: bytes, body: bytes | None
) -> None:
    with socket.create_connection((exporter.server.host, exporter.server.port), timeout=10) as sock:
        sock.sendall(request_)
        with sock.makefile("rb") as reply:
            head, _, found = reply.read().partition(b"\r\n\r\n")

    assert head.split()[1] == status
    assert found == b"" if body is None else body in found
    assert b"Content-Length: 0" not in head


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")
def test_ipv6_addresses_are_served(tmp_path: Path) -> None:
    build = BuildInfo(version="0.1.0", python="3.11.7", ray="2.60.0")
    with Exporter(tmp_path, build=build, host="::1", port=0) as exporter:
        assert exporter.server.url.startswith("http://[::1]:")
        assert b"simnode_build_info" in scrape(exporter)[1]


def test_closed_exporter_listens_no_more(tmp_path: Path) -> None:
    exporter = Exporter(tmp_path, build=BuildInfo(version="0.1.0", python="3.11.7", ray="2.60.0"), port=0)
    scrape(exporter)
    exporter.close()
    with pytest.raises(URLError):
        scrape(exporter)


def test_port_in_use_is_an_error_and_leaves_no_thread(tmp_path: Path, exporter: Exporter) -> None:
    with pytest.raises(OSError, match="in use"):
        Exporter(tmp_path, build=BuildInfo(version="0", python="3", ray="2"), port=exporter.server.port)
