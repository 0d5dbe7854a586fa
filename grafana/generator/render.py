"""Dashboards as Grafana reads them. Enters: panels. Leaves: JSON text. Next: `__main__.py`.

The rules of Grafana's dashboard-linter hold by construction: templated data source, job and instance; titles,
descriptions and units; nothing editable.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from grafana.generator.node import NODE
from grafana.generator.panels import Dashboard, Panel, Query, Row

DIRECTORY = Path(__file__).parents[1] / "dashboards"
GRID_COLUMNS = 24

Json = dict[str, Any]

DATASOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}
LAST_VALUE: Json = {"calcs": ["lastNotNull"], "fields": "", "values": False}
OPTIONS: dict[str, Json] = {
    "timeseries": {
        "legend": {"displayMode": "table", "placement": "bottom", "showLegend": True, "calcs": ["lastNotNull", "max"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {"reduceOptions": LAST_VALUE, "colorMode": "value", "graphMode": "none"},
    "bargauge": {"reduceOptions": LAST_VALUE, "orientation": "horizontal", "displayMode": "basic"},
}
DASH_THE_PEAKS: Json = {
    "matcher": {"id": "byRegexp", "options": "/peak/"},
    "properties": [{"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [8, 6]}}],
}


def rendered() -> dict[Path, str]:
    """Every dashboard file and its text."""
    return {
        DIRECTORY / f"{dashboard.name}.json": json.dumps(_dashboard(dashboard), indent=2) + "\n"
        for dashboard in (NODE,)
    }


def _dashboard(dashboard: Dashboard) -> Json:
    return {
        "uid": f"simnode-{dashboard.name}",
        "title": dashboard.title,
        "description": dashboard.description,
        "tags": ["simnode"],
        "editable": False,
        "graphTooltip": 1,
        "refresh": "10s",
        "schemaVersion": 39,
        "time": {"from": "now-15m", "to": "now"},
        "timezone": "browser",
        "templating": {
            "list": [
                _datasource_variable(),
                _label_variable("job", "label_values(simnode_build_info, job)"),
                _label_variable("instance", 'label_values(simnode_build_info{job=~"$job"}, instance)'),
            ]
        },
        "annotations": {"list": []},
        "links": [],
        "panels": list(_placed(dashboard.rows)),
    }


def _datasource_variable() -> Json:
    return {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "current": {},
        "includeAll": False,
        "multi": False,
        "refresh": 1,
    }


def _label_variable(label: str, query: str) -> Json:
    return {
        "name": label,
        "label": label.capitalize(),
        "type": "query",
        "datasource": DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": label},
        "current": {"text": ["All"], "value": ["$__all"]},
        "includeAll": True,
        "allValue": ".+",
        "multi": True,
        "refresh": 2,  # whenever the time range changes
        "sort": 1,
    }


def _placed(rows: tuple[Row, ...]) -> Iterator[Json]:
    number = y = 0
    for row in rows:
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "panels": [],
            "gridPos": {"x": 0, "y": y, "w": GRID_COLUMNS, "h": 1},
        }
        y += 1
        x = line_height = 0
        for panel in row.panels:
            if x + panel.width > GRID_COLUMNS:
                x, y, line_height = 0, y + line_height, 0
            number += 1
            yield {
                "id": number,
                "gridPos": {"x": x, "y": y, "w": panel.width, "h": panel.height},
                **_panel(panel),
            }
            x += panel.width
            line_height = max(line_height, panel.height)
        y += line_height


def _panel(panel: Panel) -> Json:
    steps: list[Json] = [{"color": "green", "value": None}]
    if panel.alarm_from is not None:
        steps.append({"color": "red", "value": panel.alarm_from})
    defaults: Json = {
        "unit": panel.unit,
        "min": 0,
        "color": {"mode": "thresholds" if panel.kind == "stat" else "palette-classic"},
        "thresholds": {"mode": "absolute", "steps": steps},
    }
    over_time = panel.kind == "timeseries"
    if over_time:
        defaults["custom"] = {
            "fillOpacity": 20 if panel.stacked else 0,
            "showPoints": "never",
            "stacking": {"mode": "normal" if panel.stacked else "none"},
        }
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": [DASH_THE_PEAKS] if over_time else []},
        "options": OPTIONS[panel.kind],
        "targets": [
            _target(letter, query, over_time=over_time)
            for letter, query in zip(ascii_uppercase, panel.queries, strict=False)
        ],
    }


def _target(letter: str, query: Query, *, over_time: bool) -> Json:
    return {
        "refId": letter,
        "datasource": DATASOURCE,
        "expr": query.expression,
        "legendFormat": query.legend,
        "range": over_time,
        "instant": not over_time,
    }
