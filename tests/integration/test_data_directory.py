"""A node on data that is damaged, open to others, or on a filesystem that can do little."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from simnode.client import connect
from simnode.protocol.limits import MIB
from simnode.testing import running_node
from tests.support.live_node import live_node, wait_until
from tests.support.mounts import mounted

PAGE = 4096


def refused(*options: str | Path) -> str:
    """What `simnode serve` says when it does not start."""
    command = [sys.executable, "-m", "simnode", "serve", "--port", "0", "--metrics-port", "0", *options]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def open_to_others(directory: Path) -> list[str]:
    paths = [directory, *directory.rglob("*")]
    return [str(path) for path in paths if not path.is_symlink() and path.lstat().st_mode & 0o077]


async def put(url: str, state: bytes, params: bytes = b"") -> None:
    async with connect(url) as client:
        await client.put(code=b"code", params=params, state=state)


async def test_a_loose_umask_and_an_open_directory_show_nothing_to_other_users(tmp_path):
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    data_dir.chmod(0o777)

    with umask(0), running_node("--data-dir", str(data_dir)) as node:
        await put(node.url, bytes(MIB))
        await put(node.url, b"small", b"small")

        assert open_to_others(data_dir) == []
        assert open_to_others(Path(node.run_dir)) == []
        # Ray opens what is inside, which nobody reaches
        assert (Path(node.run_dir) / "ray").readlink().stat().st_mode & 0o777 == 0o700


async def test_damaged_data_ends_the_start_with_one_line_and_whole_data_is_served_again(tmp_path):
    data_dir = tmp_path / "data"
    with running_node("--data-dir", str(data_dir)) as node:
        await put(node.url, bytes(MIB))
    index, epoch = data_dir / "index" / "data.mdb", data_dir / "segments" / "epoch"
    (segment,) = data_dir.glob("segments/*.seg")

    for path in (index, epoch, segment):
        whole = path.read_bytes()
        os.truncate(path, len(whole) - PAGE if path is index else 0)

        message = refused("--data-dir", data_dir)

        assert message.startswith(f"simnode: the node did not start: {path}")
        assert len(path.read_bytes()) == (len(whole) - PAGE if path is index else 0)
        path.write_bytes(whole)

    os.truncate(segment, 0)
    with running_node("--data-dir", str(data_dir), "--allow-lost-segments") as node:
        await put(node.url, b"small", b"small")


def test_a_store_that_finds_its_index_cut_short_says_so_and_does_not_die_of_it(tmp_path):
    data_dir, log = tmp_path / "data", tmp_path / "log"
    with live_node(data_dir=str(data_dir), durable=True, log=log) as node:
        index = data_dir / "index" / "data.mdb"
        os.truncate(index, index.stat().st_size - PAGE)
        node.kill("contract_store-0")
        wait_until("the successor looks at the index", lambda: f"{index} is cut short" in log.read_text(), timeout_s=20)
        assert "SIGBUS" not in log.read_text()


def test_a_directory_of_other_files_is_refused_untouched(tmp_path):
    (tmp_path / "letter.txt").write_text("mine")

    assert "has other files (letter.txt)" in refused("--data-dir", tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


async def test_without_punching_holes_a_node_works_and_its_figures_are_those_of_the_disk(tmp_path):
    """Ramfs neither punches holes nor allocates: the C library writes the blocks instead."""
    disk, log = tmp_path / "disk", tmp_path / "log"
    disk.mkdir()
    with mounted("none", disk, "-t", "ramfs"):
        with live_node(data_dir=str(disk / "data"), durable=True, log=log) as node:
            async with connect(node.url) as client:
                for size in (MIB + 100, 5 * MIB + 1, 3 * MIB):  # replaced, and recycled
                    await client.put(code=b"code", params=b"a", state=bytes(size))
                    key = await client.put(code=b"code", params=b"b", state=bytes(size))
                    await client.get(key)  # mapped from now on

            def held_bytes() -> int:
                return sum(path.stat().st_blocks * 512 for path in (disk / "data" / "segments").glob("*.seg"))

            wait_until(
                "the figures of the next tick",
                lambda: node.metric("simnode_segment_bytes") == held_bytes() > 6 * MIB,
                timeout_s=10,
            )
        text = log.read_text()
        assert "Traceback" not in text
        assert text.count("cannot give back parts of a file") == 1
