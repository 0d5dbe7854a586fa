"""The dashboard *Node*. Enters: nothing. Leaves: its panels. Next: `render.py`."""

from __future__ import annotations

from grafana.generator.panels import (
    Dashboard,
    Panel,
    Query,
    Row,
    bars,
    graph,
    highest,
    quantile,
    rate,
    series,
    share,
    stat,
    total,
)

INBOUND = "Received payload of streams that are not complete yet."
OUTBOUND = "Payload due to clients that the sockets have not taken yet."
REQUESTS = rate("simnode_requests_total")
FAILED_REQUESTS = rate("simnode_requests_total", outcome="error|unavailable")
LATENCY = "From a request's last byte to its answer's first, interpolated inside a bucket."


def backlog(direction: str, unit: str, about: str) -> Panel:
    """The backlog of one direction in one unit: now, and its peaks."""
    return graph(
        f"{direction.capitalize()} backlog, {unit}",
        "bytes" if unit == "bytes" else "short",
        f"{about} Counted exactly. The peak of the last 60 s is the whole node's; the one for life is that of the "
        "process which ever had most.",
        Query(total(series(f"simnode_backlog_{unit}", direction=direction), by="instance"), "{{instance}} now"),
        Query(
            total(series(f"simnode_node_backlog_peak_60s_{unit}", direction=direction), by="instance"),
            "{{instance}} peak of 60 s",
        ),
        Query(
            highest(series(f"simnode_backlog_peak_life_{unit}", direction=direction), by="instance"),
            "{{instance}} peak for life, one process",
        ),
        width=12,
    )


def memory(measure: str, title: str, about: str) -> Panel:
    """The memory of each role by one measure: now, and its peak."""
    return graph(
        title,
        "bytes",
        about,
        Query(total(series(f"simnode_memory_{measure}_bytes"), by="instance, role"), "{{instance}} {{role}}"),
        Query(
            total(series(f"simnode_memory_{measure}_peak_60s_bytes"), by="instance, role"),
            "{{instance}} {{role}} peak of 60 s",
        ),
        width=12,
    )


GLANCE = Row(
    "At a glance",
    (
        stat(
            "Processes not up",
            "short",
            "Processes of the node that are dead, or whose heartbeat is over 5 s old.",
            Query(total(f"1 - {series('simnode_process_up')}"), "not up"),
            alarm_from=1,
        ),
        stat(
            "Connections",
            "short",
            "WebSocket connections that are open.",
            Query(total(series("simnode_connections_open")), "open"),
        ),
        stat("Requests", "reqps", "Client requests answered in a second.", Query(total(REQUESTS), "requests")),
        stat(
            "Error share",
            "percentunit",
            "Share of the requests that were answered with an error or found the store unavailable; "
            "a contract that is not found is no error. Nothing while there are no requests.",
            Query(share(FAILED_REQUESTS, REQUESTS), "errors"),
            alarm_from=0.01,
        ),
        stat(
            "Inbound backlog, peak",
            "bytes",
            f"Highest of the last 60 s. {INBOUND}",
            Query(highest(series("simnode_node_backlog_peak_60s_bytes", direction="inbound")), "inbound"),
        ),
        stat(
            "Outbound backlog, peak",
            "bytes",
            f"Highest of the last 60 s. {OUTBOUND}",
            Query(highest(series("simnode_node_backlog_peak_60s_bytes", direction="outbound")), "outbound"),
        ),
    ),
)

BACKLOG = Row(
    "Chunk backlog",
    (
        backlog("inbound", "chunks", INBOUND),
        backlog("outbound", "chunks", OUTBOUND),
        backlog("inbound", "bytes", INBOUND),
        backlog("outbound", "bytes", OUTBOUND),
        graph(
            "Outbound bytes materialized",
            "bytes",
            "The part of the outbound backlog that is in the heap rather than in a mapped segment. "
            "The peak adds up those of single processes, so the node's own is at most that.",
            Query(total(series("simnode_outbound_materialized_bytes"), by="instance"), "{{instance}} now"),
            Query(
                total(series("simnode_outbound_materialized_peak_60s_bytes"), by="instance"),
                "{{instance}} peak of 60 s",
            ),
            width=12,
        ),
        graph(
            "Reserved against budget",
            "bytes",
            "Bytes reserved for messages in flight, and how many may be. At the budget, new streams are refused "
            "and their connections live.",
            Query(total(series("simnode_reserved_bytes"), by="instance"), "{{instance}} reserved"),
            Query(
                total(series("simnode_reserved_peak_60s_bytes"), by="instance"), "{{instance}} reserved, peak of 60 s"
            ),
            Query(total(series("simnode_memory_budget_bytes"), by="instance"), "{{instance}} budget"),
            width=12,
        ),
    ),
)

