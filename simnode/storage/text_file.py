"""A text that a user wrote, with whatever editor. Enters: a file. Leaves: its text. Next: `cli/config.py`."""

from __future__ import annotations

import codecs
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

OTHER_ENCODINGS: Final = (  # the longer marks first: that of UTF-32 begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


class NotUtf8(ValueError):
    """A text in another encoding (its author's fault). Says which, or where, and what to do."""


def read_text(file: Path | Traversable) -> str:
    """The text of a file, without the byte order mark that some editors put before it.

    Raises:
        NotUtf8: it is in another encoding.
        OSError: it cannot be read.
    """
    raw = file.read_bytes()
    for mark, name in OTHER_ENCODINGS:
        if raw.startswith(mark):
            raise NotUtf8(f"this is {name}; save it as UTF-8")
    if b"\0" in raw:
        raise NotUtf8("there are zero bytes, as in UTF-16; save it as UTF-8")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise NotUtf8(f"line {line} is not UTF-8 text (byte 0x{raw[error.start]:02x}); save it as UTF-8") from error
