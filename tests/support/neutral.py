"""What an error may not tell a client. Enters: its text. Leaves: an assertion.

Every result that a test's client receives passes through `checked`, so each way in which a node says
no is looked at: in the error matrix, under faults, everywhere.
"""

from __future__ import annotations

import re
from typing import TypeVar

from simnode.protocol.codec.flatbuffers_errors import error_text
from simnode.protocol.messages.responses import Err

Result = TypeVar("Result")

_TELLTALES = {
    "a path": re.compile(r"(?<![\w/:])/\w+/\w|\b(?:data|lock)\.mdb\b|\.sock\b"),
    "the name of a segment": re.compile(r"\.seg\b|\b[0-9a-f]+-[0-9a-f]{6}-\d+\b"),
    "a process": re.compile(r"\bpid\b|handler-\d|_service|contract_store", re.IGNORECASE),
    "an exception of Python's": re.compile(r"\b\w+(?:Error|Exception)\b|\[Errno|Traceback|\bat 0x[0-9a-f]+|MDB_"),
}


def telltale(text: str) -> str | None:
    """What a text says of the machine or the program that it comes from; None if it says nothing."""
    return next((what for what, pattern in _TELLTALES.items() if pattern.search(text)), None)


def assert_neutral(text: str) -> None:
    """Asserts that a text is fit for a client: paths, processes, segments and exceptions are for the log."""
    found = telltale(text)
    assert found is None, f"a client is told {found}: {text!r}"


def checked(result: Result) -> Result:
    """The result, which is no error or a neutral one."""
    if isinstance(result, Err):
        assert_neutral(error_text(result.kind))
    return result
