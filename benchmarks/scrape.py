"""What a scrape costs: `python benchmarks/scrape.py` prints every ratio to prometheus-client, read from the same files in the same run.

Ours is `MergedCollector.render()`, upstream is MultiProcessCollector with generate_latest, each in a process of its own over one
directory that real writers fill through the kit's value class (_series.py says with what). In every round values change, and then all are
timed once, every other round backwards; a ratio is the median over rounds of the times of one round. Upstream costs the same whatever
changed, so it is timed once a round.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from _burst import burst
from _fleet import DEAD_SERIES, Fleet, directory, fleet
from _reader import OURS, UPSTREAM, Reader, check, reader
from _report import Report

if TYPE_CHECKING:
    from pathlib import Path

PARTS = ("warm", "cold", "memory", "burst", "new", "dead")
#: Issue bars, by size: how many times faster than upstream at least.
WARM_TENTH = {"4x1000": 15, "16x1000": 30, "16x10000": 90, "64x10000": 120}
WARM_ALL = {"16x10000": 40}
COLD = {"16x10000": 3}
NEW, MEMORY, DEAD, MERGES, GROWTH = 2.0, 1.75, 1.1, 2, 1.05
#: The size at which memory, new series and many scrapers are measured, where it is among the sizes.
AT = "16x10000"


@dataclass(frozen=True)
class Size:
    """How many workers, and how many samples each of them holds."""

    workers: int
    series: int

    def __str__(self) -> str:
        return f"{self.workers}x{self.series}"

    def rounds(self, wanted: int | None) -> int:
        """Fewer where a scrape by upstream takes seconds."""
        return wanted or max(7, min(40, 3_200_000 // (self.workers * self.series)))


def size(text: str) -> Size:
    """Parse 16x1000 or 16x1k."""
    workers, _, series = text.replace("k", "000").partition("x")
    return Size(int(workers), int(series))


def main() -> None:
    """Measure what was asked for, print, and fail below a bar if that was asked for."""
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--sizes", type=size, nargs="+", default=[size(text) for text in ("1x100", "4x1k", "16x1k", "16x10k", "64x10k")])
    options.add_argument("--changed", type=float, nargs="+", default=[0, 1, 10, 100], help="percent of values changed between scrapes")
    options.add_argument("--rounds", type=int, help="default: 40, fewer at large sizes")
    options.add_argument("--only", choices=PARTS, nargs="+", default=PARTS)
    options.add_argument("--dead", type=int, default=1000, help="writers that lived and were killed before the 4 that live")
    options.add_argument("--scrapers", type=int, default=50)
    options.add_argument("--bar", action="store_true", help="exit with 1 where a bar is missed")
    chosen = options.parse_args()
    report = Report()
    print(f"Python {sys.version.split()[0]}; workers x samples in each; CPU time of a scrape by upstream / by ours = how many times faster")
    at = next((entry for entry in chosen.sizes if str(entry) == AT), chosen.sizes[-1])
    for entry in chosen.sizes:
        parts = [part for part in chosen.only if part in {"warm", "cold"} or (entry == at and part != "dead")]
        if parts:
            with directory() as path, fleet(path, entry.workers, entry.series) as writers:
                measure(report, path, writers, entry, parts, chosen)
    if "dead" in chosen.only:
        dead(report, chosen.dead, Size(4, min(1000, max(entry.series for entry in chosen.sizes))), chosen.rounds or 60)
    sys.exit(report.code(enforced=chosen.bar))


def measure(report: Report, path: Path, writers: Fleet, entry: Size, parts: list[str], chosen: argparse.Namespace) -> None:
    """Print what this size costs."""
    with reader(OURS, path) as ours, reader(UPSTREAM, path) as upstream:
        samples = check(ours, upstream)
        report.head(f"{entry}: {sum(file.stat().st_size for file in path.glob('*.db')) / 2**20:.1f} MiB of files, {samples} samples merged")
        if "warm" in parts:
            warm(report, writers, ours, upstream, entry, chosen.changed, entry.rounds(chosen.rounds))
        if "cold" in parts:
            cold(report, writers, ours, upstream, entry, entry.rounds(chosen.rounds))
        check(ours, upstream)
    if "memory" in parts:
        memory(report, path, writers, entry.rounds(chosen.rounds))
    if "burst" in parts:
        merges, growth = burst(report, path, writers, chosen.scrapers)
        report.figure("merges for all of them, at most", merges, "", at_most=MERGES)
        report.figure("memory after the last burst / the first", growth, "", at_most=GROWTH)
    if "new" in parts:
        new(report, path, writers, entry.rounds(chosen.rounds))


def warm(report: Report, writers: Fleet, ours: Reader, upstream: Reader, entry: Size, changed: list[float], rounds: int) -> None:
    """Time scrapes by a view that has scraped before. `spread` is the same share, of other series in every writer."""
    kinds = [(percent, False) for percent in changed] + [(percent, True) for percent in changed if 0 < percent < 100]
    ours.warm()
    times: dict[tuple[float, bool], list[tuple[float, float]]] = {kind: [] for kind in kinds}
    for number in range(rounds):
        taken: dict[tuple[float, bool], float] = {}
        theirs = 0.0
        for kind in [*kinds, None][:: 1 if number % 2 else -1]:
            if kind is None:
                theirs = upstream.warm()
                continue
            if kind[0]:
                writers.change(kind[0], spread=kind[1])
            taken[kind] = ours.warm()
        for kind, mine in taken.items():
            times[kind].append((theirs, mine))
    for (percent, spread), pairs in times.items():
        bars = {} if spread else {10: WARM_TENTH, 100: WARM_ALL}.get(percent, {})
        what = f"{entry} warm, {percent:g}% changed{', spread' if spread else ''}"
        report.ratio(what, pairs, at_least=bars.get(str(entry)))


def cold(report: Report, writers: Fleet, ours: Reader, upstream: Reader, entry: Size, rounds: int) -> None:
    """Time the first scrape of a fresh collector."""
    pairs = []
    for number in range(max(3, rounds // 2)):
        writers.change(10)
        if number % 2:
            mine, theirs = ours.cold(), upstream.cold()
        else:
            theirs, mine = upstream.cold(), ours.cold()
        pairs.append((theirs, mine))
    report.ratio(f"{entry} cold", pairs, at_least=COLD.get(str(entry)))


def memory(report: Report, path: Path, writers: Fleet, rounds: int) -> None:
    """Compare the most that a process which scrapes a few times ever held, with the interpreter and its imports and without."""
    peaks = {}
    for variant in (OURS, UPSTREAM):
        with reader(variant, path) as process:
            for _ in range(min(6, rounds)):
                process.warm()
                writers.change(10)
            peaks[variant] = (process.peak_mebibytes(), process.idle_mebibytes)
    (mine, idle), (theirs, their_idle) = peaks[OURS], peaks[UPSTREAM]
    report.ratio("peak MiB of the process, ours / upstream", [(mine, theirs)], milli=False, at_most=MEMORY)
    report.ratio("the same without what it held idle", [(mine - idle, theirs - their_idle)], milli=False)


def new(report: Report, path: Path, writers: Fleet, rounds: int) -> None:
    """Time a scrape that finds 1% more series in every file, beside one that finds only changed values."""
    with reader(OURS, path) as ours:
        ours.warm()
        pairs = []
        for number in range(rounds):
            taken = {}
            for more in (True, False)[:: 1 if number % 2 else -1]:
                writers.change(10)
                if more:
                    writers.add(1)
                taken[more] = ours.warm()
            pairs.append((taken[True], taken[False]))
    report.ratio("1% new series / ordinary warm scrape", pairs, at_most=NEW)


def dead(report: Report, generations: int, entry: Size, rounds: int) -> None:
    """Compare a directory in which many writers have lived and were killed with one in which only the living ones have."""
    with directory() as old, directory() as young:
        alive = (entry.workers, entry.series)
        with (
            fleet(old, *alive, dead=generations) as old_writers,
            fleet(young, *alive) as young_writers,
            reader(OURS, old) as behind,
            reader(OURS, young) as none,
        ):
            for path in (old, young):
                with reader(UPSTREAM, path) as upstream:
                    check(behind if path == old else none, upstream)
            report.head(f"{entry}, behind {generations} dead writers of {DEAD_SERIES} series each / behind none")
            files = [len(list(path.glob("*.db"))) for path in (old, young)]
            report.figure("files", files[0], f"/ {files[1]}", at_most=files[1])
            pairs: dict[str, list[tuple[float, float]]] = {"warm": [], "cold": []}
            for number in range(rounds):
                taken = {}
                for process, writers in ((behind, old_writers), (none, young_writers))[:: 1 if number % 2 else -1]:
                    writers.change(10)
                    taken[process] = (process.warm(), process.cold())
                for index, kind in enumerate(pairs):
                    pairs[kind].append((taken[behind][index], taken[none][index]))
            for kind, values in pairs.items():
                report.ratio(f"{kind} scrape", values, at_most=DEAD)


if __name__ == "__main__":
    main()
