"""An event loop in a thread of its own. Enters: coroutines, from any thread. Leaves: their results. Next: `client.py`.

No caller waits for a thread that is gone: what ended it is raised in every call that is under way,
and every later call fails. A process that was forked has no such thread, and is told so.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, InvalidStateError
from functools import partial
from typing import Any, TypeVar

from simnode.client.exceptions import ClientClosed

R = TypeVar("R")

EXIT_TIMEOUT_S = 5.0
"""How long the end of the interpreter waits for the thread."""

logger = logging.getLogger("simnode.client")


class LoopThread:
    """Runs coroutines for callers that have no event loop. May be started again once it has stopped."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        #: the process that has the thread
        self._pid = 0
        #: while coroutines can be run
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._is_to_stop = False
        #: what ended the thread, if it did not end because it was to stop
        self._reason: BaseException | None = None
        #: what is under way
        self._calls: dict[Future[Any], Coroutine[Any, Any, Any]] = {}
        #: that part of it which has begun; of the thread alone
        self._tasks: dict[Future[Any], asyncio.Task[Any]] = {}

    @property
    def is_running(self) -> bool:
        """Whether there is a loop to run something in."""
        return self._loop is not None and self._pid == os.getpid()

    def start(self) -> None:
        """Returns when the loop runs.

        Raises:
            ClientClosed: it runs already.
            RuntimeError, OSError: whatever kept the thread or its loop from starting: no threads or no
                descriptors are left, or the "thread" is a greenlet in a thread that has a loop (gevent).
        """
        if self.is_running:
            raise ClientClosed("a client is opened once")
        self._lock = threading.Lock()  # in a forked process, the old one is for ever as it was
        self._calls, self._tasks = {}, {}
        self._pid, self._reason, self._is_to_stop = os.getpid(), None, False
        started: Future[None] = Future()
        # a daemon, so that a client that was never closed does not keep the program alive
        thread = threading.Thread(target=self._work, args=(started,), name="simnode-client", daemon=True)
        thread.start()
        self._thread = thread
        atexit.register(self._leave)
        try:
            started.result()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends the loop and its thread; what is under way fails with `ClientClosed`. May be called again."""
        self._end(None)

    def run(self, coroutine: Coroutine[Any, Any, R], *, undo: Callable[[R], object] | None = None) -> R:
        """Runs a coroutine there and waits for it; interrupting the wait cancels it.

        Args:
            coroutine: what to run.
            undo: called in the thread with a result that came too late for a caller who was interrupted.

        Raises:
            ClientClosed: the thread is not running, or has ended meanwhile; its cause is what ended it.
            RuntimeError: called in the thread itself, which would wait for itself (the caller's fault).
        """
        call = self.begin(coroutine, undo=undo)
        try:
            return call.result()
        except BaseException:
            # either its own exception, or an interruption of this thread: a result that is there is not taken
            if call.cancel():
                self._call_in_loop(self._cancel, call)
            elif undo is not None and call.exception() is None:
                self._call_in_loop(undo, call.result())
            raise

    def begin(self, coroutine: Coroutine[Any, Any, R], *, undo: Callable[[R], object] | None = None) -> Future[R]:
        """As `run`, without waiting."""
        call: Future[R] = Future()
        try:
            if self._pid != os.getpid() and self._pid:
                raise ClientClosed("the client was opened by another process, of which this one is a fork")
            if self._thread is threading.current_thread():
                raise RuntimeError("a synchronous client cannot be used in its own thread (by `on_event`, say)")
            with self._lock:
                if self._loop is None:
                    raise self._why_not()
                self._calls[call] = coroutine
        except BaseException:
            coroutine.close()
            raise
        self._call_in_loop(self._begin, coroutine, call, undo)
        return call

    # ---- in the caller's thread --------------------------------------------------------------

    def _call_in_loop(self, callback: Callable[..., object], *args: Any) -> None:
        loop = self._loop
        if loop is not None:
            try:
                loop.call_soon_threadsafe(callback, *args)
            except RuntimeError:
                pass  # it was closed just now, which fails what is under way

    def _why_not(self) -> ClientClosed:
        reason = self._reason
        error = ClientClosed("the client is not open" if reason is None else f"the client's thread ended: {reason!r}")
        error.__cause__ = reason
        return error

    def _leave(self) -> None:
        """The interpreter ends: soon no other thread runs, and whoever waits for one waits for ever."""
        self._end(EXIT_TIMEOUT_S)

    def _end(self, timeout_s: float | None) -> None:
        thread, self._thread = self._thread, None
        if thread is None or self._pid != os.getpid():
            return
        atexit.unregister(self._leave)
        self._is_to_stop = True  # the loop may not be there yet
        if self._stop is not None:
            self._call_in_loop(self._stop.set)
        thread.join(timeout_s)

    # ---- in the thread -----------------------------------------------------------------------

    def _work(self, started: Future[None]) -> None:
        reason: BaseException | None = None
        main = self._main(started)
        try:
            _check_own_thread()
            with asyncio.Runner() as runner:
                try:
                    runner.run(main)
                except BaseException as error:
                    self._reason = error  # known before the runner cancels what is under way
                    raise
        except BaseException as error:
            reason = error
        main.close()  # if it never began
        with self._lock:
            self._loop, self._reason = None, reason
            calls, self._calls = self._calls, {}
        for call, coroutine in calls.items():
            coroutine.close()  # if it never began
            _settle(call, error=self._why_not())
        if reason is not None and not _settle(started, error=reason):
            logger.error("the thread of a client ended", exc_info=reason)

    async def _main(self, started: Future[None]) -> None:
        self._stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        started.set_result(None)
        if not self._is_to_stop:
            await self._stop.wait()

    def _begin(self, coroutine: Coroutine[Any, Any, R], call: Future[R], undo: Callable[[R], object] | None) -> None:
        if call.cancelled() or self._is_to_stop or self._reason is not None:  # the loop only cancels what it has
            del self._calls[call]
            coroutine.close()
            _settle(call, error=self._why_not())
            return
        task = self._tasks[call] = asyncio.get_running_loop().create_task(coroutine)
        task.add_done_callback(partial(self._finish, call, undo))

    def _cancel(self, call: Future[Any]) -> None:
        task = self._tasks.get(call)
        if task is not None:
            task.cancel()

    def _finish(self, call: Future[R], undo: Callable[[R], object] | None, task: asyncio.Task[R]) -> None:
        del self._calls[call], self._tasks[call]
        if task.cancelled():  # by its caller, or because the thread ends
            _settle(call, error=self._why_not())
        elif (error := task.exception()) is not None:
            _settle(call, error=error)
        else:
            try:
                call.set_result(task.result())
            except InvalidStateError:  # its caller was interrupted
                if undo is not None:
                    undo(task.result())


def _check_own_thread() -> None:
    """Raises RuntimeError when the thread is a greenlet in a thread that runs a loop already."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(
        "another event loop runs in this thread, so the client's cannot: under gevent, whose threads are all "
        "one, one synchronous client can be open at a time"
    )


def _settle(call: Future[Any], *, error: BaseException) -> bool:
    """Whether `call` gets this error: not if it has an outcome, or its caller was interrupted."""
    try:
        call.set_exception(error)
    except InvalidStateError:
        return False
    return True
