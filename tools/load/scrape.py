"""Reads from a running service the samples that a ledger can say something about."""

from __future__ import annotations

from collections import Counter

import httpx2
from prometheus_client.parser import text_string_to_metric_families

from tools.load.ledger import PREFIX, Sample

WATCHED = frozenset(
    {
        "agent_tasks_total",
        "http_request_duration_seconds_count",
        "http_request_size_bytes_sum",
        "http_requests_total",
        "http_response_size_bytes_sum",
        "ryot_prompt_tokens_total",
        "ryot_requests_total",
        "ryot_tokens_generated_total",
        "sigmalang_compressed_size_bytes_sum",
        "sigmalang_compression_requests_total",
        "sigmalang_decompression_requests_total",
        "sigmalang_original_size_bytes_sum",
        "sigmavault_operations_total",
        "sigmavault_snapshots_total",
        "tokens_generated_total",
    }
)
"""Names of samples, without the prefix."""

_TIMEOUT_SECONDS = 30.0


class ScrapeError(Exception):
    """The metrics cannot be read; the text is one line."""


async def scrape(url: str, token: str | None) -> Counter[Sample]:
    """Give the value of each sample that is watched."""
    headers = {"accept": "text/plain"} | ({"authorization": f"Bearer {token}"} if token else {})
    try:
        async with httpx2.AsyncClient(timeout=_TIMEOUT_SECONDS, trust_env=False) as http:
            answer = await http.get(url, headers=headers)
    except (httpx2.TransportError, httpx2.InvalidURL) as error:
        raise ScrapeError(f"the metrics at {url} cannot be read: {error or type(error).__name__}") from error
    if answer.status_code != httpx2.codes.OK:
        hint = ": set METRICS_TOKEN" if answer.status_code == httpx2.codes.UNAUTHORIZED else ""
        raise ScrapeError(f"the metrics at {url} are answered {answer.status_code}{hint}")
    found: Counter[Sample] = Counter()
    try:
        for family in text_string_to_metric_families(answer.text):
            for sample in family.samples:
                name = sample.name.removeprefix(PREFIX)
                if name != sample.name and name in WATCHED:
                    found[Sample.of(name, **sample.labels)] = sample.value  # type: ignore[assignment]
    except ValueError as error:
        raise ScrapeError(f"what {url} answers are no metrics: {error}") from error
    return found
