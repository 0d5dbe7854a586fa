"""What a client can ask a node about itself. Enters: questions. Leaves: answers. Next: `delegates.py`.

Flatbuffers has no such questions; there every method raises `CannotEncode`.
"""

from __future__ import annotations

from collections.abc import Iterable

from simnode.client.asking import Asker
from simnode.protocol.messages import requests, responses
from simnode.protocol.messages.contracts import ContractKey


class Node:
    """The node at the other end; `client.node`.

    ::

        diagnostics = await client.node.diagnostics(contracts=[key])
    """

    def __init__(self, asker: Asker) -> None:
        self._asker = asker

    async def connected_peers(self, *, timeout_s: float | None = None) -> responses.ConnectedPeers:
        """The peers that the node is connected to."""
        return await self._asker.ask(requests.QueryConnectedPeers(), responses.ConnectedPeers, timeout_s=timeout_s)

    async def subscriptions(self, *, timeout_s: float | None = None) -> responses.NetworkDebug:
        """Who is subscribed to what at the node."""
        return await self._asker.ask(requests.QuerySubscriptionInfo(), responses.NetworkDebug, timeout_s=timeout_s)

    async def diagnostics(
        self,
        *,
        contracts: Iterable[ContractKey] = (),
        details: bool = True,
        timeout_s: float | None = None,
    ) -> responses.NodeDiagnostics:
        """How the node is doing.

        Args:
            contracts: whose states are reported on; a node takes up to 1,024 in one question.
            details: everything that the protocol offers; False: only about `contracts`.
            timeout_s: seconds without progress; None: the client's.
        """
        query = requests.QueryNodeDiagnostics(
            include_node_info=details,
            include_network_info=details,
            include_subscriptions=details,
            contract_keys=tuple(contracts),
            include_system_metrics=details,
            include_detailed_peer_info=details,
            include_subscriber_peer_ids=details,
        )
        return await self._asker.ask(query, responses.NodeDiagnostics, timeout_s=timeout_s)

    async def neighbor_hosting(self, *, timeout_s: float | None = None) -> responses.NeighborHosting:
        """What the node and its neighbours host."""
        return await self._asker.ask(
            requests.QueryNeighborHostingInfo(), responses.NeighborHosting, timeout_s=timeout_s
        )
