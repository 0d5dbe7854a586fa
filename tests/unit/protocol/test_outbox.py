import weakref

import pytest

from simnode.protocol.blob import Rope
from simnode.protocol.errors import LocalProtocolError
from simnode.protocol.limits import CHUNK_SIZE, MAX_CHUNKS_PER_BATCH, MAX_CONCURRENT_STREAMS
from simnode.protocol.outbox import Outbox, Parcel, Ticket, TicketState

A, B = ("key", "a"), ("key", "b")
GET, PUT = ("kind", "get"), ("kind", "put")


def whole(name: str, *, held_bytes: int = 0, token: object = None) -> Parcel:
    message = Rope([name.encode()])
    return Parcel(messages=iter((message,)), due_bytes=len(message), held_bytes=held_bytes, token=token)


def stream(
    name: str, chunks: int, *, headed: bool = True, last_nbytes: int = 1, held_bytes: int = 0, token: object = None
) -> Parcel:
    """A stream whose chunks say which they are; its lengths are only told, not there."""
    return Parcel(
        messages=(Rope([f"{name}{index}".encode()]) for index in range(chunks)),
        due_bytes=(chunks - 1) * CHUNK_SIZE + last_nbytes,
        held_bytes=held_bytes,
        is_stream=True,
        header=Rope([f"{name}:".encode()]) if headed else None,
        is_headed=headed,
        token=token,
    )


class WatchedRope(Rope):
    """A rope that can be referred to weakly."""


@pytest.fixture
def outbox():
    outbox = Outbox()
    yield outbox
    outbox.check_invariants()


def sent(outbox: Outbox, count: int | None = None) -> list[str]:
    """The next `count` messages, or all there are."""
    names: list[str] = []
    while count is None or len(names) < count:
        message = outbox.next_message()
        outbox.check_invariants()
        if message is None:
            break
        names.append(bytes(message.data).decode())
    return names


# ---- whole messages and streams ----------------------------------------------------------------


def test_an_empty_outbox_has_nothing_to_send(outbox):
    assert not outbox
    assert outbox.next_message() is None


def test_whole_messages_go_in_the_order_they_came(outbox):
    for name in "abc":
        outbox.insert(None, whole(name))
    assert outbox
    assert sent(outbox) == ["a", "b", "c"]
    assert not outbox


def test_a_whole_message_goes_before_the_chunks_of_an_earlier_stream(outbox):
    """A small response never waits behind a large one."""
    outbox.insert(None, stream("s", 3))
    assert sent(outbox, 2) == ["s:", "s0"]
    outbox.insert(None, whole("small"))
    assert sent(outbox) == ["small", "s1", "s2"]


def test_streams_take_turns_and_each_begins_with_its_header(outbox):
    outbox.insert(None, stream("a", 3))
    outbox.insert(None, stream("b", 2))
    assert sent(outbox) == ["a:", "b:", "a0", "b0", "a1", "b1", "a2"]


@pytest.mark.parametrize(("chunks", "headed"), [(3, True), (3, False), (1, False)])
def test_the_stamp_comes_with_the_first_message_and_chunks_say_that_they_are_chunks(outbox, chunks, headed):
    parcel = stream("s", chunks, headed=headed)
    parcel.stamp = "s"
    outbox.insert(None, parcel)
    messages = list(iter(outbox.next_message, None))
    assert [message.stamp for message in messages] == ["s"] + [None] * (len(messages) - 1)
    assert [message.is_chunk for message in messages] == [False] * headed + [True] * chunks


def test_messages_are_made_when_they_are_asked_for(outbox):
    made = []

    def messages():
        for index in range(2):
            made.append(index)
            yield Rope([b"x"])

    outbox.insert(None, Parcel(messages=messages(), due_bytes=CHUNK_SIZE + 1, is_stream=True))
    assert made == []
    sent(outbox, 1)
    assert made == [0]
    sent(outbox, 1)
    assert made == [0, 1]


def test_whole_messages_without_end_do_not_starve_a_stream(outbox):
    outbox.insert(None, stream("s", 2, headed=False))
    for _ in range(2 * MAX_CHUNKS_PER_BATCH + 1):
        outbox.insert(None, whole("."))
    burst = ["."] * MAX_CHUNKS_PER_BATCH
    assert sent(outbox) == [*burst, "s0", *burst, "s1", "."]


