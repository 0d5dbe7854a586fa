"""What a pool's segments are doing and how many bytes that takes. Touches no file. Next: `pool.py`.

Enters: entries and their changes. Leaves: sums by condition, and `PoolFigures`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import IntEnum

from simnode.storage.errors import UnknownSegment
from simnode.storage.names import SegmentName


class Condition(IntEnum):
    """What a segment is doing; an int, because every lease hashes several of these."""

    IN_FLIGHT = 0
    STORED = 1
    FREE = 2
    ORPHAN = 3


@dataclass(slots=True, eq=False, kw_only=True)
class Entry:
    """One segment. Only `Accounts` writes `name`, `condition`, `held_bytes` and `payload_bytes`."""

    name: SegmentName
    #: always `str(name)`, which each lease needs several times
    key: str = field(init=False)
    #: the file's length
    capacity: int
    condition: Condition
    #: pages that exist, in bytes: `capacity` less `holes`
    held_bytes: int
    owner: str | None = None
    #: the remote host whose message is in it, while it is in flight; empty: nobody's
    address: str = ""
    #: of `held_bytes`, what rows refer to
    payload_bytes: int = 0
    #: ranges to allocate again before anybody writes the segment
    holes: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.key = str(self.name)


@dataclass(frozen=True, slots=True)
class Lease:
    """A segment that one owner may write.

    Attributes:
        name: for `Segment.open(directory, name, writable=True)`.
        nbytes: its capacity, at least what was asked for; all of it is allocated.
    """

    name: str
    nbytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolFigures:
    """A pool at one moment; each `_bytes` that is no limit is memory (or disk) that segments occupy."""

    budget_bytes: int
    free_limit_bytes: int
    reserved_bytes: int
    """In flight: leased, and neither stored nor given back."""
    reserved_peak_bytes: int
    stored_bytes: int
    stored_peak_bytes: int
    payload_bytes: int
    """Of `stored_bytes`, what rows refer to; the rest is page rounding, gaps, and `untrimmed_bytes`."""
    untrimmed_bytes: int
    """Of `stored_bytes`, what `tidy` will give back, once nobody holds the segment."""
    free_bytes: int
    orphan_bytes: int
    """Found by `rebuild` and claimed by nobody yet."""
    lingering_bytes: int
    """In segments that lost their name while somebody held them."""
    leases: int
    stored_segments: int
    free_segments: int
    orphans: int
    created: int
    """Segments made, over the pool's life; so are the next three."""
    recycled: int
    unlinked: int
    refused: int
    """Leases and growths, for the budget or for space."""


