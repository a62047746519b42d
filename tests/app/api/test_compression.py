from __future__ import annotations

import json
import re
import socket
import threading
from typing import TYPE_CHECKING

import pytest
import zstandard

from app.integrations.sigmalang import Bounds
from tests.app.conftest import MAX_DOCUMENT_BYTES
from tests.app.problems import RAW, refuse
from tests.app.scraped import moved, samples
from tests.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.server_process import Answer, Served

MAX_COMPRESSED_BYTES = Bounds(unfolded=MAX_DOCUMENT_BYTES).compressed


@pytest.mark.parametrize("size", [0, 1, 1000, 40_000, MAX_DOCUMENT_BYTES])
def test_a_document_there_and_back(served: Served, size: int) -> None:
    document = (b"The quick brown fox. " * (size // 21 + 1))[:size]
    compressed = served.ask("POST", "/v1/compress", document, RAW)
    assert (compressed.status, compressed.headers["content-type"]) == (200, "application/octet-stream")
    assert zstandard.decompress(compressed.body) == document
    restored = served.ask("POST", "/v1/decompress", compressed.body, RAW)
    assert (restored.status, restored.headers["content-type"]) == (200, "application/octet-stream")
    assert restored.body == document


def test_the_families_move(served: Served) -> None:
    document = b"abc" * 10_000
    before = samples(served)
    frame = served.ask("POST", "/v1/compress", document, RAW).body
    gained = moved(served, before)
    assert gained.pop("compression_ratio_sum") == pytest.approx(len(document) / len(frame))
    assert gained == {
        'compression_requests_total{status="success"}': 1,
        "compression_ratio_count": 1,
        "compression_duration_seconds_count": 1,
        "original_size_bytes_count": 1,
        "original_size_bytes_sum": len(document),
        "compressed_size_bytes_count": 1,
        "compressed_size_bytes_sum": len(frame),
    }
    before = samples(served)
    served.ask("POST", "/v1/decompress", frame, RAW)
    assert moved(served, before) == {
        'decompression_requests_total{status="success"}': 1,
        "decompression_duration_seconds_count": 1,
    }


@pytest.mark.parametrize(("path", "most"), [("/v1/compress", MAX_DOCUMENT_BYTES), ("/v1/decompress", MAX_COMPRESSED_BYTES)])
def test_too_large_bodies_are_refused_and_counted(served: Served, path: str, most: int) -> None:
    before = samples(served)
    refuse(announce(served, path, most + 1), 413, "too_large")
    operation = "compression" if path.endswith("/compress") else "decompression"
    assert moved(served, before) == {f'{operation}_requests_total{{status="error"}}': 1}

    def chunks() -> Iterator[bytes]:
        for _ in range(most // 65536 + 2):
            yield bytes(65536)

    refuse(served.ask("POST", path, chunks(), RAW), 413, "too_large")


def announce(served: Served, path: str, length: int) -> Answer:
    """Announce a body, send none of it, and read the answer that comes all the same."""
    from tests.server_process import Answer

    with socket.create_connection(("127.0.0.1", served.port), timeout=60) as client:
        client.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode())
        with client.makefile("rb") as stream:
            status = int(stream.readline().split()[1])
            headers = dict(line.decode().strip().lower().split(": ", 1) for line in iter(stream.readline, b"\r\n"))
            return Answer(status, headers, stream.read(int(headers["content-length"])))


def test_a_bomb_is_refused(served: Served) -> None:
    pieces = zstandard.ZstdCompressor().compressobj()
    bomb = b"".join(pieces.compress(bytes(1 << 20)) for _ in range(100)) + pieces.flush()
    refuse(served.ask("POST", "/v1/decompress", bomb, RAW), 413, "unfolds_too_large")
    refuse(served.ask("POST", "/v1/decompress", zstandard.compress(bytes(100 << 20)), RAW), 413, "unfolds_too_large")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "empty"),
        (b"no frame", "malformed"),
        (zstandard.compress(b"x" * 100)[:-1], "truncated"),
        (zstandard.compress(b"x") + b"y", "trailing_bytes"),
    ],
)
def test_malformed_bodies_are_refused_and_counted(served: Served, body: bytes, reason: str) -> None:
    before = samples(served)
    refuse(served.ask("POST", "/v1/decompress", body, RAW), 422, reason)
    assert moved(served, before) == {'decompression_requests_total{status="error"}': 1}


def test_a_client_that_goes_away_is_counted_as_cancelled(served: Served) -> None:
    before = samples(served)
    with socket.create_connection(("127.0.0.1", served.port)) as client:
        client.sendall(b"POST /v1/compress HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nonly this")
    name = 'neurectomy_sigmalang_compression_requests_total{status="cancelled"}'
    wait_until(lambda: samples(served).get(name, 0) - before.get(name, 0) == 1, "the request is counted")
    assert "Traceback" not in served.log.read_text()


def test_other_requests_are_answered_beside_long_work(served: Served) -> None:
    from random import Random

    document = Random(1).randbytes(MAX_DOCUMENT_BYTES)
    answers: list[int] = []
    workers = [threading.Thread(target=lambda: answers.append(served.ask("POST", "/v1/compress", document, RAW).status)) for _ in range(4)]
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        assert served.ask("GET", "/health/live").status == 200
    assert answers == [200] * 4


def test_openapi_tells_the_raw_bodies_and_the_problems(served: Served) -> None:
    paths = json.loads(served.ask("GET", "/openapi.json").body)["paths"]
    binary = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    statuses = {"200", "404", "413", "422", "503", "507"}
    for path, parameters in (("/v1/compress", {"level", "dictionary"}), ("/v1/decompress", {"dictionary", "stream"})):
        operation = paths[path]["post"]
        assert operation["requestBody"]["content"] == binary
        assert {parameter["name"] for parameter in operation["parameters"]} == parameters
        assert set(operation["responses"]) == statuses
        assert operation["responses"]["200"]["content"] == binary
        for status in statuses - {"200"}:
            (kind,) = operation["responses"][status]["content"]
            assert kind == "application/problem+json"
            schema = operation["responses"][status]["content"][kind]["schema"]
            assert set(schema["required"]) == {"title", "status", "detail", "reason"}
    assert set(paths["/health/ready"]["get"]["responses"]) == {"200", "503"}
    assert "/metrics" not in paths


def test_system_info_says_which_deployment(served: Served) -> None:
    text = served.ask("GET", "/metrics").body.decode()
    (line,) = re.findall(r"^neurectomy_system_info\{.*", text, re.MULTILINE)
    assert 'environment="testing"' in line
    assert 'cluster="a b"' in line
    assert 'version="0.1.0"' in line
    assert line.endswith(" 1.0")
