"""One real server for a test: started, waited for, and ended with every process that it started."""

from __future__ import annotations

import contextlib
import http.client
import socket
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

from tests.conftest import ROOT
from tests.processes import MARKER, PATIENCE_SECONDS, end_marked

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


@dataclass
class Answer:
    """One response, read to its end."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Served:
    """A running server and how to talk to it."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path
    marker: str = field(default="")

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Send one request on a connection of its own."""
        return ask(self.port, method, path, body, headers)


def ask(port: int, method: str, path: str, body: bytes | Iterable[bytes] | None = None, headers: dict[str, str] | None = None) -> Answer:
    """Send one request to a port of 127.0.0.1; an iterable body is sent chunked."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    with contextlib.closing(connection):
        connection.request(method, path, body, headers or {}, encode_chunked=body is not None and not isinstance(body, bytes))
        response = connection.getresponse()
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())


@contextlib.contextmanager
def serving(arguments: list[str], port: int, path: str, environment: dict[str, str], log: Path) -> Iterator[Served]:
    """Run `python -m ...` until the block ends; enter it once `path` on the port is answered."""
    marker = uuid.uuid4().hex
    with log.open("wb") as output:
        process = spawn(arguments, {**environment, MARKER: marker}, output)
    served = Served(process, port, log, marker)
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException):
                ask(port, "GET", path)
                break
            assert process.poll() is None, f"ended with {process.returncode}: {log.read_text()}"
            assert time.monotonic() < deadline, f"no answer on {port}: {log.read_text()}"
            time.sleep(0.05)
        yield served
    finally:
        end_marked(marker)
        process.wait()


def spawn(arguments: list[str], environment: dict[str, str], output: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start a Python program in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        env=environment,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )


def refused(port: int) -> bool:
    """Tell whether nobody listens on a port of 127.0.0.1."""
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False
