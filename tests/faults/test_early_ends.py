"""Responses that are complete before the application is done with them."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.processes import wait_dead, wait_until

from .client import Client, Connection, Request, Tally
from .scraper import Scraper, total
from .verdict import REQUESTS, assert_bounded, assert_exact

if TYPE_CHECKING:
    from .harness import Harness, Variant

ENDINGS = (
    Request("HEAD", "/ok"),
    Request("GET", "/nocontent"),
    Request("GET", "/empty"),
    Request("GET", "/notmodified"),
    Request("GET", "/sized"),
    Request("GET", "/stream"),
    Request("POST", "/echo", body=b"abc"),
)
KILLS = 8


def test_kill_at_the_moment_of_the_answer(harness: Harness, variant: Variant) -> None:
    """A worker that dies right after the client knew that the response is complete has counted it."""
    server = harness.gunicorn(variant, workers=1)
    tally = Tally()
    with Scraper(server.scrape) as scraper:
        for number in range(KILLS * len(ENDINGS)):
            request = ENDINGS[number % len(ENDINGS)]
            dies = number % 4 == 3
            wait_until(server.workers, "a worker runs")
            victim = server.workers()[0]
            with Connection(server.address) as connection:
                tally.call_on(connection, request)
                if dies:
                    server.send(signal.SIGKILL, victim)
            if dies:
                wait_dead(victim)
        server.wait_alive(1)
    scraper.check()
    assert_exact(server.samples(), tally)
    assert_bounded(harness.directory, 1 + 2)


def test_stream_killed_half_way(harness: Harness, variant: Variant) -> None:
    """A stream that ends with its worker was sent and never acknowledged: it may be counted once or not."""
    server = harness.gunicorn(variant)
    request = Request("GET", "/stream?chunks=1000&pause=0.02", "/stream")
    with Scraper(server.scrape) as scraper, Client(server.address, [Request("GET", "/ok")]) as client:
        client.wait_answered(20)
        streams = Tally()
        for _ in range(3):
            wait_until(lambda: len(server.workers()) == 2, "two workers run")
            victims = server.workers()
            with Connection(server.address) as connection:
                streams.sent[request.key] += 1
                connection.send(request)
                assert connection.some()
                for victim in victims:
                    server.send(signal.SIGKILL, victim)
                with pytest.raises(OSError, match=r"."):
                    connection.receive("GET")
            wait_dead(*victims)
        client.wait_answered(20)
    server.wait_alive(2)
    scraper.check()
    client.tally.add(streams)
    assert_exact(server.samples(), client.tally)
    assert_bounded(harness.directory, 2 + 2)


def test_client_that_leaves_half_way(harness: Harness, variant: Variant) -> None:
    """A client that goes away is counted once, as 499."""
    server = harness.gunicorn(variant)
    request = Request("GET", "/stream?chunks=1000&pause=0.02", "/stream")
    for _ in range(5):
        with Connection(server.address) as connection:
            connection.send(request)
            assert connection.some()
    wait_until(
        lambda: total(server.samples(), REQUESTS, endpoint="/stream", status="499") == 5,
        "five disconnects are counted",
    )
    samples = server.samples()
    assert total(samples, REQUESTS, endpoint="/stream") == 5
    assert total(samples, "neurectomy_http_request_duration_seconds_count", endpoint="/stream") == 5
    assert total(samples, "neurectomy_http_requests_in_progress") == 0
