"""One update, many subscribers: row `update`. Next: `transfers.py`."""

from __future__ import annotations

import json
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from simnode.protocol.limits import MIB
from tests.bench.bench import Bench, Sample
from tests.bench.driving import python_dialog
from tests.bench.measure import AnonymousPeak, median
from tests.bench.processes import REFERENCE, WHOLE_NODE, Server
from tests.bench.rows import UPDATE

SUBSCRIBERS = 200
ENCODED_METRIC = "simnode_notifications_encoded"
"""Counts, in all handlers, how often a notification was encoded (the sample is `…_total`)."""

ENCODINGS = {WHOLE_NODE: ("native", "msgpack"), REFERENCE: ("native",)}
"""The peers in Python have no subscriptions."""

METRICS_TIMEOUT_S = 10.0


def update(bench: Bench) -> None:
    """Everybody reads; then one does not."""

    def measure(server: Server) -> Sample:
        encodings = ENCODINGS[server.name]
        with python_dialog(
            "subscribers",
            *("--url", server.url, "--subscribers", SUBSCRIBERS, "--encodings", ",".join(encodings)),
            *("--updates", bench.effort.updates),
        ) as driver:
            driver.wait_for("ready")
            encoded_before = _encoded(server)
            with AnonymousPeak(server.pids()) as peak:
                driver.go_on()
                report = json.loads(driver.read_line())
        all_read_s, one_stalled_s = median(report["all_read_s"]), median(report["one_stalled_s"])
        figures = {
            "anonymous growth": (peak.peak_bytes - peak.idle_bytes) / MIB,
            "to all subscribers, ms": 1e3 * all_read_s,
            "time with a stalled one ÷ without": one_stalled_s / all_read_s,
        }
        if encoded_before is not None and (encoded := _encoded(server)) is not None:
            once_each = report["updates"] * len(encodings) * server.handlers
            figures["encodings per encoding, each process"] = (encoded - encoded_before) / once_each
        return Sample(figures)

    bench.alternate(UPDATE, "updates", tuple(ENCODINGS), measure)
    if ("encodings per encoding, each process", WHOLE_NODE) not in bench.results.of(UPDATE).series:
        bench.results.of(UPDATE).note(f"the node has no metric {ENCODED_METRIC}_total: encodings cannot be counted")


def _encoded(server: Server) -> float | None:
    """How many notifications the server has encoded so far; None: it does not say."""
    if not server.metrics_url:
        return None
    with urllib.request.urlopen(server.metrics_url, timeout=METRICS_TIMEOUT_S) as answer:
        text = answer.read().decode()
    families = [family for family in text_string_to_metric_families(text) if family.name == ENCODED_METRIC]
    return sum(sample.value for family in families for sample in family.samples) if families else None
