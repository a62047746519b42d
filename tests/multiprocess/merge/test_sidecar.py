"""A view of another user: an exporter in a container beside the service's, which may read the directory or not."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from monitoring.multiprocess import paths
from monitoring.multiprocess.storage import lock_file
from tests.conftest import built_environment
from tests.multiprocess.simulated_workers import Run, Worker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

USER, GROUP = 54321, 54322
VIEW = """
import logging, os, sys, numpy, orjson, prometheus_client.openmetrics.exposition
from monitoring.multiprocess import MergedCollector
from monitoring.multiprocess.merge import collector
user, group, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
os.setgroups([]); os.setgid(group); os.setuid(user)
logging.basicConfig()
merged = MergedCollector(None, path)
merged.render()
print(merged.render().decode())
"""


def seen(directory: Path, group: int = GROUP) -> tuple[dict[str, str], str]:
    """The samples that another user sees, and what is said on stderr."""
    command = [sys.executable, "-c", VIEW, str(USER), str(group), str(directory)]
    done = subprocess.run(command, env=built_environment(), capture_output=True, text=True, check=True, timeout=120)
    lines = (line.rpartition(" ") for line in done.stdout.splitlines() if not line.startswith("#"))
    return {name: value for name, _, value in lines}, done.stderr


@pytest.fixture
def directory(metrics_directory: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        assert os.environ.get("CI") != "true", "CI has to change the user: run it as root"
        pytest.skip("needs root to read as another user")
    before = os.umask(0o022)
    yield metrics_directory
    os.umask(before)


def serve(directory: Path) -> tuple[Run, Worker, Worker]:
    run, workers = Run(directory), (Worker(directory), Worker(directory))
    for worker in workers:
        with worker.running():
            worker.value("gauge", "g", "g", "livesum").set(3)
            worker.value("counter", "c", "c_total").inc(2)
    return run, *workers


@pytest.mark.parametrize(("mode", "group"), [(0o755, GROUP), (0o750, 0)], ids=["everybody", "group"])
def test_who_may_read_the_directory_sees_who_is_alive(directory: Path, mode: int, group: int) -> None:
    directory.chmod(mode)
    run, first, second = serve(directory)
    found, said = seen(directory, group)
    assert (found["g"], found["c_total"], found["multiproc_workers"]) == ("6.0", "4.0", "2.0")
    assert "multiproc_scrapes_total" not in found, "where it may not write, it leaves its own accounts out"
    second.kill()
    found, _ = seen(directory, group)
    assert (found["g"], found["c_total"], found["multiproc_workers"]) == ("3.0", "4.0", "1.0")
    assert said == ""
    first.kill()
    run.end()


def test_who_may_not_is_told_so_once_and_sees_no_dead_gauge(directory: Path) -> None:
    directory.chmod(0o755)
    run, first, second = serve(directory)
    (directory / paths.LOCK).chmod(0o600)
    second.kill()
    found, said = seen(directory)
    assert found["c_total"] == "4.0"
    assert "g" not in found
    assert "multiproc_workers" not in found
    assert found['multiproc_bad_files{reason="unreadable"}'] == "1.0"
    assert said.count("\n") == 1
    assert f"lease.lock is not readable for user {USER}" in said
    first.kill()
    run.end()


@pytest.mark.parametrize(("mode", "lock"), [(0o700, 0o600), (0o750, 0o640), (0o755, 0o644), (0o2770, 0o640)])
def test_the_lock_file_is_as_open_as_its_directory(directory: Path, mode: int, lock: int) -> None:
    directory.chmod(mode)
    os.close(lock_file.open_lock_file(directory))
    assert (directory / paths.LOCK).stat().st_mode & 0o777 == lock
