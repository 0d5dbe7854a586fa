"""The results as a picture for the README. Enters: results. Leaves: SVG. Nothing comes next.

Small bar charts side by side, one a figure, each on its own scale from 0, the best direction named.
"""

from __future__ import annotations

from dataclasses import dataclass
from xml.sax.saxutils import escape

from tests.bench import rows
from tests.bench.processes import OBVIOUS_PYTHON, OBVIOUS_RAY, ONE_HANDLER, REFERENCE, WHOLE_NODE
from tests.bench.report import number
from tests.bench.results import Results
from tests.bench.rows import Row

COLUMNS = 2
PANEL_WIDTH, PANEL_HEIGHT = 440, 150
TITLE_HEIGHT, BAR_HEIGHT, BAR_STEP = 34, 18, 26
LABEL_WIDTH, VALUE_WIDTH = 150, 70
MARGIN = 16

COLOURS = {
    ONE_HANDLER: "#2563eb",
    WHOLE_NODE: "#2563eb",
    REFERENCE: "#b45309",
    OBVIOUS_PYTHON: "#9ca3af",
    OBVIOUS_RAY: "#9ca3af",
}
LABELS = {ONE_HANDLER: "simnode", WHOLE_NODE: "simnode"}


@dataclass(frozen=True, slots=True)
class Panel:
    """One small chart."""

    title: str
    row: Row
    figure: str


PANELS = (
    Panel("PUT 50 MiB, MB/s", rows.RAW, "PUT 50 MiB"),
    Panel("GET 50 MiB, MB/s", rows.RAW, "GET 50 MiB"),
    Panel("CPU seconds per GiB, PUT (less is better)", rows.CPU, "PUT 50 MiB"),
    Panel("CPU seconds per GiB, GET (less is better)", rows.CPU, "GET 50 MiB"),
    Panel("MiB of heap for 8 × 50 MiB (less is better)", rows.MEMORY, "anonymous memory"),
    Panel("256-byte GET, op/s, 64 connections", rows.RATE, "GET"),
)


def draw(results: Results) -> str:
    """One SVG document; panels without figures are left out."""
    drawn = [(panel, bars) for panel in PANELS if (bars := _bars(panel, results))]
    lines = -(-len(drawn) // COLUMNS)
    width, height = COLUMNS * PANEL_WIDTH + MARGIN, lines * PANEL_HEIGHT + MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="system-ui, sans-serif" font-size="13">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for place, (panel, bars) in enumerate(drawn):
        x, y = MARGIN + place % COLUMNS * PANEL_WIDTH, MARGIN + place // COLUMNS * PANEL_HEIGHT
        parts += [f'<g transform="translate({x} {y})">', *_panel(panel.title, bars), "</g>"]
    return "\n".join([*parts, "</svg>", ""])


def _bars(panel: Panel, results: Results) -> list[tuple[str, float]]:
    medians = results.of(panel.row).medians()
    servers = (panel.row.subject, REFERENCE, OBVIOUS_PYTHON, OBVIOUS_RAY)
    return [(server, medians[panel.figure, server]) for server in servers if (panel.figure, server) in medians]


def _panel(title: str, bars: list[tuple[str, float]]) -> list[str]:
    longest = max(value for _, value in bars)
    room = PANEL_WIDTH - LABEL_WIDTH - VALUE_WIDTH - MARGIN
    parts = [f'<text y="14" font-weight="600" fill="#111827">{escape(title)}</text>']
    for place, (server, value) in enumerate(bars):
        y = TITLE_HEIGHT + place * BAR_STEP - BAR_HEIGHT // 2
        length = max(1.0, room * value / longest) if longest > 0 else 1.0
        middle = y + BAR_HEIGHT - 5
        parts += [
            f'<text x="0" y="{middle}" fill="#374151">{escape(LABELS.get(server, server))}</text>',
            f'<rect x="{LABEL_WIDTH}" y="{y}" width="{length:.1f}" height="{BAR_HEIGHT}" rx="2" '
            f'fill="{COLOURS[server]}"/>',
            f'<text x="{LABEL_WIDTH + length + 6:.1f}" y="{middle}" fill="#111827">{number(value)}</text>',
        ]
    return parts
