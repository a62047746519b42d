"""No counter, sum or bucket falls from one scrape to the next, not even by the last bit of a float.

Random histories of writes, new series, rewrites, takeovers, removals, salvages, and files that come and go. With
`PROOF_REPEATS=n` there are n times 500 on each file system: 10,000 in all with 10.
"""

from __future__ import annotations

import itertools
import math
import os
import random
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.values import MultiProcessValue

from monitoring.multiprocess import MergedCollector
from monitoring.multiprocess.merge import collector, vectors
from monitoring.multiprocess.patches.series_removal import overwrite
from monitoring.multiprocess.storage import declarations
from monitoring.multiprocess.storage.record_format import scan
from monitoring.multiprocess.worker.value import Value
from tests.multiprocess.simulated_workers import Run, Worker, own

if TYPE_CHECKING:
    from collections.abc import Iterator

HISTORIES = 500 * int(os.environ.get("PROOF_REPEATS", "0")) or 25
STEPS = 20
LABELS = "abc"
FAMILIES = {"c": "counter", "s": "summary", "h": "histogram"}


class History:
    """One service, two views of it, and what they showed last."""

    def __init__(self, directory: Path, choice: random.Random) -> None:
        self.directory, self.choice = directory, choice
        self.run = Run(directory)
        # Of a histogram that is not declared a scrape shows only the bounds that files have, and removal takes bounds out of files.
        bounds = declarations.Family("h", "histogram", "help", "", ("label",), (1.0, 5.0, math.inf))
        declarations.publish(directory, {"h": bounds})
        self.workers = [Worker(directory) for _ in range(3)]
        with pytest.MonkeyPatch.context() as patch:
            self.views = [MergedCollector(None, str(directory))]
            patch.setattr(collector, "vectors", vectors.PlainVectors)
            self.views.append(MergedCollector(None, str(directory)))
        self.seen: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        self.helps: dict[Worker, str] = {}
        self.values: dict[tuple[Any, ...], Value] = {}
        self.damaged: dict[Path, bytes] = {}
        self.removed_in_damaged: set[tuple[str, str]] = set()
        self.log: list[str] = []
        for worker, family, label in itertools.product(self.workers, "csh", LABELS):
            self.write(worker, family, label)

    def end(self) -> None:
        for worker in self.workers:
            worker.kill()
        self.run.end()

    def scrape(self) -> None:
        """Neither view may show less than before, and both show the same."""
        found, plain = map(own, self.views)
        assert found == plain, self.log
        for series, former in self.seen.items():
            if (series[0][0], dict(series[1])["label"]) in self.removed_in_damaged:
                continue
            assert found.get(series, 0.0) >= former, f"{series} fell from {former!r} to {found.get(series)!r}: {self.log}"
        self.seen = found

    def step(self) -> None:
        steps = (self.write, self.write, self.write, self.grow, self.rewrite, self.takeover, self.start, self.remove)
        rare = (self.lose, self.damage, self.put_back, self.foreign)
        chosen = self.choice.choice((*steps, *steps, *rare))
        self.log.append(chosen.__name__)
        chosen()

    def write(self, worker: Worker | None = None, family: str = "", label: str = "") -> None:
        worker, family = worker or self.choice.choice(self.workers), family or self.choice.choice("csh")
        labels, amount = {"label": label or self.choice.choice(LABELS)}, self.choice.choice((0.1, 0.2, 0.3, self.choice.random()))
        self.value(worker, family, "total" if family == "c" else "sum", labels).inc(amount)
        if family == "h":
            self.value(worker, family, "bucket", labels | {"le": self.choice.choice(("1.0", "5.0", "+Inf"))}).inc(1.0)

    def value(self, worker: Worker, family: str, suffix: str, labels: dict[str, str]) -> Value:
        """Of a worker's own code: a deploy may change a family's help, and then one file holds a series under two keys."""
        at = (worker, family, suffix, *labels.values())
        with worker.running():
            if at not in self.values:
                text = self.helps.setdefault(worker, self.choice.choice(("help", "other help")))
                self.values[at] = Value(FAMILIES[family], family, f"{family}_{suffix}", tuple(labels), tuple(labels.values()), text)
            return self.values[at]

    def grow(self) -> None:
        self.write(label=f"new {self.choice.randrange(1000)}")

    def rewrite(self) -> None:
        files = list(self.choice.choice(self.workers).store._files.values())
        if files:
            self.choice.choice(files)._rewrite(0)

    def takeover(self) -> None:
        """A worker dies, and the next one continues its slot, salvaging what is damaged."""
        self.workers.pop(self.choice.randrange(len(self.workers))).kill()
        if self.choice.random() < 0.3:
            self.scrape()
        self.add_worker()

    def add_worker(self) -> None:
        self.workers.append(Worker(self.directory))
        self.damaged = {path: content for path, content in self.damaged.items() if path.stem.rpartition("_s")[2] not in self.living()}

    def start(self) -> None:
        if len(self.workers) < 5:
            self.add_worker()
        else:
            self.workers.pop(self.choice.randrange(5)).kill()

    def remove(self) -> None:
        family, label = self.choice.choice("csh"), self.choice.choice(LABELS)
        overwrite(self.directory, family, {"label": label})
        if self.damaged:
            self.removed_in_damaged.add((family, label))  # its end is seen once the file is good again
        self.seen = {key: value for key, value in self.seen.items() if not (key[0].startswith(f"{family}_") and ("label", label) in key[1])}

    def lose(self) -> None:
        files = sorted(self.directory.glob("*_s[0-9]*.db"))
        if files:
            self.choice.choice(files).unlink()

    def damage(self) -> None:
        """Cut off a dead worker's file, or write garbage into it: a living one would not survive the first."""
        files = [path for path in sorted(self.directory.glob("*_s[0-9]*.db")) if path.stem.rpartition("_s")[2] not in self.living()]
        if files:
            path = self.choice.choice(files)
            whole = path.read_bytes()
            self.damaged.setdefault(path, whole)
            ends = [8, *(record.position + 16 for record in scan(whole).records)]
            if self.choice.random() < 0.5:
                os.truncate(path, self.choice.randrange(ends[-1]))
            else:
                at = self.choice.choice(ends[:-1] or ends)
                path.write_bytes(whole[:at] + b"\xff" * (len(whole) - at))

    def living(self) -> set[str]:
        return {str(worker.store.slot) for worker in self.workers}

    def put_back(self) -> None:
        """The damaged files as they were."""
        for path, content in self.damaged.items():
            if path.exists():
                path.write_bytes(content)
        self.damaged.clear()

    def foreign(self) -> None:
        """A process with prometheus_client's own value class in the same directory."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PROMETHEUS_MULTIPROC_DIR", str(self.directory))
            pid = self.choice.choice((7, 42, 1000))
            make = MultiProcessValue(lambda: pid)
            make("counter", "c", "c_total", ["label"], [self.choice.choice(LABELS)], "help").inc(self.choice.random())


@pytest.fixture(params=["tmpfs", "disk"])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A file system that lists a renamed file first, and another one."""
    path = Path(tempfile.mkdtemp(prefix="monotone-", dir="/dev/shm")) if request.param == "tmpfs" else tmp_path
    yield path
    shutil.rmtree(path)


def test_nothing_ever_falls(base: Path) -> None:
    first = int(os.environ.get("PROOF_SEED", "0"))
    for seed in range(first, first + HISTORIES):
        directory = base / str(seed)
        directory.mkdir(mode=0o700)
        history = History(directory, random.Random(seed))
        try:
            for _ in range(STEPS):
                history.step()
                history.scrape()
        except AssertionError as error:
            raise AssertionError(f"history {seed}: {error}") from None
        finally:
            history.end()
            shutil.rmtree(directory)
