"""The public client of a node, asyncio first. Next: `connecting.py`."""

from simnode.client.addresses import KeyLike
from simnode.client.client import Client
from simnode.client.connecting import connect
from simnode.client.exceptions import (
    AuthenticationFailed,
    CannotEncode,
    ClientClosed,
    ClientError,
    ConnectionFailed,
    ConnectionLost,
    ContractFailed,
    DelegateFailed,
    HandshakeRefused,
    NodeUnavailable,
    NotFound,
    NotificationsDropped,
    ReplyBroken,
    RequestFailed,
    RequestTimeout,
    RequestUndecodable,
)
from simnode.client.inbox import Notification
from simnode.client.reconnecting import (
    Backoff,
    ConnectionEvent,
    GaveUp,
    Lost,
    Restored,
    Retrying,
    SubscriptionLost,
)
from simnode.client.streams import ResponseStream, StateStream
from simnode.client.sync import SyncClient, connect_sync

__all__ = [
    "AuthenticationFailed",
    "Backoff",
    "CannotEncode",
    "Client",
    "ClientClosed",
    "ClientError",
    "ConnectionEvent",
    "ConnectionFailed",
    "ConnectionLost",
    "ContractFailed",
    "DelegateFailed",
    "GaveUp",
    "HandshakeRefused",
    "KeyLike",
    "Lost",
    "NodeUnavailable",
    "NotFound",
    "Notification",
    "NotificationsDropped",
    "ReplyBroken",
    "RequestFailed",
    "RequestTimeout",
    "RequestUndecodable",
    "ResponseStream",
    "Restored",
    "Retrying",
    "StateStream",
    "SubscriptionLost",
    "SyncClient",
    "connect",
    "connect_sync",
]
