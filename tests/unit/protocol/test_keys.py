import pytest

from simnode.protocol.blob import Blob
from simnode.protocol.keys import (
    InvalidIdText,
    code_hash,
    contract_key,
    decode_instance_id,
    delegate_key,
    encode_base58,
)
from tests.support.vectors import counting_bytes, load_json

BEHAVIOUR = load_json("behaviour.json")


@pytest.mark.parametrize("vector", BEHAVIOUR["keys"], ids=lambda vector: vector["name"])
@pytest.mark.parametrize("buffer", [bytes, bytearray, memoryview, Blob], ids=lambda buffer: buffer.__name__)
def test_keys_follow_from_code_and_parameters_as_in_the_reference(vector, buffer):
    counted = vector["code"].startswith("byte i")
    code = counting_bytes(vector["code_len"]) if counted else bytes.fromhex(vector["code"])
    hashed = code_hash(buffer(code))
    assert hashed.hex() == vector["code_hash"]
    key = contract_key(hashed, buffer(bytes.fromhex(vector["params"])))
    assert key.instance.hex() == vector["instance_id"]
    assert key.code == hashed
    assert encode_base58(key.instance) == vector["instance_id_base58"]
    of_delegate = delegate_key(hashed, buffer(bytes.fromhex(vector["params"])))
    assert of_delegate.key.hex() == vector["delegate_key"]
    assert of_delegate.code_hash == hashed


@pytest.mark.parametrize("vector", BEHAVIOUR["base58"], ids=lambda vector: vector["base58"])
def test_ids_have_the_references_text_and_come_back_from_it(vector):
    identifier = bytes.fromhex(vector["hex"])
    assert encode_base58(identifier) == vector["base58"]
    assert decode_instance_id(vector["base58"]) == identifier


@pytest.mark.parametrize("vector", BEHAVIOUR["base58_parse"], ids=lambda vector: vector["text"] or "empty")
def test_any_text_is_parsed_or_refused_as_the_reference_does(vector):
    if "error" in vector:
        with pytest.raises(InvalidIdText) as refused:
            decode_instance_id(vector["text"])
        assert str(refused.value) == vector["error"]
    else:
        assert decode_instance_id(vector["text"]).hex() == vector["hex"]


@pytest.mark.parametrize("text", ["1" * 33, "z" * 44, "z" * 45, "z" * 1_000_000], ids=len)
def test_more_than_32_bytes_are_refused_however_long_the_text(text):
    with pytest.raises(InvalidIdText, match="too small"):
        decode_instance_id(text)


@pytest.mark.parametrize(("text", "at"), [("zz ", 2), ("zé", 1), ("z\n", 1), ("zIz", 1)])
def test_a_character_outside_the_alphabet_is_refused_even_where_the_library_would_strip_it(text, at):
    with pytest.raises(InvalidIdText, match=f"at byte {at}$"):
        decode_instance_id(text)