MEMORY = Row(
    "Memory",
    (
        memory(
            "rss_anon",
            "Heap by role (RssAnon)",
            "Anonymous memory of the role's processes, without mapped segments. The kernel keeps no peak of it, "
            "so it is looked at 20 times a second.",
        ),
        memory(
            "pss",
            "Memory by role (PSS)",
            "Heap, and the processes' shares of mapped segments and libraries. Read every 5 s.",
        ),
        bars(
            "Heap by role, peak for life",
            "bytes",
            "Highest RssAnon of each role since its node's exporter started.",
            Query(
                total(series("simnode_memory_rss_anon_peak_life_bytes"), by="instance, role"), "{{instance}} {{role}}"
            ),
        ),
        graph(
            "Segments",
            "bytes",
            "Bytes allocated to segment files: leased or stored, and free to be recycled.",
            Query(total(series("simnode_segment_bytes"), by="state"), "{{state}}"),
            stacked=True,
        ),
        graph(
            "Looks at memory",
            "hertz",
            "How often memory was looked at. What is shorter than the time between two looks, the peaks can miss.",
            Query(total(rate("simnode_memory_samples_total"), by="instance, measure"), "{{instance}} {{measure}}"),
        ),
    ),
)

LOAD = Row(
    "Requests",
    (
        graph(
            "Requests by kind",
            "reqps",
            "Client requests answered in a second, undecodable messages among them.",
            Query(total(REQUESTS, by="kind"), "{{kind}}"),
            stacked=True,
        ),
        graph(
            "Requests by encoding",
            "reqps",
            "Client requests answered in a second, by the encoding of their connections.",
            Query(total(REQUESTS, by="encoding"), "{{encoding}}"),
            stacked=True,
        ),
        graph(
            "Error share by kind",
            "percentunit",
            "Share of each kind of request that was answered with an error or found the store unavailable.",
            Query(share(FAILED_REQUESTS, REQUESTS, by="kind"), "{{kind}}"),
        ),
        graph(
            "Latency, median",
            "s",
            f"Half of the requests took less. {LATENCY}",
            Query(quantile(0.5, "simnode_request_duration_seconds", by="kind"), "{{kind}}"),
        ),
        graph(
            "Latency, 99th percentile",
            "s",
            f"One request in 100 took longer. {LATENCY}",
            Query(quantile(0.99, "simnode_request_duration_seconds", by="kind"), "{{kind}}"),
        ),
        graph(
            "Requests by outcome",
            "reqps",
            "Requests that ended otherwise than well.",
            Query(
                total(rate("simnode_requests_total", outcome="error|not_found|refused|unavailable"), by="outcome"),
                "{{outcome}}",
            ),
        ),
    ),
)

TRAFFIC = Row(
    "Traffic and streams",
    (
        graph(
            "Throughput",
            "binBps",
            "WebSocket payload, without frame headers.",
            Query(total(rate("simnode_payload_bytes_total"), by="direction"), "{{direction}}"),
        ),
        graph(
            "Messages and chunks",
            "mps",
            "WebSocket data messages, and how many of them are chunks.",
            Query(total(rate("simnode_messages_total"), by="direction"), "{{direction}} messages"),
            Query(total(rate("simnode_chunks_total"), by="direction"), "{{direction}} chunks"),
        ),
        graph(
            "Streams",
            "eps",
            "Chunked messages that ended, by direction and how.",
            Query(total(rate("simnode_streams_total"), by="direction, outcome"), "{{direction}} {{outcome}}"),
        ),
        graph(
            "Reassembly errors",
            "eps",
            "Chunks and streams refused to clients, by the rule they broke.",
            Query(total(rate("simnode_reassembly_errors_total"), by="kind"), "{{kind}}"),
        ),
        graph(
            "Reservations refused",
            "eps",
            "Streams and large messages refused because the budget was used up.",
            Query(total(rate("simnode_reservations_refused_total"), by="instance"), "{{instance}}"),
        ),
        graph(
            "Notifications",
            "eps",
            "Updates sent to subscribers, updates replaced by a newer state because the subscriber had fallen "
            "behind, and how many were serialized to be sent: once per encoding, however many subscribers.",
            Query(total(rate("simnode_notifications_total"), by="outcome"), "{{outcome}}"),
            Query(total(rate("simnode_notifications_encoded_total"), by="encoding"), "serialized: {{encoding}}"),
        ),
    ),
)

