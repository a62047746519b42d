"""Workers are killed under long bodies: what a client has received whole stays counted, in requests and in bytes, and nothing twice."""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import signal
import socket
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
import zstandard

from tests.app.problems import RAW
from tests.processes import PATIENCE_SECONDS, send, wait_dead, wait_until

if TYPE_CHECKING:
    from tests.gunicorn_service import Gunicorn

KILLS = 8 if "PROOF_REPEATS" in os.environ else 3
LINE = b"%08d a line of a log that repeats itself, with a number that does not\n"


@dataclass
class Caller:
    """Sends long documents and frames in turn, in pieces, and notes what came back whole."""

    port: int
    stop: threading.Event = field(default_factory=threading.Event)
    sent: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("compress", "decompress"), 0))
    answered: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("compress", "decompress"), 0))
    sent_bytes: int = 0
    answered_bytes: int = 0
    frame_bytes: int = 0

    def run(self) -> None:
        number = 0
        while not self.stop.is_set():
            number += 1
            document = b"".join(LINE % random.randrange(10**8) for _ in range(random.choice([10, 8_000, 40_000])))
            with contextlib.suppress(OSError, http.client.HTTPException):
                if number % 2:
                    self._compress(document)
                else:
                    self._decompress(document)

    def _ask(self, path: str, body: bytes) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        with contextlib.closing(connection):
            self.sent[path.partition("?")[0]] += 1
            pieces = [body[at : at + 200_000] for at in range(0, len(body), 200_000)]
            connection.request("POST", f"/v1/{path}", iter(pieces), RAW, encode_chunked=True)
            response = connection.getresponse()
            answer = response.read()
            assert response.status == 200, answer
            self.answered[path.partition("?")[0]] += 1
            return answer

    def _compress(self, document: bytes) -> None:
        self.sent_bytes += len(document)
        frame = self._ask("compress", document)
        self.answered_bytes += len(document)
        self.frame_bytes += len(frame)
        assert zstandard.ZstdDecompressor().decompress(frame, max_output_size=len(document)) == document

    def _decompress(self, document: bytes) -> None:
        assert self._ask(f"decompress?stream={random.randrange(2)}", zstandard.compress(document)) == document


def counted(gunicorn: Gunicorn) -> dict[str, float]:
    found = {}
    for line in gunicorn.scrape().splitlines():
        name, _, value = line.rpartition(" ")
        if name.startswith("neurectomy_sigmalang_") and "_bucket" not in name:
            found[name.removeprefix("neurectomy_sigmalang_")] = float(value)
    return found


def _cut_off(gunicorn: Gunicorn, master: int) -> None:
    """Kills every worker while one of them waits for the rest of a body: by chance alone the kills might meet no call at all."""
    with socket.create_connection(("127.0.0.1", gunicorn.port), PATIENCE_SECONDS) as connection:
        connection.sendall(
            b"POST /v1/compress HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\n"
            b"Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
        )
        assert b"100 Continue" in connection.recv(1000)
        connection.sendall(b"8\r\nhalf of \r\n")
        for victim in gunicorn.workers(master):
            send(victim, signal.SIGKILL)
            wait_dead(victim)
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(1000) == b""


@pytest.mark.usefixtures("preloaded")
def test_long_bodies_stay_counted_when_workers_are_killed(gunicorn: Gunicorn) -> None:
    master = gunicorn.start(WEB_CONCURRENCY="4")
    callers = [Caller(gunicorn.port) for _ in range(6)]
    threads = [threading.Thread(target=caller.run) for caller in callers]
    for thread in threads:
        thread.start()

    def total(name: str) -> int:
        values = [getattr(caller, name) for caller in callers]
        return sum(sum(value.values()) if isinstance(value, dict) else value for value in values)

    try:
        for _ in range(KILLS):
            goal = total("answered") + 20
            wait_until(lambda goal=goal: total("answered") >= goal, "bodies are answered")
            wait_until(lambda: len(gunicorn.workers(master)) == 4, "four workers run")
            victim = random.choice(gunicorn.workers(master))
            send(victim, signal.SIGKILL)
            wait_dead(victim)
        wait_until(lambda: len(gunicorn.workers(master)) == 4, "four workers run")
        _cut_off(gunicorn, master)
        callers[0].sent["compress"] += 1
    finally:
        for caller in callers:
            caller.stop.set()
        for thread in threads:
            thread.join()
    found = counted(gunicorn)
    print({name: total(name) for name in ("sent", "answered", "sent_bytes", "answered_bytes", "frame_bytes")}, found)
    assert total("sent") > total("answered")
    for path, family in (("compress", "compression"), ("decompress", "decompression")):
        answered, sent = (sum(getattr(caller, name)[path] for caller in callers) for name in ("answered", "sent"))
        assert answered <= found[f'{family}_requests_total{{status="success"}}'] <= sent
        assert sum(value for name, value in found.items() if name.startswith(f"{family}_requests_total{{")) <= sent
        assert answered <= found[f"{family}_duration_seconds_count"] <= sent
    compressed = sum(caller.answered["compress"] for caller in callers)
    for size in ("original", "compressed"):
        assert compressed <= found[f"{size}_size_bytes_count"] <= sum(caller.sent["compress"] for caller in callers)
    assert total("answered_bytes") <= found["original_size_bytes_sum"] <= total("sent_bytes")
    assert total("frame_bytes") <= found["compressed_size_bytes_sum"] <= total("sent_bytes")
