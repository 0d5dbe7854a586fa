"""The saved corpus: one file a target, an input a line. Enters: inputs. Leaves: the same, later.

Text, so that a change to it can be read; sorted, so that it is small.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterable
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"


def load(target: str) -> list[bytes]:
    """The saved inputs of a target; none if nothing was saved."""
    path = CORPUS / f"{target}.txt"
    return [b64decode(line, validate=True) for line in path.read_text().splitlines()] if path.exists() else []


def save(target: str, inputs: Iterable[bytes]) -> int:
    """Replaces the saved inputs of a target; returns how many bytes the file has."""
    CORPUS.mkdir(exist_ok=True)
    lines = [b64encode(data).decode() + "\n" for data in sorted(set(inputs), key=lambda data: (len(data), data))]
    return (CORPUS / f"{target}.txt").write_text("".join(lines))
