"""Jobs that hang, are slow, or raise, beside jobs that answer."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from monitoring.multiprocess.sampling import job_runner
from monitoring.multiprocess.sampling.job_runner import Job, JobRunner
from tests.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator


class Called:
    """A job that counts its calls, and does not return from one while it is told to hang."""

    def __init__(self, *, hangs: bool = False) -> None:
        self.calls = self.ends = 0
        self.returns = threading.Event()
        self.hang(hangs)
        self.job = Job("a job", self._call, self._end)

    def hang(self, hangs: bool) -> None:
        if hangs:
            self.returns.clear()
        else:
            self.returns.set()

    def _call(self) -> None:
        self.calls += 1
        assert self.returns.wait(60)

    def _end(self) -> None:
        self.ends += 1


class Round:
    """Rounds over the same jobs."""

    def __init__(self) -> None:
        self.reports: list[str] = []
        self.caller = JobRunner(self.reports.append)
        self.all: list[Called] = []

    def have(self, number: int, *, hangs: bool = False) -> list[Called]:
        made = [Called(hangs=hangs) for _ in range(number)]
        self.all += made
        return made

    def call(self) -> None:
        self.caller.call(each.job for each in self.all)
        for each in self.all:
            each.job.look()

    def settle(self) -> None:
        """Let every call return, none that hangs in time."""
        wait_until(lambda: all((each.job.left(job_runner.PATIENCE_SECONDS) or 0.0) <= 0.0 for each in self.all), "they are late")
        for each in self.all:
            each.hang(False)
        wait_until(lambda: not any(each.job.running for each in self.all), "all have returned")
        wait_until(lambda: not self.caller._left_behind(), "no thread is left behind")


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> Iterator[Round]:
    monkeypatch.setattr(job_runner, "PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(job_runner, "_IMPATIENCE_SECONDS", 0.05)
    made = Round()
    yield made
    made.settle()


def calls(called: list[Called]) -> list[int]:
    return [each.calls for each in called]


def test_a_hanging_job_is_called_again_once_it_has_returned(rounds: Round) -> None:
    hanging = rounds.have(30, hangs=True)
    (sound,) = rounds.have(1)
    for number in range(1, 4):
        rounds.call()
        assert sound.calls == number
    assert calls(hanging) == [1] * 30
    assert rounds.caller._left_behind() == 30
    rounds.settle()
    rounds.call()
    wait_until(lambda: sum(calls(hanging)) >= 38, "eight slow ones at a time")
    for _ in range(4):
        rounds.settle()
        rounds.call()
    rounds.settle()
    assert min(calls(hanging)) >= 2
    assert not rounds.reports


def test_slow_ones_are_not_waited_for_and_take_turns(rounds: Round) -> None:
    slow = rounds.have(12, hangs=True)
    (sound,) = rounds.have(1)
    rounds.call()
    rounds.settle()
    assert [each.job.prompt for each in slow] == [False] * 12
    for each in slow:
        each.hang(True)
    rounds.call()
    wait_until(lambda: sum(calls(slow)) == 20, "eight are called beside, and the round does not wait for them")
    rounds.call()
    assert sum(calls(slow)) == 20
    assert sound.calls == 3
    rounds.settle()
    for each in slow:
        each.hang(True)
    waiting = [each for each in slow if each.calls == 1]
    rounds.call()
    wait_until(lambda: calls(waiting) == [2] * 4, "those that have waited longest come first")
    rounds.settle()
    rounds.call()
    rounds.settle()
    assert any(each.job.prompt for each in slow), "one that returns in time is prompt again"


def test_with_too_many_left_behind_only_what_answered_before_is_called(rounds: Round, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_runner, "_MOST_LEFT_BEHIND", 4)
    monkeypatch.setattr(job_runner, "OVERDUE_SECONDS", 0.1)
    proven = rounds.have(6)
    rounds.call()
    assert calls(proven) == [1] * 6
    rounds.have(4, hangs=True)
    (new,) = rounds.have(1)
    rounds.call()
    rounds.call()
    assert (calls(proven), new.calls) == ([3] * 6, 0)
    wait_until(lambda: (rounds.call(), new.ends)[1], "one that is not called speaks no longer for the present")
    assert new.job.settled
    for each in proven[:5]:
        each.hang(True)
    rounds.call()
    assert rounds.caller._left_behind() == 8, "twice as many, and no more"
    before = proven[5].calls
    rounds.call()
    assert proven[5].calls == before
    assert len(set(rounds.reports)) == 2
    rounds.settle()
    rounds.call()
    assert proven[5].calls == before + 1
    assert new.calls == 1


def test_what_raises_is_not_left_behind(rounds: Round, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise SystemExit("no")

    ended: list[bool] = []
    job = Job("it", fail, lambda: ended.append(True))
    for _ in range(3):
        rounds.caller.call([job])
    assert len(ended) == 3
    assert caplog.text.count("sampling it failed: SystemExit: no") == 1


def test_without_threads_nothing_is_taken_for_running(rounds: Round, monkeypatch: pytest.MonkeyPatch) -> None:
    (slow, *others) = rounds.have(3)
    slow.job.prompt = False

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as context:
        context.setattr(threading.Thread, "start", refuse)
        rounds.call()
    assert calls(rounds.all) == [0, 0, 0]
    assert not any(each.job.running for each in rounds.all)
    assert rounds.reports
    rounds.call()
    rounds.settle()
    assert calls([slow, *others]) == [1, 1, 1]


def test_after_the_end_nothing_is_called(rounds: Round) -> None:
    (sound,) = rounds.have(1)
    rounds.caller.close()
    rounds.call()
    assert sound.calls == 0
