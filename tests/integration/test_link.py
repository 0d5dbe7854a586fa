"""Links between processes, over a real unix-domain socket: order, refusals, losses, and being made anew."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

from simnode.live.link import FAILED, LATER, MAX_LINK_MESSAGE_BYTES, Link, LinkClient, LinkLost, LinkRefusal, LinkServer
from tests.support.eventually import TIMEOUT_S, eventually


class Service:
    """A server end that can do a few things, and writes down what it is told."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.told: list[Any] = []
        self.lost: list[Link] = []
        self.pending: dict[str, tuple[Link, int]] = {}
        self.server = LinkServer(path, self.handle, self.lost.append)

    def handle(self, link: Link, method: str, args: list[Any]) -> Any:
        match method, args:
            case "echo", [value]:
                return value
            case "later", [name]:
                self.pending[name] = link, link.call_id
                return LATER
            case "refuse", [text]:
                raise LinkRefusal("no", text)
            case "fail", [text]:
                raise RuntimeError(text)
            case "hello", [name]:
                link.peer = name
            case "tell", [value]:
                self.told.append(value)
            case "call back", [value]:
                link.cast("called back", value)
        return None

    def answer(self, name: str, result: Any) -> None:
        link, call_id = self.pending[name]
        link.answer(call_id, result)
        link.flush()


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    service = Service(tmp_path / "service.sock")
    await service.server.start()
    yield service
    await service.server.close()


class Caller:
    """A client end."""

    def __init__(self, path: Path) -> None:
        self.heard: list[Any] = []
        self.ups = 0
        self.client = LinkClient(path, self._handle, self._on_up, retry_s=0.01)

    def _handle(self, link: Link, method: str, args: list[Any]) -> Any:
        self.heard.append((method, args))

    def _on_up(self, link: Link) -> None:
        self.ups += 1
        link.cast("hello", f"caller {self.ups}")

    async def up(self) -> None:
        await asyncio.wait_for(self.client.wait_up(), TIMEOUT_S)

    async def down(self) -> None:
        await eventually(lambda: self.client.link is None)


@pytest.fixture
async def caller(service: Service) -> AsyncIterator[Caller]:
    caller = Caller(service.path)
    caller.client.start()
    await caller.up()
    yield caller
    await caller.client.close()


@pytest.mark.parametrize(
    "value", [None, 7, "text", b"bytes", [1, [2, b"3"]], b"x" * 60_000, b"x" * 70_000, b"x" * 1_000_000]
)
async def test_call_is_answered_with_what_the_other_side_returns(caller: Caller, value: Any) -> None:
    assert await caller.client.call("echo", value) == value


async def test_calls_are_answered_in_order_even_when_they_come_in_one_read(caller: Caller) -> None:
    calls = [caller.client.call("echo", number) for number in range(2000)]
    order: list[int] = []
    for call in calls:
        call.add_done_callback(lambda call: order.append(call.result()))
    assert await asyncio.gather(*calls) == list(range(2000))
    assert order == list(range(2000))


class Answers(list[tuple[Any, object]]):
    """What `ask` was answered: results, and the types of errors."""

    def __call__(self, result: Any, error: Exception | None) -> None:
        self.append((result, error and type(error)))


async def test_asking_is_answered_once_with_a_result_or_an_error(caller: Caller, service: Service) -> None:
    answers = Answers()
    caller.client.ask("echo", [b"value"], answers)
    caller.client.ask("refuse", ("because",), answers)
    caller.client.ask("later", ["never"], answers)
    assert answers == []
    await caller.client.call("echo", None)
    assert answers == [(b"value", None), (None, LinkRefusal)]
    await service.server.close()
    await caller.down()
    assert answers == [(b"value", None), (None, LinkRefusal), (None, LinkLost)]


async def test_asking_while_the_other_side_is_away_is_answered_at_the_next_turn(
    caller: Caller, service: Service
) -> None:
    """An answer inside `ask` would find its caller half done."""
    link = caller.client.link
    assert link is not None
    await service.server.close()
    await caller.down()
    answers = Answers()
    for asked in (caller.client, link):
        asked.ask("echo", [1], answers)
    assert answers == []
    await asyncio.sleep(0)
    assert answers == [(None, LinkLost)] * 2


async def test_what_the_answers_of_one_read_lead_to_leaves_in_one_write(tmp_path: Path) -> None:
    """A system call costs as much as twenty messages."""
    reads: list[int] = []

    class Counting(Link):
        def buffer_updated(self, nbytes: int) -> None:
            reads.append(nbytes)
            super().buffer_updated(nbytes)

    ours, theirs = socket.socketpair()
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def echo(link: Link, method: str, args: list[Any]) -> list[Any]:
        return args

    _, asking = await loop.create_connection(lambda: Link(echo, lambda link: None), sock=ours)
    _, echoing = await loop.create_connection(lambda: Counting(echo, lambda link: None), sock=theirs)
    answers = Answers()

    def ask_again(result: Any, error: Exception | None) -> None:
        asking.ask("echo", result, answers)
        if result == [49]:
            asking.ask("echo", result, lambda result, error: done.set_result(None))

    for number in range(50):
        asking.ask("echo", [number], ask_again)
    async with asyncio.timeout(TIMEOUT_S):
        await done
    assert answers == [([number], None) for number in range(50)]
    assert len(reads) == 2
    asking.close()
    await eventually(lambda: asking.is_lost and echoing.is_lost)


