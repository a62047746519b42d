"""An open-loop client: a process with an event loop of its own that asks on schedule, whatever the answers do.

The time of a request runs from the moment at which it was due, so a server that stalls is charged for all who had to wait.
"""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING

from _fleet import environment

if TYPE_CHECKING:
    from collections.abc import Iterator

_CONNECTIONS = 16


class Client:
    """The driver's end."""

    def __init__(self, port: int, path: str, rate: float) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(port), path, str(rate)],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, seconds: float) -> None:
        """Begin to ask, for a while; `finish` gives the outcome."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()

    def finish(self) -> list[float]:
        """Wait for the end of it; give every request's seconds."""
        assert self._process.stdout is not None
        if not (line := self._process.stdout.readline()):
            raise RuntimeError("the benchmark's client ended; its error is above")
        times: list[float] = json.loads(line)
        return times

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


@contextmanager
def client(port: int, path: str, rate: float) -> Iterator[Client]:
    """Give a client that ends with the block."""
    process = Client(port, path, rate)
    try:
        yield process
    finally:
        process.end()


class _Connection(asyncio.Protocol):
    """One kept-alive connection, with one request at a time."""

    def __init__(self) -> None:
        self.lost = False
        self._buffer = b""
        self._waiting: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, body = self._buffer.partition(b"\r\n\r\n")
        if not end or self._waiting is None:
            return
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(body) >= length:
            waiting, self._waiting, self._buffer = self._waiting, None, b""
            assert head.startswith(b"HTTP/1.1 200"), head
            waiting.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if self._waiting is not None:
            self._waiting.set_exception(exc or ConnectionResetError("closed instead of an answer"))

    async def ask(self, request: bytes) -> None:
        self._waiting = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        await self._waiting


async def _run(port: int, path: str, rate: float, seconds: float) -> list[float]:
    loop = asyncio.get_running_loop()
    request = f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nuser-agent: benchmark\r\n\r\n".encode()

    async def connect() -> _Connection:
        return (await loop.create_connection(_Connection, "127.0.0.1", port))[1]

    # The longest idle one is next: all of them, and so all workers, are asked in turn.
    idle = deque([await connect() for _ in range(_CONNECTIONS)])
    times: list[float] = []

    async def ask(due: float) -> None:
        while idle and idle[0].lost:
            idle.popleft()
        connection = idle.popleft() if idle else await connect()
        await connection.ask(request)
        times.append(loop.time() - due)
        idle.append(connection)

    start = loop.time() + 0.05
    tasks = []
    for number in range(round(rate * seconds)):
        due = start + number / rate
        if (early := due - loop.time()) > 0:
            await asyncio.sleep(early)
        tasks.append(asyncio.create_task(ask(due)))
    await asyncio.gather(*tasks)
    for connection in idle:
        connection.transport.close()
    return times


def main(port: int, path: str, rate: float) -> None:
    """Ask for as many seconds as each line of stdin says, and print the times."""
    gc.disable()
    with asyncio.Runner() as runner:
        for line in sys.stdin:
            times = runner.run(_run(port, path, rate, float(line)))
            print(json.dumps(times), flush=True)
            gc.collect()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]))
