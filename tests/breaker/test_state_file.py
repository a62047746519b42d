"""The file of a breaker's state: shared by processes and forks, one per run."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from monitoring.breaker import CLOSED, OPEN, Breaker, CircuitOpenError, Policy, state_layout
from monitoring.multiprocess import shared_state
from monitoring.multiprocess.worker.slot_store import Phase
from tests.multiprocess.simulated_workers import no_lease

from .conftest import SECOND, fail, refused, succeed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    from .conftest import Service

    Make = Callable[..., Service]


def test_a_forked_child_has_its_own_region_and_no_probe(make: Make) -> None:
    service = make(failures=3, open_seconds=1)
    breaker = service.worker()
    fail(breaker)

    def in_child(work: Callable[[], bool]) -> None:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                code = 0 if work() else 1
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

    def child() -> bool:
        mine = breaker.state == CLOSED and breaker._shared.own_region
        fail(breaker)
        return mine and breaker._shared.region != region

    region = breaker._shared.region
    in_child(child)
    assert breaker.state == CLOSED
    fail(breaker)
    assert breaker.state == OPEN, "what failed in the child counts"
    service.now += SECOND
    call = breaker.call()
    with call:
        held = call._held
        assert held

        def ends_the_parents_probe() -> bool:
            breaker._shared.drop(held)
            return refused(breaker) == 1.0

        in_child(ends_the_parents_probe)
        assert refused(breaker) == 1.0
    assert breaker.state == CLOSED


def test_a_child_does_not_wait_for_its_parents_counting_thread(make: Make) -> None:
    breaker = make(failures=3).worker()
    succeed(breaker)
    with breaker._shared.counting:
        pid = os.fork()
        if pid == 0:
            signal.alarm(60)
            try:
                succeed(breaker)
                os._exit(0)
            finally:
                os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_signal_handler_may_call_while_its_own_thread_counts(make: Make) -> None:
    breaker = make(failures=3).worker()
    succeed(breaker)
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        try:
            succeed(breaker)
            with breaker._shared.counting:
                succeed(breaker)
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_process_with_another_slot_opens_the_file_again(make: Make) -> None:
    service = make(failures=1)
    one, other = service.worker(), service.worker()
    succeed(one)
    shared_state.store.hooks.call(Phase.RENEWED)
    assert one._shared.shared is False
    fail(other)
    assert one.state == OPEN


def test_without_a_directory_the_state_is_the_processs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_state, "store", no_lease(None))
    breaker = Breaker("alone", Policy(failures=1, open_seconds=0.001))
    fail(breaker)
    while breaker.state == OPEN:
        try:
            with breaker.call():
                assert refused(breaker) == 1.0
        except CircuitOpenError:
            continue
    assert breaker.state == CLOSED


def test_more_processes_than_regions(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    service = make(failures=6)
    monkeypatch.setattr(state_layout, "REGIONS", 3)
    workers = [service.worker() for _ in range(5)]
    for worker in workers:
        succeed(worker)
        fail(worker)
    assert [worker._shared.own_region for worker in workers] == [True, True, False, False, False]
    assert workers[0].state == CLOSED
    fail(workers[4])
    assert workers[0].state == OPEN


def test_a_new_run_begins_closed(make: Make, directory: Path) -> None:
    from monitoring.multiprocess.storage import run

    service = make(failures=1)
    fail(service.worker())
    service.breakers[0]._shared.close()
    run.clear(directory, run.read(directory))
    assert not list(directory.glob("breaker-*"))
    assert service.worker().state == CLOSED
