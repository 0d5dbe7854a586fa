"""Ray for one node: started, watched, ended. Enters: directories. Leaves: processes that are gone. Next: `node.py`.

Ray inherits from its driver what a user may have set: a working directory, which Ray puts first on
the import path of its workers, and signals that a terminal sends to a whole process group. The node
therefore starts Ray in the run directory and with those signals blocked.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import ray

from actors.leftovers import RAY_LINK
from actors.options import INIT

logger = logging.getLogger(__name__)

ESSENTIAL_DAEMONS = ("gcs_server", "raylet")
"""Ray does nothing any more without these. (The raylet ends itself when one of its agents dies.)"""

END_TIMEOUT_S = 2.0
"""For Ray's processes to end, until they are killed; and for the calling process to leave Ray."""

TERMINAL_SIGNALS = frozenset({signal.SIGHUP, signal.SIGQUIT})
"""A terminal sends them to Ray's daemons too, which must outlive the drain. (Ray blocks SIGINT itself.)"""


class RaySession:
    """Ray's processes of one node.

    Args:
        outer_dir: a closed directory, in which Ray's own is made.
        run_dir: of the node; the working directory of Ray's processes.
    """

    def __init__(self, outer_dir: Path, run_dir: Path) -> None:
        self._outer_dir = outer_dir
        self._run_dir = run_dir

    def start(self, *, num_cpus: int) -> None:
        """Starts Ray and connects to it.

        Raises:
            asyncio.CancelledError: SIGTERM came meanwhile.
            Exception: whatever Ray raises.
        """
        with _signal_handler_kept(), _terminal_signals_blocked(), _working_directory(self._run_dir):
            ray.init(**INIT, num_cpus=num_cpus, _temp_dir=str(self._outer_dir / RAY_LINK))

    def daemons(self) -> list[psutil.Process]:
        """The processes without which the node cannot go on."""
        return [process for process in self.processes() if process.name() in ESSENTIAL_DAEMONS]

    def processes(self) -> list[psutil.Process]:
        """Ray's daemons of this node and the actors, also those whose parent has died."""
        ours, found = os.getpid(), []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                if process.pid != ours and process.cwd() == str(self._run_dir):
                    command = process.cmdline()
                    # a user's shell may stand in the run directory, too
                    if command[:1] and (command[0].startswith("ray::") or str(self._outer_dir) in " ".join(command)):
                        found.append(process)
        return found

    def kill(self) -> None:
        """Ends every process at once."""
        _kill(self.processes())

    def end(self, *, at_once: bool) -> None:
        """Leaves Ray and waits until none of its processes is left; takes some seconds at most.

        Args:
            at_once: kill the processes first, because Ray is broken or the user is in a hurry.
        """
        processes = self.processes()
        if at_once:
            _kill(processes)
        # in a daemon thread: Ray's clean-up may wait for processes that are gone
        leaving = threading.Thread(target=ray.shutdown, name="ray.shutdown", daemon=True)
        leaving.start()
        leaving.join(END_TIMEOUT_S if at_once else 2 * END_TIMEOUT_S)
        if leaving.is_alive():
            logger.warning("Ray does not shut down; killing its processes")
        alive = psutil.wait_procs(processes, timeout=0 if leaving.is_alive() else END_TIMEOUT_S)[1]
        alive = list({*alive, *self.processes()})  # a worker may have been starting
        _kill(alive)
        psutil.wait_procs(alive, timeout=END_TIMEOUT_S)


def _kill(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


@contextmanager
def _working_directory(path: Path) -> Iterator[None]:
    """A descriptor leads back: the old directory may have no path any more."""
    before = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.chdir(path)
        yield
    finally:
        os.fchdir(before)
        os.close(before)


@contextmanager
def _terminal_signals_blocked() -> Iterator[None]:
    """Ray's processes inherit the mask; a signal that comes meanwhile is delivered afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, TERMINAL_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _signal_handler_kept() -> Iterator[None]:
    """Ray puts a SIGTERM handler of its own in place, which exits wherever it is; this undoes that.

    Raises:
        asyncio.CancelledError: there was one before Ray was done.
    """
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit as error:
        raise asyncio.CancelledError("SIGTERM came while Ray was starting") from error
    finally:
        signal.signal(signal.SIGTERM, handler)
