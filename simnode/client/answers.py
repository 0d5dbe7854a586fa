"""Which requests a result can answer. Enters: requests and results. Leaves: what to look for. Next: `pending.py`.

The wire has no request ids. A reply says what kind of request it answers and, mostly, which
contract or delegate it is about; that is all there is to go by.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, get_args

from simnode.protocol.blob import Blob
from simnode.protocol.keys import encode_base58
from simnode.protocol.messages import error_kinds as errors
from simnode.protocol.messages import requests, responses
from simnode.protocol.messages.contracts import ContractKey
from simnode.protocol.messages.error_kinds import ErrorKind
from simnode.protocol.messages.requests import ClientRequest
from simnode.protocol.messages.responses import HostResult

Kinds = tuple[type[ClientRequest], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What is remembered of a request until its answer: never its payload.

    Attributes:
        kind: the request's class.
        subject: the instance id or delegate key that its answer will name; None for node queries.
        subscribes: whether it asks for a subscription, alone or beside something else.
        summary: that a SUBSCRIBE gave.
    """

    kind: type[ClientRequest]
    subject: bytes | None
    subscribes: bool = False
    summary: Blob | None = None

    def __str__(self) -> str:
        return self.kind.__name__ + (f" of {encode_base58(self.subject)}" if self.subject is not None else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a result tells about the request it answers.

    Attributes:
        kinds: the request is of one of these classes; empty if it can be of any.
        subject: which contract or delegate; None if the result does not say.
        is_certain: whether the request surely is about `subject`. A missing *related* contract,
            say, is not the one that was asked for.
        includes_subscribers: whether a PUT or GET with `subscribe` set may have caused it as well.
    """

    kinds: Kinds
    subject: bytes | None = None
    is_certain: bool = True
    includes_subscribers: bool = False

    def fits(self, expectation: Expectation) -> bool:
        """Whether a request of this kind can have caused it, whatever it is about."""
        if not self.kinds or expectation.kind in self.kinds:
            return True
        return self.includes_subscribers and expectation.subscribes


def expectation_of(request: ClientRequest) -> Expectation | None:
    """What to expect for a request; None for those that get no answer."""
    kind = type(request)
    match request:
        case requests.Put(contract=contract):
            return Expectation(kind=kind, subject=contract.key.instance, subscribes=request.subscribe)
        case requests.Update(key=key):
            return Expectation(kind=kind, subject=key.instance)
        case requests.Get(key=instance):
            return Expectation(kind=kind, subject=instance, subscribes=request.subscribe)
        case requests.Subscribe(key=instance, summary=summary):
            return Expectation(kind=kind, subject=instance, subscribes=True, summary=summary)
        case requests.RegisterDelegate(delegate=delegate):
            return Expectation(kind=kind, subject=delegate.key.key)
        case requests.UnregisterDelegate(key=delegate_key) | requests.ApplicationMessages(key=delegate_key):
            return Expectation(kind=kind, subject=delegate_key.key)
        case requests.Disconnect() | requests.Close() | requests.Authenticate() | requests.StreamChunk():
            return None
    return Expectation(kind=kind, subject=None)


def answer_in(result: HostResult) -> Answer | None:
    """What a result can answer; None for a notification, which answers nothing."""
    match result:
        case responses.Err(kind=error):
            return _answer_in_error(error)
        case responses.GetResponse(key=key):
            return Answer(kinds=(requests.Get,), subject=key.instance)
        case responses.NotFound(instance_id=instance):
            return Answer(kinds=(requests.Get, requests.Subscribe), subject=instance)
        case responses.PutResponse(key=key):
            return Answer(kinds=(requests.Put,), subject=key.instance)
        case responses.UpdateResponse(key=key):
            return Answer(kinds=(requests.Update,), subject=key.instance)
        case responses.SubscribeResponse(key=key):
            return Answer(kinds=(requests.Subscribe,), subject=key.instance)
        case responses.DelegateResponse(key=delegate_key):
            return Answer(kinds=_DELEGATE_OPS, subject=delegate_key.key)
        case responses.Ok():  # how the reference node confirms that a delegate was unregistered
            return Answer(kinds=_DELEGATE_OPS)
    kind = _QUERY_OF.get(type(result))
    return None if kind is None else Answer(kinds=(kind,))


def subscription_in(result: HostResult) -> ContractKey | None:
    """The contract to which `result` confirms a subscription, if the request it answers asked for one."""
    match result:
        case responses.SubscribeResponse(subscribed=False):
            return None
        case responses.SubscribeResponse(key=key) | responses.GetResponse(key=key) | responses.PutResponse(key=key):
            return key  # the reference's flatbuffers have PutResponse for SubscribeResponse
    return None


def is_about_a_stream(error: ErrorKind) -> bool:
    """Whether it was a chunk of a request that earned this error."""
    return isinstance(error, errors.Unhandled) and error.cause.startswith("stream reassembly error")


def is_about_the_token(error: ErrorKind) -> bool:
    """Whether the node says that it does not accept the connection's token."""
    return isinstance(error, errors.Unhandled) and error.cause.startswith("AUTH_TOKEN_INVALID")


_CONTRACT_OPS: Final[Kinds] = get_args(requests.ContractRequest)
_DELEGATE_OPS: Final[Kinds] = get_args(requests.DelegateRequest)
_WRITES: Final[Kinds] = (requests.Put, requests.Update)

_QUERY_OF: Final[dict[type[HostResult], type[ClientRequest]]] = {
    responses.ConnectedPeers: requests.QueryConnectedPeers,
    responses.NetworkDebug: requests.QuerySubscriptionInfo,
    responses.NodeDiagnostics: requests.QueryNodeDiagnostics,
    responses.NeighborHosting: requests.QueryNeighborHostingInfo,
}


def _answer_in_error(error: ErrorKind) -> Answer:
    match error:
        case errors.GetError(key=key):
            return Answer(kinds=(requests.Get,), subject=key.instance)
        case errors.PutError(key=key):
            return Answer(kinds=(requests.Put,), subject=key.instance)
        case errors.UpdateError(key=key):
            return Answer(kinds=(requests.Update,), subject=key.instance)
        case errors.SubscribeError(key=key):
            return Answer(kinds=(requests.Subscribe,), subject=key.instance, includes_subscribers=True)
        case errors.IncorrectState(key=key):
            return Answer(kinds=_WRITES, subject=key.instance)
        case errors.MissingContract(key=instance):
            return Answer(kinds=_CONTRACT_OPS, subject=instance)
        case errors.MissingRelated(key=instance) | errors.ContractStackOverflow(key=instance):
            return Answer(kinds=_CONTRACT_OPS, subject=instance, is_certain=False)
        case errors.RegisterError(key=delegate_key):
            return Answer(kinds=(requests.RegisterDelegate,), subject=delegate_key.key)
        case errors.MissingDelegate(key=delegate_key) | errors.MissingSecret(key=delegate_key):
            return Answer(kinds=_DELEGATE_OPS, subject=delegate_key.key)
        case errors.ExecutionError() | errors.ForbiddenSecretAccess():
            return Answer(kinds=_DELEGATE_OPS)
    return Answer(kinds=())
