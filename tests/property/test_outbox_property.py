"""Any traffic through an outbox: nobody overtakes in a lane, nothing is lost, nothing comes twice."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from simnode.protocol.blob import Rope
from simnode.protocol.limits import CHUNK_SIZE, MAX_CHUNKS_PER_BATCH
from simnode.protocol.outbox import Outbox, Parcel, Ticket, TicketState

KEYS = st.sampled_from([("key", "a"), ("key", "b"), ("key", "c")])
KINDS = st.sampled_from([("kind", "get"), ("kind", "put")])
LANES = st.one_of(st.just(()), st.tuples(KEYS), st.tuples(KEYS, KINDS))


class OutboxMachine(RuleBasedStateMachine):
    """The model is one list of places by number, in the order in which they may leave their lanes."""

    tickets = Bundle("tickets")

    def __init__(self) -> None:
        super().__init__()
        self.outbox = Outbox()
        self.numbers = 0
        #: by lane, the numbers in it in the order of their turns
        self.lines: dict[object, list[int]] = {}
        #: by number, the lanes of everything not sent whole
        self.lanes: dict[int, tuple[object, ...]] = {}
        #: by number, the names of the messages still to come of everything filled
        self.due: dict[int, list[str]] = {}
        self.under_way: set[int] = set()
        self.whole: set[int] = set()
        self.unheaded: set[int] = set()
        self.whole_in_a_row = 0

    def parcel(self, number: int, chunks: int, headed: bool) -> Parcel:
        names = [f"{number} {index}" for index in range(max(1, chunks))]
        self.due[number] = [f"{number} header", *names] if headed and chunks else list(names)
        if not chunks:
            self.whole.add(number)
        elif not headed:
            self.unheaded.add(number)
        return Parcel(
            messages=iter([Rope([name.encode()]) for name in names]),
            due_bytes=chunks * CHUNK_SIZE if chunks else 1,
            held_bytes=number % 3,
            is_stream=bool(chunks),
            header=Rope([f"{number} header".encode()]) if headed and chunks else None,
            is_headed=headed and bool(chunks),
            token=number,
        )

    def join(self, lanes: tuple[object, ...]) -> int:
        self.numbers += 1
        self.lanes[self.numbers] = lanes
        return self.numbers

    def leave(self, number: int) -> None:
        for lane in self.lanes.pop(number):
            self.lines[lane].remove(number)

    @rule(target=tickets, lanes=LANES)
    def open(self, lanes):
        number = self.join(lanes)
        for lane in lanes:
            self.lines.setdefault(lane, []).append(number)
        return number, self.outbox.open(lanes)

    @rule(place=consumes(tickets), chunks=st.integers(0, 3), headed=st.booleans())
    def fill(self, place: tuple[int, Ticket], chunks, headed):
        number, ticket = place
        self.outbox.fill(ticket, self.parcel(number, chunks, headed))

    @rule(place=consumes(tickets))
    def withdraw(self, place: tuple[int, Ticket]):
        number, ticket = place
        self.outbox.withdraw(ticket)
        self.leave(number)
        assert ticket.state is TicketState.CLOSED

    @rule(lane=st.none() | KEYS, chunks=st.integers(0, 3), headed=st.booleans())
    def insert(self, lane, chunks, headed):
        number = self.join(() if lane is None else (lane,))
        if lane is not None:
            line = self.lines.setdefault(lane, [])
            unready = [at for at, other in enumerate(line) if other not in self.due]
            line.insert(unready[0] if unready else len(line), number)
        self.outbox.insert(lane, self.parcel(number, chunks, headed))

    @rule(count=st.integers(1, 12))
    def send(self, count):
        for _ in range(count):
            self.send_one()

    def send_one(self):
        turns = {number for number in self.due if all(self.lines[lane][0] == number for lane in self.lanes[number])}
        message = self.outbox.next_message()
        if message is None:
            assert not turns, "something has its turn and does not go out"
            return
        name = bytes(message.data).decode()
        number = int(name.split()[0])
        assert number in turns, "it overtook somebody in its lane"
        assert name == self.due[number].pop(0), "messages of a parcel go in order"
        if number in self.whole:
            self.whole_in_a_row += 1
        else:
            is_first = not turns & self.whole or self.whole_in_a_row >= MAX_CHUNKS_PER_BATCH
            assert is_first, "a chunk went before a whole message"
            self.whole_in_a_row = 0
            self.under_way.add(number)
        if number in self.unheaded:
            assert self.under_way == {number}, "a stream without a header has the streams to itself"
        assert len(self.under_way) <= 8
        assert message.token == (None if self.due[number] else number)
        if not self.due[number]:
            del self.due[number]
            self.under_way.discard(number)
            self.leave(number)

    @invariant()
    def the_accounts_are_right(self):
        self.outbox.check_invariants()
        assert self.outbox.held_bytes == sum(number % 3 for number in self.due)
        assert bool(self.outbox) == any(
            all(self.lines[lane][0] == number for lane in self.lanes[number]) for number in self.due
        )

    def teardown(self):
        assert sorted(self.outbox.close()) == sorted(self.due)
        self.outbox.check_invariants()


TestOutboxMachine = OutboxMachine.TestCase
TestOutboxMachine.settings = settings(max_examples=60, stateful_step_count=40)