def test_a_stream_that_starts_after_many_whole_messages_has_its_turn_at_once(outbox):
    for _ in range(MAX_CHUNKS_PER_BATCH + 1):
        outbox.insert(None, whole("."))
    sent(outbox, MAX_CHUNKS_PER_BATCH + 1)
    outbox.insert(None, whole("x"))
    outbox.insert(None, stream("s", 1, headed=False))
    assert sent(outbox) == ["s0", "x"]


def test_at_most_eight_streams_are_under_way(outbox):
    """The reference client tears a ninth down."""
    for name in "abcdefghi":
        outbox.insert(None, stream(name, 2))
    first_round = sent(outbox, 2 * MAX_CONCURRENT_STREAMS)
    assert first_round == [f"{name}:" for name in "abcdefgh"] + [f"{name}0" for name in "abcdefgh"]
    assert sent(outbox) == ["a1", "b1", "c1", "d1", "e1", "f1", "g1", "h1", "i:", "i0", "i1"]


def test_streams_without_headers_go_one_at_a_time(outbox):
    """The reference client drops an unheaded stream 60 s after its first chunk."""
    outbox.insert(None, stream("a", 2, headed=False))
    outbox.insert(None, stream("b", 2, headed=False))
    assert sent(outbox) == ["a0", "a1", "b0", "b1"]


def test_a_stream_without_a_header_waits_for_the_streams_under_way_and_has_them_waiting_for_it(outbox):
    outbox.insert(None, stream("a", 2))
    outbox.insert(None, stream("b", 2, headed=False))
    outbox.insert(None, stream("c", 1))
    assert sent(outbox) == ["a:", "a0", "a1", "b0", "b1", "c:", "c0"]


def test_streams_are_counted_from_their_turn_to_their_last_chunk(outbox):
    first = outbox.open((A,))
    behind = outbox.open((A,))
    outbox.fill(behind, stream("b", 1))
    assert outbox.streams == 0
    outbox.fill(first, stream("a", 2, headed=False))
    outbox.insert(None, stream("c", 1, headed=False))
    outbox.insert(None, whole("w"))
    assert outbox.streams == 2
    assert sent(outbox, 2) == ["w", "a0"]
    assert outbox.streams == 2
    assert sent(outbox, 1) == ["a1"]
    assert outbox.streams == 2, "the one behind it has its turn"
    sent(outbox)
    assert outbox.streams == 0


def test_the_last_chunk_of_a_stream_says_so(outbox):
    outbox.insert(None, stream("s", 2))
    outbox.insert(None, whole("w"))
    ends = {bytes(message.data): message.ends_stream for message in iter(outbox.next_message, None)}
    assert ends == {b"w": False, b"s:": False, b"s0": False, b"s1": True}


# ---- lanes -------------------------------------------------------------------------------------


def test_replies_of_one_lane_go_in_the_order_of_their_requests(outbox):
    first, second, third = (outbox.open((A,)) for _ in range(3))
    outbox.fill(third, whole("3"))
    outbox.fill(second, whole("2"))
    assert not outbox
    assert sent(outbox) == []
    outbox.fill(first, whole("1"))
    assert sent(outbox) == ["1", "2", "3"]


def test_replies_of_different_lanes_may_overtake_each_other(outbox):
    slow, fast = outbox.open((A,)), outbox.open((B,))
    outbox.fill(fast, whole("fast"))
    assert sent(outbox) == ["fast"]
    outbox.fill(slow, whole("slow"))
    assert sent(outbox) == ["slow"]


def test_a_reply_without_a_lane_waits_for_nobody(outbox):
    outbox.open((A,))
    outbox.fill(outbox.open(()), whole("free"))
    assert sent(outbox) == ["free"]


def test_a_reply_waits_until_the_last_chunk_of_the_one_before_it_in_its_lane(outbox):
    large, small = outbox.open((A,)), outbox.open((A,))
    outbox.fill(small, whole("small"))
    outbox.fill(large, stream("L", 2))
    outbox.insert(B, whole("other"))
    assert sent(outbox) == ["other", "L:", "L0", "L1", "small"]


def test_a_reply_in_two_lanes_waits_for_its_turn_in_both(outbox):
    """Flatbuffers clients match replies by kind, so the kind is a lane too."""
    get_a, put_b, get_b = outbox.open((A, GET)), outbox.open((B, PUT)), outbox.open((B, GET))
    outbox.fill(get_b, whole("get b"))
    outbox.fill(put_b, whole("put b"))
    assert sent(outbox) == ["put b"]
    outbox.fill(get_a, whole("get a"))
    assert sent(outbox) == ["get a", "get b"]


