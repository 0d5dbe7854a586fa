"""`put`, `get`, `update`, `subscribe` without a node; in this directory because an event loop needs a socket pair."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from simnode.cli import transfer
from simnode.client import ConnectionLost, Notification
from simnode.protocol.blob import Blob
from simnode.protocol.keys import encode_base58
from simnode.protocol.limits import MIB
from simnode.protocol.messages.contracts import ContractKey, Delta, State, StateAndDelta
from tests.support.mounts import mounted

KEY = ContractKey(bytes(range(32)), bytes(32))
NAME = encode_base58(KEY.instance)


class Stream:
    key = KEY

    def __init__(self, pieces: list[bytes], error: Exception | None = None) -> None:
        self.total_bytes = sum(map(len, pieces))
        self._pieces = pieces
        self._error = error

    async def __aiter__(self):
        for piece in self._pieces:
            yield memoryview(piece)
        if self._error is not None:
            raise self._error


class Client:
    """Answers with what it is told to, and remembers what it was asked."""

    unsent_bytes = 0

    def __init__(self, *, stream: Stream | None = None, notes: list[Notification] | None = None) -> None:
        self._stream = stream
        self._notes = notes or []
        self.calls: list[tuple[str, dict[str, object]]] = []

    @asynccontextmanager
    async def get_stream(self, contract):
        yield self._stream

    async def full_key(self, contract):
        return KEY

    async def put(self, **payloads):
        self.calls.append(("put", {name: bytes(value) for name, value in payloads.items()}))
        return KEY

    async def update(self, contract, **payloads):
        self.calls.append(("update", {name: bytes(value) for name, value in payloads.items()}))
        return b"\xab" * 32

    async def subscribe(self, contract):
        self.calls.append(("subscribe", {}))

    async def notifications(self):
        for note in self._notes:
            yield note


async def test_put_without_code_stores_under_the_built_in_module_and_prints_the_key(tmp_path, capsys):
    (tmp_path / "state").write_bytes(b"hello")
    client = Client()

    await transfer.put(client, tmp_path / "state", code=None, params=b"p", subscribe=False, as_json=False)

    ((_, payloads),) = client.calls
    assert payloads == {"code": b"\0asm\x01\0\0\0", "params": b"p", "state": b"hello", "subscribe": b""}
    assert capsys.readouterr().out == f"{NAME}\n"


async def test_an_empty_file_is_an_empty_state_though_it_cannot_be_mapped(tmp_path):
    (tmp_path / "state").touch()
    client = Client()

    await transfer.put(client, tmp_path / "state", code=tmp_path / "state", params=b"", subscribe=False, as_json=True)

    assert client.calls[0][1]["state"] == client.calls[0][1]["code"] == b""


async def test_get_writes_the_pieces_in_order(tmp_path, capsys):
    (tmp_path / "out").write_bytes(b"something older and longer")

    await transfer.get(Client(stream=Stream([b"ab", b"c"])), KEY.instance, tmp_path / "out", as_json=True)

    assert (tmp_path / "out").read_bytes() == b"abc"
    assert json.loads(capsys.readouterr().out) == {"key": NAME, "bytes": 3, "file": str(tmp_path / "out")}


async def test_get_leaves_the_old_file_and_nothing_else_when_the_connection_ends(tmp_path):
    (tmp_path / "out").write_bytes(b"old")

    with pytest.raises(ConnectionLost):
        await transfer.get(
            Client(stream=Stream([b"ab"], ConnectionLost())), KEY.instance, tmp_path / "out", as_json=True
        )

    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out").read_bytes() == b"old"


async def test_get_does_not_replace_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)

    await transfer.get(Client(stream=Stream([b"ab"])), KEY.instance, tmp_path / "pipe", as_json=False)

    assert os.read(reader, 3) == b"ab"
    os.close(reader)


ROOT = Path(__file__).parents[2]


async def got(path: Path, pieces: list[bytes] | None = None) -> None:
    await transfer.get(Client(stream=Stream(pieces or [b"ab", b"c"])), KEY.instance, path, as_json=False)


class UnaskedClient(Client):
    """A node that nobody may ask."""

    @asynccontextmanager
    async def get_stream(self, contract):
        raise AssertionError("the file cannot be written, so nothing is fetched")
        yield


async def test_get_follows_a_link_to_a_file_and_to_one_that_is_not_there_yet(tmp_path):
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("second")
    (tmp_path / "second").symlink_to(tmp_path / "real")
    (tmp_path / "dangling").symlink_to("new")

    await got(tmp_path / "link")
    await got(tmp_path / "dangling")

    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "dangling").is_symlink()
    assert (tmp_path / "real").read_bytes() == (tmp_path / "new").read_bytes() == b"abc"


async def test_get_keeps_mode_owner_and_attributes_of_what_it_replaces(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"old")
    file.chmod(0o640)
    os.setxattr(file, "user.origin", b"here")
    before = file.stat()

    await got(file)

    assert file.read_bytes() == b"abc"
    assert (file.stat().st_mode, file.stat().st_uid) == (before.st_mode, before.st_uid)
    assert file.stat().st_ino != before.st_ino  # as a whole
    assert os.getxattr(file, "user.origin") == b"here"


async def test_get_makes_a_new_file_with_the_mode_of_the_umask(tmp_path):
    mask = os.umask(0o027)
    try:
        await got(tmp_path / "file")
    finally:
        os.umask(mask)

    assert (tmp_path / "file").stat().st_mode & 0o7777 == 0o640


async def test_get_to_a_file_of_two_names_keeps_both_and_says_so(tmp_path, capsys):
    (tmp_path / "file").write_bytes(b"something older and longer")
    (tmp_path / "other").hardlink_to(tmp_path / "file")

    await got(tmp_path / "file")

    assert (tmp_path / "file").samefile(tmp_path / "other")
    assert (tmp_path / "other").read_bytes() == b"abc"
    assert "file is written in place, and incomplete until the end: it has 2 names" in capsys.readouterr().err


async def test_a_name_may_be_as_long_as_the_filesystem_allows(tmp_path):
    await got(tmp_path / ("n" * 250))

    assert (tmp_path / ("n" * 250)).read_bytes() == b"abc"


# not /dev/stdout: a `get` that replaced it would harm the machine, as root; it is a link just like this one
@pytest.mark.parametrize("name", ["/dev/fd/1", "/proc/self/fd/1", "link"])
def test_standard_output_by_any_name_goes_where_the_shell_sent_it_after_what_is_there(tmp_path, name):
    (tmp_path / "link").symlink_to("/proc/self/fd/1")
    (tmp_path / "out").write_bytes(b"before ")
    path = name if name.startswith("/") else str(tmp_path / name)
    with (tmp_path / "out").open("ab") as out:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, __file__, path], env=environment, stdout=out, check=True)

    assert (tmp_path / "out").read_bytes() == b"before abc"
    assert (tmp_path / "link").is_symlink()


async def test_get_writes_to_a_descriptor_that_it_was_given(tmp_path):
    reader, writer = os.pipe()

    await got(Path(f"/dev/fd/{writer}"))

    assert os.read(reader, 4) == b"abc"
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize(
    "kind", ["directory", "nowhere", "too long", "read-only descriptor", "loop", "not a directory"]
)
async def test_what_cannot_be_written_is_refused_before_the_node_is_asked(tmp_path, kind):
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    reader, writer = os.pipe()
    path = {
        "directory": tmp_path,
        "nowhere": tmp_path / "no" / "file",
        "too long": tmp_path / ("n" * 256),
        "read-only descriptor": Path(f"/dev/fd/{reader}"),
        "loop": tmp_path / "loop",
        "not a directory": tmp_path / "file" / "file",
    }[kind]

    with pytest.raises(OSError, match="Errno") as caught:
        await transfer.get(UnaskedClient(), KEY.instance, path, as_json=False)

    assert caught.value.filename == str(path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "loop"]
    os.close(reader)
    os.close(writer)


async def test_a_file_that_is_written_in_place_stays_as_it_was_when_the_node_has_no_such_contract(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "other").hardlink_to(tmp_path / "file")

    with pytest.raises(AssertionError):
        await transfer.get(UnaskedClient(), KEY.instance, tmp_path / "file", as_json=False)

    assert (tmp_path / "file").read_bytes() == b"old"


async def test_get_to_a_mounted_file_writes_it_in_place(tmp_path):
    """Its name belongs to the mount: renaming another file to it gives EBUSY, after the whole download."""
    (tmp_path / "source").write_bytes(b"something older and longer")
    (tmp_path / "mounted").touch()

    with mounted(tmp_path / "source", tmp_path / "mounted", "--bind"):
        await got(tmp_path / "mounted")

    assert (tmp_path / "source").read_bytes() == b"abc"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["mounted", "source"]


async def test_get_to_standard_output_writes_the_state_and_nothing_else(capfdbinary):
    await transfer.get(Client(stream=Stream([b"a\0", b"\n"])), KEY.instance, Path("-"), as_json=False)

    assert capfdbinary.readouterr().out == b"a\0\n"


@pytest.mark.parametrize(("is_delta", "name"), [(False, "state"), (True, "delta")])
async def test_update_sends_the_file_as_what_it_is_said_to_be(tmp_path, capsys, is_delta, name):
    (tmp_path / "file").write_bytes(b"new")
    client = Client()

    await transfer.update(client, KEY.instance, tmp_path / "file", is_delta=is_delta, as_json=False)

    assert client.calls == [("update", {name: b"new"})]
    assert capsys.readouterr().out == "ab" * 32 + "\n"


@pytest.mark.parametrize("path", ["/proc/version", "/sys/kernel/mm/transparent_hugepage/enabled", "/dev/null"])
async def test_what_cannot_be_mapped_is_read(capsys, path):
    """Files of the kernel have no pages, and some have a length that is not theirs."""
    client = Client()

    await transfer.put(client, Path(path), code=Path(path), params=b"", subscribe=False, as_json=False)
    await transfer.update(client, KEY.instance, Path(path), is_delta=True, as_json=False)

    with open(path, "rb") as file:  # noqa: ASYNC230
        content = file.read()
    [(_, put), (_, update)] = client.calls
    assert (put["state"], put["code"], update["delta"]) == (content, content, content)


async def test_a_pipe_is_read(tmp_path):
    reader, writer = os.pipe()
    os.write(writer, b"piped")
    os.close(writer)
    client = Client()

    await transfer.update(client, KEY.instance, Path(f"/dev/fd/{reader}"), is_delta=False, as_json=False)

    os.close(reader)
    assert client.calls == [("update", {"state": b"piped"})]


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/", "Is a directory"),
        ("/no/such", "No such file"),
        ("/proc/self/mem", "Input/output"),
        ("/dev/zero", "50 MiB"),
    ],
)
async def test_a_file_that_cannot_be_sent_is_named(path, reason):
    with pytest.raises(OSError, match=reason) as caught:
        await transfer.put(Client(), Path(path), code=None, params=b"", subscribe=False, as_json=False)

    assert caught.value.filename == path


async def test_a_file_beyond_what_a_node_takes_is_named(tmp_path):
    with (tmp_path / "large").open("wb") as file:
        file.truncate(50 * MIB + 1)

    with pytest.raises(OSError, match="50 MiB") as caught:
        await transfer.update(Client(), KEY.instance, tmp_path / "large", is_delta=False, as_json=False)

    assert caught.value.filename == str(tmp_path / "large")


async def test_subscribe_prints_a_line_for_each_update_and_ends_after_so_many(capsys):
    updates = [
        State(state=Blob(b"abc")),
        Delta(delta=Blob(b"d")),
        StateAndDelta(state=Blob(b"ef"), delta=Blob(b"")),
        None,
        State(state=Blob(b"too late")),
    ]
    client = Client(notes=[Notification(key=KEY, update=update) for update in updates])

    await transfer.subscribe(client, KEY.instance, count=4, as_json=True)

    first, *notes = map(json.loads, capsys.readouterr().out.splitlines())
    assert first == {"subscribed": NAME}
    assert [(note["kind"], note.get("bytes")) for note in notes] == [
        ("state", 3),
        ("delta", 1),
        ("state-and-delta", 2),
        ("missed", None),
    ]


if __name__ == "__main__":  # a `get` whose standard output is not pytest's
    asyncio.run(got(Path(sys.argv[1])))
