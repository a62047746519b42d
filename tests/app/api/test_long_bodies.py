"""Long bodies: bounded memory on a real server, and no clean end where something was found too late."""

from __future__ import annotations

import hashlib
import http.client
import re
import resource
import socket
import tempfile
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest
import zstandard

from tests.app.conftest import MAX_DOCUMENT_BYTES, serve_app
from tests.app.problems import RAW, refuse
from tests.app.scraped import moved, samples
from tests.processes import wait_until
from tests.server_process import ask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.gunicorn_service import Gunicorn
    from tests.server_process import Served

MIB = 1024 * 1024
LONG_BYTES = 64 * MIB
GROWTH_BYTES = 40 * MIB


@pytest.fixture(scope="module")
def unbounded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with its own defaults."""
    with serve_app(tmp_path_factory) as server:
        yield server


def memory(server: Served, field: str) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    found = re.search(rf"^{field}:\s+(\d+) kB", status, re.MULTILINE)
    assert found
    return int(found[1]) * 1024


def exchange(server: Served, path: str, body: Iterator[bytes], into: Path, headers: dict[str, str]) -> tuple[int, str]:
    """Send a long body, all of it before anything is read; keep the answer on disk, and give its status and hash."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    connection.request("POST", path, body, {**RAW, **headers}, encode_chunked="Content-Length" not in headers)
    response = connection.getresponse()
    digest = hashlib.sha256()
    with into.open("wb") as file:
        while piece := response.read(MIB):
            file.write(piece)
            digest.update(piece)
    connection.close()
    return response.status, digest.hexdigest()


