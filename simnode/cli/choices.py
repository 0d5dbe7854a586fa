"""Options that take one of a few words. Enters: nothing. Leaves: enumerations. Next: `config.py`.

On their own so that `--help` can name the words without loading what they are about.
"""

from __future__ import annotations

from enum import StrEnum


class EncodingName(StrEnum):
    """The values of `simnode.protocol.codec.base.Encoding`."""

    NATIVE = "native"
    FLATBUFFERS = "flatbuffers"
    MSGPACK = "msgpack"


class StoreKind(StrEnum):
    """Where contracts are kept."""

    MEMORY = "memory"
    DISK = "disk"


class ChunkedResponses(StrEnum):
    """Who gets large responses in chunks."""

    OPT_IN = "opt-in"
    ALWAYS = "always"


class LogFormat(StrEnum):
    """How log lines are written."""

    TEXT = "text"
    JSON = "json"
