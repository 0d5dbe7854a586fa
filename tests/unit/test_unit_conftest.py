import importlib
import socket
import sys
import time
from types import ModuleType

import pytest


def test_sleeping_in_a_unit_test_is_an_error():
    with pytest.raises(AssertionError, match="neither sleeps"):
        time.sleep(0)


def test_opening_a_socket_in_a_unit_test_is_an_error():
    with pytest.raises(AssertionError, match="nor opens sockets"):
        socket.socket()


def test_starting_ray_in_a_unit_test_is_an_error():
    if isinstance(sys.modules["ray"], ModuleType):
        with pytest.raises(AssertionError, match="nor starts Ray"):
            importlib.import_module("ray").init()
    else:
        with pytest.raises(ImportError):
            importlib.import_module("ray")
