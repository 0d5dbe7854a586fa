"""The report. Enters: results and the run. Leaves: one self-contained file. Next: `templates/report.html.j2`."""

from __future__ import annotations

from simnode.experiments import charts
from simnode.experiments.machine import Run
from simnode.experiments.results import CLIENT, HANDLER, Results
from simnode.experiments.scenario import format_size
from simnode.experiments.tables import CONTROL_NOTE, format_mib, format_number, sections

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
    environment.filters.update(mib=format_mib, size=format_size, number=format_number)
    memory, backlog = charts.memory_pictures(results), charts.backlog_pictures(results)
    return environment.get_template("report.html.j2").render(
        results=results,
        run=run,
        charts=charts,
        client=CLIENT,
        handler=HANDLER,
        roles=[group for group in charts.NAMES if group in results.phases[0].memory.idle_bytes and group != CLIENT],
        sections=sections(results),
        control_note=CONTROL_NOTE,
        cautions=cautions(results, run),
        handler_bars=charts.handler_bars(results),
        client_bars=charts.client_bars(results),
        memory=memory,
        memory_legend=charts.legend(memory),
        backlog=backlog,
        backlog_legend=charts.legend(backlog),
        configuration=results.scenario.model_dump_json(indent=2, by_alias=True),
    )


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