class Accounts:
    """The table of segments by name, and its sums. Every change goes through a method, so that the sums are right."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        #: the same by what they are doing, and those that have an owner by that; a dict keeps their order
        self._doing: dict[Condition, dict[Entry, None]] = {condition: {} for condition in Condition}
        self._leased_to: dict[str, dict[Entry, None]] = {}
        #: sums over the entries, by condition
        self.held: Counter[Condition] = Counter()
        self.number: Counter[Condition] = Counter()
        #: the largest that `held` ever was
        self.peak: Counter[Condition] = Counter()
        self.payload_bytes = 0
        #: sums over the entries in flight, by remote address
        self.of_address: Counter[str] = Counter()

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def entry(self, name: str, *conditions: Condition) -> Entry:
        """The segment called `name`, in one of `conditions`.

        Raises:
            UnknownSegment: there is none, or it is doing something else.
        """
        entry = self._entries.get(name)
        if entry is None:
            raise UnknownSegment(f"no segment {name}")
        if entry.condition not in conditions:
            raise UnknownSegment(f"segment {name} is {entry.condition.name.lower()}")
        return entry

    def condition_of(self, name: str) -> Condition | None:
        """What the segment called `name` is doing; None if there is none."""
        entry = self._entries.get(name)
        return None if entry is None else entry.condition

    def names(self, condition: Condition) -> list[str]:
        """The segments that are doing this."""
        return [entry.key for entry in self._doing[condition]]

    def leased_to(self, owner: str) -> list[str]:
        """The segments in flight of one owner."""
        return [entry.key for entry in self._leased_to.get(owner, ())]

    def add(self, entry: Entry) -> None:
        """Take in a segment as it is."""
        self._entries[entry.key] = entry
        self._count(entry, +1)

    def drop(self, entry: Entry) -> None:
        """Forget a segment."""
        del self._entries[entry.key]
        self._count(entry, -1)

    def rename(self, entry: Entry, name: SegmentName) -> None:
        """The segment is called `name` now."""
        del self._entries[entry.key]
        entry.name, entry.key = name, str(name)
        self._entries[entry.key] = entry

    def move(
        self,
        entry: Entry,
        condition: Condition,
        *,
        owner: str | None = None,
        payload_bytes: int = 0,
        address: str = "",
    ) -> None:
        """The segment does something else now."""
        self._count(entry, -1)
        entry.condition, entry.owner, entry.payload_bytes = condition, owner, payload_bytes
        entry.address = address
        self._count(entry, +1)

    def hold(self, entry: Entry, capacity: int, holes: list[tuple[int, int]]) -> None:
        """The segment has this length and these ranges without pages now."""
        self._count(entry, -1)
        entry.capacity, entry.holes = capacity, holes
        entry.held_bytes = capacity - sum(stop - start for start, stop in holes)
        self._count(entry, +1)

    def _count(self, entry: Entry, sign: int) -> None:
        condition = entry.condition
        self.number[condition] += sign
        self.payload_bytes += sign * entry.payload_bytes
        self.held[condition] += sign * entry.held_bytes
        if entry.address:
            self.of_address[entry.address] += sign * entry.held_bytes
            if not self.of_address[entry.address]:
                del self.of_address[entry.address]
        if self.held[condition] > self.peak[condition]:
            self.peak[condition] = self.held[condition]
        owner = entry.owner
        if sign > 0:
            self._doing[condition][entry] = None
            if owner is not None:
                self._leased_to.setdefault(owner, {})[entry] = None
        else:
            del self._doing[condition][entry]
            if owner is not None:
                leased = self._leased_to[owner]
                del leased[entry]
                if not leased:
                    del self._leased_to[owner]

    def capacities(self) -> dict[str, int]:
        """The length that each segment's file must have."""
        return {name: entry.capacity for name, entry in self._entries.items()}

    def check_invariants(self) -> None:
        """Assert that the sums are those of the entries."""
        held: Counter[Condition] = Counter()
        of_address: Counter[str] = Counter()
        for name, entry in self._entries.items():
            assert name == entry.key == str(entry.name)
            assert 0 <= entry.payload_bytes <= entry.held_bytes <= entry.capacity, entry
            assert entry.owner is None or entry.condition is Condition.IN_FLIGHT, entry
            assert not entry.holes or entry.condition in (Condition.STORED, Condition.ORPHAN), entry
            assert not entry.address or entry.condition is Condition.IN_FLIGHT, entry
            assert entry in self._doing[entry.condition], entry
            assert entry.owner is None or entry in self._leased_to[entry.owner], entry
            held[entry.condition] += entry.held_bytes
            if entry.address:
                of_address[entry.address] += entry.held_bytes
        assert of_address == self.of_address
        for condition in Condition:
            assert held[condition] == self.held[condition] <= self.peak[condition], condition
            assert len(self.names(condition)) == self.number[condition], condition
        assert all(self._leased_to.values()), "an owner without leases is forgotten"
        owned = [entry for entry in self._entries.values() if entry.owner is not None]
        assert sum(map(len, self._leased_to.values())) == len(owned)
        assert self.payload_bytes == sum(entry.payload_bytes for entry in self._entries.values())
