"""Which variants a fault case runs with, and the harness that it runs in.

`make test` runs each case once, preload and worker class paired off over the cases; with
PROOF_REPEATS=n every case runs n times, crossed with all variants.
"""

from __future__ import annotations

import os
import zlib
from typing import TYPE_CHECKING

import pytest

from tests.conftest import data_directory

from .bare_writers import Writers
from .harness import Harness, Variant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

VARIANTS = tuple(Variant(preload, worker) for preload in (False, True) for worker in ("", "asgi"))
REPEATS = int(os.environ.get("PROOF_REPEATS", "0"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Choose the variants: one by the case's name, or all of them."""
    if "variant" in metafunc.fixturenames:
        chosen = zlib.crc32(metafunc.function.__name__.encode()) % len(VARIANTS)
        metafunc.parametrize("variant", VARIANTS if REPEATS else VARIANTS[chosen : chosen + 1], ids=str)
    if REPEATS and "repeat" in metafunc.fixturenames:
        metafunc.parametrize("repeat", range(REPEATS))


@pytest.fixture
def proof() -> bool:
    """Tell whether this is the long run."""
    return bool(REPEATS)


@pytest.fixture(autouse=True)
def repeat() -> int:
    """Number the repetition; the long run parametrizes it."""
    return 0


@pytest.fixture
def harness(tmp_path: Path, metrics_directory: Path, environment: dict[str, str], free_port: Callable[[], int]) -> Iterator[Harness]:
    """Make servers, and end them before their directory goes."""
    data_directory(tmp_path / "data")
    made = Harness(environment, metrics_directory, tmp_path, free_port)
    yield made
    made.end()


@pytest.fixture
def writers(tmp_path: Path, metrics_directory: Path, environment: dict[str, str]) -> Iterator[Writers]:
    """Make bare writers on the private directory, and end them."""
    made = Writers(metrics_directory, environment, tmp_path / "writers.log")
    yield made
    made.end()
