"""A worker works on a bounded number of long bodies at once; whatever becomes of one, its place is free again."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import socket
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import TYPE_CHECKING

import pytest
import zstandard

from app.api.body_slots import BodySlot, BodySlots
from app.api.problems import ProblemError
from tests.app.conftest import serve_app
from tests.app.problems import RAW, refuse
from tests.app.scraped import samples
from tests.processes import PATIENCE_SECONDS, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.server_process import Served

MIB = 1024 * 1024
LONG = Random(7).randbytes(6 * MIB)
FRAME = zstandard.ZstdCompressor(write_checksum=True).compress(LONG)
FOLDED = zstandard.compress(bytes(6 * MIB))
"""A short body that unfolds to a long one."""


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve_app(tmp_path_factory, SIGMALANG_MAX_LONG_BODIES="1") as server:
        yield server


@contextlib.contextmanager
def holding(served: Served) -> Iterator[socket.socket]:
    """Send a half of a long document; enter the block once it has the place."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=60) as client:
        client.sendall(f"POST /v1/compress HTTP/1.1\r\nHost: x\r\nContent-Length: {len(LONG)}\r\n\r\n".encode())
        client.sendall(LONG[: len(LONG) // 2])
        wait_until(lambda: served.ask("POST", "/v1/compress", LONG, RAW).status == 503, "the document has the place")
        yield client


def takes_long_ones(served: Served) -> None:
    assert served.ask("POST", "/v1/decompress", FRAME, RAW).body == LONG


def test_past_the_bound_only_short_bodies_are_served(narrow: Served) -> None:
    with holding(narrow) as client:
        before = samples(narrow)
        asked = (
            ("compress", LONG),
            ("compress", iter([LONG[:MIB], LONG[MIB:]])),
            ("compress?level=19", LONG[:100_000]),
            ("decompress", FRAME),
            ("decompress", FOLDED),
            ("decompress?stream=1", FOLDED),
        )
        with ThreadPoolExecutor(len(asked)) as pool:  # each waits for a while
            answers = list(pool.map(lambda each: narrow.ask("POST", f"/v1/{each[0]}", each[1], RAW), asked))
        for answer in answers:
            refuse(answer, 503, "busy")
            assert int(answer.headers["retry-after"]) > 0
        too_much = {**RAW, "Content-Length": str(1024**4)}
        refuse(narrow.ask("POST", "/v1/decompress", b"x", too_much), 413, "too_large")
        assert narrow.ask("POST", "/v1/compress", LONG[:100_000], RAW).status == 200
        assert narrow.ask("POST", "/v1/decompress", zstandard.compress(LONG[:100_000]), RAW).body == LONG[:100_000]
        name = 'neurectomy_sigmalang_{}_requests_total{{status="error"}}'
        gained = [samples(narrow).get(name.format(each), 0) - before.get(name.format(each), 0) for each in ("compression", "decompression")]
        assert gained == [3, 4]
        client.sendall(LONG[len(LONG) // 2 :])
        with client.makefile("rb") as answered:
            assert answered.readline() == b"HTTP/1.1 200 OK\r\n"
            assert len(answered.read(len(LONG))) == len(LONG)
    takes_long_ones(narrow)


def test_who_leaves_leaves_a_place(narrow: Served) -> None:
    with holding(narrow):
        pass
    takes_long_ones(narrow)
    with socket.create_connection(("127.0.0.1", narrow.port), timeout=60) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(f"POST /v1/decompress HTTP/1.1\r\nHost: x\r\nContent-Length: {len(FRAME)}\r\n\r\n".encode() + FRAME)
        assert client.recv(15) == b"HTTP/1.1 200 OK"
    takes_long_ones(narrow)


@pytest.mark.parametrize("path", ["/v1/decompress", "/v1/decompress?stream=1"])
def test_what_is_refused_leaves_a_place(narrow: Served, path: str) -> None:
    damaged = FRAME[:-1] + bytes([FRAME[-1] ^ 1])
    if "stream" in path:
        with pytest.raises(http.client.IncompleteRead):
            narrow.ask("POST", path, damaged, RAW)
    else:
        refuse(narrow.ask("POST", path, damaged, RAW), 422, "malformed")
    takes_long_ones(narrow)


def test_a_waiting_body_has_its_turn() -> None:
    async def work() -> None:
        places = BodySlots(1, 3600)
        first, second, third = (BodySlot(places) for _ in range(3))
        await first.take()
        await first.take()  # has one already
        waiting = [asyncio.ensure_future(each.take()) for each in (second, third)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting[0]
        second.release()  # has none
        await asyncio.sleep(0)
        assert not waiting[1].done()
        first.release()
        first.release()
        await waiting[1]
        fourth = asyncio.ensure_future(BodySlot(places).take())
        for _ in range(3):
            await asyncio.sleep(0)
        assert not fourth.done(), "a place was given back twice"
        third.release()
        await fourth

    asyncio.run(work())


def test_nobody_waits_for_ever_and_not_everybody_waits() -> None:
    async def work() -> None:
        places = BodySlots(1, 0.01)
        await places.take()
        with pytest.raises(ProblemError, match="SIGMALANG_MAX_LONG_BODIES"):
            await places.take()
        patient = BodySlots(1, 3600)
        await patient.take()
        waiting = [asyncio.ensure_future(patient.take()) for _ in range(4)]
        await asyncio.sleep(0)
        with pytest.raises(ProblemError) as refused:
            await asyncio.wait_for(patient.take(), PATIENCE_SECONDS / 10)
        assert (refused.value.status, refused.value.reason) == (503, "busy")
        for each in waiting:
            patient.release()
            await each

    asyncio.run(work())
