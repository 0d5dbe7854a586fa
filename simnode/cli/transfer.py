"""Payloads to and from a node. Enters: files and keys. Leaves: files, keys and lines. Next: `simnode/client/client.py`.

A file is mapped and sent from there; a state is written as it comes. Neither is ever in the heap.
"""

from __future__ import annotations

import asyncio
import errno
import mmap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from blake3 import blake3

from simnode.cli.output import Bar, emit, emit_json, note, progress_bar
from simnode.client import Client, Notification
from simnode.protocol.keys import encode_base58
from simnode.protocol.limits import MAX_STATE_SIZE, MIB
from simnode.protocol.messages.contracts import Delta, State, StateAndDelta
from simnode.storage.output_file import OutputFile

DEFAULT_CODE = b"\0asm\x01\0\0\0"
"""The smallest WebAssembly module: magic number and version, no section."""

FOLLOW_EVERY_S = 0.1


async def put(client: Client, file: Path, *, code: Path | None, params: bytes, subscribe: bool, as_json: bool) -> None:
    """Stores a contract and prints its key; with `subscribe`, its updates after that."""
    code_bytes, state = _content_of(code), _content_of(file)
    async with _upload_bar(client, f"put {file.name}", len(state) + len(code_bytes)):
        key = await client.put(code=code_bytes, params=params, state=state, subscribe=subscribe)
    text = encode_base58(key.instance)
    if as_json:
        emit_json({"key": text, "code_hash": key.code.hex(), "bytes": len(state)})
    else:
        emit(text)
    if subscribe:
        await _print_updates(client, count=None, as_json=as_json)


async def get(client: Client, contract: bytes, output: Path, *, as_json: bool) -> None:
    """Writes a state to a file, which is there only once it is complete, if it can be replaced at all.

    Raises:
        OSError: it cannot be written; found out before the node is asked, if possible.
    """
    with OutputFile(output) as target:
        if target.in_place is not None:
            note(f"simnode: {output} is written in place, and incomplete until the end: {target.in_place}")
        async with client.get_stream(contract) as stream:
            with progress_bar(f"get {output.name}", stream.total_bytes) as bar:
                file = target.begin()
                done = 0
                async for piece in stream:
                    file.write(piece)
                    done += len(piece)
                    bar.set(done)
            target.commit()
        if as_json:
            emit_json({"key": encode_base58(stream.key.instance), "bytes": done, "file": str(output)})


async def update(client: Client, contract: bytes, file: Path, *, is_delta: bool, as_json: bool) -> None:
    """Changes a state and prints the new one's summary."""
    key = await client.full_key(contract)
    payload = _content_of(file)
    async with _upload_bar(client, f"update {file.name}", len(payload)):
        summary = await (client.update(key, delta=payload) if is_delta else client.update(key, state=payload))
    if as_json:
        emit_json({"key": encode_base58(contract), "summary": summary.hex()})
    else:
        emit(summary.hex())


async def subscribe(client: Client, contract: bytes, *, count: int | None, as_json: bool) -> None:
    """Prints a line for each update of a contract, `count` of them or until it is interrupted."""
    await client.subscribe(contract)
    if as_json:
        emit_json({"subscribed": encode_base58(contract)})
    else:
        note(f"subscribed to {encode_base58(contract)}")
    await _print_updates(client, count=count, as_json=as_json)


async def _print_updates(client: Client, *, count: int | None, as_json: bool) -> None:
    seen = 0
    async for notification in client.notifications():
        facts = _describe(notification)
        if as_json:
            emit_json(facts)
        else:
            emit(" ".join(str(value) for value in facts.values()))
        seen += 1
        if seen == count:
            return


def _describe(notification: Notification) -> dict[str, Any]:
    """Key, kind, length and BLAKE3 of an update. `missed`: its content was dropped because nobody took it in time."""
    match notification.update:
        case State(state=payload):
            kind = "state"
        case Delta(delta=payload):
            kind = "delta"
        case StateAndDelta(state=payload):
            kind = "state-and-delta"
        case None:
            return {"key": encode_base58(notification.key.instance), "kind": "missed"}
        case related:
            return {"key": encode_base58(notification.key.instance), "kind": type(related).__name__}
    return {
        "key": encode_base58(notification.key.instance),
        "kind": kind,
        "bytes": len(payload),
        "blake3": blake3(payload.view).hexdigest(),
    }


def _content_of(path: Path | None) -> mmap.mmap | bytes:
    """A file's content where it is; what cannot be mapped (an empty file, a pipe, a file of /proc) is read.

    No path: the default code.

    Raises:
        OSError: the file cannot be read, or has more than a node takes; the file is named.
    """
    if path is None:
        return DEFAULT_CODE
    try:
        with path.open("rb") as file:
            content: mmap.mmap | bytes
            try:
                content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except (OSError, ValueError):
                content = file.read(MAX_STATE_SIZE + 1)
    except OSError as error:
        error.filename = str(path)
        raise
    if len(content) > MAX_STATE_SIZE:
        raise OSError(errno.EFBIG, f"more than the {MAX_STATE_SIZE // MIB} MiB that a node takes", str(path))
    return content


@asynccontextmanager
async def _upload_bar(client: Client, what: str, total_bytes: int) -> AsyncIterator[None]:
    """A bar that follows what the socket has taken, while the block lasts."""
    with progress_bar(what, total_bytes) as bar:
        follower = asyncio.create_task(_follow(client, bar, total_bytes))
        try:
            yield
        finally:
            follower.cancel()


async def _follow(client: Client, bar: Bar, total_bytes: int) -> None:
    has_begun = False
    while True:
        await asyncio.sleep(FOLLOW_EVERY_S)
        has_begun = has_begun or client.unsent_bytes > 0
        if has_begun:  # before it, nothing waits either
            bar.set(max(0, total_bytes - client.unsent_bytes))
