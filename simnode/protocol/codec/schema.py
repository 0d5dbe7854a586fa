"""What the message classes look like, as data for the codecs that follow a schema.

Enters: the annotations of the message classes and the tables of `variants.py`. Leaves: a tree of
shapes, from `CLIENT_REQUEST` and `HOST_RESULT` down. Next: `bincode.py`, `msgpack.py`.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, Final

from simnode.protocol.blob import Blob
from simnode.protocol.codec import variants
from simnode.protocol.codec.variants import Variants
from simnode.protocol.messages import delegates, requests, responses
from simnode.protocol.messages.wire import Fixed, Float, SocketAddress, Unsigned


@dataclass(frozen=True, slots=True)
class Boolean:
    pass


@dataclass(frozen=True, slots=True)
class Text:
    pass


@dataclass(frozen=True, slots=True)
class Bytes:
    """A `Blob`: a byte string of any length."""


@dataclass(frozen=True, slots=True)
class Option:
    """An item or None."""

    item: Shape


@dataclass(frozen=True, slots=True)
class Outcome:
    """The reference's `Result<(), String>`, which the classes hold as None or the error's text."""


@dataclass(frozen=True, slots=True)
class Product:
    """A tuple of so many items, each of its own shape."""

    items: tuple[Shape, ...]


@dataclass(frozen=True, slots=True)
class Sequence:
    """A tuple of any length, of items of one shape."""

    item: Shape


@dataclass(frozen=True, slots=True)
class Pairs:
    """A map, which the classes hold as a tuple of pairs; of equal keys the last wins."""

    item: Product


@dataclass(frozen=True, slots=True)
class Record:
    """A message class and the shapes of its fields, in the order of the wire."""

    cls: type[Any]
    fields: tuple[tuple[str, Shape], ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """An enum: names and shapes of its variants, in the order of their tags."""

    variants: tuple[tuple[str, Record | Choice], ...]

    def leaves(self, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Record]]:
        """Every class of the enum and of those it nests, with the names that lead to it."""
        for name, shape in self.variants:
            if isinstance(shape, Choice):
                yield from shape.leaves((*path, name))
            else:
                yield (*path, name), shape


Scalar = Unsigned | Float | Fixed | SocketAddress | Boolean | Text | Bytes | Outcome
Shape = Scalar | Option | Product | Sequence | Pairs | Record | Choice

_OUTCOMES: Final = {
    (delegates.PutContractResponse, "error"),
    (delegates.UpdateContractResponse, "error"),
    (delegates.SubscribeContractResponse, "error"),
    (delegates.UnsubscribeContractResponse, "error"),
}
"""Fields that look like an Option in the classes and are a Result on the wire."""

_MAPS: Final = {
    (requests.Put, "related_contracts"),
    (delegates.PutContractRequest, "related_contracts"),
    (responses.NodeDiagnostics, "contract_states"),
}
"""Fields that look like a vector of pairs in the classes and are a map on the wire."""


def _classes(tree: Variants) -> Iterator[type[Any]]:
    for branch in tree.values():
        if isinstance(branch, type):
            yield branch
        else:
            yield from _classes(branch)


_ENUM_OF: Final = {frozenset(_classes(tree)): tree for tree in variants.ENUMS}
"""A union in an annotation is recognized by its members; a lone class can be an enum too."""


def choice(tree: Variants) -> Choice:
    """The shape of an enum of `variants.py`."""
    return Choice(
        tuple((name, _record(branch) if isinstance(branch, type) else choice(branch)) for name, branch in tree.items())
    )


def _record(cls: type[Any]) -> Record:
    hints = typing.get_type_hints(cls, include_extras=True)
    return Record(cls, tuple((field.name, _field(cls, field.name, hints[field.name])) for field in fields(cls)))


def _field(cls: type[Any], name: str, annotation: Any) -> Shape:
    if (cls, name) in _OUTCOMES:
        return Outcome()
    shape = _shape(annotation)
    if (cls, name) in _MAPS:
        assert isinstance(shape, Sequence)
        assert isinstance(shape.item, Product)
        return Pairs(shape.item)
    return shape


_PLAIN: Final[dict[Any, Shape]] = {bool: Boolean(), str: Text(), Blob: Bytes()}


def _shape(annotation: Any) -> Shape:
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        marker: Shape = arguments[1]
        return marker
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return Sequence(_shape(arguments[0]))
        return Product(tuple(map(_shape, arguments)))
    if origin in (types.UnionType, typing.Union):
        if types.NoneType in arguments:
            (item,) = (argument for argument in arguments if argument is not types.NoneType)
            return Option(_shape(item))
        return choice(_ENUM_OF[frozenset(arguments)])
    tree = _ENUM_OF.get(frozenset([annotation]))
    return _record(annotation) if tree is None else choice(tree)


CLIENT_REQUEST: Final = choice(variants.CLIENT_REQUEST)
HOST_RESULT: Final = choice(variants.HOST_RESULT)

ITEMS_OF_RESPONSES: Final = {
    (record.cls, name): shape.item
    for _, record in HOST_RESULT.leaves()
    for name, shape in record.fields
    if isinstance(shape, Sequence | Pairs)
}
"""The shape of the items of each vector and map that is a field of a response."""
