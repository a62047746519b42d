"""Random calls of random workers, deaths and pauses, against a plain model of what one breaker that knows all should do."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from monitoring.breaker import CLOSED, HALF_OPEN, OPEN, STATES, CircuitOpenError, Policy
from monitoring.multiprocess import shared_state
from tests.multiprocess.simulated_workers import no_lease

from .conftest import SECOND, DownError, Service

OUTCOMES = {"answered": None, "failed": DownError(), "cancelled": GeneratorExit()}
WORKERS = st.integers(0, 3)


@dataclass
class Held:
    """A call that has begun and not ended."""

    worker: int
    call: Any
    generation: int
    probe: bool


class Machine(RuleBasedStateMachine):
    """Workers are breakers of one process, each with locks of its own."""

    @initialize(failures=st.integers(1, 4), rate=st.sampled_from([0.0, 0.3, 0.5]), minimum=st.sampled_from([1, 5]))
    def begin_service(self, failures: int, rate: float, minimum: int) -> None:
        self.patch = pytest.MonkeyPatch()
        self.directory = Path(tempfile.mkdtemp(prefix="neurectomy-test-", dir="/dev/shm"))
        self.patch.setattr(shared_state, "store", no_lease(self.directory))
        self.policy = Policy(failures=failures, rate=rate, minimum_calls=minimum, window_seconds=60, open_seconds=10)
        self.service = Service(self.directory, self.policy)
        self.workers = [self.service.worker() for _ in range(4)]
        self.held: list[Held] = []
        # The model.
        self.state, self.generation, self.opened, self.probing = CLOSED, 1, 0, False
        self.calls: list[tuple[int, int, bool]] = []
        self.changes: dict[str, int] = {}
        self.counted = {"success": 0, "failure": 0, "refused": 0}

    def change(self, state: int) -> None:
        name = f"{STATES[self.state]}-{STATES[state]}"
        self.changes[name] = self.changes.get(name, 0) + 1
        self.state, self.generation = state, self.generation + 1
        if state == OPEN:
            self.opened = self.service.now

    @rule(worker=WORKERS)
    def begin(self, worker: int) -> None:
        call = self.workers[worker].call()
        try:
            call.__enter__()
            admitted = True
        except CircuitOpenError:
            admitted = False
        over = self.service.now - self.opened >= 10 * SECOND
        expected = self.state == CLOSED or (not self.probing and (self.state == HALF_OPEN or over))
        assert admitted == expected
        if not admitted:
            self.counted["refused"] += 1
            return
        probe = self.state != CLOSED
        if probe:
            self.probing = True
            if self.state == OPEN:
                self.change(HALF_OPEN)
        self.held.append(Held(worker, call, self.generation, probe))

    @precondition(lambda self: self.held)
    @rule(data=st.data(), outcome=st.sampled_from(sorted(OUTCOMES)))
    def end(self, data: st.DataObject, outcome: str) -> None:
        held = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        held.call.end(OUTCOMES[outcome])
        if held.probe:
            self.probing = False
        if outcome == "cancelled":
            return
        failed = outcome == "failed"
        self.counted["failure" if failed else "success"] += 1
        if held.probe:
            self.change(OPEN if failed else CLOSED)
            return
        self.calls.append((held.generation, self.service.now // (6 * SECOND), failed))
        if failed and self.state == CLOSED and held.generation == self.generation:
            now = self.service.now // (6 * SECOND)
            recent = [bad for generation, tenth, bad in self.calls if generation == self.generation and now - tenth < 10]
            failures = sum(recent)
            policy = self.policy
            if failures >= policy.failures and len(recent) >= policy.minimum_calls and failures >= policy.rate * len(recent):
                self.change(OPEN)

    @rule(calls=st.lists(st.tuples(WORKERS, st.booleans()), min_size=1, max_size=10))
    def call_at_once(self, calls: list[tuple[int, bool]]) -> None:
        for worker, bad in calls:
            self._call(worker, bad)

    def _call(self, worker: int, bad: bool) -> None:
        before = len(self.held)
        self.begin(worker)
        if len(self.held) > before:
            held = self.held.pop()
            self.held.insert(0, held)
            outcome = "failed" if bad else "answered"
            self.end(types.SimpleNamespace(draw=lambda _: 0), outcome)  # type: ignore[arg-type]

    @rule(worker=WORKERS)
    def kill(self, worker: int) -> None:
        """What the kernel does for the dead: its locks go. What it counted stays, its calls never end."""
        for held in [each for each in self.held if each.worker == worker]:
            self.held.remove(held)
            if held.probe:
                self.workers[worker]._shared.drop(held.call._held)
                self.probing = False
        self.workers[worker]._shared.close()
        self.workers[worker] = self.service.worker()

    @rule(seconds=st.sampled_from([0.5, 3, 7, 10, 25, 61]))
    def wait(self, seconds: float) -> None:
        self.service.now += int(seconds * SECOND)

    @invariant()
    def one_opinion(self) -> None:
        if hasattr(self, "workers"):
            assert [worker.state for worker in self.workers] == [self.state] * 4
            assert self.service.transitions() == self.changes
            assert self.service.calls() == {result: count for result, count in self.counted.items() if count}

    def teardown(self) -> None:
        if hasattr(self, "workers"):
            for held in self.held:
                with contextlib.suppress(Exception):
                    held.call.end(GeneratorExit())
            for breaker in self.service.breakers:
                breaker._shared.close()
            self.patch.undo()
            shutil.rmtree(self.directory)


Machine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestModel = Machine.TestCase
