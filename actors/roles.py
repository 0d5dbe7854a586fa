"""Each role as an actor. Enters: settings. Leaves: a process with a service in it. Next: `node.py`.

The logic is in plain classes of `simnode`; these give it a process, a slab, a log and two methods,
`start` and `drain`. A server is a background task of the actor's loop, never a method that does not
return: that would keep the actor from ending.
"""

from __future__ import annotations

import gc
import os
import platform
import time
from importlib.metadata import version
from typing import Any

import simnode
from simnode.live.front_door import FrontDoor
from simnode.live.handlers.handler import ConnectionHandler
from simnode.live.logs import send_logs
from simnode.live.pulse import Pulse
from simnode.live.reassembly_service import ReassemblyService
from simnode.live.settings import NodeSettings
from simnode.live.store.store import ContractStore
from simnode.metrics.collector import BuildInfo
from simnode.metrics.exporter import Exporter
from simnode.metrics.model import Role
from simnode.metrics.slab import StatsSlab
from simnode.storage.run_directory import RunDirectory


class RoleActor:
    """What every role's process has.

    Args:
        settings: of the node.
        slot: which of its role's processes it is.
        incarnation: how many processes had the slot before.
    """

    role: Role

    def __init__(self, settings: NodeSettings, slot: int, incarnation: int) -> None:
        self._logs = send_logs(settings.run_dir, f"{self.role}-{slot}", as_json=settings.json_logs)
        self._share = RunDirectory.join(settings.run_dir)
        self._slab = StatsSlab.open(settings.run_dir, self.role, slot, now_s=time.monotonic())
        self._service = self.make_service(settings, slot, incarnation, self._slab)

    def make_service(self, settings: NodeSettings, slot: int, incarnation: int, slab: StatsSlab) -> Any:
        """The plain object that does the work."""
        raise NotImplementedError

    async def start(self) -> tuple[int, Any]:
        """Starts the service; returns this process's pid and whatever the service says (a port)."""
        self._logs.start()
        result = await self._service.start()
        # what is loaded by now stays: to look through it took a full collection 20 ms of the event loop's time
        gc.collect()
        gc.freeze()
        return os.getpid(), result

    async def drain(self) -> None:
        """Stops the service; the process is killed afterwards."""
        await self._service.drain()
        self._logs.stop()


class FrontDoorActor(RoleActor):
    """Accepts clients."""

    role = Role.FRONT_DOOR

    def make_service(self, settings: NodeSettings, slot: int, incarnation: int, slab: StatsSlab) -> Any:
        return FrontDoor(settings, slab)


class ConnectionHandlerActor(RoleActor):
    """Talks to clients."""

    role = Role.CONNECTION_HANDLER

    def make_service(self, settings: NodeSettings, slot: int, incarnation: int, slab: StatsSlab) -> Any:
        return ConnectionHandler(settings, slot, incarnation, slab)


class ReassemblyServiceActor(RoleActor):
    """Owns the segments."""

    role = Role.REASSEMBLY_SERVICE

    def make_service(self, settings: NodeSettings, slot: int, incarnation: int, slab: StatsSlab) -> Any:
        return ReassemblyService(settings, slab)


class ContractStoreActor(RoleActor):
    """Owns the contracts."""

    role = Role.CONTRACT_STORE

    def make_service(self, settings: NodeSettings, slot: int, incarnation: int, slab: StatsSlab) -> Any:
        return ContractStore(settings, slab)


class MetricsExporterActor(RoleActor):
    """Serves `/metrics`."""

    role = Role.METRICS_EXPORTER

    def make_service(self, settings: NodeSettings, slot: int, incarnation: int, slab: StatsSlab) -> Any:
        return _ExporterService(settings, slab)


class _ExporterService:
    def __init__(self, settings: NodeSettings, slab: StatsSlab) -> None:
        self._settings = settings
        self._pulse = Pulse(slab, lambda now_s: None)
        self._exporter: Exporter | None = None

    async def start(self) -> int:
        build = BuildInfo(version=simnode.__version__, python=platform.python_version(), ray=version("ray"))
        settings = self._settings
        self._exporter = Exporter(
            settings.run_dir,
            build=build,
            host=settings.metrics_host,
            port=settings.metrics_port,
            allowed=settings.metrics_hosts,
        )
        self._pulse.start()
        return self._exporter.server.port

    async def drain(self) -> None:
        self._pulse.stop()
        if self._exporter is not None:
            self._exporter.close()
