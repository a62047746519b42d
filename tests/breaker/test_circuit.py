"""The breaker: when it opens, which calls it refuses and counts, and which call probes."""

from __future__ import annotations

import asyncio
import inspect
import pickle
import threading
from typing import TYPE_CHECKING, Any

import pytest

from monitoring import metrics
from monitoring.breaker import CLOSED, HALF_OPEN, OPEN, Breaker, CircuitOpenError, state_layout

from .conftest import SECOND, DownError, fail, refused, succeed

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Service

    Make = Callable[..., Service]


def test_failures_anywhere_open_it_everywhere(make: Make) -> None:
    service = make(failures=5, open_seconds=30)
    workers = [service.worker() for _ in range(4)]
    for worker in workers:
        succeed(worker)
        fail(worker)
    assert [worker.state for worker in workers] == [CLOSED] * 4
    fail(workers[2])
    assert [worker.state for worker in workers] == [OPEN] * 4
    service.now += 10 * SECOND
    assert [refused(worker) for worker in workers] == [20.0] * 4
    assert service.transitions() == {"closed-open": 1}
    assert service.calls() == {"success": 4, "failure": 5, "refused": 4}
    assert metrics.circuit_breaker_failures.labels(service.name)._value.get() == 5
    assert metrics.circuit_breaker_state.labels(service.name).collect()[0].samples[0].value == OPEN


def test_failures_after_the_call_count_also_before_any_call(make: Make) -> None:
    service = make(failures=2)
    one, other = service.worker(), service.worker()
    one.fail()
    other.fail()
    assert one.state == other.state == OPEN
    one.fail()
    assert service.calls() == {"failure": 3}
    assert service.transitions() == {"closed-open": 1}


def test_failures_of_long_ago_do_not_count(make: Make) -> None:
    service = make(failures=3, window_seconds=60)
    one, other = service.worker(), service.worker()
    fail(one, 2)
    service.now += 61 * SECOND
    fail(other, 2)
    service.now += 30 * SECOND
    assert one.state == CLOSED
    fail(one)
    assert one.state == OPEN


def test_by_rate(make: Make) -> None:
    service = make(failures=2, rate=0.5, minimum_calls=10)
    one, other = service.worker(), service.worker()
    fail(one, 4)
    succeed(other, 5)
    assert one.state == CLOSED, "nine calls are too few to say"
    succeed(other, 3)
    fail(one, 3)
    assert one.state == CLOSED, "7 of 15 are less than a half"
    fail(other)
    assert one.state == OPEN


def test_one_probe_over_all_workers(make: Make) -> None:
    service = make(failures=1, open_seconds=30)
    one, other = service.worker(), service.worker()
    fail(one)
    service.now += 30 * SECOND
    assert one.state == OPEN, "nobody has asked"
    with other.call():
        assert [refused(worker) for worker in (one, other)] == [1.0, 1.0]
        assert one.state == HALF_OPEN
    assert one.state == other.state == CLOSED
    succeed(one)
    assert service.transitions() == {"closed-open": 1, "open-half_open": 1, "half_open-closed": 1}


def test_a_probe_that_fails_opens_it_for_as_long_again(make: Make) -> None:
    service = make(failures=1, open_seconds=30)
    one, other = service.worker(), service.worker()
    fail(one)
    service.now += 31 * SECOND
    fail(other)
    assert refused(one) == 30.0
    service.now += 29 * SECOND
    assert refused(other) == 1.0
    service.now += SECOND
    succeed(one)
    assert service.transitions() == {"closed-open": 1, "open-half_open": 2, "half_open-open": 1, "half_open-closed": 1}


def test_late_failures_do_not_open_a_closed_breaker(make: Make) -> None:
    service = make(failures=3, open_seconds=1, window_seconds=60)
    one, other = service.worker(), service.worker()
    late = other.call()
    late.__enter__()
    fail(one, 3)
    service.now += SECOND
    succeed(other)
    fail(one, 2)
    late.end(DownError())
    assert one.state == CLOSED
    fail(other)
    assert one.state == OPEN


def test_a_cancelled_probe_changes_nothing(make: Make) -> None:
    service = make(failures=1, open_seconds=1)
    one, other = service.worker(), service.worker()
    fail(one)
    service.now += SECOND
    with pytest.raises(asyncio.CancelledError), one.call():
        raise asyncio.CancelledError
    assert one.state == HALF_OPEN
    succeed(other)
    assert one.state == CLOSED
    assert service.calls() == {"failure": 1, "success": 1}


