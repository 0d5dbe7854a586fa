"""A change, for everybody here who hears of it. Enters: a state. Leaves: one encoding of it. Next: `session.py`."""

from __future__ import annotations

from collections.abc import Mapping

from simnode.live.payloads import Payload, whole
from simnode.metrics.cells import Counter
from simnode.protocol.blob import Blob, Rope
from simnode.protocol.codec.base import Codec, Encoding
from simnode.protocol.messages.contracts import Delta, State
from simnode.protocol.messages.responses import UpdateNotification
from simnode.storage.reader import StoredState


class Notice:
    """The newest state of a contract, held until the last subscriber has been sent it.

    Each subscriber takes a share (`take`) and releases it when its last byte has left; whoever made
    the notice has one, too.

    Args:
        stored: the contract as it is now; the notice's from here on.
        delta: what was appended last, if that is all that changed since the version before.
        encodings: counts the serializations, by the encoding's name.
    """

    __slots__ = ("_delta", "_encoded", "_encodings", "_shares", "_stored")

    def __init__(
        self, stored: StoredState, delta: Payload | None, encodings: Mapping[tuple[str, ...], Counter]
    ) -> None:
        self._stored = stored
        self._delta = delta
        self._encodings = encodings
        self._shares = 1
        self._encoded: dict[tuple[Encoding, bool], tuple[UpdateNotification, Rope]] = {}

    @property
    def version(self) -> int:
        """Of the contract's row."""
        return self._stored.version

    @property
    def stored(self) -> StoredState:
        """The contract that it tells of."""
        return self._stored

    def take(self) -> Notice:
        """One more share."""
        self._shares += 1
        return self

    def release(self) -> None:
        """Gives one share back."""
        self._shares -= 1
        if not self._shares:
            self._stored.release()

    def encoded_for(self, codec: Codec, *, as_delta: bool) -> tuple[UpdateNotification, Rope]:
        """The notification and its serialized form; the delta alone if it is wanted and there is one."""
        as_delta = as_delta and self._delta is not None
        known = self._encoded.get((codec.encoding, as_delta))
        if known is None:
            update = self._as_delta() if as_delta else State(state=whole(self._stored.state))
            notification = UpdateNotification(key=self._stored.key, update=update)
            known = self._encoded[codec.encoding, as_delta] = (notification, codec.encode_result(notification))
            self._encodings[(codec.encoding.value,)].inc()
        return known

    def _as_delta(self) -> Delta:
        delta = self._delta
        if isinstance(delta, bytes):
            return Delta(delta=Blob(delta))
        assert delta is not None
        _, start, stop = delta
        state = whole(self._stored.state)  # which the delta is the end of
        return Delta(delta=state.slice(len(state) - (stop - start), len(state)))
