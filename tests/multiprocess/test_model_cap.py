"""Random workers that write, die, take over slots, and remove series of a counter that may have two, against a model in plain Python.

What the model knows of workers and of the cap is also part of the larger one in test_model.py.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from monitoring.multiprocess import MergedCollector
from monitoring.multiprocess.storage.series_log import OTHER, label_set

from .simulated_workers import Capped, Run, Worker, own, samples

if TYPE_CHECKING:
    from monitoring.multiprocess.worker.value import Value

AMOUNTS = st.integers(0, 1000).map(float)
LABELS = st.sampled_from(["a", 'b"\\\n', "ü"])
CAP = 2

Truth = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@dataclass
class Life:
    """One worker, what it keeps of the capped counter, and what it has said: gauge values by (mode, label), with the moment."""

    worker: Worker
    slot: int
    capped: Capped
    kept: dict[str, Value] = field(default_factory=dict)
    gauges: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict)
    alive: bool = True


class CappedService(RuleBasedStateMachine):
    """Workers that come and go, and the counter `k`."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(dir="/dev/shm"))
        self.run = Run(self.directory)
        self.view = MergedCollector(None, str(self.directory))
        self.lives: list[Life] = []
        self.counted: dict[tuple[str, str], float] = {}
        self.seen: Truth = {}
        self.admitted: set[str] = set()
        self.refused = 0.0

    def teardown(self) -> None:
        for life in self.living():
            life.worker.kill()
        self.run.end()
        shutil.rmtree(self.directory)

    def living(self) -> list[Life]:
        return [life for life in self.lives if life.alive]

    def any_living(self, data: st.DataObject) -> Life:
        return self.living()[data.draw(st.integers(0, len(self.living()) - 1))]

    @precondition(lambda self: len(self.living()) < 5)
    @rule()
    def start(self) -> None:
        free = min(set(range(6)) - {life.slot for life in self.living()})
        worker = Worker(self.directory)
        assert worker.store.slot == free, "the lowest free slot is taken"
        self.lives.append(Life(worker, free, Capped(worker, "k", CAP)))

    @precondition(lambda self: self.living())
    @rule(data=st.data())
    def kill(self, data: st.DataObject) -> None:
        victim = self.any_living(data)
        victim.worker.kill()
        victim.alive = False

    @precondition(lambda self: self.living())
    @rule(data=st.data(), label=LABELS | st.just(OTHER), amount=AMOUNTS)
    def count_capped(self, data: st.DataObject, label: str, amount: float) -> None:
        life = self.any_living(data)
        given, child = life.capped.labels(label)
        if label != OTHER and label not in self.admitted:
            if len(self.admitted) < CAP:
                self.admitted.add(label)
            else:
                self.refused += 1
                label = OTHER
        assert given == label
        self.count_child(life, given, child, amount)

    @precondition(lambda self: any(life.kept for life in self.living()))
    @rule(data=st.data(), amount=AMOUNTS)
    def count_kept(self, data: st.DataObject, amount: float) -> None:
        """Through a child that a worker has kept: nobody asks about the cap, also where it was removed meanwhile."""
        holders = [(life, label) for life in self.living() for label in life.kept]
        life, label = holders[data.draw(st.integers(0, len(holders) - 1))]
        self.count_child(life, label, life.kept[label], amount)

    def count_child(self, life: Life, label: str, child: Value, amount: float) -> None:
        with life.worker.running():
            child.inc(amount)
        life.kept[label] = child
        self.counted["k_total", label] = self.counted.get(("k_total", label), 0.0) + amount

    @precondition(lambda self: self.living())
    @rule(data=st.data(), label=st.none() | LABELS | st.just(OTHER))
    def remove_capped(self, data: st.DataObject, label: str | None) -> None:
        self.any_living(data).capped.remove(label)
        self.admitted -= self.admitted if label is None else {label}
        self.forget_counted("k", label)

    def forget_counted(self, family: str, label: str | None) -> None:
        gone = [key for key in self.counted if key[0].partition("_")[0] == family and label in (None, key[1])]
        for key in gone:
            del self.counted[key]
        self.seen = {key: value for key, value in self.seen.items() if key[0].partition("_")[0] != family}

    @precondition(lambda self: self.living())
    @rule(data=st.data())
    def rewrite(self, data: st.DataObject) -> None:
        """What a holder does before a file with many removed samples would grow, at any other moment."""
        for file in self.any_living(data).worker.store._files.values():
            assert file._rewrite(0)

    def expected(self) -> Truth:
        return {(name, (("label", label),)): amount for (name, label), amount in self.counted.items()}

    @invariant()
    def view_tells_the_truth(self) -> None:
        truth, shown = self.expected(), own(self.view)
        # A bound that the view has seen of a histogram that nobody declared stays one after a removal.
        counted = {labels for name, labels in truth if name == "h_count"}
        stale = {(name, labels) for name, labels in shown if name == "h_bucket" and tuple(p for p in labels if p[0] != "le") in counted}
        assert {key: value for key, value in shown.items() if key not in stale - truth.keys()} == truth
        for key, value in shown.items():
            if not key[0].startswith("g_"):
                assert value >= self.seen.get(key, 0.0)
                self.seen[key] = value

    @invariant()
    def everybody_counts_the_same_series(self) -> None:
        counted = {label_set({"label": label}) for label in self.admitted}
        for life in self.living():
            assert life.capped.known() == counted
        refused = samples(self.view).get(("multiproc_refused_series_total", (("family", "k"),)), 0.0)
        assert refused == self.refused


CappedService.TestCase.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
TestCappedService = CappedService.TestCase
