"""The metrics tmpfs fills up while the service serves."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.processes import wait_dead, wait_until

from .client import Client, Request, fetch
from .scraper import Scraper, total
from .verdict import assert_bounded, assert_exact

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .harness import Harness, Variant


@pytest.fixture
def metrics_directory(tmp_path: Path) -> Iterator[Path]:
    """Give a tmpfs of 2 MiB instead of the shared one."""
    path = tmp_path / "small"
    path.mkdir(mode=0o700)
    command = ["mount", "-t", "tmpfs", "-o", "size=2m,mode=0700", "tmpfs", str(path)]
    if subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode != 0:
        assert os.environ.get("CI") != "true", "CI has to mount a tmpfs: run it as root"
        pytest.skip("cannot mount a tmpfs here: needs root")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def fill(directory: Path) -> Path:
    """Take every free block."""
    path = directory / "filler"
    with path.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    return path


def test_full_metrics_directory(harness: Harness, variant: Variant) -> None:
    """No request fails, no worker dies, existing series count on, refused observations are counted."""
    server = harness.gunicorn(variant)
    directory = harness.directory
    with Scraper(server.scrape) as scraper:
        with Client(server.address) as client:
            client.wait_answered(100)
            workers = set(server.workers())
            filler = fill(directory)
            client.wait_answered(100)
            refused = 300
            for number in range(refused):
                path = f"/label/{number}-{'x' * 150}"
                assert fetch(server.address, path).status == 200
            client.wait_answered(100)
            assert set(server.workers()) == workers, "no worker died"
        assert set(client.tally.statuses) <= {200, 204}, client.tally.statuses
        full = server.samples()
        assert_exact(full, client.tally)
        dropped = total(full, "multiproc_dropped_observations_total")
        kept = total(full, "faults_labelled_total")
        assert dropped > 0, "the disk was not full enough to prove anything"
        assert kept + dropped >= refused, "an observation that is neither kept nor counted as refused"
        victims = sorted(workers)[:1]
        # Room first: a gauge that a new worker sets once, while there is none, is refused and counted, and stays unset.
        filler.unlink()
        server.send(signal.SIGKILL, victims[0])
        wait_dead(victims[0])
        server.wait_alive(2)
        wait_until(
            lambda: (
                fetch(server.address, "/label/after").status == 200 and total(server.samples(), "faults_labelled_total", name="after") > 0
            ),
            "new series are taken again",
        )
    scraper.check()
    assert_exact(server.samples(), client.tally)
    assert_bounded(harness.directory, 2 + 2)


def test_worker_that_starts_on_a_full_directory(harness: Harness, variant: Variant) -> None:
    """A worker that is replaced while the disk is full serves, continues its slot and loses nothing."""
    server = harness.gunicorn(variant)
    with Scraper(server.scrape) as scraper, Client(server.address, [Request("GET", "/ok")]) as client:
        client.wait_answered(100)
        filler = fill(harness.directory)
        for _ in range(3):
            wait_until(lambda: len(server.workers()) == 2, "two workers run")
            victim = server.workers()[0]
            server.send(signal.SIGKILL, victim)
            wait_dead(victim)
            client.wait_answered(100)
    scraper.check()
    filler.unlink()
    assert_bounded(harness.directory, 2 + 2)
    assert set(client.tally.statuses) == {200}, client.tally.statuses
    samples = server.samples()
    dropped = total(samples, "multiproc_dropped_observations_total")
    handled = total(samples, "faults_handled_total")
    acknowledged = client.tally.acknowledged["GET", "/ok"]
    assert acknowledged <= handled + dropped, "lost, and not counted as refused"
    assert handled <= client.tally.sent["GET", "/ok"]
