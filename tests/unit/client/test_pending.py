"""Whose answer is it? Every rule of `pending.py`, and what it must not do."""

from __future__ import annotations

import pytest

from simnode.client.answers import expectation_of
from simnode.client.pending import TOMBSTONE_S, PendingRequest, PendingRequests
from simnode.protocol.blob import Blob
from simnode.protocol.messages import error_kinds as errors
from simnode.protocol.messages import requests, responses
from simnode.protocol.messages.contracts import ContractContainer, ContractKey, State
from simnode.protocol.messages.delegates import DelegateContainer, DelegateKey
from simnode.protocol.messages.requests import ClientRequest
from simnode.protocol.messages.responses import Err, HostResult

A, B = ContractKey(b"a" * 32, b"c" * 32), ContractKey(b"b" * 32, b"c" * 32)
D = DelegateKey(b"d" * 32, b"e" * 32)


class Pending(PendingRequests):
    """With a way to add a request in one line."""

    def asked(self, request: ClientRequest, *, sent: bool = True, chunked: bool = False) -> PendingRequest:
        expectation = expectation_of(request)
        assert expectation is not None
        pending = PendingRequest(
            expectation=expectation,
            destination=None,
            timeout_s=1.0,
            is_chunked=chunked,
            progressed_at=0.0,
            is_sent=sent,
        )
        self.add(pending)
        return pending


@pytest.fixture
def pending() -> Pending:
    return Pending(matches_by_kind=False)


def put(key: ContractKey, *, subscribe: bool = False) -> requests.Put:
    container = ContractContainer(data=Blob(b"code"), code_hash=key.code, params=Blob(), key=key)
    return requests.Put(contract=container, state=Blob(b"state"), subscribe=subscribe)


def get(key: ContractKey) -> requests.Get:
    return requests.Get(key=key.instance)


def update(key: ContractKey) -> requests.Update:
    return requests.Update(key=key, data=State(state=Blob()))


def subscribe(key: ContractKey) -> requests.Subscribe:
    return requests.Subscribe(key=key.instance)


def got(key: ContractKey) -> responses.GetResponse:
    return responses.GetResponse(key=key, contract=None, state=Blob())


REGISTER = requests.RegisterDelegate(
    delegate=DelegateContainer(params=Blob(), data=Blob(), code_hash=D.code_hash, key=D),
    cipher=bytes(32),
    nonce=bytes(24),
)
SEND = requests.ApplicationMessages(key=D, params=Blob(), inbound=())
UNREGISTER = requests.UnregisterDelegate(key=D)
STATS = responses.HostingStats(
    hosting_announces_sent=0,
    hosting_announces_received=0,
    updates_via_proximity=0,
    updates_via_subscription=0,
    false_positive_forwards=0,
    avg_neighbor_hosting_size=0.0,
)
DIAGNOSTICS = responses.NodeDiagnostics(
    node_info=None,
    network_info=None,
    subscriptions=(),
    contract_states=(),
    system_metrics=None,
    connected_peers_detailed=(),
)


