"""`simnode run`: its options. Enters: a scenario. Leaves: tables and files. Next: `experiments/experiment.py`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simnode.cli.output import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, describe_os_error, emit, fail, results_console
from simnode.cli.paths import readable_file, user_path

if TYPE_CHECKING:
    from simnode.experiments.experiment import Experiment
    from simnode.experiments.machine import Run
    from simnode.experiments.results import Results


def run(
    scenario: Annotated[str, typer.Argument(help="A scenario file, or the name of a shipped scenario.")] = "quickstart",
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", parser=user_path, help="Where the files go; if not given, simnode-run-SCENARIO."),
    ] = None,
    payload: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Cut payloads from this file; if not given, from the largest binaries of the environment.",
            parser=readable_file,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print results.json instead of the table.")] = False,
) -> None:
    """Run an experiment: real clients, real payloads, a node for each response mode.

    Prints a table and writes results.json, run.json and report.html. RssAnon is sampled, because the
    kernel keeps no peak of it (100 times a second unless the scenario says otherwise); peaks of
    backlog are exact. Exit code 1 when a threshold of the scenario fails.
    """
    import asyncio
    import sys

    from simnode.experiments.artefacts import check_artefacts, default_directory, write_artefacts
    from simnode.experiments.errors import ExperimentFailed
    from simnode.experiments.experiment import Experiment
    from simnode.experiments.payloads import PayloadError, default_paths
    from simnode.experiments.scenario_files import ScenarioError, load_scenario
    from simnode.experiments.terminal import print_results

    try:
        loaded = load_scenario(scenario)
    except ScenarioError as error:
        fail(error, code=EXIT_USAGE)
    experiment = Experiment(
        scenario=loaded,
        payload_paths=[payload] if payload is not None else default_paths(),
        node_command=(sys.executable, "-m", "simnode.cli.experiment_node"),
        command=("simnode", *sys.argv[1:]),
    )
    directory = out if out is not None else default_directory(loaded.name)
    try:
        check_artefacts(directory)  # not found out after minutes of work
        results, story = asyncio.run(_observed(experiment))
        paths = write_artefacts(results, story, directory)
    except PayloadError as error:
        fail(error, code=EXIT_USAGE)
    except ExperimentFailed as error:
        fail(error)
    except OSError as error:
        fail(describe_os_error(error))
    except KeyboardInterrupt:
        fail("interrupted; nothing was written", code=EXIT_INTERRUPTED)
    if as_json:
        emit(results.to_json())
    else:
        print_results(results, story, results_console())
        emit(f"wrote {', '.join(map(str, paths))} in {story.duration_s:.0f} s")
    failed = [verdict.name for verdict in results.verdicts if not verdict.passed]
    if failed:
        fail(f"{len(failed)} of {len(results.verdicts)} thresholds failed: {'; '.join(failed)}", code=EXIT_FAILED)


async def _observed(experiment: Experiment) -> tuple[Results, Run]:
    import sys

    from rich.console import Console

    from simnode.experiments.experiment import run_experiment
    from simnode.experiments.terminal import ProgressBars

    # FORCE_COLOR would make a terminal of a file
    console = Console(stderr=True, force_terminal=sys.stderr.isatty())
    with ProgressBars(experiment.scenario, console) as bars:
        return await run_experiment(experiment, bars)
