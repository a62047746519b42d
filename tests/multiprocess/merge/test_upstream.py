"""On a directory of upstream's own pid files, the merged view gives the samples that upstream's collector gives."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.values import MultiProcessValue

from monitoring.multiprocess import MergedCollector
from monitoring.multiprocess.storage import declarations
from tests.multiprocess.simulated_workers import samples

if TYPE_CHECKING:
    from collections.abc import Iterable

NUMBERS = st.sampled_from([math.nan, math.inf, -math.inf, -0.0]) | st.floats() | st.integers(-100, 100).map(float)
#: A few texts come again and again, so that files have series in common.
TEXT = st.sampled_from(["", "a", 'a"\\\n', "é"]) | st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
MODES = ["all", "liveall", "min", "livemin", "max", "livemax", "sum", "livesum", "mostrecent", "livemostrecent"]
KINDS = st.sampled_from(["counter", "summary", "histogram", *MODES])
LABELS = st.dictionaries(st.sampled_from(["l", "Other_1", "_m"]), TEXT, max_size=2)
#: Which process, what kind of metric, one of two families of that kind, labels, a number, whether a gauge is only made and never set.
WRITE = st.tuples(st.integers(1, 4), KINDS, st.sampled_from(["a", "b"]), LABELS, NUMBERS, st.booleans())


def _write(directory: str, writes: list[Any]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROMETHEUS_MULTIPROC_DIR", directory)
        classes = {pid: MultiProcessValue(lambda pid=pid: pid) for pid in range(1, 5)}
        for moment, (pid, kind, suffix, labels, number, never_set) in enumerate(writes, 1):
            make, family = classes[pid], f"{kind}_{suffix}"
            amount = 1.0 if math.isnan(number) else abs(number)  # OpenMetrics has no counter that is not a number
            names, texts, help_ = list(labels), list(labels.values()), f"Help of {suffix} \\ \n é"
            if kind in ("counter", "summary"):
                name = f"{family}_total" if kind == "counter" else f"{family}_count"
                make(kind, family, name, names, texts, help_).inc(amount if kind == "counter" else 1)
            elif kind == "histogram":
                le = "+Inf" if not number <= 10 else "10.0" if number > 1 else "1.0"
                for bound in ("1.0", "10.0", "+Inf"):
                    make(kind, family, f"{family}_bucket", [*names, "le"], [*texts, bound], help_).inc(float(bound == le))
                make(kind, family, f"{family}_sum", names, texts, help_).inc(amount)
            else:
                gauge = make("gauge", family, family, names, texts, help_, multiprocess_mode=kind)
                if not never_set:
                    gauge.set(number, float(moment))
        for each in classes.values():
            each.close_all_files()


class InOrderOfNames(MultiProcessCollector):  # type: ignore[misc]
    """Upstream, but for the order in which files are added: there it is the directory's, which changes."""

    def collect(self) -> Any:
        return self.merge(sorted(str(path) for path in Path(self._path).glob("*.db")), accumulate=True)


class Parsed:
    """Families as a collector."""

    def __init__(self, families: Iterable[Any]) -> None:
        self.families = list(families)

    def collect(self) -> list[Any]:
        return self.families


def _comparable(found: dict[Any, float]) -> dict[Any, str]:
    # -0.0 and 0.0 are one number; ours writes it without the sign.
    return {key: repr(value + 0.0) for key, value in found.items()}


@settings(max_examples=200, deadline=None)
@given(st.lists(WRITE, max_size=25))
def test_same_samples_as_upstream(writes: list[Any]) -> None:
    directory = tempfile.mkdtemp(dir="/dev/shm")
    try:
        _write(directory, writes)
        ours = MergedCollector(None, directory)
        theirs = InOrderOfNames(CollectorRegistry(), directory)
        assert _comparable(samples(ours)) == _comparable(samples(theirs))
        text = list(parse_text(ours.render().decode()))
        openmetrics = list(parse_openmetrics(ours.render(openmetrics=True).decode()))
        assert [f.name for f in text] == [f.name for f in openmetrics] == [m.name for m in ours.collect()]
        for parsed in (text, openmetrics):
            assert _comparable(samples(Parsed(parsed))) == _comparable(samples(ours))
    finally:
        shutil.rmtree(directory)


def test_registers_like_upstream(tmp_path: Any) -> None:
    registry = CollectorRegistry()
    collector = MergedCollector(registry, str(tmp_path))
    assert list(registry.collect()) == list(collector.collect()) == []


@pytest.mark.parametrize("path", ["/nowhere/at/all", os.devnull])
def test_no_directory_is_a_value_error(path: str) -> None:
    with pytest.raises(ValueError, match="not a directory"):
        MergedCollector(None, path)


