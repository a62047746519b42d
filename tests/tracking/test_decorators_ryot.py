"""Calls of models and operations on storage: under which labels they are counted, and that types and the seed's own code hold."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import REGISTRY

from monitoring.metrics import increment_tokens_generated, track_ryot_request, track_storage_operation
from tests.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"neurectomy_{name}", labels) or 0.0


def calls(model: str, status: str = "success") -> float:
    return value("ryot_requests_total", model=model, status=status)


@track_ryot_request
def bare(prompt: str, model: str = "of the default") -> str:
    return prompt


@track_ryot_request
def only_by_name(*, model: str | None = None) -> None:
    del model


@track_ryot_request(model="fixed")
def fixed(model: str = "ignored") -> None:
    del model


@track_ryot_request
def without(prompts: list[str]) -> None:
    del prompts


@track_ryot_request
def anything(*args: Any, **kwargs: Any) -> None:
    del args, kwargs


class Client:
    @track_ryot_request
    async def method(self, model: str, prompt: str) -> str:
        return model + prompt


@pytest.mark.parametrize(
    ("call", "model"),
    [
        (lambda: bare("x"), "of the default"),
        (lambda: bare("x", "by place"), "by place"),
        (lambda: bare("x", model="by name"), "by name"),
        (lambda: only_by_name(model="only by name"), "only by name"),
        (only_by_name, "default"),
        (lambda: only_by_name(model=""), "default"),
        (lambda: only_by_name(model=7), "default"),  # type: ignore[arg-type]
        (lambda: fixed("given"), "fixed"),
        (lambda: without(["x"]), "default"),
        (lambda: anything(1, model="in kwargs"), "in kwargs"),
        (lambda: asyncio.run(Client().method("of a method", "x")), "of a method"),
    ],
)
def test_the_model_of_a_call(call: Callable[[], object], model: str) -> None:
    before, durations = calls(model), value("ryot_request_duration_seconds_count", model=model)
    call()
    assert calls(model) == before + 1
    assert value("ryot_request_duration_seconds_count", model=model) == durations + 1


def test_a_call_that_fails_has_a_duration_too() -> None:
    @track_ryot_request(model="slow")
    async def slow() -> None:
        await asyncio.wait_for(asyncio.Event().wait(), 0.001)

    with pytest.raises(TimeoutError):
        asyncio.run(slow())
    assert calls("slow", "timeout") == value("ryot_request_duration_seconds_count", model="slow") == 1


def test_a_stream_is_one_call() -> None:
    @track_ryot_request
    async def stream(model: str) -> AsyncGenerator[str]:
        yield model
        yield model

    async def use() -> list[str]:
        return [token async for token in stream("streamed")]

    assert asyncio.run(use()) == ["streamed", "streamed"]
    assert calls("streamed") == 1


def test_the_batch() -> None:
    @track_ryot_request(model="batched")
    def generate(prompt: str = "", prompts: tuple[str, ...] | None = None) -> None:
        del prompt, prompts

    def observed() -> tuple[float, float]:
        return value("ryot_batch_size_count", model="batched"), value("ryot_batch_size_sum", model="batched")

    generate("x")
    assert observed() == (1, 1)
    generate(prompts=("x", "y", "z"))
    assert observed() == (2, 4)


def test_tokens() -> None:
    before = value("ryot_tokens_generated_total", model="counted")
    increment_tokens_generated("counted", 3)
    increment_tokens_generated("counted")
    assert value("ryot_tokens_generated_total", model="counted") == before + 4
    with pytest.raises(ValueError, match="non-negative"):
        increment_tokens_generated("counted", -1)


@track_storage_operation("store")
async def store_encrypted(path: str, data: bytes) -> int:
    if not path:
        raise FileNotFoundError(path)
    return len(data)


@track_storage_operation
def retrieve(path: str) -> str:
    return path


@track_storage_operation()
def delete(path: str) -> str:
    return path


def test_storage_operations_by_name_and_outcome() -> None:
    def counted(operation: str, status: str = "success") -> float:
        return value("sigmavault_operations_total", operation=operation, status=status)

    operations = ("store", "retrieve", "delete")
    before = [counted(name) for name in operations]
    took = [value("sigmavault_operation_duration_seconds_count", operation=name) for name in operations]
    errors = counted("store", "error")
    assert asyncio.run(store_encrypted("a", b"12")) == 2
    assert (retrieve("a"), delete("b")) == ("a", "b")
    with pytest.raises(FileNotFoundError):
        asyncio.run(store_encrypted("", b""))
    assert [counted(name) for name in operations] == [number + 1 for number in before]
    assert counted("store", "error") == errors + 1
    now = [value("sigmavault_operation_duration_seconds_count", operation=name) for name in operations]
    assert now == [took[0] + 2, took[1] + 1, took[2] + 1]


SEEN_THROUGH = """
from collections.abc import AsyncIterator
from typing import assert_type
from monitoring.metrics import track_compression, track_decompression, track_ryot_request, track_storage_operation

@track_ryot_request
async def ask(prompt: str, model: str = "default") -> int: ...
@track_ryot_request(model="m")
async def stream(prompt: str) -> AsyncIterator[str]:
    yield prompt
@track_storage_operation("store")
def store(path: str, data: bytes) -> bool: ...
@track_storage_operation
def delete(path: str) -> bool: ...
class Codec:
    @track_compression
    async def compress(self, data: bytes) -> bytes: ...
    @track_decompression()
    def decompress(self, data: bytes) -> bytes: ...

async def use() -> None:
    assert_type(await ask("x"), int)
    assert_type([token async for token in stream("x")], list[str])
    assert_type(store("x", b""), bool)
    assert_type(delete("x"), bool)
    assert_type(await Codec().compress(b""), bytes)
    assert_type(Codec().decompress(b""), bytes)
    await ask(7)  # error: arg-type
    store("x")  # error: call-arg
    Codec().decompress("x")  # error: arg-type
"""


def test_mypy_sees_through_the_decorators(tmp_path: Path) -> None:
    module = tmp_path / "seen_through.py"
    module.write_text(SEEN_THROUGH)
    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--follow-imports=silent",
            "--disable-error-code=empty-body",
            "--cache-dir",
            str(tmp_path / "cache"),
            str(module),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    expected = [(number, line.rpartition("error: ")[2]) for number, line in enumerate(SEEN_THROUGH.splitlines(), 1) if "# error" in line]
    found = [line for line in ran.stdout.splitlines() if "error:" in line]
    assert len(found) == len(expected), ran.stdout + ran.stderr
    for (number, code), line in zip(expected, found, strict=True):
        assert f":{number}:" in line, line
        assert f"[{code}]" in line, line
