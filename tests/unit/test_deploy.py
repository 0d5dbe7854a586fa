"""The deployment files that need no tool to be checked."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

ROOT = Path(__file__).parents[2]
YAML_FILES = sorted(
    path for folder in ("deploy", "grafana") for path in (ROOT / folder).rglob("*") if path.suffix in {".yml", ".yaml"}
)
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())

each_service = pytest.mark.parametrize("service", COMPOSE["services"].values(), ids=COMPOSE["services"])


@pytest.mark.parametrize("path", YAML_FILES, ids=lambda path: path.name)
def test_yaml_parses(path: Path) -> None:
    assert isinstance(yaml.safe_load(path.read_text()), dict)


@each_service
def test_image_is_pinned(service: dict[str, Any]) -> None:
    assert re.fullmatch(r"[\w/]+:v?\d+\.\d+\.\d+", service["image"])


@each_service
def test_service_has_a_health_check(service: dict[str, Any]) -> None:
    assert service["healthcheck"]["test"]


@each_service
def test_ports_are_published_on_loopback_only(service: dict[str, Any]) -> None:
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


@each_service
def test_mounted_files_exist(service: dict[str, Any]) -> None:
    for volume in service["volumes"]:
        source, _, _ = volume.partition(":")
        assert source in COMPOSE["volumes"] or (ROOT / "deploy" / source).exists()


def test_segments_have_room_in_shared_memory() -> None:
    assert COMPOSE["services"]["node"]["shm_size"] == "4gb"


def test_base_images_of_the_dockerfile_are_pinned() -> None:
    images = re.findall(r"^FROM (\S+)", (ROOT / "deploy" / "Dockerfile").read_text(), flags=re.MULTILINE)
    assert images
    assert all(re.fullmatch(r"[\w/]+:\d+\.\d+\.\d+-\w+-\w+", image) for image in images)


def test_provisioned_data_source_knows_the_scrape_interval() -> None:
    """$__rate_interval is four times what Grafana believes the scrape interval to be."""
    prometheus = yaml.safe_load((ROOT / "deploy" / "prometheus.yml").read_text())
    sources = yaml.safe_load((ROOT / "grafana" / "provisioning" / "datasources" / "prometheus.yaml").read_text())
    assert sources["datasources"][0]["jsonData"]["timeInterval"] == prometheus["global"]["scrape_interval"]


def test_dashboards_are_mounted_where_they_are_provisioned_from() -> None:
    provider = yaml.safe_load((ROOT / "grafana" / "provisioning" / "dashboards" / "simnode.yaml").read_text())
    mounted = COMPOSE["services"]["grafana"]["volumes"]
    assert f"../grafana/dashboards:{provider['providers'][0]['options']['path']}:ro" in mounted
