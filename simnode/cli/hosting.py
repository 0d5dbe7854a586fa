"""What a node hosts, as it tells over the wire. Enters: a client. Leaves: tables. Next: `simnode/client/queries.py`."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from blake3 import blake3

from simnode.cli.output import emit_json, format_size, print_facts, print_table
from simnode.client import CannotEncode, Client
from simnode.protocol.codec.source import MAX_ITEMS
from simnode.protocol.keys import decode_instance_id, encode_base58
from simnode.protocol.messages.contracts import ContractKey
from simnode.protocol.messages.responses import ContractState

UNKNOWN_CODE = bytes(32)
"""Stands for a code hash that nobody told us; simnode finds a contract by its instance id alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostedContract:
    """A line of `simnode ls`; None: the node does not say."""

    key: str
    bytes: int | None
    subscribers: int | None


async def list_contracts(client: Client, *, as_json: bool) -> None:
    """Prints what the node hosts, the largest first."""
    contracts = sorted(await _hosted(client), key=lambda contract: (-(contract.bytes or 0), contract.key))
    if as_json:
        emit_json([asdict(contract) for contract in contracts])
        return
    rows = [
        (
            contract.key,
            "?" if contract.bytes is None else format_size(contract.bytes),
            "?" if contract.subscribers is None else str(contract.subscribers),
        )
        for contract in contracts
    ]
    print_table(("KEY", "STATE", "SUBSCRIBERS"), rows)


async def _hosted(client: Client) -> list[HostedContract]:
    hosting = await client.node.neighbor_hosting()
    names = [hosted.contract_key for hosted in hosting.my_hosted]
    states: dict[str, ContractState] = {}
    for at in range(0, len(names), MAX_ITEMS):
        keys = [ContractKey(decode_instance_id(name), UNKNOWN_CODE) for name in names[at : at + MAX_ITEMS]]
        diagnostics = await client.node.diagnostics(contracts=keys, details=False)
        states.update(diagnostics.contract_states)
    return [
        HostedContract(key=name, bytes=state.size_bytes, subscribers=state.subscribers)
        if (state := states.get(name)) is not None
        else HostedContract(key=name, bytes=None, subscribers=None)
        for name in names
    ]


async def show_contract(client: Client, contract: bytes, *, as_json: bool) -> None:
    """Prints everything about one contract."""
    response = await client.get(contract, return_code=True)
    container = response.contract
    facts: dict[str, str | int | None] = {
        "key": encode_base58(response.key.instance),
        "code_hash": response.key.code.hex(),
        "code_bytes": None if container is None else len(container.data),
        "params": None if container is None else bytes(container.params).hex(),
        "state_bytes": len(response.state),
        "state_blake3": blake3(response.state.view).hexdigest(),
        "subscribers": await _subscribers(client, response.key),
    }
    if as_json:
        emit_json(facts)
    else:
        print_facts(facts)


async def _subscribers(client: Client, key: ContractKey) -> int | None:
    try:
        diagnostics = await client.node.diagnostics(contracts=[key], details=False)
    except CannotEncode:
        return None
    states = dict(diagnostics.contract_states)
    state = states.get(encode_base58(key.instance))
    return None if state is None else state.subscribers
