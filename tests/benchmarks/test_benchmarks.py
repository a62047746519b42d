"""Each benchmark runs at a tiny size and prints what it promises; the figures of such a run mean nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT, built_environment
from tests.processes import PATIENCE_SECONDS
from tests.prometheus.executables import program

if TYPE_CHECKING:
    from collections.abc import Iterable


def run(script: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, f"benchmarks/{script}.py", *arguments],
        cwd=ROOT,
        env=built_environment(),
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def require_ratios(output: str, names: Iterable[str]) -> None:
    for name in names:
        found = re.search(rf"^  {re.escape(name)} .* = +([\d.]+)   quartiles", output, re.MULTILINE)
        assert found, f"no ratio for {name!r}: {output}"
        assert float(found[1]) > 0


def test_tracking() -> None:
    lines = run("tracking", "--rounds", "2").splitlines()[2:]
    assert len(lines) == 6
    assert all(re.fullmatch(r"(track_\S+|a closed breaker|a note of a user, and a call) +-?[\d.]+ us", line) for line in lines)


@pytest.mark.proof
def test_start() -> None:
    printed = run("start", "--rounds", "1", "--workers", "1")
    rows = re.findall(r"^(.+?) +(\d+\.\d+) +(\d+\.\d+) +(\d+\.\d+) +(\d+\.\d+)$", printed, re.MULTILINE)
    assert [row[0] for row in rows] == ["default", "preloaded", "models elsewhere (RYOT_BASE_URL)", "a vault with a key"]
    assert all(float(figure) > 0 for row in rows for figure in row[1:])


def test_series() -> None:
    printed = run("series", "--workers", "1", "--requests", "60")
    total = re.match(r"1 workers, 60 requests: (\d+) samples of \d+ families, \d+ KiB as text\n", printed)
    assert total, printed
    rows = re.findall(r"^(\w+) +(\d+) +\d+%   (.*)$", printed, re.MULTILINE)
    assert rows[0][0].startswith("neurectomy_http_")
    assert "endpoint " in rows[0][2]
    assert sum(int(count) for _, count, _ in rows) < int(total[1])


def test_middleware() -> None:
    output = run("middleware", "--rounds", "3", "--processes", "2", "--calls", "20", "--routes", "2", "--variants", "ours", "stock")
    assert [line.split("  ")[0] for line in output.splitlines()[3:]] == [
        "no metrics",
        "all six families, our values",
        "all six families, stock mmap values",
    ]


def test_labels() -> None:
    output = run("labels", "--rounds", "2", "--calls", "50")
    require_ratios(
        output,
        [
            "labels() of a known series, ours / upstream",
            "labels().inc() of a known series, likewise",
            "a new series, likewise",
            "a refused label set, ours / new, upstream",
            "a refused label set / a known one, ours",
        ],
    )


def test_scrape() -> None:
    output = run("scrape", "--sizes", "2x120", "--rounds", "2", "--dead", "6", "--scrapers", "5")
    shares = ("0% changed", "1% changed", "10% changed", "100% changed", "1% changed, spread", "10% changed, spread")
    require_ratios(
        output,
        [
            *(f"2x120 warm, {share}" for share in shares),
            "2x120 cold",
            "peak MiB of the process, ours / upstream",
            "5 scrapers at once / one, exporter's CPU",
            "1% new series / ordinary warm scrape",
            "warm scrape",
            "cold scrape",
        ],
    )
    files, of_the_living = re.findall(r"^  files +([\d.]+) / (\d+)", output, re.MULTILINE)[0]
    assert float(files) == float(of_the_living), "dead writers left files"


def test_scrape_takes_parts_and_sizes_in_thousands() -> None:
    output = run("scrape", "--sizes", "1x1k", "--rounds", "2", "--only", "cold")
    require_ratios(output, ["1x1000 cold"])
    assert "warm" not in output


def test_latency() -> None:
    output = run("latency", "--turns", "1", "--seconds", "0.5", "--every", "0.2", "--load", "2x120", "--rate", "50")
    require_ratios(output, ["p99, scrape at the exporter", "p99, scrape at the app's /metrics"])
    # Both kinds of phase were scraped: the last columns are there.
    scraped = re.findall(r"^  scrape at .*?((?: +[\d.]+)+)$", output, re.MULTILINE)
    assert [len(figures.split()) for figures in scraped] == [6, 6]


def test_generations() -> None:
    output = run("generations", "--generations", "2", "3", "--workers", "2", "--rounds", "2")
    require_ratios(output, ["warm scrape", "cold scrape"])
    files, before = re.findall(r"^  files +([\d.]+) / (\d+)", output, re.MULTILINE)[0]
    assert float(files) == float(before), "former workers left files"


def test_compression() -> None:
    output = run("compression", "--documents", "400", "--mib", "16", "--bar")
    require_ratios(output, ["level 3, without a dictionary", "level 3, with a dictionary", "level 19, with a dictionary"])
    assert len(re.findall(r"^  growth of the worker's memory, at its highest +[\d.]+ MiB   bar <= 64: met", output, re.MULTILINE)) == 3


def test_a_missed_bar_fails_only_where_bars_are_enforced() -> None:
    code = """
import sys
sys.path.insert(0, "benchmarks")
from _report import Report
report = Report()
report.ratio("fast enough", [(1.0, 2.0)], at_most=3)
report.ratio("too slow", [(1.0, 2.0)], at_least=3)
assert report.missed == ["too slow"]
assert report.code(enforced=False) == 0
sys.exit(report.code(enforced=True))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=built_environment(), capture_output=True, check=False)
    assert done.returncode == 1, done.stderr
    assert b"missed: too slow" in done.stdout


@pytest.mark.proof
def test_pods() -> None:
    program("prometheus")
    printed = run("pods", "--pods", "2", "--workers", "1", "--requests", "60", "--minutes", "0.2", "--interval", "0.5")
    for name in ("without rules", "with rules"):
        found = re.search(
            rf"^{name}\n  up 2, (\d+) samples per pod, .*\n  (\d+) series, \d+ MiB, \d+ bytes per series, ", printed, re.MULTILINE
        )
        assert found, printed
        assert int(found[2]) > 2 * int(found[1]) > 1000
    assert len(re.findall(r" rules, evaluated in \d", printed)) == 6
    read = [int(samples) for samples in re.findall(r"(\d+) samples read$", printed, re.MULTILINE)]
    assert len(read) == 4
    assert read[0] > read[1] > 0
    assert read[2] > read[3] > 0
