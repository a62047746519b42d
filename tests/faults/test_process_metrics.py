"""Process metrics of real gunicorn workers: one set a slot, ended with the worker, counters continued by the next."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from tests.processes import wait_dead, wait_until

from .client import fetch
from .scraper import Scraper, total

if TYPE_CHECKING:
    from .harness import Harness, Variant


def test_process_metrics_follow_the_slots(harness: Harness, variant: Variant) -> None:
    """Kill -9 both workers, one after the other, until the counters of every slot have been continued."""
    server = harness.gunicorn(variant)
    server.wait_alive(2)

    def slots(name: str) -> set[str]:
        return {dict(labels)["worker"] for (found, labels) in server.samples() if found == name}

    wait_until(lambda: len(slots("process_resident_memory_bytes")) >= 2, "every worker is sampled")
    with Scraper(server.scrape) as scraper:
        for _ in range(4):
            before = total(server.samples(), "process_cpu_seconds_total")
            victim = int(fetch(server.address, "/pid").body)
            started = total(server.samples(), "multiproc_workers_started_total")
            server.send(signal.SIGKILL, victim)
            wait_dead(victim)
            assert total(server.samples(), "process_cpu_seconds_total") >= before
            wait_until(lambda started=started: total(server.samples(), "multiproc_workers_started_total") > started, "another took a slot")
            server.wait_alive(2)
            wait_until(lambda before=before: total(server.samples(), "process_cpu_seconds_total") > before, "its time is added")
            wait_until(lambda: len(slots("process_open_fds")) == total(server.samples(), "multiproc_workers"), "living workers only")
    scraper.check()
    assert len(slots("process_cpu_seconds_total")) <= 3 + variant.preload
