"""The encodings of the wire, one codec each. Enters: an `Encoding`. Leaves: its `Codec`. Next: `base.py`."""

from __future__ import annotations

from typing import Final

from simnode.protocol.codec.base import Codec, Encoding
from simnode.protocol.codec.flatbuffers import FlatbuffersCodec
from simnode.protocol.codec.msgpack import MsgpackCodec
from simnode.protocol.codec.native import NativeCodec

_CODECS: Final[dict[Encoding, Codec]] = {
    Encoding.NATIVE: NativeCodec(),
    Encoding.FLATBUFFERS: FlatbuffersCodec(),
    Encoding.MSGPACK: MsgpackCodec(),
}


def codec_for(encoding: Encoding) -> Codec:
    """The codec of `encoding`; codecs are stateless, so all connections share it."""
    return _CODECS[encoding]
