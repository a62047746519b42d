"""Breakers of several workers in one process: each Breaker opens the file for itself, and holds locks of its own."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from monitoring import metrics
from monitoring.breaker import STATES, Breaker, CircuitOpenError, Policy
from monitoring.multiprocess import shared_state
from tests.multiprocess.simulated_workers import no_lease

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SECOND = 1_000_000_000


class DownError(Exception):
    """The service failed."""


@dataclass
class Service:
    """One service, its workers' breakers and their clock."""

    directory: Path
    policy: Policy = field(default_factory=Policy)
    name: str = field(default_factory=lambda: f"service-{uuid.uuid4().hex[:8]}")
    now: int = 1000 * SECOND
    breakers: list[Breaker] = field(default_factory=list)

    def worker(self, **options: Any) -> Breaker:
        """One more worker."""
        self.breakers.append(Breaker(self.name, self.policy, clock=lambda: self.now, **options))
        return self.breakers[-1]

    @property
    def file(self) -> Path:
        """The file of its state."""
        (path,) = self.directory.glob("breaker-*.state")
        return path

    def transitions(self) -> dict[str, float]:
        """How often each change was counted."""
        found = {}
        for old in STATES:
            for new in STATES:
                if value := metrics.circuit_breaker_transitions.labels(self.name, old, new)._value.get():
                    found[f"{old}-{new}"] = value
        return found

    def calls(self) -> dict[str, float]:
        """How many calls were counted of each result."""
        results = ("success", "failure", "refused")
        return {result: value for result in results if (value := metrics.circuit_breaker_calls.labels(self.name, result)._value.get())}


def fail(breaker: Breaker, times: int = 1) -> None:
    """So many calls fail."""
    for _ in range(times):
        with pytest.raises(DownError), breaker.call():
            raise DownError


def succeed(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        with breaker.call():
            pass


def refused(breaker: Breaker) -> float:
    """Whatever is called is refused; for how many seconds."""
    with pytest.raises(CircuitOpenError) as found, breaker.call():
        raise AssertionError("it was let through")
    assert breaker.service in str(found.value)
    return found.value.retry_after


@pytest.fixture
def directory(metrics_directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(shared_state, "store", no_lease(metrics_directory))
    return metrics_directory


@pytest.fixture
def make(directory: Path) -> Iterator[Callable[..., Service]]:
    """Make a service with this policy."""
    made: list[Service] = []

    def service(**policy: Any) -> Service:
        made.append(Service(directory, Policy(**policy)))
        return made[-1]

    yield service
    for each in made:
        for breaker in each.breakers:
            breaker._shared.close()
