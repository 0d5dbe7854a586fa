"""A node in one process and one dict, for tests of the client: stock WebSocket server around our sans-I/O core.

It answers as `protocol.md` §6 says, and on request misbehaves: `on_request` may hold an answer
back, replace it or drop it, `lose_connections` cuts everybody off, `refuse_with` turns handshakes down.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Self
from urllib.parse import parse_qs, urlsplit

from blake3 import blake3
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from simnode.protocol import events
from simnode.protocol.blob import Blob, Rope
from simnode.protocol.codec import codec_for
from simnode.protocol.codec.base import Encoding
from simnode.protocol.connection import ServerConnection as Core
from simnode.protocol.limits import CHUNK_SIZE, CHUNK_THRESHOLD, MAX_MESSAGE_SIZE
from simnode.protocol.messages import contracts, error_kinds, requests, responses
from simnode.protocol.messages.requests import ClientRequest
from simnode.protocol.messages.responses import Err, HostResult
from simnode.protocol.reassembly import HeapSink

TOKEN_INVALID = "AUTH_TOKEN_INVALID: The auth token is no longer valid."

NO_REPLY = object()
"""What `on_request` returns to leave a request unanswered."""

Answer = HostResult | object | None


class Peer:
    """One connection of the node's."""

    def __init__(self, node: FakeNode, websocket: ServerConnection, codec_name: str, streaming: bool) -> None:
        self.node = node
        self.websocket = websocket
        self.core = Core(codec=codec_for(Encoding(codec_name)), streaming=streaming)
        self.due = asyncio.Event()

    async def serve(self) -> None:
        writer = asyncio.create_task(self.write())
        try:
            async for message in self.websocket:
                data = message.encode() if isinstance(message, str) else message
                self.core.receive_message(Blob(data), asyncio.get_running_loop().time())
                await self.take_events()
        finally:
            writer.cancel()

    async def take_events(self) -> None:
        while (event := self.core.next_event()) is not None:
            match event:
                case events.SinkRequested(stream_id=stream_id, nbytes=nbytes):
                    self.core.provide_sink(stream_id, HeapSink(nbytes), asyncio.get_running_loop().time())
                case events.RequestReceived(ticket=ticket, request=request):
                    await self.node.take_request(self, ticket, request)
        self.due.set()

    def answer(self, ticket: object, result: HostResult) -> None:
        self.core.send_response(ticket, result)
        self.due.set()

    async def write(self) -> None:
        try:
            while True:
                while (outgoing := self.core.next_message()) is not None:
                    await self.send(bytes(outgoing.data))
                self.due.clear()
                await self.due.wait()
        except ConnectionClosed:
            return

    async def send(self, data: bytes) -> None:
        if len(data) <= CHUNK_THRESHOLD:
            await self.websocket.send(data)
        else:  # as simnode does: one message in fragments
            await self.websocket.send(data[at : at + CHUNK_SIZE] for at in range(0, len(data), CHUNK_SIZE))

    def stop_reading(self) -> None:
        """For good: the library would read on as soon as it has room."""
        self.websocket.recv_messages.resume = lambda: None
        self.websocket.transport.pause_reading()

    async def refuse_token(self) -> None:
        self.core.send_unsolicited(Err(error_kinds.Unhandled(cause=TOKEN_INVALID)))
        while (outgoing := self.core.next_message()) is not None:
            await self.send(bytes(outgoing.data))
        await self.websocket.close(4401, "AUTH_TOKEN_INVALID")


