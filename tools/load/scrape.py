"""Reads the samples of a running service that the ledger has bounds for."""

from __future__ import annotations

from collections import Counter

import httpx2

from monitoring.catalogue.prefix import PREFIX
from monitoring.verify.check import read_samples
from monitoring.verify.ledger import Sample
from tools.load.summary import AMOUNTS, OPERATIONS

WATCHED = frozenset({"http_requests_total", "http_request_duration_seconds_count", *OPERATIONS, *AMOUNTS})
"""Names of samples, without the prefix."""

_SCRAPES = "/metrics"
_TIMEOUT_SECONDS = 30.0


class ScrapeError(Exception):
    """The metrics cannot be read. The text is one line."""


async def scrape(url: str, token: str | None) -> Counter[Sample]:
    """Return the value of each watched sample, except those of scrapes."""
    headers = {"accept": "text/plain"} | ({"authorization": f"Bearer {token}"} if token else {})
    try:
        async with httpx2.AsyncClient(timeout=_TIMEOUT_SECONDS, trust_env=False) as http:
            answer = await http.get(url, headers=headers)
    except (httpx2.TransportError, httpx2.InvalidURL) as error:
        raise ScrapeError(f"the metrics at {url} cannot be read: {error or type(error).__name__}") from error
    if answer.status_code != httpx2.codes.OK:
        hint = ": set METRICS_TOKEN" if answer.status_code == httpx2.codes.UNAUTHORIZED else ""
        raise ScrapeError(f"the metrics at {url} were answered {answer.status_code}{hint}")
    found: Counter[Sample] = Counter()
    try:
        for sample, value in read_samples(answer.text).items():
            name = sample.name.removeprefix(PREFIX)
            if name != sample.name and name in WATCHED and sample.label("endpoint") != _SCRAPES:
                found[Sample(name, sample.labels)] = value
    except ValueError as error:
        raise ScrapeError(f"{url} did not answer with metrics: {error}") from error
    return found
