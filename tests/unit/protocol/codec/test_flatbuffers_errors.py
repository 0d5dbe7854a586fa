from dataclasses import replace

import pytest
from flatbuffers import Builder

from simnode.protocol.blob import Blob
from simnode.protocol.codec import codec_for
from simnode.protocol.codec.base import Encoding
from simnode.protocol.codec.flatbuffers_contracts import UNKNOWN_CODE
from simnode.protocol.codec.flatbuffers_reader import read_root
from simnode.protocol.messages import error_kinds, responses
from simnode.protocol.messages.contracts import ContractKey
from simnode.protocol.messages.delegates import DelegateKey
from tests.support.vectors import load_json, load_vectors

FLATBUFFERS = codec_for(Encoding.FLATBUFFERS)
ERRORS = [vector for vector in load_vectors("flatbuffers", "response") if isinstance(vector.message, responses.Err)]
DISPLAYED = load_json("messages.json")["meta"]["client_error_display"]
OK, ERROR = 4, 5
"""Tags of the union HostResponseType."""


def without_code(kind: error_kinds.ErrorKind) -> error_kinds.ErrorKind:
    """What is left of `kind` when all that is known is its text."""
    match kind:
        case error_kinds.MissingSecret() | error_kinds.ForbiddenSecretAccess() | error_kinds.UnknownClient():
            (text,) = (text for name, text in DISPLAYED.items() if name.endswith(type(kind).__name__))
            return error_kinds.Unhandled(cause=text.removeprefix("client error: "))
        case error_kinds.FailedOperation():
            return error_kinds.Timeout()
    key = getattr(kind, "key", None)
    if isinstance(key, ContractKey):
        return replace(kind, key=replace(key, code=UNKNOWN_CODE))
    if isinstance(key, DelegateKey):
        return replace(kind, key=replace(key, code_hash=UNKNOWN_CODE))
    return kind


@pytest.mark.parametrize("vector", ERRORS, ids=str)
def test_a_client_error_is_sent_as_an_error_and_understood_under_the_tag_of_ok_too(vector):
    kind = vector.message.kind
    understood = responses.Err(without_code(kind))
    assert FLATBUFFERS.decode_result(Blob(vector.bytes)) == understood
    message = Blob(bytes(FLATBUFFERS.encode_result(vector.message)))
    tag, error = read_root(message, "HostResponse").union(0, "response")
    assert tag == ERROR
    if isinstance(kind, error_kinds.DeserializationError):
        assert error.text(0, "msg") == "Failed decoding message from client request: bad bytes"
    else:
        assert error.text(0, "msg") == vector.raw["fbs"]["ok_msg"]
    assert FLATBUFFERS.decode_result(message) == understood


@pytest.mark.parametrize(
    "text",
    [
        "contract not found",
        "client error: contract not found",
        "client error: missing contract: " + "z" * 44,
        "client error: missing contract: 0OIl" + "1" * 40,
        "client error: missing contract: 1",
    ],
    ids=["foreign", "unknown-kind", "id-of-33-bytes", "id-not-base58", "id-too-short"],
)
def test_an_error_of_unknown_wording_is_unhandled_with_the_text_as_its_cause(text):
    cause = text.removeprefix("client error: ")
    assert FLATBUFFERS.decode_result(text_message(ERROR, text)) == responses.Err(error_kinds.Unhandled(cause=cause))


def test_an_ok_of_other_words_is_ok():
    assert FLATBUFFERS.decode_result(text_message(OK, "fine")) == responses.Ok()


def text_message(tag: int, text: str) -> Blob:
    """An Ok or Error, made by the stock builder."""
    builder = Builder(256)
    msg = builder.CreateString(text)
    builder.StartObject(1)
    builder.PrependUOffsetTRelativeSlot(0, msg, 0)
    response = builder.EndObject()
    builder.StartObject(2)
    builder.PrependUint8Slot(0, tag, 0)
    builder.PrependUOffsetTRelativeSlot(1, response, 0)
    builder.Finish(builder.EndObject())
    return Blob(bytes(builder.Output()))
