import pytest

from simnode.node.ledger import HEAP_KINDS, KIB, MIB, Kind, Ledger, Shares


@pytest.fixture
def ledger():
    ledger = Ledger(Shares())
    yield ledger
    ledger.check_invariants()


def test_what_is_held_counts_by_kind_and_by_account(ledger):
    ours, theirs = ledger.open("us", "127.0.0.1"), ledger.open("them", "127.0.0.2")
    ours.hold(Kind.ANSWER, 100, 0.0)
    ours.hold(Kind.REQUEST, 10, 0.0)
    theirs.hold(Kind.ANSWER, 1, 0.0)
    assert ledger.held_bytes[Kind.ANSWER] == 101
    assert (ours.heap_bytes, theirs.heap_bytes, ledger.heap_bytes) == (110, 1, 111)
    assert ours.held(Kind.ANSWER) == 100
    assert ours.address == "127.0.0.1"


def test_a_figure_replaces_the_one_before(ledger):
    account = ledger.open("peer", "")
    account.hold(Kind.ANSWER, 100, 0.0)
    account.hold(Kind.ANSWER, 40, 1.0)
    assert ledger.held_bytes[Kind.ANSWER] == account.heap_bytes == 40


def test_nothing_held_is_no_entry(ledger):
    account = ledger.open("peer", "")
    account.hold(Kind.ANSWER, 0, 0.0)
    assert list(account.holdings()) == []
    account.hold(Kind.ANSWER, 5, 0.0)
    account.hold(Kind.ANSWER, 0, 1.0)
    assert list(account.holdings()) == []


def test_segments_do_not_count_as_heap(ledger):
    account = ledger.open("peer", "")
    account.hold(Kind.LEASE, 50 * MIB, 0.0, key=7)
    account.hold(Kind.VERSION, 50 * MIB, 0.0)
    assert account.heap_bytes == ledger.heap_bytes == 0
    assert {Kind.LEASE, Kind.VERSION}.isdisjoint(HEAP_KINDS)


def test_entries_of_one_kind_are_told_apart_by_their_key(ledger):
    account = ledger.open("peer", "")
    account.hold(Kind.LEASE, 10, 0.0, key=1)
    account.hold(Kind.LEASE, 20, 0.0, key=2)
    account.hold(Kind.LEASE, 0, 0.0, key=1)
    assert account.held(Kind.LEASE) == 20
    assert [holding.key for holding in account.holdings()] == [2]


def test_a_connection_that_ends_holds_only_what_is_under_way(ledger):
    """Writes are carried out when their client is gone; what waited for the client ends with it."""
    account = ledger.open("peer", "")
    for kind in Kind:
        account.hold(kind, 10, 0.0)
    account.close(1.0)
    under_way = {Kind.LEASE, Kind.STORING, Kind.REQUEST, Kind.LINK, Kind.REPORT}
    assert {holding.kind for holding in account.holdings()} == under_way
    for kind in under_way:
        account.hold(kind, 0, 2.0)
    assert ledger.heap_bytes == account.heap_bytes == 0
    assert not any(ledger.held_bytes.values())
    assert ledger.slowest(3.0, kinds=tuple(Kind)) is None


def test_a_connection_that_ends_holding_nothing_is_forgotten(ledger):
    account = ledger.open("peer", "")
    account.close(0.0)
    account.close(0.0)
    account.hold(Kind.REQUEST, 0, 1.0)
    assert list(account.holdings()) == []


def test_each_change_is_reported():
    changes = []
    ledger = Ledger(Shares(), lambda *change: changes.append(change))
    account = ledger.open("peer", "")
    account.hold(Kind.ANSWER, 10, 1.0)
    account.hold(Kind.ANSWER, 10, 2.0)
    account.hold(Kind.ANSWER, 4, 3.0)
    account.close(4.0)
    assert changes == [(Kind.ANSWER, 10, 1.0), (Kind.ANSWER, -6, 3.0), (Kind.ANSWER, -4, 4.0)]


def test_a_short_grant_is_shared_among_those_that_hold_something():
    """Else the connections that came first would stop all others."""
    ledger = Ledger(Shares(connection_heap_bytes=100))
    ledger.share_out(0)
    assert ledger.connection_share == 100
    greedy, modest, _idle = (ledger.open("peer", "") for _ in range(3))
    greedy.hold(Kind.ANSWER, 90, 0.0)
    modest.hold(Kind.ANSWER, 11, 0.0)
    ledger.share_out(100)
    assert ledger.connection_share == 50
    ledger.share_out(101)
    assert ledger.connection_share == 100


