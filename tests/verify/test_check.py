"""The bounds of a ledger against the increase of the samples."""

from __future__ import annotations

from collections import Counter

import pytest

from monitoring.verify.check import differences, increases, read_samples
from monitoring.verify.ledger import Ledger, Sample


def requests(status: int) -> Sample:
    return Sample.of("http_requests_total", method="GET", endpoint="/x", status=str(status))


def wrong(ledger: Ledger, *, shared: bool = False, **moved: int) -> list[str]:
    """Compare with the increase of the metrics, by status."""
    return differences(ledger, Counter({requests(int(status.removeprefix("_"))): n for status, n in moved.items()}), shared=shared)


def test_an_acknowledged_request_is_counted_once() -> None:
    ledger = Ledger()
    ledger.certain(requests(200), 3)
    assert wrong(ledger, _200=3) == []
    assert wrong(ledger, _200=2) == ["http_requests_total{endpoint=/x,method=GET,status=200}: counted 2, acknowledged 3: 1 lost"]
    assert wrong(ledger, _200=4) == ["http_requests_total{endpoint=/x,method=GET,status=200}: counted 4, sent 3: 1 too many"]
    assert wrong(ledger, _200=4, shared=True) == []
    assert wrong(ledger, _200=2, shared=True)


def test_a_request_that_was_not_sent_is_not_counted() -> None:
    assert wrong(Ledger(), _404=1) == ["http_requests_total{endpoint=/x,method=GET,status=404}: counted 1, sent 0: 1 too many"]


def test_an_unanswered_request_may_count_once_with_any_status() -> None:
    ledger = Ledger()
    ledger.certain(requests(200), 3)
    ledger.perhaps(Sample.of("http_requests_total", method="GET", endpoint="/x"))
    assert wrong(ledger, _200=3) == []
    assert wrong(ledger, _200=4) == []
    assert wrong(ledger, _200=3, _499=1) == []
    assert wrong(ledger, _200=4, _499=1) == ["http_requests_total{endpoint=/x,method=GET}, all outcomes: counted 5, sent 4: 1 too many"]
    assert wrong(ledger, _200=2, _499=1) == ["http_requests_total{endpoint=/x,method=GET,status=200}: counted 2, acknowledged 3: 1 lost"]


def test_a_fallen_counter_is_reported() -> None:
    assert wrong(Ledger(), _200=-5) == ["http_requests_total{endpoint=/x,method=GET,status=200} fell by 5: the service was restarted"]


def test_scrapes_are_compared_sample_by_sample() -> None:
    before = read_samples('jobs_total{b="2",a="1"} 3\ndone_total 1\n')
    after = read_samples('jobs_total{a="1",b="2"} 5\nfailed_total 2\ndone_total 1\n')
    assert +increases(before, after) == {Sample.of("jobs_total", a="1", b="2"): 2, Sample.of("failed_total"): 2}
    with pytest.raises(ValueError, match="could not convert string to float"):
        read_samples("jobs_total many\n")