def _histogram_files(directory: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two pids' files of one histogram, whose second label set only the second pid has."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", directory)
    for pid, routes in ((1, "a"), (2, "ba")):
        monkeypatch.setattr("prometheus_client.values.ValueClass", MultiProcessValue(lambda pid=pid: pid))
        histogram = Histogram("h", "help", ["route"], registry=None, buckets=(1, 2))
        for number, route in enumerate(routes, 1):
            histogram.labels(route).observe(number)
    return sorted(str(path) for path in Path(directory).glob("*.db"))


def test_a_histograms_samples_come_in_upstreams_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _histogram_files(str(tmp_path), monkeypatch)
    found = []
    for kind in (MergedCollector, MultiProcessCollector):
        (metric,) = (metric for metric in kind(None, str(tmp_path)).collect() if metric.name == "h")
        found.append(sorted(metric.samples, key=lambda sample: sample.labels["route"]))
    assert found[0] == found[1]
    assert [sample.name for sample in found[0][:5]] == ["h_sum", "h_bucket", "h_bucket", "h_bucket", "h_count"]


@pytest.mark.parametrize("declared", [False, True])
def test_a_line_is_as_upstream_writes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, declared: bool) -> None:
    """To the last byte, with labels that stand before `le` and behind it."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    if declared:
        declarations.publish(
            tmp_path, {"h": declarations.Family("h", "histogram", "Help", "", ("z", "label", "le_"), (0.5, 1e7, math.inf))}
        )
    for pid in (1, 2):
        make = MultiProcessValue(lambda pid=pid: pid)
        for names, texts in ([], []), (["z", "label", "le_"], ["\\", '"\n', "é"]), (["label"], [""]), (["z"], ["Z"]):
            for bound in ("0.5", "1e+07", "+Inf"):
                make("histogram", "h", "h_bucket", [*names, "le"], [*texts, bound], "Help").inc(pid)
            make("histogram", "h", "h_sum", names, texts, "Help").inc(1e7)
            make("gauge", "g", "g", names, texts, "Help", multiprocess_mode="all").set(0.25)
            make("gauge", "m", "m", [*names, "pid"], [*texts, "7"], "Help", multiprocess_mode="max").set(pid)
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(tmp_path))
    theirs = sorted(generate_latest(registry).splitlines())
    ours = MergedCollector(None, str(tmp_path)).render().splitlines()
    assert sorted(line for line in ours if b"multiproc_" not in line) == theirs


def test_names_that_are_written_alike_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line says `a.b` and `a-b` as `a_b`; they are different labels all the same."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    for pid in (1, 2):
        make = MultiProcessValue(lambda pid=pid: pid)
        for amount, label in enumerate(("a.b", "a-b", "a_b"), 1):
            for name in ("f.x_total", "f_x_total"):
                make("counter", "f", name, [label], ["v"], "Help").inc(amount)
            for bound in ("0.5", "+Inf"):
                make("histogram", "h", "h_bucket", [label, "le"], ["v", bound], "Help").inc(amount)
            make("histogram", "h", "h_sum", [label], ["v"], "Help").inc(amount)
            make("gauge", "g", "g", [label], ["v"], "Help", multiprocess_mode="all").set(amount)
            make("gauge", "m", "m", [label, "pid"], ["v", "7"], "Help", multiprocess_mode="max").set(amount)
    theirs = samples(MultiProcessCollector(CollectorRegistry(), str(tmp_path)))
    ours = samples(MergedCollector(None, str(tmp_path)))
    assert {key: value for key, value in ours.items() if not key[0].startswith("multiproc_")} == theirs
    assert theirs["f.x_total", (("a-b", "v"),)] == 4.0


def test_files_of_a_list_are_merged_as_by_upstream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = _histogram_files(str(tmp_path), monkeypatch)
    ours, theirs = MergedCollector(None, str(tmp_path)), MultiProcessCollector(CollectorRegistry(), str(tmp_path))
    assert isinstance(ours, MultiProcessCollector)
    for accumulate in (True, False):
        assert [m.samples for m in ours.merge(files, accumulate=accumulate)] == [
            m.samples for m in theirs.merge(files, accumulate=accumulate)
        ]


def test_the_variables_former_name_is_taken_with_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    monkeypatch.setenv("prometheus_multiproc_dir", str(tmp_path))
    with pytest.warns(DeprecationWarning, match="PROMETHEUS_MULTIPROC_DIR"):
        MergedCollector(None)
    assert os.environ.pop("PROMETHEUS_MULTIPROC_DIR") == str(tmp_path)