def test_one_reply_may_free_the_heads_of_two_lanes(outbox):
    first, same_key, same_kind = outbox.open((A, GET)), outbox.open((A, PUT)), outbox.open((B, GET))
    outbox.fill(same_kind, whole("kind"))
    outbox.fill(same_key, whole("key"))
    outbox.fill(first, whole("first"))
    assert sent(outbox) == ["first", "key", "kind"]


def test_a_withdrawn_place_is_nobodys_turn(outbox):
    first, second, third = (outbox.open((A,)) for _ in range(3))
    outbox.fill(third, whole("3"))
    outbox.withdraw(second)
    assert sent(outbox) == []
    outbox.withdraw(first)
    assert sent(outbox) == ["3"]


def test_withdrawing_from_one_lane_leaves_a_queued_head_of_the_other_alone(outbox):
    """It must not be queued a second time."""
    head = outbox.open((A,))
    middle = outbox.open((A, GET))
    waiting = outbox.open((GET,))
    outbox.fill(head, whole("head"))
    outbox.fill(waiting, whole("waiting"))
    outbox.withdraw(middle)
    assert sent(outbox) == ["head", "waiting"]


# ---- notifications -----------------------------------------------------------------------------


def test_a_notification_goes_after_replies_that_are_ready_and_before_those_that_are_not(outbox):
    """It precedes the reply to the update that caused it."""
    ready, unready, blocked = (outbox.open((A,)) for _ in range(3))
    outbox.fill(ready, stream("r", 2))
    outbox.fill(blocked, whole("blocked"))
    outbox.insert(A, whole("note 1"))
    outbox.insert(A, whole("note 2"))
    assert sent(outbox) == ["r:", "r0", "r1", "note 1", "note 2"]
    outbox.fill(unready, whole("unready"))
    assert sent(outbox) == ["unready", "blocked"]


def test_a_notification_before_an_unready_reply_goes_at_once(outbox):
    unready = outbox.open((A,))
    outbox.insert(A, whole("note"))
    assert sent(outbox) == ["note"]
    outbox.fill(unready, whole("reply"))
    assert sent(outbox) == ["reply"]


def test_a_reply_that_becomes_ready_behind_a_notification_stays_behind_it(outbox):
    ready, unready = outbox.open((A,)), outbox.open((A,))
    outbox.fill(ready, stream("r", 2, headed=False))
    outbox.insert(A, whole("note 1"))
    outbox.fill(unready, whole("reply"))
    outbox.insert(A, whole("note 2"))
    assert sent(outbox) == ["r0", "r1", "note 1", "reply", "note 2"]


# ---- misuse ------------------------------------------------------------------------------------


def test_each_ticket_walks_through_its_states(outbox):
    first, second = outbox.open((A,)), outbox.open((A,))
    outbox.fill(second, whole("2"))
    assert (first.state, second.state) == (TicketState.OPEN, TicketState.FILLED)
    outbox.fill(first, whole("1"))
    assert (first.state, second.state) == (TicketState.QUEUED, TicketState.FILLED)
    sent(outbox, 1)
    assert (first.state, second.state) == (TicketState.CLOSED, TicketState.QUEUED)


def tickets_that_are_taken(outbox: Outbox) -> dict[TicketState, Ticket]:
    queued, filled, done = outbox.open((A,)), outbox.open((A,)), outbox.open((B,))
    outbox.fill(done, whole("done"))
    sent(outbox)
    outbox.fill(filled, whole("filled"))
    outbox.fill(queued, whole("queued"))
    return {ticket.state: ticket for ticket in (filled, queued, done)}


@pytest.mark.parametrize("state", [TicketState.FILLED, TicketState.QUEUED, TicketState.CLOSED])
def test_a_second_reply_for_one_request_is_the_callers_mistake_and_changes_nothing(outbox, state):
    ticket = tickets_that_are_taken(outbox)[state]
    with pytest.raises(LocalProtocolError, match=f"{state.value} got a reply"):
        outbox.fill(ticket, whole("again"))
    assert sent(outbox) == ["queued", "filled"]


