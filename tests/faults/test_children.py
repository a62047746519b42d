"""Processes that workers make, and descriptors that code closes behind our back."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

from tests.processes import wait_dead, wait_until

from .client import Client, Request, Tally, fetch
from .scraper import Scraper, total, view
from .verdict import assert_bounded

if TYPE_CHECKING:
    from .bare_writers import Writers
    from .harness import Harness, Variant

METHODS = ("fork", "spawn", "forkserver")


def test_children_of_a_worker(harness: Harness, variant: Variant) -> None:
    """What children by fork, spawn and forkserver count is counted, also after their end."""
    server = harness.gunicorn(variant)
    tally = Tally()
    with Scraper(server.scrape) as scraper:
        for method in METHODS * 2:
            response = tally.call(server.address, Request("GET", f"/child/{method}", "/child/{method}"))
            assert response.status == 200, server.log_tail()
    scraper.check()
    samples = server.samples()
    for method in METHODS:
        assert total(samples, "faults_children_total", method=method) == 20
    assert_bounded(harness.directory, 2 + 2 + 2)


def test_children_of_a_uvicorn_worker_and_the_end_of_all_workers(harness: Harness) -> None:
    """A worker's spawned child does not make the worker the run's supervisor."""
    server = harness.uvicorn(workers=2)
    for method in METHODS:
        assert fetch(server.address, f"/child/{method}").status == 200, server.log_tail()
    supervisor = json.loads((harness.directory / "run.json").read_text())["supervisor"]
    assert supervisor["pid"] == server.pid
    victims = server.workers()
    for victim in victims:
        server.send(signal.SIGKILL, victim)
    wait_dead(*victims)
    wait_until(lambda: len(server.workers()) == 2, "the supervisor replaced them")
    server.wait_alive(2)
    samples = server.samples()
    for method in METHODS:
        assert total(samples, "faults_children_total", method=method) == 10


def test_fork_while_a_thread_counts(harness: Harness, variant: Variant) -> None:
    """No forked child hangs on a lock that was copied locked, and nothing is lost on either side."""
    server = harness.gunicorn(variant)
    with Scraper(server.scrape) as scraper:
        done = [json.loads(fetch(server.address, "/forkstorm").body) for _ in range(3)]
    scraper.check()
    assert_bounded(harness.directory, 2 + 2 + 1)
    samples = server.samples()
    for method in ("thread", "storm"):
        assert total(samples, "faults_children_total", method=method) == sum(part[method] for part in done)


def test_fork_while_a_thread_counts_in_a_bare_process(writers: Writers) -> None:
    """As above, without a server around."""
    writer = writers.start()
    with Scraper(view(writers.directory)) as scraper:
        done = int(writer.ask("storm", 100))
    scraper.check()
    assert_bounded(writers.directory, 2)
    samples = writers.samples()
    assert total(samples, "bare_things_total", kind="storm") == 100
    assert total(samples, "bare_things_total", kind="thread") == done


def test_a_worker_that_forks_a_daemon(harness: Harness, variant: Variant) -> None:
    """A child that closes all descriptors takes nothing from the worker; kills after it lose nothing."""
    server = harness.gunicorn(variant)
    with Scraper(server.scrape) as scraper, Client(server.address, [Request("GET", "/closefds")], threads=2) as client:
        client.wait_answered(20)
        server.send(signal.SIGKILL, server.workers()[0])
        client.wait_answered(20)
    server.wait_alive(2)
    scraper.check()
    # Threads of one worker fork at once: as many children as the client has threads.
    assert_bounded(harness.directory, 2 + 2 + 2)
    sent, acknowledged = sum(client.tally.sent.values()), sum(client.tally.acknowledged.values())
    counted = total(server.samples(), "faults_children_total", method="closed")
    assert 2 * acknowledged <= counted <= 2 * sent


def test_close_all_descriptors(writers: Writers) -> None:
    """A process that closes every descriptor keeps its lease: nobody else takes its slot."""
    first = writers.start()
    first.ask("inc", "a", 5)
    first.ask("closefds")
    second = writers.start()
    for _ in range(20):
        first.ask("inc", "a", 1)
        second.ask("inc", "a", 1)
    first.ask("series", 200)
    second.ask("series", 200)
    samples = writers.samples()
    assert total(samples, "bare_things_total", kind="a") == 45
    assert total(samples, "bare_things_total") == 445
    assert total(samples, "multiproc_workers") == 2


def test_a_forked_child_counts_with_cached_children(writers: Writers) -> None:
    """A child object made before the fork writes into the forked process's own slot."""
    writer = writers.start()
    writer.ask("inc", "forked", 3)
    for _ in range(10):
        writer.ask("fork", "forked")
        writer.ask("inc", "forked", 1)
    assert total(writers.samples(), "bare_things_total", kind="forked") == 23
