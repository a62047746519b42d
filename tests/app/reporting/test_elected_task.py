"""The loop of an elected task: turns, failures and their log lines."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

from app.reporting.elected_task import ElectedTask

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest


class Recorder(ElectedTask):
    role = "recorder"
    every_seconds = 0.0
    expected_error = ValueError
    failure = "nothing is recorded"
    log = logging.getLogger("test.recorder")

    def __init__(self) -> None:
        self.holds = True
        self.error: Exception | None = None
        self.every = self.turns = self.withdrawn = 0

    def elected(self, _election: Any) -> bool:
        return self.holds

    async def every_turn(self) -> None:
        self.every += 1

    async def turn(self) -> None:
        if self.error is not None:
            raise self.error
        self.turns += 1

    async def withdraw(self) -> None:
        self.withdrawn += 1


async def until(condition: Callable[[], bool]) -> None:
    for _ in iter(condition, True):
        await asyncio.sleep(0)


def run(work: Callable[[Recorder, Callable[[], Any]], Any]) -> None:
    async def main() -> None:
        task = Recorder()
        loop = asyncio.create_task(task._run(None))  # type: ignore[arg-type]

        async def rounds() -> None:
            goal = task.every + 3
            await until(lambda: task.every >= goal)

        try:
            await work(task, rounds)
        finally:
            loop.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await loop

    asyncio.run(asyncio.wait_for(main(), 60))


def test_only_the_elected_process_does_the_turn() -> None:
    async def work(task: Recorder, rounds: Callable[[], Any]) -> None:
        task.holds = False
        await rounds()
        before = task.turns
        await rounds()
        assert task.turns == before
        task.holds = True
        await rounds()
        assert task.turns > before

    run(work)


def test_each_failure_is_logged_once_until_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    async def work(task: Recorder, rounds: Callable[[], Any]) -> None:
        for _ in range(2):
            task.error = ValueError("the disk is full")
            await rounds()
            task.error = None
            await rounds()
            await rounds()
        assert task.withdrawn >= 4

    run(work)
    assert [record.getMessage() for record in caplog.records] == ["nothing is recorded: the disk is full"] * 2


def test_an_unexpected_failure_is_logged_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    async def work(task: Recorder, rounds: Callable[[], Any]) -> None:
        task.error = KeyError("lost")
        await rounds()

    run(work)
    (record,) = caplog.records
    assert record.getMessage().startswith("nothing is recorded: Traceback")
    assert record.getMessage().endswith("KeyError: 'lost'\n")


def test_a_failed_task_waits_for_its_retry() -> None:
    async def work(task: Recorder, rounds: Callable[[], Any]) -> None:
        type(task).retry_seconds = 3600.0
        task.error = ValueError("once")
        await until(lambda: task.withdrawn > 0)
        before = task.every
        await asyncio.sleep(0.05)
        assert task.every == before

    try:
        run(work)
    finally:
        Recorder.retry_seconds = None