def read(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(100_000):
            yield piece


@pytest.mark.parametrize("kind", ["random", "zeros"])
def test_a_long_body_costs_a_bounded_part_of_it(unbounded: Served, tmp_path: Path, kind: str) -> None:
    document = tmp_path / "document"
    source = Random(1)
    digest = hashlib.sha256()
    with document.open("wb") as file:
        for _ in range(LONG_BYTES // MIB):
            piece = source.randbytes(MIB) if kind == "random" else bytes(MIB)
            file.write(piece)
            digest.update(piece)
    for path in ("/v1/compress", "/v1/decompress"):
        unbounded.ask("POST", path, zstandard.compress(b"warm"), RAW)
    before = samples(unbounded)
    # From here on the kernel keeps the highest again.
    Path(f"/proc/{unbounded.process.pid}/clear_refs").write_text("5")
    settled = memory(unbounded, "VmRSS")

    frame = tmp_path / "frame"
    length = {"Content-Length": str(LONG_BYTES)}
    assert exchange(unbounded, "/v1/compress", read(document), frame, length)[0] == 200
    with frame.open("rb") as file:
        header = file.read(18)
    assert zstandard.get_frame_parameters(header).content_size == LONG_BYTES
    for path in ("/v1/decompress", "/v1/decompress?stream=1"):
        status, restored = exchange(unbounded, path, read(frame), tmp_path / "restored", {})
        assert (status, restored) == (200, digest.hexdigest())
    assert memory(unbounded, "VmHWM") - settled < GROWTH_BYTES

    gained = moved(unbounded, before)
    size = frame.stat().st_size
    assert gained.pop("compression_ratio_sum") == pytest.approx(LONG_BYTES / size)
    assert gained == {
        'compression_requests_total{status="success"}': 1,
        'decompression_requests_total{status="success"}': 2,
        "compression_ratio_count": 1,
        "compression_duration_seconds_count": 1,
        "decompression_duration_seconds_count": 2,
        "original_size_bytes_count": 1,
        "original_size_bytes_sum": LONG_BYTES,
        "compressed_size_bytes_count": 1,
        "compressed_size_bytes_sum": size,
    }


def damaged() -> bytes:
    """A frame that is good for its first 12 MiB."""
    document = Random(2).randbytes(MAX_DOCUMENT_BYTES)
    frame = bytearray(zstandard.ZstdCompressor(write_checksum=True).compress(document))
    frame[-1] ^= 1
    return bytes(frame)


def test_damage_anywhere_is_told_before_the_first_byte(served: Served) -> None:
    before = samples(served)
    refuse(served.ask("POST", "/v1/decompress", damaged(), RAW), 422, "malformed")
    refuse(served.ask("POST", "/v1/decompress", damaged()[:-100_000], RAW), 422, "truncated")
    assert moved(served, before) == {'decompression_requests_total{status="error"}': 2}


@pytest.mark.parametrize("end", [None, -100_000])
def test_what_is_streamed_unchecked_is_cut_off_without_a_clean_end(served: Served, end: int | None) -> None:
    before = samples(served)
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
    connection.request("POST", "/v1/decompress?stream=1", damaged()[:end], RAW)
    response = connection.getresponse()
    assert response.status == 200
    with pytest.raises(http.client.IncompleteRead):
        response.read()
    connection.close()
    assert moved(served, before) == {'decompression_requests_total{status="error"}': 1}
    assert "the response was cut off" in served.log.read_text()
    assert "Traceback" not in served.log.read_text()


@pytest.mark.parametrize("path", ["/v1/decompress", "/v1/decompress?stream=1", "/v1/compress"])
def test_leaving_mid_response_is_counted_as_cancelled(served: Served, path: str) -> None:
    document = Random(3).randbytes(MAX_DOCUMENT_BYTES)
    body = zstandard.compress(document) if "decompress" in path else document
    operation = "decompression" if "decompress" in path else "compression"
    before = samples(served)
    with socket.create_connection(("127.0.0.1", served.port)) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        assert client.recv(15) == b"HTTP/1.1 200 OK"
    name = f'neurectomy_sigmalang_{operation}_requests_total{{status="cancelled"}}'
    wait_until(lambda: samples(served).get(name, 0) - before.get(name, 0) == 1, "the request is counted")
    assert moved(served, before) == {f'{operation}_requests_total{{status="cancelled"}}': 1}
    assert "Traceback" not in served.log.read_text()


def test_a_client_that_reads_nothing_holds_up_nobody_and_is_waited_for(unbounded: Served) -> None:
    frame = zstandard.compress(bytes(256 * MIB))
    Path(f"/proc/{unbounded.process.pid}/clear_refs").write_text("5")
    settled = memory(unbounded, "VmRSS")
    with socket.create_connection(("127.0.0.1", unbounded.port), timeout=60) as client:
        client.sendall(f"POST /v1/decompress HTTP/1.1\r\nHost: x\r\nContent-Length: {len(frame)}\r\n\r\n".encode() + frame)
        assert client.recv(15) == b"HTTP/1.1 200 OK"
        for _ in range(20):
            assert unbounded.ask("GET", "/health/live").status == 200
        assert memory(unbounded, "VmHWM") - settled < GROWTH_BYTES
        left = 256 * MIB
        while left > 0:
            piece = client.recv(4 * MIB)
            assert piece
            left -= len(piece)


def test_a_disk_that_cannot_keep_a_body_is_an_answer_and_counted(served: Served) -> None:
    document = Random(5).randbytes(8 * MIB)
    frame = zstandard.compress(document)
    before = samples(served)
    limits = resource.prlimit(served.process.pid, resource.RLIMIT_FSIZE, (4 * MIB, resource.RLIM_INFINITY))
    try:
        refuse(served.ask("POST", "/v1/compress", document, RAW), 507, "storage_failed")
        refuse(served.ask("POST", "/v1/decompress", frame, RAW), 507, "storage_failed")
    finally:
        resource.prlimit(served.process.pid, resource.RLIMIT_FSIZE, limits)
    assert served.ask("POST", "/v1/decompress", frame, RAW).body == document
    assert moved(served, before) == {
        'compression_requests_total{status="error"}': 1,
        'decompression_requests_total{status="error"}': 1,
        'decompression_requests_total{status="success"}': 1,
        "decompression_duration_seconds_count": 1,
    }


@pytest.mark.parametrize("worker", ["asgi", "uvicorn"])
def test_long_bodies_under_gunicorn(gunicorn: Gunicorn, tmp_path: Path, worker: str) -> None:
    gunicorn.environment |= {"WORKER_CLASS": worker, "DATA_DIR": str(tmp_path / "data")}
    gunicorn.start()
    document = Random(6).randbytes(MAX_DOCUMENT_BYTES)
    frame = ask(gunicorn.port, "POST", "/v1/compress", document, RAW)
    assert frame.status == 200
    assert ask(gunicorn.port, "POST", "/v1/decompress", frame.body, RAW).body == document
    refused = ask(gunicorn.port, "POST", "/v1/decompress", damaged(), RAW)
    refuse(refused, 422, "malformed")
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):  # gunicorn's own worker drops what has not left yet
        ask(gunicorn.port, "POST", "/v1/decompress?stream=1", damaged(), RAW)


def test_nothing_is_left_on_disk(served: Served) -> None:
    document = Random(4).randbytes(4 * MIB)
    served.ask("POST", "/v1/compress", document, RAW)

    def held() -> list[Path]:
        # A descriptor may be closed between its listing and the look at it: the path is /proc's own then.
        paths = [link.resolve() for link in Path(f"/proc/{served.process.pid}/fd").iterdir()]
        return [path for path in paths if str(path).startswith(tempfile.gettempdir()) and "deleted" in str(path)]

    # The answer may be read to its end before the service has closed what it kept of it.
    wait_until(lambda: not held(), "the service keeps no file of a body that is answered")
