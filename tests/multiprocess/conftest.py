"""Directories of a run, and views of them with numpy and without."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from monitoring.multiprocess import MergedCollector
from monitoring.multiprocess.merge import collector, vectors

from .simulated_workers import Run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(params=["numpy", "plain"])
def make(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], MergedCollector]:
    """Make views that add up with numpy, or without."""
    if request.param == "plain":
        monkeypatch.setattr(collector, "vectors", vectors.PlainVectors)
    else:
        assert isinstance(vectors.vectors(), vectors.NumpyVectors), "the test environment has numpy"
    return lambda directory: MergedCollector(None, str(directory))


@pytest.fixture
def directory(metrics_directory: Path) -> Iterator[Path]:
    joined = Run(metrics_directory)
    yield metrics_directory
    joined.end()
