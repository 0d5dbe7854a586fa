"""What one node is set to. Enters: the composition root's choices. Leaves: `NodeSettings`. Next: `handler.py`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from simnode.live.sockets.handshake import AccessRules
from simnode.node.hosts import AllowedHosts
from simnode.node.subscriptions import SubscriptionCaps
from simnode.protocol.limits import MIB, Limits
from simnode.storage.data_directory import INDEX, SEGMENTS

GIB = 1024 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """One running node, as all of its processes know it. Sizes in bytes, times in seconds.

    Attributes:
        run_dir: sockets and stats slabs; swept when the node is gone.
        data_dir: index and segments; under `run_dir` in memory mode.
        durable: whether a write is on the disk before the client is told.
        host: address to listen on.
        port: to listen on; 0 takes any.
        metrics_host: address that the exporter listens on.
        metrics_port: of the exporter; 0 takes any.
        handlers: ConnectionHandler processes.
        connections_per_handler: connections that one of them takes.
        memory_budget_bytes: reserved for messages in flight, all together.
        store_limit_bytes: segments stored, all together.
        free_segments_bytes: recycled segments kept for the next message.
        always_chunk: chunk large responses whether or not the client asked for it.
        response_mode: a name of `response_modes.MODES`; only a scenario sets another than `mapped`.
        progress_timeout_s: a client that takes none of the bytes due to it for so long is closed.
        report_max_age_s: how old a long answer to a node query may be: identical queries share it for so long.
        allow_lost_segments: start although segments that rows refer to are missing.
        punches: whether the filesystem of `data_dir` takes pages back from a file that lives on; the node finds out.
        stuck_after_s: a process of the node whose heartbeat is older is killed and replaced.
        allowed_hosts: beside loopback and the addresses listened on; see `node/hosts.py` for what is understood.
    """

    run_dir: Path
    data_dir: Path
    durable: bool = False
    host: str = "127.0.0.1"
    port: int = 7509
    metrics_host: str = "127.0.0.1"
    metrics_port: int = 9509
    handlers: int = 2
    connections_per_handler: int = 1000
    memory_budget_bytes: int = GIB
    store_limit_bytes: int = 8 * GIB
    free_segments_bytes: int = 128 * MIB
    always_chunk: bool = False
    response_mode: str = "mapped"
    progress_timeout_s: float = 60.0
    report_max_age_s: float = 1.0
    stuck_after_s: float = 15.0
    allow_lost_segments: bool = False
    punches: bool = True
    allowed_hosts: frozenset[str] = frozenset()
    tokens: frozenset[str] = frozenset()
    json_logs: bool = False
    limits: Limits = field(default_factory=Limits)
    caps: SubscriptionCaps = field(default_factory=SubscriptionCaps)

    segments_dir: Path = field(init=False, compare=False)
    """Where the payloads are."""

    def __post_init__(self) -> None:
        # not a property: it is asked for with each lease, and joining paths takes a tenth of that
        object.__setattr__(self, "segments_dir", self.data_dir / SEGMENTS)

    @property
    def index_dir(self) -> Path:
        """Where the LMDB index is."""
        return self.data_dir / INDEX

    @property
    def max_index_readers(self) -> int:
        """LMDB reader slots: a handler uses one at a time; the rest is for tools and restarts."""
        return 4 * self.handlers + 32

    def socket_path(self, service: str) -> Path:
        """The unix-domain socket of one of the node's services."""
        return self.run_dir / f"{service}.sock"

    @property
    def access_rules(self) -> AccessRules:
        """Who may connect.

        Raises:
            ValueError: an allowed host is not understood.
        """
        return AccessRules.for_address(self.host, allowed_hosts=self.allowed_hosts, tokens=self.tokens)

    @property
    def metrics_hosts(self) -> AllowedHosts:
        """The hosts that the metrics port answers to.

        Raises:
            ValueError: an allowed host is not understood.
        """
        return AllowedHosts.listening_on(self.metrics_host, self.allowed_hosts)
