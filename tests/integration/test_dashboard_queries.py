"""Every query of every dashboard, asked of a real Prometheus that scrapes a node in which everything happens."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

from simnode.metrics.collector import BuildInfo
from simnode.metrics.exporter import Exporter
from tests.support.slabs import BusyNode

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="prometheus is not installed (Debian's package prometheus)"
)

DASHBOARDS = sorted((Path(__file__).parents[2] / "grafana" / "dashboards").glob("*.json"))
TIMEOUT_S = 30.0


def expressions() -> set[str]:
    """What Grafana would send, with everything chosen."""
    asked = {
        target["expr"]
        for path in DASHBOARDS
        for panel in json.loads(path.read_text())["panels"]
        for target in panel.get("targets", [])
    }
    return {text.replace("$job", ".+").replace("$instance", ".+").replace("$__rate_interval", "2s") for text in asked}


@pytest.fixture
def prometheus(tmp_path: Path, exporter: Exporter) -> Iterator[str]:
    """Its address."""
    config = tmp_path / "prometheus.yml"
    target = f"{exporter.server.host}:{exporter.server.port}"
    config.write_text(
        "global: {scrape_interval: 200ms, scrape_timeout: 200ms}\n"
        f"scrape_configs: [{{job_name: simnode, static_configs: [{{targets: ['{target}']}}]}}]\n"
    )
    with subprocess.Popen(
        [
            "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            "--web.listen-address=127.0.0.1:0",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stderr is not None
        try:
            address = ""
            for line in server.stderr:
                if found := re.search(r'msg="Listening on" address=(\S+)', line):
                    address = f"http://{found[1]}"
                elif "Server is ready to receive web requests" in line:  # until then it answers 503
                    break
            else:
                pytest.fail("prometheus ended before it was ready")
            yield address
        finally:
            server.terminate()
            server.stderr.read()


@pytest.fixture
def exporter(run_dir: Path) -> Iterator[Exporter]:
    with Exporter(run_dir, build=BuildInfo(version="0.1.0", python="3.11.7", ray="2.60.0"), port=0) as exporter:
        yield exporter


@pytest.fixture
def node(run_dir: Path) -> Iterator[BusyNode]:
    node = BusyNode(run_dir, time.monotonic())
    yield node
    node.close()


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return tmp_path / "run"


def ask(prometheus: str, expression: str) -> list[dict[str, Any]]:
    with urlopen(f"{prometheus}/api/v1/query?{urlencode({'query': expression})}", timeout=10) as response:
        result: list[dict[str, Any]] = json.load(response)["data"]["result"]
        return [series for series in result if series["value"][1] != "NaN"]


def test_every_panel_has_data(node: BusyNode, prometheus: str) -> None:
    """A query that Prometheus does not understand raises; one that finds nothing never leaves the set."""
    without_data = expressions()
    assert without_data
    deadline = time.monotonic() + TIMEOUT_S
    while without_data and time.monotonic() < deadline:
        node.happen(time.monotonic())
        without_data = {expression for expression in without_data if not ask(prometheus, expression)}
        time.sleep(0.2)
    assert without_data == set()
