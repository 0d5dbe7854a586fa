"""Every metric of the node. Enters: the protocol's label values. Leaves: `CATALOGUE`. Next: `layout.py`.

A new metric is a new entry here and nothing else: slabs, exporter, and the dashboards' test follow. Names
keep to https://prometheus.io/docs/practices/naming/; a label is a closed set, never a contract, client or stream.
"""

from __future__ import annotations

from itertools import product

from simnode.metrics.model import Kind, Label, Metric, Per, Role, Source
from simnode.node.ledger import Kind as Held
from simnode.protocol.codec.base import Encoding
from simnode.protocol.errors import ReassemblyErrorKind

ALL_ROLES = tuple(Role)
HANDLER = (Role.CONNECTION_HANDLER,)
REASSEMBLY = (Role.REASSEMBLY_SERVICE,)
STORE = (Role.CONTRACT_STORE,)

DIRECTION = Label("direction", ("inbound", "outbound"))
ENCODING = Label("encoding", tuple(encoding.value for encoding in Encoding))
ANSWERED_KINDS = ("put", "get", "update", "subscribe", "delegate", "node_query")
UNANSWERED_KINDS = ("authenticate", "disconnect", "close")
UNDECODABLE = "undecodable"
REQUEST_OUTCOME = Label("outcome", ("ok", "error", "not_found", "refused", "unavailable"))

NOT_IN_FLATBUFFERS = frozenset(product(("node_query", "close"), (Encoding.FLATBUFFERS.value,)))
"""Requests that flatbuffers cannot express, as (kind, encoding)."""

IMPOSSIBLE_OUTCOMES = frozenset(
    {
        ("put", "not_found"),
        ("node_query", "not_found"),
        *product(("authenticate",), ("error", "not_found", "unavailable")),
        *product(("disconnect", "close"), ("error", "not_found", "refused", "unavailable")),
        *product((UNDECODABLE,), ("ok", "not_found", "unavailable")),
    }
)
"""As (kind, outcome)."""
STREAM_OUTCOME = Label("outcome", ("completed", "aborted", "expired", "refused"))
REASSEMBLY_ERROR = Label("kind", tuple(kind.value for kind in ReassemblyErrorKind))
REFUSAL_REASON = Label(
    "reason",
    (
        "connection_limit",  # the node's cap
        "no_handler",  # below the cap, but no handler took the socket in time, or before the node ended
        "unknown_path",  # 404
        "not_an_upgrade",  # 426
        "bad_parameter",  # 400: encoding, streaming, authorization scheme, a header that is missing or repeated
        "forbidden_host",  # 403
        "forbidden_origin",  # 403
        "handshake_failed",  # malformed HTTP, or no whole request before the deadline or the connection's end
    ),
)
CLOSE_REASON = Label(
    "reason",
    (
        "peer_closed",  # the peer sent a close frame
        "requested",  # Disconnect or Close, 1000
        "connection_lost",  # TCP ended without a close frame
        "protocol_error",  # RFC 6455 broken: 1002, 1007
        "too_big",  # a message over the limit: 1009
        "unauthorized",  # 4401
        "stalled",  # the peer did not take bytes that were due to it
        "too_slow",  # it held memory that others needed, or moved at less than the minimum rate
        "drained",  # the node is going away: 1001
        "internal_error",  # 1011
    ),
)
HELD_KIND = Label("kind", tuple(kind.value for kind in Held))
SEGMENT_STATE = Label("state", ("in_use", "free"))
NOTIFICATION_OUTCOME = Label("outcome", ("sent", "coalesced"))
COMMIT_OUTCOME = Label("outcome", ("ok", "error"))
MEMORY_MEASURE = Label("measure", ("rss_anon", "pss"))

