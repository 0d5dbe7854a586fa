"""`put`, `get`, `update`, `subscribe` without a node; in this directory because an event loop needs a socket pair."""

from __future__ import annotations

import json
import os
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from simnode.cli import transfer
from simnode.client import ConnectionLost, Notification
from simnode.protocol.blob import Blob
from simnode.protocol.keys import encode_base58
from simnode.protocol.limits import MIB
from simnode.protocol.messages.contracts import ContractKey, Delta, State, StateAndDelta

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
