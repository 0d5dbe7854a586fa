"""The committed dashboards: current, of catalogued metrics, and after the rules of Grafana's dashboard-linter."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from grafana.generator.panels import series
from grafana.generator.render import rendered
from simnode.metrics.catalogue import EXPORTED_NAMES

GRAFANA = Path(__file__).parents[2] / "grafana"
DASHBOARDS = sorted((GRAFANA / "dashboards").glob("*.json"))
UNITS = {"short", "bytes", "binBps", "s", "percentunit", "reqps", "mps", "eps", "cps", "wps", "hertz"}
"""The identifiers of Grafana's units that we use; a misspelt one is shown as a suffix and no error."""

Json = dict[str, Any]


def load(path: Path) -> Json:
    model: Json = json.loads(path.read_text())
    return model


def panels(model: Json) -> list[Json]:
    return [panel for panel in model["panels"] if panel["type"] != "row"]


each_dashboard = pytest.mark.parametrize(
    "model", [load(path) for path in DASHBOARDS], ids=[path.stem for path in DASHBOARDS]
)
each_panel = pytest.mark.parametrize(
    "panel",
    [pytest.param(panel, id=f"{path.stem}: {panel['title']}") for path in DASHBOARDS for panel in panels(load(path))],
)


def test_committed_files_are_what_the_generator_writes() -> None:
    """When this fails: `python -m grafana.generator`."""
    assert {path: path.read_text() for path in DASHBOARDS} == rendered()


def test_generator_refuses_a_metric_that_the_catalogue_does_not_have() -> None:
    with pytest.raises(ValueError, match="simnode_imaginary_total"):
        series("simnode_imaginary_total")


@each_panel
def test_every_metric_is_in_the_catalogue(panel: Json) -> None:
    for target in panel["targets"]:
        names = set(re.findall(r"\bsimnode_\w+", target["expr"]))
        assert names
        assert names <= EXPORTED_NAMES


@each_panel
def test_panel_has_title_description_unit_targets_and_the_templated_data_source(panel: Json) -> None:
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    assert panel["targets"]
    assert {target["datasource"]["uid"] for target in panel["targets"]} | {panel["datasource"]["uid"]} == {
        "${datasource}"
    }


@each_panel
def test_every_selector_matches_job_and_instance(panel: Json) -> None:
    for target in panel["targets"]:
        for selector in re.findall(r"\bsimnode_\w+(\{[^}]*\})?", target["expr"]):
            assert 'job=~"$job"' in selector
            assert 'instance=~"$instance"' in selector


@each_panel
def test_counters_are_aggregated_over_the_rate_interval(panel: Json) -> None:
    for target in panel["targets"]:
        expression = target["expr"]
        counters = re.findall(r"\bsimnode_\w+(?:_total|_bucket|_sum|_count)\b", expression)
        rated = re.findall(r"(?:rate|increase)\((simnode_\w+)\{[^}]*\}\[\$__rate_interval\]\)", expression)
        assert rated == counters


@each_panel
def test_lines_have_a_legend_of_labels_that_the_query_keeps(panel: Json) -> None:
    for target in panel["targets"]:
        assert target["legendFormat"]
        outermost = re.match(r"(?:60 \* |histogram_quantile\([\d.]+, )?(?:sum|max)(?: by \(([^)]*)\))?", target["expr"])
        assert outermost is not None
        kept = set((outermost[1] or "").split(", "))
        assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= kept


@each_dashboard
def test_variables_are_data_source_job_and_instance(model: Json) -> None:
    datasource, job, instance = model["templating"]["list"]
    assert (datasource["name"], datasource["type"], datasource["query"]) == ("datasource", "datasource", "prometheus")
    for variable, name in ((job, "job"), (instance, "instance")):
        assert (variable["name"], variable["label"], variable["type"]) == (name, name.capitalize(), "query")
        assert variable["datasource"]["uid"] == "${datasource}"
        assert (variable["multi"], variable["allValue"], variable["refresh"]) == (True, ".+", 2)
        assert set(re.findall(r"\bsimnode_\w+", variable["definition"])) <= EXPORTED_NAMES
        assert variable["query"]["query"] == variable["definition"]


@each_dashboard
def test_dashboard_is_not_editable_and_has_a_title(model: Json) -> None:
    assert model["editable"] is False
    assert model["title"]
    assert model["uid"]


@each_dashboard
def test_panels_have_distinct_ids_and_titles_and_do_not_overlap(model: Json) -> None:
    assert len({panel["id"] for panel in model["panels"]}) == len(model["panels"])
    assert len({panel["title"] for panel in panels(model)}) == len(panels(model))
    taken: set[tuple[int, int]] = set()
    for panel in model["panels"]:
        place = panel["gridPos"]
        squares = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not squares & taken
        assert max(x for x, _ in squares) < 24
        taken |= squares