class FakeNode:
    """`async with FakeNode() as node:`, then `node.url`."""

    def __init__(self, *, token: str | None = None) -> None:
        self.token = token
        self.states: dict[bytes, tuple[contracts.ContractContainer, bytes]] = {}
        self.subscribers: dict[bytes, list[tuple[Peer, bool]]] = {}
        self.peers: list[Peer] = []
        #: requests in the order they came
        self.requests: list[ClientRequest] = []
        #: query parameters of each handshake
        self.queries: list[dict[str, list[str]]] = []
        #: may answer in the node's place: a result, NO_REPLY, or None for the usual
        self.on_request: Callable[[Peer, object, ClientRequest], Answer] = lambda peer, ticket, request: None
        self.refuse_with: list[HTTPStatus] = []

    async def __aenter__(self) -> Self:
        self._server = await serve(
            self._serve,
            "127.0.0.1",
            0,
            compression=None,
            max_size=MAX_MESSAGE_SIZE,
            ping_interval=None,  # tests move the clock on
            process_request=self._check,
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.lose_connections()
        self._server.close()
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/v1/contract/command"

    def lose_connections(self) -> None:
        """Every client sees its TCP connection vanish."""
        for peer in self.peers:
            peer.websocket.transport.abort()

    def _check(self, websocket: ServerConnection, request: Request) -> Response | None:
        if self.refuse_with:
            return websocket.respond(self.refuse_with.pop(0), "not now\n")
        return None

    async def _serve(self, websocket: ServerConnection) -> None:
        assert websocket.request is not None
        query = parse_qs(urlsplit(websocket.request.path).query)
        self.queries.append(query)
        peer = Peer(self, websocket, query["encodingProtocol"][-1], query["streaming"][-1] == "true")
        if self.token is not None and websocket.request.headers.get("Authorization") != f"Bearer {self.token}":
            await peer.refuse_token()
            return
        self.peers.append(peer)
        try:
            await peer.serve()
        finally:
            self.peers.remove(peer)
            for instance, subscribers in self.subscribers.items():
                self.subscribers[instance] = [entry for entry in subscribers if entry[0] is not peer]

    async def take_request(self, peer: Peer, ticket: object, request: ClientRequest) -> None:
        self.requests.append(request)
        answer = self.on_request(peer, ticket, request)
        if answer is NO_REPLY:
            return
        if answer is None:
            answer = self.answer_to(peer, request)
        if answer is not None:
            peer.answer(ticket, answer)  # type: ignore[arg-type]
        elif isinstance(request, requests.Authenticate) and request.token != self.token:
            await peer.refuse_token()
        elif isinstance(request, requests.Disconnect | requests.Close):
            await peer.websocket.close(1000)
        else:
            peer.core.forget(ticket)

    def answer_to(self, peer: Peer, request: ClientRequest) -> HostResult | None:
        """What a node says; None for requests that get no answer."""
        match request:
            case requests.Put():
                return self._put(peer, request)
            case requests.Get(key=instance):
                if instance not in self.states:
                    return responses.NotFound(instance_id=instance)
                if request.subscribe:
                    self._subscribe(peer, instance, False)
                container, state = self.states[instance]
                contract = container if request.return_contract_code else None
                return responses.GetResponse(key=container.key, contract=contract, state=Blob(state))
            case requests.Subscribe(key=instance):
                if instance not in self.states:
                    return Err(error_kinds.MissingContract(key=instance))
                self._subscribe(peer, instance, request.summary is not None)
                return responses.SubscribeResponse(key=self.states[instance][0].key, subscribed=True)
            case requests.Update(key=key, data=data):
                if key.instance not in self.states:
                    return Err(error_kinds.UpdateError(key=key, cause="missing contract"))
                return self._update(key, data)
            case requests.RegisterDelegate(delegate=delegate):
                return responses.DelegateResponse(key=delegate.key, values=())
            case requests.UnregisterDelegate():
                return responses.Ok()
            case requests.ApplicationMessages(key=key, inbound=inbound):
                return responses.DelegateResponse(key=key, values=inbound)  # type: ignore[arg-type]
            case requests.QueryConnectedPeers():
                return responses.ConnectedPeers(peers=(("peer", "127.0.0.1:1"),))
            case requests.QuerySubscriptionInfo():
                return responses.NetworkDebug(subscriptions=(), connected_peers=())
            case requests.QueryNodeDiagnostics():
                return _diagnostics(request)
            case requests.QueryNeighborHostingInfo():
                stats = responses.HostingStats(
                    hosting_announces_sent=0,
                    hosting_announces_received=0,
                    updates_via_proximity=0,
                    updates_via_subscription=0,
                    false_positive_forwards=0,
                    avg_neighbor_hosting_size=0.0,
                )
                return responses.NeighborHosting(my_hosted=(), neighbor_hosting=(), stats=stats)
        return None

    def notify(self, key: contracts.ContractKey, update: contracts.UpdateData) -> None:
        """Tells every subscriber; those who gave no summary get the whole state."""
        _, state = self.states[key.instance]
        for peer, wants_deltas in self.subscribers.get(key.instance, []):
            as_delta = wants_deltas and isinstance(update, contracts.Delta)
            told = update if as_delta else contracts.State(state=Blob(state))
            peer.core.send_notification(responses.UpdateNotification(key=key, update=told))
            peer.due.set()

    def _put(self, peer: Peer, request: requests.Put) -> HostResult:
        key = request.contract.key
        self.states[key.instance] = (request.contract, bytes(request.state))
        if request.subscribe:
            self._subscribe(peer, key.instance, False)
        return responses.PutResponse(key=key)

    def _update(self, key: contracts.ContractKey, data: contracts.UpdateData) -> HostResult:
        container, state = self.states[key.instance]
        match data:
            case contracts.State(state=new):
                state = bytes(new)
            case contracts.Delta(delta=delta):
                state += bytes(delta)
            case contracts.StateAndDelta(state=new, delta=delta):
                state = bytes(new) + bytes(delta)
        self.states[key.instance] = (container, state)
        self.notify(key, data)
        return responses.UpdateResponse(key=key, summary=Blob(blake3(state).digest()))

    def _subscribe(self, peer: Peer, instance: bytes, wants_deltas: bool) -> None:
        others = [entry for entry in self.subscribers.get(instance, []) if entry[0] is not peer]
        self.subscribers[instance] = [*others, (peer, wants_deltas)]


class ChunkSender:
    """Sends a large GetResponse by hand, chunk by chunk, as a test wants it."""

    stream_id = 70

    def __init__(self, peer: Peer, response: responses.GetResponse) -> None:
        self.peer = peer
        self.key = response.key
        self.codec = peer.core.codec
        self.message = bytes(self.codec.encode_result(response))
        self.pieces = list(Rope([self.message]).cut(CHUNK_SIZE))
        self.total = len(self.pieces)
        #: what the header says, and which chunks follow it
        self.total_bytes = len(self.message)
        self.indices: Sequence[int] = range(self.total)
        self.sent = asyncio.Event()

    def start(self) -> object:
        """Sends the header and the chunks in the background; fit to be the result of `on_request`."""
        self.task = asyncio.create_task(self._send())
        return NO_REPLY

    async def _send(self) -> None:
        await self.send_header()
        for index in self.indices:
            await self.send_chunk(index)
        self.sent.set()

    async def send_header(self) -> None:
        content = responses.GetResponseContent(key=self.key, includes_contract=False)
        header = responses.StreamHeader(stream_id=self.stream_id, total_bytes=self.total_bytes, content=content)
        await self.peer.send(bytes(self.codec.encode_result(header)))

    async def send_chunk(self, index: int) -> None:
        chunk = self.codec.encode_result_chunk(
            stream_id=self.stream_id, index=index, total=self.total, data=self.pieces[index]
        )
        await self.peer.send(bytes(chunk))


def _diagnostics(request: requests.QueryNodeDiagnostics) -> responses.NodeDiagnostics:
    states = tuple(
        (key.instance.hex(), responses.ContractState(subscribers=0, subscriber_peer_ids=(), size_bytes=0))
        for key in request.contract_keys
    )
    return responses.NodeDiagnostics(
        node_info=None,
        network_info=None,
        subscriptions=(),
        contract_states=states,
        system_metrics=None,
        connected_peers_detailed=(),
    )


async def main() -> None:
    """Serves until standard input ends; prints the URL. For clients in a process of their own."""
    async with FakeNode() as node:
        print(node.url, flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