def test_what_counts(make: Make) -> None:
    service = make(failures=2)
    worker = service.worker(counts=(DownError, TimeoutError), ignores=(ConnectionError,))
    for error in (ValueError, ConnectionError, KeyboardInterrupt, GeneratorExit):
        for _ in range(2):
            with pytest.raises(error), worker.call():
                raise error
    assert worker.state == CLOSED
    assert service.calls() == {"success": 4}
    with pytest.raises(TimeoutError), worker.call():
        raise TimeoutError
    fail(worker)
    assert worker.state == OPEN


def test_of_many_coroutines_one_probes(make: Make) -> None:
    service = make(failures=1, open_seconds=1)
    workers = [service.worker() for _ in range(3)]
    fail(workers[0])
    service.now += SECOND
    probes = []

    async def ask(breaker: Breaker) -> None:
        try:
            async with breaker.call():
                probes.append(breaker)
                await asyncio.sleep(0.01)
        except CircuitOpenError:
            pass

    async def all_of_them() -> None:
        await asyncio.gather(*(ask(breaker) for breaker in workers for _ in range(30)))

    asyncio.run(all_of_them())
    assert len(probes) == 1
    assert service.transitions()["open-half_open"] == 1


def test_of_many_threads_one_probes_and_every_call_counts(make: Make) -> None:
    service = make(failures=1000, rate=0.9, open_seconds=1)
    one, other = service.worker(), service.worker()
    threads = [threading.Thread(target=lambda breaker=breaker: (succeed(breaker, 500), fail(breaker, 50))) for breaker in (one, other) * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert service.calls() == {"success": 3000, "failure": 300}
    with other._shared.editing() as held:
        assert state_layout.recorded(held, state_layout.key_of(1, service.now, other._width)) == (3300, 300)


@pytest.mark.parametrize("generator", [False, True])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_decorates_every_kind_of_function(make: Make, asynchronous: bool, generator: bool) -> None:
    service = make(failures=2)
    breaker = service.worker()

    def plain(bad: bool) -> Any:
        if bad:
            raise DownError
        return 1

    def generating(bad: bool) -> Any:
        yield 1
        plain(bad)

    async def coroutine(bad: bool) -> Any:
        return plain(bad)

    async def agenerating(bad: bool) -> Any:
        yield 1
        plain(bad)

    function = breaker(
        {(False, False): plain, (False, True): generating, (True, False): coroutine, (True, True): agenerating}[asynchronous, generator]
    )

    def ask(bad: bool) -> Any:
        if asynchronous and generator:

            async def listed() -> Any:
                return [each async for each in function(bad)]

            return asyncio.run(listed())
        result = function(bad)
        return asyncio.run(result) if asynchronous else list(result) if generator else result

    assert inspect.iscoroutinefunction(function) == (asynchronous and not generator)
    assert ask(False) == ([1] if generator else 1)
    for _ in range(2):
        with pytest.raises(DownError):
            ask(True)
    with pytest.raises(CircuitOpenError):
        ask(False)
    assert service.calls() == {"success": 1, "failure": 2, "refused": 1}


def test_listeners_are_called_once_and_may_fail(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    service = make(failures=1, open_seconds=1)
    told: list[tuple[str, ...]] = []

    def broken(*_: str) -> None:
        raise ZeroDivisionError

    one = service.worker(listeners=[broken, lambda *change: told.append(change)])
    other = service.worker(listeners=[lambda *change: told.append(change)])
    fail(one)
    service.now += SECOND
    succeed(other)
    assert one.state == CLOSED
    assert told == [(service.name, *change) for change in (("closed", "open"), ("open", "half_open"), ("half_open", "closed"))]
    assert "ZeroDivisionError" in caplog.text


def test_another_call_probes_after_an_interrupted_admission(make: Make) -> None:
    service = make(failures=1, open_seconds=1)

    def interrupt(*change: str) -> None:
        if change[2] == "half_open":
            raise KeyboardInterrupt

    one, other = service.worker(listeners=[interrupt]), service.worker()
    fail(one)
    service.now += SECOND
    with pytest.raises(KeyboardInterrupt):
        succeed(one)
    succeed(other)
    assert one.state == CLOSED


def test_a_refusal_can_be_carried_to_another_process() -> None:
    """One that cannot be read again ends a whole ProcessPoolExecutor."""
    carried = pickle.loads(pickle.dumps(CircuitOpenError("search", 2.5)))
    assert (carried.service, carried.retry_after) == ("search", 2.5)
    assert str(carried) == "search: failed too often. It is not called again for 2.5 s"
