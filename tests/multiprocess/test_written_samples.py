"""The samples of a family, as all slots have written them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from monitoring.multiprocess import read_samples, written_samples
from monitoring.multiprocess.storage.record_format import Record, encode, rebuild
from tests.multiprocess.simulated_workers import no_lease

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_each_slots_samples_of_one_family(metrics_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def record(key: str, value: float) -> Record:
        return Record(key.encode(), value, 0.0, 0)

    good = record('["a", "a_total", {"l": "x"}, "help"]', 3.0)
    others = [
        record('["ab", "ab_total", {}, "help"]', 1.0),
        record('["a", "a_total", {"l": "y"}, "help"]', -0.0),
        record('["a", {"l]', 1.0),
    ]
    whole = rebuild([good, *others])
    (metrics_directory / "counter_s3.db").write_bytes(whole)
    (metrics_directory / "counter_s4.db").write_bytes(whole[: 8 + len(encode(good.key.decode())) + 10])
    (metrics_directory / "counter_77.db").write_bytes(whole)
    (metrics_directory / "counter_s5.db").mkdir()
    os.mkfifo(metrics_directory / "histogram_s6.db")
    monkeypatch.setattr(written_samples, "store", no_lease(metrics_directory))
    assert sorted(read_samples("a")) == [(3, "a_total", {"l": "x"}, 3.0), (4, "a_total", {"l": "x"}, 3.0)]
    assert list(read_samples("a", 4)) == [(4, "a_total", {"l": "x"}, 3.0)]
    assert list(read_samples("b")) == []


def test_nothing_without_a_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(written_samples, "store", no_lease(None))
    assert list(read_samples("a")) == []
