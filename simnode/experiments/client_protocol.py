"""What experiment and client say to each other. Enters: dataclasses. Leaves: lines. Next: `client_process.py`.

One JSON object a line: orders on the process's standard input, reports on its standard output. An
order is answered by any number of `Sample`s and one `Done`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Connect:
    """Connect, and put and get a small contract, so that what is loaded on first use is loaded.

    Attributes:
        url: of the node.
        encoding: of the connection.
        streaming: whether to ask for chunked responses.
        warm_up: tells the small contract from those of other clients.
    """

    url: str
    encoding: str
    streaming: bool
    warm_up: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PutCuts:
    """Put a contract's state again and again, each time the next of some cuts.

    Attributes:
        params: of the contract, as text.
        cuts: `(path, offset, nbytes)`.
        repetitions: how many puts.
    """

    params: str
    cuts: list[tuple[str, int, int]]
    repetitions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GetState:
    """Get a contract's state again and again.

    Attributes:
        params: of the contract, as text.
        blake3: of the state that is expected, in hex.
        piece_by_piece: `get_stream`, not `get`.
        repetitions: how many gets.
    """

    params: str
    blake3: str
    piece_by_piece: bool
    repetitions: int


Order = Connect | PutCuts | GetState


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One operation is done.

    Attributes:
        seconds: from the call until its result was in the program's hands, and, for a get, verified.
        matches: whether the content was what it should be.
    """

    seconds: float
    matches: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The order is carried out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The order cannot be carried out; the process ends.

    Attributes:
        reason: a line of text.
    """

    reason: str


Report = Sample | Done | Failed

_ORDERS: dict[str, type[Order]] = {kind.__name__: kind for kind in (Connect, PutCuts, GetState)}
_REPORTS: dict[str, type[Report]] = {kind.__name__: kind for kind in (Sample, Done, Failed)}


def to_line(message: Order | Report) -> bytes:
    """The message with its class's name, as one line."""
    return json.dumps({"kind": type(message).__name__, **asdict(message)}).encode() + b"\n"


def read_order(line: bytes) -> Order:
    """The order in a line that `to_line` made."""
    fields = json.loads(line)
    return _ORDERS[fields.pop("kind")](**fields)


def read_report(line: bytes) -> Report:
    """The report in a line that `to_line` made."""
    fields = json.loads(line)
    return _REPORTS[fields.pop("kind")](**fields)