@pytest.mark.parametrize(
    ("request_", "result"),
    [
        (put(A), responses.PutResponse(key=A)),
        (get(A), got(A)),
        (get(A), responses.NotFound(instance_id=A.instance)),
        (subscribe(A), responses.NotFound(instance_id=A.instance)),
        (update(A), responses.UpdateResponse(key=A, summary=Blob())),
        (subscribe(A), responses.SubscribeResponse(key=A, subscribed=True)),
        (REGISTER, responses.DelegateResponse(key=D, values=())),
        (SEND, responses.DelegateResponse(key=D, values=())),
        (UNREGISTER, responses.Ok()),
        (requests.QueryConnectedPeers(), responses.ConnectedPeers(peers=())),
        (requests.QuerySubscriptionInfo(), responses.NetworkDebug(subscriptions=(), connected_peers=())),
        (requests.QueryNodeDiagnostics(), DIAGNOSTICS),
        (
            requests.QueryNeighborHostingInfo(),
            responses.NeighborHosting(my_hosted=(), neighbor_hosting=(), stats=STATS),
        ),
        (get(A), Err(errors.GetError(key=A, cause=""))),
        (put(A), Err(errors.PutError(key=A, cause=""))),
        (update(A), Err(errors.UpdateError(key=A, cause=""))),
        (subscribe(A), Err(errors.SubscribeError(key=A, cause=""))),
        (put(A, subscribe=True), Err(errors.SubscribeError(key=A, cause=""))),
        (put(A), Err(errors.IncorrectState(key=A))),
        (subscribe(A), Err(errors.MissingContract(key=A.instance))),
        (put(A), Err(errors.MissingRelated(key=B.instance))),
        (update(A), Err(errors.ContractStackOverflow(key=A.instance))),
        (REGISTER, Err(errors.RegisterError(key=D))),
        (SEND, Err(errors.MissingDelegate(key=D))),
        (SEND, Err(errors.ExecutionError(cause=""))),
        (get(A), Err(errors.NodeUnavailable())),
        (SEND, Err(errors.Unhandled(cause="whatever"))),
    ],
)
def test_each_result_finds_its_request(pending: Pending, request_: ClientRequest, result: HostResult) -> None:
    expected = pending.asked(request_)
    assert pending.match(result, 0.0) is expected
    assert len(pending) == 0
    assert pending.match(result, 0.0) is None


@pytest.mark.parametrize(
    ("request_", "result"),
    [
        (get(A), got(B)),
        (get(A), responses.PutResponse(key=A)),
        (get(A), Err(errors.GetError(key=B, cause=""))),
        (put(A), Err(errors.SubscribeError(key=A, cause=""))),
        (get(A), responses.DelegateResponse(key=D, values=())),
        (get(A), responses.ConnectedPeers(peers=())),
        (get(A), Err(errors.ExecutionError(cause=""))),
        (subscribe(A), responses.UpdateNotification(key=A, update=State(state=Blob()))),
    ],
)
def test_a_result_about_something_else_finds_nobody(
    pending: Pending, request_: ClientRequest, result: HostResult
) -> None:
    pending.asked(request_)
    assert pending.match(result, 0.0) is None
    assert len(pending) == 1


@pytest.mark.parametrize(
    "request_",
    [requests.Disconnect(), requests.Close(), requests.Authenticate(token="t")],
    ids=lambda request_: type(request_).__name__,
)
def test_some_requests_get_no_answer(request_: ClientRequest) -> None:
    assert expectation_of(request_) is None


def test_replies_about_different_keys_may_overtake_each_other(pending: Pending) -> None:
    first, second = pending.asked(get(A)), pending.asked(get(B))
    assert pending.match(got(B), 0.0) is second
    assert pending.match(got(A), 0.0) is first


def test_replies_about_one_key_go_to_the_oldest_first(pending: Pending) -> None:
    first, second = pending.asked(get(A)), pending.asked(get(A))
    assert pending.match(got(A), 0.0) is first
    assert pending.match(responses.NotFound(instance_id=A.instance), 0.0) is second


def test_a_key_error_that_several_kinds_can_earn_goes_to_the_oldest(pending: Pending) -> None:
    put_, subscribe_ = pending.asked(put(A, subscribe=True)), pending.asked(subscribe(A))
    error = Err(errors.SubscribeError(key=A, cause="full"))
    assert pending.match(error, 0.0) is put_
    assert pending.match(error, 0.0) is subscribe_


def test_an_error_without_a_key_goes_to_the_oldest_request_that_was_sent_whole(pending: Pending) -> None:
    """A half-uploaded PUT cannot have caused it; the small GET that overtook the upload can."""
    upload = pending.asked(put(A), sent=False, chunked=True)
    small = pending.asked(get(B))
    assert pending.match(Err(errors.NodeUnavailable()), 0.0) is small
    assert pending.match(Err(errors.NodeUnavailable()), 0.0) is None
    upload.is_sent = True
    assert pending.match(Err(errors.NodeUnavailable()), 0.0) is upload


