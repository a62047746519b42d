"""`uvicorn --workers`: no master of ours and no hooks, and the same promises."""

from __future__ import annotations

import random
import signal
from typing import TYPE_CHECKING

from tests.processes import wait_dead, wait_until

from .client import Client
from .scraper import Scraper, http, view
from .verdict import assert_bounded, assert_exact

if TYPE_CHECKING:
    from .harness import Harness


def test_kill_workers_of_uvicorn(harness: Harness) -> None:
    """Kill -9 of workers one by one, and of all of them at once: the run goes on."""
    server = harness.uvicorn(workers=2)
    sources = http(server.address), view(harness.directory)
    with Scraper(*sources, cuts=True) as scraper, Client(server.address) as client:
        for number in range(5):
            client.wait_answered(30)
            workers = server.workers()
            victims = workers if number == 3 else random.sample(workers, 1)
            for victim in victims:
                server.send(signal.SIGKILL, victim)
            wait_dead(*victims)
            wait_until(lambda: len(server.workers()) == 2, "the supervisor replaced them")
        server.wait_alive(2)
        client.wait_answered(30)
    scraper.check()
    assert_exact(server.samples(), client.tally)
    assert_bounded(harness.directory, 2 + 1)


def test_recycling_of_uvicorn(harness: Harness) -> None:
    """Uvicorn's own recycling ends workers after some requests."""
    server = harness.uvicorn("--limit-max-requests", "60", workers=2)
    seen: set[int] = set()

    def recycled() -> bool:
        seen.update(server.workers())
        return len(seen) >= 6

    sources = http(server.address), view(harness.directory)
    with Scraper(*sources, cuts=True) as scraper, Client(server.address) as client:
        wait_until(recycled, "six workers lived")
        client.wait_answered(20)
    scraper.check()
    server.wait_alive(2)
    assert_exact(server.samples(), client.tally)
    assert_bounded(harness.directory, 2 + 1)
