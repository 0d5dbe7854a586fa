"""One node: its processes, started in order and kept alive. Enters: settings. Leaves: two ports. Next: `roles.py`.

The supervisor learns of a death from the process's pidfd, at once, and of a process that is stuck
or stopped from the heartbeat in its slab. It starts another in the same slot; who talks to it finds
it again by itself (`simnode.live.link`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import ray
from ray.exceptions import RayError, RayTaskError

from actors.leftovers import RAY_LINK, runs_root, sweep_dead_nodes
from actors.options import ACTOR, use_fresh_token
from actors.ray_directory import make_outer_directory
from actors.ray_session import RaySession
from actors.roles import (
    ConnectionHandlerActor,
    ContractStoreActor,
    FrontDoorActor,
    MetricsExporterActor,
    ReassemblyServiceActor,
    RoleActor,
)
from simnode.live.logs import LogCollector
from simnode.live.pulse import Pulse
from simnode.live.settings import NodeSettings
from simnode.metrics.cgroups import usable_cpus
from simnode.metrics.model import Role
from simnode.metrics.reader import read_slot
from simnode.metrics.slab import StatsSlab, slab_path
from simnode.storage.data_directory import prepare_data_directory
from simnode.storage.run_directory import RunDirectory

logger = logging.getLogger(__name__)

DRAIN_TIMEOUT_S = 5.0
"""For all processes together; then they are killed."""

BROKEN_DRAIN_TIMEOUT_S = 1.5
"""The same when Ray is broken: a raylet's workers follow it within a second."""

LATE_TICK_S = 2.0
"""A supervisor that looks at the heartbeats so late was held up itself."""

RESTART_PAUSE_S = 0.2
RESTART_PAUSE_MAX_S = 5.0


class NodeStartFailed(Exception):
    """A process of the node did not start; nothing is left of the others.

    Attributes:
        process: its name (`front_door-0`), or `ray` if it was not even Ray that started.
        cause: what went wrong in it.
    """

    def __init__(self, process: str, cause: BaseException) -> None:
        super().__init__(f"{process}: {cause}")
        self.process = process
        self.cause = cause


class NodeBroken(Exception):
    """The node cannot go on, because a daemon of Ray's is gone."""


@dataclass(slots=True, eq=False)
class _Process:
    """An actor in its slot."""

    kind: type[RoleActor]
    slot: int
    incarnation: int = 0
    actor: Any = None
    pid: int = 0
    pidfd: int = -1
    has_ended: asyncio.Event = field(default_factory=asyncio.Event)
    started_at: float = 0.0
    pause_s: float = RESTART_PAUSE_S

    @property
    def name(self) -> str:
        return f"{self.kind.role}-{self.slot}"