async def test_answer_that_takes_time_holds_up_nobody(caller: Caller, service: Service) -> None:
    slow = caller.client.call("later", "slow")
    assert await caller.client.call("echo", "quick") == "quick"
    assert not slow.done()
    service.answer("slow", "done")
    assert await slow == "done"


async def test_refusal_keeps_its_code_and_text_at_once_or_later(caller: Caller, service: Service) -> None:
    with pytest.raises(LinkRefusal, match="because") as caught:
        await caller.client.call("refuse", "because")
    assert caught.value.code == "no"
    later = caller.client.call("later", "x")
    await caller.client.call("echo", 1)
    link, call_id = service.pending["x"]
    link.refuse(call_id, LinkRefusal("not now", "later"))
    link.flush()
    with pytest.raises(LinkRefusal, match="later") as caught:
        await later
    assert caught.value.code == "not now"


async def test_casts_and_calls_keep_their_order_both_ways(caller: Caller, service: Service) -> None:
    for number in range(100):
        assert caller.client.cast("tell", number)
        caller.client.cast("call back", number)
    await caller.client.call("echo", None)
    assert service.told == list(range(100))
    assert caller.heard == [("called back", [number]) for number in range(100)]


async def test_what_is_not_urgent_leaves_with_whatever_is_sent_next(caller: Caller, service: Service) -> None:
    caller.client.cast_later("tell", 1)
    await asyncio.sleep(0.01)
    assert service.told == []
    caller.client.cast("tell", 2)
    await eventually(lambda: service.told == [1, 2])
    caller.client.cast_later("tell", 3)
    caller.client.flush()
    await eventually(lambda: service.told == [1, 2, 3])


async def test_cast_that_is_refused_is_logged_and_the_link_lives(
    caller: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody waits for an answer; ending the link would end everybody else's calls."""
    with caplog.at_level(logging.WARNING):
        caller.client.cast("refuse", "because")
        assert await caller.client.call("echo", 1) == 1
    assert "because" in caplog.text


async def test_calls_under_way_fail_when_the_other_side_goes(caller: Caller, service: Service) -> None:
    calls = [caller.client.call("later", str(number)) for number in range(3)]
    await caller.client.call("echo", None)
    await service.server.close()
    for call in calls:
        with pytest.raises(LinkLost):
            await call
    assert caller.client.link is None
    with pytest.raises(LinkLost):
        await caller.client.call("echo", 1)
    assert not caller.client.cast("tell", 1)


async def test_what_was_asked_for_is_carried_out_though_nobody_waits_any_more(caller: Caller, service: Service) -> None:
    """A store that was asked to write goes on, whatever became of who asked."""
    call = caller.client.call("later", "x")
    await caller.client.call("echo", None)
    await caller.client.close()
    with pytest.raises(LinkLost):
        await call
    await eventually(lambda: service.lost)
    service.answer("x", "written")


async def test_link_is_made_anew_and_greets_each_time_before_anything_else(caller: Caller, service: Service) -> None:
    for incarnation in range(2, 5):
        await service.server.close()
        await caller.down()
        service = Service(service.path)
        await service.server.start()
        await caller.up()
        assert await caller.client.call("echo", incarnation) == incarnation
        (link,) = service.server._links
        assert link.peer == f"caller {incarnation}"
    await service.server.close()


async def test_client_waits_for_a_server_that_is_not_there_yet(tmp_path: Path) -> None:
    caller = Caller(tmp_path / "late.sock")
    caller.client.start()
    await asyncio.sleep(0)
    assert caller.client.link is None
    service = Service(tmp_path / "late.sock")
    await service.server.start()
    await caller.up()
    await caller.client.close()
    await service.server.close()


async def test_socket_file_of_a_dead_server_is_replaced_and_taken_away_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "service.sock"
    path.write_bytes(b"")
    service = Service(path)
    await service.server.start()
    assert path.is_socket()
    await service.server.close()
    assert not path.exists()


async def test_server_learns_of_each_link_that_ends(caller: Caller, service: Service) -> None:
    await caller.client.call("echo", None)
    (link,) = service.server._links
    await caller.client.close()
    await eventually(lambda: service.lost)
    assert service.lost == [link]
    assert not service.server._links


async def test_link_that_ends_at_once_is_made_anew(tmp_path: Path) -> None:
    """It may be lost before its client has taken notice of it."""
    path, accepted = tmp_path / "service.sock", 0

    def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal accepted
        accepted += 1
        writer.close()

    server = await asyncio.start_unix_server(greet, str(path))
    caller = Caller(path)
    caller.client.start()
    await eventually(lambda: accepted >= 5)
    server.close()
    await server.wait_closed()
    service = Service(path)
    await service.server.start()
    for _ in range(1000):
        try:
            assert await caller.client.call("echo", 1) == 1
        except LinkLost:
            await asyncio.sleep(0.01)
        else:
            break
    else:
        raise AssertionError("never up again")
    await caller.client.close()
    await service.server.close()


async def test_message_of_an_absurd_length_ends_the_link(service: Service) -> None:
    loop = asyncio.get_running_loop()
    errors: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: errors.append(context))
    reader, writer = await asyncio.open_unix_connection(str(service.path))
    writer.write(struct.pack("<I", MAX_LINK_MESSAGE_BYTES + 1))
    assert await asyncio.wait_for(reader.read(), TIMEOUT_S) == b""
    writer.close()
    await writer.wait_closed()
    assert service.lost
    assert errors


