"""Random workers that write, die, take over slots, remove series and meet the cap, against a model in plain Python.

For every type and gauge mode; the counter `k` may have two label sets.
"""

from __future__ import annotations

import itertools

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

from monitoring.multiprocess.patches.series_removal import overwrite

from .simulated_workers import own
from .test_model_cap import AMOUNTS, LABELS, CappedService, Truth

MODES = ["all", "liveall", "min", "livemin", "max", "livemax", "sum", "livesum", "mostrecent", "livemostrecent"]


class Service(CappedService):
    """Workers that come and go, and a family of every type and gauge mode beside the capped counter."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = itertools.count(1)
        self.removed: set[tuple[str, str]] = set()

    @precondition(lambda self: self.living())
    @rule(data=st.data(), label=LABELS, amount=AMOUNTS)
    def count(self, data: st.DataObject, label: str, amount: float) -> None:
        life = self.any_living(data)
        typ, name = data.draw(
            st.sampled_from([("counter", "c_total"), ("summary", "s_sum"), ("summary", "s_count"), ("histogram", "h_sum")])
        )
        with life.worker.running():
            life.worker.value(typ, name.partition("_")[0], name, label=label).inc(amount)
        self.counted[name, label] = self.counted.get((name, label), 0.0) + amount

    @precondition(lambda self: self.living())
    @rule(data=st.data(), label=LABELS, le=st.sampled_from(["1.0", "5.0", "+Inf"]))
    def observe(self, data: st.DataObject, label: str, le: str) -> None:
        life = self.any_living(data)
        with life.worker.running():
            life.worker.value("histogram", "h", "h_bucket", label=label, le=le).inc(1)
        self.counted[f"h_bucket {le}", label] = self.counted.get((f"h_bucket {le}", label), 0.0) + 1

    @precondition(lambda self: self.living())
    @rule(data=st.data(), mode=st.sampled_from(MODES), label=LABELS, amount=st.integers(-50, 50).map(float), add=st.booleans())
    def gauge(self, data: st.DataObject, mode: str, label: str, amount: float, add: bool) -> None:
        life = self.any_living(data)
        value = life.worker.value("gauge", f"g_{mode}", f"g_{mode}", mode, label=label)
        moment = float(next(self.clock))
        former = life.gauges.get((mode, label), (0.0, 0.0))[0]
        add = add and "mostrecent" not in mode
        with life.worker.running():
            value.inc(amount) if add else value.set(amount, moment)
        life.gauges[mode, label] = (former + amount if add else amount, moment)
        assert value.get() == life.gauges[mode, label][0]

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

    def expected(self) -> Truth:
        truth: Truth = {}
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

    def expect_gauge(self, truth: Truth, mode: str, label: str) -> None:
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
    def upstream_reads_the_same(self) -> None:
        theirs = own(MultiProcessCollector(CollectorRegistry(), str(self.directory)))
        for key, value in self.expected().items():
            mode = key[0].removeprefix("g_")
            # Upstream cannot know who lives, nor that a sample was removed: that reads as -0.0 there.
            if not key[0].startswith("g_live") and not (mode in ("min", "max") and (mode, dict(key[1])["label"]) in self.removed):
                assert theirs[key] == value

    @invariant()
    def files_are_bounded(self) -> None:
        slots = 1 + max((life.slot for life in self.lives), default=0)
        assert len(list(self.directory.glob("*.db"))) <= slots * 13


Service.TestCase.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
TestService = Service.TestCase