@pytest.mark.parametrize("state", [TicketState.FILLED, TicketState.QUEUED, TicketState.CLOSED])
def test_withdrawing_a_reply_that_is_there_is_the_callers_mistake_and_changes_nothing(outbox, state):
    ticket = tickets_that_are_taken(outbox)[state]
    with pytest.raises(LocalProtocolError, match=f"{state.value} was withdrawn"):
        outbox.withdraw(ticket)
    assert sent(outbox) == ["queued", "filled"]


@pytest.mark.parametrize("lanes", [(), (A,), (A, GET)])
def test_a_withdrawn_ticket_takes_no_reply(outbox, lanes):
    ticket = outbox.open(lanes)
    outbox.withdraw(ticket)
    with pytest.raises(LocalProtocolError):
        outbox.fill(ticket, whole("late"))
    assert outbox.due_bytes == 0
    assert sent(outbox) == []


# ---- accounts ----------------------------------------------------------------------------------


def test_due_bytes_and_chunks_fall_as_messages_are_handed_out(outbox):
    outbox.insert(None, stream("s", 3, last_nbytes=10))
    outbox.insert(None, whole("12345"))
    steps = []
    while True:
        steps.append((outbox.due_bytes, outbox.due_chunks))
        if not sent(outbox, 1):
            break
    total = 2 * CHUNK_SIZE + 10
    assert steps == [
        (total + 5, 3),
        (total, 3),  # the whole message
        (total, 3),  # the header
        (total - CHUNK_SIZE, 2),
        (10, 1),
        (0, 0),
    ]


def test_a_reply_that_waits_for_its_turn_is_due_already(outbox):
    outbox.open((A,))
    second = outbox.open((A,))
    outbox.fill(second, whole("12345"))
    assert outbox.due_bytes == 5
    assert sent(outbox) == []


def test_held_bytes_are_given_back_with_the_last_message(outbox):
    outbox.insert(None, stream("s", 2, headed=False, held_bytes=1000))
    outbox.insert(None, whole("w", held_bytes=7))
    assert outbox.held_bytes == 1007
    assert [(name, outbox.held_bytes) for name in iter(lambda: "".join(sent(outbox, 1)), "")] == [
        ("w", 1000),
        ("s0", 1000),
        ("s1", 0),
    ]


def test_a_token_comes_back_with_the_last_message_only(outbox):
    outbox.insert(None, stream("s", 2, token="S"))
    outbox.insert(None, whole("w", token="W"))
    assert [message.token for message in iter(outbox.next_message, None)] == ["W", None, None, "S"]


def test_a_reply_that_is_out_is_held_by_nobody(outbox):
    """A ticket may outlive its reply; the mapped state that the reply was made of must not."""
    ticket = outbox.open((A,))
    message = WatchedRope([b"state"])
    gone = weakref.ref(message)
    outbox.fill(ticket, Parcel(messages=iter([message]), due_bytes=len(message)))
    del message
    outbox.next_message()
    assert gone() is None
    assert ticket.parcel is None


# ---- the end -----------------------------------------------------------------------------------


def test_closing_returns_the_tokens_of_everything_not_sent_whole_once(outbox):
    under_way, filled, not_filled = outbox.open((A,)), outbox.open((A,)), outbox.open((A, B))
    outbox.fill(under_way, stream("s", 3, token="under way", held_bytes=9))
    outbox.fill(filled, whole("f", token="waits for its turn"))
    outbox.insert(None, whole("sent", token="sent"))
    for name in "abcdefgh":
        outbox.insert(None, stream(name, 2, token=name))
    outbox.insert(None, whole("no token"))
    assert sent(outbox, 4) == ["sent", "no token", "s:", "a:"]
    outbox.insert(None, whole("queued", token="queued"))
    assert sorted(map(str, outbox.close())) == sorted([*"abcdefgh", "queued", "under way", "waits for its turn"])
    assert outbox.close() == []
    assert (outbox.due_bytes, outbox.due_chunks, outbox.held_bytes) == (0, 0, 0)
    assert sent(outbox) == []
    assert not_filled.state is TicketState.CLOSED


@pytest.mark.parametrize("lanes", [(), (A,)])
def test_nothing_can_be_sent_after_closing_and_the_token_stays_the_callers(outbox, lanes):
    ticket = outbox.open(lanes)
    outbox.close()
    with pytest.raises(LocalProtocolError, match="connection that is lost"):
        outbox.fill(ticket, whole("late", token="T"))
    with pytest.raises(LocalProtocolError, match="connection that is lost"):
        outbox.insert(A, whole("late", token="T"))
    assert outbox.close() == []
    assert not outbox
