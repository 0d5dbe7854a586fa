"""The results as a picture for the README. Enters: results. Leaves: SVG. Nothing comes next.

Small bar charts side by side, one a figure, each on its own scale from 0; a dashed line where the
bound of that figure is. A bar that would dwarf all others is broken off. The colours follow the
reader's light or dark setting.
"""

from __future__ import annotations

from dataclasses import dataclass
from xml.sax.saxutils import escape

from tests.bench import rows
from tests.bench.processes import OBVIOUS_PYTHON, OBVIOUS_RAY, ONE_HANDLER, REFERENCE, WHOLE_NODE
from tests.bench.report import number
from tests.bench.results import Results
from tests.bench.rows import Goal, Row

COLUMNS = 2
PANEL_WIDTH, PANEL_HEIGHT = 452, 170
HEADER_HEIGHT = 46
BARS_TOP, BAR_HEIGHT, BAR_STEP = 44, 18, 26
LABEL_WIDTH, VALUE_WIDTH, GUTTER = 152, 70, 28
GAP, DIGIT_WIDTH = 6, 8
MARGIN = 20

DWARFING = 3.0
"""An obvious peer's bar that is so many times as long as the judged two and their bound is broken off."""

CLASSES = {ONE_HANDLER: "simnode", WHOLE_NODE: "simnode", REFERENCE: "reference"}
"""Of a bar, by server; the others are `obvious`."""

STYLE = """
  text { fill: #1f2328 } .quiet { fill: #59636e; font-size: 12px } .title { font-weight: 600 }
  .paper { fill: #ffffff } .simnode { fill: #2563eb } .reference { fill: #b45309 } .obvious { fill: #a8b0ba }
  .break { stroke: #ffffff; stroke-width: 3 }
  .bound { stroke: #1f2328; stroke-width: 1.5; stroke-dasharray: 4 3 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .quiet { fill: #9198a1 } .paper { fill: #0d1117 } .simnode { fill: #5b9bff }
    .reference { fill: #e0913a } .obvious { fill: #59636e } .bound { stroke: #e6edf3 }
    .break { stroke: #0d1117 }
  }
"""

HEADING = "simnode and its peers, in one run on two cores"
LEGEND = "Medians. Dashed: what simnode has to reach. A bar with a gap is longer than it is drawn."


@dataclass(frozen=True, slots=True)
class Panel:
    """One small chart."""

    title: str
    row: Row
    figure: str

    @property
    def goal(self) -> Goal:
        """What is asked of the figure."""
        return next(goal for goal in self.row.goals if goal.figure == self.figure)


@dataclass(frozen=True, slots=True)
class Bar:
    """One server's figure."""

    server: str
    value: float


PANELS = (
    Panel("PUT of 50 MiB, one handler: MB/s", rows.RAW, "PUT 50 MiB"),
    Panel("GET of 50 MiB, one handler: MB/s", rows.RAW, "GET 50 MiB"),
    Panel("PUT of 50 MiB: CPU seconds per GiB", rows.CPU, "PUT 50 MiB"),
    Panel("GET of 50 MiB: CPU seconds per GiB", rows.CPU, "GET 50 MiB"),
    Panel("256-byte GET, 64 connections: op/s", rows.RATE, "GET"),
    Panel("256-byte PUT, 64 connections: op/s", rows.RATE, "PUT"),
    Panel("8 contracts of 50 MiB, PUT and GET: heap, MiB", rows.MEMORY, "anonymous memory"),
    Panel("One idle connection of 2,000: heap, KiB", rows.IDLE, "anonymous memory each"),
)