def test_an_error_about_a_chunk_goes_to_the_oldest_request_that_was_cut(pending: Pending) -> None:
    pending.asked(get(A))
    upload = pending.asked(put(B), sent=False, chunked=True)
    error = Err(errors.Unhandled(cause="stream reassembly error: too many concurrent streams (8), maximum is 8"))
    assert pending.match(error, 0.0) is upload
    assert pending.match(error, 0.0) is None


def test_a_late_answer_is_not_given_to_the_next_request(pending: Pending) -> None:
    late = pending.asked(get(A))
    pending.abandon(late, 0.0)
    fresh = pending.asked(get(A))
    assert pending.match(got(A), 1.0) is late
    assert late.is_abandoned
    assert pending.match(got(A), 1.0) is fresh


def test_a_late_error_without_a_key_is_not_given_to_the_next_request(pending: Pending) -> None:
    late = pending.asked(get(A))
    pending.abandon(late, 0.0)
    pending.asked(get(B))
    assert pending.match(Err(errors.NodeUnavailable()), 1.0) is late


def test_an_answer_that_never_comes_does_not_shift_the_matching_for_ever(pending: Pending) -> None:
    pending.abandon(pending.asked(get(A)), 0.0)
    fresh = pending.asked(get(A))
    assert pending.match(got(A), TOMBSTONE_S) is fresh
    assert len(pending) == 0


def test_abandoning_twice_or_after_the_answer_changes_nothing(pending: Pending) -> None:
    answered, twice = pending.asked(get(A)), pending.asked(get(B))
    pending.match(got(A), 0.0)
    pending.abandon(answered, 0.0)
    pending.abandon(twice, 0.0)
    pending.abandon(twice, 5.0)
    assert pending.match(got(A), 6.0) is None
    assert pending.match(got(B), 6.0) is twice


def test_a_header_finds_the_get_it_announces(pending: Pending) -> None:
    pending.asked(put(A))
    first, second = pending.asked(get(A)), pending.asked(get(A))
    assert pending.match_get(B.instance, 0.0) is None
    assert pending.match_get(A.instance, 0.0) is first
    assert pending.match(got(A), 0.0) is second


def test_an_unreadable_answer_is_blamed_like_an_error_without_a_key(pending: Pending) -> None:
    pending.asked(put(A), sent=False)
    sent = pending.asked(get(B))
    assert pending.match_broken(0.0) is sent
    assert pending.match_broken(0.0) is None


def test_on_flatbuffers_a_reply_with_a_strange_key_goes_to_the_oldest_of_its_kind() -> None:
    by_kind = Pending(matches_by_kind=True)
    by_kind.asked(put(A))
    first, second = by_kind.asked(get(A)), by_kind.asked(get(A))
    assert by_kind.match(got(B), 0.0) is first
    assert by_kind.match(got(A), 0.0) is second


def test_on_flatbuffers_the_references_put_response_answers_a_subscribe() -> None:
    """The reference sends SubscribeResponse as PutResponse: it must not resolve somebody's pending PUT."""
    by_kind = Pending(matches_by_kind=True)
    put_ = by_kind.asked(put(A))
    subscribe_ = by_kind.asked(subscribe(B))
    assert by_kind.match(responses.PutResponse(key=B), 0.0) is subscribe_
    assert by_kind.match(responses.PutResponse(key=A), 0.0) is put_


def test_clearing_returns_those_that_somebody_waits_for(pending: Pending) -> None:
    first, given_up, third = pending.asked(get(A)), pending.asked(get(A)), pending.asked(put(B))
    pending.abandon(given_up, 0.0)
    assert pending.clear() == [first, third]
    assert len(pending) == 0
    assert pending.match(got(A), 0.0) is None
