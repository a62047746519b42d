"""ΣVAULT over HTTP: raw bytes, problem documents, and every operation counted once."""

from __future__ import annotations

import json
import os
import socket
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.integrations.vault.encryption import CHUNK_BYTES
from tests.app.conftest import serve_app
from tests.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.server_process import Answer, Served

OBJECTS = "/v1/vault/objects"
SNAPSHOTS = "/v1/vault/snapshots"
MOST_BYTES = 96 * 1024 * 1024
LARGE_BYTES = 70 * 1024 * 1024
"""More than is verified in memory."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("vault")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Iterator[Served]:
    with serve_app(tmp_path_factory, VAULT_URL=folder.as_uri(), VAULT_MAX_OBJECT_BYTES=str(MOST_BYTES)) as server:
        yield server


def counted(served: Served) -> dict[tuple[str, ...], float]:
    """Give the vault's counters by family and labels."""
    families = text_string_to_metric_families(served.ask("GET", "/metrics").body.decode())
    return {
        (sample.name.removeprefix("neurectomy_sigmavault_"), *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
        if sample.name.startswith("neurectomy_sigmavault_") and not sample.name.endswith(("_bucket", "_sum", "_created"))
    }


def moved(served: Served, before: dict[tuple[str, ...], float]) -> dict[tuple[str, ...], float]:
    return {
        key: value - before.get(key, 0) for key, value in counted(served).items() if value != before.get(key, 0) and "bytes" not in key[0]
    }


def refused(answer: Answer, status: int, reason: str) -> str:
    problem = json.loads(answer.body)
    assert (answer.status, problem["reason"]) == (status, reason), answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    detail: str = problem["detail"]
    return detail


def blob(folder: Path, name: str) -> Path:
    number = (folder / "objects" / name).read_bytes()[-16:].hex()
    return folder / "blobs" / number[:2] / number


def test_there_and_back_and_counted(served: Served) -> None:
    before = counted(served)
    for name, content in {"a": b"", "a/b c/ü": b"content", "a/../%\t": b"x", "c": os.urandom(5 * 1024 * 1024)}.items():
        answer = served.ask("PUT", f"{OBJECTS}/{quote(name)}", content)
        assert (answer.status, json.loads(answer.body)) == (201, {"name": name, "bytes": len(content)})
        for query in ("", "?stream=1"):
            answer = served.ask("GET", f"{OBJECTS}/{quote(name)}{query}")
            assert (answer.status, answer.body) == (200, content)
            assert answer.headers["content-type"] == "application/octet-stream"
            assert answer.headers["content-length"] == str(len(content))
    assert json.loads(served.ask("GET", f"{OBJECTS}?prefix=a").body) == {"names": ["a", "a/../%\t", "a/b c/ü"]}
    assert json.loads(served.ask("GET", f"{OBJECTS}?limit=1&after=a").body) == {"names": ["a/../%\t"]}
    assert served.ask("DELETE", f"{OBJECTS}/a").status == 204
    refused(served.ask("GET", f"{OBJECTS}/a"), 404, "unknown_object")
    refused(served.ask("DELETE", f"{OBJECTS}/a"), 404, "unknown_object")
    found = moved(served, before)
    found.pop(("objects_total",), None)  # set by maintenance, at any time
    assert found == {
        ("operations_total", "store", "success"): 4,
        ("operations_total", "retrieve", "success"): 8,
        ("operations_total", "retrieve", "error"): 1,
        ("operations_total", "delete", "success"): 1,
        ("operations_total", "delete", "error"): 1,
        ("operation_duration_seconds_count", "store"): 4,
        ("operation_duration_seconds_count", "retrieve"): 9,
        ("operation_duration_seconds_count", "delete"): 2,
        ("encryption_duration_seconds_count", "encrypt"): 4,
        ("encryption_duration_seconds_count", "decrypt"): 8,
    }


def test_what_cannot_be(served: Served) -> None:
    before = counted(served)
    for method in ("PUT", "GET", "DELETE"):
        refused(served.ask(method, f"{OBJECTS}/{'x' * 513}", b"x" if method == "PUT" else None), 422, "invalid")
        refused(served.ask(method, f"{OBJECTS}/{'%c3%a9' * 250}", b"x" if method == "PUT" else None), 422, "invalid_name")
        refused(served.ask(method, f"{OBJECTS}/c%0a", b"x" if method == "PUT" else None), 404, "not_found")
    refused(served.ask("PUT", f"{OBJECTS}/big", bytes(1), {"Content-Length": str(MOST_BYTES + 1)}), 413, "too_large")
    refused(served.ask("PUT", f"{OBJECTS}/big", (bytes(1024 * 1024) for _ in range(97))), 413, "too_large")
    refused(served.ask("GET", f"{OBJECTS}/big"), 404, "unknown_object")
    refused(served.ask("GET", f"{OBJECTS}?limit=0"), 422, "invalid")
    assert moved(served, before)["operations_total", "store", "error"] == 4


def test_a_tampered_object_gives_no_byte_and_a_streamed_one_is_cut_off(served: Served, folder: Path) -> None:
    content = os.urandom(LARGE_BYTES)
    assert served.ask("PUT", f"{OBJECTS}/large", content).status == 201
    assert served.ask("GET", f"{OBJECTS}/large").body == content
    assert served.ask("GET", f"{OBJECTS}/large?stream=1").body == content
    path = blob(folder, "large")
    with path.open("r+b") as file:
        file.seek(-100, os.SEEK_END)
        byte = file.read(1)
        file.seek(-100, os.SEEK_END)
        file.write(bytes([byte[0] ^ 1]))
    before = counted(served)
    detail = refused(served.ask("GET", f"{OBJECTS}/large"), 422, "tampered")
    assert detail == f"chunk {LARGE_BYTES // CHUNK_BYTES - 1} was changed"
    with socket.create_connection(("127.0.0.1", served.port)) as connection:
        connection.sendall(f"GET {OBJECTS}/large?stream=1 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        received = bytearray()
        while piece := connection.recv(1 << 20):
            received += piece
    head, _, body = bytes(received).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert content.startswith(body)
    assert 0 < len(body) <= LARGE_BYTES - CHUNK_BYTES
    assert moved(served, before)["operations_total", "retrieve", "error"] == 2
    # A smaller one, in memory.
    assert served.ask("PUT", f"{OBJECTS}/small", b"content" * 100).status == 201
    content = blob(folder, "small").read_bytes()
    blob(folder, "small").write_bytes(content[:-1])
    refused(served.ask("GET", f"{OBJECTS}/small"), 422, "tampered")
    assert served.ask("DELETE", f"{OBJECTS}/large").status == served.ask("DELETE", f"{OBJECTS}/small").status == 204


def test_a_client_that_leaves_stores_nothing(served: Served, folder: Path) -> None:
    before = counted(served)
    with socket.create_connection(("127.0.0.1", served.port)) as connection:
        connection.sendall(f"PUT {OBJECTS}/left HTTP/1.1\r\nHost: x\r\nContent-Length: 50000000\r\n\r\n".encode() + bytes(20_000_000))
        wait_until(lambda: list(folder.glob("blobs/*/*#*")), "the upload has begun")
    wait_until(lambda: ("operations_total", "store", "cancelled") in moved(served, before), "it is counted")
    refused(served.ask("GET", f"{OBJECTS}/left"), 404, "unknown_object")
    wait_until(lambda: not list(folder.glob("blobs/*/*#*")), "nothing of it is left")


def test_snapshots(served: Served) -> None:
    before = counted(served)
    names = [f"snapshots/{number}" for number in range(5)]
    for name in names:
        served.ask("PUT", f"{OBJECTS}/{name}", b"old")
    answer = served.ask("POST", SNAPSHOTS)
    taken = json.loads(answer.body)
    assert answer.status == 201
    assert taken in json.loads(served.ask("GET", SNAPSHOTS).body)["snapshots"]
    served.ask("PUT", f"{OBJECTS}/{names[0]}", b"new")
    served.ask("DELETE", f"{OBJECTS}/{names[1]}")
    answer = served.ask("POST", f"{SNAPSHOTS}/{taken['id']}/restore")
    assert (answer.status, json.loads(answer.body)) == (200, {"id": taken["id"], "done": True})
    assert json.loads(served.ask("GET", f"{OBJECTS}?prefix=snapshots/").body)["names"] == names
    assert served.ask("GET", f"{OBJECTS}/{names[0]}").body == b"old"
    assert served.ask("DELETE", f"{SNAPSHOTS}/{taken['id']}").status == 204
    for method, path in (
        ("DELETE", f"{SNAPSHOTS}/{taken['id']}"),
        ("POST", f"{SNAPSHOTS}/{taken['id']}/restore"),
        ("DELETE", f"{SNAPSHOTS}/x"),
    ):
        refused(served.ask(method, path), 404, "unknown_snapshot")
    assert moved(served, before)["snapshots_total", "backup", "success"] == 1
    assert moved(served, before)["snapshots_total", "restore", "success"] == 1
    assert moved(served, before)["snapshot_duration_seconds_count", "restore", "success"] == 1


def test_how_much_there_is(served: Served, folder: Path) -> None:
    served.ask("PUT", f"{OBJECTS}/measured", bytes(1000))

    def told() -> bool:
        found = counted(served)
        blobs = [path.stat().st_size for path in folder.glob("blobs/*/*")]
        objects = [path for path in folder.glob("objects/**/*") if path.is_file()]
        return (found.get(("objects_total",)), found.get(("storage_bytes_total",))) == (len(objects), sum(blobs))

    wait_until(told, "the gauges say what the store holds")


def test_without_a_key_the_service_is_ready_and_the_vault_alone_is_not(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    with serve_app(tmp_path_factory, VAULT_KEY_FILE="") as server:
        assert server.ask("GET", "/health/ready").status == 200
        snapshot = f"{SNAPSHOTS}/{'0' * 32}"
        for method, path in (
            *((method, f"{OBJECTS}/x") for method in ("PUT", "GET", "DELETE")),
            *((method, SNAPSHOTS) for method in ("GET", "POST")),
            ("GET", OBJECTS),
            ("DELETE", snapshot),
            ("POST", f"{snapshot}/restore"),
        ):
            assert "VAULT_KEY_FILE" in refused(server.ask(method, path, b"x" if method == "PUT" else None), 503, "no_vault_key")
        assert server.ask("POST", "/v1/compress", b"x").status == 200
    (tmp_path / "bad").write_text("nonsense")
    (tmp_path / "bad").chmod(0o600)
    with serve_app(tmp_path_factory, VAULT_KEY_FILE=str(tmp_path / "bad")) as server:
        assert server.ask("GET", "/health/ready").status == 200
        assert "line 1" in refused(server.ask("GET", f"{OBJECTS}/x"), 503, "no_vault_key")


def test_a_full_disk_and_a_store_that_is_away(tmp_path_factory: pytest.TempPathFactory, small_disk: Path) -> None:
    with serve_app(tmp_path_factory, VAULT_URL=(small_disk / "vault").as_uri()) as server:
        assert server.ask("PUT", f"{OBJECTS}/x", b"old").status == 201
        assert "the store is full" in refused(server.ask("PUT", f"{OBJECTS}/x", os.urandom(32 * 1024 * 1024)), 507, "storage_full")
        assert server.ask("GET", f"{OBJECTS}/x").body == b"old"
        assert not list(small_disk.rglob("*#*"))
    away = {"AWS_ENDPOINT": "http://127.0.0.1:1", "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "AWS_REGION": "z"}
    with serve_app(tmp_path_factory, VAULT_URL="s3://bucket/prefix", **away) as server:
        for method, path in (("PUT", f"{OBJECTS}/x"), ("GET", f"{OBJECTS}/x"), ("GET", OBJECTS), ("POST", SNAPSHOTS)):
            answer = server.ask(method, path, b"x" if method == "PUT" else None)
            refused(answer, 503, "storage_unavailable")
            assert int(answer.headers["retry-after"]) > 0
        assert server.ask("GET", "/health/ready").status == 200
