"""Fuzzes one target: `python -m tests.fuzz.fuzz TARGET [libFuzzer's options and directories]`.

Coverage is measured in `simnode.protocol` alone. An input that raises is written to the directory
of `-artifact_prefix`, and the run ends. `run.py` runs all targets in turn.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["simnode.protocol"]):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    """Does not return: libFuzzer ends the process."""
    target, *options = sys.argv[1:]
    ourselves = f"{sys.executable} -m tests.fuzz.fuzz {target}"  # what libFuzzer has a shell run again, to merge
    atheris.Setup([ourselves, *options], TARGETS[target].check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
