"""Connections that do nothing. Driver in Python.

In: a URL without parameters. Out: a line `ready` when some have come and gone, a line `open` when
all are open, and no more until a line on stdin lets it end.
"""

from __future__ import annotations

import argparse
import resource
import sys

from tests.bench.drivers.wire import connect

SPARE_FILES = 64


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--connections", type=int, default=2000)
    parser.add_argument("--warmup", type=int, default=100)
    options = parser.parse_args()

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, options.connections + SPARE_FILES), most))
    url = f"{options.url}?encodingProtocol=native"
    for sock in [connect(url) for _ in range(options.warmup)]:
        sock.close()
    print("ready", flush=True)
    sys.stdin.readline()
    sockets = [connect(url) for _ in range(options.connections)]
    print("open", flush=True)
    sys.stdin.readline()
    for sock in sockets:
        sock.close()


if __name__ == "__main__":
    main()
