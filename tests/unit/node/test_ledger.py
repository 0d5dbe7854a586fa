import pytest

from simnode.node.ledger import HEAP_KINDS, KIB, MIB, Kind, Ledger, Shares


@pytest.fixture
def ledger():
    ledger = Ledger(Shares())
    yield ledger
    ledger.check_invariants()


def test_what_is_held_counts_by_kind_and_by_account(ledger):
    ours, theirs = ledger.open("127.0.0.1"), ledger.open("127.0.0.2")
    ours.hold(Kind.ANSWER, 100, 0.0)
    ours.hold(Kind.REQUEST, 10, 0.0)
    theirs.hold(Kind.ANSWER, 1, 0.0)
    assert ledger.held_bytes[Kind.ANSWER] == 101
    assert (ours.heap_bytes, theirs.heap_bytes, ledger.heap_bytes) == (110, 1, 111)
    assert ours.held(Kind.ANSWER) == 100
    assert ours.address == "127.0.0.1"


def test_a_figure_replaces_the_one_before(ledger):
    account = ledger.open("")
    account.hold(Kind.ANSWER, 100, 0.0)
    account.hold(Kind.ANSWER, 40, 1.0)
    assert ledger.held_bytes[Kind.ANSWER] == account.heap_bytes == 40


def test_nothing_held_is_no_entry(ledger):
    account = ledger.open("")
    account.hold(Kind.ANSWER, 0, 0.0)
    assert list(account.holdings()) == []
    account.hold(Kind.ANSWER, 5, 0.0)
    account.hold(Kind.ANSWER, 0, 1.0)
    assert list(account.holdings()) == []


def test_segments_do_not_count_as_heap(ledger):
    account = ledger.open("")
    account.hold(Kind.LEASE, 50 * MIB, 0.0, key=7)
    account.hold(Kind.VERSION, 50 * MIB, 0.0)
    assert account.heap_bytes == ledger.heap_bytes == 0
    assert {Kind.LEASE, Kind.VERSION}.isdisjoint(HEAP_KINDS)


def test_entries_of_one_kind_are_told_apart_by_their_key(ledger):
    account = ledger.open("")
    account.hold(Kind.LEASE, 10, 0.0, key=1)
    account.hold(Kind.LEASE, 20, 0.0, key=2)
    account.hold(Kind.LEASE, 0, 0.0, key=1)
    assert account.held(Kind.LEASE) == 20
    assert [holding.key for holding in account.holdings()] == [2]


def test_a_connection_that_ends_holds_nothing(ledger):
    account = ledger.open("")
    account.hold(Kind.MESSAGE, 10, 0.0)
    account.hold(Kind.LEASE, 20, 0.0, key=2)
    account.close()
    account.close()
    assert ledger.heap_bytes == account.heap_bytes == 0
    assert not any(ledger.held_bytes.values())


def test_a_connection_is_full_at_its_share():
    ledger = Ledger(Shares(connection_heap_bytes=100))
    account = ledger.open("")
    account.hold(Kind.REQUEST, 99, 0.0)
    assert not account.is_full
    account.hold(Kind.ANSWER, 1, 0.0)
    assert account.is_full


def test_a_short_grant_is_shared_among_those_that_hold_something():
    """Else the connections that came first would stop all others."""
    ledger = Ledger(Shares(connection_heap_bytes=100))
    greedy, modest, _idle = ledger.open(""), ledger.open(""), ledger.open("")
    greedy.hold(Kind.ANSWER, 90, 0.0)
    modest.hold(Kind.ANSWER, 10, 0.0)
    ledger.share_out(100)
    assert ledger.connection_share == 50
    assert greedy.is_full
    assert not modest.is_full
    ledger.share_out(101)
    assert ledger.connection_share == 100
    assert not greedy.is_full


def test_a_grant_of_nothing_stops_whoever_holds_something():
    ledger = Ledger(Shares(connection_heap_bytes=100))
    account = ledger.open("")
    ledger.share_out(0)
    assert account.is_full
    account.hold(Kind.ANSWER, 1, 0.0)
    ledger.share_out(0)
    assert account.is_full


def test_the_slowest_entry_is_the_one_that_moved_least_for_its_age(ledger):
    fast, slow = ledger.open(""), ledger.open("")
    fast.hold(Kind.LEASE, 10 * MIB, 0.0, key=1)
    fast.hold(Kind.LEASE, 10 * MIB, 10.0, key=1, moved=5 * MIB)
    slow.hold(Kind.LEASE, 10 * MIB, 0.0, key=1)
    slow.hold(Kind.LEASE, 10 * MIB, 10.0, key=1, moved=1)
    slow.hold(Kind.ANSWER, 1, 0.0)
    slowest = ledger.slowest(10.0)
    assert slowest is not None
    assert slowest.account is slow
    assert slowest.kind is Kind.LEASE
    assert slowest.since == 0.0


def test_what_just_began_is_not_slow_for_that(ledger):
    account = ledger.open("")
    account.hold(Kind.LEASE, 10, 5.0, key=1, moved=10)
    account.hold(Kind.LEASE, 10, 5.0, key=2, moved=20)
    assert [holding.rate(5.0) for holding in account.holdings()] == [10.0, 20.0]


def test_among_no_entries_none_is_slowest(ledger):
    assert ledger.slowest(0.0) is None


def test_a_reader_below_the_minimum_rate_is_late_after_a_window():
    """512 KiB every 19 s is 27 KiB/s: it would hold what is due to it for hours."""
    shares = Shares(min_outbound_rate=64 * KIB, rate_window_s=60.0)
    ledger = Ledger(shares)
    account = ledger.open("")
    for at in range(0, 58, 19):
        account.hold(Kind.VERSION, 40 * MIB, float(at), moved=512 * KIB)
        assert ledger.late(float(at)) == []
    (late,) = ledger.late(60.0)
    assert late.account is account
    assert ledger.late(61.0) == []


def test_each_window_is_judged_for_itself():
    ledger = Ledger(Shares(min_outbound_rate=1, rate_window_s=10.0))
    account = ledger.open("")
    account.hold(Kind.ANSWER, 100, 0.0, moved=1000)
    assert ledger.late(10.0) == []
    assert [holding.kind for holding in ledger.late(20.0)] == [Kind.ANSWER]


def test_uploads_may_be_slower_than_readers(ledger):
    """A stream may take a minute for each chunk."""
    account = ledger.open("")
    account.hold(Kind.LEASE, MIB, 0.0, key=1)
    account.hold(Kind.LEASE, MIB, 59.0, key=1, moved=256 * KIB)
    assert ledger.late(60.0) == []


def test_requests_that_wait_for_the_node_are_never_late(ledger):
    account = ledger.open("")
    account.hold(Kind.REQUEST, MIB, 0.0)
    assert ledger.late(1000.0) == []