async def test_message_in_single_bytes_is_put_together(service: Service) -> None:
    reader, writer = await asyncio.open_unix_connection(str(service.path))
    body = msgpack.packb([0, 1, "echo", [b"payload"]])
    for byte in struct.pack("<I", len(body)) + body:
        writer.write(bytes((byte,)))
        await writer.drain()
        await asyncio.sleep(0)
    (length,) = struct.unpack("<I", await reader.readexactly(4))
    assert msgpack.unpackb(await reader.readexactly(length)) == [1, 1, b"payload"]
    writer.close()
    await writer.wait_closed()


# ---- bugs --------------------------------------------------------------------------------------


async def test_call_that_raises_is_refused_and_the_others_go_on(
    caller: Caller, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    """It used to end the link, and with it the calls of everybody else in this process."""
    later = caller.client.call("later", "x")
    with pytest.raises(LinkRefusal) as refused:
        await caller.client.call("fail", "on purpose")
    assert refused.value.code == FAILED
    assert "on purpose" in caplog.text
    assert "on purpose" not in str(refused.value)
    service.answer("x", "done")
    assert await later == "done"
    assert caller.ups == 1


async def test_cast_that_raises_ends_the_link_and_both_sides_begin_anew(caller: Caller, service: Service) -> None:
    """Nobody would know that it was not carried out."""
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    caller.client.cast("fail", "on purpose")
    await eventually(lambda: caller.ups == 2)
    assert await caller.client.call("echo", 1) == 1


async def test_answer_whose_taking_raises_costs_no_other_answer(caller: Caller, service: Service) -> None:
    def fail(result: Any, error: Exception | None) -> None:
        raise RuntimeError("a bug of the caller's")

    answers = Answers()
    for answer in (fail, answers):
        caller.client.ask("echo", [1], answer)
        caller.client.ask("refuse", ["no"], answer)
    await caller.client.call("echo", None)
    assert answers == [(1, None), (None, LinkRefusal)]
    for answer in (fail, answers):
        caller.client.ask("later", ["x"], answer)
    await caller.client.call("echo", None)
    await service.server.close()
    await caller.down()
    assert answers == [(1, None), (None, LinkRefusal), (None, LinkLost)]


async def test_call_that_cannot_be_packed_is_not_answered_besides(caller: Caller, service: Service) -> None:
    answers = Answers()
    with pytest.raises(TypeError):
        caller.client.ask("echo", [object()], answers)
    await service.server.close()
    await caller.down()
    assert answers == []


async def test_greeting_that_fails_is_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A store whose index cannot be read now used to wait for its own link for ever."""
    service = Service(tmp_path / "service.sock")
    await service.server.start()
    greetings: list[Link] = []

    def greet(link: Link) -> None:
        greetings.append(link)
        if len(greetings) == 1:
            raise RuntimeError("not now")

    client = LinkClient(service.path, lambda *_: None, greet, retry_s=0.01)
    client.start()
    await asyncio.wait_for(client.wait_up(), TIMEOUT_S)
    assert await client.call("echo", 1) == 1
    assert len(greetings) == 2
    assert "not now" in caplog.text
    await client.close()
    await service.server.close()


async def test_only_links_that_have_said_what_they_are_are_introduced(caller: Caller, service: Service) -> None:
    await caller.client.call("echo", None)
    other = LinkClient(service.path, lambda *_: None, lambda _: None, retry_s=0.01)
    other.start()
    await asyncio.wait_for(other.wait_up(), TIMEOUT_S)
    await other.call("echo", None)
    assert [peer for _, peer in service.server.introduced(str)] == ["caller 1"]
    assert service.server.introduced(int) == []
    await other.close()
