"""Random workers that write, die, take over slots, remove series and meet the cap, against a model in plain Python.

For every type and gauge mode; the counter `k` may have two label sets.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

from monitoring.multiprocess import MergedCollector
from monitoring.multiprocess.removal import overwrite
from monitoring.multiprocess.series import OTHER, label_set

from .workers import Capped, Run, Worker, own, samples

if TYPE_CHECKING:
    from monitoring.multiprocess.values import Value

AMOUNTS = st.integers(0, 1000).map(float)
LABELS = st.sampled_from(["a", 'b"\\\n', "ü"])
MODES = ["all", "liveall", "min", "livemin", "max", "livemax", "sum", "livesum", "mostrecent", "livemostrecent"]
CAP = 2


@dataclass
class Life:
    """What one worker has said: gauge values by (mode, label), with the moment for the most recent modes."""

    worker: Worker
    slot: int
    capped: Capped
    kept: dict[str, Value] = field(default_factory=dict)
    gauges: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict)
    alive: bool = True


class Service(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(dir="/dev/shm"))
        self.run = Run(self.directory)
        self.view = MergedCollector(None, str(self.directory))
        self.lives: list[Life] = []
        self.counted: dict[tuple[str, str], float] = {}
        self.clock = itertools.count(1)
        self.seen: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        self.removed: set[tuple[str, str]] = set()
        self.admitted: set[str] = set()
        self.refused = 0.0

    def teardown(self) -> None:
        for life in self.lives:
            if life.alive:
                life.worker.kill()
        self.run.end()
        shutil.rmtree(self.directory)

    def living(self) -> list[Life]:
        return [life for life in self.lives if life.alive]

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
        life = data.draw(st.sampled_from(range(len(self.living()))))
        victim = self.living()[life]
        victim.worker.kill()
        victim.alive = False

    @precondition(lambda self: self.living())
    @rule(data=st.data(), label=LABELS, amount=AMOUNTS)
    def count(self, data: st.DataObject, label: str, amount: float) -> None:
        life = self.living()[data.draw(st.integers(0, len(self.living()) - 1))]
        typ, name = data.draw(
            st.sampled_from([("counter", "c_total"), ("summary", "s_sum"), ("summary", "s_count"), ("histogram", "h_sum")])
        )
        with life.worker.running():
            life.worker.value(typ, name.partition("_")[0], name, label=label).inc(amount)
        self.counted[name, label] = self.counted.get((name, label), 0.0) + amount

    @precondition(lambda self: self.living())
    @rule(data=st.data(), label=LABELS, le=st.sampled_from(["1.0", "5.0", "+Inf"]))
    def observe(self, data: st.DataObject, label: str, le: str) -> None:
        life = self.living()[data.draw(st.integers(0, len(self.living()) - 1))]
        with life.worker.running():
            life.worker.value("histogram", "h", "h_bucket", label=label, le=le).inc(1)
        self.counted[f"h_bucket {le}", label] = self.counted.get((f"h_bucket {le}", label), 0.0) + 1

    @precondition(lambda self: self.living())
    @rule(data=st.data(), mode=st.sampled_from(MODES), label=LABELS, amount=st.integers(-50, 50).map(float), add=st.booleans())
    def gauge(self, data: st.DataObject, mode: str, label: str, amount: float, add: bool) -> None:
        life = self.living()[data.draw(st.integers(0, len(self.living()) - 1))]
        value = life.worker.value("gauge", f"g_{mode}", f"g_{mode}", mode, label=label)
        moment = float(next(self.clock))
        former = life.gauges.get((mode, label), (0.0, 0.0))[0]
        add = add and "mostrecent" not in mode
        with life.worker.running():
            value.inc(amount) if add else value.set(amount, moment)
        life.gauges[mode, label] = (former + amount if add else amount, moment)
        assert value.get() == life.gauges[mode, label][0]

    @precondition(lambda self: self.living())
    @rule(data=st.data(), label=LABELS | st.just(OTHER), amount=AMOUNTS)
    def count_capped(self, data: st.DataObject, label: str, amount: float) -> None:
        life = self.living()[data.draw(st.integers(0, len(self.living()) - 1))]
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
        life = self.living()[data.draw(st.integers(0, len(self.living()) - 1))]
        life.capped.remove(label)
        self.admitted -= self.admitted if label is None else {label}
        self.forget_counted("k", label)

    @rule(family=st.sampled_from(["c", "s", "h", *(f"g_{mode}" for mode in MODES)]), label=st.none() | LABELS)
    def remove(self, family: str, label: str | None) -> None:
        """One label set, or all of the family, for every slot; `label` None clears."""
        overwrite(self.directory, family, {} if label is None else {"label": label})
        self.forget_counted(family, label)
        for life in self.lives:
            for mode, each in list(life.gauges):
                if family == f"g_{mode}" and label in (None, each):
                    del life.gauges[mode, each]
                    self.removed.add((mode, each))

    def forget_counted(self, family: str, label: str | None) -> None:
        gone = [key for key in self.counted if key[0].partition("_")[0] == family and label in (None, key[1])]
        for key in gone:
            del self.counted[key]
        self.seen = {key: value for key, value in self.seen.items() if key[0].partition("_")[0] != family}

    @precondition(lambda self: self.living())
    @rule(data=st.data())
    def rewrite(self, data: st.DataObject) -> None:
        """What a holder does before a file with many removed samples would grow, at any other moment."""
        life = self.living()[data.draw(st.integers(0, len(self.living()) - 1))]
        for file in life.worker.store._files.values():
            assert file._rewrite(0)

    def expected(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        truth: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        for (name, label), amount in self.counted.items():
            if not name.startswith("h_bucket"):
                truth[name, (("label", label),)] = amount
        for label in {label for name, label in self.counted if name.startswith("h_bucket")}:
            total = 0.0
            for le in ("1.0", "5.0", "+Inf"):
                total += self.counted.get((f"h_bucket {le}", label), 0.0)
                if (f"h_bucket {le}", label) in self.counted:
                    truth["h_bucket", (("label", label), ("le", le))] = total
            truth["h_count", (("label", label),)] = total
        for mode, label in {key for life in self.lives for key in life.gauges}:
            self.expect_gauge(truth, mode, label)
        return truth

    def expect_gauge(self, truth: dict[tuple[str, tuple[tuple[str, str], ...]], float], mode: str, label: str) -> None:
        lives = [life for life in self.lives if life.alive or not mode.startswith("live")]
        said = [life.gauges[mode, label] for life in lives if (mode, label) in life.gauges]
        plain = (f"g_{mode}", (("label", label),))
        rule_ = mode.removeprefix("live")
        if rule_ == "all":
            holders = {life.slot: life for life in lives}  # the last holder of each slot
            for slot, life in holders.items():
                if (mode, label) in life.gauges:
                    truth[f"g_{mode}", (("label", label), ("pid", f"s{slot}"))] = life.gauges[mode, label][0]
        elif said:
            by_moment = max(said, key=lambda pair: pair[1])[0]
            amounts = [amount for amount, _ in said]
            truth[plain] = {"sum": sum(amounts), "min": min(amounts), "max": max(amounts), "mostrecent": by_moment}[rule_]

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
    def upstream_reads_the_same(self) -> None:
        theirs = own(MultiProcessCollector(CollectorRegistry(), str(self.directory)))
        for key, value in self.expected().items():
            mode = key[0].removeprefix("g_")
            # Upstream cannot know who lives, nor that a sample was removed: that reads as -0.0 there.
            if not key[0].startswith("g_live") and not (mode in ("min", "max") and (mode, dict(key[1])["label"]) in self.removed):
                assert theirs[key] == value

    @invariant()
    def everybody_counts_the_same_series(self) -> None:
        counted = {label_set({"label": label}) for label in self.admitted}
        for life in self.living():
            assert life.capped.known() == counted
        refused = samples(self.view).get(("multiproc_refused_series_total", (("family", "k"),)), 0.0)
        assert refused == self.refused

    @invariant()
    def files_are_bounded(self) -> None:
        slots = 1 + max((life.slot for life in self.lives), default=0)
        assert len(list(self.directory.glob("*.db"))) <= slots * 13


Service.TestCase.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
TestService = Service.TestCase
