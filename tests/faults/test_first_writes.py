"""Workers that die while they take a slot, make a file or append a series."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from .harness import ROOT
from .scraper import Scraper, total, view
from .verdict import assert_bounded, files

if TYPE_CHECKING:
    from .bare_writers import Writers


def test_kills_at_the_first_write(writers: Writers) -> None:
    """Each child may leave one increment that it could not acknowledge any more, and nothing else."""
    kills, at_once = 600, 4
    anchor = writers.start()
    anchor.ask("inc")
    with Scraper(view(writers.directory), pause_seconds=0.005) as scraper:
        result = subprocess.run(
            [sys.executable, "-m", "tests.faults.kills", str(kills), str(at_once)],
            cwd=ROOT,
            env=writers.full_environment,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    scraper.check()
    samples = writers.samples()
    acknowledged = int(result.stdout)
    for name in ("early_things_total", "early_sizes_count"):
        counted = total(samples, name)
        assert acknowledged <= counted <= acknowledged + kills, (name, acknowledged, counted)
    assert total(samples, "early_alive") == 0, "no dead child is shown"
    assert total(samples, "multiproc_workers") == 1
    assert total(samples, "multiproc_bad_files") == 0, "an early death leaves no bad file"
    assert_bounded(writers.directory, at_once + 1)


def test_files_do_not_grow_with_generations(writers: Writers) -> None:
    """The same files after 8 and after 200 generations of workers."""
    anchor = writers.start()
    anchor.ask("inc")
    command = [sys.executable, "-m", "tests.faults.kills"]
    seen: list[list[str]] = []
    for generations in ("8", "192"):
        subprocess.run(
            [*command, generations, "2"],
            cwd=ROOT,
            env=writers.full_environment,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        seen.append(files(writers.directory))
    few, many = seen
    kinds = {name.rpartition("_")[0] for name in many}
    assert len(many) <= len(kinds) * 3
    assert len(many) <= len(few) + len(kinds), "a generation leaves no file of its own"
