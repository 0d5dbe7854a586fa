"""Fuzzes every target in turn: `python -m tests.fuzz.run --seconds 300`, or `make fuzz`.

Begins with the seeds and the saved corpus, and goes on where the last run ended
(`$SIMNODE_TOOLS/fuzz`, or `.tools/fuzz`). Prints executions, coverage and findings, and exits with 1
if there are any. `--save` replaces the saved corpus by a minimal one of the same coverage.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from hashlib import sha1
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.fuzz import saved
from tests.fuzz.targets import TARGETS, Target

ROOT = Path(__file__).resolve().parents[2]
MAX_SAVED_INPUT_BYTES = 384
"""A longer input is fuzzed with, but not saved."""

PATIENCE_S = 60.0
"""What a target may take beyond its share of the time: for its start, and for its last input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one target.

    Attributes:
        edges: places in the code that some input reached.
        findings: files with inputs that raised.
    """

    executions: int
    edges: int
    inputs: int
    findings: list[Path]
    log: str


def work_dir() -> Path:
    """Where corpora grow."""
    return Path(os.environ.get("SIMNODE_TOOLS", ROOT / ".tools")).absolute() / "fuzz"


def fill(directory: Path, inputs: list[bytes]) -> None:
    """Writes inputs to files, named as libFuzzer does."""
    directory.mkdir(parents=True, exist_ok=True)
    for data in inputs:
        (directory / sha1(data, usedforsecurity=False).hexdigest()).write_bytes(data)


def fuzz(name: str, target: Target, seconds: int) -> Outcome:
    """Runs one target for so long."""
    directory = work_dir() / name
    corpus, findings = directory / "corpus", directory / "findings"
    findings.mkdir(parents=True, exist_ok=True)
    fill(corpus, [*target.seeds(), *saved.load(name)])
    options = []
    if target.words:
        words = directory / "words"
        words.write_text("".join(f'"{word.decode()}"\n' for word in target.words))
        options.append(f"-dict={words}")
    log = _libfuzzer(
        name,
        *options,
        f"-max_total_time={seconds}",
        f"-max_len={target.max_len}",
        f"-artifact_prefix={findings}/",
        "-timeout=10",
        "-print_final_stats=1",
        str(corpus),
        timeout_s=seconds + PATIENCE_S,
    )
    return Outcome(
        executions=_last_number(r"stat::number_of_executed_units:\s*(\d+)", log),
        edges=_last_number(r"cov: (\d+)", log),
        inputs=len(list(corpus.iterdir())),
        findings=sorted(findings.iterdir()),
        log=log,
    )


def save(name: str) -> int:
    """Saves a minimal corpus of the same coverage; returns the bytes of its file."""
    with tempfile.TemporaryDirectory(prefix="simnode-fuzz-") as directory:
        _libfuzzer(name, "-merge=1", directory, str(work_dir() / name / "corpus"), timeout_s=600)
        inputs = [path.read_bytes() for path in Path(directory).iterdir()]
    return saved.save(name, [data for data in inputs if len(data) <= MAX_SAVED_INPUT_BYTES])


def _libfuzzer(name: str, *options: str, timeout_s: float) -> str:
    command = [sys.executable, "-m", "tests.fuzz.fuzz", name, *options]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout_s, check=False)
    return finished.stderr + finished.stdout  # the traceback of a finding is in the latter, and then last


def _last_number(pattern: str, log: str) -> int:
    found = re.findall(pattern, log)
    return int(found[-1]) if found else 0


def main() -> int:
    """1 if anything was found, or a target did not run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=300, help="for all targets together")
    parser.add_argument("--targets", nargs="+", choices=list(TARGETS), default=list(TARGETS), metavar="TARGET")
    parser.add_argument("--save", action="store_true", help="replace the saved corpus")
    parser.add_argument("--fresh", action="store_true", help="forget what earlier runs found interesting")
    arguments = parser.parse_args()
    if arguments.fresh:
        shutil.rmtree(work_dir(), ignore_errors=True)
    console = Console()
    table = Table(title="fuzzing", caption=f"corpora and findings are in {work_dir()}")
    table.add_column("target")
    for title in ("executions", "edges reached", "inputs", "findings"):
        table.add_column(title, justify="right")
    failed = False
    for name in arguments.targets:
        outcome = fuzz(name, TARGETS[name], max(1, arguments.seconds // len(arguments.targets)))
        cells = (outcome.executions, outcome.edges, outcome.inputs, len(outcome.findings))
        table.add_row(name, *(f"{cell:,}" for cell in cells))
        if outcome.findings or not outcome.executions:
            failed = True
            console.print(f"[bold]{name}[/]: {', '.join(map(str, outcome.findings)) or 'did not run'}")
            said = (line for line in outcome.log.splitlines() if not line.startswith(("#", "INFO: ")))
            console.print("\n".join(said), markup=False, soft_wrap=True)
        if arguments.save:
            console.print(f"{name}: {save(name):,} bytes saved")
    console.print(table)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