def test_the_slowest_entry_is_the_one_that_moved_least_for_its_age(ledger):
    fast, slow = ledger.open("fast", ""), ledger.open("slow", "")
    fast.hold(Kind.LEASE, 10 * MIB, 0.0, key=1)
    fast.hold(Kind.LEASE, 10 * MIB, 10.0, key=1, progress=5 * MIB)
    slow.hold(Kind.LEASE, 10 * MIB, 0.0, key=1)
    slow.moved(Kind.LEASE, 1, 10.0, key=1)
    slow.hold(Kind.STORING, 1, 0.0)
    slowest = ledger.slowest(10.0, kinds=(Kind.LEASE, Kind.ANSWER))
    assert slowest is not None
    assert (slowest.account.holder, slowest.kind, slowest.key) == ("slow", Kind.LEASE, 1)
    assert (slowest.since, slowest.moved_at, slowest.nbytes) == (0.0, 10.0, 10 * MIB)
    among = ledger.slowest(10.0, kinds=(Kind.LEASE,), among=["fast"])
    assert among is not None
    assert among.account is fast
    assert ledger.slowest(10.0, kinds=(Kind.VERSION,)) is None


def test_what_is_not_there_makes_no_progress(ledger):
    account = ledger.open("peer", "")
    account.moved(Kind.LEASE, 1, 10.0, key=1)
    assert list(account.holdings()) == []


def test_progress_counts_from_when_the_entry_began(ledger):
    account = ledger.open("peer", "")
    account.hold(Kind.ANSWER, 10, 0.0, progress=1000)
    account.hold(Kind.ANSWER, 10, 2.0, progress=1010)
    (holding,) = account.holdings()
    assert holding.rate(2.0) == 5.0


def test_what_just_began_is_not_fast_for_that(ledger):
    account = ledger.open("peer", "")
    account.hold(Kind.LEASE, 10, 5.0, key=1)
    account.moved(Kind.LEASE, 10, 5.0, key=1)
    assert [holding.rate(5.0) for holding in account.holdings()] == [10.0]


def test_a_reader_below_the_minimum_rate_is_late_after_a_window():
    """512 KiB every 19 s is 27 KiB/s: it would hold what is due to it for hours."""
    ledger = Ledger(Shares(min_outbound_rate=64 * KIB, rate_window_s=60.0))
    account = ledger.open("peer", "")
    for number, at in enumerate(range(0, 58, 19)):
        account.hold(Kind.VERSION, 40 * MIB, float(at), progress=number * 512 * KIB)
        assert ledger.late(float(at)) == []
    (late,) = ledger.late(60.0)
    assert late.account is account
    assert ledger.late(61.0) == []


def test_each_window_is_judged_for_itself():
    ledger = Ledger(Shares(min_outbound_rate=1, rate_window_s=10.0))
    account = ledger.open("peer", "")
    account.hold(Kind.ANSWER, 100, 0.0)
    account.hold(Kind.ANSWER, 100, 1.0, progress=1000)
    assert ledger.late(10.0) == []
    assert [holding.kind for holding in ledger.late(20.0)] == [Kind.ANSWER]


def test_uploads_may_be_slower_than_readers(ledger):
    """A stream may take a minute for each chunk."""
    account = ledger.open("peer", "")
    account.hold(Kind.LEASE, MIB, 0.0, key=1)
    account.moved(Kind.LEASE, 256 * KIB, 59.0, key=1)
    assert ledger.late(60.0) == []


def test_requests_that_wait_for_the_node_are_never_late(ledger):
    account = ledger.open("peer", "")
    account.hold(Kind.REQUEST, MIB, 0.0)
    assert ledger.late(1000.0) == []


def test_an_unfinished_message_of_which_nothing_comes_stands_still(ledger):
    account = ledger.open("peer", "")
    account.hold(Kind.LEASE, MIB, 0.0, key=1)
    account.hold(Kind.MESSAGE, MIB, 0.0)
    account.hold(Kind.ANSWER, MIB, 0.0)
    account.moved(Kind.LEASE, 1, 5.0, key=1)
    assert [holding.kind for holding in ledger.still_since(4.0)] == [Kind.MESSAGE]
    assert [holding.kind for holding in ledger.still_since(5.0)] == [Kind.LEASE, Kind.MESSAGE]
