"""The account of all memory that peers make a node hold. Enters: bytes held. Leaves: whom to slow down, or end.

An entry says who holds (a connection, and its remote address), what kind of memory, how many bytes,
since when, and how much of it has moved. Admission, back-pressure, relief, metrics and reports read
the same entries, so memory that is held for a peer and stands in no entry is a bug.

Each process that serves peers has a `Ledger`; it works on a grant from the node's budget
(`grants.py`), so that a small operation asks no other process. Next: `grants.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

KIB = 1024
MIB = 1024 * KIB

REQUEST_OVERHEAD_BYTES: Final = 1 * KIB
"""What a request that waits costs in the heap besides its message: its record, its ticket, its place in line."""


class Kind(StrEnum):
    """What is held. The values are the label `kind` of `simnode_held_bytes`."""

    LEASE = "lease"
    """Segments leased for incomplete streams and large frames."""
    STORING = "storing"
    """Segments of whole messages whose requests are under way."""
    MESSAGE = "message"
    """A message in progress that lies in the heap."""
    REQUEST = "request"
    """Requests that wait: for another of their contract, for the store, or until answers have left."""
    ANSWER = "answer"
    """Answers and notifications due to the peer that lie in the heap. A shared one counts for each peer."""
    VERSION = "version"
    """Mapped states that answers due refer to. A shared one counts for each peer."""
    LINK = "link"
    """Bytes queued to another process of the node."""
    REPORT = "report"
    """Long answers to node queries, kept for those who ask the same."""


HEAP_KINDS: Final = (Kind.MESSAGE, Kind.REQUEST, Kind.ANSWER, Kind.LINK, Kind.REPORT)
"""What counts against a connection's share of the heap, and against the process's grant."""

ENDS_WITH_CONNECTION: Final = (Kind.MESSAGE, Kind.ANSWER, Kind.VERSION)
"""What waits for the peer alone. The others end by themselves: with their segment, or when the store has answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """How much one peer may make one process hold, and how fast it must move. Sizes in bytes, times in seconds.

    Attributes:
        connection_heap_bytes: `HEAP_KINDS` of one connection; above it nothing more is read from it.
        min_inbound_rate: bytes per second at which an unfinished message arrives, averaged over `rate_window_s`.
            The default is a chunk a minute, the slowest that a stream's time to live allows.
        min_outbound_rate: bytes per second at which a peer takes what is due to it.
        rate_window_s: over how long a rate is judged; nothing younger is ended for being slow.
    """

    connection_heap_bytes: int = 4 * MIB
    min_inbound_rate: int = 4 * KIB
    min_outbound_rate: int = 64 * KIB
    rate_window_s: float = 60.0

    def min_rate(self, kind: Kind) -> int:
        """The minimum rate of a kind, in bytes per second; 0 where the peer cannot hurry it."""
        if kind in (Kind.LEASE, Kind.MESSAGE):
            return self.min_inbound_rate
        return self.min_outbound_rate if kind in (Kind.ANSWER, Kind.VERSION) else 0


class Holding:
    """One entry: bytes of one kind that are held for one connection. `Account.hold` makes and ends it."""

    __slots__ = (
        "_mark_at",
        "_mark_progress",
        "_start",
        "account",
        "key",
        "kind",
        "moved_at",
        "nbytes",
        "progress",
        "since",
    )

    def __init__(self, account: Account, kind: Kind, key: object, progress: int, now: float) -> None:
        self.account = account
        self.kind = kind
        #: tells holdings of one kind apart within an account: a segment's name, say
        self.key = key
        #: bytes that are held now
        self.nbytes = 0
        #: when the first of them came, in seconds
        self.since = now
        #: when bytes last moved
        self.moved_at = now
        #: the counter of bytes moved, as it was given last
        self.progress = self._start = self._mark_progress = progress
        self._mark_at = now

    def rate(self, now: float) -> float:
        """Bytes per second since it began; one younger than a second counts as a second old."""
        return (self.progress - self._start) / max(now - self.since, 1.0)

    def is_late(self, now: float, shares: Shares) -> bool:
        """Whether a whole window has passed in which it moved more slowly than the minimum rate.

        A window that is over begins anew, so call this once for each decision.
        """
        elapsed = now - self._mark_at
        if elapsed < shares.rate_window_s:
            return False
        moved = self.progress - self._mark_progress
        self._mark_at, self._mark_progress = now, self.progress
        return moved < shares.min_rate(self.kind) * elapsed


