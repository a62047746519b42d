"""S3's circuit breaker: what never asked the server is no answer of it, neither in the rate of failures nor as a probe."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from app.integrations.vault.errors import UnavailableError
from app.integrations.vault.object_storage import SERVICE, ObjectStorage
from monitoring import metrics
from monitoring.breaker import CLOSED, OPEN, Policy

from .conftest import given, run

if TYPE_CHECKING:
    from collections.abc import Callable

FAILURES = 2


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch, free_port: Callable[[], int]) -> Callable[[float], ObjectStorage]:
    """Make a storage in S3 where nobody listens, whose breaker stays open for so many seconds."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("AWS_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    return lambda seconds: ObjectStorage("s3://bucket/prefix", Policy(failures=FAILURES, rate=1, open_seconds=seconds))


def state(storage: ObjectStorage) -> int:
    assert storage._breaker is not None
    return storage._breaker.state


def changes(old: str, new: str) -> float:
    return metrics.circuit_breaker_transitions.labels(SERVICE, old, new)._value.get()


async def listed(storage: ObjectStorage) -> list[object]:
    return [each async for each in storage.list("")]


def test_uploads_alone_open_it(away: Callable[[float], ObjectStorage]) -> None:
    storage = away(3600)
    for _ in range(FAILURES):
        assert state(storage) == CLOSED
        with pytest.raises(UnavailableError, match="failed"):
            run(storage.write("a", given(b"one", b"two")))
    assert state(storage) == OPEN
    with pytest.raises(UnavailableError) as refused:
        run(storage.put("a", b"x"))
    assert refused.value.retry_after


def test_parts_of_an_upload_that_fail_count(away: Callable[[float], ObjectStorage]) -> None:
    storage = away(3600)
    for _ in range(FAILURES):
        with pytest.raises(UnavailableError, match="failed"):
            run(storage.write("a", given(*[bytes(1024 * 1024)] * 40)))
    assert state(storage) == OPEN


def test_a_list_that_fails_is_a_probe_that_fails(away: Callable[[float], ObjectStorage]) -> None:
    storage = away(0.001)
    for _ in range(FAILURES):
        with pytest.raises(UnavailableError, match="failed"):
            run(storage.get("a"))
    before = changes("half_open", "open"), changes("half_open", "closed")
    time.sleep(0.01)  # it is open for a thousandth of a second
    with pytest.raises(UnavailableError, match="the store failed"):
        run(listed(storage))
    assert (changes("half_open", "open"), changes("half_open", "closed")) == (before[0] + 1, before[1])
    assert state(storage) == OPEN
