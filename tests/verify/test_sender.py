"""The sender and the check against a real service, whose workers it kills."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from monitoring.verify.check import differences, increases, read_samples
from monitoring.verify.ledger import Ledger, Sample
from monitoring.verify.sender import Sender, kill_one

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.gunicorn_service import Gunicorn

LIVE = Sample.of("neurectomy_http_requests_total", method="GET", endpoint="/health/live", status="200")


def test_killed_workers_lose_no_acknowledged_request(gunicorn: Gunicorn) -> None:
    master = gunicorn.start()
    before = read_samples(gunicorn.scrape())
    ledger = Ledger()
    with Sender(f"http://127.0.0.1:{gunicorn.port}/health/live", ledger, LIVE) as sender:
        for _ in range(5):
            sender.wait_acknowledged(50)
            kill_one(gunicorn.workers(master))
        sender.wait_acknowledged(50)
    counted = increases(before, read_samples(gunicorn.scrape()))[LIVE]
    acknowledged = ledger.least[LIVE]
    assert acknowledged == sender.acknowledged >= 300
    assert differences(ledger, Counter({LIVE: counted})) == []
    assert differences(ledger, Counter({LIVE: acknowledged - 1})) == [
        f"{LIVE}: counted {acknowledged - 1}, acknowledged {acknowledged}: 1 lost"
    ]


def test_a_service_that_does_not_answer_is_an_error(free_port: Callable[[], int]) -> None:
    ledger = Ledger()
    with Sender(f"http://127.0.0.1:{free_port()}/", ledger, LIVE) as sender, pytest.raises(TimeoutError, match="acknowledged 0 requests"):
        sender.wait_acknowledged(1, timeout_seconds=0.2)
    assert ledger.refused > 0
    assert differences(ledger, Counter({LIVE: 1})) == [f"{LIVE}: counted 1, sent 0: 1 too many"]
