"""Snapshots of collected families: everything that upstream shows of them is kept, and no bytes harm who reads one."""

from __future__ import annotations

import contextlib
import json
import math
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import exposition
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
    StateSetMetricFamily,
    SummaryMetricFamily,
    Timestamp,
)
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.samples import Exemplar

from monitoring.multiprocess import MergedCollector, paths, text_format
from monitoring.multiprocess.merge.snapshots import Snapshots
from monitoring.multiprocess.storage import collector_snapshot
from tests.multiprocess.simulated_workers import Worker

if TYPE_CHECKING:
    from pathlib import Path


def everything() -> list[Metric]:
    gauge = GaugeMetricFamily("g", 'help "quoted"\n\\', labels=["l"], unit="seconds")
    gauge.add_metric(['a"\\\n'], math.nan)
    gauge.add_metric(["é"], -math.inf, timestamp=Timestamp(12, 34))
    counter = CounterMetricFamily("c", "help", labels=["l"])
    counter.add_metric(["x"], 3, created=12.5, exemplar=Exemplar({"trace": "1"}, 2.0, 3.5))
    histogram = HistogramMetricFamily("h", "help", buckets=[("1.0", 1), ("+Inf", 3)], sum_value=5)
    summary = SummaryMetricFamily("s", "help", count_value=2, sum_value=3)
    return [
        gauge,
        counter,
        histogram,
        summary,
        InfoMetricFamily("i", "help", {"v": "1"}),
        StateSetMetricFamily("e", "help", {"a": True, "b": False}),
    ]


def test_every_type_is_kept() -> None:
    before = [collector_snapshot.checked(metric) for metric in everything()]
    after = collector_snapshot.decode(collector_snapshot.encode(before))
    assert repr(after) == repr(before)
    assert [(m.name, m.type, m.unit, m.documentation) for m in after] == [(m.name, m.type, m.unit, m.documentation) for m in everything()]
    for kept, said in zip(after, everything(), strict=True):
        assert [(s.name, s.labels, s.timestamp) for s in kept.samples] == [(s.name, s.labels, s.timestamp) for s in said.samples]
        assert repr([s.value for s in kept.samples]) == repr([float(s.value) for s in said.samples])
    assert after[0].samples[1].timestamp == Timestamp(12, 34)
    assert after[1].samples[0].exemplar == Exemplar({"trace": "1"}, 2.0, 3.5)


def test_both_expositions_show_them_as_upstream_would(metrics_directory: Path) -> None:
    worker = Worker(metrics_directory)
    worker.value("counter", "stock", "stock_total").inc(1.0)
    (metrics_directory / paths.SHARED_SNAPSHOT).write_bytes(
        collector_snapshot.encode([*everything(), GaugeMetricFamily("stock", "clashes", value=3)])
    )
    view = MergedCollector(None, str(metrics_directory))
    kept = [metric for metric in view.collect() if not metric.name.startswith("multiproc")]
    assert [metric.name for metric in kept] == ["stock", "c", "e", "g_seconds", "h", "i", "s"]

    class Kept:
        def collect(self) -> list[Metric]:
            return kept

    assert exposition.generate_latest(Kept()).decode() in view.render().decode()
    assert openmetrics.generate_latest(Kept()).decode().removesuffix("# EOF\n") in view.render(openmetrics=True).decode()
    assert list(parse_openmetrics(view.render(openmetrics=True).decode()))
    worker.kill()
    assert b"# TYPE h histogram" not in view.render()


@pytest.mark.parametrize("openmetrics_wanted", [False, True])
def test_what_a_view_is_given_stands_for_what_the_directory_says(metrics_directory: Path, openmetrics_wanted: bool) -> None:
    worker = Worker(metrics_directory)
    for name in ("a", "b", "z"):
        worker.value("gauge", name, name, "livesum", label="there").set(1.0)
    (metrics_directory / paths.SHARED_SNAPSHOT).write_bytes(collector_snapshot.encode([GaugeMetricFamily("c", "clashes", value=3)]))
    said = [GaugeMetricFamily("c", "given", labels=["l"]), GaugeMetricFamily("b", 'given "too"', labels=["l"])]
    view = MergedCollector(None, str(metrics_directory), given=lambda: said)

    def shown() -> dict[str, list[float]]:
        text, at = view.render(openmetrics_wanted).decode(), 0
        families = [metric for metric in view.collect() if not metric.name.startswith("multiproc")]
        for metric in families:
            one = text_format.family(metric, openmetrics=openmetrics_wanted)
            assert text.count(one) == 1
            assert text.index(one) >= at, "in the order of collect()"
            at = text.index(one)
        assert text.count("# TYPE b ") == text.count("# TYPE c ") == 1
        return {metric.name: [sample.value for sample in metric.samples] for metric in families}

    assert shown() == {"a": [1.0], "b": [], "z": [1.0], "c": []}
    assert list(shown()) == ["a", "b", "z", "c"]
    for value in (5.0, 6.0):
        said[1] = GaugeMetricFamily("b", 'given "too"', labels=["l"])
        for label in "xy":
            said[1].add_metric([label], value)
        assert shown() == {"a": [1.0], "b": [value, value], "z": [1.0], "c": []}
    worker.kill()
    assert shown() == {"b": [6.0, 6.0], "c": []}


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


@given(
    st.binary(max_size=60)
    | JSON.map(lambda value: json.dumps(value).encode())
    | st.integers(0, 700).map(lambda n: collector_snapshot.encode(everything())[:n])
)
def test_no_bytes_harm_a_view(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        collector_snapshot.encode(collector_snapshot.decode(data))


@pytest.mark.parametrize("damage", ["garbage", "truncated", "empty", "directory", "fifo", "link", "deep"])
def test_a_bad_snapshot_keeps_the_last_good_one(metrics_directory: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    path = metrics_directory / paths.SHARED_SNAPSHOT
    good = collector_snapshot.encode(everything())
    path.write_bytes(good)
    snapshots = Snapshots(metrics_directory)
    families = snapshots.read({0})
    assert [metric.name for metric in families] == ["c", "e", "g_seconds", "h", "i", "s"]
    assert snapshots.read({0}) is families
    assert not snapshots.troubles
    path.unlink()
    if damage == "directory":
        path.mkdir()
    elif damage == "fifo":
        os.mkfifo(path)
    elif damage == "link":
        path.symlink_to("/etc/passwd")
    else:
        path.write_bytes({"garbage": b"\xff\x00", "truncated": good[:-3], "empty": b"", "deep": b"[" * 100_000}[damage])
    for _ in range(2):
        assert repr(snapshots.read({0})) == repr(families)
        assert snapshots.troubles.total() == 1
    assert len(caplog.records) == 1
    assert snapshots.read(set()) == []
