"""Two pid namespaces on one directory: containers of one pod that share a volume."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.processes import wait_until

from .scraper import Scraper, total, view

if TYPE_CHECKING:
    from .bare_writers import Writers


def require_namespaces() -> None:
    """Skip where the machine lets us make none; a machine of CI has to."""
    unshare = shutil.which("unshare")
    works = unshare is not None and (
        subprocess.run([unshare, "--pid", "--fork", "--mount-proc", "true"], check=False, stderr=subprocess.DEVNULL).returncode == 0
    )
    if not works:
        assert os.environ.get("CI") != "true", "CI has to make pid namespaces: run it as root"
        pytest.skip("unshare --pid --fork --mount-proc does not work here: needs root")


def test_two_pid_namespaces(writers: Writers) -> None:
    """Equal pids in two namespaces never share a slot, and a kill in one costs the other nothing."""
    require_namespaces()
    first, second = writers.start(namespace=True), writers.start(namespace=True)
    assert first.ask("pid") == second.ask("pid")
    first.ask("gauge", 1)
    with Scraper(view(writers.directory)) as scraper:
        for _ in range(10):
            first.ask("inc", "a", 100)
            second.ask("inc", "a", 100)
        wait_until(lambda: len(scraper.history) > 3, "four scrapes")
    scraper.check()
    second.ask("gauge", 1)
    assert total(writers.samples(), "bare_things_total") == 2000
    assert total(writers.samples(), "bare_alive") == 2
    assert total(writers.samples(), "multiproc_workers") == 2
    second.kill()
    third = writers.start(namespace=True)
    third.ask("inc", "a", 100)
    first.ask("inc", "a", 100)
    samples = writers.samples()
    assert total(samples, "bare_things_total") == 2200
    assert total(samples, "bare_alive") == 1
