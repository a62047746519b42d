"""What every case asserts in the end: acknowledged <= counter <= sent, and nothing left behind."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from .scraper import Samples, total

if TYPE_CHECKING:
    from pathlib import Path

    from .client import Tally

REQUESTS = "neurectomy_http_requests_total"
HISTOGRAMS = (
    "neurectomy_http_request_duration_seconds",
    "neurectomy_http_time_to_first_byte_seconds",
    "neurectomy_http_request_size_bytes",
    "neurectomy_http_response_size_bytes",
)


def assert_exact(samples: Samples, tally: Tally, least: int = 20) -> None:
    """Hold the HTTP families, and the service's own, against what the client knows."""
    answered = sum(tally.acknowledged.values())
    assert answered >= least, f"only {answered} requests were answered: the load proves nothing"
    for key, sent in tally.sent.items():
        method, endpoint = key
        labels = {"method": method, "endpoint": endpoint}
        acknowledged = tally.acknowledged[key]
        assert_between(acknowledged, total(samples, REQUESTS, **labels), sent, f"{REQUESTS} {labels}")
        for name in HISTOGRAMS:
            for sample, more in ((f"{name}_count", {}), (f"{name}_bucket", {"le": "+Inf"})):
                assert_between(acknowledged, total(samples, sample, **labels, **more), sent, f"{sample} {labels}")
    plain = [key for key in tally.sent if key[1] == "/ok"]
    acknowledged = sum(tally.acknowledged[key] for key in plain)
    sent = sum(tally.sent[key] for key in plain)
    for sample in ("faults_handled_total", "faults_handled_seconds_count", "faults_handled_summary_count"):
        assert_between(acknowledged, total(samples, sample), sent, sample)


def assert_between(acknowledged: float, value: float, sent: float, what: str) -> None:
    """Neither lost nor doubled."""
    assert acknowledged <= value, f"{what}: {acknowledged - value} lost ({acknowledged} acknowledged, {value} counted)"
    assert value <= sent, f"{what}: {value - sent} too many ({value} counted, {sent} sent)"


def files(directory: Path) -> list[str]:
    """Name the value files."""
    return sorted(path.name for path in directory.iterdir() if path.name.endswith(".db"))


def assert_bounded(directory: Path, most_alive: int) -> None:
    """Files within F x (most processes alive at once) + C: a file per kind and slot, and a few for all.

    `most_alive` counts every process that may hold a slot at once: old and new workers of a reload,
    and a preloading master.
    """
    # A view has files of its own, which the next view continues: at most one view a process, an exporter, and those of the test.
    accounts = [name for name in files(directory) if "_scrapes" in name]
    assert len(accounts) <= 2 * (most_alive + 3), f"more files of views than views ever lived at once: {accounts}"
    kinds = Counter(name.rpartition("_")[0] for name in files(directory) if name not in accounts)
    crowded = {kind: count for kind, count in kinds.items() if count > most_alive}
    assert not crowded, f"more files than the {most_alive} processes that ever lived at once: {crowded}"
    rest = sorted(path.name for path in directory.iterdir() if not path.name.endswith(".db"))
    half_made = [name for name in rest if re.fullmatch(r".*_s\d+\.tmp", name)]
    assert len(half_made) <= most_alive, f"a slot has at most the one file that its holder died over: {half_made}"
    others = [name for name in rest if name not in half_made]
    assert len(others) <= 8, f"files that belong to no slot pile up: {others}"
