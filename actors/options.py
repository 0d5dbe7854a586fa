"""How Ray is started and how actors are placed. Enters: directories. Leaves: environment and options. Next: `roles.py`.

Every setting here has its reason in `simnode/DECISIONS.md` ("Ray").
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

from simnode.import_path import environment_for_children

NAMESPACE = "simnode"
OBJECT_STORE_BYTES = 80 * 1024 * 1024
"""Ray's smallest is 75 MiB; no payload ever goes there."""

ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",  # Ray's ports listen on all interfaces
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # 15 by default, which biases every measurement
    "RAY_memory_monitor_refresh_ms": "0",  # it counts tmpfs segments and then kills innocent actors
    "RAY_task_events_report_interval_ms": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # under `uv run` Ray would ship the current directory and start workers by uv: that fails in a
    # subdirectory of a project, and beside files of over 512 MiB
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
}

UNWANTED = (
    "RAY_RUNTIME_ENV_HOOK",  # code of the user's, which Ray imports and calls
    "RAY_CLIENT_MODE",  # turns every call into one to a Ray elsewhere
    "RAY_JOB_CONFIG_JSON_ENV_VAR",  # a runtime environment, which `ray job submit` sets for the job
    "RAY_AUTH_TOKEN",  # would win over the token of this run
    "RAY_REDIS_ADDRESS",  # would keep the control store's data in a server of the user's
    "RAY_LOG_TO_STDERR",  # would mix the daemons' logs into ours
)
"""Variables of Ray that a user may have set for work of their own. A node's Ray does not see them."""

INIT: dict[str, Any] = {
    "address": "local",
    "namespace": NAMESPACE,
    "include_dashboard": False,
    "log_to_driver": False,
    "object_store_memory": OBJECT_STORE_BYTES,
    "configure_logging": False,
}

ACTOR: dict[str, Any] = {
    "num_cpus": 0,
    # the supervisor restarts actors itself: it knows the slot, the order and the port to keep
    "max_restarts": 0,
    "max_task_retries": 0,
    "enable_task_events": False,
}


# before `import ray`, which reads some of them while it is loaded and never again
os.environ.update(ENVIRONMENT)
for _name in UNWANTED:
    os.environ.pop(_name, None)

_FOR_CHILDREN = environment_for_children()  # Ray's daemons and actors inherit their import path from us
for _name in ("PYTHONPATH", "PYTHONSAFEPATH"):
    os.environ.pop(_name, None)
    if _name in _FOR_CHILDREN:
        os.environ[_name] = _FOR_CHILDREN[_name]


def use_fresh_token(run_dir: Path) -> None:
    """A token for this run that only this user can read keeps everybody else out of Ray's ports."""
    token = run_dir / "ray-token"
    descriptor = os.open(token, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(secrets.token_hex(32))
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(token)
