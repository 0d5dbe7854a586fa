import pytest

from simnode.protocol.codec import schema
from simnode.protocol.codec.display import _TEXTS, display
from simnode.protocol.messages.contracts import ContractKey
from simnode.protocol.messages.error_kinds import SubscribeError
from simnode.protocol.messages.responses import Err
from tests.support.vectors import load_json, load_vectors

WORDINGS = load_json("messages.json")["meta"]["client_error_display"]
ERRORS = [vector for vector in load_vectors("native", "response") if isinstance(vector.message, Err)]


@pytest.mark.parametrize("vector", ERRORS, ids=str)
def test_an_error_is_worded_as_in_the_reference(vector):
    assert display(vector.message.kind) == WORDINGS[vector.name.removeprefix("Err.")]


def test_the_errors_without_a_golden_message_are_worded_like_the_others():
    key = ContractKey(bytes.fromhex(load_json("behaviour.json")["keys"][0]["instance_id"]), bytes(32))
    text = display(SubscribeError(key=key, cause="limit"))
    assert text == WORDINGS["RequestError.ContractError.Subscribe"]


def test_every_error_has_a_wording():
    (err,) = [record for path, record in schema.HOST_RESULT.leaves() if path == ("Err",)]
    (_, kinds) = err.fields[0]
    assert {record.cls for _, record in kinds.leaves()} == set(_TEXTS)


def test_braces_in_a_cause_are_left_alone():
    assert display(SubscribeError(key=ContractKey(bytes(32), bytes(32)), cause="{key} {}")).endswith("{key} {}")
