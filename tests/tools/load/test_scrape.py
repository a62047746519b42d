"""Scrapes of the load script: the samples that it watches, and answers that are not metrics."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import pytest

from monitoring.verify.ledger import Sample
from tools.load.scrape import ScrapeError, scrape

if TYPE_CHECKING:
    from collections.abc import Iterator

EXPOSITION = """
neurectomy_http_requests_total{endpoint="/x",status="200"} 3
neurectomy_http_requests_total{endpoint="/metrics",status="200"} 2
neurectomy_active_users 5
http_requests_total{endpoint="/x",status="200"} 7
"""


@contextmanager
def answering(status: int, body: str) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/metrics"
        server.shutdown()
        thread.join()


def test_watched_samples_are_read_without_those_of_scrapes() -> None:
    with answering(200, EXPOSITION) as url:
        assert asyncio.run(scrape(url, None)) == {Sample.of("http_requests_total", endpoint="/x", status="200"): 3}


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [(401, "", "set METRICS_TOKEN"), (500, "", "were answered 500"), (200, "a b", "did not answer with metrics")],
)
def test_an_answer_that_is_not_metrics_is_an_error(status: int, body: str, reason: str) -> None:
    with answering(status, body) as url, pytest.raises(ScrapeError, match=reason):
        asyncio.run(scrape(url, None))
