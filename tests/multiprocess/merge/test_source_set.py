"""Bad files in the log: each once while it is there, again when it comes back, and again in another run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.multiprocess.simulated_workers import Run, Worker

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    from monitoring.multiprocess import MergedCollector


def test_a_bad_file_is_logged_whatever_came_before_it(
    directory: Path, make: Callable[[Path], MergedCollector], caplog: pytest.LogCaptureFixture
) -> None:
    kept = make(directory)
    for turn in range(2):
        odd = [directory / f"odd{turn}_{number}.db" for number in range(100)]
        for path in odd:
            path.touch()
        kept.render()
        kept.render()
        for path in odd:
            assert caplog.text.count(f"{path} is not named as a value file is") == 1
            path.unlink()
        kept.render()
    odd[0].touch()
    kept.render()
    assert caplog.text.count(f"{odd[0]} is not named as a value file is") == 2, "its problem was over while it was gone"


def test_another_run_logs_a_bad_file_again(
    metrics_directory: Path, make: Callable[[Path], MergedCollector], caplog: pytest.LogCaptureFixture
) -> None:
    kept = make(metrics_directory)
    for turn in range(1, 3):
        current = Run(metrics_directory)
        worker = Worker(metrics_directory)
        (metrics_directory / "odd.db").touch()
        kept.render()
        kept.render()
        assert caplog.text.count("odd.db is not named as a value file is") == turn
        worker.kill()
        current.end()
