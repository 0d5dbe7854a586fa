"""A message that is being read. Enters: its bytes. Leaves: a place in them. Next: `bincode_reader.py`."""

from __future__ import annotations

from typing import Final

from simnode.protocol.blob import Blob
from simnode.protocol.errors import DecodeError

MAX_ITEMS = 1024
"""Items that the vectors and maps of one received message may have together (*ours*). A node decodes a
message in one turn of its loop: an item takes up to 10 µs, and 100 MiB of tiny ones would take minutes."""

MAX_RESULT_ITEMS = 1 << 20
"""The same of a result (*ours*): a client trusts its node more, and the diagnostics of a large node are long."""

MAX_TEXT_BYTES = 1024 * 1024
"""UTF-8 bytes of one text of a received message (*ours*): Python may keep text at four times that."""


MIN_BLOB_BYTES = 8
"""A byte string is worth so many bytes of its message (*ours*): the object that it becomes takes 250, and
msgpack writes an empty one in two. The native encoding's length alone takes eight."""

SPARE_BLOBS = 1024
"""Byte strings that a message may have in any case."""


class Source:
    """A message being read: readers take from `at` and move it on.

    Args:
        message: the bytes; the blobs that are read are slices of it.
        max_items: how many items its vectors and maps may have together.
    """

    __slots__ = ("at", "blobs_left", "items_left", "max_items", "message", "view")

    def __init__(self, message: Blob, *, max_items: int = MAX_ITEMS) -> None:
        self.message: Final = message
        self.view: Final = message.view
        #: offset of the next byte to read
        self.at = 0
        self.max_items: Final = max_items
        #: how many items the rest may announce
        self.items_left = max_items
        #: how many byte strings the rest may have
        self.blobs_left = SPARE_BLOBS + len(self.view) // MIN_BLOB_BYTES

    def announce(self, items: int) -> None:
        """Note that so many items follow.

        Raises:
            DecodeError: the message has more than `max_items` by now (the peer's fault).
        """
        self.items_left -= items
        if self.items_left < 0:
            count = self.max_items - self.items_left
            raise DecodeError(f"message has {count} items or more, maximum is {self.max_items}")

    def blob(self, start: int, stop: int) -> Blob:
        """The bytes from `start` up to `stop`, which must be inside the message, as a slice of it.

        Raises:
            DecodeError: the message has more byte strings than one of its length may (the peer's fault).
        """
        self.blobs_left -= 1
        if self.blobs_left < 0:
            raise DecodeError("more byte strings than a message of this length may have")
        return self.message.slice(start, stop)

    def text(self, start: int, stop: int) -> str:
        """The UTF-8 from `start` up to `stop`, which must be inside the message.

        Raises:
            DecodeError: it is no UTF-8, or longer than `MAX_TEXT_BYTES` (the peer's fault).
        """
        if stop - start > MAX_TEXT_BYTES:
            raise DecodeError(f"text has {stop - start} bytes, maximum is {MAX_TEXT_BYTES}")
        try:
            return str(self.view[start:stop], "utf-8")
        except UnicodeDecodeError as error:
            raise DecodeError(f"string is not valid utf8: {_in_the_references_words(error)}") from None


def _in_the_references_words(error: UnicodeDecodeError) -> str:
    if error.reason == "unexpected end of data":
        return f"incomplete utf-8 byte sequence from index {error.start}"
    return f"invalid utf-8 sequence of {error.end - error.start} bytes from index {error.start}"
