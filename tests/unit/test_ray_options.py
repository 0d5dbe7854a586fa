"""Variables that a user may have set do not reach the node's Ray."""

from __future__ import annotations

import json
import os
import subprocess
import sys

PROGRAM = "import actors.options, json, os; print(json.dumps(dict(os.environ)))"


def test_unwanted_variables_are_dropped_and_the_hook_of_uv_is_off():
    set_by_user = {
        "RAY_RUNTIME_ENV_HOOK": "a.b",
        "RAY_CLIENT_MODE": "1",
        "RAY_AUTH_TOKEN": "f" * 64,
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "1",
        "PYTHONPATH": "/nowhere",
    }
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, env=os.environ | set_by_user, capture_output=True, text=True, check=True)
    environment = json.loads(done.stdout)
    assert environment["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] == "0"
    assert environment["PYTHONSAFEPATH"] == "1"
    assert "/nowhere" not in environment.get("PYTHONPATH", "")
    assert not {"RAY_RUNTIME_ENV_HOOK", "RAY_CLIENT_MODE", "RAY_AUTH_TOKEN"} & set(environment)