def draw(results: Results) -> str:
    """One SVG document; panels without figures are left out."""
    drawn = [(panel, bars) for panel in PANELS if (bars := _bars(panel, results))]
    lines = -(-len(drawn) // COLUMNS)
    width, height = COLUMNS * PANEL_WIDTH + 2 * MARGIN - GUTTER, HEADER_HEIGHT + lines * PANEL_HEIGHT + 2 * MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        'font-family="system-ui, sans-serif" font-size="13">',
        f"<title>{HEADING}</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="paper" width="{width}" height="{height}"/>',
        f'<text class="title" x="{MARGIN}" y="{MARGIN + 14}" font-size="16">{HEADING}</text>',
        f'<text class="quiet" x="{MARGIN}" y="{MARGIN + 34}">{LEGEND}</text>',
    ]
    for place, (panel, bars) in enumerate(drawn):
        line, column = divmod(place, COLUMNS)
        x, y = MARGIN + column * PANEL_WIDTH, MARGIN + HEADER_HEIGHT + line * PANEL_HEIGHT
        parts += [f'<g transform="translate({x} {y})">', *_panel(panel, bars), "</g>"]
    return "\n".join([*parts, "</svg>", ""])


def _bars(panel: Panel, results: Results) -> list[Bar]:
    medians = results.of(panel.row).medians()
    servers = (panel.row.subject, REFERENCE, OBVIOUS_PYTHON, OBVIOUS_RAY)
    return [Bar(server, medians[panel.figure, server]) for server in servers if (panel.figure, server) in medians]


def _bound(goal: Goal, bars: list[Bar]) -> float | None:
    """Where the bound is on the panel's scale; None: it is a multiple of a figure that is not there."""
    if not goal.is_ratio:
        return goal.bound
    return next((goal.bound * bar.value for bar in bars if bar.server == REFERENCE), None)


def _full_scale(bound: float | None, bars: list[Bar]) -> float:
    """What the panel's width stands for: the longest of all, unless that is an obvious peer's and dwarfs the rest."""
    longest = {bar.server: bar.value for bar in bars} | {"": bound or 0.0}
    kept = max(value for server, value in longest.items() if server not in (OBVIOUS_PYTHON, OBVIOUS_RAY))
    for server in (OBVIOUS_PYTHON, OBVIOUS_RAY):
        if (value := longest.get(server, 0.0)) <= DWARFING * kept:
            kept = max(kept, value)
    return kept


def _panel(panel: Panel, bars: list[Bar]) -> list[str]:
    goal = panel.goal
    bound = _bound(goal, bars)
    full_scale = _full_scale(bound, bars)
    room = PANEL_WIDTH - LABEL_WIDTH - VALUE_WIDTH - GUTTER

    def length(value: float) -> float:
        return max(1.0, room * min(1.0, value / full_scale)) if full_scale > 0 else 1.0

    better = "more is better" if goal.at_least else "less is better"
    times = " the reference style's" if goal.is_ratio else ""
    parts = [
        f'<text class="title" y="14">{escape(panel.title)}</text>',
        f'<text class="quiet" y="31">{better}; to reach: {escape(goal.target)}{times}</text>',
    ]
    for place, bar in enumerate(bars):
        y = BARS_TOP + place * BAR_STEP
        middle = y + BAR_HEIGHT - 5
        kind = CLASSES.get(bar.server, "obvious")
        end, shown = length(bar.value), number(bar.value)
        # a figure that the dashed line would strike through stands behind it
        if kind == "simnode" and bound is not None and end <= length(bound) < end + GAP + DIGIT_WIDTH * len(shown):
            end = length(bound)
        label = "simnode" if kind == "simnode" else bar.server
        parts += [
            f'<text x="0" y="{middle}">{escape(label)}</text>',
            f'<rect class="{kind}" x="{LABEL_WIDTH}" y="{y}" width="{length(bar.value):.1f}" '
            f'height="{BAR_HEIGHT}" rx="2"/>',
            f'<text x="{LABEL_WIDTH + end + GAP:.1f}" y="{middle}">{shown}</text>',
        ]
        if bar.value > full_scale:
            gap = LABEL_WIDTH + room * 0.85
            parts.append(f'<path class="break" d="M{gap} {y + BAR_HEIGHT}l6 -{BAR_HEIGHT}"/>')
    if bound is not None and bars[0].server == panel.row.subject:
        at = LABEL_WIDTH + length(bound)
        parts.append(
            f'<line class="bound" x1="{at:.1f}" x2="{at:.1f}" y1="{BARS_TOP - 4}" y2="{BARS_TOP + BAR_HEIGHT + 4}"/>'
        )
    return parts
