"""The report. Enters: results and the run. Leaves: one self-contained file. Next: `templates/report.html.j2`."""

from __future__ import annotations

from simnode.experiments import charts
from simnode.experiments.machine import Run
from simnode.experiments.results import CLIENT, HANDLER, Phase, Results
from simnode.experiments.scenario import Figure, Operation, format_size
from simnode.protocol.limits import MIB

BUSY_OTHERS = 0.15
"""With more of the CPU in others' hands, latencies say little."""


def render_report(results: Results, run: Run) -> str:
    """The HTML of the report: styles and pictures are in it, and nothing is fetched."""
    # loaded here: other commands have no use for it
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("simnode.experiments"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(mib=format_mib, ratio=format_ratio, size=format_size, number=format_number)
    memory, backlog = charts.memory_pictures(results), charts.backlog_pictures(results)
    return environment.get_template("report.html.j2").render(
        results=results,
        run=run,
        figures=Figure,
        charts=charts,
        client=CLIENT,
        handler=HANDLER,
        roles=[group for group in charts.NAMES if group in results.phases[0].memory.idle_bytes and group != CLIENT],
        sections=sections(results),
        cautions=cautions(results, run),
        handler_bars=charts.handler_bars(results),
        client_bars=charts.client_bars(results),
        memory=memory,
        memory_legend=charts.legend(memory),
        backlog=backlog,
        backlog_legend=charts.legend(backlog),
        configuration=results.scenario.model_dump_json(indent=2, by_alias=True),
    )


def sections(results: Results) -> list[tuple[str, list[Phase]]]:
    """The phases to be compared, under a heading each: those that differ in their mode only."""
    many = len(results.scenario.encodings) > 1
    found: dict[str, list[Phase]] = {}
    for phase in sorted(
        results.phases, key=lambda phase: (phase.payload_bytes, list(Operation).index(phase.operation))
    ):
        encoding = f", {phase.encoding.value}" if many else ""
        found.setdefault(f"{format_size(phase.payload_bytes)} {phase.operation}{encoding}", []).append(phase)
    return list(found.items())


def cautions(results: Results, run: Run) -> list[str]:
    """What a reader must know before trusting the figures, a sentence each."""
    found = []
    if run.cpu_share_of_others > BUSY_OTHERS:
        found.append(
            f"Other programs used up to {run.cpu_share_of_others:.0%} of the CPU meanwhile: "
            "speeds and latencies are lower bounds and vary; memory figures are not affected."
        )
    limited = [phase for phase in results.phases if phase.bottleneck == "client"]
    if limited:
        found.append(
            f"In {len(limited)} of {len(results.phases)} phases the client used more than 90 % of a core: "
            "there the speed is the client's, not the node's."
        )
    unsteady = [phase for phase in results.phases if not phase.memory.is_steady]
    if unsteady:
        found.append(
            f"Before {len(unsteady)} of {len(results.phases)} phases memory did not come to rest, "
            "so what is over idle is uncertain there."
        )
    return found


def format_mib(nbytes: float) -> str:
    """Two digits behind the point: a page is 0.004 MiB."""
    return f"{nbytes / MIB:.2f}"


def format_ratio(value: float | None) -> str:
    """`0.50`, or a dash for none."""
    return "–" if value is None else f"{value:.2f}"


def format_number(value: float | None) -> str:
    """Three significant digits where there are fewer than three before the point; a dash for none."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
