"""Options as environment variables. Enters: the environment. Leaves: names of variables. Next: `serve.py`.

Every option of `serve` has one: `--metrics-port` is `SIMNODE_METRICS_PORT`. The command line wins over
the environment, the environment over a `--config` file. Options that may be repeated are separated by
spaces.
"""

from __future__ import annotations

from collections.abc import MutableMapping

PREFIX = "SIMNODE_"

PORT_OPTIONS = ("--port", "--metrics-port")


def variable_of(option: str) -> str:
    """The environment variable of an option.

    >>> variable_of("--metrics-port")
    'SIMNODE_METRICS_PORT'
    """
    return PREFIX + option.removeprefix("--").replace("-", "_").upper()


def drop_service_links(environment: MutableMapping[str, str]) -> list[str]:
    """Removes what Kubernetes sets in each pod beside a Service called `simnode` or `simnode-metrics`.

    It looks like `SIMNODE_PORT=tcp://10.0.0.1:7509`, which is the Service's address and no port of ours.

    Returns:
        The names of the removed variables.
    """
    links = [name for name in map(variable_of, PORT_OPTIONS) if "://" in environment.get(name, "")]
    for name in links:
        del environment[name]
    return links
