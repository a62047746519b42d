"""What many pods cost one Prometheus: `python benchmarks/pods.py` prints its memory, CPU and query times with and without our rules.

The real service runs once, with the load script. Its metrics directory is copied for every pod, with the leases of its workers held, and a
real merged view over each copy answers the scrapes; between two scrapes a share of its values grows. Two real Prometheus scrape
all of it at once: one that only stores, one with recording rules and alerts. CPU and memory are the kernel's figures of these two.
"""

from __future__ import annotations

import argparse
import random
import resource
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from _fleet import directory
from _prometheus import observers
from _simulated import Pod, serving
from series import scrape

from monitoring.observe.programs import find

if TYPE_CHECKING:
    from _prometheus import Observer
    from _simulated import Pods

SHOWN_SECONDS = 1800
"""What a dashboard shows."""
P95 = """histogram_quantile(0.95, sum by (cluster, job, endpoint, le) (rate(
    neurectomy_http_request_duration_seconds_bucket{endpoint!~"/health/.*|/metrics"}[5m])))"""
RATE = "sum by (cluster, job, endpoint, status) (rate(neurectomy_http_requests_total[5m]))"
QUERIES = {
    "p95 by endpoint": (P95, "cluster_job_endpoint:neurectomy_http_request_duration_seconds:p95_5m"),
    "requests by endpoint and status": (RATE, "cluster_job_endpoint_status:neurectomy_http_requests:rate5m"),
}


def main() -> None:
    """Simulate and print."""
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--pods", type=int, default=200)
    options.add_argument("--workers", type=int, default=4)
    options.add_argument("--requests", type=int, default=2000, help="of the load script")
    options.add_argument("--minutes", type=float, default=40, help="120 samples, after which a series' memory is level, are 30 minutes")
    options.add_argument("--interval", type=float, default=15, help="seconds between two scrapes, and evaluations of the rules")
    chosen = options.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with directory() as folder, tempfile.TemporaryDirectory(prefix="bench-prometheus-") as data:
        scrape(chosen.workers, chosen.requests, keep=folder / "template")
        pods = [Pod(folder / "template", folder / str(number)) for number in range(chosen.pods)]
        with serving(pods) as server, observers(len(pods), server.server_address[1], Path(data), chosen.interval) as both:
            simulate(server, both, chosen.minutes * 60, chosen.interval)


def simulate(server: Pods, both: list[Observer], seconds: float, interval: float) -> None:
    """Let time pass, in which values grow; print what it cost in the second half."""
    chance = random.Random(1)
    grow(server, chance, seconds / 2, interval)
    since, cpu, merges, merging = time.monotonic(), [each.cpu() for each in both], server.merges, server.seconds
    grow(server, chance, seconds / 2, interval)
    over = time.monotonic() - since
    version = subprocess.run([find("prometheus"), "--version"], capture_output=True, text=True, check=True).stdout.partition(" (")[0]
    merge = (server.seconds - merging) / (server.merges - merges)
    print(f"{version}; {len(server.pods)} pods, {seconds / 60:g} minutes; a merge takes {merge * 1000:.2f} ms of CPU")
    for each, before in zip(both, cpu, strict=True):
        show(each, (each.cpu() - before) / over)
    for group in both[1].ask("rules")["groups"]:
        print(f"  {group['name']:<32} {len(group['rules']):>3} rules, evaluated in {group['evaluationTime']:.3f} s")
    print(f"dashboard's queries over {SHOWN_SECONDS // 60} minutes")
    for name, kinds in QUERIES.items():
        for kind, expression in zip(("from the families", "recorded"), kinds, strict=True):
            took, samples = min(both[1].range(expression, SHOWN_SECONDS) for _ in range(3))
            print(f"  {f'{name}, {kind}':<52} {took:.3f} s, {samples} samples read")


def grow(server: Pods, chance: random.Random, seconds: float, interval: float) -> None:
    """Have values grow between scrapes until the time is over."""
    end = time.monotonic() + seconds
    while (begun := time.monotonic()) < end:
        for pod in server.pods:
            pod.grow(chance)
        time.sleep(max(0.0, min(begun + interval, end) - time.monotonic()))


def show(observer: Observer, cores: float) -> None:
    """Print what a Prometheus holds and uses."""
    series, memory = observer.ask("status/tsdb")["headStats"]["numSeries"], observer.memory()
    up, samples = observer.number("sum(up)"), observer.number("sum(scrape_samples_scraped)")
    wal = sum(file.stat().st_size for file in (observer.data / "wal").rglob("*") if file.is_file())
    print(observer.name)
    print(f"  up {up:.0f}, {samples / up:.0f} samples per pod, slowest scrape {observer.number('max(scrape_duration_seconds)'):.2f} s")
    print(
        f"  {series} series, {memory / 2**20:.0f} MiB, {memory / series:.0f} bytes per series, {cores:.3f} cores, WAL {wal / 2**20:.0f} MiB"
    )


if __name__ == "__main__":
    main()