REQUEST_SECONDS = (
    *(0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
"""From a small GET out of the index (some 100 µs) to the life of a stream (60 s)."""

BATCH_WRITES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)

BACKLOG: tuple[Metric, ...] = (
    Metric(
        name="simnode_backlog_chunks",
        kind=Kind.PEAK,
        help="Chunks of payload waiting in one process. inbound: received, of incomplete streams; "
        "outbound: of answers that are made, and not taken whole by the kernel yet. Counted exactly, where it changes.",
        unit="chunks",
        per=Per.PROCESS,
        roles=HANDLER,
        labels=(DIRECTION,),
    ),
    Metric(
        name="simnode_backlog_bytes",
        kind=Kind.PEAK,
        help="Bytes of payload waiting in one process. inbound: received, of incomplete streams; outbound: of answers "
        "and notifications that are made, and not taken by the kernel yet (frame headers of what the socket was "
        "offered among them). Counted exactly, where it changes; but answers of up to 64 KiB together that a "
        "connection is sent at once do not count before its socket has refused to take them.",
        unit="bytes",
        per=Per.PROCESS,
        roles=HANDLER,
        labels=(DIRECTION,),
    ),
    Metric(
        name="simnode_outbound_materialized_bytes",
        kind=Kind.PEAK,
        help="Bytes that answers and notifications over 512 KiB were copied into the process's heap for, by the "
        "response mode, and that are held there until the kernel has taken all of the message: 0 in the mode mapped. "
        "Smaller ones are made in the heap and do not count here. Counted exactly, where it changes.",
        unit="bytes",
        per=Per.PROCESS,
        roles=HANDLER,
    ),
    Metric(
        name="simnode_node_backlog_peak_60s_chunks",
        kind=Kind.GAUGE,
        help="Highest chunk backlog of the whole node in the last 60 s: the highest, over seconds, of the sum of the "
        "processes' maxima in that second. Exact for one process, otherwise high by no more than a second's movement.",
        unit="chunks",
        roles=HANDLER,
        labels=(DIRECTION,),
        source=Source.EXPORTER,
    ),
    Metric(
        name="simnode_node_backlog_peak_60s_bytes",
        kind=Kind.GAUGE,
        help="Highest byte backlog of the whole node in the last 60 s: the highest, over seconds, of the sum of the "
        "processes' maxima in that second. Exact for one process, otherwise high by no more than a second's movement.",
        unit="bytes",
        roles=HANDLER,
        labels=(DIRECTION,),
        source=Source.EXPORTER,
    ),
)

MEMORY: tuple[Metric, ...] = (
    Metric(
        name="simnode_memory_rss_anon_bytes",
        kind=Kind.PEAK,
        help="RssAnon of the role's processes together: heap, without the mapped segments. "
        "Read from /proc at 20 Hz, because the kernel keeps no peak; "
        "less often if that would cost over a fifth of a core.",
        unit="bytes",
        per=Per.ROLE,
        roles=ALL_ROLES,
        source=Source.EXPORTER,
    ),
    Metric(
        name="simnode_memory_pss_bytes",
        kind=Kind.PEAK,
        help="Proportional set size of the role's processes together: heap and their share of the mapped segments. "
        "Read from /proc every 5 s, because one reading costs milliseconds.",
        unit="bytes",
        per=Per.ROLE,
        roles=ALL_ROLES,
        source=Source.EXPORTER,
    ),
    Metric(
        name="simnode_memory_samples_total",
        kind=Kind.COUNTER,
        help="Passes over the processes' memory; the rate is the frequency at which peaks were looked for.",
        roles=(Role.METRICS_EXPORTER,),
        labels=(MEMORY_MEASURE,),
        source=Source.EXPORTER,
    ),
    Metric(
        name="simnode_held_bytes",
        kind=Kind.PEAK,
        help="Bytes that clients make one process hold, as its ledger has them. lease: segments of unfinished "
        "messages; storing: segments of requests under way; message: unfinished messages in the heap; "
        "request: requests that wait; answer: answers due in the heap; version: mapped states that answers due refer "
        "to; link: on the way to another process; report: long answers to node queries that are kept. "
        "A connection that holds under 32 KiB is counted twice a second.",
        unit="bytes",
        per=Per.PROCESS,
        roles=HANDLER,
        labels=(HELD_KIND,),
    ),
    Metric(
        name="simnode_granted_bytes",
        kind=Kind.GAUGE,
        help="Bytes of the node's budget that its handlers may hold in their heap.",
        unit="bytes",
        roles=REASSEMBLY,
    ),
    Metric(
        name="simnode_lingering_bytes",
        kind=Kind.GAUGE,
        help="Bytes of states that were replaced and that only readers hold. They count against the node's budget.",
        unit="bytes",
        roles=REASSEMBLY,
    ),
    Metric(
        name="simnode_reserved_bytes",
        kind=Kind.PEAK,
        help="Bytes of the segments leased for messages in flight, before they arrive: what is asked for, rounded up "
        "to 64 KiB or to the length of a recycled segment. Stored bytes do not count. Counted where it changes.",
        unit="bytes",
        per=Per.PROCESS,
        roles=REASSEMBLY,
    ),
    Metric(
        name="simnode_memory_budget_bytes",
        kind=Kind.GAUGE,
        help="Bytes that clients may make the node hold beside what is stored: in flight, granted and lingering.",
        unit="bytes",
        roles=REASSEMBLY,
    ),
    Metric(
        name="simnode_reservations_refused_total",
        kind=Kind.COUNTER,
        help="Segments asked for, by handlers or by the store, and refused for want of budget or of space on the "
        "file system. What a connection's own limit refuses is not among them.",
        roles=REASSEMBLY,
    ),
    Metric(
        name="simnode_segments",
        kind=Kind.GAUGE,
        help="Segment files of the pool, as of half a second ago at most. in_use: leased or stored; "
        "free: waiting to be recycled.",
        roles=REASSEMBLY,
        labels=(SEGMENT_STATE,),
    ),
    Metric(
        name="simnode_segment_bytes",
        kind=Kind.GAUGE,
        help="Bytes allocated to the pool's segment files, as of half a second ago at most. in_use: leased or stored, "
        "or without a name and still read by somebody; free: waiting to be recycled.",
        unit="bytes",
        roles=REASSEMBLY,
        labels=(SEGMENT_STATE,),
    ),
)

CONNECTIONS: tuple[Metric, ...] = (
    Metric(
        name="simnode_connections_open",
        kind=Kind.GAUGE,
        help="WebSocket connections that are open.",
        roles=HANDLER,
    ),
    Metric(
        name="simnode_connections_opened_total",
        kind=Kind.COUNTER,
        help="WebSocket connections whose handshake succeeded.",
        roles=HANDLER,
    ),
    Metric(
        name="simnode_connections_refused_total",
        kind=Kind.COUNTER,
        help="TCP connections that did not become WebSocket connections, by reason; health checks are not among them.",
        roles=(Role.FRONT_DOOR, Role.CONNECTION_HANDLER),
        labels=(REFUSAL_REASON,),
    ),
    Metric(
        name="simnode_connections_closed_total",
        kind=Kind.COUNTER,
        help="WebSocket connections that ended, by reason. Those of a handler that died are not among them.",
        roles=HANDLER,
        labels=(CLOSE_REASON,),
    ),
)

TRAFFIC: tuple[Metric, ...] = (
    Metric(
        name="simnode_requests_total",
        kind=Kind.COUNTER,
        help="Client requests carried out, by kind, encoding and outcome, counted when the answer is made. "
        "error: it could not be done; not_found: there is no such contract or delegate; refused: not allowed, by "
        "authentication or by a cap on subscriptions; unavailable: a process of the node was away. "
        "undecodable is any other message: error if it could not be decoded, refused if there was no room for it.",
        roles=HANDLER,
        labels=(Label("kind", (*ANSWERED_KINDS, *UNANSWERED_KINDS, UNDECODABLE)), ENCODING, REQUEST_OUTCOME),
        never=frozenset(
            (kind, encoding, outcome)
            for kind, encoding, outcome in product(
                (*ANSWERED_KINDS, *UNANSWERED_KINDS, UNDECODABLE), ENCODING.values, REQUEST_OUTCOME.values
            )
            if (kind, encoding) in NOT_IN_FLATBUFFERS or (kind, outcome) in IMPOSSIBLE_OUTCOMES
        ),
    ),
    Metric(
        name="simnode_request_duration_seconds",
        kind=Kind.HISTOGRAM,
        help="Time from the last byte of a request to the first byte of its answer (or of the stream header before "
        "it) being taken by the kernel; for authenticate, disconnect and close to the end of their handling. "
        "An answer whose connection ends before that is not counted.",
        unit="seconds",
        roles=HANDLER,
        labels=(Label("kind", (*ANSWERED_KINDS, *UNANSWERED_KINDS)), ENCODING),
        never=NOT_IN_FLATBUFFERS,
        buckets=REQUEST_SECONDS,
    ),
    Metric(
        name="simnode_payload_bytes_total",
        kind=Kind.COUNTER,
        help="Bytes of WebSocket data messages, without frame headers. Counted when the message is whole: "
        "inbound received, also if there was no room for it, outbound taken by the kernel.",
        unit="bytes",
        roles=HANDLER,
        labels=(DIRECTION,),
    ),
    Metric(
        name="simnode_messages_total",
        kind=Kind.COUNTER,
        help="WebSocket data messages; each chunk and each stream header is one. Counted when they are whole: "
        "inbound received, also if there was no room for it, outbound taken by the kernel.",
        roles=HANDLER,
        labels=(DIRECTION,),
    ),
    Metric(
        name="simnode_chunks_total",
        kind=Kind.COUNTER,
        help="StreamChunk messages. inbound: received, rejected ones included; outbound: taken whole by the kernel.",
        roles=HANDLER,
        labels=(DIRECTION,),
    ),
    Metric(
        name="simnode_streams_total",
        kind=Kind.COUNTER,
        help="Chunked messages that ended, by direction and outcome. completed: every chunk was received, or taken by "
        "the kernel; aborted: a chunk broke a rule or could not be kept, or the connection ended; "
        "expired: no chunk came for too long; refused: there was no room for it, or its room was needed elsewhere. "
        "Outbound they count from their turn on.",
        roles=HANDLER,
        labels=(DIRECTION, STREAM_OUTCOME),
        never=frozenset({("outbound", "expired"), ("outbound", "refused")}),
    ),
    Metric(
        name="simnode_reassembly_errors_total",
        kind=Kind.COUNTER,
        help="Reassembly errors answered to clients, by the rule that was broken.",
        roles=HANDLER,
        labels=(REASSEMBLY_ERROR,),
    ),
    Metric(
        name="simnode_notifications_total",
        kind=Kind.COUNTER,
        help="Update notifications. sent: taken whole by the kernel; "
        "coalesced: replaced by a newer state because the subscriber had fallen behind.",
        roles=HANDLER,
        labels=(NOTIFICATION_OUTCOME,),
    ),
    Metric(
        name="simnode_notifications_encoded_total",
        kind=Kind.COUNTER,
        help="Update notifications serialized: once per encoding and change, however many subscribers; "
        "a delta is apart from its state, and so is what a subscriber that fell behind is sent later.",
        roles=HANDLER,
        labels=(ENCODING,),
    ),
)

STORED: tuple[Metric, ...] = (
    Metric(
        name="simnode_store_contracts",
        kind=Kind.GAUGE,
        help="Contracts in the index, as of half a second ago at most.",
        roles=STORE,
    ),
    Metric(
        name="simnode_store_bytes",
        kind=Kind.GAUGE,
        help="Bytes of the contracts' states, code (once, however many contracts have it) and parameters, inline and "
        "in segments, as of half a second ago at most.",
        unit="bytes",
        roles=STORE,
    ),
    Metric(
        name="simnode_store_subscriptions",
        kind=Kind.GAUGE,
        help="Subscriptions held, one for each connection and contract, as of half a second ago at most.",
        roles=STORE,
    ),
    Metric(
        name="simnode_store_commits_total",
        kind=Kind.COUNTER,
        help="Write transactions of the index, by outcome. Writes that change nothing need none.",
        roles=STORE,
        labels=(COMMIT_OUTCOME,),
    ),
    Metric(
        name="simnode_store_commit_batch_writes",
        kind=Kind.HISTOGRAM,
        help="Writes that one write transaction committed together: puts, updates, and delegates registered or "
        "unregistered. Those that were refused or changed nothing are not among them.",
        unit="writes",
        roles=STORE,
        buckets=BATCH_WRITES,
    ),
)

PROCESSES: tuple[Metric, ...] = (
    Metric(
        name="simnode_process_up",
        kind=Kind.GAUGE,
        help="1 when the process exists and its heartbeat is less than 5 s old; 0 when it is dead or stuck.",
        per=Per.PROCESS,
        roles=ALL_ROLES,
        source=Source.EXPORTER,
    ),
    Metric(
        name="simnode_process_heartbeat_age_seconds",
        kind=Kind.GAUGE,
        help="Time since the process last wrote its heartbeat, on the host's monotonic clock.",
        unit="seconds",
        per=Per.PROCESS,
        roles=ALL_ROLES,
        source=Source.EXPORTER,
    ),
    Metric(
        name="simnode_process_cpu_seconds_total",
        kind=Kind.COUNTER,
        help="CPU time of the running process, user and system, from /proc. Begins again when the process does.",
        unit="seconds",
        per=Per.PROCESS,
        roles=ALL_ROLES,
        source=Source.EXPORTER,
    ),
    Metric(
        name="simnode_event_loop_lag_seconds",
        kind=Kind.PEAK,
        help="How late the latest timer of the process's event loop fired; there is one every half a second.",
        unit="seconds",
        per=Per.PROCESS,
        roles=ALL_ROLES,
    ),
    Metric(
        name="simnode_actor_restarts_total",
        kind=Kind.COUNTER,
        help="Times that a process of the role was started again in the place of one that ended.",
        per=Per.ROLE,
        roles=tuple(role for role in Role if role is not Role.SUPERVISOR),
        source=Source.EXPORTER,
    ),
    Metric(
        name="simnode_slabs_unreadable",
        kind=Kind.GAUGE,
        help="Stats slabs that this exporter cannot read because another version of simnode wrote them.",
        roles=(Role.METRICS_EXPORTER,),
        source=Source.EXPORTER,
    ),
    Metric(
        name="simnode_build_info",
        kind=Kind.INFO,
        help="Versions of simnode, Python and Ray that the node runs on.",
        roles=(Role.METRICS_EXPORTER,),
        labels=(Label("version"), Label("python"), Label("ray")),
        source=Source.EXPORTER,
    ),
)

CATALOGUE: tuple[Metric, ...] = BACKLOG + MEMORY + CONNECTIONS + TRAFFIC + STORED + PROCESSES

BY_NAME: dict[str, Metric] = {metric.name: metric for metric in CATALOGUE}

EXPORTED_NAMES: frozenset[str] = frozenset(name for metric in CATALOGUE for name in metric.exported_names)
"""Every series name that `/metrics` can contain; what a dashboard may ask for."""
