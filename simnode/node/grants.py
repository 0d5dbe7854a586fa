"""How a process stays within the node's budget without asking for each byte. Enters: bytes held. Leaves: amounts.

The owner of the budget (the reassembly service) grants heap to each process in steps. A process
asks for another step before it has used up what it has, and gives steps back that it no longer
needs. Next: `ledger.py`, which says how much is held.
"""

from __future__ import annotations

from typing import Final

STEP_BYTES: Final = 4 * 1024 * 1024
"""What is asked for, and given back, at once."""


class Grant:
    """What one process may hold in its heap for its peers.

    At most one request for more is under way at a time.
    """

    def __init__(self) -> None:
        #: bytes that the node's budget counts for this process
        self.granted_bytes = 0
        self._is_asked = False

    def wanted(self, held_bytes: int) -> int:
        """How many bytes to ask for now; 0 when what is granted will do, or a request is under way.

        The caller asks for as much and then calls `granted` or `refused`.
        """
        missing = held_bytes + STEP_BYTES // 2 - self.granted_bytes
        if self._is_asked or missing <= 0 or not held_bytes:
            return 0
        self._is_asked = True
        return -(-missing // STEP_BYTES) * STEP_BYTES

    def granted(self, nbytes: int) -> None:
        """The node granted what was asked for."""
        self._is_asked = False
        self.granted_bytes += nbytes

    def refused(self) -> None:
        """The node has no more, or the owner of the budget is away; ask again later."""
        self._is_asked = False

    def surplus(self, held_bytes: int) -> int:
        """How many bytes to give back now, in whole steps; they count as given back when this returns.

        A step and a half is kept beyond what is held, so that a load that swings asks for nothing.
        """
        spare = self.granted_bytes - held_bytes - (STEP_BYTES + STEP_BYTES // 2 if held_bytes else 0)
        steps = max(0, spare) // STEP_BYTES
        self.granted_bytes -= steps * STEP_BYTES
        return steps * STEP_BYTES

    def lost(self) -> int:
        """The owner of the budget started anew: returns what it must be told that this process has."""
        self._is_asked = False
        return self.granted_bytes