class Node:
    """A running node. Use it as an async context manager.

    Args:
        make_settings: gets the run directory; `data_dir` in it means memory mode.

    Raises:
        NodeStartFailed: on entering, when a process of the node cannot do its work.
        StorageError: on entering, when it cannot work in its data directory.
    """

    def __init__(self, make_settings: Callable[[Path], NodeSettings]) -> None:
        self._make_settings = make_settings
        self._processes: list[_Process] = []
        self._restarts: set[asyncio.Task[None]] = set()
        self._is_up = False
        self._is_stopping = False
        self._daemon_fds: list[int] = []
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._hurried = asyncio.Event()
        self._checked_at = self._judge_from = 0.0
        self.port = 0
        self.metrics_port = 0

    @property
    def settings(self) -> NodeSettings:
        """What the node runs with; ports are the real ones."""
        return self._settings

    def pids(self) -> dict[str, int]:
        """The process of each slot (`contract_store-0`) that has started."""
        return {process.name: process.pid for process in self._processes if process.pid}

    @property
    def is_stopping(self) -> bool:
        """Whether the node is about to end, because it is left or did not start."""
        return self._is_stopping

    async def wait_broken(self) -> None:
        """Waits for as long as the node can work.

        Raises:
            NodeBroken: it cannot any more; leaving it drains what is left, and ends it.
        """
        await asyncio.shield(self._broken)

    def hurry(self) -> None:
        """Ends all of its processes at once. A drain under way ends too, and the clean-up follows it."""
        self._is_stopping = True
        self._hurried.set()
        if hasattr(self, "_ray"):
            self._ray.kill()

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    # ---- start -------------------------------------------------------------------------------

    async def _start(self) -> None:
        os.umask(0o077)  # inherited by Ray and the actors: what a node makes is for its user alone
        for leftover in sweep_dead_nodes():
            logger.info("swept %s, %d bytes of a node that is gone", leftover.path, leftover.nbytes)
        self._share = RunDirectory.create(runs_root(), secrets.token_hex(4))
        run_dir = self._share.path
        # Ray opens its directory to everybody, with each worker anew: it gets one inside a closed one
        ray_dir = make_outer_directory()
        (run_dir / RAY_LINK).symlink_to(ray_dir)
        self._settings = _with_absolute_paths(self._make_settings(run_dir))
        await self._prepare_data()
        self._logs = LogCollector(run_dir)
        self._logs.start()
        self._slab = StatsSlab.open(run_dir, Role.SUPERVISOR, 0, now_s=time.monotonic())
        self._pulse = Pulse(self._slab, self._check_heartbeats)
        self._pulse.start()
        use_fresh_token(run_dir)
        self._ray = RaySession(ray_dir, run_dir)
        try:
            self._ray.start(num_cpus=max(2, usable_cpus()))
        except Exception as error:
            raise NodeStartFailed("ray", error) from error
        self._watch_daemons()
        await self._start_actors()

    async def _prepare_data(self) -> None:
        """Damaged data ends the start here, before there are processes that could die of it."""
        settings = self._settings
        prepare = partial(prepare_data_directory, settings.data_dir, allow_lost=settings.allow_lost_segments)
        facts = await asyncio.get_running_loop().run_in_executor(None, prepare)
        self._settings = replace(settings, punches=facts.punches)

    async def _start_actors(self) -> None:
        reassembly, store = _Process(ReassemblyServiceActor, 0), _Process(ContractStoreActor, 0)
        front_door, exporter = _Process(FrontDoorActor, 0), _Process(MetricsExporterActor, 0)
        handlers = [_Process(ConnectionHandlerActor, slot) for slot in range(self._settings.handlers)]
        # each waits for the services it needs, so all may be created at once
        self._processes = [reassembly, store, exporter, front_door, *handlers]
        for process in self._processes:
            self._create(process)
        begun = [asyncio.ensure_future(self._begin(process)) for process in self._processes]
        all_begun = asyncio.gather(*begun)
        try:
            # a call to an actor would never return without Ray's daemons
            await asyncio.wait((all_begun, self._broken), return_when=asyncio.FIRST_COMPLETED)
            if self._broken.done():
                raise NodeStartFailed("ray", self._broken.exception() or NodeBroken())
            results = await all_begun
        finally:
            for task in begun:
                task.cancel()
            await asyncio.gather(all_begun, *begun, return_exceptions=True)
        self.metrics_port, self.port = results[2], results[3]
        self._settings = replace(self._settings, port=self.port, metrics_port=self.metrics_port)
        self._is_up = True

    def _create(self, process: _Process) -> None:
        remote = ray.remote(**ACTOR)(process.kind)
        process.actor = remote.remote(self._settings, process.slot, process.incarnation)

    async def _begin(self, process: _Process) -> Any:
        try:
            process.pid, result = await process.actor.start.remote()
        except RayTaskError as error:
            raise NodeStartFailed(process.name, error.cause) from error
        except RayError as error:  # it died of it
            raise NodeStartFailed(process.name, error) from error
        try:
            process.pidfd = os.pidfd_open(process.pid)
        except ProcessLookupError as error:
            raise NodeStartFailed(process.name, error) from error
        process.started_at = self._pulse.now()
        process.has_ended.clear()
        asyncio.get_running_loop().add_reader(process.pidfd, self._died, process)
        return result

    # ---- watch -------------------------------------------------------------------------------

    def _watch_daemons(self) -> None:
        """Nothing of Ray's says that a daemon is dead: calls to actors just never return."""
        for daemon in self._ray.daemons():
            try:
                fd = os.pidfd_open(daemon.pid)
            except ProcessLookupError as error:
                raise NodeStartFailed("ray", error) from error
            self._daemon_fds.append(fd)
            asyncio.get_running_loop().add_reader(fd, self._daemon_died, fd, f"{daemon.name()} (pid {daemon.pid})")

    def _daemon_died(self, fd: int, daemon: str) -> None:
        asyncio.get_running_loop().remove_reader(fd)
        if not self._is_stopping and not self._broken.done():
            self._is_stopping = True  # what dies of it is not to be started again
            logger.error("Ray's %s is gone; the node ends", daemon)
            self._broken.set_exception(NodeBroken(f"Ray's {daemon} is gone"))
            self._broken.exception()  # not everybody who runs a node waits for it

    def _died(self, process: _Process) -> None:
        self._forget_pidfd(process)
        process.has_ended.set()
        if self._is_stopping:
            return
        logger.warning("%s (pid %d) is gone; starting another", process.name, process.pid)
        task = asyncio.get_running_loop().create_task(self._restart(process))
        self._restarts.add(task)
        task.add_done_callback(self._restarts.discard)

    async def _restart(self, process: _Process) -> None:
        lived_s = self._pulse.now() - process.started_at
        process.pause_s = RESTART_PAUSE_S if lived_s > 60 else min(2 * process.pause_s, RESTART_PAUSE_MAX_S)
        while not self._is_stopping:
            process.incarnation += 1
            self._create(process)
            try:
                await self._begin(process)
            except NodeStartFailed as error:
                logger.error("did not start again: %s", error)
                ray.kill(process.actor)  # its process may be there still, and have the slot
                await asyncio.sleep(process.pause_s)
            else:
                return

    def _check_heartbeats(self, now_s: float) -> None:
        if now_s - self._checked_at > LATE_TICK_S:
            # whatever held this process up (Ctrl-Z, a debugger) may have held up the others: they
            # have all of `stuck_after_s` to beat again
            self._judge_from = now_s + self._settings.stuck_after_s
        self._checked_at = now_s
        if now_s < self._judge_from:
            return
        for process in self._processes:
            if process.pidfd < 0:
                continue
            record = read_slot(slab_path(self._settings.run_dir, process.kind.role, process.slot))
            if record.process is None or record.process.pid != process.pid:
                continue
            if now_s - record.heartbeat_s > self._settings.stuck_after_s:
                logger.error("%s (pid %d) has no heartbeat; killing it", process.name, process.pid)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)

    def _forget_pidfd(self, process: _Process) -> None:
        if process.pidfd >= 0:
            asyncio.get_running_loop().remove_reader(process.pidfd)
            os.close(process.pidfd)
            process.pidfd = -1

    # ---- stop --------------------------------------------------------------------------------

    async def _stop(self) -> None:
        """Drains in the order of the data's way if clients were served, ends every process, removes every file."""
        self._is_stopping = True
        for task in self._restarts:
            task.cancel()
        if self._is_up:
            await self._drain()
        self._forget_daemons()
        for process in self._processes:
            self._end(process)
        if hasattr(self, "_ray"):
            at_once = self._is_broken or self._hurried.is_set()
            await asyncio.get_running_loop().run_in_executor(None, partial(self._ray.end, at_once=at_once))
        if hasattr(self, "_pulse"):
            self._pulse.stop()
            self._slab.close()
        if hasattr(self, "_logs"):
            self._logs.close()
        if hasattr(self, "_share"):
            self._share.close()
            sweep_dead_nodes()

    @property
    def _is_broken(self) -> bool:
        return self._broken.done() and not self._broken.cancelled()

    def _end(self, process: _Process) -> None:
        if process.actor is None:
            return
        if not self._is_broken and not self._hurried.is_set():
            ray.kill(process.actor)  # Ray reports other deaths as crashes, on our standard error
        elif process.pidfd >= 0:  # without its daemons Ray cannot
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(process.pidfd, signal.SIGKILL)
        self._forget_pidfd(process)

    def _forget_daemons(self) -> None:
        for fd in self._daemon_fds:
            asyncio.get_running_loop().remove_reader(fd)
            os.close(fd)
        self._daemon_fds.clear()

    async def _drain(self) -> None:
        """Has the processes drain, in order, until all have, time is up or `hurry` is called."""
        timeout_s = BROKEN_DRAIN_TIMEOUT_S if self._is_broken else DRAIN_TIMEOUT_S
        draining = asyncio.ensure_future(self._drain_in_order())
        hurried = asyncio.ensure_future(self._hurried.wait())
        await asyncio.wait((draining, hurried), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if not draining.done() and not self._hurried.is_set():
            logger.warning("draining took over %.1f s; killing what is left", timeout_s)
        for task in (draining, hurried):
            task.cancel()
        await asyncio.gather(draining, hurried, return_exceptions=True)

    async def _drain_in_order(self) -> None:
        order = (FrontDoorActor, ConnectionHandlerActor, ContractStoreActor, ReassemblyServiceActor)
        for kind in (*order, MetricsExporterActor):
            running = [process for process in self._processes if process.kind is kind and process.pidfd >= 0]
            await asyncio.gather(*(_drain(process) for process in running))


async def _drain(process: _Process) -> None:
    """Has a process drain, or end: Ray may never answer a call to a process that is gone."""
    draining = asyncio.ensure_future(_call_drain(process))
    ended = asyncio.ensure_future(process.has_ended.wait())
    try:
        await asyncio.wait((draining, ended), return_when=asyncio.FIRST_COMPLETED)
    finally:
        draining.cancel()
        ended.cancel()


async def _call_drain(process: _Process) -> None:
    try:
        await process.actor.drain.remote()
    except RayError as error:
        logger.warning("%s did not drain: %s", process.name, error)


def _with_absolute_paths(settings: NodeSettings) -> NodeSettings:
    """The node's processes have another working directory than the user."""
    return replace(settings, run_dir=settings.run_dir.absolute(), data_dir=settings.data_dir.absolute())
