"""On a directory of upstream's own pid files, the merged view gives the samples that upstream's collector gives."""

from __future__ import annotations

import os
import shutil
import tempfile
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.values import MultiProcessValue

from monitoring.multiprocess import MergedCollector

from .workers import samples

NUMBERS = st.one_of(st.floats(allow_nan=False, allow_infinity=True), st.integers(-100, 100).map(float))
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
MODES = ["all", "liveall", "min", "livemin", "max", "livemax", "sum", "livesum", "mostrecent", "livemostrecent"]
WRITE = st.tuples(st.integers(1, 4), st.sampled_from(["counter", "summary", "histogram", *MODES]), TEXT, NUMBERS, st.booleans())


def _write(directory: str, writes: list[Any]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROMETHEUS_MULTIPROC_DIR", directory)
        classes = {pid: MultiProcessValue(lambda pid=pid: pid) for pid in range(1, 5)}
        for moment, (pid, kind, label, number, never_set) in enumerate(writes, 1):
            make = classes[pid]
            if kind in ("counter", "summary"):
                name = "c_total" if kind == "counter" else "s_count"
                make(kind, kind[0], name, ["l"], [label], "help").inc(abs(number) if kind == "counter" else 1)
            elif kind == "histogram":
                le = "+Inf" if number > 10 else "10.0" if number > 1 else "1.0"
                for bound in ("1.0", "10.0", "+Inf"):
                    make(kind, "h", "h_bucket", ["l", "le"], [label, bound], "help").inc(float(bound == le))
                make(kind, "h", "h_sum", ["l"], [label], "help").inc(abs(number))
            else:
                gauge = make("gauge", f"g_{kind}", f"g_{kind}", ["l"], [label], "help", multiprocess_mode=kind)
                if not never_set:
                    gauge.set(number, float(moment))
        for each in classes.values():
            each.close_all_files()


def _comparable(found: dict[Any, float]) -> dict[Any, str]:
    # -0.0 and 0.0 are one number; ours writes it without the sign.
    return {key: repr(value + 0.0) for key, value in found.items()}


@settings(max_examples=150, deadline=None)
@given(st.lists(WRITE, max_size=25))
def test_same_samples_as_upstream(writes: list[Any]) -> None:
    directory = tempfile.mkdtemp(dir="/dev/shm")
    try:
        _write(directory, writes)
        ours = MergedCollector(None, directory)
        theirs = MultiProcessCollector(CollectorRegistry(), directory)
        assert _comparable(samples(ours)) == pytest.approx(_comparable(samples(theirs)))
        text = ours.render().decode()
        assert {f.name for f in parse_text(text)} == {m.name for m in ours.collect()}
        assert {f.name for f in parse_openmetrics(ours.render(openmetrics=True).decode())} == {m.name for m in ours.collect()}
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