class Account:
    """What one connection holds.

    Args:
        ledger: of the process.
        holder: whose connection it is; the ledger's user finds it again by this.
        address: the peer's, as the share by address goes by; empty where there is none (a unix socket).
    """

    __slots__ = ("_holdings", "_is_closed", "_ledger", "address", "heap_bytes", "holder")

    def __init__(self, ledger: Ledger, holder: object, address: str) -> None:
        self._ledger = ledger
        self.holder = holder
        self.address = address
        self._holdings: dict[tuple[Kind, object], Holding] = {}
        self._is_closed = False
        #: always the sum over the holdings of `HEAP_KINDS`
        self.heap_bytes = 0

    def hold(self, kind: Kind, nbytes: int, now: float, *, key: object = None, progress: int = 0) -> None:
        """States that the connection holds `nbytes` of this kind now; 0 ends the entry.

        Args:
            kind: of the memory.
            nbytes: held now, not the difference to before.
            now: seconds on the caller's monotonic clock.
            key: tells entries of one kind apart: a segment's name, say.
            progress: a counter of the bytes that moved in or out; it never goes back.
        """
        holding = self._holdings.get((kind, key))
        if holding is None:
            if not nbytes:
                return
            holding = self._holdings[kind, key] = Holding(self, kind, key, progress, now)
        elif progress > holding.progress:
            holding.progress, holding.moved_at = progress, now
        change = nbytes - holding.nbytes
        if change:
            holding.nbytes = nbytes
            self._ledger.count(self, kind, change, now)
        if not nbytes:
            del self._holdings[kind, key]
            if self._is_closed and not self._holdings:
                self._ledger.forget(self)

    def moved(self, kind: Kind, progress: int, now: float, *, key: object = None) -> None:
        """States how far an entry has got, if it is there; the arguments are those of `hold`."""
        holding = self._holdings.get((kind, key))
        if holding is not None:
            self.hold(kind, holding.nbytes, now, key=key, progress=progress)

    def close(self, now: float) -> None:
        """The connection is gone: what waits for the peer ends; what is under way for it ends by itself."""
        self._is_closed = True
        for holding in list(self._holdings.values()):
            if holding.kind in ENDS_WITH_CONNECTION:
                self.hold(holding.kind, 0, now, key=holding.key)
        if not self._holdings:
            self._ledger.forget(self)

    def held(self, kind: Kind) -> int:
        """Bytes of one kind, over all keys."""
        return sum(holding.nbytes for holding in self._holdings.values() if holding.kind is kind)

    def holdings(self) -> Iterator[Holding]:
        """Its entries, the oldest first."""
        return iter(self._holdings.values())


class Ledger:
    """All accounts of one process.

    Args:
        shares: of each connection.
        changed: is called with each change: the kind, the difference in bytes, the time. For metrics.
    """

    def __init__(self, shares: Shares, changed: Callable[[Kind, int, float], None] | None = None) -> None:
        self._shares = shares
        self._changed = changed
        #: in the order in which they were opened
        self._accounts: dict[Account, None] = {}
        #: by kind, over all accounts
        self.held_bytes: dict[Kind, int] = dict.fromkeys(Kind, 0)
        #: always the sum of `held_bytes` over `HEAP_KINDS`
        self.heap_bytes = 0
        #: heap that one connection may hold now, in bytes; less than its share while the node is short of memory
        self.connection_share = shares.connection_heap_bytes

    def open(self, holder: object, address: str) -> Account:
        """A connection begins."""
        account = Account(self, holder, address)
        self._accounts[account] = None
        return account

    def forget(self, account: Account) -> None:
        """An account is closed and holds nothing; called by the account."""
        self._accounts.pop(account, None)

    def count(self, account: Account, kind: Kind, change: int, now: float) -> None:
        """An account's entry of this kind has changed by so many bytes; called by the account."""
        self.held_bytes[kind] += change
        if kind in HEAP_KINDS:
            self.heap_bytes += change
            account.heap_bytes += change
        if self._changed is not None:
            self._changed(kind, change, now)

    def share_out(self, granted_bytes: int) -> None:
        """Sets each connection's share, so that all together stay within what the node granted.

        While less is held than granted, a connection has its whole share. Beyond it, the grant is
        divided among those that hold something, so that no connection stops the others.

        Args:
            granted_bytes: of heap, to this process.
        """
        share = self._shares.connection_heap_bytes
        if self.heap_bytes > granted_bytes:
            holders = sum(1 for account in self._accounts if account.heap_bytes)
            share = min(share, granted_bytes // max(holders, 1))
        self.connection_share = share

    def slowest(self, now: float, *, kinds: tuple[Kind, ...], among: Container[object] | None = None) -> Holding | None:
        """The entry to end first when memory is short: the one that moved most slowly since it began.

        Args:
            now: seconds on the caller's monotonic clock.
            kinds: of what it is looked for.
            among: the holders whose entries count; None: all of them.
        """
        candidates = [
            holding
            for holding in self._entries()
            if holding.kind in kinds and (among is None or holding.account.holder in among)
        ]
        return min(candidates, key=lambda holding: holding.rate(now), default=None)

    def late(self, now: float) -> list[Holding]:
        """The entries that were slower than the minimum rate for a whole window; each is named once a window."""
        return [holding for holding in self._entries() if holding.is_late(now, self._shares)]

    def still_since(self, moved_before: float) -> list[Holding]:
        """The unfinished messages and frames of which nothing has come since then (seconds, as `now`)."""
        kinds = (Kind.LEASE, Kind.MESSAGE)
        return [holding for holding in self._entries() if holding.kind in kinds and holding.moved_at <= moved_before]

    def check_invariants(self) -> None:
        """Asserts what the attributes promise; for tests."""
        for kind in Kind:
            assert self.held_bytes[kind] == sum(account.held(kind) for account in self._accounts)
        assert self.heap_bytes == sum(self.held_bytes[kind] for kind in HEAP_KINDS)
        assert self.heap_bytes == sum(account.heap_bytes for account in self._accounts)
        assert all(holding.nbytes > 0 for holding in self._entries()), "an entry of nothing is no entry"

    def _entries(self) -> Iterator[Holding]:
        for account in self._accounts:
            yield from account.holdings()