CONNECTIONS = Row(
    "Connections",
    (
        graph(
            "Open",
            "short",
            "WebSocket connections that are open.",
            Query(total(series("simnode_connections_open"), by="instance"), "{{instance}}"),
        ),
        graph(
            "Opened and closed",
            "cps",
            "Connections that began, and that ended, by reason.",
            Query(total(rate("simnode_connections_opened_total")), "opened"),
            Query(total(rate("simnode_connections_closed_total"), by="reason"), "closed: {{reason}}"),
        ),
        graph(
            "Refused",
            "cps",
            "TCP connections that did not become WebSocket connections, by reason.",
            Query(total(rate("simnode_connections_refused_total"), by="reason"), "{{reason}}"),
        ),
    ),
)

STORE = Row(
    "Store",
    (
        graph(
            "Contracts and subscriptions",
            "short",
            "Contracts in the index, and subscriptions to them.",
            Query(total(series("simnode_store_contracts"), by="instance"), "{{instance}} contracts"),
            Query(total(series("simnode_store_subscriptions"), by="instance"), "{{instance}} subscriptions"),
        ),
        graph(
            "Stored",
            "bytes",
            "Bytes of the contracts' states, code and parameters.",
            Query(total(series("simnode_store_bytes"), by="instance"), "{{instance}}"),
        ),
        graph(
            "Commits",
            "wps",
            "Write transactions of the index, and the writes that they committed together.",
            Query(total(rate("simnode_store_commits_total"), by="outcome"), "commits: {{outcome}}"),
            Query(total(rate("simnode_store_commit_batch_writes_sum")), "writes"),
        ),
    ),
)

PROCESSES = Row(
    "Processes",
    (
        graph(
            "Up, by role",
            "short",
            "Processes that exist and have a heartbeat of the last 5 s.",
            Query(total(series("simnode_process_up"), by="instance, role"), "{{instance}} {{role}}"),
        ),
        graph(
            "Restarts in a minute",
            "short",
            "Processes started in the place of one that ended, by role.",
            Query(f"60 * {total(rate('simnode_actor_restarts_total'), by='role')}", "{{role}}"),
        ),
        graph(
            "CPU by role",
            "short",
            "Cores in use, user and system.",
            Query(total(rate("simnode_process_cpu_seconds_total"), by="role"), "{{role}}"),
            stacked=True,
        ),
        graph(
            "Event-loop lag, peak",
            "s",
            "How late a timer of the role's most belated process fired, at worst, in the last 60 s.",
            Query(
                highest(series("simnode_event_loop_lag_peak_60s_seconds"), by="instance, role"),
                "{{instance}} {{role}}",
            ),
            width=12,
        ),
        graph(
            "Heartbeat age",
            "s",
            "Time since the role's quietest process said that its loop turns: it grows for one that is blocked, "
            "stopped or dead.",
            Query(
                highest(series("simnode_process_heartbeat_age_seconds"), by="instance, role"),
                "{{instance}} {{role}}",
            ),
            width=12,
        ),
    ),
)

NODE = Dashboard(
    "node",
    "simnode / Node",
    "One simnode node, or several: chunk backlog, memory by role, requests, streams, connections, store, processes.",
    (GLANCE, BACKLOG, MEMORY, LOAD, TRAFFIC, CONNECTIONS, STORE, PROCESSES),
)
