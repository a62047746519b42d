"""Gunicorn's workers come and go; every answered request stays counted once."""

from __future__ import annotations

import random
import signal
import time
from functools import partial
from typing import TYPE_CHECKING

from tests.conftest import PROVES
from tests.processes import any_dead, wait_dead, wait_until

from .client import ORDINARY, Client, Request
from .scraper import Scraper
from .verdict import assert_bounded, assert_exact

if TYPE_CHECKING:
    from .harness import Harness, Server, Variant

KILLS = 20 if PROVES else 8
RELOADS = 3
CROWD = 16 if PROVES else 8


def test_kill_random_workers(harness: Harness, variant: Variant) -> None:
    """Kill -9 of random workers under load."""
    server = harness.gunicorn(variant, workers=3)
    with Scraper(server.scrape) as scraper, Client(server.address) as client:
        for _ in range(KILLS):
            client.wait_answered(20)
            wait_until(lambda: len(server.workers()) == 3, "three workers run")
            victim = random.choice(server.workers())
            time.sleep(random.uniform(0.0, 0.1))
            server.send(signal.SIGKILL, victim)
            wait_dead(victim)
        server.wait_alive(3)
    scraper.check()
    assert_exact(server.samples(), client.tally)
    assert_bounded(harness.directory, 3 + 2)


def test_reload_while_serving(harness: Harness, variant: Variant) -> None:
    """HUP replaces all workers, three times, while old and new ones serve."""
    server = harness.gunicorn(variant)
    with Scraper(server.scrape) as scraper, Client(server.address) as client:
        for _ in range(RELOADS):
            old = set(server.workers())
            client.wait_answered(50)
            server.send(signal.SIGHUP)
            wait_dead(*old)
            server.wait_alive(2)
    scraper.check()
    assert_exact(server.samples(), client.tally)
    assert_bounded(harness.directory, 2 * 2 + 2)


def runs(server: Server, count: int) -> bool:
    """Tell whether the master has exactly so many workers."""
    return len(server.workers()) == count


def test_scale_up_and_down(harness: Harness, variant: Variant) -> None:
    """TTIN to many workers, TTOU back to 2."""
    server = harness.gunicorn(variant)
    with Scraper(server.scrape) as scraper, Client(server.address) as client:
        for number in range(3, CROWD + 1):
            server.send(signal.SIGTTIN)
            wait_until(partial(runs, server, number), f"{number} workers run")
        server.wait_alive(CROWD)
        client.wait_answered(200)
        for number in range(CROWD - 1, 1, -1):
            server.send(signal.SIGTTOU)
            wait_until(partial(runs, server, number), f"{number} workers are left")
        server.wait_alive(2)
        client.wait_answered(50)
    scraper.check()
    assert_exact(server.samples(), client.tally)
    assert_bounded(harness.directory, CROWD + 2)


def test_worker_timeout(harness: Harness, variant: Variant) -> None:
    """The master aborts workers whose event loop stands still."""
    server = harness.gunicorn(variant, TIMEOUT="3")
    with Scraper(server.scrape) as scraper, Client(server.address) as client:
        for _ in range(2):
            client.wait_answered(50)
            old = set(server.workers())
            with Client(server.address, [Request("GET", "/block")], threads=1, keep=1) as blocker:
                wait_until(partial(any_dead, old), "the master aborted a worker")
                blocker.stop()
            client.tally.add(blocker.tally)
        server.wait_alive(2)
        client.wait_answered(50)
    scraper.check()
    assert "WORKER TIMEOUT" in server.log.read_text()
    assert_exact(server.samples(), client.tally)
    assert_bounded(harness.directory, 2 + 2)


def test_max_requests_storm(harness: Harness, variant: Variant) -> None:
    """Workers recycle themselves all the time."""
    server = harness.gunicorn(variant, MAX_REQUESTS="40", MAX_REQUESTS_JITTER="20")
    seen: set[int] = set()

    def recycled() -> bool:
        seen.update(server.workers())
        return len(seen) >= 10

    with Scraper(server.scrape) as scraper, Client(server.address, [*ORDINARY, Request("GET", "/slow")]) as client:
        wait_until(recycled, "ten workers lived")
        client.wait_answered(20)
    server.wait_alive(2)
    scraper.check()
    assert_exact(server.samples(), client.tally)
    assert_bounded(harness.directory, 2 * 2 + 2)
