"""How our msgpack spells things. Enters: the schema. Leaves: names of messages and fields. Next: `msgpack_reader.py`.

`MSGPACK.md` beside this file is the table for people; a test keeps the two together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Final

from simnode.protocol.codec import schema
from simnode.protocol.codec.schema import Choice, Record, Shape
from simnode.protocol.messages import delegates
from simnode.protocol.messages.responses import Err

TYPE = "type"
"""The key under which a message, or an enum inside one, names its variant."""

_SPELLED: Final = {
    (delegates.DelegateContainer, "params"): "parameters",
    (delegates.PutContractResponse, "error"): "result",
    (delegates.UpdateContractResponse, "error"): "result",
    (delegates.SubscribeContractResponse, "error"): "result",
    (delegates.UnsubscribeContractResponse, "error"): "result",
}
"""Fields whose name in the reference is not the one in our classes."""


def fields_in_order(record: Record) -> list[tuple[str, str, Shape]]:
    """Name on the wire, name in the class and shape of each field, in the order in which we write them.

    A `state` goes last, so that a large one ends the message, as `data` does in a StreamChunk.
    """
    named = [(_SPELLED.get((record.cls, name), name), name, shape) for name, shape in record.fields]
    return sorted(named, key=lambda field: field[0] == "state")


def only_variant(choice: Choice) -> Record | None:
    """The class of an enum that has just one (`Wasm(V1)` of a container), and therefore needs no name."""
    records = [record for _, record in choice.leaves()]
    return records[0] if len(records) == 1 else None


def _requests() -> Iterator[tuple[tuple[str, ...], Record]]:
    yield from schema.CLIENT_REQUEST.leaves()


def _responses() -> Iterator[tuple[tuple[str, ...], Record]]:
    for (first, *rest), record in schema.HOST_RESULT.leaves():
        if first == "Ok":
            yield tuple(rest), record


def _errors() -> Iterator[tuple[tuple[str, ...], Record]]:
    (err,) = (record for _, record in schema.HOST_RESULT.leaves() if record.cls is Err)
    ((_, kinds),) = err.fields
    assert isinstance(kinds, Choice)
    yield from kinds.leaves(("Err",))


def _ambiguous() -> frozenset[str]:
    """Names that stand for more than one class, over requests, responses and errors together."""
    classes: defaultdict[str, set[type[Any]]] = defaultdict(set)
    for leaves in (_requests(), _responses(), _errors()):
        for (*_, name), record in leaves:
            classes[name].add(record.cls)
    return frozenset(name for name, named in classes.items() if len(named) > 1)


def _named(leaves: Iterator[tuple[tuple[str, ...], Record]]) -> dict[str, Record]:
    ambiguous = _ambiguous()
    return {".".join(path) if path[-1] in ambiguous else path[-1]: record for path, record in leaves}


REQUESTS: Final = _named(_requests())
RESPONSES: Final = _named(_responses())
ERRORS: Final = _named(_errors())
