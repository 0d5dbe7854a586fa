"""Unit tests know no clock, no network and no Ray: reaching for one is an error here, not a slow test."""

import socket
import sys
import time
from typing import NoReturn

import pytest


@pytest.fixture(autouse=True)
def no_outside_world(monkeypatch):
    def refuse(*_: object, **__: object) -> NoReturn:
        raise AssertionError("a unit test neither sleeps nor opens sockets nor starts Ray: see tests/integration/")

    monkeypatch.setattr(time, "sleep", refuse)
    # not the name `socket.socket`, which others have subclassed and check instances against
    monkeypatch.setattr(socket.socket, "__init__", refuse)
    if "ray" in sys.modules:
        monkeypatch.setattr(sys.modules["ray"], "init", refuse)
    else:
        monkeypatch.setitem(sys.modules, "ray", None)
