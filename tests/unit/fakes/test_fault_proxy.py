"""The proxy that makes faults makes the ones that it says."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from tests.fakes.fault_proxy import FaultProxy, fault_proxy

Talk = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
async def proxy() -> AsyncIterator[FaultProxy]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data.upper())
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, fault_proxy("127.0.0.1", server.sockets[0].getsockname()[1]) as proxy:
        yield proxy


async def connected(proxy: FaultProxy) -> Talk:
    return await asyncio.open_connection("127.0.0.1", proxy.port)


async def said(talk: Talk, text: bytes) -> bytes:
    reader, writer = talk
    writer.write(text)
    return await asyncio.wait_for(reader.read(100), 5)


async def test_a_good_line_carries_both_ways_and_tells_the_end(proxy: FaultProxy) -> None:
    reader, writer = talk = await connected(proxy)
    assert await said(talk, b"hi") == b"HI"
    writer.write_eof()
    assert await asyncio.wait_for(reader.read(), 5) == b""
    assert proxy.connections == 1


async def test_a_slow_line_takes_its_time(proxy: FaultProxy) -> None:
    talk = await connected(proxy)
    await proxy.delay(0.1)
    began = time.monotonic()
    assert await said(talk, b"hi") == b"HI"
    assert time.monotonic() - began >= 0.2
    await proxy.delay(0)
    assert await said(talk, b"quick") == b"QUICK"


async def test_a_line_that_is_cut_ends_and_refuses_until_it_is_mended(proxy: FaultProxy) -> None:
    talk = await connected(proxy)
    assert await said(talk, b"hi") == b"HI"
    await proxy.set("cut")
    assert await ended(talk)
    with pytest.raises(ConnectionRefusedError):
        await connected(proxy)
    await proxy.set("good")
    assert await said(await connected(proxy), b"back") == b"BACK"


async def test_a_black_hole_takes_everything_and_says_nothing(proxy: FaultProxy) -> None:
    old = await connected(proxy)
    assert await said(old, b"hi") == b"HI"
    await proxy.set("black_hole")
    new = await connected(proxy)
    for talk in (old, new):
        talk[1].write(b"lost?")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(talk[0].read(100), 0.2)
    await proxy.set("good")
    for talk in (old, new):
        assert await asyncio.wait_for(talk[0].read(100), 5) == b"LOST?"


async def test_a_reset_line_throws_everybody_out(proxy: FaultProxy) -> None:
    talk = await connected(proxy)
    assert await said(talk, b"hi") == b"HI"
    await proxy.set("reset")
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(talk[0].read(100), 5)
    with pytest.raises(ConnectionResetError):
        await said(await connected(proxy), b"and now?")
    await proxy.set("good")
    assert await said(await connected(proxy), b"back") == b"BACK"


async def test_an_address_by_way_of_the_proxy_keeps_the_rest(proxy: FaultProxy) -> None:
    assert (
        proxy.in_url("postgresql://u:p@db:5432/weir?x=1")
        == f"postgresql://u:p@127.0.0.1:{proxy.port}/weir?x=1"
    )
    assert proxy.in_url("redis://db:6379/3") == f"redis://127.0.0.1:{proxy.port}/3"


async def ended(talk: Talk) -> bool:
    try:
        return await asyncio.wait_for(talk[0].read(100), 5) == b""
    except ConnectionResetError:
        return True
