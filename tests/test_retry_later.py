"""An attempt that failed is not repeated before its pause is over."""

from __future__ import annotations

import errno
import types

import pytest

from monitoring import retry_later
from monitoring.retry_later import Pause


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 5000.0
        monkeypatch.setattr(retry_later, "time", types.SimpleNamespace(monotonic=lambda: self.now))

    def is_over_after(self, pause: Pause, seconds: float) -> bool:
        """Whether the pause lasts until just this moment."""
        started, self.now = self.now, self.now + seconds - 0.001
        before, self.now = pause.over, started + seconds
        return not before and pause.over


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.mark.usefixtures("clock")
def test_the_first_attempt_is_made_at_once() -> None:
    assert Pause().over


@pytest.mark.parametrize("error", [None, OSError(errno.ENOSPC, "no space")])
def test_a_failure_is_followed_by_a_pause(clock: Clock, error: OSError | None) -> None:
    pause = Pause(7.0)
    for _ in range(2):
        pause.begin(error)
        assert clock.is_over_after(pause, 7.0)


def test_a_stopped_process_is_not_waited_for_again_within_a_minute(clock: Clock) -> None:
    pause = Pause()
    pause.begin(TimeoutError(errno.ETIMEDOUT, "locked"))
    assert clock.is_over_after(pause, 60.0)


@pytest.mark.usefixtures("clock")
def test_a_pause_can_be_ended() -> None:
    pause = Pause()
    pause.begin()
    assert not pause.over
    pause.end()
    assert pause.over
