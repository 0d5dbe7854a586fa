"""The flatbuffers tables of contracts, both ways.

Enters: messages or tables. Leaves: the other. Next: `flatbuffers_delegates.py`.

Functions named `..._table` make what `flatbuffers_writer` writes; `read_...` take a table of
`flatbuffers_reader` and raise `DecodeError` (the peer's fault) when it breaks the schema.
"""

from __future__ import annotations

from typing import Final

from simnode.protocol.blob import Blob
from simnode.protocol.codec.flatbuffers_reader import Table as Read
from simnode.protocol.codec.flatbuffers_reader import exactly, unknown_tag
from simnode.protocol.codec.flatbuffers_writer import Table
from simnode.protocol.errors import DecodeError, EncodeError
from simnode.protocol.keys import ID_BYTES, code_hash, contract_key
from simnode.protocol.messages.contracts import (
    ContractContainer,
    ContractKey,
    Delta,
    RelatedContracts,
    RelatedDelta,
    RelatedState,
    RelatedStateAndDelta,
    State,
    StateAndDelta,
    UpdateData,
)

UNKNOWN_CODE: Final = bytes(ID_BYTES)
"""The code hash of a key that came without one, which the format allows in responses."""

_CODE_NEEDED = (
    "ContractKey.code must be the 32-byte contract code hash; {}. An UPDATE cannot be addressed by "
    "instance id alone: build the key with both parts"
)

# ---- keys --------------------------------------------------------------------------------------


def instance_table(instance: bytes) -> Table:
    """ContractInstanceId."""
    return Table("o", instance)


def key_table(key: ContractKey) -> Table:
    """ContractKey."""
    return Table("oo", Table("o", key.instance), key.code)


def instance_key_table(instance: bytes) -> Table:
    """ContractKey of a GET or SUBSCRIBE, which know no code hash."""
    return Table("o-", Table("o", instance))


def read_instance(owner: Read, slot: int, name: str) -> bytes:
    """The 32 bytes of the ContractInstanceId in a slot of `owner`, called `name`."""
    return owner.table(slot, name).fixed(0, f"{name}.data", ID_BYTES)


def read_key(owner: Read, slot: int, name: str) -> ContractKey:
    """The ContractKey of a response; without a code hash it gets `UNKNOWN_CODE`."""
    key = owner.table(slot, name)
    code = key.optional_blob(1, "ContractKey.code")
    return ContractKey(
        read_instance(key, 0, "ContractKey.instance"),
        exactly(code, "ContractKey.code", ID_BYTES) if code is not None and len(code) else UNKNOWN_CODE,
    )


def read_full_key(owner: Read, slot: int, name: str) -> ContractKey:
    """The ContractKey of an UPDATE, which needs the code hash."""
    key = owner.table(slot, name)
    instance = read_instance(key, 0, "ContractKey.instance")
    code = key.optional_blob(1, "ContractKey.code")
    if code is None:
        raise DecodeError(_CODE_NEEDED.format("the field was absent"))
    if len(code) != ID_BYTES:
        raise DecodeError(_CODE_NEEDED.format(f"got {len(code)} bytes"))
    return ContractKey(instance, bytes(code))


def read_instance_key(owner: Read, slot: int, name: str) -> bytes:
    """The instance id of a GET's or SUBSCRIBE's ContractKey, whose code hash is ignored."""
    key = owner.table(slot, name)
    key.optional_blob(1, "ContractKey.code")
    return read_instance(key, 0, "ContractKey.instance")


# ---- containers --------------------------------------------------------------------------------


def container_table(container: ContractContainer) -> Table:
    """ContractContainer."""
    code = Table("oo", container.data, container.code_hash)
    return Table("bo", 1, Table("ooo", code, container.params, key_table(container.key)))


def read_container(container: Read) -> ContractContainer:
    """The contract, with its key computed: an embedded key and hash must be there, but nobody trusts them."""
    tag, contract = container.union(0, "ContractContainer.contract")
    if tag != 1:
        raise unknown_tag("ContractType", tag)
    code = contract.table(0, "WasmContractV1.data")
    data = code.blob(0, "ContractCode.data")
    code.blob(1, "ContractCode.code_hash")
    params = contract.blob(1, "WasmContractV1.parameters")
    embedded = contract.table(2, "WasmContractV1.key")
    embedded.table(0, "ContractKey.instance").blob(0, "ContractKey.instance.data")
    embedded.optional_blob(1, "ContractKey.code")
    hashed = code_hash(data)
    return ContractContainer(data=data, code_hash=hashed, params=params, key=contract_key(hashed, params))


# ---- related contracts -------------------------------------------------------------------------


def related_table(related: RelatedContracts) -> Table:
    """RelatedContracts.

    Raises:
        EncodeError: a related contract has no state, which the schema requires.
    """
    contracts = []
    for instance, state in related:
        if state is None:
            raise EncodeError("flatbuffers cannot express a related contract without its state")
        contracts.append(Table("oo", instance_table(instance), state))
    return Table("o", contracts)


def read_related(owner: Read, slot: int, name: str) -> RelatedContracts:
    """RelatedContracts; of equal ids the last wins."""
    states: dict[bytes, Blob | None] = {
        read_instance(contract, 0, "RelatedContract.instance_id"): contract.blob(1, "RelatedContract.state")
        for contract in owner.table(slot, name).required_tables(0, "RelatedContracts.contracts")
    }
    return tuple(states.items())


# ---- updates -----------------------------------------------------------------------------------


def update_table(update: UpdateData) -> Table:
    """UpdateData."""
    match update:
        case State():
            return Table("bo", 1, Table("o", update.state))
        case Delta():
            return Table("bo", 2, Table("o", update.delta))
        case StateAndDelta():
            return Table("bo", 3, Table("oo", update.state, update.delta))
        case RelatedState():
            return Table("bo", 4, Table("oo", instance_table(update.related_to), update.state))
        case RelatedDelta():
            return Table("bo", 5, Table("oo", instance_table(update.related_to), update.delta))
        case _:  # RelatedStateAndDelta
            return Table("bo", 6, Table("ooo", instance_table(update.related_to), update.state, update.delta))


def read_update(owner: Read, slot: int, name: str) -> UpdateData:
    """UpdateData."""
    tag, update = owner.table(slot, name).union(0, "UpdateData.update_data")
    match tag:
        case 1:
            return State(state=update.blob(0, "StateUpdate.state"))
        case 2:
            return Delta(delta=update.blob(0, "DeltaUpdate.delta"))
        case 3:
            return StateAndDelta(
                state=update.blob(0, "StateAndDeltaUpdate.state"),
                delta=update.blob(1, "StateAndDeltaUpdate.delta"),
            )
        case 4:
            return RelatedState(
                related_to=read_instance(update, 0, "RelatedStateUpdate.related_to"),
                state=update.blob(1, "RelatedStateUpdate.state"),
            )
        case 5:
            return RelatedDelta(
                related_to=read_instance(update, 0, "RelatedDeltaUpdate.related_to"),
                delta=update.blob(1, "RelatedDeltaUpdate.delta"),
            )
        case 6:
            return RelatedStateAndDelta(
                related_to=read_instance(update, 0, "RelatedStateAndDeltaUpdate.related_to"),
                state=update.blob(1, "RelatedStateAndDeltaUpdate.state"),
                delta=update.blob(2, "RelatedStateAndDeltaUpdate.delta"),
            )
        case _:
            raise unknown_tag("UpdateDataType", tag)
