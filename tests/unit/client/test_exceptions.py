from __future__ import annotations

import pytest

from simnode.client import exceptions
from simnode.client.exceptions import request_failed
from simnode.protocol.codec.display import display
from simnode.protocol.messages import error_kinds as errors
from simnode.protocol.messages.contracts import ContractKey
from simnode.protocol.messages.delegates import DelegateKey
from simnode.protocol.messages.error_kinds import ErrorKind

A, D = ContractKey(b"a" * 32, b"c" * 32), DelegateKey(b"d" * 32, b"e" * 32)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (errors.MissingContract(key=A.instance), exceptions.NotFound),
        (errors.GetError(key=A, cause="why"), exceptions.ContractFailed),
        (errors.MissingRelated(key=A.instance), exceptions.ContractFailed),
        (errors.IncorrectState(key=A), exceptions.ContractFailed),
        (errors.MissingDelegate(key=D), exceptions.DelegateFailed),
        (errors.ExecutionError(cause="why"), exceptions.DelegateFailed),
        (errors.NodeUnavailable(), exceptions.NodeUnavailable),
        (errors.DeserializationError(cause="why"), exceptions.RequestUndecodable),
        (errors.Unhandled(cause="why"), exceptions.RequestFailed),
        (errors.Timeout(), exceptions.RequestFailed),
    ],
)
def test_each_error_has_its_exception_and_keeps_its_kind(kind: ErrorKind, expected: type[Exception]) -> None:
    error = request_failed(kind)
    assert type(error) is expected
    assert error.kind == kind
    if expected is not exceptions.NotFound:
        assert str(error) == display(kind)


def test_the_tree_in_the_docstring_is_the_tree_in_the_code() -> None:
    tree = exceptions.__doc__ or ""
    classes = [
        value
        for value in vars(exceptions).values()
        if isinstance(value, type) and issubclass(value, exceptions.ClientError)
    ]
    for cls in classes:
        line = next(line for line in tree.splitlines() if f"{cls.__name__} " in f"{line} ".replace("─", " "))
        depth = len(cls.__mro__) - len(exceptions.ClientError.__mro__)
        assert len(line) - len(line.lstrip("│├└─ ")) == 4 * depth, cls.__name__
