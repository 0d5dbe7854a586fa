"""What surrounds a node: Ray's daemons that die, a terminal's signals, a user's directory and variables."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from simnode import testing
from simnode.testing import RunningNode, running_node
from tests.support.live_node import is_running, wait_until

SERVE = ("serve", "--port", "0", "--metrics-port", "0", "--handlers", "2", "--json")
END_TIMEOUT_S = 5.0

Served = tuple["subprocess.Popen[bytes]", RunningNode]


@contextmanager
def served(log: Path, cwd: Path | None = None, **environment: str) -> Iterator[Served]:
    """A node, as the command starts it."""
    command = (str(Path(sys.executable).with_name("simnode")), *SERVE)
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
            cwd=cwd,
            env=os.environ | environment,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, log.read_text()
            yield process, RunningNode(**json.loads(line)["ready"])
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(20)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def exit_status(process: subprocess.Popen[bytes], log: Path, *, within_s: float) -> int:
    """Waits for the node's end; if it does not come in time, the failure shows the node's log."""
    try:
        return process.wait(within_s)
    except subprocess.TimeoutExpired:
        pytest.fail(f"the node runs on after {within_s:g} s:\n{log.read_text()}")


def assert_nothing_is_left(node: RunningNode, ray_dir: Path) -> None:
    wait_until("the processes are gone", lambda: not any(map(is_running, node.pids.values())), timeout_s=2)
    assert not Path(node.run_dir).exists()
    assert not ray_dir.exists()


@pytest.mark.parametrize("daemon", ["raylet", "gcs_server"])
def test_a_daemon_of_rays_dies_and_the_node_ends_with_a_line(daemon: str, log: Path):
    with served(log) as (process, node):
        ray_dir = (Path(node.run_dir) / "ray").resolve()
        [pid] = [child.pid for child in psutil.Process(process.pid).children() if child.name() == daemon]
        os.kill(pid, signal.SIGKILL)
        assert exit_status(process, log, within_s=END_TIMEOUT_S) == 1
        assert f"simnode: Ray's {daemon} (pid {pid}) is gone" in log.read_text()
        assert_nothing_is_left(node, ray_dir)


@pytest.mark.parametrize("signum", [signal.SIGHUP, signal.SIGINT, signal.SIGQUIT])
def test_a_signal_of_the_terminal_drains(signum: signal.Signals, log: Path):
    """The terminal sends it to the whole group, Ray's daemons included."""
    with served(log) as (process, node):
        ray_dir = (Path(node.run_dir) / "ray").resolve()
        os.killpg(process.pid, signum)
        assert exit_status(process, log, within_s=10) == 0
        assert "did not drain" not in log.read_text()
        assert_nothing_is_left(node, ray_dir)


def test_a_second_signal_ends_the_drain_and_not_the_clean_up(log: Path):
    with served(log) as (process, node):
        ray_dir = (Path(node.run_dir) / "ray").resolve()
        os.kill(node.pids["contract_store-0"], signal.SIGSTOP)  # it cannot drain
        process.send_signal(signal.SIGINT)
        wait_until("it drains", lambda: not is_running(node.pids["front_door-0"]) or _refuses(node), timeout_s=5)
        process.send_signal(signal.SIGINT)
        assert exit_status(process, log, within_s=END_TIMEOUT_S) == -signal.SIGINT
        assert_nothing_is_left(node, ray_dir)


def _refuses(node: RunningNode) -> bool:
    import socket
    from urllib.parse import urlsplit

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", urlsplit(node.url).port or 0)) != 0


def test_standard_output_has_our_line_only(log: Path):
    """Ray prints a coloured line when a worker dies."""
    with served(log) as (process, node):
        os.kill(node.pids["contract_store-0"], signal.SIGKILL)
        wait_until("Ray or we say so", lambda: "contract_store-0" in log.read_text(), timeout_s=10)
        process.terminate()
        exit_status(process, log, within_s=20)
        assert process.stdout is not None
        assert process.stdout.read() == b""


@pytest.fixture
def users_directory(tmp_path: Path) -> Path:
    """A directory with names that ours and our dependencies' have, too."""
    directory = tmp_path / "home"
    (directory / "actors").mkdir(parents=True)
    for name in ("actors/__init__", "websockets", "lmdb", "types", "logging", "queue"):
        (directory / f"{name}.py").write_text("raise SystemExit('imported from the user')")
    return directory


def test_modules_in_the_current_directory_are_not_imported(users_directory: Path, log: Path):
    with served(log, cwd=users_directory) as (process, node):
        assert Path(f"/proc/{node.pids['contract_store-0']}/cwd").readlink() == Path(node.run_dir)
        process.terminate()
        assert exit_status(process, log, within_s=20) == 0


def test_modules_and_variables_of_the_user_are_not_used(users_directory: Path, tmp_path: Path, log: Path):
    for name in ("types", "logging", "queue"):  # these break the user's own Python
        (users_directory / f"{name}.py").unlink()
    long = tmp_path / ("x" * 40)
    long.mkdir()
    with served(
        log,
        cwd=users_directory,
        PYTHONPATH=str(users_directory),
        RAY_RUNTIME_ENV_HOOK="nowhere.hook",
        RAY_CLIENT_MODE="1",
        RAY_AUTH_TOKEN="f" * 64,
        TMPDIR=str(long),
    ) as (process, _):
        process.terminate()
        assert exit_status(process, log, within_s=20) == 0


def test_fixture_works_among_modules_of_the_user(users_directory: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(users_directory)
    monkeypatch.setenv("PYTHONPATH", str(users_directory))
    with running_node("--handlers", "2") as node:
        assert os.getsid(node.pid) == node.pid


def test_fixture_says_why_a_node_did_not_start(tmp_path: Path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(RuntimeError, match=r"before it was ready:\n.*file"),
        running_node("--data-dir", f"{tmp_path}/file/x"),
    ):
        pass


def test_fixture_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(testing, "START_TIMEOUT_S", 0.1)
    with pytest.raises(RuntimeError, match="not ready within"), running_node():
        pass


def test_node_of_the_fixture_ends_with_a_killed_pytest():
    program = (
        "import os, signal\nfrom simnode.testing import running_node\n"
        "with running_node('--handlers', '2') as node:\n"
        "    print(node.pid, node.run_dir, flush=True)\n    os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    pid, run_dir = done.stdout.split()
    wait_until("the node is gone", lambda: not is_running(int(pid)), timeout_s=20)
    assert not Path(run_dir).exists()
