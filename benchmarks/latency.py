"""What scrapes cost everybody else: `python benchmarks/latency.py` prints p99 of a trivial route with and without them.

The real service (gunicorn with gunicorn_conf.py and its exporter), 200 requests a second in an open loop, and beside it writers that
fill the same metrics directory and change a tenth of their values each second. Short phases without scrapes, with one a second at the
exporter and with one a second at the app's /metrics take turns; the scraper asks as Prometheus does (OpenMetrics, gzip). A ratio is
the median over turns of the phase's p99 over that of the phase without scrapes in the same turn; the pooled one compares all requests.
"""

from __future__ import annotations

import argparse
import gzip
import statistics
import sys
import time

from _client import Client, client
from _fleet import directory, fleet
from _report import Report
from _service import Service, get, service

BAR = 1.5
NONE, EXPORTER, APP = "no scrape", "scrape at the exporter", "scrape at the app's /metrics"
_PROMETHEUS = {
    "Accept": "application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
    "Accept-Encoding": "gzip",
    "User-Agent": "Prometheus/2.42.0",
}


def main() -> None:
    """Measure, print, and fail above the bar if that was asked for."""
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--turns", type=int, default=8, help="how often each kind of phase is measured")
    options.add_argument("--seconds", type=float, default=5, help="length of a phase")
    options.add_argument("--rate", type=float, default=200, help="requests per second")
    options.add_argument("--every", type=float, default=1, help="seconds between scrapes")
    options.add_argument("--load", default="16x10000", help="writers x samples in each")
    options.add_argument("--workers", type=int, default=2)
    options.add_argument("--bar", action="store_true", help=f"exit with 1 where p99 is more than {BAR} times that without scrapes")
    chosen = options.parse_args()
    writers, _, series = chosen.load.replace("k", "000").partition("x")
    report = Report()
    with directory() as path, service(path, chosen.workers) as served, fleet(path, int(writers), int(series)) as load:
        for target in (EXPORTER, APP):
            body = gzip.decompress(scrape(served, target))
            assert body.count(b"\nbench_") >= int(series), f"the {target} lacks the load"
        load.pace(10)
        with client(served.port, "/health/live", chosen.rate) as requests:
            phase(served, requests, NONE, chosen)  # not counted: workers and client warm up
            times, scrapes = measure(served, requests, chosen)
    print(f"Python {sys.version.split()[0]}; {chosen.workers} workers, {chosen.rate:g} requests/s, a scrape each {chosen.every:g} s")
    print(f"of {chosen.load} samples of which 10% change each second; {chosen.turns} turns of {chosen.seconds:g} s phases\n")
    show(report, times, scrapes)
    sys.exit(report.code(enforced=chosen.bar))


def measure(served: Service, requests: Client, chosen: argparse.Namespace) -> tuple[dict[str, list[list[float]]], dict[str, list[float]]]:
    """Give each kind's phases as lists of requests' seconds, and the seconds of its scrapes."""
    kinds = [NONE, EXPORTER, APP]
    times: dict[str, list[list[float]]] = {kind: [] for kind in kinds}
    scrapes: dict[str, list[float]] = {kind: [] for kind in kinds}
    for turn in range(chosen.turns):
        for kind in kinds[turn % 3 :] + kinds[: turn % 3]:
            taken, scraped = phase(served, requests, kind, chosen)
            times[kind].append(taken)
            scrapes[kind] += scraped
    return times, scrapes


def phase(served: Service, requests: Client, kind: str, chosen: argparse.Namespace) -> tuple[list[float], list[float]]:
    """Ask for a while and scrape meanwhile; give the seconds of the requests and of the scrapes."""
    began = time.monotonic()
    requests.start(chosen.seconds)
    scraped = []
    due = began + min(chosen.every, chosen.seconds) / 2
    while kind != NONE and due < began + chosen.seconds:
        time.sleep(max(0.0, due - time.monotonic()))
        asked = time.monotonic()
        scrape(served, kind)
        scraped.append(time.monotonic() - asked)
        due += chosen.every
    return requests.finish(), scraped


def scrape(served: Service, kind: str) -> bytes:
    """Scrape as Prometheus does; give what came over the wire, since unpacking it here would disturb the service."""
    return get(served.metrics_port if kind == EXPORTER else served.port, "/metrics", _PROMETHEUS)


def show(report: Report, times: dict[str, list[list[float]]], scrapes: dict[str, list[float]]) -> None:
    """Print each kind's percentiles, and the ratios."""
    print(f"  {'':<30} {'p50 ms':>8} {'p99 ms':>8} {'pooled':>8} {'worst':>8} {'a scrape, ms':>13}   scrapes")
    for kind, phases in times.items():
        pooled = [one for taken in phases for one in taken]
        figures = [
            statistics.median(statistics.median(taken) for taken in phases),
            statistics.median(p99(taken) for taken in phases),
            p99(pooled),
            max(pooled),
        ]
        took = f"{statistics.median(scrapes[kind]) * 1000:>13.1f} {len(scrapes[kind]):>9}" if scrapes[kind] else ""
        print(f"  {kind:<30} {' '.join(f'{figure * 1000:>8.2f}' for figure in figures)} {took}")
    print()
    for kind in (EXPORTER, APP):
        pairs = [(p99(mine), p99(none)) for mine, none in zip(times[kind], times[NONE], strict=True)]
        report.ratio(f"p99, {kind}", pairs, at_most=BAR)
        pooled = [p99([one for taken in times[side] for one in taken]) for side in (kind, NONE)]
        report.ratio(f"pooled p99, {kind}", [(pooled[0], pooled[1])])


def p99(times: list[float]) -> float:
    """Give the time that 99% of the requests did not exceed."""
    return sorted(times)[max(0, -(-len(times) * 99 // 100) - 1)]


if __name__ == "__main__":
    main()
