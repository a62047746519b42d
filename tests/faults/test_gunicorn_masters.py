"""Masters are replaced, rolled back and killed; their workers' counts survive them."""

from __future__ import annotations

import signal
from dataclasses import replace
from typing import TYPE_CHECKING

from tests.processes import is_alive, wait_dead, wait_until

from .client import Client, Tally, fetch
from .scraper import Scraper, http, parse, total, view
from .verdict import REQUESTS, assert_bounded, assert_exact

if TYPE_CHECKING:
    from .harness import Harness, Server, Variant


def upgrade(server: Server) -> int:
    """Start a second master by USR2 and wait until its workers live."""
    server.send(signal.SIGUSR2)
    wait_until(server.second_master, "USR2 started a second master")
    second = server.second_master()
    wait_until(lambda: len(server.workers(second)) == 2, "the second master has its workers")
    server.wait_alive(4)
    return second


def test_upgrade(harness: Harness, variant: Variant) -> None:
    """USR2, then the old master quits: the new one takes over directory, port and exporter."""
    server = harness.gunicorn(variant)
    with Scraper(server.scrape) as scraper, Client(server.address) as client:
        client.wait_answered(50)
        second = upgrade(server)
        client.wait_answered(50)
        server.send(signal.SIGQUIT)
        wait_dead(server.pid)
        wait_until(lambda: server.master_in_charge() == second, "the new master is in charge")
        server.wait_alive(2)
        client.wait_answered(50)
    scraper.check()
    assert_exact(server.samples(), client.tally)
    assert_bounded(harness.directory, 2 * 2 + 2)


def test_upgrade_rolled_back(harness: Harness, variant: Variant) -> None:
    """USR2, and then the new master is sent away again."""
    server = harness.gunicorn(variant)
    with Scraper(server.scrape) as scraper, Client(server.address) as client:
        client.wait_answered(50)
        second = upgrade(server)
        client.wait_answered(50)
        server.send(signal.SIGTERM, second)
        wait_dead(second)
        server.wait_alive(2)
        client.wait_answered(50)
        assert is_alive(server.pid), "the old master went on"
    scraper.check()
    assert_exact(server.samples(), client.tally)
    assert_bounded(harness.directory, 2 * 2 + 2)


def with_orphans(variant: Variant) -> Variant:
    """Gunicorn's own asgi workers end when their master is gone; uvicorn's go on, and are the case here."""
    return replace(variant, worker_class="")


def kill_master(server: Server) -> list[int]:
    """Kill -9 the master; give the orphans, which go on serving."""
    orphans = server.workers()
    server.send(signal.SIGKILL)
    assert server.process is not None
    server.process.wait()
    return orphans


def test_orphans_and_a_new_master(harness: Harness, variant: Variant) -> None:
    """Kill -9 of the master; a new one joins the orphans' run on another port."""
    variant = with_orphans(variant)
    old = harness.gunicorn(variant)
    with Scraper(old.scrape) as scraper, Client(old.address) as client:
        client.wait_answered(50)
        with scraper.outage():
            orphans = kill_master(old)
            scraper.sources[:] = [http(old.address)]
            seen = len(scraper.history)
            wait_until(lambda: len(scraper.history) > seen + 2, "an orphan is scraped")
        client.wait_answered(50)
        assert all(map(is_alive, orphans)), "uvicorn's orphans go on serving"
        new = harness.gunicorn(variant, wait=False)
        new.wait_listening()
        wait_until(lambda: total(new.samples(), "faults_alive") == 4, "orphans and new workers live")
        scraper.sources[:] = [new.scrape]
        with Client(new.address) as second:
            client.wait_answered(50)
            second.wait_answered(50)
        for orphan in orphans:
            old.send(signal.SIGKILL, orphan)
        new.wait_alive(2)
    scraper.check()
    both = Tally()
    for tally in (client.tally, second.tally):
        both.add(tally)
    assert_exact(new.samples(), both)
    assert_bounded(harness.directory, 2 * 2 + 2)


def test_orphans_hold_the_port(harness: Harness, variant: Variant) -> None:
    """Kill -9 of the master; a new one on the same port says in one line who holds it."""
    variant = with_orphans(variant)
    old = harness.gunicorn(variant)
    orphans = kill_master(old)
    assert fetch(old.address, "/ok").status == 200
    new = harness.gunicorn(variant, port=old.address[1], wait=False)
    assert new.process is not None
    status = new.process.wait(timeout=60)
    said = new.log_tail()
    assert status not in {0, None}, said
    assert "Traceback" not in said
    naming = [line for line in said.splitlines() if all(str(pid) in line for pid in orphans)]
    assert len(naming) == 1, f"no line, or more than one, names {orphans}: {said}"
    assert all(map(is_alive, orphans)), "the failed start harmed nobody"
    samples = parse(http(old.address)())[0]
    assert total(samples, "faults_handled_total") == 1, "the failed start cleared nothing"


def test_kill_everything_and_restart(harness: Harness, variant: Variant) -> None:
    """A cold start begins at 0, and shows all of the old run or nothing of it."""
    server = harness.gunicorn(variant)
    with Scraper(view(harness.directory)) as scraper:
        with Client(server.address) as before:
            before.wait_answered(300)
        wait_until(
            lambda: total(scraper.history[-1], REQUESTS) >= sum(before.tally.acknowledged.values()),
            "the view saw the old run",
        )
        server.kill_everything()
        scraper.check()
        scraper.monotone = False
        mark = len(scraper.history)
        old = scraper.history[mark - 1]
        again = harness.gunicorn(variant)
        with Client(again.address) as after:
            after.wait_answered(60)
            after.stop()
        wait_until(
            lambda: total(scraper.history[-1], "faults_handled_total") < total(old, "faults_handled_total"),
            "the view saw the new run",
        )
    assert not scraper.failures, scraper.failures[:3]
    later = [total(samples, REQUESTS) for samples in scraper.history[mark:]]
    was, most = total(old, REQUESTS), sum(after.tally.sent.values()) + 100
    parts = [count for count in later if most < count < was]
    assert not parts, f"part of the old run's {was} requests was shown: {parts}"
    first = next(number for number, count in enumerate(later) if count <= most)
    rising = later[first:]
    assert rising == sorted(rising), "after its one step to 0 the run only rises"
    assert_exact(again.samples(), after.tally)
    assert_bounded(harness.directory, 2 + 2)
